/* hub/rest_path.h: what a REST target names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hub/rest_path.h"

static enum rest_route route(const char *target, struct rest_path *path) {
  rest_path_parse(path, slice_of(target));
  return path->route;
}

static void test_stream(void **state) {
  (void)state;
  struct rest_path p;
  assert_int_equal(route("/twins/dev-1/streams/echo", &p), REST_STREAM);
  assert_string_equal(p.device, "dev-1");
  assert_string_equal(p.module, "");
  assert_string_equal(p.name, "echo");
  assert_int_equal(
      route("/twins/d/streams/TestStream?api-version=2020-09-30", &p),
      REST_STREAM);
  assert_string_equal(p.name, "TestStream");
  assert_int_equal(route("/twins/d/modules/m/streams/n", &p), REST_STREAM);
  assert_string_equal(p.device, "d");
  assert_string_equal(p.module, "m");
  assert_string_equal(p.name, "n");
}

/* Split first, decode then. */
static void test_decoding(void **state) {
  (void)state;
  struct rest_path p;
  assert_int_equal(route("/twins/a%3Ab%2bc/streams/x%2Dy", &p), REST_STREAM);
  assert_string_equal(p.device, "a:b+c");
  assert_string_equal(p.name, "x-y");
  assert_int_equal(route("/twins/a+b/streams/x", &p), REST_STREAM);
  assert_string_equal(p.device, "a+b");
  assert_int_equal(route("/twins/a%2525/streams/x", &p), REST_STREAM);
  assert_string_equal(p.device, "a%25");
  assert_int_equal(route("/twins/a%2Fb/streams/x", &p), REST_BAD);
  assert_int_equal(route("/twins/a%3Fb/streams/x", &p), REST_STREAM);
  assert_string_equal(p.device, "a?b");
}

static void test_bad(void **state) {
  (void)state;
  static const char *const bad[] = {
      "/twins//streams/x",           "/twins/a%/streams/x",
      "/twins/a%0/streams/x",        "/twins/a%00/streams/x",
      "/twins/a%20b/streams/x",      "/twins/%C3%A4/streams/x",
      "/twins/a/streams/",           "/twins/a/streams/x%2Fy",
      "/twins/a/streams/x%26y",      "/twins/a/streams/x+y",
      "/twins/a/streams/x%23",       "/twins/a/streams/%0d%0ax",
      "/twins/a/modules//streams/x", "/twins/a/modules/%2F/streams/x",
  };
  struct rest_path p;
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    if (route(bad[i], &p) != REST_BAD)
      fail_msg("%s is taken", bad[i]);
  }
}

static void test_unknown(void **state) {
  (void)state;
  static const char *const unknown[] = {
      "",
      "/",
      "*",
      "twins/a/streams/x",
      "//",
      "/twins/a/streams/x/",
      "/twins/a",
      "/twins/a/stream/x",
      "/twins/a/b/streams/x",
      "/x?/twins/a/streams/x",
      "/a/b/c/d/e/f/g/h/i",
      "/twins/a/module/m/streams/x",
      "/healthz/",
      "http://h/twins/a/streams/x",
  };
  struct rest_path p;
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
    if (route(unknown[i], &p) != REST_UNKNOWN)
      fail_msg("%s is known", unknown[i]);
  }
  assert_int_equal(route("/healthz", &p), REST_HEALTH);
  assert_int_equal(route("/healthz?x=y", &p), REST_HEALTH);
}

static void test_lengths(void **state) {
  (void)state;
  struct rest_path p;
  char target[400];
  for (int len = 127; len <= 130; len++) {
    snprintf(target, sizeof target, "/twins/%.*s/streams/x", len,
             "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
             "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
             "aaaa");
    assert_int_equal(route(target, &p), len <= 128 ? REST_STREAM : REST_BAD);
  }
}

static int seconds(const char *text) {
  return rest_seconds(slice_of(text));
}

static void test_seconds(void **state) {
  (void)state;
  assert_int_equal(seconds("0"), 0);
  assert_int_equal(seconds("30"), 30);
  assert_int_equal(seconds("0.5"), 1);
  assert_int_equal(seconds("30.000"), 30);
  assert_int_equal(seconds("86400"), 86400);
  static const char *const bad[] = {
      "",   "-1", "+1", "1e3",  " 1",  "1 ",    ".",
      ".5", "1.", "x",  "0x10", "1,5", "86401", "99999999999999999999"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    if (seconds(bad[i]) != -1)
      fail_msg("\"%s\" is taken as %d", bad[i], seconds(bad[i]));
  }
}

static void test_registry(void **state) {
  (void)state;
  struct rest_path p;
  assert_int_equal(route("/devices", &p), REST_DEVICES);
  assert_int_equal(route("/devices/?api-version=2021-04-12", &p), REST_DEVICES);
  assert_int_equal(route("/devices/a%3Ab?api-version=1", &p), REST_DEVICE);
  assert_string_equal(p.device, "a:b");
  assert_int_equal(route("/devices/a%2Fb", &p), REST_BAD_DEVICE);
  assert_int_equal(route("/devices/a%20b", &p), REST_BAD_DEVICE);
  assert_int_equal(route("/statistics/devices?x", &p), REST_STATISTICS);
  assert_int_equal(route("/statistics", &p), REST_UNKNOWN);
  assert_int_equal(route("/devices/a/", &p), REST_UNKNOWN);
  assert_int_equal(route("/devices/a/modules/b", &p), REST_UNKNOWN);
  assert_int_equal(route("/device", &p), REST_UNKNOWN);
}

static int top(const char *target) {
  return rest_query_number(slice_of(target), "top", 7, 1000);
}

static void test_query_number(void **state) {
  (void)state;
  assert_int_equal(top("/devices"), 7);
  assert_int_equal(top("/devices?"), 7);
  assert_int_equal(top("/devices?stop=1&tops=2"), 7);
  assert_int_equal(top("/devices?top=1"), 1);
  assert_int_equal(top("/devices?a=b&top=1000&c"), 1000);
  static const char *const bad[] = {
      "/devices?top=",     "/devices?top=0",
      "/devices?top=1001", "/devices?top=-1",
      "/devices?top=1x",   "/devices?top",
      "/devices?top=+1",   "/devices?top=99999999999999999999"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(top(bad[i]), -1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_registry), cmocka_unit_test(test_query_number),
      cmocka_unit_test(test_stream),   cmocka_unit_test(test_decoding),
      cmocka_unit_test(test_bad),      cmocka_unit_test(test_unknown),
      cmocka_unit_test(test_lengths),  cmocka_unit_test(test_seconds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
