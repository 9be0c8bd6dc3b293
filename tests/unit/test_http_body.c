/* core/http_body: where a response's body ends, fed at every split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/http_body.h"

/* Feeds text in pieces of `step` bytes; returns the body's length or the
 * error. */
static long feed(const char *head_text, const char *text, size_t step,
                 char *out, bool *done) {
  struct http_head head;
  struct http_body body;
  assert_int_equal(
      http_head_parse_response(&head, head_text, strlen(head_text)), 0);
  int status = http_body_init(&body, &head);
  if (status != DSTREAM_OK)
    return status;
  size_t len = strlen(text);
  size_t written = 0;
  for (size_t i = 0; i < len && !body.done; i += step) {
    size_t n = len - i < step ? len - i : step;
    size_t used = 0;
    long got = http_body_feed(&body, text + i, n, &used, out + written);
    if (got < 0)
      return got;
    assert_true(body.done || used == n);
    written += (size_t)got;
  }
  *done = body.done;
  out[written] = '\0';
  return (long)written;
}

static void expect(const char *head, const char *text, const char *body,
                   bool complete) {
  for (size_t step = 1; step <= strlen(text) + 1; step++) {
    char out[256];
    bool done = false;
    long n = feed(head, text, step, out, &done);
    assert_int_equal(n, strlen(body));
    assert_string_equal(out, body);
    assert_int_equal(done, complete);
  }
}

static void expect_error(const char *head, const char *text) {
  for (size_t step = 1; step <= strlen(text) + 1; step++) {
    char out[256];
    bool done = false;
    assert_int_equal(feed(head, text, step, out, &done), DSTREAM_EHTTP);
  }
}

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static void test_length(void **state) {
  (void)state;
  expect("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "hello", "hello",
         true);
  expect("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "hello more", "hello",
         true);
  expect("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "hell", "hell", false);
  expect("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "x", "", true);
  expect("HTTP/1.1 204 No Content\r\n\r\n", "x", "", true);
  expect("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "hello", "",
         true);
  expect("HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n",
         "5\r\n", "", true);
}

/* What comes after the body is the next response's. */
static void test_nothing_after_the_end(void **state) {
  (void)state;
  struct http_head head;
  struct http_body body;
  char out[8];
  size_t used = 0;
  const char *text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
  assert_int_equal(http_head_parse_response(&head, text, strlen(text)), 0);
  assert_int_equal(http_body_init(&body, &head), 0);
  assert_int_equal(http_body_feed(&body, "okHTTP", 6, &used, out), 2);
  assert_int_equal(used, 2);
  assert_int_equal(http_body_feed(&body, "HTTP", 4, &used, out), 0);
  assert_int_equal(used, 0);
}

static void test_to_end(void **state) {
  (void)state;
  expect("HTTP/1.1 200 OK\r\n\r\n", "until the end", "until the end", false);
  struct http_head head;
  struct http_body body;
  const char *text = "HTTP/1.1 200 OK\r\n\r\n";
  assert_int_equal(http_head_parse_response(&head, text, strlen(text)), 0);
  assert_int_equal(http_body_init(&body, &head), 0);
  assert_true(http_body_end(&body));
}

static void test_chunked(void **state) {
  (void)state;
  expect(CHUNKED, "5\r\nhello\r\n0\r\n\r\n", "hello", true);
  expect(CHUNKED, "1\r\na\r\n0A;name=\"v\"\r\n0123456789\r\n0\r\n\r\nnext",
         "a0123456789", true);
  expect(CHUNKED, "5 \r\nhello\r\n0\t;x\r\n\r\n", "hello", true);
  expect(CHUNKED, "0\r\nTrailer: x\r\nMore: y\r\n\r\n", "", true);
  expect(CHUNKED, "5\r\nhel", "hel", false);
}

static void test_malformed(void **state) {
  (void)state;
  expect_error(CHUNKED, "x\r\n");
  expect_error(CHUNKED, "\r\n");
  expect_error(CHUNKED, "5x\r\nhello\r\n");
  expect_error(CHUNKED, "-5\r\nhello\r\n");
  expect_error(CHUNKED, "5\r\nhelloX\r\n");
  expect_error(CHUNKED, "fffffffffffffffff\r\n");
  expect_error("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "x");
  expect_error("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
               "Content-Length: 3\r\n\r\n",
               "x");
  expect_error("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
               "Content-Length: 4\r\n\r\n",
               "x");
}

static void test_skipped_lines_are_bounded(void **state) {
  (void)state;
  struct http_head head;
  struct http_body body;
  char out[1];
  size_t used = 0;
  assert_int_equal(http_head_parse_response(&head, CHUNKED, strlen(CHUNKED)),
                   0);
  assert_int_equal(http_body_init(&body, &head), 0);
  assert_int_equal(http_body_feed(&body, "1;", 2, &used, out), 0);
  long n = 0;
  for (int i = 0; i < 100000 && n == 0; i++)
    n = http_body_feed(&body, "e", 1, &used, out);
  assert_int_equal(n, DSTREAM_EHTTP);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_length),
      cmocka_unit_test(test_nothing_after_the_end),
      cmocka_unit_test(test_to_end),
      cmocka_unit_test(test_chunked),
      cmocka_unit_test(test_malformed),
      cmocka_unit_test(test_skipped_lines_are_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
