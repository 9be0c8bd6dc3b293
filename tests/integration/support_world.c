#include "integration/support_world.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/conn_string.h"
#include "core/sas.h"

/* ---- a device ---- */

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  struct world_device *d = user;
  (void)device;
  d->state = state;
  if (state == DSTREAM_DEVICE_READY)
    d->readies++;
  if (cause != NULL) {
    d->failures++;
    d->cause = *cause;
  }
}

static int accept_with(struct world_device *d, dstream_request *request) {
  assert_true(d->peer_count < WORLD_STREAMS_MAX);
  struct peer *peer = malloc(sizeof *peer);
  assert_non_null(peer);
  peer_init(peer, d->kind, d->to_send, d->to_receive);
  peer->eof_back = d->eof_back;
  int status = dstream_request_accept(request, NULL, &peer_callbacks, peer,
                                      &peer->stream);
  d->accept_status = status;
  if (status == DSTREAM_OK) {
    d->peers[d->peer_count++] = peer;
  } else {
    peer_clear(peer);
    free(peer);
  }
  return status;
}

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  struct world_device *d = user;
  (void)device;
  d->requests++;
  snprintf(d->last_name, sizeof d->last_name, "%s",
           dstream_request_name(request));
  switch (d->answer) {
  case ANSWER_ACCEPT:
    accept_with(d, request);
    break;
  case ANSWER_REJECT:
    dstream_request_reject(request, d->reason);
    break;
  case ANSWER_DEFER:
    dstream_request_defer(request);
    d->deferred = request;
    break;
  case ANSWER_NOTHING:
    break;
  }
}

static void on_stopped(dstream_device *device, void *user) {
  struct world_device *d = user;
  (void)device;
  d->stops++;
}

void world_device_start_with(struct world_device *d,
                             const struct dstream_device_options *options) {
  static const struct dstream_device_callbacks callbacks = {
      .on_state = on_state,
      .on_request = on_request,
      .on_stopped = on_stopped,
  };
  struct dstream_device_options o = *options;
  struct dstream_end error = {0};
  o.size = sizeof o;
  o.loop = test_loop;
  o.tls.size = sizeof o.tls;
  if (o.retry_min_ms == 0)
    o.retry_min_ms = 20;
  if (o.retry_max_ms == 0)
    o.retry_max_ms = 200;
  if (dstream_device_new(&d->device, &o, &callbacks, d, &error) != DSTREAM_OK)
    fail_msg("%s", error.text);
  assert_int_equal(dstream_device_start(d->device), DSTREAM_OK);
}

void world_device_start(struct world_device *d, const struct hub_fixture *hub,
                        const char *connection_string) {
  struct dstream_device_options options = {
      .connection_string = connection_string, .tls.ca_file = hub->ca_file};
  world_device_start_with(d, &options);
}

void world_device_wait_ready(struct world_device *d) {
  unsigned readies = d->readies;
  if (d->state == DSTREAM_DEVICE_READY)
    return;
  uint64_t until_ms = test_now_ms() + WAIT_DEFAULT_MS;
  while (d->readies == readies) {
    if (test_now_ms() > until_ms)
      fail_msg("the device is not ready: %s", d->cause.text);
    assert_int_equal(dstream_loop_step(test_loop, 50), 0);
  }
}

void world_device_new(struct world_device *d, struct hub_fixture *hub,
                      const char *id) {
  char text[CONN_STRING_MAX];
  assert_int_equal(hub_fixture_add_device(hub, id, text), 0);
  world_device_start(d, hub, text);
  world_device_wait_ready(d);
}

int world_device_accept(struct world_device *d) {
  dstream_request *request = d->deferred;
  assert_non_null(request);
  d->deferred = NULL;
  return accept_with(d, request);
}

static void clear_peers(struct world_device *d) {
  for (unsigned i = 0; i < d->peer_count; i++) {
    if (d->peers[i]->broken != NULL || d->peers[i]->closes != 1)
      fail_msg("stream %u of the device: on_close %u times, %s", i,
               d->peers[i]->closes,
               d->peers[i]->broken == NULL ? "in order" : d->peers[i]->broken);
    peer_clear(d->peers[i]);
    free(d->peers[i]);
  }
  d->peer_count = 0;
}

void world_device_reset(struct world_device *d) {
  for (unsigned i = 0; i < d->peer_count; i++)
    WAIT(d->peers[i]->closes > 0);
  clear_peers(d);
  d->answer = ANSWER_ACCEPT;
  d->reason = NULL;
  d->to_send = d->to_receive = 0;
  d->eof_back = false;
  d->requests = d->failures = 0;
  d->deferred = NULL;
}

void world_device_end(struct world_device *d) {
  if (d->device == NULL)
    return;
  dstream_device_stop(d->device);
  WAIT(d->stops == 1);
  assert_int_equal(d->state, DSTREAM_DEVICE_STOPPED);
  dstream_device_free(d->device);
  d->device = NULL;
  clear_peers(d);
}

/* ---- a service ---- */

dstream_service *world_service(const struct hub_fixture *hub,
                               const char *connection_string) {
  struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string =
          connection_string != NULL ? connection_string : hub->service_string,
      .loop = test_loop,
      .tls = {.size = sizeof options.tls, .ca_file = hub->ca_file}};
  struct dstream_end error = {0};
  dstream_service *service = NULL;
  if (dstream_service_new(&service, &options, &error) != DSTREAM_OK)
    fail_msg("%s", error.text);
  return service;
}

void world_open(dstream_service *service, const struct call *call,
                struct peer *peer) {
  struct dstream_open_options options = {.size = sizeof options,
                                         .module_id = call->module,
                                         .connect_wait_s = call->connect_wait_s,
                                         .response_wait_s =
                                             call->response_wait_s};
  assert_int_equal(dstream_service_open_stream(
                       service, call->device,
                       call->name != NULL ? call->name : "echo", &options,
                       &peer_callbacks, peer, &peer->stream),
                   DSTREAM_OK);
}

void world_open_fails(dstream_service *service, const struct call *call,
                      int status, int hub_code, const char *text) {
  struct peer peer;
  peer_init(&peer, PEER_SENDER, 10, 10);
  world_open(service, call, &peer);
  WAIT(peer.closes > 0);
  assert_peer_ended(&peer, false, status, text);
  assert_int_equal(peer.end.hub_code, hub_code);
  peer_clear(&peer);
}

void world_echo(dstream_service *service, const char *device, uint64_t bytes) {
  struct peer peer;
  struct call call = {.device = device};
  peer_init(&peer, PEER_SENDER, bytes, bytes);
  peer.close_when_done = true;
  world_open(service, &call, &peer);
  WAIT_MS(peer.closes > 0, 60000);
  assert_peer_ended(&peer, true, DSTREAM_OK, NULL);
  assert_same_bytes(&peer, &peer);
  assert_int_equal(peer.received, bytes);
  peer_clear(&peer);
}

/* ---- beside ---- */

void beside_start(struct beside *b, struct hub_fixture *hub,
                  const char *device_id) {
  memset(b, 0, sizeof *b);
  b->device.kind = PEER_ECHO;
  world_device_new(&b->device, hub, device_id);
  b->service = world_service(hub, NULL);
  peer_init(&b->peer, PEER_SENDER, 1000, 1000);
  struct call call = {.device = device_id};
  world_open(b->service, &call, &b->peer);
  wait_done(&b->peer);
}

void beside_check(struct beside *b) {
  assert_int_equal(b->peer.closes, 0);
  b->peer.to_receive += 5000;
  peer_send_more(&b->peer, 5000);
  wait_done(&b->peer);
  assert_same_bytes(&b->peer, &b->peer);
}

void beside_end(struct beside *b) {
  beside_check(b);
  dstream_stream_close(b->peer.stream);
  WAIT(b->peer.closes == 1);
  assert_peer_ended(&b->peer, true, DSTREAM_OK, NULL);
  peer_clear(&b->peer);
  dstream_service_free(b->service);
  world_device_end(&b->device);
}

/* ---- tokens ---- */

void world_sas(char *out, size_t size, const char *connection_string,
               const char *resource, int64_t lifetime_s, const char *policy) {
  struct conn_string parts;
  struct dstream_end error = {0};
  enum conn_string_kind kind = strstr(connection_string, "DeviceId=") != NULL
                                   ? CONN_STRING_DEVICE
                                   : CONN_STRING_SERVICE;
  if (conn_string_parse(&parts, connection_string, kind, &error) != 0)
    fail_msg("%s", error.text);
  assert_true(sas_make(out, size, resource, parts.key, parts.key_len,
                       (uint64_t)((int64_t)time(NULL) + lifetime_s), policy,
                       SAS_ENCODED_RESOURCE) > 0);
  conn_string_clear(&parts);
}

/* ---- programs ---- */

static void run_sample(const struct hub_fixture *hub, const char *sample,
                       const char *connection_string, const char *argument) {
  char path[1024];
  const char *build = getenv("DSTREAM_BINARY_DIR");
  snprintf(path, sizeof path, "%s/samples/%s", build != NULL ? build : ".",
           sample);
  setenv("DSTREAM_CONNECTION_STRING", connection_string, 1);
  setenv("DSTREAM_CA_FILE", hub->ca_file, 1);
  execl(path, sample, argument, (char *)NULL);
  _exit(127);
}

void child_start(struct child *child, const struct hub_fixture *hub,
                 const char *sample, const char *connection_string,
                 const char *argument) {
  int in[2];
  int out[2];
  assert_int_equal(pipe2(in, O_CLOEXEC), 0);
  assert_int_equal(pipe2(out, O_CLOEXEC), 0);
  pid_t parent = getpid();
  child->pid = fork();
  assert_true(child->pid >= 0);
  if (child->pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
      _exit(127);
    dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 2);
    run_sample(hub, sample, connection_string, argument);
  }
  close(in[0]);
  close(out[1]);
  child->in = in[1];
  child->out = out[0];
  fcntl(child->out, F_SETFL, O_NONBLOCK);
}

void child_wait_output(struct child *child, const char *text) {
  char seen[4096] = "";
  size_t len = 0;
  uint64_t until_ms = test_now_ms() + WAIT_DEFAULT_MS;
  while (strstr(seen, text) == NULL) {
    ssize_t n = read(child->out, seen + len, sizeof seen - 1 - len);
    if (n > 0)
      len += (size_t)n;
    seen[len] = '\0';
    if (n == 0 || test_now_ms() > until_ms)
      fail_msg("the program did not say \"%s\" but \"%s\"", text, seen);
    assert_int_equal(dstream_loop_step(test_loop, 5), 0);
  }
}

void child_end(struct child *child, int signal_number) {
  if (child->pid <= 0)
    return;
  kill(child->pid, signal_number);
  int status;
  while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
    ;
  close(child->in);
  close(child->out);
  child->pid = 0;
}
