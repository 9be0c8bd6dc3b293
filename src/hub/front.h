/* hub/front.h - what the world sees: two TLS ports.
 *
 * HTTPS (443): reads the request head itself.  A WebSocket upgrade under
 * /bridges/ goes to the gateway, one to /$iothub/websocket to the broker, and
 * everything else to the HTTP server over a socket pair.
 * MQTT (8883): bytes go to the broker's unix socket.  Of a client that has
 * shown a certificate the CONNECT packet is read first, see
 * hub/broker_connect.h. One TLS policy, one set of limits for both.  Loop's
 * thread.
 */
#ifndef HUB_FRONT_H
#define HUB_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "hub/gateway.h"
#include "net/loop.h"
#include "net/tls.h"

struct front;

/* Zero is the default of each member but those that are required. */
struct front_options {
  const char *bind_address;  /* default "::" with IPv4 mapped in, or "0.0.0.0"
                                where there is no IPv6 */
  uint16_t https_port;       /* 0: any free one */
  uint16_t mqtt_port;        /* 0: any free one */
  const char *cert_file;     /* required, PEM */
  const char *key_file;      /* required, PEM */
  const char *broker_socket; /* required: the broker's unix socket */
  const char *broker_secret; /* what the broker's plugin shares; NULL: no
                                client is vouched for */
  /* CAs of devices' certificates, PEM; NULL: none. */
  const char *device_ca_file;
  unsigned max_connections; /* both ports together; default 12000 */
  uint64_t handshake_ms;    /* from accept to a whole request head or MQTT
                               CONNECT; default 10000 */
  struct gateway *gateway;  /* required */
  /* Takes one end of a socket pair that carries one HTTP connection, its head
   * first.  The descriptor is the callee's.  peer: "addr:port", already put
   * into the head as "X-Forwarded-For".  Negative: refused. */
  int (*take_http)(void *user, int fd, const char *peer);
  /* A connection was refused: max_connections are open.  May be NULL. */
  void (*on_full)(void *user, bool mqtt, unsigned open);
  void *user;
};

/* Binds both ports and listens.  *error says which port and why. */
int front_new(struct front **out, dstream_loop *loop,
              const struct front_options *options, struct dstream_end *error);

/* What was bound. */
uint16_t front_https_port(const struct front *front);
uint16_t front_mqtt_port(const struct front *front);

/* Connections of its own: those of streams are the gateway's. */
unsigned front_count(const struct front *front);

/* Rereads certificate, key and the devices' CAs for connections to come; the
 * old ones stay in use on failure. */
int front_reload(struct front *front, struct dstream_end *error);

/* Takes no more connections. */
void front_stop_listening(struct front *front);

/* Closes what is left of its own (not the gateway's) connections. */
void front_free(struct front *front);

#endif
