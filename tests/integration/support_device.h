/* support_device.h - what a device needs to be tested without a hub: a plain
 * mosquitto with TLS, a client on it that plays the hub, an HTTP CONNECT proxy,
 * and a port that accepts and never says a word.
 *
 * Everything runs on loopback, on free ports, in a temporary folder, and is
 * gone afterwards.  Functions return 0, or -1 after a message on stderr.
 */
#ifndef SUPPORT_DEVICE_H
#define SUPPORT_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <mosquitto.h>

#define BROKER_DIR_SIZE 64
#define ANSWERS_SIZE    65536

struct test_broker {
  char dir[BROKER_DIR_SIZE]; /* has ca.pem, other.pem (not trusted), device.pem
                                and device.key (signed by the CA) */
  uint16_t tls_port;         /* certificate for localhost and 127.0.0.1 */
  uint16_t other_name_port;  /* the same certificate, on 127.0.0.2 */
  uint16_t websocket_port;
  uint16_t certificate_port; /* asks for a client certificate */
  uint16_t closed_port;      /* answers every CONNECT with CONNACK 5 */
  uint16_t plain_port;
  pid_t pid;
  struct mosquitto *peer;
  char answers[ANSWERS_SIZE]; /* topics that came, each after a line feed */
};

int test_broker_start(struct test_broker *broker);
void test_broker_stop(struct test_broker *broker);

/* SIGKILL; and up again, on the same ports. */
void test_broker_kill(struct test_broker *broker);
int test_broker_run(struct test_broker *broker);

/* The hub: publishes a topic, moves what came into `answers`. */
int test_broker_publish(struct test_broker *broker, const char *topic);
void test_broker_step(struct test_broker *broker);

/* A port on which a listener accepts and stays silent. */
struct silent_port {
  int fd;
  uint16_t port;
};
int silent_port_open(struct silent_port *silent);
void silent_port_close(struct silent_port *silent);

/* A port on which nobody listens. */
uint16_t unused_port(void);

/* An HTTP CONNECT proxy on 127.0.0.1. */
struct test_proxy {
  uint16_t port;
  const char *authorization; /* what it asks for, NULL: nothing */
  atomic_int tunnels;        /* made so far */
  atomic_int refusals;
  int fd;
  pthread_t thread;
  atomic_bool stop;
};
int test_proxy_start(struct test_proxy *proxy, const char *authorization);
void test_proxy_stop(struct test_proxy *proxy);

#endif
