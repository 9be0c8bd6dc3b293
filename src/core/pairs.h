/* core/pairs.h - walks over "name=value&name=value". */
#ifndef CORE_PAIRS_H
#define CORE_PAIRS_H

#include <stdbool.h>

#include "core/slice.h"

struct pair {
  struct slice name;
  struct slice value; /* what follows the first '='; len 0 without one */
};

/* Takes the next pair off *rest; empty ones are skipped.  False: no more. */
bool pairs_next(struct slice *rest, char separator, struct pair *pair);

#endif
