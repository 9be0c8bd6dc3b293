/* The command line of dstream-hub: what scripts rely on. */
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

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "integration/support_hub.h"

static char folder[HUB_FIXTURE_PATH];
static struct hub_output output;

static int run(const char *a, const char *b, const char *c, const char *d) {
  const char *const arguments[] = {hub_program(), a, b, c, d, NULL};
  return hub_command(&output, arguments);
}

static char *path_of(const char *name) {
  static char path[HUB_FIXTURE_PATH + 64];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static unsigned lines(const char *text) {
  unsigned n = 0;
  for (; *text != '\0'; text++)
    n += *text == '\n';
  return n;
}

/* One line on stderr that has the text, nothing on stdout. */
static void assert_failed(int status, int expected, const char *text) {
  if (status != expected || lines(output.err) != 1 || output.out[0] != '\0' ||
      strstr(output.err, text) == NULL)
    fail_msg("status %d, stdout \"%s\", stderr \"%s\"", status, output.out,
             output.err);
}

static int setup(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "/tmp/test_hub_cli.XXXXXX");
  return mkdtemp(folder) == NULL ? -1 : 0;
}

static int teardown(void **state) {
  (void)state;
  const char *const arguments[] = {"rm", "-rf", folder, NULL};
  return hub_command(&output, arguments);
}

static void test_help(void **state) {
  (void)state;
  static const char *const commands[] = {"init", "run", "device",
                                         "connection-string", "options"};
  assert_int_equal(run("--help", NULL, NULL, NULL), 0);
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
    assert_non_null(strstr(output.out, commands[i]));
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    assert_int_equal(run(commands[i], "--help", NULL, NULL), 0);
    assert_ptr_equal(strstr(output.out, "Usage: dstream-hub "), output.out);
    assert_string_equal(output.err, "");
  }
  assert_int_equal(run("--version", NULL, NULL, NULL), 0);
  assert_ptr_equal(strstr(output.out, "dstream-hub "), output.out);
  assert_int_equal(run("options", NULL, NULL, NULL), 0);
  assert_non_null(strstr(output.out, "limits.max_streams"));
  assert_int_equal(run("config-help", NULL, NULL, NULL), 0);
  assert_non_null(strstr(output.out, "limits.max_streams"));
  assert_int_equal(run("options", "--json", NULL, NULL), 0);
  assert_int_equal(output.out[0], '[');
  assert_int_equal(run("options", "--markdown", NULL, NULL), 0);
  assert_int_equal(output.out[0], '|');
}

static void test_usage_errors(void **state) {
  (void)state;
  assert_failed(run(NULL, NULL, NULL, NULL), 2, "--help");
  assert_failed(run("dance", NULL, NULL, NULL), 2, "dance");
  assert_failed(run("init", NULL, NULL, NULL), 2, "too few");
  assert_failed(run("init", "a", "b", NULL), 2, "too many");
  assert_failed(run("init", "a", "--colour", NULL), 2, "--colour");
  assert_failed(run("init", "a", "--host", NULL), 2, "--host needs");
  assert_failed(run("init", "a", "--https-port", "65536"), 2, "--https-port");
  assert_failed(run("init", "a", "--mqtt-port", "x"), 2, "--mqtt-port");
  assert_failed(run("init", "a", "--mqtt-port", "-1"), 2, "--mqtt-port");
  assert_failed(run("device", "add", "a", NULL), 2, "DIR and ID");
  assert_failed(run("device", "paint", "a", "b"), 2, "paint");
  assert_failed(run("device", "list", "a", "b"), 2, "DIR only");
  assert_failed(run("options", "x", NULL, NULL), 2, "too many");
  assert_failed(run("options", "--json", "--markdown", NULL), 2, "exclude");
  assert_failed(run("run", NULL, NULL, NULL), 2, "too few");
  assert_int_not_equal(access("a", F_OK), 0);
}

static X509 *load(const char *name) {
  FILE *file = fopen(path_of(name), "r");
  assert_non_null(file);
  X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);
  fclose(file);
  assert_non_null(certificate);
  return certificate;
}

static int verify(X509 *ca, X509 *server, const char *host, const char *ip) {
  X509_STORE *store = X509_STORE_new();
  X509_STORE_add_cert(store, ca);
  X509_STORE_CTX *context = X509_STORE_CTX_new();
  X509_STORE_CTX_init(context, store, server, NULL);
  X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(context);
  X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
  X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
  if (host != NULL)
    X509_VERIFY_PARAM_set1_host(param, host, 0);
  if (ip != NULL)
    X509_VERIFY_PARAM_set1_ip_asc(param, ip);
  int ok = X509_verify_cert(context);
  X509_STORE_CTX_free(context);
  X509_STORE_free(store);
  return ok;
}

/* What strict verifiers want of a certificate is there. */
static void test_certificates(void **state) {
  (void)state;
  assert_int_equal(run("init", path_of(""), "--host", "Hub.Example.net"), 0);
  X509 *ca = load("ca.pem");
  X509 *server = load("server.pem");
  assert_int_equal(verify(ca, server, "hub.example.net", NULL), 1);
  assert_int_equal(verify(ca, server, "localhost", NULL), 1);
  assert_int_equal(verify(ca, server, NULL, "127.0.0.1"), 1);
  assert_int_equal(verify(ca, server, NULL, "::1"), 1);
  assert_int_equal(verify(ca, server, "other.example.net", NULL), 0);
  int days = 0;
  int seconds = 0;
  assert_true(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(server),
                             X509_get0_notAfter(server)));
  assert_true(days <= 825);
  assert_true(X509_cmp_current_time(X509_get0_notBefore(server)) < 0);
  X509_free(ca);
  X509_free(server);
}

static mode_t mode_of(const char *name) {
  struct stat info;
  assert_int_equal(stat(path_of(name), &info), 0);
  return info.st_mode & 0777;
}

static void test_init(void **state) {
  (void)state;
  assert_int_equal(run("init", path_of("hub"), "--host=h.example.net", NULL),
                   0);
  assert_non_null(strstr(output.out, "dstream-hub run"));
  assert_non_null(strstr(output.out, "ca.pem"));
  assert_int_equal(mode_of("hub"), 0700);
  assert_int_equal(mode_of("hub/ca-key.pem"), 0600);
  assert_int_equal(mode_of("hub/server-key.pem"), 0600);
  assert_int_equal(mode_of("hub/identities.db"), 0600);
  /* Ports are known: no hub has to run for its connection strings. */
  assert_int_equal(run("connection-string", path_of("hub"), NULL, NULL), 0);
  assert_ptr_equal(strstr(output.out, "HostName=h.example.net;"
                                      "SharedAccessKeyName=service;"
                                      "SharedAccessKey="),
                   output.out);
  assert_null(strstr(output.out, "Port="));
  assert_int_equal(lines(output.out), 1);
  /* It never overwrites. */
  assert_failed(run("init", path_of("hub"), NULL, NULL), 1, "already");
}

static unsigned entries(const char *name) {
  const char *const arguments[] = {"ls", "-A", path_of(name), NULL};
  assert_int_equal(hub_command(&output, arguments), 0);
  return lines(output.out);
}

/* A failed init leaves nothing behind. */
static void test_init_fails(void **state) {
  (void)state;
  assert_failed(run("init", path_of("x"), "--host", "a b"), 1, "--host");
  assert_failed(run("init", path_of("no/such"), NULL, NULL), 1, "No such");
  assert_int_equal(entries(""), 0);
  assert_int_equal(mkdir(path_of("full"), 0700), 0);
  FILE *file = fopen(path_of("full/server.pem"), "w");
  assert_non_null(file);
  fclose(file);
  assert_failed(run("init", path_of("full"), NULL, NULL), 1, "server.pem");
  assert_int_equal(entries("full"), 1);
  /* A file of another name does not disturb. */

  assert_int_equal(unlink(path_of("full/server.pem")), 0);
  file = fopen(path_of("full/notes"), "w");
  fclose(file);
  assert_int_equal(run("init", path_of("full"), NULL, NULL), 0);
  assert_int_equal(entries("full"), 7);
}

static void test_no_hub(void **state) {
  (void)state;
  assert_failed(run("run", path_of("none"), NULL, NULL), 1, "none");
  assert_failed(run("run", path_of(""), NULL, NULL), 1, "dstream-hub init");
  assert_failed(run("device", "list", path_of(""), NULL), 1,
                "dstream-hub init");
}

static void test_bad_config(void **state) {
  (void)state;
  assert_int_equal(run("init", path_of("hub"), NULL, NULL), 0);
  FILE *file = fopen(path_of("hub/hub.json"), "w");
  fputs("{\"host\":\"h\",\n\"limits\":{\"max_streams\":0}}", file);
  fclose(file);
  assert_failed(run("run", path_of("hub"), NULL, NULL), 1,
                "limits.max_streams must be");
}

/* What a container sets goes before hub.json, for every command. */
static void test_environment(void **state) {
  (void)state;
  char *hub = path_of("hub");
  setenv("DSTREAM_HUB_HOST", "in.the.container", 1);
  assert_int_equal(run("init", hub, NULL, NULL), 0);
  unsetenv("DSTREAM_HUB_HOST");
  assert_int_equal(run("connection-string", hub, NULL, NULL), 0);
  assert_ptr_equal(strstr(output.out, "HostName=in.the.container;"),
                   output.out);
  setenv("DSTREAM_HUB_HOST", "another", 1);
  setenv("DSTREAM_HUB_HTTPS_PORT", "4443", 1);
  assert_int_equal(run("connection-string", hub, NULL, NULL), 0);
  assert_ptr_equal(strstr(output.out, "HostName=another;"), output.out);
  assert_non_null(strstr(output.out, "4443"));
  unsetenv("DSTREAM_HUB_HOST");
  setenv("DSTREAM_HUB_HTTPS_PORT", "-1", 1);
  assert_failed(run("run", hub, NULL, NULL), 1,
                "DSTREAM_HUB_HTTPS_PORT must be a whole number");
  unsetenv("DSTREAM_HUB_HTTPS_PORT");
}

static void test_log_levels(void **state) {
  (void)state;
  static struct hub_fixture hub;
  struct hub_fixture_options options = {
      .overrides = "{\"log_level\":\"error\",\"log\":{\"hub\":\"info\"}}"};
  assert_int_equal(hub_fixture_start(&hub, &options), 0);
  assert_int_equal(hub_fixture_wait_log(&hub, " info hub: ready", 10000), 0);
  assert_false(hub_fixture_logged(&hub, " broker: "));
  assert_int_equal(hub_fixture_end(&hub), 0);
  setenv("DSTREAM_HUB_LOG_HUB", "error", 1);
  setenv("DSTREAM_HUB_LOG_BROKER", "debug", 1);
  hub_fixture_mark_log(&hub);
  assert_int_equal(hub_fixture_run(&hub), 0);
  unsetenv("DSTREAM_HUB_LOG_HUB");
  unsetenv("DSTREAM_HUB_LOG_BROKER");
  assert_int_equal(hub_fixture_wait_log(&hub, " debug broker: ", 10000), 0);
  assert_false(hub_fixture_logged(&hub, " hub: "));
  assert_int_equal(hub_fixture_stop(&hub), 0);
}

static void test_port_zero(void **state) {
  (void)state;
  assert_int_equal(run("init", path_of("hub"), "--https-port=0", NULL), 0);
  assert_failed(run("connection-string", path_of("hub"), NULL, NULL), 1,
                "has run once");
  assert_failed(run("device", "add", path_of("hub"), "d"), 1, "has run once");
  assert_int_equal(run("device", "list", path_of("hub"), NULL), 0);
  assert_string_equal(output.out, "");
}

static void test_devices(void **state) {
  (void)state;
  char *hub = path_of("hub");
  assert_int_equal(run("init", hub, "--host=h", NULL), 0);
  assert_int_equal(run("device", "add", hub, "dev-2"), 0);
  assert_int_equal(lines(output.out), 1);
  char string[512];
  snprintf(string, sizeof string, "%.511s", output.out);
  assert_ptr_equal(strstr(string, "HostName=h;DeviceId=dev-2;SharedAccessKey="),
                   string);
  assert_string_equal(output.err, "");
  assert_failed(run("device", "add", hub, "dev-2"), 1, "already");
  assert_int_equal(run("device", "add", hub, "dev:1"), 0);
  assert_int_equal(run("device", "list", hub, NULL), 0);
  assert_string_equal(output.out, "dev-2\ndev:1\n");
  assert_int_equal(run("device", "list", hub, "--json"), 0);
  assert_non_null(strstr(output.out, "\"deviceId\": \"dev-2\""));
  const char *const again[] = {
      hub_program(), "connection-string", hub, "--device", "dev-2", NULL};
  assert_int_equal(hub_command(&output, again), 0);
  assert_string_equal(output.out, string);
  assert_int_equal(run("device", "remove", hub, "dev-2"), 0);
  assert_failed(run("device", "remove", hub, "dev-2"), 1, "no device");
  assert_failed(run("device", "add", hub, "a/b"), 1, "id");
  assert_failed(run("device", "add", hub, "a;b"), 1, "id");
  assert_failed(run("device", "add", hub, ""), 1, "id");
}

/* `ids | dstream-hub device add HUB --stdin MORE` */
static int add_many(const char *hub, const char *ids, const char *more) {
  char line[1024];
  snprintf(line, sizeof line, "%s | '%s' device add '%s' --stdin %s", ids,
           hub_program(), hub, more);
  const char *const arguments[] = {"bash", "-c", line, NULL};
  return hub_command(&output, arguments);
}

static void test_many_devices(void **state) {
  (void)state;
  char *hub = path_of("hub");
  assert_int_equal(run("init", hub, "--host=h", NULL), 0);
  assert_int_equal(add_many(hub, "printf 'b\\r\\n\\na'", ""), 0);
  assert_int_equal(lines(output.out), 2);
  assert_ptr_equal(strstr(output.out, "HostName=h;DeviceId=b;SharedAccessKey="),
                   output.out);
  assert_non_null(strstr(output.out, "\nHostName=h;DeviceId=a;Shared"));
  /* All or none. */
  assert_failed(add_many(hub, "printf 'c\\na\\nd\\n'", ""), 1, "line 2: ");
  assert_failed(add_many(hub, "printf 'c\\nd/e\\n'", ""), 1, "line 2: ");
  assert_failed(add_many(hub, "printf '%0300d' 0", ""), 1, "line 1: ");
  assert_int_equal(run("device", "list", hub, NULL), 0);
  assert_string_equal(output.out, "a\nb\n");
  assert_int_equal(add_many(hub, "true", ""), 0);
  assert_string_equal(output.out, "");
  assert_int_equal(add_many(hub, "echo x", "--x509-ca"), 0);
  assert_string_equal(output.out, "HostName=h;DeviceId=x;x509=true\n");
  assert_int_equal(add_many(hub, "echo x", "y"), 2);
  assert_int_equal(add_many(hub, "echo x", "--thumbprint 00"), 2);
  assert_int_equal(add_many(hub, "seq -f many-%05g 20000", ">/dev/null"), 0);
  assert_failed(run("device", "add", hub, "many-20000"), 1, "already");
}

static void test_policies(void **state) {
  (void)state;
  char *hub = path_of("hub");
  assert_int_equal(run("init", hub, "--host=h", NULL), 0);
  const char *const owner[] = {hub_program(), "connection-string", hub,
                               "--policy",    "iothubowner",       NULL};
  assert_int_equal(hub_command(&output, owner), 0);
  assert_non_null(strstr(output.out, "SharedAccessKeyName=iothubowner;"));
  const char *const wrong[] = {
      hub_program(), "connection-string", hub, "--policy", "nobody", NULL};
  assert_failed(hub_command(&output, wrong), 1, "nobody");
}

static void rotate_policy(char *hub, const char *name, const char *which,
                          int status) {
  const char *const arguments[] = {hub_program(), "policy", "rotate-key", hub,
                                   name,          which,    NULL};
  assert_int_equal(hub_command(&output, arguments), status);
}

static void policy_string(char *hub, bool secondary, char *out, size_t size) {
  const char *const arguments[] = {hub_program(), "connection-string", hub,
                                   secondary ? "--secondary" : NULL, NULL};
  assert_int_equal(hub_command(&output, arguments), 0);
  snprintf(out, size, "%.1000s", output.out);
}

static void test_policy_rotation(void **state) {
  (void)state;
  char *hub = path_of("hub");
  char primary[1024], secondary[1024], text[1024];
  assert_int_equal(run("init", hub, "--host=h", NULL), 0);
  policy_string(hub, false, primary, sizeof primary);
  policy_string(hub, true, secondary, sizeof secondary);
  rotate_policy(hub, "service", "primary", 0);
  assert_string_not_equal(output.out, primary);
  snprintf(text, sizeof text, "%.1000s", output.out);
  policy_string(hub, false, primary, sizeof primary);
  assert_string_equal(primary, text); /* what was printed is what holds */
  policy_string(hub, true, text, sizeof text);
  assert_string_equal(secondary, text);
  rotate_policy(hub, "service", "secondary", 0);
  assert_string_not_equal(output.out, secondary);
  policy_string(hub, false, text, sizeof text);
  assert_string_equal(primary, text);
  rotate_policy(hub, "nobody", "primary", 1);
  assert_non_null(strstr(output.err, "nobody"));
  rotate_policy(hub, "service", "both", 2);
}

/* ---- with a hub that runs ---- */

static void test_run(void **state) {
  (void)state;
  struct hub_fixture hub;
  char string[CONN_STRING_MAX];
  assert_int_equal(hub_fixture_start(&hub, NULL), 0);
  assert_true(hub.https_port != 0 && hub.mqtt_port != 0);
  char ports[64];
  snprintf(ports, sizeof ports, ";HttpsPort=%u;MqttPort=%u", hub.https_port,
           hub.mqtt_port);
  assert_non_null(strstr(hub.service_string, ports));
  /* Devices come and go while it runs. */
  int added = hub_fixture_add_device(&hub, "dev", string);
  /* A second hub in the same folder is refused. */
  int second = run("run", hub.hub_dir, NULL, NULL);
  bool refused = strstr(output.err, "another dstream-hub") != NULL;
  pid_t broker = hub_fixture_broker(&hub);
  uint16_t port = hub.https_port;
  int ended = hub_fixture_end(&hub);
  /* The ports stay, so connection strings stay valid. */
  int again = hub_fixture_run(&hub);
  uint16_t port_again = hub.https_port;
  int stopped = hub_fixture_stop(&hub);
  assert_int_equal(added, 0);
  assert_non_null(strstr(string, ports));
  assert_int_equal(second, 1);
  assert_true(refused);
  assert_true(broker > 0);
  assert_int_equal(ended, 0);
  assert_int_equal(again, 0);
  assert_int_equal(port_again, port);
  assert_int_equal(stopped, 0);
}

/* SIGHUP: a new certificate is served, a broken one changes nothing. */
static void test_hangup(void **state) {
  (void)state;
  struct hub_fixture hub;
  char file[HUB_FIXTURE_PATH + 32];
  assert_int_equal(hub_fixture_start(&hub, NULL), 0);
  kill(hub.pid, SIGHUP);
  int reread = hub_fixture_wait_log(&hub, "certificate reread", 10000);
  snprintf(file, sizeof file, "%s/server.pem", hub.hub_dir);
  int removed = unlink(file);
  kill(hub.pid, SIGHUP);
  int stays = hub_fixture_wait_log(&hub, "the old one stays", 10000);
  int stopped = hub_fixture_stop(&hub);
  assert_int_equal(reread, 0);
  assert_int_equal(removed, 0);
  assert_int_equal(stays, 0);
  assert_int_equal(stopped, 0);
}

/* A hub that is killed takes its broker with it, and starts again. */
static void test_killed(void **state) {
  (void)state;
  struct hub_fixture hub;
  assert_int_equal(hub_fixture_start(&hub, NULL), 0);
  int killed = hub_fixture_kill(&hub);
  int again = hub_fixture_run(&hub);
  int stopped = hub_fixture_stop(&hub);
  assert_int_equal(killed, 0);
  assert_int_equal(again, 0);
  assert_int_equal(stopped, 0);
}

static void test_port_taken(void **state) {
  (void)state;
  struct hub_fixture hub;
  char text[16];
  assert_int_equal(hub_fixture_start(&hub, NULL), 0);
  snprintf(text, sizeof text, "%u", hub.https_port);
  const char *const init[] = {hub_program(),
                              "init",
                              path_of("hub"),
                              "--https-port",
                              text,
                              "--mqtt-port",
                              "0",
                              NULL};
  int made = hub_command(&output, init);
  int status = run("run", path_of("hub"), NULL, NULL);
  bool named = strstr(output.err, text) != NULL;
  int stopped = hub_fixture_stop(&hub);
  assert_int_equal(made, 0);
  assert_int_equal(status, 1);
  assert_true(named);
  assert_int_equal(stopped, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_help),         TEST(test_usage_errors),
      TEST(test_certificates), TEST(test_init),
      TEST(test_init_fails),   TEST(test_no_hub),
      TEST(test_bad_config),   TEST(test_environment),
      TEST(test_log_levels),   TEST(test_port_zero),
      TEST(test_devices),      TEST(test_many_devices),
      TEST(test_policies),     TEST(test_policy_rotation),
      TEST(test_run),          TEST(test_killed),
      TEST(test_hangup),       TEST(test_port_taken),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
