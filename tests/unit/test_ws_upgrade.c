#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/ws_upgrade.h"

/* RFC 6455 1.3 */
#define KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static void computes_the_accept_of_the_rfc(void **state) {
  (void)state;
  char accept[WS_ACCEPT_SIZE];
  assert_int_equal(ws_upgrade_accept_value(slice_of(KEY), accept), 0);
  assert_string_equal(accept, ACCEPT);
}

static void makes_keys_that_a_server_takes(void **state) {
  (void)state;
  char a[WS_KEY_SIZE], b[WS_KEY_SIZE];
  assert_int_equal(ws_upgrade_key(a), 0);
  assert_int_equal(ws_upgrade_key(b), 0);
  assert_int_equal(strlen(a), 24);
  assert_string_not_equal(a, b);
}

/* ---- client ---- */

static int write_request(const char *host, const char *path, const char *token,
                         char *out, size_t size, size_t *len) {
  struct ws_upgrade_request request = {
      .host = host, .path = path, .token = token, .key = KEY};
  return ws_upgrade_request_write(&request, out, size, len);
}

static void writes_the_request(void **state) {
  (void)state;
  char out[512];
  size_t len = 0;
  const char expected[] = "GET /bridges/h/d?x=y HTTP/1.1\r\n"
                          "Host: gateway.example:8443\r\n"
                          "Upgrade: websocket\r\n"
                          "Connection: Upgrade\r\n"
                          "Sec-WebSocket-Key: " KEY "\r\n"
                          "Sec-WebSocket-Version: 13\r\n"
                          "Authorization: Bearer a.b.c\r\n"
                          "\r\n";
  assert_int_equal(write_request("gateway.example:8443", "/bridges/h/d?x=y",
                                 "a.b.c", out, sizeof out, &len),
                   0);
  assert_int_equal(len, sizeof expected - 1);
  assert_memory_equal(out, expected, len);
  for (size_t size = 0; size <= len; size++)
    assert_int_equal(write_request("gateway.example:8443", "/bridges/h/d?x=y",
                                   "a.b.c", out, size, &len),
                     DSTREAM_ELIMIT);
  assert_int_equal(write_request("h", "/", NULL, out, sizeof out, &len), 0);
  assert_null(strstr(out, "Authorization"));
}

static void refuses_texts_that_do_not_fit_into_http(void **state) {
  (void)state;
  static char out[16384], token[WS_TOKEN_MAX + 2];
  size_t len;
  static const struct {
    const char *host, *path, *token;
  } bad[] = {
      {"", "/", "t"},     {NULL, "/", "t"},        {"h", NULL, "t"},
      {"h", "", "t"},     {"h", "x", "t"},         {"h", "/", ""},
      {"a b", "/", "t"},  {"h\r\nX: y", "/", "t"}, {"h", "/ HTTP/1.1", "t"},
      {"h", "/\n", "t"},  {"h", "/", "t\r\nX: y"}, {"h", "/", "a b"},
      {"h", "/", "\x7f"}, {"h", "/\xc3\xa4", "t"}, {"h", "/", "t\t"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(write_request(bad[i].host, bad[i].path, bad[i].token, out,
                                   sizeof out, &len),
                     DSTREAM_EINVAL);
  memset(token, 't', sizeof token - 1);
  assert_int_equal(write_request("h", "/", token, out, sizeof out, &len),
                   DSTREAM_EINVAL);
  token[WS_TOKEN_MAX] = '\0';
  assert_int_equal(write_request("h", "/", token, out, sizeof out, &len), 0);
}

static int check_response(const char *text, struct dstream_end *end) {
  struct http_head head;
  memset(end, 0, sizeof *end);
  assert_int_equal(http_head_parse_response(&head, text, strlen(text)), 0);
  int rc = ws_upgrade_check_response(&head, ACCEPT, end);
  assert_int_equal(rc, end->status);
  if (rc != 0)
    assert_true(strlen(end->text) > 20);
  return rc;
}

#define UPGRADE "Upgrade: websocket\r\n"
#define CONNECT "Connection: Upgrade\r\n"
#define ACCEPTS "Sec-WebSocket-Accept: " ACCEPT "\r\n"

static void takes_the_right_answer(void **state) {
  (void)state;
  struct dstream_end end;
  assert_int_equal(
      check_response(
          "HTTP/1.1 101 Switching Protocols\r\n" UPGRADE CONNECT ACCEPTS "\r\n",
          &end),
      0);
  assert_int_equal(check_response("HTTP/1.1 101\r\n"
                                  "upgrade: WebSocket\r\n"
                                  "connection: keep-alive, upgrade\r\n"
                                  "sec-websocket-accept: " ACCEPT "\r\n\r\n",
                                  &end),
                   0);
}

static void refuses_a_wrong_101(void **state) {
  (void)state;
  static const char *const wrong[] = {
      "HTTP/1.1 101 x\r\n" CONNECT ACCEPTS "\r\n",
      "HTTP/1.1 101 x\r\n" UPGRADE ACCEPTS "\r\n",
      "HTTP/1.1 101 x\r\n" UPGRADE CONNECT "\r\n",
      "HTTP/1.0 101 x\r\n" UPGRADE CONNECT ACCEPTS "\r\n",
      "HTTP/1.1 101 x\r\nUpgrade: h2c\r\n" CONNECT ACCEPTS "\r\n",
      "HTTP/1.1 101 x\r\n" UPGRADE "Connection: close\r\n" ACCEPTS "\r\n",
      "HTTP/1.1 101 x\r\n" UPGRADE CONNECT
      "Sec-WebSocket-Accept: S3PPLMBITXAQ9KYGZZHZRBK+XOO=\r\n\r\n",
      "HTTP/1.1 101 x\r\n" UPGRADE CONNECT ACCEPTS
      "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
      "HTTP/1.1 101 x\r\n" UPGRADE CONNECT ACCEPTS
      "Sec-WebSocket-Protocol: mqtt\r\n\r\n",
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    struct dstream_end end;
    assert_int_equal(check_response(wrong[i], &end), DSTREAM_EUPGRADE);
    assert_int_equal(end.http_status, 101);
  }
}

static void tells_other_answers_apart(void **state) {
  (void)state;
  static const struct {
    int http_status, status;
  } cases[] = {
      {200, DSTREAM_EUPGRADE},      {302, DSTREAM_EUPGRADE},
      {400, DSTREAM_EUPGRADE},      {401, DSTREAM_EUNAUTHORIZED},
      {403, DSTREAM_EUNAUTHORIZED}, {404, DSTREAM_EUPGRADE},
      {429, DSTREAM_ETHROTTLED},    {500, DSTREAM_EUPGRADE},
      {999, DSTREAM_EUPGRADE},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[64];
    struct dstream_end end;
    snprintf(text, sizeof text, "HTTP/1.1 %d Why\xff not\r\n\r\n",
             cases[i].http_status);
    assert_int_equal(check_response(text, &end), cases[i].status);
    assert_int_equal(end.http_status, cases[i].http_status);
    assert_non_null(strstr(end.text, "Why? not"));
  }
}

/* ---- server ---- */

#define START   "GET /x HTTP/1.1\r\n"
#define HOST    "Host: h\r\n"
#define KEYED   "Sec-WebSocket-Key: " KEY "\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"

/* 0, or the status to answer. */
static int check_request(const char *text) {
  struct http_head head;
  struct slice key = {NULL, 0};
  int http_status = 0;
  assert_int_equal(http_head_parse_request(&head, text, strlen(text)), 0);
  int rc = ws_upgrade_check_request(&head, &key, &http_status);
  if (rc == 0) {
    assert_true(slice_eq(key, KEY));
    return 0;
  }
  assert_int_equal(rc, DSTREAM_EUPGRADE);
  return http_status;
}

static void takes_a_request(void **state) {
  (void)state;
  assert_int_equal(
      check_request(START HOST UPGRADE CONNECT KEYED VERSION "\r\n"), 0);
  /* what the official Node client offers is declined by silence */
  assert_int_equal(check_request(START HOST "Upgrade: h2c, WebSocket\r\n"
                                            "Connection: keep-alive, "
                                            "Upgrade\r\n" KEYED VERSION
                                            "Sec-WebSocket-Extensions: "
                                            "permessage-deflate\r\n\r\n"),
                   0);
}

static void refuses_requests(void **state) {
  (void)state;
  static const struct {
    int http_status;
    const char *text;
  } cases[] = {
      {405, "POST /x HTTP/1.1\r\n" HOST UPGRADE CONNECT KEYED VERSION "\r\n"},
      {405, "get /x HTTP/1.1\r\n" HOST UPGRADE CONNECT KEYED VERSION "\r\n"},
      {400, "GET /x HTTP/1.0\r\n" HOST UPGRADE CONNECT KEYED VERSION "\r\n"},
      {400, START UPGRADE CONNECT KEYED VERSION "\r\n"},
      {400, START HOST HOST UPGRADE CONNECT KEYED VERSION "\r\n"},
      {426, START HOST CONNECT KEYED VERSION "\r\n"},
      {426, START HOST "\r\n"},
      {426, START HOST UPGRADE CONNECT KEYED "\r\n"},
      {426,
       START HOST UPGRADE CONNECT KEYED "Sec-WebSocket-Version: 8\r\n\r\n"},
      {400, START HOST UPGRADE CONNECT KEYED VERSION VERSION "\r\n"},
      {400, START HOST UPGRADE KEYED VERSION "\r\n"},
      {400, START HOST UPGRADE "Connection: close\r\n" KEYED VERSION "\r\n"},
      {400, START HOST UPGRADE CONNECT VERSION "\r\n"},
      {400, START HOST UPGRADE CONNECT KEYED KEYED VERSION "\r\n"},
      {400, START HOST UPGRADE CONNECT VERSION "Sec-WebSocket-Key:\r\n\r\n"},
      {400, START HOST UPGRADE CONNECT VERSION
       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=\r\n\r\n"},
      {400, START HOST UPGRADE CONNECT VERSION
       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy\r\n\r\n"},
      {400, START HOST UPGRADE CONNECT VERSION
       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j*Q==\r\n\r\n"},
      {400,
       START HOST UPGRADE CONNECT KEYED VERSION "Content-Length: 5\r\n\r\n"},
      {400, START HOST UPGRADE CONNECT KEYED VERSION
       "Content-Length: 0\r\nContent-Length: 0\r\n\r\n"},
      {400, START HOST UPGRADE CONNECT KEYED VERSION
       "Transfer-Encoding: chunked\r\n\r\n"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    if (check_request(cases[i].text) != cases[i].http_status)
      fail_msg("%d, not %d: %s", check_request(cases[i].text),
               cases[i].http_status, cases[i].text);
}

static void finds_the_subprotocol(void **state) {
  (void)state;
  struct http_head head;
  const char text[] = START HOST "Sec-WebSocket-Protocol: chat, MQTT\r\n"
                                 "Sec-WebSocket-Protocol: mqttv3.1\r\n\r\n";
  assert_int_equal(http_head_parse_request(&head, text, strlen(text)), 0);
  assert_true(slice_eq(ws_upgrade_find_subprotocol(&head, "mqtt"), "MQTT"));
  assert_true(
      slice_eq(ws_upgrade_find_subprotocol(&head, "MQTTV3.1"), "mqttv3.1"));
  assert_null(ws_upgrade_find_subprotocol(&head, "amqp").p);
  assert_null(ws_upgrade_find_subprotocol(&head, NULL).p);
}

static void writes_the_response(void **state) {
  (void)state;
  char out[512];
  size_t len = 0;
  const char expected[] =
      "HTTP/1.1 101 Switching Protocols\r\n" UPGRADE CONNECT ACCEPTS
      "Sec-WebSocket-Protocol: MQTT\r\n\r\n";
  assert_int_equal(ws_upgrade_response_write(ACCEPT, slice_of("MQTT"), out,
                                             sizeof out, &len),
                   0);
  assert_int_equal(len, sizeof expected - 1);
  assert_memory_equal(out, expected, len);
  for (size_t size = 0; size <= len; size++)
    assert_int_equal(
        ws_upgrade_response_write(ACCEPT, slice_of("MQTT"), out, size, &len),
        DSTREAM_ELIMIT);
  struct dstream_end end;
  assert_int_equal(ws_upgrade_response_write(ACCEPT, (struct slice){NULL, 0},
                                             out, sizeof out, &len),
                   0);
  assert_int_equal(check_response(out, &end), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(computes_the_accept_of_the_rfc),
      cmocka_unit_test(makes_keys_that_a_server_takes),
      cmocka_unit_test(writes_the_request),
      cmocka_unit_test(refuses_texts_that_do_not_fit_into_http),
      cmocka_unit_test(takes_the_right_answer),
      cmocka_unit_test(refuses_a_wrong_101),
      cmocka_unit_test(tells_other_answers_apart),
      cmocka_unit_test(takes_a_request),
      cmocka_unit_test(refuses_requests),
      cmocka_unit_test(finds_the_subprotocol),
      cmocka_unit_test(writes_the_response),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
