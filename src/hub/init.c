#include "hub/init.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/end.h"
#include "hub/certificate.h"
#include "hub/config.h"
#include "hub/identity.h"

/* In the order in which they come to light: with hub.json it is a hub. */
static const char *const files[] = {"ca-key.pem",     "ca.pem",
                                    "server-key.pem", "server.pem",
                                    "identities.db",  CONFIG_FILE};
#define FILE_COUNT (sizeof files / sizeof files[0])

struct work {
  const char *directory;
  bool made_directory;
  char temporary[PATH_MAX]; /* in the folder; empty: not made */
  int dirfd;                /* the folder */
  int workfd;               /* the temporary one */
  size_t placed;            /* files that were moved into the folder */
};

static int system_error(struct dstream_end *end, const char *what,
                        const char *path) {
  end_set(end, DSTREAM_ESYSTEM, "%s %s: %s", what, path, strerror(errno));
  if (end != NULL)
    end->sys_errno = errno;
  return DSTREAM_ESYSTEM;
}

/* mkdir, or the folder that is there; none of our files may be in it. */
static int open_directory(struct work *work, struct dstream_end *end) {
  if (mkdir(work->directory, 0700) == 0)
    work->made_directory = true;
  else if (errno != EEXIST)
    return system_error(end, "can't make", work->directory);
  work->dirfd = open(work->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (work->dirfd < 0)
    return system_error(end, "can't open", work->directory);
  for (size_t i = FILE_COUNT; i > 0; i--) {
    struct stat info;
    if (fstatat(work->dirfd, files[i - 1], &info, AT_SYMLINK_NOFOLLOW) == 0) {
      end_set(end, DSTREAM_ESTATE,
              "%s/%s is there already and is never overwritten; choose another "
              "folder",
              work->directory, files[i - 1]);
      return DSTREAM_ESTATE;
    }
  }
  return DSTREAM_OK;
}

static int open_temporary(struct work *work, struct dstream_end *end) {
  int n = snprintf(work->temporary, sizeof work->temporary, "%s/.init-XXXXXX",
                   work->directory);
  if (n < 0 || (size_t)n >= sizeof work->temporary - 32) {
    work->temporary[0] = '\0';
    end_set(end, DSTREAM_EINVAL, "the folder's name is too long");
    return DSTREAM_EINVAL;
  }
  if (mkdtemp(work->temporary) == NULL) {
    work->temporary[0] = '\0';
    return system_error(end, "can't write to", work->directory);
  }
  work->workfd = open(work->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return work->workfd >= 0 ? DSTREAM_OK
                           : system_error(end, "can't open", work->temporary);
}

static int write_config(int dirfd, const struct config *config,
                        struct dstream_end *end) {
  char *text = config_format(config);
  if (text == NULL) {
    end_set(end, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  int fd =
      openat(dirfd, CONFIG_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
  bool ok = file != NULL && fprintf(file, "%s\n", text) > 0;
  ok = ok && fflush(file) == 0 && fsync(fd) == 0;
  if (file != NULL)
    ok = fclose(file) == 0 && ok;
  else if (fd >= 0)
    close(fd);
  free(text);
  return ok ? DSTREAM_OK : system_error(end, "can't write", CONFIG_FILE);
}

static int write_files(const struct work *work, const struct config *config,
                       struct dstream_end *end) {
  int status = certificate_create(work->workfd, config->host, end);
  if (status != DSTREAM_OK)
    return status;
  char path[PATH_MAX + 32];
  snprintf(path, sizeof path, "%s/identities.db", work->temporary);
  struct identity_store *store = NULL;
  status = identity_create(&store, path, end);
  identity_close(store);
  if (status != DSTREAM_OK)
    return status;
  return write_config(work->workfd, config, end);
}

static int place_files(struct work *work, struct dstream_end *end) {
  for (size_t i = 0; i < FILE_COUNT; i++) {
    /* Unlike a rename, a link never replaces a file. */
    if (linkat(work->workfd, files[i], work->dirfd, files[i], 0) != 0)
      return system_error(end, "can't make", files[i]);
    work->placed++;
  }
  if (fsync(work->dirfd) != 0)
    return system_error(end, "can't write to", work->directory);
  return DSTREAM_OK;
}

static void clean_up(struct work *work, bool failed) {
  for (size_t i = 0; failed && i < work->placed; i++)
    unlinkat(work->dirfd, files[i], 0);
  static const char *const more[] = {"identities.db-wal", "identities.db-shm",
                                     "identities.db-journal"};
  if (work->workfd >= 0) {
    for (size_t i = 0; i < FILE_COUNT; i++)
      unlinkat(work->workfd, files[i], 0);
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
      unlinkat(work->workfd, more[i], 0);
    close(work->workfd);
  }
  if (work->temporary[0] != '\0')
    rmdir(work->temporary);
  if (work->dirfd >= 0)
    close(work->dirfd);
  if (failed && work->made_directory)
    rmdir(work->directory);
}

static int choose_host(const struct init_options *options,
                       struct config *config, struct dstream_end *end) {
  char own[HOST_NAME_MAX + 1] = "";
  const char *host = options->host;
  if (host == NULL)
    host = getenv(CONFIG_ENVIRONMENT "HOST");
  if (host == NULL) {
    gethostname(own, sizeof own - 1);
    host = own;
  }
  if (!config_host_valid(host)) {
    end_set(end, DSTREAM_EINVAL,
            "\"%.60s\" can't be a hub's name (letters, digits, \"-\", \".\" "
            "and \"_\"); give one with --host",
            host);
    return DSTREAM_EINVAL;
  }
  size_t len = strlen(host);
  for (size_t i = 0; i <= len; i++)
    config->host[i] = (char)tolower((unsigned char)host[i]);
  return DSTREAM_OK;
}

int init_run(const struct init_options *options, struct dstream_end *end) {
  struct config config;
  config_defaults(&config);
  config.https_port = options->https_port;
  config.mqtt_port = options->mqtt_port;
  int status = choose_host(options, &config, end);
  if (status != DSTREAM_OK)
    return status;
  struct work work = {
      .directory = options->directory, .dirfd = -1, .workfd = -1};
  status = open_directory(&work, end);
  if (status == DSTREAM_OK)
    status = open_temporary(&work, end);
  if (status == DSTREAM_OK)
    status = write_files(&work, &config, end);
  if (status == DSTREAM_OK)
    status = place_files(&work, end);
  clean_up(&work, status != DSTREAM_OK);
  return status;
}
