/* tools/streams.h - `dstream streams`: the streams that there are now; ending
 * one. */
#ifndef TOOLS_STREAMS_H
#define TOOLS_STREAMS_H

#include "tools/dstream_common.h"

/* argv[0] is the command's name.  Returns the exit status, or COMMON_HELPED;
 * does not return when a signal ended it. */
int streams_run(struct common_options *common, int argc, char **argv);

#endif
