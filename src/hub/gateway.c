#include "hub/gateway.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"
#include "core/stream_core.h"
#include "hub/http_reply.h"
#include "hub/log_limit.h"
#include "hub/relay.h"
#include "hub/table.h"

#define DEFAULT_MAX_STREAMS 10000
#define DEFAULT_KEEPALIVE   30000
#define DEFAULT_CLOSE_WAIT  5000
#define DEFAULT_DRAIN_WAIT  3600000

/* The two sides of a relay. */
#define DEVICE  RELAY_A
#define SERVICE RELAY_B

/* A device with streams. */
struct owner {
  struct table_node node; /* in gateway->owners */
  unsigned count;         /* of its streams */
  const char *verdict;    /* gateway_judge's */
  char device_id[];
};

/* One stream, announced or running. */
struct entry {
  struct gateway *gateway;
  struct table_node node; /* in gateway->entries */
  struct owner *owner;
  struct relay *relay;
  struct loop_timer timer; /* pairing deadline; then idle and lifetime */
  uint64_t deadline_ms;
  uint64_t paired_ms; /* 0: not yet */
  bool eof;
  bool forgotten; /* nobody wants to be told of its end */
  char id[TOKEN_ID_SIZE];
  char jti[2][TOKEN_JTI_SIZE]; /* by enum relay_side_name */
  char *name;
  char *caller; /* NULL: not known */
  uint64_t announced_ms;
};

struct gateway {
  dstream_loop *loop;
  uint8_t key[CRYPTO_SHA256_LEN];
  uint64_t start_s;  /* of the gateway, in Unix time, */
  uint64_t start_ms; /* and in loop_now_ms's */
  struct gateway_options options;
  struct gateway_events events;
  void *user;
  uint64_t stalls; /* of streams that are over */
  struct log_limit refused;
  struct table entries; /* by id: random, and the hub's own */
  struct table owners;  /* by device id, which the hub knows */
};

/* ---- devices with streams ---- */

static struct owner *owner_at(struct table_node *node) {
  return node == NULL ? NULL : CONTAINER_OF(node, struct owner, node);
}

static struct owner *owner_find(const struct gateway *gateway,
                                const char *device_id) {
  struct table_node *node =
      table_first(&gateway->owners, table_hash(slice_of(device_id)));
  while (node != NULL && strcmp(owner_at(node)->device_id, device_id) != 0)
    node = table_next(node);
  return owner_at(node);
}

/* For one stream more; NULL: out of memory. */
static struct owner *owner_join(struct gateway *gateway,
                                const char *device_id) {
  struct owner *owner = owner_find(gateway, device_id);
  if (owner == NULL) {
    size_t size = strlen(device_id) + 1;
    owner = calloc(1, sizeof *owner + size);
    if (owner == NULL)
      return NULL;
    memcpy(owner->device_id, device_id, size);
    table_add(&gateway->owners, &owner->node, table_hash(slice_of(device_id)));
  }
  owner->count++;
  return owner;
}

static void owner_leave(struct gateway *gateway, struct owner *owner) {
  if (owner == NULL || --owner->count > 0)
    return;
  table_remove(&gateway->owners, &owner->node);
  free(owner);
}

/* ---- streams ---- */

static struct entry *entry_at(struct table_node *node) {
  return node == NULL ? NULL : CONTAINER_OF(node, struct entry, node);
}

static struct entry *entry_find(const struct gateway *gateway, const char *id) {
  struct table_node *node =
      table_first(&gateway->entries, table_hash(slice_of(id)));
  while (node != NULL && strcmp(entry_at(node)->id, id) != 0)
    node = table_next(node);
  return entry_at(node);
}

static void entry_free(struct entry *entry) {
  relay_free(entry->relay);
  loop_timer_cancel(&entry->timer);
  owner_leave(entry->gateway, entry->owner);
  free(entry->name);
  free(entry->caller);
  free(entry);
}

static void entry_remove(struct entry *entry) {
  table_remove(&entry->gateway->entries, &entry->node);
  entry_free(entry);
}

/* ---- the end of a stream ---- */

static const char *who_ended(int ended) {
  return ended == DEVICE ? "device" : ended == SERVICE ? "service" : "hub";
}

static void on_relay_end(void *user, struct relay *relay, int ended,
                         const struct dstream_end *cause) {
  struct entry *entry = user;
  struct gateway *gateway = entry->gateway;
  struct gateway_report report = {
      .stream_id = entry->id,
      .device_id = entry->owner->device_id,
      .stream_name = entry->name,
      .caller = entry->caller == NULL ? "" : entry->caller,
      .paired = entry->paired_ms != 0,
      .duration_ms =
          entry->paired_ms == 0 ? 0 : loop_now_ms() - entry->paired_ms,
      .bytes_to_device = relay_bytes(relay, SERVICE),
      .bytes_to_service = relay_bytes(relay, DEVICE),
      .who = who_ended(ended),
      .cause = cause,
  };
  gateway->stalls += relay_stalls(relay);
  if (gateway->events.on_end != NULL && !entry->forgotten)
    gateway->events.on_end(gateway->user, &report);
  entry_remove(entry);
}

static void not_complete(struct entry *entry) {
  bool device = relay_has(entry->relay, DEVICE);
  bool service = relay_has(entry->relay, SERVICE);
  relay_end(entry->relay, 1011,
            device    ? "the service did not connect in time"
            : service ? "the device did not connect in time"
                      : "neither side connected in time");
}

static void on_timer(struct loop_timer *timer);

/* Waits for the next of idle and lifetime; ends the stream when one is over. */
static void check_limits(struct entry *entry) {
  const struct gateway_options *options = &entry->gateway->options;
  uint64_t now = loop_now_ms();
  uint64_t wait = UINT64_MAX;
  uint64_t last = relay_last_ms(entry->relay);
  if (last < entry->paired_ms)
    last = entry->paired_ms;
  if (options->lifetime_ms != 0) {
    uint64_t age = now - entry->paired_ms;
    if (age >= options->lifetime_ms) {
      relay_end(entry->relay, 1008, "the stream reached its time limit");
      return;
    }
    wait = options->lifetime_ms - age;
  }
  if (options->idle_ms != 0) {
    uint64_t idle = now - last;
    if (idle >= options->idle_ms) {
      relay_end(entry->relay, 1008, "the stream was idle for too long");
      return;
    }
    if (options->idle_ms - idle < wait)
      wait = options->idle_ms - idle;
  }
  if (wait != UINT64_MAX)
    loop_timer_set(entry->gateway->loop, &entry->timer, wait, on_timer);
}

static void on_timer(struct loop_timer *timer) {
  struct entry *entry = CONTAINER_OF(timer, struct entry, timer);
  if (entry->paired_ms == 0)
    not_complete(entry);
  else
    check_limits(entry);
}

/* ---- announcing ---- */

static int entry_new(struct entry **out, struct gateway *gateway,
                     const struct gateway_stream *stream) {
  static const struct relay_events events = {.on_end = on_relay_end};
  struct entry *entry = calloc(1, sizeof *entry);
  if (entry == NULL)
    return DSTREAM_ENOMEM;
  entry->gateway = gateway;
  entry->eof = stream->eof;
  entry->deadline_ms = stream->deadline_ms;
  snprintf(entry->id, sizeof entry->id, "%s", stream->stream_id);
  snprintf(entry->jti[DEVICE], TOKEN_JTI_SIZE, "%s", stream->device_jti);
  snprintf(entry->jti[SERVICE], TOKEN_JTI_SIZE, "%s", stream->service_jti);
  entry->owner = owner_join(gateway, stream->device_id);
  entry->name = strdup(stream->stream_name);
  entry->announced_ms = loop_now_ms();
  if (stream->caller != NULL)
    entry->caller = strdup(stream->caller); /* it may be unknown */
  if (entry->owner == NULL || entry->name == NULL ||
      relay_new(&entry->relay, gateway->loop, gateway->options.close_timeout_ms,
                &events, entry) != DSTREAM_OK) {
    entry_free(entry);
    return DSTREAM_ENOMEM;
  }
  *out = entry;
  return DSTREAM_OK;
}

int gateway_expect(struct gateway *gateway,
                   const struct gateway_stream *stream) {
  if (strlen(stream->stream_id) >= TOKEN_ID_SIZE ||
      strlen(stream->device_jti) >= TOKEN_JTI_SIZE ||
      strlen(stream->service_jti) >= TOKEN_JTI_SIZE ||
      entry_find(gateway, stream->stream_id) != NULL)
    return DSTREAM_EINVAL;
  if (gateway->entries.count >= gateway->options.max_streams)
    return DSTREAM_ELIMIT;
  struct entry *entry = NULL;
  int status = entry_new(&entry, gateway, stream);
  if (status != DSTREAM_OK)
    return status;
  table_add(&gateway->entries, &entry->node, table_hash(slice_of(entry->id)));
  uint64_t now = loop_now_ms();
  loop_timer_set(gateway->loop, &entry->timer,
                 entry->deadline_ms > now ? entry->deadline_ms - now : 0,
                 on_timer);
  return DSTREAM_OK;
}

void gateway_set_eof(struct gateway *gateway, const char *stream_id, bool eof) {
  struct entry *entry = entry_find(gateway, stream_id);
  if (entry == NULL)
    return;
  entry->eof = eof;
  relay_set_eof(entry->relay, eof);
}

void gateway_forget(struct gateway *gateway, const char *stream_id,
                    const char *reason) {
  struct entry *entry = entry_find(gateway, stream_id);
  if (entry == NULL || entry->forgotten)
    return;
  entry->forgotten = true;
  loop_timer_cancel(&entry->timer);
  relay_end(entry->relay, 1011, reason);
}

int gateway_kill(struct gateway *gateway, const char *stream_id, int code,
                 const char *reason) {
  struct entry *entry = entry_find(gateway, stream_id);
  if (entry == NULL)
    return DSTREAM_ENOTFOUND;
  loop_timer_cancel(&entry->timer);
  relay_end(entry->relay, code, reason);
  return DSTREAM_OK;
}

/* ---- a side connects ---- */

/* "/bridges/ih/HOST/d/DEVICE/sid/ID/r/ROLE": ID and ROLE.  What stands between
 * is for people; a query is ignored. */
static bool parse_target(struct slice target, char *id, bool *device) {
  const char *query = memchr(target.p, '?', target.len);
  size_t len = query == NULL ? target.len : (size_t)(query - target.p);
  static const char device_end[] = "/r/device";
  static const char service_end[] = "/r/service";
  size_t end_len;
  if (len > sizeof device_end - 1 &&
      memcmp(target.p + len - (sizeof device_end - 1), device_end,
             sizeof device_end - 1) == 0) {
    *device = true;
    end_len = sizeof device_end - 1;
  } else if (len > sizeof service_end - 1 &&
             memcmp(target.p + len - (sizeof service_end - 1), service_end,
                    sizeof service_end - 1) == 0) {
    *device = false;
    end_len = sizeof service_end - 1;
  } else {
    return false;
  }
  static const char sid[] = "/sid/";
  size_t id_len = TOKEN_ID_SIZE - 1;
  if (len < end_len + id_len + sizeof sid - 1)
    return false;
  const char *p = target.p + len - end_len - id_len;
  if (memcmp(p - (sizeof sid - 1), sid, sizeof sid - 1) != 0)
    return false;
  memcpy(id, p, id_len);
  id[id_len] = '\0';
  return true;
}

static struct slice bearer_token(const struct http_head *request) {
  static const char scheme[] = "Bearer ";
  struct slice value = http_head_get(request, "Authorization");
  size_t n = sizeof scheme - 1;
  if (value.p == NULL || value.len <= n || strncasecmp(value.p, scheme, n) != 0)
    return (struct slice){NULL, 0};
  return (struct slice){value.p + n, value.len - n};
}

uint64_t gateway_now_s(const struct gateway *gateway) {
  return gateway->start_s + (loop_now_ms() - gateway->start_ms) / 1000;
}

/* Why a side may not come in; NULL: it may.  The texts tell a genuine but
 * unlucky caller what happened, and a guesser nothing that the path does not
 * say. */
static const char *refuse(struct gateway *gateway,
                          const struct http_head *request, const char *id,
                          bool device, struct entry **out) {
  struct slice token = bearer_token(request);
  struct token_claims claims;
  if (token.p == NULL)
    return "a stream token is needed: Authorization: Bearer ...";
  int status = token_check(&claims, token.p, token.len, gateway->key,
                           sizeof gateway->key, gateway_now_s(gateway));
  if (status == DSTREAM_EEXPIRED)
    return "the stream token has expired";
  if (status != DSTREAM_OK)
    return "the stream token is not valid";
  if (strcmp(claims.stream_id, id) != 0 || claims.device_role != device)
    return "the stream token is for another stream or side";
  struct entry *entry = entry_find(gateway, id);
  if (entry == NULL || entry->forgotten)
    return "the stream is over";
  int side = device ? DEVICE : SERVICE;
  if (!crypto_equal(claims.jti, strlen(claims.jti), entry->jti[side],
                    strlen(entry->jti[side])))
    return "the stream token is not valid";
  if (relay_has(entry->relay, (enum relay_side_name)side))
    return "the stream token was used already";
  *out = entry;
  return NULL;
}

static void check_paired(struct entry *entry) {
  if (!relay_has(entry->relay, DEVICE) || !relay_has(entry->relay, SERVICE))
    return;
  entry->paired_ms = loop_now_ms();
  loop_timer_cancel(&entry->timer);
  check_limits(entry);
}

static void join(struct entry *entry, struct link *link,
                 struct stream_core *core, bool device) {
  struct gateway *gateway = entry->gateway;
  loop_log(gateway->loop, DSTREAM_LOG_DEBUG,
           "gateway: stream %s: %s connects from %s", entry->id,
           device ? "device" : "service", link_peer(link));
  relay_attach(entry->relay, device ? DEVICE : SERVICE, link, core);
  check_paired(entry);
  if (gateway->events.on_side != NULL && !entry->forgotten)
    gateway->events.on_side(gateway->user, entry->id, device);
}

void gateway_accept(struct gateway *gateway, struct link *link,
                    const struct http_head *request) {
  char id[TOKEN_ID_SIZE];
  bool device = false;
  struct entry *entry = NULL;
  if (!parse_target(request->target, id, &device)) {
    http_reply(link, 404, NULL, "no such streaming endpoint");
    return;
  }
  const char *why = refuse(gateway, request, id, device, &entry);
  if (why != NULL) {
    log_limit_write(
        &gateway->refused, DSTREAM_LOG_WARNING,
        "gateway: streaming endpoint: refused the %s side from %s: %s",
        device ? "device" : "service", link_peer(link), why);
    if (gateway->events.on_refused != NULL)
      gateway->events.on_refused(gateway->user, id, device, link_peer(link),
                                 why);
    http_reply(link, 401, "WWW-Authenticate: Bearer\r\n", why);
    return;
  }
  struct stream_core_options options = {
      .keepalive_ms = gateway->options.keepalive_ms < 0
                          ? 0
                          : (uint64_t)gateway->options.keepalive_ms,
      .close_timeout_ms = gateway->options.close_timeout_ms,
      .drain_timeout_ms = gateway->options.drain_timeout_ms,
      .eof = entry->eof,
  };
  struct stream_core core;
  int http_status = 400;
  memset(&core, 0, sizeof core);
  if (stream_core_accept(&core, &options, request, NULL, &http_status,
                         loop_now_ms()) != DSTREAM_OK) {
    stream_core_clear(&core);
    http_reply(link, http_status,
               http_status == 426 ? "Sec-WebSocket-Version: 13\r\n"
                                    "Upgrade: websocket\r\n"
                                  : NULL,
               "this is a WebSocket endpoint (RFC 6455)");
    return;
  }
  join(entry, link, &core, device);
}

/* ---- looking ---- */

unsigned gateway_count(const struct gateway *gateway) {
  return (unsigned)gateway->entries.count;
}

unsigned gateway_device_count(const struct gateway *gateway,
                              const char *device_id) {
  const struct owner *owner = owner_find(gateway, device_id);
  return owner == NULL ? 0 : owner->count;
}

static void walk(const struct gateway *gateway,
                 void (*fn)(void *user, struct entry *entry), void *user) {
  struct table_walk at = {0};
  struct entry *entry = entry_at(table_walk(&gateway->entries, &at));
  for (; entry != NULL; entry = entry_at(table_walk(&gateway->entries, &at)))
    fn(user, entry);
}

struct viewer {
  void (*fn)(void *user, const struct gateway_view *view);
  void *user;
};

static void view(void *user, struct entry *entry) {
  const struct viewer *viewer = user;
  uint64_t now = loop_now_ms();
  bool running = entry->paired_ms != 0;
  uint64_t since = running ? entry->paired_ms : entry->announced_ms;
  uint64_t last = relay_last_ms(entry->relay);
  struct gateway_view out = {
      .stream_id = entry->id,
      .device_id = entry->owner->device_id,
      .stream_name = entry->name,
      .caller = entry->caller == NULL ? "" : entry->caller,
      .running = running,
      .age_ms = now - since,
      .idle_ms = now - (last > since ? last : since),
      .bytes_to_device = relay_bytes(entry->relay, SERVICE),
      .bytes_to_service = relay_bytes(entry->relay, DEVICE),
      .device_peer = relay_peer(entry->relay, DEVICE),
      .service_peer = relay_peer(entry->relay, SERVICE)};
  viewer->fn(viewer->user, &out);
}

void gateway_each(const struct gateway *gateway,
                  void (*fn)(void *user, const struct gateway_view *view),
                  void *user) {
  struct viewer viewer = {fn, user};
  walk(gateway, view, &viewer);
}

static void add_up(void *user, struct entry *entry) {
  struct gateway_totals *totals = user;
  totals->running += entry->paired_ms != 0;
  totals->bytes_to_device += relay_bytes(entry->relay, SERVICE);
  totals->bytes_to_service += relay_bytes(entry->relay, DEVICE);
  totals->stalls += relay_stalls(entry->relay);
}

struct gateway_totals gateway_totals(const struct gateway *gateway) {
  struct gateway_totals totals = {.stalls = gateway->stalls};
  walk(gateway, add_up, &totals);
  return totals;
}

static void execute(void *user, struct entry *entry) {
  const int *code = user;
  if (entry->owner->verdict == NULL)
    return;
  loop_timer_cancel(&entry->timer);
  relay_end(entry->relay, *code, entry->owner->verdict);
}

void gateway_judge(struct gateway *gateway, int code,
                   const char *(*fn)(void *user, const char *client_id),
                   void *user) {
  struct table_walk at = {0};
  bool any = false;
  struct owner *owner = owner_at(table_walk(&gateway->owners, &at));
  for (; owner != NULL; owner = owner_at(table_walk(&gateway->owners, &at))) {
    owner->verdict = fn(user, owner->device_id);
    any = any || owner->verdict != NULL;
  }
  if (any)
    walk(gateway, execute, &code);
}

/* ---- life ---- */

int gateway_new(struct gateway **out, dstream_loop *loop, const uint8_t *key,
                const struct gateway_options *options,
                const struct gateway_events *events, void *user) {
  struct gateway *gateway = calloc(1, sizeof *gateway);
  if (gateway == NULL)
    return DSTREAM_ENOMEM;
  if (!table_init(&gateway->entries) || !table_init(&gateway->owners)) {
    table_end(&gateway->entries);
    table_end(&gateway->owners);
    free(gateway);
    return DSTREAM_ENOMEM;
  }
  gateway->loop = loop;
  gateway->start_s = (uint64_t)time(NULL);
  gateway->start_ms = loop_now_ms();
  log_limit_init(&gateway->refused, loop, "gateway: refused sides of streams",
                 NULL);
  memcpy(gateway->key, key, sizeof gateway->key);
  gateway->options = *options;
  if (gateway->options.max_streams == 0)
    gateway->options.max_streams = DEFAULT_MAX_STREAMS;
  if (gateway->options.keepalive_ms == 0)
    gateway->options.keepalive_ms = DEFAULT_KEEPALIVE;
  if (gateway->options.close_timeout_ms == 0)
    gateway->options.close_timeout_ms = DEFAULT_CLOSE_WAIT;
  if (gateway->options.drain_timeout_ms == 0)
    gateway->options.drain_timeout_ms = DEFAULT_DRAIN_WAIT;
  gateway->events = *events;
  gateway->user = user;
  *out = gateway;
  return DSTREAM_OK;
}

static void shut_down(void *user, struct entry *entry) {
  (void)user;
  loop_timer_cancel(&entry->timer);
  relay_end(entry->relay, 1001, "the hub goes down");
}

void gateway_shutdown(struct gateway *gateway) {
  walk(gateway, shut_down, NULL);
}

static void drop(void *user, struct entry *entry) {
  (void)user;
  entry_remove(entry);
}

void gateway_free(struct gateway *gateway) {
  if (gateway == NULL)
    return;
  walk(gateway, drop, NULL);
  table_end(&gateway->entries);
  table_end(&gateway->owners);
  log_limit_end(&gateway->refused);
  crypto_wipe(gateway->key, sizeof gateway->key);
  free(gateway);
}
