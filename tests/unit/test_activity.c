/* The activity log: the form of a record, where it goes, what is remembered. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "hub/activity.h"
#include "hub/activity_line.h"
#include "hub/time_text.h"

static char path[] = "/tmp/dstream-activity-XXXXXX";
static char rotated[sizeof path + 2];
static dstream_loop *loop;

static int setup(void **state) {
  (void)state;
  int fd = mkstemp(path);
  snprintf(rotated, sizeof rotated, "%s.1", path);
  struct dstream_loop_options options = {.size = sizeof options};
  if (fd < 0 || dstream_loop_new(&loop, &options) != DSTREAM_OK)
    return -1;
  close(fd);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  dstream_loop_free(loop);
  unlink(path);
  unlink(rotated);
  memset(path + strlen(path) - 6, 'X', 6);
  return 0;
}

static struct activity *open_log(const struct activity_options *more) {
  struct activity_options options = {0};
  struct activity *activity = NULL;
  if (more != NULL)
    options = *more;
  options.file = options.file != NULL ? options.file : path;
  options.host = "hub.example";
  assert_int_equal(activity_new(&activity, loop, &options), DSTREAM_OK);
  return activity;
}

static void write_event(struct activity *activity, enum activity_event event,
                        const char *client) {
  struct activity_record record = {.event = event,
                                   .client_id = client,
                                   .stream_id =
                                       "0123456789abcdef0123456789abcdef"};
  activity_write(activity, &record);
}

/* The n-th line of a file, parsed; NULL: there is none. */
static cJSON *line_of(const char *file, size_t n) {
  char line[ACTIVITY_LINE_SIZE + 2];
  FILE *stream = fopen(file, "re");
  cJSON *object = NULL;
  assert_non_null(stream);
  for (size_t i = 0; fgets(line, sizeof line, stream) != NULL; i++) {
    assert_non_null(strchr(line, '\n'));
    if (i != n)
      continue;
    object = cJSON_Parse(line);
    assert_non_null(object);
  }
  fclose(stream);
  return object;
}

static size_t lines_of(const char *file) {
  size_t count = 0;
  for (;; count++) {
    cJSON *object = line_of(file, count);
    cJSON_Delete(object);
    if (object == NULL)
      return count;
  }
}

static const char *text(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  assert_non_null(item);
  return cJSON_IsNull(item) ? "null" : cJSON_GetStringValue(item);
}

static cJSON *properties_of(const cJSON *object) {
  cJSON *properties = cJSON_Parse(text(object, "properties"));
  assert_non_null(properties);
  return properties;
}

static void expect_event(const char *file, size_t n, const char *event) {
  cJSON *object = line_of(file, n);
  assert_non_null(object);
  cJSON *properties = properties_of(object);
  assert_string_equal(text(properties, "event"), event);
  cJSON_Delete(properties);
  cJSON_Delete(object);
}

/* ---- the form ---- */

static void a_record_has_azures_form(void **state) {
  (void)state;
  char line[ACTIVITY_LINE_SIZE];
  struct activity_record record = {.event = ACTIVITY_END,
                                   .client_id = "device-7/camera",
                                   .stream_name = "ssh",
                                   .stream_id = "abc",
                                   .caller = "service@192.0.2.1",
                                   .ended_by = "device",
                                   .description = "as asked",
                                   .duration_ms = 74,
                                   .bytes_to_device = 3,
                                   .bytes_to_service = 5,
                                   .close_code = 1000};
  size_t len = activity_line_make(line, 1767225600123, "hub.example", &record);
  assert_int_equal(len, strlen(line));
  assert_string_equal(
      line,
      "{\"time\":\"2026-01-01T00:00:00.123Z\",\"resourceId\":\"/hubs/"
      "hub.example\",\"operationName\":\"invoke\",\"category\":"
      "\"DeviceStreams\",\"resultType\":\"Success\",\"resultDescription\":"
      "\"as asked\",\"level\":\"Information\",\"durationMs\":\"74\","
      "\"properties\":\"{\\\"deviceId\\\":\\\"device-7\\\",\\\"moduleId\\\":"
      "\\\"camera\\\",\\\"sdkVersion\\\":null,\\\"requestSize\\\":\\\"3\\\","
      "\\\"responseSize\\\":\\\"5\\\",\\\"statusCode\\\":null,"
      "\\\"requestName\\\":\\\"ssh\\\",\\\"direction\\\":\\\"c2d\\\","
      "\\\"event\\\":\\\"end\\\",\\\"streamId\\\":\\\"abc\\\","
      "\\\"trackingId\\\":\\\"abc\\\",\\\"caller\\\":"
      "\\\"service@192.0.2.1\\\",\\\"closeCode\\\":1000,\\\"endedBy\\\":"
      "\\\"device\\\",\\\"bytesToDevice\\\":3,\\\"bytesToService\\\":5}\"}");
}

/* Nothing that a peer says breaks a line, its JSON or its UTF-8. */
static void hostile_texts_stay_texts(void **state) {
  (void)state;
  char line[ACTIVITY_LINE_SIZE];
  char big[600];
  memset(big, '"', sizeof big - 1);
  big[sizeof big - 1] = '\0';
  static const char *const texts[] = {
      "a\nb",    "\"}\\",        "gr\xc3\xbc\xc3\x9f", "\xff\xfe",  "\xc3",
      "\x1b[2J", "\xed\xa0\x80", "\xf0\x9f\x98\x80",   "\xc2\x9bxm"};
  static const char *const want[] = {
      "a b",  "\"}\\", "gr\xc3\xbc\xc3\x9f", "??",  "?",
      "?[2J", "???",   "\xf0\x9f\x98\x80",   "??xm"};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    struct activity_record record = {.event = ACTIVITY_REJECTED,
                                     .description = texts[i],
                                     .caller = texts[i]};
    assert_true(activity_line_make(line, 1, "h", &record) > 0);
    assert_null(strchr(line, '\n'));
    cJSON *object = cJSON_Parse(line);
    assert_non_null(object);
    assert_string_equal(text(object, "resultDescription"), want[i]);
    cJSON *properties = properties_of(object);
    if (i != 1)
      assert_string_equal(text(properties, "caller"), want[i]);
    else
      assert_string_equal(text(properties, "caller"), "'}'");
    cJSON_Delete(properties);
    cJSON_Delete(object);
  }
  struct activity_record record = {.event = ACTIVITY_END,
                                   .client_id = big,
                                   .stream_name = big,
                                   .stream_id = big,
                                   .caller = big,
                                   .peer = big,
                                   .side = big,
                                   .ended_by = big,
                                   .description = big,
                                   .duration_ms = UINT64_MAX,
                                   .bytes_to_device = UINT64_MAX,
                                   .bytes_to_service = UINT64_MAX,
                                   .close_code = 4999,
                                   .error_code = 999999,
                                   .status_code = 599};
  assert_true(activity_line_make(line, 1, big, &record) > 0);
}

static void failures_say_so(void **state) {
  (void)state;
  char line[ACTIVITY_LINE_SIZE];
  for (int i = 0; i < ACTIVITY_EVENT_COUNT; i++) {
    struct activity_record record = {.event = (enum activity_event)i};
    bool good = i == ACTIVITY_REQUEST || i == ACTIVITY_ACCEPTED ||
                i == ACTIVITY_START || i == ACTIVITY_END || i == ACTIVITY_KILL;
    assert_true(activity_line_make(line, 1, "h", &record) > 0);
    assert_int_equal(strstr(line, "\"Success\"") != NULL, good);
    assert_int_equal(strstr(line, "\"Information\"") != NULL, good);
    record.failed = true;
    assert_true(activity_line_make(line, 1, "h", &record) > 0);
    assert_null(strstr(line, "\"Success\""));
  }
}

static void a_line_can_be_read_back(void **state) {
  (void)state;
  char line[ACTIVITY_LINE_SIZE];
  char client[ACTIVITY_CLIENT_SIZE];
  int64_t ms = 0;
  static const char *const clients[] = {"", "device-7", "device-7/camera"};
  for (size_t i = 0; i < 3; i++) {
    struct activity_record record = {.event = ACTIVITY_REQUEST,
                                     .client_id = clients[i]};
    assert_true(activity_line_make(line, 1767225600123, "h", &record) > 0);
    assert_int_equal(activity_line_read(line, &ms, client), DSTREAM_OK);
    assert_true(ms == 1767225600123);
    assert_string_equal(client, clients[i]);
    for (size_t cut = 0; cut < strlen(line); cut++) {
      char part[ACTIVITY_LINE_SIZE];
      snprintf(part, sizeof part, "%.*s", (int)cut, line);
      assert_int_equal(activity_line_read(part, &ms, client), DSTREAM_EFORMAT);
    }
  }
}

static void times_are_read(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t ms; /* -1: none */
  } cases[] = {{"2026-01-01T00:00:00Z", 1767225600000},
               {"2026-01-01T00:00:00.1239Z", 1767225600123},
               {"2026-01-01t01:00:00.5+01:00", 1767225600500},
               {"2025-12-31 23:30:00-00:30", 1767225600000},
               {"1767225600", 1767225600000},
               {"0", 0},
               {"2024-02-29T00:00:00Z", 1709164800000},
               {"2023-02-29T00:00:00Z", -1},
               {"2026-13-01T00:00:00Z", -1},
               {"2026-01-01T24:00:00Z", -1},
               {"2026-01-01T00:00:00", -1},
               {"2026-01-01T00:00:00.Z", -1},
               {"2026-01-01T00:00:00Zx", -1},
               {"2026-01-01", -1},
               {"yesterday", -1},
               {"-1", -1},
               {"1234567890123", -1},
               {"", -1}};
  char made[TIME_TEXT_SIZE];
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int64_t ms = -1;
    assert_int_equal(time_text_read(cases[i].text, &ms), cases[i].ms >= 0);
    if (cases[i].ms >= 0)
      assert_true(ms == cases[i].ms);
  }
  time_text_make(1767225600123, made);
  assert_string_equal(made, "2026-01-01T00:00:00.123Z");
}

/* ---- the file ---- */

static void records_are_appended_and_rotated(void **state) {
  (void)state;
  struct activity *activity = open_log(NULL);
  write_event(activity, ACTIVITY_REQUEST, "a");
  assert_int_equal(rename(path, rotated), 0);
  write_event(activity, ACTIVITY_ACCEPTED, "a"); /* into the old one, still */
  activity_reopen(activity);
  write_event(activity, ACTIVITY_START, "a");
  activity_free(activity);
  assert_int_equal(lines_of(rotated), 2);
  assert_int_equal(lines_of(path), 1);
  expect_event(rotated, 0, "request");
  expect_event(rotated, 1, "accepted");
  expect_event(path, 0, "start");
}

static void limit_file(rlim_t bytes) {
  struct rlimit limit;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
  limit.rlim_cur = bytes;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* As a disk that fills up in the middle of a line, and is emptied. */
static void a_full_disk_is_survived_and_told(void **state) {
  (void)state;
  struct activity *activity = open_log(NULL);
  signal(SIGXFSZ, SIG_IGN);
  write_event(activity, ACTIVITY_REQUEST, "a");
  limit_file(1000);
  write_event(activity, ACTIVITY_ACCEPTED, "a");
  write_event(activity, ACTIVITY_START, "a");
  write_event(activity, ACTIVITY_END, "a");
  assert_true(activity_counts(activity).lost >= 2);
  uint64_t lost = activity_counts(activity).lost;
  limit_file(RLIM_INFINITY);
  write_event(activity, ACTIVITY_REQUEST, "b");
  assert_true(activity_counts(activity).lost == lost);
  activity_free(activity);

  char line[ACTIVITY_LINE_SIZE + 2];
  char words[80];
  bool told = false;
  FILE *file = fopen(path, "re");
  snprintf(words, sizeof words, "%u records could not be written",
           (unsigned)lost);
  while (fgets(line, sizeof line, file) != NULL)
    told = told || strstr(line, words) != NULL;
  assert_true(told);
  assert_non_null(strstr(line, "request")); /* whole, and the last one */
  fclose(file);
}

/* A pipe that nobody empties holds nothing up. */
static void a_full_pipe_is_not_waited_for(void **state) {
  (void)state;
  unlink(path);
  assert_int_equal(mkfifo(path, 0600), 0);
  int reader = open(path, O_RDONLY | O_NONBLOCK);
  struct activity *activity = open_log(NULL);
  for (int i = 0; i < 1000; i++)
    write_event(activity, ACTIVITY_REQUEST, "a");
  assert_true(activity_counts(activity).lost > 0);
  assert_true(activity_counts(activity).records > 0);
  assert_true(activity_counts(activity).lost +
                  activity_counts(activity).records ==
              1000);
  static char data[65536 * 2];
  ssize_t n = read(reader, data, sizeof data);
  assert_true(n > 0);
  assert_int_equal(data[n - 1], '\n'); /* no line in parts */
  activity_free(activity);
  close(reader);
}

static void a_file_that_cannot_be_opened_loses_records(void **state) {
  (void)state;
  struct activity_options options = {.file = "/nowhere/at/all"};
  struct activity *activity = open_log(&options);
  write_event(activity, ACTIVITY_REQUEST, "a");
  assert_true(activity_counts(activity).lost == 1);
  activity_reopen(activity);
  write_event(activity, ACTIVITY_REQUEST, "a");
  assert_true(activity_counts(activity).lost == 2);
  activity_free(activity);
  options.file = "";
  activity = open_log(&options);
  write_event(activity, ACTIVITY_REQUEST, "a");
  assert_true(activity_counts(activity).lost == 0);
  activity_free(activity);
}

/* ---- bounds ---- */

static void refusals_are_bounded_and_counted(void **state) {
  (void)state;
  struct activity_options options = {.refusals_per_second = 1,
                                     .refusal_burst = 5};
  struct activity *activity = open_log(&options);
  struct activity_record refused = {
      .event = ACTIVITY_REFUSED, .peer = "192.0.2.1:1", .side = "service"};
  for (int i = 0; i < 1000; i++)
    activity_write(activity, &refused);
  write_event(activity, ACTIVITY_REQUEST, "a"); /* is not held back */
  struct activity_counts counts = activity_counts(activity);
  assert_true(counts.left_out > 900);
  assert_true(counts.records + counts.left_out == 1001);
  activity_free(activity);
  size_t count = lines_of(path);
  expect_event(path, count - 2, "request");
  expect_event(path, count - 1, "leftOut");
}

/* ---- looking back ---- */

struct found {
  size_t count;
  size_t stop_at;
  char clients[64][16];
};

static bool on_found(void *user, const char *json, size_t len) {
  struct found *found = user;
  int64_t ms;
  char client[ACTIVITY_CLIENT_SIZE];
  assert_int_equal(strlen(json), len);
  if (found->stop_at != 0 && found->count == found->stop_at)
    return false;
  assert_int_equal(activity_line_read(json, &ms, client), DSTREAM_OK);
  snprintf(found->clients[found->count++ % 64], 16, "%.15s", client);
  return true;
}

static void records_are_found_by_cursor_and_device(void **state) {
  (void)state;
  struct activity *activity = open_log(NULL);
  static const char *const clients[] = {"a", "b", "a/x", "ab", "a", "c"};
  for (size_t i = 0; i < 6; i++)
    write_event(activity, ACTIVITY_REQUEST, clients[i]);
  struct activity_query query = {.limit = 2};
  struct found found = {0};
  uint64_t cursor = 0;
  bool more = false;
  for (size_t page = 0; page < 3; page++) {
    assert_int_equal(
        activity_query(activity, &query, on_found, &found, &cursor, &more), 2);
    assert_int_equal(more, page < 2);
    query.after = cursor;
  }
  for (size_t i = 0; i < 6; i++)
    assert_string_equal(found.clients[i], clients[i]);
  assert_int_equal(
      activity_query(activity, &query, on_found, &found, &cursor, &more), 0);
  assert_true(cursor == query.after);

  found = (struct found){0};
  query = (struct activity_query){.device = "a", .limit = 10};
  assert_int_equal(
      activity_query(activity, &query, on_found, &found, &cursor, &more), 3);
  assert_string_equal(found.clients[1], "a/x");

  found = (struct found){0};
  query = (struct activity_query){.limit = 2, .newest = true};
  assert_int_equal(
      activity_query(activity, &query, on_found, &found, &cursor, &more), 2);
  assert_string_equal(found.clients[0], "a");
  assert_string_equal(found.clients[1], "c");

  found = (struct found){.stop_at = 1}; /* who has no room comes again */
  query = (struct activity_query){.limit = 10};
  assert_int_equal(
      activity_query(activity, &query, on_found, &found, &cursor, &more), 1);
  assert_true(more);
  query = (struct activity_query){.after = cursor, .limit = 1};
  found = (struct found){0};
  activity_query(activity, &query, on_found, &found, &cursor, &more);
  assert_string_equal(found.clients[0], "b");

  query = (struct activity_query){.since_ms = time_text_now_ms() + 60000};
  assert_int_equal(
      activity_query(activity, &query, on_found, &found, &cursor, &more), 0);
  activity_free(activity);
}

/* Also across a restart, and with a line that a killed hub left in parts. */
static void a_restarted_hub_remembers(void **state) {
  (void)state;
  struct activity *activity = open_log(NULL);
  uint64_t before = 0;
  uint64_t after = 0;
  struct found found = {0};
  for (int i = 0; i < 10; i++)
    write_event(activity, ACTIVITY_REQUEST, "a");
  struct activity_query query = {.limit = 50};
  assert_int_equal(
      activity_query(activity, &query, on_found, &found, &before, NULL), 10);
  activity_free(activity);
  FILE *file = fopen(path, "ae");
  fputs("{\"time\":\"2026-01-", file);
  fclose(file);

  activity = open_log(NULL);
  write_event(activity, ACTIVITY_ACCEPTED, "b");
  assert_int_equal(
      activity_query(activity, &query, on_found, &found, &after, NULL), 11);
  assert_true(after > before);
  query.after = before;
  found = (struct found){0};
  assert_int_equal(
      activity_query(activity, &query, on_found, &found, &after, NULL), 1);
  assert_string_equal(found.clients[0], "b");
  activity_free(activity);
  activity = open_log(NULL); /* the part did not spoil the line behind it */
  query.after = 0;
  assert_int_equal(
      activity_query(activity, &query, on_found, &found, &after, NULL), 11);
  activity_free(activity);
}

static void memory_is_bounded(void **state) {
  (void)state;
  struct activity_options options = {.keep_bytes = 8000};
  struct activity *activity = open_log(&options);
  char name[16];
  for (int i = 0; i < 500; i++) {
    snprintf(name, sizeof name, "d%d", i);
    write_event(activity, ACTIVITY_REQUEST, name);
  }
  struct found found = {0};
  struct activity_query query = {.limit = 500};
  size_t count = activity_query(activity, &query, on_found, &found, NULL, NULL);
  assert_in_range(count, 8, 20);
  assert_string_equal(found.clients[count - 1], "d499");
  activity_free(activity);
  activity = open_log(&options); /* nor does it take in more */
  assert_in_range(
      activity_query(activity, &query, on_found, &found, NULL, NULL), 8, 20);
  activity_free(activity);
}

struct listening {
  struct activity_listener listener;
  struct activity *activity;
  int calls;
  bool again;
};

static void on_activity(struct activity_listener *listener) {
  struct listening *l = (struct listening *)listener;
  l->calls++;
  if (l->again)
    activity_listen(l->activity, listener, on_activity);
}

static void listeners_are_told_once(void **state) {
  (void)state;
  struct activity *activity = open_log(NULL);
  struct listening one = {.activity = activity};
  struct listening two = {.activity = activity, .again = true};
  struct listening gone = {.activity = activity};
  activity_listen(activity, &one.listener, on_activity);
  activity_listen(activity, &gone.listener, on_activity);
  activity_listen(activity, &two.listener, on_activity);
  activity_unlisten(&gone.listener);
  activity_unlisten(&gone.listener);
  write_event(activity, ACTIVITY_REQUEST, "a");
  assert_int_equal(one.calls, 0); /* not from within */
  dstream_loop_step(loop, 0);
  write_event(activity, ACTIVITY_REQUEST, "a");
  write_event(activity, ACTIVITY_REQUEST, "a");
  dstream_loop_step(loop, 0);
  assert_int_equal(one.calls, 1);
  assert_int_equal(two.calls, 2);
  assert_int_equal(gone.calls, 0);
  activity_unlisten(&two.listener);
  activity_free(activity);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_record_has_azures_form),
      cmocka_unit_test(hostile_texts_stay_texts),
      cmocka_unit_test(failures_say_so),
      cmocka_unit_test(a_line_can_be_read_back),
      cmocka_unit_test(times_are_read),
      cmocka_unit_test_setup_teardown(records_are_appended_and_rotated, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(a_full_disk_is_survived_and_told, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(a_full_pipe_is_not_waited_for, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(
          a_file_that_cannot_be_opened_loses_records, setup, teardown),
      cmocka_unit_test_setup_teardown(refusals_are_bounded_and_counted, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(records_are_found_by_cursor_and_device,
                                      setup, teardown),
      cmocka_unit_test_setup_teardown(a_restarted_hub_remembers, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(memory_is_bounded, setup, teardown),
      cmocka_unit_test_setup_teardown(listeners_are_told_once, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
