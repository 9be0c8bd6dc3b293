#include "net/link_inside.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/container.h"
#include "core/end.h"

/* Room in the send buffer that only control messages may use. */
#define CONTROL_RESERVE (3 * 1024)
/* Less free room than this is as good as none: small records cost most. */
#define USEFUL_SPACE 4096
/* Writes up to this size wait for others to share a TLS record with, until the
 * callback now running returns: a record costs as much as 2 KB of payload. */
#define GATHER_MAX 4096
/* How often the owner may fill the send buffer before the loop looks at others:
 * a peer that is quick enough would keep it busy for ever. */
#define DRAINS_MAX 4
/* After this long without a byte a link gives its TLS buffers back; it keeps
 * them in between once bytes have moved so many times. */
#define IDLE_MS          2000
#define MOVES_UNTIL_BUSY 16
/* How long a closed link waits for the peer's end once all is sent. */
#define PEER_END_MS 5000
/* How often a reset looks whether the peer's system has everything. */
#define RESET_LOOK_MS 5
/* A peer whose system leaves so many retransmissions or probes of TCP without
 * an answer is not slow, but gone. */
#define UNANSWERED_MAX 4
/* So many retransmissions are no accident any more: 1.4 s where it is near. */
#define RETRIED_MIN 3
/* How long a link that can't send waits for an owner that takes nothing before
 * it has sent. */
#define DEAF_MS 10000
/* A full record as it is on the wire: 5 bytes of header, 1 of type, 16 of tag
 * (RFC 8446 5.2). */
#define TLS_RECORD_WIRE (LOOP_RECORD + 22)
/* Payload of a frame that fills a record: its header has 8 bytes with a mask
 * (RFC 6455 5.2). */
#define FRAME_FILL (LOOP_RECORD - 8)

static void link_deliver(struct link *link);
static void reset_when_sent(struct link *link);
static void reset_now(struct link *link);
static void await_reader(struct link *link);

void link_set_state(struct link *link, enum link_state state) {
  assert(state > link->state ||
         (state == LINK_CONNECTING && link->state == LINK_CONNECTING));
  link->state = state;
}

const char *link_name(const struct link *link) {
  if (link->pair != NULL)
    return "the program at the other end";
  if (link->peer[0] != '\0')
    return link->peer;
  return link->making != NULL ? link->making->host : "the peer";
}

/* ---- small writes ---- */

static size_t gathered(const struct link *link) {
  const struct loop_gather *gather = loop_gather(link->loop);
  return gather->owner == link ? gather->len : 0;
}

static void gather_drop(struct link *link) {
  struct loop_gather *gather = loop_gather(link->loop);
  if (gather->owner != link)
    return;
  gather->owner = NULL;
  gather->len = 0;
}

static void link_encrypt(struct link *link, const void *data, size_t len) {
  /* Room was made sure of before the bytes were taken; TLS itself may have used
   * it since, if the peer asks for an answer again and again. */
  if (ring_free(&link->out) < len + TLS_RECORD_OVERHEAD ||
      tls_write(link->tls, data, len) != DSTREAM_OK) {
    link->broken = true;
    link_schedule(link); /* where it is told */
  }
}

/* What was gathered becomes a record. */
static void gather_flush(struct link *link) {
  struct loop_gather *gather = loop_gather(link->loop);
  size_t len = gathered(link);
  gather_drop(link);
  if (len > 0 && link->state == LINK_UP && link->write_error == 0 &&
      !link->broken)
    link_encrypt(link, gather->bytes, len);
}

static void gather_add(struct link *link, const void *data, size_t len) {
  struct loop_gather *gather = loop_gather(link->loop);
  if (gather->owner != NULL &&
      (gather->owner != link || gather->len + len > LOOP_RECORD))
    gather_flush(gather->owner);
  gather->owner = link;
  memcpy(gather->bytes + gather->len, data, len);
  gather->len += len;
}

/* What the output queue takes, with what is gathered for it. */
static size_t out_room(const struct link *link) {
  size_t room =
      link->out.buffer == NULL ? link->out_size : ring_free(&link->out);
  size_t used = gathered(link);
  if (used > 0)
    used += TLS_RECORD_OVERHEAD;
  return room > used ? room - used : 0;
}

/* ---- life ---- */

void link_discard(struct link *link) {
  if (link == NULL)
    return;
  link_made(link);
  tls_free(link->tls);
  loop_buffers_release(link->loop);
  free(link);
}

static void link_free_now(struct loop_task *task) {
  link_discard(CONTAINER_OF(task, struct link, free_task));
}

static void out_free(struct link *link) {
  if (link->out.buffer == NULL)
    return;
  if (link->out.size == LOOP_CHUNK)
    loop_chunk_put(link->loop, link->out.buffer);
  else
    free(link->out.buffer);
  link->out = (struct ring){0};
}

void link_set_send_buffer(struct link *link, size_t size) {
  assert(link->out.len == 0 && gathered(link) == 0);
  out_free(link);
  link->out_size = size == 0 ? LOOP_CHUNK : size;
  assert(link->out_size >= 2 * LOOP_RECORD);
}

void link_destroy(struct link *link) {
  if (link->dead)
    return;
  link->dead = true;
  gather_drop(link);
  loop_watch_close(&link->watch);
  link_pair_free(link->pair);
  link->pair = NULL;
  loop_timer_cancel(&link->timer);
  loop_timer_cancel(&link->idle_timer);
  loop_task_cancel(&link->work);
  link_made(link);
  tls_free(link->tls);
  link->tls = NULL;
  out_free(link);
  free(link->held);
  free(link->stash);
  link->held = NULL;
  link->stash = NULL;
  loop_defer(link->loop, &link->free_task, link_free_now);
}

void link_abort(struct link *link) {
  if (link != NULL)
    link_destroy(link);
}

struct link *link_new(dstream_loop *loop, const struct link_options *options,
                      const struct link_callbacks *callbacks, void *user) {
  struct link *link = calloc(1, sizeof *link);
  if (link == NULL || !loop_buffers_hold(loop)) {
    free(link);
    return NULL;
  }
  link->loop = loop;
  link->callbacks = *callbacks;
  link->user = user;
  link->tls_config = options->tls;
  link_set_send_buffer(link, options->send_buffer);
  link->socket_buffer = options->socket_buffer;
  return link;
}

/* ---- sending ---- */

bool link_out_ready(struct link *link) {
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
      link->out.size == LOOP_CHUNK && gathered(link) == 0) {
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

void link_update_want(struct link *link) {
  if (link->watch.fd < 0 || link->state < LINK_CONNECTING || link->dead)
    return;
  unsigned want = 0;
  if (link->state == LINK_CONNECTING || link->out.len > 0 || drain_later(link))
    want |= LOOP_WRITE;
  if (link->state != LINK_CONNECTING && !link->paused && !link->peer_done)
    want |= LOOP_READ;
  if (link->pair != NULL)
    link_pair_want(link->pair, want);
  else
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
  int count = parts[1].iov_len > 0 ? 2 : 1;
  if (link->pair != NULL)
    return link_pair_write(link->pair, parts, count);
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
  return sendmsg(link->watch.fd, &message, MSG_NOSIGNAL);
}

static void end_broken(struct link *link, int error) {
  struct dstream_end end;
  end_set(&end, DSTREAM_EIO, "the connection to %s broke: %s", link_name(link),
          strerror(error));
  end.sys_errno = error;
  link_fail(link, &end);
}

/* The peer takes nothing any more, but what it sent before may still have to be
 * read: it is told when that has come to its end.  False: it was told now. */
static bool write_failed(struct link *link, int error) {
  if (link->pair != NULL || link->state != LINK_UP || link->lingering ||
      link->peer_done) {
    end_broken(link, error);
    return false;
  }
  link->write_error = error;
  gather_drop(link);
  ring_drop(&link->out, link->out.len);
  if (link->want_drain || link->callbacks.on_write_failed != NULL)
    await_reader(link);
  if (link->callbacks.on_write_failed != NULL)
    link->callbacks.on_write_failed(link->user);
  return !link->dead;
}

/* Sends what is queued.  False: the connection broke and on_end was told. */
static bool link_flush(struct link *link) {
  gather_flush(link);
  if (link->write_error != 0)
    ring_drop(&link->out, link->out.len);
  while (link->out.len > 0) {
    ssize_t n = send_ring(link);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      break;
    if (n < 0)
      return write_failed(link, errno);
    bool all = (size_t)n == link->out.len;
    ring_drop(&link->out, (size_t)n);
    if (link->callbacks.on_sent != NULL && n > 0)
      link->callbacks.on_sent(link->user);
    if (!all || link->dead)
      break; /* the socket is full: no call to be told so */
  }
  return !link->dead;
}

static void on_linger_timer(struct loop_timer *timer) {
  struct link *link = CONTAINER_OF(timer, struct link, timer);
  if (!link->reset)
    link_destroy(link);
  else if (link->out.len == 0)
    reset_when_sent(link);
  else
    reset_now(link);
}

/* Lingers no longer than so. */
static void set_linger(struct link *link, uint64_t most_ms) {
  uint64_t now = loop_now_ms();
  if (link->deadline_ms > now + most_ms)
    loop_timer_set(link->loop, &link->timer, most_ms, on_linger_timer);
}

static void finish_shutdown(struct link *link) {
  if (!link->shut || link->out.len > 0)
    return;
  if (link->reset) {
    reset_when_sent(link);
    return;
  }
  if (!link->shut_done && link->pair != NULL)
    link_pair_shutdown(link->pair);
  else if (!link->shut_done)
    shutdown(link->watch.fd, SHUT_WR);
  if (!link->shut_done && link->lingering)
    set_linger(link, PEER_END_MS);
  link->shut_done = true;
  if (link->lingering && link->peer_done)
    link_destroy(link);
}

static void tell_drain(struct link *link) {
  if (!link->want_drain || link->state != LINK_UP || link->write_error != 0)
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
          link_name(link));
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
  link_update_want(link);
}

void link_schedule(struct link *link) {
  loop_defer(link->loop, &link->work, link_work);
}

/* An owner that waits for room before it takes what has come would wait for
 * ever: with nobody to read to the end, nobody is told. */
static void on_deaf_timer(struct loop_timer *timer) {
  struct link *link = CONTAINER_OF(timer, struct link, timer);
  if (link->paused && link->told == link->told_before) {
    end_broken(link, link->write_error);
    return;
  }
  link->told_before = link->told;
  loop_timer_set(link->loop, &link->timer, DEAF_MS, on_deaf_timer);
}

static void await_reader(struct link *link) {
  if (link->deaf_armed)
    return;
  link->deaf_armed = true;
  link->told_before = link->told;
  loop_timer_set(link->loop, &link->timer, DEAF_MS, on_deaf_timer);
}

size_t link_space_all(struct link *link) {
  if (link->state != LINK_UP || link->shut)
    return 0;
  if (link->write_error != 0) {
    await_reader(link);
    return 0;
  }
  size_t room = out_room(link);
  /* What encryption adds to each full record, so that all of it fits. */
  size_t added = (room / LOOP_RECORD + 1) * (TLS_RECORD_WIRE - LOOP_RECORD);
  size_t reserve = CONTROL_RESERVE + TLS_RECORD_OVERHEAD + added;
  room = room > reserve ? room - reserve : 0;
  if (room >= USEFUL_SPACE && link_out_ready(link))
    return room;
  link->want_drain = true;
  return 0;
}

size_t link_space(struct link *link) {
  size_t room = link_space_all(link);
  return room < LOOP_RECORD ? room : LOOP_RECORD;
}

size_t link_queued(const struct link *link) {
  return link->out.len + gathered(link);
}

#ifdef __linux__
/* False: it is no TCP socket. */
static bool tcp_info_of(const struct link *link, struct tcp_info *info) {
  socklen_t len = sizeof *info;
  memset(info, 0, sizeof *info);
  return link->pair == NULL &&
         getsockopt(link->watch.fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0;
}

static bool gives_no_answer(const struct tcp_info *info, unsigned retried) {
  return info->tcpi_probes >= UNANSWERED_MAX ||
         info->tcpi_retransmits >= retried;
}
#endif

bool link_is_slow(const struct link *link) {
  int bytes = 0;
  if (link->state != LINK_UP || link->pair != NULL)
    return link->out.len > 0;
  if (link->out.len == 0 &&
      (ioctl(link->watch.fd, TIOCOUTQ, &bytes) != 0 || bytes <= 0))
    return false;
#ifdef __linux__
  struct tcp_info info;
  if (tcp_info_of(link, &info))
    return !gives_no_answer(&info, UNANSWERED_MAX);
#endif
  return true;
}

/* The time since the last answer alone says nothing: a peer that has no room
 * answers probes only, and there are up to two minutes between those. */
uint64_t link_unanswered(const struct link *link) {
#ifdef __linux__
  struct tcp_info info;
  if (link->state == LINK_UP && tcp_info_of(link, &info) &&
      gives_no_answer(&info, RETRIED_MIN))
    return info.tcpi_last_ack_recv < info.tcpi_last_data_recv
               ? info.tcpi_last_ack_recv
               : info.tcpi_last_data_recv;
#endif
  (void)link;
  return 0;
}

bool link_has_control_space(const struct link *link) {
  return link->state == LINK_UP && !link->shut && link->write_error == 0 &&
         out_room(link) >= 1024 + TLS_RECORD_OVERHEAD;
}

void link_write(struct link *link, const void *data, size_t len) {
  if (link->state != LINK_UP || link->shut || link->write_error != 0 ||
      !link_out_ready(link))
    return;
  assert(len + TLS_RECORD_OVERHEAD <= out_room(link));
  if (link->tls == NULL) {
    ring_put(&link->out, data, len);
  } else if (len <= GATHER_MAX) {
    gather_add(link, data, len);
  } else {
    gather_flush(link);
    link_encrypt(link, data, len);
  }
  link_schedule(link);
}

void link_shutdown(struct link *link) {
  if (link->shut)
    return;
  link->shut = true;
  gather_flush(link);
  if (link->tls != NULL && link->state >= LINK_UP && link->write_error == 0 &&
      link_out_ready(link))
    tls_shutdown(link->tls);
  link_schedule(link);
}

/* ---- the end ---- */

/* The peer's direction ended in the orderly way. */
static void link_end(struct link *link) {
  if (link->peer_done)
    return;
  link->peer_done = true;
  link_update_want(link);
  if (link->callbacks.on_end != NULL)
    link->callbacks.on_end(link->user, NULL);
}

void link_fail(struct link *link, const struct dstream_end *why) {
  if (link->lingering) {
    link_destroy(link);
    return;
  }
  if (link->state == LINK_ENDED)
    return;
  struct dstream_end copy = *why;
  link_set_state(link, LINK_ENDED);
  loop_timer_cancel(&link->timer);
  link->peer_done = true;
  gather_drop(link);
  ring_drop(&link->out, link->out.len);
  link_update_want(link);
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

static void link_linger(struct link *link, uint64_t linger_ms) {
  link->callbacks = linger_callbacks;
  link->user = link;
  link->lingering = true;
  link->deadline_ms = loop_now_ms() + linger_ms;
  loop_timer_set(link->loop, &link->timer, linger_ms, on_linger_timer);
  link_schedule(link); /* both directions may have ended before */
}

void link_close(struct link *link, uint64_t linger_ms) {
  if (link == NULL)
    return;
  if (link->state < LINK_UP || linger_ms == 0 || link->watch.fd < 0) {
    link_destroy(link);
    return;
  }
  link_linger(link, linger_ms);
  if (link->shut_done)
    set_linger(link, PEER_END_MS);
  link_shutdown(link);
  if (link->paused)
    link_resume(link);
}

/* ---- the end by reset ---- */

/* A reset drops what the system still has to send (tcp(7), SO_LINGER). */
static bool system_has_bytes(const struct link *link) {
  int error = 0;
  int bytes = 0;
  socklen_t len = sizeof error;
  if (getsockopt(link->watch.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 ||
      error != 0)
    return false;
  return ioctl(link->watch.fd, TIOCOUTQ, &bytes) == 0 && bytes > 0;
}

static void reset_now(struct link *link) {
  struct linger none = {.l_onoff = 1, .l_linger = 0};
  if (link->pair == NULL)
    (void)setsockopt(link->watch.fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  link_destroy(link);
}

static void reset_when_sent(struct link *link) {
  if (link->pair == NULL && loop_now_ms() < link->deadline_ms &&
      system_has_bytes(link))
    loop_timer_set(link->loop, &link->timer, RESET_LOOK_MS, on_linger_timer);
  else
    reset_now(link);
}

void link_reset(struct link *link, uint64_t linger_ms) {
  if (link == NULL)
    return;
  if (link->watch.fd < 0) {
    link_destroy(link);
    return;
  }
  link->paused = true; /* what comes now interests nobody */
  link->resume = false;
  link->shut = true;
  link->reset = true;
  if (link->state < LINK_UP || linger_ms == 0)
    reset_now(link);
  else
    link_linger(link, linger_ms);
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

void link_fail_no_memory(struct link *link) {
  struct dstream_end end;
  end_set(&end, DSTREAM_ENOMEM, "out of memory on a connection");
  link_fail(link, &end);
}

/* Tells bytes; false: the owner took not all (they are held) or the link
 * ended. */
static bool link_tell(struct link *link, uint8_t *data, size_t len) {
  size_t used = link->callbacks.on_data(link->user, data, len);
  link->told += used > 0;
  if (link->dead || link->state == LINK_ENDED)
    return false;
  if (used == len)
    return true;
  if (!link_hold(link, data + used, len - used))
    link_fail_no_memory(link);
  return false;
}

static void link_up(struct link *link) {
  link_set_state(link, LINK_UP);
  loop_timer_cancel(&link->timer);
  link_made(link);
  if (link->callbacks.on_up != NULL)
    link->callbacks.on_up(link->user);
}

/* Goes on with the handshake; true when it is done. */
static bool link_handshake(struct link *link) {
  struct dstream_end error;
  if (!link_out_ready(link)) {
    link_fail_no_memory(link);
    return false;
  }
  int status = tls_handshake(link->tls, &error);
  link_schedule(link);
  if (status == DSTREAM_EAGAIN)
    return false;
  if (status != DSTREAM_OK) {
    char text[DSTREAM_TEXT_MAX];
    snprintf(text, sizeof text, "%s", error.text);
    if (link->making != NULL)
      end_set(&error, status, "%s:%u: %.200s", link->making->host,
              (unsigned)link->port, text);
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
          link_fail_no_memory(link);
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
    /* After an orderly end the system says EPIPE. */
    if (link->write_error != 0 && link->write_error != EPIPE)
      end_broken(link, link->write_error);
    else
      link_end(link);
    return;
  case LINK_PROXYING:
    end_set(&end, DSTREAM_EPROXY, "the proxy %s:%u closed the connection",
            link->making->proxy.host, (unsigned)link->making->proxy.port);
    break;
  default:
    end_set(&end, DSTREAM_ETLS,
            "%s closed the connection during the TLS handshake",
            link->making != NULL ? link->making->host : "the peer");
  }
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

/* How much to read: what the owner can use.  Whole records, or what fills whole
 * records, as a rest would cost as much as all of them: to be held, to be sent
 * by itself.  But of a TLS record all, however little the room, as it can't be
 * told in part.  0: not now. */
static size_t read_size(struct link *link) {
  size_t room = LOOP_CHUNK;
  if (link->state == LINK_UP && link->callbacks.room != NULL)
    room = link->callbacks.room(link->user);
  if (room == 0 || link->dead)
    return 0;
  if (room > LOOP_CHUNK)
    room = LOOP_CHUNK;
  if (link->tls == NULL)
    return room < FRAME_FILL ? room : room - room % FRAME_FILL;
  size_t records = room / LOOP_RECORD;
  if (records > LOOP_CHUNK / TLS_RECORD_WIRE)
    records = LOOP_CHUNK / TLS_RECORD_WIRE;
  return (records == 0 ? 1 : records) * TLS_RECORD_WIRE;
}

static void link_read(struct link *link) {
  uint8_t *buffer = loop_read_buffer(link->loop);
  size_t size = read_size(link);
  ssize_t n;
  if (size == 0) {
    link->paused = true;
    return;
  }
  do
    n = link->pair != NULL ? link_pair_read(link->pair, buffer, size)
                           : recv(link->watch.fd, buffer, size, 0);
  while (n < 0 && errno == EINTR);
  if (n > 0)
    link_take(link, buffer, (size_t)n);
  else if (n == 0)
    end_of_file(link);
  else if (errno != EAGAIN && errno != EWOULDBLOCK)
    end_broken(link, errno);
}

/* After a pause: what is held, then the ciphertext behind it. */
static void link_deliver(struct link *link) {
  if (link->held_len > 0) {
    uint8_t *data = link->held + link->held_at;
    size_t used = link->callbacks.on_data(link->user, data, link->held_len);
    link->told += used > 0;
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

void link_begin(struct link *link) {
  if (link->tls == NULL) {
    link_up(link);
    return;
  }
  link_set_state(link, LINK_TLS);
  link_arm_connect_timer(link);
  tls_resume(link->tls, link->port);
  link_handshake(link);
}

void link_on_events(struct loop_watch *watch, unsigned events) {
  struct link *link = CONTAINER_OF(watch, struct link, watch);
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

void link_set_owner(struct link *link, const struct link_callbacks *callbacks,
                    void *user) {
  link->callbacks = *callbacks;
  link->user = user;
}

bool link_tls_peer(const struct link *link, struct tls_peer *out) {
  return link->tls != NULL && tls_peer(link->tls, out);
}

const char *link_peer(const struct link *link) {
  return link->peer;
}
