#include "hub/config_option.h"

#include <ctype.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <dstream/loop.h>

#define NUMBER(key, min, max, number, meaning)                                 \
  {                                                                            \
    NULL, #key, CONFIG_NUMBER, offsetof(struct config, key), min, max, number, \
        NULL, meaning                                                          \
  }
#define TEXT(key, type, min, text, meaning)                                    \
  { NULL, #key, type, offsetof(struct config, key), min, 0, 0, text, meaning }
#define LIMIT(key, min, max, number, meaning)                                  \
  {                                                                            \
    "limits", #key, CONFIG_NUMBER, offsetof(struct config, limits.key), min,   \
        max, number, NULL, meaning                                             \
  }
#define IN(group, key, type, member, min, max, number, text, meaning)          \
  {                                                                            \
    group, #key, type, offsetof(struct config, member), min, max, number,      \
        text, meaning                                                          \
  }
#define LEVEL(key, part, meaning)                                              \
  {                                                                            \
    "log", #key, CONFIG_LEVEL, offsetof(struct config, log_parts[part]), 0, 0, \
        0, "", meaning                                                         \
  }

static const struct config_option options[] = {
    TEXT(host, CONFIG_HOST, 1, NULL,
         "the hub's name, in connection strings and in stream URLs"),
    TEXT(aliases, CONFIG_HOSTS, 0, "localhost 127.0.0.1",
         "other names that clients may know the hub by"),
    TEXT(bind_address, CONFIG_ADDRESS, 0, "",
         "address to listen on; empty: every address"),
    NUMBER(https_port, 0, 65535, 443,
           "REST, streams and MQTT over WebSocket; "
           "0: any free port"),
    NUMBER(mqtt_port, 0, 65535, 8883, "MQTT; 0: any free port"),
    TEXT(certificate_file, CONFIG_TEXT, 1, "server.pem",
         "PEM file of the server's certificate chain"),
    TEXT(key_file, CONFIG_TEXT, 1, "server-key.pem", "PEM file of its key"),
    TEXT(device_ca_file, CONFIG_TEXT, 0, "",
         "PEM file of the CAs of devices' certificates; empty: none"),
    TEXT(database_file, CONFIG_TEXT, 1, "identities.db",
         "devices and service policies"),
    TEXT(broker_program, CONFIG_TEXT, 0, "", "mosquitto; empty: looked for"),
    TEXT(log_level, CONFIG_LEVEL, 1, "info", "how much is logged"),
    LEVEL(hub, LOG_HUB,
          "how much of start, stop and signals; empty: as log_level"),
    LEVEL(front, LOG_FRONT, "how much of connections to the ports, and of TLS"),
    LEVEL(rest, LOG_REST, "how much of requests over HTTPS"),
    LEVEL(handshake, LOG_HANDSHAKE,
          "how much of each stream, from its request to its end"),
    LEVEL(gateway, LOG_GATEWAY, "how much of the streaming endpoint"),
    LEVEL(presence, LOG_PRESENCE, "how much of which devices can be reached"),
    LEVEL(broker, LOG_BROKER,
          "how much of the broker and devices' connections to it"),
    IN("activity_log", file, CONFIG_TEXT, activity_log, 0, 0, 0, "activity.log",
       "the activity log, one JSON object a line; \"-\": stdout; "
       "\"journald\": systemd's journal; empty: none"),
    IN("metrics", enabled, CONFIG_FLAG, metrics_enabled, 0, 0, 0, NULL,
       "serve metrics for Prometheus over HTTP, to anybody who can connect"),
    IN("metrics", bind_address, CONFIG_ADDRESS, metrics_bind, 1, 0, 0,
       "127.0.0.1", "address the metrics are served on"),
    IN("metrics", port, CONFIG_NUMBER, metrics_port, 0, 65535, 9643, NULL,
       "port the metrics are served on; 0: any free port"),
    IN("page", enabled, CONFIG_FLAG, page_enabled, 0, 0, 0, NULL,
       "serve the status page on https_port, to who signs in with a policy"),
    LIMIT(max_streams, 1, 100000, 4000, "streams at once, in all"),
    LIMIT(max_streams_per_device, 1, 100000, 1000,
          "streams at once of one device"),
    LIMIT(max_pending, 1, 100000, 2000, "handshakes at once, in all"),
    LIMIT(max_pending_per_device, 1, 100000, 500,
          "handshakes at once of one device"),
    LIMIT(max_connections, 16, 1000000, 12000,
          "connections to both ports together"),
    LIMIT(max_http_connections, 1, 100000, 4000, "REST connections at once"),
    LIMIT(requests_per_second, 1, 1000000, 500,
          "stream requests, over a longer time"),
    LIMIT(request_burst, 1, 1000000, 1000, "stream requests in one go"),
    LIMIT(max_body_bytes, 0, 16777216, 262144, "body of a REST request"),
    LIMIT(head_seconds, 1, 300, 10,
          "from connect to a whole request, or to MQTT's CONNECT"),
    LIMIT(handshake_seconds, 1, 60, 60,
          "from the device's request to both sides connected"),
    LIMIT(keepalive_seconds, 0, 3600, 30,
          "between pings on a stream; 0: no pings"),
    LIMIT(idle_seconds, 0, 31536000, 0,
          "a stream without a byte this long is ended; 0: never"),
    LIMIT(lifetime_seconds, 0, 31536000, 0,
          "a stream this old is ended; 0: never"),
    LIMIT(drain_seconds, 1, 86400, 3600,
          "for a side to take the last bytes of a stream that was closed"),
};
#define OPTION_COUNT (sizeof options / sizeof options[0])

static const char *const groups[] = {"log", "activity_log", "metrics", "page",
                                     "limits"};
#define GROUP_COUNT (sizeof groups / sizeof groups[0])

static const char *const level_names[] = {"", "error", "warning", "info",
                                          "debug"};
#define LEVELS (sizeof level_names / sizeof level_names[0])

/* ---- finding and naming ---- */

const struct config_option *config_option_at(size_t index) {
  return index < OPTION_COUNT ? &options[index] : NULL;
}

const struct config_option *config_option_find(const char *group,
                                               const char *key) {
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    const char *own = options[i].group;
    bool same_group =
        group == NULL || own == NULL ? group == own : strcmp(group, own) == 0;
    if (same_group && strcmp(options[i].key, key) == 0)
      return &options[i];
  }
  return NULL;
}

const char *config_group_find(const char *name) {
  for (size_t i = 0; i < GROUP_COUNT; i++) {
    if (strcmp(groups[i], name) == 0)
      return groups[i];
  }
  return NULL;
}

void config_option_path(const struct config_option *option,
                        char out[CONFIG_NAME_SIZE]) {
  bool top = option->group == NULL;
  snprintf(out, CONFIG_NAME_SIZE, "%s%s%s", top ? "" : option->group,
           top ? "" : ".", option->key);
}

void config_option_variable(const struct config_option *option,
                            char out[CONFIG_NAME_SIZE]) {
  char path[CONFIG_NAME_SIZE];
  config_option_path(option, path);
  snprintf(out, CONFIG_NAME_SIZE, CONFIG_ENVIRONMENT "%.*s",
           (int)(CONFIG_NAME_SIZE - sizeof CONFIG_ENVIRONMENT), path);
  for (char *p = out; *p != '\0'; p++)
    *p = *p == '.' ? '_' : (char)toupper((unsigned char)*p);
}

void config_option_allowed(const struct config_option *option, char *out,
                           size_t size) {
  bool may_be_empty = option->min == 0;
  switch (option->type) {
  case CONFIG_NUMBER:
    snprintf(out, size, "a whole number from %u to %u", option->min,
             option->max);
    break;
  case CONFIG_FLAG:
    snprintf(out, size, "true or false");
    break;
  case CONFIG_HOST:
    snprintf(out, size, "a host name: letters, digits, \"-\", \".\" and \"_\"");
    break;
  case CONFIG_HOSTS:
    snprintf(out, size, "a list of at most %d host names", CONFIG_ALIAS_MAX);
    break;
  case CONFIG_ADDRESS:
    snprintf(out, size, "an IP address%s", may_be_empty ? " or empty" : "");
    break;
  case CONFIG_LEVEL:
    snprintf(out, size, "error, warning, info%s",
             may_be_empty ? ", debug or empty" : " or debug");
    break;
  case CONFIG_TEXT:
    snprintf(out, size, "a %stext of at most %d bytes",
             may_be_empty ? "" : "non-empty ", CONFIG_TEXT_SIZE - 1);
    break;
  }
}

/* ---- values ---- */

static void *place_of(const struct config_option *option,
                      struct config *config) {
  return (char *)config + option->offset;
}

static const void *value_of(const struct config_option *option,
                            const struct config *config) {
  return (const char *)config + option->offset;
}

/* LEVELS: it is none. */
static unsigned level_named(const char *name) {
  unsigned level = 0;
  while (level < LEVELS && strcmp(name, level_names[level]) != 0)
    level++;
  return level;
}

int config_host_valid(const char *host) {
  size_t len = strlen(host);
  const char *allowed = "abcdefghijklmnopqrstuvwxyz"
                        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
  return len >= 1 && len <= 253 && strspn(host, allowed) == len;
}

static bool text_valid(const char *text) {
  for (const char *p = text; *p != '\0'; p++) {
    if ((unsigned char)*p < 0x20 || *p == 0x7f)
      return false;
  }
  return strlen(text) < CONFIG_TEXT_SIZE;
}

/* Texts that were checked to fit. */
static void copy_text(char *out, const char *text) {
  snprintf(out, CONFIG_TEXT_SIZE, "%s", text);
}

static bool address_valid(const char *text) {
  struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
  struct addrinfo *address = NULL;
  if (getaddrinfo(text, NULL, &hints, &address) != 0)
    return false;
  freeaddrinfo(address);
  return true;
}

static void default_hosts(struct config *config, const char *names) {
  char copy[CONFIG_TEXT_SIZE];
  copy_text(copy, names);
  char *rest = copy;
  for (char *name = strsep(&rest, " "); name != NULL; name = strsep(&rest, " "))
    copy_text(config->aliases[config->alias_count++], name);
}

void config_option_default(const struct config_option *option,
                           struct config *config) {
  void *place = place_of(option, config);
  if (option->type == CONFIG_NUMBER)
    *(unsigned *)place = option->number;
  else if (option->type == CONFIG_FLAG)
    *(bool *)place = option->number != 0;
  else if (option->type == CONFIG_HOSTS)
    default_hosts(config, option->text);
  else if (option->type == CONFIG_LEVEL)
    *(unsigned *)place = level_named(option->text);
  else if (option->text != NULL)
    copy_text(place, option->text);
}

/* ---- reading ---- */

static bool read_number(const struct config_option *option, const cJSON *item,
                        struct config *config) {
  if (!cJSON_IsNumber(item) || item->valuedouble < option->min ||
      item->valuedouble > option->max)
    return false;
  unsigned number = (unsigned)item->valuedouble;
  if (number != item->valuedouble)
    return false;
  *(unsigned *)place_of(option, config) = number;
  return true;
}

static bool read_text(const struct config_option *option, const cJSON *item,
                      struct config *config) {
  if (!cJSON_IsString(item) || !text_valid(item->valuestring))
    return false;
  if (option->type == CONFIG_HOST && !config_host_valid(item->valuestring))
    return false;
  if (strlen(item->valuestring) < option->min)
    return false;
  if (option->type == CONFIG_ADDRESS && item->valuestring[0] != '\0' &&
      !address_valid(item->valuestring))
    return false;
  copy_text(place_of(option, config), item->valuestring);
  return true;
}

static bool read_hosts(const cJSON *list, struct config *config) {
  if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > CONFIG_ALIAS_MAX)
    return false;
  config->alias_count = 0;
  const cJSON *item;
  cJSON_ArrayForEach(item, list) {
    if (!cJSON_IsString(item) || !config_host_valid(item->valuestring))
      return false;
    copy_text(config->aliases[config->alias_count++], item->valuestring);
  }
  return true;
}

static bool read_level(const struct config_option *option, const cJSON *item,
                       struct config *config) {
  unsigned level = cJSON_IsString(item) ? level_named(item->valuestring) : 0;
  bool none = cJSON_IsString(item) && item->valuestring[0] == '\0';
  if (level == LEVELS || (level == 0 && !none) || level < option->min)
    return false;
  *(unsigned *)place_of(option, config) = level;
  return true;
}

bool config_option_read(const struct config_option *option, const cJSON *item,
                        struct config *config) {
  switch (option->type) {
  case CONFIG_NUMBER:
    return read_number(option, item, config);
  case CONFIG_FLAG:
    if (!cJSON_IsBool(item))
      return false;
    *(bool *)place_of(option, config) = cJSON_IsTrue(item);
    return true;
  case CONFIG_TEXT:
  case CONFIG_HOST:
  case CONFIG_ADDRESS:
    return read_text(option, item, config);
  case CONFIG_HOSTS:
    return read_hosts(item, config);
  case CONFIG_LEVEL:
    return read_level(option, item, config);
  }
  return false;
}

/* Digits only: no sign, no space, no exponent. */
static cJSON *number_item(const char *text) {
  size_t len = strlen(text);
  if (len == 0 || len > 10 || strspn(text, "0123456789") != len)
    return NULL;
  return cJSON_CreateNumber((double)strtoull(text, NULL, 10));
}

static cJSON *hosts_item(const char *text) {
  cJSON *list = cJSON_CreateArray();
  for (const char *p = text; list != NULL && *p != '\0';) {
    size_t len = strcspn(p, ", ");
    char *name = len > 0 ? strndup(p, len) : NULL;
    if (len > 0 && (name == NULL ||
                    !cJSON_AddItemToArray(list, cJSON_CreateString(name)))) {
      cJSON_Delete(list);
      list = NULL;
    }
    free(name);
    p += len + (p[len] != '\0');
  }
  return list;
}

cJSON *config_option_item(const struct config_option *option,
                          const char *text) {
  switch (option->type) {
  case CONFIG_NUMBER:
    return number_item(text);
  case CONFIG_FLAG:
    return strcmp(text, "true") == 0    ? cJSON_CreateTrue()
           : strcmp(text, "false") == 0 ? cJSON_CreateFalse()
                                        : NULL;
  case CONFIG_HOSTS:
    return hosts_item(text);
  default:
    return cJSON_CreateString(text);
  }
}

/* ---- writing ---- */

cJSON *config_option_write(const struct config_option *option,
                           const struct config *config) {
  const void *value = value_of(option, config);
  if (option->type == CONFIG_NUMBER)
    return cJSON_CreateNumber(*(const unsigned *)value);
  if (option->type == CONFIG_FLAG)
    return cJSON_CreateBool(*(const bool *)value);
  if (option->type == CONFIG_LEVEL)
    return cJSON_CreateString(level_names[*(const unsigned *)value]);
  if (option->type != CONFIG_HOSTS)
    return cJSON_CreateString(value);
  cJSON *list = cJSON_CreateArray();
  for (size_t i = 0; list != NULL && i < config->alias_count; i++)
    cJSON_AddItemToArray(list, cJSON_CreateString(config->aliases[i]));
  return list;
}
