#include "net/mqtt_worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include <MQTTAsync.h>

#include <dstream/status.h>

static struct {
  pthread_mutex_t lock; /* guards the rest */
  pthread_cond_t wake;
  struct mqtt_job *jobs;
  struct mqtt_job **tail;
  unsigned users;
  bool running;
} worker = {.lock = PTHREAD_MUTEX_INITIALIZER,
            .wake = PTHREAD_COND_INITIALIZER,
            .tail = &worker.jobs};

/* The time of day may be stepped; macOS can't wait for another. */
#ifdef __APPLE__
#define WAKE_CLOCK CLOCK_REALTIME
static void make_wake(void) {
}
#else
#define WAKE_CLOCK CLOCK_MONOTONIC
static void make_wake(void) {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, WAKE_CLOCK);
  pthread_cond_init(&worker.wake, &attributes);
  pthread_condattr_destroy(&attributes);
}
#endif
static pthread_once_t wake_once = PTHREAD_ONCE_INIT;

/* Returns when there is a job, or no reason to go on: NULL. */
static struct mqtt_job *next_job(void) {
  while (worker.jobs == NULL) {
    if (worker.users > 0) {
      pthread_cond_wait(&worker.wake, &worker.lock);
      continue;
    }
    struct timespec until;
    clock_gettime(WAKE_CLOCK, &until);
    until.tv_sec += MQTT_WORKER_LINGER_S;
    if (pthread_cond_timedwait(&worker.wake, &worker.lock, &until) == ETIMEDOUT)
      break;
  }
  struct mqtt_job *job = worker.jobs;
  if (job != NULL) {
    worker.jobs = job->next;
    if (worker.jobs == NULL)
      worker.tail = &worker.jobs;
  }
  return job;
}

/* A handle that is never connected: Paho ends its threads and all its state
 * with the last handle, which takes it a second, and would do so at each
 * reconnect of a process's only device. */
static void *run(void *unused) {
  (void)unused;
  MQTTAsync keeper = NULL;
  int made = MQTTAsync_create(&keeper, "tcp://localhost:1", "keeper",
                              MQTTCLIENT_PERSISTENCE_NONE, NULL);
  pthread_mutex_lock(&worker.lock);
  for (;;) {
    struct mqtt_job *job = next_job();
    if (job == NULL && made == MQTTASYNC_SUCCESS) {
      pthread_mutex_unlock(&worker.lock);
      MQTTAsync_destroy(&keeper);
      made = MQTTASYNC_FAILURE;
      pthread_mutex_lock(&worker.lock);
      continue;
    }
    if (job == NULL)
      break;
    pthread_mutex_unlock(&worker.lock);
    job->fn(job);
    pthread_mutex_lock(&worker.lock);
  }
  worker.running = false;
  pthread_mutex_unlock(&worker.lock);
  return NULL;
}

/* Signals are for the program's own threads; Paho's inherit this mask. */
static int start_thread(void) {
  sigset_t all;
  sigset_t old;
  pthread_t thread;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int failed = pthread_create(&thread, NULL, run, NULL);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (failed)
    return DSTREAM_ESYSTEM;
  pthread_detach(thread);
  return DSTREAM_OK;
}

int mqtt_worker_enter(void) {
  int status = DSTREAM_OK;
  pthread_once(&wake_once, make_wake);
  pthread_mutex_lock(&worker.lock);
  if (!worker.running)
    status = start_thread();
  if (status == DSTREAM_OK) {
    worker.running = true;
    worker.users++;
  }
  pthread_mutex_unlock(&worker.lock);
  return status;
}

void mqtt_worker_add(struct mqtt_job *job) {
  pthread_mutex_lock(&worker.lock);
  assert(worker.running);
  job->next = NULL;
  *worker.tail = job;
  worker.tail = &job->next;
  pthread_cond_signal(&worker.wake);
  pthread_mutex_unlock(&worker.lock);
}

void mqtt_worker_leave(void) {
  pthread_mutex_lock(&worker.lock);
  assert(worker.users > 0);
  worker.users--;
  pthread_cond_signal(&worker.wake);
  pthread_mutex_unlock(&worker.lock);
}
