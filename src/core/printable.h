/* core/printable.h - a text from outside, made fit for a log line. */
#ifndef CORE_PRINTABLE_H
#define CORE_PRINTABLE_H

struct printable {
  char text[129];
};

/* A copy, cut, with '?' for all but printable ASCII.  NULL is like "". */
struct printable printable(const char *text);

#endif
