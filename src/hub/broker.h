/* hub/broker.h - the hub's MQTT broker: mosquitto as a supervised child.
 *
 * The broker listens on two unix sockets in the folder `run` (mode 0700) of the
 * hub's folder: one for devices, to which the hub's TLS front relays, and one
 * for the hub's own client (hub/main_endpoint.h).  Its configuration is
 * generated (mode 0600) and names this project's plugin, which checks tokens
 * and maps topics.  A broker that dies is started again, after 250 ms at first
 * and 5 s at most; it never outlives the hub, however the hub ends.
 *
 * The backlog of its sockets is short: connect() may say EAGAIN while many
 * devices come at once; try again a little later.
 *
 * Linux.  All functions and callbacks on the loop's thread.
 */
#ifndef HUB_BROKER_H
#define HUB_BROKER_H

#include <sys/types.h>

#include <dstream/loop.h>
#include <dstream/status.h>

#include "hub/identity.h"

/* Below the hub's folder. */
#define BROKER_RUN_DIR "run"

/* Zero is the default of each member.  Everything is copied. */
struct broker_options {
  const char *directory;  /* the hub's folder; default: the working directory,
                             which keeps the sockets' paths short */
  const char *program;    /* default: mosquitto in PATH, /usr/sbin or
                             /usr/local/sbin */
  const char *plugin;     /* required: path of dstream_broker_plugin.so */
  const char *identities; /* path of the identity database, from `directory`;
                             default "identities.db" */
  struct identity_names names; /* required: what the hub calls itself.  Tokens
                                  and user names for another name are refused */

  unsigned max_clients;      /* connected at once; default 10000 */
  unsigned max_packet_bytes; /* of one MQTT packet; a larger one ends its
                                connection.  Default 270336: the 256 KB of an
                                official device's message and its head */
  unsigned max_queued;       /* messages that wait for one client that does not
                                read; more are dropped.  Default 2000, and at
                                least four for each client */
  unsigned token_grace_s;    /* a client is dropped this long after its token's
                                expiry.  Default 60 */
  unsigned takeover_limit;   /* an identity may take its own connection over
                                this often ... default 5 */
  unsigned takeover_window_ms; /* ... within this time, default 10000, before */
  unsigned takeover_pause_ms;  /* new connections are refused for this long,
                                  default 10000 */
};

struct broker_events {
  /* The broker accepts connections.  After each start.  May be NULL. */
  void (*on_up)(void *user);
  /* The broker ended, though nobody asked it to, and is started again.  Also
   * when it never came up: before the first on_up this is worth giving up for.
   * May be NULL. */
  void (*on_down)(void *user, const struct dstream_end *why);
  /* A line of the broker or its plugin; without a line feed, printable.
   * Default: the loop's log, with "broker: " before it. */
  void (*on_log)(void *user, enum dstream_log_level level, const char *text);
};

/* Where mosquitto is: given (NULL: looked for), if it can be executed.  out:
 * PATH_MAX bytes.  DSTREAM_ENOTFOUND. */
int broker_find_program(const char *given, char *out, struct dstream_end *end);

struct broker;

/* Writes the configuration and starts the broker; on_up follows.  events may be
 * NULL.  On failure *out is untouched and end (may be NULL) says what to do:
 * DSTREAM_EINVAL (an option, or a path too long for a socket), DSTREAM_ESTATE
 * (another hub runs in this folder), DSTREAM_ENOTFOUND (no mosquitto, no
 * plugin), DSTREAM_ESYSTEM, DSTREAM_ENOMEM. */
int broker_start(struct broker **out, dstream_loop *loop,
                 const struct broker_options *options,
                 const struct broker_events *events, void *user,
                 struct dstream_end *end);

/* Stops the broker (SIGTERM, SIGKILL after 2 s), waits for its end, removes
 * what it made in `run`, and frees.  Blocks, about 100 ms as a rule.  Not in a
 * callback of it.  No callback comes any more.  NULL is fine. */
void broker_stop(struct broker *broker);

/* The socket for devices, and the one for the hub's client; from the hub's
 * working directory.  Live as long as the broker. */
const char *broker_device_socket(const struct broker *broker);
const char *broker_hub_socket(const struct broker *broker);

/* What the hub's client authenticates with; new at each broker_start. */
const char *broker_secret(const struct broker *broker);

/* The child's process id; 0 between its end and the next start. */
pid_t broker_pid(const struct broker *broker);

#endif
