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

#include <dstream/status.h>

#include "hub/config.h"

struct hub_options {
  const struct config *config;
  const char *plugin; /* path of dstream_broker_plugin.so */
};

/* Runs a hub in the working directory, which is a hub's folder
 * (folder_enter), until SIGTERM or SIGINT.  Says "ready https=ADDR:PORT
 * mqtt=ADDR:PORT" on stdout once both endpoints accept and the broker is up;
 * logs to stderr.  Blocks those signals and SIGHUP in the process, so call it
 * before there are other threads.
 * 0 after an orderly end; otherwise end says what failed and what to do. */
int hub_run(const struct hub_options *options, struct dstream_end *end);

#endif
