/* The load generator of scripts/bench.sh notices bytes that are wrong, missing
 * or in another order, however they come in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/flow.c" /* it belongs to no library */

/* A batch, the last block and the sum. */
#define ALL (4 * FLOW_BLOCK + FLOW_BLOCK + 8)

static uint8_t wire[ALL];

/* What a sender of one batch and a last block sends. */
static void record(void) {
  int pair[2];
  size_t len = 0;
  struct flow out;
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  flow_begin(&out, pair[0], true, false, UINT64_MAX);
  while (out.sending) {
    assert_true(flow_send(&out));
    if (out.sent == (uint64_t)FLOW_BATCH * FLOW_BLOCK)
      out.until_ns = 0;
    for (ssize_t n; len < out.sent; len += (size_t)n) {
      n = recv(pair[1], wire + len, sizeof wire - len, 0);
      assert_true(n > 0);
    }
  }
  assert_int_equal(len, ALL);
  close(pair[0]);
  close(pair[1]);
}

/* Whether a receiver that gets it in such pieces is content. */
static bool content(size_t piece) {
  struct flow in;
  flow_begin(&in, -1, false, true, 0);
  for (size_t at = 0; at < ALL && in.receiving;) {
    size_t len = piece < ALL - at ? piece : ALL - at;
    at += flow_feed(&in, wire + at, len);
  }
  return !in.receiving && in.good;
}

static void test_pieces(void **state) {
  static const size_t pieces[] = {1, 3, 7, 8, 9, 4096, 65535, 65537, ALL};
  (void)state;
  record();
  for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
    assert_true(content(pieces[i]));
}

static void test_wrong_byte(void **state) {
  (void)state;
  record();
  for (size_t at = 0; at < ALL; at += 10007) {
    wire[at] ^= 1;
    assert_false(content(4096));
    wire[at] ^= 1;
  }
  assert_true(content(4096));
}

static void test_order(void **state) {
  static uint8_t block[FLOW_BLOCK];
  (void)state;
  record();
  memcpy(block, wire, FLOW_BLOCK);
  memmove(wire, wire + FLOW_BLOCK, FLOW_BLOCK);
  memcpy(wire + FLOW_BLOCK, block, FLOW_BLOCK);
  assert_false(content(65537));
}

static void test_missing(void **state) {
  (void)state;
  record();
  memmove(wire + 5000, wire + 5008, ALL - 5008); /* one word */
  assert_false(content(4096));
}

static void test_end(void **state) {
  struct flow in;
  uint8_t behind[ALL + 3];
  (void)state;
  record();
  memcpy(behind, wire, ALL);
  memset(behind + ALL, 'x', 3);
  flow_begin(&in, -1, false, true, 0);
  assert_int_equal(flow_feed(&in, behind, sizeof behind), ALL);
  assert_true(in.good);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_pieces), cmocka_unit_test(test_wrong_byte),
      cmocka_unit_test(test_order), cmocka_unit_test(test_missing),
      cmocka_unit_test(test_end)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
