/* net/settle.h - gives memory back to the system after a burst.
 *
 * Many connections that are made at once leave holes in the heap where their
 * handshakes were, which the C library keeps.  When a burst has been over for a
 * while (or goes on and on), they are given back.  No timer runs otherwise.
 * Loop's thread.
 */
#ifndef NET_SETTLE_H
#define NET_SETTLE_H

#include "net/loop.h"

struct settle {
  dstream_loop *loop;
  struct loop_timer timer;
  unsigned changes; /* since the last time */
  unsigned seen;    /* when the timer was set */
  unsigned waits;
};

/* settle is zeroed. */
void settle_begin(struct settle *settle, dstream_loop *loop);

/* A connection was made or has ended. */
void settle_note(struct settle *settle);

/* Not begun: nothing. */
void settle_end(struct settle *settle);

#endif
