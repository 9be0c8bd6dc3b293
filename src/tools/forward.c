#include "tools/forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <dstream/proxy.h>

#include "core/bucket.h"
#include "net/loop.h"
#include "tools/explain.h"
#include "net/settle.h"

#define FORWARDS_MAX    256
#define CONNECTIONS     256
#define CONNECTIONS_MAX 4096
#define STREAMS_MAX     16384
#define SECONDS_MAX     31536000
#define WAIT_MAX_S      60
#define END_WAIT_MS     5000
#define DESCRIPTORS     16384
#define LINE_RATE       2
#define LINE_BURST      20

static const char help[] =
    "Usage: dstream forward [OPTION]... FORWARD...\n"
    "Listens here, and opens a stream to a device for each connection that "
    "comes.\n"
    "A FORWARD is one of\n"
    "  DEVICE NAME LISTEN          to what the device's agent serves as NAME, "
    "or to\n"
    "                              HOST:PORT as seen from there, where it "
    "allows that\n"
    "  DEVICE --socks LISTEN       to whatever the client asks for, by SOCKS "
    "5\n"
    "  dstream forward pump-7 web 8080 pump-7 ssh 2222 pump-8 --socks 1080\n"
    "\n"
    "DEVICE is a device's id, or DEVICE/MODULE.  LISTEN is PORT (on "
    "127.0.0.1),\n"
    "ADDRESS:PORT, [IPv6]:PORT or unix:PATH; port 0 is any free one.  Once all "
    "of\n"
    "them listen, one line on stdout for each, in their order: \"listening "
    "ADDR:PORT\".\n"
    "\n"
    "  --once                      serve one connection of each, then end\n"
    "  --max-connections N         of each at once (default 256, at most "
    "4096);\n"
    "                              others wait\n"
    "  --idle SECONDS              end a connection after so long without a "
    "byte\n"
    "  --total SECONDS             end a connection that is so old\n"
    "  --wait SECONDS              how long the hub waits for a device that "
    "is\n"
    "                              not connected (default 0, at most 60)\n"
    "  --timeout SECONDS           how long for the device's answer (default "
    "30,\n"
    "                              at most 60)\n"
    "\n"
    "Ctrl-C ends it: connections get five seconds to end in the orderly way, "
    "or none\n"
    "after a second Ctrl-C.  Exit status: 0 ended as asked, 1 failed (with "
    "--once: a\n"
    "connection failed), 2 wrong usage.\n";

static void print_help(void) {
  common_print_help(help);
}

struct forward;

/* One FORWARD. */
struct entry {
  struct forward *forward;
  struct common_device device;
  const char *name; /* NULL: SOCKS */
  const char *listen;
  dstream_listener *listener;
  bool served; /* a connection came and ended well; none failed */
  bool failed;
  bool stopped;
};

struct forward {
  struct common_options *common;
  struct entry entries[FORWARDS_MAX];
  unsigned count;
  unsigned words; /* of the FORWARD that is being read: 0 to 2 */
  bool once;
  unsigned max_connections;
  unsigned idle_s;
  unsigned total_s;
  unsigned wait_s;
  unsigned timeout_s;

  struct session session;
  unsigned running;
  bool ending; /* a signal came */
  struct loop_timer timer;
  struct settle settle;
  struct bucket lines;
  unsigned left_out;
};

/* ---- arguments ---- */

enum {
  OPT_SOCKS = 256,
  OPT_ONCE,
  OPT_MAX_CONNECTIONS,
  OPT_IDLE,
  OPT_TOTAL,
  OPT_WAIT,
  OPT_TIMEOUT
};

static const struct option own_options[] = {
    {"socks", required_argument, NULL, OPT_SOCKS},
    {"once", no_argument, NULL, OPT_ONCE},
    {"max-connections", required_argument, NULL, OPT_MAX_CONNECTIONS},
    {"idle", required_argument, NULL, OPT_IDLE},
    {"total", required_argument, NULL, OPT_TOTAL},
    {"wait", required_argument, NULL, OPT_WAIT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {NULL, 0, NULL, 0}};

static int check_listen(const char *text) {
  struct address address;
  struct dstream_end error = {0};
  if (address_parse_listen(&address, text, &error) == DSTREAM_OK)
    return CLI_DONE;
  return cli_usage("can't listen on \"%s\": %s", text, error.text);
}

static int end_entry(struct forward *f, const char *listen) {
  f->entries[f->count].listen = listen;
  f->entries[f->count].forward = f;
  f->count++;
  f->words = 0;
  return check_listen(listen);
}

static int take_word(struct forward *f, const char *value) {
  if (f->count == FORWARDS_MAX)
    return cli_usage("more than %d forwards", FORWARDS_MAX);
  struct entry *entry = &f->entries[f->count];
  char name[ADDRESS_NAME_SIZE];
  switch (f->words++) {
  case 0:
    return common_device(&entry->device, value);
  case 1:
    entry->name = value;
    return common_name(name, value);
  default:
    return end_entry(f, value);
  }
}

static int take_socks(struct forward *f, const char *value) {
  if (f->words == 0)
    return cli_usage("--socks LISTEN follows the DEVICE that it is for");
  if (f->words == 2)
    return cli_usage("%s %s lacks a LISTEN", f->entries[f->count].device.text,
                     f->entries[f->count].name);
  return end_entry(f, value);
}

static int take(void *user, int option, char *value) {
  struct forward *f = user;
  switch (option) {
  case OPT_SOCKS:
    return take_socks(f, value);
  case OPT_ONCE:
    f->once = true;
    return CLI_DONE;
  case OPT_MAX_CONNECTIONS:
    return common_number("--max-connections", value, 1, CONNECTIONS_MAX,
                         &f->max_connections);
  case OPT_IDLE:
    return common_number("--idle", value, 1, SECONDS_MAX, &f->idle_s);
  case OPT_TOTAL:
    return common_number("--total", value, 1, SECONDS_MAX, &f->total_s);
  case OPT_WAIT:
    return common_number("--wait", value, 0, WAIT_MAX_S, &f->wait_s);
  case OPT_TIMEOUT:
    return common_number("--timeout", value, 1, WAIT_MAX_S, &f->timeout_s);
  default:
    return take_word(f, value);
  }
}

static int check_complete(const struct forward *f) {
  const struct entry *last = &f->entries[f->count];
  if (f->words == 1)
    return cli_usage("%s lacks NAME and LISTEN, or --socks LISTEN",
                     last->device.text);
  if (f->words == 2)
    return cli_usage("%s %s lacks a LISTEN", last->device.text, last->name);
  if (f->count == 0)
    return cli_usage("DEVICE, NAME and LISTEN are missing");
  return CLI_DONE;
}

/* ---- lines on stderr ---- */

static const char *served_name(const struct entry *entry) {
  return entry->name != NULL ? entry->name : "by SOCKS 5";
}

static void say_left_out(struct forward *f) {
  if (f->left_out > 0)
    cli_say("%u more lines like these were left out", f->left_out);
  f->left_out = 0;
}

/* So many that a terminal or a journal is not flooded by a client that tries
 * again and again. */
static bool may_say(struct forward *f) {
  if (f->common->verbose == 0 && !bucket_take(&f->lines, loop_now_ms())) {
    f->left_out++;
    return false;
  }
  say_left_out(f);
  return true;
}

static void say_failure(const struct entry *entry,
                        const struct dstream_proxy_event *event) {
  if (!may_say(entry->forward))
    return;
  char line[EXPLAIN_SIZE];
  const char *name = event->name != NULL && event->name[0] != '\0'
                         ? event->name
                         : served_name(entry);
  explain(line, &event->result->end, entry->device.text, name);
  cli_say("%s: %s", dstream_listener_address(entry->listener), line);
}

static void say_progress(const struct entry *entry,
                         const struct dstream_proxy_event *event) {
  if (entry->forward->common->verbose == 0)
    return;
  const struct dstream_bridge_result *result = event->result;
  const char *client = event->address[0] != '\0' ? event->address : "a client";
  if (result == NULL)
    cli_say("%s -> %s %s: open, from %s (%u open)",
            dstream_listener_address(entry->listener), entry->device.text,
            event->name, client, event->open);
  else
    cli_say("%s -> %s %s: closed, from %s, after %llu.%03llu s, %llu bytes in, "
            "%llu bytes out",
            dstream_listener_address(entry->listener), entry->device.text,
            event->name, client,
            (unsigned long long)(result->duration_ms / 1000),
            (unsigned long long)(result->duration_ms % 1000),
            (unsigned long long)result->bytes_in,
            (unsigned long long)result->bytes_out);
}

/* What a signal cut off is none, nor, unless asked for, that a client did:
 * browsers do it all the time. */
static bool is_news(const struct forward *f,
                    const struct dstream_proxy_event *event) {
  bool by_client = strncmp(event->result->end.text, "client ", 7) == 0;
  return !f->ending && (!by_client || f->common->verbose > 0);
}

static void on_event(void *user, const struct dstream_proxy_event *event) {
  struct entry *entry = user;
  const struct dstream_bridge_result *result = event->result;
  settle_note(&entry->forward->settle);
  if (event->kind == DSTREAM_PROXY_OPENED || (result != NULL && result->opened))
    say_progress(entry, event);
  if (result == NULL)
    return;
  bool good =
      event->kind == DSTREAM_PROXY_CLOSED && result->end.status == DSTREAM_OK;
  if (good) {
    entry->served = true;
    return;
  }
  entry->failed = true;
  if (is_news(entry->forward, event))
    say_failure(entry, event);
}

/* ---- the end ---- */

static void on_stopped(void *user, dstream_listener *listener) {
  struct entry *entry = user;
  struct forward *f = entry->forward;
  (void)listener;
  entry->stopped = true;
  f->running--;
  if (f->running == 0)
    dstream_loop_stop(f->session.loop);
}

static void on_patience_over(struct loop_timer *timer) {
  dstream_loop_stop(timer->loop);
}

static void on_signal(void *user, int number) {
  struct forward *f = user;
  (void)number;
  if (f->ending || f->running == 0) {
    dstream_loop_stop(f->session.loop);
    return;
  }
  f->ending = true;
  for (unsigned i = 0; i < f->count; i++)
    if (!f->entries[i].stopped)
      dstream_listener_stop(f->entries[i].listener, true);
  loop_timer_set(f->session.loop, &f->timer, END_WAIT_MS, on_patience_over);
}

static int exit_status(const struct forward *f) {
  for (unsigned i = 0; f->once && i < f->count; i++)
    if (f->entries[i].failed || !f->entries[i].served)
      return CLI_FAILED;
  return CLI_DONE;
}

/* ---- running ---- */

static int start_entry(struct forward *f, struct entry *entry) {
  const struct dstream_listener_options options = {
      .size = sizeof options,
      .listen = entry->listen,
      .device_id = entry->device.id,
      .module_id =
          entry->device.module[0] != '\0' ? entry->device.module : NULL,
      .name = entry->name,
      .max_connections = f->max_connections,
      .once = f->once,
      .connect_wait_s = (int)f->wait_s,
      .response_wait_s = (int)f->timeout_s,
      .bridge = {.size = sizeof options.bridge,
                 .idle_timeout_s = (int)f->idle_s,
                 .total_timeout_s = (int)f->total_s,
                 .self_name = "dstream forward"},
  };
  const struct dstream_listener_callbacks callbacks = {
      .on_event = on_event, .on_stopped = on_stopped, .user = entry};
  struct dstream_end error = {0};
  int status =
      dstream_listener_new(&entry->listener, f->session.loop,
                           f->session.service, &options, &callbacks, &error);
  if (status != DSTREAM_OK)
    return cli_failed(&error);
  f->running++;
  return CLI_DONE;
}

static void say_served(const struct forward *f, const struct entry *entry) {
  const char *text = dstream_listener_address(entry->listener);
  struct address address;
  if (address_parse_listen(&address, text, NULL) == DSTREAM_OK &&
      !address_is_local(&address))
    cli_say("%s is no loopback address: whoever reaches it reaches %s %s", text,
            entry->device.text, served_name(entry));
  if (!f->common->quiet)
    cli_say("%s -> %s %s", text, entry->device.text, served_name(entry));
}

static int start(struct forward *f) {
  int status = CLI_DONE;
  for (unsigned i = 0; i < f->count && status == CLI_DONE; i++)
    status = start_entry(f, &f->entries[i]);
  if (status != CLI_DONE)
    return status;
  for (unsigned i = 0; i < f->count; i++)
    say_served(f, &f->entries[i]);
  for (unsigned i = 0; i < f->count; i++)
    printf("listening %s\n", dstream_listener_address(f->entries[i].listener));
  return cli_printed();
}

static void free_listeners(struct forward *f) {
  loop_timer_cancel(&f->timer);
  for (unsigned i = 0; i < f->count; i++)
    dstream_listener_free(f->entries[i].listener);
}

/* Two descriptors for each connection; the usual soft limit of 1024 is for
 * programs that call select. */
static void raise_descriptors(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return;
  if (limit.rlim_cur < DESCRIPTORS)
    limit.rlim_cur =
        limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int run(struct forward *f, int argc, char **argv) {
  const struct common_syntax syntax = {
      .print_help = print_help, .own = own_options, .take = take, .user = f};
  int status = common_parse(f->common, &syntax, argc, argv, NULL);
  if (status == CLI_DONE)
    status = check_complete(f);
  if (status != CLI_DONE)
    return status;
  raise_descriptors();
  bucket_init(&f->lines, LINE_RATE, LINE_BURST, loop_now_ms());
  unsigned streams = f->max_connections * f->count;
  status =
      session_open(&f->session, f->common,
                   streams < STREAMS_MAX ? streams : STREAMS_MAX, on_signal, f);
  settle_begin(&f->settle, f->session.loop);
  if (status == CLI_DONE)
    status = start(f);
  if (status == CLI_DONE) {
    dstream_loop_run(f->session.loop);
    say_left_out(f);
    status = exit_status(f);
  }
  free_listeners(f);
  settle_end(&f->settle);
  session_close(&f->session);
  return status;
}

int forward_run(struct common_options *common, int argc, char **argv) {
  struct forward *f = calloc(1, sizeof *f);
  if (f == NULL) {
    cli_say("%s", dstream_status_text(DSTREAM_ENOMEM));
    return CLI_FAILED;
  }
  f->common = common;
  f->max_connections = CONNECTIONS;
  int status = run(f, argc, argv);
  free(f);
  return status;
}
