/* hub/log_limit.h - log lines that strangers can provoke, so many and no more.
 *
 * Who connects without being allowed to must not be able to fill the log.  Each
 * class of such lines has one of these; when lines were left out, one line says
 * how many, at most every report_ms.  Loop's thread.
 */
#ifndef HUB_LOG_LIMIT_H
#define HUB_LOG_LIMIT_H

#include <stdint.h>

#include "core/bucket.h"
#include "net/loop.h"

/* Zero is the default of each member. */
struct log_limit_options {
  uint32_t per_second; /* lines, over a longer time; default 2 */
  uint32_t burst;      /* and in one go; default 50 */
  uint64_t report_ms;  /* from the first line that was left out to the line
                          that says how many were; default 10000 */
};

struct log_limit {
  dstream_loop *loop;
  const char *what;
  struct bucket bucket;
  struct loop_timer timer;
  uint64_t report_ms;
  unsigned long dropped;
};

/* what: "front: refused connections", a part of hub/log.h and what the line
 * that says how many were left out calls them; static.  options NULL: the
 * defaults. */
void log_limit_init(struct log_limit *limit, dstream_loop *loop,
                    const char *what, const struct log_limit_options *options);

/* As loop_log; a level that the loop does not log costs nothing. */
void log_limit_write(struct log_limit *limit, enum dstream_log_level level,
                     const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Says what is still to be said.  Zeroed memory is fine. */
void log_limit_end(struct log_limit *limit);

#endif
