#include "core/ws_frame.h"

#include <assert.h>
#include <string.h>

#include <dstream/status.h>

/* ---- writing ---- */

size_t ws_header_size(uint64_t length, bool masked) {
  size_t mask = masked ? 4 : 0;
  if (length < 126)
    return 2 + mask;
  return (length <= UINT16_MAX ? 4 : 10) + mask;
}

static size_t encode_length(uint64_t length, uint8_t *out) {
  if (length < 126) {
    out[0] = (uint8_t)length;
    return 1;
  }
  size_t bytes = length <= UINT16_MAX ? 2 : 8;
  out[0] = bytes == 2 ? 126 : 127;
  for (size_t i = 0; i < bytes; i++)
    out[1 + i] = (uint8_t)(length >> (8 * (bytes - 1 - i)));
  return 1 + bytes;
}

size_t ws_header_encode(const struct ws_header *header, uint8_t *out) {
  assert(header->length <= INT64_MAX && header->opcode < 16);
  out[0] = (uint8_t)((header->fin ? 0x80 : 0) | header->opcode);
  size_t size = 1 + encode_length(header->length, out + 1);
  if (header->masked) {
    out[1] |= 0x80;
    memcpy(out + size, header->mask, 4);
    size += 4;
  }
  return size;
}

/* ---- masks ---- */

/* out is in, or does not overlap it.  Eight bytes at a time, four of these in
 * a round, which compilers turn into vector instructions. */
static inline void apply_mask(uint8_t *out, const uint8_t *in, size_t len,
                              const uint8_t mask[4], uint64_t offset) {
  uint8_t key[8];
  for (size_t i = 0; i < 8; i++)
    key[i] = mask[(offset + i) & 3];
  uint64_t word;
  memcpy(&word, key, 8);
  size_t i = 0;
  for (; len - i >= 32; i += 32) {
    uint64_t block[4];
    memcpy(block, in + i, 32);
    block[0] ^= word;
    block[1] ^= word;
    block[2] ^= word;
    block[3] ^= word;
    memcpy(out + i, block, 32);
  }
  for (; len - i >= 8; i += 8) {
    uint64_t value;
    memcpy(&value, in + i, 8);
    value ^= word;
    memcpy(out + i, &value, 8);
  }
  for (; i < len; i++)
    out[i] = in[i] ^ key[i & 7];
}

void ws_mask(uint8_t *data, size_t len, const uint8_t mask[4],
             uint64_t offset) {
  apply_mask(data, data, len, mask, offset);
}

void ws_mask_copy(uint8_t *out, const uint8_t *in, size_t len,
                  const uint8_t mask[4], uint64_t offset) {
  apply_mask(out, in, len, mask, offset);
}

/* ---- reading ---- */

void ws_parser_init(struct ws_parser *parser, bool server) {
  memset(parser, 0, sizeof *parser);
  parser->server = server;
}

static const char *check_first_byte(const struct ws_parser *parser) {
  uint8_t byte = parser->partial[0];
  uint8_t opcode = byte & 15;
  bool fin = (byte & 0x80) != 0;
  if ((byte & 0x70) != 0)
    return "a reserved bit is set, though no extension was agreed";
  if (ws_is_control(opcode)) {
    if (opcode > WS_PONG)
      return "an unknown opcode";
    return fin ? NULL : "a fragmented control frame";
  }
  if (opcode > WS_BINARY)
    return "an unknown opcode";
  if (opcode == WS_CONTINUATION)
    return parser->message != WS_CONTINUATION ? NULL
                                              : "a continuation of no message";
  return parser->message == WS_CONTINUATION
             ? NULL
             : "a new message inside an unfinished one";
}

static const char *check_second_byte(const struct ws_parser *parser) {
  uint8_t byte = parser->partial[1];
  bool masked = (byte & 0x80) != 0;
  if (masked != parser->server)
    return masked ? "a masked frame from a server"
                  : "an unmasked frame from a client";
  if (ws_is_control(parser->partial[0] & 15) && (byte & 0x7f) > WS_CONTROL_MAX)
    return "a control frame that is too long";
  return NULL;
}

/* Bytes of the header, from its first two. */
static size_t header_size(const uint8_t *header) {
  uint8_t form = header[1] & 0x7f;
  size_t length = form == 127 ? 8 : form == 126 ? 2 : 0;
  return 2 + length + ((header[1] & 0x80) != 0 ? 4 : 0);
}

static const char *decode(struct ws_parser *parser) {
  const uint8_t *header = parser->partial;
  struct ws_header *frame = &parser->frame;
  uint8_t form = header[1] & 0x7f;
  size_t at = 2;
  frame->length = form;
  if (form >= 126) {
    size_t bytes = form == 127 ? 8 : 2;
    frame->length = 0;
    for (size_t i = 0; i < bytes; i++)
      frame->length = frame->length << 8 | header[at++];
    if (frame->length > INT64_MAX)
      return "a length beyond 63 bits";
    if (frame->length < (form == 127 ? 65536U : 126U))
      return "a length that is not in its shortest form";
  }
  frame->fin = (header[0] & 0x80) != 0;
  frame->opcode = header[0] & 15;
  frame->masked = (header[1] & 0x80) != 0;
  memset(frame->mask, 0, 4);
  if (frame->masked)
    memcpy(frame->mask, header + at, 4);
  return NULL;
}

static int parser_fail(struct ws_parser *parser, const char *error) {
  parser->error = error;
  return DSTREAM_EFRAME;
}

int ws_parser_header(struct ws_parser *parser, const uint8_t *in, size_t len,
                     size_t *used) {
  assert(!parser->in_frame);
  *used = 0;
  if (parser->error != NULL)
    return DSTREAM_EFRAME;
  while (*used < len) {
    parser->partial[parser->partial_len++] = in[(*used)++];
    const char *error = NULL;
    if (parser->partial_len == 1)
      error = check_first_byte(parser);
    else if (parser->partial_len == 2)
      error = check_second_byte(parser);
    if (error != NULL)
      return parser_fail(parser, error);
    if (parser->partial_len < 2 ||
        parser->partial_len < header_size(parser->partial))
      continue;
    error = decode(parser);
    if (error != NULL)
      return parser_fail(parser, error);
    parser->partial_len = 0;
    parser->in_frame = true;
    parser->left = parser->frame.length;
    if (!ws_is_control(parser->frame.opcode) &&
        parser->frame.opcode != WS_CONTINUATION)
      parser->message = parser->frame.opcode;
    return 0;
  }
  return DSTREAM_EAGAIN;
}

size_t ws_parser_payload(struct ws_parser *parser, uint8_t *in, size_t len) {
  const struct ws_header *frame = &parser->frame;
  uint64_t offset = frame->length - parser->left;
  size_t n = ws_parser_skip(parser, len);
  if (frame->masked)
    ws_mask(in, n, frame->mask, offset);
  return n;
}

size_t ws_parser_skip(struct ws_parser *parser, size_t len) {
  assert(parser->in_frame);
  size_t n = len < parser->left ? len : (size_t)parser->left;
  parser->left -= n;
  return n;
}

void ws_parser_end(struct ws_parser *parser) {
  assert(parser->in_frame && parser->left == 0);
  parser->in_frame = false;
  if (!ws_is_control(parser->frame.opcode) && parser->frame.fin)
    parser->message = WS_CONTINUATION;
}

/* ---- Close ---- */

bool ws_close_code_valid(int code) {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
         (code >= 3000 && code <= 4999);
}

int ws_close_parse(const uint8_t *payload, size_t len, int *code,
                   struct slice *reason) {
  *code = WS_CLOSE_NO_CODE;
  *reason = (struct slice){"", 0};
  if (len == 0)
    return 0;
  if (len < 2)
    return DSTREAM_EFRAME;
  *code = payload[0] << 8 | payload[1];
  if (!ws_close_code_valid(*code))
    return DSTREAM_EFRAME;
  *reason = (struct slice){(const char *)payload + 2, len - 2};
  return 0;
}

size_t ws_close_encode(int code, const char *reason, uint8_t *out) {
  if (!ws_close_code_valid(code))
    return 0;
  out[0] = (uint8_t)(code >> 8);
  out[1] = (uint8_t)code;
  if (reason == NULL)
    return 2;
  size_t len = strlen(reason);
  if (len > WS_REASON_MAX) {
    len = WS_REASON_MAX;
    /* not inside a character: those bytes are 10xxxxxx */
    while (len > 0 && ((uint8_t)reason[len] & 0xc0) == 0x80)
      len--;
  }
  memcpy(out + 2, reason, len);
  return 2 + len;
}
