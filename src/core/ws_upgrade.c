#include "core/ws_upgrade.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/crypto.h"
#include "core/end.h"

#define KEY_BYTES 16

/* ---- client ---- */

int ws_upgrade_key(char key[WS_KEY_SIZE]) {
  uint8_t random[KEY_BYTES];
  int rc = crypto_random(random, sizeof random);
  if (rc == 0)
    crypto_base64_encode(random, sizeof random, key, WS_KEY_SIZE);
  return rc;
}

int ws_upgrade_accept_value(struct slice key, char accept[WS_ACCEPT_SIZE]) {
  static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  char text[WS_KEY_SIZE + sizeof guid];
  if (key.len >= WS_KEY_SIZE)
    return DSTREAM_EINTERNAL;
  memcpy(text, key.p, key.len);
  memcpy(text + key.len, guid, sizeof guid - 1);
  uint8_t digest[CRYPTO_SHA1_LEN];
  int rc = crypto_sha1(text, key.len + sizeof guid - 1, digest);
  if (rc == 0)
    crypto_base64_encode(digest, sizeof digest, accept, WS_ACCEPT_SIZE);
  return rc;
}

static bool is_visible_text(const char *text) {
  if (text == NULL || text[0] == '\0')
    return false;
  for (; *text != '\0'; text++)
    if (*text <= ' ' || *text >= 0x7f)
      return false;
  return true;
}

int ws_upgrade_request_write(const struct ws_upgrade_request *request,
                             char *out, size_t size, size_t *len) {
  const char *token = request->token;
  if (!is_visible_text(request->host) || !is_visible_text(request->path) ||
      request->path[0] != '/')
    return DSTREAM_EINVAL;
  if (token != NULL && (!is_visible_text(token) ||
                        strnlen(token, WS_TOKEN_MAX + 1) > WS_TOKEN_MAX))
    return DSTREAM_EINVAL;
  int n = snprintf(out, size,
                   "GET %s HTTP/1.1\r\n"
                   "Host: %s\r\n"
                   "Upgrade: websocket\r\n"
                   "Connection: Upgrade\r\n"
                   "Sec-WebSocket-Key: %s\r\n"
                   "Sec-WebSocket-Version: 13\r\n"
                   "%s%s%s"
                   "\r\n",
                   request->path, request->host, request->key,
                   token != NULL ? "Authorization: Bearer " : "",
                   token != NULL ? token : "", token != NULL ? "\r\n" : "");
  if (n < 0 || (size_t)n >= size)
    return DSTREAM_ELIMIT;
  *len = (size_t)n;
  return 0;
}

static int refuse(const struct http_head *response, struct dstream_end *end,
                  int status, const char *what_to_do) {
  char reason[64];
  size_t n = response->reason.len < sizeof reason - 1 ? response->reason.len
                                                      : sizeof reason - 1;
  for (size_t i = 0; i < n; i++) {
    char c = response->reason.p[i];
    reason[i] = '?';
    if (c >= ' ' && c < 0x7f)
      reason[i] = c;
  }
  reason[n] = '\0';
  end_set(end, status, "the streaming endpoint answered HTTP %d%s%s%s; %s",
          response->status, n > 0 ? " (" : "", reason, n > 0 ? ")" : "",
          what_to_do);
  end->http_status = response->status;
  return status;
}

static int refuse_status(const struct http_head *response,
                         struct dstream_end *end) {
  int status = response->status;
  if (status == 401 || status == 403)
    return refuse(response, end, DSTREAM_EUNAUTHORIZED,
                  "its token is expired, used or not valid: request the "
                  "stream again");
  if (status == 429)
    return refuse(response, end, DSTREAM_ETHROTTLED,
                  "too many streams at once: try again later");
  if (status == 404 || status == 410)
    return refuse(response, end, DSTREAM_EUPGRADE,
                  "the stream is gone: request it again");
  if (status >= 300 && status < 400)
    return refuse(response, end, DSTREAM_EUPGRADE,
                  "redirections are not followed: check for a proxy in "
                  "between");
  if (status >= 500)
    return refuse(response, end, DSTREAM_EUPGRADE, "try again later");
  return refuse(response, end, DSTREAM_EUPGRADE,
                "101 was expected: check that the URL is a streaming endpoint "
                "and that no proxy in between strips Upgrade");
}

int ws_upgrade_check_response(const struct http_head *response,
                              const char *accept, struct dstream_end *end) {
  if (response->status != 101)
    return refuse_status(response, end);
  const char *wrong = NULL;
  struct slice upgrade = http_head_get(response, "Upgrade");
  struct slice echoed = http_head_get(response, "Sec-WebSocket-Accept");
  if (response->minor == 0)
    wrong = "it is HTTP/1.0";
  else if (upgrade.p == NULL || !slice_eq_nocase(upgrade, "websocket"))
    wrong = "its Upgrade header is not websocket";
  else if (!http_head_has_token(response, "Connection", "upgrade"))
    wrong = "its Connection header is not Upgrade";
  else if (echoed.p == NULL || !slice_eq(echoed, accept))
    wrong = "its Sec-WebSocket-Accept does not belong to this request";
  else if (http_head_get(response, "Sec-WebSocket-Extensions").p != NULL)
    wrong = "it uses an extension nobody asked for";
  else if (http_head_get(response, "Sec-WebSocket-Protocol").p != NULL)
    wrong = "it names a subprotocol nobody asked for";
  if (wrong == NULL)
    return 0;
  end_set(end, DSTREAM_EUPGRADE,
          "the streaming endpoint's 101 answer is not valid: %s; check for a "
          "proxy in between",
          wrong);
  end->http_status = response->status;
  return DSTREAM_EUPGRADE;
}

/* ---- server ---- */

static bool is_key(struct slice key) {
  uint8_t bytes[KEY_BYTES + 2];
  size_t len;
  return key.p != NULL && key.len == WS_KEY_SIZE - 1 &&
         crypto_base64_decode(key.p, key.len, bytes, sizeof bytes, &len) == 0 &&
         len == KEY_BYTES;
}

static int judge_request(const struct http_head *request, struct slice *key) {
  if (!slice_eq(request->method, "GET"))
    return 405;
  if (request->minor == 0 || http_head_count(request, "Host") != 1)
    return 400;
  struct slice version = http_head_get(request, "Sec-WebSocket-Version");
  if (!http_head_has_token(request, "Upgrade", "websocket") ||
      version.p == NULL || !slice_eq(version, "13"))
    return 426;
  *key = http_head_get(request, "Sec-WebSocket-Key");
  if (!http_head_has_token(request, "Connection", "upgrade") ||
      http_head_count(request, "Sec-WebSocket-Version") != 1 ||
      http_head_count(request, "Sec-WebSocket-Key") != 1 || !is_key(*key))
    return 400;
  /* A body would be taken for frames. */
  uint64_t body = 0;
  if (http_head_content_length(request, &body) < 0 || body > 0 ||
      http_head_count(request, "Transfer-Encoding") > 0)
    return 400;
  return 0;
}

int ws_upgrade_check_request(const struct http_head *request, struct slice *key,
                             int *http_status) {
  int status = judge_request(request, key);
  if (status == 0)
    return 0;
  *http_status = status;
  return DSTREAM_EUPGRADE;
}

struct slice ws_upgrade_find_subprotocol(const struct http_head *request,
                                         const char *name) {
  struct http_tokens tokens;
  struct slice token;
  http_tokens_init(&tokens, request, "Sec-WebSocket-Protocol");
  while (name != NULL && http_tokens_next(&tokens, &token))
    if (slice_eq_nocase(token, name))
      return token;
  return (struct slice){NULL, 0};
}

int ws_upgrade_response_write(const char *accept, struct slice subprotocol,
                              char *out, size_t size, size_t *len) {
  bool named = subprotocol.p != NULL;
  if (subprotocol.len > size)
    return DSTREAM_ELIMIT;
  int n = snprintf(out, size,
                   "HTTP/1.1 101 Switching Protocols\r\n"
                   "Upgrade: websocket\r\n"
                   "Connection: Upgrade\r\n"
                   "Sec-WebSocket-Accept: %s\r\n"
                   "%s%.*s%s"
                   "\r\n",
                   accept, named ? "Sec-WebSocket-Protocol: " : "",
                   (int)subprotocol.len, named ? subprotocol.p : "",
                   named ? "\r\n" : "");
  if (n < 0 || (size_t)n >= size)
    return DSTREAM_ELIMIT;
  *len = (size_t)n;
  return 0;
}
