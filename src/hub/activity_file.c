#include "hub/activity_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

/* ---- opening ---- */

static int open_journal(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, JOURNAL_SOCKET, sizeof JOURNAL_SOCKET);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0 &&
      connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
    int error = errno;
    close(fd);
    errno = error;
    fd = -1;
  }
  return fd;
}

static int open_any(const char *path) {
  if (strcmp(path, ACTIVITY_FILE_STDOUT) == 0)
    return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
  if (strcmp(path, ACTIVITY_FILE_JOURNAL) == 0)
    return open_journal();
  /* Non-blocking: a pipe by name, without a reader, must not hold us up. */
  return open(path,
              O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
              0640);
}

/* A hub that was killed while it wrote has left the begin of a line. */
static bool ends_within_line(const char *path) {
  char last = '\n';
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return false;
  off_t size = lseek(fd, 0, SEEK_END);
  if (size > 0 && pread(fd, &last, 1, size - 1) != 1)
    last = '\n';
  close(fd);
  return last != '\n';
}

static int take(struct activity_file *file, int fd) {
  struct stat info;
  file->journal = strcmp(file->path, ACTIVITY_FILE_JOURNAL) == 0;
  file->waits = fstat(fd, &info) != 0 || !S_ISREG(info.st_mode);
  file->cut = !file->waits && ends_within_line(file->path);
  file->fd = fd;
  return 0;
}

int activity_file_open(struct activity_file *file, const char *path) {
  *file = (struct activity_file){.path = path, .fd = -1};
  if (path[0] == '\0')
    return 0;
  int fd = open_any(path);
  return fd < 0 ? errno : take(file, fd);
}

int activity_file_reopen(struct activity_file *file) {
  if (file->path[0] == '\0' || strcmp(file->path, ACTIVITY_FILE_STDOUT) == 0)
    return 0;
  int fd = open_any(file->path);
  if (fd < 0)
    return errno;
  activity_file_close(file);
  return take(file, fd);
}

void activity_file_close(struct activity_file *file) {
  if (file->fd >= 0)
    close(file->fd);
  file->fd = -1;
}

/* ---- writing ---- */

static bool has_room(const struct activity_file *file) {
  struct pollfd wanted = {.fd = file->fd, .events = POLLOUT};
  return poll(&wanted, 1, 0) == 1 && (wanted.revents & POLLOUT) != 0;
}

/* The journal's native protocol: fields, a line each, in one datagram. */
static bool to_journal(struct activity_file *file, const char *line,
                       size_t len) {
  static const char head[] = "SYSLOG_IDENTIFIER=dstream-activity\n"
                             "PRIORITY=6\nMESSAGE=";
  char name[sizeof head];
  memcpy(name, head, sizeof head);
  char *copy = strndup(line, len); /* iovec has no const */
  struct iovec parts[2] = {{name, sizeof head - 1}, {copy, len}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  bool ok = copy != NULL &&
            sendmsg(file->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
  file->error = errno;
  free(copy);
  return ok;
}

static bool put(struct activity_file *file, const char *line, size_t len) {
  if (file->fd < 0) {
    file->error = file->error != 0 ? file->error : ENOENT;
    return false;
  }
  if (file->journal)
    return to_journal(file, line, len);
  if (file->waits && !has_room(file)) {
    file->error = EAGAIN;
    return false;
  }
  ssize_t n = write(file->fd, line, len);
  if (n == (ssize_t)len)
    return true;
  file->error = n < 0 ? errno : ENOSPC;
  if (n > 0)
    file->cut = true;
  return false;
}

bool activity_file_write(struct activity_file *file, const char *line,
                         size_t len) {
  if (file->path[0] == '\0')
    return true;
  if (file->cut && put(file, "\n", 1))
    file->cut = false;
  if (!file->cut && put(file, line, len))
    return true;
  file->lost++;
  return false;
}

/* ---- reading ---- */

static char *read_from(int fd, off_t from, size_t size, size_t *len) {
  char *text = malloc(size + 1);
  *len = 0;
  while (text != NULL && *len < size) {
    ssize_t n = pread(fd, text + *len, size - *len, from + (off_t)*len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      break;
    *len += (size_t)n;
  }
  if (text != NULL)
    text[*len] = '\0';
  return text;
}

char *activity_file_tail(const struct activity_file *file, size_t most,
                         size_t *len) {
  if (file->fd < 0 || file->waits)
    return NULL;
  int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
  off_t from = size > (off_t)most ? size - (off_t)most : 0;
  char *text = NULL;
  if (size > 0)
    text = read_from(fd, from, (size_t)(size - from), len);
  if (fd >= 0)
    close(fd);
  if (text == NULL || from == 0)
    return text;
  char *line = memchr(text, '\n', *len);
  size_t skip = line == NULL ? *len : (size_t)(line + 1 - text);
  memmove(text, text + skip, *len - skip + 1);
  *len -= skip;
  return text;
}
