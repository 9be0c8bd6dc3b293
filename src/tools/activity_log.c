#include "tools/activity_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/end.h"
#include "tools/hub_client.h"
#include "tools/human.h"
#include "tools/listing.h"
#include "tools/screen.h"

#define WAIT_S       25
#define LIMIT_NEWEST 100
#define LIMIT_PAGE   500
#define AGAIN_MIN_MS 500
#define AGAIN_MAX_MS 5000
#define CURSOR_SIZE  32

static const char help[] =
    "Usage: dstream log [OPTION]...\n"
    "Says what the hub has recorded: who reached which device when, for how "
    "long, how\n"
    "much, and why it failed.  Without --since, the latest 100 records.\n"
    "\n"
    "  -f, --follow                waits for more, also while the hub "
    "restarts; "
    "^C\n"
    "                              ends it\n"
    "  --device ID                 records about this device and its modules "
    "only\n"
    "  --since TIME                from that time on: 10m, 2h, 3d, today, "
    "yesterday,\n"
    "                              or 2026-01-01T00:00:00Z (RFC 3339; without "
    "a zone,\n"
    "                              this machine's)\n"
    "  --json                      one record of the hub's log a line, in the "
    "form of\n"
    "                              Azure's category DeviceStreams\n";

static void print_help(void) {
  common_print_help(help);
}

struct activity_log {
  struct common_device device;
  bool follow;
  bool json;
  bool has_since;
  int64_t since_ms;

  struct hub_client client;
  struct listing *listing;
  char query[HUB_QUERY_SIZE];
  char cursor[CURSOR_SIZE];
  bool more;   /* there is more to ask for at once */
  bool titles; /* were printed */
};

/* ---- arguments ---- */

enum { OPT_JSON = 256, OPT_DEVICE, OPT_SINCE };

static const struct option own_options[] = {
    {"follow", no_argument, NULL, 'f'},
    {"device", required_argument, NULL, OPT_DEVICE},
    {"since", required_argument, NULL, OPT_SINCE},
    {"json", no_argument, NULL, OPT_JSON},
    {NULL, 0, NULL, 0}};

static int take_since(struct activity_log *l, const char *text) {
  const char *wrong = human_read_since(text, hub_now_ms(), &l->since_ms);
  if (wrong != NULL)
    return cli_usage("--since: \"%s\" %s", text, wrong);
  l->has_since = true;
  return CLI_DONE;
}

static int take(void *user, int option, char *value) {
  struct activity_log *l = user;
  switch (option) {
  case 'f':
    l->follow = true;
    return CLI_DONE;
  case OPT_DEVICE:
    return common_device(&l->device, value);
  case OPT_SINCE:
    return take_since(l, value);
  case OPT_JSON:
    l->json = true;
    return CLI_DONE;
  default:
    return cli_usage("too many arguments: \"%s\"", value);
  }
}

/* ---- one record, for people ---- */

struct text {
  char *out;
  size_t len;
};

/* Appends, cut to fit; a comma and a space in between. */
static void put(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void put(struct text *text, const char *format, ...) {
  size_t room = ACTIVITY_LOG_TEXT_SIZE - text->len;
  if (text->len > 0 && room > 2) {
    memcpy(text->out + text->len, ", ", 3);
    text->len += 2;
    room -= 2;
  }
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text->out + text->len, room, format, args);
  va_end(args);
  if (n > 0)
    text->len += (size_t)n < room ? (size_t)n : room - 1;
}

static uint64_t duration_of(const cJSON *record) {
  return strtoull(hub_text(record, "durationMs"), NULL, 10);
}

static void put_end(struct text *text, const cJSON *record,
                    const cJSON *properties) {
  char duration[HUMAN_SIZE];
  char to_device[HUMAN_SIZE];
  char to_service[HUMAN_SIZE];
  const char *side = hub_text(properties, "endedBy");
  human_duration(duration, duration_of(record));
  human_bytes(to_device, hub_number(properties, "bytesToDevice"));
  human_bytes(to_service, hub_number(properties, "bytesToService"));
  put(text, "after %s, %s to device, %s to service", duration, to_device,
      to_service);
  if (side[0] != '\0')
    put(text, "ended by %s", side);
  if (hub_number(properties, "closeCode") != 0)
    put(text, "close %llu",
        (unsigned long long)hub_number(properties, "closeCode"));
}

/* Why, and the hub's code for it; the sentence without its full stop. */
static void put_reason(struct text *text, const cJSON *record,
                       const cJSON *properties) {
  const char *reason = hub_text(record, "resultDescription");
  uint64_t code = hub_number(properties, "errorCode");
  size_t len = strlen(reason);
  char number[32] = "";
  if (len > 0 && reason[len - 1] == '.')
    len--;
  if (code != 0)
    snprintf(number, sizeof number, "%s(%llu)", len > 0 ? " " : "",
             (unsigned long long)code);
  if (len > 0 || code != 0)
    put(text, "%.*s%s", (int)len, reason, number);
}

void activity_log_text(char out[ACTIVITY_LOG_TEXT_SIZE], const cJSON *record,
                       const cJSON *properties) {
  struct text text = {.out = out};
  const char *event = hub_text(properties, "event");
  const char *side = hub_text(properties, "side");
  char duration[HUMAN_SIZE];
  out[0] = '\0';
  human_duration(duration, duration_of(record));
  if (side[0] != '\0')
    put(&text, "%s side from %s", side, hub_text(properties, "peer"));
  if (strcmp(event, "end") == 0)
    put_end(&text, record, properties);
  else if (strcmp(event, "kill") == 0)
    put(&text, "by an operator, after %s", duration);
  else if (strcmp(event, "accepted") == 0 || strcmp(event, "start") == 0)
    put(&text, "after %s", duration);
  put_reason(&text, record, properties);
}

static const struct listing_column columns[] = {
    {.title = "DATE", .rank = 7},
    {.title = "TIME", .rank = 1},
    {.title = "EVENT", .rank = 0},
    {.title = "DEVICE", .rank = 2, .least = 10},
    {.title = "NAME", .rank = 4, .least = 6},
    {.title = "CALLER", .rank = 5, .least = 14},
    {.title = "STREAM", .rank = 6, .least = 8, .plain = true},
    {.title = "WHAT", .rank = 3, .least = 12},
};

static int add(struct listing *listing, const cJSON *record) {
  char date[HUMAN_SIZE];
  char device[HUB_DEVICE_SIZE];
  char text[ACTIVITY_LOG_TEXT_SIZE];
  cJSON *properties = cJSON_Parse(hub_text(record, "properties"));
  human_time(date, hub_time_ms(record, "time"));
  char *time = date + strcspn(date, " ");
  if (*time != '\0')
    *time++ = '\0';
  hub_device(properties, device);
  activity_log_text(text, record, properties);
  const char *const cells[] = {date,
                               time,
                               hub_text(properties, "event"),
                               device,
                               hub_text(properties, "requestName"),
                               hub_text(properties, "caller"),
                               hub_text(properties, "streamId"),
                               text};
  bool failed = strcmp(hub_text(record, "resultType"), "Failure") == 0;
  int status = listing_add(listing, cells, failed);
  cJSON_Delete(properties);
  return status;
}

/* ---- what came ---- */

static bool print_text(struct activity_log *l, const cJSON *records) {
  struct listing_style style = {.width = screen_width(),
                                .titles = !l->titles,
                                .colours = screen_has_colours()};
  const cJSON *record;
  listing_clear(l->listing);
  cJSON_ArrayForEach(record, records) {
    if (add(l->listing, record) != DSTREAM_OK)
      return false;
  }
  if (listing_count(l->listing) > 0 || style.titles)
    listing_print(l->listing, stdout, &style);
  l->titles = true;
  return true;
}

static bool print_json(const cJSON *records) {
  const cJSON *record;
  cJSON_ArrayForEach(record, records) {
    if (!hub_print_json(record))
      return false;
  }
  return true;
}

/* Prints an answer and notes where to go on. */
static int take_answer(struct activity_log *l, const cJSON *answer,
                       struct dstream_end *end) {
  const cJSON *records = cJSON_GetObjectItemCaseSensitive(answer, "records");
  const char *cursor = hub_text(answer, "cursor");
  size_t len = strlen(cursor);
  if (!cJSON_IsArray(records) || len == 0 || len >= sizeof l->cursor ||
      strspn(cursor, "0123456789") != len) {
    end_set(end, DSTREAM_EHTTP, "the hub's answer has no records");
    return DSTREAM_EHTTP;
  }
  /* Without progress there would be no end. */
  l->more = hub_flag(answer, "more") && strcmp(cursor, l->cursor) != 0;
  snprintf(l->cursor, sizeof l->cursor, "%s", cursor);
  if (!(l->json ? print_json(records) : print_text(l, records))) {
    end_set(end, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  if (cli_printed() == CLI_DONE)
    return DSTREAM_OK;
  end_set(end, DSTREAM_ECANCELED, "nobody reads it"); /* that was said */
  return DSTREAM_ECANCELED;
}

/* ---- asking ---- */

/* RFC 3339, in UTC. */
static void put_since(int64_t since_ms, char *out, size_t size) {
  time_t seconds = (time_t)(since_ms / 1000);
  struct tm utc;
  char text[32];
  if (gmtime_r(&seconds, &utc) != NULL &&
      strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc) > 0)
    snprintf(out, size, "&since=%s.%03dZ", text, (int)(since_ms % 1000));
}

static void make_target(const struct activity_log *l, bool wait, char *out,
                        size_t size) {
  char from[64] = "";
  char patience[16] = "";
  if (l->cursor[0] != '\0')
    snprintf(from, sizeof from, "&after=%s", l->cursor);
  else if (l->has_since)
    put_since(l->since_ms, from, sizeof from);
  if (wait)
    snprintf(patience, sizeof patience, "&wait=%d", WAIT_S);
  snprintf(out, size, "/activity?limit=%d%s%s%s%s",
           from[0] != '\0' ? LIMIT_PAGE : LIMIT_NEWEST, from, patience,
           l->query[0] != '\0' ? "&" : "", l->query);
}

static int ask(struct activity_log *l, bool wait, struct dstream_end *end) {
  char target[HUB_QUERY_SIZE + 128];
  cJSON *answer = NULL;
  make_target(l, wait, target, sizeof target);
  int status = hub_client_call(&l->client, "GET", target,
                               HUB_CLIENT_TIMEOUT_MS +
                                   (wait ? WAIT_S * UINT64_C(1000) : 0),
                               &answer, end);
  if (status == DSTREAM_OK)
    status = take_answer(l, answer, end);
  cJSON_Delete(answer);
  return status;
}

static int ask_all(struct activity_log *l, struct dstream_end *end) {
  int status;
  do {
    status = ask(l, false, end);
  } while (status == DSTREAM_OK && l->more && !l->client.stopped);
  return status;
}

/* What it refuses it will refuse again; all else may pass. */
static bool hopeless(const struct dstream_end *end) {
  return end->status == DSTREAM_ENOMEM || end->status == DSTREAM_ECANCELED ||
         (end->http_status / 100 == 4 && end->http_status != 429);
}

static void tell_away(const struct dstream_end *end) {
  char line[HUB_CLIENT_LINE_SIZE];
  hub_client_explain(end, line);
  cli_say("%s; trying again", line);
}

/* Until it is stopped, or can't go on. */
static int follow(struct activity_log *l, struct dstream_end *end) {
  uint64_t pause_ms = 0;
  while (!l->client.stopped) {
    /* One that may be back is not asked to wait. */
    if (ask(l, !l->more && pause_ms == 0, end) == DSTREAM_OK) {
      if (pause_ms > 0)
        cli_say("the hub is back");
      pause_ms = 0;
      continue;
    }
    if (l->client.stopped || hopeless(end))
      break;
    if (pause_ms == 0)
      tell_away(end);
    pause_ms = pause_ms == 0                 ? AGAIN_MIN_MS
               : pause_ms * 2 < AGAIN_MAX_MS ? pause_ms * 2
                                             : AGAIN_MAX_MS;
    hub_client_pause(&l->client, pause_ms);
  }
  return end->status;
}

static int run(struct activity_log *l) {
  struct dstream_end end = {0};
  if (listing_new(&l->listing, columns, sizeof columns / sizeof columns[0]) !=
      DSTREAM_OK)
    return hub_client_no_memory();
  int status = ask_all(l, &end);
  if (status == DSTREAM_OK && l->follow)
    status = follow(l, &end);
  if (l->follow && l->client.stopped) { /* that is how it is ended */
    l->client.signal = 0;
    status = DSTREAM_OK;
  }
  listing_free(l->listing);
  return status == DSTREAM_OK ? CLI_DONE : hub_client_failed(&end);
}

int activity_log_run(struct common_options *common, int argc, char **argv) {
  struct activity_log l = {.follow = false};
  const struct common_syntax syntax = {.print_help = print_help,
                                       .own = own_options,
                                       .take = take,
                                       .user = &l,
                                       .letters = "f"};
  int status = common_parse(common, &syntax, argc, argv, NULL);
  if (status != CLI_DONE)
    return status;
  hub_query_device(l.query, l.device.text);
  status = hub_client_open(&l.client, common);
  if (status == CLI_DONE)
    status = run(&l);
  return hub_client_finish(&l.client, status);
}
