#include "hub/metrics.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/container.h"
#include "core/end.h"
#include "hub/hub_error.h"
#include "hub/http_server.h"
#include "hub/listen.h"
#include "hub/metrics_process.h"

#define BACKLOG 16
/* Without descriptors nobody is accepted for so long. */
#define ACCEPT_PAUSE_MS 100
#define CONNECTIONS_MAX 16
#define BUCKETS_MAX     13
#define TEXT_TYPE       "text/plain; version=0.0.4; charset=utf-8"

struct histogram {
  const double *bounds; /* upper, in seconds */
  size_t bound_count;
  uint64_t counts[BUCKETS_MAX + 1];
  uint64_t sum_ms;
};

enum side { SIDE_DEVICE, SIDE_SERVICE, SIDE_STREAM, SIDE_COUNT };
enum ended { ENDED_DEVICE, ENDED_SERVICE, ENDED_HUB, ENDED_COUNT };

static const char *const side_names[] = {"device", "service", "stream"};
static const char *const ended_names[] = {"device", "service", "hub"};
static const char *const cause_names[] = {
#define X(name, text) text,
    METRICS_CAUSE_MAP(X)
#undef X
};
static const double handshake_bounds[] = {.005, .01, .025, .05, .1, .25, .5,
                                          1,    2.5, 5,    10,  30, 60};
static const double lifetime_bounds[] = {1,   10,   60,    300,
                                         900, 3600, 14400, 86400};

struct metrics {
  dstream_loop *loop;
  struct metrics_options options;
  struct http_server *server;
  struct loop_watch watch;
  struct loop_timer pause; /* of accepting */
  bool listening;
  uint16_t port;
  uint64_t requests;
  uint64_t opened;
  uint64_t failed[METRICS_CAUSE_COUNT];
  uint64_t ended[ENDED_COUNT];
  uint64_t refused[SIDE_COUNT];
  uint64_t limits;
  uint64_t device_connections;
  uint64_t broker_restarts;
  uint64_t bytes_to_device; /* of streams that have ended */
  uint64_t bytes_to_service;
  struct histogram handshake;
  struct histogram lifetime;
  double started; /* read once: it must not seem to change */
};

/* ---- counting ---- */

static void observe(struct histogram *histogram, uint64_t ms) {
  size_t i = 0;
  while (i < histogram->bound_count && (double)ms > histogram->bounds[i] * 1000)
    i++;
  histogram->counts[i]++;
  histogram->sum_ms += ms;
}

/* The place of a text in a list; the last one when it is not there. */
static size_t place_of(const char *text, const char *const *list,
                       size_t count) {
  size_t i = 0;
  while (i < count - 1 && (text == NULL || strcmp(text, list[i]) != 0))
    i++;
  return i;
}

static enum metrics_cause cause_of_code(int code) {
  switch (code) {
  case 0:
    return METRICS_CAUSE_INCOMPLETE;
  case HUB_ERROR_OFFLINE:
    return METRICS_CAUSE_OFFLINE;
  case HUB_ERROR_NO_ANSWER:
    return METRICS_CAUSE_NO_ANSWER;
  case HUB_ERROR_NO_DEVICE:
  case HUB_ERROR_NO_MODULE:
  case HUB_ERROR_FORBIDDEN:
    return METRICS_CAUSE_NO_DEVICE;
  case HUB_ERROR_BAD_REQUEST:
  case HUB_ERROR_ARGUMENT:
    return METRICS_CAUSE_BAD_REQUEST;
  case HUB_ERROR_THROTTLED:
    return METRICS_CAUSE_LIMIT;
  default:
    return METRICS_CAUSE_UNAVAILABLE;
  }
}

/* One that was refused at once has no stream id: nothing told of it before. */
static void count_failure(struct metrics *metrics,
                          const struct activity_record *record,
                          enum metrics_cause cause) {
  metrics->failed[cause]++;
  if (record->stream_id == NULL || record->stream_id[0] == '\0')
    metrics->requests++;
}

static void count_end(struct metrics *metrics,
                      const struct activity_record *record) {
  metrics->ended[place_of(record->ended_by, ended_names, ENDED_COUNT)]++;
  metrics->bytes_to_device += record->bytes_to_device;
  metrics->bytes_to_service += record->bytes_to_service;
  observe(&metrics->lifetime, record->duration_ms);
}

void metrics_record(struct metrics *metrics,
                    const struct activity_record *record) {
  switch (record->event) {
  case ACTIVITY_REQUEST:
    metrics->requests++;
    break;
  case ACTIVITY_START:
    metrics->opened++;
    observe(&metrics->handshake, record->duration_ms);
    break;
  case ACTIVITY_END:
    count_end(metrics, record);
    break;
  case ACTIVITY_REJECTED:
    count_failure(metrics, record, METRICS_CAUSE_REJECTED);
    break;
  case ACTIVITY_CANCELED:
    count_failure(metrics, record, METRICS_CAUSE_CANCELED);
    break;
  case ACTIVITY_TIMEOUT:
  case ACTIVITY_FAILED:
    count_failure(metrics, record, cause_of_code(record->error_code));
    break;
  case ACTIVITY_LIMIT:
    metrics->limits++;
    if (record->stream_name != NULL)
      count_failure(metrics, record, METRICS_CAUSE_LIMIT);
    break;
  case ACTIVITY_REFUSED:
    metrics->refused[place_of(record->side, side_names, SIDE_COUNT)]++;
    break;
  default:
    break;
  }
}

void metrics_device_ready(struct metrics *metrics) {
  metrics->device_connections++;
}

void metrics_broker_restarted(struct metrics *metrics) {
  metrics->broker_restarts++;
}

struct metrics_totals metrics_totals(const struct metrics *metrics) {
  struct metrics_totals totals = {.streams_opened = metrics->opened,
                                  .bytes_to_device = metrics->bytes_to_device,
                                  .bytes_to_service =
                                      metrics->bytes_to_service};
  for (int i = 0; i < METRICS_CAUSE_COUNT; i++)
    totals.streams_failed += metrics->failed[i];
  return totals;
}

/* ---- the text ---- */

struct page {
  char *out;
  size_t size;
  size_t len; /* size: it did not fit */
};

__attribute__((format(printf, 2, 3))) static void put(struct page *page,
                                                      const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n =
      vsnprintf(page->out + page->len, page->size - page->len, format, args);
  va_end(args);
  if (n < 0 || (size_t)n >= page->size - page->len)
    page->len = page->size;
  else
    page->len += (size_t)n;
}

static void put_head(struct page *page, const char *name, const char *type,
                     const char *help) {
  put(page, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_number(struct page *page, const char *name, const char *type,
                       const char *help, double number) {
  put_head(page, name, type, help);
  put(page, "%s %.15g\n", name, number);
}

static void put_list(struct page *page, const char *name, const char *help,
                     const char *label, const char *const *values,
                     const uint64_t *counts, size_t count) {
  put_head(page, name, "counter", help);
  for (size_t i = 0; i < count; i++)
    put(page, "%s{%s=\"%s\"} %llu\n", name, label, values[i],
        (unsigned long long)counts[i]);
}

static void put_histogram(struct page *page, const char *name, const char *help,
                          const struct histogram *histogram) {
  uint64_t count = 0;
  put_head(page, name, "histogram", help);
  for (size_t i = 0; i < histogram->bound_count; i++) {
    count += histogram->counts[i];
    put(page, "%s_bucket{le=\"%g\"} %llu\n", name, histogram->bounds[i],
        (unsigned long long)count);
  }
  count += histogram->counts[histogram->bound_count];
  put(page, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %llu.%03u\n%s_count %llu\n",
      name, (unsigned long long)count, name,
      (unsigned long long)(histogram->sum_ms / 1000),
      (unsigned)(histogram->sum_ms % 1000), name, (unsigned long long)count);
}

static void put_streams(struct page *page, const struct metrics *metrics,
                        const struct metrics_gauges *gauges) {
  static const char *const directions[] = {"to_device", "to_service"};
  uint64_t bytes[2] = {metrics->bytes_to_device + gauges->live_bytes_to_device,
                       metrics->bytes_to_service +
                           gauges->live_bytes_to_service};
  put_number(page, "dstream_streams_running", "gauge",
             "Streams with both sides connected.", gauges->streams_running);
  put_number(page, "dstream_streams_pending", "gauge",
             "Streams that wait for the device's answer or for a side.",
             gauges->streams_pending);
  put_number(page, "dstream_requests_total", "counter",
             "Stream requests of services.", (double)metrics->requests);
  put_number(page, "dstream_streams_opened_total", "counter",
             "Streams that both sides connected to.", (double)metrics->opened);
  put_list(page, "dstream_streams_failed_total",
           "Stream requests that came to no stream.", "cause", cause_names,
           metrics->failed, METRICS_CAUSE_COUNT);
  put_list(page, "dstream_streams_ended_total",
           "Streams that have ended, by who ended them.", "by", ended_names,
           metrics->ended, ENDED_COUNT);
  put_list(page, "dstream_stream_bytes_total",
           "Payload that was relayed on streams.", "direction", directions,
           bytes, 2);
  put_histogram(page, "dstream_handshake_seconds",
                "From a stream's request to both sides connected.",
                &metrics->handshake);
  put_histogram(page, "dstream_stream_lifetime_seconds",
                "From both sides connected to the end.", &metrics->lifetime);
  put_number(page, "dstream_relay_stalls_total", "counter",
             "Times that a side was not read because the other side took "
             "nothing.",
             (double)gauges->relay_stalls);
}

static void put_hub(struct page *page, const struct metrics *metrics,
                    const struct metrics_gauges *gauges) {
  put_head(page, "dstream_build_info", "gauge", "The hub's version.");
  put(page, "dstream_build_info{version=\"%s\"} 1\n", gauges->version);
  put_number(page, "dstream_devices_connected", "gauge",
             "Devices with a control connection.",
             (double)gauges->devices_connected);
  put_number(page, "dstream_devices_ready", "gauge",
             "Devices that take stream requests.",
             (double)gauges->devices_ready);
  put_number(page, "dstream_device_connections_total", "counter",
             "Times that a device became ready for stream requests.",
             (double)metrics->device_connections);
  put_list(page, "dstream_refused_total",
           "Refused authentication: a device's control connection, a "
           "service's request, a side of a stream.",
           "side", side_names, metrics->refused, SIDE_COUNT);
  put_number(page, "dstream_limits_hit_total", "counter",
             "Requests and connections refused because of a limit.",
             (double)metrics->limits);
  put_number(page, "dstream_connections_open", "gauge",
             "TLS connections on both ports but those of streams.",
             gauges->connections_open);
  put_number(page, "dstream_certificate_expiry_timestamp_seconds", "gauge",
             "When the server's certificate expires, Unix time; 0: not known.",
             (double)gauges->certificate_expires_s);
  put_number(page, "dstream_activity_records_total", "counter",
             "Records written to the activity log.",
             (double)gauges->activity.records);
  put_number(page, "dstream_activity_lost_total", "counter",
             "Records that could not be written to the activity log.",
             (double)gauges->activity.lost);
  put_number(page, "dstream_activity_left_out_total", "counter",
             "Records about refusals that were left out of the activity log.",
             (double)gauges->activity.left_out);
}

static void put_processes(struct page *page, const struct metrics *metrics,
                          const struct metrics_gauges *gauges) {
  struct metrics_process self;
  struct metrics_process broker;
  metrics_process_read(&self, 0);
  memset(&broker, 0, sizeof broker);
  if (gauges->broker_pid > 0)
    metrics_process_read(&broker, gauges->broker_pid);
  put_number(page, "dstream_broker_up", "gauge",
             "1: the hub is connected to its broker.", gauges->broker_up);
  put_number(page, "dstream_broker_restarts_total", "counter",
             "Times that the broker ended and was started again.",
             (double)metrics->broker_restarts);
  put_number(page, "dstream_broker_resident_memory_bytes", "gauge",
             "Resident memory of the broker.", (double)broker.resident_bytes);
  put_number(page, "process_cpu_seconds_total", "counter",
             "User and system CPU time.", self.cpu_seconds);
  put_number(page, "process_resident_memory_bytes", "gauge", "Resident memory.",
             (double)self.resident_bytes);
  put_number(page, "process_virtual_memory_bytes", "gauge", "Virtual memory.",
             (double)self.virtual_bytes);
  put_number(page, "process_open_fds", "gauge", "Open file descriptors.",
             (double)self.open_fds);
  put_number(page, "process_max_fds", "gauge",
             "Most file descriptors that may be open.", (double)self.max_fds);
  put_number(page, "process_start_time_seconds", "gauge",
             "When the process started, Unix time.", metrics->started);
}

size_t metrics_text(struct metrics *metrics, char *out, size_t size) {
  struct page page = {.out = out, .size = size};
  struct metrics_gauges gauges;
  memset(&gauges, 0, sizeof gauges);
  gauges.version = "";
  metrics->options.gauges(metrics->options.user, &gauges);
  put_hub(&page, metrics, &gauges);
  put_streams(&page, metrics, &gauges);
  put_processes(&page, metrics, &gauges);
  return page.len == size ? 0 : page.len;
}

/* ---- HTTP ---- */

static void reply_text(struct http_exchange *exchange, int status,
                       const char *text) {
  struct http_answer answer = {.status = status,
                               .type = "text/plain; charset=utf-8",
                               .body = text,
                               .body_len = strlen(text)};
  http_exchange_reply(exchange, &answer);
}

static void reply_metrics(struct metrics *metrics,
                          struct http_exchange *exchange) {
  char *text = malloc(METRICS_TEXT_MAX);
  size_t len = text == NULL ? 0 : metrics_text(metrics, text, METRICS_TEXT_MAX);
  struct http_answer answer = {
      .status = 200, .type = TEXT_TYPE, .body = text, .body_len = len};
  if (len == 0)
    reply_text(exchange, 500, "out of memory\n");
  else
    http_exchange_reply(exchange, &answer);
  free(text);
}

static void reply_ready(const struct metrics *metrics,
                        struct http_exchange *exchange) {
  char text[200];
  const char *why = "";
  bool ready = metrics->options.ready(metrics->options.user, &why);
  snprintf(text, sizeof text, "%.180s\n", ready ? "ok" : why);
  reply_text(exchange, ready ? 200 : 503, text);
}

static bool target_is(const struct http_head *head, const char *path) {
  size_t len = strlen(path);
  return head->target.len >= len && memcmp(head->target.p, path, len) == 0 &&
         (head->target.len == len || head->target.p[len] == '?');
}

static void on_request(void *user, struct http_exchange *exchange,
                       const struct http_head *head, const char *peer) {
  struct metrics *metrics = user;
  (void)peer;
  if (!slice_eq(head->method, "GET") && !slice_eq(head->method, "HEAD"))
    reply_text(exchange, 405, "use GET\n");
  else if (target_is(head, "/metrics"))
    reply_metrics(metrics, exchange);
  else if (target_is(head, "/healthz"))
    reply_text(exchange, 200, "ok\n");
  else if (target_is(head, "/readyz"))
    reply_ready(metrics, exchange);
  else
    reply_text(exchange, 404, "there are /metrics, /healthz and /readyz\n");
}

static void on_accept_again(struct loop_timer *timer) {
  struct metrics *metrics = CONTAINER_OF(timer, struct metrics, pause);
  loop_watch_want(&metrics->watch, LOOP_READ);
}

static void on_accept(struct loop_watch *watch, unsigned events) {
  struct metrics *metrics = CONTAINER_OF(watch, struct metrics, watch);
  if (events & LOOP_GONE)
    return;
  int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) {
    http_server_take(metrics->server, fd, "metrics");
  } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
             errno == ENOMEM) {
    loop_watch_want(watch, 0); /* or it would be told at once again */
    loop_timer_set(metrics->loop, &metrics->pause, ACCEPT_PAUSE_MS,
                   on_accept_again);
  }
}

/* ---- life ---- */

int metrics_listen(struct metrics *metrics, const char *address, uint16_t port,
                   struct dstream_end *error) {
  struct http_server_options options = {.max_connections = CONNECTIONS_MAX,
                                        .max_body = 0};
  int status = http_server_new(&metrics->server, metrics->loop, &options,
                               on_request, metrics);
  if (status != DSTREAM_OK) {
    end_set(error, status, "can't serve metrics: %s",
            dstream_status_text(status));
    return status;
  }
  int fd = listen_tcp(address, port, BACKLOG);
  if (fd < 0) {
    end_set(error, DSTREAM_ESYSTEM,
            "can't listen on %s port %u for metrics: %s", address,
            (unsigned)port, strerror(errno));
    return DSTREAM_ESYSTEM;
  }
  metrics->port = listen_port(fd);
  status = loop_watch_start(metrics->loop, &metrics->watch, fd, on_accept);
  if (status != DSTREAM_OK) {
    end_set(error, status, "can't serve metrics: %s",
            dstream_status_text(status));
    return status;
  }
  metrics->listening = true;
  loop_watch_want(&metrics->watch, LOOP_READ);
  return DSTREAM_OK;
}

uint16_t metrics_port(const struct metrics *metrics) {
  return metrics->port;
}

int metrics_new(struct metrics **out, dstream_loop *loop,
                const struct metrics_options *options) {
  struct metrics *metrics = calloc(1, sizeof *metrics);
  if (metrics == NULL)
    return DSTREAM_ENOMEM;
  struct metrics_process self;
  metrics_process_read(&self, 0);
  metrics->started = self.start_seconds;
  metrics->loop = loop;
  metrics->options = *options;
  metrics->handshake = (struct histogram){
      .bounds = handshake_bounds,
      .bound_count = sizeof handshake_bounds / sizeof handshake_bounds[0]};
  metrics->lifetime = (struct histogram){
      .bounds = lifetime_bounds,
      .bound_count = sizeof lifetime_bounds / sizeof lifetime_bounds[0]};
  *out = metrics;
  return DSTREAM_OK;
}

void metrics_free(struct metrics *metrics) {
  if (metrics == NULL)
    return;
  if (metrics->listening)
    loop_watch_close(&metrics->watch);
  loop_timer_cancel(&metrics->pause);
  http_server_free(metrics->server);
  free(metrics);
}
