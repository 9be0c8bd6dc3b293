/* That the hub hears of what other programs change in the identities, however
 * SQLite keeps its files, and looks at nothing while nothing changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "hub/identity.h"
#include "hub/identity_watch.h"
#include "integration/support_streams.h"
#include "net/loop.h"

/* A look without the system's word would come later than this. */
#define SOON_MS  4000
#define LOOKS_MS 1500 /* longer than the looks after a write go on */

static const struct identity_watch_times times = {
    .look = 50, .lively = 500, .quiet = 60000};

static struct {
  char folder[64];
  char path[96];
  struct identity_store *hub; /* read only, as the hub's */
  struct identity_store *other;
  struct identity_watch *watch;
  int looks;
  int changes;
} world;

static void on_look(void *user) {
  (void)user;
  world.looks++;
  if (identity_changed(world.hub))
    world.changes++;
}

static void open_other(void) {
  assert_int_equal(identity_open(&world.other, world.path, false, NULL), 0);
}

static void close_other(void) {
  identity_close(world.other);
  world.other = NULL;
}

static int set_up(void **state) {
  (void)state;
  memset(&world, 0, sizeof world);
  snprintf(world.folder, sizeof world.folder, "/tmp/dstream-watch-XXXXXX");
  assert_non_null(mkdtemp(world.folder));
  snprintf(world.path, sizeof world.path, "%s/identities.db", world.folder);
  assert_int_equal(identity_create(&world.other, world.path, NULL), 0);
  close_other();
  assert_int_equal(identity_open(&world.hub, world.path, true, NULL), 0);
  test_loop_start();
  return 0;
}

static int tear_down(void **state) {
  char path[128];
  static const char *const ends[] = {"", "-wal", "-shm", "-journal", ".log"};
  (void)state;
  identity_watch_free(world.watch);
  test_loop_end();
  close_other();
  identity_close(world.hub);
  for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
    snprintf(path, sizeof path, "%s%s", world.path, ends[i]);
    unlink(path);
  }
  return rmdir(world.folder);
}

static void start_watch(void) {
  assert_int_equal(identity_watch_new(&world.watch, test_loop, world.path,
                                      &times, on_look, NULL),
                   0);
}

/* Nothing looks any more. */
static void until_quiet(void) {
  uint64_t since_ms = loop_now_ms();
  int looks = world.looks;
  while (loop_now_ms() - since_ms < 300) {
    dstream_loop_step(test_loop, 50);
    if (world.looks != looks)
      since_ms = loop_now_ms();
    looks = world.looks;
  }
}

static void expect_change(int changes) {
  uint64_t since_ms = loop_now_ms();
  WAIT(world.changes > changes);
  assert_true(loop_now_ms() - since_ms < SOON_MS);
}

static void change(const char *id) {
  int changes = world.changes;
  assert_int_equal(identity_add(world.other, id, 1, NULL), 0);
  expect_change(changes);
}

static void sql(const char *path, const char *text) {
  sqlite3 *db = NULL;
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  sqlite3_busy_timeout(db, 5000);
  assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
}

/* By a program that stays, and by one that goes at once. */
static void test_changes(void **state) {
  (void)state;
  start_watch();
  until_quiet();
  open_other();
  for (int i = 0; i < 3; i++) {
    char id[16];
    snprintf(id, sizeof id, "stays%d", i);
    change(id);
  }
  until_quiet();
  change("later");
  close_other();
  until_quiet();
  open_other();
  int changes = world.changes;
  assert_int_equal(identity_add(world.other, "goes", 1, NULL), 0);
  close_other();
  expect_change(changes);
}

static void test_checkpoint(void **state) {
  (void)state;
  start_watch();
  open_other();
  change("one");
  sql(world.path, "PRAGMA wal_checkpoint(TRUNCATE)");
  until_quiet();
  change("two"); /* at the front of the log again */
}

static void close_hub(void) {
  identity_close(world.hub);
  world.hub = NULL;
}

static void open_hub(void) {
  assert_int_equal(identity_open(&world.hub, world.path, true, NULL), 0);
}

/* The last user of the database takes the log with it, if it may write. */
static void drop_log(void) {
  char wal[128];
  snprintf(wal, sizeof wal, "%s-wal", world.path);
  close_hub();
  sql(world.path, "PRAGMA wal_checkpoint(TRUNCATE)");
  assert_int_not_equal(access(wal, F_OK), 0);
}

static void test_log_made_anew(void **state) {
  (void)state;
  drop_log();
  start_watch(); /* on what is not there yet */
  open_hub();
  until_quiet();
  open_other();
  change("one");
  close_other();
  for (int i = 0; i < 2; i++) {
    drop_log();
    open_hub();
    until_quiet();
    open_other();
    change(i == 0 ? "two" : "three");
    close_other();
  }
}

/* A database that somebody took out of WAL mode. */
static void test_without_a_log(void **state) {
  (void)state;
  close_hub();
  sql(world.path, "PRAGMA journal_mode=DELETE");
  open_hub();
  start_watch();
  until_quiet();
  open_other();
  change("one");
}

/* Looks end, and neither they nor others' files begin them anew. */
static void test_quiet(void **state) {
  char path[128];
  (void)state;
  snprintf(path, sizeof path, "%s.log", world.path);
  start_watch();
  open_other();
  change("one");
  uint64_t since_ms = loop_now_ms();
  int before = world.looks;
  WAIT(world.looks >= before + 4); /* for a while it goes on */
  while (loop_now_ms() - since_ms < LOOKS_MS)
    dstream_loop_step(test_loop, 50);
  int looks = world.looks;
  int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  assert_true(fd >= 0);
  for (int i = 0; i < 20; i++) {
    assert_int_equal(write(fd, "line\n", 5), 5);
    dstream_loop_step(test_loop, 50);
  }
  close(fd);
  assert_int_equal(world.looks, looks);
  change("two");
}

/* No more often than that, however much is written. */
static void test_many_writes(void **state) {
  (void)state;
  start_watch();
  open_other();
  uint64_t since_ms = loop_now_ms();
  for (int i = 0; i < 100; i++) {
    char id[16];
    snprintf(id, sizeof id, "many%d", i);
    assert_int_equal(identity_add(world.other, id, 1, NULL), 0);
    dstream_loop_step(test_loop, 0);
  }
  uint64_t took_ms = loop_now_ms() - since_ms;
  assert_true((uint64_t)world.looks <= took_ms / times.look + 2);
  int changes = world.changes;
  assert_int_equal(identity_add(world.other, "last", 1, NULL), 0);
  expect_change(changes);
}

/* Where nothing is told, but nobody knows. */
static void test_looks_anyhow(void **state) {
  static const struct identity_watch_times often = {.quiet = 100};
  (void)state;
  assert_int_equal(identity_watch_new(&world.watch, test_loop, world.path,
                                      &often, on_look, NULL),
                   0);
  WAIT(world.looks >= 4);
}

/* Something could not be read: asked for again. */
static void test_again(void **state) {
  (void)state;
  start_watch();
  until_quiet();
  int looks = world.looks;
  identity_watch_again(world.watch);
  WAIT(world.looks == looks + 1);
}

/* Nothing is told: it looks by itself. */
static void test_deaf(void **state) {
  struct rlimit limit, none;
  (void)state;
  int fd = dup(0);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  none = limit;
  none.rlim_cur = (rlim_t)fd;
  close(fd);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  start_watch();
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
  WAIT(world.looks >= 4);
  open_other();
  change("one");
  int looks = world.looks;
  WAIT(world.looks >= looks + 4);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_changes),       TEST(test_checkpoint), TEST(test_log_made_anew),
      TEST(test_without_a_log), TEST(test_quiet),      TEST(test_many_writes),
      TEST(test_looks_anyhow),  TEST(test_again),      TEST(test_deaf),
  };
  const char *filter = getenv("DSTREAM_TEST");
  if (filter != NULL)
    cmocka_set_test_filter(filter);
  return cmocka_run_group_tests_name("identity_watch", tests, NULL, NULL);
}
