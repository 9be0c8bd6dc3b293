/* The streaming endpoint as both sides see it: the hub's front and gateway in
 * this process, streams of the library and hand-made frames against them. */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/crypto.h"
#include "core/end.h"
#include "core/stream_url.h"
#include "core/token.h"
#include "hub/certificate.h"
#include "hub/front.h"
#include "hub/gateway.h"
#include "integration/support_raw.h"
#include "integration/support_streams.h"
#include "net/loop.h"
#include "net/loop_uv.h"
#include "net/stream.h"
#include "net/tls.h"

#define DEVICE  0
#define SERVICE 1
#define REPORTS 512

struct report {
  char stream_id[TOKEN_ID_SIZE];
  bool paired;
  uint64_t to_device;
  uint64_t to_service;
  char who[8];
  int ws_code;
  char text[DSTREAM_TEXT_MAX];
};

static struct world {
  char folder[64];
  char cert[128];
  char key_file[128];
  char ca[128];
  uint8_t key[CRYPTO_SHA256_LEN];
  const struct loop_backend *backend;
  struct gateway *gateway;
  struct front *front;
  struct tls_config *tls;
  unsigned sides;
  unsigned ends;
  struct report last;
  int fds;
} world;

/* ---- the gateway ---- */

static void on_side(void *user, const char *stream_id, bool device_side) {
  (void)user;
  (void)stream_id;
  (void)device_side;
  world.sides++;
}

static void on_end(void *user, const struct gateway_report *report) {
  (void)user;
  struct report *last = &world.last;
  world.ends++;
  memset(last, 0, sizeof *last);
  snprintf(last->stream_id, sizeof last->stream_id, "%s", report->stream_id);
  snprintf(last->who, sizeof last->who, "%s", report->who);
  snprintf(last->text, sizeof last->text, "%s", report->cause->text);
  last->paired = report->paired;
  last->to_device = report->bytes_to_device;
  last->to_service = report->bytes_to_service;
  last->ws_code = report->cause->ws_code;
}

static int take_http(void *user, int fd, const char *peer) {
  (void)user;
  (void)peer;
  close(fd);
  return DSTREAM_ESTATE;
}

static void start_with(const struct gateway_options *options) {
  static const struct gateway_events events = {.on_side = on_side,
                                               .on_end = on_end};
  struct dstream_end error = {0};
  world.fds = count_fds();
  world.sides = world.ends = 0;
  test_loop_start_on(world.backend);
  assert_int_equal(
      gateway_new(&world.gateway, test_loop, world.key, options, &events, NULL),
      0);
  struct front_options front = {.bind_address = "127.0.0.1",
                                .cert_file = world.cert,
                                .key_file = world.key_file,
                                .broker_socket = "/nonexistent",
                                .gateway = world.gateway,
                                .take_http = take_http};
  if (front_new(&world.front, test_loop, &front, &error) != 0)
    fail_msg("%s", error.text);
  struct dstream_tls_options tls = {.size = sizeof tls, .ca_file = world.ca};
  if (tls_config_client(&world.tls, &tls, &error) != 0)
    fail_msg("%s", error.text);
}

static int start(void **state) {
  (void)state;
  static const struct gateway_options options;
  start_with(&options);
  return 0;
}

static void free_world(void) {
  gateway_free(world.gateway);
  front_free(world.front);
  world.gateway = NULL;
  world.front = NULL;
}

static int stop(void **state) {
  (void)state;
  free_world();
  test_loop_end();
  tls_config_free(world.tls);
  world.tls = NULL;
  return count_fds() == world.fds ? 0 : -1;
}

/* ---- streams ---- */

struct ticket {
  char id[TOKEN_ID_SIZE];
  char token[2][TOKEN_SIZE];
  char path[2][200];
  struct token_claims claims[2];
};

static void make_ticket(struct ticket *t, int64_t lifetime_s) {
  uint8_t random[16];
  static const char *const roles[2] = {"device", "service"};
  crypto_random(random, sizeof random);
  for (size_t i = 0; i < sizeof random; i++)
    snprintf(t->id + 2 * i, 3, "%02x", random[i]);
  for (int side = 0; side < 2; side++) {
    assert_int_equal(
        token_claims_init(&t->claims[side], t->id, side == DEVICE,
                          (uint64_t)((int64_t)time(NULL) + lifetime_s)),
        0);
    assert_true(token_make(t->token[side], TOKEN_SIZE, &t->claims[side],
                           world.key, sizeof world.key) > 0);
    snprintf(t->path[side], sizeof t->path[side],
             "/bridges/ih/hub/d/dev1/sid/%s/r/%s", t->id, roles[side]);
  }
}

static void announce_with(struct ticket *t, bool eof, uint64_t wait_ms) {
  make_ticket(t, 60);
  struct gateway_stream stream = {.stream_id = t->id,
                                  .device_id = "dev1",
                                  .stream_name = "echo",
                                  .device_jti = t->claims[DEVICE].jti,
                                  .service_jti = t->claims[SERVICE].jti,
                                  .eof = eof,
                                  .deadline_ms = loop_now_ms() + wait_ms};
  assert_int_equal(gateway_expect(world.gateway, &stream), 0);
}

static void announce(struct ticket *t) {
  announce_with(t, false, 15000);
}

struct dialling {
  const char *path;
  const char *token;
  bool eof;
  const struct dstream_stream_options *options;
};

static void dial_with(struct peer *peer, const struct dialling *how) {
  char text[400];
  struct stream_url url;
  snprintf(text, sizeof text, "wss://localhost:%u%s",
           (unsigned)front_https_port(world.front), how->path);
  assert_int_equal(stream_url_parse(&url, text), 0);
  dstream_stream *stream = NULL;
  assert_int_equal(stream_new(&stream, test_loop, "echo", how->options,
                              &peer_callbacks, peer, NULL, NULL),
                   0);
  struct stream_target target = {
      .url = &url, .token = how->token, .tls = world.tls, .eof = how->eof};
  peer->stream = stream;
  stream_dial(stream, &target);
}

static void dial(struct peer *peer, const struct ticket *t, int side) {
  struct dialling how = {.path = t->path[side], .token = t->token[side]};
  dial_with(peer, &how);
}

/* Service sends, device echoes, service closes. */
static void run_echo(struct peer *device, struct peer *service) {
  struct ticket t;
  announce(&t);
  service->close_when_done = true;
  dial(device, &t, DEVICE);
  dial(service, &t, SERVICE);
  unsigned ends = world.ends;
  WAIT_MS(device->closes == 1 && service->closes == 1, 60000);
  WAIT(world.ends == ends + 1);
}

static void check_echo(const struct peer *device, const struct peer *service) {
  assert_peer_ended(service, true, DSTREAM_OK, NULL);
  assert_peer_ended(device, true, DSTREAM_ECLOSED, NULL);
  assert_int_equal(device->end.ws_code, 1000);
  assert_same_bytes(service, device);
  assert_same_bytes(device, service);
  assert_int_equal(service->received, service->to_send);
}

/* ---- echo ---- */

static void echo_size(uint64_t size, size_t piece) {
  struct peer device;
  struct peer service;
  peer_init(&device, PEER_ECHO, 0, 0);
  peer_init(&service, PEER_SENDER, size, size);
  service.piece = piece;
  run_echo(&device, &service);
  check_echo(&device, &service);
  assert_true(world.last.paired);
  assert_string_equal(world.last.who, "service");
  assert_int_equal(world.last.to_device, size);
  assert_int_equal(world.last.to_service, size);
  peer_clear(&device);
  peer_clear(&service);
}

static void test_echo_of_every_size(void **state) {
  (void)state;
  static const uint64_t sizes[] = {
      0,     1,     2,     3,     124,   125,    126,    127,   128,
      16357, 16358, 16370, 16375, 16376, 16377,  16383,  16384, 16385,
      32752, 65534, 65535, 65536, 65537, 131071, 131072, 131073};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    echo_size(sizes[i], 0);
}

static void test_echo_in_small_pieces(void **state) {
  (void)state;
  echo_size(3000, 1);
  echo_size(20000, 125);
  echo_size(20000, 126);
}

static void test_echo_of_64_megabytes(void **state) {
  (void)state;
  echo_size(BIG_SIZE, 0);
}

static void test_both_ways_at_once(void **state) {
  (void)state;
  struct ticket t;
  struct peer device;
  struct peer service;
  announce(&t);
  peer_init(&device, PEER_SENDER, BIG_SIZE, BIG_SIZE);
  peer_init(&service, PEER_SENDER, BIG_SIZE, BIG_SIZE);
  service.close_when_done = true;
  dial(&service, &t, SERVICE);
  dial(&device, &t, DEVICE);
  WAIT_MS(device.closes == 1 && service.closes == 1, 60000);
  assert_peer_ended(&service, true, DSTREAM_OK, NULL);
  assert_peer_ended(&device, true, DSTREAM_ECLOSED, NULL);
  assert_same_bytes(&service, &device);
  assert_same_bytes(&device, &service);
  peer_clear(&device);
  peer_clear(&service);
}

/* ---- many ---- */

#define MANY 200

static void test_200_streams_at_once(void **state) {
  (void)state;
  static struct ticket t[MANY];
  static struct peer device[MANY];
  static struct peer service[MANY];
  uint64_t size = TEST_SANITIZED ? 20000 : 200000;
  for (int i = 0; i < MANY; i++) {
    announce(&t[i]);
    peer_init(&device[i], PEER_ECHO, 0, 0);
    peer_init(&service[i], PEER_SENDER, size + (uint64_t)i, size + (uint64_t)i);
    dial(&service[i], &t[i], SERVICE);
    dial(&device[i], &t[i], DEVICE);
  }
  assert_int_equal(gateway_device_count(world.gateway, "dev1"), MANY);
  /* All of them are open at the same time, none is closed. */
  for (int i = 0; i < MANY; i++)
    wait_done(&service[i]);
  assert_int_equal(gateway_count(world.gateway), MANY);
  for (int i = 0; i < MANY; i++) {
    assert_int_equal(service[i].closes, 0);
    dstream_stream_close(service[i].stream);
  }
  for (int i = 0; i < MANY; i++) {
    WAIT(service[i].closes == 1 && device[i].closes == 1);
    check_echo(&device[i], &service[i]);
    peer_clear(&device[i]);
    peer_clear(&service[i]);
  }
  WAIT(gateway_count(world.gateway) == 0);
  assert_int_equal(world.ends, MANY);
}

/* ---- the side that comes first ---- */

static void early(int first_side) {
  struct ticket t;
  struct peer first;
  struct peer second;
  const uint64_t size = 32u << 20;
  announce(&t);
  peer_init(&first, PEER_SENDER, size, 0);
  peer_init(&second, PEER_SENDER, 0, size);
  second.close_when_done = true;
  dial(&first, &t, first_side);
  WAIT(first.sent > 0);
  wait_still(&first.sent, 200);
  /* Held by not reading: what the sockets take, not all of it. */
  assert_true(first.sent < size);
  dial(&second, &t, !first_side);
  WAIT_MS(first.closes == 1 && second.closes == 1, 60000);
  assert_peer_over(&first, true);
  assert_peer_ended(&second, true, DSTREAM_OK, NULL);
  assert_same_bytes(&first, &second);
  peer_clear(&first);
  peer_clear(&second);
}

static void test_early_bytes_of_the_service_are_kept(void **state) {
  (void)state;
  early(SERVICE);
}

static void test_early_bytes_of_the_device_are_kept(void **state) {
  (void)state;
  early(DEVICE);
}

/* Frames behind the request head, in the same record, and the end at once:
 * everything is over for this side before the other comes. */
struct behind {
  const struct ticket *ticket;
  unsigned port;
};

static bool send_behind_head(struct raw *raw, void *arg) {
  const struct behind *b = arg;
  uint8_t frames[64];
  size_t n = raw_frame(frames, 0x82, "hello ", 6);
  n += raw_frame(frames + n, 0x82, "world", 5);
  n += raw_frame(frames + n, 0x88, "\x03\xe8", 2);
  NEED(raw, raw_connect(raw, "localhost", (uint16_t)b->port, world.ca));
  NEED(raw, raw_upgrade(raw, "localhost", b->ticket->path[SERVICE],
                        b->ticket->token[SERVICE], frames, n) == 101);
  return raw_expect_close(raw, 1000, "") && raw_finish(raw);
}

static void test_frames_behind_the_request_head(void **state) {
  (void)state;
  struct ticket t;
  struct peer device;
  announce(&t);
  peer_init(&device, PEER_SENDER, 0, 11);
  struct behind b = {&t, front_https_port(world.front)};
  struct script *script = script_start(send_behind_head, &b);
  WAIT(world.sides == 1);
  dial(&device, &t, DEVICE);
  WAIT(device.closes == 1);
  script_end(script);
  assert_peer_ended(&device, true, DSTREAM_ECLOSED, NULL);
  assert_int_equal(device.received, 11);
  WAIT(world.ends == 1);
  assert_int_equal(world.last.to_device, 11);
  peer_clear(&device);
}

/* ---- tokens ---- */

static void refused(const char *path, const char *token, const char *text) {
  struct peer peer;
  peer_init(&peer, PEER_SENDER, 10, 0);
  struct dialling how = {.path = path, .token = token};
  dial_with(&peer, &how);
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, false, DSTREAM_EUNAUTHORIZED, text);
  assert_int_equal(peer.end.http_status, 401);
  peer_clear(&peer);
}

static void test_token_used_twice(void **state) {
  (void)state;
  struct ticket t;
  struct peer device;
  struct peer service;
  announce(&t);
  peer_init(&device, PEER_ECHO, 0, 0);
  peer_init(&service, PEER_SENDER, 1000, 1000);
  dial(&device, &t, DEVICE);
  wait_open(&device);
  refused(t.path[DEVICE], t.token[DEVICE], NULL); /* while it waits */
  dial(&service, &t, SERVICE);
  wait_done(&service);
  refused(t.path[DEVICE], t.token[DEVICE], NULL); /* while it runs */
  refused(t.path[SERVICE], t.token[SERVICE], NULL);
  peer_send_more(&service, 1000);
  service.to_receive = 2000;
  wait_done(&service); /* not disturbed */
  dstream_stream_close(service.stream);
  WAIT(service.closes == 1 && device.closes == 1);
  assert_same_bytes(&device, &service);
  assert_int_equal(service.received, 2000);
  WAIT(gateway_count(world.gateway) == 0);
  refused(t.path[DEVICE], t.token[DEVICE], NULL); /* when it is over */
  refused(t.path[SERVICE], t.token[SERVICE], NULL);
  peer_clear(&device);
  peer_clear(&service);
}

static void make_with(char *token, const struct token_claims *claims,
                      const uint8_t *key) {
  assert_true(token_make(token, TOKEN_SIZE, claims, key, CRYPTO_SHA256_LEN) >
              0);
}

static void test_wrong_tokens(void **state) {
  (void)state;
  struct ticket t;
  struct ticket other;
  struct peer device;
  struct peer service;
  char token[TOKEN_SIZE];
  uint8_t key[CRYPTO_SHA256_LEN];
  announce(&t);
  announce(&other);
  const char *path = t.path[SERVICE];
  /* for the other role, for another stream */
  refused(path, t.token[DEVICE], NULL);
  refused(t.path[DEVICE], t.token[SERVICE], NULL);
  refused(path, other.token[SERVICE], NULL);
  refused(path, other.token[DEVICE], NULL);
  /* expired */
  struct token_claims claims = t.claims[SERVICE];
  claims.expiry_s = (uint64_t)time(NULL) - 1;
  make_with(token, &claims, world.key);
  refused(path, token, NULL);
  /* forged: another key, a changed signature, changed claims, no signature */
  crypto_random(key, sizeof key);
  make_with(token, &t.claims[SERVICE], key);
  refused(path, token, NULL);
  snprintf(token, sizeof token, "%s", t.token[SERVICE]);
  token[strlen(token) - 2] ^= 1;
  refused(path, token, NULL);
  snprintf(token, sizeof token, "%s", t.token[SERVICE]);
  char *claim = strchr(token, '.') + 20;
  *claim = *claim == 'A' ? 'B' : 'A';
  refused(path, token, NULL);
  snprintf(token, sizeof token, "%s", t.token[SERVICE]);
  *(strrchr(token, '.') + 1) = '\0';
  refused(path, token, NULL);
  /* genuine, but not the one that was announced */
  struct token_claims twin;
  assert_int_equal(
      token_claims_init(&twin, t.id, false, (uint64_t)time(NULL) + 60), 0);
  make_with(token, &twin, world.key);
  refused(path, token, NULL);
  refused(path, "x", NULL);
  /* and the stream itself was not disturbed by any of it */
  peer_init(&device, PEER_ECHO, 0, 0);
  peer_init(&service, PEER_SENDER, 5000, 5000);
  service.close_when_done = true;
  dial(&device, &t, DEVICE);
  dial(&service, &t, SERVICE);
  WAIT(device.closes == 1 && service.closes == 1);
  check_echo(&device, &service);
  peer_clear(&device);
  peer_clear(&service);
  gateway_forget(world.gateway, other.id, "not needed");
}

static bool upgrade_without_token(struct raw *raw, void *arg) {
  const struct behind *b = arg;
  uint16_t port = (uint16_t)b->port;
  NEED(raw, raw_connect(raw, "localhost", port, world.ca));
  NEED(raw, raw_upgrade(raw, "localhost", b->ticket->path[DEVICE], NULL, NULL,
                        0) == 401);
  NEED(raw, strstr(raw->head, "WWW-Authenticate: Bearer\r\n") != NULL);
  NEED(raw, raw_wait_end(raw));
  static const char *const wrong[] = {
      "/bridges/",
      "/bridges/ih/hub/d/dev1/sid/0123/r/service",
      "/bridges/ih/hub/d/dev1/sid/00000000000000000000000000000000/r/admin",
      "/bridges/x/r/service",
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    NEED(raw, raw_connect(raw, "localhost", port, world.ca));
    NEED(raw, raw_upgrade(raw, "localhost", wrong[i], b->ticket->token[SERVICE],
                          NULL, 0) == 404);
  }
  NEED(raw, raw_connect(raw, "localhost", port, world.ca));
  NEED(raw, raw_text(raw, "GET ") && raw_text(raw, b->ticket->path[DEVICE]) &&
                raw_text(raw, " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                              "") &&
                raw_text(raw, b->ticket->token[DEVICE]) &&
                raw_text(raw, "\r\n\r\n"));
  NEED(raw, raw_answer(raw) == 426);
  return true;
}

static void test_missing_token_and_wrong_requests(void **state) {
  (void)state;
  struct ticket t;
  announce(&t);
  struct behind b = {&t, front_https_port(world.front)};
  run_script(upgrade_without_token, &b);
  assert_int_equal(world.sides, 0);
  gateway_forget(world.gateway, t.id, "not needed");
  WAIT(gateway_count(world.gateway) == 0);
  assert_int_equal(world.ends, 0);
}

/* ---- one side never comes ---- */

static void one_side_never_comes(int side, const char *text) {
  struct ticket t;
  struct peer peer;
  announce_with(&t, false, 150);
  peer_init(&peer, PEER_SENDER, 100, 0);
  uint64_t begin_ms = test_now_ms();
  dial(&peer, &t, side);
  WAIT(peer.closes == 1);
  assert_true(test_now_ms() - begin_ms < 2000);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED, text);
  assert_int_equal(peer.end.ws_code, 1011);
  WAIT(gateway_count(world.gateway) == 0);
  assert_false(world.last.paired);
  assert_string_equal(world.last.who, "hub");
  assert_non_null(strstr(world.last.text, text));
  peer_clear(&peer);
}

static void test_the_other_side_never_comes(void **state) {
  (void)state;
  one_side_never_comes(DEVICE, "the service did not connect in time");
  one_side_never_comes(SERVICE, "the device did not connect in time");
  struct ticket t;
  announce_with(&t, false, 50);
  WAIT(gateway_count(world.gateway) == 0);
  assert_non_null(strstr(world.last.text, "neither side connected in time"));
  assert_int_equal(world.ends, 3);
}

static void test_forget_and_kill(void **state) {
  (void)state;
  struct ticket t;
  struct peer device;
  struct peer service;
  announce(&t);
  peer_init(&device, PEER_ECHO, 0, 0);
  dial(&device, &t, DEVICE);
  wait_open(&device);
  gateway_forget(world.gateway, t.id, "the service gave up");
  WAIT(device.closes == 1 && gateway_count(world.gateway) == 0);
  assert_peer_ended(&device, true, DSTREAM_ECLOSED, "the service gave up");
  assert_int_equal(device.end.ws_code, 1011);
  assert_int_equal(world.ends, 0);
  refused(t.path[SERVICE], t.token[SERVICE], NULL);
  peer_clear(&device);

  announce(&t);
  peer_init(&device, PEER_ECHO, 0, 0);
  peer_init(&service, PEER_SENDER, 1000, 1000);
  dial(&device, &t, DEVICE);
  dial(&service, &t, SERVICE);
  wait_done(&service);
  assert_int_equal(gateway_kill(world.gateway, t.id, 1008, "by order"), 0);
  WAIT(device.closes == 1 && service.closes == 1);
  assert_peer_ended(&device, true, DSTREAM_ECLOSED, "by order");
  assert_peer_ended(&service, true, DSTREAM_ECLOSED, "by order");
  assert_int_equal(device.end.ws_code, 1008);
  assert_int_equal(gateway_kill(world.gateway, "nobody", 1008, "x"),
                   DSTREAM_ENOTFOUND);
  peer_clear(&device);
  peer_clear(&service);
}

/* Those of every third device end. */
static const char *judge(void *user, const char *client_id) {
  int *asked = user;
  ++*asked;
  return atoi(client_id + 6) % 3 == 0 ? "the device was removed" : NULL;
}

/* More streams and devices than any table began with. */
static void test_streams_by_device(void **state) {
  (void)state;
  enum { DEVICES = 300, EACH = 3 };
  static struct ticket t[DEVICES * EACH];
  char id[32];
  for (int i = 0; i < DEVICES * EACH; i++) {
    make_ticket(&t[i], 60);
    snprintf(id, sizeof id, "device%d", i % DEVICES);
    struct gateway_stream stream = {.stream_id = t[i].id,
                                    .device_id = id,
                                    .stream_name = "echo",
                                    .device_jti = t[i].claims[DEVICE].jti,
                                    .service_jti = t[i].claims[SERVICE].jti,
                                    .deadline_ms = loop_now_ms() + 60000};
    assert_int_equal(gateway_expect(world.gateway, &stream), 0);
    assert_int_equal(gateway_expect(world.gateway, &stream), DSTREAM_EINVAL);
    assert_int_equal(gateway_device_count(world.gateway, id), i / DEVICES + 1);
  }
  assert_int_equal(gateway_count(world.gateway), DEVICES * EACH);
  assert_int_equal(gateway_device_count(world.gateway, "device"), 0);
  int asked = 0;
  gateway_judge(world.gateway, 1008, judge, &asked);
  assert_int_equal(asked, DEVICES); /* once each */
  WAIT(gateway_count(world.gateway) == DEVICES * EACH / 3 * 2);
  assert_int_equal(world.ends, DEVICES * EACH / 3);
  for (int i = 0; i < DEVICES * EACH; i++) {
    int device = i % DEVICES;
    snprintf(id, sizeof id, "device%d", device);
    unsigned left = device % 3 == 0 ? 0 : EACH;
    assert_int_equal(gateway_device_count(world.gateway, id), left);
  }
  for (int i = 0; i < DEVICES * EACH; i++) {
    int gone = i % DEVICES % 3 == 0;
    assert_int_equal(gateway_kill(world.gateway, t[i].id, 1008, "by order"),
                     gone ? DSTREAM_ENOTFOUND : DSTREAM_OK);
  }
  WAIT(gateway_count(world.gateway) == 0);
}

/* ---- how a side ends ---- */

enum ending {
  END_FIN,       /* as the official C device: FIN, no Close */
  END_NOTIFY,    /* close_notify and FIN, no Close */
  END_1000,      /* Close 1000 */
  END_NO_CODE,   /* Close without a code, as Node's */
  END_RESET,     /* RST */
  END_IN_FRAME,  /* FIN within a frame */
  END_WITH_1011, /* Close 1011 with a reason */
  END_WITH_1001,
  END_WITH_4000,
};

struct ending_script {
  struct ticket *ticket;
  unsigned port;
  enum ending how;
  atomic_int service_has; /* bytes that came through */
};

#define ENDING_BYTES 100000

static bool send_and_end(struct raw *raw, void *arg) {
  static const uint8_t bytes[ENDING_BYTES];
  static const uint8_t cut[] = {0x82, 0x85, 1, 2, 3, 4};
  struct ending_script *s = arg;
  NEED(raw, raw_connect(raw, "localhost", (uint16_t)s->port, world.ca));
  NEED(raw, raw_upgrade(raw, "localhost", s->ticket->path[DEVICE],
                        s->ticket->token[DEVICE], NULL, 0) == 101);
  NEED(raw, raw_send_frame(raw, 0x82, bytes, ENDING_BYTES));
  switch (s->how) {
  case END_FIN:
    raw_fin(raw);
    NEED(raw, raw_wait_end(raw));
    break;
  case END_NOTIFY:
    NEED(raw, raw_finish(raw));
    break;
  case END_1000:
    NEED(raw, raw_send_frame(raw, 0x88,
                             "\x03\xe8"
                             "bye",
                             5));
    NEED(raw, raw_expect_close(raw, 1000, ""));
    NEED(raw, raw_finish(raw));
    break;
  case END_NO_CODE:
    NEED(raw, raw_send_frame(raw, 0x88, NULL, 0));
    NEED(raw, raw_expect_close(raw, -1, ""));
    NEED(raw, raw_finish(raw));
    break;
  case END_WITH_1011:
    NEED(raw, raw_send_frame(raw, 0x88,
                             "\x03\xf3"
                             "no idea",
                             9));
    NEED(raw, raw_expect_close(raw, 1011, ""));
    break;
  case END_WITH_1001:
    NEED(raw, raw_send_frame(raw, 0x88,
                             "\x03\xe9"
                             "back soon",
                             11));
    NEED(raw, raw_expect_close(raw, 1001, ""));
    break;
  case END_WITH_4000:
    NEED(raw, raw_send_frame(raw, 0x88,
                             "\x0f\xa0"
                             "mine",
                             6));
    NEED(raw, raw_expect_close(raw, 4000, ""));
    break;
  case END_IN_FRAME:
    NEED(raw, raw_send(raw, cut, sizeof cut));
    NEED(raw, script_await(&s->service_has, ENDING_BYTES));
    NEED(raw, raw_finish(raw));
    break;
  case END_RESET:
    NEED(raw, script_await(&s->service_has, ENDING_BYTES));
    raw_reset(raw);
  }
  return true;
}

static void device_ends(enum ending how, int ws_code, const char *text,
                        bool service_first) {
  struct ticket t;
  struct peer service;
  announce(&t);
  struct ending_script s = {
      .ticket = &t, .port = front_https_port(world.front), .how = how};
  peer_init(&service, PEER_SENDER, 0, 0);
  if (service_first) {
    dial(&service, &t, SERVICE);
    wait_open(&service);
  }
  unsigned sides = world.sides;
  struct script *script = script_start(send_and_end, &s);
  WAIT(world.sides > sides);
  if (!service_first)
    dial(&service, &t, SERVICE);
  WAIT(service.received >= ENDING_BYTES || service.closes > 0);
  atomic_store(&s.service_has, (int)service.received);
  uint64_t begin_ms = test_now_ms();
  WAIT(service.closes == 1);
  assert_true(test_now_ms() - begin_ms < 1000); /* it learns at once */
  script_end(script);
  assert_peer_ended(&service, true, DSTREAM_ECLOSED, text);
  assert_int_equal(service.end.ws_code, ws_code);
  assert_int_equal(service.received, ENDING_BYTES);
  WAIT(gateway_count(world.gateway) == 0);
  assert_string_equal(world.last.who, "device");
  assert_int_equal(world.last.to_service, ENDING_BYTES);
  peer_clear(&service);
}

static void test_ends_of_every_kind(void **state) {
  (void)state;
  for (int first = 0; first < 2; first++) {
    device_ends(END_FIN, 1000, NULL, first);
    device_ends(END_NOTIFY, 1000, NULL, first);
    device_ends(END_1000, 1000, NULL, first);
    device_ends(END_NO_CODE, 1000, NULL, first);
    device_ends(END_WITH_1011, 1011, "no idea", first);
    device_ends(END_WITH_1001, 1001, "back soon", first);
    device_ends(END_WITH_4000, 1011, "mine", first);
    device_ends(END_RESET, 1011, "WS disconnected", first);
    device_ends(END_IN_FRAME, 1011, "WS disconnected", first);
  }
}

/* ---- frames by hand ---- */

struct frames {
  struct ticket *ticket;
  unsigned port;
  int wrong; /* index into wrong_frames */
  atomic_int service_told;
  atomic_int joined;
  unsigned records;
};

static bool frames_join(struct raw *raw, const struct frames *f) {
  NEED(raw, raw_connect(raw, "localhost", (uint16_t)f->port, world.ca));
  NEED(raw, raw_upgrade(raw, "localhost", f->ticket->path[DEVICE],
                        f->ticket->token[DEVICE], NULL, 0) == 101);
  return true;
}

/* What the echoing service sends back, of n bytes, all of them `byte`. */
static bool expect_bytes(struct raw *raw, uint8_t byte, size_t n) {
  struct raw_frame *frame = malloc(sizeof *frame);
  NEED(raw, frame != NULL);
  bool ok = true;
  while (ok && n > 0) {
    ok = raw_read_frame(raw, frame) && frame->first == 0x82 && !frame->masked &&
         frame->len > 0 && frame->len <= n;
    for (size_t i = 0; ok && i < frame->len; i++)
      ok = frame->payload[i] == byte;
    if (ok)
      n -= frame->len;
  }
  free(frame);
  NEED(raw, ok);
  return true;
}

/* The official C device: 64 bytes a frame, one record each; others: 1 MB. */
static bool small_and_large(struct raw *raw) {
  size_t megabyte = 1 << 20;
  uint8_t *bytes = malloc(megabyte);
  NEED(raw, bytes != NULL);
  memset(bytes, 'a', megabyte);
  bool ok = true;
  for (int i = 0; ok && i < 1000; i++)
    ok = raw_send_frame(raw, 0x82, bytes, 64);
  ok = ok && expect_bytes(raw, 'a', 64000);
  memset(bytes, 'b', megabyte);
  for (int i = 0; ok && i < 2; i++)
    ok = raw_send_frame(raw, 0x82, bytes, megabyte / 8) &&
         expect_bytes(raw, 'b', megabyte / 8);
  free(bytes);
  NEED(raw, ok);
  return true;
}

/* Text; a fragmented message with a pong in it; empty ones. */
static bool odd_frames(struct raw *raw) {
  NEED(raw, raw_send_frame(raw, 0x81, "cc", 2));
  NEED(raw, raw_send_frame(raw, 0x02, "c", 1));
  NEED(raw, raw_send_frame(raw, 0x00, "", 0));
  NEED(raw, raw_send_frame(raw, 0x00, "cc", 2));
  NEED(raw, raw_send_frame(raw, 0x8a, "unasked", 7));
  NEED(raw, raw_send_frame(raw, 0x80, "c", 1));
  NEED(raw, raw_send_frame(raw, 0x82, "", 0));
  NEED(raw, raw_send_frame(raw, 0x81, "", 0));
  return expect_bytes(raw, 'c', 6);
}

static bool ping(struct raw *raw, const char *what) {
  struct raw_frame *frame = malloc(sizeof *frame);
  NEED(raw, frame != NULL);
  size_t len = strlen(what);
  bool ok = raw_send_frame(raw, 0x89, what, len) &&
            raw_read_frame(raw, frame) && frame->first == 0x8a &&
            frame->len == len && memcmp(frame->payload, what, len) == 0;
  free(frame);
  NEED(raw, ok);
  return true;
}

/* A ping is answered with what it carried, also within a message. */
static bool pings(struct raw *raw) {
  if (!ping(raw, "are you there"))
    return false;
  NEED(raw, raw_send_frame(raw, 0x02, "d", 1));
  if (!expect_bytes(raw, 'd', 1) || !ping(raw, ""))
    return false;
  NEED(raw, raw_send_frame(raw, 0x80, "d", 1));
  return expect_bytes(raw, 'd', 1);
}

static bool one_by_one(struct raw *raw) {
  uint8_t frame[300];
  uint8_t payload[130];
  memset(payload, 'e', sizeof payload);
  size_t n = raw_frame(frame, 0x82, payload, sizeof payload);
  for (size_t i = 0; i < n; i++)
    NEED(raw, raw_send(raw, frame + i, 1));
  return expect_bytes(raw, 'e', sizeof payload);
}

static bool frames_of_all_kinds(struct raw *raw, void *arg) {
  if (!frames_join(raw, arg) || !small_and_large(raw) || !odd_frames(raw) ||
      !pings(raw) || !one_by_one(raw))
    return false;
  NEED(raw, raw_send_frame(raw, 0x88, "\x03\xe8", 2));
  return raw_expect_close(raw, 1000, "") && raw_finish(raw);
}

static void test_frames_of_every_kind(void **state) {
  (void)state;
  struct ticket t;
  struct peer service;
  announce(&t);
  peer_init(&service, PEER_ECHO, 0, 0);
  dial(&service, &t, SERVICE);
  struct frames f = {.ticket = &t, .port = front_https_port(world.front)};
  run_script(frames_of_all_kinds, &f);
  WAIT(service.closes == 1);
  assert_peer_ended(&service, true, DSTREAM_ECLOSED, NULL);
  assert_int_equal(service.received, 64000 + (1 << 18) + 6 + 2 + 130);
  peer_clear(&service);
}

#define SMALL_FRAMES 200

static bool count_records(struct raw *raw, void *arg) {
  struct frames *f = arg;
  static uint8_t bytes[SMALL_FRAMES * (2 + 64)];
  if (!frames_join(raw, f))
    return false;
  raw->records = 0;
  atomic_store(&f->joined, 1);
  NEED(raw, raw_read(raw, bytes, sizeof bytes));
  f->records = raw->records;
  NEED(raw, raw_send_frame(raw, 0x88, "\x03\xe8", 2));
  return raw_expect_close(raw, 1000, "") && raw_finish(raw);
}

/* What is written within one callback shares TLS records, at the end that
 * writes and at the hub; the frames stay as they are. */
static void test_small_writes_share_records(void **state) {
  static const uint8_t message[64];
  (void)state;
  struct ticket t;
  struct peer service;
  announce(&t);
  peer_init(&service, PEER_SENDER, 0, 0);
  dial(&service, &t, SERVICE);
  struct frames f = {.ticket = &t, .port = front_https_port(world.front)};
  struct script *script = script_start(count_records, &f);
  WAIT(atomic_load(&f.joined) == 1 && service.opens == 1);
  for (int i = 0; i < SMALL_FRAMES; i++)
    assert_int_equal(dstream_stream_write(service.stream, message, 64), 64);
  script_end(script);
  /* The hub's read may end anywhere in what came. */
  assert_in_range(f.records, 1, 4);
  WAIT(service.closes == 1);
  assert_peer_ended(&service, true, DSTREAM_ECLOSED, NULL);
  peer_clear(&service);
}

static bool one_megabyte_frame(struct raw *raw, void *arg) {
  if (!frames_join(raw, arg))
    return false;
  size_t n = 1 << 20;
  uint8_t *bytes = calloc(1, n);
  NEED(raw, bytes != NULL);
  bool ok = raw_send_frame(raw, 0x82, bytes, n);
  free(bytes);
  NEED(raw, ok);
  raw_fin(raw);
  NEED(raw, raw_wait_end(raw));
  return true;
}

static void test_a_frame_of_one_megabyte(void **state) {
  (void)state;
  struct ticket t;
  struct peer service;
  announce(&t);
  peer_init(&service, PEER_SENDER, 0, 0);
  dial(&service, &t, SERVICE);
  struct frames f = {.ticket = &t, .port = front_https_port(world.front)};
  run_script(one_megabyte_frame, &f);
  WAIT(service.closes == 1);
  assert_peer_ended(&service, true, DSTREAM_ECLOSED, NULL);
  assert_int_equal(service.received, 1 << 20);
  peer_clear(&service);
}

static const struct {
  const char *bytes;
  size_t len;
} wrong_frames[] = {
    {"\x82\x03"
     "abc",
     5}, /* no mask */
    {"\xC2\x81"
     "0123a",
     7}, /* reserved bits */
    {"\xA2\x81"
     "0123a",
     7},
    {"\x92\x81"
     "0123a",
     7},
    {"\x83\x81"
     "0123a",
     7}, /* reserved opcodes */
    {"\x8b\x81"
     "0123a",
     7},
    {"\x09\x80"
     "0123",
     6}, /* a ping in fragments */
    {"\x89\xFE\x00\x7E"
     "0123",
     8}, /* a ping of 126 bytes */
    {"\x80\x81"
     "0123a",
     7}, /* goes on with nothing */
    {"\x82\xFE\x00\x7D"
     "0123",
     8}, /* not the shortest length */
    {"\x82\xFF\x80\0\0\0\0\0\0\1"
     "0123",
     14}, /* beyond 63 bits */
    {"\x88\x81"
     "0123a",
     7},                             /* a Close of one byte */
    {"\x88\x82\0\0\0\0\x03\xED", 8}, /* a Close with 1005 */
};

static bool send_wrong_frame(struct raw *raw, void *arg) {
  struct frames *f = arg;
  if (!frames_join(raw, f))
    return false;
  NEED(raw, raw_send_frame(raw, 0x82, "fine", 4));
  NEED(raw,
       raw_send(raw, wrong_frames[f->wrong].bytes, wrong_frames[f->wrong].len));
  NEED(raw, raw_expect_close(raw, 1002, ""));
  NEED(raw, script_await(&f->service_told, 1)); /* also without our answer */
  return true;
}

static void test_wrong_frames_are_refused(void **state) {
  (void)state;
  struct ticket running;
  struct peer device;
  struct peer beside;
  announce(&running);
  peer_init(&device, PEER_ECHO, 0, 0);
  peer_init(&beside, PEER_SENDER, 1000, 1000);
  dial(&device, &running, DEVICE);
  dial(&beside, &running, SERVICE);
  int count = (int)(sizeof wrong_frames / sizeof *wrong_frames);
  for (int i = 0; i < count; i++) {
    struct ticket t;
    struct peer service;
    announce(&t);
    peer_init(&service, PEER_SENDER, 0, 0);
    dial(&service, &t, SERVICE);
    struct frames f = {
        .ticket = &t, .port = front_https_port(world.front), .wrong = i};
    struct script *script = script_start(send_wrong_frame, &f);
    WAIT(service.received == 4);
    uint64_t begin_ms = test_now_ms();
    WAIT(service.closes == 1);
    assert_true(test_now_ms() - begin_ms < 1000);
    atomic_store(&f.service_told, 1);
    script_end(script);
    assert_peer_ended(&service, true, DSTREAM_ECLOSED, "WS disconnected");
    assert_int_equal(service.end.ws_code, 1011);
    assert_int_equal(service.received, 4);
    peer_clear(&service);
    /* the stream beside it goes on */
    peer_send_more(&beside, 1000);
    beside.to_receive += 1000;
    wait_done(&beside);
  }
  dstream_stream_close(beside.stream);
  WAIT(beside.closes == 1 && device.closes == 1);
  beside.to_send = beside.sent;
  check_echo(&device, &beside);
  peer_clear(&device);
  peer_clear(&beside);
}

/* ---- backpressure ---- */

static void stalled_reader(int sender_side) {
  struct ticket t;
  struct peer sender;
  struct peer reader;
  uint64_t size = TEST_SANITIZED ? 32u << 20 : 64u << 20;
  announce(&t);
  peer_init(&sender, PEER_SENDER, size, 0);
  peer_init(&reader, PEER_SENDER, 0, size);
  reader.stalled = true;
  reader.close_when_done = true;
  uint64_t before = resident_bytes(getpid());
  dial(&reader, &t, !sender_side);
  dial(&sender, &t, sender_side);
  WAIT(sender.sent > PEER_WINDOW);
  wait_still(&sender.sent, 300);
  assert_int_equal(reader.received, PEER_WINDOW); /* the window, no more */
  assert_true(sender.sent < size);
  if (!TEST_SANITIZED)
    assert_true(resident_bytes(getpid()) < before + (8u << 20));
  peer_unstall(&reader);
  WAIT_MS(sender.closes == 1 && reader.closes == 1, 60000);
  assert_peer_over(&sender, true);
  assert_peer_ended(&reader, true, DSTREAM_OK, NULL);
  assert_same_bytes(&sender, &reader);
  peer_clear(&sender);
  peer_clear(&reader);
}

static void test_a_reader_that_stalls(void **state) {
  (void)state;
  stalled_reader(DEVICE);
  stalled_reader(SERVICE);
}

/* The options bound what a stalled stream holds in the kernel, too. */
static void test_small_buffers(void **state) {
  (void)state;
  struct ticket t;
  struct peer sender;
  struct peer reader;
  struct dstream_stream_options small = {.size = sizeof small,
                                         .window = 1,
                                         .send_buffer = 32768,
                                         .socket_buffer = 16384};
  announce(&t);
  peer_init(&sender, PEER_SENDER, 20000, 0);
  peer_init(&reader, PEER_SENDER, 0, 20000);
  reader.close_when_done = true;
  struct dialling how = {
      .path = t.path[DEVICE], .token = t.token[DEVICE], .options = &small};
  dial_with(&reader, &how);
  how.path = t.path[SERVICE];
  how.token = t.token[SERVICE];
  dial_with(&sender, &how);
  WAIT_MS(sender.closes == 1 && reader.closes == 1, 60000);
  assert_peer_ended(&reader, true, DSTREAM_OK, NULL);
  assert_same_bytes(&sender, &reader);
  peer_clear(&sender);
  peer_clear(&reader);
}

#define STALLED    50
#define MEMORY_MAX (350 * 1024)

static void test_50_stalled_streams_beside_one_that_runs(void **state) {
  (void)state;
  static struct peer sender[STALLED];
  static struct peer reader[STALLED];
  static struct ticket t[STALLED];
  uint64_t size = 12u << 20;
  struct dstream_stream_options small = {.size = sizeof small,
                                         .socket_buffer = 65536};
  for (int i = 0; i < STALLED; i++) {
    announce(&t[i]);
    peer_init(&sender[i], PEER_SENDER, size, 0);
    peer_init(&reader[i], PEER_SENDER, 0, 0);
    reader[i].stalled = true;
    struct dialling how = {.path = t[i].path[SERVICE],
                           .token = t[i].token[SERVICE],
                           .options = &small};
    dial(&reader[i], &t[i], DEVICE);
    dial_with(&sender[i], &how);
  }
  for (int i = 0; i < STALLED; i++)
    WAIT(reader[i].received == PEER_WINDOW);
  echo_size(BIG_SIZE / 4, 0);
  uint64_t stalled_total = 0;
  for (int i = 0; i < STALLED; i++) {
    assert_int_equal(reader[i].received, PEER_WINDOW);
    assert_int_equal(reader[i].closes, 0);
    stalled_total += sender[i].sent;
    peer_unstall(&reader[i]);
    sender[i].to_send = sender[i].sent; /* enough */
    dstream_stream_close(sender[i].stream);
  }
  assert_true(stalled_total < STALLED * size);
  for (int i = 0; i < STALLED; i++) {
    WAIT_MS(sender[i].closes == 1 && reader[i].closes == 1, 60000);
    assert_peer_ended(&sender[i], true, DSTREAM_OK, NULL);
    assert_peer_ended(&reader[i], true, DSTREAM_ECLOSED, NULL);
    assert_same_bytes(&sender[i], &reader[i]);
    peer_clear(&sender[i]);
    peer_clear(&reader[i]);
  }
}

/* What the system keeps for the process is not counted: it is to keep little.
 */
static void shrink_send_buffers(void) {
  int size = 8192;
  for (int fd = 3; fd < 512; fd++)
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* Of a stream that stalls the sender holds its queue, the hub another, each of
 * 112 KB, and what was read beyond them is little. */
static void test_memory_of_stalled_streams(void **state) {
  (void)state;
  static struct peer sender[STALLED];
  static struct peer reader[STALLED];
  static struct ticket t[STALLED];
  for (int i = 0; i < STALLED; i++) {
    announce(&t[i]);
    peer_init(&sender[i], PEER_SENDER, 1, 0);
    peer_init(&reader[i], PEER_SENDER, 0, 1);
    sender[i].piece = i % 2 == 0 ? 0 : 64;
    reader[i].stalled = true;
    dial(&reader[i], &t[i], DEVICE);
    dial(&sender[i], &t[i], SERVICE);
    wait_done(&reader[i]);
  }
  shrink_send_buffers();
  uint64_t before = resident_bytes(getpid());
  for (int i = 0; i < STALLED; i++)
    peer_send_more(&sender[i], 64u << 20);
  for (int i = 0; i < STALLED; i++)
    WAIT_MS(reader[i].received == PEER_WINDOW, 60000);
  for (int i = 0; i < STALLED; i++)
    wait_still(&sender[i].sent, 50);
  size_t each = (size_t)(resident_bytes(getpid()) - before) / STALLED;
  print_message("%zu KB each\n", each / 1024);
  if (!TEST_SANITIZED)
    assert_in_range(each, 112 * 1024, MEMORY_MAX);
  for (int i = 0; i < STALLED; i++) {
    dstream_stream_abort(reader[i].stream);
    WAIT(sender[i].closes == 1 && reader[i].closes == 1);
    peer_clear(&sender[i]);
    peer_clear(&reader[i]);
  }
}

/* Everything written before a close arrives, however much the pipe holds. */
static void test_close_delivers_what_was_written(void **state) {
  (void)state;
  struct ticket t;
  struct peer sender;
  struct peer reader;
  announce(&t);
  peer_init(&sender, PEER_SENDER, 64u << 20, 0);
  peer_init(&reader, PEER_SENDER, 0, 0);
  reader.stalled = true;
  dial(&reader, &t, DEVICE);
  dial(&sender, &t, SERVICE);
  WAIT(sender.sent > PEER_WINDOW);
  wait_still(&sender.sent, 200);
  sender.to_send = sender.sent;
  dstream_stream_close(sender.stream);
  peer_unstall(&reader);
  WAIT(sender.closes == 1 && reader.closes == 1);
  assert_peer_ended(&sender, true, DSTREAM_OK, NULL);
  assert_peer_ended(&reader, true, DSTREAM_ECLOSED, NULL);
  assert_same_bytes(&sender, &reader);
  peer_clear(&sender);
  peer_clear(&reader);
}

/* ---- ends beside a receiver that stalls for longer than a close waits ---- */

/* Silence for two keepalives is the end: a busy machine must not cause it. */
#define SLOWER      (TEST_SANITIZED ? 2 : 1)
#define ALIVE_MS    (100 * SLOWER)
#define PATIENCE_MS (300 * SLOWER)
#define STALL_MS    1300

static const struct dstream_stream_options impatient = {
    .size = sizeof impatient,
    .keepalive_ms = ALIVE_MS,
    .close_timeout_ms = PATIENCE_MS};

static int start_impatient(void **state) {
  (void)state;
  static const struct gateway_options options = {
      .keepalive_ms = ALIVE_MS, .close_timeout_ms = PATIENCE_MS};
  start_with(&options);
  return 0;
}

static void dial_impatient(struct peer *peer, const struct ticket *t, int side,
                           bool eof) {
  struct dialling how = {.path = t->path[side],
                         .token = t->token[side],
                         .eof = eof,
                         .options = &impatient};
  dial_with(peer, &how);
}

static void step_for(uint64_t ms) {
  uint64_t until_ms = test_now_ms() + ms;
  while (test_now_ms() < until_ms)
    assert_int_equal(dstream_loop_step(test_loop, 20), 0);
}

static void stall_beyond_close(int sender_side, bool eof) {
  struct ticket t;
  struct peer sender;
  struct peer reader;
  announce_with(&t, eof, 15000);
  peer_init(&sender, PEER_SENDER, 64u << 20, 0);
  peer_init(&reader, PEER_SENDER, 0, 0);
  reader.stalled = true;
  reader.eof_when_sent = eof;
  dial_impatient(&reader, &t, !sender_side, eof);
  dial_impatient(&sender, &t, sender_side, eof);
  WAIT(sender.sent > PEER_WINDOW);
  wait_still(&sender.sent, 200);
  sender.to_send = sender.sent;
  if (eof)
    assert_int_equal(dstream_stream_shutdown_write(sender.stream), 0);
  else
    dstream_stream_close(sender.stream);
  step_for(STALL_MS);
  assert_int_equal(reader.received, PEER_WINDOW);
  assert_int_equal(reader.closes, 0);
  peer_unstall(&reader);
  WAIT(sender.closes == 1 && reader.closes == 1);
  assert_same_bytes(&sender, &reader);
  if (!eof)
    assert_peer_ended(&sender, true, DSTREAM_OK, NULL);
  assert_peer_over(&sender, true);
  assert_peer_over(&reader, true);
  assert_true(reader.end.ws_code == 1000);
  WAIT(gateway_count(world.gateway) == 0);
  peer_clear(&sender);
  peer_clear(&reader);
}

static void test_stall_beyond_the_close_timeout(void **state) {
  (void)state;
  stall_beyond_close(DEVICE, false);
  stall_beyond_close(SERVICE, false);
  stall_beyond_close(DEVICE, true);
  stall_beyond_close(SERVICE, true);
}

/* The same, with peers that know neither pings nor Close. */
struct plain_script {
  const struct ticket *ticket;
  unsigned port;
  int side;
  bool gone; /* closes the socket at once, too */
  atomic_int sent;
  atomic_int go_on;
  uint64_t received;
};

#define PLAIN_BYTES 400000

static bool plain_join(struct raw *raw, const struct plain_script *s) {
  NEED(raw, raw_connect(raw, "localhost", (uint16_t)s->port, world.ca));
  NEED(raw, raw_upgrade(raw, "localhost", s->ticket->path[s->side],
                        s->ticket->token[s->side], NULL, 0) == 101);
  return true;
}

static bool plain_sender(struct raw *raw, void *arg) {
  static const uint8_t bytes[PLAIN_BYTES];
  struct plain_script *s = arg;
  if (!plain_join(raw, s))
    return false;
  NEED(raw, raw_send_frame(raw, 0x82, bytes, sizeof bytes));
  raw_fin(raw);
  if (s->gone)
    raw_close(raw);
  atomic_store(&s->sent, 1);
  NEED(raw, s->gone || raw_wait_end(raw));
  return true;
}

static void plain_end_beside_stalled_reader(int side, bool gone) {
  struct ticket t;
  struct peer reader;
  announce(&t);
  peer_init(&reader, PEER_SENDER, 0, 0);
  reader.stalled = true;
  dial_impatient(&reader, &t, !side, false);
  struct plain_script s = {.ticket = &t,
                           .port = front_https_port(world.front),
                           .side = side,
                           .gone = gone};
  struct script *script = script_start(plain_sender, &s);
  WAIT(atomic_load(&s.sent) == 1);
  step_for(STALL_MS);
  assert_int_equal(reader.received, PEER_WINDOW);
  assert_int_equal(reader.closes, 0);
  peer_unstall(&reader);
  WAIT(reader.closes == 1);
  assert_peer_ended(&reader, true, DSTREAM_ECLOSED, NULL);
  assert_int_equal(reader.end.ws_code, 1000);
  assert_int_equal(reader.received, PLAIN_BYTES);
  script_end(script);
  WAIT(gateway_count(world.gateway) == 0);
  peer_clear(&reader);
}

static void test_plain_end_beside_a_stalled_reader(void **state) {
  (void)state;
  for (int side = 0; side < 2; side++) {
    plain_end_beside_stalled_reader(side, false);
    plain_end_beside_stalled_reader(side, true);
  }
}

static bool plain_reader(struct raw *raw, void *arg) {
  struct plain_script *s = arg;
  struct raw_frame *frame = malloc(sizeof *frame);
  NEED(raw, frame != NULL);
  bool ok = plain_join(raw, s);
  atomic_store(&s->sent, 1);
  ok = ok && script_await(&s->go_on, 1);
  while (ok && (ok = raw_read_frame(raw, frame)) && frame->first != 0x88) {
    if (frame->first == 0x82)
      s->received += frame->len;
  }
  bool normal = ok && frame->len == 2 && frame->payload[1] == 0xe8;
  free(frame);
  NEED(raw, normal);
  return raw_finish(raw);
}

/* All ends of all connections are in this process: the system is to hold little
 * on them. */
static void shrink_sockets(void) {
  int size = 32768;
  for (int fd = 3; fd < 256; fd++) {
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0)
      setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  }
}

/* bytes: 0: as much as there is room for.  Returns how much was sent. */
static uint64_t plain_reader_stalls(int side, uint64_t bytes) {
  struct ticket t;
  struct peer sender;
  announce(&t);
  struct plain_script s = {
      .ticket = &t, .port = front_https_port(world.front), .side = side};
  struct script *script = script_start(plain_reader, &s);
  peer_init(&sender, PEER_SENDER, 1, 0);
  dial_impatient(&sender, &t, !side, false);
  WAIT(sender.sent == 1);
  WAIT(atomic_load(&s.sent) == 1);
  shrink_sockets();
  peer_send_more(&sender, bytes == 0 ? 64u << 20 : bytes - 1);
  WAIT(sender.sent > PEER_WINDOW);
  wait_still(&sender.sent, 100);
  sender.to_send = sender.sent;
  uint64_t sent = sender.sent;
  dstream_stream_close(sender.stream);
  step_for(STALL_MS / 2);
  atomic_store(&s.go_on, 1);
  WAIT(sender.closes == 1);
  script_end(script);
  assert_int_equal(s.received, sent);
  assert_peer_ended(&sender, true, DSTREAM_OK, NULL);
  WAIT(gateway_count(world.gateway) == 0);
  peer_clear(&sender);
  return sent;
}

/* Of so many sizes some leave the last bytes, and the Close, in the hub's own
 * queue, others in the sender's. */
static void test_plain_reader_that_stalls(void **state) {
  (void)state;
  uint64_t most = plain_reader_stalls(DEVICE, 0);
  assert_true(most < 3u << 20);
  plain_reader_stalls(SERVICE, 0);
  for (uint64_t less = 65536; less < most - 2 * PEER_WINDOW;
       less += SLOWER * 131072)
    plain_reader_stalls(less / 131072 % 2 ? DEVICE : SERVICE, most - less);
}

/* The other side is told although it neither reads nor writes. */
static void test_abort_beside_a_stalled_side(void **state) {
  (void)state;
  struct ticket t;
  struct peer sender;
  struct peer reader;
  announce(&t);
  peer_init(&sender, PEER_SENDER, 64u << 20, 0);
  peer_init(&reader, PEER_SENDER, 0, 0);
  reader.stalled = true;
  dial(&reader, &t, DEVICE);
  dial(&sender, &t, SERVICE);
  WAIT(sender.sent > PEER_WINDOW);
  wait_still(&sender.sent, 200);
  dstream_stream_abort(reader.stream);
  uint64_t begin_ms = test_now_ms();
  WAIT(sender.closes == 1 && reader.closes == 1);
  assert_true(test_now_ms() - begin_ms < 1000);
  assert_peer_ended(&reader, true, DSTREAM_OK, NULL);
  assert_peer_over(&sender, true);
  WAIT(gateway_count(world.gateway) == 0);
  peer_clear(&sender);
  peer_clear(&reader);
}

/* Both directions are full, as the echo reads no more than it can write: what
 * the reset side had sent waits for the echo, and that one for the hub. */
static void test_reset_beside_an_echo(void **state) {
  (void)state;
  struct ticket t;
  struct peer sender;
  struct peer echo;
  announce(&t);
  peer_init(&sender, PEER_SENDER, 64u << 20, 0);
  peer_init(&echo, PEER_ECHO, 0, 0);
  sender.stalled = true;
  dial(&echo, &t, DEVICE);
  dial(&sender, &t, SERVICE);
  WAIT(sender.sent > PEER_WINDOW);
  wait_still(&sender.sent, 200);
  assert_true(sender.sent < 64u << 20);
  dstream_stream_abort(sender.stream);
  uint64_t begin_ms = test_now_ms();
  WAIT(sender.closes == 1 && echo.closes == 1);
  assert_true(test_now_ms() - begin_ms < 5000);
  assert_peer_over(&echo, true);
  WAIT(gateway_count(world.gateway) == 0);
  peer_clear(&sender);
  peer_clear(&echo);
}

/* ---- half-close ---- */

static void half_close(int first_side) {
  struct ticket t;
  struct peer first;
  struct peer echo;
  announce_with(&t, true, 15000);
  peer_init(&first, PEER_SENDER, 300000, 300000);
  peer_init(&echo, PEER_ECHO, 0, 0);
  first.eof_when_sent = true;
  echo.eof_back = true;
  struct dialling how = {
      .path = t.path[first_side], .token = t.token[first_side], .eof = true};
  dial_with(&first, &how);
  how.path = t.path[!first_side];
  how.token = t.token[!first_side];
  dial_with(&echo, &how);
  WAIT(first.closes == 1 && echo.closes == 1);
  assert_true(first.has_eof && echo.has_eof);
  assert_int_equal(first.eofs, 1);
  assert_int_equal(echo.eofs, 1);
  assert_peer_over(&first, true);
  assert_peer_over(&echo, true);
  assert_same_bytes(&first, &echo);
  assert_same_bytes(&echo, &first);
  WAIT(gateway_count(world.gateway) == 0);
  peer_clear(&first);
  peer_clear(&echo);
}

static void test_half_close_from_each_side(void **state) {
  (void)state;
  half_close(DEVICE);
  half_close(SERVICE);
}

/* The first side ends its direction, without a byte, before the other comes. */
static void early_half_close(int first_side) {
  struct ticket t;
  struct peer first;
  struct peer second;
  announce_with(&t, true, 15000);
  peer_init(&first, PEER_SENDER, 0, 1000);
  peer_init(&second, PEER_SENDER, 1000, 0);
  first.eof_when_sent = second.eof_when_sent = true;
  struct dialling how = {
      .path = t.path[first_side], .token = t.token[first_side], .eof = true};
  dial_with(&first, &how);
  wait_open(&first);
  wait_still(&first.sent, 50);
  how.path = t.path[!first_side];
  how.token = t.token[!first_side];
  dial_with(&second, &how);
  WAIT(second.eofs == 1);
  WAIT(first.closes == 1 && second.closes == 1);
  assert_peer_over(&first, true);
  assert_peer_over(&second, true);
  assert_int_equal(first.eofs + second.eofs, 2);
  assert_same_bytes(&second, &first);
  WAIT(gateway_count(world.gateway) == 0);
  peer_clear(&first);
  peer_clear(&second);
}

static void test_half_close_before_the_other_side_comes(void **state) {
  (void)state;
  early_half_close(DEVICE);
  early_half_close(SERVICE);
}

static void test_half_close_from_both_sides_at_once(void **state) {
  (void)state;
  struct ticket t;
  struct peer a;
  struct peer b;
  announce_with(&t, true, 15000);
  peer_init(&a, PEER_SENDER, 200000, 0);
  peer_init(&b, PEER_SENDER, 100000, 0);
  a.eof_when_sent = b.eof_when_sent = true;
  struct dialling how = {.path = t.path[0], .token = t.token[0], .eof = true};
  dial_with(&a, &how);
  how = (struct dialling){t.path[1], t.token[1], true, NULL};
  dial_with(&b, &how);
  WAIT(a.closes == 1 && b.closes == 1);
  assert_peer_over(&a, true);
  assert_peer_over(&b, true);
  assert_int_equal(a.eofs + b.eofs, 2);
  assert_same_bytes(&a, &b);
  assert_same_bytes(&b, &a);
  peer_clear(&a);
  peer_clear(&b);
}

/* A direction that has ended is not closed by what comes later. */
static void test_half_open_streams_last(void **state) {
  (void)state;
  struct ticket t;
  struct peer a;
  struct peer b;
  announce_with(&t, true, 15000);
  peer_init(&a, PEER_SENDER, 10, 0);
  peer_init(&b, PEER_SENDER, 0, 10);
  a.eof_when_sent = true;
  struct dialling how = {.path = t.path[0], .token = t.token[0], .eof = true};
  dial_with(&a, &how);
  how = (struct dialling){t.path[1], t.token[1], true, NULL};
  dial_with(&b, &how);
  WAIT(b.eofs == 1);
  for (int i = 1; i <= 20; i++) {
    peer_send_more(&b, 1000);
    WAIT(a.received == (uint64_t)i * 1000);
  }
  assert_int_equal(dstream_stream_write(a.stream, "x", 1), DSTREAM_ESTATE);
  assert_int_equal(a.closes + b.closes, 0);
  dstream_stream_close(b.stream);
  WAIT(a.closes == 1 && b.closes == 1);
  assert_same_bytes(&b, &a);
  peer_clear(&a);
  peer_clear(&b);
}

/* Without the capability the end of a direction is the end. */
static void test_shutdown_without_the_capability_closes(void **state) {
  (void)state;
  struct ticket t;
  struct peer a;
  struct peer b;
  announce(&t);
  peer_init(&a, PEER_SENDER, 1000, 0);
  peer_init(&b, PEER_SENDER, 0, 1000);
  a.eof_when_sent = true;
  dial(&a, &t, DEVICE);
  dial(&b, &t, SERVICE);
  WAIT(a.closes == 1 && b.closes == 1);
  assert_false(a.has_eof || b.has_eof);
  assert_int_equal(a.eofs + b.eofs, 0);
  assert_same_bytes(&a, &b);
  peer_clear(&a);
  peer_clear(&b);
}

/* ---- the hub ends ---- */

static void test_shutdown_of_the_hub(void **state) {
  (void)state;
  struct ticket t[3];
  struct peer device[3];
  struct peer service[3];
  for (int i = 0; i < 3; i++) {
    announce(&t[i]);
    peer_init(&device[i], PEER_ECHO, 0, 0);
    peer_init(&service[i], PEER_SENDER, 1000, 1000);
    dial(&service[i], &t[i], SERVICE);
    if (i < 2) /* the third waits for its device */
      dial(&device[i], &t[i], DEVICE);
  }
  wait_done(&service[0]);
  wait_done(&service[1]);
  wait_open(&service[2]);
  gateway_shutdown(world.gateway);
  WAIT(gateway_count(world.gateway) == 0);
  for (int i = 0; i < 3; i++) {
    WAIT(service[i].closes == 1);
    assert_peer_ended(&service[i], true, DSTREAM_ECLOSED, NULL);
    assert_int_equal(service[i].end.ws_code, 1001);
    if (i < 2) {
      WAIT(device[i].closes == 1);
      assert_int_equal(device[i].end.ws_code, 1001);
    }
    peer_clear(&service[i]);
    peer_clear(&device[i]);
  }
}

/* Freeing everything in the middle of it leaves nothing, and each side still
 * gets its on_close. */
static void test_free_in_the_middle(void **state) {
  (void)state;
  struct ticket t[2];
  struct peer device;
  struct peer service[2];
  announce(&t[0]);
  announce(&t[1]);
  peer_init(&device, PEER_SENDER, 64u << 20, 0);
  peer_init(&service[0], PEER_SENDER, 64u << 20, 0);
  peer_init(&service[1], PEER_SENDER, 64u << 20, 0);
  dial(&device, &t[0], DEVICE);
  dial(&service[0], &t[0], SERVICE);
  dial(&service[1], &t[1], SERVICE);
  WAIT(device.received > 100000 && service[1].sent > 0);
  free_world();
  WAIT(device.closes == 1 && service[0].closes == 1 && service[1].closes == 1);
  assert_peer_over(&device, true);
  assert_peer_over(&service[0], true);
  assert_peer_over(&service[1], true);
  peer_clear(&device);
  peer_clear(&service[0]);
  peer_clear(&service[1]);
}

static void test_owner_goes_away(void **state) {
  (void)state;
  struct ticket t;
  struct peer device;
  struct peer service;
  announce(&t);
  peer_init(&device, PEER_ECHO, 0, 0);
  peer_init(&service, PEER_SENDER, 1000, 1000);
  dial(&device, &t, DEVICE);
  dial(&service, &t, SERVICE);
  wait_done(&service);
  stream_destroy(service.stream);
  assert_peer_ended(&service, true, DSTREAM_ECANCELED, NULL);
  WAIT(device.closes == 1);
  assert_peer_over(&device, true);
  peer_clear(&device);
  peer_clear(&service);
}

/* ---- limits ---- */

static int start_limited(void **state) {
  (void)state;
  static const struct gateway_options options = {.max_streams = 2,
                                                 .keepalive_ms = 200,
                                                 .idle_ms = 300,
                                                 .lifetime_ms = 900};
  start_with(&options);
  return 0;
}

static void test_limits(void **state) {
  (void)state;
  struct ticket t[2];
  struct ticket extra;
  struct peer device[2];
  struct peer service[2];
  for (int i = 0; i < 2; i++) {
    announce(&t[i]);
    peer_init(&device[i], PEER_ECHO, 0, 0);
    peer_init(&service[i], PEER_SENDER, 100, 100);
    dial(&device[i], &t[i], DEVICE);
    dial(&service[i], &t[i], SERVICE);
  }
  make_ticket(&extra, 60);
  struct gateway_stream stream = {.stream_id = extra.id,
                                  .device_id = "dev1",
                                  .stream_name = "echo",
                                  .device_jti = extra.claims[DEVICE].jti,
                                  .service_jti = extra.claims[SERVICE].jti,
                                  .deadline_ms = loop_now_ms() + 1000};
  assert_int_equal(gateway_expect(world.gateway, &stream), DSTREAM_ELIMIT);
  wait_done(&service[0]);
  wait_done(&service[1]);
  /* 0 talks on until its lifetime is over, 1 is idle, pings or not */
  while (service[0].closes == 0) {
    uint64_t next = service[0].received + 10;
    peer_send_more(&service[0], 10);
    WAIT(service[0].received >= next || service[0].closes == 1);
  }
  assert_int_equal(service[1].closes, 1);
  assert_peer_ended(&service[0], true, DSTREAM_ECLOSED, "time limit");
  assert_peer_ended(&service[1], true, DSTREAM_ECLOSED, "idle");
  assert_int_equal(service[1].end.ws_code, 1008);
  WAIT(device[0].closes == 1 && device[1].closes == 1);
  for (int i = 0; i < 2; i++) {
    peer_clear(&device[i]);
    peer_clear(&service[i]);
  }
}

static int start_keepalive(void **state) {
  (void)state;
  static const struct gateway_options options = {.keepalive_ms = 100};
  start_with(&options);
  return 0;
}

struct silent {
  struct ticket *ticket;
  unsigned port;
  bool answer_first;
  atomic_int ended;
};

static bool go_silent(struct raw *raw, void *arg) {
  struct silent *s = arg;
  struct raw_frame *frame = malloc(sizeof *frame);
  NEED(raw, frame != NULL);
  bool ok = raw_connect(raw, "localhost", (uint16_t)s->port, world.ca) &&
            raw_upgrade(raw, "localhost", s->ticket->path[DEVICE],
                        s->ticket->token[DEVICE], NULL, 0) == 101 &&
            raw_read_frame(raw, frame) && frame->first == 0x89 &&
            (!s->answer_first ||
             raw_send_frame(raw, 0x8a, frame->payload, (size_t)frame->len));
  free(frame);
  NEED(raw, ok);
  NEED(raw, script_await(&s->ended, 1));
  return true;
}

/* A side that answered pings and goes silent is given up; one that never
 * answers any is left alone (RFC 6455 asks for pongs, endpoints forget). */
static void test_silence(void **state) {
  (void)state;
  for (int answers = 0; answers < 2; answers++) {
    struct ticket t;
    struct peer service;
    announce(&t);
    struct silent s = {&t, front_https_port(world.front), answers, 0};
    peer_init(&service, PEER_SENDER, 0, 0);
    dial(&service, &t, SERVICE);
    struct script *script = script_start(go_silent, &s);
    uint64_t begin_ms = test_now_ms();
    WAIT(service.closes == 1 || test_now_ms() - begin_ms > 1000);
    if (answers) {
      assert_peer_ended(&service, true, DSTREAM_ECLOSED, "WS disconnected");
    } else {
      assert_int_equal(service.closes, 0);
      dstream_stream_close(service.stream);
    }
    WAIT(service.closes == 1);
    atomic_store(&s.ended, 1);
    script_end(script);
    WAIT(gateway_count(world.gateway) == 0);
    peer_clear(&service);
  }
}

/* ---- group ---- */

static int remove_one(const char *path, const struct stat *info, int type,
                      struct FTW *ftw) {
  (void)info;
  (void)type;
  (void)ftw;
  return remove(path);
}

static int group_setup(void **state) {
  (void)state;
  struct dstream_end error;
  test_loop_start_on(world.backend); /* libuv keeps two descriptors for good */
  test_loop_end();
  snprintf(world.folder, sizeof world.folder, "/tmp/dstream-gateway-XXXXXX");
  if (mkdtemp(world.folder) == NULL ||
      crypto_random(world.key, sizeof world.key) != 0)
    return -1;
  int folder = open(world.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int status = certificate_create(folder, "localhost", &error);
  close(folder);
  snprintf(world.cert, sizeof world.cert, "%s/server.pem", world.folder);
  snprintf(world.key_file, sizeof world.key_file, "%s/server-key.pem",
           world.folder);
  snprintf(world.ca, sizeof world.ca, "%s/ca.pem", world.folder);
  return status;
}

static int group_teardown(void **state) {
  (void)state;
  nftw(world.folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
  return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_echo_of_every_size),
      TEST(test_echo_in_small_pieces),
      TEST(test_echo_of_64_megabytes),
      TEST(test_both_ways_at_once),
      TEST(test_200_streams_at_once),
      TEST(test_early_bytes_of_the_service_are_kept),
      TEST(test_early_bytes_of_the_device_are_kept),
      TEST(test_frames_behind_the_request_head),
      TEST(test_token_used_twice),
      TEST(test_wrong_tokens),
      TEST(test_missing_token_and_wrong_requests),
      TEST(test_the_other_side_never_comes),
      TEST(test_forget_and_kill),
      TEST(test_streams_by_device),
      TEST(test_ends_of_every_kind),
      TEST(test_frames_of_every_kind),
      TEST(test_small_writes_share_records),
      TEST(test_a_frame_of_one_megabyte),
      TEST(test_wrong_frames_are_refused),
      TEST(test_a_reader_that_stalls),
      TEST(test_small_buffers),
      TEST(test_50_stalled_streams_beside_one_that_runs),
      TEST(test_memory_of_stalled_streams),
      TEST(test_close_delivers_what_was_written),
      TEST(test_abort_beside_a_stalled_side),
      TEST(test_reset_beside_an_echo),
      TEST(test_half_close_from_each_side),
      TEST(test_half_close_before_the_other_side_comes),
      TEST(test_half_close_from_both_sides_at_once),
      TEST(test_half_open_streams_last),
      TEST(test_shutdown_without_the_capability_closes),
      TEST(test_shutdown_of_the_hub),
      TEST(test_free_in_the_middle),
      TEST(test_owner_goes_away),
      cmocka_unit_test_setup_teardown(test_stall_beyond_the_close_timeout,
                                      start_impatient, stop),
      cmocka_unit_test_setup_teardown(test_plain_end_beside_a_stalled_reader,
                                      start_impatient, stop),
      cmocka_unit_test_setup_teardown(test_plain_reader_that_stalls,
                                      start_impatient, stop),
      cmocka_unit_test_setup_teardown(test_limits, start_limited, stop),
      cmocka_unit_test_setup_teardown(test_silence, start_keepalive, stop),
  };
  test_choose();
  world.backend = loop_uv_backend(); /* as the hub runs */
  int failed = cmocka_run_group_tests_name("gateway on libuv", tests,
                                           group_setup, group_teardown);
  world.backend = NULL; /* as most programs run */
  return failed + cmocka_run_group_tests_name("gateway on poll", tests,
                                              group_setup, group_teardown);
}
