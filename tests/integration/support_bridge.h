/* support_bridge.h - what streams are bridged to: sockets on this machine, as
 * tests play both of their ends; and a device that serves targets.
 *
 * Everything runs on test_loop (integration/support_streams.h) and fails the
 * test by itself when it can't do what it is asked.
 */
#ifndef SUPPORT_BRIDGE_H
#define SUPPORT_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

#include <dstream/proxy.h>

#include "integration/support_world.h"
#include "net/loop.h"

#define LOCALS_MAX 600

/* ---- one end of a socket ---- */

enum local_kind {
  LOCAL_SENDER, /* sends a pattern in pieces of any size, takes what comes */
  LOCAL_ECHO    /* sends back what comes */
};

struct local_plan {
  enum local_kind kind;
  uint64_t to_send;
  bool eof_when_sent; /* SENDER: FIN behind the pattern */
  bool eof_back;      /* FIN when the peer's has come (ECHO: and all is sent) */
  bool stalled;       /* reads nothing */
  bool reset_on_data; /* RST when the first byte has come */
  int buffer;         /* SO_SNDBUF, SO_RCVBUF; 0: the system's */
  const char *text;   /* sent first; not counted in `sent` */
};

/* Zeroed at first; released with local_close. */
struct local {
  struct local_plan plan;
  bool open; /* a socket is there */
  uint64_t sent;
  uint64_t received;
  unsigned eofs;
  unsigned resets; /* ECONNRESET or EPIPE */
  unsigned connects;
  uint8_t first[64]; /* the first bytes that came */

  struct loop_watch watch;
  bool connecting;
  bool eof_done;
  size_t text_sent;
  uint64_t random;
  EVP_MD_CTX *sent_sum;
  EVP_MD_CTX *received_sum;
  uint8_t *buffer; /* what was made and not sent, or waits to go back */
  size_t buffer_len;
};

void local_adopt(struct local *local, int fd, const struct local_plan *plan);
/* "127.0.0.1:PORT", "[::1]:PORT" or "unix:PATH". */
void local_connect(struct local *local, const char *address,
                   const struct local_plan *plan);
/* Sends more of the pattern, or raw bytes right away. */
void local_send_more(struct local *local, uint64_t bytes);
void local_write(struct local *local, const void *data, size_t len);
void local_unstall(struct local *local);
void local_eof(struct local *local);
void local_reset(struct local *local);
/* Also of one that has ended, or never began. */
void local_close(struct local *local);

void assert_local_to_local(const struct local *from, const struct local *to);
void assert_local_to_peer(const struct local *from, const struct peer *to);
void assert_peer_to_local(const struct peer *from, const struct local *to);

/* ---- a server ---- */

struct server {
  struct local_plan plan; /* of each that comes */
  char address[128];
  struct local *locals[LOCALS_MAX];
  unsigned count;
  struct loop_watch watch;
};

/* listen: "127.0.0.1:0", "[::1]:0", "127.0.0.1:PORT" or "unix:PATH". */
void server_start(struct server *server, const char *listen,
                  const struct local_plan *plan);
/* Closes what it accepted, too. */
void server_stop(struct server *server);
/* Closes what it accepted, which must be over. */
void server_forget(struct server *server);

/* A TCP address on which nobody listens. */
void dead_address(char *out, size_t size);

/* ---- what was told ---- */

struct events {
  unsigned count[4];            /* by kind */
  enum dstream_proxy_kind kind; /* of the last one */
  char device[64];
  char name[300];
  char address[300];
  struct dstream_bridge_result result;
  unsigned open;
};
dstream_proxy_event_fn events_take;

/* ---- a device that serves targets ---- */

struct target_device {
  dstream_device *device;
  dstream_targets *targets;
  struct events events;
  bool ready;
  unsigned stops;
};

void target_device_start(struct target_device *d, struct hub_fixture *hub,
                         const char *id,
                         const struct dstream_targets_options *options);
void target_device_replace(struct target_device *d,
                           const struct dstream_targets_options *options);
void target_device_end(struct target_device *d);

/* ---- a service that knows no half-close ---- */

/* Opens a stream for a peer as the official services do. */
struct plain_service;
struct plain_service *plain_open(const struct hub_fixture *hub,
                                 const char *device, const char *name,
                                 struct peer *peer);
/* The same for a bridge (proxy/bridge.h). */
struct plain_service *plain_open_bridge(const struct hub_fixture *hub,
                                        const char *device, const char *name,
                                        dstream_bridge *bridge);
/* When the stream is over. */
void plain_free(struct plain_service *plain);

#endif
