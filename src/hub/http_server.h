/* hub/http_server.h - a small HTTP/1.1 server for REST.
 *
 * It gets connections from elsewhere (the front has done TLS), reads requests
 * with the strict parser of core/http_head.h, keeps the bodies that it is asked
 * to keep and discards the others, and lets an answer take its time.  One
 * request at a time on each connection; keep-alive and pipelining work.  It is
 * not libwebsockets' server because that one hands out paths decoded and
 * rewritten ("%2F" becomes "/", "+" a space), so that ids can't be told from
 * separators.
 *
 * Loop's thread.  No callback comes from inside a call but http_server_free.
 */
#ifndef HUB_HTTP_SERVER_H
#define HUB_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/http_head.h"
#include "net/loop.h"

/* Headers and body of an answer.  More would be held for a client that reads
 * slowly. */
#define HTTP_ANSWER_MAX (2u << 20)

struct http_server;
struct http_exchange; /* a request that is to be answered */

/* Zero is the default of each member. */
struct http_server_options {
  unsigned max_connections; /* more are refused; default 4000 */
  size_t max_body;          /* a larger body is answered with 413 */
  /* Whether the handler is to get the request's body (http_exchange_body);
   * called with http_server_new's user when the head is there, and only if a
   * body follows.  Say yes to callers who proved who they are, as memory for
   * it is held until the last byte has come.  NULL: never. */
  bool (*keep_body)(void *user, const struct http_head *head);
  uint64_t head_ms; /* for a request, its body included, to arrive, and for its
                       answer to leave; default 10000: nobody may hold a
                       connection by being slow */
  uint64_t idle_ms; /* between two requests; default 60000 */
};

/* A whole request came.  head and what it points to live until the function
 * returns; the exchange lives until it is replied to or canceled. */
typedef void http_server_fn(void *user, struct http_exchange *exchange,
                            const struct http_head *head, const char *peer);

int http_server_new(struct http_server **out, dstream_loop *loop,
                    const struct http_server_options *options,
                    http_server_fn *handler, void *user);

/* Takes a connection; fd is the server's, also after a failure.  peer: for the
 * log, copied.  DSTREAM_ELIMIT, DSTREAM_ENOMEM. */
int http_server_take(struct http_server *server, int fd, const char *peer);

/* What to answer. */
struct http_answer {
  int status;
  const char *headers; /* more lines, each with its CRLF; may be NULL */
  const char *type;    /* Content-Type; NULL: none */
  const char *body;
  size_t body_len;
};

/* The request's body; within the handler only.  Empty: there was none, or it
 * was discarded. */
struct slice http_exchange_body(const struct http_exchange *exchange);

/* Answers and ends the exchange, which is gone after this.  At most
 * HTTP_ANSWER_MAX bytes of headers and body, which are copied.  A client gets a
 * second more for every 16 KB of them.  May be called within the handler. */
void http_exchange_reply(struct http_exchange *exchange,
                         const struct http_answer *answer);

/* fn(user) is called when the client has gone before the reply, or the server
 * is freed; the exchange is gone then. */
void http_exchange_on_cancel(struct http_exchange *exchange,
                             void (*fn)(void *user), void *user);

unsigned http_server_count(const struct http_server *server);

/* Closes all connections; those with an open exchange are told. */
void http_server_free(struct http_server *server);

#endif
