/* Clients of `dstream forward` as they come in daily life, many at once, for
 * some seconds: see soak.sh.
 *
 *   soak_client SECONDS THREADS SEED NAME=PORT...
 *
 * NAME is what is behind the port: "echo" sends back what comes; "breaker"
 * resets in the middle; "refused" (nobody listens behind it), "nobody" (no such
 * name) and "nowhere" (no such device) never are; "shaky" is an echo that may
 * go at any time.  Bytes of its own making come back from an echo or something
 * is wrong: from "echo" all of them, from "shaky" the first so many.
 *
 * Prints "streams=N bytes=N failures=N"; what failed goes to stderr.  Exit
 * status 1 when something did.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define BLOCK       16384
#define WAIT_S      60
#define STALL_NS    300000000
#define BIG         (1 << 20)

enum kind { ECHO, SHAKY, BREAKER, REFUSED, NOBODY, NOWHERE, KINDS };

static const char *const names[KINDS] = {"echo",    "shaky",  "breaker",
                                         "refused", "nobody", "nowhere"};
static uint16_t ports[KINDS]; /* 0: not there */
static time_t end_s;          /* monotonic */
static atomic_ulong streams;
static atomic_ulong bytes;
static atomic_ulong failures;

struct client {
  pthread_t thread;
  uint64_t random;
  int fd;
  uint8_t out[BLOCK];
  uint8_t in[BLOCK];
};

static uint32_t next(struct client *client) {
  client->random = client->random * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(client->random >> 33);
}

static time_t now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

static void failed(enum kind kind, const char *what) {
  fprintf(stderr, "soak_client: %s: %s: %s\n", names[kind], what,
          strerror(errno));
  atomic_fetch_add(&failures, 1);
}

static void fill(uint8_t *out, uint64_t seed, size_t at, size_t len) {
  for (size_t i = 0; i < len; i++)
    out[i] = (uint8_t)(((at + i) * 2654435761u + seed) >> 13);
}

static bool open_connection(struct client *client, uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct timeval wait = {.tv_sec = WAIT_S};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (client->fd < 0)
    return false;
  setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
  return connect(client->fd, (struct sockaddr *)&address, sizeof address) == 0;
}

static void reset(const struct client *client) {
  struct linger linger = {.l_onoff = 1};
  setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/* A send that waits for who reads nothing would wait for ever: this reads no
 * more than it must, and stalls half way when asked to. */
struct talk {
  enum kind kind;
  size_t total;
  size_t sent;
  size_t received;
  uint64_t seed;
  bool stall;
};

static bool send_some(struct client *client, struct talk *talk) {
  size_t n = talk->total - talk->sent;
  if (n > BLOCK)
    n = BLOCK;
  fill(client->out, talk->seed, talk->sent, n);
  ssize_t sent = send(client->fd, client->out, n,
                      MSG_NOSIGNAL | (talk->stall ? MSG_DONTWAIT : 0));
  if (sent < 0)
    return errno == EAGAIN;
  talk->sent += (size_t)sent;
  if (talk->sent == talk->total)
    shutdown(client->fd, SHUT_WR);
  return true;
}

/* What came is what was sent; *ended at the peer's end. */
static bool receive_some(struct client *client, struct talk *talk,
                         bool *ended) {
  ssize_t n = recv(client->fd, client->in, BLOCK, 0);
  if (n < 0)
    return false;
  *ended = n == 0;
  fill(client->out, talk->seed, talk->received, (size_t)n);
  if (memcmp(client->in, client->out, (size_t)n) != 0) {
    errno = EBADMSG;
    failed(talk->kind, "bytes that nobody sent");
  }
  talk->received += (size_t)n;
  atomic_fetch_add(&bytes, (unsigned long)n);
  return true;
}

static bool converse(struct client *client, struct talk *talk) {
  static const struct timespec pause = {.tv_nsec = STALL_NS};
  bool ended = false;
  while (talk->sent < talk->total) {
    size_t before = talk->sent;
    if (!send_some(client, talk))
      return false;
    if (talk->stall && talk->sent == before) {
      nanosleep(&pause, NULL); /* all that is between here and there is full */
      talk->stall = false;
    }
    /* One block in flight for each that came back. */
    while (!talk->stall && !ended && talk->received + BIG / 4 < talk->sent)
      if (!receive_some(client, talk, &ended))
        return false;
  }
  while (!ended)
    if (!receive_some(client, talk, &ended))
      return false;
  return true;
}

static void play_echo(struct client *client, enum kind kind) {
  struct talk talk = {.kind = kind, .total = 1 + next(client) % BLOCK};
  talk.seed = next(client);
  unsigned luck = next(client) % 20;
  if (luck == 0)
    talk.total = BIG + next(client) % BIG;
  talk.stall = luck == 1;
  if (talk.stall)
    talk.total = 8 * BIG;
  errno = 0;
  bool all = converse(client, &talk) && talk.received == talk.total;
  if (!all && kind == ECHO)
    failed(kind, "not all came back");
  else if (!all && errno == EAGAIN)
    failed(kind, "nothing came, and no end");
}

/* Gone in the middle: a reset, or an end without reading. */
static void play_quitter(struct client *client) {
  struct talk talk = {.total = BIG, .seed = 7};
  bool ended = false;
  size_t enough = 1 + next(client) % (BIG / 8);
  while (talk.sent < enough && send_some(client, &talk))
    continue;
  if (next(client) % 2 == 0)
    receive_some(client, &talk, &ended);
  if (next(client) % 4 != 0)
    reset(client);
}

static void play_end(struct client *client, enum kind kind) {
  ssize_t n;
  size_t total = 0;
  if (send(client->fd, "hello", 5, MSG_NOSIGNAL) != 5)
    return; /* reset already */
  while ((n = recv(client->fd, client->in, BLOCK, 0)) > 0)
    total += (size_t)n;
  if (n == 0)
    failed(kind, "an end and no reset");
  else if (errno == EAGAIN)
    failed(kind, "neither an end nor a reset");
  if (kind != BREAKER && total > 0)
    failed(kind, "bytes from nowhere");
  atomic_fetch_add(&bytes, total);
}

static enum kind choose(struct client *client) {
  static const unsigned char chances[] = {
      ECHO,    ECHO,    ECHO,    ECHO,    ECHO,   ECHO,   ECHO,
      ECHO,    SHAKY,   SHAKY,   SHAKY,   SHAKY,  SHAKY,  BREAKER,
      BREAKER, REFUSED, REFUSED, REFUSED, NOBODY, NOWHERE};
  return (enum kind)chances[next(client) % sizeof chances];
}

static void *run(void *arg) {
  struct client *client = arg;
  while (now_s() < end_s && atomic_load(&failures) < 20) {
    enum kind kind = choose(client);
    if (ports[kind] == 0)
      continue;
    atomic_fetch_add(&streams, 1);
    if (!open_connection(client, ports[kind]))
      failed(kind, "connect");
    else if (kind > SHAKY)
      play_end(client, kind);
    else if (next(client) % 5 == 0)
      play_quitter(client);
    else
      play_echo(client, kind);
    close(client->fd);
  }
  return NULL;
}

static bool read_port(const char *argument) {
  for (int i = 0; i < KINDS; i++) {
    size_t len = strlen(names[i]);
    if (strncmp(argument, names[i], len) == 0 && argument[len] == '=') {
      ports[i] = (uint16_t)strtoul(argument + len + 1, NULL, 10);
      return ports[i] != 0;
    }
  }
  return false;
}

int main(int argc, char **argv) {
  static struct client clients[THREADS_MAX];
  unsigned long count = argc > 4 ? strtoul(argv[2], NULL, 10) : 0;
  for (int i = 4; i < argc; i++)
    if (!read_port(argv[i]))
      count = 0;
  if (count == 0 || count > THREADS_MAX) {
    fprintf(stderr, "soak_client: SECONDS THREADS SEED NAME=PORT...\n");
    return 2;
  }
  end_s = now_s() + (time_t)strtoul(argv[1], NULL, 10);
  for (unsigned long i = 0; i < count; i++) {
    clients[i].random = (strtoull(argv[3], NULL, 10) << 8) + i;
    if (pthread_create(&clients[i].thread, NULL, run, &clients[i]) != 0)
      return 2;
  }
  for (unsigned long i = 0; i < count; i++)
    pthread_join(clients[i].thread, NULL);
  printf("streams=%lu bytes=%lu failures=%lu\n", atomic_load(&streams),
         atomic_load(&bytes), atomic_load(&failures));
  return atomic_load(&failures) == 0 ? 0 : 1;
}
