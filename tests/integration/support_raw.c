#include "integration/support_raw.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "core/ws_upgrade.h"
#include "integration/support_streams.h"

#define TIMEOUT_S 15

bool raw_failed(struct raw *raw, const char *file, int line, const char *what) {
  if (raw->error[0] == '\0')
    snprintf(raw->error, sizeof raw->error, "%s:%d: %s (errno %s, tls %s)",
             file, line, what, strerror(errno),
             ERR_reason_error_string(ERR_peek_last_error()) == NULL
                 ? "fine"
                 : ERR_reason_error_string(ERR_peek_last_error()));
  return false;
}

/* ---- the connection ---- */

static int dial(const char *host, uint16_t port) {
  struct addrinfo hints;
  struct addrinfo *list = NULL;
  char service[8];
  memset(&hints, 0, sizeof hints);
  hints.ai_socktype = SOCK_STREAM;
  snprintf(service, sizeof service, "%u", (unsigned)port);
  if (getaddrinfo(host, service, &hints, &list) != 0)
    return -1;
  int fd = -1;
  for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
    fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
      close(fd);
      fd = -1;
    }
  }
  freeaddrinfo(list);
  struct timeval timeout = {TIMEOUT_S, 0};
  if (fd >= 0) {
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  }
  return fd;
}

static void on_message(int write, int version, int type, const void *data,
                       size_t len, SSL *ssl, void *arg) {
  struct raw *raw = arg;
  (void)version;
  (void)ssl;
  if (write == 0 && type == SSL3_RT_HEADER && len > 0 &&
      *(const uint8_t *)data == SSL3_RT_APPLICATION_DATA)
    raw->records++;
}

bool raw_connect(struct raw *raw, const char *host, uint16_t port,
                 const char *ca_file) {
  raw_close(raw);
  raw->in_len = 0;
  raw->ended = raw->reset = false;
  raw->context = SSL_CTX_new(TLS_client_method());
  NEED(raw, raw->context != NULL);
  NEED(raw, SSL_CTX_load_verify_locations(raw->context, ca_file, NULL) == 1);
  SSL_CTX_set_verify(raw->context, SSL_VERIFY_PEER, NULL);
  raw->ssl = SSL_new(raw->context);
  NEED(raw, raw->ssl != NULL);
  raw->records = 0;
  SSL_set_msg_callback(raw->ssl, on_message);
  SSL_set_msg_callback_arg(raw->ssl, raw);
  /* SSL_set_tlsext_host_name without its cast, which drops the const. */
  union {
    const char *in;
    void *out;
  } name = {host};
  SSL_ctrl(raw->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
           name.out);
  NEED(raw, SSL_set1_host(raw->ssl, host) == 1);
  raw->fd = dial(host, port);
  NEED(raw, raw->fd >= 0);
  NEED(raw, SSL_set_fd(raw->ssl, raw->fd) == 1);
  NEED(raw, SSL_connect(raw->ssl) == 1);
  return true;
}

bool raw_connect_plain(struct raw *raw, const char *host, uint16_t port) {
  raw_close(raw);
  raw->in_len = 0;
  raw->ended = raw->reset = false;
  raw->fd = dial(host, port);
  NEED(raw, raw->fd >= 0);
  return true;
}

void raw_close(struct raw *raw) {
  SSL_free(raw->ssl);
  SSL_CTX_free(raw->context);
  raw->ssl = NULL;
  raw->context = NULL;
  if (raw->fd > 0) /* zeroed: it was never connected, and 0 is not its own */
    close(raw->fd);
  raw->fd = -1;
}

void raw_fin(struct raw *raw) {
  shutdown(raw->fd, SHUT_WR);
}

bool raw_finish(struct raw *raw) {
  if (raw->ssl != NULL)
    SSL_shutdown(raw->ssl);
  shutdown(raw->fd, SHUT_WR);
  NEED(raw, raw_wait_end(raw));
  return true;
}

void raw_reset(struct raw *raw) {
  struct linger now = {1, 0};
  setsockopt(raw->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  raw_close(raw);
}

bool raw_send(struct raw *raw, const void *data, size_t len) {
  const char *from = data;
  while (len > 0) {
    int most = len > (1 << 20) ? 1 << 20 : (int)len;
    int n = raw->ssl != NULL
                ? SSL_write(raw->ssl, from, most)
                : (int)send(raw->fd, from, (size_t)most, MSG_NOSIGNAL);
    if (n <= 0)
      return false;
    from += n;
    len -= (size_t)n;
  }
  return true;
}

bool raw_text(struct raw *raw, const char *text) {
  return raw_send(raw, text, strlen(text));
}

/* Reads what is there, at least something, to the end of `in`. */
static bool more(struct raw *raw) {
  if (raw->ended || raw->in_len == sizeof raw->in)
    return false;
  errno = 0;
  int room = (int)(sizeof raw->in - raw->in_len);
  uint8_t *to = raw->in + raw->in_len;
  int n = raw->ssl != NULL ? SSL_read(raw->ssl, to, room)
                           : (int)recv(raw->fd, to, (size_t)room, 0);
  if (n > 0) {
    raw->in_len += (size_t)n;
    return true;
  }
  int error = SSL_ERROR_SYSCALL;
  if (raw->ssl != NULL)
    error = SSL_get_error(raw->ssl, n);
  else if (n == 0)
    errno = 0;
  if (error == SSL_ERROR_SYSCALL && (errno == EAGAIN || errno == EWOULDBLOCK))
    return false;
  raw->ended = true;
  raw->reset = error == SSL_ERROR_SYSCALL && errno != 0;
  return false;
}

static void drop(struct raw *raw, size_t len) {
  raw->in_len -= len;
  memmove(raw->in, raw->in + len, raw->in_len);
}

bool raw_read(struct raw *raw, void *out, size_t len) {
  char *to = out;
  while (len > 0) {
    if (raw->in_len == 0 && !more(raw))
      return false;
    size_t n = len < raw->in_len ? len : raw->in_len;
    memcpy(to, raw->in, n);
    drop(raw, n);
    to += n;
    len -= n;
  }
  return true;
}

bool raw_wait_end(struct raw *raw) {
  do
    raw->in_len = 0;
  while (more(raw));
  return raw->ended;
}

/* ---- HTTP ---- */

int raw_answer(struct raw *raw) {
  char *end = NULL;
  size_t len = 0;
  raw->head[0] = '\0';
  while (end == NULL && len < sizeof raw->head - 1) {
    if (!raw_read(raw, raw->head + len, 1))
      return 0;
    raw->head[++len] = '\0';
    if (len >= 4 && memcmp(raw->head + len - 4, "\r\n\r\n", 4) == 0)
      end = raw->head + len;
  }
  const char *field = strcasestr(raw->head, "\r\nContent-Length:");
  size_t body = field == NULL ? 0 : strtoul(field + 17, NULL, 10);
  if (end == NULL || body >= sizeof raw->head - len ||
      !raw_read(raw, raw->head + len, body))
    return 0;
  raw->head[len + body] = '\0';
  return strncmp(raw->head, "HTTP/1.1 ", 9) == 0
             ? (int)strtol(raw->head + 9, NULL, 10)
             : 0;
}

/* ---- WebSocket ---- */

int raw_upgrade(struct raw *raw, const char *host, const char *path,
                const char *token, const void *behind, size_t behind_len) {
  char key[WS_KEY_SIZE];
  char expected[WS_ACCEPT_SIZE];
  char request[16384];
  if (ws_upgrade_key(key) != 0 ||
      ws_upgrade_accept_value(slice_of(key), expected) != 0)
    return 0;
  int n =
      snprintf(request, sizeof request,
               "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"
               "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
               "Sec-WebSocket-Version: 13\r\n%s%s%s\r\n",
               path, host, key, token != NULL ? "Authorization: Bearer " : "",
               token != NULL ? token : "", token != NULL ? "\r\n" : "");
  if (n < 0 || (size_t)n + behind_len > sizeof request)
    return 0;
  if (behind_len > 0)
    memcpy(request + n, behind, behind_len);
  if (!raw_send(raw, request, (size_t)n + behind_len))
    return 0;
  int status = raw_answer(raw);
  if (status == 101 && strstr(raw->head, expected) == NULL)
    return 0;
  return status;
}

size_t raw_frame(uint8_t *out, uint8_t first, const void *payload, size_t len) {
  static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
  size_t n = 0;
  out[n++] = first;
  if (len < 126) {
    out[n++] = (uint8_t)(0x80 | len);
  } else {
    int bytes = len < 65536 ? 2 : 8;
    out[n++] = bytes == 2 ? 0x80 | 126 : 0x80 | 127;
    for (int i = bytes - 1; i >= 0; i--)
      out[n++] = (uint8_t)((uint64_t)len >> (8 * i));
  }
  memcpy(out + n, mask, 4);
  n += 4;
  for (size_t i = 0; i < len; i++)
    out[n + i] = ((const uint8_t *)payload)[i] ^ mask[i % 4];
  return n + len;
}

bool raw_send_frame(struct raw *raw, uint8_t first, const void *payload,
                    size_t len) {
  uint8_t *frame = malloc(len + 14);
  NEED(raw, frame != NULL);
  size_t n = raw_frame(frame, first, payload, len);
  bool ok = raw_send(raw, frame, n);
  free(frame);
  NEED(raw, ok);
  return true;
}

bool raw_read_frame(struct raw *raw, struct raw_frame *frame) {
  uint8_t head[10];
  if (!raw_read(raw, head, 2))
    return false;
  frame->first = head[0];
  frame->masked = (head[1] & 0x80) != 0;
  frame->len = head[1] & 0x7f;
  if (frame->len >= 126) {
    int bytes = frame->len == 126 ? 2 : 8;
    if (!raw_read(raw, head, (size_t)bytes))
      return false;
    frame->len = 0;
    for (int i = 0; i < bytes; i++)
      frame->len = frame->len << 8 | head[i];
  }
  return frame->len <= sizeof frame->payload &&
         raw_read(raw, frame->payload, (size_t)frame->len);
}

static bool is_close(struct raw_frame *frame, int code, const char *text) {
  if (frame->first != 0x88 || frame->masked || frame->len > 125)
    return false;
  if (code < 0)
    return frame->len == 0;
  frame->payload[frame->len] = '\0';
  return frame->len >= 2 &&
         (frame->payload[0] << 8 | frame->payload[1]) == code &&
         strstr((const char *)frame->payload + 2, text) != NULL;
}

bool raw_expect_close(struct raw *raw, int code, const char *text) {
  struct raw_frame *frame = calloc(1, sizeof *frame);
  NEED(raw, frame != NULL);
  bool came;
  do
    came = raw_read_frame(raw, frame);
  while (came && frame->first == 0x89);
  bool ok = came && is_close(frame, code, text);
  if (!ok)
    snprintf(raw->error, sizeof raw->error,
             "expected Close %d \"%s\", got %s %02x, %d \"%.100s\"", code, text,
             came ? "frame" : "nothing", frame->first,
             frame->payload[0] << 8 | frame->payload[1],
             (const char *)frame->payload + 2);
  free(frame);
  return ok;
}

/* ---- MQTT ---- */

static size_t put_text(uint8_t *out, const char *text) {
  size_t len = strlen(text);
  out[0] = (uint8_t)(len >> 8);
  out[1] = (uint8_t)len;
  memcpy(out + 2, text, len);
  return len + 2;
}

static bool send_packet(struct raw *raw, uint8_t first, const uint8_t *body,
                        size_t len) {
  uint8_t packet[16384];
  size_t n = 0;
  size_t left = len;
  if (len > sizeof packet - 5)
    return false;
  packet[n++] = first;
  do {
    packet[n++] = (uint8_t)(left % 128 | (left >= 128 ? 128 : 0));
    left /= 128;
  } while (left > 0);
  memcpy(packet + n, body, len);
  return raw_send(raw, packet, n + len);
}

static bool read_packet(struct raw *raw, uint8_t *first, uint8_t *body,
                        size_t size, size_t *len) {
  uint8_t byte;
  size_t left = 0;
  int shift = 0;
  if (!raw_read(raw, first, 1))
    return false;
  do {
    if (!raw_read(raw, &byte, 1))
      return false;
    left |= (size_t)(byte & 127) << shift;
    shift += 7;
  } while (byte >= 128 && shift < 28);
  *len = left;
  return left <= size && raw_read(raw, body, left);
}

int raw_mqtt_connect(struct raw *raw, const char *client_id, const char *user,
                     const char *password) {
  uint8_t body[12288];
  uint8_t first;
  size_t n = put_text(body, "MQTT");
  size_t len = 0;
  body[n++] = 4;
  body[n++] = (uint8_t)(password != NULL ? 0xC2 : 0x82);
  body[n++] = 0;
  body[n++] = 60;
  n += put_text(body + n, client_id);
  n += put_text(body + n, user);
  if (password != NULL)
    n += put_text(body + n, password);
  if (!send_packet(raw, 0x10, body, n) ||
      !read_packet(raw, &first, body, sizeof body, &len) || first != 0x20 ||
      len != 2)
    return -1;
  return body[1];
}

int raw_mqtt_subscribe(struct raw *raw, const char *filter) {
  uint8_t body[1024];
  uint8_t first;
  size_t len = 0;
  body[0] = 0;
  body[1] = 1;
  size_t n = 2 + put_text(body + 2, filter);
  body[n++] = 0;
  if (!send_packet(raw, 0x82, body, n) ||
      !read_packet(raw, &first, body, sizeof body, &len) || first != 0x90 ||
      len != 3)
    return -1;
  return body[2];
}

bool raw_mqtt_publish(struct raw *raw, const char *topic) {
  uint8_t body[12288];
  if (strlen(topic) > sizeof body - 2)
    return false;
  return send_packet(raw, 0x30, body, put_text(body, topic));
}

bool raw_mqtt_message(struct raw *raw, char *topic, size_t size) {
  uint8_t body[12288];
  uint8_t first;
  size_t len = 0;
  do {
    if (!read_packet(raw, &first, body, sizeof body, &len))
      return false;
  } while ((first & 0xF0) != 0x30);
  size_t n = (size_t)body[0] << 8 | body[1];
  if (len < 2 || n > len - 2 || n >= size)
    return false;
  memcpy(topic, body + 2, n);
  topic[n] = '\0';
  return true;
}

/* ---- scripts ---- */

static void wake(void *arg) {
  (void)arg;
}

static void *play(void *arg) {
  struct script *script = arg;
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, NULL);
  script->ok = script->fn(&script->raw, script->arg);
  raw_close(&script->raw);
  atomic_store(&script->over, true);
  dstream_loop_post(test_loop, wake, NULL);
  return NULL;
}

struct script *script_start(script_fn *fn, void *arg) {
  struct script *script = calloc(1, sizeof *script);
  assert_non_null(script);
  script->fn = fn;
  script->arg = arg;
  script->raw.fd = -1;
  assert_int_equal(pthread_create(&script->thread, NULL, play, script), 0);
  return script;
}

void script_end(struct script *script) {
  WAIT_MS(atomic_load(&script->over), 4 * TIMEOUT_S * 1000);
  pthread_join(script->thread, NULL);
  bool ok = script->ok;
  char error[sizeof script->raw.error];
  memcpy(error, script->raw.error, sizeof error);
  free(script);
  if (!ok)
    fail_msg("%s", error);
}

void run_script(script_fn *fn, void *arg) {
  script_end(script_start(fn, arg));
}

bool script_await(atomic_int *number, int value) {
  uint64_t until_ms = test_now_ms() + 10000;
  while (atomic_load(number) < value) {
    if (test_now_ms() > until_ms)
      return false;
    poll(NULL, 0, 1);
  }
  return true;
}
