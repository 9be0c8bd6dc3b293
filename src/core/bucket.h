/* core/bucket.h - a token bucket: so many a second, so many in one go. */
#ifndef CORE_BUCKET_H
#define CORE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
  uint64_t milli; /* thousandths of a token */
  uint64_t refilled_ms;
  uint32_t rate;  /* tokens a second */
  uint32_t burst; /* most tokens */
};

/* A full bucket; rate and burst at least 1. */
void bucket_init(struct bucket *bucket, uint32_t rate, uint32_t burst,
                 uint64_t now_ms);

/* Other limits; what is inside stays, as far as it fits. */
void bucket_set(struct bucket *bucket, uint32_t rate, uint32_t burst);

/* Takes one token; false: there is none. */
bool bucket_take(struct bucket *bucket, uint64_t now_ms);

#endif
