#include <stdarg.h>
#include <stdio.h>

#include "hub/broker-plugin/plugin.h"

#define LINE_MAX_LEN     512
#define LINES_PER_SECOND 10
#define LINES_BURST      50

static int mosquitto_level(char level) {
  switch (level) {
  case 'E':
    return MOSQ_LOG_ERR;
  case 'W':
    return MOSQ_LOG_WARNING;
  default:
    return MOSQ_LOG_NOTICE;
  }
}

/* The broker prints no level on stderr: the hub reads ours from the prefix. */
static void write_line(char level, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

static void write_line(char level, const char *format, va_list args) {
  char line[LINE_MAX_LEN];
  vsnprintf(line, sizeof line, format, args);
  mosquitto_log_printf(mosquitto_level(level), "dstream %c %s", level, line);
}

void plugin_log_start(void) {
  bucket_init(&plugin.log_lines, LINES_PER_SECOND, LINES_BURST,
              plugin_now_ms());
}

void plugin_log(char level, const char *format, ...) {
  va_list args;
  va_start(args, format);
  write_line(level, format, args);
  va_end(args);
}

void plugin_log_limited(char level, const char *format, ...) {
  if (!bucket_take(&plugin.log_lines, plugin_now_ms())) {
    if (plugin.log_dropped++ == 0)
      plugin_want_tick();
    return;
  }
  va_list args;
  va_start(args, format);
  write_line(level, format, args);
  va_end(args);
}

void plugin_log_tick(void) {
  if (plugin.log_dropped == 0)
    return;
  plugin_log('W', "%u more lines like these were left out", plugin.log_dropped);
  plugin.log_dropped = 0;
}
