#include "net/tls_sessions.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

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

/* Copies, because OpenSSL marks the session of a connection that ends without a
 * close_notify as not to be used again: that of a stream which is aborted. */
static SSL_SESSION *copy_of(const SSL_SESSION *session) {
  SSL_SESSION *copy = SSL_SESSION_dup(session);
  if (copy == NULL)
    ERR_clear_error();
  return copy;
}

void tls_sessions_put(struct tls_sessions *sessions, const char *host,
                      uint16_t port, const SSL_SESSION *session,
                      int64_t verified_s) {
  struct entry entry = {.port = port, .verified_s = verified_s};
  entry.session = copy_of(session);
  entry.host = strdup(host);
  if (entry.session == NULL || entry.host == NULL) {
    SSL_SESSION_free(entry.session);
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
  if (now_s < verified || now_s - verified >= TLS_SESSION_TRUST_S) {
    drop(sessions, i);
    return NULL;
  }
  move_to_front(sessions, i);
  *verified_s = verified;
  return copy_of(sessions->entries[0].session);
}

size_t tls_sessions_count(const struct tls_sessions *sessions) {
  return sessions->count;
}
