#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/conn_string.h"
#include "core/crypto.h"
#include "core/printable.h"
#include "net/loop.h"
#include "net/loop_uv.h"

#define LINE_MAX_LEN 2048
#define BLANKS       " \t\r\n\v\f"

static const char *program_name = "dstream";

void cli_set_program(const char *program) {
  program_name = program;
}

/* ---- lines on stderr ---- */

/* The service manager names the device and inode of the pipe it reads; another
 * stderr may have been put in its place since (systemd.exec(5)). */
bool cli_to_journal(void) {
  static int answer = -1;
  if (answer < 0) {
    const char *named = getenv("JOURNAL_STREAM");
    struct stat info;
    char own[64] = "";
    if (fstat(STDERR_FILENO, &info) == 0)
      snprintf(own, sizeof own, "%llu:%llu", (unsigned long long)info.st_dev,
               (unsigned long long)info.st_ino);
    answer = named != NULL && strcmp(named, own) == 0;
  }
  return answer == 1;
}

static void put_line(enum dstream_log_level level, const char *text) {
  static const char journal_level[] = {'3', '3', '4', '6', '7'};
  char line[LINE_MAX_LEN];
  int len =
      cli_to_journal()
          ? snprintf(line, sizeof line, "<%c>%s", journal_level[level], text)
          : snprintf(line, sizeof line, "%s: %s", program_name, text);
  if (len < 0)
    return;
  if ((size_t)len > sizeof line - 1)
    len = (int)sizeof line - 1;
  printable_line(line); /* it may quote a peer */
  line[len++] = '\n';
  /* A line that can't be written is no reason to stop. */
  (void)!write(STDERR_FILENO, line, (size_t)len);
}

void cli_say(const char *format, ...) {
  char text[LINE_MAX_LEN];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  put_line(DSTREAM_LOG_WARNING, text);
}

int cli_usage(const char *format, ...) {
  char text[LINE_MAX_LEN / 2];
  char line[LINE_MAX_LEN];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  snprintf(line, sizeof line, "%s; try \"%s --help\"", text, program_name);
  put_line(DSTREAM_LOG_ERROR, line);
  return CLI_USAGE;
}

int cli_failed(const struct dstream_end *end) {
  put_line(DSTREAM_LOG_ERROR,
           end->text[0] != '\0' ? end->text : dstream_status_text(end->status));
  return CLI_FAILED;
}

int cli_printed(void) {
  if (fflush(stdout) == 0 && !ferror(stdout))
    return CLI_DONE;
  cli_say("can't write to stdout: %s", strerror(errno));
  return CLI_FAILED;
}

void cli_log(void *user, enum dstream_log_level level, const char *text) {
  (void)user;
  put_line(level, text);
}

/* ---- arguments ---- */

bool cli_number(const char *text, unsigned min, unsigned max, unsigned *out) {
  char *stop = NULL;
  errno = 0;
  unsigned long value = strtoul(text, &stop, 10);
  if (errno != 0 || *text < '0' || *text > '9' || *stop != '\0' ||
      value < min || value > max)
    return false;
  *out = (unsigned)value;
  return true;
}

void cli_hide(char *argument) {
  if (argument == NULL || argument[0] == '\0')
    return;
  crypto_wipe(argument, strlen(argument));
  argument[0] = '*';
}

/* ---- the connection string ---- */

static char *fail(int *exit_status, int value) {
  *exit_status = value;
  return NULL;
}

/* A byte at a time: what follows the line is not ours. */
static ssize_t read_line(char *out, size_t size) {
  size_t len = 0;
  while (len < size) {
    ssize_t got = read(STDIN_FILENO, out + len, 1);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return -1;
    if (got == 0 || out[len] == '\n')
      break;
    len++;
  }
  return (ssize_t)len;
}

static ssize_t read_whole(int fd, char *out, size_t size) {
  size_t len = 0;
  while (len < size) {
    ssize_t got = read(fd, out + len, size - len);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return -1;
    if (got == 0)
      break;
    len += (size_t)got;
  }
  return (ssize_t)len;
}

/* Of a file with an access list the group's bits say something else; and a
 * group of its own is a good way to keep a secret. */
static void warn_readable(const struct stat *info, const char *path) {
  if (S_ISREG(info->st_mode) && (info->st_mode & S_IROTH) != 0)
    cli_say("everybody on this machine can read the key in %s; "
            "\"chmod 600\" it",
            path);
}

void cli_warn_readable(const char *path) {
  struct stat info;
  if (stat(path, &info) == 0)
    warn_readable(&info, path);
}

/* Up to size bytes, or -1 with errno. */
static ssize_t read_file(const char *path, char *out, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0)
    return -1;
  struct stat info;
  if (fstat(fd, &info) == 0)
    warn_readable(&info, path);
  ssize_t len = read_whole(fd, out, size);
  int saved = errno;
  close(fd);
  errno = saved;
  return len;
}

static bool is_blank(char c) {
  return c != '\0' && strchr(BLANKS, c) != NULL;
}

/* what: where it came from, for a person. */
static char *trimmed(const char *text, size_t len, const char *what,
                     int failure, int *exit_status) {
  while (len > 0 && is_blank(text[0])) {
    text++;
    len--;
  }
  while (len > 0 && is_blank(text[len - 1]))
    len--;
  const char *wrong = NULL;
  if (len == 0)
    wrong = "is empty; a connection string belongs there";
  else if (len >= CONN_STRING_MAX)
    wrong = "is too long to be a connection string";
  else if (memchr(text, '\0', len) != NULL)
    wrong = "holds a zero byte; that is no connection string";
  if (wrong != NULL) {
    cli_say("%s %s", what, wrong);
    return fail(exit_status, failure);
  }
  char *copy = strndup(text, len);
  if (copy == NULL) {
    cli_say("%s", dstream_status_text(DSTREAM_ENOMEM));
    return fail(exit_status, CLI_FAILED);
  }
  return copy;
}

static char *from_file(const char *path, int *exit_status) {
  char text[CONN_STRING_MAX + 64];
  bool is_stdin = strcmp(path, "-") == 0;
  const char *what = is_stdin ? "stdin" : path;
  ssize_t len = is_stdin ? read_line(text, sizeof text)
                         : read_file(path, text, sizeof text);
  if (len < 0) {
    cli_say("the connection string can't be read from %s: %s", what,
            strerror(errno));
    return fail(exit_status, CLI_FAILED);
  }
  char *out = trimmed(text, (size_t)len, what, CLI_FAILED, exit_status);
  crypto_wipe(text, sizeof text);
  return out;
}

static char *from_environment(int *exit_status) {
  char *text = getenv("DSTREAM_CONNECTION_STRING");
  if (text == NULL || text[0] == '\0') {
    cli_usage("no connection string; give --connection-string-file or set "
              "DSTREAM_CONNECTION_STRING");
    return fail(exit_status, CLI_USAGE);
  }
  char *out = trimmed(text, strlen(text), "DSTREAM_CONNECTION_STRING",
                      CLI_USAGE, exit_status);
  crypto_wipe(text, strlen(text));
  unsetenv("DSTREAM_CONNECTION_STRING");
  return out;
}

char *cli_connection_string(const struct cli_source *source, int *exit_status) {
  const char *text = source->connection_string;
  if (text != NULL && source->connection_string_file != NULL) {
    cli_usage("--connection-string and --connection-string-file exclude each "
              "other");
    return fail(exit_status, CLI_USAGE);
  }
  if (text != NULL)
    return trimmed(text, strlen(text), "--connection-string", CLI_USAGE,
                   exit_status);
  if (source->connection_string_file != NULL)
    return from_file(source->connection_string_file, exit_status);
  return from_environment(exit_status);
}

const char *cli_ca_file(const struct cli_source *source) {
  if (source->ca_file != NULL)
    return source->ca_file;
  const char *file = getenv("DSTREAM_CA_FILE");
  return file != NULL && file[0] != '\0' ? file : NULL;
}

void cli_forget(char *secret) {
  if (secret == NULL)
    return;
  crypto_wipe(secret, strlen(secret));
  free(secret);
}

/* ---- signals ---- */

struct cli_signals {
  struct loop_watch watch; /* first: on_signal */
  void (*fn)(void *user, int signal);
  void *user;
  bool hangup_ignored;
};

static void on_signal(struct loop_watch *watch, unsigned events) {
  struct cli_signals *signals = (struct cli_signals *)watch;
  struct signalfd_siginfo info;
  if ((events & LOOP_GONE) != 0 ||
      read(watch->fd, &info, sizeof info) != (ssize_t)sizeof info)
    return;
  signals->fn(signals->user, (int)info.ssi_signo);
}

static bool block(sigset_t *set) {
  struct sigaction old;
  sigemptyset(set);
  sigaddset(set, SIGINT);
  sigaddset(set, SIGTERM);
  sigaddset(set, SIGHUP);
  bool ignored =
      sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
  signal(SIGPIPE, SIG_IGN);
  sigprocmask(SIG_BLOCK, set, NULL);
  return ignored;
}

int cli_signals_new(struct cli_signals **out, dstream_loop *loop,
                    void (*fn)(void *user, int signal), void *user) {
  sigset_t set;
  bool ignored = block(&set);
  struct cli_signals *signals = calloc(1, sizeof *signals);
  if (signals == NULL)
    return DSTREAM_ENOMEM;
  *signals =
      (struct cli_signals){.fn = fn, .user = user, .hangup_ignored = ignored};
  int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  int status = fd < 0 ? DSTREAM_ESYSTEM
                      : loop_watch_start(loop, &signals->watch, fd, on_signal);
  if (status != DSTREAM_OK) {
    free(signals);
    return status;
  }
  loop_watch_want(&signals->watch, LOOP_READ);
  *out = signals;
  return DSTREAM_OK;
}

void cli_signals_free(struct cli_signals *signals) {
  if (signals == NULL)
    return;
  loop_watch_close(&signals->watch);
  free(signals);
}

bool cli_hangup_ignored(const struct cli_signals *signals) {
  return signals->hangup_ignored;
}

/* ---- the loop ---- */

int cli_loop_new(dstream_loop **out,
                 const struct dstream_loop_options *options) {
  int status = loop_new(out, options, loop_uv_backend());
  return status == DSTREAM_OK ? status : dstream_loop_new(out, options);
}
