#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/ws_frame.h"

#define CLIENT false
#define SERVER true

static uint32_t next_random(uint32_t *seed) {
  *seed ^= *seed << 13;
  *seed ^= *seed >> 17;
  *seed ^= *seed << 5;
  return *seed;
}

/* ---- masks ---- */

static void masks_at_every_offset_and_alignment(void **state) {
  (void)state;
  static const uint8_t mask[4] = {0x12, 0x34, 0xab, 0xcd};
  uint8_t in[160], out[160], place[160];
  for (size_t i = 0; i < sizeof in; i++)
    in[i] = (uint8_t)(i * 7 + 3);
  for (size_t shift = 0; shift < 9; shift++)
    for (uint64_t offset = 0; offset < 9; offset++)
      for (size_t len = 0; len + shift <= 140; len++) {
        memset(out, 0xee, sizeof out);
        memcpy(place, in, sizeof in);
        ws_mask_copy(out + shift, in + 8 - shift, len, mask, offset);
        ws_mask(place + shift, len, mask, offset);
        for (size_t i = 0; i < len; i++) {
          assert_int_equal(out[shift + i],
                           in[8 - shift + i] ^ mask[(offset + i) & 3]);
          assert_int_equal(place[shift + i],
                           in[shift + i] ^ mask[(offset + i) & 3]);
        }
        assert_int_equal(out[shift + len], 0xee);
        assert_int_equal(place[shift + len], in[shift + len]);
      }
}

static void masks_in_pieces_as_at_once(void **state) {
  (void)state;
  static const uint8_t mask[4] = {1, 2, 3, 4};
  uint8_t once[1000], pieces[1000];
  uint32_t seed = 42;
  for (size_t i = 0; i < sizeof once; i++)
    once[i] = pieces[i] = (uint8_t)next_random(&seed);
  ws_mask(once, sizeof once, mask, 0);
  for (size_t at = 0; at < sizeof pieces;) {
    size_t n = next_random(&seed) % 50;
    if (n > sizeof pieces - at)
      n = sizeof pieces - at;
    ws_mask(pieces + at, n, mask, at);
    at += n;
  }
  assert_memory_equal(once, pieces, sizeof once);
}

/* ---- headers ---- */

static int read_header(struct ws_parser *parser, const void *bytes, size_t len,
                       size_t step) {
  const uint8_t *in = bytes;
  int rc = DSTREAM_EAGAIN;
  for (size_t at = 0; at < len && rc == DSTREAM_EAGAIN;) {
    size_t used;
    size_t n = step < len - at ? step : len - at;
    rc = ws_parser_header(parser, in + at, n, &used);
    assert_true(used <= n);
    assert_true(rc != DSTREAM_EAGAIN || used == n);
    at += used;
  }
  return rc;
}

static void writes_and_reads_every_length(void **state) {
  (void)state;
  static const struct {
    uint64_t length;
    size_t size;
  } cases[] = {
      {0, 2},     {1, 2},      {125, 2},    {126, 4},         {127, 4},
      {65535, 4}, {65536, 10}, {65537, 10}, {1ull << 32, 10}, {INT64_MAX, 10},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int masked = 0; masked < 2; masked++)
      for (size_t step = 1; step <= WS_HEADER_MAX; step++) {
        struct ws_header header = {.fin = true,
                                   .masked = masked,
                                   .opcode = WS_BINARY,
                                   .length = cases[i].length,
                                   .mask = {9, 8, 7, 6}};
        uint8_t out[WS_HEADER_MAX];
        size_t size = ws_header_encode(&header, out);
        assert_int_equal(size, cases[i].size + (masked ? 4 : 0));
        assert_int_equal(size, ws_header_size(cases[i].length, masked));
        struct ws_parser parser;
        ws_parser_init(&parser, masked);
        assert_int_equal(read_header(&parser, out, size, step), 0);
        assert_true(parser.in_frame);
        assert_true(parser.frame.length == cases[i].length);
        assert_true(parser.left == cases[i].length);
        assert_true(parser.frame.fin);
        assert_int_equal(parser.frame.opcode, WS_BINARY);
        assert_int_equal(parser.frame.masked, masked);
        if (masked)
          assert_memory_equal(parser.frame.mask, header.mask, 4);
      }
}

static void assert_refused(bool server, const void *bytes, size_t len) {
  for (size_t step = 1; step <= len; step++) {
    struct ws_parser parser;
    ws_parser_init(&parser, server);
    assert_int_equal(read_header(&parser, bytes, len, step), DSTREAM_EFRAME);
    assert_non_null(parser.error);
    size_t used;
    assert_int_equal(ws_parser_header(&parser, bytes, len, &used),
                     DSTREAM_EFRAME);
  }
}

#define refused(server, bytes) assert_refused(server, bytes, sizeof(bytes) - 1)

static void refuses_invalid_headers(void **state) {
  (void)state;
  refused(CLIENT, "\xc2\x00"); /* reserved bits */
  refused(CLIENT, "\xa2\x00");
  refused(CLIENT, "\x92\x00");
  for (int opcode = 0; opcode < 16; opcode++) {
    uint8_t frame[] = {(uint8_t)(0x80 | opcode), 0};
    if ((opcode > 2 && opcode < 8) || opcode > 10)
      assert_refused(CLIENT, frame, sizeof frame);
  }
  refused(CLIENT, "\x82\x80"); /* masks */
  refused(SERVER, "\x82\x00");
  refused(CLIENT, "\x08\x00"); /* fragmented control frames */
  refused(CLIENT, "\x09\x00");
  refused(CLIENT, "\x0a\x00");
  refused(CLIENT, "\x89\x7e\x00\x7e"); /* long control frames */
  refused(CLIENT, "\x88\x7e");
  refused(CLIENT, "\x8a\x7f");
  refused(CLIENT, "\x80\x00"); /* a continuation of nothing */
  refused(CLIENT, "\x00\x00");
}

static void refuses_lengths_not_in_shortest_form(void **state) {
  (void)state;
  refused(CLIENT, "\x82\x7e\x00\x00");
  refused(CLIENT, "\x82\x7e\x00\x7d");
  refused(CLIENT, "\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x05");
  refused(CLIENT, "\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff");
  refused(CLIENT, "\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00");
  refused(CLIENT, "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff");
}

/* ---- sequences of frames ---- */

/* One frame with a payload of n bytes, all there. */
static int read_frame(struct ws_parser *parser, const char *bytes, size_t len) {
  uint8_t copy[64];
  assert_true(len <= sizeof copy);
  memcpy(copy, bytes, len);
  size_t used;
  int rc = ws_parser_header(parser, copy, len, &used);
  if (rc != 0)
    return rc;
  used += ws_parser_payload(parser, copy + used, len - used);
  assert_int_equal(used, len);
  ws_parser_end(parser);
  return 0;
}

#define frame(parser, bytes) read_frame(parser, bytes, sizeof(bytes) - 1)

static void follows_fragments(void **state) {
  (void)state;
  struct ws_parser parser;
  ws_parser_init(&parser, CLIENT);
  assert_int_equal(frame(&parser, "\x01\x03Hel"), 0);
  assert_int_equal(parser.message, WS_TEXT);
  assert_int_equal(frame(&parser, "\x89\x01p"), 0);
  assert_int_equal(parser.message, WS_TEXT);
  assert_int_equal(frame(&parser, "\x00\x00"), 0);
  assert_int_equal(frame(&parser, "\x8a\x00"), 0);
  assert_int_equal(frame(&parser, "\x80\x02lo"), 0);
  assert_int_equal(parser.message, WS_CONTINUATION);
  assert_int_equal(frame(&parser, "\x82\x01x"), 0);
  assert_int_equal(frame(&parser, "\x80\x01x"), DSTREAM_EFRAME);

  ws_parser_init(&parser, CLIENT);
  assert_int_equal(frame(&parser, "\x02\x01x"), 0);
  assert_int_equal(frame(&parser, "\x82\x01x"), DSTREAM_EFRAME);
  ws_parser_init(&parser, CLIENT);
  assert_int_equal(frame(&parser, "\x02\x01x"), 0);
  assert_int_equal(frame(&parser, "\x01\x01x"), DSTREAM_EFRAME);
}

static void unmasks_a_payload_in_pieces(void **state) {
  (void)state;
  /* RFC 6455 5.7: a single-frame masked text message */
  static const uint8_t hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d,
                                  0x7f, 0x9f, 0x4d, 0x51, 0x58};
  for (size_t step = 1; step <= 5; step++) {
    uint8_t copy[sizeof hello];
    memcpy(copy, hello, sizeof hello);
    struct ws_parser parser;
    size_t used;
    ws_parser_init(&parser, SERVER);
    assert_int_equal(ws_parser_header(&parser, copy, sizeof copy, &used), 0);
    assert_int_equal(used, 6);
    while (parser.left > 0)
      used += ws_parser_payload(&parser, copy + used, step);
    assert_int_equal(used, sizeof copy);
    ws_parser_end(&parser);
    assert_memory_equal(copy + 6, "Hello", 5);
  }
}

static void skips_a_payload(void **state) {
  (void)state;
  struct ws_parser parser;
  size_t used;
  ws_parser_init(&parser, CLIENT);
  assert_int_equal(
      ws_parser_header(&parser, (const uint8_t *)"\x82\x05", 2, &used), 0);
  assert_int_equal(ws_parser_skip(&parser, 3), 3);
  assert_int_equal(ws_parser_skip(&parser, 100), 2);
  ws_parser_end(&parser);
}

/* RFC 6455 5.7 */
static void reads_the_examples_of_the_rfc(void **state) {
  (void)state;
  struct ws_parser parser;
  ws_parser_init(&parser, CLIENT);
  assert_int_equal(frame(&parser, "\x81\x05\x48\x65\x6c\x6c\x6f"), 0);
  assert_int_equal(frame(&parser, "\x01\x03\x48\x65\x6c"), 0);
  assert_int_equal(frame(&parser, "\x80\x02\x6c\x6f"), 0);
  assert_int_equal(frame(&parser, "\x89\x05\x48\x65\x6c\x6c\x6f"), 0);
  size_t used;
  const uint8_t medium[] = {0x82, 0x7e, 0x01, 0x00};
  assert_int_equal(ws_parser_header(&parser, medium, 4, &used), 0);
  assert_int_equal(parser.frame.length, 256);
  ws_parser_skip(&parser, 256);
  ws_parser_end(&parser);
  const uint8_t large[] = {0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0};
  assert_int_equal(ws_parser_header(&parser, large, 10, &used), 0);
  assert_int_equal(parser.frame.length, 65536);
  ws_parser_init(&parser, SERVER);
  assert_int_equal(
      frame(&parser, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), 0);
}

/* ---- Close ---- */

static void knows_valid_close_codes(void **state) {
  (void)state;
  static const int valid[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010,
                              1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999};
  static const int invalid[] = {-1,   0,    1,    999,   1004,
                                1005, 1006, 1015, 1016,  1100,
                                2000, 2999, 5000, 65535, 65536 + 1000};
  for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
    assert_true(ws_close_code_valid(valid[i]));
  for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++)
    assert_false(ws_close_code_valid(invalid[i]));
}

static int parse_close(const char *payload, size_t len, int *code,
                       struct slice *reason) {
  return ws_close_parse((const uint8_t *)payload, len, code, reason);
}

static void reads_close_payloads(void **state) {
  (void)state;
  int code;
  struct slice reason;
  assert_int_equal(parse_close("", 0, &code, &reason), 0);
  assert_int_equal(code, WS_CLOSE_NO_CODE);
  assert_int_equal(reason.len, 0);
  assert_int_equal(parse_close("\x03", 1, &code, &reason), DSTREAM_EFRAME);
  assert_int_equal(parse_close("\x03\xe8", 2, &code, &reason), 0);
  assert_int_equal(code, 1000);
  assert_int_equal(reason.len, 0);
  assert_int_equal(parse_close("\x03\xf3gone", 6, &code, &reason), 0);
  assert_int_equal(code, 1011);
  assert_true(slice_eq(reason, "gone"));
  assert_int_equal(parse_close("\x03\xed", 2, &code, &reason), DSTREAM_EFRAME);
  assert_int_equal(parse_close("\x03\xe7", 2, &code, &reason), DSTREAM_EFRAME);
  assert_int_equal(parse_close("\xff\xff", 2, &code, &reason), DSTREAM_EFRAME);
}

static void writes_close_payloads(void **state) {
  (void)state;
  uint8_t out[WS_CONTROL_MAX];
  assert_int_equal(ws_close_encode(1001, NULL, out), 2);
  assert_memory_equal(out, "\x03\xe9", 2);
  assert_int_equal(ws_close_encode(1000, "bye", out), 5);
  assert_memory_equal(out,
                      "\x03\xe8"
                      "bye",
                      5);
  assert_int_equal(ws_close_encode(1005, "bye", out), 0);
  assert_int_equal(ws_close_encode(1006, NULL, out), 0);
  char reason[200];
  memset(reason, 'x', sizeof reason);
  reason[199] = '\0';
  assert_int_equal(ws_close_encode(1000, reason, out), 125);
  /* a three-byte character across the limit is left out as a whole */
  for (size_t at = WS_REASON_MAX - 2; at < WS_REASON_MAX; at++) {
    memset(reason, 'x', sizeof reason - 1);
    memcpy(reason + at, "\xe2\x82\xac", 3);
    assert_int_equal(ws_close_encode(1000, reason, out), 2 + at);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(masks_at_every_offset_and_alignment),
      cmocka_unit_test(masks_in_pieces_as_at_once),
      cmocka_unit_test(writes_and_reads_every_length),
      cmocka_unit_test(refuses_invalid_headers),
      cmocka_unit_test(refuses_lengths_not_in_shortest_form),
      cmocka_unit_test(follows_fragments),
      cmocka_unit_test(unmasks_a_payload_in_pieces),
      cmocka_unit_test(skips_a_payload),
      cmocka_unit_test(reads_the_examples_of_the_rfc),
      cmocka_unit_test(knows_valid_close_codes),
      cmocka_unit_test(reads_close_payloads),
      cmocka_unit_test(writes_close_payloads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
