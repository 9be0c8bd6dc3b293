/* hub/gateway.h - the streaming endpoint: joins the two sides of each stream.
 *
 * The handshake announces a stream with gateway_expect; device and service then
 * come as WebSocket upgrades on port 443, each with its own token, once.  When
 * both are there the bytes flow (hub/relay.h); when one goes, the other is
 * closed.  A stream that is not complete by its deadline is ended, and the side
 * that waits is told why.  Loop's thread.
 */
#ifndef HUB_GATEWAY_H
#define HUB_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/http_head.h"
#include "core/token.h"
#include "net/link.h"
#include "net/loop.h"

/* Every stream's path: "/bridges/ih/<host>/d/<device>/sid/<id>/r/<role>". */
#define GATEWAY_PATH "/bridges/"

struct gateway;

/* Zero is the default of each member. */
struct gateway_options {
  unsigned max_streams;      /* announced or running, in all; default 10000 */
  int keepalive_ms;          /* pings to both sides; default 30000; -1: none */
  uint64_t idle_ms;          /* a stream without a byte this long is ended;
                                default 0: never */
  uint64_t lifetime_ms;      /* default 0: no limit */
  uint64_t close_timeout_ms; /* a side that was told to close and shows no sign
                                of life this long is dropped; default 5000 */
  uint64_t drain_timeout_ms; /* a side that lives, but does not take what came
                                for it before the close, gets this long in all;
                                default 3600000 */
};

/* How a stream ended, for the log. */
struct gateway_report {
  const char *stream_id;
  const char *device_id;
  const char *stream_name;
  const char *caller;       /* as announced; may be "" */
  bool paired;              /* both sides were there */
  uint64_t duration_ms;     /* from paired to the end */
  uint64_t bytes_to_device; /* payload */
  uint64_t bytes_to_service;
  const char *who; /* "device", "service" or "hub": who ended it */
  const struct dstream_end *cause;
};

struct gateway_events {
  /* The device's or the service's side has connected.  May be NULL. */
  void (*on_side)(void *user, const char *stream_id, bool device_side);
  /* The stream is over; told once for each that was announced and not
   * forgotten.  May be NULL. */
  void (*on_end)(void *user, const struct gateway_report *report);
  /* Somebody was not let in as a side of this stream, which may not exist: why.
   * May be NULL. */
  void (*on_refused)(void *user, const char *stream_id, bool device_side,
                     const char *peer, const char *why);
};

/* key: signs the tokens, CRYPTO_SHA256_LEN bytes, copied. */
int gateway_new(struct gateway **out, dstream_loop *loop, const uint8_t *key,
                const struct gateway_options *options,
                const struct gateway_events *events, void *user);

/* Unix time as it would be if nobody had set the clock since gateway_new: what
 * stream tokens live by, so that a step takes none away from a handshake. */
uint64_t gateway_now_s(const struct gateway *gateway);

/* Announces a stream; texts are copied.  stream_id: 32 hex digits, unique.
 * The two jti are those of its two tokens.  deadline_ms (loop_now_ms) is when
 * both sides must be there.  DSTREAM_ELIMIT, DSTREAM_ENOMEM, DSTREAM_EINVAL. */
struct gateway_stream {
  const char *stream_id;
  const char *device_id;
  const char *stream_name;
  const char *caller; /* who asked for it; NULL: not known */
  const char *device_jti;
  const char *service_jti;
  bool eof; /* the eof capability; see gateway_set_eof */
  uint64_t deadline_ms;
};
int gateway_expect(struct gateway *gateway,
                   const struct gateway_stream *stream);

/* The device's answer may agree to eof after gateway_expect (and after the
 * device has dialled, when it does so first). */
void gateway_set_eof(struct gateway *gateway, const char *stream_id, bool eof);

/* The handshake failed or was given up: the tokens are void; a side that has
 * connected is closed with 1011 and reason.  Unknown id: nothing. */
void gateway_forget(struct gateway *gateway, const char *stream_id,
                    const char *reason);

/* Ends a stream that may be running, both sides with `code`.  Unknown:
 * ENOTFOUND
 */
int gateway_kill(struct gateway *gateway, const char *stream_id, int code,
                 const char *reason);

/* Asks fn about each device with streams ("device" or "device/module"), once: a
 * text, which must last until the return, ends them, both sides with `code` and
 * it as the reason; NULL: they go on. */
void gateway_judge(struct gateway *gateway, int code,
                   const char *(*fn)(void *user, const char *client_id),
                   void *user);

/* Takes a connection whose request head asks for an upgrade under
 * GATEWAY_PATH; the link is the gateway's from now on.  rest: bytes that came
 * after the head are still held by the link (its on_data returned the head's
 * length). */
void gateway_accept(struct gateway *gateway, struct link *link,
                    const struct http_head *request);

/* Streams announced or running: in all, and of one device. */
unsigned gateway_count(const struct gateway *gateway);
unsigned gateway_device_count(const struct gateway *gateway,
                              const char *device_id);

/* A stream as it is now; texts live as long as it does. */
struct gateway_view {
  const char *stream_id;
  const char *device_id;
  const char *stream_name;
  const char *caller; /* "": not known */
  bool running;       /* both sides came; else one is missing */
  uint64_t age_ms;    /* since it runs; else since it was announced */
  uint64_t idle_ms;   /* since the last byte; before the first: age_ms */
  uint64_t bytes_to_device;
  uint64_t bytes_to_service;
  const char *device_peer; /* NULL: not connected */
  const char *service_peer;
};

/* Calls fn for each stream, in no order.  fn must not end any. */
void gateway_each(const struct gateway *gateway,
                  void (*fn)(void *user, const struct gateway_view *view),
                  void *user);

struct gateway_totals {
  unsigned running;         /* both sides came */
  uint64_t bytes_to_device; /* of those that run */
  uint64_t bytes_to_service;
  uint64_t stalls; /* relay_stalls, since gateway_new */
};
struct gateway_totals gateway_totals(const struct gateway *gateway);

/* Closes every stream with 1001 (going away). */
void gateway_shutdown(struct gateway *gateway);
void gateway_free(struct gateway *gateway);

#endif
