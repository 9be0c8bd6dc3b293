/* What SECURITY.md says of keys, files and logs: where a secret may be seen,
 * what a stolen one is good for, and what hostile words do to a log. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_raw.h"
#include "integration/support_tool.h"
#include "integration/support_world.h"

static struct hub_fixture hub;
static struct hub_output output;
static char mallory[CONN_STRING_MAX]; /* a device's, in the wrong hands */
static dstream_service *service;
static struct beside beside; /* its device is "steady" */

/* All that the hub has said. */
static char *hub_log(void) {
  pthread_mutex_lock(&hub.log_lock);
  char *text = malloc(hub.log_len + 1);
  if (text != NULL) {
    memcpy(text, hub.log, hub.log_len);
    text[hub.log_len] = '\0';
  }
  pthread_mutex_unlock(&hub.log_lock);
  assert_non_null(text);
  return text;
}

/* ---- nothing secret is said, at the highest level ---- */

/* What must not be found, each in one piece of letters and digits, as any
 * encoding leaves those alone. */
struct secrets {
  char text[8][80];
  size_t count;
};

static void add_secret(struct secrets *secrets, const char *text) {
  size_t best = 0;
  const char *from = text;
  static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  for (const char *p = text; *p != '\0' && *p != ';' && *p != '\n'; p++) {
    if (strspn(p, plain) > best) {
      best = strspn(p, plain);
      from = p;
    }
  }
  assert_true(best >= 8);
  assert_true(secrets->count < 8);
  snprintf(secrets->text[secrets->count++], sizeof secrets->text[0], "%.*s",
           (int)(best < 79 ? best : 79), from);
}

static const char *behind(const char *text, const char *key) {
  const char *at = strstr(text, key);
  assert_non_null(at);
  return at + strlen(key);
}

static void say_none(const struct secrets *secrets, const char *where,
                     const char *text, size_t len) {
  static const char *const always[] = {"SharedAccessSignature sr",
                                       "&sig=", "SharedAccessKey=", "eyJ0eXAi",
                                       "dstream-certificate "};
  assert_true(len > 0);
  for (size_t i = 0; i < sizeof always / sizeof *always; i++) {
    const char *at = memmem(text, len, always[i], strlen(always[i]));
    if (at != NULL)
      fail_msg("%s: %.80s", where, at);
  }
  for (size_t i = 0; i < secrets->count; i++) {
    const char *at =
        memmem(text, len, secrets->text[i], strlen(secrets->text[i]));
    if (at != NULL)
      fail_msg("%s: secret %zu: %.80s", where, i, at);
  }
}

static void process_says_none(const struct secrets *secrets, pid_t pid) {
  static const char *const files[] = {"cmdline", "environ"};
  for (size_t i = 0; i < 2; i++) {
    char path[64];
    char text[65536];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, files[i]);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof text, file);
    fclose(file);
    say_none(secrets, path, text, len);
  }
}

static void tool_says_none(const struct secrets *secrets,
                           const struct tool *tool, const char *marker) {
  char text[65536];
  tool_errors(tool, text, sizeof text);
  if (strstr(text, marker) == NULL)
    fail_msg("it says no \"%s\": %s", marker, text);
  say_none(secrets, "what a program says", text, strlen(text));
}

#define FORGED "Forged0Signature0That0Nobody0Made"

/* What is refused is where a careless log would quote it. */
static bool show_forgeries(struct raw *raw, void *arg) {
  (void)arg;
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_text(raw, "POST /twins/steady/streams/echo HTTP/1.1\r\n"
                          "Host: a\r\nContent-Length: 0\r\nAuthorization: "
                          "SharedAccessSignature sr=localhost&sig=" FORGED
                          "&se=9999999999&skn=service\r\n\r\n"));
  NEED(raw, raw_answer(raw) == 401);
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_upgrade(raw, "localhost",
                        "/bridges/ih/localhost/d/steady/sid/"
                        "0123456789abcdef0123456789abcdef/r/service",
                        FORGED, NULL, 0) == 401);
  NEED(raw, raw_connect(raw, "localhost", hub.mqtt_port, hub.ca_file));
  NEED(raw, raw_mqtt_connect(raw, "steady",
                             "localhost/steady/?api-version=2020-09-30",
                             "SharedAccessSignature sr=localhost%2Fdevices%2F"
                             "steady&sig=" FORGED "&se=9999999999") == 5);
  return true;
}

static void file_of(char *out, size_t size, const char *name,
                    const char *text) {
  snprintf(out, size, "%s/%s", hub.directory, name);
  FILE *file = fopen(out, "we");
  assert_non_null(file);
  assert_true(fputs(text, file) >= 0);
  assert_int_equal(fclose(file), 0);
  assert_int_equal(chmod(out, 0600), 0);
}

static void broker_password(struct secrets *secrets) {
  char path[HUB_FIXTURE_PATH + 32];
  char line[1024];
  snprintf(path, sizeof path, "%s/run/mosquitto.conf", hub.hub_dir);
  FILE *file = fopen(path, "re");
  assert_non_null(file);
  size_t before = secrets->count;
  while (secrets->count == before && fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, "plugin_opt_secret ", 18) == 0)
      add_secret(secrets, line + 18);
  }
  fclose(file);
  assert_int_equal(secrets->count, before + 1);
}

/* A whole session: an agent, a connect and a forward. */
static void test_nothing_secret_is_said(void **state) {
  (void)state;
  struct secrets secrets = {.count = 0};
  struct tool_server server = {0};
  struct tool agent, forward;
  char text[CONN_STRING_MAX], key[400], service_file[400], target[80];
  char line[256];
  assert_int_equal(hub_fixture_add_device(&hub, "quiet", text), 0);
  add_secret(&secrets, behind(text, "SharedAccessKey="));
  add_secret(&secrets, behind(hub.service_string, "SharedAccessKey="));
  add_secret(&secrets, FORGED);
  broker_password(&secrets);
  file_of(key, sizeof key, "quiet", text);
  file_of(service_file, sizeof service_file, "service", hub.service_string);
  tool_server_start(&server, SERVE_ECHO);
  snprintf(target, sizeof target, "echo=%s", server.address);
  const char *const agent_line[] = {"dstream-agent",
                                    "--connection-string-file",
                                    key,
                                    "--ca-file",
                                    hub.ca_file,
                                    "--target",
                                    target,
                                    "-v",
                                    NULL};
  const char *const forward_line[] = {
      "dstream",    "forward", "-v",   "--connection-string-file",
      service_file, "quiet",   "echo", "0",
      NULL};
  unsetenv("DSTREAM_CONNECTION_STRING");
  tool_start(&agent, agent_line);
  tool_line(&agent, line, sizeof line);
  tool_start(&forward, forward_line);
  tool_line(&forward, line, sizeof line);
  client_echo(line, "what passes through");
  assert_int_equal(tool_shell(&output,
                              "printf 12345 | dstream connect -v "
                              "--connection-string-file %s quiet echo",
                              service_file),
                   0);
  say_none(&secrets, "dstream connect", output.err, strlen(output.err));
  run_script(show_forgeries, NULL);
  process_says_none(&secrets, agent.pid);
  process_says_none(&secrets, forward.pid);
  process_says_none(&secrets, hub.pid);
  process_says_none(&secrets, hub_fixture_broker(&hub));
  tool_says_none(&secrets, &forward, "open");
  tool_says_none(&secrets, &agent, "quiet: ");
  assert_int_equal(tool_end(&forward, SIGTERM), 0);
  assert_int_equal(tool_end(&agent, SIGTERM), 0);
  char *log = hub_log();
  assert_non_null(strstr(log, " debug ")); /* that level it is */
  assert_non_null(strstr(log, "paired after"));
  say_none(&secrets, "the hub's log", log, strlen(log));
  free(log);
  assert_int_equal(tool_shell(&output, "cat %s/activity.log", hub.hub_dir), 0);
  assert_non_null(strstr(output.out, "quiet"));
  say_none(&secrets, "the activity log", output.out, strlen(output.out));
  tool_server_stop(&server);
}

/* ---- hostile words ---- */

static bool log_in(struct raw *raw, const char *id, const char *string) {
  char resource[200];
  char user[200];
  char token[4096];
  snprintf(resource, sizeof resource, "localhost/devices/%s", id);
  snprintf(user, sizeof user, "localhost/%s/?api-version=2020-09-30", id);
  world_sas(token, sizeof token, string, resource, 600, NULL);
  NEED(raw, raw_connect(raw, "localhost", hub.mqtt_port, hub.ca_file));
  NEED(raw, raw_mqtt_connect(raw, id, user, token) == 0);
  return true;
}

#define LURE "2026-01-01T00:00:00.000Z info hub: all is well"

static const char *const reasons[] = {
    "no%0d%0aX-Evil%3a%20yes%0a2026-01-01T00%3a00%1b%5b31m",
    "no%c2%9b31m%1b%5b31m", "no%c2%9b31m"};
#define REASONS (sizeof reasons / sizeof *reasons)

/* Answers as many requests. */
static bool reject_with_reasons(struct raw *raw) {
  char topic[4096];
  char answer[512];
  for (size_t i = 0; i < REASONS; i++) {
    NEED(raw, raw_mqtt_message(raw, topic, sizeof topic));
    const char *id = strstr(topic, "$rid=");
    NEED(raw, id != NULL);
    snprintf(answer, sizeof answer, "$iothub/streams/res/400/?%.*s&$reason=%s",
             (int)strcspn(id, "&"), id, reasons[i]);
    NEED(raw, raw_mqtt_publish(raw, answer));
  }
  return true;
}

/* Everything that a device can put its words into. */
static bool be_hostile(struct raw *raw, void *arg) {
  atomic_int *ready = arg;
  NEED(raw, raw_connect(raw, "localhost", hub.mqtt_port, hub.ca_file));
  NEED(raw, raw_mqtt_connect(raw, "a\n" LURE "\x1b[31m",
                             "localhost/a\n" LURE "\x1b[2J/?api-version=1",
                             "x\n" LURE) != 0);
  if (!log_in(raw, "mallory", mallory))
    return false;
  raw_mqtt_subscribe(raw, "devices/steady\n" LURE "\x1b[31m/#");
  if (!log_in(raw, "mallory", mallory))
    return false;
  raw_mqtt_publish(raw, "devices/steady\n" LURE "\xc2\x9b");
  if (!log_in(raw, "mallory", mallory))
    return false;
  NEED(raw, raw_mqtt_subscribe(raw, "$iothub/streams/POST/#") == 0);
  atomic_store(ready, 1);
  return reject_with_reasons(raw) && script_await(ready, 2);
}

struct asker {
  const char *path;
  int status;
  bool evil;
};

static bool ask(struct raw *raw, void *arg) {
  struct asker *asker = arg;
  char sas[4096];
  char request[5000];
  world_sas(sas, sizeof sas, hub.service_string, "localhost", 600, "service");
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  snprintf(request, sizeof request,
           "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
           "iothub-streaming-connect-timeout-in-seconds: 10\r\n"
           "Authorization: %s\r\n\r\n",
           asker->path, sas);
  NEED(raw, raw_text(raw, request));
  asker->status = raw_answer(raw);
  asker->evil = strcasestr(raw->head, "\nX-Evil") != NULL ||
                strcasestr(raw->head, "\rX-Evil") != NULL ||
                strpbrk(raw->head, "\x1b\x9b") != NULL;
  return true;
}

/* Every line of the hub's log is a line of the hub's. */
static void log_is_clean(void) {
  char *log = hub_log();
  bool begins = true;
  assert_null(strstr(log, "\n" LURE));
  for (const char *p = log; *p != '\0'; p++) {
    unsigned char c = (unsigned char)*p;
    if ((c < 0x20 && c != '\n') || c == 0x7f ||
        (c == 0xc2 && (unsigned char)p[1] < 0xa0))
      fail_msg("a control character: %.100s", p);
    if (begins && strncmp(p, "20", 2) != 0)
      fail_msg("a line that is no line: %.100s", p);
    begins = c == '\n';
  }
  free(log);
}

static void test_hostile_words(void **state) {
  (void)state;
  atomic_int ready = 0;
  struct asker asker = {.path = "/twins/mallory/streams/echo"};
  struct script *script = script_start(be_hostile, &ready);
  WAIT(atomic_load(&ready) == 1);
  for (size_t i = 0; i < REASONS; i++) {
    run_script(ask, &asker);
    assert_int_equal(asker.status, 200); /* an answer, which says no */
    assert_false(asker.evil);
  }
  static const char *const paths[] = {
      "/twins/a%0d%0aX-Evil:%20yes/streams/echo",
      "/twins/steady/streams/a%0d%0aX-Evil:%20yes",
      "/twins/steady/streams/%1b%5b31m", "/%0d%0aX-Evil:%20yes"};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    asker.path = paths[i];
    run_script(ask, &asker);
    assert_in_range(asker.status, 400, 404);
    assert_false(asker.evil);
  }
  /* its words are in the log, and obeyed by nobody */
  WAIT(hub_fixture_logged(&hub, "device answered 400 after"));
  log_is_clean();
  atomic_store(&ready, 2);
  script_end(script);
}

/* ---- files ---- */

static void test_files_whatever_the_umask(void **state) {
  (void)state;
  static struct hub_fixture other;
  mode_t before = umask(0);
  int status = hub_fixture_start(&other, NULL);
  umask(before);
  assert_int_equal(status, 0);
  assert_int_equal(
      tool_shell(&output,
                 "cd %s && stat -c '%%a %%n' . run activity.log && "
                 "find . -maxdepth 1 -type f -perm /077 ! -name "
                 "activity.log | sort",
                 other.hub_dir),
      0);
  assert_string_equal(output.out, "700 .\n700 run\n640 activity.log\n"
                                  "./ca.pem\n./hub.json\n./server.pem\n");
  assert_int_equal(
      tool_shell(&output,
                 "cd %s && find . -maxdepth 1 -perm /022; "
                 "grep -lE 'PRIVATE KEY' ca.pem hub.json server.pem",
                 other.hub_dir),
      1);
  assert_string_equal(output.out, "");
  /* what somebody has opened since is told at the next start */
  assert_false(hub_fixture_logged(&other, "everybody on this machine"));
  assert_int_equal(hub_fixture_end(&other), 0);
  assert_int_equal(tool_shell(&output,
                              "cd %s && chmod 644 identities.db "
                              "server-key.pem && chmod 640 ca-key.pem",
                              other.hub_dir),
                   0);
  assert_int_equal(hub_fixture_run(&other), 0);
  assert_true(hub_fixture_logged(&other, "secrets in identities.db;"));
  assert_true(hub_fixture_logged(&other, "secrets in server-key.pem;"));
  assert_false(hub_fixture_logged(&other, "secrets in ca-key.pem"));
  assert_int_equal(hub_fixture_stop(&other), 0);
}

/* ---- a stolen service key ---- */

static void rotate(const char *which) {
  const char *const arguments[] = {hub_program(), "policy",  "rotate-key",
                                   hub.hub_dir,   "service", which,
                                   NULL};
  assert_int_equal(hub_command(&output, arguments), 0);
}

static void test_a_service_key_made_anew(void **state) {
  (void)state;
  char fresh[CONN_STRING_MAX];
  struct call call = {.device = "steady"};
  world_echo(service, "steady", 100);
  rotate("primary");
  size_t len = strcspn(output.out, "\n");
  assert_true(len > 0 && len < sizeof fresh);
  memcpy(fresh, output.out, len);
  fresh[len] = '\0';
  /* the thief's: at once; what ran goes on */
  world_open_fails(service, &call, DSTREAM_EUNAUTHORIZED, 401002, NULL);
  beside_check(&beside);
  dstream_service_free(service);
  service = world_service(&hub, fresh);
  world_echo(service, "steady", 100);
}

/* ---- a stolen device key ---- */

struct reach {
  const char *id;     /* as whom it comes */
  const char *filter; /* NULL: it may not even connect */
};

static bool reach_out(struct raw *raw, void *arg) {
  char user[200], token[4096], own[200];
  static const struct reach reaches[] = {
      {"steady", NULL},
      {"steady/module", NULL},
      {"mallory", "#"},
      {"mallory", "$iothub/#"},
      {"mallory", "devices/steady/messages/devicebound/#"},
      {"mallory", "$dstream/#"},
      {"mallory", "$SYS/#"}};
  (void)arg;
  snprintf(own, sizeof own, "localhost/devices/mallory");
  for (size_t i = 0; i < sizeof reaches / sizeof *reaches; i++) {
    const struct reach *reach = &reaches[i];
    snprintf(user, sizeof user, "localhost/%s/?api-version=1", reach->id);
    for (int claim = 0; claim < 2; claim++) {
      char resource[300];
      snprintf(resource, sizeof resource, "localhost/devices/%s", reach->id);
      /* a token for itself, and one for whom it would be */
      world_sas(token, sizeof token, mallory, claim == 0 ? own : resource, 600,
                NULL);
      NEED(raw, raw_connect(raw, "localhost", hub.mqtt_port, hub.ca_file));
      int code = raw_mqtt_connect(raw, reach->id, user, token);
      NEED(raw, code == (reach->filter == NULL ? 5 : 0));
      /* refused in the SUBACK, or by the end of the connection */
      NEED(raw, reach->filter == NULL ||
                    raw_mqtt_subscribe(raw, reach->filter) != 0);
    }
  }
  return true;
}

static void test_a_device_key_opens_one_door(void **state) {
  (void)state;
  char text[CONN_STRING_MAX];
  struct call call = {.device = "steady"};
  run_script(reach_out, NULL);
  /* nor does it open streams, under any policy's name */
  static const char *const policies[] = {"service", "iothubowner", "device"};
  for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
    snprintf(text, sizeof text,
             "HostName=localhost;SharedAccessKeyName=%s;SharedAccessKey=%.*s;"
             "HttpsPort=%u",
             policies[i],
             (int)strcspn(behind(mallory, "SharedAccessKey="), ";"),
             behind(mallory, "SharedAccessKey="), hub.https_port);
    dstream_service *thief = world_service(&hub, text);
    world_open_fails(thief, &call, DSTREAM_EUNAUTHORIZED, 401002, NULL);
    dstream_service_free(thief);
  }
  beside_check(&beside);
}

/* ---- group ---- */

static int group_setup(void **state) {
  (void)state;
  static const struct hub_fixture_options options = {
      .overrides = "{\"log_level\":\"debug\"}"};
  test_loop_start();
  if (hub_fixture_start(&hub, &options) != 0 ||
      hub_fixture_add_device(&hub, "mallory", mallory) != 0)
    return -1;
  tool_environment(&hub);
  beside_start(&beside, &hub, "steady");
  service = world_service(&hub, NULL);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  dstream_service_free(service);
  beside_end(&beside);
  test_loop_end();
  return hub_fixture_stop(&hub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_files_whatever_the_umask),
      cmocka_unit_test(test_nothing_secret_is_said),
      cmocka_unit_test(test_a_device_key_opens_one_door),
      cmocka_unit_test(test_hostile_words),
      cmocka_unit_test(test_a_service_key_made_anew),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
