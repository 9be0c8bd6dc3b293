#include "hub/activity_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "core/printable.h"
#include "hub/time_text.h"

#define TEXT_MAX 256 /* of each text in a record */

static const struct {
  const char *name;
  bool success;
} events[] = {
#define X(name, text, success) {text, success},
    ACTIVITY_EVENT_MAP(X)
#undef X
};

const char *activity_event_name(enum activity_event event) {
  return events[event].name;
}

/* ---- texts ---- */

/* The bytes of one character of UTF-8 (RFC 3629 4); 0: there is none. */
static size_t utf8_len(const unsigned char *p) {
  static const struct {
    unsigned char first[2], second[2];
    size_t len;
  } forms[] = {
      {{0xc2, 0xdf}, {0x80, 0xbf}, 2}, {{0xe0, 0xe0}, {0xa0, 0xbf}, 3},
      {{0xe1, 0xec}, {0x80, 0xbf}, 3}, {{0xed, 0xed}, {0x80, 0x9f}, 3},
      {{0xee, 0xef}, {0x80, 0xbf}, 3}, {{0xf0, 0xf0}, {0x90, 0xbf}, 4},
      {{0xf1, 0xf3}, {0x80, 0xbf}, 4}, {{0xf4, 0xf4}, {0x80, 0x8f}, 4}};
  if (p[0] < 0x80)
    return 1;
  for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
    if (p[0] < forms[i].first[0] || p[0] > forms[i].first[1])
      continue;
    if (p[1] < forms[i].second[0] || p[1] > forms[i].second[1])
      return 0;
    for (size_t k = 2; k < forms[i].len; k++) {
      if ((p[k] & 0xc0) != 0x80)
        return 0;
    }
    return forms[i].len;
  }
  return 0;
}

/* A copy, cut, that is UTF-8 and one line. */
static const char *fit(const char *text, char out[TEXT_MAX]) {
  snprintf(out, TEXT_MAX, "%s", text == NULL ? "" : text);
  unsigned char *p = (unsigned char *)out;
  while (*p != '\0') {
    size_t len = utf8_len(p);
    if (len == 0)
      *p = '?';
    p += len == 0 ? 1 : len;
  }
  printable_line(out);
  return out;
}

/* ---- making ---- */

static bool add_text(cJSON *object, const char *name, const char *text) {
  char copy[TEXT_MAX];
  return cJSON_AddStringToObject(object, name, fit(text, copy)) != NULL;
}

/* Within the properties, which are escaped twice: with what would grow to four
 * times its length, a line might not fit. */
static bool add_inner(cJSON *object, const char *name, const char *text) {
  char copy[TEXT_MAX];
  fit(text, copy);
  for (char *p = copy; *p != '\0'; p++) {
    if (*p == '"' || *p == '\\')
      *p = '\'';
  }
  return cJSON_AddStringToObject(object, name, copy) != NULL;
}

/* The last ones are ours: left out when they do not apply. */
static bool add_own_text(cJSON *object, const char *name, const char *text) {
  return text == NULL || text[0] == '\0' || add_inner(object, name, text);
}

static bool add_own_number(cJSON *object, const char *name, double number) {
  return number == 0 || cJSON_AddNumberToObject(object, name, number) != NULL;
}

/* Azure's: null when they do not apply. */
static bool add_azure_text(cJSON *object, const char *name, const char *text) {
  return text == NULL || text[0] == '\0'
             ? cJSON_AddNullToObject(object, name) != NULL
             : add_inner(object, name, text);
}

static bool add_azure_number(cJSON *object, const char *name, uint64_t number) {
  char text[24];
  snprintf(text, sizeof text, "%llu", (unsigned long long)number);
  return add_text(object, name, text);
}

static bool add_azure(cJSON *o, const struct activity_record *r) {
  char device[ACTIVITY_CLIENT_SIZE] = "";
  char status[16] = "";
  const char *module = NULL;
  if (r->client_id != NULL)
    snprintf(device, sizeof device, "%s", r->client_id);
  char *slash = strchr(device, '/');
  if (slash != NULL) {
    *slash = '\0';
    module = slash + 1;
  }
  if (r->status_code != 0)
    snprintf(status, sizeof status, "%d", r->status_code);
  return add_azure_text(o, "deviceId", device) &&
         add_azure_text(o, "moduleId", module) &&
         add_azure_text(o, "sdkVersion", NULL) &&
         add_azure_number(o, "requestSize", r->bytes_to_device) &&
         add_azure_number(o, "responseSize", r->bytes_to_service) &&
         add_azure_text(o, "statusCode", status) &&
         add_azure_text(o, "requestName", r->stream_name) &&
         add_azure_text(o, "direction", "c2d");
}

static bool add_own(cJSON *o, const struct activity_record *r) {
  bool ok =
      add_own_text(o, "event", activity_event_name(r->event)) &&
      add_own_text(o, "streamId", r->stream_id) &&
      add_own_text(o, "trackingId",
                   r->tracking_id != NULL ? r->tracking_id : r->stream_id) &&
      add_own_text(o, "caller", r->caller) &&
      add_own_text(o, "peer", r->peer) && add_own_text(o, "side", r->side) &&
      add_own_number(o, "errorCode", r->error_code) &&
      add_own_number(o, "closeCode", r->close_code) &&
      add_own_text(o, "endedBy", r->ended_by);
  if (ok && r->event == ACTIVITY_END)
    ok = cJSON_AddNumberToObject(o, "bytesToDevice",
                                 (double)r->bytes_to_device) != NULL &&
         cJSON_AddNumberToObject(o, "bytesToService",
                                 (double)r->bytes_to_service) != NULL;
  return ok;
}

static char *make_properties(const struct activity_record *record) {
  char *text = NULL;
  cJSON *object = cJSON_CreateObject();
  if (object != NULL && add_azure(object, record) && add_own(object, record))
    text = cJSON_PrintUnformatted(object);
  cJSON_Delete(object);
  return text;
}

static const char *level_of(const struct activity_record *record,
                            bool success) {
  if (record->event == ACTIVITY_LOST)
    return "Error";
  return success ? "Information" : "Warning";
}

static cJSON *make_object(int64_t time_ms, const char *host,
                          const struct activity_record *record,
                          const char *properties) {
  char time[TIME_TEXT_SIZE];
  char resource[TEXT_MAX + 8];
  bool success = events[record->event].success && !record->failed;
  time_text_make(time_ms, time);
  snprintf(resource, sizeof resource, "/hubs/%.200s", host);
  cJSON *o = cJSON_CreateObject();
  if (o != NULL && add_text(o, "time", time) &&
      add_text(o, "resourceId", resource) &&
      add_text(o, "operationName", "invoke") &&
      add_text(o, "category", "DeviceStreams") &&
      add_text(o, "resultType", success ? "Success" : "Failure") &&
      add_text(o, "resultDescription", record->description) &&
      add_text(o, "level", level_of(record, success)) &&
      add_azure_number(o, "durationMs", record->duration_ms) &&
      cJSON_AddStringToObject(o, "properties", properties) != NULL)
    return o;
  cJSON_Delete(o);
  return NULL;
}

size_t activity_line_make(char out[ACTIVITY_LINE_SIZE], int64_t time_ms,
                          const char *host,
                          const struct activity_record *record) {
  char *properties = make_properties(record);
  cJSON *object = properties == NULL
                      ? NULL
                      : make_object(time_ms, host, record, properties);
  bool ok = object != NULL &&
            cJSON_PrintPreallocated(object, out, ACTIVITY_LINE_SIZE - 1, false);
  cJSON_Delete(object);
  cJSON_free(properties);
  return ok ? strlen(out) : 0;
}

/* ---- reading ---- */

static const char *text_of(const cJSON *object, const char *name) {
  const char *text =
      cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
  return text == NULL ? "" : text;
}

int activity_line_read(const char *line, int64_t *time_ms,
                       char client[ACTIVITY_CLIENT_SIZE]) {
  cJSON *object = cJSON_Parse(line);
  cJSON *properties = cJSON_Parse(text_of(object, "properties"));
  bool ok = time_text_read(text_of(object, "time"), time_ms) &&
            cJSON_IsObject(properties);
  if (ok) {
    const char *module = text_of(properties, "moduleId");
    snprintf(client, ACTIVITY_CLIENT_SIZE, "%.128s%s%.128s",
             text_of(properties, "deviceId"), module[0] != '\0' ? "/" : "",
             module);
  }
  cJSON_Delete(properties);
  cJSON_Delete(object);
  return ok ? DSTREAM_OK : DSTREAM_EFORMAT;
}
