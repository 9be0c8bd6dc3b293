/* core/request_table.h - the stream requests that a device has not answered.
 *
 * A topic goes in, a request or the reason to refuse it comes out.  A request
 * lives until its owner answers it, and is worth answering for 60 s at most:
 * the hub gives up by then.  The table is bounded, since each request holds a
 * URL and a token that a hub chose.  Time is any monotonic clock in ms.
 */
#ifndef CORE_REQUEST_TABLE_H
#define CORE_REQUEST_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/caps.h"
#include "core/slice.h"
#include "core/stream_topic.h"

/* "No deadline" of request_table_deadline. */
#define REQUEST_NEVER   UINT64_MAX
#define REQUEST_LIFE_MS 60000

enum request_state {
  REQUEST_WAITING, /* can be answered.  EXPIRED: 60 s are over, or the hub used
                      its id again.  ORPHANED: the connection it came on is
                      gone, and its id means nothing on another one */
  REQUEST_EXPIRED, /* kept until its owner lets go of it */
  REQUEST_ORPHANED /* the same */
};

struct request {
  struct request *next;
  void *owner; /* its owner's own use */
  enum request_state state;
  uint64_t arrived_ms;
  struct stream_request message; /* name_raw and caps point into `texts` */
  bool asked_caps;               /* the request had $caps: so may the answer */
  char texts[CAPS_SIZE + STREAM_NAME_SIZE];
};

struct request_table {
  struct request *first; /* the oldest first */
  unsigned count;        /* of all */
  unsigned waiting;      /* of those in REQUEST_WAITING */
  unsigned max;
};

enum request_verdict {
  REQUEST_NEW,     /* *out is to be answered */
  REQUEST_REFUSED, /* answer STREAM_TOPIC_REJECT to refusal->rid */
  REQUEST_DROPPED  /* there is nothing to answer */
};

struct request_refusal {
  char rid[STREAM_RID_SIZE];
  bool asked_caps;
  struct dstream_end why; /* DSTREAM_ETOPIC, DSTREAM_ELIMIT, DSTREAM_ENOMEM;
                             DSTREAM_OK: the same request came twice */
};

void request_table_init(struct request_table *table, unsigned max);

/* Takes a topic apart and enters it.  A request that comes twice with the same
 * id, URL and token (a redelivery) is dropped; one with the id of an older
 * request and anything else new takes its place: the hub knows one by that id.
 * Unless it is REQUEST_NEW, *refusal is filled in. */
enum request_verdict request_table_take(struct request_table *table,
                                        const char *topic, size_t len,
                                        uint64_t now_ms, struct request **out,
                                        struct request_refusal *refusal);

/* Whether it can be answered: DSTREAM_OK, DSTREAM_EEXPIRED, or DSTREAM_ESTATE
 * when its connection is gone.  It looks at the clock, not at ticks. */
int request_table_check(struct request_table *table, struct request *request,
                        uint64_t now_ms);

/* Takes it out, wipes its token, frees it. */
void request_table_remove(struct request_table *table, struct request *request);

/* Expires what is too old and returns one of those, NULL: no more. */
struct request *request_table_tick(struct request_table *table,
                                   uint64_t now_ms);

/* When request_table_tick has something to do; REQUEST_NEVER: nothing. */
uint64_t request_table_deadline(const struct request_table *table);

/* The connection is gone. */
void request_table_orphan(struct request_table *table);

/* Frees all that is left. */
void request_table_clear(struct request_table *table);

/* A request topic for a log: the values of $rid and $url as they are, of all
 * else ($auth, and what a peer may have broken) the length only; no control
 * characters; zero-terminated, cut to fit. */
void request_topic_mask(const char *topic, size_t len, char *out,
                        size_t out_size);

#endif
