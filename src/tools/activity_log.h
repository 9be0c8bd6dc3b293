/* tools/activity_log.h - `dstream log`: who reached which device when, for how
 * long, how much, and why it failed; as the hub has recorded it. */
#ifndef TOOLS_ACTIVITY_LOG_H
#define TOOLS_ACTIVITY_LOG_H

#include <stddef.h>

#include <cjson/cJSON.h>

#include "tools/dstream_common.h"

/* argv[0] is the command's name.  Returns the exit status, or COMMON_HELPED. */
int activity_log_run(struct common_options *common, int argc, char **argv);

/* What is told of a record (hub/activity.h) beside its event, device, stream
 * and caller: how it went, how long, how much, why. */
#define ACTIVITY_LOG_TEXT_SIZE 512
void activity_log_text(char out[ACTIVITY_LOG_TEXT_SIZE], const cJSON *record,
                       const cJSON *properties);

#endif
