/* service/hub_reply: the hub's errors in each of their forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "service/hub_reply.h"

static struct dstream_end read_error(int http_status, const char *body) {
  struct http_head head;
  struct dstream_end end;
  memset(&head, 0, sizeof head);
  head.status = http_status;
  hub_reply_error(&head, body, strlen(body), &end);
  assert_int_equal(end.http_status, http_status);
  return end;
}

static void test_nested(void **state) {
  (void)state;
  struct dstream_end end = read_error(
      404, "{\"Message\":\"{\\\"errorCode\\\":404103,\\\"trackingId\\\":"
           "\\\"T-1\\\",\\\"message\\\":\\\"Timed out waiting for device to "
           "connect.\\\",\\\"info\\\":{}}\",\"ExceptionMessage\":\"\"}");
  assert_int_equal(end.status, DSTREAM_EOFFLINE);
  assert_int_equal(end.hub_code, 404103);
  assert_non_null(strstr(end.text, "Timed out waiting for device to connect."));
  assert_non_null(strstr(end.text, "T-1"));
}

static void test_codes(void **state) {
  (void)state;
  assert_int_equal(read_error(504, "{\"Message\":\"{\\\"errorCode\\\":504101,"
                                   "\\\"message\\\":\\\"x\\\"}\"}")
                       .status,
                   DSTREAM_ENOANSWER);
  assert_int_equal(read_error(404, "{\"errorCode\":404001}").status,
                   DSTREAM_ENOTFOUND);
  assert_int_equal(read_error(401, "{\"errorCode\":401002}").status,
                   DSTREAM_EUNAUTHORIZED);
  assert_int_equal(read_error(429, "").status, DSTREAM_ETHROTTLED);
  assert_int_equal(read_error(404, "Not found").status, DSTREAM_EHUB);
  assert_int_equal(read_error(500, "[]").status, DSTREAM_EHUB);
}

static void test_older_form(void **state) {
  (void)state;
  struct dstream_end end =
      read_error(404, "{\"Message\":\"ErrorCode:DeviceNotFound;no device x\"}");
  assert_int_equal(end.status, DSTREAM_ENOTFOUND);
  assert_int_equal(end.hub_code, 404001);
  assert_non_null(strstr(end.text, "no device x"));
}

static void test_text_is_clean(void **state) {
  (void)state;
  struct dstream_end end = read_error(500, "a\r\nb\033[2J");
  assert_null(strchr(end.text, '\n'));
  assert_null(strchr(end.text, '\033'));
  assert_non_null(strstr(end.text, "a  b"));
}

static void test_odd_json(void **state) {
  (void)state;
  static const char *const bodies[] = {
      "{",
      "null",
      "{\"Message\":5}",
      "{\"Message\":\"{\"}",
      "{\"Message\":\"{\\\"errorCode\\\":\\\"404103\\\"}\"}",
      "\xff\xfe"};
  for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
    assert_int_equal(read_error(500, bodies[i]).status, DSTREAM_EHUB);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_nested),     cmocka_unit_test(test_codes),
      cmocka_unit_test(test_older_form), cmocka_unit_test(test_text_is_clean),
      cmocka_unit_test(test_odd_json),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
