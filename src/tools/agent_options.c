#include "tools/agent_options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/end.h"

static const char *const help =
    "Usage: dstream-agent [OPTION]... --target NAME=ADDRESS...\n"
    "       dstream-agent [OPTION]... --config FILE\n"
    "Offers local addresses to device streams.  Nothing is allowed that is not "
    "named.\n"
    "One line on stdout, \"ready DEVICE\", says that streams can come; the log "
    "goes to\n"
    "stderr.\n"
    "\n"
    "What to offer:\n"
    "  --target NAME=ADDRESS      a stream for NAME is joined to HOST:PORT,\n"
    "                             [IPv6]:PORT or unix:PATH\n"
    "  --allow PATTERN            streams may ask for HOST:PORT if it matches\n"
    "                             ADDRESS/BITS:PORTS or HOST:PORTS; PORTS is\n"
    "                             80,443, 8000-8999 or *\n"
    "Both may be given several times.\n"
    "\n"
    "Limits:\n"
    "  --max-streams N            at once (256)\n"
    "  --rate N                   new ones a second (50)\n"
    "  --burst N                  new ones in one go (twice the rate)\n"
    "  --idle SECONDS             ended after so long without a byte (0: "
    "never)\n"
    "  --total SECONDS            ended when this old (0: never)\n"
    "  --connect-timeout SECONDS  to connect to a target (10)\n"
    "\n"
    "The hub:\n"
    "  --connection-string-file F device's connection string; - for stdin\n"
    "  --connection-string S      the same; other users can see it for a "
    "moment\n"
    "  --ca-file F                roots to trust instead of the system's\n"
    "  --cert-file F, --key-file F\n"
    "                             device's certificate and its key\n"
    "  --http-proxy URL           http://[USER:PASSWORD@]HOST:PORT\n"
    "  --mqtt-over-websocket      control connection on the HTTPS port\n"
    "DSTREAM_CONNECTION_STRING and DSTREAM_CA_FILE stand in for the options.\n"
    "\n"
    "  --config FILE              JSON; reread on SIGHUP\n"
    "  --config-help              explain every option of that file\n"
    "  --check                    say whether all of it is right, and end\n"
    "  -v, --verbose              log more\n"
    "  --quiet                    log warnings and errors only\n"
    "  --help, --version\n"
    "\n"
    "SIGTERM and SIGINT end it: streams are closed first; a second one, at "
    "once.\n"
    "Exit status: 0 ended by a signal, 1 failed, 2 wrong usage or "
    "configuration.\n";

enum {
  OPT_STRING = 1,
  OPT_STRING_FILE,
  OPT_TARGET,
  OPT_ALLOW,
  OPT_CONFIG,
  OPT_CONFIG_HELP,
  OPT_CHECK,
  OPT_QUIET,
  OPT_VERSION,
  OPT_TABLE = 256 /* and on: of agent_config.h */
};

static const struct option own_options[] = {
    {"connection-string", required_argument, NULL, OPT_STRING},
    {"connection-string-file", required_argument, NULL, OPT_STRING_FILE},
    {"target", required_argument, NULL, OPT_TARGET},
    {"allow", required_argument, NULL, OPT_ALLOW},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"config-help", no_argument, NULL, OPT_CONFIG_HELP},
    {"check", no_argument, NULL, OPT_CHECK},
    {"verbose", no_argument, NULL, 'v'},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
};
#define OWN_COUNT (sizeof own_options / sizeof own_options[0])

static struct option *make_table(void) {
  struct option *table =
      calloc(OWN_COUNT + agent_config_count() + 1, sizeof *table);
  if (table == NULL)
    return NULL;
  memcpy(table, own_options, sizeof own_options);
  size_t count = OWN_COUNT;
  for (size_t i = 0; i < agent_config_count(); i++) {
    bool takes_value = false;
    const char *flag = agent_config_flag(i, &takes_value);
    if (flag != NULL)
      table[count++] =
          (struct option){flag, takes_value ? required_argument : no_argument,
                          NULL, OPT_TABLE + (int)i};
  }
  return table;
}

/* The argument is copied: SIGHUP needs it again, and a proxy's URL may hold a
 * password. */
static int take_given(struct agent_options *options, size_t i) {
  char *copy = strdup(optarg != NULL ? optarg : "");
  if (copy == NULL)
    return cli_failed(&(struct dstream_end){.status = DSTREAM_ENOMEM});
  cli_forget(options->given[i]);
  options->given[i] = copy;
  if (optarg != NULL && strchr(optarg, '@') != NULL)
    cli_hide(optarg);
  return CLI_DONE;
}

static int take_option(struct agent_options *options, int option) {
  switch (option) {
  case OPT_STRING:
    options->source.connection_string = optarg;
    options->secret = optarg;
    return CLI_DONE;
  case OPT_STRING_FILE:
    options->source.connection_string_file = optarg;
    return CLI_DONE;
  case OPT_TARGET:
    options->targets[options->target_count++] = optarg;
    return CLI_DONE;
  case OPT_ALLOW:
    options->allow[options->allow_count++] = optarg;
    return CLI_DONE;
  case OPT_CONFIG:
    if (options->config_file != NULL)
      return cli_usage("--config is there twice");
    options->config_file = optarg;
    return CLI_DONE;
  case OPT_CHECK:
    options->check = true;
    return CLI_DONE;
  case 'v':
    options->log_level = DSTREAM_LOG_DEBUG;
    return CLI_DONE;
  case OPT_QUIET:
    options->log_level = DSTREAM_LOG_WARNING;
    return CLI_DONE;
  default:
    return take_given(options, (size_t)(option - OPT_TABLE));
  }
}

static bool take_question(int option) {
  if (option == 'h')
    fputs(help, stdout);
  else if (option == OPT_CONFIG_HELP)
    agent_config_help(stdout);
  else if (option == OPT_VERSION)
    printf("dstream-agent %s\n", DSTREAM_VERSION);
  else
    return false;
  return true;
}

/* Never the value, which may be a secret: "--name=value". */
static int unknown_option(const char *argument) {
  int len = (int)strcspn(argument, "=");
  return cli_usage("unknown option %.*s", len > 100 ? 100 : len, argument);
}

static int parse(struct agent_options *options, int argc, char **argv,
                 const struct option *table) {
  opterr = 0;
  optind = 1;
  int option;
  while ((option = getopt_long(argc, argv, ":hv", table, NULL)) != -1) {
    if (option == ':')
      return cli_usage("%s needs a value", argv[optind - 1]);
    if (option == '?')
      return unknown_option(argv[optind - 1]);
    if (take_question(option))
      return -1;
    int status = take_option(options, option);
    if (status != CLI_DONE)
      return status;
  }
  if (optind < argc)
    return cli_usage("\"%.100s\" is no option; a target is --target "
                     "NAME=ADDRESS",
                     argv[optind]);
  return CLI_DONE;
}

int agent_options_parse(struct agent_options *options, int argc, char **argv) {
  memset(options, 0, sizeof *options);
  size_t count = (size_t)argc + 1;
  options->targets = calloc(count, sizeof *options->targets);
  options->allow = calloc(count, sizeof *options->allow);
  options->given = calloc(agent_config_count(), sizeof *options->given);
  struct option *table = make_table();
  int status = CLI_FAILED;
  if (options->targets == NULL || options->allow == NULL ||
      options->given == NULL || table == NULL)
    cli_say("%s", dstream_status_text(DSTREAM_ENOMEM));
  else
    status = parse(options, argc, argv, table);
  free(table);
  return status;
}

void agent_options_clear(struct agent_options *options) {
  for (size_t i = 0; options->given != NULL && i < agent_config_count(); i++)
    cli_forget(options->given[i]);
  free(options->given);
  free(options->targets);
  free(options->allow);
  memset(options, 0, sizeof *options);
}

/* ---- what it adds to the configuration ---- */

static int add_target(struct agent_config *config, const char *text,
                      struct dstream_end *error) {
  const char *equals = strchr(text, '=');
  if (equals == NULL) {
    end_set(error, DSTREAM_EFORMAT,
            "--target must be NAME=ADDRESS, not \"%.100s\"", text);
    return DSTREAM_EFORMAT;
  }
  char *name = strndup(text, (size_t)(equals - text));
  if (name == NULL) {
    end_set(error, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  int status = agent_config_add_target(config, name, equals + 1, error);
  free(name);
  return status;
}

static int add_all(const struct agent_options *options,
                   struct agent_config *config, struct dstream_end *error) {
  int status = DSTREAM_OK;
  for (size_t i = 0; status == DSTREAM_OK && i < agent_config_count(); i++) {
    if (options->given[i] != NULL)
      status = agent_config_set(config, i, options->given[i], error);
  }
  for (size_t i = 0; status == DSTREAM_OK && i < options->target_count; i++)
    status = add_target(config, options->targets[i], error);
  for (size_t i = 0; status == DSTREAM_OK && i < options->allow_count; i++)
    status = agent_config_add_allow(config, options->allow[i], error);
  if (status == DSTREAM_OK && options->log_level != 0)
    config->log_level = options->log_level;
  return status;
}

int agent_options_config(const struct agent_options *options,
                         struct agent_config *config,
                         struct dstream_end *error) {
  int status = DSTREAM_OK;
  agent_config_defaults(config);
  if (options->config_file != NULL)
    status = agent_config_load(config, options->config_file, error);
  if (status == DSTREAM_OK)
    status = add_all(options, config, error);
  if (status != DSTREAM_OK)
    agent_config_clear(config);
  return status;
}
