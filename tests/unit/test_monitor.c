/* The monitor: what the broker says of devices becomes records; what it says
 * while parts of the hub are missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/monitor.h"

static char path[] = "/tmp/dstream-monitor-XXXXXX";
static struct config config;
static dstream_loop *loop;
static struct monitor *monitor;

static int setup(void **state) {
  (void)state;
  struct dstream_loop_options options = {.size = sizeof options};
  struct dstream_end error;
  int fd = mkstemp(path);
  config_defaults(&config);
  snprintf(config.host, sizeof config.host, "hub.example");
  snprintf(config.activity_log, sizeof config.activity_log, "%s", path);
  if (fd < 0 || dstream_loop_new(&loop, &options) != DSTREAM_OK)
    return -1;
  close(fd);
  return monitor_new(&monitor, loop, &config, &error);
}

static int teardown(void **state) {
  (void)state;
  monitor_free(monitor);
  dstream_loop_free(loop);
  unlink(path);
  memset(path + strlen(path) - 6, 'X', 6);
  return 0;
}

struct lines {
  size_t count;
  char last[4096];
};

static bool take(void *user, const char *json, size_t len) {
  struct lines *lines = user;
  lines->count++;
  snprintf(lines->last, sizeof lines->last, "%.*s", (int)len, json);
  return true;
}

static struct lines look(void) {
  struct lines lines = {.count = 0};
  struct activity_query query = {.limit = 100};
  activity_query(monitor_activity(monitor), &query, take, &lines, NULL, NULL);
  return lines;
}

static void expect_last(const char *text) {
  struct lines lines = look();
  if (strstr(lines.last, text) == NULL)
    fail_msg("no %s in %s", text, lines.last);
}

static void lines_about_refused_devices_are_records(void **state) {
  (void)state;
  monitor_broker_line(monitor, "device d-1 is refused: no such device");
  assert_int_equal(look().count, 1);
  expect_last("\\\"event\\\":\\\"refused\\\"");
  expect_last("\\\"deviceId\\\":\\\"d-1\\\"");
  expect_last("\\\"side\\\":\\\"device\\\"");
  expect_last("\"no such device\"");
  monitor_broker_line(monitor, "device d-1/m is refused for 10 s: it took its "
                               "own connection over 6 times within 10 s");
  expect_last("\\\"event\\\":\\\"limit\\\"");
  expect_last("\\\"moduleId\\\":\\\"m\\\"");
  expect_last("\"10 s: it took its own connection over");
  assert_int_equal(look().count, 2);
}

static void other_lines_are_none(void **state) {
  (void)state;
  static const char *const lines[] = {"",
                                      "device ",
                                      "device d-1 connected",
                                      "device d-1 is refused",
                                      "a device d-1 is refused: x",
                                      " is refused: x"};
  char big[1000];
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
    monitor_broker_line(monitor, lines[i]);
  memset(big, 'x', sizeof big);
  memcpy(big, "device ", 7);
  snprintf(big + 900, 100, " is refused: too long an id");
  monitor_broker_line(monitor, big);
  assert_int_equal(look().count, 0);
}

static void a_hub_that_is_not_there_is_described(void **state) {
  (void)state;
  const char *why = NULL;
  struct rest_admin_hub hub;
  struct monitor_parts parts = {.stopping = true};
  assert_false(monitor_ready(monitor, &why));
  assert_string_equal(why, "the hub does not listen yet");
  monitor_describe(monitor, &hub);
  assert_string_equal(hub.host, "hub.example");
  assert_false(hub.ready);
  assert_int_equal(hub.streams_running + hub.devices_connected, 0);
  monitor_look_at(monitor, &parts);
  assert_false(monitor_ready(monitor, &why));
  assert_string_equal(why, "the hub is stopping");
}

static void refusals_elsewhere_are_records(void **state) {
  (void)state;
  monitor_side_refused(monitor, "0123", true, "192.0.2.1:1", "it is over");
  expect_last("\\\"side\\\":\\\"stream\\\"");
  expect_last("\\\"peer\\\":\\\"192.0.2.1:1\\\"");
  expect_last("\\\"trackingId\\\":\\\"0123\\\"");
  assert_null(strstr(look().last, "streamId"));
  monitor_full(monitor, true, 12000);
  expect_last("\\\"event\\\":\\\"limit\\\"");
  expect_last("mqtt: a connection was refused, 12000 are open already");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(lines_about_refused_devices_are_records,
                                      setup, teardown),
      cmocka_unit_test_setup_teardown(other_lines_are_none, setup, teardown),
      cmocka_unit_test_setup_teardown(a_hub_that_is_not_there_is_described,
                                      setup, teardown),
      cmocka_unit_test_setup_teardown(refusals_elsewhere_are_records, setup,
                                      teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
