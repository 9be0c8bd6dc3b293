/* Sockets without a system.  A connection is two pipes; each holds what one end
 * has sent and the other has not read, of which a part has arrived. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "core/container.h"
#include "sim.h"

#define FD_BASE        100000
#define SOCKETS_MAX    512
#define BACKLOG_MAX    64
#define TCP_TIMEOUT_MS 900000

enum cut { CUT_NONE, CUT_RESET, CUT_END, CUT_SILENCE, CUT_RESET_ONE };

/* What the two ends of a connection share. */
struct wire {
  unsigned users;
  bool local; /* a socket pair: nothing happens to it */
  unsigned latency_ms;
  uint64_t cut_bytes; /* after so many, both ways; 0: not */
  enum cut cut;
  uint64_t stall_bytes;
  unsigned stall_ms;
  uint64_t stalled_until_ms;
  uint64_t stalled_from_ms;
  bool silent; /* nothing arrives any more */
  uint64_t moved;
};

struct sim_socket {
  int fd;
  struct wire *wire;
  struct sim_socket *peer; /* NULL: not connected, or gone */
  bool connecting, listening, closed, shut, abortive;
  int error;      /* SO_ERROR, and of the next call */
  bool reset;     /* no bytes any more, either way */
  bool reset_due; /* the peer's reset is on its way */
  int connect_to; /* the error that connecting ends with; 0: it works */
  uint16_t port;
  int backlog[BACKLOG_MAX];
  unsigned backlog_count;
  /* what comes in */
  uint8_t *buffer;
  size_t size, head, len, visible;
  bool end;         /* the peer's FIN is behind the bytes */
  bool end_visible; /* and here */
  struct loop_timer arrive;
  struct loop_timer event; /* connecting, or the reset */
};

static struct sim_socket *sockets[SOCKETS_MAX];
static struct sim_faults faults;
static unsigned faulted;

int __wrap_socket(int domain, int type, int protocol);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_socketpair(int domain, int type, int protocol, int out[2]);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_listen(int fd, int backlog);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *len);
int __wrap_getpeername(int fd, struct sockaddr *address, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_setsockopt(int fd, int level, int name, const void *value,
                      socklen_t len);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags);
int __wrap_shutdown(int fd, int how);
int __wrap_close(int fd);
int __wrap_ioctl(int fd, unsigned long request, ...);

static dstream_loop *the_loop;

/* ---- the table ---- */

void sim_socket_setup(dstream_loop *loop, const struct sim_faults *new_faults) {
  the_loop = loop;
  faults = *new_faults;
}

unsigned sim_tls_verify_permille(void) {
  return faults.verify;
}

unsigned sim_socket_faulted(void) {
  return faulted;
}

unsigned sim_socket_count(void) {
  unsigned count = 0;
  for (int i = 0; i < SOCKETS_MAX; i++)
    count += sockets[i] != NULL && !sockets[i]->closed;
  return count;
}

static struct sim_socket *find(int fd) {
  struct sim_socket *s = NULL;
  if (fd >= FD_BASE && fd < FD_BASE + SOCKETS_MAX)
    s = sockets[fd - FD_BASE];
  SIM_CHECK(s != NULL && !s->closed, "a call with descriptor %d, not open", fd);
  return s;
}

static struct sim_socket *socket_new(void) {
  for (int i = 0; i < SOCKETS_MAX; i++) {
    if (sockets[i] != NULL)
      continue;
    struct sim_socket *s = sim_alloc(sizeof *s);
    s->fd = FD_BASE + i;
    sockets[i] = s;
    return s;
  }
  sim_fail("more than %d sockets", SOCKETS_MAX);
}

static void wire_release(struct wire *wire) {
  if (wire != NULL && --wire->users == 0)
    sim_free(wire);
}

static void socket_free(struct sim_socket *s) {
  loop_timer_cancel(&s->arrive);
  loop_timer_cancel(&s->event);
  sockets[s->fd - FD_BASE] = NULL;
  wire_release(s->wire);
  sim_free(s->buffer);
  sim_free(s);
}

void sim_socket_reset(void) {
  for (int i = 0; i < SOCKETS_MAX; i++)
    if (sockets[i] != NULL)
      socket_free(sockets[i]);
  faulted = 0;
}

/* Both ends closed: nothing is left to arrive. */
static void maybe_free(struct sim_socket *s) {
  struct sim_socket *peer = s->peer;
  if (!s->closed || (peer != NULL && !peer->closed))
    return;
  if (peer != NULL)
    socket_free(peer);
  socket_free(s);
}

/* ---- faults ---- */

static struct wire *wire_new(bool local) {
  struct wire *wire = sim_alloc(sizeof *wire);
  wire->users = 2;
  wire->local = local;
  if (local)
    return wire;
  wire->latency_ms = (unsigned)sim_between(0, faults.latency_ms);
  if (sim_chance(faults.cut)) {
    wire->cut = (enum cut)(CUT_RESET + sim_below(4));
    wire->cut_bytes = 1 + sim_between(0, sim_chance(500) ? 3000 : 60000);
  }
  if (sim_chance(faults.stalled)) {
    wire->stall_bytes = 1 + sim_between(0, sim_chance(500) ? 3000 : 60000);
    wire->stall_ms = (unsigned)sim_between(100, 60000);
  }
  return wire;
}

static void be_reset(struct sim_socket *s) {
  if (s->reset || s->closed)
    return;
  s->reset = true;
  s->error = ECONNRESET;
  s->len = s->visible; /* what had arrived can be read */
  s->end = false;
}

static void on_reset(struct loop_timer *timer) {
  be_reset(CONTAINER_OF(timer, struct sim_socket, event));
}

/* The peer gets a reset, when it arrives. */
static void send_reset(struct sim_socket *from) {
  struct sim_socket *to = from->peer;
  if (to == NULL || to->closed || to->reset || to->reset_due ||
      from->wire->silent)
    return;
  to->reset_due = true;
  loop_timer_set(the_loop, &to->event, sim_below(from->wire->latency_ms + 1),
                 on_reset);
}

/* Like a box in the middle that ends both connections it has. */
static void be_ended(struct sim_socket *s) {
  if (s == NULL || s->closed || s->reset)
    return;
  s->len = s->visible;
  s->end = true;
  s->end_visible = true;
}

/* The system gives up, after about so long (tcp(7), tcp_retries2).  Everybody
 * else has to notice before it does. */
static void on_tcp_timeout(struct loop_timer *timer) {
  struct sim_socket *s = CONTAINER_OF(timer, struct sim_socket, event);
  sim_fail("nobody noticed that connection %d is dead", s->fd);
}

static void await_answer(struct sim_socket *s) {
  if (s == NULL || s->reset || s->closed || s->peer->len == s->peer->visible ||
      s->event.opaque[2] != 0)
    return;
  loop_timer_set(the_loop, &s->event, TCP_TIMEOUT_MS, on_tcp_timeout);
}

static void cut_wire(struct sim_socket *s) {
  struct wire *wire = s->wire;
  enum cut cut = wire->cut;
  wire->cut = CUT_NONE;
  faulted++;
  sim_trace("connection %d-%d cut, kind %d", s->fd,
            s->peer == NULL ? -1 : s->peer->fd, (int)cut);
  if (cut == CUT_END) {
    be_ended(s);
    be_ended(s->peer);
  } else if (cut == CUT_RESET || cut == CUT_RESET_ONE) {
    be_reset(s);
    if (cut == CUT_RESET && s->peer != NULL)
      be_reset(s->peer);
  }
  wire->silent = true;
  wire->stalled_from_ms = loop_now_ms();
  await_answer(s);
  await_answer(s->peer);
}

/* len bytes more have gone through. */
static void wire_moved(struct sim_socket *s, size_t len) {
  struct wire *wire = s->wire;
  wire->moved += len;
  if (wire->cut != CUT_NONE && wire->moved >= wire->cut_bytes)
    cut_wire(s);
  if (wire->stall_ms != 0 && wire->moved >= wire->stall_bytes) {
    faulted++;
    wire->stalled_from_ms = loop_now_ms();
    wire->stalled_until_ms = loop_now_ms() + wire->stall_ms;
    sim_trace("connection of %d stalls for %u ms", s->fd, wire->stall_ms);
    wire->stall_ms = 0;
  }
}

/* ---- arriving ---- */

static void on_arrive(struct loop_timer *timer);

static void expect(struct sim_socket *to) {
  if (to->arrive.loop != NULL && to->arrive.opaque[2] != 0)
    return;
  uint64_t wait = sim_below(to->wire->latency_ms + 1);
  uint64_t now = loop_now_ms();
  if (to->wire->stalled_until_ms > now + wait)
    wait = to->wire->stalled_until_ms - now;
  loop_timer_set(the_loop, &to->arrive, wait, on_arrive);
}

/* How much of what is on its way arrives now. */
static size_t arriving(const struct sim_socket *to) {
  size_t fresh = to->len - to->visible;
  if (fresh < 2 || !faults.split || to->wire->local || !sim_chance(600))
    return fresh;
  size_t most = sim_chance(300) && fresh > 16 ? 16 : fresh;
  return 1 + sim_below(most);
}

static void on_arrive(struct loop_timer *timer) {
  struct sim_socket *to = CONTAINER_OF(timer, struct sim_socket, arrive);
  if (to->reset || to->wire->silent)
    return;
  if (to->wire->stalled_until_ms > loop_now_ms()) {
    expect(to);
    return;
  }
  size_t fresh = arriving(to);
  if (fresh > 0 && to->closed) {
    send_reset(to);
    return;
  }
  to->visible += fresh;
  wire_moved(to, fresh);
  if (to->reset || to->wire->silent)
    return;
  if (to->visible < to->len)
    expect(to);
  else if (to->end)
    to->end_visible = true;
}

/* ---- connecting ---- */

int __wrap_socket(int domain, int type, int protocol) {
  (void)domain;
  (void)type;
  (void)protocol;
  return socket_new()->fd;
}

static void pipes_make(struct sim_socket *a, struct sim_socket *b,
                       struct wire *wire) {
  struct sim_socket *both[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    struct sim_socket *s = both[i];
    s->wire = wire;
    s->peer = both[1 - i];
    s->size =
        wire->local ? 65536 : (size_t)sim_between(512, 512 + faults.buffer);
    s->buffer = sim_alloc(s->size);
  }
}

int __wrap_socketpair(int domain, int type, int protocol, int out[2]) {
  (void)domain;
  (void)type;
  (void)protocol;
  struct sim_socket *a = socket_new();
  struct sim_socket *b = socket_new();
  pipes_make(a, b, wire_new(true));
  out[0] = a->fd;
  out[1] = b->fd;
  return 0;
}

static struct sim_socket *listener_of(uint16_t port) {
  for (int i = 0; i < SOCKETS_MAX; i++) {
    struct sim_socket *s = sockets[i];
    if (s != NULL && s->listening && !s->closed && s->port == port)
      return s;
  }
  return NULL;
}

static void on_connect(struct loop_timer *timer) {
  struct sim_socket *s = CONTAINER_OF(timer, struct sim_socket, event);
  struct sim_socket *listener = listener_of(s->port);
  s->connecting = false;
  if (s->connect_to == 0 &&
      (listener == NULL || listener->backlog_count == BACKLOG_MAX))
    s->connect_to = ECONNREFUSED;
  if (s->connect_to != 0) {
    s->error = s->connect_to;
    s->reset = true;
    return;
  }
  struct sim_socket *other = socket_new();
  pipes_make(s, other, wire_new(false));
  other->port = s->port;
  listener->backlog[listener->backlog_count++] = other->fd;
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len) {
  (void)len;
  struct sim_socket *s = find(fd);
  const struct sockaddr_in *in =
      (const struct sockaddr_in *)(const void *)address;
  if (address->sa_family != AF_INET) {
    errno = ECONNREFUSED;
    return -1;
  }
  s->port = ntohs(in->sin_port);
  s->connecting = true;
  if (sim_chance(faults.refused)) {
    s->connect_to = sim_chance(500) ? ECONNREFUSED : ENETUNREACH;
    faulted++;
  }
  if (sim_chance(faults.unanswered)) {
    faulted++;
    sim_trace("connection %d is never answered", fd);
  } else {
    loop_timer_set(the_loop, &s->event, sim_below(faults.latency_ms + 1),
                   on_connect);
  }
  errno = EINPROGRESS;
  return -1;
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t len) {
  (void)len;
  const struct sockaddr_in *in =
      (const struct sockaddr_in *)(const void *)address;
  find(fd)->port = ntohs(in->sin_port);
  return 0;
}

int __wrap_listen(int fd, int backlog) {
  (void)backlog;
  find(fd)->listening = true;
  return 0;
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len,
                   int flags) {
  (void)address;
  (void)len;
  (void)flags;
  struct sim_socket *s = find(fd);
  if (s->backlog_count == 0) {
    errno = EAGAIN;
    return -1;
  }
  int got = s->backlog[0];
  s->backlog_count--;
  memmove(s->backlog, s->backlog + 1, s->backlog_count * sizeof *s->backlog);
  return got;
}

static int name_of(uint16_t port, struct sockaddr *address, socklen_t *len) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  memcpy(address, &in, sizeof in < *len ? sizeof in : *len);
  *len = sizeof in;
  return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *len) {
  return name_of(find(fd)->port, address, len);
}

int __wrap_getpeername(int fd, struct sockaddr *address, socklen_t *len) {
  struct sim_socket *s = find(fd);
  if (s->peer == NULL || s->wire->local) {
    errno = ENOTCONN;
    return -1;
  }
  return name_of((uint16_t)(FD_BASE % 30000 + fd), address, len);
}

/* ---- moving bytes ---- */

static size_t free_room(const struct sim_socket *s) {
  return s->peer == NULL ? 0 : s->peer->size - s->peer->len;
}

static int broken(struct sim_socket *s) {
  int error = s->error != 0 ? s->error : EPIPE;
  s->error = 0;
  errno = error;
  return -1;
}

static size_t put(struct sim_socket *to, const uint8_t *data, size_t len) {
  size_t n = to->size - to->len < len ? to->size - to->len : len;
  for (size_t i = 0; i < n; i++)
    to->buffer[(to->head + to->len + i) % to->size] = data[i];
  to->len += n;
  return n;
}

static ssize_t send_parts(int fd, const struct iovec *parts, int count) {
  struct sim_socket *s = find(fd);
  if (s->reset || s->shut || s->peer == NULL)
    return broken(s);
  size_t left = free_room(s);
  if (left > 1 && faults.split && !s->wire->local && sim_chance(300))
    left = 1 + sim_below(left);
  if (left == 0) {
    errno = EAGAIN;
    return -1;
  }
  size_t done = 0;
  for (int i = 0; i < count && left > 0; i++) {
    size_t n = parts[i].iov_len < left ? parts[i].iov_len : left;
    if (!s->peer->end_visible) /* else into nothing */
      put(s->peer, parts[i].iov_base, n);
    done += n;
    left -= n;
  }
  if (s->wire->silent)
    await_answer(s);
  else
    expect(s->peer);
  return (ssize_t)done;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
  (void)flags;
  return send_parts(fd, message->msg_iov, (int)message->msg_iovlen);
}

ssize_t __wrap_writev(int fd, const struct iovec *parts, int count) {
  return send_parts(fd, parts, count);
}

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags) {
  union {
    const void *in;
    void *out;
  } cast = {.in = data};
  struct iovec part = {cast.out, len};
  (void)flags;
  return send_parts(fd, &part, 1);
}

ssize_t __wrap_recv(int fd, void *data, size_t size, int flags) {
  (void)flags;
  struct sim_socket *s = find(fd);
  uint8_t *to = data;
  size_t n = s->visible < size ? s->visible : size;
  if (n > 1 && faults.split && !s->wire->local && sim_chance(200))
    n = 1 + sim_below(n);
  if (n > 0) {
    for (size_t i = 0; i < n; i++)
      to[i] = s->buffer[(s->head + i) % s->size];
    s->head = (s->head + n) % s->size;
    s->len -= n;
    s->visible -= n;
    return (ssize_t)n;
  }
  if (s->error != 0)
    return broken(s);
  if (s->reset || s->end_visible)
    return 0;
  errno = EAGAIN;
  return -1;
}

/* ---- ends ---- */

static void send_end(struct sim_socket *s) {
  if (s->shut || s->reset || s->peer == NULL)
    return;
  s->shut = true;
  s->peer->end = true;
  if (!s->wire->silent)
    expect(s->peer);
}

int __wrap_shutdown(int fd, int how) {
  SIM_CHECK(how == SHUT_WR, "shutdown other than of writing");
  send_end(find(fd));
  return 0;
}

void sim_socket_close(int fd) {
  struct sim_socket *s = find(fd);
  loop_timer_cancel(&s->event);
  if (s->peer != NULL && !s->reset) {
    if (s->visible > 0 || s->abortive) {
      s->peer->len = s->peer->visible; /* what was on its way is lost */
      send_reset(s);
    } else {
      send_end(s);
    }
  }
  for (unsigned i = 0; i < s->backlog_count; i++)
    sim_socket_close(s->backlog[i]);
  s->closed = true;
  if (s->peer == NULL)
    socket_free(s);
  else
    maybe_free(s);
}

int __wrap_close(int fd) {
  sim_socket_close(fd);
  return 0;
}

/* ---- looking ---- */

bool sim_socket_ready(int fd, unsigned want, unsigned *ready) {
  const struct sim_socket *s = find(fd);
  if (s->connecting)
    return false;
  bool bad = s->error != 0 || s->reset;
  bool connected = s->peer != NULL;
  *ready = 0;
  if (s->listening ? s->backlog_count > 0
                   : bad || s->visible > 0 || s->end_visible)
    *ready |= LOOP_READ;
  if (bad || (connected && (s->shut || free_room(s) > 0)))
    *ready |= LOOP_WRITE;
  *ready &= want;
  return *ready != 0;
}

static int info_of(const struct sim_socket *s, void *value, socklen_t *len) {
  struct tcp_info info;
  memset(&info, 0, sizeof info);
  uint64_t now = loop_now_ms();
  bool waits = s->peer != NULL && s->peer->len > s->peer->visible;
  bool deaf = s->wire->silent || now < s->wire->stalled_until_ms;
  if (waits && deaf && now > s->wire->stalled_from_ms + 3000) {
    info.tcpi_retransmits = 5;
    info.tcpi_last_ack_recv = info.tcpi_last_data_recv =
        (unsigned)(now - s->wire->stalled_from_ms);
  }
  memcpy(value, &info, sizeof info < *len ? sizeof info : *len);
  return 0;
}

int __wrap_getsockopt(int fd, int level, int name, void *value,
                      socklen_t *len) {
  struct sim_socket *s = find(fd);
  if (level == SOL_SOCKET && name == SO_ERROR) {
    memcpy(value, &s->error, sizeof s->error);
    s->error = 0;
    return 0;
  }
  if (level == IPPROTO_TCP && name == TCP_INFO && s->wire != NULL)
    return info_of(s, value, len);
  errno = EINVAL;
  return -1;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value,
                      socklen_t len) {
  struct sim_socket *s = find(fd);
  (void)value;
  (void)len;
  if (level == SOL_SOCKET && name == SO_LINGER)
    s->abortive = true;
  return 0;
}

/* Only TIOCOUTQ: what the peer's system has not taken; it takes half a pipe. */
int __wrap_ioctl(int fd, unsigned long request, ...) {
  va_list args;
  va_start(args, request);
  int *out = va_arg(args, int *);
  va_end(args);
  const struct sim_socket *s = find(fd);
  SIM_CHECK(request == TIOCOUTQ, "ioctl %lx", request);
  *out = 0;
  if (s->peer != NULL) {
    size_t there = s->peer->visible;
    if (there > s->peer->size / 2)
      there = s->peer->size / 2;
    *out = (int)(s->peer->len - there);
  }
  return 0;
}
