#include "hub/handshake.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bucket.h"
#include "core/crypto.h"
#include "core/percent.h"
#include "core/printable.h"
#include "core/ws_frame.h"

#define CALLER_SLOTS  64
#define OFFERED_CAPS  CAPS_EOF
#define RID_MAX       99999 /* the official C device keeps 6 characters */
#define TOKEN_GRACE_S 5
#define ASKS_MAX      2
#define BUCKETS_MAX   65536
#define NEVER         UINT64_MAX
/* The gateway keeps this deadline; ours only cleans up after a fault. */
#define SIDES_GRACE_MS 10000
/* A device knows that it is connected before this hub does, by what the broker
 * takes to tell: a service that it told must not be refused. */
#define PRESENCE_LAG_MS 100

enum state { WAIT_DEVICE, WAIT_ANSWER, WAIT_SIDES };

struct handshake_pending {
  struct handshake *owner;
  struct handshake_pending *next, *prev; /* all of them */
  struct handshake_pending *next_stream; /* in their buckets */
  struct handshake_pending *next_client;
  enum state state;
  uint64_t deadline_ms; /* of the state */
  uint64_t complete_ms; /* when both sides must be there */
  uint64_t started_ms;
  uint64_t response_ms; /* the timeouts asked for */
  int connect_timeout_s;
  handshake_done_fn *done; /* NULL: told */
  void *user;
  unsigned asks;
  bool lost; /* the device went after it was asked */
  bool announced;
  bool device_side, service_side;
  char rid[8];
  char stream_id[TOKEN_ID_SIZE];
  char client[HANDSHAKE_CLIENT_SIZE];
  char name[HANDSHAKE_NAME_MAX + 1];
  char caller[HANDSHAKE_CALLER_SIZE];
  char caps[CAPS_SIZE]; /* offered to the device, then agreed */
  char device_token[TOKEN_SIZE];
  char service_token[TOKEN_SIZE];
};

struct handshake {
  struct handshake_options options;
  char *host;
  uint16_t port;
  struct handshake_world world;
  void *user;
  struct handshake_pending all; /* list head */
  unsigned count;
  unsigned last_rid;
  bool stopping;
  uint64_t wake_ms;
  struct bucket rate;
  struct bucket callers[CALLER_SLOTS]; /* by hash: some share one */
  size_t bucket_count;                 /* a power of two */
  struct handshake_pending **streams;
  struct handshake_pending **clients;
};

/* ---- words ---- */

__attribute__((format(printf, 3, 4))) static void
say(const struct handshake *h, enum dstream_log_level level, const char *format,
    ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  h->world.log(h->user, level, text);
}

/* The first eight digits tell streams apart in a log. */
#define SAY(p, level, format, ...)                                             \
  say((p)->owner, DSTREAM_LOG_##level, "stream %.8s: " format, (p)->stream_id, \
      __VA_ARGS__)

static uint64_t age_ms(const struct handshake_pending *p) {
  return p->owner->world.now_ms(p->owner->user) - p->started_ms;
}

/* For the activity log; what all records of a request have in common is filled
 * in here. */
static void tell(const struct handshake_pending *p,
                 struct activity_record record) {
  const struct handshake *h = p->owner;
  if (h->world.tell == NULL)
    return;
  record.client_id = p->client;
  record.stream_name = p->name;
  record.stream_id = p->stream_id;
  record.caller = p->caller;
  record.duration_ms = age_ms(p);
  h->world.tell(h->user, &record);
}

/* ---- tables ---- */

static size_t text_hash(const char *text) {
  uint32_t hash = 2166136261u; /* FNV-1a */
  for (; *text != '\0'; text++)
    hash = (hash ^ (unsigned char)*text) * 16777619u;
  return hash;
}

static struct handshake_pending **stream_bucket(const struct handshake *h,
                                                const char *stream_id) {
  return &h->streams[text_hash(stream_id) & (h->bucket_count - 1)];
}

static struct handshake_pending **client_bucket(const struct handshake *h,
                                                const char *client) {
  return &h->clients[text_hash(client) & (h->bucket_count - 1)];
}

static void link_in(struct handshake_pending *p) {
  struct handshake *h = p->owner;
  p->next = &h->all;
  p->prev = h->all.prev;
  p->prev->next = p;
  h->all.prev = p;
  struct handshake_pending **bucket = stream_bucket(h, p->stream_id);
  p->next_stream = *bucket;
  *bucket = p;
  bucket = client_bucket(h, p->client);
  p->next_client = *bucket;
  *bucket = p;
  h->count++;
}

static void drop(struct handshake_pending *p) {
  struct handshake *h = p->owner;
  p->next->prev = p->prev;
  p->prev->next = p->next;
  struct handshake_pending **at = stream_bucket(h, p->stream_id);
  while (*at != p)
    at = &(*at)->next_stream;
  *at = p->next_stream;
  at = client_bucket(h, p->client);
  while (*at != p)
    at = &(*at)->next_client;
  *at = p->next_client;
  h->count--;
  crypto_wipe(p, sizeof *p);
  free(p);
}

static struct handshake_pending *find_stream(const struct handshake *h,
                                             const char *stream_id) {
  struct handshake_pending *p = *stream_bucket(h, stream_id);
  while (p != NULL && strcmp(p->stream_id, stream_id) != 0)
    p = p->next_stream;
  return p;
}

/* Requests of the client that wait for its answer or for itself. */
static unsigned client_count(const struct handshake *h, const char *client) {
  unsigned count = 0;
  const struct handshake_pending *p = *client_bucket(h, client);
  for (; p != NULL; p = p->next_client)
    count += strcmp(p->client, client) == 0;
  return count;
}

static struct handshake_pending *find_rid(const struct handshake *h,
                                          const char *client, const char *rid) {
  struct handshake_pending *p = *client_bucket(h, client);
  while (p != NULL &&
         (strcmp(p->client, client) != 0 || strcmp(p->rid, rid) != 0))
    p = p->next_client;
  return p;
}

/* Short, and not soon used again: a late answer must not meet another
 * request. */
static void new_rid(struct handshake_pending *p) {
  struct handshake *h = p->owner;
  do {
    h->last_rid = h->last_rid % RID_MAX + 1;
    snprintf(p->rid, sizeof p->rid, "%u", h->last_rid);
  } while (find_rid(h, p->client, p->rid) != NULL);
}

/* ---- deadlines ---- */

static void wake_by(struct handshake *h, uint64_t at_ms) {
  if (at_ms < h->wake_ms) {
    h->wake_ms = at_ms;
    h->world.wake_at(h->user, at_ms);
  }
}

static void set_state(struct handshake_pending *p, enum state state,
                      uint64_t deadline_ms) {
  assert(state >= p->state);
  p->state = state;
  p->deadline_ms = deadline_ms;
  wake_by(p->owner, deadline_ms);
}

/* ---- the end of a request ---- */

static void withdraw(struct handshake_pending *p, const char *reason) {
  if (p->announced)
    p->owner->world.forget(p->owner->user, p->stream_id, reason);
  p->announced = false;
}

/* Tells the service, then forgets the request. */
static void finish(struct handshake_pending *p,
                   const struct handshake_result *result) {
  handshake_done_fn *done = p->done;
  void *user = p->user;
  char stream_id[TOKEN_ID_SIZE];
  memcpy(stream_id, p->stream_id, sizeof stream_id);
  struct handshake_result copy = *result;
  copy.stream_id = stream_id;
  drop(p);
  if (done != NULL)
    done(user, &copy);
}

static void fail(struct handshake_pending *p, enum hub_error_code error,
                 int timeout_s, const char *message) {
  SAY(p, INFO, "failed after %llu ms: %s", (unsigned long long)age_ms(p),
      message);
  tell(p, (struct activity_record){.event = timeout_s >= 0 ? ACTIVITY_TIMEOUT
                                            : error == HUB_ERROR_THROTTLED
                                                ? ACTIVITY_LIMIT
                                                : ACTIVITY_FAILED,
                                   .description = message,
                                   .status_code = hub_error_http_status(error),
                                   .error_code = (int)error});
  withdraw(p, message);
  struct handshake_result result = {
      .error = error, .message = message, .timeout_s = timeout_s};
  finish(p, &result);
}

static void reject(struct handshake_pending *p, const char *reason) {
  tell(p, (struct activity_record){.event = ACTIVITY_REJECTED,
                                   .description = reason,
                                   .status_code = 200});
  withdraw(p, "the device rejected the stream");
  struct handshake_result result = {.reason = reason, .timeout_s = -1};
  finish(p, &result);
}

/* ---- asking the device ---- */

static bool stream_url(const struct handshake_pending *p, bool device_side,
                       char *out, size_t size) {
  char client[3 * HANDSHAKE_CLIENT_SIZE];
  const struct handshake *h = p->owner;
  if (percent_encode(slice_of(p->client), client, sizeof client) < 0)
    return false;
  int len = snprintf(out, size, "wss://%s:%u%sih/%s/d/%s/sid/%s/r/%s", h->host,
                     h->port, GATEWAY_PATH, h->host, client, p->stream_id,
                     device_side ? "device" : "service");
  return len > 0 && (size_t)len < size;
}

static int make_token(const struct handshake_pending *p, bool device_side,
                      char *out, char *jti) {
  const struct handshake *h = p->owner;
  struct token_claims claims;
  uint64_t expiry =
      h->world.now_s(h->user) + h->options.handshake_s + TOKEN_GRACE_S;
  int status = token_claims_init(&claims, p->stream_id, device_side, expiry);
  if (status == DSTREAM_OK)
    status = token_make(out, TOKEN_SIZE, &claims, h->options.token_key,
                        CRYPTO_SHA256_LEN);
  memcpy(jti, claims.jti, TOKEN_JTI_SIZE);
  return status < 0 ? status : DSTREAM_OK;
}

/* Makes the two tokens and announces the stream. */
static int announce(struct handshake_pending *p) {
  struct handshake *h = p->owner;
  char device_jti[TOKEN_JTI_SIZE];
  char service_jti[TOKEN_JTI_SIZE];
  int status = make_token(p, true, p->device_token, device_jti);
  if (status == DSTREAM_OK)
    status = make_token(p, false, p->service_token, service_jti);
  if (status != DSTREAM_OK)
    return status;
  p->complete_ms =
      h->world.now_ms(h->user) + (uint64_t)h->options.handshake_s * 1000;
  struct gateway_stream stream = {.stream_id = p->stream_id,
                                  .device_id = p->client,
                                  .stream_name = p->name,
                                  .caller = p->caller,
                                  .device_jti = device_jti,
                                  .service_jti = service_jti,
                                  .deadline_ms = p->complete_ms};
  status = h->world.expect(h->user, &stream);
  p->announced = status == DSTREAM_OK;
  return status;
}

static int ask(struct handshake_pending *p) {
  char url[STREAM_URL_SIZE];
  if (!stream_url(p, true, url, sizeof url))
    return DSTREAM_ELIMIT;
  char *topic = malloc(STREAM_TOPIC_SIZE);
  if (topic == NULL)
    return DSTREAM_ENOMEM;
  int status = stream_topic_format_request(
      topic, STREAM_TOPIC_SIZE, p->name, p->rid, url, p->device_token, p->caps);
  if (status >= 0)
    status = p->owner->world.ask(p->owner->user, p->client, topic);
  crypto_wipe(topic, STREAM_TOPIC_SIZE);
  free(topic);
  if (status == DSTREAM_OK)
    p->asks++;
  return status;
}

static void fail_ask(struct handshake_pending *p, int status) {
  if (status == DSTREAM_EOFFLINE)
    fail(p, HUB_ERROR_OFFLINE, p->connect_timeout_s,
         "Timed out waiting for device to connect.");
  else if (status == DSTREAM_ELIMIT)
    fail(p, HUB_ERROR_THROTTLED, -1, "Too many streams at once.");
  else
    fail(p, HUB_ERROR_UNAVAILABLE, -1,
         "The device can't be asked just now; try again.");
}

/* The device is there.  False: the request is over. */
static bool ask_first(struct handshake_pending *p) {
  struct handshake *h = p->owner;
  if (h->world.device_stream_count(h->user, p->client) >=
      h->options.max_streams_per_device) {
    fail(p, HUB_ERROR_THROTTLED, -1, "Too many streams of this device.");
    return false;
  }
  int status = announce(p);
  if (status == DSTREAM_OK)
    status = ask(p);
  if (status != DSTREAM_OK) {
    fail_ask(p, status);
    return false;
  }
  uint64_t deadline = h->world.now_ms(h->user) + p->response_ms;
  set_state(p, WAIT_ANSWER,
            deadline < p->complete_ms ? deadline : p->complete_ms);
  SAY(p, DEBUG, "device asked, request id %s", p->rid);
  return true;
}

static void ask_again(struct handshake_pending *p) {
  p->lost = false;
  if (p->asks < ASKS_MAX && ask(p) == DSTREAM_OK)
    SAY(p, INFO, "device is back, asked again after %llu ms",
        (unsigned long long)age_ms(p));
}

/* ---- a new request ---- */

bool handshake_name_valid(const char *name) {
  size_t len = strlen(name);
  return len >= 1 && len <= HANDSHAKE_NAME_MAX &&
         strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                      "0123456789-._~") == len;
}

struct refusal {
  enum hub_error_code error;
  const char *message;
};

static bool rate_allows(struct handshake *h, const char *caller) {
  uint64_t now_ms = h->world.now_ms(h->user);
  unsigned hash = 0;
  for (const char *p = caller != NULL ? caller : ""; *p != '\0'; p++)
    hash = hash * 31 + (unsigned char)*p;
  if (caller != NULL && !bucket_take(&h->callers[hash % CALLER_SLOTS], now_ms))
    return false;
  return bucket_take(&h->rate, now_ms);
}

static struct refusal check_limits(struct handshake *h, const char *client) {
  if (h->count >= h->options.max_pending ||
      client_count(h, client) >= h->options.max_pending_per_device)
    return (struct refusal){HUB_ERROR_THROTTLED,
                            "Too many stream requests are pending."};
  if (h->world.stream_count(h->user) >= h->options.max_streams ||
      h->world.device_stream_count(h->user, client) >=
          h->options.max_streams_per_device)
    return (struct refusal){HUB_ERROR_THROTTLED, "Too many streams at once."};
  return (struct refusal){HUB_ERROR_NONE, NULL};
}

static struct refusal check_request(struct handshake *h,
                                    const struct handshake_request *r,
                                    const char *client) {
  if (!handshake_name_valid(r->name))
    return (struct refusal){HUB_ERROR_ARGUMENT,
                            "The stream's name must be 1 to 128 letters, "
                            "digits, '-', '.', '_' and '~'."};
  if (r->connect_timeout_s < 0 ||
      r->connect_timeout_s > HANDSHAKE_CONNECT_MAX_S)
    return (struct refusal){HUB_ERROR_ARGUMENT,
                            "The connect timeout must be 0 to 60 seconds."};
  if (r->response_timeout_s < 1 ||
      r->response_timeout_s > HANDSHAKE_RESPONSE_MAX_S)
    return (struct refusal){HUB_ERROR_ARGUMENT,
                            "The response timeout must be 1 to 60 seconds."};
  if (!rate_allows(h, r->caller))
    return (struct refusal){HUB_ERROR_THROTTLED, "Too many requests."};
  switch (h->world.find_device(h->user, r->device_id)) {
  case HANDSHAKE_DEVICE_OK:
    break;
  case HANDSHAKE_DEVICE_UNKNOWN:
    return (struct refusal){HUB_ERROR_NO_DEVICE, "There is no such device."};
  case HANDSHAKE_DEVICE_DISABLED:
    return (struct refusal){HUB_ERROR_FORBIDDEN, "The device is disabled."};
  case HANDSHAKE_DEVICE_ERROR:
    return (struct refusal){HUB_ERROR_UNAVAILABLE,
                            "The identities can't be read just now."};
  }
  if (h->stopping)
    return (struct refusal){HUB_ERROR_UNAVAILABLE, "The hub is stopping."};
  if (!h->world.is_up(h->user))
    return (struct refusal){HUB_ERROR_UNAVAILABLE,
                            "The hub's broker is starting; try again."};
  return check_limits(h, client);
}

static bool client_id(const struct handshake_request *r, char *out,
                      size_t size) {
  int len = r->module_id == NULL
                ? snprintf(out, size, "%s", r->device_id)
                : snprintf(out, size, "%s/%s", r->device_id, r->module_id);
  return len > 0 && (size_t)len < size;
}

static struct handshake_pending *pending_new(struct handshake *h,
                                             const struct handshake_request *r,
                                             const char *client) {
  struct handshake_pending *p = calloc(1, sizeof *p);
  uint8_t id[16];
  if (p == NULL || crypto_random(id, sizeof id) != DSTREAM_OK) {
    free(p);
    return NULL;
  }
  for (size_t i = 0; i < sizeof id; i++)
    snprintf(p->stream_id + 2 * i, 3, "%02x", id[i]);
  p->owner = h;
  p->started_ms = h->world.now_ms(h->user);
  p->response_ms = (uint64_t)r->response_timeout_s * 1000;
  p->connect_timeout_s = r->connect_timeout_s;
  snprintf(p->client, sizeof p->client, "%s", client);
  snprintf(p->name, sizeof p->name, "%s", r->name);
  snprintf(p->caller, sizeof p->caller, "%s",
           r->caller != NULL ? r->caller : "");
  if (r->caps != NULL)
    caps_intersect(slice_of(r->caps), SLICE_LITERAL(OFFERED_CAPS), p->caps,
                   sizeof p->caps);
  new_rid(p);
  link_in(p);
  return p;
}

static bool begin(struct handshake_pending *p) {
  struct handshake *h = p->owner;
  SAY(p, INFO, "service asked for %s on %s", p->name, p->client);
  tell(p,
       (struct activity_record){.event = ACTIVITY_REQUEST, .description = ""});
  if (h->world.is_ready(h->user, p->client))
    return ask_first(p);
  uint64_t wait_ms = (uint64_t)p->connect_timeout_s * 1000;
  if (wait_ms == 0)
    wait_ms = PRESENCE_LAG_MS;
  else
    SAY(p, INFO, "device is not connected, waiting up to %d s",
        p->connect_timeout_s);
  set_state(p, WAIT_DEVICE, p->started_ms + wait_ms);
  return true;
}

void handshake_start(struct handshake *h, const struct handshake_request *r,
                     handshake_done_fn *done, void *user,
                     struct handshake_pending **pending) {
  char client[HANDSHAKE_CLIENT_SIZE] = "";
  struct refusal refusal = {HUB_ERROR_NO_DEVICE, "There is no such device."};
  struct handshake_pending *p = NULL;
  *pending = NULL;
  if (client_id(r, client, sizeof client))
    refusal = check_request(h, r, client);
  if (refusal.error == HUB_ERROR_NONE) {
    p = pending_new(h, r, client);
    if (p == NULL)
      refusal = (struct refusal){HUB_ERROR_INTERNAL, "The hub failed."};
  }
  if (refusal.error != HUB_ERROR_NONE) {
    struct handshake_result result = {.error = refusal.error,
                                      .message = refusal.message,
                                      .timeout_s = -1,
                                      .stream_id = ""};
    done(user, &result);
    return;
  }
  p->done = done;
  p->user = user;
  *pending = p;
  if (!begin(p))
    *pending = NULL;
}

void handshake_cancel(struct handshake_pending *p) {
  SAY(p, INFO, "service has gone, after %llu ms",
      (unsigned long long)age_ms(p));
  tell(p, (struct activity_record){
              .event = ACTIVITY_CANCELED,
              .description = "the service went before it was answered"});
  withdraw(p, "the service has gone");
  drop(p);
}

/* ---- what happened elsewhere ---- */

static void on_deadline(struct handshake_pending *p) {
  switch (p->state) {
  case WAIT_DEVICE:
    fail(p, HUB_ERROR_OFFLINE, p->connect_timeout_s,
         "Timed out waiting for device to connect.");
    return;
  case WAIT_ANSWER:
    fail(p, HUB_ERROR_NO_ANSWER, (int)(p->response_ms / 1000),
         "Timed out waiting for the response from device.");
    return;
  case WAIT_SIDES:
    tell(p, (struct activity_record){.event = ACTIVITY_TIMEOUT,
                                     .description =
                                         "the handshake took too long"});
    withdraw(p, "the handshake took too long");
    drop(p);
    return;
  }
}

void handshake_tick(struct handshake *h) {
  uint64_t now = h->world.now_ms(h->user);
  h->wake_ms = NEVER;
  struct handshake_pending *next;
  /* The service of one can't end another, only add new ones at the end. */
  for (struct handshake_pending *p = h->all.next; p != &h->all; p = next) {
    next = p->next;
    if (p->deadline_ms <= now)
      on_deadline(p);
    else
      wake_by(h, p->deadline_ms);
  }
}

/* The first of a bucket's requests that is the client's and in that state, or
 * NULL. */
static struct handshake_pending *next_in(struct handshake_pending *p,
                                         const char *client, enum state state) {
  while (p != NULL && (p->state != state || strcmp(p->client, client) != 0))
    p = p->next_client;
  return p;
}

void handshake_on_presence(struct handshake *h, const char *client,
                           bool ready) {
  struct handshake_pending *p = *client_bucket(h, client);
  while ((p = next_in(p, client, WAIT_ANSWER)) != NULL) {
    if (ready && p->lost) {
      ask_again(p);
    } else if (!ready) {
      p->lost = true;
      SAY(p, INFO, "device has gone before it answered, after %llu ms",
          (unsigned long long)age_ms(p));
    }
    p = p->next_client;
  }
  if (!ready)
    return;
  /* Each turn takes one out of the state, so look again from the start. */
  while ((p = next_in(*client_bucket(h, client), client, WAIT_DEVICE)) !=
         NULL) {
    SAY(p, INFO, "device is here after %llu ms", (unsigned long long)age_ms(p));
    ask_first(p);
  }
}

static void accept_stream(struct handshake_pending *p,
                          const struct stream_response *response) {
  struct handshake *h = p->owner;
  char agreed[CAPS_SIZE] = "";
  char url[STREAM_URL_SIZE];
  caps_intersect(slice_of(p->caps), response->caps, agreed, sizeof agreed);
  if (caps_has(slice_of(agreed), CAPS_EOF))
    h->world.set_eof(h->user, p->stream_id);
  if (!stream_url(p, false, url, sizeof url)) {
    fail(p, HUB_ERROR_INTERNAL, -1, "The hub failed.");
    return;
  }
  set_state(p, WAIT_SIDES, p->complete_ms + SIDES_GRACE_MS);
  tell(p, (struct activity_record){.event = ACTIVITY_ACCEPTED,
                                   .description = "",
                                   .status_code = 200});
  struct handshake_result result = {.accepted = true,
                                    .stream_id = p->stream_id,
                                    .timeout_s = -1,
                                    .url = url,
                                    .token = p->service_token,
                                    .caps = agreed};
  handshake_done_fn *done = p->done;
  p->done = NULL;
  done(p->user, &result);
}

static void shown(const char *text, char *out, size_t size) {
  snprintf(out, size, "%s", text);
  printable_line(out);
}

void handshake_on_answer(struct handshake *h, const char *client,
                         const char *topic) {
  struct stream_response response;
  char text[STREAM_REASON_SIZE];
  if (stream_topic_parse_response(&response, topic, strlen(topic)) !=
      DSTREAM_OK) {
    shown(topic, text, sizeof text);
    say(h, DSTREAM_LOG_WARNING, "device %s sent no proper answer: %.120s",
        client, text);
    return;
  }
  struct handshake_pending *p = find_rid(h, client, response.rid);
  if (p == NULL || p->state != WAIT_ANSWER) {
    shown(response.rid, text, sizeof text);
    say(h, DSTREAM_LOG_INFO,
        "device %s answered %d to request %.20s, which nobody waits for",
        client, response.code, text);
    return;
  }
  shown(response.reason, text, sizeof text);
  SAY(p, INFO, "device answered %d after %llu ms%s%s", response.code,
      (unsigned long long)age_ms(p), text[0] != '\0' ? ": " : "", text);
  if (response.code == STREAM_TOPIC_ACCEPT) {
    accept_stream(p, &response);
    return;
  }
  if (response.code != STREAM_TOPIC_REJECT)
    SAY(p, WARNING, "%d is no answer; taken as a rejection", response.code);
  reject(p, text);
}

void handshake_on_side(struct handshake *h, const char *stream_id,
                       bool device_side) {
  struct handshake_pending *p = find_stream(h, stream_id);
  if (p == NULL)
    return;
  if (device_side)
    p->device_side = true;
  else
    p->service_side = true;
  SAY(p, INFO, "%s connected after %llu ms", device_side ? "device" : "service",
      (unsigned long long)age_ms(p));
  if (p->device_side && p->service_side && p->state == WAIT_SIDES) {
    SAY(p, INFO, "paired after %llu ms", (unsigned long long)age_ms(p));
    tell(p,
         (struct activity_record){.event = ACTIVITY_START, .description = ""});
    drop(p);
  }
}

static void say_end(const struct handshake *h, const struct gateway_report *r) {
  if (!r->paired) {
    say(h, DSTREAM_LOG_INFO,
        "stream %.8s: ended by %s before both sides were "
        "there: %s",
        r->stream_id, r->who, r->cause->text);
    return;
  }
  say(h, DSTREAM_LOG_INFO,
      "stream %.8s: ended by %s after %llu.%03llu s, %llu bytes to device, "
      "%llu "
      "bytes to service, close %d%s%s",
      r->stream_id, r->who, (unsigned long long)r->duration_ms / 1000,
      (unsigned long long)r->duration_ms % 1000,
      (unsigned long long)r->bytes_to_device,
      (unsigned long long)r->bytes_to_service, r->cause->ws_code,
      r->cause->status == DSTREAM_OK ? "" : ": ",
      r->cause->status == DSTREAM_OK ? "" : r->cause->text);
}

/* The end of a stream, or of what did not become one. */
static void tell_end(const struct handshake *h,
                     const struct gateway_report *r) {
  if (h->world.tell == NULL)
    return;
  bool orderly = r->cause->status == DSTREAM_OK ||
                 r->cause->ws_code == WS_CLOSE_NORMAL ||
                 r->cause->ws_code == WS_CLOSE_NO_CODE ||
                 r->cause->ws_code == WS_CLOSE_ABNORMAL;
  orderly = orderly && r->cause->status != DSTREAM_EIO &&
            r->cause->status != DSTREAM_EKEEPALIVE;
  bool timeout = r->cause->status == DSTREAM_ECANCELED &&
                 r->cause->ws_code == WS_CLOSE_INTERNAL;
  struct activity_record record = {.event = r->paired ? ACTIVITY_END
                                            : timeout ? ACTIVITY_TIMEOUT
                                                      : ACTIVITY_FAILED,
                                   .client_id = r->device_id,
                                   .stream_name = r->stream_name,
                                   .stream_id = r->stream_id,
                                   .caller = r->caller,
                                   .description = r->cause->text,
                                   .ended_by = r->who,
                                   .duration_ms = r->duration_ms,
                                   .bytes_to_device = r->bytes_to_device,
                                   .bytes_to_service = r->bytes_to_service,
                                   .close_code = r->cause->ws_code,
                                   .failed = !orderly};
  h->world.tell(h->user, &record);
}

void handshake_on_end(struct handshake *h,
                      const struct gateway_report *report) {
  say_end(h, report);
  struct handshake_pending *p = find_stream(h, report->stream_id);
  if (p == NULL || p->state != WAIT_ANSWER)
    tell_end(h, report);
  if (p == NULL)
    return;
  p->announced = false;
  if (p->state == WAIT_ANSWER)
    fail(p, HUB_ERROR_NO_ANSWER, (int)(p->response_ms / 1000),
         "The stream ended before the device answered.");
  else
    drop(p);
}

/* ---- life ---- */

unsigned handshake_count(const struct handshake *h) {
  return h->count;
}

void handshake_set_port(struct handshake *h, uint16_t port) {
  h->port = port;
}

static void init_rates(struct handshake *h) {
  uint32_t rate = h->options.requests_per_second;
  uint32_t burst = h->options.request_burst;
  uint64_t now_ms = h->world.now_ms(h->user);
  bucket_init(&h->rate, rate, burst, now_ms);
  for (int i = 0; i < CALLER_SLOTS; i++)
    bucket_init(&h->callers[i], rate - rate / 4, burst - burst / 4, now_ms);
}

int handshake_new(struct handshake **out,
                  const struct handshake_options *options,
                  const struct handshake_world *world, void *user) {
  struct handshake *h = calloc(1, sizeof *h);
  if (h == NULL)
    return DSTREAM_ENOMEM;
  h->options = *options;
  h->world = *world;
  h->user = user;
  h->port = 443;
  h->all.next = h->all.prev = &h->all;
  h->wake_ms = NEVER;
  init_rates(h);
  h->bucket_count = 64;
  while (h->bucket_count < options->max_pending &&
         h->bucket_count < BUCKETS_MAX)
    h->bucket_count *= 2;
  h->host = strdup(options->host);
  h->streams = calloc(h->bucket_count, sizeof *h->streams);
  h->clients = calloc(h->bucket_count, sizeof *h->clients);
  if (h->host == NULL || h->streams == NULL || h->clients == NULL) {
    handshake_free(h);
    return DSTREAM_ENOMEM;
  }
  *out = h;
  return DSTREAM_OK;
}

void handshake_stop(struct handshake *h) {
  struct handshake_pending *next;
  h->stopping = true;
  for (struct handshake_pending *p = h->all.next; p != &h->all; p = next) {
    next = p->next;
    if (p->done != NULL)
      fail(p, HUB_ERROR_UNAVAILABLE, -1, "The hub is stopping.");
  }
}

void handshake_free(struct handshake *h) {
  if (h == NULL)
    return;
  while (h->all.next != &h->all)
    drop(h->all.next);
  free(h->host);
  free(h->streams);
  free(h->clients);
  free(h);
}
