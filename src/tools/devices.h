/* tools/devices.h - `dstream devices`: the devices that are connected now. */
#ifndef TOOLS_DEVICES_H
#define TOOLS_DEVICES_H

#include "tools/dstream_common.h"

/* argv[0] is the command's name.  Returns the exit status, or COMMON_HELPED;
 * does not return when a signal ended it. */
int devices_run(struct common_options *common, int argc, char **argv);

#endif
