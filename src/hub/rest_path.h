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
  REST_BAD /* it is one of these, but a part of it is no id or name */
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

/* A timeout in seconds, as the official clients write it: digits, perhaps with
 * a fraction, which is rounded up.  -1: it is no such thing, or above 86400. */
int rest_seconds(struct slice value);

#endif
