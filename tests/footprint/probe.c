/* footprint/probe.c - what a program takes from the heap, and how deep its
 * stacks get.  Built and used by scripts/footprint.sh:
 *   FOOTPRINT_REPORT=FILE LD_PRELOAD=probe.so PROGRAM
 *
 * At each SIGUSR1 it appends to FILE, while the program is idle:
 *   heap OWNER allocations live live-at-peak
 *   heap total allocations live peak
 *   heap control ...                the same, without OpenSSL, libc, program
 *   stack MODULE OFFSET used size   of a thread, begun at MODULE + OFFSET
 *   end
 * An allocation belongs to the module whose code called the allocator.  Sizes
 * are what was asked for.  A stack is painted before its thread begins; what
 * is counted is down to the deepest byte that is not as it was painted.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT      __attribute__((visibility("default")))
#define MAGIC       0x64737466u
#define PAINT       0xa5
#define MODULES_MAX 64
#define THREADS_MAX 32
/* Of the main thread, below the frame of the constructor. */
#define MAIN_STACK ((size_t)256 * 1024)

enum owner { DSTREAM, OPENSSL, LWS, PAHO, LIBC, PROGRAM, OWNERS };

static const struct {
  const char *report;
  const char *file; /* what the name of its file has in it */
  enum owner owner;
} known[] = {
    {"dstream", "libdstream", DSTREAM}, {"openssl", "libcrypto", OPENSSL},
    {"openssl", "libssl", OPENSSL},     {"lws", "libwebsockets", LWS},
    {"paho", "libpaho", PAHO},          {"libc", "libc.so", LIBC},
    {"libc", "ld-linux", LIBC},         {"libc", "libnss", LIBC},
    {"libc", "libresolv", LIBC},        {"program", "", PROGRAM},
};
#define KNOWN (sizeof known / sizeof known[0])

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *memory);

/* ---- modules ---- */

struct module {
  uintptr_t base;
  uintptr_t begin;
  uintptr_t end;
  enum owner owner;
  char name[64];
};
static struct module modules[MODULES_MAX];
static size_t module_count;

static enum owner owner_of_file(const char *file) {
  for (size_t i = 0; i < KNOWN - 1; i++)
    if (strstr(file, known[i].file) != NULL)
      return known[i].owner;
  return PROGRAM;
}

static int add_module(struct dl_phdr_info *info, size_t size, void *user) {
  (void)size;
  (void)user;
  if (module_count == MODULES_MAX)
    return 1;
  struct module *m = &modules[module_count++];
  const char *slash = strrchr(info->dlpi_name, '/');
  const char *name = slash != NULL ? slash + 1 : info->dlpi_name;
  snprintf(m->name, sizeof m->name, "%s", name[0] != '\0' ? name : "program");
  m->owner = owner_of_file(m->name);
  m->base = info->dlpi_addr;
  m->begin = UINTPTR_MAX;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &info->dlpi_phdr[i];
    if (p->p_type != PT_LOAD)
      continue;
    uintptr_t begin = m->base + p->p_vaddr;
    if (begin < m->begin)
      m->begin = begin;
    if (begin + p->p_memsz > m->end)
      m->end = begin + p->p_memsz;
  }
  return 0;
}

static const struct module *module_of(const void *code) {
  uintptr_t at = (uintptr_t)code;
  for (size_t i = 0; i < module_count; i++)
    if (at >= modules[i].begin && at < modules[i].end)
      return &modules[i];
  return NULL;
}

/* ---- heap ---- */

struct header { /* keeps the alignment of malloc */
  uint32_t magic;
  uint32_t owner;
  uint64_t size;
};

struct heap {
  long allocations;
  long live;
  long peak;
};
static struct heap total;
static struct heap control;        /* dstream, lws, paho */
static struct heap owners[OWNERS]; /* their peak: live when total peaked */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void count(struct heap *heap, long size, bool allocation) {
  heap->allocations += allocation;
  heap->live += size;
}

static void account(enum owner owner, long size, bool allocation) {
  pthread_mutex_lock(&lock);
  count(&owners[owner], size, allocation);
  count(&total, size, allocation);
  if (owner == DSTREAM || owner == LWS || owner == PAHO) {
    count(&control, size, allocation);
    if (control.live > control.peak)
      control.peak = control.live;
  }
  if (total.live > total.peak) {
    total.peak = total.live;
    for (int i = 0; i < OWNERS; i++)
      owners[i].peak = owners[i].live;
  }
  pthread_mutex_unlock(&lock);
}

static enum owner owner_of(const void *caller) {
  if (module_count == 0) /* the first of all; there is one thread */
    dl_iterate_phdr(add_module, NULL);
  const struct module *m = module_of(caller);
  return m != NULL ? m->owner : LIBC; /* loaded later: name services */
}

static void *stamp(struct header *h, size_t size, const void *caller) {
  if (h == NULL)
    return NULL;
  h->magic = MAGIC;
  h->owner = owner_of(caller);
  h->size = size;
  account(h->owner, (long)size, true);
  return h + 1;
}

/* NULL: not from here (memory that was asked for aligned). */
static struct header *header_of(void *memory) {
  struct header *h = (struct header *)memory - 1;
  return h->magic == MAGIC ? h : NULL;
}

static void *take(size_t size, const void *caller) {
  if (size > SIZE_MAX / 2)
    return NULL;
  return stamp(__libc_malloc(size + sizeof(struct header)), size, caller);
}

EXPORT void *malloc(size_t size) {
  return take(size, __builtin_return_address(0));
}

EXPORT void *calloc(size_t n, size_t size) {
  if (size != 0 && n > SIZE_MAX / 2 / size)
    return NULL;
  return stamp(__libc_calloc(1, n * size + sizeof(struct header)), n * size,
               __builtin_return_address(0));
}

EXPORT void free(void *memory) {
  if (memory == NULL)
    return;
  struct header *h = header_of(memory);
  if (h == NULL) {
    __libc_free(memory);
    return;
  }
  account(h->owner, -(long)h->size, false);
  h->magic = 0;
  __libc_free(h);
}

EXPORT void *realloc(void *old, size_t size) {
  if (old == NULL)
    return take(size, __builtin_return_address(0));
  if (size == 0) {
    free(old);
    return NULL;
  }
  struct header *h = header_of(old);
  if (h == NULL)
    return __libc_realloc(old, size);
  long before = (long)h->size;
  enum owner owner = h->owner;
  h = __libc_realloc(h, size + sizeof *h);
  if (h == NULL)
    return NULL;
  h->size = size;
  account(owner, (long)size - before, true);
  return h + 1;
}

EXPORT char *strndup(const char *text, size_t most) {
  size_t len = strnlen(text, most);
  char *copy = take(len + 1, __builtin_return_address(0));
  if (copy == NULL)
    return NULL;
  memcpy(copy, text, len);
  copy[len] = '\0';
  return copy;
}

EXPORT char *strdup(const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = take(size, __builtin_return_address(0));
  return copy != NULL ? memcpy(copy, text, size) : NULL;
}

/* libwebsockets asks. */
EXPORT size_t malloc_usable_size(void *memory) {
  struct header *h = memory != NULL ? header_of(memory) : NULL;
  return h != NULL ? h->size : 0;
}

/* ---- stacks ---- */

struct thread {
  void *(*fn)(void *arg);
  void *arg;
  unsigned char *low; /* of the painted part */
  unsigned char *top;
  size_t size; /* of the whole stack */
  size_t used; /* of one that has ended */
};
static struct thread threads[THREADS_MAX];
static unsigned thread_count;

static size_t used(const struct thread *t) {
  const unsigned char *p = t->low;
  while (p < t->top && *p == PAINT)
    p++;
  return (size_t)(t->top - p);
}

/* What is below its own frame is free to be painted. */
static __attribute__((noinline)) void paint(struct thread *t) {
  t->top = __builtin_frame_address(0);
  unsigned char *end = t->top - 512;
  for (volatile unsigned char *p = t->low; p < end; p++)
    *p = PAINT;
}

static void *run(void *arg) {
  struct thread *t = arg;
  pthread_attr_t attr;
  void *low;
  size_t guard = 0;
  if (pthread_getattr_np(pthread_self(), &attr) == 0) {
    pthread_attr_getstack(&attr, &low, &t->size);
    pthread_attr_getguardsize(&attr, &guard);
    pthread_attr_destroy(&attr);
    t->low = low;
    paint(t);
  }
  void *result = t->fn(t->arg);
  if (t->low != NULL)
    t->used = used(t);
  t->low = NULL;
  return result;
}

EXPORT int pthread_create(pthread_t *out, const pthread_attr_t *attr,
                          void *(*fn)(void *arg), void *arg) {
  static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                     void *);
  pthread_mutex_lock(&lock);
  struct thread *t =
      thread_count < THREADS_MAX ? &threads[thread_count++] : NULL;
  pthread_mutex_unlock(&lock);
  if (real == NULL)
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
  if (t == NULL)
    return EAGAIN;
  t->fn = fn;
  t->arg = arg;
  return real(out, attr, run, t);
}

/* ---- report ---- */

static const char *report;

static void say(int fd, const char *format, ...) {
  char line[200];
  va_list args;
  va_start(args, format);
  int len = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  (void)!write(fd, line, (size_t)len);
}

static void say_heap(int fd, const char *name, const struct heap *h) {
  say(fd, "heap %s %ld %ld %ld\n", name, h->allocations, h->live, h->peak);
}

static void say_stack(int fd, const struct thread *t) {
  void *code;
  memcpy(&code, &t->fn, sizeof code);
  const struct module *m = code != NULL ? module_of(code) : NULL;
  say(fd, "stack %s %lx %zu %zu\n", m != NULL ? m->name : "main",
      m != NULL ? (unsigned long)((uintptr_t)code - m->base) : 0UL,
      t->low != NULL ? used(t) : t->used, t->size);
}

static void on_signal(int number) {
  (void)number;
  int error = errno;
  int fd = open(report, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0)
    return;
  for (size_t i = 0; i < KNOWN; i++)
    if (i == 0 || known[i].owner != known[i - 1].owner)
      say_heap(fd, known[i].report, &owners[known[i].owner]);
  say_heap(fd, "total", &total);
  say_heap(fd, "control", &control);
  for (unsigned i = 0; i < thread_count; i++)
    say_stack(fd, &threads[i]);
  say(fd, "end\n");
  close(fd);
  errno = error;
}

static __attribute__((constructor)) void begin(void) {
  static unsigned char stack[65536];
  report = getenv("FOOTPRINT_REPORT");
  if (report == NULL)
    return;
  unsetenv("LD_PRELOAD"); /* not for its children */
  unsigned char *here = __builtin_frame_address(0);
  threads[0].low = here - MAIN_STACK;
  threads[0].size = MAIN_STACK;
  thread_count = 1;
  paint(&threads[0]);
  /* Not on the stack that is measured. */
  stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
  struct sigaction action = {.sa_handler = on_signal,
                             .sa_flags = SA_ONSTACK | SA_RESTART};
  sigaltstack(&other, NULL);
  sigaction(SIGUSR1, &action, NULL);
}
