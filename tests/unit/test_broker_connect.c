#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hub/broker_connect.h"

#define SECRET "0123456789abcdef0123456789abcdef"

/* A packet under construction. */
struct packet {
  uint8_t bytes[BROKER_CONNECT_MAX + 64];
  size_t len;
};

static void put(struct packet *packet, const void *bytes, size_t len) {
  assert_true(packet->len + len <= sizeof packet->bytes);
  memcpy(packet->bytes + packet->len, bytes, len);
  packet->len += len;
}

static void put_byte(struct packet *packet, unsigned byte) {
  uint8_t one = (uint8_t)byte;
  put(packet, &one, 1);
}

static void put_text(struct packet *packet, const char *text) {
  put_byte(packet, (unsigned)strlen(text) >> 8);
  put_byte(packet, (unsigned)strlen(text) & 0xff);
  put(packet, text, strlen(text));
}

/* The body, then the head before it. */
static void finish(struct packet *packet, const struct packet *body) {
  size_t left = body->len;
  packet->len = 0;
  put_byte(packet, 0x10);
  do {
    put_byte(packet, (left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    left >>= 7;
  } while (left > 0);
  put(packet, body->bytes, body->len);
}

struct shape {
  const char *protocol;
  unsigned level;
  bool will;
  const char *id;
  const char *user; /* NULL: none */
  const char *password;
};

static void build(struct packet *packet, const struct shape *shape) {
  static struct packet body;
  static const uint8_t properties[] = {5, 0x11, 0, 0, 0, 60};
  static const uint8_t will_properties[] = {2, 0x01, 1};
  body.len = 0;
  put_text(&body, shape->protocol);
  put_byte(&body, shape->level);
  put_byte(&body, (shape->will ? 0x0eu : 0x02u) |
                      (shape->user != NULL ? 0x80u : 0) |
                      (shape->password != NULL ? 0x40u : 0));
  put_byte(&body, 0);
  put_byte(&body, 60);
  if (shape->level == 5)
    put(&body, properties, sizeof properties);
  put_text(&body, shape->id);
  if (shape->will && shape->level == 5)
    put(&body, will_properties, sizeof will_properties);
  if (shape->will) {
    put_text(&body, "topic");
    put_text(&body, "gone");
  }
  if (shape->user != NULL)
    put_text(&body, shape->user);
  if (shape->password != NULL)
    put_text(&body, shape->password);
  finish(packet, &body);
}

static const struct shape shapes[] = {
    {"MQTT", 4, false, "dev", "hub/dev/?api-version=2020-09-30", NULL},
    {"MQTT", 4, true, "dev/mod", "u", NULL},
    {"MQTT", 5, true, "dev", "u", NULL},
    {"MQTT", 5, false, "dev", "", NULL},
    {"MQIsdp", 3, false, "dev", "u", NULL},
    {"MQTT", 4, false, "", "u", "p"},
    {"MQTT", 4, true, "dev", NULL, NULL},
    {"MQTT", 5, true, "dev", NULL, "p"},
};
#define SHAPES (sizeof shapes / sizeof *shapes)

static void test_parse_at_every_split(void **state) {
  (void)state;
  static struct packet packet;
  struct broker_connect connect;
  for (size_t i = 0; i < SHAPES; i++) {
    build(&packet, &shapes[i]);
    for (size_t len = 0; len < packet.len; len++)
      assert_int_equal(broker_connect_parse(&connect, packet.bytes, len),
                       DSTREAM_EAGAIN);
    /* What follows is not looked at. */
    size_t len = packet.len;
    put(&packet, "\x30\xff\xff", 3);
    assert_int_equal(broker_connect_parse(&connect, packet.bytes, packet.len),
                     DSTREAM_OK);
    assert_int_equal(connect.length, len);
    assert_true(slice_eq(connect.client_id, shapes[i].id));
    assert_int_equal(connect.has_user, shapes[i].user != NULL);
    assert_int_equal(connect.has_password, shapes[i].password != NULL);
  }
}

/* A packet with a password put in is the one that a client with a password
 * would have sent. */
static void test_password(void **state) {
  (void)state;
  static struct packet packet, wanted;
  static uint8_t out[BROKER_CONNECT_MAX + 1024];
  static char password[512];
  struct broker_connect connect;
  for (size_t len = 0; len < sizeof password; len += 100) {
    memset(password, 'x', len);
    password[len] = '\0';
    for (size_t i = 0; i < SHAPES; i++) {
      struct shape shape = shapes[i];
      build(&packet, &shape);
      assert_int_equal(broker_connect_parse(&connect, packet.bytes, packet.len),
                       DSTREAM_OK);
      int n = broker_connect_with_password(&connect, packet.bytes, password,
                                           out, sizeof out);
      if (shape.password != NULL) {
        assert_int_equal(n, DSTREAM_ELIMIT);
        continue;
      }
      shape.password = password;
      build(&wanted, &shape);
      assert_int_equal(n, wanted.len);
      assert_memory_equal(out, wanted.bytes, wanted.len);
      assert_int_equal(broker_connect_with_password(&connect, packet.bytes,
                                                    password, out,
                                                    packet.len + len),
                       DSTREAM_ELIMIT);
    }
  }
}

static int parse(const void *bytes, size_t len) {
  struct broker_connect connect;
  return broker_connect_parse(&connect, bytes, len);
}
#define PARSE(text) parse(text, sizeof(text) - 1)

static void test_no_connect(void **state) {
  (void)state;
  static struct packet packet;
  assert_int_equal(PARSE("G"), DSTREAM_EFORMAT);
  assert_int_equal(PARSE("\x20\x02"), DSTREAM_EFORMAT);
  assert_int_equal(PARSE("\x11\x02"), DSTREAM_EFORMAT);
  assert_int_equal(PARSE("\x10\xff\xff\xff"), DSTREAM_EAGAIN);
  assert_int_equal(PARSE("\x10\xff\xff\xff\xff"), DSTREAM_EFORMAT);
  assert_int_equal(PARSE("\x10\xff\xff\xff\x7f"), DSTREAM_ELIMIT);
  assert_int_equal(PARSE("\x10\x80\x80\x01"), DSTREAM_ELIMIT); /* 16384 */
  assert_int_equal(PARSE("\x10\xfd\x7f"), DSTREAM_EAGAIN);     /* 16381 + 3 */
  assert_int_equal(PARSE("\x10\xfe\x7f"), DSTREAM_ELIMIT);
  assert_int_equal(PARSE("\x10\x00"), DSTREAM_EFORMAT);
  /* Another protocol, cut short, or with something behind. */
  static const struct shape others[] = {{"MQTT", 6, false, "d", "u", NULL},
                                        {"MQTT", 3, false, "d", "u", NULL},
                                        {"AMQP", 4, false, "d", "u", NULL}};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    build(&packet, &others[i]);
    assert_int_equal(parse(packet.bytes, packet.len), DSTREAM_EFORMAT);
  }
  for (size_t i = 0; i < SHAPES; i++) {
    build(&packet, &shapes[i]);
    assert_true(packet.bytes[1] < 0x7f);
    for (uint8_t shorter = 1; shorter < packet.bytes[1]; shorter++) {
      packet.bytes[1] -= shorter;
      assert_int_equal(parse(packet.bytes, packet.len), DSTREAM_EFORMAT);
      packet.bytes[1] += shorter;
    }
    packet.bytes[1]++;
    put_byte(&packet, 0);
    assert_int_equal(parse(packet.bytes, packet.len), DSTREAM_EFORMAT);
  }
}

/* ---- vouchers ---- */

static const struct identity_certificate certificate = {
    .thumbprints = {.sha1 = {1, 0xff, 3}, .sha256 = {0xee, 2, 3}},
    .trusted = true,
    .name = "dev-1",
    .not_before_s = -1,
    .not_after_s = INT64_C(99999999999)};

static void test_voucher(void **state) {
  (void)state;
  char text[BROKER_VOUCHER_SIZE];
  struct identity_certificate read;
  struct slice id = slice_of("dev-1");
  assert_int_equal(broker_voucher_make(text, SECRET, id, 5000, &certificate),
                   DSTREAM_OK);
  assert_int_equal(
      broker_voucher_read(&read, text, SECRET, id, 5000 + BROKER_VOUCHER_MS),
      DSTREAM_OK);
  assert_memory_equal(&read.thumbprints, &certificate.thumbprints,
                      sizeof read.thumbprints);
  assert_true(read.trusted);
  assert_string_equal(read.name, "dev-1");
  assert_int_equal(read.not_before_s, -1);
  assert_int_equal(read.not_after_s, INT64_C(99999999999));

  assert_int_equal(
      broker_voucher_read(&read, text, SECRET, id, 5001 + BROKER_VOUCHER_MS),
      DSTREAM_EUNAUTHORIZED);
  assert_int_equal(broker_voucher_read(&read, text, SECRET, id, 4999),
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(
      broker_voucher_read(&read, text, SECRET, slice_of("dev-2"), 5000),
      DSTREAM_EUNAUTHORIZED);
  assert_int_equal(broker_voucher_read(&read, text, "other", id, 5000),
                   DSTREAM_EUNAUTHORIZED);
  size_t len = strlen(text);
  for (size_t i = 0; i < len; i++) {
    text[i] ^= 1;
    assert_int_equal(broker_voucher_read(&read, text, SECRET, id, 5000),
                     DSTREAM_EUNAUTHORIZED);
    text[i] ^= 1;
    char kept = text[i];
    text[i] = '\0';
    assert_int_equal(broker_voucher_read(&read, text, SECRET, id, 5000),
                     DSTREAM_EUNAUTHORIZED);
    text[i] = kept;
  }
  assert_int_equal(broker_voucher_read(&read, text, SECRET, id, 5000),
                   DSTREAM_OK);
}

/* The longest, and names that are none. */
static void test_voucher_names(void **state) {
  (void)state;
  char text[BROKER_VOUCHER_SIZE];
  char id[IDENTITY_CLIENT_MAX + 2];
  struct identity_certificate long_name = certificate;
  struct identity_certificate read;
  memset(id, 'a', sizeof id);
  memset(long_name.name, 'n', IDENTITY_ID_MAX);
  long_name.name[IDENTITY_ID_MAX] = '\0';
  long_name.not_before_s = INT64_MIN;
  long_name.not_after_s = INT64_MIN;
  struct slice longest = {id, IDENTITY_CLIENT_MAX};
  assert_int_equal(
      broker_voucher_make(text, SECRET, longest, UINT64_MAX, &long_name),
      DSTREAM_OK);
  assert_int_equal(
      broker_voucher_read(&read, text, SECRET, longest, UINT64_MAX),
      DSTREAM_OK);
  assert_string_equal(read.name, long_name.name);
  struct slice too_long = {id, IDENTITY_CLIENT_MAX + 1};
  assert_int_equal(broker_voucher_make(text, SECRET, too_long, 1, &certificate),
                   DSTREAM_EINTERNAL);
  static const char *const none[] = {"", "a b", "a\nb", "a/b"};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
    struct identity_certificate odd = certificate;
    snprintf(odd.name, sizeof odd.name, "%s", none[i]);
    assert_int_equal(broker_voucher_make(text, SECRET, slice_of("d"), 1, &odd),
                     DSTREAM_OK);
    assert_int_equal(broker_voucher_read(&read, text, SECRET, slice_of("d"), 1),
                     DSTREAM_OK);
    assert_string_equal(read.name, "");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_parse_at_every_split),
      cmocka_unit_test(test_password),
      cmocka_unit_test(test_no_connect),
      cmocka_unit_test(test_voucher),
      cmocka_unit_test(test_voucher_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
