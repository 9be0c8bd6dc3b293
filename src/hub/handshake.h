/* hub/handshake.h - one stream request, from REST to both sides connected.
 *
 * Pure: no sockets, no clock, no database.  What it needs from the rest of the
 * hub is in struct handshake_world, so a test drives it with a clock and a
 * device of its own; it must not assume that there is one broker or one node.
 *
 * States of a request.  Each has one deadline:
 *
 *   WAIT_DEVICE   the device is not connected, and the service gave time for
 *                 that: its connect timeout.
 *                 Next: WAIT_ANSWER when the device is there; end with 404103
 *                 at the deadline.
 *
 *   WAIT_ANSWER   the stream is announced to the gateway, the device was asked.
 *                 Next: WAIT_SIDES when it accepts, and the service is told;
 *                 end with a rejection when it rejects; end with 504101 at the
 *                 deadline, the service's response timeout.  A device that
 *                 reconnects meanwhile has lost the request (QoS 0; official
 *                 ones reconnect to renew their token): it is asked once more,
 *                 with the same id, URL and token.
 *
 *   WAIT_SIDES    the service knows; the gateway waits for both sides and keeps
 *                 the deadline.
 *                 Next: end when they are joined, or when the gateway gives up.
 *
 * When the service goes before it was told, the request ends and its tokens are
 * void.  Device and service may connect to the gateway in any order, the device
 * even before it has answered.
 *
 * The device is asked until 60 s at most before both sides must be connected;
 * the official service has the same bound.
 */
#ifndef HUB_HANDSHAKE_H
#define HUB_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/loop.h>
#include <dstream/status.h>

#include "core/caps.h"
#include "core/stream_topic.h"
#include "core/token.h"
#include "hub/activity.h"
#include "hub/gateway.h"
#include "hub/hub_error.h"

/* "device" or "device/module". */
#define HANDSHAKE_CLIENT_SIZE 258
#define HANDSHAKE_NAME_MAX    128
/* "policy@address". */
#define HANDSHAKE_CALLER_SIZE 128

#define HANDSHAKE_CONNECT_MAX_S      60
#define HANDSHAKE_RESPONSE_MAX_S     60
#define HANDSHAKE_RESPONSE_DEFAULT_S 30

enum handshake_device {
  HANDSHAKE_DEVICE_OK,
  HANDSHAKE_DEVICE_UNKNOWN,
  HANDSHAKE_DEVICE_DISABLED,
  HANDSHAKE_DEVICE_ERROR /* the database does not answer */
};

/* What a handshake asks of its hub.  All are required, but tell. */
struct handshake_world {
  uint64_t (*now_ms)(void *user); /* monotonic: loop_now_ms */
  uint64_t (*now_s)(void *user);  /* gateway_now_s */
  /* handshake_tick is to be called at that time (now_ms's), or earlier.  A
   * later call replaces it. */
  void (*wake_at)(void *user, uint64_t at_ms);
  enum handshake_device (*find_device)(void *user, const char *device_id);
  bool (*is_up)(void *user); /* the main endpoint works */
  bool (*is_ready)(void *user, const char *client_id);
  int (*ask)(void *user, const char *client_id, const char *topic);
  int (*expect)(void *user, const struct gateway_stream *stream);
  void (*set_eof)(void *user, const char *stream_id);
  void (*forget)(void *user, const char *stream_id, const char *reason);
  unsigned (*stream_count)(void *user);
  unsigned (*device_stream_count)(void *user, const char *client_id);
  void (*log)(void *user, enum dstream_log_level level, const char *text);
  /* For the activity log: each request that was taken begins with
   * ACTIVITY_REQUEST; then comes one of ACTIVITY_START, TIMEOUT, REJECTED,
   * FAILED, CANCELED and LIMIT, and after START an END.  Of one that is refused
   * at once nothing is told.  Texts live for the call.  May be NULL. */
  void (*tell)(void *user, const struct activity_record *record);
};

/* Every member is required. */
struct handshake_options {
  const char *host; /* in stream URLs, as the port is, even 443: the official
                       C device sample wants one */
  const uint8_t *token_key; /* CRYPTO_SHA256_LEN bytes, as the gateway's */
  unsigned max_streams;
  unsigned max_streams_per_device;
  unsigned max_pending;
  unsigned max_pending_per_device;
  unsigned requests_per_second;
  unsigned request_burst;
  unsigned handshake_s;
};

struct handshake_request {
  const char *device_id;
  const char *module_id; /* NULL: the device itself */
  const char *name;      /* the stream's */
  int connect_timeout_s; /* 0: do not wait for an offline device */
  int response_timeout_s;
  const char *caps;   /* what the service can do; NULL: it did not say */
  const char *caller; /* who asks, such as "POLICY@ADDRESS": one caller gets
                         three quarters of the requests per second at most, so
                         that others still come through; NULL: nobody known */
};

/* What the service is told; texts live for the call. */
struct handshake_result {
  enum hub_error_code error; /* HUB_ERROR_NONE: an answer of the device */
  const char *message;       /* of the error */
  int timeout_s;             /* of the error: what ran out, or -1 */
  const char *stream_id;
  bool accepted;
  const char *reason; /* of a rejection; may be empty */
  const char *url;    /* of the service's side */
  const char *token;  /* secret */
  const char *caps;   /* agreed upon; empty: none */
};

/* Called exactly once for each request that was not canceled, from
 * handshake_start too. */
typedef void handshake_done_fn(void *user,
                               const struct handshake_result *result);

struct handshake;
struct handshake_pending;

int handshake_new(struct handshake **out,
                  const struct handshake_options *options,
                  const struct handshake_world *world, void *user);

/* The port in stream URLs; before the first request. */
void handshake_set_port(struct handshake *handshake, uint16_t port);

/* The hub is stopping: ends all requests that wait, and refuses new ones, with
 * 503. */
void handshake_stop(struct handshake *handshake);

/* After handshake_stop.  NULL is fine. */
void handshake_free(struct handshake *handshake);

/* Whether a decoded stream name is one: 1 to HANDSHAKE_NAME_MAX letters,
 * digits, "-", ".", "_" and "~".  The official clients pass a name on without
 * encoding or decoding it, so nothing else survives the way. */
bool handshake_name_valid(const char *name);

/* Starts a request.  *pending (for handshake_cancel) is set before done can be
 * called, and to NULL when it was called within this call. */
void handshake_start(struct handshake *handshake,
                     const struct handshake_request *request,
                     handshake_done_fn *done, void *user,
                     struct handshake_pending **pending);

/* The service has gone.  done is not called any more. */
void handshake_cancel(struct handshake_pending *pending);

/* ---- what happened elsewhere ---- */

void handshake_tick(struct handshake *handshake);
void handshake_on_presence(struct handshake *handshake, const char *client_id,
                           bool ready);
void handshake_on_answer(struct handshake *handshake, const char *client_id,
                         const char *topic);
void handshake_on_side(struct handshake *handshake, const char *stream_id,
                       bool device_side);
void handshake_on_end(struct handshake *handshake,
                      const struct gateway_report *report);

/* Requests that are not over yet. */
unsigned handshake_count(const struct handshake *handshake);

#endif
