/* The programs at both ends of each stream.  A stream's name is unique, so that
 * the two ends find each other here; what one sends the other can tell by the
 * name, the direction and the place. */
#include <stdio.h>
#include <string.h>

#include "core/container.h"
#include "sim.h"

#define NAME_SIZE  16
#define CHUNK_MAX  65536
#define WAIT_SLACK 8000

enum finish {
  FINISH_CLOSE,    /* closes when all is sent */
  FINISH_SHUTDOWN, /* ends its direction; closes when the other's ended */
  FINISH_ABORT,    /* aborts when all is sent */
  FINISH_WAIT      /* waits for the other to end */
};

struct sim_end {
  struct sim_apps *apps;
  bool service;
  dstream_stream *stream;
  char name[NAME_SIZE];
  /* plan */
  size_t to_send;
  enum finish finish;
  size_t chunk_max;
  unsigned pause_permille;
  unsigned slow_ms; /* 0: consumes at once */
  size_t act_at;    /* does something rash after so many bytes; 0: not */
  uint64_t open_by_ms;
  size_t window;
  /* what happened */
  bool opened, closed, eof, shut, close_called, abort_called, finished;
  uint64_t close_ms;
  size_t sent, received, unconsumed;
  struct dstream_end end;
  struct loop_timer pump_timer;
  struct loop_timer consume_timer;
  struct loop_timer act_timer;
  struct loop_timer limit_timer;
};

struct deferred {
  struct deferred *next;
  struct sim_apps *apps;
  dstream_request *request;
  struct loop_timer timer;
};

static struct deferred *all_deferred;
static bool rejected[SIM_ENDS_MAX * 4]; /* by the number in the name */
static unsigned names;

static void pump(struct sim_end *e);

/* ---- the bytes ---- */

static uint8_t byte_at(const struct sim_end *e, bool from_service, size_t at) {
  size_t key = (size_t)e->name[1] * 7 + (size_t)e->name[2] * 31 +
               (from_service ? 101 : 53);
  return (uint8_t)((at * 167 + key) ^ (at >> 8) ^ (at >> 16));
}

static unsigned number_of(const char *name) {
  unsigned number = 0;
  if (sscanf(name, "s%u", &number) != 1 ||
      number >= sizeof rejected / sizeof *rejected)
    sim_fail("a stream named \"%s\"", name);
  return number;
}

static bool other_end(const struct sim_end *e, const struct sim_end *other) {
  return other->service != e->service && strcmp(other->name, e->name) == 0;
}

/* ---- what a program does ---- */

static void do_close(struct sim_end *e) {
  if (e->closed || e->close_called || e->abort_called)
    return;
  sim_trace("%s %s: closes, %zu sent, %zu received", e->name,
            e->service ? "service" : "device", e->sent, e->received);
  e->close_called = true;
  e->close_ms = loop_now_ms();
  dstream_stream_close(e->stream);
}

static void do_abort(struct sim_end *e) {
  if (e->closed || e->abort_called)
    return;
  sim_trace("%s %s: aborts", e->name, e->service ? "service" : "device");
  e->abort_called = true;
  dstream_stream_abort(e->stream);
}

static void do_shutdown(struct sim_end *e) {
  if (e->closed || e->shut || e->close_called || e->abort_called)
    return;
  bool half = dstream_stream_has_eof(e->stream);
  int status = dstream_stream_shutdown_write(e->stream);
  sim_trace("%s %s: ends its direction: %d", e->name,
            e->service ? "service" : "device", status);
  SIM_CHECK(status == DSTREAM_OK || status == DSTREAM_ESTATE,
            "shutdown_write returned %d", status);
  if (status != DSTREAM_OK)
    return;
  if (half) {
    e->shut = true;
  } else {
    e->close_called = true;
    e->close_ms = loop_now_ms();
  }
  if (e->shut && e->eof)
    do_close(e);
}

static void do_rash(struct sim_end *e) {
  switch (sim_below(3)) {
  case 0:
    do_close(e);
    break;
  case 1:
    do_abort(e);
    break;
  default:
    do_shutdown(e);
  }
}

static void finish(struct sim_end *e) {
  if (e->finished)
    return;
  e->finished = true;
  switch (e->finish) {
  case FINISH_CLOSE:
    do_close(e);
    break;
  case FINISH_SHUTDOWN:
    do_shutdown(e);
    break;
  case FINISH_ABORT:
    do_abort(e);
    break;
  case FINISH_WAIT:
    if (e->eof)
      do_close(e);
    break;
  }
}

static void on_pump_timer(struct loop_timer *timer) {
  pump(CONTAINER_OF(timer, struct sim_end, pump_timer));
}

/* False: no more now. */
static bool write_some(struct sim_end *e) {
  static uint8_t bytes[CHUNK_MAX];
  size_t n = sim_between(1, e->chunk_max);
  if (n > e->to_send - e->sent)
    n = e->to_send - e->sent;
  for (size_t i = 0; i < n; i++)
    bytes[i] = byte_at(e, e->service, e->sent + i);
  long took = dstream_stream_write(e->stream, bytes, n);
  if (took < 0) {
    SIM_CHECK(took == DSTREAM_EAGAIN || took == DSTREAM_ESTATE,
              "write returned %ld", took);
    return false;
  }
  SIM_CHECK(took > 0 && (size_t)took <= n, "write of %zu took %ld", n, took);
  e->sent += (size_t)took;
  return (size_t)took == n;
}

/* Writes what can be written. */
static void pump(struct sim_end *e) {
  while (e->sent < e->to_send && !e->closed && !e->shut) {
    if (!write_some(e))
      return;
    if (sim_chance(e->pause_permille)) {
      loop_timer_set(e->apps->loop, &e->pump_timer, sim_between(0, 300),
                     on_pump_timer);
      return;
    }
  }
  if (e->sent == e->to_send && !e->closed)
    finish(e);
}

static void on_act_timer(struct loop_timer *timer) {
  do_rash(CONTAINER_OF(timer, struct sim_end, act_timer));
}

/* The program has had enough. */
static void on_limit(struct loop_timer *timer) {
  struct sim_end *e = CONTAINER_OF(timer, struct sim_end, limit_timer);
  SIM_CHECK(!e->apps->quiet,
            "%s %s: hangs without a fault: opened %d, sent %zu of %zu, "
            "received %zu, eof %d, shut %d, close called %d",
            e->name, e->service ? "service" : "device", e->opened, e->sent,
            e->to_send, e->received, e->eof, e->shut, e->close_called);
  do_close(e);
}

static void consume(struct sim_end *e) {
  size_t n = e->unconsumed;
  if (n == 0 || e->closed)
    return;
  if (n > 1 && sim_chance(300))
    n = 1 + sim_below(n - 1);
  e->unconsumed -= n;
  dstream_stream_consume(e->stream, n);
}

static void on_consume_timer(struct loop_timer *timer) {
  struct sim_end *e = CONTAINER_OF(timer, struct sim_end, consume_timer);
  consume(e);
  if (e->unconsumed > 0)
    loop_timer_set(e->apps->loop, timer, sim_between(0, e->slow_ms),
                   on_consume_timer);
}

/* ---- callbacks ---- */

static struct sim_end *called(dstream_stream *stream, void *user) {
  struct sim_end *e = user;
  SIM_CHECK(!e->closed, "%s: a callback after on_close", e->name);
  SIM_CHECK(e->stream == stream, "%s: another stream's callback", e->name);
  SIM_CHECK(!e->abort_called || e->closed, "%s: a callback after abort",
            e->name);
  return e;
}

static void on_open(dstream_stream *stream, void *user) {
  struct sim_end *e = called(stream, user);
  SIM_CHECK(!e->opened, "%s: on_open twice", e->name);
  SIM_CHECK(!e->close_called, "%s: on_open after close", e->name);
  SIM_CHECK(strcmp(dstream_stream_name(stream), e->name) == 0, "its name");
  sim_trace("%s %s: open", e->name, e->service ? "service" : "device");
  e->opened = true;
  pump(e);
}

/* Nobody has received more than was sent. */
static void check_sent(const struct sim_end *e) {
  size_t most = 0;
  for (unsigned i = 0; i < e->apps->count; i++) {
    const struct sim_end *other = e->apps->ends[i];
    if (other_end(e, other) && other->sent > most)
      most = other->sent;
  }
  SIM_CHECK(e->received <= most, "%s: %zu bytes received, %zu sent", e->name,
            e->received, most);
}

static void on_data(dstream_stream *stream, void *user, const void *data,
                    size_t len) {
  struct sim_end *e = called(stream, user);
  const uint8_t *bytes = data;
  SIM_CHECK(e->opened && !e->eof && len > 0 && !e->close_called,
            "%s: bytes come when they must not", e->name);
  for (size_t i = 0; i < len; i++)
    SIM_CHECK(bytes[i] == byte_at(e, !e->service, e->received + i),
              "%s: byte %zu is another than was sent", e->name,
              e->received + i);
  e->received += len;
  e->unconsumed += len;
  /* What is being written is not counted in `sent` yet, but then this end has
   * no callback. */
  check_sent(e);
  SIM_CHECK(e->unconsumed <= e->window, "%s: the window is exceeded", e->name);
  if (e->slow_ms == 0) {
    dstream_stream_consume(stream, e->unconsumed);
    e->unconsumed = 0;
  } else {
    loop_timer_set(e->apps->loop, &e->consume_timer, sim_between(0, e->slow_ms),
                   on_consume_timer);
  }
  if (e->act_at != 0 && e->received >= e->act_at)
    do_rash(e);
}

static void on_writable(dstream_stream *stream, void *user) {
  struct sim_end *e = called(stream, user);
  SIM_CHECK(e->opened, "%s: writable before it is open", e->name);
  pump(e);
}

/* One of the ends that this one can be joined to has sent exactly what came. */
static bool all_came(const struct sim_end *e, bool shut_only) {
  for (unsigned i = 0; i < e->apps->count; i++) {
    const struct sim_end *other = e->apps->ends[i];
    if (other_end(e, other) && other->sent == e->received &&
        (!shut_only || other->shut))
      return true;
  }
  return false;
}

static void on_eof(dstream_stream *stream, void *user) {
  struct sim_end *e = called(stream, user);
  SIM_CHECK(e->opened && !e->eof && !e->close_called, "%s: on_eof", e->name);
  SIM_CHECK(dstream_stream_has_eof(stream), "%s: on_eof without it", e->name);
  SIM_CHECK(all_came(e, true),
            "%s %s: on_eof after %zu bytes, which is not all", e->name,
            e->service ? "service" : "device", e->received);
  sim_trace("%s %s: eof", e->name, e->service ? "service" : "device");
  e->eof = true;
  if (e->shut || (e->finish == FINISH_WAIT && e->finished))
    do_close(e);
}

/* Programs are slow, but connections are not, and so nobody is given up.  (An
 * end whose other one never comes may be: the hub knows less of the device when
 * its answer was lost.  So may one whose hub has no memory to say Close in, and
 * one without half-close that takes nothing for two keepalives: it is not asked
 * to show signs of life, and answers no ping before it reads it.) */
static void check_silence(const struct sim_end *e,
                          const struct dstream_end *end) {
  bool given_up = end->status == DSTREAM_EKEEPALIVE ||
                  strstr(end->text, "no answer to pings") != NULL;
  bool mute = e->apps->no_caps && e->apps->slow_ms > 1000;
  if (e->apps->disturbed || sim_memory_failed() > 0 || mute || !given_up)
    return;
  for (unsigned i = 0; i < e->apps->count; i++) {
    const struct sim_end *other = e->apps->ends[i];
    SIM_CHECK(!other_end(e, other) || !other->opened, "%s: given up: %s",
              e->name, end->text);
  }
}

static void on_close(dstream_stream *stream, void *user,
                     const struct dstream_end *end) {
  struct sim_end *e = user;
  SIM_CHECK(!e->closed, "%s: on_close twice", e->name);
  SIM_CHECK(e->stream == stream, "%s: another stream's on_close", e->name);
  sim_trace("%s %s: closed, %s, ws %d: %s", e->name,
            e->service ? "service" : "device", dstream_status_name(end->status),
            end->ws_code, end->text);
  SIM_CHECK(end->status <= 0 &&
                strcmp(dstream_status_name(end->status), "DSTREAM_E?") != 0,
            "%s: status %d", e->name, end->status);
  SIM_CHECK(end->status == DSTREAM_OK || end->text[0] != '\0',
            "%s: status %d without a text", e->name, end->status);
  SIM_CHECK(memchr(end->text, '\0', sizeof end->text) != NULL, "its text");
  check_silence(e, end);
  e->end = *end;
  e->closed = true;
  e->stream = NULL;
  e->apps->live--;
  loop_timer_cancel(&e->pump_timer);
  loop_timer_cancel(&e->consume_timer);
  loop_timer_cancel(&e->act_timer);
  loop_timer_cancel(&e->limit_timer);
}

static const struct dstream_stream_callbacks callbacks = {
    .on_open = on_open,
    .on_data = on_data,
    .on_writable = on_writable,
    .on_eof = on_eof,
    .on_close = on_close,
};

/* ---- plans ---- */

/* Without faults every plan has to come to its end. */
static void plan_quiet(struct sim_end *e) {
  switch (number_of(e->name) % 3) {
  case 0: /* both, each in its own time */
    e->finish = FINISH_SHUTDOWN;
    if (!e->apps->no_caps)
      break;
    /* fall through */
  case 1: /* the device sends and goes */
    e->finish = e->service ? FINISH_WAIT : FINISH_CLOSE;
    e->to_send = e->service ? 0 : e->to_send;
    break;
  default:
    e->finish = e->service ? FINISH_CLOSE : FINISH_WAIT;
    e->to_send = e->service ? e->to_send : 0;
  }
}

static void plan_rash(struct sim_end *e) {
  if (sim_chance(200))
    e->act_at = sim_between(1, e->apps->bytes_max);
  if (sim_chance(200))
    loop_timer_set(e->apps->loop, &e->act_timer, sim_between(0, 30000),
                   on_act_timer);
}

static struct sim_end *end_new(struct sim_apps *apps, bool service,
                               const char *name) {
  if (apps->count == SIM_ENDS_MAX)
    return NULL;
  struct sim_end *e = sim_alloc(sizeof *e);
  e->apps = apps;
  e->service = service;
  snprintf(e->name, sizeof e->name, "%s", name);
  e->to_send = sim_chance(150) ? 0 : sim_between(0, apps->bytes_max);
  e->finish = (enum finish)sim_below(4);
  e->chunk_max = sim_chance(200) ? CHUNK_MAX : sim_between(1, 8192);
  if (e->to_send / e->chunk_max > 500)
    e->chunk_max = e->to_send / 500 + 1;
  e->pause_permille = sim_chance(500) ? 0 : (unsigned)sim_below(200);
  e->slow_ms = sim_chance(500) ? 0 : (unsigned)sim_between(0, apps->slow_ms);
  e->window = sim_chance(500) ? 65536 : sim_between(1, 20000);
  if (apps->quiet || apps->memory) {
    plan_quiet(e);
    e->window += 2000;
  } else {
    plan_rash(e);
  }
  loop_timer_set(apps->loop, &e->limit_timer, sim_between(60000, 150000),
                 on_limit);
  return e;
}

static struct dstream_stream_options options_of(const struct sim_end *e) {
  return (struct dstream_stream_options){
      .size = sizeof(struct dstream_stream_options),
      .window = e->window,
      .send_buffer = 32768 + sim_below(65536),
      .keepalive_ms = (int)sim_between(1000, 40000),
      .drain_timeout_ms = (int)e->apps->drain_ms,
  };
}

static void end_started(struct sim_end *e) {
  e->apps->ends[e->apps->count++] = e;
  e->apps->live++;
}

static void end_free(struct sim_end *e) {
  loop_timer_cancel(&e->act_timer);
  loop_timer_cancel(&e->limit_timer);
  sim_free(e);
}

/* ---- the service ---- */

void sim_app_open(struct sim_apps *apps, dstream_service *service,
                  const char *device) {
  char name[NAME_SIZE];
  snprintf(name, sizeof name, "s%u", names++ % 100);
  struct sim_end *e = end_new(apps, true, name);
  if (e == NULL)
    return;
  struct dstream_open_options options = {
      .size = sizeof options,
      .connect_wait_s = apps->quiet       ? 10
                        : sim_chance(500) ? 0
                                          : (int)sim_below(40),
      .response_wait_s = apps->quiet ? 30 : (int)sim_below(41),
      .stream = options_of(e)};
  int response_s = options.response_wait_s == 0 ? 30 : options.response_wait_s;
  e->open_by_ms = loop_now_ms() + 75000 +
                  (uint64_t)(options.connect_wait_s + response_s) * 1000;
  if (apps->quiet)
    e->open_by_ms = loop_now_ms() + 20000;
  sim_trace("%s: asked for on %s, waits %d + %d s", e->name, device,
            options.connect_wait_s, response_s);
  int status = dstream_service_open_stream(service, device, name, &options,
                                           &callbacks, e, &e->stream);
  if (status != DSTREAM_OK) {
    SIM_CHECK(status == DSTREAM_ENOMEM && sim_memory_failed() > 0,
              "open_stream returned %d", status);
    end_free(e);
    return;
  }
  end_started(e);
}

/* ---- the device ---- */

static void accept_now(struct sim_apps *apps, dstream_request *request) {
  struct sim_end *e = end_new(apps, false, dstream_request_name(request));
  if (e == NULL) {
    dstream_request_reject(request, "too many");
    return;
  }
  struct dstream_stream_options options = options_of(e);
  e->open_by_ms = loop_now_ms() + 60000;
  sim_trace("%s: the device accepts", e->name);
  bool refusable = apps->memory || !apps->quiet;
  number_of(e->name);
  int status =
      dstream_request_accept(request, &options, &callbacks, e, &e->stream);
  if (status != DSTREAM_OK) {
    SIM_CHECK(refusable, "accept returned %d", status);
    SIM_CHECK(status == DSTREAM_ELIMIT || status == DSTREAM_EEXPIRED ||
                  status == DSTREAM_ESTATE ||
                  (status == DSTREAM_ENOMEM && sim_memory_failed() > 0),
              "accept returned %d", status);
    end_free(e);
    return;
  }
  end_started(e);
}

static void reject_now(dstream_request *request) {
  rejected[number_of(dstream_request_name(request))] = true;
  sim_trace("%s: the device rejects", dstream_request_name(request));
  dstream_request_reject(request, sim_chance(500) ? "not today" : NULL);
}

static void deferred_free(struct deferred *d) {
  struct deferred **link = &all_deferred;
  while (*link != d)
    link = &(*link)->next;
  *link = d->next;
  d->apps->deferred--;
  loop_timer_cancel(&d->timer);
  sim_free(d);
}

static void on_deferred(struct loop_timer *timer) {
  struct deferred *d = CONTAINER_OF(timer, struct deferred, timer);
  struct sim_apps *apps = d->apps;
  dstream_request *request = d->request;
  deferred_free(d);
  if (sim_chance(700))
    accept_now(apps, request);
  else
    reject_now(request);
}

void sim_app_request(struct sim_apps *apps, dstream_request *request) {
  unsigned what = (unsigned)sim_below(100);
  sim_trace("%s: requested", dstream_request_name(request));
  if (what < 70) {
    accept_now(apps, request);
  } else if (what < 80) {
    reject_now(request);
  } else if (what < 95 || apps->quiet) {
    struct deferred *d = sim_alloc(sizeof *d);
    d->apps = apps;
    d->request = request;
    d->next = all_deferred;
    all_deferred = d;
    apps->deferred++;
    dstream_request_defer(request);
    loop_timer_set(apps->loop, &d->timer,
                   sim_between(0, apps->quiet ? 3000 : 70000), on_deferred);
  } /* else it is left alone, which rejects it */
}

void sim_app_forget_requests(struct sim_apps *apps) {
  (void)apps;
  while (all_deferred != NULL)
    deferred_free(all_deferred);
}

/* ---- checks ---- */

void sim_apps_init(struct sim_apps *apps) {
  memset(apps, 0, sizeof *apps);
  memset(rejected, 0, sizeof rejected);
  names = 0;
}

void sim_apps_check(const struct sim_apps *apps) {
  uint64_t now = loop_now_ms();
  for (unsigned i = 0; i < apps->count; i++) {
    const struct sim_end *e = apps->ends[i];
    const char *side = e->service ? "service" : "device";
    if (e->closed)
      continue;
    SIM_CHECK(!e->abort_called, "%s %s: no on_close after abort", e->name,
              side);
    SIM_CHECK(e->opened || now <= e->open_by_ms + WAIT_SLACK,
              "%s %s: neither open nor closed in time", e->name, side);
    SIM_CHECK(!e->close_called ||
                  now <= e->close_ms + apps->drain_ms + WAIT_SLACK,
              "%s %s: no on_close long after close", e->name, side);
  }
}

/* Without half-close a peer that just went looks like one that ended. */
static bool may_look_clean(const struct sim_end *e) {
  bool aborted = e->apps->disturbed;
  for (unsigned i = 0; i < e->apps->count; i++) {
    const struct sim_end *other = e->apps->ends[i];
    if (other_end(e, other) && other->abort_called)
      aborted = true;
  }
  return e->apps->no_caps && aborted;
}

/* The peer ended in the orderly way. */
static bool clean(const struct sim_end *e) {
  return e->end.status == DSTREAM_ECLOSED &&
         (e->end.ws_code == 1000 || e->end.ws_code == 1005);
}

static void check_quiet(const struct sim_end *e) {
  bool refused = rejected[number_of(e->name)];
  if (refused) {
    SIM_CHECK(e->service && e->end.status == DSTREAM_EREJECTED,
              "%s: rejected, and the service was told %d", e->name,
              e->end.status);
    return;
  }
  SIM_CHECK(e->opened && (clean(e) || e->end.status == DSTREAM_OK),
            "%s %s: without a fault, ended with %s: %s", e->name,
            e->service ? "service" : "device",
            dstream_status_name(e->end.status), e->end.text);
  SIM_CHECK(e->sent == e->to_send, "%s: %zu of %zu sent", e->name, e->sent,
            e->to_send);
  SIM_CHECK(all_came(e, false), "%s: only %zu bytes came", e->name,
            e->received);
}

void sim_apps_compare(const struct sim_apps *apps) {
  for (unsigned i = 0; i < apps->count; i++) {
    const struct sim_end *e = apps->ends[i];
    SIM_CHECK(e->closed, "%s: no on_close", e->name);
    if (clean(e) && !may_look_clean(e))
      SIM_CHECK(all_came(e, false),
                "%s %s: ended in the orderly way (%d) with %zu bytes, which "
                "is not all",
                e->name, e->service ? "service" : "device", e->end.ws_code,
                e->received);
    if (apps->quiet)
      check_quiet(e);
  }
}

void sim_apps_count(const struct sim_apps *apps, struct sim_result *result) {
  for (unsigned i = 0; i < apps->count; i++) {
    const struct sim_end *e = apps->ends[i];
    result->streams += e->service;
    result->opened += e->service && e->opened;
    result->clean += clean(e);
    result->bytes += e->received;
  }
}

void sim_apps_free(struct sim_apps *apps) {
  sim_app_forget_requests(apps);
  for (unsigned i = 0; i < apps->count; i++)
    end_free(apps->ends[i]);
  apps->count = 0;
}
