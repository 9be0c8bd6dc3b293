#include "net/loop.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <libwebsockets.h>

#include "core/container.h"
#include "core/printable.h"
#include "core/timers.h"
#include "net/resolve.h"

#define POSTS_MAX     65536
#define CHUNKS_MAX    8
#define DEFAULT_FDS   16384
#define LOG_LINE_MAX  512
#define PROTOCOL_NAME "dstream-descriptor"

_Static_assert(sizeof(struct timer_node) <=
                   sizeof(((struct loop_timer *)0)->opaque),
               "loop_timer.opaque is too small");

struct buffers {
  uint8_t read[LOOP_CHUNK];
  uint8_t plain[LOOP_RECORD];
  uint8_t frame[LOOP_RECORD];
  struct loop_gather gather;
};

struct dstream_loop {
  struct lws_context *lws;
  struct lws_vhost *vhost;
  const struct loop_backend *backend;
  void *library_loop;

  dstream_log_fn *log;
  void *log_user;
  enum dstream_log_level log_level;

  unsigned watches;
  unsigned watches_max;
  bool stepping; /* within dstream_loop_step */
  bool freeing;

  struct loop_task tasks; /* list head */
  unsigned depth;         /* callbacks under way */
  struct loop_timer task_timer;

  struct timers timers; /* in microseconds of lws_now_usecs */
  uint64_t next_us;     /* when `next` is due; 0: it is not set */
  lws_sorted_usec_list_t next;

  struct buffers *buffers; /* NULL: nobody holds them */
  size_t holders;
  uint8_t *chunks[CHUNKS_MAX];
  size_t chunk_count;

  struct resolver *resolver;

  atomic_bool stop;
  pthread_mutex_t posts_lock; /* guards the three below */
  struct loop_post *posts;
  struct loop_post **posts_tail;
  size_t post_count; /* of those from the heap */
};

uint64_t loop_now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct resolver **loop_resolver(dstream_loop *loop) {
  return &loop->resolver;
}

bool loop_buffers_hold(dstream_loop *loop) {
  if (loop->buffers == NULL) {
    loop->buffers = malloc(sizeof *loop->buffers);
    if (loop->buffers == NULL)
      return false;
    loop->buffers->gather.owner = NULL;
    loop->buffers->gather.len = 0;
  }
  loop->holders++;
  return true;
}

static void free_buffers(dstream_loop *loop) {
  while (loop->chunk_count > 0)
    munmap(loop->chunks[--loop->chunk_count], LOOP_CHUNK);
  free(loop->buffers);
  loop->buffers = NULL;
}

void loop_buffers_release(dstream_loop *loop) {
  assert(loop->holders > 0);
  if (--loop->holders == 0)
    free_buffers(loop);
}

uint8_t *loop_read_buffer(dstream_loop *loop) {
  return loop->buffers->read;
}

uint8_t *loop_plain_buffer(dstream_loop *loop) {
  return loop->buffers->plain;
}

uint8_t *loop_frame_buffer(dstream_loop *loop) {
  return loop->buffers->frame;
}

struct loop_gather *loop_gather(dstream_loop *loop) {
  return &loop->buffers->gather;
}

/* From the system, not from the heap: small pieces of a heap would be cut from
 * those that are given back, and the heap grow with each burst of streams. */
uint8_t *loop_chunk_get(dstream_loop *loop) {
  if (loop->chunk_count > 0)
    return loop->chunks[--loop->chunk_count];
  void *chunk = mmap(NULL, LOOP_CHUNK, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return chunk == MAP_FAILED ? NULL : chunk;
}

void loop_chunk_put(dstream_loop *loop, uint8_t *chunk) {
  if (loop->chunk_count < CHUNKS_MAX)
    loop->chunks[loop->chunk_count++] = chunk;
  else
    munmap(chunk, LOOP_CHUNK);
}

bool loop_logs(const dstream_loop *loop, enum dstream_log_level level) {
  return loop->log != NULL && level <= loop->log_level;
}

void loop_log(dstream_loop *loop, enum dstream_log_level level,
              const char *format, ...) {
  if (!loop_logs(loop, level))
    return;
  char line[LOG_LINE_MAX];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  printable_line(line);
  loop->log(loop->log_user, level, line);
}

/* ---- deferred work ---- */

static void task_unlink(struct loop_task *task) {
  task->prev->next = task->next;
  task->next->prev = task->prev;
  task->next = NULL;
  task->prev = NULL;
}

static void loop_enter(dstream_loop *loop) {
  loop->depth++;
}

/* A task may defer others, and itself again: those run too.  A chain that
 * never ends would be a bug of this library, not of a peer. */
static void loop_leave(dstream_loop *loop) {
  while (loop->depth == 1 && loop->tasks.next != &loop->tasks) {
    struct loop_task *task = loop->tasks.next;
    task_unlink(task);
    task->fn(task);
  }
  loop->depth--;
}

static void on_task_timer(struct loop_timer *timer) {
  (void)timer; /* leaving its callback runs the tasks */
}

void loop_defer(dstream_loop *loop, struct loop_task *task,
                void (*fn)(struct loop_task *task)) {
  if (task->next != NULL)
    return;
  task->fn = fn;
  task->prev = loop->tasks.prev;
  task->next = &loop->tasks;
  task->prev->next = task;
  loop->tasks.prev = task;
  if (loop->depth == 0)
    loop_timer_set(loop, &loop->task_timer, 0, on_task_timer);
}

void loop_task_cancel(struct loop_task *task) {
  if (task->next != NULL)
    task_unlink(task);
}

/* ---- timers ---- */

/* libwebsockets keeps its timers in a sorted list, which takes time with many
 * of them: it has one of ours only, for what is due next. */

static struct timer_node *timer_node(struct loop_timer *timer) {
  return (struct timer_node *)(void *)timer->opaque;
}

static void on_due(lws_sorted_usec_list_t *next);

static void arm_next(dstream_loop *loop) {
  const struct timer_node *first = loop->timers.first;
  uint64_t due_us = first == NULL ? 0 : first->due;
  if (due_us == loop->next_us)
    return;
  loop->next_us = due_us;
  if (first == NULL) {
    lws_sul_cancel(&loop->next);
    return;
  }
  lws_usec_t wait_us = (lws_usec_t)due_us - lws_now_usecs();
  lws_sul_schedule(loop->lws, 0, &loop->next, on_due,
                   wait_us > 0 ? wait_us : 1);
}

/* What a timer sets for at once waits for the next round. */
static void on_due(lws_sorted_usec_list_t *next) {
  dstream_loop *loop = CONTAINER_OF(next, dstream_loop, next);
  uint64_t now_us = (uint64_t)lws_now_usecs();
  loop->next_us = 0;
  /* It would go on to wait: what a timer did may be what a step is for. */
  if (loop->stepping)
    lws_cancel_service(loop->lws);
  while (loop->timers.first != NULL && loop->timers.first->due <= now_us) {
    struct timer_node *node = loop->timers.first;
    struct loop_timer *timer = CONTAINER_OF(node, struct loop_timer, opaque);
    timers_remove(&loop->timers, node);
    loop_enter(loop);
    timer->fn(timer);
    loop_leave(loop);
  }
  arm_next(loop);
}

/* libwebsockets sets the other library's timer when it has handled an event:
 * what is timed from outside of the loop needs one. */
static void wake_if_outside(dstream_loop *loop) {
  if (loop->backend != NULL && loop->depth == 0)
    lws_cancel_service(loop->lws);
}

void loop_timer_set(dstream_loop *loop, struct loop_timer *timer,
                    uint64_t delay_ms, void (*fn)(struct loop_timer *timer)) {
  timer->fn = fn;
  timer->loop = loop;
  uint64_t us = delay_ms == 0 ? 1 : delay_ms * LWS_US_PER_MS;
  timers_add(&loop->timers, timer_node(timer), (uint64_t)lws_now_usecs() + us);
  arm_next(loop);
  wake_if_outside(loop);
}

void loop_timer_cancel(struct loop_timer *timer) {
  if (timer->loop == NULL || !timer_node(timer)->set)
    return;
  timers_remove(&timer->loop->timers, timer_node(timer));
  arm_next(timer->loop);
}

/* ---- descriptors ---- */

static void on_watch_again(struct loop_timer *timer) {
  struct loop_watch *watch = CONTAINER_OF(timer, struct loop_watch, again);
  if (watch->hung_up) {
    if (watch->want == 0)
      return;
    /* Until its owner, who may free the watch, has read to the end. */
    loop_timer_set(watch->loop, &watch->again, 0, on_watch_again);
    watch->fn(watch, watch->want);
  } else if (watch->want & LOOP_WRITE) {
    lws_callback_on_writable(watch->wsi);
  }
}

/* libwebsockets closes a descriptor that hung up, read or not.  Bytes may
 * still be in it: it lives on as a duplicate, unpolled, until its owner has
 * read to the end. */
static void watch_hang_up(struct loop_watch *watch) {
  watch->wsi = NULL;
  watch->hung_up = true;
  watch->fd = fcntl(watch->fd, F_DUPFD_CLOEXEC, 0);
  if (watch->want != 0)
    loop_timer_set(watch->loop, &watch->again, 0, on_watch_again);
}

static void watch_gone(struct loop_watch *watch) {
  watch->wsi = NULL;
  watch->fd = -1;
  watch->want = 0;
  watch->fn(watch, LOOP_GONE);
}

/* What stands for the watch in a descriptor that its owner has closed and
 * libwebsockets has not.  NULL: that is told as well.  libwebsockets 4.1.6
 * tells a descriptor's end twice when it hangs up while it is being closed. */
static char closed_mark;

static struct loop_watch *watch_of(struct lws *wsi) {
  void *data = lws_get_opaque_user_data(wsi);
  return data == &closed_mark ? NULL : data;
}

static void on_descriptor_end(struct lws *wsi) {
  dstream_loop *loop = lws_context_user(lws_get_context(wsi));
  struct loop_watch *watch = watch_of(wsi);
  if (lws_get_opaque_user_data(wsi) == NULL)
    return;
  lws_set_opaque_user_data(wsi, NULL);
  assert(loop->watches > 0);
  loop->watches--;
  if (watch != NULL && loop->freeing)
    watch_gone(watch);
  else if (watch != NULL)
    watch_hang_up(watch);
}

static int on_descriptor(struct lws *wsi, enum lws_callback_reasons reason,
                         struct loop_watch *watch) {
  dstream_loop *loop = watch->loop;
  unsigned event = reason == LWS_CALLBACK_RAW_RX_FILE ? LOOP_READ : LOOP_WRITE;
  if ((watch->want & event) == 0)
    return 0;
  loop_enter(loop);
  watch->in_write = event == LOOP_WRITE;
  watch->fn(watch, event);
  loop_leave(loop);
  /* The callback, or what it deferred, may have closed (and freed) the watch.
   */
  watch = watch_of(wsi);
  if (watch != NULL) {
    watch->in_write = false;
    if (event == LOOP_WRITE && (watch->want & LOOP_WRITE))
      loop_timer_set(loop, &watch->again, 0, on_watch_again);
  }
  return 0;
}

static void run_posts(dstream_loop *loop);

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user,
                  void *in, size_t len) {
  (void)user;
  (void)in;
  (void)len;
  struct loop_watch *watch;
  switch (reason) {
  case LWS_CALLBACK_RAW_RX_FILE:
  case LWS_CALLBACK_RAW_WRITEABLE_FILE:
    watch = watch_of(wsi);
    return watch == NULL ? 0 : on_descriptor(wsi, reason, watch);
  case LWS_CALLBACK_RAW_CLOSE_FILE:
    on_descriptor_end(wsi);
    return 0;
  case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
    run_posts(lws_context_user(lws_get_context(wsi)));
    return 0;
  default:
    return 0;
  }
}

int loop_watch_start(dstream_loop *loop, struct loop_watch *watch, int fd,
                     void (*fn)(struct loop_watch *watch, unsigned events)) {
  assert(watch->wsi == NULL && !watch->hung_up);
  if (loop->watches >= loop->watches_max) {
    close(fd);
    return DSTREAM_ELIMIT;
  }
  lws_sock_file_fd_type desc;
  desc.filefd = fd;
  struct lws *wsi = lws_adopt_descriptor_vhost(
      loop->vhost, LWS_ADOPT_RAW_FILE_DESC, desc, PROTOCOL_NAME, NULL);
  if (wsi == NULL) {
    close(fd);
    return DSTREAM_ENOMEM;
  }
  loop->watches++;
  lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
  lws_rx_flow_control(wsi, 0);
  lws_set_opaque_user_data(wsi, watch);
  watch->loop = loop;
  watch->fn = fn;
  watch->wsi = wsi;
  watch->fd = fd;
  watch->want = 0;
  return DSTREAM_OK;
}

void loop_watch_want(struct loop_watch *watch, unsigned events) {
  if (events == watch->want)
    return;
  unsigned added = events & ~watch->want;
  unsigned changed = events ^ watch->want;
  watch->want = events;
  if (watch->hung_up) {
    if (events != 0)
      loop_timer_set(watch->loop, &watch->again, 0, on_watch_again);
    return;
  }
  if (changed & LOOP_READ)
    lws_rx_flow_control(watch->wsi, (events & LOOP_READ) != 0);
  if ((added & LOOP_WRITE) && !watch->in_write)
    lws_callback_on_writable(watch->wsi);
}

void loop_watch_close(struct loop_watch *watch) {
  loop_timer_cancel(&watch->again);
  if (watch->wsi != NULL) {
    lws_set_opaque_user_data(watch->wsi, &closed_mark);
    lws_set_timeout(watch->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    wake_if_outside(watch->loop);
  } else if (watch->hung_up && watch->fd >= 0) {
    close(watch->fd);
  }
  watch->wsi = NULL;
  watch->hung_up = false;
  watch->fd = -1;
  watch->want = 0;
}

/* ---- posts ---- */

static struct loop_post *take_posts(dstream_loop *loop) {
  pthread_mutex_lock(&loop->posts_lock);
  struct loop_post *post = loop->posts;
  loop->posts = NULL;
  loop->posts_tail = &loop->posts;
  loop->post_count = 0;
  pthread_mutex_unlock(&loop->posts_lock);
  return post;
}

/* A post that is not from the heap is its owner's again when fn is called. */
static void run_posts(dstream_loop *loop) {
  loop_enter(loop);
  struct loop_post *post = take_posts(loop);
  while (post != NULL) {
    struct loop_post copy = *post;
    if (copy.from_heap)
      free(post);
    copy.fn(copy.arg);
    post = copy.next;
  }
  loop_leave(loop);
}

static void append_post(dstream_loop *loop, struct loop_post *post) {
  *loop->posts_tail = post;
  loop->posts_tail = &post->next;
}

void loop_post(dstream_loop *loop, struct loop_post *post,
               void (*fn)(void *arg), void *arg) {
  pthread_mutex_lock(&loop->posts_lock);
  *post = (struct loop_post){.fn = fn, .arg = arg};
  append_post(loop, post);
  pthread_mutex_unlock(&loop->posts_lock);
  lws_cancel_service(loop->lws);
}

int dstream_loop_post(dstream_loop *loop, void (*fn)(void *arg), void *arg) {
  struct loop_post *post = malloc(sizeof *post);
  if (post == NULL)
    return DSTREAM_ENOMEM;
  *post = (struct loop_post){.fn = fn, .arg = arg, .from_heap = true};
  pthread_mutex_lock(&loop->posts_lock);
  bool full = loop->post_count >= POSTS_MAX;
  if (!full) {
    append_post(loop, post);
    loop->post_count++;
  }
  pthread_mutex_unlock(&loop->posts_lock);
  if (full) {
    free(post);
    return DSTREAM_ELIMIT;
  }
  lws_cancel_service(loop->lws);
  return DSTREAM_OK;
}

/* ---- life ---- */

static const struct lws_protocols protocols[] = {
    {PROTOCOL_NAME, on_lws, 0, 0, 0, NULL, 0},
    {NULL, NULL, 0, 0, 0, NULL, 0},
};

static unsigned fd_limit(const struct dstream_loop_options *options) {
  struct rlimit limit = {DEFAULT_FDS, DEFAULT_FDS};
  getrlimit(RLIMIT_NOFILE, &limit);
  unsigned most =
      limit.rlim_cur > DEFAULT_FDS ? DEFAULT_FDS : (unsigned)limit.rlim_cur;
  if (options != NULL && options->max_fds != 0)
    most = options->max_fds;
  return most < 16 ? 16 : most;
}

static int loop_create_context(dstream_loop *loop) {
  lws_set_log_level(0, NULL);
  struct lws_context_creation_info info;
  memset(&info, 0, sizeof info);
  info.port = CONTEXT_PORT_NO_LISTEN;
  info.protocols = protocols;
  info.user = loop;
  /* fd_limit_per_thread stays 0: with a limit of its own libwebsockets looks
   * descriptors up by walking its table for each event.  watches_max bounds. */
  info.gid = (gid_t)-1;
  info.uid = (uid_t)-1;
  info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                 LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME;
  void *foreign[1] = {loop->library_loop};
  if (loop->backend != NULL) {
    info.options |= loop->backend->lws_options;
    info.foreign_loops = foreign;
  }
  loop->lws = lws_create_context(&info);
  if (loop->lws == NULL)
    return DSTREAM_ESYSTEM;
  info.vhost_name = "dstream";
  loop->vhost = lws_create_vhost(loop->lws, &info);
  return loop->vhost == NULL ? DSTREAM_ESYSTEM : DSTREAM_OK;
}

int loop_new(dstream_loop **out, const struct dstream_loop_options *options,
             const struct loop_backend *backend) {
  dstream_loop *loop = calloc(1, sizeof *loop);
  if (loop == NULL)
    return DSTREAM_ENOMEM;
  loop->backend = backend;
  loop->tasks.next = loop->tasks.prev = &loop->tasks;
  loop->posts_tail = &loop->posts;
  pthread_mutex_init(&loop->posts_lock, NULL);
  if (options != NULL) {
    loop->log = options->log;
    loop->log_user = options->log_user;
    loop->log_level = options->log_level;
  }
  if (loop->log_level == 0)
    loop->log_level = DSTREAM_LOG_INFO;
  loop->watches_max = fd_limit(options);
  int status =
      backend == NULL ? DSTREAM_OK : backend->create(&loop->library_loop);
  if (status == DSTREAM_OK)
    status = loop_create_context(loop);
  if (status != DSTREAM_OK) {
    dstream_loop_free(loop);
    return status;
  }
  *out = loop;
  return DSTREAM_OK;
}

int dstream_loop_new(dstream_loop **out,
                     const struct dstream_loop_options *options) {
  if (out == NULL || (options != NULL && options->size != sizeof *options))
    return DSTREAM_EINVAL;
  return loop_new(out, options, NULL);
}

static void on_step_timer(struct loop_timer *timer) {
  (void)timer; /* ends the wait */
}

int dstream_loop_step(dstream_loop *loop, int timeout_ms) {
  if (loop->backend != NULL) {
    loop->backend->run_once(loop->library_loop, timeout_ms);
    return DSTREAM_OK;
  }
  struct loop_timer timer;
  memset(&timer, 0, sizeof timer);
  if (timeout_ms > 0)
    loop_timer_set(loop, &timer, (uint64_t)timeout_ms, on_step_timer);
  loop->stepping = true;
  lws_service(loop->lws, timeout_ms != 0 ? 0 : -1);
  loop->stepping = false;
  loop_timer_cancel(&timer);
  return DSTREAM_OK;
}

int dstream_loop_run(dstream_loop *loop) {
  while (!atomic_load(&loop->stop)) {
    if (loop->backend != NULL)
      loop->backend->run_once(loop->library_loop, -1);
    else if (lws_service(loop->lws, 0) < 0)
      return DSTREAM_ESYSTEM;
  }
  atomic_store(&loop->stop, false);
  return DSTREAM_OK;
}

void dstream_loop_stop(dstream_loop *loop) {
  atomic_store(&loop->stop, true);
  lws_cancel_service(loop->lws);
}

void dstream_loop_free(dstream_loop *loop) {
  if (loop == NULL)
    return;
  resolver_free(loop->resolver);
  loop->freeing = true;
  loop_enter(loop);
  if (loop->lws != NULL)
    lws_context_destroy(loop->lws);
  loop_leave(loop);
  if (loop->backend != NULL && loop->library_loop != NULL)
    loop->backend->destroy(loop->library_loop);
  struct loop_post *post = take_posts(loop);
  while (post != NULL) {
    struct loop_post *next = post->next;
    if (post->from_heap)
      free(post);
    post = next;
  }
  free_buffers(loop);
  pthread_mutex_destroy(&loop->posts_lock);
  free(loop);
}
