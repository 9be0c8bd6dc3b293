#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/backoff.h"

#define FULL UINT32_MAX

static void doubles_up_to_the_most(void **state) {
  (void)state;
  static const uint32_t want[] = {1000,  2000,  4000,  8000, 16000,
                                  32000, 60000, 60000, 60000};
  struct backoff b;
  backoff_init(&b, 1000, 60000);
  for (size_t i = 0; i < sizeof want / sizeof *want; i++)
    assert_int_equal(backoff_next(&b, i, FULL), want[i]);
  for (int i = 0; i < 1000; i++)
    assert_int_equal(backoff_next(&b, 100, FULL), 60000);
}

static void jitter_covers_the_whole_range(void **state) {
  (void)state;
  struct backoff b;
  backoff_init(&b, 1000, 60000);
  backoff_next(&b, 0, 0);
  backoff_next(&b, 0, 0);
  struct backoff same = b;
  assert_int_equal(backoff_next(&same, 0, 0), 0);
  same = b;
  assert_int_equal(backoff_next(&same, 0, FULL / 2 + 1), 2000);
  same = b;
  assert_int_equal(backoff_next(&same, 0, FULL), 4000);
}

static void a_long_life_ends_the_row(void **state) {
  (void)state;
  struct backoff b;
  backoff_init(&b, 1000, 60000);
  for (int i = 0; i < 5; i++)
    backoff_next(&b, 0, FULL);
  backoff_up(&b, 100000);
  assert_int_equal(backoff_next(&b, 100000 + BACKOFF_LIVED_MS, FULL), 1000);
  assert_int_equal(backoff_next(&b, 300000, FULL), 2000);
}

static void a_short_life_does_not(void **state) {
  (void)state;
  struct backoff b;
  backoff_init(&b, 1000, 60000);
  for (int i = 0; i < 4; i++)
    backoff_next(&b, 0, FULL);
  backoff_up(&b, 100000);
  assert_int_equal(backoff_next(&b, 99999 + BACKOFF_LIVED_MS, FULL), 16000);
  /* Time that passed without a connection is no life. */
  assert_int_equal(backoff_next(&b, 900000, FULL), 32000);
}

static void a_refused_identity_waits_longer(void **state) {
  (void)state;
  struct backoff b;
  backoff_init(&b, 1000, 60000);
  backoff_harder(&b);
  struct backoff same = b;
  assert_int_equal(backoff_next(&same, 0, 0), 1000);
  assert_int_equal(backoff_next(&b, 0, FULL), 4000);
  assert_int_equal(backoff_next(&b, 0, FULL), 8000);
  for (int i = 0; i < 10; i++)
    assert_in_range(backoff_next(&b, 0, FULL), 16000, 60000);
  assert_int_equal(backoff_next(&b, 0, 0), 1000);
  backoff_up(&b, 0);
  backoff_next(&b, BACKOFF_LIVED_MS, 0);
  assert_int_equal(backoff_next(&b, BACKOFF_LIVED_MS, 0), 0);
}

static void extremes_do_not_overflow(void **state) {
  (void)state;
  struct backoff b;
  backoff_init(&b, UINT32_MAX, UINT32_MAX);
  assert_int_equal(backoff_next(&b, UINT64_MAX, FULL), UINT32_MAX);
  backoff_harder(&b);
  assert_int_equal(backoff_next(&b, UINT64_MAX, FULL), UINT32_MAX);
  assert_int_equal(backoff_next(&b, UINT64_MAX, 0), UINT32_MAX);
  backoff_init(&b, 1, 1);
  for (int i = 0; i < 100; i++)
    assert_in_range(backoff_next(&b, 0, FULL), 0, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(doubles_up_to_the_most),
      cmocka_unit_test(jitter_covers_the_whole_range),
      cmocka_unit_test(a_long_life_ends_the_row),
      cmocka_unit_test(a_short_life_does_not),
      cmocka_unit_test(a_refused_identity_waits_longer),
      cmocka_unit_test(extremes_do_not_overflow),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
