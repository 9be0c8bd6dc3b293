/* net/spare.h - a connection that is made before the stream that needs it.
 *
 * Streams come in bursts: a page and all that it shows, one command after the
 * other.  When two were dialled to one place within SPARE_MS, a connection more
 * is made once the second is open, so that the third finds TCP and TLS done:
 * two round trips and the work of a handshake less until its first byte.  One
 * at a time; unused it is closed after SPARE_MS, before a server loses patience
 * (dstream-hub waits 10 s for a request).  A stream now and then costs nothing
 * more.  Loop's thread.
 */
#ifndef NET_SPARE_H
#define NET_SPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "net/link.h"
#include "net/loop.h"
#include "net/tls.h"

#define SPARE_MS 5000

/* Where streams are dialled; tls and proxy live longer than the spare. */
struct spare_place {
  const char *host;
  uint16_t port;
  const struct tls_config *tls;
  const struct link_proxy *proxy; /* NULL or empty: none */
};

/* Embedded in its owner, zeroed at first. */
struct spare {
  dstream_loop *loop;
  struct link *link; /* NULL: none */
  bool up;
  bool wanted; /* the last two were dialled soon after each other */
  char host[256];
  struct spare_place last; /* where the last one was dialled */
  uint64_t last_ms;
  struct loop_timer timer; /* begins it, then ends it */
};

/* A stream is dialled.  Returns the connection that waits for one there, the
 * caller's from now on (link_set_owner; on_up was told already); or NULL. */
struct link *spare_take(struct spare *spare, dstream_loop *loop,
                        const struct spare_place *place);

/* The stream is open: makes another connection, if that is likely to be of use.
 * Not at once, as the first bytes of the stream come first. */
void spare_refill(struct spare *spare);

/* Closes what waits. */
void spare_clear(struct spare *spare);

#endif
