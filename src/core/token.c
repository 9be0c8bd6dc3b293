#include "core/token.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include <dstream/status.h>

#include "core/crypto.h"
#include "core/slice.h"

/* base64url of {"typ":"JWT","alg":"HS256"}.  Every genuine token begins with
 * exactly this, so no other header needs to be understood. */
#define HEADER   "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9"
#define SIG_SIZE CRYPTO_BASE64_SIZE(CRYPTO_SHA256_LEN)
/* JSON's numbers are exact up to here. */
#define EXPIRY_MAX (UINT64_C(1) << 53)
#define JTI_BYTES  32

static bool is_id(const char *text, size_t size) {
  size_t len = strnlen(text, size);
  for (size_t i = 0; i < len; i++) {
    char c = text[i];
    if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
          (c >= '0' && c <= '9') || c == '-' || c == '_'))
      return false;
  }
  return len > 0 && len < size;
}

int token_claims_init(struct token_claims *claims, const char *stream_id,
                      bool device_role, uint64_t expiry_s) {
  memset(claims, 0, sizeof *claims);
  if (!is_id(stream_id, TOKEN_ID_SIZE))
    return DSTREAM_EINVAL;
  uint8_t random[JTI_BYTES];
  int status = crypto_random(random, sizeof random);
  if (status != DSTREAM_OK)
    return status;
  crypto_base64url_encode(random, sizeof random, claims->jti,
                          CRYPTO_BASE64_SIZE(sizeof random));
  memcpy(claims->stream_id, stream_id, strlen(stream_id));
  claims->device_role = device_role;
  claims->expiry_s = expiry_s;
  return DSTREAM_OK;
}

static bool valid(const struct token_claims *claims) {
  return is_id(claims->stream_id, sizeof claims->stream_id) &&
         is_id(claims->jti, sizeof claims->jti) && claims->expiry_s > 0 &&
         claims->expiry_s <= EXPIRY_MAX;
}

int token_make(char *out, size_t out_size, const struct token_claims *claims,
               const uint8_t *key, size_t key_len) {
  if (out_size == 0)
    return DSTREAM_ELIMIT;
  out[0] = '\0';
  if (!valid(claims))
    return DSTREAM_EINVAL;
  /* The ids have only characters that JSON takes as they are. */
  char body[256];
  int body_len = snprintf(body, sizeof body,
                          "{\"exp\":%" PRIu64 ",\"jti\":\"%s\","
                          "\"iothub-stream-id\":\"%s\","
                          "\"iothub-stream-role\":\"%s\"}",
                          claims->expiry_s, claims->jti, claims->stream_id,
                          claims->device_role ? "device" : "service");
  char signed_part[TOKEN_SIZE];
  memcpy(signed_part, HEADER ".", sizeof HEADER);
  size_t n = sizeof HEADER;
  n += crypto_base64url_encode(body, (size_t)body_len, signed_part + n,
                               sizeof signed_part - n);

  uint8_t digest[CRYPTO_SHA256_LEN];
  char sig[SIG_SIZE];
  int status = crypto_hmac_sha256(key, key_len, signed_part, n, digest);
  if (status != DSTREAM_OK)
    return status;
  crypto_base64url_encode(digest, sizeof digest, sig, sizeof sig);
  int len = snprintf(out, out_size, "%s.%s", signed_part, sig);
  crypto_wipe(digest, sizeof digest);
  crypto_wipe(sig, sizeof sig);
  if (len >= 0 && (size_t)len < out_size)
    return len;
  crypto_wipe(out, out_size);
  return DSTREAM_ELIMIT;
}

/* text: header.body.signature.  Fills *body. */
static int check_signature(const char *text, size_t len, const uint8_t *key,
                           size_t key_len, struct slice *body) {
  size_t prefix = strlen(HEADER ".");
  if (len >= TOKEN_SIZE || len <= prefix ||
      memcmp(text, HEADER ".", prefix) != 0)
    return DSTREAM_ETOKEN;
  const char *dot = memchr(text + prefix, '.', len - prefix);
  if (dot == NULL)
    return DSTREAM_ETOKEN;
  size_t signed_len = (size_t)(dot - text);
  uint8_t sig[CRYPTO_SHA256_LEN];
  size_t sig_len;
  if (crypto_base64url_decode(dot + 1, len - signed_len - 1, sig, sizeof sig,
                              &sig_len) != DSTREAM_OK)
    return DSTREAM_ETOKEN;
  uint8_t digest[CRYPTO_SHA256_LEN];
  int status = crypto_hmac_sha256(key, key_len, text, signed_len, digest);
  if (status == DSTREAM_OK &&
      !crypto_equal(sig, sig_len, digest, sizeof digest))
    status = DSTREAM_ETOKEN;
  crypto_wipe(digest, sizeof digest);
  *body = (struct slice){text + prefix, signed_len - prefix};
  return status;
}

static bool read_id(const cJSON *json, const char *name, char *out,
                    size_t out_size) {
  const char *value =
      cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, name));
  if (value == NULL || !is_id(value, out_size))
    return false;
  memcpy(out, value, strlen(value) + 1);
  return true;
}

static bool read_expiry(const cJSON *json, uint64_t *out) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, "exp");
  if (!cJSON_IsNumber(item) || !(item->valuedouble >= 1) ||
      item->valuedouble > (double)EXPIRY_MAX)
    return false;
  *out = (uint64_t)item->valuedouble;
  return true;
}

static bool read_role(const cJSON *json, bool *device_role) {
  const char *role = cJSON_GetStringValue(
      cJSON_GetObjectItemCaseSensitive(json, "iothub-stream-role"));
  *device_role = role != NULL && strcmp(role, "device") == 0;
  return *device_role || (role != NULL && strcmp(role, "service") == 0);
}

static int read_claims(struct token_claims *claims, struct slice body) {
  char text[TOKEN_SIZE];
  size_t len;
  if (crypto_base64url_decode(body.p, body.len, (uint8_t *)text,
                              sizeof text - 1, &len) != DSTREAM_OK)
    return DSTREAM_ETOKEN;
  text[len] = '\0';
  cJSON *json = cJSON_ParseWithOpts(text, NULL, true);
  bool good = cJSON_IsObject(json) && read_expiry(json, &claims->expiry_s) &&
              read_id(json, "jti", claims->jti, sizeof claims->jti) &&
              read_id(json, "iothub-stream-id", claims->stream_id,
                      sizeof claims->stream_id) &&
              read_role(json, &claims->device_role);
  cJSON_Delete(json);
  return good ? DSTREAM_OK : DSTREAM_ETOKEN;
}

int token_check(struct token_claims *claims, const char *text, size_t len,
                const uint8_t *key, size_t key_len, uint64_t now_s) {
  memset(claims, 0, sizeof *claims);
  struct slice body;
  int status = check_signature(text, len, key, key_len, &body);
  if (status == DSTREAM_OK)
    status = read_claims(claims, body);
  if (status != DSTREAM_OK) {
    memset(claims, 0, sizeof *claims);
    return status;
  }
  return now_s < claims->expiry_s ? DSTREAM_OK : DSTREAM_EEXPIRED;
}
