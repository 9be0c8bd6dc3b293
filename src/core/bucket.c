#include "core/bucket.h"

#include <assert.h>

#define TOKEN 1000u

void bucket_init(struct bucket *bucket, uint32_t rate, uint32_t burst,
                 uint64_t now_ms) {
  assert(rate > 0 && burst > 0);
  bucket->milli = (uint64_t)burst * TOKEN;
  bucket->refilled_ms = now_ms;
  bucket->rate = rate;
  bucket->burst = burst;
}

void bucket_set(struct bucket *bucket, uint32_t rate, uint32_t burst) {
  assert(rate > 0 && burst > 0);
  uint64_t full = (uint64_t)burst * TOKEN;
  if (bucket->milli > full)
    bucket->milli = full;
  bucket->rate = rate;
  bucket->burst = burst;
}

/* So many tokens a second are as many thousandths a millisecond: nothing is
 * rounded, however often this is called. */
static void refill(struct bucket *bucket, uint64_t now_ms) {
  if (now_ms <= bucket->refilled_ms)
    return;
  uint64_t full = (uint64_t)bucket->burst * TOKEN;
  uint64_t elapsed_ms = now_ms - bucket->refilled_ms;
  uint64_t missing = full - bucket->milli;
  if (elapsed_ms > missing / bucket->rate)
    bucket->milli = full;
  else
    bucket->milli += elapsed_ms * bucket->rate;
  bucket->refilled_ms = now_ms;
}

bool bucket_take(struct bucket *bucket, uint64_t now_ms) {
  refill(bucket, now_ms);
  if (bucket->milli < TOKEN)
    return false;
  bucket->milli -= TOKEN;
  return true;
}
