#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <dstream/service.h>

#include "core/conn_string.h"
#include "load.h"
#include "net/loop.h"

#define STREAMS_MAX 65536
#define ECHOES_MAX  1000000
#define AT_ONCE     64 /* handshakes */
#define ECHO_BYTES  64
#define PREFIX_SIZE 64

/* A stream, the service's side of it. */
struct stream {
  dstream_stream *stream; /* NULL: closed, or never opened */
  bool open;
};

static struct {
  dstream_loop *loop;
  dstream_service *service;
  unsigned devices;
  unsigned devices_ready;
  char prefix[PREFIX_SIZE]; /* of their ids */

  struct stream *streams;
  unsigned asked; /* of them so far */
  unsigned wanted;
  unsigned opening;
  unsigned opened; /* by the command at hand */
  unsigned failed;
  unsigned told;         /* failures on stderr */
  unsigned device_sides; /* that are there */
  uint64_t begin_us;
  bool closing;
  unsigned to_close;

  unsigned echoes;
  unsigned echoes_left;
  size_t echo_got;
  uint64_t echo_us;
  uint32_t *times_us;
} world;

static uint64_t now_us(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

static double seconds(void) {
  return (double)(now_us() - world.begin_us) / 1e6;
}

static void tell_failure(const char *side, const struct dstream_end *end) {
  world.failed++;
  if (world.told++ < 5)
    fprintf(stderr, "%s: %s (%d)\n", side, end->text, end->status);
}

/* ---- the devices: they echo ---- */

static void device_on_data(dstream_stream *stream, void *user, const void *data,
                           size_t len) {
  (void)user;
  if (dstream_stream_write(stream, data, len) != (long)len)
    load_fail("a device can't echo %zu bytes", len);
  dstream_stream_consume(stream, len);
}

static void check_closed(void);

static void device_on_close(dstream_stream *stream, void *user,
                            const struct dstream_end *end) {
  (void)stream;
  (void)user;
  world.device_sides--;
  if (end->ws_code != 1000)
    tell_failure("device", end);
  check_closed();
}

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  static const struct dstream_stream_callbacks callbacks = {
      .on_data = device_on_data, .on_close = device_on_close};
  (void)device;
  (void)user;
  if (dstream_request_accept(request, NULL, &callbacks, NULL, NULL) ==
      DSTREAM_OK)
    world.device_sides++;
}

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  (void)user;
  if (cause != NULL)
    fprintf(stderr, "device %s: %s\n", dstream_device_id(device), cause->text);
  if (state == DSTREAM_DEVICE_READY && ++world.devices_ready == world.devices)
    load_say("ready");
}

/* ---- the service ---- */

static void open_more(void);

static void finish_opening(void) {
  if (world.opening > 0 || world.asked < world.wanted)
    return;
  load_say("opened %u failed %u seconds %.2f", world.opened, world.failed,
           seconds());
}

static void on_open(dstream_stream *stream, void *user) {
  (void)stream;
  struct stream *mine = user;
  mine->open = true;
  world.opening--;
  world.opened++;
  open_more();
  finish_opening();
}

static void send_echo(dstream_stream *stream) {
  char bytes[ECHO_BYTES];
  memset(bytes, 'e', sizeof bytes);
  world.echo_got = 0;
  world.echo_us = now_us();
  if (dstream_stream_write(stream, bytes, sizeof bytes) != (long)sizeof bytes)
    load_fail("the service can't send %zu bytes", sizeof bytes);
}

static int by_time(const void *a, const void *b) {
  uint32_t left = *(const uint32_t *)a;
  uint32_t right = *(const uint32_t *)b;
  return (left > right) - (left < right);
}

static void finish_echoes(void) {
  qsort(world.times_us, world.echoes, sizeof *world.times_us, by_time);
  load_say("echoed %u p50_us %u p99_us %u", world.echoes,
           world.times_us[world.echoes / 2],
           world.times_us[(uint64_t)world.echoes * 99 / 100]);
  free(world.times_us);
  world.times_us = NULL;
}

static void on_data(dstream_stream *stream, void *user, const void *data,
                    size_t len) {
  (void)user;
  (void)data;
  dstream_stream_consume(stream, len);
  world.echo_got += len;
  if (world.echo_got < ECHO_BYTES || world.times_us == NULL)
    return;
  world.times_us[world.echoes - world.echoes_left] =
      (uint32_t)(now_us() - world.echo_us);
  if (--world.echoes_left > 0)
    send_echo(stream);
  else
    finish_echoes();
}

static void on_close(dstream_stream *stream, void *user,
                     const struct dstream_end *end) {
  (void)stream;
  struct stream *mine = user;
  mine->stream = NULL;
  if (!world.closing || end->status != DSTREAM_OK)
    tell_failure("service", end);
  if (!mine->open) {
    world.opening--;
    open_more();
    finish_opening();
  }
  if (world.to_close > 0)
    world.to_close--;
  check_closed();
}

static void open_one(void) {
  static const struct dstream_stream_callbacks callbacks = {
      .on_open = on_open, .on_data = on_data, .on_close = on_close};
  char device[PREFIX_SIZE + 16];
  struct stream *mine = &world.streams[world.asked];
  snprintf(device, sizeof device, "%s-%u", world.prefix,
           world.asked % world.devices);
  world.asked++;
  int status = dstream_service_open_stream(world.service, device, "load", NULL,
                                           &callbacks, mine, &mine->stream);
  if (status != DSTREAM_OK)
    load_fail("a stream can't be opened: %s", dstream_status_text(status));
  world.opening++;
}

static void open_more(void) {
  while (world.opening < AT_ONCE && world.asked < world.wanted)
    open_one();
}

/* ---- commands ---- */

static void command_open(unsigned count) {
  if (count == 0 || count > STREAMS_MAX - world.asked)
    load_fail("not so many streams");
  world.begin_us = now_us();
  world.opened = 0;
  world.failed = 0;
  world.wanted += count;
  open_more();
}

static void command_echo(unsigned count) {
  if (count == 0 || count > ECHOES_MAX || world.asked == 0 ||
      world.streams[0].stream == NULL)
    load_fail("no stream to echo on");
  world.times_us = calloc(count, sizeof *world.times_us);
  if (world.times_us == NULL)
    load_fail("out of memory");
  world.echoes = count;
  world.echoes_left = count;
  send_echo(world.streams[0].stream);
}

static void check_closed(void) {
  if (!world.closing || world.to_close > 0 || world.device_sides > 0)
    return;
  world.closing = false;
  load_say("closed %u failed %u seconds %.2f", world.opened, world.failed,
           seconds());
  world.asked = 0;
  world.wanted = 0;
  memset(world.streams, 0, STREAMS_MAX * sizeof *world.streams);
}

static void command_close(void) {
  world.begin_us = now_us();
  world.closing = true;
  world.failed = 0;
  world.opened = 0;
  for (unsigned i = 0; i < world.asked; i++) {
    if (world.streams[i].stream == NULL)
      continue;
    world.to_close++;
    world.opened++;
    dstream_stream_close(world.streams[i].stream);
  }
  check_closed();
}

static void command(char *line) {
  char word[16] = "";
  unsigned count = 0;
  int words = sscanf(line, "%15s %u", word, &count);
  if (words == 2 && strcmp(word, "open") == 0)
    command_open(count);
  else if (words == 2 && strcmp(word, "echo") == 0)
    command_echo(count);
  else if (words == 1 && strcmp(word, "close") == 0)
    command_close();
  else
    load_fail("no such command: %s", line);
}

/* ---- start ---- */

static void remember_prefix(void) {
  struct conn_string model;
  if (conn_string_parse(&model, load_environment("DSTREAM_LOAD_DEVICE"),
                        CONN_STRING_DEVICE, NULL) != DSTREAM_OK)
    load_fail("DSTREAM_LOAD_DEVICE is no connection string");
  snprintf(world.prefix, sizeof world.prefix, "%.*s",
           (int)strcspn(model.device_id, "-"), model.device_id);
  conn_string_clear(&model);
}

static void start(dstream_loop *loop, unsigned first, unsigned count) {
  static const struct dstream_device_callbacks callbacks = {
      .on_state = on_state, .on_request = on_request};
  const struct load_device_options device = {.loop = loop,
                                             .max_streams = STREAMS_MAX};
  const struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = load_environment("DSTREAM_CONNECTION_STRING"),
      .loop = loop,
      .max_streams = STREAMS_MAX,
      .tls = {.size = sizeof options.tls,
              .ca_file = load_environment("DSTREAM_CA_FILE")}};
  struct dstream_end end;
  (void)first;
  world.loop = loop;
  world.devices = count;
  world.streams = calloc(STREAMS_MAX, sizeof *world.streams);
  if (world.streams == NULL || count == 0)
    load_fail("no devices, or no memory");
  remember_prefix();
  if (dstream_service_new(&world.service, &options, &end) != DSTREAM_OK)
    load_fail("%s", end.text);
  for (unsigned i = 0; i < count; i++)
    dstream_device_start(load_device(&device, i, &callbacks, NULL));
}

const struct load_mode load_streams = {"streams", start, command};
