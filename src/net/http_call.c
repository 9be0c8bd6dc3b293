#include "net/http_call.h"

#include <stdlib.h>
#include <string.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"
#include "core/http_body.h"

#define LINGER_MS 1000

struct http_call {
  dstream_loop *loop;
  struct link *link;
  struct http_pool *pool;
  const struct tls_config *tls;
  const struct link_proxy *proxy;
  uint16_t port;
  bool reused;   /* the link comes from the pool */
  bool heard;    /* a byte of the answer came */
  bool peer_end; /* the server ended its direction */
  bool overrun;  /* more than the answer came */
  http_call_fn *done;
  void *user;
  struct loop_timer timer;
  struct loop_task task;
  struct dstream_end error;
  bool finished;
  char *request;
  struct http_head head;
  bool have_head;
  struct http_body body;
  size_t body_len;
  size_t len;
  char host[256];
  char buffer[HTTP_HEAD_MAX + HTTP_CALL_BODY_MAX]; /* head, then body */
};

static void call_free(struct http_call *call) {
  loop_timer_cancel(&call->timer);
  loop_task_cancel(&call->task);
  link_close(call->link, LINGER_MS);
  if (call->request != NULL)
    crypto_wipe(call->request, strlen(call->request));
  free(call->request);
  size_t used = call->have_head ? call->head.length + call->body_len : 0;
  /* It held a token. */
  crypto_wipe(call->buffer, used > call->len ? used : call->len);
  free(call);
}

void http_call_cancel(struct http_call *call) {
  if (call != NULL)
    call_free(call);
}

/* The connection is good for another call (RFC 9112 9.3). */
static bool may_stay(const struct http_call *call) {
  return call->pool != NULL && call->error.status == DSTREAM_OK &&
         !call->peer_end && !call->overrun && call->head.minor > 0 &&
         call->body.kind != HTTP_BODY_TO_END &&
         !http_head_has_token(&call->head, "Connection", "close");
}

static void on_finished(struct loop_task *task) {
  struct http_call *call = CONTAINER_OF(task, struct http_call, task);
  bool failed = call->error.status != DSTREAM_OK;
  if (may_stay(call)) {
    http_pool_put(call->pool, call->loop, call->link);
    call->link = NULL;
  }
  call->done(call->user, failed ? NULL : &call->head,
             call->buffer + call->head.length, call->body_len,
             failed ? &call->error : NULL);
  call_free(call);
}

static void finish(struct http_call *call) {
  if (call->finished)
    return;
  call->finished = true;
  loop_defer(call->loop, &call->task, on_finished);
}

static void fail(struct http_call *call, const struct dstream_end *why) {
  if (!call->finished)
    call->error = *why;
  finish(call);
}

static void fail_malformed(struct http_call *call) {
  struct dstream_end end;
  end_set(&end, DSTREAM_EHTTP, "%s sent a malformed HTTP response", call->host);
  fail(call, &end);
}

static void on_up(void *user) {
  struct http_call *call = user;
  size_t len = strlen(call->request);
  size_t done = 0;
  while (done < len) {
    size_t space = link_space(call->link);
    size_t n = len - done < space ? len - done : space;
    if (n == 0)
      break; /* can't be: a request is smaller than the send buffer */
    link_write(call->link, call->request + done, n);
    done += n;
  }
}

static void take_body(struct http_call *call, const char *data, size_t len) {
  size_t room = HTTP_CALL_BODY_MAX - call->body_len;
  if (len > room) {
    struct dstream_end end;
    end_set(&end, DSTREAM_EHTTP, "%s sent a response that is too large",
            call->host);
    fail(call, &end);
    return;
  }
  size_t used = 0;
  char *to = call->buffer + call->head.length + call->body_len;
  long n = http_body_feed(&call->body, data, len, &used, to);
  if (n < 0) {
    fail_malformed(call);
    return;
  }
  call->body_len += (size_t)n;
  if (call->body.done) {
    call->overrun = used < len;
    finish(call);
  }
}

static void take_head(struct http_call *call, const char *data, size_t len) {
  size_t room = HTTP_HEAD_MAX - call->len;
  size_t n = len < room ? len : room;
  memcpy(call->buffer + call->len, data, n);
  call->len += n;
  int status = http_head_parse_response(&call->head, call->buffer, call->len);
  if (status == DSTREAM_EAGAIN && n == len)
    return;
  if (status != DSTREAM_OK) {
    fail_malformed(call);
    return;
  }
  if (call->head.status / 100 == 1) { /* an interim response */
    size_t rest = call->len - call->head.length;
    memmove(call->buffer, call->buffer + call->head.length, rest);
    call->len = rest;
    take_head(call, data + n, len - n);
    return;
  }
  if (http_body_init(&call->body, &call->head) != DSTREAM_OK) {
    fail_malformed(call);
    return;
  }
  call->have_head = true;
  /* What came behind the head moves through the body reader in place. */
  size_t behind = call->len - call->head.length;
  if (call->body.done) {
    call->overrun = behind > 0 || len > n;
    finish(call);
  } else if (behind > 0)
    take_body(call, call->buffer + call->head.length, behind);
  if (!call->finished && len > n)
    take_body(call, data + n, len - n);
}

static size_t on_data(void *user, uint8_t *data, size_t len) {
  struct http_call *call = user;
  call->heard = true;
  if (call->finished) {
    call->overrun = true;
    return len;
  }
  if (call->have_head)
    take_body(call, (const char *)data, len);
  else
    take_head(call, (const char *)data, len);
  return len;
}

static const struct link_callbacks callbacks;

static int dial(struct http_call *call) {
  struct link_options options = {.tls = call->tls};
  return link_connect(&call->link, call->loop, call->host, call->port,
                      call->proxy, &options, &callbacks, call);
}

/* The server had closed the connection already. */
static bool begin_anew(struct http_call *call) {
  if (!call->reused || call->heard)
    return false;
  call->reused = false;
  link_close(call->link, LINGER_MS);
  call->link = NULL;
  return dial(call) == DSTREAM_OK;
}

static void on_end(void *user, const struct dstream_end *why) {
  struct http_call *call = user;
  call->peer_end = true;
  if (call->finished)
    return;
  if (begin_anew(call)) {
    call->peer_end = false;
  } else if (why != NULL) {
    fail(call, why);
  } else if (call->have_head && http_body_end(&call->body)) {
    finish(call);
  } else {
    struct dstream_end end;
    end_set(&end, DSTREAM_EIO, "%s closed the connection without an answer",
            call->host);
    fail(call, &end);
  }
}

static void on_timeout(struct loop_timer *timer) {
  struct http_call *call = CONTAINER_OF(timer, struct http_call, timer);
  struct dstream_end end;
  end_set(&end, DSTREAM_ETIMEDOUT, "%s did not answer in time", call->host);
  fail(call, &end);
}

static const struct link_callbacks callbacks = {
    .on_up = on_up, .on_data = on_data, .on_end = on_end};

int http_call_start(struct http_call **out, dstream_loop *loop,
                    const struct http_call_options *options, http_call_fn *done,
                    void *user) {
  size_t host_len = strlen(options->host);
  struct http_call *call = calloc(1, sizeof *call);
  if (call == NULL || host_len >= sizeof call->host) {
    free(call);
    return call == NULL ? DSTREAM_ENOMEM : DSTREAM_EINVAL;
  }
  call->loop = loop;
  call->done = done;
  call->user = user;
  call->pool = options->pool;
  call->tls = options->tls;
  call->proxy = options->proxy;
  call->port = options->port;
  memcpy(call->host, options->host, host_len);
  call->request = strdup(options->request);
  if (call->request == NULL) {
    call_free(call);
    return DSTREAM_ENOMEM;
  }
  if (call->pool != NULL)
    call->link = http_pool_get(call->pool);
  call->reused = call->link != NULL;
  int status = DSTREAM_OK;
  if (call->reused) {
    link_set_owner(call->link, &callbacks, call);
    on_up(call);
  } else {
    status = dial(call);
  }
  if (status != DSTREAM_OK) {
    call_free(call);
    return status;
  }
  loop_timer_set(loop, &call->timer, options->timeout_ms, on_timeout);
  *out = call;
  return DSTREAM_OK;
}
