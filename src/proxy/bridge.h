/* proxy/bridge.h - the inside of dstream_bridge: what targets and listeners
 * need beyond the public functions.  Loop's thread.
 */
#ifndef PROXY_BRIDGE_H
#define PROXY_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>

#include <dstream/proxy.h>

#include "net/link.h"

/* Checks options (may be NULL), so that a listener can do it once.
 * DSTREAM_EINVAL. */
int bridge_check_options(const struct dstream_bridge_options *options);

/* What the link of a bridge is made with: its send buffer takes whatever the
 * stream's window lets through. */
void bridge_link_options(const struct dstream_bridge_options *options,
                         struct link_options *out);

/* As dstream_bridge_adopt, of a link that is up, made with bridge_link_options;
 * the link is the bridge's only if this succeeds.  Within a callback of the
 * link too: what on_data leaves is kept for the stream. */
int bridge_adopt_link(dstream_bridge **out, dstream_loop *loop,
                      struct link *link,
                      const struct dstream_bridge_options *options,
                      const struct dstream_bridge_callbacks *callbacks,
                      void *user);

/* Has fn called once: when the stream is open (why NULL), before a byte is
 * moved, or when it could not be opened.  It may write up to 1024 bytes to the
 * link.  After a failure true ends the socket in the orderly way, false resets
 * it. */
void bridge_on_hello(dstream_bridge *bridge,
                     bool (*fn)(void *user, struct link *link,
                                const struct dstream_end *why));

/* Ends both sides within the call; no on_end.  Not in one of the bridge's
 * callbacks.  NULL is fine. */
void bridge_destroy(dstream_bridge *bridge);

/* ---- for dstream_bridge_open ---- */

/* DSTREAM_ESTATE, or what to open a stream with, the bridge as its user. */
int bridge_stream_begin(dstream_bridge *bridge,
                        struct dstream_stream_options *options,
                        const struct dstream_stream_callbacks **callbacks);

/* The stream is there, or (NULL) could not be made. */
void bridge_stream_made(dstream_bridge *bridge, dstream_stream *stream,
                        const struct dstream_end *why);

#endif
