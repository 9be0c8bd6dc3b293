#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/socks.h"

#define COUNT(a)   (sizeof(a) / sizeof *(a))
#define BYTES(s)   (const uint8_t *)(s), sizeof(s) - 1
#define HELLO      "\x05\x01\x00"
#define HELLO_OK   "\x05\x00"
#define REPLY(c)   "\x05" c "\x00\x01\x00\x00\x00\x00\x00\x00"
#define TO_IPV4    "\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50"
#define TO_NAME(s) "\x05\x01\x00\x03" s "\x01\xbb"

struct row {
  const uint8_t *in;
  size_t in_len;
  size_t used;
  enum socks_state state;
  const char *host; /* ASKED */
  unsigned port;
  const uint8_t *out;
  size_t out_len;
};

#define ASKS(in, used, host, port)                                             \
  { BYTES(in), used, SOCKS_ASKED, host, port, BYTES(HELLO_OK) }
#define FAILS(in, used, out)                                                   \
  { BYTES(in), used, SOCKS_FAILED, NULL, 0, BYTES(out) }
#define WAITS(in, used, state, out)                                            \
  { BYTES(in), used, state, NULL, 0, BYTES(out) }

static const struct row rows[] = {
    ASKS(HELLO TO_IPV4, 13, "10.0.0.1", 80),
    ASKS("\x05\x03\x02\x01\x00" TO_IPV4, 15, "10.0.0.1", 80),
    ASKS(HELLO "\x05\x01\x00\x01\xff\xff\xff\xff\xff\xff", 13,
         "255.255.255.255", 65535),
    /* The reserved byte is nobody's business. */
    ASKS(HELLO "\x05\x01\x7f\x01\x0a\x00\x00\x01\x00\x50", 13, "10.0.0.1", 80),
    ASKS(HELLO TO_NAME("\x0b"
                       "example.org"),
         21, "example.org", 443),
    ASKS(HELLO TO_NAME("\x0c"
                       "Ex_a-mpl.3.z"),
         22, "Ex_a-mpl.3.z", 443),
    ASKS(HELLO TO_NAME("\x01"
                       "a"),
         11, "a", 443),
    ASKS(HELLO TO_NAME("\x0c"
                       "example.org."),
         22, "example.org.", 443),
    ASKS(HELLO TO_NAME("\x08"
                       "10.0.0.1"),
         18, "10.0.0.1", 443),
    ASKS(HELLO TO_NAME("\x07"
                       "fd00::1"),
         17, "fd00::1", 443),
    ASKS(HELLO
         "\x05\x01\x00\x04\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
         "\x00\x00\x01\x00\x16",
         25, "fd00::1", 22),
    ASKS(HELLO
         "\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a"
         "\x00\x00\x01\x00\x16",
         25, "::ffff:10.0.0.1", 22),
    /* Data behind the request is the stream's. */
    ASKS(HELLO TO_IPV4 "\x05\x01\x00 early", 13, "10.0.0.1", 80),
    ASKS(HELLO TO_NAME("\x01"
                       "a") "\x16\x03\x01",
         11, "a", 443),

    WAITS("", 0, SOCKS_GREETING, ""),
    WAITS("\x05", 1, SOCKS_GREETING, ""),
    WAITS("\x05\x02\x00", 3, SOCKS_GREETING, ""),
    WAITS(HELLO, 3, SOCKS_REQUEST, HELLO_OK),
    WAITS(HELLO "\x05\x01\x00\x01\x0a\x00\x00\x01\x00", 12, SOCKS_REQUEST,
          HELLO_OK),
    WAITS(HELLO "\x05\x01\x00\x03\xff", 8, SOCKS_REQUEST, HELLO_OK),

    /* Other protocols: nothing is said. */
    FAILS("\x04\x01\x00\x50\x0a\x00\x00\x01\x00", 1, ""),
    FAILS("GET http://a/ HTTP/1.1\r\n", 1, ""),
    FAILS("\x16\x03\x01", 1, ""),
    FAILS("\x00", 1, ""),
    /* Clients that insist on a password, or offer nothing. */
    FAILS("\x05\x01\x02", 3, "\x05\xff"),
    FAILS("\x05\x02\x01\x02\x00", 4, "\x05\xff"),
    FAILS("\x05\x00\x00", 2, "\x05\xff"),

    FAILS(HELLO "\x04\x01\x00", 4, HELLO_OK),
    FAILS(HELLO "\x01\x01\x00", 4, HELLO_OK),
    /* BIND, UDP ASSOCIATE, and what does not exist. */
    FAILS(HELLO "\x05\x02\x00\x01\x0a\x00\x00\x01\x00\x50", 13,
          HELLO_OK REPLY("\x07")),
    FAILS(HELLO "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", 13,
          HELLO_OK REPLY("\x07")),
    FAILS(HELLO "\x05\x00\x00\x03\x00\x00\x00", 10, HELLO_OK REPLY("\x07")),
    FAILS(HELLO "\x05\xff\x00\x03\x01"
                "a\x00\x50",
          11, HELLO_OK REPLY("\x07")),
    /* Unknown types of address. */
    FAILS(HELLO "\x05\x01\x00\x00\x0a\x00\x00\x01\x00\x50", 7,
          HELLO_OK REPLY("\x08")),
    FAILS(HELLO "\x05\x01\x00\x02", 7, HELLO_OK REPLY("\x08")),
    FAILS(HELLO "\x05\x01\x00\xff", 7, HELLO_OK REPLY("\x08")),
    /* Hosts that are none. */
    FAILS(HELLO TO_NAME("\x00"), 10, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x01\x00"), 11, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x03"
                        "a\x00"
                        "b"),
          13, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x02"
                        "a\x00"),
          12, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x03"
                        "a b"),
          13, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x02"
                        "a\n"),
          12, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x03"
                        "a~b"),
          13, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x05"
                        "[::1]"),
          15, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x06"
                        "::1%lo"),
          16, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x04"
                        "a:80"),
          14, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x02\xc3\xbc"), 12, HELLO_OK REPLY("\x01")),
    FAILS(HELLO TO_NAME("\x04"
                        "a..b"),
          14, HELLO_OK REPLY("\x01")),
    /* Port 0. */
    FAILS(HELLO "\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x00", 13,
          HELLO_OK REPLY("\x01")),
};

static void check(const struct socks *socks, const struct row *row,
                  size_t used) {
  assert_int_equal(used, row->used);
  assert_int_equal(socks->state, row->state);
  assert_int_equal(socks->out_len, row->out_len);
  assert_memory_equal(socks->out, row->out, row->out_len);
  assert_int_equal(socks->error.status,
                   row->state == SOCKS_FAILED ? DSTREAM_EFORMAT : DSTREAM_OK);
  assert_int_equal(socks->error.text[0] != '\0', row->state == SOCKS_FAILED);
  assert_string_equal(socks->target.host, row->host == NULL ? "" : row->host);
  assert_int_equal(socks->target.port, row->port);
  assert_false(socks->target.is_unix);
}

/* A copy of the exact size shows reads beyond it. */
static size_t feed(struct socks *socks, const uint8_t *data, size_t len) {
  uint8_t *copy = malloc(len > 0 ? len : 1);
  assert_non_null(copy);
  memcpy(copy, data, len);
  size_t used = socks_feed(socks, copy, len);
  assert_true(used <= len);
  free(copy);
  return used;
}

static void reads_it_whole(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(rows); i++) {
    struct socks socks = {.state = SOCKS_GREETING};
    size_t used = feed(&socks, rows[i].in, rows[i].in_len);
    check(&socks, &rows[i], used);
    if (socks.state == SOCKS_FAILED || socks.state == SOCKS_ASKED)
      assert_int_equal(feed(&socks, BYTES("more")), 0);
  }
}

static void reads_it_byte_by_byte(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(rows); i++) {
    struct socks socks = {.state = SOCKS_GREETING};
    size_t used = 0;
    for (size_t at = 0; at < rows[i].in_len; at++)
      used += feed(&socks, rows[i].in + at, 1);
    check(&socks, &rows[i], used);
  }
}

static void reads_it_at_every_split(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(rows); i++)
    for (size_t at = 0; at <= rows[i].in_len; at++) {
      struct socks socks = {.state = SOCKS_GREETING};
      size_t used = feed(&socks, rows[i].in, at);
      if (used == at)
        used += feed(&socks, rows[i].in + at, rows[i].in_len - at);
      check(&socks, &rows[i], used);
    }
}

static void takes_the_longest_messages(void **state) {
  (void)state;
  uint8_t in[2 + 255 + 5 + 255 + 2] = {5, 255};
  memset(in + 2, 0x80, 254);
  in[256] = 0; /* the last method */
  memcpy(in + 257, "\x05\x01\x00\x03\xff", 5);
  memset(in + 262, 'x', 255); /* too long for a name, yet read to its end */
  in[sizeof in - 1] = 80;
  struct socks socks = {.state = SOCKS_GREETING};
  assert_int_equal(feed(&socks, in, sizeof in), sizeof in);
  assert_int_equal(socks.state, SOCKS_FAILED);
  assert_memory_equal(socks.out, HELLO_OK REPLY("\x01"), 12);

  socks = (struct socks){.state = SOCKS_GREETING};
  in[261] = 253;
  memset(in + 262 + 253, 0, 2);
  in[262 + 253 + 1] = 80;
  assert_int_equal(feed(&socks, in, sizeof in), sizeof in - 2);
  assert_int_equal(socks.state, SOCKS_ASKED);
  assert_int_equal(strlen(socks.target.host), 253);
  assert_int_equal(socks.target.port, 80);
}

static void answers(void **state) {
  (void)state;
  for (int reply = SOCKS_SUCCEEDED; reply <= SOCKS_ADDRESS_UNSUPPORTED;
       reply++) {
    struct socks socks = {.state = SOCKS_GREETING};
    feed(&socks, BYTES(HELLO TO_IPV4));
    if (reply % 2 == 0)
      socks.out_len = 0; /* it was sent */
    size_t before = socks.out_len;
    socks_answer(&socks, (enum socks_reply)reply);
    uint8_t expected[] = {5, (uint8_t)reply, 0, 1, 0, 0, 0, 0, 0, 0};
    assert_int_equal(socks.out_len, before + sizeof expected);
    assert_memory_equal(socks.out, HELLO_OK, before);
    assert_memory_equal(socks.out + before, expected, sizeof expected);
    assert_int_equal(socks.state,
                     reply == SOCKS_SUCCEEDED ? SOCKS_DONE : SOCKS_FAILED);
    assert_int_equal(socks.error.status,
                     reply == SOCKS_SUCCEEDED ? DSTREAM_OK : DSTREAM_ECONNECT);
    assert_int_equal(feed(&socks, BYTES("data")), 0);
  }
}

static void keeps_the_callers_error(void **state) {
  (void)state;
  struct socks socks = {.state = SOCKS_GREETING};
  feed(&socks, BYTES(HELLO TO_IPV4));
  socks.error = (struct dstream_end){.status = DSTREAM_EREJECTED, .text = "x"};
  socks_answer(&socks, SOCKS_REFUSED);
  assert_int_equal(socks.error.status, DSTREAM_EREJECTED);
  assert_string_equal(socks.error.text, "x");
}

static void says_what_is_wrong(void **state) {
  (void)state;
  static const struct {
    const uint8_t *in;
    size_t len;
    const char *says;
  } cases[] = {
      {BYTES("\x04"), "SOCKS 4"},
      {BYTES("GET"), "0x47"},
      {BYTES("\x05\x01\x02"), "authentication"},
      {BYTES(HELLO "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00"), "UDP"},
      {BYTES(HELLO "\x05\x01\x00\x09"), "unknown type"},
      {BYTES(HELLO TO_NAME("\x00")), "letters, digits"},
      {BYTES(HELLO "\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x00"), "port 0"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    struct socks socks = {.state = SOCKS_GREETING};
    feed(&socks, cases[i].in, cases[i].len);
    if (strstr(socks.error.text, cases[i].says) == NULL)
      fail_msg("\"%s\" does not say \"%s\"", socks.error.text, cases[i].says);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_it_whole),
      cmocka_unit_test(reads_it_byte_by_byte),
      cmocka_unit_test(reads_it_at_every_split),
      cmocka_unit_test(takes_the_longest_messages),
      cmocka_unit_test(answers),
      cmocka_unit_test(keeps_the_callers_error),
      cmocka_unit_test(says_what_is_wrong),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
