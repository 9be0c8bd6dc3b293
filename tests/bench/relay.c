/* A TCP relay: what comes is sent on --delay-ms later (0: at once), in order.
 * What is under way waits in a ring of 64 MiB for each direction, which holds
 * 50 ms of more than 1 GB/s: it is the delay and not the ring that a peer with
 * a window of its own runs into.  Without --to it is an HTTP proxy that knows
 * CONNECT (to this machine only). */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"

#define LARGE  (64u << 20)
#define SMALL  (512u << 10) /* where nothing is delayed */
#define READ   (256u << 10)
#define PIECES 16384u /* with their due times; a read makes one */
#define EVENTS 64
#define HEAD   2048

struct piece {
  uint64_t due_ns;
  uint64_t end; /* of its bytes, counted from the first byte of all */
};

/* One direction. */
struct half {
  uint8_t *ring;
  struct piece *pieces;
  uint64_t in; /* bytes */
  uint64_t out;
  uint64_t first; /* pieces */
  uint64_t last;
  bool ended; /* no more comes */
  bool told;  /* and the other side was told */
};

struct side {
  struct pair *pair;
  int fd;
  uint32_t events;
  struct half from; /* what comes from here */
};

struct pair {
  struct pair *next;
  struct side sides[2];
  bool joined; /* CONNECT was heard, or there is none */
  bool dead;
};

static struct {
  int queue;
  uint64_t delay_ns;
  size_t ring; /* bytes of each */
  struct pair *pairs;
} relay;

static struct side *other(struct side *s) {
  return s == &s->pair->sides[0] ? &s->pair->sides[1] : &s->pair->sides[0];
}

static void watch(struct side *s, uint32_t events) {
  struct epoll_event event = {.events = events, .data = {.ptr = s}};
  if (events == s->events)
    return;
  if (epoll_ctl(relay.queue, EPOLL_CTL_MOD, s->fd, &event) != 0)
    die("epoll");
  s->events = events;
}

static void new_side(struct pair *pair, struct side *s, int fd) {
  struct epoll_event event = {.data = {.ptr = s}};
  s->pair = pair;
  s->fd = fd;
  s->from.ring = mmap(NULL, relay.ring, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (s->from.ring == MAP_FAILED)
    die("no memory");
  s->from.pieces = must_alloc(PIECES, sizeof *s->from.pieces);
  if (epoll_ctl(relay.queue, EPOLL_CTL_ADD, fd, &event) != 0)
    die("epoll");
}

static void free_side(struct side *s) {
  if (s->from.ring == NULL)
    return;
  munmap(s->from.ring, relay.ring);
  free(s->from.pieces);
  close(s->fd);
}

/* ---- bytes ---- */

/* Where the next byte goes, and how many fit there. */
static size_t room(const struct half *h) {
  size_t at = h->in % relay.ring;
  size_t left = relay.ring - (size_t)(h->in - h->out);
  size_t straight = relay.ring - at < left ? relay.ring - at : left;
  if (h->last - h->first == PIECES)
    return 0;
  return straight < READ ? straight : READ;
}

static void take(struct side *s) {
  struct half *h = &s->from;
  size_t fits = room(h);
  if (h->ended || fits == 0)
    return;
  ssize_t n = recv(s->fd, h->ring + h->in % relay.ring, fits, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n < 0)
    s->pair->dead = true;
  if (n <= 0) {
    h->ended = true;
    return;
  }
  h->in += (uint64_t)n;
  h->pieces[h->last++ % PIECES] = (struct piece){
      relay.delay_ns == 0 ? 0 : now_ns() + relay.delay_ns, h->in};
}

/* How many bytes may go now. */
static uint64_t due(const struct half *h, uint64_t now) {
  uint64_t end = h->out;
  for (uint64_t i = h->first; i != h->last; i++) {
    if (h->pieces[i % PIECES].due_ns > now)
      break;
    end = h->pieces[i % PIECES].end;
  }
  return end - h->out;
}

static void sent(struct half *h, size_t n) {
  h->out += n;
  while (h->first != h->last && h->pieces[h->first % PIECES].end <= h->out)
    h->first++;
  if (h->first == h->last) /* begin anew, in memory that the cache knows */
    h->in = h->out = 0;
}

/* Sends what is due; true: the socket is full. */
static bool give(struct side *to, struct half *h, uint64_t now) {
  uint64_t len;
  while ((len = due(h, now)) > 0) {
    size_t at = h->out % relay.ring;
    size_t straight = relay.ring - at < len ? relay.ring - at : (size_t)len;
    ssize_t n = send(to->fd, h->ring + at, straight, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN)
      return true;
    if (n < 0) {
      to->pair->dead = true;
      return false;
    }
    sent(h, (size_t)n);
  }
  if (h->ended && h->first == h->last && !h->told) {
    shutdown(to->fd, SHUT_WR);
    h->told = true;
  }
  return false;
}

static void settle_pair(struct pair *pair, uint64_t now) {
  for (int i = 0; i < 2 && !pair->dead; i++) {
    struct side *to = &pair->sides[i];
    bool full = give(to, &other(to)->from, now);
    uint32_t events = to->events & ~(uint32_t)EPOLLOUT;
    watch(to, full ? events | EPOLLOUT : events);
  }
  for (int i = 0; i < 2 && !pair->dead; i++) {
    struct side *from = &pair->sides[i];
    bool reads = !from->from.ended && room(&from->from) > 0;
    uint32_t events = from->events & ~(uint32_t)EPOLLIN;
    watch(from, reads ? events | EPOLLIN : events);
  }
  if (pair->sides[0].from.told && pair->sides[1].from.told)
    pair->dead = true;
}

/* ---- connections ---- */

static void join(struct pair *pair, uint16_t port) {
  int fd = socket_connect(port);
  socket_blocking(fd, false);
  new_side(pair, &pair->sides[1], fd);
  pair->joined = true;
}

/* The client waits for the answer, so that nothing follows the head. */
static void hear_connect(struct pair *pair) {
  static const char ok[] = "HTTP/1.1 200 OK\r\n\r\n";
  char head[HEAD];
  ssize_t n = recv(pair->sides[0].fd, head, sizeof head - 1, MSG_PEEK);
  if (n < 0 && errno == EAGAIN)
    return;
  pair->dead = n <= 0;
  if (pair->dead)
    return;
  head[n] = '\0';
  if (strstr(head, "\r\n\r\n") == NULL)
    return;
  const char *colon = strchr(head, ':');
  unsigned long port = colon == NULL ? 0 : strtoul(colon + 1, NULL, 10);
  if (strncmp(head, "CONNECT ", 8) != 0 || port == 0 || port > 65535) {
    pair->dead = true;
    return;
  }
  recv(pair->sides[0].fd, head, (size_t)n, 0);
  join(pair, (uint16_t)port);
  socket_send(pair->sides[0].fd, ok, sizeof ok - 1);
}

static void on_connection(int listener, uint16_t to) {
  int fd;
  while ((fd = socket_accept(listener)) >= 0) {
    struct pair *pair = must_alloc(1, sizeof *pair);
    new_side(pair, &pair->sides[0], fd);
    watch(&pair->sides[0], EPOLLIN);
    pair->next = relay.pairs;
    relay.pairs = pair;
    if (to != 0)
      join(pair, to);
    if (pair->joined)
      settle_pair(pair, 0);
  }
}

static void on_event(struct side *s, uint32_t events) {
  struct pair *pair = s->pair;
  if (pair->dead)
    return;
  if (!pair->joined) {
    hear_connect(pair);
  } else {
    if ((events & ~(uint32_t)EPOLLOUT) != 0)
      take(s);
    if ((events & EPOLLERR) != 0)
      pair->dead = true;
  }
  if (pair->joined)
    settle_pair(pair, relay.delay_ns == 0 ? 0 : now_ns());
}

static void reap(void) {
  for (struct pair **at = &relay.pairs; *at != NULL;) {
    struct pair *pair = *at;
    if (!pair->dead) {
      at = &pair->next;
      continue;
    }
    *at = pair->next;
    free_side(&pair->sides[0]);
    free_side(&pair->sides[1]);
    free(pair);
  }
}

/* Sends what has become due; when the next will be, in ns from now, or -1. */
static int64_t tick(void) {
  uint64_t now = now_ns();
  uint64_t next = UINT64_MAX;
  if (relay.delay_ns == 0)
    return -1;
  for (struct pair *pair = relay.pairs; pair != NULL; pair = pair->next) {
    if (pair->dead || !pair->joined)
      continue;
    settle_pair(pair, now);
    for (int i = 0; i < 2; i++) {
      const struct half *h = &pair->sides[i].from;
      if (h->first != h->last) {
        uint64_t at = h->pieces[h->first % PIECES].due_ns;
        if (at > now && at < next)
          next = at;
      }
    }
  }
  return next == UINT64_MAX ? -1 : (int64_t)(next - now);
}

int bench_relay(const struct bench_options *options) {
  struct epoll_event events[EVENTS];
  uint16_t port = options->port;
  int listener = socket_listen(&port);
  struct epoll_event event = {.events = EPOLLIN};
  relay.queue = epoll_create1(EPOLL_CLOEXEC);
  relay.delay_ns = (uint64_t)options->delay_ms * 1000000;
  relay.ring = relay.delay_ns == 0 ? SMALL : LARGE;
  epoll_ctl(relay.queue, EPOLL_CTL_ADD, listener, &event);
  say_line("listening %u", (unsigned)port);
  for (;;) {
    int64_t wait = tick();
    const struct timespec until = {wait / 1000000000, wait % 1000000000};
    int count = epoll_pwait2(relay.queue, events, EVENTS,
                             wait < 0 ? NULL : &until, NULL);
    for (int i = 0; i < count; i++) {
      if (events[i].data.ptr == NULL)
        on_connection(listener, options->to);
      else
        on_event(events[i].data.ptr, events[i].events);
    }
    reap();
  }
}
