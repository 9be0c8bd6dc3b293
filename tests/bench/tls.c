/* A TLS client by itself: the yardstick for new streams, and small records. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "bench/bench.h"

#define SAMPLES    100000
#define TICKET_MS  2000
#define QUIET_MS   1
#define BATCH      65536 /* bytes that one send has */
#define WARM_BYTES (1u << 20)

static SSL_SESSION *session; /* which every handshake resumes */

static SSL_CTX *new_context(const char *ca_file) {
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  if (context == NULL || ca_file == NULL ||
      SSL_CTX_load_verify_file(context, ca_file) != 1 ||
      !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
      !SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256"))
    die("no TLS with %s", ca_file == NULL ? "no --ca-file" : ca_file);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
  return context;
}

static SSL *shake_hands(SSL_CTX *context, uint16_t port) {
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

static void end(SSL *ssl) {
  int fd = SSL_get_fd(ssl);
  SSL_shutdown(ssl);
  SSL_free(ssl);
  close(fd);
}

int bench_tls(const struct bench_options *options) {
  uint64_t *samples = must_alloc(SAMPLES, sizeof *samples);
  size_t count = 0;
  SSL_CTX *context = new_context(options->ca_file);
  SSL *ssl = shake_hands(context, options->port);
  read_tickets(ssl, TICKET_MS, true);
  end(ssl);
  if (session == NULL)
    die("the server gives no tickets");
  uint64_t stop = now_ns() + (uint64_t)options->ms * 1000000;
  while (count < SAMPLES && (count == 0 || now_ns() < stop)) {
    for (unsigned i = 0; i < 2; i++) { /* two make one sample */
      uint64_t start = now_ns();
      ssl = shake_hands(context, options->port);
      samples[count] += now_ns() - start;
      if (!SSL_session_reused(ssl))
        die("a session was not resumed");
      read_tickets(ssl, QUIET_MS, false);
      end(ssl);
    }
    count++;
  }
  print_metric("count", (double)count);
  print_quantiles("first", samples, count);
  SSL_CTX_free(context);
  free(samples);
  return 0;
}

/* ---- records ---- */

/* Writes records of BENCH_MESSAGE bytes until a batch is full, and sends it. */
static uint64_t send_records(SSL *ssl, BIO *out, int fd, uint64_t most) {
  static const char message[BENCH_MESSAGE] = "a message as a small device has";
  char *data;
  uint64_t bytes = 0;
  while (BIO_ctrl_pending(out) < BATCH && bytes < most) {
    if (SSL_write(ssl, message, sizeof message) != (int)sizeof message)
      die("TLS write");
    bytes += sizeof message;
  }
  long len = BIO_get_mem_data(out, &data);
  socket_send(fd, data, (size_t)len);
  (void)BIO_reset(out);
  return bytes;
}

static void read_byte(SSL *ssl, char wanted) {
  char byte;
  if (SSL_read(ssl, &byte, 1) != 1 || byte != wanted)
    die("no answer through TLS");
}

int bench_records(const struct bench_options *options) {
  /* The bytes are agreed on first: so many that the time is about right. */
  uint64_t amount = (uint64_t)options->ms * BENCH_MESSAGE * 500;
  struct bench_request request = {BENCH_MAGIC, BENCH_SINK, 0, 0, amount};
  SSL_CTX *context = new_context(options->ca_file);
  SSL *ssl = shake_hands(context, options->port);
  int fd = SSL_get_fd(ssl);
  BIO *out = BIO_new(BIO_s_mem());
  uint64_t left = amount;
  SSL_write(ssl, &request, sizeof request);
  read_byte(ssl, BENCH_READY);
  BIO_up_ref(SSL_get_rbio(ssl));
  SSL_set0_wbio(ssl, out);
  processes_mark();
  uint64_t start = now_ns();
  while (left > 0)
    left -= send_records(ssl, out, fd, left);
  read_byte(ssl, BENCH_GOOD);
  double frames = (double)amount / BENCH_MESSAGE;
  print_metric("frames_s", frames * 1e9 / (double)(now_ns() - start));
  processes_print_cpu(frames / 1e9); /* ns of one */
  end(ssl);
  SSL_CTX_free(context);
  return 0;
}
