/* Runs scenarios of the fault simulator (sim.h).
 *
 *   test_sim [--from N] --seeds COUNT   so many seeds, from N on
 *   test_sim --seed N [--trace]         one
 *   test_sim --memory SEEDS             each allocation of so many scenarios
 *                                       fails in turn
 *   test_sim --memory-seed N --fail K [--burst B] [--trace]   one of them
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

bool sim_tracing;
static const char *program;
static char replay[256];

/* ---- what went wrong ---- */

void sim_trace(const char *format, ...) {
  if (!sim_tracing)
    return;
  va_list args;
  va_start(args, format);
  printf("%8llu ", (unsigned long long)(loop_now_ms() - 1000000));
  vprintf(format, args);
  printf("\n");
  va_end(args);
}

_Noreturn void sim_fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fflush(stdout);
  fprintf(stderr, "FAILED after %llu ms: ",
          (unsigned long long)(loop_now_ms() - 1000000));
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  abort();
}

/* An assertion, or a sanitizer that was told to abort, ends here as well. */
static void on_crash(int number) {
  fflush(stdout);
  (void)!write(STDERR_FILENO, replay, strlen(replay));
  signal(number, SIG_DFL);
  raise(number);
}

static void say_replay(const char *options, uint64_t seed, const char *more) {
  snprintf(replay, sizeof replay, "replay: %s %s %llu%s --trace\n", program,
           options, (unsigned long long)seed, more);
}

/* ---- the runs ---- */

static void run_seed(uint64_t seed, struct sim_result *result) {
  say_replay("--seed", seed, "");
  sim_memory_fail(0, 0);
  sim_world_run(seed, SIM_ANY, result);
}

static void run_seeds(uint64_t from, unsigned long count) {
  struct sim_result result = {0};
  size_t peak = 0;
  for (uint64_t seed = from; seed < from + count; seed++) {
    run_seed(seed, &result);
    if (sim_memory_peak() > peak)
      peak = sim_memory_peak();
  }
  printf("%lu seeds from %llu: %u streams asked for, %u opened, %u ends "
         "closed in the orderly way by the peer, %llu bytes, %u faults, %llu "
         "s of virtual time, at most %zu KB of memory\n",
         count, (unsigned long long)from, result.streams, result.opened,
         result.clean, (unsigned long long)result.bytes, result.faults,
         (unsigned long long)result.virtual_ms / 1000, peak / 1024);
}

static void run_memory_once(uint64_t seed, unsigned long fail,
                            unsigned long burst, struct sim_result *result) {
  char more[64];
  snprintf(more, sizeof more, " --fail %lu --burst %lu", fail, burst);
  say_replay("--memory-seed", seed, more);
  sim_memory_fail(fail, burst);
  sim_world_run(seed, SIM_MEMORY, result);
}

/* Each allocation of a scenario fails, alone and with some after it. */
static void run_memory(unsigned long seeds) {
  unsigned long runs = 0;
  struct sim_result result = {0};
  for (unsigned long seed = 1; seed <= seeds; seed++) {
    run_memory_once(seed, 0, 0, &result);
    unsigned long asked = sim_memory_asked();
    for (unsigned long fail = 1; fail <= asked; fail++) {
      run_memory_once(seed, fail, 1, &result);
      run_memory_once(seed, fail, 2 + fail % 20, &result);
      runs += 2;
    }
  }
  printf("%lu scenarios, %lu runs with a failed allocation: %u streams asked "
         "for, %u opened\n",
         seeds, runs, result.streams, result.opened);
}

static unsigned long number(int argc, char **argv, const char *name,
                            unsigned long fallback) {
  for (int i = 1; i + 1 < argc; i++)
    if (strcmp(argv[i], name) == 0)
      return strtoul(argv[i + 1], NULL, 10);
  return fallback;
}

int main(int argc, char **argv) {
  struct sim_result result = {0};
  program = argv[0];
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], "--trace") == 0)
      sim_tracing = true;
  signal(SIGABRT, on_crash);
  signal(SIGSEGV, on_crash);
  sim_memory_hook();
  unsigned long seeds = number(argc, argv, "--seeds", 0);
  unsigned long seed = number(argc, argv, "--seed", 0);
  unsigned long memory = number(argc, argv, "--memory", 0);
  unsigned long memory_seed = number(argc, argv, "--memory-seed", 0);
  if (seeds > 0) {
    run_seeds(number(argc, argv, "--from", 1), seeds);
  } else if (seed > 0) {
    run_seeds(seed, 1);
  } else if (memory > 0) {
    run_memory(memory);
  } else if (memory_seed > 0) {
    run_memory_once(memory_seed, number(argc, argv, "--fail", 0),
                    number(argc, argv, "--burst", 1), &result);
  } else {
    fprintf(stderr,
            "usage: %s --seeds COUNT | --seed N [--trace] | --memory "
            "SEEDS\n",
            argv[0]);
    return 2;
  }
  return 0;
}
