/* core/percent.h - percent-encoding (RFC 3986 section 2). */
#ifndef CORE_PERCENT_H
#define CORE_PERCENT_H

#include <stddef.h>

#include "core/slice.h"

/* Writes `in` with every byte but the unreserved ones (letters, digits, "-._~")
 * as "%XX", upper-case hex, zero-terminated.
 * Returns the length, or DSTREAM_ELIMIT: out_size is too small, out holds an
 * empty text. */
int percent_encode(struct slice in, char *out, size_t out_size);

/* Undoes it: "%XX" in either case becomes a byte, everything else, "+" too,
 * stays.  *out_len (may be NULL) is the length; out is zero-terminated, and
 * empty after a failure.  out may be in.p: the text shrinks in place.
 * 0; DSTREAM_EFORMAT: a bad escape, or a zero byte, escaped or not;
 * DSTREAM_ELIMIT: out_size is too small. */
int percent_decode(struct slice in, char *out, size_t out_size,
                   size_t *out_len);

#endif
