#include "support_device.h"

#include <errno.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_FILTER "$iothub/streams/res/#"
#define READY_MS      10000
#define TUNNELS_MAX   32

static int complain(const char *what) {
  fprintf(stderr, "device fixture: %s: %s\n", what, strerror(errno));
  return -1;
}

static void pause_ms(int ms) {
  poll(NULL, 0, ms);
}

/* ---- ports ---- */

static int listen_on(uint16_t *port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof address;
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 ||
      listen(fd, 16) != 0 ||
      getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
    if (fd >= 0)
      close(fd);
    return -1;
  }
  *port = ntohs(address.sin_port);
  return fd;
}

uint16_t unused_port(void) {
  uint16_t port = 0;
  int fd = listen_on(&port);
  if (fd >= 0)
    close(fd);
  return port;
}

int silent_port_open(struct silent_port *silent) {
  silent->fd = listen_on(&silent->port);
  return silent->fd < 0 ? complain("no port") : 0;
}

void silent_port_close(struct silent_port *silent) {
  if (silent->fd >= 0)
    close(silent->fd);
  silent->fd = -1;
}

/* ---- broker ---- */

static const char certificates[] =
    "set -e; cd \"$0\"; exec >/dev/null 2>&1\n"
    "ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n"
    "openssl req -x509 $ec -keyout ca.key -out ca.pem -subj /CN=ca -days 2\n"
    "openssl req -x509 $ec -keyout other.key -out other.pem -subj /CN=o -days "
    "2\n"
    "sign() {\n"
    "  openssl req $ec -keyout $1.key -out $1.csr -subj /CN=$1\n"
    "  echo \"subjectAltName=$2\" >$1.ext\n"
    "  openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial "
    "-days 2 -extfile $1.ext -out $1.pem\n"
    "}\n"
    "sign server DNS:localhost,IP:127.0.0.1\n"
    "sign device DNS:device\n";

static int run_shell(const char *script, const char *argument) {
  pid_t pid = fork();
  if (pid == 0) {
    execl("/bin/sh", "sh", "-c", script, argument, (char *)NULL);
    _exit(127);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
    return complain("openssl");
  return 0;
}

static void write_listener(FILE *file, uint16_t port, const char *address,
                           const char *dir, const char *more) {
  fprintf(file, "listener %u %s\n", (unsigned)port, address);
  if (dir != NULL)
    fprintf(file, "certfile %s/server.pem\nkeyfile %s/server.key\n", dir, dir);
  fprintf(file, "%s\n", more);
}

static int write_config(struct test_broker *b) {
  char path[128];
  snprintf(path, sizeof path, "%s/mosquitto.conf", b->dir);
  FILE *file = fopen(path, "we");
  struct passwd *user = getpwuid(getuid());
  if (file == NULL || user == NULL)
    return complain(path);
  char certificate[200];
  snprintf(certificate, sizeof certificate,
           "allow_anonymous true\ncafile %s/ca.pem\nrequire_certificate true",
           b->dir);
  fprintf(file, "per_listener_settings true\nuser %s\n", user->pw_name);
  write_listener(file, b->tls_port, "127.0.0.1", b->dir,
                 "allow_anonymous true");
  write_listener(file, b->other_name_port, "127.0.0.2", b->dir,
                 "allow_anonymous true");
  write_listener(file, b->websocket_port, "127.0.0.1", b->dir,
                 "protocol websockets\nallow_anonymous true");
  write_listener(file, b->certificate_port, "127.0.0.1", b->dir, certificate);
  write_listener(file, b->closed_port, "127.0.0.1", b->dir,
                 "allow_anonymous false");
  write_listener(file, b->plain_port, "127.0.0.1", NULL,
                 "allow_anonymous true");
  return fclose(file) == 0 ? 0 : complain(path);
}

static void on_message(struct mosquitto *peer, void *user,
                       const struct mosquitto_message *message) {
  (void)peer;
  struct test_broker *b = user;
  size_t len = strlen(b->answers);
  snprintf(b->answers + len, sizeof b->answers - len, "\n%s", message->topic);
}

static void on_subscribed(struct mosquitto *peer, void *user, int id, int count,
                          const int *granted) {
  (void)peer, (void)id, (void)count, (void)granted;
  struct test_broker *b = user;
  snprintf(b->answers, sizeof b->answers, "subscribed");
}

static void drop_peer(struct test_broker *b) {
  if (b->peer != NULL)
    mosquitto_destroy(b->peer);
  b->peer = NULL;
}

static int connect_peer(struct test_broker *b) {
  drop_peer(b);
  b->answers[0] = '\0';
  b->peer = mosquitto_new("hub", true, b);
  if (b->peer == NULL)
    return complain("mosquitto_new");
  mosquitto_message_callback_set(b->peer, on_message);
  mosquitto_subscribe_callback_set(b->peer, on_subscribed);
  for (int waited = 0; waited < READY_MS; waited += 20) {
    if (mosquitto_connect(b->peer, "127.0.0.1", b->plain_port, 60) ==
        MOSQ_ERR_SUCCESS)
      break;
    pause_ms(20);
  }
  mosquitto_subscribe(b->peer, NULL, ANSWER_FILTER, 0);
  for (int waited = 0; waited < READY_MS; waited += 20) {
    mosquitto_loop(b->peer, 20, 1);
    if (strcmp(b->answers, "subscribed") == 0) {
      b->answers[0] = '\0';
      return 0;
    }
  }
  errno = ETIMEDOUT;
  return complain("the broker is not up");
}

int test_broker_run(struct test_broker *b) {
  char path[128];
  char log[128];
  snprintf(path, sizeof path, "%s/mosquitto.conf", b->dir);
  snprintf(log, sizeof log, "%s/log", b->dir);
  const char *program = access("/usr/sbin/mosquitto", X_OK) == 0
                            ? "/usr/sbin/mosquitto"
                            : "mosquitto";
  b->pid = fork();
  if (b->pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    execlp(program, "mosquitto", "-c", path, (char *)NULL);
    _exit(127);
  }
  return b->pid < 0 ? complain("fork") : connect_peer(b);
}

void test_broker_kill(struct test_broker *b) {
  drop_peer(b);
  if (b->pid > 0) {
    kill(b->pid, SIGKILL);
    waitpid(b->pid, NULL, 0);
  }
  b->pid = 0;
}

int test_broker_start(struct test_broker *b) {
  memset(b, 0, sizeof *b);
  snprintf(b->dir, sizeof b->dir, "/tmp/dstream-device-XXXXXX");
  if (mkdtemp(b->dir) == NULL)
    return complain(b->dir);
  mosquitto_lib_init();
  uint16_t *ports[] = {&b->tls_port,       &b->other_name_port,
                       &b->websocket_port, &b->certificate_port,
                       &b->closed_port,    &b->plain_port};
  int held[6];
  for (int i = 0; i < 6; i++)
    held[i] = listen_on(ports[i]); /* all at once: no port twice */
  for (int i = 0; i < 6; i++)
    if (held[i] >= 0)
      close(held[i]);
  if (run_shell(certificates, b->dir) != 0 || write_config(b) != 0)
    return -1;
  return test_broker_run(b);
}

void test_broker_stop(struct test_broker *b) {
  test_broker_kill(b);
  mosquitto_lib_cleanup();
  if (b->dir[0] != '\0')
    run_shell("rm -rf \"$0\"", b->dir);
  b->dir[0] = '\0';
}

int test_broker_publish(struct test_broker *b, const char *topic) {
  return mosquitto_publish(b->peer, NULL, topic, 0, NULL, 0, false) ==
                 MOSQ_ERR_SUCCESS
             ? 0
             : -1;
}

void test_broker_step(struct test_broker *b) {
  if (b->peer != NULL)
    mosquitto_loop(b->peer, 0, 1);
}

/* ---- proxy ---- */

struct tunnel {
  int fd[2];
};

static bool pump(int from, int to) {
  char buffer[16384];
  ssize_t n = recv(from, buffer, sizeof buffer, 0);
  if (n <= 0)
    return false;
  for (ssize_t at = 0; at < n;) {
    ssize_t sent = send(to, buffer + at, (size_t)(n - at), MSG_NOSIGNAL);
    if (sent <= 0)
      return false;
    at += sent;
  }
  return true;
}

static int read_head(int fd, char *head, size_t size) {
  size_t len = 0;
  while (len + 1 < size) {
    ssize_t n = recv(fd, head + len, 1, 0);
    if (n <= 0)
      return -1;
    len++;
    head[len] = '\0';
    if (strstr(head, "\r\n\r\n") != NULL)
      return 0;
  }
  return -1;
}

static int dial(const char *head) {
  char host[64];
  unsigned port = 0;
  if (sscanf(head, "CONNECT %63[^:]:%u HTTP/1.1\r\n", host, &port) != 2)
    return -1;
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((uint16_t)port)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

static void answer(int fd, const char *text) {
  if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
    complain("proxy");
}

/* True: the tunnel is made. */
static bool tunnel_open(struct test_proxy *proxy, struct tunnel *t) {
  char head[2048];
  t->fd[0] = accept(proxy->fd, NULL, NULL);
  t->fd[1] = -1;
  if (t->fd[0] < 0)
    return false;
  if (read_head(t->fd[0], head, sizeof head) == 0) {
    if (proxy->authorization != NULL &&
        strstr(head, proxy->authorization) == NULL) {
      atomic_fetch_add(&proxy->refusals, 1);
      answer(t->fd[0], "HTTP/1.1 407 Proxy Authentication Required\r\n"
                       "Content-Length: 0\r\n\r\n");
    } else {
      t->fd[1] = dial(head);
    }
  }
  if (t->fd[1] < 0) {
    close(t->fd[0]);
    return false;
  }
  answer(t->fd[0], "HTTP/1.1 200 Connection established\r\n\r\n");
  atomic_fetch_add(&proxy->tunnels, 1);
  return true;
}

static void *run_proxy(void *arg) {
  struct test_proxy *proxy = arg;
  struct tunnel tunnels[TUNNELS_MAX];
  int count = 0;
  while (!atomic_load(&proxy->stop)) {
    struct pollfd fds[1 + 2 * TUNNELS_MAX] = {{proxy->fd, POLLIN, 0}};
    for (int i = 0; i < 2 * count; i++)
      fds[1 + i] = (struct pollfd){tunnels[i / 2].fd[i % 2], POLLIN, 0};
    poll(fds, 1 + 2 * (nfds_t)count, 50);
    for (int i = count - 1; i >= 0; i--) {
      struct tunnel *t = &tunnels[i];
      bool alive = true;
      for (int side = 0; side < 2 && alive; side++)
        if (fds[1 + 2 * i + side].revents != 0)
          alive = pump(t->fd[side], t->fd[1 - side]);
      if (!alive) {
        close(t->fd[0]);
        close(t->fd[1]);
        *t = tunnels[--count];
      }
    }
    if ((fds[0].revents & POLLIN) && count < TUNNELS_MAX &&
        tunnel_open(proxy, &tunnels[count]))
      count++;
  }
  while (count > 0) {
    count--;
    close(tunnels[count].fd[0]);
    close(tunnels[count].fd[1]);
  }
  return NULL;
}

int test_proxy_start(struct test_proxy *proxy, const char *authorization) {
  proxy->authorization = authorization;
  atomic_store(&proxy->tunnels, 0);
  atomic_store(&proxy->refusals, 0);
  atomic_store(&proxy->stop, false);
  proxy->fd = listen_on(&proxy->port);
  if (proxy->fd < 0 ||
      pthread_create(&proxy->thread, NULL, run_proxy, proxy) != 0)
    return complain("proxy");
  return 0;
}

void test_proxy_stop(struct test_proxy *proxy) {
  atomic_store(&proxy->stop, true);
  pthread_join(proxy->thread, NULL);
  close(proxy->fd);
}
