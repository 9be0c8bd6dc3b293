#include "tools/streams.h"

#include <stdio.h>
#include <string.h>

#include "tools/hub_client.h"
#include "tools/human.h"
#include "tools/listing.h"
#include "tools/screen.h"
#include "tools/watch.h"

#define ID_LEN       32
#define ID_LEN_LEAST 4

static const char help[] =
    "Usage: dstream streams [OPTION]...\n"
    "       dstream streams --watch [OPTION]...\n"
    "       dstream streams --kill ID [OPTION]...\n"
    "Lists the streams that there are now: who reaches which device, since "
    "when, how\n"
    "much; or ends one of them.\n"
    "\n"
    "  --device ID                 those to this device and its modules only\n"
    "  --watch                     anew each second, with the rates; q or ^C "
    "ends it\n"
    "  --kill ID                   ends this stream; the begin of its id "
    "will do\n"
    "  --json                      an array, as the hub has it; with --watch "
    "a line\n"
    "                              each second\n"
    "Of a stream that was killed both ends are told that an operator did it.\n";

static void print_help(void) {
  common_print_help(help);
}

struct streams {
  struct common_device device;
  const char *kill;
  bool watch;
  bool json;
};

/* ---- arguments ---- */

enum { OPT_JSON = 256, OPT_DEVICE, OPT_KILL, OPT_WATCH };

static const struct option own_options[] = {
    {"device", required_argument, NULL, OPT_DEVICE},
    {"watch", no_argument, NULL, OPT_WATCH},
    {"kill", required_argument, NULL, OPT_KILL},
    {"json", no_argument, NULL, OPT_JSON},
    {NULL, 0, NULL, 0}};

static int take_id(struct streams *s, const char *text) {
  size_t len = strlen(text);
  if (strspn(text, "0123456789abcdef") != len || len < ID_LEN_LEAST ||
      len > ID_LEN)
    return cli_usage("\"%s\" is no stream's id, nor its first %d hex digits or "
                     "more",
                     text, ID_LEN_LEAST);
  s->kill = text;
  return CLI_DONE;
}

static int take(void *user, int option, char *value) {
  struct streams *s = user;
  switch (option) {
  case OPT_DEVICE:
    return common_device(&s->device, value);
  case OPT_KILL:
    return take_id(s, value);
  case OPT_WATCH:
    s->watch = true;
    return CLI_DONE;
  case OPT_JSON:
    s->json = true;
    return CLI_DONE;
  default:
    return cli_usage("too many arguments: \"%s\"", value);
  }
}

/* ---- the list ---- */

static const struct listing_column columns[] = {
    {.title = "STREAM", .rank = 0, .least = 8, .plain = true},
    {.title = "DEVICE", .rank = 1, .least = 10},
    {.title = "NAME", .rank = 2, .least = 8},
    {.title = "AGE", .rank = 3, .right = true},
    {.title = "TO DEVICE", .rank = 5, .right = true},
    {.title = "TO SERVICE", .rank = 6, .right = true},
    {.title = "CALLER", .rank = 4, .least = 16},
    {.title = "IDLE", .rank = 7, .right = true},
    {.title = "STATE", .rank = 8},
    {.title = "SINCE", .rank = 9},
    {.title = "SERVICE'S PEER", .rank = 10},
    {.title = "DEVICE'S PEER", .rank = 11},
};

static bool add(struct listing *listing, const cJSON *item) {
  char device[HUB_DEVICE_SIZE];
  char texts[5][HUMAN_SIZE];
  bool running = strcmp(hub_text(item, "state"), "running") == 0;
  hub_device(item, device);
  human_duration(texts[0], hub_number(item, "durationMs"));
  human_bytes(texts[1], hub_number(item, "bytesToDevice"));
  human_bytes(texts[2], hub_number(item, "bytesToService"));
  human_duration(texts[3], hub_number(item, "idleMs"));
  human_time(texts[4], hub_time_ms(item, "since"));
  const char *const cells[] = {hub_text(item, "streamId"),
                               device,
                               hub_text(item, "name"),
                               running ? texts[0] : "-",
                               texts[1],
                               texts[2],
                               hub_text(item, "caller"),
                               running ? texts[3] : "-",
                               hub_text(item, "state"),
                               texts[4],
                               hub_text(item, "servicePeer"),
                               hub_text(item, "devicePeer")};
  return listing_add(listing, cells, false) == DSTREAM_OK;
}

static bool print_text(const cJSON *all) {
  struct listing *listing = NULL;
  const struct listing_style style = {
      .width = screen_width(), .titles = true, .colours = screen_has_colours()};
  const cJSON *item;
  bool ok = listing_new(&listing, columns,
                        sizeof columns / sizeof columns[0]) == DSTREAM_OK;
  cJSON_ArrayForEach(item, all) {
    ok = ok && add(listing, item);
  }
  if (ok)
    listing_print(listing, stdout, &style);
  listing_free(listing);
  return ok;
}

static int list(struct hub_client *client, const char *query, bool json) {
  cJSON *all = NULL;
  struct dstream_end end;
  if (hub_client_list(client, "/streams", query, "streams", &all, &end) !=
      DSTREAM_OK)
    return hub_client_failed(&end);
  bool ok = json ? hub_print_json(all) : print_text(all);
  cJSON_Delete(all);
  return ok ? CLI_DONE : hub_client_no_memory();
}

/* ---- ending one ---- */

static int no_such_stream(const char *id) {
  cli_say(
      "there is no stream %s, or no longer; \"dstream streams\" lists those "
      "there are",
      id);
  return CLI_FAILED;
}

/* The one whose id begins so; id: ID_LEN + 1 bytes. */
static int find(struct hub_client *client, const char *begin, char *id) {
  cJSON *all = NULL;
  struct dstream_end end;
  size_t found = 0;
  const cJSON *item;
  if (hub_client_list(client, "/streams", "", "streams", &all, &end) !=
      DSTREAM_OK)
    return hub_client_failed(&end);
  cJSON_ArrayForEach(item, all) {
    const char *text = hub_text(item, "streamId");
    if (strncmp(text, begin, strlen(begin)) != 0)
      continue;
    found++;
    snprintf(id, ID_LEN + 1, "%s", text);
  }
  cJSON_Delete(all);
  if (found == 0)
    return no_such_stream(begin);
  if (found == 1)
    return CLI_DONE;
  cli_say("%zu streams have an id that begins with %s; give more of it", found,
          begin);
  return CLI_FAILED;
}

static int kill_stream(struct hub_client *client, const char *begin,
                       bool json) {
  char id[ID_LEN + 1];
  char target[ID_LEN + 16];
  struct dstream_end end;
  snprintf(id, sizeof id, "%s", begin);
  int status = strlen(begin) < ID_LEN ? find(client, begin, id) : CLI_DONE;
  if (status != CLI_DONE)
    return status;
  snprintf(target, sizeof target, "/streams/%s", id);
  hub_client_call(client, "DELETE", target, HUB_CLIENT_TIMEOUT_MS, NULL, &end);
  if (end.http_status == 404)
    return no_such_stream(id);
  if (end.status != DSTREAM_OK)
    return hub_client_failed(&end);
  printf(json ? "{\"ended\":\"%s\"}\n" : "ended %s\n", id);
  return CLI_DONE;
}

/* ---- running ---- */

static int run(struct hub_client *client, const struct streams *s) {
  char query[HUB_QUERY_SIZE];
  hub_query_device(query, s->device.text);
  if (s->kill != NULL)
    return kill_stream(client, s->kill, s->json);
  if (s->watch)
    return watch_run(client, query, s->json);
  return list(client, query, s->json);
}

int streams_run(struct common_options *common, int argc, char **argv) {
  struct hub_client client = {.stopped = false};
  struct streams s = {.json = false};
  const struct common_syntax syntax = {
      .print_help = print_help, .own = own_options, .take = take, .user = &s};
  int status = common_parse(common, &syntax, argc, argv, NULL);
  if (status != CLI_DONE)
    return status;
  if (s.kill != NULL && (s.watch || s.device.text != NULL))
    return cli_usage("--kill goes with --json only");
  status = hub_client_open(&client, common);
  if (status == CLI_DONE)
    status = run(&client, &s);
  return hub_client_finish(&client, status);
}
