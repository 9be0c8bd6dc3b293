/* Whom device and service trust: a wrong host name and an unknown CA on each of
 * the three TLS connections, which are MQTT, REST and the streaming endpoint.
 * Each is told as such, and nothing is ever said over such a connection. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/certificate.h"
#include "integration/support_world.h"

/* An address of this machine that no certificate here names. */
#define ELSEWHERE "127.0.0.2"

static struct hub_fixture hub;
static struct hub_fixture elsewhere; /* its stream URLs name ELSEWHERE */
static char dev1[CONN_STRING_MAX];
static char other_dir[HUB_FIXTURE_PATH + 16]; /* certificates of another CA */
static char other_ca[HUB_FIXTURE_PATH + 32];
static char both_cas[HUB_FIXTURE_PATH + 32];

static void with_host(char *out, const char *text, const char *host) {
  const char *end = strchr(text, ';');
  assert_int_equal(strncmp(text, "HostName=", 9), 0);
  snprintf(out, CONN_STRING_MAX, "HostName=%s%s", host, end);
}

/* ---- MQTT ---- */

static void device_refuses(const char *connection_string, const char *ca_file,
                           bool websocket, const char *text) {
  struct world_device device;
  memset(&device, 0, sizeof device);
  struct dstream_device_options options = {.connection_string =
                                               connection_string,
                                           .tls.ca_file = ca_file,
                                           .mqtt_over_websocket = websocket};
  hub_fixture_mark_log(&hub);
  world_device_start_with(&device, &options);
  WAIT(device.failures >= 1);
  if (device.cause.status != DSTREAM_EVERIFY ||
      strstr(device.cause.text, text) == NULL)
    fail_msg("%s: %s", dstream_status_name(device.cause.status),
             device.cause.text);
  assert_int_equal(device.state, DSTREAM_DEVICE_WAITING);
  assert_int_equal(device.readies, 0);
  world_device_end(&device);
  assert_false(hub_fixture_logged(&hub, "dev1 connected"));
  assert_false(hub_fixture_logged(&hub, "dev1 is refused"));
}

static void test_mqtt(void **state) {
  (void)state;
  char text[CONN_STRING_MAX];
  with_host(text, dev1, ELSEWHERE);
  for (int websocket = 0; websocket < 2; websocket++) {
    device_refuses(text, hub.ca_file, websocket, "IP address mismatch");
    device_refuses(dev1, other_ca, websocket, "not trusted");
  }
  device_refuses(dev1, NULL, false, "not trusted"); /* the system's roots */
}

/* ---- REST ---- */

static void service_refuses(const char *connection_string, const char *ca_file,
                            const char *text) {
  struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = connection_string,
      .loop = test_loop,
      .tls = {.size = sizeof options.tls, .ca_file = ca_file}};
  dstream_service *service = NULL;
  struct call call = {.device = "dev1"};
  assert_int_equal(dstream_service_new(&service, &options, NULL), 0);
  world_open_fails(service, &call, DSTREAM_EVERIFY, 0, text);
  dstream_service_free(service);
}

static void test_rest(void **state) {
  (void)state;
  char text[CONN_STRING_MAX];
  struct world_device device;
  memset(&device, 0, sizeof device);
  world_device_start(&device, &hub, dev1);
  world_device_wait_ready(&device);
  with_host(text, hub.service_string, ELSEWHERE);
  service_refuses(text, hub.ca_file, "IP address mismatch");
  service_refuses(hub.service_string, other_ca, "not trusted");
  service_refuses(hub.service_string, NULL, "not trusted");
  assert_int_equal(device.requests, 0);
  world_device_end(&device);
}

/* ---- the streaming endpoint ---- */

static void test_streaming_endpoint_of_another_name(void **state) {
  (void)state;
  char text[CONN_STRING_MAX];
  char local[CONN_STRING_MAX];
  struct world_device device;
  struct peer peer;
  struct call call = {.device = "dev1"};
  memset(&device, 0, sizeof device);
  assert_int_equal(hub_fixture_add_device(&elsewhere, "dev1", text), 0);
  with_host(local, text, "localhost"); /* MQTT and REST are fine */
  world_device_start(&device, &elsewhere, local);
  world_device_wait_ready(&device);
  with_host(local, elsewhere.service_string, "localhost");
  dstream_service *service = world_service(&elsewhere, local);
  peer_init(&peer, PEER_SENDER, 10, 10);
  world_open(service, &call, &peer);
  WAIT(device.peer_count == 1 && device.peers[0]->closes == 1);
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, false, DSTREAM_EVERIFY, ELSEWHERE);
  assert_peer_ended(device.peers[0], false, DSTREAM_EVERIFY, ELSEWHERE);
  assert_int_equal(device.state, DSTREAM_DEVICE_READY);
  peer_clear(&peer);
  dstream_service_free(service);
  world_device_end(&device);
}

static void copy_file(const char *from, const char *to, const char *mode) {
  char text[16384];
  FILE *in = fopen(from, "re");
  assert_non_null(in);
  size_t n = fread(text, 1, sizeof text, in);
  fclose(in);
  FILE *out = fopen(to, mode);
  assert_non_null(out);
  assert_int_equal(fwrite(text, 1, n, out), n);
  assert_int_equal(fclose(out), 0);
}

/* The hub serves what is in a folder from now on. */
static void use_certificate(const char *folder) {
  static const char *const names[] = {"server.pem", "server-key.pem"};
  for (int i = 0; i < 2; i++) {
    char from[HUB_FIXTURE_PATH + 64];
    char to[HUB_FIXTURE_PATH + 64];
    snprintf(from, sizeof from, "%s/%s", folder, names[i]);
    snprintf(to, sizeof to, "%s/%s", hub.hub_dir, names[i]);
    copy_file(from, to, "we");
  }
  hub_fixture_mark_log(&hub);
  kill(hub.pid, SIGHUP);
  assert_int_equal(hub_fixture_wait_log(&hub, "certificate reread", 5000), 0);
}

/* Between the answer to the call and the dialling. */
static void on_step(void *user, dstream_stream *stream,
                    enum dstream_open_step step) {
  (void)stream;
  if (step == DSTREAM_STEP_ACCEPTED)
    use_certificate(user);
}

static dstream_service *service_that_trusts(const char *ca_file) {
  struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = hub.service_string,
      .loop = test_loop,
      .tls = {.size = sizeof options.tls, .ca_file = ca_file}};
  dstream_service *service = NULL;
  assert_int_equal(dstream_service_new(&service, &options, NULL), 0);
  return service;
}

/* The streaming endpoint comes to have a certificate of a CA that one side does
 * not know, and the other does. */
static void test_streaming_endpoint_of_an_unknown_ca(void **state) {
  (void)state;
  char mine[HUB_FIXTURE_PATH + 16];
  struct world_device device;
  struct peer peer;
  struct call call = {.device = "dev1"};
  snprintf(mine, sizeof mine, "%s/mine", hub.directory);
  assert_int_equal(mkdir(mine, 0700), 0);
  static const char *const names[] = {"server.pem", "server-key.pem"};
  for (int i = 0; i < 2; i++) {
    char from[HUB_FIXTURE_PATH + 64];
    char to[HUB_FIXTURE_PATH + 64];
    snprintf(from, sizeof from, "%s/%s", hub.hub_dir, names[i]);
    snprintf(to, sizeof to, "%s/%s", mine, names[i]);
    copy_file(from, to, "we");
  }
  /* the device does not know it */
  memset(&device, 0, sizeof device);
  world_device_start(&device, &hub, dev1);
  world_device_wait_ready(&device);
  dstream_service *service = service_that_trusts(both_cas);
  use_certificate(other_dir);
  peer_init(&peer, PEER_SENDER, 10, 10);
  world_open(service, &call, &peer);
  WAIT(device.peer_count == 1 && device.peers[0]->closes == 1);
  assert_peer_ended(device.peers[0], false, DSTREAM_EVERIFY, "not trusted");
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_ECLOSED,
                    "the device did not connect in time");
  peer_clear(&peer);
  dstream_service_free(service);
  world_device_end(&device);
  /* the service does not know it */
  use_certificate(mine);
  memset(&device, 0, sizeof device);
  struct dstream_device_options options = {.connection_string = dev1,
                                           .tls.ca_file = both_cas};
  world_device_start_with(&device, &options);
  world_device_wait_ready(&device);
  service = service_that_trusts(hub.ca_file);
  dstream_service_on_step(service, on_step, other_dir);
  world_open_fails(service, &call, DSTREAM_EVERIFY, 0, "not trusted");
  /* and with the right one all is well again */
  use_certificate(mine);
  dstream_service_on_step(service, NULL, NULL);
  device.kind = PEER_ECHO;
  world_echo(service, "dev1", 1000);
  dstream_service_free(service);
  world_device_end(&device);
}

/* ---- a file that is no certificate ---- */

static void test_bad_ca_files(void **state) {
  (void)state;
  static const char *const files[] = {"/nonexistent/ca.pem", "/dev/null"};
  for (int i = 0; i < 2; i++) {
    struct dstream_service_options options = {
        .size = sizeof options,
        .connection_string = hub.service_string,
        .loop = test_loop,
        .tls = {.size = sizeof options.tls, .ca_file = files[i]}};
    struct dstream_end error = {0};
    dstream_service *service = NULL;
    assert_int_equal(dstream_service_new(&service, &options, &error),
                     DSTREAM_ETLS);
    assert_non_null(strstr(error.text, files[i]));
    assert_null(service);
  }
}

/* ---- group ---- */

static int make_other_ca(void) {
  snprintf(other_dir, sizeof other_dir, "%s/other", hub.directory);
  snprintf(other_ca, sizeof other_ca, "%s/ca.pem", other_dir);
  snprintf(both_cas, sizeof both_cas, "%s/both.pem", other_dir);
  if (mkdir(other_dir, 0700) != 0)
    return -1;
  int folder = open(other_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int status = certificate_create(folder, "localhost", NULL);
  close(folder);
  copy_file(hub.ca_file, both_cas, "we");
  copy_file(other_ca, both_cas, "ae");
  return status;
}

static int group_setup(void **state) {
  (void)state;
  static const struct hub_fixture_options options = {
      .overrides = "{\"limits\":{\"handshake_seconds\":2}}"};
  static const struct hub_fixture_options named = {
      .overrides = "{\"host\":\"" ELSEWHERE "\","
                   "\"limits\":{\"handshake_seconds\":2}}"};
  test_loop_start();
  if (hub_fixture_start(&hub, &options) != 0 ||
      hub_fixture_start(&elsewhere, &named) != 0 ||
      hub_fixture_add_device(&hub, "dev1", dev1) != 0)
    return -1;
  return make_other_ca();
}

static int group_teardown(void **state) {
  (void)state;
  test_loop_end();
  int status = hub_fixture_stop(&elsewhere);
  return hub_fixture_stop(&hub) == 0 ? status : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_mqtt),
      cmocka_unit_test(test_rest),
      cmocka_unit_test(test_streaming_endpoint_of_another_name),
      cmocka_unit_test(test_streaming_endpoint_of_an_unknown_ca),
      cmocka_unit_test(test_bad_ca_files),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
