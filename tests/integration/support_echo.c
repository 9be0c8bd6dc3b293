#include "integration/support_echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- device ---- */

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  struct echo_device *echo = user;
  (void)device;
  echo->state = state;
  if (state == DSTREAM_DEVICE_READY)
    echo->readies++;
  if (state == DSTREAM_DEVICE_RENEWING)
    echo->renewals++;
  if (cause != NULL) {
    echo->failures++;
    echo->cause = *cause;
  }
}

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  struct echo_device *echo = user;
  const struct dstream_stream_options options = {.size = sizeof options,
                                                 .window = PEER_WINDOW};
  (void)device;
  if (echo->peer_count == ECHO_STREAMS_MAX) {
    dstream_request_reject(request, "enough streams for one test");
    return;
  }
  struct peer *peer = &echo->peers[echo->peer_count++];
  peer_init(peer, PEER_ECHO, 0, 0);
  dstream_request_accept(request, &options, &peer_callbacks, peer, NULL);
}

static void on_stopped(dstream_device *device, void *user) {
  struct echo_device *echo = user;
  (void)device;
  echo->stopped = true;
}

void echo_device_start(struct echo_device *echo,
                       const struct dstream_device_options *options) {
  static const struct dstream_device_callbacks callbacks = {
      on_state, on_request, on_stopped};
  struct dstream_device_options copy = *options;
  struct dstream_end error = {0};
  memset(echo, 0, sizeof *echo);
  copy.loop = test_loop;
  if (dstream_device_new(&echo->device, &copy, &callbacks, echo, &error) != 0)
    fail_msg("no device: %s", error.text);
  assert_int_equal(dstream_device_start(echo->device), 0);
}

void echo_device_connect(struct echo_device *echo,
                         const struct dstream_device_options *options) {
  echo_device_start(echo, options);
  WAIT(echo->readies > 0 || echo->failures > 0);
  if (echo->readies == 0)
    fail_msg("the device did not become ready: %s", echo->cause.text);
}

void echo_device_stop(struct echo_device *echo) {
  if (echo->device == NULL)
    return;
  dstream_device_stop(echo->device);
  WAIT(echo->stopped);
  dstream_device_free(echo->device);
  echo->device = NULL;
  for (unsigned i = 0; i < echo->peer_count; i++)
    peer_clear(&echo->peers[i]);
}

/* ---- service ---- */

uint64_t echo_call(const struct dstream_service_options *options,
                   const char *device_id, uint64_t bytes,
                   struct dstream_end *end) {
  struct dstream_service_options copy = *options;
  const struct dstream_open_options open = {
      .size = sizeof open, .stream = {.size = sizeof open.stream}};
  struct dstream_end error = {0};
  dstream_service *service = NULL;
  struct peer peer;
  copy.loop = test_loop;
  if (dstream_service_new(&service, &copy, &error) != 0)
    fail_msg("no service: %s", error.text);
  memset(&peer, 0, sizeof peer);
  peer_init(&peer, PEER_SENDER, bytes, bytes);
  peer.close_when_done = true;
  assert_int_equal(dstream_service_open_stream(service, device_id, "echo",
                                               &open, &peer_callbacks, &peer,
                                               &peer.stream),
                   0);
  WAIT(peer.closes > 0);
  *end = peer.end;
  uint64_t received = peer.received;
  if (received == bytes && end->status == DSTREAM_OK)
    assert_same_bytes(&peer, &peer);
  peer_clear(&peer);
  dstream_service_free(service);
  return received;
}

void echo_call_ok(const struct dstream_service_options *options,
                  const char *device_id, uint64_t bytes) {
  struct dstream_end end;
  uint64_t received = echo_call(options, device_id, bytes, &end);
  if (end.status != DSTREAM_OK || received != bytes)
    fail_msg("%llu of %llu bytes came back: %s", (unsigned long long)received,
             (unsigned long long)bytes, end.text);
}
