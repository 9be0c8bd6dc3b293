#include "core/printable.h"

#include <stddef.h>

struct printable printable(const char *text) {
  struct printable out;
  size_t len = 0;
  for (; text != NULL && text[len] != '\0' && len < sizeof out.text - 1;
       len++) {
    unsigned char c = (unsigned char)text[len];
    out.text[len] = c >= 0x20 && c < 0x7f ? (char)c : '?';
  }
  out.text[len] = '\0';
  return out;
}
