/* hub/relay.h - joins two connections, each a WebSocket or plain bytes.
 *
 * One piece of code carries every byte through the hub: device stream to
 * service stream (WebSocket both sides), MQTT and HTTP behind the TLS ports
 * (plain both sides), MQTT over WebSocket (one of each).  It cuts through: what
 * comes from one side is unmasked in place, framed anew into the other side's
 * record and sent; when the other side is full, this side is not read.  A side
 * that comes first waits, unread, for the other.
 *
 * How a WebSocket side ended is passed on to the other: 1000, no code or just
 * the end of the connection as 1000, 1001 as 1001, any other code as 1011, each
 * with the peer's own reason; a connection that broke as 1011 "WS
 * disconnected". Loop's thread.
 */
#ifndef HUB_RELAY_H
#define HUB_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/stream_core.h"
#include "net/link.h"
#include "net/loop.h"

enum relay_side_name { RELAY_A, RELAY_B };

struct relay;

struct relay_events {
  /* Both sides are done: the relay may be freed, in here too.  ended: the side
   * that ended first, or -1: relay_end.  Told once. */
  void (*on_end)(void *user, struct relay *relay, int ended,
                 const struct dstream_end *cause);
};

/* close_timeout_ms: how long a side's orderly end may take without progress.
 * DSTREAM_ENOMEM. */
int relay_new(struct relay **out, dstream_loop *loop, uint64_t close_timeout_ms,
              const struct relay_events *events, void *user);

/* Gives the relay one side: its link, and, for a WebSocket, its stream core,
 * which is moved in (the caller's struct is zeroed).  Works within the link's
 * on_data; bytes it leaves are read when the other side is there. */
void relay_attach(struct relay *relay, enum relay_side_name name,
                  struct link *link, struct stream_core *core);

/* Whether the side was attached (it may be over by now). */
bool relay_has(const struct relay *relay, enum relay_side_name name);

/* Both sides agreed on half-close after they were attached. */
void relay_set_eof(struct relay *relay, bool eof);

/* Ends both sides: WebSockets with code and reason, after what is under way was
 * delivered.  on_end follows, not inside this call. */
void relay_end(struct relay *relay, int code, const char *reason);

/* Payload bytes that came from this side. */
uint64_t relay_bytes(const struct relay *relay, enum relay_side_name name);

/* Times that a side was not read because the other one took nothing. */
uint64_t relay_stalls(const struct relay *relay);

/* The address of a side that is connected; NULL: it is not. */
const char *relay_peer(const struct relay *relay, enum relay_side_name name);

/* When payload last came, as loop_now_ms; 0: never. */
uint64_t relay_last_ms(const struct relay *relay);

/* Drops both connections; on_end is not told.  NULL is fine. */
void relay_free(struct relay *relay);

#endif
