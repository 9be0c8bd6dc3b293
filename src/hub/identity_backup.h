/* hub/identity_backup.h - a copy of an identity database that is in use. */
#ifndef HUB_IDENTITY_BACKUP_H
#define HUB_IDENTITY_BACKUP_H

#include <dstream/status.h>

/* Copies the database, as it is at one moment, to a file that is not there yet
 * (mode 0600).  Waits for nobody who writes.  DSTREAM_ENOTFOUND,
 * DSTREAM_ESYSTEM; then a part of the copy may be there. */
int identity_backup(const char *path, const char *to, struct dstream_end *end);

#endif
