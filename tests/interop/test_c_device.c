/* The official C client's device as its samples behave on the wire, played by
 * clients of mosquitto and a WebSocket of 64-byte frames, against the hub and
 * the library's service:
 *
 *   clean session 0, sr not encoded, both filters in one SUBSCRIBE with QoS 0
 *   answers 200 before it dials, and drops the URL's query
 *   offers the subprotocol MQTT, and looks at nothing of the 101 but its status
 *   sends what its 64-byte buffer reads, each time one frame and TLS record
 *   ends with a FIN, without a Close; answers a Close with an empty one
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/conn_string.h"
#include "core/percent.h"
#include "core/sas.h"
#include "integration/support_hub.h"
#include "integration/support_raw.h"
#include "integration/support_streams.h"

#define DEVICE        "c-device"
#define PIECE         64
#define ECHO_BYTES    (1 << 20)
#define EXIT_SKIPPED  77
#define BINARY        0x82
#define CLOSE         0x88
#define PING          0x89
#define PONG          0x8a
#define REQUEST_START "$iothub/streams/POST/TestStream/?"

static struct hub_fixture hub;
static char device_string[CONN_STRING_MAX];
static dstream_service *service;
static struct peer peer; /* the service's end; outlives a test that fails */

/* What the device does with a request. */
enum deed {
  DEED_ECHO,   /* echoes `bytes`, then ends by a FIN */
  DEED_ANSWER, /* echoes until the service's Close, answers it */
  DEED_REJECT
};

struct plan {
  enum deed deed;
  uint64_t bytes;
};

static int group_setup(void **state) {
  (void)state;
  if (hub_fixture_start(&hub, NULL) != 0 ||
      hub_fixture_add_device(&hub, DEVICE, device_string) != 0)
    return -1;
  test_loop_start();
  const struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = hub.service_string,
      .loop = test_loop,
      .tls = {sizeof options.tls, hub.ca_file}};
  return dstream_service_new(&service, &options, NULL);
}

static int group_teardown(void **state) {
  (void)state;
  dstream_service_free(service);
  test_loop_end();
  return hub_fixture_stop(&hub);
}

/* ---- MQTT: mosquitto_sub and mosquitto_pub ---- */

struct login {
  char port[8];
  char user[512];
  char password[SAS_MAX];
};

static bool make_login(struct raw *raw, struct login *login) {
  struct conn_string cs;
  char resource[512];
  NEED(raw,
       conn_string_parse(&cs, device_string, CONN_STRING_DEVICE, NULL) == 0);
  snprintf(resource, sizeof resource, "%s/devices/" DEVICE, cs.host);
  snprintf(login->user, sizeof login->user,
           "%s/" DEVICE "/?api-version=2017-11-08-preview&DeviceClientType="
           "iothubclient%%2f1.2.12%%20(Linux%%3b%%20x86_64)",
           cs.host);
  snprintf(login->port, sizeof login->port, "%u", (unsigned)hub.mqtt_port);
  int len =
      sas_make(login->password, sizeof login->password, resource, cs.key,
               cs.key_len, (uint64_t)time(NULL) + 3600, NULL, SAS_RAW_RESOURCE);
  conn_string_clear(&cs);
  NEED(raw, len > 0 && strstr(login->password, "/devices/" DEVICE) != NULL);
  return true;
}

#define LOGIN(login)                                                           \
  "-h", "localhost", "-p", (login)->port, "--cafile", hub.ca_file, "-V",       \
      "mqttv311", "-i", DEVICE, "-u", (login)->user, "-P", (login)->password,  \
      "-k", "240", "-c", "-q", "0"

static bool run(struct raw *raw, const char *const *arguments, char *out,
                size_t size) {
  struct hub_output *output = malloc(sizeof *output);
  NEED(raw, output != NULL);
  int status = hub_command(output, arguments);
  snprintf(out, size, "%.*s", (int)strcspn(output->out, "\n"), output->out);
  if (status != 0)
    snprintf(raw->error, sizeof raw->error, "%s: exit status %d: %.300s",
             arguments[0], status, output->err);
  free(output);
  return status == 0;
}

/* Connects, subscribes, and ends when the first request has come. */
static bool await_request(struct raw *raw, const struct login *login,
                          char *topic, size_t size) {
  const char *const arguments[] = {"mosquitto_sub",
                                   LOGIN(login),
                                   "-t",
                                   "$iothub/streams/POST/#",
                                   "-t",
                                   "$iothub/streams/res/#",
                                   "-C",
                                   "1",
                                   "-F",
                                   "%t",
                                   NULL};
  return run(raw, arguments, topic, size);
}

static bool answer(struct raw *raw, const struct login *login, int code,
                   const char *rid) {
  char topic[512];
  char out[16];
  snprintf(topic, sizeof topic, "$iothub/streams/res/%d/?$rid=%s", code, rid);
  const char *const arguments[] = {"mosquitto_pub", LOGIN(login), "-t",
                                   topic,           "-n",         NULL};
  return run(raw, arguments, out, sizeof out);
}

/* ---- the request, taken apart as the C client does ---- */

struct request {
  char rid[256];
  char host[256];
  char path[1024];
  unsigned port;
  char token[4096];
};

static bool value(const char *topic, const char *key, char *out, size_t size) {
  const char *at = strstr(topic, key);
  if (at == NULL)
    return false;
  at += strlen(key);
  snprintf(out, size, "%.*s", (int)strcspn(at, "&"), at);
  return out[0] != '\0';
}

static bool parse(struct raw *raw, const char *topic, struct request *out) {
  char encoded[2048];
  char url[2048];
  NEED(raw, strncmp(topic, REQUEST_START, sizeof REQUEST_START - 1) == 0);
  NEED(raw, value(topic, "$rid=", out->rid, sizeof out->rid));
  NEED(raw, value(topic, "$auth=", out->token, sizeof out->token));
  NEED(raw, value(topic, "$url=", encoded, sizeof encoded));
  /* Its parser splits at each '/' and '&', so none may be in a name or a
   * token. */
  NEED(raw, strpbrk(out->token, "/%") == NULL);
  NEED(raw, percent_decode(slice_of(encoded), url, sizeof url, NULL) == 0);
  NEED(raw, sscanf(url, "wss://%255[^:/]:%u%1023[^?]", out->host, &out->port,
                   out->path) == 3);
  return true;
}

/* ---- the stream ---- */

static bool dial(struct raw *raw, const struct request *request) {
  char text[8192];
  NEED(raw,
       raw_connect(raw, request->host, (uint16_t)request->port, hub.ca_file));
  int n = snprintf(text, sizeof text,
                   "GET %s HTTP/1.1\r\n"
                   "Host: %s:%u\r\n"
                   "Upgrade: websocket\r\n"
                   "Connection: Upgrade\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                   "Sec-WebSocket-Protocol: MQTT\r\n"
                   "Sec-WebSocket-Version: 13\r\n"
                   "Authorization: Bearer %s\r\n\r\n",
                   request->path, request->host, request->port, request->token);
  NEED(raw, n > 0 && (size_t)n < sizeof text);
  NEED(raw, raw_text(raw, text));
  NEED(raw, raw_answer(raw) == 101);
  NEED(raw, strstr(raw->head, "Sec-WebSocket-Extensions") == NULL);
  const char *protocol = strstr(raw->head, "Sec-WebSocket-Protocol: ");
  NEED(raw, protocol == NULL || strncmp(protocol + 24, "MQTT\r", 5) == 0);
  return true;
}

/* Sends it back in frames of 64 bytes, each a TLS record. */
static bool send_back(struct raw *raw, const struct raw_frame *frame) {
  for (uint64_t at = 0; at < frame->len; at += PIECE) {
    uint64_t left = frame->len - at;
    NEED(raw, raw_send_frame(raw, BINARY, frame->payload + at,
                             left < PIECE ? (size_t)left : PIECE));
  }
  return true;
}

static bool echo(struct raw *raw, const struct plan *plan) {
  static struct raw_frame frame;
  uint64_t done = 0;
  while (plan->deed == DEED_ANSWER || done < plan->bytes) {
    NEED(raw, raw_read_frame(raw, &frame));
    NEED(raw, !frame.masked);
    if (frame.first == CLOSE)
      break;
    if (frame.first == PING) {
      NEED(raw, raw_send_frame(raw, PONG, frame.payload, (size_t)frame.len));
      continue;
    }
    NEED(raw, frame.first == BINARY && frame.len > 0);
    NEED(raw, send_back(raw, &frame));
    done += frame.len;
  }
  NEED(raw, done == plan->bytes);
  if (plan->deed == DEED_ANSWER)
    NEED(raw, raw_send_frame(raw, CLOSE, "", 0));
  else
    raw_fin(raw);
  NEED(raw, raw_wait_end(raw));
  return true;
}

/* One run of the sample's program. */
static bool device(struct raw *raw, void *arg) {
  const struct plan *plan = arg;
  static struct login login;
  static struct request request;
  static char topic[16384];
  NEED(raw, make_login(raw, &login));
  NEED(raw, await_request(raw, &login, topic, sizeof topic));
  NEED(raw, parse(raw, topic, &request));
  if (plan->deed == DEED_REJECT)
    return answer(raw, &login, 400, request.rid);
  NEED(raw, answer(raw, &login, 200, request.rid));
  NEED(raw, dial(raw, &request));
  return echo(raw, plan);
}

/* ---- tests ---- */

/* Waits for the device to connect: the hub is asked before it has. */
static void open_stream(void) {
  const struct dstream_open_options options = {
      .size = sizeof options,
      .connect_wait_s = 15,
      .response_wait_s = 15,
      .stream = {.size = sizeof options.stream}};
  assert_int_equal(dstream_service_open_stream(service, DEVICE, "TestStream",
                                               &options, &peer_callbacks, &peer,
                                               &peer.stream),
                   0);
}

static void play(enum deed deed) {
  struct plan plan = {deed, peer.to_send};
  struct script *script = script_start(device, &plan);
  open_stream();
  WAIT(peer.closes > 0 || atomic_load(&script->over));
  script_end(script);
  WAIT(peer.closes > 0);
}

/* The end is the peer's, and no byte that was sent before it is lost. */
static void test_ends_by_fin(void **state) {
  static const uint64_t sizes[] = {1, PIECE, ECHO_BYTES};
  (void)state;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    peer_init(&peer, PEER_SENDER, sizes[i], sizes[i]);
    play(DEED_ECHO);
    assert_peer_ended(&peer, true, DSTREAM_ECLOSED, NULL);
    assert_same_bytes(&peer, &peer);
    peer_clear(&peer);
  }
}

static void test_service_ends(void **state) {
  (void)state;
  peer_init(&peer, PEER_SENDER, 100000, 100000);
  peer.close_when_done = true;
  play(DEED_ANSWER);
  assert_peer_ended(&peer, true, DSTREAM_OK, NULL);
  assert_same_bytes(&peer, &peer);
  peer_clear(&peer);
}

static void test_rejects(void **state) {
  (void)state;
  peer_init(&peer, PEER_SENDER, 1, 1);
  play(DEED_REJECT);
  assert_peer_ended(&peer, false, DSTREAM_EREJECTED, NULL);
  peer_clear(&peer);
}

static bool installed(const char *program) {
  const char *const arguments[] = {program, "--help", NULL};
  struct hub_output *output = malloc(sizeof *output);
  bool found = output != NULL && hub_command(output, arguments) != 127;
  free(output);
  return found;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ends_by_fin),
      cmocka_unit_test(test_service_ends),
      cmocka_unit_test(test_rejects),
  };
  if (!installed("mosquitto_sub") || !installed("mosquitto_pub")) {
    fprintf(stderr, "skipped: mosquitto_sub and mosquitto_pub are missing\n");
    return EXIT_SKIPPED;
  }
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
