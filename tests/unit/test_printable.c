#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/printable.h"

static void only_ascii_is_copied(void **state) {
  (void)state;
  char text[400];
  assert_string_equal(printable("a b~").text, "a b~");
  assert_string_equal(printable("a\n\x1b\x7f\xc3\xa9").text, "a?????");
  assert_string_equal(printable(NULL).text, "");
  memset(text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  assert_int_equal(strlen(printable(text).text), sizeof(struct printable) - 1);
}

static void a_line_obeys_nothing(void **state) {
  (void)state;
  char text[256];
  for (int i = 0; i < 255; i++)
    text[i] = (char)(i + 1);
  text[255] = '\0';
  printable_line(text);
  assert_int_equal(strlen(text), 255);
  for (int i = 0; i < 255; i++) {
    unsigned char c = (unsigned char)(i + 1);
    unsigned char is = (unsigned char)text[i];
    if (c >= 0x20 && c != 0x7f)
      assert_int_equal(is, c);
    else
      assert_int_equal(is, strchr("\t\n\v\f\r", c) != NULL ? ' ' : '?');
  }
}

static void a_line_keeps_other_languages(void **state) {
  (void)state;
  char text[] = "caf\xc3\xa9 \xe6\xb0\xb4 \xc2\xa0 \xc2\xb5";
  char copy[sizeof text];
  memcpy(copy, text, sizeof text);
  printable_line(text);
  assert_string_equal(text, copy);
  char controls[] = "\xc2\x80\xc2\x9b\xc2\x9f";
  printable_line(controls);
  assert_string_equal(controls, "??????");
  char cut[] = "x\xc2";
  printable_line(cut);
  assert_string_equal(cut, "x\xc2");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_ascii_is_copied),
      cmocka_unit_test(a_line_obeys_nothing),
      cmocka_unit_test(a_line_keeps_other_languages),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
