#include "hub/backup.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crypto.h"
#include "core/end.h"
#include "hub/identity_backup.h"

#define FILES_MAX 8

struct work {
  char path[PATH_MAX]; /* of the copy at hand */
  const char *to;
  const char *made[FILES_MAX]; /* names of files in it */
  size_t made_count;
  struct dstream_end *end;
};

static int fail(const struct work *work, const char *what, const char *name) {
  end_set(work->end, DSTREAM_ESYSTEM, "can't %s %.200s: %s", what, name,
          strerror(errno));
  return DSTREAM_ESYSTEM;
}

/* The place of a copy in the new folder; false: the name is too long. */
static bool place(struct work *work, const char *name) {
  int n = snprintf(work->path, sizeof work->path, "%s/%s", work->to, name);
  return n > 0 && (size_t)n < sizeof work->path;
}

static bool write_all(int fd, const char *data, size_t len) {
  while (len > 0) {
    ssize_t n = write(fd, data, len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    data += n;
    len -= (size_t)n;
  }
  return true;
}

static bool copy_bytes(int from, int to) {
  char buffer[4096];
  ssize_t n;
  do {
    n = read(from, buffer, sizeof buffer);
    if (n > 0 && !write_all(to, buffer, (size_t)n))
      return false;
  } while (n > 0 || (n < 0 && errno == EINTR));
  crypto_wipe(buffer, sizeof buffer); /* it may be a key */
  return n == 0;
}

static int copy_file(struct work *work, const char *name) {
  struct stat info;
  int from = open(name, O_RDONLY | O_CLOEXEC);
  if (from < 0 || fstat(from, &info) != 0) {
    int status = fail(work, "read", name);
    if (from >= 0)
      close(from);
    return status;
  }
  int to = open(work->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                info.st_mode & 0777);
  bool ok = to >= 0;
  if (ok)
    work->made[work->made_count++] = name;
  ok = ok && copy_bytes(from, to) && fsync(to) == 0;
  int status = ok ? DSTREAM_OK : fail(work, "copy", name);
  if (to >= 0)
    close(to);
  close(from);
  return status;
}

static bool is_made(const struct work *work, const char *name) {
  for (size_t i = 0; i < work->made_count; i++)
    if (strcmp(work->made[i], name) == 0)
      return true;
  return false;
}

static int add(struct work *work, const char *name, bool database) {
  assert(work->made_count < FILES_MAX);
  if (is_made(work, name))
    return DSTREAM_OK;
  if (!place(work, name)) {
    errno = ENAMETOOLONG;
    return fail(work, "make", name);
  }
  if (!database)
    return copy_file(work, name);
  work->made[work->made_count++] = name;
  return identity_backup(name, work->path, work->end);
}

static void take_away(struct work *work) {
  while (work->made_count > 0)
    if (place(work, work->made[--work->made_count]))
      unlink(work->path);
  rmdir(work->to);
}

static int copy_all(struct work *work, const struct config *config,
                    void (*say)(void *user, const char *left_out), void *user) {
  static const char *const ca[] = {"ca.pem", "ca-key.pem"};
  const char *const files[] = {config->certificate_file, config->key_file,
                               config->device_ca_file, config->database_file};
  int status = DSTREAM_OK;
  for (size_t i = 0; i < 2 && status == DSTREAM_OK; i++)
    if (access(ca[i], F_OK) == 0)
      status = add(work, ca[i], false);
  for (size_t i = 0; i < 4 && status == DSTREAM_OK; i++) {
    if (strchr(files[i], '/') != NULL)
      say(user, files[i]);
    else if (files[i][0] != '\0')
      status = add(work, files[i], files[i] == config->database_file);
  }
  return status == DSTREAM_OK ? add(work, CONFIG_FILE, false) : status;
}

int backup_make(const struct config *config, const char *to,
                void (*say)(void *user, const char *left_out), void *user,
                struct dstream_end *end) {
  struct work work = {.to = to, .end = end};
  if (mkdir(to, 0700) != 0) {
    if (errno != EEXIST)
      return fail(&work, "make", to);
    end_set(end, DSTREAM_ESTATE,
            "%.200s is there already and is never overwritten; choose another "
            "name",
            to);
    return DSTREAM_ESTATE;
  }
  int status = copy_all(&work, config, say, user);
  if (status != DSTREAM_OK)
    take_away(&work);
  return status;
}
