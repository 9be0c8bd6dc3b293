#include "proxy/bridge.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/address.h"
#include "core/container.h"
#include "core/end.h"
#include "net/loop.h"
#include "net/stream.h"
#include "proxy/reason.h"

#define DEFAULT_BUFFER          65536
#define MIN_BUFFER              32768
#define MAX_BUFFER              1048576
#define DEFAULT_CONNECT_TIMEOUT 10000
#define SELF_SIZE               64
#define PEER_SIZE               200

/* Beside the window: what a link keeps for control messages, room that it takes
 * for none, and what a listener says to a client. */
#define LINK_EXTRA LOOP_RECORD
/* How long the other end may take to read what came before an orderly end, and
 * the socket's peer the same, when no other limit says less. */
#define PATIENCE_MS 3600000
/* The same when the end is a failure. */
#define HURRY_MS 10000
/* When a socket takes no more bytes (its peer reset it), what it sent before is
 * still read and passed on, until nothing has moved for so long. */
#define LOST_MS 5000
/* What a hub says in a Close 1011 when it lost the connection to an end. */
#define HUB_LOST "WS disconnected"
/* How long the socket's peer may take to end its direction when all is over. */
#define LINGER_MS 2000

enum bridge_state {
  BRIDGE_CONNECTING, /* awaits the socket.  WAITING, OVER */
  BRIDGE_WAITING,    /* awaits the stream.  OPEN, CLOSING, FLUSHING */
  BRIDGE_OPEN,       /* bytes both ways.  CLOSING, FLUSHING */
  BRIDGE_CLOSING,    /* the stream was told to end, awaits its on_close.
                        FLUSHING, OVER */
  BRIDGE_FLUSHING,   /* the stream is gone; what came by it goes to the socket.
                        LINGERING, OVER */
  BRIDGE_LINGERING,  /* FIN is out; the peer's is awaited, bytes are dropped: to
                        close now would reset it.  OVER */
  BRIDGE_OVER        /* on_end is about to be told */
};

struct dstream_bridge {
  dstream_loop *loop;
  enum bridge_state state;
  struct link *link;      /* NULL: given back */
  dstream_stream *stream; /* NULL: not yet, or gone */
  struct dstream_bridge_callbacks callbacks;
  void *user;
  bool (*hello)(void *user, struct link *link, const struct dstream_end *why);

  size_t buffer;
  size_t owed; /* bytes of the stream's window that wait for the socket */
  bool pair;
  bool awaits_stream; /* bridge_stream_begin was called */
  bool peer_done;     /* the socket's peer ended its direction */
  bool stream_done;   /* ... and the other end of the stream its own */
  bool lost;          /* the socket takes no more: what comes is dropped */
  bool has_cause;     /* result.end is set */
  bool reset;         /* the socket is to be reset */

  uint64_t idle_ms;
  uint64_t total_ms;
  uint64_t opened_ms;
  uint64_t moved_ms; /* when bytes moved last */
  uint64_t limit_ms; /* of the state after OPEN */
  uint64_t timer_ms; /* when the timer will fire */
  struct loop_timer timer;
  struct loop_task task;
  struct dstream_bridge_result result;
  char *peer;
  char self[];
};

static void bridge_arm(struct dstream_bridge *b);
static void bridge_flush(struct dstream_bridge *b);
static void on_peer_failed(struct dstream_bridge *b,
                           const struct dstream_end *why);

/* ---- the end ---- */

static void set_state(struct dstream_bridge *b, enum bridge_state state) {
  assert(state > b->state);
  b->state = state;
}

static void release(struct dstream_bridge *b) {
  loop_timer_cancel(&b->timer);
  loop_task_cancel(&b->task);
  free(b->peer);
  free(b);
}

static void tell_end(struct loop_task *task) {
  struct dstream_bridge *b = CONTAINER_OF(task, struct dstream_bridge, task);
  if (b->result.opened)
    b->result.duration_ms = loop_now_ms() - b->opened_ms;
  if (b->callbacks.on_end != NULL)
    b->callbacks.on_end(b, b->user, &b->result);
  release(b);
}

static void bridge_over(struct dstream_bridge *b) {
  assert(b->link == NULL && b->stream == NULL && b->has_cause);
  set_state(b, BRIDGE_OVER);
  loop_timer_cancel(&b->timer);
  loop_task_cancel(&b->task);
  loop_defer(b->loop, &b->task, tell_end);
}

static void give_link_back(struct dstream_bridge *b, bool reset) {
  if (b->link != NULL && reset)
    link_reset(b->link, HURRY_MS);
  else
    link_abort(b->link);
  b->link = NULL;
}

static void set_cause(struct dstream_bridge *b, const struct dstream_end *end) {
  b->result.end = *end;
  b->has_cause = true;
}

/* The socket's peer did something: "target 127.0.0.1:22: Broken pipe". */
static void set_peer_cause(struct dstream_bridge *b,
                           const struct dstream_end *why) {
  struct dstream_end end = *why;
  const char *text = why->sys_errno != 0 ? strerror(why->sys_errno) : why->text;
  if (why->status == DSTREAM_ETIMEDOUT)
    text = "timed out";
  end_set(&end, why->status, "%s: %.150s", b->peer, text);
  end.sys_errno = why->sys_errno;
  set_cause(b, &end);
}

static void end_of_broken_pipe(struct dstream_end *end) {
  end_set(end, DSTREAM_EIO, "%s", strerror(EPIPE));
  end->sys_errno = EPIPE;
}

/* The FIN is out, or as good as. */
static void on_flushed(struct loop_task *task) {
  struct dstream_bridge *b = CONTAINER_OF(task, struct dstream_bridge, task);
  if (b->reset || b->pair || b->peer_done) {
    if (!b->reset)
      link_close(b->link, b->pair ? 0 : LINGER_MS);
    else
      link_reset(b->link, HURRY_MS);
    b->link = NULL;
    bridge_over(b);
    return;
  }
  set_state(b, BRIDGE_LINGERING);
  b->limit_ms = loop_now_ms() + LINGER_MS;
  bridge_arm(b);
}

static void check_flushed(struct dstream_bridge *b) {
  if (b->state == BRIDGE_FLUSHING && link_queued(b->link) == 0)
    loop_defer(b->loop, &b->task, on_flushed);
}

/* The stream is gone, the cause known: what came before goes to the socket. */
static void bridge_flush(struct dstream_bridge *b) {
  if (b->link == NULL) {
    bridge_over(b);
    return;
  }
  b->reset = b->result.end.status != DSTREAM_OK;
  if (!b->result.opened && b->hello != NULL &&
      b->hello(b->user, b->link, &b->result.end))
    b->reset = false;
  set_state(b, BRIDGE_FLUSHING);
  b->limit_ms = loop_now_ms() + (b->reset ? HURRY_MS : PATIENCE_MS);
  if (!b->reset) {
    link_shutdown(b->link);
    link_resume(b->link); /* what the peer still sends is dropped */
  }
  check_flushed(b);
  bridge_arm(b);
}

static void close_stream(struct dstream_bridge *b) {
  bool orderly = b->result.end.status == DSTREAM_OK;
  if (b->stream == NULL) {
    bridge_flush(b);
    return;
  }
  set_state(b, BRIDGE_CLOSING);
  b->limit_ms = loop_now_ms() + (orderly ? PATIENCE_MS : HURRY_MS);
  bridge_arm(b);
  if (orderly)
    dstream_stream_close(b->stream);
  else
    stream_close_code(b->stream, 1011, b->result.end.text);
}

/* Ends both sides; the cause is set. */
static void bridge_end(struct dstream_bridge *b) {
  bool failed = b->result.end.status != DSTREAM_OK;
  if (b->state == BRIDGE_CONNECTING) {
    link_abort(b->link);
    b->link = NULL;
  } else if (failed && b->link != NULL &&
             (b->result.opened || b->hello == NULL)) {
    link_reset(b->link, HURRY_MS);
    b->link = NULL;
  }
  close_stream(b);
}

void dstream_bridge_fail(dstream_bridge *b, const struct dstream_end *end) {
  struct dstream_end cause;
  if (b->state >= BRIDGE_CLOSING)
    return;
  if (end != NULL)
    cause = *end;
  else if (b->result.opened)
    end_set(&cause, DSTREAM_OK, "%s ended it", b->self);
  else
    end_set(&cause, DSTREAM_ECANCELED, "%s ended it before it was open",
            b->self);
  set_cause(b, &cause);
  bridge_end(b);
}

/* ---- time ---- */

static uint64_t bridge_due(const struct dstream_bridge *b) {
  uint64_t due = UINT64_MAX;
  if (b->state >= BRIDGE_CLOSING)
    due = b->limit_ms;
  if (b->state == BRIDGE_LINGERING || !b->result.opened)
    return due;
  if (b->state == BRIDGE_OPEN && b->lost)
    due = b->moved_ms + LOST_MS;
  if (b->idle_ms != 0 && b->moved_ms + b->idle_ms < due)
    due = b->moved_ms + b->idle_ms;
  if (b->total_ms != 0 && b->opened_ms + b->total_ms < due)
    due = b->opened_ms + b->total_ms;
  return due;
}

static void set_time_cause(struct dstream_bridge *b) {
  struct dstream_end end;
  uint64_t now = loop_now_ms();
  if (b->state == BRIDGE_OPEN && b->lost) {
    end_of_broken_pipe(&end);
    set_peer_cause(b, &end);
    return;
  }
  bool idle = b->idle_ms != 0 && now >= b->moved_ms + b->idle_ms;
  if (b->state == BRIDGE_OPEN && idle)
    end_set(&end, DSTREAM_ETIMEDOUT, "%s: idle for %llu s", b->self,
            (unsigned long long)(b->idle_ms / 1000));
  else if (b->state == BRIDGE_OPEN)
    end_set(&end, DSTREAM_ETIMEDOUT, "%s: open for %llu s, which is the limit",
            b->self, (unsigned long long)(b->total_ms / 1000));
  else if (b->state == BRIDGE_CLOSING)
    end_set(&end, DSTREAM_ETIMEDOUT,
            "the other end did not read all that was sent before the end");
  else
    end_set(&end, DSTREAM_ETIMEDOUT,
            "%s did not read all that was sent before the end", b->peer);
  set_cause(b, &end);
}

static void on_timer(struct loop_timer *timer) {
  struct dstream_bridge *b = CONTAINER_OF(timer, struct dstream_bridge, timer);
  b->timer_ms = UINT64_MAX;
  if (loop_now_ms() < bridge_due(b)) {
    bridge_arm(b);
    return;
  }
  if (b->state != BRIDGE_LINGERING &&
      (!b->has_cause || b->result.end.status == DSTREAM_OK))
    set_time_cause(b);
  if (b->state < BRIDGE_CLOSING) {
    bridge_end(b);
  } else if (b->state == BRIDGE_CLOSING) {
    b->limit_ms = UINT64_MAX;
    b->idle_ms = b->total_ms = 0;
    dstream_stream_abort(b->stream); /* on_close follows */
  } else {
    give_link_back(b, b->state == BRIDGE_FLUSHING);
    bridge_over(b);
  }
}

/* The timer is only ever moved forward: no byte that moves touches it. */
static void bridge_arm(struct dstream_bridge *b) {
  uint64_t due = bridge_due(b);
  if (b->state == BRIDGE_OVER || due >= b->timer_ms)
    return;
  uint64_t now = loop_now_ms();
  b->timer_ms = due;
  loop_timer_set(b->loop, &b->timer, due > now ? due - now : 0, on_timer);
}

/* ---- from the socket to the stream ---- */

static void on_link_up(void *user) {
  struct dstream_bridge *b = user;
  if (b->state != BRIDGE_CONNECTING)
    return;
  set_state(b, BRIDGE_WAITING);
  if (b->callbacks.on_connected != NULL)
    b->callbacks.on_connected(b, b->user);
}

static size_t on_link_room(void *user) {
  struct dstream_bridge *b = user;
  if (b->state < BRIDGE_OPEN)
    return 0;
  return b->state == BRIDGE_OPEN ? stream_write_room(b->stream) : LOOP_CHUNK;
}

static size_t on_link_data(void *user, uint8_t *data, size_t len) {
  struct dstream_bridge *b = user;
  if (b->state < BRIDGE_OPEN)
    return 0;
  if (b->state > BRIDGE_OPEN)
    return len;
  long n = dstream_stream_write(b->stream, data, len);
  if (n <= 0)
    return 0;
  b->result.bytes_out += (uint64_t)n;
  b->moved_ms = loop_now_ms();
  return (size_t)n;
}

static void on_link_sent(void *user) {
  struct dstream_bridge *b = user;
  size_t waiting = link_queued(b->link);
  if (b->owed > waiting) {
    size_t n = b->owed - waiting;
    b->owed = waiting;
    b->moved_ms = loop_now_ms();
    if (b->stream != NULL)
      dstream_stream_consume(b->stream, n);
  }
  check_flushed(b);
}

static void on_broken_pipe(struct dstream_bridge *b) {
  struct dstream_end end;
  end_of_broken_pipe(&end);
  on_peer_failed(b, &end);
}

/* The socket takes no more: what it sent before goes on to the stream, whose
 * other end may have to be read for that. */
static void on_link_write_failed(void *user) {
  struct dstream_bridge *b = user;
  size_t n = b->owed;
  b->lost = true;
  if (b->state == BRIDGE_OPEN) {
    b->owed = 0;
    b->moved_ms = loop_now_ms();
    bridge_arm(b);
    dstream_stream_consume(b->stream, n);
  } else if (b->state > BRIDGE_CLOSING) {
    on_broken_pipe(b); /* what it sends interests nobody now */
  }
}

/* The socket's peer ended its direction: so does the stream, or, when the other
 * end knows no half-close, all of it. */
static void on_peer_done(struct dstream_bridge *b) {
  b->peer_done = true;
  if (b->lost) {
    on_broken_pipe(b);
    return;
  }
  if (b->state == BRIDGE_LINGERING) {
    link_close(b->link, LINGER_MS);
    b->link = NULL;
    bridge_over(b);
    return;
  }
  if (b->state != BRIDGE_OPEN)
    return;
  if (dstream_stream_has_eof(b->stream)) {
    dstream_stream_shutdown_write(b->stream);
    return;
  }
  struct dstream_end end;
  end_set(&end, DSTREAM_OK, "%s ended it", b->peer);
  set_cause(b, &end);
  close_stream(b);
}

static void on_peer_failed(struct dstream_bridge *b,
                           const struct dstream_end *why) {
  link_abort(b->link);
  b->link = NULL;
  /* Once all was said, a reset changes nothing. */
  bool lost = b->state < BRIDGE_CLOSING || b->owed > 0;
  if (lost && (!b->has_cause || b->result.end.status == DSTREAM_OK))
    set_peer_cause(b, why);
  if (b->state < BRIDGE_CLOSING)
    close_stream(b);
  else if (b->state > BRIDGE_CLOSING)
    bridge_over(b);
}

static void on_link_end(void *user, const struct dstream_end *why) {
  struct dstream_bridge *b = user;
  if (why == NULL)
    on_peer_done(b);
  else
    on_peer_failed(b, why);
}

static const struct link_callbacks link_callbacks = {.on_up = on_link_up,
                                                     .on_data = on_link_data,
                                                     .room = on_link_room,
                                                     .on_sent = on_link_sent,
                                                     .on_write_failed =
                                                         on_link_write_failed,
                                                     .on_end = on_link_end};

/* ---- from the stream to the socket ---- */

static void on_stream_open(dstream_stream *stream, void *user) {
  struct dstream_bridge *b = user;
  if (b == NULL || b->state != BRIDGE_WAITING)
    return;
  b->stream = stream;
  b->result.opened = true;
  b->opened_ms = b->moved_ms = loop_now_ms();
  set_state(b, BRIDGE_OPEN);
  if (b->hello != NULL)
    b->hello(b->user, b->link, NULL);
  bridge_arm(b);
  link_resume(b->link);
  if (b->callbacks.on_open != NULL)
    b->callbacks.on_open(b, b->user);
}

/* All of it, unless the socket takes no more, or memory is short. */
static size_t put_on_socket(struct dstream_bridge *b, const uint8_t *data,
                            size_t len) {
  size_t done = 0;
  while (done < len) {
    size_t n = link_space(b->link);
    if (n == 0)
      break;
    n = n < len - done ? n : len - done;
    link_write(b->link, data + done, n);
    done += n;
  }
  return done;
}

static void on_stream_data(dstream_stream *stream, void *user, const void *data,
                           size_t len) {
  struct dstream_bridge *b = user;
  if (b == NULL || b->state != BRIDGE_OPEN) {
    dstream_stream_consume(stream, len);
    return;
  }
  if (b->lost) {
    dstream_stream_consume(stream, len);
    return;
  }
  size_t taken = put_on_socket(b, data, len);
  b->owed += taken;
  b->result.bytes_in += taken;
  b->moved_ms = loop_now_ms();
  if (taken == len)
    return;
  dstream_stream_consume(stream, len - taken);
  /* The window fits: only memory can be short. */
  struct dstream_end end;
  end_set(&end, DSTREAM_ENOMEM, "%s: out of memory", b->self);
  dstream_bridge_fail(b, &end);
}

static void on_stream_writable(dstream_stream *stream, void *user) {
  struct dstream_bridge *b = user;
  (void)stream;
  if (b != NULL && b->state == BRIDGE_OPEN)
    link_resume(b->link);
}

static void on_stream_eof(dstream_stream *stream, void *user) {
  struct dstream_bridge *b = user;
  (void)stream;
  if (b == NULL)
    return;
  b->stream_done = true;
  if (b->link != NULL)
    link_shutdown(b->link);
}

/* A Close 1011 says why: its reason alone reads better. */
static void show_reason(struct dstream_end *end) {
  char reason[DSTREAM_TEXT_MAX];
  char *from = strstr(end->text, ", \"");
  if (end->status != DSTREAM_ECLOSED || from == NULL)
    return;
  snprintf(reason, sizeof reason, "%.250s", from + 3);
  char *last = strrchr(reason, '"');
  if (last == NULL)
    return;
  *last = '\0';
  if (strncmp(reason, HUB_LOST, strlen(HUB_LOST)) == 0)
    snprintf(end->text, sizeof end->text,
             "the hub lost the connection to the other end%.100s",
             reason + strlen(HUB_LOST));
  else
    snprintf(end->text, sizeof end->text, "%s", reason);
}

/* Both ends of a stream with half-close are this library's: they do not just
 * go, unless they died.  The official clients do. */
static bool ended_well(const struct dstream_bridge *b,
                       const struct dstream_end *end, bool has_eof) {
  if (end->status == DSTREAM_OK) /* or this end's owner closed it */
    return b->has_cause || (b->peer_done && b->stream_done);
  return end->status == DSTREAM_ECLOSED &&
         (end->ws_code == 1000 || end->ws_code == 1005 ||
          (end->ws_code == 1006 && !has_eof));
}

/* What the end of the stream means, when nothing else ended the bridge. */
static void set_stream_cause(struct dstream_bridge *b,
                             const struct dstream_end *end, bool well) {
  struct dstream_end cause = *end;
  if (well)
    end_set(&cause, DSTREAM_OK, "%s",
            end->status == DSTREAM_OK ? "both ends are done"
                                      : "the other end closed it");
  else if (end->status == DSTREAM_OK)
    end_set(&cause, DSTREAM_ECANCELED, "%s closed the stream", b->self);
  else
    show_reason(&cause);
  cause.ws_code = end->ws_code;
  set_cause(b, &cause);
}

static void on_stream_close(dstream_stream *stream, void *user,
                            const struct dstream_end *end) {
  struct dstream_bridge *b = user;
  if (b == NULL)
    return;
  bool well =
      b->result.opened && ended_well(b, end, dstream_stream_has_eof(stream));
  b->stream = NULL;
  if (!b->has_cause || (b->result.end.status == DSTREAM_OK && !well))
    set_stream_cause(b, end, well);
  bridge_flush(b);
}

static const struct dstream_stream_callbacks stream_callbacks = {
    .on_open = on_stream_open,
    .on_data = on_stream_data,
    .on_writable = on_stream_writable,
    .on_eof = on_stream_eof,
    .on_close = on_stream_close,
};

int bridge_stream_begin(dstream_bridge *b,
                        struct dstream_stream_options *options,
                        const struct dstream_stream_callbacks **callbacks) {
  if (b->state != BRIDGE_WAITING || b->awaits_stream)
    return DSTREAM_ESTATE;
  b->awaits_stream = true;
  options->size = sizeof *options;
  options->window = b->buffer;
  options->send_buffer = b->buffer < LOOP_CHUNK ? LOOP_CHUNK : b->buffer;
  options->close_timeout_ms = 0;
  *callbacks = &stream_callbacks;
  return DSTREAM_OK;
}

void bridge_stream_made(dstream_bridge *b, dstream_stream *stream,
                        const struct dstream_end *why) {
  b->stream = stream;
  if (stream == NULL)
    dstream_bridge_fail(b, why);
}

int dstream_bridge_accept(dstream_bridge *b, dstream_request *request) {
  struct dstream_stream_options options = {.size = sizeof options};
  const struct dstream_stream_callbacks *callbacks = NULL;
  dstream_stream *stream = NULL;
  struct dstream_end end;
  int status = bridge_stream_begin(b, &options, &callbacks);
  if (status != DSTREAM_OK) {
    dstream_request_reject(request, REASON_AGENT "the stream is not wanted");
    return status;
  }
  status = dstream_request_accept(request, &options, callbacks, b, &stream);
  if (status == DSTREAM_ESTATE)
    end_set(&end, status, "%s: the connection to the hub was lost", b->self);
  else if (status == DSTREAM_ELIMIT)
    end_set(&end, status, "%s: the device has as many streams as it may have",
            b->self);
  else
    end_set(&end, status, "%s: %s", b->self, dstream_status_text(status));
  bridge_stream_made(b, stream, &end);
  return status;
}

/* ---- making one ---- */

int bridge_check_options(const struct dstream_bridge_options *o) {
  if (o == NULL)
    return DSTREAM_OK;
  if (o->size != sizeof *o || o->connect_timeout_ms < 0 ||
      o->idle_timeout_s < 0 || o->total_timeout_s < 0 ||
      (o->buffer != 0 && (o->buffer < MIN_BUFFER || o->buffer > MAX_BUFFER)))
    return DSTREAM_EINVAL;
  return DSTREAM_OK;
}

static size_t buffer_of(const struct dstream_bridge_options *options) {
  return options == NULL || options->buffer == 0 ? DEFAULT_BUFFER
                                                 : options->buffer;
}

void bridge_link_options(const struct dstream_bridge_options *options,
                         struct link_options *out) {
  size_t size = buffer_of(options) + LINK_EXTRA;
  *out = (struct link_options){0};
  /* Buffers of the default size go back while they are empty. */
  out->send_buffer = size < LOOP_CHUNK ? LOOP_CHUNK : size;
  out->connect_timeout_ms = DEFAULT_CONNECT_TIMEOUT;
  if (options != NULL && options->connect_timeout_ms != 0)
    out->connect_timeout_ms = (uint64_t)options->connect_timeout_ms;
}

/* peer NULL: the one that the options name. */
static struct dstream_bridge *
bridge_new(dstream_loop *loop, const struct dstream_bridge_options *o,
           const char *peer, const struct dstream_bridge_callbacks *callbacks,
           void *user) {
  const char *self =
      o != NULL && o->self_name != NULL ? o->self_name : "this end";
  if (o != NULL && o->peer_name != NULL)
    peer = o->peer_name;
  size_t self_len = strnlen(self, SELF_SIZE - 1);
  struct dstream_bridge *b = calloc(1, sizeof *b + self_len + 1);
  if (b == NULL)
    return NULL;
  memcpy(b->self, self, self_len);
  b->peer = strndup(peer, PEER_SIZE - 1);
  if (b->peer == NULL) {
    free(b);
    return NULL;
  }
  b->loop = loop;
  b->state = BRIDGE_WAITING;
  if (callbacks != NULL)
    b->callbacks = *callbacks;
  b->user = user;
  b->buffer = buffer_of(o);
  b->timer_ms = UINT64_MAX;
  if (o != NULL) {
    b->idle_ms = (uint64_t)o->idle_timeout_s * 1000;
    b->total_ms = (uint64_t)o->total_timeout_s * 1000;
  }
  return b;
}

static void client_name(char out[PEER_SIZE], const char *address) {
  snprintf(out, PEER_SIZE, "client%s%s", address[0] != '\0' ? " " : "",
           address);
}

int bridge_adopt_link(dstream_bridge **out, dstream_loop *loop,
                      struct link *link,
                      const struct dstream_bridge_options *options,
                      const struct dstream_bridge_callbacks *callbacks,
                      void *user) {
  char peer[PEER_SIZE];
  client_name(peer, link_peer(link));
  struct dstream_bridge *b = bridge_new(loop, options, peer, callbacks, user);
  if (b == NULL)
    return DSTREAM_ENOMEM;
  b->link = link;
  link_set_owner(link, &link_callbacks, b);
  *out = b;
  return DSTREAM_OK;
}

/* The name of the peer is known when the link is. */
static int name_client(struct dstream_bridge *b,
                       const struct dstream_bridge_options *options) {
  char peer[PEER_SIZE];
  if (options != NULL && options->peer_name != NULL)
    return DSTREAM_OK;
  client_name(peer, link_peer(b->link));
  char *copy = strdup(peer);
  if (copy == NULL)
    return DSTREAM_ENOMEM;
  free(b->peer);
  b->peer = copy;
  return DSTREAM_OK;
}

int dstream_bridge_adopt(dstream_bridge **out, dstream_loop *loop, int fd,
                         const struct dstream_bridge_options *options,
                         const struct dstream_bridge_callbacks *callbacks,
                         void *user) {
  struct dstream_bridge *b = NULL;
  int status = out == NULL || loop == NULL ? DSTREAM_EINVAL
                                           : bridge_check_options(options);
  if (status == DSTREAM_OK) {
    b = bridge_new(loop, options, "client", callbacks, user);
    status = b == NULL ? DSTREAM_ENOMEM : DSTREAM_OK;
  }
  if (status != DSTREAM_OK) {
    close(fd);
    return status;
  }
  struct link_options link_options;
  bridge_link_options(options, &link_options);
  status = link_adopt(&b->link, loop, fd, &link_options, &link_callbacks, b);
  if (status == DSTREAM_OK)
    status = name_client(b, options);
  if (status != DSTREAM_OK) {
    link_abort(b->link);
    release(b);
    return status;
  }
  *out = b;
  return DSTREAM_OK;
}

int dstream_bridge_adopt_pair(dstream_bridge **out, dstream_loop *loop,
                              int in_fd, int out_fd,
                              const struct dstream_bridge_options *options,
                              const struct dstream_bridge_callbacks *callbacks,
                              void *user) {
  struct dstream_bridge *b = NULL;
  int status = out == NULL || loop == NULL ? DSTREAM_EINVAL
                                           : bridge_check_options(options);
  if (status == DSTREAM_OK) {
    b = bridge_new(loop, options, "the local program", callbacks, user);
    status = b == NULL ? DSTREAM_ENOMEM : DSTREAM_OK;
  }
  if (status != DSTREAM_OK) {
    close(in_fd);
    close(out_fd);
    return status;
  }
  struct link_options link_options;
  bridge_link_options(options, &link_options);
  b->pair = true;
  status = link_adopt_pair(&b->link, loop, in_fd, out_fd, &link_options,
                           &link_callbacks, b);
  if (status != DSTREAM_OK) {
    release(b);
    return status;
  }
  *out = b;
  return DSTREAM_OK;
}

static int start_connect(struct dstream_bridge *b, const struct address *to,
                         const struct dstream_bridge_options *options) {
  struct link_options link_options;
  bridge_link_options(options, &link_options);
  if (to->is_unix)
    return link_connect_unix(&b->link, b->loop, to->host, &link_options,
                             &link_callbacks, b);
  return link_connect(&b->link, b->loop, to->host, to->port, NULL,
                      &link_options, &link_callbacks, b);
}

int dstream_bridge_connect(dstream_bridge **out, dstream_loop *loop,
                           const char *address,
                           const struct dstream_bridge_options *options,
                           const struct dstream_bridge_callbacks *callbacks,
                           void *user, struct dstream_end *error) {
  struct address to;
  char peer[PEER_SIZE];
  if (out == NULL || loop == NULL || address == NULL ||
      bridge_check_options(options) != DSTREAM_OK) {
    end_set(error, DSTREAM_EINVAL, "an option of the bridge is out of range");
    return DSTREAM_EINVAL;
  }
  int status = address_parse(&to, address, error);
  if (status != DSTREAM_OK)
    return status;
  snprintf(peer, sizeof peer, REASON_TARGET "%s", address);
  struct dstream_bridge *b = bridge_new(loop, options, peer, callbacks, user);
  status = DSTREAM_ENOMEM;
  if (b != NULL) {
    b->state = BRIDGE_CONNECTING;
    status = start_connect(b, &to, options);
  }
  if (status != DSTREAM_OK) {
    if (b != NULL)
      release(b);
    end_set(error, status, "can't connect to %s: %s", address,
            dstream_status_text(status));
    return status;
  }
  *out = b;
  return DSTREAM_OK;
}

void bridge_on_hello(dstream_bridge *b,
                     bool (*fn)(void *user, struct link *link,
                                const struct dstream_end *why)) {
  b->hello = fn;
}

void bridge_destroy(dstream_bridge *b) {
  if (b == NULL)
    return;
  if (b->stream != NULL) {
    dstream_stream_set_user(b->stream, NULL);
    stream_close_code(b->stream, 1011, "the program at the other end stops");
  }
  give_link_back(b, b->state >= BRIDGE_WAITING);
  release(b);
}
