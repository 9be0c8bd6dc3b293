/* Clients that mean harm, or are broken, in numbers: the hub bounds what they
 * can take, and a stream and a device beside them notice nothing. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
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
#include "integration/support_raw.h"
#include "integration/support_world.h"

#define HEAD_MS 1000
#define LIMITS                                                                 \
  "{\"limits\":{\"head_seconds\":1,\"requests_per_second\":40,"                \
  "\"request_burst\":40,\"max_pending_per_device\":60}}"

static struct hub_fixture hub;
static struct beside beside; /* its device is "steady" */
static dstream_service *service;
static char owner[CONN_STRING_MAX]; /* another policy than the service's */

/* ---- slow clients: they go on sending, a byte now and then ---- */

enum slow_kind {
  SLOW_NOTHING,     /* TCP alone */
  SLOW_HELLO,       /* the TLS handshake */
  SLOW_HEAD,        /* a request's head */
  SLOW_BODY,        /* a request's body */
  SLOW_UPGRADE,     /* the head of a stream's upgrade */
  SLOW_CONNECT,     /* MQTT's CONNECT */
  SLOW_MQTT_NOTHING /* TLS, then nothing */
};

struct slow {
  enum slow_kind kind;
  bool mqtt; /* the port */
  const char *at_once;
  const char *byte_by_byte;
};

#define UPGRADE                                                                \
  "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static struct slow slow_clients[] = {
    {SLOW_NOTHING, false, "", ""},
    {SLOW_NOTHING, true, "", ""},
    {SLOW_HELLO, false, "\x16\x03\x01\x02", "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"},
    {SLOW_HELLO, true, "\x16\x03\x01\x02", "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"},
    {SLOW_HEAD, false,
     "POST /twins/steady/streams/echo HTTP/1.1\r\nX: ", "aaaaaaaaaaaaaaa"},
    {SLOW_BODY, false,
     "POST /twins/steady/streams/echo HTTP/1.1\r\nHost: a\r\n"
     "Content-Length: 1000\r\n\r\n",
     "bbbbbbbbbbbbbbb"},
    {SLOW_BODY, false,
     "POST /twins/steady/streams/echo HTTP/1.1\r\nHost: a\r\n"
     "Transfer-Encoding: chunked\r\n\r\n",
     "1\r\nb\r\n1\r\nb\r\n1\r\nb"},
    {SLOW_UPGRADE, false,
     "GET /bridges/ih/localhost/d/steady/sid/"
     "0123456789abcdef0123456789abcdef/r/service HTTP/1.1\r\n" UPGRADE "X: ",
     "ccccccccccccccc"},
    {SLOW_UPGRADE, false,
     "GET /$iothub/websocket HTTP/1.1\r\n" UPGRADE "X: ", "ccccccccccccccc"},
    {SLOW_CONNECT, true, "\x10\x7f", "ddddddddddddddd"},
    {SLOW_MQTT_NOTHING, true, "", ""},
    /* the upgrade is good, what should follow never comes: MQTT's CONNECT */
    {SLOW_CONNECT, false,
     "GET /$iothub/websocket HTTP/1.1\r\nHost: localhost\r\n"
     "Sec-WebSocket-Protocol: mqtt\r\n" UPGRADE "\r\n",
     "\x82\x85\1\1\1\1\1\1\1"},
};
#define SLOW_KINDS (sizeof slow_clients / sizeof *slow_clients)

static bool slow_connect(struct raw *raw, const struct slow *slow) {
  uint16_t port = slow->mqtt ? hub.mqtt_port : hub.https_port;
  bool plain = slow->kind == SLOW_NOTHING || slow->kind == SLOW_HELLO;
  NEED(raw, plain ? raw_connect_plain(raw, "localhost", port)
                  : raw_connect(raw, "localhost", port, hub.ca_file));
  NEED(raw, raw_text(raw, slow->at_once));
  return true;
}

/* True when the peer's end, or a reset, is there. */
static bool ended(const struct raw *raw) {
  char scrap[4096];
  ssize_t n = recv(raw->fd, scrap, sizeof scrap, MSG_DONTWAIT);
  while (n > 0)
    n = recv(raw->fd, scrap, sizeof scrap, MSG_DONTWAIT);
  return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

static void pause_ms(long ms) {
  struct timespec time = {0, ms * 1000000};
  nanosleep(&time, NULL);
}

static bool slow_client(struct raw *raw, void *arg) {
  const struct slow *slow = arg;
  if (!slow_connect(raw, slow))
    return false;
  uint64_t begin_ms = test_now_ms();
  const char *next = slow->byte_by_byte;
  while (!ended(raw)) {
    if (test_now_ms() - begin_ms > HEAD_MS * 5 / 2) {
      raw_failed(raw, __FILE__, __LINE__, "it is still connected");
      return false;
    }
    if (*next != '\0')
      (void)raw_send(raw, next++, 1);
    pause_ms(90);
  }
  NEED(raw, test_now_ms() - begin_ms > HEAD_MS / 2); /* for its slowness */
  return true;
}

static void test_slow_clients(void **state) {
  (void)state;
  enum { EACH = 4 };
  static struct script *scripts[EACH * SLOW_KINDS];
  int fds = count_fds_of(hub.pid);
  for (size_t i = 0; i < EACH * SLOW_KINDS; i++)
    scripts[i] = script_start(slow_client, &slow_clients[i % SLOW_KINDS]);
  uint64_t begin_ms = test_now_ms();
  while (test_now_ms() - begin_ms < HEAD_MS)
    beside_check(&beside);
  world_echo(service, "steady", 1000);
  for (size_t i = 0; i < EACH * SLOW_KINDS; i++)
    script_end(scripts[i]);
  /* a refused connection is given some time to read why */
  WAIT_MS(count_fds_of(hub.pid) <= fds + 8, 4 * HEAD_MS);
}

/* ---- connections that are opened and left ---- */

static void test_half_open_connections(void **state) {
  (void)state;
  enum { COUNT = 300 };
  int idle[COUNT];
  int fds = count_fds_of(hub.pid);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  for (int i = 0; i < COUNT; i++) {
    address.sin_port = htons(i % 2 == 0 ? hub.https_port : hub.mqtt_port);
    idle[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        connect(idle[i], (struct sockaddr *)&address, sizeof address), 0);
  }
  WAIT(count_fds_of(hub.pid) > fds + COUNT / 2);
  beside_check(&beside);
  world_echo(service, "steady", 1000);
  WAIT_MS(count_fds_of(hub.pid) <= fds + 8, 4 * HEAD_MS);
  for (int i = 0; i < COUNT; i++)
    close(idle[i]);
}

/* ---- a header of 1 MB ---- */

static bool large_header(struct raw *raw, void *arg) {
  static const char *const starts[] = {
      "POST /twins/steady/streams/echo HTTP/1.1\r\nHost: a\r\nX: ",
      "GET /$iothub/websocket HTTP/1.1\r\nHost: a\r\n" UPGRADE "X: ",
      "GET /bridges/x HTTP/1.1\r\nHost: a\r\n" UPGRADE "X: ",
      "GET /",
      /* behind a request that was good: another reader has the connection */
      "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nX: ",
  };
  static char block[16384];
  (void)arg;
  memset(block, 'x', sizeof block);
  for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
    NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
    NEED(raw, raw_text(raw, starts[i]));
    for (int sent = 0; sent < 64; sent++) { /* it may be cut before the end */
      if (!raw_send(raw, block, sizeof block))
        break;
    }
    int status = raw_answer(raw);
    if (i == 4 && status == 200)
      status = raw_answer(raw);
    NEED(raw, status == 431 || (status == 0 && raw->ended));
  }
  return true;
}

static void test_header_of_one_megabyte(void **state) {
  (void)state;
  uint64_t before = resident_bytes(hub.pid);
  run_script(large_header, NULL);
  if (!TEST_SANITIZED)
    assert_true(resident_bytes(hub.pid) < before + (4u << 20));
}

/* ---- a service that asks in a loop ---- */

struct loop {
  atomic_int over;
  unsigned taken;
  unsigned refused;
};

static bool ask(struct raw *raw, const char *target, const char *sas,
                int *status) {
  char request[SAS_MAX + 512];
  int n = snprintf(request, sizeof request,
                   "POST %s HTTP/1.1\r\nHost: localhost\r\n"
                   "Content-Length: 0\r\nAuthorization: %s\r\n\r\n",
                   target, sas);
  NEED(raw, raw_send(raw, request, (size_t)n));
  *status = raw_answer(raw);
  return true;
}

static bool ask_in_a_loop(struct raw *raw, void *arg) {
  struct loop *loop = arg;
  char sas[SAS_MAX];
  int status = 0;
  world_sas(sas, sizeof sas, owner, "localhost", 600, "iothubowner");
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  while (atomic_load(&loop->over) == 0) {
    if (!ask(raw, "/twins/nobody/streams/echo", sas, &status))
      return false;
    NEED(raw, status == 404 || status == 429);
    NEED(raw,
         status != 429 || strcasestr(raw->head, "\r\nRetry-After: ") != NULL);
    loop->taken += status == 404;
    loop->refused += status == 429;
  }
  return true;
}

static void test_service_in_a_loop(void **state) {
  (void)state;
  struct loop loop = {0};
  struct script *script = script_start(ask_in_a_loop, &loop);
  uint64_t begin_ms = test_now_ms();
  for (int i = 0; i < 8; i++) {
    uint64_t next_ms = begin_ms + (uint64_t)(i + 1) * 200;
    world_echo(service, "steady", 1000); /* another service, another device */
    beside_check(&beside);
    WAIT(test_now_ms() >= next_ms);
  }
  atomic_store(&loop.over, 1);
  script_end(script);
  uint64_t seconds = (test_now_ms() - begin_ms) / 1000 + 1;
  print_message("%u taken, %u refused\n", loop.taken, loop.refused);
  assert_true(loop.refused > 20);
  assert_true(loop.taken >= 30);
  assert_true(loop.taken <= 30 + seconds * 30);
}

/* ---- frames of one byte ---- */

static bool copy_header(struct raw *raw, const char *name, char *out,
                        size_t size) {
  const char *value = strstr(raw->head, name);
  NEED(raw, value != NULL);
  value += strlen(name);
  snprintf(out, size, "%.*s", (int)strcspn(value, "\r"), value);
  return true;
}

static bool join_stream(struct raw *raw) {
  char sas[SAS_MAX];
  char url[1024];
  char token[4096];
  int status = 0;
  world_sas(sas, sizeof sas, hub.service_string, "localhost", 600, "service");
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  if (!ask(raw, "/twins/steady/streams/tiny", sas, &status))
    return false;
  NEED(raw, status == 200);
  if (!copy_header(raw, "\r\niothub-streaming-url: ", url, sizeof url) ||
      !copy_header(raw, "\r\niothub-streaming-auth-token: ", token,
                   sizeof token))
    return false;
  const char *path = strchr(url + strlen("wss://"), '/');
  NEED(raw, path != NULL);
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_upgrade(raw, "localhost", path, token, NULL, 0) == 101);
  return true;
}

#define TINY 2000

/* The longest way to say something: 7 bytes of frame for each of payload. */
static bool tiny_frames(struct raw *raw, void *arg) {
  static uint8_t frames[7 * TINY];
  const int count = TEST_SANITIZED ? 20000 : 200000;
  (void)arg;
  if (!join_stream(raw))
    return false;
  struct raw_frame *frame = malloc(sizeof *frame);
  NEED(raw, frame != NULL);
  size_t n = 0;
  for (int i = 0; i < TINY; i++)
    n += raw_frame(frames + n,
                   i == 0          ? 0x02
                   : i == TINY - 1 ? 0x80
                                   : 0x00,
                   "t", 1);
  bool ok = true;
  for (int sent = 0; ok && sent < count; sent += TINY) {
    ok = raw_send(raw, frames, n);
    for (size_t back = 0; ok && back < TINY; back += (size_t)frame->len)
      ok = raw_read_frame(raw, frame) && frame->first == 0x82 && frame->len > 0;
  }
  free(frame);
  NEED(raw, ok);
  NEED(raw, raw_send_frame(raw, 0x88, "\x03\xe8", 2));
  return raw_expect_close(raw, 1000, "") && raw_finish(raw);
}

static void test_frames_of_one_byte(void **state) {
  (void)state;
  struct script *script = script_start(tiny_frames, NULL);
  uint64_t worst_ms = 0;
  while (!atomic_load(&script->over)) {
    uint64_t begin_ms = test_now_ms();
    beside_check(&beside);
    uint64_t took_ms = test_now_ms() - begin_ms;
    worst_ms = took_ms > worst_ms ? took_ms : worst_ms;
  }
  script_end(script);
  print_message("an echo beside it took %llu ms at most\n",
                (unsigned long long)worst_ms);
  assert_true(worst_ms < (TEST_SANITIZED ? 3000 : 1000));
}

/* ---- one identity, two programs ---- */

struct twin {
  const char *connection_string;
  atomic_int *over;
  atomic_int connects;
  atomic_int refusals;
};

/* Connects as the device "twin", again at once whenever the other has taken the
 * connection over; once refused, it goes on trying. */
static bool be_the_twin(struct raw *raw, void *arg) {
  struct twin *twin = arg;
  char password[SAS_MAX];
  world_sas(password, sizeof password, twin->connection_string,
            "localhost/devices/twin", 600, NULL);
  while (atomic_load(twin->over) == 0) {
    NEED(raw, raw_connect(raw, "localhost", hub.mqtt_port, hub.ca_file));
    int code = raw_mqtt_connect(
        raw, "twin", "localhost/twin/?api-version=2020-09-30", password);
    NEED(raw, code == 0 || code == 5);
    atomic_fetch_add(code == 0 ? &twin->connects : &twin->refusals, 1);
    while (code == 0 && !ended(raw) && atomic_load(twin->over) == 0)
      pause_ms(5);
    NEED(raw, code == 0 || raw_wait_end(raw));
  }
  return true;
}

/* They take the connection over from each other five times, then the hub
 * refuses: one of them works, the other is told by CONNACK 5 (which a device
 * puts into words: see core/device_core.c), the operator by the log. */
static void test_two_programs_with_one_identity(void **state) {
  (void)state;
  char connection_string[CONN_STRING_MAX];
  atomic_int over = 0;
  struct twin twins[2] = {{connection_string, &over, 0, 0},
                          {connection_string, &over, 0, 0}};
  assert_int_equal(hub_fixture_add_device(&hub, "twin", connection_string), 0);
  hub_fixture_mark_log(&hub);
  struct script *first = script_start(be_the_twin, &twins[0]);
  struct script *second = script_start(be_the_twin, &twins[1]);
  WAIT(atomic_load(&twins[0].refusals) + atomic_load(&twins[1].refusals) >= 20);
  beside_check(&beside);
  assert_int_equal(
      atomic_load(&twins[0].connects) + atomic_load(&twins[1].connects), 6);
  assert_true(atomic_load(&twins[0].refusals) == 0 ||
              atomic_load(&twins[1].refusals) == 0);
  assert_int_equal(
      hub_fixture_wait_log(&hub, "two programs seem to use its identity", 5000),
      0);
  atomic_store(&over, 1);
  script_end(first);
  script_end(second);
}

/* ---- group ---- */

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
      hub_fixture_policy_string(&hub, "iothubowner", owner) != 0)
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
      TEST(test_slow_clients),
      TEST(test_half_open_connections),
      TEST(test_header_of_one_megabyte),
      TEST(test_service_in_a_loop),
      TEST(test_frames_of_one_byte),
      TEST(test_two_programs_with_one_identity),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
