/* tools/forward.h - dstream forward: sockets that listen here, each connection
 * a stream to a device. */
#ifndef TOOLS_FORWARD_H
#define TOOLS_FORWARD_H

#include "tools/dstream_common.h"

/* argv[0] is the command's name.  Returns the exit status, or COMMON_HELPED. */
int forward_run(struct common_options *common, int argc, char **argv);

#endif
