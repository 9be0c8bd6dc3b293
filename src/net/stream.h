/* net/stream.h - the inside of dstream_stream: how device and service make one.
 *
 * A stream is a link (net/link.h) with a stream core (core/stream_core.h) on
 * it.  It exists from stream_new on, so that an open can be told as failed in
 * the same way whatever failed: stream_new, then stream_dial or stream_fail.
 * Loop's thread.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <stdbool.h>

#include <dstream/stream.h>

#include "core/stream_url.h"
#include "net/link.h"
#include "net/loop.h"
#include "net/spare.h"
#include "net/tls.h"

/* Makes a stream that waits to be dialled.  options may be NULL; callbacks
 * too.  gone(owner, stream) is called right after on_close returned, before
 * the stream is freed; the stream is no longer usable for anything else.
 * DSTREAM_EINVAL: an option is out of range;
 * DSTREAM_ENOMEM. */
int stream_new(dstream_stream **out, dstream_loop *loop, const char *name,
               const struct dstream_stream_options *options,
               const struct dstream_stream_callbacks *callbacks, void *user,
               void (*gone)(void *owner, dstream_stream *stream), void *owner);

/* What to dial; borrowed for the call. */
struct stream_target {
  const struct stream_url *url;
  const char *token;              /* bearer token */
  const struct tls_config *tls;   /* lives as long as the stream */
  const struct link_proxy *proxy; /* NULL or empty: none; lives as long */
  struct spare *spare;            /* the owner's; lives as long; or NULL */
  bool eof;                       /* the eof capability was agreed */
};

/* Connects to the streaming endpoint; the connect timeout runs from now.  A
 * failure here is told by on_close as any other, not by this call. */
void stream_dial(dstream_stream *stream, const struct stream_target *target);

/* Ends a stream with a cause of its owner's: on_close follows, not inside this
 * call.  Nothing when it is ending already. */
void stream_fail(dstream_stream *stream, const struct dstream_end *end);

/* Orderly end with another close code than 1000 (1001: going away). */
void stream_close_code(dstream_stream *stream, int code, const char *reason);

/* About how many bytes dstream_stream_write would take now.  When it is 0 and
 * the stream is open and this direction not ended, on_writable follows. */
size_t stream_write_room(dstream_stream *stream);

/* Ends it and tells on_close (ECANCELED) and gone inside this call, for an
 * owner that goes away itself.  Not within one of the stream's callbacks. */
void stream_destroy(dstream_stream *stream);

/* A pointer for the owner's own use. */
void stream_set_owner_data(dstream_stream *stream, void *data);
void *stream_owner_data(const dstream_stream *stream);

#endif
