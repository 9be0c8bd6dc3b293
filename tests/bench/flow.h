/* flow.h - bytes of one connection, each way, that are known to have come whole
 * and in order, at next to no cost for the generator.
 *
 * A direction is a number of blocks of 64 KiB and, at its end, a checksum of
 * them all.  A block is its number, with a flag in the last one, and random
 * bytes that are the same in each.  The sender has summed those once, so that
 * only the receiver, which sums every byte that it has got, works for it: two
 * additions for 8 bytes, about 0.05 s per GB.
 */
#ifndef BENCH_FLOW_H
#define BENCH_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOW_BLOCK 65536
#define FLOW_BATCH 4      /* blocks that one call sends */
#define FLOW_READ  262144 /* most that one call receives */

struct flow {
  int fd;
  uint64_t until_ns; /* the first block that is begun later is the last */
  bool sending;      /* still */
  bool receiving;
  bool good;     /* once it receives no more */
  uint64_t sent; /* bytes */
  uint64_t received;

  /* private to flow.c from here on */
  uint64_t heads[FLOW_BATCH];
  unsigned batch;   /* blocks in it */
  size_t batch_len; /* bytes, with the checksum behind the last block */
  size_t batch_at;
  uint64_t out_next;
  uint64_t out_sum;
  bool out_last;
  uint64_t in_next;
  uint64_t in_sum;
  uint64_t in_a;
  uint64_t in_b;
  size_t in_words; /* of the block */
  bool in_order;
  bool in_last;
  bool in_all; /* the checksum is next */
  uint8_t part[8];
  size_t part_len;
};

void flow_begin(struct flow *flow, int fd, bool sending, bool receiving,
                uint64_t until_ns);
/* Sends one batch at most; false: the connection is broken (errno). */
bool flow_send(struct flow *flow);
/* Takes bytes that came; how many were the flow's: less than len only at its
 * end. */
size_t flow_feed(struct flow *flow, const uint8_t *data, size_t len);

#endif
