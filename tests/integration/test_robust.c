/* What dies, and what lives on: peers, the broker and the hub are killed while
 * streams run, and what the hub used is free again afterwards. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_world.h"

static struct hub_fixture hub;
static struct world_device device; /* "dev1" */
static dstream_service *service;
static char child_device[CONN_STRING_MAX]; /* "child": a program of its own */

static int teardown(void **state) {
  (void)state;
  world_device_reset(&device);
  return 0;
}

/* ---- a peer is killed ---- */

static void test_device_is_killed(void **state) {
  (void)state;
  struct child child;
  struct peer peer;
  struct call call = {.device = "child"};
  child_start(&child, &hub, "echo_device", child_device, NULL);
  child_wait_output(&child, "ready child\n");
  peer_init(&peer, PEER_SENDER, UINT64_MAX, UINT64_MAX);
  world_open(service, &call, &peer);
  WAIT(peer.received > (1 << 20) || peer.closes > 0); /* in full flow */
  assert_int_equal(peer.closes, 0);
  hub_fixture_mark_log(&hub);
  uint64_t begin_ms = test_now_ms();
  child_end(&child, SIGKILL);
  WAIT(peer.closes == 1);
  assert_true(test_now_ms() - begin_ms < 1000);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED, "WS disconnected");
  assert_int_equal(peer.end.ws_code, 1011);
  peer_clear(&peer);
  assert_int_equal(hub_fixture_wait_log(&hub, "child can no longer be reached",
                                        WAIT_DEFAULT_MS),
                   0);
  world_open_fails(service, &call, DSTREAM_EOFFLINE, 404103, NULL);
}

static void test_idle_device_is_killed(void **state) {
  (void)state;
  struct child child;
  struct peer peer;
  struct call call = {.device = "child"};
  child_start(&child, &hub, "echo_device", child_device, NULL);
  child_wait_output(&child, "ready child\n");
  peer_init(&peer, PEER_SENDER, 1000, 1000);
  world_open(service, &call, &peer);
  wait_done(&peer);
  uint64_t begin_ms = test_now_ms();
  child_end(&child, SIGKILL);
  WAIT(peer.closes == 1);
  assert_true(test_now_ms() - begin_ms < 1000);
  assert_peer_over(&peer, true);
  assert_int_equal(peer.end.status, DSTREAM_ECLOSED);
  peer_clear(&peer);
}

static void test_service_is_killed(void **state) {
  (void)state;
  struct child child;
  char text[1000];
  memset(text, 'x', sizeof text);
  child_start(&child, &hub, "echo_service", hub.service_string, "dev1");
  assert_int_equal(write(child.in, text, sizeof text), sizeof text);
  WAIT(device.peer_count == 1 && device.peers[0]->received == sizeof text);
  child_wait_output(&child, "xxxx");
  assert_int_equal(device.peers[0]->closes, 0);
  uint64_t begin_ms = test_now_ms();
  child_end(&child, SIGKILL);
  WAIT(device.peers[0]->closes == 1);
  assert_true(test_now_ms() - begin_ms < 1000);
  assert_peer_over(device.peers[0], true);
  assert_int_equal(device.peers[0]->end.status, DSTREAM_ECLOSED);
  assert_int_equal(device.state, DSTREAM_DEVICE_READY);
  world_echo(service, "dev1", 1000);
}

/* Stopped, not killed: it says good-bye. */
static void test_device_is_terminated(void **state) {
  (void)state;
  struct child child;
  struct peer peer;
  struct call call = {.device = "child"};
  child_start(&child, &hub, "echo_device", child_device, NULL);
  child_wait_output(&child, "ready child\n");
  peer_init(&peer, PEER_SENDER, 100000, 100000);
  world_open(service, &call, &peer);
  wait_done(&peer);
  kill(child.pid, SIGTERM);
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED, NULL);
  assert_same_bytes(&peer, &peer);
  child_end(&child, SIGTERM);
  peer_clear(&peer);
}

/* ---- the broker is killed ---- */

static void test_broker_is_killed(void **state) {
  (void)state;
  struct peer peer;
  struct call call = {.device = "dev1", .connect_wait_s = 10};
  peer_init(&peer, PEER_SENDER, 1000, 1000);
  world_open(service, &call, &peer);
  wait_done(&peer);
  unsigned readies = device.readies;
  pid_t broker = hub_fixture_broker(&hub);
  assert_true(broker > 0);
  hub_fixture_mark_log(&hub);
  kill(broker, SIGKILL);
  WAIT(device.state == DSTREAM_DEVICE_WAITING);
  /* the stream goes on meanwhile, */
  peer.to_receive += 5u << 20;
  peer_send_more(&peer, 5u << 20);
  wait_done(&peer);
  /* the hub starts the broker again, the device comes back, */
  WAIT(device.readies > readies);
  pid_t next = hub_fixture_broker(&hub);
  assert_true(next > 0 && next != broker);
  world_open_fails(service,
                   &(struct call){.device = "nobody", .connect_wait_s = 1},
                   DSTREAM_ENOTFOUND, 404001, NULL);
  /* new streams are as before, and the old one is still there */
  struct peer second;
  peer_init(&second, PEER_SENDER, 1000, 1000);
  world_open(service, &call, &second);
  wait_done(&second);
  dstream_stream_close(second.stream);
  peer.to_receive += 1000;
  peer_send_more(&peer, 1000);
  wait_done(&peer);
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1 && second.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_OK, NULL);
  assert_same_bytes(&peer, &peer);
  peer_clear(&peer);
  peer_clear(&second);
}

/* ---- the hub ---- */

static void open_three(struct peer *peers) {
  struct call call = {.device = "dev1", .connect_wait_s = 10};
  for (int i = 0; i < 3; i++) {
    peer_init(&peers[i], PEER_SENDER, 10000, 10000);
    world_open(service, &call, &peers[i]);
  }
  for (int i = 0; i < 3; i++)
    wait_done(&peers[i]);
}

static void test_hub_is_terminated(void **state) {
  (void)state;
  struct peer peers[3];
  open_three(peers);
  unsigned readies = device.readies;
  uint16_t ports[2] = {hub.https_port, hub.mqtt_port};
  kill(hub.pid, SIGTERM);
  for (int i = 0; i < 3; i++) {
    WAIT(peers[i].closes == 1 && device.peers[i]->closes == 1);
    assert_peer_ended(&peers[i], true, DSTREAM_ECLOSED, NULL);
    assert_int_equal(peers[i].end.ws_code, 1001);
    assert_peer_ended(device.peers[i], true, DSTREAM_ECLOSED, NULL);
    assert_int_equal(device.peers[i]->end.ws_code, 1001);
    assert_same_bytes(&peers[i], &peers[i]);
    peer_clear(&peers[i]);
  }
  WAIT(device.state == DSTREAM_DEVICE_WAITING);
  assert_int_equal(hub_fixture_end(&hub), 0); /* exit status, no process left */
  struct call call = {.device = "dev1"};
  world_open_fails(service, &call, DSTREAM_ECONNECT, 0, "refused");
  /* and up again: the same ports, the device comes back by itself */
  assert_int_equal(hub_fixture_run(&hub), 0);
  assert_int_equal(hub.https_port, ports[0]);
  assert_int_equal(hub.mqtt_port, ports[1]);
  WAIT(device.readies > readies);
  world_echo(service, "dev1", 1000);
}

static void test_hub_is_killed(void **state) {
  (void)state;
  struct peer peers[3];
  open_three(peers);
  unsigned readies = device.readies;
  uint64_t begin_ms = test_now_ms();
  assert_int_equal(hub_fixture_kill(&hub), 0); /* its broker goes with it */
  for (int i = 0; i < 3; i++) {
    WAIT(peers[i].closes == 1 && device.peers[i]->closes == 1);
    assert_peer_over(&peers[i], true);
    assert_true(peers[i].end.status != DSTREAM_OK);
    assert_int_equal(peers[i].end.ws_code, 1006);
    peer_clear(&peers[i]);
  }
  assert_true(test_now_ms() - begin_ms < 3000);
  assert_int_equal(hub_fixture_run(&hub), 0);
  WAIT(device.readies > readies);
  world_echo(service, "dev1", 1000);
}

static void test_two_hubs_in_one_folder(void **state) {
  (void)state;
  static struct hub_output output;
  const char *const arguments[] = {hub_program(), "run", hub.hub_dir, NULL};
  pid_t broker = hub_fixture_broker(&hub);
  assert_int_equal(hub_command(&output, arguments), 1);
  assert_string_equal(output.out, "");
  assert_non_null(strstr(output.err, "another dstream-hub"));
  assert_int_equal(hub_fixture_broker(&hub), broker);
  world_echo(service, "dev1", 1000);
}

/* ---- everything is given back ---- */

#define LOAD       100
#define MEMORY_MAX (32u << 20)

static void load(uint64_t bytes) {
  static struct peer peers[LOAD];
  struct call call = {.device = "dev1"};
  for (int i = 0; i < LOAD; i++) {
    peer_init(&peers[i], PEER_SENDER, bytes, bytes);
    world_open(service, &call, &peers[i]);
  }
  for (int i = 0; i < LOAD; i++)
    wait_done(&peers[i]);
  for (int i = 0; i < LOAD; i++)
    dstream_stream_close(peers[i].stream);
  for (int i = 0; i < LOAD; i++) {
    WAIT(peers[i].closes == 1);
    assert_peer_ended(&peers[i], true, DSTREAM_OK, NULL);
    assert_same_bytes(&peers[i], &peers[i]);
    peer_clear(&peers[i]);
  }
  world_device_reset(&device);
}

/* REST connections that a service keeps for its next call; each is three
 * descriptors in the hub. */
#define KEPT_CALLS 4

static void test_nothing_is_kept(void **state) {
  (void)state;
  pid_t broker = hub_fixture_broker(&hub);
  int idle = count_fds_of(hub.pid);
  load(1000); /* whatever is made once */
  int fds = idle + 8 + 3 * KEPT_CALLS;
  WAIT_MS(count_fds_of(hub.pid) <= fds, 2000);
  int own = count_fds() + KEPT_CALLS;
  for (int i = 0; i < 3; i++)
    load(TEST_SANITIZED ? 20000 : 300000);
  /* the last connections end a moment after the streams did, not seconds */
  WAIT_MS(count_fds_of(hub.pid) <= fds && count_fds() <= own, 2000);
  if (!TEST_SANITIZED) {
    assert_true(resident_bytes(hub.pid) < MEMORY_MAX);
    assert_true(resident_bytes(broker) < MEMORY_MAX);
  }
}

/* 50 readers that stall, with all that their streams can hold. */
static void test_memory_with_stalled_streams(void **state) {
  (void)state;
  enum { COUNT = 50 };
  static struct peer peers[COUNT];
  struct call call = {.device = "dev1"};
  device.kind = PEER_SENDER;
  device.to_send = UINT64_MAX;
  for (int i = 0; i < COUNT; i++) {
    peer_init(&peers[i], PEER_SENDER, 0, UINT64_MAX);
    peers[i].stalled = true;
    world_open(service, &call, &peers[i]);
  }
  for (int i = 0; i < COUNT; i++)
    WAIT(peers[i].received == PEER_WINDOW || peers[i].closes > 0);
  for (int i = 0; i < COUNT; i++)
    wait_still(&device.peers[i]->sent, 20);
  if (!TEST_SANITIZED)
    assert_true(resident_bytes(hub.pid) < MEMORY_MAX);
  device.kind = PEER_ECHO;
  device.to_send = 0;
  world_echo(service, "dev1", 1u << 20); /* others are not slowed down */
  for (int i = 0; i < COUNT; i++) {
    assert_int_equal(peers[i].received, PEER_WINDOW);
    dstream_stream_abort(peers[i].stream);
  }
  for (int i = 0; i < COUNT; i++) {
    WAIT(peers[i].closes == 1 && device.peers[i]->closes == 1);
    assert_peer_over(device.peers[i], true);
    peer_clear(&peers[i]);
  }
}

/* ---- the last one: the hub goes, and nothing is left ---- */

static bool port_is_free(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int refused =
      connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 &&
      errno == ECONNREFUSED;
  close(fd);
  return refused != 0;
}

static void test_nothing_is_left(void **state) {
  (void)state;
  static char name[HUB_FIXTURE_PATH];
  snprintf(name, sizeof name, "%s", hub.directory);
  dstream_service_free(service);
  service = NULL;
  world_device_end(&device);
  assert_int_equal(hub_fixture_end(&hub), 0); /* no process */
  assert_true(port_is_free(hub.https_port) && port_is_free(hub.mqtt_port));
  char socket_path[HUB_FIXTURE_PATH + 32];
  snprintf(socket_path, sizeof socket_path, "%s/run/mqtt.sock", hub.hub_dir);
  assert_int_not_equal(access(socket_path, F_OK), 0);
  assert_int_equal(hub_fixture_stop(&hub), 0);
  assert_int_not_equal(access(name, F_OK), 0);
}

/* ---- group ---- */

static int group_setup(void **state) {
  (void)state;
  test_loop_start();
  if (hub_fixture_start(&hub, NULL) != 0 ||
      hub_fixture_add_device(&hub, "child", child_device) != 0)
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
      TEST(test_device_is_killed),  TEST(test_idle_device_is_killed),
      TEST(test_service_is_killed), TEST(test_device_is_terminated),
      TEST(test_broker_is_killed),  TEST(test_hub_is_terminated),
      TEST(test_hub_is_killed),     TEST(test_two_hubs_in_one_folder),
      TEST(test_nothing_is_kept),   TEST(test_memory_with_stalled_streams),
      TEST(test_nothing_is_left),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
