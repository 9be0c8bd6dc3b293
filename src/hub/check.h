/* hub/check.h - whether a hub's folder is fit to be run, without running it:
 * `dstream-hub check DIR`.
 *
 * Looks at hub.json and the environment, certificate and key, the database, the
 * broker and its plugin, the ports, the modes of files, disk and descriptors.
 * Changes nothing, and may be used while the hub runs.
 */
#ifndef HUB_CHECK_H
#define HUB_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <dstream/status.h>

#include "hub/config.h"

enum check_level {
  CHECK_OK,
  CHECK_WARNING, /* the hub runs; something may not be as it is wanted */
  CHECK_ERROR    /* the hub does not start, or clients can't use it */
};

struct check_finding {
  enum check_level level;
  const char *subject; /* such as "certificate"; static */
  char text[DSTREAM_TEXT_MAX];
};

#define CHECK_FINDINGS_MAX 64 /* more are left out */
struct check_report {
  struct check_finding finding[CHECK_FINDINGS_MAX];
  size_t count;
  unsigned errors;
  unsigned warnings;
};

/* Changes into the folder.  plugin: path of dstream_broker_plugin.so. */
void check_run(struct check_report *report, const char *directory,
               const char *plugin);

/* A line for each finding and one with their number; or a JSON object.
 * DSTREAM_ENOMEM. */
void check_print(const struct check_report *report, FILE *out);
int check_print_json(const struct check_report *report, FILE *out);

/* ---- for the parts of it ---- */

void check_say(struct check_report *report, enum check_level level,
               const char *subject, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

void check_certificate(struct check_report *report,
                       const struct config *config);
void check_database(struct check_report *report, const struct config *config);
void check_broker(struct check_report *report, const struct config *config,
                  const char *plugin);
void check_ports(struct check_report *report, const struct config *config);
void check_files(struct check_report *report, const struct config *config);

#endif
