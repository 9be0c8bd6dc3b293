#include "hub/main_endpoint.h"

#include <assert.h>
#include <fcntl.h>
#include <mosquitto.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/container.h"
#include "core/crypto.h"
#include "hub/broker_wire.h"
#include "hub/identity.h"
#include "hub/presence.h"
#include "net/loop.h"

#define RETRY_MIN_MS 20
#define RETRY_MAX_MS 1000
#define TICK_MS      1000  /* between two ticks, unless one is due */
#define QUIET_MS     50000 /* below KEEPALIVE_S: it is alive, both say */
#define KEEPALIVE_S  60
#define CLOCK_LATE_NS                                                          \
  50000000                  /* the plugin's clock ticks 100 times a second     \
                             */
#define BACKLOG_MAX    4096 /* messages the broker has not taken */
#define READ_PACKETS   256  /* handled in one go */
#define CONNECT_MAX_MS 5000

enum endpoint_state {
  ENDPOINT_DOWN,       /* awaits the retry timer.  CONNECTING: the socket
                          connected */
  ENDPOINT_CONNECTING, /* CONNECT is sent, awaits CONNACK.  LEARNING: accepted;
                          DOWN: refused, lost, or CONNECT_MAX_MS passed */
  ENDPOINT_LEARNING,   /* a snapshot is asked for.  UP: it is complete; DOWN:
                          lost */
  ENDPOINT_UP          /* DOWN: lost */
};

struct main_endpoint {
  dstream_loop *loop;
  struct main_endpoint_events events;
  void *user;
  enum endpoint_state state;
  uint64_t since_ms;
  struct mosquitto *client;
  struct loop_watch watch;
  struct loop_timer timer; /* retry while DOWN, a tick otherwise */
  struct loop_watch clock; /* a tick at a time of day */
  bool asked;              /* a tick was not answered */
  bool news;               /* something was heard after the last tick */
  bool due;                /* the plugin wants a tick */
  uint64_t retry_ms;
  bool lost;        /* libmosquitto closed its socket */
  bool in_snapshot; /* between its begin and its end */
  uint64_t number;  /* of the last presence message */
  unsigned backlog; /* messages since everything was written */
  struct presence *presence;
  char path[sizeof((struct sockaddr_un *)0)->sun_path];
};

static void on_retry(struct loop_timer *timer);
static void on_tick(struct loop_timer *timer);

static void set_state(struct main_endpoint *endpoint,
                      enum endpoint_state state) {
  assert(state == ENDPOINT_DOWN ? endpoint->state != ENDPOINT_DOWN
                                : (int)state == (int)endpoint->state + 1);
  endpoint->state = state;
  endpoint->since_ms = loop_now_ms();
}

/* ---- the connection ---- */

static void tell_ready(void *user, const char *id, bool ready) {
  struct main_endpoint *endpoint = user;
  if (endpoint->events.on_presence != NULL)
    endpoint->events.on_presence(endpoint->user, id, ready);
}

/* Everything that depends on the connection ends with it. */
static void go_down(struct main_endpoint *endpoint) {
  bool was_up = endpoint->state == ENDPOINT_UP;
  loop_watch_close(&endpoint->watch);
  set_state(endpoint, ENDPOINT_DOWN);
  endpoint->lost = false;
  endpoint->in_snapshot = false;
  endpoint->asked = endpoint->news = endpoint->due = false;
  loop_timer_set(endpoint->loop, &endpoint->timer, endpoint->retry_ms,
                 on_retry);
  presence_mark_all(endpoint->presence);
  presence_remove_marked(endpoint->presence);
  if (was_up && endpoint->events.on_down != NULL)
    endpoint->events.on_down(endpoint->user);
}

/* After anything libmosquitto did: notices a lost connection, and has the rest
 * of the output written when there is room. */
static void after_io(struct main_endpoint *endpoint) {
  if (endpoint->state == ENDPOINT_DOWN)
    return;
  if (endpoint->lost) {
    go_down(endpoint);
    return;
  }
  bool want_write = mosquitto_want_write(endpoint->client);
  if (!want_write)
    endpoint->backlog = 0;
  loop_watch_want(&endpoint->watch,
                  want_write ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

static void on_watch(struct loop_watch *watch, unsigned events) {
  struct main_endpoint *endpoint =
      CONTAINER_OF(watch, struct main_endpoint, watch);
  int rc = MOSQ_ERR_SUCCESS;
  if (events & LOOP_READ)
    rc = mosquitto_loop_read(endpoint->client, READ_PACKETS);
  if (rc == MOSQ_ERR_SUCCESS && mosquitto_want_write(endpoint->client))
    rc = mosquitto_loop_write(endpoint->client, 1);
  if (rc != MOSQ_ERR_SUCCESS)
    endpoint->lost = true;
  after_io(endpoint);
}

static int publish(struct main_endpoint *endpoint, const char *topic,
                   const void *payload, size_t len) {
  int rc = mosquitto_publish(endpoint->client, NULL, topic, (int)len, payload,
                             0, false);
  if (rc == MOSQ_ERR_NOMEM)
    return DSTREAM_ENOMEM;
  if (rc != MOSQ_ERR_SUCCESS)
    return DSTREAM_EIO;
  endpoint->backlog++;
  return DSTREAM_OK;
}

/* libmosquitto closes its socket by itself, the watch needs one of its own. */
static int watch_socket(struct main_endpoint *endpoint) {
  int fd = fcntl(mosquitto_socket(endpoint->client), F_DUPFD_CLOEXEC, 0);
  if (fd < 0)
    return DSTREAM_ESYSTEM;
  memset(&endpoint->watch, 0, sizeof endpoint->watch);
  return loop_watch_start(endpoint->loop, &endpoint->watch, fd, on_watch);
}

static bool try_connect(struct main_endpoint *endpoint) {
  endpoint->lost = false;
  if (mosquitto_connect(endpoint->client, endpoint->path, 0, KEEPALIVE_S) !=
      MOSQ_ERR_SUCCESS)
    return false;
  if (watch_socket(endpoint) == DSTREAM_OK)
    return true;
  mosquitto_disconnect(endpoint->client);
  return false;
}

static void on_retry(struct loop_timer *timer) {
  struct main_endpoint *endpoint =
      CONTAINER_OF(timer, struct main_endpoint, timer);
  endpoint->retry_ms *= 2;
  if (endpoint->retry_ms > RETRY_MAX_MS)
    endpoint->retry_ms = RETRY_MAX_MS;
  if (!try_connect(endpoint)) {
    loop_timer_set(endpoint->loop, &endpoint->timer, endpoint->retry_ms,
                   on_retry);
    return;
  }
  set_state(endpoint, ENDPOINT_CONNECTING);
  loop_timer_set(endpoint->loop, &endpoint->timer, TICK_MS, on_tick);
  after_io(endpoint);
}

/* ---- ticks, see hub/broker_wire.h ---- */

static bool is_soon(const struct main_endpoint *endpoint) {
  return endpoint->state < ENDPOINT_UP || endpoint->asked || endpoint->news ||
         endpoint->due;
}

static void set_timer(struct main_endpoint *endpoint) {
  loop_timer_set(endpoint->loop, &endpoint->timer,
                 is_soon(endpoint) ? TICK_MS : QUIET_MS, on_tick);
}

static void send_tick(struct main_endpoint *endpoint) {
  endpoint->news = endpoint->due = false;
  endpoint->asked = true;
  publish(endpoint, BROKER_TOPIC_TICK, "", 0);
}

static void on_tick(struct loop_timer *timer) {
  struct main_endpoint *endpoint =
      CONTAINER_OF(timer, struct main_endpoint, timer);
  if (mosquitto_loop_misc(endpoint->client) != MOSQ_ERR_SUCCESS)
    endpoint->lost = true;
  if (endpoint->state < ENDPOINT_UP &&
      loop_now_ms() - endpoint->since_ms > CONNECT_MAX_MS) {
    loop_log(endpoint->loop, DSTREAM_LOG_WARNING,
             "broker: it does not answer the hub, trying again");
    mosquitto_disconnect(endpoint->client);
    endpoint->lost = true;
  }
  if (!endpoint->lost && endpoint->state >= ENDPOINT_LEARNING)
    send_tick(endpoint);
  set_timer(endpoint);
  after_io(endpoint);
}

/* It is that time, or somebody has set the clock. */
static void on_clock(struct loop_watch *watch, unsigned events) {
  struct main_endpoint *endpoint =
      CONTAINER_OF(watch, struct main_endpoint, clock);
  uint64_t times;
  if (events & LOOP_GONE)
    return;
  (void)!read(watch->fd, &times, sizeof times);
  if (endpoint->state >= ENDPOINT_LEARNING && !endpoint->lost)
    on_tick(&endpoint->timer);
}

/* A wish for a time that is over is granted a second later. */
static void set_clock(struct main_endpoint *endpoint, uint64_t due_s) {
  static const uint64_t max_s =
      sizeof(time_t) > 4 ? (uint64_t)1 << 33 : INT32_MAX;
  struct itimerspec at = {0};
  if (due_s != 0 && due_s <= (uint64_t)time(NULL)) {
    endpoint->due = true;
  } else if (due_s != 0) {
    at.it_value.tv_sec = (time_t)(due_s < max_s ? due_s : max_s);
    at.it_value.tv_nsec = CLOCK_LATE_NS;
  }
  if (timerfd_settime(endpoint->clock.fd,
                      TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &at,
                      NULL) != 0)
    endpoint->due = true; /* the clock was set again */
}

static int make_clock(struct main_endpoint *endpoint) {
  int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
  if (fd < 0)
    return DSTREAM_ESYSTEM;
  int status = loop_watch_start(endpoint->loop, &endpoint->clock, fd, on_clock);
  if (status == DSTREAM_OK)
    loop_watch_want(&endpoint->clock, LOOP_READ);
  return status;
}

static void on_news(struct main_endpoint *endpoint) {
  bool was_soon = is_soon(endpoint);
  endpoint->news = true;
  if (!was_soon)
    set_timer(endpoint);
}

static void on_still(struct main_endpoint *endpoint, struct slice rest) {
  uint64_t due_s = 0;
  endpoint->asked = false;
  if (broker_presence_due(rest, &due_s))
    set_clock(endpoint, due_s);
  set_timer(endpoint);
}

/* ---- what the broker says ---- */

static void ask_snapshot(struct main_endpoint *endpoint) {
  endpoint->in_snapshot = false;
  publish(endpoint, BROKER_TOPIC_SNAPSHOT, "", 0);
}

static void on_connect(struct mosquitto *client, void *user, int code) {
  struct main_endpoint *endpoint = user;
  (void)client;
  if (code != 0) {
    loop_log(endpoint->loop, DSTREAM_LOG_WARNING,
             "broker: it refuses the hub: %s", mosquitto_connack_string(code));
    endpoint->lost = true;
    return;
  }
  set_state(endpoint, ENDPOINT_LEARNING);
  endpoint->number = 0;
  ask_snapshot(endpoint);
}

static void on_disconnect(struct mosquitto *client, void *user, int reason) {
  struct main_endpoint *endpoint = user;
  (void)client;
  (void)reason;
  endpoint->lost = true;
}

static void take_entries(struct main_endpoint *endpoint, struct slice rest) {
  enum broker_presence state;
  struct slice id;
  while (broker_presence_next(&rest, &state, &id)) {
    if (state == BROKER_GONE)
      presence_remove(endpoint->presence, id);
    else if (presence_set(endpoint->presence, id, state == BROKER_READY) !=
             DSTREAM_OK)
      loop_log(endpoint->loop, DSTREAM_LOG_WARNING,
               "presence: too many devices: %.*s is treated as offline",
               (int)id.len, id.p);
  }
}

static void end_snapshot(struct main_endpoint *endpoint) {
  if (!endpoint->in_snapshot)
    return;
  endpoint->in_snapshot = false;
  presence_remove_marked(endpoint->presence);
  if (endpoint->state != ENDPOINT_LEARNING)
    return;
  set_state(endpoint, ENDPOINT_UP);
  endpoint->retry_ms = RETRY_MIN_MS;
  if (endpoint->events.on_up != NULL)
    endpoint->events.on_up(endpoint->user);
}

static void on_presence(struct main_endpoint *endpoint, struct slice payload) {
  uint64_t number;
  enum broker_presence_kind kind;
  struct slice rest;
  if (!broker_presence_head(payload, &number, &kind, &rest))
    return;
  uint64_t expected = endpoint->number + (kind != BROKER_STILL);
  bool gap = endpoint->number != 0 && number != expected;
  endpoint->number = number;
  if (kind != BROKER_STILL)
    on_news(endpoint);
  if (kind == BROKER_BEGIN) {
    endpoint->in_snapshot = true;
    presence_mark_all(endpoint->presence);
    return;
  }
  if (gap) {
    loop_log(endpoint->loop, DSTREAM_LOG_WARNING,
             "presence: messages were lost, asking for all again");
    ask_snapshot(endpoint);
  }
  if (kind == BROKER_STILL) {
    on_still(endpoint, rest);
    return;
  }
  take_entries(endpoint, rest);
  if (kind == BROKER_END)
    end_snapshot(endpoint);
}

static void on_answer(struct main_endpoint *endpoint, struct slice payload) {
  char id_text[IDENTITY_CLIENT_MAX + 1];
  char topic_text[BROKER_ANSWER_MAX + 1];
  struct slice id, topic;
  if (endpoint->events.on_answer == NULL ||
      !broker_wire_split(payload, &id, &topic) || id.len >= sizeof id_text ||
      topic.len >= sizeof topic_text)
    return;
  memcpy(id_text, id.p, id.len);
  id_text[id.len] = '\0';
  memcpy(topic_text, topic.p, topic.len);
  topic_text[topic.len] = '\0';
  endpoint->events.on_answer(endpoint->user, id_text, topic_text);
}

static void on_message(struct mosquitto *client, void *user,
                       const struct mosquitto_message *message) {
  struct main_endpoint *endpoint = user;
  (void)client;
  if (message->payloadlen <= 0)
    return;
  struct slice payload = {message->payload, (size_t)message->payloadlen};
  if (strcmp(message->topic, BROKER_TOPIC_ANSWER) == 0) {
    on_news(endpoint);
    on_answer(endpoint, payload);
  } else if (strcmp(message->topic, BROKER_TOPIC_PRESENCE) == 0) {
    on_presence(endpoint, payload);
  }
}

/* ---- public ---- */

static int make_client(struct main_endpoint *endpoint, const char *secret) {
  mosquitto_lib_init();
  endpoint->client = mosquitto_new(BROKER_HUB_CLIENT, true, endpoint);
  if (endpoint->client == NULL)
    return DSTREAM_ENOMEM;
  mosquitto_connect_callback_set(endpoint->client, on_connect);
  mosquitto_disconnect_callback_set(endpoint->client, on_disconnect);
  mosquitto_message_callback_set(endpoint->client, on_message);
  return mosquitto_username_pw_set(endpoint->client, BROKER_HUB_USER, secret) ==
                 MOSQ_ERR_SUCCESS
             ? DSTREAM_OK
             : DSTREAM_ENOMEM;
}

int main_endpoint_new(struct main_endpoint **out, dstream_loop *loop,
                      const char *socket_path, const char *secret,
                      const struct main_endpoint_events *events, void *user) {
  size_t path_len = strlen(socket_path);
  struct main_endpoint *endpoint = calloc(1, sizeof *endpoint);
  if (endpoint == NULL)
    return DSTREAM_ENOMEM;
  endpoint->loop = loop;
  endpoint->user = user;
  endpoint->retry_ms = RETRY_MIN_MS;
  endpoint->events = *events;
  endpoint->presence =
      presence_new(MAIN_ENDPOINT_DEVICES_MAX, tell_ready, endpoint);
  int status = endpoint->presence != NULL ? DSTREAM_OK : DSTREAM_ENOMEM;
  if (status == DSTREAM_OK && path_len >= sizeof endpoint->path)
    status = DSTREAM_EINVAL;
  if (status == DSTREAM_OK)
    status = make_client(endpoint, secret);
  if (status == DSTREAM_OK)
    status = make_clock(endpoint);
  if (status != DSTREAM_OK) {
    main_endpoint_free(endpoint);
    return status;
  }
  memcpy(endpoint->path, socket_path, path_len + 1);
  loop_timer_set(loop, &endpoint->timer, 0, on_retry);
  *out = endpoint;
  return DSTREAM_OK;
}

void main_endpoint_free(struct main_endpoint *endpoint) {
  if (endpoint == NULL)
    return;
  loop_timer_cancel(&endpoint->timer);
  loop_watch_close(&endpoint->watch);
  loop_watch_close(&endpoint->clock);
  if (endpoint->client != NULL) {
    mosquitto_disconnect_callback_set(endpoint->client, NULL);
    mosquitto_disconnect(endpoint->client);
    mosquitto_destroy(endpoint->client);
    mosquitto_lib_cleanup();
  }
  presence_free(endpoint->presence);
  free(endpoint);
}

void main_endpoint_hurry(struct main_endpoint *endpoint) {
  if (endpoint->lost || endpoint->state < ENDPOINT_LEARNING)
    return;
  send_tick(endpoint);
  set_timer(endpoint);
  after_io(endpoint);
}

bool main_endpoint_is_up(const struct main_endpoint *endpoint) {
  return endpoint->state == ENDPOINT_UP;
}

bool main_endpoint_is_ready(const struct main_endpoint *endpoint,
                            const char *device_id) {
  return endpoint->state >= ENDPOINT_LEARNING &&
         presence_ready(endpoint->presence, device_id);
}

bool main_endpoint_connected(const struct main_endpoint *endpoint,
                             const char *device_id) {
  return endpoint->state >= ENDPOINT_LEARNING &&
         presence_connected(endpoint->presence, device_id);
}

bool main_endpoint_since(const struct main_endpoint *endpoint,
                         const char *device_id, uint64_t *since_ms) {
  return endpoint->state >= ENDPOINT_LEARNING &&
         presence_since(endpoint->presence, device_id, since_ms);
}

size_t main_endpoint_count(const struct main_endpoint *endpoint) {
  return presence_count(endpoint->presence);
}

void main_endpoint_each(const struct main_endpoint *endpoint,
                        bool (*fn)(void *user, const char *device_id,
                                   bool ready, uint64_t since_ms),
                        void *user) {
  presence_each(endpoint->presence, fn, user);
}

int main_endpoint_ask(struct main_endpoint *endpoint, const char *device_id,
                      const char *topic) {
  char payload[IDENTITY_CLIENT_MAX + 1 + BROKER_ASK_MAX];
  struct slice text = slice_of(topic);
  if (!broker_topic_valid(text, BROKER_ASK_MAX))
    return DSTREAM_EINVAL;
  if (!main_endpoint_is_ready(endpoint, device_id))
    return DSTREAM_EOFFLINE;
  if (endpoint->backlog >= BACKLOG_MAX)
    return DSTREAM_EAGAIN;
  size_t len = broker_wire_pair(device_id, text, payload, sizeof payload);
  if (len == 0)
    return DSTREAM_EINVAL;
  int status = publish(endpoint, BROKER_TOPIC_ASK, payload, len);
  /* What broke is told by the watch, not from in here. */
  if (status == DSTREAM_OK && !endpoint->lost &&
      mosquitto_want_write(endpoint->client))
    loop_watch_want(&endpoint->watch, LOOP_READ | LOOP_WRITE);
  else if (status == DSTREAM_OK)
    endpoint->backlog = 0;
  crypto_wipe(payload, len); /* the topic carries the stream's token */
  return status;
}
