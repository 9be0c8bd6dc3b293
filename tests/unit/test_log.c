/* The hub's log where it can't be written: lost lines are counted and told. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/log.h"

static struct hub_log log_;
static char path[] = "/tmp/dstream-log-XXXXXX";

static int setup(void **state) {
  (void)state;
  log_ = (struct hub_log){.fd = mkstemp(path)};
  return log_.fd < 0;
}

static int teardown(void **state) {
  (void)state;
  close(log_.fd);
  unlink(path);
  memset(path + strlen(path) - 6, 'X', 6);
  return 0;
}

/* What the file holds; the stamps are cut off. */
static const char *lines(void) {
  static char text[8192];
  char line[2048];
  size_t len = 0;
  text[0] = '\0';
  FILE *file = fopen(path, "re");
  assert_non_null(file);
  while (fgets(line, sizeof line, file) != NULL) {
    const char *from = strstr(line, "Z ");
    from = from == NULL ? line : from + 2;
    assert_true(len + strlen(from) < sizeof text);
    memcpy(text + len, from, strlen(from) + 1);
    len += strlen(from);
  }
  fclose(file);
  return text;
}

static void limit_file(rlim_t bytes) {
  struct rlimit limit;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
  limit.rlim_cur = bytes;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void say(const char *text) {
  hub_log_write(&log_, DSTREAM_LOG_INFO, text);
}

static void test_lines(void **state) {
  (void)state;
  static char big[4000];
  memset(big, 'x', sizeof big - 1);
  say("one");
  hub_log_write(&log_, DSTREAM_LOG_ERROR, "broker: two");
  say(big);
  char want[1100];
  snprintf(want, sizeof want,
           "info hub: one\nerror broker: two\ninfo hub: "
           "%.1000s\n",
           big);
  assert_string_equal(lines(), want);
}

static void test_journal(void **state) {
  (void)state;
  log_.journal = true;
  say("one");
  hub_log_write(&log_, DSTREAM_LOG_ERROR, "broker: two");
  hub_log_write(&log_, DSTREAM_LOG_WARNING, "three: four");
  hub_log_write(&log_, DSTREAM_LOG_DEBUG, "rest: five");
  assert_string_equal(lines(),
                      "<6>hub: one\n<3>broker: two\n<4>hub: three: four\n"
                      "<7>rest: five\n");
}

static void test_lost(void **state) {
  (void)state;
  say("before");
  off_t size = lseek(log_.fd, 0, SEEK_END);
  limit_file((rlim_t)size);
  say("lost 1");
  say("lost 2");
  assert_int_equal(log_.lost, 2);
  assert_string_equal(lines(), "info hub: before\n");
  limit_file(RLIM_INFINITY);
  say("after");
  say("and on");
  assert_string_equal(lines(), "info hub: before\nwarning hub: 2 lines were "
                               "lost: File too large\ninfo hub: after\n"
                               "info hub: and on\n");
}

/* There is room for a part of a line, then for a part of what tells of it. */
static void test_cut(void **state) {
  (void)state;
  limit_file(40);
  say("this one is cut somewhere");
  limit_file(60);
  say("lost");
  say("lost");
  assert_int_equal(log_.lost, 3);
  limit_file(RLIM_INFINITY);
  say("after");
  const char *text = lines();
  const char *told = strstr(text, "\nwarning hub: 3 lines were lost: ");
  assert_non_null(told);
  assert_non_null(strstr(told, "\ninfo hub: after\n"));
}

static void test_no_reader(void **state) {
  (void)state;
  int ends[2];
  assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  struct hub_log piped = {.fd = ends[1]};
  while (piped.lost < 3)
    hub_log_write(&piped, DSTREAM_LOG_INFO, "into a pipe that is full");
  assert_int_equal(piped.error, EAGAIN);
  close(ends[0]);
  hub_log_write(&piped, DSTREAM_LOG_INFO, "and then broken");
  assert_int_equal(piped.error, EPIPE);
  close(ends[1]);
}

/* Each part has its level; what names no part is the hub's. */
static void test_parts(void **state) {
  (void)state;
  log_.level[LOG_HUB] = DSTREAM_LOG_INFO;
  log_.level[LOG_FRONT] = DSTREAM_LOG_DEBUG;
  log_.level[LOG_REST] = DSTREAM_LOG_ERROR;
  static const char *const texts[] = {"front: a", "rest: b", "rest : c",
                                      "rests: d", "rest:e",  "f"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    hub_log_write(&log_, DSTREAM_LOG_DEBUG, texts[i]);
    hub_log_write(&log_, DSTREAM_LOG_INFO, texts[i]);
  }
  hub_log_write(&log_, DSTREAM_LOG_ERROR, "rest: g");
  hub_log_write(&log_, DSTREAM_LOG_DEBUG, "broker: h");
  assert_string_equal(lines(), "debug front: a\ninfo front: a\n"
                               "info hub: rest : c\ninfo hub: rests: d\n"
                               "info hub: rest:e\ninfo hub: f\n"
                               "error rest: g\ndebug broker: h\n");
}

static void test_most(void **state) {
  (void)state;
  for (size_t i = 0; i < LOG_PARTS; i++)
    log_.level[i] = DSTREAM_LOG_WARNING;
  assert_int_equal(hub_log_most(&log_), DSTREAM_LOG_WARNING);
  log_.level[LOG_BROKER] = DSTREAM_LOG_ERROR;
  assert_int_equal(hub_log_most(&log_), DSTREAM_LOG_WARNING);
  log_.level[LOG_GATEWAY] = DSTREAM_LOG_DEBUG;
  assert_int_equal(hub_log_most(&log_), DSTREAM_LOG_DEBUG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_lines),     TEST(test_journal), TEST(test_lost), TEST(test_cut),
      TEST(test_no_reader), TEST(test_parts),   TEST(test_most),
  };
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
