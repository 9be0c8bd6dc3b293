/* Uses a function of each part of the installed library. */
#include <stdio.h>
#include <string.h>

#include <dstream/dstream.h>

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  (void)device, (void)user;
  dstream_request_reject(request, NULL);
}

static int fail(const char *what, int status) {
  fprintf(stderr, "%s: %s\n", what, dstream_status_name(status));
  return 1;
}

int main(void) {
  struct dstream_device_options options = {.size = sizeof(options)};
  struct dstream_device_callbacks callbacks = {.on_request = on_request};
  struct dstream_end error;
  dstream_device *device = NULL;
  dstream_loop *loop = NULL;
  int status;

  options.connection_string = "not a connection string";
  status = dstream_device_new(&device, &options, &callbacks, NULL, &error);
  if (status != DSTREAM_ECONNSTRING) {
    return fail("dstream_device_new", status);
  }
  status = dstream_loop_new(&loop, NULL);
  if (status != DSTREAM_OK) {
    return fail("dstream_loop_new", status);
  }
  dstream_loop_free(loop);
  dstream_service_free(NULL);
  printf("libdstream %s: %s\n", dstream_version(), error.text);
  return strlen(dstream_version()) == 0;
}
