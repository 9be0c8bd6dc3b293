#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/address.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

struct row {
  const char *text;
  const char *host;
  unsigned port;
};

static const struct row good[] = {
    {"localhost:22", "localhost", 22},
    {"a:1", "a", 1},
    {"a:65535", "a", 65535},
    {"printer_2.office-1.example.org.:9100", "printer_2.office-1.example.org.",
     9100},
    {"127.0.0.1:80", "127.0.0.1", 80},
    {"[::1]:80", "::1", 80},
    {"[::]:80", "::", 80},
    {"[fd00::A:1]:443", "fd00::A:1", 443},
    {"[::ffff:10.0.0.1]:22", "::ffff:10.0.0.1", 22},
    {"[2001:db8:1111:2222:3333:4444:5555:6666]:22",
     "2001:db8:1111:2222:3333:4444:5555:6666", 22},
    /* Names, whatever they look like. */
    {"10.1:22", "10.1", 22},
    {"010.0.0.1:22", "010.0.0.1", 22},
    {"0x7f.1:22", "0x7f.1", 22},
    {"256.0.0.1:22", "256.0.0.1", 22},
    {"8080:22", "8080", 22},
    {"unix:22", "22", 0}, /* a path */
};

static const char *const bad[] = {
    "",
    ":",
    ":80",
    "a",
    "a:",
    "80",
    "a:0",
    "a:65536",
    "a:99999",
    "a:100000",
    "a:4294967297",
    "a:18446744073709551617",
    "a:+1",
    "a:-1",
    "a: 1",
    "a:1 ",
    "a:01",
    "a:00",
    "a:0x10",
    "a:1a",
    "a:http",
    "a:80\n",
    "a:80/",
    " a:80",
    "a :80",
    "a b:80",
    "a\tb:80",
    "a\n:80",
    "a\001b:80",
    "\x7f:80",
    "b\xc3\xbcro.example:80",
    "a~b:80",
    "a/b:80",
    "a@b:80",
    "a%b:80",
    "*:80",
    ".:80",
    ".a:80",
    "a..b:80",
    "a..:80",
    "a:b:80",
    "::1:80",
    "::1",
    "fd00::1:80",
    "[]:80",
    "[:]:80",
    "[::1]",
    "[::1]80",
    "[::1]:",
    "[::1]:0",
    "[::1]:65536",
    "[::1]:080",
    "[::1] :80",
    "[ ::1]:80",
    "[::1:80",
    "::1]:80",
    "[[::1]]:80",
    "[::1%lo]:80",
    "[fe80::1%25eth0]:80",
    "[127.0.0.1]:80",
    "[localhost]:80",
    "[::1::]:80",
    "[1:2:3:4:5:6:7]:80",
    "[1:2:3:4:5:6:7:8:9]:80",
    "[12345::]:80",
    "[::ffff:010.0.0.1]:80",
    "[::ffff:10.0.0.256]:80",
    "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:80",
    "unix:",
    "unix:/tmp/a\nb",
    "unix:/tmp/\001",
    "unix:/tmp/\x7f",
    "tcp:a:80",
    "http://a:80",
};

static void reads_what_people_write(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(good); i++) {
    struct address a;
    char text[ADDRESS_TEXT_SIZE];
    assert_int_equal(address_parse(&a, good[i].text, NULL), DSTREAM_OK);
    assert_string_equal(a.host, good[i].host);
    assert_int_equal(a.port, good[i].port);
    assert_int_equal(a.is_unix, good[i].port == 0);
    assert_int_equal(address_format(&a, text), strlen(good[i].text));
    assert_string_equal(text, good[i].text);
  }
}

static void refuses_the_rest(void **state) {
  (void)state;
  struct address before, a;
  memset(&before, 0x5a, sizeof before);
  for (size_t i = 0; i < COUNT(bad); i++) {
    struct dstream_end error = {.status = 1};
    a = before;
    if (address_parse(&a, bad[i], &error) != DSTREAM_EINVAL)
      fail_msg("took \"%s\"", bad[i]);
    assert_memory_equal(&a, &before, sizeof a);
    assert_int_equal(error.status, DSTREAM_EINVAL);
    assert_non_null(strstr(error.text, "\" is no address: "));
    for (const char *p = error.text; *p != '\0'; p++)
      assert_in_range(*p, 0x20, 0x7e);
    assert_int_equal(address_parse(&a, bad[i], NULL), DSTREAM_EINVAL);
  }
}

static void says_what_is_wrong(void **state) {
  (void)state;
  static const char *const rows[][2] = {
      {"a:0", "1 to 65535"},      {"::1:80", "brackets"},
      {"[::1%lo]:80", "zone"},    {"[::1", "']' is missing"},
      {"[::1]x", "must follow"},  {"a b:80", "a name of letters"},
      {"80", "HOST:PORT"},        {"unix:", "path must follow"},
      {"unix:\t", "control char"}};
  for (size_t i = 0; i < COUNT(rows); i++) {
    struct address a;
    struct dstream_end error;
    address_parse(&a, rows[i][0], &error);
    if (strstr(error.text, rows[i][1]) == NULL)
      fail_msg("\"%s\" does not say \"%s\"", error.text, rows[i][1]);
  }
  char text[400];
  struct address a;
  struct dstream_end error;
  memset(text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  assert_int_equal(address_parse(&a, text, &error), DSTREAM_EINVAL);
  assert_non_null(strstr(error.text, "HOST:PORT")); /* not cut off */
}

static void keeps_to_its_room(void **state) {
  (void)state;
  struct address a;
  char text[400];
  for (size_t len = 1; len < 300; len++) {
    memset(text, 'x', len);
    memcpy(text + len, ":65535", 7);
    int expected = len <= 253 ? DSTREAM_OK : DSTREAM_EINVAL;
    assert_int_equal(address_parse(&a, text, NULL), expected);
    char out[ADDRESS_TEXT_SIZE];
    if (expected == DSTREAM_OK)
      assert_int_equal(address_format(&a, out), len + 6);

    memcpy(text, "unix:", 5);
    memset(text + 5, '/', len);
    text[5 + len] = '\0';
    expected = len <= 107 ? DSTREAM_OK : DSTREAM_EINVAL;
    assert_int_equal(address_parse(&a, text, NULL), expected);
    assert_int_equal(address_parse_listen(&a, text, NULL), expected);
  }
}

static void reads_unix_sockets(void **state) {
  (void)state;
  static const char *const rows[] = {"unix:/run/a b", "unix:a:80",
                                     "unix:[::1]:80", "unix:/t\xc3\xbcr",
                                     "unix:unix:"};
  for (size_t i = 0; i < COUNT(rows); i++) {
    struct address a;
    char text[ADDRESS_TEXT_SIZE], name[ADDRESS_NAME_SIZE];
    assert_int_equal(address_parse(&a, rows[i], NULL), DSTREAM_OK);
    assert_true(a.is_unix);
    assert_int_equal(a.port, 0);
    assert_string_equal(a.host, rows[i] + 5);
    address_format(&a, text);
    assert_string_equal(text, rows[i]);
    assert_int_equal(address_to_name(&a, name), DSTREAM_EINVAL);
  }
}

static void listens_where_told(void **state) {
  (void)state;
  static const struct row rows[] = {
      {"0", "127.0.0.1", 0},
      {"1", "127.0.0.1", 1},
      {"65535", "127.0.0.1", 65535},
      {"localhost:8080", "127.0.0.1", 8080},
      {"LocalHost:0", "127.0.0.1", 0},
      {"0.0.0.0:0", "0.0.0.0", 0},
      {"127.0.0.2:22", "127.0.0.2", 22},
      {"[::]:0", "::", 0},
      {"[::1]:22", "::1", 22},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    struct address a;
    assert_int_equal(address_parse_listen(&a, rows[i].text, NULL), DSTREAM_OK);
    assert_false(a.is_unix);
    assert_string_equal(a.host, rows[i].host);
    assert_int_equal(a.port, rows[i].port);
  }
  static const char *const refused[] = {
      "",     "00",          "022",           "65536",        "100000",
      "+22",  " 22",         "22 ",           "-1",           ":22",
      "*:22", "eth0:22",     "10.1:22",       "010.0.0.1:22", "example.org:22",
      "a:",   "[::1%lo]:22", "localhost.:22", "localhost",    "::1:22",
      "0x16", "[::1]:65536", "4294967318",    "unix:"};
  for (size_t i = 0; i < COUNT(refused); i++) {
    struct address a;
    struct dstream_end error = {.status = 0};
    if (address_parse_listen(&a, refused[i], &error) != DSTREAM_EINVAL)
      fail_msg("took \"%s\"", refused[i]);
    assert_int_equal(error.status, DSTREAM_EINVAL);
  }
}

static void knows_what_is_local(void **state) {
  (void)state;
  static const char *const local[] = {
      "127.0.0.1:1",         "127.255.0.9:1",        "[::1]:1",
      "[0:0:0:0:0:0:0:1]:1", "[::ffff:127.0.0.1]:1", "unix:/a"};
  static const char *const remote[] = {
      "0.0.0.0:1",           "10.0.0.1:1",      "128.0.0.1:1", "[::]:1",
      "[::ffff:10.0.0.1]:1", "[::127.0.0.1]:1", "localhost:1", "127.1:1",
      "[fe80::1]:1",         "[::2]:1",         "0127.0.0.1:1"};
  struct address a;
  for (size_t i = 0; i < COUNT(local); i++) {
    assert_int_equal(address_parse(&a, local[i], NULL), DSTREAM_OK);
    assert_true(address_is_local(&a));
  }
  for (size_t i = 0; i < COUNT(remote); i++) {
    assert_int_equal(address_parse(&a, remote[i], NULL), DSTREAM_OK);
    assert_false(address_is_local(&a));
  }
}

static void goes_into_a_name_and_back(void **state) {
  (void)state;
  static const char *const rows[][2] = {
      {"10.0.0.1:80", "tcp~10.0.0.1~80"},
      {"010.0.0.1:80", "tcp~010.0.0.1~80"},
      {"localhost:65535", "tcp~localhost~65535"},
      {"Example.ORG.:1", "tcp~Example.ORG.~1"},
      {"a_b-c:22", "tcp~a_b-c~22"},
      {"_http._tcp.example.org:22", "tcp~_http._tcp.example.org~22"},
      {"[::]:80", "tcp~__~80"},
      {"[::1]:80", "tcp~__1~80"},
      {"[fd00::1]:22", "tcp~fd00__1~22"},
      {"[::ffff:10.0.0.1]:22", "tcp~__ffff_10.0.0.1~22"},
      {"[1:2:3:4:5:6:7:8]:22", "tcp~1_2_3_4_5_6_7_8~22"},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    struct address a, back;
    char name[ADDRESS_NAME_SIZE];
    memset(&back, 0x5a, sizeof back);
    assert_int_equal(address_parse(&a, rows[i][0], NULL), DSTREAM_OK);
    assert_int_equal(address_to_name(&a, name), DSTREAM_OK);
    assert_string_equal(name, rows[i][1]);
    assert_false(address_target_name_valid(name));
    assert_int_equal(address_from_name(&back, name), DSTREAM_OK);
    assert_false(back.is_unix);
    assert_string_equal(back.host, a.host);
    assert_int_equal(back.port, a.port);
  }
}

static void names_that_are_none(void **state) {
  (void)state;
  static const char *const rows[] = {"",
                                     "tcp",
                                     "tcp~",
                                     "tcp~~",
                                     "tcp~a",
                                     "tcp~a~",
                                     "tcp~~80",
                                     "tcp~a~0",
                                     "tcp~a~080",
                                     "tcp~a~65536",
                                     "tcp~a~80~",
                                     "tcp~a~80~90",
                                     "tcp~a~b~80",
                                     "tcp~a~ 80",
                                     "tcp~a~+80",
                                     "tcp~a b~80",
                                     "tcp~a\n~80",
                                     "TCP~a~80",
                                     "udp~a~80",
                                     "ssh",
                                     " tcp~a~80",
                                     "tcp~::1~80",
                                     "tcp~[::1]~80",
                                     "tcp~a:b~80",
                                     "tcp~.~80",
                                     "tcp~a..b~80",
                                     "tcp~.a~80",
                                     "tcp~*~80",
                                     "tcp~__1%lo~80",
                                     "tcp~unix:/a~80",
                                     "tcp~a/b~80",
                                     "tcp~b\xc3\xbc~80"};
  struct address before, a;
  memset(&before, 0x5a, sizeof before);
  for (size_t i = 0; i < COUNT(rows); i++) {
    a = before;
    if (address_from_name(&a, rows[i]) != DSTREAM_EINVAL)
      fail_msg("took \"%s\"", rows[i]);
    assert_memory_equal(&a, &before, sizeof a);
  }
}

/* A host name must not come back as an address that it is not. */
static void names_that_would_come_back_changed(void **state) {
  (void)state;
  static const char *const rows[] = {"__1:80", "fe80__1:80", "__:80",
                                     "1_2_3_4_5_6_7_8:80",
                                     "__ffff_10.0.0.1:80"};
  for (size_t i = 0; i < COUNT(rows); i++) {
    struct address a;
    char name[ADDRESS_NAME_SIZE] = "as it was";
    assert_int_equal(address_parse(&a, rows[i], NULL), DSTREAM_OK);
    assert_int_equal(address_to_name(&a, name), DSTREAM_EINVAL);
    assert_string_equal(name, "as it was");
  }
  struct address no_port = {.host = "a"};
  char name[ADDRESS_NAME_SIZE];
  assert_int_equal(address_to_name(&no_port, name), DSTREAM_EINVAL);
}

static void names_have_a_longest(void **state) {
  (void)state;
  for (size_t len = 100; len <= 253; len++) {
    struct address a = {.port = 65535}, back;
    char name[ADDRESS_NAME_SIZE];
    memset(a.host, 'x', len);
    int expected = 4 + len + 6 <= 128 ? DSTREAM_OK : DSTREAM_EINVAL;
    assert_int_equal(address_to_name(&a, name), expected);
    if (expected == DSTREAM_OK)
      assert_int_equal(address_from_name(&back, name), DSTREAM_OK);
  }
  char name[200];
  struct address a;
  snprintf(name, sizeof name, "tcp~%0120d~22", 0); /* 127 bytes */
  assert_int_equal(address_from_name(&a, name), DSTREAM_OK);
  snprintf(name, sizeof name, "tcp~%0122d~22", 0);
  assert_int_equal(address_from_name(&a, name), DSTREAM_EINVAL);
}

static void knows_names_of_targets(void **state) {
  (void)state;
  static const char *const no[] = {"",    "a b",  "a~b", "a:b", "a/b",
                                   "a\n", "\x80", "*",   "a%",  "tcp~a~80"};
  assert_true(address_target_name_valid("ssh"));
  assert_true(address_target_name_valid("Web-2_a.b"));
  assert_true(address_target_name_valid("."));
  for (size_t i = 0; i < COUNT(no); i++)
    assert_false(address_target_name_valid(no[i]));
  char name[130];
  memset(name, 'n', sizeof name);
  name[129] = '\0';
  assert_false(address_target_name_valid(name));
  name[128] = '\0';
  assert_true(address_target_name_valid(name));
}

static void knows_hosts(void **state) {
  (void)state;
  assert_true(address_host_valid(SLICE_LITERAL("::1")));
  assert_true(address_host_valid(SLICE_LITERAL("10.0.0.1")));
  assert_true(address_host_valid(SLICE_LITERAL("a.b.")));
  assert_false(address_host_valid(SLICE_LITERAL("[::1]")));
  assert_false(address_host_valid(SLICE_LITERAL("a\0b")));
  assert_false(address_host_valid(SLICE_LITERAL("::1\0")));
  assert_false(address_host_valid(SLICE_LITERAL("a:80")));
  assert_false(address_host_valid((struct slice){NULL, 0}));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_what_people_write),
      cmocka_unit_test(refuses_the_rest),
      cmocka_unit_test(says_what_is_wrong),
      cmocka_unit_test(keeps_to_its_room),
      cmocka_unit_test(reads_unix_sockets),
      cmocka_unit_test(listens_where_told),
      cmocka_unit_test(knows_what_is_local),
      cmocka_unit_test(goes_into_a_name_and_back),
      cmocka_unit_test(names_that_are_none),
      cmocka_unit_test(names_that_would_come_back_changed),
      cmocka_unit_test(names_have_a_longest),
      cmocka_unit_test(knows_names_of_targets),
      cmocka_unit_test(knows_hosts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
