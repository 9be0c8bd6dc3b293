#include "core/crypto.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <dstream/status.h>

static const char standard_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

int crypto_sha1(const void *data, size_t len, uint8_t *out) {
  if (EVP_Digest(data, len, out, NULL, EVP_sha1(), NULL) != 1)
    return DSTREAM_EINTERNAL;
  return DSTREAM_OK;
}

int crypto_hmac_sha256(const void *key, size_t key_len, const void *data,
                       size_t len, uint8_t *out) {
  if (key_len > INT_MAX)
    return DSTREAM_EINTERNAL;
  if (key_len == 0)
    key = ""; /* OpenSSL 3 refuses NULL */
  if (HMAC(EVP_sha256(), key, (int)key_len, data, len, out, NULL) == NULL)
    return DSTREAM_EINTERNAL;
  return DSTREAM_OK;
}

static size_t encode(const char *alphabet, const uint8_t *in, size_t len,
                     char *out) {
  size_t n = 0;
  for (; len >= 3; in += 3, len -= 3) {
    uint32_t bits = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
    out[n++] = alphabet[bits >> 18];
    out[n++] = alphabet[bits >> 12 & 63];
    out[n++] = alphabet[bits >> 6 & 63];
    out[n++] = alphabet[bits & 63];
  }
  if (len > 0) {
    uint32_t bits = (uint32_t)in[0] << 16;
    if (len == 2)
      bits |= (uint32_t)in[1] << 8;
    out[n++] = alphabet[bits >> 18];
    out[n++] = alphabet[bits >> 12 & 63];
    if (len == 2)
      out[n++] = alphabet[bits >> 6 & 63];
  }
  return n;
}

static int digit_value(const char *alphabet, char c) {
  if (c >= 'A' && c <= 'Z')
    return c - 'A';
  if (c >= 'a' && c <= 'z')
    return c - 'a' + 26;
  if (c >= '0' && c <= '9')
    return c - '0' + 52;
  if (c == alphabet[62])
    return 62;
  return c == alphabet[63] ? 63 : -1;
}

/* Decodes digits without padding.  *rest: the unused bits of the last digit. */
static int decode(const char *alphabet, const char *text, size_t len,
                  uint8_t *out, size_t out_size, size_t *out_len,
                  uint32_t *rest) {
  if (len % 4 == 1)
    return DSTREAM_EFORMAT;
  size_t want = len / 4 * 3 + (len % 4 == 0 ? 0 : len % 4 - 1);
  if (want > out_size)
    return DSTREAM_ELIMIT;
  uint32_t bits = 0;
  unsigned bit_count = 0;
  size_t n = 0;
  for (size_t i = 0; i < len; i++) {
    int value = digit_value(alphabet, text[i]);
    if (value < 0)
      return DSTREAM_EFORMAT;
    bits = (bits << 6 | (uint32_t)value) & 0xffff;
    bit_count += 6;
    if (bit_count >= 8) {
      bit_count -= 8;
      out[n++] = (uint8_t)(bits >> bit_count);
    }
  }
  assert(n == want);
  *out_len = n;
  *rest = bits & ((1u << bit_count) - 1);
  return DSTREAM_OK;
}

size_t crypto_base64_encode(const void *data, size_t len, char *out,
                            size_t out_size) {
  assert(out_size >= CRYPTO_BASE64_SIZE(len));
  size_t n = encode(standard_alphabet, data, len, out);
  while (n % 4 != 0)
    out[n++] = '=';
  out[n] = '\0';
  return n;
}

int crypto_base64_decode(const char *text, size_t len, uint8_t *out,
                         size_t out_size, size_t *out_len) {
  if (len % 4 != 0)
    return DSTREAM_EFORMAT;
  for (int i = 0; i < 2 && len > 0 && text[len - 1] == '='; i++)
    len--;
  /* Unused bits that are not zero pass: keys that people made up have them, and
   * .NET, which the official service is built on, takes them. */
  uint32_t rest;
  return decode(standard_alphabet, text, len, out, out_size, out_len, &rest);
}

size_t crypto_base64url_encode(const void *data, size_t len, char *out,
                               size_t out_size) {
  assert(out_size >= CRYPTO_BASE64_SIZE(len));
  size_t n = encode(url_alphabet, data, len, out);
  out[n] = '\0';
  return n;
}

int crypto_base64url_decode(const char *text, size_t len, uint8_t *out,
                            size_t out_size, size_t *out_len) {
  uint32_t rest;
  int status = decode(url_alphabet, text, len, out, out_size, out_len, &rest);
  if (status != DSTREAM_OK)
    return status;
  /* One spelling for each value, or a token could be had in several. */
  return rest == 0 ? DSTREAM_OK : DSTREAM_EFORMAT;
}

int crypto_random(void *out, size_t len) {
  if (len > INT_MAX || RAND_bytes(out, (int)len) != 1)
    return DSTREAM_EINTERNAL;
  return DSTREAM_OK;
}

bool crypto_equal(const void *a, size_t a_len, const void *b, size_t b_len) {
  if (a_len != b_len)
    return false;
  return a_len == 0 || CRYPTO_memcmp(a, b, a_len) == 0;
}

void crypto_wipe(void *data, size_t len) {
  if (len > 0)
    OPENSSL_cleanse(data, len);
}
