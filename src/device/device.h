/* device/device.h - the inside of dstream_device.
 *
 *   options.c   what the caller gave, checked and copied
 *   device.c    life: loop and thread, start, stop, free; carries out what
 *               core/device_core.h says
 *   request.c   stream requests: told, answered, forgotten
 *   streams.c   the streams that were accepted
 *
 * Everything but dstream_device_start, _stop, _loop and _id belongs to the
 * loop's thread.
 */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <dstream/device.h>

#include "core/conn_string.h"
#include "core/device_core.h"
#include "core/request_table.h"
#include "net/link.h"
#include "net/loop.h"
#include "net/mqtt.h"
#include "net/spare.h"
#include "net/tls.h"

/* What the caller gave; made by device_options_copy, not changed afterwards. */
struct device_options {
  struct conn_string conn;
  char *id;        /* "deviceId" or "deviceId/moduleId" */
  char *resource;  /* what a SAS token is for */
  char *user_name; /* MQTT user name */
  char *ca_file;
  char *cert_file;
  char *key_file;
  struct tls_config *tls;
  struct link_proxy proxy;
  bool websocket;
  int keepalive_s;
  int sas_lifetime_s;
  dstream_sas_fn *sas;
  void *sas_user;
  unsigned max_requests;
  struct device_core_options core;
};

struct device_stream {
  struct device_stream *next;
  struct device_stream *prev;
  dstream_device *device;
  dstream_stream *stream;
  void (*on_open)(dstream_stream *stream, void *user); /* the caller's */
  bool opened;
};

struct dstream_device {
  struct device_options options;
  struct dstream_device_callbacks callbacks;
  void *user;

  dstream_loop *loop;
  bool own_loop;
  pthread_t thread;

  atomic_bool started;  /* from dstream_device_start until before on_stopped */
  atomic_bool stopping; /* dstream_device_stop was called since */
  bool end_loop;        /* once stopped: dstream_device_free waits */

  struct device_core core;
  struct mqtt *mqtt;
  struct loop_timer timer;
  struct loop_post start_post;
  struct loop_post stop_post;
  struct loop_post end_post; /* of the own loop */
  bool running;              /* inside device_run */
  unsigned in_callback;      /* of the caller's */

  struct request_table requests;
  struct request *current;       /* being told by on_request */
  struct device_stream *streams; /* all that are not gone */
  struct spare spare;            /* a connection to the streaming endpoint */
};

/* ---- options.c ---- */

/* Checks and copies.  Statuses as dstream_device_new; *out is to be cleared in
 * any case. */
int device_options_copy(struct device_options *out,
                        const struct dstream_device_options *from,
                        struct dstream_end *error);
void device_options_clear(struct device_options *options);

/* ---- device.c ---- */

/* Carries out what the core wants, and sets the timer.  After each event. */
void device_run(dstream_device *device);

/* ---- request.c ---- */

void device_on_message(dstream_device *device, const char *topic, size_t len);

/* Lets go of what became too old. */
void device_expire_requests(dstream_device *device);

/* Rejects what waits, while there still is a connection. */
void device_reject_requests(dstream_device *device, const char *reason);

/* ---- streams.c ---- */

/* Makes a stream for an accepted request, not dialled yet.  DSTREAM_EINVAL,
 * DSTREAM_ENOMEM. */
int device_stream_new(dstream_device *device, const char *name,
                      const struct dstream_stream_options *options,
                      const struct dstream_stream_callbacks *callbacks,
                      void *user, dstream_stream **out);

/* Ends all: in an orderly way (Close 1001), or within the call. */
void device_streams_close(dstream_device *device);
void device_streams_abort(dstream_device *device);

#endif
