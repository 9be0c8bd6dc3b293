/* hub/identity_health.h - what state an identity database is in, without
 * changing it: identity_open would bring an older one up to date. */
#ifndef HUB_IDENTITY_HEALTH_H
#define HUB_IDENTITY_HEALTH_H

#include <stdbool.h>

struct identity_health {
  char damage[128]; /* what SQLite says is wrong; empty: it is whole */
  long version;     /* of its tables; 0 or less: it is no identity database */
  long current;     /* what this program makes; 0: that can't be found out, as
                       no file can be made in TMPDIR */
  bool same_tables; /* as a new one's, with the same columns */
  long devices;
};

/* Reads a file that exists.  Waits 2 s at most for who writes. */
void identity_health_read(struct identity_health *out, const char *path);

#endif
