#include "net/link.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"
#include "net/resolve.h"

/* Room in the send buffer that only control messages may use. */
#define CONTROL_RESERVE (3 * 1024)
/* Less free room than this is as good as none: small records cost most. */
#define USEFUL_SPACE 4096
/* How often the owner may fill the send buffer before the loop looks at others:
 * a peer that is quick enough would keep it busy for ever. */
#define DRAINS_MAX 4
/* With several addresses, how long one may take. */
#define ADDRESS_TIMEOUT_MS 4000
/* After this long without a byte a link gives its TLS buffers back; it keeps
 * them in between once bytes have moved so many times. */
#define IDLE_MS          2000
#define MOVES_UNTIL_BUSY 16
/* A unix socket whose backlog is full refuses at once. */
#define UNIX_RETRY_MS 5

enum link_state {
  LINK_RESOLVING,  /* awaits the addresses.  CONNECTING, ENDED */
  LINK_CONNECTING, /* awaits TCP.  CONNECTING (next address), PROXYING, TLS,
                      UP, ENDED */
  LINK_PROXYING,   /* awaits the proxy's answer.  TLS, UP, ENDED */
  LINK_TLS,        /* awaits the handshake.  UP, ENDED */
  LINK_UP,         /* bytes both ways.  ENDED */
  LINK_ENDED       /* on_end was told; what is queued may still be sent */
};

struct link {
  dstream_loop *loop;
  enum link_state state;
  struct link_callbacks callbacks;
  void *user;

  struct loop_watch watch;
  struct loop_timer timer; /* connect timeout, address timeout, linger */
  struct loop_task work;   /* flush and resume, once for each callback */
  struct loop_task free_task;
  struct resolve_query query;
  uint64_t connect_deadline_ms;

  struct tls *tls;
  const struct tls_config *tls_config;
  char host[256];
  uint16_t port;
  struct link_proxy proxy;
  struct resolve_answer *answer; /* while connecting */
  bool unix_path;                /* host is the path of a unix socket */
  unsigned next_address;
  int socket_buffer;

  struct ring out;
  size_t out_size;
  bool want_drain;
  unsigned drains; /* told since the loop was here last */
  bool shut;       /* link_shutdown was called */
  bool shut_done;  /* the FIN is out */

  uint8_t *held; /* decrypted bytes that the owner did not take */
  size_t held_len;
  size_t held_at;
  uint8_t *stash; /* ciphertext behind them */
  size_t stash_len;
  bool paused;
  bool resume;    /* link_resume was called, the task is to do it */
  bool peer_done; /* FIN or close_notify came */
  bool in_read;
  bool lingering; /* link_close was called */
  bool broken;    /* TLS could not encrypt: link_work tells */
  bool dead;      /* free when the callback has returned */
  unsigned moves; /* since the link was idle */
  bool busy;      /* bytes moved since idle_timer was set */
  bool idle_armed;
  struct loop_timer idle_timer;

  struct dstream_end last_error; /* of the last address that failed */
  char peer[INET6_ADDRSTRLEN + 9];
};

static void link_on_events(struct loop_watch *watch, unsigned events);
static void link_fail(struct link *link, const struct dstream_end *why);
static void link_schedule(struct link *link);
static void link_try_address(struct link *link);
static void link_try_unix(struct link *link);
static void link_deliver(struct link *link);

static struct link *link_of_watch(struct loop_watch *watch) {
  return CONTAINER_OF(watch, struct link, watch);
}

static void set_state(struct link *link, enum link_state state) {
  assert(state > link->state ||
         (state == LINK_CONNECTING && link->state == LINK_CONNECTING));
  link->state = state;
}

/* ---- life ---- */

static void link_free_now(struct loop_task *task) {
  struct link *link = CONTAINER_OF(task, struct link, free_task);
  free(link);
}

/* Releases everything; the memory itself goes when no callback of the link can
 * be on the stack any more. */
static void link_destroy(struct link *link) {
  if (link->dead)
    return;
  link->dead = true;
  loop_watch_close(&link->watch);
  loop_timer_cancel(&link->timer);
  loop_timer_cancel(&link->idle_timer);
  loop_task_cancel(&link->work);
  resolve_cancel(&link->query);
  tls_free(link->tls);
  link->tls = NULL;
  if (link->out.buffer != NULL) {
    if (link->out.size == LOOP_CHUNK)
      loop_chunk_put(link->loop, link->out.buffer);
    else
      free(link->out.buffer);
    link->out = (struct ring){0};
  }
  free(link->answer);
  free(link->held);
  free(link->stash);
  link->answer = NULL;
  link->held = NULL;
  link->stash = NULL;
  crypto_wipe(link->proxy.authorization, sizeof link->proxy.authorization);
  loop_defer(link->loop, &link->free_task, link_free_now);
}

void link_abort(struct link *link) {
  if (link != NULL)
    link_destroy(link);
}

static struct link *link_new(dstream_loop *loop,
                             const struct link_options *options,
                             const struct link_callbacks *callbacks,
                             void *user) {
  struct link *link = calloc(1, sizeof *link);
  if (link == NULL)
    return NULL;
  link->loop = loop;
  link->callbacks = *callbacks;
  link->user = user;
  link->tls_config = options->tls;
  link->out_size =
      options->send_buffer == 0 ? LOOP_CHUNK : options->send_buffer;
  assert(link->out_size >= 2 * LOOP_RECORD);
  link->socket_buffer = options->socket_buffer;
  return link;
}

static void end_timed_out(struct dstream_end *end, const struct link *link) {
  static const char *const doing[] = {
      [LINK_RESOLVING] = "looking up",
      [LINK_CONNECTING] = "connecting to",
      [LINK_PROXYING] = "waiting for the proxy to reach",
      [LINK_TLS] = "the TLS handshake with",
  };
  end_set(end, DSTREAM_ETIMEDOUT, "timed out %s %s:%u", doing[link->state],
          link->host, (unsigned)link->port);
}

static void link_on_timer(struct loop_timer *timer) {
  struct link *link = CONTAINER_OF(timer, struct link, timer);
  if (link->lingering) {
    link_destroy(link);
    return;
  }
  struct dstream_end end;
  end_timed_out(&end, link);
  bool over = link->connect_deadline_ms != 0 &&
              loop_now_ms() >= link->connect_deadline_ms;
  if (!over && link->unix_path && link->watch.fd < 0) {
    link_try_unix(link);
  } else if (!over && link->state == LINK_CONNECTING) {
    link->last_error = end;
    loop_watch_close(&link->watch);
    link_try_address(link);
  } else {
    link_fail(link, &end);
  }
}

/* The timer while not yet up: the address's share, or all that is left. */
static void arm_connect_timer(struct link *link) {
  uint64_t wait = UINT64_MAX;
  if (link->connect_deadline_ms != 0) {
    uint64_t now = loop_now_ms();
    wait =
        now < link->connect_deadline_ms ? link->connect_deadline_ms - now : 0;
  }
  if (link->state == LINK_CONNECTING && link->answer != NULL &&
      link->next_address < link->answer->count && wait > ADDRESS_TIMEOUT_MS)
    wait = ADDRESS_TIMEOUT_MS;
  if (wait != UINT64_MAX)
    loop_timer_set(link->loop, &link->timer, wait, link_on_timer);
  else
    loop_timer_cancel(&link->timer);
}

/* ---- sending ---- */

static bool out_ready(struct link *link) {
  if (link->out.buffer != NULL)
    return true;
  link->out.size = link->out_size;
  link->out.head = link->out.len = 0;
  link->out.buffer = link->out_size == LOOP_CHUNK ? loop_chunk_get(link->loop)
                                                  : malloc(link->out_size);
  return link->out.buffer != NULL;
}

static void out_release(struct link *link) {
  if (link->out.len == 0 && link->out.buffer != NULL &&
      link->out.size == LOOP_CHUNK) {
    loop_chunk_put(link->loop, link->out.buffer);
    link->out.buffer = NULL;
  }
}

static void on_idle_timer(struct loop_timer *timer) {
  struct link *link = CONTAINER_OF(timer, struct link, idle_timer);
  if (link->busy) {
    link->busy = false;
    loop_timer_set(link->loop, &link->idle_timer, IDLE_MS, on_idle_timer);
  } else {
    link->idle_armed = false;
    link->moves = 0;
    tls_release_buffers(link->tls);
  }
}

/* Bytes moved.  A link that has just begun gives its TLS buffers back at once,
 * as most are idle for long after their handshake; one that goes on keeps them
 * until it is idle.  The timer runs only meanwhile: an idle link wakes nobody.
 */
static void link_moved(struct link *link) {
  if (link->tls == NULL)
    return;
  if (link->moves < MOVES_UNTIL_BUSY) {
    link->moves++;
    tls_release_buffers(link->tls);
    return;
  }
  link->busy = true;
  if (link->idle_armed)
    return;
  link->idle_armed = true;
  loop_timer_set(link->loop, &link->idle_timer, IDLE_MS, on_idle_timer);
}

/* The owner waits for room, there is room, but it is others' turn. */
static bool drain_later(const struct link *link) {
  return link->want_drain && link->state == LINK_UP &&
         link->drains >= DRAINS_MAX && link->out.len <= link->out_size / 2;
}

static void update_want(struct link *link) {
  if (link->watch.fd < 0 || link->state < LINK_CONNECTING || link->dead)
    return;
  unsigned want = 0;
  if (link->state == LINK_CONNECTING || link->out.len > 0 || drain_later(link))
    want |= LOOP_WRITE;
  if (link->state != LINK_CONNECTING && !link->paused && !link->peer_done)
    want |= LOOP_READ;
  loop_watch_want(&link->watch, want);
}

static ssize_t send_ring(struct link *link) {
  struct iovec parts[2];
  size_t first = 0;
  const uint8_t *front = ring_front(&link->out, &first);
  /* sendmsg reads through the pointers only. */
  union {
    const uint8_t *in;
    void *out;
  } cast = {.in = front};
  parts[0] = (struct iovec){cast.out, first};
  parts[1] = (struct iovec){link->out.buffer, link->out.len - first};
  struct msghdr message = {.msg_iov = parts,
                           .msg_iovlen = parts[1].iov_len > 0 ? 2 : 1};
  return sendmsg(link->watch.fd, &message, MSG_NOSIGNAL);
}

/* Sends what is queued.  False: the connection broke and on_end was told. */
static bool link_flush(struct link *link) {
  while (link->out.len > 0) {
    ssize_t n = send_ring(link);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      break;
    if (n < 0) {
      struct dstream_end end;
      int error = errno;
      end_set(&end, DSTREAM_EIO, "the connection to %s broke: %s",
              link->peer[0] != '\0' ? link->peer : link->host, strerror(error));
      end.sys_errno = error;
      link_fail(link, &end);
      return false;
    }
    bool all = (size_t)n == link->out.len;
    ring_drop(&link->out, (size_t)n);
    if (link->callbacks.on_sent != NULL && n > 0)
      link->callbacks.on_sent(link->user);
    if (!all || link->dead)
      break; /* the socket is full: no call to be told so */
  }
  return !link->dead;
}

static void finish_shutdown(struct link *link) {
  if (!link->shut || link->out.len > 0)
    return;
  if (!link->shut_done)
    shutdown(link->watch.fd, SHUT_WR);
  link->shut_done = true;
  if (link->lingering && link->peer_done)
    link_destroy(link);
}

static void tell_drain(struct link *link) {
  if (!link->want_drain || link->state != LINK_UP)
    return;
  if (link->out.len > link->out_size / 2 || link->drains >= DRAINS_MAX)
    return;
  link->want_drain = false;
  link->drains++;
  if (link->callbacks.on_drain != NULL)
    link->callbacks.on_drain(link->user);
}

static void fail_broken(struct link *link) {
  struct dstream_end end;
  end_set(&end, DSTREAM_ETLS, "TLS with %s failed while sending",
          link->peer[0] != '\0' ? link->peer : link->host);
  link_fail(link, &end);
}

/* The end of a callback in which something was queued or resumed. */
static void link_work(struct loop_task *task) {
  struct link *link = CONTAINER_OF(task, struct link, work);
  if (link->broken) {
    fail_broken(link);
    return;
  }
  if (!link_flush(link))
    return;
  if (link->resume) {
    link->resume = false;
    link->paused = false;
    link_deliver(link);
    if (link->dead || !link_flush(link))
      return;
    if (link->resume && link->out.len == 0)
      link_schedule(link);
  }
  finish_shutdown(link);
  if (!link->dead)
    tell_drain(link);
  if (link->dead)
    return;
  link_moved(link);
  out_release(link);
  update_want(link);
}

static void link_schedule(struct link *link) {
  loop_defer(link->loop, &link->work, link_work);
}

size_t link_space(struct link *link) {
  if (link->state != LINK_UP || link->shut)
    return 0;
  size_t room =
      link->out.buffer == NULL ? link->out_size : ring_free(&link->out);
  size_t reserve = CONTROL_RESERVE + TLS_RECORD_OVERHEAD;
  room = room > reserve ? room - reserve : 0;
  if (room < USEFUL_SPACE || !out_ready(link)) {
    link->want_drain = true;
    return 0;
  }
  return room < LOOP_RECORD ? room : LOOP_RECORD;
}

bool link_has_control_space(const struct link *link) {
  size_t room =
      link->out.buffer == NULL ? link->out_size : ring_free(&link->out);
  return link->state == LINK_UP && !link->shut &&
         room >= 1024 + TLS_RECORD_OVERHEAD;
}

void link_write(struct link *link, const void *data, size_t len) {
  if (link->state != LINK_UP || link->shut || !out_ready(link))
    return;
  assert(len + TLS_RECORD_OVERHEAD <= ring_free(&link->out));
  if (link->tls == NULL)
    ring_put(&link->out, data, len);
  else if (tls_write(link->tls, data, len) != DSTREAM_OK)
    link->broken = true;
  link_schedule(link);
}

void link_shutdown(struct link *link) {
  if (link->shut)
    return;
  link->shut = true;
  if (link->tls != NULL && link->state >= LINK_UP && out_ready(link))
    tls_shutdown(link->tls);
  link_schedule(link);
}

/* ---- the end ---- */

/* The peer's direction ended in the orderly way. */
static void link_end(struct link *link) {
  if (link->peer_done)
    return;
  link->peer_done = true;
  update_want(link);
  if (link->callbacks.on_end != NULL)
    link->callbacks.on_end(link->user, NULL);
}

static void link_fail(struct link *link, const struct dstream_end *why) {
  if (link->state == LINK_ENDED)
    return;
  if (link->lingering) {
    link_destroy(link);
    return;
  }
  struct dstream_end copy = *why;
  set_state(link, LINK_ENDED);
  loop_timer_cancel(&link->timer);
  link->peer_done = true;
  free(link->answer);
  link->answer = NULL;
  ring_drop(&link->out, link->out.len);
  update_want(link);
  if (link->callbacks.on_end != NULL)
    link->callbacks.on_end(link->user, &copy);
}

static size_t drop_data(void *user, uint8_t *data, size_t len) {
  (void)user;
  (void)data;
  return len;
}

static void linger_end(void *user, const struct dstream_end *why) {
  (void)why;
  struct link *link = user;
  if (link->out.len == 0 && link->shut_done)
    link_destroy(link);
}

static const struct link_callbacks linger_callbacks = {.on_data = drop_data,
                                                       .on_end = linger_end};

void link_close(struct link *link, uint64_t linger_ms) {
  if (link == NULL)
    return;
  if (link->state < LINK_UP || linger_ms == 0 || link->watch.fd < 0) {
    link_destroy(link);
    return;
  }
  link->callbacks = linger_callbacks;
  link->user = link;
  link->lingering = true;
  link_shutdown(link);
  link_schedule(link); /* both directions may have ended before */
  loop_timer_set(link->loop, &link->timer, linger_ms, link_on_timer);
  if (link->paused)
    link_resume(link);
}

/* ---- receiving ---- */

/* Keeps what could not be told: rest, and the ciphertext behind it. */
static bool link_hold(struct link *link, const uint8_t *rest, size_t len) {
  link->paused = true;
  if (len > 0) {
    link->held = malloc(len);
    if (link->held == NULL)
      return false;
    memcpy(link->held, rest, len);
  }
  link->held_len = len;
  link->held_at = 0;
  if (link->tls == NULL)
    return true;
  size_t left = 0;
  const uint8_t *in = tls_input(link->tls, &left);
  if (left > 0 && in != link->stash) {
    uint8_t *copy = malloc(left);
    if (copy == NULL)
      return false;
    memcpy(copy, in, left);
    free(link->stash);
    link->stash = copy;
    link->stash_len = left;
    tls_set_input(link->tls, copy, left);
  }
  return true;
}

static void fail_no_memory(struct link *link) {
  struct dstream_end end;
  end_set(&end, DSTREAM_ENOMEM, "out of memory on a connection");
  link_fail(link, &end);
}

/* Tells bytes; false: the owner took not all (they are held) or the link
 * ended. */
static bool link_tell(struct link *link, uint8_t *data, size_t len) {
  size_t used = link->callbacks.on_data(link->user, data, len);
  if (link->dead || link->state == LINK_ENDED)
    return false;
  if (used == len)
    return true;
  if (!link_hold(link, data + used, len - used))
    fail_no_memory(link);
  return false;
}

static void link_up(struct link *link) {
  set_state(link, LINK_UP);
  loop_timer_cancel(&link->timer);
  free(link->answer);
  link->answer = NULL;
  if (link->callbacks.on_up != NULL)
    link->callbacks.on_up(link->user);
}

/* Goes on with the handshake; true when it is done. */
static bool link_handshake(struct link *link) {
  struct dstream_end error;
  if (!out_ready(link)) {
    fail_no_memory(link);
    return false;
  }
  int status = tls_handshake(link->tls, &error);
  link_schedule(link);
  if (status == DSTREAM_EAGAIN)
    return false;
  if (status != DSTREAM_OK) {
    char text[DSTREAM_TEXT_MAX];
    snprintf(text, sizeof text, "%s", error.text);
    if (link->host[0] != '\0')
      end_set(&error, status, "%s:%u: %.200s", link->host, (unsigned)link->port,
              text);
    /* The alert says why to the peer, if it still gets out. */
    if (link->out.len > 0)
      (void)send_ring(link);
    link_fail(link, &error);
    return false;
  }
  link_up(link);
  return !link->dead && link->state == LINK_UP;
}

/* Decrypts and tells what the input holds. */
static void link_pump_tls(struct link *link) {
  struct dstream_end error;
  if (link->state == LINK_TLS && !link_handshake(link))
    return;
  uint8_t *plain = loop_plain_buffer(link->loop);
  while (!link->paused && !link->dead && !link->peer_done) {
    long n = tls_read(link->tls, plain, LOOP_RECORD, &error);
    if (n > 0) {
      if (!link_tell(link, plain, (size_t)n))
        return;
    } else if (n == DSTREAM_EAGAIN) {
      size_t left = 0;
      tls_input(link->tls, &left);
      if (left > 0 && tls_blocked(link->tls)) {
        link->want_drain = true;
        if (!link_hold(link, NULL, 0))
          fail_no_memory(link);
        link->resume = true; /* as soon as something could be sent */
      }
      return;
    } else if (n == 0) {
      link_end(link);
    } else {
      link_fail(link, &error);
    }
  }
}

static void end_of_file(struct link *link) {
  struct dstream_end end;
  switch (link->state) {
  case LINK_UP:
    link_end(link);
    return;
  case LINK_PROXYING:
    end_set(&end, DSTREAM_EPROXY, "the proxy %s:%u closed the connection",
            link->proxy.host, (unsigned)link->proxy.port);
    break;
  default:
    end_set(&end, DSTREAM_ETLS,
            "%s closed the connection during the TLS handshake",
            link->host[0] != '\0' ? link->host : "the peer");
  }
  link_fail(link, &end);
}

static void start_tls_or_up(struct link *link) {
  if (link->tls == NULL) {
    link_up(link);
    return;
  }
  set_state(link, LINK_TLS);
  arm_connect_timer(link);
  link_handshake(link);
}

static void link_read_proxy(struct link *link, const uint8_t *data,
                            size_t len) {
  struct dstream_end end;
  if (link->stash_len + len > LINK_PROXY_HEAD_MAX)
    len = LINK_PROXY_HEAD_MAX - link->stash_len;
  if (link->stash == NULL)
    link->stash = malloc(LINK_PROXY_HEAD_MAX);
  if (link->stash == NULL) {
    fail_no_memory(link);
    return;
  }
  memcpy(link->stash + link->stash_len, data, len);
  link->stash_len += len;
  int status = link_proxy_check(&link->proxy, (const char *)link->stash,
                                link->stash_len, link->host, link->port, &end);
  if (status == DSTREAM_EAGAIN)
    return;
  free(link->stash);
  link->stash = NULL;
  link->stash_len = 0;
  if (status == DSTREAM_OK)
    start_tls_or_up(link);
  else
    link_fail(link, &end);
}

static void link_take(struct link *link, uint8_t *data, size_t len) {
  if (link->state == LINK_PROXYING) {
    link_read_proxy(link, data, len);
  } else if (link->tls != NULL) {
    tls_set_input(link->tls, data, len);
    link_pump_tls(link);
  } else if (link->state == LINK_UP) {
    link_tell(link, data, len);
  }
}

static void read_error(struct link *link, int error) {
  struct dstream_end end;
  end_set(&end, DSTREAM_EIO, "the connection to %s broke: %s",
          link->peer[0] != '\0' ? link->peer : link->host, strerror(error));
  end.sys_errno = error;
  link_fail(link, &end);
}

static void link_read(struct link *link) {
  uint8_t *buffer = loop_read_buffer(link->loop);
  ssize_t n;
  do
    n = recv(link->watch.fd, buffer, LOOP_CHUNK, 0);
  while (n < 0 && errno == EINTR);
  if (n > 0)
    link_take(link, buffer, (size_t)n);
  else if (n == 0)
    end_of_file(link);
  else if (errno != EAGAIN && errno != EWOULDBLOCK)
    read_error(link, errno);
}

/* After a pause: what is held, then the ciphertext behind it. */
static void link_deliver(struct link *link) {
  if (link->held_len > 0) {
    uint8_t *data = link->held + link->held_at;
    size_t used = link->callbacks.on_data(link->user, data, link->held_len);
    if (link->dead || link->state == LINK_ENDED)
      return;
    link->held_at += used;
    link->held_len -= used;
    if (link->held_len > 0) {
      link->paused = true;
      return;
    }
  }
  free(link->held);
  link->held = NULL;
  if (link->stash != NULL && link->tls != NULL) {
    link_pump_tls(link);
    if (link->dead)
      return;
    size_t left = 0;
    tls_input(link->tls, &left);
    if (left == 0 || !link->paused) {
      free(link->stash);
      link->stash = NULL;
      link->stash_len = 0;
      tls_set_input(link->tls, NULL, 0);
    }
  }
}

void link_resume(struct link *link) {
  if (link->dead)
    return;
  link->resume = true;
  link_schedule(link);
}

/* ---- connecting ---- */

static void name_peer(struct link *link, const struct sockaddr *address,
                      socklen_t len) {
  char host[INET6_ADDRSTRLEN];
  char port[8];
  if (getnameinfo(address, len, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV) == 0)
    snprintf(link->peer, sizeof link->peer, "%s:%s", host, port);
}

static void set_socket_options(const struct link *link, int fd) {
  int one = 1;
  int size = link->socket_buffer;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (size > 0) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  }
}

static void connect_failed(struct link *link, int error) {
  end_set(&link->last_error, DSTREAM_ECONNECT, "can't connect to %s: %s",
          link->peer, strerror(error));
  link->last_error.sys_errno = error;
}

/* Starts connecting to one address; false: at once impossible. */
static bool start_connect(struct link *link, const struct sockaddr *address,
                          socklen_t len) {
  int fd =
      socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    connect_failed(link, errno);
    return false;
  }
  if (address->sa_family != AF_UNIX)
    set_socket_options(link, fd);
  if (connect(fd, address, len) != 0 && errno != EINPROGRESS) {
    connect_failed(link, errno);
    close(fd);
    return false;
  }
  memset(&link->watch, 0, sizeof link->watch);
  int status = loop_watch_start(link->loop, &link->watch, fd, link_on_events);
  if (status != DSTREAM_OK) {
    link->watch.fd = -1;
    end_set(&link->last_error, status, "can't connect to %s: %s", link->peer,
            status == DSTREAM_ELIMIT ? "too many connections of this process"
                                     : "out of memory");
    return false;
  }
  return true;
}

static void link_try_address(struct link *link) {
  set_state(link, LINK_CONNECTING);
  while (link->next_address < link->answer->count) {
    unsigned i = link->next_address++;
    const struct sockaddr *address =
        (const struct sockaddr *)&link->answer->address[i].storage;
    name_peer(link, address, link->answer->address[i].len);
    if (start_connect(link, address, link->answer->address[i].len)) {
      arm_connect_timer(link);
      update_want(link);
      return;
    }
  }
  link_fail(link, &link->last_error);
}

static void send_connect_request(struct link *link) {
  char request[LINK_PROXY_REQUEST_SIZE];
  set_state(link, LINK_PROXYING);
  arm_connect_timer(link);
  size_t len =
      link_proxy_request(&link->proxy, link->host, link->port, request);
  if (!out_ready(link)) {
    fail_no_memory(link);
    return;
  }
  ring_put(&link->out, request, len);
  crypto_wipe(request, sizeof request);
  link_schedule(link);
}

static void link_connected(struct link *link) {
  int error = 0;
  socklen_t len = sizeof error;
  getsockopt(link->watch.fd, SOL_SOCKET, SO_ERROR, &error, &len);
  if (error != 0) {
    connect_failed(link, error);
    loop_watch_close(&link->watch);
    if (link->answer != NULL)
      link_try_address(link);
    else
      link_fail(link, &link->last_error);
    return;
  }
  if (link->proxy.host[0] != '\0')
    send_connect_request(link);
  else
    start_tls_or_up(link);
}

static void link_on_events(struct loop_watch *watch, unsigned events) {
  struct link *link = link_of_watch(watch);
  if (events & LOOP_GONE) {
    link_destroy(link);
    return;
  }
  link->drains = 0;
  if (link->state == LINK_CONNECTING) {
    link_connected(link);
  } else {
    if (events & LOOP_READ)
      link_read(link);
  }
  if (link->dead)
    return;
  link_schedule(link);
}

static void on_resolved(struct resolve_query *query,
                        const struct resolve_answer *answer) {
  struct link *link = CONTAINER_OF(query, struct link, query);
  const char *host =
      link->proxy.host[0] != '\0' ? link->proxy.host : link->host;
  struct dstream_end end;
  if (answer->error != 0) {
    end_set(&end, DSTREAM_ERESOLVE, "can't find the host %s: %s", host,
            gai_strerror(answer->error));
    link_fail(link, &end);
    return;
  }
  link->answer = malloc(sizeof *link->answer);
  if (link->answer == NULL) {
    fail_no_memory(link);
    return;
  }
  *link->answer = *answer;
  link_try_address(link);
}

static int link_add_tls(struct link *link, const char *host) {
  if (link->tls_config == NULL)
    return DSTREAM_OK;
  return tls_new(&link->tls, link->tls_config, host, &link->out);
}

static void link_discard(struct link *link) {
  tls_free(link->tls);
  free(link);
}

int link_connect(struct link **out, dstream_loop *loop, const char *host,
                 uint16_t port, const struct link_proxy *proxy,
                 const struct link_options *options,
                 const struct link_callbacks *callbacks, void *user) {
  if (strlen(host) >= sizeof((struct link *)0)->host)
    return DSTREAM_EINVAL;
  struct link *link = link_new(loop, options, callbacks, user);
  if (link == NULL)
    return DSTREAM_ENOMEM;
  link->watch.fd = -1;
  snprintf(link->host, sizeof link->host, "%s", host);
  link->port = port;
  bool proxied = proxy != NULL && proxy->host[0] != '\0';
  if (proxied)
    link->proxy = *proxy;
  if (options->connect_timeout_ms != 0)
    link->connect_deadline_ms = loop_now_ms() + options->connect_timeout_ms;
  int status = link_add_tls(link, host);
  if (status == DSTREAM_OK)
    status = resolve_start(loop, &link->query, proxied ? proxy->host : host,
                           proxied ? proxy->port : port, on_resolved);
  if (status != DSTREAM_OK) {
    link_discard(link);
    return status;
  }
  arm_connect_timer(link);
  *out = link;
  return DSTREAM_OK;
}

static void link_try_unix(struct link *link) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, link->host, strlen(link->host));
  if (start_connect(link, (const struct sockaddr *)&address, sizeof address)) {
    arm_connect_timer(link);
    update_want(link);
  } else if (link->last_error.sys_errno == EAGAIN &&
             link->connect_deadline_ms != 0) {
    loop_timer_set(link->loop, &link->timer, UNIX_RETRY_MS, link_on_timer);
  } else {
    link_fail(link, &link->last_error);
  }
}

static void on_unix_start(struct loop_task *task) {
  link_try_unix(CONTAINER_OF(task, struct link, work));
}

int link_connect_unix(struct link **out, dstream_loop *loop, const char *path,
                      const struct link_options *options,
                      const struct link_callbacks *callbacks, void *user) {
  if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
    return DSTREAM_EINVAL;
  struct link *link = link_new(loop, options, callbacks, user);
  if (link == NULL)
    return DSTREAM_ENOMEM;
  link->watch.fd = -1;
  link->unix_path = true;
  snprintf(link->host, sizeof link->host, "%s", path);
  snprintf(link->peer, sizeof link->peer, "%.*s", (int)sizeof link->peer - 1,
           path);
  int status = link_add_tls(link, path);
  if (status != DSTREAM_OK) {
    link_discard(link);
    return status;
  }
  if (options->connect_timeout_ms != 0)
    link->connect_deadline_ms = loop_now_ms() + options->connect_timeout_ms;
  set_state(link, LINK_CONNECTING);
  loop_defer(loop, &link->work, on_unix_start);
  *out = link;
  return DSTREAM_OK;
}

static void on_adopted(struct loop_task *task) {
  struct link *link = CONTAINER_OF(task, struct link, work);
  start_tls_or_up(link);
  if (!link->dead)
    link_schedule(link);
}

int link_adopt(struct link **out, dstream_loop *loop, int fd,
               const struct link_options *options,
               const struct link_callbacks *callbacks, void *user) {
  struct link *link = link_new(loop, options, callbacks, user);
  if (link == NULL) {
    close(fd);
    return DSTREAM_ENOMEM;
  }
  struct sockaddr_storage address;
  socklen_t len = sizeof address;
  if (getpeername(fd, (struct sockaddr *)&address, &len) == 0 &&
      address.ss_family != AF_UNIX) {
    name_peer(link, (const struct sockaddr *)&address, len);
    set_socket_options(link, fd);
  }
  int status = loop_watch_start(loop, &link->watch, fd, link_on_events);
  if (status != DSTREAM_OK) {
    link->watch.fd = -1;
    link_discard(link);
    return status;
  }
  status = link_add_tls(link, NULL);
  if (status != DSTREAM_OK) {
    loop_watch_close(&link->watch);
    link_discard(link);
    return status;
  }
  if (options->connect_timeout_ms != 0)
    link->connect_deadline_ms = loop_now_ms() + options->connect_timeout_ms;
  loop_defer(loop, &link->work, on_adopted);
  *out = link;
  return DSTREAM_OK;
}

void link_set_owner(struct link *link, const struct link_callbacks *callbacks,
                    void *user) {
  link->callbacks = *callbacks;
  link->user = user;
}

const char *link_peer(const struct link *link) {
  return link->peer;
}
