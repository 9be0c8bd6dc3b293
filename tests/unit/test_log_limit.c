#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/log_limit.h"

struct log {
  dstream_loop *loop;
  unsigned lines;
  unsigned reports;
  unsigned long left_out;
  char last[256];
};

static void take_line(void *user, enum dstream_log_level level,
                      const char *text) {
  struct log *log = user;
  unsigned long n = 0;
  int end = 0;
  sscanf(text, "rest: %lu more lines about noise were left out%n", &n, &end);
  if (end == 0) {
    log->lines++;
    snprintf(log->last, sizeof log->last, "%s", text);
    return;
  }
  assert_int_equal(level, DSTREAM_LOG_WARNING);
  assert_int_equal(text[end], '\0');
  log->reports++;
  log->left_out += n;
  dstream_loop_stop(log->loop);
}

static void new_log(struct log *log, enum dstream_log_level level) {
  memset(log, 0, sizeof *log);
  struct dstream_loop_options options = {.size = sizeof options,
                                         .log = take_line,
                                         .log_user = log,
                                         .log_level = level};
  assert_int_equal(dstream_loop_new(&log->loop, &options), DSTREAM_OK);
}

static void write_many(struct log_limit *limit, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    log_limit_write(limit, DSTREAM_LOG_INFO, "noise %u", i);
}

static const struct log_limit_options few = {
    .per_second = 1, .burst = 20, .report_ms = 20};

static void a_flood_is_cut_and_counted(void **state) {
  (void)state;
  struct log log;
  struct log_limit limit;
  new_log(&log, DSTREAM_LOG_INFO);
  log_limit_init(&limit, log.loop, "rest: noise", &few);
  write_many(&limit, 20);
  assert_int_equal(log.lines, 20);
  assert_string_equal(log.last, "noise 19");
  write_many(&limit, 5000);
  /* One more for each second that this took. */
  assert_in_range(log.lines, 20, 40);
  assert_int_equal(log.reports, 0); /* not one for each line */
  dstream_loop_run(log.loop);
  assert_int_equal(log.reports, 1);
  assert_int_equal(log.lines + log.left_out, 5020);

  /* The next flood is told of too. */
  write_many(&limit, 1000);
  dstream_loop_run(log.loop);
  assert_int_equal(log.reports, 2);
  assert_int_equal(log.lines + log.left_out, 6020);
  log_limit_end(&limit);
  assert_int_equal(log.reports, 2);
  dstream_loop_free(log.loop);
}

static void the_end_tells_what_is_left(void **state) {
  (void)state;
  struct log log;
  struct log_limit limit;
  struct log_limit_options options = few;
  options.report_ms = 3600000;
  new_log(&log, DSTREAM_LOG_INFO);
  log_limit_init(&limit, log.loop, "rest: noise", &options);
  write_many(&limit, 100);
  log_limit_end(&limit);
  assert_int_equal(log.reports, 1);
  assert_int_equal(log.lines + log.left_out, 100);
  log_limit_end(&limit);
  assert_int_equal(log.reports, 1);
  dstream_loop_free(log.loop);

  memset(&limit, 0, sizeof limit);
  log_limit_end(&limit);
}

static void lines_that_nobody_sees_cost_nothing(void **state) {
  (void)state;
  struct log log;
  struct log_limit limit;
  new_log(&log, DSTREAM_LOG_WARNING);
  log_limit_init(&limit, log.loop, "rest: noise", &few);
  write_many(&limit, 1000);
  log_limit_write(&limit, DSTREAM_LOG_WARNING, "%s", "100 %s");
  assert_int_equal(log.lines, 1);
  assert_string_equal(log.last, "100 %s");
  log_limit_end(&limit);
  assert_int_equal(log.reports, 0);
  dstream_loop_free(log.loop);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_flood_is_cut_and_counted),
      cmocka_unit_test(the_end_tells_what_is_left),
      cmocka_unit_test(lines_that_nobody_sees_cost_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
