#include "net/spare.h"

#include <stdio.h>
#include <string.h>

#include "core/container.h"

/* After the stream's opening, for its first bytes. */
#define DELAY_MS  5
#define LINGER_MS 1000

static void spare_drop(struct spare *spare) {
  loop_timer_cancel(&spare->timer);
  link_abort(spare->link);
  spare->link = NULL;
}

void spare_clear(struct spare *spare) {
  loop_timer_cancel(&spare->timer);
  link_close(spare->link, LINGER_MS);
  spare->link = NULL;
  spare->wanted = false;
  spare->last_ms = 0;
}

static void on_up(void *user) {
  struct spare *spare = user;
  spare->up = true;
}

/* Nobody was asked anything yet. */
static size_t on_data(void *user, uint8_t *data, size_t len) {
  (void)data;
  spare_drop(user);
  return len;
}

static void on_end(void *user, const struct dstream_end *why) {
  (void)why;
  spare_drop(user);
}

static const struct link_callbacks callbacks = {
    .on_up = on_up, .on_data = on_data, .on_end = on_end};

static void on_timer(struct loop_timer *timer) {
  struct spare *spare = CONTAINER_OF(timer, struct spare, timer);
  if (spare->link != NULL) {
    link_close(spare->link, LINGER_MS);
    spare->link = NULL;
    return;
  }
  const struct spare_place *to = &spare->last;
  struct link_options options = {.tls = to->tls};
  spare->up = false;
  if (link_connect(&spare->link, spare->loop, to->host, to->port, to->proxy,
                   &options, &callbacks, spare) != DSTREAM_OK)
    spare->link = NULL;
  else
    loop_timer_set(spare->loop, &spare->timer, SPARE_MS, on_timer);
}

static bool same_place(const struct spare *spare,
                       const struct spare_place *place) {
  return spare->last_ms != 0 && spare->last.port == place->port &&
         strcmp(spare->host, place->host) == 0;
}

struct link *spare_take(struct spare *spare, dstream_loop *loop,
                        const struct spare_place *place) {
  uint64_t now = loop_now_ms();
  struct link *link = NULL;
  bool same = same_place(spare, place);
  if (!same)
    spare_drop(spare);
  if (spare->link != NULL && spare->up) {
    loop_timer_cancel(&spare->timer);
    link = spare->link;
    spare->link = NULL;
  }
  spare->wanted = same && now - spare->last_ms <= SPARE_MS;
  spare->loop = loop;
  spare->last = *place;
  spare->last.host = spare->host;
  spare->last_ms = now;
  snprintf(spare->host, sizeof spare->host, "%s", place->host);
  return link;
}

void spare_refill(struct spare *spare) {
  if (!spare->wanted || spare->link != NULL)
    return;
  loop_timer_set(spare->loop, &spare->timer, DELAY_MS, on_timer);
}
