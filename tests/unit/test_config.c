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

#include "hub/config.h"

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
       "metrics.bind_address must be a non-empty"},
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
  assert_int_equal(config_load(&config, path, &error), DSTREAM_EFORMAT);
  assert_non_null(strstr(error.text, path));
  assert_non_null(strstr(error.text, "x is not known"));
  assert_int_equal(ftruncate(fd, CONFIG_FILE_MAX + 1), 0);
  assert_int_equal(config_load(&config, path, &error), DSTREAM_ELIMIT);
  close(fd);
  unlink(path);
  assert_int_equal(config_load(&config, path, &error), DSTREAM_ENOTFOUND);
}

/* Every key of a written hub.json is explained. */
static void test_help(void **state) {
  (void)state;
  char *help = NULL;
  size_t len = 0;
  FILE *out = open_memstream(&help, &len);
  assert_non_null(out);
  config_help(out);
  fclose(out);
  static const char *const keys[] = {"host", "https_port", "log_level",
                                     "limits.max_streams",
                                     "limits.idle_seconds"};
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
    assert_non_null(strstr(help, keys[i]));
  free(help);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_minimal),   cmocka_unit_test(test_all_kinds),
      cmocka_unit_test(test_groups),    cmocka_unit_test(test_log_levels),
      cmocka_unit_test(test_mistakes),  cmocka_unit_test(test_long_texts),
      cmocka_unit_test(test_zero_byte), cmocka_unit_test(test_format),
      cmocka_unit_test(test_load),      cmocka_unit_test(test_help),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
