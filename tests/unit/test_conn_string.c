#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "core/conn_string.h"

#define KEY64  "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define DEVICE "HostName=hub.example.net;DeviceId=dev1;SharedAccessKey=" KEY64
#define SERVICE                                                                \
  "HostName=hub.example.net;SharedAccessKeyName=service;"                      \
  "SharedAccessKey=" KEY64

static void takes_a_devices(void **state) {
  (void)state;
  struct conn_string cs;
  struct dstream_end error;
  assert_int_equal(conn_string_parse(&cs, DEVICE, CONN_STRING_DEVICE, &error),
                   0);
  assert_string_equal(cs.host, "hub.example.net");
  assert_string_equal(cs.device_id, "dev1");
  assert_null(cs.module_id);
  assert_null(cs.policy);
  assert_null(cs.gateway_host);
  assert_int_equal(cs.key_len, 32);
  assert_memory_equal(cs.key, "0123456789abcdef0123456789abcdef", 32);
  assert_int_equal(cs.https_port, 443);
  assert_int_equal(cs.mqtt_port, 8883);
  assert_false(cs.x509);
  conn_string_clear(&cs);
  assert_null(cs.host);
  assert_null(cs.key);
  assert_int_equal(cs.key_len, 0);
}

static void takes_a_services(void **state) {
  (void)state;
  struct conn_string cs;
  assert_int_equal(conn_string_parse(&cs, SERVICE, CONN_STRING_SERVICE, NULL),
                   0);
  assert_string_equal(cs.host, "hub.example.net");
  assert_string_equal(cs.policy, "service");
  assert_int_equal(cs.key_len, 32);
  assert_null(cs.device_id);
  conn_string_clear(&cs);
}

static void takes_every_pair(void **state) {
  (void)state;
  struct conn_string cs;
  assert_int_equal(
      conn_string_parse(&cs,
                        " ;mqttport=1;HTTPSPORT=65535;Unknown=a=b;novalue;"
                        "sharedaccesskey=" KEY64
                        ";GatewayHostName=gw_1;moduleid=m=1;DeviceID=d=$1;"
                        "SharedAccessKeyName=device;X509=False;"
                        "hostname=10.0.0.1;;\r\n",
                        CONN_STRING_DEVICE, NULL),
      0);
  assert_string_equal(cs.host, "10.0.0.1");
  assert_string_equal(cs.device_id, "d=$1");
  assert_string_equal(cs.module_id, "m=1");
  assert_string_equal(cs.policy, "device");
  assert_string_equal(cs.gateway_host, "gw_1");
  assert_int_equal(cs.key_len, 32);
  assert_int_equal(cs.https_port, 65535);
  assert_int_equal(cs.mqtt_port, 1);
  assert_false(cs.x509);
  conn_string_clear(&cs);
}

static void a_device_may_have_no_key(void **state) {
  (void)state;
  struct conn_string cs;
  assert_int_equal(conn_string_parse(&cs, "HostName=h;DeviceId=d;x509=true",
                                     CONN_STRING_DEVICE, NULL),
                   0);
  assert_true(cs.x509);
  assert_null(cs.key);
  conn_string_clear(&cs);
  assert_int_equal(conn_string_parse(&cs, "HostName=h;DeviceId=d",
                                     CONN_STRING_DEVICE_NO_KEY, NULL),
                   0);
  assert_false(cs.x509);
  conn_string_clear(&cs);
  assert_int_equal(
      conn_string_parse(&cs, DEVICE, CONN_STRING_DEVICE_NO_KEY, NULL), 0);
  assert_int_equal(cs.key_len, 32);
  conn_string_clear(&cs);
}

static void says_what_is_wrong(void **state) {
  (void)state;
  static const struct {
    enum conn_string_kind kind;
    const char *text;
    const char *word;
  } rows[] = {
      {CONN_STRING_DEVICE, "", "no HostName="},
      {CONN_STRING_DEVICE, "hello", "no HostName="},
      {CONN_STRING_DEVICE, "DeviceId=d;SharedAccessKey=" KEY64, "no HostName="},
      {CONN_STRING_DEVICE, "HostName=h;SharedAccessKey=" KEY64, "no DeviceId="},
      {CONN_STRING_DEVICE, SERVICE, "this is a service's"},
      {CONN_STRING_DEVICE_NO_KEY, "HostName=h", "no DeviceId="},
      {CONN_STRING_DEVICE, "HostName=h;DeviceId=d", "no SharedAccessKey="},
      {CONN_STRING_DEVICE, "HostName=h;DeviceId=d;x509=false",
       "no SharedAccessKey="},
      {CONN_STRING_SERVICE, DEVICE, "no SharedAccessKeyName="},
      {CONN_STRING_SERVICE, "HostName=h;SharedAccessKeyName=p",
       "no SharedAccessKey="},
      {CONN_STRING_SERVICE, "SharedAccessKeyName=p;SharedAccessKey=" KEY64,
       "no HostName="},
      {CONN_STRING_DEVICE, DEVICE ";deviceid=dev2", "DeviceId= in the"},
      {CONN_STRING_DEVICE, DEVICE ";HostName=hub.example.net", "comes twice"},
      {CONN_STRING_DEVICE, DEVICE ";SharedAccessKey=" KEY64, "comes twice"},
      {CONN_STRING_DEVICE, "HostName=;DeviceId=d", "HostName= in the"},
      {CONN_STRING_DEVICE, "HostName;DeviceId=d", "is empty"},
      {CONN_STRING_DEVICE, "HostName=h;DeviceId=;SharedAccessKey=" KEY64,
       "is empty"},
      {CONN_STRING_DEVICE,
       "HostName=h;DeviceId=d;SharedAccessKey=", "is empty"},
      {CONN_STRING_DEVICE, "HostName=https://h;DeviceId=d;x509=true",
       "HostName= in the connection string must be a host name"},
      {CONN_STRING_DEVICE, "HostName=h:443;DeviceId=d;x509=true", "a port"},
      {CONN_STRING_DEVICE, "HostName=h/x;DeviceId=d;x509=true", "a path"},
      {CONN_STRING_DEVICE, "HostName=h ;DeviceId=d;x509=true", "a host name"},
      {CONN_STRING_DEVICE,
       "HostName=h;GatewayHostName=a b;DeviceId=d;x509=true",
       "GatewayHostName="},
      {CONN_STRING_DEVICE, "HostName=h;DeviceId=a/b;x509=true", "DeviceId="},
      {CONN_STRING_DEVICE, "HostName=h;DeviceId=a b;x509=true", "DeviceId="},
      {CONN_STRING_DEVICE, "HostName=h;DeviceId=\xc3\xa9;x509=true",
       "DeviceId="},
      {CONN_STRING_DEVICE, "HostName=h;DeviceId=a\nb;x509=true", "DeviceId="},
      {CONN_STRING_DEVICE, "HostName=h;DeviceId=d;ModuleId=a/b;x509=true",
       "ModuleId="},
      {CONN_STRING_DEVICE, "HostName=h;DeviceId=d;x509=yes", "true or false"},
      {CONN_STRING_DEVICE, DEVICE ";x509=true", "remove one"},
      {CONN_STRING_DEVICE, DEVICE ";HttpsPort=0", "HttpsPort="},
      {CONN_STRING_DEVICE, DEVICE ";HttpsPort=65536", "HttpsPort="},
      {CONN_STRING_DEVICE, DEVICE ";HttpsPort=000443", "HttpsPort="},
      {CONN_STRING_DEVICE, DEVICE ";HttpsPort=-1", "HttpsPort="},
      {CONN_STRING_DEVICE, DEVICE ";MqttPort=8883x", "MqttPort="},
      {CONN_STRING_DEVICE, DEVICE ";MqttPort=99999999999999", "MqttPort="},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct conn_string cs;
    struct dstream_end error;
    memset(&cs, 0xee, sizeof cs);
    assert_int_equal(conn_string_parse(&cs, rows[i].text, rows[i].kind, &error),
                     DSTREAM_ECONNSTRING);
    assert_int_equal(error.status, DSTREAM_ECONNSTRING);
    if (strstr(error.text, rows[i].word) == NULL)
      fail_msg("%s: %s", rows[i].text, error.text);
    assert_null(strstr(error.text, KEY64));
    assert_null(cs.host);
    assert_null(cs.key);
  }
}

static void a_bad_key_is_not_shown(void **state) {
  (void)state;
  static const char *const keys[] = {
      "secret",       "c2VjcmV0=", "c2Vj cmV0",
      "c2VjcmV0*A==", "====",      "c2VjcmV0-_A="};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    char text[128] = "HostName=h;DeviceId=d;SharedAccessKey=";
    memcpy(text + strlen(text), keys[i], strlen(keys[i]) + 1);
    struct conn_string cs;
    struct dstream_end error;
    assert_int_equal(conn_string_parse(&cs, text, CONN_STRING_DEVICE, &error),
                     DSTREAM_ECONNSTRING);
    assert_non_null(strstr(error.text, "is not base64"));
    assert_null(strstr(error.text, "secret"));
    assert_null(strstr(error.text, "c2V"));
  }
}

static void bounds_the_length(void **state) {
  (void)state;
  static char text[CONN_STRING_MAX + 1];
  struct conn_string cs;
  struct dstream_end error;
  memset(text, ';', CONN_STRING_MAX);
  memcpy(text, DEVICE, strlen(DEVICE));
  assert_int_equal(conn_string_parse(&cs, text, CONN_STRING_DEVICE, &error),
                   DSTREAM_ECONNSTRING);
  assert_non_null(strstr(error.text, "longer than"));
  text[CONN_STRING_MAX - 1] = '\0';
  assert_int_equal(conn_string_parse(&cs, text, CONN_STRING_DEVICE, &error), 0);
  conn_string_clear(&cs);
}

static void bounds_ids_and_hosts(void **state) {
  (void)state;
  char text[1024];
  struct conn_string cs;
  for (size_t len = CONN_STRING_ID_MAX; len <= CONN_STRING_ID_MAX + 1; len++) {
    memset(text, 0, sizeof text);
    memcpy(text, "HostName=h;x509=true;DeviceId=", 30);
    memset(text + 30, 'd', len);
    int status = conn_string_parse(&cs, text, CONN_STRING_DEVICE, NULL);
    assert_int_equal(status,
                     len == CONN_STRING_ID_MAX ? 0 : DSTREAM_ECONNSTRING);
    conn_string_clear(&cs);
  }
  for (size_t len = CONN_STRING_HOST_MAX; len <= CONN_STRING_HOST_MAX + 1;
       len++) {
    memset(text, 0, sizeof text);
    memcpy(text, "DeviceId=d;x509=true;HostName=", 30);
    memset(text + 30, 'h', len);
    int status = conn_string_parse(&cs, text, CONN_STRING_DEVICE, NULL);
    assert_int_equal(status,
                     len == CONN_STRING_HOST_MAX ? 0 : DSTREAM_ECONNSTRING);
    conn_string_clear(&cs);
  }
}

static void prints_what_it_read(void **state) {
  (void)state;
  static const struct {
    enum conn_string_kind kind;
    const char *in;
    const char *out;
  } rows[] = {
      {CONN_STRING_DEVICE, DEVICE, DEVICE},
      {CONN_STRING_SERVICE, SERVICE, SERVICE},
      {CONN_STRING_DEVICE, DEVICE ";MqttPort=8883;HttpsPort=443;", DEVICE},
      {CONN_STRING_DEVICE, DEVICE ";MqttPort=8884;HttpsPort=8443",
       DEVICE ";HttpsPort=8443;MqttPort=8884"},
      {CONN_STRING_DEVICE, "x509=TRUE;ModuleId=m;DeviceId=d;HostName=h",
       "HostName=h;DeviceId=d;ModuleId=m;x509=true"},
      {CONN_STRING_DEVICE, DEVICE ";GatewayHostName=gw;X=y",
       DEVICE ";GatewayHostName=gw"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct conn_string cs;
    char out[CONN_STRING_MAX];
    size_t len = strlen(rows[i].out);
    assert_int_equal(conn_string_parse(&cs, rows[i].in, rows[i].kind, NULL), 0);
    assert_int_equal(conn_string_format(&cs, out, sizeof out), len);
    assert_string_equal(out, rows[i].out);
    assert_int_equal(conn_string_format(&cs, out, len + 1), len);
    for (size_t room = 0; room <= len; room++) {
      out[room] = '!';
      assert_int_equal(conn_string_format(&cs, out, room), DSTREAM_ELIMIT);
      assert_int_equal(out[room], '!');
      if (room > 0)
        assert_string_equal(out, "");
    }
    conn_string_clear(&cs);
  }
}

static void no_prefix_is_taken_for_the_whole(void **state) {
  (void)state;
  char text[] = DEVICE;
  for (size_t len = strlen(text); len-- > 0;) {
    struct conn_string cs;
    text[len] = '\0';
    if (conn_string_parse(&cs, text, CONN_STRING_DEVICE, NULL) == 0)
      assert_true(cs.key_len < 32);
    conn_string_clear(&cs);
  }
}

static void clears_nothing(void **state) {
  (void)state;
  struct conn_string cs = {0};
  conn_string_clear(&cs);
  conn_string_clear(&cs);
  conn_string_clear(NULL);
}

static void ids(void **state) {
  (void)state;
  assert_true(conn_string_id_valid(SLICE_LITERAL("aZ0-.+%_#*?!(),:=@$'")));
  assert_false(conn_string_id_valid(SLICE_LITERAL("")));
  assert_false(conn_string_id_valid(SLICE_LITERAL("a/b")));
  assert_false(conn_string_id_valid(SLICE_LITERAL("a\"b")));
  assert_false(conn_string_id_valid((struct slice){"a\0b", 3}));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(takes_a_devices),
      cmocka_unit_test(takes_a_services),
      cmocka_unit_test(takes_every_pair),
      cmocka_unit_test(a_device_may_have_no_key),
      cmocka_unit_test(says_what_is_wrong),
      cmocka_unit_test(a_bad_key_is_not_shown),
      cmocka_unit_test(bounds_the_length),
      cmocka_unit_test(bounds_ids_and_hosts),
      cmocka_unit_test(prints_what_it_read),
      cmocka_unit_test(no_prefix_is_taken_for_the_whole),
      cmocka_unit_test(clears_nothing),
      cmocka_unit_test(ids),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
