/* hub/rest_slow.h over a real loop and a socket pair. */
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

#include "hub/rest_slow.h"

#define WAIT_MS  10000
#define DELAY_MS 200
#define BURST    3

struct fixture {
  dstream_loop *loop;
  struct http_server *server;
  struct rest_slow slow;
  int client;
  unsigned requests;
  char got[16384];
  size_t got_len;
};

static void on_request(void *user, struct http_exchange *exchange,
                       const struct http_head *head, const char *peer) {
  struct fixture *f = user;
  struct rest_refusal refusal = {slice_eq(head->target, "/registry"),
                                 HUB_ERROR_UNAUTHORIZED, "No.", "x-y: z\r\n",
                                 "0123"};
  (void)peer;
  f->requests++;
  rest_slow_refuse(&f->slow, exchange, &refusal);
}

static struct fixture *make(void) {
  static const struct rest_slow_options options = {
      .per_second = 1, .burst = BURST, .delay_ms = DELAY_MS};
  static const struct http_server_options http = {0};
  struct fixture *f = calloc(1, sizeof *f);
  int pair[2];
  assert_int_equal(dstream_loop_new(&f->loop, NULL), 0);
  assert_int_equal(http_server_new(&f->server, f->loop, &http, on_request, f),
                   0);
  rest_slow_init(&f->slow, f->loop, &options);
  assert_int_equal(
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
      0);
  assert_int_equal(http_server_take(f->server, pair[1], "192.0.2.1:7"), 0);
  f->client = pair[0];
  return f;
}

static void unmake(struct fixture *f) {
  http_server_free(f->server);
  close(f->client);
  dstream_loop_free(f->loop);
  free(f);
}

static void ask(const struct fixture *f, const char *target) {
  char text[100];
  snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target);
  assert_int_equal(send(f->client, text, strlen(text), MSG_NOSIGNAL),
                   strlen(text));
}

static void step(struct fixture *f) {
  dstream_loop_step(f->loop, 10);
  ssize_t n = recv(f->client, f->got + f->got_len,
                   sizeof f->got - 1 - f->got_len, MSG_DONTWAIT);
  f->got_len += n > 0 ? (size_t)n : 0;
}

static unsigned answers(const struct fixture *f) {
  unsigned n = 0;
  for (const char *p = f->got; (p = strstr(p, "HTTP/1.1 401")) != NULL; p++)
    n++;
  return n;
}

/* On one connection: each is asked when the one before it was answered. */
static void ask_many(struct fixture *f, unsigned count) {
  uint64_t deadline = loop_now_ms() + WAIT_MS;
  for (unsigned i = 0; i < count; i++)
    ask(f, "/");
  while (answers(f) < count && loop_now_ms() < deadline)
    step(f);
  assert_int_equal(answers(f), count);
}

static void test_forms(void **state) {
  struct fixture *f = make();
  (void)state;
  ask(f, "/registry");
  while (answers(f) < 1)
    step(f);
  assert_non_null(strstr(f->got, "ErrorCode:IotHubUnauthorizedAccess;No."));
  assert_non_null(strstr(f->got, "x-ms-request-id: 0123\r\nx-y: z\r\n"));
  ask(f, "/");
  while (answers(f) < 2)
    step(f);
  assert_non_null(strstr(f->got, "\\\"errorCode\\\":401002"));
  unmake(f);
}

/* If it were never slow, so many would need eight seconds of waiting for the
 * bucket, or none at all. */
static void test_slow(void **state) {
  struct fixture *f = make();
  (void)state;
  uint64_t begin = loop_now_ms();
  ask_many(f, BURST + 8);
  assert_true(loop_now_ms() - begin >= DELAY_MS);
  unmake(f);
}

/* What waits is given back, whoever goes first. */
static void test_gone(void **state) {
  (void)state;
  for (int client_first = 0; client_first < 2; client_first++) {
    struct fixture *f = make();
    f->slow.delay_ms = 60000;
    for (unsigned i = 0; i < BURST + 2; i++)
      ask(f, "/");
    while (f->requests < BURST + 1)
      step(f);
    if (client_first) {
      shutdown(f->client, SHUT_RDWR);
      while (http_server_count(f->server) > 0)
        step(f);
    }
    unmake(f);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms),
                                     cmocka_unit_test(test_slow),
                                     cmocka_unit_test(test_gone)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
