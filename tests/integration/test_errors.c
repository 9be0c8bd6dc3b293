/* What goes wrong between device, service and hub, told to those it concerns,
 * with nothing else disturbed: a stream runs beside every test here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_raw.h"
#include "integration/support_world.h"

#define LIMITS                                                                 \
  "{\"limits\":{\"handshake_seconds\":2,\"head_seconds\":3,"                   \
  "\"max_streams_per_device\":4}}"

static struct hub_fixture hub;
static struct beside beside; /* its device is "steady" */
static dstream_service *service;
static char mallory[CONN_STRING_MAX]; /* a device that is played by hand */

/* ---- playing a device by hand ---- */

/* "localhost/ID/?...": what the official clients send. */
static bool mqtt_log_in(struct raw *raw, const char *id,
                        const char *connection_string) {
  char resource[200];
  char user[200];
  char token[4096];
  snprintf(resource, sizeof resource, "localhost/devices/%s", id);
  snprintf(user, sizeof user, "localhost/%s/?api-version=2020-09-30", id);
  world_sas(token, sizeof token, connection_string, resource, 600, NULL);
  NEED(raw, raw_connect(raw, "localhost", hub.mqtt_port, hub.ca_file));
  NEED(raw, raw_mqtt_connect(raw, id, user, token) == 0);
  return true;
}

/* The request id in a topic, for the answer. */
static bool request_id(const char *topic, char *out, size_t size) {
  const char *id = strstr(topic, "$rid=");
  if (id == NULL)
    return false;
  snprintf(out, size, "%.*s", (int)strcspn(id + 5, "&"), id + 5);
  return true;
}

enum by_hand_answer { HAND_SILENT, HAND_ACCEPTS, HAND_WRONG_ID, HAND_NONSENSE };

struct by_hand {
  enum by_hand_answer answer;
  atomic_int ready;
  atomic_int asked;
  atomic_int over;
};

static bool by_hand_device(struct raw *raw, void *arg) {
  struct by_hand *hand = arg;
  char topic[4096];
  char id[64];
  char answer[200];
  if (!mqtt_log_in(raw, "mallory", mallory))
    return false;
  NEED(raw, raw_mqtt_subscribe(raw, "$iothub/streams/POST/#") == 0);
  atomic_store(&hand->ready, 1);
  NEED(raw, raw_mqtt_message(raw, topic, sizeof topic));
  NEED(raw, request_id(topic, id, sizeof id));
  switch (hand->answer) {
  case HAND_SILENT:
    break;
  case HAND_ACCEPTS:
    snprintf(answer, sizeof answer, "$iothub/streams/res/200/?$rid=%s", id);
    NEED(raw, raw_mqtt_publish(raw, answer));
    break;
  case HAND_WRONG_ID:
    snprintf(answer, sizeof answer, "$iothub/streams/res/200/?$rid=x%s", id);
    NEED(raw, raw_mqtt_publish(raw, answer));
    break;
  case HAND_NONSENSE:
    NEED(raw, raw_mqtt_publish(raw, "$iothub/streams/res/?$rid"));
    NEED(raw, raw_mqtt_publish(raw, "$iothub/streams/res/2x0/?$rid=1"));
    NEED(raw, raw_mqtt_publish(raw, "$iothub/streams/res/200"));
  }
  atomic_store(&hand->asked, 1);
  NEED(raw, script_await(&hand->over, 1));
  return true;
}

static void with_device_by_hand(enum by_hand_answer answer, bool opens,
                                int status, int hub_code, const char *text) {
  struct by_hand hand = {.answer = answer};
  struct call call = {.device = "mallory", .response_wait_s = 1};
  struct peer peer;
  struct script *script = script_start(by_hand_device, &hand);
  WAIT(atomic_load(&hand.ready) == 1);
  call.connect_wait_s = 5; /* the hub may learn of it a moment later */
  peer_init(&peer, PEER_SENDER, 1000, 0);
  uint64_t begin_ms = test_now_ms();
  world_open(service, &call, &peer);
  WAIT(peer.closes == 1);
  assert_in_range(test_now_ms() - begin_ms, 800, 4000);
  assert_peer_ended(&peer, opens, status, text);
  assert_int_equal(peer.end.hub_code, hub_code);
  if (opens)
    assert_int_equal(peer.end.ws_code, 1011);
  atomic_store(&hand.over, 1);
  script_end(script);
  peer_clear(&peer);
}

static void test_device_that_never_answers(void **state) {
  (void)state;
  with_device_by_hand(HAND_SILENT, false, DSTREAM_ENOANSWER, 504101,
                      "Timed out waiting for the response from device");
  with_device_by_hand(HAND_WRONG_ID, false, DSTREAM_ENOANSWER, 504101, NULL);
  with_device_by_hand(HAND_NONSENSE, false, DSTREAM_ENOANSWER, 504101, NULL);
}

static void test_device_that_never_dials(void **state) {
  (void)state;
  with_device_by_hand(HAND_ACCEPTS, true, DSTREAM_ECLOSED, 0,
                      "the device did not connect in time");
}

/* A device answers for another one. */
struct forger {
  const char *id;
  atomic_int go;
  atomic_int sent;
  atomic_int over;
};

static bool answer_for_another(struct raw *raw, void *arg) {
  struct forger *forger = arg;
  char topic[300];
  if (!mqtt_log_in(raw, "mallory", mallory))
    return false;
  NEED(raw, script_await(&forger->go, 1));
  snprintf(topic, sizeof topic, "$iothub/streams/res/200/?$rid=%s", forger->id);
  NEED(raw, raw_mqtt_publish(raw, topic));
  NEED(raw, raw_mqtt_subscribe(raw, "$iothub/streams/res/#") == 0);
  atomic_store(&forger->sent, 1);
  NEED(raw, script_await(&forger->over, 1));
  return true;
}

static void test_answer_for_another_device(void **state) {
  (void)state;
  struct forger forger = {0};
  struct peer peer;
  struct call call = {.device = "steady", .response_wait_s = 20};
  struct script *script = script_start(answer_for_another, &forger);
  beside.device.answer = ANSWER_DEFER;
  peer_init(&peer, PEER_SENDER, 10, 10);
  world_open(service, &call, &peer);
  WAIT(beside.device.deferred != NULL);
  forger.id = dstream_request_id(beside.device.deferred);
  atomic_store(&forger.go, 1);
  WAIT(atomic_load(&forger.sent) == 1);
  beside_check(&beside); /* as long as the forged answer could have taken */
  assert_int_equal(peer.opens + peer.closes, 0);
  dstream_request *request = beside.device.deferred;
  beside.device.deferred = NULL;
  assert_int_equal(dstream_request_reject(request, "the real answer"), 0);
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, false, DSTREAM_EREJECTED, "the real answer");
  beside.device.answer = ANSWER_ACCEPT;
  atomic_store(&forger.over, 1);
  script_end(script);
  peer_clear(&peer);
}

/* ---- a service that never dials ---- */

static bool rest(struct raw *raw, const char *method, const char *path,
                 const char *token, const char *more) {
  char request[8192];
  int n =
      snprintf(request, sizeof request,
               "%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\n%s"
               "\r\n",
               method, path, token, more);
  return n > 0 && (size_t)n < sizeof request && raw_text(raw, request);
}

static void service_token(char *out, size_t size) {
  world_sas(out, size, hub.service_string, "localhost", 600, "service");
}

static bool call_and_never_dial(struct raw *raw, void *arg) {
  char token[4096];
  (void)arg;
  service_token(token, sizeof token);
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw,
       rest(raw, "POST", "/twins/steady/streams/echo?api-version=2020-09-30",
            token, "Content-Length: 0\r\n"));
  NEED(raw, raw_answer(raw) == 200);
  NEED(raw, strstr(raw->head, "iothub-streaming-is-accepted: True") != NULL);
  return true;
}

static void test_service_that_never_dials(void **state) {
  (void)state;
  unsigned before = beside.device.peer_count;
  uint64_t begin_ms = test_now_ms();
  run_script(call_and_never_dial, NULL);
  WAIT(beside.device.peer_count == before + 1);
  const struct peer *peer = beside.device.peers[before];
  WAIT(peer->closes == 1);
  assert_in_range(test_now_ms() - begin_ms, 1000, 4000);
  assert_peer_ended(peer, true, DSTREAM_ECLOSED,
                    "the service did not connect in time");
  assert_int_equal(peer->end.ws_code, 1011);
}

/* ---- who may do what ---- */

static void replace(char *out, size_t size, const char *text, const char *key,
                    const char *value) {
  const char *at = strstr(text, key);
  assert_non_null(at);
  at += strlen(key);
  const char *end = at + strcspn(at, ";");
  assert_true(snprintf(out, size, "%.*s%s%s", (int)(at - text), text, value,
                       end) < (int)size);
}

static void value_of(char *out, size_t size, const char *text,
                     const char *key) {
  const char *at = strstr(text, key);
  assert_non_null(at);
  at += strlen(key);
  snprintf(out, size, "%.*s", (int)strcspn(at, ";"), at);
}

static void service_refused(const char *connection_string) {
  struct call call = {.device = "steady"};
  dstream_service *other = world_service(&hub, connection_string);
  world_open_fails(other, &call, DSTREAM_EUNAUTHORIZED, 401002,
                   "SharedAccessSignature is not valid here");
  dstream_service_free(other);
}

static void test_services_that_may_not(void **state) {
  (void)state;
  char policy[CONN_STRING_MAX];
  char text[CONN_STRING_MAX];
  char key[256];
  unsigned requests = beside.device.requests;
  /* the policy "device" may connect devices, and nothing else */
  assert_int_equal(hub_fixture_policy_string(&hub, "device", policy), 0);
  service_refused(policy);
  /* another policy's key, no such policy, a device's key */
  value_of(key, sizeof key, policy, "SharedAccessKey=");
  replace(text, sizeof text, hub.service_string, "SharedAccessKey=", key);
  service_refused(text);
  replace(text, sizeof text, hub.service_string,
          "SharedAccessKeyName=", "nobody");
  service_refused(text);
  value_of(key, sizeof key, mallory, "SharedAccessKey=");
  replace(text, sizeof text, hub.service_string, "SharedAccessKey=", key);
  service_refused(text);
  assert_int_equal(beside.device.requests, requests);
  /* the policy with all rights may */
  assert_int_equal(hub_fixture_policy_string(&hub, "iothubowner", policy), 0);
  dstream_service *owner = world_service(&hub, policy);
  world_echo(owner, "steady", 100);
  dstream_service_free(owner);
}

static bool expired_token(struct raw *raw, void *arg) {
  char token[4096];
  (void)arg;
  world_sas(token, sizeof token, hub.service_string, "localhost", -1,
            "service");
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, rest(raw, "POST", "/twins/steady/streams/echo", token,
                 "Content-Length: 0\r\n"));
  NEED(raw, raw_answer(raw) == 401);
  NEED(raw, strstr(raw->head, "401002") != NULL);
  NEED(raw, strstr(raw->head, "has expired") != NULL);
  return true;
}

static void test_expired_service_token(void **state) {
  (void)state;
  run_script(expired_token, NULL);
}

struct token_of {
  const char *connection_string;
  const char *resource; /* NULL: as asked for */
  int64_t lifetime_s;
  const char *policy;
};

static int make_token(void *user, const char *resource, uint64_t expiry,
                      char *out, size_t out_size) {
  const struct token_of *t = user;
  (void)expiry;
  world_sas(out, out_size, t->connection_string,
            t->resource != NULL ? t->resource : resource, t->lifetime_s,
            t->policy);
  return 0;
}

/* All of them try at the same time, and are told why not. */
static void all_refused(const struct dstream_device_options *options,
                        size_t count) {
  static struct world_device devices[8];
  assert_true(count <= 8);
  memset(devices, 0, sizeof devices);
  for (size_t i = 0; i < count; i++)
    world_device_start_with(&devices[i], &options[i]);
  for (size_t i = 0; i < count; i++) {
    struct world_device *device = &devices[i];
    WAIT(device->failures >= 1);
    assert_int_equal(device->readies, 0);
    assert_int_equal(device->state, DSTREAM_DEVICE_WAITING);
    if (device->cause.status != DSTREAM_EUNAUTHORIZED)
      fail_msg("%zu: %s: %s", i, dstream_status_name(device->cause.status),
               device->cause.text);
    assert_in_range(device->cause.mqtt_code, 4, 5);
  }
  for (size_t i = 0; i < count; i++)
    dstream_device_stop(devices[i].device);
  for (size_t i = 0; i < count; i++)
    world_device_end(&devices[i]);
}

static void test_devices_that_may_not(void **state) {
  (void)state;
  char id[CONN_STRING_MAX];
  char wrong_key[CONN_STRING_MAX];
  char unknown[CONN_STRING_MAX];
  char key[256];
  assert_int_equal(hub_fixture_add_device(&hub, "guarded", id), 0);
  value_of(key, sizeof key, mallory, "SharedAccessKey=");
  replace(wrong_key, sizeof wrong_key, id, "SharedAccessKey=", key);
  replace(unknown, sizeof unknown, id, "DeviceId=", "unknown");
  struct token_of expired = {id, NULL, -1, NULL};
  struct token_of foreign = {mallory, "localhost/devices/mallory", 60, NULL};
  struct token_of policy = {hub.service_string, "localhost", 60, "service"};
  struct dstream_device_options options[] = {
      {.connection_string = wrong_key},
      {.connection_string = unknown},
      {.connection_string = id, .sas = make_token, .sas_user = &expired},
      {.connection_string = id, .sas = make_token, .sas_user = &foreign},
      {.connection_string = id, .sas = make_token, .sas_user = &policy},
      {.connection_string = wrong_key, .mqtt_over_websocket = true},
  };
  size_t count = sizeof options / sizeof *options;
  for (size_t i = 0; i < count; i++)
    options[i].tls.ca_file = hub.ca_file;
  all_refused(options, count);
}

static void test_policy_that_may_connect_devices(void **state) {
  (void)state;
  char id[CONN_STRING_MAX];
  char policy[CONN_STRING_MAX];
  struct world_device device;
  memset(&device, 0, sizeof device);
  assert_int_equal(hub_fixture_add_device(&hub, "by-policy", id), 0);
  assert_int_equal(hub_fixture_policy_string(&hub, "device", policy), 0);
  struct token_of good = {policy, "localhost", 60, "device"};
  struct dstream_device_options options = {.connection_string = id,
                                           .tls.ca_file = hub.ca_file,
                                           .sas = make_token,
                                           .sas_user = &good};
  world_device_start_with(&device, &options);
  world_device_wait_ready(&device);
  world_device_end(&device);
}

static void test_unknown_device(void **state) {
  (void)state;
  struct call call = {.device = "nobody"};
  world_open_fails(service, &call, DSTREAM_ENOTFOUND, 404001,
                   "There is no such device");
  call.device = "steady/x";
  world_open_fails(service, &call, DSTREAM_EHUB, 400004, NULL);
}

static void test_too_many_streams(void **state) {
  (void)state;
  struct peer peers[3];
  struct call call = {.device = "steady"}; /* which has one already */
  for (int i = 0; i < 3; i++) {
    peer_init(&peers[i], PEER_SENDER, 100, 100);
    world_open(service, &call, &peers[i]);
    wait_done(&peers[i]);
  }
  world_open_fails(service, &call, DSTREAM_ETHROTTLED, 429001, NULL);
  for (int i = 0; i < 3; i++) {
    dstream_stream_close(peers[i].stream);
    WAIT(peers[i].closes == 1);
    peer_clear(&peers[i]);
  }
  world_echo(service, "steady", 100);
}

/* ---- malformed: REST ---- */

struct wrong_request {
  const char *text;
  int status; /* 0: whatever; it ends */
};

static const struct wrong_request wrong_requests[] = {
    {"BREW /twins/steady/streams/echo HTTP/1.1\r\nHost: a\r\n\r\n", 405},
    {"GET /twins/steady/streams/echo HTTP/1.1\r\nHost: a\r\n\r\n", 405},
    {"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 404},
    {"POST /twins/steady/streams HTTP/1.1\r\nHost: a\r\n\r\n", 404},
    {"POST /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404},
    {"POST /twins/%zz/streams/%00 HTTP/1.1\r\nHost: a\r\n\r\n", 0},
    {"POST /twins/steady/streams/echo HTTP/1.1\r\nHost: a\r\n\r\n", 401},
    {"POST /twins/steady/streams/echo HTTP/3.7\r\nHost: a\r\n\r\n", 400},
    {"nonsense\r\n\r\n", 400},
    {"\r\n\r\n\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nno colon here\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nName : value\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n folded: yes\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nA: b\x01\x02\r\n\r\n", 400},
    {"POST /twins/steady/streams/echo HTTP/1.1\r\nHost: a\r\n"
     "Content-Length: -1\r\n\r\n",
     400},
    {"POST /twins/steady/streams/echo HTTP/1.1\r\nHost: a\r\n"
     "Content-Length: 18446744073709551617\r\n\r\n",
     0},
    {"POST /twins/steady/streams/echo HTTP/1.1\r\nHost: a\r\n"
     "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
     400},
    {"POST /twins/steady/streams/echo HTTP/1.1\r\nHost: a\r\n"
     "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
     0},
    {"GET / HTTP/1.0\r\n\r\n", 0},
    {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 0},
};

static bool send_wrong_request(struct raw *raw, void *arg) {
  const struct wrong_request *wrong = arg;
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_text(raw, wrong->text));
  int status = raw_answer(raw);
  if (status != wrong->status && wrong->status != 0) {
    snprintf(raw->error, sizeof raw->error, "answered %d to %.100s", status,
             wrong->text);
    return false;
  }
  NEED(raw, status == 0 || status >= 400);
  NEED(raw, status != 0 || raw->ended); /* an answer or the end, no silence */
  return true;
}

static void test_wrong_requests(void **state) {
  (void)state;
  size_t count = sizeof wrong_requests / sizeof *wrong_requests;
  for (size_t i = 0; i < count; i++) {
    struct wrong_request wrong = wrong_requests[i];
    run_script(send_wrong_request, &wrong);
    beside_check(&beside);
  }
}

static bool large_and_slow(struct raw *raw, void *arg) {
  char token[4096];
  char request[8192];
  static char block[70000];
  (void)arg;
  memset(block, 'a', sizeof block - 1);
  /* a head that does not end */
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_text(raw, "POST / HTTP/1.1\r\nX: "));
  NEED(raw, raw_text(raw, block));
  NEED(raw, raw_answer(raw) == 431);
  /* a body that is too large, said before and not said */
  service_token(token, sizeof token);
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, rest(raw, "POST", "/twins/steady/streams/echo", token,
                 "Content-Length: 10000000\r\n"));
  NEED(raw, raw_answer(raw) == 413);
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, rest(raw, "POST", "/twins/steady/streams/echo", token,
                 "Transfer-Encoding: chunked\r\n"));
  NEED(raw, raw_text(raw, "11170\r\n"));
  raw_send(raw, block, 70000 - 1); /* it may be refused before the end */
  int status = raw_answer(raw);
  NEED(raw, status == 413 || (status == 0 && raw->ended));
  /* a head that comes too slowly; nothing at all; half a TLS handshake */
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_text(raw, "POST / HT"));
  NEED(raw, raw_answer(raw) == 408);
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_wait_end(raw));
  NEED(raw, raw_connect_plain(raw, "localhost", hub.https_port));
  NEED(raw, raw_send(raw, "\x16\x03\x01\x02\x00", 5));
  NEED(raw, raw_wait_end(raw));
  NEED(raw, raw_connect_plain(raw, "localhost", hub.https_port));
  NEED(raw, raw_text(raw, "GET / HTTP/1.1\r\n\r\n"));
  NEED(raw, raw_wait_end(raw));
  /* garbage behind a good request does not spoil its answer */
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  snprintf(request, sizeof request,
           "POST /twins/nobody/streams/echo HTTP/1.1\r\nHost: a\r\n"
           "Authorization: %s\r\nContent-Length: 0\r\n\r\n"
           "\x01\x02garbage\r\n\r\n",
           token);
  NEED(raw, raw_text(raw, request));
  NEED(raw, raw_answer(raw) == 404);
  status = raw_answer(raw);
  NEED(raw, status == 400 || (status == 0 && raw->ended));
  return true;
}

static void test_large_and_slow_requests(void **state) {
  (void)state;
  run_script(large_and_slow, NULL);
}

/* ---- malformed: WebSocket upgrades ---- */

#define UPGRADE  "Connection: Upgrade\r\nUpgrade: websocket\r\n"
#define GOOD_KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION  "Sec-WebSocket-Version: 13\r\n"
#define STREAM_PATH                                                            \
  "/bridges/ih/localhost/d/steady/sid/0123456789abcdef0123456789abcdef/"       \
  "r/service"
#define MQTT_PATH "/$iothub/websocket"

static const struct wrong_request wrong_upgrades[] = {
    {"GET " STREAM_PATH " HTTP/1.1\r\nHost: a\r\n" UPGRADE GOOD_KEY VERSION
     "\r\n",
     401},
    {"GET " STREAM_PATH
     " HTTP/1.1\r\nHost: a\r\nAuthorization: Basic eDp5\r\n" UPGRADE GOOD_KEY
         VERSION "\r\n",
     401},
    {"GET " STREAM_PATH " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a.b.c"
     "\r\n" UPGRADE GOOD_KEY VERSION "\r\n",
     401},
    {"GET /bridges/../x HTTP/1.1\r\nHost: a\r\n" UPGRADE GOOD_KEY VERSION
     "\r\n",
     404},
    {"GET /elsewhere HTTP/1.1\r\nHost: a\r\n" UPGRADE GOOD_KEY VERSION "\r\n",
     404},
    {"GET " MQTT_PATH " HTTP/1.1\r\nHost: a\r\n" UPGRADE VERSION "\r\n", 400},
    {"GET " MQTT_PATH " HTTP/1.1\r\nHost: a\r\n" UPGRADE GOOD_KEY "\r\n", 426},
    {"GET " MQTT_PATH " HTTP/1.1\r\nHost: a\r\n" UPGRADE GOOD_KEY
     "Sec-WebSocket-Version: 8\r\n\r\n",
     426},
    {"GET " MQTT_PATH " HTTP/1.1\r\nHost: a\r\n" UPGRADE VERSION
     "Sec-WebSocket-Key: short\r\n\r\n",
     400},
    {"POST " MQTT_PATH " HTTP/1.1\r\nHost: a\r\n" UPGRADE GOOD_KEY VERSION
     "Content-Length: 0\r\n\r\n",
     405},
};

static void test_wrong_upgrades(void **state) {
  (void)state;
  size_t count = sizeof wrong_upgrades / sizeof *wrong_upgrades;
  for (size_t i = 0; i < count; i++) {
    struct wrong_request wrong = wrong_upgrades[i];
    run_script(send_wrong_request, &wrong);
    beside_check(&beside);
  }
}

/* ---- malformed: MQTT ---- */

static const char *const wrong_topics[] = {
    "$iothub/streams/POST/echo/?$rid=1&$url=wss%3A%2F%2Fx&$auth=y",
    "$iothub/streams/res/200/?$rid=",
    "$iothub/streams/res/200/?$rid=1",
    "$iothub/streams/res/99999999999999999999/?$rid=1",
    "$iothub/streams/res/200/?$rid=1&$rid=2&&&=&$caps=%00%ff",
    "$iothub/streams/res/200/?$rid=\x01\x02\x1b[31m",
    "$iothub/streams/res/200/?$rid=a\nb",
    "$iothub/streams/res",
    "$iothub/streams/res//",
    "devices/steady/messages/events/",
    "steady/$iothub/streams/POST/echo/",
    "$dstream/presence/steady",
    "$SYS/broker/version",
    "$CONTROL/dynamic-security/v1",
    "/",
    "not\x7fprintable\x80\xff",
};

/* Each on a connection of its own: the hub may end it or ignore the message,
 * but the device can come back and is heard. */
static bool send_wrong_topics(struct raw *raw, void *arg) {
  static char longest[10000];
  char topic[4096];
  (void)arg;
  memset(longest, 't', sizeof longest - 1);
  size_t count = sizeof wrong_topics / sizeof *wrong_topics;
  for (size_t i = 0; i <= count; i++) {
    if (!mqtt_log_in(raw, "mallory", mallory))
      return false;
    NEED(raw, raw_mqtt_publish(raw, i < count ? wrong_topics[i] : longest));
    raw_mqtt_subscribe(raw, "$iothub/streams/POST/#");
  }
  static const char *const filters[] = {"#",
                                        "+/+/+/#",
                                        "$iothub/#",
                                        "$iothub/streams/POST/+/steady",
                                        "$SYS/#",
                                        "$dstream/#",
                                        "devices/steady/#"};
  for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
    if (!mqtt_log_in(raw, "mallory", mallory))
      return false;
    raw_mqtt_subscribe(raw, filters[i]);
  }
  /* none of these brought it another device's request */
  (void)topic;
  return true;
}

static void test_wrong_topics(void **state) {
  (void)state;
  unsigned requests = beside.device.requests;
  run_script(send_wrong_topics, NULL);
  beside_check(&beside);
  assert_int_equal(beside.device.requests, requests);
  assert_int_equal(beside.device.state, DSTREAM_DEVICE_READY);
  world_echo(service, "steady", 1000);
}

/* A device subscribed to everything it can think of sees its own requests
 * only. */
static bool eavesdrop(struct raw *raw, void *arg) {
  struct by_hand *hand = arg;
  char topic[4096];
  if (!mqtt_log_in(raw, "mallory", mallory))
    return false;
  raw_mqtt_subscribe(raw, "$iothub/streams/POST/#");
  atomic_store(&hand->ready, 1);
  NEED(raw, raw_mqtt_message(raw, topic, sizeof topic));
  NEED(raw, strstr(topic, "POST/for-mallory/") != NULL);
  return true;
}

static void test_eavesdropper(void **state) {
  (void)state;
  struct by_hand hand = {0};
  struct call call = {
      .device = "mallory", .name = "for-mallory", .response_wait_s = 1};
  struct script *script = script_start(eavesdrop, &hand);
  WAIT(atomic_load(&hand.ready) == 1);
  for (int i = 0; i < 5; i++)
    world_echo(service, "steady", 100);
  call.connect_wait_s = 5;
  world_open_fails(service, &call, DSTREAM_ENOANSWER, 504101, NULL);
  script_end(script);
}

static bool not_mqtt(struct raw *raw, void *arg) {
  static const char *const texts[] = {
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
      "\x10\xff\xff\xff\x7f",         /* CONNECT of 256 MB */
      "\x10\xff\xff\xff\xff\xff\xff", /* no length at all */
      "\x30\x05hello",                /* PUBLISH first */
      "\xf0\x01",                     /* no such packet */
  };
  (void)arg;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    NEED(raw, raw_connect(raw, "localhost", hub.mqtt_port, hub.ca_file));
    NEED(raw, raw_text(raw, texts[i]));
    NEED(raw, i == 1 || raw_wait_end(raw));
  }
  NEED(raw, raw_connect_plain(raw, "localhost", hub.mqtt_port));
  NEED(raw, raw_text(raw, "\x10\x0c not TLS at all"));
  NEED(raw, raw_wait_end(raw));
  return true;
}

static void test_not_mqtt(void **state) {
  (void)state;
  run_script(not_mqtt, NULL);
  assert_int_equal(beside.device.state, DSTREAM_DEVICE_READY);
  world_echo(service, "steady", 1000);
}

/* ---- group ---- */

/* Whatever the test did: the stream beside it goes on, and so does the control
 * connection. */
static int teardown(void **state) {
  (void)state;
  beside_check(&beside);
  assert_int_equal(beside.device.readies, 1);
  return 0;
}

static int group_setup(void **state) {
  (void)state;
  static const struct hub_fixture_options options = {.overrides = LIMITS};
  test_loop_start();
  if (hub_fixture_start(&hub, &options) != 0 ||
      hub_fixture_add_device(&hub, "mallory", mallory) != 0)
    return -1;
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

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_device_that_never_answers),
      TEST(test_device_that_never_dials),
      TEST(test_answer_for_another_device),
      TEST(test_service_that_never_dials),
      TEST(test_services_that_may_not),
      TEST(test_expired_service_token),
      TEST(test_devices_that_may_not),
      TEST(test_policy_that_may_connect_devices),
      TEST(test_unknown_device),
      TEST(test_too_many_streams),
      TEST(test_wrong_requests),
      TEST(test_large_and_slow_requests),
      TEST(test_wrong_upgrades),
      TEST(test_wrong_topics),
      TEST(test_eavesdropper),
      TEST(test_not_mqtt),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
