#include "hub/relay.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/container.h"
#include "core/end.h"

enum side_state {
  SIDE_ABSENT,  /* awaits relay_attach.  ACTIVE, DONE */
  SIDE_ACTIVE,  /* bytes both ways.  HALF, CLOSING, DONE */
  SIDE_HALF,    /* plain: the peer ended its direction.  DONE */
  SIDE_CLOSING, /* WebSocket: Close is out, awaits the peer's.  DONE */
  SIDE_DONE     /* the link is given back */
};

struct side {
  struct relay *relay;
  enum side_state state;
  struct link *link;
  bool ws;
  bool starved;   /* it has bytes for which the other side had no room */
  bool early_eof; /* it ended its direction before the other side came */
  bool mute; /* its peer takes nothing any more: what is for it is dropped */
  struct stream_core core;
  struct loop_timer timer;
  uint64_t timer_due_ms;
  uint64_t bytes;
};

struct relay {
  dstream_loop *loop;
  uint64_t close_timeout_ms;
  struct relay_events events;
  void *user;
  struct side sides[2];
  struct loop_task end_task;
  bool ending;
  int ended; /* who ended first */
  struct dstream_end cause;
  uint64_t last_ms;
  uint64_t stalls;
};

static void side_over(struct side *side, const struct dstream_end *cause);
static void side_arm(struct side *side);

static struct side *other(struct side *side) {
  struct relay *relay = side->relay;
  return side == &relay->sides[0] ? &relay->sides[1] : &relay->sides[0];
}

static bool side_takes(const struct side *side) {
  return side->state == SIDE_ACTIVE || side->state == SIDE_HALF;
}

/* ---- output ---- */

static void side_pull(struct side *side) {
  uint8_t small[1024];
  while (side->ws && side->link != NULL &&
         stream_core_has_output(&side->core) &&
         link_has_control_space(side->link)) {
    size_t n = stream_core_pull(&side->core, small, sizeof small);
    if (n == 0)
      return;
    link_write(side->link, small, n);
  }
}

/* Payload that the side takes now. */
static size_t side_room(struct side *side) {
  if (!side_takes(side))
    return 0;
  if (side->mute)
    return LOOP_RECORD;
  size_t space = link_space(side->link);
  size_t header = side->ws ? ws_header_size(space, false) : 0;
  return space > header ? space - header : 0;
}

/* len <= side_room.  The `before` bytes in front of data are of no more use. */
static void side_put(struct side *side, uint8_t *data, size_t len,
                     size_t before) {
  if (side->mute)
    return;
  if (!side->ws) {
    link_write(side->link, data, len);
    return;
  }
  side_pull(side);
  size_t header = stream_core_frame_before(&side->core, data, len, before);
  if (header > 0) {
    link_write(side->link, data - header, header + len);
    return;
  }
  uint8_t *frame = loop_frame_buffer(side->relay->loop);
  size_t taken = 0;
  size_t n =
      stream_core_frame(&side->core, data, len, frame, LOOP_RECORD, &taken);
  assert(n == 0 || taken == len);
  if (n > 0)
    link_write(side->link, frame, n);
}

/* ---- the end ---- */

static void on_end_task(struct loop_task *task) {
  struct relay *relay = CONTAINER_OF(task, struct relay, end_task);
  relay->events.on_end(relay->user, relay, relay->ended, &relay->cause);
}

static void relay_check_done(struct relay *relay) {
  if (relay->sides[0].state == SIDE_DONE && relay->sides[1].state == SIDE_DONE)
    loop_defer(relay->loop, &relay->end_task, on_end_task);
}

static void side_done(struct side *side, bool orderly) {
  if (side->state == SIDE_DONE)
    return;
  side->state = SIDE_DONE;
  loop_timer_cancel(&side->timer);
  if (orderly)
    link_close(side->link, side->relay->close_timeout_ms);
  else
    link_abort(side->link);
  side->link = NULL;
  if (side->ws)
    stream_core_clear(&side->core);
  relay_check_done(side->relay);
}

/* Asks a side for its orderly end. */
static void side_close(struct side *side, int code, const char *reason) {
  if (side->state == SIDE_ABSENT || (side_takes(side) && !side->ws)) {
    side_done(side, true);
  } else if (side->state == SIDE_ACTIVE) {
    uint64_t now = loop_now_ms();
    side->state = SIDE_CLOSING;
    stream_core_close(&side->core, code, reason, now);
    stream_core_set_paused(&side->core, false, now);
    side_pull(side);
    side_arm(side);
    link_resume(side->link);
  }
}

/* Why the other side is told to close; NULL: because this one did. */
static const char *failure_of(const struct side *side,
                              const struct dstream_end *cause, char *reason) {
  if (cause->status == DSTREAM_EKEEPALIVE)
    return "WS disconnected: no answer to pings";
  if (cause->status != DSTREAM_OK && cause->status != DSTREAM_ECLOSED)
    return "WS disconnected";
  if (!side->ws || cause->status == DSTREAM_OK)
    return NULL;
  if (cause->ws_code == WS_CLOSE_NORMAL || cause->ws_code == WS_CLOSE_NO_CODE)
    return NULL;
  /* The official clients just go; who knows half-close says so first. */
  if (cause->ws_code == WS_CLOSE_ABNORMAL)
    return side->core.eof ? "WS disconnected" : NULL;
  stream_core_peer_reason(&side->core, reason);
  return reason[0] != '\0' ? reason : "the other side gave no reason";
}

static void pass_on_end(struct side *side, const struct dstream_end *cause) {
  char reason[WS_REASON_MAX + 1] = "";
  const char *failure = failure_of(side, cause, reason);
  int code = failure == NULL                         ? WS_CLOSE_NORMAL
             : cause->ws_code == WS_CLOSE_GOING_AWAY ? WS_CLOSE_GOING_AWAY
                                                     : WS_CLOSE_INTERNAL;
  /* It said all it had to before the other side was there: that one is told
   * when it comes. */
  bool later =
      side->ws && failure == NULL && cause->ws_code != WS_CLOSE_ABNORMAL;
  if (!later || other(side)->state != SIDE_ABSENT)
    side_close(other(side), code, failure);
}

static void side_over(struct side *side, const struct dstream_end *cause) {
  struct relay *relay = side->relay;
  if (side->state == SIDE_DONE)
    return;
  if (!relay->ending) {
    relay->ending = true;
    relay->ended = (int)(side - relay->sides);
    relay->cause = *cause;
  }
  side_pull(side);
  pass_on_end(side, cause);
  side_done(side, cause->status != DSTREAM_EIO);
}

/* The peer broke the protocol: its Close 1002 is on its way and need not be
 * waited for (RFC 6455 7.1.7); the other side is told now. */
static void side_broke(struct side *side) {
  struct relay *relay = side->relay;
  if (!relay->ending) {
    relay->ending = true;
    relay->ended = (int)(side - relay->sides);
    relay->cause = side->core.end;
  }
  side->state = SIDE_CLOSING;
  side_close(other(side), 1011, "WS disconnected");
}

void relay_end(struct relay *relay, int code, const char *reason) {
  if (!relay->ending) {
    relay->ending = true;
    relay->ended = -1;
    end_set(&relay->cause, DSTREAM_ECANCELED, "%s",
            reason == NULL ? "ended by the hub" : reason);
    relay->cause.ws_code = code;
  }
  side_close(&relay->sides[0], code, reason);
  side_close(&relay->sides[1], code, reason);
}

/* ---- input ---- */

/* A direction ended, the other goes on. */
static void side_eof(struct side *side) {
  struct side *to = other(side);
  if (to->state == SIDE_ABSENT) {
    side->early_eof = true;
  } else if (to->ws && to->state == SIDE_ACTIVE) {
    if (stream_core_shutdown(&to->core, loop_now_ms()) == DSTREAM_OK)
      side_pull(to);
    else
      side_close(to, 1000, NULL);
  } else if (!to->ws && to->link != NULL) {
    link_shutdown(to->link);
  }
}

static size_t take_plain(struct side *side, uint8_t *bytes, size_t len) {
  struct side *to = other(side);
  size_t done = 0;
  while (done < len) {
    size_t room = side_room(to);
    size_t n = len - done < room ? len - done : room;
    if (n == 0)
      break;
    side_put(to, bytes + done, n, done);
    done += n;
  }
  if (!to->mute)
    side->bytes += done;
  return done;
}

static size_t take_ws(struct side *side, uint8_t *bytes, size_t len,
                      uint64_t now) {
  struct side *to = other(side);
  size_t done = 0;
  while (side->state != SIDE_DONE) {
    size_t used = 0;
    struct stream_data data = {NULL, 0};
    enum stream_event event =
        stream_core_feed(&side->core, bytes + done, len - done, side_room(to),
                         &used, &data, now);
    done += used;
    if (event == STREAM_EV_DATA) {
      side_put(to, data.p, data.len, (size_t)(data.p - bytes));
      if (!to->mute)
        side->bytes += data.len;
    } else if (event == STREAM_EV_EOF) {
      side_eof(side);
    } else if (event == STREAM_EV_CLOSED) {
      struct dstream_end end = side->core.end;
      side_over(side, &end);
      return len;
    } else {
      break;
    }
  }
  side_pull(side);
  if (side->state == SIDE_ACTIVE && side->core.end.status == DSTREAM_EFRAME)
    side_broke(side);
  if (done < len)
    stream_core_set_paused(&side->core, true, now);
  side_arm(side);
  return done;
}

/* What comes before both sides are there waits, but nobody is slow. */
static bool relay_complete(const struct relay *relay) {
  return relay->sides[0].state != SIDE_ABSENT &&
         relay->sides[1].state != SIDE_ABSENT;
}

static size_t on_data(void *user, uint8_t *data, size_t len) {
  struct side *side = user;
  uint64_t now = loop_now_ms();
  uint64_t before = side->bytes;
  size_t done =
      side->ws ? take_ws(side, data, len, now) : take_plain(side, data, len);
  if (side->bytes != before)
    side->relay->last_ms = now;
  if (done < len && !side->starved && relay_complete(side->relay))
    side->relay->stalls++;
  side->starved = done < len;
  return done;
}

/* A little even when the other side takes nothing: pings and the end may be
 * what comes next. */
static size_t on_room(void *user) {
  struct side *side = user;
  struct side *to = other(side);
  if (to->mute || (side->ws && side->core.state == STREAM_CLOSING))
    return LOOP_CHUNK; /* to be dropped */
  size_t room = side_takes(to) ? link_space_all(to->link) : 0;
  return room > STREAM_FRAME_HEADER_MAX ? room : STREAM_FRAME_HEADER_MAX;
}

/* There is room for what this side has held back. */
static void side_go_on(struct side *side) {
  if (!side->starved || side->link == NULL)
    return;
  side->starved = false;
  if (side->ws)
    stream_core_set_paused(&side->core, false, loop_now_ms());
  link_resume(side->link);
}

static void on_drain(void *user) {
  struct side *side = user;
  side_pull(side);
  side_go_on(other(side));
}

/* What it sent before its connection broke may wait for the other side, and
 * that one for this one: two programs that first send, then read. */
static void on_write_failed(void *user) {
  struct side *side = user;
  side->mute = true;
  side_go_on(other(side));
}

static void on_sent(void *user) {
  struct side *side = user;
  side_pull(side);
  if (!side->ws || side->core.state != STREAM_CLOSING)
    return;
  stream_core_progress(&side->core, loop_now_ms());
  side_arm(side);
}

static void plain_end(struct side *side, const struct dstream_end *why) {
  struct dstream_end end;
  if (why != NULL) {
    side_over(side, why);
    return;
  }
  if (side->state == SIDE_ACTIVE)
    side->state = SIDE_HALF;
  side_eof(side);
  /* Over when the other plain side has ended as well, or was asked to. */
  struct side *to = other(side);
  if (to->state != SIDE_ACTIVE && side->state == SIDE_HALF) {
    end_set(&end, DSTREAM_ECLOSED, "the connection was closed");
    side_over(side, &end);
  }
}

static void on_link_end(void *user, const struct dstream_end *why) {
  struct side *side = user;
  if (!side->ws) {
    plain_end(side, why);
  } else if (stream_core_transport_end(&side->core, why) == STREAM_EV_CLOSED) {
    struct dstream_end end = side->core.end;
    side_over(side, &end);
  }
}

/* A plain side may still be connecting (the broker's socket) when it is
 * attached: now it takes bytes. */
static void on_up(void *user) {
  side_go_on(other(user));
}

static const struct link_callbacks callbacks = {.on_up = on_up,
                                                .on_data = on_data,
                                                .room = on_room,
                                                .on_drain = on_drain,
                                                .on_sent = on_sent,
                                                .on_write_failed =
                                                    on_write_failed,
                                                .on_end = on_link_end};

/* ---- time ---- */

static void on_timer(struct loop_timer *timer) {
  struct side *side = CONTAINER_OF(timer, struct side, timer);
  uint64_t now = loop_now_ms();
  side->timer_due_ms = STREAM_NEVER;
  if (link_is_slow(side->link))
    stream_core_progress(&side->core, now);
  stream_core_unanswered(&side->core, link_unanswered(side->link), now);
  if (now >= stream_core_deadline(&side->core) &&
      stream_core_tick(&side->core, now) == STREAM_EV_CLOSED) {
    struct dstream_end end = side->core.end;
    side_over(side, &end);
    return;
  }
  side_pull(side);
  side_arm(side);
}

/* Only ever moved forward: see stream_arm in net/stream.c. */
static void side_arm(struct side *side) {
  if (!side->ws || side->state == SIDE_DONE)
    return;
  uint64_t due = stream_core_deadline(&side->core);
  if (due >= side->timer_due_ms)
    return;
  uint64_t now = loop_now_ms();
  side->timer_due_ms = due;
  loop_timer_set(side->relay->loop, &side->timer, due > now ? due - now : 0,
                 on_timer);
}

/* ---- life ---- */

int relay_new(struct relay **out, dstream_loop *loop, uint64_t close_timeout_ms,
              const struct relay_events *events, void *user) {
  struct relay *relay = calloc(1, sizeof *relay);
  if (relay == NULL)
    return DSTREAM_ENOMEM;
  relay->loop = loop;
  relay->close_timeout_ms = close_timeout_ms;
  relay->events = *events;
  relay->user = user;
  for (int i = 0; i < 2; i++) {
    relay->sides[i].relay = relay;
    relay->sides[i].timer_due_ms = STREAM_NEVER;
  }
  *out = relay;
  return DSTREAM_OK;
}

void relay_attach(struct relay *relay, enum relay_side_name name,
                  struct link *link, struct stream_core *core) {
  struct side *side = &relay->sides[name];
  assert(side->state == SIDE_ABSENT);
  side->state = SIDE_ACTIVE;
  side->link = link;
  if (core != NULL) {
    side->ws = true;
    side->core = *core;
    memset(core, 0, sizeof *core);
  }
  link_set_owner(link, &callbacks, side);
  side_pull(side);
  side_arm(side);
  if (other(side)->link != NULL) {
    link_resume(link);
    if (other(side)->early_eof)
      side_eof(other(side));
    side_go_on(other(side)); /* the first one waits for this one */
  } else if (side->ws) {
    link_resume(link); /* its pings and its end are seen already now */
  }
  if (relay->ending) /* the first one has gone in the orderly way */
    side_close(side, WS_CLOSE_NORMAL, NULL);
}

bool relay_has(const struct relay *relay, enum relay_side_name name) {
  return relay->sides[name].state != SIDE_ABSENT;
}

void relay_set_eof(struct relay *relay, bool eof) {
  for (int i = 0; i < 2; i++) {
    relay->sides[i].core.eof = eof;
    side_arm(&relay->sides[i]); /* one that is paused pings more often now */
  }
}

uint64_t relay_bytes(const struct relay *relay, enum relay_side_name name) {
  return relay->sides[name].bytes;
}

uint64_t relay_stalls(const struct relay *relay) {
  return relay->stalls;
}

const char *relay_peer(const struct relay *relay, enum relay_side_name name) {
  const struct link *link = relay->sides[name].link;
  return link != NULL ? link_peer(link) : NULL;
}

uint64_t relay_last_ms(const struct relay *relay) {
  return relay->last_ms;
}

void relay_free(struct relay *relay) {
  if (relay == NULL)
    return;
  loop_task_cancel(&relay->end_task);
  for (int i = 0; i < 2; i++) {
    struct side *side = &relay->sides[i];
    loop_timer_cancel(&side->timer);
    link_abort(side->link);
    if (side->ws)
      stream_core_clear(&side->core);
  }
  free(relay);
}
