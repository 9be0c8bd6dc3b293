#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/crypto.h"

static void from_hex(const char *hex, uint8_t *out) {
  for (size_t i = 0; hex[2 * i] != '\0'; i++) {
    const char *digits = "0123456789abcdef";
    out[i] = (uint8_t)((strchr(digits, hex[2 * i]) - digits) << 4 |
                       (strchr(digits, hex[2 * i + 1]) - digits));
  }
}

/* RFC 3174 section 7.3, test 1. */
static void sha1_of_abc(void **state) {
  (void)state;
  uint8_t want[CRYPTO_SHA1_LEN], got[CRYPTO_SHA1_LEN];
  from_hex("a9993e364706816aba3e25717850c26c9cd0d89d", want);
  assert_int_equal(crypto_sha1("abc", 3, got), 0);
  assert_memory_equal(got, want, sizeof got);
}

/* RFC 4231 test case 2. */
static void hmac_of_rfc_4231(void **state) {
  (void)state;
  uint8_t want[CRYPTO_SHA256_LEN], got[CRYPTO_SHA256_LEN];
  from_hex("5bdcc146bf60754e6a042426089575c7"
           "5a003f089d2739839dec58b964ec3843",
           want);
  const char *text = "what do ya want for nothing?";
  assert_int_equal(crypto_hmac_sha256("Jefe", 4, text, strlen(text), got), 0);
  assert_memory_equal(got, want, sizeof got);
}

static void hmac_with_no_key_and_no_data(void **state) {
  (void)state;
  uint8_t want[CRYPTO_SHA256_LEN], got[CRYPTO_SHA256_LEN];
  from_hex("b613679a0814d9ec772f95d778c35fc5"
           "ff1697c493715653c6c712144292c5ad",
           want);
  assert_int_equal(crypto_hmac_sha256(NULL, 0, NULL, 0, got), 0);
  assert_memory_equal(got, want, sizeof got);
}

/* RFC 4648 section 10. */
static void base64_of_rfc_4648(void **state) {
  (void)state;
  static const char *const rows[][3] = {
      {"", "", ""},
      {"f", "Zg==", "Zg"},
      {"fo", "Zm8=", "Zm8"},
      {"foo", "Zm9v", "Zm9v"},
      {"foob", "Zm9vYg==", "Zm9vYg"},
      {"fooba", "Zm9vYmE=", "Zm9vYmE"},
      {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
      {"\xfb\xff\xbf", "+/+/", "-_-_"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[16];
    uint8_t bytes[16];
    size_t len = strlen(rows[i][0]), n;
    assert_int_equal(crypto_base64_encode(rows[i][0], len, text, sizeof text),
                     strlen(rows[i][1]));
    assert_string_equal(text, rows[i][1]);
    assert_int_equal(
        crypto_base64_decode(text, strlen(text), bytes, sizeof bytes, &n), 0);
    assert_int_equal(n, len);
    assert_memory_equal(bytes, rows[i][0], len);

    assert_int_equal(
        crypto_base64url_encode(rows[i][0], len, text, sizeof text),
        strlen(rows[i][2]));
    assert_string_equal(text, rows[i][2]);
    assert_int_equal(
        crypto_base64url_decode(text, strlen(text), bytes, sizeof bytes, &n),
        0);
    assert_int_equal(n, len);
    assert_memory_equal(bytes, rows[i][0], len);
  }
}

static void base64_refuses(void **state) {
  (void)state;
  static const char *const bad[] = {
      "Z",      "Zg",   "Zg=",  "Zm9vY", "Z===",     "====",    "Zg= ",
      "Zg==\n", "Zm=v", "=Zm9", "Zm9-",  "Zg==Zg==", "Zm9\x80", "Zm 9vYg="};
  uint8_t bytes[16];
  size_t n;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(
        crypto_base64_decode(bad[i], strlen(bad[i]), bytes, sizeof bytes, &n),
        DSTREAM_EFORMAT);
}

static void base64url_refuses(void **state) {
  (void)state;
  static const char *const bad[] = {"Z", "Zg==", "Zh", "Zm9", "Zm9v+", "Zm 9"};
  uint8_t bytes[16];
  size_t n;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(crypto_base64url_decode(bad[i], strlen(bad[i]), bytes,
                                             sizeof bytes, &n),
                     DSTREAM_EFORMAT);
}

/* Keys that people typed have them, and the official service takes those. */
static void base64_takes_unused_bits(void **state) {
  (void)state;
  uint8_t bytes[4];
  size_t n;
  assert_int_equal(crypto_base64_decode("Zh==", 4, bytes, sizeof bytes, &n), 0);
  assert_int_equal(n, 1);
  assert_int_equal(bytes[0], 'f');
}

static void base64_keeps_to_its_room(void **state) {
  (void)state;
  uint8_t bytes[8];
  size_t n;
  for (size_t room = 0; room < 4; room++) {
    memset(bytes, 0xee, sizeof bytes);
    assert_int_equal(crypto_base64_decode("Zm9vYg==", 8, bytes, room, &n),
                     DSTREAM_ELIMIT);
    assert_int_equal(bytes[room], 0xee);
  }
  assert_int_equal(crypto_base64_decode("Zm9vYg==", 8, bytes, 4, &n), 0);
  assert_int_equal(n, 4);
}

static void random_is_not_always_the_same(void **state) {
  (void)state;
  uint8_t a[32] = {0}, b[32] = {0};
  assert_int_equal(crypto_random(a, sizeof a), 0);
  assert_int_equal(crypto_random(b, sizeof b), 0);
  assert_memory_not_equal(a, b, sizeof a);
}

static void equal_sees_every_byte(void **state) {
  (void)state;
  char a[] = "0123456789", b[] = "0123456789";
  assert_true(crypto_equal(a, 10, b, 10));
  assert_false(crypto_equal(a, 10, b, 9));
  assert_true(crypto_equal(NULL, 0, NULL, 0));
  for (int i = 0; i < 10; i++) {
    b[i] ^= 1;
    assert_false(crypto_equal(a, 10, b, 10));
    b[i] ^= 1;
  }
}

static void wipe_leaves_nothing(void **state) {
  (void)state;
  char secret[] = "secret";
  crypto_wipe(secret, sizeof secret);
  for (size_t i = 0; i < sizeof secret; i++)
    assert_int_equal(secret[i], 0);
  crypto_wipe(NULL, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sha1_of_abc),
      cmocka_unit_test(hmac_of_rfc_4231),
      cmocka_unit_test(hmac_with_no_key_and_no_data),
      cmocka_unit_test(base64_of_rfc_4648),
      cmocka_unit_test(base64_refuses),
      cmocka_unit_test(base64url_refuses),
      cmocka_unit_test(base64_takes_unused_bits),
      cmocka_unit_test(base64_keeps_to_its_room),
      cmocka_unit_test(random_is_not_always_the_same),
      cmocka_unit_test(equal_sees_every_byte),
      cmocka_unit_test(wipe_leaves_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
