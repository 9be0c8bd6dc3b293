#include "tools/agent_config.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <dstream/loop.h>

#include "core/address.h"
#include "core/allow.h"
#include "core/end.h"
#include "core/printable.h"
#include "tools/cli.h"

#define YEAR_S 31536000

enum option_type {
  OPTION_NUMBER,
  OPTION_FLAG, /* true or false */
  OPTION_TEXT,
  OPTION_FILE,    /* a path, relative to the file's folder */
  OPTION_LEVEL,   /* log level, by its name */
  OPTION_TARGETS, /* an object */
  OPTION_ALLOW    /* a list of patterns */
};

struct option {
  const char *key;
  const char *flag; /* on the command line; NULL: none, or a way of its own */
  enum option_type type;
  bool restart; /* a change takes effect after a restart */
  size_t offset;
  unsigned min, max, number; /* of a number; its default */
  const char *meaning;
};

#define AT(member) offsetof(struct agent_config, member)

static const struct option options[] = {
    {"connectionStringFile", NULL, OPTION_FILE, true,
     AT(connection_string_file), 0, 0, 0,
     "file with the device's connection string"},
    {"caFile", "ca-file", OPTION_FILE, true, AT(ca_file), 0, 0, 0,
     "PEM file of the roots to trust; default: the system's"},
    {"certFile", "cert-file", OPTION_FILE, true, AT(cert_file), 0, 0, 0,
     "PEM chain of a device that has a certificate (x509=true)"},
    {"keyFile", "key-file", OPTION_FILE, true, AT(key_file), 0, 0, 0,
     "PEM file of its key; default: certFile"},
    {"httpProxy", "http-proxy", OPTION_TEXT, true, AT(http_proxy), 0, 0, 0,
     "\"http://[USER:PASSWORD@]HOST:PORT\", for all connections to the hub"},
    {"mqttOverWebsocket", "mqtt-over-websocket", OPTION_FLAG, true,
     AT(mqtt_over_websocket), 0, 0, 0,
     "the control connection uses the HTTPS port"},
    {"logLevel", NULL, OPTION_LEVEL, false, AT(log_level), 0, 0,
     DSTREAM_LOG_INFO, "error, warning, info or debug"},
    {"maxRequests", NULL, OPTION_NUMBER, true, AT(max_requests), 1, 4096, 1024,
     "stream requests that are not answered yet, at once"},
    {"targets", NULL, OPTION_TARGETS, false, AT(targets), 0, 0, 0,
     "what streams may ask for by name: an object of NAME: \"ADDRESS\" or "
     "NAME: {\"address\": \"ADDRESS\", ...}; ADDRESS is HOST:PORT, "
     "[IPv6]:PORT or unix:PATH"},
    {"allow", NULL, OPTION_ALLOW, false, AT(allow), 0, 0, 0,
     "what streams may ask for as HOST:PORT: a list of \"ADDRESS/BITS:PORTS\" "
     "and \"HOST:PORTS\""},
    {"maxStreams", "max-streams", OPTION_NUMBER, false, AT(max_streams), 1,
     65536, 256, "streams at once, in all"},
    {"ratePerSecond", "rate", OPTION_NUMBER, false, AT(max_rate), 1, 100000, 50,
     "new streams a second, over a longer time"},
    {"burst", "burst", OPTION_NUMBER, false, AT(burst), 0, 100000, 0,
     "new streams in one go; 0: twice ratePerSecond"},
    {"idleSeconds", "idle", OPTION_NUMBER, false, AT(idle_s), 0, YEAR_S, 0,
     "a stream without a byte this long is ended; 0: never"},
    {"totalSeconds", "total", OPTION_NUMBER, false, AT(total_s), 0, YEAR_S, 0,
     "a stream this old is ended; 0: never"},
    {"connectTimeoutSeconds", "connect-timeout", OPTION_NUMBER, false,
     AT(connect_timeout_s), 1, 50, 10, "to connect to a target"},
};
#define OPTION_COUNT (sizeof options / sizeof options[0])

/* Within "targets", of one that is an object; besides "address". */
static const struct option target_options[] = {
    {"maxStreams", NULL, OPTION_NUMBER, false,
     offsetof(struct agent_target, max_streams), 0, 65536, 0,
     "streams to it at once; 0: as many as in all"},
    {"idleSeconds", NULL, OPTION_NUMBER, false,
     offsetof(struct agent_target, idle_s), 0, YEAR_S, 0,
     "in place of the other idleSeconds; 0: that one"},
    {"totalSeconds", NULL, OPTION_NUMBER, false,
     offsetof(struct agent_target, total_s), 0, YEAR_S, 0,
     "in place of the other totalSeconds; 0: that one"},
};
#define TARGET_OPTION_COUNT (sizeof target_options / sizeof target_options[0])

static const char *const level_names[] = {"", "error", "warning", "info",
                                          "debug"};

static void *place_of(const struct option *option, void *base) {
  return (char *)base + option->offset;
}

static const void *value_of(const struct option *option, const void *base) {
  return (const char *)base + option->offset;
}

static int out_of_memory(struct dstream_end *error) {
  end_set(error, DSTREAM_ENOMEM, "out of memory");
  return DSTREAM_ENOMEM;
}

/* ---- life ---- */

void agent_config_defaults(struct agent_config *config) {
  memset(config, 0, sizeof *config);
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    enum option_type type = options[i].type;
    if (type == OPTION_NUMBER || type == OPTION_LEVEL)
      *(unsigned *)place_of(&options[i], config) = options[i].number;
  }
}

void agent_config_clear(struct agent_config *config) {
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    if (options[i].type == OPTION_TEXT || options[i].type == OPTION_FILE)
      cli_forget(*(char **)place_of(&options[i], config));
  }
  for (size_t i = 0; i < config->target_count; i++) {
    free(config->targets[i].name);
    free(config->targets[i].address);
  }
  for (size_t i = 0; i < config->allow_count; i++)
    free(config->allow[i]);
  free(config->targets);
  free(config->allow);
  memset(config, 0, sizeof *config);
}

/* ---- targets and patterns ---- */

static const struct agent_target *find_target(const struct agent_config *config,
                                              const char *name) {
  for (size_t i = 0; i < config->target_count; i++) {
    if (strcmp(config->targets[i].name, name) == 0)
      return &config->targets[i];
  }
  return NULL;
}

static int check_target(const struct agent_config *config, const char *name,
                        const char *address, struct dstream_end *error) {
  struct address parsed;
  struct dstream_end why = {0};
  struct printable visible = printable(name);
  if (!address_target_name_valid(name))
    end_set(error, DSTREAM_EFORMAT,
            "target \"%s\": a name is 1 to 128 letters, digits, \"-\", \".\" "
            "and \"_\"",
            visible.text);
  else if (find_target(config, name) != NULL)
    end_set(error, DSTREAM_EFORMAT, "target \"%s\" is there twice",
            visible.text);
  else if (config->target_count >= AGENT_ENTRIES_MAX)
    end_set(error, DSTREAM_EFORMAT, "there are more than %d targets",
            AGENT_ENTRIES_MAX);
  else if (address_parse(&parsed, address, &why) != DSTREAM_OK)
    end_set(error, DSTREAM_EFORMAT, "target \"%s\": %s", visible.text,
            why.text);
  else
    return DSTREAM_OK;
  return DSTREAM_EFORMAT;
}

/* Room for one more behind count: full at 0, 8, 16, 32, ... */
static void *room_for(void *array, size_t count, size_t size) {
  bool full = count == 0 || (count >= 8 && (count & (count - 1)) == 0);
  return full ? realloc(array, (count == 0 ? 8 : 2 * count) * size) : array;
}

int agent_config_add_target(struct agent_config *config, const char *name,
                            const char *address, struct dstream_end *error) {
  int status = check_target(config, name, address, error);
  if (status != DSTREAM_OK)
    return status;
  struct agent_target *grown =
      room_for(config->targets, config->target_count, sizeof *grown);
  if (grown == NULL)
    return out_of_memory(error);
  config->targets = grown;
  struct agent_target *target = &grown[config->target_count];
  *target =
      (struct agent_target){.name = strdup(name), .address = strdup(address)};
  config->target_count++;
  if (target->name == NULL || target->address == NULL)
    return out_of_memory(error);
  return DSTREAM_OK;
}

int agent_config_add_allow(struct agent_config *config, const char *pattern,
                           struct dstream_end *error) {
  struct allow_list list = {0};
  struct dstream_end why = {0};
  if (config->allow_count >= AGENT_ENTRIES_MAX) {
    end_set(error, DSTREAM_EFORMAT, "allow: there are more than %d patterns",
            AGENT_ENTRIES_MAX);
    return DSTREAM_EFORMAT;
  }
  int status = allow_parse(&list, &pattern, 1, &why);
  if (status == DSTREAM_ENOMEM)
    return out_of_memory(error);
  if (status != DSTREAM_OK) {
    end_set(error, DSTREAM_EFORMAT, "allow: %s", why.text);
    return DSTREAM_EFORMAT;
  }
  allow_clear(&list);
  char **grown = room_for(config->allow, config->allow_count, sizeof *grown);
  if (grown == NULL)
    return out_of_memory(error);
  config->allow = grown;
  grown[config->allow_count] = strdup(pattern);
  return grown[config->allow_count++] == NULL ? out_of_memory(error)
                                              : DSTREAM_OK;
}

/* ---- values ---- */

static int wrong(const struct option *option, const char *path,
                 struct dstream_end *error) {
  switch (option->type) {
  case OPTION_NUMBER:
    end_set(error, DSTREAM_EFORMAT, "%s must be a whole number from %u to %u",
            path, option->min, option->max);
    break;
  case OPTION_FLAG:
    end_set(error, DSTREAM_EFORMAT, "%s must be true or false", path);
    break;
  case OPTION_LEVEL:
    end_set(error, DSTREAM_EFORMAT,
            "%s must be \"error\", \"warning\", \"info\" or \"debug\"", path);
    break;
  case OPTION_TARGETS:
    end_set(error, DSTREAM_EFORMAT,
            "%s must be an object, { \"NAME\": \"ADDRESS\", ... }", path);
    break;
  case OPTION_ALLOW:
    end_set(error, DSTREAM_EFORMAT,
            "%s must be a list of texts, [ \"HOST:PORTS\", ... ]", path);
    break;
  case OPTION_TEXT:
  case OPTION_FILE:
    end_set(error, DSTREAM_EFORMAT,
            "%s must be a text of 1 to %d bytes without control characters",
            path, AGENT_CONFIG_TEXT_MAX - 1);
    break;
  }
  return DSTREAM_EFORMAT;
}

static bool text_valid(const char *text) {
  for (const char *p = text; *p != '\0'; p++) {
    if ((unsigned char)*p < 0x20 || *p == 0x7f)
      return false;
  }
  size_t len = strlen(text);
  return len >= 1 && len < AGENT_CONFIG_TEXT_MAX;
}

/* folder NULL: a file's path stays as it is. */
static int set_text(const struct option *option, void *base, const char *text,
                    const char *folder, struct dstream_end *error) {
  char path[2 * AGENT_CONFIG_TEXT_MAX];
  bool joined = option->type == OPTION_FILE && folder != NULL &&
                folder[0] != '\0' && text[0] != '/';
  if (!text_valid(text))
    return wrong(option, option->key, error);
  snprintf(path, sizeof path, "%.*s%s%s", AGENT_CONFIG_TEXT_MAX - 2,
           joined ? folder : "", joined ? "/" : "", text);
  char *copy = strdup(path);
  if (copy == NULL)
    return out_of_memory(error);
  char **place = place_of(option, base);
  cli_forget(*place);
  *place = copy;
  return DSTREAM_OK;
}

static bool read_number(const struct option *option, const cJSON *item,
                        void *base) {
  if (!cJSON_IsNumber(item) || !(item->valuedouble >= option->min) ||
      !(item->valuedouble <= option->max))
    return false;
  unsigned number = (unsigned)item->valuedouble;
  if ((double)number != item->valuedouble)
    return false;
  *(unsigned *)place_of(option, base) = number;
  return true;
}

static bool read_level(const struct option *option, const cJSON *item,
                       void *base) {
  if (!cJSON_IsString(item))
    return false;
  for (unsigned i = DSTREAM_LOG_ERROR; i <= DSTREAM_LOG_DEBUG; i++) {
    if (strcmp(item->valuestring, level_names[i]) == 0) {
      *(unsigned *)place_of(option, base) = i;
      return true;
    }
  }
  return false;
}

static bool read_flag(const struct option *option, const cJSON *item,
                      void *base) {
  if (!cJSON_IsBool(item))
    return false;
  *(bool *)place_of(option, base) = cJSON_IsTrue(item) != 0;
  return true;
}

/* ---- reading ---- */

static bool comes_before(const cJSON *object, const cJSON *item) {
  for (const cJSON *p = object->child; p != item; p = p->next) {
    if (strcmp(p->string, item->string) == 0)
      return true;
  }
  return false;
}

static int not_known(const char *path, struct dstream_end *error) {
  end_set(error, DSTREAM_EFORMAT,
          "%s is not known; \"dstream-agent --config-help\" lists what is",
          path);
  return DSTREAM_EFORMAT;
}

static int twice(const char *path, struct dstream_end *error) {
  end_set(error, DSTREAM_EFORMAT, "%s is there twice", path);
  return DSTREAM_EFORMAT;
}

static int read_target_option(struct agent_target *target, const cJSON *item,
                              const char *path, struct dstream_end *error) {
  for (size_t i = 0; i < TARGET_OPTION_COUNT; i++) {
    const struct option *option = &target_options[i];
    if (strcmp(option->key, item->string) == 0)
      return read_number(option, item, target) ? DSTREAM_OK
                                               : wrong(option, path, error);
  }
  return not_known(path, error);
}

static int read_target_object(struct agent_config *config, const cJSON *object,
                              struct dstream_end *error) {
  struct printable name = printable(object->string);
  const cJSON *address = cJSON_GetObjectItemCaseSensitive(object, "address");
  if (!cJSON_IsString(address)) {
    end_set(error, DSTREAM_EFORMAT,
            "targets.%s.address is missing or no text; it is what to connect "
            "to, such as \"127.0.0.1:22\"",
            name.text);
    return DSTREAM_EFORMAT;
  }
  int status = agent_config_add_target(config, object->string,
                                       address->valuestring, error);
  if (status != DSTREAM_OK)
    return status;
  struct agent_target *target = &config->targets[config->target_count - 1];
  const cJSON *item;
  cJSON_ArrayForEach(item, object) {
    char path[300];
    snprintf(path, sizeof path, "targets.%s.%s", name.text,
             printable(item->string).text);
    if (comes_before(object, item))
      return twice(path, error);
    if (item == address)
      continue;
    status = read_target_option(target, item, path, error);
    if (status != DSTREAM_OK)
      return status;
  }
  return DSTREAM_OK;
}

static int read_targets(struct agent_config *config, const cJSON *object,
                        struct dstream_end *error) {
  const cJSON *item;
  cJSON_ArrayForEach(item, object) {
    int status;
    if (cJSON_IsString(item)) {
      status = agent_config_add_target(config, item->string, item->valuestring,
                                       error);
    } else if (cJSON_IsObject(item)) {
      status = read_target_object(config, item, error);
    } else {
      end_set(error, DSTREAM_EFORMAT,
              "targets.%s must be an address, \"HOST:PORT\" or \"unix:PATH\", "
              "or an object with one in \"address\"",
              printable(item->string).text);
      status = DSTREAM_EFORMAT;
    }
    if (status != DSTREAM_OK)
      return status;
  }
  return DSTREAM_OK;
}

static int read_allow(struct agent_config *config, const struct option *option,
                      const cJSON *list, struct dstream_end *error) {
  const cJSON *item;
  cJSON_ArrayForEach(item, list) {
    if (!cJSON_IsString(item))
      return wrong(option, option->key, error);
    int status = agent_config_add_allow(config, item->valuestring, error);
    if (status != DSTREAM_OK)
      return status;
  }
  return DSTREAM_OK;
}

static int read_option(struct agent_config *config, const struct option *option,
                       const cJSON *item, const char *folder,
                       struct dstream_end *error) {
  bool good = false;
  switch (option->type) {
  case OPTION_NUMBER:
    good = read_number(option, item, config);
    break;
  case OPTION_FLAG:
    good = read_flag(option, item, config);
    break;
  case OPTION_LEVEL:
    good = read_level(option, item, config);
    break;
  case OPTION_TEXT:
  case OPTION_FILE:
    if (cJSON_IsString(item))
      return set_text(option, config, item->valuestring, folder, error);
    break;
  case OPTION_TARGETS:
    if (cJSON_IsObject(item))
      return read_targets(config, item, error);
    break;
  case OPTION_ALLOW:
    if (cJSON_IsArray(item))
      return read_allow(config, option, item, error);
    break;
  }
  return good ? DSTREAM_OK : wrong(option, option->key, error);
}

static int read_all(struct agent_config *config, const cJSON *root,
                    const char *folder, struct dstream_end *error) {
  const cJSON *item;
  cJSON_ArrayForEach(item, root) {
    size_t i = 0;
    while (i < OPTION_COUNT && strcmp(options[i].key, item->string) != 0)
      i++;
    struct printable key = printable(item->string);
    if (i == OPTION_COUNT)
      return not_known(key.text, error);
    if (comes_before(root, item))
      return twice(key.text, error);
    int status = read_option(config, &options[i], item, folder, error);
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

int agent_config_parse(struct agent_config *config, const char *text,
                       size_t len, const char *folder,
                       struct dstream_end *error) {
  if (len > 0 && memchr(text, '\0', len) != NULL) {
    end_set(error, DSTREAM_EFORMAT, "it holds a zero byte");
    return DSTREAM_EFORMAT;
  }
  char *copy = strndup(len > 0 ? text : "", len);
  if (copy == NULL)
    return out_of_memory(error);
  const char *stop = copy;
  cJSON *root = cJSON_ParseWithOpts(copy, &stop, true);
  int status = DSTREAM_EFORMAT;
  if (root == NULL)
    end_set(error, status, "line %u: it is no JSON", line_of(copy, stop));
  else if (!cJSON_IsObject(root))
    end_set(error, status, "it must be a JSON object, \"{ ... }\"");
  else
    status = read_all(config, root, folder, error);
  cJSON_Delete(root);
  cli_forget(copy);
  return status;
}

static int read_text(const char *path, char *text, size_t *len,
                     struct dstream_end *error) {
  FILE *file = fopen(path, "re");
  int status = DSTREAM_OK;
  int saved = errno;
  if (file == NULL) {
    status = saved == ENOENT ? DSTREAM_ENOTFOUND : DSTREAM_ESYSTEM;
  } else {
    *len = fread(text, 1, AGENT_CONFIG_FILE_MAX + 1, file);
    saved = errno;
    if (ferror(file))
      status = DSTREAM_ESYSTEM;
    else if (*len > AGENT_CONFIG_FILE_MAX)
      status = DSTREAM_ELIMIT;
    fclose(file);
  }
  if (status != DSTREAM_OK)
    end_set(error, status, "%s can't be read: %s", path,
            status == DSTREAM_ELIMIT ? "it is larger than 1 MB"
                                     : strerror(saved));
  return status;
}

/* "." for "agent.json". */
static char *folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL)
    return strdup(".");
  return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

int agent_config_load(struct agent_config *config, const char *path,
                      struct dstream_end *error) {
  char *folder = folder_of(path);
  char *text = malloc(AGENT_CONFIG_FILE_MAX + 1);
  size_t len = 0;
  int status = folder == NULL || text == NULL
                   ? out_of_memory(error)
                   : read_text(path, text, &len, error);
  if (status == DSTREAM_OK) {
    struct dstream_end why = {0};
    status = agent_config_parse(config, text, len, folder, &why);
    if (status != DSTREAM_OK)
      end_set(error, status, "%s: %s", path, why.text);
  }
  free(text);
  free(folder);
  return status;
}

/* ---- the command line ---- */

size_t agent_config_count(void) {
  return OPTION_COUNT;
}

const char *agent_config_flag(size_t i, bool *takes_value) {
  *takes_value = options[i].type != OPTION_FLAG;
  return options[i].flag;
}

int agent_config_set(struct agent_config *config, size_t i, const char *text,
                     struct dstream_end *error) {
  const struct option *option = &options[i];
  char flag[64];
  if (option->type == OPTION_FLAG) {
    *(bool *)place_of(option, config) = true;
    return DSTREAM_OK;
  }
  bool is_text = option->type == OPTION_TEXT || option->type == OPTION_FILE;
  if (is_text && text_valid(text))
    return set_text(option, config, text, NULL, error);
  if (!is_text &&
      cli_number(text, option->min, option->max, place_of(option, config)))
    return DSTREAM_OK;
  snprintf(flag, sizeof flag, "--%s", option->flag);
  return wrong(option, flag, error);
}

/* ---- using it ---- */

static bool same_text(const char *a, const char *b) {
  return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

const char *agent_config_needs_restart(size_t i, const struct agent_config *a,
                                       const struct agent_config *b) {
  const struct option *option = &options[i];
  bool same = true;
  if (!option->restart)
    return NULL;
  const void *left = value_of(option, a);
  const void *right = value_of(option, b);
  if (option->type == OPTION_NUMBER)
    same = *(const unsigned *)left == *(const unsigned *)right;
  else if (option->type == OPTION_FLAG)
    same = *(const bool *)left == *(const bool *)right;
  else
    same = same_text(*(char *const *)left, *(char *const *)right);
  return same ? NULL : option->key;
}

int agent_config_targets(const struct agent_config *config,
                         struct dstream_targets_options *out,
                         struct dstream_target **table) {
  struct dstream_target *targets =
      calloc(config->target_count + 1, sizeof *targets);
  if (targets == NULL)
    return DSTREAM_ENOMEM;
  for (size_t i = 0; i < config->target_count; i++) {
    const struct agent_target *from = &config->targets[i];
    targets[i] = (struct dstream_target){.name = from->name,
                                         .address = from->address,
                                         .max_streams = from->max_streams,
                                         .idle_timeout_s = (int)from->idle_s,
                                         .total_timeout_s = (int)from->total_s};
  }
  *out = (struct dstream_targets_options){
      .size = sizeof *out,
      .targets = targets,
      .target_count = config->target_count,
      .allow = (const char *const *)config->allow,
      .allow_count = config->allow_count,
      .max_streams = config->max_streams,
      .max_rate = config->max_rate,
      .burst = config->burst != 0 ? config->burst : 2 * config->max_rate,
      .idle_timeout_s = (int)config->idle_s,
      .total_timeout_s = (int)config->total_s,
      .connect_timeout_ms = (int)config->connect_timeout_s * 1000};
  *table = targets;
  return DSTREAM_OK;
}

/* ---- help ---- */

static void help_option(const char *prefix, const struct option *option,
                        FILE *out) {
  char path[64];
  snprintf(path, sizeof path, "%s%s", prefix, option->key);
  fprintf(out, "%-26s ", path);
  switch (option->type) {
  case OPTION_NUMBER:
    fprintf(out, "%u to %u, default %u", option->min, option->max,
            option->number);
    break;
  case OPTION_FLAG:
    fprintf(out, "true or false, default false");
    break;
  case OPTION_LEVEL:
    fprintf(out, "default \"%s\"", level_names[option->number]);
    break;
  case OPTION_TARGETS:
  case OPTION_ALLOW:
    fprintf(out, "at most %d, default: none", AGENT_ENTRIES_MAX);
    break;
  case OPTION_TEXT:
  case OPTION_FILE:
    fprintf(out, "optional");
    break;
  }
  fprintf(out, "\n    %s\n", option->meaning);
}

void agent_config_help(FILE *out) {
  for (size_t i = 0; i < OPTION_COUNT; i++) {
    help_option("", &options[i], out);
    if (options[i].type != OPTION_TARGETS)
      continue;
    fprintf(out, "%-26s required\n    what to connect to\n",
            "targets.NAME.address");
    for (size_t k = 0; k < TARGET_OPTION_COUNT; k++)
      help_option("targets.NAME.", &target_options[k], out);
  }
}
