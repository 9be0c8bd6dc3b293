/* MQTT over WebSocket on the HTTPS port: the library's own device, and a client
 * that has every frame in its hands, as the official C client sends them and as
 * nobody ever should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <dstream/dstream.h>

#include "core/conn_string.h"
#include "core/sas.h"
#include "core/stream_topic.h"
#include "integration/support_echo.h"
#include "integration/support_hub.h"
#include "integration/support_raw.h"
#include "integration/support_streams.h"

#define PATH     "/$iothub/websocket"
#define ECHO_ID  "echo"
#define RAW_ID   "raw"
#define BINARY   0x82 /* FIN and opcode, RFC 6455 5.2 */
#define CLOSE    0x88
#define PING     0x89
#define PONG     0x8a
#define WIRE_MAX 32768

static struct hub_fixture hub;
static char echo_string[CONN_STRING_MAX];
static char raw_string[CONN_STRING_MAX];
static struct echo_device device;

static int group_setup(void **state) {
  (void)state;
  unsetenv("https_proxy");
  if (hub_fixture_start(&hub, NULL) != 0 ||
      hub_fixture_add_device(&hub, ECHO_ID, echo_string) != 0 ||
      hub_fixture_add_device(&hub, RAW_ID, raw_string) != 0)
    return -1;
  test_loop_start();
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  test_loop_end();
  return hub_fixture_stop(&hub);
}

static int teardown(void **state) {
  (void)state;
  echo_device_stop(&device);
  return 0;
}

static struct dstream_service_options service_options(void) {
  return (struct dstream_service_options){
      .size = sizeof(struct dstream_service_options),
      .connection_string = hub.service_string,
      .tls = {sizeof(struct dstream_tls_options), hub.ca_file}};
}

/* ---- MQTT packets ---- */

static size_t put_text(uint8_t *out, const char *text) {
  size_t len = strlen(text);
  out[0] = (uint8_t)(len >> 8);
  out[1] = (uint8_t)len;
  memcpy(out + 2, text, len);
  return len + 2;
}

/* Puts the fixed header before a body of at most 16383 bytes. */
static size_t put_packet(uint8_t *out, uint8_t first, const uint8_t *body,
                         size_t len) {
  size_t n = 0;
  out[n++] = first;
  out[n++] = (uint8_t)(len % 128 | (len >= 128 ? 128 : 0));
  if (len >= 128)
    out[n++] = (uint8_t)(len / 128);
  memcpy(out + n, body, len);
  return n + len;
}

/* As the official C client does: clean session 0, keepalive 240, sr raw. */
static size_t put_connect(uint8_t *out, bool right_key) {
  struct conn_string cs;
  char resource[512];
  char user[512];
  char password[SAS_MAX];
  uint8_t body[SAS_MAX + 1024];
  if (conn_string_parse(&cs, raw_string, CONN_STRING_DEVICE, NULL) != 0)
    return 0;
  if (!right_key)
    cs.key[0] ^= 1;
  snprintf(resource, sizeof resource, "%s/devices/%s", cs.host, cs.device_id);
  snprintf(user, sizeof user,
           "%s/%s/?api-version=2020-09-30&DeviceClientType="
           "iothubclient%%2f1.3.9%%20(native%%3b%%20Linux)",
           cs.host, cs.device_id);
  sas_make(password, sizeof password, resource, cs.key, cs.key_len,
           (uint64_t)time(NULL) + 3600, NULL, SAS_RAW_RESOURCE);
  conn_string_clear(&cs);
  size_t n = put_text(body, "MQTT");
  body[n++] = 4;
  body[n++] = 0xc0;
  body[n++] = 0;
  body[n++] = 240;
  n += put_text(body + n, RAW_ID);
  n += put_text(body + n, user);
  n += put_text(body + n, password);
  return put_packet(out, 0x10, body, n);
}

static size_t put_subscribe(uint8_t *out) {
  uint8_t body[256] = {0, 7};
  size_t n = 2;
  n += put_text(body + n, STREAM_TOPIC_POST_FILTER);
  body[n++] = 0;
  n += put_text(body + n, STREAM_TOPIC_RES_FILTER);
  body[n++] = 0;
  return put_packet(out, 0x82, body, n);
}

static size_t put_publish(uint8_t *out, const char *topic) {
  uint8_t body[512];
  size_t n = put_text(body, topic);
  return put_packet(out, 0x30, body, n);
}

/* ---- the client: on its script's thread ---- */

struct wire {
  uint8_t in[WIRE_MAX]; /* MQTT bytes that came */
  size_t len;
  uint8_t pong[128]; /* the last one's payload */
  size_t pong_len;
  bool closed; /* a Close came */
  struct raw_frame frame;
  uint8_t out[WIRE_MAX]; /* packets to send */
  size_t out_len;
};

static struct wire wire;

static bool upgrade(struct raw *raw, const char *protocol) {
  char request[1024];
  memset(&wire, 0, sizeof wire);
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  snprintf(request, sizeof request,
           "GET " PATH " HTTP/1.1\r\nHost: localhost:%u\r\n"
           "Upgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           "Sec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Protocol: %s\r\n\r\n",
           (unsigned)hub.https_port, protocol);
  NEED(raw, raw_text(raw, request));
  NEED(raw, raw_answer(raw) == 101);
  NEED(raw, strstr(raw->head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") != NULL);
  return true;
}

/* The header is the client's own spelling. */
static bool agreed_on(struct raw *raw, const char *protocol) {
  char line[64];
  snprintf(line, sizeof line, "\r\nSec-WebSocket-Protocol: %s\r\n", protocol);
  NEED(raw, strstr(raw->head, line) != NULL);
  return true;
}

/* Takes one frame from the hub. */
static bool take_frame(struct raw *raw) {
  struct raw_frame *frame = &wire.frame;
  NEED(raw, raw_read_frame(raw, frame));
  NEED(raw, !frame->masked);
  switch (frame->first) {
  case BINARY:
    NEED(raw, wire.len + frame->len <= WIRE_MAX);
    memcpy(wire.in + wire.len, frame->payload, (size_t)frame->len);
    wire.len += (size_t)frame->len;
    return true;
  case PING:
    return raw_send_frame(raw, PONG, frame->payload, (size_t)frame->len);
  case PONG:
    wire.pong_len = (size_t)frame->len;
    memcpy(wire.pong, frame->payload, wire.pong_len);
    return true;
  case CLOSE:
    wire.closed = true;
    return true;
  default:
    NEED(raw, !"a frame of another kind");
    return false;
  }
}

/* Reads a whole packet, however it comes in frames, to body. */
static bool take_packet(struct raw *raw, uint8_t *first, uint8_t *body,
                        size_t *len) {
  for (;;) {
    size_t at = 1;
    size_t left = 0;
    bool more = true;
    for (int shift = 0; more && at < wire.len; shift += 7) {
      left |= (size_t)(wire.in[at] & 127) << shift;
      more = (wire.in[at++] & 128) != 0;
    }
    if (!more && wire.len >= at + left) {
      *first = wire.in[0];
      *len = left;
      memcpy(body, wire.in + at, left);
      wire.len -= at + left;
      memmove(wire.in, wire.in + at + left, wire.len);
      return true;
    }
    NEED(raw, take_frame(raw));
    NEED(raw, !wire.closed);
  }
}

static bool expect_packet(struct raw *raw, const void *bytes, size_t len) {
  const uint8_t *expected = bytes;
  uint8_t first;
  size_t n = 0;
  static uint8_t body[WIRE_MAX];
  NEED(raw, take_packet(raw, &first, body, &n));
  NEED(raw, first == expected[0] && n == expected[1] && n + 2 == len);
  NEED(raw, memcmp(body, expected + 2, n) == 0);
  return true;
}

static const uint8_t connack[] = {0x20, 2, 0, 0};
static const uint8_t connack_present[] = {0x20, 2, 1, 0};
static const uint8_t connack_refused[] = {0x20, 2, 0, 5};
static const uint8_t suback[] = {0x90, 4, 0, 7, 0, 0};
static const uint8_t pingreq[] = {0xc0, 0};
static const uint8_t pingresp[] = {0xd0, 0};

/* The first connection of all begins a session, the others find it. */
static bool sessions_begun;

static bool expect_connack(struct raw *raw) {
  const uint8_t *expected = sessions_begun ? connack_present : connack;
  sessions_begun = true;
  return expect_packet(raw, expected, sizeof connack);
}

/* Connects and subscribes in the plainest way. */
static bool sign_in(struct raw *raw, const char *protocol) {
  NEED(raw, upgrade(raw, protocol));
  wire.out_len = put_connect(wire.out, true);
  NEED(raw, raw_send_frame(raw, BINARY, wire.out, wire.out_len));
  NEED(raw, expect_connack(raw));
  wire.out_len = put_subscribe(wire.out);
  NEED(raw, raw_send_frame(raw, BINARY, wire.out, wire.out_len));
  NEED(raw, expect_packet(raw, suback, sizeof suback));
  return true;
}

/* The connection ends in the orderly way: Close for Close. */
static bool sign_out(struct raw *raw) {
  static const uint8_t normal[] = {0x03, 0xe8};
  NEED(raw, raw_send_frame(raw, CLOSE, normal, sizeof normal));
  while (!wire.closed)
    NEED(raw, take_frame(raw));
  NEED(raw, raw_wait_end(raw));
  NEED(raw, !raw->reset);
  return true;
}

/* ---- our device ---- */

static void test_device(void **state) {
  const struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = echo_string,
      .tls = {sizeof options.tls, hub.ca_file},
      .mqtt_over_websocket = true};
  struct dstream_service_options service = service_options();
  (void)state;
  echo_device_connect(&device, &options);
  echo_call_ok(&service, ECHO_ID, 1);
  echo_call_ok(&service, ECHO_ID, 1 << 20);
  assert_int_equal(device.failures, 0);
  assert_int_equal(device.readies, 1);
}

/* The token is renewed while a stream runs: it is not touched. */
static void test_device_renews(void **state) {
  const struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = echo_string,
      .tls = {sizeof options.tls, hub.ca_file},
      .mqtt_over_websocket = true,
      .sas_lifetime_s = 10};
  struct dstream_service_options service = service_options();
  dstream_service *caller = NULL;
  struct peer peer;
  (void)state;
  service.loop = test_loop;
  echo_device_connect(&device, &options);
  assert_int_equal(dstream_service_new(&caller, &service, NULL), 0);
  memset(&peer, 0, sizeof peer);
  peer_init(&peer, PEER_SENDER, 1000, 1000);
  assert_int_equal(dstream_service_open_stream(caller, ECHO_ID, "echo", NULL,
                                               &peer_callbacks, &peer,
                                               &peer.stream),
                   0);
  WAIT(peer_done(&peer));
  WAIT(device.readies == 2);
  assert_int_equal(device.renewals, 1);
  assert_int_equal(device.failures, 0);
  peer.to_receive += 1000;
  peer_send_more(&peer, 1000);
  WAIT(peer_done(&peer));
  dstream_stream_close(peer.stream);
  WAIT(peer.closes > 0);
  assert_peer_ended(&peer, true, DSTREAM_OK, NULL);
  assert_same_bytes(&peer, &peer);
  peer_clear(&peer);
  dstream_service_free(caller);
}

/* ---- the raw client ---- */

static bool upper_case(struct raw *raw, void *arg) {
  (void)arg;
  NEED(raw, sign_in(raw, "MQTT"));
  NEED(raw, agreed_on(raw, "MQTT"));
  NEED(raw, sign_out(raw));
  return true;
}

static void test_upper_case(void **state) {
  (void)state;
  run_script(upper_case, NULL);
}

static bool other_spellings(struct raw *raw, void *arg) {
  (void)arg;
  NEED(raw, sign_in(raw, "mqtt"));
  NEED(raw, agreed_on(raw, "mqtt"));
  NEED(raw, sign_out(raw));
  NEED(raw, sign_in(raw, "mqttv3.1, mqtt"));
  NEED(raw, agreed_on(raw, "mqtt"));
  NEED(raw, sign_out(raw));
  return true;
}

static void test_other_spellings(void **state) {
  (void)state;
  run_script(other_spellings, NULL);
}

/* One byte a frame; then several packets in one; then a packet as a fragmented
 * message with a ping in its middle; then frames that join packets' ends. */
static bool split_and_merged(struct raw *raw, void *arg) {
  (void)arg;
  NEED(raw, upgrade(raw, "MQTT"));
  size_t len = put_connect(wire.out, true);
  for (size_t i = 0; i < len; i++)
    NEED(raw, raw_send_frame(raw, BINARY, wire.out + i, 1));
  NEED(raw, expect_connack(raw));

  len = put_subscribe(wire.out);
  memcpy(wire.out + len, pingreq, 2);
  memcpy(wire.out + len + 2, pingreq, 2);
  NEED(raw, raw_send_frame(raw, BINARY, wire.out, len + 4));
  NEED(raw, expect_packet(raw, suback, sizeof suback));
  NEED(raw, expect_packet(raw, pingresp, sizeof pingresp));
  NEED(raw, expect_packet(raw, pingresp, sizeof pingresp));

  NEED(raw, raw_send_frame(raw, 0x02, wire.out, 10));
  NEED(raw, raw_send_frame(raw, PING, "between", 7));
  NEED(raw, raw_send_frame(raw, 0x00, wire.out + 10, 0));
  NEED(raw, raw_send_frame(raw, 0x80, wire.out + 10, len - 10));
  NEED(raw, expect_packet(raw, suback, sizeof suback));
  NEED(raw, wire.pong_len == 7 && memcmp(wire.pong, "between", 7) == 0);

  memmove(wire.out + 1, wire.out, len);
  wire.out[0] = pingreq[1];
  NEED(raw, raw_send_frame(raw, BINARY, pingreq, 1));
  NEED(raw, raw_send_frame(raw, BINARY, wire.out, 5));
  NEED(raw, raw_send_frame(raw, BINARY, "", 0));
  NEED(raw, raw_send_frame(raw, BINARY, wire.out + 5, len - 4));
  NEED(raw, expect_packet(raw, pingresp, sizeof pingresp));
  NEED(raw, expect_packet(raw, suback, sizeof suback));
  NEED(raw, sign_out(raw));
  return true;
}

static void test_split_and_merged(void **state) {
  (void)state;
  run_script(split_and_merged, NULL);
}

static bool pings(struct raw *raw, void *arg) {
  char payload[125];
  (void)arg;
  memset(payload, 'p', sizeof payload);
  NEED(raw, sign_in(raw, "MQTT"));
  for (size_t len = 0; len <= sizeof payload; len += 25) {
    NEED(raw, raw_send_frame(raw, PING, payload, len));
    NEED(raw, take_frame(raw));
    NEED(raw, wire.frame.first == PONG && wire.pong_len == len);
    NEED(raw, memcmp(wire.pong, payload, len) == 0);
  }
  /* A pong that nobody asked for means nothing (RFC 6455 5.5.3). */
  NEED(raw, raw_send_frame(raw, PONG, payload, 1));
  NEED(raw, raw_send_frame(raw, BINARY, pingreq, sizeof pingreq));
  NEED(raw, expect_packet(raw, pingresp, sizeof pingresp));
  NEED(raw, sign_out(raw));
  return true;
}

static void test_pings(void **state) {
  (void)state;
  run_script(pings, NULL);
}

/* A request comes through the WebSocket, the answer goes back in pieces. */
static bool answers(struct raw *raw, void *arg) {
  static uint8_t body[WIRE_MAX];
  static struct stream_request request;
  uint8_t first;
  size_t len = 0;
  char topic[256];
  atomic_int *ready = arg;
  NEED(raw, sign_in(raw, "MQTT"));
  atomic_store(ready, 1);
  NEED(raw, take_packet(raw, &first, body, &len));
  NEED(raw, first == 0x30 && len > 2);
  size_t topic_len = (size_t)body[0] << 8 | body[1];
  NEED(raw, topic_len + 2 == len); /* no payload */
  NEED(raw, stream_topic_parse(&request, (const char *)body + 2, topic_len,
                               NULL) == 0);
  NEED(raw, strcmp(request.name, "echo") == 0);
  int n = stream_topic_format_response(topic, sizeof topic, STREAM_TOPIC_REJECT,
                                       request.rid, NULL, NULL);
  NEED(raw, n > 0);
  len = put_publish(wire.out, topic);
  NEED(raw, raw_send_frame(raw, 0x02, wire.out, 3));
  NEED(raw, raw_send_frame(raw, 0x80, wire.out + 3, len - 3));
  NEED(raw, script_await(ready, 2));
  NEED(raw, sign_out(raw));
  return true;
}

static void test_request(void **state) {
  struct dstream_service_options service = service_options();
  struct dstream_end end;
  atomic_int ready = 0;
  (void)state;
  struct script *script = script_start(answers, &ready);
  WAIT(atomic_load(&ready) == 1 || atomic_load(&script->over));
  echo_call(&service, RAW_ID, 1, &end);
  atomic_store(&ready, 2);
  script_end(script);
  assert_int_equal(end.status, DSTREAM_EREJECTED);
}

/* ---- ends ---- */

static void assert_offline(void) {
  struct dstream_service_options service = service_options();
  struct dstream_end end;
  echo_call(&service, RAW_ID, 1, &end);
  assert_int_equal(end.status, DSTREAM_EOFFLINE);
  assert_int_equal(end.hub_code, 404103);
}

static void wait_disconnected(void) {
  assert_int_equal(
      hub_fixture_wait_log(&hub, "device " RAW_ID " disconnected", 10000), 0);
}

static bool closes(struct raw *raw, void *arg) {
  static const uint8_t away[] = {0x03, 0xe9, 'b', 'y', 'e'};
  (void)arg;
  NEED(raw, sign_in(raw, "MQTT"));
  NEED(raw, raw_send_frame(raw, CLOSE, away, sizeof away));
  NEED(raw, raw_expect_close(raw, 1001, ""));
  NEED(raw, raw_wait_end(raw));
  NEED(raw, !raw->reset);
  return true;
}

static void test_close(void **state) {
  (void)state;
  hub_fixture_mark_log(&hub);
  run_script(closes, NULL);
  wait_disconnected();
  assert_offline();
}

/* Neither Close nor close_notify, as a program that just ends. */
static bool vanishes(struct raw *raw, void *arg) {
  NEED(raw, sign_in(raw, "MQTT"));
  if (*(bool *)arg)
    raw_reset(raw);
  else
    raw_fin(raw);
  return true;
}

static void test_vanishes(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    bool reset = i == 1;
    hub_fixture_mark_log(&hub);
    run_script(vanishes, &reset);
    wait_disconnected();
    assert_offline();
  }
}

/* The broker ends the connection: the client is told by a Close. */
static bool disconnects(struct raw *raw, void *arg) {
  static const uint8_t disconnect[] = {0xe0, 0};
  (void)arg;
  NEED(raw, sign_in(raw, "MQTT"));
  NEED(raw, raw_send_frame(raw, BINARY, disconnect, sizeof disconnect));
  NEED(raw, raw_expect_close(raw, 1000, ""));
  NEED(raw, raw_send_frame(raw, CLOSE, "", 0));
  NEED(raw, raw_wait_end(raw));
  return true;
}

static void test_disconnect(void **state) {
  (void)state;
  hub_fixture_mark_log(&hub);
  run_script(disconnects, NULL);
  wait_disconnected();
}

static bool wrong_key(struct raw *raw, void *arg) {
  (void)arg;
  NEED(raw, upgrade(raw, "MQTT"));
  size_t len = put_connect(wire.out, false);
  NEED(raw, raw_send_frame(raw, BINARY, wire.out, len));
  NEED(raw, expect_packet(raw, connack_refused, sizeof connack_refused));
  NEED(raw, raw_expect_close(raw, 1000, ""));
  return true;
}

static void test_wrong_key(void **state) {
  (void)state;
  run_script(wrong_key, NULL);
}

/* ---- malformed ---- */

static bool unmasked(struct raw *raw, void *arg) {
  static const uint8_t frame[] = {BINARY, 2, 0xc0, 0};
  (void)arg;
  NEED(raw, sign_in(raw, "MQTT"));
  NEED(raw, raw_send(raw, frame, sizeof frame));
  NEED(raw, raw_expect_close(raw, 1002, ""));
  NEED(raw, raw_send_frame(raw, CLOSE, "", 0));
  NEED(raw, raw_wait_end(raw));
  return true;
}

static void test_unmasked(void **state) {
  (void)state;
  run_script(unmasked, NULL);
}

static bool not_mqtt(struct raw *raw, void *arg) {
  (void)arg;
  NEED(raw, upgrade(raw, "MQTT"));
  NEED(raw, raw_send_frame(raw, BINARY, "GET / HTTP/1.0\r\n\r\n", 18));
  while (!wire.closed)
    NEED(raw, take_frame(raw));
  NEED(raw, wire.len == 0);
  return true;
}

static void test_not_mqtt(void **state) {
  (void)state;
  run_script(not_mqtt, NULL);
}

static bool no_upgrade(struct raw *raw, void *arg) {
  (void)arg;
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_text(raw, "GET " PATH " HTTP/1.1\r\nHost: localhost\r\n"
                          "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                          "Sec-WebSocket-Version: 8\r\n\r\n"));
  NEED(raw, raw_answer(raw) == 426);
  NEED(raw, strstr(raw->head, "Sec-WebSocket-Version: 13\r\n") != NULL);
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_text(raw, "GET " PATH " HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  int status = raw_answer(raw);
  NEED(raw, status >= 400 && status < 500);
  return true;
}

static void test_no_upgrade(void **state) {
  (void)state;
  run_script(no_upgrade, NULL);
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_device),           TEST(test_device_renews),
      TEST(test_upper_case),       TEST(test_other_spellings),
      TEST(test_split_and_merged), TEST(test_pings),
      TEST(test_request),          TEST(test_close),
      TEST(test_vanishes),         TEST(test_disconnect),
      TEST(test_wrong_key),        TEST(test_unmasked),
      TEST(test_not_mqtt),         TEST(test_no_upgrade),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
