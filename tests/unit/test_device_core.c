/* The device's control connection, driven by a fake clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/device_core.h"
#include "core/end.h"

/* Of a wait between 0 and 2^k ms: this much is about half. */
#define HALF 0x80000000u
#define MOST UINT32_MAX

struct rig {
  struct device_core core;
  uint64_t now;
  char did[256]; /* actions, one letter each: C S D E A X, and T with a state */
  struct dstream_end cause; /* of the last T */
};

static const struct device_core_options usual = {.retry_min_ms = 1000,
                                                 .retry_max_ms = 60000,
                                                 .token_ms = 3600000,
                                                 .max_streams = 3};

static struct rig *rig_new(const struct device_core_options *options) {
  static struct rig rig;
  memset(&rig, 0, sizeof rig);
  rig.now = 1000000;
  device_core_init(&rig.core, options);
  return &rig;
}

/* What the core wants, as text: "T1C" is "tell CONNECTING, connect". */
static const char *did(struct rig *r) {
  static const char letters[] = ".TCSDEAX";
  size_t len = 0;
  for (;;) {
    struct dstream_end cause;
    enum device_action action = device_core_pull(&r->core, r->now, &cause);
    if (action == DEVICE_ACT_NONE)
      break;
    assert_true(len + 3 < sizeof r->did);
    r->did[len++] = letters[action];
    if (action == DEVICE_ACT_TELL) {
      r->did[len++] = (char)('0' + r->core.told);
      r->cause = cause;
    }
  }
  r->did[len] = '\0';
  return r->did;
}

static struct dstream_end lost_cause(void) {
  struct dstream_end end;
  end_set(&end, DSTREAM_EIO, "lost");
  return end;
}

static void lose(struct rig *r, uint32_t random) {
  struct dstream_end end = lost_cause();
  device_core_lost(&r->core, &end, r->now, random);
}

/* Lets time pass until the deadline. */
static void wait_deadline(struct rig *r) {
  uint64_t due = device_core_deadline(&r->core);
  assert_true(due != DEVICE_NEVER);
  if (due > r->now) {
    r->now = due - 1;
    device_core_tick(&r->core, r->now, HALF);
    assert_string_equal(did(r), "");
    r->now = due;
  }
  device_core_tick(&r->core, r->now, HALF);
}

static void to_ready(struct rig *r) {
  device_core_connected(&r->core, r->now);
  assert_string_equal(did(r), "S");
  device_core_subscribed(&r->core, true, r->now, HALF);
  assert_string_equal(did(r), "T3");
}

static struct rig *ready(const struct device_core_options *options) {
  struct rig *r = rig_new(options);
  assert_int_equal(device_core_start(&r->core, r->now), DSTREAM_OK);
  assert_string_equal(did(r), "T1C");
  to_ready(r);
  return r;
}

static void test_start_to_ready(void **state) {
  (void)state;
  struct rig *r = rig_new(&usual);
  assert_true(device_core_deadline(&r->core) == DEVICE_NEVER);
  assert_int_equal(device_core_start(&r->core, r->now), DSTREAM_OK);
  assert_int_equal(r->core.state, DEVICE_CONNECTING);
  assert_string_equal(did(r), "T1C");
  assert_int_equal(r->cause.status, DSTREAM_OK);
  assert_string_equal(did(r), "");
  assert_int_equal(device_core_start(&r->core, r->now), DSTREAM_ESTATE);
  device_core_connected(&r->core, r->now);
  assert_int_equal(r->core.state, DEVICE_SUBSCRIBING);
  assert_string_equal(did(r), "S"); /* still CONNECTING for the user */
  device_core_subscribed(&r->core, true, r->now, HALF);
  assert_string_equal(did(r), "T3");
  assert_int_equal(r->cause.status, DSTREAM_OK);
  assert_true(device_core_stream_room(&r->core));
}

static void test_lost_waits_and_connects_again(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  r->now += 30000;
  lose(r, HALF);
  assert_string_equal(did(r), "T5D"); /* releases what is left of it */
  assert_int_equal(r->cause.status, DSTREAM_EIO);
  assert_string_equal(r->cause.text, "lost");
  assert_true(device_core_deadline(&r->core) == r->now + 500);
  device_core_closed(&r->core, r->now);
  assert_string_equal(did(r), "");
  wait_deadline(r);
  assert_string_equal(did(r), "T1C");
  to_ready(r);
}

static void test_backoff_grows_and_is_reset_by_a_minute(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  uint64_t bounds[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
  r->now += 60000;
  for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
    lose(r, MOST);
    assert_string_equal(did(r), "T5D");
    assert_true(device_core_deadline(&r->core) - r->now == bounds[i]);
    device_core_closed(&r->core, r->now);
    wait_deadline(r);
    assert_string_equal(did(r), "T1C");
  }
  to_ready(r);
  r->now += 59999;
  lose(r, MOST);
  did(r);
  assert_true(device_core_deadline(&r->core) - r->now == 60000);
  device_core_closed(&r->core, r->now);
  wait_deadline(r);
  did(r);
  to_ready(r);
  r->now += 60000;
  lose(r, MOST);
  did(r);
  assert_true(device_core_deadline(&r->core) - r->now == 1000);
}

static void test_refused(void **state) {
  (void)state;
  for (int code = 1; code <= 6; code++) {
    struct rig *r = rig_new(&usual);
    device_core_start(&r->core, r->now);
    did(r);
    device_core_refused(&r->core, code, r->now, MOST);
    assert_string_equal(did(r), "T5D");
    bool unauthorized = code == 4 || code == 5;
    assert_int_equal(r->cause.status,
                     unauthorized ? DSTREAM_EUNAUTHORIZED : DSTREAM_EMQTT);
    assert_int_equal(r->cause.mqtt_code, code);
    assert_true(strlen(r->cause.text) > 10);
    /* 4 and 5 wait longer, and never not at all */
    assert_true(device_core_deadline(&r->core) - r->now ==
                (unauthorized ? 4000 : 1000));
  }
  struct dstream_end end;
  device_connack_end(&end, 5);
  assert_non_null(strstr(end.text, "not authorized"));
  assert_non_null(strstr(end.text, "key"));
  assert_non_null(strstr(end.text, "clock"));
}

static void test_subscription_refused(void **state) {
  (void)state;
  struct rig *r = rig_new(&usual);
  device_core_start(&r->core, r->now);
  device_core_connected(&r->core, r->now);
  did(r);
  device_core_subscribed(&r->core, false, r->now, HALF);
  assert_string_equal(did(r), "T5D");
  assert_int_equal(r->cause.status, DSTREAM_EMQTT);
  assert_non_null(strstr(r->cause.text, "0x80"));
}

static void test_deadlines_of_connecting(void **state) {
  (void)state;
  struct rig *r = rig_new(&usual);
  device_core_start(&r->core, r->now);
  did(r);
  assert_true(device_core_deadline(&r->core) == r->now + DEVICE_CONNECT_MS);
  wait_deadline(r);
  assert_string_equal(did(r), "T5D");
  assert_int_equal(r->cause.status, DSTREAM_ETIMEDOUT);
  device_core_closed(&r->core, r->now);
  wait_deadline(r);
  assert_string_equal(did(r), "T1C");
  device_core_connected(&r->core, r->now);
  did(r);
  assert_true(device_core_deadline(&r->core) == r->now + DEVICE_SUBSCRIBE_MS);
  wait_deadline(r);
  assert_string_equal(did(r), "T5D");
  assert_int_equal(r->cause.status, DSTREAM_ETIMEDOUT);
}

/* The old connection takes longer to go than the wait lasts. */
static void test_no_second_connection(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  lose(r, 0);
  assert_string_equal(did(r), "T5D");
  wait_deadline(r);
  assert_string_equal(did(r), "T1");
  device_core_connected(&r->core, r->now); /* late news of the old one */
  lose(r, HALF);
  assert_string_equal(did(r), "");
  device_core_closed(&r->core, r->now);
  assert_string_equal(did(r), "C");
  to_ready(r);
}

static void test_take_over_storm(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  for (int i = 1; i <= 4; i++) {
    r->now += 2000;
    lose(r, 0);
    did(r);
    assert_int_equal(strstr(r->cause.text, "another process") != NULL, i >= 3);
    assert_int_equal(r->cause.status, DSTREAM_EIO);
    device_core_closed(&r->core, r->now);
    wait_deadline(r);
    did(r);
    to_ready(r);
  }
  r->now += 30000; /* longer, but no sign that it is over */
  lose(r, 0);
  did(r);
  assert_non_null(strstr(r->cause.text, "another process"));
  device_core_closed(&r->core, r->now);
  wait_deadline(r);
  did(r);
  to_ready(r);
  r->now += 60000;
  lose(r, 0);
  did(r);
  assert_string_equal(r->cause.text, "lost");
}

static void test_renewal(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  assert_true(device_core_deadline(&r->core) == r->now + 2880000);
  wait_deadline(r);
  assert_string_equal(did(r), "T4D");
  assert_int_equal(r->cause.status, DSTREAM_OK);
  assert_true(device_core_deadline(&r->core) == DEVICE_NEVER);
  lose(r, HALF); /* it ends by itself while we end it: nothing to tell */
  assert_string_equal(did(r), "");
  r->now += 40;
  device_core_closed(&r->core, r->now);
  assert_string_equal(did(r), "C"); /* RENEWING still, at once */
  device_core_connected(&r->core, r->now);
  assert_string_equal(did(r), "S");
  device_core_subscribed(&r->core, true, r->now, HALF);
  assert_string_equal(did(r), "T3");
  assert_true(device_core_deadline(&r->core) == r->now + 2880000);
}

static void test_renewal_fails(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  wait_deadline(r);
  did(r);
  device_core_closed(&r->core, r->now);
  assert_string_equal(did(r), "C");
  device_core_refused(&r->core, 3, r->now, HALF);
  assert_string_equal(did(r), "T5D");
  device_core_closed(&r->core, r->now);
  wait_deadline(r);
  assert_string_equal(did(r), "T1C"); /* no renewal any more */
}

static void test_renewal_waits_for_requests(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  uint64_t from = r->now;
  device_core_set_waiting(&r->core, 1);
  assert_true(device_core_deadline(&r->core) == from + 3420000);
  r->now = from + 2900000;
  device_core_tick(&r->core, r->now, HALF);
  assert_string_equal(did(r), "");
  device_core_set_waiting(&r->core, 0); /* answered: now */
  assert_true(device_core_deadline(&r->core) <= r->now);
  device_core_tick(&r->core, r->now, HALF);
  assert_string_equal(did(r), "T4D");
}

static void test_renewal_waits_for_handshakes_up_to_a_point(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  uint64_t from = r->now;
  device_core_stream_added(&r->core);
  device_core_stream_added(&r->core);
  assert_true(device_core_deadline(&r->core) == from + 3420000);
  device_core_stream_opened(&r->core); /* an open stream is no reason */
  device_core_stream_gone(&r->core, false, r->now);
  assert_true(device_core_deadline(&r->core) == from + 2880000);
  device_core_set_waiting(&r->core, 1);
  wait_deadline(r);
  assert_true(r->now == from + 3420000);
  assert_string_equal(did(r), "T4D");
  assert_int_equal(r->core.streams, 1); /* it goes on */
}

static void test_no_token_no_renewal(void **state) {
  (void)state;
  struct device_core_options options = usual;
  options.token_ms = 0;
  struct rig *r = ready(&options);
  assert_true(device_core_deadline(&r->core) == DEVICE_NEVER);
}

static void test_stop_when_ready(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  device_core_stop(&r->core, r->now);
  assert_string_equal(did(r), "D");
  device_core_stop(&r->core, r->now);
  assert_string_equal(did(r), "");
  assert_int_equal(device_core_start(&r->core, r->now), DSTREAM_ESTATE);
  device_core_closed(&r->core, r->now);
  assert_string_equal(did(r), "T0X");
  assert_true(device_core_deadline(&r->core) == DEVICE_NEVER);
  device_core_stop(&r->core, r->now); /* nothing to stop */
  assert_string_equal(did(r), "");
  assert_int_equal(device_core_start(&r->core, r->now), DSTREAM_OK);
  assert_string_equal(did(r), "T1C");
  to_ready(r);
}

static void test_stop_in_other_states(void **state) {
  (void)state;
  struct rig *r = rig_new(&usual);
  device_core_start(&r->core, r->now);
  did(r);
  device_core_stop(&r->core, r->now); /* CONNECTING */
  assert_string_equal(did(r), "D");
  device_core_connected(&r->core, r->now); /* too late */
  assert_string_equal(did(r), "");
  device_core_closed(&r->core, r->now);
  assert_string_equal(did(r), "T0X");

  r = ready(&usual);
  lose(r, HALF);
  device_core_closed(&r->core, r->now);
  did(r);
  device_core_stop(&r->core, r->now); /* WAITING */
  assert_string_equal(did(r), "T0X");

  r = ready(&usual);
  lose(r, HALF);
  did(r);
  device_core_stop(&r->core, r->now); /* WAITING, the old one not gone */
  assert_string_equal(did(r), "");
  device_core_closed(&r->core, r->now);
  assert_string_equal(did(r), "T0X");

  r = ready(&usual);
  wait_deadline(r);
  did(r);
  device_core_stop(&r->core, r->now); /* RENEWING */
  assert_string_equal(did(r), "");
  device_core_closed(&r->core, r->now);
  assert_string_equal(did(r), "T0X");
}

static void test_stop_waits_for_streams(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  device_core_stream_added(&r->core);
  device_core_stream_added(&r->core);
  device_core_stream_opened(&r->core);
  device_core_stop(&r->core, r->now);
  assert_string_equal(did(r), "E");
  assert_false(device_core_stream_room(&r->core));
  device_core_stream_gone(&r->core, true, r->now);
  assert_string_equal(did(r), "");
  wait_deadline(r); /* the other one takes too long */
  assert_string_equal(did(r), "A");
  device_core_stream_gone(&r->core, false, r->now);
  assert_string_equal(did(r), "D");
  device_core_closed(&r->core, r->now);
  assert_string_equal(did(r), "T0X");
}

static void test_lost_while_streams_end(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  device_core_stream_added(&r->core);
  device_core_stop(&r->core, r->now);
  did(r);
  lose(r, HALF);
  assert_string_equal(did(r), "D");
  device_core_closed(&r->core, r->now);
  assert_string_equal(did(r), "");
  device_core_stream_gone(&r->core, false, r->now);
  assert_string_equal(did(r), "T0X");
}

static void test_streams_limit_and_reconnect(void **state) {
  (void)state;
  struct rig *r = ready(&usual);
  for (int i = 0; i < 3; i++) {
    assert_true(device_core_stream_room(&r->core));
    device_core_stream_added(&r->core);
    device_core_stream_opened(&r->core);
  }
  assert_false(device_core_stream_room(&r->core));
  lose(r, HALF);
  did(r);
  assert_int_equal(r->core.streams, 3); /* they outlive the connection */
  device_core_stream_gone(&r->core, true, r->now);
  assert_string_equal(did(r), "");
  assert_true(device_core_stream_room(&r->core));
}

/* Whatever comes in whatever order: no assertion fails, and stop ends it. */
static void test_random_events(void **state) {
  (void)state;
  uint32_t seed = 12345;
  struct rig *r = rig_new(&usual);
  for (int i = 0; i < 200000; i++) {
    seed = seed * 1664525u + 1013904223u;
    r->now += seed >> 18;
    switch ((seed >> 8) % 12) {
    case 0:
      device_core_start(&r->core, r->now);
      break;
    case 1:
      if ((seed >> 4) % 8 == 0)
        device_core_stop(&r->core, r->now);
      break;
    case 2:
    case 3:
      device_core_connected(&r->core, r->now);
      break;
    case 4:
      device_core_refused(&r->core, 1 + (int)((seed >> 12) % 5), r->now, seed);
      break;
    case 5:
      lose(r, seed);
      break;
    case 6:
    case 7:
      device_core_subscribed(&r->core, (seed >> 16) % 4 != 0, r->now, seed);
      break;
    case 8:
      if (r->core.closing)
        device_core_closed(&r->core, r->now);
      break;
    case 9:
      if (device_core_stream_room(&r->core))
        device_core_stream_added(&r->core);
      break;
    case 10:
      if (r->core.streams > 0)
        device_core_stream_gone(&r->core, r->core.handshakes == 0, r->now);
      break;
    default:
      device_core_tick(&r->core, r->now, seed);
    }
    did(r);
  }
  device_core_stop(&r->core, r->now);
  while (r->core.streams > 0)
    device_core_stream_gone(&r->core, r->core.handshakes == 0, r->now);
  did(r);
  if (r->core.connection)
    device_core_closed(&r->core, r->now);
  did(r);
  assert_int_equal(r->core.state, DEVICE_STOPPED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_start_to_ready),
      cmocka_unit_test(test_lost_waits_and_connects_again),
      cmocka_unit_test(test_backoff_grows_and_is_reset_by_a_minute),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_subscription_refused),
      cmocka_unit_test(test_deadlines_of_connecting),
      cmocka_unit_test(test_no_second_connection),
      cmocka_unit_test(test_take_over_storm),
      cmocka_unit_test(test_renewal),
      cmocka_unit_test(test_renewal_fails),
      cmocka_unit_test(test_renewal_waits_for_requests),
      cmocka_unit_test(test_renewal_waits_for_handshakes_up_to_a_point),
      cmocka_unit_test(test_no_token_no_renewal),
      cmocka_unit_test(test_stop_when_ready),
      cmocka_unit_test(test_stop_in_other_states),
      cmocka_unit_test(test_stop_waits_for_streams),
      cmocka_unit_test(test_lost_while_streams_end),
      cmocka_unit_test(test_streams_limit_and_reconnect),
      cmocka_unit_test(test_random_events),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
