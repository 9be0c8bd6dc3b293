/* hub/init.h - makes a hub's folder.
 *
 *   hub.json         configuration (hub/config.h)
 *   ca.pem           the private CA; clients are told to trust it
 *   ca-key.pem       its key
 *   server.pem       the server's certificate
 *   server-key.pem   its key
 *   identities.db    devices and service policies (hub/identity.h)
 */
#ifndef HUB_INIT_H
#define HUB_INIT_H

#include <stdint.h>

#include <dstream/status.h>

struct init_options {
  const char *directory; /* required */
  const char *host;      /* default: what DSTREAM_HUB_HOST in the environment
                            says, or else the machine's host name */
  unsigned https_port;   /* 0: any free one; there is no default here */
  unsigned mqtt_port;
};

/* Makes the folder, which may be there already as long as none of the files is.
 * All of it or nothing: hub.json comes last, and after a failure everything
 * that was made is gone.  DSTREAM_ESTATE: a file is there already;
 * DSTREAM_EINVAL, DSTREAM_ESYSTEM, DSTREAM_EINTERNAL, DSTREAM_ENOMEM; end says
 * what is wrong and what to do. */
int init_run(const struct init_options *options, struct dstream_end *end);

#endif
