/* Calls that share connections (net/http_call, net/http_pool), against a server
 * that is played here line by line. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_streams.h"
#include "net/http_call.h"

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define CHUNKED_ANSWER                                                         \
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
#define CALLS_MAX  8
#define TIMEOUT_MS 5000

static int listener;
static uint16_t port;
static struct http_pool pool;

struct call {
  struct http_call *call;
  unsigned done;
  int http_status;
  char body[64];
  struct dstream_end error;
};
static struct call calls[CALLS_MAX];

static void on_done(void *user, const struct http_head *head, const char *body,
                    size_t body_len, const struct dstream_end *error) {
  struct call *call = user;
  call->done++;
  call->call = NULL;
  if (error != NULL) {
    call->error = *error;
    return;
  }
  call->http_status = head->status;
  snprintf(call->body, sizeof call->body, "%.*s", (int)body_len, body);
}

static struct call *start(int i) {
  const struct http_call_options options = {
      .host = "127.0.0.1",
      .port = port,
      .pool = &pool,
      .request = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
      .timeout_ms = TIMEOUT_MS};
  struct call *call = &calls[i];
  memset(call, 0, sizeof *call);
  assert_int_equal(
      http_call_start(&call->call, test_loop, &options, on_done, call), 0);
  return call;
}

static void assert_answered(const struct call *call) {
  WAIT(call->done > 0);
  assert_int_equal(call->done, 1);
  assert_string_equal(call->error.text, "");
  assert_int_equal(call->http_status, 200);
  assert_string_equal(call->body, "ok");
}

static unsigned idle_count(void) {
  unsigned count = 0;
  for (int i = 0; i < HTTP_POOL_MAX; i++)
    count += pool.entries[i].link != NULL;
  return count;
}

/* ---- the server ---- */

static bool try_accept(int *fd) {
  *fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return *fd >= 0;
}

static int take_connection(void) {
  int fd = -1;
  WAIT(try_accept(&fd));
  return fd;
}

static void assert_no_connection(void) {
  int fd = -1;
  assert_false(try_accept(&fd));
}

static bool whole_request(int fd, char *text, size_t *len) {
  ssize_t n = recv(fd, text + *len, 1023 - *len, 0);
  if (n > 0)
    *len += (size_t)n;
  text[*len] = '\0';
  return strstr(text, "\r\n\r\n") != NULL;
}

static void take_request(int fd) {
  char text[1024];
  size_t len = 0;
  WAIT(whole_request(fd, text, &len));
  assert_int_equal(strncmp(text, "POST /x HTTP/1.1\r\n", 18), 0);
}

static void say(int fd, const char *text) {
  assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void wait_closed(int fd) {
  char byte;
  WAIT(recv(fd, &byte, 1, 0) == 0);
  close(fd);
}

/* A first call, answered with that; its connection. */
static int call_once(const char *answer) {
  struct call *call = start(0);
  int fd = take_connection();
  take_request(fd);
  say(fd, answer);
  assert_answered(call);
  return fd;
}

/* ---- tests ---- */

static void test_one_connection(void **state) {
  (void)state;
  int fd = call_once(OK_ANSWER);
  for (int i = 1; i < 4; i++) {
    assert_int_equal(idle_count(), 1);
    struct call *call = start(i);
    assert_int_equal(idle_count(), 0);
    take_request(fd);
    say(fd, i == 2 ? CHUNKED_ANSWER : OK_ANSWER);
    assert_answered(call);
  }
  assert_no_connection();
  http_pool_clear(&pool);
  wait_closed(fd);
}

/* Answers after which the connection is not to be used, or can't be. */
static void test_not_kept(void **state) {
  (void)state;
  static const char *const answers[] = {
      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
      "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
      OK_ANSWER "H",
      CHUNKED_ANSWER "HTTP/1.1",
  };
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    int fd = call_once(answers[i]);
    wait_closed(fd);
    assert_int_equal(idle_count(), 0);
  }
  struct call *call = start(0);
  int fd = take_connection();
  take_request(fd);
  say(fd, "HTTP/1.1 200 OK\r\n\r\nok");
  shutdown(fd, SHUT_WR); /* the end of the body */
  assert_answered(call);
  wait_closed(fd);
  assert_int_equal(idle_count(), 0);
}

static void test_server_closes_an_idle_one(void **state) {
  (void)state;
  int fd = call_once(OK_ANSWER);
  close(fd);
  WAIT(idle_count() == 0);
  fd = call_once(OK_ANSWER);
  close(fd);
}

/* The server's end crosses the request. */
static void test_server_closes_without_an_answer(void **state) {
  (void)state;
  int fd = call_once(OK_ANSWER);
  struct call *call = start(1);
  take_request(fd);
  close(fd);
  fd = take_connection();
  take_request(fd);
  say(fd, OK_ANSWER);
  assert_answered(call);
  /* but once only */
  call = start(2);
  take_request(fd);
  close(fd);
  fd = take_connection();
  take_request(fd);
  close(fd);
  WAIT(call->done == 1);
  assert_int_equal(call->error.status, DSTREAM_EIO);
  assert_no_connection();
}

/* The request was surely read: it is not repeated. */
static void test_half_an_answer(void **state) {
  (void)state;
  int fd = call_once(OK_ANSWER);
  struct call *call = start(1);
  take_request(fd);
  say(fd, "H");
  close(fd);
  WAIT(call->done == 1);
  assert_int_equal(call->error.status, DSTREAM_EIO);
  assert_no_connection();
}

/* A fresh connection that ends is no reason for another. */
static void test_fresh_one_is_not_repeated(void **state) {
  (void)state;
  struct call *call = start(0);
  int fd = take_connection();
  take_request(fd);
  close(fd);
  WAIT(call->done == 1);
  assert_int_equal(call->error.status, DSTREAM_EIO);
  assert_no_connection();
}

/* What a server says unasked is nobody's answer. */
static void test_unasked_words(void **state) {
  (void)state;
  int fd = call_once(OK_ANSWER);
  say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
  wait_closed(fd);
  assert_int_equal(idle_count(), 0);
  fd = call_once(OK_ANSWER);
  close(fd);
}

static void test_count_is_bounded(void **state) {
  (void)state;
  int fds[CALLS_MAX];
  for (int i = 0; i < CALLS_MAX; i++) {
    start(i);
    fds[i] = take_connection();
  }
  for (int i = 0; i < CALLS_MAX; i++) {
    take_request(fds[i]);
    say(fds[i], OK_ANSWER);
    assert_answered(&calls[i]);
  }
  assert_int_equal(idle_count(), HTTP_POOL_MAX);
  for (int i = HTTP_POOL_MAX; i < CALLS_MAX; i++)
    wait_closed(fds[i]);
  http_pool_clear(&pool);
  for (int i = 0; i < HTTP_POOL_MAX; i++)
    wait_closed(fds[i]);
}

/* A call that is given up takes its connection with it. */
static void test_cancel(void **state) {
  (void)state;
  int fd = call_once(OK_ANSWER);
  struct call *call = start(1);
  take_request(fd);
  http_call_cancel(call->call);
  wait_closed(fd);
  assert_int_equal(idle_count(), 0);
  assert_int_equal(call->done, 0);
}

/* ---- group ---- */

static int setup(void **state) {
  (void)state;
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
      listen(listener, 16) != 0)
    return -1;
  getsockname(listener, (struct sockaddr *)&address, &len);
  port = ntohs(address.sin_port);
  test_loop_start();
  return 0;
}

static int teardown(void **state) {
  (void)state;
  http_pool_clear(&pool);
  test_loop_end();
  close(listener);
  return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_one_connection),
      TEST(test_not_kept),
      TEST(test_server_closes_an_idle_one),
      TEST(test_server_closes_without_an_answer),
      TEST(test_half_an_answer),
      TEST(test_fresh_one_is_not_repeated),
      TEST(test_unasked_words),
      TEST(test_count_is_bounded),
      TEST(test_cancel),
  };
  test_choose();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
