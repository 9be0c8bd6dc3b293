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

#define SCHEMA_VERSION 2
#define BUSY_WRITER_MS 5000
#define BUSY_READER_MS 100

struct identity_store {
  sqlite3 *db;
  sqlite3_stmt *device_get;
  sqlite3_stmt *policy_get;
  sqlite3_stmt *group_match;
  sqlite3_stmt *data_version;
  int64_t seen_version;
};

/* What version 2 adds to version 1. */
#define SCHEMA_2                                                               \
  "ALTER TABLE devices ADD COLUMN auth INTEGER NOT NULL DEFAULT 0;"            \
  "ALTER TABLE devices ADD COLUMN thumbprint TEXT NOT NULL DEFAULT '';"        \
  "ALTER TABLE devices ADD COLUMN thumbprint2 TEXT NOT NULL DEFAULT '';"       \
  "CREATE TABLE key_groups(name TEXT PRIMARY KEY NOT NULL,"                    \
  " prefix TEXT NOT NULL, primary_key BLOB NOT NULL,"                          \
  " secondary_key BLOB NOT NULL) WITHOUT ROWID;"                               \
  "PRAGMA user_version=2;"

static const char schema[] =
    "PRAGMA journal_mode=WAL;"
    "BEGIN IMMEDIATE;"
    "CREATE TABLE devices(id TEXT PRIMARY KEY NOT NULL,"
    " primary_key BLOB NOT NULL, secondary_key BLOB NOT NULL,"
    " enabled INTEGER NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE policies(name TEXT PRIMARY KEY NOT NULL,"
    " primary_key BLOB NOT NULL, secondary_key BLOB NOT NULL,"
    " rights INTEGER NOT NULL) WITHOUT ROWID;" SCHEMA_2 "COMMIT;";

#define DEVICE_COLUMNS                                                         \
  "id, primary_key, secondary_key, enabled, created, auth, thumbprint,"        \
  " thumbprint2"
#define GROUP_COLUMNS "name, prefix, primary_key, secondary_key"

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
  if (rc == SQLITE_FULL)
    return DSTREAM_ESYSTEM;
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

static int read_version(sqlite3 *db) {
  int version = -1;
  sqlite3_stmt *stmt = prepare(db, "PRAGMA user_version");
  if (stmt != NULL && sqlite3_step(stmt) == SQLITE_ROW)
    version = sqlite3_column_int(stmt, 0);
  sqlite3_finalize(stmt);
  return version;
}

/* On a connection of its own, as the one at hand may only read.  Of two
 * programs at a time one does it, and the other looks again. */
static void migrate(const char *path) {
  sqlite3 *db = NULL;
  if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                      NULL) == SQLITE_OK) {
    sqlite3_busy_timeout(db, BUSY_WRITER_MS);
    sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (read_version(db) == 1 &&
        sqlite3_exec(db, SCHEMA_2, NULL, NULL, NULL) != SQLITE_OK)
      sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    else
      sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
  }
  sqlite3_close(db);
}

static int check_version(sqlite3 *db, const char *path,
                         struct dstream_end *end) {
  int version = read_version(db);
  if (version == 1) {
    migrate(path);
    version = read_version(db);
  }
  if (version == SCHEMA_VERSION)
    return DSTREAM_OK;
  if (version > SCHEMA_VERSION)
    end_set(end, DSTREAM_EFORMAT,
            "%.120s was written by a newer dstream-hub (version %d): use that",
            path, version);
  else if (version == 1)
    end_set(end, DSTREAM_EFORMAT,
            "%.120s is of an older version and can't be written to", path);
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
  store->group_match =
      prepare(store->db, "SELECT " GROUP_COLUMNS " FROM key_groups WHERE"
                         " substr(?1, 1, length(prefix)) = prefix"
                         " ORDER BY name");
  store->data_version = prepare(store->db, "PRAGMA data_version");
  if (store->device_get == NULL || store->policy_get == NULL ||
      store->group_match == NULL || store->data_version == NULL)
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
  sqlite3_finalize(store->group_match);
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

/* In lower case; '\0': it is none. */
static char hex_digit(char c) {
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))
    return c;
  return c >= 'A' && c <= 'F' ? (char)(c - 'A' + 'a') : '\0';
}

bool identity_thumbprint(const char *text, char out[IDENTITY_THUMBPRINT_SIZE]) {
  size_t len = 0;
  for (const char *p = text; *p != '\0'; p++) {
    bool between = len > 0 && len % 2 == 0 && hex_digit(p[1]) != '\0';
    if (*p == ':' && between)
      continue;
    if (hex_digit(*p) == '\0' || len == IDENTITY_THUMBPRINT_SIZE - 1)
      return false;
    out[len++] = hex_digit(*p);
  }
  out[len] = '\0';
  return len == 2 * (size_t)IDENTITY_SHA1_LEN ||
         len == 2 * (size_t)IDENTITY_SHA256_LEN;
}

static bool thumbprint_valid(const char *text, bool may_be_empty) {
  char same[IDENTITY_THUMBPRINT_SIZE];
  return (may_be_empty && text[0] == '\0') ||
         (identity_thumbprint(text, same) && strcmp(text, same) == 0);
}

static bool device_valid(const struct identity_device *device) {
  struct slice id = {device->id, strnlen(device->id, sizeof device->id)};
  if (!conn_string_id_valid(id) || !key_valid(&device->primary) ||
      !key_valid(&device->secondary) || device->auth > IDENTITY_GROUP)
    return false;
  return device->auth != IDENTITY_THUMBPRINT ||
         (thumbprint_valid(device->thumbprint[0], false) &&
          thumbprint_valid(device->thumbprint[1], true));
}

static bool read_device(sqlite3_stmt *stmt, struct identity_device *out) {
  memset(out, 0, sizeof *out);
  if (!read_text(stmt, 0, out->id, sizeof out->id) ||
      !read_key(stmt, 1, &out->primary) ||
      !read_key(stmt, 2, &out->secondary) ||
      !read_text(stmt, 6, out->thumbprint[0], sizeof out->thumbprint[0]) ||
      !read_text(stmt, 7, out->thumbprint[1], sizeof out->thumbprint[1]))
    return false;
  out->enabled = sqlite3_column_int(stmt, 3) != 0;
  out->created_s = sqlite3_column_int64(stmt, 4);
  out->auth = (enum identity_auth)sqlite3_column_int(stmt, 5);
  return device_valid(out);
}

static int write_device(struct identity_store *store,
                        const struct identity_device *device, bool replace) {
  sqlite3_stmt *stmt = prepare(
      store->db, replace ? "INSERT INTO devices(" DEVICE_COLUMNS ")"
                           " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                           " ON CONFLICT(id) DO UPDATE SET primary_key = ?2,"
                           " secondary_key = ?3, enabled = ?4, auth = ?6,"
                           " thumbprint = ?7, thumbprint2 = ?8"
                         : "INSERT INTO devices(" DEVICE_COLUMNS ")"
                           " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
  if (stmt == NULL)
    return DSTREAM_EINTERNAL;
  bind_text(stmt, 1, device->id);
  bind_key(stmt, 2, &device->primary);
  bind_key(stmt, 3, &device->secondary);
  sqlite3_bind_int(stmt, 4, device->enabled);
  sqlite3_bind_int64(stmt, 5, device->created_s);
  sqlite3_bind_int(stmt, 6, (int)device->auth);
  bind_text(stmt, 7, device->thumbprint[0]);
  bind_text(stmt, 8, device->thumbprint[1]);
  return finish(store, stmt, NULL);
}

/* With two new keys, which the table wants of every device. */
static int insert_device(struct identity_store *store,
                         struct identity_device *device, const char *id) {
  if (!conn_string_id_valid(slice_of(id)))
    return DSTREAM_EINVAL;
  memcpy(device->id, id, strlen(id) + 1);
  int status = new_key(&device->primary);
  if (status == DSTREAM_OK)
    status = new_key(&device->secondary);
  if (status == DSTREAM_OK && !device_valid(device))
    status = DSTREAM_EINVAL;
  return status == DSTREAM_OK ? write_device(store, device, false) : status;
}

int identity_add(struct identity_store *store, const char *id, int64_t now_s,
                 struct identity_device *out) {
  struct identity_device device = {.enabled = true, .created_s = now_s};
  int status = insert_device(store, &device, id);
  if (status == DSTREAM_OK && out != NULL)
    *out = device;
  identity_device_wipe(&device);
  return status;
}

int identity_add_x509(struct identity_store *store, const char *id,
                      int64_t now_s, enum identity_auth auth, const char *first,
                      const char *second) {
  struct identity_device device = {
      .enabled = true, .created_s = now_s, .auth = auth};
  const char *given[] = {first, second};
  if (auth != IDENTITY_THUMBPRINT && auth != IDENTITY_CA)
    return DSTREAM_EINVAL;
  for (size_t i = 0; auth == IDENTITY_THUMBPRINT && i < 2; i++) {
    if (given[i] != NULL &&
        !identity_thumbprint(given[i], device.thumbprint[i]))
      return DSTREAM_EINVAL;
  }
  int status = insert_device(store, &device, id);
  identity_device_wipe(&device);
  return status;
}

int identity_put(struct identity_store *store,
                 const struct identity_device *device) {
  return device_valid(device) ? write_device(store, device, true)
                              : DSTREAM_EINVAL;
}

/* Runs a statement with one text that must touch a row, and finalizes it. */
static int change_one(struct identity_store *store, sqlite3_stmt *stmt,
                      const char *name) {
  if (stmt == NULL)
    return DSTREAM_EINTERNAL;
  bind_text(stmt, 1, name);
  int changed = 0;
  int status = finish(store, stmt, &changed);
  if (status != DSTREAM_OK)
    return status;
  return changed > 0 ? DSTREAM_OK : DSTREAM_ENOTFOUND;
}

static bool note_group(void *user, const struct identity_group *group) {
  (void)group;
  *(bool *)user = true;
  return false;
}

static int has_group(struct identity_store *store, const char *id) {
  bool found = false;
  int status = identity_group_each(store, id, note_group, &found);
  return status == DSTREAM_OK && !found ? DSTREAM_ENOTFOUND : status;
}

int identity_set_enabled(struct identity_store *store, const char *id,
                         bool enabled, int64_t now_s) {
  sqlite3_stmt *stmt = prepare(
      store->db, enabled ? "UPDATE devices SET enabled = 1 WHERE id = ?1"
                         : "UPDATE devices SET enabled = 0 WHERE id = ?1");
  int status = change_one(store, stmt, id);
  if (status != DSTREAM_ENOTFOUND)
    return status;
  status = has_group(store, id);
  if (status != DSTREAM_OK || enabled)
    return status;
  struct identity_device device = {.created_s = now_s, .auth = IDENTITY_GROUP};
  status = insert_device(store, &device, id);
  identity_device_wipe(&device);
  return status;
}

static int write_key(struct identity_store *store, sqlite3_stmt *stmt,
                     const char *name, struct identity_key *out) {
  struct identity_key key;
  int status = new_key(&key);
  if (stmt != NULL && status == DSTREAM_OK) {
    bind_key(stmt, 2, &key);
    status = change_one(store, stmt, name);
  } else {
    sqlite3_finalize(stmt);
    status = DSTREAM_EINTERNAL;
  }
  if (status == DSTREAM_OK && out != NULL)
    *out = key;
  crypto_wipe(&key, sizeof key);
  return status;
}

int identity_new_key(struct identity_store *store, const char *id,
                     enum identity_which which, struct identity_key *out) {
  struct identity_device device;
  int status = identity_get(store, id, &device);
  if (status != DSTREAM_OK)
    return status;
  bool has_keys = device.auth == IDENTITY_KEYS;
  identity_device_wipe(&device);
  if (!has_keys)
    return DSTREAM_ESTATE;
  sqlite3_stmt *stmt =
      prepare(store->db, which == IDENTITY_PRIMARY
                             ? "UPDATE devices SET primary_key = ?2"
                               " WHERE id = ?1 AND auth = 0"
                             : "UPDATE devices SET secondary_key = ?2"
                               " WHERE id = ?1 AND auth = 0");
  return write_key(store, stmt, id, out);
}

int identity_known(struct identity_store *store, const char *id,
                   bool *enabled) {
  struct identity_device device;
  *enabled = true;
  int status = identity_get(store, id, &device);
  if (status == DSTREAM_OK) {
    *enabled = device.enabled;
    if (device.auth == IDENTITY_GROUP)
      status = DSTREAM_ENOTFOUND;
    identity_device_wipe(&device);
  }
  return status == DSTREAM_ENOTFOUND ? has_group(store, id) : status;
}

int identity_remove(struct identity_store *store, const char *id) {
  return change_one(
      store, prepare(store->db, "DELETE FROM devices WHERE id = ?1"), id);
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

/* ---- groups ---- */

void identity_group_wipe(struct identity_group *group) {
  crypto_wipe(&group->primary, sizeof group->primary);
  crypto_wipe(&group->secondary, sizeof group->secondary);
}

/* An id is no longer than a prefix may be, and made of the same characters. */
static bool prefix_valid(const char *prefix) {
  return prefix[0] == '\0' || conn_string_id_valid(slice_of(prefix));
}

static bool read_group(sqlite3_stmt *stmt, struct identity_group *out) {
  memset(out, 0, sizeof *out);
  return read_text(stmt, 0, out->name, sizeof out->name) &&
         read_text(stmt, 1, out->prefix, sizeof out->prefix) &&
         read_key(stmt, 2, &out->primary) && read_key(stmt, 3, &out->secondary);
}

int identity_group_add(struct identity_store *store, const char *name,
                       const char *prefix) {
  if (!policy_name_valid(name) || !prefix_valid(prefix))
    return DSTREAM_EINVAL;
  struct identity_group group;
  int status = identity_group_get(store, name, &group);
  if (status == DSTREAM_OK)
    status = DSTREAM_ESTATE;
  else if (status == DSTREAM_ENOTFOUND)
    status = new_key(&group.primary);
  if (status == DSTREAM_OK)
    status = new_key(&group.secondary);
  sqlite3_stmt *stmt = NULL;
  if (status == DSTREAM_OK) {
    stmt = prepare(store->db, "INSERT INTO key_groups(" GROUP_COLUMNS ")"
                              " SELECT ?1, ?2, ?3, ?4"
                              " WHERE (SELECT count(*) FROM key_groups) < ?5");
    if (stmt == NULL)
      status = DSTREAM_EINTERNAL;
  }
  if (status == DSTREAM_OK) {
    bind_text(stmt, 2, prefix);
    bind_key(stmt, 3, &group.primary);
    bind_key(stmt, 4, &group.secondary);
    sqlite3_bind_int(stmt, 5, IDENTITY_GROUPS_MAX);
    status = change_one(store, stmt, name);
    if (status == DSTREAM_ENOTFOUND)
      status = DSTREAM_ELIMIT;
  }
  identity_group_wipe(&group);
  return status;
}

int identity_group_remove(struct identity_store *store, const char *name) {
  return change_one(
      store, prepare(store->db, "DELETE FROM key_groups WHERE name = ?1"),
      name);
}

int identity_group_get(struct identity_store *store, const char *name,
                       struct identity_group *out) {
  sqlite3_stmt *stmt = prepare(store->db, "SELECT " GROUP_COLUMNS
                                          " FROM key_groups WHERE name = ?1");
  if (stmt == NULL)
    return DSTREAM_EINTERNAL;
  bind_text(stmt, 1, name);
  int rc = sqlite3_step(stmt);
  int status = DSTREAM_EINTERNAL;
  if (rc == SQLITE_DONE)
    status = DSTREAM_ENOTFOUND;
  else if (rc == SQLITE_ROW && read_group(stmt, out))
    status = DSTREAM_OK;
  sqlite3_finalize(stmt);
  return status;
}

int identity_group_new_key(struct identity_store *store, const char *name,
                           enum identity_which which) {
  sqlite3_stmt *stmt =
      prepare(store->db, which == IDENTITY_PRIMARY
                             ? "UPDATE key_groups SET primary_key = ?2"
                               " WHERE name = ?1"
                             : "UPDATE key_groups SET secondary_key = ?2"
                               " WHERE name = ?1");
  return write_key(store, stmt, name, NULL);
}

int identity_group_each(struct identity_store *store, const char *member,
                        bool (*fn)(void *user,
                                   const struct identity_group *group),
                        void *user) {
  sqlite3_stmt *all = NULL;
  if (member == NULL) {
    all = prepare(store->db,
                  "SELECT " GROUP_COLUMNS " FROM key_groups ORDER BY name");
    if (all == NULL)
      return DSTREAM_EINTERNAL;
  }
  sqlite3_stmt *stmt = all != NULL ? all : store->group_match;
  if (member != NULL)
    bind_text(stmt, 1, member);
  struct identity_group group;
  int rc = SQLITE_DONE;
  bool more = true;
  while (more) {
    rc = sqlite3_step(stmt);
    if (rc != SQLITE_ROW)
      break;
    if (read_group(stmt, &group))
      more = fn(user, &group);
    identity_group_wipe(&group);
  }
  rewind_statement(stmt);
  sqlite3_finalize(all);
  return rc == SQLITE_DONE || rc == SQLITE_ROW ? DSTREAM_OK : DSTREAM_EINTERNAL;
}

bool identity_group_covers(const struct identity_group *group, const char *id) {
  return strncmp(id, group->prefix, strlen(group->prefix)) == 0;
}

int identity_group_derive(const struct identity_key *group_key, const char *id,
                          struct identity_key *out) {
  out->len = CRYPTO_SHA256_LEN;
  return crypto_hmac_sha256(group_key->bytes, group_key->len, id, strlen(id),
                            out->bytes);
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

int identity_policy_new_key(struct identity_store *store, const char *name,
                            enum identity_which which) {
  sqlite3_stmt *stmt =
      prepare(store->db, which == IDENTITY_PRIMARY
                             ? "UPDATE policies SET primary_key = ?2"
                               " WHERE name = ?1"
                             : "UPDATE policies SET secondary_key = ?2"
                               " WHERE name = ?1");
  return write_key(store, stmt, name, NULL);
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
