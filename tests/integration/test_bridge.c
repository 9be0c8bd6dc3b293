/* One stream and one socket, or pair of descriptors, joined by hand. */
#include <errno.h>
#include <fcntl.h>
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

#include "integration/support_bridge.h"

static struct hub_fixture hub;
static struct world_device device; /* "dev1" */
static dstream_service *service;

struct joined {
  dstream_bridge *bridge;
  unsigned connects;
  unsigned opens;
  unsigned ends;
  struct dstream_bridge_result result;
  struct local local; /* the other end of its socket */
};

static struct joined joined;

static void on_connected(dstream_bridge *bridge, void *user) {
  struct joined *j = user;
  assert_ptr_equal(bridge, j->bridge);
  j->connects++;
}

static void on_open(dstream_bridge *bridge, void *user) {
  struct joined *j = user;
  assert_ptr_equal(bridge, j->bridge);
  j->opens++;
}

static void on_end(dstream_bridge *bridge, void *user,
                   const struct dstream_bridge_result *result) {
  struct joined *j = user;
  assert_ptr_equal(bridge, j->bridge);
  j->ends++;
  j->result = *result;
  j->bridge = NULL;
}

static const struct dstream_bridge_callbacks callbacks = {
    .on_connected = on_connected, .on_open = on_open, .on_end = on_end};

static int setup(void **state) {
  (void)state;
  memset(&joined, 0, sizeof joined);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  local_close(&joined.local);
  world_device_reset(&device);
  device.kind = PEER_ECHO;
  return 0;
}

/* A bridge on one end of a socket pair; the other end plays the plan. */
static void adopt(const struct local_plan *plan,
                  const struct dstream_bridge_options *options) {
  int fds[2];
  assert_int_equal(
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
      0);
  assert_int_equal(dstream_bridge_adopt(&joined.bridge, test_loop, fds[0],
                                        options, &callbacks, &joined),
                   0);
  local_adopt(&joined.local, fds[1], plan);
}

static void open_stream(const char *id) {
  assert_int_equal(
      dstream_bridge_open(joined.bridge, service, id, "echo", NULL), 0);
}

static void ended(int status, const char *text) {
  WAIT(joined.ends == 1);
  if (joined.result.end.status != status ||
      strstr(joined.result.end.text, text) == NULL)
    fail_msg("ended with %s, \"%s\"",
             dstream_status_name(joined.result.end.status),
             joined.result.end.text);
}

/* ---- the whole life ---- */

static void test_echo(void **state) {
  (void)state;
  device.eof_back = true;
  adopt(&(struct local_plan){.to_send = 1000000, .eof_when_sent = true}, NULL);
  open_stream("dev1");
  assert_int_equal(
      dstream_bridge_open(joined.bridge, service, "dev1", "echo", NULL),
      DSTREAM_ESTATE);
  assert_int_equal(joined.opens + joined.ends, 0);
  WAIT(joined.local.eofs == 1);
  ended(DSTREAM_OK, "both ends are done");
  assert_int_equal(joined.opens, 1);
  assert_local_to_local(&joined.local, &joined.local);
  assert_true(joined.result.bytes_in == 1000000);
  assert_true(joined.result.bytes_out == 1000000);
}

static void test_no_half_close_at_either_end(void **state) {
  (void)state;
  device.kind = PEER_SENDER;
  device.to_send = 30000;
  adopt(&(struct local_plan){.to_send = 300000}, NULL);
  struct plain_service *plain =
      plain_open_bridge(&hub, "dev1", "echo", joined.bridge);
  WAIT(joined.local.received == 30000 && joined.local.sent == 300000);
  local_eof(&joined.local);
  WAIT(device.peer_count == 1 && device.peers[0]->closes == 1);
  assert_false(device.peers[0]->has_eof);
  assert_int_equal(device.peers[0]->end.ws_code, 1000);
  assert_local_to_peer(&joined.local, device.peers[0]);
  assert_peer_to_local(device.peers[0], &joined.local);
  ended(DSTREAM_OK, "");
  plain_free(plain);
}

static void test_the_other_end_closes(void **state) {
  (void)state;
  device.kind = PEER_SENDER;
  device.to_send = 100000;
  adopt(&(struct local_plan){.eof_back = true}, NULL);
  open_stream("dev1");
  WAIT(device.peer_count == 1 && device.peers[0]->sent == 100000);
  dstream_stream_close(device.peers[0]->stream);
  WAIT(joined.local.eofs == 1);
  ended(DSTREAM_OK, "the other end closed it");
  assert_peer_to_local(device.peers[0], &joined.local);
}

/* ---- a socket that is not read ---- */

/* Bytes that the system holds on connections with the hub's HTTPS port, of all
 * processes: it lets its buffers grow to tens of megabytes. */
static uint64_t system_bytes(const char *path) {
  char line[512];
  uint64_t bytes = 0;
  FILE *file = fopen(path, "r");
  if (file == NULL)
    return 0; /* no IPv6 here */
  while (fgets(line, sizeof line, file) != NULL) {
    unsigned from = 0;
    unsigned to = 0;
    unsigned long sending = 0;
    unsigned long unread = 0;
    if (sscanf(line, " %*u: %*[^:]:%x %*[^:]:%x %*x %lx:%lx", &from, &to,
               &sending, &unread) == 4 &&
        (from == hub.https_port || to == hub.https_port))
      bytes += sending + unread;
  }
  fclose(file);
  return bytes;
}

/* Most of it never leaves the sender: this library's buffers, and the hub's,
 * hold little beside what the system holds. */
static void test_bounded_while_stalled(void **state) {
  (void)state;
  const struct dstream_bridge_options options = {.size = sizeof options,
                                                 .buffer = 32768};
  device.kind = PEER_SENDER;
  device.to_send = 256u << 20;
  adopt(&(struct local_plan){.stalled = true, .buffer = 4096}, &options);
  open_stream("dev1");
  WAIT(device.peer_count == 1 && device.peers[0]->opens == 1);
  wait_still(&device.peers[0]->sent, 300);
  uint64_t told = dstream_stream_bytes_out(device.peers[0]->stream);
  uint64_t held =
      system_bytes("/proc/net/tcp") + system_bytes("/proc/net/tcp6");
  assert_true(held > 0);
  assert_true(told < device.to_send);
  assert_true(told < held + (512u << 10));
  assert_true(device.peers[0]->sent < held + (512u << 10));
  local_reset(&joined.local);
  ended(DSTREAM_EIO, "client: ");
  WAIT(device.peers[0]->closes == 1);
  assert_int_equal(device.peers[0]->end.ws_code, 1011);
}

/* ---- a pair ---- */

static void test_pair_of_pipes(void **state) {
  (void)state;
  int in[2];
  int out[2];
  char back[16] = "";
  size_t len = 0;
  device.eof_back = true;
  assert_int_equal(pipe2(in, O_CLOEXEC), 0);
  assert_int_equal(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
  assert_int_equal(write(in[1], "hello", 5), 5);
  close(in[1]);
  assert_int_equal(dstream_bridge_adopt_pair(&joined.bridge, test_loop, in[0],
                                             out[1], NULL, &callbacks, &joined),
                   0);
  open_stream("dev1");
  for (;;) {
    ssize_t n = read(out[0], back + len, sizeof back - len);
    if (n == 0)
      break;
    assert_true(n > 0 || errno == EAGAIN);
    len += n > 0 ? (size_t)n : 0;
    dstream_loop_step(test_loop, 5);
  }
  assert_int_equal(len, 5);
  assert_memory_equal(back, "hello", 5);
  ended(DSTREAM_OK, "");
  close(out[0]);
}

/* ---- connecting ---- */

static void test_connect(void **state) {
  (void)state;
  struct server server;
  struct dstream_end error = {0};
  server_start(&server, "127.0.0.1:0", &(struct local_plan){.to_send = 5000});
  assert_int_equal(dstream_bridge_connect(&joined.bridge, test_loop,
                                          server.address, NULL, &callbacks,
                                          &joined, &error),
                   0);
  assert_int_equal(
      dstream_bridge_open(joined.bridge, service, "dev1", "echo", NULL),
      DSTREAM_ESTATE); /* not yet */
  assert_int_equal(joined.connects, 0);
  WAIT(joined.connects == 1);
  open_stream("dev1");
  WAIT(server.count == 1 && server.locals[0]->received == 5000);
  assert_local_to_local(server.locals[0], server.locals[0]);
  dstream_bridge_fail(joined.bridge, NULL);
  dstream_bridge_fail(joined.bridge, NULL);
  assert_int_equal(joined.ends, 0);
  WAIT(server.locals[0]->eofs == 1);
  local_eof(server.locals[0]);
  ended(DSTREAM_OK, "this end ended it");
  server_stop(&server);
}

static void test_connect_fails(void **state) {
  (void)state;
  char dead[64];
  struct dstream_end error = {0};
  dead_address(dead, sizeof dead);
  assert_int_equal(dstream_bridge_connect(&joined.bridge, test_loop, dead, NULL,
                                          &callbacks, &joined, &error),
                   0);
  ended(DSTREAM_ECONNECT, ": Connection refused");
  assert_memory_equal(joined.result.end.text, "target 127.0.0.1:", 17);
  assert_false(joined.result.opened);
  assert_int_equal(joined.connects, 0);
  dstream_bridge *none = NULL;
  assert_int_equal(dstream_bridge_connect(&none, test_loop, "no address", NULL,
                                          &callbacks, NULL, &error),
                   DSTREAM_EINVAL);
  assert_true(error.text[0] != '\0');
  assert_null(none);
}

static void test_fail_at_every_stage(void **state) {
  (void)state;
  struct server server;
  char text[CONN_STRING_MAX];
  const struct dstream_open_options wait = {.size = sizeof wait,
                                            .connect_wait_s = 20};
  struct dstream_end why = {.status = DSTREAM_ECANCELED, .text = "enough"};
  assert_int_equal(hub_fixture_add_device(&hub, "offline", text), 0);
  server_start(&server, "127.0.0.1:0", &(struct local_plan){0});
  for (int stage = 0; stage < 4; stage++) {
    memset(&joined, 0, sizeof joined);
    assert_int_equal(dstream_bridge_connect(&joined.bridge, test_loop,
                                            server.address, NULL, &callbacks,
                                            &joined, NULL),
                     0);
    if (stage > 0)
      WAIT(joined.connects == 1);
    if (stage == 2) /* the hub waits for the device */
      assert_int_equal(
          dstream_bridge_open(joined.bridge, service, "offline", "echo", &wait),
          0);
    if (stage == 3)
      open_stream("dev1");
    if (stage > 2)
      WAIT(joined.opens == 1);
    dstream_bridge_fail(joined.bridge, &why);
    assert_int_equal(joined.ends, 0);
    ended(DSTREAM_ECANCELED, "enough");
    assert_int_equal(joined.result.opened, stage > 2);
  }
  WAIT(device.peer_count == 1 && device.peers[0]->closes == 1);
  assert_peer_ended(device.peers[0], true, DSTREAM_ECLOSED, "enough");
  server_stop(&server);
}

/* ---- what fails ---- */

static void test_no_such_device(void **state) {
  (void)state;
  adopt(&(struct local_plan){.to_send = 10}, NULL);
  open_stream("nobody");
  WAIT(joined.ends == 1);
  assert_false(joined.result.opened);
  assert_int_not_equal(joined.result.end.status, DSTREAM_OK);
  WAIT(joined.local.resets == 1);
}

static void test_bad_options(void **state) {
  (void)state;
  static const struct dstream_bridge_options bad[] = {
      {.size = 1},
      {.size = sizeof bad[0], .buffer = 100},
      {.size = sizeof bad[0], .buffer = 1u << 30},
      {.size = sizeof bad[0], .idle_timeout_s = -1},
      {.size = sizeof bad[0], .connect_timeout_ms = -1}};
  int fds[2];
  int before = count_fds();
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(dstream_bridge_adopt(&joined.bridge, test_loop, fds[0],
                                          &bad[i], &callbacks, &joined),
                     DSTREAM_EINVAL);
    close(fds[1]);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(dstream_bridge_adopt_pair(&joined.bridge, test_loop,
                                               fds[0], fds[1], &bad[i],
                                               &callbacks, &joined),
                     DSTREAM_EINVAL);
  }
  assert_int_equal(count_fds(), before); /* closed, whatever happened */
}

static int group_setup(void **state) {
  (void)state;
  signal(SIGPIPE, SIG_IGN);
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  test_loop_start();
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_echo),
      TEST(test_no_half_close_at_either_end),
      TEST(test_the_other_end_closes),
      TEST(test_bounded_while_stalled),
      TEST(test_pair_of_pipes),
      TEST(test_connect),
      TEST(test_connect_fails),
      TEST(test_fail_at_every_stage),
      TEST(test_no_such_device),
      TEST(test_bad_options),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
