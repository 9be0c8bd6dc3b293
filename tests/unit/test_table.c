#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/container.h"
#include "hub/table.h"

enum { COUNT = 5000 };

struct thing {
  struct table_node node;
  unsigned number;
  bool inside;
};

static struct thing things[COUNT];
static struct table table;

static int set_up(void **state) {
  (void)state;
  memset(things, 0, sizeof things);
  for (unsigned i = 0; i < COUNT; i++)
    things[i].number = i;
  return table_init(&table) ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  table_end(&table);
  table_end(&table);
  return 0;
}

static uint64_t hash_of(unsigned number) {
  char key[16];
  snprintf(key, sizeof key, "device-%u", number);
  return table_hash(slice_of(key));
}

static void add(unsigned number, uint64_t hash) {
  table_add(&table, &things[number].node, hash);
  things[number].inside = true;
}

static void drop(unsigned number) {
  table_remove(&table, &things[number].node);
  things[number].inside = false;
  memset(&things[number].node, 0xa5, sizeof things[number].node);
}

static struct thing *find(unsigned number, uint64_t hash) {
  struct table_node *node = table_first(&table, hash);
  while (node != NULL &&
         CONTAINER_OF(node, struct thing, node)->number != number)
    node = table_next(node);
  return node == NULL ? NULL : CONTAINER_OF(node, struct thing, node);
}

static void expect_all(void) {
  size_t inside = 0;
  for (unsigned i = 0; i < COUNT; i++) {
    assert_ptr_equal(find(i, hash_of(i)), things[i].inside ? &things[i] : NULL);
    inside += things[i].inside;
  }
  assert_int_equal(table.count, inside);
}

static void test_add_and_remove(void **state) {
  (void)state;
  expect_all();
  for (unsigned i = 0; i < COUNT; i++)
    add(i, hash_of(i));
  expect_all();
  for (unsigned i = 0; i < COUNT; i += 3)
    drop(i);
  expect_all();
  for (unsigned i = 0; i < COUNT; i += 6)
    add(i, hash_of(i));
  expect_all();
}

/* It is no list: hardly any bucket holds more than a few. */
static void test_buckets_stay_short(void **state) {
  (void)state;
  for (unsigned i = 0; i < COUNT; i++)
    add(i, hash_of(i));
  assert_true(table.bucket_count >= COUNT / 2);
  for (size_t i = 0; i < table.bucket_count; i++) {
    int length = 0;
    for (struct table_node *n = table.buckets[i]; n != NULL; n = n->next)
      length++;
    assert_true(length <= 10);
  }
}

static void test_same_hash(void **state) {
  (void)state;
  for (unsigned i = 0; i < 200; i++)
    add(i, i % 2); /* and one bucket has both, before it has grown */
  for (unsigned i = 0; i < 200; i++)
    assert_ptr_equal(find(i, i % 2), &things[i]);
  assert_null(find(200, 0));
  assert_null(table_first(&table, 64));
  for (unsigned i = 0; i < 200; i += 2)
    drop(i);
  assert_null(table_first(&table, 0));
  assert_ptr_equal(find(199, 1), &things[199]);
}

static unsigned walk_all(bool remove) {
  struct table_walk walk = {0};
  struct table_node *node;
  unsigned seen = 0;
  while ((node = table_walk(&table, &walk)) != NULL) {
    struct thing *thing = CONTAINER_OF(node, struct thing, node);
    assert_true(thing->inside);
    seen++;
    if (remove)
      drop(thing->number);
  }
  assert_null(table_walk(&table, &walk));
  return seen;
}

static void test_walk(void **state) {
  (void)state;
  assert_int_equal(walk_all(false), 0);
  for (unsigned i = 0; i < COUNT; i++)
    add(i, hash_of(i));
  assert_int_equal(walk_all(false), COUNT);
  assert_int_equal(walk_all(true), COUNT);
  assert_int_equal(walk_all(true), 0);
  assert_int_equal(table.count, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_add_and_remove),
      TEST(test_buckets_stay_short),
      TEST(test_same_hash),
      TEST(test_walk),
  };
  return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
