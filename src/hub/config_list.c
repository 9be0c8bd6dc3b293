#include <stdlib.h>
#include <string.h>

#include "hub/config_option.h"

static const char *type_name(enum config_type type) {
  switch (type) {
  case CONFIG_NUMBER:
    return "number";
  case CONFIG_FLAG:
    return "boolean";
  case CONFIG_HOSTS:
    return "array";
  default:
    return "string";
  }
}

/* As JSON; to be freed by the caller.  NULL: out of memory. */
static char *default_text(const struct config_option *option) {
  struct config config;
  config_defaults(&config);
  cJSON *item = config_option_write(option, &config);
  char *text = item == NULL ? NULL : cJSON_PrintUnformatted(item);
  cJSON_Delete(item);
  return text;
}

static bool required(const struct config_option *option) {
  return option->min > 0 && option->type != CONFIG_NUMBER &&
         option->text == NULL;
}

/* ---- for people ---- */

/* The words about an option; value is to be freed. */
struct words {
  char path[CONFIG_NAME_SIZE];
  char variable[CONFIG_NAME_SIZE];
  char allowed[128];
  char *value;
};

static int words_of(const struct config_option *option, struct words *out) {
  out->value = default_text(option);
  if (out->value == NULL)
    return DSTREAM_ENOMEM;
  config_option_path(option, out->path);
  config_option_variable(option, out->variable);
  config_option_allowed(option, out->allowed, sizeof out->allowed);
  return DSTREAM_OK;
}

static int list_text(const struct config_option *option, FILE *out) {
  struct words words;
  int status = words_of(option, &words);
  if (status != DSTREAM_OK)
    return status;
  fprintf(out, "%-30s %s, %s%s\n    %s\n    %s\n", words.path, words.allowed,
          required(option) ? "required" : "default ",
          required(option) ? "" : words.value, option->meaning, words.variable);
  cJSON_free(words.value);
  return DSTREAM_OK;
}

static int list_row(const struct config_option *option, FILE *out) {
  struct words words;
  int status = words_of(option, &words);
  if (status != DSTREAM_OK)
    return status;
  const char *quote = required(option) ? "" : "`";
  fprintf(out, "| `%s` | %s | %s | %s%s%s | `%s` |\n", words.path,
          option->meaning, words.allowed, quote,
          required(option) ? "required" : words.value, quote, words.variable);
  cJSON_free(words.value);
  return DSTREAM_OK;
}

static int list_all(FILE *out, int (*list)(const struct config_option *option,
                                           FILE *out)) {
  const struct config_option *option;
  int status = DSTREAM_OK;
  for (size_t i = 0;
       status == DSTREAM_OK && (option = config_option_at(i)) != NULL; i++)
    status = list(option, out);
  return status;
}

/* ---- for programs ---- */

static bool add_strings(cJSON *object, const struct config_option *option) {
  char path[CONFIG_NAME_SIZE];
  char variable[CONFIG_NAME_SIZE];
  char allowed[128];
  config_option_path(option, path);
  config_option_variable(option, variable);
  config_option_allowed(option, allowed, sizeof allowed);
  return cJSON_AddStringToObject(object, "name", path) != NULL &&
         cJSON_AddStringToObject(object, "type", type_name(option->type)) !=
             NULL &&
         cJSON_AddStringToObject(object, "allowed", allowed) != NULL &&
         cJSON_AddStringToObject(object, "meaning", option->meaning) != NULL &&
         cJSON_AddStringToObject(object, "environment", variable) != NULL;
}

static bool add_values(cJSON *object, const struct config_option *option) {
  if (required(option))
    return cJSON_AddTrueToObject(object, "required") != NULL;
  if (option->type == CONFIG_NUMBER &&
      (cJSON_AddNumberToObject(object, "minimum", option->min) == NULL ||
       cJSON_AddNumberToObject(object, "maximum", option->max) == NULL))
    return false;
  struct config config;
  config_defaults(&config);
  cJSON *value = config_option_write(option, &config);
  if (value != NULL && cJSON_AddItemToObject(object, "default", value))
    return true;
  cJSON_Delete(value);
  return false;
}

static int list_json(FILE *out) {
  cJSON *list = cJSON_CreateArray();
  bool ok = list != NULL;
  const struct config_option *option;
  for (size_t i = 0; ok && (option = config_option_at(i)) != NULL; i++) {
    cJSON *object = cJSON_CreateObject();
    ok = object != NULL && add_strings(object, option) &&
         add_values(object, option);
    if (!ok || !cJSON_AddItemToArray(list, object)) {
      cJSON_Delete(object);
      ok = false;
    }
  }
  char *text = ok ? cJSON_Print(list) : NULL;
  cJSON_Delete(list);
  if (text == NULL)
    return DSTREAM_ENOMEM;
  fprintf(out, "%s\n", text);
  cJSON_free(text);
  return DSTREAM_OK;
}

int config_list(FILE *out, enum config_list_form form) {
  switch (form) {
  case CONFIG_LIST_JSON:
    return list_json(out);
  case CONFIG_LIST_MARKDOWN:
    fputs("| option | what it is | allowed | default | variable |\n"
          "|---|---|---|---|---|\n",
          out);
    return list_all(out, list_row);
  case CONFIG_LIST_TEXT:
    return list_all(out, list_text);
  }
  return DSTREAM_OK;
}
