#include "hub/http_server.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/http_body.h"

#define IN_SIZE     (HTTP_HEAD_MAX + 4096)
#define PEER_SIZE   80
#define DRAIN_MS    2000
#define DRAIN_MAX   (1u << 20)
#define KEEP_MIN    1024
#define OUT_PER_S   16384
#define FRAMING_MAX 16384 /* and 8 bytes for each of the body's */

/* HEAD    awaits a request's head; next BODY, or the end
 * BODY    awaits the rest of its body; next PENDING, or WRITING (too large)
 * PENDING awaits the reply; next WRITING, or the end: the client went
 * WRITING awaits room for the rest of the reply; next HEAD or DRAIN
 * DRAIN   said its last word and awaits the client's end, so that what the
 *         client still sends does not destroy the reply on its way */
enum state { HEAD, BODY, PENDING, WRITING, DRAIN };

struct http_exchange {
  struct http_server *server;
  struct http_exchange *next, *prev;
  enum state state;
  struct loop_watch watch;
  struct loop_timer timer;
  struct loop_timer next_timer; /* goes on with what is in the buffer */
  struct http_body body;
  size_t body_taken;
  size_t framing; /* what came beside it: the sizes of chunks */
  bool keep_body;
  char *kept; /* the body so far, body_taken bytes, if it is kept */
  size_t kept_size;
  size_t drained;
  void (*on_cancel)(void *user);
  void *user;
  bool keep_alive;
  bool head_only; /* HEAD: the reply's body is only measured */
  char *in;       /* IN_SIZE bytes, while there is something to hold */
  size_t in_len;
  size_t head_len; /* of the request at the start of `in` */
  char *out;       /* what is left of the reply */
  size_t out_len, out_sent;
  struct http_head head;
  char peer[PEER_SIZE];
};

struct http_server {
  dstream_loop *loop;
  struct http_server_options options;
  http_server_fn *handler;
  void *user;
  struct http_exchange all; /* list head */
  unsigned count;
};

static void go_on(struct loop_timer *timer);
static void on_timeout(struct loop_timer *timer);

/* Keys of devices may have been in it. */
static void forget_body(struct http_exchange *c) {
  if (c->kept != NULL)
    crypto_wipe(c->kept, c->kept_size);
  free(c->kept);
  c->kept = NULL;
  c->kept_size = 0;
}

static void forget_reply(struct http_exchange *c) {
  if (c->out != NULL)
    crypto_wipe(c->out, c->out_len);
  free(c->out);
  c->out = NULL;
}

static void connection_free(struct http_exchange *c) {
  loop_watch_close(&c->watch);
  loop_timer_cancel(&c->timer);
  loop_timer_cancel(&c->next_timer);
  c->next->prev = c->prev;
  c->prev->next = c->next;
  c->server->count--;
  free(c->in);
  forget_body(c);
  forget_reply(c);
  free(c);
}

static void connection_end(struct http_exchange *c) {
  void (*on_cancel)(void *) = c->state == PENDING ? c->on_cancel : NULL;
  void *user = c->user;
  connection_free(c);
  if (on_cancel != NULL)
    on_cancel(user);
}

static void set_timer(struct http_exchange *c, uint64_t ms) {
  loop_timer_set(c->server->loop, &c->timer, ms, on_timeout);
}

static struct http_exchange *of_timer(struct loop_timer *timer) {
  return CONTAINER_OF(timer, struct http_exchange, timer);
}

/* ---- writing ---- */

static void begin_drain(struct http_exchange *c) {
  c->state = DRAIN;
  free(c->in);
  c->in = NULL;
  c->in_len = 0;
  shutdown(c->watch.fd, SHUT_WR);
  set_timer(c, DRAIN_MS);
  loop_watch_want(&c->watch, LOOP_READ);
}

static void reply_done(struct http_exchange *c) {
  forget_reply(c);
  if (!c->keep_alive) {
    begin_drain(c);
    return;
  }
  c->state = HEAD;
  set_timer(c, c->in_len > 0 ? c->server->options.head_ms
                             : c->server->options.idle_ms);
  loop_watch_want(&c->watch, LOOP_READ);
  if (c->in_len > 0)
    loop_timer_set(c->server->loop, &c->next_timer, 0, go_on);
}

/* Sends what can be sent; the connection may end. */
static void flush(struct http_exchange *c) {
  while (c->out_sent < c->out_len) {
    ssize_t n = send(c->watch.fd, c->out + c->out_sent,
                     c->out_len - c->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      loop_watch_want(&c->watch, LOOP_WRITE);
      return;
    }
    if (n < 0) {
      connection_end(c);
      return;
    }
    c->out_sent += (size_t)n;
  }
  reply_done(c);
}

static const char *phrase(int status) {
  static const struct {
    int status;
    const char *text;
  } phrases[] = {{200, "OK"},
                 {204, "No Content"},
                 {304, "Not Modified"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {409, "Conflict"},
                 {412, "Precondition Failed"},
                 {413, "Content Too Large"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"}};
  for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++) {
    if (phrases[i].status == status)
      return phrases[i].text;
  }
  return "Unknown";
}

/* With a reply of no bytes it only measures. */
static int print_head(char *out, size_t size, const struct http_answer *answer,
                      bool keep_alive) {
  char date[40] = "";
  char length[48] = ""; /* 204 may have none, 304 not this: RFC 9110 8.6 */
  time_t now = time(NULL);
  struct tm utc;
  if (gmtime_r(&now, &utc) != NULL)
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &utc);
  if (answer->status != 204 && answer->status != 304)
    snprintf(length, sizeof length, "Content-Length: %zu\r\n",
             answer->body_len);
  return snprintf(out, size,
                  "HTTP/1.1 %d %s\r\nServer: dstream-hub\r\nDate: %s\r\n"
                  "%s%s%s%s%s%s\r\n",
                  answer->status, phrase(answer->status), date, length,
                  answer->type != NULL ? "Content-Type: " : "",
                  answer->type != NULL ? answer->type : "",
                  answer->type != NULL ? "\r\n" : "",
                  answer->headers != NULL ? answer->headers : "",
                  keep_alive ? "" : "Connection: close\r\n");
}

static void begin_reply(struct http_exchange *c,
                        const struct http_answer *answer) {
  c->state = WRITING;
  c->on_cancel = NULL;
  forget_body(c);
  size_t body_len = c->head_only ? 0 : answer->body_len;
  int len = print_head(NULL, 0, answer, c->keep_alive);
  if (len > 0 && body_len < HTTP_ANSWER_MAX - (size_t)len)
    c->out = malloc((size_t)len + body_len + 1);
  if (c->out == NULL) {
    set_timer(c, 0); /* no memory, or no such answer: the end */
    return;
  }
  /* The date has one length. */
  print_head(c->out, (size_t)len + 1, answer, c->keep_alive);
  if (body_len > 0)
    memcpy(c->out + len, answer->body, body_len);
  c->out_len = (size_t)len + body_len;
  c->out_sent = 0;
  set_timer(c, c->server->options.head_ms + 1000 * (c->out_len / OUT_PER_S));
  loop_watch_want(&c->watch, LOOP_WRITE);
}

struct slice http_exchange_body(const struct http_exchange *exchange) {
  if (exchange->kept == NULL)
    return (struct slice){"", 0};
  return (struct slice){exchange->kept, exchange->body_taken};
}

void http_exchange_reply(struct http_exchange *exchange,
                         const struct http_answer *answer) {
  assert(exchange->state == PENDING);
  begin_reply(exchange, answer);
}

void http_exchange_on_cancel(struct http_exchange *exchange,
                             void (*fn)(void *user), void *user) {
  if (exchange->state == PENDING) {
    exchange->on_cancel = fn;
    exchange->user = user;
  }
}

/* The request itself is wrong: what follows it can't be understood. */
static void refuse(struct http_exchange *c, int status) {
  struct http_answer answer = {
      .status = status, .type = "text/plain", .body = phrase(status)};
  answer.body_len = strlen(answer.body);
  c->keep_alive = false;
  begin_reply(c, &answer);
}

/* ---- reading ---- */

static void drop_input(struct http_exchange *c, size_t len) {
  memmove(c->in, c->in + len, c->in_len - len);
  c->in_len -= len;
  if (c->in_len == 0) {
    free(c->in);
    c->in = NULL;
  }
}

static void dispatch(struct http_exchange *c) {
  c->state = PENDING;
  loop_timer_cancel(&c->timer);
  c->server->handler(c->server->user, c, &c->head, c->peer);
  forget_body(c);
  drop_input(c, c->head_len);
}

/* Keeps what came of the body, from body_taken on.  0 or the status to refuse
 * with. */
static int keep(struct http_exchange *c, const char *data, size_t len) {
  size_t end = c->body_taken + len;
  if (end > c->server->options.max_body)
    return 413;
  if (!c->keep_body || len == 0) {
    c->body_taken = end;
    return 0;
  }
  if (end > c->kept_size) {
    size_t size = 2 * end < KEEP_MIN ? KEEP_MIN : 2 * end;
    char *more = malloc(size);
    if (more == NULL)
      return 503;
    if (c->body_taken > 0)
      memcpy(more, c->kept, c->body_taken);
    forget_body(c);
    c->kept = more;
    c->kept_size = size;
  }
  memcpy(c->kept + c->body_taken, data, len);
  c->body_taken = end;
  return 0;
}

/* Takes the body's bytes, which begin after the head.  True when complete. */
static bool take_body(struct http_exchange *c) {
  size_t used = 0;
  char *body = c->in + c->head_len;
  size_t had = c->in_len - c->head_len;
  while (!c->body.done && used < had) {
    size_t step = 0;
    long n =
        http_body_feed(&c->body, body + used, had - used, &step, body + used);
    if (n < 0) {
      refuse(c, 400);
      return false;
    }
    int refused = keep(c, body + used, (size_t)n);
    used += step;
    c->framing += step - (size_t)n;
    if (refused == 0 && c->framing > FRAMING_MAX + 8 * c->body_taken)
      refused = 413;
    if (refused != 0) {
      refuse(c, refused);
      return false;
    }
    if (step == 0)
      break;
  }
  memmove(body, body + used, had - used);
  c->in_len -= used;
  return c->body.done;
}

/* Says how long the body is.  0 or the status to refuse with. */
static int begin_body(struct http_exchange *c) {
  const struct http_head *head = &c->head;
  uint64_t length = 0;
  c->body = (struct http_body){.kind = HTTP_BODY_LENGTH};
  c->body_taken = 0;
  c->framing = 0;
  if (http_head_count(head, "Transfer-Encoding") > 0) {
    struct slice coding = http_head_get(head, "Transfer-Encoding");
    if (http_head_count(head, "Transfer-Encoding") != 1 ||
        http_head_count(head, "Content-Length") != 0 ||
        !slice_eq_nocase(coding, "chunked") || head->minor == 0)
      return 400;
    c->body.kind = HTTP_BODY_CHUNKED;
    return 0;
  }
  if (http_head_content_length(head, &length) < 0)
    return 400;
  if (length > c->server->options.max_body)
    return 413;
  c->body.left = length;
  c->body.done = length == 0;
  return 0;
}

static void begin_request(struct http_exchange *c) {
  const struct http_head *head = &c->head;
  c->head_len = head->length;
  c->head_only = slice_eq(head->method, "HEAD");
  c->keep_alive =
      head->minor > 0 && !http_head_has_token(head, "Connection", "close");
  int refused = begin_body(c);
  if (refused == 0 && head->minor > 0 && http_head_count(head, "Host") != 1)
    refused = 400; /* RFC 9112 3.2 */
  if (refused != 0) {
    refuse(c, refused);
    return;
  }
  c->state = BODY;
  c->keep_body = !c->body.done && c->server->options.keep_body != NULL &&
                 c->server->options.keep_body(c->server->user, head);
  if (!c->body.done && c->in_len == c->head_len &&
      http_head_has_token(head, "Expect", "100-continue")) {
    static const char go[] = "HTTP/1.1 100 Continue\r\n\r\n";
    /* A client that does not read it goes on by itself. */
    (void)!send(c->watch.fd, go, sizeof go - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
}

/* Handles what is in the buffer. */
static void process(struct http_exchange *c) {
  if (c->state == HEAD && c->in_len > 0) {
    int status = http_head_parse_request(&c->head, c->in, c->in_len);
    if (status == DSTREAM_EAGAIN)
      return;
    if (status == DSTREAM_OK)
      begin_request(c);
    else
      refuse(c, status == DSTREAM_ELIMIT ? 431 : 400);
  }
  if (c->state == BODY && (c->body.done || take_body(c)))
    dispatch(c);
}

static void go_on(struct loop_timer *timer) {
  struct http_exchange *c =
      CONTAINER_OF(timer, struct http_exchange, next_timer);
  process(c);
}

static void drain(struct http_exchange *c) {
  char scrap[4096];
  ssize_t n = recv(c->watch.fd, scrap, sizeof scrap, MSG_DONTWAIT);
  if (n > 0)
    c->drained += (size_t)n;
  if (n == 0 || c->drained > DRAIN_MAX ||
      (n < 0 && errno != EINTR && errno != EAGAIN))
    connection_end(c);
}

static void receive(struct http_exchange *c) {
  if (c->in == NULL) {
    c->in = malloc(IN_SIZE);
    c->in_len = 0;
    if (c->in == NULL) {
      connection_end(c);
      return;
    }
    if (c->state == HEAD)
      set_timer(c, c->server->options.head_ms);
  }
  if (c->in_len == IN_SIZE) { /* a request waits behind the pending one */
    loop_watch_want(&c->watch, 0);
    return;
  }
  ssize_t n =
      recv(c->watch.fd, c->in + c->in_len, IN_SIZE - c->in_len, MSG_DONTWAIT);
  if (n < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (n <= 0) {
    connection_end(c);
    return;
  }
  c->in_len += (size_t)n;
  process(c);
}

static void on_event(struct loop_watch *watch, unsigned events) {
  struct http_exchange *c = CONTAINER_OF(watch, struct http_exchange, watch);
  if (events & LOOP_GONE) {
    connection_end(c);
  } else if (events & LOOP_WRITE) {
    if (c->state == WRITING)
      flush(c);
  } else if (c->state == DRAIN) {
    drain(c);
  } else if (c->state != WRITING) {
    receive(c);
  }
}

static void on_timeout(struct loop_timer *timer) {
  struct http_exchange *c = of_timer(timer);
  connection_end(c);
}

/* ---- life ---- */

int http_server_new(struct http_server **out, dstream_loop *loop,
                    const struct http_server_options *options,
                    http_server_fn *handler, void *user) {
  struct http_server *server = calloc(1, sizeof *server);
  if (server == NULL)
    return DSTREAM_ENOMEM;
  server->loop = loop;
  server->options = *options;
  if (server->options.max_connections == 0)
    server->options.max_connections = 4000;
  if (server->options.head_ms == 0)
    server->options.head_ms = 10000;
  if (server->options.idle_ms == 0)
    server->options.idle_ms = 60000;
  server->handler = handler;
  server->user = user;
  server->all.next = server->all.prev = &server->all;
  *out = server;
  return DSTREAM_OK;
}

int http_server_take(struct http_server *server, int fd, const char *peer) {
  struct http_exchange *c = NULL;
  int status = DSTREAM_ELIMIT;
  if (server->count < server->options.max_connections) {
    c = calloc(1, sizeof *c);
    status = DSTREAM_ENOMEM;
  }
  if (c == NULL) {
    close(fd);
    return status;
  }
  status = loop_watch_start(server->loop, &c->watch, fd, on_event);
  if (status != DSTREAM_OK) {
    free(c);
    return status;
  }
  c->server = server;
  c->next = &server->all;
  c->prev = server->all.prev;
  c->prev->next = c;
  server->all.prev = c;
  server->count++;
  snprintf(c->peer, sizeof c->peer, "%s", peer);
  set_timer(c, server->options.head_ms);
  loop_watch_want(&c->watch, LOOP_READ);
  return DSTREAM_OK;
}

unsigned http_server_count(const struct http_server *server) {
  return server->count;
}

void http_server_free(struct http_server *server) {
  if (server == NULL)
    return;
  while (server->all.next != &server->all)
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): freeing unlinks it */
    connection_end(server->all.next);
  free(server);
}
