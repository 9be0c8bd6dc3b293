#include "tools/show.h"

#include <stdarg.h>
#include <stdio.h>

#include "tools/hub_client.h"
#include "tools/human.h"
#include "tools/listing.h"
#include "tools/screen.h"

static const char help[] =
    "Usage: dstream show [OPTION]...\n"
    "Says what the hub is and how it is: its endpoints, version, how long it "
    "has been\n"
    "up, whether it can work, how many devices and streams there are.\n"
    "\n"
    "  --json                      what the hub answered; streamingEndpoints "
    "in it is\n"
    "                              what \"az iot hub devicestream show\" "
    "prints\n";

static void print_help(void) {
  common_print_help(help);
}

enum { OPT_JSON = 256 };

static const struct option own_options[] = {
    {"json", no_argument, NULL, OPT_JSON}, {NULL, 0, NULL, 0}};

static int take(void *user, int option, char *value) {
  bool *json = user;
  if (option == COMMON_WORD)
    return cli_usage("too many arguments: \"%s\"", value);
  *json = true;
  return CLI_DONE;
}

/* ---- for people ---- */

static const struct listing_column columns[] = {
    {.title = "", .rank = 0}, {.title = "", .rank = 1, .least = 10}};

static void line(struct listing *listing, const char *name, const char *format,
                 ...) __attribute__((format(printf, 3, 4)));

static void line(struct listing *listing, const char *name, const char *format,
                 ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  const char *const cells[] = {name, text};
  (void)listing_add(listing, cells, false); /* a line less */
}

static unsigned long long count(const cJSON *hub, const char *name) {
  return hub_number(hub, name);
}

static void add_state(struct listing *listing, const cJSON *hub) {
  char up[HUMAN_SIZE];
  char since[HUMAN_SIZE];
  human_duration(up, hub_number(hub, "uptimeSeconds") * 1000);
  human_time(since, hub_time_ms(hub, "started"));
  line(listing, "hub", "%s, dstream-hub %s", hub_text(hub, "name"),
       hub_text(hub, "version"));
  if (hub_flag(hub, "ready"))
    line(listing, "ready", "yes");
  else
    line(listing, "ready", "no: %s", hub_text(hub, "reason"));
  line(listing, "up", "%s, since %s", up, since);
}

static void add_endpoints(struct listing *listing, const cJSON *hub) {
  const cJSON *item;
  cJSON_ArrayForEach(
      item, cJSON_GetObjectItemCaseSensitive(hub, "streamingEndpoints")) {
    const char *text = cJSON_GetStringValue(item);
    if (text != NULL)
      line(listing, "streaming endpoint", "%s", text);
  }
  line(listing, "MQTT endpoint", "%s", hub_text(hub, "mqttEndpoint"));
}

static void add_counts(struct listing *listing, const cJSON *hub) {
  char to_device[HUMAN_SIZE];
  char to_service[HUMAN_SIZE];
  human_bytes(to_device, hub_number(hub, "bytesToDevice"));
  human_bytes(to_service, hub_number(hub, "bytesToService"));
  line(listing, "devices", "%llu connected, %llu of them take streams",
       count(hub, "devicesConnected"), count(hub, "devicesReady"));
  line(listing, "streams", "%llu running, %llu pending",
       count(hub, "streamsRunning"), count(hub, "streamsPending"));
  line(listing, "since it is up", "%llu streams opened, %llu failed",
       count(hub, "streamsOpened"), count(hub, "streamsFailed"));
  line(listing, "", "%s to devices, %s to services", to_device, to_service);
}

static void add_certificate(struct listing *listing, const cJSON *hub) {
  char until[HUMAN_SIZE];
  char left[HUMAN_SIZE];
  int64_t end_ms = hub_time_ms(hub, "certificateExpires");
  int64_t now_ms = hub_now_ms();
  if (end_ms == 0)
    return;
  human_time(until, end_ms);
  human_duration(left, end_ms > now_ms ? (uint64_t)(end_ms - now_ms) : 0);
  if (end_ms > now_ms)
    line(listing, "certificate", "until %s, %s from now", until, left);
  else
    line(listing, "certificate", "EXPIRED at %s", until);
}

static int print_text(const cJSON *hub) {
  struct listing *listing = NULL;
  const struct listing_style style = {.width = screen_width()};
  if (listing_new(&listing, columns, 2) != DSTREAM_OK)
    return DSTREAM_ENOMEM;
  add_state(listing, hub);
  add_endpoints(listing, hub);
  add_counts(listing, hub);
  add_certificate(listing, hub);
  listing_print(listing, stdout, &style);
  listing_free(listing);
  return DSTREAM_OK;
}

/* ---- running ---- */

static int show(struct hub_client *client, bool json) {
  cJSON *hub = NULL;
  struct dstream_end end;
  if (hub_client_call(client, "GET", "/hub", HUB_CLIENT_TIMEOUT_MS, &hub,
                      &end) != DSTREAM_OK)
    return hub_client_failed(&end);
  bool ok = json ? hub_print_json(hub) : print_text(hub) == DSTREAM_OK;
  cJSON_Delete(hub);
  return ok ? CLI_DONE : hub_client_no_memory();
}

int show_run(struct common_options *common, int argc, char **argv) {
  struct hub_client client = {.stopped = false};
  bool json = false;
  const struct common_syntax syntax = {.print_help = print_help,
                                       .own = own_options,
                                       .take = take,
                                       .user = &json};
  int status = common_parse(common, &syntax, argc, argv, NULL);
  if (status != CLI_DONE)
    return status;
  status = hub_client_open(&client, common);
  if (status == CLI_DONE)
    status = show(&client, json);
  return hub_client_finish(&client, status);
}
