/* A TLS client by itself: the yardstick for new streams, and small records. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "bench/bench.h"
#include "bench/tls.h"

#define SAMPLES   100000
#define TICKET_MS 2000
#define QUIET_MS  1
#define BATCH     65536 /* bytes that one send has */

static SSL_SESSION *session; /* which every handshake resumes */

SSL_CTX *tls_context(const char *ca_file) {
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  if (context == NULL || ca_file == NULL ||
      SSL_CTX_load_verify_file(context, ca_file) != 1 ||
      !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
      !SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256"))
    die("no TLS with %s", ca_file == NULL ? "no --ca-file" : ca_file);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
  return context;
}

SSL *tls_connect(SSL_CTX *context, uint16_t port) {
  char host[] = "localhost"; /* the macro wants it writable */
  SSL *ssl = SSL_new(context);
  errno = 0;
  if (ssl == NULL || !SSL_set_fd(ssl, socket_connect(port)) ||
      SSL_set1_host(ssl, host) != 1 || !SSL_set_tlsext_host_name(ssl, host))
    die("no TLS");
  if (session != NULL)
    SSL_set_session(ssl, session);
  if (SSL_connect(ssl) != 1)
    die("the TLS handshake failed: %s",
        ERR_error_string(ERR_get_error(), NULL));
  return ssl;
}

/* Tickets come after the handshake: reads what comes within so long, or until
 * there is one. */
static void read_tickets(SSL *ssl, int ms, bool keep) {
  char byte;
  struct pollfd wait = {.fd = SSL_get_fd(ssl), .events = POLLIN};
  socket_blocking(wait.fd, false);
  while (poll(&wait, 1, ms) > 0) {
    if (SSL_read(ssl, &byte, 1) > 0 || SSL_get_error(ssl, -1) == SSL_ERROR_SSL)
      return;
    /* OpenSSL's callback for new sessions would have each used only once. */
    if (keep && SSL_SESSION_is_resumable(SSL_get0_session(ssl))) {
      session = SSL_get1_session(ssl);
      return;
    }
  }
}

void tls_end(SSL *ssl) {
  int fd = SSL_get_fd(ssl);
  SSL_shutdown(ssl);
  SSL_free(ssl);
  close(fd);
}

struct tls_yardstick {
  SSL_CTX *context;
  uint16_t port;
};

struct tls_yardstick *tls_yardstick_new(const char *ca_file, uint16_t port) {
  struct tls_yardstick *y = must_alloc(1, sizeof *y);
  y->context = tls_context(ca_file);
  y->port = port;
  SSL *ssl = tls_connect(y->context, port);
  read_tickets(ssl, TICKET_MS, true);
  tls_end(ssl);
  if (session == NULL)
    die("the server gives no tickets");
  return y;
}

uint64_t tls_yardstick_ns(struct tls_yardstick *y) {
  uint64_t took = 0;
  for (unsigned i = 0; i < 2; i++) {
    uint64_t start = now_ns();
    SSL *ssl = tls_connect(y->context, y->port);
    took += now_ns() - start;
    if (!SSL_session_reused(ssl))
      die("a session was not resumed");
    read_tickets(ssl, QUIET_MS, false);
    tls_end(ssl);
  }
  return took;
}

void tls_yardstick_free(struct tls_yardstick *y) {
  SSL_CTX_free(y->context);
  free(y);
}

/* ---- records ---- */

void tls_send_records(SSL *ssl, const void *message, size_t len,
                      uint64_t count) {
  char *data;
  int fd = SSL_get_fd(ssl);
  BIO *out = BIO_new(BIO_s_mem());
  BIO_up_ref(SSL_get_rbio(ssl));
  SSL_set0_wbio(ssl, out);
  while (count > 0) {
    for (; count > 0 && BIO_ctrl_pending(out) < BATCH; count--)
      if (SSL_write(ssl, message, (int)len) != (int)len)
        die("TLS write");
    long pending = BIO_get_mem_data(out, &data);
    socket_send(fd, data, (size_t)pending);
    (void)BIO_reset(out);
  }
}

static void read_byte(SSL *ssl, char wanted) {
  char byte;
  if (SSL_read(ssl, &byte, 1) != 1 || byte != wanted)
    die("no answer through TLS");
}

int bench_records(const struct bench_options *options) {
  static const char message[BENCH_MESSAGE] = "a message as a small device has";
  uint64_t count = (uint64_t)options->ms * BENCH_MESSAGES_MS;
  struct bench_request request = {BENCH_MAGIC, BENCH_SINK, 0, 0,
                                  count * sizeof message};
  SSL_CTX *context = tls_context(options->ca_file);
  SSL *ssl = tls_connect(context, options->port);
  SSL_write(ssl, &request, sizeof request);
  read_byte(ssl, BENCH_READY);
  processes_mark();
  uint64_t start = now_ns();
  tls_send_records(ssl, message, sizeof message, count);
  read_byte(ssl, BENCH_GOOD);
  print_metric("frames_s", (double)count * 1e9 / (double)(now_ns() - start));
  processes_print_cpu((double)count / 1e9); /* ns of one */
  tls_end(ssl);
  SSL_CTX_free(context);
  return 0;
}
