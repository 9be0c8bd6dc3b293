#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/timers.h"

enum { COUNT = 200, STEPS = 200000 };

/* What the heap must do, done slowly. */
static struct timer_node *slow_first(struct timer_node *nodes) {
  struct timer_node *first = NULL;
  for (int i = 0; i < COUNT; i++) {
    struct timer_node *node = &nodes[i];
    if (node->set && (first == NULL || node->due < first->due ||
                      (node->due == first->due && node->order < first->order)))
      first = node;
  }
  return first;
}

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t bound) {
  random_state = random_state * 1664525 + 1013904223;
  return (random_state >> 8) % bound;
}

static void test_empty(void **state) {
  (void)state;
  struct timers timers = {0};
  struct timer_node node = {0};
  timers_remove(&timers, &node);
  assert_null(timers.first);
  timers_add(&timers, &node, 5);
  assert_ptr_equal(timers.first, &node);
  timers_remove(&timers, &node);
  timers_remove(&timers, &node);
  assert_null(timers.first);
}

static void test_same_time_in_order(void **state) {
  (void)state;
  struct timers timers = {0};
  struct timer_node nodes[9] = {0};
  for (int i = 0; i < 9; i++)
    timers_add(&timers, &nodes[i], 7);
  timers_add(&timers, &nodes[2], 7); /* once more: now it is the last */
  static const int order[] = {0, 1, 3, 4, 5, 6, 7, 8, 2};
  for (int i = 0; i < 9; i++) {
    assert_ptr_equal(timers.first, &nodes[order[i]]);
    timers_remove(&timers, timers.first);
  }
  assert_null(timers.first);
}

static void test_sorted(void **state) {
  (void)state;
  struct timers timers = {0};
  struct timer_node nodes[COUNT] = {0};
  for (int i = 0; i < COUNT; i++)
    timers_add(&timers, &nodes[i], random_below(50));
  uint64_t last = 0;
  for (int i = 0; i < COUNT; i++) {
    assert_true(timers.first->due >= last);
    last = timers.first->due;
    timers_remove(&timers, timers.first);
  }
  assert_null(timers.first);
}

static void test_against_a_slow_one(void **state) {
  (void)state;
  struct timers timers = {0};
  static struct timer_node nodes[COUNT];
  for (int i = 0; i < STEPS; i++) {
    struct timer_node *node = &nodes[random_below(COUNT)];
    uint32_t what = random_below(4);
    if (what < 2)
      timers_add(&timers, node, random_below(1000));
    else if (what == 2)
      timers_remove(&timers, node);
    else if (timers.first != NULL)
      timers_remove(&timers, timers.first);
    assert_ptr_equal(timers.first, slow_first(nodes));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_same_time_in_order),
      cmocka_unit_test(test_sorted),
      cmocka_unit_test(test_against_a_slow_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
