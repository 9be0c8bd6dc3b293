#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "hub/check.h"
#include "hub/identity_health.h"

#define SUBJECT "database"

static void judge(struct check_report *report, const char *path,
                  const struct identity_health *health) {
  if (health->damage[0] != '\0')
    check_say(report, CHECK_ERROR, SUBJECT,
              "%.80s can't be used: %.100s; if it is damaged, restore a backup",
              path, health->damage);
  else if (health->version < 1)
    check_say(report, CHECK_ERROR, SUBJECT, "%.100s is not a hub's database",
              path);
  else if (health->current == 0)
    check_say(report, CHECK_WARNING, SUBJECT,
              "the tables of %.80s can't be compared: no file can be made in "
              "TMPDIR",
              path);
  else if (health->version > health->current)
    check_say(report, CHECK_ERROR, SUBJECT,
              "%.80s was written by a newer dstream-hub (version %ld): use "
              "that",
              path, health->version);
  else if (health->version < health->current)
    check_say(report, CHECK_WARNING, SUBJECT,
              "%.80s is of an older version (%ld, not %ld) and will be "
              "brought up to date at the start: have a backup",
              path, health->version, health->current);
  else if (!health->same_tables)
    check_say(report, CHECK_ERROR, SUBJECT,
              "%.80s has other tables than it should; restore a backup", path);
  else
    check_say(report, CHECK_OK, SUBJECT, "%.80s is whole, %ld devices", path,
              health->devices);
}

void check_database(struct check_report *report, const struct config *config) {
  const char *path = config->database_file;
  if (access(path, R_OK) != 0) {
    check_say(report, CHECK_ERROR, SUBJECT, "%.100s can't be read: %s", path,
              strerror(errno));
    return;
  }
  if (access(path, W_OK) != 0)
    check_say(report, CHECK_WARNING, SUBJECT,
              "%.100s can't be written to by this user", path);
  struct identity_health health;
  identity_health_read(&health, path);
  judge(report, path, &health);
}
