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

void printable_line(char *text) {
  for (unsigned char *p = (unsigned char *)text; *p != '\0'; p++) {
    if (*p >= '\t' && *p <= '\r')
      *p = ' ';
    else if (*p < 0x20 || *p == 0x7f)
      *p = '?';
    else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
      p[0] = p[1] = '?';
  }
}
