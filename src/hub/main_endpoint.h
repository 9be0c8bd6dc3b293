/* hub/main_endpoint.h - the hub's view of its main endpoint: which devices are
 * there, and "ask device".
 *
 * Behind it is an MQTT client (libmosquitto) of the broker that the hub runs
 * (hub/broker.h).  The rest of the hub sees these functions only and must not
 * assume that all devices are connected here.
 *
 * A device id is "device" or "device/module".  All functions and callbacks on
 * the loop's thread.
 */
#ifndef HUB_MAIN_ENDPOINT_H
#define HUB_MAIN_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/loop.h>
#include <dstream/status.h>

/* More than these are treated as not connected: a bound on memory. */
#define MAIN_ENDPOINT_DEVICES_MAX 131072

/* Texts are borrowed for the call.  Each member may be NULL. */
struct main_endpoint_events {
  /* A device can now be asked (it is subscribed to stream requests), or can't
   * any more.  Paired: true, then false. */
  void (*on_presence)(void *user, const char *device_id, bool ready);
  /* A device published an answer: "$iothub/streams/res/<code>/?$rid=..".  The
   * id is authenticated, the topic is whatever the device sent: up to 2048
   * bytes without control characters. */
  void (*on_answer)(void *user, const char *device_id, const char *topic);
  /* Connected to the broker, and on_presence was called for every device that
   * is ready. */
  void (*on_up)(void *user);
  /* The broker is gone; on_presence(false) was called for every device. */
  void (*on_down)(void *user);
};

struct main_endpoint;

/* Connects to the broker's socket, now and whenever the connection is lost
 * (tried every 20 ms at first, every second at most).  The texts are copied.
 * DSTREAM_ENOMEM, DSTREAM_EINVAL (the path is too long), DSTREAM_ESYSTEM,
 * DSTREAM_ELIMIT; *out untouched. */
int main_endpoint_new(struct main_endpoint **out, dstream_loop *loop,
                      const char *socket_path, const char *secret,
                      const struct main_endpoint_events *events, void *user);

/* Disconnects and frees; no callback comes any more.  Not inside a callback of
 * it.  NULL is fine. */
void main_endpoint_free(struct main_endpoint *endpoint);

/* Whether on_up was called last. */
bool main_endpoint_is_up(const struct main_endpoint *endpoint);

/* Whether the device can be asked. */
bool main_endpoint_is_ready(const struct main_endpoint *endpoint,
                            const char *device_id);

/* Whether it is connected, ready or not. */
bool main_endpoint_connected(const struct main_endpoint *endpoint,
                             const char *device_id);

/* The same, and since when it was known (loop_now_ms). */
bool main_endpoint_since(const struct main_endpoint *endpoint,
                         const char *device_id, uint64_t *since_ms);

/* How many devices are connected. */
size_t main_endpoint_count(const struct main_endpoint *endpoint);

/* Calls fn for each connected device until it returns false, in no order.  fn
 * must not run the loop.  device_id lives until the loop runs.  since_ms: when
 * the hub learnt of it, loop_now_ms. */
void main_endpoint_each(const struct main_endpoint *endpoint,
                        bool (*fn)(void *user, const char *device_id,
                                   bool ready, uint64_t since_ms),
                        void *user);

/* Publishes an empty message of this topic to exactly that device, at QoS 0: it
 * arrives unless the device's connection ends first, and nothing tells whether
 * it did.  topic: at most 16384 bytes, no wildcard, no control character.
 * DSTREAM_EOFFLINE: it is not ready; DSTREAM_EINVAL; DSTREAM_EAGAIN: the broker
 * does not take what was sent before; DSTREAM_EIO: the connection to the broker
 * broke; DSTREAM_ENOMEM. */
int main_endpoint_ask(struct main_endpoint *endpoint, const char *device_id,
                      const char *topic);

/* Has the plugin do now what is due, such as to look whether devices were
 * removed. */
void main_endpoint_hurry(struct main_endpoint *endpoint);

#endif
