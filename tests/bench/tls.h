/* tls.h - a TLS 1.3 client that blocks; die() when anything fails. */
#ifndef BENCH_TLS_H
#define BENCH_TLS_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

SSL_CTX *tls_context(const char *ca_file);
SSL *tls_connect(SSL_CTX *context, uint16_t port);
void tls_end(SSL *ssl);

/* Sends the message so many times, each time as a record of its own, and many
 * records with one system call.  The last to be sent on this connection. */
void tls_send_records(SSL *ssl, const void *message, size_t len,
                      uint64_t count);

/* Two handshakes that resume a session, one after the other, by themselves. */
struct tls_yardstick;
struct tls_yardstick *tls_yardstick_new(const char *ca_file, uint16_t port);
uint64_t tls_yardstick_ns(struct tls_yardstick *yardstick);
void tls_yardstick_free(struct tls_yardstick *yardstick);

#endif
