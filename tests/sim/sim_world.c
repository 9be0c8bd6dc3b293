/* One scenario. */
#include <stdio.h>
#include <string.h>

#include "core/container.h"
#include "sim.h"

#define DEVICES_MAX 3
#define OPENS_MAX   10
#define EVENTS_MAX  6
/* More than any wait that is left at the end; a peer that has never answered a
 * ping is given up by TCP. */
#define SETTLE_MS  1200000
#define LONGEST_MS 1200000
/* A hub, devices and calls to the hub; each end, with the hub's half. */
#define MEMORY_BASE    (768 * 1024)
#define MEMORY_PER_END (300 * 1024)

struct world;

struct sim_device {
  struct world *world;
  dstream_device *device;
  bool started;
  char id[16];
};

enum event_kind {
  EVENT_DEVICE_STOP,
  EVENT_SERVICE_FREE,
  EVENT_HUB_RESTART,
  EVENT_BROKER_RESTART,
  EVENT_KINDS
};

struct event {
  struct world *world;
  struct loop_timer timer;
  bool open; /* a stream is asked for; else `kind` */
  enum event_kind kind;
};

struct world {
  dstream_loop *loop;
  enum sim_kind kind;
  struct sim_hub_options hub_options;
  struct sim_hub *hub;
  struct loop_timer hub_timer;
  struct sim_device devices[DEVICES_MAX];
  unsigned device_count;
  dstream_service *service;
  struct event events[OPENS_MAX + EVENTS_MAX];
  unsigned event_count;
  unsigned events_due;
  bool ending;
  struct sim_apps apps;
  size_t memory_before;
};

/* ---- devices ---- */

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  struct sim_device *d = user;
  SIM_CHECK(device == d->device, "another device's request");
  sim_app_request(&d->world->apps, request);
}

static void on_stopped(dstream_device *device, void *user) {
  struct sim_device *d = user;
  SIM_CHECK(device == d->device && d->started, "%s: on_stopped", d->id);
  sim_trace("%s: stopped", d->id);
  d->started = false;
  if (!d->world->ending && sim_chance(700))
    d->started = dstream_device_start(device) == DSTREAM_OK;
}

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  struct sim_device *d = user;
  (void)device;
  sim_trace("%s: state %d: %s", d->id, (int)state,
            cause != NULL ? cause->text : "");
  SIM_CHECK(cause == NULL || cause->text[0] != '\0', "a cause without a text");
}

static void device_new(struct world *w) {
  static const struct dstream_device_callbacks callbacks = {
      .on_request = on_request, .on_stopped = on_stopped, .on_state = on_state};
  struct sim_device *d = &w->devices[w->device_count];
  char text[128];
  struct dstream_end error = {0};
  d->world = w;
  snprintf(d->id, sizeof d->id, "device%u", w->device_count);
  snprintf(text, sizeof text,
           "HostName=" SIM_HOST ";DeviceId=%s;SharedAccessKey=a2V5a2V5", d->id);
  bool calm = w->kind != SIM_ANY || w->apps.quiet;
  struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = text,
      .loop = w->loop,
      .sas_lifetime_s = calm || sim_chance(500) ? 0 : (int)sim_between(10, 100),
      .max_streams = calm || sim_chance(800) ? 0 : 1,
      .max_requests = calm || sim_chance(800) ? 0 : 1};
  int status = dstream_device_new(&d->device, &options, &callbacks, d, &error);
  if (status != DSTREAM_OK) {
    SIM_CHECK(sim_memory_failed() > 0, "device_new: %d %s", status, error.text);
    SIM_CHECK(d->device == NULL && error.text[0] != '\0',
              "device_new: %d without a text", status);
    return;
  }
  d->started = dstream_device_start(d->device) == DSTREAM_OK;
  w->device_count++;
}

static void service_new(struct world *w) {
  struct dstream_end error = {0};
  struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = "HostName=" SIM_HOST ";SharedAccessKeyName=service;"
                           "SharedAccessKey=a2V5a2V5",
      .loop = w->loop};
  int status = dstream_service_new(&w->service, &options, &error);
  if (status == DSTREAM_OK)
    return;
  SIM_CHECK(sim_memory_failed() > 0, "service_new: %d %s", status, error.text);
  SIM_CHECK(w->service == NULL && error.text[0] != '\0',
            "service_new: %d without a text", status);
}

/* ---- the hub ---- */

static void hub_new(struct world *w) {
  int status = sim_hub_new(&w->hub, w->loop, &w->hub_options);
  SIM_CHECK(status == DSTREAM_OK || sim_memory_failed() > 0, "hub: %d", status);
}

static void on_hub_again(struct loop_timer *timer) {
  struct world *w = CONTAINER_OF(timer, struct world, hub_timer);
  if (w->hub == NULL) {
    hub_new(w);
  } else { /* it had its time to stop */
    sim_hub_free(w->hub);
    w->hub = NULL;
    loop_timer_set(w->loop, timer, sim_between(0, 10000), on_hub_again);
  }
}

static void hub_restart(struct world *w) {
  if (w->hub == NULL)
    return;
  sim_trace("the hub restarts");
  uint64_t wait = 0;
  if (sim_chance(700)) {
    sim_hub_stop(w->hub);
    wait = 3000;
  }
  loop_timer_set(w->loop, &w->hub_timer, wait, on_hub_again);
}

/* ---- events ---- */

static void do_event(struct world *w, enum event_kind kind) {
  struct sim_device *d = &w->devices[sim_below(DEVICES_MAX)];
  w->apps.disturbed = true;
  switch (kind) {
  case EVENT_DEVICE_STOP:
    if (d->device != NULL) {
      sim_trace("%s: is stopped", d->id);
      dstream_device_stop(d->device);
    }
    break;
  case EVENT_SERVICE_FREE:
    sim_trace("the service is freed");
    dstream_service_free(w->service);
    w->service = NULL;
    service_new(w);
    break;
  case EVENT_HUB_RESTART:
    if (w->hub_timer.opaque[2] == 0)
      hub_restart(w);
    break;
  default:
    sim_broker_restart(sim_between(0, 20000));
  }
}

static void on_event(struct loop_timer *timer) {
  struct event *event = CONTAINER_OF(timer, struct event, timer);
  struct world *w = event->world;
  char device[24];
  w->events_due--;
  if (!event->open) {
    do_event(w, event->kind);
  } else if (w->service != NULL) {
    bool calm = w->apps.quiet || w->kind == SIM_MEMORY;
    unsigned most = DEVICES_MAX - (calm || sim_chance(900) ? 0 : 1);
    unsigned which = (unsigned)sim_below(most);
    if (which >= w->device_count)
      which = w->device_count > 0 ? w->device_count - 1 : 0;
    snprintf(device, sizeof device, "%s%u",
             calm || sim_chance(950) ? "device" : "nobody", which);
    sim_app_open(&w->apps, w->service, device);
  }
}

static struct event *event_add(struct world *w, uint64_t at_ms) {
  struct event *event = &w->events[w->event_count++];
  event->world = w;
  w->events_due++;
  loop_timer_set(w->loop, &event->timer, at_ms, on_event);
  return event;
}

/* ---- what this seed is like ---- */

static void calm_faults(struct sim_faults *s, struct sim_broker_faults *b) {
  *s = (struct sim_faults){
      .latency_ms = (unsigned)sim_between(0, 60),
      .buffer = (size_t)sim_between(0, 200000),
      .split = sim_chance(700),
  };
  *b = (struct sim_broker_faults){
      .latency_ms = (unsigned)sim_between(0, 60),
      .no_caps = sim_chance(150),
  };
}

static void socket_faults(struct sim_faults *s) {
  s->refused = sim_chance(300) ? (unsigned)sim_below(300) : 0;
  s->unanswered = sim_chance(200) ? (unsigned)sim_below(200) : 0;
  s->cut = sim_chance(600) ? (unsigned)sim_below(500) : 0;
  s->stalled = sim_chance(600) ? (unsigned)sim_below(500) : 0;
  s->verify = sim_chance(50) ? (unsigned)sim_below(300) : 0;
}

static void broker_faults(struct sim_broker_faults *b) {
  b->refused = sim_chance(300) ? (unsigned)sim_below(500) : 0;
  b->failed = sim_chance(300) ? (unsigned)sim_below(500) : 0;
  b->denied = sim_chance(100) ? (unsigned)sim_below(300) : 0;
  b->lost = sim_chance(300) ? (unsigned)sim_below(400) : 0;
  b->cut = sim_chance(600) ? (unsigned)sim_below(800) : 0;
  b->latency_ms = sim_chance(200) ? 5000 : b->latency_ms;
}

static void plan_hub(struct world *w) {
  bool calm = w->apps.quiet || w->kind == SIM_MEMORY;
  w->hub_options = (struct sim_hub_options){
      .max_streams = calm || sim_chance(800) ? 100 : 2,
      .max_pending = calm || sim_chance(800) ? 100 : 2,
      .keepalive_ms = (unsigned)sim_between(1000, 40000),
      .idle_ms = calm || sim_chance(800) ? 0 : sim_between(1000, 30000),
      .lifetime_ms = calm || sim_chance(800) ? 0 : sim_between(1000, 60000),
      .drain_ms = w->apps.drain_ms};
}

static void plan_events(struct world *w) {
  sim_loop_jumps((unsigned)sim_below(20), sim_chance(200) ? 2000 : 200);
  sim_resolve_faults(sim_chance(300) ? (unsigned)sim_below(300) : 0);
  unsigned events = (unsigned)sim_below(EVENTS_MAX);
  for (unsigned i = 0; i < events; i++)
    event_add(w, sim_between(0, 60000))->kind =
        (enum event_kind)sim_below(EVENT_KINDS);
}

static void plan_apps(struct world *w, bool sockets, bool any_fault) {
  struct sim_apps *apps = &w->apps;
  apps->memory = w->kind == SIM_MEMORY;
  apps->quiet = !any_fault && !apps->memory;
  apps->disturbed = sockets;
  apps->bytes_max = sim_chance(100) ? 400000 : sim_chance(500) ? 20000 : 500;
  if (apps->memory)
    apps->bytes_max = 40000;
  apps->slow_ms = apps->quiet ? 20 : sim_chance(300) ? 20000 : 200;
  apps->drain_ms = 5000 + (unsigned)sim_between(0, 60000);
}

/* 0: no faults; 1: of connections; 2: of control connections; 3: both; 4: and
 * of whole sides, the clock and the resolver. */
static void plan(struct world *w, uint64_t seed) {
  struct sim_faults s;
  struct sim_broker_faults b;
  unsigned profile = w->kind == SIM_ANY ? (unsigned)(seed % 5) : 0;
  bool sockets = profile == 1 || profile >= 3;
  calm_faults(&s, &b);
  if (sockets)
    socket_faults(&s);
  if (profile >= 2)
    broker_faults(&b);
  if (w->kind == SIM_MEMORY)
    s.latency_ms = b.latency_ms = 5;
  sim_socket_setup(w->loop, &s);
  sim_broker_setup(w->loop, &b);
  w->apps.no_caps = b.no_caps;
  plan_apps(w, sockets, profile > 0);
  if (profile == 4)
    plan_events(w);
  plan_hub(w);
}

static void build(struct world *w) {
  unsigned devices = 1 + (unsigned)sim_below(DEVICES_MAX);
  unsigned opens = 1 + (unsigned)sim_below(w->apps.quiet ? OPENS_MAX : 5);
  if (w->kind == SIM_MEMORY)
    devices = 1, opens = 2;
  hub_new(w);
  while (devices-- > 0)
    device_new(w);
  service_new(w);
  uint64_t spread = sim_chance(300) ? 0 : sim_chance(500) ? 1000 : 30000;
  if (w->kind == SIM_MEMORY)
    spread = 100;
  while (opens-- > 0)
    event_add(w, 60 + sim_between(0, spread))->open = true; /* it is up */
}

/* ---- running ---- */

static bool step(struct world *w) {
  bool more = sim_step(w->loop);
  sim_apps_check(&w->apps);
  size_t bytes = sim_memory_bytes() - w->memory_before;
  SIM_CHECK(bytes <= MEMORY_BASE + w->apps.count * MEMORY_PER_END,
            "%zu bytes of memory for %u ends of streams", bytes, w->apps.count);
  return more;
}

static bool busy(const struct world *w) {
  return w->events_due > 0 || w->apps.live > 0 || w->apps.deferred > 0 ||
         w->hub_timer.opaque[2] != 0;
}

static void run(struct world *w) {
  uint64_t limit = loop_now_ms() + LONGEST_MS;
  while (busy(w)) {
    bool more = step(w);
    SIM_CHECK(more || !busy(w), "nothing will happen, but %u streams wait",
              w->apps.live);
    SIM_CHECK(loop_now_ms() < limit, "it never ends: %u streams wait",
              w->apps.live);
  }
}

static bool devices_run(const struct world *w) {
  for (unsigned i = 0; i < w->device_count; i++)
    if (w->devices[i].started)
      return true;
  return false;
}

static void stop_devices(struct world *w) {
  uint64_t limit = loop_now_ms() + 25000;
  w->ending = true;
  for (unsigned i = 0; i < w->device_count; i++)
    dstream_device_stop(w->devices[i].device);
  while (devices_run(w)) {
    SIM_CHECK(step(w), "a device does not stop");
    SIM_CHECK(loop_now_ms() < limit, "a device does not stop in time");
  }
  sim_app_forget_requests(&w->apps);
  for (unsigned i = 0; i < w->device_count; i++)
    dstream_device_free(w->devices[i].device);
}

/* The hub forgets all streams by itself. */
static void settle_hub(struct world *w) {
  uint64_t limit = loop_now_ms() + SETTLE_MS;
  while (w->hub != NULL &&
         (sim_hub_streams(w->hub) > 0 || sim_hub_handshakes(w->hub) > 0)) {
    SIM_CHECK(step(w) && loop_now_ms() < limit,
              "the hub keeps %u streams and %u handshakes that are over",
              sim_hub_streams(w->hub), sim_hub_handshakes(w->hub));
  }
}

static void tear_down(struct world *w) {
  if (sim_chance(500))
    settle_hub(w);
  stop_devices(w);
  dstream_service_free(w->service);
  settle_hub(w);
  if (w->hub != NULL)
    sim_hub_stop(w->hub);
  sim_hub_free(w->hub);
  sim_broker_calm();
  uint64_t limit = loop_now_ms() + SETTLE_MS;
  while (step(w))
    SIM_CHECK(loop_now_ms() < limit, "%u timers and watches are left",
              sim_loop_left(w->loop));
  SIM_CHECK(sim_loop_left(w->loop) == 0, "%u timers and watches are left",
            sim_loop_left(w->loop));
  SIM_CHECK(sim_socket_count() == 0, "%u sockets are left", sim_socket_count());
}

static void count(struct world *w, struct sim_result *result) {
  result->faults += sim_socket_faulted() + sim_broker_lost();
  sim_apps_count(&w->apps, result);
}

void sim_world_run(uint64_t seed, enum sim_kind kind,
                   struct sim_result *result) {
  struct world *w = sim_alloc(sizeof *w);
  size_t before = sim_memory_live();
  w->memory_before = sim_memory_bytes();
  sim_seed(seed);
  sim_loop_reset();
  sim_apps_init(&w->apps);
  w->kind = kind;
  dstream_loop_new(&w->loop, NULL);
  w->apps.loop = w->loop;
  plan(w, seed);
  build(w);
  uint64_t from = loop_now_ms();
  run(w);
  result->virtual_ms += loop_now_ms() - from;
  tear_down(w);
  if (kind == SIM_MEMORY)
    w->apps.disturbed = true;
  sim_apps_compare(&w->apps);
  count(w, result);
  sim_apps_free(&w->apps);
  sim_socket_reset();
  sim_broker_reset();
  dstream_loop_free(w->loop);
  SIM_CHECK(sim_memory_live() == before, "%zd allocations are left",
            (ssize_t)(sim_memory_live() - before));
  sim_free(w);
}
