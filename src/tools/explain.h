/* tools/explain.h - a failure in one line: who refused, why, what to do.
 *
 * The library's sentences say what happened; an operator at a terminal also
 * wants to know whose fault it is (the hub, the device's agent, the target
 * behind it, the network) and what to try.
 */
#ifndef TOOLS_EXPLAIN_H
#define TOOLS_EXPLAIN_H

#include <stddef.h>

#include <dstream/status.h>

/* Room for the line, the terminating zero included. */
#define EXPLAIN_SIZE 768

/* How the peer of a bridge on stdin and stdout is called in its texts. */
#define EXPLAIN_STDIO "stdin and stdout"

/* Writes the line, without a line feed and without control characters.  device
 * is "DEVICE" or "DEVICE/MODULE"; name is what it was asked for. */
void explain(char out[EXPLAIN_SIZE], const struct dstream_end *end,
             const char *device, const char *name);

#endif
