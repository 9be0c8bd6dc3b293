#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include <stdio.h>

#include "core/crypto.h"
#include "core/token.h"

static const uint8_t key[] = "0123456789abcdef0123456789abcdef";
#define KEY    key, sizeof key - 1
#define ID     "00112233445566778899aabbccddeeff"
#define JTI    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define EXPIRY UINT64_C(1700003600)
#define HEADER "{\"typ\":\"JWT\",\"alg\":\"HS256\"}"
#define BODY                                                                   \
  "{\"exp\":1700003600,\"jti\":\"" JTI "\",\"iothub-stream-id\":\"" ID         \
  "\",\"iothub-stream-role\":\"device\"}"

static const struct token_claims claims = {
    .stream_id = ID, .device_role = true, .expiry_s = EXPIRY, .jti = JTI};

static int check(struct token_claims *out, const char *text) {
  return token_check(out, text, strlen(text), KEY, EXPIRY - 60);
}

/* A token of any content, truly signed. */
static const char *forge(const char *header, const char *body) {
  static char text[1024];
  uint8_t digest[CRYPTO_SHA256_LEN];
  size_t n =
      crypto_base64url_encode(header, strlen(header), text, sizeof text - 100);
  text[n++] = '.';
  n += crypto_base64url_encode(body, strlen(body), text + n, sizeof text - n);
  crypto_hmac_sha256(KEY, text, n, digest);
  text[n++] = '.';
  crypto_base64url_encode(digest, sizeof digest, text + n, sizeof text - n);
  return text;
}

static void is_what_was_asked_for(void **state) {
  (void)state;
  char text[TOKEN_SIZE];
  int n = token_make(text, sizeof text, &claims, KEY);
  assert_int_equal(n, strlen(text));
  assert_string_equal(text, forge(HEADER, BODY));
  struct token_claims out;
  assert_int_equal(check(&out, text), 0);
  assert_string_equal(out.stream_id, ID);
  assert_string_equal(out.jti, JTI);
  assert_true(out.device_role);
  assert_int_equal(out.expiry_s, EXPIRY);
  assert_null(strchr(text, '&'));
  assert_null(strchr(text, '/'));
}

static void each_init_has_its_own_jti(void **state) {
  (void)state;
  struct token_claims a, b, out;
  char text[TOKEN_SIZE];
  assert_int_equal(token_claims_init(&a, ID, false, EXPIRY), 0);
  assert_int_equal(token_claims_init(&b, ID, false, EXPIRY), 0);
  assert_int_equal(strlen(a.jti), 43);
  assert_string_not_equal(a.jti, b.jti);
  assert_true(token_make(text, sizeof text, &a, KEY) > 0);
  assert_int_equal(check(&out, text), 0);
  assert_string_equal(out.jti, a.jti);
  assert_false(out.device_role);

  assert_int_equal(token_claims_init(&a, "", false, EXPIRY), DSTREAM_EINVAL);
  assert_int_equal(token_claims_init(&a, "a\"b", false, EXPIRY),
                   DSTREAM_EINVAL);
  assert_int_equal(token_claims_init(&a, ID "0", false, EXPIRY),
                   DSTREAM_EINVAL);
}

static void make_refuses(void **state) {
  (void)state;
  char text[TOKEN_SIZE];
  struct token_claims bad = claims;
  bad.stream_id[0] = '"';
  assert_int_equal(token_make(text, sizeof text, &bad, KEY), DSTREAM_EINVAL);
  bad = claims;
  bad.jti[0] = '\0';
  assert_int_equal(token_make(text, sizeof text, &bad, KEY), DSTREAM_EINVAL);
  bad = claims;
  bad.expiry_s = 0;
  assert_int_equal(token_make(text, sizeof text, &bad, KEY), DSTREAM_EINVAL);
  bad.expiry_s = UINT64_MAX;
  assert_int_equal(token_make(text, sizeof text, &bad, KEY), DSTREAM_EINVAL);
}

static void make_keeps_to_its_room(void **state) {
  (void)state;
  char text[TOKEN_SIZE + 1];
  int n = token_make(text, TOKEN_SIZE, &claims, KEY);
  for (size_t room = 0; room <= (size_t)n; room++) {
    text[room] = '!';
    assert_int_equal(token_make(text, room, &claims, KEY), DSTREAM_ELIMIT);
    assert_int_equal(text[room], '!');
    if (room > 0)
      assert_string_equal(text, "");
  }
  assert_int_equal(token_make(text, (size_t)n + 1, &claims, KEY), n);
}

static void the_longest_fits(void **state) {
  (void)state;
  char text[TOKEN_SIZE];
  struct token_claims longest = claims, out;
  longest.device_role = false;
  longest.expiry_s = UINT64_C(1) << 53;
  assert_true(token_make(text, sizeof text, &longest, KEY) > 0);
  assert_int_equal(check(&out, text), 0);
  assert_true(out.expiry_s == longest.expiry_s);
}

static void expires(void **state) {
  (void)state;
  char text[TOKEN_SIZE];
  struct token_claims out;
  size_t n = (size_t)token_make(text, sizeof text, &claims, KEY);
  assert_int_equal(token_check(&out, text, n, KEY, EXPIRY - 1), 0);
  assert_int_equal(token_check(&out, text, n, KEY, EXPIRY), DSTREAM_EEXPIRED);
  assert_string_equal(out.stream_id, ID);
  assert_int_equal(token_check(&out, text, n, KEY, UINT64_MAX),
                   DSTREAM_EEXPIRED);
}

static void every_change_is_seen(void **state) {
  (void)state;
  char text[TOKEN_SIZE];
  struct token_claims out;
  int n = token_make(text, sizeof text, &claims, KEY);
  for (int i = 0; i < n; i++) {
    for (int bit = 0; bit < 8; bit++) {
      text[i] = (char)(text[i] ^ 1 << bit);
      /* Expired for long: what is forged must not even be called that. */
      assert_int_equal(token_check(&out, text, (size_t)n, KEY, UINT64_MAX),
                       DSTREAM_ETOKEN);
      assert_int_equal(out.stream_id[0], 0);
      text[i] = (char)(text[i] ^ 1 << bit);
    }
  }
  assert_int_equal(check(&out, text), 0);
  for (int len = 0; len < n; len++)
    assert_int_equal(token_check(&out, text, (size_t)len, KEY, EXPIRY - 60),
                     DSTREAM_ETOKEN);
  text[n] = 'A';
  assert_int_equal(token_check(&out, text, (size_t)n + 1, KEY, EXPIRY - 60),
                   DSTREAM_ETOKEN);
}

static void another_key_is_refused(void **state) {
  (void)state;
  char text[TOKEN_SIZE];
  struct token_claims out;
  size_t n = (size_t)token_make(text, sizeof text, &claims, KEY);
  assert_int_equal(token_check(&out, text, n, key, 31, EXPIRY - 60),
                   DSTREAM_ETOKEN);
  assert_int_equal(token_check(&out, text, n, NULL, 0, EXPIRY - 60),
                   DSTREAM_ETOKEN);
}

static void only_hs256_is_taken(void **state) {
  (void)state;
  static const char *const headers[] = {
      "{\"typ\":\"JWT\",\"alg\":\"none\"}",
      "{\"typ\":\"JWT\",\"alg\":\"HS512\"}",
      "{\"typ\":\"JWT\",\"alg\":\"hs256\"}",
      "{\"alg\":\"HS256\"}",
      "{\"alg\":\"HS256\",\"typ\":\"JWT\"}",
      "{\"typ\":\"JWT\",\"alg\":\"HS256\",\"kid\":\"1\"}",
      "{}",
      ""};
  struct token_claims out;
  for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
    assert_int_equal(check(&out, forge(headers[i], BODY)), DSTREAM_ETOKEN);

  /* {"alg":"none"} and no signature */
  char text[TOKEN_SIZE];
  const char *body = strchr(forge(HEADER, BODY), '.') + 1;
  snprintf(text, sizeof text, "eyJhbGciOiJub25lIn0.%.*s.",
           (int)strcspn(body, "."), body);
  assert_int_equal(check(&out, text), DSTREAM_ETOKEN);
}

static void a_signed_body_is_still_checked(void **state) {
  (void)state;
#define CLAIMS(exp, jti, id, role)                                             \
  "{\"exp\":" exp ",\"jti\":" jti ",\"iothub-stream-id\":" id                  \
  ",\"iothub-stream-role\":" role "}"
#define QJTI "\"" JTI "\""
#define QID  "\"" ID "\""
  static const char *const bodies[] = {
      "",
      "{}",
      "[]",
      "null",
      "{",
      BODY "x",
      CLAIMS("\"1700003600\"", QJTI, QID, "\"device\""),
      CLAIMS("-1", QJTI, QID, "\"device\""),
      CLAIMS("0", QJTI, QID, "\"device\""),
      CLAIMS("1e30", QJTI, QID, "\"device\""),
      CLAIMS("1e999", QJTI, QID, "\"device\""),
      CLAIMS("null", QJTI, QID, "\"device\""),
      CLAIMS("1700003600", "\"\"", QID, "\"device\""),
      CLAIMS("1700003600", "7", QID, "\"device\""),
      CLAIMS("1700003600", "\"" JTI "A\"", QID, "\"device\""),
      CLAIMS("1700003600", QJTI, "\"\"", "\"device\""),
      CLAIMS("1700003600", QJTI, "\"a b\"", "\"device\""),
      CLAIMS("1700003600", QJTI, "\"" ID "0\"", "\"device\""),
      CLAIMS("1700003600", QJTI, QID, "\"Device\""),
      CLAIMS("1700003600", QJTI, QID, "\"\""),
      CLAIMS("1700003600", QJTI, QID, "null"),
      CLAIMS("1700003600", QJTI, QID, "[\"device\"]"),
  };
  struct token_claims out;
  for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
    if (check(&out, forge(HEADER, bodies[i])) != DSTREAM_ETOKEN)
      fail_msg("%s", bodies[i]);
    assert_int_equal(out.stream_id[0], 0);
  }
  assert_int_equal(check(&out, forge(HEADER, CLAIMS("1700003600", QJTI, QID,
                                                    "\"service\""))),
                   0);
}

static void a_long_text_is_refused(void **state) {
  (void)state;
  static char text[100000];
  struct token_claims out;
  memset(text, 'A', sizeof text);
  assert_int_equal(token_check(&out, text, sizeof text, KEY, 0),
                   DSTREAM_ETOKEN);
  assert_int_equal(token_check(&out, NULL, 0, KEY, 0), DSTREAM_ETOKEN);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(is_what_was_asked_for),
      cmocka_unit_test(each_init_has_its_own_jti),
      cmocka_unit_test(make_refuses),
      cmocka_unit_test(make_keeps_to_its_room),
      cmocka_unit_test(the_longest_fits),
      cmocka_unit_test(expires),
      cmocka_unit_test(every_change_is_seen),
      cmocka_unit_test(another_key_is_refused),
      cmocka_unit_test(only_hs256_is_taken),
      cmocka_unit_test(a_signed_body_is_still_checked),
      cmocka_unit_test(a_long_text_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
