/* Stands in for net/loop_uv.c in a program without shared libraries: there
 * libwebsockets has no libuv, which it loads as a plugin. */
#include "net/loop_uv.h"

const struct loop_backend *loop_uv_backend(void) {
  return NULL; /* poll() */
}
