/* bench.h - the load generator and the measuring programs of scripts/bench.sh,
 * one program, dstream_bench, with a command for each:
 *
 *   ports N         N free ports of the loopback interface, below those that
 *                   the system hands out by itself
 *   target          the server behind every chain; prints "listening PORT"
 *   relay           a TCP relay, plain, or one that delays; see relay.c
 *   bulk            bytes one way or both, over one stream or many
 *   echo            64 bytes there and back, one after the other
 *   first           a new connection to its first byte, one after the other;
 * with
 *                   --to and --ca-file in turns with two resumed TLS handshakes
 *   opens           new connections a second, several under way
 *   hold            connections that stay, idle, until it is killed
 *   idle, stalled   memory of connections that are idle, or that nobody reads
 *   records         TLS records of 64 bytes to a TLS relay
 *   frames          WebSocket frames of 64 bytes to a stream of the hub
 *
 * A measuring command prints lines "METRIC<TAB>VALUE".  What it measures of
 * other processes is told by --process LABEL=PID[,PID]...; their descendants
 * count with them; PID 0 is the command itself.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_MESSAGE 64 /* bytes of a small message */
#define BENCH_GB      1e9
/* Small messages are counted, not timed: so many for each --ms. */
#define BENCH_MESSAGES_MS 500

struct bench_options {
  uint16_t port;
  uint16_t to; /* relay: 0: HTTP CONNECT says where */
  unsigned streams;
  unsigned base;  /* idle, stalled: connections that are there before */
  unsigned width; /* under way at a time when connections are opened */
  unsigned ms;    /* how long */
  unsigned delay_ms;
  unsigned settle_ms; /* memory has settled when it did not grow so long */
  bool up;            /* from the connecting side to the target */
  bool down;
  const char *ca_file;
  const char *device; /* frames: its id, and its connection string's file */
  const char *device_file;
};

typedef int bench_command(const struct bench_options *options);

/* ---- bench.c ---- */
uint64_t now_ns(void);
/* Prints it with the program's name, and errno if it is set; exits with 1. */
void die(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));
void *must_alloc(size_t count, size_t size);
void print_metric(const char *name, double value);
/* "NAME_p50_us" and so on; sorts the samples. */
void print_quantiles(const char *name, uint64_t *ns, size_t count);
/* Tells who waits on stdout, at once. */
void say_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- socket.c ---- */
int socket_listen(uint16_t *port); /* port 0: any, which is written back */
int socket_accept(int listener);   /* non-blocking, no delay; -1: none */
int socket_connect(uint16_t port); /* blocking, no delay */
int socket_begin(uint16_t port);   /* the same, non-blocking: under way */
void socket_blocking(int fd, bool blocking);
/* Blocking; die when it is not all. */
void socket_send(int fd, const void *data, size_t len);
void socket_receive(int fd, void *data, size_t len);
int bench_ports(unsigned count);

/* What a connection to the target begins with; answered with one byte, which is
 * the first that comes through the chain. */
enum bench_op {
  BENCH_ECHO = 1, /* everything comes back */
  BENCH_BULK,     /* blocks, from a byte 'G' on; see flow.h */
  BENCH_SINK      /* `amount` bytes are taken and answered with one */
};

#define BENCH_MAGIC 0x62447331u
#define BENCH_READY 'R'
#define BENCH_GO    'G'
#define BENCH_GOOD  '+' /* what came was what had been sent */
#define BENCH_BAD   '-'

struct bench_request {
  uint32_t magic;
  uint32_t op;
  uint32_t up; /* directions of BENCH_BULK */
  uint32_t down;
  uint64_t amount; /* BENCH_BULK: milliseconds; BENCH_SINK: bytes */
};

/* Opens `count` connections to options->port, options->width at a time, each
 * with the request, and waits until each has had its first byte.  The sockets
 * are blocking; fds NULL: they are closed again at once. */
void open_many(const struct bench_options *options,
               const struct bench_request *request, unsigned count, int *fds);

/* ---- processes.c ---- */
/* LABEL=PID[,PID]...; die if it makes no sense. */
void processes_add(const char *text);
/* CPU time is counted from here. */
void processes_mark(void);
/* "cpu_LABEL" for each: seconds since the mark divided by `by`; and "cpu_chain"
 * of all whose label is not "load". */
void processes_print_cpu(double by);
/* "kb_LABEL": what the PSS of each grew by since the last call with print
 * false, divided by `by`. */
void processes_memory(bool print, double by);
/* Waits until none grew or shrank for `ms`, 20 s at most. */
void processes_settle(unsigned ms);

/* ---- the commands ---- */
bench_command bench_target;
bench_command bench_relay;
bench_command bench_bulk;
bench_command bench_echo;
bench_command bench_first;
bench_command bench_opens;
bench_command bench_hold;
bench_command bench_idle;
bench_command bench_stalled;
bench_command bench_records;
bench_command bench_frames;

#endif
