#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/bench.h"

#define WAIT_MS 60000

static struct sockaddr_in loopback(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static int new_socket(void) {
  const int one = 1;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    die("no socket");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

int socket_listen(uint16_t *port) {
  const int one = 1;
  struct sockaddr_in address = loopback(*port);
  socklen_t len = sizeof address;
  int fd = new_socket();
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  socket_blocking(fd, false);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
      listen(fd, 4096) != 0 ||
      getsockname(fd, (struct sockaddr *)&address, &len) != 0)
    die("can't listen on port %u", (unsigned)*port);
  *port = ntohs(address.sin_port);
  return fd;
}

int socket_accept(int listener) {
  const int one = 1;
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0)
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

int socket_connect(uint16_t port) {
  struct sockaddr_in address = loopback(port);
  int fd = new_socket();
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
    die("can't connect to port %u", (unsigned)port);
  return fd;
}

int socket_begin(uint16_t port) {
  struct sockaddr_in address = loopback(port);
  int fd = new_socket();
  socket_blocking(fd, false);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 &&
      errno != EINPROGRESS)
    die("can't connect to port %u", (unsigned)port);
  return fd;
}

void socket_blocking(int fd, bool blocking) {
  int flags = fcntl(fd, F_GETFL);
  fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

void socket_send(int fd, const void *data, size_t len) {
  const char *from = data;
  while (len > 0) {
    ssize_t n = send(fd, from, len, MSG_NOSIGNAL);
    if (n < 0)
      die("a connection broke");
    from += n;
    len -= (size_t)n;
  }
}

void socket_receive(int fd, void *data, size_t len) {
  char *to = data;
  while (len > 0) {
    errno = 0;
    ssize_t n = recv(fd, to, len, 0);
    if (n <= 0)
      die("a connection ended");
    to += n;
    len -= (size_t)n;
  }
}

/* ---- free ports ---- */

int bench_ports(unsigned count) {
  unsigned found = 0;
  uint64_t seed = now_ns();
  int *fds = must_alloc(count, sizeof *fds);
  for (unsigned i = 0; i < 10000 && found < count; i++) {
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    uint16_t port = (uint16_t)(20000 + (seed >> 33) % 12000);
    struct sockaddr_in address = loopback(port);
    int fd = new_socket();
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
      close(fd);
      continue;
    }
    fds[found++] = fd; /* held, so that none comes twice */
    printf("%u\n", (unsigned)port);
  }
  if (found < count)
    die("no %u free ports", count);
  for (unsigned i = 0; i < count; i++)
    close(fds[i]);
  free(fds);
  return 0;
}

/* ---- many connections ---- */

struct opening {
  struct pollfd *slots;
  unsigned *which; /* connection of each slot */
  unsigned used;
  unsigned begun;
  unsigned done;
};

static void open_next(struct opening *o, uint16_t port) {
  o->slots[o->used].fd = socket_begin(port);
  o->slots[o->used].events = POLLOUT;
  o->which[o->used++] = o->begun++;
}

/* True: its first byte came. */
static bool open_step(struct pollfd *slot,
                      const struct bench_request *request) {
  char byte;
  if (slot->events == POLLOUT) {
    if (send(slot->fd, request, sizeof *request, MSG_NOSIGNAL) !=
        (ssize_t)sizeof *request)
      die("can't send a request");
    slot->events = POLLIN;
    return false;
  }
  errno = 0;
  if (recv(slot->fd, &byte, 1, 0) != 1 || byte != BENCH_READY)
    die("a new connection ended");
  return true;
}

void open_many(const struct bench_options *options,
               const struct bench_request *request, unsigned count, int *fds) {
  unsigned width = options->width < count ? options->width : count;
  struct opening o = {must_alloc(width + 1, sizeof *o.slots),
                      must_alloc(width + 1, sizeof *o.which), 0, 0, 0};
  while (o.done < count) {
    while (o.used < width && o.begun < count)
      open_next(&o, options->port);
    if (poll(o.slots, o.used, WAIT_MS) <= 0)
      die("%u of %u connections got no byte", o.used, count);
    for (unsigned i = o.used; i-- > 0;) {
      if (o.slots[i].revents == 0 || !open_step(&o.slots[i], request))
        continue;
      if (fds == NULL) {
        close(o.slots[i].fd);
      } else {
        socket_blocking(o.slots[i].fd, true);
        fds[o.which[i]] = o.slots[i].fd;
      }
      o.done++;
      o.slots[i] = o.slots[--o.used];
      o.which[i] = o.which[o.used];
    }
  }
  free(o.slots);
  free(o.which);
}
