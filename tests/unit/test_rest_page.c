/* Pages of unordered lists, and the queries that ask for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/rest_page.h"
#include "hub/rest_query.h"

/* ---- pages ---- */

#define KEYS 1000

static char keys[KEYS][8];

/* All keys once, in an order that is none. */
static const char *shuffled(size_t i) {
  return keys[i * 617 % KEYS];
}

static void make_keys(void) {
  for (size_t i = 0; i < KEYS; i++)
    snprintf(keys[i], sizeof keys[i], "k%03zu", i);
}

/* One page; the cursor of the next, "" on the last; counts the items, which
 * must be those from `first` on. */
static size_t read_page(char *cursor, size_t size, size_t limit, size_t first) {
  struct rest_page page = {.after = cursor, .limit = limit};
  for (size_t i = 0; i < KEYS; i++)
    rest_page_offer(&page, shuffled(i));
  for (size_t i = 0; i < KEYS; i++) {
    cJSON **place = rest_page_place(&page, shuffled(i));
    if (place != NULL)
      *place = cJSON_CreateString(shuffled(i));
  }
  char *text = rest_page_format(&page, "list");
  assert_non_null(text);
  cJSON *object = cJSON_Parse(text);
  const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, "list");
  size_t count = (size_t)cJSON_GetArraySize(list);
  size_t n = first;
  const cJSON *item;
  cJSON_ArrayForEach(item, list)
      assert_string_equal(item->valuestring, keys[n++]);
  const cJSON *next = cJSON_GetObjectItemCaseSensitive(object, "cursor");
  snprintf(cursor, size, "%s", next == NULL ? "" : next->valuestring);
  cJSON_Delete(object);
  cJSON_free(text);
  return count;
}

static void pages_hold_every_item_once(void **state) {
  (void)state;
  static const size_t limits[] = {1, 7, 99, 100};
  make_keys();
  for (size_t i = 0; i < 4; i++) {
    char cursor[16] = "";
    size_t first = 0;
    do {
      size_t count = read_page(cursor, sizeof cursor, limits[i], first);
      assert_in_range(count, 1, limits[i]);
      first += count;
    } while (cursor[0] != '\0');
    assert_int_equal(first, KEYS);
  }
}

static void a_page_may_be_empty(void **state) {
  (void)state;
  struct rest_page page = {.after = "zzz", .limit = 10};
  rest_page_offer(&page, "abc");
  assert_null(rest_page_place(&page, "abc"));
  char *text = rest_page_format(&page, "list");
  assert_string_equal(text, "{\"list\":[]}");
  cJSON_free(text);
}

/* An item that could not be made must not look like the end of the list. */
static void a_missing_item_is_a_failure(void **state) {
  (void)state;
  struct rest_page page = {.after = "", .limit = 10};
  rest_page_offer(&page, "a");
  rest_page_offer(&page, "b");
  *rest_page_place(&page, "a") = cJSON_CreateString("a");
  assert_null(rest_page_format(&page, "list"));
}

/* ---- queries ---- */

static bool text_is(const char *target, const char *name, const char *want) {
  char out[8];
  bool found = rest_query_text(slice_of(target), name, out, sizeof out);
  assert_string_equal(out, want == NULL ? "" : want);
  return found == (want != NULL);
}

static void texts_are_found_and_decoded(void **state) {
  (void)state;
  assert_true(text_is("/a?x=1&y=2", "x", "1"));
  assert_true(text_is("/a?x=1&y=2", "y", "2"));
  assert_true(text_is("/a?x=1&x=2", "x", "1"));
  assert_true(text_is("/a?x=a%2Fb%20", "x", "a/b "));
  assert_true(text_is("/a?x=1234567", "x", "1234567"));
  assert_true(text_is("/a?x=12345678", "x", NULL)); /* too long */
  assert_true(text_is("/a?x=%zz", "x", NULL));
  assert_true(text_is("/a?x=%00", "x", NULL));
  assert_true(text_is("/a?x=", "x", NULL));
  assert_true(text_is("/a?xy=1", "x", NULL));
  assert_true(text_is("/a?", "x", NULL));
  assert_true(text_is("/a", "x", NULL));
  assert_true(text_is("", "x", NULL));
  assert_true(slice_eq(rest_query_path(slice_of("/a/b?c=/d")), "/a/b"));
  assert_true(slice_eq(rest_query_path(slice_of("/a/b")), "/a/b"));
}

static bool number_is(const char *target, uint64_t want) {
  uint64_t n = 0;
  return rest_query_integer(slice_of(target), "n", 1, 500, 100, &n) &&
         n == want;
}

static bool number_refused(const char *target) {
  uint64_t n = 0;
  return !rest_query_integer(slice_of(target), "n", 1, 500, 100, &n);
}

static void numbers_have_bounds(void **state) {
  (void)state;
  uint64_t big = 0;
  assert_true(number_is("/a", 100));
  assert_true(number_is("/a?m=3", 100));
  assert_true(number_is("/a?n=1", 1));
  assert_true(number_is("/a?n=500", 500));
  assert_true(number_refused("/a?n=0"));
  assert_true(number_refused("/a?n=501"));
  assert_true(number_refused("/a?n="));
  assert_true(number_refused("/a?n=-1"));
  assert_true(number_refused("/a?n=+1"));
  assert_true(number_refused("/a?n=1x"));
  assert_true(number_refused("/a?n=99999999999999999999999999"));
  assert_true(number_refused("/a?n=18446744073709551616"));
  assert_true(rest_query_integer(slice_of("/?n=18446744073709551615"), "n", 0,
                                 UINT64_MAX, 0, &big));
  assert_true(big == UINT64_MAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pages_hold_every_item_once),
      cmocka_unit_test(a_page_may_be_empty),
      cmocka_unit_test(a_missing_item_is_a_failure),
      cmocka_unit_test(texts_are_found_and_decoded),
      cmocka_unit_test(numbers_have_bounds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
