/* core/device_core.h - when a device connects, renews, waits and stops: the
 * state machine of the control connection, without I/O.
 *
 * What happened goes in by one function for each event; what to do comes out of
 * device_core_pull, to be called after each of them until it returns
 * DEVICE_ACT_NONE, and device_core_deadline says when device_core_tick is due.
 * There is one connection at a time: DEVICE_ACT_CONNECT makes it, and it is
 * there until device_core_closed, which answers DEVICE_ACT_DISCONNECT.
 * Time is any monotonic clock in milliseconds; `random` is 32 random bits.
 */
#ifndef CORE_DEVICE_CORE_H
#define CORE_DEVICE_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/backoff.h"

/* "No deadline" of device_core_deadline. */
#define DEVICE_NEVER UINT64_MAX

/* The adapter has timeouts of its own (30 s for CONNECT): this one is for what
 * slips through, a resolver that hangs for instance. */
#define DEVICE_CONNECT_MS   60000
#define DEVICE_SUBSCRIBE_MS 30000
/* How long the streams may take to close when the device stops. */
#define DEVICE_STREAMS_MS 10000
/* A connection lost so soon after it was ready, so many times in a row, is
 * being taken over: a hub allows one connection for each identity and ends the
 * older one. */
#define DEVICE_SHORT_LIFE_MS 10000
#define DEVICE_SHORT_LIVES   3

enum device_state {
  DEVICE_STOPPED,     /* awaits start -> CONNECTING */
  DEVICE_CONNECTING,  /* awaits CONNACK.  SUBSCRIBING: code 0.  WAITING: refused
                         (4 and 5: the longer waits), no connection, deadline */
  DEVICE_SUBSCRIBING, /* awaits SUBACK: a session that the hub kept is not
                         relied on.  READY: granted.  WAITING: 0x80, lost,
                         deadline */
  DEVICE_READY,       /* requests can come.  RENEWING: the token is used up for
                         80 %, and no request or handshake would be cut off (at
                         95 % in any case: then the hub would end it).
                         WAITING: lost */
  DEVICE_RENEWING,    /* MQTT can't renew a token in place.  Awaits the orderly
                         end of the connection -> CONNECTING, at once */
  DEVICE_WAITING,     /* awaits the backoff -> CONNECTING */
  DEVICE_STOPPING     /* stop was called: awaits the end of all streams, or a
                         deadline, then of the connection -> STOPPED */
};

enum device_action {
  DEVICE_ACT_NONE,
  DEVICE_ACT_TELL,    /* the state told to the user changed; see `cause` */
  DEVICE_ACT_CONNECT, /* with a token made now */
  DEVICE_ACT_SUBSCRIBE,
  DEVICE_ACT_DISCONNECT,  /* orderly if it is up; device_core_closed follows */
  DEVICE_ACT_END_STREAMS, /* close all, code 1001 */
  DEVICE_ACT_ABORT_STREAMS, /* the same, now */
  DEVICE_ACT_STOPPED        /* the last: nothing is left */
};

struct device_core_options {
  uint32_t retry_min_ms; /* >= 1 */
  uint32_t retry_max_ms; /* >= retry_min_ms */
  uint64_t token_ms;     /* life of a SAS token; 0: no token */
  unsigned max_streams;
};

/* Read by its owner, written by the functions below only. */
struct device_core {
  struct device_core_options options;
  enum device_state state;
  enum device_state told;
  bool renewing;   /* CONNECTING and SUBSCRIBING are part of a renewal */
  bool connection; /* there is one */
  bool closing;    /* and it was asked to close */
  bool connect_due;
  unsigned actions; /* bits, by enum device_action */
  uint64_t deadline_ms;
  uint64_t token_from_ms;
  uint64_t ready_ms;
  unsigned short_lives;
  struct backoff backoff;
  unsigned streams;         /* accepted and not closed */
  unsigned handshakes;      /* those of them that are not open yet */
  unsigned waiting;         /* requests that could still be answered */
  struct dstream_end cause; /* of the change that DEVICE_ACT_TELL is about;
                               DSTREAM_OK: nothing failed */
};

void device_core_init(struct device_core *core,
                      const struct device_core_options *options);

/* DSTREAM_ESTATE: not stopped. */
int device_core_start(struct device_core *core, uint64_t now_ms);

/* STOPPED or STOPPING: nothing. */
void device_core_stop(struct device_core *core, uint64_t now_ms);

/* CONNACK with code 0. */
void device_core_connected(struct device_core *core, uint64_t now_ms);

/* CONNACK with another code, MQTT 3.1.1 section 3.2.2.3. */
void device_core_refused(struct device_core *core, int code, uint64_t now_ms,
                         uint32_t random);

/* It could not be made, or is lost. */
void device_core_lost(struct device_core *core, const struct dstream_end *why,
                      uint64_t now_ms, uint32_t random);

/* SUBACK; granted: without a 0x80. */
void device_core_subscribed(struct device_core *core, bool granted,
                            uint64_t now_ms, uint32_t random);

/* The connection asked to close is gone. */
void device_core_closed(struct device_core *core, uint64_t now_ms);

/* How many requests could be answered, whenever that changes. */
void device_core_set_waiting(struct device_core *core, unsigned waiting);

/* False: there are as many streams as there may be, or the device stops. */
bool device_core_stream_room(const struct device_core *core);
void device_core_stream_added(struct device_core *core);
void device_core_stream_opened(struct device_core *core);
/* opened: device_core_stream_opened was called for it. */
void device_core_stream_gone(struct device_core *core, bool opened,
                             uint64_t now_ms);

/* The deadline is over (or not yet: then nothing). */
void device_core_tick(struct device_core *core, uint64_t now_ms,
                      uint32_t random);
uint64_t device_core_deadline(const struct device_core *core);

/* What to do next; *cause is filled in for DEVICE_ACT_TELL. */
enum device_action device_core_pull(struct device_core *core, uint64_t now_ms,
                                    struct dstream_end *cause);

/* "CONNECTING", for the log. */
const char *device_state_name(enum device_state state);

/* What a CONNACK code means and what to do.  DSTREAM_EUNAUTHORIZED (4, 5) or
 * DSTREAM_EMQTT, with mqtt_code. */
void device_connack_end(struct dstream_end *end, int code);

#endif
