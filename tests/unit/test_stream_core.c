/* Two cores back to back, and one core against frames made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/stream_core.h"

#define WIRE_MAX (2u << 20)

/* One end, with the bytes that are on their way to it and what it told. */
struct side {
  struct stream_core core;
  uint8_t wire[WIRE_MAX];
  size_t wire_len;
  uint8_t got[WIRE_MAX];
  size_t got_len;
  size_t max_data;
  size_t largest; /* data told at once */
  int opened, ended, closed;
  bool accepted; /* server: has its core */
};

struct pair {
  struct side client, server;
  struct stream_core_options options;
  const char *subprotocol;
  uint64_t now_ms;
  uint32_t seed;
};

static uint32_t next_random(uint32_t *seed) {
  *seed ^= *seed << 13;
  *seed ^= *seed >> 17;
  *seed ^= *seed << 5;
  return *seed;
}

static void note(struct side *side, enum stream_event event,
                 const struct stream_data *data) {
  assert_int_equal(side->closed, 0); /* CLOSED is the last word */
  switch (event) {
  case STREAM_EV_NONE:
    break;
  case STREAM_EV_OPEN:
    side->opened++;
    break;
  case STREAM_EV_DATA:
    assert_true(data->len > 0);
    assert_true(side->got_len + data->len <= sizeof side->got);
    memcpy(side->got + side->got_len, data->p, data->len);
    side->got_len += data->len;
    if (data->len > side->largest)
      side->largest = data->len;
    break;
  case STREAM_EV_EOF:
    side->ended++;
    break;
  case STREAM_EV_CLOSED:
    side->closed++;
    break;
  }
}

/* Feeds bytes from memory that ends where they end; returns how many were
 * used. */
static size_t feed(struct side *side, const void *bytes, size_t len,
                   uint64_t now_ms) {
  uint8_t *copy = malloc(len > 0 ? len : 1);
  assert_non_null(copy);
  memcpy(copy, bytes, len);
  size_t at = 0;
  for (;;) {
    struct stream_data data;
    size_t used;
    enum stream_event event = stream_core_feed(
        &side->core, copy + at, len - at, side->max_data, &used, &data, now_ms);
    assert_true(used <= len - at);
    if (event == STREAM_EV_DATA) {
      assert_true(data.len <= side->max_data);
      assert_true(data.p >= copy + at && data.p + data.len == copy + at + used);
    }
    at += used;
    if (event == STREAM_EV_NONE)
      break;
    note(side, event, &data);
  }
  assert_true(at == len || side->max_data == 0);
  free(copy);
  return at;
}

static void accept_request(struct pair *pair) {
  struct side *server = &pair->server;
  struct http_head head;
  int rc = http_head_parse_request(&head, (const char *)server->wire,
                                   server->wire_len);
  if (rc == DSTREAM_EAGAIN)
    return;
  assert_int_equal(rc, 0);
  int http_status = 0;
  rc = stream_core_accept(&server->core, &pair->options, &head,
                          pair->subprotocol, &http_status, pair->now_ms);
  assert_int_equal(rc, 0);
  server->accepted = true;
  server->wire_len -= head.length;
  memmove(server->wire, server->wire + head.length, server->wire_len);
}

static void deliver(struct pair *pair, struct side *side, size_t step) {
  if (side->core.server && !side->accepted) {
    accept_request(pair);
    return;
  }
  size_t n = step < side->wire_len ? step : side->wire_len;
  n = feed(side, side->wire, n, pair->now_ms);
  side->wire_len -= n;
  memmove(side->wire, side->wire + n, side->wire_len);
}

static void flush(struct side *from, struct side *to, size_t step) {
  if (from->core.server && !from->accepted)
    return;
  while (stream_core_has_output(&from->core)) {
    size_t room = sizeof to->wire - to->wire_len;
    size_t n = stream_core_pull(&from->core, to->wire + to->wire_len,
                                step < room ? step : room);
    assert_true(n > 0 && n <= step);
    to->wire_len += n;
  }
  assert_int_equal(stream_core_pull(&from->core, to->wire, 1), 0);
}

/* Moves bytes until nothing moves any more; step 0 takes random ones. */
static void run(struct pair *pair, size_t step) {
  size_t before;
  do {
    size_t n = step > 0 ? step : 1 + next_random(&pair->seed) % 3000;
    flush(&pair->client, &pair->server, n);
    flush(&pair->server, &pair->client, n);
    before = pair->client.wire_len + pair->server.wire_len;
    if (pair->client.wire_len > 0)
      deliver(pair, &pair->client, n);
    if (pair->server.wire_len > 0)
      deliver(pair, &pair->server, n);
  } while (
      pair->client.wire_len + pair->server.wire_len != before ||
      stream_core_has_output(&pair->client.core) ||
      (pair->server.accepted && stream_core_has_output(&pair->server.core)));
}

static void send_all(struct side *from, struct side *to, const uint8_t *data,
                     size_t len, size_t size) {
  flush(from, to, size);
  while (len > 0) {
    size_t room = sizeof to->wire - to->wire_len;
    size_t taken;
    assert_true(room > STREAM_FRAME_HEADER_MAX);
    size_t n =
        stream_core_frame(&from->core, data, len, to->wire + to->wire_len,
                          size < room ? size : room, &taken);
    assert_true(n <= size && taken > 0 && taken < n);
    to->wire_len += n;
    data += taken;
    len -= taken;
  }
}

static struct pair *new_pair(const struct stream_core_options *options) {
  static const struct stream_core_options defaults = {
      .host = "gateway:443", .path = "/bridges/x", .token = "a.b.c"};
  struct pair *pair = calloc(1, sizeof *pair);
  assert_non_null(pair);
  pair->options = options != NULL ? *options : defaults;
  pair->options.host = defaults.host;
  pair->options.path = defaults.path;
  pair->options.token = defaults.token;
  pair->client.max_data = pair->server.max_data = WIRE_MAX;
  pair->server.core.server = true; /* for deliver, until it is accepted */
  pair->now_ms = 1000;
  pair->seed = 2463534242u;
  assert_int_equal(
      stream_core_connect(&pair->client.core, &pair->options, pair->now_ms), 0);
  assert_int_equal(pair->client.core.state, STREAM_UPGRADING);
  return pair;
}

static struct pair *open_pair(const struct stream_core_options *options) {
  struct pair *pair = new_pair(options);
  run(pair, WIRE_MAX);
  assert_int_equal(pair->client.core.state, STREAM_OPEN);
  assert_int_equal(pair->server.core.state, STREAM_OPEN);
  assert_int_equal(pair->client.opened, 1);
  assert_null(pair->client.core.head);
  assert_null(pair->server.core.head);
  return pair;
}

static void free_pair(struct pair *pair) {
  stream_core_clear(&pair->client.core);
  stream_core_clear(&pair->server.core);
  free(pair);
}

static uint8_t *new_bytes(size_t len, uint32_t seed) {
  uint8_t *bytes = malloc(len);
  assert_non_null(bytes);
  for (size_t i = 0; i < len; i++)
    bytes[i] = (uint8_t)next_random(&seed);
  return bytes;
}

static void assert_got(const struct side *side, const void *bytes, size_t len) {
  assert_int_equal(side->got_len, len);
  assert_memory_equal(side->got, bytes, len);
}

/* Everything that waits, into out; returns the length. */
static size_t pull_all(struct side *side, uint8_t *out, size_t size) {
  size_t n = stream_core_pull(&side->core, out, size);
  assert_false(stream_core_has_output(&side->core));
  return n;
}

static void assert_output(struct side *side, const void *bytes, size_t len) {
  uint8_t out[1024];
  size_t n = pull_all(side, out, sizeof out);
  assert_int_equal(n, len);
  assert_memory_equal(out, bytes, len);
}

#define output_is(side, bytes) assert_output(side, bytes, sizeof(bytes) - 1)
#define feed_text(pair, side, bytes)                                           \
  feed(side, bytes, sizeof(bytes) - 1, (pair)->now_ms)

static void assert_end(const struct side *side, int status, int ws_code) {
  assert_int_equal(side->core.state, STREAM_CLOSED);
  assert_int_equal(side->closed, 1);
  assert_int_equal(side->core.end.status, status);
  assert_int_equal(side->core.end.ws_code, ws_code);
  assert_true(strlen(side->core.end.text) > 10);
  assert_true(stream_core_deadline(&side->core) == STREAM_NEVER);
}

/* ---- whole streams ---- */

static void whole_stream(size_t step, size_t frame_size, bool client_first) {
  static const size_t sizes[] = {1,     125,   126,   127,  16376,
                                 65535, 65536, 65537, 1000, 3};
  struct stream_core_options options = {.eof = true};
  struct pair *pair = new_pair(&options);
  struct side *a = client_first ? &pair->client : &pair->server;
  struct side *b = client_first ? &pair->server : &pair->client;
  uint8_t *bytes = new_bytes(400000, 7);
  size_t sent = 0;
  run(pair, step);
  assert_int_equal(pair->client.opened, 1);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    send_all(a, b, bytes + sent, sizes[i], frame_size);
    send_all(b, a, bytes + sent, sizes[i], frame_size);
    sent += sizes[i];
    run(pair, step);
  }
  assert_int_equal(stream_core_shutdown(&a->core, pair->now_ms), 0);
  run(pair, step);
  assert_int_equal(a->ended, 0);
  assert_int_equal(b->ended, 1);
  assert_int_equal(a->core.state, STREAM_OPEN);
  send_all(b, a, bytes + sent, 5000, frame_size);
  size_t taken;
  uint8_t out[64];
  assert_int_equal(stream_core_frame(&a->core, "x", 1, out, sizeof out, &taken),
                   0);
  assert_int_equal(taken, 0);
  assert_int_equal(stream_core_shutdown(&b->core, pair->now_ms), 0);
  run(pair, step);
  assert_got(b, bytes, sent);
  assert_got(a, bytes, sent + 5000);
  assert_int_equal(a->ended, 1);
  assert_end(a, DSTREAM_OK, 1000);
  assert_end(b, DSTREAM_OK, 1000);
  free(bytes);
  free_pair(pair);
}

static void carries_a_whole_stream(void **state) {
  (void)state;
  static const size_t steps[] = {0, 2, 3, 7, 1000, 4099, 65536, WIRE_MAX};
  static const size_t frames[] = {16384, 1 << 20, 1000, 127};
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    whole_stream(steps[i], frames[i % 4], i % 2 == 0);
    whole_stream(steps[i], frames[(i + 1) % 4], i % 2 != 0);
  }
}

static void carries_a_stream_byte_by_byte(void **state) {
  (void)state;
  struct pair *pair = new_pair(NULL);
  uint8_t *bytes = new_bytes(3000, 9);
  run(pair, 1);
  send_all(&pair->client, &pair->server, bytes, 3000, 700);
  send_all(&pair->server, &pair->client, bytes, 3000, 700);
  run(pair, 1);
  assert_got(&pair->client, bytes, 3000);
  assert_got(&pair->server, bytes, 3000);
  stream_core_close(&pair->server.core, 1001, "bye", pair->now_ms);
  run(pair, 1);
  assert_end(&pair->client, DSTREAM_ECLOSED, 1001);
  assert_end(&pair->server, DSTREAM_OK, 1001);
  free(bytes);
  free_pair(pair);
}

static void takes_frames_right_after_the_101(void **state) {
  (void)state;
  size_t total = 1;
  for (size_t split = 0; split <= total; split++) {
    struct pair *pair = new_pair(NULL);
    flush(&pair->client, &pair->server, WIRE_MAX);
    deliver(pair, &pair->server, WIRE_MAX);
    send_all(&pair->server, &pair->client, (const uint8_t *)"hello", 5, 100);
    total = pair->client.wire_len;
    deliver(pair, &pair->client, split);
    deliver(pair, &pair->client, WIRE_MAX);
    assert_int_equal(pair->client.opened, 1);
    assert_got(&pair->client, "hello", 5);
    free_pair(pair);
  }
  assert_true(total > 130);
}

static void agrees_on_a_subprotocol(void **state) {
  (void)state;
  static const char request[] =
      "GET /$iothub/websocket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
      "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: MQTT\r\n\r\n";
  struct http_head head;
  struct stream_core core;
  struct stream_core_options options = {0};
  int http_status = 0;
  uint8_t out[512];
  assert_int_equal(http_head_parse_request(&head, request, sizeof request - 1),
                   0);
  assert_int_equal(
      stream_core_accept(&core, &options, &head, "mqtt", &http_status, 0), 0);
  size_t n = stream_core_pull(&core, out, sizeof out);
  out[n] = '\0';
  assert_non_null(strstr((char *)out, "Sec-WebSocket-Protocol: MQTT\r\n"));
  assert_non_null(strstr((char *)out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
  stream_core_clear(&core);
  assert_int_equal(
      stream_core_accept(&core, &options, &head, NULL, &http_status, 0), 0);
  n = stream_core_pull(&core, out, sizeof out);
  out[n] = '\0';
  assert_null(strstr((char *)out, "Protocol:"));
  stream_core_clear(&core);
}

static void refuses_a_request(void **state) {
  (void)state;
  static const char request[] = "POST / HTTP/1.1\r\nHost: h\r\n\r\n";
  struct http_head head;
  struct stream_core core;
  struct stream_core_options options = {0};
  int http_status = 0;
  assert_int_equal(http_head_parse_request(&head, request, sizeof request - 1),
                   0);
  assert_int_equal(
      stream_core_accept(&core, &options, &head, NULL, &http_status, 0),
      DSTREAM_EUPGRADE);
  assert_int_equal(http_status, 405);
  stream_core_clear(&core);
}

static void refuses_texts_for_the_request(void **state) {
  (void)state;
  struct stream_core core;
  struct stream_core_options options = {
      .host = "h", .path = "/", .token = "a\r\nb"};
  assert_int_equal(stream_core_connect(&core, &options, 0), DSTREAM_EINVAL);
  assert_null(core.head);
  stream_core_clear(&core);
  static char path[HTTP_HEAD_MAX + 1];
  memset(path, '/', HTTP_HEAD_MAX);
  options.token = "t";
  options.path = path;
  assert_int_equal(stream_core_connect(&core, &options, 0), DSTREAM_EINVAL);
  assert_null(core.head);
}

/* ---- the upgrade goes wrong ---- */

/* A client that sent its request and got `answer` in steps. */
static struct pair *answered(const char *answer, size_t step) {
  struct pair *pair = new_pair(NULL);
  uint8_t out[1024];
  size_t len = strlen(answer);
  pull_all(&pair->client, out, sizeof out);
  for (size_t at = 0; at < len; at += step)
    feed(&pair->client, answer + at, step < len - at ? step : len - at,
         pair->now_ms);
  return pair;
}

static void tells_why_the_upgrade_was_refused(void **state) {
  (void)state;
  static const struct {
    const char *answer;
    int status, http_status;
  } cases[] = {
      {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nbody",
       DSTREAM_EUNAUTHORIZED, 401},
      {"HTTP/1.1 403 No\r\n\r\n", DSTREAM_EUNAUTHORIZED, 403},
      {"HTTP/1.1 429 Slow\r\n\r\n", DSTREAM_ETHROTTLED, 429},
      {"HTTP/1.1 404 Gone\r\n\r\n", DSTREAM_EUPGRADE, 404},
      {"HTTP/1.1 200 OK\r\n\r\n", DSTREAM_EUPGRADE, 200},
      {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
       "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
       DSTREAM_EUPGRADE, 101},
      {"SSH-2.0-OpenSSH_9\r\n", DSTREAM_EUPGRADE, 0},
      {"HTTP/1.1 200 OK\nServer: x\n\n", DSTREAM_EUPGRADE, 0},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n",
       DSTREAM_EUPGRADE, 503},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (size_t step = 1; step < 200; step += 66) {
      struct pair *pair = answered(cases[i].answer, step);
      assert_end(&pair->client, cases[i].status, 0);
      assert_int_equal(pair->client.core.end.http_status, cases[i].http_status);
      assert_int_equal(pair->client.opened, 0);
      assert_null(pair->client.core.head);
      free_pair(pair);
    }
}

static void bounds_the_answer(void **state) {
  (void)state;
  static char answer[HTTP_HEAD_MAX + 10];
  memset(answer, 'x', sizeof answer - 1);
  memcpy(answer, "HTTP/1.1 200 ", 13);
  for (size_t step = 1000; step <= 100000; step *= 10) {
    struct pair *pair = answered(answer, step);
    assert_end(&pair->client, DSTREAM_EUPGRADE, 0);
    free_pair(pair);
  }
}

static void refuses_a_101_before_the_request_left(void **state) {
  (void)state;
  struct pair *pair = new_pair(NULL);
  uint8_t rest[1024];
  size_t n = stream_core_pull(&pair->client.core, pair->server.wire, 1024);
  pair->server.wire_len = n;
  deliver(pair, &pair->server, WIRE_MAX);
  n = stream_core_pull(&pair->server.core, rest, sizeof rest);
  /* as if the last byte of the request were still here */
  pair->client.core.head_sent--;
  feed(&pair->client, rest, n, pair->now_ms);
  assert_end(&pair->client, DSTREAM_EUPGRADE, 0);
  assert_false(stream_core_has_output(&pair->client.core));
  free_pair(pair);
}

static void ends_before_it_is_open(void **state) {
  (void)state;
  struct dstream_end why = {.status = DSTREAM_ETLS,
                            .sys_errno = 5,
                            .text = "the certificate is not good"};
  struct stream_core_options options = {.handshake_timeout_ms = 500};
  struct pair *pair = new_pair(NULL);
  note(&pair->client, stream_core_transport_end(&pair->client.core, NULL),
       NULL);
  assert_end(&pair->client, DSTREAM_EUPGRADE, 0);
  free_pair(pair);

  pair = new_pair(NULL);
  note(&pair->client, stream_core_transport_end(&pair->client.core, &why),
       NULL);
  assert_end(&pair->client, DSTREAM_ETLS, 0);
  assert_int_equal(pair->client.core.end.sys_errno, 5);
  assert_int_equal(stream_core_transport_end(&pair->client.core, &why),
                   STREAM_EV_NONE);
  free_pair(pair);

  pair = new_pair(&options);
  assert_int_equal(stream_core_deadline(&pair->client.core), 1500);
  assert_int_equal(stream_core_tick(&pair->client.core, 1499), STREAM_EV_NONE);
  note(&pair->client, stream_core_tick(&pair->client.core, 1500), NULL);
  assert_end(&pair->client, DSTREAM_ETIMEDOUT, 0);
  assert_false(stream_core_has_output(&pair->client.core));
  free_pair(pair);
}

static void is_canceled_before_it_is_open(void **state) {
  (void)state;
  struct pair *pair = new_pair(NULL);
  stream_core_close(&pair->client.core, 1000, NULL, 2000);
  assert_int_equal(pair->client.core.state, STREAM_CLOSED);
  assert_false(stream_core_has_output(&pair->client.core));
  assert_int_equal(stream_core_deadline(&pair->client.core), 0);
  feed_text(pair, &pair->client, "HTTP/1.1 200 OK\r\n\r\n");
  assert_int_equal(stream_core_transport_end(&pair->client.core, NULL),
                   STREAM_EV_NONE);
  note(&pair->client, stream_core_tick(&pair->client.core, 2000), NULL);
  assert_end(&pair->client, DSTREAM_ECANCELED, 0);
  assert_int_equal(stream_core_tick(&pair->client.core, 9000), STREAM_EV_NONE);
  free_pair(pair);
}

/* ---- frames out ---- */

static void frames_fill_the_room_they_get(void **state) {
  (void)state;
  static const struct {
    bool server;
    size_t len, size, taken, total;
  } cases[] = {
      {false, 1 << 20, 16384, 16376, 16384}, /* one TLS record */
      {true, 1 << 20, 16384, 16380, 16384},
      {false, 1 << 20, 1 << 20, 65536, 65550},
      {true, 1 << 20, 1 << 20, 65536, 65546},
      {true, 65535, 65539, 65535, 65539},
      {false, 1 << 20, 15, 9, 15},
      {true, 1 << 20, 15, 13, 15},
      {true, 5, 15, 5, 7},
      {false, 125, 131, 125, 131},
      {true, 125, 127, 125, 127},
      {true, 126, 130, 126, 130},
      {true, 126, 129, 125, 127},
  };
  struct pair *pair = open_pair(NULL);
  uint8_t *data = new_bytes(1 << 20, 5);
  uint8_t *out = malloc(1 << 20);
  assert_non_null(out);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct side *from = cases[i].server ? &pair->server : &pair->client;
    struct side *to = cases[i].server ? &pair->client : &pair->server;
    size_t taken;
    size_t n = stream_core_frame(&from->core, data, cases[i].len, out,
                                 cases[i].size, &taken);
    assert_int_equal(taken, cases[i].taken);
    assert_int_equal(n, cases[i].total);
    assert_int_equal(out[0], 0x82);
    to->got_len = 0;
    feed(to, out, n, pair->now_ms);
    assert_got(to, data, taken);
  }
  free(out);
  free(data);
  free_pair(pair);
}

/* The header goes where the peer's was: what is in front of it stays. */
static void header_before_payload(void **state) {
  (void)state;
  static const size_t lengths[] = {1, 125, 126, 16380, 65535, 65536};
  struct pair *pair = open_pair(NULL);
  struct stream_core *server = &pair->server.core;
  uint8_t *data = new_bytes(STREAM_PAYLOAD_MAX, 6);
  uint8_t *wire = malloc(STREAM_PAYLOAD_MAX + 16);
  assert_non_null(wire);
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    size_t len = lengths[i];
    size_t header = ws_header_size(len, false);
    memset(wire, 0x5a, 16);
    memcpy(wire + 16, data, len);
    assert_int_equal(
        stream_core_frame_before(server, wire + 16, len, header - 1), 0);
    assert_int_equal(
        stream_core_frame_before(&pair->client.core, wire + 16, len, 16), 0);
    assert_int_equal(stream_core_frame_before(server, wire + 16, len, 16),
                     header);
    for (size_t j = 0; j < 16 - header; j++)
      assert_int_equal(wire[j], 0x5a);
    pair->client.got_len = 0;
    feed(&pair->client, wire + 16 - header, header + len, pair->now_ms);
    assert_got(&pair->client, data, len);
  }
  free(wire);
  free(data);
  free_pair(pair);
}

/* What was begun comes first, and after the end of a direction nothing. */
static void no_header_before_payload_now(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  struct stream_core *server = &pair->server.core;
  uint8_t wire[32] = {0};
  uint8_t out[4];
  stream_core_close(&pair->client.core, 1000, NULL, pair->now_ms);
  assert_int_equal(stream_core_frame_before(server, wire + 16, 4, 16), 2);
  stream_core_close(server, 1000, NULL, pair->now_ms);
  assert_int_equal(stream_core_pull(server, out, 1), 1);
  assert_int_equal(stream_core_frame_before(server, wire + 16, 4, 16), 0);
  free_pair(pair);
}

static void masks_differ_from_frame_to_frame(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  uint8_t last[4] = {0};
  for (int i = 0; i < 300; i++) {
    uint8_t out[32];
    size_t taken;
    stream_core_frame(&pair->client.core, "x", 1, out, sizeof out, &taken);
    assert_memory_not_equal(out + 2, last, 4);
    memcpy(last, out + 2, 4);
  }
  free_pair(pair);
}

static void completes_a_begun_frame_before_payload(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  struct side *client = &pair->client;
  feed_text(pair, client,
            "\x89\x7d"
            "0123456789012345678901234567890123456789012345678901"
            "2345678901234567890123456789012345678901234567890123"
            "456789012345678901234");
  uint8_t *wire = pair->server.wire;
  size_t n = stream_core_pull(&client->core, wire, 3);
  assert_int_equal(n, 3);
  size_t taken;
  size_t more =
      stream_core_frame(&client->core, "data", 4, wire + n, 20, &taken);
  assert_int_equal(more, 20); /* the pong still lacks 108 bytes */
  assert_int_equal(taken, 0);
  n += more;
  /* this one is not begun: payload may go first */
  feed_text(pair, client, "\x89\x01z");
  more = stream_core_frame(&client->core, "data", 4, wire + n, 500, &taken);
  assert_int_equal(more, 108 + 6 + 4);
  assert_int_equal(taken, 4);
  pair->server.wire_len = n + more;
  run(pair, WIRE_MAX);
  assert_got(&pair->server, "data", 4);
  assert_int_equal(pair->server.core.state, STREAM_OPEN);
  free_pair(pair);
}

static void sends_the_101_before_payload(void **state) {
  (void)state;
  struct pair *pair = new_pair(NULL);
  flush(&pair->client, &pair->server, WIRE_MAX);
  deliver(pair, &pair->server, WIRE_MAX);
  size_t taken = 0;
  for (int i = 0; taken == 0 && i < 50; i++) {
    size_t n = stream_core_frame(&pair->server.core, "data", 4,
                                 pair->client.wire + pair->client.wire_len, 20,
                                 &taken);
    assert_true(n > 0);
    pair->client.wire_len += n;
  }
  run(pair, WIRE_MAX);
  assert_int_equal(pair->client.opened, 1);
  assert_got(&pair->client, "data", 4);
  free_pair(pair);
}

/* ---- frames in ---- */

/* Feeds the client frames made by hand at every step size. */
static void assert_client_gets(const char *frames, size_t len,
                               const char *expected, int ended) {
  for (size_t step = 1; step <= len; step++) {
    struct stream_core_options options = {.eof = true};
    struct pair *pair = open_pair(&options);
    for (size_t at = 0; at < len; at += step)
      feed(&pair->client, frames + at, step < len - at ? step : len - at,
           pair->now_ms);
    assert_got(&pair->client, expected, strlen(expected));
    assert_int_equal(pair->client.ended, ended);
    assert_int_equal(pair->client.core.state, STREAM_OPEN);
    free_pair(pair);
  }
}

#define client_gets(frames, expected, ended)                                   \
  assert_client_gets(frames, sizeof(frames) - 1, expected, ended)

static void joins_fragments_around_control_frames(void **state) {
  (void)state;
  client_gets("\x02\x03"
              "abc\x89\x01p\x00\x00\x8a\x00\x00\x02"
              "de\x80\x01"
              "f\x82\x01g",
              "abcdefg", 0);
  /* the examples of RFC 6455 5.7 */
  client_gets("\x81\x05\x48\x65\x6c\x6c\x6f", "Hello", 0);
  client_gets("\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f", "Hello", 0);
}

static void empty_messages_are_nothing_but_the_text_one(void **state) {
  (void)state;
  client_gets("\x82\x00\x82\x01z", "z", 0);
  client_gets("\x02\x00\x80\x00", "", 0);
  client_gets("\x01\x00\x00\x01z\x80\x00", "z", 0);
  client_gets("\x81\x01z\x82\x00\x81\x00", "z", 1);
  client_gets("\x01\x00\x89\x00\x00\x00\x80\x00", "", 1);
  struct pair *pair = open_pair(NULL); /* without the capability */
  feed_text(pair, &pair->client, "\x81\x00\x81\x01z\x81\x00");
  assert_got(&pair->client, "z", 1);
  assert_int_equal(pair->client.ended, 0);
  assert_int_equal(stream_core_shutdown(&pair->client.core, 0), DSTREAM_ESTATE);
  free_pair(pair);
}

static void reads_the_masked_examples(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  feed_text(pair, &pair->server,
            "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
            "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
  assert_got(&pair->server, "Hello", 5);
  feed_text(pair, &pair->client, "\x89\x05\x48\x65\x6c\x6c\x6f");
  run(pair, WIRE_MAX); /* the pong is masked with some key */
  feed_text(pair, &pair->server,
            "\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
  output_is(&pair->server, "\x8a\x05Hello");
  free_pair(pair);
}

static void takes_long_frames_in_pieces(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  struct side *client = &pair->client;
  feed_text(pair, client, "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff");
  uint8_t *bytes = new_bytes(100000, 3);
  for (size_t at = 0; at < 100000; at += 10000)
    feed(client, bytes + at, 10000, pair->now_ms);
  assert_got(client, bytes, 100000);
  note(client, stream_core_transport_end(&client->core, NULL), NULL);
  assert_end(client, DSTREAM_EIO, 1006);
  free(bytes);
  free_pair(pair);
}

static void tells_as_much_data_as_is_wanted(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  struct side *client = &pair->client;
  client->max_data = 3;
  feed_text(pair, client,
            "\x82\x07"
            "abcdefg\x82\x01h");
  assert_got(client, "abcdefgh", 8);
  assert_int_equal(client->largest, 3);
  free_pair(pair);
}

/* A mask that changes nothing. */
#define M "\x00\x00\x00\x00"

static void stops_in_front_of_payload(void **state) {
  (void)state;
  static const char frames[] = "\x89\x81" M "p\x82\x83" M "ijk\x89\x81" M "q";
  struct stream_core_options options = {.eof = true};
  struct pair *pair = open_pair(&options);
  struct side *server = &pair->server;
  server->max_data = 0;
  size_t len = sizeof frames - 1;
  size_t used = feed(server, frames, len, pair->now_ms);
  assert_int_equal(used, 13); /* the ping and a header */
  output_is(server, "\x8a\x01p");
  assert_int_equal(feed(server, frames + used, len - used, 2000), 0);
  assert_int_equal(server->core.heard_ms, 1000);
  server->max_data = 2;
  feed(server, frames + used, len - used, pair->now_ms);
  assert_got(server, "ijk", 3);
  output_is(server, "\x8a\x01q");
  server->max_data = 0; /* the end of a direction is no payload */
  used = feed_text(pair, server, "\x81\x80" M);
  assert_int_equal(used, 6);
  assert_int_equal(server->ended, 1);
  free_pair(pair);
}

/* Feeds an open core what breaks the protocol: it says so and hangs up. */
static void assert_breaks(bool server, const char *frames, size_t len) {
  for (size_t step = 1; step <= len; step++) {
    struct stream_core_options options = {.eof = true, .close_timeout_ms = 9};
    struct pair *pair = open_pair(&options);
    struct side *side = server ? &pair->server : &pair->client;
    struct side *peer = server ? &pair->client : &pair->server;
    for (size_t at = 0; at < len; at += step)
      feed(side, frames + at, step < len - at ? step : len - at, pair->now_ms);
    assert_int_equal(side->core.state, STREAM_CLOSING);
    assert_int_equal(side->closed, 0);
    feed(side, "\x88\x00", 2, pair->now_ms); /* not understood any more */
    run(pair, WIRE_MAX);
    assert_end(peer, DSTREAM_ECLOSED, 1002);
    if (step % 2 == 0)
      note(side, stream_core_transport_end(&side->core, &peer->core.end), NULL);
    else
      note(side, stream_core_tick(&side->core, pair->now_ms + 9), NULL);
    assert_end(side, DSTREAM_EFRAME, 1006);
    free_pair(pair);
  }
}

#define client_breaks(frames) assert_breaks(false, frames, sizeof(frames) - 1)
#define server_breaks(frames) assert_breaks(true, frames, sizeof(frames) - 1)

static void ends_at_invalid_frames(void **state) {
  (void)state;
  client_breaks("\xc2\x00");
  client_breaks("\xa2\x00");
  client_breaks("\x92\x00");
  client_breaks("\x83\x00");
  client_breaks("\x8b\x00");
  client_breaks("\x82\x81" M "x");
  server_breaks("\x82\x01x");
  client_breaks("\x09\x00");
  client_breaks("\x08\x00");
  client_breaks("\x89\x7e\x00\x7e");
  client_breaks("\x80\x01x");
  client_breaks("\x02\x01x\x82\x01x");
  client_breaks("\x01\x01x\x8a\x00\x82\x01x");
  client_breaks("\x82\x7e\x00\x7d");
  client_breaks("\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff");
  client_breaks("\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00");
  client_breaks("\x88\x01\x03");
  client_breaks("\x88\x02\x03\xe7");
  client_breaks("\x88\x02\x03\xed");
  client_breaks("\x88\x02\x03\xee");
  client_breaks("\x88\x02\x03\xf7");
  client_breaks("\x88\x02\xff\xff");
  server_breaks("\x88\x82" M "\x03\xec");
}

static void ends_at_data_after_the_end(void **state) {
  (void)state;
  client_breaks("\x81\x00\x82\x01x");
  client_breaks("\x81\x00\x81\x00");
  client_breaks("\x81\x00\x02\x00");
  server_breaks("\x81\x80" M "\x82\x81" M "x");
  client_gets("\x81\x00\x89\x01p\x8a\x00", "", 1);
}

/* ---- control frames out ---- */

static void answers_the_newest_ping_of_a_flood(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  struct side *server = &pair->server;
  for (int i = 0; i < 100000; i++)
    feed_text(pair, server, "\x89\x84" M "ping");
  feed_text(pair, server, "\x89\x83" M "two");
  output_is(server, "\x8a\x03two");
  /* one that left in part stays whole; the newest follows */
  uint8_t out[64];
  feed_text(pair, server, "\x89\x83" M "abc");
  assert_int_equal(stream_core_pull(&server->core, out, 4), 4);
  for (int i = 0; i < 1000; i++)
    feed_text(pair, server, "\x89\x84" M "ping");
  feed_text(pair, server, "\x89\x80" M);
  assert_int_equal(pull_all(server, out + 4, 60), 3);
  assert_memory_equal(out,
                      "\x8a\x03"
                      "abc\x8a\x00",
                      7);
  free_pair(pair);
}

static void feed_long_ping(struct pair *pair, char fill) {
  char ping[6 + 125] = "\x89\x7d";
  memset(ping + 2, fill, 125);
  feed(&pair->client, ping, 127, pair->now_ms);
}

static void queues_everything_at_once(void **state) {
  (void)state;
  struct stream_core_options options = {.eof = true, .keepalive_ms = 10};
  struct pair *pair = open_pair(&options);
  struct side *client = &pair->client;
  char reason[200];
  memset(reason, 'r', sizeof reason);
  reason[199] = '\0';
  feed_long_ping(pair, 'a');
  uint8_t *wire = pair->server.wire;
  pair->server.wire_len = stream_core_pull(&client->core, wire, 1);
  feed_long_ping(pair, 'b');
  assert_int_equal(stream_core_tick(&client->core, 4000), STREAM_EV_NONE);
  assert_int_equal(stream_core_tick(&client->core, 4500), STREAM_EV_NONE);
  feed_long_ping(pair, 'c');
  assert_int_equal(stream_core_shutdown(&client->core, 4500), 0);
  assert_int_equal(stream_core_shutdown(&client->core, 4500), DSTREAM_ESTATE);
  stream_core_close(&client->core, 1001, reason, 4500);
  feed_long_ping(pair, 'd'); /* nothing may follow Close */
  stream_core_close(&client->core, 1000, NULL, 4500);
  size_t waits = client->core.out_len;
  assert_int_equal(waits, 130 + 6 + 131 + 6 + 131);
  run(pair, 1);
  assert_int_equal(pair->server.ended, 1);
  assert_end(&pair->server, DSTREAM_ECLOSED, 1001);
  assert_non_null(strstr(pair->server.core.end.text, "rrrrrrrrr"));
  assert_end(client, DSTREAM_OK, 1001);
  free_pair(pair);
}

/* ---- closing ---- */

static void answers_close_with_its_code(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  feed_text(pair, &pair->server, "\x88\x86" M "\x0b\xb8wh\x07?");
  assert_end(&pair->server, DSTREAM_ECLOSED, 3000);
  assert_non_null(strstr(pair->server.core.end.text, "\"wh??\""));
  output_is(&pair->server, "\x88\x02\x0b\xb8");
  feed_text(pair, &pair->server, "\xff\xff garbage");
  assert_false(stream_core_has_output(&pair->server.core));
  free_pair(pair);

  pair = open_pair(NULL); /* as the official C client does it */
  feed_text(pair, &pair->server, "\x82\x81" M "x\x88\x80" M);
  assert_got(&pair->server, "x", 1);
  assert_end(&pair->server, DSTREAM_ECLOSED, 1005);
  output_is(&pair->server, "\x88\x00");
  free_pair(pair);
}

static void closes_from_both_sides_at_once(void **state) {
  (void)state;
  for (size_t step = 1; step < 40; step += 6) {
    struct pair *pair = open_pair(NULL);
    send_all(&pair->client, &pair->server, (const uint8_t *)"last", 4, 99);
    stream_core_close(&pair->client.core, 1000, "a", pair->now_ms);
    stream_core_close(&pair->server.core, 1001, "b", pair->now_ms);
    run(pair, step);
    assert_end(&pair->client, DSTREAM_OK, 1001);
    assert_end(&pair->server, DSTREAM_OK, 1000);
    assert_int_equal(pair->server.got_len, 0); /* dropped when CLOSING */
    free_pair(pair);
  }
}

static void delivers_what_was_framed_before_close(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  uint8_t *bytes = new_bytes(50000, 11);
  send_all(&pair->client, &pair->server, bytes, 50000, 16384);
  stream_core_close(&pair->client.core, 1006, "not sent", pair->now_ms);
  size_t taken;
  uint8_t out[64];
  assert_int_equal(
      stream_core_frame(&pair->client.core, "x", 1, out, 64, &taken), 0);
  assert_int_equal(taken, 0);
  run(pair, 1000);
  assert_got(&pair->server, bytes, 50000);
  assert_end(&pair->server, DSTREAM_ECLOSED, 1005);
  assert_end(&pair->client, DSTREAM_OK, 1005);
  free(bytes);
  free_pair(pair);
}

static void drops_data_while_closing(void **state) {
  (void)state;
  struct stream_core_options options = {.eof = true};
  struct pair *pair = open_pair(&options);
  struct side *client = &pair->client;
  client->max_data = 0;
  feed_text(pair, client, "\x02\x05");
  stream_core_close(&client->core, 1000, NULL, pair->now_ms);
  feed_text(pair, client, "abcde\x89\x01p\x80\x02yz\x81\x00");
  assert_int_equal(client->got_len, 0);
  assert_int_equal(client->ended, 0);
  feed_text(pair, client, "\x88\x02\x03\xe8");
  assert_end(client, DSTREAM_OK, 1000);
  free_pair(pair);
}

static void gives_up_on_a_close_that_is_not_answered(void **state) {
  (void)state;
  struct stream_core_options options = {.close_timeout_ms = 100,
                                        .keepalive_ms = 10};
  struct pair *pair = open_pair(&options);
  struct side *client = &pair->client;
  stream_core_close(&client->core, 1000, NULL, 2000);
  assert_int_equal(stream_core_deadline(&client->core), 2100);
  stream_core_progress(&client->core, 2050);
  assert_int_equal(stream_core_deadline(&client->core), 2150);
  assert_int_equal(stream_core_tick(&client->core, 2149), STREAM_EV_NONE);
  note(client, stream_core_tick(&client->core, 2150), NULL);
  assert_end(client, DSTREAM_ETIMEDOUT, 1006);
  free_pair(pair);
}

/* What a peer that is slow to read sends by itself keeps a close waiting, its
 * data does not; and all has an end. */
static void waits_for_a_peer_that_lives(void **state) {
  (void)state;
  struct stream_core_options options = {.close_timeout_ms = 100,
                                        .drain_timeout_ms = 250};
  struct pair *pair = open_pair(&options);
  struct side *client = &pair->client;
  stream_core_close(&client->core, 1000, NULL, 2000);
  feed(client,
       "\x82\x01"
       "a",
       3, 2040);
  assert_int_equal(stream_core_deadline(&client->core), 2100);
  feed(client, "\x89\x00", 2, 2050); /* a ping */
  assert_int_equal(stream_core_deadline(&client->core), 2150);
  feed(client, "\x8a\x00", 2, 2060);
  assert_int_equal(stream_core_deadline(&client->core), 2160);
  assert_int_equal(stream_core_tick(&client->core, 2159), STREAM_EV_NONE);
  feed(client, "\x89\x00", 2, 2159);
  stream_core_progress(&client->core, 2200);
  assert_int_equal(stream_core_deadline(&client->core), 2250);
  assert_int_equal(stream_core_tick(&client->core, 2249), STREAM_EV_NONE);
  note(client, stream_core_tick(&client->core, 2250), NULL);
  assert_end(client, DSTREAM_ETIMEDOUT, 1006);
  free_pair(pair);
}

static void reason_is(struct side *side, const char *frame, size_t len,
                      const char *expected) {
  char reason[WS_REASON_MAX + 1];
  stream_core_peer_reason(&side->core, reason);
  assert_string_equal(reason, "");
  feed(side, frame, len, 2000);
  stream_core_peer_reason(&side->core, reason);
  assert_string_equal(reason, expected);
}

static void tells_the_reason_of_the_peer(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  feed(&pair->client,
       "\x89\x03"
       "abc",
       5, 1999); /* no reason, though control */
  reason_is(&pair->client,
            "\x88\x07\x03\xf3"
            "no\n\xc3\xa4",
            9, "no???");
  assert_int_equal(pair->client.core.end.ws_code, 1011);
  assert_non_null(strstr(pair->client.core.end.text, "no???"));
  free_pair(pair);
  pair = open_pair(NULL);
  reason_is(&pair->client, "\x88\x00", 2, "");
  free_pair(pair);
}

static void ends_with_the_transport(void **state) {
  (void)state;
  struct dstream_end why = {.status = DSTREAM_EIO,
                            .sys_errno = 104,
                            .text = "the connection was reset"};
  struct pair *pair = open_pair(NULL);
  note(&pair->client, stream_core_transport_end(&pair->client.core, NULL),
       NULL);
  assert_end(&pair->client, DSTREAM_ECLOSED, 1006);
  note(&pair->server, stream_core_transport_end(&pair->server.core, &why),
       NULL);
  assert_end(&pair->server, DSTREAM_EIO, 1006);
  assert_int_equal(pair->server.core.end.sys_errno, 104);
  free_pair(pair);

  pair = open_pair(NULL);
  stream_core_close(&pair->client.core, 1000, NULL, 2000);
  note(&pair->client, stream_core_transport_end(&pair->client.core, NULL),
       NULL);
  assert_end(&pair->client, DSTREAM_OK, 1006);
  stream_core_close(&pair->server.core, 1000, NULL, 2000);
  note(&pair->server, stream_core_transport_end(&pair->server.core, &why),
       NULL);
  assert_end(&pair->server, DSTREAM_EIO, 1006);
  free_pair(pair);

  static const char *const cut[] = {"\x82", "\x82\x7e\x01", "\x82\x02x",
                                    "\x89\x02x"};
  for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
    pair = open_pair(NULL);
    feed(&pair->client, cut[i], strlen(cut[i]), pair->now_ms);
    note(&pair->client, stream_core_transport_end(&pair->client.core, NULL),
         NULL);
    assert_end(&pair->client, DSTREAM_EIO, 1006);
    free_pair(pair);
  }
}

/* ---- keepalive ---- */

static struct pair *open_pinging_pair(void) {
  struct stream_core_options options = {.keepalive_ms = 100};
  return open_pair(&options);
}

/* Lets the client ping at `now_ms` and the server answer. */
static void ping_and_answer(struct pair *pair, uint64_t now_ms) {
  pair->now_ms = now_ms;
  assert_int_equal(stream_core_tick(&pair->client.core, now_ms),
                   STREAM_EV_NONE);
  assert_true(stream_core_has_output(&pair->client.core));
  run(pair, WIRE_MAX);
}

static void pings_a_silent_peer_and_gives_up(void **state) {
  (void)state;
  struct pair *pair = open_pinging_pair();
  struct side *client = &pair->client;
  assert_int_equal(stream_core_deadline(&client->core), 1100);
  assert_int_equal(stream_core_tick(&client->core, 1099), STREAM_EV_NONE);
  assert_false(stream_core_has_output(&client->core));
  ping_and_answer(pair, 1100);
  assert_int_equal(stream_core_deadline(&client->core), 1200);
  ping_and_answer(pair, 1250);
  assert_int_equal(stream_core_deadline(&client->core), 1350);
  assert_int_equal(stream_core_tick(&client->core, 1350), STREAM_EV_NONE);
  assert_true(stream_core_has_output(&client->core));
  assert_int_equal(stream_core_deadline(&client->core), 1450);
  note(client, stream_core_tick(&client->core, 1450), NULL);
  assert_end(client, DSTREAM_EKEEPALIVE, 1006);
  free_pair(pair);
}

static void any_byte_is_a_sign_of_life(void **state) {
  (void)state;
  struct pair *pair = open_pinging_pair();
  struct side *client = &pair->client;
  ping_and_answer(pair, 1100);
  assert_int_equal(stream_core_tick(&client->core, 1200), STREAM_EV_NONE);
  feed(client, "\x82", 1, 1290); /* the beginning of something */
  assert_int_equal(stream_core_deadline(&client->core), 1390);
  assert_int_equal(stream_core_tick(&client->core, 1300), STREAM_EV_NONE);
  assert_int_equal(stream_core_tick(&client->core, 1390), STREAM_EV_NONE);
  note(client, stream_core_tick(&client->core, 1490), NULL);
  assert_end(client, DSTREAM_EKEEPALIVE, 1006);
  free_pair(pair);
}

static void leaves_a_peer_alone_that_never_answers_pings(void **state) {
  (void)state;
  struct pair *pair = open_pinging_pair();
  struct side *client = &pair->client;
  feed_text(pair, client, "\x8a\x00"); /* answers nothing */
  for (uint64_t now_ms = 1100; now_ms < 3000; now_ms += 100) {
    uint8_t out[64];
    assert_int_equal(stream_core_deadline(&client->core), now_ms);
    assert_int_equal(stream_core_tick(&client->core, now_ms), STREAM_EV_NONE);
    assert_int_equal(pull_all(client, out, sizeof out), 6);
    assert_memory_equal(out, "\x89\x80", 2);
  }
  free_pair(pair);
}

static void one_ping_waits_at_most(void **state) {
  (void)state;
  struct pair *pair = open_pinging_pair();
  for (uint64_t now_ms = 1100; now_ms < 3000; now_ms += 100)
    assert_int_equal(stream_core_tick(&pair->server.core, now_ms),
                     STREAM_EV_NONE);
  output_is(&pair->server, "\x89\x00");
  free_pair(pair);
}

static void judges_nothing_while_paused(void **state) {
  (void)state;
  struct pair *pair = open_pinging_pair();
  struct side *client = &pair->client;
  ping_and_answer(pair, 1100);
  stream_core_set_paused(&client->core, true, 1150);
  for (uint64_t now_ms = 1200; now_ms < 3000; now_ms += 100) {
    uint8_t out[64];
    assert_int_equal(stream_core_tick(&client->core, now_ms), STREAM_EV_NONE);
    assert_int_equal(pull_all(client, out, sizeof out), 6); /* still alive */
  }
  stream_core_set_paused(&client->core, false, 3050);
  stream_core_set_paused(&client->core, false, 3100);
  assert_int_equal(stream_core_deadline(&client->core), 3150);
  assert_int_equal(stream_core_tick(&client->core, 3150), STREAM_EV_NONE);
  note(client, stream_core_tick(&client->core, 3250), NULL);
  assert_end(client, DSTREAM_EKEEPALIVE, 1006);
  free_pair(pair);
}

/* Its pings tell a peer that waits how to tell slow from gone. */
static void pings_more_often_while_paused(void **state) {
  (void)state;
  struct stream_core_options options = {.keepalive_ms = 30000, .eof = true};
  struct pair *pair = open_pair(&options);
  struct stream_core *core = &pair->client.core;
  uint8_t out[64];
  uint64_t heard_ms = stream_core_deadline(core) - 30000;
  stream_core_set_paused(core, true, heard_ms + 10);
  for (int i = 1; i < 4; i++) {
    uint64_t due_ms = heard_ms + (uint64_t)i * STREAM_PAUSED_PING_MS;
    assert_int_equal(stream_core_deadline(core), due_ms);
    assert_int_equal(stream_core_tick(core, due_ms), STREAM_EV_NONE);
    assert_int_equal(pull_all(&pair->client, out, sizeof out), 6);
  }
  core->eof = false; /* not to a peer that knows nothing of it */
  assert_true(stream_core_deadline(core) == core->ping_ms + 30000);
  stream_core_set_paused(core, false, 50000);
  assert_int_equal(stream_core_deadline(core), 80000);
  free_pair(pair);
}

/* One that takes a little now and then is as slow as one that takes nothing,
 * and must be seen to live as well. */
static void pings_though_it_reads_a_little(void **state) {
  (void)state;
  struct stream_core_options options = {.keepalive_ms = 30000, .eof = true};
  struct pair *pair = open_pair(&options);
  struct side *client = &pair->client;
  unsigned pings = 0;
  uint64_t begin_ms = stream_core_deadline(&client->core) - 30000;
  for (uint64_t now_ms = begin_ms; now_ms < begin_ms + 20000; now_ms += 500) {
    uint8_t out[64];
    stream_core_set_paused(&client->core, false, now_ms);
    feed(client,
         "\x82\x01"
         "a",
         3, now_ms);
    stream_core_set_paused(&client->core, true, now_ms);
    assert_int_equal(stream_core_tick(&client->core, now_ms), STREAM_EV_NONE);
    pings += pull_all(client, out, sizeof out) == 6;
    if (now_ms == begin_ms + 10000) { /* a pong shows it too */
      feed(client, "\x89\x00", 2, now_ms + 1);
      assert_int_equal(pull_all(client, out, sizeof out), 6);
      assert_int_equal(stream_core_deadline(&client->core), now_ms + 2001);
    }
  }
  assert_int_equal(pings, 9);
  free_pair(pair);
}

/* The interval of the peer may be the longer one, but not its pings while it is
 * paused. */
static void is_patient_with_a_peer_that_may_be_paused(void **state) {
  (void)state;
  struct stream_core_options options = {.keepalive_ms = 100, .eof = true};
  struct pair *pair = open_pair(&options);
  struct side *client = &pair->client;
  uint8_t out[64];
  assert_int_equal(stream_core_tick(&client->core, 1100), STREAM_EV_NONE);
  assert_int_equal(pull_all(client, out, sizeof out), 6);
  feed(client, "\x89\x00", 2, 1150); /* it never answers, but it pings */
  assert_int_equal(pull_all(client, out, sizeof out), 6);
  uint64_t now_ms = 1250;
  for (; now_ms < 1150 + STREAM_SILENCE_MIN_MS; now_ms += 100) {
    assert_int_equal(stream_core_deadline(&client->core), now_ms);
    assert_int_equal(stream_core_tick(&client->core, now_ms), STREAM_EV_NONE);
    assert_int_equal(pull_all(client, out, sizeof out), 6);
  }
  note(client, stream_core_tick(&client->core, now_ms), NULL);
  assert_end(client, DSTREAM_EKEEPALIVE, 1006);
  free_pair(pair);
}

static void lost_is_told_after_two_intervals(bool eof, bool paused) {
  struct stream_core_options options = {.keepalive_ms = 5000, .eof = eof};
  struct pair *pair = open_pair(&options);
  struct side *client = &pair->client;
  struct stream_core *core = &client->core;
  stream_core_set_paused(core, paused, 1000);
  while (stream_core_deadline(core) < 20000) {
    uint64_t now_ms = stream_core_deadline(core);
    assert_int_equal(stream_core_tick(core, now_ms), STREAM_EV_NONE);
  }
  /* it did answer, late */
  stream_core_unanswered(core, 9000, 20000);
  assert_in_range(stream_core_deadline(core), 20000, 21000);
  stream_core_unanswered(core, 0, 20500);
  assert_int_equal(stream_core_tick(core, 21000), STREAM_EV_NONE);
  /* it will not */
  stream_core_unanswered(core, 4000, 21500);
  while (stream_core_deadline(core) < 27500)
    assert_int_equal(stream_core_tick(core, stream_core_deadline(core)),
                     STREAM_EV_NONE);
  assert_int_equal(stream_core_tick(core, 27499), STREAM_EV_NONE);
  assert_int_equal(stream_core_deadline(core), 27500);
  stream_core_unanswered(core, 10000, 27500);
  note(client, stream_core_tick(core, 27500), NULL);
  assert_end(client, DSTREAM_EKEEPALIVE, 1006);
  assert_non_null(strstr(core->end.text, "acknowledged nothing for 10000 ms"));
  free_pair(pair);
}

/* Also of a peer that never answered a ping, and while paused. */
static void gives_up_a_peer_whose_system_is_silent(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++)
    lost_is_told_after_two_intervals((i & 1) != 0, (i & 2) != 0);
}

/* Without keepalive nobody is judged; closing has a deadline of its own. */
static void judges_no_system_but_of_an_open_stream(void **state) {
  (void)state;
  struct pair *pair = open_pair(NULL);
  struct stream_core *core = &pair->client.core;
  stream_core_unanswered(core, 1u << 30, 1u << 30);
  assert_true(stream_core_deadline(core) == STREAM_NEVER);
  assert_int_equal(stream_core_tick(core, 1u << 30), STREAM_EV_NONE);
  free_pair(pair);
  struct stream_core_options options = {.keepalive_ms = 10,
                                        .close_timeout_ms = 100};
  pair = open_pair(&options);
  core = &pair->client.core;
  stream_core_close(core, 1000, NULL, 2000);
  stream_core_unanswered(core, 500, 2000);
  assert_int_equal(stream_core_deadline(core), 2100);
  assert_int_equal(stream_core_tick(core, 2099), STREAM_EV_NONE);
  free_pair(pair);
}

/* The one that is given up hears why, if it still hears. */
static void says_why_it_gives_up(void **state) {
  (void)state;
  struct pair *pair = open_pinging_pair();
  struct side *server = &pair->server;
  ping_and_answer(pair, 1100);
  feed(server,
       "\x8a\x80"
       "0123",
       6, 1100);
  server->core.pong_seen = true;
  assert_int_equal(stream_core_tick(&server->core, 1200), STREAM_EV_NONE);
  note(server, stream_core_tick(&server->core, 1300), NULL);
  assert_end(server, DSTREAM_EKEEPALIVE, 1006);
  uint8_t out[128];
  size_t len = pull_all(server, out, sizeof out);
  assert_true(len > 4);
  assert_memory_equal(out, "\x89\x00\x88\x14\x03\xf3no answer to pings", 24);
  assert_int_equal(len, 24);
  free_pair(pair);
}

static void needs_no_clock_without_timeouts(void **state) {
  (void)state;
  struct pair *pair = new_pair(NULL);
  assert_true(stream_core_deadline(&pair->client.core) == STREAM_NEVER);
  run(pair, WIRE_MAX);
  assert_true(stream_core_deadline(&pair->client.core) == STREAM_NEVER);
  assert_int_equal(stream_core_tick(&pair->client.core, 1u << 30),
                   STREAM_EV_NONE);
  assert_false(stream_core_has_output(&pair->client.core));
  free_pair(pair);
  struct stream_core_options options = {.handshake_timeout_ms = UINT64_MAX,
                                        .keepalive_ms = UINT64_MAX,
                                        .close_timeout_ms = UINT64_MAX};
  pair = new_pair(&options);
  assert_true(stream_core_deadline(&pair->client.core) == STREAM_NEVER);
  run(pair, WIRE_MAX);
  assert_true(stream_core_deadline(&pair->client.core) == STREAM_NEVER);
  stream_core_close(&pair->client.core, 1000, NULL, 2000);
  assert_true(stream_core_deadline(&pair->client.core) == STREAM_NEVER);
  free_pair(pair);
}

static void clears_zeroed_memory(void **state) {
  (void)state;
  struct stream_core core;
  memset(&core, 0, sizeof core);
  stream_core_clear(&core);
  stream_core_clear(&core);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(carries_a_whole_stream),
      cmocka_unit_test(carries_a_stream_byte_by_byte),
      cmocka_unit_test(takes_frames_right_after_the_101),
      cmocka_unit_test(agrees_on_a_subprotocol),
      cmocka_unit_test(refuses_a_request),
      cmocka_unit_test(refuses_texts_for_the_request),
      cmocka_unit_test(tells_why_the_upgrade_was_refused),
      cmocka_unit_test(bounds_the_answer),
      cmocka_unit_test(refuses_a_101_before_the_request_left),
      cmocka_unit_test(ends_before_it_is_open),
      cmocka_unit_test(is_canceled_before_it_is_open),
      cmocka_unit_test(frames_fill_the_room_they_get),
      cmocka_unit_test(header_before_payload),
      cmocka_unit_test(no_header_before_payload_now),
      cmocka_unit_test(masks_differ_from_frame_to_frame),
      cmocka_unit_test(completes_a_begun_frame_before_payload),
      cmocka_unit_test(sends_the_101_before_payload),
      cmocka_unit_test(joins_fragments_around_control_frames),
      cmocka_unit_test(empty_messages_are_nothing_but_the_text_one),
      cmocka_unit_test(reads_the_masked_examples),
      cmocka_unit_test(takes_long_frames_in_pieces),
      cmocka_unit_test(tells_as_much_data_as_is_wanted),
      cmocka_unit_test(stops_in_front_of_payload),
      cmocka_unit_test(ends_at_invalid_frames),
      cmocka_unit_test(ends_at_data_after_the_end),
      cmocka_unit_test(answers_the_newest_ping_of_a_flood),
      cmocka_unit_test(queues_everything_at_once),
      cmocka_unit_test(answers_close_with_its_code),
      cmocka_unit_test(closes_from_both_sides_at_once),
      cmocka_unit_test(delivers_what_was_framed_before_close),
      cmocka_unit_test(drops_data_while_closing),
      cmocka_unit_test(gives_up_on_a_close_that_is_not_answered),
      cmocka_unit_test(ends_with_the_transport),
      cmocka_unit_test(pings_a_silent_peer_and_gives_up),
      cmocka_unit_test(any_byte_is_a_sign_of_life),
      cmocka_unit_test(leaves_a_peer_alone_that_never_answers_pings),
      cmocka_unit_test(one_ping_waits_at_most),
      cmocka_unit_test(judges_nothing_while_paused),
      cmocka_unit_test(pings_more_often_while_paused),
      cmocka_unit_test(pings_though_it_reads_a_little),
      cmocka_unit_test(is_patient_with_a_peer_that_may_be_paused),
      cmocka_unit_test(gives_up_a_peer_whose_system_is_silent),
      cmocka_unit_test(judges_no_system_but_of_an_open_stream),
      cmocka_unit_test(says_why_it_gives_up),
      cmocka_unit_test(waits_for_a_peer_that_lives),
      cmocka_unit_test(tells_the_reason_of_the_peer),
      cmocka_unit_test(needs_no_clock_without_timeouts),
      cmocka_unit_test(clears_zeroed_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
