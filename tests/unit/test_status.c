/* core/status: names and texts of every status.  The values are part of the
 * binary interface: the table here is written by hand, so that a change to the
 * one in the header is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/dstream.h>

static const struct {
  int value;
  const char *name;
} known[] = {
    {0, "DSTREAM_OK"},
    {-1, "DSTREAM_EAGAIN"},
    {-2, "DSTREAM_ENOMEM"},
    {-3, "DSTREAM_EINVAL"},
    {-4, "DSTREAM_ELIMIT"},
    {-5, "DSTREAM_ETIMEDOUT"},
    {-6, "DSTREAM_ECANCELED"},
    {-7, "DSTREAM_ESTATE"},
    {-8, "DSTREAM_ESYSTEM"},
    {-9, "DSTREAM_EINTERNAL"},
    {-20, "DSTREAM_ERESOLVE"},
    {-21, "DSTREAM_ECONNECT"},
    {-22, "DSTREAM_EPROXY"},
    {-23, "DSTREAM_ETLS"},
    {-24, "DSTREAM_EVERIFY"},
    {-25, "DSTREAM_EIO"},
    {-40, "DSTREAM_ECONNSTRING"},
    {-41, "DSTREAM_ESAS"},
    {-42, "DSTREAM_ETOPIC"},
    {-43, "DSTREAM_EHTTP"},
    {-44, "DSTREAM_EUPGRADE"},
    {-45, "DSTREAM_EFRAME"},
    {-46, "DSTREAM_EFORMAT"},
    {-60, "DSTREAM_EUNAUTHORIZED"},
    {-61, "DSTREAM_ENOTFOUND"},
    {-62, "DSTREAM_EOFFLINE"},
    {-63, "DSTREAM_ENOANSWER"},
    {-64, "DSTREAM_EREJECTED"},
    {-65, "DSTREAM_ETHROTTLED"},
    {-66, "DSTREAM_EHUB"},
    {-67, "DSTREAM_ETOKEN"},
    {-68, "DSTREAM_EMQTT"},
    {-80, "DSTREAM_ECLOSED"},
    {-81, "DSTREAM_EKEEPALIVE"},
    {-82, "DSTREAM_EEXPIRED"},
};
#define KNOWN (sizeof known / sizeof known[0])

static const int values[] = {
#define X(name, value, text) DSTREAM_##name,
    DSTREAM_STATUS_MAP(X)
#undef X
};

static void test_values_are_stable(void **state) {
  (void)state;
  assert_int_equal(sizeof values / sizeof values[0], KNOWN);
  for (size_t i = 0; i < KNOWN; i++) {
    assert_int_equal(values[i], known[i].value);
    assert_string_equal(dstream_status_name(values[i]), known[i].name);
  }
}

static void test_texts(void **state) {
  (void)state;
  for (size_t i = 0; i < KNOWN; i++) {
    const char *text = dstream_status_text(known[i].value);
    assert_in_range(strlen(text), 5, 60);
    /* It stands within a sentence. */
    assert_int_not_equal(text[strlen(text) - 1], '.');
    for (size_t other = 0; other < i; other++)
      assert_string_not_equal(text, dstream_status_text(known[other].value));
  }
}

static void test_no_status(void **state) {
  (void)state;
  static const int none[] = {1, -10, -19, -83, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
    assert_string_equal(dstream_status_name(none[i]), "DSTREAM_E?");
    assert_string_equal(dstream_status_text(none[i]), "unknown status");
  }
}

static void test_version(void **state) {
  (void)state;
  assert_string_equal(dstream_version(), DSTREAM_VERSION);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values_are_stable),
      cmocka_unit_test(test_texts),
      cmocka_unit_test(test_no_status),
      cmocka_unit_test(test_version),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
