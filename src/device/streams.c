#include <assert.h>
#include <stdlib.h>

#include "device/device.h"
#include "net/stream.h"

static void on_open(dstream_stream *stream, void *user) {
  struct device_stream *record = stream_owner_data(stream);
  dstream_device *device = record->device;
  record->opened = true;
  device_core_stream_opened(&device->core);
  if (record->on_open != NULL) {
    device->in_callback++;
    record->on_open(stream, user);
    device->in_callback--;
  }
  device_run(device);
}

static void on_gone(void *owner, dstream_stream *stream) {
  dstream_device *device = owner;
  struct device_stream *record = stream_owner_data(stream);
  if (record == NULL)
    return;
  if (record->prev != NULL)
    record->prev->next = record->next;
  else
    device->streams = record->next;
  if (record->next != NULL)
    record->next->prev = record->prev;
  bool opened = record->opened;
  free(record);
  device_core_stream_gone(&device->core, opened, loop_now_ms());
  device_run(device);
}

int device_stream_new(dstream_device *device, const char *name,
                      const struct dstream_stream_options *options,
                      const struct dstream_stream_callbacks *callbacks,
                      void *user, dstream_stream **out) {
  struct device_stream *record = calloc(1, sizeof *record);
  if (record == NULL)
    return DSTREAM_ENOMEM;
  struct dstream_stream_callbacks mine = {NULL, NULL, NULL, NULL, NULL};
  if (callbacks != NULL)
    mine = *callbacks;
  record->on_open = mine.on_open;
  mine.on_open = on_open;
  int status = stream_new(&record->stream, device->loop, name, options, &mine,
                          user, on_gone, device);
  if (status != DSTREAM_OK) {
    free(record);
    return status;
  }
  record->device = device;
  record->next = device->streams;
  if (record->next != NULL)
    record->next->prev = record;
  device->streams = record;
  stream_set_owner_data(record->stream, record);
  device_core_stream_added(&device->core);
  *out = record->stream;
  return DSTREAM_OK;
}

/* A close does not call back, so the list stays as it is. */
void device_streams_close(dstream_device *device) {
  for (struct device_stream *s = device->streams; s != NULL; s = s->next)
    stream_close_code(s->stream, 1001, "the device stops");
}

void device_streams_abort(dstream_device *device) {
  while (device->streams != NULL)
    stream_destroy(device->streams->stream);
}
