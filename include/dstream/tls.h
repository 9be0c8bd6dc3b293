/* dstream/tls.h - whom to trust. */
#ifndef DSTREAM_TLS_H
#define DSTREAM_TLS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One setting for every TLS connection of a device or a service: the control
 * connection, the REST calls and the streams.  Host names are always verified.
 * Zero is the default of each member; set `size` to
 * sizeof(struct dstream_tls_options). */
struct dstream_tls_options {
  size_t size;
  const char *ca_file; /* PEM file of trusted roots, used instead of the
                          system's.  Default: the system's roots. */
};

#ifdef __cplusplus
}
#endif
#endif
