/* dstream - the operator's tool: streams to devices, from a command line. */
#include <stdio.h>
#include <string.h>

#include "tools/activity_log.h"
#include "tools/connect.h"
#include "tools/devices.h"
#include "tools/dstream_common.h"
#include "tools/forward.h"
#include "tools/identities.h"
#include "tools/show.h"
#include "tools/streams.h"

static const struct command {
  const char *name;
  const char *program; /* what its lines on stderr begin with */
  const char *summary;
  int (*run)(struct common_options *common, int argc, char **argv);
} commands[] = {
    {"connect", "dstream connect",
     "DEVICE NAME          a stream on stdin and stdout", connect_run},
    {"forward", "dstream forward",
     "DEVICE NAME LISTEN   listen here, a stream for each connection",
     forward_run},
    {"device", "dstream device",
     "add ID                a device that the hub shall know\n"
     "  device remove ID             ... and know no more\n"
     "  device show ID               what it knows about one\n"
     "  device list                  all that it knows",
     identities_run},
    {"show", "dstream show",
     "                        what the hub is, and how it is", show_run},
    {"devices", "dstream devices",
     "                     the devices that are connected", devices_run},
    {"streams", "dstream streams",
     "                     the streams that there are; watches, ends them",
     streams_run},
    {"log", "dstream log",
     "                         who reached which device when, and how it went",
     activity_log_run},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static const char help_begin[] =
    "Usage: dstream [OPTION]... COMMAND ...\n"
    "Streams to devices behind firewalls, by their id.\n"
    "\n";
static const char help_end[] =
    "\n"
    "dstream COMMAND --help says more.\n"
    "  --help, --version\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.\n";

static void print_help(void) {
  fputs(help_begin, stdout);
  for (size_t i = 0; i < COMMAND_COUNT; i++)
    printf("  %s %s\n", commands[i].name, commands[i].summary);
  fputs(help_end, stdout);
}

/* What stands before the command's name. */
enum { OPT_VERSION = 256 };

static const struct option own_options[] = {
    {"version", no_argument, NULL, OPT_VERSION}, {NULL, 0, NULL, 0}};

static int take(void *user, int option, char *value) {
  bool *version = user;
  (void)value;
  if (option == OPT_VERSION)
    *version = true;
  return CLI_DONE;
}

static int run_command(struct common_options *common, int argc, char **argv) {
  if (strcmp(argv[0], "help") == 0) {
    print_help();
    return COMMON_HELPED;
  }
  for (size_t i = 0; i < COMMAND_COUNT; i++) {
    if (strcmp(argv[0], commands[i].name) == 0) {
      cli_set_program(commands[i].program);
      return commands[i].run(common, argc, argv);
    }
  }
  return cli_usage("there is no command \"%s\"", argv[0]);
}

int main(int argc, char **argv) {
  common_sane_fds();
  cli_set_program("dstream");
  struct common_options common = {0};
  bool version = false;
  const struct common_syntax syntax = {.print_help = print_help,
                                       .own = own_options,
                                       .take = take,
                                       .user = &version,
                                       .stop = true};
  int next = argc;
  int status = common_parse(&common, &syntax, argc, argv, &next);
  if (status == CLI_DONE && version) {
    printf("dstream %s\n", DSTREAM_VERSION);
    return cli_printed();
  }
  if (status == CLI_DONE)
    status = next < argc ? run_command(&common, argc - next, argv + next)
                         : cli_usage("a command is missing");
  return status == COMMON_HELPED ? cli_printed() : status;
}
