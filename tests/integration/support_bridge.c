#include "integration/support_bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/address.h"
#include "core/container.h"
#include "core/stream_url.h"
#include "net/http_call.h"
#include "net/stream.h"
#include "proxy/bridge.h"

#define BUFFER 65536

/* ---- one end of a socket ---- */

static void local_go_on(struct local *local);

static uint64_t next_random(struct local *local) {
  local->random ^= local->random << 13; /* xorshift64 */
  local->random ^= local->random >> 7;
  local->random ^= local->random << 17;
  return local->random;
}

static EVP_MD_CTX *new_sum(void) {
  EVP_MD_CTX *sum = EVP_MD_CTX_new();
  assert_non_null(sum);
  assert_int_equal(EVP_DigestInit_ex(sum, EVP_sha256(), NULL), 1);
  return sum;
}

static void local_over(struct local *local) {
  loop_watch_close(&local->watch);
  local->open = false;
}

static void local_broke(struct local *local) {
  local->resets++;
  local_over(local);
}

static void local_took(struct local *local, const uint8_t *data, size_t len) {
  for (size_t i = 0; i < len && local->received + i < sizeof local->first; i++)
    local->first[local->received + i] = data[i];
  EVP_DigestUpdate(local->received_sum, data, len);
  local->received += len;
  if (local->plan.kind == LOCAL_ECHO) {
    memcpy(local->buffer + local->buffer_len, data, len);
    local->buffer_len += len;
  }
}

static void local_read(struct local *local) {
  static uint8_t data[BUFFER];
  size_t room =
      local->plan.kind == LOCAL_ECHO ? BUFFER - local->buffer_len : sizeof data;
  size_t want = 1 + next_random(local) % 40000;
  if (room == 0)
    return;
  ssize_t n = recv(local->watch.fd, data, want < room ? want : room, 0);
  if (n > 0) {
    local_took(local, data, (size_t)n);
    if (local->plan.reset_on_data)
      local_reset(local);
  } else if (n == 0) {
    local->eofs++;
  } else if (errno != EAGAIN && errno != EINTR) {
    local_broke(local);
  }
}

/* How much of the buffer is to be sent now; a sender fills it. */
static size_t local_piece(struct local *local) {
  uint64_t left = local->plan.to_send - local->sent;
  if (local->plan.kind == LOCAL_ECHO)
    return local->buffer_len;
  if (local->buffer_len == 0 && left > 0) {
    size_t len = 1 + next_random(local) % 20000;
    local->buffer_len = len < left ? len : (size_t)left;
    for (size_t i = 0; i < local->buffer_len; i++)
      local->buffer[i] = (uint8_t)(next_random(local) >> 17);
  }
  return local->buffer_len;
}

static bool local_send_text(struct local *local) {
  const char *text = local->plan.text;
  if (text == NULL || local->text_sent == strlen(text))
    return true;
  ssize_t n = send(local->watch.fd, text + local->text_sent,
                   strlen(text) - local->text_sent, MSG_NOSIGNAL);
  if (n > 0)
    local->text_sent += (size_t)n;
  return local->text_sent == strlen(text);
}

static void local_send(struct local *local) {
  while (local_send_text(local) && local_piece(local) > 0) {
    ssize_t n =
        send(local->watch.fd, local->buffer, local->buffer_len, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno != EAGAIN && errno != EINTR)
        local_broke(local);
      return;
    }
    EVP_DigestUpdate(local->sent_sum, local->buffer, (size_t)n);
    local->sent += (uint64_t)n;
    local->buffer_len -= (size_t)n;
    memmove(local->buffer, local->buffer + n, local->buffer_len);
  }
}

static void local_check_eof(struct local *local) {
  bool sent = local->buffer_len == 0 && (local->plan.kind == LOCAL_ECHO ||
                                         local->sent >= local->plan.to_send);
  bool wanted =
      local->plan.eof_when_sent || (local->plan.eof_back && local->eofs > 0);
  if (!sent || !wanted || local->eof_done)
    return;
  local->eof_done = true;
  shutdown(local->watch.fd, SHUT_WR);
}

static void local_go_on(struct local *local) {
  if (local->open && !local->connecting && !local->eof_done)
    local_send(local);
  if (!local->open)
    return;
  if (!local->connecting)
    local_check_eof(local);
  bool room = local->plan.kind == LOCAL_SENDER || local->buffer_len < BUFFER;
  unsigned want = 0;
  if (!local->plan.stalled && local->eofs == 0 && room && !local->connecting)
    want |= LOOP_READ;
  if (local->connecting || local->buffer_len > 0)
    want |= LOOP_WRITE;
  loop_watch_want(&local->watch, want);
}

static void on_local(struct loop_watch *watch, unsigned events) {
  struct local *local = CONTAINER_OF(watch, struct local, watch);
  int error = 0;
  socklen_t len = sizeof error;
  if (events & LOOP_GONE) {
    local->open = false;
    return;
  }
  if (local->connecting) {
    getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    local->connecting = false;
    if (error != 0)
      local_broke(local);
    else
      local->connects++;
  } else if (events & LOOP_READ) {
    local_read(local);
  }
  local_go_on(local);
}

void local_adopt(struct local *local, int fd, const struct local_plan *plan) {
  static uint64_t seeds;
  memset(local, 0, sizeof *local);
  local->plan = *plan;
  local->random = 0x9e3779b97f4a7c15u ^ ++seeds;
  local->sent_sum = new_sum();
  local->received_sum = new_sum();
  local->buffer = malloc(BUFFER);
  assert_non_null(local->buffer);
  if (plan->buffer > 0) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &plan->buffer, sizeof plan->buffer);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &plan->buffer, sizeof plan->buffer);
  }
  assert_int_equal(loop_watch_start(test_loop, &local->watch, fd, on_local), 0);
  local->open = true;
  local_go_on(local);
}

static socklen_t fill_address(struct sockaddr_storage *out, const char *text) {
  struct address address;
  struct dstream_end error;
  memset(out, 0, sizeof *out);
  if (address_parse_listen(&address, text, &error) != 0)
    fail_msg("%s", error.text);
  if (address.is_unix) {
    struct sockaddr_un *to = (struct sockaddr_un *)out;
    to->sun_family = AF_UNIX;
    snprintf(to->sun_path, sizeof to->sun_path, "%.107s", address.host);
    return sizeof *to;
  }
  struct sockaddr_in *v4 = (struct sockaddr_in *)out;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
  if (inet_pton(AF_INET, address.host, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(address.port);
    return sizeof *v4;
  }
  memset(out, 0, sizeof *out);
  assert_int_equal(inet_pton(AF_INET6, address.host, &v6->sin6_addr), 1);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(address.port);
  return sizeof *v6;
}

void local_connect(struct local *local, const char *address,
                   const struct local_plan *plan) {
  struct sockaddr_storage to;
  socklen_t len = fill_address(&to, address);
  int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  assert_true(fd >= 0);
  if (plan->buffer > 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &plan->buffer, sizeof plan->buffer);
  int rc = connect(fd, (const struct sockaddr *)&to, len);
  assert_true(rc == 0 || errno == EINPROGRESS);
  static const struct local_plan nothing = {.stalled = true};
  local_adopt(local, fd, &nothing);
  local->plan = *plan;
  local->connecting = rc != 0;
  local->connects = rc == 0 ? 1 : 0;
  local_go_on(local);
}

void local_send_more(struct local *local, uint64_t bytes) {
  local->plan.to_send += bytes;
  local_go_on(local);
}

void local_write(struct local *local, const void *data, size_t len) {
  assert_int_equal(send(local->watch.fd, data, len, MSG_NOSIGNAL), len);
}

void local_unstall(struct local *local) {
  local->plan.stalled = false;
  local_go_on(local);
}

void local_eof(struct local *local) {
  local->plan.eof_when_sent = true;
  local_go_on(local);
}

void local_reset(struct local *local) {
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  setsockopt(local->watch.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  local_over(local);
}

void local_close(struct local *local) {
  if (local->open)
    local_over(local);
  EVP_MD_CTX_free(local->sent_sum);
  EVP_MD_CTX_free(local->received_sum);
  free(local->buffer);
  local->sent_sum = local->received_sum = NULL;
  local->buffer = NULL;
}

static void same(EVP_MD_CTX *a, uint64_t a_len, EVP_MD_CTX *b, uint64_t b_len) {
  unsigned char sums[2][EVP_MAX_MD_SIZE];
  EVP_MD_CTX *from[2] = {a, b};
  if (a_len != b_len)
    fail_msg("%llu bytes were sent, %llu came", (unsigned long long)a_len,
             (unsigned long long)b_len);
  for (int i = 0; i < 2; i++) {
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    assert_int_equal(EVP_MD_CTX_copy_ex(copy, from[i]), 1);
    assert_int_equal(EVP_DigestFinal_ex(copy, sums[i], NULL), 1);
    EVP_MD_CTX_free(copy);
  }
  assert_memory_equal(sums[0], sums[1], 32);
}

void assert_local_to_local(const struct local *from, const struct local *to) {
  same(from->sent_sum, from->sent, to->received_sum, to->received);
}

void assert_local_to_peer(const struct local *from, const struct peer *to) {
  same(from->sent_sum, from->sent, to->received_sum, to->received);
}

void assert_peer_to_local(const struct peer *from, const struct local *to) {
  same(from->sent_sum, from->sent, to->received_sum, to->received);
}

/* ---- a server ---- */

static void on_server(struct loop_watch *watch, unsigned events) {
  struct server *server = CONTAINER_OF(watch, struct server, watch);
  if (events & LOOP_GONE)
    return;
  int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0)
    return;
  assert_true(server->count < LOCALS_MAX);
  struct local *local = malloc(sizeof *local);
  assert_non_null(local);
  server->locals[server->count++] = local;
  local_adopt(local, fd, &server->plan);
}

void server_start(struct server *server, const char *listen_on,
                  const struct local_plan *plan) {
  struct sockaddr_storage at;
  socklen_t len = fill_address(&at, listen_on);
  int one = 1;
  memset(server, 0, sizeof *server);
  server->plan = *plan;
  int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  assert_true(fd >= 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (plan->buffer > 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &plan->buffer, sizeof plan->buffer);
  assert_int_equal(bind(fd, (const struct sockaddr *)&at, len), 0);
  assert_int_equal(listen(fd, 512), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
  if (at.ss_family == AF_UNIX)
    snprintf(server->address, sizeof server->address, "%.127s", listen_on);
  else if (at.ss_family == AF_INET6)
    snprintf(server->address, sizeof server->address, "[::1]:%u",
             (unsigned)ntohs(((struct sockaddr_in6 *)&at)->sin6_port));
  else
    snprintf(server->address, sizeof server->address, "127.0.0.1:%u",
             (unsigned)ntohs(((struct sockaddr_in *)&at)->sin_port));
  assert_int_equal(loop_watch_start(test_loop, &server->watch, fd, on_server),
                   0);
  loop_watch_want(&server->watch, LOOP_READ);
}

void server_forget(struct server *server) {
  for (unsigned i = 0; i < server->count; i++) {
    local_close(server->locals[i]);
    free(server->locals[i]);
  }
  server->count = 0;
}

void server_stop(struct server *server) {
  server_forget(server);
  loop_watch_close(&server->watch);
}

void dead_address(char *out, size_t size) {
  struct server server;
  static const struct local_plan plan = {.kind = LOCAL_SENDER};
  server_start(&server, "127.0.0.1:0", &plan);
  snprintf(out, size, "%s", server.address);
  server_stop(&server);
  for (int i = 0; i < 5; i++) /* the loop closes it soon */
    assert_int_equal(dstream_loop_step(test_loop, 10), 0);
}

/* ---- what was told ---- */

void events_take(void *user, const struct dstream_proxy_event *event) {
  struct events *e = user;
  e->count[event->kind]++;
  e->kind = event->kind;
  e->open = event->open;
  snprintf(e->device, sizeof e->device, "%s", event->device);
  snprintf(e->name, sizeof e->name, "%s", event->name);
  snprintf(e->address, sizeof e->address, "%s", event->address);
  if (event->result != NULL)
    e->result = *event->result;
  if (getenv("DSTREAM_TEST_LOG") != NULL)
    fprintf(stderr, "event %d %s \"%s\" (%s), %u open: %s\n", (int)event->kind,
            event->device, event->name, event->address, event->open,
            event->result != NULL ? event->result->end.text : "open");
}

/* ---- a device that serves targets ---- */

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  struct target_device *d = user;
  (void)device;
  (void)cause;
  d->ready = state == DSTREAM_DEVICE_READY;
}

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  struct target_device *d = user;
  dstream_targets_serve(d->targets, device, request);
}

static void on_stopped(dstream_device *device, void *user) {
  struct target_device *d = user;
  (void)device;
  d->stops++;
}

void target_device_start(struct target_device *d, struct hub_fixture *hub,
                         const char *id,
                         const struct dstream_targets_options *options) {
  static const struct dstream_device_callbacks callbacks = {
      .on_state = on_state, .on_request = on_request, .on_stopped = on_stopped};
  char text[CONN_STRING_MAX];
  struct dstream_end error = {0};
  struct dstream_targets_options o = *options;
  memset(d, 0, sizeof *d);
  o.size = sizeof o;
  if (dstream_targets_new(&d->targets, test_loop, &o, events_take, &d->events,
                          &error) != 0)
    fail_msg("%s", error.text);
  assert_int_equal(hub_fixture_add_device(hub, id, text), 0);
  const struct dstream_device_options device_options = {
      .size = sizeof device_options,
      .connection_string = text,
      .loop = test_loop,
      .tls = {.size = sizeof device_options.tls, .ca_file = hub->ca_file},
      .retry_min_ms = 20,
      .retry_max_ms = 200,
      .max_streams = 1000,
      .max_requests = 1000};
  if (dstream_device_new(&d->device, &device_options, &callbacks, d, &error) !=
      0)
    fail_msg("%s", error.text);
  assert_int_equal(dstream_device_start(d->device), 0);
  WAIT(d->ready);
}

void target_device_replace(struct target_device *d,
                           const struct dstream_targets_options *options) {
  struct dstream_end error = {0};
  struct dstream_targets_options o = *options;
  o.size = sizeof o;
  if (dstream_targets_replace(d->targets, &o, &error) != 0)
    fail_msg("%s", error.text);
  memset(&d->events, 0, sizeof d->events);
}

void target_device_end(struct target_device *d) {
  if (d->device == NULL)
    return;
  dstream_device_stop(d->device);
  WAIT(d->stops == 1);
  dstream_targets_free(d->targets);
  dstream_device_free(d->device);
  d->device = NULL;
}

/* ---- a service that knows no half-close ---- */

struct plain_service {
  struct tls_config *tls;
  struct http_call *call;
  dstream_stream *stream;
};

static void on_reply(void *user, const struct http_head *head, const char *body,
                     size_t body_len, const struct dstream_end *error) {
  struct plain_service *plain = user;
  char text[2][5000];
  static const char *const names[] = {"iothub-streaming-url",
                                      "iothub-streaming-auth-token"};
  struct stream_url url;
  (void)body;
  (void)body_len;
  plain->call = NULL;
  if (error != NULL)
    fail_msg("%s", error->text);
  assert_int_equal(head->status, 200);
  for (int i = 0; i < 2; i++) {
    struct slice value = http_head_get(head, names[i]);
    assert_true(value.len > 0 && value.len < sizeof text[i]);
    memcpy(text[i], value.p, value.len);
    text[i][value.len] = '\0';
  }
  assert_int_equal(stream_url_parse(&url, text[0]), 0);
  const struct stream_target target = {
      .url = &url, .token = text[1], .tls = plain->tls};
  stream_dial(plain->stream, &target);
}

static struct plain_service *
plain_start(const struct hub_fixture *hub, const char *device, const char *name,
            const struct dstream_stream_options *options,
            const struct dstream_stream_callbacks *callbacks, void *user) {
  struct plain_service *plain = calloc(1, sizeof *plain);
  struct dstream_tls_options tls = {.size = sizeof tls,
                                    .ca_file = hub->ca_file};
  struct dstream_end error;
  char token[2048];
  char request[4096];
  assert_non_null(plain);
  if (tls_config_client(&plain->tls, &tls, &error) != 0)
    fail_msg("%s", error.text);
  world_sas(token, sizeof token, hub->service_string, "localhost", 300,
            "service");
  snprintf(request, sizeof request,
           "POST /twins/%s/streams/%s?api-version=2020-09-30 HTTP/1.1\r\n"
           "Host: localhost:%u\r\nAuthorization: %s\r\n"
           "iothub-streaming-connect-timeout-in-seconds: 0\r\n"
           "iothub-streaming-response-timeout-in-seconds: 20\r\n"
           "Content-Length: 0\r\nConnection: close\r\n\r\n",
           device, name, (unsigned)hub->https_port, token);
  const struct http_call_options call = {.host = "localhost",
                                         .port = hub->https_port,
                                         .tls = plain->tls,
                                         .request = request,
                                         .timeout_ms = 20000};
  assert_int_equal(stream_new(&plain->stream, test_loop, name, options,
                              callbacks, user, NULL, NULL),
                   0);
  assert_int_equal(
      http_call_start(&plain->call, test_loop, &call, on_reply, plain), 0);
  return plain;
}

struct plain_service *plain_open(const struct hub_fixture *hub,
                                 const char *device, const char *name,
                                 struct peer *peer) {
  struct plain_service *plain =
      plain_start(hub, device, name, NULL, &peer_callbacks, peer);
  peer->stream = plain->stream;
  return plain;
}

struct plain_service *plain_open_bridge(const struct hub_fixture *hub,
                                        const char *device, const char *name,
                                        dstream_bridge *bridge) {
  struct dstream_stream_options options = {.size = sizeof options};
  const struct dstream_stream_callbacks *callbacks = NULL;
  assert_int_equal(bridge_stream_begin(bridge, &options, &callbacks), 0);
  struct plain_service *plain =
      plain_start(hub, device, name, &options, callbacks, bridge);
  bridge_stream_made(bridge, plain->stream, NULL);
  return plain;
}

void plain_free(struct plain_service *plain) {
  http_call_cancel(plain->call);
  tls_config_free(plain->tls);
  free(plain);
}
