#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "hub/check.h"
#include "net/tls.h"

#define SUBJECT    "certificate"
#define DAY_S      86400
#define WARN_DAYS  14
#define NAMES_SIZE 160
#define CA_FILE    "ca.pem" /* of `init`; clients trust it */

/* The server's first, then the chain.  NULL: nothing can be read. */
static STACK_OF(X509) * read_chain(const char *path) {
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return NULL;
  STACK_OF(X509) *chain = sk_X509_new_null();
  X509 *one;
  while (chain != NULL &&
         (one = PEM_read_X509(file, NULL, NULL, NULL)) != NULL) {
    if (sk_X509_push(chain, one) == 0) {
      X509_free(one);
      break;
    }
  }
  fclose(file);
  ERR_clear_error();
  if (chain != NULL && sk_X509_num(chain) == 0) {
    sk_X509_free(chain);
    chain = NULL;
  }
  return chain;
}

static void free_chain(STACK_OF(X509) * chain) {
  sk_X509_pop_free(chain, X509_free);
}

/* ---- dates ---- */

static void date_text(const ASN1_TIME *at, char *out, size_t size) {
  struct tm tm;
  if (ASN1_TIME_to_tm(at, &tm) != 1 || strftime(out, size, "%F", &tm) == 0)
    snprintf(out, size, "?");
}

static long long seconds_until(const ASN1_TIME *at) {
  int days = 0;
  int seconds = 0;
  ASN1_TIME_diff(&days, &seconds, NULL, at);
  return (long long)days * DAY_S + seconds;
}

/* Some live for six days only: a quarter of that is time enough. */
static long long warn_before(const X509 *certificate) {
  int days = 0;
  int seconds = 0;
  ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(certificate),
                 X509_get0_notAfter(certificate));
  long long quarter = (long long)days * DAY_S / 4;
  return quarter < WARN_DAYS * DAY_S ? quarter : WARN_DAYS * DAY_S;
}

static bool check_dates(struct check_report *report, const char *path,
                        const X509 *certificate) {
  char date[32];
  long long left = seconds_until(X509_get0_notAfter(certificate));
  if (seconds_until(X509_get0_notBefore(certificate)) > 0) {
    date_text(X509_get0_notBefore(certificate), date, sizeof date);
    check_say(report, CHECK_ERROR, SUBJECT,
              "%.100s is not good before %s; is this machine's clock right?",
              path, date);
    return false;
  }
  date_text(X509_get0_notAfter(certificate), date, sizeof date);
  if (left <= 0)
    check_say(report, CHECK_ERROR, SUBJECT, "%.100s expired on %s", path, date);
  else if (left < warn_before(certificate))
    check_say(report, CHECK_WARNING, SUBJECT, "%.100s expires on %s", path,
              date);
  return left > 0;
}

/* ---- names ---- */

static bool has_name(X509 *certificate, const char *name) {
  unsigned char address[16];
  if (inet_pton(AF_INET, name, address) == 1 ||
      inet_pton(AF_INET6, name, address) == 1)
    return X509_check_ip_asc(certificate, name, 0) == 1;
  return X509_check_host(certificate, name, 0, 0, NULL) == 1;
}

static void list_names(const X509 *certificate, char out[NAMES_SIZE]) {
  size_t len = 0;
  GENERAL_NAMES *names =
      X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
  snprintf(out, NAMES_SIZE, "no name");
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_DNS || len + 64 > NAMES_SIZE)
      continue;
    len += (size_t)snprintf(
        out + len, NAMES_SIZE - len, "%s%.60s", len > 0 ? ", " : "",
        (const char *)ASN1_STRING_get0_data(name->d.dNSName));
  }
  GENERAL_NAMES_free(names);
}

/* What `init` and the defaults put there is no claim to be kept. */
static bool is_local(const char *name) {
  return strcmp(name, "localhost") == 0 || strcmp(name, "127.0.0.1") == 0;
}

static void check_names(struct check_report *report,
                        const struct config *config, X509 *certificate) {
  char names[NAMES_SIZE];
  list_names(certificate, names);
  if (!has_name(certificate, config->host))
    check_say(report, CHECK_ERROR, SUBJECT,
              "%.60s is not for %.60s, so clients refuse it; it names %.100s",
              config->certificate_file, config->host, names);
  for (size_t i = 0; i < config->alias_count; i++) {
    const char *alias = config->aliases[i];
    if (!is_local(alias) && !has_name(certificate, alias))
      check_say(report, CHECK_WARNING, SUBJECT,
                "%.60s is not for the alias %.60s; it names %.100s",
                config->certificate_file, alias, names);
  }
}

/* ---- the chain ---- */

/* Whether somebody who trusts what this machine trusts, or the hub's own CA,
 * believes it. */
static void check_trust(struct check_report *report, const char *path,
                        STACK_OF(X509) * chain) {
  X509_STORE *store = X509_STORE_new();
  X509_STORE_CTX *context = X509_STORE_CTX_new();
  if (store == NULL || context == NULL)
    goto out;
  X509_STORE_set_default_paths(store);
  X509_STORE_load_locations(store, CA_FILE, NULL);
  if (X509_STORE_CTX_init(context, store, sk_X509_value(chain, 0), chain) != 1)
    goto out;
  X509_STORE_CTX_set_purpose(context, X509_PURPOSE_SSL_SERVER);
  if (X509_verify_cert(context) != 1)
    check_say(report, CHECK_WARNING, SUBJECT,
              "%.80s is not believed on this machine: %.80s; clients need its "
              "CA's certificate, or the chain is not whole",
              path,
              X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
out:
  ERR_clear_error();
  X509_STORE_CTX_free(context);
  X509_STORE_free(store);
}

static void check_order(struct check_report *report, const char *path,
                        STACK_OF(X509) * chain) {
  for (int i = 0; i + 1 < sk_X509_num(chain); i++) {
    if (X509_check_issued(sk_X509_value(chain, i + 1),
                          sk_X509_value(chain, i)) == X509_V_OK)
      continue;
    check_say(report, CHECK_WARNING, SUBJECT,
              "%.100s: certificate %d has not signed the one before it; the "
              "server's comes first, then who signed it",
              path, i + 2);
    return;
  }
}

/* ---- all of it ---- */

/* As the hub does at its start.  False: it can't use them. */
static bool check_use(struct check_report *report,
                      const struct config *config) {
  struct tls_config *tls = NULL;
  struct dstream_end end = {0};
  int status =
      tls_config_server(&tls, config->certificate_file, config->key_file, &end);
  if (status != DSTREAM_OK) {
    check_say(report, CHECK_ERROR, SUBJECT, "%s", end.text);
    return false;
  }
  const char *ca =
      config->device_ca_file[0] == '\0' ? NULL : config->device_ca_file;
  if (tls_config_ask_clients(tls, ca, &end) != DSTREAM_OK)
    check_say(report, CHECK_ERROR, "device CA", "%s", end.text);
  tls_config_free(tls);
  return true;
}

static bool readable(struct check_report *report, const char *path) {
  FILE *file = fopen(path, "re");
  if (file == NULL)
    check_say(report, CHECK_ERROR, SUBJECT, "%.160s can't be read: %s", path,
              strerror(errno));
  else
    fclose(file);
  return file != NULL;
}

static void check_ca_dates(struct check_report *report, const char *path) {
  STACK_OF(X509) *chain = path[0] == '\0' ? NULL : read_chain(path);
  for (int i = 0; i < sk_X509_num(chain); i++)
    check_dates(report, path, sk_X509_value(chain, i));
  free_chain(chain);
}

void check_certificate(struct check_report *report,
                       const struct config *config) {
  const char *path = config->certificate_file;
  unsigned before = report->errors + report->warnings;
  bool both = readable(report, path);
  both = readable(report, config->key_file) && both;
  if (!both || !check_use(report, config))
    return;
  STACK_OF(X509) *chain = read_chain(path);
  if (chain == NULL)
    return;
  X509 *certificate = sk_X509_value(chain, 0);
  bool in_time = check_dates(report, path, certificate);
  check_names(report, config, certificate);
  check_order(report, path, chain);
  if (in_time)
    check_trust(report, path, chain);
  if (report->errors + report->warnings == before) {
    char date[32];
    date_text(X509_get0_notAfter(certificate), date, sizeof date);
    check_say(report, CHECK_OK, SUBJECT,
              "%.100s is for %.60s, with its key, good until %s", path,
              config->host, date);
  }
  free_chain(chain);
  check_ca_dates(report, config->device_ca_file);
}
