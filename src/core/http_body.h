/* core/http_body.h - where the body of an HTTP/1.1 response ends (RFC 9112 6).
 */
#ifndef CORE_HTTP_BODY_H
#define CORE_HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/http_head.h"

enum http_body_kind {
  HTTP_BODY_LENGTH,  /* Content-Length, or none at all */
  HTTP_BODY_CHUNKED, /* Transfer-Encoding: chunked */
  HTTP_BODY_TO_END   /* until the connection ends */
};

enum http_chunk_state {
  HTTP_CHUNK_SIZE,
  HTTP_CHUNK_EXTENSION,
  HTTP_CHUNK_DATA,
  HTTP_CHUNK_DATA_END,
  HTTP_CHUNK_TRAILER
};

struct http_body {
  enum http_body_kind kind;
  uint64_t left; /* of the body, or of the chunk */
  enum http_chunk_state chunk;
  unsigned digits;
  size_t line; /* bytes of the line being skipped */
  bool last_chunk;
  bool done;
};

/* From a response's head.  DSTREAM_EHTTP: an encoding or length that makes no
 * sense. */
int http_body_init(struct http_body *body, const struct http_head *response);

/* Takes bytes; writes at most len body bytes to out (out may be in).  *used
 * bytes of in were looked at; body->done says that the body is complete.
 * Returns the count written, or DSTREAM_EHTTP. */
long http_body_feed(struct http_body *body, const char *in, size_t len,
                    size_t *used, char *out);

/* The connection ended: true when the body is complete. */
bool http_body_end(const struct http_body *body);

#endif
