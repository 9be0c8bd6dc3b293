/* hub/registry_device.h - one device as JSON, both ways (hub/registry.h). */
#ifndef HUB_REGISTRY_DEVICE_H
#define HUB_REGISTRY_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "hub/registry.h"

/* Why a request, or a part of one, is refused. */
struct registry_problem {
  enum hub_error_code code;
  char message[REGISTRY_MESSAGE_MAX];
};

/* Sets it and returns false. */
bool registry_refuse(struct registry_problem *problem, enum hub_error_code code,
                     const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What a request says about a device. */
struct registry_change {
  char id[IDENTITY_ID_MAX + 1]; /* empty: missing */
  char etag[REGISTRY_IF_MATCH_MAX];
  char mode[32]; /* importMode */
  bool has_status;
  bool enabled;
  bool has_reason;
  char reason[IDENTITY_REASON_MAX + 1];
  bool has_auth;
  enum identity_auth auth;
  struct identity_key key[2]; /* len 0: missing */
  char thumbprint[2][IDENTITY_THUMBPRINT_SIZE];
};

struct cJSON;

/* Reads one; the keys in object are wiped.  False: *problem says why. */
bool registry_change_read(struct registry_change *change, struct cJSON *object,
                          struct registry_problem *problem);
/* Overwrites the keys. */
void registry_change_wipe(struct registry_change *change);

/* Makes *device (as it was, or zeroed where there was none) what the change
 * asks for. */
bool registry_change_apply(const struct registry_change *change, bool exists,
                           int64_t now_s, struct identity_device *device,
                           struct registry_problem *problem);

/* A text that grows, zero-terminated; p NULL: it is empty. */
struct registry_text {
  char *p;
  size_t len;
  size_t size;
  bool failed; /* out of memory: what it holds is of no use */
};

void registry_text_add(struct registry_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* As a JSON string, quoted; value is UTF-8 without control characters. */
void registry_text_add_string(struct registry_text *text, const char *value);
/* Overwrites what it held, and frees it. */
void registry_text_clear(struct registry_text *text);

/* place: what registry_connections needs. */
void registry_device_print(struct registry_text *text,
                           const struct identity_device *device, bool show_keys,
                           struct registry_place *place);

#endif
