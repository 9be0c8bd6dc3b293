/* dstream/dstream.h - all of libdstream. */
#ifndef DSTREAM_DSTREAM_H
#define DSTREAM_DSTREAM_H

#include <dstream/device.h>
#include <dstream/loop.h>
#include <dstream/proxy.h>
#include <dstream/service.h>
#include <dstream/status.h>
#include <dstream/stream.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library's version, "1.2.3".  Any thread; the text is static. */
DSTREAM_API const char *dstream_version(void);

#ifdef __cplusplus
}
#endif
#endif
