/* dstream-agent - offers local addresses to device streams. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <dstream/device.h>
#include <dstream/proxy.h>

#include "core/container.h"
#include "core/end.h"
#include "net/loop.h"
#include "tools/agent_config.h"
#include "tools/agent_log.h"
#include "tools/agent_options.h"
#include "tools/cli.h"
#include "tools/notify.h"
#include "net/settle.h"

#define FDS_MIN        64
#define FDS_PER_STREAM 4 /* two, and twice as many while they hang up */
#define STATUS_MS      1000
/* The agent's own limit is the one that counts: it can change. */
#define DEVICE_STREAMS_MAX 65536

struct agent {
  const struct agent_options *options;
  struct agent_config config;
  struct agent_log log;
  struct notify notify;
  dstream_loop *loop;
  dstream_device *device;
  dstream_targets *targets;
  struct cli_signals *signals;
  struct loop_timer watchdog_timer;
  struct settle settle;
  struct loop_timer status_timer; /* set: there is news for STATUS */
  unsigned fds;                   /* how many descriptors there may be */
  enum dstream_device_state state;
  struct dstream_end lost; /* why it is not connected */
  uint64_t lost_ms;        /* when that began; 0: it did not */
  bool ready;              /* it was, once */
  bool told_refused;       /* of this outage */
  bool stopping;
};

/* ---- the service manager ---- */

static void send_status(struct agent *agent) {
  const char *id = dstream_device_id(agent->device);
  unsigned count = dstream_targets_count(agent->targets);
  if (agent->stopping)
    notify_send(&agent->notify, "STATUS=ending %u streams", count);
  else if (agent->lost_ms != 0)
    notify_send(&agent->notify, "STATUS=%s is not connected, %u streams: %s",
                id, count, agent->lost.text);
  else if (agent->ready)
    notify_send(&agent->notify, "STATUS=connected as %s, %u streams", id,
                count);
  else
    notify_send(&agent->notify, "STATUS=connecting as %s", id);
}

static void on_status(struct loop_timer *timer) {
  struct agent *agent = CONTAINER_OF(timer, struct agent, status_timer);
  send_status(agent);
}

/* Soon, and once for all that happens until then. */
static void status_changed(struct agent *agent) {
  if (notify_wanted(&agent->notify))
    loop_timer_set(agent->loop, &agent->status_timer, STATUS_MS, on_status);
}

static void on_watchdog(struct loop_timer *timer) {
  struct agent *agent = CONTAINER_OF(timer, struct agent, watchdog_timer);
  notify_send(&agent->notify, "WATCHDOG=1");
  loop_timer_set(agent->loop, timer, agent->notify.watchdog_ms, on_watchdog);
}

/* ---- what the device tells ---- */

static void say_ready(struct agent *agent) {
  const char *id = dstream_device_id(agent->device);
  agent->ready = true;
  agent_log_line(&agent->log, DSTREAM_LOG_INFO, "connected as %s", id);
  printf("ready %s\n", id);
  cli_printed();
  notify_send(&agent->notify, "READY=1\nSTATUS=connected as %s, 0 streams", id);
}

static void say_back(struct agent *agent) {
  uint64_t ms = loop_now_ms() - agent->lost_ms;
  agent_log_line(
      &agent->log, DSTREAM_LOG_INFO, "connected again as %s, after %llu.%llu s",
      dstream_device_id(agent->device), (unsigned long long)(ms / 1000),
      (unsigned long long)(ms % 1000 / 100));
}

/* MQTT 3.1.1 3.2.2.3: 4 is a bad user name or password, 5 not authorized.  The
 * library has said so, and that it tries again; once in an outage this says
 * what somebody has to do. */
static void say_refused(struct agent *agent) {
  if (agent->told_refused)
    return;
  agent->told_refused = true;
  agent_log_line(&agent->log, DSTREAM_LOG_ERROR,
                 "the hub does not accept this identity; see that device %s "
                 "exists there and is enabled, that the key in the connection "
                 "string is its key, and that this machine's clock is right",
                 dstream_device_id(agent->device));
}

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  struct agent *agent = user;
  (void)device;
  agent->state = state;
  if (agent->stopping)
    return;
  if (cause != NULL) {
    agent->lost = *cause;
    if (agent->lost_ms == 0)
      agent->lost_ms = loop_now_ms();
    if (cause->mqtt_code == 4 || cause->mqtt_code == 5)
      say_refused(agent);
  } else if (state == DSTREAM_DEVICE_READY) {
    if (!agent->ready)
      say_ready(agent);
    else if (agent->lost_ms != 0)
      say_back(agent);
    agent->lost_ms = 0;
    agent->told_refused = false;
  }
  status_changed(agent);
}

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  struct agent *agent = user;
  dstream_targets_serve(agent->targets, device, request);
}

static void on_stopped(dstream_device *device, void *user) {
  struct agent *agent = user;
  (void)device;
  dstream_loop_stop(agent->loop);
}

static void on_event(void *user, const struct dstream_proxy_event *event) {
  struct agent *agent = user;
  agent_log_event(&agent->log, event);
  settle_note(&agent->settle);
  status_changed(agent);
}

/* ---- signals ---- */

/* What was asked for at the start is what libwebsockets made tables for. */
static void warn_descriptors(const struct agent *agent) {
  unsigned most = (agent->fds - FDS_MIN) / FDS_PER_STREAM;
  if (agent->config.max_streams > most)
    agent_log_line(&agent->log, DSTREAM_LOG_WARNING,
                   "maxStreams is %u, but with %u file descriptors no more "
                   "than %u streams are sure to work; start it again with a "
                   "higher limit (ulimit -n, LimitNOFILE=)",
                   agent->config.max_streams, agent->fds, most);
}

static void warn_restart(const struct agent *agent,
                         const struct agent_config *fresh) {
  for (size_t i = 0; i < agent_config_count(); i++) {
    const char *key = agent_config_needs_restart(i, &agent->config, fresh);
    if (key != NULL)
      agent_log_line(&agent->log, DSTREAM_LOG_WARNING,
                     "%s has changed; that takes effect after a restart", key);
  }
}

static int replace_targets(struct agent *agent,
                           const struct agent_config *fresh,
                           struct dstream_end *error) {
  struct dstream_targets_options targets;
  struct dstream_target *table = NULL;
  int status = agent_config_targets(fresh, &targets, &table);
  if (status == DSTREAM_OK)
    status = dstream_targets_replace(agent->targets, &targets, error);
  else
    end_set(error, status, "%s", dstream_status_text(status));
  free(table);
  return status;
}

/* A file that serves nothing is somebody's way to close the door: it is taken,
 * though nobody can start with it. */
static void take_config(struct agent *agent, struct agent_config *fresh) {
  warn_restart(agent, fresh);
  agent_config_clear(&agent->config);
  agent->config = *fresh;
  agent->log.level = fresh->log_level;
  if (fresh->target_count + fresh->allow_count == 0)
    agent_log_line(&agent->log, DSTREAM_LOG_WARNING,
                   "nothing is served any more: there is no target and no "
                   "pattern");
  warn_descriptors(agent);
  agent_log_line(
      &agent->log, DSTREAM_LOG_INFO, "%s reread: %zu targets, %zu patterns",
      agent->options->config_file, fresh->target_count, fresh->allow_count);
}

static void reload(struct agent *agent) {
  struct agent_config fresh;
  struct dstream_end error = {0};
  if (agent->options->config_file == NULL) {
    agent_log_line(&agent->log, DSTREAM_LOG_WARNING,
                   "SIGHUP: there is no --config FILE to reread");
    return;
  }
  if (agent->ready)
    notify_reloading(&agent->notify);
  int status = agent_options_config(agent->options, &fresh, &error);
  if (status == DSTREAM_OK) {
    status = replace_targets(agent, &fresh, &error);
    if (status == DSTREAM_OK)
      take_config(agent, &fresh);
    else
      agent_config_clear(&fresh);
  }
  if (status != DSTREAM_OK)
    agent_log_line(&agent->log, DSTREAM_LOG_ERROR,
                   "the old configuration stays: %s", error.text);
  if (agent->ready)
    notify_send(&agent->notify, "READY=1");
}

static void on_signal(void *user, int signal) {
  struct agent *agent = user;
  if (signal == SIGHUP) {
    if (!agent->stopping)
      reload(agent);
    return;
  }
  if (agent->stopping)
    _exit(CLI_DONE);
  agent->stopping = true;
  agent_log_line(&agent->log, DSTREAM_LOG_INFO, "%s: ending %u streams",
                 signal == SIGINT ? "SIGINT" : "SIGTERM",
                 dstream_targets_count(agent->targets));
  notify_send(&agent->notify, "STOPPING=1");
  send_status(agent);
  dstream_device_stop(agent->device);
}

/* ---- composition ---- */

/* As many as it needs and no more: libwebsockets makes tables of as many
 * entries as the process may have descriptors. */
static void set_fd_limit(struct agent *agent) {
  struct rlimit limit = {FDS_MIN, FDS_MIN};
  rlim_t wanted = FDS_MIN + (rlim_t)FDS_PER_STREAM * agent->config.max_streams;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  agent->fds = (unsigned)(limit.rlim_cur < wanted ? limit.rlim_cur : wanted);
  if (agent->fds < FDS_MIN)
    agent->fds = FDS_MIN;
}

static int make_loop(struct agent *agent, struct dstream_end *error) {
  set_fd_limit(agent);
  warn_descriptors(agent);
  const struct dstream_loop_options options = {
      .size = sizeof options,
      .log = agent_log_library,
      .log_user = &agent->log,
      .log_level = DSTREAM_LOG_DEBUG, /* the log has its own, which changes */
      .max_fds = agent->fds};
  int status = cli_loop_new(&agent->loop, &options);
  if (status == DSTREAM_OK)
    agent_log_begin(&agent->log, agent->loop);
  else
    end_set(error, status, "can't make a loop: %s",
            dstream_status_text(status));
  settle_begin(&agent->settle, agent->loop);
  return status;
}

static int make_targets(struct agent *agent, struct dstream_end *error) {
  struct dstream_targets_options options;
  struct dstream_target *table = NULL;
  int status = agent_config_targets(&agent->config, &options, &table);
  if (status == DSTREAM_OK)
    status = dstream_targets_new(&agent->targets, agent->loop, &options,
                                 on_event, agent, error);
  free(table);
  return status;
}

static int make_device(struct agent *agent, const char *connection_string,
                       struct dstream_end *error) {
  static const struct dstream_device_callbacks callbacks = {
      .on_state = on_state, .on_request = on_request, .on_stopped = on_stopped};
  const struct agent_config *config = &agent->config;
  const struct cli_source source = {.ca_file = config->ca_file};
  const struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = connection_string,
      .loop = agent->loop,
      .tls = {.size = sizeof options.tls, .ca_file = cli_ca_file(&source)},
      .cert_file = config->cert_file,
      .key_file = config->key_file,
      .mqtt_over_websocket = config->mqtt_over_websocket,
      .http_proxy = config->http_proxy,
      .product_info = "dstream-agent/" DSTREAM_VERSION,
      .max_streams = DEVICE_STREAMS_MAX,
      .max_requests = config->max_requests};
  return dstream_device_new(&agent->device, &options, &callbacks, agent, error);
}

static int make(struct agent *agent, const char *connection_string,
                struct dstream_end *error) {
  int status = make_loop(agent, error);
  if (status == DSTREAM_OK) {
    status = cli_signals_new(&agent->signals, agent->loop, on_signal, agent);
    if (status != DSTREAM_OK)
      end_set(error, status, "can't wait for signals: %s",
              dstream_status_text(status));
  }
  if (status == DSTREAM_OK)
    status = make_targets(agent, error);
  if (status == DSTREAM_OK)
    status = make_device(agent, connection_string, error);
  return status;
}

static void clean_up(struct agent *agent) {
  loop_timer_cancel(&agent->watchdog_timer);
  loop_timer_cancel(&agent->status_timer);
  settle_end(&agent->settle);
  agent_log_end(&agent->log);
  cli_signals_free(agent->signals);
  dstream_device_free(agent->device);
  dstream_targets_free(agent->targets);
  dstream_loop_free(agent->loop);
}

static int run(struct agent *agent) {
  if (agent->notify.watchdog_ms > 0)
    on_watchdog(&agent->watchdog_timer);
  send_status(agent);
  dstream_device_start(agent->device);
  if (dstream_loop_run(agent->loop) != DSTREAM_OK)
    return cli_failed(&(struct dstream_end){.text = "the loop broke"});
  agent_log_line(&agent->log, DSTREAM_LOG_INFO, "stopped");
  return CLI_DONE;
}

static int checked(const struct agent *agent) {
  printf("ok: %s, %zu targets, %zu patterns\n",
         dstream_device_id(agent->device), agent->config.target_count,
         agent->config.allow_count);
  return cli_printed();
}

/* What starting again can't mend is wrong usage. */
static int exit_status(int status) {
  switch (status) {
  case DSTREAM_EINVAL:
  case DSTREAM_EFORMAT:
  case DSTREAM_ECONNSTRING:
    return CLI_USAGE;
  default:
    return CLI_FAILED;
  }
}

static int serve(struct agent *agent, char *connection_string) {
  struct dstream_end error = {0};
  int made = make(agent, connection_string, &error);
  cli_forget(connection_string);
  int status = CLI_DONE;
  if (made != DSTREAM_OK) {
    cli_failed(&error);
    status = exit_status(made);
  } else if (agent->options->check) {
    status = checked(agent);
  } else {
    status = run(agent);
  }
  clean_up(agent);
  return status;
}

/* The command line's, then the file's, then the environment's. */
static char *find_connection_string(const struct agent *agent,
                                    int *exit_status_out) {
  struct cli_source source = agent->options->source;
  if (source.connection_string == NULL && source.connection_string_file == NULL)
    source.connection_string_file = agent->config.connection_string_file;
  char *text = cli_connection_string(&source, exit_status_out);
  cli_hide(agent->options->secret);
  return text;
}

/* Of a device that has a certificate. */
static void warn_of_key(const struct agent_config *config) {
  const char *file =
      config->key_file != NULL ? config->key_file : config->cert_file;
  if (file != NULL)
    cli_warn_readable(file);
}

static int start(struct agent *agent) {
  struct dstream_end error = {0};
  int status = agent_options_config(agent->options, &agent->config, &error);
  if (status != DSTREAM_OK) {
    cli_failed(&error);
    return exit_status(status);
  }
  agent->log.level = agent->config.log_level;
  if (agent->config.target_count + agent->config.allow_count == 0)
    return cli_usage("nothing would be served; give --target NAME=ADDRESS, "
                     "--allow PATTERN, or a --config FILE that has some");
  warn_of_key(&agent->config);
  int result = CLI_FAILED;
  char *connection_string = find_connection_string(agent, &result);
  return connection_string == NULL ? result : serve(agent, connection_string);
}

int main(int argc, char **argv) {
  struct agent_options options;
  struct agent agent;
  cli_set_program("dstream-agent");
  int status = agent_options_parse(&options, argc, argv);
  if (status == CLI_DONE) {
    memset(&agent, 0, sizeof agent);
    agent.options = &options;
    notify_init(&agent.notify);
    status = start(&agent);
    agent_config_clear(&agent.config);
  } else if (status == -1) {
    status = cli_printed();
  }
  agent_options_clear(&options);
  return status;
}
