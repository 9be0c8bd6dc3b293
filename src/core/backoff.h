/* core/backoff.h - how long to wait before connecting again: exponential with
 * full jitter, so that devices that a hub lost together do not come back
 * together.
 *
 * The n-th wait in a row is random between 0 and min_ms * 2^(n-1), at most
 * max_ms.  The row ends when a connection lived for a minute: one that comes up
 * and goes at once (a twin with the same identity) keeps backing off.
 */
#ifndef CORE_BACKOFF_H
#define CORE_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#define BACKOFF_LIVED_MS 60000

struct backoff {
  uint32_t min_ms;
  uint32_t max_ms;
  unsigned doublings; /* of the bound, in the row so far */
  bool up;
  bool harder;
  uint64_t up_since_ms;
};

/* max_ms >= min_ms > 0 (asserted). */
void backoff_init(struct backoff *b, uint32_t min_ms, uint32_t max_ms);

/* The connection came up. */
void backoff_up(struct backoff *b, uint64_t now_ms);

/* The hub refused this identity (CONNACK 4 or 5): until a connection comes up,
 * waits are random between min_ms and four times the usual bound. */
void backoff_harder(struct backoff *b);

/* The connection was lost or could not be made.  Returns how long to wait, in
 * milliseconds.  random: 32 random bits. */
uint32_t backoff_next(struct backoff *b, uint64_t now_ms, uint32_t random);

#endif
