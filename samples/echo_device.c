/* echo_device - accepts every stream and sends back what comes in.  Reads
 * DSTREAM_CONNECTION_STRING and DSTREAM_CA_FILE from the environment. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dstream/dstream.h>

#define WINDOW 65536 /* most bytes of a stream that wait to be sent back */

struct echo {
  unsigned char bytes[WINDOW]; /* what waits */
  size_t len;
  bool eof;
};

static void on_log(void *user, enum dstream_log_level level, const char *text) {
  (void)user, (void)level;
  fprintf(stderr, "%s\n", text);
}

/* Sends what waits.  What was sent is consumed: that lets the peer send more,
 * and never more than there is room for. */
static void on_writable(dstream_stream *stream, void *user) {
  struct echo *e = user;
  long n = dstream_stream_write(stream, e->bytes, e->len);
  if (n > 0) {
    e->len -= (size_t)n;
    memmove(e->bytes, e->bytes + n, e->len);
    dstream_stream_consume(stream, (size_t)n);
  }
  if (e->eof && e->len == 0)
    dstream_stream_shutdown_write(stream);
}

static void on_data(dstream_stream *stream, void *user, const void *data,
                    size_t len) {
  struct echo *e = user;
  memcpy(e->bytes + e->len, data, len); /* fits: the window is as large */
  e->len += len;
  on_writable(stream, e);
}

static void on_eof(dstream_stream *stream, void *user) {
  ((struct echo *)user)->eof = true;
  on_writable(stream, user);
}

static void on_close(dstream_stream *stream, void *user,
                     const struct dstream_end *end) {
  on_log(stream, DSTREAM_LOG_INFO, end->text);
  free(user);
}

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  (void)device, (void)user;
  static const struct dstream_stream_callbacks callbacks = {
      NULL, on_data, on_writable, on_eof, on_close};
  struct dstream_stream_options o = {.size = sizeof o, .window = WINDOW};
  struct echo *e = calloc(1, sizeof *e);
  if (e != NULL && dstream_request_accept(request, &o, &callbacks, e, NULL))
    free(e);
}

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  (void)user, (void)cause; /* which the log has */
  if (state == DSTREAM_DEVICE_READY)
    printf("ready %s\n", dstream_device_id(device)), fflush(stdout);
}

int main(void) {
  struct dstream_device_callbacks callbacks = {on_state, on_request, NULL};
  struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = getenv("DSTREAM_CONNECTION_STRING"),
      .tls = {sizeof options.tls, getenv("DSTREAM_CA_FILE")},
      .log = on_log};
  struct dstream_end error;
  dstream_device *device;
  sigset_t signals; /* everything happens on the device's own thread */
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  if (dstream_device_new(&device, &options, &callbacks, NULL, &error) != 0) {
    fprintf(stderr, "echo_device: %s\n", error.text);
    return 1;
  }
  dstream_device_start(device);
  sigwait(&signals, &(int){0});
  dstream_device_free(device); /* ends the streams, disconnects */
  return 0;
}
