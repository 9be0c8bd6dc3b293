/* dstream/status.h - every status the library returns, and why a thing ended.
 *
 * Zero is success, every failure is negative.  A status says what kind of
 * failure it was, so that a program can act on it; struct dstream_end adds the
 * details that a person needs: numbers from the layer that failed, and one
 * sentence saying what failed and what to do.
 */
#ifndef DSTREAM_STATUS_H
#define DSTREAM_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DSTREAM_API __attribute__((visibility("default")))
#else
#define DSTREAM_API
#endif

/* name, value, text.  Values are stable; ranges tell the layer:
 * -1.. any layer, -20.. network and TLS, -40.. a malformed message,
 * -60.. the hub's or the peer's answer, -80.. the life of a stream. */
#define DSTREAM_STATUS_MAP(X)                                                  \
  X(OK, 0, "success")                                                          \
  X(EAGAIN, -1, "no room now, wait for the writable event")                    \
  X(ENOMEM, -2, "out of memory")                                               \
  X(EINVAL, -3, "invalid argument or option")                                  \
  X(ELIMIT, -4, "a configured limit was reached")                              \
  X(ETIMEDOUT, -5, "timed out")                                                \
  X(ECANCELED, -6, "canceled by this side")                                    \
  X(ESTATE, -7, "not possible in this state")                                  \
  X(ESYSTEM, -8, "the operating system refused")                               \
  X(EINTERNAL, -9, "internal error")                                           \
  X(ERESOLVE, -20, "host name could not be resolved")                          \
  X(ECONNECT, -21, "connection could not be made")                             \
  X(EPROXY, -22, "the HTTP proxy refused the connection")                      \
  X(ETLS, -23, "TLS failed")                                                   \
  X(EVERIFY, -24, "the server's certificate is not trusted")                   \
  X(EIO, -25, "the connection broke")                                          \
  X(ECONNSTRING, -40, "malformed connection string")                           \
  X(ESAS, -41, "malformed shared access signature")                            \
  X(ETOPIC, -42, "malformed stream request")                                   \
  X(EHTTP, -43, "malformed HTTP message")                                      \
  X(EUPGRADE, -44, "the streaming endpoint refused the WebSocket")             \
  X(EFRAME, -45, "WebSocket protocol error")                                   \
  X(EFORMAT, -46, "malformed text")                                            \
  X(EUNAUTHORIZED, -60, "not authorized")                                      \
  X(ENOTFOUND, -61, "no such device")                                          \
  X(EOFFLINE, -62, "the device is not connected")                              \
  X(ENOANSWER, -63, "the device did not answer")                               \
  X(EREJECTED, -64, "the device rejected the stream")                          \
  X(ETHROTTLED, -65, "too many requests")                                      \
  X(EHUB, -66, "the hub answered with an error")                               \
  X(ETOKEN, -67, "the stream token is not valid")                              \
  X(EMQTT, -68, "the hub refused the MQTT connection")                         \
  X(ECLOSED, -80, "the peer closed the stream")                                \
  X(EKEEPALIVE, -81, "the peer went silent")                                   \
  X(EEXPIRED, -82, "the request is too old")

enum dstream_status {
#define X(name, value, text) DSTREAM_##name = (value),
  DSTREAM_STATUS_MAP(X)
#undef X
};

/* "DSTREAM_EAGAIN" for -1; "DSTREAM_E?" for a number that is no status.
 * Any thread; the text is static. */
DSTREAM_API const char *dstream_status_name(int status);

/* The short English text of a status.  Any thread; the text is static. */
DSTREAM_API const char *dstream_status_text(int status);

/* Room for one sentence, the terminating zero included. */
#define DSTREAM_TEXT_MAX 256

/* Why a stream, a connection or a request ended.  A number is 0 where it does
 * not apply.  It holds no secret and may be logged as it is. */
struct dstream_end {
  int status;      /* enum dstream_status; DSTREAM_OK: ended as asked for */
  int sys_errno;   /* errno of the system call that failed */
  int mqtt_code;   /* CONNACK return code, MQTT 3.1.1 section 3.2.2.3 */
  int http_status; /* status of the HTTP response: REST, upgrade or proxy */
  int hub_code;    /* the hub's error code, such as 404103 or 504101 */
  int ws_code;     /* WebSocket close code, RFC 6455 section 7.4; 1005: a
                      Close frame without a code; 1006: none was seen */
  char text[DSTREAM_TEXT_MAX]; /* one sentence for a person */
};

#ifdef __cplusplus
}
#endif
#endif
