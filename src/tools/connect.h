/* tools/connect.h - dstream connect: one stream on stdin and stdout. */
#ifndef TOOLS_CONNECT_H
#define TOOLS_CONNECT_H

#include "tools/dstream_common.h"

/* argv[0] is the command's name.  Returns the exit status, or COMMON_HELPED;
 * does not return when a signal ended it. */
int connect_run(struct common_options *common, int argc, char **argv);

#endif
