/* core/printable.h - texts from outside, made fit for a log line or a terminal,
 * which obeys some characters instead of showing them. */
#ifndef CORE_PRINTABLE_H
#define CORE_PRINTABLE_H

struct printable {
  char text[129];
};

/* A copy, cut, with '?' for all but printable ASCII.  NULL is like "". */
struct printable printable(const char *text);

/* In place: one line, with ' ' for white space and '?' for each other control
 * character of ASCII and of UTF-8 beyond it (U+0080 to U+009F, which some
 * terminals obey as well). */
void printable_line(char *text);

#endif
