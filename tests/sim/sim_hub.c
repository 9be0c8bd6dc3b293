/* What hub/hub.c does, without a folder, a broker to start and signals; and the
 * one function of hub/identity.h that the REST interface asks. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"
#include "core/sas.h"
#include "hub/front.h"
#include "hub/gateway.h"
#include "hub/handshake.h"
#include "hub/identity.h"
#include "hub/main_endpoint.h"
#include "hub/rest.h"
#include "sim.h"

struct sim_hub {
  dstream_loop *loop;
  uint8_t key[CRYPTO_SHA256_LEN];
  struct loop_timer wake_timer;
  struct gateway *gateway;
  struct handshake *handshake;
  struct rest *rest;
  struct front *front;
  struct main_endpoint *endpoint;
};

int identity_check_service_sas(struct identity_store *store,
                               const struct identity_names *names,
                               struct slice token, unsigned rights,
                               uint64_t now_s, struct identity_grant *grant,
                               struct dstream_end *end) {
  (void)store;
  (void)names;
  (void)rights;
  (void)grant;
  struct sas sas;
  int status = sas_parse(&sas, token.p, token.len);
  if (status == DSTREAM_OK && sas_expired(&sas, now_s))
    status = DSTREAM_EUNAUTHORIZED;
  if (status != DSTREAM_OK)
    end_set(end, status, "the token is not valid");
  return status;
}

/* ---- what the handshake asks ---- */

static uint64_t world_now_ms(void *user) {
  (void)user;
  return loop_now_ms();
}

static uint64_t world_now_s(void *user) {
  (void)user;
  return (uint64_t)time(NULL);
}

static void on_wake(struct loop_timer *timer) {
  struct sim_hub *hub = CONTAINER_OF(timer, struct sim_hub, wake_timer);
  handshake_tick(hub->handshake);
}

static void world_wake_at(void *user, uint64_t at_ms) {
  struct sim_hub *hub = user;
  uint64_t now = loop_now_ms();
  loop_timer_set(hub->loop, &hub->wake_timer, at_ms > now ? at_ms - now : 0,
                 on_wake);
}

static enum handshake_device world_find_device(void *user, const char *id) {
  (void)user;
  return strncmp(id, "device", 6) == 0 ? HANDSHAKE_DEVICE_OK
                                       : HANDSHAKE_DEVICE_UNKNOWN;
}

static bool world_is_up(void *user) {
  struct sim_hub *hub = user;
  return main_endpoint_is_up(hub->endpoint);
}

static bool world_is_ready(void *user, const char *client_id) {
  struct sim_hub *hub = user;
  return main_endpoint_is_ready(hub->endpoint, client_id);
}

static int world_ask(void *user, const char *client_id, const char *topic) {
  struct sim_hub *hub = user;
  return main_endpoint_ask(hub->endpoint, client_id, topic);
}

static int world_expect(void *user, const struct gateway_stream *stream) {
  struct sim_hub *hub = user;
  return gateway_expect(hub->gateway, stream);
}

static void world_set_eof(void *user, const char *stream_id) {
  struct sim_hub *hub = user;
  gateway_set_eof(hub->gateway, stream_id, true);
}

static void world_forget(void *user, const char *stream_id,
                         const char *reason) {
  struct sim_hub *hub = user;
  gateway_forget(hub->gateway, stream_id, reason);
}

static unsigned world_stream_count(void *user) {
  struct sim_hub *hub = user;
  return gateway_count(hub->gateway);
}

static unsigned world_device_count(void *user, const char *client_id) {
  struct sim_hub *hub = user;
  return gateway_device_count(hub->gateway, client_id);
}

static void world_log(void *user, enum dstream_log_level level,
                      const char *text) {
  struct sim_hub *hub = user;
  loop_log(hub->loop, level, "%s", text);
}

static const struct handshake_world world = {
    .now_ms = world_now_ms,
    .now_s = world_now_s,
    .wake_at = world_wake_at,
    .find_device = world_find_device,
    .is_up = world_is_up,
    .is_ready = world_is_ready,
    .ask = world_ask,
    .expect = world_expect,
    .set_eof = world_set_eof,
    .forget = world_forget,
    .stream_count = world_stream_count,
    .device_stream_count = world_device_count,
    .log = world_log,
};

/* ---- what the others tell ---- */

static void on_side(void *user, const char *stream_id, bool device_side) {
  struct sim_hub *hub = user;
  handshake_on_side(hub->handshake, stream_id, device_side);
}

static void on_end(void *user, const struct gateway_report *report) {
  struct sim_hub *hub = user;
  SIM_CHECK(report->cause->status == DSTREAM_OK ||
                report->cause->text[0] != '\0',
            "the hub reports an end without a text, status %d",
            report->cause->status);
  handshake_on_end(hub->handshake, report);
}

static void on_presence(void *user, const char *device_id, bool ready) {
  struct sim_hub *hub = user;
  handshake_on_presence(hub->handshake, device_id, ready);
}

static void on_answer(void *user, const char *device_id, const char *topic) {
  struct sim_hub *hub = user;
  handshake_on_answer(hub->handshake, device_id, topic);
}

static void on_up(void *user) {
  (void)user;
}

static int take_http(void *user, int fd, const char *peer) {
  struct sim_hub *hub = user;
  return rest_take(hub->rest, fd, peer);
}

/* ---- life ---- */

static int make_handshake(struct sim_hub *hub,
                          const struct sim_hub_options *o) {
  struct handshake_options options = {.host = SIM_HOST,
                                      .token_key = hub->key,
                                      .max_streams = o->max_streams,
                                      .max_streams_per_device = o->max_streams,
                                      .max_pending = o->max_pending,
                                      .max_pending_per_device = o->max_pending,
                                      .requests_per_second = 1000,
                                      .request_burst = 1000,
                                      .handshake_s = 60};
  return handshake_new(&hub->handshake, &options, &world, hub);
}

static int make_gateway(struct sim_hub *hub, const struct sim_hub_options *o) {
  static const struct gateway_events events = {.on_side = on_side,
                                               .on_end = on_end};
  struct gateway_options options = {.max_streams = o->max_streams,
                                    .keepalive_ms = (int)o->keepalive_ms,
                                    .idle_ms = o->idle_ms,
                                    .lifetime_ms = o->lifetime_ms,
                                    .drain_timeout_ms = o->drain_ms};
  return gateway_new(&hub->gateway, hub->loop, hub->key, &options, &events,
                     hub);
}

static int make_front(struct sim_hub *hub) {
  struct front_options options = {.bind_address = "127.0.0.1",
                                  .https_port = SIM_HTTPS_PORT,
                                  .mqtt_port = 8883,
                                  .cert_file = "server.pem",
                                  .key_file = "server.key",
                                  .broker_socket = "broker",
                                  .broker_secret = "secret",
                                  .gateway = hub->gateway,
                                  .take_http = take_http,
                                  .user = hub};
  return front_new(&hub->front, hub->loop, &options, NULL);
}

int sim_hub_new(struct sim_hub **out, dstream_loop *loop,
                const struct sim_hub_options *options) {
  static const struct main_endpoint_events events = {.on_presence = on_presence,
                                                     .on_answer = on_answer,
                                                     .on_up = on_up,
                                                     .on_down = on_up};
  struct sim_hub *hub = sim_alloc(sizeof *hub);
  hub->loop = loop;
  int status = crypto_random(hub->key, sizeof hub->key);
  if (status == DSTREAM_OK)
    status = make_gateway(hub, options);
  if (status == DSTREAM_OK)
    status = make_handshake(hub, options);
  struct rest_options rest = {.handshake = hub->handshake};
  if (status == DSTREAM_OK)
    status = rest_new(&hub->rest, loop, &rest);
  if (status == DSTREAM_OK)
    status = make_front(hub);
  if (status == DSTREAM_OK)
    status = main_endpoint_new(&hub->endpoint, loop, "", "", &events, hub);
  if (status != DSTREAM_OK) {
    sim_hub_free(hub);
    return status;
  }
  handshake_set_port(hub->handshake, front_https_port(hub->front));
  *out = hub;
  return DSTREAM_OK;
}

void sim_hub_stop(struct sim_hub *hub) {
  front_stop_listening(hub->front);
  handshake_stop(hub->handshake);
  gateway_shutdown(hub->gateway);
}

void sim_hub_free(struct sim_hub *hub) {
  if (hub == NULL)
    return;
  loop_timer_cancel(&hub->wake_timer);
  main_endpoint_free(hub->endpoint);
  rest_free(hub->rest);
  front_free(hub->front);
  gateway_free(hub->gateway);
  handshake_free(hub->handshake);
  sim_free(hub);
}

unsigned sim_hub_streams(const struct sim_hub *hub) {
  return gateway_count(hub->gateway);
}

unsigned sim_hub_handshakes(const struct sim_hub *hub) {
  return handshake_count(hub->handshake);
}
