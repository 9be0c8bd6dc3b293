/* A device against a real broker over TLS; the test plays the hub. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/dstream.h>

#include "core/sas.h"
#include "net/loop.h"
#include "support_device.h"

#define KEY         "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define TOKEN       "c2VjcmV0LWhlYWRlcg.c2VjcmV0.c2VjcmV0"
#define POST        "$iothub/streams/POST/"
#define DEADLINE_MS 20000
#define DEVICES_MAX 20

enum plan { ACCEPT, REJECT, DEFER, LEAVE };

/* One device and what it told. */
struct rig {
  dstream_device *device;
  enum plan plan;
  const char *reason;
  char states[256]; /* a digit each */
  struct dstream_end cause;
  bool storm;
  int requests;
  char name[300];
  char rid[140];
  dstream_request *deferred;
  int accepted; /* what dstream_request_accept returned */
  int opened;
  int closed;
  struct dstream_end stream_end;
  int stopped;
  int signed_tokens;
};

static struct test_broker broker;
static dstream_loop *loop;
static struct rig rigs[DEVICES_MAX];
static struct rig *const rig = &rigs[0];
static char *lines; /* the log */
static size_t lines_len;

/* ---- callbacks ---- */

static void on_log(void *user, enum dstream_log_level level, const char *text) {
  (void)user;
  if (getenv("VERBOSE") != NULL)
    fprintf(stderr, "%u %d %s\n", (unsigned)loop_now_ms() % 1000000, (int)level,
            text);
  size_t len = strlen(text);
  char *more = realloc(lines, lines_len + len + 2);
  assert_non_null(more);
  lines = more;
  memcpy(lines + lines_len, text, len);
  lines_len += len;
  lines[lines_len++] = '\n';
  lines[lines_len] = '\0';
}

static bool logged(const char *text) {
  return lines != NULL && strstr(lines, text) != NULL;
}

static void on_open(dstream_stream *stream, void *user) {
  (void)stream;
  struct rig *r = user;
  r->opened++;
}

static void on_close(dstream_stream *stream, void *user,
                     const struct dstream_end *end) {
  (void)stream;
  struct rig *r = user;
  r->closed++;
  r->stream_end = *end;
  assert_int_equal(r->stopped, 0);
}

static const struct dstream_stream_callbacks stream_callbacks = {
    .on_open = on_open, .on_close = on_close};

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  struct rig *r = user;
  assert_ptr_equal(device, r->device);
  size_t len = strlen(r->states);
  if (len + 1 < sizeof r->states)
    r->states[len] = (char)('0' + state);
  assert_int_equal(cause != NULL, state == DSTREAM_DEVICE_WAITING);
  if (cause != NULL) {
    r->cause = *cause;
    r->storm = r->storm || strstr(cause->text, "another process") != NULL;
  }
}

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  (void)device;
  struct rig *r = user;
  r->requests++;
  snprintf(r->name, sizeof r->name, "%s", dstream_request_name(request));
  snprintf(r->rid, sizeof r->rid, "%s", dstream_request_id(request));
  switch (r->plan) {
  case ACCEPT:
    r->accepted =
        dstream_request_accept(request, NULL, &stream_callbacks, r, NULL);
    break;
  case REJECT:
    assert_int_equal(dstream_request_reject(request, r->reason), DSTREAM_OK);
    break;
  case DEFER:
    dstream_request_defer(request);
    r->deferred = request;
    break;
  case LEAVE:
    break;
  }
}

static void on_stopped(dstream_device *device, void *user) {
  struct rig *r = user;
  assert_ptr_equal(device, r->device);
  r->stopped++;
}

static const struct dstream_device_callbacks callbacks = {on_state, on_request,
                                                          on_stopped};

/* ---- making devices, waiting ---- */

static char conn_string[512];
static char ca_file[128];
static char cert_file[128];
static char key_file[128];

static struct dstream_device_options
options_for(const char *host, uint16_t port, const char *id) {
  snprintf(conn_string, sizeof conn_string,
           "HostName=%s;DeviceId=%s;SharedAccessKey=%s;MqttPort=%u;HttpsPort="
           "%u",
           host, id, KEY, (unsigned)port, (unsigned)port);
  snprintf(ca_file, sizeof ca_file, "%s/ca.pem", broker.dir);
  return (struct dstream_device_options){
      .size = sizeof(struct dstream_device_options),
      .connection_string = conn_string,
      .loop = loop,
      .tls = {.size = sizeof(struct dstream_tls_options), .ca_file = ca_file},
      .retry_min_ms = 20,
      .retry_max_ms = 200};
}

static void rig_new(struct rig *r,
                    const struct dstream_device_options *options) {
  struct dstream_end error = {.text = ""};
  memset(r, 0, sizeof *r);
  if (dstream_device_new(&r->device, options, &callbacks, r, &error) != 0)
    fail_msg("%s", error.text);
}

static void rig_start(struct rig *r,
                      const struct dstream_device_options *options) {
  rig_new(r, options);
  assert_int_equal(dstream_device_start(r->device), DSTREAM_OK);
  assert_int_equal(dstream_device_start(r->device), DSTREAM_ESTATE);
}

static void step(void) {
  dstream_loop_step(loop, 5);
  test_broker_step(&broker);
}

/* Until the condition holds; false after the deadline. */
#define WAIT(condition)                                                        \
  do {                                                                         \
    uint64_t until = loop_now_ms() + DEADLINE_MS;                              \
    while (!(condition)) {                                                     \
      if (loop_now_ms() > until)                                               \
        fail_msg("waited in vain for %s; states %s, cause \"%s\", answers %s", \
                 #condition, rig->states, rig->cause.text, broker.answers);    \
      step();                                                                  \
    }                                                                          \
  } while (false)

static char last_state(const struct rig *r) {
  size_t len = strlen(r->states);
  return len == 0 ? '-' : r->states[len - 1];
}

#define READY   '2'
#define WAITING '3'

static void rig_stop(struct rig *r) {
  dstream_device_stop(r->device);
  dstream_device_stop(r->device);
  WAIT(r->stopped == 1);
  assert_int_equal(last_state(r), '0');
}

static void rig_free(struct rig *r) {
  dstream_device_free(r->device);
  r->device = NULL;
}

static void rig_end(struct rig *r) {
  rig_stop(r);
  for (int i = 0; i < 5; i++)
    step();
  assert_int_equal(r->stopped, 1);
  rig_free(r);
}

static void start_ready(void) {
  struct dstream_device_options options =
      options_for("localhost", broker.tls_port, "dev1");
  rig_start(rig, &options);
  WAIT(last_state(rig) == READY);
  assert_string_equal(rig->states, "12");
}

static void ask(const char *rid, uint16_t port, const char *more) {
  char topic[512];
  snprintf(topic, sizeof topic,
           "%s%s/?$rid=%s&$url=wss%%3A%%2F%%2Flocalhost%%3A%u%%2Fx&$auth=%s%s",
           POST, "my%20name", rid, (unsigned)port, TOKEN, more);
  assert_int_equal(test_broker_publish(&broker, topic), 0);
}

static bool answered(const char *topic) {
  char line[300];
  snprintf(line, sizeof line, "\n$iothub/streams/res/%s", topic);
  const char *at = strstr(broker.answers, line);
  return at != NULL && (at[strlen(line)] == '\0' || at[strlen(line)] == '\n');
}

/* ---- tests ---- */

static void test_answers(void **state) {
  (void)state;
  start_ready();
  assert_string_equal(dstream_device_id(rig->device), "dev1");
  assert_ptr_equal(dstream_device_loop(rig->device), loop);
  uint16_t nobody = unused_port();

  rig->plan = ACCEPT;
  ask("1", nobody, "");
  WAIT(answered("200/?$rid=1") && rig->closed == 1);
  assert_string_equal(rig->name, "my name");
  assert_string_equal(rig->rid, "1");
  assert_int_equal(rig->opened, 0);
  assert_int_equal(rig->stream_end.status, DSTREAM_ECONNECT);

  ask("2", nobody, "&$caps=x,eof&$new=1");
  WAIT(answered("200/?$rid=2&$caps=eof") && rig->closed == 2);

  rig->plan = REJECT;
  rig->reason = "not now";
  ask("3", nobody, "");
  WAIT(answered("400/?$rid=3"));
  ask("4", nobody, "&$caps=eof");
  WAIT(answered("400/?$rid=4&$reason=not%20now"));

  rig->plan = LEAVE;
  ask("5", nobody, "");
  WAIT(answered("400/?$rid=5"));

  rig->plan = DEFER;
  ask("6", nobody, "");
  WAIT(rig->deferred != NULL);
  for (int i = 0; i < 10; i++)
    step();
  assert_false(answered("200/?$rid=6"));
  assert_int_equal(
      dstream_request_accept(rig->deferred, NULL, &stream_callbacks, rig, NULL),
      DSTREAM_OK);
  WAIT(answered("200/?$rid=6") && rig->closed == 3);
  rig_end(rig);
}

static void test_malformed_requests(void **state) {
  (void)state;
  start_ready();
  static const char *const topics[] = {
      POST "n",
      POST "n/?$auth=" TOKEN,
      POST "n/?$url=http%3A%2F%2Fh&$auth=" TOKEN "&x=" TOKEN,
      POST "n/?&&=&" TOKEN,
      POST "n/?$rid=a",
      POST "n/?$rid=b&$url=wss%3A%2F%2Fh%2F&$auth=",
      "$iothub/streams/res/200/?$rid=9",
  };
  for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
    assert_int_equal(test_broker_publish(&broker, topics[i]), 0);
  char *longest = malloc(9000);
  assert_non_null(longest);
  memset(longest, 'x', 9000);
  memcpy(longest, POST, strlen(POST));
  longest[8999] = '\0';
  assert_int_equal(test_broker_publish(&broker, longest), 0);
  free(longest);
  rig->plan = REJECT;
  ask("last", 1, "");
  WAIT(answered("400/?$rid=last") && answered("400/?$rid=a") &&
       answered("400/?$rid=b"));
  assert_int_equal(rig->requests, 1);
  assert_string_equal(rig->states, "12");
  assert_true(logged("malformed stream request"));
  assert_true(logged("over 8192 bytes"));
  rig_end(rig);
}

static void test_limits(void **state) {
  (void)state;
  struct silent_port silent;
  assert_int_equal(silent_port_open(&silent), 0);
  struct dstream_device_options options =
      options_for("localhost", broker.tls_port, "dev1");
  options.max_streams = 2;
  options.max_requests = 1;
  rig_start(rig, &options);
  WAIT(last_state(rig) == READY);
  rig->plan = ACCEPT;
  ask("1", silent.port, "");
  ask("2", silent.port, "");
  ask("3", silent.port, "&$caps=eof");
  WAIT(rig->requests == 3);
  assert_int_equal(rig->accepted, DSTREAM_ELIMIT);
  WAIT(answered("200/?$rid=1") && answered("200/?$rid=2"));
  WAIT(strstr(broker.answers, "400/?$rid=3&$reason=") != NULL);
  assert_int_equal(rig->closed, 0);
  rig->plan = DEFER;
  ask("4", silent.port, "");
  WAIT(rig->deferred != NULL);
  ask("5", silent.port, "");
  WAIT(answered("400/?$rid=5"));
  rig_stop(rig); /* both streams end, request 4 is rejected */
  assert_int_equal(rig->closed, 2);
  WAIT(answered("400/?$rid=4"));
  assert_int_equal(dstream_request_reject(rig->deferred, NULL), DSTREAM_ESTATE);
  rig_free(rig);
  silent_port_close(&silent);
}

static void test_broker_comes_and_goes(void **state) {
  (void)state;
  struct silent_port silent;
  assert_int_equal(silent_port_open(&silent), 0);
  start_ready();
  rig->plan = ACCEPT;
  ask("1", silent.port, "");
  WAIT(rig->requests == 1);
  rig->plan = DEFER;
  ask("2", silent.port, "");
  WAIT(rig->deferred != NULL);
  test_broker_kill(&broker);
  WAIT(last_state(rig) == WAITING);
  assert_int_equal(rig->cause.status, DSTREAM_EIO);
  assert_int_equal(
      dstream_request_accept(rig->deferred, NULL, NULL, NULL, NULL),
      DSTREAM_ESTATE);
  WAIT(rig->cause.status == DSTREAM_ECONNECT);
  assert_int_equal(test_broker_run(&broker), 0);
  WAIT(last_state(rig) == READY);
  assert_int_equal(rig->closed, 0); /* the stream outlives all this */
  rig->plan = REJECT;
  ask("3", silent.port, "");
  WAIT(answered("400/?$rid=3"));
  rig_stop(rig);
  assert_int_equal(rig->closed, 1);
  rig_free(rig);
  silent_port_close(&silent);
}

static void expect_cause(const struct dstream_device_options *options,
                         int status, const char *text) {
  rig_start(rig, options);
  WAIT(last_state(rig) == WAITING);
  assert_int_equal(rig->cause.status, status);
  if (strstr(rig->cause.text, text) == NULL)
    fail_msg("\"%s\" does not say \"%s\"", rig->cause.text, text);
  /* and it goes on trying */
  size_t tries = strlen(rig->states);
  WAIT(strlen(rig->states) >= tries + 2);
  rig_end(rig);
}

static void test_no_connection(void **state) {
  (void)state;
  struct dstream_device_options options =
      options_for("localhost", broker.tls_port, "dev1");
  char other[128];
  snprintf(other, sizeof other, "%s/other.pem", broker.dir);
  options.tls.ca_file = other;
  expect_cause(&options, DSTREAM_EVERIFY, "not trusted");

  options.mqtt_over_websocket = true;
  expect_cause(&options, DSTREAM_EVERIFY, "not trusted");

  options = options_for("127.0.0.2", broker.other_name_port, "dev1");
  /* the broker listens on 127.0.0.2, which its certificate does not name */
  expect_cause(&options, DSTREAM_EVERIFY, "not trusted");

  options = options_for("localhost", unused_port(), "dev1");
  expect_cause(&options, DSTREAM_ECONNECT, "refused");

  options = options_for("nobody.invalid", 8883, "dev1");
  expect_cause(&options, DSTREAM_ERESOLVE, "nobody.invalid");

  options = options_for("127.0.0.1", broker.plain_port, "dev1");
  expect_cause(&options, DSTREAM_EIO, "127.0.0.1");

  options = options_for("localhost", broker.closed_port, "dev1");
  expect_cause(&options, DSTREAM_EUNAUTHORIZED, "clock");
  assert_int_equal(rig->cause.mqtt_code, 5);
}

static void test_address_and_gateway(void **state) {
  (void)state;
  struct dstream_device_options options =
      options_for("127.0.0.1", broker.tls_port, "dev1");
  rig_start(rig, &options);
  WAIT(last_state(rig) == READY);
  rig_end(rig);
  options = options_for("hub.invalid;GatewayHostName=localhost",
                        broker.tls_port, "dev1;ModuleId=m");
  rig_start(rig, &options);
  WAIT(last_state(rig) == READY);
  assert_string_equal(dstream_device_id(rig->device), "dev1/m");
  rig_end(rig);
}

static void test_websocket(void **state) {
  (void)state;
  struct dstream_device_options options =
      options_for("localhost", broker.websocket_port, "dev1");
  options.mqtt_over_websocket = true;
  rig_start(rig, &options);
  WAIT(last_state(rig) == READY);
  rig->plan = REJECT;
  ask("1", 1, "");
  WAIT(answered("400/?$rid=1"));
  rig_end(rig);
}

static void test_x509(void **state) {
  (void)state;
  struct dstream_device_options options =
      options_for("localhost", broker.certificate_port, "dev1");
  rig_start(rig, &options); /* without one */
  WAIT(last_state(rig) == WAITING);
  assert_true(rig->cause.status == DSTREAM_ETLS ||
              rig->cause.status == DSTREAM_EIO);
  rig_end(rig);

  snprintf(cert_file, sizeof cert_file, "%s/device.pem", broker.dir);
  snprintf(key_file, sizeof key_file, "%s/device.key", broker.dir);
  snprintf(conn_string, sizeof conn_string,
           "HostName=localhost;DeviceId=dev1;x509=true;MqttPort=%u",
           (unsigned)broker.certificate_port);
  options.cert_file = cert_file;
  options.key_file = key_file;
  rig_start(rig, &options);
  WAIT(last_state(rig) == READY);
  rig_end(rig);
}

static int sign(void *user, const char *resource, uint64_t expiry, char *out,
                size_t out_size) {
  struct rig *r = user;
  r->signed_tokens++;
  assert_string_equal(resource, "localhost/devices/dev1");
  static const uint8_t key[] = "0123456789abcdef0123456789abcdef";
  int len = sas_make(out, out_size, resource, key, 32, expiry, NULL,
                     SAS_RAW_RESOURCE);
  return len < 0 ? len : 0;
}

static void test_renewal(void **state) {
  (void)state;
  struct silent_port silent;
  assert_int_equal(silent_port_open(&silent), 0);
  struct dstream_device_options options =
      options_for("localhost", broker.tls_port, "dev1");
  options.sas_lifetime_s = 10;
  options.sas = sign;
  options.sas_user = rig;
  uint64_t from = loop_now_ms();
  rig_start(rig, &options);
  WAIT(last_state(rig) == READY);
  rig->plan = DEFER;
  ask("1", silent.port, "");
  WAIT(rig->deferred != NULL);
  WAIT(strcmp(rig->states, "124") == 0);
  assert_true(loop_now_ms() - from >= 9500); /* at 95 % of the token's life */
  from = loop_now_ms();
  WAIT(strcmp(rig->states, "1242") == 0);
  assert_int_equal(rig->signed_tokens, 2);
  assert_int_equal(
      dstream_request_accept(rig->deferred, NULL, NULL, NULL, NULL),
      DSTREAM_ESTATE);
  rig->plan = ACCEPT;
  WAIT(strcmp(rig->states, "12424") == 0); /* nothing in the way: at 80 % */
  assert_true(loop_now_ms() - from >= 7900);
  assert_true(loop_now_ms() - from < 9400);
  WAIT(last_state(rig) == READY);
  rig_end(rig);
  silent_port_close(&silent);
}

static void test_twenty_devices(void **state) {
  (void)state;
  for (int i = 0; i < DEVICES_MAX; i++) {
    char id[16];
    snprintf(id, sizeof id, "dev%d", i);
    struct dstream_device_options options =
        options_for("localhost", broker.tls_port, id);
    rig_start(&rigs[i], &options);
    rigs[i].plan = REJECT;
  }
  for (int i = 0; i < DEVICES_MAX; i++)
    WAIT(last_state(&rigs[i]) == READY);
  ask("1", 1, ""); /* this broker tells it to all */
  for (int i = 0; i < DEVICES_MAX; i++)
    WAIT(rigs[i].requests == 1);
  test_broker_kill(&broker);
  assert_int_equal(test_broker_run(&broker), 0);
  for (int i = 0; i < DEVICES_MAX; i++)
    WAIT(strlen(rigs[i].states) > 2 && last_state(&rigs[i]) == READY);
  for (int i = 0; i < DEVICES_MAX; i++)
    rig_end(&rigs[i]);
}

static void test_two_with_one_identity(void **state) {
  (void)state;
  struct dstream_device_options options =
      options_for("localhost", broker.tls_port, "dev1");
  rig_start(&rigs[0], &options);
  rig_start(&rigs[1], &options);
  WAIT(rigs[0].storm || rigs[1].storm);
  rig_end(&rigs[0]);
  rig_end(&rigs[1]);
}

static void test_start_stop_start(void **state) {
  (void)state;
  start_ready();
  for (int i = 0; i < 2; i++) {
    rig_stop(rig);
    dstream_device_stop(rig->device); /* it is stopped already */
    rig->stopped = 0;
    assert_int_equal(dstream_device_start(rig->device), DSTREAM_OK);
    WAIT(last_state(rig) == READY);
  }
  dstream_device_stop(rig->device);
  WAIT(rig->stopped == 1);
  rig_free(rig);

  /* never started; stopped while it connects; and while it waits */
  struct silent_port silent;
  assert_int_equal(silent_port_open(&silent), 0);
  struct dstream_device_options options =
      options_for("localhost", silent.port, "dev1");
  rig_new(rig, &options);
  rig_free(rig);
  rig_start(rig, &options);
  WAIT(last_state(rig) == '1');
  rig_end(rig);
  rig_start(rig, &options);
  rig_end(rig);
  silent_port_close(&silent);
  options = options_for("localhost", unused_port(), "dev1");
  options.retry_min_ms = options.retry_max_ms = 100000;
  rig_start(rig, &options);
  WAIT(last_state(rig) == WAITING);
  rig_end(rig);
}

static void test_proxies(void **state) {
  (void)state;
  struct test_proxy proxy;
  /* "us%er:p:ss" */
  assert_int_equal(test_proxy_start(&proxy, "Basic dXMlZXI6cDpzcw=="), 0);
  char url[64];
  struct dstream_device_options options =
      options_for("localhost", broker.tls_port, "dev1");
  options.http_proxy = url;
  snprintf(url, sizeof url, "http://us%%25er:p:ss@127.0.0.1:%u", proxy.port);
  rig_start(rig, &options);
  WAIT(last_state(rig) == READY);
  rig_end(rig);
  assert_int_equal(atomic_load(&proxy.tunnels), 1);

  options = options_for("localhost", broker.websocket_port, "dev1");
  options.http_proxy = url;
  options.mqtt_over_websocket = true;
  rig_start(rig, &options);
  WAIT(last_state(rig) == READY);
  rig_end(rig);
  assert_int_equal(atomic_load(&proxy.tunnels), 2);

  snprintf(url, sizeof url, "http://127.0.0.1:%u", proxy.port);
  expect_cause(&options, DSTREAM_EPROXY, "407");
  assert_int_equal(atomic_load(&proxy.tunnels), 2);
  test_proxy_stop(&proxy);
}

/* ---- a device with a loop and a thread of its own ---- */

static pthread_mutex_t own_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t own_changed = PTHREAD_COND_INITIALIZER;
static int own_state = -1;
static int own_stops;
static pthread_t own_thread;

static void own_on_state(dstream_device *device, void *user,
                         enum dstream_device_state state,
                         const struct dstream_end *cause) {
  (void)device, (void)user, (void)cause;
  pthread_mutex_lock(&own_lock);
  own_state = (int)state;
  own_thread = pthread_self();
  pthread_cond_signal(&own_changed);
  pthread_mutex_unlock(&own_lock);
}

static void own_on_request(dstream_device *device, void *user,
                           dstream_request *request) {
  (void)device, (void)user;
  dstream_request_reject(request, NULL);
}

static void own_on_stopped(dstream_device *device, void *user) {
  (void)device, (void)user;
  pthread_mutex_lock(&own_lock);
  own_stops++;
  pthread_cond_signal(&own_changed);
  pthread_mutex_unlock(&own_lock);
}

static void own_wait(const int *what, int value) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += DEADLINE_MS / 1000;
  pthread_mutex_lock(&own_lock);
  int failed = 0;
  while (*what != value && failed == 0)
    failed = pthread_cond_timedwait(&own_changed, &own_lock, &until);
  pthread_mutex_unlock(&own_lock);
  assert_int_equal(failed, 0);
}

static void test_own_thread(void **state) {
  (void)state;
  static const struct dstream_device_callbacks own = {
      own_on_state, own_on_request, own_on_stopped};
  struct dstream_device_options options =
      options_for("localhost", broker.tls_port, "own");
  options.loop = NULL;
  dstream_device *device = NULL;
  assert_int_equal(dstream_device_new(&device, &options, &own, NULL, NULL),
                   DSTREAM_OK);
  own_stops = 0;
  for (int i = 1; i <= 2; i++) {
    assert_int_equal(dstream_device_start(device), DSTREAM_OK);
    own_wait(&own_state, DSTREAM_DEVICE_READY);
    dstream_device_stop(device);
    own_wait(&own_stops, i);
  }
  assert_int_equal(own_state, DSTREAM_DEVICE_STOPPED);
  assert_false(pthread_equal(own_thread, pthread_self()));
  assert_int_equal(dstream_device_start(device), DSTREAM_OK);
  own_wait(&own_state, DSTREAM_DEVICE_READY);
  ask("own", 1, "");
  WAIT(answered("400/?$rid=own"));
  dstream_device_free(device); /* stops it */
  assert_int_equal(own_stops, 3);

  assert_int_equal(dstream_device_new(&device, &options, &own, NULL, NULL),
                   DSTREAM_OK);
  dstream_device_free(device);
  assert_int_equal(own_stops, 3);
}

static void test_bad_options(void **state) {
  (void)state;
  dstream_device *device = NULL;
  struct dstream_end error;
  struct dstream_device_options good =
      options_for("localhost", broker.tls_port, "dev1");
  struct {
    struct dstream_device_options options;
    int status;
    const char *text;
  } rows[] = {
      {good, DSTREAM_EINVAL, "size"},
      {good, DSTREAM_EINVAL, "connection_string"},
      {good, DSTREAM_ECONNSTRING, "DeviceId"},
      {good, DSTREAM_EINVAL, "mqtt_keepalive_s"},
      {good, DSTREAM_EINVAL, "sas_lifetime_s"},
      {good, DSTREAM_EINVAL, "retry_max_ms"},
      {good, DSTREAM_EINVAL, "api_version"},
      {good, DSTREAM_EINVAL, "x509=true"},
      {good, DSTREAM_ETLS, "/nonexistent"},
      {good, DSTREAM_EINVAL, "proxy"},
  };
  rows[0].options.size--;
  rows[1].options.connection_string = NULL;
  rows[2].options.connection_string = "HostName=h;SharedAccessKey=" KEY;
  rows[3].options.mqtt_keepalive_s = 1178;
  rows[4].options.sas_lifetime_s = 9;
  rows[5].options.retry_max_ms = 10;
  rows[6].options.api_version = "1&x=y";
  rows[7].options.cert_file = "x";
  rows[8].options.tls.ca_file = "/nonexistent";
  rows[9].options.http_proxy = "socks://x";
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    int status =
        dstream_device_new(&device, &rows[i].options, &callbacks, NULL, &error);
    assert_int_equal(status, rows[i].status);
    assert_int_equal(error.status, status);
    if (strstr(error.text, rows[i].text) == NULL)
      fail_msg("\"%s\" does not say \"%s\"", error.text, rows[i].text);
    assert_null(strstr(error.text, KEY));
    assert_null(device);
  }
  dstream_device_free(NULL);
}

/* ---- all ---- */

static int setup_all(void **state) {
  (void)state;
  return test_broker_start(&broker);
}

static int teardown_all(void **state) {
  (void)state;
  test_broker_stop(&broker);
  return 0;
}

static int setup(void **state) {
  (void)state;
  struct dstream_loop_options options = {
      .size = sizeof options, .log = on_log, .log_level = DSTREAM_LOG_DEBUG};
  free(lines);
  lines = NULL;
  lines_len = 0;
  memset(rigs, 0, sizeof rigs);
  broker.answers[0] = '\0';
  return dstream_loop_new(&loop, &options);
}

/* Ends what a failed test left behind; no secret is in the log, whatever
 * happened. */
static int teardown(void **state) {
  (void)state;
  for (int i = 0; i < DEVICES_MAX; i++) {
    struct rig *r = &rigs[i];
    if (r->device == NULL)
      continue;
    uint64_t until = loop_now_ms() + DEADLINE_MS;
    dstream_device_stop(r->device);
    while (last_state(r) != '0' && r->states[0] != '\0' &&
           loop_now_ms() < until)
      step();
    rig_free(r);
  }
  dstream_loop_free(loop);
  int bad = logged(TOKEN) || logged(KEY) || logged("SharedAccessSignature");
  free(lines);
  lines = NULL;
  return bad;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_answers),
      TEST(test_malformed_requests),
      TEST(test_limits),
      TEST(test_broker_comes_and_goes),
      TEST(test_no_connection),
      TEST(test_address_and_gateway),
      TEST(test_websocket),
      TEST(test_x509),
      TEST(test_renewal),
      TEST(test_twenty_devices),
      TEST(test_two_with_one_identity),
      TEST(test_start_stop_start),
      TEST(test_proxies),
      TEST(test_own_thread),
      TEST(test_bad_options),
  };
  cmocka_set_test_filter(getenv("TESTS")); /* "test_x*": these only */
  return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
