#include "hub/identity_backup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "core/end.h"

#define BUSY_MS 2000

/* Page by page, so that the copy is in WAL mode as well; VACUUM INTO would
 * leave that out. */
static int copy_pages(sqlite3 *from, sqlite3 *to) {
  sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
  if (backup == NULL)
    return sqlite3_errcode(to);
  int rc = sqlite3_backup_step(backup, -1);
  int finish_rc = sqlite3_backup_finish(backup);
  return rc == SQLITE_DONE ? finish_rc : rc;
}

static int make_file(const char *path, struct dstream_end *end) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) {
    end_set(end, DSTREAM_ESYSTEM, "can't make %.200s: %s", path,
            strerror(errno));
    return DSTREAM_ESYSTEM;
  }
  close(fd);
  return DSTREAM_OK;
}

int identity_backup(const char *path, const char *to, struct dstream_end *end) {
  sqlite3 *from = NULL;
  sqlite3 *copy = NULL;
  if (access(path, F_OK) != 0) {
    end_set(end, DSTREAM_ENOTFOUND, "there is no %.200s", path);
    return DSTREAM_ENOTFOUND;
  }
  int status = make_file(to, end);
  if (status != DSTREAM_OK)
    return status;
  int rc = sqlite3_open_v2(path, &from,
                           SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
  if (rc == SQLITE_OK)
    rc = sqlite3_open_v2(to, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                         NULL);
  if (rc == SQLITE_OK) {
    sqlite3_busy_timeout(from, BUSY_MS);
    rc = copy_pages(from, copy);
  }
  sqlite3_close(copy);
  sqlite3_close(from);
  if (rc == SQLITE_OK)
    return DSTREAM_OK;
  end_set(end, DSTREAM_ESYSTEM, "can't copy %.160s: %.80s", path,
          sqlite3_errstr(rc));
  return DSTREAM_ESYSTEM;
}
