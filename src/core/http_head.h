/* core/http_head.h - the head of an HTTP/1.1 message, parsed in place.
 *
 * Strict on purpose (RFC 9112): lines end in CRLF and nothing else, no folded
 * lines, no space before a header's colon, no control characters.  What two
 * readers could understand differently is refused, so that nothing can be
 * smuggled past one of them.  No allocation; every slice points into the
 * caller's buffer and lives as long as it.
 */
#ifndef CORE_HTTP_HEAD_H
#define CORE_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

/* A head with more headers, or longer with its blank line, is refused: it would
 * cost a stranger nothing to send and us memory to hold. */
#define HTTP_HEADERS_MAX 64
#define HTTP_HEAD_MAX    16384

struct http_header {
  struct slice name;
  struct slice value; /* without the blanks around it; p is never NULL */
};

struct http_head {
  struct slice method, target; /* request only */
  struct slice reason;         /* response only; may be empty */
  int status;                  /* response only: 100 to 999 */
  int minor;                   /* of the version: HTTP/1.minor, 0 to 9 */
  size_t count;
  struct http_header headers[HTTP_HEADERS_MAX];
  size_t length; /* bytes of the head, its blank line included */
};

/* Parses the head at the start of buf.
 * 0: complete, all of *head is set; what follows it is at buf + head->length.
 * DSTREAM_EAGAIN: so far it may become one; call again with more.
 * DSTREAM_EHTTP: malformed.
 * DSTREAM_ELIMIT: more than HTTP_HEADERS_MAX headers or HTTP_HEAD_MAX bytes.
 * *head is undefined unless 0 is returned.  The target holds visible ASCII
 * only; it is not decoded. */
int http_head_parse_request(struct http_head *head, const char *buf,
                            size_t len);
int http_head_parse_response(struct http_head *head, const char *buf,
                             size_t len);

/* The value of the first header of that name (case ignored); p is NULL when
 * there is none. */
struct slice http_head_get(const struct http_head *head, const char *name);

/* How many headers have that name. */
size_t http_head_count(const struct http_head *head, const char *name);

/* Walks the comma-separated elements of all headers of one name, in order,
 * empty elements left out (RFC 9110 5.6.1).  Quoted strings are not understood:
 * for lists of tokens only. */
struct http_tokens {
  const struct http_head *head;
  const char *name;
  size_t header; /* the next one to look at */
  struct slice rest;
};

void http_tokens_init(struct http_tokens *tokens, const struct http_head *head,
                      const char *name);
bool http_tokens_next(struct http_tokens *tokens, struct slice *token);

/* True when one of those elements is `token` (case ignored). */
bool http_head_has_token(const struct http_head *head, const char *name,
                         const char *token);

/* 1 and *out: a valid Content-Length.  0: there is none.  DSTREAM_EHTTP: not a
 * plain number, too large, given twice (even alike), or beside a
 * Transfer-Encoding (RFC 9112 6.3: the makings of request smuggling). */
int http_head_content_length(const struct http_head *head, uint64_t *out);

#endif
