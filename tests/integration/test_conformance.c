/* RFC 6455 over TLS sockets: the cases of the Autobahn test suite, sections 1
 * to 7 and 10, against both roles: the hub as a server, whose application is a
 * device behind it, and a stream of the library as a client.
 *
 * A stream is a pipe of bytes, which shows in three places:
 * - "echo" means that the payload comes out at the other end, complete and in
 *   order, and back; frame boundaries and text or binary are not kept;
 * - a frame or a message may be of any length: nothing is failed with 1009;
 * - text is data: whether it is UTF-8 is not judged (section 6, 7.5.1), neither
 *   in messages nor in a Close's reason, and nothing is failed with 1007. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

#include "core/sas.h"
#include "core/ws_upgrade.h"
#include "integration/support_conformance.h"
#include "integration/support_world.h"
#include "net/stream.h"
#include "net/tls.h"

struct conformance_case {
  const char *id;     /* Autobahn's, or "own" */
  const char *frames; /* see support_conformance.h */
};

static const struct conformance_case framing[] = {
    {"1.1.1", "T"},
    {"1.1.2", "T:*125"},
    {"1.1.3", "T:*126"},
    {"1.1.4", "T:*127"},
    {"1.1.5", "T:*128"},
    {"1.1.6", "T:*65535"},
    {"1.1.7", "T:*65536"}, /* 1.1.8: the same, chopped */
    {"1.2.1", "B"},
    {"1.2.2", "B:*125"},
    {"1.2.3", "B:*126"},
    {"1.2.4", "B:*127"},
    {"1.2.5", "B:*128"},
    {"1.2.6", "B:*65535"},
    {"1.2.7", "B:*65536"},
    {"own: all short lengths", "T:*0..129 B:*0..129"},
    {"own: around 16 bits", "T:*65533..65537"},
    /* lengths that are not in their shortest form, 5.2 */
    {"own: 0 in 16 bits", "B:fine !B/2"},
    {"own: 125 in 16 bits", "B:fine !B/2:*125"},
    {"own: 0 in 64 bits", "B:fine !B/8"},
    {"own: 126 in 64 bits", "B:fine !B/8:*126"},
    {"own: 65535 in 64 bits", "B:fine !B/8:*65535"},
    {"own: ping, 16 bits", "B:fine !P/2:x"},
    {"own: ping, 64 bits", "B:fine !P/8:x"},
    /* lengths that nobody sends */
    {"own: 2^63", "B:fine !B@8000000000000000:x"},
    {"own: 2^64 - 1", "B:fine !B@ffffffffffffffff:x"},
    {"own: 2^63 - 1", "B?:fine B@7fffffffffffffff?:first |"},
    {"own: 2^32", "B@100000000?:first |"},
    /* masks, 5.1 */
    {"own: mask", "B:fine !~B:wrong B:later"},
    {"own: mask of nothing", "!~T P:later"},
    {"own: mask of a ping", "B:fine !~P:wrong"},
    {"own: mask of a pong", "B:fine !~O"},
    {"own: mask of a Close", "B:fine !~X:=1000"},
    {"own: mask of a fragment", "t:fine !~C:wrong"},
};

static const struct conformance_case pings[] = {
    {"2.1", "P"},
    {"2.2", "P:Hello,_world!"},
    {"2.3", "P:%00fffefdfcfb00ff"},
    {"2.4", "P:*125"}, /* 2.6: the same, chopped */
    {"2.5", "!P:*126"},
    {"2.7", "O P:after"},
    {"2.8", "O:unsolicited P:after"},
    {"2.9", "O:unsolicited P:ping"},
    {"2.10", "P:1 P:2 P:3 P:4 P:5 P:6 P:7 P:8 P:9 P:10"},
    {"own: each answered", "P?:1 P?:2 P?:3 P?:4 P?:5 P?:6 P?:7 P?:8 P?:9"},
    {"own: all lengths", "P?:*0..125"},
    {"own: all pongs", "O:*0..125 P"},
    {"own: 126 bytes of pong", "B:fine !O:*126 P:later"},
    {"own: 65536 bytes of ping", "B:fine !P:*65536 P:later"},
};

static const struct conformance_case reserved_bits[] = {
    {"3.1", "!#91:small"},
    {"3.2", "T?:small !#a1:small P"},
    {"3.3", "T?:small !#b1:small P"},
    {"3.4", "T?:small !#c1:small P"},
    {"3.5", "!#d2:%00fffe"},
    {"3.6", "!#e9:ping"},
    {"3.7", "!#f8:=1000"},
    {"own: bits 1, empty", "!#91 P"},
    {"own: bits 2, empty", "!#a2 P"},
    {"own: bits 3, empty", "!#b2 P"},
    {"own: bits 4, empty", "!#c2 P"},
    {"own: bits 5, empty", "!#d1 P"},
    {"own: bits 6, empty", "!#e1 P"},
    {"own: bits 7, empty", "!#f1 P"},
    {"own: bits 1 in a message", "t:a c:b !#90:c"},
    {"own: bits 2 in a message", "t:a c:b !#20:c"},
    {"own: bits 4, compressed", "!#c1:%f248cdc9c90700 T:later"},
    {"own: bits 4 of a fragment", "b:a !#40:b C:c"},
    {"own: bits 4 of a pong in a message", "b:a !#ca C:c"},
};

static const struct conformance_case opcodes[] = {
    {"4.1.1", "!#83"},
    {"4.1.2", "!#84:payload"},
    {"4.1.3", "T?:Hello !#85 P"},
    {"4.1.4", "T?:Hello !#86:payload P"},
    {"4.1.5", "T?:Hello !#87:payload P"},
    {"4.2.1", "!#8b"},
    {"4.2.2", "!#8c:payload"},
    {"4.2.3", "T?:Hello !#8d P"},
    {"4.2.4", "T?:Hello !#8e:payload P"},
    {"4.2.5", "T?:Hello !#8f:payload P"},
    {"own: 3, fragmented", "!#03:a C:b"},
    {"own: 7 in a message", "t:a !#87:b C:c"},
    {"own: 11 in a message", "t:a !#8b:b C:c"},
    {"own: 15, fragmented", "t:a !#0f:b C:c"},
};

/* Autobahn has most of them three times: in one piece, frame by frame, byte by
 * byte; so does the driver with all. */
static const struct conformance_case fragments[] = {
    {"5.1", "!p:frag1 C:frag2"},
    {"5.2", "!o:frag1 C:frag2"},
    {"5.3-5.5", "t:frag1 C:frag2"},
    {"5.6-5.8", "t:frag1 P:ping C:frag2"},
    {"5.9-5.11", "!C:nothing T:later"},
    {"5.12-5.14", "!c:nothing T:later"},
    {"5.15", "t:frag1 C:frag2 !c:frag3 T:later"},
    {"5.16", "!c:frag1 t:frag2 C:frag3 c:frag1 t:frag2 C:frag3"},
    {"5.17", "!C:frag1 t:frag2 C:frag3 C:frag1 t:frag2 C:frag3"},
    {"5.18", "t:frag1 !T:frag2"},
    {"5.19-5.20", "t:frag1 c:frag2 P?:ping1 c:frag3 c:frag4 P?:ping2 C:frag5"},
    {"own: binary within text", "t:frag1 !B:frag2 C:frag3"},
    {"own: text within binary, unfinished", "b:frag1 !t:frag2 C:frag3"},
    {"own: a Close in fragments", "T?:fine !x:=1000 C:rest"},
    {"own: empty fragments", "b c c:a c C B:b"},
    {"own: a message of empty fragments", "t c C t:a C"},
    {"own: every control within", "t:a P:1 O:2 c:b O P C:c P:3"},
    {"own: fragments of one byte", "T+1:one_byte_each B+1:*120"},
};

static const struct conformance_case utf8[] = {
    {"6.1.1", "T"},
    {"6.1.2", "t c C"},
    {"6.1.3", "t c:middle C"},
    {"6.2.1", "T:%48656c6c6f2dc2b540c39fc3b6c3a4"},
    {"6.2.2", "t:%48656c6c6f2dc2b5 C:%40c39fc3b6c3a4"},
    {"6.2.3", "T+1:%48656c6c6f2dc2b540c39fc3b6c3a4"},
    {"6.2.4", "T+1:%cebae1bdb9cf83cebcceb5"},
    /* not UTF-8, delivered as it is */
    {"6.3.1", "T:%cebae1bdb9cf83cebcceb5eda080656469746564"},
    {"6.3.2", "T+1:%cebae1bdb9cf83cebcceb5eda080656469746564"},
    {"6.4.1", "t:%cebae1bdb9cf83cebcceb5 c:%f4908080 C:%656469746564"},
    {"6.4.3", "T?:%cebae1bdb9cf83cebcceb5f490808065646974 P"},
    {"6.6.1", "T:%ce"},
    {"6.8.2", "T:%fc8080808080"},
    {"6.14.1", "T:%c0"},
    {"6.20.1", "T:%eda080"},
};

/* What Autobahn wants of 1012 to 1014 has changed with the registry of close
 * codes, which has all three: they are valid. */
static const struct conformance_case closing[] = {
    {"7.1.1", "T?:Hello X:=1000"},
    {"7.1.2", "X:=1000 X:=1000"},
    {"7.1.3", "X:=1000 P:after"},
    {"7.1.4", "X:=1000 T:after"},
    {"7.1.5", "t:frag1 X:=1000 C:frag2"},
    {"7.1.6", "T:*262144 T:Hello X:=1000 P:after"},
    {"7.3.1", "X"},
    {"7.3.2", "!X:a"},
    {"7.3.3", "X:=1000"},
    {"7.3.4", "X:=1000Hello"},
    {"7.3.5", "X:=1000*123"},
    {"7.3.6", "!X:=1000*124"},
    {"7.5.1", "X:%03e8cebae1bdb9cf83eda080"},
    {"7.7.1", "X:=1000"},
    {"7.7.2", "X:=1001"},
    {"7.7.3", "X:=1002"},
    {"7.7.4", "X:=1003"},
    {"7.7.5", "X:=1007"},
    {"7.7.6", "X:=1008"},
    {"7.7.7", "X:=1009"},
    {"7.7.8", "X:=1010"},
    {"7.7.9", "X:=1011"},
    {"7.7.10", "X:=3000"},
    {"7.7.11", "X:=3999"},
    {"7.7.12", "X:=4000"},
    {"7.7.13", "X:=4999"},
    {"own: 1012", "X:=1012"},
    {"own: 1013", "X:=1013"},
    {"own: 1014", "X:=1014"},
    {"7.9.1", "!X:=0"},
    {"7.9.2", "!X:=999"},
    {"7.9.3", "!X:=1004"},
    {"7.9.4", "!X:=1005"},
    {"7.9.5", "!X:=1006"},
    {"7.9.6", "!X:=1016"},
    {"7.9.7", "!X:=1100"},
    {"7.9.8", "!X:=2000"},
    {"7.9.9", "!X:=2999"},
    {"own: 1015", "!X:=1015"},
    {"7.13.1", "!X:=5000"},
    {"7.13.2", "!X:=65535"},
    {"own: data, then no code", "B:all_of_it X"},
    {"own: much data, then Close", "B:*100000 X:=1000"},
    {"own: a broken frame after Close", "B:fine X:=1000 #ef:x"},
    {"own: an invalid Close after Close", "B:fine X:=1000 X:=1005"},
    {"own: much after Close", "B:fine X:=1000 B:*60000 T:*60000"},
    {"own: Close after a failure", "B:fine !#83 X:=1000"},
    {"own: much after a failure", "B:fine !#83 B:*60000 T:*60000"},
    {"own: cut between frames", "B?:fine |"},
    {"own: cut in a message", "b?:fine |"},
};

static const struct conformance_case large[] = {
    {"10.1.1", "T+1300:*65536"},
    {"own: 256 KB", "B+1300:*262144"},
};

/* ---- the two roles ---- */

static struct hub_fixture hub;
static struct raw rest; /* stays connected */
static char rest_head[4096];
static int rest_head_len;
static dstream_device *device;
static enum dstream_device_state device_state;
static unsigned device_stops;
static struct tls_config *tls;
static int listener = -1;
static uint16_t listener_port;

static struct plan plan;
static struct echo_sink sink;

struct run {
  const struct conformance_case *test;
  enum plan_way way;
};

static void small_packets(const struct raw *raw) {
  int on = 1;
  setsockopt(raw->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* The value of a header of the last answer, or the last request. */
static bool header(const char *head, const char *name, char *out, size_t size) {
  const char *value = strcasestr(head, name);
  if (value == NULL)
    return false;
  value += strlen(name);
  size_t len = strcspn(value, "\r");
  snprintf(out, size, "%.*s", (int)len, value);
  return len < size;
}

/* A stream to the device: where, and with which token. */
static bool request_stream(struct raw *raw, char *path, size_t path_size,
                           char *token, size_t token_size) {
  char url[512];
  NEED(raw, raw_send(&rest, rest_head, (size_t)rest_head_len));
  NEED(raw, raw_answer(&rest) == 200);
  NEED(raw, header(rest.head, "\r\niothub-streaming-url: ", url, sizeof url));
  NEED(raw, header(rest.head, "\r\niothub-streaming-auth-token: ", token,
                   token_size));
  const char *target = strchr(url + strlen("wss://"), '/');
  NEED(raw, target != NULL);
  snprintf(path, path_size, "%s", target);
  return true;
}

static bool join_hub(struct raw *raw) {
  char path[512];
  char token[4096];
  if (!request_stream(raw, path, sizeof path, token, sizeof token))
    return false;
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  small_packets(raw);
  NEED(raw, raw_upgrade(raw, "localhost", path, token, NULL, 0) == 101);
  return true;
}

/* Takes the library's connection; its request is in raw->head. */
static bool take_client(struct raw *raw) {
  char file[HUB_FIXTURE_PATH + 32];
  raw->context = SSL_CTX_new(TLS_server_method());
  NEED(raw, raw->context != NULL);
  snprintf(file, sizeof file, "%s/server.pem", hub.hub_dir);
  NEED(raw, SSL_CTX_use_certificate_chain_file(raw->context, file) == 1);
  snprintf(file, sizeof file, "%s/server-key.pem", hub.hub_dir);
  NEED(raw,
       SSL_CTX_use_PrivateKey_file(raw->context, file, SSL_FILETYPE_PEM) == 1);
  raw->ssl = SSL_new(raw->context);
  raw->fd = accept(listener, NULL, NULL);
  NEED(raw, raw->fd >= 0 && raw->ssl != NULL);
  struct timeval timeout = {15, 0};
  setsockopt(raw->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  small_packets(raw);
  NEED(raw, SSL_set_fd(raw->ssl, raw->fd) == 1);
  NEED(raw, SSL_accept(raw->ssl) == 1);
  size_t len = 0;
  while (len < 4 || memcmp(raw->head + len - 4, "\r\n\r\n", 4) != 0) {
    NEED(raw, len < sizeof raw->head - 1);
    NEED(raw, raw_read(raw, raw->head + len, 1));
    raw->head[++len] = '\0';
  }
  return true;
}

static bool answer_client(struct raw *raw, const char *more) {
  char key[64];
  char accept_value[WS_ACCEPT_SIZE];
  char answer[512];
  NEED(raw, header(raw->head, "\r\nSec-WebSocket-Key: ", key, sizeof key));
  NEED(raw, ws_upgrade_accept_value(slice_of(key), accept_value) == 0);
  snprintf(answer, sizeof answer,
           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
           "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
           accept_value, more);
  NEED(raw, raw_text(raw, answer));
  return true;
}

static bool with_hub(struct raw *raw, void *arg) {
  const struct run *run = arg;
  if (!join_hub(raw))
    return false;
  /* A stream that is closed before its other side comes never begins. */
  NEED(raw, script_await(&sink.opens, 1));
  return plan_play(raw, &plan, run->way);
}

static bool with_client(struct raw *raw, void *arg) {
  const struct run *run = arg;
  return take_client(raw) && answer_client(raw, "") &&
         plan_play(raw, &plan, run->way);
}

static void dial(void) {
  char text[64];
  struct stream_url url;
  dstream_stream *stream = NULL;
  snprintf(text, sizeof text, "wss://127.0.0.1:%u/path",
           (unsigned)listener_port);
  assert_int_equal(stream_url_parse(&url, text), 0);
  assert_int_equal(stream_new(&stream, test_loop, "conformance", NULL,
                              &echo_sink_callbacks, &sink, NULL, NULL),
                   0);
  struct stream_target target = {.url = &url, .token = "token", .tls = tls};
  stream_dial(stream, &target);
}

/* ---- one case ---- */

static void forget_sink(void) {
  sink.stream = NULL;
  atomic_store(&sink.opens, 0);
  sink.closes = 0;
  sink.len = sink.echoed = 0;
}

/* How the application behind a hub is told of the end. */
static int code_behind_hub(void) {
  if (plan.end == PLAN_FAILED || (plan.end == PLAN_CUT && plan.in_frame))
    return 1011;
  if (plan.end == PLAN_CUT || plan.code == -1 || plan.code == 1000)
    return 1000;
  return plan.code == 1001 ? 1001 : 1011;
}

static void check_end_behind_hub(const char *id) {
  if (sink.end.status != DSTREAM_ECLOSED ||
      sink.end.ws_code != code_behind_hub())
    fail_msg("%s: the device was told %d: %s", id, sink.end.ws_code,
             sink.end.text);
}

static void check_end_of_client(const char *id) {
  int status = plan.end == PLAN_FAILED ? DSTREAM_EFRAME
               : plan.in_frame         ? DSTREAM_EIO
                                       : DSTREAM_ECLOSED;
  int code = plan.end == PLAN_FAILED || plan.end == PLAN_CUT ? 1006
             : plan.code == -1                               ? 1005
                                                             : plan.code;
  if (sink.end.status != status || sink.end.ws_code != code)
    fail_msg("%s: the stream was told %d: %s", id, sink.end.ws_code,
             sink.end.text);
}

static void run_case(const struct conformance_case *test, bool against_hub,
                     enum plan_way way) {
  static const char *const ways[] = {"whole", "by frames", "by bytes"};
  struct run run = {test, way};
  char id[160];
  snprintf(id, sizeof id, "%s, %s: %s", test->id, ways[way], test->frames);
  if (!plan_make(&plan, test->frames, against_hub))
    fail_msg("%s: what is this?", id);
  forget_sink();
  struct script *script =
      script_start(against_hub ? with_hub : with_client, &run);
  if (!against_hub)
    dial();
  WAIT_MS(atomic_load(&script->over), 60000);
  if (!script->ok)
    print_error("%s\n", id);
  script_end(script);
  uint64_t until_ms = test_now_ms() + WAIT_DEFAULT_MS;
  while (sink.closes == 0 && test_now_ms() < until_ms)
    assert_int_equal(dstream_loop_step(test_loop, 50), 0);
  if (sink.opens != 1 || sink.closes != 1)
    fail_msg("%s: on_open %d, on_close %u, %s", id, sink.opens, sink.closes,
             sink.end.text);
  if (sink.len != plan.data_len || memcmp(sink.bytes, plan.data, sink.len) != 0)
    fail_msg("%s: %zu bytes came out, of %zu", id, sink.len, plan.data_len);
  if (against_hub)
    check_end_behind_hub(id);
  else
    check_end_of_client(id);
}

/* ---- sections ---- */

struct section {
  const struct conformance_case *cases;
  size_t count;
  bool against_hub;
};

static void test_section(void **state) {
  const struct section *section = *state;
  for (size_t i = 0; i < section->count; i++) {
    run_case(&section->cases[i], section->against_hub, PLAN_WHOLE);
    run_case(&section->cases[i], section->against_hub, PLAN_BYTES);
    if (!TEST_SANITIZED)
      run_case(&section->cases[i], section->against_hub, PLAN_FRAMES);
  }
  print_message("%zu cases, each in %s\n", section->count,
                TEST_SANITIZED ? "one piece and byte by byte"
                               : "one piece, by frames, byte by byte");
}

/* ---- extensions ---- */

#define OFFER                                                                  \
  "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"

/* Compression is offered, not taken, and not understood. */
static bool offer_compression(struct raw *raw, void *arg) {
  struct run *run = arg;
  char path[512];
  char token[4096];
  char key[WS_KEY_SIZE];
  char request[8192];
  if (!request_stream(raw, path, sizeof path, token, sizeof token))
    return false;
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, ws_upgrade_key(key) == 0);
  snprintf(request, sizeof request,
           "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
           "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
           "Sec-WebSocket-Version: 13\r\nAuthorization: Bearer %s\r\n"
           "Sec-WebSocket-Extensions: " OFFER "\r\n\r\n",
           path, key, token);
  NEED(raw, raw_text(raw, request));
  NEED(raw, raw_answer(raw) == 101);
  NEED(raw, strcasestr(raw->head, "Sec-WebSocket-Extensions") == NULL);
  return plan_play(raw, &plan, run->way);
}

static void test_hub_declines_compression(void **state) {
  (void)state;
  struct run run = {.way = PLAN_WHOLE};
  assert_true(plan_make(&plan, "T?:fine !#c1:%f248cdc9c90700 T:later", true));
  forget_sink();
  run_script(offer_compression, &run);
  WAIT(sink.closes == 1);
  assert_int_equal(sink.len, 4);
  check_end_behind_hub("compression");
}

/* An extension that was not asked for fails the upgrade, 4.1. */
static bool impose_compression(struct raw *raw, void *arg) {
  (void)arg;
  if (!take_client(raw))
    return false;
  NEED(raw, strcasestr(raw->head, "Sec-WebSocket-Extensions") == NULL);
  NEED(raw, strcasestr(raw->head, "permessage-deflate") == NULL);
  if (!answer_client(raw, "Sec-WebSocket-Extensions: permessage-deflate\r\n"))
    return false;
  NEED(raw, raw_wait_end(raw));
  return true;
}

static void test_client_offers_no_compression(void **state) {
  (void)state;
  forget_sink();
  struct script *script = script_start(impose_compression, NULL);
  dial();
  script_end(script);
  WAIT(sink.closes == 1);
  assert_int_equal(sink.opens, 0);
  assert_int_equal(sink.end.status, DSTREAM_EUPGRADE);
}

/* ---- group ---- */

static void on_state(dstream_device *of, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  (void)of;
  (void)user;
  (void)cause;
  device_state = state;
}

static void on_request(dstream_device *of, void *user,
                       dstream_request *request) {
  (void)of;
  (void)user;
  dstream_request_accept(request, NULL, &echo_sink_callbacks, &sink, NULL);
}

static void on_stopped(dstream_device *of, void *user) {
  (void)of;
  (void)user;
  device_stops++;
}

static void start_device(void) {
  static const struct dstream_device_callbacks callbacks = {
      .on_state = on_state, .on_request = on_request, .on_stopped = on_stopped};
  char text[CONN_STRING_MAX];
  assert_int_equal(hub_fixture_add_device(&hub, "dev", text), 0);
  struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = text,
      .loop = test_loop,
      .tls = {.size = sizeof options.tls, .ca_file = hub.ca_file}};
  assert_int_equal(
      dstream_device_new(&device, &options, &callbacks, NULL, NULL), 0);
  assert_int_equal(dstream_device_start(device), 0);
  WAIT(device_state == DSTREAM_DEVICE_READY);
}

static void start_listener(void) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct timeval timeout = {15, 0};
  setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
  assert_int_equal(listen(listener, 16), 0);
  assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
  listener_port = ntohs(address.sin_port);
}

static void start_rest(void) {
  char sas[SAS_MAX];
  world_sas(sas, sizeof sas, hub.service_string, "localhost", 600, "service");
  rest_head_len =
      snprintf(rest_head, sizeof rest_head,
               "POST /twins/dev/streams/echo HTTP/1.1\r\nHost: localhost\r\n"
               "Content-Length: 0\r\nAuthorization: %s\r\n\r\n",
               sas);
  rest.fd = -1;
  if (!raw_connect(&rest, "localhost", hub.https_port, hub.ca_file))
    fail_msg("%s", rest.error);
  small_packets(&rest);
}

static int group_setup(void **state) {
  (void)state;
  struct dstream_end error;
  test_loop_start();
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  struct dstream_tls_options options = {.size = sizeof options,
                                        .ca_file = hub.ca_file};
  if (tls_config_client(&tls, &options, &error) != 0)
    return -1;
  start_device();
  start_listener();
  start_rest();
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  raw_close(&rest);
  close(listener);
  if (device != NULL) {
    dstream_device_stop(device);
    WAIT(device_stops == 1);
    dstream_device_free(device);
  }
  tls_config_free(tls);
  test_loop_end();
  return hub_fixture_stop(&hub);
}

#define CASES(name) name, sizeof name / sizeof *name
#define SECTION(title, name)                                                   \
  {"hub: " title, test_section, NULL, NULL, &hub_##name}, {                    \
    "client: " title, test_section, NULL, NULL, &client_##name                 \
  }
#define ROLES(name)                                                            \
  static struct section hub_##name = {CASES(name), true};                      \
  static struct section client_##name = {CASES(name), false}

ROLES(framing);
ROLES(pings);
ROLES(reserved_bits);
ROLES(opcodes);
ROLES(fragments);
ROLES(utf8);
ROLES(closing);
ROLES(large);

int main(void) {
  const struct CMUnitTest tests[] = {
      SECTION("1 framing", framing),
      SECTION("2 pings and pongs", pings),
      SECTION("3 reserved bits", reserved_bits),
      SECTION("4 opcodes", opcodes),
      SECTION("5 fragments", fragments),
      SECTION("6 UTF-8", utf8),
      SECTION("7 closing", closing),
      SECTION("10 large messages", large),
      cmocka_unit_test(test_hub_declines_compression),
      cmocka_unit_test(test_client_offers_no_compression),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
