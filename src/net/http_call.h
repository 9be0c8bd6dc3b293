/* net/http_call.h - one HTTP/1.1 request and its response, over one link.
 *
 * Own code on the same links as the streams, so that trust, names of addresses,
 * proxy and limits are the same everywhere, and so that no redirect is followed
 * with credentials.  Loop's thread.
 *
 * With a pool, a connection that both sides keep open (RFC 9112 9.3) serves a
 * later call.  One that turns out to be over before any byte of the answer came
 * is followed by a fresh one, once: servers close idle connections at any time.
 * RFC 9110 9.2.2 asks not to repeat a request that may have been carried out,
 * unless that does no harm; whoever gives a pool says that it does none.
 */
#ifndef NET_HTTP_CALL_H
#define NET_HTTP_CALL_H

#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/http_head.h"
#include "net/http_pool.h"
#include "net/link.h"
#include "net/loop.h"
#include "net/tls.h"

/* A longer body is an error. */
#define HTTP_CALL_BODY_MAX 65536

struct http_call;

struct http_call_options {
  const char *host;
  uint16_t port;
  const struct tls_config *tls;
  const struct link_proxy *proxy; /* NULL or empty: none; lives as long as the
                                     call */
  struct http_pool *pool; /* NULL: none; this server's, lives longer than
                             the call */
  const char *request;    /* the whole request, copied */
  uint64_t timeout_ms;    /* for all of it */
};

/* Exactly one of head and error is not NULL; all borrowed for the call. */
typedef void http_call_fn(void *user, const struct http_head *head,
                          const char *body, size_t body_len,
                          const struct dstream_end *error);

/* Has done called once, not inside this call.  DSTREAM_ENOMEM and what
 * link_connect returns. */
int http_call_start(struct http_call **out, dstream_loop *loop,
                    const struct http_call_options *options, http_call_fn *done,
                    void *user);

/* done will not be called.  NULL: nothing. */
void http_call_cancel(struct http_call *call);

#endif
