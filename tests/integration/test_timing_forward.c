/* How soon a connection through dstream-agent, hub and `dstream forward`
 * answers, against two full TLS 1.3 handshakes with the same hub, in turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "integration/support_tool.h"

#define TURNS 60
#define LINE  256

static struct hub_fixture hub;
static struct tool_server echo;
static struct tool_device device; /* gives the connection string only */
static struct tool agent;

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
  const double *left = a;
  const double *right = b;
  return *left < *right ? -1 : *left > *right;
}

static double median(double *values, size_t count) {
  qsort(values, count, sizeof *values, compare);
  return values[count / 2];
}

/* ---- the yardstick ---- */

static void handshake(SSL_CTX *ctx) {
  char address[32];
  snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)hub.https_port);
  int fd = client_connect(address);
  SSL *ssl = SSL_new(ctx);
  SSL_set_fd(ssl, fd);
  assert_int_equal(SSL_set1_host(ssl, "localhost"), 1);
  assert_int_equal(SSL_connect(ssl), 1);
  assert_int_equal(SSL_version(ssl), TLS1_3_VERSION);
  assert_false(SSL_session_reused(ssl));
  SSL_free(ssl);
  close(fd);
}

static SSL_CTX *yardstick(void) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  assert_non_null(ctx);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  assert_int_equal(SSL_CTX_load_verify_file(ctx, hub.ca_file), 1);
  return ctx;
}

/* ---- ours ---- */

static double first_byte(const char *listening) {
  char byte = 'x';
  double start = now_us();
  int fd = client_connect(listening);
  assert_int_equal(write(fd, &byte, 1), 1);
  assert_int_equal(read(fd, &byte, 1), 1);
  double took = now_us() - start;
  close(fd);
  return took;
}

static void test_first_byte(void **state) {
  (void)state;
  const char *const arguments[] = {"dstream", "forward", "pump-7",
                                   "echo",    "0",       NULL};
  static struct tool forward;
  char listening[LINE];
  double plain[TURNS];
  double ours[TURNS];
  SSL_CTX *ctx = yardstick();
  tool_start(&forward, arguments);
  tool_line(&forward, listening, sizeof listening);
  double cold = first_byte(listening);
  for (int i = 0; i < TURNS; i++) {
    double start = now_us();
    handshake(ctx);
    handshake(ctx);
    plain[i] = now_us() - start;
    ours[i] = first_byte(listening);
  }
  assert_int_equal(tool_end(&forward, SIGTERM), 0);
  SSL_CTX_free(ctx);
  double ratio = median(ours, TURNS) / median(plain, TURNS);
  print_message("first byte through forward: %.0f us (the very first one %.0f "
                "us), two full TLS 1.3 handshakes: %.0f us, ratio %.2f\n",
                median(ours, TURNS), cold, median(plain, TURNS), ratio);
  assert_true(ratio <= 2.0);
}

/* ---- the group ---- */

static int group_setup(void **state) {
  (void)state;
  char target[64];
  char line[LINE];
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  tool_environment(&hub);
  tool_server_start(&echo, SERVE_ECHO);
  tool_device_add(&device, &hub, "pump-7");
  snprintf(target, sizeof target, "echo=%s", echo.address);
  const char *const arguments[] = {"dstream-agent",
                                   "--connection-string",
                                   device.connection_string,
                                   "--target",
                                   target,
                                   NULL};
  tool_start(&agent, arguments);
  tool_line(&agent, line, sizeof line);
  assert_string_equal(line, "ready pump-7");
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  int status = agent.pid == 0 ? 0 : tool_end(&agent, SIGTERM);
  tool_server_stop(&echo);
  return hub_fixture_stop(&hub) == 0 && status == 0 ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_first_byte),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
