#include "core/end.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void end_set(struct dstream_end *end, int status, const char *format, ...) {
  if (end == NULL)
    return;
  memset(end, 0, sizeof *end);
  end->status = status;
  va_list args;
  va_start(args, format);
  vsnprintf(end->text, sizeof end->text, format, args);
  va_end(args);
}
