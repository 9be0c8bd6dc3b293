#include "core/backoff.h"

#include <assert.h>

void backoff_init(struct backoff *b, uint32_t min_ms, uint32_t max_ms) {
  assert(min_ms > 0 && max_ms >= min_ms);
  *b = (struct backoff){.min_ms = min_ms, .max_ms = max_ms};
}

void backoff_up(struct backoff *b, uint64_t now_ms) {
  b->up = true;
  b->up_since_ms = now_ms;
  b->harder = false;
}

void backoff_harder(struct backoff *b) {
  b->harder = true;
}

uint32_t backoff_next(struct backoff *b, uint64_t now_ms, uint32_t random) {
  if (b->up && now_ms - b->up_since_ms >= BACKOFF_LIVED_MS)
    b->doublings = 0;
  b->up = false;

  uint64_t high = (uint64_t)b->min_ms * (b->harder ? 4 : 1);
  for (unsigned i = 0; i < b->doublings && high < b->max_ms; i++)
    high *= 2;
  if (high >= b->max_ms)
    high = b->max_ms;
  else
    b->doublings++;

  uint64_t low = b->harder ? b->min_ms : 0;
  return (uint32_t)(low + ((high - low + 1) * random >> 32));
}
