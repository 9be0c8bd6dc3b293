/* dstream/device.h - the device side: one outbound control connection, over
 * which stream requests come, each answered by a callback.
 *
 * A minimal device: dstream_device_new with a connection string and an
 * on_request that calls dstream_request_accept; dstream_device_start.
 * With no loop given, the device makes its own and runs it on one thread.
 */
#ifndef DSTREAM_DEVICE_H
#define DSTREAM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/loop.h>
#include <dstream/status.h>
#include <dstream/stream.h>
#include <dstream/tls.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dstream_device dstream_device;
typedef struct dstream_request dstream_request;

enum dstream_device_state {
  DSTREAM_DEVICE_STOPPED,    /* not started, or stopped */
  DSTREAM_DEVICE_CONNECTING, /* connecting or subscribing */
  DSTREAM_DEVICE_READY,      /* stream requests can arrive */
  DSTREAM_DEVICE_WAITING,    /* lost or refused: waits before the next try */
  DSTREAM_DEVICE_RENEWING    /* reconnects with a fresh SAS token; running
                                streams are not touched */
};

struct dstream_device_callbacks {
  /* A change of state.  cause is NULL where nothing failed.  May be NULL. */
  void (*on_state)(dstream_device *device, void *user,
                   enum dstream_device_state state,
                   const struct dstream_end *cause);

  /* A service asks for a stream.  Call exactly one of dstream_request_accept,
   * _reject or _defer in here; a request that was left alone is rejected. */
  void (*on_request)(dstream_device *device, void *user,
                     dstream_request *request);

  /* The device has stopped, all its streams have had their on_close: it may be
   * freed.  Exactly once for each dstream_device_stop, last.  May be NULL. */
  void (*on_stopped)(dstream_device *device, void *user);
};

/* Makes a SAS token for a key that is not in the connection string (kept in
 * hardware, say): writes "SharedAccessSignature sr=..." for `resource`, valid
 * until `expiry` (Unix seconds), zero-terminated, into out.  Returns 0, or a
 * negative status when it can't.  Called on the loop's thread. */
typedef int dstream_sas_fn(void *user, const char *resource, uint64_t expiry,
                           char *out, size_t out_size);

/* Zero is the default of each member; set `size` to
 * sizeof(struct dstream_device_options).  Everything is copied. */
struct dstream_device_options {
  size_t size;
  const char *connection_string; /* required.  HostName=..;DeviceId=..;
      SharedAccessKey=.. and, optional, ModuleId=, GatewayHostName=,
      HttpsPort=, MqttPort=, x509=true */
  dstream_loop *loop;            /* default: an own loop on an own thread */
  struct dstream_tls_options tls;

  dstream_sas_fn *sas; /* default: signed with SharedAccessKey */
  void *sas_user;
  const char *cert_file; /* X.509: PEM chain of the device, with x509=true in
                            the connection string */
  const char *key_file;  /* default: the key is in cert_file */

  bool mqtt_over_websocket; /* MQTT over WebSocket on the HTTPS port */
  const char *http_proxy;   /* "http://[user:password@]host:port": CONNECT
                               proxy for both channels.  Default: none (but
                               Paho's connection, not the streams', obeys the
                               environment variable https_proxy) */
  const char *api_version;  /* default "2020-09-30" */
  const char *product_info; /* default "libdstream/VERSION" */
  int mqtt_keepalive_s;     /* default 240, at most 1177 */
  int sas_lifetime_s;       /* default 3600, at least 10; renewed at 80 % */
  int retry_min_ms;         /* first reconnect wait; default 1000 */
  int retry_max_ms;         /* most; default 60000 */

  unsigned max_streams;  /* streams at once; a request over it is rejected.
                            Default 256 */
  unsigned max_requests; /* unanswered requests at once; one over it is
                            rejected.  Default 64 */

  dstream_log_fn *log; /* for the own loop; ignored when `loop` is given */
  void *log_user;
  enum dstream_log_level log_level;
};

/* Makes a device; nothing is sent before dstream_device_start.
 * DSTREAM_EINVAL, DSTREAM_ECONNSTRING, DSTREAM_ENOMEM, DSTREAM_ESYSTEM,
 * DSTREAM_ETLS (the CA file can't be read).  *out is untouched on failure; what
 * is wrong is written to error (may be NULL) as one sentence. */
DSTREAM_API int
dstream_device_new(dstream_device **out,
                   const struct dstream_device_options *options,
                   const struct dstream_device_callbacks *callbacks, void *user,
                   struct dstream_end *error);

/* Connects and stays connected.  Any thread.  DSTREAM_ESTATE: started. */
DSTREAM_API int dstream_device_start(dstream_device *device);

/* Ends every stream (Close 1001), disconnects, then on_stopped.  Any thread.
 * Does nothing when stopped already. */
DSTREAM_API void dstream_device_stop(dstream_device *device);

/* Frees the device.  With an own loop: from any thread but that loop's; it
 * stops the device first and joins the thread.  On a given loop: after
 * on_stopped (or before start), on that loop's thread, and not in one of the
 * device's callbacks.  NULL is fine. */
DSTREAM_API void dstream_device_free(dstream_device *device);

/* The loop that the device lives on, for dstream_loop_post.  Any thread. */
DSTREAM_API dstream_loop *dstream_device_loop(dstream_device *device);

/* "deviceId" or "deviceId/moduleId"; lives as long as the device. */
DSTREAM_API const char *dstream_device_id(const dstream_device *device);

/* ---- requests: loop's thread ---- */

/* The stream's name, percent-decoded.  Borrowed until the request is answered.
 */
DSTREAM_API const char *dstream_request_name(const dstream_request *request);

/* The hub's id of the request; not unique across connections. */
DSTREAM_API const char *dstream_request_id(const dstream_request *request);

/* Keeps the request for later, until dstream_request_accept or _reject.  It
 * expires by itself 60 s after it came (the call that answers it then returns
 * DSTREAM_EEXPIRED), and with the control connection that it came on
 * (DSTREAM_ESTATE).  Answer it in any case: that frees it, and until then it
 * counts against max_requests.  dstream_device_free frees what is left. */
DSTREAM_API void dstream_request_defer(dstream_request *request);

/* Accepts: the hub is told, the stream connects, on_open follows.  options and
 * out may be NULL.  The request is gone, whatever the result.
 * DSTREAM_ELIMIT, DSTREAM_EEXPIRED, DSTREAM_ENOMEM, DSTREAM_ESTATE (the control
 * connection is lost): the stream was not opened and has no on_close. */
DSTREAM_API int
dstream_request_accept(dstream_request *request,
                       const struct dstream_stream_options *options,
                       const struct dstream_stream_callbacks *callbacks,
                       void *user, dstream_stream **out);

/* Rejects.  reason (may be NULL) is logged, and told to the service where hub
 * and service understand it.  The request is gone.
 * DSTREAM_EEXPIRED, DSTREAM_ESTATE, DSTREAM_ENOMEM: the hub was not told. */
DSTREAM_API int dstream_request_reject(dstream_request *request,
                                       const char *reason);

#ifdef __cplusplus
}
#endif
#endif
