/* net/mqtt.h - one MQTT 3.1.1 connection over TLS: a thin adapter around Paho
 * MQTTAsync.
 *
 * A struct mqtt is one connection and is never connected again: what was queued
 * on a connection that is gone (the answer to a request, say) must not leave on
 * the next one.  Reconnecting is its owner's business.
 *
 * Threads.  Paho runs one send and one receive thread for the process and
 * calls back on them with its mutex held; the same mutex is held while Paho
 * resolves names and talks to a proxy, for seconds at times.  So nothing on the
 * loop's thread ever calls Paho: orders go through one worker thread of the
 * process, and what Paho tells is copied and posted to the loop.  The worker
 * starts with the first connection; five seconds after the last one it ends
 * Paho's threads and itself.
 *
 * Lifetime.  MQTTAsync_destroy takes Paho's mutex, so once it has returned no
 * callback runs or comes.  The worker then posts the last letter, and a struct
 * mqtt is freed when that one is read, after on_closed.
 *
 * Limits that come with Paho 1.3.12: a server's packet of any length is read
 * into memory before it is looked at; the environment variable https_proxy is
 * obeyed when no proxy is given; a connection attempt takes up to a second
 * longer than it has to, since the receive thread polls at that pace; SIGPIPE
 * is ignored from the first connection on.
 *
 * All functions run on the loop's thread, and none calls back from inside.
 */
#ifndef NET_MQTT_H
#define NET_MQTT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "net/link.h"
#include "net/loop.h"
#include "net/tls.h"

#define MQTT_WEBSOCKET_PATH "/$iothub/websocket"
/* Longer topics are dropped with a log line, before they are copied. */
#define MQTT_TOPIC_MAX 8192
/* Messages that came and were not told yet; the rest is dropped, likewise. */
#define MQTT_MESSAGES_MAX 256

struct mqtt;

/* Strings are copied unless it says otherwise. */
struct mqtt_options {
  const char *host;
  uint16_t port;
  bool websocket; /* wss://host:port/$iothub/websocket, subprotocol "mqtt" */
  const char *client_id;
  const char *user_name;
  const char *password;  /* NULL: none; wiped here, not inside Paho */
  const char *ca_file;   /* NULL: the system's roots */
  const char *cert_file; /* PEM chain of a client certificate, or NULL */
  const char *key_file;
  int keepalive_s;
  int connect_timeout_s;
  const struct link_proxy *proxy; /* NULL or empty: none */
  /* The same trust as ca_file.  After a connection that failed, a second one is
   * made with it (net/link.h) and closed at once, only to say why: Paho does
   * not.  Outlives the connection. */
  const struct tls_config *tls;
};

struct mqtt_callbacks {
  /* CONNACK with code 0. */
  void (*on_connected)(void *user);

  /* SUBACK; granted: no filter was answered with 0x80. */
  void (*on_subscribed)(void *user, bool granted);

  /* A PUBLISH; topic is zero-terminated and borrowed.  Payloads are dropped. */
  void (*on_message)(void *user, const char *topic, size_t len);

  /* Refused (why->mqtt_code is the CONNACK code), impossible or lost.  At most
   * once, and not after mqtt_close; only on_closed follows, after mqtt_close.
   * DSTREAM_EMQTT, ERESOLVE, ECONNECT, EPROXY, ETLS, EVERIFY, ETIMEDOUT, EIO.
   */
  void (*on_end)(void *user, const struct dstream_end *why);

  /* Once, last, after mqtt_close: the connection is gone. */
  void (*on_closed)(void *user);
};

/* Connects.  DSTREAM_ENOMEM, DSTREAM_ELIMIT (a text does not fit),
 * DSTREAM_ESYSTEM (no thread). */
int mqtt_connect(struct mqtt **out, dstream_loop *loop,
                 const struct mqtt_options *options,
                 const struct mqtt_callbacks *callbacks, void *user);

/* Subscribes to two filters with QoS 0, in one packet. */
void mqtt_subscribe(struct mqtt *mqtt, const char *first, const char *second);

/* Publishes an empty message with QoS 0.  DSTREAM_ENOMEM; DSTREAM_ESTATE: it
 * ended or is closing.  That it is lost with the connection is not told. */
int mqtt_publish(struct mqtt *mqtt, const char *topic);

/* Sends what was published, then DISCONNECT, within two seconds; then
 * on_closed.  A second call does nothing. */
void mqtt_close(struct mqtt *mqtt);

#endif
