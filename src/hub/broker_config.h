/* hub/broker_config.h - the files that the broker needs. */
#ifndef HUB_BROKER_CONFIG_H
#define HUB_BROKER_CONFIG_H

#include <stddef.h>

#include "hub/broker.h"

/* From the hub's folder, where the broker runs. */
#define BROKER_CONFIG_FILE   BROKER_RUN_DIR "/mosquitto.conf"
#define BROKER_DEVICE_SOCKET BROKER_RUN_DIR "/mqtt.sock"
#define BROKER_HUB_SOCKET    BROKER_RUN_DIR "/hub.sock"

/* Replaces zeros by the defaults. */
void broker_options_defaults(struct broker_options *options);

/* Writes mosquitto's configuration for these options (complete ones) into out.
 * Returns its length; DSTREAM_EINVAL: a text with a line feed or a control
 * character, or a name with a comma; DSTREAM_ELIMIT: it does not fit. */
int broker_config_text(const struct broker_options *options, const char *secret,
                       char *out, size_t size);

/* Makes the file anew, mode 0600, whole or not at all.
 * DSTREAM_ESYSTEM, and errno. */
int broker_config_write(const char *path, const char *text, size_t len);

#endif
