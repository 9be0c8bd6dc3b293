/* dstream-agent, the real program, against a real hub: what its operator sees,
 * and what a service gets. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_hub.h"
#include "integration/support_streams.h"
#include "integration/support_tool.h"
#include "integration/support_world.h"

#define DEVICE   "pump-7"
#define ARGS_MAX 24

static struct hub_fixture hub;
static struct tool_server echo;
static dstream_service *service;
static char device_string[CONN_STRING_MAX];
static char folder[HUB_FIXTURE_PATH + 16];
static char key_file[HUB_FIXTURE_PATH + 48];
static char config_file[HUB_FIXTURE_PATH + 48];
static char echo_target[64];
static char dead_target[64];
static struct tool agent;

/* ---- what the tests have in common ---- */

static void write_text(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
  assert_int_equal(chmod(path, 0600), 0);
}

static void write_config(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

static void write_config(const char *format, ...) {
  char text[4096];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  write_text(config_file, text);
}

/* The texts that follow are arguments; NULL ends them. */
static void launch(const char *first, ...) {
  const char *arguments[ARGS_MAX] = {"dstream-agent",
                                     "--connection-string-file", key_file};
  unsigned count = 3;
  va_list list;
  va_start(list, first);
  for (const char *p = first; p != NULL; p = va_arg(list, const char *)) {
    assert_true(count < ARGS_MAX - 1);
    arguments[count++] = p;
  }
  va_end(list);
  tool_start(&agent, arguments);
}

static void wait_ready(void) {
  char line[256];
  tool_line(&agent, line, sizeof line);
  assert_string_equal(line, "ready " DEVICE);
}

static void wait_said(const char *text) {
  uint64_t until_ms = test_now_ms() + WAIT_DEFAULT_MS;
  while (!tool_said(&agent, text)) {
    if (test_now_ms() > until_ms)
      tool_wait_said(&agent, text); /* fails with what it said instead */
    assert_int_equal(dstream_loop_step(test_loop, 10), 0);
  }
}

static void reload(const char *said) {
  kill(agent.pid, SIGHUP);
  wait_said(said);
}

static int finish(void) {
  return tool_end(&agent, SIGTERM);
}

static void open_peer(struct peer *peer, const char *name, uint64_t bytes) {
  struct call call = {.device = DEVICE, .name = name};
  peer_init(peer, PEER_SENDER, bytes, bytes);
  world_open(service, &call, peer);
}

static void close_peer(struct peer *peer) {
  dstream_stream_close(peer->stream);
  WAIT(peer->closes == 1);
  assert_peer_ended(peer, true, DSTREAM_OK, NULL);
  peer_clear(peer);
}

static void echo_once(const char *name, uint64_t bytes) {
  struct peer peer;
  open_peer(&peer, name, bytes);
  wait_done(&peer);
  assert_same_bytes(&peer, &peer);
  close_peer(&peer);
}

static void open_fails(const char *name, const char *text) {
  struct call call = {.device = DEVICE, .name = name};
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0, text);
}

/* ---- serving ---- */

static void test_serves(void **state) {
  (void)state;
  launch("--target", echo_target, "--target", dead_target, NULL);
  wait_ready();
  echo_once("echo", 1 << 20);
  wait_said("opened echo (127.0.0.1:");
  wait_said("closed echo (127.0.0.1:");
  wait_said("1048576 bytes in, 1048576 bytes out");
  open_fails("telnet", "agent");
  wait_said("refused telnet: ");
  open_fails("dead", "target dead");
  wait_said("failed dead: target dead (127.0.0.1:");
  assert_false(tool_said(&agent, "SharedAccessKey"));
  echo_once("echo", 1000);
  assert_int_equal(finish(), 0);
}

static void test_allow(void **state) {
  (void)state;
  char pattern[64];
  char name[64];
  snprintf(pattern, sizeof pattern, "127.0.0.0/8:%u", echo.port);
  snprintf(name, sizeof name, "tcp~127.0.0.1~%u", echo.port);
  launch("--allow", pattern, NULL);
  wait_ready();
  echo_once(name, 5000);
  snprintf(pattern, sizeof pattern, "closed 127.0.0.1:%u", echo.port);
  wait_said(pattern);
  open_fails("tcp~127.0.0.1~1", "not allowed");
  wait_said("refused 127.0.0.1:1: ");
  assert_int_equal(finish(), 0);
}

static void test_limits(void **state) {
  (void)state;
  struct peer first;
  write_config("{\"targets\":{\"echo\":{\"address\":\"127.0.0.1:%u\","
               "\"maxStreams\":1},\"more\":\"127.0.0.1:%u\"},"
               "\"maxStreams\":2,\"idleSeconds\":1}",
               echo.port, echo.port);
  launch("--config", config_file, NULL);
  wait_ready();
  open_peer(&first, "echo", 1000);
  wait_done(&first);
  open_fails("echo", "too many streams to \"echo\" (limit 1)");
  struct peer second;
  open_peer(&second, "more", 1000);
  wait_done(&second);
  open_fails("more", "too many streams (limit 2)");
  wait_said("refused echo: too many");
  wait_said("refused more: too many");
  /* Nobody sends a byte any more. */
  WAIT(first.closes == 1 && second.closes == 1);
  wait_said("closed echo (127.0.0.1:");
  peer_clear(&first);
  peer_clear(&second);
  assert_int_equal(finish(), 0);
}

/* Months in short: nothing is left of a stream that is over. */
static void test_flat(void **state) {
  (void)state;
  unsigned rounds = TEST_SANITIZED ? 10 : 40;
  launch("--target", echo_target, "--target", dead_target, "--rate", "1000",
         NULL);
  wait_ready();
  echo_once("echo", 100);
  WAIT(echo.open == 0);
  int before = count_fds_of(agent.pid);
  for (unsigned i = 0; i < rounds; i++) {
    struct peer peers[10];
    for (unsigned k = 0; k < 10; k++)
      open_peer(&peers[k], "echo", 3000);
    for (unsigned k = 0; k < 10; k++)
      wait_done(&peers[k]);
    for (unsigned k = 0; k < 10; k++)
      close_peer(&peers[k]);
    open_fails(i % 2 == 0 ? "dead" : "unknown", NULL);
  }
  WAIT(echo.open == 0);
  WAIT(count_fds_of(agent.pid) <= before);
  if (rounds * 10 > 200)
    wait_said("lines about streams opened and closed were left out");
  assert_int_equal(finish(), 0);
}

/* ---- rereading ---- */

static void test_reload(void **state) {
  (void)state;
  struct peer running;
  write_config("{\"targets\":{\"echo\":\"127.0.0.1:%u\"}}", echo.port);
  launch("--config", config_file, "--target", dead_target, NULL);
  wait_ready();
  open_peer(&running, "echo", 1000);
  wait_done(&running);

  write_config("{\"targets\":{\"other\":\"127.0.0.1:%u\"},"
               "\"httpProxy\":\"http://u:secret@127.0.0.1:1\"}",
               echo.port);
  reload("agent.json reread: 2 targets, 0 patterns");
  wait_said("httpProxy has changed; that takes effect after a restart");
  assert_false(tool_said(&agent, "secret"));
  echo_once("other", 1000);
  open_fails("echo", "agent");
  peer_send_more(&running, 5000);
  running.to_receive += 5000;
  wait_done(&running);
  assert_same_bytes(&running, &running);

  write_config("{\"targets\":{\"other\":\"127.0.0.1:%u\"},\n\"colour\":1}",
               echo.port);
  reload("the old configuration stays: ");
  wait_said("agent.json: colour is not known");
  write_config("{\"targets\":{\"dead\":\"127.0.0.1:%u\"}}", echo.port);
  reload("\"dead\" is there twice");
  assert_int_equal(unlink(config_file), 0);
  reload("can't be read: No such file");
  echo_once("other", 1000);
  assert_int_equal(running.closes, 0);
  close_peer(&running);
  assert_int_equal(finish(), 0);
}

static void test_reload_nothing(void **state) {
  (void)state;
  write_config("{\"targets\":{\"echo\":\"127.0.0.1:%u\"}}", echo.port);
  launch("--config", config_file, NULL);
  wait_ready();
  write_config("{\"logLevel\":\"warning\"}");
  reload("nothing is served any more");
  open_fails("echo", "agent");
  assert_int_equal(finish(), 0);
  launch("--target", echo_target, NULL);
  wait_ready();
  reload("there is no --config FILE");
  assert_int_equal(finish(), 0);
}

/* ---- the connection ---- */

static void test_hub_restart(void **state) {
  (void)state;
  launch("--target", echo_target, NULL);
  wait_ready();
  echo_once("echo", 1000);
  assert_int_equal(hub_fixture_end(&hub), 0);
  wait_said("tries again in");
  assert_int_equal(hub_fixture_run(&hub), 0);
  wait_said("connected again as " DEVICE);
  echo_once("echo", 1000);
  assert_int_equal(finish(), 0);
}

static void test_wrong_key(void **state) {
  (void)state;
  char text[CONN_STRING_MAX];
  snprintf(text, sizeof text, "%s", device_string);
  char *key = strstr(text, "SharedAccessKey=");
  assert_non_null(key);
  key += strlen("SharedAccessKey=");
  key[0] = key[0] == 'A' ? 'B' : 'A';
  write_text(key_file, text);
  launch("--target", echo_target, NULL);
  wait_said("the hub does not accept this identity");
  wait_said("tries again in");
  assert_false(tool_said(&agent, key));
  write_text(key_file, device_string);
  assert_int_equal(finish(), 0);
}

/* ---- the end ---- */

static void test_end(void **state) {
  (void)state;
  struct peer peer;
  launch("--target", echo_target, NULL);
  wait_ready();
  open_peer(&peer, "echo", 1000);
  wait_done(&peer);
  kill(agent.pid, SIGTERM);
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED, NULL);
  assert_int_equal(peer.end.ws_code, 1001);
  peer_clear(&peer);
  wait_said("SIGTERM: ending 1 streams");
  assert_int_equal(tool_wait(&agent), 0);
}

static void test_end_twice(void **state) {
  (void)state;
  struct peer peer;
  launch("--target", echo_target, NULL);
  wait_ready();
  open_peer(&peer, "echo", 1000);
  wait_done(&peer);
  /* This end does not answer: its loop does not run. */
  kill(agent.pid, SIGINT);
  tool_wait_said(&agent, "SIGINT: ending 1 streams");
  uint64_t now = test_now_ms();
  kill(agent.pid, SIGINT);
  assert_int_equal(tool_wait(&agent), 0);
  assert_true(test_now_ms() - now < 2000);
  WAIT(peer.closes == 1);
  peer_clear(&peer);
}

/* ---- the service manager ---- */

static int notify_listen(const char *name) {
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t len = strlen(name);
  assert_true(fd >= 0 && len < sizeof address.sun_path);
  memcpy(address.sun_path, name, len);
  if (name[0] == '@')
    address.sun_path[0] = '\0';
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
  assert_int_equal(bind(fd, (const struct sockaddr *)&address, size), 0);
  return fd;
}

/* The next datagram that begins with the text. */
static void notify_wait(int fd, const char *begin) {
  char seen[2048] = "";
  uint64_t until_ms = test_now_ms() + WAIT_DEFAULT_MS;
  while (strncmp(seen, begin, strlen(begin)) != 0) {
    ssize_t len = recv(fd, seen, sizeof seen - 1, 0);
    if (len < 0)
      assert_int_equal(dstream_loop_step(test_loop, 10), 0);
    else
      seen[len] = '\0';
    if (test_now_ms() > until_ms)
      fail_msg("no datagram \"%s\"; the last was \"%s\"", begin, seen);
  }
  if (strncmp(seen, "RELOADING=1", 11) == 0)
    assert_non_null(strstr(seen, "\nMONOTONIC_USEC="));
}

static void notified(const char *name) {
  int fd = notify_listen(name);
  struct peer peer;
  write_config("{\"targets\":{\"echo\":\"127.0.0.1:%u\"}}", echo.port);
  setenv("NOTIFY_SOCKET", name, 1);
  setenv("WATCHDOG_USEC", "100000", 1);
  launch("--config", config_file, NULL);
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  notify_wait(fd, "WATCHDOG=1");
  notify_wait(fd, "READY=1\nSTATUS=connected as " DEVICE);
  wait_ready();
  notify_wait(fd, "WATCHDOG=1");
  open_peer(&peer, "echo", 10);
  notify_wait(fd, "STATUS=connected as " DEVICE ", 1 streams");
  close_peer(&peer);
  notify_wait(fd, "STATUS=connected as " DEVICE ", 0 streams");
  write_config("{\"burst\":-1}");
  kill(agent.pid, SIGHUP);
  notify_wait(fd, "RELOADING=1\nMONOTONIC_USEC=");
  notify_wait(fd, "READY=1");
  kill(agent.pid, SIGTERM);
  notify_wait(fd, "STOPPING=1");
  notify_wait(fd, "STATUS=ending 0 streams");
  assert_int_equal(tool_wait(&agent), 0);
  close(fd);
}

static void test_notify(void **state) {
  (void)state;
  char path[HUB_FIXTURE_PATH + 48];
  char abstract[64];
  snprintf(path, sizeof path, "%s/notify", folder);
  notified(path);
  assert_int_equal(unlink(path), 0);
  snprintf(abstract, sizeof abstract, "@dstream-test-agent-%d", (int)getpid());
  notified(abstract);
}

/* ---- usage ---- */

static struct hub_output output;

static void assert_ends(int expected, const char *text,
                        const char *const *arguments) {
  int status = hub_command(&output, arguments);
  if (status != expected || strstr(output.err, text) == NULL ||
      strchr(output.err, '\n') != strrchr(output.err, '\n'))
    fail_msg("status %d, expected %d, \"%s\"; stderr \"%s\"", status, expected,
             text, output.err);
  assert_string_equal(output.out, "");
}

#define ENDS(status, text, ...)                                                \
  assert_ends(status, text,                                                    \
              (const char *const[]){"dstream-agent", __VA_ARGS__, NULL})

static void test_usage(void **state) {
  (void)state;
  ENDS(2, "nothing would be served", "--quiet");
  ENDS(2, "--help", "--colour=red");
  ENDS(2, "needs a value", "--target");
  ENDS(2, "is no option", "ssh=h:22");
  ENDS(2, "NAME=ADDRESS", "--target", "ssh");
  ENDS(2, "\"ssh\"", "--target", "ssh=22");
  ENDS(2, "\"ssh\" is there twice", "--target=ssh=h:1", "--target=ssh=h:2");
  ENDS(2, "--idle must be", "--target", echo_target, "--idle", "x");
  ENDS(2, "allow: ", "--allow", "10.0.0.0/33:1");
  ENDS(2, "exclude each other", "--target", echo_target, "--connection-string",
       "x", "--connection-string-file", key_file);
  ENDS(2, "HostName", "--target", echo_target, "--connection-string", "x");
  ENDS(1, "No such file", "--target", echo_target, "--connection-string-file",
       "/none");
  ENDS(1, "/none", "--target", echo_target, "--connection-string-file",
       key_file, "--ca-file", "/none");
  ENDS(1, "No such file", "--config", "/none");
  ENDS(2, "http", "--target", echo_target, "--connection-string-file", key_file,
       "--http-proxy", "ftp://x");
  write_config("{\"targets\":{\"a\":\"h:1\"},\"maxStreams\":true}");
  ENDS(2, "agent.json: maxStreams must be a whole number", "--config",
       config_file);
}

static void check_x509(const char *files, mode_t mode, bool warns) {
  write_config("{%s,\"targets\":{\"a\":\"h:1\"}}", files);
  const char *const check[] = {"dstream-agent",
                               "--connection-string",
                               "HostName=h;DeviceId=d;x509=true",
                               "--config",
                               config_file,
                               "--check",
                               NULL};
  assert_int_equal(chmod(key_file, mode), 0);
  (void)hub_command(&output, check);
  assert_int_equal(strstr(output.err, "chmod 600") != NULL, warns);
  assert_int_equal(chmod(key_file, 0600), 0);
}

static void test_check(void **state) {
  (void)state;
  write_config("{\"connectionStringFile\":\"key\",\"caFile\":\"%s\","
               "\"targets\":{\"a\":\"h:1\"},\"allow\":[\"h:*\"]}",
               hub.ca_file);
  const char *const check[] = {"dstream-agent", "--config", config_file,
                               "--check", NULL};
  assert_int_equal(hub_command(&output, check), 0);
  assert_string_equal(output.out, "ok: " DEVICE ", 1 targets, 1 patterns\n");
  assert_string_equal(output.err, "");
  /* A key that everybody can read is warned of. */
  assert_int_equal(chmod(key_file, 0644), 0);
  assert_int_equal(hub_command(&output, check), 0);
  assert_non_null(strstr(output.err, "chmod 600"));
  assert_int_equal(chmod(key_file, 0600), 0);
  /* So is a certificate's key, in a file of its own or not. */
  check_x509("\"certFile\":\"cert\",\"keyFile\":\"key\"", 0644, true);
  check_x509("\"certFile\":\"key\"", 0644, true);
  check_x509("\"certFile\":\"cert\",\"keyFile\":\"key\"", 0600, false);
  const char *const version[] = {"dstream-agent", "--version", NULL};
  assert_int_equal(hub_command(&output, version), 0);
  assert_ptr_equal(strstr(output.out, "dstream-agent "), output.out);
  const char *const help[] = {"dstream-agent", "--help", NULL};
  assert_int_equal(hub_command(&output, help), 0);
  assert_non_null(strstr(output.out, "--max-streams"));
}

/* Neither the process list nor the environment keeps the key. */
static void test_hidden(void **state) {
  (void)state;
  const char *const arguments[] = {"dstream-agent", "--connection-string",
                                   device_string,   "--target",
                                   echo_target,     NULL};
  char path[64];
  char text[8192];
  tool_start(&agent, arguments);
  wait_ready();
  static const char *const files[] = {"cmdline", "environ"};
  for (size_t i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "/proc/%d/%s", (int)agent.pid, files[i]);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof text, file);
    fclose(file);
    assert_true(len > 0);
    const char *key = strstr(device_string, "SharedAccessKey=") + 16;
    assert_null(memmem(text, len, key, 20));
  }
  assert_int_equal(finish(), 0);
  setenv("DSTREAM_CONNECTION_STRING", device_string, 1);
  const char *const bare[] = {"dstream-agent", "--target", echo_target, NULL};
  tool_start(&agent, bare);
  wait_ready();
  assert_int_equal(finish(), 0);
}

/* ---- the world ---- */

static int group_setup(void **state) {
  (void)state;
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  if (hub_fixture_add_device(&hub, DEVICE, device_string) != 0)
    return -1;
  tool_environment(&hub);
  snprintf(folder, sizeof folder, "%s/agent", hub.directory);
  if (mkdir(folder, 0700) != 0)
    return -1;
  snprintf(key_file, sizeof key_file, "%s/key", folder);
  snprintf(config_file, sizeof config_file, "%s/agent.json", folder);
  tool_server_start(&echo, SERVE_ECHO);
  snprintf(echo_target, sizeof echo_target, "echo=127.0.0.1:%u", echo.port);
  snprintf(dead_target, sizeof dead_target, "dead=127.0.0.1:%u",
           tool_unused_port());
  write_text(key_file, device_string);
  test_loop_start();
  service = world_service(&hub, NULL);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  dstream_service_free(service);
  test_loop_end();
  tool_server_stop(&echo);
  return hub_fixture_stop(&hub);
}

static int teardown(void **state) {
  (void)state;
  if (agent.pid > 0)
    tool_end(&agent, SIGKILL);
  return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_serves),      TEST(test_allow),     TEST(test_limits),
      TEST(test_flat),        TEST(test_reload),    TEST(test_reload_nothing),
      TEST(test_hub_restart), TEST(test_wrong_key), TEST(test_end),
      TEST(test_end_twice),   TEST(test_notify),    TEST(test_usage),
      TEST(test_check),       TEST(test_hidden),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
