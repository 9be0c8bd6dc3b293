#include "net/link_inside.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"

/* With several addresses, how long one may take. */
#define ADDRESS_TIMEOUT_MS 4000
/* A unix socket whose backlog is full refuses at once. */
#define UNIX_RETRY_MS 5

static void link_try_address(struct link *link);
static void link_try_unix(struct link *link);

/* ---- time ---- */

static void on_connect_timer(struct loop_timer *timer);

static void end_timed_out(struct dstream_end *end, const struct link *link) {
  static const char *const doing[] = {
      [LINK_RESOLVING] = "looking up",
      [LINK_CONNECTING] = "connecting to",
      [LINK_PROXYING] = "waiting for the proxy to reach",
      [LINK_TLS] = "the TLS handshake with",
  };
  if (link->making != NULL)
    end_set(end, DSTREAM_ETIMEDOUT, "timed out %s %s:%u", doing[link->state],
            link->making->host, (unsigned)link->port);
  else
    end_set(end, DSTREAM_ETIMEDOUT, "timed out %s %s", doing[link->state],
            link_name(link));
}

/* The timer while not yet up: the address's share, or all that is left. */
void link_arm_connect_timer(struct link *link) {
  uint64_t wait = UINT64_MAX;
  if (link->deadline_ms != 0) {
    uint64_t now = loop_now_ms();
    wait = now < link->deadline_ms ? link->deadline_ms - now : 0;
  }
  if (link->state == LINK_CONNECTING &&
      link->making->next_address < link->making->answer.count &&
      wait > ADDRESS_TIMEOUT_MS)
    wait = ADDRESS_TIMEOUT_MS;
  if (wait != UINT64_MAX)
    loop_timer_set(link->loop, &link->timer, wait, on_connect_timer);
  else
    loop_timer_cancel(&link->timer);
}

static void on_connect_timer(struct loop_timer *timer) {
  struct link *link = CONTAINER_OF(timer, struct link, timer);
  struct dstream_end end;
  end_timed_out(&end, link);
  bool over = link->deadline_ms != 0 && loop_now_ms() >= link->deadline_ms;
  if (!over && link->making != NULL && link->making->unix_path &&
      link->watch.fd < 0) {
    link_try_unix(link);
  } else if (!over && link->state == LINK_CONNECTING) {
    link->making->last_error = end;
    loop_watch_close(&link->watch);
    link_try_address(link);
  } else {
    link_fail(link, &end);
  }
}

/* ---- addresses ---- */

static void name_peer(struct link *link, const struct sockaddr *address,
                      socklen_t len) {
  static const char mapped[] = "::ffff:"; /* IPv4 on a socket for both */
  char host[INET6_ADDRSTRLEN];
  char port[8];
  size_t skip = sizeof mapped - 1;
  if (getnameinfo(address, len, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return;
  if (strncmp(host, mapped, skip) != 0 || strchr(host, '.') == NULL)
    skip = 0;
  snprintf(link->peer, sizeof link->peer, "%s:%s", host + skip, port);
}

static void set_socket_options(const struct link *link, int fd) {
  int one = 1;
  int size = link->socket_buffer;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (size > 0) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  }
}

static void connect_failed(struct link *link, int error) {
  end_set(&link->making->last_error, DSTREAM_ECONNECT,
          "can't connect to %s: %s", link->peer, strerror(error));
  link->making->last_error.sys_errno = error;
}

/* Starts connecting to one address; false: at once impossible. */
static bool start_connect(struct link *link, const struct sockaddr *address,
                          socklen_t len) {
  int fd =
      socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    connect_failed(link, errno);
    return false;
  }
  if (address->sa_family != AF_UNIX)
    set_socket_options(link, fd);
  if (connect(fd, address, len) != 0 && errno != EINPROGRESS) {
    connect_failed(link, errno);
    close(fd);
    return false;
  }
  memset(&link->watch, 0, sizeof link->watch);
  int status = loop_watch_start(link->loop, &link->watch, fd, link_on_events);
  if (status != DSTREAM_OK) {
    link->watch.fd = -1;
    end_set(&link->making->last_error, status, "can't connect to %s: %s",
            link->peer,
            status == DSTREAM_ELIMIT ? "too many connections of this process"
                                     : "out of memory");
    return false;
  }
  return true;
}

static void link_try_address(struct link *link) {
  link_set_state(link, LINK_CONNECTING);
  while (link->making->next_address < link->making->answer.count) {
    unsigned i = link->making->next_address++;
    const struct sockaddr *address =
        (const struct sockaddr *)&link->making->answer.address[i].storage;
    name_peer(link, address, link->making->answer.address[i].len);
    if (start_connect(link, address, link->making->answer.address[i].len)) {
      link_arm_connect_timer(link);
      link_update_want(link);
      return;
    }
  }
  link_fail(link, &link->making->last_error);
}

/* ---- the proxy ---- */

static void send_connect_request(struct link *link) {
  char request[LINK_PROXY_REQUEST_SIZE];
  link_set_state(link, LINK_PROXYING);
  link_arm_connect_timer(link);
  size_t len = link_proxy_request(&link->making->proxy, link->making->host,
                                  link->port, request);
  if (!link_out_ready(link)) {
    link_fail_no_memory(link);
    return;
  }
  ring_put(&link->out, request, len);
  crypto_wipe(request, sizeof request);
  link_schedule(link);
}

void link_read_proxy(struct link *link, const uint8_t *data, size_t len) {
  struct dstream_end end;
  if (link->stash_len + len > LINK_PROXY_HEAD_MAX)
    len = LINK_PROXY_HEAD_MAX - link->stash_len;
  if (link->stash == NULL)
    link->stash = malloc(LINK_PROXY_HEAD_MAX);
  if (link->stash == NULL) {
    link_fail_no_memory(link);
    return;
  }
  memcpy(link->stash + link->stash_len, data, len);
  link->stash_len += len;
  int status =
      link_proxy_check(&link->making->proxy, (const char *)link->stash,
                       link->stash_len, link->making->host, link->port, &end);
  if (status == DSTREAM_EAGAIN)
    return;
  free(link->stash);
  link->stash = NULL;
  link->stash_len = 0;
  if (status == DSTREAM_OK)
    link_begin(link);
  else
    link_fail(link, &end);
}

/* ---- life ---- */

void link_connected(struct link *link) {
  int error = 0;
  socklen_t len = sizeof error;
  getsockopt(link->watch.fd, SOL_SOCKET, SO_ERROR, &error, &len);
  if (error != 0) {
    connect_failed(link, error);
    loop_watch_close(&link->watch);
    if (link->making->answer.count > 0)
      link_try_address(link);
    else
      link_fail(link, &link->making->last_error);
    return;
  }
  if (link->making->proxy.host[0] != '\0')
    send_connect_request(link);
  else
    link_begin(link);
}

static void on_resolved(struct resolve_query *query,
                        const struct resolve_answer *answer) {
  struct link_making *making = CONTAINER_OF(query, struct link_making, query);
  struct link *link = making->link;
  const char *host =
      making->proxy.host[0] != '\0' ? making->proxy.host : making->host;
  struct dstream_end end;
  if (answer->error != 0) {
    end_set(&end, DSTREAM_ERESOLVE, "can't find the host %s: %s", host,
            gai_strerror(answer->error));
    link_fail(link, &end);
    return;
  }
  making->answer = *answer;
  link_try_address(link);
}

static int link_add_tls(struct link *link, const char *host) {
  if (link->tls_config == NULL)
    return DSTREAM_OK;
  return tls_new(&link->tls, link->tls_config, host, &link->out);
}

static bool make(struct link *link, const char *host) {
  link->making = calloc(1, sizeof *link->making);
  if (link->making == NULL)
    return false;
  link->making->link = link;
  snprintf(link->making->host, sizeof link->making->host, "%s", host);
  return true;
}

void link_made(struct link *link) {
  struct link_making *making = link->making;
  if (making == NULL)
    return;
  link->making = NULL;
  resolve_cancel(&making->query);
  crypto_wipe(making->proxy.authorization, sizeof making->proxy.authorization);
  free(making);
}

int link_connect(struct link **out, dstream_loop *loop, const char *host,
                 uint16_t port, const struct link_proxy *proxy,
                 const struct link_options *options,
                 const struct link_callbacks *callbacks, void *user) {
  if (strlen(host) >= sizeof((struct link_making *)0)->host)
    return DSTREAM_EINVAL;
  struct link *link = link_new(loop, options, callbacks, user);
  if (link == NULL)
    return DSTREAM_ENOMEM;
  link->watch.fd = -1;
  if (!make(link, host)) {
    link_discard(link);
    return DSTREAM_ENOMEM;
  }
  link->port = port;
  bool proxied = proxy != NULL && proxy->host[0] != '\0';
  if (proxied)
    link->making->proxy = *proxy;
  if (options->connect_timeout_ms != 0)
    link->deadline_ms = loop_now_ms() + options->connect_timeout_ms;
  int status = link_add_tls(link, host);
  if (status == DSTREAM_OK)
    status =
        resolve_start(loop, &link->making->query, proxied ? proxy->host : host,
                      proxied ? proxy->port : port, on_resolved);
  if (status != DSTREAM_OK) {
    link_discard(link);
    return status;
  }
  link_arm_connect_timer(link);
  *out = link;
  return DSTREAM_OK;
}

static void link_try_unix(struct link *link) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, link->making->host, strlen(link->making->host));
  if (start_connect(link, (const struct sockaddr *)&address, sizeof address)) {
    link_arm_connect_timer(link);
    link_update_want(link);
  } else if (link->making->last_error.sys_errno == EAGAIN &&
             link->deadline_ms != 0) {
    loop_timer_set(link->loop, &link->timer, UNIX_RETRY_MS, on_connect_timer);
  } else {
    link_fail(link, &link->making->last_error);
  }
}

static void on_unix_start(struct loop_task *task) {
  link_try_unix(CONTAINER_OF(task, struct link, work));
}

int link_connect_unix(struct link **out, dstream_loop *loop, const char *path,
                      const struct link_options *options,
                      const struct link_callbacks *callbacks, void *user) {
  if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
    return DSTREAM_EINVAL;
  struct link *link = link_new(loop, options, callbacks, user);
  if (link == NULL)
    return DSTREAM_ENOMEM;
  link->watch.fd = -1;
  if (!make(link, path)) {
    link_discard(link);
    return DSTREAM_ENOMEM;
  }
  link->making->unix_path = true;
  snprintf(link->peer, sizeof link->peer, "%.*s", (int)sizeof link->peer - 1,
           path);
  int status = link_add_tls(link, path);
  if (status != DSTREAM_OK) {
    link_discard(link);
    return status;
  }
  if (options->connect_timeout_ms != 0)
    link->deadline_ms = loop_now_ms() + options->connect_timeout_ms;
  link_set_state(link, LINK_CONNECTING);
  loop_defer(loop, &link->work, on_unix_start);
  *out = link;
  return DSTREAM_OK;
}

static void on_adopted(struct loop_task *task) {
  struct link *link = CONTAINER_OF(task, struct link, work);
  link_begin(link);
  if (!link->dead)
    link_schedule(link);
}

int link_adopt(struct link **out, dstream_loop *loop, int fd,
               const struct link_options *options,
               const struct link_callbacks *callbacks, void *user) {
  struct link *link = link_new(loop, options, callbacks, user);
  if (link == NULL) {
    close(fd);
    return DSTREAM_ENOMEM;
  }
  struct sockaddr_storage address = {0};
  socklen_t len = sizeof address;
  if (getpeername(fd, (struct sockaddr *)&address, &len) == 0 &&
      address.ss_family != AF_UNIX) {
    name_peer(link, (const struct sockaddr *)&address, len);
    set_socket_options(link, fd);
  }
  int status = loop_watch_start(loop, &link->watch, fd, link_on_events);
  if (status != DSTREAM_OK) {
    link->watch.fd = -1;
    link_discard(link);
    return status;
  }
  status = link_add_tls(link, NULL);
  if (status != DSTREAM_OK) {
    loop_watch_close(&link->watch);
    link_discard(link);
    return status;
  }
  if (options->connect_timeout_ms != 0)
    link->deadline_ms = loop_now_ms() + options->connect_timeout_ms;
  loop_defer(loop, &link->work, on_adopted);
  *out = link;
  return DSTREAM_OK;
}
