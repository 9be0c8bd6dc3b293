/* proxy/listener.h - the inside of dstream_listener.
 *
 *   listener.c          options, accepting, the connections' life
 *   listener_socket.c   the socket that listens, as a file system sees it
 *   listener_socks.c    what a client says before its stream is asked for
 *   listener_open.c     dstream_bridge_open
 */
#ifndef PROXY_LISTENER_H
#define PROXY_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include <dstream/proxy.h>

#include "core/address.h"
#include "core/socks.h"
#include "net/link.h"
#include "net/loop.h"

/* ---- listener_socket.c ---- */

struct listening {
  char text[ADDRESS_TEXT_SIZE]; /* where it listens */
  struct address address;
  dev_t device; /* of a unix socket's file */
  ino_t inode;
};

/* Makes a non-blocking socket that listens; its descriptor, or a status as
 * dstream_listener_new. */
int listening_open(struct listening *out, const char *text,
                   struct dstream_end *error);

/* Removes a unix socket's file, if it is still this one. */
void listening_unlink(const struct listening *listening);

/* ---- listener.c ---- */

struct socks_client;

/* One client. */
struct connection {
  struct connection *next;
  struct connection *prev;
  dstream_listener *listener;
  dstream_bridge *bridge;     /* NULL: not yet, or gone */
  struct socks_client *socks; /* NULL: none, or done */
  char *name;                 /* as told; NULL: not known yet */
  char client[56];            /* its address, or "" */
};

struct dstream_listener {
  dstream_loop *loop;
  dstream_service *service;
  struct listening listening;
  struct loop_watch watch;
  struct loop_timer pause; /* there are no descriptors left */
  struct loop_task stop_task;
  bool stopped; /* listens no more */
  bool told;    /* ... on_stopped, or about to be */

  struct dstream_listener_callbacks callbacks;
  struct dstream_bridge_options bridge;
  struct dstream_open_options open;
  char *device_id;
  char *module_id;
  char *device; /* "ID" or "ID/MODULE" */
  char *name;   /* the stream's; NULL: SOCKS */
  char *shown;  /* as it was given */
  unsigned max_connections;
  bool once;

  struct connection *connections;
  unsigned count;
};

/* Asks for the stream of a connection that has its bridge. */
void connection_open(struct connection *connection, const char *stream_name);

/* The end of one without a bridge: told, and freed. */
void connection_failed(struct connection *connection,
                       enum dstream_proxy_kind kind,
                       const struct dstream_end *end);

/* Of the connection's bridge. */
extern const struct dstream_bridge_callbacks connection_callbacks;

/* ---- listener_socks.c ---- */

/* Begins a handshake on an accepted socket, which is closed on failure.
 * DSTREAM_ENOMEM, DSTREAM_ELIMIT. */
int socks_begin(struct connection *connection, int fd);

/* Ends one that is not done, with a reset. */
void socks_cancel(struct connection *connection);

#endif
