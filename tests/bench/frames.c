/* A device that sends each message of 64 bytes as a WebSocket frame and a TLS
 * record of its own, as the official device client does, and a service that
 * takes them: what one costs the hub. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <dstream/dstream.h>

#include "bench/bench.h"

#define WAIT_MS  30000
#define WARM     20000 /* frames */
#define STRING   1024
#define COUNT_MS 100

static struct {
  dstream_loop *loop;
  dstream_stream *sender;
  bool ready;
  bool ended;
  uint64_t received; /* bytes */
  char why[256];
} run;

static void send_frames(dstream_stream *stream, void *user) {
  static const char message[BENCH_MESSAGE] = "a message as a small device has";
  (void)user;
  /* Each call makes one frame.  Its end is that there is no room. */
  while (dstream_stream_write(stream, message, sizeof message) ==
         (long)sizeof message)
    continue;
}

static void on_sender_open(dstream_stream *stream, void *user) {
  send_frames(stream, user);
}

static void on_frames(dstream_stream *stream, void *user, const void *data,
                      size_t len) {
  (void)user, (void)data;
  run.received += len;
  dstream_stream_consume(stream, len);
}

static void on_end(dstream_stream *stream, void *user,
                   const struct dstream_end *end) {
  (void)stream, (void)user;
  run.ended = true;
  snprintf(run.why, sizeof run.why, "%s", end->text);
}

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  static const struct dstream_stream_callbacks callbacks = {
      on_sender_open, NULL, send_frames, NULL, on_end};
  (void)device, (void)user;
  dstream_request_accept(request, NULL, &callbacks, NULL, &run.sender);
}

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  (void)device, (void)user, (void)cause;
  run.ready = state == DSTREAM_DEVICE_READY;
}

/* Runs the loop until there were so many bytes, or the time is over. */
static void step_until(uint64_t bytes, uint64_t ms) {
  uint64_t end = now_ns() + ms * 1000000;
  while (run.received < bytes && now_ns() < end && !run.ended)
    dstream_loop_step(run.loop, COUNT_MS);
}

static dstream_device *start_device(const struct bench_options *options) {
  const struct dstream_device_callbacks callbacks = {on_state, on_request,
                                                     NULL};
  char string[STRING];
  struct dstream_end error;
  dstream_device *device;
  FILE *file = fopen(options->device_file, "re");
  if (file == NULL || fgets(string, sizeof string, file) == NULL)
    die("can't read %s", options->device_file);
  fclose(file);
  string[strcspn(string, "\n")] = '\0';
  const struct dstream_device_options o = {
      .size = sizeof o,
      .connection_string = string,
      .loop = run.loop,
      .tls = {sizeof o.tls, options->ca_file}};
  if (dstream_device_new(&device, &o, &callbacks, NULL, &error) != 0)
    die("%s", error.text);
  dstream_device_start(device);
  uint64_t end = now_ns() + (uint64_t)WAIT_MS * 1000000;
  while (!run.ready && now_ns() < end)
    dstream_loop_step(run.loop, COUNT_MS);
  if (!run.ready)
    die("the device does not get ready");
  return device;
}

static void open_stream(const struct bench_options *options) {
  static const struct dstream_stream_callbacks callbacks = {NULL, on_frames,
                                                            NULL, NULL, on_end};
  dstream_service *service;
  struct dstream_end error;
  const struct dstream_service_options o = {
      .size = sizeof o,
      .connection_string = getenv("DSTREAM_CONNECTION_STRING"),
      .loop = run.loop,
      .tls = {sizeof o.tls, options->ca_file}};
  if (dstream_service_new(&service, &o, &error) != 0)
    die("%s", error.text);
  if (dstream_service_open_stream(service, options->device, "frames", NULL,
                                  &callbacks, NULL, NULL) != 0)
    die("can't ask for a stream");
}

int bench_frames(const struct bench_options *options) {
  if (options->device == NULL || options->device_file == NULL)
    die("frames needs --device and --device-file");
  if (dstream_loop_new(&run.loop, NULL) != 0)
    die("no loop");
  start_device(options);
  open_stream(options);
  step_until((uint64_t)WARM * BENCH_MESSAGE, WAIT_MS);
  processes_mark();
  uint64_t before = run.received;
  uint64_t start = now_ns();
  step_until(UINT64_MAX, options->ms);
  double frames = (double)(run.received - before) / BENCH_MESSAGE;
  if (run.ended || frames < 1)
    die("the stream ended: %s", run.why);
  print_metric("frames_s", frames * 1e9 / (double)(now_ns() - start));
  processes_print_cpu(frames / 1e9); /* ns of one */
  /* The rest goes with the process. */
  fflush(stdout);
  _exit(0);
}
