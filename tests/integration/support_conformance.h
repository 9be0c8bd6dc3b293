/* support_conformance.h - WebSocket frames written down as a line of text, and
 * what an endpoint has to make of them (RFC 6455).
 *
 * A line is a list of frames with a blank between two:
 *
 *   [!][~]KIND[/FORM][+SIZE][@LENGTH][?][:PAYLOAD]
 *
 *   !        here the endpoint has to fail the connection: Close 1002, and
 *            nothing that comes from here on is delivered or answered
 *   ~        masked when it must not be, unmasked when it must be
 *   KIND     T text, B binary, C continuation, P ping, O pong, X Close; the
 *            same in lower case: without FIN; #HH: the first byte in hex
 *   /FORM    2 or 8: the length takes so many bytes, needed or not
 *   +SIZE    the message comes in fragments of this size
 *   @LENGTH  announces this length (hex), whatever follows
 *   ?        waits until all so far was echoed and answered
 *   PAYLOAD  *N: N bytes; *N..M: one frame for each length; %HEX: bytes;
 *            =CODE, =CODE*N, =CODEreason: of a Close; anything else: itself
 *
 * and | alone: the connection is cut there, without Close.
 *
 * What must be delivered, answered and closed follows from the line by itself:
 * the payload of all data frames, in order (a stream is a byte pipe: where a
 * frame or a message ended, and whether it was text, is not kept), a pong for
 * the last of the pings that came together (RFC 6455 5.5.3) and none out of
 * order, and the end: the Close that is in the line, the failure, the cut, or
 * otherwise Close 1000 after everything was echoed.
 */
#ifndef SUPPORT_CONFORMANCE_H
#define SUPPORT_CONFORMANCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/stream.h>

#include "integration/support_raw.h"

#define PLAN_BYTES_MAX  400000
#define PLAN_FRAMES_MAX 400
#define PLAN_PINGS_MAX  160

enum plan_end {
  PLAN_OPEN,   /* nothing in the line ends it */
  PLAN_CLOSED, /* by a Close frame with `code`, -1: without one */
  PLAN_FAILED, /* by a frame that breaks the protocol */
  PLAN_CUT
};

struct plan {
  bool client; /* the frames are a client's */
  enum plan_end end;
  int code;
  bool in_frame; /* what was announced last does not come */
  size_t wire_len;
  size_t data_len;
  unsigned frame_count;
  unsigned ping_count;
  struct {
    size_t wire_end; /* and so much was delivered, */
    size_t data_end;
    unsigned pings; /* and so many pings came, when the frame was over */
    bool wait;
  } frames[PLAN_FRAMES_MAX];
  struct {
    uint8_t len;
    uint8_t payload[125];
  } pings[PLAN_PINGS_MAX];
  uint8_t wire[PLAN_BYTES_MAX];
  uint8_t data[PLAN_BYTES_MAX];
};

/* False: the line makes no sense. */
bool plan_make(struct plan *plan, const char *line, bool client);

/* How the bytes are written. */
enum plan_way {
  PLAN_WHOLE,  /* as few writes as can be */
  PLAN_FRAMES, /* each frame on its own */
  PLAN_BYTES   /* each byte on its own; of long lines, 997 */
};

/* Plays it on a connection whose upgrade is done, up to both ends of the
 * connection.  The application at the other end echoes. */
bool plan_play(struct raw *raw, const struct plan *plan, enum plan_way way);

/* ---- the application at the other end: keeps all, echoes it ---- */

struct echo_sink {
  dstream_stream *stream;
  atomic_int opens; /* a script may wait for it */
  unsigned closes;
  struct dstream_end end;
  size_t len;
  size_t echoed;
  uint8_t bytes[PLAN_BYTES_MAX];
};
extern const struct dstream_stream_callbacks echo_sink_callbacks;

#endif
