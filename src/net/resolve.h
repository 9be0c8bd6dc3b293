/* net/resolve.h - host names to addresses, without blocking the loop.
 *
 * getaddrinfo runs on one helper thread for each loop, started when the first
 * name needs it; numeric addresses need none.  Answers are kept for 30 s.
 */
#ifndef NET_RESOLVE_H
#define NET_RESOLVE_H

#include <stdint.h>
#include <sys/socket.h>

#include "net/loop.h"

#define RESOLVE_ADDRESSES_MAX 8

struct resolve_answer {
  int error; /* 0 or an EAI_ code, see gai_strerror */
  unsigned count;
  struct {
    struct sockaddr_storage storage;
    socklen_t len;
  } address[RESOLVE_ADDRESSES_MAX];
};

struct resolve_job;

/* Embedded in its owner; zeroed at first. */
struct resolve_query {
  struct resolve_job *job; /* NULL when nothing is asked */
  void (*fn)(struct resolve_query *query, const struct resolve_answer *answer);
};

/* Has fn called once, not inside this call; the answer is borrowed for the
 * call.  DSTREAM_ENOMEM, DSTREAM_ELIMIT (too many names are waiting),
 * DSTREAM_ESYSTEM (no thread). */
int resolve_start(dstream_loop *loop, struct resolve_query *query,
                  const char *host, uint16_t port,
                  void (*fn)(struct resolve_query *query,
                             const struct resolve_answer *answer));

/* fn will not be called.  Nothing asked: nothing. */
void resolve_cancel(struct resolve_query *query);

/* Called by dstream_loop_free; does not wait for a name under way. */
void resolver_free(struct resolver *resolver);

#endif
