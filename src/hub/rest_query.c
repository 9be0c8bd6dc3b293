#include "hub/rest_query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/pairs.h"
#include "core/percent.h"

#define NUMBER_SIZE 24

static size_t path_len(struct slice target) {
  const char *mark = memchr(target.p, '?', target.len);
  return mark == NULL ? target.len : (size_t)(mark - target.p);
}

struct slice rest_query_path(struct slice target) {
  return (struct slice){target.p, path_len(target)};
}

static bool find(struct slice target, const char *name, struct slice *value) {
  size_t len = path_len(target);
  struct slice rest = {target.p + len, target.len - len};
  struct pair pair;
  if (rest.len == 0)
    return false;
  rest.p++;
  rest.len--;
  while (pairs_next(&rest, '&', &pair)) {
    if (!slice_eq(pair.name, name))
      continue;
    *value = pair.value;
    return true;
  }
  return false;
}

bool rest_query_text(struct slice target, const char *name, char *out,
                     size_t size) {
  struct slice value;
  out[0] = '\0';
  return find(target, name, &value) && value.len > 0 &&
         percent_decode(value, out, size, NULL) == 0;
}

bool rest_query_integer(struct slice target, const char *name, uint64_t min,
                        uint64_t max, uint64_t fallback, uint64_t *out) {
  struct slice value;
  char text[NUMBER_SIZE];
  *out = fallback;
  if (!find(target, name, &value))
    return true;
  if (value.len == 0 || percent_decode(value, text, sizeof text, NULL) != 0 ||
      strspn(text, "0123456789") != strlen(text))
    return false;
  errno = 0;
  *out = strtoull(text, NULL, 10);
  return errno == 0 && *out >= min && *out <= max;
}
