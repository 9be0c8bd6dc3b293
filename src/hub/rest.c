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

#define HEADERS_SIZE 8192
#define CALLER_SIZE  192
#define JSON_TYPE    "application/json; charset=utf-8"

struct rest {
  dstream_loop *loop;
  struct rest_options options;
  struct http_server *server;
  struct log_limit refused;
};

/* One request for a stream, until the service is answered or has gone. */
struct call {
  struct rest *rest;
  struct http_exchange *exchange;
  struct handshake_pending *pending;
};

/* ---- answers ---- */

static void reply_error(struct rest *rest, struct http_exchange *exchange,
                        enum hub_error_code code, const char *message,
                        int timeout_s, const char *tracking,
                        const char *headers) {
  char id[HUB_ERROR_TRACKING_SIZE];
  uint8_t bytes[16] = {0};
  snprintf(id, sizeof id, "%s", tracking);
  if (id[0] == '\0' && crypto_random(bytes, sizeof bytes) == DSTREAM_OK) {
    for (size_t i = 0; i < sizeof bytes; i++)
      snprintf(id + 2 * i, 3, "%02x", bytes[i]);
  }
  char body[HUB_ERROR_BODY_SIZE];
  char lines[512];
  int len = snprintf(lines, sizeof lines,
                     "iothub-errorcode: %s\r\nx-ms-request-id: %s\r\n%s",
                     hub_error_name(code), id, headers);
  assert(len > 0 && (size_t)len < sizeof lines);
  struct http_answer answer = {.status = hub_error_http_status(code),
                               .headers = lines,
                               .type = JSON_TYPE,
                               .body = body};
  answer.body_len = hub_error_body(body, sizeof body, code, message, id,
                                   timeout_s, (uint64_t)time(NULL));
  if (tracking[0] == '\0')
    log_limit_write(&rest->refused, DSTREAM_LOG_INFO,
                    "rest: request %.8s: answered %d: %s", id, (int)code,
                    message);
  http_exchange_reply(exchange, &answer);
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

static void on_done(void *user, const struct handshake_result *result) {
  struct call *call = user;
  if (result->error != HUB_ERROR_NONE)
    reply_error(call->rest, call->exchange, result->error, result->message,
                result->timeout_s, result->stream_id,
                retry_after(result->error));
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

/* True, or the request was answered.  The caller learns no more than what it
 * sent; the log has the detail. */
static bool authorize(struct rest *rest, struct http_exchange *exchange,
                      const struct http_head *head, const char *peer) {
  struct slice token = http_head_get(head, "Authorization");
  struct dstream_end why = {0};
  struct identity_grant grant;
  uint64_t now = (uint64_t)time(NULL);
  int status = DSTREAM_EUNAUTHORIZED;
  const char *message = "A SharedAccessSignature in the header Authorization "
                        "is needed.";
  if (token.p != NULL && http_head_count(head, "Authorization") == 1) {
    status = identity_check_service_sas(
        rest->options.store, &rest->options.names, token,
        IDENTITY_SERVICE_CONNECT, now, &grant, &why);
    struct sas sas;
    message = "The SharedAccessSignature is not valid here.";
    if (sas_parse(&sas, token.p, token.len) == DSTREAM_OK &&
        sas_expired(&sas, now))
      message = "The SharedAccessSignature has expired.";
  }
  if (status == DSTREAM_OK)
    return true;
  log_limit_write(&rest->refused, DSTREAM_LOG_INFO,
                  "rest: request from %s refused: %s", peer,
                  why.text[0] != '\0' ? why.text : message);
  if (status == DSTREAM_EINTERNAL)
    reply_error(rest, exchange, HUB_ERROR_UNAVAILABLE,
                "The identities can't be read just now.", -1, "",
                "Retry-After: 1\r\n");
  else
    reply_error(rest, exchange, HUB_ERROR_UNAUTHORIZED, message, -1, "",
                "WWW-Authenticate: SharedAccessSignature\r\n");
  return false;
}

/* Absent: fallback.  -1: it is no number. */
static int seconds_header(const struct http_head *head, const char *name,
                          int fallback) {
  struct slice value = http_head_get(head, name);
  return value.p == NULL ? fallback : rest_seconds(value);
}

/* The policy whose key signed the token, and where it comes from. */
static void name_caller(const struct http_head *head, const char *peer,
                        char *out, size_t size) {
  struct sas sas;
  char policy[64] = "";
  struct slice token = http_head_get(head, "Authorization");
  if (sas_parse(&sas, token.p, token.len) == DSTREAM_OK)
    (void)percent_decode(sas.skn, policy, sizeof policy, NULL);
  const char *port = strrchr(peer, ':');
  size_t len = port != NULL ? (size_t)(port - peer) : strlen(peer);
  snprintf(out, size, "%s@%.*s", policy, (int)len, peer);
}

static void start_stream(struct rest *rest, struct http_exchange *exchange,
                         const struct http_head *head,
                         const struct rest_path *path, const char *peer) {
  struct call *call = calloc(1, sizeof *call);
  if (call == NULL) {
    reply_error(rest, exchange, HUB_ERROR_UNAVAILABLE,
                "The hub is out of memory.", -1, "", "Retry-After: 1\r\n");
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
  handshake_start(rest->options.handshake, &request, on_done, call, &pending);
  if (pending != NULL) { /* else call is gone */
    call->pending = pending;
    http_exchange_on_cancel(exchange, on_cancel, call);
  }
}

static void handle_stream(struct rest *rest, struct http_exchange *exchange,
                          const struct http_head *head,
                          const struct rest_path *path, const char *peer) {
  if (!slice_eq(head->method, "POST")) {
    reply_error(rest, exchange, HUB_ERROR_METHOD, "Use POST here.", -1, "",
                "Allow: POST\r\n");
    return;
  }
  if (!authorize(rest, exchange, head, peer))
    return;
  if (path->route == REST_BAD)
    reply_error(rest, exchange, HUB_ERROR_ARGUMENT,
                "A device or module id or the stream's name is not a valid "
                "one.",
                -1, "", "");
  else
    start_stream(rest, exchange, head, path, peer);
}

static void handle_health(struct rest *rest, struct http_exchange *exchange,
                          const struct http_head *head) {
  if (!slice_eq(head->method, "GET") && !slice_eq(head->method, "HEAD")) {
    reply_error(rest, exchange, HUB_ERROR_METHOD, "Use GET here.", -1, "",
                "Allow: GET, HEAD\r\n");
    return;
  }
  struct http_answer answer = {
      .status = 200, .type = "text/plain", .body = "ok\n", .body_len = 3};
  http_exchange_reply(exchange, &answer);
}

static void on_request(void *user, struct http_exchange *exchange,
                       const struct http_head *head, const char *peer) {
  struct rest *rest = user;
  struct rest_path path;
  rest_path_parse(&path, head->target);
  switch (path.route) {
  case REST_HEALTH:
    handle_health(rest, exchange, head);
    return;
  case REST_STREAM:
  case REST_BAD:
    handle_stream(rest, exchange, head, &path, peer);
    return;
  case REST_UNKNOWN:
    reply_error(rest, exchange, HUB_ERROR_NOT_FOUND,
                "There is nothing at this address.", -1, "", "");
    return;
  }
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
  int status =
      http_server_new(&rest->server, loop, &options->http, on_request, rest);
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
