/* tools/human.h: amounts and times for people, and what they write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tools/human.h"

static int group_setup(void **state) {
  (void)state;
  setenv("TZ", "EST5", 1); /* five hours behind UTC */
  tzset();
  return 0;
}

static void test_bytes(void **state) {
  (void)state;
  static const struct {
    uint64_t bytes;
    const char *text;
  } cases[] = {
      {0, "0 B"},
      {999, "999 B"},
      {1000, "1.0 kB"},
      {12345, "12.3 kB"},
      {99949, "99.9 kB"},
      {99950, "100 kB"},
      {999499, "999 kB"},
      {999500, "1.0 MB"},
      {1234567890, "1.2 GB"},
      {UINT64_MAX, "18.4 EB"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char out[HUMAN_SIZE];
    human_bytes(out, cases[i].bytes);
    assert_string_equal(out, cases[i].text);
  }
}

static void test_durations(void **state) {
  (void)state;
  static const struct {
    uint64_t ms;
    const char *text;
  } cases[] = {
      {0, "0ms"},
      {999, "999ms"},
      {1000, "1.0s"},
      {9999, "9.9s"},
      {10000, "10s"},
      {59999, "59s"},
      {60000, "1m00s"},
      {3599999, "59m59s"},
      {3600000, "1h00m"},
      {86399999, "23h59m"},
      {86400000, "1d00h"},
      {442800000, "5d03h"},
      {UINT64_MAX, "213503982334d14h"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char out[HUMAN_SIZE];
    human_duration(out, cases[i].ms);
    assert_string_equal(out, cases[i].text);
  }
}

static void test_times(void **state) {
  (void)state;
  char out[HUMAN_SIZE];
  human_time(out, INT64_C(1767225600123));
  assert_string_equal(out, "2025-12-31 19:00:00");
  human_time(out, 0);
  assert_string_equal(out, "-");
  human_time(out, -1);
  assert_string_equal(out, "-");
  human_time(out, INT64_MAX);
  assert_true(strlen(out) < HUMAN_SIZE);
}

static void test_reads_times(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t ms; /* -1: it is none */
  } cases[] = {
      {"2026-01-01T00:00:00Z", INT64_C(1767225600000)},
      {"2026-01-01T00:00:00.123Z", INT64_C(1767225600123)},
      {"2026-01-01t00:00:00.1239z", INT64_C(1767225600123)},
      {"2026-01-01T01:00:00+01:00", INT64_C(1767225600000)},
      {"2025-12-31T23:30:00-00:30", INT64_C(1767225600000)},
      {"2024-02-29T00:00:00Z", INT64_C(1709164800000)},
      {"2026-02-29T00:00:00Z", -1},
      {"2026-13-01T00:00:00Z", -1},
      {"2026-01-01T24:00:00Z", -1},
      {"2026-01-01T00:60:00Z", -1},
      {"2026-01-01T00:00:00.Z", -1},
      {"2026-01-01T00:00:00", -1},
      {"2026-01-01", -1},
      {"2026-01-01T00:00:00Zx", -1},
      {"2026-01-01T00:00:00+1:00", -1},
      {"1969-12-31T00:00:00Z", -1},
      {"", -1},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int64_t ms = 0;
    bool read = human_read_time(cases[i].text, &ms);
    if (read != (cases[i].ms >= 0) || (read && ms != cases[i].ms))
      fail_msg("%s: %d, %lld", cases[i].text, read, (long long)ms);
  }
}

/* It is 10:00 UTC, 05:00 here. */
#define NOW INT64_C(1767261600000)

static void test_reads_since(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t ms; /* -1: it is none */
  } cases[] = {
      {"now", NOW},
      {"90s", NOW - 90000},
      {"10m", NOW - 600000},
      {"10min", NOW - 600000},
      {"2h", NOW - 7200000},
      {"3d", NOW - INT64_C(259200000)},
      {"1w", NOW - INT64_C(604800000)},
      {"36500d", 0},
      {"today", NOW - 5 * INT64_C(3600000)},
      {"yesterday", NOW - 29 * INT64_C(3600000)},
      {"2026-01-01T00:00:00Z", INT64_C(1767225600000)},
      {"2026-01-01 01:00:00+01:00", INT64_C(1767225600000)},
      {"2025-12-31T19:00:00", INT64_C(1767225600000)},
      {"2025-12-31 19:00", INT64_C(1767225600000)},
      {"2025-12-31", INT64_C(1767157200000)},
      {"36526d", -1},
      {"9999999999s", -1},
      {"10", -1},
      {"m", -1},
      {"-10m", -1},
      {"10m ", -1},
      {"10 m", -1},
      {"Today", -1},
      {"2026-1-1", -1},
      {"2026-01-01T", -1},
      {"", -1},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int64_t ms = -1;
    const char *wrong = human_read_since(cases[i].text, NOW, &ms);
    if ((wrong == NULL) != (cases[i].ms >= 0) ||
        (wrong == NULL && ms != cases[i].ms))
      fail_msg("%s: %lld, %s", cases[i].text, (long long)ms,
               wrong != NULL ? wrong : "fine");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_bytes),       cmocka_unit_test(test_durations),
      cmocka_unit_test(test_times),       cmocka_unit_test(test_reads_times),
      cmocka_unit_test(test_reads_since),
  };
  return cmocka_run_group_tests(tests, group_setup, NULL);
}
