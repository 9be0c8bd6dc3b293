#include "hub/rest_reply.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/crypto.h"

#define JSON_TYPE "application/json; charset=utf-8"

void rest_tracking_make(char out[HUB_ERROR_TRACKING_SIZE]) {
  uint8_t bytes[16] = {0};
  (void)crypto_random(bytes, sizeof bytes);
  for (size_t i = 0; i < sizeof bytes; i++)
    snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static void reply(struct http_exchange *exchange, enum hub_error_code code,
                  const char *tracking, const char *headers, const char *body,
                  size_t body_len) {
  char lines[512];
  int len = snprintf(lines, sizeof lines,
                     "iothub-errorcode: %s\r\nx-ms-request-id: %s\r\n%s",
                     hub_error_name(code), tracking, headers);
  assert(len > 0 && (size_t)len < sizeof lines);
  struct http_answer answer = {.status = hub_error_http_status(code),
                               .headers = lines,
                               .type = JSON_TYPE,
                               .body = body,
                               .body_len = body_len};
  http_exchange_reply(exchange, &answer);
}

void rest_reply_error(struct http_exchange *exchange, enum hub_error_code code,
                      const char *message, int timeout_s, const char *tracking,
                      const char *headers) {
  char body[HUB_ERROR_BODY_SIZE];
  size_t len = hub_error_body(body, sizeof body, code, message, tracking,
                              timeout_s, (uint64_t)time(NULL));
  reply(exchange, code, tracking, headers, body, len);
}

void rest_reply_registry_error(struct http_exchange *exchange,
                               enum hub_error_code code, const char *message,
                               const char *tracking, const char *headers) {
  char body[HUB_ERROR_BODY_SIZE];
  size_t len = hub_error_registry_body(body, sizeof body, code, message,
                                       tracking, (uint64_t)time(NULL));
  reply(exchange, code, tracking, headers, body, len);
}

void rest_reply_json(struct http_exchange *exchange, const char *json) {
  struct http_answer answer = {
      .status = 200, .type = JSON_TYPE, .body = json, .body_len = strlen(json)};
  http_exchange_reply(exchange, &answer);
}
