/* The service side of the proxy: sockets that listen, each connection a stream
 * to a real device with targets, through the real hub. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_bridge.h"

#define MEGABYTES ((uint64_t)(TEST_SANITIZED ? 2 : 16) << 20)

static struct hub_fixture hub;
static struct target_device device; /* "dev1" */
static dstream_service *service;
static struct server server; /* target "echo" */
static struct server second; /* on ::1 */
static char dead[64];
static char unix_path[160];

static dstream_listener *listener;
static struct events events;
static unsigned stops;

static const struct local_plan echo_plan = {.kind = LOCAL_ECHO,
                                            .eof_back = true};
static const struct local_plan quiet_plan = {.kind = LOCAL_SENDER};

static void on_stopped(void *user, dstream_listener *stopped) {
  (void)user;
  assert_ptr_equal(stopped, listener);
  stops++;
}

static const struct dstream_listener_callbacks callbacks = {
    .on_event = events_take, .on_stopped = on_stopped, .user = &events};

static void listen_with(const struct dstream_listener_options *options) {
  struct dstream_listener_options o = *options;
  struct dstream_end error = {0};
  o.size = sizeof o;
  if (o.listen == NULL)
    o.listen = "0";
  if (o.device_id == NULL)
    o.device_id = "dev1";
  if (o.bridge.idle_timeout_s != 0 || o.bridge.buffer != 0)
    o.bridge.size = sizeof o.bridge;
  if (dstream_listener_new(&listener, test_loop, service, &o, &callbacks,
                           &error) != 0)
    fail_msg("%s", error.text);
}

static void listen_echo(void) {
  listen_with(&(struct dstream_listener_options){.name = "echo"});
}

static void connect_local(struct local *local, const struct local_plan *plan) {
  local_connect(local, dstream_listener_address(listener), plan);
}

static void serve(const struct local_plan *plan) {
  static struct dstream_target table[3];
  static const char *allow[] = {"127.0.0.0/8:1024-65535", "[::1]:1024-65535",
                                "localhost:1024-65535"};
  if (server.address[0] != '\0')
    server_stop(&server);
  server_start(&server, "127.0.0.1:0", plan);
  table[0] = (struct dstream_target){.name = "echo", .address = server.address};
  table[1] = (struct dstream_target){.name = "dead", .address = dead};
  const struct dstream_targets_options options = {.targets = table,
                                                  .target_count = 2,
                                                  .allow = allow,
                                                  .allow_count = 3,
                                                  .max_streams = 1000,
                                                  .max_rate = 100000,
                                                  .burst = 100000};
  target_device_replace(&device, &options);
}

static int setup(void **state) {
  (void)state;
  memset(&events, 0, sizeof events);
  stops = 0;
  listener = NULL;
  serve(&echo_plan);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  dstream_listener_free(listener);
  listener = NULL;
  WAIT(dstream_targets_count(device.targets) == 0);
  server_forget(&server);
  return 0;
}

/* ---- bytes ---- */

static void test_echo_both_ways(void **state) {
  (void)state;
  struct local client;
  listen_echo();
  connect_local(&client, &(struct local_plan){.to_send = MEGABYTES,
                                              .eof_when_sent = true});
  WAIT_MS(client.eofs == 1, 60000);
  assert_local_to_local(&client, &client);
  assert_true(client.received == MEGABYTES);
  WAIT(events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_int_equal(events.count[DSTREAM_PROXY_OPENED], 1);
  assert_int_equal(events.result.end.status, DSTREAM_OK);
  assert_true(events.result.bytes_in == MEGABYTES);
  assert_true(events.result.bytes_out == MEGABYTES);
  assert_string_equal(events.name, "echo");
  assert_string_equal(events.device, "dev1");
  assert_memory_equal(events.address, "127.0.0.1:", 10);
  local_close(&client);
}

static void test_bulk_in_each_direction(void **state) {
  (void)state;
  struct local client;
  serve(&(struct local_plan){.to_send = MEGABYTES, .eof_back = true});
  listen_echo();
  connect_local(&client, &(struct local_plan){.to_send = MEGABYTES});
  WAIT_MS(client.received == MEGABYTES &&
              server.locals[0]->received == MEGABYTES,
          60000);
  local_eof(&client);
  WAIT(client.eofs == 1 && server.locals[0]->eofs == 1);
  assert_local_to_local(&client, server.locals[0]);
  assert_local_to_local(server.locals[0], &client);
  local_close(&client);
}

static void test_target_ends_first(void **state) {
  (void)state;
  struct local client;
  serve(&(struct local_plan){.to_send = 100000, .eof_when_sent = true});
  listen_echo();
  connect_local(&client, &quiet_plan);
  WAIT(client.eofs == 1);
  local_send_more(&client, 300000);
  local_eof(&client);
  WAIT(server.locals[0]->eofs == 1);
  assert_local_to_local(&client, server.locals[0]);
  assert_local_to_local(server.locals[0], &client);
  assert_int_equal(client.resets + server.locals[0]->resets, 0);
  local_close(&client);
}

static void test_both_on_unix_sockets(void **state) {
  (void)state;
  struct local client;
  struct stat status;
  char at[176];
  snprintf(at, sizeof at, "unix:%.100s/l.sock", hub.directory);
  snprintf(unix_path, sizeof unix_path, "%.100s/l.sock", hub.directory);
  listen_with(&(struct dstream_listener_options){.name = "echo", .listen = at});
  assert_string_equal(dstream_listener_address(listener), at);
  assert_int_equal(lstat(unix_path, &status), 0);
  assert_int_equal(status.st_mode & 0777, 0600);
  connect_local(&client,
                &(struct local_plan){.to_send = 300000, .eof_when_sent = true});
  WAIT(client.eofs == 1);
  assert_local_to_local(&client, &client);
  local_close(&client);
  dstream_listener_free(listener);
  listener = NULL;
  assert_int_not_equal(lstat(unix_path, &status), 0);
}

/* ---- resets ---- */

static void test_client_resets(void **state) {
  (void)state;
  struct local client;
  listen_echo();
  connect_local(&client, &(struct local_plan){.to_send = 1000});
  WAIT(client.received == 1000);
  local_reset(&client);
  WAIT(server.locals[0]->resets == 1);
  assert_int_equal(server.locals[0]->eofs, 0);
  WAIT(events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_int_equal(events.result.end.status, DSTREAM_EIO);
  assert_memory_equal(events.result.end.text, "client 127.0.0.1:", 17);
  WAIT(device.events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_memory_equal(device.events.result.end.text, "client 127.0.0.1:", 17);
  local_close(&client);
}

static void test_target_resets(void **state) {
  (void)state;
  struct local client;
  serve(&(struct local_plan){.reset_on_data = true});
  listen_echo();
  connect_local(&client, &(struct local_plan){.to_send = 10});
  WAIT(client.resets == 1);
  assert_int_equal(client.eofs, 0);
  WAIT(events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_non_null(strstr(events.result.end.text, "target echo ("));
  local_close(&client);
}

/* What came before the reset is not lost. */
static void test_bytes_before_a_reset(void **state) {
  (void)state;
  struct local client;
  serve(&(struct local_plan){.text = "last words", .reset_on_data = true});
  listen_echo();
  connect_local(&client, &quiet_plan);
  WAIT(client.received == 10);
  local_send_more(&client, 10);
  WAIT(client.resets == 1);
  local_close(&client);
}

/* Everything is full both ways, nobody reads, so a reset of the client is only
 * seen by who looks for it. */
static void test_reset_while_all_is_full(void **state) {
  (void)state;
  struct local client;
  const struct local_plan plan = {
      .to_send = 1u << 30, .stalled = true, .buffer = 4096};
  serve(&plan);
  listen_echo();
  connect_local(&client, &plan);
  WAIT(server.count == 1);
  wait_still(&client.sent, 300);
  wait_still(&server.locals[0]->sent, 300);
  local_reset(&client);
  WAIT(events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_int_equal(events.result.end.status, DSTREAM_EIO);
  assert_memory_equal(events.result.end.text, "client 127.0.0.1:", 17);
  local_unstall(server.locals[0]); /* what was under way comes first */
  WAIT(server.locals[0]->resets == 1);
  server.locals[0]->plan.to_send = 0;
  server.locals[0]->buffer_len = 0;
  if (server.locals[0]->open)
    local_eof(server.locals[0]);
  WAIT(device.events.count[DSTREAM_PROXY_CLOSED] == 1);
  local_close(&client);
}

/* ---- what fails ---- */

static void fails(const struct dstream_listener_options *options,
                  const char *text) {
  struct local client;
  listen_with(options);
  connect_local(&client, &(struct local_plan){.to_send = 100});
  WAIT(client.resets == 1);
  assert_int_equal(client.eofs, 0);
  WAIT(events.count[DSTREAM_PROXY_FAILED] == 1);
  if (strstr(events.result.end.text, text) == NULL)
    fail_msg("\"%s\" lacks \"%s\"", events.result.end.text, text);
  assert_false(events.result.opened);
  assert_int_equal(events.open, 0);
  local_close(&client);
  dstream_listener_free(listener);
  listener = NULL;
  memset(&events, 0, sizeof events);
}

static void test_failures_reset_the_client(void **state) {
  (void)state;
  char text[256];
  fails(&(struct dstream_listener_options){.name = "nothing"},
        "agent: there is no target \"nothing\"");
  snprintf(text, sizeof text, "target dead (%s): Connection refused", dead);
  fails(&(struct dstream_listener_options){.name = "dead"}, text);
  fails(&(struct dstream_listener_options){.name = "10.0.0.9:25"},
        "agent: 10.0.0.9:25 is not allowed");
  fails(
      &(struct dstream_listener_options){.name = "echo", .device_id = "nobody"},
      "");
}

static void test_host_and_port(void **state) {
  (void)state;
  struct local client;
  listen_with(&(struct dstream_listener_options){.name = server.address});
  connect_local(&client,
                &(struct local_plan){.to_send = 1000, .eof_when_sent = true});
  WAIT(client.eofs == 1);
  assert_local_to_local(&client, &client);
  WAIT(events.count[DSTREAM_PROXY_CLOSED] == 1);
  assert_string_equal(events.name, server.address);
  local_close(&client);
}

static void bad(const struct dstream_listener_options *options, int status,
                const char *text) {
  struct dstream_listener_options o = *options;
  struct dstream_end error = {0};
  dstream_listener *none = NULL;
  o.size = sizeof o;
  assert_int_equal(
      dstream_listener_new(&none, test_loop, service, &o, NULL, &error),
      status);
  assert_null(none);
  if (strstr(error.text, text) == NULL)
    fail_msg("\"%s\" lacks \"%s\"", error.text, text);
}

static void test_bad_options(void **state) {
  (void)state;
  char at[176];
  listen_echo();
  bad(&(struct dstream_listener_options){.listen =
                                             dstream_listener_address(listener),
                                         .device_id = "d"},
      DSTREAM_ESYSTEM, "in use");
  bad(&(struct dstream_listener_options){.listen = "nonsense:x",
                                         .device_id = "d"},
      DSTREAM_EINVAL, "");
  bad(&(struct dstream_listener_options){.listen = "0"}, DSTREAM_EINVAL,
      "device_id");
  bad(&(struct dstream_listener_options){.listen = "0",
                                         .device_id = "d",
                                         .name = "unix:/x"},
      DSTREAM_EINVAL, "path");
  bad(&(struct dstream_listener_options){.listen = "0",
                                         .device_id = "d",
                                         .name = "no good"},
      DSTREAM_EINVAL, "");
  snprintf(at, sizeof at, "unix:%.100s", hub.ca_file);
  bad(&(struct dstream_listener_options){.listen = at, .device_id = "d"},
      DSTREAM_ESYSTEM, "a file of this name");
  assert_int_equal(access(hub.ca_file, F_OK), 0);
  dstream_listener_free(NULL);
}

static void test_stale_unix_socket(void **state) {
  (void)state;
  char at[176];
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(at, sizeof at, "unix:%.100s/stale.sock", hub.directory);
  snprintf(address.sun_path, sizeof address.sun_path, "%.107s", at + 5);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address),
                   0);
  close(fd);
  listen_with(&(struct dstream_listener_options){.name = "echo", .listen = at});
  bad(&(struct dstream_listener_options){.listen = at, .device_id = "d"},
      DSTREAM_ESYSTEM, "another program");
  assert_int_equal(access(at + 5, F_OK), 0);
  /* Another's socket in its place is left alone. */
  assert_int_equal(unlink(at + 5), 0);
  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address),
                   0);
  dstream_listener_free(listener);
  listener = NULL;
  assert_int_equal(access(at + 5, F_OK), 0);
  close(fd);
  unlink(at + 5);
}

/* ---- many ---- */

#define MANY 100

static void test_100_at_once(void **state) {
  (void)state;
  static struct local clients[MANY];
  listen_echo();
  for (uint64_t i = 0; i < MANY; i++)
    connect_local(&clients[i], &(struct local_plan){.to_send = 20000 + i});
  for (uint64_t i = 0; i < MANY; i++)
    WAIT_MS(clients[i].received == 20000 + i, 60000);
  assert_int_equal(events.count[DSTREAM_PROXY_OPENED], MANY);
  assert_int_equal(dstream_targets_count(device.targets), MANY);
  local_reset(&clients[0]); /* hurts nobody else */
  for (int i = 1; i < MANY; i++)
    local_eof(&clients[i]);
  for (int i = 1; i < MANY; i++) {
    WAIT(clients[i].eofs == 1);
    assert_local_to_local(&clients[i], &clients[i]);
  }
  WAIT(events.count[DSTREAM_PROXY_CLOSED] == MANY);
  for (int i = 0; i < MANY; i++)
    local_close(&clients[i]);
}

static void test_most_connections(void **state) {
  (void)state;
  struct local clients[4];
  listen_with(
      &(struct dstream_listener_options){.name = "echo", .max_connections = 2});
  for (int i = 0; i < 4; i++)
    connect_local(&clients[i], &(struct local_plan){.to_send = 1000});
  WAIT(clients[0].received == 1000 && clients[1].received == 1000);
  uint64_t none = 0;
  wait_still(&none, 100);
  assert_int_equal(server.count, 2);
  local_eof(&clients[0]);
  WAIT(clients[2].received == 1000);
  assert_int_equal(clients[3].received, 0);
  local_reset(&clients[1]);
  WAIT(clients[3].received == 1000);
  for (int i = 0; i < 4; i++)
    local_close(&clients[i]);
}

static void test_no_descriptors_left(void **state) {
  (void)state;
  struct local clients[2];
  struct rlimit limit;
  struct rlimit few;
  listen_echo();
  connect_local(&clients[0], &(struct local_plan){.to_send = 1000});
  WAIT(clients[0].received == 1000);
  connect_local(&clients[1], &(struct local_plan){.to_send = 1000});
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  few = limit;
  few.rlim_cur = (rlim_t)count_fds() + 20;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
  int used[64];
  unsigned used_count = 0;
  int fd = dup(0);
  while (fd >= 0 && used_count < 64) {
    used[used_count++] = fd;
    fd = dup(0);
  }
  uint64_t none = 0;
  clock_t cpu = clock();
  wait_still(&none, 500); /* it must not spin */
  cpu = clock() - cpu;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
  while (used_count > 0)
    close(used[--used_count]);
  assert_in_range(cpu, 0, CLOCKS_PER_SEC / 4);
  assert_int_equal(clients[1].received, 0);
  WAIT(clients[1].received == 1000);
  for (int i = 0; i < 2; i++)
    local_close(&clients[i]);
}

static void test_once(void **state) {
  (void)state;
  struct local client;
  struct local late;
  char address[64];
  listen_with(&(struct dstream_listener_options){.name = "echo", .once = true});
  snprintf(address, sizeof address, "%s", dstream_listener_address(listener));
  connect_local(&client, &(struct local_plan){.to_send = 1000});
  WAIT(client.received == 1000);
  local_connect(&late, address, &quiet_plan);
  WAIT(late.resets == 1);
  assert_int_equal(stops, 0);
  local_eof(&client);
  WAIT(stops == 1 && client.eofs == 1);
  assert_int_equal(events.count[DSTREAM_PROXY_CLOSED], 1);
  local_close(&client);
  local_close(&late);
}

/* ---- the end ---- */

static void test_stop_later_and_at_once(void **state) {
  (void)state;
  struct local client;
  listen_echo();
  connect_local(&client, &(struct local_plan){.to_send = 1000});
  WAIT(client.received == 1000);
  dstream_listener_stop(listener, false);
  local_send_more(&client, 1000);
  WAIT(client.received == 2000);
  assert_int_equal(stops, 0);
  dstream_listener_stop(listener, true);
  assert_int_equal(stops, 0); /* not inside the call */
  WAIT(client.eofs == 1 && server.locals[0]->eofs == 1);
  local_eof(&client);
  WAIT(stops == 1);
  dstream_listener_stop(listener, true);
  assert_int_equal(client.resets, 0);
  local_close(&client);
}

static void test_free_with_connections(void **state) {
  (void)state;
  struct local clients[3];
  listen_echo();
  connect_local(&clients[0], &(struct local_plan){.to_send = 1000});
  WAIT(clients[0].received == 1000);
  connect_local(&clients[1], &quiet_plan); /* opening */
  WAIT(events.count[DSTREAM_PROXY_OPENED] == 1 && clients[1].connects == 1);
  dstream_loop_step(test_loop, 0);
  dstream_listener_free(listener);
  listener = NULL;
  WAIT(clients[0].resets == 1 && clients[1].resets == 1);
  WAIT(server.locals[0]->resets == 1);
  listen_with(&(struct dstream_listener_options){0});
  connect_local(&clients[2], &quiet_plan); /* in its SOCKS handshake */
  local_write(&clients[2], "\5", 1);
  WAIT(clients[2].connects == 1);
  for (int i = 0; i < 5; i++)
    dstream_loop_step(test_loop, 10);
  dstream_listener_free(listener);
  listener = NULL;
  WAIT(clients[2].resets + clients[2].eofs == 1);
  for (int i = 0; i < 3; i++)
    local_close(&clients[i]);
}

/* ---- SOCKS ---- */

struct request {
  uint8_t bytes[300];
  size_t len;
};

static struct request socks_request(int type, const char *host,
                                    const char *address) {
  struct request r = {.bytes = {5, 1, 0, 5, 1, 0, (uint8_t)type}, .len = 7};
  unsigned port = (unsigned)strtoul(strrchr(address, ':') + 1, NULL, 10);
  if (type == 3) {
    size_t len = strlen(host);
    r.bytes[r.len++] = (uint8_t)len;
    memcpy(r.bytes + r.len, host, len);
    r.len += len;
  } else {
    size_t len = type == 1 ? 4 : 16;
    memset(r.bytes + r.len, 0, len);
    r.len += len;
    r.bytes[r.len - 1] = 1;
    if (type == 1)
      r.bytes[r.len - 4] = 127;
  }
  r.bytes[r.len++] = (uint8_t)(port >> 8);
  r.bytes[r.len++] = (uint8_t)port;
  return r;
}

/* Two bytes for the greeting, ten for the reply. */
static void socks_call(struct request r, size_t pieces, int reply) {
  struct local client;
  connect_local(&client, &quiet_plan);
  WAIT(client.connects == 1);
  if (reply == 0) /* behind the request, already */
    r.bytes[r.len++] = 'x';
  for (size_t at = 0; at < r.len; at += pieces) {
    local_write(&client, r.bytes + at,
                r.len - at < pieces ? r.len - at : pieces);
    dstream_loop_step(test_loop, 1);
  }
  WAIT(client.received >= 12);
  assert_memory_equal(client.first, "\5\0\5", 3);
  assert_int_equal(client.first[3], reply);
  if (reply == 0) {
    WAIT(client.received == 13);
    assert_int_equal(client.first[12], 'x');
    local_send_more(&client, 50000);
    WAIT(client.received == 50013);
  }
  local_eof(&client);
  WAIT(client.eofs == 1);
  assert_int_equal(client.resets, 0);
  local_close(&client);
}

static void test_socks(void **state) {
  (void)state;
  listen_with(&(struct dstream_listener_options){0});
  socks_call(socks_request(1, NULL, server.address), 300, 0);
  socks_call(socks_request(1, NULL, server.address), 1, 0);
  assert_string_equal(events.name, server.address);
  socks_call(socks_request(3, "localhost", server.address), 5, 0);
  assert_memory_equal(events.name, "localhost:", 10);
  if (second.address[0] != '\0')
    socks_call(socks_request(4, NULL, second.address), 300, 0);
  socks_call(socks_request(1, NULL, dead), 300, 5);
  assert_non_null(strstr(events.result.end.text, "Connection refused"));
  socks_call(socks_request(3, "not-allowed.example", ":80"), 300, 2);
  assert_string_equal(events.name, "not-allowed.example:80");
  socks_call(socks_request(3, "no-such-host.invalid", ":8080"), 300, 4);
  struct request bind = socks_request(1, NULL, ":80");
  bind.bytes[4] = 2;
  socks_call(bind, 300, 7);
  assert_int_equal(events.count[DSTREAM_PROXY_REFUSED], 1);
}

static void test_socks_to_nobody(void **state) {
  (void)state;
  listen_with(&(struct dstream_listener_options){.device_id = "nobody"});
  socks_call(socks_request(1, NULL, ":80"), 300, 4);
}

static void test_socks_nonsense(void **state) {
  (void)state;
  struct local client;
  listen_with(&(struct dstream_listener_options){0});
  connect_local(&client, &quiet_plan);
  WAIT(client.connects == 1);
  local_write(&client, "GET / HTTP/1.1\r\n\r\n", 18);
  WAIT(client.eofs + client.resets == 1);
  WAIT(events.count[DSTREAM_PROXY_REFUSED] == 1);
  assert_memory_equal(events.result.end.text, "client 127.0.0.1:", 17);
  local_close(&client);
  connect_local(&client, &quiet_plan);
  WAIT(client.connects == 1);
  local_eof(&client);
  WAIT(events.count[DSTREAM_PROXY_REFUSED] == 2);
  local_close(&client);
}

/* ---- stalls ---- */

#define STALLED 20

static void test_bulk_beside_stalled_readers(void **state) {
  (void)state;
  static struct local stalled[STALLED];
  struct local bulk;
  struct server bulk_server;
  serve(&(struct local_plan){.to_send = 4u << 20});
  listen_echo();
  for (int i = 0; i < STALLED; i++)
    connect_local(&stalled[i], &(struct local_plan){.stalled = true});
  WAIT(events.count[DSTREAM_PROXY_OPENED] == STALLED);
  server_start(&bulk_server, "127.0.0.1:0", &echo_plan);
  dstream_listener *first = listener;
  listen_with(&(struct dstream_listener_options){.name = bulk_server.address});
  connect_local(
      &bulk, &(struct local_plan){.to_send = MEGABYTES, .eof_when_sent = true});
  WAIT_MS(bulk.eofs == 1, 60000);
  assert_local_to_local(&bulk, &bulk);
  for (int i = 0; i < STALLED; i++)
    local_unstall(&stalled[i]);
  for (int i = 0; i < STALLED; i++)
    WAIT_MS(stalled[i].received == 4u << 20, 60000);
  for (int i = 0; i < STALLED; i++) {
    local_eof(&stalled[i]);
    local_eof(server.locals[i]);
  }
  WAIT(dstream_targets_count(device.targets) == 0);
  for (int i = 0; i < STALLED; i++)
    local_close(&stalled[i]);
  local_close(&bulk);
  server_stop(&bulk_server);
  dstream_listener_free(first);
}

/* ---- nothing is left ---- */

static void test_500_connections_leave_nothing(void **state) {
  (void)state;
  int fds = 0;
  uint64_t memory = 0;
  listen_echo();
  for (int i = 0; i < 500; i++) {
    struct local client;
    connect_local(&client,
                  &(struct local_plan){.to_send = 3000, .eof_when_sent = true});
    WAIT(client.eofs == 1);
    assert_local_to_local(&client, &client);
    local_close(&client);
    WAIT(dstream_targets_count(device.targets) == 0);
    server_forget(&server);
    if (i == 99) {
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
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0) {
    close(fd);
    server_start(&second, "[::1]:0", &echo_plan);
  }
  service = world_service(&hub, NULL);
  target_device_start(&device, &hub, "dev1",
                      &(struct dstream_targets_options){0});
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  target_device_end(&device);
  dstream_service_free(service);
  server_stop(&server);
  if (second.address[0] != '\0')
    server_stop(&second);
  test_loop_end();
  return hub_fixture_stop(&hub);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_echo_both_ways),
      TEST(test_bulk_in_each_direction),
      TEST(test_target_ends_first),
      TEST(test_both_on_unix_sockets),
      TEST(test_client_resets),
      TEST(test_target_resets),
      TEST(test_bytes_before_a_reset),
      TEST(test_reset_while_all_is_full),
      TEST(test_failures_reset_the_client),
      TEST(test_host_and_port),
      TEST(test_bad_options),
      TEST(test_stale_unix_socket),
      TEST(test_100_at_once),
      TEST(test_most_connections),
      TEST(test_no_descriptors_left),
      TEST(test_once),
      TEST(test_stop_later_and_at_once),
      TEST(test_free_with_connections),
      TEST(test_socks),
      TEST(test_socks_to_nobody),
      TEST(test_socks_nonsense),
      TEST(test_bulk_beside_stalled_readers),
      TEST(test_500_connections_leave_nothing),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
