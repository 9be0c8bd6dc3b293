#include "hub/monitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/end.h"
#include "hub/certificate.h"
#include "hub/metrics.h"

struct monitor {
  dstream_loop *loop;
  const struct config *config;
  struct activity *activity;
  struct metrics *metrics;
  struct monitor_parts parts;
  uint64_t started_s;
  int64_t certificate_expires_s;
};

/* ---- what is told ---- */

void monitor_tell(void *user, const struct activity_record *record) {
  struct monitor *monitor = user;
  metrics_record(monitor->metrics, record);
  activity_write(monitor->activity, record);
}

void monitor_side_refused(void *user, const char *stream_id, bool device_side,
                          const char *peer, const char *why) {
  char words[200];
  snprintf(words, sizeof words, "%s side: %.160s",
           device_side ? "device's" : "service's", why);
  /* The id is what a stranger sent: it is none of a stream's records. */
  struct activity_record record = {.event = ACTIVITY_REFUSED,
                                   .tracking_id = stream_id,
                                   .peer = peer,
                                   .side = "stream",
                                   .description = words,
                                   .status_code = 401};
  monitor_tell(user, &record);
}

void monitor_full(void *user, bool mqtt, unsigned open) {
  char words[100];
  snprintf(words, sizeof words,
           "%s: a connection was refused, %u are open already",
           mqtt ? "mqtt" : "https", open);
  struct activity_record record = {.event = ACTIVITY_LIMIT,
                                   .description = words};
  monitor_tell(user, &record);
}

/* "device ID" and then `middle`: the rest, or NULL.  id: IDENTITY_CLIENT_MAX +
 * 1 bytes. */
static const char *about_device(const char *text, const char *middle,
                                char *id) {
  static const char begin[] = "device ";
  if (strncmp(text, begin, sizeof begin - 1) != 0)
    return NULL;
  const char *from = text + sizeof begin - 1;
  const char *to = strstr(from, middle);
  if (to == NULL || to - from > IDENTITY_CLIENT_MAX)
    return NULL;
  memcpy(id, from, (size_t)(to - from));
  id[to - from] = '\0';
  return to + strlen(middle);
}

/* The plugin says "device ID is refused: WHY", and "device ID is refused for 10
 * s: it took its own connection over ...". */
void monitor_broker_line(struct monitor *monitor, const char *text) {
  char id[IDENTITY_CLIENT_MAX + 1];
  struct activity_record record = {.event = ACTIVITY_REFUSED, .side = "device"};
  record.description = about_device(text, " is refused: ", id);
  if (record.description == NULL) {
    record.event = ACTIVITY_LIMIT;
    record.description = about_device(text, " is refused for ", id);
  }
  if (record.description == NULL)
    return;
  record.client_id = id;
  monitor_tell(monitor, &record);
}

void monitor_broker_down(struct monitor *monitor) {
  metrics_broker_restarted(monitor->metrics);
}

void monitor_device_ready(struct monitor *monitor) {
  metrics_device_ready(monitor->metrics);
}

/* ---- what is asked ---- */

static bool database_answers(const struct monitor *monitor) {
  bool enabled;
  int status = identity_known(monitor->parts.store, "-", &enabled);
  return status == DSTREAM_OK || status == DSTREAM_ENOTFOUND;
}

bool monitor_ready(void *user, const char **why) {
  const struct monitor *monitor = user;
  const struct monitor_parts *parts = &monitor->parts;
  *why = NULL;
  if (parts->stopping)
    *why = "the hub is stopping";
  else if (parts->front == NULL)
    *why = "the hub does not listen yet";
  else if (parts->endpoint == NULL || !main_endpoint_is_up(parts->endpoint))
    *why = "the hub's broker is not running";
  else if (!database_answers(monitor))
    *why = "the identities can't be read";
  return *why == NULL;
}

static bool count_ready(void *user, const char *device_id, bool ready,
                        uint64_t since_ms) {
  (void)device_id;
  (void)since_ms;
  *(size_t *)user += ready;
  return true;
}

static size_t devices_ready(const struct monitor *monitor) {
  size_t count = 0;
  if (monitor->parts.endpoint != NULL)
    main_endpoint_each(monitor->parts.endpoint, count_ready, &count);
  return count;
}

static struct gateway_totals streams(const struct monitor *monitor) {
  struct gateway_totals none = {0};
  return monitor->parts.gateway == NULL
             ? none
             : gateway_totals(monitor->parts.gateway);
}

static unsigned requests_pending(const struct monitor *monitor) {
  return monitor->parts.handshake == NULL
             ? 0
             : handshake_count(monitor->parts.handshake);
}

static void give_gauges(void *user, struct metrics_gauges *out) {
  const struct monitor *monitor = user;
  const struct monitor_parts *parts = &monitor->parts;
  struct gateway_totals totals = streams(monitor);
  out->version = DSTREAM_VERSION;
  if (parts->endpoint != NULL) {
    out->devices_connected = main_endpoint_count(parts->endpoint);
    out->broker_up = main_endpoint_is_up(parts->endpoint);
  }
  out->devices_ready = devices_ready(monitor);
  out->streams_running = totals.running;
  out->streams_pending = requests_pending(monitor);
  out->live_bytes_to_device = totals.bytes_to_device;
  out->live_bytes_to_service = totals.bytes_to_service;
  out->relay_stalls = totals.stalls;
  out->connections_open = parts->front == NULL ? 0 : front_count(parts->front);
  out->broker_pid = parts->broker == NULL ? 0 : broker_pid(parts->broker);
  out->certificate_expires_s = monitor->certificate_expires_s;
  out->activity = activity_counts(monitor->activity);
}

void monitor_describe(void *user, struct rest_admin_hub *out) {
  const struct monitor *monitor = user;
  const struct monitor_parts *parts = &monitor->parts;
  struct metrics_totals ended = metrics_totals(monitor->metrics);
  struct gateway_totals live = streams(monitor);
  *out = (struct rest_admin_hub){
      .version = DSTREAM_VERSION,
      .host = monitor->config->host,
      .started_s = monitor->started_s,
      .streams_opened = ended.streams_opened,
      .streams_failed = ended.streams_failed,
      .streams_running = live.running,
      .streams_pending = requests_pending(monitor),
      .bytes_to_device = ended.bytes_to_device + live.bytes_to_device,
      .bytes_to_service = ended.bytes_to_service + live.bytes_to_service,
      .devices_ready = devices_ready(monitor),
      .certificate_expires_s = monitor->certificate_expires_s};
  if (parts->endpoint != NULL)
    out->devices_connected = main_endpoint_count(parts->endpoint);
  if (parts->front != NULL) {
    out->https_port = front_https_port(parts->front);
    out->mqtt_port = front_mqtt_port(parts->front);
  }
  out->ready = monitor_ready(user, &out->reason);
}

/* ---- life ---- */

static int open_activity(struct monitor *monitor) {
  struct activity_options options = {.file = monitor->config->activity_log,
                                     .host = monitor->config->host};
  return activity_new(&monitor->activity, monitor->loop, &options);
}

static int open_metrics(struct monitor *monitor, struct dstream_end *error) {
  struct metrics_options options = {
      .gauges = give_gauges, .ready = monitor_ready, .user = monitor};
  const struct config *config = monitor->config;
  int status = metrics_new(&monitor->metrics, monitor->loop, &options);
  if (status != DSTREAM_OK || !config->metrics_enabled)
    return status;
  status = metrics_listen(monitor->metrics, config->metrics_bind,
                          (uint16_t)config->metrics_port, error);
  if (status == DSTREAM_OK)
    loop_log(monitor->loop, DSTREAM_LOG_INFO, "metrics: address %s, port %u",
             config->metrics_bind, metrics_port(monitor->metrics));
  return status;
}

int monitor_new(struct monitor **out, dstream_loop *loop,
                const struct config *config, struct dstream_end *error) {
  struct monitor *monitor = calloc(1, sizeof *monitor);
  int status = DSTREAM_ENOMEM;
  end_set(error, DSTREAM_ENOMEM, "out of memory");
  if (monitor == NULL)
    return DSTREAM_ENOMEM;
  monitor->loop = loop;
  monitor->config = config;
  monitor->started_s = (uint64_t)time(NULL);
  monitor->certificate_expires_s =
      certificate_expires_s(config->certificate_file);
  status = open_activity(monitor);
  if (status == DSTREAM_OK)
    status = open_metrics(monitor, error);
  if (status != DSTREAM_OK) {
    monitor_free(monitor);
    return status;
  }
  *out = monitor;
  return DSTREAM_OK;
}

void monitor_free(struct monitor *monitor) {
  if (monitor == NULL)
    return;
  metrics_free(monitor->metrics);
  activity_free(monitor->activity);
  free(monitor);
}

void monitor_look_at(struct monitor *monitor,
                     const struct monitor_parts *parts) {
  monitor->parts = *parts;
}

void monitor_reload(struct monitor *monitor) {
  activity_reopen(monitor->activity);
  monitor->certificate_expires_s =
      certificate_expires_s(monitor->config->certificate_file);
}

struct activity *monitor_activity(struct monitor *monitor) {
  return monitor->activity;
}
