/* hub/listen.h - TCP sockets that listen. */
#ifndef HUB_LISTEN_H
#define HUB_LISTEN_H

#include <stdint.h>

/* Listens on an address in numbers, NULL: on every one, IPv4 and IPv6 by one
 * socket where the system has both; port 0: any free one.  The descriptor does
 * not block, or -1 with errno. */
int listen_tcp(const char *address, uint16_t port, int backlog);

/* The port that it got. */
uint16_t listen_port(int fd);

#endif
