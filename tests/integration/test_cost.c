/* What bytes cost at the relay and at the two programs of its ends, counted
 * and not timed: system calls, TLS records, allocations, copied bytes.  A
 * counter (cost/counter.c) is loaded into hub, agent and forward; this process
 * is the client in front of `dstream forward` and the target behind
 * dstream-agent.
 *
 * What a message takes is the same each time.  How much bulk a system call
 * moves depends a little on who is how fast: those bounds are twice what was
 * counted, the others a twentieth more.  To set them anew, with cause: each
 * test prints what it has counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "cost/cost.h"
#include "integration/support_streams.h"
#include "integration/support_tool.h"
#include "integration/support_world.h"

#define MESSAGE      64
#define WARM_UP      500
#define ECHOES       3000
#define BULK         ((uint64_t)64 << 20)
#define BULK_FIRST   ((uint64_t)16 << 20)
#define PIECE        16384
#define SMALL_FRAMES ((uint64_t)8 << 20)
/* What timers and the control connection may do beside the messages. */
#define BESIDE  200
#define IDLE_MS 2000
/* It looks four times a second whether identities were changed, and asks its
 * broker once what is due: seven, with the broker's answer. */
#define HUB_WAKES_A_SECOND 10

enum who { HUB, AGENT, FORWARD, PROGRAMS };
static const char *const names[PROGRAMS] = {"dstream-hub", "dstream-agent",
                                            "dstream"};

static struct hub_fixture hub;
static struct cost_page *pages[PROGRAMS];
static char paths[PROGRAMS][300];
static char library[300];
static char directory[] = "/tmp/dstream-cost-XXXXXX";
static struct tool agent;
static struct tool forward;
static int listener = -1;
static char address[64]; /* where forward listens */
static int client = -1;  /* to forward */
static int target = -1;  /* from the agent */
static char block[256 * 1024];

/* ---- the counter ---- */

struct counts {
  double of[PROGRAMS][COST_COUNT];
};

static void counter_new(enum who who) {
  snprintf(paths[who], sizeof paths[who], "%s/%s", directory, names[who]);
  int fd = open(paths[who], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  assert_true(fd >= 0);
  assert_int_equal(ftruncate(fd, sizeof(struct cost_page)), 0);
  void *page =
      mmap(NULL, sizeof(struct cost_page), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  assert_ptr_not_equal(page, MAP_FAILED);
  pages[who] = page;
}

/* What is run from now on is counted. */
static void counter_set(enum who who) {
  setenv("LD_PRELOAD", library, 1);
  setenv("DSTREAM_COST_PROGRAM", names[who], 1);
  setenv("DSTREAM_COST_FILE", paths[who], 1);
}

static void counter_unset(void) {
  unsetenv("LD_PRELOAD");
}

/* The loop's thread alone: what a resolver or Paho does is not for a byte. */
static void counts_read(struct counts *counts) {
  for (int who = 0; who < PROGRAMS; who++)
    for (int kind = 0; kind < COST_COUNT; kind++)
      counts->of[who][kind] = (double)atomic_load(&pages[who]->main[kind]);
}

/* What was counted since, divided. */
static void counts_since(struct counts *counts, double by) {
  struct counts now;
  counts_read(&now);
  for (int who = 0; who < PROGRAMS; who++)
    for (int kind = 0; kind < COST_COUNT; kind++)
      counts->of[who][kind] = (now.of[who][kind] - counts->of[who][kind]) / by;
}

static void counts_show_one(const struct counts *counts, const char *what,
                            enum who who) {
#define TEXT(name, text) text,
  static const char *const kinds[] = {COST_KINDS(TEXT)};
#undef TEXT
  char line[1024] = "";
  size_t len = 0;
  for (int kind = 0; kind < COST_COUNT; kind++)
    len += (size_t)snprintf(line + len, sizeof line - len, " %s=%.3f",
                            kinds[kind], counts->of[who][kind]);
  print_message("cost: %s %s%s\n", what, names[who], line);
}

static void counts_show(const struct counts *counts, const char *what) {
  for (int who = 0; who < PROGRAMS; who++)
    counts_show_one(counts, what, who);
}

/* ---- the connection ---- */

static void set_deadline(int fd) {
  const struct timeval most = {TOOL_WAIT_MS / 1000, 0};
  const int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int setup(void **state) {
  (void)state;
  client = client_connect(address);
  target = accept(listener, NULL, NULL);
  assert_true(target >= 0);
  set_deadline(client);
  set_deadline(target);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  close(client);
  close(target);
  return 0;
}

struct sender {
  int fd;
  uint64_t bytes;
};

static void *send_all(void *user) {
  struct sender *sender = user;
  for (uint64_t left = sender->bytes; left > 0;) {
    size_t n = left < sizeof block ? (size_t)left : sizeof block;
    ssize_t sent = send(sender->fd, block, n, MSG_NOSIGNAL);
    if (sent <= 0)
      return NULL; /* the reader runs into its deadline */
    left -= (uint64_t)sent;
  }
  return NULL;
}

static void read_all(int fd, uint64_t bytes) {
  static char into[256 * 1024];
  while (bytes > 0) {
    ssize_t n =
        recv(fd, into, bytes < sizeof into ? (size_t)bytes : sizeof into, 0);
    assert_true(n > 0);
    bytes -= (uint64_t)n;
  }
}

static void move(int from, int to, uint64_t bytes) {
  struct sender sender = {from, bytes};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, send_all, &sender), 0);
  read_all(to, bytes);
  pthread_join(thread, NULL);
}

/* ---- bulk ---- */

/* The most for each 16 KB of payload. */
struct bounds {
  double recv;
  double send;
  double wait;
  double ctl; /* epoll_ctl */
  double other;
  double records; /* of TLS, each way */
  double allocations;
  double openssl_allocations; /* its few bytes of each record */
  double copied;              /* how often each byte, by others than OpenSSL */
};

/* Reads TLS and writes TLS. */
static const struct bounds relays = {.recv = 0.22,
                                     .send = 0.3,
                                     .wait = 0.3,
                                     .ctl = 0.15,
                                     .other = 0.1,
                                     .records = 1.1,
                                     .allocations = 0.15,
                                     .openssl_allocations = 5.3,
                                     .copied = 2.25};
/* Reads a local socket and writes TLS. */
static const struct bounds sends = {.recv = 0.22,
                                    .send = 0.3,
                                    .wait = 0.3,
                                    .ctl = 0.15,
                                    .other = 0.1,
                                    .records = 1.1,
                                    .allocations = 0.15,
                                    .openssl_allocations = 3.7,
                                    .copied = 1.1};
/* Reads TLS and writes a local socket. */
static const struct bounds receives = {.recv = 0.54,
                                       .send = 0.6,
                                       .wait = 0.7,
                                       .ctl = 0.2,
                                       .other = 0.1,
                                       .records = 1.1,
                                       .allocations = 0.26,
                                       .openssl_allocations = 1.4,
                                       .copied = 2.15};

static bool more(const char *who, const char *what, double counted,
                 double most) {
  if (counted <= most)
    return false;
  print_error("%s: %s: %.3f for each 16 KB, at most %.3f\n", who, what, counted,
              most);
  return true;
}

/* All of it is looked at, so that all that is wrong is said. */
static bool over(const char *who, const double *of, const struct bounds *most) {
  const struct {
    const char *what;
    double counted;
    double most;
  } rows[] = {
      {"recv", of[COST_RECV], most->recv},
      {"send", of[COST_SEND], most->send},
      {"wait", of[COST_WAIT], most->wait},
      {"epoll_ctl", of[COST_CTL], most->ctl},
      {"other calls", of[COST_READ] + of[COST_WRITE] + of[COST_OTHER],
       most->other},
      {"records read", of[COST_RECORDS_IN], most->records},
      {"records written", of[COST_RECORDS_OUT], most->records},
      {"allocations", of[COST_ALLOCATIONS], most->allocations},
      {"OpenSSL's allocations", of[COST_OPENSSL_ALLOCATIONS],
       most->openssl_allocations},
      {"copies", of[COST_COPIED] / PIECE, most->copied},
  };
  bool is_over = false;
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    is_over |= more(who, rows[i].what, rows[i].counted, rows[i].most);
  return is_over;
}

static void bulk(int from, int to, const char *what,
                 const struct bounds *const bounds[PROGRAMS]) {
  struct counts counts;
  bool is_over = false;
  move(from, to, BULK_FIRST);
  counts_read(&counts);
  move(from, to, BULK);
  counts_since(&counts, (double)BULK / PIECE);
  counts_show(&counts, what);
  for (int who = 0; who < PROGRAMS; who++) {
    assert_true(counts.of[who][COST_RECV] > 0);
    assert_true(counts.of[who][COST_SEND] > 0);
    is_over |= over(names[who], counts.of[who], bounds[who]);
  }
  assert_false(is_over);
}

static void test_bulk_to_device(void **state) {
  static const struct bounds *const bounds[PROGRAMS] = {
      [HUB] = &relays, [AGENT] = &receives, [FORWARD] = &sends};
  (void)state;
  bulk(client, target, "bulk to the device", bounds);
}

static void test_bulk_from_device(void **state) {
  static const struct bounds *const bounds[PROGRAMS] = {
      [HUB] = &relays, [AGENT] = &sends, [FORWARD] = &receives};
  (void)state;
  bulk(target, client, "bulk from the device", bounds);
}

/* ---- small frames ---- */

/* A program that writes 64 bytes at a time, as fast as they are taken: each is
 * a frame, but neither a record nor a system call of its own. */
static void test_small_frames(void **state) {
  static const struct bounds most = {.recv = 0.4,
                                     .send = 0.45,
                                     .wait = 0.6,
                                     .ctl = 0.3,
                                     .other = 0.1,
                                     .records = 1.5,
                                     .allocations = 0.3,
                                     .openssl_allocations = 6,
                                     .copied = 4.4};
  struct world_device device = {.to_receive = SMALL_FRAMES};
  struct call call = {.device = "small"};
  struct peer peer;
  struct counts counts;
  (void)state;
  world_device_new(&device, &hub, "small");
  dstream_service *service = world_service(&hub, NULL);
  peer_init(&peer, PEER_SENDER, SMALL_FRAMES / 2, 0);
  peer.piece = MESSAGE;
  world_open(service, &call, &peer);
  wait_open(&peer);
  WAIT(device.peer_count == 1 && device.peers[0]->received == SMALL_FRAMES / 2);
  counts_read(&counts);
  peer_send_more(&peer, SMALL_FRAMES / 2);
  WAIT(device.peers[0]->received == SMALL_FRAMES);
  counts_since(&counts, (double)SMALL_FRAMES / 2 / PIECE);
  counts_show_one(&counts, "64-byte frames", HUB);
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1);
  peer_clear(&peer);
  dstream_service_free(service);
  world_device_end(&device);
  assert_false(over(names[HUB], counts.of[HUB], &most));
}

/* ---- messages ---- */

static void one_way(int from, int to) {
  char got[MESSAGE];
  assert_int_equal(send(from, block, MESSAGE, MSG_NOSIGNAL), MESSAGE);
  assert_int_equal(recv(to, got, MESSAGE, MSG_WAITALL), MESSAGE);
}

static void echo(unsigned times) {
  for (unsigned i = 0; i < times; i++) {
    one_way(client, target);
    one_way(target, client);
  }
}

static void assert_no_more(const char *what, double counted, double times) {
  if (counted > times + BESIDE)
    fail_msg("%s: %.0f, not %.0f", what, counted, times);
}

/* So often, and no more than a timer or two beside it. */
static void assert_times(const char *what, double counted, double times) {
  assert_no_more(what, counted, times);
  if (counted < times)
    fail_msg("%s: %.0f, not %.0f", what, counted, times);
}

/* One message each way: one record, one receive and one send for each hop. */
static void test_messages(void **state) {
  struct counts counts;
  (void)state;
  echo(WARM_UP);
  counts_read(&counts);
  echo(ECHOES);
  struct counts each = counts;
  counts_since(&counts, 1);
  counts_since(&each, 2.0 * ECHOES);
  counts_show(&each, "64 bytes one way");
  for (int who = 0; who < PROGRAMS; who++) {
    const double *of = counts.of[who];
    unsigned records = who == HUB ? 2 * ECHOES : ECHOES;
    assert_times("recv", of[COST_RECV], 2 * ECHOES);
    assert_times("send", of[COST_SEND], 2 * ECHOES);
    /* libwebsockets has libuv look a second time without waiting. */
    assert_no_more("wait", of[COST_WAIT], 2 * 2 * ECHOES);
    assert_times("records read", of[COST_RECORDS_IN], records);
    assert_times("records written", of[COST_RECORDS_OUT], records);
    assert_no_more("epoll_ctl", of[COST_CTL], 0);
    assert_no_more("other", of[COST_READ] + of[COST_WRITE] + of[COST_OTHER], 0);
    assert_no_more("allocations", of[COST_ALLOCATIONS], 0);
    assert_no_more("OpenSSL's allocations", of[COST_OPENSSL_ALLOCATIONS],
                   2 * (double)(who == HUB ? 4 : 2) * ECHOES);
    assert_no_more("copied", of[COST_COPIED],
                   2 * (double)(who == HUB ? 330 : 170) * ECHOES);
  }
}

/* ---- nothing ---- */

/* Connected, with a stream that has carried something and has nothing more to
 * carry: nobody is woken.  What was before leaves something to be done in a
 * moment. */
static void test_idle(void **state) {
  double most[PROGRAMS] = {[HUB] = IDLE_MS / 1000.0 * HUB_WAKES_A_SECOND};
  double least[PROGRAMS];
  bool quiet = false;
  (void)state;
  echo(WARM_UP);
  for (int i = 0; i < 5 && !quiet; i++) {
    struct counts counts;
    counts_read(&counts);
    poll(NULL, 0, IDLE_MS);
    counts_since(&counts, 1);
    quiet = true;
    for (int who = 0; who < PROGRAMS; who++) {
      double waits = counts.of[who][COST_WAIT];
      least[who] = i == 0 || waits < least[who] ? waits : least[who];
      quiet = quiet && least[who] <= most[who];
      print_message("cost: idle %s waits=%.0f\n", names[who], waits);
    }
  }
  assert_true(quiet);
}

/* The counter itself. */
static void test_counter(void **state) {
  (void)state;
  struct counts counts;
  counts_read(&counts);
  for (int who = 0; who < PROGRAMS; who++) {
    assert_true(counts.of[who][COST_RECV] > 0);
    assert_true(counts.of[who][COST_SEND] > 0);
    assert_true(counts.of[who][COST_WAIT] > 0);
    assert_true(counts.of[who][COST_CTL] > 0);
    assert_true(counts.of[who][COST_OTHER] > 0);
    assert_true(counts.of[who][COST_CLOCK] > 0);
    assert_true(counts.of[who][COST_ALLOCATIONS] > 0);
    assert_true(counts.of[who][COST_OPENSSL_ALLOCATIONS] > 0);
    assert_true(counts.of[who][COST_COPIED] > 0);
    assert_true(counts.of[who][COST_OPENSSL_COPIED] > 0);
  }
}

/* ---- group ---- */

static uint16_t listen_here(void) {
  struct sockaddr_in any = {.sin_family = AF_INET,
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof any;
  listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  set_deadline(listener);
  if (listener < 0 || bind(listener, (struct sockaddr *)&any, len) != 0 ||
      listen(listener, 16) != 0 ||
      getsockname(listener, (struct sockaddr *)&any, &len) != 0)
    return 0;
  return ntohs(any.sin_port);
}

static void start_programs(uint16_t port) {
  static char connection[CONN_STRING_MAX];
  char sink[64];
  snprintf(sink, sizeof sink, "sink=127.0.0.1:%u", port);
  assert_int_equal(hub_fixture_add_device(&hub, "counted", connection), 0);
  tool_environment(&hub);
  const char *const run_agent[] = {"dstream-agent",
                                   "--connection-string",
                                   connection,
                                   "--target",
                                   sink,
                                   NULL};
  const char *const run_forward[] = {"dstream", "forward", "counted",
                                     "sink",    "0",       NULL};
  counter_set(AGENT);
  tool_start(&agent, run_agent);
  tool_line(&agent, address, sizeof address);
  counter_set(FORWARD);
  tool_start(&forward, run_forward);
  tool_line(&forward, address, sizeof address);
  counter_unset();
}

static int group_setup(void **state) {
  (void)state;
  if (mkdtemp(directory) == NULL)
    return -1;
  for (int who = 0; who < PROGRAMS; who++)
    counter_new(who);
  counter_set(HUB);
  int status = hub_fixture_start(&hub, NULL);
  counter_unset();
  uint16_t port = status == 0 ? listen_here() : 0;
  if (port == 0)
    return -1;
  start_programs(port);
  test_loop_start();
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  if (forward.pid != 0)
    tool_end(&forward, SIGTERM);
  if (agent.pid != 0)
    tool_end(&agent, SIGTERM);
  if (test_loop != NULL)
    test_loop_end();
  close(listener);
  for (int who = 0; who < PROGRAMS; who++)
    unlink(paths[who]);
  rmdir(directory);
  return hub_fixture_stop(&hub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_bulk_to_device, setup, teardown),
      cmocka_unit_test_setup_teardown(test_bulk_from_device, setup, teardown),
      cmocka_unit_test_setup_teardown(test_messages, setup, teardown),
      cmocka_unit_test(test_small_frames),
      cmocka_unit_test_setup_teardown(test_idle, setup, teardown),
      cmocka_unit_test(test_counter),
  };
  const char *build = getenv("DSTREAM_BINARY_DIR");
  snprintf(library, sizeof library, "%s/lib/libdstream_cost.so",
           build != NULL ? build : ".");
  if (access(library, R_OK) != 0) {
    print_message("no counter: it is built where there is no sanitizer\n");
    return 77;
  }
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
