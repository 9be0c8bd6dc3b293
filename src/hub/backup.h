/* hub/backup.h - a copy of a hub's folder, which is a hub's folder itself.
 */
#ifndef HUB_BACKUP_H
#define HUB_BACKUP_H

#include <dstream/status.h>

#include "hub/config.h"

/* Copies what can't be made again, in the folder that the caller is in, to a
 * new folder (mode 0700), whose parent has to be there: hub.json, certificates,
 * keys, and the database as it is at one moment, whoever writes to it.  The hub
 * may run.  hub.json comes last, so that what is there by half is no hub's
 * folder; on failure what was made is taken away again.
 *
 * The CA's files may be missing.  Files of the configuration that are not in
 * the folder itself (a name with a slash) are told to say, and left out.
 * `to` is an absolute path.  DSTREAM_ESTATE: it is there already;
 * DSTREAM_ENOTFOUND, DSTREAM_ESYSTEM. */
int backup_make(const struct config *config, const char *to,
                void (*say)(void *user, const char *left_out), void *user,
                struct dstream_end *end);

#endif
