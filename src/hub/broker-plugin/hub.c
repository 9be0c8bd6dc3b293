/* The callbacks of the listener for the hub's own client. */
#include <string.h>

#include "core/crypto.h"
#include "hub/broker-plugin/plugin.h"

int hub_auth(int event, void *event_data, void *user) {
  (void)event;
  (void)user;
  const struct mosquitto_evt_basic_auth *auth = event_data;
  const char *id = mosquitto_client_id(auth->client);
  const char *password = auth->password != NULL ? auth->password : "";
  const char *secret = plugin.options.secret;
  if (id == NULL || strcmp(id, BROKER_HUB_CLIENT) != 0 ||
      auth->username == NULL || strcmp(auth->username, BROKER_HUB_USER) != 0 ||
      !crypto_equal(password, strlen(password), secret, strlen(secret))) {
    plugin_log_limited('W', "a client without the secret tried the hub's "
                            "own socket");
    return MOSQ_ERR_AUTH;
  }
  plugin.hub = auth->client;
  plugin.hub_listens = false;
  return MOSQ_ERR_SUCCESS;
}

int hub_disconnect(int event, void *event_data, void *user) {
  (void)event;
  (void)user;
  const struct mosquitto_evt_disconnect *end = event_data;
  if (end->client != plugin.hub)
    return MOSQ_ERR_SUCCESS;
  plugin.hub = NULL;
  plugin.hub_listens = false;
  return MOSQ_ERR_SUCCESS;
}

int hub_acl(int event, void *event_data, void *user) {
  (void)event;
  (void)user;
  const struct mosquitto_evt_acl_check *check = event_data;
  bool ours = strncmp(check->topic, BROKER_TOPIC_PREFIX,
                      strlen(BROKER_TOPIC_PREFIX)) == 0;
  return ours && check->client == plugin.hub && check->access == MOSQ_ACL_WRITE
             ? MOSQ_ERR_SUCCESS
             : MOSQ_ERR_ACL_DENIED;
}

/* Delivers to exactly one client, without any subscription of its. */
static void ask(const struct mosquitto_evt_message *message) {
  struct slice payload = {message->payload, message->payloadlen};
  struct slice id, topic;
  char client[IDENTITY_CLIENT_MAX + 1];
  char text[BROKER_ASK_MAX + 1];
  if (!broker_wire_split(payload, &id, &topic) || id.len >= sizeof client ||
      !broker_topic_valid(topic, BROKER_ASK_MAX))
    return;
  memcpy(client, id.p, id.len);
  client[id.len] = '\0';
  memcpy(text, topic.p, topic.len);
  text[topic.len] = '\0';
  const struct session *session = session_find(plugin.sessions, client);
  if (session == NULL || !session->ready)
    return;
  mosquitto_broker_publish_copy(client, text, 0, "", 0, false, NULL);
}

int hub_message(int event, void *event_data, void *user) {
  (void)event;
  (void)user;
  const struct mosquitto_evt_message *message = event_data;
  if (message->client != plugin.hub)
    return MOSQ_ERR_ACL_DENIED;
  if (strcmp(message->topic, BROKER_TOPIC_ASK) == 0) {
    ask(message);
  } else if (strcmp(message->topic, BROKER_TOPIC_SNAPSHOT) == 0) {
    presence_snapshot();
  } else if (strcmp(message->topic, BROKER_TOPIC_TICK) == 0) {
    plugin_tick();
    presence_still();
  }
  return MOSQ_ERR_ACL_DENIED; /* handled: the broker routes nothing */
}
