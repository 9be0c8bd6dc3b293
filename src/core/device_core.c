#include "core/device_core.h"

#include <assert.h>
#include <string.h>

#include "core/end.h"

#define BIT(action) (1u << (action))

/* Which states may come before each. */
static const unsigned before[] = {
    [DEVICE_STOPPED] = BIT(DEVICE_STOPPING),
    [DEVICE_CONNECTING] =
        BIT(DEVICE_STOPPED) | BIT(DEVICE_RENEWING) | BIT(DEVICE_WAITING),
    [DEVICE_SUBSCRIBING] = BIT(DEVICE_CONNECTING),
    [DEVICE_READY] = BIT(DEVICE_SUBSCRIBING),
    [DEVICE_RENEWING] = BIT(DEVICE_READY),
    [DEVICE_WAITING] =
        BIT(DEVICE_CONNECTING) | BIT(DEVICE_SUBSCRIBING) | BIT(DEVICE_READY),
    [DEVICE_STOPPING] = BIT(DEVICE_CONNECTING) | BIT(DEVICE_SUBSCRIBING) |
                        BIT(DEVICE_READY) | BIT(DEVICE_RENEWING) |
                        BIT(DEVICE_WAITING),
};

const char *device_state_name(enum device_state state) {
  static const char *const names[] = {
      [DEVICE_STOPPED] = "STOPPED",         [DEVICE_CONNECTING] = "CONNECTING",
      [DEVICE_SUBSCRIBING] = "SUBSCRIBING", [DEVICE_READY] = "READY",
      [DEVICE_RENEWING] = "RENEWING",       [DEVICE_WAITING] = "WAITING",
      [DEVICE_STOPPING] = "STOPPING",
  };
  return names[state];
}

void device_connack_end(struct dstream_end *end, int code) {
  static const char *const texts[] = {
      [1] = "the hub refuses this version of MQTT (CONNACK 1)",
      [2] = "the hub refuses the client id (CONNACK 2): check the DeviceId in "
            "the connection string",
      [3] = "the hub is not available now (CONNACK 3)",
      [4] = "not authorized (CONNACK 4): the hub can't read the user name or "
            "token; check the connection string and the api-version",
      [5] = "not authorized (CONNACK 5): check that the device exists and is "
            "enabled, its key, that its clock is right, and that no other "
            "process connects with its identity",
  };
  int status = code == 4 || code == 5 ? DSTREAM_EUNAUTHORIZED : DSTREAM_EMQTT;
  if (code >= 1 && code <= 5)
    end_set(end, status, "%s", texts[code]);
  else
    end_set(end, status, "the hub refused the connection with CONNACK %d",
            code);
  end->mqtt_code = code;
}

/* ---- states ---- */

static void act(struct device_core *core, enum device_action action) {
  core->actions |= BIT(action);
}

/* Subscribing is a part of connecting for the user, and so are both of
 * renewing; STOPPING is nobody's business. */
static enum device_state public_state(const struct device_core *core) {
  switch (core->state) {
  case DEVICE_CONNECTING:
  case DEVICE_SUBSCRIBING:
    return core->renewing ? DEVICE_RENEWING : DEVICE_CONNECTING;
  case DEVICE_STOPPING:
    return core->told;
  default:
    return core->state;
  }
}

static void set_state(struct device_core *core, enum device_state state,
                      uint64_t deadline_ms, const struct dstream_end *cause) {
  assert(before[state] & BIT(core->state));
  core->state = state;
  core->deadline_ms = deadline_ms;
  enum device_state now = public_state(core);
  if (now == core->told && cause == NULL)
    return;
  core->told = now;
  if (cause != NULL)
    core->cause = *cause;
  else
    memset(&core->cause, 0, sizeof core->cause);
  act(core, DEVICE_ACT_TELL);
}

/* A new connection can't be made before the old one is gone: both have the
 * same identity, and the hub would end one of them. */
static void connect_now(struct device_core *core, uint64_t now_ms) {
  if (core->connection) {
    core->connect_due = true;
    return;
  }
  core->connect_due = false;
  core->connection = true;
  core->closing = false;
  act(core, DEVICE_ACT_CONNECT);
  core->deadline_ms = now_ms + DEVICE_CONNECT_MS;
}

static void disconnect(struct device_core *core) {
  if (!core->connection || core->closing)
    return;
  core->closing = true;
  core->actions &= ~BIT(DEVICE_ACT_SUBSCRIBE);
  act(core, DEVICE_ACT_DISCONNECT);
}

static void enter_connecting(struct device_core *core, uint64_t now_ms) {
  set_state(core, DEVICE_CONNECTING, now_ms + DEVICE_CONNECT_MS, NULL);
  connect_now(core, now_ms);
}

static void enter_waiting(struct device_core *core,
                          const struct dstream_end *why, uint64_t now_ms,
                          uint32_t random) {
  core->renewing = false;
  uint32_t wait = backoff_next(&core->backoff, now_ms, random);
  set_state(core, DEVICE_WAITING, now_ms + wait, why);
  disconnect(core);
}

static void stop_connection(struct device_core *core) {
  if (core->connection)
    disconnect(core);
}

static void finish_stop(struct device_core *core) {
  if (core->connection || core->streams > 0)
    return;
  set_state(core, DEVICE_STOPPED, DEVICE_NEVER, NULL);
  act(core, DEVICE_ACT_STOPPED);
}

static void enter_stopping(struct device_core *core, uint64_t now_ms) {
  core->renewing = false;
  core->connect_due = false;
  set_state(core, DEVICE_STOPPING, now_ms + DEVICE_STREAMS_MS, NULL);
  if (core->streams > 0)
    act(core, DEVICE_ACT_END_STREAMS);
  else
    stop_connection(core);
  finish_stop(core);
}

/* ---- events ---- */

void device_core_init(struct device_core *core,
                      const struct device_core_options *options) {
  *core = (struct device_core){.options = *options,
                               .state = DEVICE_STOPPED,
                               .told = DEVICE_STOPPED,
                               .deadline_ms = DEVICE_NEVER};
  backoff_init(&core->backoff, options->retry_min_ms, options->retry_max_ms);
}

int device_core_start(struct device_core *core, uint64_t now_ms) {
  if (core->state != DEVICE_STOPPED)
    return DSTREAM_ESTATE;
  assert(core->streams == 0 && !core->connection);
  backoff_init(&core->backoff, core->options.retry_min_ms,
               core->options.retry_max_ms);
  core->short_lives = 0;
  core->renewing = false;
  enter_connecting(core, now_ms);
  return DSTREAM_OK;
}

void device_core_stop(struct device_core *core, uint64_t now_ms) {
  if (core->state != DEVICE_STOPPED && core->state != DEVICE_STOPPING)
    enter_stopping(core, now_ms);
}

void device_core_connected(struct device_core *core, uint64_t now_ms) {
  if (core->state != DEVICE_CONNECTING || core->closing)
    return;
  set_state(core, DEVICE_SUBSCRIBING, now_ms + DEVICE_SUBSCRIBE_MS, NULL);
  act(core, DEVICE_ACT_SUBSCRIBE);
}

static bool can_fail(const struct device_core *core) {
  return core->connection && !core->closing &&
         (core->state == DEVICE_CONNECTING ||
          core->state == DEVICE_SUBSCRIBING || core->state == DEVICE_READY);
}

void device_core_refused(struct device_core *core, int code, uint64_t now_ms,
                         uint32_t random) {
  if (core->state != DEVICE_CONNECTING || !can_fail(core))
    return;
  struct dstream_end why;
  device_connack_end(&why, code);
  if (code == 4 || code == 5)
    backoff_harder(&core->backoff);
  enter_waiting(core, &why, now_ms, random);
}

/* Says so when it looks as if two processes shared one identity. */
static void note_life(struct device_core *core, uint64_t now_ms,
                      struct dstream_end *why) {
  uint64_t lived = now_ms - core->ready_ms;
  if (lived >= BACKOFF_LIVED_MS)
    core->short_lives = 0;
  else if (lived < DEVICE_SHORT_LIFE_MS)
    core->short_lives++;
  if (core->short_lives < DEVICE_SHORT_LIVES)
    return;
  struct dstream_end storm;
  end_set(&storm, why->status,
          "the connection was lost right after it came up, %u times in a row: "
          "another process connects with this device's identity; stop one of "
          "them",
          core->short_lives);
  memcpy(why->text, storm.text, sizeof why->text);
}

void device_core_lost(struct device_core *core, const struct dstream_end *why,
                      uint64_t now_ms, uint32_t random) {
  if (core->state == DEVICE_STOPPING && core->connection && !core->closing) {
    disconnect(core); /* streams go on ending */
    return;
  }
  if (!can_fail(core))
    return;
  struct dstream_end cause = *why;
  if (core->state == DEVICE_READY)
    note_life(core, now_ms, &cause);
  enter_waiting(core, &cause, now_ms, random);
}

void device_core_subscribed(struct device_core *core, bool granted,
                            uint64_t now_ms, uint32_t random) {
  if (core->state != DEVICE_SUBSCRIBING)
    return;
  if (!granted) {
    struct dstream_end why;
    end_set(&why, DSTREAM_EMQTT,
            "the hub refuses the subscription to stream requests (SUBACK "
            "0x80): device streams may not be enabled there");
    enter_waiting(core, &why, now_ms, random);
    return;
  }
  core->renewing = false;
  core->ready_ms = now_ms;
  backoff_up(&core->backoff, now_ms);
  set_state(core, DEVICE_READY, DEVICE_NEVER, NULL);
}

void device_core_closed(struct device_core *core, uint64_t now_ms) {
  assert(core->connection && core->closing);
  core->connection = false;
  core->closing = false;
  switch (core->state) {
  case DEVICE_RENEWING:
    enter_connecting(core, now_ms);
    break;
  case DEVICE_CONNECTING:
    if (core->connect_due)
      connect_now(core, now_ms);
    break;
  case DEVICE_STOPPING:
    finish_stop(core);
    break;
  default:
    break;
  }
}

void device_core_set_waiting(struct device_core *core, unsigned waiting) {
  core->waiting = waiting;
}

bool device_core_stream_room(const struct device_core *core) {
  return core->streams < core->options.max_streams &&
         core->state != DEVICE_STOPPED && core->state != DEVICE_STOPPING;
}

void device_core_stream_added(struct device_core *core) {
  core->streams++;
  core->handshakes++;
}

void device_core_stream_opened(struct device_core *core) {
  assert(core->handshakes > 0);
  core->handshakes--;
}

void device_core_stream_gone(struct device_core *core, bool opened,
                             uint64_t now_ms) {
  (void)now_ms;
  assert(core->streams > 0);
  core->streams--;
  if (!opened)
    device_core_stream_opened(core);
  if (core->state != DEVICE_STOPPING || core->streams > 0)
    return;
  stop_connection(core);
  finish_stop(core);
}

/* ---- time ---- */

/* When to renew, as things stand. */
static uint64_t renew_at(const struct device_core *core) {
  if (core->options.token_ms == 0)
    return DEVICE_NEVER;
  bool busy = core->waiting > 0 || core->handshakes > 0;
  uint64_t part = core->options.token_ms / 100 * (busy ? 95 : 80);
  return core->token_from_ms + part;
}

uint64_t device_core_deadline(const struct device_core *core) {
  return core->state == DEVICE_READY ? renew_at(core) : core->deadline_ms;
}

static void on_timeout(struct device_core *core, uint64_t now_ms,
                       uint32_t random) {
  struct dstream_end why;
  end_set(&why, DSTREAM_ETIMEDOUT,
          core->state == DEVICE_SUBSCRIBING
              ? "the hub did not answer SUBSCRIBE in %d s"
              : "no connection to the hub in %d s",
          (core->state == DEVICE_SUBSCRIBING ? DEVICE_SUBSCRIBE_MS
                                             : DEVICE_CONNECT_MS) /
              1000);
  enter_waiting(core, &why, now_ms, random);
}

void device_core_tick(struct device_core *core, uint64_t now_ms,
                      uint32_t random) {
  if (now_ms < device_core_deadline(core))
    return;
  switch (core->state) {
  case DEVICE_CONNECTING:
  case DEVICE_SUBSCRIBING:
    on_timeout(core, now_ms, random);
    break;
  case DEVICE_READY:
    core->renewing = true;
    set_state(core, DEVICE_RENEWING, DEVICE_NEVER, NULL);
    disconnect(core);
    break;
  case DEVICE_WAITING:
    enter_connecting(core, now_ms);
    break;
  case DEVICE_STOPPING:
    core->deadline_ms = DEVICE_NEVER;
    if (core->streams > 0)
      act(core, DEVICE_ACT_ABORT_STREAMS);
    break;
  case DEVICE_STOPPED:
  case DEVICE_RENEWING:
    break;
  }
}

enum device_action device_core_pull(struct device_core *core, uint64_t now_ms,
                                    struct dstream_end *cause) {
  for (int action = DEVICE_ACT_TELL; action <= DEVICE_ACT_STOPPED; action++) {
    if ((core->actions & BIT(action)) == 0)
      continue;
    core->actions &= ~BIT(action);
    if (action == DEVICE_ACT_TELL)
      *cause = core->cause;
    if (action == DEVICE_ACT_CONNECT)
      core->token_from_ms = now_ms;
    return (enum device_action)action;
  }
  return DEVICE_ACT_NONE;
}
