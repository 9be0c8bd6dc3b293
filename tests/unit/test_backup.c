#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/backup.h"
#include "hub/folder.h"
#include "hub/init.h"

static char base[64];
static char hub[96];
static char copy[96];
static char elsewhere[PATH_MAX];
static struct config config;

static void run(const char *program, const char *arguments) {
  char command[256];
  snprintf(command, sizeof command, "%s %s", program, arguments);
  assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a test */
}

static int set_up(void **state) {
  (void)state;
  struct dstream_end end = {0};
  snprintf(base, sizeof base, "/tmp/dstream-backup-XXXXXX");
  assert_non_null(mkdtemp(base));
  snprintf(hub, sizeof hub, "%s/hub", base);
  snprintf(copy, sizeof copy, "%s/copy", base);
  elsewhere[0] = '\0';
  struct init_options options = {
      .directory = hub, .host = "localhost", .https_port = 1, .mqtt_port = 2};
  assert_int_equal(init_run(&options, &end), DSTREAM_OK);
  assert_int_equal(folder_enter(hub, &config, &end), DSTREAM_OK);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  assert_int_equal(chdir("/"), 0);
  run("rm -rf", base);
  return 0;
}

static void say(void *user, const char *left_out) {
  assert_ptr_equal(user, &config);
  snprintf(elsewhere, sizeof elsewhere, "%s", left_out);
}

static int backup(struct dstream_end *end) {
  return backup_make(&config, copy, say, &config, end);
}

static unsigned mode_of(const char *path) {
  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  return info.st_mode & 07777;
}

/* The copy is a hub's folder with all that was there when it was made, though
 * the database is open, and what came last is beside its file only. */
static void test_whole(void **state) {
  (void)state;
  struct dstream_end end = {0};
  struct identity_store *store = NULL;
  bool enabled = false;
  assert_int_equal(identity_open(&store, "identities.db", false, &end),
                   DSTREAM_OK);
  assert_int_equal(identity_add(store, "before", 1, NULL), DSTREAM_OK);
  assert_int_equal(backup(&end), DSTREAM_OK);
  assert_int_equal(identity_add(store, "after", 1, NULL), DSTREAM_OK);
  identity_close(store);
  assert_int_equal(mode_of(copy), 0700);
  static const char *const same[] = {"ca.pem", "ca-key.pem", "server.pem",
                                     "server-key.pem", "hub.json"};
  for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", copy, same[i]);
    assert_int_equal(mode_of(path), mode_of(same[i]));
    char both[200];
    snprintf(both, sizeof both, "%s %s", path, same[i]);
    run("cmp -s", both);
  }
  assert_int_equal(folder_enter(copy, &config, &end), DSTREAM_OK);
  assert_int_equal(mode_of("identities.db"), 0600);
  char head[20];
  int fd = open("identities.db", O_RDONLY);
  assert_int_equal(read(fd, head, sizeof head), sizeof head);
  close(fd);
  assert_int_equal(head[18], 2); /* WAL: its readers don't wait for writers */
  assert_int_equal(identity_open(&store, "identities.db", false, &end),
                   DSTREAM_OK);
  assert_int_equal(identity_known(store, "before", &enabled), DSTREAM_OK);
  assert_true(enabled);
  assert_int_equal(identity_known(store, "after", &enabled), DSTREAM_ENOTFOUND);
  identity_close(store);
}

static void test_never_overwrites(void **state) {
  (void)state;
  struct dstream_end end = {0};
  assert_int_equal(mkdir(copy, 0700), 0);
  assert_int_equal(backup(&end), DSTREAM_ESTATE);
  assert_non_null(strstr(end.text, copy));
  assert_int_equal(rmdir(copy), 0); /* it is empty as it was */
  snprintf(copy, sizeof copy, "%s/no/copy", base);
  assert_int_equal(backup(&end), DSTREAM_ESYSTEM);
}

static void test_leaves_nothing_behind(void **state) {
  (void)state;
  static const char *const needed[] = {"server.pem", "identities.db",
                                       "hub.json"};
  for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
    struct dstream_end end = {0};
    assert_int_equal(rename(needed[i], "away"), 0);
    assert_int_not_equal(backup(&end), DSTREAM_OK);
    assert_non_null(strstr(end.text, needed[i]));
    assert_int_equal(access(copy, F_OK), -1);
    assert_int_equal(rename("away", needed[i]), 0);
  }
}

/* The CA's key is best kept elsewhere; a certificate may be anywhere. */
static void test_what_is_not_there(void **state) {
  (void)state;
  struct dstream_end end = {0};
  assert_int_equal(unlink("ca-key.pem"), 0);
  snprintf(config.certificate_file, sizeof config.certificate_file,
           "/etc/server.pem");
  assert_int_equal(backup(&end), DSTREAM_OK);
  assert_string_equal(elsewhere, "/etc/server.pem");
  assert_int_equal(folder_enter(copy, &config, &end), DSTREAM_OK);
  assert_int_equal(access("ca-key.pem", F_OK), -1);
  assert_int_equal(access("server.pem", F_OK), -1);
  assert_int_equal(access("server-key.pem", F_OK), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_whole), TEST(test_never_overwrites),
      TEST(test_leaves_nothing_behind), TEST(test_what_is_not_there)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
