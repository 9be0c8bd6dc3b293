/* What an idle stream costs, at the device and at the service: memory, and no
 * time at all.  Device and service are processes of their own, each measured
 * from outside while the streams of all tests are open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dstream/dstream.h>

#include "integration/support_hub.h"
#include "integration/support_streams.h"

#define WARM_UP 20
#define STREAMS 300
/* A stream alone; a proxied one has a socket beside it. */
#define STREAM_KB 18.0
#define WATCH_MS  2000
#define WAIT_MAX  30000

static struct hub_fixture hub;

/* One measured process.  It says a byte for each stream that is open. */
struct process {
  const char *name;
  pid_t pid;
  int fd;
};
static struct process device = {.name = "device"};
static struct process service = {.name = "service"};

/* ---- inside of them; the other end is descriptor 3 ---- */

static void say(char what) {
  (void)!write(3, &what, 1);
}

static void on_open(dstream_stream *stream, void *user) {
  (void)stream;
  (void)user;
  say('+');
}

static void on_close(dstream_stream *stream, void *user,
                     const struct dstream_end *end) {
  (void)stream;
  (void)user;
  fprintf(stderr, "%s\n", end->text);
  say('!');
}

static const struct dstream_stream_callbacks stream_callbacks = {
    .on_open = on_open, .on_close = on_close};

static void on_request(dstream_device *d, void *user,
                       dstream_request *request) {
  (void)d;
  (void)user;
  dstream_request_accept(request, NULL, &stream_callbacks, NULL, NULL);
}

static void on_state(dstream_device *d, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  (void)d;
  (void)user;
  (void)cause;
  if (state == DSTREAM_DEVICE_READY)
    say('r');
}

static struct dstream_tls_options tls_options(void) {
  struct dstream_tls_options tls = {.size = sizeof tls};
  tls.ca_file = getenv("DSTREAM_CA_FILE");
  return tls;
}

static int run_device(void) {
  static const struct dstream_device_callbacks callbacks = {
      .on_state = on_state, .on_request = on_request};
  struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = getenv("DSTREAM_CONNECTION_STRING"),
      .max_streams = WARM_UP + STREAMS,
      .tls = tls_options()};
  dstream_device *d = NULL;
  if (dstream_loop_new(&options.loop, NULL) != 0 ||
      dstream_device_new(&d, &options, &callbacks, NULL, NULL) != 0)
    return 1;
  dstream_device_start(d);
  return dstream_loop_run(options.loop);
}

/* Opens as many streams as descriptor 3 has bytes. */
static int run_service(void) {
  struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = getenv("DSTREAM_CONNECTION_STRING"),
      .tls = tls_options()};
  dstream_service *s = NULL;
  char byte;
  if (dstream_loop_new(&options.loop, NULL) != 0 ||
      dstream_service_new(&s, &options, NULL) != 0)
    return 1;
  for (;;) {
    ssize_t n = recv(3, &byte, 1, MSG_DONTWAIT);
    if (n == 0)
      return 0;
    if (n > 0 && dstream_service_open_stream(
                     s, "idle", "x", NULL, &stream_callbacks, NULL, NULL) != 0)
      return 1;
    dstream_loop_step(options.loop, n > 0 ? 0 : 20);
  }
}

/* ---- outside ---- */

static void start(struct process *process, const char *connection) {
  int pair[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  process->pid = fork();
  assert_true(process->pid >= 0);
  if (process->pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("DSTREAM_CONNECTION_STRING", connection, 1);
    setenv("DSTREAM_CA_FILE", hub.ca_file, 1);
    int fd = dup2(pair[1], 3);
    if (fd == 3)
      execl("/proc/self/exe", "test_idle", process->name, NULL);
    _exit(127);
  }
  close(pair[1]);
  process->fd = pair[0];
}

static void stop(struct process *process) {
  if (process->pid <= 0)
    return;
  kill(process->pid, SIGKILL);
  waitpid(process->pid, NULL, 0);
  close(process->fd);
  process->pid = 0;
}

/* Until it has said that so many times. */
static void hear(const struct process *process, char what, unsigned count) {
  while (count > 0) {
    struct pollfd ready = {process->fd, POLLIN, 0};
    char said = 0;
    assert_int_equal(poll(&ready, 1, WAIT_MAX), 1);
    assert_int_equal(read(process->fd, &said, 1), 1);
    assert_int_equal(said, what);
    count--;
  }
}

/* One after the other: all at once would measure what opening takes. */
static void open_streams(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    assert_int_equal(send(service.fd, "o", 1, MSG_NOSIGNAL), 1);
    hear(&service, '+', 1);
    hear(&device, '+', 1);
  }
}

static long number_in(const char *path, const char *key) {
  char line[256];
  long number = -1;
  FILE *file = fopen(path, "re");
  assert_non_null(file);
  while (fgets(line, sizeof line, file) != NULL)
    if (strncmp(line, key, strlen(key)) == 0)
      number = strtol(line + strlen(key), NULL, 10);
  fclose(file);
  assert_true(number >= 0);
  return number;
}

/* Its own memory: what it shares with others does not grow. */
static long private_kb(const struct process *process) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)process->pid);
  return number_in(path, "Private_Dirty:");
}

/* How often the thread that runs the loop has gone to sleep. */
static long sleeps(const struct process *process) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)process->pid,
           (int)process->pid);
  return number_in(path, "voluntary_ctxt_switches:");
}

/* ---- tests ---- */

static void test_memory(void **state) {
  (void)state;
  const struct process *processes[] = {&device, &service};
  long before[2];
  double each[2];
  open_streams(WARM_UP);
  for (int i = 0; i < 2; i++)
    before[i] = private_kb(processes[i]);
  open_streams(STREAMS);
  for (int i = 0; i < 2; i++) {
    each[i] = (double)(private_kb(processes[i]) - before[i]) / STREAMS;
    print_message("an idle stream at the %s: %.1f KB\n", processes[i]->name,
                  each[i]);
  }
  if (TEST_SANITIZED)
    skip();
  for (int i = 0; i < 2; i++) {
    assert_true(each[i] > 1); /* what was measured were streams */
    assert_true(each[i] < STREAM_KB);
  }
}

/* The first keepalive is due half a minute after a stream was opened. */
static void test_nobody_wakes(void **state) {
  (void)state;
  if (TEST_SANITIZED)
    skip();
  long least = -1;
  for (int i = 0; i < 3 && least != 0; i++) {
    long before = sleeps(&device);
    poll(NULL, 0, WATCH_MS);
    long count = sleeps(&device) - before;
    print_message("wake-ups of the device's loop: %ld\n", count);
    least = least < 0 || count < least ? count : least;
  }
  assert_int_equal(least, 0);
}

/* ---- group ---- */

static int group_setup(void **state) {
  (void)state;
  static char connection[CONN_STRING_MAX];
  if (hub_fixture_start(&hub, NULL) != 0 ||
      hub_fixture_add_device(&hub, "idle", connection) != 0)
    return -1;
  start(&device, connection);
  hear(&device, 'r', 1);
  start(&service, hub.service_string);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  stop(&service);
  stop(&device);
  return hub_fixture_stop(&hub);
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "device") == 0)
    return run_device();
  if (argc == 2 && strcmp(argv[1], "service") == 0)
    return run_service();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_memory),
      cmocka_unit_test(test_nobody_wakes),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
