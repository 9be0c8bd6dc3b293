#include "hub/hub.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"
#include "hub/broker.h"
#include "hub/folder.h"
#include "hub/front.h"
#include "hub/gateway.h"
#include "hub/handshake.h"
#include "hub/identity.h"
#include "hub/identity_watch.h"
#include "hub/log.h"
#include "hub/main_endpoint.h"
#include "hub/monitor.h"
#include "hub/page.h"
#include "hub/rest.h"
#include "hub/rest_admin.h"
#include "hub/rest_registry.h"
#include "net/loop.h"
#include "net/loop_uv.h"
#include "net/settle.h"

#define START_MS      20000 /* for the broker to come up */
#define STOP_MS       3000  /* for streams to close */
#define STOP_STEP_MS  20
#define FDS_MIN       1024
#define EVERY_ADDRESS "0.0.0.0"

struct hub {
  const struct config *config;
  const struct hub_options *options;
  struct hub_log log;
  dstream_loop *loop;
  int lock;
  sigset_t signals;
  struct loop_watch signal_watch;
  struct loop_timer wake_timer;  /* the handshakes' */
  struct loop_timer start_timer; /* then the one that waits for the end */
  struct identity_watch *identity_watch;
  struct loop_timer alive_timer;
  bool look_again; /* the identities could not be read */
  struct settle settle;
  uint64_t stop_by_ms;
  uint8_t token_key[CRYPTO_SHA256_LEN];
  struct identity_store *store;
  struct identity_names names;
  struct gateway *gateway;
  struct handshake *handshake;
  struct rest_registry *registry;
  struct rest *rest;
  struct rest_admin *admin;
  struct monitor *monitor;
  struct broker *broker;
  struct front *front;
  struct main_endpoint *endpoint;
  bool ready;
  bool stopping;
  struct dstream_end end; /* why it ended; status 0: as asked */
};

/* ---- what a service manager is told ---- */

static void tell(struct hub *hub, enum hub_event event, const char *text) {
  if (hub->options->on_event != NULL)
    hub->options->on_event(hub->options->user, event, text);
}

static void on_alive(struct loop_timer *timer) {
  struct hub *hub = CONTAINER_OF(timer, struct hub, alive_timer);
  loop_timer_set(hub->loop, timer, hub->options->alive_ms, on_alive);
  tell(hub, HUB_ALIVE, NULL);
}

/* ---- the end ---- */

static void end_now(struct hub *hub) {
  dstream_loop_stop(hub->loop);
}

static void fail_start(struct hub *hub, const struct dstream_end *why) {
  if (hub->ready || hub->stopping)
    return;
  hub->end = *why;
  hub->stopping = true;
  end_now(hub);
}

static void on_stop_timer(struct loop_timer *timer) {
  struct hub *hub = CONTAINER_OF(timer, struct hub, start_timer);
  if (gateway_count(hub->gateway) == 0 || loop_now_ms() >= hub->stop_by_ms)
    end_now(hub);
  else
    loop_timer_set(hub->loop, timer, STOP_STEP_MS, on_stop_timer);
}

static void show_monitor(struct hub *hub) {
  struct monitor_parts parts = {.gateway = hub->gateway,
                                .handshake = hub->handshake,
                                .endpoint = hub->endpoint,
                                .broker = hub->broker,
                                .front = hub->front,
                                .store = hub->store,
                                .stopping = hub->stopping};
  monitor_look_at(hub->monitor, &parts);
}

static void begin_stop(struct hub *hub, const char *why) {
  if (hub->stopping) {
    end_now(hub); /* asked twice: at once */
    return;
  }
  hub->stopping = true;
  show_monitor(hub);
  char text[64];
  snprintf(text, sizeof text, "%s: ending %u streams", why,
           gateway_count(hub->gateway));
  tell(hub, HUB_STOPPING, text);
  loop_log(hub->loop, DSTREAM_LOG_INFO, "%s", text);
  front_stop_listening(hub->front);
  handshake_stop(hub->handshake);
  gateway_shutdown(hub->gateway);
  hub->stop_by_ms = loop_now_ms() + STOP_MS;
  loop_timer_set(hub->loop, &hub->start_timer, STOP_STEP_MS, on_stop_timer);
}

static void reload(struct hub *hub) {
  struct dstream_end error = {0};
  tell(hub, HUB_RELOADING, NULL);
  monitor_reload(hub->monitor);
  if (front_reload(hub->front, &error) == DSTREAM_OK)
    loop_log(hub->loop, DSTREAM_LOG_INFO, "certificate reread");
  else
    loop_log(hub->loop, DSTREAM_LOG_ERROR,
             "the certificate could not be reread, the old one stays: %s",
             error.text);
  tell(hub, HUB_RELOADED, NULL);
}

static void on_signal(struct loop_watch *watch, unsigned events) {
  struct hub *hub = CONTAINER_OF(watch, struct hub, signal_watch);
  struct signalfd_siginfo info;
  if ((events & LOOP_GONE) ||
      read(watch->fd, &info, sizeof info) != (ssize_t)sizeof info)
    return;
  if (info.ssi_signo == SIGHUP)
    reload(hub);
  else
    begin_stop(hub, info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
}

static int watch_signals(struct hub *hub) {
  int fd = signalfd(-1, &hub->signals, SFD_NONBLOCK | SFD_CLOEXEC);
  if (fd < 0)
    return DSTREAM_ESYSTEM;
  int status = loop_watch_start(hub->loop, &hub->signal_watch, fd, on_signal);
  if (status == DSTREAM_OK)
    loop_watch_want(&hub->signal_watch, LOOP_READ);
  return status;
}

/* ---- what the handshake asks of the rest ---- */

static uint64_t world_now_ms(void *user) {
  (void)user;
  return loop_now_ms();
}

static uint64_t world_now_s(void *user) {
  struct hub *hub = user;
  return gateway_now_s(hub->gateway);
}

static void on_wake(struct loop_timer *timer) {
  struct hub *hub = CONTAINER_OF(timer, struct hub, wake_timer);
  handshake_tick(hub->handshake);
}

static void world_wake_at(void *user, uint64_t at_ms) {
  struct hub *hub = user;
  uint64_t now = loop_now_ms();
  loop_timer_set(hub->loop, &hub->wake_timer, at_ms > now ? at_ms - now : 0,
                 on_wake);
}

static enum handshake_device world_find_device(void *user, const char *id) {
  struct hub *hub = user;
  bool enabled = false;
  switch (identity_known(hub->store, id, &enabled)) {
  case DSTREAM_OK:
    return enabled ? HANDSHAKE_DEVICE_OK : HANDSHAKE_DEVICE_DISABLED;
  case DSTREAM_ENOTFOUND:
  case DSTREAM_EINVAL:
    return HANDSHAKE_DEVICE_UNKNOWN;
  default:
    return HANDSHAKE_DEVICE_ERROR;
  }
}

static bool world_is_up(void *user) {
  struct hub *hub = user;
  return main_endpoint_is_up(hub->endpoint);
}

static bool world_is_ready(void *user, const char *client_id) {
  struct hub *hub = user;
  return main_endpoint_is_ready(hub->endpoint, client_id);
}

static int world_ask(void *user, const char *client_id, const char *topic) {
  struct hub *hub = user;
  return main_endpoint_ask(hub->endpoint, client_id, topic);
}

static int world_expect(void *user, const struct gateway_stream *stream) {
  struct hub *hub = user;
  return gateway_expect(hub->gateway, stream);
}

static void world_set_eof(void *user, const char *stream_id) {
  struct hub *hub = user;
  gateway_set_eof(hub->gateway, stream_id, true);
}

static void world_forget(void *user, const char *stream_id,
                         const char *reason) {
  struct hub *hub = user;
  gateway_forget(hub->gateway, stream_id, reason);
}

static unsigned world_stream_count(void *user) {
  struct hub *hub = user;
  return gateway_count(hub->gateway);
}

static unsigned world_device_count(void *user, const char *client_id) {
  struct hub *hub = user;
  return gateway_device_count(hub->gateway, client_id);
}

static void world_log(void *user, enum dstream_log_level level,
                      const char *text) {
  struct hub *hub = user;
  loop_log(hub->loop, level, "handshake: %s", text);
}

static void world_tell(void *user, const struct activity_record *record) {
  struct hub *hub = user;
  monitor_tell(hub->monitor, record);
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
    .tell = world_tell,
};

/* ---- what the others tell ---- */

static void on_side(void *user, const char *stream_id, bool device_side) {
  struct hub *hub = user;
  settle_note(&hub->settle);
  handshake_on_side(hub->handshake, stream_id, device_side);
}

static void on_end(void *user, const struct gateway_report *report) {
  struct hub *hub = user;
  settle_note(&hub->settle);
  handshake_on_end(hub->handshake, report);
}

static void on_refused(void *user, const char *stream_id, bool device_side,
                       const char *peer, const char *why) {
  struct hub *hub = user;
  monitor_side_refused(hub->monitor, stream_id, device_side, peer, why);
}

static void on_presence(void *user, const char *device_id, bool ready) {
  struct hub *hub = user;
  loop_log(hub->loop, DSTREAM_LOG_INFO, "presence: device %s %s", device_id,
           ready ? "can be reached" : "can no longer be reached");
  settle_note(&hub->settle);
  if (ready)
    monitor_device_ready(hub->monitor);
  handshake_on_presence(hub->handshake, device_id, ready);
}

static void on_answer(void *user, const char *device_id, const char *topic) {
  struct hub *hub = user;
  handshake_on_answer(hub->handshake, device_id, topic);
}

/* ---- devices that were removed or disabled ---- */

/* Why the streams of a client end; NULL: they go on. */
static const char *judge_client(void *user, const char *client_id) {
  struct hub *hub = user;
  char id[IDENTITY_ID_MAX + 1];
  snprintf(id, sizeof id, "%.*s", (int)strcspn(client_id, "/"), client_id);
  switch (world_find_device(hub, id)) {
  case HANDSHAKE_DEVICE_OK:
    return NULL;
  case HANDSHAKE_DEVICE_UNKNOWN:
    return "the device was removed";
  case HANDSHAKE_DEVICE_DISABLED:
    return "the device is disabled";
  default:
    hub->look_again = true;
    return NULL;
  }
}

static void on_look(void *user) {
  struct hub *hub = user;
  if (!identity_changed(hub->store) && !hub->look_again)
    return;
  hub->look_again = false;
  gateway_judge(hub->gateway, 1008, judge_client, hub);
  main_endpoint_hurry(hub->endpoint);
  if (hub->look_again)
    identity_watch_again(hub->identity_watch);
}

/* ---- ready, and the broker ---- */

static void say_ready(struct hub *hub) {
  struct folder_ports ports = {front_https_port(hub->front),
                               front_mqtt_port(hub->front)};
  struct dstream_end why = {0};
  if (folder_ports_write(&ports, &why) != DSTREAM_OK) {
    fail_start(hub, &why);
    return;
  }
  hub->ready = true;
  loop_timer_cancel(&hub->start_timer);
  const char *address = hub->config->bind_address;
  if (address[0] == '\0')
    address = EVERY_ADDRESS;
  const char *left = strchr(address, ':') != NULL ? "[" : "";
  const char *right = left[0] != '\0' ? "]" : "";
  char line[2 * CONFIG_TEXT_SIZE + 64];
  int len = snprintf(line, sizeof line,
                     "ready https=%s%s%s:%u mqtt=%s%s%s:%u\n", left, address,
                     right, ports.https, left, address, right, ports.mqtt);
  (void)!write(STDOUT_FILENO, line, (size_t)len);
  snprintf(line, sizeof line, "https port %u, mqtt port %u", ports.https,
           ports.mqtt);
  loop_log(hub->loop, DSTREAM_LOG_INFO, "ready: %s", line);
  tell(hub, HUB_READY, line);
}

static void on_endpoint_up(void *user) {
  struct hub *hub = user;
  if (!hub->ready && !hub->stopping)
    say_ready(hub);
  else
    loop_log(hub->loop, DSTREAM_LOG_INFO, "the broker is back");
}

static void on_endpoint_down(void *user) {
  struct hub *hub = user;
  if (!hub->stopping)
    loop_log(hub->loop, DSTREAM_LOG_WARNING,
             "the broker is gone; running streams go on");
}

static void on_broker_log(void *user, enum dstream_log_level level,
                          const char *text) {
  struct hub *hub = user;
  loop_log(hub->loop, level, "broker: %s", text);
  monitor_broker_line(hub->monitor, text);
}

static void on_broker_down(void *user, const struct dstream_end *why) {
  struct hub *hub = user;
  monitor_broker_down(hub->monitor);
  if (hub->ready)
    loop_log(hub->loop, DSTREAM_LOG_ERROR, "%s", why->text);
  else
    fail_start(hub, why);
}

static void on_start_timer(struct loop_timer *timer) {
  struct hub *hub = CONTAINER_OF(timer, struct hub, start_timer);
  struct dstream_end why;
  end_set(&why, DSTREAM_ETIMEDOUT,
          "the broker did not come up within %d s; the log says more",
          START_MS / 1000);
  fail_start(hub, &why);
}

static void on_full(void *user, bool mqtt, unsigned open) {
  struct hub *hub = user;
  monitor_full(hub->monitor, mqtt, open);
}

static int take_http(void *user, int fd, const char *peer) {
  struct hub *hub = user;
  return rest_take(hub->rest, fd, peer);
}

/* ---- composition ---- */

/* What connections and streams need, and no more: libwebsockets makes tables of
 * as many entries as the process may have descriptors (16 bytes each), or of
 * 2560 when that is over ten million, which is "infinity" in some containers.
 */
static unsigned set_fd_limit(const struct config *config) {
  struct rlimit limit = {FDS_MIN, FDS_MIN};
  getrlimit(RLIMIT_NOFILE, &limit);
  rlim_t wanted = config_descriptors(config);
  limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return (unsigned)(limit.rlim_cur < wanted ? limit.rlim_cur : wanted);
}

static int make_loop(struct hub *hub) {
  struct dstream_loop_options options = {.size = sizeof options,
                                         .log = hub_log_write,
                                         .log_user = &hub->log,
                                         .log_level = hub_log_most(&hub->log),
                                         .max_fds = set_fd_limit(hub->config)};
  if (loop_new(&hub->loop, &options, loop_uv_backend()) == DSTREAM_OK)
    return DSTREAM_OK;
  int status = loop_new(&hub->loop, &options, NULL);
  if (status == DSTREAM_OK)
    loop_log(hub->loop, DSTREAM_LOG_WARNING,
             "libwebsockets' libuv plugin is missing, many idle connections "
             "will cost time; on Debian: apt-get install "
             "libwebsockets-evlib-uv");
  return status;
}

static void list_names(struct hub *hub) {
  const struct config *config = hub->config;
  hub->names.name[hub->names.count++] = config->host;
  for (size_t i = 0; i < config->alias_count; i++) {
    assert(hub->names.count < IDENTITY_NAMES_MAX);
    hub->names.name[hub->names.count++] = config->aliases[i];
  }
}

static int make_gateway(struct hub *hub) {
  const struct config_limits *limits = &hub->config->limits;
  struct gateway_options options = {
      .max_streams = limits->max_streams,
      .keepalive_ms = limits->keepalive_seconds == 0
                          ? -1
                          : (int)limits->keepalive_seconds * 1000,
      .idle_ms = (uint64_t)limits->idle_seconds * 1000,
      .lifetime_ms = (uint64_t)limits->lifetime_seconds * 1000,
      .drain_timeout_ms = (uint64_t)limits->drain_seconds * 1000};
  static const struct gateway_events events = {
      .on_side = on_side, .on_end = on_end, .on_refused = on_refused};
  return gateway_new(&hub->gateway, hub->loop, hub->token_key, &options,
                     &events, hub);
}

static int make_handshake(struct hub *hub) {
  const struct config_limits *limits = &hub->config->limits;
  struct handshake_options options = {
      .host = hub->config->host,
      .token_key = hub->token_key,
      .max_streams = limits->max_streams,
      .max_streams_per_device = limits->max_streams_per_device,
      .max_pending = limits->max_pending,
      .max_pending_per_device = limits->max_pending_per_device,
      .requests_per_second = limits->requests_per_second,
      .request_burst = limits->request_burst,
      .handshake_s = limits->handshake_seconds};
  return handshake_new(&hub->handshake, &options, &world, hub);
}

static bool is_connected(void *user, const char *device, int64_t *since_s) {
  struct hub *hub = user;
  uint64_t since_ms = 0;
  if (hub->endpoint == NULL ||
      !main_endpoint_since(hub->endpoint, device, &since_ms))
    return false;
  *since_s = (int64_t)time(NULL) - (int64_t)(loop_now_ms() - since_ms) / 1000;
  return true;
}

static int make_registry(struct hub *hub) {
  struct rest_registry_options options = {.database_file =
                                              hub->config->database_file,
                                          .store = hub->store,
                                          .names = &hub->names,
                                          .connected = is_connected,
                                          .user = hub};
  return rest_registry_new(&hub->registry, hub->loop, &options);
}

static int make_admin(struct hub *hub) {
  struct rest_admin_options options = {.activity =
                                           monitor_activity(hub->monitor),
                                       .gateway = hub->gateway,
                                       .endpoint = &hub->endpoint,
                                       .describe = monitor_describe,
                                       .tell = monitor_tell,
                                       .user = hub->monitor};
  return rest_admin_new(&hub->admin, hub->loop, &options);
}

static int make_rest(struct hub *hub) {
  const struct config_limits *limits = &hub->config->limits;
  struct rest_options options = {
      .http = {.max_connections = limits->max_http_connections,
               .max_body = limits->max_body_bytes,
               .head_ms = (uint64_t)limits->head_seconds * 1000},
      .store = hub->store,
      .names = hub->names,
      .handshake = hub->handshake,
      .ready = monitor_ready,
      .tell = monitor_tell,
      .user = hub->monitor};
  options.parts[0] = (struct rest_part){.rights = rest_admin_rights,
                                        .handle = rest_admin_handle,
                                        .user = hub->admin};
  if (hub->config->page_enabled)
    options.parts[1] =
        (struct rest_part){.rights = page_rights, .handle = page_handle};
  options.parts[REST_PARTS_MAX - 1] =
      (struct rest_part){rest_registry_rights, rest_registry_handle,
                         hub->registry, rest_registry_keeps, true};
  return rest_new(&hub->rest, hub->loop, &options);
}

static int make_interface(struct hub *hub) {
  int status = make_registry(hub);
  if (status == DSTREAM_OK)
    status = make_admin(hub);
  if (status == DSTREAM_OK)
    status = make_rest(hub);
  return status;
}

static int start_broker(struct hub *hub, const char *plugin,
                        struct dstream_end *end) {
  const struct config *config = hub->config;
  struct broker_options options = {
      .program =
          config->broker_program[0] == '\0' ? NULL : config->broker_program,
      .plugin = plugin,
      .identities = config->database_file,
      .names = hub->names,
      .max_clients = config->limits.max_connections};
  static const struct broker_events events = {.on_down = on_broker_down,
                                              .on_log = on_broker_log};
  return broker_start(&hub->broker, hub->loop, &options, &events, hub, end);
}

/* Any free port was asked for: the last run's, if they are still free, spare
 * everybody a new connection string. */
static int open_front(struct hub *hub, struct dstream_end *end) {
  const struct config *config = hub->config;
  struct front_options options = {
      .bind_address =
          config->bind_address[0] == '\0' ? NULL : config->bind_address,
      .https_port = (uint16_t)config->https_port,
      .mqtt_port = (uint16_t)config->mqtt_port,
      .cert_file = config->certificate_file,
      .key_file = config->key_file,
      .broker_socket = broker_device_socket(hub->broker),
      .broker_secret = broker_secret(hub->broker),
      .device_ca_file =
          config->device_ca_file[0] == '\0' ? NULL : config->device_ca_file,
      .max_connections = config->limits.max_connections,
      .handshake_ms = (uint64_t)config->limits.head_seconds * 1000,
      .gateway = hub->gateway,
      .take_http = take_http,
      .on_full = on_full,
      .user = hub};
  struct folder_ports last = {0, 0};
  if (folder_ports_read(&last) == DSTREAM_OK) {
    struct front_options same = options;
    if (same.https_port == 0)
      same.https_port = last.https;
    if (same.mqtt_port == 0)
      same.mqtt_port = last.mqtt;
    if (front_new(&hub->front, hub->loop, &same, NULL) == DSTREAM_OK)
      return DSTREAM_OK;
  }
  return front_new(&hub->front, hub->loop, &options, end);
}

static int open_endpoint(struct hub *hub) {
  static const struct main_endpoint_events events = {.on_presence = on_presence,
                                                     .on_answer = on_answer,
                                                     .on_up = on_endpoint_up,
                                                     .on_down =
                                                         on_endpoint_down};
  return main_endpoint_new(&hub->endpoint, hub->loop,
                           broker_hub_socket(hub->broker),
                           broker_secret(hub->broker), &events, hub);
}

static void warn_open(void *user, const char *path) {
  struct hub *hub = user;
  loop_log(hub->loop, DSTREAM_LOG_WARNING,
           "everybody on this machine may read or change the secrets in "
           "%s; \"chmod 600\" it",
           path);
}

static int start(struct hub *hub, const char *plugin, struct dstream_end *end) {
  int status = crypto_random(hub->token_key, sizeof hub->token_key);
  if (status == DSTREAM_OK)
    status = make_loop(hub);
  settle_begin(&hub->settle, hub->loop);
  if (status == DSTREAM_OK)
    status = monitor_new(&hub->monitor, hub->loop, hub->config, end);
  if (status == DSTREAM_OK)
    status = watch_signals(hub);
  if (status == DSTREAM_OK)
    status = identity_open(&hub->store, hub->config->database_file, true, end);
  if (status == DSTREAM_OK)
    folder_find_open(hub->config, warn_open, hub);
  if (status == DSTREAM_OK)
    status = make_gateway(hub);
  if (status == DSTREAM_OK)
    status = make_handshake(hub);
  if (status == DSTREAM_OK)
    status = make_interface(hub);
  if (status == DSTREAM_OK)
    status = start_broker(hub, plugin, end);
  if (status == DSTREAM_OK)
    status = open_front(hub, end);
  if (status != DSTREAM_OK)
    return status;
  handshake_set_port(hub->handshake, front_https_port(hub->front));
  loop_timer_set(hub->loop, &hub->start_timer, START_MS, on_start_timer);
  if (hub->options->alive_ms > 0)
    on_alive(&hub->alive_timer);
  status = open_endpoint(hub);
  show_monitor(hub);
  if (status == DSTREAM_OK)
    status = identity_watch_new(&hub->identity_watch, hub->loop,
                                hub->config->database_file, NULL, on_look, hub);
  return status;
}

/* In the reverse order, whatever there is. */
static void clean_up(struct hub *hub) {
  if (hub->loop != NULL) {
    loop_timer_cancel(&hub->wake_timer);
    loop_timer_cancel(&hub->alive_timer);
    loop_timer_cancel(&hub->start_timer);
    loop_watch_close(&hub->signal_watch);
  }
  identity_watch_free(hub->identity_watch);
  main_endpoint_free(hub->endpoint);
  rest_free(hub->rest);
  rest_admin_free(hub->admin);
  rest_registry_free(hub->registry);
  front_free(hub->front);
  gateway_free(hub->gateway);
  handshake_free(hub->handshake);
  broker_stop(hub->broker);
  monitor_free(hub->monitor);
  identity_close(hub->store);
  settle_end(&hub->settle);
  dstream_loop_free(hub->loop);
  crypto_wipe(hub->token_key, sizeof hub->token_key);
  if (hub->lock >= 0)
    close(hub->lock);
}

static void take_signals(struct hub *hub) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN); /* a full log or disk is an error of write */
  sigemptyset(&hub->signals);
  sigaddset(&hub->signals, SIGTERM);
  sigaddset(&hub->signals, SIGINT);
  sigaddset(&hub->signals, SIGHUP);
  sigprocmask(SIG_BLOCK, &hub->signals, NULL);
}

int hub_run(const struct hub_options *options, struct dstream_end *end) {
  struct hub hub;
  memset(&hub, 0, sizeof hub);
  hub.config = options->config;
  hub.options = options;
  hub.lock = -1;
  hub.log.fd = STDERR_FILENO;
  hub.log.journal = options->journal;
  for (size_t i = 0; i < LOG_PARTS; i++)
    hub.log.level[i] = config_log_level(hub.config, (enum log_part)i);
  take_signals(&hub);
  list_names(&hub);
  int status = folder_lock(&hub.lock, end);
  if (status == DSTREAM_OK)
    status = start(&hub, options->plugin, end);
  if (status == DSTREAM_OK)
    status = dstream_loop_run(hub.loop);
  if (status == DSTREAM_OK && hub.end.status != DSTREAM_OK) {
    status = hub.end.status;
    *end = hub.end;
  }
  clean_up(&hub);
  if (status == DSTREAM_OK)
    hub_log_write(&hub.log, DSTREAM_LOG_INFO, "stopped");
  return status;
}
