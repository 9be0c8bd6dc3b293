/* hub/broker_sessions.h - who is connected to the broker, and who fights.
 *
 * A table of client ids, bounded.  An identity has one connection: a second one
 * takes it over, and a client compares by its address, since the old one's end
 * is told after the new one's begin.  Two processes with one identity take each
 * other over without end; after `takeover_limit` take-overs within
 * `takeover_window_ms` new connections are refused for `takeover_pause_ms`
 * while the present one stays.
 */
#ifndef HUB_BROKER_SESSIONS_H
#define HUB_BROKER_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/identity.h"
#include "hub/table.h"

struct session_limits {
  size_t max_sessions; /* entries at most */
  unsigned takeover_limit;
  uint64_t takeover_window_ms;
  uint64_t takeover_pause_ms;
};

struct session {
  struct table_node node; /* private */
  const void *client;     /* whose connection it is; NULL: only remembered, for
                             its take-overs */
  bool ready;             /* subscribed to stream requests */
  struct identity_grant grant;
  unsigned takeovers; /* since window_ms */
  uint64_t window_ms;
  uint64_t refused_until_ms;
  char id[];
};

struct session_table;

/* NULL: out of memory. */
struct session_table *session_table_new(const struct session_limits *limits);
void session_table_free(struct session_table *table);

/* The entry of this id, connected or not, or NULL. */
struct session *session_find(const struct session_table *table, const char *id);

/* The entry if it is this client's connection, else NULL. */
struct session *session_of(const struct session_table *table, const char *id,
                           const void *client);

/* A checked client connects.  0 and *out; *taken_over tells whether another
 * connection was in place.  The same client once more (the broker checks all
 * again when it reloads) only replaces the grant.
 * DSTREAM_ELIMIT: the table is full; DSTREAM_ETHROTTLED: too many take-overs,
 * *taken_over tells whether this is the first refusal (worth a log line);
 * DSTREAM_ENOMEM. */
int session_connect(struct session_table *table, const char *id,
                    const void *client, const struct identity_grant *grant,
                    uint64_t now_ms, struct session **out, bool *taken_over);

/* The client's connection ended.  False: it was not the one in place. */
bool session_disconnect(struct session_table *table, const char *id,
                        const void *client);

/* Connected ones. */
size_t session_count(const struct session_table *table);

/* Calls fn for each connected session until it returns false.  fn may end
 * sessions: entries are only freed by session_sweep. */
void session_each(struct session_table *table,
                  bool (*fn)(void *user, struct session *session), void *user);

/* Frees the entries that nobody needs any more, and tells when that is worth
 * calling again; UINT64_MAX: not before a session ends.  Not within
 * session_each. */
uint64_t session_sweep(struct session_table *table, uint64_t now_ms);

#endif
