/* hub/presence.h - a table of the devices that are connected.
 *
 * Fed with the broker's presence messages (hub/broker_wire.h).  A snapshot
 * marks everybody, clears the marks of those it tells, and at its end whoever
 * is still marked is gone.
 */
#ifndef HUB_PRESENCE_H
#define HUB_PRESENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

/* A device became ready (true), or is ready no more. */
typedef void presence_fn(void *user, const char *id, bool ready);

struct presence;

/* changed may be NULL.  NULL: out of memory. */
struct presence *presence_new(size_t max_devices, presence_fn *changed,
                              void *user);
void presence_free(struct presence *presence);

/* The device is connected, and ready or not.  DSTREAM_ELIMIT, DSTREAM_ENOMEM:
 * it is not known. */
int presence_set(struct presence *presence, struct slice id, bool ready);
void presence_remove(struct presence *presence, struct slice id);

void presence_mark_all(struct presence *presence);
void presence_remove_marked(struct presence *presence);

bool presence_ready(const struct presence *presence, const char *id);
bool presence_connected(const struct presence *presence, const char *id);
/* True when it is connected; *since_ms: as presence_each tells it. */
bool presence_since(const struct presence *presence, const char *id,
                    uint64_t *since_ms);
size_t presence_count(const struct presence *presence);
/* since_ms: when it was known to be connected, loop_now_ms. */
void presence_each(const struct presence *presence,
                   bool (*fn)(void *user, const char *id, bool ready,
                              uint64_t since_ms),
                   void *user);

#endif
