/* The server behind every chain: one thread, epoll. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/flow.h"

#define EVENTS 256

enum state {
  REQUEST, /* until it is whole; then the byte is answered */
  WAITING, /* for BENCH_GO */
  FLOWING, /* until both directions are over */
  ECHOING,
  SINKING,
  OVER /* nothing more is expected but the end */
};

struct connection {
  int fd;
  enum state state;
  struct bench_request request;
  size_t request_len;
  uint64_t sunk;
  uint32_t events; /* that epoll watches */
  struct flow flow;
};

static int queue;
static uint8_t input[FLOW_READ];

static void watch(struct connection *c, uint32_t events) {
  struct epoll_event event = {.events = events, .data = {.ptr = c}};
  if (events == c->events)
    return;
  if (epoll_ctl(queue, c->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd,
                &event) != 0)
    die("epoll");
  c->events = events;
}

static void drop(struct connection *c) {
  close(c->fd);
  free(c);
}

static bool put(struct connection *c, const void *data, size_t len) {
  return send(c->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool answer(struct connection *c, char byte, enum state next) {
  c->state = next;
  return put(c, &byte, 1);
}

static bool on_request(struct connection *c) {
  if (c->request.magic != BENCH_MAGIC)
    return false;
  switch (c->request.op) {
  case BENCH_ECHO:
    return answer(c, BENCH_READY, ECHOING);
  case BENCH_SINK:
    return answer(c, BENCH_READY, SINKING);
  case BENCH_BULK:
    return answer(c, BENCH_READY, WAITING);
  default:
    return false;
  }
}

/* When both directions are over, says whether what came was right. */
static bool flowed(struct connection *c) {
  if (c->flow.sending)
    return true;
  watch(c, EPOLLIN);
  if (c->flow.receiving)
    return true;
  return answer(c, c->flow.good ? BENCH_GOOD : BENCH_BAD, OVER);
}

static bool begin_flow(struct connection *c) {
  c->state = FLOWING;
  flow_begin(&c->flow, c->fd, c->request.down != 0, c->request.up != 0,
             now_ns() + c->request.amount * 1000000);
  if (c->flow.sending)
    watch(c, EPOLLIN | EPOLLOUT);
  return true;
}

static size_t take_request(struct connection *c, const uint8_t *data,
                           size_t len) {
  size_t left = sizeof c->request - c->request_len;
  if (len > left)
    len = left;
  memcpy((uint8_t *)&c->request + c->request_len, data, len);
  c->request_len += len;
  return len;
}

static bool sink(struct connection *c, size_t len) {
  c->sunk += len;
  return c->sunk < c->request.amount || answer(c, BENCH_GOOD, OVER);
}

/* Bytes that came; how many were used, 0: the connection is no good. */
static size_t on_bytes(struct connection *c, const uint8_t *data, size_t len) {
  size_t used;
  switch (c->state) {
  case REQUEST:
    used = take_request(c, data, len);
    if (c->request_len < sizeof c->request)
      return used;
    return on_request(c) ? used : 0;
  case WAITING:
    return *data == BENCH_GO && begin_flow(c) ? 1 : 0;
  case FLOWING:
    used = flow_feed(&c->flow, data, len);
    return flowed(c) ? used : 0;
  case ECHOING:
    return put(c, data, len) ? len : 0;
  case SINKING:
    return sink(c, len) ? len : 0;
  case OVER:
    break;
  }
  return 0;
}

static bool on_readable(struct connection *c) {
  ssize_t n = recv(c->fd, input, sizeof input, 0);
  if (n <= 0)
    return n < 0 && errno == EAGAIN;
  for (size_t at = 0; at < (size_t)n;) {
    size_t used = on_bytes(c, input + at, (size_t)n - at);
    if (used == 0)
      return false;
    at += used;
  }
  return true;
}

static void on_event(struct connection *c, uint32_t events) {
  bool fine = true;
  if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
    fine = on_readable(c);
  if (fine && (events & EPOLLOUT) != 0 && c->flow.sending)
    fine = flow_send(&c->flow) && flowed(c);
  if (!fine)
    drop(c);
}

static void on_connection(int listener) {
  int fd;
  while ((fd = socket_accept(listener)) >= 0) {
    struct connection *c = must_alloc(1, sizeof *c);
    c->fd = fd;
    watch(c, EPOLLIN);
  }
}

int bench_target(const struct bench_options *options) {
  struct epoll_event events[EVENTS];
  uint16_t port = options->port;
  int listener = socket_listen(&port);
  queue = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  epoll_ctl(queue, EPOLL_CTL_ADD, listener, &event);
  say_line("listening %u", (unsigned)port);
  for (;;) {
    int count = epoll_wait(queue, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.ptr == NULL)
        on_connection(listener);
      else
        on_event(events[i].data.ptr, events[i].events);
    }
  }
}
