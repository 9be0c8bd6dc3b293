#include "hub/identity_watch.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "core/container.h"
#include "net/loop.h"

#define FIRST_MS     20 /* from a write to the first question */
#define READS_MAX    64
#define FILE_EVENTS  (IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB)
#define PLACE_EVENTS (IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR)

enum { DATABASE, WAL, FILES };

static const struct identity_watch_times default_times = {
    .look = 250, .lively = 5000, .quiet = 60000};

struct identity_watch {
  dstream_loop *loop;
  void (*fn)(void *user);
  void *user;
  struct identity_watch_times times;
  struct loop_watch events;
  struct loop_timer timer;
  uint64_t due_ms; /* the timer's */
  uint64_t asked_ms;
  uint64_t lively_until_ms;
  bool deaf; /* the system does not tell */
  int place; /* the folder's watch descriptor */
  int file[FILES];
  char folder[PATH_MAX];
  char path[FILES][PATH_MAX + sizeof "-wal"];
};

static void on_timer(struct loop_timer *timer);

static void ask_at(struct identity_watch *watch, uint64_t at_ms) {
  uint64_t now = loop_now_ms();
  watch->due_ms = at_ms;
  loop_timer_set(watch->loop, &watch->timer, at_ms > now ? at_ms - now : 0,
                 on_timer);
}

static void ask_soon(struct identity_watch *watch) {
  uint64_t at_ms = loop_now_ms() + FIRST_MS;
  if (at_ms < watch->asked_ms + watch->times.look)
    at_ms = watch->asked_ms + watch->times.look;
  if (at_ms < watch->due_ms)
    ask_at(watch, at_ms);
}

static void go_deaf(struct identity_watch *watch, const char *why) {
  if (watch->deaf)
    return;
  watch->deaf = true;
  loop_watch_close(&watch->events);
  loop_log(watch->loop, DSTREAM_LOG_WARNING,
           "the system does not tell of changes of the identities (%s): "
           "looking at them again and again; fs.inotify.max_user_watches "
           "and max_user_instances are its limits",
           why);
  ask_soon(watch);
}

/* A file may be another one by now, or not there. */
static void watch_files(struct identity_watch *watch) {
  for (int i = 0; i < FILES; i++) {
    int old = watch->file[i];
    watch->file[i] =
        inotify_add_watch(watch->events.fd, watch->path[i], FILE_EVENTS);
    int error = errno;
    if (old >= 0 && old != watch->file[i])
      inotify_rm_watch(watch->events.fd, old);
    if (watch->file[i] < 0 && error != ENOENT) {
      go_deaf(watch, strerror(error));
      return;
    }
  }
}

/* ---- what the system tells ---- */

static bool is_ours(const struct identity_watch *watch, const char *name) {
  for (int i = 0; i < FILES; i++) {
    if (strcmp(strrchr(watch->path[i], '/') + 1, name) == 0)
      return true;
  }
  return false;
}

struct news {
  bool write; /* or something that may have been one */
  bool files; /* look which files are there */
  bool end;   /* the folder is gone */
};

static void take_event(const struct identity_watch *watch,
                       const struct inotify_event *event, struct news *news) {
  if (event->mask & IN_Q_OVERFLOW) {
    news->write = news->files = true;
  } else if (event->wd == watch->place) {
    bool ours = event->len > 0 && is_ours(watch, event->name);
    news->write = news->write || ours;
    news->files = news->files || ours;
    news->end = news->end || (event->mask & (IN_IGNORED | IN_UNMOUNT)) != 0;
  } else if (!(event->mask & IN_IGNORED)) {
    news->write = true;
  }
}

static void read_events(const struct identity_watch *watch, struct news *news) {
  _Alignas(struct inotify_event) char buffer[4096];
  for (int reads = 0; reads < READS_MAX; reads++) {
    ssize_t n = read(watch->events.fd, buffer, sizeof buffer);
    if (n <= 0)
      return;
    for (char *p = buffer; p < buffer + n;) {
      const struct inotify_event *event = (const void *)p;
      take_event(watch, event, news);
      p += sizeof *event + event->len;
    }
  }
}

/* Whether it may have been a write. */
static bool hear(struct identity_watch *watch) {
  struct news news = {0};
  read_events(watch, &news);
  if (news.write)
    watch->lively_until_ms = loop_now_ms() + watch->times.lively;
  if (news.end)
    go_deaf(watch, "its folder is gone");
  else if (news.files)
    watch_files(watch);
  return news.write;
}

/* What follows the first write is heard when the question comes: many writes
 * make one wake-up. */
static void on_events(struct loop_watch *events, unsigned what) {
  struct identity_watch *watch =
      CONTAINER_OF(events, struct identity_watch, events);
  if ((what & LOOP_GONE) || !hear(watch) || watch->deaf)
    return;
  loop_watch_want(events, 0);
  ask_soon(watch);
}

static void on_timer(struct loop_timer *timer) {
  struct identity_watch *watch =
      CONTAINER_OF(timer, struct identity_watch, timer);
  uint64_t now = loop_now_ms();
  watch->asked_ms = now;
  watch->due_ms = UINT64_MAX;
  if (!watch->deaf)
    hear(watch);
  if (!watch->deaf)
    loop_watch_want(&watch->events, LOOP_READ);
  bool lively = watch->deaf || now < watch->lively_until_ms;
  ask_at(watch, now + (lively ? watch->times.look : watch->times.quiet));
  watch->fn(watch->user);
}

/* ---- life ---- */

static bool set_paths(struct identity_watch *watch, const char *path) {
  char *real = watch->path[DATABASE];
  if (realpath(path, real) == NULL)
    return false;
  snprintf(watch->path[WAL], sizeof watch->path[WAL], "%.*s-wal", PATH_MAX - 1,
           real);
  size_t len = (size_t)(strrchr(real, '/') - real);
  memcpy(watch->folder, real, len > 0 ? len : 1);
  return true;
}

static int start_listening(struct identity_watch *watch) {
  int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) {
    go_deaf(watch, strerror(errno));
    return DSTREAM_OK;
  }
  int status = loop_watch_start(watch->loop, &watch->events, fd, on_events);
  if (status != DSTREAM_OK)
    return status;
  watch->place = inotify_add_watch(fd, watch->folder, PLACE_EVENTS);
  if (watch->place < 0) {
    go_deaf(watch, strerror(errno));
    return DSTREAM_OK;
  }
  watch_files(watch);
  if (!watch->deaf)
    loop_watch_want(&watch->events, LOOP_READ);
  return DSTREAM_OK;
}

static void set_times(struct identity_watch_times *out,
                      const struct identity_watch_times *times) {
  *out = default_times;
  if (times != NULL && times->look != 0)
    out->look = times->look;
  if (times != NULL && times->lively != 0)
    out->lively = times->lively;
  if (times != NULL && times->quiet != 0)
    out->quiet = times->quiet;
}

int identity_watch_new(struct identity_watch **out, dstream_loop *loop,
                       const char *path,
                       const struct identity_watch_times *times,
                       void (*fn)(void *user), void *user) {
  struct identity_watch *watch = calloc(1, sizeof *watch);
  if (watch == NULL)
    return DSTREAM_ENOMEM;
  watch->loop = loop;
  watch->fn = fn;
  watch->user = user;
  set_times(&watch->times, times);
  watch->place = watch->file[DATABASE] = watch->file[WAL] = -1;
  watch->due_ms = UINT64_MAX;
  int status = DSTREAM_OK;
  if (set_paths(watch, path))
    status = start_listening(watch);
  else
    go_deaf(watch, strerror(errno));
  if (status != DSTREAM_OK) {
    identity_watch_free(watch);
    return status;
  }
  ask_soon(watch); /* what was changed before this */
  *out = watch;
  return DSTREAM_OK;
}

void identity_watch_again(struct identity_watch *watch) {
  uint64_t at_ms = loop_now_ms() + watch->times.look;
  if (at_ms < watch->due_ms)
    ask_at(watch, at_ms);
}

void identity_watch_free(struct identity_watch *watch) {
  if (watch == NULL)
    return;
  loop_timer_cancel(&watch->timer);
  loop_watch_close(&watch->events);
  free(watch);
}
