#include "hub/rest_registry.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/conn_string.h"
#include "core/container.h"
#include "core/crypto.h"
#include "hub/hub_error.h"
#include "hub/log_limit.h"
#include "hub/registry.h"
#include "hub/rest_path.h"
#include "hub/rest_reply.h"

#define JOBS_MAX    64
#define CALLER_SIZE 192
#define STACK_SIZE  (512 * 1024)
#define JSON_TYPE   "application/json; charset=utf-8"

/* A request on its way through the thread. */
struct job {
  struct job *next;
  struct http_exchange *exchange; /* loop's thread only; NULL: it went away */
  struct registry_request request;
  struct registry_answer answer;
  char *body;
  char caller[CALLER_SIZE];
};

struct rest_registry {
  dstream_loop *loop;
  struct rest_registry_options options;
  struct log_limit refused;
  unsigned jobs; /* loop's thread only */
  bool started;
  pthread_t thread;
  struct loop_watch watch; /* an eventfd: there is something in `done` */
  int done_fd;             /* the same, for the thread */

  pthread_mutex_t lock; /* guards the rest */
  pthread_cond_t wake;
  bool quit;
  struct job *queue;
  struct job **queue_tail;
  struct job *done;
  struct job **done_tail;
};

static void job_free(struct job *job) {
  if (job == NULL)
    return;
  if (job->body != NULL)
    crypto_wipe(job->body, job->request.body.len);
  free(job->body);
  registry_answer_clear(&job->answer);
  free(job);
}

static void jobs_free(struct job *job) {
  while (job != NULL) {
    struct job *next = job->next;
    job_free(job);
    job = next;
  }
}

/* ---- answers ---- */

/* headers: more of them, each with its CRLF. */
static void reply_error(struct rest_registry *registry,
                        struct http_exchange *exchange,
                        enum hub_error_code code, const char *message,
                        const char *headers) {
  char id[HUB_ERROR_TRACKING_SIZE];
  rest_tracking_make(id);
  log_limit_write(&registry->refused, DSTREAM_LOG_INFO,
                  "rest: request %.8s: answered %d: %s", id, (int)code,
                  message);
  rest_reply_registry_error(exchange, code, message, id, headers);
}

/* What may go better in a moment. */
static void reply_later(struct rest_registry *registry,
                        struct http_exchange *exchange,
                        enum hub_error_code code, const char *message) {
  reply_error(registry, exchange, code, message, "Retry-After: 1\r\n");
}

static void reply_answer(struct rest_registry *registry, struct job *job) {
  struct registry_answer *answer = &job->answer;
  char id[HUB_ERROR_TRACKING_SIZE];
  char lines[512];
  if (answer->body == NULL && answer->error != HUB_ERROR_NONE) {
    if (answer->error == HUB_ERROR_UNAVAILABLE)
      reply_later(registry, job->exchange, answer->error, answer->message);
    else
      reply_error(registry, job->exchange, answer->error, answer->message, "");
    return;
  }
  if (registry->options.connected != NULL)
    registry_connections(answer, registry->options.connected,
                         registry->options.user);
  rest_tracking_make(id);
  bool etag = answer->etag[0] != '\0', more = answer->next[0] != '\0';
  snprintf(lines, sizeof lines,
           "x-ms-request-id: %s\r\nCache-Control: no-store\r\n"
           "%s%s%s%s%s%s",
           id, etag ? "ETag: \"" : "", answer->etag, etag ? "\"\r\n" : "",
           more ? "x-ms-continuation: " : "", answer->next, more ? "\r\n" : "");
  struct http_answer reply = {.status = 200, .headers = lines};
  if (answer->error != HUB_ERROR_NONE)
    reply.status = hub_error_http_status(answer->error);
  else if (answer->body == NULL)
    reply.status = 204;
  if (answer->body != NULL) {
    reply.type = JSON_TYPE;
    reply.body = answer->body;
    reply.body_len = answer->body_len;
  }
  http_exchange_reply(job->exchange, &reply);
}

/* ---- the thread ---- */

static void run_job(struct rest_registry *registry,
                    struct identity_store **store, struct job *job) {
  struct dstream_end end = {0};
  if (*store == NULL && identity_open(store, registry->options.database_file,
                                      false, &end) != DSTREAM_OK) {
    job->answer.error = HUB_ERROR_UNAVAILABLE;
    snprintf(job->answer.message, sizeof job->answer.message,
             "The identities can't be opened just now.");
    return;
  }
  registry_run(*store, &job->request, (int64_t)time(NULL), &job->answer);
}

static void *run_jobs(void *arg) {
  struct rest_registry *registry = arg;
  struct identity_store *store = NULL;
  pthread_mutex_lock(&registry->lock);
  for (;;) {
    while (!registry->quit && registry->queue == NULL)
      pthread_cond_wait(&registry->wake, &registry->lock);
    if (registry->quit)
      break;
    struct job *job = registry->queue;
    registry->queue = job->next;
    if (registry->queue == NULL)
      registry->queue_tail = &registry->queue;
    pthread_mutex_unlock(&registry->lock);
    run_job(registry, &store, job);
    pthread_mutex_lock(&registry->lock);
    job->next = NULL;
    *registry->done_tail = job;
    registry->done_tail = &job->next;
    uint64_t one = 1;
    (void)!write(registry->done_fd, &one, sizeof one);
  }
  pthread_mutex_unlock(&registry->lock);
  identity_close(store);
  return NULL;
}

/* ---- done ---- */

static void log_change(struct rest_registry *registry, const struct job *job) {
  const struct registry_request *request = &job->request;
  const char *what = NULL;
  if (request->operation == REGISTRY_DELETE)
    what = "removed";
  else if (request->operation == REGISTRY_PUT)
    what = request->if_match[0] == '\0' ? "added" : "changed";
  if (what != NULL && job->answer.error == HUB_ERROR_NONE)
    loop_log(registry->loop, DSTREAM_LOG_INFO, "rest: device %s was %s by %s",
             request->device, what, job->caller);
  else if (request->operation == REGISTRY_BULK && job->answer.body != NULL)
    loop_log(registry->loop, DSTREAM_LOG_INFO,
             "rest: %u devices were added, changed or removed by %s",
             job->answer.changed, job->caller);
}

static void on_done(struct loop_watch *watch, unsigned events) {
  struct rest_registry *registry =
      CONTAINER_OF(watch, struct rest_registry, watch);
  uint64_t count = 0;
  (void)events;
  (void)!read(watch->fd, &count, sizeof count);
  pthread_mutex_lock(&registry->lock);
  struct job *job = registry->done;
  registry->done = NULL;
  registry->done_tail = &registry->done;
  pthread_mutex_unlock(&registry->lock);
  while (job != NULL) {
    struct job *next = job->next;
    registry->jobs--;
    log_change(registry, job);
    if (job->exchange != NULL)
      reply_answer(registry, job);
    job_free(job);
    job = next;
  }
}

static void on_cancel(void *user) {
  struct job *job = user;
  job->exchange = NULL;
}

/* ---- requests ---- */

static bool start_thread(struct rest_registry *registry) {
  if (registry->started)
    return true;
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0 || loop_watch_start(registry->loop, &registry->watch, fd,
                                 on_done) != DSTREAM_OK)
    return false;
  loop_watch_want(&registry->watch, LOOP_READ);
  registry->done_fd = fd;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK_SIZE);
  registry->started =
      pthread_create(&registry->thread, &attr, run_jobs, registry) == 0;
  pthread_attr_destroy(&attr);
  if (!registry->started)
    loop_watch_close(&registry->watch);
  return registry->started;
}

static void enqueue(struct rest_registry *registry, struct job *job) {
  registry->jobs++;
  http_exchange_on_cancel(job->exchange, on_cancel, job);
  pthread_mutex_lock(&registry->lock);
  *registry->queue_tail = job;
  registry->queue_tail = &job->next;
  pthread_cond_signal(&registry->wake);
  pthread_mutex_unlock(&registry->lock);
}

/* Copies what the request points to. */
static struct job *job_new(struct rest_registry *registry,
                           struct http_exchange *exchange,
                           const struct registry_request *request) {
  if (registry->jobs == JOBS_MAX) {
    reply_later(registry, exchange, HUB_ERROR_THROTTLED,
                "Too many requests wait for the identities.");
    return NULL;
  }
  struct job *job = start_thread(registry) ? calloc(1, sizeof *job) : NULL;
  char *body = job != NULL ? malloc(request->body.len + 1) : NULL;
  if (body == NULL) {
    free(job);
    reply_later(registry, exchange, HUB_ERROR_UNAVAILABLE,
                "The hub is out of memory.");
    return NULL;
  }
  memcpy(body, request->body.p, request->body.len);
  job->exchange = exchange;
  job->request = *request;
  job->request.body.p = body;
  job->body = body;
  return job;
}

/* False: there is no such method here. */
static bool choose(enum rest_route route, struct slice method,
                   enum registry_operation *out) {
  static const struct {
    enum rest_route route;
    const char *method;
    enum registry_operation operation;
  } choices[] = {{REST_DEVICE, "GET", REGISTRY_GET},
                 {REST_DEVICE, "PUT", REGISTRY_PUT},
                 {REST_DEVICE, "DELETE", REGISTRY_DELETE},
                 {REST_DEVICES, "GET", REGISTRY_LIST},
                 {REST_DEVICES, "POST", REGISTRY_BULK},
                 {REST_STATISTICS, "GET", REGISTRY_COUNT}};
  if (route == REST_BAD_DEVICE)
    route = REST_DEVICE;
  for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
    if (choices[i].route == route && slice_eq(method, choices[i].method)) {
      *out = choices[i].operation;
      return true;
    }
  }
  return false;
}

static const char *allowed(enum rest_route route) {
  switch (route) {
  case REST_DEVICES:
    return "Allow: GET, POST\r\n";
  case REST_STATISTICS:
    return "Allow: GET\r\n";
  default:
    return "Allow: GET, PUT, DELETE\r\n";
  }
}

/* What headers and query say.  NULL, or what is wrong with them. */
static const char *read_request(struct registry_request *request,
                                const struct http_head *head,
                                const struct rest_path *path) {
  if (path->route == REST_BAD_DEVICE)
    return "The device's id is not a valid one.";
  memcpy(request->device, path->device, sizeof request->device);
  size_t conditions = http_head_count(head, "If-Match");
  if (conditions > 1 ||
      (conditions == 1 &&
       !registry_if_match(http_head_get(head, "If-Match"), request->if_match)))
    return "If-Match is to be one etag, or *.";
  int top = rest_query_number(head->target, "top", REGISTRY_LIST_MAX,
                              REGISTRY_LIST_MAX);
  if (top < 0)
    return "top is to be a number from 1 to 1000.";
  request->limit = (size_t)top;
  struct slice after = http_head_get(head, "x-ms-continuation");
  if (after.p != NULL && after.len > 0) {
    if (!conn_string_id_valid(after))
      return "x-ms-continuation is not one that was sent.";
    memcpy(request->after, after.p, after.len);
  }
  return NULL;
}

static bool find_path(struct rest_path *path, const struct http_head *head) {
  rest_path_parse(path, head->target);
  return path->route == REST_DEVICES || path->route == REST_DEVICE ||
         path->route == REST_BAD_DEVICE || path->route == REST_STATISTICS;
}

unsigned rest_registry_rights(const struct http_head *head) {
  struct rest_path path;
  if (!find_path(&path, head))
    return 0;
  return slice_eq(head->method, "GET") ? IDENTITY_REGISTRY_READ
                                       : IDENTITY_REGISTRY_WRITE;
}

bool rest_registry_keeps(const struct http_head *head) {
  struct rest_path path;
  enum registry_operation operation;
  return find_path(&path, head) &&
         choose(path.route, head->method, &operation) &&
         (operation == REGISTRY_PUT || operation == REGISTRY_BULK);
}

/* Who has the right to read may be without the one to write. */
static bool may_write(const struct rest_registry *registry,
                      const struct http_head *head) {
  struct identity_grant grant;
  return identity_check_service_sas(
             registry->options.store, registry->options.names,
             http_head_get(head, "Authorization"), IDENTITY_REGISTRY_WRITE,
             (uint64_t)time(NULL), &grant, NULL) == DSTREAM_OK;
}

void rest_registry_handle(void *user, struct http_exchange *exchange,
                          const struct http_head *head, const char *caller) {
  struct rest_registry *registry = user;
  struct registry_request request = {.body = http_exchange_body(exchange)};
  struct rest_path path;
  find_path(&path, head);
  if (!choose(path.route, head->method, &request.operation)) {
    reply_error(registry, exchange, HUB_ERROR_METHOD,
                "This can't be done with it.", allowed(path.route));
    return;
  }
  const char *wrong = read_request(&request, head, &path);
  if (wrong != NULL) {
    reply_error(registry, exchange, HUB_ERROR_ARGUMENT, wrong, "");
    return;
  }
  request.show_keys = may_write(registry, head);
  struct job *job = job_new(registry, exchange, &request);
  if (job == NULL)
    return;
  snprintf(job->caller, sizeof job->caller, "%s", caller);
  enqueue(registry, job);
}

/* ---- life ---- */

int rest_registry_new(struct rest_registry **out, dstream_loop *loop,
                      const struct rest_registry_options *options) {
  struct rest_registry *registry = calloc(1, sizeof *registry);
  if (registry == NULL)
    return DSTREAM_ENOMEM;
  registry->loop = loop;
  registry->options = *options;
  registry->queue_tail = &registry->queue;
  registry->done_tail = &registry->done;
  pthread_mutex_init(&registry->lock, NULL);
  pthread_cond_init(&registry->wake, NULL);
  log_limit_init(&registry->refused, loop, "rest: refused registry requests",
                 NULL);
  *out = registry;
  return DSTREAM_OK;
}

void rest_registry_free(struct rest_registry *registry) {
  if (registry == NULL)
    return;
  if (registry->started) {
    pthread_mutex_lock(&registry->lock);
    registry->quit = true;
    pthread_cond_signal(&registry->wake);
    pthread_mutex_unlock(&registry->lock);
    pthread_join(registry->thread, NULL);
    loop_watch_close(&registry->watch);
  }
  jobs_free(registry->queue);
  jobs_free(registry->done);
  log_limit_end(&registry->refused);
  pthread_cond_destroy(&registry->wake);
  pthread_mutex_destroy(&registry->lock);
  free(registry);
}
