/* tools/notify.h - telling a service manager how the program is: the datagrams
 * of sd_notify(3), to the socket that $NOTIFY_SOCKET names.
 */
#ifndef TOOLS_NOTIFY_H
#define TOOLS_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include <sys/socket.h>
#include <sys/un.h>

struct notify {
  struct sockaddr_un address;
  socklen_t address_len; /* 0: nobody wants to know */
  uint64_t watchdog_ms;  /* half of what it asked for; 0: nothing asked */
};

/* Looks at NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. */
void notify_init(struct notify *notify);

bool notify_wanted(const struct notify *notify);

/* Sends "NAME=value" lines; nothing happens when nobody wants to know.  Waits a
 * second at most.  False: it could not be sent. */
bool notify_send(const struct notify *notify, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "RELOADING=1" with the time that goes with it; "READY=1" must follow. */
bool notify_reloading(const struct notify *notify);

#endif
