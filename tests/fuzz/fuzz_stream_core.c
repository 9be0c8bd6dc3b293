/* First byte: role and options.  The rest is a script of actions.  What comes
 * out must at all times be one upgrade and valid frames. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/stream_core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROLE_SERVER   1
#define WITH_EOF      2
#define UPGRADED      4 /* client: a good 101 came */
#define WITH_TIMES    8
#define PENDING_MAX   4096
#define FRAME_OUT_MAX 70000

/* The reader of what the core sends. */
struct reader {
  struct ws_parser parser;
  size_t head_end; /* how much of "\r\n\r\n" was seen; 4: frames follow */
  uint64_t payload;
  bool ended, closed;
};

struct run {
  const uint8_t *script;
  size_t left;
  struct stream_core core;
  struct reader reader;
  uint64_t taken;
  uint64_t now_ms;
  size_t max_data;
  bool told_open, told_eof, told_closed;
  uint8_t pending[PENDING_MAX]; /* fed and not used yet */
  size_t pending_len;
};

static uint8_t next_byte(struct run *run) {
  if (run->left == 0)
    return 0;
  run->left--;
  return *run->script++;
}

/* ---- what comes out ---- */

static void read_frame_begin(struct reader *reader) {
  const struct ws_header *frame = &reader->parser.frame;
  assert(!reader->closed);
  assert(frame->fin && frame->length <= STREAM_PAYLOAD_MAX);
  if (frame->opcode == WS_BINARY) {
    assert(!reader->ended && frame->length > 0);
    reader->payload += frame->length;
  } else if (frame->opcode == WS_TEXT) {
    assert(!reader->ended && frame->length == 0);
    reader->ended = true;
  }
  reader->closed = frame->opcode == WS_CLOSE;
}

static void read_output(struct reader *reader, const uint8_t *out, size_t len) {
  size_t at = 0;
  while (at < len && reader->head_end < 4) {
    uint8_t wanted = reader->head_end % 2 == 0 ? '\r' : '\n';
    if (out[at] == wanted)
      reader->head_end++;
    else
      reader->head_end = out[at] == '\r';
    at++;
  }
  while (at < len) {
    if (reader->parser.in_frame) {
      at += ws_parser_skip(&reader->parser, len - at);
    } else {
      size_t used;
      int rc = ws_parser_header(&reader->parser, out + at, len - at, &used);
      assert(rc == 0 || rc == DSTREAM_EAGAIN);
      at += used;
      if (rc == 0)
        read_frame_begin(reader);
    }
    if (reader->parser.in_frame && reader->parser.left == 0)
      ws_parser_end(&reader->parser);
  }
}

static void pull(struct run *run, size_t size) {
  uint8_t *out = malloc(size > 0 ? size : 1);
  assert(out != NULL);
  bool any = stream_core_has_output(&run->core);
  size_t n = stream_core_pull(&run->core, out, size);
  assert(n <= size && (n > 0) == (any && size > 0));
  assert(n == size || !stream_core_has_output(&run->core));
  read_output(&run->reader, out, n);
  free(out);
}

static void frame(struct run *run) {
  static const uint8_t payload[FRAME_OUT_MAX];
  static uint8_t out[FRAME_OUT_MAX];
  size_t len = (size_t)next_byte(run) << 8;
  len += 1 + (size_t)next_byte(run);
  size_t size = STREAM_FRAME_HEADER_MAX + 1 + next_byte(run);
  if (len > 65000)
    size = FRAME_OUT_MAX;
  bool open = run->core.state == STREAM_OPEN && !run->core.eof_sent;
  size_t taken;
  size_t n = stream_core_frame(&run->core, payload, len, out, size, &taken);
  assert(n <= size && taken <= len && taken <= n);
  assert(open == (n > 0));
  read_output(&run->reader, out, n);
  run->taken += taken;
  assert(run->reader.payload == run->taken);
}

/* ---- what goes in ---- */

static void note(struct run *run, enum stream_event event) {
  assert(!run->told_closed || event == STREAM_EV_NONE);
  switch (event) {
  case STREAM_EV_NONE:
    break;
  case STREAM_EV_OPEN:
    assert(!run->core.server && !run->told_open);
    assert(run->core.state == STREAM_OPEN);
    run->told_open = true;
    break;
  case STREAM_EV_DATA:
    assert(run->core.state == STREAM_OPEN && !run->told_eof);
    break;
  case STREAM_EV_EOF:
    assert(run->core.eof && run->core.eof_received && !run->told_eof);
    run->told_eof = true;
    break;
  case STREAM_EV_CLOSED:
    assert(run->core.state == STREAM_CLOSED && run->core.end.text[0] != '\0');
    assert(stream_core_deadline(&run->core) == STREAM_NEVER);
    run->told_closed = true;
    break;
  }
}

/* Feeds all that is pending, from memory of that very size. */
static void feed(struct run *run) {
  size_t len = run->pending_len, at = 0;
  uint8_t *in = malloc(len > 0 ? len : 1);
  assert(in != NULL);
  memcpy(in, run->pending, len);
  for (;;) {
    struct stream_data data;
    size_t used;
    enum stream_event event =
        stream_core_feed(&run->core, in + at, len - at, run->max_data, &used,
                         &data, run->now_ms);
    assert(used <= len - at);
    if (event == STREAM_EV_DATA)
      assert(data.len > 0 && data.len <= run->max_data && data.len <= used &&
             data.p == in + at + used - data.len);
    at += used;
    note(run, event);
    if (event == STREAM_EV_NONE)
      break;
  }
  assert(at == len || run->max_data == 0);
  run->pending_len = len - at;
  memcpy(run->pending, in + at, len - at);
  free(in);
}

static void add_input(struct run *run, const uint8_t *bytes, size_t len) {
  size_t room = PENDING_MAX - run->pending_len;
  size_t n = len < room ? len : room;
  memcpy(run->pending + run->pending_len, bytes, n);
  run->pending_len += n;
  feed(run);
}

static void feed_raw(struct run *run) {
  size_t n = next_byte(run);
  if (n > run->left)
    n = run->left;
  const uint8_t *bytes = run->script;
  run->script += n;
  run->left -= n;
  add_input(run, bytes, n);
}

/* A frame with a good header, unless what came before makes it bad. */
static void feed_frame(struct run *run) {
  static const uint8_t opcodes[] = {WS_CONTINUATION, WS_TEXT, WS_BINARY,
                                    WS_CLOSE,        WS_PING, WS_PONG,
                                    WS_BINARY,       WS_PING};
  uint8_t kind = next_byte(run), bytes[WS_HEADER_MAX + 255];
  struct ws_header header = {.fin = (kind & 8) == 0 || (kind & 7) > 2,
                             .masked = run->core.server,
                             .opcode = opcodes[kind & 7],
                             .length = next_byte(run),
                             .mask = {1, 2, 3, kind}};
  if (ws_is_control(header.opcode))
    header.length %= WS_CONTROL_MAX + 1;
  size_t size = ws_header_encode(&header, bytes);
  for (size_t i = 0; i < header.length; i++)
    bytes[size + i] = next_byte(run);
  add_input(run, bytes, size + header.length);
}

/* ---- the script ---- */

static void tick(struct run *run) {
  run->now_ms += next_byte(run);
  bool due = run->now_ms >= stream_core_deadline(&run->core);
  enum stream_event event = stream_core_tick(&run->core, run->now_ms);
  assert(event == STREAM_EV_NONE || event == STREAM_EV_CLOSED);
  assert(due || event == STREAM_EV_NONE);
  note(run, event);
}

static void end_transport(struct run *run) {
  struct dstream_end why = {.status = DSTREAM_EIO, .text = "gone"};
  note(run, stream_core_transport_end(&run->core,
                                      next_byte(run) % 2 == 0 ? NULL : &why));
  assert(run->core.state == STREAM_CLOSED);
}

static void close_stream(struct run *run) {
  int code = 990 + next_byte(run);
  stream_core_close(&run->core, code, code % 2 == 0 ? "because" : NULL,
                    run->now_ms);
  assert(run->core.state >= STREAM_CLOSING);
}

/* Bit 0: paused; bit 1: the peer's system does not answer. */
static void set_paused(struct run *run) {
  uint8_t how = next_byte(run);
  stream_core_set_paused(&run->core, how % 2, run->now_ms);
  stream_core_unanswered(&run->core, (how & 2) != 0 ? how : 0, run->now_ms);
  stream_core_progress(&run->core, run->now_ms);
}

static void act(struct run *run) {
  switch (next_byte(run) % 12) {
  case 0:
    feed_raw(run);
    break;
  case 1:
  case 2:
    feed_frame(run);
    break;
  case 3:
    pull(run, next_byte(run));
    break;
  case 4:
    pull(run, HTTP_HEAD_MAX);
    break;
  case 5:
    frame(run);
    break;
  case 6:
    close_stream(run);
    break;
  case 7:
    tick(run);
    break;
  case 8:
    stream_core_shutdown(&run->core, run->now_ms);
    break;
  case 9:
    end_transport(run);
    break;
  case 10:
    set_paused(run);
    break;
  default:
    run->max_data = next_byte(run);
  }
}

/* ---- the beginning ---- */

static const struct stream_core_options plain = {
    .host = "h", .path = "/", .token = "t"};

/* A request, and the server core that answers it with a 101. */
static void make_server(struct stream_core *server,
                        const struct stream_core_options *options,
                        struct stream_core *client) {
  static uint8_t request[HTTP_HEAD_MAX];
  struct http_head head;
  int http_status;
  size_t n = stream_core_pull(client, request, sizeof request);
  assert(http_head_parse_request(&head, (const char *)request, n) == 0);
  int rc = stream_core_accept(server, options, &head, NULL, &http_status, 0);
  assert(rc == 0);
}

static void begin(struct run *run, uint8_t flags) {
  struct stream_core_options options = plain;
  struct stream_core peer;
  options.eof = (flags & WITH_EOF) != 0;
  if ((flags & WITH_TIMES) != 0) {
    options.handshake_timeout_ms = 50;
    options.keepalive_ms = 20;
    options.close_timeout_ms = 30;
  }
  run->max_data = flags >> 4 == 0 ? 1 << 20 : flags >> 4;
  ws_parser_init(&run->reader.parser, (flags & ROLE_SERVER) == 0);
  if ((flags & ROLE_SERVER) != 0) {
    assert(stream_core_connect(&peer, &plain, 0) == 0);
    make_server(&run->core, &options, &peer);
    stream_core_clear(&peer);
    return;
  }
  assert(stream_core_connect(&run->core, &options, 0) == 0);
  if ((flags & UPGRADED) == 0)
    return;
  uint8_t answer[512];
  make_server(&peer, &plain, &run->core);
  run->reader.head_end = 4;
  add_input(run, answer, stream_core_pull(&peer, answer, sizeof answer));
  stream_core_clear(&peer);
  assert(run->told_open);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct run run;
  if (size == 0)
    return 0;
  memset(&run, 0, sizeof run);
  run.script = data + 1;
  run.left = size - 1;
  begin(&run, data[0]);
  while (run.left > 0)
    act(&run);
  pull(&run, HTTP_HEAD_MAX);
  if (!run.told_closed) {
    if (run.core.state != STREAM_CLOSED)
      note(&run, stream_core_transport_end(&run.core, NULL));
    else
      note(&run, stream_core_tick(&run.core, run.now_ms));
  }
  assert(run.told_closed);
  stream_core_clear(&run.core);
  return 0;
}
