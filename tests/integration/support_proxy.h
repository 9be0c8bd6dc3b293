/* support_proxy.h - an HTTP CONNECT proxy inside the test: counts what it is
 * asked for, resolves a name that nobody else knows, and misbehaves on demand.
 *
 * It runs on a thread of its own.  Functions return 0, or -1 after a message on
 * stderr, unless it says otherwise.
 */
#ifndef SUPPORT_PROXY_H
#define SUPPORT_PROXY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROXY_TUNNELS_MAX 64
#define PROXY_TARGETS_MAX 64
#define PROXY_URL_SIZE    128

enum proxy_mode {
  PROXY_WORKS,
  PROXY_REFUSES, /* 403 to every CONNECT */
  PROXY_DIES,    /* closes as soon as it was asked */
  PROXY_GARBAGE, /* answers what is no HTTP */
  PROXY_SILENT   /* never answers */
};

/* Zero is the default of each member; texts must outlive the proxy. */
struct proxy_options {
  enum proxy_mode mode;
  const char *credentials; /* "user:password": asked for, 407 without */
  const char *name;        /* a host name that leads to 127.0.0.1 */
};

struct proxy_tunnel;

struct proxy_fixture {
  struct proxy_options options;
  int listener;
  int wake[2]; /* closed on one side: stop */
  uint16_t port;
  char url[PROXY_URL_SIZE]; /* "http://127.0.0.1:PORT" */
  pthread_t thread;
  bool running;
  struct proxy_tunnel *tunnels;

  pthread_mutex_t lock; /* guards the rest */
  unsigned asked;       /* CONNECT requests */
  unsigned refused;     /* of them answered 407 */
  unsigned malformed;   /* requests that were no CONNECT of RFC 9110 9.3.6 */
  char targets[PROXY_TARGETS_MAX][128]; /* "host:port" of each one granted */
  unsigned target_count;
};

int proxy_start(struct proxy_fixture *proxy,
                const struct proxy_options *options);
/* Ends its tunnels too.  Also of one that was zeroed and never started. */
void proxy_stop(struct proxy_fixture *proxy);

/* How many tunnels led to that port, or in all (0). */
unsigned proxy_count(struct proxy_fixture *proxy, uint16_t port);
/* Whether all of them named this host. */
bool proxy_all_to(struct proxy_fixture *proxy, const char *host);
unsigned proxy_asked(struct proxy_fixture *proxy);
unsigned proxy_refused(struct proxy_fixture *proxy);
unsigned proxy_malformed(struct proxy_fixture *proxy);

/* The proxy's URL with "user:password@" in it; out: PROXY_URL_SIZE bytes. */
void proxy_url_with(const struct proxy_fixture *proxy, const char *credentials,
                    char *out);

/* ---- tinyproxy ---- */

struct tinyproxy {
  pid_t pid; /* 0: not running */
  char directory[256];
  uint16_t port;
  char url[PROXY_URL_SIZE];
};

/* 1: it is not installed. */
int tinyproxy_start(struct tinyproxy *proxy, const char *user,
                    const char *password);
void tinyproxy_stop(struct tinyproxy *proxy);

#endif
