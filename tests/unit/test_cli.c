/* tools/cli.h: where the connection string comes from, and what is said. */
#include <fcntl.h>
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

#include "core/conn_string.h"
#include "tools/cli.h"

static char file[] = "/tmp/test_cli.XXXXXX";
static char errors[] = "/tmp/test_cli_err.XXXXXX";
static int old_stderr;

/* What the calls in between write to stderr goes to a file that stands for the
 * journal from the first test on. */
static int group_setup(void **state) {
  (void)state;
  char name[64];
  struct stat info;
  int fd = mkstemp(file);
  int err = mkstemp(errors);
  if (fd < 0 || err < 0 || fstat(err, &info) != 0)
    return -1;
  close(fd);
  old_stderr = dup(STDERR_FILENO);
  dup2(err, STDERR_FILENO);
  close(err);
  snprintf(name, sizeof name, "%llu:%llu", (unsigned long long)info.st_dev,
           (unsigned long long)info.st_ino);
  setenv("JOURNAL_STREAM", name, 1);
  unsetenv("DSTREAM_CONNECTION_STRING");
  unsetenv("DSTREAM_CA_FILE");
  cli_set_program("dstream test");
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  dup2(old_stderr, STDERR_FILENO);
  close(old_stderr);
  unlink(file);
  return unlink(errors);
}

static const char *said(void) {
  static char text[4096];
  int fd = open(errors, O_RDWR | O_CLOEXEC);
  ssize_t len = read(fd, text, sizeof text - 1);
  text[len < 0 ? 0 : len] = '\0';
  assert_int_equal(ftruncate(fd, 0), 0);
  close(fd);
  lseek(STDERR_FILENO, 0, SEEK_SET);
  return text;
}

static void write_file(const void *bytes, size_t len, mode_t mode) {
  int fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);
  assert_true(write(fd, bytes, len) == (ssize_t)len);
  assert_int_equal(fchmod(fd, mode), 0);
  close(fd);
}

static void test_journal(void **state) {
  (void)state;
  cli_log(NULL, DSTREAM_LOG_ERROR, "a");
  cli_log(NULL, DSTREAM_LOG_WARNING, "b");
  cli_log(NULL, DSTREAM_LOG_INFO, "c");
  cli_log(NULL, DSTREAM_LOG_DEBUG, "d");
  assert_string_equal(said(), "<3>a\n<4>b\n<6>c\n<7>d\n");
  assert_int_equal(cli_usage("%s is odd", "it"), CLI_USAGE);
  assert_string_equal(said(), "<3>it is odd; try \"dstream test --help\"\n");
  struct dstream_end end = {.status = DSTREAM_ENOMEM};
  assert_int_equal(cli_failed(&end), CLI_FAILED);
  assert_string_equal(said(), "<3>out of memory\n");
}

/* What is said may quote a peer, who may not forge a line of its own. */
static void test_one_line(void **state) {
  (void)state;
  cli_log(NULL, DSTREAM_LOG_INFO, "a\n<3>b\x1b[31mc\xc2\x9b");
  assert_string_equal(said(), "<6>a <3>b?[31mc??\n");
  cli_say("%s", "d\r\ne");
  assert_string_equal(said(), "<4>d  e\n");
}

static void test_number(void **state) {
  (void)state;
  static const char *const wrong[] = {
      "", "-1", "+1", " 1", "1 ", "x", "1x", "4", "11", "99999999999999999999"};
  unsigned number = 7;
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    assert_false(cli_number(wrong[i], 5, 10, &number));
  assert_int_equal(number, 7);
  assert_true(cli_number("5", 5, 10, &number));
  assert_int_equal(number, 5);
  assert_true(cli_number("10", 5, 10, &number));
  assert_int_equal(number, 10);
}

static void takes(const struct cli_source *source, const char *expected) {
  int status = -1;
  char *text = cli_connection_string(source, &status);
  assert_non_null(text);
  assert_string_equal(text, expected);
  assert_string_equal(said(), "");
  cli_forget(text);
}

static void refuses(const struct cli_source *source, int expected,
                    const char *why) {
  int status = -1;
  assert_null(cli_connection_string(source, &status));
  assert_int_equal(status, expected);
  assert_non_null(strstr(said(), why));
}

static void test_sources(void **state) {
  (void)state;
  static char huge[CONN_STRING_MAX + 10];
  const struct cli_source argument = {.connection_string = " a=b\n"};
  const struct cli_source blank = {.connection_string = " \t"};
  const struct cli_source none = {.connection_string = NULL};
  const struct cli_source path = {.connection_string_file = file};
  const struct cli_source missing = {.connection_string_file = "/none"};
  const struct cli_source both = {.connection_string = "a",
                                  .connection_string_file = file};
  takes(&argument, "a=b");
  refuses(&blank, CLI_USAGE, "--connection-string is empty");
  refuses(&both, CLI_USAGE, "exclude each other");
  refuses(&none, CLI_USAGE, "no connection string");
  refuses(&missing, CLI_FAILED, "/none: No such file");
  write_file("\n\t x=y;z= \r\n\n", 13, 0600);
  takes(&path, "x=y;z=");
  write_file(" \n", 2, 0600);
  refuses(&path, CLI_FAILED, "is empty");
  write_file("a\0b", 3, 0600);
  refuses(&path, CLI_FAILED, "zero byte");
  memset(huge, 'k', sizeof huge);
  write_file(huge, sizeof huge, 0600);
  refuses(&path, CLI_FAILED, "too long");
  write_file("x", 1, 0640);
  takes(&path, "x");
  setenv("DSTREAM_CONNECTION_STRING", "e=f", 1);
  takes(&argument, "a=b");
  takes(&none, "e=f");
  assert_null(getenv("DSTREAM_CONNECTION_STRING"));
}

static void test_readable(void **state) {
  (void)state;
  const struct cli_source path = {.connection_string_file = file};
  int status = -1;
  write_file("secret", 6, 0644);
  char *text = cli_connection_string(&path, &status);
  assert_string_equal(text, "secret");
  cli_forget(text);
  const char *line = said();
  assert_non_null(strstr(line, "chmod 600"));
  assert_null(strstr(line, "secret"));
}

/* What follows the line is left for whoever reads on. */
static void test_stdin(void **state) {
  (void)state;
  int ends[2];
  char rest[16] = "";
  const struct cli_source source = {.connection_string_file = "-"};
  int old = dup(STDIN_FILENO);
  assert_int_equal(pipe(ends), 0);
  assert_int_equal(write(ends[1], "key \nrest", 9), 9);
  close(ends[1]);
  dup2(ends[0], STDIN_FILENO);
  close(ends[0]);
  takes(&source, "key");
  assert_int_equal(read(STDIN_FILENO, rest, sizeof rest), 4);
  assert_string_equal(rest, "rest");
  refuses(&source, CLI_FAILED, "stdin is empty");
  dup2(old, STDIN_FILENO);
  close(old);
}

static void test_ca_file(void **state) {
  (void)state;
  const struct cli_source none = {.ca_file = NULL};
  const struct cli_source told = {.ca_file = "told"};
  assert_null(cli_ca_file(&none));
  setenv("DSTREAM_CA_FILE", "", 1);
  assert_null(cli_ca_file(&none));
  setenv("DSTREAM_CA_FILE", "named", 1);
  assert_string_equal(cli_ca_file(&none), "named");
  assert_string_equal(cli_ca_file(&told), "told");
}

static void test_hide(void **state) {
  (void)state;
  char secret[] = "HostName=h;key";
  char empty[] = "";
  cli_hide(secret);
  assert_memory_equal(secret, "*\0\0\0\0\0\0\0\0\0\0\0\0\0", sizeof secret);
  cli_hide(empty);
  cli_hide(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_journal), cmocka_unit_test(test_number),
      cmocka_unit_test(test_sources), cmocka_unit_test(test_readable),
      cmocka_unit_test(test_stdin),   cmocka_unit_test(test_ca_file),
      cmocka_unit_test(test_hide),    cmocka_unit_test(test_one_line),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
