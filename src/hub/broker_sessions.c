#include "hub/broker_sessions.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_BUCKETS 64

struct session_table {
  struct session_limits limits;
  struct session **buckets;
  size_t bucket_count; /* a power of two */
  size_t entries;
  size_t connected;
};

/* FNV-1a.  Every id in here has proved a key, so nobody can choose collisions
 * without the operator's help. */
static size_t hash(const char *id) {
  uint64_t h = 14695981039346656037u;
  for (; *id != '\0'; id++)
    h = (h ^ (unsigned char)*id) * 1099511628211u;
  return (size_t)(h ^ (h >> 32));
}

static struct session **bucket_of(const struct session_table *table,
                                  const char *id) {
  return &table->buckets[hash(id) & (table->bucket_count - 1)];
}

struct session_table *session_table_new(const struct session_limits *limits) {
  struct session_table *table = calloc(1, sizeof *table);
  if (table == NULL)
    return NULL;
  table->limits = *limits;
  table->bucket_count = FIRST_BUCKETS;
  table->buckets = calloc(table->bucket_count, sizeof *table->buckets);
  if (table->buckets == NULL) {
    free(table);
    return NULL;
  }
  return table;
}

void session_table_free(struct session_table *table) {
  if (table == NULL)
    return;
  for (size_t i = 0; i < table->bucket_count; i++) {
    struct session *session = table->buckets[i];
    while (session != NULL) {
      struct session *next = session->next;
      free(session);
      session = next;
    }
  }
  free(table->buckets);
  free(table);
}

struct session *session_find(const struct session_table *table,
                             const char *id) {
  struct session *session = *bucket_of(table, id);
  while (session != NULL && strcmp(session->id, id) != 0)
    session = session->next;
  return session;
}

struct session *session_of(const struct session_table *table, const char *id,
                           const void *client) {
  struct session *session = session_find(table, id);
  return session != NULL && session->client == client ? session : NULL;
}

/* More buckets; staying with the old ones costs time only. */
static void grow(struct session_table *table) {
  size_t count = table->bucket_count * 2;
  struct session **buckets = calloc(count, sizeof *buckets);
  if (buckets == NULL)
    return;
  for (size_t i = 0; i < table->bucket_count; i++) {
    struct session *session = table->buckets[i];
    while (session != NULL) {
      struct session *next = session->next;
      struct session **bucket = &buckets[hash(session->id) & (count - 1)];
      session->next = *bucket;
      *bucket = session;
      session = next;
    }
  }
  free(table->buckets);
  table->buckets = buckets;
  table->bucket_count = count;
}

static int add(struct session_table *table, const char *id,
               struct session **out) {
  if (table->entries >= table->limits.max_sessions)
    return DSTREAM_ELIMIT;
  if (table->entries >= table->bucket_count)
    grow(table);
  size_t len = strlen(id);
  struct session *session = calloc(1, sizeof *session + len + 1);
  if (session == NULL)
    return DSTREAM_ENOMEM;
  memcpy(session->id, id, len + 1);
  struct session **bucket = bucket_of(table, id);
  session->next = *bucket;
  *bucket = session;
  table->entries++;
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
  for (size_t i = 0; i < table->bucket_count; i++) {
    struct session *session = table->buckets[i];
    for (; session != NULL; session = session->next) {
      if (session->client != NULL && !fn(user, session))
        return;
    }
  }
}

static bool needed(const struct session_table *table,
                   const struct session *session, uint64_t now_ms) {
  if (session->client != NULL || now_ms < session->refused_until_ms)
    return true;
  return session->takeovers > 0 &&
         now_ms - session->window_ms < table->limits.takeover_window_ms;
}

void session_sweep(struct session_table *table, uint64_t now_ms) {
  for (size_t i = 0; i < table->bucket_count; i++) {
    struct session **link = &table->buckets[i];
    while (*link != NULL) {
      struct session *session = *link;
      if (needed(table, session, now_ms)) {
        link = &session->next;
        continue;
      }
      *link = session->next;
      table->entries--;
      free(session);
    }
  }
}
