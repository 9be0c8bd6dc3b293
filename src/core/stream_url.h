/* core/stream_url.h - the address of a streaming endpoint: a wss URL.  Its path
 * and query are the hub's business and are kept as they came.
 */
#ifndef CORE_STREAM_URL_H
#define CORE_STREAM_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_URL_PORT 443

struct stream_url {
  bool tls;       /* true: only wss is taken */
  char host[256]; /* a name, an IPv4 or (without its brackets) IPv6 address */
  uint16_t port;  /* 443 when the URL has none */
  char target[1024]; /* path and query, begins with '/' */
};

/* Takes "wss://host[:port][/path][?query]" apart (the scheme in any case).
 * 0; DSTREAM_EFORMAT: another scheme, no host, a user name, a fragment, a bad
 * port, white space, control or non-ASCII characters; DSTREAM_ELIMIT: longer
 * than the members above.  *out is zeroed after a failure. */
int stream_url_parse(struct stream_url *out, const char *text);

/* The value of the Host header: brackets around an IPv6 address, the port when
 * it is not 443.  Returns the length or DSTREAM_ELIMIT; 264 bytes are always
 * enough. */
int stream_url_host_header(const struct stream_url *url, char *out,
                           size_t out_size);

#endif
