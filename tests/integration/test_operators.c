/* What an operator sees of a real hub: the activity log, REST for operators,
 * metrics; and that they agree with each other and with what was done. */
#include <ctype.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "integration/support_raw.h"
#include "integration/support_world.h"

#define METRICS                                                                \
  "{\"metrics\":{\"enabled\":true,\"port\":0},"                                \
  "\"limits\":{\"handshake_seconds\":2,\"max_streams_per_device\":2}}"
#define RECORDS_MAX 512
#define TEXT_MAX    (1 << 20)

static struct hub_fixture hub;
static struct world_device device;
static dstream_service *service;
static uint16_t metrics_port;
static struct raw http;
static struct raw plain;

/* ---- HTTP ---- */

static void make_request(char *out, size_t size, const char *method,
                         const char *target, const char *policy) {
  char string[CONN_STRING_MAX];
  char token[4096] = "";
  if (policy != NULL) {
    assert_int_equal(hub_fixture_policy_string(&hub, policy, string), 0);
    world_sas(token, sizeof token, string, "localhost", 600, policy);
  }
  snprintf(out, size,
           "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n%s%s%s"
           "Connection: close\r\n\r\n",
           method, target, policy != NULL ? "Authorization: " : "", token,
           policy != NULL ? "\r\n" : "");
}

struct request {
  char text[8192];
  int status;
};

static bool play_request(struct raw *raw, void *arg) {
  struct request *request = arg;
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_text(raw, request->text));
  request->status = raw_answer(raw);
  memcpy(http.head, raw->head, sizeof http.head);
  return true;
}

/* The answer's body; test_loop runs meanwhile. */
static const char *ask(const char *method, const char *target,
                       const char *policy, int status) {
  struct request request = {.status = 0};
  make_request(request.text, sizeof request.text, method, target, policy);
  run_script(play_request, &request);
  if (request.status != status)
    fail_msg("%s %s: %d, not %d:\n%s", method, target, request.status, status,
             http.head);
  const char *body = strstr(http.head, "\r\n\r\n");
  assert_non_null(body);
  return body + 4;
}

static cJSON *get(const char *target) {
  cJSON *object = cJSON_Parse(ask("GET", target, "service", 200));
  if (object == NULL)
    fail_msg("%s: no JSON:\n%s", target, http.head);
  return object;
}

static const char *text_of(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  return cJSON_IsString(item) ? item->valuestring : "";
}

static double number_of(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  if (!cJSON_IsNumber(item))
    fail_msg("no number %s", name);
  return item->valuedouble;
}

static cJSON *item_of(const cJSON *object, const char *list, int n) {
  return cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(object, list), n);
}

static int count_of(const cJSON *object, const char *list) {
  const cJSON *array = cJSON_GetObjectItemCaseSensitive(object, list);
  assert_true(cJSON_IsArray(array));
  return cJSON_GetArraySize(array);
}

/* ---- metrics ---- */

static char metrics_text[65536];

static int get_plain(const char *target) {
  char text[256];
  snprintf(text, sizeof text,
           "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
           target);
  assert_true(raw_connect_plain(&plain, "127.0.0.1", metrics_port));
  assert_true(raw_text(&plain, text));
  int status = raw_answer(&plain);
  const char *body = strstr(plain.head, "\r\n\r\n");
  assert_non_null(body);
  snprintf(metrics_text, sizeof metrics_text, "%s", body + 4);
  return status;
}

static double metric(const char *name) {
  size_t len = strlen(name);
  assert_int_equal(get_plain("/metrics"), 200);
  for (const char *line = metrics_text; line != NULL;
       line = strchr(line, '\n')) {
    line += line[0] == '\n';
    if (strncmp(line, name, len) == 0 && line[len] == ' ')
      return strtod(line + len, NULL);
  }
  fail_msg("no metric %s in:\n%s", name, metrics_text);
  return 0;
}

/* ---- the activity log ---- */

struct record {
  char event[16];
  char stream_id[40];
  char tracking_id[40];
  char device[32];
  char name[32];
  char caller[64];
  char side[16];
  char ended_by[16];
  char description[256];
  double to_device, to_service, close_code, error_code;
  bool success;
};

static struct record records[RECORDS_MAX];
static size_t record_count;

static void copy(char *out, size_t size, const char *text) {
  snprintf(out, size, "%s", text);
}

static double maybe_number(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void take_record(const char *line) {
  struct record *r = &records[record_count++ % RECORDS_MAX];
  cJSON *object = cJSON_Parse(line);
  cJSON *own = cJSON_Parse(text_of(object, "properties"));
  if (own == NULL)
    fail_msg("no record: %s", line);
  assert_string_equal(text_of(object, "category"), "DeviceStreams");
  assert_string_equal(text_of(object, "operationName"), "invoke");
  copy(r->event, sizeof r->event, text_of(own, "event"));
  copy(r->stream_id, sizeof r->stream_id, text_of(own, "streamId"));
  copy(r->tracking_id, sizeof r->tracking_id, text_of(own, "trackingId"));
  copy(r->device, sizeof r->device, text_of(own, "deviceId"));
  copy(r->name, sizeof r->name, text_of(own, "requestName"));
  copy(r->caller, sizeof r->caller, text_of(own, "caller"));
  copy(r->side, sizeof r->side, text_of(own, "side"));
  copy(r->ended_by, sizeof r->ended_by, text_of(own, "endedBy"));
  copy(r->description, sizeof r->description,
       text_of(object, "resultDescription"));
  r->to_device = maybe_number(own, "bytesToDevice");
  r->to_service = maybe_number(own, "bytesToService");
  r->close_code = maybe_number(own, "closeCode");
  r->error_code = maybe_number(own, "errorCode");
  r->success = strcmp(text_of(object, "resultType"), "Success") == 0;
  cJSON_Delete(own);
  cJSON_Delete(object);
}

static void log_path(char *out, size_t size, const char *end) {
  snprintf(out, size, "%s/activity.log%s", hub.hub_dir, end);
}

static void read_file(const char *path) {
  static char line[8192];
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return;
  while (fgets(line, sizeof line, file) != NULL) {
    assert_non_null(strchr(line, '\n'));
    take_record(line);
  }
  fclose(file);
}

/* All that was logged, the file that was moved away first. */
static void read_log(void) {
  char path[HUB_FIXTURE_PATH + 32];
  record_count = 0;
  log_path(path, sizeof path, ".1");
  read_file(path);
  log_path(path, sizeof path, "");
  read_file(path);
  assert_true(record_count < RECORDS_MAX);
}

/* How many records of that event tell of that device (NULL: any); the last one
 * is *out. */
static size_t count_event(const char *event, const char *device_id,
                          const struct record **out) {
  size_t count = 0;
  for (size_t i = 0; i < record_count; i++) {
    if (strcmp(records[i].event, event) != 0 ||
        (device_id != NULL && strcmp(records[i].device, device_id) != 0))
      continue;
    count++;
    *out = &records[i];
  }
  return count;
}

static bool logged(const char *event, const char *device_id, size_t count) {
  const struct record *last;
  read_log();
  return count_event(event, device_id, &last) >= count;
}

/* The one record of an event since the mark. */
static const struct record *only(const char *event, const char *device_id) {
  const struct record *last = NULL;
  read_log();
  size_t count = count_event(event, device_id, &last);
  if (count != 1)
    fail_msg("%zu records of %s", count, event);
  return last;
}

/* Begins a new log: what came before is forgotten. */
static void begin_log(void) {
  char path[HUB_FIXTURE_PATH + 32];
  log_path(path, sizeof path, ".1");
  unlink(path);
  log_path(path, sizeof path, "");
  assert_int_equal(truncate(path, 0), 0);
  device.answer = ANSWER_ACCEPT;
  device.reason = NULL;
}

/* ---- each event once ---- */

static void a_stream_is_told_once(void **state) {
  (void)state;
  const struct record *end;
  double opened = metric("dstream_streams_opened_total");
  double bytes = metric("dstream_stream_bytes_total{direction=\"to_device\"}");
  double ended = metric("dstream_stream_lifetime_seconds_count");
  begin_log();
  world_echo(service, "dev", 70000);
  WAIT(logged("end", "dev", 1));
  end = only("end", "dev");
  assert_true(end->success);
  assert_true(end->to_device == 70000 && end->to_service == 70000);
  assert_string_equal(end->caller, "service@127.0.0.1");
  assert_string_equal(end->ended_by, "service");
  assert_string_equal(end->name, "echo");
  assert_true(end->close_code == 1000);
  static const char *const before[] = {"request", "accepted", "start"};
  for (int i = 0; i < 3; i++) {
    const struct record *r = only(before[i], "dev");
    assert_string_equal(r->event, records[i].event); /* in this order */
    assert_string_equal(r->stream_id, end->stream_id);
    assert_string_equal(r->tracking_id, end->stream_id);
    assert_true(r->success);
  }
  assert_int_equal(record_count, 4);
  assert_true(metric("dstream_streams_opened_total") == opened + 1);
  assert_true(metric("dstream_stream_bytes_total{direction=\"to_device\"}") ==
              bytes + 70000);
  assert_true(metric("dstream_stream_lifetime_seconds_count") == ended + 1);
  assert_true(metric("dstream_streams_running") == 0);
}

static void a_rejection_has_its_reason(void **state) {
  (void)state;
  double before = metric("dstream_streams_failed_total{cause=\"rejected\"}");
  begin_log();
  device.answer = ANSWER_REJECT;
  device.reason = "gr\xc3\xbc\xc3\x9f dich, \"not\" now";
  struct call call = {.device = "dev"};
  world_open_fails(service, &call, DSTREAM_EREJECTED, 0, NULL);
  const struct record *r = only("rejected", "dev");
  assert_string_equal(r->description, device.reason);
  assert_false(r->success);
  assert_int_equal(record_count, 2);
  assert_true(metric("dstream_streams_failed_total{cause=\"rejected\"}") ==
              before + 1);
}

static void timeouts_are_told_apart(void **state) {
  (void)state;
  double offline = metric("dstream_streams_failed_total{cause=\"offline\"}");
  double silent = metric("dstream_streams_failed_total{cause=\"no_answer\"}");
  double requests = metric("dstream_requests_total");
  begin_log();
  struct call call = {.device = "away"};
  world_open_fails(service, &call, DSTREAM_EOFFLINE, 404103, NULL);
  assert_true(only("timeout", "away")->error_code == 404103);
  device.answer = ANSWER_DEFER;
  call = (struct call){.device = "dev", .response_wait_s = 1};
  world_open_fails(service, &call, DSTREAM_ENOANSWER, 504101, NULL);
  assert_true(only("timeout", "dev")->error_code == 504101);
  assert_true(metric("dstream_streams_failed_total{cause=\"offline\"}") ==
              offline + 1);
  assert_true(metric("dstream_streams_failed_total{cause=\"no_answer\"}") ==
              silent + 1);
  assert_true(metric("dstream_requests_total") == requests + 2);
  dstream_request_reject(device.deferred, NULL);
  device.deferred = NULL;
}

/* The value of the header x-ms-request-id of the last answer. */
static void tracking_of_answer(char *out, size_t size) {
  const char *at = strstr(http.head, "\r\nx-ms-request-id: ");
  assert_non_null(at);
  at += strlen("\r\nx-ms-request-id: ");
  snprintf(out, size, "%.*s", (int)strcspn(at, "\r"), at);
}

/* The id that the caller got is the one in the log. */
static void the_caller_can_name_its_failure(void **state) {
  (void)state;
  char id[40];
  begin_log();
  ask("POST", "/twins/nobody/streams/echo", "service", 404);
  tracking_of_answer(id, sizeof id);
  const struct record *r = only("failed", "nobody");
  assert_string_equal(r->tracking_id, id);
  assert_string_equal(r->stream_id, "");
  assert_string_equal(r->caller, "service@127.0.0.1");
  ask("POST", "/twins/away/streams/echo", "service", 404);
  tracking_of_answer(id, sizeof id);
  r = only("timeout", "away");
  assert_string_equal(r->tracking_id, id);
  assert_string_equal(r->stream_id, id);
  ask("POST", "/twins/dev/streams/echo", NULL, 401);
  tracking_of_answer(id, sizeof id);
  r = only("refused", NULL);
  assert_string_equal(r->tracking_id, id);
  assert_string_equal(r->side, "service");
}

static bool play_wrong_device(struct raw *raw, void *arg) {
  (void)arg;
  NEED(raw, raw_connect(raw, "localhost", hub.mqtt_port, hub.ca_file));
  NEED(raw,
       raw_mqtt_connect(raw, "away", "localhost/away/?api-version=2020-09-30",
                        "SharedAccessSignature sr=localhost%2Fdevices%2F"
                        "away&sig=AAAA&se=9999999999") > 0);
  return true;
}

static bool play_wrong_side(struct raw *raw, void *arg) {
  (void)arg;
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  NEED(raw, raw_upgrade(raw, "localhost",
                        "/bridges/ih/localhost/d/dev/sid/"
                        "0123456789abcdef0123456789abcdef/r/device",
                        "not a token", NULL, 0) == 401);
  return true;
}

static void refused_authentication_is_told(void **state) {
  (void)state;
  double devices = metric("dstream_refused_total{side=\"device\"}");
  double streams = metric("dstream_refused_total{side=\"stream\"}");
  begin_log();
  run_script(play_wrong_device, NULL);
  WAIT(logged("refused", "away", 1));
  assert_string_equal(only("refused", "away")->side, "device");
  run_script(play_wrong_side, NULL);
  WAIT(logged("refused", NULL, 2));
  const struct record *last = NULL;
  count_event("refused", NULL, &last);
  assert_string_equal(last->side, "stream");
  assert_string_equal(last->stream_id, ""); /* it is a stranger's word */
  assert_true(metric("dstream_refused_total{side=\"device\"}") == devices + 1);
  assert_true(metric("dstream_refused_total{side=\"stream\"}") == streams + 1);
}

static void limits_are_told(void **state) {
  (void)state;
  static struct peer peers[2];
  double limits = metric("dstream_limits_hit_total");
  begin_log();
  struct call call = {.device = "dev"};
  for (int i = 0; i < 2; i++) {
    peer_init(&peers[i], PEER_SENDER, 10, 10);
    world_open(service, &call, &peers[i]);
    wait_done(&peers[i]);
  }
  world_open_fails(service, &call, DSTREAM_ETHROTTLED, 429001, NULL);
  assert_true(only("limit", "dev")->error_code == 429001);
  assert_true(metric("dstream_limits_hit_total") == limits + 1);
  assert_true(metric("dstream_streams_running") == 2);
  assert_true(metric("dstream_stream_bytes_total{direction=\"to_device\"}") >=
              20);
  for (int i = 0; i < 2; i++)
    dstream_stream_close(peers[i].stream);
  WAIT(peers[0].closes == 1 && peers[1].closes == 1);
  WAIT(logged("end", "dev", 2));
  peer_clear(&peers[0]);
  peer_clear(&peers[1]);
  world_device_reset(&device);
}

/* ---- REST ---- */

static void streams_are_listed_and_killed(void **state) {
  (void)state;
  static struct peer peers[2];
  char target[100];
  char id[2][40];
  begin_log();
  struct call call = {.device = "dev"};
  for (int i = 0; i < 2; i++) {
    peer_init(&peers[i], PEER_SENDER, 1000, 1000);
    world_open(service, &call, &peers[i]);
    wait_done(&peers[i]);
  }
  cJSON *page = get("/streams?limit=1");
  for (int i = 0; i < 2; i++) {
    assert_int_equal(count_of(page, "streams"), 1);
    const cJSON *stream = item_of(page, "streams", 0);
    copy(id[i], sizeof id[i], text_of(stream, "streamId"));
    assert_string_equal(text_of(stream, "deviceId"), "dev");
    assert_string_equal(text_of(stream, "name"), "echo");
    assert_string_equal(text_of(stream, "state"), "running");
    assert_string_equal(text_of(stream, "caller"), "service@127.0.0.1");
    assert_true(number_of(stream, "bytesToDevice") == 1000);
    assert_true(strncmp(text_of(stream, "devicePeer"), "127.0.0.1:", 10) == 0);
    assert_int_equal(strlen(text_of(stream, "since")), 24);
    assert_int_equal(text_of(page, "cursor")[0] != '\0', i == 0);
    snprintf(target, sizeof target, "/streams?limit=1&cursor=%s",
             text_of(page, "cursor"));
    cJSON_Delete(page);
    page = get(target);
  }
  cJSON_Delete(page);
  assert_true(strcmp(id[0], id[1]) < 0);
  page = get("/streams?device=de");
  assert_int_equal(count_of(page, "streams"), 0);
  cJSON_Delete(page);
  page = get("/connections");
  assert_int_equal(count_of(page, "connections"), 1);
  assert_true(number_of(item_of(page, "connections", 0), "streams") == 2);
  assert_string_equal(text_of(item_of(page, "connections", 0), "deviceId"),
                      "dev");
  cJSON_Delete(page);
  page = get("/connections?device=away");
  assert_int_equal(count_of(page, "connections"), 0);
  cJSON_Delete(page);

  snprintf(target, sizeof target, "/streams/%s", id[0]);
  ask("DELETE", target, "device", 401); /* a policy without that right */
  ask("DELETE", target, "service", 204);
  WAIT(peers[0].closes + peers[1].closes == 1);
  const struct peer *killed = &peers[peers[1].closes == 1];
  assert_int_equal(killed->end.ws_code, 1008);
  assert_non_null(strstr(killed->end.text, "ended by an operator"));
  WAIT(logged("end", "dev", 1));
  assert_string_equal(only("kill", "dev")->stream_id, id[0]);
  assert_string_equal(only("end", "dev")->stream_id, id[0]);
  assert_string_equal(only("end", "dev")->ended_by, "hub");
  ask("DELETE", target, "service", 404);
  snprintf(target, sizeof target, "/streams/%s", id[1]);
  ask("DELETE", target, "service", 204);
  WAIT(peers[0].closes == 1 && peers[1].closes == 1);
  WAIT(logged("end", "dev", 2));
  peer_clear(&peers[0]);
  peer_clear(&peers[1]);
  world_device_reset(&device);
}

static void the_hub_describes_itself(void **state) {
  (void)state;
  char endpoint[64];
  cJSON *o = get("/hub");
  snprintf(endpoint, sizeof endpoint, "https://localhost:%u", hub.https_port);
  assert_string_equal(item_of(o, "streamingEndpoints", 0)->valuestring,
                      endpoint);
  assert_string_equal(text_of(o, "name"), "localhost");
  assert_string_equal(text_of(o, "version"), DSTREAM_VERSION);
  assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "ready")));
  assert_true(number_of(o, "devicesReady") == 1);
  assert_true(number_of(o, "streamsOpened") ==
              metric("dstream_streams_opened_total"));
  assert_true(strcmp(text_of(o, "certificateExpires"), "2026") > 0);
  cJSON_Delete(o);
}

/* To read needs a right, and a method of its own. */
static void rights_and_methods_are_checked(void **state) {
  (void)state;
  static const char *const targets[] = {"/hub", "/streams", "/connections",
                                        "/activity?limit=3"};
  for (size_t i = 0; i < 4; i++) {
    ask("GET", targets[i], NULL, 401);
    ask("GET", targets[i], "device", 401);
    ask("GET", targets[i], "iothubowner", 200);
    ask("PUT", targets[i], "service", 405);
  }
  ask("GET", "/streams/0123", "service", 405);
  ask("GET", "/streams?limit=0", "service", 400);
  ask("GET", "/streams?limit=101", "service", 400);
  ask("GET", "/activity?limit=501", "service", 400);
  ask("GET", "/activity?since=yesterday", "service", 400);
  ask("GET", "/activity?after=abc", "service", 400);
  ask("GET", "/activity?wait=31", "service", 400);
  ask("GET", "/streams/a/b", "service", 404);
}

static void the_log_can_be_read_over_the_network(void **state) {
  (void)state;
  char target[128];
  begin_log();
  cJSON *page = get("/activity?limit=1");
  char cursor[32];
  copy(cursor, sizeof cursor, text_of(page, "cursor"));
  cJSON_Delete(page);
  world_echo(service, "dev", 10);
  WAIT(logged("end", "dev", 1));
  /* In pages, the same records as in the file. */
  for (size_t i = 0; i < 4; i++) {
    snprintf(target, sizeof target, "/activity?limit=1&after=%s&device=dev",
             cursor);
    page = get(target);
    assert_int_equal(count_of(page, "records"), 1);
    cJSON *own =
        cJSON_Parse(text_of(item_of(page, "records", 0), "properties"));
    assert_string_equal(text_of(own, "event"), records[i].event);
    assert_string_equal(text_of(own, "streamId"), records[i].stream_id);
    assert_int_equal(
        cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(page, "more")), i < 3);
    copy(cursor, sizeof cursor, text_of(page, "cursor"));
    cJSON_Delete(own);
    cJSON_Delete(page);
  }
  page = get("/activity?limit=500&device=nobody-else");
  assert_int_equal(count_of(page, "records"), 0);
  cJSON_Delete(page);
  page = get("/activity?limit=3&since=2020-01-01T00:00:00Z");
  assert_int_equal(count_of(page, "records"), 3);
  cJSON_Delete(page);
  page = get("/activity?since=2999-01-01T00:00:00Z");
  assert_int_equal(count_of(page, "records"), 0);
  cJSON_Delete(page);
}

/* A follower gets what happens as it happens; another, of another device, is
 * not answered by it. */
static void followers_wait_for_what_happens(void **state) {
  (void)state;
  struct request follower = {.status = 0};
  char target[128];
  cJSON *page = get("/activity?limit=1");
  snprintf(target, sizeof target, "/activity?wait=30&device=away&after=%s",
           text_of(page, "cursor"));
  cJSON_Delete(page);
  make_request(follower.text, sizeof follower.text, "GET", target, "service");
  struct script *script = script_start(play_request, &follower);
  begin_log();
  world_echo(service, "dev", 10);
  WAIT(logged("end", "dev", 1));
  assert_false(atomic_load(&script->over));
  struct call call = {.device = "away"};
  world_open_fails(service, &call, DSTREAM_EOFFLINE, 404103, NULL);
  script_end(script);
  assert_int_equal(follower.status, 200);
  assert_non_null(strstr(http.head, "\\\"event\\\":\\\"request\\\""));
  assert_null(strstr(http.head, "\\\"deviceId\\\":\\\"dev\\\""));
  /* ... and one for whom nothing happens an empty answer. */
  page = get("/activity?wait=1&device=nobody-else");
  assert_int_equal(count_of(page, "records"), 0);
  assert_true(strlen(text_of(page, "cursor")) > 10);
  cJSON_Delete(page);
}

/* ---- rotation ---- */

/* While streams come and go: no record is lost, none is there twice. */
static void rotation_loses_nothing(void **state) {
  (void)state;
  char path[HUB_FIXTURE_PATH + 32];
  char old[HUB_FIXTURE_PATH + 32];
  const struct record *last;
  begin_log();
  log_path(path, sizeof path, "");
  log_path(old, sizeof old, ".1");
  hub_fixture_mark_log(&hub);
  for (int i = 0; i < 10; i++) {
    if (i == 5) {
      assert_int_equal(rename(path, old), 0);
      kill(hub.pid, SIGHUP);
    }
    world_echo(service, "dev", 100);
  }
  assert_int_equal(hub_fixture_wait_log(&hub, "certificate reread", 10000), 0);
  WAIT(logged("end", "dev", 10));
  static const char *const events[] = {"request", "accepted", "start", "end"};
  for (int i = 0; i < 4; i++)
    assert_int_equal(count_event(events[i], "dev", &last), 10);
  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  assert_true(info.st_size > 0);
  assert_int_equal(info.st_mode & 07, 0); /* nothing for others */
}

/* ---- health ---- */

static void health_is_told_on_both_ports(void **state) {
  (void)state;
  assert_int_equal(get_plain("/healthz"), 200);
  assert_int_equal(get_plain("/readyz"), 200);
  assert_string_equal(metrics_text, "ok\n");
  assert_int_equal(get_plain("/"), 404);
  assert_string_equal(ask("GET", "/readyz", NULL, 200), "ok\n");
  assert_string_equal(ask("GET", "/healthz", NULL, 200), "ok\n");
}

static void a_hub_without_broker_is_not_ready(void **state) {
  (void)state;
  double restarts = metric("dstream_broker_restarts_total");
  pid_t broker = hub_fixture_broker(&hub);
  assert_true(broker > 0);
  hub_fixture_mark_log(&hub);
  kill(broker, SIGSTOP); /* so that it can't come back at once */
  kill(broker, SIGKILL);
  assert_int_equal(hub_fixture_wait_log(&hub, "the broker is gone", 10000), 0);
  int status = get_plain("/readyz");
  assert_true(status == 200 || status == 503);
  if (status == 503)
    assert_string_equal(metrics_text, "the hub's broker is not running\n");
  assert_int_equal(hub_fixture_wait_log(&hub, "the broker is back", 20000), 0);
  assert_int_equal(get_plain("/readyz"), 200);
  assert_true(metric("dstream_broker_restarts_total") == restarts + 1);
  world_device_wait_ready(&device);
}

/* ---- the dashboard ---- */

static char *load(const char *name) {
  char path[512];
  const char *source = getenv("DSTREAM_SOURCE_DIR");
  assert_non_null(source);
  snprintf(path, sizeof path, "%s/%s", source, name);
  FILE *file = fopen(path, "re");
  if (file == NULL)
    fail_msg("can't open %s", path);
  char *text = malloc(TEXT_MAX);
  size_t len = fread(text, 1, TEXT_MAX - 1, file);
  text[len] = '\0';
  fclose(file);
  return text;
}

/* A metric's line, or the "# TYPE" of a histogram it is a part of. */
static bool exported(const char *name) {
  char line[128];
  snprintf(line, sizeof line, "\n%s", name);
  for (const char *p = metrics_text; (p = strstr(p, line)) != NULL; p++) {
    if (p[strlen(line)] == ' ' || p[strlen(line)] == '{')
      return true;
  }
  return false;
}

static unsigned check_names(const char *expression) {
  unsigned count = 0;
  for (const char *p = expression; *p != '\0';) {
    size_t len = 0;
    while (isalnum((unsigned char)p[len]) || p[len] == '_')
      len++;
    char name[100];
    snprintf(name, sizeof name, "%.*s", (int)len, p);
    if (strncmp(name, "dstream_", 8) == 0 ||
        strncmp(name, "process_", 8) == 0) {
      if (!exported(name))
        fail_msg("%s is not exported; in %s", name, expression);
      count++;
    }
    p += len > 0 ? len : 1;
  }
  return count;
}

static unsigned check_panel(const cJSON *panel) {
  unsigned count = 0;
  const cJSON *target;
  const cJSON *inner;
  cJSON_ArrayForEach(target,
                     cJSON_GetObjectItemCaseSensitive(panel, "targets")) {
    unsigned names = check_names(text_of(target, "expr"));
    if (names == 0)
      fail_msg("panel %s has a query without a metric",
               text_of(panel, "title"));
    count += names;
  }
  cJSON_ArrayForEach(inner, cJSON_GetObjectItemCaseSensitive(panel, "panels"))
      count += check_panel(inner);
  return count;
}

/* Every metric that the dashboard and the alerts use is there. */
static void the_dashboard_works_with_the_metrics(void **state) {
  (void)state;
  assert_int_equal(get_plain("/metrics"), 200);
  char *text = load("packaging/grafana/dstream.json");
  cJSON *dashboard = cJSON_Parse(text);
  assert_non_null(dashboard);
  unsigned count = 0;
  const cJSON *panel;
  cJSON_ArrayForEach(panel,
                     cJSON_GetObjectItemCaseSensitive(dashboard, "panels"))
      count += check_panel(panel);
  assert_true(count >= 20);
  cJSON_Delete(dashboard);
  free(text);
}

/* As Prometheus' own tool sees them, where it is installed. */
static void promtool_finds_nothing(void **state) {
  (void)state;
  if (system("command -v promtool >/dev/null 2>&1") != 0)
    skip();
  assert_int_equal(get_plain("/metrics"), 200);
  FILE *tool = popen("promtool check metrics", "w");
  assert_non_null(tool);
  fputs(metrics_text, tool);
  assert_int_equal(pclose(tool), 0);
}

/* ---- the group ---- */

static uint16_t logged_port(void) {
  const char *at = NULL;
  unsigned port = 0;
  assert_int_equal(hub_fixture_wait_log(&hub, "metrics: address", 10000), 0);
  pthread_mutex_lock(&hub.log_lock);
  at = strstr(hub.log, "metrics: address 127.0.0.1, port ");
  if (at != NULL)
    sscanf(at, "metrics: address 127.0.0.1, port %u", &port);
  pthread_mutex_unlock(&hub.log_lock);
  assert_in_range(port, 1, 65535);
  return (uint16_t)port;
}

static int group_setup(void **state) {
  (void)state;
  static const struct hub_fixture_options options = {.overrides = METRICS};
  char unused[CONN_STRING_MAX];
  if (hub_fixture_start(&hub, &options) != 0)
    return -1;
  test_loop_start();
  metrics_port = logged_port();
  device.kind = PEER_ECHO;
  world_device_new(&device, &hub, "dev");
  hub_fixture_add_device(&hub, "away", unused);
  service = world_service(&hub, NULL);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  world_device_end(&device);
  dstream_service_free(service);
  test_loop_end();
  return hub_fixture_stop(&hub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_stream_is_told_once),
      cmocka_unit_test(a_rejection_has_its_reason),
      cmocka_unit_test(timeouts_are_told_apart),
      cmocka_unit_test(the_caller_can_name_its_failure),
      cmocka_unit_test(refused_authentication_is_told),
      cmocka_unit_test(limits_are_told),
      cmocka_unit_test(streams_are_listed_and_killed),
      cmocka_unit_test(the_hub_describes_itself),
      cmocka_unit_test(rights_and_methods_are_checked),
      cmocka_unit_test(the_log_can_be_read_over_the_network),
      cmocka_unit_test(followers_wait_for_what_happens),
      cmocka_unit_test(rotation_loses_nothing),
      cmocka_unit_test(health_is_told_on_both_ports),
      cmocka_unit_test(the_dashboard_works_with_the_metrics),
      cmocka_unit_test(promtool_finds_nothing),
      cmocka_unit_test(a_hub_without_broker_is_not_ready),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
