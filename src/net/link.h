/* net/link.h - one connection: a socket, with TLS over it or plain.
 *
 * Resolves, connects (through an HTTP CONNECT proxy if asked), does the TLS
 * handshake, then moves bytes: reads in large chunks, hands decrypted bytes to
 * its owner in place, and collects what the owner writes until the callback
 * that wrote it has returned, to send it with one system call.  Reading stops
 * while the owner can't take more; writing has a bound.  Loop's thread.
 */
#ifndef NET_LINK_H
#define NET_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "net/link_proxy.h"
#include "net/loop.h"
#include "net/tls.h"

struct link;

struct link_callbacks {
  /* Connected and, with TLS, the peer verified.  May be NULL. */
  void (*on_up)(void *user);

  /* len > 0 bytes, borrowed and writable for the call.  Returns how many were
   * used; fewer than len: the link keeps the rest, reads no more, and tells it
   * again after link_resume. */
  size_t (*on_data)(void *user, uint8_t *data, size_t len);

  /* How many bytes on_data could use now: the link reads so many from the
   * socket at most, with TLS a record more, so that little is held back when it
   * stalls.  0: it reads no more, not even the peer's end, until link_resume.
   * No other call of the link's from inside.  May be NULL: LOOP_CHUNK. */
  size_t (*room)(void *user);

  /* There is room again after link_space was too small.  May be NULL. */
  void (*on_drain)(void *user);

  /* Bytes reached the system.  May be NULL. */
  void (*on_sent)(void *user);

  /* The peer takes nothing any more: what was queued is dropped, and link_space
   * stays 0.  What it sent before is still told, then on_end.  At most once. An
   * owner that waits for room before it takes more should wait no longer.  May
   * be NULL. */
  void (*on_write_failed)(void *user);

  /* why NULL: the peer ended its direction (FIN or close_notify), told after
   * all its data; writing is still possible.  Otherwise the connection failed,
   * told after all that had come as well (unless the owner takes none of it for
   * 10 s after a failed send that it knows of), and nothing follows.  Each at
   * most once.  The owner calls link_close or link_abort, now or when it has no
   * more to write. */
  void (*on_end)(void *user, const struct dstream_end *why);
};

struct link_options {
  const struct tls_config *tls; /* NULL: plain */
  size_t send_buffer; /* most bytes waiting for the socket; 0: LOOP_CHUNK */
  int socket_buffer;  /* SO_SNDBUF, SO_RCVBUF; 0: the system's */
  uint64_t connect_timeout_ms; /* until on_up; 0: none */
};

/* Connects to host:port.  proxy may be NULL.  No callback from inside.
 * DSTREAM_ENOMEM, DSTREAM_EINVAL, DSTREAM_ESYSTEM, DSTREAM_ELIMIT. */
int link_connect(struct link **out, dstream_loop *loop, const char *host,
                 uint16_t port, const struct link_proxy *proxy,
                 const struct link_options *options,
                 const struct link_callbacks *callbacks, void *user);

/* Connects to a unix socket; when its backlog is full, again and again until
 * the connect timeout.  DSTREAM_EINVAL (the path is too long), DSTREAM_ENOMEM.
 */
int link_connect_unix(struct link **out, dstream_loop *loop, const char *path,
                      const struct link_options *options,
                      const struct link_callbacks *callbacks, void *user);

/* Takes a connected socket: an accepted one (with TLS: the server's role).  fd
 * is the link's from now on, and closed on failure. */
int link_adopt(struct link **out, dstream_loop *loop, int fd,
               const struct link_options *options,
               const struct link_callbacks *callbacks, void *user);

/* The same with one descriptor to read and one to write, such as 0 and 1:
 * pipes, terminals, files, sockets; plain.  Both are the link's from now on,
 * and closed on failure; of 0, 1 and 2 the open file is, and /dev/null takes
 * its place. They may be the same.  While the link has them they are
 * non-blocking; then they get their flags back, which others who share the open
 * file see. link_shutdown closes out_fd.  A pipe to write that nobody reads any
 * more is a failure, EPIPE, told at once.  SIGPIPE must be ignored.  Linux.
 * DSTREAM_ENOMEM, DSTREAM_ESYSTEM, DSTREAM_ELIMIT. */
int link_adopt_pair(struct link **out, dstream_loop *loop, int in_fd,
                    int out_fd, const struct link_options *options,
                    const struct link_callbacks *callbacks, void *user);

/* Hands a link to another owner, within a callback of the old one too. */
void link_set_owner(struct link *link, const struct link_callbacks *callbacks,
                    void *user);

/* How many bytes link_write takes now in one call: LOOP_RECORD at most, 0 when
 * it is better to wait: on_drain follows. */
size_t link_space(struct link *link);

/* How many bytes link_write takes now in several calls, about; 0 as with
 * link_space. */
size_t link_space_all(struct link *link);

/* As link_space for small control messages (1024 bytes at most), which have a
 * reserve of their own; no on_drain. */
bool link_has_control_space(const struct link *link);

/* How many bytes (of ciphertext, with TLS) wait for the socket. */
size_t link_queued(const struct link *link);

/* True when bytes wait here or in the system for the peer, whose system (TCP)
 * answers: it is slow to take them, not gone. */
bool link_is_slow(const struct link *link);

/* How long nothing came from the peer's system (TCP), in ms, when it leaves
 * unanswered what is sent to it again and again, bytes or, where it had no room
 * for any, probes.  0: it answers, was sent nothing, or nobody knows: only
 * Linux tells, and only of TCP. */
uint64_t link_unanswered(const struct link *link);

/* Queues len bytes (0 < len <= link_space) as one TLS record; sent when the
 * callback now running returns.  A failure is told by on_end. */
void link_write(struct link *link, const void *data, size_t len);

/* Tells held bytes again and reads on, not inside this call.  Within on_data it
 * counts for what on_data is about to leave: a new owner calls it when it takes
 * a link over. */
void link_resume(struct link *link);

/* Sends what is queued, then ends this direction (close_notify, FIN); the
 * other goes on. */
void link_shutdown(struct link *link);

/* The orderly end: no callback any more; what is queued is sent, then the
 * peer's end awaited, both for linger_ms at most, the second for 5 s at most.
 * The link frees itself.  NULL: nothing. */
void link_close(struct link *link, uint64_t linger_ms);

/* As link_close, but the end is a reset, once what is queued has reached the
 * peer's system or linger_ms are over: the peer is not to take what came for
 * all.  What is no TCP socket just ends. */
void link_reset(struct link *link, uint64_t linger_ms);

/* Closes at once; no callback any more.  NULL: nothing. */
void link_abort(struct link *link);

/* As the option; while nothing waits to be sent. */
void link_set_send_buffer(struct link *link, size_t size);

/* The certificate that a client has shown, once the link is up: as tls_peer. */
bool link_tls_peer(const struct link *link, struct tls_peer *out);

/* "1.2.3.4:567" of the peer, or "" */
const char *link_peer(const struct link *link);

#endif
