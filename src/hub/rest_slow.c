#include "hub/rest_slow.h"

#include <stdlib.h>

#include "core/container.h"
#include "hub/rest_reply.h"

/* As many as connections are open, at most. */
struct delayed {
  struct loop_timer timer;
  struct http_exchange *exchange;
  struct rest_refusal refusal;
};

void rest_slow_init(struct rest_slow *slow, dstream_loop *loop,
                    const struct rest_slow_options *options) {
  static const struct rest_slow_options defaults = {0};
  const struct rest_slow_options *o = options == NULL ? &defaults : options;
  slow->loop = loop;
  slow->delay_ms = o->delay_ms == 0 ? 1000 : o->delay_ms;
  bucket_init(&slow->bucket, o->per_second == 0 ? 20 : o->per_second,
              o->burst == 0 ? 100 : o->burst, loop_now_ms());
}

static void refuse(struct http_exchange *exchange,
                   const struct rest_refusal *r) {
  if (r->registry)
    rest_reply_registry_error(exchange, r->code, r->message, r->tracking,
                              r->headers);
  else
    rest_reply_error(exchange, r->code, r->message, -1, r->tracking,
                     r->headers);
}

static void on_time(struct loop_timer *timer) {
  struct delayed *delayed = CONTAINER_OF(timer, struct delayed, timer);
  refuse(delayed->exchange, &delayed->refusal);
  free(delayed);
}

static void on_gone(void *user) {
  struct delayed *delayed = user;
  loop_timer_cancel(&delayed->timer);
  free(delayed);
}

void rest_slow_refuse(struct rest_slow *slow, struct http_exchange *exchange,
                      const struct rest_refusal *refusal) {
  struct delayed *delayed = NULL;
  if (!bucket_take(&slow->bucket, loop_now_ms()))
    delayed = calloc(1, sizeof *delayed);
  if (delayed == NULL) {
    refuse(exchange, refusal);
    return;
  }
  delayed->exchange = exchange;
  delayed->refusal = *refusal;
  http_exchange_on_cancel(exchange, on_gone, delayed);
  loop_timer_set(slow->loop, &delayed->timer, slow->delay_ms, on_time);
}
