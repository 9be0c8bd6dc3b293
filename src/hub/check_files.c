#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "hub/check.h"
#include "hub/folder.h"

#define SUBJECT  "files"
#define DISK_MIN (64ull << 20)

static void say_open(void *user, const char *path) {
  check_say(user, CHECK_WARNING, SUBJECT,
            "everybody on this machine may read or change the secrets in "
            "%.100s; \"chmod 600\" it",
            path);
}

/* What root may do says little: the files are looked at as the folder's owner,
 * who the hub runs as. */
static bool owner_may(const struct stat *owner, const struct stat *file,
                      mode_t user, mode_t group, mode_t other) {
  if (file->st_uid == owner->st_uid)
    return (file->st_mode & user) != 0;
  if (file->st_gid == owner->st_gid)
    return (file->st_mode & group) != 0;
  return (file->st_mode & other) != 0;
}

static void check_owner(struct check_report *report,
                        const struct config *config, const struct stat *owner) {
  const char *const paths[] = {CONFIG_FILE, config->certificate_file,
                               config->key_file, config->device_ca_file,
                               config->database_file};
  struct stat info;
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    if (paths[i][0] != '\0' && stat(paths[i], &info) == 0 &&
        !owner_may(owner, &info, S_IRUSR, S_IRGRP, S_IROTH))
      check_say(report, CHECK_ERROR, SUBJECT,
                "%.120s can't be read by the folder's owner, user %u", paths[i],
                (unsigned)owner->st_uid);
  }
  if (stat(config->database_file, &info) == 0 &&
      !owner_may(owner, &info, S_IWUSR, S_IWGRP, S_IWOTH))
    check_say(report, CHECK_ERROR, SUBJECT,
              "%.120s can't be written to by the folder's owner, user %u",
              config->database_file, (unsigned)owner->st_uid);
}

static void check_folder(struct check_report *report,
                         const struct config *config) {
  struct stat info;
  if (stat(".", &info) != 0)
    return;
  if ((info.st_mode & S_IWOTH) != 0)
    check_say(report, CHECK_ERROR, SUBJECT,
              "everybody on this machine may change the hub's folder; \"chmod "
              "700\" it");
  if (access(".", W_OK) != 0)
    check_say(report, CHECK_ERROR, SUBJECT,
              "the hub's folder can't be written to by this user: %s",
              strerror(errno));
  if (geteuid() == 0 && info.st_uid != 0)
    check_owner(report, config, &info);
}

static void check_activity(struct check_report *report, const char *path) {
  char copy[CONFIG_TEXT_SIZE];
  if (path[0] == '\0' || strcmp(path, "-") == 0 ||
      strcmp(path, "journald") == 0)
    return;
  snprintf(copy, sizeof copy, "%s", path);
  const char *missing = access(path, F_OK) != 0 ? dirname(copy) : path;
  if (access(missing, W_OK) != 0)
    check_say(report, CHECK_ERROR, SUBJECT,
              "the activity log %.100s can't be written: %s", path,
              strerror(errno));
}

static void check_disk(struct check_report *report) {
  struct statvfs info;
  if (statvfs(".", &info) == 0 &&
      (unsigned long long)info.f_bavail * info.f_frsize < DISK_MIN)
    check_say(report, CHECK_WARNING, SUBJECT,
              "the disk of the hub's folder is nearly full");
}

static void check_descriptors(struct check_report *report,
                              const struct config *config) {
  struct rlimit limit;
  unsigned wanted = config_descriptors(config);
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < wanted)
    check_say(report, CHECK_WARNING, "descriptors",
              "a process started from here may have %llu open, the limits need "
              "%u; under systemd that is LimitNOFILE",
              (unsigned long long)limit.rlim_max, wanted);
}

void check_files(struct check_report *report, const struct config *config) {
  unsigned before = report->errors + report->warnings;
  folder_find_open(config, say_open, report);
  check_folder(report, config);
  check_activity(report, config->activity_log);
  check_disk(report);
  if (report->errors + report->warnings == before)
    check_say(report, CHECK_OK, SUBJECT, "modes and disk are fine");
  check_descriptors(report, config);
}
