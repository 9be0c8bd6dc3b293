#include "core/caps.h"

#include <dstream/status.h>

static bool name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

/* Takes the next name off the list; len 0: there is no more. */
static struct slice next_name(struct slice *list) {
  while (list->len > 0) {
    const char *comma = memchr(list->p, ',', list->len);
    size_t len = comma == NULL ? list->len : (size_t)(comma - list->p);
    struct slice name = {list->p, len};
    size_t used = comma == NULL ? len : len + 1;
    list->p += used;
    list->len -= used;

    while (name.len > 0 && (*name.p == ' ' || *name.p == '\t')) {
      name.p++;
      name.len--;
    }
    while (name.len > 0 &&
           (name.p[name.len - 1] == ' ' || name.p[name.len - 1] == '\t'))
      name.len--;
    size_t good = 0;
    while (good < name.len && name_char(name.p[good]))
      good++;
    if (name.len > 0 && good == name.len)
      return name;
  }
  return (struct slice){"", 0};
}

static bool has(struct slice list, struct slice name) {
  for (;;) {
    struct slice other = next_name(&list);
    if (other.len == 0)
      return false;
    if (other.len == name.len && memcmp(other.p, name.p, name.len) == 0)
      return true;
  }
}

bool caps_has(struct slice list, const char *name) {
  return name[0] != '\0' && has(list, slice_of(name));
}

int caps_intersect(struct slice a, struct slice b, char *out, size_t out_size) {
  if (out_size == 0)
    return DSTREAM_ELIMIT;
  size_t n = 0;
  for (;;) {
    struct slice name = next_name(&a);
    if (name.len == 0)
      break;
    if (!has(b, name) || has((struct slice){out, n}, name))
      continue;
    size_t comma = n > 0 ? 1 : 0;
    if (name.len + comma >= out_size - n) {
      out[0] = '\0';
      return DSTREAM_ELIMIT;
    }
    if (comma)
      out[n++] = ',';
    memcpy(out + n, name.p, name.len);
    n += name.len;
  }
  out[n] = '\0';
  return (int)n;
}
