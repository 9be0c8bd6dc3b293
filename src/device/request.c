#include <assert.h>
#include <string.h>

#include "core/crypto.h"
#include "core/end.h"
#include "core/stream_url.h"
#include "device/device.h"
#include "net/stream.h"

/* What this side of a stream can do. */
#define DEVICE_CAPS CAPS_EOF

/* The public name of struct request; never defined. */
static struct request *inner(dstream_request *request) {
  return (struct request *)(void *)request;
}

static const struct request *inner_const(const dstream_request *request) {
  return (const struct request *)(const void *)request;
}

static void forget(dstream_device *device, struct request *request) {
  if (device->current == request)
    device->current = NULL;
  request_table_remove(&device->requests, request);
}

static int publish_answer(dstream_device *device, int code, const char *rid,
                          const char *caps, const char *reason) {
  char topic[STREAM_TOPIC_SIZE];
  int len = stream_topic_format_response(topic, sizeof topic, code, rid, caps,
                                         reason);
  if (len < 0)
    return len;
  if (device->mqtt == NULL)
    return DSTREAM_ESTATE;
  return mqtt_publish(device->mqtt, topic);
}

static int reject(dstream_device *device, const char *rid, bool asked_caps,
                  const char *reason) {
  return publish_answer(device, STREAM_TOPIC_REJECT, rid, NULL,
                        asked_caps ? reason : NULL);
}

/* ---- a message came ---- */

static void on_refused(dstream_device *device, enum request_verdict verdict,
                       const struct request_refusal *refusal, const char *topic,
                       size_t len) {
  const char *id = device->options.id;
  if (refusal->why.status == DSTREAM_ETOPIC) {
    char masked[400];
    request_topic_mask(topic, len, masked, sizeof masked);
    loop_log(device->loop, DSTREAM_LOG_WARNING,
             "%s: malformed stream request, %s: %s: %s", id,
             verdict == REQUEST_REFUSED ? "rejected" : "dropped",
             refusal->why.text, masked);
  } else {
    loop_log(device->loop, DSTREAM_LOG_WARNING, "%s: stream request %s %s: %s",
             id, refusal->rid,
             verdict == REQUEST_REFUSED ? "rejected" : "dropped",
             refusal->why.text);
  }
  if (verdict == REQUEST_REFUSED)
    reject(device, refusal->rid, refusal->asked_caps, refusal->why.text);
}

static void tell_request(dstream_device *device, struct request *request) {
  request->owner = device;
  device->current = request;
  device->in_callback++;
  device->callbacks.on_request(device, device->user,
                               (dstream_request *)(void *)request);
  device->in_callback--;
  if (device->current == NULL)
    return;
  loop_log(device->loop, DSTREAM_LOG_WARNING,
           "%s: on_request neither answered nor deferred the request for "
           "stream \"%s\"",
           device->options.id, request->message.name);
  dstream_request_reject((dstream_request *)(void *)request,
                         "the device has no answer");
}

void device_on_message(dstream_device *device, const char *topic, size_t len) {
  static const char post[] = "$iothub/streams/POST/";
  struct request *request = NULL;
  struct request_refusal refusal;
  if (len < sizeof post - 1 || memcmp(topic, post, sizeof post - 1) != 0) {
    loop_log(device->loop, DSTREAM_LOG_DEBUG,
             "%s: a message that is no stream request was ignored",
             device->options.id);
    return;
  }
  enum request_verdict verdict = request_table_take(
      &device->requests, topic, len, loop_now_ms(), &request, &refusal);
  if (verdict == REQUEST_NEW)
    tell_request(device, request);
  else
    on_refused(device, verdict, &refusal, topic, len);
  crypto_wipe(&refusal, sizeof refusal);
}

void device_expire_requests(dstream_device *device) {
  struct request *old;
  for (;;) {
    old = request_table_tick(&device->requests, loop_now_ms());
    if (old == NULL)
      return;
    loop_log(device->loop, DSTREAM_LOG_WARNING,
             "%s: the request for stream \"%s\" expired without an answer",
             device->options.id, old->message.name);
  }
}

void device_reject_requests(dstream_device *device, const char *reason) {
  uint64_t now = loop_now_ms();
  for (struct request *r = device->requests.first; r != NULL; r = r->next)
    if (request_table_check(&device->requests, r, now) == DSTREAM_OK)
      reject(device, r->message.rid, r->asked_caps, reason);
  request_table_orphan(&device->requests);
}

/* ---- answers ---- */

const char *dstream_request_name(const dstream_request *request) {
  return inner_const(request)->message.name;
}

const char *dstream_request_id(const dstream_request *request) {
  return inner_const(request)->message.rid;
}

void dstream_request_defer(dstream_request *request) {
  dstream_device *device = inner(request)->owner;
  if (device->current == inner(request))
    device->current = NULL;
}

int dstream_request_reject(dstream_request *request, const char *reason) {
  struct request *r = inner(request);
  dstream_device *device = r->owner;
  int status = request_table_check(&device->requests, r, loop_now_ms());
  if (status == DSTREAM_OK) {
    loop_log(device->loop, DSTREAM_LOG_INFO, "%s: rejects stream \"%s\"%s%s",
             device->options.id, r->message.name, reason != NULL ? ": " : "",
             reason != NULL ? reason : "");
    status = reject(device, r->message.rid, r->asked_caps, reason);
  }
  forget(device, r);
  device_run(device);
  return status;
}

/* The answer first: the service can't connect before it came. */
static int answer_and_dial(dstream_device *device, const struct request *r,
                           const struct stream_url *url,
                           dstream_stream *stream) {
  char caps[CAPS_SIZE] = "";
  if (r->asked_caps && caps_intersect(r->message.caps, slice_of(DEVICE_CAPS),
                                      caps, sizeof caps) < 0)
    caps[0] = '\0';
  int status =
      publish_answer(device, STREAM_TOPIC_ACCEPT, r->message.rid, caps, NULL);
  if (status != DSTREAM_OK) {
    struct dstream_end end;
    end_set(&end, status,
            "the hub could not be told that stream \"%s\" was "
            "accepted",
            r->message.name);
    stream_fail(stream, &end);
    return DSTREAM_OK; /* on_close tells */
  }
  const struct stream_target target = {
      .url = url,
      .token = r->message.token,
      .tls = device->options.tls,
      .proxy = &device->options.proxy,
      .spare = &device->spare,
      .eof = caps_has(slice_of(caps), CAPS_EOF),
  };
  loop_log(device->loop, DSTREAM_LOG_INFO, "%s: accepts stream \"%s\"",
           device->options.id, r->message.name);
  stream_dial(stream, &target);
  return DSTREAM_OK;
}

static int accept_request(dstream_device *device, struct request *r,
                          const struct dstream_stream_options *options,
                          const struct dstream_stream_callbacks *callbacks,
                          void *user, dstream_stream **out) {
  struct stream_url url;
  const char *why = NULL;
  int status = stream_url_parse(&url, r->message.url);
  dstream_stream *stream = NULL;
  if (status != DSTREAM_OK) {
    why = "the address of the streaming endpoint can't be used";
  } else if (!device_core_stream_room(&device->core)) {
    status = DSTREAM_ELIMIT;
    why = "the device has as many streams as it may have";
  } else {
    status = device_stream_new(device, r->message.name, options, callbacks,
                               user, &stream);
    why = "the device has no means for another stream";
  }
  if (status != DSTREAM_OK) {
    loop_log(device->loop, DSTREAM_LOG_WARNING, "%s: rejects stream \"%s\": %s",
             device->options.id, r->message.name, why);
    reject(device, r->message.rid, r->asked_caps, why);
    return status;
  }
  if (out != NULL)
    *out = stream;
  return answer_and_dial(device, r, &url, stream);
}

int dstream_request_accept(dstream_request *request,
                           const struct dstream_stream_options *options,
                           const struct dstream_stream_callbacks *callbacks,
                           void *user, dstream_stream **out) {
  struct request *r = inner(request);
  dstream_device *device = r->owner;
  int status = request_table_check(&device->requests, r, loop_now_ms());
  if (status == DSTREAM_OK)
    status = accept_request(device, r, options, callbacks, user, out);
  forget(device, r);
  device_run(device);
  return status;
}
