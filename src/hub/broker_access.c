#include "hub/broker_access.h"

#include <stdio.h>
#include <string.h>

#include "hub/broker_wire.h"

/* If text begins with prefix: moves it behind the prefix. */
static bool skip(struct slice *text, const char *prefix) {
  size_t len = strlen(prefix);
  if (text->len < len || memcmp(text->p, prefix, len) != 0)
    return false;
  text->p += len;
  text->len -= len;
  return true;
}

bool access_user_fits(const struct identity_names *names, const char *client_id,
                      const char *user) {
  struct slice rest = slice_of(user);
  const char *slash = memchr(rest.p, '/', rest.len);
  if (slash == NULL)
    return false;
  struct slice host = {rest.p, (size_t)(slash - rest.p)};
  bool ours = false;
  for (size_t i = 0; i < names->count; i++)
    ours = ours || slice_eq_nocase(host, names->name[i]);
  rest.p += host.len + 1;
  rest.len -= host.len + 1;
  return ours && skip(&rest, client_id) && (rest.len == 0 || rest.p[0] == '/');
}

/* Moves *topic behind "devices/<device>[/modules/<module>]/messages/". */
static bool skip_own_messages(struct slice *topic, const char *client_id) {
  char own[2 * IDENTITY_ID_MAX + 64];
  const char *slash = strchr(client_id, '/');
  int device_len =
      slash != NULL ? (int)(slash - client_id) : (int)strlen(client_id);
  snprintf(own, sizeof own, "devices/%.*s%s%s/messages/", device_len, client_id,
           slash != NULL ? "/modules/" : "", slash != NULL ? slash + 1 : "");
  return skip(topic, own);
}

enum access_subscribe access_subscribe(const char *client_id,
                                       const char *filter) {
  static const char *const granted[] = {
      "$iothub/streams/res/#",
      "$iothub/methods/POST/#",
      "$iothub/twin/res/#",
      "$iothub/twin/PATCH/properties/desired/#",
  };
  if (strcmp(filter, "$iothub/streams/POST/#") == 0)
    return ACCESS_SUBSCRIBE_REQUESTS;
  for (size_t i = 0; i < sizeof granted / sizeof granted[0]; i++) {
    if (strcmp(filter, granted[i]) == 0)
      return ACCESS_SUBSCRIBE_GRANT;
  }
  struct slice rest = slice_of(filter);
  if (skip_own_messages(&rest, client_id) && slice_eq(rest, "devicebound/#"))
    return ACCESS_SUBSCRIBE_GRANT;
  return ACCESS_SUBSCRIBE_DENY;
}

enum access_publish access_publish(const char *client_id, struct slice topic) {
  struct slice rest = topic;
  if (skip(&rest, "$iothub/streams/res/"))
    return broker_topic_valid(topic, BROKER_ANSWER_MAX) && rest.len > 0
               ? ACCESS_PUBLISH_ANSWER
               : ACCESS_PUBLISH_DENY;
  if (skip_own_messages(&rest, client_id) && skip(&rest, "events") &&
      (rest.len == 0 || rest.p[0] == '/'))
    return ACCESS_PUBLISH_DROP;
  return ACCESS_PUBLISH_DENY;
}
