#include "tools/explain.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/printable.h"
#include "proxy/reason.h"

/* RFC 6455 7.4.1. */
#define WS_GOING_AWAY 1001
#define WS_ABNORMAL   1006
#define WS_FAILED     1011

struct subject {
  char *out;
  const struct dstream_end *end;
  const char *text; /* the end's, never empty */
  const char *device;
  const char *name;
};

static bool says(const struct subject *s, const char *words) {
  return strstr(s->text, words) != NULL;
}

static void put(const struct subject *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void put(const struct subject *s, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(s->out, EXPLAIN_SIZE, format, args);
  va_end(args);
}

/* ---- the hub's and the device's answers ---- */

static void offline(const struct subject *s) {
  put(s,
      "%s is not connected to the hub (404103); is dstream-agent running "
      "there?",
      s->device);
}

static void no_answer(const struct subject *s) {
  put(s,
      "%s is connected to the hub but did not answer in time (%d); is its "
      "agent stuck, or its network slow?  --timeout SECONDS waits longer",
      s->device, s->end->hub_code != 0 ? s->end->hub_code : 504101);
}

static void not_found(const struct subject *s) {
  if (s->end->hub_code == 404010)
    put(s,
        "the hub knows no module %s (404010); is it spelt as the device spells "
        "it?",
        s->device);
  else
    put(s,
        "the hub knows no device %s (404001); \"dstream-hub device list\" says "
        "which it knows",
        s->device);
}

/* The reasons of dstream_targets begin with who it was that said no. */
static bool begins(const char *text, const char *prefix) {
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void tell_reason(const struct subject *s, const char *reason,
                        const char *verb) {
  if (begins(reason, REASON_AGENT))
    put(s, "the agent on %s %s %s: %s", s->device, verb, s->name,
        reason + strlen(REASON_AGENT));
  else if (begins(reason, REASON_TARGET))
    put(s, "%s: %s; is it running, and well, over there?", s->device, reason);
  else
    put(s, "%s %s %s: %s", s->device, verb, s->name, reason);
}

static void rejected(const struct subject *s) {
  static const char prefix[] = "the device rejected the stream: ";
  if (begins(s->text, prefix))
    tell_reason(s, s->text + strlen(prefix), "refused");
  else
    put(s, "%s refused %s and gave no reason; its log may say more", s->device,
        s->name);
}

static void unauthorized(const struct subject *s) {
  if (says(s, "streaming endpoint"))
    put(s, "%s; do both machines' clocks agree with the hub's?", s->text);
  else if (says(s, "device is disabled"))
    put(s,
        "the hub was told to keep %s out; \"dstream-hub device enable\" lets "
        "it come again",
        s->device);
  else if (says(s, "has expired"))
    put(s,
        "the token made for this call has expired already, says the hub; is "
        "this machine's clock right?  %s",
        s->text);
  else
    put(s,
        "the hub refused the connection string: %s; \"dstream-hub "
        "connection-string\" prints one that opens streams",
        s->text);
}

static void throttled(const struct subject *s) {
  put(s, "the hub is at a limit: %s; try again in a moment", s->text);
}

static void hub_failed(const struct subject *s) {
  put(s, "the hub could not do it: %s; its log says more", s->text);
}

static void malformed(const struct subject *s) {
  put(s,
      "the hub gave a wrong answer: %s; do HostName and HttpsPort name an "
      "IoT hub?",
      s->text);
}

/* ---- the network ---- */

static void not_trusted(const struct subject *s) {
  const char *hint = "--ca-file names the CA that signed it";
  if (says(s, "mismatch"))
    hint = "HostName in the connection string must be a name in it";
  else if (says(s, "expired") || says(s, "not yet valid"))
    hint = "is this machine's clock right?  Otherwise the hub needs a new one";
  put(s, "the hub could not be verified: %s; %s", s->text, hint);
}

static void no_connection(const struct subject *s) {
  put(s,
      "the network: %s; is the hub running, and does a firewall let this "
      "machine reach it?",
      s->text);
}

/* Of the two ends of a connection here, or of a limit that was set. */
static void timed_out(const struct subject *s) {
  if (says(s, "idle for ") || says(s, "the limit") || says(s, "did not read"))
    put(s, "%s", s->text);
  else
    no_connection(s);
}

static void no_address(const struct subject *s) {
  put(s,
      "the network: %s; check HostName in the connection string, and DNS on "
      "this machine",
      s->text);
}

static void no_tls(const struct subject *s) {
  put(s,
      "the network: %s; is that the hub's HTTPS port, and nothing in between "
      "that looks into TLS?",
      s->text);
}

static void proxy(const struct subject *s) {
  put(s, "the HTTP proxy: %s; check --http-proxy", s->text);
}

static void broken(const struct subject *s) {
  if (begins(s->text, EXPLAIN_STDIO) && s->end->sys_errno == EPIPE)
    put(s, "what read from stdout went away before the end");
  else if (begins(s->text, EXPLAIN_STDIO) || begins(s->text, "client "))
    put(s, "%s", s->text);
  else
    put(s, "the network: %s", s->text);
}

static void silent(const struct subject *s) {
  put(s, "the network: %s; the stream to %s is lost", s->text, s->device);
}

/* ---- the end of an open stream ---- */

static void upgrade(const struct subject *s) {
  put(s, "the hub's streaming endpoint refused: %s; try again", s->text);
}

/* A bridge's text is the reason of the Close alone; a stream's, when none was
 * given, says so in a sentence of its own. */
static void broken_off(const struct subject *s) {
  if (begins(s->text, "the hub lost"))
    put(s, "the network: the hub lost the connection to %s", s->device);
  else if (begins(s->text, "the peer "))
    put(s, "%s or its network broke off %s: %s", s->device, s->name, s->text);
  else
    tell_reason(s, s->text, "broke off");
}

static void closed(const struct subject *s) {
  switch (s->end->ws_code) {
  case WS_GOING_AWAY:
    put(s, "the hub or %s is stopping: %s; try again when it is back",
        s->device, s->text);
    break;
  case WS_ABNORMAL:
    put(s, "the network: the connection to the hub was cut: %s", s->text);
    break;
  case WS_FAILED:
    broken_off(s);
    break;
  default:
    put(s, "%s ended the stream too early: %s", s->device, s->text);
  }
}

static void other(const struct subject *s) {
  put(s, "%s", s->text);
}

static const struct {
  int status;
  void (*explain)(const struct subject *s);
} cases[] = {
    {DSTREAM_EOFFLINE, offline},
    {DSTREAM_ENOANSWER, no_answer},
    {DSTREAM_ENOTFOUND, not_found},
    {DSTREAM_EREJECTED, rejected},
    {DSTREAM_EUNAUTHORIZED, unauthorized},
    {DSTREAM_ETHROTTLED, throttled},
    {DSTREAM_EHUB, hub_failed},
    {DSTREAM_EHTTP, malformed},
    {DSTREAM_EVERIFY, not_trusted},
    {DSTREAM_ECONNECT, no_connection},
    {DSTREAM_ETIMEDOUT, timed_out},
    {DSTREAM_ERESOLVE, no_address},
    {DSTREAM_ETLS, no_tls},
    {DSTREAM_EPROXY, proxy},
    {DSTREAM_EIO, broken},
    {DSTREAM_EKEEPALIVE, silent},
    {DSTREAM_EUPGRADE, upgrade},
    {DSTREAM_ETOKEN, upgrade},
    {DSTREAM_ECLOSED, closed},
};

void explain(char out[EXPLAIN_SIZE], const struct dstream_end *end,
             const char *device, const char *name) {
  struct subject s = {
      .out = out,
      .end = end,
      .text =
          end->text[0] != '\0' ? end->text : dstream_status_text(end->status),
      .device = device,
      .name = name,
  };
  void (*fn)(const struct subject *) = other;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    if (cases[i].status == end->status)
      fn = cases[i].explain;
  fn(&s);
  printable_line(out); /* peers' words are quoted in it */
}
