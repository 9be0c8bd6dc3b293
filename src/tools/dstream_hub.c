/* dstream-hub - a self-hosted hub for device streams. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/conn_string.h"
#include "core/crypto.h"
#include "core/end.h"
#include "hub/backup.h"
#include "hub/check.h"
#include "hub/config.h"
#include "hub/folder.h"
#include "hub/hub.h"
#include "hub/init.h"
#include "tools/cli.h"
#include "tools/notify.h"

#ifndef DSTREAM_PLUGIN_DIR
#define DSTREAM_PLUGIN_DIR "/usr/local/lib/dstream"
#endif
#define PLUGIN_NAME "dstream_broker_plugin.so"

static const char *const help_all =
    "Usage: dstream-hub COMMAND ...\n"
    "A self-hosted hub for device streams.\n"
    "\n"
    "  init DIR                  make a hub's folder\n"
    "  run DIR                   run the hub, in the foreground\n"
    "  check DIR                 say whether it can be run, and what is wrong\n"
    "  backup DIR TO             copy a hub's folder, which may run\n"
    "  device add DIR ID         add a device, print its connection string\n"
    "  device remove DIR ID      remove a device\n"
    "  device disable DIR ID     cut a device off, and keep it\n"
    "  device enable DIR ID      let it come again\n"
    "  device rotate-key DIR ID  make one of its keys anew, print the string\n"
    "  device list DIR           list the devices\n"
    "  group add DIR NAME        add a group: devices without an entry for "
    "each\n"
    "  group device DIR NAME ID  print the connection string of one of them\n"
    "  group key DIR NAME        print the group's key\n"
    "  group rotate-key DIR NAME make one of its keys anew\n"
    "  group remove DIR NAME     remove a group\n"
    "  group list DIR            list the groups\n"
    "  policy rotate-key DIR NAME  make one of a policy's keys anew\n"
    "  connection-string DIR     print the service's connection string\n"
    "  options                   list every option of hub.json\n"
    "\n"
    "dstream-hub COMMAND --help says more.\n"
    "  --help, --version\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.\n";

static const char *const help_init =
    "Usage: dstream-hub init DIR [--host NAME] [--https-port N] "
    "[--mqtt-port N]\n"
    "Makes a hub's folder: its configuration, a private CA, a certificate, "
    "and the\n"
    "database of devices and service policies.  Never overwrites anything.\n"
    "\n"
    "  --host NAME      the name that clients reach the hub by (default: that "
    "of\n"
    "                   DSTREAM_HUB_HOST in the environment, or this "
    "machine's); the\n"
    "                   certificate is also good for localhost, 127.0.0.1 and "
    "::1\n"
    "  --https-port N   REST, streams and MQTT over WebSocket (443)\n"
    "  --mqtt-port N    MQTT (8883); 0 for either: any free port\n";

static const char *const help_run =
    "Usage: dstream-hub run DIR\n"
    "Runs the hub in the foreground.  One line on stdout, \"ready "
    "https=ADDR:PORT\n"
    "mqtt=ADDR:PORT\", says that it accepts connections; the log goes to "
    "stderr.\n"
    "SIGTERM and SIGINT end it, SIGHUP has it reread its certificate and open "
    "its\n"
    "activity log anew.\n"
    "DSTREAM_PLUGIN names another " PLUGIN_NAME " to use.\n";

static const char *const help_backup =
    "Usage: dstream-hub backup DIR TO\n"
    "Copies what can't be made again, also while the hub runs, to a new folder "
    "TO,\n"
    "which is a hub's folder itself: the configuration, certificates, keys, "
    "and "
    "the\n"
    "database as it is at one moment.  Files elsewhere are named and left "
    "out.\n";

static const char *const help_check =
    "Usage: dstream-hub check DIR [--json]\n"
    "Looks at hub.json, the certificate and its key, the database, the broker, "
    "the\n"
    "ports and the modes of files, says what it finds, and changes nothing.  "
    "The hub\n"
    "may run meanwhile.  Exit status: 1 if there is an error.\n"
    "\n"
    "  --json  as an object with errors, warnings and findings\n";

static const char *const help_device =
    "Usage: dstream-hub device add DIR ID\n"
    "           [--thumbprint HEX [--secondary-thumbprint HEX] | --x509-ca]\n"
    "       dstream-hub device add DIR --stdin [--x509-ca]\n"
    "       dstream-hub device remove|disable|enable DIR ID\n"
    "       dstream-hub device rotate-key DIR ID primary|secondary\n"
    "       dstream-hub device list DIR [--json]\n"
    "The hub may run meanwhile.  add prints the device's connection string, "
    "which\n"
    "holds its key.  remove and disable end its connection and its streams.\n"
    "rotate-key makes one of its two keys anew and prints the connection "
    "string "
    "with\n"
    "it; the other key stays good.\n"
    "\n"
    "  --thumbprint HEX            the device shows a certificate with this\n"
    "                              SHA-1 or SHA-256 instead of having keys\n"
    "  --secondary-thumbprint HEX  or with this one\n"
    "  --x509-ca                   the device shows a certificate of a CA in\n"
    "                              device_ca_file, with its id as common "
    "name\n"
    "  --stdin                     many devices: their ids come on stdin, one "
    "a\n"
    "                              line; all of them are added, or none\n";

static const char *const help_group =
    "Usage: dstream-hub group add DIR NAME [--prefix TEXT]\n"
    "       dstream-hub group device DIR NAME ID [--secondary]\n"
    "       dstream-hub group key DIR NAME [--secondary]\n"
    "       dstream-hub group rotate-key DIR NAME primary|secondary\n"
    "       dstream-hub group remove DIR NAME\n"
    "       dstream-hub group list DIR [--json]\n"
    "The hub may run meanwhile.  Every device whose id begins with the group's "
    "prefix\n"
    "may connect; its key is base64(HMAC-SHA256(the group's key, its id)).\n"
    "\n"
    "  --prefix TEXT   default: the group's name and \"-\"; \"\": every id\n"
    "  --secondary     with the group's secondary key\n";

static const char *const help_policy =
    "Usage: dstream-hub policy rotate-key DIR NAME primary|secondary\n"
    "The hub may run meanwhile.  Makes one of the two keys of a policy "
    "(\"service\",\n"
    "\"device\", \"registryRead\", \"registryReadWrite\", \"iothubowner\")\n"
    "anew and prints the connection string with "
    "it; the\n"
    "other key stays good.  Tokens signed with the old key are refused from "
    "now on;\n"
    "streams that run go on.\n";

static const char *const help_string =
    "Usage: dstream-hub connection-string DIR [--policy NAME | --device ID]\n"
    "           [--secondary]\n"
    "Prints a connection string, which holds a key.\n"
    "\n"
    "  --policy NAME   a service's (default: the policy \"service\")\n"
    "  --device ID     a device's\n"
    "  --secondary     with the secondary key\n";

static const char *const help_config =
    "Usage: dstream-hub options [--json | --markdown]\n"
    "Lists every option of hub.json: what is allowed, its default, what it is, "
    "and the\n"
    "environment variable that goes before it.\n"
    "\n"
    "  --json      as an array of objects\n"
    "  --markdown  as a table\n";

static const char *help = ""; /* of the command at hand */

/* ---- arguments ---- */

struct arguments {
  const char *host;
  const char *policy;
  const char *device;
  const char *prefix;
  const char *thumbprint[2];
  unsigned https_port;
  unsigned mqtt_port;
  bool x509_ca;
  bool from_stdin;
  bool secondary;
  bool json;
  bool markdown;
  char **rest; /* what is no option */
  int rest_count;
};

enum {
  OPT_HOST = 256,
  OPT_HTTPS,
  OPT_MQTT,
  OPT_POLICY,
  OPT_DEVICE,
  OPT_PREFIX,
  OPT_THUMBPRINT,
  OPT_THUMBPRINT_2,
  OPT_X509_CA,
  OPT_STDIN,
  OPT_SECONDARY,
  OPT_JSON,
  OPT_MARKDOWN
};

static const struct option init_options[] = {
    {"host", required_argument, NULL, OPT_HOST},
    {"https-port", required_argument, NULL, OPT_HTTPS},
    {"mqtt-port", required_argument, NULL, OPT_MQTT},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const struct option string_options[] = {
    {"policy", required_argument, NULL, OPT_POLICY},
    {"device", required_argument, NULL, OPT_DEVICE},
    {"secondary", no_argument, NULL, OPT_SECONDARY},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const struct option add_options[] = {
    {"thumbprint", required_argument, NULL, OPT_THUMBPRINT},
    {"secondary-thumbprint", required_argument, NULL, OPT_THUMBPRINT_2},
    {"x509-ca", no_argument, NULL, OPT_X509_CA},
    {"stdin", no_argument, NULL, OPT_STDIN},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const struct option prefix_options[] = {
    {"prefix", required_argument, NULL, OPT_PREFIX},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const struct option secondary_options[] = {
    {"secondary", no_argument, NULL, OPT_SECONDARY},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const struct option list_options[] = {
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const struct option config_options[] = {
    {"json", no_argument, NULL, OPT_JSON},
    {"markdown", no_argument, NULL, OPT_MARKDOWN},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const struct option no_options[] = {{"help", no_argument, NULL, 'h'},
                                           {NULL, 0, NULL, 0}};

static int take_port(const char *name, unsigned *port) {
  if (cli_number(optarg, 0, 65535, port))
    return CLI_DONE;
  return cli_usage("%s must be a number from 0 to 65535", name);
}

static int take_option(struct arguments *arguments, int option) {
  switch (option) {
  case OPT_HTTPS:
    return take_port("--https-port", &arguments->https_port);
  case OPT_MQTT:
    return take_port("--mqtt-port", &arguments->mqtt_port);
  case OPT_HOST:
    arguments->host = optarg;
    break;
  case OPT_POLICY:
    arguments->policy = optarg;
    break;
  case OPT_DEVICE:
    arguments->device = optarg;
    break;
  case OPT_PREFIX:
    arguments->prefix = optarg;
    break;
  case OPT_THUMBPRINT:
  case OPT_THUMBPRINT_2:
    arguments->thumbprint[option - OPT_THUMBPRINT] = optarg;
    break;
  case OPT_X509_CA:
    arguments->x509_ca = true;
    break;
  case OPT_STDIN:
    arguments->from_stdin = true;
    break;
  case OPT_SECONDARY:
    arguments->secondary = true;
    break;
  case OPT_JSON:
    arguments->json = true;
    break;
  case OPT_MARKDOWN:
    arguments->markdown = true;
    break;
  default:
    return CLI_USAGE;
  }
  return CLI_DONE;
}

/* CLI_DONE: go on.  -1: help was printed. */
static int parse(struct arguments *arguments, int argc, char **argv,
                 const struct option *options, int least, int most) {
  *arguments = (struct arguments){.https_port = 443, .mqtt_port = 8883};
  opterr = 0;
  optind = 1;
  int option;
  while ((option = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
    if (option == 'h') {
      fputs(help, stdout);
      return -1;
    }
    if (option == ':')
      return cli_usage("%s needs a value", argv[optind - 1]);
    if (option == '?')
      return cli_usage("unknown option %s", argv[optind - 1]);
    int status = take_option(arguments, option);
    if (status != CLI_DONE)
      return status;
  }
  arguments->rest = argv + optind;
  arguments->rest_count = argc - optind;
  if (arguments->rest_count < least)
    return cli_usage("too few arguments for %s", argv[0]);
  if (arguments->rest_count > most)
    return cli_usage("too many arguments for %s", argv[0]);
  return CLI_DONE;
}

/* ---- commands: argv[0] is the command's name ---- */

static void say_next(const char *directory) {
  printf("A hub's folder was made: %s\n"
         "Next:\n"
         "  dstream-hub run %s\n"
         "  dstream-hub device add %s DEVICE        the device's connection "
         "string\n"
         "  dstream-hub connection-string %s        the service's\n"
         "Clients must trust %s/ca.pem; keep %s/ca-key.pem safe, or away.\n",
         directory, directory, directory, directory, directory, directory);
}

static int command_init(int argc, char **argv) {
  struct arguments arguments;
  help = help_init;
  int status = parse(&arguments, argc, argv, init_options, 1, 1);
  if (status != CLI_DONE)
    return status;
  struct init_options options = {.directory = arguments.rest[0],
                                 .host = arguments.host,
                                 .https_port = arguments.https_port,
                                 .mqtt_port = arguments.mqtt_port};
  struct dstream_end end = {0};
  if (init_run(&options, &end) != DSTREAM_OK)
    return cli_failed(&end);
  say_next(arguments.rest[0]);
  return cli_printed();
}

/* Beside the program as built (bin/, lib/dstream/), then where it was
 * installed. */
static void find_plugin(char *out, size_t size) {
  const char *named = getenv("DSTREAM_PLUGIN");
  if (named != NULL && named[0] != '\0') {
    snprintf(out, size, "%s", named);
    return;
  }
  char self[PATH_MAX];
  ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
  if (len > 0) {
    self[len] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL)
      *slash = '\0';
    snprintf(out, size, "%s/../lib/dstream/" PLUGIN_NAME, self);
    if (access(out, R_OK) == 0)
      return;
  }
  snprintf(out, size, "%s", DSTREAM_PLUGIN_DIR "/" PLUGIN_NAME);
}

static void on_event(void *user, enum hub_event event, const char *text) {
  const struct notify *notify = user;
  switch (event) {
  case HUB_READY:
    notify_send(notify, "READY=1\nSTATUS=%s", text);
    break;
  case HUB_RELOADING:
    notify_reloading(notify);
    break;
  case HUB_RELOADED:
    notify_send(notify, "READY=1");
    break;
  case HUB_STOPPING:
    notify_send(notify, "STOPPING=1\nSTATUS=%s", text);
    break;
  case HUB_ALIVE:
    notify_send(notify, "WATCHDOG=1");
    break;
  }
}

/* The service manager hears of the hub only: mosquitto would talk to it, too.
 */
static void find_manager(struct notify *notify) {
  notify_init(notify);
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  unsetenv("WATCHDOG_PID");
}

static int command_run(int argc, char **argv) {
  struct arguments arguments;
  help = help_run;
  int status = parse(&arguments, argc, argv, no_options, 1, 1);
  if (status != CLI_DONE)
    return status;
  char named[PATH_MAX + 64];
  char plugin[PATH_MAX];
  find_plugin(named, sizeof named);
  struct dstream_end end = {0};
  if (realpath(named, plugin) == NULL) {
    cli_say("%s is missing; build or install it, or name it in DSTREAM_PLUGIN",
            named);
    return CLI_FAILED;
  }
  struct config config;
  if (folder_enter(arguments.rest[0], &config, &end) != DSTREAM_OK)
    return cli_failed(&end);
  struct notify notify;
  find_manager(&notify);
  struct hub_options options = {.config = &config,
                                .plugin = plugin,
                                .journal = cli_to_journal(),
                                .on_event = on_event,
                                .user = &notify,
                                .alive_ms = notify.watchdog_ms};
  if (hub_run(&options, &end) != DSTREAM_OK)
    return cli_failed(&end);
  return CLI_DONE;
}

static int command_check(int argc, char **argv) {
  struct arguments arguments;
  help = help_check;
  int status = parse(&arguments, argc, argv, list_options, 1, 1);
  if (status != CLI_DONE)
    return status;
  char named[PATH_MAX + 64];
  char plugin[PATH_MAX];
  find_plugin(named, sizeof named);
  if (realpath(named, plugin) == NULL) /* it may be missing: that is said */
    snprintf(plugin, sizeof plugin, "%.4000s", named);
  struct check_report report;
  check_run(&report, arguments.rest[0], plugin);
  if (!arguments.json)
    check_print(&report, stdout);
  else if (check_print_json(&report, stdout) != DSTREAM_OK)
    return CLI_FAILED;
  status = cli_printed();
  return report.errors > 0 ? CLI_FAILED : status;
}

static void say_left_out(void *user, const char *path) {
  (void)user;
  cli_say("%s is not in the hub's folder, and not in the copy", path);
}

static int command_backup(int argc, char **argv) {
  struct arguments arguments;
  help = help_backup;
  int status = parse(&arguments, argc, argv, no_options, 2, 2);
  if (status != CLI_DONE)
    return status;
  const char *name = arguments.rest[1];
  char here[PATH_MAX] = "";
  char to[2 * PATH_MAX];
  if (name[0] != '/' && getcwd(here, sizeof here) == NULL) {
    cli_say("this folder's name: %s", strerror(errno));
    return CLI_FAILED;
  }
  snprintf(to, sizeof to, "%s%s%.4095s", here, here[0] != '\0' ? "/" : "",
           name);
  struct config config;
  struct dstream_end end = {0};
  if (folder_enter(arguments.rest[0], &config, &end) != DSTREAM_OK ||
      backup_make(&config, to, say_left_out, NULL, &end) != DSTREAM_OK)
    return cli_failed(&end);
  return CLI_DONE;
}

static int print_secret_line(char *text, size_t size, int status,
                             const struct dstream_end *end) {
  if (status == DSTREAM_OK)
    printf("%s\n", text);
  crypto_wipe(text, size);
  return status == DSTREAM_OK ? cli_printed() : cli_failed(end);
}

static enum identity_which which_of(const struct arguments *arguments) {
  return arguments->secondary ? IDENTITY_SECONDARY : IDENTITY_PRIMARY;
}

/* "primary" or "secondary". */
static bool parse_which(const char *text, enum identity_which *out) {
  *out = strcmp(text, "secondary") == 0 ? IDENTITY_SECONDARY : IDENTITY_PRIMARY;
  return *out == IDENTITY_SECONDARY || strcmp(text, "primary") == 0;
}

static int printed(int status, const struct dstream_end *end) {
  return status == DSTREAM_OK ? cli_printed() : cli_failed(end);
}

/* ---- device VERB, group VERB, policy VERB: rest[0] is the verb, rest[1] DIR
 * ---- */

struct verb {
  const char *name;
  int arguments;     /* the verb and DIR included */
  const char *takes; /* for a person */
  const struct option *options;
  /* Checks what parse can't; NULL: nothing.  Before DIR is looked at. */
  int (*check)(const struct arguments *arguments);
  int (*run)(const struct config *config, const struct arguments *arguments);
};

static int check_add(const struct arguments *arguments) {
  bool first = arguments->thumbprint[0] != NULL;
  if (arguments->thumbprint[1] != NULL && !first)
    return cli_usage("--secondary-thumbprint goes with --thumbprint");
  if (arguments->x509_ca && first)
    return cli_usage("--x509-ca and --thumbprint exclude each other");
  if (arguments->from_stdin && first)
    return cli_usage("--stdin and --thumbprint exclude each other");
  return CLI_DONE;
}

static int check_which(const struct arguments *arguments) {
  enum identity_which which;
  if (parse_which(arguments->rest[3], &which))
    return CLI_DONE;
  return cli_usage("rotate-key takes primary or secondary, not %s",
                   arguments->rest[3]);
}

static void warn_no_ca(const struct config *config,
                       const struct arguments *arguments) {
  if (arguments->x509_ca && config->device_ca_file[0] == '\0')
    cli_say("device_ca_file is not set in " CONFIG_FILE
            ": until it is, and the hub was started again, the device can't "
            "connect");
}

static int device_add_many(const struct config *config,
                           const struct arguments *arguments) {
  struct dstream_end end = {0};
  int status = folder_device_add_many(
      config, arguments->x509_ca ? IDENTITY_CA : IDENTITY_KEYS, stdin, stdout,
      &end);
  if (status == DSTREAM_OK)
    warn_no_ca(config, arguments);
  return printed(status, &end);
}

static int device_add(const struct config *config,
                      const struct arguments *arguments) {
  char text[CONN_STRING_MAX];
  struct dstream_end end = {0};
  if (arguments->from_stdin)
    return device_add_many(config, arguments);
  struct folder_device device = {
      .id = arguments->rest[2],
      .auth = arguments->x509_ca                 ? IDENTITY_CA
              : arguments->thumbprint[0] != NULL ? IDENTITY_THUMBPRINT
                                                 : IDENTITY_KEYS,
      .thumbprint = {arguments->thumbprint[0], arguments->thumbprint[1]}};
  int status = folder_device_add(config, &device, text, sizeof text, &end);
  if (status == DSTREAM_OK)
    warn_no_ca(config, arguments);
  return print_secret_line(text, sizeof text, status, &end);
}

static int device_remove(const struct config *config,
                         const struct arguments *arguments) {
  struct dstream_end end = {0};
  return printed(folder_device_remove(config, arguments->rest[2], &end), &end);
}

static int device_enable(const struct config *config,
                         const struct arguments *arguments) {
  struct dstream_end end = {0};
  bool enable = strcmp(arguments->rest[0], "enable") == 0;
  return printed(folder_device_enable(config, arguments->rest[2], enable, &end),
                 &end);
}

static int device_rotate(const struct config *config,
                         const struct arguments *arguments) {
  char text[CONN_STRING_MAX];
  struct dstream_end end = {0};
  enum identity_which which;
  parse_which(arguments->rest[3], &which);
  int status = folder_device_rotate(config, arguments->rest[2], which, text,
                                    sizeof text, &end);
  return print_secret_line(text, sizeof text, status, &end);
}

static int policy_rotate(const struct config *config,
                         const struct arguments *arguments) {
  char text[CONN_STRING_MAX];
  struct dstream_end end = {0};
  enum identity_which which;
  parse_which(arguments->rest[3], &which);
  int status = folder_policy_rotate(config, arguments->rest[2], which, text,
                                    sizeof text, &end);
  return print_secret_line(text, sizeof text, status, &end);
}

static int device_list(const struct config *config,
                       const struct arguments *arguments) {
  struct dstream_end end = {0};
  return printed(folder_device_list(config, arguments->json, stdout, &end),
                 &end);
}

static int group_add(const struct config *config,
                     const struct arguments *arguments) {
  struct dstream_end end = {0};
  return printed(
      folder_group_add(config, arguments->rest[2], arguments->prefix, &end),
      &end);
}

static int group_remove(const struct config *config,
                        const struct arguments *arguments) {
  struct dstream_end end = {0};
  return printed(folder_group_remove(config, arguments->rest[2], &end), &end);
}

static int group_rotate(const struct config *config,
                        const struct arguments *arguments) {
  struct dstream_end end = {0};
  enum identity_which which;
  parse_which(arguments->rest[3], &which);
  return printed(folder_group_rotate(config, arguments->rest[2], which, &end),
                 &end);
}

static int group_list(const struct config *config,
                      const struct arguments *arguments) {
  struct dstream_end end = {0};
  return printed(folder_group_list(config, arguments->json, stdout, &end),
                 &end);
}

static int group_key(const struct config *config,
                     const struct arguments *arguments) {
  char text[CRYPTO_BASE64_SIZE(IDENTITY_KEY_MAX)];
  struct dstream_end end = {0};
  int status = folder_group_key(config, arguments->rest[2], which_of(arguments),
                                text, sizeof text, &end);
  return print_secret_line(text, sizeof text, status, &end);
}

static int group_device(const struct config *config,
                        const struct arguments *arguments) {
  char text[CONN_STRING_MAX];
  struct dstream_end end = {0};
  int status =
      folder_group_device(config, arguments->rest[2], arguments->rest[3],
                          which_of(arguments), text, sizeof text, &end);
  return print_secret_line(text, sizeof text, status, &end);
}

static const struct verb device_verbs[] = {
    {"add", 3, "DIR and ID", add_options, check_add, device_add},
    {"remove", 3, "DIR and ID", no_options, NULL, device_remove},
    {"disable", 3, "DIR and ID", no_options, NULL, device_enable},
    {"enable", 3, "DIR and ID", no_options, NULL, device_enable},
    {"rotate-key", 4, "DIR, ID and primary or secondary", no_options,
     check_which, device_rotate},
    {"list", 2, "DIR only", list_options, NULL, device_list},
    {NULL, 0, NULL, NULL, NULL, NULL}};
static const struct verb policy_verbs[] = {
    {"rotate-key", 4, "DIR, NAME and primary or secondary", no_options,
     check_which, policy_rotate},
    {NULL, 0, NULL, NULL, NULL, NULL}};
static const struct verb group_verbs[] = {
    {"add", 3, "DIR and NAME", prefix_options, NULL, group_add},
    {"remove", 3, "DIR and NAME", no_options, NULL, group_remove},
    {"rotate-key", 4, "DIR, NAME and primary or secondary", no_options,
     check_which, group_rotate},
    {"list", 2, "DIR only", list_options, NULL, group_list},
    {"key", 3, "DIR and NAME", secondary_options, NULL, group_key},
    {"device", 4, "DIR, NAME and ID", secondary_options, NULL, group_device},
    {NULL, 0, NULL, NULL, NULL, NULL}};

static int run_verb(const struct verb *verb, int argc, char **argv) {
  struct arguments arguments;
  struct config config;
  struct dstream_end end = {0};
  int status = parse(&arguments, argc, argv, verb->options, 1, 8);
  if (status != CLI_DONE)
    return status;
  if (arguments.rest_count != verb->arguments - (arguments.from_stdin ? 1 : 0))
    return cli_usage("%s %s takes %s", argv[0], verb->name,
                     arguments.from_stdin ? "DIR only, with --stdin"
                                          : verb->takes);
  if (verb->check != NULL)
    status = verb->check(&arguments);
  if (status != CLI_DONE)
    return status;
  if (folder_enter(arguments.rest[1], &config, &end) != DSTREAM_OK)
    return cli_failed(&end);
  return verb->run(&config, &arguments);
}

/* The verb comes first, so that its options can be told from others'. */
static int find_verb(const struct verb *verb, int argc, char **argv) {
  char known[128] = "";
  size_t len = 0;
  if (argc < 2)
    return cli_usage("too few arguments for %s", argv[0]);
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    fputs(help, stdout);
    return -1;
  }
  for (; verb->name != NULL; verb++) {
    if (strcmp(argv[1], verb->name) == 0)
      return run_verb(verb, argc, argv);
    len += (size_t)snprintf(known + len, sizeof known - len, "%s%s",
                            len > 0 ? ", " : "", verb->name);
  }
  return cli_usage("%s can %s, not %s", argv[0], known, argv[1]);
}

static int command_device(int argc, char **argv) {
  help = help_device;
  return find_verb(device_verbs, argc, argv);
}

static int command_group(int argc, char **argv) {
  help = help_group;
  return find_verb(group_verbs, argc, argv);
}

static int command_policy(int argc, char **argv) {
  help = help_policy;
  return find_verb(policy_verbs, argc, argv);
}

static int command_string(int argc, char **argv) {
  struct arguments arguments;
  help = help_string;
  int status = parse(&arguments, argc, argv, string_options, 1, 1);
  if (status != CLI_DONE)
    return status;
  if (arguments.policy != NULL && arguments.device != NULL)
    return cli_usage("--policy and --device exclude each other");
  struct config config;
  struct dstream_end end = {0};
  if (folder_enter(arguments.rest[0], &config, &end) != DSTREAM_OK)
    return cli_failed(&end);
  char text[CONN_STRING_MAX];
  if (arguments.device != NULL)
    status =
        folder_device_string(&config, arguments.device, which_of(&arguments),
                             text, sizeof text, &end);
  else
    status = folder_policy_string(
        &config, arguments.policy == NULL ? "service" : arguments.policy,
        which_of(&arguments), text, sizeof text, &end);
  return print_secret_line(text, sizeof text, status, &end);
}

static int command_options(int argc, char **argv) {
  struct arguments arguments;
  struct dstream_end end = {0};
  help = help_config;
  int status = parse(&arguments, argc, argv, config_options, 0, 0);
  if (status != CLI_DONE)
    return status;
  if (arguments.json && arguments.markdown)
    return cli_usage("--json and --markdown exclude each other");
  status = config_list(stdout, arguments.json       ? CONFIG_LIST_JSON
                               : arguments.markdown ? CONFIG_LIST_MARKDOWN
                                                    : CONFIG_LIST_TEXT);
  if (status != DSTREAM_OK)
    end_set(&end, status, "out of memory");
  return printed(status, &end);
}

static const struct command {
  const char *name;
  int (*run)(int argc, char **argv);
} commands[] = {
    {"init", command_init},
    {"run", command_run},
    {"check", command_check},
    {"backup", command_backup},
    {"device", command_device},
    {"group", command_group},
    {"policy", command_policy},
    {"connection-string", command_string},
    {"options", command_options},
    {"config-help", command_options}, /* its first name */
};

int main(int argc, char **argv) {
  cli_set_program("dstream-hub");
  if (argc < 2)
    return cli_usage("a command is missing");
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
      strcmp(argv[1], "help") == 0) {
    fputs(help_all, stdout);
    return cli_printed();
  }
  if (strcmp(argv[1], "--version") == 0) {
    printf("dstream-hub %s\n", DSTREAM_VERSION);
    return cli_printed();
  }
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    if (strcmp(argv[1], commands[i].name) == 0) {
      int status = commands[i].run(argc - 1, argv + 1);
      return status == -1 ? cli_printed() : status;
    }
  }
  return cli_usage("unknown command %s", argv[1]);
}
