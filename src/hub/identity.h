/* hub/identity.h - who may connect: devices, groups of devices and service
 * policies, in SQLite.
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

#define IDENTITY_ID_MAX          128 /* as Azure's device ids */
#define IDENTITY_CLIENT_MAX      (2 * IDENTITY_ID_MAX + 1) /* "device/module" */
#define IDENTITY_POLICY_MAX      64
#define IDENTITY_KEY_LEN         32 /* of the keys made here */
#define IDENTITY_KEY_MIN         16 /* of keys brought along, as Azure's */
#define IDENTITY_KEY_MAX         64
#define IDENTITY_NAMES_MAX       8
#define IDENTITY_GROUPS_MAX      64 /* each may have to be tried with a token */
#define IDENTITY_SHA1_LEN        20
#define IDENTITY_SHA256_LEN      32
#define IDENTITY_THUMBPRINT_SIZE (2 * IDENTITY_SHA256_LEN + 1)
#define IDENTITY_TAG_SIZE        17  /* 16 hex digits and the zero */
#define IDENTITY_REASON_MAX      128 /* bytes, as Azure's status reasons */

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

/* How a device proves who it is.  The numbers are in the database. */
enum identity_auth {
  IDENTITY_KEYS = 0,       /* a token signed with one of its two keys */
  IDENTITY_THUMBPRINT = 1, /* a certificate with one of its two thumbprints,
                              whoever signed it */
  IDENTITY_CA = 2,         /* a certificate of a CA that the hub trusts for
                              devices, with the id as its common name */
  IDENTITY_GROUP = 3       /* as a member of a group: the entry is there to
                              disable it */
};

enum identity_which { IDENTITY_PRIMARY, IDENTITY_SECONDARY };

struct identity_device {
  char id[IDENTITY_ID_MAX + 1];
  enum identity_auth auth;
  struct identity_key primary; /* both only used with IDENTITY_KEYS */
  struct identity_key secondary;
  /* By enum identity_which: lower-case hex of the certificate's SHA-1 (40
   * digits) or SHA-256 (64); empty: none. */
  char thumbprint[2][IDENTITY_THUMBPRINT_SIZE];
  bool enabled;
  int64_t created_s; /* Unix seconds */
  int64_t status_s;  /* `enabled` last changed; 0: never */
  char status_reason[IDENTITY_REASON_MAX + 1]; /* why, in an operator's words */
  /* The store's: random, for people who change devices from several places. The
   * etag is new after each change, the generation when the id was added anew.
   */
  char generation[IDENTITY_TAG_SIZE];
  char etag[IDENTITY_TAG_SIZE];
};

/* Devices whose ids begin with the prefix, without an entry for each: a
 * device's key is HMAC-SHA256(the group's key, its id), as the official
 * provisioning service derives it. */
struct identity_group {
  char name[IDENTITY_POLICY_MAX + 1];
  char prefix[IDENTITY_ID_MAX + 1]; /* empty: every id */
  struct identity_key primary;
  struct identity_key secondary;
};

/* What tells one certificate from all others. */
struct identity_thumbprints {
  uint8_t sha1[IDENTITY_SHA1_LEN];
  uint8_t sha256[IDENTITY_SHA256_LEN];
};

/* The certificate that a client has shown, and whose key it has. */
struct identity_certificate {
  struct identity_thumbprints thumbprints;
  bool trusted;                   /* a CA that is trusted for devices vouches */
  char name[IDENTITY_ID_MAX + 1]; /* its only common name; empty: none */
  int64_t not_before_s;           /* Unix seconds */
  int64_t not_after_s;
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
  bool by_certificate; /* then only what follows and expiry_s count */
  bool trusted;
  struct identity_thumbprints thumbprints;
};

struct identity_store;

/* Creates the file with mode 0600, and in it Azure's policies, "iothubowner"
 * (all rights), "service" (service connect), "device" (device connect),
 * "registryRead" and "registryReadWrite", then opens it.  DSTREAM_ESTATE: the
 * file is there already; DSTREAM_ESYSTEM, DSTREAM_EINTERNAL, DSTREAM_ENOMEM.
 * end (may be NULL) says what is wrong. */
int identity_create(struct identity_store **out, const char *path,
                    struct dstream_end *end);

/* Opens the file; one of an older version is brought up to date first, if it
 * can be written.  read_only: nothing else is ever written, and a busy database
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

/* ---- devices.  All may return DSTREAM_EINTERNAL: the database failed; those
 * that write DSTREAM_ESYSTEM: its disk is full, nothing was changed ---- */

/* Adds a device, enabled, with two new random keys; *out (may be NULL) is the
 * device with its keys.  DSTREAM_EINVAL: not an id; DSTREAM_ESTATE: it is there
 * already. */
int identity_add(struct identity_store *store, const char *id, int64_t now_s,
                 struct identity_device *out);

/* Adds a device without keys, enabled: auth is IDENTITY_THUMBPRINT with one or
 * two thumbprints (as identity_thumbprint gives them; second may be NULL), or
 * IDENTITY_CA with none.  DSTREAM_EINVAL, DSTREAM_ESTATE. */
int identity_add_x509(struct identity_store *store, const char *id,
                      int64_t now_s, enum identity_auth auth, const char *first,
                      const char *second);

/* Reads a thumbprint as people have it: 40 or 64 hex digits, in upper or lower
 * case, colons between them or not. */
bool identity_thumbprint(const char *text, char out[IDENTITY_THUMBPRINT_SIZE]);

/* Adds a device, or replaces one with the same id, with what it brings but for
 * generation and etag, which are the store's; a replaced one's created_s stays,
 * and its status_s too unless `enabled` changed.  DSTREAM_EINVAL: an id or a
 * key length that is out of bounds, a thumbprint that is none, a reason that is
 * no plain text. */
int identity_put(struct identity_store *store,
                 const struct identity_device *device);

/* Two new keys, for identity_put.  DSTREAM_EINTERNAL. */
int identity_make_keys(struct identity_device *device);

/* Whether a text can be a status_reason: UTF-8 without control characters. */
bool identity_reason_valid(const char *reason);

/* What is changed from begin to commit is there as a whole or not at all, and
 * costs one wait for the disk; nobody else can write meanwhile, so be quick.
 * After DSTREAM_EINTERNAL or DSTREAM_ESYSTEM of anything in between, and of
 * commit itself, roll back. */
int identity_begin(struct identity_store *store);
int identity_commit(struct identity_store *store);
void identity_rollback(struct identity_store *store);

/* Disables or enables a device.  Disabling a group's device makes an entry for
 * it.  DSTREAM_ENOTFOUND. */
int identity_set_enabled(struct identity_store *store, const char *id,
                         bool enabled, int64_t now_s);

/* Makes one of a device's keys anew.  *out (may be NULL) is the new one.
 * DSTREAM_ENOTFOUND; DSTREAM_ESTATE: it has no keys of its own. */
int identity_new_key(struct identity_store *store, const char *id,
                     enum identity_which which, struct identity_key *out);

/* Whether the hub knows a device, by an entry or by a group.
 * DSTREAM_ENOTFOUND. */
int identity_known(struct identity_store *store, const char *id, bool *enabled);

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

/* How many devices have an entry. */
int identity_count(struct identity_store *store, size_t *devices,
                   size_t *disabled);

/* Overwrites the keys. */
void identity_device_wipe(struct identity_device *device);

/* ---- groups ---- */

/* Adds a group with two new random keys.  name: as a policy's; prefix: empty,
 * or what can begin an id.  DSTREAM_EINVAL; DSTREAM_ESTATE: it is there
 * already; DSTREAM_ELIMIT: there are IDENTITY_GROUPS_MAX. */
int identity_group_add(struct identity_store *store, const char *name,
                       const char *prefix);

/* DSTREAM_ENOTFOUND. */
int identity_group_remove(struct identity_store *store, const char *name);
int identity_group_get(struct identity_store *store, const char *name,
                       struct identity_group *out);
int identity_group_new_key(struct identity_store *store, const char *name,
                           enum identity_which which);

/* Calls fn for each group, by name; member not NULL: only for those that this
 * device id belongs to.  Otherwise as identity_list. */
int identity_group_each(struct identity_store *store, const char *member,
                        bool (*fn)(void *user,
                                   const struct identity_group *group),
                        void *user);

bool identity_group_covers(const struct identity_group *group, const char *id);

/* A device's key, from one of the group's.  DSTREAM_EINTERNAL. */
int identity_group_derive(const struct identity_key *group_key, const char *id,
                          struct identity_key *out);

/* Overwrites the keys. */
void identity_group_wipe(struct identity_group *group);

/* ---- policies ---- */

/* Adds a policy with two new random keys.  name: 1 to 64 of A-Z a-z 0-9 - _ .
 * DSTREAM_EINVAL, DSTREAM_ESTATE: it is there already. */
int identity_policy_add(struct identity_store *store, const char *name,
                        unsigned rights);

/* Makes one of a policy's keys anew.  DSTREAM_ENOTFOUND. */
int identity_policy_new_key(struct identity_store *store, const char *name,
                            enum identity_which which);

/* DSTREAM_ENOTFOUND. */
int identity_policy_get(struct identity_store *store, const char *name,
                        struct identity_policy *out);
void identity_policy_wipe(struct identity_policy *policy);

/* ---- tokens and certificates (identity_check.c) ---- */

/* Whether `token` (a "SharedAccessSignature ...") lets `client_id` ("device" or
 * "device/module") connect now: it is for that device (or that module, or the
 * whole hub when a policy signed it), signed with one of the device's keys or
 * with a policy's that has IDENTITY_DEVICE_CONNECT, and not expired; and the
 * device is known and enabled.  A module is checked with its device's keys.
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

/* Whether this certificate lets `client_id` connect now: it has the device's
 * thumbprint, or names the device and is trusted, by how the device is to prove
 * itself; and the present is within its dates.  A module uses its device's.
 * Returns as above. */
int identity_check_certificate(struct identity_store *store,
                               const char *client_id,
                               const struct identity_certificate *certificate,
                               uint64_t now_s, struct identity_grant *grant,
                               struct dstream_end *end);

/* Whether what *grant rests on is still there: the device, enabled, and the key
 * that signed, or its certificate's thumbprint.  It looks at no clock.  0,
 * DSTREAM_ENOTFOUND, DSTREAM_EUNAUTHORIZED; DSTREAM_EINTERNAL: can't tell. */
int identity_recheck(struct identity_store *store, const char *client_id,
                     const struct identity_grant *grant);

#endif
