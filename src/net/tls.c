#include "net/tls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "core/end.h"
#include "net/tls_sessions.h"

/* AES-128 first: the least work where the processor helps, and as safe. */
#define SUITES_13                                                              \
  "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SUITES_12                                                              \
  "ECDHE+AES128+AESGCM:ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL"

/* A ticket is good for two hours, OpenSSL's default. */
#define TICKET_RENEW_S 3600

/* Of a client's certificates: a stranger makes the server read and check so
 * much and no more. */
#define CLIENT_CHAIN_MAX   8
#define CLIENT_CHAIN_BYTES 32768

struct tls_config {
  SSL_CTX *ctx;
  struct tls_sessions *sessions; /* NULL in the server's role */
};

struct tls {
  SSL *ssl;
  const uint8_t *in;
  size_t in_len;
  struct ring *out;
  struct tls_sessions *sessions; /* NULL in the server's role */
  int64_t begun_s;   /* when the certificate is looked at, if it is; 0: sessions
                        are not asked for */
  int64_t offered_s; /* ... and when that of the session offered was */
  const SSL_SESSION *known; /* the last one offered or kept: SSL's */
  uint16_t port;
  bool blocked;
  char host[]; /* what the certificate was to name; "" in the server's role */
};

/* ---- the BIO over the two buffers ---- */

static int bio_read(BIO *bio, char *data, int len) {
  struct tls *tls = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (len <= 0)
    return 0;
  if (tls->in_len == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  size_t n = tls->in_len < (size_t)len ? tls->in_len : (size_t)len;
  memcpy(data, tls->in, n);
  tls->in += n;
  tls->in_len -= n;
  return (int)n;
}

static int bio_write(BIO *bio, const char *data, int len) {
  struct tls *tls = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (len <= 0)
    return 0;
  if (tls->out->buffer == NULL || ring_free(tls->out) < (size_t)len) {
    tls->blocked = true;
    BIO_set_retry_write(bio);
    return -1;
  }
  ring_put(tls->out, data, (size_t)len);
  return len;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer) {
  (void)bio;
  (void)number;
  (void)pointer;
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *bio) {
  BIO_set_init(bio, 1);
  return 1;
}

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

/* Made once for the process and kept. */
static void make_bio_method(void) {
  bio_method =
      BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "dstream");
  if (bio_method == NULL)
    return;
  BIO_meth_set_read(bio_method, bio_read);
  BIO_meth_set_write(bio_method, bio_write);
  BIO_meth_set_ctrl(bio_method, bio_ctrl);
  BIO_meth_set_create(bio_method, bio_create);
}

/* ---- sessions ---- */

bool tls_resumed(const struct tls *tls) {
  return SSL_session_reused(tls->ssl) == 1;
}

/* Keeps the session if the server has sent a ticket.  OpenSSL's own way to tell
 * of that marks a session as used up with its first use (TLS 1.3). */
static void keep_session(struct tls *tls) {
  SSL_SESSION *session = SSL_get0_session(tls->ssl);
  if (tls->begun_s == 0 || session == tls->known || session == NULL ||
      !SSL_SESSION_is_resumable(session) ||
      SSL_get_verify_result(tls->ssl) != X509_V_OK)
    return;
  tls->known = session;
  tls_sessions_put(tls->sessions, tls->host, tls->port, session,
                   tls_resumed(tls) ? tls->offered_s : tls->begun_s);
}

void tls_resume(struct tls *tls, uint16_t port) {
  if (tls->sessions == NULL)
    return;
  tls->port = port;
  tls->begun_s = (int64_t)time(NULL);
  SSL_SESSION *session = tls_sessions_get(tls->sessions, tls->host, port,
                                          tls->begun_s, &tls->offered_s);
  if (session == NULL)
    return;
  if (SSL_set_session(tls->ssl, session) == 1)
    tls->known = session;
  else
    ERR_clear_error(); /* then there is none */
  SSL_SESSION_free(session);
}

/* OpenSSL's callback: a client came with a ticket.  A connection that goes on
 * with a session is not given another one: its ends share what they had.
 * Without a callback OpenSSL sends a ticket each time (TLS 1.3). */
static SSL_TICKET_RETURN on_ticket(SSL *ssl, SSL_SESSION *session,
                                   const unsigned char *key_name,
                                   size_t key_name_len,
                                   SSL_TICKET_STATUS status, void *arg) {
  (void)ssl;
  (void)key_name;
  (void)key_name_len;
  (void)arg;
  if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
    return SSL_TICKET_RETURN_IGNORE_RENEW;
  int64_t age_s = (int64_t)time(NULL) - (int64_t)SSL_SESSION_get_time(session);
  return age_s >= 0 && age_s < TICKET_RENEW_S ? SSL_TICKET_RETURN_USE
                                              : SSL_TICKET_RETURN_USE_RENEW;
}

/* ---- configuration ---- */

static const char *last_error(void) {
  unsigned long code = ERR_peek_last_error();
  const char *text = code == 0 ? NULL : ERR_reason_error_string(code);
  ERR_clear_error();
  return text == NULL ? "unknown reason" : text;
}

static int config_new(struct tls_config **out, const SSL_METHOD *method) {
  struct tls_config *config = calloc(1, sizeof *config);
  if (config == NULL)
    return DSTREAM_ENOMEM;
  config->ctx = SSL_CTX_new(method);
  if (config->ctx == NULL ||
      !SSL_CTX_set_min_proto_version(config->ctx, TLS1_2_VERSION) ||
      !SSL_CTX_set_ciphersuites(config->ctx, SUITES_13) ||
      !SSL_CTX_set_cipher_list(config->ctx, SUITES_12)) {
    ERR_clear_error();
    tls_config_free(config);
    return DSTREAM_ENOMEM;
  }
  SSL_CTX_set_options(config->ctx, SSL_OP_NO_RENEGOTIATION |
                                       SSL_OP_NO_COMPRESSION |
                                       SSL_OP_CIPHER_SERVER_PREFERENCE |
                                       SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(config->ctx, SSL_MODE_AUTO_RETRY);
  *out = config;
  return DSTREAM_OK;
}

int tls_config_client(struct tls_config **out,
                      const struct dstream_tls_options *options,
                      struct dstream_end *error) {
  const char *ca_file = NULL;
  if (options != NULL && options->size != 0) {
    if (options->size != sizeof *options) {
      end_set(error, DSTREAM_EINVAL, "tls options have a wrong size");
      return DSTREAM_EINVAL;
    }
    ca_file = options->ca_file;
  }
  struct tls_config *config = NULL;
  int status = config_new(&config, TLS_client_method());
  if (status != DSTREAM_OK) {
    end_set(error, status, "no TLS: out of memory");
    return status;
  }
  SSL_CTX_set_verify(config->ctx, SSL_VERIFY_PEER, NULL);
  SSL_CTX_set_session_cache_mode(config->ctx, SSL_SESS_CACHE_OFF);
  config->sessions = tls_sessions_new();
  if (config->sessions == NULL) {
    end_set(error, DSTREAM_ENOMEM, "no TLS: out of memory");
    tls_config_free(config);
    return DSTREAM_ENOMEM;
  }
  int loaded = ca_file == NULL ? SSL_CTX_set_default_verify_paths(config->ctx)
                               : SSL_CTX_load_verify_file(config->ctx, ca_file);
  if (!loaded) {
    end_set(error, DSTREAM_ETLS, "can't read CA certificates from %s: %s",
            ca_file == NULL ? "the system" : ca_file, last_error());
    tls_config_free(config);
    return DSTREAM_ETLS;
  }
  *out = config;
  return DSTREAM_OK;
}

int tls_config_server(struct tls_config **out, const char *cert_file,
                      const char *key_file, struct dstream_end *error) {
  struct tls_config *config = NULL;
  int status = config_new(&config, TLS_server_method());
  if (status != DSTREAM_OK) {
    end_set(error, status, "no TLS: out of memory");
    return status;
  }
  SSL_CTX_set_num_tickets(config->ctx, 1);
  SSL_CTX_set_session_ticket_cb(config->ctx, NULL, on_ticket, NULL);
  SSL_CTX_set_session_cache_mode(config->ctx, SSL_SESS_CACHE_OFF);
  if (SSL_CTX_use_certificate_chain_file(config->ctx, cert_file) != 1) {
    end_set(error, DSTREAM_ETLS, "can't read the certificate %s: %s", cert_file,
            last_error());
  } else if (SSL_CTX_use_PrivateKey_file(config->ctx, key_file,
                                         SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(config->ctx) != 1) {
    end_set(error, DSTREAM_ETLS, "can't use the key %s with %s: %s", key_file,
            cert_file, last_error());
  } else {
    *out = config;
    return DSTREAM_OK;
  }
  tls_config_free(config);
  return DSTREAM_ETLS;
}

/* Whoever signed a client's certificate: it is judged later.  What is wrong is
 * kept for SSL_get_verify_result.  A key that is too short proves nothing. */
static int accept_client(int ok, X509_STORE_CTX *store) {
  switch (X509_STORE_CTX_get_error(store)) {
  case X509_V_ERR_EE_KEY_TOO_SMALL:
  case X509_V_ERR_OUT_OF_MEM:
    return ok;
  default:
    return 1;
  }
}

int tls_config_ask_clients(struct tls_config *config, const char *ca_file,
                           struct dstream_end *error) {
  static const unsigned char id[] = "dstream";
  ERR_clear_error();
  SSL_CTX_set_verify(config->ctx, SSL_VERIFY_PEER, accept_client);
  SSL_CTX_set_verify_depth(config->ctx, CLIENT_CHAIN_MAX);
  SSL_CTX_set_max_cert_list(config->ctx, CLIENT_CHAIN_BYTES);
  /* Without it OpenSSL lets no client that may have a certificate resume. */
  if (SSL_CTX_set_session_id_context(config->ctx, id, sizeof id) != 1 ||
      (ca_file != NULL && !SSL_CTX_load_verify_file(config->ctx, ca_file))) {
    end_set(error, DSTREAM_ETLS, "can't read CA certificates from %s: %s",
            ca_file, last_error());
    return DSTREAM_ETLS;
  }
  return DSTREAM_OK;
}

void tls_config_free(struct tls_config *config) {
  if (config == NULL)
    return;
  SSL_CTX_free(config->ctx);
  tls_sessions_release(config->sessions);
  free(config);
}

/* ---- one connection ---- */

static bool is_address(const char *host) {
  unsigned char buffer[16];
  return inet_pton(AF_INET, host, buffer) == 1 ||
         inet_pton(AF_INET6, host, buffer) == 1;
}

static bool set_peer(SSL *ssl, const char *host) {
  X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
  if (is_address(host))
    return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  char name[256];
  snprintf(name, sizeof name, "%s", host);
  return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 &&
         SSL_set_tlsext_host_name(ssl, name) == 1;
}

int tls_new(struct tls **out, const struct tls_config *config, const char *host,
            struct ring *ring) {
  size_t host_size = host == NULL ? 1 : strlen(host) + 1;
  struct tls *tls = calloc(1, sizeof *tls + host_size);
  if (tls == NULL)
    return DSTREAM_ENOMEM;
  memcpy(tls->host, host == NULL ? "" : host, host_size);
  tls->out = ring;
  if (host != NULL && config->sessions != NULL)
    tls->sessions = tls_sessions_share(config->sessions);
  pthread_once(&bio_once, make_bio_method);
  tls->ssl = SSL_new(config->ctx);
  BIO *bio = bio_method == NULL ? NULL : BIO_new(bio_method);
  if (tls->ssl == NULL || bio == NULL) {
    BIO_free(bio);
    tls_free(tls);
    return DSTREAM_ENOMEM;
  }
  BIO_set_data(bio, tls);
  SSL_set_bio(tls->ssl, bio, bio);
  if (host == NULL) {
    SSL_set_accept_state(tls->ssl);
  } else {
    SSL_set_connect_state(tls->ssl);
    if (!set_peer(tls->ssl, host)) {
      ERR_clear_error();
      tls_free(tls);
      return DSTREAM_EINVAL;
    }
  }
  *out = tls;
  return DSTREAM_OK;
}

void tls_free(struct tls *tls) {
  if (tls == NULL)
    return;
  /* OpenSSL forbids to go on with the session of a connection that it thinks
   * has broken, such as an aborted stream's; that was a rule of SSL 3. */
  if (tls->ssl != NULL)
    SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(tls->ssl);
  tls_sessions_release(tls->sessions);
  free(tls);
}

static int64_t unix_time(const ASN1_TIME *time) {
  struct tm utc;
  return ASN1_TIME_to_tm(time, &utc) == 1 ? (int64_t)timegm(&utc) : 0;
}

static void common_name(X509 *certificate, char *out, size_t size) {
  X509_NAME *subject = X509_get_subject_name(certificate);
  int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  out[0] = '\0';
  if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
    return;
  unsigned char *text = NULL;
  int len = ASN1_STRING_to_UTF8(
      &text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  if (len > 0 && (size_t)len < size && memchr(text, 0, (size_t)len) == NULL) {
    memcpy(out, text, (size_t)len);
    out[len] = '\0';
  }
  OPENSSL_free(text);
}

bool tls_peer(const struct tls *tls, struct tls_peer *out) {
  X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
  memset(out, 0, sizeof *out);
  if (certificate == NULL ||
      X509_digest(certificate, EVP_sha1(), out->sha1, NULL) != 1 ||
      X509_digest(certificate, EVP_sha256(), out->sha256, NULL) != 1)
    return false;
  out->trusted = SSL_get_verify_result(tls->ssl) == X509_V_OK;
  out->not_before_s = unix_time(X509_get0_notBefore(certificate));
  out->not_after_s = unix_time(X509_get0_notAfter(certificate));
  common_name(certificate, out->name, sizeof out->name);
  ERR_clear_error();
  return true;
}

void tls_set_input(struct tls *tls, const uint8_t *data, size_t len) {
  tls->in = data;
  tls->in_len = len;
}

const uint8_t *tls_input(const struct tls *tls, size_t *len) {
  *len = tls->in_len;
  return tls->in;
}

bool tls_blocked(const struct tls *tls) {
  return tls->blocked;
}

static int tls_failed(struct tls *tls, struct dstream_end *error) {
  long verify = SSL_get_verify_result(tls->ssl);
  if (verify != X509_V_OK && tls->host[0] != '\0') {
    ERR_clear_error();
    end_set(error, DSTREAM_EVERIFY,
            "the server's certificate is not trusted: %s",
            X509_verify_cert_error_string(verify));
    return DSTREAM_EVERIFY;
  }
  end_set(error, DSTREAM_ETLS, "TLS failed: %s", last_error());
  return DSTREAM_ETLS;
}

/* OpenSSL keeps one error queue for each thread, which others may have filled:
 * it is emptied before each call whose result is looked up in it. */
int tls_handshake(struct tls *tls, struct dstream_end *error) {
  ERR_clear_error();
  tls->blocked = false;
  int result = SSL_do_handshake(tls->ssl);
  if (result == 1) {
    if (!tls_resumed(tls))
      tls->known = NULL; /* gone, its address may come again */
    keep_session(tls);
    return DSTREAM_OK;
  }
  int why = SSL_get_error(tls->ssl, result);
  if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
    return DSTREAM_EAGAIN;
  return tls_failed(tls, error);
}

long tls_read(struct tls *tls, uint8_t *data, size_t size,
              struct dstream_end *error) {
  ERR_clear_error();
  tls->blocked = false;
  int result = SSL_read(tls->ssl, data, size > INT_MAX ? INT_MAX : (int)size);
  keep_session(tls);
  if (result > 0)
    return result;
  int why = SSL_get_error(tls->ssl, result);
  if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
    return DSTREAM_EAGAIN;
  if (why == SSL_ERROR_ZERO_RETURN)
    return 0;
  return tls_failed(tls, error);
}

int tls_write(struct tls *tls, const void *data, size_t len) {
  assert(len > 0 && len <= SSL3_RT_MAX_PLAIN_LENGTH);
  assert(ring_free(tls->out) >= len + TLS_RECORD_OVERHEAD);
  ERR_clear_error();
  if (SSL_write(tls->ssl, data, (int)len) == (int)len)
    return DSTREAM_OK;
  ERR_clear_error();
  return DSTREAM_ETLS;
}

void tls_release_buffers(struct tls *tls) {
  SSL_free_buffers(tls->ssl);
}

void tls_shutdown(struct tls *tls) {
  ERR_clear_error();
  SSL_shutdown(tls->ssl);
  ERR_clear_error();
}
