/* hub/activity.h - the activity log: who reached which device when, for how
 * long, how much, and why it failed.
 *
 * One JSON object a line, in the form of Azure's DeviceStreams log category, so
 * that what reads those reads these:
 *
 *   {"time":"2026-01-01T00:00:00.123Z",   UTC, with milliseconds
 *    "resourceId":"/hubs/HOST",
 *    "operationName":"invoke",
 *    "category":"DeviceStreams",
 *    "resultType":"Success",              or "Failure"
 *    "resultDescription":"...",           a sentence; may be empty
 *    "level":"Information",               "Warning" or "Error"
 *    "durationMs":"74",                   a text: since the request; of an end:
 *                                         since both sides were there
 *    "properties":"{...}"}                a JSON text, escaped
 *
 * and in properties, first Azure's, then our own; what does not apply is null,
 * or, of our own, left out:
 *
 *   {"deviceId":"device-7","moduleId":null,"sdkVersion":null,
 *    "requestSize":"0","responseSize":"0",  texts: bytes to the device and to
 *                                           the service
 *    "statusCode":"200",                    a text: of the service's answer
 *    "requestName":"ssh","direction":"c2d",
 *
 *    "event":"request",                     enum activity_event
 *    "streamId":"32 hex digits",
 *    "trackingId":"32 hex digits",          what the caller got, too, as
 *                                           x-ms-request-id; of a stream: its
 *                                           stream id
 *    "caller":"service@192.0.2.1",          policy and address
 *    "peer":"192.0.2.1:4711",               of who was refused
 *    "side":"service",                      who was refused: "device" (control
 *                                           connection), "service" (REST),
 *                                           "stream" (streaming endpoint)
 *    "errorCode":404103,                    Azure's; see hub/hub_error.h
 *    "closeCode":1000,                      RFC 6455 7.4, of the side that
 *                                           ended first
 *    "endedBy":"device",                    "service" or "hub"
 *    "bytesToDevice":0,"bytesToService":0}  numbers
 *
 * Each record is appended with one write.  What can't be written (a full disk,
 * a pipe that nobody reads) is counted, and told by a record "lost" in front of
 * the next that can; nothing waits.  Refusals and limits, which strangers can
 * provoke, are bounded: 2 a second over a longer time, 100 in one go; a record
 * "leftOut" says how many were left out.  Loop's thread.
 */
#ifndef HUB_ACTIVITY_H
#define HUB_ACTIVITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "net/loop.h"

/* event, its name, Success or not. */
#define ACTIVITY_EVENT_MAP(X)                                                  \
  X(REQUEST, "request", true)    /* a service asked for a stream */            \
  X(ACCEPTED, "accepted", true)  /* the device accepted */                     \
  X(REJECTED, "rejected", false) /* the device rejected, with its reason */    \
  X(TIMEOUT, "timeout", false)   /* the device did not come, or not answer;    \
                                    or a side did not connect */               \
  X(FAILED, "failed", false)     /* no such device, disabled, broker away */   \
  X(CANCELED, "canceled", false) /* the service went before it was told */     \
  X(LIMIT, "limit", false)       /* a limit was hit */                         \
  X(REFUSED, "refused", false)   /* authentication; see side */                \
  X(START, "start", true)        /* both sides are there, bytes flow */        \
  X(END, "end", true)            /* of a stream that had started */            \
  X(KILL, "kill", true)          /* an operator ended a stream: caller */      \
  X(LEFT_OUT, "leftOut", false)  /* records about refusals and limits */       \
  X(LOST, "lost", false)         /* records that could not be written */

enum activity_event {
#define X(name, text, success) ACTIVITY_##name,
  ACTIVITY_EVENT_MAP(X)
#undef X
      ACTIVITY_EVENT_COUNT
};

const char *activity_event_name(enum activity_event event);

/* One record.  Zero (NULL) is "does not apply"; texts are cut to fit and made
 * printable.  No secret may be in here. */
struct activity_record {
  enum activity_event event;
  const char *client_id; /* "device" or "device/module" */
  const char *stream_name;
  const char *stream_id;
  const char *tracking_id; /* NULL: the stream id */
  const char *caller;
  const char *peer;
  const char *side;
  const char *description;
  const char *ended_by;
  uint64_t duration_ms;
  uint64_t bytes_to_device;
  uint64_t bytes_to_service;
  int status_code; /* HTTP */
  int error_code;  /* enum hub_error_code */
  int close_code;
  bool failed; /* an end that was no orderly one: Failure after all */
};

struct activity;

struct activity_options {
  const char *file;  /* a path; "-": stdout; "journald": systemd's journal, by
                        its native protocol; "": nothing is written */
  const char *host;  /* of resourceId */
  size_t keep_bytes; /* of the newest records, for activity_query; default
                        2 MB: 3000 or so */
  uint32_t refusals_per_second; /* default 2 */
  uint32_t refusal_burst;       /* default 100 */
};

/* Opens (appends to, mode 0640) the file and takes up the newest records in it,
 * so that a restarted hub still knows them.  A file that can't be opened is no
 * reason not to run: it is logged, tried again at activity_reopen, and records
 * count as lost.  DSTREAM_ENOMEM. */
int activity_new(struct activity **out, dstream_loop *loop,
                 const struct activity_options *options);

/* Says what is still to be said, and closes.  NULL is fine. */
void activity_free(struct activity *activity);

/* The file was moved away: begins a new one.  When that fails the old one is
 * written on, and the log says so.  No record is lost in between. */
void activity_reopen(struct activity *activity);

void activity_write(struct activity *activity,
                    const struct activity_record *record);

/* Since activity_new. */
struct activity_counts {
  uint64_t records;  /* written */
  uint64_t lost;     /* could not be written */
  uint64_t left_out; /* too many refusals */
};
struct activity_counts activity_counts(const struct activity *activity);

/* ---- looking back ---- */

struct activity_query {
  uint64_t after;     /* a cursor: only what came later; 0: from the first */
  int64_t since_ms;   /* Unix time; 0: any */
  const char *device; /* the device's or one of its modules' records; NULL: all;
                         a "device/module" is one */
  size_t limit;       /* records at most, from the oldest; 0: 100 */
  bool newest;        /* the newest `limit` instead, in the order of time */
};

/* Calls fn for each record that is kept and fits, in the order of time, until
 * it returns false, which leaves that record for the next time.  json: the
 * line, without a line feed, for the call.  *cursor (not NULL): for `after`,
 * later, also across a restart of the hub.  Returns how many were taken; *more
 * (may be NULL): there are more behind those. */
size_t activity_query(const struct activity *activity,
                      const struct activity_query *query,
                      bool (*fn)(void *user, const char *json, size_t len),
                      void *user, uint64_t *cursor, bool *more);

/* Embedded in its owner; zeroed at first.  fn is called once when there is a
 * new record, from the loop, not from within activity_write; then it is no
 * longer listening. */
struct activity_listener {
  struct activity_listener *next, *prev;
  void (*fn)(struct activity_listener *listener);
};
void activity_listen(struct activity *activity,
                     struct activity_listener *listener,
                     void (*fn)(struct activity_listener *listener));
/* Not listening: nothing. */
void activity_unlisten(struct activity_listener *listener);

#endif
