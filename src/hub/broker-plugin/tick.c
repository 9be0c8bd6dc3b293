#include <time.h>

#include "hub/broker-plugin/plugin.h"

#define AT_ONCE_S 1 /* a time that is over */

struct check {
  uint64_t now_s;
  uint64_t next_s; /* the next expiry */
  bool identities; /* they changed: check each grant anew */
};

static void kick(const struct session *session, const char *why) {
  plugin_log('I', "device %s is dropped: %s", session->id, why);
  mosquitto_kick_client_by_clientid(session->id, false);
}

/* When this one is dropped, Unix time. */
static uint64_t end_of(const struct session *session) {
  uint64_t expiry_s = session->grant.expiry_s;
  uint64_t grace_s = plugin.options.token_grace_s + 1;
  return expiry_s < UINT64_MAX - grace_s ? expiry_s + grace_s : UINT64_MAX;
}

static bool check_session(void *user, struct session *session) {
  struct check *check = user;
  uint64_t end_s = end_of(session);
  if (check->now_s >= end_s) {
    kick(session, session->grant.by_certificate
                      ? "its certificate expired"
                      : "its token expired and was not renewed");
    return true;
  }
  if (end_s < check->next_s)
    check->next_s = end_s;
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

static void set_due(const struct check *check, uint64_t sweep_ms,
                    uint64_t now_ms) {
  uint64_t due_s = check->next_s;
  if (sweep_ms != UINT64_MAX) {
    uint64_t sweep_s = check->now_s + (sweep_ms - now_ms) / 1000 + 1;
    due_s = sweep_s < due_s ? sweep_s : due_s;
  }
  if (plugin.recheck_due)
    due_s = AT_ONCE_S;
  plugin.due_s = due_s == UINT64_MAX ? 0 : due_s;
}

void plugin_tick(void) {
  uint64_t now_ms = plugin_now_ms();
  struct check check = {.now_s = (uint64_t)time(NULL), .next_s = UINT64_MAX};
  check.identities = identity_changed(plugin.identities) || plugin.recheck_due;
  plugin.recheck_due = false;
  session_each(plugin.sessions, check_session, &check);
  uint64_t sweep_ms = session_sweep(plugin.sessions, now_ms);
  plugin_log_tick();
  set_due(&check, sweep_ms, now_ms);
}

void plugin_want_tick(void) {
  plugin.due_s = AT_ONCE_S;
  presence_still();
}
