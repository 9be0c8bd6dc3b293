/* core/sas.h - shared access signatures:
 *
 *   SharedAccessSignature
 * sr=<resource>&sig=<base64>&se=<seconds>[&skn=<policy>]
 *
 * sig is HMAC-SHA256 over sr, exactly as it stands in the token, "\n" and se.
 * The official SDKs differ in how they write sr: the C client sends it as it
 * is, Node percent-encodes it, C# encodes the device id inside it once more.
 */
#ifndef CORE_SAS_H
#define CORE_SAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

/* Room for a token; a longer one is refused. */
#define SAS_MAX 4096

enum sas_form {
  SAS_RAW_RESOURCE,    /* sr as the official C client writes it */
  SAS_ENCODED_RESOURCE /* sr percent-encoded, as Node's does */
};

/* Parts of a token: slices of the text that was parsed. */
struct sas {
  struct slice sr;  /* as it stands in the token */
  struct slice sig; /* still percent-encoded */
  struct slice se;  /* the digits, which are signed as they stand */
  struct slice skn; /* still percent-encoded; len 0: none */
  uint64_t expiry;  /* se in Unix seconds */
};

/* Makes a token, zero-terminated.  resource: not encoded, such as
 * "hub.example.net/devices/dev1"; policy (may be NULL) becomes skn.
 * Returns its length, DSTREAM_EINVAL: the resource or the policy is empty, has
 * control characters, or an '&' or a space in the raw form; DSTREAM_ELIMIT: it
 * does not fit into out_size or SAS_MAX; DSTREAM_EINTERNAL. */
int sas_make(char *out, size_t out_size, const char *resource,
             const uint8_t *key, size_t key_len, uint64_t expiry,
             const char *policy, enum sas_form form);

/* Takes a token apart: sr, sig and se must be there, in any order, once each;
 * other pairs are ignored.  0 or DSTREAM_ESAS (*out is zeroed). */
int sas_parse(struct sas *out, const char *text, size_t len);

/* Whether key made the signature, compared in constant time.  It looks at no
 * clock and at no resource.  0, DSTREAM_EUNAUTHORIZED or DSTREAM_EINTERNAL. */
int sas_check(const struct sas *sas, const uint8_t *key, size_t key_len);

/* Whether the token's time is over: now_s >= expiry. */
bool sas_expired(const struct sas *sas, uint64_t now_s);

/* sr, decoded once, zero-terminated.  Returns the length, DSTREAM_ESAS (a bad
 * escape) or DSTREAM_ELIMIT. */
int sas_resource(const struct sas *sas, char *out, size_t out_size);

/* The same of skn; an empty text when there is none. */
int sas_policy(const struct sas *sas, char *out, size_t out_size);

/* Whether sr means this resource ("hub.example.net/devices/dev1", not encoded)
 * in any of the forms in use: raw, encoded once, or encoded twice within its
 * segments.  The host compares without case, the rest exactly. */
bool sas_resource_is(const struct sas *sas, const char *resource);

#endif
