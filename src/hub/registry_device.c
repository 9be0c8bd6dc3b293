#include "hub/registry_device.h"

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "core/conn_string.h"
#include "core/crypto.h"

#define TEXT_MIN 1024
#define NEVER    "0001-01-01T00:00:00Z"

bool registry_refuse(struct registry_problem *problem, enum hub_error_code code,
                     const char *format, ...) {
  va_list args;
  problem->code = code;
  va_start(args, format);
  vsnprintf(problem->message, sizeof problem->message, format, args);
  va_end(args);
  return false;
}

/* ---- reading ---- */

static void wipe_text(cJSON *item) {
  if (cJSON_IsString(item))
    crypto_wipe(item->valuestring, strlen(item->valuestring));
}

/* The member, unless it says that there is none. */
static cJSON *member(const cJSON *object, const char *name) {
  cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  return cJSON_IsNull(item) ? NULL : item;
}

/* *present: it is there and not empty. */
static bool read_text(const cJSON *object, const char *name, char *out,
                      size_t size, bool *present,
                      struct registry_problem *problem) {
  const cJSON *item = member(object, name);
  *present = false;
  if (item == NULL)
    return true;
  if (!cJSON_IsString(item))
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "%s is to be a string or null.", name);
  if (strlen(item->valuestring) >= size)
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "%s is longer than %zu bytes.", name, size - 1);
  memcpy(out, item->valuestring, strlen(item->valuestring) + 1);
  *present = out[0] != '\0';
  return true;
}

/* "deviceId", or "id" where many are asked for at once. */
static bool read_id(struct registry_change *change, const cJSON *object,
                    struct registry_problem *problem) {
  bool there = false;
  if (!read_text(object, "deviceId", change->id, sizeof change->id, &there,
                 problem))
    return false;
  if (!there &&
      !read_text(object, "id", change->id, sizeof change->id, &there, problem))
    return false;
  if (there && !conn_string_id_valid(slice_of(change->id)))
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "The device's id is not a valid one.");
  return true;
}

static bool read_status(struct registry_change *change, const cJSON *object,
                        struct registry_problem *problem) {
  char status[16] = "";
  if (!read_text(object, "status", status, sizeof status, &change->has_status,
                 problem))
    return false;
  change->enabled = strcasecmp(status, "enabled") == 0;
  if (change->has_status && !change->enabled &&
      strcasecmp(status, "disabled") != 0)
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "status is to be enabled or disabled.");
  bool there = false;
  change->has_reason =
      cJSON_GetObjectItemCaseSensitive(object, "statusReason") != NULL;
  if (!read_text(object, "statusReason", change->reason, sizeof change->reason,
                 &there, problem))
    return false;
  if (!identity_reason_valid(change->reason))
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "statusReason is to be plain text.");
  return true;
}

static bool read_key(struct identity_key *key, const cJSON *object,
                     const char *name, struct registry_problem *problem) {
  char text[CRYPTO_BASE64_SIZE(IDENTITY_KEY_MAX) + 1] = "";
  bool there = false;
  bool ok = read_text(object, name, text, sizeof text, &there, problem);
  if (ok && there &&
      (crypto_base64_decode(text, strlen(text), key->bytes, sizeof key->bytes,
                            &key->len) != DSTREAM_OK ||
       key->len < IDENTITY_KEY_MIN || key->len > IDENTITY_KEY_MAX)) {
    key->len = 0;
    ok = registry_refuse(problem, HUB_ERROR_ARGUMENT,
                         "%s is to be %d to %d bytes in base64.", name,
                         IDENTITY_KEY_MIN, IDENTITY_KEY_MAX);
  }
  crypto_wipe(text, sizeof text);
  wipe_text(member(object, name));
  return ok;
}

static bool read_thumbprint(char out[IDENTITY_THUMBPRINT_SIZE],
                            const cJSON *object, const char *name,
                            struct registry_problem *problem) {
  char text[2 * IDENTITY_THUMBPRINT_SIZE] = "";
  bool there = false;
  if (!read_text(object, name, text, sizeof text, &there, problem))
    return false;
  if (there && !identity_thumbprint(text, out))
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "%s is to be 40 or 64 hex digits.", name);
  return true;
}

static bool read_type(struct registry_change *change, const char *type,
                      struct registry_problem *problem) {
  static const struct {
    const char *name;
    enum identity_auth auth;
  } types[] = {{"sas", IDENTITY_KEYS},
               {"selfSigned", IDENTITY_THUMBPRINT},
               {"certificateAuthority", IDENTITY_CA},
               {"none", IDENTITY_GROUP}};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    if (strcasecmp(type, types[i].name) == 0) {
      change->has_auth = true;
      change->auth = types[i].auth;
      return true;
    }
  }
  return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                         "authentication.type is to be sas, selfSigned or "
                         "certificateAuthority.");
}

static bool read_authentication(struct registry_change *change,
                                const cJSON *object,
                                struct registry_problem *problem) {
  const cJSON *authentication = member(object, "authentication");
  const cJSON *keys = member(authentication, "symmetricKey");
  const cJSON *prints = member(authentication, "x509Thumbprint");
  char type[32] = "";
  bool there = false;
  if (!read_text(authentication, "type", type, sizeof type, &there, problem) ||
      !read_key(&change->key[0], keys, "primaryKey", problem) ||
      !read_key(&change->key[1], keys, "secondaryKey", problem) ||
      !read_thumbprint(change->thumbprint[0], prints, "primaryThumbprint",
                       problem) ||
      !read_thumbprint(change->thumbprint[1], prints, "secondaryThumbprint",
                       problem))
    return false;
  if (there)
    return read_type(change, type, problem);
  if (change->thumbprint[0][0] != '\0' || change->thumbprint[1][0] != '\0')
    return read_type(change, "selfSigned", problem);
  if (change->key[0].len > 0 || change->key[1].len > 0)
    return read_type(change, "sas", problem);
  return true;
}

bool registry_change_read(struct registry_change *change, struct cJSON *object,
                          struct registry_problem *problem) {
  memset(change, 0, sizeof *change);
  if (!cJSON_IsObject(object))
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "A device is to be a JSON object.");
  bool there = false;
  const cJSON *edge = member(member(object, "capabilities"), "iotEdge");
  if (cJSON_IsTrue(edge))
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "This hub has no IoT Edge devices.");
  if (!read_id(change, object, problem) ||
      !read_status(change, object, problem) ||
      !read_authentication(change, object, problem) ||
      !read_text(object, "importMode", change->mode, sizeof change->mode,
                 &there, problem))
    return false;
  char etag[REGISTRY_IF_MATCH_MAX] = "";
  if (!read_text(object, "etag", etag, sizeof etag, &there, problem) ||
      (!there &&
       !read_text(object, "eTag", etag, sizeof etag, &there, problem)))
    return false;
  if (there && !registry_if_match(slice_of(etag), change->etag))
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "etag is not a valid one.");
  return true;
}

void registry_change_wipe(struct registry_change *change) {
  crypto_wipe(change->key, sizeof change->key);
}

/* ---- applying ---- */

static bool apply_thumbprints(const struct registry_change *change,
                              struct identity_device *device,
                              struct registry_problem *problem) {
  bool first = change->thumbprint[0][0] != '\0';
  if (!first && change->thumbprint[1][0] == '\0') {
    if (device->thumbprint[0][0] != '\0')
      return true;
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "A selfSigned device needs a thumbprint.");
  }
  memset(device->thumbprint, 0, sizeof device->thumbprint);
  memcpy(device->thumbprint[0], change->thumbprint[first ? 0 : 1],
         IDENTITY_THUMBPRINT_SIZE);
  if (first)
    memcpy(device->thumbprint[1], change->thumbprint[1],
           IDENTITY_THUMBPRINT_SIZE);
  return true;
}

static bool apply_keys(const struct registry_change *change, bool has_keys,
                       struct identity_device *device,
                       struct registry_problem *problem) {
  if (!has_keys && identity_make_keys(device) != DSTREAM_OK)
    return registry_refuse(problem, HUB_ERROR_INTERNAL,
                           "Keys could not be made.");
  if (change->key[0].len > 0)
    device->primary = change->key[0];
  if (change->key[1].len > 0)
    device->secondary = change->key[1];
  return true;
}

/* How the device is to prove itself. */
static bool choose_auth(const struct registry_change *change,
                        const enum identity_auth *before,
                        enum identity_auth *out,
                        struct registry_problem *problem) {
  bool group = before != NULL && *before == IDENTITY_GROUP;
  bool bare = change->key[0].len == 0 && change->key[1].len == 0;
  *out = before != NULL ? *before : IDENTITY_KEYS;
  if (change->has_auth)
    *out = change->auth;
  if (group && *out == IDENTITY_KEYS && bare)
    *out = IDENTITY_GROUP;
  if (*out == IDENTITY_GROUP && !group)
    return registry_refuse(problem, HUB_ERROR_ARGUMENT,
                           "authentication.type none is for devices of a "
                           "group.");
  return true;
}

static bool apply_authentication(const struct registry_change *change,
                                 bool exists, struct identity_device *device,
                                 struct registry_problem *problem) {
  const enum identity_auth before = device->auth;
  if (!choose_auth(change, exists ? &before : NULL, &device->auth, problem))
    return false;
  if (device->auth != IDENTITY_THUMBPRINT)
    memset(device->thumbprint, 0, sizeof device->thumbprint);
  else if (!apply_thumbprints(change, device, problem))
    return false;
  if (device->auth == IDENTITY_KEYS)
    return apply_keys(change, exists && before == IDENTITY_KEYS, device,
                      problem);
  /* The store wants keys of each device, used or not: nobody's. */
  static const struct registry_change no_keys;
  return apply_keys(&no_keys, false, device, problem);
}

bool registry_change_apply(const struct registry_change *change, bool exists,
                           int64_t now_s, struct identity_device *device,
                           struct registry_problem *problem) {
  bool enabled = exists ? device->enabled : true;
  if (!exists) {
    memcpy(device->id, change->id, sizeof device->id);
    device->created_s = now_s;
  }
  device->enabled = change->has_status ? change->enabled : enabled;
  device->status_s = exists || !device->enabled ? now_s : 0;
  if (change->has_reason)
    memcpy(device->status_reason, change->reason, sizeof change->reason);
  return apply_authentication(change, exists, device, problem);
}

/* ---- printing ---- */

void registry_text_clear(struct registry_text *text) {
  if (text->p != NULL)
    crypto_wipe(text->p, text->size);
  free(text->p);
  *text = (struct registry_text){.failed = text->failed};
}

static bool make_room(struct registry_text *text, size_t more) {
  size_t need = text->len + more + 1;
  if (need <= text->size)
    return true;
  size_t size = 2 * need < TEXT_MIN ? TEXT_MIN : 2 * need;
  char *p = malloc(size);
  if (p == NULL) {
    text->failed = true;
    registry_text_clear(text);
    return false;
  }
  size_t len = text->len;
  if (len > 0)
    memcpy(p, text->p, len + 1);
  registry_text_clear(text);
  *text = (struct registry_text){.p = p, .len = len, .size = size};
  return true;
}

void registry_text_add(struct registry_text *text, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int len = vsnprintf(NULL, 0, format, args);
  va_end(args);
  if (text->failed || len < 0 || !make_room(text, (size_t)len))
    return;
  va_start(args, format);
  vsnprintf(text->p + text->len, text->size - text->len, format, args);
  va_end(args);
  text->len += (size_t)len;
}

void registry_text_add_string(struct registry_text *text, const char *value) {
  registry_text_add(text, "\"");
  while (*value != '\0') {
    size_t plain = strcspn(value, "\"\\");
    registry_text_add(text, "%.*s", (int)plain, value);
    value += plain;
    if (*value != '\0')
      registry_text_add(text, "\\%c", *value++);
  }
  registry_text_add(text, "\"");
}

static const char *time_text(int64_t at_s, char out[32]) {
  time_t seconds = (time_t)at_s;
  struct tm utc;
  if (at_s <= 0 || gmtime_r(&seconds, &utc) == NULL ||
      strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &utc) != sizeof NEVER - 1)
    return NEVER;
  return out;
}

static void add_key(struct registry_text *text, const struct identity_key *key,
                    bool show) {
  char base64[CRYPTO_BASE64_SIZE(IDENTITY_KEY_MAX)];
  if (!show) {
    registry_text_add(text, "null");
    return;
  }
  crypto_base64_encode(key->bytes, key->len, base64, sizeof base64);
  registry_text_add(text, "\"%s\"", base64);
  crypto_wipe(base64, sizeof base64);
}

static void add_thumbprint(struct registry_text *text, const char *thumbprint) {
  if (thumbprint[0] == '\0')
    registry_text_add(text, "null");
  else
    registry_text_add(text, "\"%s\"", thumbprint);
}

static void add_authentication(struct registry_text *text,
                               const struct identity_device *device,
                               bool show_keys) {
  static const char *const types[] = {[IDENTITY_KEYS] = "sas",
                                      [IDENTITY_THUMBPRINT] = "selfSigned",
                                      [IDENTITY_CA] = "certificateAuthority",
                                      [IDENTITY_GROUP] = "none"};
  bool show = show_keys && device->auth == IDENTITY_KEYS;
  registry_text_add(text, "\"authentication\":{\"symmetricKey\":{"
                          "\"primaryKey\":");
  add_key(text, &device->primary, show);
  registry_text_add(text, ",\"secondaryKey\":");
  add_key(text, &device->secondary, show);
  registry_text_add(text, "},\"x509Thumbprint\":{\"primaryThumbprint\":");
  add_thumbprint(text, device->thumbprint[0]);
  registry_text_add(text, ",\"secondaryThumbprint\":");
  add_thumbprint(text, device->thumbprint[1]);
  registry_text_add(text, "},\"type\":\"%s\"}", types[device->auth]);
}

void registry_device_print(struct registry_text *text,
                           const struct identity_device *device, bool show_keys,
                           struct registry_place *place) {
  char at[32];
  memcpy(place->device, device->id, sizeof place->device);
  /* No character of an id needs escaping in JSON. */
  registry_text_add(text,
                    "{\"deviceId\":\"%s\",\"generationId\":\"%s\","
                    "\"etag\":\"%s\",\"connectionState\":",
                    device->id, device->generation, device->etag);
  place->state = text->len;
  registry_text_add(text,
                    "\"Disconnected\",\"status\":\"%s\","
                    "\"statusReason\":",
                    device->enabled ? "enabled" : "disabled");
  if (device->status_reason[0] == '\0')
    registry_text_add(text, "null");
  else
    registry_text_add_string(text, device->status_reason);
  registry_text_add(text, ",\"connectionStateUpdatedTime\":");
  place->since = text->len;
  registry_text_add(text,
                    "\"" NEVER "\",\"statusUpdatedTime\":\"%s\","
                    "\"lastActivityTime\":",
                    time_text(device->status_s, at));
  place->activity = text->len;
  registry_text_add(text, "\"" NEVER "\",\"cloudToDeviceMessageCount\":0,");
  add_authentication(text, device, show_keys);
  registry_text_add(text, ",\"capabilities\":{\"iotEdge\":false}}");
}

static const char connected_text[] = "\"Connected\"   ";

void registry_connections(struct registry_answer *answer,
                          bool (*connected)(void *user, const char *device,
                                            int64_t *since_s),
                          void *user) {
  for (size_t i = 0; i < answer->place_count; i++) {
    const struct registry_place *place = &answer->places[i];
    int64_t since_s = 0;
    char at[32];
    if (!connected(user, place->device, &since_s))
      continue;
    memcpy(answer->body + place->state, connected_text,
           sizeof connected_text - 1);
    const char *since = time_text(since_s, at);
    memcpy(answer->body + place->since + 1, since, sizeof NEVER - 1);
    memcpy(answer->body + place->activity + 1, since, sizeof NEVER - 1);
  }
}
