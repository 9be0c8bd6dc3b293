/* The hub's certificates replaced while it runs (SIGHUP): nothing that is open
 * notices, what comes next sees the new ones, and what is broken is refused in
 * words while the old ones go on. */
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

#include <cmocka.h>

#include "hub/certificate.h"
#include "integration/support_raw.h"
#include "integration/support_tool.h"
#include "integration/support_world.h"

#define PRINT_SIZE 160
#define RUSH       25

static struct hub_fixture hub;
static struct beside beside;
static struct hub_output output;
static char folder[64]; /* the first and the second certificates */
static char both_cas[96];

/* "first" is the hub's own; "second" is another CA's.  "one" and "two" are CAs
 * of devices, each with a certificate for its device of the same name. */
static const char device_certificates[] =
    "set -e; cd %s\n"
    "ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n"
    "for ca in one two; do\n"
    "  openssl req -x509 $ec -keyout $ca.key -out $ca.pem -subj /CN=$ca-ca\n"
    "  openssl req $ec -keyout dev-$ca.key -out dev-$ca.csr -subj /CN=dev-$ca\n"
    "  openssl x509 -req -in dev-$ca.csr -CA $ca.pem -CAkey $ca.key "
    "-CAcreateserial -out dev-$ca.pem\n"
    "done\n"
    "cp one.pem device-ca.pem\n";

/* Runs a line of bash that must succeed. */
#define SH(...)                                                                \
  do {                                                                         \
    if (tool_shell(&output, __VA_ARGS__) != 0)                                 \
      fail_msg("%s", output.err);                                              \
  } while (0)

static void take_line(char *out, size_t size) {
  size_t len = strcspn(output.out, "\n");
  assert_true(len > 0 && len < size);
  memcpy(out, output.out, len);
  out[len] = '\0';
}

/* SIGHUP, until the hub says what came of it. */
static void hangup(const char *text) {
  hub_fixture_mark_log(&hub);
  assert_int_equal(kill(hub.pid, SIGHUP), 0);
  assert_int_equal(hub_fixture_wait_log(&hub, text, 15000), 0);
}

/* The SHA-256 fingerprint of what a stranger is shown on a port. */
static void shown(char *out, uint16_t port) {
  SH("openssl s_client -connect localhost:%u -servername localhost "
     "</dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256",
     (unsigned)port);
  take_line(out, PRINT_SIZE);
}

static void assert_shown(const char *name) {
  char want[PRINT_SIZE];
  char got[PRINT_SIZE];
  SH("openssl x509 -noout -fingerprint -sha256 -in %s/%s/server.pem", folder,
     name);
  take_line(want, sizeof want);
  assert_non_null(strstr(want, "ingerprint="));
  shown(got, hub.https_port);
  assert_string_equal(got, want);
  shown(got, hub.mqtt_port);
  assert_string_equal(got, want);
}

/* The stream and the control connection that have been there all the time. */
static void assert_undisturbed(void) {
  beside_check(&beside);
  assert_int_equal(beside.peer.closes, 0);
  assert_int_equal(beside.device.readies, 1);
  assert_int_equal(beside.device.failures, 0);
  assert_false(hub_fixture_logged(&hub, "beside can no longer be reached"));
}

static void use(const char *name) {
  SH("cp %s/%s/server*.pem %s/", folder, name, hub.hub_dir);
}

/* Whole streams of newcomers, who trust both CAs. */
static void newcomers_work(const char *id) {
  char text[CONN_STRING_MAX];
  struct world_device device = {.kind = PEER_ECHO};
  struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = hub.service_string,
      .loop = test_loop,
      .tls = {.size = sizeof options.tls, .ca_file = both_cas}};
  dstream_service *service = NULL;
  assert_int_equal(hub_fixture_add_device(&hub, id, text), 0);
  struct dstream_device_options newcomer = {.connection_string = text,
                                            .tls.ca_file = both_cas};
  world_device_start_with(&device, &newcomer);
  world_device_wait_ready(&device);
  assert_int_equal(dstream_service_new(&service, &options, NULL), 0);
  world_echo(service, id, 100000);
  dstream_service_free(service);
  world_device_end(&device);
}

/* ---- tests ---- */

static void test_replaced(void **state) {
  (void)state;
  assert_shown("first");
  use("second");
  assert_shown("first"); /* files alone change nothing */
  hangup("certificate reread");
  assert_shown("second");
  assert_undisturbed();
  newcomers_work("newcomer");
  use("first");
  hangup("certificate reread");
  assert_shown("first");
  assert_undisturbed();
}

static void test_broken(void **state) {
  (void)state;
  static const struct {
    const char *damage; /* a line of bash, in the hub's folder */
    const char *named;
  } cases[] = {
      {"echo nonsense >server.pem", "server.pem"},
      {": >server.pem", "server.pem"},
      {"rm server.pem", "server.pem"},
      {"head -c 300 server.pem >part; mv part server.pem", "server.pem"},
      {"cp $others/second/server.pem ./", "server-key.pem"}, /* not its key */
      {"cp $others/second/server-key.pem ./", "server-key.pem"},
      {"echo nonsense >server-key.pem", "server-key.pem"},
      {"rm server-key.pem", "server-key.pem"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    SH("cd %s; others=%s; %s", hub.hub_dir, folder, cases[i].damage);
    hangup("the certificate could not be reread, the old one stays: can't ");
    if (!hub_fixture_logged(&hub, cases[i].named)) {
      hub_fixture_show_log(&hub);
      fail_msg("%s: the file is not named", cases[i].damage);
    }
    assert_shown("first");
    use("first");
  }
  assert_undisturbed();
  use("second");
  hangup("certificate reread");
  assert_shown("second");
  use("first");
  hangup("certificate reread");
}

/* Connections that came before and shake hands afterwards. */
static bool come_meanwhile(struct raw *raw, void *arg) {
  (void)arg;
  for (int i = 0; i < RUSH; i++) {
    NEED(raw, kill(hub.pid, SIGHUP) == 0);
    NEED(raw,
         raw_connect(raw, "localhost",
                     i % 2 == 0 ? hub.https_port : hub.mqtt_port, both_cas));
    raw_close(raw);
    NEED(raw, raw_connect_plain(raw, "localhost", hub.https_port));
    NEED(raw, kill(hub.pid, SIGHUP) == 0);
    raw_close(raw);
  }
  return true;
}

static void test_again_and_again(void **state) {
  (void)state;
  run_script(come_meanwhile, NULL);
  assert_undisturbed();
  newcomers_work("latecomer");
}

/* ---- the CA of devices ---- */

static void start_x509(struct world_device *device, const char *ca) {
  char text[CONN_STRING_MAX];
  char certificate[128];
  char key[128];
  snprintf(certificate, sizeof certificate, "%s/dev-%s.pem", folder, ca);
  snprintf(key, sizeof key, "%s/dev-%s.key", folder, ca);
  snprintf(text, sizeof text,
           "HostName=localhost;DeviceId=dev-%s;x509=true;HttpsPort=%u;"
           "MqttPort=%u",
           ca, (unsigned)hub.https_port, (unsigned)hub.mqtt_port);
  struct dstream_device_options options = {.connection_string = text,
                                           .tls.ca_file = both_cas,
                                           .cert_file = certificate,
                                           .key_file = key};
  memset(device, 0, sizeof *device);
  device->kind = PEER_ECHO;
  world_device_start_with(device, &options);
}

static void use_device_ca(const char *ca, const char *said) {
  SH("cd %s && cp %s device-ca.pem", folder, ca);
  hangup(said);
}

static void assert_refused(const char *ca) {
  struct world_device device;
  char text[96];
  snprintf(text, sizeof text, "dev-%s is refused: no CA of device_ca_file", ca);
  hub_fixture_mark_log(&hub);
  start_x509(&device, ca);
  WAIT(hub_fixture_logged(&hub, text));
  assert_int_equal(device.readies, 0);
  world_device_end(&device);
}

static void add_x509(const char *id) {
  const char *const arguments[] = {
      hub_program(), "device", "add", hub.hub_dir, id, "--x509-ca", NULL};
  assert_int_equal(hub_command(&output, arguments), 0);
}

static void test_device_ca(void **state) {
  (void)state;
  struct world_device one;
  struct world_device two;
  dstream_service *service = world_service(&hub, NULL);
  add_x509("dev-one");
  add_x509("dev-two");
  start_x509(&one, "one");
  world_device_wait_ready(&one);
  assert_refused("two");
  /* the other CA: who is there stays, who comes is judged by it */
  use_device_ca("two.pem", "certificate reread");
  start_x509(&two, "two");
  world_device_wait_ready(&two);
  world_echo(service, "dev-two", 1000);
  world_echo(service, "dev-one", 1000);
  assert_int_equal(one.readies, 1);
  assert_int_equal(one.failures, 0);
  world_device_end(&one);
  assert_refused("one");
  /* a broken file: that CA stays */
  use_device_ca("dev-two.csr", "the old one stays");
  assert_true(hub_fixture_logged(&hub, "device-ca.pem"));
  world_echo(service, "dev-two", 1000);
  world_device_end(&two);
  start_x509(&two, "two");
  world_device_wait_ready(&two);
  world_device_end(&two);
  dstream_service_free(service);
  assert_undisturbed();
}

/* ---- group ---- */

static int make_certificates(void) {
  char path[96];
  snprintf(folder, sizeof folder, "/tmp/dstream-life-XXXXXX");
  if (mkdtemp(folder) == NULL ||
      tool_shell(&output, device_certificates, folder) != 0)
    return -1;
  snprintf(path, sizeof path, "%s/second", folder);
  if (mkdir(path, 0700) != 0)
    return -1;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int status = certificate_create(fd, "localhost", NULL);
  close(fd);
  return status;
}

static int group_setup(void **state) {
  (void)state;
  char overrides[160];
  if (make_certificates() != 0)
    return -1;
  snprintf(overrides, sizeof overrides,
           "{\"device_ca_file\": \"%s/device-ca.pem\"}", folder);
  struct hub_fixture_options options = {.overrides = overrides};
  test_loop_start();
  if (hub_fixture_start(&hub, &options) != 0)
    return -1;
  snprintf(both_cas, sizeof both_cas, "%s/both.pem", folder);
  if (tool_shell(&output,
                 "mkdir %1$s/first && cp %2$s/server*.pem %1$s/first && "
                 "cat %3$s %1$s/second/ca.pem >%1$s/both.pem",
                 folder, hub.hub_dir, hub.ca_file) != 0)
    return -1;
  beside_start(&beside, &hub, "beside");
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  beside_end(&beside);
  test_loop_end();
  tool_shell(&output, "rm -rf %s", folder);
  return hub_fixture_stop(&hub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_replaced),
      cmocka_unit_test(test_broken),
      cmocka_unit_test(test_again_and_again),
      cmocka_unit_test(test_device_ca),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
