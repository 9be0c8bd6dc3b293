/* Steps the clock of the program that this is loaded into (LD_PRELOAD), as an
 * administrator or NTP would: the time of day moves, monotonic time does not,
 * and waits until a time of day end early or late, those under way too.  Timers
 * that are set for a time of day ring again and again.
 *
 * DSTREAM_TEST_CLOCK names a file that holds the offset, eight characters,
 * "+0003600" seconds; it may be written to at any time.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define OFFSET_LEN 8
#define LOOK_NS    20000000
#define RING_NS    200000000
#define SECOND_NS  1000000000
/* Times of day are greater, times since the start of a machine are not. */
#define DAYTIME_MIN 1000000000

static const char *file;

__attribute__((constructor)) static void map_file(void) {
  const char *path = getenv("DSTREAM_TEST_CLOCK");
  int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return;
  void *map = mmap(NULL, OFFSET_LEN, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (map != MAP_FAILED)
    file = map;
}

static time_t offset(void) {
  char text[OFFSET_LEN + 1] = "";
  if (file != NULL)
    memcpy(text, file, OFFSET_LEN);
  return (time_t)strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int status = (int)syscall(SYS_clock_gettime, clock, now);
  if (status == 0 &&
      (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += offset();
  return status;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != NULL)
    *out = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

static int is_over(const struct timespec *until) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec > until->tv_sec ||
         (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec);
}

/* As nothing tells of the step. */
int timerfd_settime(int fd, int flags, const struct itimerspec *at,
                    struct itimerspec *old) {
  struct itimerspec slice = *at;
  if ((flags & TFD_TIMER_ABSTIME) != 0 && at->it_value.tv_sec > DAYTIME_MIN) {
    slice.it_value = (struct timespec){.tv_nsec = RING_NS};
    slice.it_interval = slice.it_value;
    flags = 0;
  }
  return (int)syscall(SYS_timerfd_settime, fd, flags, &slice, old);
}

/* In slices, as nothing tells of the step. */
int pthread_cond_timedwait(pthread_cond_t *restrict cond,
                           pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  if (until->tv_sec < DAYTIME_MIN)
    return pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, until);
  while (!is_over(until)) {
    struct timespec slice;
    clock_gettime(CLOCK_MONOTONIC, &slice);
    slice.tv_nsec += LOOK_NS;
    if (slice.tv_nsec >= SECOND_NS) {
      slice.tv_nsec -= SECOND_NS;
      slice.tv_sec++;
    }
    int status = pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &slice);
    if (status != ETIMEDOUT)
      return status;
  }
  return ETIMEDOUT;
}
