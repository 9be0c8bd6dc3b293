/* hub/hub_error.h: error bodies that Azure's clients can read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "hub/hub_error.h"

static cJSON *inner_of(const char *body) {
  cJSON *outer = cJSON_Parse(body);
  assert_non_null(outer);
  const cJSON *message = cJSON_GetObjectItemCaseSensitive(outer, "Message");
  assert_true(cJSON_IsString(message));
  assert_non_null(cJSON_GetObjectItemCaseSensitive(outer, "ExceptionMessage"));
  cJSON *inner = cJSON_Parse(message->valuestring);
  assert_non_null(inner);
  cJSON_Delete(outer);
  return inner;
}

static const char *text_of(const cJSON *object, const char *key) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
  assert_true(cJSON_IsString(item));
  return item->valuestring;
}

static void test_body(void **state) {
  (void)state;
  char body[HUB_ERROR_BODY_SIZE];
  size_t len = hub_error_body(body, sizeof body, HUB_ERROR_NO_ANSWER,
                              "Timed out waiting for the response from device.",
                              "0123abcd", 3661, 1700000000);
  assert_int_equal(len, strlen(body));
  cJSON *inner = inner_of(body);
  const cJSON *code = cJSON_GetObjectItemCaseSensitive(inner, "errorCode");
  assert_true(cJSON_IsNumber(code) && code->valueint == 504101);
  assert_string_equal(text_of(inner, "trackingId"), "0123abcd");
  assert_string_equal(text_of(inner, "message"),
                      "Timed out waiting for the response from device.");
  assert_string_equal(text_of(inner, "timestampUtc"),
                      "2023-11-14T22:13:20.0000000Z");
  const cJSON *info = cJSON_GetObjectItemCaseSensitive(inner, "info");
  assert_string_equal(text_of(info, "timeout"), "01:01:01");
  cJSON_Delete(inner);
}

/* As azure-iothub takes it apart: at the semicolons, then at a colon. */
static void test_registry_body(void **state) {
  (void)state;
  char body[HUB_ERROR_BODY_SIZE];
  size_t len =
      hub_error_registry_body(body, sizeof body, HUB_ERROR_NO_DEVICE,
                              "no \"d\"; none", "0123abcd", 1700000000);
  assert_int_equal(len, strlen(body));
  cJSON *outer = cJSON_Parse(body);
  assert_string_equal(text_of(outer, "Message"),
                      "ErrorCode:DeviceNotFound;no 'd', none");
  assert_string_equal(text_of(outer, "ExceptionMessage"),
                      "Tracking ID:0123abcd-TimeStamp:11/14/2023 22:13:20");
  cJSON_Delete(outer);
}

static void test_no_timeout(void **state) {
  (void)state;
  char body[HUB_ERROR_BODY_SIZE];
  hub_error_body(body, sizeof body, HUB_ERROR_NO_DEVICE, "m", "t", -1, 0);
  cJSON *inner = inner_of(body);
  assert_null(cJSON_GetObjectItemCaseSensitive(inner, "info"));
  cJSON_Delete(inner);
}

/* Whatever is quoted in a message, the body stays JSON, twice over. */
static void test_hostile_text(void **state) {
  (void)state;
  char body[HUB_ERROR_BODY_SIZE];
  char long_text[5000];
  memset(long_text, '"', sizeof long_text);
  long_text[sizeof long_text - 1] = '\0';
  hub_error_body(body, sizeof body, HUB_ERROR_ARGUMENT, long_text, long_text,
                 86400, UINT64_C(253402300799));
  cJSON_Delete(inner_of(body));
  for (int c = 1; c < 256; c++) {
    char text[3] = {(char)c, '\\', '\0'};
    hub_error_body(body, sizeof body, HUB_ERROR_ARGUMENT, text, text, 0, 0);
    cJSON_Delete(inner_of(body));
  }
}

static void test_codes(void **state) {
  (void)state;
  assert_int_equal(hub_error_http_status(HUB_ERROR_OFFLINE), 404);
  assert_int_equal(hub_error_http_status(HUB_ERROR_UNAUTHORIZED), 401);
  assert_int_equal(hub_error_http_status(HUB_ERROR_THROTTLED), 429);
  assert_int_equal(hub_error_http_status(HUB_ERROR_UNAVAILABLE), 503);
  assert_string_equal(hub_error_name(HUB_ERROR_OFFLINE), "DeviceNotOnline");
  assert_string_equal(hub_error_name(HUB_ERROR_NO_DEVICE), "DeviceNotFound");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_body),          cmocka_unit_test(test_no_timeout),
      cmocka_unit_test(test_registry_body), cmocka_unit_test(test_hostile_text),
      cmocka_unit_test(test_codes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
