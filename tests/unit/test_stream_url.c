#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/stream_url.h"

#define HEX "00112233445566778899aabbccddeeff"

static void takes(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *host;
    int port;
    const char *target;
    const char *header;
  } rows[] = {
      {"wss://a.example:443/bridges/hub/dev/" HEX, "a.example", 443,
       "/bridges/hub/dev/" HEX, "a.example"},
      {"wss://a.example/bridges/ih/hub/d/dev/sid/" HEX "/r/device", "a.example",
       443, "/bridges/ih/hub/d/dev/sid/" HEX "/r/device", "a.example"},
      {"wss://localhost:8443/s/1?role=device&x=%2F", "localhost", 8443,
       "/s/1?role=device&x=%2F", "localhost:8443"},
      {"WSS://127.0.0.1", "127.0.0.1", 443, "/", "127.0.0.1"},
      {"wss://h:/x", "h", 443, "/x", "h"},
      {"wss://h?q=1", "h", 443, "/?q=1", "h"},
      {"wss://[::1]:65535/", "::1", 65535, "/", "[::1]:65535"},
      {"wss://[2001:db8::7]", "2001:db8::7", 443, "/", "[2001:db8::7]"},
      {"wss://h:1/a:b@c", "h", 1, "/a:b@c", "h:1"},
      {"wss://h/a//b?c?d/e", "h", 443, "/a//b?c?d/e", "h"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct stream_url url;
    char header[264];
    assert_int_equal(stream_url_parse(&url, rows[i].text), 0);
    assert_true(url.tls);
    assert_string_equal(url.host, rows[i].host);
    assert_int_equal(url.port, rows[i].port);
    assert_string_equal(url.target, rows[i].target);
    assert_int_equal(stream_url_host_header(&url, header, sizeof header),
                     strlen(rows[i].header));
    assert_string_equal(header, rows[i].header);
    assert_int_equal(
        stream_url_host_header(&url, header, strlen(rows[i].header)),
        DSTREAM_ELIMIT);
  }
}

static void refuses(void **state) {
  (void)state;
  static const char *const bad[] = {
      "",
      "wss",
      "wss:",
      "wss://",
      "wss:///x",
      "wss://:443/",
      "ws://h/",
      "https://h/",
      " wss://h/",
      "wss://user@h/",
      "wss://user:pw@h/",
      "wss://h:0/",
      "wss://h:65536/",
      "wss://h:99999999999999999999/",
      "wss://h:4x3/",
      "wss://h:-1/",
      "wss://h: 443/",
      "wss://[::1/",
      "wss://[]/",
      "wss://[dead]/",
      "wss://[fe80::1%25eth0]/",
      "wss://[::1]x/",
      "wss://::1/",
      "wss://h/#f",
      "wss://h#f",
      "wss://h/a b",
      "wss://h/a\r\nX: y",
      "wss://h/\x7f",
      "wss://h/\xc3\xa9",
      "wss://h\xc3\xa9/",
      "wss://h h/",
      "wss://h\\x/",
      "wss://%68/",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct stream_url url;
    memset(&url, 0xee, sizeof url);
    assert_int_equal(stream_url_parse(&url, bad[i]), DSTREAM_EFORMAT);
    assert_false(url.tls);
    assert_int_equal(url.host[0], 0);
  }
}

static void bounds_the_host_and_the_target(void **state) {
  (void)state;
  struct stream_url url;
  char text[2048] = "wss://";
  memset(text + 6, 'h', 255);
  assert_int_equal(stream_url_parse(&url, text), 0);
  assert_int_equal(strlen(url.host), 255);
  text[6 + 255] = 'h';
  assert_int_equal(stream_url_parse(&url, text), DSTREAM_ELIMIT);

  memset(text, 0, sizeof text);
  memcpy(text, "wss://h/", 8);
  memset(text + 8, 't', sizeof url.target - 2);
  assert_int_equal(stream_url_parse(&url, text), 0);
  assert_int_equal(strlen(url.target), sizeof url.target - 1);
  text[8 + sizeof url.target - 2] = 't';
  assert_int_equal(stream_url_parse(&url, text), DSTREAM_ELIMIT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(takes),
      cmocka_unit_test(refuses),
      cmocka_unit_test(bounds_the_host_and_the_target),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
