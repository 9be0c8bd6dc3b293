/* core/slice.h - bytes somewhere else: a pointer and a length, borrowed. */
#ifndef CORE_SLICE_H
#define CORE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct slice {
  const char *p;
  size_t len;
};

#define SLICE_LITERAL(s) ((struct slice){(s), sizeof(s) - 1})

static inline struct slice slice_of(const char *text) {
  return (struct slice){text, strlen(text)};
}

static inline bool slice_eq(struct slice s, const char *text) {
  return s.len == strlen(text) && (s.len == 0 || memcmp(s.p, text, s.len) == 0);
}

/* Nothing but ASCII letters, digits and characters of `others`. */
static inline bool slice_only(struct slice s, const char *others) {
  for (size_t i = 0; i < s.len; i++) {
    char c = s.p[i];
    bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                 (c >= '0' && c <= '9');
    if (!plain && (c == '\0' || strchr(others, c) == NULL))
      return false;
  }
  return true;
}

/* ASCII letters compare without their case. */
static inline bool slice_eq_nocase(struct slice s, const char *text) {
  return s.len == strlen(text) &&
         (s.len == 0 || strncasecmp(s.p, text, s.len) == 0);
}

#endif
