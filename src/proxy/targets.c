#include <dstream/proxy.h>

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/address.h"
#include "core/bucket.h"
#include "core/container.h"
#include "core/end.h"
#include "core/printable.h"
#include "net/loop.h"
#include "net/resolve.h"
#include "proxy/bridge.h"
#include "proxy/reason.h"
#include "proxy/targets_table.h"

/* With several addresses, how long one may take. */
#define ADDRESS_TIMEOUT_MS 4000

struct dstream_targets {
  dstream_loop *loop;
  struct targets_table table;
  struct bucket bucket;
  dstream_proxy_event_fn *fn;
  void *user;
  struct served *served; /* list */
  unsigned count;        /* of it */
};

/* A host name that is judged by its addresses; gone when one is connected. */
struct search {
  struct served *served;
  struct resolve_query query;
  struct loop_timer timer;
  uint64_t deadline_ms;
  unsigned next;
  struct resolve_answer found; /* those that are allowed */
};

/* One stream from its request to its end. */
struct served {
  struct served *next;
  struct served *prev;
  dstream_targets *targets;
  dstream_request *request; /* NULL once it is answered */
  dstream_bridge *bridge;   /* NULL: none yet, or gone */
  struct search *search;    /* NULL: its address is known */
  int idle_timeout_s;
  int total_timeout_s;
  const char *device;  /* these are in texts */
  const char *name;    /* a target's, or HOST:PORT */
  const char *address; /* to connect to */
  const char *peer;    /* "target ssh (127.0.0.1:22)" */
  char texts[];
};

/* What a request asks for, when it may have it. */
struct wish {
  char name[ADDRESS_TEXT_SIZE];
  char address[ADDRESS_TEXT_SIZE];
  int idle_timeout_s;
  int total_timeout_s;
  bool resolve; /* its addresses are still to be judged */
  struct address host;
};

static void connect_next(struct served *s);

/* ---- telling ---- */

static void tell(const dstream_targets *t, enum dstream_proxy_kind kind,
                 const struct served *s,
                 const struct dstream_bridge_result *result) {
  struct dstream_proxy_event event = {.kind = kind,
                                      .device = s->device,
                                      .name = s->name,
                                      .address = s->address,
                                      .result = result,
                                      .open = t->count};
  if (t->fn != NULL)
    t->fn(t->user, &event);
}

/* ---- one stream ---- */

static const char *add_text(char **at, const char *text) {
  size_t size = strlen(text) + 1;
  const char *copy = memcpy(*at, text, size);
  *at += size;
  return copy;
}

static struct served *served_new(dstream_targets *t, const char *device,
                                 const struct wish *wish) {
  char peer[2 * ADDRESS_TEXT_SIZE + 16];
  if (strcmp(wish->name, wish->address) == 0)
    snprintf(peer, sizeof peer, REASON_TARGET "%s", wish->name);
  else
    snprintf(peer, sizeof peer, REASON_TARGET "%s (%s)", wish->name,
             wish->address);
  size_t size = strlen(device) + strlen(wish->name) + strlen(wish->address) +
                strlen(peer) + 4;
  struct served *s = calloc(1, sizeof *s + size);
  if (s == NULL)
    return NULL;
  char *at = s->texts;
  s->device = add_text(&at, device);
  s->name = add_text(&at, wish->name);
  s->address = add_text(&at, wish->address);
  s->peer = add_text(&at, peer);
  s->idle_timeout_s = wish->idle_timeout_s;
  s->total_timeout_s = wish->total_timeout_s;
  s->targets = t;
  s->next = t->served;
  if (s->next != NULL)
    s->next->prev = s;
  t->served = s;
  t->count++;
  return s;
}

static void served_unlink(struct served *s) {
  dstream_targets *t = s->targets;
  if (s->prev != NULL)
    s->prev->next = s->next;
  else
    t->served = s->next;
  if (s->next != NULL)
    s->next->prev = s->prev;
  t->count--;
}

static void search_end(struct served *s) {
  if (s->search == NULL)
    return;
  resolve_cancel(&s->search->query);
  loop_timer_cancel(&s->search->timer);
  free(s->search);
  s->search = NULL;
}

static void answer_no(struct served *s, const char *reason) {
  if (s->request == NULL)
    return;
  dstream_request *request = s->request;
  s->request = NULL;
  /* The hub can't be told when the request is too old, or its connection gone:
   * then it has told the service already. */
  (void)dstream_request_reject(request, reason);
}

static void served_over(struct served *s, enum dstream_proxy_kind kind,
                        const struct dstream_bridge_result *result) {
  dstream_targets *t = s->targets;
  answer_no(s, result->end.text);
  search_end(s);
  served_unlink(s);
  tell(t, kind, s, result);
  free(s);
}

static void served_failed(struct served *s, enum dstream_proxy_kind kind,
                          const struct dstream_end *end) {
  const struct dstream_bridge_result result = {.end = *end};
  served_over(s, kind, &result);
}

static void on_connected(dstream_bridge *bridge, void *user) {
  struct served *s = user;
  dstream_request *request = s->request;
  s->request = NULL;
  search_end(s);
  (void)dstream_bridge_accept(bridge, request); /* on_end tells */
}

static void on_open(dstream_bridge *bridge, void *user) {
  struct served *s = user;
  (void)bridge;
  tell(s->targets, DSTREAM_PROXY_OPENED, s, NULL);
}

static void on_end(dstream_bridge *bridge, void *user,
                   const struct dstream_bridge_result *result) {
  struct served *s = user;
  (void)bridge;
  s->bridge = NULL;
  if (s->search != NULL && s->search->next < s->search->found.count)
    connect_next(s);
  else
    served_over(s, result->opened ? DSTREAM_PROXY_CLOSED : DSTREAM_PROXY_FAILED,
                result);
}

static void served_connect(struct served *s, const char *address,
                           int timeout_ms) {
  static const struct dstream_bridge_callbacks callbacks = {
      .on_connected = on_connected, .on_open = on_open, .on_end = on_end};
  const struct dstream_bridge_options options = {
      .size = sizeof options,
      .connect_timeout_ms = timeout_ms,
      .idle_timeout_s = s->idle_timeout_s,
      .total_timeout_s = s->total_timeout_s,
      .self_name = "agent",
      .peer_name = s->peer,
  };
  struct dstream_end error;
  struct dstream_end end;
  int status = dstream_bridge_connect(&s->bridge, s->targets->loop, address,
                                      &options, &callbacks, s, &error);
  if (status == DSTREAM_OK)
    return;
  end_set(&end, status, REASON_AGENT "%.240s", error.text);
  served_failed(s, DSTREAM_PROXY_FAILED, &end);
}

/* ---- host names that are judged by their addresses ---- */

static void connect_next(struct served *s) {
  struct search *search = s->search;
  uint64_t now = loop_now_ms();
  uint64_t wait = now < search->deadline_ms ? search->deadline_ms - now : 1;
  unsigned i = search->next++;
  if (search->next < search->found.count && wait > ADDRESS_TIMEOUT_MS)
    wait = ADDRESS_TIMEOUT_MS;
  struct address numeric = {.is_unix = false};
  char port[8];
  char text[ADDRESS_TEXT_SIZE];
  struct dstream_end end;
  if (getnameinfo((const struct sockaddr *)&search->found.address[i].storage,
                  search->found.address[i].len, numeric.host,
                  sizeof numeric.host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    end_set(&end, DSTREAM_EINTERNAL, "%s: its address can't be read", s->peer);
    served_failed(s, DSTREAM_PROXY_FAILED, &end);
    return;
  }
  numeric.port = (uint16_t)strtoul(port, NULL, 10);
  address_format(&numeric, text);
  served_connect(s, text, (int)wait);
}

static void on_resolved(struct resolve_query *query,
                        const struct resolve_answer *answer) {
  struct search *search = CONTAINER_OF(query, struct search, query);
  struct served *s = search->served;
  struct address host;
  struct dstream_end end;
  loop_timer_cancel(&search->timer);
  if (answer->error != 0) {
    end_set(&end, DSTREAM_ERESOLVE, "%s: %s", s->peer,
            gai_strerror(answer->error));
    served_failed(s, DSTREAM_PROXY_FAILED, &end);
    return;
  }
  int status = address_parse(&host, s->address, NULL);
  for (unsigned i = 0; i < answer->count && status == DSTREAM_OK; i++)
    if (allow_address(&s->targets->table.allow,
                      (const struct sockaddr *)&answer->address[i].storage,
                      host.port))
      search->found.address[search->found.count++] = answer->address[i];
  if (search->found.count > 0) {
    connect_next(s);
    return;
  }
  end_set(&end, DSTREAM_EREJECTED, REASON_AGENT "%s is not allowed", s->name);
  served_failed(s, DSTREAM_PROXY_REFUSED, &end);
}

static void on_search_timer(struct loop_timer *timer) {
  struct search *search = CONTAINER_OF(timer, struct search, timer);
  struct dstream_end end;
  end_set(&end, DSTREAM_ETIMEDOUT, "%s" REASON_TIMED_OUT " looking it up",
          search->served->peer);
  served_failed(search->served, DSTREAM_PROXY_FAILED, &end);
}

static void served_search(struct served *s, const struct address *host,
                          int timeout_ms) {
  struct dstream_end end;
  int status = DSTREAM_ENOMEM;
  s->search = calloc(1, sizeof *s->search);
  if (s->search != NULL) {
    s->search->served = s;
    s->search->deadline_ms = loop_now_ms() + (uint64_t)timeout_ms;
    status = resolve_start(s->targets->loop, &s->search->query, host->host,
                           host->port, on_resolved);
  }
  if (status == DSTREAM_OK) {
    loop_timer_set(s->targets->loop, &s->search->timer, (uint64_t)timeout_ms,
                   on_search_timer);
    return;
  }
  end_set(&end, status, REASON_AGENT "can't look up %s: %s", s->name,
          dstream_status_text(status));
  served_failed(s, DSTREAM_PROXY_FAILED, &end);
}

/* ---- judging ---- */

static int judge_limits(dstream_targets *t, const char *name, unsigned most,
                        struct dstream_end *why) {
  unsigned same = 0;
  if (t->count >= t->table.max_streams) {
    end_set(why, DSTREAM_ELIMIT, REASON_AGENT "too many streams (limit %u)",
            t->table.max_streams);
    return DSTREAM_ELIMIT;
  }
  if (most == 0)
    return DSTREAM_OK;
  for (const struct served *s = t->served; s != NULL; s = s->next)
    same += strcmp(s->name, name) == 0;
  if (same < most)
    return DSTREAM_OK;
  end_set(why, DSTREAM_ELIMIT,
          REASON_AGENT "too many streams to \"%s\" (limit %u)", name, most);
  return DSTREAM_ELIMIT;
}

static void wish_target(struct wish *wish, const struct target_entry *target) {
  snprintf(wish->name, sizeof wish->name, "%s", target->name);
  snprintf(wish->address, sizeof wish->address, "%s", target->address);
  wish->idle_timeout_s = target->idle_timeout_s;
  wish->total_timeout_s = target->total_timeout_s;
}

static int judge(dstream_targets *t, const char *name, struct wish *wish,
                 struct dstream_end *why) {
  const struct target_entry *target = targets_table_find(&t->table, name);
  bool asks_host = target == NULL && address_from_name(&wish->host, name) == 0;
  snprintf(wish->name, sizeof wish->name, "%s", printable(name).text);
  if (asks_host)
    address_format(&wish->host, wish->name);
  if (!bucket_take(&t->bucket, loop_now_ms())) {
    end_set(why, DSTREAM_ELIMIT,
            REASON_AGENT "too many new streams, try again in a second");
    return DSTREAM_ELIMIT;
  }
  if (target != NULL) {
    wish_target(wish, target);
    return judge_limits(t, name, target->max_streams, why);
  }
  if (!asks_host) {
    end_set(why, DSTREAM_EREJECTED, REASON_AGENT "there is no target \"%s\"",
            wish->name);
    return DSTREAM_EREJECTED;
  }
  enum allow_verdict verdict =
      allow_host(&t->table.allow, wish->host.host, wish->host.port);
  if (verdict == ALLOW_NO) {
    end_set(why, DSTREAM_EREJECTED, REASON_AGENT "%s is not allowed",
            wish->name);
    return DSTREAM_EREJECTED;
  }
  snprintf(wish->address, sizeof wish->address, "%s", wish->name);
  wish->resolve = verdict == ALLOW_RESOLVE;
  wish->idle_timeout_s = t->table.idle_timeout_s;
  wish->total_timeout_s = t->table.total_timeout_s;
  return judge_limits(t, wish->name, 0, why);
}

void dstream_targets_serve(dstream_targets *t, dstream_device *device,
                           dstream_request *request) {
  struct wish wish = {.resolve = false};
  struct dstream_end why;
  struct served *s = NULL;
  int status = judge(t, dstream_request_name(request), &wish, &why);
  if (status == DSTREAM_OK) {
    s = served_new(t, dstream_device_id(device), &wish);
    if (s == NULL)
      end_set(&why, DSTREAM_ENOMEM, REASON_AGENT "out of memory");
  }
  if (s == NULL) {
    const struct dstream_bridge_result result = {.end = why};
    struct dstream_proxy_event event = {.kind = DSTREAM_PROXY_REFUSED,
                                        .device = dstream_device_id(device),
                                        .name = wish.name,
                                        .address = wish.address,
                                        .result = &result};
    event.open = t->count;
    (void)dstream_request_reject(request, why.text);
    if (t->fn != NULL)
      t->fn(t->user, &event);
    return;
  }
  s->request = request;
  dstream_request_defer(request);
  if (wish.resolve)
    served_search(s, &wish.host, t->table.connect_timeout_ms);
  else
    served_connect(s, s->address, t->table.connect_timeout_ms);
}

/* ---- life ---- */

int dstream_targets_new(dstream_targets **out, dstream_loop *loop,
                        const struct dstream_targets_options *options,
                        dstream_proxy_event_fn *fn, void *user,
                        struct dstream_end *error) {
  if (out == NULL || loop == NULL) {
    end_set(error, DSTREAM_EINVAL, "targets need a loop");
    return DSTREAM_EINVAL;
  }
  dstream_targets *t = calloc(1, sizeof *t);
  if (t == NULL) {
    end_set(error, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  int status = targets_table_copy(&t->table, options, error);
  if (status != DSTREAM_OK) {
    free(t);
    return status;
  }
  t->loop = loop;
  t->fn = fn;
  t->user = user;
  bucket_init(&t->bucket, t->table.max_rate, t->table.burst, loop_now_ms());
  *out = t;
  return DSTREAM_OK;
}

int dstream_targets_replace(dstream_targets *t,
                            const struct dstream_targets_options *options,
                            struct dstream_end *error) {
  struct targets_table table;
  int status = targets_table_copy(&table, options, error);
  if (status != DSTREAM_OK)
    return status;
  targets_table_clear(&t->table);
  t->table = table;
  bucket_set(&t->bucket, table.max_rate, table.burst);
  return DSTREAM_OK;
}

unsigned dstream_targets_count(const dstream_targets *t) {
  return t->count;
}

void dstream_targets_free(dstream_targets *t) {
  if (t == NULL)
    return;
  while (t->served != NULL) {
    struct served *s = t->served;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it was unlinked */
    answer_no(s, REASON_AGENT "it stops");
    search_end(s);
    bridge_destroy(s->bridge);
    served_unlink(s);
    free(s);
  }
  targets_table_clear(&t->table);
  free(t);
}
