#include "integration/support_hub.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#define LOG_MAX    (16u * 1024 * 1024)
#define COMMAND_MS 20000

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

const char *hub_program(void) {
  const char *program = getenv("DSTREAM_HUB");
  return program != NULL ? program : "dstream-hub";
}

/* ---- processes ---- */

/* The child dies with this thread, so that nothing is left when a test does. */
static pid_t spawn(const char *const *arguments, int output, int errors) {
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid != 0)
    return pid;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent)
    _exit(127);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  dup2(output, 1);
  dup2(errors, 2);
  /* execv takes char *const *, and changes nothing. */
  union {
    const char *const *in;
    char *const *out;
  } argv = {arguments};
  execvp(arguments[0], argv.out);
  _exit(127);
}

static int exit_status(pid_t pid) {
  int status;
  pid_t got;
  do
    got = waitpid(pid, &status, 0);
  while (got < 0 && errno == EINTR);
  return got == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool open_pipe(int ends[2]) {
  return pipe2(ends, O_CLOEXEC) == 0;
}

/* Takes what there is; false at the end of the file. */
static bool take(int fd, char *out, size_t *len) {
  char more[4096];
  ssize_t n = read(fd, more, sizeof more);
  if (n < 0 && errno == EINTR)
    return true;
  if (n <= 0)
    return false;
  size_t room = HUB_OUTPUT_MAX - 1 - *len;
  size_t kept = (size_t)n < room ? (size_t)n : room;
  memcpy(out + *len, more, kept);
  *len += kept;
  out[*len] = '\0';
  return true;
}

static bool collect(struct hub_output *output, int out, int err) {
  struct pollfd fds[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  char *texts[2] = {output->out, output->err};
  size_t lens[2] = {0, 0};
  int64_t deadline = now_ms() + COMMAND_MS;
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    int64_t left = deadline - now_ms();
    if (left <= 0)
      return false;
    if (poll(fds, 2, (int)left) < 0 && errno != EINTR)
      return false;
    for (int i = 0; i < 2; i++) {
      if (fds[i].fd >= 0 && fds[i].revents != 0 &&
          !take(fds[i].fd, texts[i], &lens[i]))
        fds[i].fd = -1;
    }
  }
  return true;
}

int hub_command(struct hub_output *output, const char *const *arguments) {
  memset(output, 0, sizeof *output);
  int out[2];
  int err[2];
  if (!open_pipe(out))
    return -1;
  if (!open_pipe(err)) {
    close(out[0]);
    close(out[1]);
    return -1;
  }
  pid_t pid = spawn(arguments, out[1], err[1]);
  close(out[1]);
  close(err[1]);
  int status = -1;
  if (pid > 0) {
    if (!collect(output, out[0], err[0])) {
      fprintf(stderr, "%s did not end in time\n", arguments[0]);
      kill(pid, SIGKILL);
    }
    status = exit_status(pid);
  }
  close(out[0]);
  close(err[0]);
  return status;
}

/* ---- log ---- */

static void log_append(struct hub_fixture *hub, const char *text, size_t len) {
  pthread_mutex_lock(&hub->log_lock);
  if (hub->log_len + len < LOG_MAX) {
    char *log = realloc(hub->log, hub->log_len + len + 1);
    if (log != NULL) {
      memcpy(log + hub->log_len, text, len);
      hub->log = log;
      hub->log_len += len;
      log[hub->log_len] = '\0';
    }
  }
  pthread_cond_broadcast(&hub->log_grown);
  pthread_mutex_unlock(&hub->log_lock);
}

static void *read_log(void *arg) {
  struct hub_fixture *hub = arg;
  char text[4096];
  ssize_t n;
  while ((n = read(hub->log_fd, text, sizeof text)) > 0 ||
         (n < 0 && errno == EINTR)) {
    if (n > 0)
      log_append(hub, text, (size_t)n);
  }
  pthread_mutex_lock(&hub->log_lock);
  hub->log_over = true;
  pthread_cond_broadcast(&hub->log_grown);
  pthread_mutex_unlock(&hub->log_lock);
  return NULL;
}

void hub_fixture_mark_log(struct hub_fixture *hub) {
  pthread_mutex_lock(&hub->log_lock);
  hub->log_mark = hub->log_len;
  pthread_mutex_unlock(&hub->log_lock);
}

static bool logged(const struct hub_fixture *hub, const char *text) {
  return hub->log != NULL && strstr(hub->log + hub->log_mark, text) != NULL;
}

bool hub_fixture_logged(struct hub_fixture *hub, const char *text) {
  pthread_mutex_lock(&hub->log_lock);
  bool found = logged(hub, text);
  pthread_mutex_unlock(&hub->log_lock);
  return found;
}

int hub_fixture_wait_log(struct hub_fixture *hub, const char *text,
                         int timeout_ms) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  int64_t ns = until.tv_nsec + (int64_t)(timeout_ms % 1000) * 1000000;
  until.tv_sec += timeout_ms / 1000 + (time_t)(ns / 1000000000);
  until.tv_nsec = (long)(ns % 1000000000);
  pthread_mutex_lock(&hub->log_lock);
  int rc = 0;
  bool found;
  while (!(found = logged(hub, text)) && !hub->log_over && rc == 0)
    rc = pthread_cond_timedwait(&hub->log_grown, &hub->log_lock, &until);
  pthread_mutex_unlock(&hub->log_lock);
  if (found)
    return 0;
  fprintf(stderr, "the hub did not log \"%s\" within %d ms\n", text,
          timeout_ms);
  hub_fixture_show_log(hub);
  return -1;
}

void hub_fixture_show_log(struct hub_fixture *hub) {
  pthread_mutex_lock(&hub->log_lock);
  size_t from = hub->log_len > 8192 ? hub->log_len - 8192 : 0;
  fprintf(stderr, "---- the hub's log ----\n%s----\n",
          hub->log == NULL ? "" : hub->log + from);
  pthread_mutex_unlock(&hub->log_lock);
}

/* ---- the folder ---- */

static int failure(const char *what, const char *detail) {
  fprintf(stderr, "hub fixture: %s: %s\n", what, detail);
  return -1;
}

static int run_ok(const char *const *arguments, struct hub_output *output) {
  int status = hub_command(output, arguments);
  if (status == 0)
    return 0;
  fprintf(stderr, "hub fixture: %s %s: exit status %d\n%s", arguments[0],
          arguments[1], status, output->err);
  return -1;
}

static void merge(cJSON *into, cJSON *from) {
  cJSON *item;
  while ((item = cJSON_DetachItemFromArray(from, 0)) != NULL) {
    cJSON *old = cJSON_GetObjectItemCaseSensitive(into, item->string);
    if (cJSON_IsObject(item) && cJSON_IsObject(old)) {
      merge(old, item);
      cJSON_Delete(item);
    } else if (old != NULL) {
      cJSON_ReplaceItemViaPointer(into, old, item);
    } else {
      cJSON_AddItemToArray(into, item); /* keeps its name */
    }
  }
}

static int override_config(const struct hub_fixture *hub,
                           const char *overrides) {
  if (overrides == NULL)
    return 0;
  char path[HUB_FIXTURE_PATH + 16];
  snprintf(path, sizeof path, "%s/hub.json", hub->hub_dir);
  char text[65536] = "";
  FILE *file = fopen(path, "r+e");
  if (file == NULL)
    return failure(path, strerror(errno));
  size_t len = fread(text, 1, sizeof text - 1, file);
  text[len] = '\0';
  cJSON *root = cJSON_Parse(text);
  cJSON *more = cJSON_Parse(overrides);
  char *merged = NULL;
  if (root != NULL && more != NULL) {
    merge(root, more);
    merged = cJSON_Print(root);
  }
  bool ok = merged != NULL && fseek(file, 0, SEEK_SET) == 0 &&
            ftruncate(fileno(file), 0) == 0 && fputs(merged, file) >= 0;
  ok = fclose(file) == 0 && ok;
  free(merged);
  cJSON_Delete(root);
  cJSON_Delete(more);
  return ok ? 0 : failure("overrides", overrides);
}

static int make_folder(struct hub_fixture *hub,
                       const struct hub_fixture_options *options) {
  const char *base = getenv("TMPDIR");
  snprintf(hub->directory, sizeof hub->directory - 64, "%s/dstream-hub-XXXXXX",
           base != NULL && strlen(base) < 128 ? base : "/tmp");
  if (mkdtemp(hub->directory) == NULL) {
    hub->directory[0] = '\0';
    return failure("mkdtemp", strerror(errno));
  }
  snprintf(hub->hub_dir, sizeof hub->hub_dir, "%.240s/hub", hub->directory);
  snprintf(hub->ca_file, sizeof hub->ca_file, "%.240s/ca.pem", hub->hub_dir);
  char https[16];
  char mqtt[16];
  snprintf(https, sizeof https, "%u", options->https_port);
  snprintf(mqtt, sizeof mqtt, "%u", options->mqtt_port);
  const char *host = options->host != NULL ? options->host : "localhost";
  const char *const arguments[] = {
      hub_program(),  "init", hub->hub_dir,  "--host", host,
      "--https-port", https,  "--mqtt-port", mqtt,     NULL};
  struct hub_output *output = malloc(sizeof *output);
  int status = output == NULL ? -1 : run_ok(arguments, output);
  free(output);
  return status == 0 ? override_config(hub, options->overrides) : status;
}

static int remove_one(const char *path, const struct stat *info, int type,
                      struct FTW *ftw) {
  (void)info;
  (void)type;
  (void)ftw;
  return remove(path);
}

/* ---- running ---- */

/* Reads the one line of stdout: "ready https=ADDR:PORT mqtt=ADDR:PORT". */
static int read_ready(struct hub_fixture *hub) {
  char line[256] = "";
  size_t len = 0;
  int64_t deadline = now_ms() + HUB_READY_MS;
  while (strchr(line, '\n') == NULL) {
    struct pollfd fd = {hub->output, POLLIN, 0};
    int64_t left = deadline - now_ms();
    if (left <= 0 || poll(&fd, 1, (int)left) == 0)
      return failure("the hub is not ready in time", line);
    ssize_t n = read(hub->output, line + len, sizeof line - 1 - len);
    if (n <= 0)
      return failure("the hub ended instead of being ready", line);
    len += (size_t)n;
    line[len] = '\0';
  }
  const char *https = strstr(line, " https=");
  const char *mqtt = strstr(line, " mqtt=");
  if (strncmp(line, "ready ", 6) != 0 || https == NULL || mqtt == NULL)
    return failure("not the line that says ready", line);
  char *end = strchr(line + (https + 1 - line), ' ');
  *end = '\0';
  hub->https_port = (uint16_t)strtoul(strrchr(https, ':') + 1, NULL, 10);
  hub->mqtt_port = (uint16_t)strtoul(strrchr(end + 1, ':') + 1, NULL, 10);
  return 0;
}

static void close_output(struct hub_fixture *hub) {
  if (hub->log_running)
    pthread_join(hub->log_thread, NULL);
  hub->log_running = false;
  if (hub->output >= 0)
    close(hub->output);
  if (hub->log_fd >= 0)
    close(hub->log_fd);
  hub->output = hub->log_fd = -1;
}

int hub_fixture_run(struct hub_fixture *hub) {
  int out[2];
  int err[2];
  if (!open_pipe(out) || !open_pipe(err))
    return failure("pipe", strerror(errno));
  const char *const arguments[] = {hub_program(), "run", hub->hub_dir, NULL};
  hub->pid = spawn(arguments, out[1], err[1]);
  close(out[1]);
  close(err[1]);
  hub->output = out[0];
  hub->log_fd = err[0];
  hub->log_over = false;
  if (hub->pid < 0) {
    hub->pid = 0;
    return failure("fork", strerror(errno));
  }
  hub->log_running = pthread_create(&hub->log_thread, NULL, read_log, hub) == 0;
  if (read_ready(hub) == 0)
    return hub_fixture_policy_string(hub, "service", hub->service_string);
  hub_fixture_kill(hub);
  hub_fixture_show_log(hub);
  return -1;
}

int hub_fixture_start(struct hub_fixture *hub,
                      const struct hub_fixture_options *options) {
  static const struct hub_fixture_options defaults;
  memset(hub, 0, sizeof *hub);
  hub->output = hub->log_fd = -1;
  pthread_mutex_init(&hub->log_lock, NULL);
  pthread_cond_init(&hub->log_grown, NULL);
  int status = make_folder(hub, options != NULL ? options : &defaults);
  if (status == 0)
    status = hub_fixture_run(hub);
  if (status != 0)
    hub_fixture_stop(hub);
  return status;
}

/* Processes whose working directory is the hub's folder, other than the hub:
 * its broker. */
static pid_t find_process(const struct hub_fixture *hub) {
  char folder[PATH_MAX];
  DIR *proc = opendir("/proc");
  if (proc == NULL || realpath(hub->hub_dir, folder) == NULL) {
    if (proc != NULL)
      closedir(proc);
    return -1;
  }
  pid_t found = -1;
  struct dirent *entry;
  while (found < 0 && (entry = readdir(proc)) != NULL) {
    pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
    char link[64];
    char cwd[PATH_MAX];
    snprintf(link, sizeof link, "/proc/%d/cwd", (int)pid);
    ssize_t n = pid <= 0 ? -1 : readlink(link, cwd, sizeof cwd - 1);
    if (n <= 0 || pid == hub->pid)
      continue;
    cwd[n] = '\0';
    if (strcmp(cwd, folder) == 0)
      found = pid;
  }
  closedir(proc);
  return found;
}

pid_t hub_fixture_broker(const struct hub_fixture *hub) {
  return find_process(hub);
}

/* The hub's stdout hangs up when it is gone. */
static bool wait_gone(struct hub_fixture *hub, int timeout_ms) {
  int64_t deadline = now_ms() + timeout_ms;
  for (;;) {
    char more[256];
    struct pollfd fd = {hub->output, POLLIN, 0};
    int64_t left = deadline - now_ms();
    if (left <= 0)
      return false;
    int n = poll(&fd, 1, (int)left);
    if (n > 0 && read(hub->output, more, sizeof more) <= 0)
      return true;
  }
}

/* The broker is told by the kernel that its hub is gone: an instant later. */
static int no_process_left(const struct hub_fixture *hub) {
  int64_t deadline = now_ms() + 2000;
  while (find_process(hub) > 0) {
    if (now_ms() > deadline) {
      kill(find_process(hub), SIGKILL);
      return failure("a process was left behind in", hub->hub_dir);
    }
    poll(NULL, 0, 2);
  }
  return 0;
}

int hub_fixture_end(struct hub_fixture *hub) {
  if (hub->pid <= 0)
    return 0;
  int result = 0;
  kill(hub->pid, SIGTERM);
  if (!wait_gone(hub, HUB_STOP_MS)) {
    result = failure("the hub did not end in time", "killed");
    kill(hub->pid, SIGKILL);
  }
  int status = exit_status(hub->pid);
  hub->pid = 0;
  close_output(hub);
  if (status != 0) {
    result = failure("the hub's exit status is not 0", "see its log");
    hub_fixture_show_log(hub);
  }
  if (no_process_left(hub) != 0)
    result = -1;
  return result;
}

int hub_fixture_kill(struct hub_fixture *hub) {
  if (hub->pid <= 0)
    return 0;
  kill(hub->pid, SIGKILL);
  exit_status(hub->pid);
  hub->pid = 0;
  close_output(hub);
  return no_process_left(hub);
}

int hub_fixture_stop(struct hub_fixture *hub) {
  if (hub->directory[0] == '\0')
    return 0;
  int result = hub_fixture_end(hub);
  nftw(hub->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
  hub->directory[0] = '\0';
  free(hub->log);
  hub->log = NULL;
  pthread_cond_destroy(&hub->log_grown);
  pthread_mutex_destroy(&hub->log_lock);
  return result;
}

/* ---- identities ---- */

static int one_line(const char *const *arguments, char *out) {
  struct hub_output *output = malloc(sizeof *output);
  int status = output == NULL ? -1 : run_ok(arguments, output);
  if (status == 0) {
    size_t len = strcspn(output->out, "\n");
    if (len == 0 || len >= CONN_STRING_MAX || output->out[len + 1] != '\0') {
      status = failure("not one line", arguments[1]);
    } else {
      memcpy(out, output->out, len);
      out[len] = '\0';
    }
  }
  free(output);
  return status;
}

int hub_fixture_add_device(struct hub_fixture *hub, const char *id, char *out) {
  const char *const arguments[] = {hub_program(), "device", "add",
                                   hub->hub_dir,  id,       NULL};
  return one_line(arguments, out);
}

int hub_fixture_policy_string(struct hub_fixture *hub, const char *policy,
                              char *out) {
  const char *const arguments[] = {hub_program(), "connection-string",
                                   hub->hub_dir,  "--policy",
                                   policy,        NULL};
  return one_line(arguments, out);
}
