#include "core/conn_string.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/crypto.h"
#include "core/end.h"
#include "core/pairs.h"

enum {
  HOST,
  DEVICE_ID,
  MODULE_ID,
  POLICY,
  GATEWAY,
  KEY,
  HTTPS_PORT,
  MQTT_PORT,
  X509,
  NAME_COUNT
};

static const char *const names[NAME_COUNT] = {
    [HOST] = "HostName",
    [DEVICE_ID] = "DeviceId",
    [MODULE_ID] = "ModuleId",
    [POLICY] = "SharedAccessKeyName",
    [GATEWAY] = "GatewayHostName",
    [KEY] = "SharedAccessKey",
    [HTTPS_PORT] = "HttpsPort",
    [MQTT_PORT] = "MqttPort",
    [X509] = "x509",
};

/* value.p is NULL where a pair did not come. */
struct parse {
  struct slice values[NAME_COUNT];
  struct dstream_end *error;
};

static int fail(struct parse *parse, int name, const char *what) {
  end_set(parse->error, DSTREAM_ECONNSTRING, "%s= in the connection string %s",
          names[name], what);
  return DSTREAM_ECONNSTRING;
}

static int fail_missing(struct parse *parse, int name, const char *advice) {
  end_set(parse->error, DSTREAM_ECONNSTRING,
          "the connection string has no %s=: %s", names[name], advice);
  return DSTREAM_ECONNSTRING;
}

static bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct slice trim(struct slice text) {
  while (text.len > 0 && is_space(text.p[0])) {
    text.p++;
    text.len--;
  }
  while (text.len > 0 && is_space(text.p[text.len - 1]))
    text.len--;
  return text;
}

static int collect(struct parse *parse, struct slice rest) {
  struct pair pair;
  while (pairs_next(&rest, ';', &pair)) {
    for (int i = 0; i < NAME_COUNT; i++) {
      if (!slice_eq_nocase(pair.name, names[i]))
        continue;
      if (parse->values[i].p != NULL)
        return fail(parse, i, "comes twice; remove one");
      if (pair.value.len == 0)
        return fail(parse, i, "is empty");
      parse->values[i] = pair.value;
    }
  }
  return DSTREAM_OK;
}

static int require(struct parse *parse, enum conn_string_kind kind) {
  const struct slice *v = parse->values;
  if (v[HOST].p == NULL)
    return fail_missing(parse, HOST, "copy it whole, as the hub printed it");
  if (kind == CONN_STRING_SERVICE) {
    if (v[POLICY].p == NULL)
      return fail_missing(parse, POLICY,
                          "a service needs the connection string of a policy");
    if (v[KEY].p == NULL)
      return fail_missing(parse, KEY, "copy it whole, as the hub printed it");
    return DSTREAM_OK;
  }
  if (v[DEVICE_ID].p == NULL)
    return fail_missing(parse, DEVICE_ID,
                        v[POLICY].p == NULL
                            ? "copy it whole, as the hub printed it"
                            : "this is a service's; a device needs its own");
  return DSTREAM_OK;
}

static int require_secret(struct parse *parse, const struct conn_string *cs,
                          enum conn_string_kind kind) {
  bool key = parse->values[KEY].p != NULL;
  if (kind == CONN_STRING_DEVICE && !key && !cs->x509)
    return fail_missing(parse, KEY, "give the key, or x509=true");
  if (kind != CONN_STRING_SERVICE && key && cs->x509)
    return fail(parse, KEY, "does not go with x509=true; remove one");
  return DSTREAM_OK;
}

static int copy(struct parse *parse, int name, char **out) {
  struct slice value = parse->values[name];
  if (value.p == NULL)
    return DSTREAM_OK;
  *out = malloc(value.len + 1);
  if (*out == NULL)
    return DSTREAM_ENOMEM;
  memcpy(*out, value.p, value.len);
  (*out)[value.len] = '\0';
  return DSTREAM_OK;
}

bool conn_string_id_valid(struct slice id) {
  return id.len > 0 && id.len <= CONN_STRING_ID_MAX &&
         slice_only(id, "-.+%_#*?!(),:=@$'");
}

static int copy_id(struct parse *parse, int name, char **out) {
  struct slice value = parse->values[name];
  if (value.p != NULL && !conn_string_id_valid(value))
    return fail(parse, name,
                "must be 1 to 128 letters, digits and -.+%_#*?!(),:=@$'");
  return copy(parse, name, out);
}

static int copy_host(struct parse *parse, int name, char **out) {
  struct slice value = parse->values[name];
  if (value.p != NULL &&
      (value.len > CONN_STRING_HOST_MAX || !slice_only(value, ".-_")))
    return fail(parse, name,
                "must be a host name, without a scheme, a port or a path");
  return copy(parse, name, out);
}

static int read_port(struct parse *parse, int name, uint16_t usual,
                     uint16_t *out) {
  struct slice value = parse->values[name];
  *out = usual;
  if (value.p == NULL)
    return DSTREAM_OK;
  unsigned port = 0;
  for (size_t i = 0; i < value.len; i++) {
    char c = value.p[i];
    if (c < '0' || c > '9' || i == 5)
      return fail(parse, name, "must be a port, 1 to 65535");
    port = port * 10 + (unsigned)(c - '0');
  }
  if (port == 0 || port > UINT16_MAX)
    return fail(parse, name, "must be a port, 1 to 65535");
  *out = (uint16_t)port;
  return DSTREAM_OK;
}

static int read_key(struct parse *parse, struct conn_string *out) {
  struct slice value = parse->values[KEY];
  if (value.p == NULL)
    return DSTREAM_OK;
  out->key = malloc(value.len);
  if (out->key == NULL)
    return DSTREAM_ENOMEM;
  if (crypto_base64_decode(value.p, value.len, out->key, value.len,
                           &out->key_len) != DSTREAM_OK ||
      out->key_len == 0) {
    crypto_wipe(out->key, value.len);
    return fail(parse, KEY,
                "is not base64; copy the whole key, with the '=' at its end");
  }
  return DSTREAM_OK;
}

static int read_x509(struct parse *parse, bool *out) {
  struct slice value = parse->values[X509];
  *out = value.p != NULL && slice_eq_nocase(value, "true");
  if (value.p != NULL && !*out && !slice_eq_nocase(value, "false"))
    return fail(parse, X509, "must be true or false");
  return DSTREAM_OK;
}

static int read_values(struct parse *parse, struct conn_string *out) {
  int status = copy_host(parse, HOST, &out->host);
  if (status == DSTREAM_OK)
    status = copy_id(parse, DEVICE_ID, &out->device_id);
  if (status == DSTREAM_OK)
    status = copy_id(parse, MODULE_ID, &out->module_id);
  if (status == DSTREAM_OK)
    status = copy_id(parse, POLICY, &out->policy);
  if (status == DSTREAM_OK)
    status = copy_host(parse, GATEWAY, &out->gateway_host);
  if (status == DSTREAM_OK)
    status =
        read_port(parse, HTTPS_PORT, CONN_STRING_HTTPS_PORT, &out->https_port);
  if (status == DSTREAM_OK)
    status =
        read_port(parse, MQTT_PORT, CONN_STRING_MQTT_PORT, &out->mqtt_port);
  if (status == DSTREAM_OK)
    status = read_x509(parse, &out->x509);
  if (status == DSTREAM_OK)
    status = read_key(parse, out);
  return status;
}

int conn_string_parse(struct conn_string *out, const char *text,
                      enum conn_string_kind kind, struct dstream_end *error) {
  struct parse parse = {.error = error};
  *out = (struct conn_string){0};
  size_t len = strnlen(text, CONN_STRING_MAX);
  if (len == CONN_STRING_MAX) {
    end_set(error, DSTREAM_ECONNSTRING,
            "the connection string is longer than %d characters",
            CONN_STRING_MAX - 1);
    return DSTREAM_ECONNSTRING;
  }
  int status = collect(&parse, trim((struct slice){text, len}));
  if (status == DSTREAM_OK)
    status = require(&parse, kind);
  if (status == DSTREAM_OK)
    status = read_values(&parse, out);
  if (status == DSTREAM_OK)
    status = require_secret(&parse, out, kind);
  if (status == DSTREAM_OK)
    return DSTREAM_OK;
  if (status == DSTREAM_ENOMEM)
    end_set(error, status, "out of memory");
  conn_string_clear(out);
  return status;
}

void conn_string_clear(struct conn_string *cs) {
  if (cs == NULL)
    return;
  crypto_wipe(cs->key, cs->key_len);
  free(cs->host);
  free(cs->device_id);
  free(cs->module_id);
  free(cs->policy);
  free(cs->gateway_host);
  free(cs->key);
  *cs = (struct conn_string){0};
}

struct text {
  char *p;
  size_t size;
  size_t len; /* may reach size: it did not fit */
};

static void put(struct text *out, const char *name, const char *value) {
  if (value == NULL || out->len >= out->size)
    return;
  int n = snprintf(out->p + out->len, out->size - out->len, "%s%s=%s",
                   out->len > 0 ? ";" : "", name, value);
  assert(n >= 0);
  out->len += (size_t)n;
}

static void put_port(struct text *out, const char *name, uint16_t port,
                     uint16_t usual) {
  char value[8];
  snprintf(value, sizeof value, "%u", (unsigned)port);
  if (port != 0 && port != usual)
    put(out, name, value);
}

static void put_key(struct text *out, const struct conn_string *cs) {
  char value[CONN_STRING_MAX];
  if (cs->key_len == 0)
    return;
  if (cs->key_len > CONN_STRING_MAX / 4 * 3 - 3) {
    out->len = out->size;
    return;
  }
  crypto_base64_encode(cs->key, cs->key_len, value, sizeof value);
  put(out, names[KEY], value);
  crypto_wipe(value, sizeof value);
}

int conn_string_format(const struct conn_string *cs, char *out,
                       size_t out_size) {
  struct text text = {.p = out, .size = out_size};
  put(&text, names[HOST], cs->host);
  put(&text, names[DEVICE_ID], cs->device_id);
  put(&text, names[MODULE_ID], cs->module_id);
  put(&text, names[POLICY], cs->policy);
  put_key(&text, cs);
  put(&text, names[X509], cs->x509 ? "true" : NULL);
  put(&text, names[GATEWAY], cs->gateway_host);
  put_port(&text, names[HTTPS_PORT], cs->https_port, CONN_STRING_HTTPS_PORT);
  put_port(&text, names[MQTT_PORT], cs->mqtt_port, CONN_STRING_MQTT_PORT);
  if (text.len > 0 && text.len < text.size)
    return (int)text.len;
  crypto_wipe(out, out_size);
  return DSTREAM_ELIMIT;
}
