#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "core/conn_string.h"
#include "core/sas.h"
#include "hub/identity.h"

#define NOW 1700000000u

static char folder[64];
static char path[96];
static struct identity_names names = {{"Hub.example.net", "127.0.0.1"}, 2};

static int set_up(void **state) {
  struct identity_store *store = NULL;
  snprintf(folder, sizeof folder, "/tmp/dstream-identity-XXXXXX");
  assert_non_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/identities.db", folder);
  assert_int_equal(identity_create(&store, path, NULL), DSTREAM_OK);
  *state = store;
  return 0;
}

static int tear_down(void **state) {
  static const char *const endings[] = {"", "-wal", "-shm"};
  char file[128];
  identity_close(*state);
  for (size_t i = 0; i < 3; i++) {
    snprintf(file, sizeof file, "%s%s", path, endings[i]);
    unlink(file);
  }
  assert_int_equal(rmdir(folder), 0);
  return 0;
}

static struct slice token_for(const char *resource,
                              const struct identity_key *key, uint64_t expiry,
                              const char *policy) {
  static char token[SAS_MAX];
  int len = sas_make(token, sizeof token, resource, key->bytes, key->len,
                     expiry, policy, SAS_RAW_RESOURCE);
  assert_true(len > 0);
  return (struct slice){token, (size_t)len};
}

static int check(struct identity_store *store, const char *client,
                 struct slice token) {
  struct identity_grant grant;
  struct dstream_end end = {0};
  int status = identity_check_device_sas(store, &names, client, token, NOW,
                                         &grant, &end);
  if (status != DSTREAM_OK)
    assert_true(end.status == status && end.text[0] != '\0');
  return status;
}

/* ---- the store ---- */

/* What may be an id is for core/conn_string to say: it must fit into one. */
static void test_ids(void **state) {
  (void)state;
  char longest[IDENTITY_ID_MAX + 2];
  memset(longest, 'a', sizeof longest);
  assert_true(conn_string_id_valid(slice_of("A-Za-z0:.+%_#*?!(),=@$'9")));
  assert_true(conn_string_id_valid((struct slice){longest, IDENTITY_ID_MAX}));
  assert_false(
      conn_string_id_valid((struct slice){longest, IDENTITY_ID_MAX + 1}));
  static const char *const bad[] = {"",    "a/b",  "a b",      "a\nb",
                                    "a&b", "a\"b", "\xc3\xa4", "a\x7f",
                                    "<",   "a\\b", "a;b"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_false(conn_string_id_valid(slice_of(bad[i])));
  assert_false(conn_string_id_valid((struct slice){"a\0b", 3}));
}

static void test_create_is_private_and_never_overwrites(void **state) {
  struct identity_store *other = NULL;
  struct stat info;
  struct dstream_end end;
  (void)state;
  assert_int_equal(stat(path, &info), 0);
  assert_int_equal(info.st_mode & 0777, 0600);
  assert_int_equal(identity_create(&other, path, &end), DSTREAM_ESTATE);
  assert_null(other);
  assert_non_null(strstr(end.text, path));
}

static void test_default_policies(void **state) {
  struct identity_policy policy;
  assert_int_equal(identity_policy_get(*state, "iothubowner", &policy),
                   DSTREAM_OK);
  assert_int_equal(policy.rights, IDENTITY_ALL_RIGHTS);
  assert_int_equal(policy.primary.len, IDENTITY_KEY_LEN);
  assert_memory_not_equal(policy.primary.bytes, policy.secondary.bytes,
                          IDENTITY_KEY_LEN);
  assert_int_equal(identity_policy_get(*state, "service", &policy), DSTREAM_OK);
  assert_int_equal(policy.rights, IDENTITY_SERVICE_CONNECT);
  assert_int_equal(identity_policy_get(*state, "device", &policy), DSTREAM_OK);
  assert_int_equal(policy.rights, IDENTITY_DEVICE_CONNECT);
  assert_int_equal(identity_policy_get(*state, "Device", &policy),
                   DSTREAM_ENOTFOUND);
  assert_int_equal(identity_policy_add(*state, "service", 1), DSTREAM_ESTATE);
  assert_int_equal(identity_policy_add(*state, "a b", 1), DSTREAM_EINVAL);
  identity_policy_wipe(&policy);
  assert_int_equal(policy.primary.len, 0);
}

static void test_add_get_remove(void **state) {
  struct identity_device added, got;
  assert_int_equal(identity_add(*state, "dev'1", NOW, &added), DSTREAM_OK);
  assert_int_equal(identity_add(*state, "dev'1", NOW, NULL), DSTREAM_ESTATE);
  assert_int_equal(identity_add(*state, "dev/1", NOW, NULL), DSTREAM_EINVAL);
  assert_int_equal(identity_get(*state, "dev'1", &got), DSTREAM_OK);
  assert_memory_equal(&got, &added, sizeof got);
  assert_true(got.enabled);
  assert_int_equal(got.created_s, NOW);
  assert_int_equal(identity_get(*state, "DEV'1", &got), DSTREAM_ENOTFOUND);
  assert_int_equal(identity_remove(*state, "dev'1"), DSTREAM_OK);
  assert_int_equal(identity_remove(*state, "dev'1"), DSTREAM_ENOTFOUND);
  assert_int_equal(identity_get(*state, "dev'1", &got), DSTREAM_ENOTFOUND);
}

static void test_put_replaces(void **state) {
  struct identity_device device, got;
  assert_int_equal(identity_add(*state, "dev", NOW, &device), DSTREAM_OK);
  device.enabled = false;
  device.created_s = 5;
  device.primary.len = 16;
  assert_int_equal(identity_put(*state, &device), DSTREAM_OK);
  assert_int_equal(identity_get(*state, "dev", &got), DSTREAM_OK);
  assert_false(got.enabled);
  assert_int_equal(got.primary.len, 16);
  assert_int_equal(got.created_s, NOW);
  device.primary.len = 15;
  assert_int_equal(identity_put(*state, &device), DSTREAM_EINVAL);
}

struct listing {
  char text[64];
  size_t limit;
};

static bool append(void *user, const struct identity_device *device) {
  struct listing *listing = user;
  size_t len = strlen(listing->text);
  snprintf(listing->text + len, sizeof listing->text - len, "%s ", device->id);
  return --listing->limit > 0;
}

static void test_list_in_order(void **state) {
  static const char *const ids[] = {"b", "a", "C", "aa"};
  struct listing all = {.limit = 100}, two = {.limit = 100},
                 stopped = {.limit = 1};
  for (size_t i = 0; i < 4; i++)
    assert_int_equal(identity_add(*state, ids[i], NOW, NULL), DSTREAM_OK);
  assert_int_equal(identity_list(*state, NULL, 10, append, &all), DSTREAM_OK);
  assert_string_equal(all.text, "C a aa b ");
  assert_int_equal(identity_list(*state, "C", 2, append, &two), DSTREAM_OK);
  assert_string_equal(two.text, "a aa ");
  assert_int_equal(identity_list(*state, NULL, 9, append, &stopped),
                   DSTREAM_OK);
  assert_string_equal(stopped.text, "C ");
}

static void test_second_connection(void **state) {
  struct identity_store *reader = NULL;
  struct identity_device device;
  assert_int_equal(identity_open(&reader, path, true, NULL), DSTREAM_OK);
  assert_false(identity_changed(reader));
  assert_int_equal(identity_add(*state, "dev", NOW, NULL), DSTREAM_OK);
  assert_true(identity_changed(reader));
  assert_false(identity_changed(reader));
  assert_int_equal(identity_get(reader, "dev", &device), DSTREAM_OK);
  assert_int_equal(identity_add(reader, "dev2", NOW, NULL), DSTREAM_EINTERNAL);
  assert_int_equal(identity_remove(reader, "dev"), DSTREAM_EINTERNAL);
  identity_close(reader);
}

static void test_open_refuses_other_files(void **state) {
  struct identity_store *store = NULL;
  struct dstream_end end;
  char file[128];
  (void)state;
  snprintf(file, sizeof file, "%s/none.db", folder);
  assert_int_equal(identity_open(&store, file, false, &end), DSTREAM_ENOTFOUND);
  FILE *text = fopen(file, "w");
  assert_non_null(text);
  fputs("this is not a database at all, it is a text of some length\n", text);
  fclose(text);
  assert_int_equal(identity_open(&store, file, false, &end), DSTREAM_EFORMAT);
  unlink(file);
  sqlite3 *db = NULL;
  assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, "PRAGMA user_version=99", 0, 0, 0),
                   SQLITE_OK);
  sqlite3_close(db);
  assert_int_equal(identity_open(&store, file, false, &end), DSTREAM_EFORMAT);
  assert_non_null(strstr(end.text, "newer"));
  assert_null(store);
  unlink(file);
}

/* ---- tokens ---- */

static void test_device_token(void **state) {
  struct identity_device device;
  struct identity_grant grant;
  const char *resource = "hub.example.net/devices/dev";
  assert_int_equal(identity_add(*state, "dev", NOW, &device), DSTREAM_OK);
  assert_int_equal(identity_add(*state, "dev2", NOW, NULL), DSTREAM_OK);

  struct slice token = token_for(resource, &device.primary, NOW + 1, NULL);
  assert_int_equal(identity_check_device_sas(*state, &names, "dev", token, NOW,
                                             &grant, NULL),
                   DSTREAM_OK);
  assert_int_equal(grant.expiry_s, NOW + 1);
  assert_int_equal(identity_recheck(*state, "dev", &grant), DSTREAM_OK);
  assert_int_equal(check(*state, "dev2", token), DSTREAM_EUNAUTHORIZED);
  assert_int_equal(check(*state, "none", token), DSTREAM_EUNAUTHORIZED);
  assert_int_equal(check(*state, "", token), DSTREAM_EINVAL);
  assert_int_equal(check(*state, "dev/", token), DSTREAM_EINVAL);
  assert_int_equal(check(*state, "dev/a/b", token), DSTREAM_EINVAL);

  token = token_for(resource, &device.secondary, NOW + 1, NULL);
  assert_int_equal(check(*state, "dev", token), DSTREAM_OK);
  token = token_for("127.0.0.1/devices/dev", &device.primary, NOW + 9, NULL);
  assert_int_equal(check(*state, "dev", token), DSTREAM_OK);
  token = token_for("other.net/devices/dev", &device.primary, NOW + 9, NULL);
  assert_int_equal(check(*state, "dev", token), DSTREAM_EUNAUTHORIZED);
  token = token_for("hub.example.net", &device.primary, NOW + 9, NULL);
  assert_int_equal(check(*state, "dev", token), DSTREAM_EUNAUTHORIZED);
  token = token_for(resource, &device.primary, NOW, NULL);
  assert_int_equal(check(*state, "dev", token), DSTREAM_EUNAUTHORIZED);
  device.primary.bytes[0] ^= 1;
  token = token_for(resource, &device.primary, NOW + 9, NULL);
  assert_int_equal(check(*state, "dev", token), DSTREAM_EUNAUTHORIZED);
  assert_int_equal(check(*state, "dev", slice_of("")), DSTREAM_ESAS);
  assert_int_equal(check(*state, "dev", slice_of("secret")), DSTREAM_ESAS);
}

static void test_module_token(void **state) {
  struct identity_device device;
  assert_int_equal(identity_add(*state, "dev", NOW, &device), DSTREAM_OK);
  struct slice token = token_for("hub.example.net/devices/dev/modules/m1",
                                 &device.primary, NOW + 9, NULL);
  assert_int_equal(check(*state, "dev/m1", token), DSTREAM_OK);
  assert_int_equal(check(*state, "dev/m2", token), DSTREAM_EUNAUTHORIZED);
  assert_int_equal(check(*state, "dev", token), DSTREAM_EUNAUTHORIZED);
}

static void test_policy_token(void **state) {
  struct identity_policy policy;
  assert_int_equal(identity_add(*state, "dev", NOW, NULL), DSTREAM_OK);
  assert_int_equal(identity_policy_get(*state, "device", &policy), DSTREAM_OK);
  struct slice token =
      token_for("hub.example.net", &policy.primary, NOW + 9, "device");
  assert_int_equal(check(*state, "dev", token), DSTREAM_OK);
  assert_int_equal(check(*state, "none", token), DSTREAM_ENOTFOUND);
  token = token_for("hub.example.net/devices/dev", &policy.secondary, NOW + 9,
                    "device");
  assert_int_equal(check(*state, "dev", token), DSTREAM_OK);
  token = token_for("hub.example.net", &policy.primary, NOW + 9, "service");
  assert_int_equal(check(*state, "dev", token), DSTREAM_EUNAUTHORIZED);
  token = token_for("hub.example.net", &policy.primary, NOW + 9, "none");
  assert_int_equal(check(*state, "dev", token), DSTREAM_EUNAUTHORIZED);
  assert_int_equal(identity_policy_get(*state, "service", &policy), DSTREAM_OK);
  token = token_for("hub.example.net", &policy.primary, NOW + 9, "service");
  assert_int_equal(check(*state, "dev", token), DSTREAM_EUNAUTHORIZED);
}

static int service(struct identity_store *store, struct slice token,
                   unsigned rights) {
  struct identity_grant grant;
  return identity_check_service_sas(store, &names, token, rights, NOW, &grant,
                                    NULL);
}

static void test_service_token(void **state) {
  struct identity_policy policy;
  assert_int_equal(identity_policy_get(*state, "service", &policy), DSTREAM_OK);
  struct slice token =
      token_for("HUB.example.net", &policy.primary, NOW + 9, "service");
  assert_int_equal(service(*state, token, IDENTITY_SERVICE_CONNECT),
                   DSTREAM_OK);
  assert_int_equal(service(*state, token, IDENTITY_REGISTRY_READ),
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(service(*state, token, IDENTITY_ALL_RIGHTS),
                   DSTREAM_EUNAUTHORIZED);
  token = token_for("hub.example.net/devices/dev", &policy.primary, NOW + 9,
                    "service");
  assert_int_equal(service(*state, token, IDENTITY_SERVICE_CONNECT),
                   DSTREAM_EUNAUTHORIZED);
  token = token_for("hub.example.net", &policy.primary, NOW + 9, NULL);
  assert_int_equal(service(*state, token, IDENTITY_SERVICE_CONNECT),
                   DSTREAM_EUNAUTHORIZED);
  token = token_for("hub.example.net", &policy.primary, NOW, "service");
  assert_int_equal(service(*state, token, IDENTITY_SERVICE_CONNECT),
                   DSTREAM_EUNAUTHORIZED);
}

static void test_recheck(void **state) {
  struct identity_device device;
  struct identity_grant grant;
  assert_int_equal(identity_add(*state, "dev", NOW, &device), DSTREAM_OK);
  struct slice token =
      token_for("hub.example.net/devices/dev", &device.primary, NOW + 9, NULL);
  assert_int_equal(identity_check_device_sas(*state, &names, "dev", token, NOW,
                                             &grant, NULL),
                   DSTREAM_OK);
  device.enabled = false;
  assert_int_equal(identity_put(*state, &device), DSTREAM_OK);
  assert_int_equal(identity_recheck(*state, "dev", &grant),
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(check(*state, "dev", token), DSTREAM_EUNAUTHORIZED);
  device.enabled = true;
  device.primary.bytes[3] ^= 1;
  assert_int_equal(identity_put(*state, &device), DSTREAM_OK);
  assert_int_equal(identity_recheck(*state, "dev", &grant),
                   DSTREAM_EUNAUTHORIZED);
  device.secondary = device.primary;
  device.secondary.bytes[3] ^= 1; /* the old primary, rotated */
  assert_int_equal(identity_put(*state, &device), DSTREAM_OK);
  assert_int_equal(identity_recheck(*state, "dev", &grant), DSTREAM_OK);
  assert_int_equal(identity_remove(*state, "dev"), DSTREAM_OK);
  assert_int_equal(identity_recheck(*state, "dev", &grant), DSTREAM_ENOTFOUND);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ids),
      TEST(test_create_is_private_and_never_overwrites),
      TEST(test_default_policies),
      TEST(test_add_get_remove),
      TEST(test_put_replaces),
      TEST(test_list_in_order),
      TEST(test_second_connection),
      TEST(test_open_refuses_other_files),
      TEST(test_device_token),
      TEST(test_module_token),
      TEST(test_policy_token),
      TEST(test_service_token),
      TEST(test_recheck),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
