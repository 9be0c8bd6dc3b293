/* What a stream costs, against what people use instead, in the same run: the
 * round trip of 64 bytes against two plain TLS hops, and the bytes a second of
 * one stream against OpenSSH -R and -L with its default cipher.  Figures are
 * ratios of medians, the two sides in turn; memory is each process's peak. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include <dstream/dstream.h>

#include "integration/support_hub.h"

#define ROUNDS      15
#define ECHOES      600
#define MESSAGE     64
#define FIRSTS      61
#define BULK        (96u << 20)
#define MEMORY_KB   (32 * 1024)
#define DEADLINE_MS 60000

static struct hub_fixture hub;
static const char *self;
static pid_t children[8];
static size_t child_count;

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a;
  double y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double median(double *values, size_t count) {
  qsort(values, count, sizeof *values, compare);
  return values[count / 2];
}

/* ---- sockets ---- */

static int listen_any(uint16_t *port) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(listen(fd, 8), 0);
  getsockname(fd, (struct sockaddr *)&address, &len);
  *port = ntohs(address.sin_port);
  return fd;
}

/* A port that was free a moment ago, for programs that bind by number. */
static uint16_t free_port(void) {
  uint16_t port = 0;
  close(listen_any(&port));
  return port;
}

static int try_dial(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int one = 1;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
    return fd;
  close(fd);
  return -1;
}

/* Until somebody listens there. */
static int dial(uint16_t port) {
  double until = now_us() + DEADLINE_MS * 1e3;
  int fd = try_dial(port);
  while (fd < 0 && now_us() < until) {
    poll(NULL, 0, 5);
    fd = try_dial(port);
  }
  assert_true(fd >= 0);
  return fd;
}

static void write_all(int fd, const char *data, size_t len) {
  while (len > 0) {
    ssize_t n = write(fd, data, len);
    assert_true(n > 0);
    data += n;
    len -= (size_t)n;
  }
}

/* ---- children ---- */

static pid_t spawn(const char *const *arguments) {
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    union {
      const char *const *in;
      char *const *out;
    } cast = {.in = arguments};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
      execvp(arguments[0], cast.out);
    _exit(127);
  }
  assert_true(pid > 0);
  assert_true(child_count < sizeof children / sizeof *children);
  children[child_count++] = pid;
  return pid;
}

static void stop_children(void) {
  while (child_count > 0) {
    pid_t pid = children[--child_count];
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
  }
}

static long peak_kb(pid_t pid) {
  char path[64];
  char line[256];
  long kb = -1;
  snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
  FILE *file = fopen(path, "r");
  while (file != NULL && fgets(line, sizeof line, file) != NULL)
    if (strncmp(line, "VmHWM:", 6) == 0)
      kb = strtol(line + 6, NULL, 10);
  if (file != NULL)
    fclose(file);
  return kb;
}

/* ---- two plain TLS hops: client - relay - echo, blocking OpenSSL ---- */

static SSL *tls_accept(SSL_CTX *ctx, int listener) {
  int one = 1;
  int fd = accept(listener, NULL, NULL);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  SSL *ssl = SSL_new(ctx);
  SSL_set_fd(ssl, fd);
  return SSL_accept(ssl) == 1 ? ssl : NULL;
}

static SSL *tls_dial(SSL_CTX *ctx, uint16_t port) {
  SSL *ssl = SSL_new(ctx);
  SSL_set_fd(ssl, dial(port));
  return SSL_connect(ssl) == 1 ? ssl : NULL;
}

static SSL_CTX *server_ctx(const char *dir) {
  char cert[512];
  char key[512];
  snprintf(cert, sizeof cert, "%s/server.pem", dir);
  snprintf(key, sizeof key, "%s/server-key.pem", dir);
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  SSL_CTX_set_num_tickets(ctx, 0); /* a blocking reader would wait behind one */
  SSL_CTX_use_certificate_chain_file(ctx, cert);
  SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM);
  return ctx;
}

/* The suite that our own TLS uses, so that only the way differs. */
static SSL_CTX *client_ctx(void) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
  return ctx;
}

_Noreturn static void run_tls_echo(const char *dir, int listener) {
  SSL_CTX *ctx = server_ctx(dir);
  char buffer[16384];
  for (;;) {
    SSL *ssl = tls_accept(ctx, listener);
    int n;
    while (ssl != NULL && (n = SSL_read(ssl, buffer, sizeof buffer)) > 0)
      SSL_write(ssl, buffer, n);
    if (ssl != NULL)
      close(SSL_get_fd(ssl));
    SSL_free(ssl);
  }
}

static void relay_pair(SSL *a, SSL *b) {
  char buffer[16384];
  struct pollfd fds[2] = {{SSL_get_fd(a), POLLIN, 0},
                          {SSL_get_fd(b), POLLIN, 0}};
  SSL *ends[2] = {a, b};
  for (;;) {
    if (poll(fds, 2, -1) < 0)
      return;
    for (int i = 0; i < 2; i++) {
      if ((fds[i].revents & (POLLIN | POLLHUP)) == 0)
        continue;
      do {
        int n = SSL_read(ends[i], buffer, sizeof buffer);
        if (n <= 0 || SSL_write(ends[!i], buffer, n) <= 0)
          return;
      } while (SSL_pending(ends[i]) > 0);
    }
  }
}

_Noreturn static void run_tls_relay(const char *dir, int listener,
                                    uint16_t echo_port) {
  SSL_CTX *ctx = server_ctx(dir);
  for (;;) {
    SSL *a = tls_accept(ctx, listener);
    SSL *b = tls_dial(client_ctx(), echo_port);
    if (a != NULL && b != NULL)
      relay_pair(a, b);
    if (a != NULL)
      close(SSL_get_fd(a));
    if (b != NULL)
      close(SSL_get_fd(b));
    SSL_free(a);
    SSL_free(b);
  }
}

static double hops_round_trip(SSL *ssl) {
  static double took[ECHOES];
  char message[MESSAGE] = "x";
  for (int i = 0; i < ECHOES; i++) {
    double start = now_us();
    assert_int_equal(SSL_write(ssl, message, MESSAGE), MESSAGE);
    for (int got = 0; got < MESSAGE;) {
      int n = SSL_read(ssl, message, MESSAGE - got);
      assert_true(n > 0);
      got += n;
    }
    took[i] = now_us() - start;
  }
  return median(took, ECHOES);
}

/* ---- our device: "echo", or "sink-BYTES" which answers one byte ---- */

struct sink {
  size_t left;
};

static void device_data(dstream_stream *stream, void *user, const void *data,
                        size_t len) {
  struct sink *sink = user;
  if (sink == NULL) {
    if (dstream_stream_write(stream, data, len) != (long)len)
      dstream_stream_abort(stream); /* can't be: 64 bytes at a time */
  } else {
    sink->left -= len < sink->left ? len : sink->left;
    if (sink->left == 0)
      dstream_stream_write(stream, "", 1);
  }
  dstream_stream_consume(stream, len);
}

static void device_close(dstream_stream *stream, void *user,
                         const struct dstream_end *end) {
  (void)stream;
  (void)end;
  free(user);
}

static void device_request(dstream_device *device, void *user,
                           dstream_request *request) {
  static const struct dstream_stream_callbacks callbacks = {
      .on_data = device_data, .on_close = device_close};
  (void)device;
  (void)user;
  const char *name = dstream_request_name(request);
  struct sink *sink = NULL;
  if (strncmp(name, "sink-", 5) == 0) {
    sink = calloc(1, sizeof *sink);
    sink->left = strtoul(name + 5, NULL, 10);
  }
  dstream_request_accept(request, NULL, &callbacks, sink, NULL);
}

static void device_state(dstream_device *device, void *user,
                         enum dstream_device_state state,
                         const struct dstream_end *cause) {
  (void)device;
  (void)user;
  (void)cause;
  if (state == DSTREAM_DEVICE_READY) {
    puts("ready");
    fflush(stdout);
  }
}

static int run_device(void) {
  static const struct dstream_device_callbacks callbacks = {
      .on_state = device_state, .on_request = device_request};
  struct dstream_device_options options = {.size = sizeof options};
  dstream_loop *loop = NULL;
  dstream_device *device = NULL;
  dstream_loop_new(&loop, NULL);
  options.loop = loop;
  options.connection_string = getenv("DSTREAM_CONNECTION_STRING");
  options.tls.size = sizeof options.tls;
  options.tls.ca_file = getenv("DSTREAM_CA_FILE");
  if (dstream_device_new(&device, &options, &callbacks, NULL, NULL) != 0)
    return 1;
  dstream_device_start(device);
  return dstream_loop_run(loop) == 0 ? 0 : 1;
}

/* ---- our service ---- */

struct run {
  dstream_loop *loop;
  dstream_service *service;
  dstream_stream *stream;
  bool open;
  bool over;
  struct dstream_end end;
  size_t to_send;
  size_t got;
  double start;
  double took[ECHOES];
  int echoes;
};

static char block[65536];

static void bulk_send(struct run *run) {
  while (run->to_send > 0) {
    size_t n = run->to_send < sizeof block ? run->to_send : sizeof block;
    long sent = dstream_stream_write(run->stream, block, n);
    if (sent <= 0)
      return;
    run->to_send -= (size_t)sent;
  }
}

static void echo_send(struct run *run) {
  run->start = now_us();
  assert_int_equal(dstream_stream_write(run->stream, block, MESSAGE), MESSAGE);
}

static void service_open(dstream_stream *stream, void *user) {
  (void)stream;
  struct run *run = user;
  run->open = true;
}

static void service_writable(dstream_stream *stream, void *user) {
  (void)stream;
  bulk_send(user);
}

static void service_data(dstream_stream *stream, void *user, const void *data,
                         size_t len) {
  (void)data;
  struct run *run = user;
  dstream_stream_consume(stream, len);
  run->got += len;
  if (run->echoes < 0 || run->got % MESSAGE != 0)
    return;
  run->took[run->echoes++] = now_us() - run->start;
  if (run->echoes < ECHOES)
    echo_send(run);
}

static void service_close(dstream_stream *stream, void *user,
                          const struct dstream_end *end) {
  (void)stream;
  struct run *run = user;
  run->over = true;
  run->end = *end;
}

static void step_until(struct run *run, const bool *flag) {
  double until = now_us() + DEADLINE_MS * 1e3;
  while (!*flag && !run->over && now_us() < until)
    dstream_loop_step(run->loop, 100);
  if (run->over)
    fail_msg("the stream ended: %s", run->end.text);
  assert_true(*flag);
}

static void run_open(struct run *run, const char *name) {
  static const struct dstream_stream_callbacks callbacks = {
      .on_open = service_open,
      .on_data = service_data,
      .on_writable = service_writable,
      .on_close = service_close};
  struct dstream_service_options options = {.size = sizeof options};
  struct dstream_end error;
  memset(run, 0, sizeof *run);
  assert_int_equal(dstream_loop_new(&run->loop, NULL), 0);
  options.loop = run->loop;
  options.connection_string = hub.service_string;
  options.tls.size = sizeof options.tls;
  options.tls.ca_file = hub.ca_file;
  assert_int_equal(dstream_service_new(&run->service, &options, &error), 0);
  assert_int_equal(dstream_service_open_stream(run->service, "bench", name,
                                               NULL, &callbacks, run,
                                               &run->stream),
                   0);
  step_until(run, &run->open);
}

static void run_close(struct run *run) {
  dstream_stream_abort(run->stream);
  dstream_service_free(run->service);
  dstream_loop_free(run->loop);
}

static double stream_round_trip(struct run *run) {
  double until = now_us() + DEADLINE_MS * 1e3;
  run->echoes = 0;
  run->got = 0;
  echo_send(run);
  while (run->echoes < ECHOES && now_us() < until && !run->over)
    dstream_loop_step(run->loop, 100);
  assert_int_equal(run->echoes, ECHOES);
  return median(run->took, ECHOES);
}

static double stream_seconds(void) {
  static struct run run;
  char name[32];
  snprintf(name, sizeof name, "sink-%u", BULK);
  run_open(&run, name);
  run.echoes = -1;
  run.to_send = BULK;
  double start = now_us();
  double until = start + DEADLINE_MS * 1e3;
  bulk_send(&run);
  while (run.got == 0 && now_us() < until && !run.over)
    dstream_loop_step(run.loop, 100);
  assert_int_equal(run.got, 1);
  double took = (now_us() - start) / 1e6;
  run_close(&run);
  return took;
}

/* ---- OpenSSH -R and -L ---- */

struct ssh {
  char dir[HUB_FIXTURE_PATH + 8];
  uint16_t sshd_port;
  uint16_t far_port;
  uint16_t near_port;
  int sink; /* listener */
};

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
  chmod(path, 0600);
}

static void make_key(const char *path) {
  const char *const arguments[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N",
                                   "",           "-f", path, NULL};
  static struct hub_output output;
  assert_int_equal(hub_command(&output, arguments), 0);
}

static void start_sshd(struct ssh *ssh) {
  char path[HUB_FIXTURE_PATH + 32];
  char text[2048];
  snprintf(ssh->dir, sizeof ssh->dir, "%s/ssh", hub.directory);
  assert_int_equal(mkdir(ssh->dir, 0700), 0);
  if (geteuid() == 0) /* sshd wants its empty folder */
    mkdir("/run/sshd", 0755);
  snprintf(path, sizeof path, "%s/host", ssh->dir);
  make_key(path);
  snprintf(path, sizeof path, "%s/user", ssh->dir);
  make_key(path);
  ssh->sshd_port = free_port();
  snprintf(text, sizeof text,
           "Port %u\nListenAddress 127.0.0.1\nHostKey %s/host\n"
           "AuthorizedKeysFile %s/user.pub\nStrictModes no\nUsePAM no\n"
           "PidFile none\nLogLevel ERROR\nPermitRootLogin yes\n"
           "PasswordAuthentication no\n",
           (unsigned)ssh->sshd_port, ssh->dir, ssh->dir);
  snprintf(path, sizeof path, "%s/sshd_config", ssh->dir);
  write_file(path, text);
  const char *const arguments[] = {
      "/usr/sbin/sshd", "-D", "-e", "-f", path, NULL};
  spawn(arguments);
  close(dial(ssh->sshd_port));
}

static void start_ssh(const struct ssh *ssh, const char *flag,
                      const char *forward) {
  char port[16];
  char key[HUB_FIXTURE_PATH + 32];
  char user[128];
  snprintf(port, sizeof port, "%u", (unsigned)ssh->sshd_port);
  snprintf(key, sizeof key, "%s/user", ssh->dir);
  snprintf(user, sizeof user, "%s@127.0.0.1", getpwuid(geteuid())->pw_name);
  const char *const arguments[] = {"ssh", "-N",
                                   "-F",  "none",
                                   "-i",  key,
                                   "-p",  port,
                                   "-o",  "StrictHostKeyChecking=no",
                                   "-o",  "UserKnownHostsFile=/dev/null",
                                   "-o",  "LogLevel=ERROR",
                                   "-o",  "ExitOnForwardFailure=yes",
                                   flag,  forward,
                                   user,  NULL};
  spawn(arguments);
}

static void ssh_start(struct ssh *ssh) {
  char forward[64];
  uint16_t sink_port = 0;
  start_sshd(ssh);
  ssh->sink = listen_any(&sink_port);
  ssh->far_port = free_port();
  ssh->near_port = free_port();
  snprintf(forward, sizeof forward, "%u:127.0.0.1:%u", (unsigned)ssh->far_port,
           (unsigned)sink_port);
  start_ssh(ssh, "-R", forward);
  snprintf(forward, sizeof forward, "127.0.0.1:%u:127.0.0.1:%u",
           (unsigned)ssh->near_port, (unsigned)ssh->far_port);
  start_ssh(ssh, "-L", forward);
  close(dial(ssh->far_port));
  close(accept(ssh->sink, NULL, NULL));
  close(dial(ssh->near_port));
  close(accept(ssh->sink, NULL, NULL));
}

static void sink_process(int listener) {
  int fd = accept(listener, NULL, NULL);
  static char buffer[262144];
  size_t left = BULK;
  while (left > 0) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n <= 0)
      _exit(1);
    left -= (size_t)n;
  }
  _exit(write(fd, "", 1) == 1 ? 0 : 1);
}

static double ssh_seconds(const struct ssh *ssh) {
  char byte;
  int status = 0;
  pid_t pid = fork();
  if (pid == 0)
    sink_process(ssh->sink);
  int fd = dial(ssh->near_port);
  double start = now_us();
  for (size_t left = BULK; left > 0; left -= sizeof block)
    write_all(fd, block, sizeof block);
  assert_int_equal(read(fd, &byte, 1), 1);
  double took = (now_us() - start) / 1e6;
  close(fd);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  return took;
}

/* ---- the tests ---- */

static pid_t device_pid;

static void test_round_trip(void **state) {
  (void)state;
  uint16_t echo_port = 0;
  uint16_t relay_port = 0;
  char echo_fd[16];
  char relay_fd[16];
  char port[16];
  int echo = listen_any(&echo_port);
  int relay = listen_any(&relay_port);
  snprintf(echo_fd, sizeof echo_fd, "%d", echo);
  snprintf(relay_fd, sizeof relay_fd, "%d", relay);
  snprintf(port, sizeof port, "%u", (unsigned)echo_port);
  const char *const echo_arguments[] = {self, "tls-echo", hub.hub_dir, echo_fd,
                                        NULL};
  const char *const relay_arguments[] = {self,     "tls-relay", hub.hub_dir,
                                         relay_fd, port,        NULL};
  spawn(echo_arguments);
  spawn(relay_arguments);
  SSL_CTX *ctx = client_ctx();
  SSL *ssl = tls_dial(ctx, relay_port);
  assert_non_null(ssl);
  static struct run run;
  run_open(&run, "echo");
  double ratios[ROUNDS];
  double ours = 0;
  double plain = 0;
  for (int i = 0; i < ROUNDS; i++) {
    plain = hops_round_trip(ssl);
    ours = stream_round_trip(&run);
    ratios[i] = ours / plain;
  }
  double ratio = median(ratios, ROUNDS);
  print_message("64-byte round trip: %.0f us, two plain TLS hops: %.0f us, "
                "median ratio %.2f\n",
                ours, plain, ratio);
  run_close(&run);
  close(SSL_get_fd(ssl));
  SSL_free(ssl);
  SSL_CTX_free(ctx);
  close(echo);
  close(relay);
  assert_true(ratio <= 1.5);
}

/* ---- from asking for a stream to its first byte ---- */

static double two_handshakes(SSL_CTX *ctx) {
  double start = now_us();
  for (int i = 0; i < 2; i++) {
    SSL *ssl = tls_dial(ctx, hub.https_port);
    assert_non_null(ssl);
    assert_int_equal(SSL_version(ssl), TLS1_3_VERSION);
    assert_false(SSL_session_reused(ssl));
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
  }
  return now_us() - start;
}

struct first {
  bool got;
  bool over;
};

static void first_open(dstream_stream *stream, void *user) {
  (void)user;
  assert_int_equal(dstream_stream_write(stream, "x", 1), 1);
}

static void first_data(dstream_stream *stream, void *user, const void *data,
                       size_t len) {
  (void)data;
  struct first *first = user;
  first->got = true;
  dstream_stream_consume(stream, len);
}

static void first_close(dstream_stream *stream, void *user,
                        const struct dstream_end *end) {
  (void)stream;
  struct first *first = user;
  first->over = true;
  if (end->status != DSTREAM_OK)
    print_error("%s\n", end->text);
}

static double first_byte(dstream_loop *loop, dstream_service *service) {
  static const struct dstream_stream_callbacks callbacks = {
      .on_open = first_open, .on_data = first_data, .on_close = first_close};
  struct first first = {false, false};
  dstream_stream *stream = NULL;
  double start = now_us();
  double until = start + DEADLINE_MS * 1e3;
  assert_int_equal(dstream_service_open_stream(service, "bench", "echo", NULL,
                                               &callbacks, &first, &stream),
                   0);
  while (!first.got && !first.over && now_us() < until)
    dstream_loop_step(loop, 100);
  assert_true(first.got);
  double took = now_us() - start;
  dstream_stream_close(stream);
  while (!first.over && now_us() < until)
    dstream_loop_step(loop, 100);
  return took;
}

static void test_first_byte(void **state) {
  (void)state;
  double plain[FIRSTS];
  double ours[FIRSTS];
  struct dstream_service_options options = {.size = sizeof options};
  dstream_loop *loop = NULL;
  dstream_service *service = NULL;
  SSL_CTX *ctx = client_ctx();
  assert_int_equal(SSL_CTX_load_verify_file(ctx, hub.ca_file), 1);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  assert_int_equal(dstream_loop_new(&loop, NULL), 0);
  options.loop = loop;
  options.connection_string = hub.service_string;
  options.tls.size = sizeof options.tls;
  options.tls.ca_file = hub.ca_file;
  assert_int_equal(dstream_service_new(&service, &options, NULL), 0);
  first_byte(loop, service);
  for (int i = 0; i < FIRSTS; i++) {
    plain[i] = two_handshakes(ctx);
    ours[i] = first_byte(loop, service);
  }
  double ratio = median(ours, FIRSTS) / median(plain, FIRSTS);
  print_message("a new stream's first byte: %.0f us, two full TLS 1.3 "
                "handshakes: %.0f us, ratio %.2f\n",
                median(ours, FIRSTS), median(plain, FIRSTS), ratio);
  dstream_service_free(service);
  dstream_loop_free(loop);
  SSL_CTX_free(ctx);
  assert_true(ratio <= 2.0);
}

static void test_throughput(void **state) {
  (void)state;
  struct ssh ssh;
  double ratios[3];
  ssh_start(&ssh);
  double ours = 0;
  double theirs = 0;
  for (int i = 0; i < 3; i++) {
    theirs = ssh_seconds(&ssh);
    ours = stream_seconds();
    ratios[i] = theirs / ours;
  }
  double ratio = median(ratios, 3);
  print_message("one stream: %.0f MB/s, ssh -R + -L: %.0f MB/s, median ratio "
                "%.2f\n",
                BULK / ours / 1e6, BULK / theirs / 1e6, ratio);
  close(ssh.sink);
  assert_true(ratio >= 2.0);
}

static void test_memory(void **state) {
  (void)state;
  const struct {
    const char *name;
    pid_t pid;
  } processes[] = {{"device", device_pid},
                   {"service", getpid()},
                   {"hub", hub.pid},
                   {"broker", hub_fixture_broker(&hub)}};
  for (size_t i = 0; i < sizeof processes / sizeof *processes; i++) {
    long kb = peak_kb(processes[i].pid);
    print_message("peak memory of the %s: %ld KB\n", processes[i].name, kb);
    assert_true(kb > 0 && kb < MEMORY_KB);
  }
}

/* ---- set-up ---- */

static void start_device(void) {
  static char connection[CONN_STRING_MAX];
  char line[16] = "";
  int out[2];
  assert_int_equal(hub_fixture_add_device(&hub, "bench", connection), 0);
  setenv("DSTREAM_CONNECTION_STRING", connection, 1);
  setenv("DSTREAM_CA_FILE", hub.ca_file, 1);
  assert_int_equal(pipe(out), 0);
  int saved = dup(STDOUT_FILENO);
  dup2(out[1], STDOUT_FILENO);
  const char *const arguments[] = {self, "device", NULL};
  device_pid = spawn(arguments);
  dup2(saved, STDOUT_FILENO);
  close(saved);
  close(out[1]);
  struct pollfd ready = {out[0], POLLIN, 0};
  assert_int_equal(poll(&ready, 1, DEADLINE_MS), 1);
  assert_true(read(out[0], line, sizeof line - 1) > 0);
  close(out[0]);
}

static int group_setup(void **state) {
  (void)state;
  signal(SIGPIPE, SIG_IGN);
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  start_device();
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  stop_children();
  return hub_fixture_stop(&hub);
}

int main(int argc, char **argv) {
  self = "/proc/self/exe";
  if (argc == 2 && strcmp(argv[1], "device") == 0)
    return run_device();
  if (argc == 4 && strcmp(argv[1], "tls-echo") == 0)
    run_tls_echo(argv[2], (int)strtol(argv[3], NULL, 10));
  if (argc == 5 && strcmp(argv[1], "tls-relay") == 0)
    run_tls_relay(argv[2], (int)strtol(argv[3], NULL, 10),
                  (uint16_t)strtol(argv[4], NULL, 10));
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_first_byte),
      cmocka_unit_test(test_throughput),
      cmocka_unit_test(test_memory),
  };
  const char *choice = getenv("DSTREAM_TEST");
  if (choice != NULL)
    cmocka_set_test_filter(choice);
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
