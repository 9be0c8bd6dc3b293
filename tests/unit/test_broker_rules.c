/* The rules that the broker's plugin follows, and what it says to the hub:
 * broker_access, broker_sessions, broker_wire, broker_config, presence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/broker_access.h"
#include "hub/broker_config.h"
#include "hub/broker_sessions.h"
#include "hub/broker_wire.h"
#include "hub/presence.h"

/* ---- access ---- */

static void test_user_names(void **state) {
  static const struct identity_names names = {{"Hub.net", "::1"}, 2};
  (void)state;
  assert_true(access_user_fits(&names, "d", "hub.NET/d/?api-version=1"));
  assert_true(access_user_fits(&names, "d", "hub.net/d/api-version=1"));
  assert_true(access_user_fits(&names, "d", "::1/d"));
  assert_true(access_user_fits(&names, "d/m", "hub.net/d/m/?api-version=1"));
  assert_false(access_user_fits(&names, "d", "hub.net/D/?api-version=1"));
  assert_false(access_user_fits(&names, "d", "hub.net/d2/?api-version=1"));
  assert_false(access_user_fits(&names, "d2", "hub.net/d/?api-version=1"));
  assert_false(access_user_fits(&names, "d/m", "hub.net/d/?api-version=1"));
  assert_false(access_user_fits(&names, "d", "other/d/?api-version=1"));
  assert_false(access_user_fits(&names, "d", "hub.net"));
  assert_false(access_user_fits(&names, "d", "/d/"));
  assert_false(access_user_fits(&names, "d", ""));
}

static void test_subscriptions(void **state) {
  (void)state;
  assert_int_equal(access_subscribe("d", "$iothub/streams/POST/#"),
                   ACCESS_SUBSCRIBE_REQUESTS);
  static const char *const granted[] = {
      "$iothub/streams/res/#", "$iothub/methods/POST/#", "$iothub/twin/res/#",
      "$iothub/twin/PATCH/properties/desired/#",
      "devices/d/messages/devicebound/#"};
  for (size_t i = 0; i < sizeof granted / sizeof granted[0]; i++)
    assert_int_equal(access_subscribe("d", granted[i]), ACCESS_SUBSCRIBE_GRANT);
  assert_int_equal(
      access_subscribe("d/m", "devices/d/modules/m/messages/devicebound/#"),
      ACCESS_SUBSCRIBE_GRANT);
  static const char *const denied[] = {"#",
                                       "+/#",
                                       "$iothub/#",
                                       "$iothub/streams/#",
                                       "$iothub/streams/+/#",
                                       "$SYS/#",
                                       "$dstream/#",
                                       "$dstream/ask",
                                       "$share/g/$iothub/streams/POST/#",
                                       "devices/e/messages/devicebound/#",
                                       "devices/+/messages/devicebound/#",
                                       "devices/d/messages/#",
                                       "devices/d/messages/events/#",
                                       "$iothub/streams/post/#",
                                       ""};
  for (size_t i = 0; i < sizeof denied / sizeof denied[0]; i++)
    assert_int_equal(access_subscribe("d", denied[i]), ACCESS_SUBSCRIBE_DENY);
}

static void test_publications(void **state) {
  char longest[BROKER_ANSWER_MAX + 1];
  (void)state;
  memset(longest, 'x', sizeof longest);
  memcpy(longest, "$iothub/streams/res/", 20);
  assert_int_equal(access_publish("d", slice_of("$iothub/streams/res/200/"
                                                "?$rid=1")),
                   ACCESS_PUBLISH_ANSWER);
  assert_int_equal(
      access_publish("d", (struct slice){longest, BROKER_ANSWER_MAX}),
      ACCESS_PUBLISH_ANSWER);
  assert_int_equal(
      access_publish("d", (struct slice){longest, BROKER_ANSWER_MAX + 1}),
      ACCESS_PUBLISH_DENY);
  static const char *const dropped[] = {"devices/d/messages/events",
                                        "devices/d/messages/events/",
                                        "devices/d/messages/events/a=b&c=d"};
  for (size_t i = 0; i < sizeof dropped / sizeof dropped[0]; i++)
    assert_int_equal(access_publish("d", slice_of(dropped[i])),
                     ACCESS_PUBLISH_DROP);
  static const char *const denied[] = {"$iothub/streams/res/",
                                       "$iothub/streams/POST/x/?$rid=1",
                                       "$iothub/streams/res/\n",
                                       "devices/e/messages/events/",
                                       "devices/d/messages/eventsx",
                                       "devices/d/messages/devicebound/",
                                       "$dstream/ask",
                                       "$dstream/answer",
                                       "x",
                                       ""};
  for (size_t i = 0; i < sizeof denied / sizeof denied[0]; i++)
    assert_int_equal(access_publish("d", slice_of(denied[i])),
                     ACCESS_PUBLISH_DENY);
}

/* ---- sessions ---- */

static const struct session_limits limits = {.max_sessions = 200,
                                             .takeover_limit = 3,
                                             .takeover_window_ms = 1000,
                                             .takeover_pause_ms = 500};
static const struct identity_grant grant = {.expiry_s = 7};
static char clients[300]; /* their addresses stand for connections */

static int connect_client(struct session_table *table, const char *id,
                          int client, uint64_t now_ms, bool *told) {
  struct session *session = NULL;
  int status = session_connect(table, id, &clients[client], &grant, now_ms,
                               &session, told);
  if (status == DSTREAM_OK) {
    assert_ptr_equal(session, session_of(table, id, &clients[client]));
    assert_int_equal(session->grant.expiry_s, 7);
  }
  return status;
}

static void test_takeover_order(void **state) {
  struct session_table *table = session_table_new(&limits);
  bool told = true;
  (void)state;
  assert_int_equal(connect_client(table, "d", 1, 0, &told), DSTREAM_OK);
  assert_false(told);
  session_find(table, "d")->ready = true;
  assert_int_equal(connect_client(table, "d", 2, 0, &told), DSTREAM_OK);
  assert_true(told);
  assert_false(session_find(table, "d")->ready);
  /* The old connection's end comes after the new one's begin. */
  assert_false(session_disconnect(table, "d", &clients[1]));
  assert_null(session_of(table, "d", &clients[1]));
  assert_int_equal(session_count(table), 1);
  assert_true(session_disconnect(table, "d", &clients[2]));
  assert_false(session_disconnect(table, "d", &clients[2]));
  assert_false(session_disconnect(table, "none", &clients[2]));
  assert_int_equal(session_count(table), 0);
  session_table_free(table);
}

static void test_checked_again(void **state) {
  struct session_table *table = session_table_new(&limits);
  bool told;
  (void)state;
  for (int i = 0; i < 20; i++) {
    assert_int_equal(connect_client(table, "d", 1, 0, &told), DSTREAM_OK);
    assert_false(told);
    session_find(table, "d")->ready = true;
  }
  assert_int_equal(session_count(table), 1);
  session_table_free(table);
}

static void test_takeover_limit(void **state) {
  struct session_table *table = session_table_new(&limits);
  bool told;
  (void)state;
  for (int i = 0; i <= 3; i++)
    assert_int_equal(connect_client(table, "d", i, 10, &told), DSTREAM_OK);
  assert_int_equal(connect_client(table, "d", 9, 10, &told),
                   DSTREAM_ETHROTTLED);
  assert_true(told);
  assert_int_equal(connect_client(table, "d", 9, 509, &told),
                   DSTREAM_ETHROTTLED);
  assert_false(told);
  assert_non_null(session_of(table, "d", &clients[3]));
  /* Another identity is not concerned, and neither is a free one. */
  assert_int_equal(connect_client(table, "e", 10, 10, &told), DSTREAM_OK);
  assert_true(session_disconnect(table, "d", &clients[3]));
  assert_int_equal(connect_client(table, "d", 11, 100, &told), DSTREAM_OK);
  assert_int_equal(connect_client(table, "d", 12, 510, &told), DSTREAM_OK);
  session_table_free(table);
}

static void test_takeovers_age(void **state) {
  struct session_table *table = session_table_new(&limits);
  bool told;
  (void)state;
  for (int i = 0; i < 50; i++)
    assert_int_equal(connect_client(table, "d", i, (uint64_t)i * 400, &told),
                     DSTREAM_OK);
  session_table_free(table);
}

static bool count(void *user, struct session *session) {
  assert_non_null(session->client);
  return ++*(int *)user < 1000;
}

static void test_table_is_bounded(void **state) {
  struct session_table *table = session_table_new(&limits);
  char id[16];
  bool told;
  int seen = 0;
  (void)state;
  for (int i = 0; i < 200; i++) {
    snprintf(id, sizeof id, "d%d", i);
    assert_int_equal(connect_client(table, id, i, 0, &told), DSTREAM_OK);
  }
  assert_int_equal(connect_client(table, "more", 250, 0, &told),
                   DSTREAM_ELIMIT);
  session_each(table, count, &seen);
  assert_int_equal(seen, 200);
  assert_true(session_disconnect(table, "d7", &clients[7]));
  session_sweep(table, 0);
  assert_null(session_find(table, "d7"));
  assert_non_null(session_find(table, "d8"));
  assert_int_equal(connect_client(table, "more", 250, 0, &told), DSTREAM_OK);
  session_table_free(table);
}

static void test_sweep_keeps_fighters(void **state) {
  struct session_table *table = session_table_new(&limits);
  bool told;
  (void)state;
  for (int i = 0; i <= 4; i++)
    connect_client(table, "d", i, 0, &told);
  assert_true(session_disconnect(table, "d", &clients[3]));
  uint64_t next_ms = session_sweep(table, 499);
  assert_non_null(session_find(table, "d"));
  assert_true(next_ms > 499 && next_ms <= 2000);
  assert_true(session_sweep(table, next_ms - 1) == next_ms);
  assert_non_null(session_find(table, "d"));
  assert_true(session_sweep(table, next_ms) == UINT64_MAX);
  assert_null(session_find(table, "d"));
  session_table_free(table);
}

/* ---- wire ---- */

static void test_pairs(void **state) {
  char out[16];
  struct slice id, topic;
  (void)state;
  size_t len = broker_wire_pair("d/m", slice_of("a/b"), out, sizeof out);
  assert_int_equal(len, 7);
  assert_true(broker_wire_split((struct slice){out, len}, &id, &topic));
  assert_true(slice_eq(id, "d/m") && slice_eq(topic, "a/b"));
  assert_int_equal(broker_wire_pair("d", slice_of("a"), out, 3), 3);
  assert_int_equal(broker_wire_pair("d", slice_of("a"), out, 2), 0);
  assert_int_equal(broker_wire_pair("d", slice_of("a"), out, 1), 0);
  static const char *const bad[] = {"", "d", "\n", "d\n", "\nt"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_false(broker_wire_split(slice_of(bad[i]), &id, &topic));
}

static void test_presence_messages(void **state) {
  static struct broker_presence_out out;
  uint64_t number = 0;
  enum broker_presence_kind kind;
  enum broker_presence what;
  struct slice rest, id;
  int added = 0, seen = 0;
  (void)state;
  broker_presence_begin(&out, UINT64_MAX - 1, BROKER_CHANGE);
  while (broker_presence_add(&out, BROKER_READY, "device"))
    added++;
  assert_true(added > 1000 && out.len <= sizeof out.text);
  assert_true(broker_presence_head((struct slice){out.text, out.len}, &number,
                                   &kind, &rest));
  assert_true(number == UINT64_MAX - 1 && kind == BROKER_CHANGE);
  while (broker_presence_next(&rest, &what, &id)) {
    assert_true(what == BROKER_READY && slice_eq(id, "device"));
    seen++;
  }
  assert_int_equal(seen, added);
  static const char *const bad[] = {"",    "\n",   "1\n",  "1 x\n", "a c\n",
                                    "1 c", " c\n", "1c\n", "-1 c\n"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_false(broker_presence_head(slice_of(bad[i]), &number, &kind, &rest));
  static const char *const entries[] = {"", "\n", "R\n", "Xd\n", "Rd"};
  for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
    rest = slice_of(entries[i]);
    assert_false(broker_presence_next(&rest, &what, &id));
  }
}

static void test_still(void **state) {
  static struct broker_presence_out out;
  uint64_t number = 0, due_s = 0;
  enum broker_presence_kind kind;
  struct slice rest;
  (void)state;
  static const uint64_t due[] = {0, 1, 1795488757, UINT64_MAX};
  for (size_t i = 0; i < sizeof due / sizeof due[0]; i++) {
    broker_presence_still(&out, 7, due[i]);
    assert_true(broker_presence_head((struct slice){out.text, out.len}, &number,
                                     &kind, &rest));
    assert_true(number == 7 && kind == BROKER_STILL);
    assert_true(broker_presence_due(rest, &due_s) && due_s == due[i]);
  }
  static const char *const bad[] = {
      "",       "\n",    "5",
      "x\n",    "5x\n",  "-5\n",
      "5\n6\n", "5\n\n", "123456789012345678901\n"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_false(broker_presence_due(slice_of(bad[i]), &due_s));
}

/* ---- presence ---- */

static char told[128];

static void note(void *user, const char *id, bool ready) {
  size_t len = strlen(told);
  (void)user;
  snprintf(told + len, sizeof told - len, "%s%s ", ready ? "+" : "-", id);
}

static void test_presence_snapshot(void **state) {
  struct presence *presence = presence_new(3, note, NULL);
  (void)state;
  told[0] = '\0';
  assert_int_equal(presence_set(presence, slice_of("a"), false), DSTREAM_OK);
  assert_int_equal(presence_set(presence, slice_of("a"), true), DSTREAM_OK);
  assert_int_equal(presence_set(presence, slice_of("a"), true), DSTREAM_OK);
  assert_int_equal(presence_set(presence, slice_of("b"), true), DSTREAM_OK);
  assert_int_equal(presence_set(presence, slice_of("c"), false), DSTREAM_OK);
  assert_int_equal(presence_set(presence, slice_of("d"), true), DSTREAM_ELIMIT);
  assert_string_equal(told, "+a +b ");
  assert_true(presence_connected(presence, "c"));
  assert_false(presence_ready(presence, "c"));
  /* b has gone, a is not ready any more, c is the same, d is new. */
  told[0] = '\0';
  presence_mark_all(presence);
  presence_set(presence, slice_of("a"), false);
  presence_set(presence, slice_of("c"), false);
  presence_remove_marked(presence);
  presence_set(presence, slice_of("d"), true);
  assert_string_equal(told, "-a -b +d ");
  assert_int_equal(presence_count(presence), 3);
  presence_remove(presence, slice_of("c"));
  presence_remove(presence, slice_of("none"));
  presence_remove(presence, slice_of("d"));
  assert_string_equal(told, "-a -b +d -d ");
  assert_false(presence_ready(presence, "d"));
  presence_free(presence);
}

static void test_presence_grows(void **state) {
  struct presence *presence = presence_new(5000, NULL, NULL);
  char id[16];
  (void)state;
  for (int i = 0; i < 5000; i++) {
    snprintf(id, sizeof id, "d%d", i);
    assert_int_equal(presence_set(presence, slice_of(id), true), DSTREAM_OK);
  }
  for (int i = 0; i < 5000; i++) {
    snprintf(id, sizeof id, "d%d", i);
    assert_true(presence_ready(presence, id));
  }
  presence_mark_all(presence);
  presence_remove_marked(presence);
  assert_int_equal(presence_count(presence), 0);
  presence_free(presence);
}

/* ---- configuration ---- */

static void test_config(void **state) {
  char text[16384];
  struct broker_options options = {.plugin = "/a b/p.so",
                                   .names = {{"hub", "127.0.0.1"}, 2}};
  (void)state;
  broker_options_defaults(&options);
  int len = broker_config_text(&options, "s3cret", text, sizeof text);
  assert_true(len > 0 && (size_t)len == strlen(text));
  assert_non_null(strstr(text, "per_listener_settings true\n"));
  assert_non_null(strstr(text, "\nlistener 0 run/mqtt.sock\n"));
  assert_non_null(strstr(text, "\nlistener 0 run/hub.sock\n"));
  assert_non_null(strstr(text, "\nplugin /a b/p.so\n"));
  assert_non_null(strstr(text, "\nplugin_opt_names hub,127.0.0.1\n"));
  assert_null(strstr(text, "allow_anonymous true"));
  assert_int_equal(broker_config_text(&options, "s", text, (size_t)len / 2),
                   DSTREAM_ELIMIT);
  options.plugin = "/p.so\nallow_anonymous true";
  assert_int_equal(broker_config_text(&options, "s", text, sizeof text),
                   DSTREAM_EINVAL);
  options.plugin = "/p.so";
  options.names.name[1] = "a,b";
  assert_int_equal(broker_config_text(&options, "s", text, sizeof text),
                   DSTREAM_EINVAL);
  options.names.count = 0;
  assert_int_equal(broker_config_text(&options, "s", text, sizeof text),
                   DSTREAM_EINVAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_user_names),
      cmocka_unit_test(test_subscriptions),
      cmocka_unit_test(test_publications),
      cmocka_unit_test(test_takeover_order),
      cmocka_unit_test(test_checked_again),
      cmocka_unit_test(test_takeover_limit),
      cmocka_unit_test(test_takeovers_age),
      cmocka_unit_test(test_table_is_bounded),
      cmocka_unit_test(test_sweep_keeps_fighters),
      cmocka_unit_test(test_pairs),
      cmocka_unit_test(test_presence_messages),
      cmocka_unit_test(test_still),
      cmocka_unit_test(test_presence_snapshot),
      cmocka_unit_test(test_presence_grows),
      cmocka_unit_test(test_config),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
