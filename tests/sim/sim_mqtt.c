/* net/mqtt.h and hub/main_endpoint.h, and the broker between them.  Messages
 * keep their order on one connection, and on no more than that. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/container.h"
#include "core/end.h"
#include "hub/main_endpoint.h"
#include "net/mqtt.h"
#include "sim.h"

#define READY_MAX 16
#define ID_SIZE   64

enum kind { ASK, ANSWER, PRESENT, ABSENT, CONNACK, SUBACK, MESSAGE, END };

/* One thing on its way. */
struct item {
  struct item *next;
  uint64_t due_ms;
  enum kind kind;
  int code;
  char id[ID_SIZE];
  char topic[];
};

struct queue {
  struct item *first;
  struct item **tail;
  struct loop_timer timer;
  void (*fn)(struct queue *queue, struct item *item);
};

struct mqtt {
  struct mqtt *next;
  dstream_loop *loop;
  struct mqtt_callbacks callbacks;
  void *user;
  struct queue up;   /* to the broker */
  struct queue down; /* to the device */
  struct loop_timer cut_timer;
  struct loop_timer closed_timer;
  bool connected;  /* as the broker sees it */
  bool subscribed; /* likewise */
  bool ended;      /* the device was told */
  bool closing;
  char id[ID_SIZE];
};

struct main_endpoint {
  struct main_endpoint_events events;
  void *user;
  bool up;
  struct queue up_queue; /* from the broker to the hub */
  struct queue asks;     /* and back */
  char ready[READY_MAX][ID_SIZE];
  unsigned ready_count;
};

static struct {
  dstream_loop *loop;
  struct sim_broker_faults faults;
  struct mqtt *clients;
  struct main_endpoint *endpoint;
  bool away;
  struct loop_timer back;
  unsigned lost;
} broker;

/* ---- queues ---- */

static void on_queue(struct loop_timer *timer);

static void queue_arm(struct queue *queue) {
  uint64_t now = loop_now_ms();
  if (queue->first == NULL)
    return;
  uint64_t due = queue->first->due_ms;
  loop_timer_set(broker.loop, &queue->timer, due > now ? due - now : 0,
                 on_queue);
}

static void on_queue(struct loop_timer *timer) {
  struct queue *queue = CONTAINER_OF(timer, struct queue, timer);
  struct item *item = queue->first;
  queue->first = item->next;
  if (queue->first == NULL)
    queue->tail = &queue->first;
  queue_arm(queue); /* fn may free the queue */
  queue->fn(queue, item);
  sim_free(item);
}

static void queue_init(struct queue *queue,
                       void (*fn)(struct queue *, struct item *)) {
  queue->tail = &queue->first;
  queue->fn = fn;
}

static void queue_clear(struct queue *queue) {
  while (queue->first != NULL) {
    struct item *item = queue->first;
    queue->first = item->next;
    sim_free(item);
  }
  queue->tail = &queue->first;
  loop_timer_cancel(&queue->timer);
}

static void queue_put_after(struct queue *queue, enum kind kind, int code,
                            const char *id, const char *topic,
                            uint64_t wait_ms) {
  size_t size = strlen(topic) + 1;
  struct item *item = sim_alloc(sizeof *item + size);
  memcpy(item->topic, topic, size);
  snprintf(item->id, sizeof item->id, "%s", id);
  item->kind = kind;
  item->code = code;
  item->due_ms = loop_now_ms() + wait_ms;
  *queue->tail = item;
  queue->tail = &item->next;
  if (queue->first == item)
    queue_arm(queue);
}

static void queue_put(struct queue *queue, enum kind kind, int code,
                      const char *id, const char *topic) {
  queue_put_after(queue, kind, code, id, topic,
                  sim_below(broker.faults.latency_ms + 1));
}

/* ---- the broker ---- */

void sim_broker_setup(dstream_loop *loop,
                      const struct sim_broker_faults *faults) {
  broker.loop = loop;
  broker.faults = *faults;
}

void sim_broker_calm(void) {
  unsigned latency = broker.faults.latency_ms;
  bool no_caps = broker.faults.no_caps;
  broker.faults =
      (struct sim_broker_faults){.latency_ms = latency, .no_caps = no_caps};
}

unsigned sim_broker_lost(void) {
  return broker.lost;
}

static void tell_hub(enum kind kind, const char *id, const char *topic) {
  if (broker.endpoint != NULL && broker.endpoint->up)
    queue_put(&broker.endpoint->up_queue, kind, 0, id, topic);
}

/* The broker's side of a connection is over. */
static void client_gone(struct mqtt *mqtt) {
  if (mqtt->subscribed)
    tell_hub(ABSENT, mqtt->id, "");
  mqtt->subscribed = false;
  mqtt->connected = false;
  loop_timer_cancel(&mqtt->cut_timer);
}

/* The connection is cut; the device notices now or much later. */
static void client_cut(struct mqtt *mqtt) {
  client_gone(mqtt);
  broker.lost++;
  queue_clear(&mqtt->up);
  if (sim_chance(500))
    queue_clear(&mqtt->down);
  uint64_t wait = sim_chance(300) ? sim_between(0, 90000)
                                  : sim_below(broker.faults.latency_ms + 1);
  queue_put_after(&mqtt->down, END, 0, "", "", wait);
}

static void on_cut(struct loop_timer *timer) {
  struct mqtt *mqtt = CONTAINER_OF(timer, struct mqtt, cut_timer);
  sim_trace("%s: the control connection is cut", mqtt->id);
  client_cut(mqtt);
}

static struct mqtt *client_of(const char *id) {
  struct mqtt *mqtt = broker.clients;
  while (mqtt != NULL && (!mqtt->connected || strcmp(mqtt->id, id) != 0))
    mqtt = mqtt->next;
  return mqtt;
}

static void on_connect_packet(struct mqtt *mqtt) {
  if (broker.away || sim_chance(broker.faults.failed)) {
    broker.lost++;
    uint64_t wait = sim_chance(300) ? 30000 : 10;
    queue_put_after(&mqtt->down, END, 0, "", "", wait);
    return;
  }
  if (sim_chance(broker.faults.refused)) {
    broker.lost++;
    queue_put(&mqtt->down, CONNACK, 3 + (int)sim_below(3), "", "");
    return;
  }
  struct mqtt *older = client_of(mqtt->id);
  if (older != NULL)
    client_cut(older);
  mqtt->connected = true;
  queue_put(&mqtt->down, CONNACK, 0, "", "");
  if (sim_chance(broker.faults.cut))
    loop_timer_set(broker.loop, &mqtt->cut_timer, sim_between(0, 60000),
                   on_cut);
}

/* What a device sent. */
static void on_up_item(struct queue *queue, struct item *item) {
  struct mqtt *mqtt = CONTAINER_OF(queue, struct mqtt, up);
  if (item->kind == CONNACK) {
    on_connect_packet(mqtt);
  } else if (!mqtt->connected) {
    return;
  } else if (item->kind == SUBACK) {
    bool granted = !sim_chance(broker.faults.denied);
    broker.lost += !granted;
    mqtt->subscribed = granted;
    queue_put(&mqtt->down, SUBACK, granted, "", "");
    if (granted)
      tell_hub(PRESENT, mqtt->id, "");
  } else if (sim_chance(broker.faults.lost)) {
    broker.lost++;
    sim_trace("%s: an answer is lost: %s", mqtt->id, item->topic);
  } else {
    tell_hub(ANSWER, mqtt->id, item->topic);
  }
}

void sim_broker_reset(void) {
  SIM_CHECK(broker.clients == NULL && broker.endpoint == NULL,
            "a control connection is left");
  memset(&broker, 0, sizeof broker);
}

/* ---- net/mqtt.h ---- */

static void tell_end(struct mqtt *mqtt, int code) {
  struct dstream_end end;
  if (code > 0)
    end_set(&end, DSTREAM_EMQTT, "CONNACK %d", code);
  else
    end_set(&end, DSTREAM_EIO, "the control connection was lost");
  end.mqtt_code = code;
  if (mqtt->ended)
    return;
  mqtt->ended = true;
  mqtt->callbacks.on_end(mqtt->user, &end);
}

/* What comes to a device. */
static void on_down_item(struct queue *queue, struct item *item) {
  struct mqtt *mqtt = CONTAINER_OF(queue, struct mqtt, down);
  if (mqtt->closing || mqtt->ended)
    return;
  sim_trace("%s: control %d (%d) %s", mqtt->id, (int)item->kind, item->code,
            item->topic);
  switch (item->kind) {
  case CONNACK:
    if (item->code != 0)
      tell_end(mqtt, item->code);
    else
      mqtt->callbacks.on_connected(mqtt->user);
    break;
  case SUBACK:
    mqtt->callbacks.on_subscribed(mqtt->user, item->code != 0);
    break;
  case MESSAGE:
    mqtt->callbacks.on_message(mqtt->user, item->topic, strlen(item->topic));
    break;
  default:
    tell_end(mqtt, 0);
  }
}

int mqtt_connect(struct mqtt **out, dstream_loop *loop,
                 const struct mqtt_options *options,
                 const struct mqtt_callbacks *callbacks, void *user) {
  struct mqtt *mqtt = calloc(1, sizeof *mqtt);
  if (mqtt == NULL)
    return DSTREAM_ENOMEM;
  mqtt->loop = loop;
  mqtt->callbacks = *callbacks;
  mqtt->user = user;
  snprintf(mqtt->id, sizeof mqtt->id, "%s", options->client_id);
  queue_init(&mqtt->up, on_up_item);
  queue_init(&mqtt->down, on_down_item);
  mqtt->next = broker.clients;
  broker.clients = mqtt;
  queue_put(&mqtt->up, CONNACK, 0, "", "");
  *out = mqtt;
  return DSTREAM_OK;
}

void mqtt_subscribe(struct mqtt *mqtt, const char *first, const char *second) {
  (void)first;
  (void)second;
  queue_put(&mqtt->up, SUBACK, 0, "", "");
}

int mqtt_publish(struct mqtt *mqtt, const char *topic) {
  if (mqtt->closing || mqtt->ended)
    return DSTREAM_ESTATE;
  void *memory = malloc(16);
  free(memory);
  if (memory == NULL)
    return DSTREAM_ENOMEM;
  sim_trace("%s: publishes %s", mqtt->id, topic);
  queue_put(&mqtt->up, ANSWER, 0, "", topic);
  return DSTREAM_OK;
}

static void on_closed(struct loop_timer *timer) {
  struct mqtt *mqtt = CONTAINER_OF(timer, struct mqtt, closed_timer);
  for (struct item *i = mqtt->up.first; i != NULL && mqtt->connected;
       i = i->next)
    if (i->kind == ANSWER)
      tell_hub(ANSWER, mqtt->id, i->topic);
  client_gone(mqtt);
  queue_clear(&mqtt->up);
  queue_clear(&mqtt->down);
  struct mqtt **link = &broker.clients;
  while (*link != mqtt)
    link = &(*link)->next;
  *link = mqtt->next;
  struct mqtt_callbacks callbacks = mqtt->callbacks;
  void *user = mqtt->user;
  free(mqtt);
  callbacks.on_closed(user);
}

void mqtt_close(struct mqtt *mqtt) {
  if (mqtt->closing)
    return;
  mqtt->closing = true;
  loop_timer_set(mqtt->loop, &mqtt->closed_timer,
                 sim_chance(50) ? 2000
                                : sim_below(broker.faults.latency_ms + 1),
                 on_closed);
}

/* ---- hub/main_endpoint.h ---- */

static char *find_ready(const struct main_endpoint *endpoint, const char *id) {
  for (unsigned i = 0; i < endpoint->ready_count; i++) {
    const char *at = endpoint->ready[i];
    if (strcmp(at, id) == 0)
      return ((struct main_endpoint *)(uintptr_t)endpoint)->ready[i];
  }
  return NULL;
}

static void tell_presence(struct main_endpoint *endpoint, const char *id,
                          bool ready) {
  char *at = find_ready(endpoint, id);
  if ((at != NULL) == ready)
    return;
  if (ready) {
    assert(endpoint->ready_count < READY_MAX);
    snprintf(endpoint->ready[endpoint->ready_count++], ID_SIZE, "%s", id);
  } else {
    memmove(at, endpoint->ready[--endpoint->ready_count], ID_SIZE);
  }
  endpoint->events.on_presence(endpoint->user, id, ready);
}

/* What the broker tells the hub. */
static void on_hub_item(struct queue *queue, struct item *item) {
  struct main_endpoint *endpoint =
      CONTAINER_OF(queue, struct main_endpoint, up_queue);
  if (item->kind == ANSWER)
    endpoint->events.on_answer(endpoint->user, item->id, item->topic);
  else
    tell_presence(endpoint, item->id, item->kind == PRESENT);
}

/* A hub that knows no capabilities. */
static void strip_caps(char *topic) {
  char *caps = strstr(topic, "&$caps=");
  if (caps == NULL)
    return;
  char *rest = strchr(caps + 1, '&');
  if (rest == NULL)
    *caps = '\0';
  else
    memmove(caps, rest, strlen(rest) + 1);
}

static void on_ask_item(struct queue *queue, struct item *item) {
  (void)queue;
  struct mqtt *mqtt = client_of(item->id);
  if (mqtt == NULL || !mqtt->subscribed)
    return;
  if (broker.faults.no_caps)
    strip_caps(item->topic);
  if (sim_chance(broker.faults.lost)) {
    broker.lost++;
    sim_trace("%s: a request is lost", item->id);
    return;
  }
  queue_put(&mqtt->down, MESSAGE, 0, "", item->topic);
}

static void come_up(struct loop_timer *timer) {
  (void)timer;
  struct main_endpoint *endpoint = broker.endpoint;
  broker.away = false;
  if (endpoint == NULL)
    return;
  endpoint->up = true;
  for (struct mqtt *m = broker.clients; m != NULL; m = m->next)
    if (m->subscribed)
      tell_presence(endpoint, m->id, true);
  endpoint->events.on_up(endpoint->user);
}

void sim_broker_restart(uint64_t away_ms) {
  struct main_endpoint *endpoint = broker.endpoint;
  sim_trace("the broker is away for %llu ms", (unsigned long long)away_ms);
  broker.lost++;
  broker.away = true;
  for (struct mqtt *m = broker.clients; m != NULL; m = m->next)
    if (m->connected)
      client_cut(m);
  if (endpoint != NULL && endpoint->up) {
    endpoint->up = false;
    queue_clear(&endpoint->up_queue);
    queue_clear(&endpoint->asks);
    while (endpoint->ready_count > 0) {
      char id[ID_SIZE];
      memcpy(id, endpoint->ready[0], sizeof id);
      tell_presence(endpoint, id, false);
    }
    endpoint->events.on_down(endpoint->user);
  }
  loop_timer_set(broker.loop, &broker.back, away_ms, come_up);
}

int main_endpoint_new(struct main_endpoint **out, dstream_loop *loop,
                      const char *socket_path, const char *secret,
                      const struct main_endpoint_events *events, void *user) {
  (void)loop;
  (void)socket_path;
  (void)secret;
  struct main_endpoint *endpoint = calloc(1, sizeof *endpoint);
  if (endpoint == NULL)
    return DSTREAM_ENOMEM;
  endpoint->events = *events;
  endpoint->user = user;
  queue_init(&endpoint->up_queue, on_hub_item);
  queue_init(&endpoint->asks, on_ask_item);
  assert(broker.endpoint == NULL);
  broker.endpoint = endpoint;
  if (!broker.away)
    loop_timer_set(broker.loop, &broker.back, sim_between(0, 50), come_up);
  *out = endpoint;
  return DSTREAM_OK;
}

void main_endpoint_free(struct main_endpoint *endpoint) {
  if (endpoint == NULL)
    return;
  queue_clear(&endpoint->up_queue);
  queue_clear(&endpoint->asks);
  if (!broker.away)
    loop_timer_cancel(&broker.back);
  broker.endpoint = NULL;
  free(endpoint);
}

bool main_endpoint_is_up(const struct main_endpoint *endpoint) {
  return endpoint->up;
}

bool main_endpoint_is_ready(const struct main_endpoint *endpoint,
                            const char *device_id) {
  return find_ready(endpoint, device_id) != NULL;
}

int main_endpoint_ask(struct main_endpoint *endpoint, const char *device_id,
                      const char *topic) {
  if (!main_endpoint_is_ready(endpoint, device_id))
    return DSTREAM_EOFFLINE;
  void *memory = malloc(16);
  free(memory);
  if (memory == NULL)
    return DSTREAM_ENOMEM;
  queue_put(&endpoint->asks, ASK, 0, device_id, topic);
  return DSTREAM_OK;
}

void main_endpoint_hurry(struct main_endpoint *endpoint) {
  (void)endpoint;
}
