/* dstream/proxy.h - streams joined to sockets, both ways.
 *
 *   dstream_bridge     joins one stream and one socket
 *   dstream_targets    device side: a table of names that streams may ask for,
 *                      and the local address behind each
 *   dstream_listener   service side: a socket that listens, one stream for each
 *                      connection
 *
 * A device that serves its own sshd is a targets table with one entry and an
 * on_request that calls dstream_targets_serve; see docs/proxy.md.
 *
 * Bytes are moved with backpressure both ways: a socket is read only as far as
 * the stream takes bytes, and the other way round; at most `buffer` bytes wait
 * on each side.  The end of one direction is passed on as such where both ends
 * of the stream know half-close (dstream_stream_has_eof); where not, it closes
 * the stream after everything sent was delivered.  A socket whose stream failed
 * is reset, so that its peer can't take a part for the whole; a stream whose
 * socket failed is closed with WebSocket code 1011 and the reason.
 *
 * Addresses are texts: "HOST:PORT", "[IPv6]:PORT", "unix:PATH".  Everything
 * here lives on one loop's thread, and all callbacks come on it.
 */
#ifndef DSTREAM_PROXY_H
#define DSTREAM_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/device.h>
#include <dstream/loop.h>
#include <dstream/service.h>
#include <dstream/status.h>
#include <dstream/stream.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- bridge ---- */

typedef struct dstream_bridge dstream_bridge;

/* Zero is the default of each member; set `size` to
 * sizeof(struct dstream_bridge_options). */
struct dstream_bridge_options {
  size_t size;
  size_t buffer; /* most bytes that wait for the socket, and most that wait for
                    the stream; default 65536, 32768 to 1048576 */
  int connect_timeout_ms; /* dstream_bridge_connect; default 10000 */
  int idle_timeout_s;  /* ended after so long without a byte; default never */
  int total_timeout_s; /* ended when open for so long; default never */

  /* What the two ends are called in sentences that a person reads, here and at
   * the other end of the stream: "agent" and "target ssh (127.0.0.1:22)", say.
   * 63 and 199 bytes at most are kept.  Default: "this end", and "target" or
   * "client" with the socket's address. */
  const char *self_name;
  const char *peer_name;
};

/* How a bridge ended. */
struct dstream_bridge_result {
  struct dstream_end end; /* DSTREAM_OK: every byte of both directions that was
                             sent before its end was delivered to the other
                             side; otherwise why not, and by whom */
  bool opened;            /* the stream was open */
  uint64_t bytes_in;      /* from the stream to the socket */
  uint64_t bytes_out;     /* from the socket to the stream */
  uint64_t duration_ms;   /* since it was open; 0: it never was */
};

struct dstream_bridge_callbacks {
  /* dstream_bridge_connect: the socket is connected; now is the time to open
   * or accept the stream.  May be NULL. */
  void (*on_connected)(dstream_bridge *bridge, void *user);

  /* Stream and socket are joined.  May be NULL. */
  void (*on_open)(dstream_bridge *bridge, void *user);

  /* Stream and socket are gone.  Exactly once, last; the bridge is freed when
   * this returns.  result is borrowed for the call.  May be NULL. */
  void (*on_end)(dstream_bridge *bridge, void *user,
                 const struct dstream_bridge_result *result);
};

/* Makes a bridge on a connected stream socket, which is the bridge's from now
 * on, also when this fails (it is closed then).  Nothing is read from it before
 * the stream is open.  options may be NULL.
 * DSTREAM_EINVAL, DSTREAM_ENOMEM, DSTREAM_ELIMIT. */
DSTREAM_API int
dstream_bridge_adopt(dstream_bridge **out, dstream_loop *loop, int fd,
                     const struct dstream_bridge_options *options,
                     const struct dstream_bridge_callbacks *callbacks,
                     void *user);

/* The same on two descriptors of any kind that can be polled, one to read and
 * one to write: a program's stdin and stdout, say.  They are set non-blocking.
 * Half-close closes out_fd.  SIGPIPE must be ignored by the program. */
DSTREAM_API int dstream_bridge_adopt_pair(
    dstream_bridge **out, dstream_loop *loop, int in_fd, int out_fd,
    const struct dstream_bridge_options *options,
    const struct dstream_bridge_callbacks *callbacks, void *user);

/* Connects to an address and makes a bridge; on_connected or on_end follows,
 * not inside this call.  error (may be NULL) says what is wrong with the
 * address.  DSTREAM_EINVAL, DSTREAM_ENOMEM, DSTREAM_ELIMIT. */
DSTREAM_API int
dstream_bridge_connect(dstream_bridge **out, dstream_loop *loop,
                       const char *address,
                       const struct dstream_bridge_options *options,
                       const struct dstream_bridge_callbacks *callbacks,
                       void *user, struct dstream_end *error);

/* Opens the bridge's stream, when its socket is connected: as
 * dstream_service_open_stream, with window, send_buffer and close_timeout_ms of
 * the stream's options set to what fits the bridge.  options may be NULL.  On
 * failure there is no stream, and on_end follows with the reason.
 * DSTREAM_ESTATE (not connected, or it has a stream), DSTREAM_EINVAL,
 * DSTREAM_ELIMIT, DSTREAM_ENOMEM.  Not in a library without the service side.
 */
DSTREAM_API int dstream_bridge_open(dstream_bridge *bridge,
                                    dstream_service *service,
                                    const char *device_id,
                                    const char *stream_name,
                                    const struct dstream_open_options *options);

/* Accepts a request for it, in the same way; the request is gone, whatever the
 * result.  Statuses as dstream_request_accept. */
DSTREAM_API int dstream_bridge_accept(dstream_bridge *bridge,
                                      dstream_request *request);

/* Ends both sides with a cause: the socket is reset, the stream closed with
 * 1011 and the cause's text.  end NULL: the orderly end, after what is under
 * way was delivered.  on_end follows, not inside this call; nothing happens to
 * a bridge that is ending already. */
DSTREAM_API void dstream_bridge_fail(dstream_bridge *bridge,
                                     const struct dstream_end *end);

/* ---- what targets and listeners tell ---- */

enum dstream_proxy_kind {
  DSTREAM_PROXY_REFUSED, /* not served: unknown name, not allowed, a limit */
  DSTREAM_PROXY_FAILED,  /* nothing was opened: the target, the hub or the
                            device said no */
  DSTREAM_PROXY_OPENED,  /* stream and socket are joined */
  DSTREAM_PROXY_CLOSED   /* the end of what was opened */
};

/* One line for a log.  All is borrowed for the call. */
struct dstream_proxy_event {
  enum dstream_proxy_kind kind;
  const char *device;  /* the device's id */
  const char *name;    /* what was asked for: a target's name or HOST:PORT;
                          from outside, but printable */
  const char *address; /* targets: the target's; listener: the client's; "" */
  const struct dstream_bridge_result *result; /* NULL for OPENED; its end says
                                                 who refused and why */
  unsigned open; /* how many are open or opening now */
};

typedef void dstream_proxy_event_fn(void *user,
                                    const struct dstream_proxy_event *event);

/* ---- targets: the device side ---- */

typedef struct dstream_targets dstream_targets;

/* One name that may be asked for; zero is the default of each other member. */
struct dstream_target {
  const char *name;     /* 1 to 128 letters, digits, '-', '.', '_' */
  const char *address;  /* what to connect to */
  unsigned max_streams; /* at once; default: what max_streams of all allows */
  int idle_timeout_s;   /* default: that of all */
  int total_timeout_s;  /* the same */
};

/* Zero is the default of each member, which allows nothing; set `size` to
 * sizeof(struct dstream_targets_options).  Everything is copied. */
struct dstream_targets_options {
  size_t size;
  const struct dstream_target *targets;
  size_t target_count; /* 4096 at most */
  /* What may be asked for as HOST:PORT, without a name in the table:
   * "ADDRESS[/BITS]:PORTS" or "HOST:PORTS", where HOST may begin with "*." and
   * PORTS is "80,443", "8000-8999" or "*"; IPv6 in brackets.  A host name is
   * judged by its name; if no pattern names it, by the addresses that it has on
   * this device, and only those that are allowed are connected to. */
  const char *const *allow;
  size_t allow_count; /* 4096 at most */

  unsigned max_streams; /* at once, in all; default 256 */
  unsigned max_rate;   /* new streams a second over a longer time; default 50 */
  unsigned burst;      /* and in one go; default 100 */
  int idle_timeout_s;  /* default: never */
  int total_timeout_s; /* default: never */
  int connect_timeout_ms; /* to a target; default 10000, at most 50000 */
};

/* Makes a table on a loop.  fn (may be NULL) is told what happens.
 * DSTREAM_EINVAL (*error, may be NULL, says which entry), DSTREAM_ENOMEM. */
DSTREAM_API int
dstream_targets_new(dstream_targets **out, dstream_loop *loop,
                    const struct dstream_targets_options *options,
                    dstream_proxy_event_fn *fn, void *user,
                    struct dstream_end *error);

/* Puts another table in its place; the old one stays when this fails.  Streams
 * that run go on under the time limits they began with, and count. */
DSTREAM_API int
dstream_targets_replace(dstream_targets *targets,
                        const struct dstream_targets_options *options,
                        struct dstream_end *error);

/* Answers a request, now or later: connects to what it names, then accepts it
 * and joins the two; or rejects it with the reason.  Call it in on_request; the
 * request is not the caller's any more. */
DSTREAM_API void dstream_targets_serve(dstream_targets *targets,
                                       dstream_device *device,
                                       dstream_request *request);

/* Open or opening now. */
DSTREAM_API unsigned dstream_targets_count(const dstream_targets *targets);

/* Frees it, after dstream_device_stop has ended the streams (on_stopped) of the
 * devices it served, and before dstream_device_free.  What still connects is
 * rejected.  No event is told any more.  Not in an event.  NULL is fine. */
DSTREAM_API void dstream_targets_free(dstream_targets *targets);

/* ---- listener: the service side ---- */

typedef struct dstream_listener dstream_listener;

/* Zero is the default of each member; set `size` to
 * sizeof(struct dstream_listener_options).  Everything is copied. */
struct dstream_listener_options {
  size_t size;
  const char *listen;    /* required: "PORT" (on 127.0.0.1), "ADDR:PORT",
                            "[IPv6]:PORT" or "unix:PATH" (mode 0600; a socket
                            that nobody listens on is replaced, a file never);
                            port 0: any free one */
  const char *device_id; /* required */
  const char *module_id;
  const char *name;         /* what to ask the device for: a target's name or
                               HOST:PORT.  NULL: the client says it, by SOCKS 5
                               (RFC 1928; CONNECT, no authentication) */
  unsigned max_connections; /* at once; those over it wait in the system's
                               backlog.  Default 256 */
  bool once;                /* one connection, then no more */
  int connect_wait_s;       /* as in struct dstream_open_options */
  int response_wait_s;
  struct dstream_bridge_options bridge;
};

struct dstream_listener_callbacks {
  dstream_proxy_event_fn *on_event; /* may be NULL */

  /* It listens no more and its last connection has ended: with `once`, or
   * after dstream_listener_stop.  It may be freed.  May be NULL. */
  void (*on_stopped)(void *user, dstream_listener *listener);
  void *user;
};

/* Listens.  DSTREAM_EINVAL, DSTREAM_ESYSTEM (the address is in use, say),
 * DSTREAM_ENOMEM, DSTREAM_ELIMIT; *error (may be NULL) says what is wrong. */
DSTREAM_API int
dstream_listener_new(dstream_listener **out, dstream_loop *loop,
                     dstream_service *service,
                     const struct dstream_listener_options *options,
                     const struct dstream_listener_callbacks *callbacks,
                     struct dstream_end *error);

/* "127.0.0.1:2222", with the port that it got, "[::1]:80" or "unix:PATH". */
DSTREAM_API const char *
dstream_listener_address(const dstream_listener *listener);

/* Listens no more.  at_once: ends its connections in the orderly way;
 * otherwise they go on.  on_stopped follows, not inside this call. */
DSTREAM_API void dstream_listener_stop(dstream_listener *listener,
                                       bool at_once);

/* Frees it, on_stopped told or not: resets the connections it still has, and
 * tells no more.  Before dstream_service_free, and not in an event.  NULL is
 * fine. */
DSTREAM_API void dstream_listener_free(dstream_listener *listener);

#ifdef __cplusplus
}
#endif
#endif
