/* net/tls_sessions.h - sessions of earlier TLS connections, to go on with.
 *
 * A connection to a server that was reached before then costs neither a
 * signature nor certificates to parse, check and keep (RFC 8446 2.2).  One
 * session is kept for each server, the newest; it may be used by any number of
 * connections, as many streams begin at once.  (RFC 8446 C.4 advises against
 * it only so that an observer can't tell that two connections have the same
 * client; name and address tell that here.)
 *
 * A session vouches for the server, whose certificate is not looked at again:
 * so one is only ever given back for the name and port that it was verified
 * for, and no longer than TLS_SESSION_TRUST_S after its certificate was seen.
 * Belongs to one thread.
 */
#ifndef NET_TLS_SESSIONS_H
#define NET_TLS_SESSIONS_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

/* Servers; the one that was used longest ago makes room.  Bounds memory: about
 * 4 KB each. */
#define TLS_SESSIONS_MAX 16
/* How old a look at the certificate may be, however often a session was renewed
 * since: a certificate that expired is noticed by then. */
#define TLS_SESSION_TRUST_S 3600

struct tls_sessions;

/* NULL: no memory.  One owner, more with tls_sessions_share; gone when all of
 * them have let go. */
struct tls_sessions *tls_sessions_new(void);
struct tls_sessions *tls_sessions_share(struct tls_sessions *sessions);
/* NULL: nothing. */
void tls_sessions_release(struct tls_sessions *sessions);

/* Keeps a session with host:port (a reference of its own), whose certificate
 * was verified at verified_s (any seconds). */
void tls_sessions_put(struct tls_sessions *sessions, const char *host,
                      uint16_t port, SSL_SESSION *session, int64_t verified_s);

/* The session to offer to host:port, a reference for the caller, or NULL: there
 * is none that may be used at now_s. */
SSL_SESSION *tls_sessions_get(struct tls_sessions *sessions, const char *host,
                              uint16_t port, int64_t now_s,
                              int64_t *verified_s);

/* How many are kept. */
size_t tls_sessions_count(const struct tls_sessions *sessions);

#endif
