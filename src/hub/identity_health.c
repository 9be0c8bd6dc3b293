#include "hub/identity_health.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "hub/identity.h"

#define BUSY_MS 2000

/* Who may write takes the files beside it away again at the end; so it is asked
 * for, where it can be had, and nothing is written. */
static sqlite3 *open_only_to_read(const char *path) {
  sqlite3 *db = NULL;
  int way =
      access(path, W_OK) == 0 ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
  if (sqlite3_open_v2(path, &db, way | SQLITE_OPEN_NOMUTEX, NULL) !=
      SQLITE_OK) {
    sqlite3_close(db);
    return NULL;
  }
  sqlite3_busy_timeout(db, BUSY_MS);
  sqlite3_exec(db, "PRAGMA query_only=ON", NULL, NULL, NULL);
  return db;
}

/* The first column of the first row, as a text; false: there is none, or *out
 * is what SQLite says. */
static bool ask(sqlite3 *db, const char *sql, char *out, size_t size) {
  sqlite3_stmt *stmt = NULL;
  bool ok = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
            sqlite3_step(stmt) == SQLITE_ROW;
  const unsigned char *text = ok ? sqlite3_column_text(stmt, 0) : NULL;
  snprintf(out, size, "%s",
           text != NULL ? (const char *)text : sqlite3_errmsg(db));
  sqlite3_finalize(stmt);
  return ok && text != NULL;
}

/* Every table with its columns, in one line.  (Not the statements that made
 * them: those of a database that was brought up to date differ.) */
static bool describe(sqlite3 *db, char *out, size_t size) {
  return ask(db,
             "SELECT group_concat(col, ',') FROM (SELECT m.name || '.' || "
             "p.name AS col FROM sqlite_master m, pragma_table_info(m.name) p "
             "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' "
             "ORDER BY col)",
             out, size);
}

struct shape {
  char version[128];
  char tables[2048];
};

static bool read_shape(sqlite3 *db, struct shape *shape) {
  return ask(db, "PRAGMA user_version", shape->version,
             sizeof shape->version) &&
         describe(db, shape->tables, sizeof shape->tables);
}

/* What a new database looks like: one is made, and taken away. */
static bool read_wanted(struct shape *wanted) {
  const char *folder = getenv("TMPDIR");
  char directory[PATH_MAX];
  char path[PATH_MAX + 8];
  snprintf(directory, sizeof directory, "%.4000s/dstream-check-XXXXXX",
           folder == NULL || folder[0] == '\0' ? "/tmp" : folder);
  if (mkdtemp(directory) == NULL)
    return false;
  snprintf(path, sizeof path, "%s/new.db", directory);
  struct identity_store *store = NULL;
  bool ok = identity_create(&store, path, NULL) == DSTREAM_OK;
  sqlite3 *db = ok ? open_only_to_read(path) : NULL;
  ok = db != NULL && read_shape(db, wanted);
  sqlite3_close(db);
  identity_close(store);
  unlink(path);
  rmdir(directory);
  return ok;
}

static void read_open(struct identity_health *out, sqlite3 *db) {
  struct shape have = {0};
  struct shape wanted = {0};
  char text[sizeof out->damage];
  if (!read_shape(db, &have)) {
    snprintf(out->damage, sizeof out->damage, "%.120s",
             have.tables[0] != '\0' ? have.tables : have.version);
    return;
  }
  if (!ask(db, "PRAGMA quick_check(1)", text, sizeof text) ||
      strcmp(text, "ok") != 0) {
    memcpy(out->damage, text, sizeof text);
    return;
  }
  out->version = strtol(have.version, NULL, 10);
  if (read_wanted(&wanted))
    out->current = strtol(wanted.version, NULL, 10);
  out->same_tables = strcmp(have.tables, wanted.tables) == 0;
  if (ask(db, "SELECT count(*) FROM devices", text, sizeof text))
    out->devices = strtol(text, NULL, 10);
}

void identity_health_read(struct identity_health *out, const char *path) {
  memset(out, 0, sizeof *out);
  sqlite3 *db = open_only_to_read(path);
  if (db == NULL)
    snprintf(out->damage, sizeof out->damage, "SQLite can't open it");
  else
    read_open(out, db);
  sqlite3_close(db);
}
