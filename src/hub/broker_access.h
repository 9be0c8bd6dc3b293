/* hub/broker_access.h - which user names and topics a device may use.
 *
 * Pure rules; the broker's plugin asks them.  A client id here is "device" or
 * "device/module", already checked.
 */
#ifndef HUB_BROKER_ACCESS_H
#define HUB_BROKER_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/slice.h"
#include "hub/identity.h"

/* Whether the user name belongs to the client id on this hub:
 * "<hub name>/<device>[/<module>]", then nothing or "/..." (the SDKs add
 * "/?api-version=...", old ones without the '?'). */
bool access_user_fits(const struct identity_names *names, const char *client_id,
                      const char *user);

enum access_subscribe {
  ACCESS_SUBSCRIBE_DENY,
  ACCESS_SUBSCRIBE_GRANT,   /* nothing comes on it: direct methods, twins,
                               messages; official clients ask for them */
  ACCESS_SUBSCRIBE_REQUESTS /* stream requests: $iothub/streams/POST/# */
};
enum access_subscribe access_subscribe(const char *client_id,
                                       const char *filter);

enum access_publish {
  ACCESS_PUBLISH_DENY,
  ACCESS_PUBLISH_DROP,  /* taken and thrown away: telemetry */
  ACCESS_PUBLISH_ANSWER /* an answer to a stream request */
};
enum access_publish access_publish(const char *client_id, struct slice topic);

#endif
