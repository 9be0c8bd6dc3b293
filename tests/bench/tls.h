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

#endif
