/* hub/http_server.h over a real loop and socket pairs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/http_server.h"

#define WAIT_MS 5000

struct fixture {
  dstream_loop *loop;
  struct http_server *server;
  int client;
  unsigned requests;
  unsigned canceled;
  bool hold; /* do not reply at once */
  struct http_exchange *held;
  char target[256];
  char peer[80];
  bool keep;
  unsigned asked; /* whether to keep a body */
  char body[256];
  size_t body_len;
  size_t large; /* reply with that many bytes */
  int status;   /* reply with it */
  char got[65536];
  size_t got_len;
};

static bool keep_body(void *user, const struct http_head *head) {
  struct fixture *f = user;
  f->asked++;
  assert_true(head->target.len > 0);
  return f->keep;
}

static void reply_large(struct fixture *f, struct http_exchange *exchange) {
  char *body = malloc(f->large);
  assert_non_null(body);
  memset(body, 'x', f->large);
  struct http_answer answer = {
      .status = 200, .body = body, .body_len = f->large};
  http_exchange_reply(exchange, &answer);
  free(body);
}

static void reply(struct fixture *f, struct http_exchange *exchange) {
  if (f->large > 0) {
    reply_large(f, exchange);
    return;
  }
  struct http_answer answer = {.status = f->status != 0 ? f->status : 200,
                               .headers = "x-test: yes\r\n",
                               .type = "text/plain",
                               .body = "hello",
                               .body_len = f->status != 0 ? 0 : 5};
  http_exchange_reply(exchange, &answer);
}

static void on_cancel(void *user) {
  struct fixture *f = user;
  f->canceled++;
  f->held = NULL;
}

static void on_request(void *user, struct http_exchange *exchange,
                       const struct http_head *head, const char *peer) {
  struct fixture *f = user;
  f->requests++;
  snprintf(f->target, sizeof f->target, "%.*s", (int)head->target.len,
           head->target.p);
  snprintf(f->peer, sizeof f->peer, "%s", peer);
  struct slice body = http_exchange_body(exchange);
  f->body_len = body.len;
  if (body.len <= sizeof f->body)
    memcpy(f->body, body.p, body.len);
  http_exchange_on_cancel(exchange, on_cancel, f);
  if (f->hold)
    f->held = exchange;
  else
    reply(f, exchange);
}

static int connect_to(struct fixture *f) {
  int pair[2];
  assert_int_equal(
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
      0);
  assert_int_equal(http_server_take(f->server, pair[1], "192.0.2.1:7"), 0);
  return pair[0];
}

static struct fixture *make(const struct http_server_options *options) {
  struct fixture *f = calloc(1, sizeof *f);
  assert_int_equal(dstream_loop_new(&f->loop, NULL), 0);
  assert_int_equal(http_server_new(&f->server, f->loop, options, on_request, f),
                   0);
  f->client = connect_to(f);
  return f;
}

static void unmake(struct fixture *f) {
  http_server_free(f->server);
  if (f->client >= 0)
    close(f->client);
  dstream_loop_free(f->loop);
  free(f);
}

/* What has come so far; true when the connection ended. */
static bool take(struct fixture *f) {
  for (;;) {
    ssize_t n = recv(f->client, f->got + f->got_len,
                     sizeof f->got - 1 - f->got_len, MSG_DONTWAIT);
    if (n < 0)
      return false;
    if (n == 0)
      return true;
    f->got_len += (size_t)n;
    f->got[f->got_len] = '\0';
  }
}

static unsigned count(const char *text, const char *part) {
  unsigned n = 0;
  for (; (text = strstr(text, part)) != NULL; text += strlen(part))
    n++;
  return n;
}

static void run_until(struct fixture *f, const char *part, unsigned times) {
  uint64_t deadline = loop_now_ms() + WAIT_MS;
  while (count(f->got, part) < times) {
    if (loop_now_ms() > deadline)
      fail_msg("no \"%s\" in:\n%s", part, f->got);
    dstream_loop_step(f->loop, 10);
    take(f);
  }
}

static void run_to_end(struct fixture *f) {
  uint64_t deadline = loop_now_ms() + WAIT_MS;
  while (!take(f)) {
    assert_true(loop_now_ms() < deadline);
    dstream_loop_step(f->loop, 10);
  }
}

static void run_until_requests(struct fixture *f, unsigned n) {
  uint64_t deadline = loop_now_ms() + WAIT_MS;
  while (f->requests < n) {
    assert_true(loop_now_ms() < deadline);
    dstream_loop_step(f->loop, 10);
  }
}

static void put(struct fixture *f, const char *text) {
  size_t len = strlen(text);
  assert_int_equal(send(f->client, text, len, MSG_NOSIGNAL), len);
}

static const struct http_server_options usual = {.max_body = 100};

static void test_reply(void **state) {
  (void)state;
  struct fixture *f = make(&usual);
  put(f, "GET /a%2Fb?q HTTP/1.1\r\nHost: h\r\n\r\n");
  run_until(f, "hello", 1);
  assert_string_equal(f->target, "/a%2Fb?q");
  assert_string_equal(f->peer, "192.0.2.1:7");
  assert_ptr_equal(strstr(f->got, "HTTP/1.1 200 OK\r\n"), f->got);
  assert_non_null(strstr(f->got, "\r\nContent-Length: 5\r\n"));
  assert_non_null(strstr(f->got, "\r\nx-test: yes\r\n"));
  assert_non_null(strstr(f->got, "\r\n\r\nhello"));
  assert_null(strstr(f->got, "close"));
  assert_int_equal(f->canceled, 0);
  unmake(f);
}

static void test_keep_alive_and_pipelining(void **state) {
  (void)state;
  struct fixture *f = make(&usual);
  static const char request[] = "POST / HTTP/1.1\r\nHost: h\r\n"
                                "Content-Length: 3\r\n\r\nabc";
  put(f, request);
  run_until(f, "hello", 1);
  put(f, request);
  put(f, request);
  put(f, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  run_to_end(f);
  assert_int_equal(count(f->got, "hello"), 4);
  assert_int_equal(count(f->got, "Connection: close"), 1);
  unmake(f);
}

/* The same answers, however the bytes arrive. */
static void test_byte_by_byte(void **state) {
  (void)state;
  static const char text[] =
      "POST /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n0\r\nX: y\r\n\r\n"
      "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxy"
      "GET /3 HTTP/1.1\r\nHost: h\r\n\r\n";
  struct fixture *f = make(&usual);
  for (size_t i = 0; i < sizeof text - 1; i++) {
    assert_int_equal(send(f->client, &text[i], 1, MSG_NOSIGNAL), 1);
    dstream_loop_step(f->loop, 0);
    take(f);
  }
  run_until(f, "hello", 3);
  assert_string_equal(f->target, "/3");
  unmake(f);
}

static void test_http_1_0(void **state) {
  (void)state;
  struct fixture *f = make(&usual);
  put(f, "GET / HTTP/1.0\r\n\r\n");
  run_to_end(f);
  assert_non_null(strstr(f->got, "Connection: close"));
  assert_non_null(strstr(f->got, "hello"));
  unmake(f);
}

static void test_head_method(void **state) {
  (void)state;
  struct fixture *f = make(&usual);
  put(f, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run_until(f, "hello", 1);
  assert_int_equal(count(f->got, "Content-Length: 5"), 2);
  assert_int_equal(count(f->got, "hello"), 1);
  unmake(f);
}

static void test_refusals(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *status;
  } cases[] = {
      {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
      {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "HTTP/1.1 400 "},
      {"GET / HTTP/1.1\nHost: h\n\n", "HTTP/1.1 400 "},
      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n",
       "HTTP/1.1 413 "},
      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
       "HTTP/1.1 400 "},
      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n"
       "Transfer-Encoding: chunked\r\n\r\n",
       "HTTP/1.1 400 "},
      {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
       "HTTP/1.1 400 "},
      {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
       "HTTP/1.1 400 "},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct fixture *f = make(&usual);
    put(f, cases[i].text);
    run_to_end(f);
    if (strstr(f->got, cases[i].status) != f->got)
      fail_msg("%s\nanswered:\n%s", cases[i].text, f->got);
    assert_int_equal(f->requests, 0);
    unmake(f);
  }
}

/* In one piece, and in as many as can be. */
static void test_bodies_are_kept(void **state) {
  (void)state;
  static const char *const texts[] = {
      "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n{\"a\": 1}",
      "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\n{\"a\r\n1\r\n\"\r\n4;x=y\r\n: 1}\r\n0\r\n\r\n"};
  struct http_server_options options = usual;
  options.keep_body = keep_body;
  for (size_t i = 0; i < 4; i++) {
    const char *text = texts[i % 2];
    struct fixture *f = make(&options);
    f->keep = true;
    for (size_t at = 0; i >= 2 && text[at + 1] != '\0'; at++) {
      assert_int_equal(send(f->client, &text[at], 1, MSG_NOSIGNAL), 1);
      dstream_loop_step(f->loop, 0);
    }
    put(f, i >= 2 ? text + strlen(text) - 1 : text);
    run_until(f, "hello", 1);
    assert_int_equal(f->asked, 1);
    assert_int_equal(f->body_len, 8);
    assert_memory_equal(f->body, "{\"a\": 1}", 8);
    /* The next one on the same connection starts afresh. */
    f->keep = false;
    put(f, text);
    put(f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    run_until(f, "hello", 3);
    assert_int_equal(f->asked, 2); /* the last one had none */
    assert_int_equal(f->body_len, 0);
    unmake(f);
  }
}

static void test_kept_bodies_are_bounded(void **state) {
  (void)state;
  static const char *const heads[] = {
      "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n",
      "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      "65\r\n"};
  struct http_server_options options = usual;
  options.keep_body = keep_body;
  char body[102];
  memset(body, 'x', sizeof body - 1);
  body[101] = '\0';
  for (size_t i = 0; i < 2; i++) {
    struct fixture *f = make(&options);
    f->keep = true;
    put(f, heads[i]);
    put(f, body);
    run_to_end(f);
    assert_ptr_equal(strstr(f->got, "HTTP/1.1 413 "), f->got);
    assert_int_equal(f->requests, 0);
    unmake(f);
  }
}

/* Chunks of next to nothing do not go on forever. */
static void test_framing_is_bounded(void **state) {
  (void)state;
  struct http_server_options options = {.max_body = 10000};
  struct fixture *f = make(&options);
  put(f, "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
  char line[302];
  memset(line, 'y', sizeof line);
  memcpy(line, "1;", 2);
  memcpy(line + 150, "\r\nz\r\n", 6);
  line[156] = '\0';
  for (unsigned i = 0; i < 200 && strstr(f->got, "HTTP/") == NULL; i++) {
    send(f->client, line, 155, MSG_NOSIGNAL);
    dstream_loop_step(f->loop, 0);
    take(f);
  }
  run_to_end(f);
  assert_ptr_equal(strstr(f->got, "HTTP/1.1 413 "), f->got);
  unmake(f);
}

static void test_large_answers(void **state) {
  (void)state;
  struct fixture *f = make(&usual);
  f->large = HTTP_ANSWER_MAX - 1024;
  put(f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run_until(f, "\r\n\r\n", 1);
  size_t head = (size_t)(strstr(f->got, "\r\n\r\n") + 4 - f->got);
  size_t total = f->got_len;
  uint64_t deadline = loop_now_ms() + WAIT_MS;
  while (total < head + f->large && loop_now_ms() < deadline) {
    dstream_loop_step(f->loop, 10);
    f->got_len = 0; /* only counted */
    take(f);
    total += f->got_len;
  }
  assert_int_equal(total, head + f->large);
  f->large = HTTP_ANSWER_MAX; /* a bug of ours, and the end */
  put(f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run_to_end(f);
  unmake(f);
}

static void test_no_content(void **state) {
  (void)state;
  struct fixture *f = make(&usual);
  f->status = 204;
  put(f, "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n");
  run_until(f, "HTTP/1.1 204 No Content\r\n", 1);
  run_until(f, "\r\n\r\n", 1);
  f->status = 304;
  put(f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run_until(f, "HTTP/1.1 304 Not Modified\r\n", 1);
  run_until(f, "\r\n\r\n", 2);
  assert_null(strstr(f->got, "Content-Length"));
  unmake(f);
}

static void test_chunked_body_too_large(void **state) {
  (void)state;
  struct fixture *f = make(&usual);
  char body[400];
  memset(body, 'x', sizeof body);
  put(f, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
         "100\r\n");
  assert_int_equal(send(f->client, body, 256, MSG_NOSIGNAL), 256);
  run_to_end(f);
  assert_ptr_equal(strstr(f->got, "HTTP/1.1 413 "), f->got);
  unmake(f);
}

/* 8 KB of token and more are fine; more than the parser takes is not. */
static void test_large_heads(void **state) {
  (void)state;
  static const size_t sizes[] = {9000, 15000, 20000};
  for (size_t i = 0; i < 3; i++) {
    struct fixture *f = make(&usual);
    char *text = malloc(sizes[i] + 100);
    int len = snprintf(text, sizes[i], "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    memset(text + len, 'x', sizes[i]);
    memcpy(text + (size_t)len + sizes[i], "\r\n\r\n", 5);
    put(f, text);
    if (sizes[i] < 16000) {
      run_until(f, "hello", 1);
    } else {
      run_to_end(f);
      assert_ptr_equal(strstr(f->got, "HTTP/1.1 431 "), f->got);
    }
    free(text);
    unmake(f);
  }
}

static void test_expect_continue(void **state) {
  (void)state;
  struct fixture *f = make(&usual);
  put(f, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"
         "Expect: 100-continue\r\n\r\n");
  run_until(f, "HTTP/1.1 100 Continue\r\n\r\n", 1);
  assert_int_equal(f->requests, 0);
  put(f, "abc");
  run_until(f, "hello", 1);
  unmake(f);
}

static void test_late_reply(void **state) {
  (void)state;
  struct http_server_options options = {.head_ms = 20, .idle_ms = 20};
  struct fixture *f = make(&options);
  f->hold = true;
  put(f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run_until_requests(f, 1);
  uint64_t until = loop_now_ms() + 60; /* neither timeout applies */
  while (loop_now_ms() < until)
    dstream_loop_step(f->loop, 10);
  assert_int_equal(f->canceled, 0);
  reply(f, f->held);
  run_until(f, "hello", 1);
  unmake(f);
}

static void test_client_goes(void **state) {
  (void)state;
  struct fixture *f = make(&usual);
  f->hold = true;
  put(f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run_until_requests(f, 1);
  close(f->client);
  f->client = -1;
  uint64_t deadline = loop_now_ms() + WAIT_MS;
  while (f->canceled == 0 && loop_now_ms() < deadline)
    dstream_loop_step(f->loop, 10);
  assert_int_equal(f->canceled, 1);
  assert_int_equal(http_server_count(f->server), 0);
  unmake(f);
}

static void test_freed_while_pending(void **state) {
  (void)state;
  struct fixture *f = make(&usual);
  f->hold = true;
  put(f, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  run_until_requests(f, 1);
  http_server_free(f->server);
  f->server = NULL;
  assert_int_equal(f->canceled, 1);
  unmake(f);
}

/* A request that dawdles, and a connection that idles, are dropped. */
static void test_slow_clients(void **state) {
  (void)state;
  static const char *const texts[] = {
      "", "GET / HT",
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx",
      "GET / HTTP/1.1\r\nHost: h\r\n\r\n"};
  struct http_server_options options = {
      .max_body = 100, .head_ms = 30, .idle_ms = 30};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    struct fixture *f = make(&options);
    put(f, texts[i]);
    run_to_end(f);
    assert_int_equal(http_server_count(f->server), 0);
    unmake(f);
  }
}

static void test_limit(void **state) {
  (void)state;
  struct http_server_options options = {.max_connections = 1};
  struct fixture *f = make(&options);
  int pair[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  assert_int_equal(http_server_take(f->server, pair[1], "p"), DSTREAM_ELIMIT);
  char c;
  assert_int_equal(read(pair[0], &c, 1), 0); /* it was closed */
  close(pair[0]);
  unmake(f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_reply),
      cmocka_unit_test(test_keep_alive_and_pipelining),
      cmocka_unit_test(test_byte_by_byte),
      cmocka_unit_test(test_http_1_0),
      cmocka_unit_test(test_head_method),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_chunked_body_too_large),
      cmocka_unit_test(test_bodies_are_kept),
      cmocka_unit_test(test_kept_bodies_are_bounded),
      cmocka_unit_test(test_framing_is_bounded),
      cmocka_unit_test(test_large_answers),
      cmocka_unit_test(test_no_content),
      cmocka_unit_test(test_large_heads),
      cmocka_unit_test(test_expect_continue),
      cmocka_unit_test(test_late_reply),
      cmocka_unit_test(test_client_goes),
      cmocka_unit_test(test_freed_while_pending),
      cmocka_unit_test(test_slow_clients),
      cmocka_unit_test(test_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
