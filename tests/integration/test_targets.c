/* The device side of the proxy: targets behind a real device, with the real
 * hub, as a service sees them. */
#include <setjmp.h>
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

#define MEGABYTES ((uint64_t)(TEST_SANITIZED ? 2 : 16) << 20)

static struct hub_fixture hub;
static struct target_device device; /* "dev1" */
static dstream_service *service;
static struct server server; /* "echo", by default */
static char dead[64];

static const struct local_plan echo_plan = {.kind = LOCAL_ECHO,
                                            .eof_back = true};

static struct dstream_target table[] = {{.name = "echo"}, {.name = "dead"}};

static const struct dstream_targets_options base = {
    .targets = table, .target_count = 2, .max_rate = 100000, .burst = 100000};

static struct call call_echo = {.device = "dev1", .name = "echo"};

static void start_server(const struct local_plan *plan) {
  server_start(&server, "127.0.0.1:0", plan);
  table[0] = (struct dstream_target){.name = "echo", .address = server.address};
  table[1] = (struct dstream_target){.name = "dead", .address = dead};
  target_device_replace(&device, &base);
}

static int setup(void **state) {
  (void)state;
  start_server(&echo_plan);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  WAIT(dstream_targets_count(device.targets) == 0);
  if (server.address[0] != '\0')
    server_stop(&server);
  server.address[0] = '\0';
  return 0;
}

static void restart_server(const struct local_plan *plan) {
  server_stop(&server);
  start_server(plan);
}

static void open_peer(struct peer *peer, uint64_t to_send,
                      uint64_t to_receive) {
  peer_init(peer, PEER_SENDER, to_send, to_receive);
  world_open(service, &call_echo, peer);
}

static void refused(const char *name, const char *reason) {
  struct call call = {.device = "dev1", .name = name};
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0, reason);
}

/* ---- bytes ---- */

static void test_echo(void **state) {
  (void)state;
  struct peer peer;
  open_peer(&peer, MEGABYTES, MEGABYTES);
  wait_done(&peer);
  assert_int_equal(device.events.count[DSTREAM_PROXY_OPENED], 1);
  assert_int_equal(device.events.open, 1);
  assert_string_equal(device.events.name, "echo");
  assert_string_equal(device.events.device, "dev1");
  assert_string_equal(device.events.address, server.address);
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1 && server.locals[0]->eofs == 1);
  WAIT(device.events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_same_bytes(&peer, &peer);
  assert_int_equal(device.events.result.end.status, DSTREAM_OK);
  assert_true(device.events.result.opened);
  assert_true(device.events.result.bytes_in == MEGABYTES);
  assert_true(device.events.result.bytes_out == MEGABYTES);
  assert_int_equal(device.events.open, 0);
  peer_clear(&peer);
}

static void test_both_ways_at_once(void **state) {
  (void)state;
  struct peer peer;
  restart_server(&(struct local_plan){
      .kind = LOCAL_SENDER, .to_send = MEGABYTES, .eof_back = true});
  open_peer(&peer, MEGABYTES, MEGABYTES);
  wait_done(&peer);
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1 && server.locals[0]->eofs == 1);
  assert_peer_to_local(&peer, server.locals[0]);
  assert_local_to_peer(server.locals[0], &peer);
  peer_clear(&peer);
}

static void test_target_speaks_first(void **state) {
  (void)state;
  struct peer peer;
  restart_server(&(struct local_plan){
      .kind = LOCAL_SENDER, .text = "SSH-2.0-early\r\n", .eof_back = true});
  open_peer(&peer, 0, 15);
  wait_done(&peer);
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1);
  assert_int_equal(peer.received, 15);
  peer_clear(&peer);
}

static void test_unix_target(void **state) {
  (void)state;
  struct peer peer;
  char path[128];
  server_stop(&server);
  snprintf(path, sizeof path, "unix:%.100s/app.sock", hub.directory);
  server_start(&server, path, &echo_plan);
  table[0].address = path;
  target_device_replace(&device, &base);
  open_peer(&peer, 500000, 500000);
  peer.eof_when_sent = true;
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_OK, NULL);
  assert_same_bytes(&peer, &peer);
  peer_clear(&peer);
}

/* ---- half-close ---- */

static void test_service_ends_first(void **state) {
  (void)state;
  struct peer peer;
  open_peer(&peer, 300000, 300000);
  peer.eof_when_sent = true;
  WAIT(peer.closes == 1 && server.locals[0]->eofs == 1);
  WAIT(device.events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_true(peer.has_eof && peer.eofs == 1);
  assert_same_bytes(&peer, &peer);
  assert_int_equal(device.events.result.end.status, DSTREAM_OK);
  assert_int_equal(server.locals[0]->resets, 0);
  peer_clear(&peer);
}

static void test_target_ends_first(void **state) {
  (void)state;
  struct peer peer;
  restart_server(&(struct local_plan){
      .kind = LOCAL_SENDER, .to_send = 200000, .eof_when_sent = true});
  open_peer(&peer, 0, 200000);
  WAIT(peer.eofs == 1);
  assert_int_equal(peer.closes, 0);
  peer.eof_when_sent = true;
  peer_send_more(&peer, 250000); /* the other direction goes on */
  WAIT(peer.closes == 1 && server.locals[0]->eofs == 1);
  WAIT(device.events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_peer_to_local(&peer, server.locals[0]);
  assert_local_to_peer(server.locals[0], &peer);
  assert_int_equal(device.events.result.end.status, DSTREAM_OK);
  peer_clear(&peer);
}

static void test_no_half_close_target_ends(void **state) {
  (void)state;
  struct peer peer;
  restart_server(&(struct local_plan){
      .kind = LOCAL_SENDER, .to_send = 200000, .eof_when_sent = true});
  peer_init(&peer, PEER_SENDER, 0, 200000);
  peer.stalled = true; /* all of it comes all the same, late */
  struct plain_service *plain = plain_open(&hub, "dev1", "echo", &peer);
  WAIT(peer.received > 0);
  WAIT(server.locals[0]->eof_done);
  peer_unstall(&peer);
  WAIT(peer.closes == 1);
  assert_false(peer.has_eof);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED, NULL);
  assert_int_equal(peer.end.ws_code, 1000);
  assert_local_to_peer(server.locals[0], &peer);
  WAIT(device.events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_int_equal(device.events.result.end.status, DSTREAM_OK);
  plain_free(plain);
  peer_clear(&peer);
}

static void test_no_half_close_service_ends(void **state) {
  (void)state;
  struct peer peer;
  restart_server(&(struct local_plan){
      .kind = LOCAL_SENDER, .stalled = true, .eof_back = true});
  peer_init(&peer, PEER_SENDER, 40000, 0);
  peer.close_when_done = true;
  struct plain_service *plain = plain_open(&hub, "dev1", "echo", &peer);
  WAIT(peer.closes == 1);
  local_unstall(server.locals[0]);
  WAIT(server.locals[0]->eofs == 1);
  assert_peer_to_local(&peer, server.locals[0]);
  plain_free(plain);
  peer_clear(&peer);
}

/* The service closes, orderly, while a target's reader sleeps: everything is
 * delivered when it wakes up, then FIN. */
static void test_slow_reader_gets_all(void **state) {
  (void)state;
  struct peer peer;
  restart_server(&(struct local_plan){
      .kind = LOCAL_SENDER, .stalled = true, .buffer = 4096, .eof_back = true});
  open_peer(&peer, 60000, 0);
  peer.close_when_done = true;
  WAIT(peer.closes == 1);
  assert_int_equal(dstream_targets_count(device.targets), 1);
  local_unstall(server.locals[0]);
  WAIT(server.locals[0]->eofs == 1);
  assert_peer_to_local(&peer, server.locals[0]);
  assert_int_equal(server.locals[0]->resets, 0);
  WAIT(device.events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_int_equal(device.events.result.end.status, DSTREAM_OK);
  peer_clear(&peer);
}

/* The same while the target itself goes on sending: what it had got is not
 * destroyed by a reset. */
static void test_close_while_target_sends(void **state) {
  (void)state;
  struct peer peer;
  restart_server(&(struct local_plan){.kind = LOCAL_SENDER,
                                      .to_send = 1u << 30,
                                      .stalled = true,
                                      .buffer = 4096});
  open_peer(&peer, 50000, 0);
  WAIT(peer.received > 1000000 && peer.sent == 50000);
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1);
  server.locals[0]->plan.to_send = 0;
  server.locals[0]->buffer_len = 0;
  local_unstall(server.locals[0]);
  WAIT(server.locals[0]->eofs == 1);
  assert_peer_to_local(&peer, server.locals[0]);
  local_eof(server.locals[0]);
  peer_clear(&peer);
}

/* ---- resets ---- */

static void test_target_resets(void **state) {
  (void)state;
  struct peer peer;
  char text[256];
  restart_server(&(struct local_plan){.reset_on_data = true});
  open_peer(&peer, 100, 1);
  WAIT(peer.closes == 1);
  snprintf(text, sizeof text, "target echo (%s): Connection reset by peer",
           server.address);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED, text);
  assert_int_equal(peer.end.ws_code, 1011);
  WAIT(device.events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_int_equal(device.events.result.end.status, DSTREAM_EIO);
  assert_string_equal(device.events.result.end.text, text);
  peer_clear(&peer);
}

static void test_service_aborts(void **state) {
  (void)state;
  struct peer peer;
  open_peer(&peer, 1000, 1000);
  wait_done(&peer);
  dstream_stream_abort(peer.stream);
  WAIT(peer.closes == 1);
  WAIT(server.locals[0]->resets == 1);
  peer_clear(&peer);
}

/* ---- refusals ---- */

static void test_unknown_name(void **state) {
  (void)state;
  refused("nothing", "agent: there is no target \"nothing\"");
  assert_int_equal(device.events.count[DSTREAM_PROXY_REFUSED], 1);
  assert_string_equal(device.events.name, "nothing");
  assert_string_equal(device.events.result.end.text,
                      "agent: there is no target \"nothing\"");
  assert_int_equal(device.events.open, 0);
  refused("tcp~nowhere", "agent: there is no target \"tcp~nowhere\"");
  assert_int_equal(device.events.count[DSTREAM_PROXY_REFUSED], 2);
}

static void test_target_refuses_then_comes_up(void **state) {
  (void)state;
  struct server late;
  struct peer peer;
  char text[128];
  snprintf(text, sizeof text, "target dead (%s): Connection refused", dead);
  refused("dead", text);
  assert_int_equal(device.events.count[DSTREAM_PROXY_FAILED], 1);
  assert_string_equal(device.events.result.end.text, text);
  server_start(&late, dead, &echo_plan);
  struct call call = {.device = "dev1", .name = "dead"};
  peer_init(&peer, PEER_SENDER, 1000, 1000);
  peer.close_when_done = true;
  world_open(service, &call, &peer);
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_OK, NULL);
  server_stop(&late);
  peer_clear(&peer);
}

/* A backlog that is full: SYNs are dropped. */
#define FILL 8
static struct local fill[FILL];

static void fill_backlog(void) {
  memset(fill, 0, sizeof fill);
  loop_watch_want(&server.watch, 0);
  assert_int_equal(listen(server.watch.fd, 1), 0);
  for (int i = 0; i < FILL; i++)
    local_connect(&fill[i], server.address,
                  &(struct local_plan){.kind = LOCAL_SENDER});
}

static void empty_backlog(void) {
  for (int i = 0; i < FILL; i++)
    local_close(&fill[i]);
}

static void test_target_times_out(void **state) {
  (void)state;
  fill_backlog();
  struct dstream_targets_options options = base;
  options.connect_timeout_ms = 300;
  target_device_replace(&device, &options);
  refused("echo", ": timed out");
  assert_int_equal(device.events.count[DSTREAM_PROXY_FAILED], 1);
  empty_backlog();
}

static void test_limit_in_all(void **state) {
  (void)state;
  struct peer peers[2];
  struct dstream_targets_options options = base;
  options.max_streams = 2;
  target_device_replace(&device, &options);
  for (int i = 0; i < 2; i++) {
    open_peer(&peers[i], 10, 10);
    wait_done(&peers[i]);
  }
  assert_int_equal(dstream_targets_count(device.targets), 2);
  refused("echo", "agent: too many streams (limit 2)");
  for (int i = 0; i < 2; i++) {
    dstream_stream_close(peers[i].stream);
    WAIT(peers[i].closes == 1);
    peer_clear(&peers[i]);
  }
}

static void test_limit_of_one_target(void **state) {
  (void)state;
  struct peer peer;
  struct peer again;
  table[0].max_streams = 1;
  target_device_replace(&device, &base);
  open_peer(&peer, 10, 10);
  wait_done(&peer);
  refused("echo", "agent: too many streams to \"echo\" (limit 1)");
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1 && dstream_targets_count(device.targets) == 0);
  open_peer(&again, 10, 10);
  wait_done(&again);
  dstream_stream_close(again.stream);
  WAIT(again.closes == 1);
  peer_clear(&peer);
  peer_clear(&again);
}

static void test_rate(void **state) {
  (void)state;
  struct dstream_targets_options options = base;
  options.max_rate = 1;
  options.burst = 2;
  target_device_replace(&device, &options);
  unsigned refusals = 0;
  for (int i = 0; i < 6; i++) {
    struct peer peer;
    open_peer(&peer, 10, 10);
    peer.close_when_done = true;
    WAIT(peer.closes == 1);
    if (peer.end.status == DSTREAM_EREJECTED) {
      assert_non_null(strstr(peer.end.text, "agent: too many new streams"));
      refusals++;
    }
    peer_clear(&peer);
  }
  uint64_t none = 0;
  wait_still(&none, 20); /* the next test's bucket fills by the millisecond */
  assert_true(refusals >= 1);
  assert_int_equal(device.events.count[DSTREAM_PROXY_REFUSED], refusals);
}

static void test_replace_while_running(void **state) {
  (void)state;
  struct peer peer;
  open_peer(&peer, 1000, 1000);
  wait_done(&peer);
  struct dstream_targets_options options = base;
  options.target_count = 0;
  options.targets = NULL;
  target_device_replace(&device, &options);
  refused("echo", "agent: there is no target");
  peer.to_receive += 100000;
  peer_send_more(&peer, 100000);
  wait_done(&peer);
  table[0].max_streams = 1; /* the running one counts */
  target_device_replace(&device, &base);
  refused("echo", "limit 1");
  struct dstream_end error = {0};
  options.size = sizeof options;
  options.targets = &(struct dstream_target){.name = "bad name"};
  options.target_count = 1;
  assert_int_equal(dstream_targets_replace(device.targets, &options, &error),
                   DSTREAM_EINVAL);
  assert_non_null(strstr(error.text, "bad name"));
  refused("echo", "limit 1"); /* the old table stays */
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1);
  assert_same_bytes(&peer, &peer);
  peer_clear(&peer);
}

static void test_time_limits(void **state) {
  (void)state;
  struct peer peer;
  table[0].idle_timeout_s = 1;
  target_device_replace(&device, &base);
  open_peer(&peer, 10, 10);
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED, "agent: idle for 1 s");
  WAIT(server.locals[0]->resets == 1);
  peer_clear(&peer);
  table[0].idle_timeout_s = 0;
  table[0].total_timeout_s = 1;
  target_device_replace(&device, &base);
  open_peer(&peer, 1u << 30, 1u << 30); /* busy all the time */
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED,
                    "agent: open for 1 s, which is the limit");
  WAIT(device.events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_int_equal(device.events.result.end.status, DSTREAM_ETIMEDOUT);
  peer_clear(&peer);
}

/* ---- what is allowed by pattern ---- */

static void call_host(const char *host, bool allowed) {
  struct peer peer;
  char name[128];
  const char *port = strrchr(server.address, ':') + 1;
  snprintf(name, sizeof name, "tcp~%s~%s", host, port);
  if (!allowed) {
    refused(name, " is not allowed");
    return;
  }
  struct call call = {.device = "dev1", .name = name};
  peer_init(&peer, PEER_SENDER, 1000, 1000);
  peer.close_when_done = true;
  world_open(service, &call, &peer);
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_OK, NULL);
  peer_clear(&peer);
  WAIT(dstream_targets_count(device.targets) == 0); /* its event is told */
}

static void allow(const char *pattern) {
  struct dstream_targets_options options = base;
  options.allow = &pattern;
  options.allow_count = pattern != NULL ? 1 : 0;
  target_device_replace(&device, &options);
}

static void test_allowed_by_pattern(void **state) {
  (void)state;
  char pattern[64];
  const char *port = strrchr(server.address, ':') + 1;
  allow(NULL);
  call_host("127.0.0.1", false);
  allow("127.0.0.0/8:*");
  call_host("127.0.0.1", true);
  assert_string_equal(device.events.name, server.address);
  assert_string_equal(device.events.address, server.address);
  call_host("10.0.0.9", false);
  assert_non_null(strstr(device.events.result.end.text, "agent: 10.0.0.9:"));
  call_host("localhost", true); /* by the address that it has */
  snprintf(pattern, sizeof pattern, "localhost:%s", port);
  allow(pattern);
  call_host("localhost", true); /* by its name */
  call_host("127.0.0.1", false);
  allow("10.0.0.0/8:*");
  call_host("localhost", false); /* has no such address */
  allow("*:1");
  call_host("localhost", false);
}

static void test_unknown_host(void **state) {
  (void)state;
  allow("10.0.0.0/8:*");
  refused("tcp~no-such-host.invalid~80", "target no-such-host.invalid:80: ");
  assert_int_equal(device.events.count[DSTREAM_PROXY_FAILED], 1);
}

/* ---- options ---- */

static void bad_options(const struct dstream_targets_options *options,
                        const char *text) {
  dstream_targets *targets = NULL;
  struct dstream_end error = {0};
  struct dstream_targets_options o = *options;
  o.size = sizeof o;
  assert_int_equal(
      dstream_targets_new(&targets, test_loop, &o, NULL, NULL, &error),
      DSTREAM_EINVAL);
  assert_null(targets);
  if (strstr(error.text, text) == NULL)
    fail_msg("\"%s\" lacks \"%s\"", error.text, text);
}

static void test_bad_options(void **state) {
  (void)state;
  struct dstream_target two[] = {{.name = "a", .address = "127.0.0.1:1"},
                                 {.name = "a", .address = "127.0.0.1:2"}};
  struct dstream_target wrong = {.name = "b", .address = "nonsense"};
  const char *pattern = "10.0.0.0/99:1";
  bad_options(
      &(struct dstream_targets_options){.targets = two, .target_count = 2},
      "\"a\"");
  bad_options(
      &(struct dstream_targets_options){.targets = &wrong, .target_count = 1},
      "\"b\"");
  bad_options(
      &(struct dstream_targets_options){.allow = &pattern, .allow_count = 1},
      "10.0.0.0/99");
  bad_options(&(struct dstream_targets_options){.connect_timeout_ms = 50001},
              "connect_timeout_ms");
  dstream_targets_free(NULL);
}

/* ---- the end of the device, of the table ---- */

static void test_free_while_connecting(void **state) {
  (void)state;
  struct peer peers[3];
  fill_backlog();
  struct target_device other;
  target_device_start(&other, &hub, "other", &base);
  struct call call = {.device = "other", .name = "echo"};
  for (int i = 0; i < 3; i++) {
    peer_init(&peers[i], PEER_SENDER, 1, 1);
    world_open(service, &call, &peers[i]);
  }
  WAIT(dstream_targets_count(other.targets) == 3);
  target_device_end(&other);
  for (int i = 0; i < 3; i++) {
    WAIT(peers[i].closes == 1);
    assert_false(peers[i].end.status == DSTREAM_OK);
    peer_clear(&peers[i]);
  }
  empty_backlog();
}

/* One stream runs, another one's target is being connected to. */
static void test_hub_goes_and_comes(void **state) {
  (void)state;
  struct peer running;
  struct peer opening;
  struct dstream_targets_options options = base;
  options.connect_timeout_ms = 1500;
  target_device_replace(&device, &options);
  open_peer(&running, 1000, 1000);
  wait_done(&running);
  fill_backlog();
  open_peer(&opening, 1, 1);
  WAIT(dstream_targets_count(device.targets) == 2);
  assert_int_equal(hub_fixture_kill(&hub), 0);
  WAIT(running.closes == 1 && opening.closes == 1);
  WAIT(server.locals[0]->resets == 1);
  WAIT(dstream_targets_count(device.targets) == 0);
  assert_int_equal(device.events.count[DSTREAM_PROXY_FAILED], 1);
  assert_int_equal(device.events.count[DSTREAM_PROXY_CLOSED], 1);
  assert_int_equal(hub_fixture_run(&hub), 0);
  empty_backlog();
  restart_server(&echo_plan);
  WAIT(device.ready);
  peer_clear(&running);
  peer_clear(&opening);
}

static void test_device_stops_with_streams(void **state) {
  (void)state;
  struct target_device other;
  struct peer peer;
  target_device_start(&other, &hub, "stops", &base);
  struct call call = {.device = "stops", .name = "echo"};
  peer_init(&peer, PEER_SENDER, 1000, 1000);
  world_open(service, &call, &peer);
  wait_done(&peer);
  target_device_end(&other);
  WAIT(peer.closes == 1 && server.locals[0]->resets == 1);
  peer_clear(&peer);
}

static void test_200_streams_leave_nothing(void **state) {
  (void)state;
  int fds = 0;
  uint64_t memory = 0;
  for (int i = 0; i < 200; i++) {
    struct peer peer;
    open_peer(&peer, 5000, 5000);
    peer.eof_when_sent = true;
    WAIT(peer.closes == 1);
    assert_peer_ended(&peer, true, DSTREAM_OK, NULL);
    peer_clear(&peer);
    WAIT(dstream_targets_count(device.targets) == 0);
    server_forget(&server);
    if (i == 50) {
      fds = count_fds();
      memory = resident_bytes(getpid());
    }
  }
  WAIT(count_fds() <= fds);
  if (!TEST_SANITIZED)
    assert_in_range(resident_bytes(getpid()), 0, memory + (1u << 20));
}

static int group_setup(void **state) {
  (void)state;
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  test_loop_start();
  dead_address(dead, sizeof dead);
  service = world_service(&hub, NULL);
  target_device_start(&device, &hub, "dev1",
                      &(struct dstream_targets_options){0});
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  target_device_end(&device);
  dstream_service_free(service);
  test_loop_end();
  return hub_fixture_stop(&hub);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_echo),
      TEST(test_both_ways_at_once),
      TEST(test_target_speaks_first),
      TEST(test_unix_target),
      TEST(test_service_ends_first),
      TEST(test_target_ends_first),
      TEST(test_no_half_close_target_ends),
      TEST(test_no_half_close_service_ends),
      TEST(test_slow_reader_gets_all),
      TEST(test_close_while_target_sends),
      TEST(test_target_resets),
      TEST(test_service_aborts),
      TEST(test_unknown_name),
      TEST(test_target_refuses_then_comes_up),
      TEST(test_target_times_out),
      TEST(test_limit_in_all),
      TEST(test_limit_of_one_target),
      TEST(test_rate),
      TEST(test_replace_while_running),
      TEST(test_time_limits),
      TEST(test_allowed_by_pattern),
      TEST(test_unknown_host),
      TEST(test_bad_options),
      TEST(test_free_while_connecting),
      TEST(test_device_stops_with_streams),
      TEST(test_hub_goes_and_comes),
      TEST(test_200_streams_leave_nothing),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
