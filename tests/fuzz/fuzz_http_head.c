/* First byte: request or response.  The rest is the beginning of a message. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <dstream/status.h>

#include "core/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef int (*parse_fn)(struct http_head *head, const char *buf, size_t len);

static void check_inside(struct slice s, const char *buf, size_t len) {
  assert(s.p != NULL);
  assert(s.len == 0 || (s.p >= buf && s.p + s.len <= buf + len));
  for (size_t i = 0; i < s.len; i++)
    assert(s.p[i] != '\r' && s.p[i] != '\n' && s.p[i] != '\0');
}

static void check_head(const struct http_head *head, const char *buf) {
  assert(head->count <= HTTP_HEADERS_MAX);
  check_inside(head->method, buf, head->length);
  check_inside(head->target, buf, head->length);
  check_inside(head->reason, buf, head->length);
  for (size_t i = 0; i < head->count; i++) {
    check_inside(head->headers[i].name, buf, head->length);
    check_inside(head->headers[i].value, buf, head->length);
    assert(head->headers[i].name.len > 0);
  }
  assert(memcmp(buf + head->length - 4, "\r\n\r\n", 4) == 0);
  struct http_tokens tokens;
  struct slice token;
  http_tokens_init(&tokens, head, "Connection");
  while (http_tokens_next(&tokens, &token))
    assert(token.len > 0 && memchr(token.p, ',', token.len) == NULL);
  uint64_t length;
  int rc = http_head_content_length(head, &length);
  assert(rc == 0 || rc == 1 || rc == DSTREAM_EHTTP);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  parse_fn parse =
      (data[0] & 1) != 0 ? http_head_parse_response : http_head_parse_request;
  const char *buf = (const char *)data + 1;
  size_t len = size - 1;
  struct http_head head, part;
  int rc = parse(&head, buf, len);
  if (rc != 0) {
    assert(rc == DSTREAM_EAGAIN || rc == DSTREAM_EHTTP || rc == DSTREAM_ELIMIT);
    return 0;
  }
  assert(head.length <= len && head.length <= HTTP_HEAD_MAX);
  check_head(&head, buf);
  size_t step = 1 + head.length / 64;
  for (size_t n = 0; n < head.length; n += step)
    assert(parse(&part, buf, n) == DSTREAM_EAGAIN);
  assert(parse(&part, buf, head.length - 1) == DSTREAM_EAGAIN);
  assert(parse(&part, buf, head.length) == 0 && part.count == head.count);
  return 0;
}
