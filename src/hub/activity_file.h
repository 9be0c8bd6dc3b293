/* hub/activity_file.h - where the activity log's lines go: a file, stdout, or
 * systemd's journal.
 *
 * Each line is one write of at most 4096 bytes; nothing waits: a pipe that has
 * no room loses the line. */
#ifndef HUB_ACTIVITY_FILE_H
#define HUB_ACTIVITY_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include <dstream/status.h>

#define ACTIVITY_FILE_STDOUT  "-"
#define ACTIVITY_FILE_JOURNAL "journald"

struct activity_file {
  const char *path; /* the owner's */
  int fd;           /* -1: none */
  bool cut;         /* the last line is there in part */
  bool waits;       /* a write to it may wait: it is no regular file */
  bool journal;
  unsigned long lost; /* lines, since one was written */
  int error;          /* errno of the last of them */
};

/* path: a file's, or one of the above, or "" (nothing is ever written, and
 * nothing is lost).  0, or the errno; the rest of the functions work all the
 * same. */
int activity_file_open(struct activity_file *file, const char *path);
/* Opens it anew; the errno: the old one is written on. */
int activity_file_reopen(struct activity_file *file);
void activity_file_close(struct activity_file *file);

/* line ends with a line feed.  False: it is lost. */
bool activity_file_write(struct activity_file *file, const char *line,
                         size_t len);

/* Reads the last `most` bytes of a regular file, from a line's begin on; to be
 * freed.  NULL: there are none, or it is no regular file.  *len without the
 * zero that is behind it. */
char *activity_file_tail(const struct activity_file *file, size_t most,
                         size_t *len);

#endif
