/* What the hub tells a service manager: the datagrams of sd_notify(3). */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_hub.h"

#define SEEN_MAX 2048

static struct hub_fixture hub;
static char folder[64];
static int manager = -1;

/* A datagram must come within HUB_READY_MS. */
static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct timeval wait = {.tv_sec = HUB_READY_MS / 1000};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0 ||
      bind(fd, (const struct sockaddr *)&address, sizeof address) != 0)
    return -1;
  return fd;
}

static int setup(void **state) {
  (void)state;
  char path[80];
  snprintf(folder, sizeof folder, "/tmp/test_hub_manager.XXXXXX");
  if (mkdtemp(folder) == NULL)
    return -1;
  snprintf(path, sizeof path, "%s/notify", folder);
  manager = listen_at(path);
  setenv("NOTIFY_SOCKET", path, 1);
  setenv("WATCHDOG_USEC", "100000", 1);
  int status = manager < 0 ? -1 : hub_fixture_start(&hub, NULL);
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  return status;
}

static int teardown(void **state) {
  (void)state;
  const char *const arguments[] = {"rm", "-rf", folder, NULL};
  struct hub_output output;
  close(manager);
  int status = hub_fixture_stop(&hub);
  return hub_command(&output, arguments) != 0 ? -1 : status;
}

/* The next datagram, but for those that say that the hub lives. */
static const char *next(void) {
  static char seen[SEEN_MAX];
  do {
    ssize_t len = recv(manager, seen, sizeof seen - 1, 0);
    if (len < 0)
      fail_msg("no datagram came");
    seen[len] = '\0';
  } while (strcmp(seen, "WATCHDOG=1") == 0);
  return seen;
}

static void test_ready(void **state) {
  (void)state;
  char wanted[128];
  snprintf(wanted, sizeof wanted, "READY=1\nSTATUS=https port %u, mqtt port %u",
           hub.https_port, hub.mqtt_port);
  assert_string_equal(next(), wanted);
}

static void test_alive(void **state) {
  (void)state;
  char seen[SEEN_MAX];
  for (int i = 0; i < 2; i++) {
    ssize_t len = recv(manager, seen, sizeof seen - 1, 0);
    assert_true(len > 0);
    seen[len] = '\0';
    assert_string_equal(seen, "WATCHDOG=1");
  }
}

static void test_reload(void **state) {
  (void)state;
  kill(hub.pid, SIGHUP);
  const char *seen = next();
  assert_ptr_equal(strstr(seen, "RELOADING=1\nMONOTONIC_USEC="), seen);
  assert_string_equal(next(), "READY=1");
}

/* mosquitto speaks this protocol, too, and is not to. */
static void test_broker_is_silent(void **state) {
  (void)state;
  char path[64];
  char environment[65536];
  snprintf(path, sizeof path, "/proc/%d/environ",
           (int)hub_fixture_broker(&hub));
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  size_t len = fread(environment, 1, sizeof environment, file);
  fclose(file);
  assert_in_range(len, 1, sizeof environment - 1);
  assert_null(memmem(environment, len, "NOTIFY_SOCKET", 13));
  assert_null(memmem(environment, len, "WATCHDOG_", 9));
}

static void test_stop(void **state) {
  (void)state;
  assert_int_equal(hub_fixture_end(&hub), 0);
  assert_string_equal(next(), "STOPPING=1\nSTATUS=SIGTERM: ending 0 streams");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ready),  cmocka_unit_test(test_alive),
      cmocka_unit_test(test_reload), cmocka_unit_test(test_broker_is_silent),
      cmocka_unit_test(test_stop),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
