/* hub/time_text.h - times as texts: UTC, RFC 3339. */
#ifndef HUB_TIME_TEXT_H
#define HUB_TIME_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "2026-01-01T00:00:00.123Z" and a zero. */
#define TIME_TEXT_SIZE 32

/* Unix time in milliseconds, 0 or more; what has no such text is "". */
void time_text_make(int64_t ms, char out[TIME_TEXT_SIZE]);

/* Reads what RFC 3339 5.6 allows: any offset, any fraction (cut to
 * milliseconds); or Unix seconds, digits only.  False: it is no time. */
bool time_text_read(const char *text, int64_t *ms);

/* The present. */
int64_t time_text_now_ms(void);

#endif
