/* hub/broker_child.h - starting and ending one child process. */
#ifndef HUB_BROKER_CHILD_H
#define HUB_BROKER_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

/* Runs program with the argument "-c config" in `directory`, input from
 * /dev/null, both outputs to a new pipe, no other descriptor open, default
 * signals, a process group of its own, as many descriptors as it may have.  The
 * kernel kills it when the calling thread ends.  If it can't be executed it
 * writes why to the pipe and exits.  Returns 0, *pid and the pipe's reading
 * end, or DSTREAM_ESYSTEM and errno. */
int child_start(const char *program, const char *config, const char *directory,
                pid_t *pid, int *output);

/* True when the child ended; it is reaped then, and *wait_status is as
 * waitpid's.  Does not wait. */
bool child_reap(pid_t pid, int *wait_status);

/* SIGTERM, then SIGKILL after grace_ms; returns when the child is reaped. */
void child_stop(pid_t pid, int grace_ms);

#endif
