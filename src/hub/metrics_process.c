#include "hub/metrics_process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define STARTTIME_FIELD 22 /* of /proc/PID/stat, see proc(5) */

static void read_memory(struct metrics_process *out, pid_t pid) {
  char path[64];
  unsigned long long total = 0;
  unsigned long long resident = 0;
  if (pid == 0)
    snprintf(path, sizeof path, "/proc/self/statm");
  else
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return;
  if (fscanf(file, "%llu %llu", &total, &resident) == 2) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    out->virtual_bytes = total * page;
    out->resident_bytes = resident * page;
  }
  fclose(file);
}

static uint64_t count_fds(void) {
  DIR *folder = opendir("/proc/self/fd");
  uint64_t count = 0;
  if (folder == NULL)
    return 0;
  for (const struct dirent *entry = readdir(folder); entry != NULL;
       entry = readdir(folder))
    count += entry->d_name[0] != '.';
  closedir(folder);
  return count > 0 ? count - 1 : 0; /* but the folder itself */
}

/* Ticks after the system's start; the name before may hold anything. */
static double start_after_boot(void) {
  char text[1024];
  FILE *file = fopen("/proc/self/stat", "re");
  if (file == NULL)
    return -1;
  size_t len = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[len] = '\0';
  const char *p = strrchr(text, ')');
  for (int field = 2; p != NULL && field < STARTTIME_FIELD; field++) {
    p = strchr(p + 1, ' ');
  }
  return p == NULL
             ? -1
             : (double)strtoull(p, NULL, 10) / (double)sysconf(_SC_CLK_TCK);
}

static double start_time(void) {
  struct timespec boot;
  struct timespec now;
  double started = start_after_boot();
  if (started < 0 || clock_gettime(CLOCK_BOOTTIME, &boot) != 0 ||
      clock_gettime(CLOCK_REALTIME, &now) != 0)
    return 0;
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9 - (double)boot.tv_sec -
         (double)boot.tv_nsec / 1e9 + started;
}

void metrics_process_read(struct metrics_process *out, pid_t pid) {
  struct rusage usage;
  struct rlimit limit;
  memset(out, 0, sizeof *out);
  read_memory(out, pid);
  if (pid != 0)
    return;
  if (getrusage(RUSAGE_SELF, &usage) == 0)
    out->cpu_seconds =
        (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
        (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
    out->max_fds = limit.rlim_cur;
  out->open_fds = count_fds();
  out->start_seconds = start_time();
}
