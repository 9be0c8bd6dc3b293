/* support_hub.h - a real hub for integration tests: its own folder, its own
 * ports, its own broker, all gone afterwards.
 *
 *   static struct hub_fixture hub;
 *   static int group_setup(void **state) {
 *     return hub_fixture_start(&hub, NULL);
 *   }
 *   static int group_teardown(void **state) {
 *     return hub_fixture_stop(&hub);
 *   }
 *
 * Functions return 0, or -1 after a message on stderr.  The program is the one
 * that DSTREAM_HUB names.  All waits have a deadline; none of them is a sleep.
 */
#ifndef SUPPORT_HUB_H
#define SUPPORT_HUB_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/conn_string.h"

#define HUB_FIXTURE_PATH 256
#define HUB_OUTPUT_MAX   65536

/* A hub that is up on this machine within this time is fast enough, also with
 * sanitizers on a busy machine. */
#define HUB_READY_MS 30000
#define HUB_STOP_MS  15000

/* Zero is the default of each member. */
struct hub_fixture_options {
  const char *host;      /* default "localhost" */
  const char *overrides; /* JSON that is merged into hub.json, such as
                            "{\"limits\":{\"max_streams\":3}}" */
  uint16_t https_port;   /* 0: any free one */
  uint16_t mqtt_port;
};

struct hub_fixture {
  char directory[HUB_FIXTURE_PATH]; /* temporary; the hub's folder is in it */
  char hub_dir[HUB_FIXTURE_PATH];
  char ca_file[HUB_FIXTURE_PATH];
  char service_string[CONN_STRING_MAX]; /* of the policy "service" */
  uint16_t https_port;
  uint16_t mqtt_port;
  pid_t pid; /* of the hub; 0: not running */

  int output; /* the hub's stdout; hangs up when the hub ends */
  pthread_t log_thread;
  bool log_running;
  int log_fd;
  pthread_mutex_t log_lock; /* guards the rest */
  pthread_cond_t log_grown;
  char *log;
  size_t log_len;
  size_t log_mark;
  bool log_over;
};

/* Makes the folder and runs the hub until it says that it is ready.  Cleans up
 * by itself after a failure. */
int hub_fixture_start(struct hub_fixture *hub,
                      const struct hub_fixture_options *options);

/* SIGTERM; the hub must exit with 0 soon, and none of its processes may be
 * left.  Removes the folder.  Also after an assertion failed in between; a
 * second call does nothing. */
int hub_fixture_stop(struct hub_fixture *hub);

/* The two halves of it, to stop and start a hub in the same folder. */
int hub_fixture_end(struct hub_fixture *hub);
int hub_fixture_run(struct hub_fixture *hub);
/* SIGKILL, and waits until the hub and its broker are gone. */
int hub_fixture_kill(struct hub_fixture *hub);

/* Adds a device; out: CONN_STRING_MAX bytes. */
int hub_fixture_add_device(struct hub_fixture *hub, const char *id, char *out);
/* The connection string of a policy; out: CONN_STRING_MAX bytes. */
int hub_fixture_policy_string(struct hub_fixture *hub, const char *policy,
                              char *out);

/* The broker's process id, or -1. */
pid_t hub_fixture_broker(const struct hub_fixture *hub);

/* What the hub logs from now on is what hub_fixture_wait_log looks at. */
void hub_fixture_mark_log(struct hub_fixture *hub);
/* Waits until the log holds the text. */
int hub_fixture_wait_log(struct hub_fixture *hub, const char *text,
                         int timeout_ms);
/* Whether it does now. */
bool hub_fixture_logged(struct hub_fixture *hub, const char *text);
/* Prints the end of the log to stderr. */
void hub_fixture_show_log(struct hub_fixture *hub);

/* Runs a program to its end (20 s at most); arguments end with NULL.  Returns
 * its exit status, -1 when it could not be run or was killed.  What it printed
 * is cut at HUB_OUTPUT_MAX - 1 bytes each. */
struct hub_output {
  char out[HUB_OUTPUT_MAX];
  char err[HUB_OUTPUT_MAX];
};
int hub_command(struct hub_output *output, const char *const *arguments);

/* The path of dstream-hub. */
const char *hub_program(void);

#endif
