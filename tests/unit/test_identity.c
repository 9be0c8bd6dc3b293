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
#include "core/crypto.h"
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
  assert_int_equal(identity_policy_get(*state, "registryRead", &policy),
                   DSTREAM_OK);
  assert_int_equal(policy.rights, IDENTITY_REGISTRY_READ);
  assert_int_equal(identity_policy_get(*state, "registryReadWrite", &policy),
                   DSTREAM_OK);
  assert_int_equal(policy.rights,
                   IDENTITY_REGISTRY_READ | IDENTITY_REGISTRY_WRITE);
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

/* ---- certificates ---- */

#define SHA1_HEX "0102030405060708090a0b0c0d0e0f1011121314"
#define SHA1_COLONS                                                            \
  "01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14"
#define SHA256_HEX                                                             \
  "a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0"

/* With the two thumbprints above. */
static struct identity_certificate certificate_of(const char *name,
                                                  bool trusted) {
  struct identity_certificate certificate = {
      .trusted = trusted, .not_before_s = NOW - 60, .not_after_s = NOW + 60};
  for (unsigned i = 0; i < IDENTITY_SHA1_LEN; i++)
    certificate.thumbprints.sha1[i] = (uint8_t)(i + 1);
  for (unsigned i = 0; i < IDENTITY_SHA256_LEN; i++)
    certificate.thumbprints.sha256[i] = (uint8_t)(0xa1 + i);
  snprintf(certificate.name, sizeof certificate.name, "%s", name);
  return certificate;
}

static int show(struct identity_store *store, const char *client,
                const struct identity_certificate *certificate,
                struct identity_grant *grant) {
  struct dstream_end end = {0};
  int status =
      identity_check_certificate(store, client, certificate, NOW, grant, &end);
  if (status != DSTREAM_OK)
    assert_true(end.status == status && end.text[0] != '\0');
  return status;
}

static void test_thumbprint_text(void **state) {
  (void)state;
  char out[IDENTITY_THUMBPRINT_SIZE];
  assert_true(identity_thumbprint(SHA1_HEX, out));
  assert_string_equal(out, SHA1_HEX);
  assert_true(identity_thumbprint(SHA1_COLONS, out));
  assert_string_equal(out, SHA1_HEX);
  assert_true(identity_thumbprint(SHA256_HEX, out));
  static const char *const bad[] = {
      "",           "01",
      SHA1_HEX "0", SHA1_HEX ":",
      ":" SHA1_HEX, SHA256_HEX "00",
      "g" SHA1_HEX, " " SHA1_HEX,
      "0:1",        "01::02030405060708090a0b0c0d0e0f1011121314"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_false(identity_thumbprint(bad[i], out));
}

static void test_thumbprint_device(void **state) {
  struct identity_grant grant;
  struct identity_device device;
  struct identity_certificate shown = certificate_of("whatever", false);
  assert_int_equal(
      identity_add_x509(*state, "d", 1, IDENTITY_THUMBPRINT, NULL, SHA1_HEX),
      DSTREAM_EINVAL);
  assert_int_equal(
      identity_add_x509(*state, "d", 1, IDENTITY_THUMBPRINT, "12", NULL),
      DSTREAM_EINVAL);
  assert_int_equal(
      identity_add_x509(*state, "d", 1, IDENTITY_KEYS, SHA1_HEX, NULL),
      DSTREAM_EINVAL);
  assert_int_equal(identity_add_x509(*state, "first", 1, IDENTITY_THUMBPRINT,
                                     SHA1_COLONS, NULL),
                   DSTREAM_OK);
  assert_int_equal(identity_add_x509(*state, "first", 1, IDENTITY_THUMBPRINT,
                                     SHA1_HEX, NULL),
                   DSTREAM_ESTATE);
  assert_int_equal(identity_add_x509(*state, "second", 1, IDENTITY_THUMBPRINT,
                                     "ffffffffffffffffffffffffffffffffffffffff",
                                     SHA256_HEX),
                   DSTREAM_OK);
  assert_int_equal(show(*state, "first", &shown, &grant), DSTREAM_OK);
  assert_int_equal(grant.expiry_s, NOW + 60);
  assert_int_equal(identity_recheck(*state, "first", &grant), DSTREAM_OK);
  assert_int_equal(show(*state, "first/module", &shown, &grant), DSTREAM_OK);
  assert_int_equal(show(*state, "second", &shown, &grant), DSTREAM_OK);
  assert_int_equal(show(*state, "third", &shown, &grant), DSTREAM_ENOTFOUND);
  assert_int_equal(show(*state, "a b", &shown, &grant), DSTREAM_EINVAL);

  /* A key that it never had is no way in. */
  assert_int_equal(identity_get(*state, "first", &device), DSTREAM_OK);
  assert_int_equal(check(*state, "first",
                         token_for("127.0.0.1/devices/first", &device.primary,
                                   NOW + 60, NULL)),
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(identity_new_key(*state, "first", IDENTITY_PRIMARY, NULL),
                   DSTREAM_ESTATE);

  /* Its dates, and the other certificate. */
  assert_int_equal(show(*state, "first", &shown, &grant), DSTREAM_OK);
  shown.not_before_s = NOW + 1;
  assert_int_equal(show(*state, "first", &shown, &grant),
                   DSTREAM_EUNAUTHORIZED);
  shown = certificate_of("whatever", false);
  shown.not_after_s = NOW - 1;
  assert_int_equal(show(*state, "first", &shown, &grant),
                   DSTREAM_EUNAUTHORIZED);
  shown = certificate_of("first", true);
  shown.thumbprints.sha1[19]++;
  assert_int_equal(show(*state, "first", &shown, &grant),
                   DSTREAM_EUNAUTHORIZED);
  shown.thumbprints.sha256[0]++;
  assert_int_equal(show(*state, "second", &shown, &grant),
                   DSTREAM_EUNAUTHORIZED);
}

static void test_ca_device(void **state) {
  struct identity_grant grant;
  struct identity_certificate shown = certificate_of("d", true);
  assert_int_equal(identity_add_x509(*state, "d", 1, IDENTITY_CA, NULL, NULL),
                   DSTREAM_OK);
  assert_int_equal(
      identity_add_x509(*state, "other", 1, IDENTITY_CA, NULL, NULL),
      DSTREAM_OK);
  assert_int_equal(show(*state, "d", &shown, &grant), DSTREAM_OK);
  assert_int_equal(identity_recheck(*state, "d", &grant), DSTREAM_OK);
  assert_int_equal(show(*state, "other", &shown, &grant),
                   DSTREAM_EUNAUTHORIZED);
  shown.trusted = false;
  assert_int_equal(show(*state, "d", &shown, &grant), DSTREAM_EUNAUTHORIZED);
  shown = certificate_of("D", true);
  assert_int_equal(show(*state, "d", &shown, &grant), DSTREAM_EUNAUTHORIZED);
  /* What was granted ends with the device's way to prove itself. */
  shown = certificate_of("d", true);
  assert_int_equal(show(*state, "d", &shown, &grant), DSTREAM_OK);
  assert_int_equal(identity_set_enabled(*state, "d", false, 1), DSTREAM_OK);
  assert_int_equal(identity_recheck(*state, "d", &grant),
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(show(*state, "d", &shown, &grant), DSTREAM_EUNAUTHORIZED);
  assert_int_equal(identity_remove(*state, "d"), DSTREAM_OK);
  assert_int_equal(identity_recheck(*state, "d", &grant), DSTREAM_ENOTFOUND);
  assert_int_equal(identity_add(*state, "d", 1, NULL), DSTREAM_OK);
  assert_int_equal(identity_recheck(*state, "d", &grant),
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(show(*state, "d", &shown, &grant), DSTREAM_EUNAUTHORIZED);
}

/* ---- keys and groups ---- */

static void test_rotation(void **state) {
  struct identity_device device;
  struct identity_key key;
  struct identity_grant first, second;
  struct dstream_end end;
  assert_int_equal(identity_add(*state, "d", 1, &device), DSTREAM_OK);
  assert_int_equal(
      identity_check_device_sas(
          *state, &names, "d",
          token_for("127.0.0.1/devices/d", &device.primary, NOW + 60, NULL),
          NOW, &first, &end),
      DSTREAM_OK);
  assert_int_equal(
      identity_check_device_sas(
          *state, &names, "d",
          token_for("127.0.0.1/devices/d", &device.secondary, NOW + 60, NULL),
          NOW, &second, &end),
      DSTREAM_OK);
  assert_int_equal(identity_new_key(*state, "d", IDENTITY_PRIMARY, &key),
                   DSTREAM_OK);
  assert_int_equal(key.len, IDENTITY_KEY_LEN);
  assert_memory_not_equal(key.bytes, device.primary.bytes, key.len);
  assert_int_equal(identity_recheck(*state, "d", &first),
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(identity_recheck(*state, "d", &second), DSTREAM_OK);
  assert_int_equal(
      check(*state, "d",
            token_for("127.0.0.1/devices/d", &key, NOW + 60, NULL)),
      DSTREAM_OK);
  assert_int_equal(identity_new_key(*state, "d", IDENTITY_SECONDARY, NULL),
                   DSTREAM_OK);
  assert_int_equal(identity_recheck(*state, "d", &second),
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(identity_new_key(*state, "e", IDENTITY_PRIMARY, NULL),
                   DSTREAM_ENOTFOUND);
}

static bool count_group(void *user, const struct identity_group *group) {
  assert_true(group->name[0] != '\0');
  ++*(unsigned *)user;
  return true;
}

/* The example of the official provisioning service's manual. */
static void test_derivation(void **state) {
  (void)state;
  static const char group_text[] =
      "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG"
      "1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
  static const char id[] = "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6";
  char text[CRYPTO_BASE64_SIZE(IDENTITY_KEY_MAX)];
  struct identity_key group, key;
  assert_int_equal(crypto_base64_decode(group_text, sizeof group_text - 1,
                                        group.bytes, sizeof group.bytes,
                                        &group.len),
                   DSTREAM_OK);
  assert_int_equal(group.len, 64);
  assert_int_equal(identity_group_derive(&group, id, &key), DSTREAM_OK);
  crypto_base64_encode(key.bytes, key.len, text, sizeof text);
  assert_string_equal(text, "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=");
}

static void test_group_tokens(void **state) {
  struct identity_group group;
  struct identity_key key, other;
  struct identity_grant grant;
  struct dstream_end end;
  bool enabled = false;
  assert_int_equal(identity_group_add(*state, "fleet", "fleet-"), DSTREAM_OK);
  assert_int_equal(identity_group_add(*state, "all", ""), DSTREAM_OK);
  assert_int_equal(identity_group_get(*state, "fleet", &group), DSTREAM_OK);
  assert_int_equal(identity_group_derive(&group.secondary, "fleet-1", &key),
                   DSTREAM_OK);
  struct slice token =
      token_for("127.0.0.1/devices/fleet-1", &key, NOW + 60, NULL);
  assert_int_equal(identity_check_device_sas(*state, &names, "fleet-1", token,
                                             NOW, &grant, &end),
                   DSTREAM_OK);
  assert_int_equal(identity_recheck(*state, "fleet-1", &grant), DSTREAM_OK);
  assert_int_equal(
      check(*state, "fleet-2",
            token_for("127.0.0.1/devices/fleet-2", &key, NOW + 60, NULL)),
      DSTREAM_EUNAUTHORIZED);
  /* The group's key itself is nobody's. */
  assert_int_equal(check(*state, "fleet-1",
                         token_for("127.0.0.1/devices/fleet-1", &group.primary,
                                   NOW + 60, NULL)),
                   DSTREAM_EUNAUTHORIZED);
  /* An id of both groups may use either. */
  assert_int_equal(identity_group_get(*state, "all", &group), DSTREAM_OK);
  assert_int_equal(identity_group_derive(&group.primary, "fleet-1", &other),
                   DSTREAM_OK);
  assert_int_equal(
      check(*state, "fleet-1",
            token_for("127.0.0.1/devices/fleet-1", &other, NOW + 60, NULL)),
      DSTREAM_OK);
  assert_int_equal(identity_group_remove(*state, "all"), DSTREAM_OK);
  assert_int_equal(identity_known(*state, "fleet-1", &enabled), DSTREAM_OK);
  assert_true(enabled);
  assert_int_equal(identity_known(*state, "fleet", &enabled),
                   DSTREAM_ENOTFOUND);

  /* One of them disabled, then one with an entry of its own. */
  token = token_for("127.0.0.1/devices/fleet-1", &key, NOW + 60, NULL);
  assert_int_equal(identity_set_enabled(*state, "fleet-1", true, 1),
                   DSTREAM_OK);
  assert_int_equal(identity_set_enabled(*state, "fleet-1", false, 1),
                   DSTREAM_OK);
  assert_int_equal(identity_set_enabled(*state, "float-1", false, 1),
                   DSTREAM_ENOTFOUND);
  assert_int_equal(identity_recheck(*state, "fleet-1", &grant),
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(check(*state, "fleet-1", token), DSTREAM_EUNAUTHORIZED);
  assert_int_equal(identity_known(*state, "fleet-1", &enabled), DSTREAM_OK);
  assert_false(enabled);
  assert_int_equal(identity_set_enabled(*state, "fleet-1", true, 1),
                   DSTREAM_OK);
  assert_int_equal(check(*state, "fleet-1", token), DSTREAM_OK);
  assert_int_equal(identity_remove(*state, "fleet-1"), DSTREAM_OK);
  assert_int_equal(check(*state, "fleet-1", token), DSTREAM_OK);
  assert_int_equal(identity_add(*state, "fleet-1", 1, NULL), DSTREAM_OK);
  assert_int_equal(check(*state, "fleet-1", token), DSTREAM_EUNAUTHORIZED);
  assert_int_equal(identity_remove(*state, "fleet-1"), DSTREAM_OK);

  /* Its keys, and its end. */
  assert_int_equal(identity_group_new_key(*state, "fleet", IDENTITY_PRIMARY),
                   DSTREAM_OK);
  assert_int_equal(check(*state, "fleet-1", token), DSTREAM_OK);
  assert_int_equal(identity_group_new_key(*state, "fleet", IDENTITY_SECONDARY),
                   DSTREAM_OK);
  assert_int_equal(check(*state, "fleet-1", token), DSTREAM_EUNAUTHORIZED);
  assert_int_equal(identity_recheck(*state, "fleet-1", &grant),
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(identity_set_enabled(*state, "fleet-1", false, 1),
                   DSTREAM_OK);
  assert_int_equal(identity_group_remove(*state, "fleet"), DSTREAM_OK);
  assert_int_equal(identity_known(*state, "fleet-1", &enabled),
                   DSTREAM_ENOTFOUND);
  assert_int_equal(identity_group_remove(*state, "fleet"), DSTREAM_ENOTFOUND);
}

static void test_groups_are_bounded(void **state) {
  char name[16];
  unsigned count = 0;
  static const char *const bad[] = {"", "a b", "a/b", "a:b"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(identity_group_add(*state, bad[i], ""), DSTREAM_EINVAL);
  assert_int_equal(identity_group_add(*state, "a", "b/"), DSTREAM_EINVAL);
  for (unsigned i = 0; i < IDENTITY_GROUPS_MAX; i++) {
    snprintf(name, sizeof name, "g%u", i);
    assert_int_equal(identity_group_add(*state, name, name), DSTREAM_OK);
  }
  assert_int_equal(identity_group_add(*state, "g1", ""), DSTREAM_ESTATE);
  assert_int_equal(identity_group_add(*state, "more", ""), DSTREAM_ELIMIT);
  assert_int_equal(identity_group_each(*state, NULL, count_group, &count),
                   DSTREAM_OK);
  assert_int_equal(count, IDENTITY_GROUPS_MAX);
  count = 0;
  assert_int_equal(identity_group_each(*state, "g12", count_group, &count),
                   DSTREAM_OK);
  assert_int_equal(count, 2); /* g1, g12 */
}

/* ---- databases that older versions have made, with what they had ---- */

#define VERSION_1                                                              \
  "PRAGMA journal_mode=WAL;"                                                   \
  "CREATE TABLE devices(id TEXT PRIMARY KEY NOT NULL,"                         \
  " primary_key BLOB NOT NULL, secondary_key BLOB NOT NULL,"                   \
  " enabled INTEGER NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;"        \
  "CREATE TABLE policies(name TEXT PRIMARY KEY NOT NULL,"                      \
  " primary_key BLOB NOT NULL, secondary_key BLOB NOT NULL,"                   \
  " rights INTEGER NOT NULL) WITHOUT ROWID;"
#define VERSION_2                                                              \
  "ALTER TABLE devices ADD COLUMN auth INTEGER NOT NULL DEFAULT 0;"            \
  "ALTER TABLE devices ADD COLUMN thumbprint TEXT NOT NULL DEFAULT '';"        \
  "ALTER TABLE devices ADD COLUMN thumbprint2 TEXT NOT NULL DEFAULT '';"       \
  "CREATE TABLE key_groups(name TEXT PRIMARY KEY NOT NULL,"                    \
  " prefix TEXT NOT NULL, primary_key BLOB NOT NULL,"                          \
  " secondary_key BLOB NOT NULL) WITHOUT ROWID;"
#define OLD_DEVICES                                                            \
  "INSERT INTO devices(id, primary_key, secondary_key, enabled, created)"      \
  " VALUES('old', zeroblob(32), randomblob(16), 1, 7);"                        \
  "INSERT INTO devices(id, primary_key, secondary_key, enabled, created)"      \
  " VALUES('other', zeroblob(32), zeroblob(64), 0, 8);"

static struct identity_store *migrated(void **state, const char *sql) {
  struct identity_store *store = NULL;
  struct identity_device device, other;
  sqlite3 *db = NULL;
  identity_close(*state);
  *state = NULL;
  unlink(path);
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
  char etag[IDENTITY_TAG_SIZE] = "";
  for (int i = 0; i < 2; i++) {
    assert_int_equal(identity_open(&store, path, i == 0, NULL), DSTREAM_OK);
    assert_int_equal(identity_get(store, "old", &device), DSTREAM_OK);
    assert_int_equal(device.created_s, 7);
    assert_int_equal(device.auth, IDENTITY_KEYS);
    assert_true(device.enabled);
    assert_int_equal(device.secondary.len, 16);
    assert_int_equal(device.status_s, 0);
    assert_string_equal(device.status_reason, "");
    assert_int_equal(strlen(device.generation), IDENTITY_TAG_SIZE - 1);
    assert_int_equal(strlen(device.etag), IDENTITY_TAG_SIZE - 1);
    assert_int_equal(identity_get(store, "other", &other), DSTREAM_OK);
    assert_false(other.enabled);
    assert_string_not_equal(device.etag, other.etag);
    assert_string_not_equal(device.generation, other.generation);
    if (i == 0) {
      memcpy(etag, device.etag, sizeof etag);
      identity_close(store);
    }
  }
  assert_string_equal(device.etag, etag); /* it was done once */
  return store;
}

static void test_version_1(void **state) {
  struct identity_store *store =
      migrated(state, VERSION_1 OLD_DEVICES "PRAGMA user_version=1;");
  assert_int_equal(identity_group_add(store, "g", ""), DSTREAM_OK);
  *state = store;
}

static void test_version_2(void **state) {
  struct identity_store *store = migrated(
      state, VERSION_1 OLD_DEVICES VERSION_2
      "INSERT INTO key_groups VALUES('g', 'g-', zeroblob(32), zeroblob(32));"
      "INSERT INTO devices VALUES('x', zeroblob(32), zeroblob(32), 1, 9, 2,"
      " '', '');"
      "PRAGMA user_version=2;");
  struct identity_group group;
  struct identity_device device;
  assert_int_equal(identity_group_get(store, "g", &group), DSTREAM_OK);
  assert_string_equal(group.prefix, "g-");
  assert_int_equal(identity_get(store, "x", &device), DSTREAM_OK);
  assert_int_equal(device.auth, IDENTITY_CA);
  *state = store;
}

/* Half of a step is none: the next program begins anew. */
static void test_broken_version(void **state) {
  struct identity_store *store = NULL;
  struct dstream_end end;
  sqlite3 *db = NULL;
  identity_close(*state);
  *state = NULL;
  unlink(path);
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  /* A column of version 3 is there already: its step fails. */
  assert_int_equal(
      sqlite3_exec(db,
                   VERSION_1 OLD_DEVICES
                   "ALTER TABLE devices ADD COLUMN status_updated INTEGER;"
                   "PRAGMA user_version=1;",
                   NULL, NULL, NULL),
      SQLITE_OK);
  assert_int_equal(identity_open(&store, path, false, &end), DSTREAM_EFORMAT);
  sqlite3_stmt *stmt = NULL;
  assert_int_equal(
      sqlite3_prepare_v2(db, "SELECT thumbprint FROM devices", -1, &stmt, NULL),
      SQLITE_ERROR); /* version 2's was taken back */
  sqlite3_close(db);
}

/* ---- tags, reasons, transactions ---- */

static void get(struct identity_store *store, const char *id,
                struct identity_device *device) {
  assert_int_equal(identity_get(store, id, device), DSTREAM_OK);
}

static void assert_new_etag(struct identity_store *store,
                            struct identity_device *device) {
  char old[IDENTITY_TAG_SIZE];
  char generation[IDENTITY_TAG_SIZE];
  memcpy(old, device->etag, sizeof old);
  memcpy(generation, device->generation, sizeof generation);
  get(store, device->id, device);
  assert_string_not_equal(device->etag, old);
  assert_string_equal(device->generation, generation);
}

static void test_tags(void **state) {
  struct identity_device device;
  char generation[IDENTITY_TAG_SIZE];
  assert_int_equal(identity_add(*state, "dev", NOW, &device), DSTREAM_OK);
  assert_int_equal(device.status_s, 0);
  assert_int_equal(identity_set_enabled(*state, "dev", false, NOW + 5),
                   DSTREAM_OK);
  assert_new_etag(*state, &device);
  assert_int_equal(device.status_s, NOW + 5);
  assert_int_equal(identity_set_enabled(*state, "dev", false, NOW + 6),
                   DSTREAM_OK);
  assert_new_etag(*state, &device);
  assert_int_equal(device.status_s, NOW + 5); /* it was disabled before */
  for (int i = 0; i < 2; i++) {
    assert_int_equal(
        identity_new_key(*state, "dev", (enum identity_which)i, NULL),
        DSTREAM_OK);
    assert_new_etag(*state, &device);
  }
  snprintf(device.etag, sizeof device.etag, "mine");
  snprintf(device.status_reason, sizeof device.status_reason, "b\xc3\xb6se");
  device.status_s = NOW + 7;
  assert_int_equal(identity_put(*state, &device), DSTREAM_OK);
  snprintf(device.generation, sizeof device.generation, "%s", "");
  get(*state, "dev", &device);
  assert_string_not_equal(device.etag, "mine");
  assert_string_equal(device.status_reason, "b\xc3\xb6se");
  assert_int_equal(device.status_s, NOW + 5);
  device.enabled = true;
  device.status_s = NOW + 8;
  assert_int_equal(identity_put(*state, &device), DSTREAM_OK);
  assert_new_etag(*state, &device);
  assert_int_equal(device.status_s, NOW + 8);
  memcpy(generation, device.generation, sizeof generation);
  assert_int_equal(identity_remove(*state, "dev"), DSTREAM_OK);
  assert_int_equal(identity_put(*state, &device), DSTREAM_OK);
  get(*state, "dev", &device);
  assert_string_not_equal(device.generation, generation);
}

static void test_reasons(void **state) {
  char longest[IDENTITY_REASON_MAX + 2];
  memset(longest, 'r', sizeof longest);
  longest[IDENTITY_REASON_MAX + 1] = '\0';
  (void)state;
  assert_false(identity_reason_valid(longest));
  longest[IDENTITY_REASON_MAX] = '\0';
  assert_true(identity_reason_valid(longest));
  static const char *const good[] = {"",
                                     "\"quoted\" \\",
                                     "\xc2\xa0",
                                     "\xe2\x82\xac",
                                     "\xed\x9f\xbf",
                                     "\xf0\x9f\x98\x80",
                                     "\xf4\x8f\xbf\xbf"};
  static const char *const bad[] = {"a\nb",
                                    "\x7f",
                                    "\x80",
                                    "\xc2",
                                    "\xc2\x80",
                                    "\xc0\x80",
                                    "\xe0\x80\x80",
                                    "\xed\xa0\x80",
                                    "\xf4\x90\x80\x80",
                                    "\xf8\x88\x80\x80\x80",
                                    "\xe2\x82",
                                    "\xff"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    assert_true(identity_reason_valid(good[i]));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    if (identity_reason_valid(bad[i]))
      fail_msg("bad %zu", i);
  }
}

static void test_transactions(void **state) {
  struct identity_store *reader = NULL;
  size_t devices = 0, disabled = 0;
  assert_int_equal(identity_open(&reader, path, true, NULL), DSTREAM_OK);
  assert_int_equal(identity_begin(*state), DSTREAM_OK);
  assert_int_equal(identity_add(*state, "a", NOW, NULL), DSTREAM_OK);
  assert_int_equal(identity_add(*state, "a", NOW, NULL), DSTREAM_ESTATE);
  assert_int_equal(identity_add(*state, "b", NOW, NULL), DSTREAM_OK);
  assert_int_equal(identity_remove(*state, "c"), DSTREAM_ENOTFOUND);
  assert_int_equal(identity_count(reader, &devices, &disabled), DSTREAM_OK);
  assert_int_equal(devices, 0);
  assert_int_equal(identity_commit(*state), DSTREAM_OK);
  assert_int_equal(identity_count(reader, &devices, &disabled), DSTREAM_OK);
  assert_int_equal(devices, 2);
  assert_int_equal(disabled, 0);
  assert_int_equal(identity_begin(*state), DSTREAM_OK);
  assert_int_equal(identity_remove(*state, "a"), DSTREAM_OK);
  assert_int_equal(identity_set_enabled(*state, "b", false, NOW), DSTREAM_OK);
  identity_rollback(*state);
  identity_rollback(*state);
  assert_int_equal(identity_count(reader, &devices, &disabled), DSTREAM_OK);
  assert_true(devices == 2 && disabled == 0);
  assert_int_equal(identity_set_enabled(*state, "b", false, NOW), DSTREAM_OK);
  assert_int_equal(identity_count(reader, &devices, &disabled), DSTREAM_OK);
  assert_true(devices == 2 && disabled == 1);
  identity_close(reader);
}

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
      cmocka_unit_test(test_thumbprint_text),
      TEST(test_thumbprint_device),
      TEST(test_ca_device),
      TEST(test_rotation),
      cmocka_unit_test(test_derivation),
      TEST(test_group_tokens),
      TEST(test_groups_are_bounded),
      TEST(test_version_1),
      TEST(test_version_2),
      TEST(test_broken_version),
      TEST(test_tags),
      cmocka_unit_test(test_reasons),
      TEST(test_transactions),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
