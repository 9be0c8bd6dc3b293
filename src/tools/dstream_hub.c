/* dstream-hub - a self-hosted hub for device streams. */
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/conn_string.h"
#include "core/crypto.h"
#include "hub/config.h"
#include "hub/folder.h"
#include "hub/hub.h"
#include "hub/init.h"
#include "tools/cli.h"

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
    "  device add DIR ID         add a device, print its connection string\n"
    "  device remove DIR ID      remove a device\n"
    "  device list DIR           list the devices\n"
    "  connection-string DIR     print the service's connection string\n"
    "  config-help               explain every option of hub.json\n"
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
    "  --host NAME      the name that clients reach the hub by (default: this\n"
    "                   machine's); the certificate is also good for "
    "localhost,\n"
    "                   127.0.0.1 and ::1\n"
    "  --https-port N   REST, streams and MQTT over WebSocket (443)\n"
    "  --mqtt-port N    MQTT (8883); 0 for either: any free port\n";

static const char *const help_run =
    "Usage: dstream-hub run DIR\n"
    "Runs the hub in the foreground.  One line on stdout, \"ready "
    "https=ADDR:PORT\n"
    "mqtt=ADDR:PORT\", says that it accepts connections; the log goes to "
    "stderr.\n"
    "SIGTERM and SIGINT end it, SIGHUP has it reread its certificate.\n"
    "DSTREAM_PLUGIN names another " PLUGIN_NAME " to use.\n";

static const char *const help_device =
    "Usage: dstream-hub device add DIR ID\n"
    "       dstream-hub device remove DIR ID\n"
    "       dstream-hub device list DIR [--json]\n"
    "The hub may run meanwhile.  add prints the device's connection string, "
    "which\n"
    "holds its key.\n";

static const char *const help_string =
    "Usage: dstream-hub connection-string DIR [--policy NAME | --device ID]\n"
    "Prints a connection string, which holds a key.\n"
    "\n"
    "  --policy NAME   a service's (default: the policy \"service\")\n"
    "  --device ID     a device's\n";

static const char *const help_config = "Usage: dstream-hub config-help\n"
                                       "Explains every option of hub.json.\n";

static const char *help = ""; /* of the command at hand */

/* ---- arguments ---- */

struct arguments {
  const char *host;
  const char *policy;
  const char *device;
  unsigned https_port;
  unsigned mqtt_port;
  bool json;
  char **rest; /* what is no option */
  int rest_count;
};

enum { OPT_HOST = 256, OPT_HTTPS, OPT_MQTT, OPT_POLICY, OPT_DEVICE, OPT_JSON };

static const struct option init_options[] = {
    {"host", required_argument, NULL, OPT_HOST},
    {"https-port", required_argument, NULL, OPT_HTTPS},
    {"mqtt-port", required_argument, NULL, OPT_MQTT},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const struct option string_options[] = {
    {"policy", required_argument, NULL, OPT_POLICY},
    {"device", required_argument, NULL, OPT_DEVICE},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const struct option device_options[] = {
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0}};
static const struct option no_options[] = {{"help", no_argument, NULL, 'h'},
                                           {NULL, 0, NULL, 0}};

static int take_option(struct arguments *arguments, int option) {
  switch (option) {
  case OPT_HOST:
    arguments->host = optarg;
    return CLI_DONE;
  case OPT_POLICY:
    arguments->policy = optarg;
    return CLI_DONE;
  case OPT_DEVICE:
    arguments->device = optarg;
    return CLI_DONE;
  case OPT_JSON:
    arguments->json = true;
    return CLI_DONE;
  case OPT_HTTPS:
    if (cli_number(optarg, 0, 65535, &arguments->https_port))
      return CLI_DONE;
    return cli_usage("--https-port must be a number from 0 to 65535");
  case OPT_MQTT:
    if (cli_number(optarg, 0, 65535, &arguments->mqtt_port))
      return CLI_DONE;
    return cli_usage("--mqtt-port must be a number from 0 to 65535");
  default:
    return CLI_USAGE;
  }
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
  struct hub_options options = {.config = &config, .plugin = plugin};
  if (hub_run(&options, &end) != DSTREAM_OK)
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

static int device_add(const struct config *config, const char *id) {
  char text[CONN_STRING_MAX];
  struct dstream_end end = {0};
  int status = folder_device_add(config, id, text, sizeof text, &end);
  return print_secret_line(text, sizeof text, status, &end);
}

static int command_device(int argc, char **argv) {
  struct arguments arguments;
  help = help_device;
  int status = parse(&arguments, argc, argv, device_options, 2, 3);
  if (status != CLI_DONE)
    return status;
  const char *verb = arguments.rest[0];
  bool list = strcmp(verb, "list") == 0;
  if (!list && strcmp(verb, "add") != 0 && strcmp(verb, "remove") != 0)
    return cli_usage("device can add, remove and list, not %s", verb);
  if (arguments.rest_count != (list ? 2 : 3))
    return cli_usage("%s", list ? "device list takes DIR only"
                                : "device add and remove take DIR and ID");
  if (arguments.json && !list)
    return cli_usage("--json goes with device list");
  struct config config;
  struct dstream_end end = {0};
  if (folder_enter(arguments.rest[1], &config, &end) != DSTREAM_OK)
    return cli_failed(&end);
  if (strcmp(verb, "add") == 0)
    return device_add(&config, arguments.rest[2]);
  status = list ? folder_device_list(&config, arguments.json, stdout, &end)
                : folder_device_remove(&config, arguments.rest[2], &end);
  return status == DSTREAM_OK ? cli_printed() : cli_failed(&end);
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
    status = folder_device_string(&config, arguments.device, text, sizeof text,
                                  &end);
  else
    status = folder_policy_string(
        &config, arguments.policy == NULL ? "service" : arguments.policy, text,
        sizeof text, &end);
  return print_secret_line(text, sizeof text, status, &end);
}

static int command_config_help(int argc, char **argv) {
  struct arguments arguments;
  help = help_config;
  int status = parse(&arguments, argc, argv, no_options, 0, 0);
  if (status != CLI_DONE)
    return status;
  config_help(stdout);
  return cli_printed();
}

static const struct command {
  const char *name;
  int (*run)(int argc, char **argv);
} commands[] = {
    {"init", command_init},
    {"run", command_run},
    {"device", command_device},
    {"connection-string", command_string},
    {"config-help", command_config_help},
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
