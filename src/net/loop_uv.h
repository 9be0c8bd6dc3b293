/* net/loop_uv.h - libuv under libwebsockets' loop: the cost of an event does
 * not grow with the number of idle connections, as it does with poll().
 */
#ifndef NET_LOOP_UV_H
#define NET_LOOP_UV_H

#include "net/loop.h"

/* For loop_new.  Where libwebsockets' libuv plugin is not installed, loop_new
 * fails with DSTREAM_ESYSTEM; NULL in its place is poll(). */
const struct loop_backend *loop_uv_backend(void);

#endif
