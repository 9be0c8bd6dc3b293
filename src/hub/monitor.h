/* hub/monitor.h - what an operator sees of a hub: the activity log, the
 * metrics, whether it is ready.
 *
 * Every event is told here once, by monitor_tell, and so counted and logged
 * from one record: they can't disagree.  Loop's thread.
 */
#ifndef HUB_MONITOR_H
#define HUB_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#include <dstream/status.h>

#include "hub/activity.h"
#include "hub/broker.h"
#include "hub/config.h"
#include "hub/front.h"
#include "hub/gateway.h"
#include "hub/handshake.h"
#include "hub/identity.h"
#include "hub/main_endpoint.h"
#include "hub/rest_admin.h"

struct monitor;

/* What it looks at; NULL: not there (yet, or any more). */
struct monitor_parts {
  struct gateway *gateway;
  struct handshake *handshake;
  struct main_endpoint *endpoint;
  struct broker *broker;
  struct front *front;
  struct identity_store *store;
  bool stopping;
};

/* config is borrowed.  Opens the activity log, and the metrics' listener if it
 * is enabled.  On failure error says why. */
int monitor_new(struct monitor **out, dstream_loop *loop,
                const struct config *config, struct dstream_end *error);
/* NULL is fine. */
void monitor_free(struct monitor *monitor);

void monitor_look_at(struct monitor *monitor,
                     const struct monitor_parts *parts);

/* SIGHUP: begins a new activity log, looks at the certificate anew. */
void monitor_reload(struct monitor *monitor);

struct activity *monitor_activity(struct monitor *monitor);

/* ---- callbacks of the others; user is the monitor ---- */

/* handshake_world, rest_options */
void monitor_tell(void *user, const struct activity_record *record);
/* rest_options */
bool monitor_ready(void *user, const char **why);
/* rest_admin_options */
void monitor_describe(void *user, struct rest_admin_hub *out);
/* gateway_events */
void monitor_side_refused(void *user, const char *stream_id, bool device_side,
                          const char *peer, const char *why);
/* front_options */
void monitor_full(void *user, bool mqtt, unsigned open);

/* A line of the broker: one about a refused device is one for the log. */
void monitor_broker_line(struct monitor *monitor, const char *text);
void monitor_broker_down(struct monitor *monitor);
void monitor_device_ready(struct monitor *monitor);

#endif
