/* dstream/loop.h - the thread that owns everything else.
 *
 * A loop is a poll loop with timers.  Every device, service and stream belongs
 * to one loop, and to the thread that runs that loop: the functions on it may
 * be called on that thread only, and all callbacks come on it, one at a time,
 * never while the library holds a lock.  Functions marked "any thread" are the
 * exception.  A program with a loop of its own passes it to all it makes, so
 * one thread can carry a device, a service and a thousand more devices.
 */
#ifndef DSTREAM_LOOP_H
#define DSTREAM_LOOP_H

#include <stddef.h>

#include <dstream/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dstream_loop dstream_loop;

/* Severity of a log line, the most severe first. */
enum dstream_log_level {
  DSTREAM_LOG_ERROR = 1,
  DSTREAM_LOG_WARNING = 2,
  DSTREAM_LOG_INFO = 3,
  DSTREAM_LOG_DEBUG = 4
};

/* One log line, without a line feed; borrowed for the call.  It never holds a
 * key or a token. */
typedef void dstream_log_fn(void *user, enum dstream_log_level level,
                            const char *text);

/* Zero is the default of each member; set `size` to
 * sizeof(struct dstream_loop_options). */
struct dstream_loop_options {
  size_t size;
  dstream_log_fn *log; /* default: nothing is logged */
  void *log_user;
  enum dstream_log_level log_level; /* default: DSTREAM_LOG_INFO */
  unsigned max_fds; /* connections of this loop at most.  Default: the
                       process's limit of descriptors, 16384 at most */
};

/* Makes a loop.  options may be NULL.
 * DSTREAM_ENOMEM, DSTREAM_EINVAL, DSTREAM_ESYSTEM; *out untouched on failure.*/
DSTREAM_API int dstream_loop_new(dstream_loop **out,
                                 const struct dstream_loop_options *options);

/* Runs the loop on the calling thread until dstream_loop_stop. */
DSTREAM_API int dstream_loop_run(dstream_loop *loop);

/* Waits for events at most timeout_ms milliseconds (0: not at all) and handles
 * those that came, for a program that drives the loop from its own. */
DSTREAM_API int dstream_loop_step(dstream_loop *loop, int timeout_ms);

/* Makes dstream_loop_run return soon.  Any thread, signal handlers excepted. */
DSTREAM_API void dstream_loop_stop(dstream_loop *loop);

/* Has fn(arg) called once on the loop's thread, in the order of the posts.
 * Any thread.  DSTREAM_ENOMEM, DSTREAM_ELIMIT (65536 posts are waiting). */
DSTREAM_API int dstream_loop_post(dstream_loop *loop, void (*fn)(void *arg),
                                  void *arg);

/* Frees the loop.  Free what lives on it first.  Posts that did not run are
 * dropped.  NULL is fine. */
DSTREAM_API void dstream_loop_free(dstream_loop *loop);

#ifdef __cplusplus
}
#endif
#endif
