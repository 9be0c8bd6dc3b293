/* core/ring.h - a bounded byte queue in a buffer that somebody else owns. */
#ifndef CORE_RING_H
#define CORE_RING_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct ring {
  uint8_t *buffer;
  size_t size; /* of the buffer, all of it usable */
  size_t head; /* index of the oldest byte */
  size_t len;  /* bytes inside */
};

static inline size_t ring_free(const struct ring *ring) {
  return ring->size - ring->len;
}

/* Appends len bytes; there must be room for them. */
static inline void ring_put(struct ring *ring, const void *data, size_t len) {
  assert(len <= ring_free(ring));
  size_t tail = ring->head + ring->len;
  if (tail >= ring->size)
    tail -= ring->size;
  size_t first = ring->size - tail < len ? ring->size - tail : len;
  memcpy(ring->buffer + tail, data, first);
  memcpy(ring->buffer, (const uint8_t *)data + first, len - first);
  ring->len += len;
}

/* The oldest bytes that lie in one piece; *len may be 0. */
static inline const uint8_t *ring_front(const struct ring *ring, size_t *len) {
  size_t straight = ring->size - ring->head;
  *len = ring->len < straight ? ring->len : straight;
  return ring->buffer + ring->head;
}

/* Drops len of the oldest bytes. */
static inline void ring_drop(struct ring *ring, size_t len) {
  assert(len <= ring->len);
  ring->len -= len;
  ring->head += len;
  if (ring->head >= ring->size)
    ring->head -= ring->size;
  if (ring->len == 0)
    ring->head = 0;
}

#endif
