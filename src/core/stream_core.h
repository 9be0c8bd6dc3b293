/* core/stream_core.h - one end of a stream: a WebSocket (RFC 6455) without I/O.
 *
 * Bytes that came from the TLS connection go into stream_core_feed, which
 * returns one event at a time; bytes to send come out of stream_core_pull
 * (upgrade, pings, pongs, Close) and stream_core_frame (payload).  Time comes
 * in as now_ms, any monotonic clock in milliseconds.  Device, service and hub
 * use the same core, the hub in the server role.
 */
#ifndef CORE_STREAM_CORE_H
#define CORE_STREAM_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/http_head.h"
#include "core/ws_frame.h"
#include "core/ws_upgrade.h"

/* Room a frame's header can need: 2, 8 bytes of length, 4 of mask. */
#define STREAM_FRAME_HEADER_MAX 14
/* The official endpoints fail on larger messages. */
#define STREAM_PAYLOAD_MAX 65536
/* "No deadline" of stream_core_deadline. */
#define STREAM_NEVER UINT64_MAX
/* The most between two pings of an end that is paused. */
#define STREAM_PAUSED_PING_MS 2000
/* The least silence that proves anything of a peer with eof: it may be paused.
 */
#define STREAM_SILENCE_MIN_MS (2 * STREAM_PAUSED_PING_MS)

enum stream_state {
  STREAM_UPGRADING, /* client: the request is queued or sent, awaits the 101.
                       OPEN: a valid 101 came.  CLOSED: another answer, the
                       deadline, the transport's end, or close was called */
  STREAM_OPEN,      /* bytes go both ways.  CLOSING: close was called, both
                       directions had their end, or the peer broke the protocol
                       (Close 1002).  CLOSED: the peer's Close came (ours is
                       queued as the answer), silence, the transport's end */
  STREAM_CLOSING,   /* our Close is queued or sent, awaits the peer's; data that
                       comes is dropped.  CLOSED: it came, the deadline, the
                       transport's end */
  STREAM_CLOSED     /* final: `end` says why.  Output may still be waiting */
};

enum stream_event {
  STREAM_EV_NONE,  /* nothing (more) to tell: see *used */
  STREAM_EV_OPEN,  /* UPGRADING became OPEN */
  STREAM_EV_DATA,  /* payload bytes in *data */
  STREAM_EV_EOF,   /* the peer ended its direction (eof capability) */
  STREAM_EV_CLOSED /* the state became CLOSED; told once */
};

/* Payload inside the buffer that was fed, unmasked in place. */
struct stream_data {
  uint8_t *p;
  size_t len;
};

struct stream_core_options {
  /* Client role only.  The upgrade is composed at once, so these are borrowed
   * for the call.  Visible ASCII; path begins with '/'; token: WS_TOKEN_MAX
   * bytes at most, NULL: none is sent. */
  const char *host;  /* the Host header: "name" or "name:port" */
  const char *path;  /* the request target, with its query */
  const char *token; /* sent as "Authorization: Bearer ..." */

  uint64_t handshake_timeout_ms; /* client: from init to the 101; 0: none */

  /* A ping after this long without a byte from the peer; silence for two
   * intervals closes; 0: no pings.  Silence counts while this end reads, and of
   * a peer that has answered a ping or, with eof, sent one: there are endpoints
   * that never do.  And what stream_core_unanswered tells counts in any case.
   * While paused and with eof it pings every STREAM_PAUSED_PING_MS at least:
   * that tells a peer whose bytes wait unread that this end lives. */
  uint64_t keepalive_ms;

  uint64_t close_timeout_ms; /* from the last sign of life in CLOSING: a control
                                frame, or stream_core_progress; 0: the next tick
                                ends it */
  uint64_t drain_timeout_ms; /* CLOSING in all, however lively; 0: no limit */
  bool eof; /* the eof capability was agreed: an empty text message ends one
               direction, and what follows it there breaks the protocol.  Other
               text is data like binary; an empty binary message is nothing.
               Without it an empty text is nothing either */
};

struct stream_core {
  enum stream_state state;
  bool server;
  bool eof;      /* capability */
  bool eof_sent; /* stream_core_shutdown was called */
  bool eof_received;
  struct dstream_end end; /* set when CLOSED.  status: OK closed as asked by
      this side; ECLOSED the peer's Close (1000, 1001, 1005, 1011: any code, in
      ws_code) or its plain end of the connection (ws_code 1006); EFRAME;
      EUPGRADE, EUNAUTHORIZED, ETHROTTLED (the endpoint's answer, http_status);
      ETIMEDOUT (the upgrade or a Close was not answered), EKEEPALIVE,
      ECANCELED, EIO (also when the connection ended inside a frame), EINTERNAL
      (no random numbers for masks), what stream_core_transport_end was given */
  struct stream_core_options options; /* without the borrowed texts */
  struct ws_parser parser;

  /* private to stream_core.c from here on */
  uint64_t deadline_ms; /* UPGRADING, CLOSING */
  uint64_t drain_ms;    /* CLOSING: when it is over in any case */
  uint64_t heard_ms;    /* when bytes came last */
  uint64_t asked_ms;    /* when the first ping after that was queued */
  uint64_t ping_ms;     /* when the last ping was queued */
  uint64_t shown_ms;    /* when the last ping or pong was */
  uint64_t answered_ms; /* unanswered: when the peer's system last answered */
  bool unanswered;
  bool paused;
  bool ping_sent;      /* and nothing was heard since */
  bool pinged;         /* a ping was ever queued */
  bool pong_seen;      /* and ever answered */
  bool ping_seen;      /* the peer ever sent one */
  bool message_filled; /* the message coming in is not empty */
  bool broken;         /* the peer's frames can't be followed any more */
  bool told_closed;
  bool closed_by_peer;         /* `control` holds its Close */
  bool answered;               /* client: the response began */
  bool early;                  /* ... before the request had left */
  char accept[WS_ACCEPT_SIZE]; /* Sec-WebSocket-Accept of this connection */
  uint8_t *head; /* HTTP_HEAD_MAX bytes: upgrade out, then the response coming
                    in; freed when OPEN and sent */
  size_t head_len;
  size_t head_sent;
  size_t response_len;
  uint8_t control[WS_CONTROL_MAX]; /* of the control frame coming in */
  uint8_t control_len;
  uint8_t out[512]; /* whole frames waiting for stream_core_pull */
  size_t out_len;
  size_t out_begun;  /* bytes of the first one, when part of it was pulled */
  uint8_t masks[64]; /* random bytes for mask keys, drawn in bulk */
  size_t masks_used;
};

/* Client role: composes the upgrade; state UPGRADING.
 * DSTREAM_EINVAL (a text that does not fit into HTTP), DSTREAM_ENOMEM,
 * DSTREAM_EINTERNAL. */
int stream_core_connect(struct stream_core *core,
                        const struct stream_core_options *options,
                        uint64_t now_ms);

/* Server role: checks the upgrade request and queues the 101; state OPEN.  A
 * subprotocol is answered only if `subprotocol` is given and was offered (ASCII
 * case ignored; the answer repeats the client's spelling).  DSTREAM_EUPGRADE:
 * *http_status is what to answer (400, 405 or 426); DSTREAM_ENOMEM. */
int stream_core_accept(struct stream_core *core,
                       const struct stream_core_options *options,
                       const struct http_head *request, const char *subprotocol,
                       int *http_status, uint64_t now_ms);

/* The reason in the Close that the peer sent, printable ASCII; "" when there
 * was none.  out: WS_REASON_MAX + 1 bytes. */
void stream_core_peer_reason(const struct stream_core *core, char *out);

/* Releases what the core holds; it may be zeroed memory, or what a failed
 * connect or accept left.  Nothing but this, or a new beginning, may follow. */
void stream_core_clear(struct stream_core *core);

/* Takes bytes from the peer.  Returns one event; *used says how many bytes were
 * used up to it, call again with the rest until it returns STREAM_EV_NONE.
 * At most max_data bytes of payload are told at once.  With max_data 0 it stops
 * in front of payload: STREAM_EV_NONE and *used < len; feed the rest later.
 * Otherwise STREAM_EV_NONE uses everything: partial headers are kept inside.
 * In CLOSED everything is used and dropped.  The bytes are changed: payload is
 * unmasked where it lies, and what was used must not be fed again. */
enum stream_event stream_core_feed(struct stream_core *core, uint8_t *in,
                                   size_t len, size_t max_data, size_t *used,
                                   struct stream_data *data, uint64_t now_ms);

/* The transport ended.  why NULL: an orderly end of the connection; otherwise
 * copied into core->end, unless a protocol error came before. STREAM_EV_CLOSED,
 * or NONE when CLOSED already. */
enum stream_event stream_core_transport_end(struct stream_core *core,
                                            const struct dstream_end *why);

/* True when stream_core_pull has something. */
bool stream_core_has_output(const struct stream_core *core);

/* Moves waiting control output to out, as much as fits (in pieces, if need be);
 * returns the count, 0 when none.  First in, first out, but a newer pong takes
 * the place of one that waits, so what waits is bounded. */
size_t stream_core_pull(struct stream_core *core, uint8_t *out, size_t size);

/* Writes one binary frame with as much of data as fits: header and masked (in
 * the client role) copy.  Returns the frame's bytes in out, *taken the payload
 * bytes in it, at most STREAM_PAYLOAD_MAX.  size > STREAM_FRAME_HEADER_MAX and
 * len > 0 (asserted).  0 and *taken 0: not OPEN, or after
 * stream_core_shutdown.  Pull waiting output first if it is to come first; only
 * what must (the upgrade, the rest of a frame that was pulled in part) is put
 * in front by itself, and when that leaves no room *taken is 0 with bytes in
 * out. */
size_t stream_core_frame(struct stream_core *core, const void *data, size_t len,
                         uint8_t *out, size_t size, size_t *taken);

/* As stream_core_frame, for payload that stays where it is: the header of one
 * frame with all of data (1 to STREAM_PAYLOAD_MAX bytes) is written right
 * before it, where `room` bytes may be overwritten.  Returns the header's size.
 * 0: it can't be done now (too little room, the client role, which masks,
 * something that must be sent before, not OPEN): use stream_core_frame. */
size_t stream_core_frame_before(struct stream_core *core, uint8_t *data,
                                size_t len, size_t room);

/* Ends this direction (needs eof): queues the empty text message.
 * DSTREAM_ESTATE: not OPEN, no eof capability, or done before. */
int stream_core_shutdown(struct stream_core *core, uint64_t now_ms);

/* Asks for the orderly end: queues Close with code and reason (cut to 123
 * bytes, may be NULL); a code that may not be sent, such as 1005, gives a Close
 * without one.  UPGRADING becomes CLOSED with DSTREAM_ECANCELED at
 * once, told by the next stream_core_tick.  CLOSING, CLOSED: nothing. */
void stream_core_close(struct stream_core *core, int code, const char *reason,
                       uint64_t now_ms);

/* This end does not read now (the consumer is full): the peer's silence proves
 * nothing until it reads again. */
void stream_core_set_paused(struct stream_core *core, bool paused,
                            uint64_t now_ms);

/* Output reached the system, or the peer's system shows that it lives: CLOSING
 * waits anew. */
void stream_core_progress(struct stream_core *core, uint64_t now_ms);

/* What is to be told before stream_core_tick: the peer's system (TCP) leaves
 * what is sent to it unanswered, and has answered nothing for so many ms; 0: it
 * does not, or nobody knows.  Two intervals of it close. */
void stream_core_unanswered(struct stream_core *core, uint64_t ms,
                            uint64_t now_ms);

/* When stream_core_tick is due next, or STREAM_NEVER. */
uint64_t stream_core_deadline(const struct stream_core *core);

/* Pings, and gives up on what is overdue.  May make output.  NONE or CLOSED. */
enum stream_event stream_core_tick(struct stream_core *core, uint64_t now_ms);

#endif
