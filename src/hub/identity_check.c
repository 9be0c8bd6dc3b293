#include "hub/identity.h"

#include <stdio.h>
#include <string.h>

#include "core/conn_string.h"
#include "core/crypto.h"
#include "core/end.h"
#include "core/sas.h"

/* ---- client ids and keys ---- */
struct client_parts {
  char device[IDENTITY_ID_MAX + 1];
  char module[IDENTITY_ID_MAX + 1]; /* empty: the device itself */
};

static bool split_client(const char *client_id, struct client_parts *out) {
  memset(out, 0, sizeof *out);
  const char *slash = strchr(client_id, '/');
  struct slice device = slice_of(client_id);
  if (slash != NULL) {
    device.len = (size_t)(slash - client_id);
    struct slice module = slice_of(slash + 1);
    if (!conn_string_id_valid(module))
      return false;
    memcpy(out->module, module.p, module.len);
  }
  if (!conn_string_id_valid(device))
    return false;
  memcpy(out->device, device.p, device.len);
  return true;
}

static int key_tag(const struct identity_key *key, uint8_t *out, size_t size) {
  uint8_t digest[CRYPTO_SHA256_LEN];
  static const char label[] = "dstream identity";
  int status =
      crypto_hmac_sha256(key->bytes, key->len, label, sizeof label - 1, digest);
  if (status == DSTREAM_OK)
    memcpy(out, digest, size);
  crypto_wipe(digest, sizeof digest);
  return status;
}

/* Which of two keys signed, if any. */
static int check_keys(const struct sas *sas, const struct identity_key *first,
                      const struct identity_key *second,
                      struct identity_grant *grant) {
  const struct identity_key *keys[] = {first, second};
  int status = DSTREAM_EUNAUTHORIZED;
  for (size_t i = 0; i < 2 && status == DSTREAM_EUNAUTHORIZED; i++) {
    status = sas_check(sas, keys[i]->bytes, keys[i]->len);
    if (status == DSTREAM_OK)
      status = key_tag(keys[i], grant->key_tag, sizeof grant->key_tag);
  }
  return status;
}

static int check_policy(struct identity_store *store, const struct sas *sas,
                        unsigned rights, struct identity_grant *grant,
                        struct dstream_end *end) {
  struct identity_policy policy;
  if (sas_policy(sas, grant->policy, sizeof grant->policy) < 0) {
    end_set(end, DSTREAM_EUNAUTHORIZED, "the token's policy name is too long");
    return DSTREAM_EUNAUTHORIZED;
  }
  int status = identity_policy_get(store, grant->policy, &policy);
  if (status == DSTREAM_ENOTFOUND)
    status = DSTREAM_EUNAUTHORIZED;
  if (status != DSTREAM_OK) {
    end_set(end, status,
            status == DSTREAM_EUNAUTHORIZED
                ? "the token is of a policy that does not exist"
                : "the identity database failed");
    return status;
  }
  status = check_keys(sas, &policy.primary, &policy.secondary, grant);
  if (status != DSTREAM_OK) {
    end_set(end, status, "the token was not signed with the key of policy %s",
            policy.name);
  } else if ((policy.rights & rights) != rights) {
    status = DSTREAM_EUNAUTHORIZED;
    end_set(end, status, "policy %s lacks the right", policy.name);
  }
  identity_policy_wipe(&policy);
  return status;
}

/* ---- the keys of a device: its own, or those that its groups give it ---- */

/* False: enough. */
typedef bool keys_fn(void *user, const struct identity_key *first,
                     const struct identity_key *second);

struct derivation {
  const char *id;
  keys_fn *fn;
  void *user;
  unsigned groups;
};

static bool derive_keys(void *user, const struct identity_group *group) {
  struct derivation *derivation = user;
  struct identity_key first, second;
  bool more = true;
  derivation->groups++;
  if (identity_group_derive(&group->primary, derivation->id, &first) ==
          DSTREAM_OK &&
      identity_group_derive(&group->secondary, derivation->id, &second) ==
          DSTREAM_OK)
    more = derivation->fn(derivation->user, &first, &second);
  crypto_wipe(&first, sizeof first);
  crypto_wipe(&second, sizeof second);
  return more;
}

static int each_group_keys(struct identity_store *store, const char *id,
                           keys_fn *fn, void *user) {
  struct derivation derivation = {.id = id, .fn = fn, .user = user};
  int status = identity_group_each(store, id, derive_keys, &derivation);
  return status == DSTREAM_OK && derivation.groups == 0 ? DSTREAM_ENOTFOUND
                                                        : status;
}

static int fail(struct dstream_end *end, int status, const char *why) {
  end_set(end, status, "%s", why);
  return status;
}

static int each_keys(struct identity_store *store, const char *id, keys_fn *fn,
                     void *user, struct dstream_end *end) {
  struct identity_device device;
  int status = identity_get(store, id, &device);
  bool entry = status == DSTREAM_OK;
  if (entry && !device.enabled) {
    status = fail(end, DSTREAM_EUNAUTHORIZED, "the device is disabled");
  } else if (entry && device.auth == IDENTITY_KEYS) {
    fn(user, &device.primary, &device.secondary);
  } else if (entry && device.auth != IDENTITY_GROUP) {
    status = fail(end, DSTREAM_EUNAUTHORIZED,
                  "the device is to show its certificate, no token");
  } else if (entry || status == DSTREAM_ENOTFOUND) {
    status = each_group_keys(store, id, fn, user);
  }
  if (entry)
    identity_device_wipe(&device);
  if (status == DSTREAM_ENOTFOUND)
    fail(end, status, "there is no such device");
  else if (status != DSTREAM_OK && status != DSTREAM_EUNAUTHORIZED)
    fail(end, status, "the identity database failed");
  return status;
}

struct token_check {
  const struct sas *sas;
  struct identity_grant *grant;
  int status;
};

static bool try_keys(void *user, const struct identity_key *first,
                     const struct identity_key *second) {
  struct token_check *check = user;
  check->status = check_keys(check->sas, first, second, check->grant);
  return check->status == DSTREAM_EUNAUTHORIZED;
}

static int check_device(struct identity_store *store, const char *id,
                        const struct sas *sas, struct identity_grant *grant,
                        struct dstream_end *end) {
  struct token_check check = {sas, grant, DSTREAM_EUNAUTHORIZED};
  int status = each_keys(store, id, try_keys, &check, end);
  if (status != DSTREAM_OK)
    return status;
  if (check.status != DSTREAM_OK)
    fail(end, check.status, "the token was not signed with the device's key");
  return check.status;
}

/* However it is to prove itself: a policy vouches for it. */
static int check_known(struct identity_store *store, const char *id,
                       struct dstream_end *end) {
  bool enabled = false;
  int status = identity_known(store, id, &enabled);
  if (status == DSTREAM_ENOTFOUND)
    return fail(end, status, "there is no such device");
  if (status != DSTREAM_OK)
    return fail(end, status, "the identity database failed");
  return enabled ? status
                 : fail(end, DSTREAM_EUNAUTHORIZED, "the device is disabled");
}

/* ---- tokens ---- */

/* Whether the token's resource is one that this client may use. */
static bool resource_fits(const struct sas *sas,
                          const struct identity_names *names,
                          const struct client_parts *client, bool by_policy) {
  char resource[512 + 2 * IDENTITY_ID_MAX];
  for (size_t i = 0; i < names->count; i++) {
    const char *host = names->name[i];
    if (by_policy && sas_resource_is(sas, host))
      return true;
    snprintf(resource, sizeof resource, "%.255s/devices/%s", host,
             client->device);
    if (sas_resource_is(sas, resource))
      return true;
    if (client->module[0] == '\0')
      continue;
    snprintf(resource, sizeof resource, "%.255s/devices/%s/modules/%s", host,
             client->device, client->module);
    if (sas_resource_is(sas, resource))
      return true;
  }
  return false;
}

static int parse_token(struct sas *sas, struct slice token, uint64_t now_s,
                       struct dstream_end *end) {
  int status = sas_parse(sas, token.p, token.len);
  if (status != DSTREAM_OK) {
    end_set(end, status,
            token.len == 0
                ? "there is no token"
                : "the password is not a SharedAccessSignature token");
    return status;
  }
  if (!sas_expired(sas, now_s))
    return DSTREAM_OK;
  end_set(end, DSTREAM_EUNAUTHORIZED,
          "the token expired %llu s ago: is the device's clock right?",
          (unsigned long long)(now_s - sas->expiry));
  return DSTREAM_EUNAUTHORIZED;
}

int identity_check_device_sas(struct identity_store *store,
                              const struct identity_names *names,
                              const char *client_id, struct slice token,
                              uint64_t now_s, struct identity_grant *grant,
                              struct dstream_end *end) {
  struct client_parts client;
  struct sas sas;
  memset(grant, 0, sizeof *grant);
  if (!split_client(client_id, &client)) {
    end_set(end, DSTREAM_EINVAL, "the client id is not a device id");
    return DSTREAM_EINVAL;
  }
  int status = parse_token(&sas, token, now_s, end);
  if (status != DSTREAM_OK)
    return status;
  grant->expiry_s = sas.expiry;
  bool by_policy = sas.skn.len > 0;
  if (!resource_fits(&sas, names, &client, by_policy)) {
    end_set(end, DSTREAM_EUNAUTHORIZED,
            "the token is for another device or another hub name");
    return DSTREAM_EUNAUTHORIZED;
  }
  if (!by_policy)
    return check_device(store, client.device, &sas, grant, end);
  status = check_policy(store, &sas, IDENTITY_DEVICE_CONNECT, grant, end);
  if (status == DSTREAM_OK)
    status = check_known(store, client.device, end);
  return status;
}

static bool resource_is_hub(const struct sas *sas,
                            const struct identity_names *names) {
  for (size_t i = 0; i < names->count; i++) {
    if (sas_resource_is(sas, names->name[i]))
      return true;
  }
  return false;
}

int identity_check_service_sas(struct identity_store *store,
                               const struct identity_names *names,
                               struct slice token, unsigned rights,
                               uint64_t now_s, struct identity_grant *grant,
                               struct dstream_end *end) {
  struct sas sas;
  memset(grant, 0, sizeof *grant);
  int status = parse_token(&sas, token, now_s, end);
  if (status != DSTREAM_OK)
    return status;
  grant->expiry_s = sas.expiry;
  if (sas.skn.len == 0) {
    end_set(end, DSTREAM_EUNAUTHORIZED,
            "the token names no policy: skn is missing");
    return DSTREAM_EUNAUTHORIZED;
  }
  if (!resource_is_hub(&sas, names)) {
    end_set(end, DSTREAM_EUNAUTHORIZED, "the token is for another hub name");
    return DSTREAM_EUNAUTHORIZED;
  }
  return check_policy(store, &sas, rights, grant, end);
}

/* ---- certificates ---- */

static bool thumbprint_is(const char *thumbprint,
                          const struct identity_thumbprints *shown) {
  char text[IDENTITY_THUMBPRINT_SIZE];
  bool is_sha1 = strlen(thumbprint) == 2 * (size_t)IDENTITY_SHA1_LEN;
  const uint8_t *digest = is_sha1 ? shown->sha1 : shown->sha256;
  size_t len = is_sha1 ? IDENTITY_SHA1_LEN : IDENTITY_SHA256_LEN;
  for (size_t i = 0; i < len; i++)
    snprintf(text + 2 * i, 3, "%02x", digest[i]);
  return strcmp(thumbprint, text) == 0;
}

/* NULL: it is the device's.  Otherwise why not. */
static const char *
judge_certificate(const struct identity_device *device,
                  const struct identity_thumbprints *thumbprints,
                  bool trusted) {
  if (!device->enabled)
    return "the device is disabled";
  if (device->auth == IDENTITY_CA)
    return trusted ? NULL
                   : "no CA of device_ca_file vouches for its certificate";
  if (device->auth != IDENTITY_THUMBPRINT)
    return "the device is to send a token, no certificate";
  if (thumbprint_is(device->thumbprint[0], thumbprints) ||
      thumbprint_is(device->thumbprint[1], thumbprints))
    return NULL;
  return "its certificate has another thumbprint";
}

static const char *judge_dates(const struct identity_certificate *certificate,
                               uint64_t now_s) {
  if ((int64_t)now_s < certificate->not_before_s)
    return "its certificate is not valid yet: is the hub's clock right?";
  if ((int64_t)now_s > certificate->not_after_s)
    return "its certificate has expired";
  return NULL;
}

int identity_check_certificate(struct identity_store *store,
                               const char *client_id,
                               const struct identity_certificate *certificate,
                               uint64_t now_s, struct identity_grant *grant,
                               struct dstream_end *end) {
  struct client_parts client;
  struct identity_device device;
  memset(grant, 0, sizeof *grant);
  if (!split_client(client_id, &client))
    return fail(end, DSTREAM_EINVAL, "the client id is not a device id");
  int status = identity_get(store, client.device, &device);
  if (status != DSTREAM_OK)
    return fail(end, status,
                status == DSTREAM_ENOTFOUND ? "there is no such device"
                                            : "the identity database failed");
  const char *why = judge_certificate(&device, &certificate->thumbprints,
                                      certificate->trusted);
  if (why == NULL && device.auth == IDENTITY_CA &&
      strcmp(certificate->name, client.device) != 0)
    why = "its certificate's common name is not its id";
  if (why == NULL)
    why = judge_dates(certificate, now_s);
  identity_device_wipe(&device);
  if (why != NULL)
    return fail(end, DSTREAM_EUNAUTHORIZED, why);
  grant->by_certificate = true;
  grant->trusted = certificate->trusted;
  grant->thumbprints = certificate->thumbprints;
  grant->expiry_s = (uint64_t)certificate->not_after_s;
  return DSTREAM_OK;
}

/* ---- once more ---- */

static bool tag_matches(const struct identity_grant *grant,
                        const struct identity_key *first,
                        const struct identity_key *second) {
  uint8_t tag[sizeof grant->key_tag];
  const struct identity_key *keys[] = {first, second};
  for (size_t i = 0; i < 2; i++) {
    if (key_tag(keys[i], tag, sizeof tag) == DSTREAM_OK &&
        crypto_equal(tag, sizeof tag, grant->key_tag, sizeof tag))
      return true;
  }
  return false;
}

static int recheck_policy(struct identity_store *store,
                          const struct identity_grant *grant) {
  struct identity_policy policy;
  int status = identity_policy_get(store, grant->policy, &policy);
  if (status != DSTREAM_OK)
    return status == DSTREAM_ENOTFOUND ? DSTREAM_EUNAUTHORIZED : status;
  if ((policy.rights & IDENTITY_DEVICE_CONNECT) == 0 ||
      !tag_matches(grant, &policy.primary, &policy.secondary))
    status = DSTREAM_EUNAUTHORIZED;
  identity_policy_wipe(&policy);
  return status;
}

static int recheck_certificate(struct identity_store *store, const char *id,
                               const struct identity_grant *grant) {
  struct identity_device device;
  int status = identity_get(store, id, &device);
  if (status != DSTREAM_OK)
    return status;
  if (judge_certificate(&device, &grant->thumbprints, grant->trusted) != NULL)
    status = DSTREAM_EUNAUTHORIZED;
  identity_device_wipe(&device);
  return status;
}

struct tag_check {
  const struct identity_grant *grant;
  bool matches;
};

static bool try_tags(void *user, const struct identity_key *first,
                     const struct identity_key *second) {
  struct tag_check *check = user;
  check->matches = tag_matches(check->grant, first, second);
  return !check->matches;
}

int identity_recheck(struct identity_store *store, const char *client_id,
                     const struct identity_grant *grant) {
  struct client_parts client;
  if (!split_client(client_id, &client))
    return DSTREAM_ENOTFOUND;
  if (grant->by_certificate)
    return recheck_certificate(store, client.device, grant);
  if (grant->policy[0] != '\0') {
    int status = check_known(store, client.device, NULL);
    return status == DSTREAM_OK ? recheck_policy(store, grant) : status;
  }
  struct tag_check check = {grant, false};
  int status = each_keys(store, client.device, try_tags, &check, NULL);
  if (status == DSTREAM_OK && !check.matches)
    status = DSTREAM_EUNAUTHORIZED;
  return status;
}
