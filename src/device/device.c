#include "device/device.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"
#include "core/sas.h"
#include "core/stream_topic.h"

#define CONNECT_TIMEOUT_S 30

static uint32_t random_bits(void) {
  uint32_t bits = 0;
  if (crypto_random(&bits, sizeof bits) != DSTREAM_OK)
    bits = (uint32_t)loop_now_ms() * 2654435761u;
  return bits;
}

/* ---- connecting ---- */

/* "" for none: X.509. */
static int make_password(dstream_device *device, char *out, size_t size,
                         struct dstream_end *error) {
  const struct device_options *o = &device->options;
  out[0] = '\0';
  if (o->conn.x509)
    return DSTREAM_OK;
  uint64_t expiry = (uint64_t)time(NULL) + (uint64_t)o->sas_lifetime_s;
  if (o->sas == NULL) {
    int len = sas_make(out, size, o->resource, o->conn.key, o->conn.key_len,
                       expiry, NULL, SAS_ENCODED_RESOURCE);
    if (len >= 0)
      return DSTREAM_OK;
    end_set(error, len, "can't sign a token: %s", dstream_status_text(len));
    return len;
  }
  device->in_callback++;
  int status = o->sas(o->sas_user, o->resource, expiry, out, size);
  device->in_callback--;
  if (status < 0) {
    end_set(error, status, "the sas callback failed: %s",
            dstream_status_text(status));
    return status;
  }
  struct sas sas;
  size_t len = strnlen(out, size);
  if (len == size || sas_parse(&sas, out, len) != DSTREAM_OK) {
    end_set(error, DSTREAM_ESAS,
            "the sas callback made no \"SharedAccessSignature sr=...\"");
    return DSTREAM_ESAS;
  }
  return DSTREAM_OK;
}

static void on_connected(void *user) {
  dstream_device *device = user;
  device_core_connected(&device->core, loop_now_ms());
  device_run(device);
}

static void on_subscribed(void *user, bool granted) {
  dstream_device *device = user;
  device_core_subscribed(&device->core, granted, loop_now_ms(), random_bits());
  device_run(device);
}

static void on_message(void *user, const char *topic, size_t len) {
  dstream_device *device = user;
  device_on_message(device, topic, len);
  device_run(device);
}

static void on_end(void *user, const struct dstream_end *why) {
  dstream_device *device = user;
  uint64_t now = loop_now_ms();
  request_table_orphan(&device->requests);
  if (why->mqtt_code != 0)
    device_core_refused(&device->core, why->mqtt_code, now, random_bits());
  else
    device_core_lost(&device->core, why, now, random_bits());
  device_run(device);
}

static void on_closed(void *user) {
  dstream_device *device = user;
  device->mqtt = NULL;
  device_core_closed(&device->core, loop_now_ms());
  device_run(device);
}

/* Where the control connection goes: the gateway, if there is one, takes the
 * place of the hub for TCP and TLS, and for nothing else. */
static int connect_mqtt(dstream_device *device, const char *password) {
  static const struct mqtt_callbacks callbacks = {.on_connected = on_connected,
                                                  .on_subscribed =
                                                      on_subscribed,
                                                  .on_message = on_message,
                                                  .on_end = on_end,
                                                  .on_closed = on_closed};
  const struct device_options *o = &device->options;
  const struct mqtt_options options = {
      .host =
          o->conn.gateway_host != NULL ? o->conn.gateway_host : o->conn.host,
      .port = o->websocket ? o->conn.https_port : o->conn.mqtt_port,
      .websocket = o->websocket,
      .client_id = o->id,
      .user_name = o->user_name,
      .password = password[0] != '\0' ? password : NULL,
      .ca_file = o->ca_file,
      .cert_file = o->cert_file,
      .key_file = o->key_file,
      .keepalive_s = o->keepalive_s,
      .connect_timeout_s = CONNECT_TIMEOUT_S,
      .proxy = &o->proxy,
      .tls = o->tls,
  };
  return mqtt_connect(&device->mqtt, device->loop, &options, &callbacks,
                      device);
}

static void do_connect(dstream_device *device) {
  assert(device->mqtt == NULL);
  char password[SAS_MAX];
  struct dstream_end error;
  int status = make_password(device, password, sizeof password, &error);
  if (status == DSTREAM_OK) {
    status = connect_mqtt(device, password);
    if (status != DSTREAM_OK)
      end_set(&error, status, "can't connect: %s", dstream_status_text(status));
  }
  crypto_wipe(password, sizeof password);
  if (status != DSTREAM_OK)
    device_core_lost(&device->core, &error, loop_now_ms(), random_bits());
}

static void do_disconnect(dstream_device *device) {
  if (device->core.state == DEVICE_STOPPING)
    device_reject_requests(device, "the device stops");
  request_table_orphan(&device->requests);
  if (device->mqtt != NULL)
    mqtt_close(device->mqtt);
  else
    device_core_closed(&device->core, loop_now_ms());
}

/* ---- telling ---- */

static enum dstream_device_state public_state(enum device_state state) {
  switch (state) {
  case DEVICE_CONNECTING:
  case DEVICE_SUBSCRIBING:
    return DSTREAM_DEVICE_CONNECTING;
  case DEVICE_READY:
    return DSTREAM_DEVICE_READY;
  case DEVICE_RENEWING:
    return DSTREAM_DEVICE_RENEWING;
  case DEVICE_WAITING:
    return DSTREAM_DEVICE_WAITING;
  case DEVICE_STOPPED:
  case DEVICE_STOPPING:
    break;
  }
  return DSTREAM_DEVICE_STOPPED;
}

static void do_tell(dstream_device *device, const struct dstream_end *cause) {
  enum device_state state = device->core.told;
  bool failed = cause->status != DSTREAM_OK;
  uint64_t wait = 0;
  uint64_t now = loop_now_ms();
  if (state == DEVICE_WAITING && device->core.deadline_ms > now)
    wait = device->core.deadline_ms - now;
  if (failed)
    loop_log(device->loop, DSTREAM_LOG_WARNING, "%s: %s; tries again in %u ms",
             device->options.id, cause->text, (unsigned)wait);
  else
    loop_log(device->loop, DSTREAM_LOG_INFO, "%s: %s", device->options.id,
             device_state_name(state));
  if (device->callbacks.on_state == NULL)
    return;
  device->in_callback++;
  device->callbacks.on_state(device, device->user, public_state(state),
                             failed ? cause : NULL);
  device->in_callback--;
}

static void do_stopped(dstream_device *device) {
  spare_clear(&device->spare);
  loop_timer_cancel(&device->timer);
  atomic_store(&device->stopping, false);
  atomic_store(&device->started, false);
  device->in_callback++;
  if (device->callbacks.on_stopped != NULL)
    device->callbacks.on_stopped(device, device->user);
  device->in_callback--;
  if (device->end_loop)
    dstream_loop_stop(device->loop);
}

/* ---- the machine ---- */

static void do_action(dstream_device *device, enum device_action action,
                      const struct dstream_end *cause) {
  switch (action) {
  case DEVICE_ACT_NONE:
    break;
  case DEVICE_ACT_TELL:
    do_tell(device, cause);
    break;
  case DEVICE_ACT_CONNECT:
    do_connect(device);
    break;
  case DEVICE_ACT_SUBSCRIBE:
    mqtt_subscribe(device->mqtt, STREAM_TOPIC_POST_FILTER,
                   STREAM_TOPIC_RES_FILTER);
    break;
  case DEVICE_ACT_DISCONNECT:
    do_disconnect(device);
    break;
  case DEVICE_ACT_END_STREAMS:
    device_streams_close(device);
    break;
  case DEVICE_ACT_ABORT_STREAMS:
    device_streams_abort(device);
    break;
  case DEVICE_ACT_STOPPED:
    do_stopped(device);
    break;
  }
}

static void on_timer(struct loop_timer *timer) {
  dstream_device *device = CONTAINER_OF(timer, struct dstream_device, timer);
  device_expire_requests(device);
  device_core_set_waiting(&device->core, device->requests.waiting);
  device_core_tick(&device->core, loop_now_ms(), random_bits());
  device_run(device);
}

static void set_timer(dstream_device *device) {
  uint64_t due = device_core_deadline(&device->core);
  uint64_t expiry = request_table_deadline(&device->requests);
  if (expiry < due)
    due = expiry;
  if (due == DEVICE_NEVER) {
    loop_timer_cancel(&device->timer);
    return;
  }
  uint64_t now = loop_now_ms();
  loop_timer_set(device->loop, &device->timer, due > now ? due - now : 0,
                 on_timer);
}

/* Events from inside an action (a callback of the user's may answer a request)
 * are carried out by the call that is under way. */
void device_run(dstream_device *device) {
  if (device->running)
    return;
  device->running = true;
  struct dstream_end cause;
  for (;;) {
    device_core_set_waiting(&device->core, device->requests.waiting);
    enum device_action action =
        device_core_pull(&device->core, loop_now_ms(), &cause);
    if (action == DEVICE_ACT_NONE)
      break;
    do_action(device, action, &cause);
  }
  device->running = false;
  set_timer(device);
}

/* ---- life ---- */

static void *run_loop(void *arg) {
  dstream_loop_run(arg);
  return NULL;
}

/* Signals are for the program's own threads. */
static int start_thread(dstream_device *device) {
  sigset_t all;
  sigset_t old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int failed = pthread_create(&device->thread, NULL, run_loop, device->loop);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return failed ? DSTREAM_ESYSTEM : DSTREAM_OK;
}

static int make_loop(dstream_device *device,
                     const struct dstream_device_options *options) {
  if (options->loop != NULL) {
    device->loop = options->loop;
    return DSTREAM_OK;
  }
  const struct dstream_loop_options loop_options = {
      .size = sizeof loop_options,
      .log = options->log,
      .log_user = options->log_user,
      .log_level = options->log_level};
  int status = dstream_loop_new(&device->loop, &loop_options);
  if (status != DSTREAM_OK)
    return status;
  status = start_thread(device);
  if (status != DSTREAM_OK) {
    dstream_loop_free(device->loop);
    return status;
  }
  device->own_loop = true;
  return DSTREAM_OK;
}

int dstream_device_new(dstream_device **out,
                       const struct dstream_device_options *options,
                       const struct dstream_device_callbacks *callbacks,
                       void *user, struct dstream_end *error) {
  if (callbacks == NULL || callbacks->on_request == NULL) {
    end_set(error, DSTREAM_EINVAL, "a device needs an on_request callback");
    return DSTREAM_EINVAL;
  }
  dstream_device *device = calloc(1, sizeof *device);
  if (device == NULL) {
    end_set(error, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  device->callbacks = *callbacks;
  device->user = user;
  int status = device_options_copy(&device->options, options, error);
  if (status == DSTREAM_OK) {
    device_core_init(&device->core, &device->options.core);
    request_table_init(&device->requests, device->options.max_requests);
    status = make_loop(device, options);
    if (status != DSTREAM_OK)
      end_set(error, status, "can't make a loop: %s",
              dstream_status_text(status));
  }
  if (status != DSTREAM_OK) {
    device_options_clear(&device->options);
    free(device);
    return status;
  }
  *out = device;
  return DSTREAM_OK;
}

static void start_on_loop(void *arg) {
  dstream_device *device = arg;
  int status = device_core_start(&device->core, loop_now_ms());
  assert(status == DSTREAM_OK);
  (void)status;
  device_run(device);
}

int dstream_device_start(dstream_device *device) {
  if (atomic_exchange(&device->started, true))
    return DSTREAM_ESTATE;
  loop_post(device->loop, &device->start_post, start_on_loop, device);
  return DSTREAM_OK;
}

static void stop_on_loop(void *arg) {
  dstream_device *device = arg;
  if (device->core.state == DEVICE_STOPPED)
    atomic_store(&device->stopping, false); /* an earlier stop was quicker */
  device_core_stop(&device->core, loop_now_ms());
  device_run(device);
}

void dstream_device_stop(dstream_device *device) {
  if (!atomic_load(&device->started) ||
      atomic_exchange(&device->stopping, true))
    return;
  loop_post(device->loop, &device->stop_post, stop_on_loop, device);
}

static void end_on_loop(void *arg) {
  dstream_device *device = arg;
  device->end_loop = true;
  if (device->core.state == DEVICE_STOPPED)
    dstream_loop_stop(device->loop);
}

static void end_own_loop(dstream_device *device) {
  assert(!pthread_equal(pthread_self(), device->thread));
  dstream_device_stop(device);
  loop_post(device->loop, &device->end_post, end_on_loop, device);
  pthread_join(device->thread, NULL);
}

void dstream_device_free(dstream_device *device) {
  if (device == NULL)
    return;
  if (device->own_loop)
    end_own_loop(device);
  assert(!atomic_load(&device->started));
  assert(device->core.state == DEVICE_STOPPED && device->mqtt == NULL);
  assert(device->in_callback == 0 && device->streams == NULL);
  loop_timer_cancel(&device->timer);
  request_table_clear(&device->requests);
  if (device->own_loop)
    dstream_loop_free(device->loop);
  device_options_clear(&device->options);
  free(device);
}

dstream_loop *dstream_device_loop(dstream_device *device) {
  return device->loop;
}

const char *dstream_device_id(const dstream_device *device) {
  return device->options.id;
}
