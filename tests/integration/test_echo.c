/* The main job: streams to a device by its id, through the real hub with its
 * real broker, as device and service see it. */
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

#include "integration/support_world.h"

static struct hub_fixture hub;
static struct world_device device; /* "dev1" */
static dstream_service *service;

static int teardown(void **state) {
  (void)state;
  world_device_reset(&device);
  device.kind = PEER_ECHO;
  return 0;
}

/* ---- echo ---- */

static void test_echo_of_every_size(void **state) {
  (void)state;
  static const uint64_t sizes[] = {0,     1,     2,     124,   125,   126,
                                   127,   16375, 16376, 16377, 16383, 16384,
                                   16385, 65535, 65536, 65537};
  size_t count = sizeof sizes / sizeof *sizes;
  for (size_t i = 0; i < count; i++)
    world_echo(service, "dev1", sizes[i]);
  assert_int_equal(device.requests, count);
  for (size_t i = 0; i < count; i++) {
    WAIT(device.peers[i]->closes == 1);
    assert_peer_ended(device.peers[i], true, DSTREAM_ECLOSED, NULL);
    assert_int_equal(device.peers[i]->end.ws_code, 1000);
    assert_int_equal(device.peers[i]->received, sizes[i]);
  }
}

static void test_echo_of_64_megabytes(void **state) {
  (void)state;
  world_echo(service, "dev1", BIG_SIZE);
}

static void test_both_ways_at_once(void **state) {
  (void)state;
  struct peer peer;
  struct call call = {.device = "dev1", .name = "both"};
  device.kind = PEER_SENDER;
  device.to_send = device.to_receive = BIG_SIZE;
  peer_init(&peer, PEER_SENDER, BIG_SIZE, BIG_SIZE);
  world_open(service, &call, &peer);
  wait_done(&peer);
  wait_done(device.peers[0]);
  assert_string_equal(device.last_name, "both");
  assert_string_equal(dstream_stream_name(peer.stream), "both");
  assert_string_equal(dstream_stream_name(device.peers[0]->stream), "both");
  assert_int_equal(dstream_stream_bytes_in(peer.stream), BIG_SIZE);
  assert_int_equal(dstream_stream_bytes_out(peer.stream), BIG_SIZE);
  dstream_stream_close(device.peers[0]->stream); /* the device, this time */
  WAIT(peer.closes == 1 && device.peers[0]->closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED, NULL);
  assert_peer_ended(device.peers[0], true, DSTREAM_OK, NULL);
  assert_same_bytes(&peer, device.peers[0]);
  assert_same_bytes(device.peers[0], &peer);
  peer_clear(&peer);
}

static void test_half_close(void **state) {
  (void)state;
  struct peer peer;
  struct call call = {.device = "dev1"};
  device.eof_back = true;
  peer_init(&peer, PEER_SENDER, 300000, 300000);
  peer.eof_when_sent = true;
  world_open(service, &call, &peer);
  WAIT(peer.closes == 1);
  assert_true(peer.has_eof && device.peers[0]->has_eof);
  assert_int_equal(peer.eofs + device.peers[0]->eofs, 2);
  assert_peer_over(&peer, true);
  assert_same_bytes(&peer, &peer);
  peer_clear(&peer);
}

/* ---- many ---- */

#define MANY 200

static void test_200_streams_on_one_device(void **state) {
  (void)state;
  static struct peer peers[MANY];
  struct call call = {.device = "dev1"};
  for (uint64_t i = 0; i < MANY; i++) {
    peer_init(&peers[i], PEER_SENDER, 10000 + i, 10000 + i);
    world_open(service, &call, &peers[i]);
  }
  for (int i = 0; i < MANY; i++)
    wait_done(&peers[i]);
  assert_int_equal(device.peer_count, MANY);
  for (int i = 0; i < MANY; i++) { /* all of them at once */
    assert_int_equal(peers[i].closes, 0);
    assert_int_equal(device.peers[i]->closes, 0);
  }
  for (int i = 0; i < MANY; i++)
    dstream_stream_close(peers[i].stream);
  for (int i = 0; i < MANY; i++) {
    WAIT(peers[i].closes == 1 && device.peers[i]->closes == 1);
    assert_peer_ended(&peers[i], true, DSTREAM_OK, NULL);
    assert_peer_ended(device.peers[i], true, DSTREAM_ECLOSED, NULL);
    assert_same_bytes(&peers[i], &peers[i]);
    peer_clear(&peers[i]);
  }
}

#define DEVICES 20
#define EACH    3

static void test_20_devices(void **state) {
  (void)state;
  static struct world_device devices[DEVICES];
  static struct peer peers[DEVICES][EACH];
  for (int i = 0; i < DEVICES; i++) {
    char id[16];
    char text[CONN_STRING_MAX];
    snprintf(id, sizeof id, "many-%d", i);
    devices[i].kind = PEER_ECHO;
    assert_int_equal(hub_fixture_add_device(&hub, id, text), 0);
    world_device_start(&devices[i], &hub, text);
  }
  for (int i = 0; i < DEVICES; i++)
    world_device_wait_ready(&devices[i]);
  for (int i = 0; i < DEVICES * EACH; i++) {
    struct peer *peer = &peers[i % DEVICES][i / DEVICES];
    char id[16];
    char name[16];
    snprintf(id, sizeof id, "many-%d", i % DEVICES);
    snprintf(name, sizeof name, "name-%d", i % DEVICES);
    struct call call = {.device = id, .name = name};
    peer_init(peer, PEER_SENDER, 5000, 5000);
    peer->close_when_done = true;
    world_open(service, &call, peer);
  }
  for (int i = 0; i < DEVICES; i++) {
    char name[16];
    snprintf(name, sizeof name, "name-%d", i);
    for (int j = 0; j < EACH; j++) {
      WAIT(peers[i][j].closes == 1);
      assert_peer_ended(&peers[i][j], true, DSTREAM_OK, NULL);
      assert_same_bytes(&peers[i][j], &peers[i][j]);
      peer_clear(&peers[i][j]);
    }
    assert_int_equal(devices[i].requests, EACH); /* its own, no other's */
    assert_string_equal(devices[i].last_name, name);
  }
  for (int i = 0; i < DEVICES; i++)
    world_device_end(&devices[i]);
}

/* ---- answers ---- */

static void test_reject(void **state) {
  (void)state;
  struct call call = {.device = "dev1"};
  device.answer = ANSWER_REJECT;
  device.reason = "not today, please";
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0, "not today, please");
  device.reason = "odd: 100% & \"'/?#\xc3\xa4";
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0, "odd: 100% & \"'/?#");
  device.reason = "a header?\r\nX: y"; /* a line feed is not passed on */
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0, "rejected");
  device.reason = NULL;
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0, "rejected");
  device.answer = ANSWER_NOTHING;
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0,
                   "the device has no answer");
  device.answer = ANSWER_ACCEPT;
  world_echo(service, "dev1", 1000);
}

static void test_defer_then_accept(void **state) {
  (void)state;
  struct peer peer;
  struct call call = {.device = "dev1", .name = "later"};
  device.answer = ANSWER_DEFER;
  peer_init(&peer, PEER_SENDER, 3000, 3000);
  world_open(service, &call, &peer);
  WAIT(device.deferred != NULL);
  device.answer = ANSWER_ACCEPT; /* others go on meanwhile */
  world_echo(service, "dev1", 1000);
  assert_int_equal(peer.opens + peer.closes, 0);
  assert_string_equal(dstream_request_name(device.deferred), "later");
  assert_int_equal(world_device_accept(&device), DSTREAM_OK);
  wait_done(&peer);
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1);
  assert_same_bytes(&peer, &peer);
  peer_clear(&peer);
}

/* The service is told in time; the late answer finds the stream over, and the
 * device learns that as well. */
static void test_defer_for_too_long(void **state) {
  (void)state;
  struct call call = {.device = "dev1", .response_wait_s = 1};
  device.answer = ANSWER_DEFER;
  uint64_t begin_ms = test_now_ms();
  world_open_fails(service, &call, DSTREAM_ENOANSWER, 504101,
                   "Timed out waiting for the response from device");
  assert_in_range(test_now_ms() - begin_ms, 900, 3000);
  assert_non_null(device.deferred);
  assert_int_equal(world_device_accept(&device), DSTREAM_OK);
  WAIT(device.peers[0]->closes == 1);
  assert_peer_ended(device.peers[0], false, DSTREAM_EUNAUTHORIZED, NULL);
  device.answer = ANSWER_ACCEPT;
  world_echo(service, "dev1", 1000);
}

static void test_too_many_streams(void **state) {
  (void)state;
  char text[CONN_STRING_MAX];
  struct world_device small;
  struct peer peers[2];
  struct call call = {.device = "small"};
  memset(&small, 0, sizeof small);
  small.kind = PEER_ECHO;
  assert_int_equal(hub_fixture_add_device(&hub, "small", text), 0);
  struct dstream_device_options options = {
      .connection_string = text, .tls.ca_file = hub.ca_file, .max_streams = 2};
  world_device_start_with(&small, &options);
  world_device_wait_ready(&small);
  for (int i = 0; i < 2; i++) {
    peer_init(&peers[i], PEER_SENDER, 100, 100);
    world_open(service, &call, &peers[i]);
    wait_done(&peers[i]);
  }
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0, "streams");
  assert_int_equal(small.accept_status, DSTREAM_ELIMIT);
  dstream_stream_close(peers[0].stream);
  WAIT(peers[0].closes == 1 && small.peers[0]->closes == 1);
  world_echo(service, "small", 100); /* room again */
  dstream_stream_close(peers[1].stream);
  WAIT(peers[1].closes == 1);
  for (int i = 0; i < 2; i++)
    peer_clear(&peers[i]);
  world_device_end(&small);
}

/* ---- devices come and go ---- */

static void test_offline(void **state) {
  (void)state;
  char text[CONN_STRING_MAX];
  struct world_device late;
  struct peer peer;
  struct call call = {.device = "late"};
  memset(&late, 0, sizeof late);
  late.kind = PEER_ECHO;
  assert_int_equal(hub_fixture_add_device(&hub, "late", text), 0);
  /* not connected */
  uint64_t begin_ms = test_now_ms();
  world_open_fails(service, &call, DSTREAM_EOFFLINE, 404103, NULL);
  assert_true(test_now_ms() - begin_ms < 900);
  /* not connected in time */
  call.connect_wait_s = 1;
  begin_ms = test_now_ms();
  world_open_fails(service, &call, DSTREAM_EOFFLINE, 404103,
                   "Timed out waiting for device to connect");
  assert_in_range(test_now_ms() - begin_ms, 900, 3000);
  /* in time */
  call.connect_wait_s = 20;
  peer_init(&peer, PEER_SENDER, 2000, 2000);
  hub_fixture_mark_log(&hub);
  world_open(service, &call, &peer);
  world_echo(service, "dev1", 100); /* the call before it is at the hub */
  world_device_start(&late, &hub, text);
  wait_done(&peer);
  /* gone again: the stream goes on without the control connection's help, */
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1);
  world_device_end(&late);
  assert_int_equal(hub_fixture_wait_log(&hub, "late can no longer be reached",
                                        WAIT_DEFAULT_MS),
                   0);
  call.connect_wait_s = 0;
  world_open_fails(service, &call, DSTREAM_EOFFLINE, 404103, NULL);
  peer_clear(&peer);
}

static void test_stop_with_streams(void **state) {
  (void)state;
  struct world_device brief;
  struct peer peers[3];
  struct call call = {.device = "brief"};
  memset(&brief, 0, sizeof brief);
  brief.kind = PEER_ECHO;
  world_device_new(&brief, &hub, "brief");
  for (int i = 0; i < 3; i++) {
    peer_init(&peers[i], PEER_SENDER, 100000, 100000);
    world_open(service, &call, &peers[i]);
  }
  for (int i = 0; i < 3; i++)
    wait_done(&peers[i]);
  world_device_end(&brief); /* checks that each had its on_close */
  for (int i = 0; i < 3; i++) {
    WAIT(peers[i].closes == 1);
    assert_peer_ended(&peers[i], true, DSTREAM_ECLOSED, NULL);
    assert_same_bytes(&peers[i], &peers[i]);
    peer_clear(&peers[i]);
  }
}

static void test_service_goes_in_the_middle(void **state) {
  (void)state;
  struct peer peers[3];
  struct call call = {.device = "dev1"};
  dstream_service *other = world_service(&hub, NULL);
  for (int i = 0; i < 3; i++)
    peer_init(&peers[i], PEER_SENDER, 1000, 1000);
  world_open(other, &call, &peers[0]);
  wait_done(&peers[0]);
  device.answer = ANSWER_DEFER;
  world_open(other, &call, &peers[1]); /* is at the hub */
  WAIT(device.deferred != NULL);
  world_open(other, &call, &peers[2]); /* has not left */
  dstream_service_free(other);
  assert_peer_ended(&peers[0], true, DSTREAM_ECANCELED, NULL);
  assert_peer_ended(&peers[1], false, DSTREAM_ECANCELED, NULL);
  assert_peer_ended(&peers[2], false, DSTREAM_ECANCELED, NULL);
  WAIT(device.peers[0]->closes == 1);
  for (int i = 0; i < 3; i++)
    peer_clear(&peers[i]);
  device.answer = ANSWER_ACCEPT;
  world_echo(service, "dev1", 1000);
}

static void test_close_before_open(void **state) {
  (void)state;
  struct peer peer;
  struct call call = {.device = "dev1"};
  peer_init(&peer, PEER_SENDER, 1000, 1000);
  world_open(service, &call, &peer);
  assert_int_equal(dstream_stream_write(peer.stream, "x", 1), DSTREAM_ESTATE);
  dstream_stream_close(peer.stream);
  assert_int_equal(peer.closes, 0); /* not inside the call */
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, false, DSTREAM_ECANCELED, NULL);
  peer_clear(&peer);
  world_echo(service, "dev1", 1000);
}

/* ---- a module, names ---- */

static void test_module(void **state) {
  (void)state;
  char text[2 * CONN_STRING_MAX];
  char module[3 * CONN_STRING_MAX];
  struct world_device m;
  struct peer peer;
  struct call call = {.device = "with-module", .module = "cam"};
  memset(&m, 0, sizeof m);
  m.kind = PEER_ECHO;
  assert_int_equal(hub_fixture_add_device(&hub, "with-module", text), 0);
  snprintf(module, sizeof module, "%s;ModuleId=cam", text);
  world_device_start(&m, &hub, module);
  world_device_wait_ready(&m);
  assert_string_equal(dstream_device_id(m.device), "with-module/cam");
  peer_init(&peer, PEER_SENDER, 1000, 1000);
  peer.close_when_done = true;
  world_open(service, &call, &peer);
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_OK, NULL);
  peer_clear(&peer);
  call.module = NULL; /* the device itself is not there */
  world_open_fails(service, &call, DSTREAM_EOFFLINE, 404103, NULL);
  world_device_end(&m);
}

static void test_names(void **state) {
  (void)state;
  static const char *const bad[] = {"a b",      "a/b",  "a&b", "a?b",
                                    "\xc3\xa4", "100%", "a#b", "$x"};
  struct call call = {.device = "dev1"};
  char longest[200];
  memset(longest, 'n', sizeof longest);
  longest[128] = '\0';
  device.answer = ANSWER_REJECT;
  device.reason = "seen";
  call.name = longest;
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0, "seen");
  assert_string_equal(device.last_name, longest);
  call.name = "A.b-c_d~9";
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0, "seen");
  assert_string_equal(device.last_name, "A.b-c_d~9");
  unsigned requests = device.requests;
  longest[128] = 'n';
  longest[129] = '\0';
  call.name = longest;
  world_open_fails(service, &call, DSTREAM_EHUB, 400004, "name");
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    call.name = bad[i];
    world_open_fails(service, &call, DSTREAM_EHUB, 400004, "name");
  }
  assert_int_equal(device.requests, requests);
}

/* ---- each event once and in order ---- */

struct steps {
  int count;
  enum dstream_open_step seen[8];
};

static void on_step(void *user, dstream_stream *stream,
                    enum dstream_open_step step) {
  struct steps *steps = user;
  (void)stream;
  if (steps->count < 8)
    steps->seen[steps->count] = step;
  steps->count++;
}

static void test_steps(void **state) {
  (void)state;
  struct steps steps = {0};
  struct call call = {.device = "nobody"};
  dstream_service_on_step(service, on_step, &steps);
  world_echo(service, "dev1", 100);
  assert_int_equal(steps.count, 3);
  assert_int_equal(steps.seen[0], DSTREAM_STEP_REQUEST);
  assert_int_equal(steps.seen[1], DSTREAM_STEP_ACCEPTED);
  assert_int_equal(steps.seen[2], DSTREAM_STEP_CONNECT);
  steps.count = 0;
  world_open_fails(service, &call, DSTREAM_ENOTFOUND, 404001, NULL);
  assert_int_equal(steps.count, 1);
  dstream_service_on_step(service, NULL, NULL);
}

/* ---- a device with its own thread ---- */

struct threaded {
  atomic_int ready;
  atomic_int closes;
  atomic_int stops;
  pthread_t thread;
  atomic_bool wrong_thread;
};

static void check_thread(struct threaded *t) {
  if (!pthread_equal(pthread_self(), t->thread))
    atomic_store(&t->wrong_thread, true);
}

static void threaded_state(dstream_device *d, void *user,
                           enum dstream_device_state state,
                           const struct dstream_end *cause) {
  struct threaded *t = user;
  (void)d;
  (void)cause;
  if (state == DSTREAM_DEVICE_CONNECTING && atomic_load(&t->ready) == 0)
    t->thread = pthread_self();
  check_thread(t);
  if (state == DSTREAM_DEVICE_READY)
    atomic_fetch_add(&t->ready, 1);
}

/* Small messages: what does not fit is dropped, so the test would see it. */
static void threaded_data(dstream_stream *stream, void *user, const void *data,
                          size_t len) {
  check_thread(user);
  dstream_stream_write(stream, data, len);
  dstream_stream_consume(stream, len);
}

static void threaded_close(dstream_stream *stream, void *user,
                           const struct dstream_end *end) {
  struct threaded *t = user;
  (void)stream;
  (void)end;
  check_thread(t);
  atomic_fetch_add(&t->closes, 1);
}

static void threaded_request(dstream_device *d, void *user,
                             dstream_request *request) {
  static const struct dstream_stream_callbacks callbacks = {
      .on_data = threaded_data, .on_close = threaded_close};
  (void)d;
  check_thread(user);
  dstream_request_accept(request, NULL, &callbacks, user, NULL);
}

static void threaded_stopped(dstream_device *d, void *user) {
  struct threaded *t = user;
  (void)d;
  check_thread(t);
  atomic_fetch_add(&t->stops, 1);
}

static void test_device_with_its_own_thread(void **state) {
  (void)state;
  static const struct dstream_device_callbacks callbacks = {
      .on_state = threaded_state,
      .on_request = threaded_request,
      .on_stopped = threaded_stopped};
  char text[CONN_STRING_MAX];
  struct threaded t = {0};
  dstream_device *d = NULL;
  struct peer peer;
  struct call call = {.device = "threaded"};
  assert_int_equal(hub_fixture_add_device(&hub, "threaded", text), 0);
  struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = text,
      .tls = {.size = sizeof options.tls, .ca_file = hub.ca_file}};
  assert_int_equal(dstream_device_new(&d, &options, &callbacks, &t, NULL), 0);
  assert_int_equal(dstream_device_start(d), 0);
  assert_int_equal(dstream_device_start(d), DSTREAM_ESTATE);
  WAIT(atomic_load(&t.ready) == 1);
  for (int i = 0; i < 3; i++)
    world_echo(service, "threaded", 10000);
  WAIT(atomic_load(&t.closes) == 3);
  /* freed with a stream that runs and one that is being asked for */
  peer_init(&peer, PEER_SENDER, 1000, 1000);
  world_open(service, &call, &peer);
  wait_done(&peer);
  hub_fixture_mark_log(&hub);
  dstream_device_free(d);
  assert_int_equal(atomic_load(&t.closes), 4);
  assert_int_equal(atomic_load(&t.stops), 1);
  assert_false(atomic_load(&t.wrong_thread));
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED, NULL);
  peer_clear(&peer);
  assert_int_equal(hub_fixture_wait_log(&hub,
                                        "threaded can no longer be reached",
                                        WAIT_DEFAULT_MS),
                   0);
  world_open_fails(service, &call, DSTREAM_EOFFLINE, 404103, NULL);
}

/* ---- group ---- */

static int group_setup(void **state) {
  (void)state;
  test_loop_start();
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  device.kind = PEER_ECHO;
  world_device_new(&device, &hub, "dev1");
  service = world_service(&hub, NULL);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  dstream_service_free(service);
  world_device_end(&device);
  test_loop_end();
  return hub_fixture_stop(&hub);
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_echo_of_every_size),
      TEST(test_echo_of_64_megabytes),
      TEST(test_both_ways_at_once),
      TEST(test_half_close),
      TEST(test_200_streams_on_one_device),
      TEST(test_20_devices),
      TEST(test_reject),
      TEST(test_defer_then_accept),
      TEST(test_defer_for_too_long),
      TEST(test_too_many_streams),
      TEST(test_offline),
      TEST(test_stop_with_streams),
      TEST(test_service_goes_in_the_middle),
      TEST(test_close_before_open),
      TEST(test_module),
      TEST(test_names),
      TEST(test_steps),
      TEST(test_device_with_its_own_thread),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
