#include "tools/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_MAX 1024

static uint64_t number(const char *text) {
  char *stop = NULL;
  errno = 0;
  unsigned long long value = strtoull(text, &stop, 10);
  if (errno != 0 || *text < '0' || *text > '9' || *stop != '\0')
    return 0;
  return value;
}

/* A path, or "@" and a name in the abstract namespace (unix(7)). */
static void find_socket(struct notify *notify) {
  const char *path = getenv("NOTIFY_SOCKET");
  if (path == NULL || (path[0] != '/' && path[0] != '@'))
    return;
  size_t len = strlen(path);
  if (len < 2 || len >= sizeof notify->address.sun_path)
    return;
  notify->address.sun_family = AF_UNIX;
  memcpy(notify->address.sun_path, path, len + 1);
  size_t size = offsetof(struct sockaddr_un, sun_path) + len;
  if (path[0] == '@')
    notify->address.sun_path[0] = '\0';
  else
    size++;
  notify->address_len = (socklen_t)size;
}

void notify_init(struct notify *notify) {
  memset(notify, 0, sizeof *notify);
  find_socket(notify);
  const char *usec = getenv("WATCHDOG_USEC");
  const char *pid = getenv("WATCHDOG_PID");
  if (notify->address_len == 0 || usec == NULL)
    return;
  if (pid != NULL && number(pid) != (uint64_t)getpid())
    return;
  uint64_t ms = number(usec) / 2000;
  if (number(usec) > 0)
    notify->watchdog_ms = ms > 0 ? ms : 1;
}

bool notify_wanted(const struct notify *notify) {
  return notify->address_len != 0;
}

bool notify_send(const struct notify *notify, const char *format, ...) {
  char message[MESSAGE_MAX];
  va_list list;
  if (notify->address_len == 0)
    return true;
  va_start(list, format);
  int len = vsnprintf(message, sizeof message, format, list);
  va_end(list);
  if (len < 0 || (size_t)len >= sizeof message)
    return false;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return false;
  struct timeval wait = {.tv_sec = 1};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
  ssize_t sent =
      sendto(fd, message, (size_t)len, MSG_NOSIGNAL,
             (const struct sockaddr *)&notify->address, notify->address_len);
  close(fd);
  return sent == len;
}

bool notify_reloading(const struct notify *notify) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  uint64_t usec = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
  return notify_send(notify, "RELOADING=1\nMONOTONIC_USEC=%llu",
                     (unsigned long long)usec);
}
