#include "core/caps.h"

#include <dstream/status.h>

static bool name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

static struct slice trim(struct slice text) {
  while (text.len > 0 && is_blank(text.p[0])) {
    text.p++;
    text.len--;
  }
  while (text.len > 0 && is_blank(text.p[text.len - 1]))
    text.len--;
  return text;
}

static bool is_name(struct slice text) {
  for (size_t i = 0; i < text.len; i++)
    if (!name_char(text.p[i]))
      return false;
  return text.len > 0;
}

/* Takes the next name off the list; len 0: there is no more. */
static struct slice next_name(struct slice *list) {
  while (list->len > 0) {
    const char *comma = memchr(list->p, ',', list->len);
    size_t len = comma == NULL ? list->len : (size_t)(comma - list->p);
    struct slice name = trim((struct slice){list->p, len});
    size_t used = comma == NULL ? len : len + 1;
    list->p += used;
    list->len -= used;
    if (is_name(name))
      return name;
  }
  return SLICE_LITERAL("");
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
