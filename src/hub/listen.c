#include "hub/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_on(const struct addrinfo *address, int backlog) {
  int on = 1;
  int off = 0;
  int fd =
      socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address->ai_family == AF_INET6)
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 &&
      listen(fd, backlog) == 0)
    return fd;
  int error = errno;
  close(fd);
  errno = error;
  return -1;
}

static int listen_at(const char *text, uint16_t port, int backlog) {
  struct addrinfo hints;
  struct addrinfo *address = NULL;
  char service[8];
  memset(&hints, 0, sizeof hints);
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  snprintf(service, sizeof service, "%u", (unsigned)port);
  if (getaddrinfo(text, service, &hints, &address) != 0) {
    errno = EINVAL;
    return -1;
  }
  int fd = listen_on(address, backlog);
  int error = errno;
  freeaddrinfo(address);
  errno = error;
  return fd;
}

int listen_tcp(const char *address, uint16_t port, int backlog) {
  if (address != NULL)
    return listen_at(address, port, backlog);
  int fd = listen_at("::", port, backlog);
  if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
    fd = listen_at("0.0.0.0", port, backlog);
  return fd;
}

uint16_t listen_port(int fd) {
  struct sockaddr_storage address;
  socklen_t len = sizeof address;
  memset(&address, 0, sizeof address);
  getsockname(fd, (struct sockaddr *)&address, &len);
  if (address.ss_family == AF_INET6)
    return ntohs(((struct sockaddr_in6 *)(void *)&address)->sin6_port);
  return ntohs(((struct sockaddr_in *)(void *)&address)->sin_port);
}
