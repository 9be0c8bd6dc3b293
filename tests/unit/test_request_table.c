#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/request_table.h"

#define URL   "wss%3A%2F%2Fhub.example.net%3A443%2Fb%2F1"
#define TOKEN "eyJh.eyJz.c2ln"
#define POST  "$iothub/streams/POST/"

static struct request_table table;
static struct request_refusal refusal;
static struct request *request;

static int setup(void **state) {
  (void)state;
  request_table_init(&table, 4);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  request_table_clear(&table);
  assert_int_equal(table.count, 0);
  assert_int_equal(table.waiting, 0);
  return 0;
}

static enum request_verdict take(const char *topic, uint64_t now) {
  request = NULL;
  return request_table_take(&table, topic, strlen(topic), now, &request,
                            &refusal);
}

static enum request_verdict take_rid(const char *rid, const char *token,
                                     uint64_t now) {
  char topic[400];
  snprintf(topic, sizeof topic, "%sname/?$rid=%s&$url=%s&$auth=%s", POST, rid,
           URL, token);
  return take(topic, now);
}

static void test_new(void **state) {
  (void)state;
  assert_int_equal(
      take(POST "a%20b/?$rid=7&$url=" URL "&$auth=" TOKEN "&$caps=eof,x", 5),
      REQUEST_NEW);
  assert_string_equal(request->message.name, "a b");
  assert_string_equal(request->message.rid, "7");
  assert_string_equal(request->message.url, "wss://hub.example.net:443/b/1");
  assert_string_equal(request->message.token, TOKEN);
  assert_true(request->asked_caps);
  assert_true(slice_eq(request->message.caps, "eof,x")); /* a copy */
  assert_true(slice_eq(request->message.name_raw, "a%20b"));
  assert_int_equal(table.count, 1);
  assert_int_equal(table.waiting, 1);
  assert_int_equal(request_table_check(&table, request, 5), DSTREAM_OK);
  request_table_remove(&table, request);
  assert_int_equal(table.count, 0);
  assert_int_equal(take_rid("8", TOKEN, 5), REQUEST_NEW);
  assert_false(request->asked_caps);
}

static void test_expiry(void **state) {
  (void)state;
  assert_true(request_table_deadline(&table) == REQUEST_NEVER);
  take_rid("1", TOKEN, 1000);
  struct request *first = request;
  take_rid("2", TOKEN, 2000);
  assert_true(request_table_deadline(&table) == 61000);
  assert_null(request_table_tick(&table, 60999));
  assert_ptr_equal(request_table_tick(&table, 61000), first);
  assert_null(request_table_tick(&table, 61000));
  assert_true(request_table_deadline(&table) == 62000);
  assert_int_equal(table.waiting, 1);
  assert_int_equal(table.count, 2); /* its owner still has it */
  assert_int_equal(request_table_check(&table, first, 61000), DSTREAM_EEXPIRED);
  /* by the clock, without a tick */
  assert_int_equal(request_table_check(&table, request, 61999), DSTREAM_OK);
  assert_int_equal(request_table_check(&table, request, 62000),
                   DSTREAM_EEXPIRED);
  assert_int_equal(table.waiting, 0);
}

static void test_limit(void **state) {
  (void)state;
  const char *rids[] = {"1", "2", "3", "4"};
  for (size_t i = 0; i < 4; i++)
    assert_int_equal(take_rid(rids[i], TOKEN, 0), REQUEST_NEW);
  assert_int_equal(take_rid("5", TOKEN, 0), REQUEST_REFUSED);
  assert_string_equal(refusal.rid, "5");
  assert_false(refusal.asked_caps);
  assert_int_equal(refusal.why.status, DSTREAM_ELIMIT);
  assert_int_equal(take(POST "n/?$rid=6&$url=" URL "&$auth=t&$caps=eof", 0),
                   REQUEST_REFUSED);
  assert_true(refusal.asked_caps);
  request_table_remove(&table, table.first);
  assert_int_equal(take_rid("5", TOKEN, 0), REQUEST_NEW);
}

static void test_same_id_again(void **state) {
  (void)state;
  take_rid("1", TOKEN, 0);
  struct request *first = request;
  assert_int_equal(take_rid("1", TOKEN, 10), REQUEST_DROPPED);
  assert_int_equal(refusal.why.status, DSTREAM_OK);
  assert_int_equal(request_table_check(&table, first, 10), DSTREAM_OK);
  /* the hub uses the id for another stream: the first one is over */
  assert_int_equal(take_rid("1", "other", 20), REQUEST_NEW);
  assert_int_equal(request_table_check(&table, first, 20), DSTREAM_EEXPIRED);
  assert_int_equal(request_table_check(&table, request, 20), DSTREAM_OK);
  assert_int_equal(table.waiting, 1);
  /* answered: it may come again */
  request_table_remove(&table, request);
  assert_int_equal(take_rid("1", "other", 30), REQUEST_NEW);
}

static void test_orphans(void **state) {
  (void)state;
  take_rid("1", TOKEN, 0);
  struct request *first = request;
  request_table_orphan(&table);
  assert_int_equal(table.waiting, 0);
  assert_int_equal(request_table_check(&table, first, 1), DSTREAM_ESTATE);
  assert_true(request_table_deadline(&table) == REQUEST_NEVER);
  assert_null(request_table_tick(&table, 100000));
  /* ids begin anew on another connection */
  assert_int_equal(take_rid("1", TOKEN, 2), REQUEST_NEW);
  assert_int_equal(request_table_check(&table, first, 2), DSTREAM_ESTATE);
}

static void test_malformed(void **state) {
  (void)state;
  static const struct {
    const char *topic;
    enum request_verdict verdict;
  } rows[] = {
      {POST "n/?$rid=9&$url=" URL, REQUEST_REFUSED},
      {POST "n/?$rid=9&$auth=" TOKEN, REQUEST_REFUSED},
      {POST "n/?$rid=9&$url=http%3A%2F%2Fh%2F&$auth=" TOKEN, REQUEST_REFUSED},
      {POST "n/?$url=" URL "&$auth=" TOKEN, REQUEST_DROPPED},
      {POST "n", REQUEST_DROPPED},
      {POST, REQUEST_DROPPED},
      {"", REQUEST_DROPPED},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    assert_int_equal(take(rows[i].topic, 0), rows[i].verdict);
    assert_int_equal(refusal.why.status, DSTREAM_ETOPIC);
    assert_null(strstr(refusal.why.text, TOKEN));
    if (rows[i].verdict == REQUEST_REFUSED)
      assert_string_equal(refusal.rid, "9");
    assert_int_equal(table.count, 0);
  }
}

static void test_mask(void **state) {
  (void)state;
  static const struct {
    const char *topic;
    const char *masked;
  } rows[] = {
      {POST "n/?$rid=1&$url=wss%3A&$auth=secret",
       POST "n/?$rid=1&$url=wss%3A&$auth=<6 bytes>"},
      {POST "n/?$auth=se=cret&&secret&=secret",
       POST "n/?$auth=<7 bytes>&<0 bytes>&<6 bytes>&<0 bytes>=<6 bytes>"},
      {POST "n/?%24auth=secret&$AUTH=secret",
       POST "n/?<7 bytes>=<6 bytes>&<5 bytes>=<6 bytes>"},
      {POST "n/$auth=secret", POST "n/$auth=<6 bytes>"},
      {POST "n/?", POST "n/?<0 bytes>"},
      {"a\n\x80"
       "b",
       "a??b"},
      {"", ""},
  };
  char out[256];
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    request_topic_mask(rows[i].topic, strlen(rows[i].topic), out, sizeof out);
    assert_string_equal(out, rows[i].masked);
    assert_null(strstr(out, "secret"));
    for (size_t size = 1; size < 20; size++) {
      memset(out, 'x', sizeof out);
      request_topic_mask(rows[i].topic, strlen(rows[i].topic), out, size);
      assert_true(strlen(out) < size);
      assert_int_equal(out[size], 'x');
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_new, setup, teardown),
      cmocka_unit_test_setup_teardown(test_expiry, setup, teardown),
      cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
      cmocka_unit_test_setup_teardown(test_same_id_again, setup, teardown),
      cmocka_unit_test_setup_teardown(test_orphans, setup, teardown),
      cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
      cmocka_unit_test(test_mask),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
