/* net/link_inside.h - what the parts of a link know of each other.
 *
 * net/link.c moves the bytes of a connection that is up and ends it;
 * net/link_connect.c makes it: addresses, proxy, accepted sockets;
 * net/link_pair.c stands in for the socket when there are two descriptors.
 * For these files only.
 */
#ifndef NET_LINK_INSIDE_H
#define NET_LINK_INSIDE_H

#include <netinet/in.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "net/link.h"
#include "net/resolve.h"

struct link_pair;

enum link_state {
  LINK_RESOLVING,  /* awaits the addresses.  CONNECTING, ENDED */
  LINK_CONNECTING, /* awaits TCP.  CONNECTING (next address), PROXYING, TLS,
                      UP, ENDED */
  LINK_PROXYING,   /* awaits the proxy's answer.  TLS, UP, ENDED */
  LINK_TLS,        /* awaits the handshake.  UP, ENDED */
  LINK_UP,         /* bytes both ways.  ENDED */
  LINK_ENDED       /* on_end was told; what is queued may still be sent */
};

/* What only connecting needs: most links are up, and there may be thousands. */
struct link_making {
  struct link *link;
  char host[256];
  bool unix_path; /* host is the path of a unix socket */
  struct link_proxy proxy;
  struct resolve_query query;
  struct resolve_answer answer; /* count 0: none yet */
  unsigned next_address;
  struct dstream_end last_error; /* of the last address that failed */
};

struct link {
  dstream_loop *loop;
  enum link_state state;
  struct link_callbacks callbacks;
  void *user;

  struct loop_watch watch;
  struct loop_timer timer; /* connect timeout, address timeout, linger */
  struct loop_task work;   /* flush and resume, once for each callback */
  struct loop_task free_task;
  uint64_t deadline_ms; /* of connecting, then of lingering; 0: none */

  struct link_pair *pair; /* instead of a socket; it owns watch */

  struct tls *tls;
  const struct tls_config *tls_config;
  uint16_t port;
  int socket_buffer;
  struct link_making *making; /* of one that connects, until it is up */

  struct ring out;
  size_t out_size;
  bool want_drain;
  unsigned drains; /* told since the loop was here last */
  bool shut;       /* link_shutdown was called */
  bool shut_done;  /* the FIN is out */

  uint8_t *held; /* decrypted bytes that the owner did not take */
  size_t held_len;
  size_t held_at;
  uint8_t *stash; /* ciphertext behind them */
  size_t stash_len;
  bool paused;
  bool resume;     /* link_resume was called, the task is to do it */
  bool peer_done;  /* FIN or close_notify came */
  bool lingering;  /* link_close or link_reset was called */
  bool reset;      /* ... and it was link_reset */
  int write_error; /* the errno of a send; it is still read */
  bool deaf_armed; /* and the owner was told that there is no room */
  unsigned told;   /* calls of on_data that used something */
  unsigned told_before;
  bool broken;    /* TLS could not encrypt: link_work tells */
  bool dead;      /* free when the callback has returned */
  unsigned moves; /* since the link was idle */
  bool busy;      /* bytes moved since idle_timer was set */
  bool idle_armed;
  struct loop_timer idle_timer;

  char peer[INET6_ADDRSTRLEN + 9];
};

/* ---- link.c ---- */

struct link *link_new(dstream_loop *loop, const struct link_options *options,
                      const struct link_callbacks *callbacks, void *user);

/* Frees one that has no descriptor and no work under way.  NULL is fine. */
void link_discard(struct link *link);

/* Releases everything; the memory itself goes when no callback of the link can
 * be on the stack any more. */
void link_destroy(struct link *link);

void link_set_state(struct link *link, enum link_state state);

/* Tells on_end; nothing follows. */
void link_fail(struct link *link, const struct dstream_end *why);
void link_fail_no_memory(struct link *link);

/* Has the buffer for output.  False: out of memory. */
bool link_out_ready(struct link *link);

/* Has the queue sent when the callback now running has returned. */
void link_schedule(struct link *link);

/* Waits for the events that matter now. */
void link_update_want(struct link *link);

/* Connected: begins TLS, or is up. */
void link_begin(struct link *link);

/* What the descriptor is ready for. */
void link_on_events(struct loop_watch *watch, unsigned events);

/* Who is at the other end, for a person. */
const char *link_name(const struct link *link);

/* ---- link_connect.c ---- */

/* Releases link->making, if there is one. */
void link_made(struct link *link);

/* Sets the timer of a link that is not up yet: for the address, or for all. */
void link_arm_connect_timer(struct link *link);

/* CONNECTING: the socket is connected or failed. */
void link_connected(struct link *link);

/* PROXYING: what the proxy sent. */
void link_read_proxy(struct link *link, const uint8_t *data, size_t len);

/* ---- link_pair.c ---- */

ssize_t link_pair_read(const struct link_pair *pair, uint8_t *data,
                       size_t size);
ssize_t link_pair_write(const struct link_pair *pair, const struct iovec *parts,
                        int count);

/* Waits for LOOP_READ, LOOP_WRITE or both. */
void link_pair_want(struct link_pair *pair, unsigned want);

/* Closes the output. */
void link_pair_shutdown(struct link_pair *pair);

/* Closes both and frees.  NULL: nothing. */
void link_pair_free(struct link_pair *pair);

#endif
