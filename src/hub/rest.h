/* hub/rest.h - the hub's REST interface:
 *
 *   POST /twins/{device}/streams/{name}
 *   POST /twins/{device}/modules/{module}/streams/{name}
 *     asks for a stream.  Headers: Authorization (a SharedAccessSignature of a
 *     policy with the right ServiceConnect),
 *     iothub-streaming-connect-timeout-in-seconds (0 to 60; absent: 0),
 *     iothub-streaming-response-timeout-in-seconds (1 to 60; absent: 30),
 *     dstream-capabilities (core/caps.h).  Any api-version will do.
 *     200: iothub-streaming-is-accepted is True, with iothub-streaming-url and
 *     iothub-streaming-auth-token, and dstream-capabilities if both sides have
 *     some; or False, with dstream-reason if the device gave one.
 *   GET /healthz
 *     200 "ok", to anybody.
 *   GET /readyz
 *     200 "ok", or 503 and why the hub can't do its work now; to anybody.
 *   What else there is: hub/rest_admin.h, hub/rest_registry.h, hub/page.h.
 *
 * Errors have Azure's form (hub/hub_error.h), with the header iothub-errorcode,
 * and x-ms-request-id, which is in the hub's log too, unless there is a flood
 * of them (hub/log_limit.h); then they come slower, too (hub/rest_slow.h).
 */
#ifndef HUB_REST_H
#define HUB_REST_H

#include <dstream/status.h>

#include "hub/activity.h"
#include "hub/handshake.h"
#include "hub/http_server.h"
#include "hub/identity.h"
#include "net/loop.h"

struct rest;

#define REST_PARTS_MAX 4
#define REST_ANYBODY   0x80000000u

/* A part of the interface that another module serves. */
struct rest_part {
  /* Which rights a request needs (any of IDENTITY_*); REST_ANYBODY: none, and
   * its caller is ""; 0: it is not this part's.  NULL: no part. */
  unsigned (*rights)(const struct http_head *head);
  /* Answers, now or later, a caller ("POLICY@ADDRESS") who has such a right. */
  void (*handle)(void *user, struct http_exchange *exchange,
                 const struct http_head *head, const char *caller);
  void *user;
  /* Whether it wants the body of a request of its own.  NULL: of none. */
  bool (*keeps)(const struct http_head *head);
  bool registry; /* errors in the registry's form (hub/hub_error.h) */
};

struct rest_options {
  struct http_server_options http;
  struct identity_store *store; /* lives longer than the rest */
  struct identity_names names;
  struct handshake *handshake; /* the same */
  struct rest_part parts[REST_PARTS_MAX];
  /* Whether the hub can do its work; else *why says what is missing.  NULL: it
   * can. */
  bool (*ready)(void *user, const char **why);
  /* For the activity log; NULL: not told. */
  void (*tell)(void *user, const struct activity_record *record);
  void *user;
};

int rest_new(struct rest **out, dstream_loop *loop,
             const struct rest_options *options);

/* Takes a connection, as front_options.take_http; fd is the rest's in any case.
 */
int rest_take(struct rest *rest, int fd, const char *peer);

/* Drops what is left; cancels open requests.  NULL is fine. */
void rest_free(struct rest *rest);

#endif
