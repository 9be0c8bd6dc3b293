/* support_world.h - devices and services of the library on test_loop, against a
 * hub that runs (integration/support_hub.h), and programs beside them.
 *
 * Every function fails the test by itself when something goes wrong.
 */
#ifndef SUPPORT_WORLD_H
#define SUPPORT_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <dstream/device.h>
#include <dstream/service.h>

#include "integration/support_hub.h"
#include "integration/support_streams.h"

#define WORLD_STREAMS_MAX 256

/* ---- a device ---- */

enum answer {
  ANSWER_ACCEPT,
  ANSWER_REJECT,
  ANSWER_DEFER,  /* kept in `deferred` */
  ANSWER_NOTHING /* on_request just returns */
};

/* Zeroed at first; what it is to do may be set at any time. */
struct world_device {
  enum answer answer;
  const char *reason;  /* of a rejection */
  enum peer_kind kind; /* of the streams that it accepts, as in peer_init */
  uint64_t to_send;
  uint64_t to_receive;
  bool eof_back;

  dstream_device *device; /* NULL: not started */
  enum dstream_device_state state;
  unsigned readies;         /* how often it became ready */
  unsigned failures;        /* how often a cause was told */
  struct dstream_end cause; /* the last one */
  unsigned stops;
  unsigned requests;
  char last_name[160]; /* of the stream that was asked for last */
  int accept_status;   /* of the last accept */
  dstream_request *deferred;
  struct peer *peers[WORLD_STREAMS_MAX]; /* its streams, in order */
  unsigned peer_count;
};

/* options->size, loop and the retry times are set here where they are zero. */
void world_device_start_with(struct world_device *device,
                             const struct dstream_device_options *options);
void world_device_start(struct world_device *device,
                        const struct hub_fixture *hub,
                        const char *connection_string);
/* Until it can be asked. */
void world_device_wait_ready(struct world_device *device);
/* Adds a device to the hub, starts it, waits. */
void world_device_new(struct world_device *device, struct hub_fixture *hub,
                      const char *id);
/* Accepts the deferred request. */
int world_device_accept(struct world_device *device);
/* Between two tests: its streams must be over; forgets them and what it was to
 * do (but not `kind`). */
void world_device_reset(struct world_device *device);
/* Stops and frees it; each of its streams must have had its on_close. */
void world_device_end(struct world_device *device);

/* ---- a service ---- */

/* connection_string NULL: the hub's policy "service". */
dstream_service *world_service(const struct hub_fixture *hub,
                               const char *connection_string);

struct call {
  const char *device;
  const char *name;   /* NULL: "echo" */
  const char *module; /* NULL: none */
  int connect_wait_s;
  int response_wait_s;
};
/* Opens a stream for a peer. */
void world_open(dstream_service *service, const struct call *call,
                struct peer *peer);
/* ... which must fail with this status, hub code and text. */
void world_open_fails(dstream_service *service, const struct call *call,
                      int status, int hub_code, const char *text);
/* A whole stream to an echoing device: that many bytes, compared. */
void world_echo(dstream_service *service, const char *device, uint64_t bytes);

/* ---- a stream that runs beside a test and must not be disturbed ---- */

struct beside {
  struct world_device device;
  dstream_service *service;
  struct peer peer;
};
void beside_start(struct beside *beside, struct hub_fixture *hub,
                  const char *device_id);
/* Sends something through it and waits until it is back. */
void beside_check(struct beside *beside);
void beside_end(struct beside *beside);

/* ---- tokens ---- */

/* A shared access signature with the key of a connection string, for a resource
 * ("HOST" or "HOST/devices/ID"), for that many seconds from now (may be
 * negative), under a policy's name (NULL: none). */
void world_sas(char *out, size_t size, const char *connection_string,
               const char *resource, int64_t lifetime_s, const char *policy);

/* ---- programs ---- */

struct child {
  pid_t pid;
  int in;  /* its stdin */
  int out; /* its stdout */
};

/* Starts a sample of the build; its connection string and CA come by the
 * environment.  stderr is thrown away. */
void child_start(struct child *child, const struct hub_fixture *hub,
                 const char *sample, const char *connection_string,
                 const char *argument);
/* Waits until its stdout holds text; the loop runs meanwhile. */
void child_wait_output(struct child *child, const char *text);
/* Sends a signal, waits for the end. */
void child_end(struct child *child, int signal);

#endif
