/* hub/broker_wire.h - what the hub and its broker's plugin say to each other.
 *
 * The hub's own client publishes to the broker, and the plugin publishes to
 * that client only; no device can send or receive these topics.  Device ids
 * are in the payload, so nothing needs escaping: an id has no line feed.
 *
 *   hub -> plugin
 *     $dstream/ask       id LF topic   deliver a message of this topic to id
 *     $dstream/snapshot  (empty)       tell me everybody's presence
 *     $dstream/tick      (empty)       do what is due, say "still"
 *   plugin -> hub
 *     $dstream/answer    id LF topic   id published this
 *     $dstream/presence  number SP kind LF { state id LF }
 *                        number SP "s" LF due LF
 *
 * Presence messages are numbered, since a message at QoS 0 is dropped when the
 * hub's queue at the broker is full: at a gap the hub asks for a snapshot,
 * which is a "begin", then changes for everybody connected, then an "end".
 *
 * Nobody asks again and again.  "Still" says the last number, as the last
 * message may be the lost one, and when (Unix seconds, 0: not at all) the next
 * tick is wanted, such as for the next token that expires.  So the hub sends a
 * tick then; a second after anything else it heard, since that may have changed
 * either; and again each second until the answer is there.
 *
 * Both ends are this program: a message that does not parse is dropped.
 */
#ifndef HUB_BROKER_WIRE_H
#define HUB_BROKER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

/* In the plugin's file, before its version: what `dstream-hub check` looks for.
 */
#define BROKER_PLUGIN_MARK "dstream broker plugin, version "

/* The hub's own client.  A device's client id never begins with a slash. */
#define BROKER_HUB_CLIENT "/hub"
#define BROKER_HUB_USER   "hub"

#define BROKER_TOPIC_PREFIX   "$dstream/"
#define BROKER_TOPIC_ASK      "$dstream/ask"
#define BROKER_TOPIC_SNAPSHOT "$dstream/snapshot"
#define BROKER_TOPIC_TICK     "$dstream/tick"
#define BROKER_TOPIC_ANSWER   "$dstream/answer"
#define BROKER_TOPIC_PRESENCE "$dstream/presence"

/* The official clients' own limits are lower. */
#define BROKER_ASK_MAX    16384 /* topic of a request */
#define BROKER_ANSWER_MAX 2048  /* topic of an answer */

/* Room for one presence message. */
#define BROKER_PRESENCE_MAX 16384

enum broker_presence {
  BROKER_GONE = 'G',      /* not connected */
  BROKER_CONNECTED = 'C', /* connected, but it hears no requests yet */
  BROKER_READY = 'R'      /* subscribed to the requests */
};

enum broker_presence_kind {
  BROKER_CHANGE = 'c', /* these changed */
  BROKER_BEGIN = 'b',  /* a snapshot begins; no entries */
  BROKER_END = 'e',    /* whoever was not told since then is gone; no entries */
  BROKER_STILL = 's'   /* nothing new since this number; the time that the
                          next tick is wanted */
};

/* "id LF topic" into out; returns the length, or 0 when it does not fit. */
size_t broker_wire_pair(const char *id, struct slice topic, char *out,
                        size_t size);

/* Takes it apart. */
bool broker_wire_split(struct slice payload, struct slice *id,
                       struct slice *topic);

/* A presence message under construction. */
struct broker_presence_out {
  size_t len;
  char text[BROKER_PRESENCE_MAX];
};

void broker_presence_begin(struct broker_presence_out *out, uint64_t number,
                           enum broker_presence_kind kind);
/* False: it is full; send it, and begin another. */
bool broker_presence_add(struct broker_presence_out *out,
                         enum broker_presence state, const char *id);

/* "Still", all of it. */
void broker_presence_still(struct broker_presence_out *out, uint64_t number,
                           uint64_t due_s);

/* Reads the head of a presence message; *rest are the entries. */
bool broker_presence_head(struct slice payload, uint64_t *number,
                          enum broker_presence_kind *kind, struct slice *rest);

/* Reads one entry and moves *rest behind it.  False: no more, or malformed. */
bool broker_presence_next(struct slice *rest, enum broker_presence *state,
                          struct slice *id);

/* What "still" says behind its head. */
bool broker_presence_due(struct slice rest, uint64_t *due_s);

/* Whether a topic may be published: 1 to max bytes, no wildcard, no control
 * character (MQTT 3.1.1 sections 3.3.2.1 and 1.5.3). */
bool broker_topic_valid(struct slice topic, size_t max);

#endif
