/* tools/show.h - `dstream show`: what the hub is, and how it is. */
#ifndef TOOLS_SHOW_H
#define TOOLS_SHOW_H

#include "tools/dstream_common.h"

/* argv[0] is the command's name.  Returns the exit status, or COMMON_HELPED;
 * does not return when a signal ended it. */
int show_run(struct common_options *common, int argc, char **argv);

#endif
