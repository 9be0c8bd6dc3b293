/* Links (net/link.h) under conditions that streams seldom meet, on both event
 * libraries. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
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
  bool hold;   /* on_data takes nothing */
  size_t room; /* what the room callback says */
  size_t most; /* that on_data was told at once */
  uint8_t last;
} world;

static size_t on_data(void *user, uint8_t *data, size_t len) {
  (void)user;
  if (len > world.most)
    world.most = len;
  if (world.hold)
    return 0;
  world.last = data[len - 1];
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

/* ---- room ---- */

static size_t on_room(void *user) {
  (void)user;
  return world.room;
}

static const struct link_callbacks roomy = {.on_data = on_data,
                                            .room = on_room,
                                            .on_drain = on_drain,
                                            .on_end = on_end};

/* How much the other end can write before the link reads again. */
static uint64_t fill_other(void) {
  static const char bytes[65536];
  uint64_t sent = 0;
  ssize_t n;
  while ((n = send(world.other, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
    sent += (uint64_t)n;
  return sent;
}

/* What there is no room for stays in the socket. */
static void test_room(void **state) {
  (void)state;
  link_set_owner(world.link, &roomy, NULL);
  world.room = 1000;
  uint64_t sent = fill_other();
  for (int i = 0; i < 5; i++)
    assert_int_equal(dstream_loop_step(test_loop, 10), 0);
  assert_int_equal(world.most, 1000);
  assert_true(world.received > 0);
  world.room = 0;
  for (int i = 0; i < 3; i++)
    assert_int_equal(dstream_loop_step(test_loop, 10), 0);
  uint64_t before = world.received;
  for (int i = 0; i < 10; i++)
    assert_int_equal(dstream_loop_step(test_loop, 10), 0);
  assert_int_equal(world.received, before);
  link_resume(world.link); /* in vain: there is none still */
  for (int i = 0; i < 10; i++)
    assert_int_equal(dstream_loop_step(test_loop, 10), 0);
  assert_int_equal(world.received, before);
  world.room = SIZE_MAX;
  link_resume(world.link);
  WAIT(world.received == sent);
  assert_in_range(world.most, 30000, LOOP_CHUNK); /* large reads */
  link_set_owner(world.link, &callbacks, NULL);
}

/* ---- two descriptors ---- */

struct ends {
  int in;  /* what is written here the link reads */
  int out; /* what the link writes is read here */
  int link_in;
  int link_out;
};

static int pipe_size = 65536;

static struct ends open_pipes(void) {
  int in[2];
  int out[2];
  assert_int_equal(pipe2(in, O_CLOEXEC), 0);
  assert_int_equal(pipe2(out, O_CLOEXEC), 0);
  assert_int_equal(fcntl(out[0], F_SETFL, O_NONBLOCK), 0);
  return (struct ends){in[1], out[0], in[0], out[1]};
}

static struct link *adopt_pair(int in_fd, int out_fd) {
  struct link_options options = {0};
  struct link *link = NULL;
  assert_int_equal(link_adopt_pair(&link, test_loop, in_fd, out_fd, &options,
                                   &callbacks, NULL),
                   0);
  return link;
}

static bool is_blocking(int fd) {
  return (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
}

/* Bytes both ways, more than a pipe holds, the ends of both directions, and
 * the flags that others who have the pipes see. */
static void test_pair_of_pipes(void **state) {
  (void)state;
  static uint8_t bytes[LOOP_RECORD];
  static uint8_t scrap[65536];
  struct ends ends = open_pipes();
  int mine_in = dup(ends.link_in); /* as the shell has what it gives away */
  int mine_out = dup(ends.link_out);
  struct link *link = adopt_pair(ends.link_in, ends.link_out);
  assert_false(is_blocking(mine_in));
  assert_false(is_blocking(mine_out));
  uint64_t sent = 0;
  uint64_t got = 0;
  bytes[0] = 7;
  while (got < 4 * (uint64_t)pipe_size) {
    size_t room = sent < 4 * (uint64_t)pipe_size ? link_space(link) : 0;
    if (room > 0) {
      link_write(link, bytes, room);
      sent += room;
    }
    assert_int_equal(dstream_loop_step(test_loop, 1), 0);
    ssize_t n = read(ends.out, scrap, sizeof scrap);
    got += n > 0 ? (uint64_t)n : 0;
  }
  WAIT(link_queued(link) == 0);
  assert_int_equal(write(ends.in, "abc", 3), 3);
  WAIT(world.received == 3 && world.last == 'c');
  close(mine_out);
  link_shutdown(link);
  ssize_t n;
  WAIT((n = read(ends.out, scrap, sizeof scrap)) >= 0 &&
       (got += (uint64_t)n) > 0 && n == 0);
  assert_int_equal(got, sent);
  assert_int_equal(write(ends.in, "d", 1), 1);
  close(ends.in);
  WAIT(world.ends == 1);
  assert_int_equal(world.received, 4);
  assert_int_equal(world.end.status, DSTREAM_OK);
  link_close(link, 1000);
  WAIT(is_blocking(mine_in));
  close(mine_in);
  close(ends.out);
}

/* As on a terminal: one open file for both directions. */
static void test_pair_shares_flags(void **state) {
  (void)state;
  int pair[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  int shared = dup(pair[0]);
  struct link *link = adopt_pair(pair[0], pair[0]);
  assert_false(is_blocking(shared));
  WAIT(link_space(link) > 0);
  link_write(link, "hello", 5);
  link_shutdown(link);
  char text[6] = "";
  WAIT(recv(pair[1], text, 5, MSG_DONTWAIT) == 5);
  assert_string_equal(text, "hello");
  WAIT(recv(pair[1], text, 1, MSG_DONTWAIT) == 0);
  assert_false(is_blocking(shared)); /* it is still read */
  assert_int_equal(send(pair[1], "x", 1, 0), 1);
  WAIT(world.received == 1);
  link_abort(link);
  assert_true(is_blocking(shared));
  close(shared);
  close(pair[1]);
}

static int temporary_file(void) {
  char path[] = "/tmp/test_link.XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  unlink(path);
  return fd;
}

/* Files are always ready, which no poll is needed for. */
static void test_pair_of_files(void **state) {
  (void)state;
  static uint8_t bytes[300000];
  static uint8_t back[LOOP_RECORD];
  int from = temporary_file();
  int to = temporary_file();
  int copy = dup(to);
  bytes[sizeof bytes - 1] = 42;
  assert_int_equal(write(from, bytes, sizeof bytes), sizeof bytes);
  assert_int_equal(lseek(from, 0, SEEK_SET), 0);
  struct link *link = adopt_pair(from, to);
  WAIT(world.ends == 1);
  assert_int_equal(world.received, sizeof bytes);
  assert_int_equal(world.last, 42);
  size_t room = link_space(link);
  assert_int_equal(room, sizeof back);
  link_write(link, "file", 4);
  link_close(link, 1000);
  WAIT(pread(copy, back, sizeof back, 0) == 4);
  assert_memory_equal(back, "file", 4);
  close(copy);
}

/* A reader of the output that goes is told, though nothing is written. */
static void test_pair_reader_goes(void **state) {
  (void)state;
  struct ends ends = open_pipes();
  struct link *link = adopt_pair(ends.link_in, ends.link_out);
  WAIT(link_space(link) > 0);
  assert_int_equal(world.ends, 0);
  close(ends.out);
  WAIT_MS(world.ends == 1, 2000);
  assert_int_equal(world.end.status, DSTREAM_EIO);
  assert_int_equal(world.end.sys_errno, EPIPE);
  /* and the loop is quiet until the owner lets go */
  uint64_t begin_ms = test_now_ms();
  for (int i = 0; i < 5; i++)
    assert_int_equal(dstream_loop_step(test_loop, 20), 0);
  assert_true(test_now_ms() - begin_ms >= 60);
  link_abort(link);
  close(ends.in);
}

/* 0 and 1 stay open, on nothing, when the link has their files. */
static void test_pair_of_standard_files(void **state) {
  (void)state;
  struct ends ends = open_pipes();
  int saved[2] = {dup(0), dup(1)};
  fflush(stdout);
  assert_int_equal(dup2(ends.link_in, 0), 0);
  assert_int_equal(dup2(ends.link_out, 1), 1);
  close(ends.link_in);
  close(ends.link_out);
  struct link *link = adopt_pair(0, 1);
  printf("nobody reads this\n");
  fflush(stdout);
  assert_int_equal(write(ends.in, "in", 2), 2);
  WAIT(world.received == 2);
  assert_true(link_space(link) > 0);
  link_write(link, "out", 3);
  link_close(link, 1000);
  char text[20] = "";
  WAIT(read(ends.out, text, sizeof text) == 3);
  WAIT(read(ends.out, text + 3, 1) == 0);
  close(ends.in);
  close(ends.out);
  dup2(saved[0], 0);
  dup2(saved[1], 1);
  close(saved[0]);
  close(saved[1]);
  assert_string_equal(text, "out");
  int before = count_fds();
  for (int i = 0; i < 3; i++)
    assert_int_equal(dstream_loop_step(test_loop, 1), 0);
  assert_true(count_fds() <= before);
}

/* ---- reset ---- */

/* A TCP connection to this process itself. */
static void open_tcp(int fds[2]) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
  assert_int_equal(listen(listener, 1), 0);
  assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
  fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(fds[0], (struct sockaddr *)&address, len), 0);
  fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  assert_true(fds[1] >= 0);
  close(listener);
}

/* Every byte that was written, then the reset, though the reader took its time:
 * more than the buffers of the systems hold. */
static void test_reset(void **state) {
  (void)state;
  static uint8_t bytes[LOOP_RECORD];
  static uint8_t scrap[65536];
  int fds[2];
  struct link *link = NULL;
  open_tcp(fds);
  struct link_options options = {.socket_buffer = 65536};
  assert_int_equal(
      link_adopt(&link, test_loop, fds[0], &options, &callbacks, NULL), 0);
  WAIT(link_space(link) > 0);
  uint64_t sent = 0;
  for (int i = 0; i < 100; i++) {
    size_t room = link_space(link);
    if (room > 0)
      link_write(link, bytes, room);
    sent += room;
    assert_int_equal(dstream_loop_step(test_loop, 1), 0);
  }
  assert_true(link_queued(link) > 0);
  int before = count_fds();
  link_reset(link, 60000);
  for (int i = 0; i < 20; i++)
    assert_int_equal(dstream_loop_step(test_loop, 5), 0);
  assert_int_equal(count_fds(), before);
  uint64_t got = 0;
  ssize_t n = 0;
  int error = 0;
  /* A system whose buffers are full drops what comes, and sends it again later
   * and later. */
  uint64_t until_ms = test_now_ms() + 40000;
  while (error == 0 && test_now_ms() < until_ms) {
    n = recv(fds[1], scrap, sizeof scrap, 0);
    assert_int_not_equal(n, 0); /* no orderly end */
    if (n > 0)
      got += (uint64_t)n;
    else if (errno != EAGAIN)
      error = errno;
    assert_int_equal(dstream_loop_step(test_loop, 1), 0);
  }
  assert_int_equal(error, ECONNRESET);
  assert_int_equal(got, sent);
  WAIT(count_fds() < before);
  close(fds[1]);
}

/* A send that fails ends nothing: what the peer had sent before it went comes
 * first, though the owner took its time. */
static void reset_beside_held_bytes(bool orderly) {
  static char bytes[160000];
  int fds[2];
  int pending = 0;
  struct link *link = NULL;
  open_tcp(fds);
  struct link_options options = {0};
  world.hold = true;
  world.received = world.ends = 0;
  memset(&world.end, 0, sizeof world.end);
  assert_int_equal(
      link_adopt(&link, test_loop, fds[0], &options, &callbacks, NULL), 0);
  WAIT(link_space(link) > 0);
  if (!orderly) { /* unread bytes make its close a reset */
    link_write(link, "x", 1);
    WAIT(ioctl(fds[1], FIONREAD, &pending) == 0 && pending == 1);
  }
  uint64_t sent = 0;
  ssize_t n;
  while (sent < sizeof bytes &&
         (n = send(fds[1], bytes, sizeof bytes - sent, 0)) > 0)
    sent += (uint64_t)n;
  /* A reset drops what its system has not sent yet. */
  WAIT(ioctl(fds[1], TIOCOUTQ, &pending) == 0 && pending == 0);
  assert_int_equal(sent, sizeof bytes);
  close(fds[1]);
  for (int i = 0; i < 10; i++) { /* like pings: refused from the second on */
    if (link_space(link) > 0)
      link_write(link, "ping", 4);
    assert_int_equal(dstream_loop_step(test_loop, 5), 0);
  }
  assert_int_equal(link_space(link), 0);
  assert_int_equal(world.ends, 0);
  world.hold = false;
  link_resume(link);
  WAIT(world.ends == 1);
  assert_int_equal(world.received, sent);
  assert_int_equal(world.end.status, orderly ? DSTREAM_OK : DSTREAM_EIO);
  if (!orderly)
    assert_int_equal(world.end.sys_errno, ECONNRESET);
  link_abort(link);
}

static void test_failed_send_loses_no_bytes(void **state) {
  (void)state;
  reset_beside_held_bytes(true);
  reset_beside_held_bytes(false);
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
      TEST(test_room),
      TEST(test_pair_of_pipes),
      TEST(test_pair_shares_flags),
      TEST(test_pair_of_files),
      TEST(test_pair_reader_goes),
      TEST(test_pair_of_standard_files),
      TEST(test_reset),
      TEST(test_failed_send_loses_no_bytes),
      TEST(test_quick_peer),
      TEST(test_timer_from_outside),
      TEST(test_step_waits),
  };
  test_choose();
  signal(SIGPIPE, SIG_IGN);
  int failed = cmocka_run_group_tests_name("links on poll", tests, NULL, NULL);
  world.backend = loop_uv_backend();
  return failed +
         cmocka_run_group_tests_name("links on libuv", tests, NULL, NULL);
}
