/* core/ring: the same bytes come out in the same order, whatever the cuts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/ring.h"

static void test_empty(void **state) {
  (void)state;
  uint8_t buffer[4];
  struct ring ring = {.buffer = buffer, .size = sizeof buffer};
  size_t len = 99;
  assert_ptr_equal(ring_front(&ring, &len), buffer);
  assert_int_equal(len, 0);
  assert_int_equal(ring_free(&ring), 4);
  ring_put(&ring, "", 0);
  ring_drop(&ring, 0);
  assert_int_equal(ring_free(&ring), 4);
}

static void test_all_of_it_is_usable(void **state) {
  (void)state;
  uint8_t buffer[4];
  struct ring ring = {.buffer = buffer, .size = sizeof buffer};
  ring_put(&ring, "abcd", 4);
  assert_int_equal(ring_free(&ring), 0);
  size_t len = 0;
  assert_memory_equal(ring_front(&ring, &len), "abcd", 4);
  assert_int_equal(len, 4);
  ring_drop(&ring, 4);
  assert_int_equal(ring_free(&ring), 4);
  /* An empty one begins at the start again: what comes is in one piece. */
  assert_int_equal(ring.head, 0);
}

static void test_around_the_end(void **state) {
  (void)state;
  uint8_t buffer[4];
  struct ring ring = {.buffer = buffer, .size = sizeof buffer};
  ring_put(&ring, "abc", 3);
  ring_drop(&ring, 2);
  ring_put(&ring, "def", 3); /* d at the end, ef at the start */
  assert_int_equal(ring_free(&ring), 0);
  size_t len = 0;
  assert_memory_equal(ring_front(&ring, &len), "cd", 2);
  assert_int_equal(len, 2);
  ring_drop(&ring, 2);
  assert_memory_equal(ring_front(&ring, &len), "ef", 2);
  assert_int_equal(len, 2);
  ring_drop(&ring, 1);
  assert_memory_equal(ring_front(&ring, &len), "f", 1);
  assert_int_equal(len, 1);
}

/* Takes everything out in the pieces that ring_front gives, and compares. */
static void take_and_compare(struct ring *ring, uint8_t *next, size_t take) {
  while (take > 0) {
    size_t len = 0;
    const uint8_t *p = ring_front(ring, &len);
    assert_in_range(len, 1, ring->size);
    if (len > take)
      len = take;
    for (size_t i = 0; i < len; i++)
      assert_int_equal(p[i], (*next)++);
    ring_drop(ring, len);
    take -= len;
  }
}

static void test_every_size_and_step(void **state) {
  (void)state;
  for (size_t size = 1; size <= 17; size++) {
    for (size_t in = 1; in <= size; in++) {
      for (size_t out = 1; out <= size; out++) {
        uint8_t buffer[17 + 1];
        buffer[size] = 0xa5;
        struct ring ring = {.buffer = buffer, .size = size};
        uint8_t wrote = 0;
        uint8_t read = 0;
        for (int turn = 0; turn < 100; turn++) {
          uint8_t piece[17];
          size_t n = in < ring_free(&ring) ? in : ring_free(&ring);
          for (size_t i = 0; i < n; i++)
            piece[i] = wrote++;
          ring_put(&ring, piece, n);
          take_and_compare(&ring, &read, out < ring.len ? out : ring.len);
        }
        take_and_compare(&ring, &read, ring.len);
        assert_int_equal(read, wrote);
        assert_int_equal(buffer[size], 0xa5);
      }
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_all_of_it_is_usable),
      cmocka_unit_test(test_around_the_end),
      cmocka_unit_test(test_every_size_and_step),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
