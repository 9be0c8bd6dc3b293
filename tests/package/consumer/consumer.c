/* Uses a function of each part of the installed library. */
#include <stdio.h>
#include <string.h>

#include <dstream/dstream.h>

int main(void) {
  struct dstream_device_options options = {.size = sizeof(options)};
  struct dstream_device_callbacks callbacks = {NULL, NULL, NULL};
  struct dstream_end error;
  dstream_device *device = NULL;
  dstream_loop *loop = NULL;

  options.connection_string = "not a connection string";
  if (dstream_device_new(&device, &options, &callbacks, NULL, &error) !=
      DSTREAM_ECONNSTRING) {
    return 1;
  }
  if (dstream_loop_new(&loop, NULL) != DSTREAM_OK) {
    return 1;
  }
  dstream_loop_free(loop);
  dstream_service_free(NULL);
  printf("libdstream %s: %s\n", dstream_version(), error.text);
  return strlen(dstream_version()) == 0;
}
