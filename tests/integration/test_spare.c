/* The connection that both ends keep for the next stream while streams come one
 * after the other (net/spare.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "integration/support_proxy.h"
#include "integration/support_world.h"
#include "net/spare.h"

static struct hub_fixture hub;
/* Each counts the connections of one end. */
static struct proxy_fixture device_way;
static struct proxy_fixture service_way;
static char device_string[CONN_STRING_MAX];

static dstream_service *service_by(const struct proxy_fixture *proxy) {
  dstream_service *service = NULL;
  struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = hub.service_string,
      .loop = test_loop,
      .tls = {sizeof options.tls, hub.ca_file},
      .http_proxy = proxy == NULL ? NULL : proxy->url};
  assert_int_equal(dstream_service_new(&service, &options, NULL), 0);
  return service;
}

static void device_by(struct world_device *device,
                      const struct proxy_fixture *proxy) {
  struct dstream_device_options options = {
      .connection_string = device_string,
      .tls = {sizeof options.tls, hub.ca_file},
      .http_proxy = proxy == NULL ? NULL : proxy->url};
  memset(device, 0, sizeof *device);
  device->kind = PEER_ECHO;
  world_device_start_with(device, &options);
  world_device_wait_ready(device);
}

static void run_for(uint64_t ms) {
  for (uint64_t until_ms = test_now_ms() + ms; test_now_ms() < until_ms;)
    assert_int_equal(dstream_loop_step(test_loop, 10), 0);
}

/* When what was before is closed. */
static int settled_fds(void) {
  int n;
  do {
    n = count_fds();
    run_for(300);
  } while (n != count_fds());
  return n;
}

/* How many connections each end began until the stream was open. */
static void open_one(dstream_service *service, unsigned *by_device,
                     unsigned *by_service) {
  struct peer peer;
  struct call call = {.device = "spare"};
  unsigned device_before = proxy_asked(&device_way);
  unsigned service_before = proxy_asked(&service_way);
  peer_init(&peer, PEER_SENDER, 1000, 1000);
  peer.close_when_done = true;
  world_open(service, &call, &peer);
  WAIT(peer.opens == 1);
  *by_device = proxy_asked(&device_way) - device_before;
  *by_service = proxy_asked(&service_way) - service_before;
  WAIT(peer.closes == 1);
  assert_peer_ended(&peer, true, DSTREAM_OK, NULL);
  peer_clear(&peer);
}

static void test_the_third_finds_one(void **state) {
  (void)state;
  static const struct proxy_options options = {.mode = PROXY_WORKS};
  struct world_device device;
  unsigned by_device = 0;
  unsigned by_service = 0;
  assert_int_equal(proxy_start(&device_way, &options), 0);
  assert_int_equal(proxy_start(&service_way, &options), 0);
  device_by(&device, &device_way);
  dstream_service *service = service_by(&service_way);
  open_one(service, &by_device, &by_service);
  assert_int_equal(by_service, 2); /* the call and the stream */
  assert_int_equal(by_device, 1);
  /* Of the second nothing is known but that it came. */
  open_one(service, &by_device, &by_service);
  bool service_had = false;
  bool device_had = false;
  for (int i = 0; i < 50 && !(service_had && device_had); i++) {
    run_for(50); /* for what comes behind it */
    open_one(service, &by_device, &by_service);
    service_had = service_had || by_service == 0;
    device_had = device_had || by_device == 0;
  }
  assert_true(service_had);
  assert_true(device_had);
  dstream_service_free(service);
  world_device_end(&device);
  proxy_stop(&service_way);
  proxy_stop(&device_way);
}

static void two_streams(dstream_service *service, struct world_device *device,
                        int before) {
  world_echo(service, "spare", 1000);
  world_echo(service, "spare", 1000);
  WAIT(device->peers[1]->closes == 1);
  run_for(100); /* what the streams had is closed, or nearly */
  /* The call's, and one of each end. */
  WAIT(count_fds() == before + 3);
}

/* Unused it is closed; a stream by itself brings none. */
static void test_it_does_not_stay(void **state) {
  (void)state;
  struct world_device device;
  device_by(&device, NULL);
  int before = settled_fds();
  dstream_service *service = service_by(NULL);
  two_streams(service, &device, before);
  uint64_t begin_ms = test_now_ms();
  WAIT_MS(count_fds() == before + 1, SPARE_MS + 15000);
  assert_true(test_now_ms() - begin_ms > SPARE_MS / 2);
  world_echo(service, "spare", 1000);
  WAIT(count_fds() == before + 1);
  run_for(100);
  assert_int_equal(count_fds(), before + 1);
  dstream_service_free(service);
  world_device_end(&device);
}

/* Who goes takes it along. */
static void test_it_goes_with_its_owner(void **state) {
  (void)state;
  struct world_device device;
  device_by(&device, NULL);
  int before = settled_fds();
  dstream_service *service = service_by(NULL);
  two_streams(service, &device, before);
  dstream_service_free(service);
  WAIT(count_fds() == before + 1);
  world_device_end(&device);
  WAIT(count_fds() < before);
}

/* A server that does not wait is no fault of the next stream. */
static void test_the_hub_ends_it(void **state) {
  (void)state;
  struct world_device device;
  device_by(&device, NULL);
  int before = settled_fds();
  dstream_service *service = service_by(NULL);
  two_streams(service, &device, before);
  uint64_t begin_ms = test_now_ms();
  WAIT(count_fds() == before + 1);
  assert_true(test_now_ms() - begin_ms < SPARE_MS - 1000);
  world_echo(service, "spare", 1000);
  dstream_service_free(service);
  world_device_end(&device);
}

/* ---- groups ---- */

static int start_hub(const char *overrides) {
  const struct hub_fixture_options options = {.overrides = overrides};
  test_loop_start();
  if (hub_fixture_start(&hub, &options) != 0)
    return -1;
  return hub_fixture_add_device(&hub, "spare", device_string);
}

static int patient_setup(void **state) {
  (void)state;
  return start_hub(NULL);
}

static int hasty_setup(void **state) {
  (void)state;
  return start_hub("{\"limits\":{\"head_seconds\":3}}");
}

static int group_teardown(void **state) {
  (void)state;
  proxy_stop(&service_way);
  proxy_stop(&device_way);
  test_loop_end();
  return hub_fixture_stop(&hub);
}

int main(void) {
  const struct CMUnitTest patient[] = {
      cmocka_unit_test(test_the_third_finds_one),
      cmocka_unit_test(test_it_does_not_stay),
      cmocka_unit_test(test_it_goes_with_its_owner),
  };
  const struct CMUnitTest hasty[] = {
      cmocka_unit_test(test_the_hub_ends_it),
  };
  test_choose();
  int failed = cmocka_run_group_tests(patient, patient_setup, group_teardown);
  return failed + cmocka_run_group_tests(hasty, hasty_setup, group_teardown);
}
