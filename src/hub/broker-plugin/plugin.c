/* The entry points that mosquitto looks up (plugin API version 5). */
#include "hub/broker-plugin/plugin.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/crypto.h"
#include "hub/broker_wire.h"

#define EXPORT __attribute__((visibility("default")))

static const char version[] = BROKER_PLUGIN_MARK DSTREAM_VERSION;

struct plugin plugin;

struct listener {
  mosquitto_plugin_id_t *id;
  enum listener_role role;
};

struct binding {
  int event;
  MOSQ_FUNC_generic_callback fn;
};

/* With per-listener settings 2.0 runs no TICK events at all, so the hub's
 * client sends ticks, see hub/broker_wire.h. */
static const struct binding device_bindings[] = {
    {MOSQ_EVT_BASIC_AUTH, device_auth},
    {MOSQ_EVT_ACL_CHECK, device_acl},
    {MOSQ_EVT_MESSAGE, device_message},
    {MOSQ_EVT_DISCONNECT, device_disconnect},
    {0, NULL}};
static const struct binding hub_bindings[] = {
    {MOSQ_EVT_BASIC_AUTH, hub_auth},
    {MOSQ_EVT_ACL_CHECK, hub_acl},
    {MOSQ_EVT_MESSAGE, hub_message},
    {MOSQ_EVT_DISCONNECT, hub_disconnect},
    {0, NULL}};

uint64_t plugin_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

EXPORT int mosquitto_plugin_version(int count, const int *versions) {
  for (int i = 0; i < count; i++) {
    if (versions[i] == 5)
      return 5;
  }
  return -1;
}

static int open_shared(const struct plugin_options *options) {
  struct dstream_end end = {0};
  plugin_log_start();
  plugin.options = *options;
  if (!plugin_options_finish(&plugin.options)) {
    plugin_log('E', "the broker's configuration lacks an option");
    return MOSQ_ERR_INVAL;
  }
  plugin.sessions = session_table_new(&plugin.options.limits);
  if (plugin.sessions == NULL)
    return MOSQ_ERR_NOMEM;
  int status =
      identity_open(&plugin.identities, plugin.options.identities, true, &end);
  if (status == DSTREAM_OK)
    return MOSQ_ERR_SUCCESS;
  plugin_log('E', "%s", end.text);
  return MOSQ_ERR_UNKNOWN;
}

static void close_shared(void) {
  session_table_free(plugin.sessions);
  identity_close(plugin.identities);
  crypto_wipe(&plugin, sizeof plugin);
}

static int register_all(struct listener *listener) {
  const struct binding *binding =
      listener->role == ROLE_HUB ? hub_bindings : device_bindings;
  int rc = MOSQ_ERR_SUCCESS;
  for (; binding->fn != NULL && rc == MOSQ_ERR_SUCCESS; binding++)
    rc = mosquitto_callback_register(listener->id, binding->event, binding->fn,
                                     NULL, NULL);
  return rc;
}

static void unregister_all(struct listener *listener) {
  const struct binding *binding =
      listener->role == ROLE_HUB ? hub_bindings : device_bindings;
  for (; binding->fn != NULL; binding++)
    mosquitto_callback_unregister(listener->id, binding->event, binding->fn,
                                  NULL);
}

/* After a failure here the broker exits: nothing needs undoing. */
EXPORT int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **user,
                                 struct mosquitto_opt *opts, int opt_count) {
  struct plugin_options options = {0};
  for (int i = 0; i < opt_count; i++) {
    if (!plugin_option_set(&options, opts[i].key, opts[i].value)) {
      plugin_log('E', "the broker's option %s can't be used", opts[i].key);
      return MOSQ_ERR_INVAL;
    }
  }
  int rc = plugin.listeners == 0 ? open_shared(&options) : MOSQ_ERR_SUCCESS;
  if (rc != MOSQ_ERR_SUCCESS)
    return rc;
  struct listener *listener = calloc(1, sizeof *listener);
  if (listener == NULL)
    return MOSQ_ERR_NOMEM;
  if (plugin.listeners++ == 0)
    plugin_log('D', "%s", version);
  listener->id = id;
  listener->role = options.role;
  *user = listener;
  crypto_wipe(&options, sizeof options);
  return register_all(listener);
}

EXPORT int mosquitto_plugin_cleanup(void *user, struct mosquitto_opt *opts,
                                    int opt_count) {
  (void)opts;
  (void)opt_count;
  struct listener *listener = user;
  if (listener == NULL)
    return MOSQ_ERR_SUCCESS;
  unregister_all(listener);
  free(listener);
  if (--plugin.listeners == 0)
    close_shared();
  return MOSQ_ERR_SUCCESS;
}
