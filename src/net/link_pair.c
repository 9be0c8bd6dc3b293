/* Linux: epoll tells what poll by way of libwebsockets does not, that nobody
 * reads a pipe any more, and refuses what is always ready, such as files. */
#include "net/link_inside.h"

#include <assert.h>
#include <unistd.h>

#ifdef __linux__
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "core/container.h"
#include "core/end.h"

/* One of the two. */
struct half {
  int fd;      /* -1: closed */
  int flags;   /* as they were found */
  bool always; /* ready: a file */
  bool added;  /* epoll has it */
  uint32_t events;
};

struct link_pair {
  struct link *link;
  int epoll; /* what link->watch watches */
  struct half in;
  struct half out;
  bool out_is_pipe;
  unsigned want;
  struct loop_timer always; /* for what epoll can't wait for */
};

/* ---- one descriptor ---- */

/* Takes fd.  The standard ones stay open, so that nothing else gets their
 * numbers. */
static int half_take(struct half *half, int fd) {
  half->fd = fd;
  if (fd > STDERR_FILENO)
    return 0;
  int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nothing < 0)
    return -1;
  half->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  int rc = half->fd < 0 ? -1 : dup2(nothing, fd);
  close(nothing);
  return rc < 0 ? -1 : 0;
}

static int half_prepare(struct half *half) {
  return half->flags < 0 ? -1
                         : fcntl(half->fd, F_SETFL, half->flags | O_NONBLOCK);
}

/* Waits for events, with the errors that always come along, or no more. */
static void half_wait(struct link_pair *pair, struct half *half,
                      uint32_t events, bool wanted) {
  if (half->fd < 0 || half->always || (!wanted && !half->added) ||
      (wanted && half->added && events == half->events))
    return;
  struct epoll_event event = {.events = events, .data.ptr = half};
  int what = !wanted       ? EPOLL_CTL_DEL
             : half->added ? EPOLL_CTL_MOD
                           : EPOLL_CTL_ADD;
  if (epoll_ctl(pair->epoll, what, half->fd, &event) != 0)
    half->always = true;
  half->added = wanted && !half->always;
  half->events = events;
}

/* Others may share the open file, which is why epoll is told and the flags are
 * as they were. */
static void half_close(struct link_pair *pair, struct half *half) {
  if (half->fd < 0)
    return;
  half_wait(pair, half, 0, false);
  if (half->flags >= 0)
    (void)fcntl(half->fd, F_SETFL, half->flags);
  close(half->fd);
  half->fd = -1;
}

/* ---- what link.c calls ---- */

ssize_t link_pair_read(const struct link_pair *pair, uint8_t *data,
                       size_t size) {
  return read(pair->in.fd, data, size);
}

ssize_t link_pair_write(const struct link_pair *pair, const struct iovec *parts,
                        int count) {
  return writev(pair->out.fd, parts, count);
}

static void on_always(struct loop_timer *timer) {
  struct link_pair *pair = CONTAINER_OF(timer, struct link_pair, always);
  unsigned ready = 0;
  if (pair->in.always)
    ready |= pair->want & LOOP_READ;
  if (pair->out.always)
    ready |= pair->want & LOOP_WRITE;
  pair->want &= ~ready;
  if (ready != 0)
    link_on_events(&pair->link->watch, ready);
}

void link_pair_want(struct link_pair *pair, unsigned want) {
  pair->want = want;
  bool write = (want & LOOP_WRITE) != 0;
  half_wait(pair, &pair->in, EPOLLIN, (want & LOOP_READ) != 0);
  half_wait(pair, &pair->out, write ? EPOLLOUT : 0, write || pair->out_is_pipe);
  if ((pair->in.always && (want & LOOP_READ)) || (pair->out.always && write))
    loop_timer_set(pair->link->loop, &pair->always, 0, on_always);
}

/* A socket that serves both directions ends only so. */
void link_pair_shutdown(struct link_pair *pair) {
  if (pair->out.fd < 0)
    return;
  (void)shutdown(pair->out.fd, SHUT_WR);
  half_close(pair, &pair->out);
  /* They may be one open file, whose flags are those of before again. */
  (void)half_prepare(&pair->in);
}

void link_pair_free(struct link_pair *pair) {
  if (pair == NULL)
    return;
  loop_timer_cancel(&pair->always);
  half_close(pair, &pair->out);
  half_close(pair, &pair->in);
  free(pair);
}

/* ---- events ---- */

static void fail_unread(struct link *link) {
  struct dstream_end end;
  end_set(&end, DSTREAM_EIO, "%s reads no more", link_name(link));
  end.sys_errno = EPIPE;
  link_fail(link, &end);
}

static void on_pair_events(struct loop_watch *watch, unsigned events) {
  struct link *link = CONTAINER_OF(watch, struct link, watch);
  struct link_pair *pair = link->pair;
  struct epoll_event ready[2];
  unsigned told = 0;
  if (events & LOOP_GONE) {
    link_on_events(watch, LOOP_GONE);
    return;
  }
  if (link->state == LINK_ENDED) { /* and was told */
    loop_watch_want(watch, 0);
    return;
  }
  int n = epoll_wait(pair->epoll, ready, 2, 0);
  for (int i = 0; i < n; i++) {
    if (ready[i].data.ptr == &pair->in)
      told |= LOOP_READ;
    else if (pair->out_is_pipe && (ready[i].events & (EPOLLERR | EPOLLHUP)))
      told |= LOOP_GONE;
    else
      told |= LOOP_WRITE;
  }
  if (told & LOOP_GONE)
    fail_unread(link);
  else if (told != 0)
    link_on_events(watch, told);
}

static void on_begin(struct loop_task *task) {
  struct link *link = CONTAINER_OF(task, struct link, work);
  link_begin(link);
  if (!link->dead)
    link_schedule(link);
}

/* ---- making one ---- */

static int open_pair(struct link_pair *pair, int in_fd, int out_fd) {
  struct stat about;
  pair->epoll = -1;
  int rc = half_take(&pair->in, in_fd);
  if (out_fd != in_fd)
    rc |= half_take(&pair->out, out_fd);
  else
    pair->out.fd = fcntl(pair->in.fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  /* Both before either is changed: they may be one open file. */
  pair->in.flags = fcntl(pair->in.fd, F_GETFL);
  pair->out.flags = fcntl(pair->out.fd, F_GETFL);
  if (rc != 0 || half_prepare(&pair->in) < 0 || half_prepare(&pair->out) < 0 ||
      fstat(pair->out.fd, &about) != 0)
    return -1;
  pair->out_is_pipe = S_ISFIFO(about.st_mode);
  pair->epoll = epoll_create1(EPOLL_CLOEXEC);
  return pair->epoll < 0 ? -1 : 0;
}

int link_adopt_pair(struct link **out, dstream_loop *loop, int in_fd,
                    int out_fd, const struct link_options *options,
                    const struct link_callbacks *callbacks, void *user) {
  assert(options->tls == NULL);
  struct link *link = link_new(loop, options, callbacks, user);
  struct link_pair *pair = calloc(1, sizeof *pair);
  if (link == NULL || pair == NULL) {
    link_discard(link);
    free(pair);
    if (in_fd > STDERR_FILENO)
      close(in_fd);
    if (out_fd > STDERR_FILENO && out_fd != in_fd)
      close(out_fd);
    return DSTREAM_ENOMEM;
  }
  link->pair = pair;
  pair->link = link;
  int status = DSTREAM_ESYSTEM;
  if (open_pair(pair, in_fd, out_fd) == 0)
    status = loop_watch_start(loop, &link->watch, pair->epoll, on_pair_events);
  if (status != DSTREAM_OK) {
    link->pair = NULL;
    link_pair_free(pair);
    link_discard(link);
    return status;
  }
  loop_watch_want(&link->watch, LOOP_READ);
  loop_defer(loop, &link->work, on_begin);
  *out = link;
  return DSTREAM_OK;
}

#else /* no pair is ever made */

int link_adopt_pair(struct link **out, dstream_loop *loop, int in_fd,
                    int out_fd, const struct link_options *options,
                    const struct link_callbacks *callbacks, void *user) {
  (void)out, (void)loop, (void)options, (void)callbacks, (void)user;
  close(in_fd);
  if (out_fd != in_fd)
    close(out_fd);
  return DSTREAM_ESYSTEM;
}

ssize_t link_pair_read(const struct link_pair *pair, uint8_t *data,
                       size_t size) {
  (void)pair, (void)data, (void)size;
  return -1;
}

ssize_t link_pair_write(const struct link_pair *pair, const struct iovec *parts,
                        int count) {
  (void)pair, (void)parts, (void)count;
  return -1;
}

void link_pair_want(struct link_pair *pair, unsigned want) {
  (void)pair, (void)want;
}

void link_pair_shutdown(struct link_pair *pair) {
  (void)pair;
}

void link_pair_free(struct link_pair *pair) {
  assert(pair == NULL);
}
#endif
