/* dstream forward: sockets that listen here, each connection a stream; many at
 * once, over TCP, IPv6, unix sockets and SOCKS, and what goes wrong with one
 * never touches another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_streams.h"
#include "integration/support_tool.h"

#define LINE         256
#define AT_ONCE      50
#define MEGABYTES    (TEST_SANITIZED ? 4 : 20)
#define ARGUMENT_MAX 24

static struct hub_fixture hub;
static struct tool_device device; /* "pump-7" */
static struct tool_device late;   /* "pump-8": runs in some tests */
static struct tool_server echo;
static struct tool_server source;
static struct tool_server http;
static struct tool_server hold;
static char dead[32];
static struct dstream_target targets[5];
static const char *allow[1];
static struct dstream_targets_options options = {.size = sizeof options,
                                                 .targets = targets,
                                                 .target_count = 5,
                                                 .allow = allow,
                                                 .allow_count = 1};
static struct hub_output output;
static struct tool tool;

/* Starts "dstream forward ..."; the arguments end with NULL. */
static void forward(const char *first, ...) {
  const char *arguments[ARGUMENT_MAX] = {"dstream", "forward", first};
  size_t count = 3;
  va_list list;
  va_start(list, first);
  while ((arguments[count] = va_arg(list, const char *)) != NULL)
    assert_true(++count < ARGUMENT_MAX);
  va_end(list);
  tool_start(&tool, arguments);
}

static int teardown(void **state) {
  (void)state;
  if (tool.pid != 0)
    tool_end(&tool, SIGKILL);
  return 0;
}

/* ---- what it serves ---- */

static void test_tcp(void **state) {
  (void)state;
  char line[LINE];
  char said[LINE];
  forward("pump-7", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  assert_memory_equal(line, "listening 127.0.0.1:", 20);
  client_echo(line, "hello");
  client_echo(line, "again");
  snprintf(said, sizeof said, "dstream forward: %.200s -> pump-7 echo\n",
           line + strlen("listening "));
  assert_true(tool_said(&tool, said));
  assert_false(tool_said(&tool, "no loopback"));
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

static void test_ipv6(void **state) {
  (void)state;
  char line[LINE];
  forward("pump-7", "echo", "[::1]:0", NULL);
  tool_line(&tool, line, sizeof line);
  assert_memory_equal(line, "listening [::1]:", 16);
  client_echo(line, "six");
  assert_false(tool_said(&tool, "no loopback"));
  assert_int_equal(tool_end(&tool, SIGINT), 0);
}

/* A socket of its owner's; one that was left behind is replaced, what is no
 * socket never. */
static void test_unix_socket(void **state) {
  (void)state;
  char line[LINE];
  char path[300];
  char listen_on[320];
  struct stat info;
  snprintf(path, sizeof path, "%s/s", hub.directory);
  snprintf(listen_on, sizeof listen_on, "unix:%s", path);
  for (int i = 0; i < 2; i++) {
    forward("pump-7", "echo", listen_on, NULL);
    tool_line(&tool, line, sizeof line);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    client_echo(line, "by path");
    tool_end(&tool, i == 0 ? SIGKILL : SIGTERM);
    /* Killed, it leaves the socket behind. */
    assert_int_equal(stat(path, &info), i == 0 ? 0 : -1);
  }
  int status =
      tool_shell(&output, "echo precious >'%s'; dstream forward pump-7 echo %s",
                 path, listen_on);
  assert_int_equal(status, 1);
  assert_string_equal(output.out, "");
  assert_one_line(output.err, "dstream forward: ", path);
  assert_int_equal(tool_shell(&output, "cat '%s'", path), 0);
  assert_string_equal(output.out, "precious\n");
  unlink(path);
}

static void test_another_address_is_warned_of(void **state) {
  (void)state;
  char line[LINE];
  forward("pump-7", "echo", "0.0.0.0:0", NULL);
  tool_line(&tool, line, sizeof line);
  assert_true(tool_said(&tool, "no loopback address"));
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

static void test_several_in_their_order(void **state) {
  (void)state;
  char lines[4][LINE];
  char path[300];
  snprintf(path, sizeof path, "unix:%s/several", hub.directory);
  forward("pump-7", "echo", "0", "--wait", "0", "pump-7", "http", "[::1]:0",
          "pump-7", "--socks", "0", "pump-7", echo.address, path, NULL);
  for (int i = 0; i < 4; i++)
    tool_line(&tool, lines[i], sizeof lines[i]);
  client_echo(lines[0], "one");
  assert_int_equal(tool_shell(&output, "curl -gsS http://%s/", lines[1] + 10),
                   0);
  assert_string_equal(output.out, "hello\n");
  client_echo(lines[3], "four");
  assert_int_equal(tool_shell(&output,
                              "curl -sS --socks5-hostname %s http://%s/",
                              lines[2] + 10, http.address),
                   0);
  assert_string_equal(output.out, "hello\n");
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

static void test_socks(void **state) {
  (void)state;
  char line[LINE];
  forward("pump-7", "--socks", "0", NULL);
  tool_line(&tool, line, sizeof line);
  assert_true(tool_said(&tool, "-> pump-7 by SOCKS 5"));
  assert_int_equal(tool_shell(&output,
                              "curl -sS --socks5-hostname %s http://%s/",
                              line + 10, http.address),
                   0);
  assert_string_equal(output.out, "hello\n");
  /* 97: the SOCKS server said no. */
  assert_int_equal(tool_shell(&output,
                              "curl -sS --socks5-hostname %s "
                              "http://192.0.2.1/",
                              line + 10),
                   97);
  tool_wait_said(&tool, "the agent on pump-7 refused 192.0.2.1:80");
  assert_int_equal(tool_shell(&output,
                              "curl -sS --socks5-hostname %s http://%s/",
                              line + 10, dead),
                   97);
  tool_wait_said(&tool, "Connection refused");
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

static void test_a_module_is_no_device(void **state) {
  (void)state;
  char line[LINE];
  char back[16];
  forward("pump-7/gone", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  int fd = client_connect(line);
  assert_int_equal(client_read_all(fd, back, sizeof back), -1);
  tool_wait_said(&tool, "pump-7/gone");
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

/* ---- many ---- */

static void test_many_at_once(void **state) {
  (void)state;
  char line[LINE];
  int fds[AT_ONCE];
  forward("pump-7", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  for (int i = 0; i < AT_ONCE; i++)
    fds[i] = client_connect(line);
  for (int i = 0; i < AT_ONCE; i++) {
    char text[32];
    snprintf(text, sizeof text, "number %d", i);
    client_send(fds[i], text);
    shutdown(fds[i], SHUT_WR);
  }
  for (int i = AT_ONCE - 1; i >= 0; i--) {
    char text[32];
    char back[32];
    snprintf(text, sizeof text, "number %d", i);
    assert_true(client_read_all(fds[i], back, sizeof back) > 0);
    assert_string_equal(back, text);
  }
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

static void test_a_limit_makes_others_wait(void **state) {
  (void)state;
  char line[LINE];
  char back[16];
  forward("--max-connections", "1", "pump-7", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  int first = client_connect(line);
  client_send(first, "a");
  assert_int_equal(recv(first, back, 1, 0), 1);
  int second = client_connect(line);
  client_send(second, "b");
  assert_int_equal(recv(second, back, 1, MSG_DONTWAIT), -1);
  close(first);
  assert_int_equal(recv(second, back, 1, 0), 1);
  assert_int_equal(back[0], 'b');
  close(second);
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

/* A megabyte each way in every one of them, compared. */
static void test_bulk(void **state) {
  (void)state;
  char line[LINE];
  forward("pump-7", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  char *port = strrchr(line, ':') + 1;
  assert_int_equal(
      tool_shell(&output,
                 "cd %s; head -c %dM /dev/urandom >bulk; "
                 "for i in 1 2 3 4; do "
                 "nc -N 127.0.0.1 %s <bulk | cmp - bulk & pids+=($!); done; "
                 "status=0; for pid in \"${pids[@]}\"; do "
                 "wait $pid || status=1; done; rm bulk; exit $status",
                 hub.directory, MEGABYTES / 4, port),
      0);
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

/* ---- what goes wrong with one ---- */

static void test_failures_stay_their_own(void **state) {
  (void)state;
  char lines[3][LINE];
  char back[16];
  forward("pump-7", "echo", "0", "pump-7", "dead", "0", "pump-7", "telnet", "0",
          NULL);
  for (int i = 0; i < 3; i++)
    tool_line(&tool, lines[i], sizeof lines[i]);
  int good = client_connect(lines[0]);
  client_send(good, "a");
  assert_int_equal(recv(good, back, 1, 0), 1);
  int fd = client_connect(lines[1]);
  assert_int_equal(client_read_all(fd, back, sizeof back), -1);
  tool_wait_said(&tool, "pump-7: target dead (127.0.0.1:");
  fd = client_connect(lines[2]);
  assert_int_equal(client_read_all(fd, back, sizeof back), -1);
  tool_wait_said(&tool, "the agent on pump-7 refused telnet");
  client_send(good, "b");
  shutdown(good, SHUT_WR);
  assert_int_equal(client_read_all(good, back, sizeof back), 1);
  assert_string_equal(back, "b");
  client_echo(lines[0], "still there");
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

static void test_offline_then_online(void **state) {
  (void)state;
  char line[LINE];
  char back[16];
  forward("pump-8", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  int fd = client_connect(line);
  assert_int_equal(client_read_all(fd, back, sizeof back), -1);
  tool_wait_said(&tool, "pump-8 is not connected to the hub (404103)");
  tool_device_run(&late, &options);
  client_echo(line, "there it is");
  tool_device_stop(&late);
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

/* The hub need not be there when it starts. */
static void test_no_hub(void **state) {
  (void)state;
  char line[LINE];
  char back[16];
  char string[256];
  snprintf(string, sizeof string,
           "HostName=localhost;HttpsPort=%u;SharedAccessKeyName=service;"
           "SharedAccessKey=AAAA",
           (unsigned)tool_unused_port());
  forward("--connection-string", string, "pump-7", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  int fd = client_connect(line);
  assert_int_equal(client_read_all(fd, back, sizeof back), -1);
  tool_wait_said(&tool, "the network: can't connect to");
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

/* A client that tries again and again floods nobody. */
static void test_lines_are_limited(void **state) {
  (void)state;
  char line[LINE];
  forward("pump-7", "telnet", "0", NULL);
  tool_line(&tool, line, sizeof line);
  uint64_t begun_ms = tool_now_ms();
  for (int i = 0; i < 100; i++) {
    char back[16];
    int fd = client_connect(line);
    client_read_all(fd, back, sizeof back);
  }
  assert_int_equal(tool_shell(&output, "grep -c refused %s", tool.err_path), 0);
  uint64_t lines = strtoul(output.out, NULL, 10);
  uint64_t seconds = (tool_now_ms() - begun_ms) / 1000 + 1;
  assert_in_range(lines, 10, 20 + 2 * seconds);
  /* What was left out is counted, at the end at the latest. */
  kill(tool.pid, SIGTERM);
  if (lines < 100)
    tool_wait_said(&tool, " more lines like these were left out");
  assert_int_equal(tool_wait(&tool), 0);
}

static void test_a_port_in_use(void **state) {
  (void)state;
  char line[LINE];
  forward("pump-7", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  /* Not one line: scripts must not take a part for all. */
  int status = tool_shell(&output,
                          "dstream forward pump-7 echo 0 pump-7 echo "
                          "%s",
                          line + 10);
  assert_int_equal(status, 1);
  assert_string_equal(output.out, "");
  assert_one_line(output.err, "dstream forward: ", line + 10);
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

static void test_wrong_usage(void **state) {
  (void)state;
  static const char *const wrong[] = {
      "",
      "pump-7",
      "pump-7 echo",
      "pump-7 echo 0 pump-8",
      "pump-7 echo 65536",
      "pump-7 echo example.com:80",
      "pump-7 echo unix:",
      "pump-7 echo nonsense",
      "pump-7 [x]:1 0",
      "--socks 0",
      "pump-7 echo --socks 0",
      "pump-7 --socks",
      "--max-connections 0 pump-7 echo 0",
      "--idle 0 pump-7 echo 0",
      "--total -1 pump-7 echo 0",
      "--wait 61 pump-7 echo 0",
      "--connection-string nonsense pump-7 echo 0",
  };
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    int status = tool_shell(&output, "dstream forward %s", wrong[i]);
    if (status != 2)
      fail_msg("%s: exit status %d, %s", wrong[i], status, output.err);
    assert_string_equal(output.out, "");
    assert_one_line(output.err, "dstream forward: ", " ");
  }
}

/* ---- how it ends ---- */

static void test_once(void **state) {
  (void)state;
  char lines[2][LINE];
  forward("--once", "pump-7", "echo", "0", "pump-7", "http", "0", NULL);
  tool_line(&tool, lines[0], sizeof lines[0]);
  tool_line(&tool, lines[1], sizeof lines[1]);
  client_echo(lines[0], "the only one");
  assert_int_equal(tool_shell(&output, "curl -sS http://%s/", lines[1] + 10),
                   0);
  assert_int_equal(tool_wait(&tool), 0);
}

static void test_once_that_fails(void **state) {
  (void)state;
  char line[LINE];
  char back[16];
  forward("--once", "pump-7", "dead", "0", NULL);
  tool_line(&tool, line, sizeof line);
  int fd = client_connect(line);
  assert_int_equal(client_read_all(fd, back, sizeof back), -1);
  assert_int_equal(tool_wait(&tool), 1);
  forward("--once", "pump-7", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  assert_int_equal(tool_end(&tool, SIGTERM), 1);
}

static void test_idle_and_total(void **state) {
  (void)state;
  char line[LINE];
  char back[16];
  forward("--idle", "1", "pump-7", "hold", "0", NULL);
  tool_line(&tool, line, sizeof line);
  int fd = client_connect(line);
  assert_int_equal(client_read_all(fd, back, sizeof back), -1);
  tool_wait_said(&tool, "idle for 1 s");
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
  forward("--total", "1", "pump-7", "hold", "0", NULL);
  tool_line(&tool, line, sizeof line);
  fd = client_connect(line);
  assert_int_equal(client_read_all(fd, back, sizeof back), -1);
  tool_wait_said(&tool, "open for 1 s, which is the limit");
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

/* What runs ends in the orderly way: the client sees an end, no reset. */
static void test_a_signal_with_a_connection(void **state) {
  (void)state;
  char line[LINE];
  char back[16];
  forward("-v", "pump-7", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  int fd = client_connect(line);
  client_send(fd, "a");
  assert_int_equal(recv(fd, back, 1, 0), 1);
  kill(tool.pid, SIGINT);
  assert_int_equal(client_read_all(fd, back, sizeof back), 0);
  tool_wait_said(&tool, "1 bytes in, 1 bytes out");
  assert_int_equal(tool_wait(&tool), 0);
}

/* One that takes nothing holds it up for five seconds at most, a second signal
 * not at all. */
static void test_a_signal_with_a_stalled_connection(void **state) {
  (void)state;
  for (int again = 0; again < 2; again++) {
    char line[LINE];
    forward("pump-7", "source", "0", NULL);
    tool_line(&tool, line, sizeof line);
    int fd = client_connect(line);
    char back[1];
    assert_int_equal(recv(fd, back, 1, 0), 1);
    uint64_t begun_ms = tool_now_ms();
    kill(tool.pid, SIGTERM);
    if (again == 1) {
      /* Signals of one kind that wait together count as one. */
      kill(tool.pid, SIGINT);
    }
    assert_int_equal(tool_wait(&tool), 0);
    assert_true(tool_now_ms() - begun_ms < (again == 1 ? 3000 : 9000));
    close(fd);
  }
}

static void test_verbose(void **state) {
  (void)state;
  char line[LINE];
  forward("-v", "pump-7", "echo", "0", NULL);
  tool_line(&tool, line, sizeof line);
  client_echo(line, "hello");
  tool_wait_said(&tool, "-> pump-7 echo: open, from 127.0.0.1:");
  tool_wait_said(&tool, "5 bytes in, 5 bytes out");
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

/* ---- the group ---- */

static int group_setup(void **state) {
  (void)state;
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  tool_environment(&hub);
  tool_server_start(&echo, SERVE_ECHO);
  tool_server_start(&source, SERVE_SOURCE);
  tool_server_start(&http, SERVE_HTTP);
  tool_server_start(&hold, SERVE_HOLD);
  source.bytes = (uint64_t)256 << 20;
  snprintf(dead, sizeof dead, "127.0.0.1:%u", (unsigned)tool_unused_port());
  targets[0] = (struct dstream_target){.name = "echo", .address = echo.address};
  targets[1] =
      (struct dstream_target){.name = "source", .address = source.address};
  targets[2] = (struct dstream_target){.name = "http", .address = http.address};
  targets[3] = (struct dstream_target){.name = "hold", .address = hold.address};
  targets[4] = (struct dstream_target){.name = "dead", .address = dead};
  allow[0] = "127.0.0.0/8:*";
  tool_device_add(&device, &hub, "pump-7");
  tool_device_add(&late, &hub, "pump-8");
  tool_device_run(&device, &options);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  tool_device_stop(&device);
  tool_device_stop(&late);
  tool_server_stop(&echo);
  tool_server_stop(&source);
  tool_server_stop(&http);
  tool_server_stop(&hold);
  return hub_fixture_stop(&hub);
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_tcp),
      TEST(test_ipv6),
      TEST(test_unix_socket),
      TEST(test_another_address_is_warned_of),
      TEST(test_several_in_their_order),
      TEST(test_socks),
      TEST(test_a_module_is_no_device),
      TEST(test_many_at_once),
      TEST(test_a_limit_makes_others_wait),
      TEST(test_bulk),
      TEST(test_failures_stay_their_own),
      TEST(test_offline_then_online),
      TEST(test_no_hub),
      TEST(test_lines_are_limited),
      TEST(test_a_port_in_use),
      TEST(test_wrong_usage),
      TEST(test_once),
      TEST(test_once_that_fails),
      TEST(test_idle_and_total),
      TEST(test_a_signal_with_a_connection),
      TEST(test_a_signal_with_a_stalled_connection),
      TEST(test_verbose),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
