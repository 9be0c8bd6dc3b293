/* The device listeners' callbacks. */
#include <string.h>
#include <time.h>

#include "core/end.h"
#include "hub/broker_connect.h"
#include "hub/broker-plugin/plugin.h"
#include "hub/broker_access.h"

static void log_refusal(const char *id, int status, bool first,
                        const struct dstream_end *end) {
  if (status != DSTREAM_ETHROTTLED)
    plugin_log_limited('W', "device %s is refused: %s", printable(id).text,
                       end->text);
  else if (first)
    plugin_log(
        'W',
        "device %s is refused for %llu s: it took its own connection "
        "over %u times, so two programs seem to use its identity",
        id, (unsigned long long)plugin.options.limits.takeover_pause_ms / 1000,
        plugin.options.limits.takeover_limit);
}

/* By the password: the hub's word for a certificate, or a token. */
static int check(const char *id, const char *password,
                 struct identity_grant *grant, struct dstream_end *end) {
  static const char voucher[] = BROKER_VOUCHER_PREFIX;
  uint64_t now_s = (uint64_t)time(NULL);
  struct identity_certificate certificate;
  if (strncmp(password, voucher, sizeof voucher - 1) != 0)
    return identity_check_device_sas(plugin.identities, &plugin.options.names,
                                     id, slice_of(password), now_s, grant, end);
  int status =
      broker_voucher_read(&certificate, password, plugin.options.secret,
                          slice_of(id), plugin_now_ms());
  if (status != DSTREAM_OK) {
    end_set(end, status, "the word for its certificate is not the hub's");
    return status;
  }
  return identity_check_certificate(plugin.identities, id, &certificate, now_s,
                                    grant, end);
}

static int admit(const struct mosquitto_evt_basic_auth *event, const char *id,
                 struct dstream_end *end, bool *takeover) {
  struct identity_grant grant;
  struct session *session = NULL;
  if (event->username == NULL ||
      !access_user_fits(&plugin.options.names, id, event->username)) {
    end_set(end, DSTREAM_EUNAUTHORIZED,
            "its user name is not \"<this hub>/<client id>/?api-version=..\"");
    return DSTREAM_EUNAUTHORIZED;
  }
  int status =
      check(id, event->password != NULL ? event->password : "", &grant, end);
  if (status != DSTREAM_OK)
    return status;
  status = session_connect(plugin.sessions, id, event->client, &grant,
                           plugin_now_ms(), &session, takeover);
  if (status == DSTREAM_ELIMIT)
    end_set(end, status, "too many devices are connected");
  else if (status != DSTREAM_OK)
    end_set(end, status, "%s", dstream_status_text(status));
  return status;
}

int device_auth(int event, void *event_data, void *user) {
  (void)event;
  (void)user;
  const struct mosquitto_evt_basic_auth *auth = event_data;
  const char *id = mosquitto_client_id(auth->client);
  struct dstream_end end = {0};
  bool takeover = false;
  int status = admit(auth, id != NULL ? id : "", &end, &takeover);
  if (status != DSTREAM_OK) {
    log_refusal(id, status, takeover, &end);
    return MOSQ_ERR_AUTH;
  }
  const struct session *session = session_find(plugin.sessions, id);
  plugin_log_limited('I', "device %s connected%s", id,
                     takeover ? ", its older connection ends" : "");
  presence_tell(session->ready ? BROKER_READY : BROKER_CONNECTED, id);
  return MOSQ_ERR_SUCCESS;
}

int device_disconnect(int event, void *event_data, void *user) {
  (void)event;
  (void)user;
  const struct mosquitto_evt_disconnect *end = event_data;
  const char *id = mosquitto_client_id(end->client);
  /* A refused client has no id any more; one that was taken over is not the
   * one in the table. */
  if (id == NULL || !session_disconnect(plugin.sessions, id, end->client))
    return MOSQ_ERR_SUCCESS;
  plugin_log_limited('I', "device %s disconnected", id);
  presence_tell(BROKER_GONE, id);
  return MOSQ_ERR_SUCCESS;
}

static int check_subscribe(struct session *session, const char *filter) {
  switch (access_subscribe(session->id, filter)) {
  case ACCESS_SUBSCRIBE_REQUESTS:
    session->ready = true;
    presence_tell(BROKER_READY, session->id);
    return MOSQ_ERR_SUCCESS;
  case ACCESS_SUBSCRIBE_GRANT:
    return MOSQ_ERR_SUCCESS;
  default:
    plugin_log_limited('W', "device %s may not subscribe to %s", session->id,
                       printable(filter).text);
    return MOSQ_ERR_ACL_DENIED;
  }
}

static int check_unsubscribe(struct session *session, const char *filter) {
  if (session->ready &&
      access_subscribe(session->id, filter) == ACCESS_SUBSCRIBE_REQUESTS) {
    session->ready = false;
    presence_tell(BROKER_CONNECTED, session->id);
  }
  return MOSQ_ERR_SUCCESS;
}

static int check_publish(const struct session *session, const char *topic) {
  if (access_publish(session->id, slice_of(topic)) != ACCESS_PUBLISH_DENY)
    return MOSQ_ERR_SUCCESS;
  plugin_log_limited('W', "device %s may not publish to %s", session->id,
                     printable(topic).text);
  return MOSQ_ERR_ACL_DENIED;
}

int device_acl(int event, void *event_data, void *user) {
  (void)event;
  (void)user;
  const struct mosquitto_evt_acl_check *check = event_data;
  const char *id = mosquitto_client_id(check->client);
  /* A will is checked when its client has gone: it is denied here, and with it
   * the only message that the broker would route by itself. */
  struct session *session =
      id != NULL ? session_of(plugin.sessions, id, check->client) : NULL;
  if (session == NULL)
    return MOSQ_ERR_ACL_DENIED;
  switch (check->access) {
  case MOSQ_ACL_SUBSCRIBE:
    return check_subscribe(session, check->topic);
  case MOSQ_ACL_UNSUBSCRIBE:
    return check_unsubscribe(session, check->topic);
  case MOSQ_ACL_WRITE:
    return check_publish(session, check->topic);
  default: /* read: what the hub sends does not come this way */
    return MOSQ_ERR_ACL_DENIED;
  }
}

/* Nothing that a device publishes is routed: "denied" has the broker
 * acknowledge the message, if it is to be, and drop it. */
int device_message(int event, void *event_data, void *user) {
  (void)event;
  (void)user;
  const struct mosquitto_evt_message *message = event_data;
  const char *id = mosquitto_client_id(message->client);
  struct slice topic = slice_of(message->topic);
  char payload[IDENTITY_CLIENT_MAX + 1 + BROKER_ANSWER_MAX];
  if (id == NULL || plugin.hub == NULL ||
      session_of(plugin.sessions, id, message->client) == NULL ||
      access_publish(id, topic) != ACCESS_PUBLISH_ANSWER)
    return MOSQ_ERR_ACL_DENIED;
  size_t len = broker_wire_pair(id, topic, payload, sizeof payload);
  if (len > 0)
    mosquitto_broker_publish_copy(BROKER_HUB_CLIENT, BROKER_TOPIC_ANSWER,
                                  (int)len, payload, 0, false, NULL);
  return MOSQ_ERR_ACL_DENIED;
}
