/* hub/identity_watch.h - tells when the identities may have been changed by
 * another program, without looking again and again.
 *
 * The system tells of each write to the database and to SQLite's log beside it
 * (inotify, Linux).  A write comes before what it wrote counts: the log is
 * flushed between the two, and nothing tells of the end.  So one write is
 * reason to ask several times, for some seconds.  Where the system can't tell,
 * as its watches are used up, the question comes four times a second.
 *
 * Loop's thread.
 */
#ifndef HUB_IDENTITY_WATCH_H
#define HUB_IDENTITY_WATCH_H

#include <dstream/loop.h>
#include <dstream/status.h>

struct identity_watch;

/* In ms; zero is the default of each member. */
struct identity_watch_times {
  unsigned look;   /* between two questions; default 250 */
  unsigned lively; /* they go on for so long after a write; default 5000 */
  unsigned quiet;  /* between two when nothing happens; default 60000 */
};

/* Has fn called when identity_changed is worth asking: within a quarter of a
 * second of a change, four times a second at most, and each minute anyhow (file
 * systems in user space or of virtual machines don't tell everything).  path:
 * the database, which must be there.  times may be NULL.  fn must not free the
 * watch. DSTREAM_ENOMEM; that there is nothing to be told by is no failure, but
 * goes into the log. */
int identity_watch_new(struct identity_watch **out, dstream_loop *loop,
                       const char *path,
                       const struct identity_watch_times *times,
                       void (*fn)(void *user), void *user);

/* What fn wanted to know could not be read: has it called again, a quarter of a
 * second later. */
void identity_watch_again(struct identity_watch *watch);

/* NULL is fine. */
void identity_watch_free(struct identity_watch *watch);

#endif
