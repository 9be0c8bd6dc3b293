/* hub/rest_admin.h - REST for operators, beside the streams' (hub/rest.h).
 *
 * All need an Authorization header with a SharedAccessSignature of a policy.
 * To read needs RegistryRead or ServiceConnect; to end a stream ServiceConnect.
 * Answers are JSON, one page at most (100 streams are 50 KB); "cursor" is
 * opaque, and absent on the last page.  Times are UTC, RFC 3339 with
 * milliseconds.  Errors as in hub/rest.h.
 *
 *   GET /hub                           what this hub is, and how it is
 *     {"name":"HOST","version":"0.1.0","started":"TIME","uptimeSeconds":3600,
 *      "streamingEndpoints":["https://HOST:443"],
 *      "mqttEndpoint":"HOST:8883",
 *      "ready":true,"reason":"",       as /readyz
 *      "devicesConnected":2,"devicesReady":2,
 *      "streamsRunning":1,"streamsPending":0,
 *      "streamsOpened":17,"streamsFailed":3,
 *      "bytesToDevice":1000,"bytesToService":2000,
 *      "certificateExpires":"TIME"}    null: not known
 *   GET /streams?limit=N&cursor=C[&device=ID]
 *     {"streams":[
 *       {"streamId":"32 hex digits","deviceId":"device-7","moduleId":null,
 *        "name":"ssh","caller":"service@192.0.2.1",
 *        "state":"running",            or "pending": a side is missing
 *        "since":"TIME",               running; or, while pending, asked for
 *        "durationMs":74000,
 *        "bytesToDevice":100,"bytesToService":200,
 *        "idleMs":20,                  since the last byte, or since `since`
 *        "devicePeer":"192.0.2.9:3999","servicePeer":"192.0.2.1:4711"}],
 *      "cursor":"..."}                 null peers: not connected
 *     by stream id; limit 1 to 100, default 100.
 *   DELETE /streams/{id}
 *     204; 404000: no such stream.  Both sides get Close 1008, "ended by an
 *     operator".
 *   GET /connections?limit=N&cursor=C[&device=ID]
 *     {"connections":[
 *       {"deviceId":"device-7","moduleId":null,"ready":true,"since":"TIME",
 *        "streams":1}],
 *      "cursor":"..."}
 *     the devices that are connected, by id; ready: it takes stream requests;
 *     limit 1 to 100, default 100.
 *   GET /activity?limit=N&after=C&since=TIME&device=ID&wait=SECONDS
 *     {"records":[...],"cursor":"...","more":false}
 *     records as in hub/activity.h, in the order of time.  Without after and
 *     since: the newest.  The cursor is always there: with it as after comes
 *     what came later; more: there is more already.  wait (1 to 30): when there
 *     is nothing, the answer waits for it, so long at most.  since: RFC 3339,
 *     or Unix seconds.  limit 1 to 500, default 100; an answer has fewer when
 *     it would be over 64 KB.
 *
 * The hub knows the newest 2 MB of records; what is older is in the file.
 */
#ifndef HUB_REST_ADMIN_H
#define HUB_REST_ADMIN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/http_head.h"
#include "hub/activity.h"
#include "hub/gateway.h"
#include "hub/http_server.h"
#include "hub/identity.h"
#include "hub/main_endpoint.h"

struct rest_admin;

/* For GET /hub. */
struct rest_admin_hub {
  const char *version;
  const char *host;
  unsigned https_port;
  unsigned mqtt_port;
  uint64_t started_s; /* Unix time */
  bool ready;
  const char *reason; /* why not; NULL */
  size_t devices_connected;
  size_t devices_ready;
  unsigned streams_running;
  unsigned streams_pending;
  uint64_t streams_opened;
  uint64_t streams_failed;
  uint64_t bytes_to_device;
  uint64_t bytes_to_service;
  int64_t certificate_expires_s; /* 0: not known */
};

/* What it asks; all live longer than it. */
struct rest_admin_options {
  struct activity *activity;
  struct gateway *gateway;
  struct main_endpoint *const *endpoint; /* where it will be; NULL until then */
  void (*describe)(void *user, struct rest_admin_hub *out);
  /* For the activity log. */
  void (*tell)(void *user, const struct activity_record *record);
  void *user;
};

int rest_admin_new(struct rest_admin **out, dstream_loop *loop,
                   const struct rest_admin_options *options);

/* After the HTTP server, which has dropped the requests that wait.  NULL is
 * fine. */
void rest_admin_free(struct rest_admin *admin);

/* Which rights a request needs: any of these, IDENTITY_*; 0: it is none of
 * these.  method and target are the request's. */
unsigned rest_admin_rights(const struct http_head *head);

/* Answers a request whose caller has such a right; now or later.  caller:
 * "POLICY@ADDRESS". */
void rest_admin_handle(void *admin, struct http_exchange *exchange,
                       const struct http_head *head, const char *caller);

#endif
