/* hub/rest_reply.h - answers that all parts of the REST interface give. */
#ifndef HUB_REST_REPLY_H
#define HUB_REST_REPLY_H

#include "hub/hub_error.h"
#include "hub/http_server.h"

/* A new tracking id: 32 hex digits.  Zeros if there is no randomness. */
void rest_tracking_make(char out[HUB_ERROR_TRACKING_SIZE]);

/* An error in Azure's form (hub/hub_error.h), with the headers iothub-errorcode
 * and x-ms-request-id.  tracking: an id; timeout_s: what ran out, or -1;
 * headers: more of them, each with its CRLF, up to 256 bytes. */
void rest_reply_error(struct http_exchange *exchange, enum hub_error_code code,
                      const char *message, int timeout_s, const char *tracking,
                      const char *headers);

/* The same in the registry's form. */
void rest_reply_registry_error(struct http_exchange *exchange,
                               enum hub_error_code code, const char *message,
                               const char *tracking, const char *headers);

/* 200 and a JSON text. */
void rest_reply_json(struct http_exchange *exchange, const char *json);

#endif
