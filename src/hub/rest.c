#include "hub/rest.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/crypto.h"
#include "core/percent.h"
#include "core/sas.h"
#include "hub/hub_error.h"
#include "hub/log_limit.h"
#include "hub/rest_path.h"
#include "hub/rest_reply.h"
#include "hub/rest_slow.h"

#define HEADERS_SIZE 8192
#define CALLER_SIZE  HANDSHAKE_CALLER_SIZE

struct rest {
  dstream_loop *loop;
  struct rest_options options;
  struct http_server *server;
  struct log_limit refused;
  struct rest_slow slow;
};

/* One request for a stream, until the service is answered or has gone. */
struct call {
  struct rest *rest;
  struct http_exchange *exchange;
  struct handshake_pending *pending;
  /* While handshake_start runs. */
  const struct handshake_request *request;
};

/* ---- answers ---- */

/* An error that the handshake does not know of. */
static void reply_error(struct rest *rest, struct http_exchange *exchange,
                        enum hub_error_code code, const char *message,
                        const char *headers) {
  char id[HUB_ERROR_TRACKING_SIZE];
  rest_tracking_make(id);
  log_limit_write(&rest->refused, DSTREAM_LOG_INFO,
                  "rest: request %.8s: answered %d: %s", id, (int)code,
                  message);
  rest_reply_error(exchange, code, message, -1, id, headers);
}

static void reply_rejected(struct http_exchange *exchange,
                           const struct handshake_result *result) {
  char headers[STREAM_REASON_SIZE + 128];
  bool reason = result->reason != NULL && result->reason[0] != '\0';
  snprintf(headers, sizeof headers,
           "iothub-streaming-is-accepted: False\r\n"
           "x-ms-request-id: %s\r\n%s%s%s",
           result->stream_id, reason ? "dstream-reason: " : "",
           reason ? result->reason : "", reason ? "\r\n" : "");
  struct http_answer answer = {.status = 200, .headers = headers};
  http_exchange_reply(exchange, &answer);
}

static void reply_accepted(struct http_exchange *exchange,
                           const struct handshake_result *result) {
  char headers[HEADERS_SIZE];
  bool caps = result->caps[0] != '\0';
  int len = snprintf(headers, sizeof headers,
                     "iothub-streaming-is-accepted: True\r\n"
                     "iothub-streaming-url: %s\r\n"
                     "iothub-streaming-auth-token: %s\r\n"
                     "x-ms-request-id: %s\r\n%s%s%s",
                     result->url, result->token, result->stream_id,
                     caps ? "dstream-capabilities: " : "",
                     caps ? result->caps : "", caps ? "\r\n" : "");
  assert(len > 0 && (size_t)len < sizeof headers);
  struct http_answer answer = {.status = 200, .headers = headers};
  http_exchange_reply(exchange, &answer);
  crypto_wipe(headers, sizeof headers);
}

static const char *retry_after(enum hub_error_code code) {
  return code == HUB_ERROR_THROTTLED || code == HUB_ERROR_UNAVAILABLE
             ? "Retry-After: 1\r\n"
             : "";
}

static void tell(struct rest *rest, const struct activity_record *record) {
  if (rest->options.tell != NULL)
    rest->options.tell(rest->options.user, record);
}

/* Refused at once: the handshake has told nothing of it. */
static void tell_refused(const struct call *call,
                         const struct handshake_result *result,
                         const char *tracking) {
  const struct handshake_request *request = call->request;
  char client[HANDSHAKE_CLIENT_SIZE];
  snprintf(client, sizeof client, "%s%s%s", request->device_id,
           request->module_id != NULL ? "/" : "",
           request->module_id != NULL ? request->module_id : "");
  struct activity_record record = {
      .event = result->error == HUB_ERROR_THROTTLED ? ACTIVITY_LIMIT
                                                    : ACTIVITY_FAILED,
      .client_id = client,
      .stream_name = request->name,
      .tracking_id = tracking,
      .caller = request->caller,
      .description = result->message,
      .status_code = hub_error_http_status(result->error),
      .error_code = (int)result->error};
  tell(call->rest, &record);
}

static void reply_failed(const struct call *call,
                         const struct handshake_result *result) {
  char id[HUB_ERROR_TRACKING_SIZE];
  snprintf(id, sizeof id, "%s", result->stream_id);
  if (id[0] == '\0') {
    rest_tracking_make(id);
    log_limit_write(&call->rest->refused, DSTREAM_LOG_INFO,
                    "rest: request %.8s: answered %d: %s", id,
                    (int)result->error, result->message);
    tell_refused(call, result, id);
  }
  rest_reply_error(call->exchange, result->error, result->message,
                   result->timeout_s, id, retry_after(result->error));
}

static void on_done(void *user, const struct handshake_result *result) {
  struct call *call = user;
  if (result->error != HUB_ERROR_NONE)
    reply_failed(call, result);
  else if (result->accepted)
    reply_accepted(call->exchange, result);
  else
    reply_rejected(call->exchange, result);
  free(call);
}

static void on_cancel(void *user) {
  struct call *call = user;
  handshake_cancel(call->pending);
  free(call);
}

/* ---- requests ---- */

/* The policy whose key signed the token, and where it comes from. */
static void name_caller(const struct http_head *head, const char *peer,
                        char *out, size_t size) {
  struct sas sas;
  char policy[IDENTITY_POLICY_MAX + 1] = "";
  struct slice token = http_head_get(head, "Authorization");
  if (sas_parse(&sas, token.p, token.len) == DSTREAM_OK)
    (void)percent_decode(sas.skn, policy, sizeof policy, NULL);
  const char *port = strrchr(peer, ':');
  size_t len = port != NULL ? (size_t)(port - peer) : strlen(peer);
  snprintf(out, size, "%s@%.*s", policy, (int)len, peer);
}

/* Whether the token's policy has any of these rights. */
static int check_rights(const struct rest *rest, struct slice token,
                        unsigned rights, uint64_t now,
                        struct dstream_end *why) {
  struct identity_grant grant;
  int status = DSTREAM_EUNAUTHORIZED;
  for (unsigned right = 1; right <= IDENTITY_ALL_RIGHTS; right <<= 1) {
    if ((rights & right) == 0)
      continue;
    status =
        identity_check_service_sas(rest->options.store, &rest->options.names,
                                   token, right, now, &grant, why);
    if (status == DSTREAM_OK)
      break;
  }
  return status;
}

static void tell_unauthorized(struct rest *rest, const char *tracking,
                              const char *peer, const char *why) {
  struct activity_record record = {.event = ACTIVITY_REFUSED,
                                   .tracking_id = tracking,
                                   .peer = peer,
                                   .side = "service",
                                   .description = why,
                                   .status_code = 401,
                                   .error_code = HUB_ERROR_UNAUTHORIZED};
  tell(rest, &record);
}

/* True, or the request was answered, in the registry's form or not.  The caller
 * learns no more than what it sent; the log has the detail. */
static bool authorize(struct rest *rest, struct http_exchange *exchange,
                      const struct http_head *head, const char *peer,
                      unsigned rights, bool registry) {
  struct slice token = http_head_get(head, "Authorization");
  struct dstream_end why = {0};
  uint64_t now = (uint64_t)time(NULL);
  int status = DSTREAM_EUNAUTHORIZED;
  const char *message = "A SharedAccessSignature in the header Authorization "
                        "is needed.";
  if (token.p != NULL && http_head_count(head, "Authorization") == 1) {
    status = check_rights(rest, token, rights, now, &why);
    struct sas sas;
    message = "The SharedAccessSignature is not valid here.";
    if (sas_parse(&sas, token.p, token.len) == DSTREAM_OK &&
        sas_expired(&sas, now))
      message = "The SharedAccessSignature has expired.";
  }
  if (status == DSTREAM_OK)
    return true;
  struct rest_refusal refusal = {registry, HUB_ERROR_UNAUTHORIZED, message,
                                 "WWW-Authenticate: SharedAccessSignature\r\n",
                                 ""};
  const char *detail = why.text[0] != '\0' ? why.text : message;
  rest_tracking_make(refusal.tracking);
  log_limit_write(&rest->refused, DSTREAM_LOG_INFO,
                  "rest: request %.8s from %s refused: %s", refusal.tracking,
                  peer, detail);
  if (status == DSTREAM_EINTERNAL) {
    refusal.code = HUB_ERROR_UNAVAILABLE;
    refusal.message = "The identities can't be read just now.";
    refusal.headers = "Retry-After: 1\r\n";
  } else {
    tell_unauthorized(rest, refusal.tracking, peer, detail);
  }
  rest_slow_refuse(&rest->slow, exchange, &refusal);
  return false;
}

/* Absent: fallback.  -1: it is no number. */
static int seconds_header(const struct http_head *head, const char *name,
                          int fallback) {
  struct slice value = http_head_get(head, name);
  return value.p == NULL ? fallback : rest_seconds(value);
}

static void start_stream(struct rest *rest, struct http_exchange *exchange,
                         const struct http_head *head,
                         const struct rest_path *path, const char *peer) {
  struct call *call = calloc(1, sizeof *call);
  if (call == NULL) {
    reply_error(rest, exchange, HUB_ERROR_UNAVAILABLE,
                "The hub is out of memory.", "Retry-After: 1\r\n");
    return;
  }
  call->rest = rest;
  call->exchange = exchange;
  char caps[CAPS_SIZE] = "";
  struct slice asked = http_head_get(head, "dstream-capabilities");
  if (asked.p != NULL && asked.len < sizeof caps)
    memcpy(caps, asked.p, asked.len);
  char caller[CALLER_SIZE];
  name_caller(head, peer, caller, sizeof caller);
  struct handshake_request request = {
      .device_id = path->device,
      .caller = caller,
      .module_id = path->module[0] != '\0' ? path->module : NULL,
      .name = path->name,
      .connect_timeout_s = seconds_header(
          head, "iothub-streaming-connect-timeout-in-seconds", 0),
      .response_timeout_s =
          seconds_header(head, "iothub-streaming-response-timeout-in-seconds",
                         HANDSHAKE_RESPONSE_DEFAULT_S),
      .caps = asked.p != NULL ? caps : NULL};
  struct handshake_pending *pending = NULL;
  call->request = &request;
  handshake_start(rest->options.handshake, &request, on_done, call, &pending);
  if (pending != NULL) { /* else call is gone */
    call->pending = pending;
    call->request = NULL;
    http_exchange_on_cancel(exchange, on_cancel, call);
  }
}

static void handle_stream(struct rest *rest, struct http_exchange *exchange,
                          const struct http_head *head,
                          const struct rest_path *path, const char *peer) {
  if (!slice_eq(head->method, "POST")) {
    reply_error(rest, exchange, HUB_ERROR_METHOD, "Use POST here.",
                "Allow: POST\r\n");
    return;
  }
  if (!authorize(rest, exchange, head, peer, IDENTITY_SERVICE_CONNECT, false))
    return;
  if (path->route == REST_BAD)
    reply_error(rest, exchange, HUB_ERROR_ARGUMENT,
                "A device or module id or the stream's name is not a valid "
                "one.",
                "");
  else
    start_stream(rest, exchange, head, path, peer);
}

/* /healthz: it answers.  /readyz: it can work; else why not. */
static void handle_health(struct rest *rest, struct http_exchange *exchange,
                          const struct http_head *head, bool ask_ready) {
  if (!slice_eq(head->method, "GET") && !slice_eq(head->method, "HEAD")) {
    reply_error(rest, exchange, HUB_ERROR_METHOD, "Use GET here.",
                "Allow: GET, HEAD\r\n");
    return;
  }
  char text[200] = "ok\n";
  const char *why = "";
  bool ready = !ask_ready || rest->options.ready == NULL ||
               rest->options.ready(rest->options.user, &why);
  if (!ready)
    snprintf(text, sizeof text, "%.180s\n", why);
  struct http_answer answer = {.status = ready ? 200 : 503,
                               .type = "text/plain",
                               .body = text,
                               .body_len = strlen(text)};
  http_exchange_reply(exchange, &answer);
}

/* What others serve.  False: none of it. */
static bool handle_part(struct rest *rest, struct http_exchange *exchange,
                        const struct http_head *head, const char *peer) {
  for (size_t i = 0; i < REST_PARTS_MAX; i++) {
    const struct rest_part *part = &rest->options.parts[i];
    unsigned rights = part->rights == NULL ? 0 : part->rights(head);
    if (rights == 0)
      continue;
    char caller[CALLER_SIZE] = "";
    if (rights == REST_ANYBODY) {
      part->handle(part->user, exchange, head, caller);
    } else if (authorize(rest, exchange, head, peer, rights, part->registry)) {
      name_caller(head, peer, caller, sizeof caller);
      part->handle(part->user, exchange, head, caller);
    }
    return true;
  }
  return false;
}

static void on_request(void *user, struct http_exchange *exchange,
                       const struct http_head *head, const char *peer) {
  struct rest *rest = user;
  struct rest_path path;
  if (handle_part(rest, exchange, head, peer))
    return;
  if (slice_eq(head->target, "/readyz")) {
    handle_health(rest, exchange, head, true);
    return;
  }
  rest_path_parse(&path, head->target);
  switch (path.route) {
  case REST_HEALTH:
    handle_health(rest, exchange, head, false);
    return;
  case REST_STREAM:
  case REST_BAD:
    handle_stream(rest, exchange, head, &path, peer);
    return;
  default:
    reply_error(rest, exchange, HUB_ERROR_NOT_FOUND,
                "There is nothing at this address.", "");
    return;
  }
}

/* A caller who may not send it is told so without it. */
static bool keep_body(void *user, const struct http_head *head) {
  struct rest *rest = user;
  for (size_t i = 0; i < REST_PARTS_MAX; i++) {
    const struct rest_part *part = &rest->options.parts[i];
    unsigned rights =
        part->keeps == NULL || !part->keeps(head) ? 0 : part->rights(head);
    struct slice token = http_head_get(head, "Authorization");
    if (rights != 0 && token.p != NULL &&
        check_rights(rest, token, rights, (uint64_t)time(NULL), NULL) ==
            DSTREAM_OK)
      return true;
  }
  return false;
}

/* ---- life ---- */

int rest_new(struct rest **out, dstream_loop *loop,
             const struct rest_options *options) {
  struct rest *rest = calloc(1, sizeof *rest);
  if (rest == NULL)
    return DSTREAM_ENOMEM;
  rest->loop = loop;
  rest->options = *options;
  log_limit_init(&rest->refused, loop, "rest: refused requests", NULL);
  rest_slow_init(&rest->slow, loop, NULL);
  rest->options.http.keep_body = keep_body;
  int status = http_server_new(&rest->server, loop, &rest->options.http,
                               on_request, rest);
  if (status != DSTREAM_OK) {
    free(rest);
    return status;
  }
  *out = rest;
  return DSTREAM_OK;
}

int rest_take(struct rest *rest, int fd, const char *peer) {
  return http_server_take(rest->server, fd, peer);
}

void rest_free(struct rest *rest) {
  if (rest == NULL)
    return;
  http_server_free(rest->server);
  log_limit_end(&rest->refused);
  free(rest);
}
