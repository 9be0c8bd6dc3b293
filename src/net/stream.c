#include "net/stream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"
#include "core/stream_core.h"

#define DEFAULT_WINDOW      65536
#define MIN_SEND_BUFFER     32768
#define MAX_SEND_BUFFER     1048576
#define MAX_CONNECT_TIMEOUT 60000
#define DEFAULT_KEEPALIVE   30000
#define DEFAULT_CLOSE_WAIT  5000
#define DEFAULT_DRAIN_WAIT  3600000

enum life {
  LIFE_WAITING,  /* exists, not dialled.  DIALLING, ENDING */
  LIFE_DIALLING, /* the link connects.  RUNNING, ENDING */
  LIFE_RUNNING,  /* the link is up, the core rules.  ENDING */
  LIFE_ENDING    /* core.end is set, on_close is about to be told */
};

struct dstream_stream {
  dstream_loop *loop;
  enum life life;
  struct link *link;
  struct stream_core core;
  bool core_started;

  struct dstream_stream_callbacks callbacks;
  void *user;
  void (*gone)(void *owner, dstream_stream *stream);
  void *owner;
  void *owner_data;

  size_t window;     /* the option */
  size_t unconsumed; /* told by on_data and not consumed */
  size_t send_buffer;
  int socket_buffer;
  uint64_t keepalive_ms;
  uint64_t close_timeout_ms;
  uint64_t drain_timeout_ms;
  uint64_t connect_timeout_ms;
  uint64_t connect_deadline_ms; /* once dialled */

  bool short_write; /* on_writable is owed */
  bool dropping;    /* close was called: bytes that come are dropped */
  uint64_t bytes_in;
  uint64_t bytes_out;
  struct loop_timer timer;
  uint64_t timer_due_ms;
  struct loop_task end_task;
  char *host; /* for the upgrade */
  char *path;
  char *token;
  bool eof;

  struct spare *spare; /* NULL: none, or none for this stream */
  bool from_spare;     /* the link was one: it may be dead unnoticed */
  struct spare_place place;
  char *place_host; /* until the stream is open */
  char name[];
};

static void stream_pull(dstream_stream *s);
static void stream_arm(dstream_stream *s);
static void redial(dstream_stream *s);
static void on_stream_timer(struct loop_timer *timer);

/* ---- the end ---- */

static void forget_secrets(dstream_stream *s) {
  if (s->token != NULL)
    crypto_wipe(s->token, strlen(s->token));
  free(s->token);
  free(s->host);
  free(s->path);
  free(s->place_host);
  s->token = s->host = s->path = s->place_host = NULL;
}

static void tell_end(dstream_stream *s) {
  loop_timer_cancel(&s->timer);
  loop_task_cancel(&s->end_task);
  if (s->callbacks.on_close != NULL)
    s->callbacks.on_close(s, s->user, &s->core.end);
  if (s->gone != NULL)
    s->gone(s->owner, s);
  stream_core_clear(&s->core);
  forget_secrets(s);
  free(s);
}

static void on_end_task(struct loop_task *task) {
  tell_end(CONTAINER_OF(task, dstream_stream, end_task));
}

/* The one way to the end.  The link lives on to send what is queued. */
static void stream_finish(dstream_stream *s, const struct dstream_end *end,
                          bool orderly) {
  if (s->life == LIFE_ENDING)
    return;
  if (end != &s->core.end)
    s->core.end = *end; /* the core has nothing more to say */
  s->life = LIFE_ENDING;
  if (orderly)
    link_close(s->link, s->close_timeout_ms);
  else
    link_abort(s->link);
  s->link = NULL;
  loop_timer_cancel(&s->timer);
  loop_defer(s->loop, &s->end_task, on_end_task);
}

static void stream_core_ended(dstream_stream *s) {
  stream_pull(s);
  stream_finish(s, &s->core.end, s->core.end.status != DSTREAM_EIO);
}

/* ---- output ---- */

/* Moves waiting control frames to the link. */
static void stream_pull(dstream_stream *s) {
  uint8_t small[1024];
  while (s->link != NULL && stream_core_has_output(&s->core) &&
         link_has_control_space(s->link)) {
    size_t n = stream_core_pull(&s->core, small, sizeof small);
    if (n == 0)
      break;
    link_write(s->link, small, n);
  }
}

long dstream_stream_write(dstream_stream *s, const void *data, size_t len) {
  if (s->life != LIFE_RUNNING || s->core.state != STREAM_OPEN ||
      s->core.eof_sent)
    return DSTREAM_ESTATE;
  const uint8_t *from = data;
  uint8_t *frame = loop_frame_buffer(s->loop);
  size_t done = 0;
  stream_pull(s);
  while (done < len) {
    size_t space = link_space(s->link);
    if (space <= STREAM_FRAME_HEADER_MAX)
      break;
    size_t taken = 0;
    size_t n = stream_core_frame(&s->core, from + done, len - done, frame,
                                 space, &taken);
    if (n == 0)
      break;
    link_write(s->link, frame, n);
    done += taken;
  }
  s->bytes_out += done;
  if (done < len)
    s->short_write = true;
  return done == 0 && len > 0 ? (long)DSTREAM_EAGAIN : (long)done;
}

size_t stream_write_room(dstream_stream *s) {
  if (s->life != LIFE_RUNNING || s->core.state != STREAM_OPEN ||
      s->core.eof_sent)
    return 0;
  stream_pull(s);
  size_t space = link_space_all(s->link);
  if (space <= STREAM_FRAME_HEADER_MAX) {
    s->short_write = true;
    return 0;
  }
  size_t headers = (space / LOOP_RECORD + 1) * STREAM_FRAME_HEADER_MAX;
  return space - headers;
}

/* ---- input ---- */

static size_t stream_room(const dstream_stream *s) {
  if (s->dropping || s->callbacks.on_data == NULL ||
      s->core.state == STREAM_UPGRADING)
    return SIZE_MAX;
  return s->window - s->unconsumed;
}

/* A little even when the window is used up: the peer's pings and its end may be
 * what comes next. */
static size_t on_link_room(void *user) {
  size_t room = stream_room(user);
  return room > STREAM_FRAME_HEADER_MAX ? room : STREAM_FRAME_HEADER_MAX;
}

static void stream_tell(dstream_stream *s, enum stream_event event,
                        const struct stream_data *data) {
  switch (event) {
  case STREAM_EV_OPEN:
    forget_secrets(s);
    s->connect_deadline_ms = 0;
    if (s->spare != NULL)
      spare_refill(s->spare);
    if (s->callbacks.on_open != NULL)
      s->callbacks.on_open(s, s->user);
    break;
  case STREAM_EV_DATA:
    if (s->dropping)
      break;
    assert(data != NULL);
    s->bytes_in += data->len;
    if (s->callbacks.on_data == NULL)
      break;
    s->unconsumed += data->len;
    s->callbacks.on_data(s, s->user, data->p, data->len);
    break;
  case STREAM_EV_EOF:
    if (s->callbacks.on_eof != NULL && !s->dropping)
      s->callbacks.on_eof(s, s->user);
    break;
  case STREAM_EV_CLOSED:
    stream_core_ended(s);
    break;
  case STREAM_EV_NONE:
    break;
  }
}

static size_t on_link_data(void *user, uint8_t *bytes, size_t len) {
  dstream_stream *s = user;
  uint64_t now = loop_now_ms();
  size_t done = 0;
  for (;;) {
    size_t used = 0;
    struct stream_data data = {NULL, 0};
    enum stream_event event = stream_core_feed(
        &s->core, bytes + done, len - done, stream_room(s), &used, &data, now);
    done += used;
    stream_tell(s, event, &data);
    if (s->life == LIFE_ENDING)
      return len;
    if (event == STREAM_EV_NONE)
      break;
  }
  stream_pull(s);
  if (done < len)
    stream_core_set_paused(&s->core, true, now);
  stream_arm(s);
  return done;
}

void dstream_stream_consume(dstream_stream *s, size_t len) {
  assert(len <= s->unconsumed || s->dropping);
  s->unconsumed -= len < s->unconsumed ? len : s->unconsumed;
  if (s->life != LIFE_RUNNING || !s->core.paused)
    return;
  stream_core_set_paused(&s->core, false, loop_now_ms());
  link_resume(s->link);
}

/* ---- the link's other events ---- */

static void on_link_up(void *user) {
  dstream_stream *s = user;
  struct stream_core_options options = {
      .host = s->host,
      .path = s->path,
      .token = s->token,
      .keepalive_ms = s->keepalive_ms,
      .close_timeout_ms = s->close_timeout_ms,
      .drain_timeout_ms = s->drain_timeout_ms,
      .eof = s->eof,
  };
  int status = stream_core_connect(&s->core, &options, loop_now_ms());
  if (status != DSTREAM_OK) {
    struct dstream_end end;
    end_set(&end, status, "can't ask %s for a WebSocket: %s", s->host,
            dstream_status_text(status));
    stream_finish(s, &end, false);
    return;
  }
  s->core_started = true;
  s->life = LIFE_RUNNING;
  stream_pull(s);
  stream_arm(s);
}

static void on_link_drain(void *user) {
  dstream_stream *s = user;
  stream_pull(s);
  if (!s->short_write || s->core.state != STREAM_OPEN || s->core.eof_sent)
    return;
  s->short_write = false;
  if (s->callbacks.on_writable != NULL)
    s->callbacks.on_writable(s, s->user);
}

static void on_link_sent(void *user) {
  dstream_stream *s = user;
  stream_pull(s);
  if (s->core.state != STREAM_CLOSING)
    return;
  stream_core_progress(&s->core, loop_now_ms());
  stream_arm(s);
}

static void on_link_end(void *user, const struct dstream_end *why) {
  dstream_stream *s = user;
  if (s->from_spare && s->core.state == STREAM_UPGRADING && !s->core.answered) {
    redial(s);
  } else if (!s->core_started) {
    struct dstream_end end;
    if (why != NULL)
      end = *why;
    else
      end_set(&end, DSTREAM_EIO, "%s closed the connection", s->host);
    stream_finish(s, &end, false);
  } else if (stream_core_transport_end(&s->core, why) == STREAM_EV_CLOSED) {
    stream_core_ended(s);
  }
}

static const struct link_callbacks stream_link_callbacks = {
    .on_up = on_link_up,
    .on_data = on_link_data,
    .room = on_link_room,
    .on_drain = on_link_drain,
    .on_sent = on_link_sent,
    .on_end = on_link_end,
};

/* ---- time ---- */

static uint64_t stream_due(const dstream_stream *s) {
  uint64_t due =
      s->core_started ? stream_core_deadline(&s->core) : STREAM_NEVER;
  if (s->connect_deadline_ms != 0 && s->connect_deadline_ms < due)
    due = s->connect_deadline_ms;
  return due;
}

/* A timer that is set too early costs one look at the clock; one that is moved
 * for each byte costs on the data path.  So it is only ever moved forward. */
static void stream_arm(dstream_stream *s) {
  uint64_t due = stream_due(s);
  if (s->life == LIFE_ENDING || due >= s->timer_due_ms)
    return;
  uint64_t now = loop_now_ms();
  s->timer_due_ms = due;
  loop_timer_set(s->loop, &s->timer, due > now ? due - now : 0,
                 on_stream_timer);
}

static void on_stream_timer(struct loop_timer *timer) {
  dstream_stream *s = CONTAINER_OF(timer, dstream_stream, timer);
  uint64_t now = loop_now_ms();
  s->timer_due_ms = STREAM_NEVER;
  if (s->connect_deadline_ms != 0 && now >= s->connect_deadline_ms) {
    struct dstream_end end;
    end_set(&end, DSTREAM_ETIMEDOUT, "the stream was not open in time: %s",
            s->life == LIFE_DIALLING ? "no connection to the streaming "
                                       "endpoint"
                                     : "the streaming endpoint did not "
                                       "answer the upgrade");
    stream_finish(s, &end, false);
    return;
  }
  if (s->link != NULL && s->core_started) {
    if (link_is_slow(s->link))
      stream_core_progress(&s->core, now);
    stream_core_unanswered(&s->core, link_unanswered(s->link), now);
  }
  if (s->core_started && now >= stream_core_deadline(&s->core)) {
    enum stream_event event = stream_core_tick(&s->core, now);
    stream_pull(s);
    stream_tell(s, event, NULL);
  }
  stream_arm(s);
}

/* ---- making one ---- */

static int check_options(const struct dstream_stream_options *o) {
  if (o->size != sizeof *o || o->socket_buffer < 0 ||
      o->connect_timeout_ms < 0 ||
      o->connect_timeout_ms > MAX_CONNECT_TIMEOUT || o->keepalive_ms < -1 ||
      o->close_timeout_ms < 0 || o->drain_timeout_ms < 0)
    return DSTREAM_EINVAL;
  if (o->send_buffer != 0 &&
      (o->send_buffer < MIN_SEND_BUFFER || o->send_buffer > MAX_SEND_BUFFER))
    return DSTREAM_EINVAL;
  return DSTREAM_OK;
}

static uint64_t or_default(int value, uint64_t fallback) {
  return value == 0 ? fallback : value < 0 ? 0 : (uint64_t)value;
}

int stream_new(dstream_stream **out, dstream_loop *loop, const char *name,
               const struct dstream_stream_options *options,
               const struct dstream_stream_callbacks *callbacks, void *user,
               void (*gone)(void *owner, dstream_stream *stream), void *owner) {
  static const struct dstream_stream_options defaults = {.size =
                                                             sizeof defaults};
  if (options == NULL || options->size == 0)
    options = &defaults;
  if (check_options(options) != DSTREAM_OK)
    return DSTREAM_EINVAL;
  size_t name_size = strlen(name) + 1;
  dstream_stream *s = calloc(1, sizeof *s + name_size);
  if (s == NULL)
    return DSTREAM_ENOMEM;
  memcpy(s->name, name, name_size);
  s->loop = loop;
  if (callbacks != NULL)
    s->callbacks = *callbacks;
  s->user = user;
  s->gone = gone;
  s->owner = owner;
  s->window = options->window == 0 ? DEFAULT_WINDOW : options->window;
  s->send_buffer = options->send_buffer;
  s->socket_buffer = options->socket_buffer;
  s->keepalive_ms = or_default(options->keepalive_ms, DEFAULT_KEEPALIVE);
  s->close_timeout_ms =
      or_default(options->close_timeout_ms, DEFAULT_CLOSE_WAIT);
  s->drain_timeout_ms =
      or_default(options->drain_timeout_ms, DEFAULT_DRAIN_WAIT);
  s->connect_timeout_ms =
      or_default(options->connect_timeout_ms, MAX_CONNECT_TIMEOUT);
  s->timer_due_ms = STREAM_NEVER;
  *out = s;
  return DSTREAM_OK;
}

static void fail_dial(dstream_stream *s, int status, const char *host) {
  struct dstream_end end;
  end_set(&end, status, "can't connect to %s: %s", host,
          dstream_status_text(status));
  stream_finish(s, &end, false);
}

static int copy_target(dstream_stream *s, const struct stream_target *target) {
  char host[300];
  if (stream_url_host_header(target->url, host, sizeof host) < 0)
    return DSTREAM_EINVAL;
  s->host = strdup(host);
  s->path = strdup(target->url->target);
  s->token = strdup(target->token);
  s->eof = target->eof;
  s->place_host = strdup(target->url->host);
  s->place = (struct spare_place){.host = s->place_host,
                                  .port = target->url->port,
                                  .tls = target->tls,
                                  .proxy = target->proxy};
  if (s->socket_buffer == 0) /* that of a spare one is the system's */
    s->spare = target->spare;
  return s->host != NULL && s->path != NULL && s->token != NULL &&
                 s->place_host != NULL
             ? DSTREAM_OK
             : DSTREAM_ENOMEM;
}

static void dial_fresh(dstream_stream *s) {
  const struct link_options options = {.tls = s->place.tls,
                                       .send_buffer = s->send_buffer,
                                       .socket_buffer = s->socket_buffer};
  int status =
      link_connect(&s->link, s->loop, s->place.host, s->place.port,
                   s->place.proxy, &options, &stream_link_callbacks, s);
  if (status != DSTREAM_OK)
    fail_dial(s, status, s->place.host);
}

/* A server may have ended an idle connection just before it was used: nothing
 * of the stream was lost with it. */
static void redial(dstream_stream *s) {
  s->from_spare = false;
  link_abort(s->link);
  s->link = NULL;
  stream_core_clear(&s->core);
  s->core_started = false;
  s->life = LIFE_DIALLING;
  dial_fresh(s);
}

void stream_dial(dstream_stream *s, const struct stream_target *target) {
  if (s->life != LIFE_WAITING)
    return;
  int status = copy_target(s, target);
  if (status != DSTREAM_OK) {
    fail_dial(s, status, target->url->host);
    return;
  }
  s->life = LIFE_DIALLING;
  s->connect_deadline_ms = loop_now_ms() + s->connect_timeout_ms;
  if (s->spare != NULL)
    s->link = spare_take(s->spare, s->loop, &s->place);
  s->from_spare = s->link != NULL;
  if (!s->from_spare) {
    dial_fresh(s);
  } else {
    link_set_send_buffer(s->link, s->send_buffer);
    link_set_owner(s->link, &stream_link_callbacks, s);
    on_link_up(s);
  }
  stream_arm(s);
}

void stream_fail(dstream_stream *s, const struct dstream_end *end) {
  stream_finish(s, end, false);
}

void stream_destroy(dstream_stream *s) {
  struct dstream_end end;
  end_set(&end, DSTREAM_ECANCELED, "the owner of the stream went away");
  stream_finish(s, &end, true);
  tell_end(s);
}

/* ---- ending ---- */

static void canceled(dstream_stream *s) {
  struct dstream_end end;
  end_set(&end, DSTREAM_ECANCELED, "closed before it was open");
  stream_finish(s, &end, false);
}

void stream_close_code(dstream_stream *s, int code, const char *reason) {
  if (s->life == LIFE_ENDING || s->dropping)
    return;
  if (s->life != LIFE_RUNNING || s->core.state == STREAM_UPGRADING) {
    canceled(s);
    return;
  }
  uint64_t now = loop_now_ms();
  s->dropping = true;
  stream_core_close(&s->core, code, reason, now);
  stream_pull(s);
  if (s->core.paused) {
    stream_core_set_paused(&s->core, false, now);
    link_resume(s->link);
  }
  stream_arm(s);
}

void dstream_stream_close(dstream_stream *s) {
  stream_close_code(s, 1000, NULL);
}

void dstream_stream_abort(dstream_stream *s) {
  struct dstream_end end;
  end_set(&end, DSTREAM_OK, "aborted by this side");
  stream_finish(s, &end, false);
}

int dstream_stream_shutdown_write(dstream_stream *s) {
  if (s->life != LIFE_RUNNING || s->core.state != STREAM_OPEN)
    return DSTREAM_ESTATE;
  if (!s->core.eof) {
    dstream_stream_close(s);
    return DSTREAM_OK;
  }
  int status = stream_core_shutdown(&s->core, loop_now_ms());
  stream_pull(s);
  stream_arm(s);
  return status;
}

/* ---- looking ---- */

bool dstream_stream_has_eof(const dstream_stream *s) {
  return s->core_started && s->core.eof;
}

const char *dstream_stream_name(const dstream_stream *s) {
  return s->name;
}

void *dstream_stream_user(const dstream_stream *s) {
  return s->user;
}

void dstream_stream_set_user(dstream_stream *s, void *user) {
  s->user = user;
}

uint64_t dstream_stream_bytes_in(const dstream_stream *s) {
  return s->bytes_in;
}

uint64_t dstream_stream_bytes_out(const dstream_stream *s) {
  return s->bytes_out;
}

void stream_set_owner_data(dstream_stream *s, void *data) {
  s->owner_data = data;
}

void *stream_owner_data(const dstream_stream *s) {
  return s->owner_data;
}
