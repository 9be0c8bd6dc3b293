#include "tools/identities.h"

#include <stdio.h>
#include <string.h>

#include "core/conn_string.h"
#include "core/crypto.h"
#include "core/percent.h"
#include "tools/hub_client.h"
#include "tools/human.h"
#include "tools/listing.h"
#include "tools/screen.h"

#define TARGET_SIZE 512
#define PAGE        50 /* an answer has 64 KB at most */
#define PAGES_MAX   1000000

static const char help[] =
    "Usage: dstream device add [--json] ID\n"
    "       dstream device remove ID\n"
    "       dstream device show [--json] ID\n"
    "       dstream device list [--json]\n"
    "The devices that the hub knows, connected or not.  add prints the "
    "connection\n"
    "string of the new device, which holds its key.  remove ends its "
    "connection "
    "and\n"
    "its streams.  To change them takes a policy with the right RegistryWrite, "
    "such\n"
    "as iothubowner; to look at them RegistryRead is enough.\n"
    "\n"
    "  --json                      of show and list: what the hub answered, "
    "without\n"
    "                              the keys\n";

static void print_help(void) {
  common_print_help(help);
}

struct identities {
  const char *verb;
  struct common_device device;
  bool json;
  struct hub_client client;
};

/* ---- arguments ---- */

enum { OPT_JSON = 256 };

static const struct option own_options[] = {
    {"json", no_argument, NULL, OPT_JSON}, {NULL, 0, NULL, 0}};

static int take(void *user, int option, char *value) {
  struct identities *d = user;
  if (option == OPT_JSON) {
    d->json = true;
    return CLI_DONE;
  }
  if (d->verb == NULL) {
    d->verb = value;
    return CLI_DONE;
  }
  if (d->device.text != NULL)
    return cli_usage("too many arguments: \"%s\"", value);
  if (strchr(value, '/') != NULL)
    return cli_usage("\"%s\" is no device's id", value);
  return common_device(&d->device, value);
}

/* ---- asking ---- */

static int failed(const struct identities *d, const struct dstream_end *end) {
  if (end->http_status == 409)
    cli_say("there is a device %s already; \"dstream device show %s\" shows it",
            d->device.id, d->device.id);
  else if (end->hub_code == 404001)
    cli_say("the hub knows no device %s; \"dstream device list\" says which it "
            "knows",
            d->device.id);
  else if (end->http_status == 401 && strstr(end->text, "expired") == NULL)
    cli_say("the hub refused the connection string: %s; its policy must have "
            "the right RegistryWrite, or RegistryRead to look only; "
            "\"dstream-hub connection-string --policy iothubowner\" prints one",
            end->text);
  else
    return hub_client_failed(end);
  return CLI_FAILED;
}

static int ask(struct identities *d, const char *method, const char *headers,
               const char *body, struct hub_answer *answer) {
  char id[TARGET_SIZE - 64];
  char target[TARGET_SIZE];
  const struct hub_question question = {.method = method,
                                        .target = target,
                                        .headers = headers,
                                        .body = body,
                                        .timeout_ms = HUB_CLIENT_TIMEOUT_MS};
  if (percent_encode(slice_of(d->device.id), id, sizeof id) < 0)
    id[0] = '\0';
  snprintf(target, sizeof target, "/devices/%s?api-version=2020-09-30", id);
  if (hub_client_ask(&d->client, &question, answer) == DSTREAM_OK)
    return CLI_DONE;
  return failed(d, &answer->end);
}

/* ---- add, remove ---- */

/* Where devices connect to: the hub says which port it is. */
static uint16_t mqtt_port(struct identities *d) {
  cJSON *hub = NULL;
  struct dstream_end end;
  unsigned port = CONN_STRING_MQTT_PORT;
  if (hub_client_call(&d->client, "GET", "/hub", HUB_CLIENT_TIMEOUT_MS, &hub,
                      &end) == DSTREAM_OK) {
    const char *colon = strrchr(hub_text(hub, "mqttEndpoint"), ':');
    if (colon == NULL || !cli_number(colon + 1, 1, 65535, &port))
      port = CONN_STRING_MQTT_PORT;
    cJSON_Delete(hub);
  }
  return (uint16_t)port;
}

/* An id or a key has no character that JSON would escape. */
static void print_string(struct identities *d, const char *key) {
  unsigned https = d->client.hub.https_port;
  unsigned mqtt = mqtt_port(d);
  if (d->json)
    printf("{\"deviceId\":\"%s\",\"connectionString\":\"", d->device.id);
  printf("HostName=%s;DeviceId=%s;SharedAccessKey=%s", d->client.hub.host,
         d->device.id, key);
  if (https != CONN_STRING_HTTPS_PORT)
    printf(";HttpsPort=%u", https);
  if (mqtt != CONN_STRING_MQTT_PORT)
    printf(";MqttPort=%u", mqtt);
  puts(d->json ? "\"}" : "");
}

static const cJSON *symmetric_key(const cJSON *device) {
  const cJSON *authentication =
      cJSON_GetObjectItemCaseSensitive(device, "authentication");
  return cJSON_GetObjectItemCaseSensitive(authentication, "symmetricKey");
}

/* Whoever sees a device's key is that device. */
static void drop_keys(cJSON *device) {
  cJSON *authentication =
      cJSON_GetObjectItemCaseSensitive(device, "authentication");
  cJSON *keys =
      cJSON_DetachItemFromObjectCaseSensitive(authentication, "symmetricKey");
  cJSON *key;
  cJSON_ArrayForEach(key, keys) {
    if (cJSON_IsString(key))
      crypto_wipe(key->valuestring, strlen(key->valuestring));
  }
  cJSON_Delete(keys);
}

static int add(struct identities *d) {
  char body[COMMON_ID_SIZE + 32];
  struct hub_answer answer;
  snprintf(body, sizeof body, "{\"deviceId\":\"%s\"}", d->device.id);
  int status = ask(d, "PUT", NULL, body, &answer);
  if (status != CLI_DONE)
    return status;
  const char *key = hub_text(symmetric_key(answer.json), "primaryKey");
  size_t len = strlen(key);
  if (len > 0 && strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrst"
                             "uvwxyz0123456789+/=") == len) {
    print_string(d, key);
  } else {
    cli_say("the hub has added %s but did not tell its key; \"dstream-hub "
            "connection-string\" prints the connection string",
            d->device.id);
    status = CLI_FAILED;
  }
  drop_keys(answer.json);
  cJSON_Delete(answer.json);
  return status;
}

static int remove_device(struct identities *d) {
  struct hub_answer answer;
  int status = ask(d, "DELETE", "If-Match: *\r\n", NULL, &answer);
  if (status != CLI_DONE)
    return status;
  cJSON_Delete(answer.json);
  printf("removed %s\n", d->device.id);
  return CLI_DONE;
}

/* ---- show, list ---- */

static const struct listing_column columns[] = {
    {.title = "DEVICE", .rank = 0, .least = 12},
    {.title = "STATUS", .rank = 1},
    {.title = "CONNECTION", .rank = 2},
    {.title = "SINCE", .rank = 3},
    {.title = "AUTHENTICATION", .rank = 4},
    {.title = "REASON", .rank = 5, .least = 10},
};

static bool add_row(struct listing *listing, const cJSON *device) {
  char since[HUMAN_SIZE];
  bool enabled = strcmp(hub_text(device, "status"), "enabled") == 0;
  human_time(since, hub_time_ms(device, "connectionStateUpdatedTime"));
  const char *const cells[] = {
      hub_text(device, "deviceId"),
      hub_text(device, "status"),
      hub_text(device, "connectionState"),
      since,
      hub_text(cJSON_GetObjectItemCaseSensitive(device, "authentication"),
               "type"),
      hub_text(device, "statusReason")};
  return listing_add(listing, cells, !enabled) == DSTREAM_OK;
}

static bool print_text(const cJSON *all) {
  struct listing *listing = NULL;
  const struct listing_style style = {
      .width = screen_width(), .titles = true, .colours = screen_has_colours()};
  const cJSON *device;
  bool ok = listing_new(&listing, columns,
                        sizeof columns / sizeof columns[0]) == DSTREAM_OK;
  cJSON_ArrayForEach(device, all) {
    ok = ok && add_row(listing, device);
  }
  if (ok)
    listing_print(listing, stdout, &style);
  listing_free(listing);
  return ok;
}

/* Takes it: an object or, for a list, an array. */
static int print(const struct identities *d, cJSON *devices, bool many) {
  cJSON *device;
  cJSON *all = many ? devices : cJSON_CreateArray();
  if (all == NULL) {
    cJSON_Delete(devices);
    return hub_client_no_memory();
  }
  if (!many)
    cJSON_AddItemToArray(all, devices);
  cJSON_ArrayForEach(device, all) {
    drop_keys(device);
  }
  bool ok = d->json ? hub_print_json(many ? all : all->child) : print_text(all);
  cJSON_Delete(all);
  return ok ? CLI_DONE : hub_client_no_memory();
}

static int show(struct identities *d) {
  struct hub_answer answer;
  int status = ask(d, "GET", NULL, NULL, &answer);
  return status == CLI_DONE ? print(d, answer.json, false) : status;
}

/* One page; after: where it begins, and then what follows. */
static int list_page(struct identities *d, cJSON *all, char *after,
                     size_t size) {
  char target[64];
  char headers[256] = "";
  struct hub_answer answer;
  const struct hub_question question = {.method = "GET",
                                        .target = target,
                                        .headers = headers,
                                        .timeout_ms = HUB_CLIENT_TIMEOUT_MS};
  snprintf(target, sizeof target, "/devices?api-version=2020-09-30&top=%d",
           PAGE);
  if (after[0] != '\0')
    snprintf(headers, sizeof headers, "x-ms-continuation: %s\r\n", after);
  if (hub_client_ask(&d->client, &question, &answer) != DSTREAM_OK)
    return failed(d, &answer.end);
  while (cJSON_IsArray(answer.json) && answer.json->child != NULL)
    cJSON_AddItemToArray(
        all, cJSON_DetachItemViaPointer(answer.json, answer.json->child));
  cJSON_Delete(answer.json);
  bool again = strcmp(after, answer.continuation) == 0;
  snprintf(after, size, "%s", again ? "" : answer.continuation);
  return CLI_DONE;
}

static int list(struct identities *d) {
  char after[HUB_CONTINUATION_SIZE] = "";
  cJSON *all = cJSON_CreateArray();
  int status = all == NULL ? hub_client_no_memory() : CLI_DONE;
  unsigned pages = 0;
  do {
    if (status == CLI_DONE)
      status = list_page(d, all, after, sizeof after);
  } while (status == CLI_DONE && after[0] != '\0' && ++pages < PAGES_MAX);
  if (status == CLI_DONE)
    return print(d, all, true);
  cJSON_Delete(all);
  return status;
}

/* ---- running ---- */

static const struct verb {
  const char *name;
  bool device; /* it takes one */
  int (*run)(struct identities *d);
} verbs[] = {{"add", true, add},
             {"remove", true, remove_device},
             {"show", true, show},
             {"list", false, list}};

static const struct verb *find_verb(const char *name) {
  for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
    if (strcmp(verbs[i].name, name) == 0)
      return &verbs[i];
  return NULL;
}

int identities_run(struct common_options *common, int argc, char **argv) {
  struct identities d = {.json = false};
  const struct common_syntax syntax = {
      .print_help = print_help, .own = own_options, .take = take, .user = &d};
  int status = common_parse(common, &syntax, argc, argv, NULL);
  if (status != CLI_DONE)
    return status;
  if (d.verb == NULL)
    return cli_usage("add, remove, show or list is missing");
  const struct verb *verb = find_verb(d.verb);
  if (verb == NULL)
    return cli_usage("there is no \"device %s\"", d.verb);
  if (verb->device != (d.device.text != NULL))
    return cli_usage(
        verb->device ? "%s takes the device's ID" : "%s takes no ID", d.verb);
  status = hub_client_open(&d.client, common);
  if (status == CLI_DONE)
    status = verb->run(&d);
  return hub_client_finish(&d.client, status);
}
