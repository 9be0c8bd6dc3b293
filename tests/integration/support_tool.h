/* support_tool.h - `dstream` as a person runs it, a device for it to reach, and
 * servers behind that device.
 *
 * The device and the servers have threads of their own, so that a test just
 * waits for the programs that it runs.  Every function fails the test by itself
 * when something goes wrong; all waits have a deadline.
 */
#ifndef SUPPORT_TOOL_H
#define SUPPORT_TOOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <dstream/device.h>
#include <dstream/proxy.h>

#include "integration/support_hub.h"

#define TOOL_WAIT_MS 20000

uint64_t tool_now_ms(void);

/* ---- servers: what a device's targets lead to ---- */

enum server_kind {
  SERVE_ECHO,   /* sends back what comes; ends with its client */
  SERVE_SUM,    /* reads to the end, then says how much that was */
  SERVE_SOURCE, /* sends `bytes` zeros, then reads to the end */
  SERVE_RESET,  /* resets the connection after the first byte */
  SERVE_HTTP,   /* answers one request with "hello" */
  SERVE_HOLD    /* neither reads nor sends, until it is told to stop */
};

struct tool_server {
  enum server_kind kind;
  uint64_t bytes;
  uint16_t port; /* on 127.0.0.1 */
  char address[32];
  int fd;
  pthread_t thread;
  atomic_uint open;
  atomic_uint served;
  atomic_bool stop;
};

void tool_server_start(struct tool_server *server, enum server_kind kind);
void tool_server_stop(struct tool_server *server);
/* A port that nobody listens on. */
uint16_t tool_unused_port(void);

/* ---- a device ---- */

struct tool_device {
  pthread_t thread;
  bool running;
  char connection_string[4096];
  const struct hub_fixture *hub;
  const struct dstream_targets_options *options;

  dstream_loop *loop;
  dstream_device *device;
  dstream_targets *targets;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool ready;
};

/* Adds it to the hub; connection_string is set. */
void tool_device_add(struct tool_device *device, struct hub_fixture *hub,
                     const char *id);
/* Runs it until tool_device_stop and waits until it is ready.  options NULL: it
 * never answers a request.  Borrowed. */
void tool_device_run(struct tool_device *device,
                     const struct dstream_targets_options *options);
void tool_device_stop(struct tool_device *device);

/* ---- programs ---- */

/* The connection string, the CA and the build's programs come by the
 * environment of everything that is run from now on. */
void tool_environment(const struct hub_fixture *hub);

/* Runs a line of bash to its end; its exit status. */
int tool_shell(struct hub_output *output, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Fails unless it is one line that begins with `begin` and holds `text`. */
void assert_one_line(const char *err, const char *begin, const char *text);

/* A program that runs beside the test. */
struct tool {
  pid_t pid;
  int in;  /* its stdin; -1: closed */
  int out; /* its stdout */
  char err_path[64];
};

/* arguments[0] is looked for in PATH; they end with NULL. */
void tool_start(struct tool *tool, const char *const *arguments);
/* The next line of its stdout, without the line feed. */
void tool_line(struct tool *tool, char *line, size_t size);
/* Waits until its stderr holds text. */
void tool_wait_said(const struct tool *tool, const char *text);
bool tool_said(const struct tool *tool, const char *text);
/* What it wrote to stderr so far. */
void tool_errors(const struct tool *tool, char *out, size_t size);
/* Waits for its end: the exit status, or 128 + the signal that ended it. */
int tool_wait(struct tool *tool);
/* Sends a signal first. */
int tool_end(struct tool *tool, int signal);

/* ---- clients of a forward ---- */

/* Connects to 127.0.0.1, [::1] or a unix socket, as `dstream forward` says it
 * ("listening ADDRESS" or ADDRESS); reads and writes have a deadline. */
int client_connect(const char *listening);
void client_send(int fd, const char *text);
/* Reads to the end: what came, or -1 when the connection was reset. */
int client_read_all(int fd, char *out, size_t size);
/* Sends text, ends that direction, and expects the same back. */
void client_echo(const char *listening, const char *text);

#endif
