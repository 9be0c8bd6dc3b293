#include "core/http_body.h"

#include <string.h>

#include <dstream/status.h>

/* Chunk extensions and trailers are skipped, in bounds. */
#define LINE_MAX_LEN 4096

int http_body_init(struct http_body *body, const struct http_head *response) {
  memset(body, 0, sizeof *body);
  uint64_t length = 0;
  int has_length = http_head_content_length(response, &length);
  if (has_length < 0)
    return DSTREAM_EHTTP;
  if (response->status / 100 == 1 || response->status == 204 ||
      response->status == 304) {
    body->done = true;
    return DSTREAM_OK;
  }
  if (http_head_get(response, "Transfer-Encoding").p != NULL) {
    if (!http_head_has_token(response, "Transfer-Encoding", "chunked") ||
        has_length)
      return DSTREAM_EHTTP;
    body->kind = HTTP_BODY_CHUNKED;
  } else if (has_length) {
    body->left = length;
    body->done = length == 0;
  } else {
    body->kind = HTTP_BODY_TO_END;
  }
  return DSTREAM_OK;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

static int chunk_size_char(struct http_body *body, char c) {
  int digit = hex_digit(c);
  if (digit >= 0) {
    if (++body->digits > 15)
      return DSTREAM_EHTTP;
    body->left = body->left * 16 + (uint64_t)digit;
    return DSTREAM_OK;
  }
  if (body->digits == 0 || (c != ';' && c != '\r' && c != ' ' && c != '\t'))
    return DSTREAM_EHTTP;
  body->chunk = HTTP_CHUNK_EXTENSION;
  body->line = 0;
  return DSTREAM_OK;
}

static void chunk_line_done(struct http_body *body) {
  if (body->chunk == HTTP_CHUNK_EXTENSION) {
    body->last_chunk = body->left == 0;
    body->chunk = body->last_chunk ? HTTP_CHUNK_TRAILER : HTTP_CHUNK_DATA;
  } else if (body->chunk == HTTP_CHUNK_DATA_END) {
    body->chunk = HTTP_CHUNK_SIZE;
    body->digits = 0;
    body->left = 0;
  } else if (body->line == 0) { /* an empty line ends the trailer */
    body->done = true;
  }
  body->line = 0;
}

/* One byte that is not payload. */
static int chunk_char(struct http_body *body, char c) {
  if (body->chunk == HTTP_CHUNK_SIZE)
    return chunk_size_char(body, c);
  if (c == '\n') {
    chunk_line_done(body);
    return DSTREAM_OK;
  }
  if (c == '\r')
    return DSTREAM_OK;
  if (body->chunk == HTTP_CHUNK_DATA_END || ++body->line > LINE_MAX_LEN)
    return DSTREAM_EHTTP;
  return DSTREAM_OK;
}

static size_t take(struct http_body *body, const char *in, size_t len,
                   char *out) {
  size_t n = body->left < len ? (size_t)body->left : len;
  memmove(out, in, n);
  body->left -= n;
  return n;
}

static long feed_chunked(struct http_body *body, const char *in, size_t len,
                         size_t *used, char *out) {
  size_t i = 0;
  size_t written = 0;
  while (i < len && !body->done) {
    if (body->chunk == HTTP_CHUNK_DATA) {
      size_t n = take(body, in + i, len - i, out + written);
      i += n;
      written += n;
      if (body->left == 0)
        body->chunk = HTTP_CHUNK_DATA_END;
    } else if (chunk_char(body, in[i++]) != DSTREAM_OK) {
      return DSTREAM_EHTTP;
    }
  }
  *used = i;
  return (long)written;
}

long http_body_feed(struct http_body *body, const char *in, size_t len,
                    size_t *used, char *out) {
  *used = 0;
  if (body->done)
    return 0;
  if (body->kind == HTTP_BODY_CHUNKED)
    return feed_chunked(body, in, len, used, out);
  if (body->kind == HTTP_BODY_TO_END) {
    memmove(out, in, len);
    *used = len;
    return (long)len;
  }
  size_t n = take(body, in, len, out);
  *used = n;
  body->done = body->left == 0;
  return (long)n;
}

bool http_body_end(const struct http_body *body) {
  return body->done || body->kind == HTTP_BODY_TO_END;
}
