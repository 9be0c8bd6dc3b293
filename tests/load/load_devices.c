#include <stdlib.h>

#include "load.h"
#include "net/loop.h"

static void say(const char *what, const dstream_device *device,
                const char *why) {
  load_say("%s %s %llu%s%s", what, dstream_device_id(device),
           (unsigned long long)loop_now_ms(), why[0] != '\0' ? " " : "", why);
}

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  enum dstream_device_state *before = user;
  const char *why = cause != NULL ? cause->text : "";
  if (state == DSTREAM_DEVICE_CONNECTING)
    say("try", device, "");
  else if (state == DSTREAM_DEVICE_READY)
    say("ready", device, "");
  else if (state == DSTREAM_DEVICE_WAITING)
    say(*before == DSTREAM_DEVICE_READY ? "lost" : "failed", device, why);
  *before = state;
}

/* Nobody asks. */
static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  (void)device;
  (void)user;
  dstream_request_reject(request, "not here");
}

static void start(dstream_loop *loop, unsigned first, unsigned count) {
  static const struct dstream_device_callbacks callbacks = {
      .on_state = on_state, .on_request = on_request};
  const struct load_device_options options = {.loop = loop, .max_streams = 4};
  enum dstream_device_state *states = calloc(count, sizeof *states);
  if (states == NULL)
    load_fail("out of memory");
  for (unsigned i = 0; i < count; i++)
    dstream_device_start(
        load_device(&options, first + i, &callbacks, &states[i]));
  /* they live as long as the process does */
}

const struct load_mode load_devices = {"devices", start, NULL};
