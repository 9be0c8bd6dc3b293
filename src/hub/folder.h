/* hub/folder.h - a hub's folder, as the command line and the running hub share
 * it.  Every program that works on it changes into it first, so that all paths
 * are relative, and short enough for unix sockets.
 */
#ifndef HUB_FOLDER_H
#define HUB_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "hub/config.h"
#include "hub/identity.h"

#define FOLDER_RUN_DIR    "run" /* mode 0700 */
#define FOLDER_LOCK_FILE  FOLDER_RUN_DIR "/hub.lock"
#define FOLDER_PORTS_FILE FOLDER_RUN_DIR "/ports.json"

struct folder_ports {
  uint16_t https;
  uint16_t mqtt;
};

/* Changes into the folder and reads its hub.json, then the environment's
 * overrides.  DSTREAM_ENOTFOUND: it is no
 * hub's folder; as config_load. */
int folder_enter(const char *directory, struct config *config,
                 struct dstream_end *end);

/* Makes `run` and takes the lock that says that a hub runs here; it goes with
 * the process, or when *fd is closed.  DSTREAM_ESTATE: another hub has it. */
int folder_lock(int *fd, struct dstream_end *end);

/* Whether a hub runs in this folder. */
bool folder_runs(void);

/* Calls say for each file with a secret in it that everybody on this machine
 * may read or change.  A group of its own is a way to keep a secret. */
void folder_find_open(const struct config *config,
                      void (*say)(void *user, const char *path), void *user);

/* What a running hub has bound. */
int folder_ports_write(const struct folder_ports *ports,
                       struct dstream_end *end);
/* DSTREAM_ENOTFOUND: no hub ever ran here; DSTREAM_EFORMAT. */
int folder_ports_read(struct folder_ports *ports);

/* What clients are told to dial: the configured ports; where those say "any",
 * those of the last run.  DSTREAM_ESTATE: there was none. */
int folder_ports_public(const struct config *config, struct folder_ports *ports,
                        struct dstream_end *end);

/* The connection string of a device, or of a policy, with one of its keys.  out
 * holds a key: wipe it.  CONN_STRING_MAX bytes are enough.  DSTREAM_ENOTFOUND,
 * DSTREAM_EINTERNAL and those of folder_ports_public. */
int folder_device_string(const struct config *config, const char *id,
                         enum identity_which which, char *out, size_t size,
                         struct dstream_end *end);
int folder_policy_string(const struct config *config, const char *policy,
                         enum identity_which which, char *out, size_t size,
                         struct dstream_end *end);

/* Makes one of a policy's keys anew and gives the connection string with it. */
int folder_policy_rotate(const struct config *config, const char *policy,
                         enum identity_which which, char *out, size_t size,
                         struct dstream_end *end);

/* Adds a device and gives its connection string.  auth: IDENTITY_KEYS, or what
 * identity_add_x509 takes, with thumbprints as people write them (NULL: none).
 * DSTREAM_EINVAL: no id, no thumbprint; DSTREAM_ESTATE: it is there already, or
 * as folder_ports_public (then nothing was added). */
struct folder_device {
  const char *id;
  enum identity_auth auth;
  const char *thumbprint[2];
};
int folder_device_add(const struct config *config,
                      const struct folder_device *device, char *out,
                      size_t size, struct dstream_end *end);
/* Adds the devices whose ids stand in `in`, one a line (blank lines are
 * skipped, FOLDER_IDS_MAX at most), all of them or, when one can't be, none;
 * then prints their connection strings to `out`, in the same order.  auth:
 * IDENTITY_KEYS or IDENTITY_CA.  end names the line that failed.  As
 * folder_device_add, and DSTREAM_ELIMIT: too many; DSTREAM_ENOMEM. */
#define FOLDER_IDS_MAX 1000000
int folder_device_add_many(const struct config *config, enum identity_auth auth,
                           FILE *in, FILE *out, struct dstream_end *end);
int folder_device_remove(const struct config *config, const char *id,
                         struct dstream_end *end);
int folder_device_enable(const struct config *config, const char *id,
                         bool enabled, struct dstream_end *end);
/* Makes a key anew and gives the connection string with it. */
int folder_device_rotate(const struct config *config, const char *id,
                         enum identity_which which, char *out, size_t size,
                         struct dstream_end *end);

/* Prints the ids, one a line, or as a JSON array of objects. */
int folder_device_list(const struct config *config, int json, FILE *out,
                       struct dstream_end *end);

/* prefix NULL: the name and a "-". */
int folder_group_add(const struct config *config, const char *name,
                     const char *prefix, struct dstream_end *end);
int folder_group_remove(const struct config *config, const char *name,
                        struct dstream_end *end);
int folder_group_rotate(const struct config *config, const char *name,
                        enum identity_which which, struct dstream_end *end);
/* Prints the names, one a line, or as a JSON array of objects. */
int folder_group_list(const struct config *config, int json, FILE *out,
                      struct dstream_end *end);
/* The group's key in base64; out holds a secret: wipe it. */
int folder_group_key(const struct config *config, const char *name,
                     enum identity_which which, char *out, size_t size,
                     struct dstream_end *end);
/* The connection string of one of its devices.  DSTREAM_EINVAL: not its. */
int folder_group_device(const struct config *config, const char *name,
                        const char *id, enum identity_which which, char *out,
                        size_t size, struct dstream_end *end);

#endif
