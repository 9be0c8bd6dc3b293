#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/crypto.h"
#include "core/end.h"
#include "core/percent.h"
#include "device/device.h"

#define DEFAULT_API_VERSION "2020-09-30"
#define PRODUCT_INFO_MAX    256
#define MAX_KEEPALIVE_S     1177 /* the hub's own limit is 1.5 times 1178 s */
#define MAX_SAS_LIFETIME_S  (365 * 24 * 3600)
#define MAX_RETRY_MS        (24 * 3600 * 1000)
#define MAX_STREAMS         65536
#define MAX_REQUESTS        4096

typedef const struct dstream_device_options from_options;

static int out_of_memory(struct dstream_end *error) {
  end_set(error, DSTREAM_ENOMEM, "out of memory");
  return DSTREAM_ENOMEM;
}

/* *value: what was given; 0 becomes the default. */
static int take_number(long given, long standard, long min, long max,
                       const char *name, long *value,
                       struct dstream_end *error) {
  *value = given == 0 ? standard : given;
  if (*value >= min && *value <= max)
    return DSTREAM_OK;
  end_set(error, DSTREAM_EINVAL, "%s is %ld, but must be from %ld to %ld", name,
          given, min, max);
  return DSTREAM_EINVAL;
}

static int take_numbers(struct device_options *out, from_options *from,
                        struct dstream_end *error) {
  long keepalive = 0;
  long lifetime = 0;
  long retry_min = 0;
  long retry_max = 0;
  long streams = 0;
  long requests = 0;
  const struct {
    long given;
    long standard;
    long min;
    long max;
    const char *name;
    long *value;
  } numbers[] = {
      {from->mqtt_keepalive_s, 240, 1, MAX_KEEPALIVE_S, "mqtt_keepalive_s",
       &keepalive},
      {from->sas_lifetime_s, 3600, 10, MAX_SAS_LIFETIME_S, "sas_lifetime_s",
       &lifetime},
      {from->retry_min_ms, 1000, 1, MAX_RETRY_MS, "retry_min_ms", &retry_min},
      {from->retry_max_ms, 60000, 1, MAX_RETRY_MS, "retry_max_ms", &retry_max},
      {from->max_streams, 256, 1, MAX_STREAMS, "max_streams", &streams},
      {from->max_requests, 64, 1, MAX_REQUESTS, "max_requests", &requests},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    int status =
        take_number(numbers[i].given, numbers[i].standard, numbers[i].min,
                    numbers[i].max, numbers[i].name, numbers[i].value, error);
    if (status != DSTREAM_OK)
      return status;
  }
  if (retry_max < retry_min) {
    if (from->retry_max_ms != 0) {
      end_set(error, DSTREAM_EINVAL, "retry_max_ms is less than retry_min_ms");
      return DSTREAM_EINVAL;
    }
    retry_max = retry_min;
  }
  out->keepalive_s = (int)keepalive;
  out->sas_lifetime_s = (int)lifetime;
  out->max_requests = (unsigned)requests;
  out->core = (struct device_core_options){
      .retry_min_ms = (uint32_t)retry_min,
      .retry_max_ms = (uint32_t)retry_max,
      .token_ms = out->conn.x509 ? 0 : (uint64_t)lifetime * 1000,
      .max_streams = (unsigned)streams,
  };
  return DSTREAM_OK;
}

/* ---- texts ---- */

static int join(char **out, const char *format, const char *a, const char *b,
                const char *c) {
  char text[2048];
  /* format is one of the literals below */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  int len = snprintf(text, sizeof text, format, a, b, c);
#pragma GCC diagnostic pop
  if (len < 0 || (size_t)len >= sizeof text)
    return DSTREAM_ELIMIT;
  *out = strdup(text);
  return *out == NULL ? DSTREAM_ENOMEM : DSTREAM_OK;
}

static bool is_version(const char *text) {
  size_t len = strlen(text);
  for (size_t i = 0; i < len; i++)
    if (!isalnum((unsigned char)text[i]) && strchr("-._", text[i]) == NULL)
      return false;
  return len > 0 && len <= 64;
}

/* "<hub host>/<deviceId>[/<moduleId>]/?api-version=<v>&DeviceClientType=<info>"
 * the ids are not encoded, as the official clients leave them. */
static int make_user_name(struct device_options *out, from_options *from,
                          struct dstream_end *error) {
  const char *version =
      from->api_version != NULL ? from->api_version : DEFAULT_API_VERSION;
  const char *info = from->product_info;
  if (info == NULL)
    info = "libdstream/" DSTREAM_VERSION;
  if (!is_version(version)) {
    end_set(error, DSTREAM_EINVAL,
            "api_version must be letters, digits and \"-._\", like %s",
            DEFAULT_API_VERSION);
    return DSTREAM_EINVAL;
  }
  char encoded[3 * PRODUCT_INFO_MAX + 1];
  if (strlen(info) > PRODUCT_INFO_MAX ||
      percent_encode(slice_of(info), encoded, sizeof encoded) < 0) {
    end_set(error, DSTREAM_EINVAL, "product_info is longer than %d bytes",
            PRODUCT_INFO_MAX);
    return DSTREAM_EINVAL;
  }
  char *identity = NULL;
  int status = join(&identity, "%s/%s%s", out->conn.host, out->id, "");
  if (status == DSTREAM_OK)
    status = join(&out->user_name, "%s/?api-version=%s&DeviceClientType=%s",
                  identity, version, encoded);
  free(identity);
  if (status != DSTREAM_OK)
    end_set(error, status, "%s", dstream_status_text(status));
  return status;
}

static int make_texts(struct device_options *out, from_options *from,
                      struct dstream_end *error) {
  const char *device = out->conn.device_id;
  const char *module = out->conn.module_id;
  int status = module == NULL ? join(&out->id, "%s%s%s", device, "", "")
                              : join(&out->id, "%s/%s%s", device, module, "");
  char *path = NULL;
  if (status == DSTREAM_OK)
    status = module == NULL
                 ? join(&path, "%s%s%s", device, "", "")
                 : join(&path, "%s/modules/%s%s", device, module, "");
  if (status == DSTREAM_OK)
    status = join(&out->resource, "%s/devices/%s%s", out->conn.host, path, "");
  free(path);
  if (status == DSTREAM_OK)
    return make_user_name(out, from, error);
  end_set(error, status, "%s", dstream_status_text(status));
  return status;
}

/* ---- files ---- */

static int copy(char **out, const char *text) {
  if (text == NULL)
    return DSTREAM_OK;
  *out = strdup(text);
  return *out == NULL ? DSTREAM_ENOMEM : DSTREAM_OK;
}

/* The loader of server certificates checks that they fit together. */
static int check_certificate(const char *cert_file, const char *key_file,
                             struct dstream_end *error) {
  struct tls_config *config = NULL;
  int status = tls_config_server(&config, cert_file, key_file, error);
  tls_config_free(config);
  return status;
}

static int take_certificate(struct device_options *out, from_options *from,
                            struct dstream_end *error) {
  if (!out->conn.x509) {
    if (from->cert_file == NULL && from->key_file == NULL)
      return DSTREAM_OK;
    end_set(error, DSTREAM_EINVAL,
            "a certificate was given, but the connection string has a key: "
            "replace it by x509=true");
    return DSTREAM_EINVAL;
  }
  if (from->cert_file == NULL) {
    end_set(error, DSTREAM_EINVAL,
            "the connection string says x509=true: cert_file (and key_file, "
            "if the key is not in it) are needed");
    return DSTREAM_EINVAL;
  }
  const char *key = from->key_file != NULL ? from->key_file : from->cert_file;
  if (copy(&out->cert_file, from->cert_file) != DSTREAM_OK ||
      copy(&out->key_file, key) != DSTREAM_OK)
    return out_of_memory(error);
  return check_certificate(out->cert_file, out->key_file, error);
}

static int take_trust(struct device_options *out, from_options *from,
                      struct dstream_end *error) {
  int status = tls_config_client(&out->tls, &from->tls, error);
  if (status != DSTREAM_OK)
    return status;
  if (from->tls.size != 0 &&
      copy(&out->ca_file, from->tls.ca_file) != DSTREAM_OK)
    return out_of_memory(error);
  status = take_certificate(out, from, error);
  if (status != DSTREAM_OK)
    return status;
  return link_proxy_parse(&out->proxy, from->http_proxy, error);
}

int device_options_copy(struct device_options *out, from_options *from,
                        struct dstream_end *error) {
  memset(out, 0, sizeof *out);
  if (from == NULL || from->size != sizeof *from) {
    end_set(error, DSTREAM_EINVAL,
            "device options: size must be "
            "sizeof(struct dstream_device_options)");
    return DSTREAM_EINVAL;
  }
  if (from->connection_string == NULL) {
    end_set(error, DSTREAM_EINVAL, "device options: connection_string is NULL");
    return DSTREAM_EINVAL;
  }
  enum conn_string_kind kind =
      from->sas != NULL ? CONN_STRING_DEVICE_NO_KEY : CONN_STRING_DEVICE;
  int status =
      conn_string_parse(&out->conn, from->connection_string, kind, error);
  if (status == DSTREAM_OK)
    status = take_numbers(out, from, error);
  if (status == DSTREAM_OK)
    status = make_texts(out, from, error);
  if (status == DSTREAM_OK)
    status = take_trust(out, from, error);
  out->websocket = from->mqtt_over_websocket;
  out->sas = from->sas;
  out->sas_user = from->sas_user;
  return status;
}

void device_options_clear(struct device_options *options) {
  conn_string_clear(&options->conn);
  free(options->id);
  free(options->resource);
  free(options->user_name);
  free(options->ca_file);
  free(options->cert_file);
  free(options->key_file);
  tls_config_free(options->tls);
  crypto_wipe(options, sizeof *options);
}
