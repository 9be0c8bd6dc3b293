/* core/ws_frame.h - WebSocket frames (RFC 6455 section 5): headers, masks,
 * Close payloads.  Knows nothing of messages' meaning or of time. */
#ifndef CORE_WS_FRAME_H
#define CORE_WS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

#define WS_HEADER_MAX  14  /* 2, 8 bytes of length, 4 of mask */
#define WS_CONTROL_MAX 125 /* payload of a control frame, RFC 6455 5.5 */
#define WS_REASON_MAX  123 /* of a Close frame, beside its code */

enum ws_opcode {
  WS_CONTINUATION = 0,
  WS_TEXT = 1,
  WS_BINARY = 2,
  WS_CLOSE = 8,
  WS_PING = 9,
  WS_PONG = 10
};

/* Close codes of RFC 6455 7.4.1 that this project names. */
enum ws_close_code {
  WS_CLOSE_NORMAL = 1000,
  WS_CLOSE_GOING_AWAY = 1001,
  WS_CLOSE_PROTOCOL = 1002,
  WS_CLOSE_NO_CODE = 1005,  /* never sent: a Close frame without a code */
  WS_CLOSE_ABNORMAL = 1006, /* never sent: no Close frame came */
  WS_CLOSE_TOO_BIG = 1009,
  WS_CLOSE_INTERNAL = 1011
};

struct ws_header {
  bool fin;
  bool masked;
  uint8_t opcode; /* enum ws_opcode */
  uint8_t mask[4];
  uint64_t length; /* of the payload, below 2^63 */
};

static inline bool ws_is_control(uint8_t opcode) {
  return (opcode & 8) != 0;
}

/* ---- writing ---- */

/* Bytes of the header of a frame with that much payload. */
size_t ws_header_size(uint64_t length, bool masked);

/* Writes the header to out (room for WS_HEADER_MAX) with the shortest form of
 * the length; returns its size. */
size_t ws_header_encode(const struct ws_header *header, uint8_t *out);

/* Applies the mask (which also takes it off) to len bytes that start `offset`
 * bytes into the payload: in place, or from in to out, which must not overlap.
 * Any alignment. */
void ws_mask(uint8_t *data, size_t len, const uint8_t mask[4], uint64_t offset);
void ws_mask_copy(uint8_t *out, const uint8_t *in, size_t len,
                  const uint8_t mask[4], uint64_t offset);

/* ---- reading ---- */

/* One direction of a connection.  A frame is read in two steps:
 *
 *   while (!p->in_frame) ws_parser_header(...)   until it returns 0
 *   while (p->left > 0)  ws_parser_payload(...)  unmasks in the buffer
 *   ws_parser_end(p)                             the next frame may come
 *
 * with as many bytes at a time as there are, one at the least. */
struct ws_parser {
  bool server;   /* this end's role: the server demands masks, RFC 6455
                    5.1, the client refuses them */
  bool in_frame; /* `frame` and `left` are valid */
  struct ws_header frame;
  uint64_t left;     /* payload bytes still to come */
  uint8_t message;   /* opcode of the unfinished message, WS_CONTINUATION when
                        none is.  In its last frame it is still set */
  const char *error; /* after DSTREAM_EFRAME: what was wrong, a phrase */
  uint8_t partial[WS_HEADER_MAX]; /* a header that is not complete */
  uint8_t partial_len;
};

void ws_parser_init(struct ws_parser *parser, bool server);

/* Takes bytes up to the end of a frame's header; *used says how many.  Only
 * when !in_frame (asserted).
 * 0: the header is complete and in `frame`, in_frame is true.
 * DSTREAM_EAGAIN: all used, more needed.
 * DSTREAM_EFRAME: the peer broke RFC 6455 5.2 to 5.5: a reserved bit or opcode,
 * a length not in its shortest form or beyond 63 bits, a control frame that is
 * fragmented or too long, a continuation of nothing, a new message inside an
 * unfinished one, a mask where none belongs or none where one does.  It stays
 * so: nothing more can be read. */
int ws_parser_header(struct ws_parser *parser, const uint8_t *in, size_t len,
                     size_t *used);

/* Takes at most len bytes of the frame's payload, unmasks them in place and
 * returns how many: the smaller of len and `left`. */
size_t ws_parser_payload(struct ws_parser *parser, uint8_t *in, size_t len);

/* The same without unmasking, for bytes nobody looks at. */
size_t ws_parser_skip(struct ws_parser *parser, size_t len);

/* Ends a frame whose payload was taken (left 0, asserted). */
void ws_parser_end(struct ws_parser *parser);

/* ---- Close ---- */

/* True for a code that may be in a Close frame (RFC 6455 7.4 and the registry
 * it founded): 1000 to 1003, 1007 to 1014, 3000 to 4999. */
bool ws_close_code_valid(int code);

/* Reads a Close frame's payload.  0: *code is its code, WS_CLOSE_NO_CODE when
 * the payload is empty; *reason points into payload and may be empty (its text
 * is not checked: clean it before it is shown).  DSTREAM_EFRAME: one byte, or a
 * code that is not valid. */
int ws_close_parse(const uint8_t *payload, size_t len, int *code,
                   struct slice *reason);

/* Writes a Close frame's payload to out (room for WS_CONTROL_MAX) and returns
 * its length.  A code that is not valid gives an empty payload.  The reason is
 * UTF-8, may be NULL, and is cut to WS_REASON_MAX bytes at a character. */
size_t ws_close_encode(int code, const char *reason, uint8_t *out);

#endif
