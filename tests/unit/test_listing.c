/* tools/listing.h: a table that fits, whatever is in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/listing.h"

static const struct listing_column columns[] = {
    {.title = "ID", .rank = 0, .least = 4, .plain = true},
    {.title = "NAME", .rank = 1, .least = 6},
    {.title = "BYTES", .rank = 2, .right = true},
    {.title = "WHY", .rank = 3, .least = 5},
};

static struct listing *listing;
static char *text;
static size_t text_len;

static int setup(void **state) {
  (void)state;
  return listing_new(&listing, columns, 4);
}

static int teardown(void **state) {
  (void)state;
  listing_free(listing);
  free(text);
  text = NULL;
  return 0;
}

static void add(const char *id, const char *name, const char *bytes,
                const char *why) {
  const char *const cells[] = {id, name, bytes, why};
  assert_int_equal(listing_add(listing, cells, false), 0);
}

static const char *print(const struct listing_style *style) {
  free(text);
  text = NULL;
  FILE *out = open_memstream(&text, &text_len);
  assert_non_null(out);
  listing_print(listing, out, style);
  assert_int_equal(fclose(out), 0);
  return text;
}

static const char *at_width(size_t width) {
  const struct listing_style style = {.width = width, .titles = true};
  return print(&style);
}

static void test_all_of_it(void **state) {
  (void)state;
  add("12345678", "pump", "7", "it was so");
  add("1", "pumpernickel", "12345678", "");
  static const char wanted[] = "ID        NAME             BYTES  WHY\n"
                               "12345678  pump                 7  it was so\n"
                               "1         pumpernickel  12345678\n";
  assert_string_equal(at_width(0), wanted);
  assert_string_equal(at_width(43), wanted);
}

/* The least important is cut first, and goes first. */
static void test_fits(void **state) {
  (void)state;
  add("12345678", "pumpernickel", "12345678", "it was so");
  assert_string_equal(at_width(42),
                      "ID        NAME             BYTES  WHY\n"
                      "12345678  pumpernickel  12345678  it was ~\n");
  assert_string_equal(at_width(39),
                      "ID        NAME             BYTES  WHY\n"
                      "12345678  pumpernickel  12345678  it w~\n");
  assert_string_equal(at_width(38), "ID        NAME            BYTES  WHY\n"
                                    "12345678  pumpernick~  12345678  it w~\n");
  assert_string_equal(at_width(28), "ID        NAME         BYTES\n"
                                    "12345678  pumpern~  12345678\n");
  assert_string_equal(at_width(22), "ID    NAME       BYTES\n"
                                    "1234  pumpe~  12345678\n");
  assert_string_equal(at_width(21), "ID        NAME\n"
                                    "12345678  pumpernick~\n");
  assert_string_equal(at_width(11), "ID\n12345678\n");
  assert_string_equal(at_width(5), "ID\n12345\n");
  assert_string_equal(at_width(1), "I\n1\n");
}

static void test_no_line_is_too_long(void **state) {
  (void)state;
  add("12345678", "pumpernickel", "12345678", "it was so");
  add("", "", "", "");
  add("1234567812345678", "x", "123", "a very long reason, which is so long");
  for (size_t width = 1; width < 120; width++) {
    const char *p = at_width(width);
    unsigned lines = 0;
    for (; *p != '\0'; p += strcspn(p, "\n") + 1, lines++)
      if (strcspn(p, "\n") > width)
        fail_msg("%zu: %s", width, text);
    assert_int_equal(lines, 4);
  }
}

static void test_what_terminals_obey(void **state) {
  (void)state;
  add("a\033[1mb\n", "\xc3\xa4\t", "\x7f", "\x9b");
  assert_string_equal(at_width(0), "ID       NAME  BYTES  WHY\n"
                                   "a?[1mb?  ???       ?  ?\n");
  for (const char *p = text; *p != '\0'; p++)
    assert_true(*p == '\n' || (*p >= ' ' && *p <= '~'));
}

static void test_pages(void **state) {
  (void)state;
  const struct listing_style style = {.width = 80};
  add("12345678", "pumpernickel", "1", "x");
  add("2", "y", "2", "z");
  const struct listing_style first = {.width = 80, .rows_max = 1};
  assert_string_equal(print(&first), "12345678  pumpernickel      1  x\n");
  listing_clear(listing);
  assert_int_equal(listing_count(listing), 0);
  assert_string_equal(print(&style), "");
  add("3", "y", "3", "z");
  assert_int_equal(listing_count(listing), 1);
  assert_string_equal(print(&style), "3         y                 3  z\n");
}

static void test_colours(void **state) {
  (void)state;
  const struct listing_style style = {.titles = true, .colours = true};
  const char *const cells[] = {"1", "2", "3", "4"};
  add("1", "2", "3", "4");
  assert_int_equal(listing_add(listing, cells, true), 0);
  assert_string_equal(print(&style), "\033[1mID  NAME  BYTES  WHY\033[0m\n"
                                     "1   2         3  4\n"
                                     "\033[31m1   2         3  4\033[0m\n");
}

static void test_many_rows(void **state) {
  (void)state;
  for (int i = 0; i < 1000; i++)
    add("1", "2", "3", "4");
  assert_int_equal(listing_count(listing), 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_all_of_it),
      TEST(test_fits),
      TEST(test_no_line_is_too_long),
      TEST(test_what_terminals_obey),
      TEST(test_pages),
      TEST(test_colours),
      TEST(test_many_rows),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
