/* tools/activity_log.h: what a record says, in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tools/activity_log.h"
#include "tools/hub_client.h"

static const struct {
  const char *record;
  const char *properties;
  const char *text;
} known[] = {
    {"{\"durationMs\":\"0\",\"resultDescription\":\"\"}",
     "{\"event\":\"request\"}", ""},
    {"{\"durationMs\":\"2\",\"resultDescription\":\"\"}",
     "{\"event\":\"accepted\"}", "after 2ms"},
    {"{\"durationMs\":\"3\",\"resultDescription\":\"there is no target "
     "\\\"x\\\"\"}",
     "{\"event\":\"rejected\"}", "there is no target \"x\""},
    {"{\"durationMs\":\"0\",\"resultDescription\":\"There is no such "
     "device.\"}",
     "{\"event\":\"failed\",\"errorCode\":404001}",
     "There is no such device (404001)"},
    {"{\"durationMs\":\"74000\",\"resultDescription\":\"\"}",
     "{\"event\":\"end\",\"bytesToDevice\":1200,\"bytesToService\":3,"
     "\"endedBy\":\"device\",\"closeCode\":1000}",
     "after 1m14s, 1.2 kB to device, 3 B to service, ended by device, close "
     "1000"},
    {"{\"durationMs\":\"5\",\"resultDescription\":\"\"}",
     "{\"event\":\"kill\",\"caller\":\"service@192.0.2.1\"}",
     "by an operator, after 5ms"},
    {"{\"durationMs\":\"0\",\"resultDescription\":\"wrong key\"}",
     "{\"event\":\"refused\",\"side\":\"device\",\"peer\":\"192.0.2.1:9\"}",
     "device side from 192.0.2.1:9, wrong key"},
    {"{}", "{}", ""},
    {"[]", "3", ""},
    {"{\"durationMs\":7,\"resultDescription\":7}",
     "{\"event\":\"end\",\"endedBy\":{},\"bytesToDevice\":-1,\"closeCode\":"
     "\"\"}",
     "after 0ms, 0 B to device, 0 B to service"},
};

static void test_what_a_record_says(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    char out[ACTIVITY_LOG_TEXT_SIZE];
    cJSON *record = cJSON_Parse(known[i].record);
    cJSON *properties = cJSON_Parse(known[i].properties);
    assert_true(record != NULL && properties != NULL);
    activity_log_text(out, record, properties);
    assert_string_equal(out, known[i].text);
    cJSON_Delete(record);
    cJSON_Delete(properties);
  }
}

/* Whatever its length, it fits. */
static void test_long_texts(void **state) {
  (void)state;
  char out[ACTIVITY_LOG_TEXT_SIZE];
  char text[2048];
  for (size_t len = 0; len < sizeof text - 1; len += 7) {
    memset(text, 'x', len);
    text[len] = '\0';
    cJSON *record = cJSON_CreateObject();
    cJSON *properties = cJSON_CreateObject();
    cJSON_AddStringToObject(record, "resultDescription", text);
    cJSON_AddStringToObject(properties, "side", text);
    cJSON_AddStringToObject(properties, "peer", text);
    cJSON_AddNumberToObject(properties, "errorCode", 404001);
    activity_log_text(out, record, properties);
    assert_true(strlen(out) < sizeof out);
    cJSON_Delete(record);
    cJSON_Delete(properties);
  }
}

/* ---- refusals ---- */

static void explains(int status, int http, const char *text,
                     const char *wanted) {
  char line[HUB_CLIENT_LINE_SIZE];
  struct dstream_end end = {.status = status, .http_status = http};
  memcpy(end.text, text, strlen(text));
  hub_client_explain(&end, line);
  if (strstr(line, wanted) == NULL || strstr(line, text) == NULL)
    fail_msg("\"%s\" is not in: %s", wanted, line);
}

static void test_refusals(void **state) {
  (void)state;
  explains(DSTREAM_EHUB, 404, "the hub answered with an error",
           "is it a dstream-hub, and as new as this program?");
  explains(DSTREAM_EUNAUTHORIZED, 401, "not valid here",
           "its policy must have the right ServiceConnect");
  explains(DSTREAM_EUNAUTHORIZED, 401, "the signature has expired",
           "is this machine's clock right?");
  explains(DSTREAM_ETHROTTLED, 429, "too many requests",
           "try again in a moment");
  explains(DSTREAM_ETIMEDOUT, 0, "no answer", "is the hub running");
  explains(DSTREAM_EHTTP, 0, "the hub's answer is no JSON",
           "do HostName and HttpsPort name an IoT hub?");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_a_record_says),
      cmocka_unit_test(test_long_texts),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
