#include "integration/support_tool.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/address.h"

uint64_t tool_now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- servers ---- */

struct visit {
  struct tool_server *server;
  int fd;
};

static bool send_all(int fd, const void *data, size_t len) {
  const char *p = data;
  while (len > 0) {
    ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
    if (n <= 0)
      return false;
    p += n;
    len -= (size_t)n;
  }
  return true;
}

static uint64_t read_to_end(int fd) {
  static _Thread_local char data[65536];
  uint64_t sum = 0;
  ssize_t n;
  while ((n = recv(fd, data, sizeof data, 0)) > 0)
    sum += (uint64_t)n;
  return sum;
}

static void serve_echo(int fd) {
  char data[65536];
  ssize_t n;
  while ((n = recv(fd, data, sizeof data, 0)) > 0)
    if (!send_all(fd, data, (size_t)n))
      return;
}

static void serve_source(int fd, uint64_t left) {
  static const char zeros[65536];
  while (left > 0) {
    size_t n = left < sizeof zeros ? (size_t)left : sizeof zeros;
    if (!send_all(fd, zeros, n))
      return;
    left -= n;
  }
  shutdown(fd, SHUT_WR);
  read_to_end(fd);
}

static void serve_http(int fd) {
  char request[4096];
  size_t len = 0;
  ssize_t n;
  while (len + 1 < sizeof request &&
         (n = recv(fd, request + len, sizeof request - 1 - len, 0)) > 0) {
    len += (size_t)n;
    request[len] = '\0';
    if (strstr(request, "\r\n\r\n") != NULL)
      break;
  }
  static const char answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\n"
                               "hello\n";
  send_all(fd, answer, sizeof answer - 1);
}

static void reset_on_close(int fd) {
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

static void serve_sum(int fd) {
  char text[64];
  int len = snprintf(text, sizeof text, "%llu bytes\n",
                     (unsigned long long)read_to_end(fd));
  send_all(fd, text, (size_t)len);
}

static void serve_hold(const struct tool_server *server) {
  while (!atomic_load(&server->stop))
    poll(NULL, 0, 10);
}

static void *visit_run(void *arg) {
  struct visit *visit = arg;
  struct tool_server *server = visit->server;
  char byte;
  switch (server->kind) {
  case SERVE_ECHO:
    serve_echo(visit->fd);
    break;
  case SERVE_SUM:
    serve_sum(visit->fd);
    break;
  case SERVE_SOURCE:
    serve_source(visit->fd, server->bytes);
    break;
  case SERVE_RESET:
    (void)!recv(visit->fd, &byte, 1, 0);
    reset_on_close(visit->fd);
    break;
  case SERVE_HTTP:
    serve_http(visit->fd);
    break;
  case SERVE_HOLD:
    serve_hold(server);
    break;
  }
  close(visit->fd);
  free(visit);
  atomic_fetch_sub(&server->open, 1);
  return NULL;
}

static void *server_run(void *arg) {
  struct tool_server *server = arg;
  int fd;
  while ((fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
    struct visit *visit = malloc(sizeof *visit);
    pthread_t thread;
    if (visit == NULL)
      abort();
    *visit = (struct visit){server, fd};
    atomic_fetch_add(&server->open, 1);
    atomic_fetch_add(&server->served, 1);
    if (pthread_create(&thread, NULL, visit_run, visit) != 0)
      abort();
    pthread_detach(thread);
  }
  return NULL;
}

static int listen_anywhere(uint16_t *port) {
  struct sockaddr_in in = {.sin_family = AF_INET,
                           .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof in;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
  *port = ntohs(in.sin_port);
  return fd;
}

void tool_server_start(struct tool_server *server, enum server_kind kind) {
  memset(server, 0, sizeof *server);
  server->kind = kind;
  server->fd = listen_anywhere(&server->port);
  assert_int_equal(listen(server->fd, 128), 0);
  snprintf(server->address, sizeof server->address, "127.0.0.1:%u",
           (unsigned)server->port);
  assert_int_equal(pthread_create(&server->thread, NULL, server_run, server),
                   0);
}

void tool_server_stop(struct tool_server *server) {
  if (server->port == 0)
    return;
  atomic_store(&server->stop, true);
  shutdown(server->fd, SHUT_RDWR);
  pthread_join(server->thread, NULL);
  close(server->fd);
  server->port = 0;
  uint64_t until_ms = tool_now_ms() + TOOL_WAIT_MS;
  while (atomic_load(&server->open) > 0) {
    if (tool_now_ms() > until_ms)
      fail_msg("%u connections of a server do not end", server->open);
    poll(NULL, 0, 10);
  }
}

uint16_t tool_unused_port(void) {
  uint16_t port;
  close(listen_anywhere(&port));
  return port;
}

/* ---- a device ---- */

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  struct tool_device *d = user;
  (void)device;
  (void)cause;
  pthread_mutex_lock(&d->lock);
  d->ready = state == DSTREAM_DEVICE_READY;
  pthread_cond_broadcast(&d->changed);
  pthread_mutex_unlock(&d->lock);
}

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  struct tool_device *d = user;
  if (d->targets != NULL)
    dstream_targets_serve(d->targets, device, request);
  else
    dstream_request_defer(request);
}

static void on_stopped(dstream_device *device, void *user) {
  struct tool_device *d = user;
  (void)device;
  dstream_loop_stop(d->loop);
}

static void *device_run(void *arg) {
  struct tool_device *d = arg;
  static const struct dstream_device_callbacks callbacks = {
      .on_state = on_state,
      .on_request = on_request,
      .on_stopped = on_stopped,
  };
  struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = d->connection_string,
      .loop = d->loop,
      .tls = {.size = sizeof options.tls, .ca_file = d->hub->ca_file},
      .retry_min_ms = 20,
      .retry_max_ms = 200,
  };
  struct dstream_end error = {0};
  if (d->options != NULL &&
      dstream_targets_new(&d->targets, d->loop, d->options, NULL, NULL,
                          &error) != DSTREAM_OK) {
    fprintf(stderr, "targets: %s\n", error.text);
    abort();
  }
  if (dstream_device_new(&d->device, &options, &callbacks, d, &error) !=
          DSTREAM_OK ||
      dstream_device_start(d->device) != DSTREAM_OK) {
    fprintf(stderr, "device: %s\n", error.text);
    abort();
  }
  dstream_loop_run(d->loop);
  dstream_targets_free(d->targets);
  dstream_device_free(d->device);
  dstream_loop_free(d->loop);
  d->targets = NULL;
  return NULL;
}

static void device_stop(void *arg) {
  struct tool_device *d = arg;
  dstream_device_stop(d->device);
}

static struct timespec deadline(void) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += TOOL_WAIT_MS / 1000;
  return until;
}

void tool_device_add(struct tool_device *d, struct hub_fixture *hub,
                     const char *id) {
  memset(d, 0, sizeof *d);
  d->hub = hub;
  pthread_mutex_init(&d->lock, NULL);
  pthread_cond_init(&d->changed, NULL);
  assert_int_equal(hub_fixture_add_device(hub, id, d->connection_string), 0);
}

void tool_device_run(struct tool_device *d,
                     const struct dstream_targets_options *options) {
  struct dstream_loop_options loop_options = {.size = sizeof loop_options};
  d->options = options;
  d->ready = false;
  assert_int_equal(dstream_loop_new(&d->loop, &loop_options), 0);
  assert_int_equal(pthread_create(&d->thread, NULL, device_run, d), 0);
  d->running = true;
  struct timespec until = deadline();
  pthread_mutex_lock(&d->lock);
  int rc = 0;
  while (!d->ready && rc == 0)
    rc = pthread_cond_timedwait(&d->changed, &d->lock, &until);
  bool ready = d->ready;
  pthread_mutex_unlock(&d->lock);
  if (!ready)
    fail_msg("the device is not ready");
}

void tool_device_stop(struct tool_device *d) {
  if (!d->running)
    return;
  d->running = false;
  assert_int_equal(dstream_loop_post(d->loop, device_stop, d), 0);
  pthread_join(d->thread, NULL);
}

/* ---- programs ---- */

void tool_environment(const struct hub_fixture *hub) {
  char path[4096];
  const char *build = getenv("DSTREAM_BINARY_DIR");
  const char *old = getenv("PATH");
  snprintf(path, sizeof path, "%s/bin:%s", build != NULL ? build : ".",
           old != NULL ? old : "/usr/bin:/bin");
  setenv("PATH", path, 1);
  setenv("DSTREAM_CONNECTION_STRING", hub->service_string, 1);
  setenv("DSTREAM_CA_FILE", hub->ca_file, 1);
  signal(SIGPIPE, SIG_IGN);
}

int tool_shell(struct hub_output *output, const char *format, ...) {
  char line[8192];
  va_list args;
  va_start(args, format);
  int len = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  assert_true(len > 0 && (size_t)len < sizeof line);
  const char *const arguments[] = {"bash", "-c", line, NULL};
  return hub_command(output, arguments);
}

void assert_one_line(const char *err, const char *begin, const char *text) {
  const char *feed = strchr(err, '\n');
  if (strncmp(err, begin, strlen(begin)) != 0 || feed == NULL ||
      feed[1] != '\0' || strstr(err, text) == NULL)
    fail_msg("not one line \"%s... %s...\" but \"%s\"", begin, text, err);
}

static void tool_child(const char *const *arguments, int in, int out, int err) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  dup2(in, 0);
  dup2(out, 1);
  dup2(err, 2);
  union {
    const char *const *in;
    char *const *out;
  } argv = {arguments};
  execvp(arguments[0], argv.out);
  _exit(127);
}

void tool_start(struct tool *tool, const char *const *arguments) {
  int in[2];
  int out[2];
  assert_int_equal(pipe2(in, O_CLOEXEC), 0);
  assert_int_equal(pipe2(out, O_CLOEXEC), 0);
  snprintf(tool->err_path, sizeof tool->err_path, "/tmp/dstream-tool-XXXXXX");
  int err = mkostemp(tool->err_path, O_CLOEXEC);
  assert_true(err >= 0);
  pid_t parent = getpid();
  tool->pid = fork();
  assert_true(tool->pid >= 0);
  if (tool->pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
      _exit(127);
    tool_child(arguments, in[0], out[1], err);
  }
  close(in[0]);
  close(out[1]);
  close(err);
  tool->in = in[1];
  tool->out = out[0];
}

void tool_line(struct tool *tool, char *line, size_t size) {
  size_t len = 0;
  uint64_t until_ms = tool_now_ms() + TOOL_WAIT_MS;
  for (;;) {
    struct pollfd ready = {tool->out, POLLIN, 0};
    uint64_t now_ms = tool_now_ms();
    char errors[4096];
    if (now_ms > until_ms || poll(&ready, 1, (int)(until_ms - now_ms)) <= 0 ||
        read(tool->out, line + len, 1) != 1 || len + 1 == size) {
      tool_errors(tool, errors, sizeof errors);
      fail_msg("no line on stdout; stderr: %s", errors);
    }
    if (line[len] == '\n')
      break;
    len++;
  }
  line[len] = '\0';
}

void tool_errors(const struct tool *tool, char *out, size_t size) {
  FILE *file = fopen(tool->err_path, "re");
  size_t len = file == NULL ? 0 : fread(out, 1, size - 1, file);
  out[len] = '\0';
  if (file != NULL)
    fclose(file);
}

bool tool_said(const struct tool *tool, const char *text) {
  char errors[65536];
  tool_errors(tool, errors, sizeof errors);
  return strstr(errors, text) != NULL;
}

void tool_wait_said(const struct tool *tool, const char *text) {
  uint64_t until_ms = tool_now_ms() + TOOL_WAIT_MS;
  while (!tool_said(tool, text)) {
    char errors[4096];
    if (tool_now_ms() > until_ms) {
      tool_errors(tool, errors, sizeof errors);
      fail_msg("it did not say \"%s\" but: %s", text, errors);
    }
    poll(NULL, 0, 10);
  }
}

int tool_wait(struct tool *tool) {
  int status = 0;
  uint64_t until_ms = tool_now_ms() + TOOL_WAIT_MS;
  pid_t got;
  while ((got = waitpid(tool->pid, &status, WNOHANG)) == 0) {
    if (tool_now_ms() > until_ms) {
      kill(tool->pid, SIGKILL);
      fail_msg("the program does not end");
    }
    poll(NULL, 0, 5);
  }
  assert_int_equal(got, tool->pid);
  if (tool->in >= 0)
    close(tool->in);
  close(tool->out);
  unlink(tool->err_path);
  tool->pid = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int tool_end(struct tool *tool, int number) {
  kill(tool->pid, number);
  return tool_wait(tool);
}

/* ---- clients of a forward ---- */

union any_address {
  struct sockaddr any;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
  struct sockaddr_un un;
};

static socklen_t client_address(union any_address *out, const char *listening) {
  static const char prefix[] = "listening ";
  struct address address;
  if (strncmp(listening, prefix, sizeof prefix - 1) == 0)
    listening += sizeof prefix - 1;
  assert_int_equal(address_parse(&address, listening, NULL), 0);
  memset(out, 0, sizeof *out);
  if (address.is_unix) {
    out->un.sun_family = AF_UNIX;
    snprintf(out->un.sun_path, sizeof out->un.sun_path, "%.107s", address.host);
    return sizeof out->un;
  }
  if (strchr(address.host, ':') != NULL) {
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_port = htons(address.port);
    out->in6.sin6_addr = in6addr_loopback;
    return sizeof out->in6;
  }
  out->in.sin_family = AF_INET;
  out->in.sin_port = htons(address.port);
  out->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return sizeof out->in;
}

int client_connect(const char *listening) {
  union any_address address;
  socklen_t len = client_address(&address, listening);
  int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  struct timeval limit = {.tv_sec = TOOL_WAIT_MS / 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (connect(fd, &address.any, len) != 0)
    fail_msg("can't connect to %s: %s", listening, strerror(errno));
  return fd;
}

void client_send(int fd, const char *text) {
  assert_true(send_all(fd, text, strlen(text)));
}

int client_read_all(int fd, char *out, size_t size) {
  size_t len = 0;
  ssize_t n = 0;
  while (len + 1 < size && (n = recv(fd, out + len, size - 1 - len, 0)) > 0)
    len += (size_t)n;
  out[len] = '\0';
  if (n < 0 && errno != ECONNRESET)
    fail_msg("a client read: %s", strerror(errno));
  close(fd);
  return n < 0 ? -1 : (int)len;
}

void client_echo(const char *listening, const char *text) {
  char back[4096];
  int fd = client_connect(listening);
  client_send(fd, text);
  shutdown(fd, SHUT_WR);
  int len = client_read_all(fd, back, sizeof back);
  assert_int_equal(len, strlen(text));
  assert_string_equal(back, text);
}
