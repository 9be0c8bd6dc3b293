#include "hub/activity.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bucket.h"
#include "core/container.h"
#include "hub/activity_file.h"
#include "hub/activity_line.h"
#include "hub/time_text.h"

#define DEFAULT_KEEP    (2u << 20)
#define DEFAULT_LIMIT   100
#define STRANGERS_PER_S 2
#define STRANGERS_BURST 100
#define CALLERS_FACTOR  10 /* who may ask at all may also fail more often */
#define LEFT_OUT_MS     10000
#define MEMORY_OVERHEAD 32 /* of an allocation and of this list */

/* A record that is remembered. */
struct kept {
  struct kept *older, *newer;
  uint64_t cursor;
  int64_t time_ms;
  size_t len;
  const char *client; /* behind the line */
  char line[];
};

/* Records of one class that strangers or callers can provoke. */
struct bound {
  struct activity *activity;
  struct bucket bucket;
  struct loop_timer timer;
  uint64_t dropped;
};

struct activity {
  dstream_loop *loop;
  struct activity_file file;
  char *path;
  char *host;
  size_t keep_bytes;
  size_t kept_bytes;
  struct kept *oldest, *newest;
  uint64_t cursor; /* of the newest, also when it could not be kept */
  struct bound strangers;
  struct bound callers;
  struct activity_counts counts;
  struct activity_listener listeners; /* list head */
  struct loop_task tell;
};

/* ---- remembering ---- */

static size_t cost_of(const struct kept *kept) {
  return sizeof *kept + kept->len + strlen(kept->client) + 2 + MEMORY_OVERHEAD;
}

static void forget_oldest(struct activity *activity) {
  struct kept *kept = activity->oldest;
  activity->kept_bytes -= cost_of(kept);
  activity->oldest = kept->newer;
  if (kept->newer != NULL)
    kept->newer->older = NULL;
  else
    activity->newest = NULL;
  free(kept);
}

/* By time, and unique: so the same again when they are read from the file. */
static uint64_t next_cursor(struct activity *activity, int64_t time_ms) {
  uint64_t cursor = (uint64_t)time_ms * 1000;
  if (cursor <= activity->cursor)
    cursor = activity->cursor + 1;
  activity->cursor = cursor;
  return cursor;
}

static void keep(struct activity *activity, const char *line, size_t len,
                 int64_t time_ms, const char *client) {
  uint64_t cursor = next_cursor(activity, time_ms);
  size_t client_len = strlen(client);
  struct kept *kept = malloc(sizeof *kept + len + client_len + 2);
  if (kept == NULL)
    return;
  *kept = (struct kept){.older = activity->newest, .cursor = cursor};
  kept->time_ms = time_ms;
  kept->len = len;
  memcpy(kept->line, line, len);
  kept->line[len] = '\0';
  memcpy(kept->line + len + 1, client, client_len + 1);
  kept->client = kept->line + len + 1;
  if (kept->older != NULL)
    kept->older->newer = kept;
  else
    activity->oldest = kept;
  activity->newest = kept;
  activity->kept_bytes += cost_of(kept);
  while (activity->kept_bytes > activity->keep_bytes &&
         activity->oldest != kept)
    forget_oldest(activity);
}

static void remember_file(struct activity *activity) {
  size_t len = 0;
  char *text = activity_file_tail(&activity->file, activity->keep_bytes, &len);
  char *rest = text;
  char *line;
  while (text != NULL && (line = strsep(&rest, "\n")) != NULL) {
    int64_t time_ms = 0;
    char client[ACTIVITY_CLIENT_SIZE];
    if (activity_line_read(line, &time_ms, client) == DSTREAM_OK)
      keep(activity, line, strlen(line), time_ms, client);
  }
  free(text);
}

/* ---- writing ---- */

static void on_tell(struct loop_task *task) {
  struct activity *activity = CONTAINER_OF(task, struct activity, tell);
  struct activity_listener waiting = activity->listeners;
  struct activity_listener *head = &activity->listeners;
  if (head->next == head)
    return;
  /* Those that listen again from their callback wait for the next one. */
  waiting.next->prev = waiting.prev->next = &waiting;
  head->next = head->prev = head;
  while (waiting.next != &waiting) {
    struct activity_listener *listener = waiting.next;
    activity_unlisten(listener);
    listener->fn(listener);
  }
}

static bool write_line(struct activity *activity, char *line, size_t len) {
  line[len] = '\n';
  bool ok = activity_file_write(&activity->file, line, len + 1);
  line[len] = '\0';
  if (ok && activity->file.path[0] != '\0')
    activity->counts.records++;
  return ok;
}

/* What has to stand in front of the next line. */
static void tell_lost(struct activity *activity, int64_t now_ms) {
  char line[ACTIVITY_LINE_SIZE];
  char words[160];
  unsigned long lost = activity->file.lost;
  snprintf(words, sizeof words, "%lu records could not be written: %.80s", lost,
           strerror(activity->file.error));
  struct activity_record record = {.event = ACTIVITY_LOST,
                                   .description = words};
  size_t len = activity_line_make(line, now_ms, activity->host, &record);
  if (len == 0 || !write_line(activity, line, len)) {
    activity->file.lost = lost;
    return;
  }
  activity->file.lost = 0;
  keep(activity, line, len, now_ms, "");
  loop_log(activity->loop, DSTREAM_LOG_WARNING, "activity log: %s", words);
}

static void write_record(struct activity *activity,
                         const struct activity_record *record) {
  char line[ACTIVITY_LINE_SIZE];
  int64_t now_ms = time_text_now_ms();
  size_t len = activity_line_make(line, now_ms, activity->host, record);
  if (len == 0) {
    activity->counts.lost++;
    return;
  }
  if (activity->file.lost > 0)
    tell_lost(activity, now_ms);
  if (!write_line(activity, line, len)) {
    activity->counts.lost++;
    if (activity->file.lost == 1)
      loop_log(activity->loop, DSTREAM_LOG_ERROR,
               "activity log: %.200s can't be written: %s", activity->path,
               strerror(activity->file.error));
  }
  keep(activity, line, len, now_ms,
       record->client_id != NULL ? record->client_id : "");
  if (activity->listeners.next != &activity->listeners)
    loop_defer(activity->loop, &activity->tell, on_tell);
}

/* ---- bounds ---- */

static void report(struct activity *activity, struct bound *bound) {
  char words[64];
  if (bound->dropped == 0)
    return;
  snprintf(words, sizeof words, "%llu more records were left out",
           (unsigned long long)bound->dropped);
  bound->dropped = 0;
  struct activity_record record = {.event = ACTIVITY_LEFT_OUT,
                                   .description = words};
  write_record(activity, &record);
}

static void on_report(struct loop_timer *timer) {
  struct bound *bound = CONTAINER_OF(timer, struct bound, timer);
  report(bound->activity, bound);
}

static bool bound_allows(struct bound *bound) {
  if (bucket_take(&bound->bucket, loop_now_ms()))
    return true;
  bound->activity->counts.left_out++;
  if (bound->dropped++ == 0)
    loop_timer_set(bound->activity->loop, &bound->timer, LEFT_OUT_MS,
                   on_report);
  return false;
}

static void bound_init(struct bound *bound, struct activity *activity,
                       uint32_t per_second, uint32_t burst) {
  bound->activity = activity;
  bucket_init(&bound->bucket, per_second, burst, loop_now_ms());
}

void activity_write(struct activity *activity,
                    const struct activity_record *record) {
  assert(record->event < ACTIVITY_EVENT_COUNT);
  /* Streams that are made are bounded elsewhere, by requests_per_second. */
  bool made = record->stream_id != NULL && record->stream_id[0] != '\0';
  struct bound *bound =
      record->caller != NULL ? &activity->callers : &activity->strangers;
  if (made || bound_allows(bound))
    write_record(activity, record);
}

/* ---- looking back ---- */

static bool is_of(const struct kept *kept, const char *device) {
  if (device == NULL)
    return true;
  size_t len = strlen(device);
  return strncmp(kept->client, device, len) == 0 &&
         (kept->client[len] == '\0' || kept->client[len] == '/');
}

static bool fits(const struct kept *kept, const struct activity_query *query) {
  return kept->cursor > query->after && kept->time_ms >= query->since_ms &&
         is_of(kept, query->device);
}

/* The first of the newest `limit` that fit; NULL: none does. */
static const struct kept *first_of_newest(const struct activity *activity,
                                          const struct activity_query *query,
                                          size_t limit) {
  const struct kept *first = NULL;
  const struct kept *kept = activity->newest;
  for (; kept != NULL && limit > 0; kept = kept->older) {
    if (fits(kept, query)) {
      first = kept;
      limit--;
    }
  }
  return first;
}

/* Who asks for what came after a cursor asks for few of many: from the end. */
static const struct kept *first_after(const struct activity *activity,
                                      uint64_t after) {
  const struct kept *kept = activity->newest;
  while (kept != NULL && kept->cursor > after && kept->older != NULL)
    kept = kept->older;
  return kept;
}

size_t activity_query(const struct activity *activity,
                      const struct activity_query *query,
                      bool (*fn)(void *user, const char *json, size_t len),
                      void *user, uint64_t *cursor, bool *more) {
  size_t limit = query->limit != 0 ? query->limit : DEFAULT_LIMIT;
  size_t taken = 0;
  bool stopped = false;
  uint64_t seen = query->after;
  const struct kept *kept = query->newest
                                ? first_of_newest(activity, query, limit)
                                : first_after(activity, query->after);
  for (; kept != NULL && !stopped; kept = kept->newer) {
    bool wanted = fits(kept, query);
    stopped = wanted && (taken == limit || !fn(user, kept->line, kept->len));
    if (stopped)
      break;
    taken += wanted;
    if (kept->cursor > seen)
      seen = kept->cursor;
  }
  if (!stopped && activity->cursor > seen)
    seen = activity->cursor;
  if (cursor != NULL)
    *cursor = seen;
  if (more != NULL)
    *more = stopped;
  return taken;
}

void activity_listen(struct activity *activity,
                     struct activity_listener *listener,
                     void (*fn)(struct activity_listener *listener)) {
  struct activity_listener *head = &activity->listeners;
  assert(listener->next == NULL);
  listener->fn = fn;
  listener->next = head;
  listener->prev = head->prev;
  listener->prev->next = listener;
  head->prev = listener;
}

void activity_unlisten(struct activity_listener *listener) {
  if (listener->next == NULL)
    return;
  listener->next->prev = listener->prev;
  listener->prev->next = listener->next;
  listener->next = listener->prev = NULL;
}

struct activity_counts activity_counts(const struct activity *activity) {
  return activity->counts;
}

/* ---- life ---- */

static void say_failed(const struct activity *activity, int error) {
  if (error != 0)
    loop_log(activity->loop, DSTREAM_LOG_ERROR,
             "activity log: %.200s can't be opened: %s", activity->path,
             strerror(error));
}

static void init_bounds(struct activity *activity,
                        const struct activity_options *options) {
  uint32_t rate = options->refusals_per_second != 0
                      ? options->refusals_per_second
                      : STRANGERS_PER_S;
  uint32_t burst =
      options->refusal_burst != 0 ? options->refusal_burst : STRANGERS_BURST;
  bound_init(&activity->strangers, activity, rate, burst);
  bound_init(&activity->callers, activity, CALLERS_FACTOR * rate,
             CALLERS_FACTOR * burst);
}

int activity_new(struct activity **out, dstream_loop *loop,
                 const struct activity_options *options) {
  struct activity *activity = calloc(1, sizeof *activity);
  if (activity == NULL)
    return DSTREAM_ENOMEM;
  activity->loop = loop;
  activity->listeners.next = activity->listeners.prev = &activity->listeners;
  activity->file.fd = -1;
  activity->keep_bytes =
      options->keep_bytes != 0 ? options->keep_bytes : DEFAULT_KEEP;
  init_bounds(activity, options);
  activity->path = strdup(options->file);
  activity->host = strdup(options->host);
  if (activity->path == NULL || activity->host == NULL) {
    activity_free(activity);
    return DSTREAM_ENOMEM;
  }
  int error = activity_file_open(&activity->file, activity->path);
  activity->file.error = error;
  say_failed(activity, error);
  remember_file(activity);
  *out = activity;
  return DSTREAM_OK;
}

void activity_reopen(struct activity *activity) {
  say_failed(activity, activity_file_reopen(&activity->file));
}

void activity_free(struct activity *activity) {
  if (activity == NULL)
    return;
  loop_timer_cancel(&activity->strangers.timer);
  loop_timer_cancel(&activity->callers.timer);
  loop_task_cancel(&activity->tell);
  if (activity->host != NULL) {
    report(activity, &activity->strangers);
    report(activity, &activity->callers);
    loop_task_cancel(&activity->tell);
  }
  while (activity->oldest != NULL)
    forget_oldest(activity);
  activity_file_close(&activity->file);
  free(activity->path);
  free(activity->host);
  free(activity);
}
