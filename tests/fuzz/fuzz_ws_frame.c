/* First byte: the role, and the step of a second reading that must come to the
 * same as the first.  The rest is what the peer sent. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <dstream/status.h>

#include "core/ws_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
  size_t frames;
  uint64_t payload;
  uint32_t sum; /* of all headers and payload bytes, in their order */
  int rc;
};

static void add(struct result *result, uint32_t value) {
  result->sum = (result->sum ^ value) * 16777619u;
}

static void add_header(struct result *result, const struct ws_header *frame) {
  uint8_t out[WS_HEADER_MAX];
  size_t size = ws_header_encode(frame, out);
  assert(size == ws_header_size(frame->length, frame->masked));
  for (size_t i = 0; i < size; i++)
    add(result, out[i]);
  result->frames++;
}

static size_t take_payload(struct result *result, struct ws_parser *parser,
                           uint8_t *in, size_t len) {
  size_t n = ws_parser_payload(parser, in, len);
  assert(n <= len);
  for (size_t i = 0; i < n; i++)
    add(result, in[i]);
  result->payload += n;
  return n;
}

static struct result read_all(const uint8_t *data, size_t size, bool server,
                              size_t step) {
  struct result result = {.sum = 2166136261u, .rc = DSTREAM_EAGAIN};
  struct ws_parser parser;
  ws_parser_init(&parser, server);
  uint8_t *copy = malloc(size > 0 ? size : 1);
  assert(copy != NULL);
  memcpy(copy, data, size);
  for (size_t at = 0; at < size;) {
    size_t n = step < size - at ? step : size - at;
    if (!parser.in_frame) {
      size_t used;
      result.rc = ws_parser_header(&parser, copy + at, n, &used);
      assert(used <= n && (result.rc != DSTREAM_EAGAIN || used == n));
      at += used;
      if (result.rc == DSTREAM_EFRAME) {
        assert(parser.error != NULL);
        break;
      }
      if (result.rc == 0)
        add_header(&result, &parser.frame);
    } else {
      at += take_payload(&result, &parser, copy + at, n);
    }
    if (parser.in_frame && parser.left == 0)
      ws_parser_end(&parser);
  }
  free(copy);
  return result;
}

static void check_close(const uint8_t *data, size_t size) {
  int code;
  struct slice reason;
  if (size > WS_CONTROL_MAX || ws_close_parse(data, size, &code, &reason) != 0)
    return;
  assert(size == 0 ? code == WS_CLOSE_NO_CODE : ws_close_code_valid(code));
  assert(reason.len == (size < 2 ? 0 : size - 2));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  bool server = (data[0] & 1) != 0;
  struct result whole = read_all(data + 1, size - 1, server, size);
  struct result parts =
      read_all(data + 1, size - 1, server, 1 + (data[0] >> 1));
  assert(whole.frames == parts.frames && whole.payload == parts.payload);
  assert(whole.sum == parts.sum);
  assert((whole.rc == DSTREAM_EFRAME) == (parts.rc == DSTREAM_EFRAME));
  check_close(data + 1, size - 1);
  return 0;
}
