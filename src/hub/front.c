#include "hub/front.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"
#include "hub/broker_connect.h"
#include "hub/http_reply.h"
#include "hub/listen.h"
#include "hub/log_limit.h"
#include "hub/relay.h"

#define DEFAULT_MAX_CONNECTIONS 12000
#define DEFAULT_HANDSHAKE_MS    10000
#define CLOSE_TIMEOUT_MS        5000
#define ACCEPTS_AT_ONCE         64
#define BACKLOG                 1024
#define ACCEPT_PAUSE_MS         100
#define MQTT_PATH               "/$iothub/websocket"
#define CONNECT_SIZE                                                           \
  (BROKER_CONNECT_MAX + BROKER_CONNECT_MORE(BROKER_VOUCHER_SIZE))

struct listener {
  struct front *front;
  struct loop_watch watch;
  struct loop_timer pause; /* after running out of descriptors */
  uint16_t port;
  bool mqtt;
  bool listening;
};

/* One accepted connection until the gateway or nobody has it. */
struct conn {
  struct front *front;
  struct conn *next;
  struct conn **place;
  struct link *link;   /* NULL once the relay has it */
  struct relay *relay; /* to the broker or the HTTP server */
  struct loop_timer timer;
  bool mqtt;
  char *head; /* while the request head or the CONNECT packet comes in */
  size_t head_len;
  struct link *local;                       /* to the broker, until it is up */
  struct identity_certificate *certificate; /* that an MQTT client has shown */
};

struct front {
  dstream_loop *loop;
  struct front_options options;
  char *cert_file;
  char *key_file;
  char *broker_socket;
  char *broker_secret;
  char *device_ca_file; /* may be NULL */
  struct tls_config *tls;
  struct listener https;
  struct listener mqtt;
  struct conn *conns;
  unsigned count;
  struct log_limit refused;
};

/* ---- connections ---- */

static void conn_free(struct conn *conn) {
  *conn->place = conn->next;
  if (conn->next != NULL)
    conn->next->place = conn->place;
  conn->front->count--;
  loop_timer_cancel(&conn->timer);
  link_abort(conn->link);
  link_abort(conn->local);
  relay_free(conn->relay);
  free(conn->head);
  free(conn->certificate);
  free(conn);
}

static struct conn *conn_new(struct front *front, bool mqtt) {
  struct conn *conn = calloc(1, sizeof *conn);
  if (conn == NULL)
    return NULL;
  conn->front = front;
  conn->mqtt = mqtt;
  conn->next = front->conns;
  conn->place = &front->conns;
  if (conn->next != NULL)
    conn->next->place = &conn->next;
  front->conns = conn;
  front->count++;
  return conn;
}

static void on_relay_end(void *user, struct relay *relay, int ended,
                         const struct dstream_end *cause) {
  (void)relay;
  (void)ended;
  (void)cause;
  conn_free(user);
}

/* Joins the client to a local socket: the broker's or the HTTP server's.  core:
 * the client speaks WebSocket. */
static void conn_join(struct conn *conn, struct link *local,
                      struct stream_core *core) {
  static const struct relay_events events = {.on_end = on_relay_end};
  struct front *front = conn->front;
  if (relay_new(&conn->relay, front->loop, CLOSE_TIMEOUT_MS, &events, conn) !=
      DSTREAM_OK) {
    link_abort(local);
    if (core != NULL)
      stream_core_clear(core);
    conn_free(conn);
    return;
  }
  struct link *client = conn->link;
  conn->link = NULL;
  relay_attach(conn->relay, RELAY_B, local, NULL);
  relay_attach(conn->relay, RELAY_A, client, core);
}

static int connect_broker(struct front *front, struct link **out,
                          const struct link_callbacks *callbacks, void *user) {
  struct link_options options = {.connect_timeout_ms =
                                     front->options.handshake_ms};
  int status = link_connect_unix(out, front->loop, front->broker_socket,
                                 &options, callbacks, user);
  if (status != DSTREAM_OK)
    log_limit_write(&front->refused, DSTREAM_LOG_WARNING,
                    "front: mqtt: the broker can't be reached: %s",
                    dstream_status_text(status));
  return status;
}

static const struct link_callbacks no_callbacks = {0};

/* ---- MQTT with a certificate: the CONNECT packet first ---- */

static void on_head_end(void *user, const struct dstream_end *why);
static void on_handshake_timeout(struct loop_timer *timer);

/* Remembers what the client has shown; false: nothing. */
static bool take_certificate(struct conn *conn) {
  struct tls_peer peer;
  if (!link_tls_peer(conn->link, &peer))
    return false;
  struct identity_certificate *certificate = calloc(1, sizeof *certificate);
  if (certificate == NULL)
    return false;
  _Static_assert(sizeof peer.name == sizeof certificate->name, "a device's id");
  memcpy(certificate->thumbprints.sha1, peer.sha1, sizeof peer.sha1);
  memcpy(certificate->thumbprints.sha256, peer.sha256, sizeof peer.sha256);
  memcpy(certificate->name, peer.name, sizeof peer.name);
  certificate->trusted = peer.trusted;
  certificate->not_before_s = peer.not_before_s;
  certificate->not_after_s = peer.not_after_s;
  conn->certificate = certificate;
  return true;
}

static void on_broker_up(void *user) {
  struct conn *conn = user;
  struct link *local = conn->local;
  const char *p = conn->head;
  size_t left = conn->head_len;
  while (left > 0) {
    size_t space = link_space(local);
    size_t n = left < space ? left : space;
    if (n == 0) { /* a new link has room for the longest packet */
      conn_free(conn);
      return;
    }
    link_write(local, p, n);
    p += n;
    left -= n;
  }
  crypto_wipe(conn->head, conn->head_len);
  conn->local = NULL;
  conn_join(conn, local, NULL);
}

static void on_broker_end(void *user, const struct dstream_end *why) {
  (void)why;
  conn_free(user);
}

/* Puts the hub's word for the certificate in the place of a password.  A client
 * with a password of its own is on its own. */
static void vouch(struct conn *conn, const struct broker_connect *connect) {
  char voucher[BROKER_VOUCHER_SIZE];
  uint8_t *packet = malloc(CONNECT_SIZE);
  int len = -1;
  if (packet != NULL && conn->front->broker_secret != NULL &&
      connect->has_user && !connect->has_password &&
      broker_voucher_make(voucher, conn->front->broker_secret,
                          connect->client_id, loop_now_ms(),
                          conn->certificate) == DSTREAM_OK)
    len = broker_connect_with_password(connect, conn->head, voucher, packet,
                                       CONNECT_SIZE);
  if (len > 0) {
    memcpy(conn->head, packet, (size_t)len);
    conn->head_len = (size_t)len;
    crypto_wipe(packet, (size_t)len);
  }
  crypto_wipe(voucher, sizeof voucher);
  free(packet);
}

/* The packet is complete: on to the broker. */
static void forward_connect(struct conn *conn,
                            const struct broker_connect *connect) {
  static const struct link_callbacks callbacks = {.on_up = on_broker_up,
                                                  .on_end = on_broker_end};
  conn->head_len = connect->length;
  vouch(conn, connect);
  if (connect_broker(conn->front, &conn->local, &callbacks, conn) !=
      DSTREAM_OK) {
    conn->local = NULL;
    conn_free(conn);
  }
}

static size_t on_connect_data(void *user, uint8_t *data, size_t len) {
  struct conn *conn = user;
  struct broker_connect connect;
  size_t before = conn->head_len;
  size_t n =
      BROKER_CONNECT_MAX - before < len ? BROKER_CONNECT_MAX - before : len;
  if (conn->local != NULL)
    return 0; /* until the relay has both */
  if (conn->head == NULL)
    conn->head = malloc(CONNECT_SIZE);
  if (conn->head == NULL) {
    conn_free(conn);
    return len;
  }
  memcpy(conn->head + before, data, n);
  conn->head_len += n;
  int status = broker_connect_parse(&connect, conn->head, conn->head_len);
  if (status == DSTREAM_EAGAIN)
    return n;
  if (status != DSTREAM_OK) {
    log_limit_write(
        &conn->front->refused, DSTREAM_LOG_WARNING,
        "front: mqtt: refused a client with a certificate: its first "
        "packet is no CONNECT, or longer than %d bytes",
        BROKER_CONNECT_MAX);
    conn_free(conn);
    return len;
  }
  size_t used = connect.length - before;
  forward_connect(conn, &connect);
  return used;
}

static const struct link_callbacks connect_callbacks = {
    .on_data = on_connect_data, .on_end = on_head_end};

/* The bytes inside a WebSocket go through a connection of their own. */
static int open_inner(struct conn *conn, struct link **local) {
  struct front *front = conn->front;
  struct link_options options = {0};
  int pair[2];
  struct conn *inner = NULL;
  if (front->count < front->options.max_connections)
    inner = conn_new(front, true);
  if (inner == NULL)
    return DSTREAM_ELIMIT;
  inner->certificate = conn->certificate;
  conn->certificate = NULL;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                 pair) != 0) {
    conn_free(inner);
    return DSTREAM_ESYSTEM;
  }
  if (link_adopt(&inner->link, front->loop, pair[1], &options,
                 &connect_callbacks, inner) != DSTREAM_OK) {
    close(pair[0]);
    inner->link = NULL;
    conn_free(inner);
    return DSTREAM_ENOMEM;
  }
  loop_timer_set(front->loop, &inner->timer, front->options.handshake_ms,
                 on_handshake_timeout);
  /* On failure the inner one sees its end. */
  return link_adopt(local, front->loop, pair[0], &options, &no_callbacks, NULL);
}

/* ---- HTTPS: the request head decides ---- */

/* Writes the head to the HTTP server's socket, with the peer's address put in
 * first: what the client itself wrote there comes after it.  A new socket pair
 * takes more than the longest head. */
static bool replay_head(int fd, const struct conn *conn,
                        const struct http_head *head) {
  const char *end_of_line = memchr(conn->head, '\n', head->length);
  size_t line = (size_t)(end_of_line - conn->head) + 1;
  char address[96];
  int n = snprintf(address, sizeof address, "X-Forwarded-For: %s\r\n",
                   link_peer(conn->link));
  struct iovec parts[3] = {{conn->head, line},
                           {address, (size_t)n},
                           {conn->head + line, head->length - line}};
  ssize_t sent = writev(fd, parts, 3);
  return sent == (ssize_t)(head->length + (size_t)n);
}

/* Hands the connection to the HTTP server; false: it could not. */
static bool conn_to_http(struct conn *conn, const struct http_head *head) {
  struct front *front = conn->front;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                 pair) != 0)
    return false;
  if (!replay_head(pair[0], conn, head)) {
    close(pair[0]);
    close(pair[1]);
    return false;
  }
  struct link_options options = {0};
  struct link *local = NULL;
  /* pair[1] is take_http's from here on, pair[0] link_adopt's. */
  if (front->options.take_http(front->options.user, pair[1],
                               link_peer(conn->link)) != DSTREAM_OK) {
    close(pair[0]);
    return false;
  }
  if (link_adopt(&local, front->loop, pair[0], &options, &no_callbacks, NULL) !=
      DSTREAM_OK)
    return false;
  loop_timer_cancel(&conn->timer); /* the HTTP server has timeouts of its own */
  conn_join(conn, local, NULL);
  return true;
}

static void conn_to_gateway(struct conn *conn, const struct http_head *head) {
  struct link *link = conn->link;
  conn->link = NULL;
  gateway_accept(conn->front->options.gateway, link, head);
  conn_free(conn);
}

/* MQTT over WebSocket: the official clients ask for the subprotocol as "MQTT"
 * or "mqtt". */
static void conn_to_mqtt(struct conn *conn, const struct http_head *head) {
  struct stream_core_options options = {.close_timeout_ms = CLOSE_TIMEOUT_MS};
  struct stream_core core;
  struct link *broker = NULL;
  int http_status = 400;
  memset(&core, 0, sizeof core);
  if (stream_core_accept(&core, &options, head, "mqtt", &http_status,
                         loop_now_ms()) != DSTREAM_OK) {
    stream_core_clear(&core);
    http_reply(conn->link, http_status,
               http_status == 426 ? "Sec-WebSocket-Version: 13\r\n"
                                    "Upgrade: websocket\r\n"
                                  : NULL,
               "this is a WebSocket endpoint for MQTT");
  } else if ((take_certificate(conn)
                  ? open_inner(conn, &broker)
                  : connect_broker(conn->front, &broker, &no_callbacks,
                                   NULL)) != DSTREAM_OK) {
    stream_core_clear(&core);
    http_reply(conn->link, 503, NULL, "the broker is not running");
  } else {
    conn_join(conn, broker, &core);
    return;
  }
  conn->link = NULL;
  conn_free(conn);
}

static bool target_is(const struct http_head *head, const char *path) {
  size_t len = strlen(path);
  return head->target.len >= len && memcmp(head->target.p, path, len) == 0;
}

static void conn_route(struct conn *conn, const struct http_head *head) {
  bool upgrade = http_head_has_token(head, "Connection", "upgrade") ||
                 http_head_get(head, "Upgrade").p != NULL;
  if (target_is(head, GATEWAY_PATH)) {
    conn_to_gateway(conn, head);
  } else if (upgrade && (target_is(head, MQTT_PATH) ||
                         target_is(head, "/%24iothub/websocket"))) {
    conn_to_mqtt(conn, head);
  } else if (!conn_to_http(conn, head)) {
    http_reply(conn->link, 503, NULL, "too many connections");
    conn->link = NULL;
    conn_free(conn);
  }
}

static void conn_refuse(struct conn *conn, int status, const char *why) {
  http_reply(conn->link, status, NULL, why);
  conn->link = NULL;
  conn_free(conn);
}

/* Collects the head; bytes behind it stay in the link for its next owner. */
static size_t on_head_data(void *user, uint8_t *data, size_t len) {
  struct conn *conn = user;
  struct http_head head;
  size_t before = conn->head_len;
  size_t n = HTTP_HEAD_MAX - before < len ? HTTP_HEAD_MAX - before : len;
  if (conn->head == NULL)
    conn->head = malloc(HTTP_HEAD_MAX);
  if (conn->head == NULL) {
    conn_refuse(conn, 503, "out of memory");
    return len;
  }
  memcpy(conn->head + before, data, n);
  conn->head_len += n;
  int status = http_head_parse_request(&head, conn->head, conn->head_len);
  if (status == DSTREAM_EAGAIN && conn->head_len < HTTP_HEAD_MAX)
    return len;
  if (status == DSTREAM_OK) {
    conn_route(conn, &head);
    return head.length - before;
  }
  if (status == DSTREAM_EHTTP)
    conn_refuse(conn, 400, "this is not an HTTP/1.1 request");
  else
    conn_refuse(conn, 431, "the request head is too large");
  return len;
}

static void on_head_end(void *user, const struct dstream_end *why) {
  struct conn *conn = user;
  if (why != NULL)
    loop_log(conn->front->loop, DSTREAM_LOG_DEBUG, "front: https: %s: %s",
             link_peer(conn->link), why->text);
  conn_free(conn);
}

static void on_handshake_timeout(struct loop_timer *timer) {
  struct conn *conn = CONTAINER_OF(timer, struct conn, timer);
  if (conn->relay != NULL) {
    /* The broker answers CONNECT, and nothing else comes first. */
    if (relay_bytes(conn->relay, RELAY_B) == 0)
      conn_free(conn);
  } else if (conn->head_len > 0 && !conn->mqtt) {
    conn_refuse(conn, 408, "the request head did not come in time");
  } else {
    conn_free(conn);
  }
}

/* ---- MQTT: straight to the broker, without a certificate ---- */

static void on_mqtt_up(void *user) {
  struct conn *conn = user;
  struct link *broker = NULL;
  if (take_certificate(conn))
    link_set_owner(conn->link, &connect_callbacks, conn);
  else if (connect_broker(conn->front, &broker, &no_callbacks, NULL) ==
           DSTREAM_OK)
    conn_join(conn, broker, NULL);
  else
    conn_free(conn);
}

/* ---- accepting ---- */

static const struct link_callbacks https_callbacks = {.on_data = on_head_data,
                                                      .on_end = on_head_end};
static const struct link_callbacks mqtt_callbacks = {.on_up = on_mqtt_up,
                                                     .on_end = on_head_end};

static void take_connection(struct listener *listener, int fd) {
  struct front *front = listener->front;
  struct conn *conn = NULL;
  if (front->count < front->options.max_connections)
    conn = conn_new(front, listener->mqtt);
  if (conn == NULL) {
    log_limit_write(&front->refused, DSTREAM_LOG_WARNING,
                    "front: %s: refused a connection: %u are open already",
                    listener->mqtt ? "mqtt" : "https", front->count);
    if (front->options.on_full != NULL)
      front->options.on_full(front->options.user, listener->mqtt, front->count);
    close(fd);
    return;
  }
  struct link_options options = {.tls = front->tls};
  if (link_adopt(&conn->link, front->loop, fd, &options,
                 listener->mqtt ? &mqtt_callbacks : &https_callbacks,
                 conn) != DSTREAM_OK) {
    conn->link = NULL;
    conn_free(conn);
    return;
  }
  loop_timer_set(front->loop, &conn->timer, front->options.handshake_ms,
                 on_handshake_timeout);
}

static void on_accept_again(struct loop_timer *timer) {
  struct listener *listener = CONTAINER_OF(timer, struct listener, pause);
  if (listener->listening)
    loop_watch_want(&listener->watch, LOOP_READ);
}

static void on_accept(struct loop_watch *watch, unsigned events) {
  (void)events;
  struct listener *listener = CONTAINER_OF(watch, struct listener, watch);
  struct front *front = listener->front;
  for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      take_connection(listener, fd);
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
        errno == ENOMEM) {
      log_limit_write(&front->refused, DSTREAM_LOG_ERROR,
                      "front: can't accept: %s", strerror(errno));
      loop_watch_want(watch, 0);
      loop_timer_set(front->loop, &listener->pause, ACCEPT_PAUSE_MS,
                     on_accept_again);
    }
    if (errno != EINTR && errno != ECONNABORTED)
      return;
  }
}

/* ---- listening ---- */

static int listener_start(struct listener *listener, struct front *front,
                          bool mqtt, uint16_t port, struct dstream_end *error) {
  const char *host = front->options.bind_address;
  int fd = listen_tcp(host, port, BACKLOG);
  if (fd < 0) {
    int failed = errno;
    end_set(error, DSTREAM_ESYSTEM, "can't listen on %s port %u for %s: %s",
            host == NULL ? "any address," : host, (unsigned)port,
            mqtt ? "MQTT" : "HTTPS", strerror(failed));
    error->sys_errno = failed;
    return DSTREAM_ESYSTEM;
  }
  listener->front = front;
  listener->mqtt = mqtt;
  listener->port = listen_port(fd);
  int status = loop_watch_start(front->loop, &listener->watch, fd, on_accept);
  if (status != DSTREAM_OK) {
    end_set(error, status, "can't listen: %s", dstream_status_text(status));
    return status;
  }
  listener->listening = true;
  loop_watch_want(&listener->watch, LOOP_READ);
  return DSTREAM_OK;
}

static void listener_stop(struct listener *listener) {
  if (!listener->listening)
    return;
  listener->listening = false;
  loop_timer_cancel(&listener->pause);
  loop_watch_close(&listener->watch);
}

/* ---- life ---- */

static int make_tls(const struct front *front, struct tls_config **out,
                    struct dstream_end *error) {
  struct tls_config *tls = NULL;
  int status =
      tls_config_server(&tls, front->cert_file, front->key_file, error);
  if (status == DSTREAM_OK)
    status = tls_config_ask_clients(tls, front->device_ca_file, error);
  if (status == DSTREAM_OK)
    *out = tls;
  else
    tls_config_free(tls);
  return status;
}

static bool copy_texts(struct front *front,
                       const struct front_options *options) {
  front->cert_file = strdup(options->cert_file);
  front->key_file = strdup(options->key_file);
  front->broker_socket = strdup(options->broker_socket);
  if (options->broker_secret != NULL)
    front->broker_secret = strdup(options->broker_secret);
  if (options->device_ca_file != NULL)
    front->device_ca_file = strdup(options->device_ca_file);
  return front->cert_file != NULL && front->key_file != NULL &&
         front->broker_socket != NULL &&
         (front->broker_secret != NULL) == (options->broker_secret != NULL) &&
         (front->device_ca_file != NULL) == (options->device_ca_file != NULL);
}

int front_new(struct front **out, dstream_loop *loop,
              const struct front_options *options, struct dstream_end *error) {
  struct front *front = calloc(1, sizeof *front);
  if (front == NULL)
    return DSTREAM_ENOMEM;
  front->loop = loop;
  log_limit_init(&front->refused, loop, "front: refused connections", NULL);
  front->options = *options;
  if (front->options.max_connections == 0)
    front->options.max_connections = DEFAULT_MAX_CONNECTIONS;
  if (front->options.handshake_ms == 0)
    front->options.handshake_ms = DEFAULT_HANDSHAKE_MS;
  int status = DSTREAM_ENOMEM;
  if (copy_texts(front, options))
    status = make_tls(front, &front->tls, error);
  else
    end_set(error, DSTREAM_ENOMEM, "out of memory");
  if (status == DSTREAM_OK)
    status =
        listener_start(&front->https, front, false, options->https_port, error);
  if (status == DSTREAM_OK)
    status =
        listener_start(&front->mqtt, front, true, options->mqtt_port, error);
  if (status != DSTREAM_OK) {
    front_free(front);
    return status;
  }
  *out = front;
  return DSTREAM_OK;
}

uint16_t front_https_port(const struct front *front) {
  return front->https.port;
}

uint16_t front_mqtt_port(const struct front *front) {
  return front->mqtt.port;
}

unsigned front_count(const struct front *front) {
  return front->count;
}

int front_reload(struct front *front, struct dstream_end *error) {
  struct tls_config *fresh = NULL;
  int status = make_tls(front, &fresh, error);
  if (status != DSTREAM_OK)
    return status;
  tls_config_free(front->tls);
  front->tls = fresh;
  return DSTREAM_OK;
}

void front_stop_listening(struct front *front) {
  listener_stop(&front->https);
  listener_stop(&front->mqtt);
}

void front_free(struct front *front) {
  if (front == NULL)
    return;
  front_stop_listening(front);
  while (front->conns != NULL)
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): freeing unlinks it */
    conn_free(front->conns);
  log_limit_end(&front->refused);
  tls_config_free(front->tls);
  free(front->cert_file);
  free(front->key_file);
  free(front->broker_socket);
  free(front->device_ca_file);
  if (front->broker_secret != NULL)
    crypto_wipe(front->broker_secret, strlen(front->broker_secret));
  free(front->broker_secret);
  free(front);
}
