/* hub/metrics_process.h - what a process takes, from /proc. */
#ifndef HUB_METRICS_PROCESS_H
#define HUB_METRICS_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

/* What can't be read is 0. */
struct metrics_process {
  uint64_t resident_bytes;
  uint64_t virtual_bytes;
  double cpu_seconds;   /* only of this process, like what follows */
  double start_seconds; /* Unix time */
  uint64_t open_fds;
  uint64_t max_fds;
};

/* pid 0: this process. */
void metrics_process_read(struct metrics_process *out, pid_t pid);

#endif
