/* net/link_proxy.h - the HTTP CONNECT proxy that a link may go through
 * (RFC 9110 9.3.6): its URL, what to ask it, what its answer means.
 */
#ifndef NET_LINK_PROXY_H
#define NET_LINK_PROXY_H

#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

/* Most bytes of the answer's head; room for the longest request. */
#define LINK_PROXY_HEAD_MAX     4096
#define LINK_PROXY_REQUEST_SIZE 1400

/* Where the proxy is; empty host: none. */
struct link_proxy {
  char host[256];
  uint16_t port;
  char authorization[400]; /* value of Proxy-Authorization, or empty; secret */
};

/* "http://[user:password@]host[:port]", user and password percent-encoded where
 * they hold more than plain characters; NULL or "": no proxy.  DSTREAM_EINVAL,
 * *error says what is wrong. */
int link_proxy_parse(struct link_proxy *proxy, const char *url,
                     struct dstream_end *error);

/* Writes the request for host:port to out, LINK_PROXY_REQUEST_SIZE bytes;
 * returns its length.  host: 255 bytes at most.  It holds the credentials. */
size_t link_proxy_request(const struct link_proxy *proxy, const char *host,
                          uint16_t port, char *out);

/* Looks at the len bytes that the proxy has answered so far.  DSTREAM_OK: the
 * way is open; DSTREAM_EAGAIN: more is to come; DSTREAM_EPROXY: *end says why
 * not.  Nothing may follow the answer's head, as the TLS server speaks second.
 */
int link_proxy_check(const struct link_proxy *proxy, const char *answer,
                     size_t len, const char *host, uint16_t port,
                     struct dstream_end *end);

#endif
