/* hub/registry.h: requests of Azure's clients against a store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "hub/registry.h"

#define NOW  1700000000
#define KEY  "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define KEY2 "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="
#define SHA1 "0123456789abcdef0123456789abcdef01234567"

static char folder[64];
static char path[96];
static struct identity_store *store;
static struct registry_answer answer;
static cJSON *json; /* the answer's body */
static bool show_keys;

static int set_up(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "/tmp/dstream-registry-XXXXXX");
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/identities.db", folder);
  assert_int_equal(identity_create(&store, path, NULL), DSTREAM_OK);
  show_keys = true;
  return 0;
}

static int tear_down(void **state) {
  static const char *const endings[] = {"", "-wal", "-shm"};
  char file[128];
  (void)state;
  cJSON_Delete(json);
  json = NULL;
  registry_answer_clear(&answer);
  identity_close(store);
  for (size_t i = 0; i < 3; i++) {
    snprintf(file, sizeof file, "%s%s", path, endings[i]);
    unlink(file);
  }
  assert_int_equal(rmdir(folder), 0);
  return 0;
}

static void ask(const struct registry_request *request) {
  cJSON_Delete(json);
  json = NULL;
  registry_answer_clear(&answer);
  registry_run(store, request, NOW, &answer);
  if (answer.body != NULL) {
    assert_int_equal(strlen(answer.body), answer.body_len);
    json = cJSON_Parse(answer.body);
    if (json == NULL)
      fail_msg("no JSON: %s", answer.body);
  } else if (answer.error != HUB_ERROR_NONE) {
    assert_true(answer.message[0] != '\0');
  }
}

static enum hub_error_code put(const char *id, const char *if_match,
                               const char *body) {
  struct registry_request request = {.operation = REGISTRY_PUT,
                                     .show_keys = show_keys,
                                     .body = slice_of(body)};
  snprintf(request.device, sizeof request.device, "%s", id);
  snprintf(request.if_match, sizeof request.if_match, "%s", if_match);
  ask(&request);
  return answer.error;
}

static enum hub_error_code drop(const char *id, const char *if_match) {
  struct registry_request request = {.operation = REGISTRY_DELETE};
  snprintf(request.device, sizeof request.device, "%s", id);
  snprintf(request.if_match, sizeof request.if_match, "%s", if_match);
  ask(&request);
  return answer.error;
}

static enum hub_error_code get(const char *id) {
  struct registry_request request = {.operation = REGISTRY_GET,
                                     .show_keys = show_keys};
  snprintf(request.device, sizeof request.device, "%s", id);
  ask(&request);
  return answer.error;
}

static enum hub_error_code bulk(const char *body) {
  struct registry_request request = {.operation = REGISTRY_BULK,
                                     .body = slice_of(body)};
  ask(&request);
  return answer.error;
}

static size_t list(const char *after, size_t limit) {
  struct registry_request request = {.operation = REGISTRY_LIST,
                                     .limit = limit};
  snprintf(request.after, sizeof request.after, "%s", after);
  ask(&request);
  assert_int_equal(answer.error, HUB_ERROR_NONE);
  assert_true(cJSON_IsArray(json));
  return (size_t)cJSON_GetArraySize(json);
}

/* "a.b.c" of the answer's body. */
static const cJSON *at(const char *names) {
  const cJSON *item = json;
  char copy[128];
  snprintf(copy, sizeof copy, "%s", names);
  for (char *rest = copy, *name; (name = strsep(&rest, ".")) != NULL;)
    item = cJSON_GetObjectItemCaseSensitive(item, name);
  if (item == NULL)
    fail_msg("no %s in %s", names, answer.body);
  return item;
}

static const char *text(const char *names) {
  const cJSON *item = at(names);
  if (!cJSON_IsString(item))
    fail_msg("%s is no string in %s", names, answer.body);
  return item->valuestring;
}

#define PRIMARY   "authentication.symmetricKey.primaryKey"
#define SECONDARY "authentication.symmetricKey.secondaryKey"

/* ---- one device ---- */

static void test_new_device(void **state) {
  (void)state;
  assert_int_equal(put("dev", "", "{}"), HUB_ERROR_NONE);
  assert_string_equal(text("deviceId"), "dev");
  assert_int_equal(strlen(text("generationId")), 16);
  assert_string_equal(text("etag"), answer.etag);
  assert_string_equal(text("connectionState"), "Disconnected");
  assert_string_equal(text("status"), "enabled");
  assert_true(cJSON_IsNull(at("statusReason")));
  assert_string_equal(text("statusUpdatedTime"), "0001-01-01T00:00:00Z");
  assert_string_equal(text("lastActivityTime"), "0001-01-01T00:00:00Z");
  assert_string_equal(text("connectionStateUpdatedTime"),
                      "0001-01-01T00:00:00Z");
  assert_int_equal(at("cloudToDeviceMessageCount")->valueint, 0);
  assert_string_equal(text("authentication.type"), "sas");
  assert_int_equal(strlen(text(PRIMARY)), 44);
  assert_string_not_equal(text(PRIMARY), text(SECONDARY));
  assert_true(
      cJSON_IsNull(at("authentication.x509Thumbprint.primaryThumbprint")));
  assert_true(cJSON_IsFalse(at("capabilities.iotEdge")));
  assert_int_equal(answer.changed, 1);
  assert_int_equal(put("dev", "", "{}"), HUB_ERROR_EXISTS);
  assert_int_equal(get("dev"), HUB_ERROR_NONE);
  assert_int_equal(get("Dev"), HUB_ERROR_NO_DEVICE);
}

/* What the official client for Node sends without keys. */
#define NO_KEYS                                                                \
  "\"authentication\":{\"type\":\"sas\",\"symmetricKey\":"                     \
  "{\"primaryKey\":\"\",\"secondaryKey\":\"\"}}"

static void test_etags(void **state) {
  char old[IDENTITY_TAG_SIZE];
  char key[64];
  (void)state;
  assert_int_equal(put("dev", "*", "{}"), HUB_ERROR_NO_DEVICE);
  assert_int_equal(put("dev", "0123456789abcdef", "{}"), HUB_ERROR_NO_DEVICE);
  assert_int_equal(put("dev", "", "{\"deviceId\":\"dev\"," NO_KEYS "}"),
                   HUB_ERROR_NONE);
  memcpy(old, answer.etag, sizeof old);
  snprintf(key, sizeof key, "%s", text(PRIMARY));
  assert_int_equal(put("dev", "0123456789abcdef", "{}"),
                   HUB_ERROR_PRECONDITION);
  assert_int_equal(put("dev", old,
                       "{\"status\":\"disabled\",\"statusReason\":"
                       "\"a \\\"b\\\" \\\\ \\u00e4\"," NO_KEYS "}"),
                   HUB_ERROR_NONE);
  assert_string_not_equal(answer.etag, old);
  assert_string_equal(text("status"), "disabled");
  assert_string_equal(text("statusReason"), "a \"b\" \\ \xc3\xa4");
  assert_string_equal(text("statusUpdatedTime"), "2023-11-14T22:13:20Z");
  assert_string_equal(text(PRIMARY), key); /* it stays */
  assert_int_equal(put("dev", old, "{}"), HUB_ERROR_PRECONDITION);
  /* Nothing said: nothing changes. */
  assert_int_equal(put("dev", "*", "{}"), HUB_ERROR_NONE);
  assert_string_equal(text("status"), "disabled");
  assert_string_equal(text("statusReason"), "a \"b\" \\ \xc3\xa4");
  assert_int_equal(put("dev", "*", "{\"statusReason\":null}"), HUB_ERROR_NONE);
  assert_true(cJSON_IsNull(at("statusReason")));
  assert_int_equal(drop("dev", ""), HUB_ERROR_ARGUMENT);
  assert_int_equal(drop("dev", old), HUB_ERROR_PRECONDITION);
  assert_int_equal(get("dev"), HUB_ERROR_NONE);
  memcpy(old, answer.etag, sizeof old);
  assert_int_equal(drop("dev", old), HUB_ERROR_NONE);
  assert_null(answer.body);
  assert_int_equal(drop("dev", "*"), HUB_ERROR_NO_DEVICE);
  assert_int_equal(get("dev"), HUB_ERROR_NO_DEVICE);
}

static void test_keys(void **state) {
  (void)state;
  assert_int_equal(put("dev", "",
                       "{\"authentication\":{\"symmetricKey\":{"
                       "\"primaryKey\":\"" KEY "\"}}}"),
                   HUB_ERROR_NONE);
  assert_string_equal(text(PRIMARY), KEY);
  assert_string_not_equal(text(SECONDARY), KEY);
  assert_int_equal(put("dev", "*",
                       "{\"authentication\":{\"type\":\"SAS\","
                       "\"symmetricKey\":{\"primaryKey\":null,"
                       "\"secondaryKey\":\"" KEY2 "\"}}}"),
                   HUB_ERROR_NONE);
  assert_string_equal(text(PRIMARY), KEY);
  assert_string_equal(text(SECONDARY), KEY2);
  struct identity_device device;
  assert_int_equal(identity_get(store, "dev", &device), DSTREAM_OK);
  assert_int_equal(device.primary.len, 32);
  assert_memory_equal(device.primary.bytes, "0123456789abcdef", 16);
  show_keys = false;
  assert_int_equal(get("dev"), HUB_ERROR_NONE);
  assert_true(cJSON_IsNull(at(PRIMARY)) && cJSON_IsNull(at(SECONDARY)));
  assert_null(strstr(answer.body, "MDEyM"));
}

static void test_certificates(void **state) {
  (void)state;
  assert_int_equal(put("a", "",
                       "{\"authentication\":{\"x509Thumbprint\":{"
                       "\"primaryThumbprint\":\"01:23:45:67:89:AB:CD:EF:01:23:"
                       "45:67:89:AB:CD:EF:01:23:45:67\"}}}"),
                   HUB_ERROR_NONE);
  assert_string_equal(text("authentication.type"), "selfSigned");
  assert_string_equal(text("authentication.x509Thumbprint.primaryThumbprint"),
                      SHA1);
  assert_true(cJSON_IsNull(at(PRIMARY)));
  /* Its status alone is changed. */
  assert_int_equal(put("a", "*", "{\"status\":\"disabled\"}"), HUB_ERROR_NONE);
  assert_string_equal(text("authentication.type"), "selfSigned");
  assert_int_equal(put("a", "*",
                       "{\"authentication\":{\"type\":"
                       "\"selfSigned\"}}"),
                   HUB_ERROR_NONE);
  assert_string_equal(text("authentication.x509Thumbprint.primaryThumbprint"),
                      SHA1);
  assert_int_equal(put("a", "*", "{" NO_KEYS "}"), HUB_ERROR_NONE);
  assert_string_equal(text("authentication.type"), "sas");
  assert_int_equal(strlen(text(PRIMARY)), 44);
  assert_true(
      cJSON_IsNull(at("authentication.x509Thumbprint.primaryThumbprint")));
  assert_int_equal(
      put("a", "*", "{\"authentication\":{\"type\":\"certificateAuthority\"}}"),
      HUB_ERROR_NONE);
  assert_string_equal(text("authentication.type"), "certificateAuthority");
  struct identity_device device;
  assert_int_equal(identity_get(store, "a", &device), DSTREAM_OK);
  assert_int_equal(device.auth, IDENTITY_CA);
  /* Only a secondary one: it is the only one. */
  assert_int_equal(put("b", "",
                       "{\"authentication\":{\"type\":\"selfSigned\","
                       "\"x509Thumbprint\":{\"primaryThumbprint\":null,"
                       "\"secondaryThumbprint\":\"" SHA1 "\"}}}"),
                   HUB_ERROR_NONE);
  assert_string_equal(text("authentication.x509Thumbprint.primaryThumbprint"),
                      SHA1);
}

/* A group's device has an entry only when it was disabled. */
static void test_group(void **state) {
  (void)state;
  assert_int_equal(identity_group_add(store, "g", "g-"), DSTREAM_OK);
  assert_int_equal(get("g-1"), HUB_ERROR_NO_DEVICE);
  assert_int_equal(identity_set_enabled(store, "g-1", false, NOW), DSTREAM_OK);
  assert_int_equal(get("g-1"), HUB_ERROR_NONE);
  assert_string_equal(text("authentication.type"), "none");
  assert_true(cJSON_IsNull(at(PRIMARY)));
  assert_int_equal(put("g-1", "*", "{\"status\":\"enabled\"," NO_KEYS "}"),
                   HUB_ERROR_NONE);
  assert_string_equal(text("authentication.type"), "none");
  assert_int_equal(put("g-1", "*",
                       "{\"authentication\":{\"symmetricKey\":{"
                       "\"primaryKey\":\"" KEY "\"}}}"),
                   HUB_ERROR_NONE);
  assert_string_equal(text("authentication.type"), "sas");
  assert_int_equal(put("x", "", "{\"authentication\":{\"type\":\"none\"}}"),
                   HUB_ERROR_ARGUMENT);
}

#define BAD_PRINT                                                              \
  "{\"authentication\":{\"x509Thumbprint\":{\"primaryThumbprint\":"            \
  "\"0123\"}}}"
#define BAD_KEY                                                                \
  "{\"authentication\":{\"symmetricKey\":{\"secondaryKey\":\"" KEY KEY KEY     \
  "\"}}}"

static void test_bad_bodies(void **state) {
  (void)state;
  static const char *const bodies[] = {
      "",
      "{",
      "[]",
      "7",
      "null",
      "{\"deviceId\":\"other\"}",
      "{\"deviceId\":7}",
      "{\"status\":\"on\"}",
      "{\"status\":true}",
      "{\"statusReason\":\"a\\nb\"}",
      "{\"statusReason\":{}}",
      "{\"authentication\":{\"type\":\"tpm\"}}",
      "{\"authentication\":{\"type\":\"selfSigned\"}}",
      "{\"authentication\":{\"type\":1}}",
      "{\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"short\"}}}",
      "{\"authentication\":{\"symmetricKey\":{\"primaryKey\":\"AAAA\"}}}",
      BAD_KEY,
      BAD_PRINT,
      "{\"capabilities\":{\"iotEdge\":true}}",
      "{\"etag\":[]}"};
  for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
    if (put("dev", "", bodies[i]) != HUB_ERROR_ARGUMENT)
      fail_msg("taken: %s", bodies[i]);
    assert_int_equal(get("dev"), HUB_ERROR_NO_DEVICE);
  }
  /* What others have and we don't is let be. */
  assert_int_equal(put("dev", "",
                       "{\"authentication\":[],\"capabilities\":null,"
                       "\"deviceScope\":\"x\",\"lastActivityTime\":7,"
                       "\"status\":null}"),
                   HUB_ERROR_NONE);
}

static bool odd(void *user, const char *device, int64_t *since_s) {
  (void)user;
  *since_s = strcmp(device, "d1") == 0 ? NOW : 0;
  return (device[1] - '0') % 2 == 1;
}

static void test_connections(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    char id[8];
    snprintf(id, sizeof id, "d%d", i);
    assert_int_equal(identity_add(store, id, NOW, NULL), DSTREAM_OK);
  }
  assert_int_equal(list("", 10), 4);
  registry_connections(&answer, odd, NULL);
  cJSON_Delete(json);
  json = cJSON_Parse(answer.body);
  cJSON *all = json;
  static const char *const expected[4][2] = {
      {"Disconnected", "0001-01-01T00:00:00Z"},
      {"Connected", "2023-11-14T22:13:20Z"},
      {"Disconnected", "0001-01-01T00:00:00Z"},
      {"Connected", "0001-01-01T00:00:00Z"}};
  for (int i = 0; i < 4; i++) {
    json = cJSON_GetArrayItem(all, i);
    assert_string_equal(text("connectionState"), expected[i][0]);
    assert_string_equal(text("connectionStateUpdatedTime"), expected[i][1]);
    assert_string_equal(text("lastActivityTime"), expected[i][1]);
    assert_string_equal(text("statusUpdatedTime"), "0001-01-01T00:00:00Z");
  }
  json = all;
}

/* ---- many ---- */

static void test_list(void **state) {
  (void)state;
  assert_int_equal(list("", 1), 0);
  assert_string_equal(answer.next, "");
  for (int i = 0; i < 25; i++) {
    char id[8];
    snprintf(id, sizeof id, "d%02d", i);
    assert_int_equal(identity_add(store, id, NOW, NULL), DSTREAM_OK);
  }
  assert_int_equal(list("", REGISTRY_LIST_MAX), 25);
  assert_string_equal(answer.next, "");
  assert_int_equal(list("", 25), 25);
  assert_string_equal(answer.next, "");
  assert_int_equal(list("", 10), 10);
  assert_string_equal(answer.next, "d09");
  assert_int_equal(list("d09", 10), 10);
  assert_string_equal(answer.next, "d19");
  assert_int_equal(list("d19", 10), 5);
  assert_string_equal(answer.next, "");
  assert_int_equal(identity_set_enabled(store, "d03", false, NOW), DSTREAM_OK);
  struct registry_request request = {.operation = REGISTRY_COUNT};
  ask(&request);
  assert_int_equal(at("totalDeviceCount")->valueint, 25);
  assert_int_equal(at("enabledDeviceCount")->valueint, 24);
  assert_int_equal(at("disabledDeviceCount")->valueint, 1);
}

/* The longest there is fits into one answer. */
static void test_largest_list(void **state) {
  (void)state;
  struct identity_device device = {.enabled = true};
  assert_int_equal(identity_make_keys(&device), DSTREAM_OK);
  device.primary.len = device.secondary.len = IDENTITY_KEY_MAX;
  memset(device.id, 'i', IDENTITY_ID_MAX);
  memset(device.status_reason, '"', IDENTITY_REASON_MAX);
  assert_int_equal(identity_begin(store), DSTREAM_OK);
  for (int i = 0; i < REGISTRY_LIST_MAX + 1; i++) {
    char digits[8];
    snprintf(digits, sizeof digits, "%04d", i);
    memcpy(device.id, digits, 4);
    assert_int_equal(identity_put(store, &device), DSTREAM_OK);
  }
  assert_int_equal(identity_commit(store), DSTREAM_OK);
  struct registry_request request = {.operation = REGISTRY_LIST,
                                     .limit = REGISTRY_LIST_MAX,
                                     .show_keys = true};
  ask(&request);
  assert_int_equal(cJSON_GetArraySize(json), REGISTRY_LIST_MAX);
  assert_memory_equal(answer.next, "0999", 4);
  assert_true(answer.body_len < 1800000); /* HTTP_ANSWER_MAX: 2 MB */
}

static void assert_failed(int index, const char *id, const char *code) {
  cJSON *all = json;
  json = cJSON_GetArrayItem(at("errors"), index);
  if (json == NULL)
    fail_msg("no error %d", index);
  assert_string_equal(text("deviceId"), id);
  assert_string_equal(text("errorCode"), code);
  assert_true(text("errorStatus")[0] != '\0');
  json = all;
}

#define ONE(id, mode) "{\"id\":\"" id "\",\"importMode\":\"" mode "\"}"

static void test_bulk(void **state) {
  (void)state;
  assert_int_equal(bulk("[" ONE("a", "create") "," ONE("b", "Create") "]"),
                   HUB_ERROR_NONE);
  assert_true(cJSON_IsTrue(at("isSuccessful")));
  assert_int_equal(cJSON_GetArraySize(at("errors")), 0);
  assert_int_equal(cJSON_GetArraySize(at("warnings")), 0);
  assert_int_equal(answer.changed, 2);
  /* Those that can be done are done. */
  assert_int_equal(
      bulk("[" ONE("a", "create") "," ONE("c", "create") "," ONE(
          "d", "update") "," ONE("c",
                                 "delete") "," ONE("e f",
                                                   "creat"
                                                   "e") ","
                                                        "{\"importMode\":"
                                                        "\"create\"},7," ONE(
                                                            "b", "delete") "]"),
      HUB_ERROR_ARGUMENT);
  assert_true(cJSON_IsFalse(at("isSuccessful")));
  assert_int_equal(answer.changed, 2);
  assert_int_equal(cJSON_GetArraySize(at("errors")), 6);
  assert_failed(0, "a", "DeviceAlreadyExists");
  assert_failed(1, "d", "DeviceNotFound");
  assert_failed(2, "c", "DeviceDefinedMultipleTimes");
  assert_failed(3, "", "ArgumentInvalid");
  assert_failed(4, "", "ArgumentInvalid");
  assert_failed(5, "", "ArgumentInvalid");
  assert_int_equal(get("c"), HUB_ERROR_NONE);
  assert_int_equal(get("b"), HUB_ERROR_NO_DEVICE);
}

static void test_bulk_etags(void **state) {
  char body[512];
  struct identity_device device;
  (void)state;
  assert_int_equal(bulk("[" ONE("a", "createOrUpdateIfMatchETag") "," ONE(
                       "b", "createOrUpdate") "]"),
                   HUB_ERROR_NONE);
  assert_int_equal(bulk("[" ONE("b", "createOrUpdate") "]"), HUB_ERROR_NONE);
  assert_int_equal(
      bulk("[{\"id\":\"a\",\"importMode\":\"updateIfMatchETag\","
           "\"etag\":\"0123456789abcdef\",\"status\":\"disabled\"}," ONE(
               "b", "deleteIfMatchETag") "]"),
      HUB_ERROR_ARGUMENT);
  assert_failed(0, "a", "PreconditionFailed");
  assert_failed(1, "b", "PreconditionFailed");
  assert_int_equal(identity_get(store, "a", &device), DSTREAM_OK);
  assert_true(device.enabled);
  snprintf(body, sizeof body,
           "[{\"id\":\"a\",\"importMode\":\"UpdateIfMatchETag\","
           "\"etag\":\"%s\",\"status\":\"disabled\"}]",
           device.etag);
  assert_int_equal(bulk(body), HUB_ERROR_NONE);
  assert_int_equal(bulk(body), HUB_ERROR_ARGUMENT);
  assert_int_equal(identity_get(store, "a", &device), DSTREAM_OK);
  assert_false(device.enabled);
  snprintf(body, sizeof body,
           "[{\"id\":\"a\",\"importMode\":\"deleteIfMatchETag\","
           "\"eTag\":\"\\\"%s\\\"\"}]",
           device.etag);
  assert_int_equal(bulk(body), HUB_ERROR_NONE);
  assert_int_equal(get("a"), HUB_ERROR_NO_DEVICE);
}

static void test_bulk_limits(void **state) {
  char body[8192] = "[";
  size_t len = 1;
  (void)state;
  assert_int_equal(bulk("[]"), HUB_ERROR_ARGUMENT);
  assert_int_equal(bulk("{}"), HUB_ERROR_ARGUMENT);
  assert_int_equal(bulk("[" ONE("a", "merge") "]"), HUB_ERROR_ARGUMENT);
  for (int i = 0; i < REGISTRY_BULK_MAX + 1; i++) {
    len += (size_t)snprintf(body + len, sizeof body - len,
                            "%s{\"id\":\"d%d\","
                            "\"importMode\":\"create\"}",
                            i == 0 ? "" : ",", i);
    if (i == REGISTRY_BULK_MAX - 1) {
      snprintf(body + len, sizeof body - len, "]");
      assert_int_equal(bulk(body), HUB_ERROR_NONE);
      assert_int_equal(answer.changed, REGISTRY_BULK_MAX);
    }
  }
  snprintf(body + len, sizeof body - len, "]");
  assert_int_equal(bulk(body), HUB_ERROR_TOO_MANY);
}

/* Somebody else writes: nothing is done, and it is said. */
static void test_busy(void **state) {
  (void)state;
  struct identity_store *other = NULL;
  struct identity_store *own = store;
  assert_int_equal(identity_open(&other, path, true, NULL), DSTREAM_OK);
  store = other; /* which may not write at all */
  assert_int_equal(put("dev", "", "{}"), HUB_ERROR_UNAVAILABLE);
  assert_int_equal(get("dev"), HUB_ERROR_NO_DEVICE);
  store = own;
  identity_close(other);
}

static void test_if_match(void **state) {
  char out[REGISTRY_IF_MATCH_MAX];
  (void)state;
  static const char *const good[][2] = {
      {"*", "*"},         {"\"*\"", "*"},       {"abc", "abc"},
      {"\"abc\"", "abc"}, {"W/\"abc\"", "abc"}, {"MA==", "MA=="}};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    assert_true(registry_if_match(slice_of(good[i][0]), out));
    assert_string_equal(out, good[i][1]);
  }
  static const char *const bad[] = {
      "",
      "\"\"",
      "\"",
      "W/",
      "\"a\", \"b\"",
      "0123456789012345678901234567890123456789012345678901234567890123456789"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_false(registry_if_match(slice_of(bad[i]), out));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_new_device),   TEST(test_etags),
      TEST(test_keys),         TEST(test_certificates),
      TEST(test_group),        TEST(test_bad_bodies),
      TEST(test_connections),  TEST(test_list),
      TEST(test_largest_list), TEST(test_bulk),
      TEST(test_bulk_etags),   TEST(test_bulk_limits),
      TEST(test_busy),         cmocka_unit_test(test_if_match),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
