#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/loop.h"

static void set_flag(struct loop_timer *timer);

static struct {
  struct loop_timer timer; /* first: set_flag */
  bool told;
} waiting;

static void set_flag(struct loop_timer *timer) {
  (void)timer;
  waiting.told = true;
}

/* What a timer did may be what the caller waits for. */
static void a_step_returns_after_a_timer(void **state) {
  (void)state;
  dstream_loop *loop = NULL;
  assert_int_equal(dstream_loop_new(&loop, NULL), DSTREAM_OK);
  for (uint64_t delay_ms = 0; delay_ms < 3; delay_ms++) {
    waiting.told = false;
    loop_timer_set(loop, &waiting.timer, delay_ms, set_flag);
    uint64_t begin_ms = loop_now_ms();
    while (!waiting.told)
      assert_int_equal(dstream_loop_step(loop, 20000), DSTREAM_OK);
    assert_true(loop_now_ms() - begin_ms < 10000);
  }
  dstream_loop_free(loop);
}

static void a_step_waits_no_longer_than_asked(void **state) {
  (void)state;
  dstream_loop *loop = NULL;
  assert_int_equal(dstream_loop_new(&loop, NULL), DSTREAM_OK);
  uint64_t begin_ms = loop_now_ms();
  assert_int_equal(dstream_loop_step(loop, 0), DSTREAM_OK);
  assert_int_equal(dstream_loop_step(loop, 20), DSTREAM_OK);
  assert_true(loop_now_ms() - begin_ms < 10000);
  dstream_loop_free(loop);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_step_returns_after_a_timer),
      cmocka_unit_test(a_step_waits_no_longer_than_asked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
