/* core/caps.h - capabilities: what both ends of a stream can do beyond plain
 * device streams.  A list is names of lower-case letters, digits and "-" with
 * commas between them: "eof".  White space around a name (it may come from an
 * HTTP header) and anything that is no name is ignored.
 */
#ifndef CORE_CAPS_H
#define CORE_CAPS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/slice.h"

/* One direction of a stream can end while the other goes on. */
#define CAPS_EOF "eof"

/* Room for the list of capabilities of one stream. */
#define CAPS_SIZE 128

/* Whether the list has the name. */
bool caps_has(struct slice list, const char *name);

/* Writes the names of a that b has too, in a's order, each once,
 * zero-terminated.  Nothing but names gets into out, whatever a holds.
 * Returns the length, or DSTREAM_ELIMIT (out is empty then). */
int caps_intersect(struct slice a, struct slice b, char *out, size_t out_size);

#endif
