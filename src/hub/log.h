/* hub/log.h - the hub's log: lines on stderr, one write for each.
 *
 * A line belongs to a part of the hub, which its text names in front, as in
 * "front: https: refused a connection"; to "hub" if it names none.  Each part
 * has a level of its own.
 *
 * A log that can't be written, on a full disk for instance, is no reason to
 * stop.  What was lost is counted, and told in front of the next line that can
 * be written.  One thread; nothing waits unless stderr does.
 */
#ifndef HUB_LOG_H
#define HUB_LOG_H

#include <stdbool.h>

#include <dstream/loop.h>

enum log_part {
  LOG_HUB,       /* start, stop, signals, and what belongs to no other */
  LOG_FRONT,     /* connections to the ports, TLS */
  LOG_REST,      /* requests over HTTPS */
  LOG_HANDSHAKE, /* each stream, from its request to its end */
  LOG_GATEWAY,   /* the streaming endpoint */
  LOG_PRESENCE,  /* which devices can be reached */
  LOG_BROKER,    /* what the broker and the plugin in it say */
  LOG_PARTS
};

/* "hub", "front" and so on: as in hub.json. */
const char *log_part_name(enum log_part part);

/* Zeroed at first, except fd. */
struct hub_log {
  int fd;
  bool journal; /* systemd's reads fd: "<N>", the level as sd-daemon(3) has it,
                   instead of time and level */
  unsigned level[LOG_PARTS]; /* enum dstream_log_level; 0: every line */
  unsigned long lost;        /* lines, since one was written */
  int error;                 /* errno of the last of them */
  bool cut;                  /* the last line is there in part */
};

/* A dstream_log_fn; user: the struct hub_log. */
void hub_log_write(void *user, enum dstream_log_level level, const char *text);

/* The highest level of a part: what its loop has to log. */
enum dstream_log_level hub_log_most(const struct hub_log *log);

#endif
