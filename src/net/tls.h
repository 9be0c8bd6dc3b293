/* net/tls.h - TLS (OpenSSL) over memory: no socket in here.
 *
 * A struct tls reads ciphertext from a borrowed piece of memory and writes
 * ciphertext into a ring, both of which its owner moves to and from a socket in
 * large pieces.  TLS 1.2 and 1.3, no renegotiation, no compression; the key log
 * is off.  Loop's thread.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>
#include <dstream/tls.h>

#include "core/ring.h"

/* Most that LOOP_RECORD plaintext bytes grow by in ciphertext: 29 bytes for a
 * record (RFC 5246 6.2, RFC 8446 5.2), and a peer may ask for records as small
 * as 512 bytes (RFC 6066 4). */
#define TLS_RECORD_OVERHEAD 1024

/* What connections share: trust or certificate (an SSL_CTX), and the sessions
 * of earlier connections (net/tls_sessions.h). */
struct tls_config;

/* For connections that this side opens.  options may be NULL: system roots.
 * DSTREAM_ETLS (*error says which file), DSTREAM_EINVAL, DSTREAM_ENOMEM. */
int tls_config_client(struct tls_config **out,
                      const struct dstream_tls_options *options,
                      struct dstream_end *error);

/* For accepted connections: PEM certificate chain and key.
 * DSTREAM_ETLS, DSTREAM_ENOMEM. */
int tls_config_server(struct tls_config **out, const char *cert_file,
                      const char *key_file, struct dstream_end *error);

/* Has a server's configuration ask clients for a certificate.  A client may
 * have none, or one that nobody vouches for: struct tls_peer tells.  ca_file:
 * PEM certificates of the CAs that are trusted to vouch, NULL: none.
 * DSTREAM_ETLS. */
int tls_config_ask_clients(struct tls_config *config, const char *ca_file,
                           struct dstream_end *error);

/* Connections that use it go on.  NULL is fine. */
void tls_config_free(struct tls_config *config);

/* One connection. */
struct tls;

/* host: what the server's certificate must name, a host name (also sent as SNI)
 * or an address; NULL: the server's role.  ring: where ciphertext goes; it
 * must outlive the connection.  DSTREAM_ENOMEM, DSTREAM_EINVAL. */
int tls_new(struct tls **out, const struct tls_config *config, const char *host,
            struct ring *ring);
void tls_free(struct tls *tls);

/* Goes on with the session of an earlier connection of the same configuration
 * to the same host and port, if there is one and the server still knows it, and
 * keeps the one that this server gives.  Before the first tls_handshake;
 * nothing in the server's role. */
void tls_resume(struct tls *tls, uint16_t port);
/* Once the handshake is done: whether the session was an earlier one's. */
bool tls_resumed(const struct tls *tls);

/* The certificate of a client, whose key it has, as the handshake proved. */
#define TLS_PEER_NAME_MAX 128
struct tls_peer {
  uint8_t sha1[20]; /* of the certificate in DER: its thumbprints */
  uint8_t sha256[32];
  bool trusted;                     /* a CA of tls_config_ask_clients vouches */
  char name[TLS_PEER_NAME_MAX + 1]; /* its common name in UTF-8; empty when it
                                       has not exactly one, or a longer one */
  int64_t not_before_s;             /* Unix seconds */
  int64_t not_after_s;
};
/* Once the handshake is done.  False: the client has shown none. */
bool tls_peer(const struct tls *tls, struct tls_peer *out);

/* The ciphertext to read next; borrowed until used up or set anew. */
void tls_set_input(struct tls *tls, const uint8_t *data, size_t len);
/* What is left of it. */
const uint8_t *tls_input(const struct tls *tls, size_t *len);

/* Goes on with the handshake.  DSTREAM_OK: done; DSTREAM_EAGAIN: needs input
 * (or room in the ring); DSTREAM_ETLS, DSTREAM_EVERIFY: *error says why. */
int tls_handshake(struct tls *tls, struct dstream_end *error);

/* Decrypts into data.  > 0: bytes; 0: the peer ended its direction
 * (close_notify); DSTREAM_EAGAIN; DSTREAM_ETLS. */
long tls_read(struct tls *tls, uint8_t *data, size_t size,
              struct dstream_end *error);

/* True when the last EAGAIN was for want of room in the ring. */
bool tls_blocked(const struct tls *tls);

/* Encrypts len bytes, LOOP_RECORD at most; all of them.  The ring must have
 * room for len + TLS_RECORD_OVERHEAD.  DSTREAM_ETLS. */
int tls_write(struct tls *tls, const void *data, size_t len);

/* Gives OpenSSL's record buffers back, 34 KB, until the next record.  Cheaper
 * now and then than SSL_MODE_RELEASE_BUFFERS, which does so for each record. */
void tls_release_buffers(struct tls *tls);

/* Queues close_notify, if there is room. */
void tls_shutdown(struct tls *tls);

#endif
