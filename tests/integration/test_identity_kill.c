/* The identities survive SIGKILL at any point: a writer is killed again and
 * again, and what it had said to be done is done, and nothing is there by
 * half. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "hub/identity.h"

#define NOW    1700000000
#define ROUNDS 40
#define BATCH  30

static char folder[64];
static char path[96];

static int disable(struct identity_store *store, const char *id) {
  struct identity_device device;
  int status = identity_get(store, id, &device);
  device.enabled = false;
  return status == DSTREAM_OK ? identity_put(store, &device) : status;
}

/* One transaction.  Batch n has the devices "n-0" to "n-29". */
static int write_batch(struct identity_store *store, unsigned n) {
  char id[32];
  int status = identity_begin(store);
  for (unsigned i = 0; i < BATCH && status == DSTREAM_OK; i++) {
    snprintf(id, sizeof id, "%u-%u", n, i);
    status = identity_add(store, id, NOW, NULL);
  }
  /* The batch before last goes, the last one is disabled. */
  for (unsigned i = 0; i < BATCH && status == DSTREAM_OK; i++) {
    snprintf(id, sizeof id, "%u-%u", n - 2, i);
    if (n >= 2)
      status = identity_remove(store, id);
    snprintf(id, sizeof id, "%u-%u", n - 1, i);
    if (n >= 1 && status == DSTREAM_OK)
      status = disable(store, id);
  }
  return status == DSTREAM_OK ? identity_commit(store) : status;
}

/* Says each batch that is done, until it is killed. */
static void write_on(int said, unsigned from) {
  struct identity_store *store = NULL;
  if (identity_open(&store, path, false, NULL) != DSTREAM_OK)
    _exit(2);
  for (unsigned n = from;; n++) {
    if (write_batch(store, n) != DSTREAM_OK)
      _exit(3);
    if (write(said, &n, sizeof n) != (ssize_t)sizeof n)
      _exit(4);
  }
}

struct census {
  unsigned rows;
  unsigned newest;  /* batch */
  unsigned in_last; /* devices of that one */
};

static bool find_newest(void *user, const struct identity_device *device) {
  struct census *census = user;
  unsigned batch = (unsigned)strtoul(device->id, NULL, 10);
  census->rows++;
  if (batch > census->newest)
    census->newest = batch;
  return true;
}

static bool check_device(void *user, const struct identity_device *device) {
  struct census *census = user;
  unsigned batch = (unsigned)strtoul(device->id, NULL, 10);
  assert_true(batch + 1 >= census->newest);
  assert_true(device->enabled == (batch == census->newest));
  assert_int_equal(strlen(device->etag), IDENTITY_TAG_SIZE - 1);
  census->in_last += batch == census->newest ? 1 : 0;
  return true;
}

static void check_integrity(unsigned *rows) {
  sqlite3 *db = NULL;
  sqlite3_stmt *stmt = NULL;
  assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL),
                   SQLITE_OK);
  assert_int_equal(
      sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &stmt, NULL),
      SQLITE_OK);
  assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
  assert_string_equal((const char *)sqlite3_column_text(stmt, 0), "ok");
  sqlite3_finalize(stmt);
  assert_int_equal(
      sqlite3_prepare_v2(db, "SELECT count(*) FROM devices", -1, &stmt, NULL),
      SQLITE_OK);
  assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
  *rows = (unsigned)sqlite3_column_int(stmt, 0);
  sqlite3_finalize(stmt);
  sqlite3_close(db);
}

/* The newest batch that is there; said: the last one that was said to be done,
 * or -1. */
static unsigned check_batches(int64_t said) {
  struct identity_store *store = NULL;
  struct census census = {0};
  unsigned rows = 0;
  check_integrity(&rows);
  assert_int_equal(identity_open(&store, path, true, NULL), DSTREAM_OK);
  assert_int_equal(identity_list(store, NULL, 1000, find_newest, &census),
                   DSTREAM_OK);
  assert_int_equal(census.rows,
                   rows); /* a row that can't be read is left out */
  assert_int_equal(identity_list(store, NULL, 1000, check_device, &census),
                   DSTREAM_OK);
  identity_close(store);
  if (rows == 0) {
    assert_true(said < 0);
    return 0;
  }
  assert_true(said < 0 || (census.newest >= said && census.newest <= said + 1));
  assert_int_equal(census.in_last, BATCH);
  assert_int_equal(rows, census.newest == 0 ? BATCH : 2 * BATCH);
  return census.newest + 1;
}

static void test_kill(void **state) {
  unsigned next = 0;
  (void)state;
  srand(1);
  for (int round = 0; round < ROUNDS; round++) {
    int said[2];
    unsigned n = 0;
    int64_t last = (int64_t)next - 1;
    assert_int_equal(pipe(said), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
      write_on(said[1], next);
    close(said[1]);
    /* Some batches, and then anywhere within the next one or two. */
    for (int i = 0; i < 1 + round % 3; i++) {
      assert_int_equal(read(said[0], &n, sizeof n), sizeof n);
      last = n;
    }
    struct timespec a_while = {0, rand() % 4000000};
    nanosleep(&a_while, NULL);
    kill(pid, SIGKILL);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    while (read(said[0], &n, sizeof n) == (ssize_t)sizeof n)
      last = n;
    close(said[0]);
    next = check_batches(last);
  }
  assert_true(next > ROUNDS);
}

static int set_up(void **state) {
  struct identity_store *store = NULL;
  (void)state;
  snprintf(folder, sizeof folder, "/tmp/dstream-kill-XXXXXX");
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/identities.db", folder);
  assert_int_equal(identity_create(&store, path, NULL), DSTREAM_OK);
  identity_close(store);
  return 0;
}

static int tear_down(void **state) {
  static const char *const endings[] = {"", "-wal", "-shm"};
  char file[128];
  (void)state;
  for (size_t i = 0; i < 3; i++) {
    snprintf(file, sizeof file, "%s%s", path, endings[i]);
    unlink(file);
  }
  return rmdir(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_kill, set_up, tear_down)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
