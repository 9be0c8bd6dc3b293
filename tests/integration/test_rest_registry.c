/* The identity registry over TLS, byte by byte; tests/interop/test_npm.c has
 * the official client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "core/conn_string.h"
#include "core/sas.h"
#include "core/stream_topic.h"
#include "hub/identity.h"
#include "integration/support_hub.h"
#include "integration/support_raw.h"

#define WAIT_MS 20000

static struct hub_fixture hub;
static struct raw client;

/* ---- callers ---- */

static const char *const policies[] = {"reader", "writer", "both"};

static int add_policies(void) {
  char file[HUB_FIXTURE_PATH + 32];
  struct identity_store *store = NULL;
  snprintf(file, sizeof file, "%s/identities.db", hub.hub_dir);
  int status = identity_open(&store, file, false, NULL);
  for (unsigned i = 0; i < 3 && status == DSTREAM_OK; i++)
    status = identity_policy_add(store, policies[i], i + 1);
  identity_close(store);
  return status;
}

static const char *token_of(const char *policy) {
  static char token[SAS_MAX];
  char string[CONN_STRING_MAX];
  struct conn_string cs;
  assert_int_equal(hub_fixture_policy_string(&hub, policy, string), 0);
  assert_int_equal(conn_string_parse(&cs, string, CONN_STRING_SERVICE, NULL),
                   0);
  assert_true(sas_make(token, sizeof token, "localhost", cs.key, cs.key_len,
                       (uint64_t)time(NULL) + 300, policy,
                       SAS_RAW_RESOURCE) > 0);
  conn_string_clear(&cs);
  return token;
}

/* ---- requests ---- */

static void send_request(const char *policy, const char *method,
                         const char *target, const char *headers,
                         const char *body) {
  char text[16384];
  snprintf(text, sizeof text,
           "%s %s?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\n"
           "Content-Length: %zu\r\n%s%s%s%s\r\n%s",
           method, target, strlen(body),
           policy != NULL ? "Authorization: " : "",
           policy != NULL ? token_of(policy) : "", policy != NULL ? "\r\n" : "",
           headers, body);
  assert_true(raw_text(&client, text));
}

static int request(const char *policy, const char *method, const char *target,
                   const char *headers, const char *body) {
  if (client.ssl == NULL &&
      !raw_connect(&client, "localhost", hub.https_port, hub.ca_file))
    fail_msg("%s", client.error);
  send_request(policy, method, target, headers, body);
  int status = raw_answer(&client);
  if (status == 0) {
    hub_fixture_show_log(&hub);
    fail_msg("%s %s: %s\n%s", method, target, client.error, client.head);
  }
  return status;
}

static bool answered(const char *text) {
  return strstr(client.head, text) != NULL;
}

#define ASSERT_ANSWERED(text)                                                  \
  do {                                                                         \
    if (!answered(text))                                                       \
      fail_msg("no %s in:\n%s", text, client.head);                            \
  } while (0)

/* ---- tests ---- */

static void test_life(void **state) {
  (void)state;
  assert_int_equal(request("both", "PUT", "/devices/dev%3A1", "", "{}"), 200);
  ASSERT_ANSWERED("\r\nETag: \"");
  ASSERT_ANSWERED("\r\nContent-Type: application/json; charset=utf-8\r\n");
  ASSERT_ANSWERED("\"deviceId\":\"dev:1\"");
  ASSERT_ANSWERED("\"connectionState\":\"Disconnected\"");
  assert_int_equal(
      hub_fixture_wait_log(&hub, "device dev:1 was added by both@", WAIT_MS),
      0);
  assert_int_equal(request("both", "PUT", "/devices/dev%3A1", "", "{}"), 409);
  ASSERT_ANSWERED("\r\niothub-errorcode: DeviceAlreadyExists\r\n");
  ASSERT_ANSWERED("{\"Message\":\"ErrorCode:DeviceAlreadyExists;");
  assert_int_equal(request("both", "PUT", "/devices/dev%3A1",
                           "If-Match: \"0000000000000000\"\r\n", "{}"),
                   412);
  assert_int_equal(request("both", "PUT", "/devices/dev%3A1",
                           "If-Match: \"*\"\r\n", "{\"status\":\"disabled\"}"),
                   200);
  ASSERT_ANSWERED("\"status\":\"disabled\"");
  assert_int_equal(request("both", "GET", "/statistics/devices", "", ""), 200);
  ASSERT_ANSWERED("\"disabledDeviceCount\":1");
  assert_int_equal(request("both", "DELETE", "/devices/dev%3A1", "", ""), 400);
  assert_int_equal(
      request("both", "DELETE", "/devices/dev%3A1", "If-Match: *\r\n", ""),
      204);
  assert_int_equal(request("both", "GET", "/devices/dev%3A1", "", ""), 404);
  ASSERT_ANSWERED("ErrorCode:DeviceNotFound;");
}

static void test_rights(void **state) {
  (void)state;
  assert_int_equal(request("writer", "PUT", "/devices/r", "", "{}"), 200);
  ASSERT_ANSWERED("\"primaryKey\":\"");
  assert_int_equal(request("writer", "GET", "/devices/r", "", ""), 401);
  assert_int_equal(request("reader", "GET", "/devices/r", "", ""), 200);
  ASSERT_ANSWERED("\"primaryKey\":null,\"secondaryKey\":null");
  assert_int_equal(request("reader", "GET", "/devices", "", ""), 200);
  ASSERT_ANSWERED("\"primaryKey\":null");
  assert_false(answered("Key\":\""));
  assert_int_equal(request("both", "GET", "/devices/r", "", ""), 200);
  ASSERT_ANSWERED("\"primaryKey\":\"");
  static const char *const others[] = {"reader", "service", "device", NULL};
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(request(others[i], "PUT", "/devices/s", "", "{}"), 401);
    ASSERT_ANSWERED("\r\niothub-errorcode: IotHubUnauthorizedAccess\r\n");
    assert_int_equal(
        request(others[i], "DELETE", "/devices/r", "If-Match: *\r\n", ""), 401);
    assert_int_equal(request(others[i], "POST", "/devices", "",
                             "[{\"id\":\"s\",\"importMode\":\"create\"}]"),
                     401);
    if (i > 0)
      assert_int_equal(request(others[i], "GET", "/devices", "", ""), 401);
  }
  assert_int_equal(request("both", "GET", "/devices/s", "", ""), 404);
}

static void test_bad_requests(void **state) {
  (void)state;
  assert_int_equal(request("both", "PUT", "/devices/a%2Fb", "", "{}"), 400);
  ASSERT_ANSWERED("ErrorCode:ArgumentInvalid;");
  assert_int_equal(request("both", "PUT", "/devices/x", "", "{"), 400);
  assert_int_equal(request("both", "PUT", "/devices/x",
                           "If-Match: \"a\"\r\nIf-Match: \"b\"\r\n", "{}"),
                   400);
  assert_int_equal(request("both", "PATCH", "/devices/x", "", "{}"), 405);
  ASSERT_ANSWERED("\r\nAllow: GET, PUT, DELETE\r\n");
  assert_int_equal(request("both", "DELETE", "/devices", "", ""), 405);
  ASSERT_ANSWERED("\r\nAllow: GET, POST\r\n");
  assert_int_equal(request("both", "POST", "/devices", "",
                           "[{\"id\":\"x\",\"importMode\":\"update\"}]"),
                   400);
  ASSERT_ANSWERED("\"isSuccessful\":false");
}

static void test_pages(void **state) {
  (void)state;
  assert_int_equal(request("both", "POST", "/devices", "",
                           "[{\"id\":\"p1\",\"importMode\":\"create\"},"
                           "{\"id\":\"p2\",\"importMode\":\"create\"}]"),
                   200);
  ASSERT_ANSWERED("{\"isSuccessful\":true,\"errors\":[],\"warnings\":[]}");
  assert_int_equal(request("both", "GET", "/devices/?top=0", "", ""), 400);
  raw_close(&client);
  if (!raw_connect(&client, "localhost", hub.https_port, hub.ca_file))
    fail_msg("%s", client.error);
  char text[2048];
  snprintf(text, sizeof text,
           "GET /devices/?top=1 HTTP/1.1\r\nHost: h\r\nAuthorization: %s\r\n"
           "x-ms-continuation: p1\r\n\r\n",
           token_of("reader"));
  assert_true(raw_text(&client, text));
  assert_int_equal(raw_answer(&client), 200);
  ASSERT_ANSWERED("[{\"deviceId\":\"p2\"");
  ASSERT_ANSWERED("\r\nx-ms-continuation: p2\r\n");
}

/* What a device is for: it can connect, it is shown, and when it is removed it
 * is gone. */
static void test_device_connects(void **state) {
  static struct raw device;
  char password[SAS_MAX];
  (void)state;
  assert_int_equal(
      request("both", "PUT", "/devices/c", "",
              "{\"authentication\":{\"symmetricKey\":{\"primaryKey\":"
              "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"}}}"),
      200);
  assert_true(sas_make(password, sizeof password, "localhost/devices/c",
                       (const uint8_t *)"0123456789abcdef0123456789abcdef", 32,
                       (uint64_t)time(NULL) + 300, NULL, SAS_RAW_RESOURCE) > 0);
  if (!raw_connect(&device, "localhost", hub.mqtt_port, hub.ca_file))
    fail_msg("%s", device.error);
  assert_int_equal(raw_mqtt_connect(&device, "c",
                                    "localhost/c/?api-version=2020-09-30",
                                    password),
                   0);
  assert_int_equal(raw_mqtt_subscribe(&device, STREAM_TOPIC_POST_FILTER), 0);
  assert_int_equal(
      hub_fixture_wait_log(&hub, "device c can be reached", WAIT_MS), 0);
  assert_int_equal(request("reader", "GET", "/devices/c", "", ""), 200);
  ASSERT_ANSWERED("\"connectionState\":\"Connected\"");
  ASSERT_ANSWERED("\"connectionStateUpdatedTime\":\"2");
  ASSERT_ANSWERED("\"lastActivityTime\":\"2");
  assert_int_equal(
      request("writer", "DELETE", "/devices/c", "If-Match: *\r\n", ""), 204);
  assert_true(raw_wait_end(&device));
  raw_close(&device);
}

/* The hub goes on when callers go away, and when it is ended meanwhile. */
static void test_callers_go(void **state) {
  (void)state;
  for (int i = 0; i < 20; i++) {
    if (!raw_connect(&client, "localhost", hub.https_port, hub.ca_file))
      fail_msg("%s", client.error);
    send_request("both", "GET", "/devices", "", "");
    raw_reset(&client);
  }
  raw_close(&client);
  assert_int_equal(request("both", "GET", "/devices", "", ""), 200);
  send_request("both", "GET", "/devices", "", "");
  assert_int_equal(hub_fixture_end(&hub), 0);
  raw_close(&client);
  assert_int_equal(hub_fixture_run(&hub), 0);
  assert_int_equal(request("both", "GET", "/devices", "", ""), 200);
}

static int group_setup(void **state) {
  (void)state;
  return hub_fixture_start(&hub, NULL) != 0 ? -1 : add_policies();
}

static int group_teardown(void **state) {
  (void)state;
  return hub_fixture_stop(&hub);
}

static int teardown(void **state) {
  (void)state;
  raw_close(&client);
  return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_life),  TEST(test_rights),          TEST(test_bad_requests),
      TEST(test_pages), TEST(test_device_connects), TEST(test_callers_go),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
