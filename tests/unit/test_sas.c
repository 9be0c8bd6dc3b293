#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/sas.h"

#include "core/crypto.h"

/* base64 MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= */
static const uint8_t key[] = "0123456789abcdef0123456789abcdef";
#define KEY    key, sizeof key - 1
#define EXPIRY UINT64_C(1700003600)
#define DEV1   "contoso.azure-devices.net/devices/dev1"
#define SIG1   "vP3Z%2FCd8Cma7wAKwCCzRmJz26D9MhdNq1d9uFNe0Qj8%3D"
#define SIG2   "n54WDiT4yfTexdjFnRFDYHzgCZzCHVuclgIbATrKhzU%3D"
#define SIG3   "2wZDc4W91zCYpJZIaBi%2F6o8xIBa94ou4BmXKlEFHwuQ%3D"

static int parse(struct sas *sas, const char *text) {
  return sas_parse(sas, text, strlen(text));
}

static void makes_the_raw_form(void **state) {
  (void)state;
  char out[SAS_MAX];
  int n = sas_make(out, sizeof out, DEV1, KEY, EXPIRY, NULL, SAS_RAW_RESOURCE);
  assert_string_equal(out, "SharedAccessSignature sr=" DEV1 "&sig=" SIG1
                           "&se=1700003600");
  assert_int_equal(n, strlen(out));
}

static void makes_the_encoded_form(void **state) {
  (void)state;
  char out[SAS_MAX];
  int n =
      sas_make(out, sizeof out, DEV1, KEY, EXPIRY, NULL, SAS_ENCODED_RESOURCE);
  assert_string_equal(out, "SharedAccessSignature "
                           "sr=contoso.azure-devices.net%2Fdevices%2Fdev1"
                           "&sig=" SIG2 "&se=1700003600");
  assert_int_equal(n, strlen(out));
}

static void makes_a_policys(void **state) {
  (void)state;
  char out[SAS_MAX];
  sas_make(out, sizeof out, "contoso.azure-devices.net", KEY, EXPIRY, "service",
           SAS_ENCODED_RESOURCE);
  assert_string_equal(out, "SharedAccessSignature sr=contoso.azure-devices.net"
                           "&sig=" SIG3 "&se=1700003600&skn=service");
}

static void make_keeps_to_its_room(void **state) {
  (void)state;
  char out[256];
  int n = sas_make(out, sizeof out, DEV1, KEY, EXPIRY, "p", SAS_RAW_RESOURCE);
  for (size_t room = 0; room <= (size_t)n; room++) {
    memset(out, 'x', sizeof out);
    assert_int_equal(
        sas_make(out, room, DEV1, KEY, EXPIRY, "p", SAS_RAW_RESOURCE),
        DSTREAM_ELIMIT);
    assert_int_equal(out[room], 'x');
    if (room > 0)
      assert_int_equal(out[0], '\0');
  }
  assert_int_equal(
      sas_make(out, (size_t)n + 1, DEV1, KEY, EXPIRY, "p", SAS_RAW_RESOURCE),
      n);
}

static void make_bounds_the_whole(void **state) {
  (void)state;
  static char resource[SAS_MAX + 64], out[3 * SAS_MAX];
  memset(resource, 'r', sizeof resource - 1);
  for (int form = SAS_RAW_RESOURCE; form <= SAS_ENCODED_RESOURCE; form++)
    assert_int_equal(sas_make(out, sizeof out, resource, KEY, EXPIRY, NULL,
                              (enum sas_form)form),
                     DSTREAM_ELIMIT);
}

static void make_refuses_what_would_not_parse(void **state) {
  (void)state;
  char out[256];
  static const char *const bad[] = {"", "h/a b", "h/a&se=9", "h/a\nb"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(
        sas_make(out, sizeof out, bad[i], KEY, EXPIRY, NULL, SAS_RAW_RESOURCE),
        DSTREAM_EINVAL);
  assert_int_equal(
      sas_make(out, sizeof out, "h", KEY, EXPIRY, "", SAS_RAW_RESOURCE),
      DSTREAM_EINVAL);
}

static void what_is_made_is_checked(void **state) {
  (void)state;
  static const char *const resources[] = {"h", DEV1,
                                          "h.example/devices/d:1%/modules/m$2",
                                          "h.example/devices/it's(1)*!"};
  for (size_t i = 0; i < 4; i++) {
    for (int form = SAS_RAW_RESOURCE; form <= SAS_ENCODED_RESOURCE; form++) {
      char out[SAS_MAX];
      struct sas sas;
      assert_true(sas_make(out, sizeof out, resources[i], KEY, UINT64_MAX,
                           "own er", (enum sas_form)form) > 0);
      assert_int_equal(parse(&sas, out), 0);
      assert_true(sas.expiry == UINT64_MAX);
      assert_int_equal(sas_check(&sas, KEY), 0);
      assert_int_equal(sas_check(&sas, key, 16), DSTREAM_EUNAUTHORIZED);
      assert_true(sas_resource_is(&sas, resources[i]));
      char policy[16];
      assert_int_equal(sas_policy(&sas, policy, sizeof policy), 6);
      assert_string_equal(policy, "own er");
    }
  }
}

static void parts_come_in_any_order(void **state) {
  (void)state;
  static const char *const texts[] = {
      "SharedAccessSignature sr=" DEV1 "&sig=" SIG1 "&se=1700003600",
      "SharedAccessSignature se=1700003600&sig=" SIG1 "&sr=" DEV1,
      "SharedAccessSignature sig=" SIG1 "&x=1&sr=" DEV1 "&skn=&se=1700003600&",
      "sharedaccesssignature &&sr=" DEV1 "&se=1700003600&sig=" SIG1,
      "SharedAccessSignature se=1700003600&sr=" DEV1
      "&sig=vP3Z/Cd8Cma7wAKwCCzRmJz26D9MhdNq1d9uFNe0Qj8=",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    struct sas sas;
    assert_int_equal(parse(&sas, texts[i]), 0);
    assert_true(slice_eq(sas.sr, DEV1));
    assert_int_equal(sas.expiry, EXPIRY);
    assert_int_equal(sas.skn.len, 0);
    assert_int_equal(sas_check(&sas, KEY), 0);
  }
}

static void parse_refuses(void **state) {
  (void)state;
  static const char *const bad[] = {
      "",
      "SharedAccessSignature",
      "SharedAccessSignature ",
      "SharedAccessSignature\tsr=a&sig=b&se=1",
      "Bearer sr=a&sig=b&se=1",
      "sr=a&sig=b&se=1",
      "SharedAccessSignature sig=b&se=1",
      "SharedAccessSignature sr=a&se=1",
      "SharedAccessSignature sr=a&sig=b",
      "SharedAccessSignature sr=&sig=b&se=1",
      "SharedAccessSignature sr=a&sig=&se=1",
      "SharedAccessSignature sr=a&sig=b&se=",
      "SharedAccessSignature sr=a&sig=b&se",
      "SharedAccessSignature sr=a&sig=b&se=-1",
      "SharedAccessSignature sr=a&sig=b&se=1.5",
      "SharedAccessSignature sr=a&sig=b&se=0x1",
      "SharedAccessSignature sr=a&sig=b&se=18446744073709551616",
      "SharedAccessSignature sr=a&sig=b&se=000000000000000000001",
      "SharedAccessSignature sr=a&sr=a&sig=b&se=1",
      "SharedAccessSignature sr=a&sig=b&se=1&se=2",
      "SharedAccessSignature sr=a&sig=b&se=1&skn=&skn=x",
      "SharedAccessSignature SR=a&sig=b&se=1",
      "SharedAccessSignature sr=a b&sig=b&se=1",
      "SharedAccessSignature sr=a\n&sig=b&se=1",
      "SharedAccessSignature sr=\xc3\xa9&sig=b&se=1",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct sas sas;
    memset(&sas, 0xee, sizeof sas);
    assert_int_equal(parse(&sas, bad[i]), DSTREAM_ESAS);
    assert_null(sas.sr.p);
  }
}

static void parse_bounds_the_length(void **state) {
  (void)state;
  static char text[SAS_MAX + 1];
  struct sas sas;
  memset(text, 'x', SAS_MAX);
  memcpy(text, "SharedAccessSignature se=1&sig=b&sr=", 36);
  assert_int_equal(sas_parse(&sas, text, SAS_MAX - 1), 0);
  assert_int_equal(sas_check(&sas, KEY), DSTREAM_EUNAUTHORIZED);
  assert_int_equal(sas_parse(&sas, text, SAS_MAX), DSTREAM_ESAS);
}

/* Every prefix is refused or, once the pairs are whole, is no longer genuine.
 */
static void no_prefix_is_genuine(void **state) {
  (void)state;
  const char *text =
      "SharedAccessSignature sr=" DEV1 "&sig=" SIG1 "&se=1700003600";
  struct sas sas;
  for (size_t len = 0; len < strlen(text); len++)
    if (sas_parse(&sas, text, len) == 0)
      assert_int_equal(sas_check(&sas, KEY), DSTREAM_EUNAUTHORIZED);
}

static void check_sees_every_change(void **state) {
  (void)state;
  char text[] = "SharedAccessSignature sr=" DEV1 "&sig=" SIG1 "&se=1700003600";
  struct sas sas;
  size_t begin = strlen("SharedAccessSignature ");
  for (size_t i = begin; i < sizeof text - 1; i++) {
    text[i] ^= 1;
    bool taken = parse(&sas, text) == 0 && sas_check(&sas, KEY) == 0;
    text[i] ^= 1;
    /* The last base64 digit has bits that mean nothing. */
    if (strncmp(text + i, "8%3D", 4) != 0)
      assert_false(taken);
  }
  assert_int_equal(parse(&sas, text), 0);
  assert_int_equal(sas_check(&sas, KEY), 0);
}

static void check_refuses_a_bad_signature(void **state) {
  (void)state;
  static const char *const bad[] = {
      "b",
      "%",
      "%zz",
      "====",
      "AAAA",
      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct sas sas = {.sr = SLICE_LITERAL("h"),
                      .se = SLICE_LITERAL("1"),
                      .sig = slice_of(bad[i]),
                      .expiry = 1};
    assert_int_equal(sas_check(&sas, KEY), DSTREAM_EUNAUTHORIZED);
  }
}

static void expires(void **state) {
  (void)state;
  struct sas sas = {.expiry = EXPIRY};
  assert_false(sas_expired(&sas, EXPIRY - 1));
  assert_true(sas_expired(&sas, EXPIRY));
}

static void resource_forms(void **state) {
  (void)state;
  static const struct {
    const char *sr;
    const char *resource;
    bool same;
  } rows[] = {
      {"h.net/devices/d1", "h.net/devices/d1", true},
      {"H.NET/devices/d1", "h.net/devices/d1", true},
      {"h.net%2Fdevices%2Fd1", "h.net/devices/d1", true},
      {"h.net%2fdevices%2fd1", "h.net/devices/d1", true},
      {"H.net%2Fdevices%2Fd%3A1", "h.net/devices/d:1", true},
      {"h.net%2Fdevices%2Fd%253A1", "h.net/devices/d:1", true},
      {"h.net/devices/d%3A1", "h.net/devices/d:1", true},
      {"h.net/devices/100%", "h.net/devices/100%", true},
      {"h.net%2Fdevices%2F100%25", "h.net/devices/100%", true},
      {"h.net%2Fdevices%2F100%2525", "h.net/devices/100%", true},
      {"h.net", "h.net", true},
      {"h.net%2Fdevices%2Fd%2Fmodules%2Fm", "h.net/devices/d/modules/m", true},
      {"h.net/devices/D1", "h.net/devices/d1", false},
      {"h.net/Devices/d1", "h.net/devices/d1", false},
      {"h.net/devices/d1", "h.net/devices/d10", false},
      {"h.net/devices/d10", "h.net/devices/d1", false},
      {"h.net", "h.net/devices/d1", false},
      {"g.net/devices/d1", "h.net/devices/d1", false},
      {"h.net%2Fdevices%2Fd%252Fmodules%252Fm", "h.net/devices/d/modules/m",
       false},
      {"h.net/devices/d%25253A1", "h.net/devices/d:1", false},
      {"h.net/devices/d%00", "h.net/devices/d", false},
      {"h.net/devices/d%252", "h.net/devices/d", false},
      {"h.net/devices/d%2500", "h.net/devices/d", false},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct sas sas = {.sr = slice_of(rows[i].sr)};
    if (sas_resource_is(&sas, rows[i].resource) != rows[i].same)
      fail_msg("%s", rows[i].sr);
  }
}

static void resource_is_decoded(void **state) {
  (void)state;
  char out[64];
  struct sas sas = {.sr = SLICE_LITERAL("h%2Fdevices%2Fd")};
  assert_int_equal(sas_resource(&sas, out, sizeof out), 11);
  assert_string_equal(out, "h/devices/d");
  assert_int_equal(sas_resource(&sas, out, 11), DSTREAM_ELIMIT);
  sas.sr = SLICE_LITERAL("h%2");
  assert_int_equal(sas_resource(&sas, out, sizeof out), DSTREAM_ESAS);
  assert_int_equal(sas_policy(&sas, out, sizeof out), 0);
  assert_string_equal(out, "");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(makes_the_raw_form),
      cmocka_unit_test(makes_the_encoded_form),
      cmocka_unit_test(makes_a_policys),
      cmocka_unit_test(make_keeps_to_its_room),
      cmocka_unit_test(make_bounds_the_whole),
      cmocka_unit_test(make_refuses_what_would_not_parse),
      cmocka_unit_test(what_is_made_is_checked),
      cmocka_unit_test(parts_come_in_any_order),
      cmocka_unit_test(parse_refuses),
      cmocka_unit_test(parse_bounds_the_length),
      cmocka_unit_test(no_prefix_is_genuine),
      cmocka_unit_test(check_sees_every_change),
      cmocka_unit_test(check_refuses_a_bad_signature),
      cmocka_unit_test(expires),
      cmocka_unit_test(resource_forms),
      cmocka_unit_test(resource_is_decoded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
