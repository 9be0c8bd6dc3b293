/* hub/config.h: hub.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <dstream/loop.h>

#include "hub/config_option.h"

static int parse(const char *text, struct config *config,
                 struct dstream_end *error) {
  memset(error, 0, sizeof *error);
  return config_parse(config, text, strlen(text), error);
}

static void test_minimal(void **state) {
  (void)state;
  struct config config;
  struct dstream_end error;
  assert_int_equal(parse("{\"host\":\"hub.example.net\"}", &config, &error), 0);
  assert_string_equal(config.host, "hub.example.net");
  assert_int_equal(config.https_port, 443);
  assert_int_equal(config.mqtt_port, 8883);
  assert_int_equal(config.alias_count, 2);
  assert_string_equal(config.aliases[1], "127.0.0.1");
  assert_int_equal(config.log_level, DSTREAM_LOG_INFO);
  assert_int_equal(config.limits.handshake_seconds, 60);
  assert_true(config.limits.max_streams > 0);
}

static void test_all_kinds(void **state) {
  (void)state;
  struct config config;
  struct dstream_end error;
  assert_int_equal(parse("{\"host\":\"h\",\"aliases\":[],\"https_port\":0,"
                         "\"log_level\":\"debug\",\"bind_address\":\"::1\","
                         "\"limits\":{\"max_streams\":3,\"idle_seconds\":0}}",
                         &config, &error),
                   0);
  assert_int_equal(config.https_port, 0);
  assert_int_equal(config.alias_count, 0);
  assert_int_equal(config.log_level, DSTREAM_LOG_DEBUG);
  assert_string_equal(config.bind_address, "::1");
  assert_int_equal(config.limits.max_streams, 3);
}

static void test_groups(void **state) {
  (void)state;
  struct config config;
  struct dstream_end error;
  assert_int_equal(parse("{\"host\":\"h\"}", &config, &error), 0);
  assert_string_equal(config.activity_log, "activity.log");
  assert_false(config.metrics_enabled);
  assert_string_equal(config.metrics_bind, "127.0.0.1");
  assert_int_not_equal(config.metrics_port, 0);
  assert_false(config.page_enabled);
  assert_int_equal(
      parse("{\"host\":\"h\",\"activity_log\":{\"file\":\"\"},"
            "\"metrics\":{\"enabled\":true,\"bind_address\":\"::1\","
            "\"port\":0},\"page\":{\"enabled\":true}}",
            &config, &error),
      0);
  assert_string_equal(config.activity_log, "");
  assert_true(config.metrics_enabled);
  assert_string_equal(config.metrics_bind, "::1");
  assert_int_equal(config.metrics_port, 0);
  assert_true(config.page_enabled);
}

/* A part's level is its own, or log_level; its key is its name in the log. */
static void test_log_levels(void **state) {
  (void)state;
  struct config config;
  struct dstream_end error;
  assert_int_equal(parse("{\"host\":\"h\",\"log_level\":\"warning\",\"log\":{"
                         "\"front\":\"debug\",\"rest\":\"\"}}",
                         &config, &error),
                   0);
  assert_int_equal(config_log_level(&config, LOG_FRONT), DSTREAM_LOG_DEBUG);
  assert_int_equal(config_log_level(&config, LOG_REST), DSTREAM_LOG_WARNING);
  assert_int_equal(config_log_level(&config, LOG_HUB), DSTREAM_LOG_WARNING);
  for (unsigned i = 0; i < LOG_PARTS; i++) {
    char text[128];
    snprintf(text, sizeof text, "{\"host\":\"h\",\"log\":{\"%s\":\"error\"}}",
             log_part_name((enum log_part)i));
    assert_int_equal(parse(text, &config, &error), 0);
    for (unsigned j = 0; j < LOG_PARTS; j++)
      assert_int_equal(config_log_level(&config, (enum log_part)j),
                       j == i ? DSTREAM_LOG_ERROR : DSTREAM_LOG_INFO);
  }
}

/* Each mistake is named by its key, and what is allowed is said. */
static void test_mistakes(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *said;
  } cases[] = {
      {"", "line 1"},
      {"{\n\"host\":\"h\",\n oops}", "line 3"},
      {"{\"host\":\"h\"} x", "no JSON"},
      {"[]", "object"},
      {"{}", "host is missing"},
      {"{\"host\":\"\"}", "host must be"},
      {"{\"host\":\"a b\"}", "host must be"},
      {"{\"host\":7}", "host must be"},
      {"{\"host\":\"h\",\"https_port\":65536}", "https_port must be a whole "
                                                "number from 0 to 65535"},
      {"{\"host\":\"h\",\"https_port\":-1}", "https_port"},
      {"{\"host\":\"h\",\"https_port\":1.5}", "https_port"},
      {"{\"host\":\"h\",\"https_port\":1e400}", "https_port"},
      {"{\"host\":\"h\",\"https_port\":\"443\"}", "https_port"},
      {"{\"host\":\"h\",\"https_port\":null}", "https_port"},
      {"{\"host\":\"h\",\"colour\":1}", "colour is not known"},
      {"{\"host\":\"h\",\"max_streams\":1}", "max_streams is not known"},
      {"{\"host\":\"h\",\"limits\":{\"host\":\"x\"}}",
       "limits.host is not known"},
      {"{\"host\":\"h\",\"limits\":{\"max_streams\":0}}",
       "limits.max_streams must be a whole number from 1"},
      {"{\"host\":\"h\",\"limits\":[]}", "limits must be an object"},
      {"{\"host\":\"h\",\"page\":{\"enabled\":1}}",
       "page.enabled must be true or false"},
      {"{\"host\":\"h\",\"metrics\":{\"bind_address\":\"\"}}",
       "metrics.bind_address must be an IP address"},
      {"{\"host\":\"h\",\"metrics\":{\"page\":{}}}",
       "metrics.page is not known"},
      {"{\"host\":\"h\",\"metrics\":true}", "metrics must be an object"},
      {"{\"host\":\"h\",\"host\":\"i\"}", "host is there twice"},
      {"{\"host\":\"h\",\"log_level\":\"loud\"}", "log_level must be"},
      {"{\"host\":\"h\",\"log_level\":3}", "log_level must be"},
      {"{\"host\":\"h\",\"log_level\":\"\"}", "log_level must be"},
      {"{\"host\":\"h\",\"log\":{\"rest\":\"x\"}}", "log.rest must be"},
      {"{\"host\":\"h\",\"key_file\":\"\"}", "key_file must be a non-empty"},
      {"{\"host\":\"h\",\"key_file\":\"a\\nb\"}", "key_file must be"},
      {"{\"host\":\"h\",\"aliases\":\"x\"}", "aliases must be a list"},
      {"{\"host\":\"h\",\"aliases\":[1]}", "aliases must be a list"},
      {"{\"host\":\"h\",\"aliases\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
       "\"a\",\"a\"]}",
       "aliases must be a list of at most 7"},
      {"{\"host\":\"h\",\"\\u0007\":1}", "? is not known"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct config config;
    struct dstream_end error;
    assert_int_equal(parse(cases[i].text, &config, &error), DSTREAM_EFORMAT);
    if (strstr(error.text, cases[i].said) == NULL)
      fail_msg("%s: said \"%s\"", cases[i].text, error.text);
  }
}

static void test_long_texts(void **state) {
  (void)state;
  struct config config;
  struct dstream_end error;
  char text[600];
  char path[CONFIG_TEXT_SIZE + 1];
  for (int len = CONFIG_TEXT_SIZE - 1; len <= CONFIG_TEXT_SIZE; len++) {
    memset(path, 'x', (size_t)len);
    path[len] = '\0';
    snprintf(text, sizeof text, "{\"host\":\"h\",\"key_file\":\"%s\"}", path);
    assert_int_equal(parse(text, &config, &error),
                     len < CONFIG_TEXT_SIZE ? 0 : DSTREAM_EFORMAT);
  }
}

static void test_zero_byte(void **state) {
  (void)state;
  struct config config;
  static const char text[] = "{\"host\":\"h\"}\0";
  assert_int_equal(config_parse(&config, text, sizeof text - 1, NULL),
                   DSTREAM_EFORMAT);
}

/* What is written is read back the same. */
static void test_format(void **state) {
  (void)state;
  struct config config;
  struct config back;
  struct dstream_end error;
  config_defaults(&config);
  snprintf(config.host, sizeof config.host, "hub.example.net");
  config.mqtt_port = 0;
  config.log_level = DSTREAM_LOG_WARNING;
  config.metrics_enabled = true;
  config.limits.max_body_bytes = 17;
  config.alias_count = 1;
  memset(config.aliases[1], 0, sizeof config.aliases[1]);
  char *text = config_format(&config);
  assert_non_null(text);
  assert_int_equal(parse(text, &back, &error), 0);
  memset(back.aliases[1], 0, sizeof back.aliases[1]);
  assert_memory_equal(&config, &back, sizeof config);
  free(text);
}

static void test_load(void **state) {
  (void)state;
  char path[] = "/tmp/test_config.XXXXXX";
  struct config config;
  struct dstream_end error = {0};
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, "{\"host\":\"h\",\"x\":1}", 18), 18);
  assert_int_equal(config_load(&config, path, NULL, &error), DSTREAM_EFORMAT);
  assert_non_null(strstr(error.text, path));
  assert_non_null(strstr(error.text, "x is not known"));
  assert_int_equal(ftruncate(fd, CONFIG_FILE_MAX + 1), 0);
  assert_int_equal(config_load(&config, path, NULL, &error), DSTREAM_ELIMIT);
  assert_int_equal(ftruncate(fd, 0), 0);
  assert_int_equal(pwrite(fd, "{}", 2, 0), 2);
  assert_int_equal(config_load(&config, path, NULL, &error), DSTREAM_EFORMAT);
  assert_non_null(strstr(error.text, "host is missing"));
  char variable[] = "DSTREAM_HUB_HOST=h";
  char *environment[] = {variable, NULL};
  assert_int_equal(config_load(&config, path, environment, &error), 0);
  assert_string_equal(config.host, "h");
  close(fd);
  unlink(path);
  assert_int_equal(config_load(&config, path, NULL, &error), DSTREAM_ENOTFOUND);
}

/* variable: "NAME=VALUE"; one that is needless goes before it. */
static int override(const char *variable, struct config *config,
                    struct dstream_end *error) {
  char needless[] = "DSTREAM_HUBS_X=1";
  char copy[600];
  char *environment[] = {needless, copy, NULL};
  snprintf(copy, sizeof copy, "%s", variable);
  config_defaults(config);
  memset(error, 0, sizeof *error);
  return config_override(config, environment, error);
}

static void test_environment(void **state) {
  (void)state;
  struct config config;
  struct dstream_end error;
  assert_int_equal(
      override("DSTREAM_HUB_LIMITS_MAX_STREAMS=7", &config, &error), 0);
  assert_int_equal(config.limits.max_streams, 7);
  assert_int_equal(override("DSTREAM_HUB_HTTPS_PORT=0", &config, &error), 0);
  assert_int_equal(config.https_port, 0);
  assert_int_equal(
      override("DSTREAM_HUB_METRICS_ENABLED=true", &config, &error), 0);
  assert_true(config.metrics_enabled);
  assert_int_equal(override("DSTREAM_HUB_ACTIVITY_LOG_FILE=", &config, &error),
                   0);
  assert_string_equal(config.activity_log, "");
  assert_int_equal(override("DSTREAM_HUB_LOG_FRONT=debug", &config, &error), 0);
  assert_int_equal(config.log_parts[LOG_FRONT], DSTREAM_LOG_DEBUG);
  assert_int_equal(override("DSTREAM_HUB_ALIASES=a.b, c d", &config, &error),
                   0);
  assert_int_equal(config.alias_count, 3);
  assert_string_equal(config.aliases[0], "a.b");
  assert_string_equal(config.aliases[1], "c");
  assert_string_equal(config.aliases[2], "d");
  assert_int_equal(override("DSTREAM_HUB_ALIASES=", &config, &error), 0);
  assert_int_equal(config.alias_count, 0);
  assert_int_equal(override("DSTREAM_HUB_BIND_ADDRESS=a=b", &config, &error),
                   DSTREAM_EFORMAT);
  assert_int_equal(config_override(&config, NULL, &error), 0);
}

/* What Kubernetes makes for a service named dstream-hub is no option. */
static void test_kubernetes(void **state) {
  (void)state;
  static const char *const names[] = {"DSTREAM_HUB_SERVICE_HOST=10.0.0.1",
                                      "DSTREAM_HUB_SERVICE_PORT_MQTT=8883",
                                      "DSTREAM_HUB_PORT=tcp://10.0.0.1:443",
                                      "DSTREAM_HUB_PORT_443_TCP_ADDR=10.0.0.1"};
  struct config config;
  struct config defaults;
  struct dstream_end error;
  config_defaults(&defaults);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    assert_int_equal(override(names[i], &config, &error), 0);
    assert_memory_equal(&config, &defaults, sizeof config);
  }
}

static void test_environment_mistakes(void **state) {
  (void)state;
  static const struct {
    const char *variable;
    const char *said;
  } cases[] = {
      {"DSTREAM_HUB_HTTPS_PORT=65536",
       "DSTREAM_HUB_HTTPS_PORT must be a whole"},
      {"DSTREAM_HUB_HTTPS_PORT=", "DSTREAM_HUB_HTTPS_PORT must be a whole"},
      {"DSTREAM_HUB_HTTPS_PORT", "DSTREAM_HUB_HTTPS_PORT must be a whole"},
      {"DSTREAM_HUB_HTTPS_PORT=+1", "must be a whole number"},
      {"DSTREAM_HUB_HTTPS_PORT=1e2", "must be a whole number"},
      {"DSTREAM_HUB_HTTPS_PORT= 1", "must be a whole number"},
      {"DSTREAM_HUB_HTTPS_PORT=4294967297", "must be a whole number"},
      {"DSTREAM_HUB_LIMITS_MAX_STREAMS=0", "from 1 to 100000"},
      {"DSTREAM_HUB_PAGE_ENABLED=yes",
       "DSTREAM_HUB_PAGE_ENABLED must be true or false"},
      {"DSTREAM_HUB_LOG_LEVEL=loud", "error, warning, info or debug"},
      {"DSTREAM_HUB_LOG_LEVEL=", "error, warning, info or debug"},
      {"DSTREAM_HUB_METRICS_BIND_ADDRESS=localhost", "must be an IP address"},
      {"DSTREAM_HUB_ALIASES=a/b", "DSTREAM_HUB_ALIASES must be a list"},
      {"DSTREAM_HUB_ALIASES=a,b,c,d,e,f,g,h", "a list of at most 7"},
      {"DSTREAM_HUB_HOST=", "DSTREAM_HUB_HOST must be a host name"},
      {"DSTREAM_HUB_MAX_STREAMS=1",
       "DSTREAM_HUB_MAX_STREAMS in the environment is not known"},
      {"DSTREAM_HUB_limits_max_streams=1", "is not known"},
      {"DSTREAM_HUB_=1", "is not known"},
      {"DSTREAM_HUB_PORTS=1", "is not known"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct config config;
    struct dstream_end error;
    assert_int_equal(override(cases[i].variable, &config, &error),
                     DSTREAM_EFORMAT);
    if (strstr(error.text, cases[i].said) == NULL)
      fail_msg("%s: said \"%s\"", cases[i].variable, error.text);
  }
}

/* No two options have one path or one variable; none is taken for one of
 * Kubernetes'; each says something. */
static void test_table(void **state) {
  (void)state;
  const struct config_option *a;
  const struct config_option *b;
  char name[CONFIG_NAME_SIZE];
  char other[CONFIG_NAME_SIZE];
  for (size_t i = 0; (a = config_option_at(i)) != NULL; i++) {
    assert_ptr_equal(config_option_find(a->group, a->key), a);
    assert_true(a->group == NULL || config_group_find(a->group) != NULL);
    assert_true(strlen(a->meaning) > 3);
    config_option_variable(a, name);
    assert_true(strlen(name) < CONFIG_NAME_SIZE - 1);
    assert_null(strstr(name, "HUB_PORT"));
    assert_null(strstr(name, "HUB_SERVICE"));
    for (size_t j = 0; j < i; j++) {
      b = config_option_at(j);
      config_option_variable(b, other);
      assert_string_not_equal(name, other);
    }
  }
  assert_null(config_option_find("limits", "host"));
  assert_null(config_option_find(NULL, "max_streams"));
  assert_null(config_group_find("host"));
}

/* Every key of a written hub.json is explained. */
static void test_help(void **state) {
  (void)state;
  char *help = NULL;
  size_t len = 0;
  FILE *out = open_memstream(&help, &len);
  assert_non_null(out);
  assert_int_equal(config_list(out, CONFIG_LIST_TEXT), 0);
  fclose(out);
  static const char *const keys[] = {
      "host ",
      "a host name",
      "required",
      "aliases ",
      "default [\"localhost\",\"127.0.0.1\"]",
      "a whole number from 0 to 65535, default 443",
      "\n    DSTREAM_HUB_HTTPS_PORT\n",
      "log_level ",
      "default \"info\"",
      "metrics.enabled ",
      "true or false, default false",
      "\nlimits.max_streams ",
      "DSTREAM_HUB_LIMITS_IDLE_SECONDS"};
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
    assert_non_null(strstr(help, keys[i]));
  free(help);
}

/* The listing for programs has every option, and defaults that are taken. */
static void test_list_json(void **state) {
  (void)state;
  char *text = NULL;
  size_t len = 0;
  FILE *out = open_memstream(&text, &len);
  assert_non_null(out);
  assert_int_equal(config_list(out, CONFIG_LIST_JSON), 0);
  fclose(out);
  cJSON *list = cJSON_Parse(text);
  assert_true(cJSON_IsArray(list));
  const cJSON *item = list->child;
  const struct config_option *option;
  struct config config;
  for (size_t i = 0; (option = config_option_at(i)) != NULL; i++) {
    char path[CONFIG_NAME_SIZE];
    config_option_path(option, path);
    assert_non_null(item);
    assert_string_equal(cJSON_GetObjectItem(item, "name")->valuestring, path);
    const cJSON *value = cJSON_GetObjectItem(item, "default");
    if (strcmp(path, "host") == 0)
      assert_true(cJSON_IsTrue(cJSON_GetObjectItem(item, "required")));
    else
      assert_true(config_option_read(option, value, &config));
    item = item->next;
  }
  assert_null(item);
  cJSON_Delete(list);
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_minimal),
      cmocka_unit_test(test_all_kinds),
      cmocka_unit_test(test_groups),
      cmocka_unit_test(test_log_levels),
      cmocka_unit_test(test_mistakes),
      cmocka_unit_test(test_long_texts),
      cmocka_unit_test(test_zero_byte),
      cmocka_unit_test(test_format),
      cmocka_unit_test(test_load),
      cmocka_unit_test(test_help),
      cmocka_unit_test(test_environment),
      cmocka_unit_test(test_kubernetes),
      cmocka_unit_test(test_environment_mistakes),
      cmocka_unit_test(test_table),
      cmocka_unit_test(test_list_json),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
