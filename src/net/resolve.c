#include "net/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/container.h"

#define JOBS_MAX     256
#define CACHE_SIZE   16
#define CACHE_TTL_MS 30000
#define HOST_MAX     256

struct resolve_job {
  struct resolve_job *next; /* in the resolver's queue */
  dstream_loop *loop;
  struct resolver *resolver;   /* NULL: numeric, the thread was not needed */
  struct resolve_query *query; /* NULL: canceled.  Loop's thread only. */
  struct resolve_job *pending; /* the next one of those the thread has, and */
  struct resolve_job *alike;   /* those that ask the same.  Likewise. */
  struct resolve_answer answer;
  struct loop_timer timer;
  uint16_t port;
  char host[HOST_MAX];
};

struct cache_entry {
  char host[HOST_MAX];
  uint64_t until_ms;
  struct resolve_answer answer;
};

/* The thread and the loop each hold it; the last one out frees it. */
struct resolver {
  dstream_loop *loop;
  pthread_mutex_t lock; /* guards all up to the cache */
  pthread_cond_t wake;
  bool quit;
  struct resolve_job *queue;
  struct resolve_job **queue_tail;
  struct resolve_job *done;
  struct resolve_job **done_tail;
  unsigned jobs;
  struct resolve_job *pending;          /* loop's thread only */
  struct cache_entry cache[CACHE_SIZE]; /* likewise */
};

static void ask_system(const char *host, uint16_t port, int flags,
                       struct resolve_answer *answer) {
  struct addrinfo hints;
  struct addrinfo *list = NULL;
  memset(&hints, 0, sizeof hints);
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  char service[8];
  snprintf(service, sizeof service, "%u", (unsigned)port);
  memset(answer, 0, sizeof *answer);
  answer->error = getaddrinfo(host, service, &hints, &list);
  if (answer->error != 0)
    return;
  for (struct addrinfo *a = list; a != NULL; a = a->ai_next) {
    if (answer->count == RESOLVE_ADDRESSES_MAX)
      break;
    if (a->ai_addrlen > sizeof answer->address[0].storage)
      continue;
    memcpy(&answer->address[answer->count].storage, a->ai_addr, a->ai_addrlen);
    answer->address[answer->count++].len = a->ai_addrlen;
  }
  freeaddrinfo(list);
  if (answer->count == 0)
    answer->error = EAI_NONAME;
}

static void free_jobs(struct resolve_job *job) {
  while (job != NULL) {
    struct resolve_job *next = job->next;
    free_jobs(job->alike);
    free(job);
    job = next;
  }
}

static void resolver_destroy(struct resolver *resolver) {
  free_jobs(resolver->queue);
  free_jobs(resolver->done);
  pthread_cond_destroy(&resolver->wake);
  pthread_mutex_destroy(&resolver->lock);
  free(resolver);
}

/* ---- loop's thread ---- */

static void cache_put(struct resolver *resolver,
                      const struct resolve_job *job) {
  struct cache_entry *slot = &resolver->cache[0];
  for (size_t i = 0; i < CACHE_SIZE; i++) {
    struct cache_entry *entry = &resolver->cache[i];
    if (strcmp(entry->host, job->host) == 0) {
      slot = entry;
      break;
    }
    if (entry->until_ms < slot->until_ms)
      slot = entry;
  }
  memcpy(slot->host, job->host, sizeof slot->host);
  slot->answer = job->answer;
  slot->until_ms = loop_now_ms() + CACHE_TTL_MS;
}

static void set_port(struct resolve_answer *answer, uint16_t port) {
  for (unsigned i = 0; i < answer->count; i++) {
    struct sockaddr_storage *storage = &answer->address[i].storage;
    if (storage->ss_family == AF_INET)
      ((struct sockaddr_in *)(void *)storage)->sin_port = htons(port);
    else if (storage->ss_family == AF_INET6)
      ((struct sockaddr_in6 *)(void *)storage)->sin6_port = htons(port);
  }
}

static bool cache_get(struct resolver *resolver, struct resolve_job *job) {
  for (size_t i = 0; i < CACHE_SIZE; i++) {
    const struct cache_entry *entry = &resolver->cache[i];
    if (entry->until_ms > loop_now_ms() &&
        strcmp(entry->host, job->host) == 0) {
      job->answer = entry->answer;
      set_port(&job->answer, job->port);
      return true;
    }
  }
  return false;
}

static void job_tell(struct resolve_job *job) {
  struct resolve_query *query = job->query;
  if (query != NULL) {
    query->job = NULL;
    query->fn(query, &job->answer);
  }
  free(job);
}

static void on_timer(struct loop_timer *timer) {
  job_tell(CONTAINER_OF(timer, struct resolve_job, timer));
}

/* The job whose answer serves `job` as well, or NULL. */
static struct resolve_job *pending_find(struct resolver *resolver,
                                        const struct resolve_job *job) {
  struct resolve_job *other = resolver->pending;
  while (other != NULL && strcmp(other->host, job->host) != 0)
    other = other->pending;
  return other;
}

static void pending_remove(struct resolver *resolver, struct resolve_job *job) {
  struct resolve_job **place = &resolver->pending;
  while (*place != job)
    place = &(*place)->pending;
  *place = job->pending;
}

static void tell_alike(struct resolve_job *job,
                       const struct resolve_answer *answer) {
  while (job != NULL) {
    struct resolve_job *next = job->next;
    job->answer = *answer;
    set_port(&job->answer, job->port);
    job_tell(job);
    job = next;
  }
}

static void on_done(void *arg) {
  struct resolver *resolver = arg;
  pthread_mutex_lock(&resolver->lock);
  struct resolve_job *job = resolver->done;
  if (job != NULL) {
    resolver->done = job->next;
    if (resolver->done == NULL)
      resolver->done_tail = &resolver->done;
    resolver->jobs--;
  }
  pthread_mutex_unlock(&resolver->lock);
  if (job == NULL)
    return;
  pending_remove(resolver, job);
  if (job->answer.error == 0)
    cache_put(resolver, job);
  struct resolve_answer answer = job->answer;
  struct resolve_job *alike = job->alike;
  job_tell(job);
  tell_alike(alike, &answer);
}

/* ---- helper thread ---- */

static void *resolver_main(void *arg) {
  struct resolver *resolver = arg;
  pthread_mutex_lock(&resolver->lock);
  for (;;) {
    while (!resolver->quit && resolver->queue == NULL)
      pthread_cond_wait(&resolver->wake, &resolver->lock);
    if (resolver->quit)
      break;
    struct resolve_job *job = resolver->queue;
    resolver->queue = job->next;
    if (resolver->queue == NULL)
      resolver->queue_tail = &resolver->queue;
    pthread_mutex_unlock(&resolver->lock);
    ask_system(job->host, job->port, AI_ADDRCONFIG, &job->answer);
    pthread_mutex_lock(&resolver->lock);
    job->next = NULL;
    *resolver->done_tail = job;
    resolver->done_tail = &job->next;
    /* Under the lock: the loop is there as long as quit is not set. */
    if (!resolver->quit)
      dstream_loop_post(resolver->loop, on_done, resolver);
  }
  pthread_mutex_unlock(&resolver->lock);
  resolver_destroy(resolver);
  return NULL;
}

static struct resolver *resolver_get(dstream_loop *loop) {
  struct resolver **place = loop_resolver(loop);
  if (*place != NULL)
    return *place;
  struct resolver *resolver = calloc(1, sizeof *resolver);
  if (resolver == NULL)
    return NULL;
  resolver->loop = loop;
  resolver->queue_tail = &resolver->queue;
  resolver->done_tail = &resolver->done;
  pthread_mutex_init(&resolver->lock, NULL);
  pthread_cond_init(&resolver->wake, NULL);
  pthread_t thread;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attr, 512 * 1024);
  int failed = pthread_create(&thread, &attr, resolver_main, resolver);
  pthread_attr_destroy(&attr);
  if (failed) {
    resolver_destroy(resolver);
    return NULL;
  }
  *place = resolver;
  return resolver;
}

void resolver_free(struct resolver *resolver) {
  if (resolver == NULL)
    return;
  pthread_mutex_lock(&resolver->lock);
  resolver->quit = true;
  pthread_cond_signal(&resolver->wake);
  pthread_mutex_unlock(&resolver->lock);
}

/* Many who ask for one host at once (a service that opens many streams, say)
 * are one job. */
static int job_enqueue(struct resolver *resolver, struct resolve_job *job) {
  int status = DSTREAM_OK;
  struct resolve_job *other = pending_find(resolver, job);
  if (other != NULL) {
    job->next = other->alike;
    other->alike = job;
    return DSTREAM_OK;
  }
  pthread_mutex_lock(&resolver->lock);
  if (resolver->jobs >= JOBS_MAX) {
    status = DSTREAM_ELIMIT;
  } else {
    resolver->jobs++;
    *resolver->queue_tail = job;
    resolver->queue_tail = &job->next;
    pthread_cond_signal(&resolver->wake);
  }
  pthread_mutex_unlock(&resolver->lock);
  if (status == DSTREAM_OK) {
    job->pending = resolver->pending;
    resolver->pending = job;
  }
  return status;
}

int resolve_start(dstream_loop *loop, struct resolve_query *query,
                  const char *host, uint16_t port,
                  void (*fn)(struct resolve_query *query,
                             const struct resolve_answer *answer)) {
  if (strlen(host) >= HOST_MAX)
    return DSTREAM_EINVAL;
  struct resolve_job *job = calloc(1, sizeof *job);
  if (job == NULL)
    return DSTREAM_ENOMEM;
  job->loop = loop;
  job->query = query;
  job->port = port;
  snprintf(job->host, sizeof job->host, "%s", host);

  struct resolver *resolver = *loop_resolver(loop);
  ask_system(host, port, AI_NUMERICHOST, &job->answer);
  if (job->answer.error == 0 ||
      (resolver != NULL && cache_get(resolver, job))) {
    loop_timer_set(loop, &job->timer, 0, on_timer);
  } else {
    resolver = resolver_get(loop);
    int status =
        resolver == NULL ? DSTREAM_ESYSTEM : job_enqueue(resolver, job);
    if (status != DSTREAM_OK) {
      free(job);
      return status;
    }
    job->resolver = resolver;
  }
  query->job = job;
  query->fn = fn;
  return DSTREAM_OK;
}

void resolve_cancel(struct resolve_query *query) {
  struct resolve_job *job = query->job;
  if (job == NULL)
    return;
  query->job = NULL;
  job->query = NULL;
  if (job->resolver == NULL) {
    loop_timer_cancel(&job->timer);
    free(job);
  }
}
