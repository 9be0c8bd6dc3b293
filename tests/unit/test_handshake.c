/* hub/handshake.h with a clock, a device and a gateway of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/crypto.h"
#include "core/stream_url.h"
#include "hub/handshake.h"

#define MAX 64

struct asked {
  char client[HANDSHAKE_CLIENT_SIZE];
  struct stream_request request;
  char caps[64];
};

struct told {
  unsigned count;
  enum hub_error_code error;
  int timeout_s;
  bool accepted;
  char message[256];
  char reason[300];
  char url[600];
  char token[600];
  char caps[64];
};

struct fake {
  struct handshake *handshake;
  uint64_t now_ms;
  uint64_t wake_ms;
  enum handshake_device device;
  bool up;
  bool ready;
  int ask_status;
  int expect_status;
  unsigned streams;
  unsigned device_streams;
  struct asked asked[MAX];
  unsigned asked_count;
  char expected[MAX][TOKEN_ID_SIZE];
  uint64_t expected_deadline;
  unsigned expected_count;
  unsigned forgotten;
  unsigned eofs;
  unsigned told[ACTIVITY_EVENT_COUNT];
  struct activity_record last_told; /* its numbers only */
  char log[65536];
};

static const uint8_t key[CRYPTO_SHA256_LEN] = {1, 2, 3};

static uint64_t now_ms(void *user) {
  return ((struct fake *)user)->now_ms;
}

static uint64_t now_s(void *user) {
  return 1700000000 + ((struct fake *)user)->now_ms / 1000;
}

static void wake_at(void *user, uint64_t at_ms) {
  ((struct fake *)user)->wake_ms = at_ms;
}

static enum handshake_device find_device(void *user, const char *id) {
  (void)id;
  return ((struct fake *)user)->device;
}

static bool is_up(void *user) {
  return ((struct fake *)user)->up;
}

static bool is_ready(void *user, const char *client) {
  (void)client;
  return ((struct fake *)user)->ready;
}

static int ask(void *user, const char *client, const char *topic) {
  struct fake *fake = user;
  if (fake->ask_status != DSTREAM_OK)
    return fake->ask_status;
  assert_true(fake->asked_count < MAX);
  struct asked *asked = &fake->asked[fake->asked_count++];
  snprintf(asked->client, sizeof asked->client, "%s", client);
  assert_int_equal(
      stream_topic_parse(&asked->request, topic, strlen(topic), NULL), 0);
  snprintf(asked->caps, sizeof asked->caps, "%.*s",
           (int)asked->request.caps.len,
           asked->request.caps.len == 0 ? "" : asked->request.caps.p);
  return DSTREAM_OK;
}

static int expect(void *user, const struct gateway_stream *stream) {
  struct fake *fake = user;
  if (fake->expect_status != DSTREAM_OK)
    return fake->expect_status;
  snprintf(fake->expected[fake->expected_count++ % MAX], TOKEN_ID_SIZE, "%s",
           stream->stream_id);
  fake->expected_deadline = stream->deadline_ms;
  assert_int_equal(strlen(stream->device_jti), 43);
  assert_string_not_equal(stream->device_jti, stream->service_jti);
  fake->streams++;
  return DSTREAM_OK;
}

static void set_eof(void *user, const char *stream_id) {
  (void)stream_id;
  ((struct fake *)user)->eofs++;
}

static void forget(void *user, const char *stream_id, const char *reason) {
  (void)stream_id;
  assert_non_null(reason);
  ((struct fake *)user)->forgotten++;
  ((struct fake *)user)->streams--;
}

static unsigned stream_count(void *user) {
  return ((struct fake *)user)->streams;
}

static unsigned device_stream_count(void *user, const char *client) {
  (void)client;
  return ((struct fake *)user)->device_streams;
}

static void log_line(void *user, enum dstream_log_level level,
                     const char *text) {
  (void)level;
  struct fake *fake = user;
  size_t len = strlen(fake->log);
  snprintf(fake->log + len, sizeof fake->log - len, "%s\n", text);
}

/* For the activity log; every record says whose stream it is. */
static void tell(void *user, const struct activity_record *record) {
  struct fake *fake = user;
  assert_int_equal(strlen(record->stream_id), TOKEN_ID_SIZE - 1);
  assert_true(record->client_id[0] != '\0');
  assert_true(record->stream_name[0] != '\0');
  assert_non_null(record->description);
  fake->told[record->event]++;
  fake->last_told = *record;
}

/* Each request that was taken has come to exactly one end, or to none yet. */
static void check_told(const struct fake *fake) {
  const unsigned *told = fake->told;
  assert_int_equal(told[ACTIVITY_REQUEST],
                   told[ACTIVITY_START] + told[ACTIVITY_TIMEOUT] +
                       told[ACTIVITY_REJECTED] + told[ACTIVITY_FAILED] +
                       told[ACTIVITY_CANCELED] + told[ACTIVITY_LIMIT] +
                       handshake_count(fake->handshake));
}

static const struct handshake_world world = {
    now_ms,   now_s,  wake_at, find_device, is_up,        is_ready,
    ask,      expect, set_eof, forget,      stream_count, device_stream_count,
    log_line, tell};

static const struct handshake_options usual = {.host = "hub.example.net",
                                               .token_key = key,
                                               .max_streams = 50,
                                               .max_streams_per_device = 40,
                                               .max_pending = 30,
                                               .max_pending_per_device = 20,
                                               .requests_per_second = 1000,
                                               .request_burst = 1000,
                                               .handshake_s = 60};

static void make(struct fake *fake, const struct handshake_options *options) {
  memset(fake, 0, sizeof *fake);
  fake->now_ms = 1000000;
  fake->wake_ms = UINT64_MAX;
  fake->up = fake->ready = true;
  assert_int_equal(handshake_new(&fake->handshake, options, &world, fake), 0);
  handshake_set_port(fake->handshake, 8443);
}

static int setup(void **state) {
  struct fake *fake = malloc(sizeof *fake);
  make(fake, &usual);
  *state = fake;
  return 0;
}

static int teardown(void **state) {
  struct fake *fake = *state;
  check_told(fake);
  handshake_free(fake->handshake);
  free(fake);
  return 0;
}

static void copy(char *out, size_t size, const char *text) {
  snprintf(out, size, "%s", text == NULL ? "" : text);
}

static void on_done(void *user, const struct handshake_result *result) {
  struct told *told = user;
  told->count++;
  told->error = result->error;
  told->timeout_s = result->timeout_s;
  told->accepted = result->accepted;
  copy(told->message, sizeof told->message, result->message);
  copy(told->reason, sizeof told->reason, result->reason);
  copy(told->url, sizeof told->url, result->url);
  copy(told->token, sizeof told->token, result->token);
  copy(told->caps, sizeof told->caps, result->caps);
}

static struct handshake_pending *start(struct fake *fake, struct told *told,
                                       int connect_s, int response_s,
                                       const char *caps) {
  struct handshake_request request = {.device_id = "dev",
                                      .name = "echo",
                                      .connect_timeout_s = connect_s,
                                      .response_timeout_s = response_s,
                                      .caps = caps};
  struct handshake_pending *pending = NULL;
  memset(told, 0, sizeof *told);
  handshake_start(fake->handshake, &request, on_done, told, &pending);
  assert_true((pending == NULL) == (told->count == 1));
  return pending;
}

static void answer(struct fake *fake, unsigned i, int code, const char *more) {
  char topic[512];
  snprintf(topic, sizeof topic, "$iothub/streams/res/%d/?$rid=%s%s", code,
           fake->asked[i].request.rid, more);
  handshake_on_answer(fake->handshake, fake->asked[i].client, topic);
}

/* Time passes; what is due happens when it was asked for. */
static void pass(struct fake *fake, uint64_t ms) {
  uint64_t end = fake->now_ms + ms;
  while (fake->wake_ms <= end) {
    if (fake->wake_ms > fake->now_ms)
      fake->now_ms = fake->wake_ms;
    fake->wake_ms = UINT64_MAX;
    handshake_tick(fake->handshake);
  }
  fake->now_ms = end;
}

static void expect_log(const struct fake *fake, const char *text) {
  if (strstr(fake->log, text) == NULL)
    fail_msg("\"%s\" is not in the log:\n%s", text, fake->log);
}

/* A URL and a token for this role of this stream, and for no other. */
static void check_side(const struct fake *fake, const char *url,
                       const char *token, bool device) {
  struct token_claims claims;
  char expected[256];
  assert_int_equal(token_check(&claims, token, strlen(token), key, sizeof key,
                               1700000000 + fake->now_ms / 1000),
                   0);
  assert_string_equal(claims.stream_id, fake->expected[0]);
  assert_int_equal(claims.device_role, device);
  assert_true(claims.expiry_s > 1700000000 + 1000 + 60);
  assert_true(claims.expiry_s < 1700000000 + 1000 + 90);
  snprintf(expected, sizeof expected,
           "wss://hub.example.net:8443/bridges/ih/hub.example.net/d/dev/sid/%s"
           "/r/%s",
           fake->expected[0], device ? "device" : "service");
  assert_string_equal(url, expected);
}

static void finish_stream(struct fake *fake) {
  handshake_on_side(fake->handshake, fake->expected[0], true);
  handshake_on_side(fake->handshake, fake->expected[0], false);
}

static void test_accepted(void **state) {
  struct fake *fake = *state;
  struct told told;
  assert_non_null(start(fake, &told, 0, 30, NULL));
  assert_int_equal(fake->asked_count, 1);
  const struct stream_request *request = &fake->asked[0].request;
  assert_string_equal(fake->asked[0].client, "dev");
  assert_string_equal(request->name, "echo");
  assert_string_equal(fake->asked[0].caps, "");
  assert_true(strlen(request->rid) <= 5);
  check_side(fake, request->url, request->token, true);
  assert_int_equal(fake->expected_deadline, fake->now_ms + 60000);
  fake->now_ms += 3;
  answer(fake, 0, 200, "");
  assert_int_equal(told.count, 1);
  assert_int_equal(told.error, HUB_ERROR_NONE);
  assert_true(told.accepted);
  check_side(fake, told.url, told.token, false);
  assert_string_equal(told.caps, "");
  expect_log(fake, "service asked for echo on dev");
  expect_log(fake, "device answered 200 after 3 ms");
  fake->now_ms += 4;
  finish_stream(fake);
  expect_log(fake, "device connected after 7 ms");
  expect_log(fake, "service connected after 7 ms");
  expect_log(fake, "paired after 7 ms");
  assert_int_equal(handshake_count(fake->handshake), 0);
  assert_null(strstr(fake->log, told.token));
  assert_null(strstr(fake->log, request->token));
}

/* The official C device connects before it answers. */
static void test_device_connects_first(void **state) {
  struct fake *fake = *state;
  struct told told;
  start(fake, &told, 0, 30, NULL);
  handshake_on_side(fake->handshake, fake->expected[0], true);
  assert_int_equal(told.count, 0);
  answer(fake, 0, 200, "");
  assert_true(told.accepted);
  handshake_on_side(fake->handshake, fake->expected[0], false);
  assert_int_equal(handshake_count(fake->handshake), 0);
  expect_log(fake, "paired");
}

static void test_rejected(void **state) {
  struct fake *fake = *state;
  struct told told;
  start(fake, &told, 0, 30, "eof");
  answer(fake, 0, 400, "&$reason=no%20such%0d%0atarget");
  assert_int_equal(told.count, 1);
  assert_int_equal(told.error, HUB_ERROR_NONE);
  assert_false(told.accepted);
  assert_string_equal(told.url, "");
  assert_string_equal(told.token, "");
  assert_null(strpbrk(told.reason, "\r\n"));
  assert_int_equal(fake->forgotten, 1);
  assert_int_equal(handshake_count(fake->handshake), 0);
  answer(fake, 0, 200, ""); /* nobody waits for it any more */
  assert_int_equal(told.count, 1);
  expect_log(fake, "which nobody waits for");
}

static void test_odd_answers(void **state) {
  struct fake *fake = *state;
  struct told told;
  static const char *const odd[] = {"",
                                    "x",
                                    "$iothub/streams/res/200/",
                                    "$iothub/streams/res/200/?$rid=",
                                    "$iothub/streams/res/2000/?$rid=1",
                                    "$iothub/streams/res/200/?$rid=999"};
  start(fake, &told, 0, 30, NULL);
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
    handshake_on_answer(fake->handshake, "dev", odd[i]);
  assert_int_equal(told.count, 0);
  /* The right answer of another device is not an answer. */
  char topic[256];
  snprintf(topic, sizeof topic, "$iothub/streams/res/200/?$rid=%s",
           fake->asked[0].request.rid);
  handshake_on_answer(fake->handshake, "dev2", topic);
  assert_int_equal(told.count, 0);
  answer(fake, 0, 500, "");
  assert_int_equal(told.count, 1);
  assert_int_equal(told.error, HUB_ERROR_NONE);
  assert_false(told.accepted);
}

static void test_no_answer(void **state) {
  struct fake *fake = *state;
  struct told told;
  start(fake, &told, 0, 5, NULL);
  pass(fake, 4999);
  assert_int_equal(told.count, 0);
  pass(fake, 1);
  assert_int_equal(told.count, 1);
  assert_int_equal(told.error, HUB_ERROR_NO_ANSWER);
  assert_int_equal(told.timeout_s, 5);
  assert_int_equal(fake->forgotten, 1);
  answer(fake, 0, 200, "");
  assert_int_equal(told.count, 1);
}

/* However long a service would wait, the device is asked for 60 s at most. */
static void test_handshake_bound(void **state) {
  struct fake *fake = *state;
  struct handshake_options options = usual;
  struct told told;
  handshake_free(fake->handshake);
  options.handshake_s = 10;
  make(fake, &options);
  start(fake, &told, 0, 60, NULL);
  pass(fake, 10000);
  assert_int_equal(told.error, HUB_ERROR_NO_ANSWER);
}

static void test_offline(void **state) {
  struct fake *fake = *state;
  struct told told;
  fake->ready = false;
  assert_non_null(start(fake, &told, 0, 30, NULL));
  pass(fake, 99); /* the broker may be about to tell of it */
  assert_int_equal(told.count, 0);
  pass(fake, 1);
  assert_int_equal(told.error, HUB_ERROR_OFFLINE);
  assert_int_equal(told.timeout_s, 0);
  assert_non_null(start(fake, &told, 7, 30, NULL));
  assert_int_equal(fake->expected_count, 0);
  pass(fake, 6999);
  assert_int_equal(told.count, 0);
  pass(fake, 1);
  assert_int_equal(told.error, HUB_ERROR_OFFLINE);
  assert_int_equal(told.timeout_s, 7);
  assert_string_equal(told.message, "Timed out waiting for device to connect.");
}

static void test_comes_in_time(void **state) {
  struct fake *fake = *state;
  struct told told[3];
  fake->ready = false;
  for (int i = 0; i < 3; i++)
    start(fake, &told[i], 7, 30, NULL);
  pass(fake, 6000);
  handshake_on_presence(fake->handshake, "dev2", true);
  assert_int_equal(fake->asked_count, 0);
  fake->ready = true;
  handshake_on_presence(fake->handshake, "dev", true);
  assert_int_equal(fake->asked_count, 3);
  /* The whole response time begins when the device was asked. */
  pass(fake, 29999);
  assert_int_equal(told[0].count, 0);
  for (unsigned i = 0; i < 3; i++)
    answer(fake, i, 200, "");
  for (int i = 0; i < 3; i++)
    assert_true(told[i].accepted);
}

/* A device that reconnects has lost the request: it is asked the same again,
 * but not for ever. */
static void test_asked_again(void **state) {
  struct fake *fake = *state;
  struct told told;
  start(fake, &told, 0, 30, "eof");
  handshake_on_presence(fake->handshake, "dev", true); /* was there already */
  assert_int_equal(fake->asked_count, 1);
  for (int i = 0; i < 3; i++) {
    handshake_on_presence(fake->handshake, "dev", false);
    handshake_on_presence(fake->handshake, "dev", true);
  }
  assert_int_equal(fake->asked_count, 2);
  const struct stream_request *a = &fake->asked[0].request;
  const struct stream_request *b = &fake->asked[1].request;
  assert_string_equal(a->rid, b->rid);
  assert_string_equal(a->url, b->url);
  assert_string_equal(a->token, b->token);
  assert_string_equal(fake->asked[1].caps, "eof");
  assert_int_equal(fake->expected_count, 1);
  answer(fake, 1, 200, "");
  assert_true(told.accepted);
}

static void test_capabilities(void **state) {
  struct fake *fake = *state;
  struct told told;
  start(fake, &told, 0, 30, "warp, eof");
  assert_string_equal(fake->asked[0].caps, "eof");
  answer(fake, 0, 200, "&$caps=eof,more");
  assert_string_equal(told.caps, "eof");
  assert_int_equal(fake->eofs, 1);
  start(fake, &told, 0, 30, "eof");
  answer(fake, 1, 200, "");
  assert_true(told.accepted);
  assert_string_equal(told.caps, "");
  /* A device must not agree to what nobody asked for. */
  start(fake, &told, 0, 30, NULL);
  assert_string_equal(fake->asked[2].caps, "");
  answer(fake, 2, 200, "&$caps=eof");
  assert_string_equal(told.caps, "");
  assert_int_equal(fake->eofs, 1);
}

static void test_canceled(void **state) {
  struct fake *fake = *state;
  struct told told;
  struct handshake_pending *pending = start(fake, &told, 0, 30, NULL);
  handshake_cancel(pending);
  assert_int_equal(fake->forgotten, 1);
  answer(fake, 0, 200, "");
  assert_int_equal(told.count, 0);
  fake->ready = false;
  handshake_cancel(start(fake, &told, 5, 30, NULL));
  assert_int_equal(fake->forgotten, 1); /* it was never announced */
  pass(fake, 10000);
  assert_int_equal(told.count, 0);
  assert_int_equal(handshake_count(fake->handshake), 0);
}

static void test_bad_requests(void **state) {
  struct fake *fake = *state;
  static const char *const names[] = {"",    "a/b", "a&b", "a+b", "a#b", "a b",
                                      "a\n", "a?b", "ä",   "a%b", "$x"};
  struct handshake_pending *pending;
  struct told told;
  struct handshake_request request = {.device_id = "dev",
                                      .response_timeout_s = 1};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    memset(&told, 0, sizeof told);
    request.name = names[i];
    handshake_start(fake->handshake, &request, on_done, &told, &pending);
    assert_int_equal(told.error, HUB_ERROR_ARGUMENT);
  }
  static const int times[][2] = {{-1, 30}, {61, 30}, {0, 0}, {0, -1}, {0, 61}};
  for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
    start(fake, &told, times[i][0], times[i][1], NULL);
    assert_int_equal(told.error, HUB_ERROR_ARGUMENT);
  }
  assert_int_equal(fake->asked_count, 0);
}

static void test_devices(void **state) {
  struct fake *fake = *state;
  struct told told;
  static const struct {
    enum handshake_device device;
    enum hub_error_code error;
  } cases[] = {{HANDSHAKE_DEVICE_UNKNOWN, HUB_ERROR_NO_DEVICE},
               {HANDSHAKE_DEVICE_DISABLED, HUB_ERROR_FORBIDDEN},
               {HANDSHAKE_DEVICE_ERROR, HUB_ERROR_UNAVAILABLE}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    fake->device = cases[i].device;
    start(fake, &told, 0, 30, NULL);
    assert_int_equal(told.error, cases[i].error);
  }
  fake->device = HANDSHAKE_DEVICE_OK;
  fake->up = false;
  start(fake, &told, 0, 30, NULL);
  assert_int_equal(told.error, HUB_ERROR_UNAVAILABLE);
}

static void test_module(void **state) {
  struct fake *fake = *state;
  struct told told = {0};
  struct handshake_pending *pending;
  struct handshake_request request = {.device_id = "dev",
                                      .module_id = "m?1",
                                      .name = "echo",
                                      .response_timeout_s = 1};
  handshake_start(fake->handshake, &request, on_done, &told, &pending);
  assert_string_equal(fake->asked[0].client, "dev/m?1");
  assert_non_null(strstr(fake->asked[0].request.url, "/d/dev%2Fm%3F1/sid/"));
  struct stream_url url;
  assert_int_equal(stream_url_parse(&url, fake->asked[0].request.url), 0);
  answer(fake, 0, 200, "");
  assert_true(told.accepted);
}

static void test_failures(void **state) {
  struct fake *fake = *state;
  struct told told;
  static const struct {
    int ask, expect;
    enum hub_error_code error;
  } cases[] = {{DSTREAM_EOFFLINE, 0, HUB_ERROR_OFFLINE},
               {DSTREAM_EAGAIN, 0, HUB_ERROR_UNAVAILABLE},
               {DSTREAM_EIO, 0, HUB_ERROR_UNAVAILABLE},
               {0, DSTREAM_ELIMIT, HUB_ERROR_THROTTLED},
               {0, DSTREAM_ENOMEM, HUB_ERROR_UNAVAILABLE}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    fake->ask_status = cases[i].ask;
    fake->expect_status = cases[i].expect;
    start(fake, &told, 0, 30, NULL);
    assert_int_equal(told.error, cases[i].error);
    assert_int_equal(handshake_count(fake->handshake), 0);
    assert_int_equal(fake->streams, 0);
  }
}

static void test_limits(void **state) {
  struct fake *fake = *state;
  struct told told[64];
  for (unsigned i = 0; i < usual.max_pending_per_device; i++)
    assert_non_null(start(fake, &told[i], 0, 30, NULL));
  start(fake, &told[40], 0, 30, NULL);
  assert_int_equal(told[40].error, HUB_ERROR_THROTTLED);
  for (unsigned i = 0; i < usual.max_pending_per_device; i++) {
    for (unsigned j = 0; j < i; j++)
      assert_string_not_equal(fake->asked[i].request.rid,
                              fake->asked[j].request.rid);
  }
  pass(fake, 30000);
  assert_int_equal(handshake_count(fake->handshake), 0);
  fake->device_streams = usual.max_streams_per_device;
  start(fake, &told[0], 0, 30, NULL);
  assert_int_equal(told[0].error, HUB_ERROR_THROTTLED);
  fake->device_streams = 0;
  fake->streams = usual.max_streams;
  start(fake, &told[0], 0, 30, NULL);
  assert_int_equal(told[0].error, HUB_ERROR_THROTTLED);
}

static void test_rate(void **state) {
  struct fake *fake = *state;
  struct handshake_options options = usual;
  static struct told told[8];
  handshake_free(fake->handshake);
  options.requests_per_second = 2;
  options.request_burst = 3;
  make(fake, &options);
  fake->ready = false;
  for (int i = 0; i < 5; i++) {
    start(fake, &told[i], 0, 30, NULL);
    assert_int_equal(told[i].count, i < 3 ? 0 : 1);
    if (i >= 3)
      assert_int_equal(told[i].error, HUB_ERROR_THROTTLED);
  }
  fake->now_ms += 500;
  start(fake, &told[5], 0, 30, NULL);
  assert_int_equal(told[5].count, 0);
  start(fake, &told[6], 0, 30, NULL);
  assert_int_equal(told[6].error, HUB_ERROR_THROTTLED);
  fake->now_ms += UINT64_C(1) << 40;
  start(fake, &told[7], 0, 30, NULL);
  assert_int_equal(told[7].count, 0);
}

/* Who asks in a loop leaves a quarter to others. */
static void test_rate_of_one_caller(void **state) {
  struct fake *fake = *state;
  struct handshake_options options = usual;
  handshake_free(fake->handshake);
  options.requests_per_second = 4;
  options.request_burst = 8;
  make(fake, &options);
  fake->ready = false;
  static struct told told[13];
  for (int i = 0; i < 13; i++) {
    struct handshake_request request = {.device_id = "dev",
                                        .name = "echo",
                                        .connect_timeout_s = 30,
                                        .response_timeout_s = 30,
                                        .caller = i < 10 ? "a@1" : "b@1"};
    struct handshake_pending *pending = NULL;
    handshake_start(fake->handshake, &request, on_done, &told[i], &pending);
    bool taken = i < 6 || i == 10 || i == 11;
    assert_int_equal(told[i].count, taken ? 0 : 1);
    if (!taken)
      assert_int_equal(told[i].error, HUB_ERROR_THROTTLED);
  }
}

static struct gateway_report report_of(const struct fake *fake,
                                       const struct dstream_end *cause) {
  return (struct gateway_report){.stream_id = fake->expected[0],
                                 .device_id = "dev",
                                 .stream_name = "echo",
                                 .who = "device",
                                 .cause = cause};
}

/* The gateway gave up, or the device went, before the device had answered. */
static void test_gateway_ends_early(void **state) {
  struct fake *fake = *state;
  struct told told;
  struct dstream_end cause = {.status = DSTREAM_ECLOSED, .text = "gone"};
  start(fake, &told, 0, 30, NULL);
  struct gateway_report report = report_of(fake, &cause);
  handshake_on_end(fake->handshake, &report);
  assert_int_equal(told.error, HUB_ERROR_NO_ANSWER);
  assert_int_equal(fake->forgotten, 0);
  assert_int_equal(handshake_count(fake->handshake), 0);
}

static void test_nobody_dials(void **state) {
  struct fake *fake = *state;
  struct told told;
  struct dstream_end cause = {.status = DSTREAM_ETIMEDOUT, .text = "too late"};
  start(fake, &told, 0, 30, NULL);
  answer(fake, 0, 200, "");
  pass(fake, 60000);
  struct gateway_report report = report_of(fake, &cause);
  handshake_on_end(fake->handshake, &report);
  assert_int_equal(handshake_count(fake->handshake), 0);
  assert_int_equal(told.count, 1);
  expect_log(fake, "before both sides were there: too late");
}

static void test_end_is_logged(void **state) {
  struct fake *fake = *state;
  struct told told;
  struct dstream_end cause = {.status = DSTREAM_OK, .ws_code = 1000};
  start(fake, &told, 0, 30, NULL);
  answer(fake, 0, 200, "");
  finish_stream(fake);
  struct gateway_report report = report_of(fake, &cause);
  report.paired = true;
  report.who = "service";
  report.duration_ms = 1234;
  report.bytes_to_device = 1048576;
  report.bytes_to_service = 7;
  handshake_on_end(fake->handshake, &report);
  expect_log(fake, "ended by service after 1.234 s, 1048576 bytes to device, 7 "
                   "bytes to service, close 1000");
  assert_int_equal(fake->told[ACTIVITY_REQUEST], 1);
  assert_int_equal(fake->told[ACTIVITY_ACCEPTED], 1);
  assert_int_equal(fake->told[ACTIVITY_START], 1);
  assert_int_equal(fake->told[ACTIVITY_END], 1);
  assert_int_equal(fake->last_told.event, ACTIVITY_END);
  assert_int_equal(fake->last_told.duration_ms, 1234);
  assert_int_equal(fake->last_told.bytes_to_device, 1048576);
  assert_int_equal(fake->last_told.bytes_to_service, 7);
  assert_int_equal(fake->last_told.close_code, 1000);
  assert_false(fake->last_told.failed);
}

static void test_stop(void **state) {
  struct fake *fake = *state;
  struct told told[4];
  start(fake, &told[0], 0, 30, NULL);
  start(fake, &told[1], 0, 30, NULL);
  answer(fake, 0, 200, "");
  fake->ready = false;
  start(fake, &told[2], 9, 30, NULL);
  handshake_stop(fake->handshake);
  assert_true(told[0].accepted);
  assert_int_equal(told[1].error, HUB_ERROR_UNAVAILABLE);
  assert_int_equal(told[2].error, HUB_ERROR_UNAVAILABLE);
  start(fake, &told[3], 9, 30, NULL);
  assert_int_equal(told[3].error, HUB_ERROR_UNAVAILABLE);
  assert_int_equal(told[0].count + told[1].count + told[2].count, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_accepted),
      TEST(test_device_connects_first),
      TEST(test_rejected),
      TEST(test_odd_answers),
      TEST(test_no_answer),
      TEST(test_handshake_bound),
      TEST(test_offline),
      TEST(test_comes_in_time),
      TEST(test_asked_again),
      TEST(test_capabilities),
      TEST(test_canceled),
      TEST(test_bad_requests),
      TEST(test_devices),
      TEST(test_module),
      TEST(test_failures),
      TEST(test_limits),
      TEST(test_rate),
      TEST(test_rate_of_one_caller),
      TEST(test_gateway_ends_early),
      TEST(test_nobody_dials),
      TEST(test_end_is_logged),
      TEST(test_stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
