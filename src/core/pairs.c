#include "core/pairs.h"

static void split(struct slice text, char c, struct slice *before,
                  struct slice *after) {
  const char *at = text.len == 0 ? NULL : memchr(text.p, c, text.len);
  if (at == NULL) {
    *before = text;
    *after = (struct slice){text.p + text.len, 0};
    return;
  }
  size_t len = (size_t)(at - text.p);
  *before = (struct slice){text.p, len};
  *after = (struct slice){at + 1, text.len - len - 1};
}

bool pairs_next(struct slice *rest, char separator, struct pair *pair) {
  while (rest->len > 0) {
    struct slice text;
    struct slice after;
    split(*rest, separator, &text, &after);
    *rest = after;
    if (text.len == 0)
      continue;
    split(text, '=', &pair->name, &pair->value);
    return true;
  }
  return false;
}
