/* net/http_pool.h - connections to one HTTP server that wait for the next call
 * (RFC 9112 9.3).
 *
 * A connection is kept for HTTP_POOL_IDLE_MS, which is less than servers and
 * address translators keep theirs, so that one that is dead unnoticed is rare.
 * Loop's thread.
 */
#ifndef NET_HTTP_POOL_H
#define NET_HTTP_POOL_H

#include "net/link.h"
#include "net/loop.h"

#define HTTP_POOL_IDLE_MS 20000
/* Most that wait; calls at the same time have more connections, which end with
 * them. */
#define HTTP_POOL_MAX 4

struct http_pool_entry {
  struct loop_timer timer;
  struct link *link; /* NULL: none */
};

/* Embedded in its owner, zeroed at first; all of it one server, one proxy, one
 * TLS configuration. */
struct http_pool {
  struct http_pool_entry entries[HTTP_POOL_MAX];
};

/* Takes a link that is up and between two calls; closes it if there is no
 * place. */
void http_pool_put(struct http_pool *pool, dstream_loop *loop,
                   struct link *link);

/* A link that waits, or NULL.  The caller's: link_set_owner. */
struct link *http_pool_get(struct http_pool *pool);

/* Closes them all. */
void http_pool_clear(struct http_pool *pool);

#endif
