#include "service/hub_reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "core/end.h"
#include "core/printable.h"

#define WORDS_MAX 160

struct hub_error {
  int code;
  char words[WORDS_MAX];
  char tracking[64];
};

/* Copies text for a log or a terminal: no control characters. */
static void copy_clean(char *out, size_t size, const char *text, size_t len) {
  snprintf(out, size, "%.*s", (int)len, text);
  printable_line(out);
}

static const cJSON *get(const cJSON *json, const char *a, const char *b) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, a);
  return item != NULL ? item : cJSON_GetObjectItemCaseSensitive(json, b);
}

/* "DeviceNotFound" for 404001, as the older form has names only. */
static int code_of_name(const char *name, size_t len) {
  static const struct {
    const char *name;
    int code;
  } known[] = {
      {"DeviceNotFound", 404001},      {"DeviceNotOnline", 404103},
      {"GatewayTimeout", 504101},      {"IotHubUnauthorizedAccess", 401002},
      {"ThrottlingException", 429001},
  };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0)
      return known[i].code;
  return 0;
}

static void read_plain(struct hub_error *error, const char *text, size_t len) {
  static const char prefix[] = "ErrorCode:";
  const char *words = text;
  if (len > sizeof prefix && memcmp(text, prefix, sizeof prefix - 1) == 0) {
    const char *name = text + sizeof prefix - 1;
    const char *semicolon = memchr(name, ';', len - (sizeof prefix - 1));
    if (semicolon != NULL) {
      error->code = code_of_name(name, (size_t)(semicolon - name));
      words = semicolon + 1;
    }
  }
  copy_clean(error->words, sizeof error->words, words,
             len - (size_t)(words - text));
}

static bool read_inner(struct hub_error *error, const cJSON *json) {
  const cJSON *code = get(json, "errorCode", "ErrorCode");
  const cJSON *words = get(json, "message", "Message");
  const cJSON *tracking = get(json, "trackingId", "TrackingId");
  if (cJSON_IsNumber(code))
    error->code = code->valueint;
  if (cJSON_IsString(tracking))
    copy_clean(error->tracking, sizeof error->tracking, tracking->valuestring,
               strlen(tracking->valuestring));
  if (!cJSON_IsString(words))
    return cJSON_IsNumber(code);
  copy_clean(error->words, sizeof error->words, words->valuestring,
             strlen(words->valuestring));
  return true;
}

static void read_body(struct hub_error *error, const char *body, size_t len) {
  memset(error, 0, sizeof *error);
  cJSON *outer = cJSON_ParseWithLength(body, len);
  if (outer == NULL) {
    read_plain(error, body, len);
    return;
  }
  const cJSON *message = get(outer, "Message", "message");
  if (cJSON_IsString(message)) {
    cJSON *inner = cJSON_Parse(message->valuestring);
    if (!cJSON_IsObject(inner) || !read_inner(error, inner))
      read_plain(error, message->valuestring, strlen(message->valuestring));
    cJSON_Delete(inner);
  } else {
    read_inner(error, outer);
  }
  cJSON_Delete(outer);
}

static int status_of(int http_status, int code) {
  switch (code) {
  case 404103:
    return DSTREAM_EOFFLINE;
  case 504101:
    return DSTREAM_ENOANSWER;
  case 404001:
  case 404010:
    return DSTREAM_ENOTFOUND;
  default:
    break;
  }
  switch (http_status) {
  case 401:
  case 403:
    return DSTREAM_EUNAUTHORIZED;
  case 429:
    return DSTREAM_ETHROTTLED;
  case 504:
    return DSTREAM_ENOANSWER;
  default:
    return DSTREAM_EHUB;
  }
}

void hub_reply_error(const struct http_head *head, const char *body,
                     size_t body_len, struct dstream_end *end) {
  struct hub_error error;
  read_body(&error, body, body_len);
  int status = status_of(head->status, error.code);
  char code[24] = "";
  if (error.code != 0)
    snprintf(code, sizeof code, " %d", error.code);
  end_set(end, status, "%s (hub: %d%s%s%s%s%s)", dstream_status_text(status),
          head->status, code, error.words[0] != '\0' ? ", " : "", error.words,
          error.tracking[0] != '\0' ? ", tracking id " : "", error.tracking);
  end->http_status = head->status;
  end->hub_code = error.code;
}
