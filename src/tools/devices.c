#include "tools/devices.h"

#include <stdio.h>

#include "tools/hub_client.h"
#include "tools/human.h"
#include "tools/listing.h"
#include "tools/screen.h"

static const char help[] =
    "Usage: dstream devices [OPTION]...\n"
    "Lists the devices that are connected to the hub now.\n"
    "\n"
    "  --device ID                 this one and its modules only\n"
    "  --json                      an array in JSON, as the hub has it\n";

static void print_help(void) {
  common_print_help(help);
}

struct devices {
  struct common_device device;
  bool json;
};

enum { OPT_JSON = 256, OPT_DEVICE };

static const struct option own_options[] = {
    {"device", required_argument, NULL, OPT_DEVICE},
    {"json", no_argument, NULL, OPT_JSON},
    {NULL, 0, NULL, 0}};

static int take(void *user, int option, char *value) {
  struct devices *d = user;
  switch (option) {
  case OPT_DEVICE:
    return common_device(&d->device, value);
  case OPT_JSON:
    d->json = true;
    return CLI_DONE;
  default:
    return cli_usage("too many arguments: \"%s\"", value);
  }
}

/* ---- for people ---- */

static const struct listing_column columns[] = {
    {.title = "DEVICE", .rank = 0, .least = 12},
    {.title = "STREAMS", .rank = 1, .right = true},
    {.title = "CONNECTED", .rank = 2, .right = true},
    {.title = "TAKES STREAMS", .rank = 3},
    {.title = "SINCE", .rank = 4},
};

static bool add(struct listing *listing, const cJSON *item, int64_t now_ms) {
  char device[HUB_DEVICE_SIZE];
  char since[HUMAN_SIZE];
  char span[HUMAN_SIZE];
  char streams[24];
  int64_t since_ms = hub_time_ms(item, "since");
  bool ready = hub_flag(item, "ready");
  hub_device(item, device);
  human_time(since, since_ms);
  human_duration(span, since_ms > 0 && since_ms < now_ms
                           ? (uint64_t)(now_ms - since_ms)
                           : 0);
  snprintf(streams, sizeof streams, "%llu",
           (unsigned long long)hub_number(item, "streams"));
  const char *const cells[] = {device, streams, span, ready ? "yes" : "no",
                               since};
  return listing_add(listing, cells, !ready) == DSTREAM_OK;
}

static bool print_text(const cJSON *all) {
  struct listing *listing = NULL;
  const struct listing_style style = {
      .width = screen_width(), .titles = true, .colours = screen_has_colours()};
  int64_t now_ms = hub_now_ms();
  const cJSON *item;
  bool ok = listing_new(&listing, columns,
                        sizeof columns / sizeof columns[0]) == DSTREAM_OK;
  cJSON_ArrayForEach(item, all) {
    ok = ok && add(listing, item, now_ms);
  }
  if (ok)
    listing_print(listing, stdout, &style);
  listing_free(listing);
  return ok;
}

/* ---- running ---- */

static int list(struct hub_client *client, const struct devices *d) {
  cJSON *all = NULL;
  struct dstream_end end;
  char query[HUB_QUERY_SIZE];
  hub_query_device(query, d->device.text);
  if (hub_client_list(client, "/connections", query, "connections", &all,
                      &end) != DSTREAM_OK)
    return hub_client_failed(&end);
  bool ok = d->json ? hub_print_json(all) : print_text(all);
  cJSON_Delete(all);
  return ok ? CLI_DONE : hub_client_no_memory();
}

int devices_run(struct common_options *common, int argc, char **argv) {
  struct hub_client client = {.stopped = false};
  struct devices d = {.json = false};
  const struct common_syntax syntax = {
      .print_help = print_help, .own = own_options, .take = take, .user = &d};
  int status = common_parse(common, &syntax, argc, argv, NULL);
  if (status != CLI_DONE)
    return status;
  status = hub_client_open(&client, common);
  if (status == CLI_DONE)
    status = list(&client, &d);
  return hub_client_finish(&client, status);
}
