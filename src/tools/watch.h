/* tools/watch.h - `dstream streams --watch`: the streams that there are, and
 * how fast their bytes flow, anew each second, until somebody has seen enough.
 */
#ifndef TOOLS_WATCH_H
#define TOOLS_WATCH_H

#include "tools/hub_client.h"

/* On a terminal all of it, until q or ^C; else one block after the other, with
 * an empty line in between.  query: as in hub_client_list.  json: a line of
 * JSON each second instead, {"time":..,"streams":[..]}, each stream with the
 * rates toDevicePerSecond and toServicePerSecond in bytes.  A hub that goes
 * away is waited for.  The exit status. */
int watch_run(struct hub_client *client, const char *query, bool json);

#endif
