/* The hub's metrics: what they count, and the form of the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/hub_error.h"
#include "hub/metrics.h"

static dstream_loop *loop;
static struct metrics *metrics;
static struct metrics_gauges now;
static char text[METRICS_TEXT_MAX];

static void gauges(void *user, struct metrics_gauges *out) {
  (void)user;
  *out = now;
}

static bool ready(void *user, const char **why) {
  (void)user;
  *why = "not yet";
  return false;
}

static int setup(void **state) {
  (void)state;
  struct dstream_loop_options options = {.size = sizeof options};
  static const struct metrics_options hooks = {.gauges = gauges,
                                               .ready = ready};
  now = (struct metrics_gauges){.version = "1.2.3"};
  return dstream_loop_new(&loop, &options) != DSTREAM_OK ||
         metrics_new(&metrics, loop, &hooks) != DSTREAM_OK;
}

static int teardown(void **state) {
  (void)state;
  metrics_free(metrics);
  dstream_loop_free(loop);
  return 0;
}

/* The value of a line that begins with name (and its labels). */
static double value_of(const char *name) {
  size_t len = metrics_text(metrics, text, sizeof text);
  assert_int_equal(len, strlen(text));
  size_t name_len = strlen(name);
  for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
    if (strncmp(line, name, name_len) == 0 && line[name_len] == ' ')
      return strtod(line + name_len, NULL);
  }
  fail_msg("no %s", name);
  return 0;
}

static void expect(const char *name, double value) {
  double got = value_of(name);
  if (got < value - 1e-9 || got > value + 1e-9)
    fail_msg("%s is %g, not %g", name, got, value);
}

static void tell(enum activity_event event, const char *stream_id,
                 int error_code) {
  struct activity_record record = {.event = event,
                                   .stream_id = stream_id,
                                   .stream_name = "ssh",
                                   .error_code = error_code};
  metrics_record(metrics, &record);
}

static void every_request_ends_in_one_place(void **state) {
  (void)state;
  static const struct {
    enum activity_event event;
    int error_code;
    const char *cause;
  } ends[] = {{ACTIVITY_TIMEOUT, HUB_ERROR_OFFLINE, "offline"},
              {ACTIVITY_TIMEOUT, HUB_ERROR_NO_ANSWER, "no_answer"},
              {ACTIVITY_TIMEOUT, 0, "incomplete"},
              {ACTIVITY_FAILED, 0, "incomplete"},
              {ACTIVITY_REJECTED, 0, "rejected"},
              {ACTIVITY_CANCELED, 0, "canceled"},
              {ACTIVITY_LIMIT, HUB_ERROR_THROTTLED, "limit"},
              {ACTIVITY_FAILED, HUB_ERROR_NO_DEVICE, "no_device"},
              {ACTIVITY_FAILED, HUB_ERROR_FORBIDDEN, "no_device"},
              {ACTIVITY_FAILED, HUB_ERROR_ARGUMENT, "bad_request"},
              {ACTIVITY_FAILED, HUB_ERROR_UNAVAILABLE, "unavailable"},
              {ACTIVITY_FAILED, HUB_ERROR_INTERNAL, "unavailable"}};
  size_t count = sizeof ends / sizeof ends[0];
  for (size_t i = 0; i < count; i++) {
    char name[80];
    snprintf(name, sizeof name, "dstream_streams_failed_total{cause=\"%s\"}",
             ends[i].cause);
    double before = value_of(name);
    tell(ACTIVITY_REQUEST, "id", 0);
    tell(ends[i].event, "id", ends[i].error_code);
    expect(name, before + 1);
    tell(ends[i].event, NULL, ends[i].error_code); /* refused at once */
    expect(name, before + 2);
  }
  tell(ACTIVITY_REQUEST, "id", 0);
  tell(ACTIVITY_ACCEPTED, "id", 0);
  tell(ACTIVITY_START, "id", 0);
  expect("dstream_requests_total", 2.0 * (double)count + 1);
  expect("dstream_streams_opened_total", 1);
  assert_true(metrics_totals(metrics).streams_failed == 2 * count);
  assert_true(metrics_totals(metrics).streams_opened == 1);
  expect("dstream_limits_hit_total", 2);
  struct activity_record full = {.event = ACTIVITY_LIMIT};
  metrics_record(metrics, &full); /* no room for a connection: no stream */
  expect("dstream_limits_hit_total", 3);
  expect("dstream_requests_total", 2.0 * (double)count + 1);
}

static void an_end_counts_bytes_and_time(void **state) {
  (void)state;
  struct activity_record end = {.event = ACTIVITY_END,
                                .ended_by = "service",
                                .duration_ms = 10001,
                                .bytes_to_device = 7,
                                .bytes_to_service = 9};
  metrics_record(metrics, &end);
  end.ended_by = NULL;
  end.duration_ms = 10000;
  metrics_record(metrics, &end);
  now.live_bytes_to_device = 100;
  expect("dstream_streams_ended_total{by=\"service\"}", 1);
  expect("dstream_streams_ended_total{by=\"hub\"}", 1);
  expect("dstream_stream_bytes_total{direction=\"to_device\"}", 114);
  expect("dstream_stream_bytes_total{direction=\"to_service\"}", 18);
  expect("dstream_stream_lifetime_seconds_bucket{le=\"1\"}", 0);
  expect("dstream_stream_lifetime_seconds_bucket{le=\"10\"}", 1);
  expect("dstream_stream_lifetime_seconds_bucket{le=\"60\"}", 2);
  expect("dstream_stream_lifetime_seconds_bucket{le=\"+Inf\"}", 2);
  expect("dstream_stream_lifetime_seconds_sum", 20.001);
  expect("dstream_stream_lifetime_seconds_count", 2);
}

static void a_histogram_has_a_last_bucket(void **state) {
  (void)state;
  struct activity_record start = {.event = ACTIVITY_START,
                                  .duration_ms = 60001};
  metrics_record(metrics, &start);
  expect("dstream_handshake_seconds_bucket{le=\"60\"}", 0);
  expect("dstream_handshake_seconds_bucket{le=\"+Inf\"}", 1);
  start.duration_ms = 0;
  metrics_record(metrics, &start);
  expect("dstream_handshake_seconds_bucket{le=\"0.005\"}", 1);
}

static void refusals_and_gauges_are_shown(void **state) {
  (void)state;
  static const char *const sides[] = {"device", "service", "stream"};
  for (int i = 0; i < 3; i++) {
    struct activity_record refused = {.event = ACTIVITY_REFUSED,
                                      .side = sides[i]};
    for (int k = 0; k <= i; k++)
      metrics_record(metrics, &refused);
  }
  expect("dstream_refused_total{side=\"device\"}", 1);
  expect("dstream_refused_total{side=\"service\"}", 2);
  expect("dstream_refused_total{side=\"stream\"}", 3);
  metrics_device_ready(metrics);
  metrics_broker_restarted(metrics);
  now.certificate_expires_s = 4102444800;
  now.broker_up = true;
  now.activity.lost = 4;
  expect("dstream_device_connections_total", 1);
  expect("dstream_broker_restarts_total", 1);
  expect("dstream_certificate_expiry_timestamp_seconds", 4102444800);
  expect("dstream_broker_up", 1);
  expect("dstream_activity_lost_total", 4);
  expect("dstream_build_info{version=\"1.2.3\"}", 1);
  assert_true(value_of("process_resident_memory_bytes") > 65536);
  assert_true(value_of("process_open_fds") >= 3);
  assert_true(value_of("process_max_fds") >= value_of("process_open_fds"));
  assert_true(value_of("process_start_time_seconds") > 1.6e9);
  assert_true(value_of("process_cpu_seconds_total") >= 0);
}

/* "# HELP name text", "# TYPE name type", then only lines of that name. */
static void check_line(const char *line, char *name, size_t size) {
  char word[8];
  char own[96];
  if (sscanf(line, "# %7s %95s", word, own) == 2) {
    if (strcmp(word, "HELP") == 0)
      snprintf(name, size, "%s", own);
    else
      assert_string_equal(name, own);
    return;
  }
  size_t len = strcspn(line, "{ ");
  assert_true(len >= strlen(name));
  assert_int_equal(strncmp(line, name, strlen(name)), 0);
  const char *space = strchr(line, ' ');
  assert_non_null(space);
  char *end = NULL;
  strtod(space + 1, &end);
  assert_true(end > space + 1);
  assert_int_equal(*end, '\0');
}

static void the_text_has_the_form(void **state) {
  (void)state;
  char name[96] = "?";
  size_t len = metrics_text(metrics, text, sizeof text);
  assert_true(len > 0);
  assert_int_equal(text[len - 1], '\n');
  char *rest = text;
  char *line;
  while ((line = strsep(&rest, "\n")) != NULL && rest != NULL)
    check_line(line, name, sizeof name);
  static char small[METRICS_TEXT_MAX];
  for (size_t size = 1; size < len; size += 97)
    assert_int_equal(metrics_text(metrics, small, size), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(every_request_ends_in_one_place, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(an_end_counts_bytes_and_time, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(a_histogram_has_a_last_bucket, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(refusals_and_gauges_are_shown, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(the_text_has_the_form, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
