/* core/token.h - the tokens that let each side into one stream: JSON Web Tokens
 * (RFC 7519) signed with HS256, with the claims exp, jti, iothub-stream-id and
 * iothub-stream-role.  Only hubs make and check them; to the two sides they are
 * opaque.
 */
#ifndef CORE_TOKEN_H
#define CORE_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKEN_ID_SIZE  33
#define TOKEN_JTI_SIZE 44
/* Room for a token; a longer one is refused unseen. */
#define TOKEN_SIZE 512

struct token_claims {
  char stream_id[TOKEN_ID_SIZE]; /* letters, digits, "-" and "_" */
  bool device_role;              /* the device's side, or the service's */
  uint64_t expiry_s;             /* Unix seconds */
  char jti[TOKEN_JTI_SIZE]; /* 43 characters, base64url of 32 random bytes: what
                               a hub remembers to let a token in once */
};

/* Fills claims, with a new jti.  0; DSTREAM_EINVAL: stream_id is empty, too
 * long, or has other characters; DSTREAM_EINTERNAL. */
int token_claims_init(struct token_claims *claims, const char *stream_id,
                      bool device_role, uint64_t expiry_s);

/* Makes a token, zero-terminated.  Returns its length; DSTREAM_EINVAL: claims
 * that token_check would not take; DSTREAM_ELIMIT: out_size is too small,
 * TOKEN_SIZE is enough; DSTREAM_EINTERNAL. */
int token_make(char *out, size_t out_size, const struct token_claims *claims,
               const uint8_t *key, size_t key_len);

/* Checks the signature first, then reads the claims, then the time.
 * 0; DSTREAM_ETOKEN: malformed, forged, or another algorithm (*claims is
 * zeroed); DSTREAM_EEXPIRED: genuine, but now_s >= its expiry (*claims is
 * filled); DSTREAM_EINTERNAL. */
int token_check(struct token_claims *claims, const char *text, size_t len,
                const uint8_t *key, size_t key_len, uint64_t now_s);

#endif
