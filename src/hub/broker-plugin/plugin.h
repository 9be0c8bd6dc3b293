/* broker-plugin/plugin.h - what the plugin's files share.
 *
 * mosquitto loads the plugin once for each listener, into one address space:
 * the listeners share one state.  All calls come on the broker's only thread.
 */
#ifndef BROKER_PLUGIN_PLUGIN_H
#define BROKER_PLUGIN_PLUGIN_H

#include <stdbool.h>
#include <stdint.h>

/* mosquitto_plugin.h needs the types of mosquitto_broker.h before it. */
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#include "core/bucket.h"
#include "core/printable.h"
#include "hub/broker-plugin/options.h"
#include "hub/broker_sessions.h"
#include "hub/broker_wire.h"
#include "hub/identity.h"

struct plugin {
  unsigned listeners; /* that share this state */
  struct plugin_options options;
  struct identity_store *identities;
  struct session_table *sessions;

  const struct mosquitto *hub; /* the hub's client, NULL: not connected */
  bool hub_listens;            /* it asked for a snapshot: tell it changes */
  uint64_t presence_number;    /* of the last presence message */

  uint64_t due_s;   /* when the next tick is wanted, Unix time; 0: not */
  bool recheck_due; /* a check of the identities could not be finished */

  struct bucket log_lines; /* what strangers may write into the log */
  unsigned log_dropped;
};

extern struct plugin plugin;

uint64_t plugin_now_ms(void); /* monotonic */

/* ---- log.c ---- */

/* Before plugin_log_limited. */
void plugin_log_start(void);

/* A log line for the hub: level is 'E', 'W', 'I' or 'D'.  Lines that strangers
 * can provoke go through plugin_log_limited. */
void plugin_log(char level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void plugin_log_limited(char level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Says how many lines were left out. */
void plugin_log_tick(void);

/* ---- presence.c ---- */

/* Tells the hub, if it listens. */
void presence_tell(enum broker_presence state, const char *id);
/* Tells it everybody. */
void presence_snapshot(void);
/* Tells it the number of the last message, which may have been dropped, and
 * when the next tick is wanted. */
void presence_still(void);

/* ---- tick.c: what is due, when the hub's client says so ---- */
void plugin_tick(void);

/* Something is due that the hub does not know of. */
void plugin_want_tick(void);

/* ---- the callbacks, by the listener's role ---- */
int device_auth(int event, void *event_data, void *user);
int device_acl(int event, void *event_data, void *user);
int device_message(int event, void *event_data, void *user);
int device_disconnect(int event, void *event_data, void *user);
int hub_auth(int event, void *event_data, void *user);
int hub_acl(int event, void *event_data, void *user);
int hub_message(int event, void *event_data, void *user);
int hub_disconnect(int event, void *event_data, void *user);

#endif
