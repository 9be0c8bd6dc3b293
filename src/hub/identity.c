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

#define SCHEMA_VERSION 3
#define BUSY_WRITER_MS 5000
#define BUSY_READER_MS 100

struct identity_store {
  sqlite3 *db;
  sqlite3_stmt *device_get;
  sqlite3_stmt *device_add; /* NULL until it is needed */
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

#define NEW_TAG "lower(hex(randomblob(8)))"

/* What version 3 adds to version 2. */
#define SCHEMA_3                                                               \
  "ALTER TABLE devices ADD COLUMN generation TEXT NOT NULL DEFAULT '';"        \
  "ALTER TABLE devices ADD COLUMN etag TEXT NOT NULL DEFAULT '';"              \
  "ALTER TABLE devices ADD COLUMN status_reason TEXT NOT NULL DEFAULT '';"     \
  "ALTER TABLE devices ADD COLUMN status_updated INTEGER NOT NULL DEFAULT 0;"  \
  "UPDATE devices SET generation = " NEW_TAG ", etag = " NEW_TAG ";"           \
  "PRAGMA user_version=3;"

static const char schema[] =
    "PRAGMA journal_mode=WAL;"
    "BEGIN IMMEDIATE;"
    "CREATE TABLE devices(id TEXT PRIMARY KEY NOT NULL,"
    " primary_key BLOB NOT NULL, secondary_key BLOB NOT NULL,"
    " enabled INTEGER NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE policies(name TEXT PRIMARY KEY NOT NULL,"
    " primary_key BLOB NOT NULL, secondary_key BLOB NOT NULL,"
    " rights INTEGER NOT NULL) WITHOUT ROWID;" SCHEMA_2 SCHEMA_3 "COMMIT;";

#define DEVICE_COLUMNS                                                         \
  "id, primary_key, secondary_key, enabled, created, auth, thumbprint,"        \
  " thumbprint2, status_updated, status_reason, generation, etag"
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

static int status_of(int rc) {
  switch (rc) {
  case SQLITE_DONE:
  case SQLITE_OK:
    return DSTREAM_OK;
  case SQLITE_CONSTRAINT:
    return DSTREAM_ESTATE;
  case SQLITE_FULL:
    return DSTREAM_ESYSTEM;
  default:
    return DSTREAM_EINTERNAL;
  }
}

/* Runs a statement that returns no rows and finalizes it.  *changed (may be
 * NULL) is the number of rows it touched. */
static int finish(struct identity_store *store, sqlite3_stmt *stmt,
                  int *changed) {
  int rc = sqlite3_step(stmt);
  sqlite3_finalize(stmt);
  if (rc == SQLITE_DONE && changed != NULL)
    *changed = sqlite3_changes(store->db);
  return status_of(rc);
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

static const char *const steps[] = {NULL, SCHEMA_2, SCHEMA_3};

/* All of it or nothing. */
static int migrate_all(sqlite3 *db) {
  int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
  for (int version = read_version(db);
       rc == SQLITE_OK && version > 0 && version < SCHEMA_VERSION; version++)
    rc = sqlite3_exec(db, steps[version], NULL, NULL, NULL);
  return rc == SQLITE_OK ? sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) : rc;
}

/* On a connection of its own, as the one at hand may only read.  Of two
 * programs at a time one does it, and the other looks again. */
static void migrate(const char *path) {
  sqlite3 *db = NULL;
  if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                      NULL) == SQLITE_OK) {
    sqlite3_busy_timeout(db, BUSY_WRITER_MS);
    if (migrate_all(db) != SQLITE_OK)
      sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
  }
  sqlite3_close(db);
}

static int check_version(sqlite3 *db, const char *path,
                         struct dstream_end *end) {
  int version = read_version(db);
  bool older = version > 0 && version < SCHEMA_VERSION;
  if (older) {
    migrate(path);
    version = read_version(db);
  }
  if (version == SCHEMA_VERSION)
    return DSTREAM_OK;
  if (version > SCHEMA_VERSION)
    end_set(end, DSTREAM_EFORMAT,
            "%.120s was written by a newer dstream-hub (version %d): use that",
            path, version);
  else if (older)
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
  sqlite3_finalize(store->device_add);
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
  static const struct {
    const char *name;
    unsigned rights;
  } policies[] = {
      {"iothubowner", IDENTITY_ALL_RIGHTS},
      {"service", IDENTITY_SERVICE_CONNECT},
      {"device", IDENTITY_DEVICE_CONNECT},
      {"registryRead", IDENTITY_REGISTRY_READ},
      {"registryReadWrite", IDENTITY_REGISTRY_READ | IDENTITY_REGISTRY_WRITE}};
  int status = DSTREAM_OK;
  for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
    if (status == DSTREAM_OK)
      status = identity_policy_add(store, policies[i].name, policies[i].rights);
  }
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

/* Of a UTF-8 sequence, by its first byte; 0: that begins none. */
static size_t sequence_len(unsigned char first) {
  if (first < 0x80)
    return 1;
  if (first < 0xc0 || first >= 0xf8)
    return 0;
  return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* The length of a character that may be shown (RFC 3629); 0: it is none. */
static size_t character(const unsigned char *p) {
  static const uint32_t least[] = {0, 0x20, 0xa0, 0x800, 0x10000};
  size_t len = sequence_len(*p);
  uint32_t code = len == 1 ? *p : *p & (0x7fu >> len);
  for (size_t i = 1; i < len; i++) {
    if ((p[i] & 0xc0) != 0x80)
      return 0;
    code = code << 6 | (p[i] & 0x3f);
  }
  bool surrogate = code >= 0xd800 && code < 0xe000;
  return code < least[len] || code > 0x10ffff || code == 0x7f || surrogate
             ? 0
             : len;
}

bool identity_reason_valid(const char *reason) {
  const unsigned char *p = (const unsigned char *)reason;
  size_t step = 1;
  while (*p != '\0' && step > 0) {
    step = character(p);
    p += step;
  }
  return step > 0 && (const char *)p - reason <= IDENTITY_REASON_MAX;
}

static bool device_valid(const struct identity_device *device) {
  struct slice id = {device->id, strnlen(device->id, sizeof device->id)};
  if (!conn_string_id_valid(id) || !key_valid(&device->primary) ||
      !key_valid(&device->secondary) || device->auth > IDENTITY_GROUP ||
      memchr(device->status_reason, '\0', sizeof device->status_reason) ==
          NULL ||
      !identity_reason_valid(device->status_reason))
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
      !read_text(stmt, 7, out->thumbprint[1], sizeof out->thumbprint[1]) ||
      !read_text(stmt, 9, out->status_reason, sizeof out->status_reason) ||
      !read_text(stmt, 10, out->generation, sizeof out->generation) ||
      !read_text(stmt, 11, out->etag, sizeof out->etag))
    return false;
  out->enabled = sqlite3_column_int(stmt, 3) != 0;
  out->created_s = sqlite3_column_int64(stmt, 4);
  out->auth = (enum identity_auth)sqlite3_column_int(stmt, 5);
  out->status_s = sqlite3_column_int64(stmt, 8);
  return device_valid(out);
}

static void bind_device(sqlite3_stmt *stmt,
                        const struct identity_device *device) {
  bind_text(stmt, 1, device->id);
  bind_key(stmt, 2, &device->primary);
  bind_key(stmt, 3, &device->secondary);
  sqlite3_bind_int(stmt, 4, device->enabled);
  sqlite3_bind_int64(stmt, 5, device->created_s);
  sqlite3_bind_int(stmt, 6, (int)device->auth);
  bind_text(stmt, 7, device->thumbprint[0]);
  bind_text(stmt, 8, device->thumbprint[1]);
  sqlite3_bind_int64(stmt, 9, device->status_s);
  bind_text(stmt, 10, device->status_reason);
  bind_text(stmt, 11, device->generation);
  bind_text(stmt, 12, device->etag);
}

#define INSERT_DEVICE                                                          \
  "INSERT INTO devices(" DEVICE_COLUMNS ")"                                    \
  " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"

/* Kept for the next one, as there may be many.  It forgets the key at once. */
static int write_new(struct identity_store *store,
                     const struct identity_device *device) {
  if (store->device_add == NULL)
    store->device_add = prepare(store->db, INSERT_DEVICE);
  if (store->device_add == NULL)
    return DSTREAM_EINTERNAL;
  bind_device(store->device_add, device);
  int rc = sqlite3_step(store->device_add);
  rewind_statement(store->device_add);
  return status_of(rc);
}

static int write_device(struct identity_store *store,
                        const struct identity_device *device) {
  sqlite3_stmt *stmt = prepare(
      store->db, INSERT_DEVICE
      " ON CONFLICT(id) DO UPDATE SET primary_key = ?2, secondary_key = ?3,"
      " status_updated ="
      " CASE WHEN enabled <> ?4 THEN ?9 ELSE status_updated END,"
      " enabled = ?4, auth = ?6, thumbprint = ?7, thumbprint2 = ?8,"
      " status_reason = ?10, etag = ?12");
  if (stmt == NULL)
    return DSTREAM_EINTERNAL;
  bind_device(stmt, device);
  return finish(store, stmt, NULL);
}

static int make_tag(char tag[IDENTITY_TAG_SIZE]) {
  uint8_t bytes[(IDENTITY_TAG_SIZE - 1) / 2];
  int status = crypto_random(bytes, sizeof bytes);
  for (size_t i = 0; i < sizeof bytes; i++)
    snprintf(tag + 2 * i, 3, "%02x", bytes[i]);
  return status;
}

static int make_tags(struct identity_device *device) {
  int status = make_tag(device->generation);
  return status == DSTREAM_OK ? make_tag(device->etag) : status;
}

int identity_make_keys(struct identity_device *device) {
  int status = new_key(&device->primary);
  return status == DSTREAM_OK ? new_key(&device->secondary) : status;
}

/* With two new keys, which the table wants of every device. */
static int insert_device(struct identity_store *store,
                         struct identity_device *device, const char *id) {
  if (!conn_string_id_valid(slice_of(id)))
    return DSTREAM_EINVAL;
  memcpy(device->id, id, strlen(id) + 1);
  int status = identity_make_keys(device);
  if (status == DSTREAM_OK)
    status = make_tags(device);
  if (status == DSTREAM_OK && !device_valid(device))
    status = DSTREAM_EINVAL;
  return status == DSTREAM_OK ? write_new(store, device) : status;
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
  if (!device_valid(device))
    return DSTREAM_EINVAL;
  struct identity_device tagged = *device;
  int status = make_tags(&tagged);
  if (status == DSTREAM_OK)
    status = write_device(store, &tagged);
  identity_device_wipe(&tagged);
  return status;
}

int identity_begin(struct identity_store *store) {
  return status_of(
      sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL));
}

int identity_commit(struct identity_store *store) {
  return status_of(sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL));
}

/* Some failures have rolled back already. */
void identity_rollback(struct identity_store *store) {
  if (!sqlite3_get_autocommit(store->db))
    sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
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
  sqlite3_stmt *stmt =
      prepare(store->db, "UPDATE devices SET enabled = ?2, etag = " NEW_TAG
                         ", status_updated = CASE WHEN enabled <> ?2 THEN ?3"
                         " ELSE status_updated END WHERE id = ?1");
  if (stmt != NULL) {
    sqlite3_bind_int(stmt, 2, enabled);
    sqlite3_bind_int64(stmt, 3, now_s);
  }
  int status = change_one(store, stmt, id);
  if (status != DSTREAM_ENOTFOUND)
    return status;
  status = has_group(store, id);
  if (status != DSTREAM_OK || enabled)
    return status;
  struct identity_device device = {
      .created_s = now_s, .status_s = now_s, .auth = IDENTITY_GROUP};
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
  sqlite3_stmt *stmt = prepare(
      store->db, which == IDENTITY_PRIMARY
                     ? "UPDATE devices SET primary_key = ?2,"
                       " etag = " NEW_TAG " WHERE id = ?1 AND auth = 0"
                     : "UPDATE devices SET secondary_key = ?2,"
                       " etag = " NEW_TAG " WHERE id = ?1 AND auth = 0");
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

int identity_count(struct identity_store *store, size_t *devices,
                   size_t *disabled) {
  sqlite3_stmt *stmt =
      prepare(store->db, "SELECT count(*), total(enabled = 0) FROM devices");
  int rc = stmt == NULL ? SQLITE_ERROR : sqlite3_step(stmt);
  if (rc == SQLITE_ROW) {
    *devices = (size_t)sqlite3_column_int64(stmt, 0);
    *disabled = (size_t)sqlite3_column_int64(stmt, 1);
  }
  sqlite3_finalize(stmt);
  return rc == SQLITE_ROW ? DSTREAM_OK : DSTREAM_EINTERNAL;
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
