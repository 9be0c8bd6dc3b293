#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/bucket.h"

static unsigned take_all(struct bucket *bucket, uint64_t now_ms) {
  unsigned n = 0;
  while (n < 100000 && bucket_take(bucket, now_ms))
    n++;
  return n;
}

static void gives_its_burst_once(void **state) {
  (void)state;
  struct bucket bucket;
  bucket_init(&bucket, 10, 50, 1000);
  assert_int_equal(take_all(&bucket, 1000), 50);
  assert_false(bucket_take(&bucket, 1000));
  assert_false(bucket_take(&bucket, 1099));
  assert_true(bucket_take(&bucket, 1100));
  assert_false(bucket_take(&bucket, 1100));
}

static void refills_no_further_than_full(void **state) {
  (void)state;
  struct bucket bucket;
  bucket_init(&bucket, 10, 50, 0);
  assert_int_equal(take_all(&bucket, 0), 50);
  assert_int_equal(take_all(&bucket, 2000), 20);
  assert_int_equal(take_all(&bucket, 2000 + 86400000), 50);
}

static void asking_often_costs_nothing(void **state) {
  (void)state;
  struct bucket bucket;
  bucket_init(&bucket, 3, 1, 0);
  unsigned n = 0;
  for (uint64_t now = 0; now < 10000; now++)
    n += bucket_take(&bucket, now) ? 1 : 0;
  /* 3 a second is one each 333 1/3 ms, of which the burst is the first; a
   * bucket of one can't save the third of a millisecond. */
  assert_int_equal(n, 30);
}

static void a_slow_rate_adds_up(void **state) {
  (void)state;
  struct bucket bucket;
  bucket_init(&bucket, 1, 5, 0);
  assert_int_equal(take_all(&bucket, 0), 5);
  unsigned n = 0;
  for (uint64_t now = 1; now <= 60000; now += 7)
    n += bucket_take(&bucket, now) ? 1 : 0;
  assert_int_equal(n, 59);
}

static void survives_odd_clocks(void **state) {
  (void)state;
  struct bucket bucket;
  bucket_init(&bucket, UINT32_MAX, UINT32_MAX, 0);
  for (int i = 0; i < 3; i++)
    assert_true(bucket_take(&bucket, 0));
  assert_true(bucket_take(&bucket, UINT64_MAX));
  assert_true(bucket.milli <= (uint64_t)UINT32_MAX * 1000);

  bucket_init(&bucket, 1000, 2, 5000);
  assert_int_equal(take_all(&bucket, 5000), 2);
  assert_false(bucket_take(&bucket, 4000)); /* back in time: nothing */
  assert_false(bucket_take(&bucket, 5000));
  assert_true(bucket_take(&bucket, 5001));
  assert_int_equal(take_all(&bucket, UINT64_MAX), 2);
}

static void takes_other_limits(void **state) {
  (void)state;
  struct bucket bucket;
  bucket_init(&bucket, 10, 50, 0);
  bucket_set(&bucket, 1, 5);
  assert_int_equal(take_all(&bucket, 0), 5);
  assert_int_equal(take_all(&bucket, 2000), 2);
  bucket_set(&bucket, 100, 1000);
  assert_int_equal(take_all(&bucket, 2000), 0);
  assert_int_equal(take_all(&bucket, 3000), 100);
  assert_int_equal(take_all(&bucket, 1000000), 1000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_its_burst_once),
      cmocka_unit_test(refills_no_further_than_full),
      cmocka_unit_test(asking_often_costs_nothing),
      cmocka_unit_test(a_slow_rate_adds_up),
      cmocka_unit_test(survives_odd_clocks),
      cmocka_unit_test(takes_other_limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
