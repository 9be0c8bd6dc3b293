#include "hub/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE 1100

static const char *const part_names[LOG_PARTS] = {
    [LOG_HUB] = "hub",         [LOG_FRONT] = "front",
    [LOG_REST] = "rest",       [LOG_HANDSHAKE] = "handshake",
    [LOG_GATEWAY] = "gateway", [LOG_PRESENCE] = "presence",
    [LOG_BROKER] = "broker",
};

const char *log_part_name(enum log_part part) {
  return part_names[part];
}

enum dstream_log_level hub_log_most(const struct hub_log *log) {
  unsigned most = DSTREAM_LOG_ERROR;
  for (size_t i = 0; i < LOG_PARTS; i++) {
    unsigned level = log->level[i] != 0 ? log->level[i] : DSTREAM_LOG_DEBUG;
    if (level > most)
      most = level;
  }
  return (enum dstream_log_level)most;
}

/* The part that the text names, which is moved on past it. */
static enum log_part take_part(const char **text) {
  size_t len = strcspn(*text, ": ");
  if (strncmp(*text + len, ": ", 2) != 0)
    return LOG_HUB;
  for (unsigned i = 0; i < LOG_PARTS; i++) {
    if (strlen(part_names[i]) == len &&
        strncmp(*text, part_names[i], len) == 0) {
      *text += len + 2;
      return (enum log_part)i;
    }
  }
  return LOG_HUB;
}

static int begin_line(char *out, size_t size, enum dstream_log_level level) {
  static const char *const names[] = {"", "error", "warning", "info", "debug"};
  struct timespec now;
  struct tm utc;
  char stamp[32] = "";
  clock_gettime(CLOCK_REALTIME, &now);
  if (gmtime_r(&now.tv_sec, &utc) != NULL)
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
  return snprintf(out, size, "%s.%03dZ %s ", stamp,
                  (int)(now.tv_nsec / 1000000), names[level]);
}

/* With its line feed; the length. */
static size_t make_line(const struct hub_log *log, char out[LINE_SIZE],
                        enum dstream_log_level level, enum log_part part,
                        const char *text) {
  static const char journal_level[] = {'3', '3', '4', '6', '7'};
  const size_t size = LINE_SIZE;
  int begin = log->journal ? snprintf(out, size, "<%c>", journal_level[level])
                           : begin_line(out, size, level);
  size_t n = begin < 0 ? 0 : (size_t)begin;
  int len =
      snprintf(out + n, size - 1 - n, "%s: %.1000s", part_names[part], text);
  n += len < 0 ? 0 : (size_t)len;
  if (n > size - 2)
    n = size - 2;
  out[n] = '\n';
  return n + 1;
}

/* False: not, or not all of it, is written. */
static bool put(struct hub_log *log, const char *line, size_t len) {
  ssize_t n = write(log->fd, line, len);
  if (n == (ssize_t)len)
    return true;
  log->error = n < 0 ? errno : ENOSPC;
  if (n > 0)
    log->cut = true;
  return false;
}

/* What has to stand in front of the next line. */
static bool catch_up(struct hub_log *log) {
  char text[160];
  char line[LINE_SIZE];
  if (log->cut) {
    if (!put(log, "\n", 1))
      return false;
    log->cut = false;
  }
  snprintf(text, sizeof text, "%lu lines were lost: %.80s", log->lost,
           strerror(log->error));
  size_t len = make_line(log, line, DSTREAM_LOG_WARNING, LOG_HUB, text);
  return put(log, line, len);
}

void hub_log_write(void *user, enum dstream_log_level level, const char *text) {
  struct hub_log *log = user;
  char line[LINE_SIZE];
  enum log_part part = take_part(&text);
  if (log->level[part] != 0 && level > log->level[part])
    return;
  size_t len = make_line(log, line, level, part, text);
  if (log->lost > 0) {
    if (!catch_up(log)) {
      log->lost++;
      return;
    }
    log->lost = 0;
  }
  if (!put(log, line, len))
    log->lost++;
}
