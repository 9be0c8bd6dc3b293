/* hub/log.h - the hub's log: lines on stderr, one write for each.
 *
 * A log that can't be written, on a full disk for instance, is no reason to
 * stop.  What was lost is counted, and told in front of the next line that can
 * be written.  One thread; nothing waits unless stderr does.
 */
#ifndef HUB_LOG_H
#define HUB_LOG_H

#include <stdbool.h>

#include <dstream/loop.h>

/* Zeroed at first, except fd. */
struct hub_log {
  int fd;
  unsigned long lost; /* lines, since one was written */
  int error;          /* errno of the last of them */
  bool cut;           /* the last line is there in part */
};

/* A dstream_log_fn; user: the struct hub_log. */
void hub_log_write(void *user, enum dstream_log_level level, const char *text);

#endif
