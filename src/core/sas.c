#include "core/sas.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <dstream/status.h>

#include "core/crypto.h"
#include "core/pairs.h"
#include "core/percent.h"

#define PREFIX "SharedAccessSignature "
/* base64 of the signature, each character at worst percent-encoded */
#define SIG_SIZE (3 * CRYPTO_BASE64_SIZE(CRYPTO_SHA256_LEN))

static bool printable(const char *text, bool raw) {
  for (const char *p = text; *p != '\0'; p++)
    if (*p < ' ' || *p > '~' || (raw && (*p == ' ' || *p == '&')))
      return false;
  return text[0] != '\0';
}

static int sign(struct slice sr, struct slice se, const uint8_t *key,
                size_t key_len, uint8_t *out) {
  char text[SAS_MAX + 32];
  if (sr.len + se.len + 1 > sizeof text)
    return DSTREAM_ELIMIT;
  memcpy(text, sr.p, sr.len);
  text[sr.len] = '\n';
  memcpy(text + sr.len + 1, se.p, se.len);
  return crypto_hmac_sha256(key, key_len, text, sr.len + 1 + se.len, out);
}

static int put_policy(char *out, size_t out_size, const char *policy) {
  int n = snprintf(out, out_size, "&skn=");
  if ((size_t)n >= out_size)
    return DSTREAM_ELIMIT;
  return percent_encode(slice_of(policy), out + n, out_size - (size_t)n);
}

static int put_token(char *out, size_t out_size, const char *sr, const char *se,
                     const uint8_t *digest, const char *policy) {
  char base64[CRYPTO_BASE64_SIZE(CRYPTO_SHA256_LEN)];
  char sig[SIG_SIZE];
  size_t len =
      crypto_base64_encode(digest, CRYPTO_SHA256_LEN, base64, sizeof base64);
  percent_encode((struct slice){base64, len}, sig, sizeof sig);
  if (out_size > SAS_MAX)
    out_size = SAS_MAX;
  int n = snprintf(out, out_size, PREFIX "sr=%s&sig=%s&se=%s", sr, sig, se);
  crypto_wipe(base64, sizeof base64);
  crypto_wipe(sig, sizeof sig);
  if (n < 0 || (size_t)n >= out_size)
    return DSTREAM_ELIMIT;
  if (policy != NULL && put_policy(out + n, out_size - (size_t)n, policy) < 0)
    return DSTREAM_ELIMIT;
  return (int)strlen(out);
}

int sas_make(char *out, size_t out_size, const char *resource,
             const uint8_t *key, size_t key_len, uint64_t expiry,
             const char *policy, enum sas_form form) {
  if (out_size == 0)
    return DSTREAM_ELIMIT;
  out[0] = '\0';
  if (!printable(resource, form == SAS_RAW_RESOURCE) ||
      (policy != NULL && !printable(policy, false)))
    return DSTREAM_EINVAL;

  char encoded[SAS_MAX];
  const char *sr = resource;
  if (form == SAS_ENCODED_RESOURCE) {
    int n = percent_encode(slice_of(resource), encoded, sizeof encoded);
    if (n < 0)
      return n;
    sr = encoded;
  }
  char se[24];
  snprintf(se, sizeof se, "%" PRIu64, expiry);
  uint8_t digest[CRYPTO_SHA256_LEN];
  int status = sign(slice_of(sr), slice_of(se), key, key_len, digest);
  if (status == DSTREAM_OK)
    status = put_token(out, out_size, sr, se, digest, policy);
  crypto_wipe(digest, sizeof digest);
  if (status < 0)
    out[0] = '\0';
  return status;
}

static bool parse_expiry(struct slice se, uint64_t *out) {
  uint64_t value = 0;
  if (se.len == 0)
    return false;
  for (size_t i = 0; i < se.len; i++) {
    if (se.p[i] < '0' || se.p[i] > '9')
      return false;
    unsigned digit = (unsigned)(se.p[i] - '0');
    if (value > (UINT64_MAX - digit) / 10)
      return false;
    value = value * 10 + digit;
  }
  *out = value;
  return se.len <= 20;
}

static bool collect(struct sas *out, struct slice rest) {
  const struct {
    const char *name;
    struct slice *value;
  } members[] = {{"sr", &out->sr},
                 {"sig", &out->sig},
                 {"se", &out->se},
                 {"skn", &out->skn}};
  struct pair pair;
  while (pairs_next(&rest, '&', &pair)) {
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
      if (!slice_eq(pair.name, members[i].name))
        continue;
      if (members[i].value->p != NULL)
        return false;
      *members[i].value = pair.value;
    }
  }
  if (out->skn.p == NULL)
    out->skn = SLICE_LITERAL("");
  return out->sr.len > 0 && out->sig.len > 0 &&
         parse_expiry(out->se, &out->expiry);
}

int sas_parse(struct sas *out, const char *text, size_t len) {
  memset(out, 0, sizeof *out);
  size_t prefix = strlen(PREFIX);
  bool good =
      len < SAS_MAX && len > prefix && strncasecmp(text, PREFIX, prefix) == 0;
  for (size_t i = prefix; good && i < len; i++)
    good = text[i] > ' ' && text[i] <= '~';
  if (good)
    good = collect(out, (struct slice){text + prefix, len - prefix});
  if (good)
    return DSTREAM_OK;
  memset(out, 0, sizeof *out);
  return DSTREAM_ESAS;
}

int sas_check(const struct sas *sas, const uint8_t *key, size_t key_len) {
  char base64[SIG_SIZE];
  size_t base64_len;
  uint8_t sig[CRYPTO_SHA256_LEN];
  size_t sig_len;
  if (percent_decode(sas->sig, base64, sizeof base64, &base64_len) != 0 ||
      crypto_base64_decode(base64, base64_len, sig, sizeof sig, &sig_len) != 0)
    return DSTREAM_EUNAUTHORIZED;

  uint8_t digest[CRYPTO_SHA256_LEN];
  int status = sign(sas->sr, sas->se, key, key_len, digest);
  if (status == DSTREAM_OK &&
      !crypto_equal(sig, sig_len, digest, sizeof digest))
    status = DSTREAM_EUNAUTHORIZED;
  crypto_wipe(digest, sizeof digest);
  return status;
}

bool sas_expired(const struct sas *sas, uint64_t now_s) {
  return now_s >= sas->expiry;
}

static int decoded(struct slice in, char *out, size_t out_size) {
  size_t len;
  int status = percent_decode(in, out, out_size, &len);
  if (status == DSTREAM_EFORMAT)
    return DSTREAM_ESAS;
  return status == DSTREAM_OK ? (int)len : status;
}

int sas_resource(const struct sas *sas, char *out, size_t out_size) {
  return decoded(sas->sr, out, out_size);
}

int sas_policy(const struct sas *sas, char *out, size_t out_size) {
  return decoded(sas->skn, out, out_size);
}

static bool same_resource(struct slice sr, const char *resource) {
  size_t host = strcspn(resource, "/");
  return sr.len == strlen(resource) && strncasecmp(sr.p, resource, host) == 0 &&
         memcmp(sr.p + host, resource + host, sr.len - host) == 0;
}

static size_t count_slashes(const char *text) {
  size_t count = 0;
  for (; *text != '\0'; text++)
    count += *text == '/';
  return count;
}

bool sas_resource_is(const struct sas *sas, const char *resource) {
  if (same_resource(sas->sr, resource))
    return true;
  char once[SAS_MAX];
  size_t len;
  if (percent_decode(sas->sr, once, sizeof once, &len) != DSTREAM_OK)
    return false;
  if (same_resource((struct slice){once, len}, resource))
    return true;
  char twice[SAS_MAX];
  if (percent_decode((struct slice){once, len}, twice, sizeof twice, &len) !=
      DSTREAM_OK)
    return false;
  /* The second round is for ids, which hold no '/': one that appears only now
   * would let a device's token pass for one of its modules. */
  return count_slashes(once) == count_slashes(twice) &&
         same_resource((struct slice){twice, len}, resource);
}
