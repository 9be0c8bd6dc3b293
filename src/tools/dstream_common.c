#include "tools/dstream_common.h"

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/conn_string.h"
#include "net/loop.h"

#define OWN_OPTIONS_MAX 16

static const char common_help[] =
    "\n"
    "Of every command:\n"
    "  --connection-string S       the service's connection string\n"
    "  --connection-string-file F  read it from a file; - is stdin\n"
    "                              (default: $DSTREAM_CONNECTION_STRING)\n"
    "  --ca-file F                 trust this CA, in PEM (default:\n"
    "                              $DSTREAM_CA_FILE, or the system's roots)\n"
    "  --http-proxy URL            http://[user:password@]host:port\n"
    "  -v, --verbose               say more; twice: all\n"
    "  -q, --quiet                 say errors only\n"
    "  -h, --help\n";

/* ---- options ---- */

enum {
  OPT_CONNECTION_STRING = COMMON_OPTION,
  OPT_CONNECTION_STRING_FILE,
  OPT_CA_FILE,
  OPT_HTTP_PROXY
};

static const struct option common_list[] = {
    {"connection-string", required_argument, NULL, OPT_CONNECTION_STRING},
    {"connection-string-file", required_argument, NULL,
     OPT_CONNECTION_STRING_FILE},
    {"ca-file", required_argument, NULL, OPT_CA_FILE},
    {"http-proxy", required_argument, NULL, OPT_HTTP_PROXY},
    {"verbose", no_argument, NULL, 'v'},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};

#define COMMON_COUNT (sizeof common_list / sizeof common_list[0])

static void merge(struct option out[OWN_OPTIONS_MAX + COMMON_COUNT],
                  const struct option *own) {
  size_t count = 0;
  for (; own != NULL && own[count].name != NULL; count++) {
    assert(count < OWN_OPTIONS_MAX);
    out[count] = own[count];
  }
  memcpy(out + count, common_list, sizeof common_list);
}

static bool take_common(struct common_options *common, int option,
                        char *value) {
  switch (option) {
  case OPT_CONNECTION_STRING:
    common->source.connection_string = common->connection_string = value;
    return true;
  case OPT_CONNECTION_STRING_FILE:
    common->source.connection_string_file = value;
    return true;
  case OPT_CA_FILE:
    common->source.ca_file = value;
    return true;
  case OPT_HTTP_PROXY:
    common->http_proxy = value;
    return true;
  case 'v':
    common->verbose++;
    return true;
  case 'q':
    common->quiet = true;
    return true;
  default:
    return false;
  }
}

void common_print_help(const char *help) {
  printf("%s%s", help, common_help);
}

/* Of "--name=value" the name alone: the value may be a secret. */
static int wrong_option(int option, char **argv) {
  const char *text = argv[optind - 1];
  int len = (int)strcspn(text, "=");
  if (option == ':')
    return cli_usage("%.*s needs a value", len, text);
  if (optopt != 0 && optopt < COMMON_OPTION / 2)
    return cli_usage("unknown option -%c", optopt);
  return cli_usage("unknown option %.*s", len, text);
}

int common_parse(struct common_options *common,
                 const struct common_syntax *syntax, int argc, char **argv,
                 int *next) {
  struct option options[OWN_OPTIONS_MAX + COMMON_COUNT];
  merge(options, syntax->own);
  opterr = 0;
  optind = 0; /* glibc: begins anew, with another order */
  char letters[16];
  snprintf(letters, sizeof letters, "%s:hvq%s", syntax->stop ? "+" : "-",
           syntax->letters != NULL ? syntax->letters : "");
  int option;
  int status = CLI_DONE;
  while (status == CLI_DONE &&
         (option = getopt_long(argc, argv, letters, options, NULL)) != -1) {
    if (option == 'h') {
      syntax->print_help();
      return COMMON_HELPED;
    }
    if (option == ':' || option == '?')
      return wrong_option(option, argv);
    if (!take_common(common, option, optarg))
      status = syntax->take(syntax->user, option, optarg);
  }
  /* What stands behind "--". */
  for (int i = optind; !syntax->stop && status == CLI_DONE && i < argc; i++)
    status = syntax->take(syntax->user, COMMON_WORD, argv[i]);
  if (next != NULL)
    *next = optind;
  return status;
}

int common_number(const char *option, const char *text, unsigned least,
                  unsigned most, unsigned *out) {
  if (!cli_number(text, least, most, out))
    return cli_usage("%s must be a number from %u to %u, not \"%s\"", option,
                     least, most, text);
  return CLI_DONE;
}

/* ---- what is asked for ---- */

int common_device(struct common_device *out, const char *text) {
  const char *slash = strchr(text, '/');
  size_t id_len = slash != NULL ? (size_t)(slash - text) : strlen(text);
  memset(out, 0, sizeof *out);
  out->text = text;
  if (!conn_string_id_valid((struct slice){text, id_len}))
    return cli_usage("\"%s\" is no DEVICE or DEVICE/MODULE", text);
  memcpy(out->id, text, id_len);
  if (slash == NULL)
    return CLI_DONE;
  if (!conn_string_id_valid(slice_of(slash + 1)))
    return cli_usage("\"%s\" is no DEVICE/MODULE", text);
  snprintf(out->module, sizeof out->module, "%s", slash + 1);
  return CLI_DONE;
}

int common_name(char out[ADDRESS_NAME_SIZE], const char *text) {
  size_t len = strlen(text);
  if (strchr(text, ':') != NULL) {
    struct address address;
    struct dstream_end error = {0};
    if (address_parse(&address, text, &error) != DSTREAM_OK)
      return cli_usage("\"%s\" is no HOST:PORT: %s", text, error.text);
    if (address_to_name(&address, out) != DSTREAM_OK)
      return cli_usage("\"%s\" can't be asked for by its address", text);
    return CLI_DONE;
  }
  if (len == 0 || len >= ADDRESS_NAME_SIZE)
    return cli_usage("a NAME has 1 to %d characters", ADDRESS_NAME_SIZE - 1);
  memcpy(out, text, len + 1);
  return CLI_DONE;
}

/* ---- running ---- */

static void on_session_signal(void *user, int number) {
  struct session *session = user;
  if (number != SIGHUP || !cli_hangup_ignored(session->signals))
    session->on_signal(session->user, number);
}

static int open_loop(struct session *session,
                     const struct common_options *common,
                     unsigned max_streams) {
  struct dstream_loop_options options = {.size = sizeof options,
                                         .log = cli_log};
  options.log_level = common->verbose > 1   ? DSTREAM_LOG_DEBUG
                      : common->verbose > 0 ? DSTREAM_LOG_INFO
                      : common->quiet       ? DSTREAM_LOG_ERROR
                                            : DSTREAM_LOG_WARNING;
  /* One stream is open sooner without libuv. */
  int status = max_streams == 1 ? dstream_loop_new(&session->loop, &options)
                                : cli_loop_new(&session->loop, &options);
  if (status == DSTREAM_OK)
    status = cli_signals_new(&session->signals, session->loop,
                             on_session_signal, session);
  if (status == DSTREAM_OK)
    return CLI_DONE;
  cli_say("can't start: %s", dstream_status_text(status));
  return CLI_FAILED;
}

static void note_hub(struct session *session, const char *text) {
  struct conn_string parts;
  if (conn_string_parse(&parts, text, CONN_STRING_SERVICE, NULL) != DSTREAM_OK)
    return;
  snprintf(session->hub, sizeof session->hub, "%.255s:%u", parts.host,
           (unsigned)parts.https_port);
  conn_string_clear(&parts);
}

static int open_service(struct session *session,
                        const struct common_options *common, const char *text,
                        unsigned max_streams) {
  struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = text,
      .loop = session->loop,
      .tls = {.size = sizeof options.tls,
              .ca_file = cli_ca_file(&common->source)},
      .http_proxy = common->http_proxy,
      .user_agent = "dstream/" DSTREAM_VERSION,
      .max_streams = max_streams,
  };
  struct dstream_end end = {0};
  int status = dstream_service_new(&session->service, &options, &end);
  if (status == DSTREAM_OK) {
    note_hub(session, text);
    return CLI_DONE;
  }
  cli_failed(&end);
  return status == DSTREAM_ENOMEM || status == DSTREAM_ESYSTEM ? CLI_FAILED
                                                               : CLI_USAGE;
}

static int begin(struct session *session, struct common_options *common,
                 unsigned max_streams,
                 void (*on_signal)(void *user, int signal), void *user,
                 char **text) {
  session->on_signal = on_signal;
  session->user = user;
  session->start_ms = loop_now_ms();
  int status = CLI_DONE;
  *text = cli_connection_string(&common->source, &status);
  if (*text == NULL)
    return status;
  if (common->connection_string != NULL)
    cli_hide(common->connection_string);
  return open_loop(session, common, max_streams);
}

int session_open_loop(struct session *session, struct common_options *common,
                      void (*on_signal)(void *user, int signal), void *user,
                      char **text) {
  return begin(session, common, 1, on_signal, user, text);
}

int session_open(struct session *session, struct common_options *common,
                 unsigned max_streams,
                 void (*on_signal)(void *user, int signal), void *user) {
  char *text = NULL;
  int status = begin(session, common, max_streams, on_signal, user, &text);
  if (text == NULL)
    return status;
  if (status == CLI_DONE)
    status = open_service(session, common, text, max_streams);
  if (common->http_proxy != NULL)
    cli_hide(common->http_proxy);
  cli_forget(text);
  return status;
}

void session_close(struct session *session) {
  dstream_service_free(session->service);
  cli_signals_free(session->signals);
  dstream_loop_free(session->loop);
  session->service = NULL;
  session->signals = NULL;
  session->loop = NULL;
}

unsigned long long session_ms(const struct session *session) {
  return loop_now_ms() - session->start_ms;
}

void session_die(int number) {
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, number);
  signal(number, SIG_DFL);
  raise(number);
  sigprocmask(SIG_UNBLOCK, &only, NULL);
  _exit(128 + number);
}

bool common_sane_fds(void) {
  bool has_stdout = fcntl(1, F_GETFD) >= 0;
  for (int fd = 0; fd <= 2; fd++) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
      _exit(CLI_FAILED);
  }
  return has_stdout;
}
