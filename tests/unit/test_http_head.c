#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/http_head.h"

typedef int (*parse_fn)(struct http_head *head, const char *buf, size_t len);

/* Parses a copy of exactly len bytes, so that a sanitizer sees a read past
 * it; the head's slices are then of no use. */
static int parse_exact(parse_fn parse, const char *text, size_t len) {
  char *copy = malloc(len > 0 ? len : 1);
  assert_non_null(copy);
  memcpy(copy, text, len);
  struct http_head head;
  int rc = parse(&head, copy, len);
  free(copy);
  return rc;
}

/* All of text is one good head: every shorter beginning needs more. */
static void assert_good(parse_fn parse, const char *text,
                        struct http_head *head) {
  size_t len = strlen(text);
  for (size_t n = 0; n < len; n++)
    if (parse_exact(parse, text, n) != DSTREAM_EAGAIN)
      fail_msg("not EAGAIN after %zu bytes of: %s", n, text);
  assert_int_equal(parse_exact(parse, text, len), 0);
  assert_int_equal(parse(head, text, len), 0);
  assert_int_equal(head->length, len);
}

/* Malformed as a whole; a beginning of it is so too or may still become good,
 * and once it is bad it stays bad. */
static void assert_bad(parse_fn parse, const char *text, size_t len) {
  int before = DSTREAM_EAGAIN;
  for (size_t n = 0; n <= len; n++) {
    int rc = parse_exact(parse, text, n);
    if (rc != DSTREAM_EAGAIN && rc != DSTREAM_EHTTP)
      fail_msg("%d after %zu bytes of: %s", rc, n, text);
    if (before == DSTREAM_EHTTP && rc != DSTREAM_EHTTP)
      fail_msg("good again after %zu bytes of: %s", n, text);
    before = rc;
  }
  if (before != DSTREAM_EHTTP)
    fail_msg("not refused: %s", text);
}

#define assert_bad_request(text)                                               \
  assert_bad(http_head_parse_request, text, sizeof(text) - 1)
#define assert_bad_response(text)                                              \
  assert_bad(http_head_parse_response, text, sizeof(text) - 1)

static void assert_slice(struct slice s, const char *text) {
  assert_non_null(s.p);
  if (!slice_eq(s, text))
    fail_msg("\"%.*s\" is not \"%s\"", (int)s.len, s.p, text);
}

static void reads_a_request(void **state) {
  (void)state;
  struct http_head head;
  assert_good(http_head_parse_request,
              "GET /a?b=c%20d HTTP/1.1\r\n"
              "Host: example.com:8443\r\n"
              "X-Empty:\r\n"
              "x-blanks: \t a  b\t \r\n"
              "X-Opaque: \xc3\xa4\r\n"
              "\r\n",
              &head);
  assert_slice(head.method, "GET");
  assert_slice(head.target, "/a?b=c%20d");
  assert_int_equal(head.minor, 1);
  assert_int_equal(head.status, 0);
  assert_int_equal(head.count, 4);
  assert_slice(head.headers[0].name, "Host");
  assert_slice(http_head_get(&head, "hOST"), "example.com:8443");
  assert_slice(http_head_get(&head, "X-Empty"), "");
  assert_slice(http_head_get(&head, "X-Blanks"), "a  b");
  assert_slice(http_head_get(&head, "X-Opaque"), "\xc3\xa4");
  assert_null(http_head_get(&head, "X-Missing").p);
}

static void reads_a_response(void **state) {
  (void)state;
  struct http_head head;
  assert_good(http_head_parse_response,
              "HTTP/1.1 503 Not now, later\r\nServer: x\r\n\r\n", &head);
  assert_int_equal(head.status, 503);
  assert_int_equal(head.minor, 1);
  assert_slice(head.reason, "Not now, later");
  assert_slice(http_head_get(&head, "server"), "x");
  assert_good(http_head_parse_response, "HTTP/1.0 200 \r\n\r\n", &head);
  assert_int_equal(head.minor, 0);
  assert_slice(head.reason, "");
  assert_good(http_head_parse_response, "HTTP/1.1 204\r\n\r\n", &head);
  assert_int_equal(head.status, 204);
  assert_slice(head.reason, "");
}

static void leaves_what_follows_the_head(void **state) {
  (void)state;
  struct http_head head;
  const char text[] = "POST / HTTP/1.1\r\n\r\n\0\r\n\nbody";
  assert_int_equal(http_head_parse_request(&head, text, sizeof text), 0);
  assert_int_equal(head.length, 19);
  assert_int_equal(head.count, 0);
}

static void refuses_start_lines(void **state) {
  (void)state;
  assert_bad_request("\r\nGET / HTTP/1.1\r\n\r\n");
  assert_bad_request("GET  / HTTP/1.1\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1 \r\n\r\n");
  assert_bad_request(" GET / HTTP/1.1\r\n\r\n");
  assert_bad_request("GET /a b HTTP/1.1\r\n\r\n");
  assert_bad_request("GET\t/\tHTTP/1.1\r\n\r\n");
  assert_bad_request("GET /\r\n\r\n");
  assert_bad_request("GET\r\n\r\n");
  assert_bad_request("GET / HTTP/2.0\r\n\r\n");
  assert_bad_request("GET / HTTP/1.10\r\n\r\n");
  assert_bad_request("GET / HTTP/1.x\r\n\r\n");
  assert_bad_request("GET / http/1.1\r\n\r\n");
  assert_bad_request("G(T / HTTP/1.1\r\n\r\n");
  assert_bad_request("GET /\x7f HTTP/1.1\r\n\r\n");
  assert_bad_request("GET /\xc3\xa4 HTTP/1.1\r\n\r\n");
  assert_bad_request("GET /\0 HTTP/1.1\r\n\r\n");
  assert_bad_request("\x16\x03\x01\x02");
  assert_bad_response("HTTP/1.1 99 x\r\n\r\n");
  assert_bad_response("HTTP/1.1 099 x\r\n\r\n");
  assert_bad_response("HTTP/1.1 2000\r\n\r\n");
  assert_bad_response("HTTP/1.1 20a x\r\n\r\n");
  assert_bad_response("HTTP/1.1  200 x\r\n\r\n");
  assert_bad_response("HTTP/1.1\r\n\r\n");
  assert_bad_response("HTTP/1.1 200 a\x01\r\n\r\n");
  assert_bad_response("SSH-2.0-OpenSSH");
}

static void refuses_headers(void **state) {
  (void)state;
  assert_bad_request("GET / HTTP/1.1\r\nA : b\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\nA\t: b\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\n: b\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\nA\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\nA B: c\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\nA: b\r\n\tc: d\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\n A: b\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\nA: b\0c\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\nA: b\x1b\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\nA\0: b\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\n\xc3\xa4: b\r\n\r\n");
}

static void refuses_other_line_ends(void **state) {
  (void)state;
  assert_bad_request("GET / HTTP/1.1\nA: b\n\n");
  assert_bad_request("GET / HTTP/1.1\r\nA: b\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\nA: b\r\n\n");
  assert_bad_request("GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\nA: b\r\r\n\r\n");
  assert_bad_request("GET / HTTP/1.1\r\r\n\r\n");
  assert_bad_request("\n");
  assert_bad_response("HTTP/1.1 200 OK\n\n");
  assert_bad_response("HTTP/1.1 200 O\rK\r\n\r\n");
}

static size_t many_headers(char *out, size_t size, int count) {
  size_t len = (size_t)snprintf(out, size, "GET / HTTP/1.1\r\n");
  for (int i = 0; i < count; i++)
    len += (size_t)snprintf(out + len, size - len, "H%d: v\r\n", i);
  return len + (size_t)snprintf(out + len, size - len, "\r\n");
}

static void bounds_the_number_of_headers(void **state) {
  (void)state;
  char text[2048];
  struct http_head head;
  size_t len = many_headers(text, sizeof text, HTTP_HEADERS_MAX);
  assert_int_equal(http_head_parse_request(&head, text, len), 0);
  assert_int_equal(head.count, HTTP_HEADERS_MAX);
  assert_slice(head.headers[63].name, "H63");
  len = many_headers(text, sizeof text, HTTP_HEADERS_MAX + 1);
  assert_int_equal(http_head_parse_request(&head, text, len), DSTREAM_ELIMIT);
}

static void bounds_the_length(void **state) {
  (void)state;
  static char text[HTTP_HEAD_MAX + 16];
  struct http_head head;
  size_t start = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\nA: ");
  memset(text + start, 'x', sizeof text - start);
  memcpy(text + HTTP_HEAD_MAX - 4, "\r\n\r\n", 4);
  assert_int_equal(http_head_parse_request(&head, text, HTTP_HEAD_MAX - 1),
                   DSTREAM_EAGAIN);
  assert_int_equal(http_head_parse_request(&head, text, sizeof text), 0);
  assert_int_equal(head.length, HTTP_HEAD_MAX);
  memcpy(text + HTTP_HEAD_MAX - 4, "x\r\n\r\n", 5);
  assert_int_equal(http_head_parse_request(&head, text, HTTP_HEAD_MAX),
                   DSTREAM_ELIMIT);
  assert_int_equal(http_head_parse_request(&head, text, sizeof text),
                   DSTREAM_ELIMIT);
  memset(text, 'x', sizeof text);
  assert_int_equal(http_head_parse_request(&head, text, HTTP_HEAD_MAX),
                   DSTREAM_ELIMIT);
}

static void finds_tokens_in_lists(void **state) {
  (void)state;
  struct http_head head;
  assert_good(http_head_parse_request,
              "GET / HTTP/1.1\r\n"
              "Connection: ,keep-alive, ,\r\n"
              "Other: close\r\n"
              "connection:\r\n"
              "CONNECTION: x ,\tUPGRADE\r\n\r\n",
              &head);
  assert_true(http_head_has_token(&head, "Connection", "upgrade"));
  assert_true(http_head_has_token(&head, "Connection", "Keep-Alive"));
  assert_true(http_head_has_token(&head, "Connection", "x"));
  assert_false(http_head_has_token(&head, "Connection", "close"));
  assert_false(http_head_has_token(&head, "Connection", "keep"));
  assert_false(http_head_has_token(&head, "Connection", ""));
  assert_false(http_head_has_token(&head, "Missing", "x"));
  assert_int_equal(http_head_count(&head, "Connection"), 3);
}

static int content_length(const char *headers, uint64_t *value) {
  char text[512];
  struct http_head head;
  int len = snprintf(text, sizeof text, "POST / HTTP/1.1\r\n%s\r\n", headers);
  assert_int_equal(http_head_parse_request(&head, text, (size_t)len), 0);
  return http_head_content_length(&head, value);
}

static void reads_the_content_length(void **state) {
  (void)state;
  uint64_t n = 7;
  assert_int_equal(content_length("", &n), 0);
  assert_int_equal(n, 7);
  assert_int_equal(content_length("Content-Length: 0\r\n", &n), 1);
  assert_int_equal(n, 0);
  assert_int_equal(
      content_length("content-length: 18446744073709551615\r\n", &n), 1);
  assert_true(n == UINT64_MAX);
  static const char *const bad[] = {
      "Content-Length:\r\n",
      "Content-Length: -1\r\n",
      "Content-Length: +1\r\n",
      "Content-Length: 0x10\r\n",
      "Content-Length: 1 2\r\n",
      "Content-Length: 5, 5\r\n",
      "Content-Length: 18446744073709551616\r\n",
      "Content-Length: 99999999999999999999999\r\n",
      "Content-Length: 5\r\ncontent-length: 5\r\n",
      "Content-Length: 5\r\nContent-Length: 6\r\n",
      "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(content_length(bad[i], &n), DSTREAM_EHTTP);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_a_request),
      cmocka_unit_test(reads_a_response),
      cmocka_unit_test(leaves_what_follows_the_head),
      cmocka_unit_test(refuses_start_lines),
      cmocka_unit_test(refuses_headers),
      cmocka_unit_test(refuses_other_line_ends),
      cmocka_unit_test(bounds_the_number_of_headers),
      cmocka_unit_test(bounds_the_length),
      cmocka_unit_test(finds_tokens_in_lists),
      cmocka_unit_test(reads_the_content_length),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
