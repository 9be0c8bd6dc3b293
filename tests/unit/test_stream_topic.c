#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/stream_topic.h"

#include "core/caps.h"
#include "core/stream_url.h"

#define POST "$iothub/streams/POST/"
#define URL  "wss://gw.example:443/bridges/hub/dev/1"
#define EURL "wss%3A%2F%2Fgw.example%3A443%2Fbridges%2Fhub%2Fdev%2F1"
#define REST "&$url=" EURL "&$auth=tok.e-n_1"

static struct stream_request request;
static struct dstream_end error;

static int parse(const char *topic) {
  memset(&request, 0xee, sizeof request);
  memset(&error, 0, sizeof error);
  return stream_topic_parse(&request, topic, strlen(topic), &error);
}

static void is_canonical(void) {
  assert_true(slice_eq(request.name_raw, "TestStream"));
  assert_string_equal(request.name, "TestStream");
  assert_string_equal(request.rid, "1");
  assert_string_equal(request.url, URL);
  assert_string_equal(request.token, "tok.e-n_1");
  assert_int_equal(request.caps.len, 0);
}

/* What the official parsers accept, and what kills one of them though nothing
 * is wrong with it. */
static void takes(void **state) {
  (void)state;
  static const char *const topics[] = {
      POST "TestStream/?$rid=1" REST,
      /* other order, unknown keys, the old $ip */
      POST "TestStream/?$auth=tok.e-n_1&$url=" EURL "&$rid=1",
      POST "TestStream/?$x=1&$rid=1" REST "&y=2",
      POST "TestStream/?$rid=1" REST "&$ip=10.0.0.1",
      /* no '?' before the bag */
      POST "TestStream/$rid=1" REST,
      /* trailing '&', "&&" */
      POST "TestStream/?$rid=1" REST "&",
      POST "TestStream/?$rid=1&&" REST,
      /* empty value, key without '=' */
      POST "TestStream/?$rid=1" REST "&$ip=",
      POST "TestStream/?$rid=1" REST "&$ip",
      POST "TestStream/?$rid=1" REST "&=",
      /* the url not encoded, with its '/' */
      POST "TestStream/?$rid=1&$url=" URL "&$auth=tok.e-n_1",
      POST "TestStream/?$rid=1" REST "&$caps=",
  };
  for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
    if (parse(topics[i]) != 0)
      fail_msg("%s: %s", topics[i], error.text);
    is_canonical();
  }
}

static void keeps_what_follows_the_first_equals_sign(void **state) {
  (void)state;
  assert_int_equal(parse(POST "n/?$rid=1=2&$url=" EURL "%3Fa%3Db&$auth=tok="),
                   0);
  assert_string_equal(request.rid, "1=2");
  assert_string_equal(request.url, URL "?a=b");
  assert_string_equal(request.token, "tok=");
  assert_int_equal(parse(POST "n/?$rid=1&$url=" EURL "?a=b&$auth=a=b="), 0);
  assert_string_equal(request.url, URL "?a=b");
  assert_string_equal(request.token, "a=b=");
}

static void a_plus_stays_one(void **state) {
  (void)state;
  assert_int_equal(parse(POST "a+b/?$rid=1&$url=" EURL "%2Fa+b&$auth=t+u"), 0);
  assert_string_equal(request.name, "a+b");
  assert_string_equal(request.url, URL "/a+b");
  assert_string_equal(request.token, "t+u");
}

static void a_token_is_decoded_if_it_is_encoded(void **state) {
  (void)state;
  assert_int_equal(parse(POST "n/?$rid=1&$url=" EURL "&$auth=a%2Fb%3D"), 0);
  assert_string_equal(request.token, "a/b=");
}

static void the_name_has_two_forms(void **state) {
  (void)state;
  static const char *const rows[][2] = {
      {"a%20b", "a b"},
      {"a%2Fb", "a/b"},
      {"100%", "100%"},
      {"%zz", "%zz"},
      {"a%00b", "a%00b"},
      {"a%0Ab", "a%0Ab"},
      {"caf\xc3\xa9", "caf\xc3\xa9"},
      {"caf%C3%A9", "caf\xc3\xa9"},
      {"?name", "?name"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char topic[256] = POST;
    memcpy(topic + strlen(topic), rows[i][0], strlen(rows[i][0]) + 1);
    memcpy(topic + strlen(topic), "/?$rid=1" REST, sizeof("/?$rid=1" REST));
    if (rows[i][0][0] == '?') {
      assert_int_equal(parse(topic), DSTREAM_ETOPIC);
      continue;
    }
    assert_int_equal(parse(topic), 0);
    assert_true(slice_eq(request.name_raw, rows[i][0]));
    assert_string_equal(request.name, rows[i][1]);
  }
}

static void capabilities_come_along(void **state) {
  (void)state;
  const char *topic = POST "n/?$rid=1" REST "&$caps=eof,mux";
  assert_int_equal(parse(topic), 0);
  assert_true(slice_eq(request.caps, "eof,mux"));
  assert_true(caps_has(request.caps, CAPS_EOF));
  assert_true(request.caps.p > topic && request.caps.p < topic + strlen(topic));
}

/* Refused, each with the id to answer, if there is one. */
static void refuses(void **state) {
  (void)state;
  static const struct {
    const char *topic;
    const char *rid;
    const char *word;
  } rows[] = {
      /* no $rid */
      {POST "n/?" REST, "", "no $rid"},
      {POST "n/?$rid=" REST, "", "no $rid"},
      {POST "n/?$rid" REST, "", "no $rid"},
      {POST "n/?$rid=a b" REST, "", "can't be answered"},
      {POST "n/?$rid=a#" REST, "", "can't be answered"},
      {POST "n/?$rid=a+" REST, "", "can't be answered"},
      /* a key twice */
      {POST "n/?$rid=1" REST "&$rid=2", "1", "$rid twice"},
      {POST "n/?$rid=1" REST "&$url=" EURL, "1", "$url twice"},
      {POST "n/?$rid=1" REST "&$auth=x", "1", "$auth twice"},
      {POST "n/?$rid=1&$url=&$url=" EURL "&$auth=t", "1", "no $url"},
      /* no $url, no $auth */
      {POST "n/?$rid=1&$auth=t", "1", "no $url"},
      {POST "n/?$rid=1&$url=" EURL, "1", "no $auth"},
      {POST "n/?$rid=1&$url=" EURL "&$auth=", "1", "no $auth"},
      /* only four levels */
      {POST "name", "", "no $url"},
      {POST "name/", "", "no $url"},
      {POST "name/?", "", "no $url"},
      {POST "name?$rid=1" REST, "", "no $url"},
      /* no name */
      {POST "?$rid=1" REST, "1", "no stream name"},
      {POST "/?$rid=1" REST, "1", "no stream name"},
      {POST "?$rid=1&$url=" URL "&$auth=t", "1", "no stream name"},
      {POST, "", "no stream name"},
      /* an extra level */
      {POST "n/extra/?$rid=1" REST, "", "no $rid"},
      /* other keys */
      {POST "n/?%24rid=1&%24url=" EURL "&%24auth=t", "", "no $url"},
      {POST "n/?$RID=1&$URL=" EURL "&$AUTH=t", "", "no $url"},
      {POST "n/?rid=1&url=" EURL "&auth=t", "", "no $url"},
      /* other prefixes */
      {"$iothub/streams/post/n/?$rid=1" REST, "", "begin with"},
      {"$iothub/streams/POST", "", "begin with"},
      {"/$iothub/streams/POST/n/?$rid=1" REST, "", "begin with"},
      {"$iothub/streams/res/200/?$rid=1", "", "begin with"},
      {"", "", "begin with"},
      /* bad values */
      {POST "n/?$rid=1&$url=wss%3A%2F%2Fh%2&$auth=t", "1", "$url"},
      {POST "n/?$rid=1&$url=wss%3A%2F%2Fh%zz&$auth=t", "1", "$url"},
      {POST "n/?$rid=1&$url=wss%3A%2F%2Fh%00&$auth=t", "1", "$url"},
      {POST "n/?$rid=1&$url=wss%3A%2F%2Fh%2F%0D%0A&$auth=t", "1", "$url"},
      {POST "n/?$rid=1&$url=ws%3A%2F%2Fh&$auth=t", "1", "wss URL"},
      {POST "n/?$rid=1&$url=https%3A%2F%2Fh&$auth=t", "1", "wss URL"},
      {POST "n/?$rid=1&$url=wss%253A%252F%252Fh&$auth=t", "1", "wss URL"},
      {POST "n/?$rid=1&$url=" EURL "&$auth=a\r\nX: y", "1", "HTTP header"},
      {POST "n/?$rid=1&$url=" EURL "&$auth=a%0D%0AX", "1", "HTTP header"},
      {POST "n/?$rid=1&$url=" EURL "&$auth=a%20b", "1", "HTTP header"},
      {POST "n/?$rid=1&$url=" EURL "&$auth=a%", "1", "HTTP header"},
      {POST "n\n/?$rid=1" REST, "1", "printable"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (parse(rows[i].topic) != DSTREAM_ETOPIC)
      fail_msg("taken: %s", rows[i].topic);
    assert_string_equal(request.rid, rows[i].rid);
    assert_int_equal(error.status, DSTREAM_ETOPIC);
    if (strstr(error.text, rows[i].word) == NULL)
      fail_msg("%s: %s", rows[i].topic, error.text);
  }
}

static void zero_bytes_are_no_ends(void **state) {
  (void)state;
  static const char topic[] = POST "n/?$rid=1\0x" REST;
  assert_int_equal(
      stream_topic_parse(&request, topic, sizeof topic - 1, &error),
      DSTREAM_ETOPIC);
  static const char name[] = POST "n\0x/?$rid=1" REST;
  assert_int_equal(stream_topic_parse(&request, name, sizeof name - 1, NULL),
                   DSTREAM_ETOPIC);
}

static void every_prefix_is_refused_or_shorter(void **state) {
  (void)state;
  const char *topic = POST "TestStream/?$rid=1" REST;
  size_t token = strlen(topic) - strlen("tok.e-n_1");
  for (size_t len = 0; len < strlen(topic); len++) {
    int status = stream_topic_parse(&request, topic, len, NULL);
    assert_int_equal(status, len > token ? 0 : DSTREAM_ETOPIC);
    if (len > strlen(POST "TestStream/?$rid="))
      assert_string_equal(request.rid, "1");
    assert_int_equal(strlen(request.token), len > token ? len - token : 0);
  }
}

/* head, count times c, tail */
static const char *long_topic(const char *head, size_t count,
                              const char *tail) {
  static char topic[STREAM_TOPIC_SIZE * 2];
  size_t len = strlen(head);
  memcpy(topic, head, len);
  memset(topic + len, 'x', count);
  memcpy(topic + len + count, tail, strlen(tail) + 1);
  return topic;
}

static void bounds_every_part(void **state) {
  (void)state;
  static const struct {
    const char *head;
    size_t most;
    const char *tail;
    const char *rid;
  } rows[] = {
      {POST, STREAM_NAME_SIZE - 1, "/?$rid=1" REST, "1"},
      {POST "%zz", STREAM_NAME_SIZE - 4, "/?$rid=1" REST, "1"},
      {POST "n/?$rid=", STREAM_RID_SIZE - 1, REST, ""},
      {POST "n/?$rid=1&$url=wss%3A%2F%2Fh%2F", 1022, "&$auth=t", "1"},
      {POST "n/?$rid=1&$url=" EURL "&$auth=", STREAM_TOKEN_SIZE - 1, "", "1"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    assert_int_equal(
        parse(long_topic(rows[i].head, rows[i].most, rows[i].tail)), 0);
    assert_int_equal(
        parse(long_topic(rows[i].head, rows[i].most + 1, rows[i].tail)),
        DSTREAM_ETOPIC);
    assert_string_equal(request.rid, rows[i].rid);
  }
  const char *head = POST "n/?$rid=1" REST "&$x=";
  size_t most = STREAM_TOPIC_SIZE - 1 - strlen(head);
  assert_int_equal(parse(long_topic(head, most, "")), 0);
  assert_int_equal(parse(long_topic(head, most + 1, "")), DSTREAM_ETOPIC);
}

static void formats_a_request(void **state) {
  (void)state;
  char out[STREAM_TOPIC_SIZE];
  int n = stream_topic_format_request(out, sizeof out, "TestStream", "1", URL,
                                      "tok.e-n_1", NULL);
  assert_string_equal(out, POST "TestStream/?$rid=1" REST);
  assert_int_equal(n, strlen(out));
  assert_int_equal(parse(out), 0);
  is_canonical();

  n = stream_topic_format_request(out, sizeof out, "a/b c+#", "1", URL, "t",
                                  "eof");
  assert_string_equal(out, POST "a%2Fb%20c%2B%23/?$rid=1&$url=" EURL
                                "&$auth=t&$caps=eof");
  assert_int_equal(parse(out), 0);
  assert_string_equal(request.name, "a/b c+#");
  assert_true(slice_eq(request.caps, "eof"));

  for (size_t room = 0; room <= (size_t)n; room++) {
    memset(out, '!', sizeof out);
    assert_int_equal(
        stream_topic_format_request(out, room, "a/b c+#", "1", URL, "t", "eof"),
        DSTREAM_ELIMIT);
    assert_int_equal(out[room], '!');
    if (room > 0)
      assert_int_equal(out[0], '\0');
  }
  stream_topic_format_request(out, sizeof out, "n", "1", URL, "t", "");
  assert_null(strstr(out, "caps"));
}

static void formats_no_nonsense(void **state) {
  (void)state;
  static const char *const rows[][5] = {
      {"", "1", URL, "t", NULL},    {"n", "", URL, "t", NULL},
      {"n", "1", "", "t", NULL},    {"n", "1", URL, "", NULL},
      {"n", "1&", URL, "t", NULL},  {"n", "1/2", URL, "t", NULL},
      {"n", "1", URL, "t&u", NULL}, {"n", "1", URL, "t/u", NULL},
      {"n", "1", URL, "t u", NULL}, {"n", "1", URL, "t", "a&b"},
      {"n", "1", URL, "t", "a b"},  {"n", "1", URL, "t", "a\n"},
      {"n", "1", URL, "t", "a/b"},  {"n", "1+", URL, "t", NULL},
      {"n", "1", URL, "t#", NULL},
  };
  char out[512];
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    assert_int_equal(stream_topic_format_request(out, sizeof out, rows[i][0],
                                                 rows[i][1], rows[i][2],
                                                 rows[i][3], rows[i][4]),
                     DSTREAM_EINVAL);
    assert_string_equal(out, "");
  }
}

static void what_does_not_parse_is_not_formatted(void **state) {
  (void)state;
  char out[STREAM_TOPIC_SIZE];
  char name[STREAM_NAME_SIZE + 1] = {0};
  memset(name, '/', STREAM_NAME_SIZE - 1);
  assert_true(stream_topic_format_request(out, sizeof out, name, "1", URL, "t",
                                          NULL) > 0);
  assert_int_equal(parse(out), 0);
  assert_string_equal(request.name, name);
  name[STREAM_NAME_SIZE - 1] = '/';
  assert_int_equal(
      stream_topic_format_request(out, sizeof out, name, "1", URL, "t", NULL),
      DSTREAM_ELIMIT);
}

static void formats_responses(void **state) {
  (void)state;
  static const struct {
    int code;
    const char *rid;
    const char *caps;
    const char *reason;
    const char *topic;
  } rows[] = {
      {200, "1", NULL, NULL, "$iothub/streams/res/200/?$rid=1"},
      {400, "ab=", "", "", "$iothub/streams/res/400/?$rid=ab="},
      {200, "1", "eof", NULL, "$iothub/streams/res/200/?$rid=1&$caps=eof"},
      {400, "1", NULL, "no target called x & y",
       "$iothub/streams/res/400/?$rid=1"
       "&$reason=no%20target%20called%20x%20%26%20y"},
      {400, "1", "eof,mux", "caf\xc3\xa9",
       "$iothub/streams/res/400/?$rid=1&$caps=eof,mux&$reason=caf%C3%A9"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char out[256];
    struct stream_response response;
    size_t len = strlen(rows[i].topic);
    for (size_t room = 0; room <= len + 1; room++) {
      out[room] = '!';
      int n = stream_topic_format_response(out, room, rows[i].code, rows[i].rid,
                                           rows[i].caps, rows[i].reason);
      assert_int_equal(n, room > len ? (int)len : DSTREAM_ELIMIT);
      assert_int_equal(out[room], '!');
    }
    assert_string_equal(out, rows[i].topic);
    assert_int_equal(stream_topic_parse_response(&response, out, len), 0);
    assert_int_equal(response.code, rows[i].code);
    assert_string_equal(response.rid, rows[i].rid);
    assert_true(slice_eq(response.caps, rows[i].caps ? rows[i].caps : ""));
    assert_string_equal(response.reason, rows[i].reason ? rows[i].reason : "");
  }
  char out[256];
  assert_int_equal(
      stream_topic_format_response(out, sizeof out, 200, "a#", NULL, NULL),
      DSTREAM_EINVAL);
  assert_int_equal(
      stream_topic_format_response(out, sizeof out, 200, "", NULL, NULL),
      DSTREAM_EINVAL);
  assert_int_equal(
      stream_topic_format_response(out, sizeof out, 99, "1", NULL, NULL),
      DSTREAM_EINVAL);
  assert_int_equal(
      stream_topic_format_response(out, sizeof out, 1000, "1", NULL, NULL),
      DSTREAM_EINVAL);
  char rid[STREAM_RID_SIZE + 1];
  memset(rid, '7', sizeof rid);
  rid[STREAM_RID_SIZE] = '\0';
  assert_int_equal(
      stream_topic_format_response(out, sizeof out, 200, rid, NULL, NULL),
      DSTREAM_ELIMIT);
  rid[STREAM_RID_SIZE - 1] = '\0';
  assert_true(
      stream_topic_format_response(out, sizeof out, 200, rid, NULL, NULL) > 0);
  assert_int_equal(
      stream_topic_format_response(out, sizeof out, 200, "1", "a&b", NULL),
      DSTREAM_EINVAL);
}

static void a_long_reason_is_cut_between_characters(void **state) {
  (void)state;
  char reason[STREAM_REASON_SIZE * 2] = "x", out[STREAM_TOPIC_SIZE];
  for (size_t i = 0; i < STREAM_REASON_SIZE - 1; i += 2)
    memcpy(reason + 1 + i, "\xc3\xa9", 3);
  int n = stream_topic_format_response(out, sizeof out, 400, "1", NULL, reason);
  assert_true(n > 0);
  struct stream_response response;
  assert_int_equal(stream_topic_parse_response(&response, out, (size_t)n), 0);
  assert_int_equal(strlen(response.reason), STREAM_REASON_SIZE - 2);
  assert_memory_equal(response.reason, reason, STREAM_REASON_SIZE - 2);
}

static void takes_responses_as_devices_write_them(void **state) {
  (void)state;
  static const char *const topics[] = {
      "$iothub/streams/res/200/?$rid=1",
      "$iothub/streams/res/200/$rid=1",
      "$iothub/streams/res/200/?&x=y&$rid=1&",
      "$iothub/streams/res/200/?$rid=1&$reason=%zz",
      "$iothub/streams/res/200/?$rid=1&$reason=a%0Ab",
      "$iothub/streams/res/200/?$caps=&$rid=1"};
  for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
    struct stream_response response;
    assert_int_equal(
        stream_topic_parse_response(&response, topics[i], strlen(topics[i])),
        0);
    assert_int_equal(response.code, 200);
    assert_string_equal(response.rid, "1");
    assert_int_equal(response.caps.len, 0);
    assert_string_equal(response.reason, "");
  }
}

static void refuses_responses(void **state) {
  (void)state;
  static const char *const bad[] = {
      "",
      "$iothub/streams/res/",
      "$iothub/streams/res/200",
      "$iothub/streams/res/200/",
      "$iothub/streams/res/200/?",
      "$iothub/streams/res/200/?$rid=",
      "$iothub/streams/res/200/?$rid=1&$rid=1",
      "$iothub/streams/res/200/?$rid=a b",
      "$iothub/streams/res/20/?$rid=1",
      "$iothub/streams/res/2000/?$rid=1",
      "$iothub/streams/res/ 20/?$rid=1",
      "$iothub/streams/res/-20/?$rid=1",
      "$iothub/streams/res/099/?$rid=1",
      "$iothub/streams/res//?$rid=1",
      "$iothub/streams/RES/200/?$rid=1",
      "$iothub/streams/POST/200/?$rid=1",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct stream_response response;
    assert_int_equal(
        stream_topic_parse_response(&response, bad[i], strlen(bad[i])),
        DSTREAM_ETOPIC);
    assert_int_equal(response.code, 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(takes),
      cmocka_unit_test(keeps_what_follows_the_first_equals_sign),
      cmocka_unit_test(a_plus_stays_one),
      cmocka_unit_test(a_token_is_decoded_if_it_is_encoded),
      cmocka_unit_test(the_name_has_two_forms),
      cmocka_unit_test(capabilities_come_along),
      cmocka_unit_test(refuses),
      cmocka_unit_test(zero_bytes_are_no_ends),
      cmocka_unit_test(every_prefix_is_refused_or_shorter),
      cmocka_unit_test(bounds_every_part),
      cmocka_unit_test(formats_a_request),
      cmocka_unit_test(formats_no_nonsense),
      cmocka_unit_test(what_does_not_parse_is_not_formatted),
      cmocka_unit_test(formats_responses),
      cmocka_unit_test(a_long_reason_is_cut_between_characters),
      cmocka_unit_test(takes_responses_as_devices_write_them),
      cmocka_unit_test(refuses_responses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
