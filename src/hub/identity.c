#include "hub/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/conn_string.h"
#include "core/crypto.h"
#include "core/end.h"
#include "core/sas.h"

#define SCHEMA_VERSION 1
#define BUSY_WRITER_MS 5000
#define BUSY_READER_MS 100

struct identity_store {
  sqlite3 *db;
  sqlite3_stmt *device_get;
  sqlite3_stmt *policy_get;
  sqlite3_stmt *data_version;
  int64_t seen_version;
};

static const char schema[] =
    "PRAGMA journal_mode=WAL;"
    "BEGIN IMMEDIATE;"
    "CREATE TABLE devices(id TEXT PRIMARY KEY NOT NULL,"
    " primary_key BLOB NOT NULL, secondary_key BLOB NOT NULL,"
    " enabled INTEGER NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE policies(name TEXT PRIMARY KEY NOT NULL,"
    " primary_key BLOB NOT NULL, secondary_key BLOB NOT NULL,"
    " rights INTEGER NOT NULL) WITHOUT ROWID;"
    "PRAGMA user_version=1;"
    "COMMIT;";

#define DEVICE_COLUMNS "id, primary_key, secondary_key, enabled, created"

/* ---- helpers ---- */

static bool policy_name_valid(const char *name) {
  size_t len = strlen(name);
  if (len == 0 || len > IDENTITY_POLICY_MAX)
    return false;
  return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                      "0123456789-_.") == len;
}

void identity_device_wipe(struct identity_device *device) {
  crypto_wipe(&device->primary, sizeof device->primary);
  crypto_wipe(&device->secondary, sizeof device->secondary);
}

void identity_policy_wipe(struct identity_policy *policy) {
  crypto_wipe(&policy->primary, sizeof policy->primary);
  crypto_wipe(&policy->secondary, sizeof policy->secondary);
}

static int new_key(struct identity_key *key) {
  key->len = IDENTITY_KEY_LEN;
  return crypto_random(key->bytes, key->len);
}

static bool key_valid(const struct identity_key *key) {
  return key->len >= IDENTITY_KEY_MIN && key->len <= IDENTITY_KEY_MAX;
}

/* A row that was not written by this program may hold anything. */
static bool read_key(sqlite3_stmt *stmt, int column, struct identity_key *out) {
  const void *blob = sqlite3_column_blob(stmt, column);
  int len = sqlite3_column_bytes(stmt, column);
  if (blob == NULL || len < IDENTITY_KEY_MIN || len > IDENTITY_KEY_MAX)
    return false;
  memcpy(out->bytes, blob, (size_t)len);
  out->len = (size_t)len;
  return true;
}

static bool read_text(sqlite3_stmt *stmt, int column, char *out, size_t size) {
  const char *text = (const char *)sqlite3_column_text(stmt, column);
  if (text == NULL || strlen(text) >= size)
    return false;
  memcpy(out, text, strlen(text) + 1);
  return true;
}

static int bind_text(sqlite3_stmt *stmt, int index, const char *text) {
  return sqlite3_bind_text(stmt, index, text, -1, SQLITE_STATIC);
}

static int bind_key(sqlite3_stmt *stmt, int index,
                    const struct identity_key *key) {
  return sqlite3_bind_blob(stmt, index, key->bytes, (int)key->len,
                           SQLITE_STATIC);
}

static void rewind_statement(sqlite3_stmt *stmt) {
  sqlite3_reset(stmt);
  sqlite3_clear_bindings(stmt);
}

/* Runs a statement that returns no rows and finalizes it.  *changed (may be
 * NULL) is the number of rows it touched. */
static int finish(struct identity_store *store, sqlite3_stmt *stmt,
                  int *changed) {
  int rc = sqlite3_step(stmt);
  sqlite3_finalize(stmt);
  if (rc == SQLITE_CONSTRAINT)
    return DSTREAM_ESTATE;
  if (rc != SQLITE_DONE)
    return DSTREAM_EINTERNAL;
  if (changed != NULL)
    *changed = sqlite3_changes(store->db);
  return DSTREAM_OK;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *stmt = NULL;
  if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
    return NULL;
  return stmt;
}

/* ---- open and close ---- */

static int64_t data_version(struct identity_store *store) {
  int64_t version = store->seen_version;
  if (sqlite3_step(store->data_version) == SQLITE_ROW)
    version = sqlite3_column_int64(store->data_version, 0);
  sqlite3_reset(store->data_version);
  return version;
}

bool identity_changed(struct identity_store *store) {
  int64_t version = data_version(store);
  bool changed = version != store->seen_version;
  store->seen_version = version;
  return changed;
}

static int check_version(sqlite3 *db, const char *path,
                         struct dstream_end *end) {
  int version = -1;
  sqlite3_stmt *stmt = prepare(db, "PRAGMA user_version");
  if (stmt != NULL && sqlite3_step(stmt) == SQLITE_ROW)
    version = sqlite3_column_int(stmt, 0);
  sqlite3_finalize(stmt);
  if (version == SCHEMA_VERSION)
    return DSTREAM_OK;
  if (version > SCHEMA_VERSION)
    end_set(end, DSTREAM_EFORMAT,
            "%.120s was written by a newer dstream-hub (version %d): use that",
            path, version);
  else
    end_set(end, DSTREAM_EFORMAT, "%.120s is not an identity database", path);
  return DSTREAM_EFORMAT;
}

static int prepare_all(struct identity_store *store) {
  store->device_get = prepare(store->db, "SELECT " DEVICE_COLUMNS
                                         " FROM devices WHERE id = ?1");
  store->policy_get =
      prepare(store->db, "SELECT name, primary_key, secondary_key, rights"
                         " FROM policies WHERE name = ?1");
  store->data_version = prepare(store->db, "PRAGMA data_version");
  if (store->device_get == NULL || store->policy_get == NULL ||
      store->data_version == NULL)
    return DSTREAM_EINTERNAL;
  store->seen_version = data_version(store);
  return DSTREAM_OK;
}

static int open_database(struct identity_store *store, const char *path,
                         bool read_only, struct dstream_end *end) {
  int flags = read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
  int rc = sqlite3_open_v2(path, &store->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
  if (rc != SQLITE_OK) {
    end_set(end, DSTREAM_ESYSTEM, "can't open %.120s: %.80s", path,
            sqlite3_errstr(rc));
    return DSTREAM_ESYSTEM;
  }
  sqlite3_busy_timeout(store->db, read_only ? BUSY_READER_MS : BUSY_WRITER_MS);
  return DSTREAM_OK;
}

int identity_open(struct identity_store **out, const char *path, bool read_only,
                  struct dstream_end *end) {
  if (access(path, F_OK) != 0) {
    end_set(end, DSTREAM_ENOTFOUND,
            "there is no %.120s: run `dstream-hub init` first", path);
    return DSTREAM_ENOTFOUND;
  }
  struct identity_store *store = calloc(1, sizeof *store);
  if (store == NULL) {
    end_set(end, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  int status = open_database(store, path, read_only, end);
  if (status == DSTREAM_OK)
    status = check_version(store->db, path, end);
  if (status == DSTREAM_OK) {
    status = prepare_all(store);
    if (status != DSTREAM_OK)
      end_set(end, status, "%.120s is damaged: %.80s", path,
              sqlite3_errmsg(store->db));
  }
  if (status != DSTREAM_OK) {
    identity_close(store);
    return status;
  }
  *out = store;
  return DSTREAM_OK;
}

void identity_close(struct identity_store *store) {
  if (store == NULL)
    return;
  sqlite3_finalize(store->device_get);
  sqlite3_finalize(store->policy_get);
  sqlite3_finalize(store->data_version);
  sqlite3_close(store->db);
  free(store);
}

/* SQLite gives its side files the mode of this one. */
static int make_file(const char *path, struct dstream_end *end) {
  int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) {
    close(fd);
    return DSTREAM_OK;
  }
  int status = errno == EEXIST ? DSTREAM_ESTATE : DSTREAM_ESYSTEM;
  int error = errno;
  end_set(end, status, "can't create %.120s: %.80s", path, strerror(error));
  if (end != NULL)
    end->sys_errno = error;
  return status;
}

static int add_default_policies(struct identity_store *store) {
  int status = identity_policy_add(store, "iothubowner", IDENTITY_ALL_RIGHTS);
  if (status == DSTREAM_OK)
    status = identity_policy_add(store, "service", IDENTITY_SERVICE_CONNECT);
  if (status == DSTREAM_OK)
    status = identity_policy_add(store, "device", IDENTITY_DEVICE_CONNECT);
  return status;
}

static int write_schema(const char *path, struct dstream_end *end) {
  struct identity_store store = {0};
  int status = open_database(&store, path, false, end);
  if (status == DSTREAM_OK &&
      sqlite3_exec(store.db, schema, NULL, NULL, NULL) != SQLITE_OK) {
    status = DSTREAM_ESYSTEM;
    end_set(end, status, "can't write %.120s: %.80s", path,
            sqlite3_errmsg(store.db));
  }
  sqlite3_close(store.db);
  return status;
}

int identity_create(struct identity_store **out, const char *path,
                    struct dstream_end *end) {
  struct identity_store *store = NULL;
  int status = make_file(path, end);
  if (status != DSTREAM_OK)
    return status;
  status = write_schema(path, end);
  if (status == DSTREAM_OK)
    status = identity_open(&store, path, false, end);
  if (status == DSTREAM_OK) {
    status = add_default_policies(store);
    if (status != DSTREAM_OK)
      end_set(end, status, "can't write the policies into %.120s", path);
  }
  if (status != DSTREAM_OK) {
    identity_close(store);
    unlink(path);
    return status;
  }
  *out = store;
  return DSTREAM_OK;
}

/* ---- devices ---- */

static bool read_device(sqlite3_stmt *stmt, struct identity_device *out) {
  memset(out, 0, sizeof *out);
  if (!read_text(stmt, 0, out->id, sizeof out->id) ||
      !read_key(stmt, 1, &out->primary) || !read_key(stmt, 2, &out->secondary))
    return false;
  out->enabled = sqlite3_column_int(stmt, 3) != 0;
  out->created_s = sqlite3_column_int64(stmt, 4);
  return true;
}

static int write_device(struct identity_store *store,
                        const struct identity_device *device, bool replace) {
  sqlite3_stmt *stmt = prepare(
      store->db, replace ? "INSERT INTO devices VALUES(?1, ?2, ?3, ?4, ?5)"
                           " ON CONFLICT(id) DO UPDATE SET primary_key = ?2,"
                           " secondary_key = ?3, enabled = ?4"
                         : "INSERT INTO devices VALUES(?1, ?2, ?3, ?4, ?5)");
  if (stmt == NULL)
    return DSTREAM_EINTERNAL;
  bind_text(stmt, 1, device->id);
  bind_key(stmt, 2, &device->primary);
  bind_key(stmt, 3, &device->secondary);
  sqlite3_bind_int(stmt, 4, device->enabled);
  sqlite3_bind_int64(stmt, 5, device->created_s);
  return finish(store, stmt, NULL);
}

int identity_add(struct identity_store *store, const char *id, int64_t now_s,
                 struct identity_device *out) {
  if (!conn_string_id_valid(slice_of(id)))
    return DSTREAM_EINVAL;
  struct identity_device device = {.enabled = true, .created_s = now_s};
  memcpy(device.id, id, strlen(id) + 1);
  int status = new_key(&device.primary);
  if (status == DSTREAM_OK)
    status = new_key(&device.secondary);
  if (status == DSTREAM_OK)
    status = write_device(store, &device, false);
  if (status == DSTREAM_OK && out != NULL)
    *out = device;
  identity_device_wipe(&device);
  return status;
}

int identity_put(struct identity_store *store,
                 const struct identity_device *device) {
  struct slice id = {device->id, strnlen(device->id, sizeof device->id)};
  if (!conn_string_id_valid(id) || !key_valid(&device->primary) ||
      !key_valid(&device->secondary))
    return DSTREAM_EINVAL;
  return write_device(store, device, true);
}

int identity_remove(struct identity_store *store, const char *id) {
  sqlite3_stmt *stmt = prepare(store->db, "DELETE FROM devices WHERE id = ?1");
  if (stmt == NULL)
    return DSTREAM_EINTERNAL;
  bind_text(stmt, 1, id);
  int changed = 0;
  int status = finish(store, stmt, &changed);
  if (status != DSTREAM_OK)
    return status;
  return changed > 0 ? DSTREAM_OK : DSTREAM_ENOTFOUND;
}

int identity_get(struct identity_store *store, const char *id,
                 struct identity_device *out) {
  sqlite3_stmt *stmt = store->device_get;
  bind_text(stmt, 1, id);
  int rc = sqlite3_step(stmt);
  int status = DSTREAM_EINTERNAL;
  if (rc == SQLITE_DONE)
    status = DSTREAM_ENOTFOUND;
  else if (rc == SQLITE_ROW && read_device(stmt, out))
    status = DSTREAM_OK;
  rewind_statement(stmt);
  return status;
}

int identity_list(struct identity_store *store, const char *after, size_t limit,
                  bool (*fn)(void *user, const struct identity_device *device),
                  void *user) {
  sqlite3_stmt *stmt =
      prepare(store->db, "SELECT " DEVICE_COLUMNS " FROM devices"
                         " WHERE id > ?1 ORDER BY id LIMIT ?2");
  if (stmt == NULL)
    return DSTREAM_EINTERNAL;
  bind_text(stmt, 1, after != NULL ? after : "");
  sqlite3_bind_int64(stmt, 2, limit > INT32_MAX ? INT32_MAX : (int64_t)limit);
  struct identity_device device;
  int rc = SQLITE_DONE;
  bool more = true;
  while (more) {
    rc = sqlite3_step(stmt);
    if (rc != SQLITE_ROW)
      break;
    if (read_device(stmt, &device))
      more = fn(user, &device);
    identity_device_wipe(&device);
  }
  sqlite3_finalize(stmt);
  return rc == SQLITE_DONE || rc == SQLITE_ROW ? DSTREAM_OK : DSTREAM_EINTERNAL;
}

/* ---- policies ---- */

int identity_policy_add(struct identity_store *store, const char *name,
                        unsigned rights) {
  if (!policy_name_valid(name) || rights > IDENTITY_ALL_RIGHTS)
    return DSTREAM_EINVAL;
  struct identity_policy policy = {.rights = rights};
  int status = new_key(&policy.primary);
  if (status == DSTREAM_OK)
    status = new_key(&policy.secondary);
  sqlite3_stmt *stmt =
      prepare(store->db, "INSERT INTO policies VALUES(?1, ?2, ?3, ?4)");
  if (stmt != NULL && status == DSTREAM_OK) {
    bind_text(stmt, 1, name);
    bind_key(stmt, 2, &policy.primary);
    bind_key(stmt, 3, &policy.secondary);
    sqlite3_bind_int64(stmt, 4, (int64_t)rights);
    status = finish(store, stmt, NULL);
  } else {
    sqlite3_finalize(stmt);
    status = DSTREAM_EINTERNAL;
  }
  identity_policy_wipe(&policy);
  return status;
}

static bool read_policy(sqlite3_stmt *stmt, struct identity_policy *out) {
  memset(out, 0, sizeof *out);
  if (!read_text(stmt, 0, out->name, sizeof out->name) ||
      !read_key(stmt, 1, &out->primary) || !read_key(stmt, 2, &out->secondary))
    return false;
  out->rights = (unsigned)sqlite3_column_int(stmt, 3) & IDENTITY_ALL_RIGHTS;
  return true;
}

int identity_policy_get(struct identity_store *store, const char *name,
                        struct identity_policy *out) {
  sqlite3_stmt *stmt = store->policy_get;
  bind_text(stmt, 1, name);
  int rc = sqlite3_step(stmt);
  int status = DSTREAM_EINTERNAL;
  if (rc == SQLITE_DONE)
    status = DSTREAM_ENOTFOUND;
  else if (rc == SQLITE_ROW && read_policy(stmt, out))
    status = DSTREAM_OK;
  rewind_statement(stmt);
  return status;
}

/* ---- tokens ---- */

struct client_parts {
  char device[IDENTITY_ID_MAX + 1];
  char module[IDENTITY_ID_MAX + 1]; /* empty: the device itself */
};

static bool split_client(const char *client_id, struct client_parts *out) {
  memset(out, 0, sizeof *out);
  const char *slash = strchr(client_id, '/');
  struct slice device = slice_of(client_id);
  if (slash != NULL) {
    device.len = (size_t)(slash - client_id);
    struct slice module = slice_of(slash + 1);
    if (!conn_string_id_valid(module))
      return false;
    memcpy(out->module, module.p, module.len);
  }
  if (!conn_string_id_valid(device))
    return false;
  memcpy(out->device, device.p, device.len);
  return true;
}

static int key_tag(const struct identity_key *key, uint8_t *out, size_t size) {
  uint8_t digest[CRYPTO_SHA256_LEN];
  static const char label[] = "dstream identity";
  int status =
      crypto_hmac_sha256(key->bytes, key->len, label, sizeof label - 1, digest);
  if (status == DSTREAM_OK)
    memcpy(out, digest, size);
  crypto_wipe(digest, sizeof digest);
  return status;
}

/* Which of two keys signed, if any. */
static int check_keys(const struct sas *sas, const struct identity_key *first,
                      const struct identity_key *second,
                      struct identity_grant *grant) {
  const struct identity_key *keys[] = {first, second};
  int status = DSTREAM_EUNAUTHORIZED;
  for (size_t i = 0; i < 2 && status == DSTREAM_EUNAUTHORIZED; i++) {
    status = sas_check(sas, keys[i]->bytes, keys[i]->len);
    if (status == DSTREAM_OK)
      status = key_tag(keys[i], grant->key_tag, sizeof grant->key_tag);
  }
  return status;
}

static int check_policy(struct identity_store *store, const struct sas *sas,
                        unsigned rights, struct identity_grant *grant,
                        struct dstream_end *end) {
  struct identity_policy policy;
  if (sas_policy(sas, grant->policy, sizeof grant->policy) < 0) {
    end_set(end, DSTREAM_EUNAUTHORIZED, "the token's policy name is too long");
    return DSTREAM_EUNAUTHORIZED;
  }
  int status = identity_policy_get(store, grant->policy, &policy);
  if (status == DSTREAM_ENOTFOUND)
    status = DSTREAM_EUNAUTHORIZED;
  if (status != DSTREAM_OK) {
    end_set(end, status,
            status == DSTREAM_EUNAUTHORIZED
                ? "the token is of a policy that does not exist"
                : "the identity database failed");
    return status;
  }
  status = check_keys(sas, &policy.primary, &policy.secondary, grant);
  if (status != DSTREAM_OK) {
    end_set(end, status, "the token was not signed with the key of policy %s",
            policy.name);
  } else if ((policy.rights & rights) != rights) {
    status = DSTREAM_EUNAUTHORIZED;
    end_set(end, status, "policy %s lacks the right", policy.name);
  }
  identity_policy_wipe(&policy);
  return status;
}

static int check_device(struct identity_store *store, const char *id,
                        const struct sas *sas, bool by_policy,
                        struct identity_grant *grant, struct dstream_end *end) {
  struct identity_device device;
  int status = identity_get(store, id, &device);
  if (status != DSTREAM_OK) {
    end_set(end, status,
            status == DSTREAM_ENOTFOUND ? "there is no such device"
                                        : "the identity database failed");
    return status;
  }
  if (!device.enabled) {
    status = DSTREAM_EUNAUTHORIZED;
    end_set(end, status, "the device is disabled");
  } else if (!by_policy) {
    status = check_keys(sas, &device.primary, &device.secondary, grant);
    if (status != DSTREAM_OK)
      end_set(end, status, "the token was not signed with the device's key");
  }
  identity_device_wipe(&device);
  return status;
}

/* Whether the token's resource is one that this client may use. */
static bool resource_fits(const struct sas *sas,
                          const struct identity_names *names,
                          const struct client_parts *client, bool by_policy) {
  char resource[512 + 2 * IDENTITY_ID_MAX];
  for (size_t i = 0; i < names->count; i++) {
    const char *host = names->name[i];
    if (by_policy && sas_resource_is(sas, host))
      return true;
    snprintf(resource, sizeof resource, "%.255s/devices/%s", host,
             client->device);
    if (sas_resource_is(sas, resource))
      return true;
    if (client->module[0] == '\0')
      continue;
    snprintf(resource, sizeof resource, "%.255s/devices/%s/modules/%s", host,
             client->device, client->module);
    if (sas_resource_is(sas, resource))
      return true;
  }
  return false;
}

static int parse_token(struct sas *sas, struct slice token, uint64_t now_s,
                       struct dstream_end *end) {
  int status = sas_parse(sas, token.p, token.len);
  if (status != DSTREAM_OK) {
    end_set(end, status,
            token.len == 0
                ? "there is no token"
                : "the password is not a SharedAccessSignature token");
    return status;
  }
  if (!sas_expired(sas, now_s))
    return DSTREAM_OK;
  end_set(end, DSTREAM_EUNAUTHORIZED,
          "the token expired %llu s ago: is the device's clock right?",
          (unsigned long long)(now_s - sas->expiry));
  return DSTREAM_EUNAUTHORIZED;
}

int identity_check_device_sas(struct identity_store *store,
                              const struct identity_names *names,
                              const char *client_id, struct slice token,
                              uint64_t now_s, struct identity_grant *grant,
                              struct dstream_end *end) {
  struct client_parts client;
  struct sas sas;
  memset(grant, 0, sizeof *grant);
  if (!split_client(client_id, &client)) {
    end_set(end, DSTREAM_EINVAL, "the client id is not a device id");
    return DSTREAM_EINVAL;
  }
  int status = parse_token(&sas, token, now_s, end);
  if (status != DSTREAM_OK)
    return status;
  grant->expiry_s = sas.expiry;
  bool by_policy = sas.skn.len > 0;
  if (!resource_fits(&sas, names, &client, by_policy)) {
    end_set(end, DSTREAM_EUNAUTHORIZED,
            "the token is for another device or another hub name");
    return DSTREAM_EUNAUTHORIZED;
  }
  if (by_policy)
    status = check_policy(store, &sas, IDENTITY_DEVICE_CONNECT, grant, end);
  if (status != DSTREAM_OK)
    return status;
  return check_device(store, client.device, &sas, by_policy, grant, end);
}

static bool resource_is_hub(const struct sas *sas,
                            const struct identity_names *names) {
  for (size_t i = 0; i < names->count; i++) {
    if (sas_resource_is(sas, names->name[i]))
      return true;
  }
  return false;
}

int identity_check_service_sas(struct identity_store *store,
                               const struct identity_names *names,
                               struct slice token, unsigned rights,
                               uint64_t now_s, struct identity_grant *grant,
                               struct dstream_end *end) {
  struct sas sas;
  memset(grant, 0, sizeof *grant);
  int status = parse_token(&sas, token, now_s, end);
  if (status != DSTREAM_OK)
    return status;
  grant->expiry_s = sas.expiry;
  if (sas.skn.len == 0) {
    end_set(end, DSTREAM_EUNAUTHORIZED,
            "the token names no policy: skn is missing");
    return DSTREAM_EUNAUTHORIZED;
  }
  if (!resource_is_hub(&sas, names)) {
    end_set(end, DSTREAM_EUNAUTHORIZED, "the token is for another hub name");
    return DSTREAM_EUNAUTHORIZED;
  }
  return check_policy(store, &sas, rights, grant, end);
}

static bool tag_matches(const struct identity_grant *grant,
                        const struct identity_key *first,
                        const struct identity_key *second) {
  uint8_t tag[sizeof grant->key_tag];
  const struct identity_key *keys[] = {first, second};
  for (size_t i = 0; i < 2; i++) {
    if (key_tag(keys[i], tag, sizeof tag) == DSTREAM_OK &&
        crypto_equal(tag, sizeof tag, grant->key_tag, sizeof tag))
      return true;
  }
  return false;
}

static int recheck_policy(struct identity_store *store,
                          const struct identity_grant *grant) {
  struct identity_policy policy;
  int status = identity_policy_get(store, grant->policy, &policy);
  if (status != DSTREAM_OK)
    return status == DSTREAM_ENOTFOUND ? DSTREAM_EUNAUTHORIZED : status;
  if ((policy.rights & IDENTITY_DEVICE_CONNECT) == 0 ||
      !tag_matches(grant, &policy.primary, &policy.secondary))
    status = DSTREAM_EUNAUTHORIZED;
  identity_policy_wipe(&policy);
  return status;
}

int identity_recheck(struct identity_store *store, const char *client_id,
                     const struct identity_grant *grant) {
  struct client_parts client;
  struct identity_device device;
  if (!split_client(client_id, &client))
    return DSTREAM_ENOTFOUND;
  int status = identity_get(store, client.device, &device);
  if (status != DSTREAM_OK)
    return status;
  if (device.enabled && grant->policy[0] != '\0')
    status = recheck_policy(store, grant);
  else if (!device.enabled ||
           !tag_matches(grant, &device.primary, &device.secondary))
    status = DSTREAM_EUNAUTHORIZED;
  identity_device_wipe(&device);
  return status;
}
