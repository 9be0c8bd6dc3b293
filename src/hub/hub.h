/* hub/hub.h - a whole hub: everything that `dstream-hub run` is.
 *
 *   front (443, 8883) -> gateway         streams
 *                     -> rest            -> handshake -> main endpoint
 *                     -> broker          devices' MQTT
 *
 * One loop on the calling thread, the broker as a child process.
 */
#ifndef HUB_HUB_H
#define HUB_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include <dstream/status.h>

#include "hub/config.h"

/* What a service manager wants to know. */
enum hub_event {
  HUB_READY,     /* both endpoints accept and the broker is up; once */
  HUB_RELOADING, /* SIGHUP came; HUB_RELOADED follows at once */
  HUB_RELOADED,  /* done, or the log says why not */
  HUB_STOPPING,  /* SIGTERM or SIGINT came; once */
  HUB_ALIVE      /* the loop turns: every alive_ms */
};

struct hub_options {
  const struct config *config;
  const char *plugin; /* path of dstream_broker_plugin.so */
  bool journal;       /* stderr is systemd's journal */

  /* Called on the thread of hub_run; text is for a person, NULL with some.
   * NULL: nobody wants to know. */
  void (*on_event)(void *user, enum hub_event event, const char *text);
  void *user;
  uint64_t alive_ms; /* 0: no HUB_ALIVE */
};

/* Runs a hub in the working directory, which is a hub's folder
 * (folder_enter), until SIGTERM or SIGINT.  Says "ready https=ADDR:PORT
 * mqtt=ADDR:PORT" on stdout once both endpoints accept and the broker is up;
 * logs to stderr.  Blocks those signals and SIGHUP in the process, so call it
 * before there are other threads.
 * 0 after an orderly end; otherwise end says what failed and what to do. */
int hub_run(const struct hub_options *options, struct dstream_end *end);

#endif
