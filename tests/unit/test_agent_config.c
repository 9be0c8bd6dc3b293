/* tools/agent_config.h: agent.json and what the command line adds to it. */
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

#include <dstream/loop.h>

#include "tools/agent_config.h"
#include "tools/agent_options.h"

static struct dstream_end error;

static int parse(const char *text, struct agent_config *config) {
  memset(&error, 0, sizeof error);
  agent_config_defaults(config);
  return agent_config_parse(config, text, strlen(text), "/etc/agent", &error);
}

static void test_defaults(void **state) {
  (void)state;
  struct agent_config config;
  assert_int_equal(parse("{}", &config), 0);
  assert_int_equal(config.target_count + config.allow_count, 0);
  assert_int_equal(config.max_streams, 256);
  assert_int_equal(config.max_rate, 50);
  assert_int_equal(config.burst, 0);
  assert_int_equal(config.idle_s + config.total_s, 0);
  assert_int_equal(config.connect_timeout_s, 10);
  assert_int_equal(config.log_level, DSTREAM_LOG_INFO);
  assert_null(config.connection_string_file);
  assert_null(config.ca_file);
  assert_false(config.mqtt_over_websocket);
  agent_config_clear(&config);
  agent_config_clear(&config);
}

static const char *const whole =
    "{\"connectionStringFile\":\"key\",\"caFile\":\"/ca.pem\","
    "\"certFile\":\"c.pem\",\"keyFile\":\"d/k.pem\","
    "\"httpProxy\":\"http://u:p@proxy:3128\",\"mqttOverWebsocket\":true,"
    "\"logLevel\":\"debug\",\"maxRequests\":7,\"maxStreams\":9,"
    "\"ratePerSecond\":3,\"burst\":4,\"idleSeconds\":60,\"totalSeconds\":3600,"
    "\"connectTimeoutSeconds\":5,"
    "\"targets\":{\"ssh\":\"127.0.0.1:22\",\"web.7\":\"unix:/run/web\","
    "\"db\":{\"maxStreams\":2,\"address\":\"[::1]:5432\",\"idleSeconds\":30,"
    "\"totalSeconds\":40}},"
    "\"allow\":[\"10.0.0.0/8:80,443\",\"*.example.net:*\"]}";

static void test_all(void **state) {
  (void)state;
  struct agent_config config;
  struct dstream_targets_options options;
  struct dstream_target *table = NULL;
  if (parse(whole, &config) != DSTREAM_OK)
    fail_msg("%s", error.text);
  assert_string_equal(config.connection_string_file, "/etc/agent/key");
  assert_string_equal(config.ca_file, "/ca.pem");
  assert_string_equal(config.key_file, "/etc/agent/d/k.pem");
  assert_string_equal(config.http_proxy, "http://u:p@proxy:3128");
  assert_true(config.mqtt_over_websocket);
  assert_int_equal(config.log_level, DSTREAM_LOG_DEBUG);
  assert_int_equal(config.max_requests, 7);
  assert_int_equal(agent_config_targets(&config, &options, &table), 0);
  assert_int_equal(options.size, sizeof options);
  assert_int_equal(options.max_streams, 9);
  assert_int_equal(options.max_rate, 3);
  assert_int_equal(options.burst, 4);
  assert_int_equal(options.idle_timeout_s, 60);
  assert_int_equal(options.total_timeout_s, 3600);
  assert_int_equal(options.connect_timeout_ms, 5000);
  assert_int_equal(options.target_count, 3);
  assert_string_equal(options.targets[0].name, "ssh");
  assert_int_equal(options.targets[0].max_streams, 0);
  assert_string_equal(options.targets[1].address, "unix:/run/web");
  assert_string_equal(options.targets[2].address, "[::1]:5432");
  assert_int_equal(options.targets[2].max_streams, 2);
  assert_int_equal(options.targets[2].idle_timeout_s, 30);
  assert_int_equal(options.targets[2].total_timeout_s, 40);
  assert_int_equal(options.allow_count, 2);
  assert_string_equal(options.allow[1], "*.example.net:*");
  free(table);
  agent_config_clear(&config);
}

#define TARGETS(text) "{\"targets\":{" text "}}"

/* Each mistake is named by its path, and what is allowed is said. */
static void test_mistakes(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *said;
  } cases[] = {
      {"", "line 1"},
      {"{\n\"allow\":[],\n oops}", "line 3"},
      {"{} x", "no JSON"},
      {"[]", "object"},
      {"{\"colour\":1}", "colour is not known"},
      {"{\"a\\u001bb\":1}", "a?b is not known"},
      {"{\"burst\":1,\"burst\":1}", "burst is there twice"},
      {"{\"maxStreams\":0}", "maxStreams must be a whole number from 1"},
      {"{\"maxStreams\":1.5}", "maxStreams must be"},
      {"{\"maxStreams\":-1}", "maxStreams must be"},
      {"{\"maxStreams\":1e400}", "maxStreams must be"},
      {"{\"maxStreams\":\"7\"}", "maxStreams must be"},
      {"{\"maxStreams\":null}", "maxStreams must be"},
      {"{\"connectTimeoutSeconds\":51}", "from 1 to 50"},
      {"{\"mqttOverWebsocket\":1}", "mqttOverWebsocket must be true or false"},
      {"{\"logLevel\":\"loud\"}", "logLevel must be \"error\""},
      {"{\"logLevel\":\"\"}", "logLevel must be \"error\""},
      {"{\"caFile\":\"\"}", "caFile must be a text"},
      {"{\"caFile\":7}", "caFile must be a text"},
      {"{\"httpProxy\":\"a\\nb\"}", "httpProxy must be a text"},
      {"{\"targets\":[]}", "targets must be an object"},
      {"{\"allow\":{}}", "allow must be a list"},
      {"{\"allow\":[1]}", "allow must be a list"},
      {"{\"allow\":[\"10.0.0.0/8\"]}", "10.0.0.0/8"},
      {TARGETS("\"ssh\":22"), "targets.ssh must be an address"},
      {TARGETS("\"ssh\":\"22\""), "\"ssh\""},
      {TARGETS("\"ssh\":\"localhost:0\""), "\"ssh\""},
      {TARGETS("\"\":\"h:1\""), "a name is 1 to 128"},
      {TARGETS("\"a b\":\"h:1\""), "\"a b\": a name is 1 to 128"},
      {TARGETS("\"a\":\"h:1\",\"a\":\"h:2\""), "\"a\" is there twice"},
      {TARGETS("\"a\":{}"), "targets.a.address is missing"},
      {TARGETS("\"a\":{\"address\":1}"), "targets.a.address"},
      {TARGETS("\"a\":{\"address\":\"h:1\",\"colour\":1}"),
       "targets.a.colour is not known"},
      {TARGETS("\"a\":{\"address\":\"h:1\",\"maxStreams\":-1}"),
       "targets.a.maxStreams must be a whole number from 0 to 65536"},
      {TARGETS("\"a\":{\"address\":\"h:1\",\"address\":\"h:1\"}"),
       "targets.a.address is there twice"},
      {TARGETS("\"a\":{\"address\":\"h:1\",\"idleSeconds\":1,"
               "\"idleSeconds\":1}"),
       "targets.a.idleSeconds is there twice"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct agent_config config;
    int status = parse(cases[i].text, &config);
    if (status != DSTREAM_EFORMAT || strstr(error.text, cases[i].said) == NULL)
      fail_msg("%s: status %d, \"%s\"", cases[i].text, status, error.text);
    agent_config_clear(&config);
  }
}

static void test_zero_byte(void **state) {
  (void)state;
  struct agent_config config;
  agent_config_defaults(&config);
  assert_int_equal(agent_config_parse(&config, "{}\0", 3, ".", &error),
                   DSTREAM_EFORMAT);
  assert_int_equal(agent_config_parse(&config, NULL, 0, ".", NULL),
                   DSTREAM_EFORMAT);
  agent_config_clear(&config);
}

/* Whatever is cut off it ends well. */
static void test_cut(void **state) {
  (void)state;
  for (size_t len = 0; len < strlen(whole); len++) {
    struct agent_config config;
    agent_config_defaults(&config);
    assert_int_equal(agent_config_parse(&config, whole, len, ".", &error),
                     DSTREAM_EFORMAT);
    assert_true(error.text[0] != '\0');
    agent_config_clear(&config);
  }
}

static void test_many(void **state) {
  (void)state;
  struct agent_config config;
  char name[32];
  agent_config_defaults(&config);
  for (unsigned i = 0; i < AGENT_ENTRIES_MAX; i++) {
    snprintf(name, sizeof name, "t-%u", i);
    assert_int_equal(agent_config_add_target(&config, name, "h:1", &error), 0);
    assert_int_equal(agent_config_add_allow(&config, "h:1", &error), 0);
  }
  assert_int_equal(agent_config_add_target(&config, "x", "h:1", &error),
                   DSTREAM_EFORMAT);
  assert_non_null(strstr(error.text, "more than 4096"));
  assert_int_equal(agent_config_add_allow(&config, "h:1", &error),
                   DSTREAM_EFORMAT);
  assert_string_equal(config.targets[4095].name, "t-4095");
  assert_string_equal(config.targets[0].name, "t-0");
  agent_config_clear(&config);
}

static void test_restart(void **state) {
  (void)state;
  struct agent_config a;
  struct agent_config b;
  char keys[512] = "";
  assert_int_equal(parse("{}", &a), 0);
  assert_int_equal(parse(whole, &b), 0);
  for (size_t i = 0; i < agent_config_count(); i++) {
    assert_null(agent_config_needs_restart(i, &b, &b));
    const char *key = agent_config_needs_restart(i, &a, &b);
    if (key != NULL)
      snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s ", key);
  }
  assert_string_equal(keys,
                      "connectionStringFile caFile certFile keyFile httpProxy "
                      "mqttOverWebsocket maxRequests ");
  agent_config_clear(&a);
  agent_config_clear(&b);
}

/* ---- with the command line ---- */

static char folder[64];
static char file[128];

static int setup(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "/tmp/test_agent_config.XXXXXX");
  if (mkdtemp(folder) == NULL)
    return -1;
  snprintf(file, sizeof file, "%s/agent.json", folder);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  unlink(file);
  return rmdir(folder);
}

static void write_file(const char *text) {
  FILE *out = fopen(file, "w");
  assert_non_null(out);
  fputs(text, out);
  assert_int_equal(fclose(out), 0);
}

/* Up to eight arguments, as a program gets them: they may be written to. */
static int with_arguments(struct agent_config *config, unsigned count,
                          const char *const *texts) {
  static char copies[8][160];
  char *argv[10] = {NULL};
  struct agent_options options;
  memset(&error, 0, sizeof error);
  snprintf(copies[0], sizeof copies[0], "agent");
  argv[0] = copies[0];
  for (unsigned i = 0; i < count; i++) {
    snprintf(copies[i + 1], sizeof copies[i + 1], "%s", texts[i]);
    argv[i + 1] = copies[i + 1];
  }
  int status = agent_options_parse(&options, (int)count + 1, argv);
  assert_int_equal(status, CLI_DONE);
  status = agent_options_config(&options, config, &error);
  agent_options_clear(&options);
  return status;
}

static void test_merge(void **state) {
  (void)state;
  struct agent_config config;
  char ca[160];
  write_file("{\"targets\":{\"ssh\":\"h:22\"},\"allow\":[\"h:1\"],"
             "\"maxStreams\":5,\"burst\":6,\"caFile\":\"ca\"}");
  const char *const good[] = {"--config",       file,      "--target",
                              "web=h:80",       "--allow", "h2:1-9",
                              "--max-streams=8"};
  if (with_arguments(&config, 7, good) != DSTREAM_OK)
    fail_msg("%s", error.text);
  snprintf(ca, sizeof ca, "%s/ca", folder);
  assert_string_equal(config.ca_file, ca);
  assert_int_equal(config.target_count, 2);
  assert_string_equal(config.targets[1].name, "web");
  assert_int_equal(config.allow_count, 2);
  assert_int_equal(config.max_streams, 8);
  assert_int_equal(config.burst, 6);
  agent_config_clear(&config);
  const char *const same[] = {"--config", file, "--target=ssh=h:23"};
  assert_int_equal(with_arguments(&config, 3, same), DSTREAM_EFORMAT);
  assert_non_null(strstr(error.text, "\"ssh\" is there twice"));
}

static void test_command_line(void **state) {
  (void)state;
  struct agent_config config;
  const char *const none[] = {"--config", file};
  assert_int_equal(with_arguments(&config, 2, none), DSTREAM_ENOTFOUND);
  assert_non_null(strstr(error.text, file));
  write_file("{\"burst\":-1}");
  assert_int_equal(with_arguments(&config, 2, none), DSTREAM_EFORMAT);
  assert_ptr_equal(strstr(error.text, file), error.text);
  assert_non_null(strstr(error.text, ": burst must be"));
  const char *const bad[] = {"--max-streams", "many"};
  assert_int_equal(with_arguments(&config, 2, bad), DSTREAM_EFORMAT);
  assert_non_null(strstr(error.text, "--max-streams must be"));
  const char *const no_name[] = {"--target", "h:22"};
  assert_int_equal(with_arguments(&config, 2, no_name), DSTREAM_EFORMAT);
  assert_non_null(strstr(error.text, "NAME=ADDRESS"));
  const char *const quiet[] = {"--mqtt-over-websocket", "--quiet",
                               "--http-proxy=http://u:p@h:1", "--idle", "3"};
  assert_int_equal(with_arguments(&config, 5, quiet), 0);
  assert_true(config.mqtt_over_websocket);
  assert_int_equal(config.log_level, DSTREAM_LOG_WARNING);
  assert_string_equal(config.http_proxy, "http://u:p@h:1");
  assert_int_equal(config.idle_s, 3);
  struct dstream_targets_options targets;
  struct dstream_target *table = NULL;
  assert_int_equal(agent_config_targets(&config, &targets, &table), 0);
  assert_int_equal(targets.burst, 100);
  free(table);
  agent_config_clear(&config);
}

/* Every option is explained. */
static void test_help(void **state) {
  (void)state;
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  assert_non_null(out);
  agent_config_help(out);
  assert_int_equal(fclose(out), 0);
  static const char *const keys[] = {"connectionStringFile ",
                                     "caFile ",
                                     "targets ",
                                     "targets.NAME.address ",
                                     "targets.NAME.maxStreams ",
                                     "allow ",
                                     "maxStreams ",
                                     "ratePerSecond ",
                                     "burst ",
                                     "idleSeconds ",
                                     "totalSeconds ",
                                     "connectTimeoutSeconds ",
                                     "httpProxy ",
                                     "mqttOverWebsocket ",
                                     "logLevel ",
                                     "maxRequests "};
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
    assert_non_null(strstr(text, keys[i]));
  assert_non_null(strstr(text, "1 to 65536, default 256"));
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_defaults),
      cmocka_unit_test(test_all),
      cmocka_unit_test(test_mistakes),
      cmocka_unit_test(test_zero_byte),
      cmocka_unit_test(test_cut),
      cmocka_unit_test(test_many),
      cmocka_unit_test(test_restart),
      cmocka_unit_test_setup_teardown(test_merge, setup, teardown),
      cmocka_unit_test_setup_teardown(test_command_line, setup, teardown),
      cmocka_unit_test(test_help),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
