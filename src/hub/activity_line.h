/* hub/activity_line.h - an activity record as the line that hub/activity.h
 * describes, and back. */
#ifndef HUB_ACTIVITY_LINE_H
#define HUB_ACTIVITY_LINE_H

#include <stddef.h>
#include <stdint.h>

#include "hub/activity.h"

/* One line and its zero; also what a pipe takes as a whole. */
#define ACTIVITY_LINE_SIZE 4096

/* "device/module". */
#define ACTIVITY_CLIENT_SIZE 258

/* Without a line feed; the length, or 0: out of memory. */
size_t activity_line_make(char out[ACTIVITY_LINE_SIZE], int64_t time_ms,
                          const char *host,
                          const struct activity_record *record);

/* When it was, and about whom ("": nobody), of a line that was made so.
 * DSTREAM_EFORMAT; DSTREAM_ENOMEM. */
int activity_line_read(const char *line, int64_t *time_ms,
                       char client[ACTIVITY_CLIENT_SIZE]);

#endif
