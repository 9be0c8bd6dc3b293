/* Stream tokens: the input as a token, and as the claims of a genuine one. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include <dstream/status.h>

#include "core/crypto.h"
#include "core/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[32] = {1, 2, 3};

static void check(const char *text, size_t len) {
  struct token_claims claims, again;
  char made[TOKEN_SIZE];
  int status = token_check(&claims, text, len, key, sizeof key, 1000);
  if (status == DSTREAM_ETOKEN) {
    assert(claims.stream_id[0] == '\0' && claims.expiry_s == 0);
    return;
  }
  assert(status == (claims.expiry_s > 1000 ? DSTREAM_OK : DSTREAM_EEXPIRED));
  int n = token_make(made, sizeof made, &claims, key, sizeof key);
  assert(n > 0);
  assert(token_check(&again, made, (size_t)n, key, sizeof key, 0) == 0);
  assert(strcmp(again.stream_id, claims.stream_id) == 0);
  assert(strcmp(again.jti, claims.jti) == 0);
  assert(again.expiry_s == claims.expiry_s);
  assert(again.device_role == claims.device_role);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  check((const char *)data, size);
  if (size > 512)
    return 0;
  char text[1024] = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.";
  size_t n = strlen(text);
  n += crypto_base64url_encode(data, size, text + n, sizeof text - n);
  uint8_t digest[CRYPTO_SHA256_LEN];
  crypto_hmac_sha256(key, sizeof key, text, n, digest);
  text[n++] = '.';
  n +=
      crypto_base64url_encode(digest, sizeof digest, text + n, sizeof text - n);
  check(text, n);
  return 0;
}
