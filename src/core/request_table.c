#include "core/request_table.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/crypto.h"
#include "core/end.h"

void request_table_init(struct request_table *table, unsigned max) {
  assert(max > 0);
  *table = (struct request_table){.max = max};
}

static void leave_waiting(struct request_table *table, struct request *request,
                          enum request_state state) {
  if (request->state == REQUEST_WAITING) {
    assert(table->waiting > 0);
    table->waiting--;
    request->state = state;
  }
}

static bool same(const struct request *a, const struct stream_request *b) {
  return strcmp(a->message.url, b->url) == 0 &&
         crypto_equal(a->message.token, strlen(a->message.token), b->token,
                      strlen(b->token));
}

/* True: it is a redelivery. */
static bool settle_repeat(struct request_table *table,
                          const struct stream_request *message) {
  for (struct request *r = table->first; r != NULL; r = r->next) {
    if (r->state != REQUEST_WAITING ||
        strcmp(r->message.rid, message->rid) != 0)
      continue;
    if (same(r, message))
      return true;
    leave_waiting(table, r, REQUEST_EXPIRED);
  }
  return false;
}

static struct slice keep(char *room, size_t size, struct slice text) {
  size_t len = text.len < size ? text.len : size;
  if (len > 0)
    memcpy(room, text.p, len);
  return (struct slice){room, len};
}

static void enter(struct request_table *table, struct request *request,
                  uint64_t now_ms) {
  struct stream_request *message = &request->message;
  request->asked_caps = message->caps.len > 0;
  message->caps = keep(request->texts, CAPS_SIZE, message->caps);
  message->name_raw =
      keep(request->texts + CAPS_SIZE, STREAM_NAME_SIZE, message->name_raw);
  request->arrived_ms = now_ms;
  request->state = REQUEST_WAITING;
  struct request **end = &table->first;
  while (*end != NULL)
    end = &(*end)->next;
  *end = request;
  table->count++;
  table->waiting++;
}

static void request_free(struct request *request) {
  crypto_wipe(request, sizeof *request);
  free(request);
}

/* What the request asks for is known, whatever becomes of it. */
static enum request_verdict judge(struct request_table *table,
                                  const struct stream_request *message,
                                  struct request_refusal *refusal) {
  memcpy(refusal->rid, message->rid, sizeof refusal->rid);
  refusal->asked_caps = message->caps.len > 0;
  if (settle_repeat(table, message)) {
    end_set(&refusal->why, DSTREAM_OK, "request %s came twice", message->rid);
    return REQUEST_DROPPED;
  }
  if (table->count >= table->max) {
    end_set(&refusal->why, DSTREAM_ELIMIT,
            "%u requests are unanswered, the most that may be",
            (unsigned)table->count);
    return REQUEST_REFUSED;
  }
  return REQUEST_NEW;
}

enum request_verdict request_table_take(struct request_table *table,
                                        const char *topic, size_t len,
                                        uint64_t now_ms, struct request **out,
                                        struct request_refusal *refusal) {
  memset(refusal, 0, sizeof *refusal);
  struct request *request = calloc(1, sizeof *request);
  if (request == NULL) {
    end_set(&refusal->why, DSTREAM_ENOMEM, "out of memory");
    return REQUEST_DROPPED;
  }
  enum request_verdict verdict;
  int status = stream_topic_parse(&request->message, topic, len, &refusal->why);
  if (status == DSTREAM_OK) {
    verdict = judge(table, &request->message, refusal);
  } else {
    memcpy(refusal->rid, request->message.rid, sizeof refusal->rid);
    verdict = refusal->rid[0] != '\0' ? REQUEST_REFUSED : REQUEST_DROPPED;
  }
  if (verdict == REQUEST_NEW) {
    enter(table, request, now_ms);
    *out = request;
  } else {
    request_free(request);
  }
  return verdict;
}

static bool too_old(const struct request *request, uint64_t now_ms) {
  return now_ms - request->arrived_ms >= REQUEST_LIFE_MS;
}

int request_table_check(struct request_table *table, struct request *request,
                        uint64_t now_ms) {
  if (request->state == REQUEST_WAITING && too_old(request, now_ms))
    leave_waiting(table, request, REQUEST_EXPIRED);
  switch (request->state) {
  case REQUEST_WAITING:
    return DSTREAM_OK;
  case REQUEST_EXPIRED:
    return DSTREAM_EEXPIRED;
  case REQUEST_ORPHANED:
    break;
  }
  return DSTREAM_ESTATE;
}

void request_table_remove(struct request_table *table,
                          struct request *request) {
  struct request **at = &table->first;
  while (*at != request) {
    assert(*at != NULL);
    at = &(*at)->next;
  }
  *at = request->next;
  leave_waiting(table, request, REQUEST_EXPIRED);
  table->count--;
  request_free(request);
}

struct request *request_table_tick(struct request_table *table,
                                   uint64_t now_ms) {
  for (struct request *r = table->first; r != NULL; r = r->next) {
    if (r->state == REQUEST_WAITING && too_old(r, now_ms)) {
      leave_waiting(table, r, REQUEST_EXPIRED);
      return r;
    }
  }
  return NULL;
}

uint64_t request_table_deadline(const struct request_table *table) {
  for (const struct request *r = table->first; r != NULL; r = r->next)
    if (r->state == REQUEST_WAITING)
      return r->arrived_ms + REQUEST_LIFE_MS;
  return REQUEST_NEVER;
}

void request_table_orphan(struct request_table *table) {
  for (struct request *r = table->first; r != NULL; r = r->next)
    leave_waiting(table, r, REQUEST_ORPHANED);
}

void request_table_clear(struct request_table *table) {
  while (table->first != NULL)
    request_table_remove(table, table->first);
}

/* ---- for the log ---- */

struct line {
  char *out;
  size_t size;
  size_t len;
};

static void put(struct line *line, struct slice text) {
  for (size_t i = 0; i < text.len && line->len + 1 < line->size; i++) {
    unsigned char c = (unsigned char)text.p[i];
    line->out[line->len++] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
  }
  line->out[line->len] = '\0';
}

static void put_length(struct line *line, size_t len) {
  char text[32];
  snprintf(text, sizeof text, "<%zu bytes>", len);
  put(line, slice_of(text));
}

static void put_pair(struct line *line, struct slice pair) {
  const char *equals = pair.len == 0 ? NULL : memchr(pair.p, '=', pair.len);
  if (equals == NULL) {
    put_length(line, pair.len);
    return;
  }
  struct slice name = {pair.p, (size_t)(equals - pair.p)};
  struct slice value = {equals + 1, pair.len - name.len - 1};
  bool plain = slice_eq(name, "$rid") || slice_eq(name, "$url");
  if (plain || slice_eq(name, "$auth") || slice_eq(name, "$caps"))
    put(line, name);
  else
    put_length(line, name.len);
  put(line, SLICE_LITERAL("="));
  if (plain)
    put(line, value);
  else
    put_length(line, value.len);
}

void request_topic_mask(const char *topic, size_t len, char *out,
                        size_t out_size) {
  assert(out_size > 0);
  struct line line = {out, out_size, 0};
  struct slice all = {topic, len};
  /* The name ends where the first pair can begin. */
  size_t head = 0;
  while (head < len && topic[head] != '?' && topic[head] != '&' &&
         topic[head] != '=')
    head++;
  put(&line, (struct slice){topic, head < 120 ? head : 120});
  while (head < len) {
    put(&line, (struct slice){topic + head, 1});
    struct slice rest = {all.p + head + 1, len - head - 1};
    const char *next = rest.len == 0 ? NULL : memchr(rest.p, '&', rest.len);
    size_t pair = next == NULL ? rest.len : (size_t)(next - rest.p);
    put_pair(&line, (struct slice){rest.p, pair});
    head += 1 + pair;
  }
}
