#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/caps.h"

static void has_whole_names(void **state) {
  (void)state;
  assert_true(caps_has(SLICE_LITERAL("eof"), CAPS_EOF));
  assert_true(caps_has(SLICE_LITERAL("mux,eof"), "eof"));
  assert_true(caps_has(SLICE_LITERAL("mux, eof\t,x"), "eof"));
  assert_true(caps_has(SLICE_LITERAL(",,eof,"), "eof"));
  assert_false(caps_has(SLICE_LITERAL(""), "eof"));
  assert_false(caps_has((struct slice){NULL, 0}, "eof"));
  assert_false(caps_has(SLICE_LITERAL("eof2"), "eof"));
  assert_false(caps_has(SLICE_LITERAL("eo"), "eof"));
  assert_false(caps_has(SLICE_LITERAL("EOF"), "eof"));
  assert_false(caps_has(SLICE_LITERAL("e of"), "eof"));
  assert_false(caps_has(SLICE_LITERAL(",,"), ""));
}

static void intersects(void **state) {
  (void)state;
  static const char *const rows[][3] = {
      {"eof", "eof", "eof"},
      {"eof", "", ""},
      {"", "eof", ""},
      {"b,a,c", "a,b", "b,a"},
      {"eof,eof,eof", "eof", "eof"},
      {"eof&$rid=2,mux", "eof&$rid=2,mux", "mux"},
      {"eof\r\nX: y, mux", "eof\r\nX: y, mux", "mux"},
      {" a , b ", "b", "b"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char out[CAPS_SIZE];
    int n = caps_intersect(slice_of(rows[i][0]), slice_of(rows[i][1]), out,
                           sizeof out);
    assert_int_equal(n, strlen(rows[i][2]));
    assert_string_equal(out, rows[i][2]);
  }
}

static void keeps_to_its_room(void **state) {
  (void)state;
  struct slice list = SLICE_LITERAL("abc,de");
  char out[8];
  for (size_t room = 0; room <= 7; room++) {
    memset(out, '!', sizeof out);
    int n = caps_intersect(list, list, out, room);
    assert_int_equal(n, room == 7 ? 6 : DSTREAM_ELIMIT);
    assert_int_equal(out[room], '!');
  }
  assert_memory_equal(out, "abc,de", 7);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(has_whole_names),
      cmocka_unit_test(intersects),
      cmocka_unit_test(keeps_to_its_room),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
