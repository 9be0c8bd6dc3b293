#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "core/allow.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Patterns, with a space between them. */
static int parse(struct allow_list *list, const char *patterns,
                 struct dstream_end *error) {
  char *texts[8];
  size_t count = 0;
  char *copy = strdup(patterns), *rest = copy;
  assert_non_null(copy);
  while (count < COUNT(texts)) {
    char *text = strsep(&rest, " ");
    if (text == NULL)
      break;
    texts[count++] = text;
  }
  int rc = allow_parse(list, (const char *const *)texts, count, error);
  free(copy);
  return rc;
}

static enum allow_verdict judge(const char *patterns, const char *host,
                                unsigned port) {
  struct allow_list list;
  struct dstream_end error = {.text = ""};
  if (parse(&list, patterns, &error) != DSTREAM_OK)
    fail_msg("%s", error.text);
  enum allow_verdict verdict = allow_host(&list, host, (uint16_t)port);
  allow_clear(&list);
  assert_null(list.rules);
  assert_int_equal(list.count, 0);
  return verdict;
}

static bool judge_address(const char *patterns, const char *host,
                          unsigned port) {
  struct allow_list list;
  struct sockaddr_storage address;
  memset(&address, 0, sizeof address);
  struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
  if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
    address.ss_family = AF_INET;
    v4->sin_port = 0xffff;
  } else {
    assert_int_equal(inet_pton(AF_INET6, host, &v6->sin6_addr), 1);
    address.ss_family = AF_INET6;
    v6->sin6_port = 0xffff;
  }
  assert_int_equal(parse(&list, patterns, NULL), DSTREAM_OK);
  bool allowed =
      allow_address(&list, (struct sockaddr *)&address, (uint16_t)port);
  allow_clear(&list);
  return allowed;
}

struct row {
  const char *patterns;
  const char *host;
  unsigned port;
  enum allow_verdict verdict;
};

/* Numeric hosts: the same must come out of allow_address. */
static const struct row addresses[] = {
    {"10.0.0.1:80", "10.0.0.1", 80, ALLOW_YES},
    {"10.0.0.1:80", "10.0.0.1", 81, ALLOW_NO},
    {"10.0.0.1:80", "10.0.0.1", 0, ALLOW_NO},
    {"10.0.0.1:80", "10.0.0.2", 80, ALLOW_NO},
    {"10.0.0.1/32:80", "10.0.0.1", 80, ALLOW_YES},
    {"10.0.0.0/31:80", "10.0.0.1", 80, ALLOW_YES},
    {"10.0.0.0/31:80", "10.0.0.2", 80, ALLOW_NO},
    {"10.0.0.0/8:80", "10.255.255.255", 80, ALLOW_YES},
    {"10.0.0.0/8:80", "11.0.0.0", 80, ALLOW_NO},
    {"10.0.0.0/8:80", "9.255.255.255", 80, ALLOW_NO},
    {"172.16.0.0/12:80", "172.31.255.255", 80, ALLOW_YES},
    {"172.16.0.0/12:80", "172.32.0.0", 80, ALLOW_NO},
    {"172.16.0.0/12:80", "172.15.255.255", 80, ALLOW_NO},
    {"10.128.0.0/9:80", "10.127.0.0", 80, ALLOW_NO},
    {"0.0.0.0/0:80", "255.255.255.255", 80, ALLOW_YES},
    {"0.0.0.0/0:80", "127.0.0.1", 80, ALLOW_YES},
    {"0.0.0.0/0:80", "::1", 80, ALLOW_NO},
    {"0.0.0.0/0:80", "::", 80, ALLOW_NO},
    {"0.0.0.0/0:80", "::10.0.0.1", 80, ALLOW_NO},
    {"0.0.0.0/0:*", "64:ff9b::10.0.0.1", 80, ALLOW_NO},
    /* An IPv4 address in IPv6 clothes. */
    {"10.0.0.0/8:80", "::ffff:10.0.0.1", 80, ALLOW_YES},
    {"10.0.0.0/8:80", "::ffff:a00:1", 80, ALLOW_YES},
    {"10.0.0.0/8:80", "0:0:0:0:0:FFFF:10.0.0.1", 80, ALLOW_YES},
    {"10.0.0.0/8:80", "::ffff:11.0.0.1", 80, ALLOW_NO},
    {"10.0.0.0/8:80", "::fffe:10.0.0.1", 80, ALLOW_NO},
    {"10.0.0.0/8:80", "::ffff:0:10.0.0.1", 80, ALLOW_NO},
    {"[::]/0:80", "::ffff:10.0.0.1", 80, ALLOW_NO},
    {"[::]/0:80", "10.0.0.1", 80, ALLOW_NO},
    {"[::ffff:10.0.0.0]/104:80", "10.9.9.9", 80, ALLOW_YES},
    {"[::ffff:10.0.0.0]/104:80", "::ffff:10.9.9.9", 80, ALLOW_YES},
    {"[::ffff:10.0.0.0]/104:80", "11.0.0.0", 80, ALLOW_NO},
    {"[::ffff:0:0/96]:80", "9.9.9.9", 80, ALLOW_YES},
    {"[::ffff:10.0.0.1]:80", "10.0.0.1", 80, ALLOW_YES},
    /* IPv6. */
    {"[fd00::]/8:22", "fdff::1", 22, ALLOW_YES},
    {"[fd00::/8]:22", "fdff::1", 22, ALLOW_YES},
    {"[fd00::]/8:22", "fc00::1", 22, ALLOW_NO},
    {"[fd00::]/8:22", "fe00::1", 22, ALLOW_NO},
    {"[fc00::]/7:22", "fdff::1", 22, ALLOW_YES},
    {"[::1]:22", "0:0:0:0:0:0:0:1", 22, ALLOW_YES},
    {"[::1]:22", "::2", 22, ALLOW_NO},
    {"[::1]:22", "127.0.0.1", 22, ALLOW_NO},
    {"[2001:db8::]/127:22", "2001:db8::1", 22, ALLOW_YES},
    {"[2001:db8::]/127:22", "2001:db8::2", 22, ALLOW_NO},
    {"[::/0]:1-65535", "fe80::1", 65535, ALLOW_YES},
    /* Ports. */
    {"10.0.0.1:*", "10.0.0.1", 1, ALLOW_YES},
    {"10.0.0.1:*", "10.0.0.1", 65535, ALLOW_YES},
    {"10.0.0.1:*", "10.0.0.1", 0, ALLOW_NO},
    {"10.0.0.1:80,443,8000-8999", "10.0.0.1", 443, ALLOW_YES},
    {"10.0.0.1:80,443,8000-8999", "10.0.0.1", 8000, ALLOW_YES},
    {"10.0.0.1:80,443,8000-8999", "10.0.0.1", 8999, ALLOW_YES},
    {"10.0.0.1:80,443,8000-8999", "10.0.0.1", 7999, ALLOW_NO},
    {"10.0.0.1:80,443,8000-8999", "10.0.0.1", 9000, ALLOW_NO},
    {"10.0.0.1:22-22", "10.0.0.1", 22, ALLOW_YES},
    /* Several, and hosts that are names. */
    {"10.0.0.1:80 10.0.0.2:81", "10.0.0.2", 80, ALLOW_NO},
    {"10.0.0.1:80 10.0.0.2:81", "10.0.0.2", 81, ALLOW_YES},
    {"localhost:80", "127.0.0.1", 80, ALLOW_NO},
    {"*:80", "127.0.0.1", 80, ALLOW_YES},
    {"*:80", "fe80::1", 80, ALLOW_YES},
    {"*:80", "fe80::1", 81, ALLOW_NO},
};

static void judges_addresses(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(addresses); i++) {
    const struct row *row = &addresses[i];
    bool allowed = judge_address(row->patterns, row->host, row->port);
    if (judge(row->patterns, row->host, row->port) != row->verdict ||
        allowed != (row->verdict == ALLOW_YES))
      fail_msg("%s %s %u", row->patterns, row->host, row->port);
  }
}

static const struct row hosts[] = {
    {"example.org:80", "example.org", 80, ALLOW_YES},
    {"example.org:80", "example.org", 81, ALLOW_NO},
    {"example.org:80", "EXAMPLE.org", 80, ALLOW_YES},
    {"Example.ORG:80", "example.org", 80, ALLOW_YES},
    {"host.0xyz:80", "host.0xyz", 80, ALLOW_YES},
    {"host.x1f:80", "host.x1f", 80, ALLOW_YES},
    {"example.org:80", "example.org.", 80, ALLOW_YES},
    {"example.org.:80", "example.org", 80, ALLOW_YES},
    {"example.org.:80", "example.org.", 80, ALLOW_YES},
    {"example.org:80", "example.org..", 80, ALLOW_NO},
    {"example.org:80", "www.example.org", 80, ALLOW_NO},
    {"example.org:80", "example.or", 80, ALLOW_NO},
    {"example.org:80", "example.orgs", 80, ALLOW_NO},
    {"example.org:80", "exampleXorg", 80, ALLOW_NO},
    {"*.example.org:80", "www.example.org", 80, ALLOW_YES},
    {"*.example.org:80", "a.b.EXAMPLE.org.", 80, ALLOW_YES},
    {"*.Example.org.:80", "www.example.org", 80, ALLOW_YES},
    {"*.example.org:80", "example.org", 80, ALLOW_NO},
    {"*.example.org:80", ".example.org", 80, ALLOW_NO},
    {"*.example.org:80", "badexample.org", 80, ALLOW_NO},
    {"*.example.org:80", "www.example.org.evil.com", 80, ALLOW_NO},
    {"*.example.org:80", "*.example.org", 80, ALLOW_NO},
    {"*:80", "anything", 80, ALLOW_YES},
    {"*:80", "anything", 81, ALLOW_NO},
    {"*:80", "10.1", 80, ALLOW_YES},
    {"a_b-c:80", "A_b-C", 80, ALLOW_YES},
    /* A name may have an address that is allowed. */
    {"10.0.0.0/8:80", "example.org", 80, ALLOW_RESOLVE},
    {"10.0.0.0/8:80", "example.org", 81, ALLOW_NO},
    {"[::1]:80", "localhost", 80, ALLOW_RESOLVE},
    {"10.0.0.0/8:80 example.org:80", "example.org", 80, ALLOW_YES},
    {"example.org:80 10.0.0.0/8:80", "example.org", 80, ALLOW_YES},
    {"10.0.0.0/8:81 a:80", "example.org", 80, ALLOW_NO},
    {"10.0.0.0/8:81 a:80", "example.org", 81, ALLOW_RESOLVE},
    /* These are read as addresses by resolvers, in ways of their own: only what
     * comes out is judged. */
    {"10.0.0.0/8:80", "010.0.0.1", 80, ALLOW_RESOLVE},
    {"10.0.0.0/8:80", "10.1", 80, ALLOW_RESOLVE},
    {"10.0.0.1:80", "10.0.0.1.", 80, ALLOW_RESOLVE},
    {"10.0.0.0/8:80", "0x7f.1", 80, ALLOW_RESOLVE},
    {"10.0.0.0/8:80", "167772161", 80, ALLOW_RESOLVE},
    {"10.0.0.0/8:80", "127.1", 81, ALLOW_NO},
    {"localhost:80", "127.1", 80, ALLOW_NO},
    /* What is no host. */
    {"*:* 10.0.0.0/8:*", "", 80, ALLOW_NO},
    {"*:* 10.0.0.0/8:*", ".", 80, ALLOW_NO},
    {"*:* 10.0.0.0/8:*", "a b", 80, ALLOW_NO},
    {"*:* 10.0.0.0/8:*", "a\n", 80, ALLOW_NO},
    {"*:* 10.0.0.0/8:*", "a:80", 80, ALLOW_NO},
    {"*:* 10.0.0.0/8:*", "[::1]", 80, ALLOW_NO},
    {"*:* 10.0.0.0/8:*", "::1%lo", 80, ALLOW_NO},
    {"*:* 10.0.0.0/8:*", " 10.0.0.1", 80, ALLOW_NO},
    {"*:* 10.0.0.0/8:*", "10.0.0.1/8", 80, ALLOW_NO},
    {"*:* 10.0.0.0/8:*", "*", 80, ALLOW_NO},
    {"*:* 10.0.0.0/8:*", "unix:/a", 80, ALLOW_NO},
};

static void judges_hosts(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(hosts); i++)
    if (judge(hosts[i].patterns, hosts[i].host, hosts[i].port) !=
        hosts[i].verdict)
      fail_msg("%s %s %u", hosts[i].patterns, hosts[i].host, hosts[i].port);
}

static void names_allow_no_address(void **state) {
  (void)state;
  assert_false(judge_address("localhost:* *.example.org:*", "127.0.0.1", 80));
}

static void other_families_are_refused(void **state) {
  (void)state;
  struct allow_list list;
  assert_int_equal(parse(&list, "*:* 0.0.0.0/0:* [::]/0:*", NULL), 0);
  struct sockaddr_storage address;
  memset(&address, 0, sizeof address);
  address.ss_family = AF_UNIX;
  assert_false(allow_address(&list, (struct sockaddr *)&address, 80));
  address.ss_family = AF_UNSPEC;
  assert_false(allow_address(&list, (struct sockaddr *)&address, 80));
  address.ss_family = AF_INET;
  assert_true(allow_address(&list, (struct sockaddr *)&address, 80));
  assert_false(allow_address(&list, (struct sockaddr *)&address, 0));
  allow_clear(&list);
}

static const char *const bad[][2] = {
    {"", "must be"},
    {":", "must be"},
    {"a", "must be"},
    {"a:", "must be"},
    {":80", "a host is"},
    {"[::1]", "must be"},
    {"[::1]80", "must be"},
    {"80", "must be"},
    {"10.0.0.1/8:80", "beyond its mask"},
    {"10.0.0.1/31:80", "beyond its mask"},
    {"10.0.0.1/0:80", "beyond its mask"},
    {"128.0.0.0/0:80", "beyond its mask"},
    {"[fd00::1]/8:80", "beyond its mask"},
    {"[fd00::1/127]:80", "beyond its mask"},
    {"[::ffff:10.0.0.1]/104:80", "beyond its mask"},
    {"[::ffff:0.0.0.0]/95:80", "beyond its mask"},
    {"[::ffff:0.0.0.0]/0:80", "beyond its mask"},
    {"10.0.0.0/33:80", "/0 to /32"},
    {"[::]/129:80", "/0 to /128"},
    {"10.0.0.0/:80", "number of bits"},
    {"10.0.0.0/08:80", "number of bits"},
    {"10.0.0.0/+8:80", "number of bits"},
    {"10.0.0.0/8/8:80", "number of bits"},
    {"10.0.0.0/4294967304:80", "number of bits"},
    {"10.0.0.0/255.0.0.0:80", "number of bits"},
    {"[::]/:80", "number of bits"},
    {"[::/8]/8:80", "one mask"},
    {"[::]8:80", "one mask"},
    {"[::]/8 :80", "number of bits"},
    {"10/8:80", "all its four numbers"},
    {"10.0.0/24:80", "all its four numbers"},
    {"010.0.0.0/8:80", "all its four numbers"},
    {"*/8:80", "all its four numbers"},
    {"example.org/8:80", "all its four numbers"},
    {"/8:80", "all its four numbers"},
    {"10.1:80", "ends in a number"},
    {"010.0.0.1:80", "ends in a number"},
    {"10.0.0.256:80", "ends in a number"},
    {"10.0.0.1.:80", "ends in a number"},
    {"0x7f.0x1:80", "ends in a number"},
    {"0X7F:80", "ends in a number"},
    {"2130706433:80", "ends in a number"},
    {"*.1:80", "ends in a number"},
    {"*.0.0.1.:80", "ends in a number"},
    {"::1:80", "brackets"},
    {"fd00::/8:22", "brackets"},
    {"a:80:90", "brackets"},
    {"[::1:80", "']' is missing"},
    {"[10.0.0.1]:80", "IPv6 address"},
    {"[a]:80", "IPv6 address"},
    {"[::1%lo]:80", "zone"},
    {"[]:80", "IPv6 address"},
    {"*.:80", "a host is"},
    {"*a.org:80", "a host is"},
    {"a.*:80", "a host is"},
    {"*.*:80", "a host is"},
    {"**:80", "a host is"},
    {"*..a:80", "a host is"},
    {"a..b:80", "a host is"},
    {".a:80", "a host is"},
    {".:80", "a host is"},
    {"a~b:80", "a host is"},
    {"a\tb:80", "a host is"},
    {"a\n:80", "a host is"},
    {"\001:80", "a host is"},
    {"a:0", "ports are"},
    {"a:65536", "ports are"},
    {"a:080", "ports are"},
    {"a:+80", "ports are"},
    {"a:80,", "ports are"},
    {"a:,80", "ports are"},
    {"a:80,,81", "ports are"},
    {"a:90-80", "ports are"},
    {"a:80-", "ports are"},
    {"a:-80", "ports are"},
    {"a:-", "ports are"},
    {"a:1-2-3", "ports are"},
    {"a:0-80", "ports are"},
    {"a:80-65536", "ports are"},
    {"a:*,80", "ports are"},
    {"a:80,*", "ports are"},
    {"a:http", "ports are"},
    {"a:80\n", "ports are"},
    {"a:4294967376", "ports are"},
};

static void refuses_patterns(void **state) {
  (void)state;
  struct allow_list before, list;
  memset(&before, 0x5a, sizeof before);
  for (size_t i = 0; i < COUNT(bad); i++) {
    const char *patterns[] = {"10.0.0.0/8:80", "a:1", bad[i][0], "b:2"};
    struct dstream_end error = {.status = 0};
    list = before;
    if (allow_parse(&list, patterns, COUNT(patterns), &error) != DSTREAM_EINVAL)
      fail_msg("took \"%s\"", bad[i][0]);
    assert_memory_equal(&list, &before, sizeof list);
    assert_int_equal(error.status, DSTREAM_EINVAL);
    if (strstr(error.text, bad[i][1]) == NULL ||
        strstr(error.text, " is no pattern: ") == NULL)
      fail_msg("\"%s\": %s", bad[i][0], error.text);
    for (const char *p = error.text; *p != '\0'; p++)
      assert_in_range(*p, 0x20, 0x7e);
    assert_int_equal(allow_parse(&list, patterns, COUNT(patterns), NULL),
                     DSTREAM_EINVAL);
  }
}

static void spaces_are_no_part_of_a_pattern(void **state) {
  (void)state;
  static const char *const rows[] = {
      "a: 80", " a:80",    "a:80 ",          "a:80, 443",
      "a :80", "a:80 -90", "10.0.0.0 /8:80", "10.0.0.0/ 8:80"};
  for (size_t i = 0; i < COUNT(rows); i++) {
    struct allow_list list;
    assert_int_equal(allow_parse(&list, &rows[i], 1, NULL), DSTREAM_EINVAL);
  }
}

static void has_bounds(void **state) {
  (void)state;
  char text[1000] = "a:1";
  for (int i = 2; i <= 64; i++)
    snprintf(text + strlen(text), sizeof text - strlen(text), ",%d", i);
  assert_int_equal(judge(text, "a", 64), ALLOW_YES);
  struct allow_list list;
  struct dstream_end error;
  snprintf(text + strlen(text), sizeof text - strlen(text), ",65");
  assert_int_equal(parse(&list, text, &error), DSTREAM_EINVAL);
  assert_non_null(strstr(error.text, "more than 64"));

  memset(text, 'x', sizeof text);
  memcpy(text + 253, ":80", 4);
  assert_int_equal(parse(&list, text, NULL), DSTREAM_OK);
  allow_clear(&list);
  memset(text, 'x', sizeof text);
  memcpy(text + 254, ":80", 4);
  assert_int_equal(parse(&list, text, &error), DSTREAM_EINVAL);
  assert_non_null(strstr(error.text, "or an address")); /* not cut off */
}

static void allows_nothing_at_first(void **state) {
  (void)state;
  struct allow_list list = {NULL, 0};
  assert_int_equal(allow_host(&list, "a", 80), ALLOW_NO);
  assert_int_equal(allow_host(&list, "127.0.0.1", 80), ALLOW_NO);
  list.count = 5;
  assert_int_equal(allow_parse(&list, NULL, 0, NULL), DSTREAM_OK);
  assert_int_equal(list.count, 0);
  assert_int_equal(allow_host(&list, "a", 80), ALLOW_NO);
  allow_clear(&list);
  allow_clear(&list);
  allow_clear(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(judges_addresses),
      cmocka_unit_test(judges_hosts),
      cmocka_unit_test(names_allow_no_address),
      cmocka_unit_test(other_families_are_refused),
      cmocka_unit_test(refuses_patterns),
      cmocka_unit_test(spaces_are_no_part_of_a_pattern),
      cmocka_unit_test(has_bounds),
      cmocka_unit_test(allows_nothing_at_first),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
