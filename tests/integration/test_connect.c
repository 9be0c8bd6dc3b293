/* dstream connect: a stream on stdin and stdout, with the programs that people
 * put around it: pipes, files, signals, and every way in which it can fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_streams.h"
#include "integration/support_tool.h"

#define MEGABYTES (TEST_SANITIZED ? 4 : 20)

static struct hub_fixture hub;
static struct tool_device device;  /* "pump-7" */
static struct tool_device offline; /* "pump-8": added, not run */
static struct tool_device mute;    /* "pump-9": answers nothing */
static struct tool_server echo;
static struct tool_server sum;
static struct tool_server source;
static struct tool_server resetting;
static struct tool_server hold;
static char dead[32];
static struct hub_output output;

static const char program[] = "dstream connect: ";

/* ---- bytes ---- */

static void test_a_file_there_and_back(void **state) {
  (void)state;
  int status = tool_shell(
      &output,
      "set -e; cd %s; head -c %dM /dev/urandom >sent; "
      "dstream connect pump-7 echo <sent >back; cmp sent back; rm sent back",
      hub.directory, MEGABYTES);
  assert_string_equal(output.err, "");
  assert_int_equal(status, 0);
}

static void test_pipes_there_and_back(void **state) {
  (void)state;
  int status = tool_shell(
      &output,
      "set -o pipefail; a=$(head -c %dM /dev/zero | sha256sum); "
      "b=$(head -c %dM /dev/zero | dstream connect pump-7 echo | sha256sum) && "
      "[ \"$a\" = \"$b\" ]",
      MEGABYTES, MEGABYTES);
  assert_string_equal(output.err, "");
  assert_int_equal(status, 0);
}

/* The other end answers after the end of stdin only. */
static void test_half_close(void **state) {
  (void)state;
  assert_int_equal(
      tool_shell(&output, "printf 12345 | dstream connect pump-7 sum"), 0);
  assert_string_equal(output.out, "5 bytes\n");
  assert_string_equal(output.err, "");
}

static void test_stdin_at_its_end(void **state) {
  (void)state;
  assert_int_equal(tool_shell(&output, "dstream connect pump-7 sum </dev/null"),
                   0);
  assert_string_equal(output.out, "0 bytes\n");
  assert_int_equal(tool_shell(&output, "dstream connect pump-7 sum <&-"), 0);
  assert_string_equal(output.out, "0 bytes\n");
  assert_int_equal(
      tool_shell(&output, "dstream connect pump-7 source </dev/null | wc -c"),
      0);
  assert_int_equal(strtoull(output.out, NULL, 10), source.bytes);
}

/* By its address instead of a name, where the agent allows it. */
static void test_host_and_port(void **state) {
  (void)state;
  assert_int_equal(tool_shell(&output, "printf 123 | dstream connect pump-7 %s",
                              sum.address),
                   0);
  assert_string_equal(output.out, "3 bytes\n");
  assert_int_equal(
      tool_shell(&output, "dstream connect pump-7 192.0.2.1:80 </dev/null"), 1);
  assert_one_line(output.err, program, "the agent on pump-7 refused");
}

/* What reads stdout goes away: so does the program. */
static void test_a_reader_that_goes_away(void **state) {
  (void)state;
  int status = tool_shell(&output, "dstream connect pump-7 source </dev/null | "
                                   "head -c 10 | wc -c; "
                                   "exit ${PIPESTATUS[0]}");
  assert_int_equal(status, 1);
  assert_int_equal(strtoul(output.out, NULL, 10), 10);
  assert_one_line(output.err, program, "what read from stdout went away");
}

/* ... also when no byte comes that could not be written. */
static void test_a_reader_that_goes_away_in_silence(void **state) {
  (void)state;
  struct tool tool;
  char line[16];
  const char *const arguments[] = {"dstream", "connect", "pump-7", "echo",
                                   NULL};
  tool_start(&tool, arguments);
  assert_int_equal(write(tool.in, "x\n", 2), 2);
  tool_line(&tool, line, sizeof line);
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  assert_true(dup3(null, tool.out, O_CLOEXEC) >= 0);
  close(null);
  tool_wait_said(&tool, "what read from stdout went away");
  assert_int_equal(tool_wait(&tool), 1);
}

/* One socket for both, as inetd and socat give it.  The open file is shared
 * with whoever gave it: its flags are as they were, however the program ends.
 */
static int on_one_socket(struct tool *tool, const char *target, int ends[2]) {
  char line[128];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  snprintf(line, sizeof line, "exec dstream connect -v pump-7 %s <&%d >&%d",
           target, ends[1], ends[1]);
  fcntl(ends[1], F_SETFD, 0);
  const char *const arguments[] = {"bash", "-c", line, NULL};
  tool_start(tool, arguments);
  tool_wait_said(tool, "is open");
  return fcntl(ends[1], F_GETFL) & O_NONBLOCK;
}

static void test_one_socket_for_both(void **state) {
  (void)state;
  struct tool tool;
  int ends[2];
  char back[16];
  assert_int_not_equal(on_one_socket(&tool, "sum", ends), 0);
  client_send(ends[0], "1234567");
  shutdown(ends[0], SHUT_WR);
  size_t len = 0;
  while (len < 8) {
    ssize_t n = read(ends[0], back + len, sizeof back - len);
    assert_true(n > 0);
    len += (size_t)n;
  }
  assert_memory_equal(back, "7 bytes\n", 8);
  assert_int_equal(tool_wait(&tool), 0);
  assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
  close(ends[0]);
  close(ends[1]);
  static const int signals[] = {SIGTERM, SIGINT};
  for (int again = 0; again < 2; again++) {
    on_one_socket(&tool, "hold", ends);
    if (again == 1)
      kill(tool.pid, signals[0]);
    tool_end(&tool, signals[again]);
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    close(ends[0]);
    close(ends[1]);
  }
}

/* ---- failures ---- */

static void fails(const char *command, const char *text) {
  int status = tool_shell(&output, "%s </dev/null", command);
  if (status != 1)
    fail_msg("%s: exit status %d, %s", command, status, output.err);
  assert_string_equal(output.out, "");
  assert_one_line(output.err, program, text);
}

static void test_what_the_hub_refuses(void **state) {
  (void)state;
  fails("dstream connect pump-8 ssh",
        "pump-8 is not connected to the hub (404103); is dstream-agent running "
        "there?");
  fails("dstream connect pump-8 ssh --wait 1",
        "pump-8 is not connected to the hub (404103)");
  fails("dstream connect nobody ssh",
        "the hub knows no device nobody (404001)");
  fails("dstream connect pump-7/module ssh", "pump-7/module");
  fails("dstream connect --timeout 1 pump-9 ssh",
        "pump-9 is connected to the hub but did not answer in time (504101)");
}

static void test_what_the_device_refuses(void **state) {
  (void)state;
  char text[128];
  fails("dstream connect pump-7 telnet",
        "the agent on pump-7 refused telnet: there is no target \"telnet\"");
  snprintf(text, sizeof text, "target dead (%s): Connection refused", dead);
  fails("dstream connect pump-7 dead", text);
}

static void test_what_the_network_refuses(void **state) {
  (void)state;
  char command[1024];
  fails("DSTREAM_CA_FILE= dstream connect pump-7 echo",
        "the hub could not be verified");
  snprintf(command, sizeof command,
           "DSTREAM_CONNECTION_STRING='HostName=localhost;HttpsPort=%u;"
           "SharedAccessKeyName=service;SharedAccessKey=AAAA' "
           "dstream connect pump-7 echo",
           (unsigned)tool_unused_port());
  fails(command, "the network: can't connect to");
  fails("DSTREAM_CONNECTION_STRING='HostName=no-such-host.invalid;"
        "SharedAccessKeyName=service;SharedAccessKey=AAAA' "
        "dstream connect pump-7 echo",
        "the network: can't find the host no-such-host.invalid");
  snprintf(command, sizeof command,
           "DSTREAM_CONNECTION_STRING='HostName=localhost;HttpsPort=%u;"
           "SharedAccessKeyName=service;SharedAccessKey=AAAA' "
           "dstream connect pump-7 echo",
           (unsigned)hub.https_port);
  fails(command, "the hub refused the connection string");
  snprintf(command, sizeof command,
           "dstream connect --http-proxy http://127.0.0.1:%u pump-7 echo",
           (unsigned)tool_unused_port());
  fails(command, "127.0.0.1");
}

/* The target breaks off: bytes may be missing, and the status says so. */
static void test_a_target_that_resets(void **state) {
  (void)state;
  struct tool tool;
  char errors[1024];
  const char *const arguments[] = {"dstream", "connect", "pump-7", "reset",
                                   NULL};
  tool_start(&tool, arguments);
  assert_int_equal(write(tool.in, "x", 1), 1);
  tool_wait_said(&tool, "\n");
  tool_errors(&tool, errors, sizeof errors);
  assert_one_line(errors, program, "target reset (127.0.0.1:");
  assert_int_equal(tool_wait(&tool), 1);
}

static void test_wrong_usage(void **state) {
  (void)state;
  static const char *const commands[] = {
      "dstream connect",
      "dstream connect pump-7",
      "dstream connect pump-7 ssh more",
      "dstream connect 'pump 7' ssh",
      "dstream connect pump-7/ ssh",
      "dstream connect '' ssh",
      "dstream connect pump-7 ''",
      "dstream connect pump-7 host:port",
      "dstream connect --wait 61 pump-7 ssh",
      "dstream connect --wait x pump-7 ssh",
      "dstream connect --timeout 0 pump-7 ssh",
      "dstream connect --timeout",
      "dstream connect --unknown pump-7 ssh",
      "dstream connect -x pump-7 ssh",
      "DSTREAM_CONNECTION_STRING= dstream connect pump-7 ssh",
      "dstream connect --connection-string nonsense pump-7 ssh",
      "dstream connect --ca-file /nonexistent pump-7 ssh",
      "dstream connect --http-proxy nonsense pump-7 ssh",
      "dstream",
      "dstream unknown",
      "dstream --unknown",
  };
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    int status = tool_shell(&output, "%s </dev/null", commands[i]);
    if (status != 2)
      fail_msg("%s: exit status %d", commands[i], status);
    assert_string_equal(output.out, "");
    assert_one_line(output.err, "dstream", ": ");
  }
}

static void test_help_and_version(void **state) {
  (void)state;
  assert_int_equal(tool_shell(&output, "dstream --help"), 0);
  assert_non_null(strstr(output.out, "dstream COMMAND --help"));
  assert_non_null(strstr(output.out, "connect"));
  assert_non_null(strstr(output.out, "forward"));
  assert_int_equal(tool_shell(&output, "dstream connect --help"), 0);
  assert_non_null(strstr(output.out, "--timeout SECONDS"));
  assert_non_null(strstr(output.out, "--connection-string-file F"));
  assert_int_equal(tool_shell(&output, "dstream forward -h"), 0);
  assert_non_null(strstr(output.out, "--socks LISTEN"));
  assert_int_equal(tool_shell(&output, "dstream --version"), 0);
  assert_string_equal(output.out, "dstream " DSTREAM_VERSION "\n");
  assert_int_equal(tool_shell(&output, "dstream --help >/dev/full"), 1);
  assert_one_line(output.err, "dstream: ", "can't write to stdout");
}

/* ---- options ---- */

static void test_options_before_and_behind(void **state) {
  (void)state;
  assert_int_equal(
      tool_shell(&output,
                 "cd %s; printenv DSTREAM_CONNECTION_STRING >string; "
                 "chmod 600 string; unset DSTREAM_CONNECTION_STRING; "
                 "unset DSTREAM_CA_FILE; echo -n 1234 | "
                 "dstream --connection-string-file string connect pump-7 "
                 "--ca-file '%s' sum; status=$?; rm string; exit $status",
                 hub.directory, hub.ca_file),
      0);
  assert_string_equal(output.out, "4 bytes\n");
  assert_string_equal(output.err, "");
}

/* The connection string's line is taken from stdin, and not a byte more. */
static void test_connection_string_on_stdin(void **state) {
  (void)state;
  assert_int_equal(
      tool_shell(&output,
                 "s=$DSTREAM_CONNECTION_STRING; unset "
                 "DSTREAM_CONNECTION_STRING; (echo \"$s\"; echo -n 123456) | "
                 "dstream connect --connection-string-file - pump-7 sum"),
      0);
  assert_string_equal(output.out, "6 bytes\n");
}

/* Neither the connection string nor the proxy's password stays where every
 * user of the machine can read it. */
static void test_secrets_stay_secret(void **state) {
  (void)state;
  char string[4200];
  char path[64];
  char seen[8192];
  struct tool tool;
  snprintf(string, sizeof string, "--connection-string=%s", hub.service_string);
  const char *const arguments[] = {
      "dstream", "connect",      string,
      "-v",      "--http-proxy", "http://user:pa55word@127.0.0.1:9",
      "pump-7",  "hold",         NULL};
  const char *const without[] = {"dstream", "connect", string, "-v",
                                 "pump-7",  "hold",    NULL};
  tool_start(&tool, without);
  tool_wait_said(&tool, "is open");
  snprintf(path, sizeof path, "/proc/%d/cmdline", (int)tool.pid);
  FILE *file = fopen(path, "re");
  assert_non_null(file);
  size_t len = fread(seen, 1, sizeof seen - 1, file);
  fclose(file);
  for (size_t i = 0; i < len; i++)
    if (seen[i] == '\0')
      seen[i] = ' ';
  seen[len] = '\0';
  assert_non_null(strstr(seen, "pump-7"));
  assert_null(strstr(seen, "SharedAccessKey"));
  assert_false(tool_said(&tool, "SharedAccessKey="));
  assert_int_equal(tool_end(&tool, SIGTERM), 128 + SIGTERM);
  tool_start(&tool, arguments);
  tool_wait_said(&tool, "127.0.0.1:9");
  assert_false(tool_said(&tool, "pa55word"));
  assert_int_equal(tool_wait(&tool), 1);
}

static void test_verbose_tells_the_steps(void **state) {
  (void)state;
  assert_int_equal(
      tool_shell(&output, "printf 12345 | dstream connect -v pump-7 sum"), 0);
  assert_string_equal(output.out, "5 bytes\n");
  static const char *const steps[] = {
      " ms  asking the hub localhost:", " ms  hub accepted the request",
      " ms  connecting to the streaming endpoint", " ms  the stream is open",
      " 8 bytes from pump-7, 5 bytes to it\n"};
  const char *at = output.err;
  for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
    at = strstr(at, steps[i]);
    if (at == NULL)
      fail_msg("step \"%s\" is missing: %s", steps[i], output.err);
  }
}

/* ---- signals ---- */

static void test_signals(void **state) {
  (void)state;
  static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
  for (size_t i = 0; i < 3; i++) {
    struct tool tool;
    char line[16];
    const char *const arguments[] = {"dstream", "connect", "pump-7", "echo",
                                     NULL};
    tool_start(&tool, arguments);
    assert_int_equal(write(tool.in, "x\n", 2), 2);
    tool_line(&tool, line, sizeof line);
    assert_string_equal(line, "x");
    hub_fixture_mark_log(&hub);
    assert_int_equal(tool_end(&tool, signals[i]), 128 + signals[i]);
    /* In the orderly way: the hub saw a Close. */
    assert_int_equal(hub_fixture_wait_log(&hub, "close 1000", TOOL_WAIT_MS), 0);
  }
}

/* While it waits for the device, and with a target that takes nothing. */
static void test_a_signal_while_nothing_moves(void **state) {
  (void)state;
  struct tool tool;
  const char *const waiting[] = {"dstream", "connect", "-v", "--wait",
                                 "60",      "pump-8",  "x",  NULL};
  tool_start(&tool, waiting);
  tool_wait_said(&tool, "asking the hub");
  assert_int_equal(tool_end(&tool, SIGTERM), 128 + SIGTERM);

  const char *const stalled[] = {
      "bash", "-c", "exec dstream connect -v pump-7 hold </dev/zero", NULL};
  tool_start(&tool, stalled);
  tool_wait_said(&tool, "is open");
  uint64_t begun_ms = tool_now_ms();
  assert_int_equal(tool_end(&tool, SIGHUP), 128 + SIGHUP);
  assert_true(tool_now_ms() - begun_ms < 4000);
}

/* nohup. */
static void test_an_ignored_signal(void **state) {
  (void)state;
  struct tool tool;
  char line[16];
  const char *const arguments[] = {
      "bash", "-c", "trap '' HUP; exec dstream connect pump-7 echo", NULL};
  tool_start(&tool, arguments);
  assert_int_equal(write(tool.in, "a\n", 2), 2);
  tool_line(&tool, line, sizeof line);
  kill(tool.pid, SIGHUP);
  assert_int_equal(write(tool.in, "b\n", 2), 2);
  tool_line(&tool, line, sizeof line);
  assert_string_equal(line, "b");
  close(tool.in);
  tool.in = -1;
  assert_int_equal(tool_wait(&tool), 0);
}

/* The device comes while the hub waits for it. */
static void test_wait_for_a_device(void **state) {
  (void)state;
  struct tool tool;
  char line[64];
  struct dstream_target targets[] = {{.name = "echo", .address = echo.address}};
  struct dstream_targets_options options = {
      .size = sizeof options, .targets = targets, .target_count = 1};
  const char *const arguments[] = {"dstream", "connect", "-v",   "--wait",
                                   "60",      "pump-8",  "echo", NULL};
  tool_start(&tool, arguments);
  tool_wait_said(&tool, "asking the hub");
  assert_int_equal(write(tool.in, "late\n", 5), 5);
  tool_device_run(&offline, &options);
  tool_line(&tool, line, sizeof line);
  assert_string_equal(line, "late");
  close(tool.in);
  tool.in = -1;
  assert_int_equal(tool_wait(&tool), 0);
  tool_device_stop(&offline);
}

/* ---- the group ---- */

static int group_setup(void **state) {
  (void)state;
  static struct dstream_target targets[6];
  static const char *allow[1];
  static struct dstream_targets_options options = {.size = sizeof options,
                                                   .targets = targets,
                                                   .target_count = 6,
                                                   .allow = allow,
                                                   .allow_count = 1};
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  tool_environment(&hub);
  tool_server_start(&echo, SERVE_ECHO);
  tool_server_start(&sum, SERVE_SUM);
  tool_server_start(&source, SERVE_SOURCE);
  tool_server_start(&resetting, SERVE_RESET);
  tool_server_start(&hold, SERVE_HOLD);
  source.bytes = (uint64_t)MEGABYTES << 20;
  snprintf(dead, sizeof dead, "127.0.0.1:%u", (unsigned)tool_unused_port());
  targets[0] = (struct dstream_target){.name = "echo", .address = echo.address};
  targets[1] = (struct dstream_target){.name = "sum", .address = sum.address};
  targets[2] =
      (struct dstream_target){.name = "source", .address = source.address};
  targets[3] =
      (struct dstream_target){.name = "reset", .address = resetting.address};
  targets[4] = (struct dstream_target){.name = "hold", .address = hold.address};
  targets[5] = (struct dstream_target){.name = "dead", .address = dead};
  allow[0] = "127.0.0.0/8:*";
  tool_device_add(&device, &hub, "pump-7");
  tool_device_add(&offline, &hub, "pump-8");
  tool_device_add(&mute, &hub, "pump-9");
  tool_device_run(&device, &options);
  tool_device_run(&mute, NULL);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  tool_device_stop(&device);
  tool_device_stop(&offline);
  tool_device_stop(&mute);
  tool_server_stop(&echo);
  tool_server_stop(&sum);
  tool_server_stop(&source);
  tool_server_stop(&resetting);
  tool_server_stop(&hold);
  return hub_fixture_stop(&hub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_file_there_and_back),
      cmocka_unit_test(test_pipes_there_and_back),
      cmocka_unit_test(test_half_close),
      cmocka_unit_test(test_stdin_at_its_end),
      cmocka_unit_test(test_host_and_port),
      cmocka_unit_test(test_a_reader_that_goes_away),
      cmocka_unit_test(test_a_reader_that_goes_away_in_silence),
      cmocka_unit_test(test_one_socket_for_both),
      cmocka_unit_test(test_what_the_hub_refuses),
      cmocka_unit_test(test_what_the_device_refuses),
      cmocka_unit_test(test_what_the_network_refuses),
      cmocka_unit_test(test_a_target_that_resets),
      cmocka_unit_test(test_wrong_usage),
      cmocka_unit_test(test_help_and_version),
      cmocka_unit_test(test_options_before_and_behind),
      cmocka_unit_test(test_connection_string_on_stdin),
      cmocka_unit_test(test_secrets_stay_secret),
      cmocka_unit_test(test_verbose_tells_the_steps),
      cmocka_unit_test(test_signals),
      cmocka_unit_test(test_a_signal_while_nothing_moves),
      cmocka_unit_test(test_an_ignored_signal),
      cmocka_unit_test(test_wait_for_a_device),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
