/* Peers that vanish without a word: packets are dropped on the way, no FIN, no
 * reset.  Device, hub and service live in network namespaces of their own, with
 * a router between them; the namespaces go with this process.  Needs Linux, ip
 * (iproute2), and root or the right to make user namespaces; skipped else. */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <dstream/dstream.h>

#include "integration/support_hub.h"
#include "integration/support_streams.h"

/* The interval of pings on streams, and of MQTT's. */
#define KEEPALIVE_S  2
#define KEEPALIVE_MS (1000 * KEEPALIVE_S)
/* Two of them, and what a busy machine may need besides.  Without keepalive it
 * is a quarter of an hour. */
#define NOTICED_MS (2 * KEEPALIVE_MS + 8000)
#define BULK       ((uint64_t)1 << 20)

/* ---- the network ---- */

enum place { ROUTER, DEVICE, HUB, SERVICE, PLACES };

/* 10.77.PLACE.2 each, the router is 10.77.PLACE.1 on r<PLACE>. */
#define HUB_HOST "10.77.2.2"

static int namespaces[PLACES];

/* From here on this thread's new sockets and children are there. */
static void enter(enum place place) {
  assert_int_equal(setns(namespaces[place], CLONE_NEWNET), 0);
}

static bool put(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  size_t len = strlen(text);
  bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;
  if (fd >= 0)
    close(fd);
  return ok;
}

static bool run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line for the shell, in the namespace this thread is in. */
static bool run(const char *format, ...) {
  static struct hub_output output;
  char line[512];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  const char *const arguments[] = {"sh", "-c", line, NULL};
  bool ok = hub_command(&output, arguments) == 0;
  if (!ok)
    printf("%s: %s", line, output.err);
  return ok;
}

static bool new_namespace(enum place place) {
  bool ok = unshare(CLONE_NEWNET) == 0;
  if (ok)
    namespaces[place] = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  return ok && namespaces[place] >= 0;
}

/* Root of namespaces that others own no part of. */
static bool become_root(void) {
  char map[64];
  snprintf(map, sizeof map, "0 %u 1", (unsigned)getuid());
  char group_map[64];
  snprintf(group_map, sizeof group_map, "0 %u 1", (unsigned)getgid());
  return unshare(CLONE_NEWUSER) == 0 && put("/proc/self/setgroups", "deny") &&
         put("/proc/self/uid_map", map) && put("/proc/self/gid_map", group_map);
}

/* A cable between the router and a new place. */
static bool connect_place(enum place place) {
  int p = (int)place;
  if (!new_namespace(place))
    return false;
  enter(ROUTER);
  bool ok = run("ip link add r%d type veth peer name up0 && "
                "ip link set up0 netns /proc/%d/fd/%d && "
                "ip addr add 10.77.%d.1/24 dev r%d && ip link set r%d up",
                p, (int)getpid(), namespaces[place], p, p, p);
  enter(place);
  return ok && run("ip link set lo up && ip addr add 10.77.%d.2/24 dev up0 && "
                   "ip link set up0 up && ip route add default via 10.77.%d.1",
                   p, p);
}

static bool make_network(void) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%.3000s:/usr/sbin:/sbin", getenv("PATH"));
  setenv("PATH", path, 1);
  return (new_namespace(ROUTER) || (become_root() && new_namespace(ROUTER))) &&
         put("/proc/sys/net/ipv4/ip_forward", "1") && connect_place(DEVICE) &&
         connect_place(HUB) && connect_place(SERVICE);
}

static enum place cut_off; /* ROUTER: none */

/* Drops all packets from and to a place, and tells nobody; or no longer. */
static void cut(enum place place, bool gone) {
  cut_off = gone ? place : ROUTER;
  char path[64];
  snprintf(path, sizeof path, "/proc/sys/net/ipv4/conf/r%d/forwarding",
           (int)place);
  enter(ROUTER);
  assert_true(put(path, gone ? "0" : "1"));
  assert_true(run("ip route %s blackhole 10.77.%d.2/32", gone ? "add" : "del",
                  (int)place));
  enter(SERVICE);
}

/* ---- the ends ---- */

/* What an end of a stream does.  All of it: sends without end, takes what
 * comes. */
#define SENDS  1
#define STALLS 2

struct end {
  dstream_stream *stream;
  unsigned what;
  atomic_uint opens;
  atomic_uint closes;
  atomic_ullong sent;
  atomic_ullong received;
  int64_t stalled; /* not consumed */
  uint64_t closed_ms;
  struct dstream_end why; /* these two: once `closes` is 1 */
};

static void pump(dstream_stream *stream, struct end *end) {
  static const uint8_t bytes[16384];
  long n = 1;
  while ((end->what & SENDS) != 0 && n > 0) {
    n = dstream_stream_write(stream, bytes, sizeof bytes);
    if (n > 0)
      atomic_fetch_add(&end->sent, (unsigned long long)n);
    if (n < (long)sizeof bytes)
      break;
  }
}

static void on_open(dstream_stream *stream, void *user) {
  struct end *end = user;
  end->stream = stream;
  pump(stream, end);
  atomic_fetch_add(&end->opens, 1);
}

static void on_data(dstream_stream *stream, void *user, const void *data,
                    size_t len) {
  struct end *end = user;
  (void)data;
  atomic_fetch_add(&end->received, len);
  if ((end->what & STALLS) != 0)
    end->stalled += (int64_t)len;
  else
    dstream_stream_consume(stream, len);
}

static void on_writable(dstream_stream *stream, void *user) {
  pump(stream, user);
}

static void on_close(dstream_stream *stream, void *user,
                     const struct dstream_end *why) {
  struct end *end = user;
  (void)stream;
  end->stream = NULL;
  end->why = *why;
  end->closed_ms = test_now_ms();
  atomic_fetch_add(&end->closes, 1);
}

static const struct dstream_stream_callbacks end_callbacks = {
    .on_open = on_open,
    .on_data = on_data,
    .on_writable = on_writable,
    .on_close = on_close};

static const struct dstream_stream_options end_options = {
    .size = sizeof end_options, .keepalive_ms = KEEPALIVE_MS};

/* ---- the streams ---- */

enum { IDLE, DEVICE_STALLS, SERVICE_STALLS, FRESH, TO_DEVICE, TO_SERVICE };
#define STREAMS 6

static const struct {
  const char *name;
  unsigned device, service;
} cases[STREAMS] = {
    [IDLE] = {"idle", 0, 0},
    [DEVICE_STALLS] = {"device-stalls", STALLS, SENDS},
    [SERVICE_STALLS] = {"service-stalls", SENDS, STALLS},
    [FRESH] = {"fresh", 0, 0},
    [TO_DEVICE] = {"to-device", 0, SENDS},
    [TO_SERVICE] = {"to-service", SENDS, 0},
};

static struct {
  struct hub_fixture hub;
  dstream_device *device;
  atomic_int state;      /* its own */
  atomic_ullong lost_ms; /* when it noticed that it was cut off */
  dstream_service *service;
  struct end at_device[STREAMS];
  struct end at_service[STREAMS];
} world;

/* On the device's own thread. */
static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  (void)device;
  (void)user;
  for (int i = 0; i < STREAMS; i++)
    if (strcmp(cases[i].name, dstream_request_name(request)) == 0) {
      dstream_request_accept(request, &end_options, &end_callbacks,
                             &world.at_device[i], NULL);
      return;
    }
  dstream_request_reject(request, NULL);
}

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  (void)device;
  (void)user;
  (void)cause;
  if (state == DSTREAM_DEVICE_WAITING)
    atomic_store(&world.lost_ms, test_now_ms());
  atomic_store(&world.state, (int)state);
}

static void start_device(void) {
  char string[CONN_STRING_MAX];
  static const struct dstream_device_callbacks callbacks = {
      .on_state = on_state, .on_request = on_request};
  assert_int_equal(hub_fixture_add_device(&world.hub, "dev1", string), 0);
  const struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = string,
      .tls = {.size = sizeof options.tls, .ca_file = world.hub.ca_file},
      .mqtt_keepalive_s = KEEPALIVE_S,
      .retry_min_ms = 100,
      .retry_max_ms = 500};
  enter(DEVICE); /* where its thread stays */
  assert_int_equal(
      dstream_device_new(&world.device, &options, &callbacks, NULL, NULL), 0);
  assert_int_equal(dstream_device_start(world.device), 0);
  enter(SERVICE);
}

static void start_service(void) {
  const struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = world.hub.service_string,
      .loop = test_loop,
      .tls = {.size = sizeof options.tls, .ca_file = world.hub.ca_file}};
  assert_int_equal(dstream_service_new(&world.service, &options, NULL), 0);
}

static void open_stream(int i) {
  static const struct dstream_open_options options = {
      .size = sizeof options,
      .stream = {.size = sizeof options.stream, .keepalive_ms = KEEPALIVE_MS}};
  struct end *device = &world.at_device[i];
  struct end *service = &world.at_service[i];
  memset(device, 0, sizeof *device);
  memset(service, 0, sizeof *service);
  device->what = cases[i].device;
  service->what = cases[i].service;
  assert_int_equal(dstream_service_open_stream(world.service, "dev1",
                                               cases[i].name, &options,
                                               &end_callbacks, service, NULL),
                   0);
}

static void wait_both_open(int i) {
  WAIT((atomic_load(&world.at_device[i].opens) == 1 &&
        atomic_load(&world.at_service[i].opens) == 1) ||
       atomic_load(&world.at_service[i].closes) > 0);
  if (atomic_load(&world.at_service[i].closes) > 0)
    fail_msg("%s: %s", cases[i].name, world.at_service[i].why.text);
}

static uint64_t sent_by(const struct end *end) {
  return atomic_load(&end->sent);
}

/* Until nothing moves any more. */
static void wait_stalled(const struct end *sender) {
  uint64_t last = 0;
  uint64_t since_ms = test_now_ms();
  WAIT(sent_by(sender) > 2 * PEER_WINDOW);
  while (test_now_ms() - since_ms < 400) {
    if (sent_by(sender) != last) {
      last = sent_by(sender);
      since_ms = test_now_ms();
    }
    assert_int_equal(dstream_loop_step(test_loop, 20), 0);
  }
}

static unsigned hub_logged(const char *text) {
  unsigned count = 0;
  pthread_mutex_lock(&world.hub.log_lock);
  const char *at = world.hub.log + world.hub.log_mark;
  while ((at = strstr(at, text)) != NULL) {
    count++;
    at += strlen(text);
  }
  pthread_mutex_unlock(&world.hub.log_lock);
  return count;
}

/* All of them, in the states that their names say; some for longer than an
 * interval, so that there were pings. */
static void open_all(void) {
  WAIT(atomic_load(&world.state) == DSTREAM_DEVICE_READY);
  for (int i = IDLE; i < FRESH; i++)
    open_stream(i);
  for (int i = IDLE; i < FRESH; i++)
    wait_both_open(i);
  uint64_t until_ms = test_now_ms() + KEEPALIVE_MS + KEEPALIVE_MS / 2;
  wait_stalled(&world.at_service[DEVICE_STALLS]);
  wait_stalled(&world.at_device[SERVICE_STALLS]);
  while (test_now_ms() < until_ms)
    assert_int_equal(dstream_loop_step(test_loop, 20), 0);
  for (int i = FRESH; i < STREAMS; i++)
    open_stream(i);
  for (int i = FRESH; i < STREAMS; i++)
    wait_both_open(i);
  WAIT(atomic_load(&world.at_device[TO_DEVICE].received) > BULK &&
       atomic_load(&world.at_service[TO_SERVICE].received) > BULK);
  for (int i = 0; i < STREAMS; i++) {
    assert_int_equal(atomic_load(&world.at_device[i].closes), 0);
    assert_int_equal(atomic_load(&world.at_service[i].closes), 0);
  }
  hub_fixture_mark_log(&world.hub);
}

static void assert_given_up(const struct end *ends, const char *side,
                            uint64_t cut_ms) {
  for (int i = 0; i < STREAMS; i++) {
    printf("%-14s %s: after %llu ms: %s\n", cases[i].name, side,
           (unsigned long long)(ends[i].closed_ms - cut_ms), ends[i].why.text);
    assert_int_equal(atomic_load(&ends[i].closes), 1);
    assert_int_equal(ends[i].why.status, DSTREAM_EKEEPALIVE);
    assert_in_range(ends[i].closed_ms - cut_ms, 0, NOTICED_MS);
  }
}

static unsigned closed(const struct end *ends) {
  unsigned count = 0;
  for (int i = 0; i < STREAMS; i++)
    count += atomic_load(&ends[i].closes);
  return count;
}

/* It takes all that came, and what came behind it. */
static void unstall_service(void) {
  struct end *end = &world.at_service[SERVICE_STALLS];
  int64_t len = end->stalled;
  end->what = 0;
  end->stalled = 0;
  if (end->stream != NULL)
    dstream_stream_consume(end->stream, (size_t)len);
}

/* ---- tests ---- */

/* The device notices by itself; the hub does, and tells the service; and who
 * asks for a stream meanwhile waits no longer than he wanted to. */
static void test_device_vanishes(void **state) {
  (void)state;
  static const struct dstream_open_options late_options = {
      .size = sizeof late_options, .response_wait_s = 2};
  struct end late = {.what = 0};
  if (TEST_SANITIZED)
    skip(); /* the other one runs the same code, and each waits for long */
  open_all();
  uint64_t cut_ms = test_now_ms();
  cut(DEVICE, true);
  assert_int_equal(dstream_service_open_stream(world.service, "dev1", "late",
                                               &late_options, &end_callbacks,
                                               &late, NULL),
                   0);
  WAIT(atomic_load(&late.closes) == 1);
  assert_int_equal(late.why.status, DSTREAM_ENOANSWER);
  WAIT(closed(world.at_device) == STREAMS &&
       closed(world.at_service) >= STREAMS - 1);
  assert_given_up(world.at_device, "device", cut_ms);
  unstall_service(); /* the end is told behind the bytes */
  WAIT(closed(world.at_service) == STREAMS);
  for (int i = 0; i < STREAMS; i++) {
    const struct end *end = &world.at_service[i];
    printf("%-14s service: after %llu ms: %s\n", cases[i].name,
           (unsigned long long)(end->closed_ms - cut_ms), end->why.text);
    assert_int_equal(end->why.status, DSTREAM_ECLOSED);
    assert_int_equal(end->why.ws_code, 1011);
    assert_non_null(strstr(end->why.text, "no answer"));
    if (i != SERVICE_STALLS)
      assert_in_range(end->closed_ms - cut_ms, 0, NOTICED_MS);
  }
  WAIT(hub_logged("ended by device") == STREAMS);
  /* and of the control connection */
  WAIT(hub_fixture_logged(&world.hub, "dev1 can no longer be reached"));
  printf("control connection: the hub after %llu ms\n",
         (unsigned long long)(test_now_ms() - cut_ms));
  WAIT(atomic_load(&world.state) != DSTREAM_DEVICE_READY);
  printf("control connection: the device after %llu ms\n",
         (unsigned long long)(atomic_load(&world.lost_ms) - cut_ms));
  cut(DEVICE, false);
  WAIT(atomic_load(&world.state) == DSTREAM_DEVICE_READY);
}

/* Both ends notice, and the hub does of both: it gives one up and closes the
 * other, with its usual patience, which is long for one without room. */
static void test_hub_vanishes(void **state) {
  (void)state;
  open_all();
  uint64_t cut_ms = test_now_ms();
  cut(HUB, true);
  WAIT(closed(world.at_device) == STREAMS &&
       closed(world.at_service) == STREAMS);
  assert_given_up(world.at_device, "device", cut_ms);
  assert_given_up(world.at_service, "service", cut_ms);
  WAIT(hub_logged("ended by ") >= STREAMS - 2);
  printf("the hub after %llu ms\n",
         (unsigned long long)(test_now_ms() - cut_ms));
  WAIT(atomic_load(&world.state) != DSTREAM_DEVICE_READY);
  printf("control connection: the device after %llu ms\n",
         (unsigned long long)(atomic_load(&world.lost_ms) - cut_ms));
  cut(HUB, false);
  WAIT(atomic_load(&world.state) == DSTREAM_DEVICE_READY);
}

/* ---- group ---- */

static int group_setup(void **state) {
  (void)state;
  char overrides[64];
  snprintf(overrides, sizeof overrides,
           "{\"limits\":{\"keepalive_seconds\":%d}}", KEEPALIVE_S);
  const struct hub_fixture_options options = {.host = HUB_HOST,
                                              .overrides = overrides};
  enter(HUB);
  if (hub_fixture_start(&world.hub, &options) != 0)
    return -1;
  enter(SERVICE);
  test_loop_start();
  start_service();
  start_device();
  return 0;
}

/* Also after a test that failed. */
static int heal(void **state) {
  (void)state;
  if (cut_off != ROUTER)
    cut(cut_off, false);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  dstream_device_free(world.device);
  dstream_service_free(world.service);
  test_loop_end();
  return hub_fixture_stop(&world.hub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_hub_vanishes, heal),
      cmocka_unit_test_teardown(test_device_vanishes, heal),
  };
  if (!make_network()) {
    puts("skipped: network namespaces can't be made and used here");
    return 77;
  }
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
