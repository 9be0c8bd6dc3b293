#include "tools/watch.h"

#include <stdlib.h>
#include <string.h>

#include "net/loop.h"
#include "tools/human.h"
#include "tools/listing.h"
#include "tools/screen.h"

#define PERIOD_MS 1000
/* Of a stream that was not there a moment ago all bytes are new. */
#define NEW_MS  (2 * PERIOD_MS)
#define ID_SIZE 33

struct flow {
  char id[ID_SIZE];
  uint64_t duration_ms;
  uint64_t to_device;
  uint64_t to_service;
  uint64_t to_device_rate; /* bytes a second */
  uint64_t to_service_rate;
  const cJSON *item; /* of the latest answer */
};

struct watch {
  struct hub_client *client;
  const char *query;
  bool json;
  struct screen *screen; /* NULL: stdout is no terminal */
  struct listing *listing;
  cJSON *all; /* the latest answer */
  cJSON *hub;
  struct flow *flows;
  size_t count;
  bool blocks;   /* one was printed */
  bool unwanted; /* stdout can't be written */
};

static const struct listing_column columns[] = {
    {.title = "DEVICE", .rank = 0, .least = 10},
    {.title = "NAME", .rank = 1, .least = 8},
    {.title = "TO DEVICE/s", .rank = 2, .right = true},
    {.title = "TO SERVICE/s", .rank = 3, .right = true},
    {.title = "STREAM", .rank = 4, .least = 8, .plain = true},
    {.title = "AGE", .rank = 5, .right = true},
    {.title = "TO DEVICE", .rank = 7, .right = true},
    {.title = "TO SERVICE", .rank = 8, .right = true},
    {.title = "IDLE", .rank = 9, .right = true},
    {.title = "CALLER", .rank = 6, .least = 16},
};

/* ---- rates ---- */

static int by_id(const void *a, const void *b) {
  return strcmp(((const struct flow *)a)->id, ((const struct flow *)b)->id);
}

static int by_rate(const void *a, const void *b) {
  const struct flow *x = a;
  const struct flow *y = b;
  uint64_t rate_x = x->to_device_rate + x->to_service_rate;
  uint64_t rate_y = y->to_device_rate + y->to_service_rate;
  if (rate_x != rate_y)
    return rate_x < rate_y ? 1 : -1;
  return strcmp(x->id, y->id);
}

static uint64_t rate(uint64_t now, uint64_t before, uint64_t ms) {
  double bytes = now > before ? (double)(now - before) : 0;
  return ms == 0 ? 0 : (uint64_t)(bytes * 1000 / (double)ms);
}

/* The hub's own times: how long a call takes does not matter. */
static void measure(struct flow *flow, const struct flow *before) {
  struct flow none = {.duration_ms = 0};
  if (before == NULL && flow->duration_ms > NEW_MS)
    return;
  if (before == NULL)
    before = &none;
  if (flow->duration_ms <= before->duration_ms)
    return;
  uint64_t ms = flow->duration_ms - before->duration_ms;
  flow->to_device_rate = rate(flow->to_device, before->to_device, ms);
  flow->to_service_rate = rate(flow->to_service, before->to_service, ms);
}

static void read_flow(struct flow *flow, const cJSON *item) {
  memset(flow, 0, sizeof *flow);
  snprintf(flow->id, sizeof flow->id, "%s", hub_text(item, "streamId"));
  flow->duration_ms = hub_number(item, "durationMs");
  flow->to_device = hub_number(item, "bytesToDevice");
  flow->to_service = hub_number(item, "bytesToService");
  flow->item = item;
}

/* Takes over what the hub has answered.  False: out of memory. */
static bool update(struct watch *w, cJSON *all) {
  size_t count = (size_t)cJSON_GetArraySize(all);
  struct flow *flows = calloc(count + 1, sizeof *flows);
  const cJSON *item;
  size_t i = 0;
  if (flows == NULL) {
    cJSON_Delete(all);
    return false;
  }
  if (w->count > 0)
    qsort(w->flows, w->count, sizeof *w->flows, by_id);
  cJSON_ArrayForEach(item, all) {
    struct flow *flow = &flows[i++];
    read_flow(flow, item);
    measure(flow, w->count == 0 ? NULL
                                : bsearch(flow, w->flows, w->count,
                                          sizeof *w->flows, by_id));
  }
  qsort(flows, count, sizeof *flows, by_rate);
  free(w->flows);
  cJSON_Delete(w->all);
  w->flows = flows;
  w->count = count;
  w->all = all;
  return true;
}

/* ---- what is shown ---- */

static bool add(struct listing *listing, const struct flow *flow) {
  char device[HUB_DEVICE_SIZE];
  char texts[6][HUMAN_SIZE];
  bool running = strcmp(hub_text(flow->item, "state"), "running") == 0;
  hub_device(flow->item, device);
  human_bytes(texts[0], flow->to_device_rate);
  human_bytes(texts[1], flow->to_service_rate);
  human_duration(texts[2], flow->duration_ms);
  human_bytes(texts[3], flow->to_device);
  human_bytes(texts[4], flow->to_service);
  human_duration(texts[5], hub_number(flow->item, "idleMs"));
  const char *const cells[] = {device,
                               hub_text(flow->item, "name"),
                               texts[0],
                               texts[1],
                               flow->id,
                               running ? texts[2] : "pending",
                               texts[3],
                               texts[4],
                               running ? texts[5] : "-",
                               hub_text(flow->item, "caller")};
  return listing_add(listing, cells, false) == DSTREAM_OK;
}

/* A line of what fits, and no control character that somebody put in a name. */
static void put_line(FILE *out, size_t width, const char *text) {
  fprintf(out, "%.*s\n", width > 0 ? (int)width : (int)strlen(text), text);
}

static void put_head(const struct watch *w, FILE *out, size_t width) {
  char line[512];
  char texts[4][HUMAN_SIZE];
  uint64_t to_device = 0;
  uint64_t to_service = 0;
  for (size_t i = 0; i < w->count; i++) {
    to_device += w->flows[i].to_device_rate;
    to_service += w->flows[i].to_service_rate;
  }
  human_time(texts[0], hub_now_ms());
  human_duration(texts[1], hub_number(w->hub, "uptimeSeconds") * 1000);
  human_bytes(texts[2], to_device);
  human_bytes(texts[3], to_service);
  unsigned long long devices = hub_number(w->hub, "devicesConnected");
  snprintf(line, sizeof line, "%s  %s, up %s, %llu device%s", texts[0],
           w->client->session.hub, texts[1], devices, devices == 1 ? "" : "s");
  put_line(out, width, line);
  snprintf(line, sizeof line, "%zu stream%s, %s/s to devices, %s/s to services",
           w->count, w->count == 1 ? "" : "s", texts[2], texts[3]);
  put_line(out, width, line);
}

/* `trouble`: why the hub does not answer; NULL. */
static void put_block(struct watch *w, FILE *out, const char *trouble) {
  struct listing_style style = {.width = screen_width(),
                                .titles = true,
                                .colours =
                                    w->screen != NULL && screen_has_colours()};
  put_head(w, out, style.width);
  if (trouble != NULL)
    put_line(out, style.width, trouble);
  listing_clear(w->listing);
  for (size_t i = 0; i < w->count && add(w->listing, &w->flows[i]); i++)
    ;
  listing_print(w->listing, out, &style);
}

static void show_screen(struct watch *w, const char *trouble) {
  char *text = NULL;
  size_t len = 0;
  FILE *out = open_memstream(&text, &len);
  if (out == NULL)
    return;
  put_block(w, out, trouble);
  if (fclose(out) == 0 && !screen_show(w->screen, text))
    w->unwanted = true;
  free(text);
}

/* ---- in JSON ---- */

static bool add_rates(cJSON *array, const struct flow *flow) {
  cJSON *item = cJSON_Duplicate(flow->item, true);
  bool ok = item != NULL &&
            cJSON_AddNumberToObject(item, "toDevicePerSecond",
                                    (double)flow->to_device_rate) != NULL &&
            cJSON_AddNumberToObject(item, "toServicePerSecond",
                                    (double)flow->to_service_rate) != NULL &&
            cJSON_AddItemToArray(array, item);
  if (!ok)
    cJSON_Delete(item);
  return ok;
}

static void print_json(const struct watch *w) {
  cJSON *object = cJSON_CreateObject();
  cJSON *array = NULL;
  if (object != NULL &&
      cJSON_AddNumberToObject(object, "time", (double)hub_now_ms() / 1000) !=
          NULL)
    array = cJSON_AddArrayToObject(object, "streams");
  bool ok = array != NULL;
  for (size_t i = 0; ok && i < w->count; i++)
    ok = add_rates(array, &w->flows[i]);
  if (ok)
    hub_print_json(object); /* without memory a line less */
  cJSON_Delete(object);
}

static void show(struct watch *w, const char *trouble) {
  if (w->screen != NULL) {
    show_screen(w, trouble);
    return;
  }
  if (w->json) {
    if (trouble == NULL)
      print_json(w);
  } else {
    if (w->blocks)
      putchar('\n');
    put_block(w, stdout, trouble);
  }
  w->blocks = true;
  w->unwanted = cli_printed() != CLI_DONE;
}

/* ---- running ---- */

static void on_key(void *user, char key) {
  struct hub_client *client = user;
  if (key == 'q' || key == 'Q')
    hub_client_stop(client);
}

static int ask(struct watch *w, struct dstream_end *end) {
  cJSON *all = NULL;
  cJSON *hub = NULL;
  int status = hub_client_call(w->client, "GET", "/hub", HUB_CLIENT_TIMEOUT_MS,
                               &hub, end);
  if (status == DSTREAM_OK)
    status =
        hub_client_list(w->client, "/streams", w->query, "streams", &all, end);
  if (status != DSTREAM_OK) {
    cJSON_Delete(hub);
    return status;
  }
  cJSON_Delete(w->hub);
  w->hub = hub;
  if (update(w, all))
    return DSTREAM_OK;
  end->status = DSTREAM_ENOMEM;
  return DSTREAM_ENOMEM;
}

/* A hub that is away may come back; what it refuses it will refuse again. */
static bool hopeless(const struct dstream_end *end) {
  return end->http_status / 100 == 4 && end->http_status != 429;
}

/* Until it was stopped; *end: why it can't go on. */
static void rounds(struct watch *w, struct dstream_end *end) {
  uint64_t next_ms = loop_now_ms();
  char line[HUB_CLIENT_LINE_SIZE];
  while (!w->client->stopped && !w->unwanted) {
    uint64_t now_ms = loop_now_ms();
    next_ms += PERIOD_MS;
    if (next_ms < now_ms)
      next_ms = now_ms + PERIOD_MS;
    if (!hub_client_pause(w->client, next_ms - now_ms))
      return;
    if (ask(w, end) == DSTREAM_OK) {
      show(w, NULL);
    } else if (end->status == DSTREAM_ECANCELED || hopeless(end)) {
      return;
    } else {
      hub_client_explain(end, line);
      show(w, line);
    }
    end->status = DSTREAM_OK;
  }
}

static int run(struct watch *w) {
  struct dstream_end end = {0};
  if (ask(w, &end) != DSTREAM_OK)
    return hub_client_failed(&end);
  if (!w->json && screen_is_terminal() &&
      screen_open(&w->screen, w->client->session.loop, on_key, w->client) !=
          DSTREAM_OK)
    return hub_client_no_memory();
  show(w, NULL);
  rounds(w, &end);
  screen_close(w->screen);
  w->client->signal = 0;
  if (w->client->stopped) /* that is how it is ended */
    return CLI_DONE;
  return w->unwanted ? CLI_FAILED : hub_client_failed(&end);
}

int watch_run(struct hub_client *client, const char *query, bool json) {
  struct watch w = {.client = client, .query = query, .json = json};
  int status = CLI_FAILED;
  if (listing_new(&w.listing, columns, sizeof columns / sizeof columns[0]) ==
      DSTREAM_OK)
    status = run(&w);
  else
    hub_client_no_memory();
  listing_free(w.listing);
  cJSON_Delete(w.all);
  cJSON_Delete(w.hub);
  free(w.flows);
  return status;
}
