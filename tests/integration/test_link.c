/* Links (net/link.h) under conditions that streams seldom meet, on both event
 * libraries. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_streams.h"
#include "net/link.h"
#include "net/loop.h"
#include "net/loop_uv.h"

static struct world {
  const struct loop_backend *backend;
  struct link *link;
  int other; /* the other end of the socket pair */
  int fds;
  uint64_t received;
  unsigned ends;
  struct dstream_end end; /* of a failure */
  bool flood;
  bool hold; /* on_data takes nothing */
} world;

static size_t on_data(void *user, uint8_t *data, size_t len) {
  (void)user;
  (void)data;
  if (world.hold)
    return 0;
  world.received += len;
  return len;
}

/* Slower than whoever reads it. */
static void write_all_there_is_room_for(void) {
  static const uint8_t bytes[LOOP_RECORD];
  size_t room;
  while ((room = link_space(world.link)) > 0) {
    for (volatile int i = 0; i < 100000; i++)
      ;
    link_write(world.link, bytes, room);
  }
}

static void on_drain(void *user) {
  (void)user;
  if (world.flood)
    write_all_there_is_room_for();
}

static void on_end(void *user, const struct dstream_end *why) {
  (void)user;
  world.ends++;
  if (why != NULL)
    world.end = *why;
}

static const struct link_callbacks callbacks = {
    .on_data = on_data, .on_drain = on_drain, .on_end = on_end};

static int setup(void **state) {
  (void)state;
  int pair[2];
  int size = 1 << 20;
  const struct loop_backend *backend = world.backend;
  memset(&world, 0, sizeof world);
  world.backend = backend;
  test_loop_start_on(backend); /* libuv keeps two descriptors for good */
  test_loop_end();
  world.fds = count_fds();
  test_loop_start_on(backend);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return -1;
  setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  world.other = pair[1];
  struct link_options options = {0};
  return link_adopt(&world.link, test_loop, pair[0], &options, &callbacks,
                    NULL);
}

static int teardown(void **state) {
  (void)state;
  link_abort(world.link);
  if (world.other >= 0)
    close(world.other);
  test_loop_end();
  return count_fds() == world.fds ? 0 : -1;
}

/* While the owner takes nothing, more comes than one read finds, and then both
 * directions are over: the system tells that once and polls no more. */
static void test_hung_up_link_is_read_to_the_end(void **state) {
  (void)state;
  static const char bytes[150000];
  uint64_t sent = 1;
  char nothing;
  world.hold = true;
  assert_int_equal(send(world.other, "x", 1, 0), 1);
  link_shutdown(world.link);
  WAIT(recv(world.other, &nothing, 1, MSG_DONTWAIT) == 0);
  ssize_t n;
  while ((n = send(world.other, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
    sent += (uint64_t)n;
  assert_true(sent > LOOP_CHUNK);
  close(world.other);
  world.other = -1;
  for (int i = 0; i < 10; i++)
    assert_int_equal(dstream_loop_step(test_loop, 10), 0);
  assert_int_equal(world.ends, 0); /* not before its data */
  world.hold = false;
  link_resume(world.link);
  WAIT_MS(world.ends == 1, 5000);
  assert_int_equal(world.received, sent);
  assert_int_equal(world.end.status, DSTREAM_OK);
}

/* Both directions have ended before it is closed: nothing to wait for. */
static void test_close_of_an_ended_link(void **state) {
  (void)state;
  link_shutdown(world.link);
  shutdown(world.other, SHUT_WR);
  WAIT(world.ends == 1);
  char nothing;
  WAIT(recv(world.other, &nothing, 1, MSG_DONTWAIT) == 0);
  uint64_t begin_ms = test_now_ms();
  int before = count_fds();
  link_close(world.link, 10000);
  world.link = NULL;
  WAIT(count_fds() < before);
  assert_true(test_now_ms() - begin_ms < 2000);
}

/* A peer that does not close in turn is given up. */
static void test_linger_has_an_end(void **state) {
  (void)state;
  WAIT(link_space(world.link) > 0);
  int before = count_fds();
  uint64_t begin_ms = test_now_ms();
  link_close(world.link, 200);
  world.link = NULL;
  WAIT(count_fds() < before);
  assert_in_range(test_now_ms() - begin_ms, 150, 2000);
}

/* ---- fairness ---- */

static void *read_for_ever(void *arg) {
  static char scrap[1 << 18];
  (void)arg;
  while (recv(world.other, scrap, sizeof scrap, 0) > 0)
    ;
  return NULL;
}

static unsigned ticks;

static void on_tick(struct loop_timer *timer) {
  ticks++;
  loop_timer_set(test_loop, timer, 1, on_tick);
}

/* A peer that takes everything at once does not keep the loop from its other
 * work: timers run, and what the peer sends is read. */
static void test_quick_peer(void **state) {
  (void)state;
  struct loop_timer timer;
  pthread_t reader;
  memset(&timer, 0, sizeof timer);
  ticks = 0;
  assert_int_equal(dstream_loop_step(test_loop, 0), 0);
  assert_int_equal(pthread_create(&reader, NULL, read_for_ever, NULL), 0);
  world.flood = true;
  WAIT(link_space(world.link) > 0);
  loop_timer_set(test_loop, &timer, 1, on_tick);
  write_all_there_is_room_for();
  assert_int_equal(send(world.other, "hello", 5, 0), 5);
  WAIT_MS(world.received == 5 && ticks >= 20, 5000);
  world.flood = false;
  loop_timer_cancel(&timer);
  shutdown(world.other, SHUT_RDWR);
  pthread_join(reader, NULL);
  WAIT(world.ends == 1);
}

/* ---- a timer that is set between two steps ---- */

static void test_timer_from_outside(void **state) {
  (void)state;
  struct loop_timer timer;
  memset(&timer, 0, sizeof timer);
  for (int i = 0; i < 5; i++) {
    uint64_t begin_ms = test_now_ms();
    ticks = 0;
    loop_timer_set(test_loop, &timer, 10, on_tick);
    while (ticks == 0 && test_now_ms() - begin_ms < 5000)
      assert_int_equal(dstream_loop_step(test_loop, 2000), 0);
    assert_in_range(test_now_ms() - begin_ms, 9, 1000);
    loop_timer_cancel(&timer);
  }
}

/* A step waits as long as it was told, and not much longer. */
static void test_step_waits(void **state) {
  (void)state;
  uint64_t begin_ms = test_now_ms();
  int steps = 0;
  do {
    assert_int_equal(dstream_loop_step(test_loop, 50), 0);
    steps++;
  } while (test_now_ms() - begin_ms < 400);
  assert_in_range(steps, 2, 30);
  assert_true(test_now_ms() - begin_ms < 1500);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_hung_up_link_is_read_to_the_end),
      TEST(test_close_of_an_ended_link),
      TEST(test_linger_has_an_end),
      TEST(test_quick_peer),
      TEST(test_timer_from_outside),
      TEST(test_step_waits),
  };
  test_choose();
  int failed = cmocka_run_group_tests_name("links on poll", tests, NULL, NULL);
  world.backend = loop_uv_backend();
  return failed +
         cmocka_run_group_tests_name("links on libuv", tests, NULL, NULL);
}
