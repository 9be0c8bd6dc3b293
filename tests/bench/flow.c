#include "bench/flow.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#define WORDS (FLOW_BLOCK / sizeof(uint64_t))
#define LAST  (UINT64_C(1) << 63)

/* ---- the random part of a block ---- */

static struct {
  uint64_t words[WORDS - 1];
  uint64_t a; /* its sums, as if the block's number were 0 */
  uint64_t b;
  bool made;
} common;

static void sum_words(uint64_t *a, uint64_t *b, const uint8_t *data,
                      size_t words) {
  uint64_t sum_a = *a;
  uint64_t sum_b = *b;
  for (size_t i = 0; i < words; i++) {
    uint64_t word;
    memcpy(&word, data + i * sizeof word, sizeof word);
    sum_a += word;
    sum_b += sum_a;
  }
  *a = sum_a;
  *b = sum_b;
}

static void make_common(void) {
  uint64_t x = UINT64_C(0x9e3779b97f4a7c15);
  for (size_t i = 0; i < WORDS - 1; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    common.words[i] = x;
  }
  sum_words(&common.a, &common.b, (const uint8_t *)common.words, WORDS - 1);
  common.made = true;
}

/* The sums of a block whose first word is `head`. */
static void block_sums(uint64_t head, uint64_t *a, uint64_t *b) {
  *a = head + common.a;
  *b = WORDS * head + common.b;
}

static uint64_t fold(uint64_t sum, uint64_t a, uint64_t b) {
  sum ^= a;
  sum = sum << 17 | sum >> 47;
  return sum * UINT64_C(0xff51afd7ed558ccd) + b;
}

void flow_begin(struct flow *flow, int fd, bool sending, bool receiving,
                uint64_t until_ns) {
  if (!common.made)
    make_common();
  memset(flow, 0, sizeof *flow);
  flow->fd = fd;
  flow->sending = sending;
  flow->receiving = receiving;
  flow->until_ns = until_ns;
  flow->in_order = true;
  flow->good = !receiving;
}

/* ---- out ---- */

static void next_batch(struct flow *flow, bool last) {
  flow->batch = last ? 1 : FLOW_BATCH;
  for (unsigned i = 0; i < flow->batch; i++) {
    uint64_t a;
    uint64_t b;
    flow->heads[i] = flow->out_next++ | (last ? LAST : 0);
    block_sums(flow->heads[i], &a, &b);
    flow->out_sum = fold(flow->out_sum, a, b);
  }
  flow->batch_len =
      (size_t)flow->batch * FLOW_BLOCK + (last ? sizeof flow->out_sum : 0);
  flow->batch_at = 0;
  flow->out_last = last;
}

/* What of the batch was not sent yet. */
static int batch_vector(struct flow *flow, struct iovec *out) {
  size_t skip = flow->batch_at;
  int count = 0;
  for (unsigned i = 0; i <= 2 * flow->batch; i++) {
    struct iovec piece = {&flow->out_sum, sizeof flow->out_sum};
    if (i == 2 * flow->batch && !flow->out_last)
      break;
    if (i < 2 * flow->batch && i % 2 == 0)
      piece = (struct iovec){&flow->heads[i / 2], sizeof(uint64_t)};
    else if (i < 2 * flow->batch)
      piece = (struct iovec){common.words, sizeof common.words};
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    out[count].iov_base = (uint8_t *)piece.iov_base + skip;
    out[count++].iov_len = piece.iov_len - skip;
    skip = 0;
  }
  return count;
}

bool flow_send(struct flow *flow) {
  struct iovec vector[2 * FLOW_BATCH + 1];
  struct msghdr message = {.msg_iov = vector};
  struct timespec now;
  if (flow->batch_at == flow->batch_len) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    next_batch(flow,
               (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec >=
                   flow->until_ns);
  }
  message.msg_iovlen = (size_t)batch_vector(flow, vector);
  ssize_t n = sendmsg(flow->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0)
    return errno == EAGAIN || errno == EINTR;
  flow->batch_at += (size_t)n;
  flow->sent += (uint64_t)n;
  if (flow->batch_at == flow->batch_len && flow->out_last)
    flow->sending = false;
  return true;
}

/* ---- in ---- */

static void end_block(struct flow *flow) {
  flow->in_sum = fold(flow->in_sum, flow->in_a, flow->in_b);
  flow->in_words = 0;
  flow->in_a = 0;
  flow->in_b = 0;
  flow->in_all = flow->in_last;
}

/* Words up to the end of the block; how many. */
static size_t feed_words(struct flow *flow, const uint8_t *data, size_t words) {
  uint64_t first;
  memcpy(&first, data, sizeof first);
  if (flow->in_all) {
    flow->good = flow->in_order && first == flow->in_sum;
    flow->receiving = false;
    return 1;
  }
  if (flow->in_words == 0) {
    flow->in_order = flow->in_order && (first & ~LAST) == flow->in_next;
    flow->in_next++;
    flow->in_last = (first & LAST) != 0;
  }
  if (words > WORDS - flow->in_words)
    words = WORDS - flow->in_words;
  sum_words(&flow->in_a, &flow->in_b, data, words);
  flow->in_words += words;
  if (flow->in_words == WORDS)
    end_block(flow);
  return words;
}

size_t flow_feed(struct flow *flow, const uint8_t *data, size_t len) {
  size_t used = 0;
  while (used < len && flow->receiving) {
    size_t left = len - used;
    if (flow->part_len == 0 && left >= sizeof flow->part) {
      used += sizeof flow->part *
              feed_words(flow, data + used, left / sizeof flow->part);
      continue;
    }
    size_t take = sizeof flow->part - flow->part_len;
    if (take > left)
      take = left;
    memcpy(flow->part + flow->part_len, data + used, take);
    flow->part_len += take;
    used += take;
    if (flow->part_len == sizeof flow->part) {
      flow->part_len = 0;
      feed_words(flow, flow->part, 1);
    }
  }
  flow->received += used;
  return used;
}
