/* Bytes one way or both over one stream or many: throughput, CPU time for each
 * GB, and how evenly the streams were served. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/flow.h"

#define EVENTS   256
#define GRACE_MS 60000 /* until what is under way has come */

/* Fairness is counted in this part of the time, in percent. */
#define COUNT_FROM 25
#define COUNT_TO   95

struct stream {
  struct flow flow;
  uint64_t counted; /* bytes at COUNT_FROM, then between it and COUNT_TO */
  bool over;
};

static uint8_t input[FLOW_READ];

struct bulk {
  struct stream *streams;
  unsigned count;
  unsigned left;
  int queue;
  uint64_t start_ns;
  uint64_t end_ns;
  uint64_t ms;
  int counted; /* 0: COUNT_FROM is still to come, 1: COUNT_TO, 2: done */
};

static void watch(struct bulk *b, struct stream *s, int how) {
  struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = s}};
  if (s->flow.sending)
    event.events |= EPOLLOUT;
  if (epoll_ctl(b->queue, how, s->flow.fd, &event) != 0)
    die("epoll");
}

static void on_verdict(struct bulk *b, struct stream *s, uint8_t byte) {
  if (s->flow.sending || byte != BENCH_GOOD || !s->flow.good)
    die("other bytes came than had been sent");
  s->over = true;
  b->left--;
  epoll_ctl(b->queue, EPOLL_CTL_DEL, s->flow.fd, NULL);
}

static void on_readable(struct bulk *b, struct stream *s) {
  errno = 0;
  ssize_t n = recv(s->flow.fd, input, sizeof input, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN)
    return;
  if (n <= 0)
    die("a stream ended early");
  size_t used = flow_feed(&s->flow, input, (size_t)n);
  if (used < (size_t)n)
    on_verdict(b, s, input[used]);
}

static void on_writable(struct bulk *b, struct stream *s) {
  if (!flow_send(&s->flow))
    die("a stream broke");
  if (!s->flow.sending)
    watch(b, s, EPOLL_CTL_MOD);
}

static uint64_t moved(const struct stream *s) {
  return s->flow.sent + s->flow.received;
}

static void count_streams(struct bulk *b) {
  uint64_t part = (now_ns() - b->start_ns) / 10000 / b->ms;
  if (b->counted == 0 && part >= COUNT_FROM) {
    for (unsigned i = 0; i < b->count; i++)
      b->streams[i].counted = moved(&b->streams[i]);
    b->counted = 1;
  }
  if (b->counted == 1 && part >= COUNT_TO) {
    for (unsigned i = 0; i < b->count; i++)
      b->streams[i].counted = moved(&b->streams[i]) - b->streams[i].counted;
    b->counted = 2;
  }
}

static void run(struct bulk *b) {
  struct epoll_event events[EVENTS];
  while (b->left > 0) {
    int count = epoll_wait(b->queue, events, EVENTS, 100);
    for (int i = 0; i < count; i++) {
      struct stream *s = events[i].data.ptr;
      if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0)
        on_readable(b, s);
      if ((events[i].events & EPOLLOUT) != 0 && !s->over && s->flow.sending)
        on_writable(b, s);
    }
    if (b->counted < 2)
      count_streams(b);
    if ((now_ns() - b->start_ns) / 1000000 > b->ms + GRACE_MS)
      die("%u of %u streams did not end", b->left, b->count);
  }
}

static void print_fairness(const struct bulk *b) {
  uint64_t least = UINT64_MAX;
  uint64_t most = 0;
  if (b->count < 2 || b->counted != 2)
    return;
  for (unsigned i = 0; i < b->count; i++) {
    uint64_t n = b->streams[i].counted;
    least = n < least ? n : least;
    most = n > most ? n : most;
  }
  print_metric("slowest_fastest", most == 0 ? 0 : (double)least / (double)most);
}

int bench_bulk(const struct bench_options *options) {
  const struct bench_request request = {BENCH_MAGIC, BENCH_BULK, options->up,
                                        options->down, options->ms};
  struct bulk b = {.count = options->streams,
                   .left = options->streams,
                   .ms = options->ms == 0 ? 1 : options->ms};
  int *fds = must_alloc(b.count, sizeof *fds);
  double bytes = 0;
  b.streams = must_alloc(b.count, sizeof *b.streams);
  open_many(options, &request, b.count, fds);
  say_line("up\t%u", b.count);
  b.queue = epoll_create1(EPOLL_CLOEXEC);
  processes_mark();
  b.start_ns = now_ns();
  for (unsigned i = 0; i < b.count; i++) {
    flow_begin(&b.streams[i].flow, fds[i], options->up, options->down,
               b.start_ns + b.ms * 1000000);
    socket_send(fds[i], &(char){BENCH_GO}, 1);
    watch(&b, &b.streams[i], EPOLL_CTL_ADD);
  }
  run(&b);
  b.end_ns = now_ns();
  for (unsigned i = 0; i < b.count; i++) {
    bytes += (double)moved(&b.streams[i]);
    close(fds[i]);
  }
  print_metric("mb_s", bytes * 1e3 / (double)(b.end_ns - b.start_ns));
  processes_print_cpu(bytes / BENCH_GB);
  print_fairness(&b);
  free(b.streams);
  free(fds);
  return 0;
}
