/* Who may connect, changed while the hub runs: devices that are removed,
 * disabled or given new keys, devices with certificates, groups of devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/conn_string.h"
#include "core/sas.h"
#include "integration/support_raw.h"
#include "integration/support_tool.h"
#include "integration/support_world.h"

static struct hub_fixture hub;
static dstream_service *service;
static char folder[64]; /* of certificates */
static struct hub_output output;

/* A CA for devices, one that nobody trusts, and certificates: "ca-1" and
 * "expired" by the first, "rogue" (named ca-1 too) by the second, "pin-1" and
 * "pin-2" by nobody but themselves. */
static const char certificates[] =
    "set -e; cd %s\n"
    "ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n"
    "for name in ca other pin-1 pin-2; do\n"
    "  openssl req -x509 $ec -keyout $name.key -out $name.pem "
    "-subj /CN=$name -days 2\n"
    "done\n"
    "sign() { # NAME COMMON_NAME CA DAYS\n"
    "  openssl req $ec -keyout $1.key -out $1.csr -subj /CN=$2\n"
    "  openssl x509 -req -in $1.csr -CA $3.pem -CAkey $3.key -CAcreateserial "
    "-days $4 -out $1.pem\n"
    "}\n"
    "sign ca-1 ca-1 ca 2\n"
    "sign rogue ca-1 other 2\n"
    "sign expired expired ca -1\n";

static int make_hub(void) {
  char overrides[160];
  snprintf(folder, sizeof folder, "/tmp/dstream-identities-XXXXXX");
  if (mkdtemp(folder) == NULL)
    return -1;
  if (tool_shell(&output, certificates, folder) != 0) {
    fprintf(stderr, "%s\n", output.err);
    return -1;
  }
  snprintf(overrides, sizeof overrides, "{\"device_ca_file\": \"%s/ca.pem\"}",
           folder);
  struct hub_fixture_options options = {.overrides = overrides};
  return hub_fixture_start(&hub, &options);
}

static int group_setup(void **state) {
  (void)state;
  test_loop_start();
  if (make_hub() != 0)
    return -1;
  service = world_service(&hub, NULL);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  dstream_service_free(service);
  test_loop_end();
  tool_shell(&output, "rm -rf %s", folder);
  return hub_fixture_stop(&hub);
}

/* ---- helpers ---- */

/* dstream-hub COMMAND VERB DIR ...; at most three more, NULL: none. */
static int run(const char *command, const char *verb, const char *first,
               const char *second, const char *third) {
  const char *const arguments[] = {hub_program(), command, verb,  hub.hub_dir,
                                   first,         second,  third, NULL};
  return hub_command(&output, arguments);
}

static void must_run(const char *command, const char *verb, const char *first,
                     const char *second, const char *third) {
  if (run(command, verb, first, second, third) != 0)
    fail_msg("dstream-hub %s %s: %s", command, verb, output.err);
}

/* The one line that was printed. */
static void take_line(char *out) {
  size_t len = strcspn(output.out, "\n");
  assert_true(len > 0 && len < CONN_STRING_MAX);
  memcpy(out, output.out, len);
  out[len] = '\0';
}

/* The hub's log says it, as "ID is refused: why", since hub_fixture_mark_log.
 */
static void wait_refused(const char *text) {
  WAIT(hub_fixture_logged(&hub, text));
}

static const char *file_of(const char *name, const char *ending) {
  static char paths[4][128];
  static unsigned next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s.%s", folder, name, ending);
  return path;
}

/* Starts a device with a certificate; its string is the last one printed, or
 * one of its own. */
static void start_x509(struct world_device *device, const char *id,
                       const char *certificate, bool websocket) {
  char text[CONN_STRING_MAX];
  snprintf(text, sizeof text,
           "HostName=localhost;DeviceId=%s;x509=true;HttpsPort=%u;MqttPort=%u",
           id, (unsigned)hub.https_port, (unsigned)hub.mqtt_port);
  struct dstream_device_options options = {
      .connection_string = text,
      .tls.ca_file = hub.ca_file,
      .cert_file = file_of(certificate, "pem"),
      .key_file = file_of(certificate, "key"),
      .mqtt_over_websocket = websocket};
  memset(device, 0, sizeof *device);
  device->kind = PEER_ECHO;
  world_device_start_with(device, &options);
}

static void fingerprint(char *out, size_t size, const char *certificate,
                        const char *digest) {
  assert_int_equal(tool_shell(&output,
                              "openssl x509 -noout -fingerprint -%s -in %s",
                              digest, file_of(certificate, "pem")),
                   0);
  const char *hex = strchr(output.out, '=');
  assert_non_null(hex);
  snprintf(out, size, "%.*s", (int)strcspn(hex + 1, "\n"), hex + 1);
}

/* ---- cut off ---- */

struct victim {
  struct world_device device;
  struct peer peer;
};

/* A stream in full flow to a device that is ready. */
static void victim_open(struct victim *victim, const char *id) {
  struct call call = {.device = id};
  world_device_wait_ready(&victim->device);
  peer_init(&victim->peer, PEER_SENDER, UINT64_MAX, UINT64_MAX);
  world_open(service, &call, &victim->peer);
  WAIT(victim->peer.received > (1 << 20) || victim->peer.closes > 0);
  assert_int_equal(victim->peer.closes, 0);
}

static void victim_start(struct victim *victim, const char *id) {
  char text[CONN_STRING_MAX];
  memset(victim, 0, sizeof *victim);
  victim->device.kind = PEER_ECHO;
  assert_int_equal(hub_fixture_add_device(&hub, id, text), 0);
  world_device_start(&victim->device, &hub, text);
}

static void is_cut_off(struct victim *victim, uint64_t from_ms,
                       const char *reason) {
  struct peer *far = victim->device.peers[0];
  WAIT(victim->peer.closes == 1 && far->closes == 1);
  assert_true(test_now_ms() - from_ms < (TEST_SANITIZED ? 6000 : 2000));
  assert_int_equal(victim->peer.end.ws_code, 1008);
  assert_int_equal(far->end.ws_code, 1008);
  assert_non_null(strstr(victim->peer.end.text, reason));
  assert_non_null(strstr(far->end.text, reason));
  WAIT(victim->device.state != DSTREAM_DEVICE_READY);
  peer_clear(&victim->peer);
}

static void test_removed_and_disabled(void **state) {
  (void)state;
  struct beside beside;
  struct victim removed;
  struct victim disabled;
  struct call call = {.device = "removed"};
  victim_start(&removed, "removed");
  victim_start(&disabled, "disabled");
  beside_start(&beside, &hub, "stays");
  victim_open(&removed, "removed");
  victim_open(&disabled, "disabled");
  hub_fixture_mark_log(&hub);
  uint64_t from_ms = test_now_ms();
  must_run("device", "remove", "removed", NULL, NULL);
  is_cut_off(&removed, from_ms, "the device was removed");
  assert_int_equal(disabled.peer.closes, 0);
  from_ms = test_now_ms();
  must_run("device", "disable", "disabled", NULL, NULL);
  is_cut_off(&disabled, from_ms, "the device is disabled");
  world_open_fails(service, &call, DSTREAM_ENOTFOUND, 404001, NULL);
  wait_refused("removed is refused: there is no such device");
  wait_refused("disabled is refused: the device is disabled");
  assert_int_equal(run("device", "list", "--json", NULL, NULL), 0);
  assert_non_null(strstr(output.out, "\"disabled\", \"status\": \"disabled\""));
  must_run("device", "enable", "disabled", NULL, NULL);
  world_device_wait_ready(&disabled.device); /* by itself */
  world_echo(service, "disabled", 1000);
  beside_check(&beside);
  world_device_end(&removed.device);
  world_device_end(&disabled.device);
  beside_end(&beside);
  assert_int_equal(run("device", "disable", "nobody", NULL, NULL), 1);
  assert_int_equal(run("device", "enable", "nobody", NULL, NULL), 1);
}

/* ---- keys ---- */

static void test_rotation(void **state) {
  (void)state;
  char first[CONN_STRING_MAX];
  char second[CONN_STRING_MAX];
  char fresh[CONN_STRING_MAX];
  struct world_device old = {0};
  struct world_device device = {.kind = PEER_ECHO};
  assert_int_equal(hub_fixture_add_device(&hub, "rotates", first), 0);
  must_run("device", "rotate-key", "rotates", "secondary", NULL);
  take_line(second);
  const char *const shown[] = {
      hub_program(), "connection-string", hub.hub_dir, "--device",
      "rotates",     "--secondary",       NULL};
  assert_int_equal(hub_command(&output, shown), 0);
  take_line(fresh);
  assert_string_equal(second, fresh);
  assert_string_not_equal(first, second);

  /* On the secondary key; the primary is changed under it. */
  world_device_start(&device, &hub, second);
  world_device_wait_ready(&device);
  hub_fixture_mark_log(&hub);
  must_run("device", "rotate-key", "rotates", "primary", NULL);
  take_line(fresh);
  assert_string_not_equal(first, fresh);
  world_echo(service, "rotates", 1000);
  assert_int_equal(device.readies, 1);
  world_device_end(&device);

  world_device_start(&old, &hub, first);
  wait_refused("rotates is refused: the token was not signed");
  world_device_end(&old);
  memset(&device, 0, sizeof device);
  device.kind = PEER_ECHO;
  world_device_start(&device, &hub, fresh);
  world_device_wait_ready(&device);
  world_echo(service, "rotates", 1000);

  /* What rests on a key goes with it. */
  hub_fixture_mark_log(&hub);
  must_run("device", "rotate-key", "rotates", "primary", NULL);
  assert_int_equal(
      hub_fixture_wait_log(&hub, "rotates is dropped: it was disabled, or its",
                           5000),
      0);
  world_device_end(&device);
  assert_int_equal(run("device", "rotate-key", "rotates", "third", NULL), 2);
  assert_int_equal(run("device", "rotate-key", "nobody", "primary", NULL), 1);
}

/* A key that the connection string does not have. */
struct vault {
  struct conn_string cs;
  unsigned calls;
};

static int sign(void *user, const char *resource, uint64_t expiry, char *out,
                size_t out_size) {
  struct vault *vault = user;
  vault->calls++;
  int len = sas_make(out, out_size, resource, vault->cs.key, vault->cs.key_len,
                     expiry, NULL, SAS_RAW_RESOURCE);
  return len < 0 ? len : 0;
}

static void test_key_outside(void **state) {
  (void)state;
  char text[CONN_STRING_MAX];
  char keyless[CONN_STRING_MAX];
  struct vault vault = {.calls = 0};
  struct world_device device = {.kind = PEER_ECHO};
  struct dstream_end end;
  assert_int_equal(hub_fixture_add_device(&hub, "vault", text), 0);
  assert_int_equal(conn_string_parse(&vault.cs, text, CONN_STRING_DEVICE, &end),
                   DSTREAM_OK);
  snprintf(keyless, sizeof keyless,
           "HostName=localhost;DeviceId=vault;HttpsPort=%u;MqttPort=%u",
           (unsigned)hub.https_port, (unsigned)hub.mqtt_port);
  struct dstream_device_options options = {.connection_string = keyless,
                                           .tls.ca_file = hub.ca_file,
                                           .sas = sign,
                                           .sas_user = &vault,
                                           .sas_lifetime_s = 10};
  world_device_start_with(&device, &options);
  world_device_wait_ready(&device);
  assert_int_equal(vault.calls, 1);
  world_echo(service, "vault", 1000);
  world_device_end(&device);
  conn_string_clear(&vault.cs);
}

/* ---- certificates ---- */

struct attempt {
  const char *id;
  const char *certificate;
  bool websocket;
  const char *refused; /* what the hub says of it; NULL: it may connect */
};

/* All at once: Paho takes its time. */
static void attempt_all(const struct attempt *attempts, size_t count) {
  struct world_device devices[16];
  assert_true(count <= 16);
  hub_fixture_mark_log(&hub);
  for (size_t i = 0; i < count; i++)
    start_x509(&devices[i], attempts[i].id, attempts[i].certificate,
               attempts[i].websocket);
  for (size_t i = 0; i < count; i++) {
    char text[160];
    if (attempts[i].refused == NULL) {
      world_device_wait_ready(&devices[i]);
      world_echo(service, attempts[i].id, 100000);
    } else {
      snprintf(text, sizeof text, "%s is refused: %s", attempts[i].id,
               attempts[i].refused);
      wait_refused(text);
    }
  }
  for (size_t i = 0; i < count; i++) {
    if (attempts[i].refused != NULL)
      assert_int_equal(devices[i].readies, 0);
    world_device_end(&devices[i]);
  }
}

static void add_pinned(const char *id, const char *first, const char *second) {
  char text[CONN_STRING_MAX];
  const char *const add[] = {hub_program(),
                             "device",
                             "add",
                             hub.hub_dir,
                             id,
                             "--thumbprint",
                             first,
                             "--secondary-thumbprint",
                             second,
                             NULL};
  assert_int_equal(hub_command(&output, add), 0);
  take_line(text);
  assert_non_null(strstr(text, id));
  assert_non_null(strstr(text, "x509=true"));
  assert_null(strstr(text, "SharedAccessKey"));
}

static void test_certificates(void **state) {
  (void)state;
  static const char another[] = "its certificate has another thumbprint";
  static const char nobody[] = "no CA of device_ca_file vouches";
  static const struct attempt attempts[] = {
      {"pinned-1", "pin-1", false, NULL},
      {"pinned-2", "pin-2", false, NULL},
      {"pinned-3", "pin-1", true, NULL},
      {"pinned-4", "ca-1", false, another},
      {"pinned-5", "ca-1", true, another},
      {"ca-1", "rogue", false, nobody},
      {"ca-1", "pin-1", false, nobody},
      {"ca-1", "ca-1", false, NULL},
      {"ca-2", "ca-1", false, "its certificate's common name is not its id"},
      {"ca-2", "ca-1", true, "its certificate's common name is not its id"},
      {"expired", "expired", false, nobody},
      {"keyed", "pin-1", false, "the device is to send a token"},
      {"unknown", "pin-1", false, "there is no such device"},
  };
  char sha1[128];
  char sha256[128];
  char text[CONN_STRING_MAX];
  fingerprint(sha256, sizeof sha256, "pin-1", "sha256");
  fingerprint(sha1, sizeof sha1, "pin-2", "sha1");
  for (int i = 1; i <= 5; i++) {
    char id[16];
    snprintf(id, sizeof id, "pinned-%d", i);
    add_pinned(id, sha256, sha1);
  }
  must_run("device", "add", "ca-1", "--x509-ca", NULL);
  must_run("device", "add", "ca-2", "--x509-ca", NULL);
  must_run("device", "add", "expired", "--x509-ca", NULL);
  assert_int_equal(hub_fixture_add_device(&hub, "keyed", text), 0);
  attempt_all(attempts, sizeof attempts / sizeof *attempts);
  assert_int_equal(run("device", "rotate-key", "ca-1", "primary", NULL), 1);
  assert_int_equal(run("device", "add", "x", "--thumbprint", "12:34"), 1);
  assert_non_null(strstr(output.err, "no thumbprint"));
}

static void test_certificate_is_cut_off(void **state) {
  (void)state;
  char sha256[128];
  struct victim victim = {.device.kind = PEER_ECHO};
  fingerprint(sha256, sizeof sha256, "pin-1", "sha256");
  add_pinned("pinned", sha256, sha256);
  start_x509(&victim.device, "pinned", "pin-1", false);
  victim_open(&victim, "pinned");
  uint64_t from_ms = test_now_ms();
  must_run("device", "disable", "pinned", NULL, NULL);
  is_cut_off(&victim, from_ms, "the device is disabled");
  world_device_end(&victim.device);
}

/* A client that was not written here. */
static int publish(const char *id, const char *certificate, const char *more) {
  return tool_shell(
      &output,
      "timeout 15 mosquitto_pub -h localhost -p %u --cafile %s --cert %s "
      "--key %s -V mqttv311 -i %s -u 'localhost/%s/?api-version=2020-09-30' "
      "-t 'devices/%s/messages/events/' -m hello -q 1 %s",
      (unsigned)hub.mqtt_port, hub.ca_file, file_of(certificate, "pem"),
      file_of(certificate, "key"), id, id, id, more);
}

static void test_foreign_client(void **state) {
  (void)state;
  must_run("device", "add", "foreign", "--x509-ca", NULL);
  assert_int_equal(tool_shell(&output,
                              "cd %s && openssl req -newkey rsa:2048 -nodes "
                              "-keyout foreign.key -out foreign.csr "
                              "-subj /O=works/CN=foreign && openssl x509 -req "
                              "-in foreign.csr -CA ca.pem -CAkey ca.key "
                              "-CAcreateserial -days 2 -out foreign.pem",
                              folder),
                   0);
  assert_int_equal(publish("foreign", "foreign", ""), 0);
  assert_int_equal(publish("foreign", "foreign", "--tls-version tlsv1.2"), 0);
  assert_int_equal(publish("foreign", "foreign", "-V mqttv5"), 0);
  assert_int_not_equal(publish("foreign", "rogue", ""), 0);
  /* With a password a client is on its own. */
  assert_int_not_equal(publish("foreign", "foreign", "-P wrong"), 0);
}

/* A TLS session that is resumed still is the certificate's. */
static void test_resumed(void **state) {
  (void)state;
  char sha256[128];
  static const char script[] =
      "set -e -o pipefail; cd %s; u='localhost/resuming/?api-version=x'\n"
      "connect() {\n"
      "  printf \"$(printf '\\\\x10\\\\x%%02x' $((22 + ${#u})))\"\n"
      "  printf '\\0\\4MQTT\\4\\x82\\0\\x3c\\0\\x08'; printf resuming\n"
      "  printf \"$(printf '\\\\0\\\\x%%02x' ${#u})\"; printf %%s \"$u\"\n"
      "}\n"
      "connect >connect.bin\n"
      "talk() {\n"
      "  (cat connect.bin; printf '\\xe0\\0') |\n"
      "    timeout 10 openssl s_client -connect localhost:%u -CAfile %s \\\n"
      "      -cert pin-1.pem -key pin-1.key -ign_eof $1 \\\n"
      "      -nocommands >talk.out 2>&1 || true\n"
      "  LC_ALL=C grep -qaP '\\x20\\x02\\x00\\x00' talk.out\n"
      "}\n"
      "talk '-sess_out session'; grep -qa '^New, TLS' talk.out\n"
      "talk '-sess_in session'; grep -qa '^Reused, TLS' talk.out\n";
  fingerprint(sha256, sizeof sha256, "pin-1", "sha256");
  add_pinned("resuming", sha256, sha256);
  if (tool_shell(&output, script, folder, (unsigned)hub.mqtt_port,
                 hub.ca_file) != 0) {
    tool_shell(&output, "cat -v %s/talk.out", folder);
    fail_msg("%s", output.out);
  }
}

/* The hub's word for a certificate is the hub's alone; a certificate makes no
 * difference to a device with a key; nonsense ends the connection. */
static bool play_forger(struct raw *raw, void *arg) {
  (void)arg;
  char forged[320];
  snprintf(forged, sizeof forged,
           "dstream-certificate %064d 1 1 0 9999999999 %040d %064d forged", 0,
           0, 0);
  NEED(raw, raw_connect(raw, "localhost", hub.mqtt_port, hub.ca_file));
  NEED(raw, raw_mqtt_connect(raw, "forged",
                             "localhost/forged/?api-version=2020-09-30",
                             forged) == 5);
  NEED(raw, raw_connect(raw, "localhost", hub.mqtt_port, hub.ca_file));
  NEED(raw,
       raw_mqtt_connect(raw, "forged",
                        "localhost/forged/?api-version=2020-09-30", NULL) == 5);
  return true;
}

static void test_no_certificate(void **state) {
  (void)state;
  must_run("device", "add", "forged", "--x509-ca", NULL);
  hub_fixture_mark_log(&hub);
  run_script(play_forger, NULL);
  assert_int_equal(
      hub_fixture_wait_log(&hub, "forged is refused: the word for its", 5000),
      0);
  assert_int_equal(
      hub_fixture_wait_log(&hub, "forged is refused: there is no token", 5000),
      0);
  assert_int_equal(tool_shell(&output,
                              "printf 'GET / HTTP/1.1\\r\\n\\r\\n' | "
                              "timeout 10 openssl s_client -quiet -no_ign_eof "
                              "-connect localhost:%u -CAfile %s -cert %s "
                              "-key %s || [ $? = 1 ]",
                              (unsigned)hub.mqtt_port, hub.ca_file,
                              file_of("pin-1", "pem"), file_of("pin-1", "key")),
                   0);
  assert_int_equal(
      hub_fixture_wait_log(&hub, "its first packet is no CONNECT", 5000), 0);
}

/* ---- groups ---- */

static void test_group(void **state) {
  (void)state;
  char text[CONN_STRING_MAX];
  char key[128];
  char derived[256];
  struct victim victim = {.device.kind = PEER_ECHO};
  struct call call = {.device = "fleet-7"};
  must_run("group", "add", "fleet", NULL, NULL);
  must_run("group", "key", "fleet", NULL, NULL);
  snprintf(key, sizeof key, "%.*s", (int)strcspn(output.out, "\n"), output.out);
  must_run("group", "device", "fleet", "fleet-7", NULL);
  take_line(text);

  /* Anybody who has the group's key can derive the device's. */
  assert_int_equal(
      tool_shell(&output,
                 "printf %%s fleet-7 | openssl dgst -sha256 -mac HMAC -macopt "
                 "hexkey:$(echo %s | base64 -d | od -An -tx1 | tr -d ' \\n') "
                 "-binary | base64",
                 key),
      0);
  snprintf(derived, sizeof derived, "SharedAccessKey=%.*s",
           (int)strcspn(output.out, "\n"), output.out);
  assert_non_null(strstr(text, derived));

  /* Known before it ever came, as another id is not. */
  world_open_fails(service, &call, DSTREAM_EOFFLINE, 404103, NULL);
  struct call other = {.device = "float-7"};
  world_open_fails(service, &other, DSTREAM_ENOTFOUND, 404001, NULL);
  assert_int_equal(run("group", "device", "fleet", "float-7", NULL), 1);

  world_device_start(&victim.device, &hub, text);
  world_device_wait_ready(&victim.device);
  world_echo(service, "fleet-7", 1000);
  world_device_end(&victim.device);
}

static void test_group_member_is_cut_off(void **state) {
  (void)state;
  static const char *const ids[] = {"cow:1", "cow:2", "cow:3"};
  struct world_device devices[3];
  struct call call = {.device = "cow:1"};
  char text[CONN_STRING_MAX];
  must_run("group", "add", "herd", "--prefix", "cow:");
  must_run("group", "list", NULL, NULL, NULL);
  assert_non_null(strstr(output.out, "herd\n"));
  for (size_t i = 0; i < 3; i++) {
    must_run("group", "device", "herd", ids[i], i == 2 ? "--secondary" : NULL);
    take_line(text);
    memset(&devices[i], 0, sizeof devices[i]);
    devices[i].kind = PEER_ECHO;
    world_device_start(&devices[i], &hub, text);
  }
  for (size_t i = 0; i < 3; i++)
    world_device_wait_ready(&devices[i]);

  /* One of them. */
  must_run("device", "disable", "cow:1", NULL, NULL);
  WAIT(devices[0].state != DSTREAM_DEVICE_READY);
  world_device_end(&devices[0]);
  must_run("device", "enable", "cow:1", NULL, NULL);
  world_open_fails(service, &call, DSTREAM_EOFFLINE, 404103, NULL);

  /* Those on one of the group's keys; then the group. */
  must_run("group", "rotate-key", "herd", "primary", NULL);
  WAIT(devices[1].state != DSTREAM_DEVICE_READY);
  world_echo(service, "cow:3", 1000);
  assert_int_equal(devices[2].readies, 1);
  must_run("group", "remove", "herd", NULL, NULL);
  WAIT(devices[2].state != DSTREAM_DEVICE_READY);
  world_open_fails(service, &call, DSTREAM_ENOTFOUND, 404001, NULL);
  world_device_end(&devices[1]);
  world_device_end(&devices[2]);
}

/* ---- at rest ---- */

/* What only the hub's user may read, whatever the umask; and what others may
 * read holds no key. */
static void test_files(void **state) {
  (void)state;
  static const char *const secret[] = {"identities.db", "identities.db-wal",
                                       "server-key.pem", "ca-key.pem",
                                       "run/mosquitto.conf"};
  for (size_t i = 0; i < sizeof secret / sizeof *secret; i++) {
    char path[HUB_FIXTURE_PATH + 32];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s", hub.hub_dir, secret[i]);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
  }
  char text[CONN_STRING_MAX];
  assert_int_equal(hub_fixture_add_device(&hub, "at-rest", text), 0);
  const char *key = strstr(text, "SharedAccessKey=") + 16;
  assert_int_not_equal(
      tool_shell(&output,
                 "cd %s && find . -type f -perm /077 -print0 | xargs -0 "
                 "grep -lF -e '%.43s' -e PRIVATE",
                 hub.hub_dir, key),
      0);
  assert_string_equal(output.out, "");
  assert_int_equal(
      tool_shell(&output, "cd %s && find . -type f -perm /022", hub.hub_dir),
      0);
  assert_string_equal(output.out, "");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_removed_and_disabled),
      cmocka_unit_test(test_rotation),
      cmocka_unit_test(test_key_outside),
      cmocka_unit_test(test_certificates),
      cmocka_unit_test(test_resumed),
      cmocka_unit_test(test_certificate_is_cut_off),
      cmocka_unit_test(test_foreign_client),
      cmocka_unit_test(test_no_certificate),
      cmocka_unit_test(test_group),
      cmocka_unit_test(test_group_member_is_cut_off),
      cmocka_unit_test(test_files),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
