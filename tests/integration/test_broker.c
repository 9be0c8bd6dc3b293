/* The real broker with the plugin and the hub's own client, in a folder of its
 * own; devices are played by libmosquitto over the unix socket. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <mosquitto.h>

#include "core/sas.h"
#include "hub/broker.h"
#include "hub/broker_wire.h"
#include "hub/identity.h"
#include "hub/main_endpoint.h"
#include "net/loop.h"

#define HOST        "hub.example.net"
#define REQUESTS    "$iothub/streams/POST/#"
#define ANSWERS     "$iothub/streams/res/#"
#define PLAYERS_MAX 400
#define DEADLINE_MS 15000

struct player {
  struct mosquitto *client;
  char id[IDENTITY_CLIENT_MAX + 1];
  int connack; /* -1: none yet */
  bool gone;   /* the connection ended */
  int subacks;
  int granted[8];
  int pubacks;
  int messages;
  char topic[512]; /* of the last message */
};

static struct world {
  char folder[64];
  dstream_loop *loop;
  struct identity_store *store;
  struct broker *broker;
  struct main_endpoint *endpoint;
  int broker_ups, broker_downs, ups, downs;
  int answers;
  char answer_id[IDENTITY_CLIENT_MAX + 1];
  char answer[BROKER_ANSWER_MAX + 1];
  char presence[512]; /* "+id -id " */
  char down_text[DSTREAM_TEXT_MAX];
  char log[1 << 16];
  struct player *players[PLAYERS_MAX];
  size_t player_count;
} world;

/* ---- the loop: all of it on this thread ---- */

static void pump(void) {
  dstream_loop_step(world.loop, 2);
  for (size_t i = 0; i < world.player_count; i++) {
    struct player *player = world.players[i];
    if (!player->gone &&
        mosquitto_loop(player->client, 0, 1) != MOSQ_ERR_SUCCESS)
      player->gone = true;
  }
}

#define WAIT(condition)                                                        \
  do {                                                                         \
    uint64_t until_ms = loop_now_ms() + DEADLINE_MS;                           \
    while (!(condition)) {                                                     \
      if (loop_now_ms() > until_ms)                                            \
        fail_msg("waited in vain for %s; log:\n%s", #condition, world.log);    \
      pump();                                                                  \
    }                                                                          \
  } while (0)

/* ---- events ---- */

static void append(char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void append(char *out, size_t size, const char *format, ...) {
  size_t len = strlen(out);
  va_list args;
  va_start(args, format);
  vsnprintf(out + len, size - len, format, args);
  va_end(args);
}

static void on_broker_up(void *user) {
  (void)user;
  world.broker_ups++;
}

static void on_broker_down(void *user, const struct dstream_end *why) {
  (void)user;
  world.broker_downs++;
  snprintf(world.down_text, sizeof world.down_text, "%s", why->text);
}

static void on_broker_log(void *user, enum dstream_log_level level,
                          const char *text) {
  (void)user;
  append(world.log, sizeof world.log, "%d %s\n", (int)level, text);
}

static void on_presence(void *user, const char *id, bool ready) {
  (void)user;
  append(world.presence, sizeof world.presence, "%c%s ", ready ? '+' : '-', id);
}

static void on_answer(void *user, const char *id, const char *topic) {
  (void)user;
  world.answers++;
  snprintf(world.answer_id, sizeof world.answer_id, "%s", id);
  snprintf(world.answer, sizeof world.answer, "%s", topic);
}

static void on_up(void *user) {
  (void)user;
  world.ups++;
}

static void on_down(void *user) {
  (void)user;
  world.downs++;
}

static const struct broker_events broker_events = {
    .on_up = on_broker_up, .on_down = on_broker_down, .on_log = on_broker_log};
static const struct main_endpoint_events endpoint_events = {
    .on_presence = on_presence,
    .on_answer = on_answer,
    .on_up = on_up,
    .on_down = on_down};

/* ---- the world ---- */

static const char *plugin_path(void) {
  static char path[1024];
  const char *build = getenv("DSTREAM_BINARY_DIR");
  assert_non_null(build);
  snprintf(path, sizeof path, "%s/lib/dstream/dstream_broker_plugin.so", build);
  return path;
}

static struct broker_options options_of(const char *folder) {
  struct broker_options options = {.directory = folder,
                                   .plugin = plugin_path(),
                                   .names = {{HOST, "localhost"}, 2}};
  return options;
}

static void start_endpoint(void) {
  int ups = world.ups;
  assert_int_equal(main_endpoint_new(&world.endpoint, world.loop,
                                     broker_hub_socket(world.broker),
                                     broker_secret(world.broker),
                                     &endpoint_events, NULL),
                   DSTREAM_OK);
  WAIT(world.ups > ups);
}

static void start(const struct broker_options *options) {
  struct dstream_end end;
  int status = broker_start(&world.broker, world.loop, options, &broker_events,
                            NULL, &end);
  if (status != DSTREAM_OK)
    fail_msg("%s", end.text);
  WAIT(world.broker_ups == 1);
  start_endpoint();
}

static void start_default(void) {
  struct broker_options options = options_of(world.folder);
  start(&options);
}

static int set_up(void **state) {
  char path[128];
  (void)state;
  memset(&world, 0, sizeof world);
  snprintf(world.folder, sizeof world.folder, "/tmp/dstream-broker-XXXXXX");
  assert_non_null(mkdtemp(world.folder));
  snprintf(path, sizeof path, "%s/identities.db", world.folder);
  assert_int_equal(identity_create(&world.store, path, NULL), DSTREAM_OK);
  assert_int_equal(dstream_loop_new(&world.loop, NULL), DSTREAM_OK);
  return 0;
}

static void drop_players(void) {
  for (size_t i = 0; i < world.player_count; i++) {
    mosquitto_destroy(world.players[i]->client);
    free(world.players[i]);
  }
  world.player_count = 0;
}

/* Removes the folder; the broker must have left nothing in it. */
static void remove_folder(void) {
  static const char *const files[] = {"identities.db", "identities.db-wal",
                                      "identities.db-shm"};
  char path[128];
  for (size_t i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "%s/%s", world.folder, files[i]);
    unlink(path);
  }
  snprintf(path, sizeof path, "%s/run", world.folder);
  if (rmdir(path) != 0)
    assert_int_equal(errno, ENOENT);
  assert_int_equal(rmdir(world.folder), 0);
}

static int tear_down(void **state) {
  (void)state;
  drop_players();
  main_endpoint_free(world.endpoint);
  pid_t pid = world.broker != NULL ? broker_pid(world.broker) : 0;
  broker_stop(world.broker);
  if (pid > 0)
    assert_true(kill(pid, 0) != 0 && errno == ESRCH);
  dstream_loop_free(world.loop);
  identity_close(world.store);
  remove_folder();
  return 0;
}

/* ---- devices ---- */

static void player_on_connect(struct mosquitto *client, void *user, int code) {
  (void)client;
  ((struct player *)user)->connack = code;
}

static void player_on_disconnect(struct mosquitto *client, void *user,
                                 int reason) {
  (void)client;
  (void)reason;
  ((struct player *)user)->gone = true;
}

static void player_on_subscribe(struct mosquitto *client, void *user, int mid,
                                int count, const int *granted) {
  struct player *player = user;
  (void)client;
  (void)mid;
  for (int i = 0; i < count && i < 8; i++)
    player->granted[i] = granted[i];
  player->subacks++;
}

static void player_on_publish(struct mosquitto *client, void *user, int mid) {
  (void)client;
  (void)mid;
  ((struct player *)user)->pubacks++;
}

static void player_on_message(struct mosquitto *client, void *user,
                              const struct mosquitto_message *message) {
  struct player *player = user;
  (void)client;
  player->messages++;
  snprintf(player->topic, sizeof player->topic, "%s", message->topic);
}

static struct player *player_new(const char *id, const char *user,
                                 const char *password) {
  struct player *player = calloc(1, sizeof *player);
  assert_non_null(player);
  assert_true(world.player_count < PLAYERS_MAX);
  snprintf(player->id, sizeof player->id, "%s", id);
  player->connack = -1;
  player->gone = true;
  player->client = mosquitto_new(id, false, player);
  assert_non_null(player->client);
  mosquitto_connect_callback_set(player->client, player_on_connect);
  mosquitto_disconnect_callback_set(player->client, player_on_disconnect);
  mosquitto_subscribe_callback_set(player->client, player_on_subscribe);
  mosquitto_publish_callback_set(player->client, player_on_publish);
  mosquitto_message_callback_set(player->client, player_on_message);
  mosquitto_username_pw_set(player->client, user, password);
  world.players[world.player_count++] = player;
  return player;
}

static void player_dial_at(struct player *player, const char *path) {
  player->connack = -1;
  player->gone = false;
  assert_int_equal(mosquitto_connect(player->client, path, 0, 240),
                   MOSQ_ERR_SUCCESS);
}

static void player_dial(struct player *player) {
  player_dial_at(player, broker_device_socket(world.broker));
}

static const char *token_for(const char *resource,
                             const struct identity_key *key, long seconds,
                             const char *policy, enum sas_form form) {
  static char token[SAS_MAX];
  assert_true(sas_make(token, sizeof token, resource, key->bytes, key->len,
                       (uint64_t)(time(NULL) + seconds), policy, form) > 0);
  return token;
}

static const char *user_of(const char *id) {
  static char user[512];
  snprintf(user, sizeof user,
           HOST "/%s/?api-version=2020-09-30&DeviceClientType=test", id);
  return user;
}

/* Adds the device if it is not there, and returns its keys. */
static struct identity_device known(const char *id) {
  struct identity_device device;
  if (identity_get(world.store, id, &device) != DSTREAM_OK)
    assert_int_equal(identity_add(world.store, id, time(NULL), &device),
                     DSTREAM_OK);
  return device;
}

static struct player *dial_for(const char *id, long seconds) {
  char resource[512];
  struct identity_device device = known(id);
  snprintf(resource, sizeof resource, HOST "/devices/%s", id);
  struct player *player = player_new(
      id, user_of(id),
      token_for(resource, &device.primary, seconds, NULL, SAS_RAW_RESOURCE));
  player_dial(player);
  return player;
}

/* As the official C client does: both filters in one packet. */
static void subscribe(struct player *player) {
  char filters[2][32] = {REQUESTS, ANSWERS};
  char *list[2] = {filters[0], filters[1]};
  int before = player->subacks;
  assert_int_equal(
      mosquitto_subscribe_multiple(player->client, NULL, 2, list, 0, 0, NULL),
      MOSQ_ERR_SUCCESS);
  WAIT(player->subacks > before);
  assert_true(player->granted[0] == 0 && player->granted[1] == 0);
}

static struct player *ready_device(const char *id) {
  struct player *player = dial_for(id, 3600);
  WAIT(player->connack == 0);
  subscribe(player);
  WAIT(main_endpoint_is_ready(world.endpoint, id));
  return player;
}

/* Waits until everything sent to the device so far has arrived. */
static void barrier(struct player *player) {
  static int number;
  char topic[64];
  snprintf(topic, sizeof topic, "$iothub/streams/POST/barrier/%d", ++number);
  assert_int_equal(main_endpoint_ask(world.endpoint, player->id, topic),
                   DSTREAM_OK);
  WAIT(strcmp(player->topic, topic) == 0);
}

/* Waits until the broker has handled what this device sent so far. */
static void flush(struct player *player) {
  int before = player->subacks;
  mosquitto_subscribe(player->client, NULL, "$iothub/twin/res/#", 0);
  WAIT(player->subacks > before);
}

/* ---- connecting ---- */

static void test_presence(void **state) {
  (void)state;
  start_default();
  assert_int_equal(main_endpoint_ask(world.endpoint, "dev1", "a/b"),
                   DSTREAM_EOFFLINE);
  struct player *player = dial_for("dev1", 3600);
  WAIT(player->connack == 0);
  WAIT(main_endpoint_connected(world.endpoint, "dev1"));
  assert_false(main_endpoint_is_ready(world.endpoint, "dev1"));
  subscribe(player);
  WAIT(main_endpoint_is_ready(world.endpoint, "dev1"));
  mosquitto_unsubscribe(player->client, NULL, REQUESTS);
  WAIT(!main_endpoint_is_ready(world.endpoint, "dev1"));
  assert_true(main_endpoint_connected(world.endpoint, "dev1"));
  subscribe(player);
  WAIT(main_endpoint_is_ready(world.endpoint, "dev1"));
  mosquitto_disconnect(player->client);
  WAIT(!main_endpoint_connected(world.endpoint, "dev1"));
  assert_string_equal(world.presence, "+dev1 -dev1 +dev1 -dev1 ");
  assert_int_equal(main_endpoint_ask(world.endpoint, "dev1", "a/b"),
                   DSTREAM_EOFFLINE);
}

static void expect_refused(const char *id, const char *user,
                           const char *password, const char *reason) {
  world.log[0] = '\0';
  struct player *player = player_new(id, user, password);
  player_dial(player);
  WAIT(player->gone);
  assert_int_equal(player->connack, 5);
  WAIT(strstr(world.log, reason) != NULL);
  if (password != NULL && strlen(password) > 8)
    assert_null(strstr(world.log, password));
}

static void test_refusals(void **state) {
  (void)state;
  start_default();
  struct identity_device dev = known("dev1");
  struct identity_device other = known("dev2");
  const char *own = HOST "/devices/dev1";
  enum sas_form raw = SAS_RAW_RESOURCE;
  expect_refused("dev1", user_of("dev1"),
                 token_for(own, &other.primary, 60, NULL, raw),
                 "not signed with the device's key");
  expect_refused("dev1", user_of("dev1"),
                 token_for(own, &dev.primary, -2, NULL, raw), "expired");
  expect_refused("none", user_of("none"),
                 token_for(HOST "/devices/none", &dev.primary, 60, NULL, raw),
                 "no such device");
  expect_refused("dev2", user_of("dev2"),
                 token_for(own, &dev.primary, 60, NULL, raw),
                 "another device or another hub name");
  expect_refused("dev2", user_of("dev1"),
                 token_for(own, &dev.primary, 60, NULL, raw), "user name");
  expect_refused("dev1", "other.net/dev1/?api-version=1",
                 token_for(own, &dev.primary, 60, NULL, raw), "user name");
  expect_refused(
      "dev1", user_of("dev1"),
      token_for("other.net/devices/dev1", &dev.primary, 60, NULL, raw),
      "another hub name");
  expect_refused("dev1", user_of("dev1"), "hello", "SharedAccessSignature");
  expect_refused("dev1", user_of("dev1"), NULL, "no token");
  expect_refused("dev1", NULL, NULL, "user name");
  expect_refused(BROKER_HUB_CLIENT, BROKER_HUB_USER,
                 broker_secret(world.broker), "user name");
  dev.enabled = false;
  assert_int_equal(identity_put(world.store, &dev), DSTREAM_OK);
  expect_refused("dev1", user_of("dev1"),
                 token_for(own, &dev.primary, 60, NULL, raw), "disabled");
  assert_int_equal(main_endpoint_count(world.endpoint), 0);
}

static void test_other_tokens(void **state) {
  struct identity_policy policy;
  (void)state;
  start_default();
  struct identity_device dev = known("dev1");
  assert_int_equal(identity_policy_get(world.store, "device", &policy),
                   DSTREAM_OK);
  struct player *player =
      player_new("dev1", user_of("dev1"),
                 token_for(HOST "/devices/dev1", &dev.secondary, 60, NULL,
                           SAS_ENCODED_RESOURCE));
  player_dial(player);
  WAIT(player->connack == 0);
  mosquitto_disconnect(player->client);
  WAIT(player->gone);
  player = player_new(
      "dev1", user_of("dev1"),
      token_for(HOST, &policy.primary, 60, "device", SAS_ENCODED_RESOURCE));
  player_dial(player);
  WAIT(player->connack == 0);
  player = player_new("dev1/mod", user_of("dev1/mod"),
                      token_for(HOST "/devices/dev1/modules/mod", &dev.primary,
                                60, NULL, SAS_RAW_RESOURCE));
  player_dial(player);
  WAIT(player->connack == 0);
  subscribe(player);
  WAIT(main_endpoint_is_ready(world.endpoint, "dev1/mod"));
  barrier(player);
  player = player_new("dev1", "localhost/dev1/?api-version=1",
                      token_for("localhost/devices/dev1", &dev.primary, 60,
                                NULL, SAS_RAW_RESOURCE));
  player_dial(player);
  WAIT(player->connack == 0);
}

/* The hub's own socket does not take devices, nor the hub without its secret.
 */
static void test_hub_socket(void **state) {
  (void)state;
  start_default();
  struct identity_device dev = known("dev1");
  const char *token =
      token_for(HOST "/devices/dev1", &dev.primary, 60, NULL, SAS_RAW_RESOURCE);
  struct player *players[] = {
      player_new("dev1", user_of("dev1"), token),
      player_new(BROKER_HUB_CLIENT, BROKER_HUB_USER, "wrong"),
      player_new("/other", BROKER_HUB_USER, broker_secret(world.broker)),
      player_new(BROKER_HUB_CLIENT, BROKER_HUB_USER, NULL)};
  for (size_t i = 0; i < 4; i++) {
    player_dial_at(players[i], broker_hub_socket(world.broker));
    WAIT(players[i]->gone);
    assert_int_equal(players[i]->connack, 5);
  }
  assert_true(main_endpoint_is_up(world.endpoint));
  assert_int_equal(world.downs, 0);
  assert_null(strstr(world.log, broker_secret(world.broker)));
}

/* ---- messages ---- */

static void test_ask_reaches_one(void **state) {
  (void)state;
  start_default();
  struct player *a = ready_device("dev-a");
  struct player *b = ready_device("dev-b");
  const char *topic = "$iothub/streams/POST/echo/?$rid=1&$url=wss%3A%2F%2Fx%2Fy"
                      "&$auth=a.b.c";
  assert_int_equal(main_endpoint_ask(world.endpoint, "dev-a", topic),
                   DSTREAM_OK);
  WAIT(a->messages == 1);
  assert_string_equal(a->topic, topic);
  barrier(b);
  assert_int_equal(b->messages, 1);
  assert_int_equal(a->messages, 1);
  static const char *const bad[] = {"", "a/+/b", "a/#", "a\nb"};
  for (size_t i = 0; i < 4; i++)
    assert_int_equal(main_endpoint_ask(world.endpoint, "dev-a", bad[i]),
                     DSTREAM_EINVAL);
  for (int i = 0; i < 500; i++)
    assert_int_equal(main_endpoint_ask(world.endpoint, "dev-a", topic),
                     DSTREAM_OK);
  WAIT(a->messages == 501);
}

static void test_answers(void **state) {
  (void)state;
  start_default();
  struct player *a = ready_device("dev-a");
  struct player *b = ready_device("dev-b");
  const char *topic = "$iothub/streams/res/200/?$rid=7";
  mosquitto_publish(a->client, NULL, topic, 0, NULL, 0, false);
  WAIT(world.answers == 1);
  assert_string_equal(world.answer_id, "dev-a");
  assert_string_equal(world.answer, topic);
  /* With a payload, at QoS 1, as somebody's client may do it. */
  mosquitto_publish(b->client, NULL, topic, 4, "dev-", 1, true);
  WAIT(world.answers == 2 && b->pubacks == 1);
  assert_string_equal(world.answer_id, "dev-b");
  barrier(a);
  barrier(b);
  assert_int_equal(a->messages, 1);
  assert_int_equal(b->messages, 1);
}

static void test_foreign_topics(void **state) {
  (void)state;
  start_default();
  struct player *a = ready_device("dev-a");
  struct player *b = ready_device("dev-b");
  static const char attack[] = "dev-b\n$iothub/streams/POST/x/?$rid=1";
  static const char forged[] = "dev-b\n$iothub/streams/res/200/?$rid=1";
  static const char gone[] = "999 c\nGdev-b\n";
  mosquitto_publish(a->client, NULL, "$dstream/ask", sizeof attack - 1, attack,
                    0, false);
  mosquitto_publish(a->client, NULL, "$dstream/answer", sizeof forged - 1,
                    forged, 0, false);
  mosquitto_publish(a->client, NULL, "$dstream/presence", sizeof gone - 1, gone,
                    0, false);
  mosquitto_publish(a->client, NULL, "$iothub/streams/POST/x/?$rid=1", 0, NULL,
                    0, false);
  mosquitto_publish(a->client, NULL, "devices/dev-b/messages/devicebound/x", 1,
                    "x", 1, true);
  mosquitto_publish(a->client, NULL, "devices/dev-a/messages/events/", 1, "x",
                    1, false);
  WAIT(a->pubacks == 6);
  static const char *const filters[] = {
      "#",     "$dstream/#", "$SYS/#",
      "+/+/#", "$iothub/#",  "devices/dev-b/messages/devicebound/#"};
  for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
    int before = a->subacks;
    mosquitto_subscribe(a->client, NULL, filters[i], 0);
    WAIT(a->subacks > before);
    assert_int_equal(a->granted[0], 0x80);
  }
  barrier(a);
  barrier(b);
  assert_int_equal(a->messages, 1);
  assert_int_equal(b->messages, 1);
  assert_int_equal(world.answers, 0);
  assert_true(!a->gone && !b->gone);
  assert_true(main_endpoint_is_ready(world.endpoint, "dev-b"));
  assert_non_null(strstr(world.log, "may not publish to $dstream/ask"));
  assert_non_null(strstr(world.log, "may not subscribe to $SYS/#"));
}

/* A will is the one thing that the broker would route by itself. */
static void test_will_is_not_routed(void **state) {
  (void)state;
  start_default();
  struct player *b = ready_device("dev-b");
  char token[SAS_MAX];
  struct identity_device device = known("dev-a");
  snprintf(token, sizeof token, "%s",
           token_for(HOST "/devices/dev-a", &device.primary, 60, NULL,
                     SAS_RAW_RESOURCE));
  for (int clean = 0; clean < 2; clean++) {
    struct player *a = player_new("dev-a", user_of("dev-a"), token);
    mosquitto_will_set(a->client, "$iothub/streams/res/200/?$rid=1", 1, "x", 1,
                       true);
    mosquitto_reinitialise(a->client, "dev-a", clean != 0, a);
    mosquitto_connect_callback_set(a->client, player_on_connect);
    mosquitto_username_pw_set(a->client, user_of("dev-a"), token);
    mosquitto_will_set(a->client, "$iothub/streams/res/200/?$rid=1", 1, "x", 1,
                       true);
    player_dial(a);
    WAIT(a->connack == 0);
    WAIT(main_endpoint_connected(world.endpoint, "dev-a"));
    shutdown(mosquitto_socket(a->client), SHUT_RDWR);
    WAIT(!main_endpoint_connected(world.endpoint, "dev-a"));
  }
  barrier(b);
  assert_int_equal(b->messages, 1);
  assert_int_equal(world.answers, 0);
}

/* ---- ends ---- */

static void test_removed_device_is_dropped(void **state) {
  (void)state;
  start_default();
  struct player *a = ready_device("dev-a");
  struct player *b = ready_device("dev-b");
  uint64_t start_ms = loop_now_ms();
  assert_int_equal(identity_remove(world.store, "dev-a"), DSTREAM_OK);
  main_endpoint_hurry(world.endpoint);
  WAIT(a->gone);
  assert_true(loop_now_ms() - start_ms < 3000);
  WAIT(!main_endpoint_connected(world.endpoint, "dev-a"));
  struct identity_device device = known("dev-b");
  device.enabled = false;
  assert_int_equal(identity_put(world.store, &device), DSTREAM_OK);
  main_endpoint_hurry(world.endpoint);
  WAIT(b->gone);
  WAIT(strstr(world.log, "it was removed") != NULL &&
       strstr(world.log, "it was disabled") != NULL);
}

static void test_new_device_disturbs_nobody(void **state) {
  (void)state;
  start_default();
  struct player *a = ready_device("dev-a");
  for (int i = 0; i < 3; i++) {
    char id[16];
    snprintf(id, sizeof id, "new%d", i);
    ready_device(id);
  }
  barrier(a);
  assert_false(a->gone);
}

static void test_expired_token_is_dropped(void **state) {
  struct broker_options options = options_of(world.folder);
  (void)state;
  options.token_grace_s = 1;
  start(&options);
  struct player *a = dial_for("dev-a", 2);
  struct player *b = dial_for("dev-b", 60);
  WAIT(a->connack == 0 && b->connack == 0);
  WAIT(a->gone);
  WAIT(!main_endpoint_connected(world.endpoint, "dev-a"));
  assert_false(b->gone);
  WAIT(strstr(world.log, "dev-a is dropped: its token expired") != NULL);
}

static void test_takeover(void **state) {
  (void)state;
  start_default();
  struct player *first = ready_device("dev-a");
  struct player *second = dial_for("dev-a", 60);
  WAIT(first->gone);
  WAIT(second->connack == 0);
  WAIT(!main_endpoint_is_ready(world.endpoint, "dev-a"));
  assert_true(main_endpoint_connected(world.endpoint, "dev-a"));
  subscribe(second);
  WAIT(main_endpoint_is_ready(world.endpoint, "dev-a"));
  barrier(second);
  assert_int_equal(first->messages, 0);
  assert_string_equal(world.presence, "+dev-a -dev-a +dev-a ");
}

static void test_takeover_storm(void **state) {
  struct broker_options options = options_of(world.folder);
  (void)state;
  options.takeover_limit = 3;
  options.takeover_pause_ms = 1000;
  start(&options);
  struct player *last = NULL;
  for (int i = 0; i <= 3; i++) {
    last = dial_for("dev-a", 60);
    WAIT(last->connack == 0);
  }
  struct player *refused = dial_for("dev-a", 60);
  WAIT(refused->gone);
  assert_int_equal(refused->connack, 5);
  assert_false(last->gone);
  subscribe(last);
  WAIT(main_endpoint_is_ready(world.endpoint, "dev-a"));
  WAIT(strstr(world.log, "two programs seem to use its identity") != NULL);
  /* After the pause it works again. */
  while (!last->gone) {
    player_dial(refused);
    WAIT(refused->connack >= 0);
  }
  assert_int_equal(refused->connack, 0);
}

/* ---- the broker's and the hub's own life ---- */

static void test_broker_killed(void **state) {
  (void)state;
  start_default();
  struct player *a = ready_device("dev-a");
  ready_device("dev-b");
  pid_t pid = broker_pid(world.broker);
  assert_int_equal(kill(pid, SIGKILL), 0);
  WAIT(world.downs == 1 && world.broker_downs == 1);
  assert_non_null(strstr(world.down_text, "signal 9"));
  assert_false(main_endpoint_is_ready(world.endpoint, "dev-a"));
  assert_int_equal(main_endpoint_count(world.endpoint), 0);
  assert_string_equal(world.presence + 14,
                      strstr(world.presence, "-dev-a -dev-b ") != NULL
                          ? "-dev-a -dev-b "
                          : "-dev-b -dev-a ");
  WAIT(world.broker_ups == 2 && world.ups == 2);
  assert_true(broker_pid(world.broker) != pid);
  assert_true(a->gone);
  player_dial(a);
  WAIT(a->connack == 0);
  assert_false(main_endpoint_is_ready(world.endpoint, "dev-a"));
  subscribe(a);
  WAIT(main_endpoint_is_ready(world.endpoint, "dev-a"));
  barrier(a);
  assert_false(main_endpoint_connected(world.endpoint, "dev-b"));
}

/* Long ids: the snapshot takes several messages. */
static void test_snapshot(void **state) {
  char id[IDENTITY_ID_MAX + 1];
  (void)state;
  start_default();
  for (int i = 0; i < 300; i++) {
    snprintf(id, sizeof id, "%0128d", i);
    dial_for(id, 600);
    WAIT(world.players[i]->connack == 0);
    if (i % 2 == 0)
      mosquitto_subscribe(world.players[i]->client, NULL, REQUESTS, 0);
  }
  WAIT(main_endpoint_count(world.endpoint) == 300);
  main_endpoint_free(world.endpoint);
  world.endpoint = NULL;
  mosquitto_disconnect(world.players[298]->client);
  start_endpoint();
  WAIT(main_endpoint_count(world.endpoint) == 299);
  for (int i = 0; i < 300; i++) {
    snprintf(id, sizeof id, "%0128d", i);
    assert_int_equal(main_endpoint_connected(world.endpoint, id), i != 298);
    assert_int_equal(main_endpoint_is_ready(world.endpoint, id),
                     i % 2 == 0 && i != 298);
  }
}

/* The hub is busy for so long that the broker drops what it has to say: the hub
 * notices, and asks for all again. */
static void test_lost_presence(void **state) {
  struct broker_options options = options_of(world.folder);
  char id[IDENTITY_ID_MAX + 1];
  (void)state;
  options.max_queued = 20;
  start(&options);
  snprintf(id, sizeof id, "%0128d", 1);
  struct player *noisy = ready_device(id);
  struct player *leaver = ready_device("leaver");
  struct player *comer = dial_for("comer", 60);
  for (int i = 0; i < 4000; i++) {
    int before = noisy->subacks;
    mosquitto_unsubscribe(noisy->client, NULL, REQUESTS);
    mosquitto_subscribe(noisy->client, NULL, REQUESTS, 0);
    while (noisy->subacks == before)
      assert_int_equal(mosquitto_loop(noisy->client, 100, 1), MOSQ_ERR_SUCCESS);
  }
  mosquitto_disconnect(leaver->client);
  while (comer->connack != 0)
    assert_int_equal(mosquitto_loop(comer->client, 100, 1), MOSQ_ERR_SUCCESS);
  WAIT(strstr(world.log, "dropped for client " BROKER_HUB_CLIENT) != NULL);
  WAIT(main_endpoint_is_ready(world.endpoint, id) &&
       main_endpoint_connected(world.endpoint, "comer") &&
       !main_endpoint_connected(world.endpoint, "leaver"));
  assert_int_equal(world.downs, 0);
}

/* The broker then checks every client again. */
static void test_reload_disturbs_nobody(void **state) {
  (void)state;
  start_default();
  struct player *a = ready_device("dev-a");
  assert_int_equal(kill(broker_pid(world.broker), SIGHUP), 0);
  WAIT(strstr(world.log, "Reloading config") != NULL);
  flush(a);
  barrier(a);
  assert_false(a->gone);
  assert_int_equal(world.downs, 0);
  assert_string_equal(world.presence, "+dev-a ");
}

static void test_one_hub_in_a_folder(void **state) {
  struct broker_options options = options_of(world.folder);
  struct broker *second = NULL;
  struct dstream_end end;
  (void)state;
  start_default();
  assert_int_equal(
      broker_start(&second, world.loop, &options, NULL, NULL, &end),
      DSTREAM_ESTATE);
  assert_non_null(strstr(end.text, "another hub"));
  barrier(ready_device("dev-a"));
}

static void test_files_are_private(void **state) {
  char path[128];
  struct stat info;
  (void)state;
  start_default();
  snprintf(path, sizeof path, "%s/run", world.folder);
  assert_int_equal(stat(path, &info), 0);
  assert_int_equal(info.st_mode & 07777, 0700);
  snprintf(path, sizeof path, "%s/run/mosquitto.conf", world.folder);
  assert_int_equal(stat(path, &info), 0);
  assert_int_equal(info.st_mode & 07777, 0600);
}

static void test_start_failures(void **state) {
  struct broker_options options = options_of(world.folder);
  struct dstream_end end;
  (void)state;
  options.plugin = "/nonexistent.so";
  assert_int_equal(
      broker_start(&world.broker, world.loop, &options, NULL, NULL, &end),
      DSTREAM_ENOTFOUND);
  assert_non_null(strstr(end.text, "/nonexistent.so"));
  options = options_of(world.folder);
  options.program = "/nonexistent";
  assert_int_equal(
      broker_start(&world.broker, world.loop, &options, NULL, NULL, &end),
      DSTREAM_ENOTFOUND);
  options = options_of("/tmp/a-folder-that-is-not-there");
  assert_int_equal(
      broker_start(&world.broker, world.loop, &options, NULL, NULL, &end),
      DSTREAM_ESYSTEM);
  assert_null(world.broker);
  /* What only the broker notices is told by on_down, with its words. */
  options = options_of(world.folder);
  options.identities = "none.db";
  assert_int_equal(broker_start(&world.broker, world.loop, &options,
                                &broker_events, NULL, &end),
                   DSTREAM_OK);
  WAIT(world.broker_downs == 2);
  assert_non_null(strstr(world.log, "there is no none.db"));
  assert_int_equal(world.broker_ups, 0);
}

/* However the hub ends, its broker ends. */
static void test_broker_does_not_outlive_hub(void **state) {
  int ends[2];
  pid_t broker_process = 0;
  int wait_status = 0;
  (void)state;
  assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  assert_int_equal(pipe(ends), 0);
  pid_t hub = fork();
  if (hub == 0) {
    struct broker_options options = options_of(world.folder);
    struct dstream_end end;
    world.loop = NULL;
    if (dstream_loop_new(&world.loop, NULL) != 0 ||
        broker_start(&world.broker, world.loop, &options, &broker_events, NULL,
                     &end) != DSTREAM_OK)
      _exit(1);
    while (world.broker_ups == 0)
      dstream_loop_step(world.loop, 10);
    broker_process = broker_pid(world.broker);
    if (write(ends[1], &broker_process, sizeof broker_process) < 0)
      _exit(1);
    pause();
    _exit(1);
  }
  close(ends[1]);
  assert_int_equal(read(ends[0], &broker_process, sizeof broker_process),
                   sizeof broker_process);
  close(ends[0]);
  assert_int_equal(kill(broker_process, 0), 0);
  assert_int_equal(kill(hub, SIGKILL), 0);
  assert_int_equal(waitpid(hub, &wait_status, 0), hub);
  assert_int_equal(waitpid(broker_process, &wait_status, 0), broker_process);
  assert_true(WIFSIGNALED(wait_status));
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  /* The next hub starts over what the killed one left, and removes it. */
  start_default();
  barrier(ready_device("dev-a"));
}

/* ---- bytes that are not MQTT ---- */

static int raw_connect(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s",
           broker_device_socket(world.broker));
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
  return fd;
}

static void test_not_mqtt(void **state) {
  static const struct {
    const char *bytes;
    size_t len;
  } inputs[] = {
      {"GET / HTTP/1.1\r\n\r\n", 18},
      {"\x00\x00\x00\x00", 4},
      {"\x10\xff\xff\xff\xff\x7f", 6}, /* length beyond MQTT's */
      {"\x30\xff\xff\xff\x7f", 5},     /* 256 MB before CONNECT */
      {"\x10\x0c\x00\x04MQTT\x09\x02\x00\x3c\x00\x00", 14},     /* version 9 */
      {"\x10\x0c\x00\x04MQTT\x04\xff\x00\x3c\x00\x00", 14},     /* all flags */
      {"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\x01", 15}, /* id "\1" */
      {"\x82\x06\x00\x01\x00\x01#\x00", 8}, /* SUBSCRIBE first */
  };
  (void)state;
  start_default();
  struct player *a = ready_device("dev-a");
  for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
    int fd = raw_connect();
    assert_int_equal(send(fd, inputs[i].bytes, inputs[i].len, MSG_NOSIGNAL),
                     (ssize_t)inputs[i].len);
    char byte;
    ssize_t n = 1;
    WAIT((n = recv(fd, &byte, 1, MSG_DONTWAIT)) == 0 ||
         (n < 0 && errno == ECONNRESET));
    close(fd);
  }
  barrier(a);
  assert_int_equal(world.downs, 0);
}

/* What MQTT itself forbids ends that connection, and only that one. */
static void test_oversized_packet(void **state) {
  static char payload[300000];
  (void)state;
  start_default();
  struct player *a = ready_device("dev-a");
  struct player *b = ready_device("dev-b");
  mosquitto_publish(a->client, NULL, "devices/dev-a/messages/events/", 262144,
                    payload, 1, false);
  WAIT(a->pubacks == 1);
  mosquitto_publish(a->client, NULL, "devices/dev-a/messages/events/",
                    sizeof payload, payload, 1, false);
  WAIT(a->gone);
  barrier(b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_presence),
      TEST(test_refusals),
      TEST(test_other_tokens),
      TEST(test_hub_socket),
      TEST(test_ask_reaches_one),
      TEST(test_answers),
      TEST(test_foreign_topics),
      TEST(test_will_is_not_routed),
      TEST(test_removed_device_is_dropped),
      TEST(test_new_device_disturbs_nobody),
      TEST(test_expired_token_is_dropped),
      TEST(test_takeover),
      TEST(test_takeover_storm),
      TEST(test_broker_killed),
      TEST(test_snapshot),
      TEST(test_lost_presence),
      TEST(test_reload_disturbs_nobody),
      TEST(test_one_hub_in_a_folder),
      TEST(test_files_are_private),
      TEST(test_start_failures),
      TEST(test_broker_does_not_outlive_hub),
      TEST(test_not_mqtt),
      TEST(test_oversized_packet),
  };
  mosquitto_lib_init();
  int failures = cmocka_run_group_tests(tests, NULL, NULL);
  mosquitto_lib_cleanup();
  return failures;
}
