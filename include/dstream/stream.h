/* dstream/stream.h - one raw, ordered, reliable byte stream.
 *
 * Device and service get the same object.  Its life, told by callbacks on the
 * loop's thread, each at most once unless it says otherwise, in this order:
 *
 *   on_open       both ends may send; not called when the handshake fails
 *   on_data       bytes from the peer, any number of times
 *   on_writable   room again after a short write, any number of times
 *   on_eof        the peer ended its direction (only with the eof capability;
 *                 without it the peer's end is on_close)
 *   on_close      the end: exactly once, last, with the cause.  The object is
 *                 freed when this callback returns.
 *
 * Nothing is buffered without bound.  Outgoing: dstream_stream_write takes
 * what there is room for.  Incoming: the stream has a window of unconsumed
 * bytes; when it is used up the library stops reading from the socket until
 * dstream_stream_consume gives bytes back.
 */
#ifndef DSTREAM_STREAM_H
#define DSTREAM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/loop.h>
#include <dstream/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dstream_stream dstream_stream;

/* Any member may be NULL, but without on_data every byte is dropped and
 * consumed. */
struct dstream_stream_callbacks {
  void (*on_open)(dstream_stream *stream, void *user);

  /* len > 0 bytes, borrowed for the call.  They count against the window until
   * dstream_stream_consume, which may be called in here. */
  void (*on_data)(dstream_stream *stream, void *user, const void *data,
                  size_t len);

  /* After a dstream_stream_write that took less than all. */
  void (*on_writable)(dstream_stream *stream, void *user);

  void (*on_eof)(dstream_stream *stream, void *user);

  /* end is borrowed for the call.  end->status is DSTREAM_OK when this side
   * closed it, DSTREAM_ECLOSED when the peer went: end->ws_code is then 1000,
   * 1001 or 1005 in the orderly way, 1011 when the hub lost it, 1006 when the
   * connection ended without a word. */
  void (*on_close)(dstream_stream *stream, void *user,
                   const struct dstream_end *end);
};

/* Zero is the default of each member; set `size` to
 * sizeof(struct dstream_stream_options). */
struct dstream_stream_options {
  size_t size;
  size_t window;      /* most unconsumed bytes; default 65536, at least 1 */
  size_t send_buffer; /* most bytes that wait for the socket; default 114688,
                         at least 32768, at most 1048576 */
  int socket_buffer;  /* SO_SNDBUF and SO_RCVBUF; default: the system's */
  int connect_timeout_ms; /* from dialling the streaming endpoint to on_open;
                             default 60000, which is also the most: the hub
                             gives up by then */
  int keepalive_ms;     /* a ping after this long without a byte from the peer,
                           and the end after a second interval: of a peer that
                           has answered pings before, or (Linux) whose system
                           (TCP) acknowledges none, also while this end takes
                           nothing; with half-close after 4 s at least.  Default
                           30000, -1: never */
  int close_timeout_ms; /* a close gives the peer up when it has shown no sign
                           of life for so long; default 5000.  Signs are that
                           bytes are taken, that its system (TCP) answers while
                           bytes wait, and pings, which a peer that is slow to
                           read sends every 2 s if both know half-close */
  int drain_timeout_ms; /* how long a close waits in all for a peer that lives;
                           default 3600000 */
};

/* Sends up to len bytes.  They are copied (and on their way through TLS) when
 * the call returns.  Returns how many were taken, at least 1, or
 * DSTREAM_EAGAIN: none now.  After less than len, on_writable follows.
 * DSTREAM_ESTATE: not open, or this direction was ended.  len 0 returns 0. */
DSTREAM_API long dstream_stream_write(dstream_stream *stream, const void *data,
                                      size_t len);

/* Gives len bytes of the window back: they were dealt with.  Call it for every
 * byte that on_data brought, sooner or later. */
DSTREAM_API void dstream_stream_consume(dstream_stream *stream, size_t len);

/* Ends this direction after all bytes written so far; the other direction goes
 * on.  When the peer lacks the eof capability this is dstream_stream_close.
 * DSTREAM_ESTATE: not open. */
DSTREAM_API int dstream_stream_shutdown_write(dstream_stream *stream);

/* True when both ends and the hub know half-close.  Fixed from on_open on. */
DSTREAM_API bool dstream_stream_has_eof(const dstream_stream *stream);

/* Ends the stream after all bytes written so far were delivered, however slow
 * the peer is to take them, within drain_timeout_ms.  Bytes that still arrive
 * are dropped.  on_close follows, not inside this call; DSTREAM_ETIMEDOUT: the
 * peer was given up.  A second call does nothing. */
DSTREAM_API void dstream_stream_close(dstream_stream *stream);

/* Ends the stream at once: bytes under way may be lost.  on_close follows, not
 * inside this call. */
DSTREAM_API void dstream_stream_abort(dstream_stream *stream);

/* What the stream was opened with; borrowed until on_close returns. */
DSTREAM_API const char *dstream_stream_name(const dstream_stream *stream);

/* The caller's own pointer, as given when the stream was opened. */
DSTREAM_API void *dstream_stream_user(const dstream_stream *stream);
DSTREAM_API void dstream_stream_set_user(dstream_stream *stream, void *user);

/* Payload bytes so far, each way. */
DSTREAM_API uint64_t dstream_stream_bytes_in(const dstream_stream *stream);
DSTREAM_API uint64_t dstream_stream_bytes_out(const dstream_stream *stream);

#ifdef __cplusplus
}
#endif
#endif
