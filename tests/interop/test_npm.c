/* The official SDK for Node: its device against the hub, over MQTT and over
 * WebSocket; its service side against the hub and the library's device; its
 * identity registry against the hub.
 *
 * tests/interop/npm.sh starts it: the official ports are fixed, so they have to
 * be the test's own. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "integration/support_echo.h"
#include "integration/support_hub.h"
#include "integration/support_raw.h"
#include "integration/support_streams.h"

#define HOST         "127.0.0.1"
#define EXIT_SKIPPED 77

static struct hub_fixture hub;
static struct echo_device device;

/* One run of node, on a thread of its own. */
struct node {
  const char *script;
  const char *arguments[6];
  struct hub_output output;
};

static bool run_node(struct raw *raw, void *arg) {
  struct node *node = arg;
  const char *folder = getenv("DSTREAM_SOURCE_DIR");
  char path[512];
  const char *arguments[9] = {"node", path};
  snprintf(path, sizeof path, "%s/tests/interop/%s",
           folder != NULL ? folder : ".", node->script);
  for (size_t i = 0; i < 6; i++)
    arguments[2 + i] = node->arguments[i];
  int status = hub_command(&node->output, arguments);
  if (status == 0)
    return true;
  snprintf(raw->error, sizeof raw->error, "%s %s: exit status %d\n%.300s",
           node->script, node->arguments[0], status, node->output.err);
  fprintf(stderr, "%s%s", node->output.out, node->output.err);
  return false;
}

static int group_setup(void **state) {
  const struct hub_fixture_options options = {
      .host = HOST,
      .https_port = 443,
      .mqtt_port = 8883,
      .overrides = "{\"bind_address\":\"" HOST "\"}"};
  (void)state;
  unsetenv("https_proxy");
  if (hub_fixture_start(&hub, &options) != 0)
    return -1;
  test_loop_start();
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  test_loop_end();
  return hub_fixture_stop(&hub);
}

static int teardown(void **state) {
  (void)state;
  echo_device_stop(&device);
  return 0;
}

static struct node *node_new(const char *script) {
  struct node *node = calloc(1, sizeof *node);
  assert_non_null(node);
  node->script = script;
  return node;
}

/* ---- the official device ---- */

static void assert_all_steps(const struct node *node, const char *id) {
  char expected[512];
  snprintf(expected, sizeof expected,
           "connected\n"
           "subscribed to $iothub/methods/POST/#\n"
           "subscribed to devices/%s/messages/devicebound/#\n"
           "renewed\nrenewed\nclosed\n",
           id);
  assert_string_equal(node->output.out, expected);
}

/* Both transports at once: most of it is waiting for tokens to age. */
static void test_device(void **state) {
  static const char *const transports[] = {"Mqtt", "MqttWs"};
  static char strings[2][CONN_STRING_MAX];
  struct node *nodes[2];
  struct script *scripts[2];
  char line[64];
  (void)state;
  for (int i = 0; i < 2; i++) {
    assert_int_equal(hub_fixture_add_device(&hub, transports[i], strings[i]),
                     0);
    /* What the SDK gets to read has no ports: they are the usual ones. */
    assert_null(strstr(strings[i], "Port="));
    nodes[i] = node_new("node_device.js");
    nodes[i]->arguments[0] = transports[i];
    nodes[i]->arguments[1] = strings[i];
    nodes[i]->arguments[2] = hub.ca_file;
    scripts[i] = script_start(run_node, nodes[i]);
  }
  for (int i = 0; i < 2; i++) {
    script_end(scripts[i]);
    assert_all_steps(nodes[i], transports[i]);
    snprintf(line, sizeof line, "device %s disconnected", transports[i]);
    assert_int_equal(hub_fixture_wait_log(&hub, line, 5000), 0);
    free(nodes[i]);
  }
}

static void test_refused(void **state) {
  static char string[CONN_STRING_MAX];
  (void)state;
  assert_int_equal(hub_fixture_add_device(&hub, "refused", string), 0);
  struct node *node = node_new("node_device.js");
  node->arguments[0] = "refused";
  node->arguments[1] = "Mqtt";
  node->arguments[2] = string;
  node->arguments[3] = hub.ca_file;
  run_script(run_node, node);
  assert_string_equal(node->output.out, "refused\n");
  free(node);
}

/* ---- the official service side ---- */

static void run_service(const char *what, const char *id, const char *bytes,
                        const char *expected) {
  struct node *node = node_new("node_service.js");
  int n = 0;
  node->arguments[n++] = what;
  node->arguments[n++] = id;
  if (bytes != NULL)
    node->arguments[n++] = bytes;
  node->arguments[n++] = hub.service_string;
  node->arguments[n++] = hub.ca_file;
  run_script(run_node, node);
  assert_string_equal(node->output.out, expected);
  free(node);
}

static void test_service(void **state) {
  static char string[CONN_STRING_MAX];
  struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = string,
      .tls = {sizeof options.tls, hub.ca_file}};
  (void)state;
  assert_int_equal(hub_fixture_add_device(&hub, "ours", string), 0);
  echo_device_connect(&device, &options);
  run_service("echo", "ours", "1048576", "echoed 1048576\n");
  run_service("echo", "ours", "1", "echoed 1\n");
  WAIT(device.peer_count == 2 && device.peers[1].closes == 1);
  for (unsigned i = 0; i < 2; i++)
    assert_peer_ended(&device.peers[i], true, DSTREAM_ECLOSED, NULL);
  assert_same_bytes(&device.peers[0], &device.peers[0]);
  assert_int_equal(device.peers[0].received, 1048576);
}

static void test_service_error(void **state) {
  (void)state;
  run_service("unknown", "nobody", NULL, "404001\n");
}

/* ---- the official registry: first, as it lists all devices ---- */

static void test_registry(void **state) {
  static char owner[CONN_STRING_MAX], reader[CONN_STRING_MAX];
  (void)state;
  assert_int_equal(hub_fixture_policy_string(&hub, "registryReadWrite", owner),
                   0);
  assert_int_equal(hub_fixture_policy_string(&hub, "registryRead", reader), 0);
  struct node *node = node_new("node_registry.js");
  node->arguments[0] = "all";
  node->arguments[1] = owner;
  node->arguments[2] = reader;
  setenv("NODE_EXTRA_CA_CERTS", hub.ca_file, 1);
  run_script(run_node, node);
  unsetenv("NODE_EXTRA_CA_CERTS");
  assert_string_equal(node->output.out, "create\nget\nupdate\nlist\nbulk\n"
                                        "delete\ncallbacks\n");
  free(node);
}

/* ---- */

static bool port_free(uint16_t port) {
  const struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons(port),
                                      .sin_addr.s_addr = inet_addr(HOST)};
  int on = 1;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  bool ok = fd >= 0 &&
            bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;
  if (fd >= 0)
    close(fd);
  return ok;
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_registry), TEST(test_device),        TEST(test_refused),
      TEST(test_service),  TEST(test_service_error),
  };
  if (getenv("DSTREAM_NODE_MODULES") == NULL) {
    fprintf(stderr, "skipped: run it with tests/interop/npm.sh\n");
    return EXIT_SKIPPED;
  }
  if (!port_free(443) || !port_free(8883)) {
    fprintf(stderr, "skipped: ports 443 and 8883 of " HOST " can't be had, "
                    "and neither can a network namespace\n");
    return EXIT_SKIPPED;
  }
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
