/* tools/agent_log.h - what an agent writes to stderr, in words; bounded, so
 * that somebody who asks for streams all day does not fill a disk.
 */
#ifndef TOOLS_AGENT_LOG_H
#define TOOLS_AGENT_LOG_H

#include <dstream/loop.h>
#include <dstream/proxy.h>

#include "core/bucket.h"
#include "net/loop.h"

/* Lines of one sort: AGENT_LOG_BURST in one go, AGENT_LOG_RATE a second after
 * that; how many were left out is said within a second. */
#define AGENT_LOG_RATE  10
#define AGENT_LOG_BURST 200

struct agent_log_limit {
  struct bucket bucket;
  unsigned left_out;
  const char *what; /* of what */
  struct loop_timer timer;
};

struct agent_log {
  dstream_loop *loop; /* NULL until agent_log_begin */
  unsigned level;     /* enum dstream_log_level; may be set at any time */
  struct agent_log_limit served;
  struct agent_log_limit refused;
  struct agent_log_limit library;
};

/* After this, limits hold. */
void agent_log_begin(struct agent_log *log, dstream_loop *loop);
void agent_log_end(struct agent_log *log);

/* One of the few lines that are never left out. */
void agent_log_line(const struct agent_log *log, enum dstream_log_level level,
                    const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "refused NAME: WHY", "failed NAME: WHY", "opened NAME (ADDRESS), N open",
 * "closed NAME (ADDRESS) after S s, N bytes in, N bytes out: WHY".  ADDRESS is
 * not repeated where it is the name. */
void agent_log_event(struct agent_log *log,
                     const struct dstream_proxy_event *event);

/* A dstream_log_fn for the loop; user: the log. */
void agent_log_library(void *user, enum dstream_log_level level,
                       const char *text);

#endif
