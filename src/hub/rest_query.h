/* hub/rest_query.h - the query of a request's target: "?limit=10&after=abc". */
#ifndef HUB_REST_QUERY_H
#define HUB_REST_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

/* The target without its query. */
struct slice rest_query_path(struct slice target);

/* Decodes the first parameter of that name.  True: it is there, and fits; else
 * out is "". */
bool rest_query_text(struct slice target, const char *name, char *out,
                     size_t size);

/* A whole number in decimal.  Absent: fallback.  False: it is none, or out of
 * bounds. */
bool rest_query_integer(struct slice target, const char *name, uint64_t min,
                        uint64_t max, uint64_t fallback, uint64_t *out);

#endif
