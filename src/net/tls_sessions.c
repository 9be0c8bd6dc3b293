#include "net/tls_sessions.h"

#include <stdlib.h>
#include <string.h>

struct entry {
  SSL_SESSION *session; /* NULL: the entry is free */
  char *host;
  uint16_t port;
  int64_t verified_s;
};

/* Newest first. */
struct tls_sessions {
  unsigned owners;
  size_t count;
  struct entry entries[TLS_SESSIONS_MAX];
};

struct tls_sessions *tls_sessions_new(void) {
  struct tls_sessions *sessions = calloc(1, sizeof *sessions);
  if (sessions != NULL)
    sessions->owners = 1;
  return sessions;
}

struct tls_sessions *tls_sessions_share(struct tls_sessions *sessions) {
  sessions->owners++;
  return sessions;
}

static void drop(struct tls_sessions *sessions, size_t i) {
  struct entry *entry = &sessions->entries[i];
  SSL_SESSION_free(entry->session);
  free(entry->host);
  sessions->count--;
  memmove(entry, entry + 1, (sessions->count - i) * sizeof *entry);
}

void tls_sessions_release(struct tls_sessions *sessions) {
  if (sessions == NULL || --sessions->owners > 0)
    return;
  while (sessions->count > 0)
    drop(sessions, sessions->count - 1);
  free(sessions);
}

/* Its index, or count. */
static size_t find(const struct tls_sessions *sessions, const char *host,
                   uint16_t port) {
  size_t i = 0;
  while (i < sessions->count && (sessions->entries[i].port != port ||
                                 strcmp(sessions->entries[i].host, host) != 0))
    i++;
  return i;
}

static void move_to_front(struct tls_sessions *sessions, size_t i) {
  struct entry entry = sessions->entries[i];
  memmove(sessions->entries + 1, sessions->entries, i * sizeof entry);
  sessions->entries[0] = entry;
}

void tls_sessions_put(struct tls_sessions *sessions, const char *host,
                      uint16_t port, SSL_SESSION *session, int64_t verified_s) {
  struct entry entry = {
      .session = session, .port = port, .verified_s = verified_s};
  entry.host = strdup(host);
  if (entry.host == NULL || SSL_SESSION_up_ref(session) != 1) {
    free(entry.host);
    return;
  }
  size_t i = find(sessions, host, port);
  if (i == sessions->count && i == TLS_SESSIONS_MAX)
    i--;
  if (i < sessions->count)
    drop(sessions, i);
  sessions->entries[sessions->count++] = entry;
  move_to_front(sessions, sessions->count - 1);
}

SSL_SESSION *tls_sessions_get(struct tls_sessions *sessions, const char *host,
                              uint16_t port, int64_t now_s,
                              int64_t *verified_s) {
  size_t i = find(sessions, host, port);
  if (i == sessions->count)
    return NULL;
  int64_t verified = sessions->entries[i].verified_s;
  /* A clock that was set back proves nothing. */
  if (now_s < verified || now_s - verified >= TLS_SESSION_TRUST_S ||
      !SSL_SESSION_is_resumable(sessions->entries[i].session)) {
    drop(sessions, i);
    return NULL;
  }
  move_to_front(sessions, i);
  *verified_s = verified;
  SSL_SESSION *session = sessions->entries[0].session;
  return SSL_SESSION_up_ref(session) == 1 ? session : NULL;
}

size_t tls_sessions_count(const struct tls_sessions *sessions) {
  return sessions->count;
}
