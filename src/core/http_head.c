#include "core/http_head.h"

#include <string.h>

#include <dstream/status.h>

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

static bool is_visible(char c) {
  return c > ' ' && c < 0x7f;
}

/* tchar, RFC 9110 5.6.2 */
static bool is_token_char(char c) {
  if (is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
    return true;
  return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

/* What a value or a reason may hold; bytes above ASCII are opaque. */
static bool is_text_char(char c) {
  unsigned char byte = (unsigned char)c;
  return byte == '\t' || (byte >= ' ' && byte != 0x7f);
}

static bool all_of(struct slice s, bool (*is)(char)) {
  for (size_t i = 0; i < s.len; i++)
    if (!is(s.p[i]))
      return false;
  return true;
}

static struct slice trim(struct slice s) {
  while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
    s.p++;
    s.len--;
  }
  while (s.len > 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
    s.len--;
  return s;
}

/* Cuts *s at the first c, which must be there: returns what is before it and
 * leaves what is after it.  p is NULL when there is none. */
static struct slice cut(struct slice *s, char c) {
  const char *at = memchr(s->p, c, s->len);
  if (at == NULL)
    return (struct slice){NULL, 0};
  struct slice before = {s->p, (size_t)(at - s->p)};
  s->p = at + 1;
  s->len -= before.len + 1;
  return before;
}

static int parse_version(struct http_head *head, struct slice s) {
  if (s.len != 8 || memcmp(s.p, "HTTP/1.", 7) != 0 || !is_digit(s.p[7]))
    return DSTREAM_EHTTP;
  head->minor = s.p[7] - '0';
  return 0;
}

static int parse_request_line(struct http_head *head, struct slice line) {
  head->method = cut(&line, ' ');
  if (head->method.len == 0 || !all_of(head->method, is_token_char))
    return DSTREAM_EHTTP;
  head->target = cut(&line, ' ');
  if (head->target.len == 0 || !all_of(head->target, is_visible))
    return DSTREAM_EHTTP;
  return parse_version(head, line);
}

static int parse_status_line(struct http_head *head, struct slice line) {
  int rc = parse_version(head, cut(&line, ' '));
  if (rc != 0)
    return rc;
  if (line.len < 3 || line.p[0] == '0' ||
      !all_of((struct slice){line.p, 3}, is_digit))
    return DSTREAM_EHTTP;
  head->status =
      (line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0');
  /* The space is due even before an empty reason (RFC 9112 4), but many
   * servers leave it out and nothing is at stake. */
  if (line.len > 3 && line.p[3] != ' ')
    return DSTREAM_EHTTP;
  size_t skip = line.len > 3 ? 4 : 3;
  head->reason = (struct slice){line.p + skip, line.len - skip};
  return all_of(head->reason, is_text_char) ? 0 : DSTREAM_EHTTP;
}

static int parse_header(struct http_head *head, struct slice line) {
  struct slice name = cut(&line, ':');
  /* A folded line or a space before the colon is no token either. */
  if (name.len == 0 || !all_of(name, is_token_char) ||
      !all_of(line, is_text_char))
    return DSTREAM_EHTTP;
  if (head->count == HTTP_HEADERS_MAX)
    return DSTREAM_ELIMIT;
  head->headers[head->count++] = (struct http_header){name, trim(line)};
  return 0;
}

/* Could bytes without a line end become a start line? */
static int check_unfinished_line(const char *buf, size_t len, bool response) {
  static const char version[] = "HTTP/1.";
  if (response) {
    size_t n = len < sizeof version - 1 ? len : sizeof version - 1;
    return memcmp(buf, version, n) == 0 ? DSTREAM_EAGAIN : DSTREAM_EHTTP;
  }
  for (size_t i = 0; i < len; i++)
    if (!is_visible(buf[i]) && buf[i] != ' ' &&
        !(buf[i] == '\r' && i == len - 1))
      return DSTREAM_EHTTP;
  return DSTREAM_EAGAIN;
}

/* Takes the next CRLF-terminated line; EAGAIN when there is none. */
static int next_line(const char *buf, size_t len, size_t *at,
                     struct slice *line) {
  const char *start = buf + *at;
  const char *end = memchr(start, '\n', len - *at);
  if (end == NULL)
    return DSTREAM_EAGAIN;
  if (end == start || end[-1] != '\r')
    return DSTREAM_EHTTP;
  *line = (struct slice){start, (size_t)(end - start) - 1};
  *at += line->len + 2;
  return 0;
}

static int parse(struct http_head *head, const char *buf, size_t len,
                 bool response) {
  if (len == 0)
    return DSTREAM_EAGAIN;
  head->method = head->target = head->reason = (struct slice){"", 0};
  head->status = 0;
  head->count = 0;
  size_t max = len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX;
  size_t at = 0;
  struct slice line;
  int rc = next_line(buf, max, &at, &line);
  if (rc == 0)
    rc = response ? parse_status_line(head, line)
                  : parse_request_line(head, line);
  else if (rc == DSTREAM_EAGAIN)
    rc = check_unfinished_line(buf, max, response);
  while (rc == 0) {
    rc = next_line(buf, max, &at, &line);
    if (rc == 0 && line.len == 0) {
      head->length = at;
      return 0;
    }
    if (rc == 0)
      rc = parse_header(head, line);
  }
  return rc == DSTREAM_EAGAIN && max == HTTP_HEAD_MAX ? DSTREAM_ELIMIT : rc;
}

int http_head_parse_request(struct http_head *head, const char *buf,
                            size_t len) {
  return parse(head, buf, len, false);
}

int http_head_parse_response(struct http_head *head, const char *buf,
                             size_t len) {
  return parse(head, buf, len, true);
}

struct slice http_head_get(const struct http_head *head, const char *name) {
  for (size_t i = 0; i < head->count; i++)
    if (slice_eq_nocase(head->headers[i].name, name))
      return head->headers[i].value;
  return (struct slice){NULL, 0};
}

size_t http_head_count(const struct http_head *head, const char *name) {
  size_t count = 0;
  for (size_t i = 0; i < head->count; i++)
    count += slice_eq_nocase(head->headers[i].name, name);
  return count;
}

void http_tokens_init(struct http_tokens *tokens, const struct http_head *head,
                      const char *name) {
  *tokens = (struct http_tokens){.head = head, .name = name, .rest = {"", 0}};
}

bool http_tokens_next(struct http_tokens *tokens, struct slice *token) {
  const struct http_head *head = tokens->head;
  for (;;) {
    while (tokens->rest.len > 0) {
      struct slice element = cut(&tokens->rest, ',');
      if (element.p == NULL) {
        element = tokens->rest;
        tokens->rest.len = 0;
      }
      *token = trim(element);
      if (token->len > 0)
        return true;
    }
    while (tokens->header < head->count &&
           !slice_eq_nocase(head->headers[tokens->header].name, tokens->name))
      tokens->header++;
    if (tokens->header == head->count)
      return false;
    tokens->rest = head->headers[tokens->header++].value;
  }
}

bool http_head_has_token(const struct http_head *head, const char *name,
                         const char *token) {
  struct http_tokens tokens;
  struct slice element;
  http_tokens_init(&tokens, head, name);
  while (http_tokens_next(&tokens, &element))
    if (slice_eq_nocase(element, token))
      return true;
  return false;
}

int http_head_content_length(const struct http_head *head, uint64_t *out) {
  size_t count = http_head_count(head, "Content-Length");
  if (count == 0)
    return 0;
  struct slice text = http_head_get(head, "Content-Length");
  if (count > 1 || text.len == 0 ||
      http_head_count(head, "Transfer-Encoding") > 0)
    return DSTREAM_EHTTP;
  uint64_t value = 0;
  for (size_t i = 0; i < text.len; i++) {
    unsigned digit = (unsigned)(text.p[i] - '0');
    if (!is_digit(text.p[i]) || value > (UINT64_MAX - digit) / 10)
      return DSTREAM_EHTTP;
    value = value * 10 + digit;
  }
  *out = value;
  return 1;
}
