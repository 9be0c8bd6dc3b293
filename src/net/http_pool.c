#include "net/http_pool.h"

#include "core/container.h"

#define LINGER_MS 1000

static void entry_close(struct http_pool_entry *entry) {
  loop_timer_cancel(&entry->timer);
  link_close(entry->link, LINGER_MS);
  entry->link = NULL;
}

static void on_idle(struct loop_timer *timer) {
  entry_close(CONTAINER_OF(timer, struct http_pool_entry, timer));
}

/* A server has nothing to say now: what it says would be taken for the next
 * answer. */
static size_t on_data(void *user, uint8_t *data, size_t len) {
  (void)data;
  entry_close(user);
  return len;
}

static void on_end(void *user, const struct dstream_end *why) {
  (void)why;
  entry_close(user);
}

static const struct link_callbacks callbacks = {.on_data = on_data,
                                                .on_end = on_end};

void http_pool_put(struct http_pool *pool, dstream_loop *loop,
                   struct link *link) {
  for (int i = 0; i < HTTP_POOL_MAX; i++) {
    struct http_pool_entry *entry = &pool->entries[i];
    if (entry->link != NULL)
      continue;
    entry->link = link;
    link_set_owner(link, &callbacks, entry);
    loop_timer_set(loop, &entry->timer, HTTP_POOL_IDLE_MS, on_idle);
    return;
  }
  link_close(link, LINGER_MS);
}

struct link *http_pool_get(struct http_pool *pool) {
  for (int i = HTTP_POOL_MAX - 1; i >= 0; i--) {
    struct http_pool_entry *entry = &pool->entries[i];
    struct link *link = entry->link;
    if (link == NULL)
      continue;
    loop_timer_cancel(&entry->timer);
    entry->link = NULL;
    return link;
  }
  return NULL;
}

void http_pool_clear(struct http_pool *pool) {
  for (int i = 0; i < HTTP_POOL_MAX; i++) {
    if (pool->entries[i].link != NULL)
      entry_close(&pool->entries[i]);
  }
}
