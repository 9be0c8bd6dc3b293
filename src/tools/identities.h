/* tools/identities.h - `dstream device`: the devices that a hub knows. */
#ifndef TOOLS_IDENTITIES_H
#define TOOLS_IDENTITIES_H

#include "tools/dstream_common.h"

/* argv[0] is the command's name.  Returns the exit status, or COMMON_HELPED;
 * does not return when a signal ended it. */
int identities_run(struct common_options *common, int argc, char **argv);

#endif
