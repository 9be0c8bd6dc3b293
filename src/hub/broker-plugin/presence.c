#include "hub/broker-plugin/plugin.h"

static void send_presence(const struct broker_presence_out *out) {
  mosquitto_broker_publish_copy(BROKER_HUB_CLIENT, BROKER_TOPIC_PRESENCE,
                                (int)out->len, out->text, 0, false, NULL);
}

void presence_tell(enum broker_presence state, const char *id) {
  struct broker_presence_out out;
  if (!plugin.hub_listens)
    return;
  broker_presence_begin(&out, ++plugin.presence_number, BROKER_CHANGE);
  broker_presence_add(&out, state, id);
  send_presence(&out);
}

static bool add_session(void *user, struct session *session) {
  struct broker_presence_out *out = user;
  enum broker_presence state = session->ready ? BROKER_READY : BROKER_CONNECTED;
  if (broker_presence_add(out, state, session->id))
    return true;
  send_presence(out);
  broker_presence_begin(out, ++plugin.presence_number, BROKER_CHANGE);
  broker_presence_add(out, state, session->id);
  return true;
}

void presence_snapshot(void) {
  struct broker_presence_out out;
  plugin.hub_listens = true;
  broker_presence_begin(&out, ++plugin.presence_number, BROKER_BEGIN);
  send_presence(&out);
  broker_presence_begin(&out, ++plugin.presence_number, BROKER_CHANGE);
  session_each(plugin.sessions, add_session, &out);
  send_presence(&out);
  broker_presence_begin(&out, ++plugin.presence_number, BROKER_END);
  send_presence(&out);
}

void presence_still(void) {
  struct broker_presence_out out;
  if (!plugin.hub_listens)
    return;
  broker_presence_still(&out, plugin.presence_number, plugin.due_s);
  send_presence(&out);
}
