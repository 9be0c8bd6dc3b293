#include "tools/agent_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/container.h"
#include "core/printable.h"
#include "proxy/reason.h"
#include "tools/cli.h"

#define SAY_LEFT_OUT_MS 1000

static void begin_limit(struct agent_log_limit *limit, const char *what) {
  limit->what = what;
  bucket_init(&limit->bucket, AGENT_LOG_RATE, AGENT_LOG_BURST, loop_now_ms());
}

void agent_log_begin(struct agent_log *log, dstream_loop *loop) {
  begin_limit(&log->served, "streams opened and closed");
  begin_limit(&log->refused, "streams refused and failed");
  begin_limit(&log->library, "other events");
  log->loop = loop;
}

static void say_left_out(struct agent_log_limit *limit) {
  char text[128];
  loop_timer_cancel(&limit->timer);
  if (limit->left_out == 0)
    return;
  snprintf(text, sizeof text, "%u lines about %s were left out",
           limit->left_out, limit->what);
  limit->left_out = 0;
  cli_log(NULL, DSTREAM_LOG_WARNING, text);
}

static void on_left_out(struct loop_timer *timer) {
  say_left_out(CONTAINER_OF(timer, struct agent_log_limit, timer));
}

void agent_log_end(struct agent_log *log) {
  if (log->loop == NULL)
    return;
  say_left_out(&log->served);
  say_left_out(&log->refused);
  say_left_out(&log->library);
  log->loop = NULL;
}

static void limited(struct agent_log *log, struct agent_log_limit *limit,
                    enum dstream_log_level level, const char *text) {
  if (level > log->level)
    return;
  if (log->loop == NULL || bucket_take(&limit->bucket, loop_now_ms())) {
    cli_log(NULL, level, text);
    return;
  }
  if (limit->left_out++ == 0)
    loop_timer_set(log->loop, &limit->timer, SAY_LEFT_OUT_MS, on_left_out);
}

void agent_log_line(const struct agent_log *log, enum dstream_log_level level,
                    const char *format, ...) {
  char text[1024];
  va_list list;
  if (level > log->level)
    return;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  cli_log(NULL, level, text);
}

/* The library's news about single streams are in the events already; they and
 * its states are for those who want to see every step. */
void agent_log_library(void *user, enum dstream_log_level level,
                       const char *text) {
  struct agent_log *log = user;
  if (level == DSTREAM_LOG_INFO)
    level = DSTREAM_LOG_DEBUG;
  limited(log, &log->library, level, text);
}

/* ---- events ---- */

/* Whose log it is need not be said. */
static const char *why(const struct dstream_bridge_result *result) {
  if (result == NULL)
    return "";
  const char *text = result->end.text;
  if (strncmp(text, REASON_AGENT, strlen(REASON_AGENT)) == 0)
    text += strlen(REASON_AGENT);
  return text[0] != '\0' ? text : dstream_status_text(result->end.status);
}

static void closed(char *out, size_t size, const char *what,
                   const struct dstream_bridge_result *result) {
  bool good = result->end.status == DSTREAM_OK;
  snprintf(out, size,
           "closed %s after %llu.%03u s, %llu bytes in, %llu bytes out: %s",
           what, (unsigned long long)(result->duration_ms / 1000),
           (unsigned)(result->duration_ms % 1000),
           (unsigned long long)result->bytes_in,
           (unsigned long long)result->bytes_out,
           good && result->end.text[0] == '\0' ? "complete" : why(result));
}

void agent_log_event(struct agent_log *log,
                     const struct dstream_proxy_event *event) {
  char what[512];
  char text[1024];
  struct printable name = printable(event->name);
  bool has_address = event->address != NULL && event->address[0] != '\0' &&
                     strcmp(event->address, event->name) != 0;
  snprintf(what, sizeof what, "%s%s%.300s%s", name.text,
           has_address ? " (" : "", has_address ? event->address : "",
           has_address ? ")" : "");
  switch (event->kind) {
  case DSTREAM_PROXY_REFUSED:
    snprintf(text, sizeof text, "refused %s: %s", name.text,
             why(event->result));
    limited(log, &log->refused, DSTREAM_LOG_WARNING, text);
    break;
  case DSTREAM_PROXY_FAILED:
    snprintf(text, sizeof text, "failed %s: %s", name.text, why(event->result));
    limited(log, &log->refused, DSTREAM_LOG_WARNING, text);
    break;
  case DSTREAM_PROXY_OPENED:
    snprintf(text, sizeof text, "opened %s, %u open", what, event->open);
    limited(log, &log->served, DSTREAM_LOG_INFO, text);
    break;
  case DSTREAM_PROXY_CLOSED:
    closed(text, sizeof text, what, event->result);
    limited(log, &log->served, DSTREAM_LOG_INFO, text);
    break;
  }
}
