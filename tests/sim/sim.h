/* sim.h - a fault simulator: device, service and hub in one process, in
 * memory, on a fake clock.
 *
 * One seed is one scenario: how many devices and streams, how many bytes, who
 * accepts, rejects, closes or aborts when, which connection is refused, slow,
 * stalled, cut or silent, when the broker, the hub or a control connection
 * goes away, and in what order everything that is ready happens.  The same seed
 * does the same again:
 *
 *     test_sim --seed 4711 --trace
 *
 * What is real: all of src/core, src/device, src/service, src/proxy, the links
 * and streams of src/net, and of the hub front, gateway, relay, handshake, REST
 * and HTTP server.  What stands in for the rest has the same header, and is
 * linked in its place:
 *
 *   sim_loop.c    net/loop.h and net/resolve.h: a virtual clock; what is ready
 *                 happens in an order that the seed chooses
 *   sim_socket.c  the system's sockets (the linker wraps the calls): bounded
 *                 buffers, delay, short reads and writes, refusal, stall, cut
 *   sim_tls.c     net/tls.h: records with numbers in place of encryption, so
 *                 that a byte lost, repeated or moved is noticed at once
 *   sim_mqtt.c    net/mqtt.h and hub/main_endpoint.h: the broker between them
 *   sim_hub.c     what hub/hub.c does, and the one call of hub/identity.h
 *   sim_app.c     programs at both ends of each stream, and what they check
 *   sim_world.c   one scenario from begin to end, and what is checked of it
 *   sim_memory.c  malloc and its family (wrapped): counts, limits, fails on
 *                 request; time and crypto_random, too
 *
 * What is checked, always: callbacks in legal order, one final on_close; each
 * byte received is the one that was sent there (never invented, reordered or
 * repeated); none is missing when the peer ended in the orderly way; windows
 * kept; every wait over by its deadline; memory bounded; nothing left in the
 * hub's tables, no timer, socket or allocation left at the end; a failed stream
 * says why.  In scenarios without faults besides: everything works, soon.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <dstream/dstream.h>

#include "net/loop.h"

/* ---- test_sim.c ---- */

/* Says what is wrong and how to replay it, and aborts. */
_Noreturn void sim_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
/* A line of --trace, with the virtual time. */
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern bool sim_tracing;

#define SIM_CHECK(condition, ...)                                              \
  do {                                                                         \
    if (!(condition))                                                          \
      sim_fail(__VA_ARGS__);                                                   \
  } while (0)

/* ---- sim_memory.c ---- */

void sim_seed(uint64_t seed);
uint64_t sim_random(void);
/* 0 .. n - 1; n > 0 */
uint64_t sim_below(uint64_t n);
/* true in so many of 1000 */
bool sim_chance(unsigned permille);
/* low .. high, small ones more often */
uint64_t sim_between(uint64_t low, uint64_t high);

/* The simulator's own memory: never fails, is not counted. */
void *sim_alloc(size_t size);
void sim_free(void *memory);

/* Fails the n-th allocation from now on (1: the next; 0: none), and all of the
 * burst - 1 that follow. */
void sim_memory_fail(unsigned long n, unsigned long burst);
/* How many there were since, and how many of them failed. */
unsigned long sim_memory_asked(void);
unsigned long sim_memory_failed(void);
size_t sim_memory_live(void);  /* allocations */
size_t sim_memory_bytes(void); /* in them */
size_t sim_memory_peak(void);  /* since sim_memory_fail */
/* cJSON's and OpenSSL's go the same way. */
void sim_memory_hook(void);

/* ---- sim_loop.c ---- */

/* Handles one thing; false: nothing will ever happen any more. */
bool sim_step(dstream_loop *loop);
/* What is left on the loop: timers, watches and tasks. */
unsigned sim_loop_left(const dstream_loop *loop);
void sim_loop_reset(void);
/* How far the clock may jump at times, in ms. */
void sim_loop_jumps(unsigned permille, unsigned most_ms);
/* The clock, for a name that can't be found. */
void sim_resolve_faults(unsigned permille);

/* ---- sim_socket.c ---- */

/* What may happen to a connection; each permille of all of them. */
struct sim_faults {
  unsigned refused;
  unsigned unanswered; /* connect never ends */
  unsigned cut;        /* reset, end or silence after some bytes or time */
  unsigned stalled;    /* for some seconds */
  unsigned verify;     /* the certificate is not trusted */
  unsigned latency_ms; /* most, each way */
  size_t buffer;       /* of the system, at most */
  bool split;          /* bytes come in any pieces */
};
void sim_socket_setup(dstream_loop *loop, const struct sim_faults *faults);
bool sim_socket_ready(int fd, unsigned want, unsigned *ready);
void sim_socket_close(int fd);
unsigned sim_socket_count(void);
/* Connections that something was done to so far. */
unsigned sim_socket_faulted(void);
void sim_socket_reset(void);
unsigned sim_tls_verify_permille(void);

/* ---- sim_mqtt.c ---- */

struct sim_broker_faults {
  unsigned refused; /* CONNACK other than 0 */
  unsigned failed;  /* no connection at all */
  unsigned denied;  /* SUBACK 0x80 */
  unsigned lost;    /* of messages */
  unsigned cut;     /* of connections, after some time */
  unsigned latency_ms;
  bool no_caps; /* a hub that knows no capabilities */
};
void sim_broker_setup(dstream_loop *loop,
                      const struct sim_broker_faults *faults);
/* The broker goes away for so long. */
void sim_broker_restart(uint64_t away_ms);
/* No faults from now on. */
void sim_broker_calm(void);
unsigned sim_broker_lost(void);
void sim_broker_reset(void);

/* ---- sim_hub.c ---- */

#define SIM_HOST       "hub.sim"
#define SIM_HTTPS_PORT 443

struct sim_hub_options {
  unsigned max_streams;
  unsigned max_pending;
  unsigned keepalive_ms;
  uint64_t idle_ms;
  uint64_t lifetime_ms;
  uint64_t drain_ms;
};
struct sim_hub;
int sim_hub_new(struct sim_hub **out, dstream_loop *loop,
                const struct sim_hub_options *options);
/* As SIGTERM: no more connections, Close 1001 to all streams. */
void sim_hub_stop(struct sim_hub *hub);
void sim_hub_free(struct sim_hub *hub);
unsigned sim_hub_streams(const struct sim_hub *hub);
unsigned sim_hub_handshakes(const struct sim_hub *hub);

/* ---- sim_app.c ---- */

struct sim_result {
  unsigned streams;
  unsigned opened;
  unsigned clean; /* ended with all bytes there */
  unsigned faults;
  uint64_t bytes;
  uint64_t virtual_ms;
};

#define SIM_ENDS_MAX 64

/* What all programs share, from sim_world.c. */
struct sim_apps {
  dstream_loop *loop;
  bool quiet;     /* no faults: everything has to work */
  bool memory;    /* allocations fail: only what holds even then is checked */
  bool no_caps;   /* without half-close, an end is an end */
  bool disturbed; /* something was done to a whole side: it stopped, say */
  size_t bytes_max;
  unsigned slow_ms; /* most that a program takes to consume */
  unsigned drain_ms;
  struct sim_end *ends[SIM_ENDS_MAX];
  unsigned count;
  unsigned live; /* those that await on_close */
  unsigned deferred;
};

void sim_apps_init(struct sim_apps *apps);
/* Asks for a stream to a device. */
void sim_app_open(struct sim_apps *apps, dstream_service *service,
                  const char *device);
/* What the device does with a request. */
void sim_app_request(struct sim_apps *apps, dstream_request *request);
/* Forgets requests that were put off: their device is freed. */
void sim_app_forget_requests(struct sim_apps *apps);
/* After each step. */
void sim_apps_check(const struct sim_apps *apps);
/* When all are closed: the two ends of each stream side by side. */
void sim_apps_compare(const struct sim_apps *apps);
void sim_apps_count(const struct sim_apps *apps, struct sim_result *result);
void sim_apps_free(struct sim_apps *apps);

/* ---- sim_world.c ---- */

enum sim_kind {
  SIM_ANY,   /* as the seed says */
  SIM_QUIET, /* without faults */
  SIM_MEMORY /* without faults but for allocations */
};
void sim_world_run(uint64_t seed, enum sim_kind kind,
                   struct sim_result *result);

#endif
