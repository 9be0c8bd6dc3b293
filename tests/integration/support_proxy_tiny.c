#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "integration/support_proxy.h"

#define START_MS 10000

static int failure(const char *what) {
  fprintf(stderr, "tinyproxy: %s: %s\n", what, strerror(errno));
  return -1;
}

static const char *find_program(void) {
  static const char *const places[] = {
      "/usr/bin/tinyproxy", "/usr/sbin/tinyproxy", "/usr/local/bin/tinyproxy"};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    if (access(places[i], X_OK) == 0)
      return places[i];
  }
  return NULL;
}

static struct sockaddr_in loopback(uint16_t port) {
  return (struct sockaddr_in){.sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* It can't be told to take any free port: one that was free just now. */
static uint16_t free_port(void) {
  struct sockaddr_in address = loopback(0);
  socklen_t len = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 &&
            getsockname(fd, (struct sockaddr *)&address, &len) == 0;
  if (fd >= 0)
    close(fd);
  return ok ? ntohs(address.sin_port) : 0;
}

static int write_config(const struct tinyproxy *proxy, const char *user,
                        const char *password, char *path, size_t size) {
  snprintf(path, size, "%s/tinyproxy.conf", proxy->directory);
  FILE *file = fopen(path, "we");
  if (file == NULL)
    return failure(path);
  fprintf(file,
          "Port %u\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\n"
          "MaxClients 50\nLogLevel Error\nLogFile \"%s/log\"\n",
          (unsigned)proxy->port, proxy->directory);
  if (user != NULL)
    fprintf(file, "BasicAuth %s %s\n", user, password);
  return fclose(file) == 0 ? 0 : failure(path);
}

static pid_t spawn(const char *program, const char *config) {
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid != 0)
    return pid;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent)
    _exit(127);
  int null = open("/dev/null", O_RDWR);
  dup2(null, 0);
  dup2(null, 1);
  dup2(null, 2);
  execl(program, program, "-d", "-c", config, (char *)NULL);
  _exit(127);
}

static bool accepts(uint16_t port) {
  struct sockaddr_in address = loopback(port);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool ok =
      fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
  if (fd >= 0)
    close(fd);
  return ok;
}

/* It says nowhere that it is ready. */
static int wait_accepts(const struct tinyproxy *proxy) {
  for (int waited = 0; waited < START_MS; waited += 10) {
    if (accepts(proxy->port))
      return 0;
    if (waitpid(proxy->pid, NULL, WNOHANG) == proxy->pid)
      break;
    poll(NULL, 0, 10);
  }
  errno = ETIMEDOUT;
  return failure("did not start");
}

int tinyproxy_start(struct tinyproxy *proxy, const char *user,
                    const char *password) {
  char config[320];
  memset(proxy, 0, sizeof *proxy);
  const char *program = find_program();
  if (program == NULL)
    return 1;
  proxy->port = free_port();
  const char *base = getenv("TMPDIR");
  snprintf(proxy->directory, sizeof proxy->directory,
           "%.200s/dstream-tinyproxy-XXXXXX", base != NULL ? base : "/tmp");
  if (proxy->port == 0 || mkdtemp(proxy->directory) == NULL) {
    proxy->directory[0] = '\0';
    return failure("can't prepare");
  }
  snprintf(proxy->url, sizeof proxy->url, "http://%s%s%s%s127.0.0.1:%u",
           user != NULL ? user : "", user != NULL ? ":" : "",
           user != NULL ? password : "", user != NULL ? "@" : "",
           (unsigned)proxy->port);
  if (write_config(proxy, user, password, config, sizeof config) == 0)
    proxy->pid = spawn(program, config);
  if (proxy->pid > 0 && wait_accepts(proxy) == 0)
    return 0;
  tinyproxy_stop(proxy);
  return -1;
}

void tinyproxy_stop(struct tinyproxy *proxy) {
  static const char *const files[] = {"tinyproxy.conf", "log"};
  if (proxy->pid > 0) {
    kill(proxy->pid, SIGTERM);
    while (waitpid(proxy->pid, NULL, 0) < 0 && errno == EINTR) {
    }
  }
  proxy->pid = 0;
  if (proxy->directory[0] == '\0')
    return;
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char path[320];
    snprintf(path, sizeof path, "%s/%s", proxy->directory, files[i]);
    unlink(path);
  }
  rmdir(proxy->directory);
  proxy->directory[0] = '\0';
}
