#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/percent.h"

static void every_byte_comes_back(void **state) {
  (void)state;
  char in[255], encoded[1024], out[256];
  for (int i = 1; i < 256; i++)
    in[i - 1] = (char)i;
  int n = percent_encode((struct slice){in, 255}, encoded, sizeof encoded);
  assert_int_equal(n, 66 + (255 - 66) * 3);
  for (const char *p = encoded; *p != '\0'; p++)
    assert_non_null(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ%-._~0123456789"
                           "abcdefghijklmnopqrstuvwxyz",
                           *p));
  size_t len;
  assert_int_equal(
      percent_decode((struct slice){encoded, (size_t)n}, out, sizeof out, &len),
      0);
  assert_int_equal(len, 255);
  assert_memory_equal(in, out, 255);
}

static void encodes_as_the_rfc_says(void **state) {
  (void)state;
  char out[64];
  assert_int_equal(
      percent_encode(SLICE_LITERAL("aZ9-._~ /+%\xff"), out, sizeof out), 22);
  assert_string_equal(out, "aZ9-._~%20%2F%2B%25%FF");
  assert_int_equal(percent_encode(SLICE_LITERAL(""), out, sizeof out), 0);
  assert_string_equal(out, "");
}

static void encode_keeps_to_its_room(void **state) {
  (void)state;
  char out[16];
  for (size_t room = 0; room <= 9; room++) {
    memset(out, 'x', sizeof out);
    int n = percent_encode(SLICE_LITERAL("a/b/"), out, room);
    assert_int_equal(n, room == 9 ? 8 : DSTREAM_ELIMIT);
    assert_int_equal(out[room], 'x');
    if (room > 0)
      assert_string_equal(out, room == 9 ? "a%2Fb%2F" : "");
  }
}

static void decodes(void **state) {
  (void)state;
  static const char *const rows[][2] = {
      {"", ""},         {"abc", "abc"},  {"a%20b", "a b"},
      {"%2f%2F", "//"}, {"a+b", "a+b"},  {"%252F", "%2F"},
      {"%7e~", "~~"},   {"%FF", "\xff"}, {"=&/?", "=&/?"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char out[16];
    size_t len;
    assert_int_equal(
        percent_decode(slice_of(rows[i][0]), out, sizeof out, &len), 0);
    assert_string_equal(out, rows[i][1]);
    assert_int_equal(len, strlen(rows[i][1]));
  }
}

static void decode_refuses(void **state) {
  (void)state;
  static const char *const bad[] = {"%",   "%2",    "a%",   "%%20", "%g0",
                                    "%0g", "%00",   "a%00", "% 2",  "%2 ",
                                    "%-1", "%0x20", "abc%"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char out[16] = "before";
    size_t len = 7;
    assert_int_equal(percent_decode(slice_of(bad[i]), out, sizeof out, &len),
                     DSTREAM_EFORMAT);
    assert_string_equal(out, "");
    assert_int_equal(len, 0);
  }
  char out[16];
  assert_int_equal(
      percent_decode((struct slice){"a\0b", 3}, out, sizeof out, NULL),
      DSTREAM_EFORMAT);
}

static void decode_keeps_to_its_room(void **state) {
  (void)state;
  char out[8];
  for (size_t room = 0; room <= 4; room++) {
    memset(out, 'x', sizeof out);
    int status = percent_decode(SLICE_LITERAL("a%2Fb"), out, room, NULL);
    assert_int_equal(status, room == 4 ? 0 : DSTREAM_ELIMIT);
    assert_int_equal(out[room], 'x');
  }
  assert_string_equal(out, "a/b");
}

static void decodes_in_place(void **state) {
  (void)state;
  char text[] = "%41%42c%44";
  assert_int_equal(percent_decode(slice_of(text), text, sizeof text, NULL), 0);
  assert_string_equal(text, "ABcD");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_byte_comes_back),
      cmocka_unit_test(encodes_as_the_rfc_says),
      cmocka_unit_test(encode_keeps_to_its_room),
      cmocka_unit_test(decodes),
      cmocka_unit_test(decode_refuses),
      cmocka_unit_test(decode_keeps_to_its_room),
      cmocka_unit_test(decodes_in_place),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
