/* broker-plugin/options.h - the plugin's options, as the hub writes them into
 * the broker's configuration (plugin_opt_...).  Every listener carries all of
 * them; only `role` differs.
 */
#ifndef BROKER_PLUGIN_OPTIONS_H
#define BROKER_PLUGIN_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/broker_sessions.h"
#include "hub/identity.h"

enum listener_role {
  ROLE_DEVICE, /* user name and SAS token */
  ROLE_HUB     /* the hub's own client, by the secret */
};

struct plugin_options {
  enum listener_role role;
  char secret[129];            /* what the hub's client sends as its password */
  char identities[1024];       /* path of the identity database */
  char names_text[1024];       /* the hub's host names, cut at the commas */
  struct identity_names names; /* into names_text */
  struct session_limits limits;
  uint64_t token_grace_s; /* a client is dropped this long after its token's
                             expiry */
};

/* One option; false: unknown, or its value can't be used. */
bool plugin_option_set(struct plugin_options *options, const char *key,
                       const char *value);

/* Cuts the names apart and checks that nothing is missing. */
bool plugin_options_finish(struct plugin_options *options);

#endif
