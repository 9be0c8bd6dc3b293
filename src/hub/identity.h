/* hub/identity.h - who may connect: devices and service policies, in SQLite.
 *
 * One file, used by three at the same time: the hub, the command line
 * (`dstream-hub device add` while the hub runs) and the broker's plugin (which
 * only reads).  WAL mode lets them.  A store belongs to one thread.  Keys leave
 * the store as bytes: wipe them after use, never log them.
 */
#ifndef HUB_IDENTITY_H
#define HUB_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/slice.h"

#define IDENTITY_ID_MAX     128 /* as Azure's device ids */
#define IDENTITY_CLIENT_MAX (2 * IDENTITY_ID_MAX + 1) /* "device/module" */
#define IDENTITY_POLICY_MAX 64
#define IDENTITY_KEY_LEN    32 /* of the keys made here */
#define IDENTITY_KEY_MIN    16 /* of keys brought along, as Azure's */
#define IDENTITY_KEY_MAX    64
#define IDENTITY_NAMES_MAX  8

/* What a policy allows, by Azure's names. */
enum identity_right {
  IDENTITY_REGISTRY_READ = 1,
  IDENTITY_REGISTRY_WRITE = 2,
  IDENTITY_SERVICE_CONNECT = 4,
  IDENTITY_DEVICE_CONNECT = 8,
  IDENTITY_ALL_RIGHTS = 15
};

struct identity_key {
  uint8_t bytes[IDENTITY_KEY_MAX];
  size_t len;
};

struct identity_device {
  char id[IDENTITY_ID_MAX + 1];
  struct identity_key primary;
  struct identity_key secondary;
  bool enabled;
  int64_t created_s; /* Unix seconds */
};

struct identity_policy {
  char name[IDENTITY_POLICY_MAX + 1];
  struct identity_key primary;
  struct identity_key secondary;
  unsigned rights; /* enum identity_right */
};

/* The hub's own host names: a token counts only if its resource begins with one
 * of them (ASCII case ignored).  The texts are borrowed. */
struct identity_names {
  const char *name[IDENTITY_NAMES_MAX];
  size_t count;
};

/* What a token that was checked rests on, so that it can be checked again after
 * the database has changed, without keeping the token. */
struct identity_grant {
  uint64_t expiry_s;                    /* the token's se, Unix seconds */
  char policy[IDENTITY_POLICY_MAX + 1]; /* empty: one of the device's keys */
  uint8_t key_tag[16]; /* tells which key signed, and tells nothing else */
};

struct identity_store;

/* Creates the file with mode 0600, and in it the policies "iothubowner" (all
 * rights), "service" (service connect) and "device" (device connect), then
 * opens it.  DSTREAM_ESTATE: the file is there already; DSTREAM_ESYSTEM,
 * DSTREAM_EINTERNAL, DSTREAM_ENOMEM.  end (may be NULL) says what is wrong. */
int identity_create(struct identity_store **out, const char *path,
                    struct dstream_end *end);

/* Opens the file.  read_only: nothing is ever written, and a busy database
 * fails after 100 ms instead of 5 s.  DSTREAM_ENOTFOUND: no such file;
 * DSTREAM_EFORMAT: no database of this kind, or of a newer version;
 * DSTREAM_ESYSTEM, DSTREAM_ENOMEM. */
int identity_open(struct identity_store **out, const char *path, bool read_only,
                  struct dstream_end *end);

/* NULL is fine. */
void identity_close(struct identity_store *store);

/* True when another connection has changed the database since the last call (or
 * since the store was opened). */
bool identity_changed(struct identity_store *store);

/* ---- devices.  All may return DSTREAM_EINTERNAL: the database failed ---- */

/* Adds a device, enabled, with two new random keys; *out (may be NULL) is the
 * device with its keys.  DSTREAM_EINVAL: not an id; DSTREAM_ESTATE: it is there
 * already. */
int identity_add(struct identity_store *store, const char *id, int64_t now_s,
                 struct identity_device *out);

/* Adds a device, or replaces one with the same id (its `created_s` stays), with
 * the keys it brings.  DSTREAM_EINVAL: an id or a key length that is out of
 * bounds. */
int identity_put(struct identity_store *store,
                 const struct identity_device *device);

/* DSTREAM_ENOTFOUND. */
int identity_remove(struct identity_store *store, const char *id);
int identity_get(struct identity_store *store, const char *id,
                 struct identity_device *out);

/* Calls fn for each device after `after` (NULL: from the first), `limit` at
 * most, in the byte order of the ids, until fn returns false.  The device is
 * fn's for the call and wiped after it.  fn must not change the store. */
int identity_list(struct identity_store *store, const char *after, size_t limit,
                  bool (*fn)(void *user, const struct identity_device *device),
                  void *user);

/* Overwrites the keys. */
void identity_device_wipe(struct identity_device *device);

/* ---- policies ---- */

/* Adds a policy with two new random keys.  name: 1 to 64 of A-Z a-z 0-9 - _ .
 * DSTREAM_EINVAL, DSTREAM_ESTATE: it is there already. */
int identity_policy_add(struct identity_store *store, const char *name,
                        unsigned rights);

/* DSTREAM_ENOTFOUND. */
int identity_policy_get(struct identity_store *store, const char *name,
                        struct identity_policy *out);
void identity_policy_wipe(struct identity_policy *policy);

/* ---- tokens ---- */

/* Whether `token` (a "SharedAccessSignature ...") lets `client_id` ("device" or
 * "device/module") connect now: it is for that device (or that module, or the
 * whole hub when a policy signed it), signed with one of the device's keys or
 * with a policy's that has IDENTITY_DEVICE_CONNECT, and not expired; and the
 * device exists and is enabled.  A module is checked with its device's keys.
 * 0 and *grant; DSTREAM_ESAS, DSTREAM_EINVAL (client_id), DSTREAM_ENOTFOUND,
 * DSTREAM_EUNAUTHORIZED, DSTREAM_EINTERNAL: end (may be NULL) says why, for the
 * hub's log, not for the peer. */
int identity_check_device_sas(struct identity_store *store,
                              const struct identity_names *names,
                              const char *client_id, struct slice token,
                              uint64_t now_s, struct identity_grant *grant,
                              struct dstream_end *end);

/* Whether `token` is a policy's for the whole hub (its resource is a hub name),
 * the policy has every right in `rights`, and it is not expired.  Returns as
 * above. */
int identity_check_service_sas(struct identity_store *store,
                               const struct identity_names *names,
                               struct slice token, unsigned rights,
                               uint64_t now_s, struct identity_grant *grant,
                               struct dstream_end *end);

/* Whether what *grant rests on is still there: the device, enabled, and the key
 * that signed.  It looks at no clock.  0, DSTREAM_ENOTFOUND,
 * DSTREAM_EUNAUTHORIZED; DSTREAM_EINTERNAL: can't tell. */
int identity_recheck(struct identity_store *store, const char *client_id,
                     const struct identity_grant *grant);

#endif
