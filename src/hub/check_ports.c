#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hub/check.h"
#include "hub/folder.h"

#define SUBJECT "ports"

/* 0: it is free; or errno.  Nobody can connect meanwhile, as it is not
 * listened on. */
static int try_port(const char *host, unsigned port) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                           .ai_flags =
                               AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
  struct addrinfo *address = NULL;
  char service[8];
  int on = 1;
  int off = 0;
  snprintf(service, sizeof service, "%u", port & 0xffff);
  if (getaddrinfo(host, service, &hints, &address) != 0)
    return EINVAL;
  int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int error = fd < 0 ? errno : 0;
  if (fd >= 0) {
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ai_family == AF_INET6)
      setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0)
      error = errno;
    close(fd);
  }
  freeaddrinfo(address);
  return error;
}

/* As the hub's front: every address, or those of IPv4 where there is no IPv6.
 */
static int try_address(const char *host, unsigned port) {
  if (host[0] != '\0')
    return try_port(host, port);
  int error = try_port("::", port);
  return error == EAFNOSUPPORT || error == EADDRNOTAVAIL
             ? try_port("0.0.0.0", port)
             : error;
}

/* own: whether a hub that runs in this folder has it. */
static void check_port(struct check_report *report, const char *key,
                       const char *host, unsigned port, bool own) {
  if (port == 0) {
    check_say(report, CHECK_OK, SUBJECT, "%s: any free port", key);
    return;
  }
  int error = try_address(host, port);
  if (error == 0)
    check_say(report, CHECK_OK, SUBJECT, "%s: %u is free", key, port);
  else if (error == EADDRINUSE && own)
    check_say(report, CHECK_OK, SUBJECT, "%s: %u is in use by this hub", key,
              port);
  else if (error == EADDRINUSE)
    check_say(report, CHECK_ERROR, SUBJECT,
              "%s: %u is in use by another program", key, port);
  else if (error == EACCES)
    check_say(report, CHECK_ERROR, SUBJECT,
              "%s: this user may not listen on %u; the hub needs "
              "CAP_NET_BIND_SERVICE (its systemd unit has it), or a port from "
              "1024 on",
              key, port);
  else if (error == EADDRNOTAVAIL)
    check_say(report, CHECK_ERROR, SUBJECT,
              "%s: this machine does not have the address %.60s", key, host);
  else
    check_say(report, CHECK_ERROR, SUBJECT, "%s: can't listen on %u: %s", key,
              port, strerror(error));
}

static void check_same(struct check_report *report, unsigned a, unsigned b,
                       const char *keys) {
  if (a != 0 && a == b)
    check_say(report, CHECK_ERROR, SUBJECT, "%s are the same, %u", keys, a);
}

void check_ports(struct check_report *report, const struct config *config) {
  struct folder_ports now = {0, 0};
  bool runs = folder_runs();
  if (runs)
    folder_ports_read(&now);
  check_port(report, "https_port", config->bind_address, config->https_port,
             runs && (now.https == config->https_port));
  check_port(report, "mqtt_port", config->bind_address, config->mqtt_port,
             runs && (now.mqtt == config->mqtt_port));
  check_same(report, config->https_port, config->mqtt_port,
             "https_port and mqtt_port");
  if (!config->metrics_enabled)
    return;
  check_port(report, "metrics.port", config->metrics_bind, config->metrics_port,
             runs);
  check_same(report, config->https_port, config->metrics_port,
             "https_port and metrics.port");
  check_same(report, config->mqtt_port, config->metrics_port,
             "mqtt_port and metrics.port");
}
