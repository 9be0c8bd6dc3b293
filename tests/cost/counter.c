/* A library to be preloaded: counts what a process asks of the system, of the
 * allocator and of OpenSSL.  See cost.h. */
#include "cost/cost.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

/* Seen by every library of the process. */
#define INSTEAD __attribute__((visibility("default")))
/* Whoever called the function that this stands in. */
#define CALLER ((uintptr_t)__builtin_return_address(0))
#define RANGES 2

static struct cost_page *page; /* NULL: this process is not counted */
static struct {
  uintptr_t begin;
  uintptr_t end;
} openssl[RANGES];
static size_t openssl_count;

enum whose { UNKNOWN, MAIN, OTHER };
static _Thread_local enum whose whose;

static void count(enum cost_kind kind, unsigned long long n) {
  if (page == NULL)
    return;
  if (whose == UNKNOWN)
    whose = gettid() == getpid() ? MAIN : OTHER;
  atomic_ullong *counter =
      whose == MAIN ? &page->main[kind] : &page->others[kind];
  atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static bool by_openssl(uintptr_t caller) {
  for (size_t i = 0; i < openssl_count; i++)
    if (caller >= openssl[i].begin && caller < openssl[i].end)
      return true;
  return false;
}

/* ---- who is who ---- */

static int note_library(struct dl_phdr_info *info, size_t size, void *user) {
  (void)size;
  (void)user;
  if (openssl_count == RANGES ||
      (strstr(info->dlpi_name, "libcrypto") == NULL &&
       strstr(info->dlpi_name, "libssl") == NULL))
    return 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *part = &info->dlpi_phdr[i];
    if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0) {
      openssl[openssl_count].begin = info->dlpi_addr + part->p_vaddr;
      openssl[openssl_count].end = openssl[openssl_count].begin + part->p_memsz;
      openssl_count++;
      return 0;
    }
  }
  return 0;
}

__attribute__((constructor)) static void begin(void) {
  const char *program = getenv("DSTREAM_COST_PROGRAM");
  const char *path = getenv("DSTREAM_COST_FILE");
  if (program == NULL || path == NULL ||
      strcmp(program, program_invocation_short_name) != 0)
    return;
  dl_iterate_phdr(note_library, NULL);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return;
  void *mapped =
      mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (mapped != MAP_FAILED)
    page = mapped;
}

/* The function that the caller would have got: *known is its address once it
 * was asked for. */
static void *next_function(void *known, const char *name) {
  return known != NULL ? known : dlsym(RTLD_NEXT, name);
}

/* Defines next_NAME(), which returns it. */
#define NEXT(result, name, ...)                                                \
  typedef result (*name##_fn)(__VA_ARGS__);                                    \
  static name##_fn next_##name(void) {                                         \
    static void *known;                                                        \
    union {                                                                    \
      void *object;                                                            \
      name##_fn function;                                                      \
    } cast;                                                                    \
    cast.object = known = next_function(known, #name);                         \
    return cast.function;                                                      \
  }

/* ---- system calls ---- */

/* Counts and passes on: what it returns, counted as what, its parameters in
 * brackets, the arguments in brackets. */
#define PASS(result, kind, name, parameters, arguments)                        \
  INSTEAD result name parameters;                                              \
  INSTEAD result name parameters {                                             \
    count(kind, 1);                                                            \
    return next_##name() arguments;                                            \
  }

NEXT(ssize_t, recv, int, void *, size_t, int)
PASS(ssize_t, COST_RECV, recv, (int fd, void *to, size_t len, int flags),
     (fd, to, len, flags))
NEXT(ssize_t, __recv_chk, int, void *, size_t, size_t, int)
PASS(ssize_t, COST_RECV, __recv_chk,
     (int fd, void *to, size_t len, size_t size, int flags),
     (fd, to, len, size, flags))
NEXT(ssize_t, recvmsg, int, struct msghdr *, int)
PASS(ssize_t, COST_RECV, recvmsg, (int fd, struct msghdr *message, int flags),
     (fd, message, flags))
NEXT(ssize_t, send, int, const void *, size_t, int)
PASS(ssize_t, COST_SEND, send,
     (int fd, const void *from, size_t len, int flags), (fd, from, len, flags))
NEXT(ssize_t, sendmsg, int, const struct msghdr *, int)
PASS(ssize_t, COST_SEND, sendmsg,
     (int fd, const struct msghdr *message, int flags), (fd, message, flags))
NEXT(ssize_t, read, int, void *, size_t)
PASS(ssize_t, COST_READ, read, (int fd, void *to, size_t len), (fd, to, len))
NEXT(ssize_t, __read_chk, int, void *, size_t, size_t)
PASS(ssize_t, COST_READ, __read_chk,
     (int fd, void *to, size_t len, size_t size), (fd, to, len, size))
NEXT(ssize_t, write, int, const void *, size_t)
PASS(ssize_t, COST_WRITE, write, (int fd, const void *from, size_t len),
     (fd, from, len))
NEXT(ssize_t, writev, int, const struct iovec *, int)
PASS(ssize_t, COST_WRITE, writev, (int fd, const struct iovec *parts, int n),
     (fd, parts, n))
NEXT(int, epoll_wait, int, struct epoll_event *, int, int)
PASS(int, COST_WAIT, epoll_wait,
     (int fd, struct epoll_event *events, int most, int timeout),
     (fd, events, most, timeout))
NEXT(int, epoll_pwait, int, struct epoll_event *, int, int, const sigset_t *)
PASS(int, COST_WAIT, epoll_pwait,
     (int fd, struct epoll_event *events, int most, int timeout,
      const sigset_t *mask),
     (fd, events, most, timeout, mask))
NEXT(int, poll, struct pollfd *, nfds_t, int)
PASS(int, COST_WAIT, poll, (struct pollfd * fds, nfds_t n, int timeout),
     (fds, n, timeout))
NEXT(int, epoll_ctl, int, int, int, struct epoll_event *)
PASS(int, COST_CTL, epoll_ctl,
     (int fd, int what, int of, struct epoll_event *event),
     (fd, what, of, event))
NEXT(int, getsockopt, int, int, int, void *, socklen_t *)
PASS(int, COST_OTHER, getsockopt,
     (int fd, int level, int name, void *value, socklen_t *len),
     (fd, level, name, value, len))
NEXT(int, setsockopt, int, int, int, const void *, socklen_t)
PASS(int, COST_OTHER, setsockopt,
     (int fd, int level, int name, const void *value, socklen_t len),
     (fd, level, name, value, len))
NEXT(int, shutdown, int, int)
PASS(int, COST_OTHER, shutdown, (int fd, int how), (fd, how))
NEXT(int, close, int)
PASS(int, COST_OTHER, close, (int fd), (fd))
NEXT(int, clock_gettime, clockid_t, struct timespec *)
PASS(int, COST_CLOCK, clock_gettime, (clockid_t clock, struct timespec *now),
     (clock, now))

NEXT(int, ioctl, int, unsigned long, ...)
INSTEAD int ioctl(int fd, unsigned long what, ...) {
  va_list args;
  va_start(args, what);
  void *argument = va_arg(args, void *);
  va_end(args);
  count(COST_OTHER, 1);
  return next_ioctl()(fd, what, argument);
}

/* ---- TLS ---- */

/* Nobody here writes more than a record at once, or reads less. */
NEXT(int, SSL_write, SSL *, const void *, int)
PASS(int, COST_RECORDS_OUT, SSL_write, (SSL * ssl, const void *from, int len),
     (ssl, from, len))

NEXT(int, SSL_read, SSL *, void *, int)
INSTEAD int SSL_read(SSL *ssl, void *to, int len) {
  int n = next_SSL_read()(ssl, to, len);
  count(COST_RECORDS_IN, n > 0);
  return n;
}

/* ---- memory ---- */

/* glibc's own names for what these replace. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static void count_allocation(uintptr_t caller) {
  if (page != NULL)
    count(by_openssl(caller) ? COST_OPENSSL_ALLOCATIONS : COST_ALLOCATIONS, 1);
}

INSTEAD void *malloc(size_t size) {
  count_allocation(CALLER);
  return __libc_malloc(size);
}

INSTEAD void *calloc(size_t n, size_t size) {
  count_allocation(CALLER);
  return __libc_calloc(n, size);
}

INSTEAD void *realloc(void *old, size_t size) {
  count_allocation(CALLER);
  return __libc_realloc(old, size);
}

static void count_copy(uintptr_t caller, size_t len) {
  if (page != NULL)
    count(by_openssl(caller) ? COST_OPENSSL_COPIED : COST_COPIED, len);
}

/* Never by memcpy: that is what it stands in for. */
static void *move(void *to, const void *from, size_t len) {
  static void *(*volatile function)(void *, const void *, size_t);
  static bool asking;
  if (function == NULL && !asking) {
    asking = true; /* the linker itself copies when it is asked */
    union {
      void *object;
      void *(*function)(void *, const void *, size_t);
    } cast = {dlsym(RTLD_NEXT, "memmove")};
    function = cast.function;
  }
  if (function != NULL)
    return function(to, from, len);
  volatile char *out = to;
  const volatile char *in = from;
  for (size_t i = 0; i < len; i++)
    out[i] = in[i];
  return to;
}

INSTEAD void *memcpy(void *restrict to, const void *restrict from, size_t len) {
  count_copy(CALLER, len);
  return move(to, from, len);
}

INSTEAD void *memmove(void *to, const void *from, size_t len) {
  count_copy(CALLER, len);
  return move(to, from, len);
}

/* What fortified callers call. */
void *__memcpy_chk(void *to, const void *from, size_t len, size_t size);
INSTEAD void *__memcpy_chk(void *to, const void *from, size_t len,
                           size_t size) {
  if (len > size)
    abort();
  count_copy(CALLER, len);
  return move(to, from, len);
}

void *__memmove_chk(void *to, const void *from, size_t len, size_t size);
INSTEAD void *__memmove_chk(void *to, const void *from, size_t len,
                            size_t size) {
  if (len > size)
    abort();
  count_copy(CALLER, len);
  return move(to, from, len);
}
