/* hub/rest_path.h - what the target of a REST request names. */
#ifndef HUB_REST_PATH_H
#define HUB_REST_PATH_H

#include <stdbool.h>

#include "core/slice.h"
#include "hub/handshake.h"
#include "hub/identity.h"

enum rest_route {
  REST_UNKNOWN, /* no such thing here */
  REST_HEALTH,
  REST_STREAM,
  REST_BAD,        /* REST_STREAM, but a part of it is no id or name */
  REST_DEVICES,    /* /devices */
  REST_DEVICE,     /* /devices/{device} */
  REST_BAD_DEVICE, /* the same, but it is no id */
  REST_STATISTICS  /* /statistics/devices */
};

struct rest_path {
  enum rest_route route;
  char device[IDENTITY_ID_MAX + 1];
  char module[IDENTITY_ID_MAX + 1]; /* empty: none */
  char name[HANDSHAKE_NAME_MAX + 1];
};

/* Splits first, decodes then: "%2F" is part of an id (and then no id at all).
 * The query does not matter. */
void rest_path_parse(struct rest_path *out, struct slice target);

/* A number in the target's query, such as "top=10"; fallback where the name is
 * missing.  -1: it is no number, or not within 1 to most. */
int rest_query_number(struct slice target, const char *name, int fallback,
                      int most);

/* A timeout in seconds, as the official clients write it: digits, perhaps with
 * a fraction, which is rounded up.  -1: it is no such thing, or above 86400. */
int rest_seconds(struct slice value);

#endif
