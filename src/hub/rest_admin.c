#include "hub/rest_admin.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "core/container.h"
#include "core/percent.h"
#include "hub/rest_page.h"
#include "hub/rest_query.h"
#include "hub/rest_reply.h"
#include "hub/time_text.h"

#define STREAMS_PATH  "/streams/"
#define CLIENT_SIZE   258
#define RECORDS_MAX   500
#define ACTIVITY_MAX  65536 /* bytes of an answer */
#define ACTIVITY_TAIL 64    /* of it, behind the records */
#define WAIT_MAX_S    30
#define WAITING_MAX   256 /* requests that wait for something to happen */
#define READ_RIGHTS   (IDENTITY_REGISTRY_READ | IDENTITY_SERVICE_CONNECT)

struct rest_admin {
  dstream_loop *loop;
  struct rest_admin_options options;
  unsigned waiting;
};

/* GET /activity, until it is answered. */
struct waiting {
  struct activity_listener listener;
  struct loop_timer timer;
  struct rest_admin *admin;
  struct http_exchange *exchange;
  struct activity_query query;
  char device[CLIENT_SIZE];
};

/* ---- answers ---- */

static void fail(struct http_exchange *exchange, enum hub_error_code code,
                 const char *message) {
  char id[HUB_ERROR_TRACKING_SIZE];
  rest_tracking_make(id);
  rest_reply_error(exchange, code, message, -1, id,
                   code == HUB_ERROR_UNAVAILABLE || code == HUB_ERROR_THROTTLED
                       ? "Retry-After: 1\r\n"
                       : "");
}

static void out_of_memory(struct http_exchange *exchange) {
  fail(exchange, HUB_ERROR_UNAVAILABLE, "The hub is out of memory.");
}

/* json: cJSON's; NULL: there was no memory for it. */
static void reply(struct http_exchange *exchange, char *json) {
  if (json == NULL)
    out_of_memory(exchange);
  else
    rest_reply_json(exchange, json);
  cJSON_free(json);
}

static bool add_text(cJSON *object, const char *name, const char *text) {
  return (text == NULL ? cJSON_AddNullToObject(object, name)
                       : cJSON_AddStringToObject(object, name, text)) != NULL;
}

static bool add_number(cJSON *object, const char *name, uint64_t number) {
  return cJSON_AddNumberToObject(object, name, (double)number) != NULL;
}

static bool add_time(cJSON *object, const char *name, int64_t ms) {
  char text[TIME_TEXT_SIZE];
  time_text_make(ms, text);
  return add_text(object, name, ms > 0 ? text : NULL);
}

/* "device/module" as two members. */
static bool add_client(cJSON *object, const char *client) {
  char device[CLIENT_SIZE];
  snprintf(device, sizeof device, "%s", client);
  char *slash = strchr(device, '/');
  if (slash != NULL)
    *slash = '\0';
  return add_text(object, "deviceId", device) &&
         add_text(object, "moduleId", slash == NULL ? NULL : slash + 1);
}

static cJSON *only_if(bool ok, cJSON *object) {
  if (ok)
    return object;
  cJSON_Delete(object);
  return NULL;
}

/* ---- GET /hub ---- */

static bool add_endpoints(cJSON *object, const struct rest_admin_hub *hub) {
  char https[300];
  char mqtt[300];
  snprintf(https, sizeof https, "https://%.255s:%u", hub->host,
           hub->https_port);
  snprintf(mqtt, sizeof mqtt, "%.255s:%u", hub->host, hub->mqtt_port);
  cJSON *list = cJSON_AddArrayToObject(object, "streamingEndpoints");
  cJSON *item = cJSON_CreateString(https);
  if (list == NULL || item == NULL || !cJSON_AddItemToArray(list, item)) {
    cJSON_Delete(item);
    return false;
  }
  return add_text(object, "mqttEndpoint", mqtt);
}

static bool add_counts(cJSON *o, const struct rest_admin_hub *hub) {
  const struct {
    const char *name;
    uint64_t number;
  } counts[] = {{"devicesConnected", hub->devices_connected},
                {"devicesReady", hub->devices_ready},
                {"streamsRunning", hub->streams_running},
                {"streamsPending", hub->streams_pending},
                {"streamsOpened", hub->streams_opened},
                {"streamsFailed", hub->streams_failed},
                {"bytesToDevice", hub->bytes_to_device},
                {"bytesToService", hub->bytes_to_service}};
  bool ok = true;
  for (size_t i = 0; ok && i < sizeof counts / sizeof counts[0]; i++)
    ok = add_number(o, counts[i].name, counts[i].number);
  return ok;
}

static cJSON *hub_object(const struct rest_admin_hub *hub) {
  int64_t now_ms = time_text_now_ms();
  int64_t started_ms = (int64_t)hub->started_s * 1000;
  uint64_t uptime_s =
      now_ms > started_ms ? (uint64_t)(now_ms - started_ms) / 1000 : 0;
  cJSON *o = cJSON_CreateObject();
  bool ok = o != NULL && add_text(o, "name", hub->host) &&
            add_text(o, "version", hub->version) &&
            add_time(o, "started", started_ms) &&
            add_number(o, "uptimeSeconds", uptime_s) && add_endpoints(o, hub);
  ok = ok && cJSON_AddBoolToObject(o, "ready", hub->ready) != NULL &&
       add_text(o, "reason", hub->reason == NULL ? "" : hub->reason) &&
       add_counts(o, hub) &&
       add_time(o, "certificateExpires", hub->certificate_expires_s * 1000);
  return only_if(ok, o);
}

static void handle_hub(struct rest_admin *admin,
                       struct http_exchange *exchange) {
  struct rest_admin_hub hub;
  memset(&hub, 0, sizeof hub);
  admin->options.describe(admin->options.user, &hub);
  cJSON *object = hub_object(&hub);
  reply(exchange, object == NULL ? NULL : cJSON_PrintUnformatted(object));
  cJSON_Delete(object);
}

/* ---- lists ---- */

struct list {
  struct rest_admin *admin;
  struct rest_page page;
  char cursor[CLIENT_SIZE];
  char device[CLIENT_SIZE]; /* empty: all */
};

/* False: the request was answered. */
static bool list_begin(struct list *list, struct rest_admin *admin,
                       struct http_exchange *exchange,
                       const struct http_head *head) {
  uint64_t limit = 0;
  memset(list, 0, sizeof *list);
  list->admin = admin;
  if (!rest_query_integer(head->target, "limit", 1, REST_PAGE_MAX,
                          REST_PAGE_MAX, &limit)) {
    fail(exchange, HUB_ERROR_ARGUMENT, "limit must be a number from 1 to 100.");
    return false;
  }
  rest_query_text(head->target, "cursor", list->cursor, sizeof list->cursor);
  rest_query_text(head->target, "device", list->device, sizeof list->device);
  list->page.limit = (size_t)limit;
  list->page.after = list->cursor;
  return true;
}

static bool wanted(const struct list *list, const char *client) {
  size_t len = strlen(list->device);
  return len == 0 || (strncmp(client, list->device, len) == 0 &&
                      (client[len] == '\0' || client[len] == '/'));
}

static void offer_stream(void *user, const struct gateway_view *view) {
  struct list *list = user;
  if (wanted(list, view->device_id))
    rest_page_offer(&list->page, view->stream_id);
}

static cJSON *stream_object(const struct gateway_view *v) {
  cJSON *o = cJSON_CreateObject();
  bool ok = o != NULL && add_text(o, "streamId", v->stream_id) &&
            add_client(o, v->device_id) &&
            add_text(o, "name", v->stream_name) &&
            add_text(o, "caller", v->caller) &&
            add_text(o, "state", v->running ? "running" : "pending") &&
            add_time(o, "since", time_text_now_ms() - (int64_t)v->age_ms) &&
            add_number(o, "durationMs", v->running ? v->age_ms : 0) &&
            add_number(o, "bytesToDevice", v->bytes_to_device) &&
            add_number(o, "bytesToService", v->bytes_to_service) &&
            add_number(o, "idleMs", v->idle_ms) &&
            add_text(o, "devicePeer", v->device_peer) &&
            add_text(o, "servicePeer", v->service_peer);
  return only_if(ok, o);
}

static void make_stream(void *user, const struct gateway_view *view) {
  struct list *list = user;
  cJSON **place = rest_page_place(&list->page, view->stream_id);
  if (place != NULL && wanted(list, view->device_id))
    *place = stream_object(view);
}

static void handle_streams(struct rest_admin *admin,
                           struct http_exchange *exchange,
                           const struct http_head *head) {
  struct list list;
  if (!list_begin(&list, admin, exchange, head))
    return;
  gateway_each(admin->options.gateway, offer_stream, &list);
  gateway_each(admin->options.gateway, make_stream, &list);
  reply(exchange, rest_page_format(&list.page, "streams"));
}

static bool offer_device(void *user, const char *id, bool ready,
                         uint64_t since_ms) {
  struct list *list = user;
  (void)ready;
  (void)since_ms;
  if (wanted(list, id))
    rest_page_offer(&list->page, id);
  return true;
}

static bool make_device(void *user, const char *id, bool ready,
                        uint64_t since_ms) {
  struct list *list = user;
  cJSON **place = rest_page_place(&list->page, id);
  if (place == NULL)
    return true;
  int64_t age_ms = (int64_t)(loop_now_ms() - since_ms);
  cJSON *o = cJSON_CreateObject();
  bool ok = o != NULL && add_client(o, id) &&
            cJSON_AddBoolToObject(o, "ready", ready) != NULL &&
            add_time(o, "since", time_text_now_ms() - age_ms) &&
            add_number(o, "streams",
                       gateway_device_count(list->admin->options.gateway, id));
  *place = only_if(ok, o);
  return true;
}

static void handle_connections(struct rest_admin *admin,
                               struct http_exchange *exchange,
                               const struct http_head *head) {
  struct list list;
  const struct main_endpoint *endpoint = *admin->options.endpoint;
  if (!list_begin(&list, admin, exchange, head))
    return;
  if (endpoint != NULL) {
    main_endpoint_each(endpoint, offer_device, &list);
    main_endpoint_each(endpoint, make_device, &list);
  }
  reply(exchange, rest_page_format(&list.page, "connections"));
}

/* ---- DELETE /streams/{id} ---- */

struct kill {
  struct rest_admin *admin;
  const char *stream_id;
  const char *caller;
};

static void tell_kill(void *user, const struct gateway_view *view) {
  const struct kill *kill = user;
  if (strcmp(view->stream_id, kill->stream_id) != 0)
    return;
  struct activity_record record = {.event = ACTIVITY_KILL,
                                   .client_id = view->device_id,
                                   .stream_name = view->stream_name,
                                   .stream_id = view->stream_id,
                                   .caller = kill->caller,
                                   .description = "",
                                   .duration_ms = view->age_ms,
                                   .status_code = 204};
  kill->admin->options.tell(kill->admin->options.user, &record);
}

static void handle_kill(struct rest_admin *admin,
                        struct http_exchange *exchange,
                        const struct http_head *head, const char *caller) {
  char id[TOKEN_ID_SIZE] = "";
  size_t skip = sizeof STREAMS_PATH - 1;
  struct slice path = rest_query_path(head->target);
  struct slice given = {path.p + skip, path.len - skip};
  struct kill kill = {admin, id, caller};
  if (percent_decode(given, id, sizeof id, NULL) == DSTREAM_OK)
    gateway_each(admin->options.gateway, tell_kill, &kill);
  if (gateway_kill(admin->options.gateway, id, 1008, "ended by an operator") !=
      DSTREAM_OK) {
    fail(exchange, HUB_ERROR_NOT_FOUND, "There is no such stream.");
    return;
  }
  struct http_answer answer = {.status = 204, .body = ""};
  http_exchange_reply(exchange, &answer);
}

/* ---- GET /activity ---- */

struct records {
  char *text;
  size_t len;
};

static bool take_record(void *user, const char *json, size_t len) {
  struct records *records = user;
  if (records->len + len + 1 > ACTIVITY_MAX - ACTIVITY_TAIL)
    return false;
  if (records->text[records->len - 1] != '[')
    records->text[records->len++] = ',';
  memcpy(records->text + records->len, json, len);
  records->len += len;
  return true;
}

/* Answers with what there is.  False: there is nothing, and nothing was
 * answered because `wait` asks for more; query->after is up to date. */
static bool answer_records(struct rest_admin *admin,
                           struct http_exchange *exchange,
                           struct activity_query *query, bool wait) {
  static const char begin[] = "{\"records\":[";
  struct records records = {.text = malloc(ACTIVITY_MAX)};
  uint64_t cursor = 0;
  bool more = false;
  if (records.text == NULL) {
    out_of_memory(exchange);
    return true;
  }
  memcpy(records.text, begin, sizeof begin - 1);
  records.len = sizeof begin - 1;
  size_t count = activity_query(admin->options.activity, query, take_record,
                                &records, &cursor, &more);
  query->after = cursor;
  bool answered = count > 0 || !wait;
  if (answered) {
    snprintf(records.text + records.len, ACTIVITY_MAX - records.len,
             "],\"cursor\":\"%llu\",\"more\":%s}", (unsigned long long)cursor,
             more ? "true" : "false");
    rest_reply_json(exchange, records.text);
  }
  free(records.text);
  return answered;
}

static void waiting_free(struct waiting *waiting) {
  activity_unlisten(&waiting->listener);
  loop_timer_cancel(&waiting->timer);
  waiting->admin->waiting--;
  free(waiting);
}

static void on_gone(void *user) {
  waiting_free(user);
}

static void on_record(struct activity_listener *listener) {
  struct waiting *waiting = CONTAINER_OF(listener, struct waiting, listener);
  if (answer_records(waiting->admin, waiting->exchange, &waiting->query, true))
    waiting_free(waiting);
  else
    activity_listen(waiting->admin->options.activity, listener, on_record);
}

static void on_wait_over(struct loop_timer *timer) {
  struct waiting *waiting = CONTAINER_OF(timer, struct waiting, timer);
  answer_records(waiting->admin, waiting->exchange, &waiting->query, false);
  waiting_free(waiting);
}

static void wait_for_records(struct rest_admin *admin,
                             struct http_exchange *exchange,
                             const struct activity_query *query,
                             uint64_t seconds) {
  struct waiting *waiting = NULL;
  if (admin->waiting >= WAITING_MAX) {
    fail(exchange, HUB_ERROR_THROTTLED, "Too many requests are waiting.");
    return;
  }
  waiting = calloc(1, sizeof *waiting);
  if (waiting == NULL) {
    out_of_memory(exchange);
    return;
  }
  waiting->admin = admin;
  waiting->exchange = exchange;
  waiting->query = *query;
  if (query->device != NULL) {
    snprintf(waiting->device, sizeof waiting->device, "%s", query->device);
    waiting->query.device = waiting->device;
  }
  admin->waiting++;
  activity_listen(admin->options.activity, &waiting->listener, on_record);
  loop_timer_set(admin->loop, &waiting->timer, seconds * 1000, on_wait_over);
  http_exchange_on_cancel(exchange, on_gone, waiting);
}

/* What is wrong with the query; NULL: nothing.  device: CLIENT_SIZE bytes. */
static const char *read_query(struct slice target, char *device,
                              struct activity_query *query, uint64_t *wait_s) {
  char since[64];
  uint64_t limit = 0;
  *query = (struct activity_query){.device = NULL};
  if (!rest_query_integer(target, "limit", 1, RECORDS_MAX, 100, &limit))
    return "limit must be a number from 1 to 500.";
  if (!rest_query_integer(target, "after", 0, UINT64_MAX, 0, &query->after))
    return "after must be a cursor that an answer has brought.";
  if (!rest_query_integer(target, "wait", 1, WAIT_MAX_S, 0, wait_s))
    return "wait must be a number of seconds from 1 to 30.";
  if (rest_query_text(target, "since", since, sizeof since) &&
      !time_text_read(since, &query->since_ms))
    return "since must be a time such as 2026-01-01T00:00:00Z.";
  if (rest_query_text(target, "device", device, CLIENT_SIZE))
    query->device = device;
  query->limit = (size_t)limit;
  query->newest = query->after == 0 && query->since_ms == 0;
  return NULL;
}

static void handle_activity(struct rest_admin *admin,
                            struct http_exchange *exchange,
                            const struct http_head *head) {
  struct activity_query query;
  char device[CLIENT_SIZE];
  uint64_t wait_s = 0;
  const char *wrong = read_query(head->target, device, &query, &wait_s);
  if (wrong != NULL) {
    fail(exchange, HUB_ERROR_ARGUMENT, wrong);
    return;
  }
  if (answer_records(admin, exchange, &query, wait_s > 0))
    return;
  query.newest = false;
  wait_for_records(admin, exchange, &query, wait_s);
}

/* ---- which is which ---- */

enum route {
  ROUTE_NONE,
  ROUTE_HUB,
  ROUTE_STREAMS,
  ROUTE_STREAM,
  ROUTE_CONNECTIONS,
  ROUTE_ACTIVITY
};

static enum route route_of(struct slice target) {
  static const struct {
    const char *path;
    enum route route;
  } routes[] = {{"/hub", ROUTE_HUB},
                {"/streams", ROUTE_STREAMS},
                {"/connections", ROUTE_CONNECTIONS},
                {"/activity", ROUTE_ACTIVITY}};
  struct slice path = rest_query_path(target);
  size_t len = sizeof STREAMS_PATH - 1;
  for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
    if (slice_eq(path, routes[i].path))
      return routes[i].route;
  }
  bool stream = path.len > len && memcmp(path.p, STREAMS_PATH, len) == 0 &&
                memchr(path.p + len, '/', path.len - len) == NULL;
  return stream ? ROUTE_STREAM : ROUTE_NONE;
}

unsigned rest_admin_rights(const struct http_head *head) {
  switch (route_of(head->target)) {
  case ROUTE_NONE:
    return 0;
  case ROUTE_STREAM:
    return IDENTITY_SERVICE_CONNECT;
  default:
    return READ_RIGHTS;
  }
}

void rest_admin_handle(void *user, struct http_exchange *exchange,
                       const struct http_head *head, const char *caller) {
  struct rest_admin *admin = user;
  enum route route = route_of(head->target);
  const char *method = route == ROUTE_STREAM ? "DELETE" : "GET";
  char allow[32];
  if (!slice_eq(head->method, method) &&
      !(route != ROUTE_STREAM && slice_eq(head->method, "HEAD"))) {
    char id[HUB_ERROR_TRACKING_SIZE];
    rest_tracking_make(id);
    snprintf(allow, sizeof allow, "Allow: %s\r\n", method);
    rest_reply_error(exchange, HUB_ERROR_METHOD,
                     "This address has another method.", -1, id, allow);
    return;
  }
  switch (route) {
  case ROUTE_HUB:
    handle_hub(admin, exchange);
    return;
  case ROUTE_STREAMS:
    handle_streams(admin, exchange, head);
    return;
  case ROUTE_STREAM:
    handle_kill(admin, exchange, head, caller);
    return;
  case ROUTE_CONNECTIONS:
    handle_connections(admin, exchange, head);
    return;
  case ROUTE_ACTIVITY:
    handle_activity(admin, exchange, head);
    return;
  case ROUTE_NONE:
    assert(!"rest_admin_rights said no");
  }
}

/* ---- life ---- */

int rest_admin_new(struct rest_admin **out, dstream_loop *loop,
                   const struct rest_admin_options *options) {
  struct rest_admin *admin = calloc(1, sizeof *admin);
  if (admin == NULL)
    return DSTREAM_ENOMEM;
  admin->loop = loop;
  admin->options = *options;
  *out = admin;
  return DSTREAM_OK;
}

void rest_admin_free(struct rest_admin *admin) {
  assert(admin == NULL || admin->waiting == 0);
  free(admin);
}
