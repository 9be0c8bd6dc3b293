#include "hub/broker_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <dstream/status.h>

extern char **environ;

/* Between fork and exec only async-signal-safe calls are allowed. */
static void say(const char *text) {
  ssize_t n = write(STDERR_FILENO, text, strlen(text));
  (void)n;
}

static void reset_signals(void) {
  sigset_t none;
  sigemptyset(&none);
  for (int sig = 1; sig < NSIG; sig++)
    signal(sig, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

/* One descriptor for each device. */
static void raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

static void close_others(void) {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, 3u, ~0u, 0u) == 0)
    return;
#endif
  for (int fd = 3; fd < 1024; fd++)
    close(fd);
}

static void run_child(const char **argv, const char *directory, int output,
                      pid_t parent) {
  /* execve takes its arguments as not const, for history's sake only. */
  union {
    const char **from;
    char *const *to;
  } args = {argv};
  int input = open("/dev/null", O_RDONLY);
  if (input < 0 || dup2(input, STDIN_FILENO) < 0 ||
      dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
    _exit(126);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  /* The parent may have died before the line above. */
  if (getppid() != parent)
    _exit(126);
  close_others();
  reset_signals();
  raise_descriptor_limit();
  setpgid(0, 0); /* an interrupt from the terminal is for the hub alone */
  if (chdir(directory) != 0) {
    say("Error: the hub's folder can't be entered\n");
    _exit(126);
  }
  execve(argv[0], args.to, environ);
  say("Error: ");
  say(argv[0]);
  say(" can't be executed\n");
  _exit(127);
}

int child_start(const char *program, const char *config, const char *directory,
                pid_t *pid, int *output) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    return DSTREAM_ESYSTEM;
  const char *argv[] = {program, "-c", config, NULL};
  pid_t parent = getpid();
  pid_t child = fork();
  if (child == 0)
    run_child(argv, directory, ends[1], parent);
  int error = errno;
  close(ends[1]);
  if (child < 0) {
    close(ends[0]);
    errno = error;
    return DSTREAM_ESYSTEM;
  }
  *pid = child;
  *output = ends[0];
  return DSTREAM_OK;
}

bool child_reap(pid_t pid, int *wait_status) {
  pid_t got = waitpid(pid, wait_status, WNOHANG);
  if (got == pid)
    return true;
  if (got < 0 && errno == ECHILD) {
    *wait_status = 0;
    return true;
  }
  return false;
}

void child_stop(pid_t pid, int grace_ms) {
  static const struct timespec pause = {.tv_nsec = 5000000};
  int wait_status = 0;
  kill(pid, SIGTERM);
  for (int waited = 0; waited < grace_ms; waited += 5) {
    if (child_reap(pid, &wait_status))
      return;
    nanosleep(&pause, NULL);
  }
  kill(pid, SIGKILL);
  while (waitpid(pid, &wait_status, 0) < 0 && errno == EINTR)
    continue;
}
