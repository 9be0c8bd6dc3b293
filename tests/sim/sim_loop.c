/* net/loop.h and net/resolve.h without a system. */
#include <assert.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "core/container.h"
#include "net/resolve.h"
#include "sim.h"

#define CHUNKS_MAX   8
#define LOG_LINE_MAX 512
/* So much may happen without the clock going on. */
#define BUSY_MAX 200000

struct buffers {
  uint8_t read[LOOP_CHUNK];
  uint8_t plain[LOOP_RECORD];
  uint8_t frame[LOOP_RECORD];
  struct loop_gather gather;
};

struct dstream_loop {
  dstream_log_fn *log;
  void *log_user;
  enum dstream_log_level log_level;
  struct loop_timer *timers; /* sorted by time */
  struct loop_watch *watches[512];
  unsigned watch_count;
  struct loop_task tasks; /* list head */
  unsigned depth;
  struct loop_post *posts;
  struct loop_post **posts_tail;
  unsigned busy;
  uint8_t *chunks[CHUNKS_MAX];
  size_t chunk_count;
  struct resolver *resolver;
  struct buffers *buffers;
  size_t holders;
};

/* sim_memory.c */
void *__wrap_malloc(size_t size);
void __wrap_free(void *memory);

static uint64_t now_ms;
static unsigned jump_permille;
static unsigned jump_ms;
static unsigned resolve_permille;

uint64_t loop_now_ms(void) {
  return now_ms;
}

void sim_loop_reset(void) {
  now_ms = 1000000;
  jump_permille = 0;
  resolve_permille = 0;
}

void sim_loop_jumps(unsigned permille, unsigned most_ms) {
  jump_permille = permille;
  jump_ms = most_ms;
}

void sim_resolve_faults(unsigned permille) {
  resolve_permille = permille;
}

/* ---- life ---- */

int loop_new(dstream_loop **out, const struct dstream_loop_options *options,
             const struct loop_backend *backend) {
  (void)backend;
  dstream_loop *loop = sim_alloc(sizeof *loop);
  loop->tasks.next = loop->tasks.prev = &loop->tasks;
  loop->posts_tail = &loop->posts;
  if (options != NULL) {
    loop->log = options->log;
    loop->log_user = options->log_user;
    loop->log_level = options->log_level;
  }
  *out = loop;
  return DSTREAM_OK;
}

int dstream_loop_new(dstream_loop **out,
                     const struct dstream_loop_options *options) {
  return loop_new(out, options, NULL);
}

void dstream_loop_free(dstream_loop *loop) {
  if (loop == NULL)
    return;
  while (loop->chunk_count > 0)
    sim_free(loop->chunks[--loop->chunk_count]);
  sim_free(loop);
}

/* A program of the simulator never blocks in a loop. */
int dstream_loop_run(dstream_loop *loop) {
  while (sim_step(loop)) {
  }
  return DSTREAM_OK;
}

int dstream_loop_step(dstream_loop *loop, int timeout_ms) {
  (void)timeout_ms;
  sim_step(loop);
  return DSTREAM_OK;
}

void dstream_loop_stop(dstream_loop *loop) {
  (void)loop;
}

unsigned sim_loop_left(const dstream_loop *loop) {
  unsigned left = loop->watch_count;
  for (struct loop_timer *t = loop->timers; t != NULL;
       t = (struct loop_timer *)(uintptr_t)t->opaque[1])
    left++;
  if (loop->tasks.next != &loop->tasks || loop->posts != NULL)
    left++;
  return left;
}

/* ---- log ---- */

bool loop_logs(const dstream_loop *loop, enum dstream_log_level level) {
  return loop->log != NULL && level <= loop->log_level;
}

void loop_log(dstream_loop *loop, enum dstream_log_level level,
              const char *format, ...) {
  char line[LOG_LINE_MAX];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (sim_tracing)
    sim_trace("log %d: %s", (int)level, line);
  if (loop_logs(loop, level))
    loop->log(loop->log_user, level, line);
}

/* ---- deferred work ---- */

static void task_unlink(struct loop_task *task) {
  task->prev->next = task->next;
  task->next->prev = task->prev;
  task->next = NULL;
  task->prev = NULL;
}

static void run_tasks(dstream_loop *loop) {
  unsigned count = 0;
  loop->depth++;
  while (loop->tasks.next != &loop->tasks) {
    struct loop_task *task = loop->tasks.next;
    SIM_CHECK(++count < BUSY_MAX, "deferred work that never ends");
    task_unlink(task);
    task->fn(task);
  }
  loop->depth--;
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
}

void loop_task_cancel(struct loop_task *task) {
  if (task->next != NULL)
    task_unlink(task);
}

/* ---- posts ---- */

void loop_post(dstream_loop *loop, struct loop_post *post,
               void (*fn)(void *arg), void *arg) {
  post->next = NULL;
  post->fn = fn;
  post->arg = arg;
  *loop->posts_tail = post;
  loop->posts_tail = &post->next;
}

int dstream_loop_post(dstream_loop *loop, void (*fn)(void *arg), void *arg) {
  struct loop_post *post = sim_alloc(sizeof *post);
  post->from_heap = true;
  loop_post(loop, post, fn, arg);
  return DSTREAM_OK;
}

static void run_post(dstream_loop *loop) {
  struct loop_post *post = loop->posts;
  loop->posts = post->next;
  if (loop->posts == NULL)
    loop->posts_tail = &loop->posts;
  void (*fn)(void *) = post->fn;
  void *arg = post->arg;
  if (post->from_heap)
    sim_free(post);
  fn(arg);
}

/* ---- timers: opaque is when, the next one, and whether it is set ---- */

static struct loop_timer *timer_next(const struct loop_timer *timer) {
  return (struct loop_timer *)(uintptr_t)timer->opaque[1];
}

static void timer_link(struct loop_timer *before, dstream_loop *loop,
                       struct loop_timer *timer) {
  if (before == NULL)
    loop->timers = timer;
  else
    before->opaque[1] = (uintptr_t)timer;
}

void loop_timer_cancel(struct loop_timer *timer) {
  if (timer->loop == NULL || timer->opaque[2] == 0)
    return;
  struct loop_timer *before = NULL;
  struct loop_timer *at = timer->loop->timers;
  while (at != timer) {
    assert(at != NULL);
    before = at;
    at = timer_next(at);
  }
  timer_link(before, timer->loop, timer_next(timer));
  timer->opaque[2] = 0;
}

void loop_timer_set(dstream_loop *loop, struct loop_timer *timer,
                    uint64_t delay_ms, void (*fn)(struct loop_timer *timer)) {
  loop_timer_cancel(timer);
  timer->loop = loop;
  timer->fn = fn;
  timer->opaque[0] = now_ms + delay_ms;
  timer->opaque[2] = 1;
  struct loop_timer *before = NULL;
  struct loop_timer *at = loop->timers;
  while (at != NULL && at->opaque[0] <= timer->opaque[0]) {
    before = at;
    at = timer_next(at);
  }
  timer->opaque[1] = (uintptr_t)at;
  timer_link(before, loop, timer);
}

static void run_timer(dstream_loop *loop) {
  struct loop_timer *timer = loop->timers;
  timer_link(NULL, loop, timer_next(timer));
  timer->opaque[2] = 0;
  timer->fn(timer);
}

/* ---- descriptors ---- */

int loop_watch_start(dstream_loop *loop, struct loop_watch *watch, int fd,
                     void (*fn)(struct loop_watch *watch, unsigned events)) {
  size_t most = sizeof loop->watches / sizeof *loop->watches;
  void *memory = __wrap_malloc(16); /* libwebsockets needs some */
  __wrap_free(memory);
  if (memory == NULL || loop->watch_count == most) {
    sim_socket_close(fd);
    return memory == NULL ? DSTREAM_ENOMEM : DSTREAM_ELIMIT;
  }
  *watch = (struct loop_watch){.loop = loop, .fn = fn, .fd = fd};
  watch->wsi = watch;
  loop->watches[loop->watch_count++] = watch;
  return DSTREAM_OK;
}

void loop_watch_want(struct loop_watch *watch, unsigned events) {
  watch->want = events;
}

void loop_watch_close(struct loop_watch *watch) {
  dstream_loop *loop = watch->loop;
  if (loop == NULL || watch->wsi == NULL)
    return;
  for (unsigned i = 0; i < loop->watch_count; i++) {
    if (loop->watches[i] != watch)
      continue;
    loop->watches[i] = loop->watches[--loop->watch_count];
    break;
  }
  sim_socket_close(watch->fd);
  watch->wsi = NULL;
  watch->loop = NULL;
  watch->fd = -1;
}

/* Has one of those that are ready, from any one on, do something. */
static bool run_watch(dstream_loop *loop) {
  if (loop->watch_count == 0)
    return false;
  unsigned from = (unsigned)sim_below(loop->watch_count);
  for (unsigned i = 0; i < loop->watch_count; i++) {
    struct loop_watch *watch = loop->watches[(from + i) % loop->watch_count];
    unsigned ready = 0;
    if (!sim_socket_ready(watch->fd, watch->want, &ready))
      continue;
    if (ready == (LOOP_READ | LOOP_WRITE))
      ready = sim_chance(500) ? LOOP_READ : LOOP_WRITE;
    watch->fn(watch, ready);
    return true;
  }
  return false;
}

/* ---- the order of things ---- */

static bool timer_due(const dstream_loop *loop) {
  return loop->timers != NULL && loop->timers->opaque[0] <= now_ms;
}

static bool run_one(dstream_loop *loop) {
  unsigned first = (unsigned)sim_below(3);
  for (unsigned i = 0; i < 3; i++) {
    unsigned what = (first + i) % 3;
    if (what == 0 && loop->posts != NULL) {
      run_post(loop);
      return true;
    }
    if (what == 1 && timer_due(loop)) {
      run_timer(loop);
      return true;
    }
    if (what == 2 && run_watch(loop))
      return true;
  }
  return false;
}

bool sim_step(dstream_loop *loop) {
  run_tasks(loop);
  loop->depth++;
  bool did = run_one(loop);
  loop->depth--;
  run_tasks(loop);
  if (did) {
    SIM_CHECK(++loop->busy < BUSY_MAX,
              "the loop is busy for ever at one moment");
    return true;
  }
  if (loop->timers == NULL)
    return false;
  loop->busy = 0;
  assert(loop->timers->opaque[0] > now_ms);
  now_ms = loop->timers->opaque[0];
  if (sim_chance(jump_permille))
    now_ms += sim_between(1, jump_ms);
  return true;
}

/* ---- buffers ---- */

/* Written over before each use: what was there belongs to nobody. */
static uint8_t *soil(uint8_t *buffer) {
  memset(buffer, 0xdb, 64);
  return buffer;
}

bool loop_buffers_hold(dstream_loop *loop) {
  if (loop->buffers == NULL) {
    loop->buffers = __wrap_malloc(sizeof *loop->buffers);
    if (loop->buffers == NULL)
      return false;
    loop->buffers->gather.owner = NULL;
    loop->buffers->gather.len = 0;
  }
  loop->holders++;
  return true;
}

void loop_buffers_release(dstream_loop *loop) {
  SIM_CHECK(loop->holders > 0, "the loop's buffers were released twice");
  if (--loop->holders > 0)
    return;
  __wrap_free(loop->buffers);
  loop->buffers = NULL;
}

uint8_t *loop_read_buffer(dstream_loop *loop) {
  return soil(loop->buffers->read);
}

uint8_t *loop_plain_buffer(dstream_loop *loop) {
  return soil(loop->buffers->plain);
}

uint8_t *loop_frame_buffer(dstream_loop *loop) {
  return loop->buffers->frame;
}

struct loop_gather *loop_gather(dstream_loop *loop) {
  return &loop->buffers->gather;
}

/* From the counted memory, so that a buffer never given back is noticed. */
uint8_t *loop_chunk_get(dstream_loop *loop) {
  (void)loop;
  return __wrap_malloc(LOOP_CHUNK);
}

void loop_chunk_put(dstream_loop *loop, uint8_t *chunk) {
  (void)loop;
  __wrap_free(chunk);
}

/* ---- names ---- */

struct resolver {
  int unused;
};

struct resolve_job {
  struct resolve_query *query;
  struct loop_timer timer;
  struct resolve_answer answer;
};

struct resolver **loop_resolver(dstream_loop *loop) {
  return &loop->resolver;
}

void resolver_free(struct resolver *resolver) {
  (void)resolver;
}

static void on_resolved(struct loop_timer *timer) {
  struct resolve_job *job = CONTAINER_OF(timer, struct resolve_job, timer);
  struct resolve_query *query = job->query;
  query->job = NULL;
  query->fn(query, &job->answer);
  __wrap_free(job);
}

int resolve_start(dstream_loop *loop, struct resolve_query *query,
                  const char *host, uint16_t port,
                  void (*fn)(struct resolve_query *query,
                             const struct resolve_answer *answer)) {
  (void)host;
  struct resolve_job *job = __wrap_malloc(sizeof *job);
  if (job == NULL)
    return DSTREAM_ENOMEM;
  memset(job, 0, sizeof *job);
  job->query = query;
  query->job = job;
  query->fn = fn;
  if (sim_chance(resolve_permille)) {
    job->answer.error = EAI_AGAIN;
  } else {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    job->answer.count = 1;
    memcpy(&job->answer.address[0].storage, &address, sizeof address);
    job->answer.address[0].len = sizeof address;
  }
  loop_timer_set(loop, &job->timer, sim_between(0, 20), on_resolved);
  return DSTREAM_OK;
}

void resolve_cancel(struct resolve_query *query) {
  if (query->job == NULL)
    return;
  loop_timer_cancel(&query->job->timer);
  __wrap_free(query->job);
  query->job = NULL;
}
