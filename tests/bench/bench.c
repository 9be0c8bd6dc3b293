#include "bench/bench.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void die(const char *format, ...) {
  int error = errno;
  va_list arguments;
  fprintf(stderr, "dstream_bench: ");
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fprintf(stderr, error == 0 ? "\n" : ": %s\n", strerror(error));
  exit(1);
}

void *must_alloc(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (memory == NULL)
    die("no memory");
  return memory;
}

void print_metric(const char *name, double value) {
  printf("%s\t%.6g\n", name, value);
}

static int compare(const void *a, const void *b) {
  const uint64_t *left = a;
  const uint64_t *right = b;
  return (*left > *right) - (*left < *right);
}

void print_quantiles(const char *name, uint64_t *ns, size_t count) {
  static const struct {
    const char *name;
    size_t per_mille;
  } quantiles[] = {{"p50", 500}, {"p99", 990}, {"p999", 999}};
  char metric[64];
  if (count == 0)
    die("nothing was measured");
  qsort(ns, count, sizeof *ns, compare);
  for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
    size_t at = count * quantiles[i].per_mille / 1000;
    snprintf(metric, sizeof metric, "%s_%s_us", name, quantiles[i].name);
    print_metric(metric, (double)ns[at < count ? at : count - 1] / 1e3);
  }
}

void say_line(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

/* ---- arguments ---- */

static const char *const help =
    "usage: dstream_bench COMMAND [OPTION]...\n"
    "commands: ports N, target, relay, bulk, echo, first, opens, hold, idle,\n"
    "          stalled, records, frames\n"
    "options:  --port P --to P --streams N --base N --width N --ms N\n"
    "          --delay-ms N --settle-ms N --up --down --process LABEL=PID,...\n"
    "          --ca-file F --device ID --device-file F\n";

static const struct {
  const char *name;
  bench_command *run;
} commands[] = {{"target", bench_target},   {"relay", bench_relay},
                {"bulk", bench_bulk},       {"echo", bench_echo},
                {"first", bench_first},     {"opens", bench_opens},
                {"hold", bench_hold},       {"idle", bench_idle},
                {"stalled", bench_stalled}, {"records", bench_records},
                {"frames", bench_frames}};

static const struct option long_options[] = {
    {"port", required_argument, NULL, 'p'},
    {"to", required_argument, NULL, 't'},
    {"streams", required_argument, NULL, 'n'},
    {"base", required_argument, NULL, 'b'},
    {"width", required_argument, NULL, 'w'},
    {"ms", required_argument, NULL, 'm'},
    {"delay-ms", required_argument, NULL, 'd'},
    {"settle-ms", required_argument, NULL, 's'},
    {"up", no_argument, NULL, 'U'},
    {"down", no_argument, NULL, 'D'},
    {"process", required_argument, NULL, 'P'},
    {"ca-file", required_argument, NULL, 'C'},
    {"device", required_argument, NULL, 'i'},
    {"device-file", required_argument, NULL, 'f'},
    {NULL, 0, NULL, 0}};

static unsigned number(const char *text, unsigned max) {
  char *end;
  unsigned long value = strtoul(text, &end, 10);
  errno = 0;
  if (end == text || *end != '\0' || value > max)
    die("not a number up to %u: %s", max, text);
  return (unsigned)value;
}

static bool set_number(struct bench_options *o, int option, const char *text) {
  const struct {
    int option;
    unsigned *to;
  } numbers[] = {{'n', &o->streams}, {'b', &o->base},     {'w', &o->width},
                 {'m', &o->ms},      {'d', &o->delay_ms}, {'s', &o->settle_ms}};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    if (numbers[i].option == option) {
      *numbers[i].to = number(text, 1000000);
      return true;
    }
  }
  return false;
}

static bool set_option(struct bench_options *o, int option, const char *text) {
  switch (option) {
  case 'p':
    o->port = (uint16_t)number(text, 65535);
    return true;
  case 't':
    o->to = (uint16_t)number(text, 65535);
    return true;
  case 'U':
    o->up = true;
    return true;
  case 'D':
    o->down = true;
    return true;
  case 'P':
    processes_add(text);
    return true;
  case 'C':
    o->ca_file = text;
    return true;
  case 'i':
    o->device = text;
    return true;
  case 'f':
    o->device_file = text;
    return true;
  default:
    return set_number(o, option, text);
  }
}

static int usage(void) {
  fputs(help, stderr);
  return 2;
}

int main(int argc, char **argv) {
  struct bench_options options = {
      .streams = 1, .width = 16, .ms = 1000, .settle_ms = 1000};
  int option;
  /* It goes with whoever started it. */
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  signal(SIGPIPE, SIG_IGN);
  if (argc == 3 && strcmp(argv[1], "ports") == 0)
    return bench_ports(number(argv[2], 1000));
  while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
    if (!set_option(&options, option, optarg))
      return usage();
  if (optind != argc - 1)
    return usage();
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
    if (strcmp(commands[i].name, argv[optind]) == 0)
      return commands[i].run(&options);
  return usage();
}
