/* `dstream-hub check`: a sound folder passes, and each thing that can be wrong
 * with one is found, by its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sqlite3.h>

#include "hub/check.h"
#include "hub/init.h"
#include "integration/support_hub.h"

#define HOST "hub.example.net"
#define DAY  86400L

static char folder[64];
static char plugin[512];
static struct check_report report;

static int setup(void **state) {
  (void)state;
  struct dstream_end end = {0};
  snprintf(folder, sizeof folder, "/tmp/test_hub_check.XXXXXX");
  snprintf(plugin, sizeof plugin, "%.400s/lib/dstream/dstream_broker_plugin.so",
           getenv("DSTREAM_BINARY_DIR"));
  if (mkdtemp(folder) == NULL || chdir("/") != 0)
    return -1;
  struct init_options options = {.directory = folder, .host = HOST};
  return init_run(&options, &end);
}

static int teardown(void **state) {
  (void)state;
  static struct hub_output output;
  const char *const arguments[] = {"rm", "-rf", folder, NULL};
  return chdir("/") == 0 ? hub_command(&output, arguments) : -1;
}

/* The working directory is the hub's folder from here on. */
static void check(void) {
  check_run(&report, folder, plugin);
}

static void fail_with_report(const char *text) {
  check_print(&report, stderr);
  fail_msg("no such finding: %s", text);
}

static void assert_found(enum check_level level, const char *subject,
                         const char *text) {
  for (size_t i = 0; i < report.count; i++) {
    const struct check_finding *finding = &report.finding[i];
    if (finding->level == level && strcmp(finding->subject, subject) == 0 &&
        strstr(finding->text, text) != NULL)
      return;
  }
  fail_with_report(text);
}

/* And no other error. */
static void assert_one_error(const char *subject, const char *text) {
  assert_found(CHECK_ERROR, subject, text);
  if (report.errors != 1)
    fail_with_report("one error and no more");
}

static void write_file(const char *name, const char *text, mode_t mode) {
  FILE *file = fopen(name, "we");
  assert_non_null(file);
  assert_true(fputs(text, file) >= 0);
  assert_int_equal(fclose(file), 0);
  assert_int_equal(chmod(name, mode), 0);
}

/* members: such as "\"mqtt_port\":1". */
static void configure(const char *members) {
  char text[512];
  snprintf(text, sizeof text,
           "{\"host\":\"" HOST "\",\"https_port\":0,\"mqtt_port\":0%s%s}",
           members[0] == '\0' ? "" : ",", members);
  check(); /* changes into the folder */
  write_file("hub.json", text, 0644);
}

/* ---- a sound one ---- */

static void test_sound(void **state) {
  (void)state;
  configure("");
  check();
  assert_int_equal(report.errors, 0);
  assert_found(CHECK_OK, "configuration", "is valid");
  assert_found(CHECK_OK, "certificate", "is for " HOST);
  assert_found(CHECK_OK, "database", "is whole, 0 devices");
  assert_found(CHECK_OK, "broker", "is mosquitto 2.0.");
  assert_found(CHECK_OK, "broker", "the plugin");
  assert_found(CHECK_OK, "ports", "https_port: any free port");
  assert_found(CHECK_OK, "files", "fine");
  assert_int_not_equal(access("run", F_OK), 0);
  assert_int_not_equal(access("identities.db-wal", F_OK), 0);
}

static void test_json(void **state) {
  (void)state;
  char *text = NULL;
  size_t len = 0;
  configure("");
  assert_int_equal(unlink("server.pem"), 0);
  check();
  FILE *out = open_memstream(&text, &len);
  assert_non_null(out);
  assert_int_equal(check_print_json(&report, out), 0);
  fclose(out);
  cJSON *root = cJSON_Parse(text);
  assert_non_null(root);
  assert_int_equal(cJSON_GetObjectItem(root, "errors")->valueint, 1);
  const cJSON *list = cJSON_GetObjectItem(root, "findings");
  assert_int_equal(cJSON_GetArraySize(list), report.count);
  const cJSON *first = cJSON_GetArrayItem(list, 1);
  assert_string_equal(cJSON_GetObjectItem(first, "level")->valuestring,
                      "error");
  assert_string_equal(cJSON_GetObjectItem(first, "subject")->valuestring,
                      "certificate");
  cJSON_Delete(root);
  free(text);
}

/* ---- configuration ---- */

static void test_configuration(void **state) {
  (void)state;
  configure("\"limits\":{\"max_streams\":0}");
  check();
  assert_one_error("configuration", "limits.max_streams must be a whole");
  configure("");
  setenv("DSTREAM_HUB_HTTPS_PORT", "x", 1);
  check();
  assert_one_error("configuration", "DSTREAM_HUB_HTTPS_PORT must be a whole");
  setenv("DSTREAM_HUB_HTTPS_PORT", "0", 1);
  check();
  assert_found(CHECK_OK, "configuration", "is 1 in the environment");
  unsetenv("DSTREAM_HUB_HTTPS_PORT");
  check_run(&report, "/nowhere", plugin);
  assert_one_error("configuration", "/nowhere");
  check_run(&report, "/", plugin);
  assert_one_error("configuration", "dstream-hub init");
}

/* ---- certificates ---- */

static void add_names(X509 *certificate, const char *names) {
  X509_EXTENSION *extension =
      X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
  assert_non_null(extension);
  assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
  X509_EXTENSION_free(extension);
}

/* One that has signed itself; the dates are seconds from now. */
static void make_certificate(const char *names, long from, long to) {
  EVP_PKEY *key = EVP_EC_gen("P-256");
  X509 *certificate = X509_new();
  assert_non_null(key);
  assert_non_null(certificate);
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), from);
  X509_gmtime_adj(X509_getm_notAfter(certificate), to);
  X509_NAME *name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             (const unsigned char *)"test", -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  X509_set_pubkey(certificate, key);
  add_names(certificate, names);
  assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
  FILE *file = fopen("server.pem", "we");
  assert_non_null(file);
  assert_int_equal(PEM_write_X509(file, certificate), 1);
  fclose(file);
  file = fopen("server-key.pem", "we");
  assert_non_null(file);
  assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL),
                   1);
  fclose(file);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

static void test_certificate_files(void **state) {
  (void)state;
  configure("");
  assert_int_equal(rename("server.pem", "kept.pem"), 0);
  check();
  assert_one_error("certificate", "server.pem can't be read: No such file");
  write_file("server.pem", "this is no certificate\n", 0644);
  check();
  assert_one_error("certificate", "can't read the certificate server.pem");
  assert_int_equal(rename("kept.pem", "server.pem"), 0);
  assert_int_equal(rename("server-key.pem", "kept.pem"), 0);
  check();
  assert_one_error("certificate", "server-key.pem can't be read");
  assert_int_equal(rename("ca-key.pem", "server-key.pem"), 0);
  check();
  assert_one_error("certificate", "can't use the key server-key.pem");
}

static void test_certificate_dates(void **state) {
  (void)state;
  configure("");
  make_certificate("DNS:" HOST, -90 * DAY, -DAY);
  check();
  assert_one_error("certificate", "server.pem expired on 2");
  make_certificate("DNS:" HOST, DAY, 90 * DAY);
  check();
  assert_one_error("certificate", "is not good before 2");
  make_certificate("DNS:" HOST, -80 * DAY, 10 * DAY);
  check();
  assert_found(CHECK_WARNING, "certificate", "expires on 2");
  assert_int_equal(report.errors, 0);
  make_certificate("DNS:" HOST, -2 * DAY, 4 * DAY);
  check();
  assert_int_equal(report.errors, 0);
  for (size_t i = 0; i < report.count; i++)
    assert_null(strstr(report.finding[i].text, "expires on"));
  assert_found(CHECK_WARNING, "certificate", "is not believed");
}

static void test_certificate_names(void **state) {
  (void)state;
  configure("\"aliases\":[\"localhost\",\"127.0.0.1\",\"other.example.net\"]");
  make_certificate("DNS:a.example.net,DNS:*.example.org", -DAY, 90 * DAY);
  check();
  assert_one_error("certificate", "server.pem is not for " HOST);
  assert_found(CHECK_ERROR, "certificate", "a.example.net, *.example.org");
  assert_found(CHECK_WARNING, "certificate", "the alias other.example.net");
  make_certificate("DNS:*.example.net", -DAY, 90 * DAY);
  check();
  assert_int_equal(report.errors, 0);
  for (size_t i = 0; i < report.count; i++)
    assert_null(strstr(report.finding[i].text, "alias"));
}

static void test_device_ca(void **state) {
  (void)state;
  configure("\"device_ca_file\":\"devices.pem\"");
  check();
  assert_one_error("device CA", "devices.pem");
  assert_int_equal(link("ca.pem", "devices.pem"), 0);
  check();
  assert_int_equal(report.errors, 0);
}

/* ---- database ---- */

static void change_database(const char *sql) {
  sqlite3 *db = NULL;
  assert_int_equal(sqlite3_open("identities.db", &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
}

static void test_database(void **state) {
  (void)state;
  configure("");
  change_database("CREATE TABLE kept AS SELECT * FROM policies;"
                  "DROP TABLE policies");
  check();
  assert_one_error("database", "has other tables");
  change_database("PRAGMA user_version=1");
  check();
  assert_found(CHECK_WARNING, "database", "is of an older version (1, not");
  change_database("PRAGMA user_version=1000");
  check();
  assert_one_error("database", "newer dstream-hub (version 1000)");
  change_database("PRAGMA user_version=0");
  check();
  assert_one_error("database", "is not a hub's database");
  write_file("identities.db", "no database at all, but a longer text than that",
             0600);
  check();
  assert_one_error("database",
                   "identities.db can't be used: file is not a database");
  assert_int_equal(unlink("identities.db"), 0);
  check();
  assert_one_error("database", "No such file");
}

/* A page in the middle is overwritten. */
static void test_database_damage(void **state) {
  (void)state;
  configure("");
  FILE *file = fopen("identities.db", "r+e");
  assert_non_null(file);
  assert_int_equal(fseek(file, 4096, SEEK_SET), 0);
  for (int i = 0; i < 4096; i++)
    fputc('x', file);
  fclose(file);
  check();
  assert_one_error("database", "restore a backup");
}

/* ---- broker ---- */

static void fake_broker(const char *says) {
  char text[128];
  snprintf(text, sizeof text, "#!/bin/sh\necho '%s'\nexit 3\n", says);
  write_file("mosquitto", text, 0755);
}

static void test_broker(void **state) {
  (void)state;
  configure("\"broker_program\":\"./mosquitto\"");
  check();
  assert_one_error("broker", "can't execute ./mosquitto");
  fake_broker("mosquitto version 1.6.12");
  check();
  assert_one_error("broker", "mosquitto 1.6.12, which is too old");
  fake_broker("mosquitto version 2.1.0");
  check();
  assert_found(CHECK_WARNING, "broker", "mosquitto 2.1.0; this hub was tried");
  fake_broker("nginx version 2.0.1");
  check();
  assert_one_error("broker", "is not mosquitto");
  write_file("mosquitto", "\177ELF", 0755);
  check();
  assert_one_error("broker", "can't be executed");
  fake_broker("mosquitto version 2.0.18");
  check();
  assert_int_equal(report.errors, 0);
  assert_found(CHECK_OK, "broker", "./mosquitto is mosquitto 2.0.18");
}

static void test_plugin(void **state) {
  (void)state;
  configure("");
  check_run(&report, folder, "/nowhere/plugin.so");
  assert_one_error("broker", "/nowhere/plugin.so can't be read");
  check_run(&report, folder, "server.pem");
  assert_one_error("broker", "is not this hub's broker plugin");
  write_file("old.so", "abc dstream broker plugin, version 0.0.9", 0644);
  check_run(&report, folder, "old.so");
  assert_one_error("broker", "old.so is of version 0.0.9, dstream-hub of");
}

/* ---- ports ---- */

static void test_ports(void **state) {
  (void)state;
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
  assert_int_equal(listen(fd, 1), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
  char members[160];
  char said[64];
  unsigned port = ntohs(address.sin_port);
  snprintf(members, sizeof members,
           "\"bind_address\":\"127.0.0.1\",\"metrics\":{\"enabled\":true,"
           "\"port\":%u}",
           port);
  snprintf(said, sizeof said, "metrics.port: %u is in use by another", port);
  configure(members);
  check();
  assert_one_error("ports", said);
  close(fd);
  check();
  assert_int_equal(report.errors, 0);
  snprintf(said, sizeof said, "metrics.port: %u is free", port);
  assert_found(CHECK_OK, "ports", said);
}

static void test_same_ports(void **state) {
  (void)state;
  check();
  write_file("hub.json",
             "{\"host\":\"" HOST "\",\"https_port\":61443,\"mqtt_port\":61443}",
             0644);
  check();
  assert_found(CHECK_ERROR, "ports", "https_port and mqtt_port are the same");
}

/* ---- files ---- */

static void test_modes(void **state) {
  (void)state;
  configure("");
  assert_int_equal(chmod("server-key.pem", 0644), 0);
  check();
  assert_int_equal(report.errors, 0);
  assert_found(CHECK_WARNING, "files", "server-key.pem; \"chmod 600\" it");
  assert_int_equal(chmod("server-key.pem", 0600), 0);
  assert_int_equal(chmod(".", 0777), 0);
  check();
  assert_one_error("files", "may change the hub's folder");
  assert_int_equal(chmod(".", 0700), 0);
  configure("\"activity_log\":{\"file\":\"/nowhere/activity.log\"}");
  check();
  assert_one_error("files", "activity log /nowhere/activity.log can't be");
}

/* Root may read everything; the hub's user may not. */
static void test_owner(void **state) {
  (void)state;
  if (geteuid() != 0)
    skip();
  configure("");
  assert_int_equal(chown(".", 65534, 65534), 0);
  assert_int_equal(chown("identities.db", 65534, 65534), 0);
  check();
  assert_one_error("files",
                   "server-key.pem can't be read by the folder's owner");
  assert_int_equal(chown("server-key.pem", 0, 65534), 0);
  assert_int_equal(chmod("server-key.pem", 0640), 0);
  check();
  assert_int_equal(report.errors, 0);
  assert_int_equal(chown("identities.db", 0, 65534), 0);
  assert_int_equal(chmod("identities.db", 0640), 0);
  check();
  assert_one_error("files", "identities.db can't be written to");
}

/* ---- the program, and a hub that runs ---- */

static int run_check(struct hub_output *output, const char *directory,
                     const char *option) {
  const char *const arguments[] = {hub_program(), "check", directory, option,
                                   NULL};
  return hub_command(output, arguments);
}

static void test_running(void **state) {
  (void)state;
  static struct hub_fixture hub;
  static struct hub_output output;
  struct dstream_end end;
  struct config config;
  assert_int_equal(hub_fixture_start(&hub, NULL), 0);
  /* The ports that it took, now by number. */
  char text[256];
  assert_int_equal(chdir(hub.hub_dir), 0);
  assert_int_equal(config_load(&config, "hub.json", NULL, &end), 0);
  snprintf(text, sizeof text,
           "{\"host\":\"localhost\",\"https_port\":%u,\"mqtt_port\":%u}",
           hub.https_port, hub.mqtt_port);
  write_file("hub.json", text, 0644);
  assert_int_equal(chdir("/"), 0);
  int status = run_check(&output, hub.hub_dir, NULL);
  if (status != 0)
    fail_msg("%d: %s", status, output.out);
  snprintf(text, sizeof text, "https_port: %u is in use by this hub",
           hub.https_port);
  assert_non_null(strstr(output.out, text));
  assert_int_equal(hub_fixture_stop(&hub), 0);
}

static void test_program(void **state) {
  (void)state;
  static struct hub_output output;
  configure("");
  assert_int_equal(run_check(&output, folder, NULL), 0);
  assert_string_equal(output.err, "");
  assert_ptr_equal(strstr(output.out, "ok "), output.out);
  assert_int_equal(unlink("server-key.pem"), 0);
  assert_int_equal(run_check(&output, folder, NULL), 1);
  assert_non_null(strstr(output.out, "\nerror   certificate   server-key.pem"));
  assert_non_null(strstr(output.out, "\n1 error, "));
  assert_int_equal(run_check(&output, folder, "--json"), 1);
  assert_int_equal(output.out[0], '{');
  assert_int_equal(run_check(&output, NULL, NULL), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_sound),
      TEST(test_json),
      TEST(test_configuration),
      TEST(test_certificate_files),
      TEST(test_certificate_dates),
      TEST(test_certificate_names),
      TEST(test_device_ca),
      TEST(test_database),
      TEST(test_database_damage),
      TEST(test_broker),
      TEST(test_plugin),
      TEST(test_ports),
      TEST(test_same_ports),
      TEST(test_modes),
      TEST(test_owner),
      TEST(test_running),
      TEST(test_program),
  };
  /* Where the database to compare with is made: without waiting for a disk. */
  if (access("/dev/shm", W_OK) == 0)
    setenv("TMPDIR", "/dev/shm", 1);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
