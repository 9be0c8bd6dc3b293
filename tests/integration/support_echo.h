/* support_echo.h - a device that sends everything back, and a service's call to
 * one, on test_loop (integration/support_streams.h).
 *
 * All of it fails the test by itself when something takes too long.
 */
#ifndef SUPPORT_ECHO_H
#define SUPPORT_ECHO_H

#include <stdbool.h>
#include <stdint.h>

#include <dstream/device.h>
#include <dstream/service.h>

#include "integration/support_streams.h"

#define ECHO_STREAMS_MAX 16

struct echo_device {
  dstream_device *device; /* NULL: not started, or stopped */
  enum dstream_device_state state;
  unsigned readies;  /* how often it became ready */
  unsigned failures; /* how often something failed */
  unsigned renewals;
  struct dstream_end cause; /* of the last failure */
  bool stopped;
  struct peer peers[ECHO_STREAMS_MAX]; /* its streams */
  unsigned peer_count;
};

/* options->loop is set here.  Returns when it has been started: it is not ready
 * yet. */
void echo_device_start(struct echo_device *echo,
                       const struct dstream_device_options *options);
/* ... and waits until it is ready. */
void echo_device_connect(struct echo_device *echo,
                         const struct dstream_device_options *options);
/* Also of one that was zeroed and never started. */
void echo_device_stop(struct echo_device *echo);

/* One stream "echo": sends that many bytes, compares what comes back, and
 * closes when all of it has.  Returns when it has ended; *end says how.
 * options->loop is set here.  The number of bytes that came back. */
uint64_t echo_call(const struct dstream_service_options *options,
                   const char *device_id, uint64_t bytes,
                   struct dstream_end *end);

/* The same, which must succeed. */
void echo_call_ok(const struct dstream_service_options *options,
                  const char *device_id, uint64_t bytes);

#endif
