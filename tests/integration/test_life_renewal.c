/* A device's token is renewed, which takes a new connection, at bad moments: a
 * request waits for its answer, a request comes just then, one is never
 * answered.  Nothing is lost, and streams that run do not notice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "integration/support_world.h"

#define LIFETIME_S 10 /* the least */

static struct hub_fixture hub;
static dstream_service *service;

/* A device whose token lives for LIFETIME_S, and a stream to it that stays. */
struct subject {
  struct world_device device;
  struct peer standing;
  struct peer asked; /* for what the test asks */
  uint64_t from_ms;  /* the token is not older than that */
};

static void begin(struct subject *subject, const char *id) {
  char text[CONN_STRING_MAX];
  assert_int_equal(hub_fixture_add_device(&hub, id, text), 0);
  memset(subject, 0, sizeof *subject);
  subject->device.kind = PEER_ECHO;
  struct dstream_device_options options = {.connection_string = text,
                                           .tls.ca_file = hub.ca_file,
                                           .sas_lifetime_s = LIFETIME_S};
  subject->from_ms = test_now_ms();
  world_device_start_with(&subject->device, &options);
}

static void open_standing(struct subject *subject, const char *id) {
  struct call call = {.device = id, .name = "standing"};
  world_device_wait_ready(&subject->device);
  peer_init(&subject->standing, PEER_SENDER, 1000, 1000);
  world_open(service, &call, &subject->standing);
  wait_done(&subject->standing);
}

static void ask(struct subject *subject, const char *id) {
  struct call call = {.device = id,
                      .name = "asked",
                      .connect_wait_s = 30,
                      .response_wait_s = 60};
  peer_init(&subject->asked, PEER_SENDER, 50000, 50000);
  world_open(service, &call, &subject->asked);
}

static void assert_stands(struct subject *subject) {
  peer_send_more(&subject->standing, 1000);
  subject->standing.to_receive += 1000;
  wait_done(&subject->standing);
  assert_int_equal(subject->standing.closes, 0);
  assert_int_equal(subject->device.failures, 0);
}

static void end(struct subject *subject) {
  wait_done(&subject->asked);
  assert_stands(subject);
  dstream_stream_close(subject->standing.stream);
  dstream_stream_close(subject->asked.stream);
  WAIT(subject->standing.closes == 1 && subject->asked.closes == 1);
  world_device_end(&subject->device);
  peer_clear(&subject->standing);
  peer_clear(&subject->asked);
}

/* The token is old enough to be renewed, but the request comes first.  On a
 * machine that was asleep just then the request is void, and comes again. */
static void answer_late(struct subject *waiting) {
  WAIT(test_now_ms() >= waiting->from_ms + LIFETIME_S * 880);
  bool in_time = test_now_ms() < waiting->from_ms + LIFETIME_S * 920;
  if (in_time)
    assert_int_equal(waiting->device.state, DSTREAM_DEVICE_READY);
  waiting->device.answer = ANSWER_ACCEPT;
  int status = world_device_accept(&waiting->device);
  if (in_time) {
    assert_int_equal(status, 0);
    assert_int_equal(waiting->device.readies, 1);
  }
  wait_open(&waiting->asked);
}

/* One test for all three, as each takes as long as the token lives. */
static void test_bad_moments(void **state) {
  (void)state;
  static struct subject waiting; /* its request is answered late */
  static struct subject meeting; /* its request comes while it renews */
  static struct subject silent;  /* its request is not answered in time */
  begin(&waiting, "waiting");
  begin(&meeting, "meeting");
  begin(&silent, "silent");
  open_standing(&waiting, "waiting");
  open_standing(&meeting, "meeting");
  open_standing(&silent, "silent");
  waiting.device.answer = ANSWER_DEFER;
  ask(&waiting, "waiting");
  silent.device.answer = ANSWER_DEFER;
  ask(&silent, "silent");
  WAIT(waiting.device.requests == 2 && silent.device.requests == 2);
  dstream_request *lost = silent.device.deferred;
  /* nothing is in the way of this one's, at 80 % */
  WAIT(meeting.device.state == DSTREAM_DEVICE_RENEWING);
  ask(&meeting, "meeting");
  answer_late(&waiting);
  wait_open(&meeting.asked);
  WAIT(meeting.device.readies >= 2);
  /* at 95 % the token must be renewed, and the hub asks again */
  WAIT(silent.device.readies >= 2 && silent.device.requests == 3);
  assert_ptr_not_equal(silent.device.deferred, lost);
  assert_int_equal(dstream_request_accept(lost, NULL, NULL, NULL, NULL),
                   DSTREAM_ESTATE);
  assert_int_equal(world_device_accept(&silent.device), 0);
  wait_open(&silent.asked);
  WAIT(waiting.device.readies >= 2);
  assert_false(hub_fixture_logged(&hub, "its token expired"));
  end(&waiting);
  end(&meeting);
  end(&silent);
}

static int group_setup(void **state) {
  (void)state;
  test_loop_start();
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  service = world_service(&hub, NULL);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  dstream_service_free(service);
  test_loop_end();
  return hub_fixture_stop(&hub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_bad_moments),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
