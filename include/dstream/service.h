/* dstream/service.h - the service side: opens streams to devices by their id.
 */
#ifndef DSTREAM_SERVICE_H
#define DSTREAM_SERVICE_H

#include <stddef.h>

#include <dstream/loop.h>
#include <dstream/status.h>
#include <dstream/stream.h>
#include <dstream/tls.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dstream_service dstream_service;

/* Zero is the default of each member; set `size` to
 * sizeof(struct dstream_service_options).  Everything is copied. */
struct dstream_service_options {
  size_t size;
  const char *connection_string; /* required.  HostName=..;
      SharedAccessKeyName=..;SharedAccessKey=.. and, optional, HttpsPort= */
  dstream_loop *loop;            /* required */
  struct dstream_tls_options tls;
  const char *http_proxy;  /* as in struct dstream_device_options */
  const char *api_version; /* default "2020-09-30" */
  const char *user_agent;  /* default "libdstream/VERSION" */
  int sas_lifetime_s;      /* of the token made for each call; default 300 */
  unsigned max_streams;    /* opening or open at once; default 1024 */
};

/* How to ask for one stream; zero is the default of each member. */
struct dstream_open_options {
  size_t size;
  const char *module_id; /* a module of the device */
  int connect_wait_s;    /* how long the hub waits for a device that is not
                            connected; default 0: not at all, at most 60 */
  int response_wait_s;   /* how long for the device's answer; default 30, at
                            most 60 */
  struct dstream_stream_options stream;
};

/* One step of the handshake, told to on_step as it happens. */
enum dstream_open_step {
  DSTREAM_STEP_REQUEST,  /* the hub is asked */
  DSTREAM_STEP_ACCEPTED, /* the device accepted */
  DSTREAM_STEP_CONNECT   /* the streaming endpoint is dialled */
};

/* Makes a service.  DSTREAM_EINVAL, DSTREAM_ECONNSTRING, DSTREAM_ENOMEM,
 * DSTREAM_ETLS; *out is untouched on failure; what is wrong is written to error
 * (may be NULL).  Loop's thread. */
DSTREAM_API int
dstream_service_new(dstream_service **out,
                    const struct dstream_service_options *options,
                    struct dstream_end *error);

/* Asks the hub for a stream to device_id and opens it.  The stream exists at
 * once; on_open or on_close follows, not inside this call.  When it fails,
 * on_close's end says why: DSTREAM_EOFFLINE (404103), DSTREAM_ENOANSWER
 * (504101), DSTREAM_EREJECTED, DSTREAM_ENOTFOUND, DSTREAM_EUNAUTHORIZED,
 * DSTREAM_ETHROTTLED, DSTREAM_EHUB, or one of the network's.
 * options and out may be NULL.
 * DSTREAM_EINVAL, DSTREAM_ELIMIT, DSTREAM_ENOMEM: there is no stream. */
DSTREAM_API int
dstream_service_open_stream(dstream_service *service, const char *device_id,
                            const char *stream_name,
                            const struct dstream_open_options *options,
                            const struct dstream_stream_callbacks *callbacks,
                            void *user, dstream_stream **out);

/* Has fn told of each step of each handshake, the first one inside
 * dstream_service_open_stream; NULL: nobody.  Loop's thread. */
DSTREAM_API void dstream_service_on_step(
    dstream_service *service,
    void (*fn)(void *user, dstream_stream *stream, enum dstream_open_step step),
    void *user);

/* Aborts the service's streams (their on_close is called in here) and frees it.
 * Loop's thread, not in a callback of one of its streams.  NULL is fine. */
DSTREAM_API void dstream_service_free(dstream_service *service);

#ifdef __cplusplus
}
#endif
#endif
