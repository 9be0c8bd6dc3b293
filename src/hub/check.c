#include "hub/check.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "core/printable.h"
#include "hub/config_option.h"
#include "hub/folder.h"

static const char *const level_names[] = {"ok", "warning", "error"};

void check_say(struct check_report *report, enum check_level level,
               const char *subject, const char *format, ...) {
  report->errors += level == CHECK_ERROR;
  report->warnings += level == CHECK_WARNING;
  if (report->count == CHECK_FINDINGS_MAX)
    return;
  struct check_finding *finding = &report->finding[report->count++];
  finding->level = level;
  finding->subject = subject;
  va_list args;
  va_start(args, format);
  vsnprintf(finding->text, sizeof finding->text, format, args);
  va_end(args);
  printable_line(finding->text);
}

static unsigned count_variables(void) {
  unsigned count = 0;
  const struct config_option *option;
  for (size_t i = 0; (option = config_option_at(i)) != NULL; i++) {
    char name[CONFIG_NAME_SIZE];
    size_t len;
    config_option_variable(option, name);
    len = strlen(name);
    for (char **p = environ; p != NULL && *p != NULL; p++)
      count += strncmp(*p, name, len) == 0 && (*p)[len] == '=';
  }
  return count;
}

static bool check_config(struct check_report *report, const char *directory,
                         struct config *config) {
  struct dstream_end end = {0};
  if (folder_enter(directory, config, &end) != DSTREAM_OK) {
    check_say(report, CHECK_ERROR, "configuration", "%s", end.text);
    return false;
  }
  unsigned count = count_variables();
  if (count == 0)
    check_say(report, CHECK_OK, "configuration", CONFIG_FILE " is valid");
  else
    check_say(report, CHECK_OK, "configuration",
              CONFIG_FILE " is valid, and so %s %u in the environment",
              count == 1 ? "is" : "are", count);
  return true;
}

void check_run(struct check_report *report, const char *directory,
               const char *plugin) {
  struct config config;
  memset(report, 0, sizeof *report);
  if (!check_config(report, directory, &config))
    return;
  check_certificate(report, &config);
  check_database(report, &config);
  check_broker(report, &config, plugin);
  check_ports(report, &config);
  check_files(report, &config);
}

void check_print(const struct check_report *report, FILE *out) {
  for (size_t i = 0; i < report->count; i++) {
    const struct check_finding *finding = &report->finding[i];
    fprintf(out, "%-7s %-13s %s\n", level_names[finding->level],
            finding->subject, finding->text);
  }
  if (report->errors == 0 && report->warnings == 0)
    fputs("nothing is wrong\n", out);
  else
    fprintf(out, "%u error%s, %u warning%s\n", report->errors,
            report->errors == 1 ? "" : "s", report->warnings,
            report->warnings == 1 ? "" : "s");
}

static bool add_finding(cJSON *list, const struct check_finding *finding) {
  cJSON *object = cJSON_CreateObject();
  if (object != NULL &&
      cJSON_AddStringToObject(object, "level", level_names[finding->level]) !=
          NULL &&
      cJSON_AddStringToObject(object, "subject", finding->subject) != NULL &&
      cJSON_AddStringToObject(object, "text", finding->text) != NULL &&
      cJSON_AddItemToArray(list, object))
    return true;
  cJSON_Delete(object);
  return false;
}

int check_print_json(const struct check_report *report, FILE *out) {
  cJSON *root = cJSON_CreateObject();
  cJSON *list = NULL;
  if (root != NULL &&
      cJSON_AddNumberToObject(root, "errors", report->errors) != NULL &&
      cJSON_AddNumberToObject(root, "warnings", report->warnings) != NULL)
    list = cJSON_AddArrayToObject(root, "findings");
  bool ok = list != NULL;
  for (size_t i = 0; ok && i < report->count; i++)
    ok = add_finding(list, &report->finding[i]);
  char *text = ok ? cJSON_Print(root) : NULL;
  cJSON_Delete(root);
  if (text == NULL)
    return DSTREAM_ENOMEM;
  fprintf(out, "%s\n", text);
  cJSON_free(text);
  return DSTREAM_OK;
}
