/* Device and service behind an HTTP CONNECT proxy: the control connection, REST
 * calls and streams all go through it, names are looked up by it, and what it
 * refuses is told in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/dstream.h>

#include "integration/support_echo.h"
#include "integration/support_hub.h"
#include "integration/support_proxy.h"
#include "integration/support_streams.h"
#include "net/link.h"

/* A name that only the proxy knows (RFC 6761 6.4). */
#define HOST        "hub.dstream.invalid"
#define DEVICE      "behind-a-proxy"
#define CREDENTIALS "user:p@ss:w%rd"
/* The same in a URL. */
#define ESCAPED_CREDENTIALS "user:p%40ss:w%25rd"
#define ECHO_BYTES          200000

static struct hub_fixture hub;
static struct hub_fixture local_hub; /* "localhost", for tinyproxy */
static char device_string[CONN_STRING_MAX];
static char local_device_string[CONN_STRING_MAX];

/* Of the test that runs; ended by its teardown. */
static struct proxy_fixture proxy;
static struct tinyproxy tinyproxy;
static struct echo_device device;

/* ---- fixtures ---- */

static int group_setup(void **state) {
  const struct hub_fixture_options options = {.host = HOST};
  (void)state;
  /* Paho would obey it where a test wants no proxy. */
  unsetenv("https_proxy");
  if (hub_fixture_start(&hub, &options) != 0 ||
      hub_fixture_start(&local_hub, NULL) != 0 ||
      hub_fixture_add_device(&hub, DEVICE, device_string) != 0 ||
      hub_fixture_add_device(&local_hub, DEVICE, local_device_string) != 0)
    return -1;
  test_loop_start();
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  test_loop_end();
  int status = hub_fixture_stop(&hub);
  return hub_fixture_stop(&local_hub) != 0 ? -1 : status;
}

static int teardown(void **state) {
  (void)state;
  echo_device_stop(&device);
  proxy_stop(&proxy);
  tinyproxy_stop(&tinyproxy);
  return 0;
}

static struct dstream_device_options device_options(const char *url) {
  return (struct dstream_device_options){
      .size = sizeof(struct dstream_device_options),
      .connection_string = device_string,
      .tls = {sizeof(struct dstream_tls_options), hub.ca_file},
      .http_proxy = url,
      .retry_min_ms = 60000}; /* one try is what a test looks at */
}

static struct dstream_service_options service_options(const char *url) {
  return (struct dstream_service_options){
      .size = sizeof(struct dstream_service_options),
      .connection_string = hub.service_string,
      .tls = {sizeof(struct dstream_tls_options), hub.ca_file},
      .http_proxy = url};
}

static void start_proxy(enum proxy_mode mode, const char *credentials) {
  const struct proxy_options options = {
      .mode = mode, .credentials = credentials, .name = HOST};
  assert_int_equal(proxy_start(&proxy, &options), 0);
}

/* ---- it works ---- */

static void echo_through(const char *url, bool websocket) {
  struct dstream_device_options options = device_options(url);
  struct dstream_service_options service = service_options(url);
  options.mqtt_over_websocket = websocket;
  echo_device_connect(&device, &options);
  assert_int_equal(proxy_count(&proxy, 0), 1);
  assert_int_equal(
      proxy_count(&proxy, websocket ? hub.https_port : hub.mqtt_port), 1);
  echo_call_ok(&service, DEVICE, ECHO_BYTES);
  /* The REST call and both sides of the stream. */
  assert_int_equal(proxy_count(&proxy, 0), 4);
  assert_int_equal(proxy_count(&proxy, hub.https_port), websocket ? 4 : 3);
  /* The names were looked up by the proxy: here, they mean nothing. */
  assert_true(proxy_all_to(&proxy, HOST));
  assert_int_equal(proxy_malformed(&proxy), 0);
  assert_int_equal(device.failures, 0);
}

static void test_both_channels(void **state) {
  (void)state;
  start_proxy(PROXY_WORKS, NULL);
  echo_through(proxy.url, false);
}

static void test_mqtt_over_websocket(void **state) {
  (void)state;
  start_proxy(PROXY_WORKS, NULL);
  echo_through(proxy.url, true);
}

static void test_with_credentials(void **state) {
  char url[PROXY_URL_SIZE];
  (void)state;
  start_proxy(PROXY_WORKS, CREDENTIALS);
  proxy_url_with(&proxy, ESCAPED_CREDENTIALS, url);
  echo_through(url, false);
  assert_int_equal(proxy_refused(&proxy), 0);
}

static void test_websocket_with_credentials(void **state) {
  char url[PROXY_URL_SIZE];
  (void)state;
  start_proxy(PROXY_WORKS, CREDENTIALS);
  proxy_url_with(&proxy, ESCAPED_CREDENTIALS, url);
  echo_through(url, true);
  assert_int_equal(proxy_refused(&proxy), 0);
}

/* Without the proxy nobody finds the hub: the tests above prove something. */
static void test_unreachable_without(void **state) {
  struct dstream_service_options service = service_options(NULL);
  struct dstream_end end;
  (void)state;
  echo_call(&service, DEVICE, 1, &end);
  assert_int_equal(end.status, DSTREAM_ERESOLVE);
}

/* ---- it does not ---- */

static void assert_end(const struct dstream_end *end, const char *who,
                       int status, int http_status, const char *text) {
  if (end->status != status || end->http_status != http_status ||
      strstr(end->text, text) == NULL)
    fail_msg("the %s was told %s, http %d, \"%s\"; expected %s, http %d, "
             "\"%s\"",
             who, dstream_status_name(end->status), end->http_status, end->text,
             dstream_status_name(status), http_status, text);
}

static void service_fails_through(const char *url, int status, int http_status,
                                  const char *text) {
  struct dstream_service_options service = service_options(url);
  struct dstream_end end;
  uint64_t received = echo_call(&service, DEVICE, 1, &end);
  assert_int_equal(received, 0);
  assert_end(&end, "service", status, http_status, text);
}

static void device_fails_through(const char *url, bool websocket, int status,
                                 int http_status, const char *text) {
  struct dstream_device_options options = device_options(url);
  options.mqtt_over_websocket = websocket;
  echo_device_start(&device, &options);
  WAIT(device.failures > 0);
  assert_int_equal(device.state, DSTREAM_DEVICE_WAITING);
  assert_int_equal(device.readies, 0);
  assert_end(&device.cause, websocket ? "device on 443" : "device", status,
             http_status, text);
  echo_device_stop(&device);
}

/* Device and service are told the same. */
static void fails_through(const char *url, int status, int http_status,
                          const char *text) {
  service_fails_through(url, status, http_status, text);
  device_fails_through(url, false, status, http_status, text);
}

static void test_needs_credentials(void **state) {
  (void)state;
  start_proxy(PROXY_WORKS, CREDENTIALS);
  fails_through(proxy.url, DSTREAM_EPROXY, 407, "it wants a user name");
  assert_int_equal(proxy_count(&proxy, 0), 0);
}

static void test_wrong_credentials(void **state) {
  char url[PROXY_URL_SIZE];
  (void)state;
  start_proxy(PROXY_WORKS, CREDENTIALS);
  proxy_url_with(&proxy, "user:wrong", url);
  fails_through(url, DSTREAM_EPROXY, 407, "it does not take");
  device_fails_through(url, true, DSTREAM_EPROXY, 407, "it does not take");
  assert_int_equal(proxy_asked(&proxy), proxy_refused(&proxy));
}

static void test_refuses(void **state) {
  (void)state;
  start_proxy(PROXY_REFUSES, NULL);
  fails_through(proxy.url, DSTREAM_EPROXY, 403, "403");
}

/* The device's control connection would learn it too, but Paho waits ten
 * seconds for the answer of a proxy that has hung up. */
static void test_dies(void **state) {
  (void)state;
  start_proxy(PROXY_DIES, NULL);
  service_fails_through(proxy.url, DSTREAM_EPROXY, 0, "closed the connection");
}

static void test_garbage(void **state) {
  (void)state;
  start_proxy(PROXY_GARBAGE, NULL);
  fails_through(proxy.url, DSTREAM_EPROXY, 0, "does not speak HTTP");
}

/* It works, but the hub is not where it looks. */
static void test_hub_is_gone(void **state) {
  const struct proxy_options nameless = {.mode = PROXY_WORKS};
  (void)state;
  assert_int_equal(proxy_start(&proxy, &nameless), 0);
  fails_through(proxy.url, DSTREAM_EPROXY, 502, "502");
}

static void test_nobody_listens(void **state) {
  char url[PROXY_URL_SIZE];
  (void)state;
  start_proxy(PROXY_WORKS, NULL);
  snprintf(url, sizeof url, "%s", proxy.url);
  proxy_stop(&proxy);
  fails_through(url, DSTREAM_ECONNECT, 0, "127.0.0.1");
}

static void silent_end(void *user, const struct dstream_end *why) {
  struct dstream_end *end = user;
  assert_non_null(why);
  *end = *why;
}

static void test_silent(void **state) {
  static const struct link_callbacks callbacks = {.on_end = silent_end};
  const struct link_options options = {.connect_timeout_ms = 200};
  struct link_proxy where;
  struct dstream_end end = {0};
  struct link *link = NULL;
  (void)state;
  start_proxy(PROXY_SILENT, NULL);
  assert_int_equal(link_proxy_parse(&where, proxy.url, &end), 0);
  assert_int_equal(link_connect(&link, test_loop, HOST, 443, &where, &options,
                                &callbacks, &end),
                   0);
  WAIT(end.status != DSTREAM_OK);
  assert_end(&end, "link", DSTREAM_ETIMEDOUT, 0, "the proxy");
  assert_int_equal(proxy_asked(&proxy), 1);
  link_abort(link);
  dstream_loop_step(test_loop, 0);
}

static void never_asked(dstream_device *made, void *user,
                        dstream_request *request) {
  (void)made;
  (void)user;
  dstream_request_reject(request, NULL);
}

static void test_bad_url(void **state) {
  static const char *const urls[] = {
      "127.0.0.1:3128", "https://127.0.0.1:3128", "http://",
      "http://:3128",   "http://127.0.0.1:0",     "http://127.0.0.1:65536",
      "http://u:%zz@h", "http://u:p%00q@h"};
  static const struct dstream_device_callbacks callbacks = {.on_request =
                                                                never_asked};
  (void)state;
  for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
    struct dstream_device_options options = device_options(urls[i]);
    dstream_device *made = NULL;
    struct dstream_end error = {0};
    int status = dstream_device_new(&made, &options, &callbacks, NULL, &error);
    if (status != DSTREAM_EINVAL || strstr(error.text, "proxy") == NULL)
      fail_msg("%s: %d, %s", urls[i], status, error.text);
    assert_null(made);
  }
}

/* The proxy dies under a running stream: both channels notice, and all is well
 * again when it is back. */
static void test_dies_later(void **state) {
  struct dstream_service_options service = service_options(NULL);
  struct dstream_device_options options;
  struct peer peer;
  struct dstream_service *caller = NULL;
  (void)state;
  start_proxy(PROXY_WORKS, NULL);
  options = device_options(proxy.url);
  service.http_proxy = proxy.url;
  service.loop = test_loop;
  echo_device_connect(&device, &options);
  assert_int_equal(dstream_service_new(&caller, &service, NULL), 0);
  memset(&peer, 0, sizeof peer);
  peer_init(&peer, PEER_SENDER, 100, 100);
  assert_int_equal(dstream_service_open_stream(caller, DEVICE, "echo", NULL,
                                               &peer_callbacks, &peer,
                                               &peer.stream),
                   0);
  WAIT(peer_done(&peer));
  proxy_stop(&proxy);
  WAIT_MS(peer.closes > 0, 2000);
  WAIT_MS(device.peers[0].closes > 0, 2000);
  WAIT_MS(device.failures > 0, 4000);
  assert_int_equal(device.state, DSTREAM_DEVICE_WAITING);
  dstream_service_free(caller);
  peer_clear(&peer);
}

/* ---- tinyproxy ---- */

static void echo_through_tinyproxy(bool websocket) {
  struct dstream_device_options options = device_options(tinyproxy.url);
  struct dstream_service_options service = service_options(tinyproxy.url);
  options.connection_string = local_device_string;
  options.tls.ca_file = local_hub.ca_file;
  options.mqtt_over_websocket = websocket;
  service.connection_string = local_hub.service_string;
  service.tls.ca_file = local_hub.ca_file;
  echo_device_connect(&device, &options);
  echo_call_ok(&service, DEVICE, 1 << 20);
  echo_device_stop(&device);
}

static void start_tinyproxy(const char *user, const char *password) {
  int status = tinyproxy_start(&tinyproxy, user, password);
  if (status > 0) {
    print_message("tinyproxy is not installed\n");
    skip();
  }
  assert_int_equal(status, 0);
}

static void test_tinyproxy(void **state) {
  (void)state;
  start_tinyproxy(NULL, NULL);
  echo_through_tinyproxy(false);
  echo_through_tinyproxy(true);
}

static void test_tinyproxy_with_credentials(void **state) {
  char wrong[PROXY_URL_SIZE];
  (void)state;
  start_tinyproxy("someone", "secret");
  echo_through_tinyproxy(false);
  snprintf(wrong, sizeof wrong, "http://someone:else@127.0.0.1:%u",
           (unsigned)tinyproxy.port);
  /* 401 where others say 407. */
  fails_through(wrong, DSTREAM_EPROXY, 401, "it does not take");
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_both_channels),
      TEST(test_mqtt_over_websocket),
      TEST(test_with_credentials),
      TEST(test_websocket_with_credentials),
      TEST(test_unreachable_without),
      TEST(test_needs_credentials),
      TEST(test_wrong_credentials),
      TEST(test_refuses),
      TEST(test_dies),
      TEST(test_garbage),
      TEST(test_hub_is_gone),
      TEST(test_nobody_listens),
      TEST(test_silent),
      TEST(test_bad_url),
      TEST(test_dies_later),
      TEST(test_tinyproxy),
      TEST(test_tinyproxy_with_credentials),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
