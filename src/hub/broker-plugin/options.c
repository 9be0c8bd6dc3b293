#include "hub/broker-plugin/options.h"

#include <stdlib.h>
#include <string.h>

static bool set_text(char *out, size_t size, const char *value) {
  size_t len = strlen(value);
  if (len == 0 || len >= size)
    return false;
  memcpy(out, value, len + 1);
  return true;
}

static bool set_number(uint64_t *out, const char *value, uint64_t max) {
  if (value[0] < '0' || value[0] > '9')
    return false;
  char *end = NULL;
  unsigned long long number = strtoull(value, &end, 10);
  if (*end != '\0' || number > max)
    return false;
  *out = number;
  return true;
}

static bool set_role(struct plugin_options *options, const char *value) {
  if (strcmp(value, "device") == 0)
    options->role = ROLE_DEVICE;
  else if (strcmp(value, "hub") == 0)
    options->role = ROLE_HUB;
  else
    return false;
  return true;
}

bool plugin_option_set(struct plugin_options *options, const char *key,
                       const char *value) {
  struct session_limits *limits = &options->limits;
  uint64_t number = 0;
  if (strcmp(key, "role") == 0)
    return set_role(options, value);
  if (strcmp(key, "secret") == 0)
    return set_text(options->secret, sizeof options->secret, value);
  if (strcmp(key, "identities") == 0)
    return set_text(options->identities, sizeof options->identities, value);
  if (strcmp(key, "names") == 0)
    return set_text(options->names_text, sizeof options->names_text, value);
  if (!set_number(&number, value, INT32_MAX))
    return false;
  if (strcmp(key, "max_clients") == 0)
    limits->max_sessions = (size_t)number;
  else if (strcmp(key, "takeover_limit") == 0)
    limits->takeover_limit = (unsigned)number;
  else if (strcmp(key, "takeover_window_ms") == 0)
    limits->takeover_window_ms = number;
  else if (strcmp(key, "takeover_pause_ms") == 0)
    limits->takeover_pause_ms = number;
  else if (strcmp(key, "token_grace_s") == 0)
    options->token_grace_s = number;
  else
    return false;
  return true;
}

bool plugin_options_finish(struct plugin_options *options) {
  char *name = options->names_text;
  options->names.count = 0;
  while (name != NULL && *name != '\0') {
    char *comma = strchr(name, ',');
    if (comma != NULL)
      *comma = '\0';
    if (options->names.count == IDENTITY_NAMES_MAX || *name == '\0')
      return false;
    options->names.name[options->names.count++] = name;
    name = comma != NULL ? comma + 1 : NULL;
  }
  return options->names.count > 0 && options->identities[0] != '\0' &&
         strlen(options->secret) >= 32 && options->limits.max_sessions > 0;
}
