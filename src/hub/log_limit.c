#include "hub/log_limit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/container.h"

#define DEFAULT_PER_SECOND 2
#define DEFAULT_BURST      50
#define DEFAULT_REPORT_MS  10000
#define LINE_SIZE          512

void log_limit_init(struct log_limit *limit, dstream_loop *loop,
                    const char *what, const struct log_limit_options *options) {
  static const struct log_limit_options defaults;
  const struct log_limit_options *o = options == NULL ? &defaults : options;
  *limit = (struct log_limit){.loop = loop, .what = what};
  limit->report_ms = o->report_ms != 0 ? o->report_ms : DEFAULT_REPORT_MS;
  bucket_init(&limit->bucket,
              o->per_second != 0 ? o->per_second : DEFAULT_PER_SECOND,
              o->burst != 0 ? o->burst : DEFAULT_BURST, loop_now_ms());
}

static void report(struct log_limit *limit) {
  const char *colon = strstr(limit->what, ": ");
  const char *what = colon == NULL ? limit->what : colon + 2;
  if (limit->dropped > 0)
    loop_log(limit->loop, DSTREAM_LOG_WARNING,
             "%.*s%lu more lines about %s were left out",
             (int)(what - limit->what), limit->what, limit->dropped, what);
  limit->dropped = 0;
}

static void on_report(struct loop_timer *timer) {
  report(CONTAINER_OF(timer, struct log_limit, timer));
}

void log_limit_write(struct log_limit *limit, enum dstream_log_level level,
                     const char *format, ...) {
  if (!loop_logs(limit->loop, level))
    return;
  if (!bucket_take(&limit->bucket, loop_now_ms())) {
    if (limit->dropped++ == 0)
      loop_timer_set(limit->loop, &limit->timer, limit->report_ms, on_report);
    return;
  }
  char line[LINE_SIZE];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  loop_log(limit->loop, level, "%s", line);
}

void log_limit_end(struct log_limit *limit) {
  if (limit->loop == NULL)
    return;
  loop_timer_cancel(&limit->timer);
  report(limit);
}
