/* core/crypto.h - the few cryptographic pieces the core needs, OpenSSL's. */
#ifndef CORE_CRYPTO_H
#define CORE_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRYPTO_SHA1_LEN   20
#define CRYPTO_SHA256_LEN 32

/* Characters of base64 text for n bytes, the terminating zero included. */
#define CRYPTO_BASE64_SIZE(n) (((n) + 2) / 3 * 4 + 1)

/* out: CRYPTO_SHA1_LEN bytes.  0 or DSTREAM_EINTERNAL. */
int crypto_sha1(const void *data, size_t len, uint8_t *out);

/* out: CRYPTO_SHA256_LEN bytes.  0 or DSTREAM_EINTERNAL. */
int crypto_hmac_sha256(const void *key, size_t key_len, const void *data,
                       size_t len, uint8_t *out);

/* Standard base64 with padding, zero-terminated; returns the length.
 * out_size must be at least CRYPTO_BASE64_SIZE(len) (asserted). */
size_t crypto_base64_encode(const void *data, size_t len, char *out,
                            size_t out_size);

/* Strict: full padding, no white space.  0 and *out_len, DSTREAM_EFORMAT, or
 * DSTREAM_ELIMIT when out_size is too small. */
int crypto_base64_decode(const char *text, size_t len, uint8_t *out,
                         size_t out_size, size_t *out_len);

/* The same in the URL alphabet without padding (RFC 4648 section 5). */
size_t crypto_base64url_encode(const void *data, size_t len, char *out,
                               size_t out_size);
int crypto_base64url_decode(const char *text, size_t len, uint8_t *out,
                            size_t out_size, size_t *out_len);

/* Unpredictable bytes.  0 or DSTREAM_EINTERNAL. */
int crypto_random(void *out, size_t len);

/* Compares in a time that depends on the lengths only. */
bool crypto_equal(const void *a, size_t a_len, const void *b, size_t b_len);

/* Overwrites memory that held a secret; NULL with 0 is fine. */
void crypto_wipe(void *data, size_t len);

#endif
