/* What an operator reads when a stream could not be had: who said no, why, and
 * what to do, in one line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tools/explain.h"

static struct dstream_end end_of(int status, int hub_code, int ws_code,
                                 const char *text) {
  struct dstream_end end = {
      .status = status, .hub_code = hub_code, .ws_code = ws_code};
  size_t len = strnlen(text, sizeof end.text - 1);
  memcpy(end.text, text, len);
  return end;
}

static const struct {
  int status;
  int hub_code;
  int ws_code;
  const char *text;
  const char *line;
} known[] = {
    {DSTREAM_EOFFLINE, 404103, 0, "the device is not connected (hub: 404)",
     "pump-7 is not connected to the hub (404103); is dstream-agent running "
     "there?"},
    {DSTREAM_ENOANSWER, 504101, 0, "the device did not answer (hub: 504)",
     "pump-7 is connected to the hub but did not answer in time (504101); is "
     "its agent stuck, or its network slow?  --timeout SECONDS waits longer"},
    {DSTREAM_ENOTFOUND, 404001, 0, "no such device (hub: 404)",
     "the hub knows no device pump-7 (404001); \"dstream-hub device list\" "
     "says which it knows"},
    {DSTREAM_ENOTFOUND, 404010, 0, "no such device (hub: 404)",
     "the hub knows no module pump-7 (404010); is it spelt as the device "
     "spells it?"},
    {DSTREAM_EREJECTED, 0, 0, "the device rejected the stream",
     "pump-7 refused ssh and gave no reason; its log may say more"},
    {DSTREAM_EREJECTED, 0, 0, "the device rejected the stream: not today",
     "pump-7 refused ssh: not today"},
    {DSTREAM_EREJECTED, 0, 0,
     "the device rejected the stream: agent: no target is named ssh",
     "the agent on pump-7 refused ssh: no target is named ssh"},
    {DSTREAM_EREJECTED, 0, 0,
     "the device rejected the stream: target ssh (127.0.0.1:22): Connection "
     "refused",
     "pump-7: target ssh (127.0.0.1:22): Connection refused; is it running, "
     "and well, over there?"},
    {DSTREAM_EUNAUTHORIZED, 401002, 0, "not authorized (hub: 401 401002)",
     "the hub refused the connection string: not authorized (hub: 401 "
     "401002); \"dstream-hub connection-string\" prints one that opens "
     "streams"},
    {DSTREAM_EUNAUTHORIZED, 401002, 0,
     "not authorized (hub: 401 401002, The SharedAccessSignature has expired.)",
     "the token made for this call has expired already, says the hub; is this "
     "machine's clock right?  not authorized (hub: 401 401002, The "
     "SharedAccessSignature has expired.)"},
    {DSTREAM_EUNAUTHORIZED, 403000, 0,
     "not authorized (hub: 403 403000, The device is disabled.)",
     "the hub was told to keep pump-7 out; \"dstream-hub device enable\" lets "
     "it come again"},
    {DSTREAM_EUNAUTHORIZED, 0, 0,
     "the streaming endpoint answered HTTP 401 (Unauthorized)",
     "the streaming endpoint answered HTTP 401 (Unauthorized); do both "
     "machines' clocks agree with the hub's?"},
    {DSTREAM_ETHROTTLED, 429001, 0, "too many requests (hub: 429)",
     "the hub is at a limit: too many requests (hub: 429); try again in a "
     "moment"},
    {DSTREAM_EVERIFY, 0, 0,
     "h:443: the server's certificate is not trusted: self-signed certificate",
     "the hub could not be verified: h:443: the server's certificate is not "
     "trusted: self-signed certificate; --ca-file names the CA that signed "
     "it"},
    {DSTREAM_EVERIFY, 0, 0, "not trusted: hostname mismatch",
     "the hub could not be verified: not trusted: hostname mismatch; HostName "
     "in the connection string must be a name in it"},
    {DSTREAM_ECONNECT, 0, 0, "can't connect to 1.2.3.4:443: refused",
     "the network: can't connect to 1.2.3.4:443: refused; is the hub running, "
     "and does a firewall let this machine reach it?"},
    {DSTREAM_ERESOLVE, 0, 0, "can't find the host h: unknown",
     "the network: can't find the host h: unknown; check HostName in the "
     "connection string, and DNS on this machine"},
    {DSTREAM_EPROXY, 0, 0, "the proxy p:1 answered 407 to CONNECT h:443",
     "the HTTP proxy: the proxy p:1 answered 407 to CONNECT h:443; check "
     "--http-proxy"},
    {DSTREAM_ECLOSED, 0, 1001, "the peer closed the stream",
     "the hub or pump-7 is stopping: the peer closed the stream; try again "
     "when it is back"},
    {DSTREAM_ECLOSED, 0, 1011,
     "target ssh (127.0.0.1:22): Connection reset by peer",
     "pump-7: target ssh (127.0.0.1:22): Connection reset by peer; is it "
     "running, and well, over there?"},
    {DSTREAM_ECLOSED, 0, 1011, "agent: idle for 5 s",
     "the agent on pump-7 broke off ssh: idle for 5 s"},
    {DSTREAM_ECLOSED, 0, 1011, "the peer closed the stream (code 1011)",
     "pump-7 or its network broke off ssh: the peer closed the stream (code "
     "1011)"},
    {DSTREAM_ECLOSED, 0, 1011, "the hub lost the connection to the other end",
     "the network: the hub lost the connection to pump-7"},
    {DSTREAM_ECLOSED, 0, 1006, "without a Close message",
     "the network: the connection to the hub was cut: without a Close "
     "message"},
    {DSTREAM_ETIMEDOUT, 0, 0, "dstream forward: idle for 5 s",
     "dstream forward: idle for 5 s"},
    {DSTREAM_ETIMEDOUT, 0, 0, "timed out connecting to h:443",
     "the network: timed out connecting to h:443; is the hub running, and "
     "does a firewall let this machine reach it?"},
    {DSTREAM_EIO, 0, 0, "the connection to 1.2.3.4:443 broke: reset",
     "the network: the connection to 1.2.3.4:443 broke: reset"},
    {DSTREAM_EIO, 0, 0, "client 127.0.0.1:5: Connection reset by peer",
     "client 127.0.0.1:5: Connection reset by peer"},
    {DSTREAM_ENOMEM, 0, 0, "", "out of memory"},
};

static void test_every_known_failure(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    struct dstream_end end = end_of(known[i].status, known[i].hub_code,
                                    known[i].ws_code, known[i].text);
    char line[EXPLAIN_SIZE];
    explain(line, &end, "pump-7", "ssh");
    assert_string_equal(line, known[i].line);
  }
}

#define X(name, value, text) value,
static const int statuses[] = {DSTREAM_STATUS_MAP(X)};
#undef X

/* Whatever a peer puts into its words: one line, no control character. */
static void test_one_clean_line(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
    char line[EXPLAIN_SIZE];
    struct dstream_end end = end_of(statuses[i], 0, 1011,
                                    "a\n\x1b[31mb\x7f\xc2\x9b"
                                    "c\xc3\xa9");
    explain(line, &end, "pump-7", "ssh");
    assert_true(line[0] != '\0');
    for (const char *p = line; *p != '\0'; p++)
      assert_true((unsigned char)*p >= ' ' && *p != 127);
    assert_null(strstr(line, "\xc2\x9b"));
  }
}

/* The longest texts are cut, not overrun. */
static void test_long_texts(void **state) {
  (void)state;
  char long_name[1024];
  memset(long_name, 'n', sizeof long_name);
  long_name[sizeof long_name - 1] = '\0';
  for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
    for (int code = 1000; code <= 1011; code++) {
      struct dstream_end end = end_of(statuses[i], 0, code, long_name);
      char line[EXPLAIN_SIZE];
      explain(line, &end, long_name, long_name);
      assert_true(strlen(line) < sizeof line);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_known_failure),
      cmocka_unit_test(test_one_clean_line),
      cmocka_unit_test(test_long_texts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
