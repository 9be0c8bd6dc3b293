/* What is not about throughput: small messages, new connections, and what
 * connections cost that do nothing. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/tls.h"

#define SAMPLES 1000000
/* Before each new stream, if nothing else was asked for: they come one by one.
 */
#define FIRST_PAUSE_MS 20

static const struct bench_request echo_request = {.magic = BENCH_MAGIC,
                                                  .op = BENCH_ECHO};

static int open_one(const struct bench_options *options) {
  char byte;
  int fd = socket_connect(options->port);
  socket_send(fd, &echo_request, sizeof echo_request);
  socket_receive(fd, &byte, 1);
  if (byte != BENCH_READY)
    die("a new connection got another byte");
  return fd;
}

/* Nanoseconds of one message there and back. */
static uint64_t round_trip(int fd, uint64_t number) {
  uint8_t out[BENCH_MESSAGE];
  uint8_t in[BENCH_MESSAGE];
  memset(out, (int)(number & 0xff), sizeof out);
  memcpy(out, &number, sizeof number);
  uint64_t start = now_ns();
  socket_send(fd, out, sizeof out);
  socket_receive(fd, in, sizeof in);
  uint64_t took = now_ns() - start;
  if (memcmp(out, in, sizeof out) != 0)
    die("another message came back");
  return took;
}

int bench_echo(const struct bench_options *options) {
  uint64_t *samples = must_alloc(SAMPLES, sizeof *samples);
  size_t count = 0;
  int fd = open_one(options);
  for (unsigned i = 0; i < 20; i++)
    round_trip(fd, i);
  processes_mark();
  uint64_t end = now_ns() + (uint64_t)options->ms * 1000000;
  while (count < SAMPLES && (count == 0 || now_ns() < end)) {
    samples[count] = round_trip(fd, count);
    count++;
  }
  close(fd);
  /* Seconds of a million echoes are microseconds of one. */
  processes_print_cpu((double)count / 1e6);
  print_metric("count", (double)count);
  print_quantiles("echo", samples, count);
  free(samples);
  return 0;
}

/* What an end does behind a stream's back is not to be paid by the next. */
static void pause_ms(int ms) {
  poll(NULL, 0, ms);
}

int bench_first(const struct bench_options *options) {
  uint64_t *samples = must_alloc(SAMPLES, sizeof *samples);
  uint64_t *beside = must_alloc(SAMPLES, sizeof *beside);
  size_t count = 0;
  struct tls_yardstick *yardstick =
      options->to == 0 ? NULL
                       : tls_yardstick_new(options->ca_file, options->to);
  uint64_t end = now_ns() + (uint64_t)options->ms * 1000000;
  int pause = options->delay_ms == 0 ? FIRST_PAUSE_MS : (int)options->delay_ms;
  while (count < SAMPLES && (count == 0 || now_ns() < end)) {
    pause_ms(pause);
    uint64_t start = now_ns();
    int fd = open_one(options);
    samples[count] = now_ns() - start;
    close(fd);
    pause_ms(FIRST_PAUSE_MS);
    if (yardstick != NULL)
      beside[count] = tls_yardstick_ns(yardstick);
    count++;
  }
  print_metric("count", (double)count);
  print_quantiles("first", samples, count);
  if (yardstick != NULL) {
    print_quantiles("tls", beside, count);
    tls_yardstick_free(yardstick);
  }
  free(samples);
  free(beside);
  return 0;
}

int bench_opens(const struct bench_options *options) {
  unsigned count = 0;
  processes_mark();
  uint64_t start = now_ns();
  do {
    open_many(options, &echo_request, options->streams, NULL);
    count += options->streams;
  } while (now_ns() - start < (uint64_t)options->ms * 1000000);
  double seconds = (double)(now_ns() - start) / 1e9;
  print_metric("opens_s", count / seconds);
  processes_print_cpu(count / 1e3); /* ms of one */
  return 0;
}

static void close_all(int *fds, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    close(fds[i]);
  free(fds);
}

int bench_hold(const struct bench_options *options) {
  int *fds = must_alloc(options->streams, sizeof *fds);
  open_many(options, &echo_request, options->streams, fds);
  say_line("up\t%u", options->streams);
  pause();
  close_all(fds, options->streams);
  return 0;
}

/* The memory of `streams` connections beyond the `base` first ones. */
static int measure_memory(const struct bench_options *options,
                          const struct bench_request *request, bool go) {
  unsigned total = options->base + options->streams;
  int *fds = must_alloc(total, sizeof *fds);
  open_many(options, request, options->base, fds);
  processes_settle(options->settle_ms);
  processes_memory(false, 1);
  open_many(options, request, options->streams, fds + options->base);
  for (unsigned i = options->base; go && i < total; i++)
    socket_send(fds[i], &(char){BENCH_GO}, 1);
  processes_settle(options->settle_ms);
  processes_memory(true, options->streams);
  close_all(fds, total);
  return 0;
}

int bench_idle(const struct bench_options *options) {
  return measure_memory(options, &echo_request, false);
}

/* The target sends without end, and nobody reads here. */
int bench_stalled(const struct bench_options *options) {
  const struct bench_request request = {
      .magic = BENCH_MAGIC, .op = BENCH_BULK, .down = 1, .amount = 1000000000};
  return measure_memory(options, &request, true);
}
