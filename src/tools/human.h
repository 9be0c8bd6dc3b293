/* tools/human.h - amounts and times, as a person reads and writes them.
 *
 * No clock: the present is a parameter.  Times are shown in the zone of this
 * machine, as a person at it means them.
 */
#ifndef TOOLS_HUMAN_H
#define TOOLS_HUMAN_H

#include <stdbool.h>
#include <stdint.h>

/* Room for each text, the zero included. */
#define HUMAN_SIZE 32

/* "512 B", "12.3 kB", "123 MB": powers of 1000. */
void human_bytes(char out[HUMAN_SIZE], uint64_t bytes);

/* "74ms", "4.2s", "45s", "1m14s", "3h12m", "5d04h". */
void human_duration(char out[HUMAN_SIZE], uint64_t ms);

/* "2026-01-01 01:00:00" in this machine's zone; "-" for 0 and less. */
void human_time(char out[HUMAN_SIZE], int64_t ms);

/* Reads a time of RFC 3339 5.6, as the hub writes them.  ms: since 1970. */
bool human_read_time(const char *text, int64_t *ms);

/* Reads what a person says to mean a time in the past:
 *   RFC 3339      2026-01-01T00:00:00Z; without a zone, this machine's, and
 *                 then also without seconds or without the time of day
 *   a span        90s, 10m, 2h, 3d, 1w: so long before now_ms
 *   a word        today, yesterday: when it began, here; now
 * Returns NULL, or what is wrong with it. */
const char *human_read_since(const char *text, int64_t now_ms, int64_t *ms);

#endif
