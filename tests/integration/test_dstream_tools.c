/* dstream show, devices, streams and log: what an operator asks a hub, in
 * tables that fit, in JSON, and on a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "integration/support_streams.h"
#include "integration/support_tool.h"

#define PAGED_STREAMS 103 /* more than a page has */

static struct hub_fixture hub;
static struct tool_device device; /* "pump-7" */
static struct tool_server echo;
static struct tool_server source;
static struct hub_output output;

/* ---- streams to look at ---- */

static void open_stream(struct tool *tool, const char *name) {
  const char *const arguments[] = {"dstream", "connect", "-v",
                                   "pump-7",  name,      NULL};
  tool_start(tool, arguments);
  tool_wait_said(tool, "the stream is open");
}

static void end_stream(struct tool *tool) {
  hub_fixture_mark_log(&hub);
  assert_int_equal(tool_end(tool, SIGTERM), 128 + SIGTERM);
  assert_int_equal(hub_fixture_wait_log(&hub, "ended by", TOOL_WAIT_MS), 0);
}

/* The member of the first object of an array that a command printed. */
static void first_text(const char *json, const char *name, char *out,
                       size_t size) {
  cJSON *array = cJSON_Parse(json);
  const char *text = cJSON_GetStringValue(
      cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(array, 0), name));
  if (text == NULL)
    fail_msg("no %s in %s", name, json);
  snprintf(out, size, "%s", text);
  cJSON_Delete(array);
}

static int count_of(const char *json) {
  cJSON *array = cJSON_Parse(json);
  if (!cJSON_IsArray(array))
    fail_msg("no array: %s", json);
  int count = cJSON_GetArraySize(array);
  cJSON_Delete(array);
  return count;
}

/* Runs a command that must do it and say nothing on stderr. */
static const char *run(const char *command) {
  int status = tool_shell(&output, "%s", command);
  if (status != 0 || output.err[0] != '\0')
    fail_msg("%s: %d, %s", command, status, output.err);
  return output.out;
}

static bool has(const char *text, const char *part) {
  return strstr(text, part) != NULL;
}

static void assert_has(const char *text, const char *part) {
  if (!has(text, part))
    fail_msg("no \"%s\" in:\n%s", part, text);
}

/* How many lines there are; none is longer than `most`. */
static unsigned lines_within(const char *text, size_t most) {
  unsigned lines = 0;
  for (const char *p = text; *p != '\0'; lines++) {
    size_t len = strcspn(p, "\r\n");
    if (len > most)
      fail_msg("%zu characters, not %zu: %.*s", len, most, (int)len, p);
    p += len;
    p += strspn(p, "\r\n");
  }
  return lines;
}

/* ---- show ---- */

static void test_show(void **state) {
  (void)state;
  char text[128];
  run("dstream show");
  assert_has(output.out, "localhost, dstream-hub " DSTREAM_VERSION "\n");
  snprintf(text, sizeof text, "https://localhost:%u\n",
           (unsigned)hub.https_port);
  assert_has(output.out, text);
  snprintf(text, sizeof text, " localhost:%u\n", (unsigned)hub.mqtt_port);
  assert_has(output.out, text);
  assert_has(output.out, "1 connected, 1 of them take streams\n");
  assert_has(output.out, "certificate");
  assert_true(lines_within(run("COLUMNS=40 dstream show"), 40) >= 8);
}

static void test_show_json(void **state) {
  (void)state;
  char text[128];
  cJSON *answer = cJSON_Parse(run("dstream show --json"));
  snprintf(text, sizeof text, "https://localhost:%u", (unsigned)hub.https_port);
  assert_string_equal(
      cJSON_GetStringValue(cJSON_GetArrayItem(
          cJSON_GetObjectItemCaseSensitive(answer, "streamingEndpoints"), 0)),
      text);
  assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "ready")) !=
              0);
  cJSON_Delete(answer);
}

/* ---- devices ---- */

static void test_devices(void **state) {
  (void)state;
  struct tool tool;
  char text[128];
  open_stream(&tool, "echo");
  run("dstream devices");
  assert_has(output.out, "DEVICE  STREAMS  CONNECTED  TAKES STREAMS  SINCE\n");
  assert_has(output.out, "pump-7        1 ");
  assert_int_equal(lines_within(run("COLUMNS=20 dstream devices"), 20), 2);
  assert_int_equal(count_of(run("dstream devices --json")), 1);
  first_text(output.out, "deviceId", text, sizeof text);
  assert_string_equal(text, "pump-7");
  assert_int_equal(count_of(run("dstream devices --json --device pump-70")), 0);
  end_stream(&tool);
}

/* ---- streams ---- */

static void test_streams(void **state) {
  (void)state;
  struct tool a;
  struct tool b;
  char line[16];
  open_stream(&a, "echo");
  open_stream(&b, "echo");
  assert_int_equal(write(a.in, "12345\n", 6), 6);
  tool_line(&a, line, sizeof line);
  run("dstream streams");
  assert_int_equal(lines_within(output.out, 400), 3);
  assert_has(output.out, " pump-7 ");
  assert_has(output.out, " 6 B ");
  assert_has(output.out, "service@127.0.0.1");
  assert_has(output.out, "DEVICE'S PEER");
  assert_null(strchr(output.out, '\033'));
  assert_int_equal(count_of(run("dstream streams --json")), 2);
  assert_int_equal(count_of(run("dstream streams --json --device x")), 0);
  assert_int_equal(count_of(run("dstream streams --json --device pump-7")), 2);
  end_stream(&a);
  end_stream(&b);
  assert_int_equal(count_of(run("dstream streams --json")), 0);
}

/* The least important goes first; no line is too long. */
static void test_width(void **state) {
  (void)state;
  struct tool tool;
  static const struct {
    unsigned width;
    const char *has, *lacks;
  } cases[] = {{40, "NAME", "CALLER"},
               {80, "CALLER", "SERVICE'S PEER"},
               {200, "DEVICE'S PEER", "~"}};
  open_stream(&tool, "echo");
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char command[64];
    snprintf(command, sizeof command, "COLUMNS=%u dstream streams",
             cases[i].width);
    assert_int_equal(lines_within(run(command), cases[i].width), 2);
    assert_has(output.out, cases[i].has);
    assert_false(has(output.out, cases[i].lacks));
    snprintf(command, sizeof command, "COLUMNS=%u dstream log", cases[i].width);
    assert_true(lines_within(run(command), cases[i].width) > 3);
    snprintf(command, sizeof command, "COLUMNS=%u dstream devices",
             cases[i].width);
    assert_int_equal(lines_within(run(command), cases[i].width), 2);
  }
  end_stream(&tool);
}

static void test_kill(void **state) {
  (void)state;
  struct tool tool;
  char id[64];
  char command[128];
  open_stream(&tool, "echo");
  run("dstream streams --json");
  first_text(output.out, "streamId", id, sizeof id);
  assert_int_equal(strlen(id), 32);
  snprintf(command, sizeof command, "dstream streams --kill %.10s", id);
  run(command);
  assert_has(output.out, id);
  tool_wait_said(&tool, "ended by an operator");
  assert_int_equal(tool_wait(&tool), 1);
  for (unsigned whole = 0; whole < 2; whole++) {
    assert_int_equal(tool_shell(&output, "dstream streams --kill %.*s",
                                whole == 1 ? 32 : 10, id),
                     1);
    assert_one_line(output.err, "dstream streams: there is no stream ", "list");
  }
  run("dstream log --json");
  assert_has(output.out, "\\\"event\\\":\\\"kill\\\"");
  assert_has(run("dstream log"), "ended by an operator");
}

/* ---- pages ---- */

static void test_pages(void **state) {
  (void)state;
  struct tool tool;
  int fds[PAGED_STREAMS];
  char listening[64];
  char byte[2] = "x";
  const char *const arguments[] = {"dstream", "forward", "pump-7",
                                   "echo",    "0",       NULL};
  if (TEST_SANITIZED)
    return;
  tool_start(&tool, arguments);
  tool_line(&tool, listening, sizeof listening);
  for (int i = 0; i < PAGED_STREAMS; i++) {
    fds[i] = client_connect(listening);
    client_send(fds[i], byte);
    assert_int_equal(read(fds[i], byte, 1), 1);
  }
  assert_int_equal(count_of(run("dstream streams --json")), PAGED_STREAMS);
  assert_int_equal(lines_within(run("dstream streams"), 400),
                   PAGED_STREAMS + 1);
  /* Each of them has left three records: more than one answer has. */
  unsigned records = lines_within(
      run("dstream log --json --since 10m --device pump-7 | cut -c1-50"), 50);
  assert_true(records >= 3 * PAGED_STREAMS);
  for (int i = 0; i < PAGED_STREAMS; i++)
    close(fds[i]);
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

/* ---- log ---- */

static void test_log(void **state) {
  (void)state;
  struct tool tool;
  open_stream(&tool, "echo");
  end_stream(&tool);
  assert_int_equal(
      tool_shell(&output, "dstream connect nobody echo </dev/null"), 1);
  run("dstream log");
  assert_has(output.out, "DATE        TIME      EVENT");
  assert_has(output.out, "  start ");
  assert_has(output.out, ", ended by service, close 1000");
  assert_has(output.out, "(404001)");
  run("dstream log --since 1h --device pump-7");
  assert_has(output.out, "  end ");
  assert_false(has(output.out, "nobody"));
  run("dstream log --device nobody --since today");
  assert_has(output.out, "nobody");
  assert_false(has(output.out, "pump-7"));
  assert_int_equal(lines_within(run("dstream log --since now --json"), 0), 0);
  assert_int_equal(lines_within(run("dstream log --device none --json"), 0), 0);
  run("dstream log --json --device pump-7 | tail -n 1");
  cJSON *record = cJSON_Parse(output.out);
  assert_string_equal(cJSON_GetStringValue(
                          cJSON_GetObjectItemCaseSensitive(record, "category")),
                      "DeviceStreams");
  cJSON_Delete(record);
}

/* The next line that holds text. */
static void wait_line(struct tool *tool, const char *text) {
  char line[2048];
  uint64_t until_ms = tool_now_ms() + TOOL_WAIT_MS;
  do {
    tool_line(tool, line, sizeof line);
    if (tool_now_ms() > until_ms)
      fail_msg("no line with \"%s\"; the last is: %s", text, line);
  } while (!has(line, text));
}

static void test_log_follows(void **state) {
  (void)state;
  struct tool log;
  struct tool tool;
  static const int signals[] = {SIGINT, SIGTERM};
  const char *const arguments[] = {"dstream",  "log",    "-f",
                                   "--device", "pump-7", NULL};
  for (size_t i = 0; i < 2; i++) {
    tool_start(&log, arguments);
    wait_line(&log, "DATE");
    open_stream(&tool, "echo");
    end_stream(&tool);
    wait_line(&log, "  start ");
    wait_line(&log, "  end ");
    assert_int_equal(tool_end(&log, signals[i]), 0);
  }
}

static void test_log_follows_a_hub_that_restarts(void **state) {
  (void)state;
  struct tool log;
  struct tool tool;
  const char *const arguments[] = {"dstream", "log",      "--follow",
                                   "--json",  "--device", "pump-7",
                                   "--since", "now",      NULL};
  tool_start(&log, arguments);
  open_stream(&tool, "echo");
  wait_line(&log, "\\\"start\\\"");
  assert_int_equal(hub_fixture_end(&hub), 0);
  tool_wait(&tool);
  tool_wait_said(&log, "; trying again\n");
  hub_fixture_mark_log(&hub);
  assert_int_equal(hub_fixture_run(&hub), 0);
  tool_wait_said(&log, "the hub is back\n");
  assert_int_equal(
      hub_fixture_wait_log(&hub, "device pump-7 can be reached", TOOL_WAIT_MS),
      0);
  /* What happened while the hub stopped comes late, and once. */
  wait_line(&log, "\\\"end\\\"");
  open_stream(&tool, "echo");
  wait_line(&log, "\\\"request\\\"");
  wait_line(&log, "\\\"start\\\"");
  end_stream(&tool);
  assert_int_equal(tool_end(&log, SIGINT), 0);
}

/* ---- watch ---- */

static void test_watch_in_a_pipe(void **state) {
  (void)state;
  struct tool watch;
  struct tool tool;
  const char *const arguments[] = {"dstream", "streams", "--watch", NULL};
  tool_start(&watch, arguments);
  wait_line(&watch, "0 streams, 0 B/s to devices");
  const char *const reading[] = {
      "bash", "-c", "exec dstream connect -v pump-7 source >/dev/null", NULL};
  tool_start(&tool, reading);
  tool_wait_said(&tool, "the stream is open");
  wait_line(&watch, "1 stream, ");
  wait_line(&watch, "MB/s to services");
  wait_line(&watch, "TO SERVICE/s");
  wait_line(&watch, "pump-7");
  end_stream(&tool);
  wait_line(&watch, "0 streams");
  assert_int_equal(tool_end(&watch, SIGINT), 0);
}

static void test_watch_in_json(void **state) {
  (void)state;
  struct tool watch;
  char line[2048];
  const char *const arguments[] = {"dstream", "streams", "--watch", "--json",
                                   NULL};
  tool_start(&watch, arguments);
  for (int i = 0; i < 2; i++) {
    tool_line(&watch, line, sizeof line);
    cJSON *object = cJSON_Parse(line);
    assert_true(
        cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(object, "streams")));
    cJSON_Delete(object);
  }
  assert_int_equal(tool_end(&watch, SIGTERM), 0);
}

/* ---- on a terminal ---- */

struct terminal {
  pid_t pid;
  int fd;
  struct termios before;
  char text[65536];
  size_t len;
};

static void terminal_start(struct terminal *t, unsigned columns,
                           const char *command) {
  struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
  memset(t, 0, sizeof *t);
  t->pid = forkpty(&t->fd, NULL, NULL, &size);
  assert_true(t->pid >= 0);
  if (t->pid == 0) {
    setenv("TERM", "xterm", 1);
    unsetenv("COLUMNS");
    unsetenv("LINES");
    execlp("bash", "bash", "-c", command, (char *)NULL);
    _exit(127);
  }
  assert_int_equal(tcgetattr(t->fd, &t->before), 0);
}

/* Reads what is shown; false: at its end, or for too long. */
static bool terminal_read(struct terminal *t) {
  struct pollfd ready = {.fd = t->fd, .events = POLLIN};
  if (t->len + 1 >= sizeof t->text)
    t->len = 0;
  if (poll(&ready, 1, TOOL_WAIT_MS) <= 0)
    return false;
  ssize_t n = read(t->fd, t->text + t->len, sizeof t->text - 1 - t->len);
  if (n <= 0)
    return false;
  t->len += (size_t)n;
  t->text[t->len] = '\0';
  return true;
}

static void terminal_wait(struct terminal *t, const char *text) {
  while (!has(t->text, text))
    if (!terminal_read(t))
      fail_msg("\"%s\" was not shown: %s", text, t->text);
}

static int terminal_end(struct terminal *t) {
  int status = 0;
  while (terminal_read(t))
    ;
  assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
  close(t->fd);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Takes escape sequences out of what was shown. */
static void plain(struct terminal *t) {
  char *to = t->text;
  for (const char *p = t->text; *p != '\0'; p++) {
    if (*p != '\033') {
      *to++ = *p;
      continue;
    }
    p++; /* '[' */
    while (p[1] != '\0' && (p[1] < '@' || p[1] > '~'))
      p++;
    if (p[1] != '\0')
      p++;
  }
  *to = '\0';
}

static void test_tables_on_a_terminal(void **state) {
  (void)state;
  static struct terminal t;
  static const unsigned widths[] = {40, 80, 200};
  struct tool tool;
  open_stream(&tool, "echo");
  for (size_t i = 0; i < 3; i++) {
    terminal_start(&t, widths[i], "dstream streams");
    assert_int_equal(terminal_end(&t), 0);
    assert_has(t.text, "\033[1m");
    plain(&t);
    assert_int_equal(lines_within(t.text, widths[i]), 2);
    assert_int_equal(has(t.text, "CALLER"), widths[i] > 40);
  }
  terminal_start(&t, 80, "NO_COLOR=1 dstream streams");
  assert_int_equal(terminal_end(&t), 0);
  assert_false(has(t.text, "\033"));
  terminal_start(&t, 80, "TERM=dumb dstream log");
  assert_int_equal(terminal_end(&t), 0);
  assert_false(has(t.text, "\033"));
  end_stream(&tool);
}

static void test_watch_on_a_terminal(void **state) {
  (void)state;
  static struct terminal t;
  struct tool tool;
  static const char *const ends[] = {"q", "\003"};
  open_stream(&tool, "echo");
  for (size_t i = 0; i < 2; i++) {
    /* The shell holds the terminal until it was looked at. */
    terminal_start(&t, 60,
                   "dstream streams --watch; echo status $?; read -r line");
    terminal_wait(&t, "pump-7");
    t.text[t.len = 0] = '\0';
    terminal_wait(&t, "pump-7"); /* again */
    terminal_wait(&t, "\033[J");
    assert_int_equal(write(t.fd, ends[i], 1), 1);
    terminal_wait(&t, "status 0");
    struct termios now;
    assert_has(t.text, "\033[?25h\033[?1049l");
    assert_int_equal(tcgetattr(t.fd, &now), 0);
    assert_int_equal(now.c_lflag, t.before.c_lflag);
    assert_int_equal(now.c_cc[VSUSP], t.before.c_cc[VSUSP]);
    assert_int_equal(write(t.fd, "\n", 1), 1);
    terminal_end(&t);
    *strstr(t.text, "\033[?25h") = '\0'; /* what comes behind it */
    plain(&t);
    lines_within(t.text, 60);
  }
  end_stream(&tool);
}

/* ---- device ---- */

/* As iothubowner, who may. */
static const char *as_owner(const char *command) {
  static char line[CONN_STRING_MAX + 256];
  char owner[CONN_STRING_MAX];
  assert_int_equal(hub_fixture_policy_string(&hub, "iothubowner", owner), 0);
  snprintf(line, sizeof line, "DSTREAM_CONNECTION_STRING='%s' %s", owner,
           command);
  return line;
}

static void test_device(void **state) {
  (void)state;
  char text[64];
  run(as_owner("dstream device add pump-9"));
  assert_int_equal(lines_within(output.out, 400), 1);
  assert_has(output.out, "HostName=localhost;DeviceId=pump-9;SharedAccessKey=");
  snprintf(text, sizeof text, ";HttpsPort=%u;MqttPort=%u\n",
           (unsigned)hub.https_port, (unsigned)hub.mqtt_port);
  assert_has(output.out, text);
  char *feed = strchr(output.out, '\n');
  *feed = '\0';
  struct tool_device added = {.hub = &hub};
  pthread_mutex_init(&added.lock, NULL);
  pthread_cond_init(&added.changed, NULL);
  snprintf(added.connection_string, sizeof added.connection_string, "%.4000s",
           output.out);
  tool_device_run(&added, NULL); /* it is good for a device */
  run(as_owner("dstream device list"));
  assert_has(output.out, "pump-9  enabled  Connected ");
  run(as_owner("dstream device list --json"));
  assert_int_equal(count_of(output.out), 2);
  assert_false(has(output.out, "Key\""));
  tool_device_stop(&added);
  run(as_owner("dstream device show pump-7 --json"));
  assert_has(output.out, "\"deviceId\":\"pump-7\"");
  assert_false(has(output.out, "Key\""));
  assert_has(run(as_owner("COLUMNS=40 dstream device show pump-7")),
             "pump-7  enabled");
  assert_int_equal(
      tool_shell(&output, "%s", as_owner("dstream device add pump-9")), 1);
  assert_one_line(output.err, "dstream device: there is a device pump-9", "");
  run(as_owner("dstream device remove pump-9"));
  assert_int_equal(
      tool_shell(&output, "%s", as_owner("dstream device remove pump-9")), 1);
  assert_one_line(output.err, "dstream device: the hub knows no device pump-9",
                  "dstream device list");
  assert_int_equal(tool_shell(&output, "dstream device add pump-9"), 1);
  assert_one_line(output.err, "dstream device: ", "the right RegistryWrite");
}

/* ---- failures ---- */

static const char *const commands[] = {"show",
                                       "devices",
                                       "streams",
                                       "streams --watch",
                                       "log",
                                       "log -f",
                                       "streams --kill 0123"};

static void fail_so(const char *environment, size_t count, const char *text) {
  for (size_t i = 0; i < count; i++) {
    char begin[64];
    int status = tool_shell(&output, "%s dstream %s </dev/null", environment,
                            commands[i]);
    if (status != 1)
      fail_msg("%s: exit status %d, %s", commands[i], status, output.err);
    assert_string_equal(output.out, "");
    snprintf(begin, sizeof begin,
             "dstream %.*s: ", (int)strcspn(commands[i], " "), commands[i]);
    assert_one_line(output.err, begin, text);
  }
}

static void test_what_the_hub_refuses(void **state) {
  (void)state;
  char policy[CONN_STRING_MAX];
  char environment[CONN_STRING_MAX + 64];
  snprintf(environment, sizeof environment,
           "DSTREAM_CONNECTION_STRING='HostName=localhost;HttpsPort=%u;"
           "SharedAccessKeyName=service;SharedAccessKey=AAAA'",
           (unsigned)hub.https_port);
  fail_so(environment, 7, "the hub refused the connection string");
  assert_int_equal(hub_fixture_policy_string(&hub, "device", policy), 0);
  snprintf(environment, sizeof environment, "DSTREAM_CONNECTION_STRING='%s'",
           policy);
  fail_so(environment, 1, "must have the right ServiceConnect");
  snprintf(environment, sizeof environment,
           "DSTREAM_CONNECTION_STRING='HostName=localhost;HttpsPort=%u;"
           "SharedAccessKeyName=service;SharedAccessKey=AAAA'",
           (unsigned)tool_unused_port());
  fail_so(environment, 7, "the network: can't connect to");
  fail_so("DSTREAM_CA_FILE=", 1, "the hub could not be verified");
}

static void test_wrong_usage(void **state) {
  (void)state;
  static const char *const wrong[] = {
      "dstream show more",
      "dstream show --unknown",
      "dstream devices more",
      "dstream devices --device 'a b'",
      "dstream device",
      "dstream device add",
      "dstream device add 'a b'",
      "dstream device add a/b",
      "dstream device add a b",
      "dstream device list a",
      "dstream device rename a",
      "dstream streams more",
      "dstream streams --kill",
      "dstream streams --kill xyz",
      "dstream streams --kill 012",
      "dstream streams --kill 0123 --watch",
      "dstream log more",
      "dstream log --since soon",
      "dstream log --since ''",
      "dstream log -x",
      "dstream log --device ''",
      "DSTREAM_CONNECTION_STRING= dstream log",
      "dstream show --connection-string nonsense",
      "dstream show --ca-file /nonexistent",
  };
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    int status = tool_shell(&output, "%s </dev/null", wrong[i]);
    if (status != 2)
      fail_msg("%s: exit status %d", wrong[i], status);
    assert_string_equal(output.out, "");
    assert_one_line(output.err, "dstream ", ": ");
  }
}

static void test_stdout_that_is_full(void **state) {
  (void)state;
  static const char *const all[] = {"show", "devices --json", "streams --watch",
                                    "log -f"};
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(tool_shell(&output, "dstream %s >/dev/full", all[i]), 1);
    assert_one_line(output.err, "dstream ", "can't write to stdout");
  }
}

/* ---- the group ---- */

static int group_setup(void **state) {
  (void)state;
  static struct dstream_target targets[2];
  static struct dstream_targets_options options = {
      .size = sizeof options, .targets = targets, .target_count = 2};
  const struct hub_fixture_options limits = {
      .overrides = "{\"limits\":{\"requests_per_second\":1000,"
                   "\"request_burst\":1000}}"};
  if (hub_fixture_start(&hub, &limits) != 0)
    return -1;
  tool_environment(&hub);
  unsetenv("COLUMNS");
  unsetenv("LINES");
  unsetenv("NO_COLOR");
  tool_server_start(&echo, SERVE_ECHO);
  tool_server_start(&source, SERVE_SOURCE);
  source.bytes = UINT64_C(1) << 62;
  targets[0] = (struct dstream_target){.name = "echo", .address = echo.address};
  targets[1] =
      (struct dstream_target){.name = "source", .address = source.address};
  tool_device_add(&device, &hub, "pump-7");
  tool_device_run(&device, &options);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  tool_device_stop(&device);
  tool_server_stop(&echo);
  tool_server_stop(&source);
  return hub_fixture_stop(&hub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_show),
      cmocka_unit_test(test_show_json),
      cmocka_unit_test(test_devices),
      cmocka_unit_test(test_streams),
      cmocka_unit_test(test_width),
      cmocka_unit_test(test_kill),
      cmocka_unit_test(test_pages),
      cmocka_unit_test(test_log),
      cmocka_unit_test(test_log_follows),
      cmocka_unit_test(test_watch_in_a_pipe),
      cmocka_unit_test(test_watch_in_json),
      cmocka_unit_test(test_tables_on_a_terminal),
      cmocka_unit_test(test_watch_on_a_terminal),
      cmocka_unit_test(test_device),
      cmocka_unit_test(test_what_the_hub_refuses),
      cmocka_unit_test(test_wrong_usage),
      cmocka_unit_test(test_stdout_that_is_full),
      cmocka_unit_test(test_log_follows_a_hub_that_restarts),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
