/* core/slice: comparing bytes that have no zero at their end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/slice.h"

static void test_making(void **state) {
  (void)state;
  const char *text = "abc";
  struct slice s = slice_of(text);
  assert_ptr_equal(s.p, text);
  assert_int_equal(s.len, 3);
  assert_int_equal(slice_of("").len, 0);
  assert_int_equal(SLICE_LITERAL("ab\0c").len, 4);
  assert_int_equal(SLICE_LITERAL("").len, 0);
}

static void test_eq(void **state) {
  (void)state;
  assert_true(slice_eq(SLICE_LITERAL("abc"), "abc"));
  assert_false(slice_eq(SLICE_LITERAL("abc"), "ab"));
  assert_false(slice_eq(SLICE_LITERAL("ab"), "abc"));
  assert_false(slice_eq(SLICE_LITERAL("abc"), "abd"));
  assert_false(slice_eq(SLICE_LITERAL("abc"), "ABC"));
  assert_false(slice_eq(SLICE_LITERAL("ab\0c"), "ab"));
  /* Only its own bytes are looked at. */
  assert_true(slice_eq((struct slice){"abcdef", 3}, "abc"));
}

static void test_eq_nocase(void **state) {
  (void)state;
  assert_true(
      slice_eq_nocase(SLICE_LITERAL("Content-LENGTH"), "content-length"));
  assert_false(slice_eq_nocase(SLICE_LITERAL("Content"), "content-length"));
  assert_false(slice_eq_nocase(SLICE_LITERAL("content-length"), "content"));
  assert_false(slice_eq_nocase(SLICE_LITERAL("abc"), "abd"));
  assert_false(slice_eq_nocase(SLICE_LITERAL("["), "{")); /* 0x20 apart */
  assert_true(slice_eq_nocase((struct slice){"ABCdef", 3}, "abc"));
}

static void test_only(void **state) {
  (void)state;
  assert_true(slice_only(SLICE_LITERAL("azAZ09"), ""));
  assert_true(slice_only(SLICE_LITERAL("a-b.c"), "-."));
  assert_false(slice_only(SLICE_LITERAL("a-b"), "."));
  assert_false(slice_only(SLICE_LITERAL("a\0b"), "-."));
  assert_false(slice_only(SLICE_LITERAL("@[`{/:"), ""));
  assert_false(slice_only(SLICE_LITERAL("\xe4"), ""));
  assert_true(slice_only((struct slice){NULL, 0}, ""));
}

/* memcmp must not be given NULL, not even for no bytes. */
static void test_nothing(void **state) {
  (void)state;
  struct slice none = {NULL, 0};
  assert_true(slice_eq(none, ""));
  assert_true(slice_eq_nocase(none, ""));
  assert_false(slice_eq(none, "a"));
  assert_false(slice_eq_nocase(none, "a"));
  assert_false(slice_eq(SLICE_LITERAL("a"), ""));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_making),    cmocka_unit_test(test_eq),
      cmocka_unit_test(test_eq_nocase), cmocka_unit_test(test_only),
      cmocka_unit_test(test_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
