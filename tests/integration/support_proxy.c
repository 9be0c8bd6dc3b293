#include "integration/support_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/crypto.h"

#define HEAD_MAX 4096
#define ROOM     65536

struct pipe_way {
  uint8_t *bytes; /* ROOM */
  size_t len;
  bool ended; /* no more comes in */
  bool shut;  /* told onwards */
};

struct proxy_tunnel {
  int fds[2]; /* the client, the target (-1: not asked yet); both -1: free */
  char head[HEAD_MAX];
  size_t head_len;
  bool muted;              /* asked, and never answered */
  struct pipe_way ways[2]; /* from fds[i] */
};

static int failure(const char *what, const char *detail) {
  fprintf(stderr, "proxy: %s: %s\n", what, detail);
  return -1;
}

/* ---- sockets ---- */

static int listen_any(uint16_t *port) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 ||
      listen(fd, 64) != 0 ||
      getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
    if (fd >= 0)
      close(fd);
    return -1;
  }
  *port = ntohs(address.sin_port);
  return fd;
}

static int dial(const char *host, const char *port) {
  const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
  struct addrinfo *list = NULL;
  int fd = -1;
  if (getaddrinfo(host, port, &hints, &list) != 0)
    return -1;
  for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
    fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
      close(fd);
      fd = -1;
    }
  }
  freeaddrinfo(list);
  return fd;
}

static void prepare(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(fd, F_SETFL, O_NONBLOCK);
}

static void tunnel_close(struct proxy_tunnel *tunnel) {
  for (int i = 0; i < 2; i++) {
    if (tunnel->fds[i] >= 0)
      close(tunnel->fds[i]);
    free(tunnel->ways[i].bytes);
  }
  memset(tunnel, 0, sizeof *tunnel);
  tunnel->fds[0] = tunnel->fds[1] = -1;
}

/* ---- the request ---- */

static const char *head_value(const struct proxy_tunnel *tunnel,
                              const char *name, char *out, size_t size) {
  size_t len = strlen(name);
  for (const char *line = strstr(tunnel->head, "\r\n"); line != NULL;
       line = strstr(line + 2, "\r\n")) {
    if (strncasecmp(line + 2, name, len) != 0 || line[2 + len] != ':')
      continue;
    const char *value = line + 3 + len;
    value += strspn(value, " ");
    snprintf(out, size, "%.*s", (int)strcspn(value, "\r"), value);
    return out;
  }
  return NULL;
}

static bool authorized(const struct proxy_fixture *proxy,
                       const struct proxy_tunnel *tunnel) {
  char value[512];
  char expected[512] = "Basic ";
  const char *credentials = proxy->options.credentials;
  if (credentials == NULL)
    return true;
  crypto_base64_encode(credentials, strlen(credentials), expected + 6,
                       sizeof expected - 6);
  return head_value(tunnel, "Proxy-Authorization", value, sizeof value) !=
             NULL &&
         strcmp(value, expected) == 0;
}

static void answer(const struct proxy_tunnel *tunnel, const char *text) {
  size_t len = strlen(text);
  if (send(tunnel->fds[0], text, len, MSG_NOSIGNAL) != (ssize_t)len)
    failure("could not answer", text);
}

/* "CONNECT host:port HTTP/1.1", and a Host that says the same. */
static bool parse_target(const struct proxy_tunnel *tunnel, char *host,
                         size_t size, char port[8]) {
  char again[256];
  if (strncmp(tunnel->head, "CONNECT ", 8) != 0)
    return false;
  const char *target = tunnel->head + 8;
  size_t len = strcspn(target, " \r");
  const char *colon = memrchr(target, ':', len);
  if (colon == NULL || strncmp(target + len, " HTTP/1.1\r\n", 11) != 0 ||
      head_value(tunnel, "Host", again, sizeof again) == NULL)
    return false;
  snprintf(host, size, "%.*s", (int)(colon - target), target);
  snprintf(port, 8, "%.*s", (int)(target + len - colon - 1), colon + 1);
  return strncasecmp(again, host, strlen(host)) == 0;
}

static void note_target(struct proxy_fixture *proxy, const char *host,
                        const char *port) {
  pthread_mutex_lock(&proxy->lock);
  if (proxy->target_count < PROXY_TARGETS_MAX)
    snprintf(proxy->targets[proxy->target_count++], sizeof proxy->targets[0],
             "%.100s:%s", host, port);
  pthread_mutex_unlock(&proxy->lock);
}

static void note(struct proxy_fixture *proxy, unsigned *counter) {
  pthread_mutex_lock(&proxy->lock);
  ++*counter;
  pthread_mutex_unlock(&proxy->lock);
}

static bool open_tunnel(struct proxy_fixture *proxy,
                        struct proxy_tunnel *tunnel, const char *host,
                        const char *port) {
  const char *name = proxy->options.name;
  bool known = name != NULL && strcasecmp(host, name) == 0;
  int fd = dial(known ? "127.0.0.1" : host, port);
  if (fd < 0) {
    answer(tunnel, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    return false;
  }
  note_target(proxy, host, port);
  tunnel->fds[1] = fd;
  prepare(fd);
  for (int i = 0; i < 2; i++)
    tunnel->ways[i].bytes = malloc(ROOM);
  answer(tunnel, "HTTP/1.1 200 Connection established\r\n"
                 "Proxy-agent: test\r\n\r\n");
  return tunnel->ways[0].bytes != NULL && tunnel->ways[1].bytes != NULL;
}

/* False: the tunnel is to be closed. */
static bool handle_request(struct proxy_fixture *proxy,
                           struct proxy_tunnel *tunnel) {
  char host[256];
  char port[8];
  note(proxy, &proxy->asked);
  if (!parse_target(tunnel, host, sizeof host, port)) {
    note(proxy, &proxy->malformed);
    answer(tunnel, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    return false;
  }
  if (!authorized(proxy, tunnel)) {
    note(proxy, &proxy->refused);
    answer(tunnel, "HTTP/1.1 407 Proxy Authentication Required\r\n"
                   "Proxy-Authenticate: Basic realm=\"test\"\r\n"
                   "Content-Length: 0\r\n\r\n");
    return false;
  }
  switch (proxy->options.mode) {
  case PROXY_REFUSES:
    answer(tunnel, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n"
                   "Content-Length: 11\r\n\r\n<p>no</p>\r\n");
    return false;
  case PROXY_GARBAGE:
    answer(tunnel, "SSH-2.0-no-proxy\r\n\x01\x02\xff\r\n\r\n");
    return false;
  case PROXY_DIES:
    return false;
  case PROXY_SILENT:
    tunnel->muted = true;
    return true;
  default:
    return open_tunnel(proxy, tunnel, host, port);
  }
}

/* False: the tunnel is to be closed. */
static bool read_request(struct proxy_fixture *proxy,
                         struct proxy_tunnel *tunnel) {
  ssize_t n = recv(tunnel->fds[0], tunnel->head + tunnel->head_len,
                   HEAD_MAX - 1 - tunnel->head_len, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return true;
  if (n <= 0)
    return false;
  tunnel->head_len += (size_t)n;
  tunnel->head[tunnel->head_len] = '\0';
  if (tunnel->muted || strstr(tunnel->head, "\r\n\r\n") == NULL)
    return tunnel->head_len < HEAD_MAX - 1;
  return handle_request(proxy, tunnel);
}

/* ---- the tunnel ---- */

/* False: the tunnel is to be closed. */
static bool move_bytes(const struct proxy_tunnel *tunnel, struct pipe_way *way,
                       int i) {
  int from = tunnel->fds[i];
  int to = tunnel->fds[1 - i];
  ssize_t n = 1;
  if (!way->ended && way->len < ROOM) {
    n = recv(from, way->bytes + way->len, ROOM - way->len, 0);
    if (n > 0)
      way->len += (size_t)n;
    way->ended = n == 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      return false;
  }
  if (way->len > 0) {
    n = send(to, way->bytes, way->len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      return false;
    if (n > 0) {
      way->len -= (size_t)n;
      memmove(way->bytes, way->bytes + n, way->len);
    }
  }
  if (way->ended && way->len == 0 && !way->shut) {
    way->shut = true;
    shutdown(to, SHUT_WR);
  }
  return true;
}

static void serve(struct proxy_fixture *proxy, struct proxy_tunnel *tunnel) {
  bool open = true;
  if (tunnel->fds[1] < 0) {
    open = read_request(proxy, tunnel);
  } else {
    struct pipe_way *ways = tunnel->ways;
    open = move_bytes(tunnel, &ways[0], 0) && move_bytes(tunnel, &ways[1], 1);
    open = open && !(ways[0].shut && ways[1].shut);
  }
  if (!open)
    tunnel_close(tunnel);
}

static void take_client(struct proxy_fixture *proxy) {
  int fd = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
  if (fd < 0)
    return;
  prepare(fd);
  for (int i = 0; i < PROXY_TUNNELS_MAX; i++) {
    if (proxy->tunnels[i].fds[0] < 0) {
      proxy->tunnels[i].fds[0] = fd;
      return;
    }
  }
  failure("too many tunnels", proxy->url);
  close(fd);
}

static short wanted(const struct proxy_tunnel *tunnel, int i) {
  const struct pipe_way *in = &tunnel->ways[i];
  const struct pipe_way *out = &tunnel->ways[1 - i];
  if (tunnel->fds[1] < 0)
    return POLLIN;
  return (short)((!in->ended && in->len < ROOM ? POLLIN : 0) |
                 (out->len > 0 ? POLLOUT : 0));
}

static void *run(void *arg) {
  struct proxy_fixture *proxy = arg;
  struct pollfd fds[2 + 2 * PROXY_TUNNELS_MAX];
  for (;;) {
    fds[0] = (struct pollfd){proxy->wake[0], POLLIN, 0};
    fds[1] = (struct pollfd){proxy->listener, POLLIN, 0};
    for (int i = 0; i < PROXY_TUNNELS_MAX; i++) {
      const struct proxy_tunnel *tunnel = &proxy->tunnels[i];
      for (int j = 0; j < 2; j++) {
        short events = tunnel->fds[j] < 0 ? 0 : wanted(tunnel, j);
        /* One that is not looked at would report its hang-up for ever. */
        int fd = events == 0 ? -1 : tunnel->fds[j];
        fds[2 + 2 * i + j] = (struct pollfd){fd, events, 0};
      }
    }
    if (poll(fds, 2 + 2 * PROXY_TUNNELS_MAX, -1) < 0 && errno != EINTR)
      return NULL;
    if (fds[0].revents != 0)
      return NULL;
    for (int i = 0; i < PROXY_TUNNELS_MAX; i++) {
      if (fds[2 + 2 * i].revents != 0 || fds[3 + 2 * i].revents != 0)
        serve(proxy, &proxy->tunnels[i]);
    }
    if (fds[1].revents != 0)
      take_client(proxy);
  }
}

/* ---- life ---- */

int proxy_start(struct proxy_fixture *proxy,
                const struct proxy_options *options) {
  memset(proxy, 0, sizeof *proxy);
  if (options != NULL)
    proxy->options = *options;
  pthread_mutex_init(&proxy->lock, NULL);
  proxy->tunnels = calloc(PROXY_TUNNELS_MAX, sizeof *proxy->tunnels);
  if (proxy->tunnels == NULL)
    return failure("out of memory", "");
  for (int i = 0; i < PROXY_TUNNELS_MAX; i++)
    proxy->tunnels[i].fds[0] = proxy->tunnels[i].fds[1] = -1;
  proxy->listener = listen_any(&proxy->port);
  if (proxy->listener < 0 || pipe2(proxy->wake, O_CLOEXEC) != 0)
    return failure("can't listen", strerror(errno));
  snprintf(proxy->url, sizeof proxy->url, "http://127.0.0.1:%u",
           (unsigned)proxy->port);
  if (pthread_create(&proxy->thread, NULL, run, proxy) != 0)
    return failure("no thread", "");
  proxy->running = true;
  return 0;
}

void proxy_stop(struct proxy_fixture *proxy) {
  if (!proxy->running)
    return;
  proxy->running = false;
  close(proxy->wake[1]);
  pthread_join(proxy->thread, NULL);
  close(proxy->wake[0]);
  close(proxy->listener);
  for (int i = 0; i < PROXY_TUNNELS_MAX; i++)
    tunnel_close(&proxy->tunnels[i]);
  free(proxy->tunnels);
  pthread_mutex_destroy(&proxy->lock);
}

void proxy_url_with(const struct proxy_fixture *proxy, const char *credentials,
                    char *out) {
  snprintf(out, PROXY_URL_SIZE, "http://%s@127.0.0.1:%u", credentials,
           (unsigned)proxy->port);
}

/* ---- counts ---- */

unsigned proxy_count(struct proxy_fixture *proxy, uint16_t port) {
  char end[16];
  unsigned count = 0;
  snprintf(end, sizeof end, ":%u", (unsigned)port);
  pthread_mutex_lock(&proxy->lock);
  for (unsigned i = 0; i < proxy->target_count; i++) {
    const char *colon = strrchr(proxy->targets[i], ':');
    if (port == 0 || strcmp(colon, end) == 0)
      count++;
  }
  pthread_mutex_unlock(&proxy->lock);
  return count;
}

bool proxy_all_to(struct proxy_fixture *proxy, const char *host) {
  bool all = true;
  pthread_mutex_lock(&proxy->lock);
  for (unsigned i = 0; i < proxy->target_count; i++) {
    size_t len = strcspn(proxy->targets[i], ":");
    if (len != strlen(host) || strncmp(proxy->targets[i], host, len) != 0)
      all = false;
  }
  pthread_mutex_unlock(&proxy->lock);
  return all;
}

static unsigned read_counter(struct proxy_fixture *proxy,
                             const unsigned *counter) {
  pthread_mutex_lock(&proxy->lock);
  unsigned value = *counter;
  pthread_mutex_unlock(&proxy->lock);
  return value;
}

unsigned proxy_asked(struct proxy_fixture *proxy) {
  return read_counter(proxy, &proxy->asked);
}

unsigned proxy_refused(struct proxy_fixture *proxy) {
  return read_counter(proxy, &proxy->refused);
}

unsigned proxy_malformed(struct proxy_fixture *proxy) {
  return read_counter(proxy, &proxy->malformed);
}
