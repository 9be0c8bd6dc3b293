/* load/load.h - dstream_load: devices and services in numbers, for the drivers
 * beside it.  One process, one loop; commands on stdin, answers on stdout.
 *
 * Devices belong to a group (docs/hub.md): device N is PREFIX-N, its key is
 * made of the group's.  From the environment:
 *   DSTREAM_LOAD_DEVICE        the connection string of one of them
 *   DSTREAM_LOAD_KEY           the group's key, base64
 *   DSTREAM_CONNECTION_STRING  the service's
 *   DSTREAM_CA_FILE            whom to trust
 */
#ifndef LOAD_LOAD_H
#define LOAD_LOAD_H

#include <stdint.h>

#include <dstream/device.h>

struct load_device_options {
  dstream_loop *loop;
  unsigned max_streams;
};

/* Ends the program with a line on stderr. */
void load_fail(const char *format, ...) __attribute__((format(printf, 1, 2)))
__attribute__((noreturn));

/* An environment variable that must be there. */
const char *load_environment(const char *name);

/* One line on stdout, at once, in one piece. */
void load_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Device number `number` of the group, not started. */
dstream_device *load_device(const struct load_device_options *options,
                            unsigned number,
                            const struct dstream_device_callbacks *callbacks,
                            void *user);

/* What a mode is made of.  `start` is called before the loop runs; `command`
 * with each line of stdin. */
struct load_mode {
  const char *name;
  void (*start)(dstream_loop *loop, unsigned first, unsigned count);
  void (*command)(char *line);
};

/* Streams: `first` is ignored, `count` devices carry them.
 *   open N    opens N more           -> "opened N failed N seconds S"
 *   echo N    N times 64 bytes there and back on the first stream
 *                                    -> "echoed N p50_us T p99_us T"
 *   close     closes all             -> "closed N failed N seconds S"
 * Before: "ready". */
extern const struct load_mode load_streams;

/* Devices that stay connected.  For each of them, as it happens, with the time
 * of the monotonic clock in milliseconds:
 *   try ID MS, ready ID MS, lost ID MS, failed ID MS WHY
 * No commands. */
extern const struct load_mode load_devices;

#endif
