#include "hub/broker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/container.h"
#include "core/crypto.h"
#include "core/end.h"
#include "hub/broker_child.h"
#include "hub/broker_config.h"
#include "net/loop.h"

#define PROBE_MS       20
#define PROBE_LIMIT_MS 10000
#define REAP_MS        5
#define REAP_LIMIT_MS  1000
#define RESTART_MIN_MS 250
#define RESTART_MAX_MS 5000
#define LIVED_MS       10000 /* after that a restart is the first again */
#define STOP_GRACE_MS  2000
#define LINE_SIZE      1024
#define CONFIG_SIZE    16384
#define SECRET_BYTES   32

enum broker_state {
  BROKER_STARTING, /* the child runs, its socket is probed.  UP: it accepts;
                      ENDING: the child closed its output, or PROBE_LIMIT_MS
                      passed (it is killed) */
  BROKER_UP,       /* ENDING: the child closed its output */
  BROKER_ENDING,   /* awaits the child's exit status, kills after
                      REAP_LIMIT_MS.  WAITING: reaped */
  BROKER_WAITING   /* awaits the restart timer.  STARTING: it ran out, and the
                      fork succeeded */
};

struct broker {
  dstream_loop *loop;
  struct broker_events events;
  void *user;
  enum broker_state state;
  uint64_t since_ms; /* when this state began */
  uint64_t restart_ms;
  pid_t pid;
  struct loop_watch output;
  struct loop_timer timer;
  int lock; /* the run folder, locked while a hub runs; -1 */

  char directory[PATH_MAX];
  char program[PATH_MAX];
  char device_socket[sizeof((struct sockaddr_un *)0)->sun_path];
  char hub_socket[sizeof((struct sockaddr_un *)0)->sun_path];
  char secret[2 * SECRET_BYTES + 1];

  char line[LINE_SIZE]; /* of the child's output, so far */
  size_t line_len;
  char last_error[DSTREAM_TEXT_MAX / 2]; /* the child's last words */
};

static void start_child(struct broker *broker);

static struct broker *broker_of_timer(struct loop_timer *timer) {
  return CONTAINER_OF(timer, struct broker, timer);
}

static struct broker *broker_of_watch(struct loop_watch *watch) {
  return CONTAINER_OF(watch, struct broker, output);
}

static void set_state(struct broker *broker, enum broker_state state) {
  enum broker_state from = broker->state;
  switch (state) {
  case BROKER_STARTING:
    assert(from == BROKER_WAITING);
    break;
  case BROKER_UP:
    assert(from == BROKER_STARTING);
    break;
  case BROKER_ENDING:
    assert(from == BROKER_STARTING || from == BROKER_UP);
    break;
  case BROKER_WAITING:
    assert(from == BROKER_ENDING || from == BROKER_WAITING);
    break;
  }
  broker->state = state;
  broker->since_ms = loop_now_ms();
}

/* ---- the child's output ---- */

/* The plugin's lines begin with "dstream X "; mosquitto's carry no level. */
static enum dstream_log_level level_of(const char **text) {
  static const char prefix[] = "dstream ";
  const char *p = *text;
  if (strncmp(p, prefix, sizeof prefix - 1) == 0 &&
      p[sizeof prefix - 1] != '\0' && p[sizeof prefix] == ' ') {
    char level = p[sizeof prefix - 1];
    *text = p + sizeof prefix + 1;
    return level == 'E'   ? DSTREAM_LOG_ERROR
           : level == 'W' ? DSTREAM_LOG_WARNING
           : level == 'I' ? DSTREAM_LOG_INFO
                          : DSTREAM_LOG_DEBUG;
  }
  if (strncmp(p, "Warning: Mosquitto should not be run as root", 44) == 0)
    return DSTREAM_LOG_DEBUG; /* it runs as whoever runs the hub */
  if (strncmp(p, "Error", 5) == 0 || strncmp(p, "Warning", 7) == 0 ||
      strncmp(p, "Outgoing messages are being dropped", 35) == 0)
    return DSTREAM_LOG_WARNING;
  return DSTREAM_LOG_DEBUG;
}

static void tell_line(struct broker *broker) {
  const char *text = broker->line;
  broker->line[broker->line_len] = '\0';
  for (size_t i = 0; i < broker->line_len; i++) {
    unsigned char c = (unsigned char)broker->line[i];
    if (c < 0x20 || c == 0x7f)
      broker->line[i] = '?';
  }
  broker->line_len = 0;
  enum dstream_log_level level = level_of(&text);
  if (text[0] == '\0')
    return;
  if (level <= DSTREAM_LOG_WARNING)
    snprintf(broker->last_error, sizeof broker->last_error, "%.*s",
             (int)sizeof broker->last_error - 1, text);
  if (broker->events.on_log != NULL)
    broker->events.on_log(broker->user, level, text);
  else
    loop_log(broker->loop, level, "broker: %s", text);
}

static void take_output(struct broker *broker, const char *data, size_t len) {
  for (size_t i = 0; i < len; i++) {
    if (data[i] == '\n')
      tell_line(broker);
    else if (broker->line_len < sizeof broker->line - 1)
      broker->line[broker->line_len++] = data[i];
  }
}

/* True at its end. */
static bool read_output(struct broker *broker) {
  char data[4096];
  for (int reads = 0; reads < 16; reads++) {
    ssize_t n = read(broker->output.fd, data, sizeof data);
    if (n > 0)
      take_output(broker, data, (size_t)n);
    else if (n == 0)
      return true;
    else if (errno != EINTR)
      return errno != EAGAIN && errno != EWOULDBLOCK;
  }
  return false;
}

/* ---- the child's end ---- */

static void on_restart(struct loop_timer *timer) {
  start_child(broker_of_timer(timer));
}

static void schedule_restart(struct broker *broker) {
  set_state(broker, BROKER_WAITING);
  loop_timer_set(broker->loop, &broker->timer, broker->restart_ms, on_restart);
  broker->restart_ms *= 2;
  if (broker->restart_ms > RESTART_MAX_MS)
    broker->restart_ms = RESTART_MAX_MS;
}

static void tell_down(struct broker *broker, const struct dstream_end *end) {
  if (broker->events.on_down != NULL)
    broker->events.on_down(broker->user, end);
  else
    loop_log(broker->loop, DSTREAM_LOG_WARNING, "%s", end->text);
}

static void after_end(struct broker *broker, int wait_status) {
  struct dstream_end end;
  const char *words = broker->last_error[0] != '\0' ? ": " : "";
  if (WIFSIGNALED(wait_status))
    end_set(&end, DSTREAM_ESYSTEM,
            "the broker was ended by signal %d and is started again%s%s",
            WTERMSIG(wait_status), words, broker->last_error);
  else
    end_set(&end, DSTREAM_ESYSTEM,
            "the broker exited with status %d and is started again%s%s",
            WEXITSTATUS(wait_status), words, broker->last_error);
  broker->pid = 0;
  broker->last_error[0] = '\0';
  schedule_restart(broker);
  tell_down(broker, &end);
}

static void on_reap(struct loop_timer *timer) {
  struct broker *broker = broker_of_timer(timer);
  int wait_status = 0;
  if (child_reap(broker->pid, &wait_status)) {
    after_end(broker, wait_status);
    return;
  }
  if (loop_now_ms() - broker->since_ms >= REAP_LIMIT_MS)
    kill(broker->pid, SIGKILL);
  loop_timer_set(broker->loop, &broker->timer, REAP_MS, on_reap);
}

static void on_output(struct loop_watch *watch, unsigned events) {
  (void)events;
  struct broker *broker = broker_of_watch(watch);
  if (!read_output(broker))
    return;
  if (broker->line_len > 0)
    tell_line(broker);
  loop_watch_close(&broker->output);
  if (broker->state == BROKER_UP &&
      loop_now_ms() - broker->since_ms >= LIVED_MS)
    broker->restart_ms = RESTART_MIN_MS;
  set_state(broker, BROKER_ENDING);
  loop_timer_set(broker->loop, &broker->timer, 0, on_reap);
}

/* ---- the child's start ---- */

/* Whether the broker accepts: it opens this socket last. */
static bool probe(const struct broker *broker) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, broker->hub_socket, sizeof address.sun_path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return false;
  int rc = connect(fd, (struct sockaddr *)&address, sizeof address);
  close(fd);
  return rc == 0;
}

static void on_probe(struct loop_timer *timer) {
  struct broker *broker = broker_of_timer(timer);
  if (probe(broker)) {
    set_state(broker, BROKER_UP);
    if (broker->events.on_up != NULL)
      broker->events.on_up(broker->user);
    return;
  }
  if (loop_now_ms() - broker->since_ms >= PROBE_LIMIT_MS) {
    snprintf(broker->last_error, sizeof broker->last_error,
             "it did not open its sockets in time");
    kill(broker->pid, SIGKILL); /* its output ends, the rest follows */
    return;
  }
  loop_timer_set(broker->loop, &broker->timer, PROBE_MS, on_probe);
}

static int try_start(struct broker *broker) {
  int output = -1;
  /* What a killed broker left would answer the probe with "refused", or be
   * taken for the new one's. */
  unlink(broker->device_socket);
  unlink(broker->hub_socket);
  int status = child_start(broker->program, BROKER_CONFIG_FILE,
                           broker->directory, &broker->pid, &output);
  if (status != DSTREAM_OK)
    return status;
  memset(&broker->output, 0, sizeof broker->output);
  status = loop_watch_start(broker->loop, &broker->output, output, on_output);
  if (status != DSTREAM_OK) {
    child_stop(broker->pid, 0);
    broker->pid = 0;
    return status;
  }
  loop_watch_want(&broker->output, LOOP_READ);
  broker->line_len = 0;
  set_state(broker, BROKER_STARTING);
  loop_timer_set(broker->loop, &broker->timer, PROBE_MS, on_probe);
  return DSTREAM_OK;
}

static void start_child(struct broker *broker) {
  struct dstream_end end;
  int status = try_start(broker);
  if (status == DSTREAM_OK)
    return;
  end_set(&end, status, "the broker could not be started, trying again: %s",
          status == DSTREAM_ESYSTEM ? strerror(errno)
                                    : dstream_status_text(status));
  schedule_restart(broker);
  tell_down(broker, &end);
}

/* ---- files ---- */

static int fail(struct dstream_end *end, int status, const char *what,
                const char *path) {
  int error = errno;
  end_set(end, status, "%s %.120s: %.60s", what, path, strerror(error));
  if (end != NULL)
    end->sys_errno = error;
  return status;
}

static int join(char *out, size_t size, const char *directory,
                const char *path) {
  bool here = strcmp(directory, ".") == 0 || path[0] == '/';
  int n = here ? snprintf(out, size, "%s", path)
               : snprintf(out, size, "%s/%s", directory, path);
  return n > 0 && (size_t)n < size ? DSTREAM_OK : DSTREAM_EINVAL;
}

static int make_run_folder(struct broker *broker, struct dstream_end *end) {
  char path[PATH_MAX];
  if (join(path, sizeof path, broker->directory, BROKER_RUN_DIR) != DSTREAM_OK)
    return DSTREAM_EINVAL;
  if (mkdir(path, 0700) != 0 && errno != EEXIST)
    return fail(end, DSTREAM_ESYSTEM, "can't create", path);
  if (chmod(path, 0700) != 0)
    return fail(end, DSTREAM_ESYSTEM, "can't protect", path);
  broker->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (broker->lock < 0)
    return fail(end, DSTREAM_ESYSTEM, "can't open", path);
  if (flock(broker->lock, LOCK_EX | LOCK_NB) == 0)
    return DSTREAM_OK;
  end_set(end, DSTREAM_ESTATE, "another hub runs in %.120s already",
          broker->directory);
  return DSTREAM_ESTATE;
}

static int write_config(struct broker *broker,
                        const struct broker_options *options,
                        struct dstream_end *end) {
  char path[PATH_MAX];
  char text[CONFIG_SIZE];
  int len = broker_config_text(options, broker->secret, text, sizeof text);
  if (len < 0) {
    end_set(end, DSTREAM_EINVAL,
            "a path or a host name can't be written into the broker's "
            "configuration");
    return DSTREAM_EINVAL;
  }
  join(path, sizeof path, broker->directory, BROKER_CONFIG_FILE);
  int status = broker_config_write(path, text, (size_t)len);
  crypto_wipe(text, sizeof text);
  return status == DSTREAM_OK ? status : fail(end, status, "can't write", path);
}

static int make_paths(struct broker *broker, struct dstream_end *end) {
  if (join(broker->device_socket, sizeof broker->device_socket,
           broker->directory, BROKER_DEVICE_SOCKET) == DSTREAM_OK &&
      join(broker->hub_socket, sizeof broker->hub_socket, broker->directory,
           BROKER_HUB_SOCKET) == DSTREAM_OK)
    return DSTREAM_OK;
  end_set(end, DSTREAM_EINVAL,
          "the path %.120s is too long for a unix socket: start the hub in it",
          broker->directory);
  return DSTREAM_EINVAL;
}

static int make_secret(struct broker *broker) {
  uint8_t bytes[SECRET_BYTES];
  int status = crypto_random(bytes, sizeof bytes);
  for (size_t i = 0; i < sizeof bytes; i++)
    snprintf(broker->secret + 2 * i, 3, "%02x", bytes[i]);
  crypto_wipe(bytes, sizeof bytes);
  return status;
}

/* ---- programs ---- */

static bool try_program(char *out, const char *folder, size_t folder_len) {
  int n = snprintf(out, PATH_MAX, "%.*s/mosquitto", (int)folder_len, folder);
  return n > 0 && n < PATH_MAX && folder_len > 0 && access(out, X_OK) == 0;
}

int broker_find_program(const char *given, char *out, struct dstream_end *end) {
  static const char *const folders[] = {"/usr/sbin", "/usr/local/sbin"};
  if (given != NULL) {
    if (access(given, X_OK) == 0 && strlen(given) < PATH_MAX) {
      memcpy(out, given, strlen(given) + 1);
      return DSTREAM_OK;
    }
    return fail(end, DSTREAM_ENOTFOUND, "can't execute", given);
  }
  const char *path = getenv("PATH");
  while (path != NULL && *path != '\0') {
    size_t len = strcspn(path, ":");
    if (try_program(out, path, len))
      return DSTREAM_OK;
    path += len + (path[len] == ':');
  }
  for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
    if (try_program(out, folders[i], strlen(folders[i])))
      return DSTREAM_OK;
  }
  end_set(end, DSTREAM_ENOTFOUND,
          "mosquitto is not installed; on Debian: "
          "apt-get install mosquitto");
  return DSTREAM_ENOTFOUND;
}

static int prepare(struct broker *broker, const struct broker_options *options,
                   struct dstream_end *end) {
  char plugin[PATH_MAX];
  if (options->plugin == NULL || options->names.count == 0 ||
      strlen(options->directory) >= sizeof broker->directory) {
    end_set(end, DSTREAM_EINVAL, "the broker needs a plugin and a host name");
    return DSTREAM_EINVAL;
  }
  memcpy(broker->directory, options->directory, strlen(options->directory) + 1);
  /* The child changes to the folder, so the path must not be relative. */
  if (realpath(options->plugin, plugin) == NULL)
    return fail(end, DSTREAM_ENOTFOUND, "can't find the broker's plugin",
                options->plugin);
  struct broker_options resolved = *options;
  resolved.plugin = plugin;
  int status = broker_find_program(options->program, broker->program, end);
  if (status == DSTREAM_OK)
    status = make_paths(broker, end);
  if (status == DSTREAM_OK)
    status = make_secret(broker);
  if (status == DSTREAM_OK)
    status = make_run_folder(broker, end);
  if (status == DSTREAM_OK)
    status = write_config(broker, &resolved, end);
  return status;
}

/* ---- public ---- */

static void broker_free(struct broker *broker) {
  if (broker->lock >= 0)
    close(broker->lock);
  crypto_wipe(broker->secret, sizeof broker->secret);
  free(broker);
}

int broker_start(struct broker **out, dstream_loop *loop,
                 const struct broker_options *options,
                 const struct broker_events *events, void *user,
                 struct dstream_end *end) {
  struct broker_options complete = *options;
  struct broker *broker = calloc(1, sizeof *broker);
  if (broker == NULL) {
    end_set(end, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  broker->loop = loop;
  broker->user = user;
  broker->lock = -1;
  broker->state = BROKER_WAITING;
  broker->restart_ms = RESTART_MIN_MS;
  if (events != NULL)
    broker->events = *events;
  broker_options_defaults(&complete);
  int status = prepare(broker, &complete, end);
  if (status == DSTREAM_OK) {
    status = try_start(broker);
    if (status == DSTREAM_ESYSTEM)
      fail(end, status, "can't start", broker->program);
    else if (status != DSTREAM_OK)
      end_set(end, status, "can't watch the broker: %s",
              dstream_status_text(status));
  }
  if (status != DSTREAM_OK) {
    broker_free(broker);
    return status;
  }
  *out = broker;
  return DSTREAM_OK;
}

void broker_stop(struct broker *broker) {
  char path[PATH_MAX];
  if (broker == NULL)
    return;
  loop_timer_cancel(&broker->timer);
  if (broker->pid > 0)
    child_stop(broker->pid, STOP_GRACE_MS);
  loop_watch_close(&broker->output);
  unlink(broker->device_socket);
  unlink(broker->hub_socket);
  join(path, sizeof path, broker->directory, BROKER_CONFIG_FILE);
  unlink(path);
  broker_free(broker);
}

const char *broker_device_socket(const struct broker *broker) {
  return broker->device_socket;
}

const char *broker_hub_socket(const struct broker *broker) {
  return broker->hub_socket;
}

const char *broker_secret(const struct broker *broker) {
  return broker->secret;
}

pid_t broker_pid(const struct broker *broker) {
  return broker->pid;
}
