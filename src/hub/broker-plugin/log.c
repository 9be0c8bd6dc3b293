#include <stdarg.h>
#include <stdio.h>

#include "hub/broker-plugin/plugin.h"

#define LINE_MAX_LEN  512
#define LOG_BURST     50
#define LOG_REFILL_MS 1000
#define LOG_REFILL    10

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

void plugin_log(char level, const char *format, ...) {
  va_list args;
  va_start(args, format);
  write_line(level, format, args);
  va_end(args);
}

static bool take_line(void) {
  uint64_t now = plugin_now_ms();
  uint64_t periods = (now - plugin.log_refill_ms) / LOG_REFILL_MS;
  if (periods > 0) {
    uint64_t lines = plugin.log_left + periods * LOG_REFILL;
    plugin.log_left = lines > LOG_BURST ? LOG_BURST : (unsigned)lines;
    plugin.log_refill_ms = now;
  }
  if (plugin.log_left == 0) {
    plugin.log_dropped++;
    return false;
  }
  plugin.log_left--;
  return true;
}

void plugin_log_limited(char level, const char *format, ...) {
  if (!take_line())
    return;
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
