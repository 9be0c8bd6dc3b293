#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hub/broker.h"
#include "hub/broker_wire.h"
#include "hub/check.h"

#define SUBJECT    "broker"
#define ANSWER_MS  5000
#define PLUGIN_MAX (64 << 20)

/* ---- mosquitto ---- */

/* Reads up to the end or to size - 1 bytes; so long and no longer. */
static void read_answer(int fd, char *out, size_t size) {
  size_t len = 0;
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  while (len < size - 1 && poll(&poll_fd, 1, ANSWER_MS) == 1) {
    ssize_t n = read(fd, out + len, size - 1 - len);
    if (n <= 0)
      break;
    len += (size_t)n;
  }
  out[len] = '\0';
}

static int spawn(const char *program, int output, pid_t *pid) {
  char name[] = "mosquitto";
  char option[] = "-h";
  char *argv[] = {name, option, NULL};
  posix_spawn_file_actions_t actions;
  if (posix_spawn_file_actions_init(&actions) != 0)
    return ENOMEM;
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
                                   O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  int error = posix_spawn(pid, program, &actions, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

/* What `mosquitto -h` says first; empty: nothing.  0 or errno. */
static int ask_program(const char *program, char *out, size_t size) {
  int ends[2];
  pid_t pid = 0;
  out[0] = '\0';
  if (pipe2(ends, O_CLOEXEC) != 0)
    return errno;
  int error = spawn(program, ends[1], &pid);
  close(ends[1]);
  if (error == 0) {
    read_answer(ends[0], out, size);
    kill(pid, SIGKILL); /* it has ended, or hangs */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
      continue;
  }
  close(ends[0]);
  return error;
}

static void check_program(struct check_report *report, const char *given) {
  static const char before[] = "mosquitto version ";
  char program[PATH_MAX];
  char answer[64];
  struct dstream_end end = {0};
  if (broker_find_program(given[0] == '\0' ? NULL : given, program, &end) !=
      DSTREAM_OK) {
    check_say(report, CHECK_ERROR, SUBJECT, "%s", end.text);
    return;
  }
  int error = ask_program(program, answer, sizeof answer);
  if (error != 0) {
    check_say(report, CHECK_ERROR, SUBJECT, "%.150s can't be executed: %s",
              program, strerror(error));
    return;
  }
  const char *version = answer + sizeof before - 1;
  if (strncmp(answer, before, sizeof before - 1) != 0) {
    check_say(report, CHECK_ERROR, SUBJECT, "%.150s is not mosquitto", program);
    return;
  }
  int len = (int)strcspn(version, " \r\n");
  if (strncmp(version, "2.0.", 4) == 0)
    check_say(report, CHECK_OK, SUBJECT, "%.150s is mosquitto %.*s", program,
              len, version);
  else if (strncmp(version, "0.", 2) == 0 || strncmp(version, "1.", 2) == 0)
    check_say(report, CHECK_ERROR, SUBJECT,
              "%.150s is mosquitto %.*s, which is too old: 2.0 is needed",
              program, len, version);
  else
    check_say(report, CHECK_WARNING, SUBJECT,
              "%.150s is mosquitto %.*s; this hub was tried with 2.0", program,
              len, version);
}

/* ---- the plugin ---- */

/* The text that begins with BROKER_PLUGIN_MARK; false: there is none. */
static bool find_mark(const char *data, size_t len, char *out, size_t size) {
  static const char mark[] = BROKER_PLUGIN_MARK;
  const char *found = memmem(data, len, mark, sizeof mark - 1);
  if (found == NULL)
    return false;
  found += sizeof mark - 1;
  size_t left = len - (size_t)(found - data);
  snprintf(out, size, "%.*s", (int)strnlen(found, left < size ? left : size),
           found);
  return true;
}

static bool read_mark(const char *path, char *out, size_t size) {
  struct stat info;
  FILE *file = fopen(path, "re");
  bool found = false;
  if (file != NULL && fstat(fileno(file), &info) == 0 && info.st_size > 0 &&
      info.st_size <= PLUGIN_MAX) {
    char *data = malloc((size_t)info.st_size);
    size_t len = data == NULL ? 0 : fread(data, 1, (size_t)info.st_size, file);
    found = data != NULL && find_mark(data, len, out, size);
    free(data);
  }
  if (file != NULL)
    fclose(file);
  return found;
}

static void check_plugin(struct check_report *report, const char *plugin) {
  char version[32];
  if (access(plugin, R_OK) != 0)
    check_say(report, CHECK_ERROR, SUBJECT,
              "the plugin %.150s can't be read: %s", plugin, strerror(errno));
  else if (!read_mark(plugin, version, sizeof version))
    check_say(report, CHECK_ERROR, SUBJECT,
              "%.150s is not this hub's broker plugin", plugin);
  else if (strcmp(version, DSTREAM_VERSION) != 0)
    check_say(report, CHECK_ERROR, SUBJECT,
              "the plugin %.120s is of version %s, dstream-hub of "
              "%s: install both from one package",
              plugin, version, DSTREAM_VERSION);
  else
    check_say(report, CHECK_OK, SUBJECT, "the plugin %.150s is of version %s",
              plugin, version);
}

void check_broker(struct check_report *report, const struct config *config,
                  const char *plugin) {
  check_program(report, config->broker_program);
  check_plugin(report, plugin);
}
