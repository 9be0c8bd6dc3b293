#include "hub/hub_error.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MESSAGE_MAX 160

const char *hub_error_name(enum hub_error_code code) {
  switch (code) {
#define X(name, code, text)                                                    \
  case HUB_ERROR_##name:                                                       \
    return text;
    HUB_ERROR_MAP(X)
#undef X
  case HUB_ERROR_NONE:
    break;
  }
  return "InvalidErrorCode";
}

int hub_error_http_status(enum hub_error_code code) {
  return (int)code / 1000;
}

/* A message is the hub's own, but may quote a peer: what would need escaping,
 * twice, is not worth it. */
static void plain_text(char *out, size_t size, const char *text) {
  snprintf(out, size, "%s", text);
  for (char *p = out; *p != '\0'; p++) {
    if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
      *p = '?';
    else if (*p == '"' || *p == '\\')
      *p = '\'';
  }
}

size_t hub_error_body(char *out, size_t out_size, enum hub_error_code code,
                      const char *message, const char *tracking, int timeout_s,
                      uint64_t now_s) {
  assert(out_size >= HUB_ERROR_BODY_SIZE);
  char words[MESSAGE_MAX + 1];
  plain_text(words, sizeof words, message);
  char id[HUB_ERROR_TRACKING_SIZE];
  plain_text(id, sizeof id, tracking);
  char info[64] = "";
  if (timeout_s >= 0)
    snprintf(info, sizeof info,
             "\\\"info\\\":{\\\"timeout\\\":\\\"%02d:%02d:%02d\\\"},",
             timeout_s / 3600, timeout_s / 60 % 60, timeout_s % 60);
  time_t seconds = (time_t)now_s;
  struct tm utc;
  char stamp[48] = "";
  if (gmtime_r(&seconds, &utc) != NULL)
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S.0000000Z", &utc);
  int len = snprintf(out, out_size,
                     "{\"Message\":\"{\\\"errorCode\\\":%d,"
                     "\\\"trackingId\\\":\\\"%s\\\","
                     "\\\"message\\\":\\\"%s\\\",%s"
                     "\\\"timestampUtc\\\":\\\"%s\\\"}\","
                     "\"ExceptionMessage\":\"\"}",
                     (int)code, id, words, info, stamp);
  assert(len > 0 && (size_t)len < out_size);
  return (size_t)len;
}

size_t hub_error_registry_body(char *out, size_t out_size,
                               enum hub_error_code code, const char *message,
                               const char *tracking, uint64_t now_s) {
  assert(out_size >= HUB_ERROR_BODY_SIZE);
  char words[MESSAGE_MAX + 1];
  plain_text(words, sizeof words, message);
  for (char *p = words; *p != '\0'; p++) {
    if (*p == ';') /* what is behind one is lost */
      *p = ',';
  }
  char id[HUB_ERROR_TRACKING_SIZE];
  plain_text(id, sizeof id, tracking);
  time_t seconds = (time_t)now_s;
  struct tm utc;
  char stamp[48] = "";
  if (gmtime_r(&seconds, &utc) != NULL)
    strftime(stamp, sizeof stamp, "%m/%d/%Y %H:%M:%S", &utc);
  int len = snprintf(out, out_size,
                     "{\"Message\":\"ErrorCode:%s;%s\","
                     "\"ExceptionMessage\":\"Tracking ID:%s-TimeStamp:%s\"}",
                     hub_error_name(code), words, id, stamp);
  assert(len > 0 && (size_t)len < out_size);
  return (size_t)len;
}
