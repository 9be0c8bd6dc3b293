/* core/end.h - filling in a struct dstream_end. */
#ifndef CORE_END_H
#define CORE_END_H

#include <dstream/status.h>

/* Clears *end, sets its status and formats its text (cut to fit).  A NULL end
 * does nothing.  Never pass a key or a token as an argument. */
void end_set(struct dstream_end *end, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
