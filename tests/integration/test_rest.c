/* The hub's REST interface over TLS, with a device played by hand. */
#include <setjmp.h>
#include <signal.h>
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
#include "integration/support_hub.h"
#include "integration/support_raw.h"

#define TOKEN_HEADER "iothub-streaming-auth-token: "

static struct hub_fixture hub;
static struct raw client;
static struct raw device;
static char device_string[CONN_STRING_MAX];

/* ---- tokens ---- */

/* A token for resource, with the key of a connection string; for: seconds from
 * now; skn may be NULL. */
static void make_token(char *out, const char *string,
                       enum conn_string_kind kind, const char *resource,
                       const char *skn, int life, enum sas_form form) {
  struct conn_string cs;
  assert_int_equal(conn_string_parse(&cs, string, kind, NULL), 0);
  uint64_t expiry = (uint64_t)((int64_t)time(NULL) + life);
  assert_true(sas_make(out, SAS_MAX, resource, cs.key, cs.key_len, expiry, skn,
                       form) > 0);
  conn_string_clear(&cs);
}

static const char *service_token(void) {
  static char token[SAS_MAX];
  make_token(token, hub.service_string, CONN_STRING_SERVICE, "localhost",
             "service", 300, SAS_RAW_RESOURCE);
  return token;
}

/* ---- requests ---- */

static void open_client(void) {
  if (!raw_connect(&client, "localhost", hub.https_port, hub.ca_file))
    fail_msg("%s", client.error);
}

static void ask_with(const char *method, const char *target, const char *token,
                     const char *headers) {
  char text[16384];
  snprintf(text, sizeof text,
           "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
           "%s%s%s%s\r\n",
           method, target, token != NULL ? "Authorization: " : "",
           token != NULL ? token : "", token != NULL ? "\r\n" : "", headers);
  assert_true(raw_text(&client, text));
}

/* Asks for a stream on a new connection; the answer is still to come. */
static void ask(const char *target, const char *headers) {
  open_client();
  ask_with("POST", target, service_token(), headers);
}

static int request(const char *target, const char *headers) {
  ask(target, headers);
  return raw_answer(&client);
}

static int request_as(const char *token) {
  open_client();
  ask_with("POST", "/twins/dev/streams/echo", token, "");
  return raw_answer(&client);
}

static bool answered(const char *text) {
  return strstr(client.head, text) != NULL;
}

/* The code in the nested JSON; headers and body agree. */
static int error_code(void) {
  const char *body = strstr(client.head, "\r\n\r\n");
  assert_non_null(body);
  cJSON *outer = cJSON_Parse(body + 4);
  const cJSON *message = cJSON_GetObjectItemCaseSensitive(outer, "Message");
  assert_true(cJSON_IsString(message));
  cJSON *inner = cJSON_Parse(message->valuestring);
  const cJSON *code = cJSON_GetObjectItemCaseSensitive(inner, "errorCode");
  const cJSON *tracking = cJSON_GetObjectItemCaseSensitive(inner, "trackingId");
  assert_true(cJSON_IsNumber(code) && cJSON_IsString(tracking));
  char header[128];
  snprintf(header, sizeof header, "\r\nx-ms-request-id: %s\r\n",
           tracking->valuestring);
  assert_true(answered(header));
  assert_true(answered("\r\niothub-errorcode: "));
  int value = code->valueint;
  cJSON_Delete(inner);
  cJSON_Delete(outer);
  return value;
}

static void assert_error(int status, int http, int code) {
  if (status != http || error_code() != code)
    fail_msg("not %d/%d but:\n%s", http, code, client.head);
}

/* The value of a header of the answer. */
static void header(const char *name, char *out, size_t size) {
  char start[128];
  snprintf(start, sizeof start, "\r\n%s: ", name);
  const char *value = strstr(client.head, start);
  if (value == NULL)
    fail_msg("no %s in:\n%s", name, client.head);
  value += strlen(start);
  snprintf(out, size, "%.*s", (int)strcspn(value, "\r"), value);
}

/* ---- the device ---- */

static void device_connect(void) {
  char password[SAS_MAX];
  make_token(password, device_string, CONN_STRING_DEVICE,
             "localhost/devices/dev", NULL, 300, SAS_RAW_RESOURCE);
  if (!raw_connect(&device, "localhost", hub.mqtt_port, hub.ca_file))
    fail_msg("%s", device.error);
  assert_int_equal(raw_mqtt_connect(&device, "dev",
                                    "localhost/dev/?api-version=2020-09-30",
                                    password),
                   0);
  assert_int_equal(raw_mqtt_subscribe(&device, STREAM_TOPIC_POST_FILTER), 0);
  assert_int_equal(
      hub_fixture_wait_log(&hub, "device dev can be reached", 10000), 0);
}

static void device_gone(void) {
  hub_fixture_mark_log(&hub);
  raw_close(&device);
  assert_int_equal(
      hub_fixture_wait_log(&hub, "device dev can no longer be reached", 10000),
      0);
}

static char topic[STREAM_TOPIC_SIZE];

static void device_is_asked(struct stream_request *asked) {
  assert_true(raw_mqtt_message(&device, topic, sizeof topic));
  assert_int_equal(stream_topic_parse(asked, topic, strlen(topic), NULL), 0);
}

static void device_answers(const char *rid, int code, const char *caps,
                           const char *reason) {
  char text[1024];
  assert_true(stream_topic_format_response(text, sizeof text, code, rid, caps,
                                           reason) > 0);
  assert_true(raw_mqtt_publish(&device, text));
}

static int group_setup(void **state) {
  (void)state;
  client.fd = device.fd = -1;
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  return hub_fixture_add_device(&hub, "dev", device_string);
}

static int group_teardown(void **state) {
  (void)state;
  raw_close(&client);
  raw_close(&device);
  return hub_fixture_stop(&hub);
}

static int with_device(void **state) {
  (void)state;
  hub_fixture_mark_log(&hub);
  device_connect();
  return 0;
}

static int without_device(void **state) {
  (void)state;
  raw_close(&client);
  device_gone();
  return 0;
}

/* ---- tests ---- */

static void test_health(void **state) {
  (void)state;
  open_client();
  for (int i = 0; i < 3; i++) { /* keep-alive */
    ask_with("GET", "/healthz", NULL, "");
    assert_int_equal(raw_answer(&client), 200);
    assert_true(answered("\r\n\r\nok"));
    assert_true(answered("\r\nServer: dstream-hub\r\n"));
  }
}

static void test_routes(void **state) {
  (void)state;
  static const char *const unknown[] = {"/",
                                        "/devices/dev/x",
                                        "/twins/dev",
                                        "/twins/dev/streams",
                                        "/x/dev/streams/e",
                                        "/twins/dev/streams/echo/more"};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
    assert_error(request(unknown[i], ""), 404, 404000);
  open_client();
  ask_with("GET", "/twins/dev/streams/echo", service_token(), "");
  assert_error(raw_answer(&client), 405, 405000);
  assert_true(answered("\r\nAllow: POST\r\n"));
  ask_with("BREW", "/twins/dev/streams/echo", service_token(), "");
  assert_error(raw_answer(&client), 405, 405000);
}

static void test_authorization(void **state) {
  (void)state;
  char token[SAS_MAX];
  char owner[CONN_STRING_MAX];
  char device_policy[CONN_STRING_MAX];
  assert_int_equal(hub_fixture_policy_string(&hub, "iothubowner", owner), 0);
  assert_int_equal(hub_fixture_policy_string(&hub, "device", device_policy), 0);
  const char *string = hub.service_string;
  const struct {
    const char *string, *resource, *skn;
    int life;
    enum sas_form form;
    bool good;
  } cases[] = {
      {string, "localhost", "service", 60, SAS_RAW_RESOURCE, true},
      {string, "LocalHost", "service", 60, SAS_ENCODED_RESOURCE, true},
      {string, "127.0.0.1", "service", 60, SAS_RAW_RESOURCE, true},
      {owner, "localhost", "iothubowner", 60, SAS_RAW_RESOURCE, true},
      {owner, "localhost", "service", 60, SAS_RAW_RESOURCE, false},
      {string, "localhost", "nobody", 60, SAS_RAW_RESOURCE, false},
      {string, "localhost", NULL, 60, SAS_RAW_RESOURCE, false},
      {string, "localhost", "service", -1, SAS_RAW_RESOURCE, false},
      {string, "other.example.net", "service", 60, SAS_RAW_RESOURCE, false},
      {device_policy, "localhost", "device", 60, SAS_RAW_RESOURCE, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    make_token(token, cases[i].string, CONN_STRING_SERVICE, cases[i].resource,
               cases[i].skn, cases[i].life, cases[i].form);
    int status = request_as(token);
    if (cases[i].good)
      assert_error(status, 404, 404103);
    else
      assert_error(status, 401, 401002);
    assert_int_equal(answered("has expired"), cases[i].life < 0);
  }
  make_token(token, device_string, CONN_STRING_DEVICE, "localhost/devices/dev",
             NULL, 60, SAS_RAW_RESOURCE);
  assert_error(request_as(token), 401, 401002);
  assert_error(request_as(NULL), 401, 401002);
  assert_error(request_as("Bearer x"), 401, 401002);
  assert_error(request_as("SharedAccessSignature sr=&sig=&se="), 401, 401002);
  open_client();
  ask_with("POST", "/twins/dev/streams/echo", service_token(),
           "Authorization: x\r\n");
  assert_error(raw_answer(&client), 401, 401002);
}

static void test_arguments(void **state) {
  (void)state;
  assert_error(request("/twins/nobody/streams/echo", ""), 404, 404001);
  assert_error(request("/twins/a%2Fb/streams/echo", ""), 400, 400004);
  assert_error(request("/twins/dev/streams/a%2Fb", ""), 400, 400004);
  assert_error(request("/twins/dev/streams/a%26b", ""), 400, 400004);
  assert_error(request("/twins/d%65v/streams/echo?api-version=x", ""), 404,
               404103);
  static const char *const bad[] = {
      "iothub-streaming-connect-timeout-in-seconds: 61\r\n",
      "iothub-streaming-connect-timeout-in-seconds: -1\r\n",
      "IotHub-Streaming-Connect-Timeout-In-Seconds: soon\r\n",
      "iothub-streaming-response-timeout-in-seconds: 0\r\n",
      "iothub-streaming-response-timeout-in-seconds: 61\r\n",
      "iothub-streaming-response-timeout-in-seconds: \r\n",
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_error(request("/twins/dev/streams/echo", bad[i]), 400, 400004);
}

static void test_malformed(void **state) {
  (void)state;
  static const char *const texts[] = {
      "POST /twins/dev/streams/echo\r\n\r\n",
      "POST /twins/dev/streams/echo HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n"
      "\r\n",
      "POST /twins/dev/streams/echo HTTP/1.1\r\nHost: localhost\r\n"
      "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
  };
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    open_client();
    assert_true(raw_text(&client, texts[i]));
    assert_int_equal(raw_answer(&client), 400);
    assert_true(raw_wait_end(&client));
  }
  assert_int_equal(request("/healthz", "X: y\r\n"), 405);
}

static void test_bodies(void **state) {
  (void)state;
  char text[8192];
  open_client();
  snprintf(text, sizeof text,
           "POST /twins/dev/streams/echo HTTP/1.1\r\nHost: localhost\r\n"
           "Authorization: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
           "5\r\nhello\r\n0\r\n\r\n",
           service_token());
  assert_true(raw_text(&client, text));
  assert_error(raw_answer(&client), 404, 404103);
  snprintf(text, sizeof text,
           "POST /twins/dev/streams/echo HTTP/1.1\r\nHost: localhost\r\n"
           "Authorization: %s\r\nContent-Length: 100000000\r\n\r\n",
           service_token());
  assert_true(raw_text(&client, text));
  assert_int_equal(raw_answer(&client), 413);
}

static void test_offline(void **state) {
  (void)state;
  struct timespec before;
  struct timespec after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  assert_error(request("/twins/dev/streams/echo",
                       "iothub-streaming-connect-timeout-in-seconds: 1\r\n"),
               404, 404103);
  clock_gettime(CLOCK_MONOTONIC, &after);
  double passed = (double)(after.tv_sec - before.tv_sec) +
                  (double)(after.tv_nsec - before.tv_nsec) / 1e9;
  assert_true(passed > 0.95);
  assert_true(answered("\\\"timeout\\\":\\\"00:00:01\\\""));
}

static void test_comes_in_time(void **state) {
  struct stream_request asked;
  hub_fixture_mark_log(&hub);
  ask("/twins/dev/streams/echo",
      "iothub-streaming-connect-timeout-in-seconds: 30\r\n");
  assert_int_equal(hub_fixture_wait_log(&hub, "waiting up to 30 s", 10000), 0);
  device_connect();
  device_is_asked(&asked);
  device_answers(asked.rid, 200, NULL, NULL);
  assert_int_equal(raw_answer(&client), 200);
  assert_true(answered("iothub-streaming-is-accepted: True\r\n"));
  without_device(state);
}

static void test_accepted(void **state) {
  (void)state;
  struct stream_request asked;
  char url[1024];
  char token[1024];
  ask("/twins/dev/streams/TestStream?api-version=2020-09-30", "");
  device_is_asked(&asked);
  assert_string_equal(asked.name, "TestStream");
  assert_int_equal(asked.caps.len, 0);
  device_answers(asked.rid, 200, NULL, NULL);
  assert_int_equal(raw_answer(&client), 200);
  assert_true(answered("\r\niothub-streaming-is-accepted: True\r\n"));
  assert_true(answered("\r\nContent-Length: 0\r\n"));
  assert_false(answered("dstream-capabilities"));
  header("iothub-streaming-url", url, sizeof url);
  header("iothub-streaming-auth-token", token, sizeof token);
  char start[256];
  snprintf(start, sizeof start,
           "wss://localhost:%u/bridges/ih/localhost/d/dev/sid/",
           hub.https_port);
  assert_ptr_equal(strstr(url, start), url);
  assert_ptr_equal(strstr(asked.url, start), asked.url);
  assert_string_equal(url + strlen(url) - 10, "/r/service");
  assert_string_equal(asked.url + strlen(asked.url) - 9, "/r/device");
  assert_string_not_equal(token, asked.token);
  assert_false(hub_fixture_logged(&hub, token));
  assert_false(hub_fixture_logged(&hub, asked.token));
  assert_false(hub_fixture_logged(&hub, "SharedAccessSignature sr="));
  assert_int_equal(
      hub_fixture_wait_log(&hub, "service asked for TestStream on dev", 1000),
      0);
  assert_int_equal(
      hub_fixture_wait_log(&hub, "device answered 200 after", 1000), 0);
}

static void test_rejected(void **state) {
  (void)state;
  struct stream_request asked;
  ask("/twins/dev/streams/echo", "dstream-capabilities: eof\r\n");
  device_is_asked(&asked);
  device_answers(asked.rid, 400, NULL, "no such target: \"ssh\"");
  assert_int_equal(raw_answer(&client), 200);
  assert_true(answered("\r\niothub-streaming-is-accepted: False\r\n"));
  assert_true(answered("\r\ndstream-reason: no such target: \"ssh\"\r\n"));
  assert_false(answered("iothub-streaming-url"));
  assert_false(answered(TOKEN_HEADER));
}

static void test_capabilities(void **state) {
  (void)state;
  struct stream_request asked;
  ask("/twins/dev/streams/echo", "dstream-capabilities: eof, warp\r\n");
  device_is_asked(&asked);
  assert_int_equal(asked.caps.len, 3);
  device_answers(asked.rid, 200, "eof,other", NULL);
  assert_int_equal(raw_answer(&client), 200);
  assert_true(answered("\r\ndstream-capabilities: eof\r\n"));
}

static void test_no_answer(void **state) {
  (void)state;
  struct stream_request asked;
  ask("/twins/dev/streams/echo",
      "iothub-streaming-response-timeout-in-seconds: 1\r\n");
  device_is_asked(&asked);
  assert_error(raw_answer(&client), 504, 504101);
  device_answers(asked.rid, 200, NULL, NULL);
  assert_int_equal(hub_fixture_wait_log(&hub, "which nobody waits for", 5000),
                   0);
}

/* Two requests at once, answered in the other order, one of them wrongly. */
static void test_two_at_once(void **state) {
  (void)state;
  static struct raw other;
  struct stream_request one;
  struct stream_request two;
  ask("/twins/dev/streams/one", "");
  other = client;
  memset(&client, 0, sizeof client);
  client.fd = -1;
  device_is_asked(&one);
  ask("/twins/dev/streams/two", "");
  device_is_asked(&two);
  assert_string_not_equal(one.rid, two.rid);
  device_answers(two.rid, 200, NULL, NULL);
  assert_int_equal(raw_answer(&client), 200);
  assert_true(raw_mqtt_publish(&device, "$iothub/streams/res/oops/?$rid=1"));
  device_answers(one.rid, 400, NULL, NULL);
  assert_int_equal(raw_answer(&other), 200);
  assert_non_null(strstr(other.head, "is-accepted: False"));
  raw_close(&other);
}

/* The device renews its token just then: the request is not lost. */
static void test_device_reconnects(void **state) {
  (void)state;
  struct stream_request one;
  struct stream_request again;
  ask("/twins/dev/streams/echo", "");
  device_is_asked(&one);
  device_gone();
  hub_fixture_mark_log(&hub);
  device_connect();
  device_is_asked(&again);
  assert_string_equal(one.rid, again.rid);
  assert_string_equal(one.url, again.url);
  assert_string_equal(one.token, again.token);
  device_answers(again.rid, 200, NULL, NULL);
  assert_int_equal(raw_answer(&client), 200);
}

static void test_service_goes(void **state) {
  (void)state;
  struct stream_request asked;
  ask("/twins/dev/streams/echo", "");
  device_is_asked(&asked);
  raw_close(&client);
  assert_int_equal(hub_fixture_wait_log(&hub, "service has gone", 10000), 0);
  device_answers(asked.rid, 200, NULL, NULL);
  assert_int_equal(hub_fixture_wait_log(&hub, "which nobody waits for", 5000),
                   0);
}

/* Devices come and go while the hub runs. */
static void test_removed(void **state) {
  (void)state;
  char string[CONN_STRING_MAX];
  assert_int_equal(hub_fixture_add_device(&hub, "short-lived", string), 0);
  assert_error(request("/twins/short-lived/streams/echo", ""), 404, 404103);
  static struct hub_output output;
  const char *const arguments[] = {hub_program(), "device",      "remove",
                                   hub.hub_dir,   "short-lived", NULL};
  assert_int_equal(hub_command(&output, arguments), 0);
  assert_error(request("/twins/short-lived/streams/echo", ""), 404, 404001);
}

/* The broker dies: the hub starts it again, and devices can come back. */
static void test_broker_dies(void **state) {
  struct stream_request asked;
  pid_t broker = hub_fixture_broker(&hub);
  assert_true(broker > 0);
  hub_fixture_mark_log(&hub);
  kill(broker, SIGKILL);
  assert_int_equal(hub_fixture_wait_log(&hub, "the broker is gone", 10000), 0);
  assert_int_equal(hub_fixture_wait_log(&hub, "the broker is back", 10000), 0);
  hub_fixture_mark_log(&hub);
  device_connect();
  ask("/twins/dev/streams/echo", "");
  device_is_asked(&asked);
  device_answers(asked.rid, 200, NULL, NULL);
  assert_int_equal(raw_answer(&client), 200);
  without_device(state);
}

/* ---- with other limits ---- */

static void test_limits(void **state) {
  (void)state;
  static const struct hub_fixture_options options = {
      .overrides = "{\"limits\":{\"max_pending_per_device\":1,"
                   "\"requests_per_second\":1,\"request_burst\":3}}"};
  raw_close(&client);
  raw_close(&device);
  assert_int_equal(hub_fixture_stop(&hub), 0);
  assert_int_equal(hub_fixture_start(&hub, &options), 0);
  assert_int_equal(hub_fixture_add_device(&hub, "dev", device_string), 0);
  device_connect();
  struct stream_request asked;
  static struct raw other;
  ask("/twins/dev/streams/echo", "");
  other = client;
  memset(&client, 0, sizeof client);
  client.fd = -1;
  device_is_asked(&asked);
  assert_error(request("/twins/dev/streams/echo", ""), 429, 429001);
  assert_true(answered("\r\nRetry-After: "));
  assert_true(answered("are pending"));
  assert_error(request("/twins/dev/streams/echo", ""), 429, 429001);
  assert_error(request("/twins/dev/streams/echo", ""), 429, 429001);
  assert_true(answered("Too many requests"));
  raw_close(&other);
}

/* The first one who waits is told that the hub stops. */
static void test_hub_stops(void **state) {
  (void)state;
  hub_fixture_stop(&hub);
  assert_int_equal(hub_fixture_start(&hub, NULL), 0);
  assert_int_equal(hub_fixture_add_device(&hub, "dev", device_string), 0);
  ask("/twins/dev/streams/echo",
      "iothub-streaming-connect-timeout-in-seconds: 60\r\n");
  assert_int_equal(hub_fixture_wait_log(&hub, "waiting up to 60 s", 10000), 0);
  int ended = hub_fixture_end(&hub);
  assert_error(raw_answer(&client), 503, 503001);
  assert_int_equal(ended, 0);
}

/* Lines about refused requests in the hub's log, and those left out. */
static void count_refusals(unsigned *written, unsigned *left_out) {
  static const char report[] = " more lines about refused requests";
  *written = *left_out = 0;
  pthread_mutex_lock(&hub.log_lock);
  for (const char *p = hub.log; p != NULL; p = strchr(p + 1, '\n')) {
    char line[512];
    snprintf(line, sizeof line, "%.*s", (int)strcspn(p + 1, "\n"), p + 1);
    char *end = strstr(line, report);
    if (end != NULL) {
      while (end > line && end[-1] >= '0' && end[-1] <= '9')
        end--;
      *left_out += (unsigned)strtoul(end, NULL, 10);
    } else if (strstr(line, " refused: ") != NULL ||
               strstr(line, ": answered ") != NULL) {
      *written += 1;
    }
  }
  pthread_mutex_unlock(&hub.log_lock);
}

/* Strangers can't fill the log; the operator learns that there was more. */
static void test_flood_of_refusals(void **state) {
  (void)state;
  hub_fixture_stop(&hub);
  assert_int_equal(hub_fixture_start(&hub, NULL), 0);
  time_t start = time(NULL);
  open_client();
  for (int i = 0; i < 400; i++) {
    ask_with("POST", "/twins/dev/streams/echo", NULL, "");
    assert_int_equal(raw_answer(&client), 401);
  }
  assert_int_equal(hub_fixture_end(&hub), 0);
  unsigned more = 2 * (unsigned)(time(NULL) - start + 1);
  unsigned written = 0;
  unsigned left_out = 0;
  count_refusals(&written, &left_out);
  assert_in_range(written, 50, 50 + more); /* 50 at once and 2 a second */
  assert_int_equal(written + left_out, 400);
}

#define WITH_DEVICE(name)                                                      \
  cmocka_unit_test_setup_teardown(name, with_device, without_device)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_health),
      cmocka_unit_test(test_routes),
      cmocka_unit_test(test_authorization),
      cmocka_unit_test(test_arguments),
      cmocka_unit_test(test_malformed),
      cmocka_unit_test(test_bodies),
      cmocka_unit_test(test_offline),
      cmocka_unit_test(test_comes_in_time),
      WITH_DEVICE(test_accepted),
      WITH_DEVICE(test_rejected),
      WITH_DEVICE(test_capabilities),
      WITH_DEVICE(test_no_answer),
      WITH_DEVICE(test_two_at_once),
      WITH_DEVICE(test_device_reconnects),
      WITH_DEVICE(test_service_goes),
      cmocka_unit_test(test_removed),
      cmocka_unit_test(test_broker_dies),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_hub_stops),
      cmocka_unit_test(test_flood_of_refusals),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
