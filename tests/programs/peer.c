/* TCP peers that behave well or badly, as asked; threads and blocking calls,
 * so that nothing stands between the test and what the system says: a reset is
 * told from an end.
 *
 *   server [OPTION]...          prints "listening PORT"; serves until killed
 *   client PORT [OPTION]...     one connection; ends with it
 *   many PORT N [OPTION]...     N connections at once that stay; prints "up"
 *                               when each has got its first byte
 *
 * --send FILE           send it, then end this direction
 * --endless             send for ever
 * --echo                send back what comes
 * --greet               (many) send a line first
 * --reset-after BYTES   reset the connection once so many were sent
 * --read-after MS       read nothing for so long
 * --save FILE           keep what came
 * --answer              when the peer has ended its direction, send the count
 *                       and hash of what came, then end
 * --port PORT           (server) listen there
 * --quiet               (server) say nothing of connections
 *
 * Each connection that is over is one line, {"received", "sent", "sha256",
 * "how"}; how: "end", "reset", "reset by this side", or an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK     65536
#define MANY_MAX  4096
#define HASH_SIZE 65

static struct {
  const char *send;
  const char *save;
  bool endless;
  bool echo;
  bool greet;
  bool answer;
  bool quiet;
  uint64_t reset_after; /* 0: never */
  unsigned read_after_ms;
  uint16_t port;
} options;

struct connection {
  int fd;
  uint64_t received;
  uint64_t sent;
  int read_error; /* 0: the peer ended its direction */
  int write_error;
  bool reset; /* by this side */
};

static void die(const char *what) {
  fprintf(stderr, "peer: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* ---- one connection ---- */

static void set_nodelay(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void wait_ms(unsigned ms) {
  const struct timespec wait = {(time_t)(ms / 1000),
                                (long)(ms % 1000) * 1000000};
  nanosleep(&wait, NULL);
}

/* Until the peer's system has all that was sent: a reset takes the rest back.
 */
static void wait_delivered(int fd) {
  int left = 0;
  for (int i = 0; i < 20000; i++) {
    if (ioctl(fd, TIOCOUTQ, &left) != 0 || left == 0)
      return;
    wait_ms(1);
  }
}

/* Works while another thread reads. */
static void reset(struct connection *c) {
  const struct linger now = {1, 0};
  const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
  c->reset = true;
  setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  connect(c->fd, &nowhere, sizeof nowhere);
}

/* False: no more. */
static bool put(struct connection *c, const void *data, size_t len) {
  const char *from = data;
  uint64_t left = options.reset_after - c->sent;
  if (options.reset_after != 0 && len > left)
    len = (size_t)left;
  while (len > 0) {
    ssize_t n = send(c->fd, from, len, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0) {
      c->write_error = errno;
      return false;
    }
    from += n;
    len -= (size_t)n;
    c->sent += (uint64_t)n;
  }
  if (options.reset_after != 0 && c->sent == options.reset_after) {
    wait_delivered(c->fd);
    reset(c);
    return false;
  }
  return true;
}

static void *send_all(void *user) {
  struct connection *c = user;
  static _Thread_local char block[BLOCK];
  int file = options.endless ? -1 : open(options.send, O_RDONLY | O_CLOEXEC);
  if (!options.endless && file < 0)
    die(options.send);
  ssize_t n = sizeof block;
  while (options.endless || (n = read(file, block, sizeof block)) > 0)
    if (!put(c, block, (size_t)n))
      break;
  if (file >= 0)
    close(file);
  if (!c->reset && c->write_error == 0)
    shutdown(c->fd, SHUT_WR);
  return NULL;
}

static void receive_all(struct connection *c, EVP_MD_CTX *hash, FILE *save) {
  static _Thread_local char block[BLOCK];
  if (options.read_after_ms != 0)
    wait_ms(options.read_after_ms);
  for (;;) {
    ssize_t n = recv(c->fd, block, sizeof block, 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) {
      c->read_error = n < 0 ? errno : 0;
      return;
    }
    c->received += (uint64_t)n;
    EVP_DigestUpdate(hash, block, (size_t)n);
    if (save != NULL) {
      fwrite(block, 1, (size_t)n, save);
      fflush(save);
    }
    if (options.echo && c->write_error == 0)
      put(c, block, (size_t)n);
  }
}

static void finish_hash(EVP_MD_CTX *hash, char text[HASH_SIZE]) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned len = 0;
  EVP_DigestFinal_ex(hash, digest, &len);
  for (unsigned i = 0; i < len; i++)
    snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

static const char *how(const struct connection *c) {
  int error = c->read_error != 0 ? c->read_error : c->write_error;
  if (c->reset)
    return "reset by this side";
  if (error == 0)
    return "end";
  return error == ECONNRESET || error == EPIPE ? "reset" : strerror(error);
}

static void serve(struct connection *c) {
  EVP_MD_CTX *hash = EVP_MD_CTX_new();
  FILE *save = options.save == NULL ? NULL : fopen(options.save, "w");
  pthread_t sender;
  bool sends = options.send != NULL || options.endless;
  char text[HASH_SIZE] = "";
  if (hash == NULL || (options.save != NULL && save == NULL))
    die("can't keep what comes");
  EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
  set_nodelay(c->fd);
  if (sends && pthread_create(&sender, NULL, send_all, c) != 0)
    die("no thread");
  receive_all(c, hash, save);
  finish_hash(hash, text);
  EVP_MD_CTX_free(hash);
  if (sends) {
    pthread_join(sender, NULL);
  } else if (c->read_error == 0) {
    char answer[128];
    int len = snprintf(answer, sizeof answer, "%llu %s\n",
                       (unsigned long long)c->received, text);
    if (options.answer)
      put(c, answer, (size_t)len);
  }
  if (save != NULL)
    fclose(save);
  close(c->fd);
  if (!options.quiet)
    printf("{\"received\":%llu,\"sent\":%llu,\"sha256\":\"%s\",\"how\":\"%s\"}"
           "\n",
           (unsigned long long)c->received, (unsigned long long)c->sent, text,
           how(c));
  fflush(stdout);
}

/* ---- server, client, many ---- */

static void *serve_thread(void *user) {
  struct connection c = {.fd = (int)(intptr_t)user};
  serve(&c);
  return NULL;
}

_Noreturn static void run_server(void) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons(options.port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  int one = 1;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
      listen(listener, 1024) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &len) != 0)
    die("can't listen");
  printf("listening %u\n", (unsigned)ntohs(address.sin_port));
  fflush(stdout);
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&detached, 262144);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    pthread_t thread;
    if (fd < 0)
      continue;
    if (pthread_create(&thread, &detached, serve_thread,
                       (void *)(intptr_t)fd) != 0)
      die("no thread");
  }
}

static int dial(uint16_t port) {
  const struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons(port),
                                      .sin_addr.s_addr =
                                          htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    die("no socket");
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
    return fd;
  close(fd);
  return -1;
}

static void run_client(uint16_t port) {
  struct connection c = {.fd = dial(port)};
  if (c.fd >= 0)
    serve(&c);
  else
    printf("{\"received\":0,\"sent\":0,\"sha256\":\"\",\"how\":\"%s\"}\n",
           strerror(errno));
}

_Noreturn static void run_many(uint16_t port, unsigned count) {
  static int fds[MANY_MAX];
  char byte;
  for (unsigned i = 0; i < count; i++) {
    fds[i] = dial(port);
    if (fds[i] < 0)
      die("can't connect");
    if (options.greet && send(fds[i], "hello\n", 6, MSG_NOSIGNAL) != 6)
      die("can't send");
  }
  for (unsigned i = 0; i < count; i++)
    if (recv(fds[i], &byte, 1, 0) != 1)
      die("no first byte");
  puts("up");
  fflush(stdout);
  for (;;)
    pause();
}

/* ---- arguments ---- */

static uint64_t number(const char *text) {
  char *end = NULL;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (errno != 0 || *text < '0' || *text > '9' || *end != '\0') {
    fprintf(stderr, "peer: \"%s\" is no number\n", text);
    exit(2);
  }
  return value;
}

static const struct option names[] = {
    {"send", required_argument, NULL, 's'},
    {"save", required_argument, NULL, 'k'},
    {"reset-after", required_argument, NULL, 'r'},
    {"read-after", required_argument, NULL, 'w'},
    {"port", required_argument, NULL, 'p'},
    {"endless", no_argument, NULL, 'e'},
    {"echo", no_argument, NULL, 'b'},
    {"greet", no_argument, NULL, 'g'},
    {"answer", no_argument, NULL, 'a'},
    {"quiet", no_argument, NULL, 'q'},
    {NULL, 0, NULL, 0}};

static bool take_value(int option) {
  switch (option) {
  case 's':
    options.send = optarg;
    return true;
  case 'k':
    options.save = optarg;
    return true;
  case 'r':
    options.reset_after = number(optarg);
    return true;
  case 'w':
    options.read_after_ms = (unsigned)number(optarg);
    return true;
  case 'p':
    options.port = (uint16_t)number(optarg);
    return true;
  default:
    return false;
  }
}

static void take(int option) {
  if (take_value(option))
    return;
  switch (option) {
  case 'e':
    options.endless = true;
    break;
  case 'b':
    options.echo = true;
    break;
  case 'g':
    options.greet = true;
    break;
  case 'a':
    options.answer = true;
    break;
  case 'q':
    options.quiet = true;
    break;
  default:
    exit(2);
  }
}

int main(int argc, char **argv) {
  int option;
  while ((option = getopt_long(argc, argv, "", names, NULL)) != -1)
    take(option);
  argv += optind;
  argc -= optind;
  if (argc == 1 && strcmp(argv[0], "server") == 0)
    run_server();
  if (argc == 2 && strcmp(argv[0], "client") == 0) {
    run_client((uint16_t)number(argv[1]));
    return 0;
  }
  if (argc == 3 && strcmp(argv[0], "many") == 0 && number(argv[2]) <= MANY_MAX)
    run_many((uint16_t)number(argv[1]), (unsigned)number(argv[2]));
  fprintf(stderr, "peer: server, client PORT or many PORT N\n");
  return 2;
}
