#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/pairs.h"

static void walks(void **state) {
  (void)state;
  struct slice rest = SLICE_LITERAL("&a=1&&b=x=y=&=v&c&d=&");
  static const char *const want[][2] = {
      {"a", "1"}, {"b", "x=y="}, {"", "v"}, {"c", ""}, {"d", ""}};
  struct pair pair;
  for (size_t i = 0; i < 5; i++) {
    assert_true(pairs_next(&rest, '&', &pair));
    assert_true(slice_eq(pair.name, want[i][0]));
    assert_true(slice_eq(pair.value, want[i][1]));
    assert_non_null(pair.value.p);
  }
  assert_false(pairs_next(&rest, '&', &pair));
  assert_false(pairs_next(&rest, '&', &pair));
}

static void nothing_has_no_pairs(void **state) {
  (void)state;
  struct pair pair;
  struct slice rest = {NULL, 0};
  assert_false(pairs_next(&rest, ';', &pair));
  rest = SLICE_LITERAL(";;;");
  assert_false(pairs_next(&rest, ';', &pair));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(walks),
      cmocka_unit_test(nothing_has_no_pairs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
