#include <time.h>

#include "hub/broker-plugin/plugin.h"

#define TICK_MIN_MS 100

struct check {
  uint64_t now_s;
  bool identities; /* they changed: check each grant anew */
};

static void kick(const struct session *session, const char *why) {
  plugin_log('I', "device %s is dropped: %s", session->id, why);
  mosquitto_kick_client_by_clientid(session->id, false);
}

static bool check_session(void *user, struct session *session) {
  const struct check *check = user;
  uint64_t expiry_s = session->grant.expiry_s;
  if (check->now_s > expiry_s &&
      check->now_s - expiry_s > plugin.options.token_grace_s) {
    kick(session, session->grant.by_certificate
                      ? "its certificate expired"
                      : "its token expired and was not renewed");
    return true;
  }
  if (!check->identities)
    return true;
  switch (identity_recheck(plugin.identities, session->id, &session->grant)) {
  case DSTREAM_OK:
    break;
  case DSTREAM_ENOTFOUND:
    kick(session, "it was removed");
    break;
  case DSTREAM_EUNAUTHORIZED:
    kick(session, "it was disabled, or its key or certificate was changed");
    break;
  default:
    plugin.recheck_due = true; /* the database is busy: at the next tick */
  }
  return true;
}

void plugin_tick(void) {
  uint64_t now_ms = plugin_now_ms();
  if (now_ms - plugin.last_tick_ms < TICK_MIN_MS)
    return;
  plugin.last_tick_ms = now_ms;
  struct check check = {.now_s = (uint64_t)time(NULL)};
  check.identities = identity_changed(plugin.identities) || plugin.recheck_due;
  plugin.recheck_due = false;
  session_each(plugin.sessions, check_session, &check);
  session_sweep(plugin.sessions, now_ms);
  plugin_log_tick();
}
