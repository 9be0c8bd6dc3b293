/* core/end: what it fills in, and that it never writes past its text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/end.h"

static void test_sets_and_clears(void **state) {
  (void)state;
  struct dstream_end end;
  memset(&end, 0xff, sizeof end);
  end_set(&end, DSTREAM_EIO, "%s, %d times", "broken", 3);
  assert_int_equal(end.status, DSTREAM_EIO);
  assert_string_equal(end.text, "broken, 3 times");
  assert_int_equal(end.sys_errno, 0);
  assert_int_equal(end.mqtt_code, 0);
  assert_int_equal(end.http_status, 0);
  assert_int_equal(end.hub_code, 0);
  assert_int_equal(end.ws_code, 0);
}

static void test_nothing_is_left_behind_the_text(void **state) {
  (void)state;
  static const char nothing[DSTREAM_TEXT_MAX];
  struct dstream_end end;
  end_set(&end, DSTREAM_EIO, "%s", "a long text that was there before");
  end_set(&end, DSTREAM_OK, "%s", "");
  assert_memory_equal(end.text, nothing, sizeof end.text);
}

static void test_cuts(void **state) {
  (void)state;
  char text[DSTREAM_TEXT_MAX + 50];
  for (size_t len = DSTREAM_TEXT_MAX - 3; len < sizeof text; len++) {
    struct {
      struct dstream_end end;
      char behind[8];
    } place;
    memset(&place, 0x5a, sizeof place);
    memset(text, 'x', len);
    text[len] = '\0';
    end_set(&place.end, DSTREAM_EHUB, "%s", text);
    size_t most = DSTREAM_TEXT_MAX - 1;
    assert_int_equal(strlen(place.end.text), len < most ? len : most);
    assert_memory_equal(place.behind, "\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a", 8);
  }
}

static void test_nobody_wants_to_know(void **state) {
  (void)state;
  end_set(NULL, DSTREAM_EIO, "%d", 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sets_and_clears),
      cmocka_unit_test(test_nothing_is_left_behind_the_text),
      cmocka_unit_test(test_cuts),
      cmocka_unit_test(test_nobody_wants_to_know),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
