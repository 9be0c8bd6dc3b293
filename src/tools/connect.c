#include "tools/connect.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <dstream/proxy.h>

#include "net/loop.h"
#include "proxy/bridge.h"
#include "tools/explain.h"

/* How long a signal waits for the orderly end: whoever sent it waits, too. */
#define SIGNAL_WAIT_MS 1000
#define WAIT_MAX_S     60

static const char help[] =
    "Usage: dstream connect [OPTION]... DEVICE NAME\n"
    "Opens a stream to a device and joins it to stdin and stdout.\n"
    "  ssh -o ProxyCommand='dstream connect %h ssh' user@pump-7\n"
    "\n"
    "DEVICE is a device's id, or DEVICE/MODULE.  NAME is what its agent serves "
    "by that\n"
    "name, or HOST:PORT as seen from the device, where its agent allows that.\n"
    "The end of stdin ends that direction only; the other goes on until it "
    "ends, too.\n"
    "\n"
    "  --wait SECONDS              how long the hub waits for a device that "
    "is\n"
    "                              not connected (default 0, at most 60)\n"
    "  --timeout SECONDS           how long for the device's answer (default "
    "30,\n"
    "                              at most 60)\n"
    "\n"
    "With -v, each step of the handshake is told on stderr with its time.\n"
    "Exit status: 0 both directions ended in the orderly way, 1 failed, 2 "
    "wrong usage.\n";

static void print_help(void) {
  common_print_help(help);
}

struct connect {
  struct common_options *common;
  struct common_device device;
  const char *asked; /* NAME as it was written */
  char name[ADDRESS_NAME_SIZE];
  unsigned words;
  unsigned wait_s;
  unsigned timeout_s;

  struct session session;
  dstream_bridge *bridge; /* NULL: not made, or ended */
  bool ended;
  struct dstream_bridge_result result;
  int signal; /* that ends it */
  struct loop_timer timer;
};

/* ---- arguments ---- */

enum { OPT_WAIT = 256, OPT_TIMEOUT };

static const struct option own_options[] = {
    {"wait", required_argument, NULL, OPT_WAIT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {NULL, 0, NULL, 0}};

static int take_word(struct connect *c, const char *value) {
  switch (c->words++) {
  case 0:
    return common_device(&c->device, value);
  case 1:
    c->asked = value;
    return common_name(c->name, value);
  default:
    return cli_usage("too many arguments: \"%s\"", value);
  }
}

static int take(void *user, int option, char *value) {
  struct connect *c = user;
  switch (option) {
  case OPT_WAIT:
    return common_number("--wait", value, 0, WAIT_MAX_S, &c->wait_s);
  case OPT_TIMEOUT:
    return common_number("--timeout", value, 1, WAIT_MAX_S, &c->timeout_s);
  default:
    return take_word(c, value);
  }
}

/* ---- telling the steps ---- */

static void tell(const struct connect *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void tell(const struct connect *c, const char *format, ...) {
  if (c->common->verbose == 0)
    return;
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  fprintf(stderr, "%6llu ms  %s\n", session_ms(&c->session), text);
}

static void on_step(void *user, dstream_stream *stream,
                    enum dstream_open_step step) {
  const struct connect *c = user;
  (void)stream;
  switch (step) {
  case DSTREAM_STEP_REQUEST:
    tell(c, "asking the hub %s for \"%s\" on %s", c->session.hub, c->asked,
         c->device.text);
    break;
  case DSTREAM_STEP_ACCEPTED:
    tell(c, "hub accepted the request, and so did %s", c->device.text);
    break;
  case DSTREAM_STEP_CONNECT:
    tell(c, "connecting to the streaming endpoint");
    break;
  }
}

static void on_open(dstream_bridge *bridge, void *user) {
  const struct connect *c = user;
  (void)bridge;
  tell(c, "the stream is open");
}

static void tell_end(const struct connect *c) {
  const struct dstream_bridge_result *result = &c->result;
  if (!result->opened)
    return;
  tell(c, "ended after %llu.%03llu s: %llu bytes from %s, %llu bytes to it",
       (unsigned long long)(result->duration_ms / 1000),
       (unsigned long long)(result->duration_ms % 1000),
       (unsigned long long)result->bytes_in, c->device.text,
       (unsigned long long)result->bytes_out);
}

/* ---- running ---- */

static void on_end(dstream_bridge *bridge, void *user,
                   const struct dstream_bridge_result *result) {
  struct connect *c = user;
  (void)bridge;
  c->bridge = NULL;
  c->ended = true;
  c->result = *result;
  dstream_loop_stop(c->session.loop);
}

static const struct dstream_bridge_callbacks bridge_callbacks = {
    .on_open = on_open, .on_end = on_end};

static void on_patience_over(struct loop_timer *timer) {
  dstream_loop_stop(timer->loop);
}

static void on_signal(void *user, int number) {
  struct connect *c = user;
  bool again = c->signal != 0;
  c->signal = number;
  if (again || c->bridge == NULL) {
    dstream_loop_stop(c->session.loop);
    return;
  }
  dstream_bridge_fail(c->bridge, NULL);
  loop_timer_set(c->session.loop, &c->timer, SIGNAL_WAIT_MS, on_patience_over);
}

static int start(struct connect *c) {
  const struct dstream_bridge_options bridge_options = {
      .size = sizeof bridge_options,
      .self_name = "dstream connect",
      .peer_name = EXPLAIN_STDIO,
  };
  int status = dstream_bridge_adopt_pair(&c->bridge, c->session.loop,
                                         STDIN_FILENO, STDOUT_FILENO,
                                         &bridge_options, &bridge_callbacks, c);
  if (status != DSTREAM_OK)
    return status;
  const struct dstream_open_options options = {
      .size = sizeof options,
      .module_id = c->device.module[0] != '\0' ? c->device.module : NULL,
      .connect_wait_s = (int)c->wait_s,
      .response_wait_s = (int)c->timeout_s,
  };
  dstream_service_on_step(c->session.service, on_step, c);
  /* A failure is told by on_end, as any other. */
  (void)dstream_bridge_open(c->bridge, c->session.service, c->device.id,
                            c->name, &options);
  return DSTREAM_OK;
}

static int failed(const struct connect *c) {
  char line[EXPLAIN_SIZE];
  explain(line, &c->result.end, c->device.text, c->asked);
  cli_say("%s", line);
  return CLI_FAILED;
}

static int run(struct connect *c) {
  int status = start(c);
  if (status != DSTREAM_OK) {
    cli_say("stdin and stdout can't be used: %s", dstream_status_text(status));
    return CLI_FAILED;
  }
  if (!c->ended)
    dstream_loop_run(c->session.loop);
  loop_timer_cancel(&c->timer);
  bridge_destroy(c->bridge);
  tell_end(c);
  return c->signal != 0 || c->result.end.status == DSTREAM_OK ? CLI_DONE
                                                              : failed(c);
}

int connect_run(struct common_options *common, int argc, char **argv) {
  struct connect c = {.common = common};
  const struct common_syntax syntax = {
      .print_help = print_help, .own = own_options, .take = take, .user = &c};
  int status = common_parse(common, &syntax, argc, argv, NULL);
  if (status != CLI_DONE)
    return status;
  if (c.words < 2)
    return cli_usage(c.words == 0 ? "DEVICE and NAME are missing"
                                  : "NAME is missing");
  status = session_open(&c.session, common, 1, on_signal, &c);
  if (status == CLI_DONE)
    status = run(&c);
  session_close(&c.session);
  if (c.signal != 0)
    session_die(c.signal);
  return status;
}
