/* hub/metrics.h - numbers for a monitoring system, as Prometheus takes them
 * (text format 0.0.4), over plain HTTP on a listener of its own.
 *
 *   GET /metrics   all of them
 *   GET /healthz   200 "ok": the process answers
 *   GET /readyz    200 "ok", or 503 and why: the broker is up, the listeners
 *                  are, the identities can be read
 *
 * Anybody who reaches the listener may read; it is off by default, and then on
 * 127.0.0.1.  No name of a device is in there.
 *
 *   dstream_build_info{version}                      1
 *   dstream_devices_connected, dstream_devices_ready gauge
 *   dstream_device_connections_total                 became ready
 *   dstream_streams_running, dstream_streams_pending gauge
 *   dstream_requests_total                           stream requests
 *   dstream_streams_opened_total                     both sides came
 *   dstream_streams_failed_total{cause}              enum metrics_cause
 *   dstream_streams_ended_total{by}                  device, service, hub
 *   dstream_stream_bytes_total{direction}            to_device, to_service
 *   dstream_handshake_seconds                        histogram: from the
 *                                                    request to both sides
 *   dstream_stream_lifetime_seconds                  histogram
 *   dstream_relay_stalls_total                       a side was not read
 *   dstream_refused_total{side}                      device, service, stream
 *   dstream_limits_hit_total
 *   dstream_connections_open                         TLS, both ports
 *   dstream_broker_up, dstream_broker_restarts_total
 *   dstream_broker_resident_memory_bytes
 *   dstream_certificate_expiry_timestamp_seconds     the server's; Unix time
 *   dstream_activity_records_total, dstream_activity_lost_total,
 *   dstream_activity_left_out_total
 *   process_*                                        as every exporter's: cpu,
 *                                                    memory, descriptors, start
 *
 * Loop's thread.
 */
#ifndef HUB_METRICS_H
#define HUB_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <dstream/status.h>

#include "hub/activity.h"
#include "net/loop.h"

/* Why there was no stream. */
#define METRICS_CAUSE_MAP(X)                                                   \
  X(OFFLINE, "offline")         /* the device did not come */                  \
  X(NO_ANSWER, "no_answer")     /* it did not answer */                        \
  X(REJECTED, "rejected")       /* it rejected */                              \
  X(INCOMPLETE, "incomplete")   /* a side did not connect */                   \
  X(CANCELED, "canceled")       /* the service went */                         \
  X(LIMIT, "limit")             /* a limit of the hub */                       \
  X(NO_DEVICE, "no_device")     /* unknown or disabled */                      \
  X(BAD_REQUEST, "bad_request") /* name or timeouts */                         \
  X(UNAVAILABLE, "unavailable") /* the broker, the database, the hub's end */

enum metrics_cause {
#define X(name, text) METRICS_CAUSE_##name,
  METRICS_CAUSE_MAP(X)
#undef X
      METRICS_CAUSE_COUNT
};

struct metrics;

/* What is asked when somebody looks. */
struct metrics_gauges {
  const char *version;
  size_t devices_connected;
  size_t devices_ready;
  unsigned streams_running;
  unsigned streams_pending;
  uint64_t live_bytes_to_device; /* of streams that run */
  uint64_t live_bytes_to_service;
  uint64_t relay_stalls;
  unsigned connections_open;
  bool broker_up;
  pid_t broker_pid; /* 0: none */
  int64_t certificate_expires_s;
  struct activity_counts activity;
};

struct metrics_options {
  void (*gauges)(void *user, struct metrics_gauges *out);
  /* Whether the hub can do its work; else *why says what is missing. */
  bool (*ready)(void *user, const char **why);
  void *user;
};

int metrics_new(struct metrics **out, dstream_loop *loop,
                const struct metrics_options *options);
/* NULL is fine. */
void metrics_free(struct metrics *metrics);

/* Opens the listener.  port 0: any free one.  DSTREAM_ESYSTEM, DSTREAM_ENOMEM:
 * *error says why. */
int metrics_listen(struct metrics *metrics, const char *address, uint16_t port,
                   struct dstream_end *error);
/* What was bound; 0: nothing. */
uint16_t metrics_port(const struct metrics *metrics);

/* Counts what an activity record tells; before any of it is left out. */
void metrics_record(struct metrics *metrics,
                    const struct activity_record *record);
void metrics_device_ready(struct metrics *metrics);
void metrics_broker_restarted(struct metrics *metrics);

struct metrics_totals {
  uint64_t streams_opened;
  uint64_t streams_failed;
  uint64_t bytes_to_device; /* of streams that have ended */
  uint64_t bytes_to_service;
};
struct metrics_totals metrics_totals(const struct metrics *metrics);

/* Writes them all; the length, or 0: out is too small.  Counters only grow. */
#define METRICS_TEXT_MAX 32768
size_t metrics_text(struct metrics *metrics, char *out, size_t size);

#endif
