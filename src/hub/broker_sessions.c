#include "hub/broker_sessions.h"

#include <stdlib.h>
#include <string.h>

#include "core/container.h"

/* Every id in here has proved a key, so nobody can choose collisions without
 * the operator's help. */
struct session_table {
  struct session_limits limits;
  struct table sessions;
  size_t connected;
};

static struct session *session_at(struct table_node *node) {
  return node == NULL ? NULL : CONTAINER_OF(node, struct session, node);
}

static struct session *next_session(const struct session_table *table,
                                    struct table_walk *walk) {
  return session_at(table_walk(&table->sessions, walk));
}

struct session_table *session_table_new(const struct session_limits *limits) {
  struct session_table *table = calloc(1, sizeof *table);
  if (table == NULL)
    return NULL;
  table->limits = *limits;
  if (!table_init(&table->sessions)) {
    free(table);
    return NULL;
  }
  return table;
}

void session_table_free(struct session_table *table) {
  struct table_walk walk = {0};
  if (table == NULL)
    return;
  struct session *session = next_session(table, &walk);
  for (; session != NULL; session = next_session(table, &walk))
    free(session);
  table_end(&table->sessions);
  free(table);
}

struct session *session_find(const struct session_table *table,
                             const char *id) {
  struct table_node *node =
      table_first(&table->sessions, table_hash(slice_of(id)));
  while (node != NULL && strcmp(session_at(node)->id, id) != 0)
    node = table_next(node);
  return session_at(node);
}

struct session *session_of(const struct session_table *table, const char *id,
                           const void *client) {
  struct session *session = session_find(table, id);
  return session != NULL && session->client == client ? session : NULL;
}

static int add(struct session_table *table, const char *id,
               struct session **out) {
  if (table->sessions.count >= table->limits.max_sessions)
    return DSTREAM_ELIMIT;
  size_t len = strlen(id);
  struct session *session = calloc(1, sizeof *session + len + 1);
  if (session == NULL)
    return DSTREAM_ENOMEM;
  memcpy(session->id, id, len + 1);
  table_add(&table->sessions, &session->node, table_hash(slice_of(id)));
  *out = session;
  return DSTREAM_OK;
}

/* Counts a take-over; DSTREAM_ETHROTTLED when there were too many. */
static int count_takeover(struct session_table *table, struct session *session,
                          uint64_t now_ms, bool *first_refusal) {
  const struct session_limits *limits = &table->limits;
  *first_refusal = false;
  if (now_ms < session->refused_until_ms)
    return DSTREAM_ETHROTTLED;
  if (now_ms - session->window_ms >= limits->takeover_window_ms) {
    session->window_ms = now_ms;
    session->takeovers = 0;
  }
  if (session->takeovers < limits->takeover_limit) {
    session->takeovers++;
    return DSTREAM_OK;
  }
  session->takeovers = 0;
  session->window_ms = now_ms;
  session->refused_until_ms = now_ms + limits->takeover_pause_ms;
  *first_refusal = true;
  return DSTREAM_ETHROTTLED;
}

int session_connect(struct session_table *table, const char *id,
                    const void *client, const struct identity_grant *grant,
                    uint64_t now_ms, struct session **out, bool *taken_over) {
  struct session *session = session_find(table, id);
  int status = DSTREAM_OK;
  *taken_over = false;
  if (session == NULL) {
    status = add(table, id, &session);
  } else if (session->client != NULL && session->client != client) {
    status = count_takeover(table, session, now_ms, taken_over);
    if (status == DSTREAM_OK)
      *taken_over = true;
  }
  if (status != DSTREAM_OK)
    return status;
  if (session->client == NULL)
    table->connected++;
  if (session->client != client)
    session->ready = false;
  session->client = client;
  session->grant = *grant;
  *out = session;
  return DSTREAM_OK;
}

bool session_disconnect(struct session_table *table, const char *id,
                        const void *client) {
  struct session *session = session_of(table, id, client);
  if (session == NULL || client == NULL)
    return false;
  session->client = NULL;
  session->ready = false;
  table->connected--;
  return true;
}

size_t session_count(const struct session_table *table) {
  return table->connected;
}

void session_each(struct session_table *table,
                  bool (*fn)(void *user, struct session *session), void *user) {
  struct table_walk walk = {0};
  struct session *session = next_session(table, &walk);
  for (; session != NULL; session = next_session(table, &walk)) {
    if (session->client != NULL && !fn(user, session))
      return;
  }
}

/* Until when the take-overs of an ended session count. */
static uint64_t needed_until(const struct session_table *table,
                             const struct session *session) {
  uint64_t until_ms = session->refused_until_ms;
  uint64_t window_ms = session->window_ms + table->limits.takeover_window_ms;
  if (session->takeovers > 0 && window_ms > until_ms)
    until_ms = window_ms;
  return until_ms;
}

uint64_t session_sweep(struct session_table *table, uint64_t now_ms) {
  struct table_walk walk = {0};
  uint64_t next_ms = UINT64_MAX;
  struct session *session = next_session(table, &walk);
  for (; session != NULL; session = next_session(table, &walk)) {
    if (session->client != NULL)
      continue;
    uint64_t until_ms = needed_until(table, session);
    if (now_ms >= until_ms) {
      table_remove(&table->sessions, &session->node);
      free(session);
    } else if (until_ms < next_ms) {
      next_ms = until_ms;
    }
  }
  return next_ms;
}
