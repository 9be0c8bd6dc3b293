/* hub/registry.h - the identity registry in Azure's words: what a REST request
 * about devices does to the store, and the JSON that answers it.
 *
 * It knows no connection and no clock; one call does one request, in one
 * transaction.  hub/rest_registry.h is what speaks HTTP.
 *
 * A device, as the official clients read and write it:
 *
 *   {"deviceId":"pump-7","generationId":"16 hex digits","etag":"16 hex digits",
 *    "connectionState":"Connected",       or "Disconnected"
 *    "status":"enabled",                  or "disabled"
 *    "statusReason":null,                 or a text of 128 bytes at most
 *    "connectionStateUpdatedTime":"TIME","statusUpdatedTime":"TIME",
 *    "lastActivityTime":"TIME",           0001-01-01T00:00:00Z: not known
 *    "cloudToDeviceMessageCount":0,
 *    "authentication":{
 *      "symmetricKey":{"primaryKey":"BASE64","secondaryKey":"BASE64"},
 *      "x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},
 *      "type":"sas"},                     selfSigned, certificateAuthority;
 * none: the keys are its group's "capabilities":{"iotEdge":false}}
 *
 * In a request all but the id may be missing, and what is not listed here is
 * ignored, as are generationId, the times and the connection's state:
 *   status, statusReason    of a new device: enabled, none; else they stay
 *   authentication.type     by what is there: selfSigned with a thumbprint, sas
 *                           with a key; of a new device: sas; else it stays
 *   a key                   missing, null or empty: stays; or is made anew
 * where there was none.  (Azure makes new ones each time, which locks the
 * device out.) capabilities.iotEdge    must not be true
 */
#ifndef HUB_REGISTRY_H
#define HUB_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"
#include "hub/hub_error.h"
#include "hub/identity.h"

#define REGISTRY_LIST_MAX     1000 /* devices in one answer, as Azure's */
#define REGISTRY_BULK_MAX     100  /* devices in one request, as Azure's */
#define REGISTRY_MESSAGE_MAX  200
#define REGISTRY_IF_MATCH_MAX 64

enum registry_operation {
  REGISTRY_GET,    /* device */
  REGISTRY_LIST,   /* limit devices from behind `after` */
  REGISTRY_PUT,    /* body; without if_match the device must not be there, with
                      "*" it must, with anything else it must have that etag */
  REGISTRY_DELETE, /* if_match is needed */
  REGISTRY_BULK,   /* body: an array of devices, each with "id" in the place of
                      deviceId and an "importMode": create, update, delete,
                      updateIfMatchETag, deleteIfMatchETag, createOrUpdate,
                      createOrUpdateIfMatchETag.  One that fails leaves the others
                      alone: the answer lists those that did. */
  REGISTRY_COUNT   /* {"totalDeviceCount":2,"enabledDeviceCount":1,
                      "disabledDeviceCount":1} */
};

struct registry_request {
  enum registry_operation operation;
  char device[IDENTITY_ID_MAX + 1];
  char if_match[REGISTRY_IF_MATCH_MAX]; /* as registry_if_match makes it; empty:
                                           none */
  char after[IDENTITY_ID_MAX + 1];      /* empty: from the first */
  size_t limit;
  bool show_keys; /* else they are null */
  struct slice body;
};

/* Where an answer says whether a device is connected. */
struct registry_place {
  char device[IDENTITY_ID_MAX + 1];
  size_t state; /* offsets in the body, of fixed width */
  size_t since;
  size_t activity;
};

struct registry_answer {
  enum hub_error_code error; /* HUB_ERROR_NONE: 200, or 204 without a body.  A
                                body beside an error is the answer. */
  char message[REGISTRY_MESSAGE_MAX];
  char *body; /* malloc'd; holds keys */
  size_t body_len;
  char etag[IDENTITY_TAG_SIZE];   /* of the device; empty: none */
  char next[IDENTITY_ID_MAX + 1]; /* `after` for what follows; empty: it is
                                     the end */
  unsigned changed;               /* devices */
  struct registry_place *places;  /* of the devices in it */
  size_t place_count;
};

/* Does it.  Any thread, the store's.  Frees nothing of the request. */
void registry_run(struct identity_store *store,
                  const struct registry_request *request, int64_t now_s,
                  struct registry_answer *answer);

/* Puts the connections' states in.  connected: true and since_s (Unix seconds;
 * 0: not known) when the device is. */
void registry_connections(struct registry_answer *answer,
                          bool (*connected)(void *user, const char *device,
                                            int64_t *since_s),
                          void *user);

void registry_answer_clear(struct registry_answer *answer);

/* The value of a header If-Match: one etag, quoted or not, "weak" or not, or *.
 * (The official clients send "*" in quotes.)  False: something else. */
bool registry_if_match(struct slice value, char out[REGISTRY_IF_MATCH_MAX]);

#endif
