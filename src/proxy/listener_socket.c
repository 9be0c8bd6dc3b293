#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <netinet/in.h>

#include "core/end.h"
#include "proxy/listener.h"

#define BACKLOG 128

static int failed(struct dstream_end *error, const char *text, const char *what,
                  int number) {
  end_set(error, DSTREAM_ESYSTEM, "can't listen on %s: %s%s", text, what,
          number != 0 ? strerror(number) : "");
  if (error != NULL)
    error->sys_errno = number;
  return DSTREAM_ESYSTEM;
}

static int new_socket(int family) {
  return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* ---- unix ---- */

/* Whether nobody listens on the socket of this name. */
static bool is_stale(const struct sockaddr_un *address) {
  int fd = new_socket(AF_UNIX);
  if (fd < 0)
    return false;
  bool refused =
      connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
      errno == ECONNREFUSED;
  close(fd);
  return refused;
}

static int make_way(const struct sockaddr_un *address, const char *text,
                    struct dstream_end *error) {
  struct stat status;
  if (lstat(address->sun_path, &status) != 0)
    return errno == ENOENT ? DSTREAM_OK : failed(error, text, "", errno);
  if (!S_ISSOCK(status.st_mode))
    return failed(error, text, "a file of this name is there", 0);
  if (!is_stale(address))
    return failed(error, text, "another program listens there", 0);
  if (unlink(address->sun_path) != 0 && errno != ENOENT)
    return failed(error, text, "the old socket can't be removed: ", errno);
  return DSTREAM_OK;
}

/* Nobody can connect before listen, so the file has its mode in time. */
static int bind_unix(int fd, const struct sockaddr_un *address,
                     struct listening *out) {
  struct stat status;
  if (fchmod(fd, 0600) != 0 && errno != EINVAL)
    return errno;
  if (bind(fd, (const struct sockaddr *)address, sizeof *address) != 0)
    return errno;
  if (lstat(address->sun_path, &status) != 0)
    return errno;
  out->device = status.st_dev;
  out->inode = status.st_ino;
  if ((status.st_mode & 0777) != 0600 && chmod(address->sun_path, 0600) != 0)
    return errno;
  return listen(fd, BACKLOG) == 0 ? 0 : errno;
}

static int open_unix(struct listening *out, struct dstream_end *error) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t len = strlen(out->address.host);
  if (len >= sizeof address.sun_path)
    return failed(error, out->text, "the path is too long", 0);
  memcpy(address.sun_path, out->address.host, len + 1);
  int status = make_way(&address, out->text, error);
  if (status != DSTREAM_OK)
    return status;
  int fd = new_socket(AF_UNIX);
  if (fd < 0)
    return failed(error, out->text, "", errno);
  int number = bind_unix(fd, &address, out);
  if (number == 0)
    return fd;
  close(fd);
  listening_unlink(out);
  return failed(error, out->text, "", number);
}

void listening_unlink(const struct listening *listening) {
  struct stat status;
  if (!listening->address.is_unix || listening->inode == 0)
    return;
  if (lstat(listening->address.host, &status) == 0 &&
      status.st_dev == listening->device && status.st_ino == listening->inode)
    unlink(listening->address.host);
}

/* ---- TCP ---- */

static int bind_tcp(int fd, const struct addrinfo *info) {
  int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (info->ai_family == AF_INET6)
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 ||
      listen(fd, BACKLOG) != 0)
    return errno;
  return 0;
}

/* The port that it got. */
static void read_port(int fd, struct listening *out) {
  union {
    struct sockaddr any;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
  } at = {.in6 = {0}};
  socklen_t len = sizeof at;
  if (getsockname(fd, &at.any, &len) != 0)
    return;
  out->address.port =
      ntohs(at.any.sa_family == AF_INET6 ? at.in6.sin6_port : at.in4.sin_port);
  address_format(&out->address, out->text);
}

static int open_tcp(struct listening *out, struct dstream_end *error) {
  struct addrinfo hints = {.ai_family = AF_UNSPEC,
                           .ai_socktype = SOCK_STREAM,
                           .ai_flags =
                               AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
  struct addrinfo *info = NULL;
  char port[8];
  snprintf(port, sizeof port, "%u", (unsigned)out->address.port);
  int status = getaddrinfo(out->address.host, port, &hints, &info);
  if (status != 0)
    return failed(error, out->text, gai_strerror(status), 0);
  int fd = new_socket(info->ai_family);
  int number = fd < 0 ? errno : bind_tcp(fd, info);
  freeaddrinfo(info);
  if (number != 0) {
    if (fd >= 0)
      close(fd);
    return failed(error, out->text, "", number);
  }
  read_port(fd, out);
  return fd;
}

int listening_open(struct listening *out, const char *text,
                   struct dstream_end *error) {
  memset(out, 0, sizeof *out);
  int status = address_parse_listen(&out->address, text, error);
  if (status != DSTREAM_OK)
    return status;
  address_format(&out->address, out->text);
  return out->address.is_unix ? open_unix(out, error) : open_tcp(out, error);
}
