#include "hub/certificate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "core/end.h"

#define SERIAL_LEN 16
#define X509_V3    2 /* RFC 5280 4.1.2.1 counts from 0 */
/* Clocks of small devices run behind. */
#define BACKDATED_S (24 * 3600)

struct pair {
  EVP_PKEY *key;
  X509 *certificate;
};

static void pair_clear(struct pair *pair) {
  EVP_PKEY_free(pair->key);
  X509_free(pair->certificate);
}

static bool set_serial(X509 *certificate) {
  uint8_t bytes[SERIAL_LEN];
  if (RAND_bytes(bytes, sizeof bytes) != 1)
    return false;
  bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, full length */
  BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
  bool ok = number != NULL &&
            BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
  BN_free(number);
  return ok;
}

static bool set_name(X509 *certificate, const char *common_name) {
  X509_NAME *name = X509_get_subject_name(certificate);
  char text[65]; /* a common name's upper bound: RFC 5280 appendix A.1 */
  snprintf(text, sizeof text, "%.64s", common_name);
  return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC,
                                    (const unsigned char *)"dstream hub", -1,
                                    -1, 0) &&
         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                    (const unsigned char *)text, -1, -1, 0);
}

static bool add_extension(X509 *certificate, X509 *issuer, int nid,
                          const char *value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
  X509V3_set_ctx_nodb(&context);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
  bool ok = extension != NULL && X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  return ok;
}

struct extension {
  int nid;
  const char *value;
};

/* The subject key identifier comes before the authority's, which refers to
 * it. */
static const struct extension ca_extensions[] = {
    {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
    {NID_key_usage, "critical,keyCertSign,cRLSign"},
    {NID_subject_key_identifier, "hash"},
    {NID_authority_key_identifier, "keyid:always"},
    {0, NULL},
};

static const struct extension server_extensions[] = {
    {NID_basic_constraints, "critical,CA:FALSE"},
    {NID_key_usage, "critical,digitalSignature"},
    {NID_ext_key_usage, "serverAuth"},
    {NID_subject_key_identifier, "hash"},
    {NID_authority_key_identifier, "keyid:always"},
    {0, NULL},
};

static bool add_extensions(X509 *certificate, X509 *issuer,
                           const struct extension *list) {
  for (; list->value != NULL; list++) {
    if (!add_extension(certificate, issuer, list->nid, list->value))
      return false;
  }
  return true;
}

static EVP_PKEY *make_key(void) {
  EVP_PKEY *key = NULL;
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
  if (context == NULL || EVP_PKEY_keygen_init(context) != 1 ||
      EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) !=
          1 ||
      EVP_PKEY_CTX_set_ec_param_enc(context, OPENSSL_EC_NAMED_CURVE) != 1 ||
      EVP_PKEY_keygen(context, &key) != 1)
    key = NULL;
  EVP_PKEY_CTX_free(context);
  return key;
}

/* A certificate with a key of its own, unsigned. */
static bool pair_begin(struct pair *pair, const char *common_name, int days) {
  pair->key = make_key();
  pair->certificate = X509_new();
  X509 *certificate = pair->certificate;
  return pair->key != NULL && certificate != NULL &&
         X509_set_version(certificate, X509_V3) && set_serial(certificate) &&
         X509_gmtime_adj(X509_getm_notBefore(certificate), -BACKDATED_S) &&
         X509_time_adj_ex(X509_getm_notAfter(certificate), days - 1, 0, NULL) &&
         set_name(certificate, common_name) &&
         X509_set_pubkey(certificate, pair->key);
}

static bool make_ca(struct pair *ca, const char *host) {
  char name[80];
  snprintf(name, sizeof name, "dstream CA of %.40s", host);
  X509_NAME *subject;
  return pair_begin(ca, name, CERTIFICATE_CA_DAYS) &&
         (subject = X509_get_subject_name(ca->certificate)) != NULL &&
         X509_set_issuer_name(ca->certificate, subject) &&
         add_extensions(ca->certificate, ca->certificate, ca_extensions) &&
         X509_sign(ca->certificate, ca->key, EVP_sha256()) > 0;
}

static bool is_address(const char *host) {
  struct in_addr address;
  return inet_pton(AF_INET, host, &address) == 1;
}

static bool make_server(struct pair *server, const struct pair *ca,
                        const char *host) {
  char names[400];
  const char *usual = "DNS:localhost,IP:127.0.0.1,IP:::1";
  if (strcasecmp(host, "localhost") == 0 || strcmp(host, "127.0.0.1") == 0)
    snprintf(names, sizeof names, "%s", usual);
  else
    snprintf(names, sizeof names, "%s:%s,%s", is_address(host) ? "IP" : "DNS",
             host, usual);
  return pair_begin(server, host, CERTIFICATE_SERVER_DAYS) &&
         X509_set_issuer_name(server->certificate,
                              X509_get_subject_name(ca->certificate)) &&
         add_extensions(server->certificate, ca->certificate,
                        server_extensions) &&
         add_extension(server->certificate, ca->certificate,
                       NID_subject_alt_name, names) &&
         X509_sign(server->certificate, ca->key, EVP_sha256()) > 0;
}

static FILE *open_file(int dirfd, const char *name, int mode) {
  int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0)
    return NULL;
  FILE *file = fdopen(fd, "w");
  if (file == NULL)
    close(fd);
  return file;
}

static bool close_file(FILE *file) {
  bool ok = fflush(file) == 0 && fsync(fileno(file)) == 0;
  return fclose(file) == 0 && ok;
}

static bool write_key(int dirfd, const char *name, EVP_PKEY *key) {
  FILE *file = open_file(dirfd, name, 0600);
  if (file == NULL)
    return false;
  bool ok = PEM_write_PKCS8PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
  return close_file(file) && ok;
}

static bool write_certificates(int dirfd, const char *name, X509 *first,
                               X509 *second) {
  FILE *file = open_file(dirfd, name, 0644);
  if (file == NULL)
    return false;
  bool ok = PEM_write_X509(file, first) &&
            (second == NULL || PEM_write_X509(file, second));
  return close_file(file) && ok;
}

static bool write_all(int dirfd, const struct pair *ca,
                      const struct pair *server) {
  return write_key(dirfd, "ca-key.pem", ca->key) &&
         write_certificates(dirfd, "ca.pem", ca->certificate, NULL) &&
         write_key(dirfd, "server-key.pem", server->key) &&
         write_certificates(dirfd, "server.pem", server->certificate,
                            ca->certificate);
}

int certificate_create(int dirfd, const char *host, struct dstream_end *end) {
  struct pair ca = {0};
  struct pair server = {0};
  int status = DSTREAM_OK;
  if (!make_ca(&ca, host) || !make_server(&server, &ca, host)) {
    char text[160];
    ERR_error_string_n(ERR_get_error(), text, sizeof text);
    status = DSTREAM_EINTERNAL;
    end_set(end, status, "the certificates could not be made: %s", text);
  } else if (!write_all(dirfd, &ca, &server)) {
    status = DSTREAM_ESYSTEM;
    end_set(end, status, "the certificates could not be written: %s",
            strerror(errno));
  }
  pair_clear(&ca);
  pair_clear(&server);
  return status;
}

int64_t certificate_expires_s(const char *path) {
  BIO *file = BIO_new_file(path, "re");
  X509 *certificate =
      file == NULL ? NULL : PEM_read_bio_X509(file, NULL, NULL, NULL);
  struct tm utc;
  int64_t expires = 0;
  if (certificate != NULL &&
      ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &utc) == 1)
    expires = (int64_t)timegm(&utc);
  X509_free(certificate);
  BIO_free(file);
  ERR_clear_error();
  return expires;
}
