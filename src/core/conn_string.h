/* core/conn_string.h - connection strings, in the official form:
 *
 *   HostName=hub.example.net;DeviceId=dev1;SharedAccessKey=<base64>
 *   HostName=hub.example.net;SharedAccessKeyName=service;SharedAccessKey=<...>
 *
 * Pairs are split at ';', each at its first '=' (keys in base64 end with '=').
 * Names of pairs compare without case.  Unknown pairs are ignored, a known one
 * that comes twice is an error, a ';' at the end and white space around the
 * whole are fine.
 */
#ifndef CORE_CONN_STRING_H
#define CORE_CONN_STRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/slice.h"

/* A longer text is refused: nobody's real one comes near. */
#define CONN_STRING_MAX 4096
/* The longest device, module or policy id, as at Azure. */
#define CONN_STRING_ID_MAX     128
#define CONN_STRING_HOST_MAX   253
#define CONN_STRING_HTTPS_PORT 443
#define CONN_STRING_MQTT_PORT  8883

enum conn_string_kind {
  CONN_STRING_DEVICE,        /* needs HostName, DeviceId, and SharedAccessKey or
                                x509=true */
  CONN_STRING_DEVICE_NO_KEY, /* the same, but the key may be missing: the caller
                                signs in another way */
  CONN_STRING_SERVICE        /* needs HostName, SharedAccessKeyName and
                                SharedAccessKey */
};

/* Texts that did not come are NULL.  Zeroed memory is a valid empty one. */
struct conn_string {
  char *host;         /* HostName: letters, digits, ".", "-", "_" */
  char *device_id;    /* DeviceId */
  char *module_id;    /* ModuleId */
  char *policy;       /* SharedAccessKeyName */
  char *gateway_host; /* GatewayHostName: where to connect to instead of host */
  uint8_t *key;       /* SharedAccessKey, decoded; secret */
  size_t key_len;
  uint16_t https_port; /* HttpsPort, 443 */
  uint16_t mqtt_port;  /* MqttPort, 8883 */
  bool x509;           /* x509=true */
};

/* 0; DSTREAM_ECONNSTRING: error (may be NULL) says what is missing or wrong and
 * never holds a key; DSTREAM_ENOMEM.  *out is written in any case: empty after
 * a failure, else to be cleared by the caller. */
int conn_string_parse(struct conn_string *out, const char *text,
                      enum conn_string_kind kind, struct dstream_end *error);

/* Wipes the key, frees everything, leaves an empty one.  NULL is fine. */
void conn_string_clear(struct conn_string *cs);

/* Prints it, ports only where they are not the usual ones.  The text holds the
 * key: wipe it.  Returns the length or DSTREAM_ELIMIT (out is empty then);
 * CONN_STRING_MAX bytes are always enough for what was parsed. */
int conn_string_format(const struct conn_string *cs, char *out,
                       size_t out_size);

/* Whether Azure would take this as a device's, module's or policy's id: 1 to
 * 128 ASCII letters, digits and "-.+%_#*?!(),:=@$'". */
bool conn_string_id_valid(struct slice id);

#endif
