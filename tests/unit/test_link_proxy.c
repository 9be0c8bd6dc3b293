/* net/link_proxy: the proxy's URL, the CONNECT request, the answer at every
 * length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/link_proxy.h"

static void test_urls(void **state) {
  static const struct {
    const char *url;
    const char *host;
    uint16_t port;
  } good[] = {
      {"http://proxy", "proxy", 80},
      {"http://proxy:3128", "proxy", 3128},
      {"http://proxy:3128/", "proxy", 3128},
      {"http://user:secret@proxy:8080", "proxy", 8080},
      {"http://[::1]:8080", "::1", 8080},
      {"http://[::1]", "::1", 80},
      {"http://proxy/path@x", "proxy", 80},
  };
  static const char *const bad[] = {
      "proxy:3128",         "https://proxy",    "http://",
      "http://:80",         "http://proxy:",    "http://proxy:0",
      "http://proxy:65536", "http://proxy:80x", "http://[::1",
      "http://a%zz@proxy",  "http://[::1]x",    "http://[::1]x:80",
      "http://a b",         "http://a\nb:80",   "http://[]:80",
      "http://user@",       "http://proxy:-1",
  };
  (void)state;
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    struct link_proxy proxy;
    assert_int_equal(link_proxy_parse(&proxy, good[i].url, NULL), 0);
    assert_string_equal(proxy.host, good[i].host);
    assert_int_equal(proxy.port, good[i].port);
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct link_proxy proxy;
    struct dstream_end error;
    assert_int_equal(link_proxy_parse(&proxy, bad[i], &error), DSTREAM_EINVAL);
    assert_non_null(strstr(error.text, "http://"));
  }
}

static void test_no_proxy(void **state) {
  (void)state;
  struct link_proxy proxy;
  assert_int_equal(link_proxy_parse(&proxy, NULL, NULL), 0);
  assert_string_equal(proxy.host, "");
  assert_int_equal(link_proxy_parse(&proxy, "", NULL), 0);
  assert_string_equal(proxy.host, "");
}

static void expect_request(const char *url, const char *host, uint16_t port,
                           const char *text) {
  struct link_proxy proxy;
  char request[LINK_PROXY_REQUEST_SIZE];
  assert_int_equal(link_proxy_parse(&proxy, url, NULL), 0);
  assert_int_equal(link_proxy_request(&proxy, host, port, request),
                   strlen(text));
  assert_string_equal(request, text);
}

static void test_requests(void **state) {
  (void)state;
  expect_request("http://p", "hub.example.net", 443,
                 "CONNECT hub.example.net:443 HTTP/1.1\r\n"
                 "Host: hub.example.net:443\r\n\r\n");
  expect_request("http://p", "::1", 8883,
                 "CONNECT [::1]:8883 HTTP/1.1\r\nHost: [::1]:8883\r\n\r\n");
  /* "Aladdin:open sesame", RFC 7617 section 2. */
  expect_request("http://Aladdin:open%20sesame@p", "h", 1,
                 "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n"
                 "Proxy-Authorization: Basic "
                 "QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n");
}

static int check(const char *answer, size_t len, struct dstream_end *end) {
  struct link_proxy proxy;
  link_proxy_parse(&proxy, "http://proxy:3128", NULL);
  return link_proxy_check(&proxy, answer, len, "hub", 443, end);
}

static void test_answers_at_every_length(void **state) {
  static const char good[] = "HTTP/1.1 200 Connection established\r\n"
                             "Via: x\r\n\r\n";
  struct dstream_end end;
  (void)state;
  for (size_t len = 0; len < sizeof good - 1; len++)
    assert_int_equal(check(good, len, &end), DSTREAM_EAGAIN);
  assert_int_equal(check(good, sizeof good - 1, &end), 0);
  assert_int_equal(check(good, sizeof good, &end), DSTREAM_EPROXY);
}

static void test_refusals(void **state) {
  static const char no[] = "HTTP/1.1 403 Forbidden\r\n\r\nbody";
  static const char who[] = "HTTP/1.1 407 Who?\r\n\r\n";
  static const char ssh[] = "SSH-2.0-OpenSSH_9.2\r\n\r\n";
  struct dstream_end end;
  (void)state;
  assert_int_equal(check(no, sizeof no - 1, &end), DSTREAM_EPROXY);
  assert_int_equal(end.http_status, 403);
  assert_non_null(strstr(end.text, "proxy:3128 answered 403"));
  assert_int_equal(check(who, sizeof who - 1, &end), DSTREAM_EPROXY);
  assert_non_null(strstr(end.text, "user:password"));
  assert_int_equal(check(ssh, sizeof ssh - 1, &end), DSTREAM_EPROXY);
  assert_non_null(strstr(end.text, "does not speak HTTP"));
}

static void test_answer_is_bounded(void **state) {
  static char endless[LINK_PROXY_HEAD_MAX];
  struct dstream_end end;
  (void)state;
  memset(endless, 'a', sizeof endless);
  memcpy(endless, "HTTP/1.1 200 ", 13);
  assert_int_equal(check(endless, sizeof endless - 1, &end), DSTREAM_EAGAIN);
  assert_int_equal(check(endless, sizeof endless, &end), DSTREAM_EPROXY);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_urls),
      cmocka_unit_test(test_no_proxy),
      cmocka_unit_test(test_requests),
      cmocka_unit_test(test_answers_at_every_length),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_answer_is_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
