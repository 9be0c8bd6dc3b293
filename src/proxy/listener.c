#include "proxy/listener.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/container.h"
#include "core/end.h"
#include "proxy/bridge.h"

#define DEFAULT_CONNECTIONS 256
/* Others have their turn after so many. */
#define ACCEPTS_MAX 16
/* How long to wait when the process or the system has no descriptor left. */
#define PAUSE_MS 200

static void want_accept(dstream_listener *l);

/* ---- telling ---- */

static struct dstream_proxy_event event_of(const struct connection *c,
                                           enum dstream_proxy_kind kind) {
  const dstream_listener *l = c->listener;
  return (struct dstream_proxy_event){.kind = kind,
                                      .device = l->device,
                                      .name = c->name != NULL ? c->name : "",
                                      .address = c->client,
                                      .open = l->count};
}

static void tell(const struct connection *c, enum dstream_proxy_kind kind,
                 const struct dstream_bridge_result *result) {
  struct dstream_proxy_event event = event_of(c, kind);
  event.result = result;
  if (c->listener->callbacks.on_event != NULL)
    c->listener->callbacks.on_event(c->listener->callbacks.user, &event);
}

static void on_stop_task(struct loop_task *task) {
  dstream_listener *l = CONTAINER_OF(task, dstream_listener, stop_task);
  if (l->callbacks.on_stopped != NULL)
    l->callbacks.on_stopped(l->callbacks.user, l);
}

static void check_stopped(dstream_listener *l) {
  if (!l->stopped || l->count > 0 || l->told)
    return;
  l->told = true;
  loop_defer(l->loop, &l->stop_task, on_stop_task);
}

/* ---- connections ---- */

static struct connection *connection_new(dstream_listener *l) {
  struct connection *c = calloc(1, sizeof *c);
  if (c == NULL)
    return NULL;
  c->listener = l;
  c->next = l->connections;
  if (c->next != NULL)
    c->next->prev = c;
  l->connections = c;
  l->count++;
  return c;
}

static void connection_unlink(struct connection *c) {
  if (c->prev != NULL)
    c->prev->next = c->next;
  else
    c->listener->connections = c->next;
  if (c->next != NULL)
    c->next->prev = c->prev;
  c->listener->count--;
}

static void connection_over(struct connection *c, enum dstream_proxy_kind kind,
                            const struct dstream_bridge_result *result) {
  dstream_listener *l = c->listener;
  connection_unlink(c);
  tell(c, kind, result);
  free(c->name);
  free(c);
  want_accept(l);
  check_stopped(l);
}

void connection_failed(struct connection *c, enum dstream_proxy_kind kind,
                       const struct dstream_end *end) {
  const struct dstream_bridge_result result = {.end = *end};
  connection_over(c, kind, &result);
}

static void on_open(dstream_bridge *bridge, void *user) {
  (void)bridge;
  tell(user, DSTREAM_PROXY_OPENED, NULL);
}

static void on_end(dstream_bridge *bridge, void *user,
                   const struct dstream_bridge_result *result) {
  struct connection *c = user;
  (void)bridge;
  c->bridge = NULL;
  socks_cancel(c);
  connection_over(
      c, result->opened ? DSTREAM_PROXY_CLOSED : DSTREAM_PROXY_FAILED, result);
}

const struct dstream_bridge_callbacks connection_callbacks = {
    .on_open = on_open, .on_end = on_end};

void connection_open(struct connection *c, const char *stream_name) {
  dstream_listener *l = c->listener;
  (void)dstream_bridge_open(c->bridge, l->service, l->device_id, stream_name,
                            &l->open); /* on_end tells */
}

static int connection_start(struct connection *c, int fd) {
  dstream_listener *l = c->listener;
  if (l->name == NULL)
    return socks_begin(c, fd);
  c->name = strdup(l->shown);
  if (c->name == NULL) {
    close(fd);
    return DSTREAM_ENOMEM;
  }
  int status = dstream_bridge_adopt(&c->bridge, l->loop, fd, &l->bridge,
                                    &connection_callbacks, c);
  if (status == DSTREAM_OK)
    connection_open(c, l->name);
  return status;
}

static void name_client(struct connection *c,
                        const struct sockaddr_storage *address, socklen_t len) {
  char host[NI_MAXHOST];
  char port[8];
  if (address->ss_family != AF_INET && address->ss_family != AF_INET6)
    return;
  if (getnameinfo((const struct sockaddr *)address, len, host, sizeof host,
                  port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0)
    snprintf(c->client, sizeof c->client,
             address->ss_family == AF_INET6 ? "[%.46s]:%s" : "%.46s:%s", host,
             port);
}

/* ---- accepting ---- */

static void on_pause(struct loop_timer *timer) {
  want_accept(CONTAINER_OF(timer, dstream_listener, pause));
}

/* Those that come meanwhile wait in the system's backlog. */
static void pause_accept(dstream_listener *l) {
  loop_watch_want(&l->watch, 0);
  loop_timer_set(l->loop, &l->pause, PAUSE_MS, on_pause);
}

static void want_accept(dstream_listener *l) {
  if (!l->stopped)
    loop_watch_want(&l->watch, l->count < l->max_connections ? LOOP_READ : 0);
}

static void begin(dstream_listener *l, int fd,
                  const struct sockaddr_storage *address, socklen_t len) {
  struct connection *c = connection_new(l);
  if (c == NULL) {
    close(fd);
    pause_accept(l);
    return;
  }
  name_client(c, address, len);
  int status = connection_start(c, fd);
  if (l->once)
    dstream_listener_stop(l, false);
  if (status == DSTREAM_OK)
    return;
  struct dstream_end end;
  end_set(&end, status, "can't serve a client: %s",
          status == DSTREAM_ELIMIT ? "this process has too many connections"
                                   : dstream_status_text(status));
  connection_failed(c, DSTREAM_PROXY_FAILED, &end);
  if (!l->stopped)
    pause_accept(l);
}

static bool out_of_descriptors(int number) {
  return number == EMFILE || number == ENFILE || number == ENOBUFS ||
         number == ENOMEM;
}

static void on_readable(struct loop_watch *watch, unsigned events) {
  dstream_listener *l = CONTAINER_OF(watch, dstream_listener, watch);
  if (events & LOOP_GONE)
    return;
  for (int i = 0; i < ACCEPTS_MAX && (watch->want & LOOP_READ); i++) {
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof address;
    int fd = accept4(watch->fd, (struct sockaddr *)&address, &len,
                     SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      begin(l, fd, &address, len);
      if (l->stopped)
        return;
      if (l->count >= l->max_connections)
        loop_watch_want(&l->watch, 0);
    } else if (out_of_descriptors(errno)) {
      pause_accept(l);
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
}

/* ---- life ---- */

static int invalid(struct dstream_end *error, const char *what) {
  end_set(error, DSTREAM_EINVAL, "a listener needs %s", what);
  return DSTREAM_EINVAL;
}

static int check(const struct dstream_listener_options *o,
                 struct dstream_end *error) {
  if (o == NULL || o->size != sizeof *o || o->listen == NULL ||
      o->device_id == NULL || o->device_id[0] == '\0')
    return invalid(error, "options with size, listen and device_id");
  if (o->connect_wait_s < 0 || o->connect_wait_s > 60 ||
      o->response_wait_s < 0 || o->response_wait_s > 60)
    return invalid(error, "waits of 0 to 60 s");
  if (o->bridge.size != 0 && bridge_check_options(&o->bridge) != DSTREAM_OK)
    return invalid(error, "options of its bridge that are in range");
  return DSTREAM_OK;
}

/* What the stream is called: a target's name as it is, HOST:PORT translated. */
static int copy_name(dstream_listener *l, const char *name,
                     struct dstream_end *error) {
  struct address address;
  char stream[ADDRESS_NAME_SIZE];
  if (name == NULL)
    return DSTREAM_OK;
  if (address_target_name_valid(name)) {
    snprintf(stream, sizeof stream, "%s", name);
  } else {
    int status = address_parse(&address, name, error);
    if (status != DSTREAM_OK)
      return status;
    status = address_to_name(&address, stream);
    if (status != DSTREAM_OK) {
      end_set(error, status, "\"%.100s\" can't be the name of a stream: %s",
              name, address.is_unix ? "it is a path" : "it is too long");
      return status;
    }
  }
  l->name = strdup(stream);
  l->shown = strdup(name);
  return l->name != NULL && l->shown != NULL ? DSTREAM_OK : DSTREAM_ENOMEM;
}

static char *copy_text(const char *text, bool *failed) {
  char *copy = text != NULL ? strdup(text) : NULL;
  *failed |= text != NULL && copy == NULL;
  return copy;
}

static int copy_options(dstream_listener *l,
                        const struct dstream_listener_options *o,
                        struct dstream_end *error) {
  bool failed = false;
  char device[600];
  snprintf(device, sizeof device, "%s%s%s", o->device_id,
           o->module_id != NULL ? "/" : "",
           o->module_id != NULL ? o->module_id : "");
  l->device_id = copy_text(o->device_id, &failed);
  l->module_id = copy_text(o->module_id, &failed);
  l->device = copy_text(device, &failed);
  l->bridge = o->bridge;
  l->bridge.size = sizeof l->bridge;
  l->bridge.self_name = copy_text(
      o->bridge.self_name != NULL ? o->bridge.self_name : "service", &failed);
  l->bridge.peer_name = copy_text(o->bridge.peer_name, &failed);
  l->open =
      (struct dstream_open_options){.size = sizeof l->open,
                                    .module_id = l->module_id,
                                    .connect_wait_s = o->connect_wait_s,
                                    .response_wait_s = o->response_wait_s};
  l->max_connections =
      o->max_connections != 0 ? o->max_connections : DEFAULT_CONNECTIONS;
  l->once = o->once;
  return failed ? DSTREAM_ENOMEM : copy_name(l, o->name, error);
}

static int start(dstream_listener *l, const char *listen,
                 struct dstream_end *error) {
  int fd = listening_open(&l->listening, listen, error);
  if (fd < 0)
    return fd;
  int status = loop_watch_start(l->loop, &l->watch, fd, on_readable);
  if (status == DSTREAM_OK) {
    l->stopped = false;
    want_accept(l);
  } else {
    end_set(error, status, "can't listen on %s: %s", l->listening.text,
            dstream_status_text(status));
    listening_unlink(&l->listening);
  }
  return status;
}

int dstream_listener_new(dstream_listener **out, dstream_loop *loop,
                         dstream_service *service,
                         const struct dstream_listener_options *options,
                         const struct dstream_listener_callbacks *callbacks,
                         struct dstream_end *error) {
  if (out == NULL || loop == NULL || service == NULL)
    return invalid(error, "a loop and a service");
  int status = check(options, error);
  if (status != DSTREAM_OK)
    return status;
  dstream_listener *l = calloc(1, sizeof *l);
  if (l == NULL) {
    end_set(error, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  l->loop = loop;
  l->service = service;
  l->stopped = true;
  if (callbacks != NULL)
    l->callbacks = *callbacks;
  status = copy_options(l, options, error);
  if (status == DSTREAM_ENOMEM)
    end_set(error, status, "out of memory");
  if (status == DSTREAM_OK)
    status = start(l, options->listen, error);
  if (status != DSTREAM_OK) {
    dstream_listener_free(l);
    return status;
  }
  *out = l;
  return DSTREAM_OK;
}

const char *dstream_listener_address(const dstream_listener *l) {
  return l->listening.text;
}

static void stop_listening(dstream_listener *l) {
  if (l->stopped)
    return;
  l->stopped = true;
  listening_unlink(&l->listening);
  loop_watch_close(&l->watch);
  loop_timer_cancel(&l->pause);
}

static struct connection *first_in_handshake(const dstream_listener *l) {
  struct connection *c = l->connections;
  while (c != NULL && c->bridge != NULL)
    c = c->next;
  return c;
}

void dstream_listener_stop(dstream_listener *l, bool at_once) {
  struct connection *c;
  stop_listening(l);
  /* A bridge is only asked here; what is told may change the list. */
  for (c = l->connections; at_once && c != NULL; c = c->next)
    if (c->bridge != NULL)
      dstream_bridge_fail(c->bridge, NULL);
  c = at_once ? first_in_handshake(l) : NULL;
  while (c != NULL) {
    struct dstream_end end;
    end_set(&end, DSTREAM_ECANCELED, "%s ended it before it was open",
            l->bridge.self_name);
    socks_cancel(c);
    connection_failed(c, DSTREAM_PROXY_FAILED, &end);
    c = first_in_handshake(l);
  }
  check_stopped(l);
}

/* The options' texts are this listener's own. */
static void free_text(const char *text) {
  union {
    const char *in;
    void *out;
  } cast = {.in = text};
  free(cast.out);
}

void dstream_listener_free(dstream_listener *l) {
  if (l == NULL)
    return;
  stop_listening(l);
  while (l->connections != NULL) {
    struct connection *c = l->connections;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it was unlinked */
    bridge_destroy(c->bridge);
    socks_cancel(c);
    connection_unlink(c);
    free(c->name);
    free(c);
  }
  loop_task_cancel(&l->stop_task);
  free_text(l->bridge.self_name);
  free_text(l->bridge.peer_name);
  free(l->device_id);
  free(l->module_id);
  free(l->device);
  free(l->name);
  free(l->shown);
  free(l);
}
