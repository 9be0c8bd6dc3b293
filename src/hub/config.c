#include "hub/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "core/end.h"
#include "hub/config_option.h"

void config_defaults(struct config *config) {
  memset(config, 0, sizeof *config);
  const struct config_option *option;
  for (size_t i = 0; (option = config_option_at(i)) != NULL; i++)
    config_option_default(option, config);
}

enum dstream_log_level config_log_level(const struct config *config,
                                        enum log_part part) {
  unsigned own = config->log_parts[part];
  return (enum dstream_log_level)(own != 0 ? own : config->log_level);
}

/* A hub needs some, and for each connection and stream some. */
unsigned config_descriptors(const struct config *config) {
  return 1024 + 3 * config->limits.max_connections +
         2 * config->limits.max_streams;
}

/* ---- reading ---- */

/* name: the option's path, or the variable's. */
static int wrong(const struct config_option *option, const char *name,
                 struct dstream_end *error) {
  char allowed[128];
  config_option_allowed(option, allowed, sizeof allowed);
  end_set(error, DSTREAM_EFORMAT, "%s must be %s", name, allowed);
  return DSTREAM_EFORMAT;
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
  const char *inner = group == NULL ? config_group_find(item->string) : NULL;
  if (inner != NULL)
    return read_group(item, inner, config, error);
  const struct config_option *option = config_option_find(group, item->string);
  if (option == NULL) {
    end_set(error, DSTREAM_EFORMAT,
            "%s is not known; \"dstream-hub options\" lists what is", shown);
    return DSTREAM_EFORMAT;
  }
  if (config_option_read(option, item, config))
    return DSTREAM_OK;
  char path[CONFIG_NAME_SIZE];
  config_option_path(option, path);
  return wrong(option, path, error);
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

/* A host may be missing. */
static int read_text(struct config *config, const char *text, size_t len,
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
  cJSON_Delete(root);
  free(copy);
  return status;
}

static int check_host(const struct config *config, struct dstream_end *error) {
  if (config->host[0] != '\0')
    return DSTREAM_OK;
  end_set(error, DSTREAM_EFORMAT, "host is missing");
  return DSTREAM_EFORMAT;
}

int config_parse(struct config *config, const char *text, size_t len,
                 struct dstream_end *error) {
  int status = read_text(config, text, len, error);
  return status == DSTREAM_OK ? check_host(config, error) : status;
}

/* ---- the environment ---- */

/* Kubernetes gives every container variables for a service of the same name. */
static bool by_kubernetes(const char *variable) {
  const char *name = variable + strlen(CONFIG_ENVIRONMENT);
  return strncmp(name, "SERVICE_", 8) == 0 || strncmp(name, "PORT=", 5) == 0 ||
         strncmp(name, "PORT_", 5) == 0;
}

/* name: of a variable, of len bytes. */
static const struct config_option *option_of(const char *name, size_t len) {
  const struct config_option *option;
  for (size_t i = 0; (option = config_option_at(i)) != NULL; i++) {
    char own[CONFIG_NAME_SIZE];
    config_option_variable(option, own);
    if (strlen(own) == len && strncmp(name, own, len) == 0)
      break;
  }
  return option;
}

/* variable: "DSTREAM_HUB_NAME=VALUE". */
static int override(struct config *config, const char *variable,
                    struct dstream_end *error) {
  size_t len = strcspn(variable, "=");
  const struct config_option *option = option_of(variable, len);
  if (option == NULL && by_kubernetes(variable))
    return DSTREAM_OK;
  char name[CONFIG_NAME_SIZE];
  snprintf(name, sizeof name, "%.*s", (int)len, variable);
  if (option == NULL) {
    end_set(error, DSTREAM_EFORMAT,
            "%s in the environment is not known; \"dstream-hub options\" lists "
            "what is",
            name);
    return DSTREAM_EFORMAT;
  }
  const char *value = variable + len + (variable[len] == '=');
  cJSON *item = config_option_item(option, value);
  bool ok = item != NULL && config_option_read(option, item, config);
  cJSON_Delete(item);
  return ok ? DSTREAM_OK : wrong(option, name, error);
}

int config_override(struct config *config, char *const *environment,
                    struct dstream_end *error) {
  size_t len = strlen(CONFIG_ENVIRONMENT);
  for (; environment != NULL && *environment != NULL; environment++) {
    if (strncmp(*environment, CONFIG_ENVIRONMENT, len) != 0)
      continue;
    int status = override(config, *environment, error);
    if (status != DSTREAM_OK)
      return status;
  }
  return DSTREAM_OK;
}

/* ---- files ---- */

static int read_file(struct config *config, const char *path,
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
    status = read_text(config, text, len, &why);
    if (status != DSTREAM_OK)
      end_set(error, status, "%s: %s", path, why.text);
  }
  free(text);
  return status;
}

int config_load(struct config *config, const char *path,
                char *const *environment, struct dstream_end *error) {
  int status = read_file(config, path, error);
  if (status == DSTREAM_OK)
    status = config_override(config, environment, error);
  if (status == DSTREAM_OK && check_host(config, NULL) != DSTREAM_OK) {
    end_set(error, DSTREAM_EFORMAT, "%s: host is missing", path);
    status = DSTREAM_EFORMAT;
  }
  return status;
}

/* ---- writing ---- */

/* The object that an option belongs in, made if it is not there yet. */
static cJSON *object_of(const struct config_option *option, cJSON *root) {
  if (option->group == NULL)
    return root;
  cJSON *object = cJSON_GetObjectItemCaseSensitive(root, option->group);
  return object != NULL ? object : cJSON_AddObjectToObject(root, option->group);
}

char *config_format(const struct config *config) {
  cJSON *root = cJSON_CreateObject();
  bool ok = root != NULL;
  const struct config_option *option;
  for (size_t i = 0; ok && (option = config_option_at(i)) != NULL; i++) {
    cJSON *object = object_of(option, root);
    cJSON *item = object == NULL ? NULL : config_option_write(option, config);
    ok = item != NULL && cJSON_AddItemToObject(object, option->key, item);
  }
  char *text = ok ? cJSON_Print(root) : NULL;
  cJSON_Delete(root);
  return text;
}
