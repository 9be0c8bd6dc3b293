/* core/ws_upgrade.h - the HTTP/1.1 handshake that begins a WebSocket
 * (RFC 6455 section 4), both roles.  No extension is ever agreed on: the bytes
 * of a stream are mostly encrypted, and permessage-deflate would cost much and
 * gain nothing. */
#ifndef CORE_WS_UPGRADE_H
#define CORE_WS_UPGRADE_H

#include <stddef.h>

#include <dstream/status.h>

#include "core/http_head.h"
#include "core/slice.h"

/* Texts with their terminating zero: 16 and 20 bytes in base64. */
#define WS_KEY_SIZE    25
#define WS_ACCEPT_SIZE 29

/* The most a token may measure; today's JWTs stay below 1 KB. */
#define WS_TOKEN_MAX 4096

/* ---- client ---- */

struct ws_upgrade_request {
  const char *host;  /* the Host header: "name" or "name:port" */
  const char *path;  /* the request target, with its query; begins with '/' */
  const char *token; /* for "Authorization: Bearer"; NULL: none */
  const char *key;   /* from ws_upgrade_key */
};

/* A new Sec-WebSocket-Key of 16 random bytes.  0 or DSTREAM_EINTERNAL. */
int ws_upgrade_key(char key[WS_KEY_SIZE]);

/* The Sec-WebSocket-Accept that belongs to a key (RFC 6455 4.2.2, 5.4).
 * 0 or DSTREAM_EINTERNAL. */
int ws_upgrade_accept_value(struct slice key, char accept[WS_ACCEPT_SIZE]);

/* Writes the request to out and its length, no terminating zero counted, to
 * *len.  The official clients offer no subprotocol and no extension, nor does
 * this.  DSTREAM_EINVAL: a text that does not fit into HTTP - empty, with
 * blanks or anything but visible ASCII, a token above WS_TOKEN_MAX -
 * DSTREAM_ELIMIT: size is too small. */
int ws_upgrade_request_write(const struct ws_upgrade_request *request,
                             char *out, size_t size, size_t *len);

/* Judges the answer, a final one (no 1xx but 101).  0: the WebSocket is open.
 * Otherwise the status, with *end filled in: DSTREAM_EUNAUTHORIZED (401, 403),
 * DSTREAM_ETHROTTLED (429), DSTREAM_EUPGRADE (any other answer, or a 101 that
 * does not belong to this request). */
int ws_upgrade_check_response(const struct http_head *response,
                              const char *accept, struct dstream_end *end);

/* ---- server ---- */

/* Judges a request.  0 and *key.  DSTREAM_EUPGRADE and *http_status, what to
 * answer: 405 (not GET; Allow: GET), 426 (no WebSocket, or not of version 13;
 * Upgrade: websocket, Connection: Upgrade, Sec-WebSocket-Version: 13), 400. */
int ws_upgrade_check_request(const struct http_head *request, struct slice *key,
                             int *http_status);

/* The client's spelling of a subprotocol that it offered, case ignored; p is
 * NULL when it did not, or `name` is NULL. */
struct slice ws_upgrade_find_subprotocol(const struct http_head *request,
                                         const char *name);

/* Writes the 101 to out; subprotocol.p NULL: none.  0 and *len,
 * DSTREAM_ELIMIT: size is too small. */
int ws_upgrade_response_write(const char *accept, struct slice subprotocol,
                              char *out, size_t size, size_t *len);

#endif
