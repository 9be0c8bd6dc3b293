#include "hub/config.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <dstream/loop.h>

#include "core/end.h"

enum option_type {
  OPTION_NUMBER,
  OPTION_FLAG, /* true or false */
  OPTION_TEXT,
  OPTION_HOST,  /* a text that is a host name */
  OPTION_HOSTS, /* a list of them */
  OPTION_LEVEL  /* log level, by its name */
};

/* The two levels of keys there are: at the top, and within a group. */
struct option {
  const char *group; /* such as "limits"; NULL: at the top */
  const char *key;
  enum option_type type;
  size_t offset;
  unsigned min, max;   /* of a number; min of a text: 1 if it can't be empty */
  unsigned number;     /* default; of a flag, too */
  const char *text;    /* default */
  const char *meaning; /* for a person; of a limit: what it bounds */
};

#define NUMBER(key, min, max, number, meaning)                                 \
  {                                                                            \
    NULL, #key, OPTION_NUMBER, offsetof(struct config, key), min, max, number, \
        NULL, meaning                                                          \
  }
#define TEXT(key, type, min, text, meaning)                                    \
  { NULL, #key, type, offsetof(struct config, key), min, 0, 0, text, meaning }
#define LIMIT(key, min, max, number, meaning)                                  \
  {                                                                            \
    "limits", #key, OPTION_NUMBER, offsetof(struct config, limits.key), min,   \
        max, number, NULL, meaning                                             \
  }
#define IN(group, key, type, member, min, max, number, text, meaning)          \
  {                                                                            \
    group, #key, type, offsetof(struct config, member), min, max, number,      \
        text, meaning                                                          \
  }
#define LEVEL(key, part, meaning)                                              \
  {                                                                            \
    "log", #key, OPTION_LEVEL, offsetof(struct config, log_parts[part]), 0, 0, \
        0, "", meaning                                                         \
  }

static const struct option options[] = {
    TEXT(host, OPTION_HOST, 1, NULL,
         "the hub's name, in connection strings and in stream URLs"),
    TEXT(aliases, OPTION_HOSTS, 0, "localhost 127.0.0.1",
         "other names that clients may know the hub by"),
    TEXT(bind_address, OPTION_TEXT, 0, "",
         "address to listen on; empty: every address"),
    NUMBER(https_port, 0, 65535, 443,
           "REST, streams and MQTT over WebSocket; "
           "0: any free port"),
    NUMBER(mqtt_port, 0, 65535, 8883, "MQTT; 0: any free port"),
    TEXT(certificate_file, OPTION_TEXT, 1, "server.pem",
         "PEM file of the server's certificate chain"),
    TEXT(key_file, OPTION_TEXT, 1, "server-key.pem", "PEM file of its key"),
    TEXT(device_ca_file, OPTION_TEXT, 0, "",
         "PEM file of the CAs of devices' certificates; empty: none"),
    TEXT(database_file, OPTION_TEXT, 1, "identities.db",
         "devices and service policies"),
    TEXT(broker_program, OPTION_TEXT, 0, "", "mosquitto; empty: looked for"),
    TEXT(log_level, OPTION_LEVEL, 1, "info", "error, warning, info or debug"),
    LEVEL(hub, LOG_HUB, "of start, stop and signals; empty: log_level"),
    LEVEL(front, LOG_FRONT, "of connections to the ports, and TLS"),
    LEVEL(rest, LOG_REST, "of requests over HTTPS"),
    LEVEL(handshake, LOG_HANDSHAKE,
          "of each stream, from its request to its end"),
    LEVEL(gateway, LOG_GATEWAY, "of the streaming endpoint"),
    LEVEL(presence, LOG_PRESENCE, "of which devices can be reached"),
    LEVEL(broker, LOG_BROKER, "of the broker and devices' connections to it"),
    IN("activity_log", file, OPTION_TEXT, activity_log, 0, 0, 0, "activity.log",
       "the activity log, one JSON object a line; \"-\": stdout; empty: none"),
    IN("metrics", enabled, OPTION_FLAG, metrics_enabled, 0, 0, 0, NULL,
       "serve metrics for Prometheus over HTTP, to anybody who can connect"),
    IN("metrics", bind_address, OPTION_TEXT, metrics_bind, 1, 0, 0, "127.0.0.1",
       "address the metrics are served on"),
    IN("metrics", port, OPTION_NUMBER, metrics_port, 0, 65535, 9643, NULL,
       "and the port; 0: any free port"),
    IN("page", enabled, OPTION_FLAG, page_enabled, 0, 0, 0, NULL,
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
    LIMIT(max_body_bytes, 0, 16777216, 65536, "body of a REST request"),
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

/* LEVELS: it is none. */
#define LEVELS (sizeof level_names / sizeof level_names[0])
static unsigned level_named(const char *name) {
  unsigned level = 0;
  while (level < LEVELS && strcmp(name, level_names[level]) != 0)
    level++;
  return level;
}

static void *option_place(const struct option *option, struct config *config) {
  return (char *)config + option->offset;
}

static const void *option_value(const struct option *option,
                                const struct config *config) {
  return (const char *)config + option->offset;
}

static void option_path(const struct option *option, char *out, size_t size) {
  snprintf(out, size, "%s%s%s", option->group == NULL ? "" : option->group,
           option->group == NULL ? "" : ".", option->key);
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

/* ---- defaults ---- */

static void default_hosts(struct config *config, const char *names) {
  char copy[CONFIG_TEXT_SIZE];
  copy_text(copy, names);
  char *rest = copy;
  for (char *name = strsep(&rest, " "); name != NULL; name = strsep(&rest, " "))
    copy_text(config->aliases[config->alias_count++], name);
}

void config_defaults(struct config *config) {
  memset(config, 0, sizeof *config);
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    const struct option *option = &options[i];
    if (option->type == OPTION_NUMBER)
      *(unsigned *)option_place(option, config) = option->number;
    else if (option->type == OPTION_FLAG)
      *(bool *)option_place(option, config) = option->number != 0;
    else if (option->type == OPTION_HOSTS)
      default_hosts(config, option->text);
    else if (option->type == OPTION_LEVEL)
      *(unsigned *)option_place(option, config) = level_named(option->text);
    else if (option->text != NULL)
      copy_text(option_place(option, config), option->text);
  }
}

/* ---- reading ---- */

static int wrong(const struct option *option, struct dstream_end *error) {
  char path[64];
  option_path(option, path, sizeof path);
  switch (option->type) {
  case OPTION_NUMBER:
    end_set(error, DSTREAM_EFORMAT, "%s must be a whole number from %u to %u",
            path, option->min, option->max);
    break;
  case OPTION_FLAG:
    end_set(error, DSTREAM_EFORMAT, "%s must be true or false", path);
    break;
  case OPTION_HOST:
    end_set(error, DSTREAM_EFORMAT,
            "%s must be a host name: letters, digits, \"-\", \".\" and \"_\"",
            path);
    break;
  case OPTION_HOSTS:
    end_set(error, DSTREAM_EFORMAT,
            "%s must be a list of at most %d host names", path,
            CONFIG_ALIAS_MAX);
    break;
  case OPTION_LEVEL:
    end_set(error, DSTREAM_EFORMAT,
            "%s must be \"error\", \"warning\", \"info\"%s or \"debug\"", path,
            option->min == 0 ? ", \"\"" : "");
    break;
  case OPTION_TEXT:
    end_set(error, DSTREAM_EFORMAT, "%s must be a %stext of at most %d bytes",
            path, option->min == 0 ? "" : "non-empty ", CONFIG_TEXT_SIZE - 1);
    break;
  }
  return DSTREAM_EFORMAT;
}

static bool read_number(const struct option *option, const cJSON *item,
                        struct config *config) {
  if (!cJSON_IsNumber(item) || item->valuedouble < option->min ||
      item->valuedouble > option->max)
    return false;
  unsigned number = (unsigned)item->valuedouble;
  if (number != item->valuedouble)
    return false;
  *(unsigned *)option_place(option, config) = number;
  return true;
}

static bool read_text(const struct option *option, const cJSON *item,
                      struct config *config) {
  if (!cJSON_IsString(item) || !text_valid(item->valuestring))
    return false;
  if (option->type == OPTION_HOST && !config_host_valid(item->valuestring))
    return false;
  if (strlen(item->valuestring) < option->min)
    return false;
  copy_text(option_place(option, config), item->valuestring);
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

static bool read_level(const struct option *option, const cJSON *item,
                       struct config *config) {
  unsigned level = cJSON_IsString(item) ? level_named(item->valuestring) : 0;
  bool none = cJSON_IsString(item) && item->valuestring[0] == '\0';
  if (level == LEVELS || (level == 0 && !none) || level < option->min)
    return false;
  *(unsigned *)option_place(option, config) = level;
  return true;
}

static bool read_option(const struct option *option, const cJSON *item,
                        struct config *config) {
  switch (option->type) {
  case OPTION_NUMBER:
    return read_number(option, item, config);
  case OPTION_FLAG:
    if (!cJSON_IsBool(item))
      return false;
    *(bool *)option_place(option, config) = cJSON_IsTrue(item);
    return true;
  case OPTION_TEXT:
  case OPTION_HOST:
    return read_text(option, item, config);
  case OPTION_HOSTS:
    return read_hosts(item, config);
  case OPTION_LEVEL:
    return read_level(option, item, config);
  }
  return false;
}

static const struct option *find_option(const char *group, const char *key) {
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    const char *own = options[i].group;
    bool same_group =
        group == NULL || own == NULL ? group == own : strcmp(group, own) == 0;
    if (same_group && strcmp(options[i].key, key) == 0)
      return &options[i];
  }
  return NULL;
}

/* The group of that name, as it stands in the options; NULL: none. */
static const char *find_group(const char *name) {
  for (size_t i = 0; i < GROUP_COUNT; i++) {
    if (strcmp(groups[i], name) == 0)
      return groups[i];
  }
  return NULL;
}

/* A key comes from the file: only what can be shown is shown. */
static void shown_key(const char *group, const char *key, char *out,
                      size_t size) {
  snprintf(out, size, "%s%s%.60s", group == NULL ? "" : group,
           group == NULL ? "" : ".", key);
  for (char *p = out; *p != '\0'; p++) {
    if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
      *p = '?';
  }
}

static bool comes_before(const cJSON *object, const cJSON *item) {
  for (const cJSON *p = object->child; p != item; p = p->next) {
    if (strcmp(p->string, item->string) == 0)
      return true;
  }
  return false;
}

static int read_object(const cJSON *object, const char *group,
                       struct config *config, struct dstream_end *error);

static int read_group(const cJSON *item, const char *group,
                      struct config *config, struct dstream_end *error) {
  if (cJSON_IsObject(item))
    return read_object(item, group, config, error);
  end_set(error, DSTREAM_EFORMAT, "%s must be an object", group);
  return DSTREAM_EFORMAT;
}

static int read_member(const cJSON *item, const char *group, const char *shown,
                       struct config *config, struct dstream_end *error) {
  const char *inner = group == NULL ? find_group(item->string) : NULL;
  if (inner != NULL)
    return read_group(item, inner, config, error);
  const struct option *option = find_option(group, item->string);
  if (option == NULL) {
    end_set(error, DSTREAM_EFORMAT,
            "%s is not known; \"dstream-hub config-help\" lists what is",
            shown);
    return DSTREAM_EFORMAT;
  }
  return read_option(option, item, config) ? DSTREAM_OK : wrong(option, error);
}

static int read_object(const cJSON *object, const char *group,
                       struct config *config, struct dstream_end *error) {
  const cJSON *item;
  cJSON_ArrayForEach(item, object) {
    char shown[80];
    shown_key(group, item->string, shown, sizeof shown);
    if (comes_before(object, item)) {
      end_set(error, DSTREAM_EFORMAT, "%s is there twice", shown);
      return DSTREAM_EFORMAT;
    }
    int status = read_member(item, group, shown, config, error);
    if (status != DSTREAM_OK)
      return status;
  }
  return DSTREAM_OK;
}

static unsigned line_of(const char *text, const char *place) {
  unsigned line = 1;
  for (const char *p = text; p < place && *p != '\0'; p++)
    line += *p == '\n';
  return line;
}

int config_parse(struct config *config, const char *text, size_t len,
                 struct dstream_end *error) {
  config_defaults(config);
  if (memchr(text, '\0', len) != NULL) {
    end_set(error, DSTREAM_EFORMAT, "it holds a zero byte");
    return DSTREAM_EFORMAT;
  }
  char *copy = strndup(text, len);
  if (copy == NULL) {
    end_set(error, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  const char *stop = copy;
  cJSON *root = cJSON_ParseWithOpts(copy, &stop, true);
  int status = DSTREAM_EFORMAT;
  if (root == NULL)
    end_set(error, status, "line %u: it is no JSON", line_of(copy, stop));
  else if (!cJSON_IsObject(root))
    end_set(error, status, "it must be a JSON object, \"{ ... }\"");
  else
    status = read_object(root, NULL, config, error);
  if (status == DSTREAM_OK && config->host[0] == '\0') {
    end_set(error, DSTREAM_EFORMAT, "host is missing");
    status = DSTREAM_EFORMAT;
  }
  cJSON_Delete(root);
  free(copy);
  return status;
}

int config_load(struct config *config, const char *path,
                struct dstream_end *error) {
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    int status = errno == ENOENT ? DSTREAM_ENOTFOUND : DSTREAM_ESYSTEM;
    end_set(error, status, "%s can't be read: %s", path, strerror(errno));
    return status;
  }
  char *text = malloc(CONFIG_FILE_MAX + 1);
  size_t len = text == NULL ? 0 : fread(text, 1, CONFIG_FILE_MAX + 1, file);
  int status = DSTREAM_OK;
  if (text == NULL)
    status = DSTREAM_ENOMEM;
  else if (ferror(file))
    status = DSTREAM_ESYSTEM;
  else if (len > CONFIG_FILE_MAX)
    status = DSTREAM_ELIMIT;
  fclose(file);
  if (status != DSTREAM_OK) {
    end_set(error, status, "%s can't be read: %s", path,
            status == DSTREAM_ELIMIT ? "it is larger than 64 KB"
                                     : dstream_status_text(status));
  } else {
    struct dstream_end why = {0};
    status = config_parse(config, text, len, &why);
    if (status != DSTREAM_OK)
      end_set(error, status, "%s: %s", path, why.text);
  }
  free(text);
  return status;
}

/* ---- writing ---- */

static cJSON *write_option(const struct option *option,
                           const struct config *config) {
  const void *value = option_value(option, config);
  if (option->type == OPTION_NUMBER)
    return cJSON_CreateNumber(*(const unsigned *)value);
  if (option->type == OPTION_FLAG)
    return cJSON_CreateBool(*(const bool *)value);
  if (option->type == OPTION_LEVEL)
    return cJSON_CreateString(level_names[*(const unsigned *)value]);
  if (option->type != OPTION_HOSTS)
    return cJSON_CreateString(value);
  cJSON *list = cJSON_CreateArray();
  for (size_t i = 0; list != NULL && i < config->alias_count; i++)
    cJSON_AddItemToArray(list, cJSON_CreateString(config->aliases[i]));
  return list;
}

/* The object that an option belongs in, made if it is not there yet. */
static cJSON *object_of(const struct option *option, cJSON *root) {
  if (option->group == NULL)
    return root;
  cJSON *object = cJSON_GetObjectItemCaseSensitive(root, option->group);
  return object != NULL ? object : cJSON_AddObjectToObject(root, option->group);
}

char *config_format(const struct config *config) {
  cJSON *root = cJSON_CreateObject();
  bool ok = root != NULL;
  for (size_t i = 0; ok && i < OPTION_COUNT; i++) {
    cJSON *object = object_of(&options[i], root);
    cJSON *item = object == NULL ? NULL : write_option(&options[i], config);
    ok = item != NULL && cJSON_AddItemToObject(object, options[i].key, item);
  }
  char *text = ok ? cJSON_Print(root) : NULL;
  cJSON_Delete(root);
  return text;
}

enum dstream_log_level config_log_level(const struct config *config,
                                        enum log_part part) {
  unsigned own = config->log_parts[part];
  return (enum dstream_log_level)(own != 0 ? own : config->log_level);
}

static void help_default(const struct option *option, FILE *out) {
  if (option->type == OPTION_NUMBER)
    fprintf(out, "%u to %u, default %u", option->min, option->max,
            option->number);
  else if (option->type == OPTION_FLAG)
    fprintf(out, "true or false, default %s",
            option->number != 0 ? "true" : "false");
  else if (option->text == NULL)
    fprintf(out, "required");
  else
    fprintf(out, "default \"%s\"", option->text);
}

void config_help(FILE *out) {
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    char path[64];
    option_path(&options[i], path, sizeof path);
    fprintf(out, "%-30s ", path);
    help_default(&options[i], out);
    fprintf(out, "\n    %s\n", options[i].meaning);
  }
}
