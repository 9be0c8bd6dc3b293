#include "core/stream_core.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/crypto.h"
#include "core/end.h"

/* First bytes of the frames that wait in core->out, FIN set. */
#define FRAME_EOF   (0x80 | WS_TEXT)
#define FRAME_CLOSE (0x80 | WS_CLOSE)
#define FRAME_PING  (0x80 | WS_PING)
#define FRAME_PONG  (0x80 | WS_PONG)

static uint64_t later(uint64_t now_ms, uint64_t ms) {
  return now_ms < STREAM_NEVER - ms ? now_ms + ms : STREAM_NEVER;
}

static void set_state(struct stream_core *core, enum stream_state next) {
  switch (next) {
  case STREAM_UPGRADING:
    assert(!"a stream never begins again");
    break;
  case STREAM_OPEN:
    assert(core->state == STREAM_UPGRADING);
    break;
  case STREAM_CLOSING:
    assert(core->state == STREAM_OPEN);
    break;
  case STREAM_CLOSED:
    assert(core->state != STREAM_CLOSED);
    break;
  }
  core->state = next;
}

/* The last thing feed, tick and transport_end do: CLOSED is told once. */
static enum stream_event tell(struct stream_core *core,
                              enum stream_event event) {
  if (event != STREAM_EV_NONE || core->state != STREAM_CLOSED ||
      core->told_closed)
    return event;
  core->told_closed = true;
  return STREAM_EV_CLOSED;
}

static void free_head(struct stream_core *core) {
  if (core->head != NULL)
    crypto_wipe(core->head, HTTP_HEAD_MAX); /* the token is in it */
  free(core->head);
  core->head = NULL;
  core->head_len = core->head_sent = 0;
}

/* ---- output ----
 *
 * Whole frames wait in core->out; of the first one the beginning may be gone.
 * What can wait at most, in the client role: what is left of a pong (130), a
 * ping (6), a pong (131), the end of this direction (6) and Close (131). */

static size_t queued_frame_size(const uint8_t *frame) {
  return 2 + ((frame[1] & 0x80) != 0 ? 4 : 0) + (frame[1] & 0x7f);
}

/* The offset of a waiting frame, none of which was pulled; out_len if none. */
static size_t find_queued(const struct stream_core *core, uint8_t first) {
  size_t at = core->out_begun;
  while (at < core->out_len && core->out[at] != first)
    at += queued_frame_size(core->out + at);
  return at;
}

static void remove_queued(struct stream_core *core, size_t at) {
  size_t size = queued_frame_size(core->out + at);
  memmove(core->out + at, core->out + at + size, core->out_len - at - size);
  core->out_len -= size;
}

static bool next_mask(struct stream_core *core, uint8_t mask[4]) {
  if (core->masks_used + 4 > sizeof core->masks) {
    if (crypto_random(core->masks, sizeof core->masks) != 0) {
      end_set(&core->end, DSTREAM_EINTERNAL,
              "the system gave no random numbers; the stream was ended");
      core->end.ws_code = WS_CLOSE_ABNORMAL;
      set_state(core, STREAM_CLOSED);
      return false;
    }
    core->masks_used = 0;
  }
  memcpy(mask, core->masks + core->masks_used, 4);
  core->masks_used += 4;
  return true;
}

static bool make_header(struct stream_core *core, uint8_t opcode, size_t len,
                        struct ws_header *header) {
  *header = (struct ws_header){
      .fin = true, .masked = !core->server, .opcode = opcode, .length = len};
  return core->server || next_mask(core, header->mask);
}

static void queue_frame(struct stream_core *core, uint8_t opcode,
                        const uint8_t *payload, size_t len) {
  struct ws_header header;
  assert(len <= WS_CONTROL_MAX);
  if (!make_header(core, opcode, len, &header))
    return;
  assert(core->out_len + WS_HEADER_MAX + len <= sizeof core->out);
  uint8_t *out = core->out + core->out_len;
  size_t size = ws_header_encode(&header, out);
  ws_mask_copy(out + size, payload, len, header.mask, 0);
  core->out_len += size + len;
}

/* A newer pong replaces one that waits (RFC 6455 5.5.3): a flood of pings
 * costs no memory. */
static void queue_pong(struct stream_core *core, const uint8_t *payload,
                       size_t len) {
  size_t at = find_queued(core, FRAME_PONG);
  if (at < core->out_len)
    remove_queued(core, at);
  queue_frame(core, WS_PONG, payload, len);
}

static void queue_ping(struct stream_core *core) {
  if (find_queued(core, FRAME_PING) == core->out_len)
    queue_frame(core, WS_PING, core->out, 0);
}

static void queue_close(struct stream_core *core, int code,
                        const char *reason) {
  uint8_t payload[WS_CONTROL_MAX];
  size_t len = ws_close_encode(code, reason, payload);
  queue_frame(core, WS_CLOSE, payload, len);
}

bool stream_core_has_output(const struct stream_core *core) {
  return core->head_sent < core->head_len || core->out_len > 0;
}

static size_t pull_head(struct stream_core *core, uint8_t *out, size_t size) {
  size_t n = core->head_len - core->head_sent;
  if (n > size)
    n = size;
  if (n == 0)
    return 0;
  memcpy(out, core->head + core->head_sent, n);
  core->head_sent += n;
  if (core->server && core->head_sent == core->head_len)
    free_head(core);
  return n;
}

static size_t pull_frames(struct stream_core *core, uint8_t *out, size_t size) {
  size_t n = core->out_len < size ? core->out_len : size;
  if (n == 0)
    return 0;
  memcpy(out, core->out, n);
  size_t boundary = core->out_begun;
  while (boundary < n)
    boundary += queued_frame_size(core->out + boundary);
  core->out_begun = boundary - n;
  core->out_len -= n;
  memmove(core->out, core->out + n, core->out_len);
  return n;
}

size_t stream_core_pull(struct stream_core *core, uint8_t *out, size_t size) {
  size_t n = pull_head(core, out, size);
  return n + pull_frames(core, out + n, size - n);
}

/* What must be on the wire before a payload frame can be. */
static size_t finish_begun(struct stream_core *core, uint8_t *out,
                           size_t size) {
  size_t n = pull_head(core, out, size);
  size_t begun = core->out_begun < size - n ? core->out_begun : size - n;
  return n + pull_frames(core, out + n, begun);
}

/* The most payload that fits with its header, min(len, STREAM_PAYLOAD_MAX) at
 * most. */
static size_t payload_fit(size_t size, size_t len, bool masked) {
  size_t n = size - ws_header_size(0, masked);
  if (n > len)
    n = len;
  if (n > STREAM_PAYLOAD_MAX)
    n = STREAM_PAYLOAD_MAX;
  size_t header = ws_header_size(n, masked);
  return n + header <= size ? n : size - header;
}

size_t stream_core_frame(struct stream_core *core, const void *data, size_t len,
                         uint8_t *out, size_t size, size_t *taken) {
  assert(size > STREAM_FRAME_HEADER_MAX && len > 0);
  *taken = 0;
  if (core->state != STREAM_OPEN || core->eof_sent)
    return 0;
  size_t at = finish_begun(core, out, size);
  if (core->head_len > 0 || core->out_begun > 0 ||
      size - at <= STREAM_FRAME_HEADER_MAX)
    return at;
  size_t n = payload_fit(size - at, len, !core->server);
  struct ws_header header;
  if (!make_header(core, WS_BINARY, n, &header))
    return at;
  at += ws_header_encode(&header, out + at);
  if (header.masked)
    ws_mask_copy(out + at, data, n, header.mask, 0);
  else
    memcpy(out + at, data, n);
  *taken = n;
  return at + n;
}

size_t stream_core_frame_before(struct stream_core *core, uint8_t *data,
                                size_t len, size_t room) {
  struct ws_header header = {.fin = true, .opcode = WS_BINARY, .length = len};
  assert(len > 0 && len <= STREAM_PAYLOAD_MAX);
  if (core->state != STREAM_OPEN || core->eof_sent || !core->server ||
      core->head_sent < core->head_len || core->out_begun > 0 ||
      ws_header_size(len, false) > room)
    return 0;
  return ws_header_encode(&header, data - ws_header_size(len, false));
}

/* ---- beginning ---- */

static void init(struct stream_core *core, bool server,
                 const struct stream_core_options *options, uint64_t now_ms) {
  memset(core, 0, sizeof *core);
  core->server = server;
  core->eof = options->eof;
  core->options = *options;
  core->options.host = core->options.path = core->options.token = NULL;
  core->state = STREAM_UPGRADING;
  core->heard_ms = core->shown_ms = now_ms;
  core->deadline_ms = STREAM_NEVER;
  core->masks_used = sizeof core->masks;
  ws_parser_init(&core->parser, server);
}

static int compose_request(struct stream_core *core,
                           const struct stream_core_options *options) {
  char key[WS_KEY_SIZE];
  int rc = ws_upgrade_key(key);
  if (rc == 0)
    rc = ws_upgrade_accept_value(slice_of(key), core->accept);
  if (rc != 0)
    return rc;
  struct ws_upgrade_request request = {.host = options->host,
                                       .path = options->path,
                                       .token = options->token,
                                       .key = key};
  rc = ws_upgrade_request_write(&request, (char *)core->head, HTTP_HEAD_MAX,
                                &core->head_len);
  return rc == DSTREAM_ELIMIT ? DSTREAM_EINVAL : rc;
}

int stream_core_connect(struct stream_core *core,
                        const struct stream_core_options *options,
                        uint64_t now_ms) {
  init(core, false, options, now_ms);
  if (options->handshake_timeout_ms > 0)
    core->deadline_ms = later(now_ms, options->handshake_timeout_ms);
  core->head = malloc(HTTP_HEAD_MAX);
  if (core->head == NULL)
    return DSTREAM_ENOMEM;
  int rc = compose_request(core, options);
  if (rc != 0)
    free_head(core);
  return rc;
}

int stream_core_accept(struct stream_core *core,
                       const struct stream_core_options *options,
                       const struct http_head *request, const char *subprotocol,
                       int *http_status, uint64_t now_ms) {
  init(core, true, options, now_ms);
  struct slice key;
  int rc = ws_upgrade_check_request(request, &key, http_status);
  if (rc == 0)
    rc = ws_upgrade_accept_value(key, core->accept);
  if (rc != 0)
    return rc;
  core->head = malloc(HTTP_HEAD_MAX);
  if (core->head == NULL)
    return DSTREAM_ENOMEM;
  rc = ws_upgrade_response_write(
      core->accept, ws_upgrade_find_subprotocol(request, subprotocol),
      (char *)core->head, HTTP_HEAD_MAX, &core->head_len);
  if (rc != 0) {
    free_head(core);
    return rc;
  }
  set_state(core, STREAM_OPEN);
  return 0;
}

void stream_core_clear(struct stream_core *core) {
  free_head(core);
}

/* ---- ending ---- */

/* What the end will be told as, unless something worse comes. */
static void begin_closing(struct stream_core *core, int code,
                          const char *reason, uint64_t now_ms) {
  set_state(core, STREAM_CLOSING);
  core->drain_ms = core->options.drain_timeout_ms == 0
                       ? STREAM_NEVER
                       : later(now_ms, core->options.drain_timeout_ms);
  stream_core_progress(core, now_ms);
  end_set(&core->end, DSTREAM_OK, "the stream was closed as asked");
  core->end.ws_code = WS_CLOSE_ABNORMAL;
  queue_close(core, code, reason);
}

static void fail_frame(struct stream_core *core, const char *what,
                       uint64_t now_ms) {
  core->broken = true;
  if (core->state == STREAM_OPEN)
    begin_closing(core, WS_CLOSE_PROTOCOL, what, now_ms);
  else
    set_state(core, STREAM_CLOSED);
  if (core->end.status == DSTREAM_EINTERNAL)
    return;
  end_set(&core->end, DSTREAM_EFRAME,
          "the peer broke the WebSocket protocol: %s; check for a proxy in "
          "between that changes what passes",
          what);
  core->end.ws_code = WS_CLOSE_ABNORMAL;
}

static void fail_upgrade(struct stream_core *core, const char *text) {
  end_set(&core->end, DSTREAM_EUPGRADE, "%s", text);
  set_state(core, STREAM_CLOSED);
}

void stream_core_peer_reason(const struct stream_core *core, char *out) {
  int code;
  struct slice reason = {"", 0};
  if (core->closed_by_peer)
    (void)ws_close_parse(core->control, core->control_len, &code, &reason);
  for (size_t i = 0; i < reason.len; i++) {
    char c = reason.p[i];
    out[i] = c >= ' ' && c < 0x7f ? c : '?';
  }
  out[reason.len] = '\0';
}

static void set_closed_by_peer(struct stream_core *core, int code) {
  char text[WS_REASON_MAX + 1];
  stream_core_peer_reason(core, text);
  if (code == WS_CLOSE_NO_CODE)
    end_set(&core->end, DSTREAM_ECLOSED, "the peer closed the stream");
  else if (text[0] == '\0')
    end_set(&core->end, DSTREAM_ECLOSED,
            "the peer closed the stream (WebSocket code %d)", code);
  else
    end_set(&core->end, DSTREAM_ECLOSED,
            "the peer closed the stream (WebSocket code %d, \"%s\")", code,
            text);
}

static void peer_closed(struct stream_core *core, uint64_t now_ms) {
  int code;
  struct slice reason;
  if (ws_close_parse(core->control, core->control_len, &code, &reason) != 0) {
    fail_frame(core, "a Close frame with an invalid code", now_ms);
    return;
  }
  core->closed_by_peer = true;
  if (core->state == STREAM_OPEN) {
    queue_close(core, code, NULL);
    if (core->state == STREAM_CLOSED)
      return;
    set_closed_by_peer(core, code);
  }
  core->end.ws_code = code;
  set_state(core, STREAM_CLOSED);
}

static void set_ended_by_transport(struct stream_core *core) {
  const struct ws_parser *parser = &core->parser;
  if (core->state == STREAM_CLOSING)
    return; /* `end` was set when that began */
  if (parser->partial_len > 0 || (parser->in_frame && parser->left > 0))
    end_set(&core->end, DSTREAM_EIO,
            "the connection ended in the middle of a message: bytes are lost");
  else
    end_set(&core->end, DSTREAM_ECLOSED,
            "the peer ended the connection without a Close message");
  core->end.ws_code = WS_CLOSE_ABNORMAL;
}

enum stream_event stream_core_transport_end(struct stream_core *core,
                                            const struct dstream_end *why) {
  if (core->state == STREAM_CLOSED)
    return STREAM_EV_NONE;
  bool upgrading = core->state == STREAM_UPGRADING;
  if (why != NULL && !core->broken)
    core->end = *why;
  else if (upgrading)
    end_set(&core->end, DSTREAM_EUPGRADE,
            "the streaming endpoint ended the connection before it answered "
            "the upgrade; request the stream again");
  else
    set_ended_by_transport(core);
  if (!upgrading && core->end.ws_code == 0)
    core->end.ws_code = WS_CLOSE_ABNORMAL;
  set_state(core, STREAM_CLOSED);
  return tell(core, STREAM_EV_NONE);
}

int stream_core_shutdown(struct stream_core *core, uint64_t now_ms) {
  if (core->state != STREAM_OPEN || !core->eof || core->eof_sent)
    return DSTREAM_ESTATE;
  core->eof_sent = true;
  queue_frame(core, WS_TEXT, core->out, 0);
  if (core->eof_received && core->state == STREAM_OPEN)
    begin_closing(core, WS_CLOSE_NORMAL, NULL, now_ms);
  return 0;
}

void stream_core_close(struct stream_core *core, int code, const char *reason,
                       uint64_t now_ms) {
  if (core->state == STREAM_OPEN) {
    begin_closing(core, code, reason, now_ms);
  } else if (core->state == STREAM_UPGRADING) {
    end_set(&core->end, DSTREAM_ECANCELED,
            "the stream was closed before it was open");
    free_head(core);
    set_state(core, STREAM_CLOSED);
  }
}

/* ---- input ---- */

static void open_or_refuse(struct stream_core *core,
                           const struct http_head *response, bool early) {
  int rc = ws_upgrade_check_response(response, core->accept, &core->end);
  free_head(core);
  if (rc != 0)
    set_state(core, STREAM_CLOSED);
  else if (early)
    fail_upgrade(core, "the streaming endpoint answered before it was asked; "
                       "check for a proxy in between");
  else
    set_state(core, STREAM_OPEN);
}

/* Collects the response's head where the request was.  Bytes after it are left
 * in the input: they are frames. */
static size_t feed_response(struct stream_core *core, const uint8_t *in,
                            size_t len) {
  if (!core->answered) {
    core->answered = true;
    core->early = core->head_sent < core->head_len;
    core->head_len = core->head_sent = 0;
  }
  size_t before = core->response_len;
  size_t n = HTTP_HEAD_MAX - before;
  if (n > len)
    n = len;
  memcpy(core->head + before, in, n);
  core->response_len += n;
  struct http_head response;
  int rc = http_head_parse_response(&response, (const char *)core->head,
                                    core->response_len);
  if (rc == DSTREAM_EAGAIN)
    return n;
  if (rc != 0) {
    free_head(core);
    fail_upgrade(core, rc == DSTREAM_ELIMIT
                           ? "the streaming endpoint's answer is too long"
                           : "the streaming endpoint's answer is not HTTP/1.1; "
                             "check its host name and port");
    return n;
  }
  core->response_len = 0;
  n = response.length - before;
  /* 1xx but 101 announces that the answer is still to come */
  if (response.status >= 200 || response.status == 101)
    open_or_refuse(core, &response, core->early);
  return n;
}

/* A message ended: with the eof capability an empty text ends a direction. */
static enum stream_event finish_message(struct stream_core *core,
                                        uint8_t opcode, uint64_t now_ms) {
  if (!core->eof || opcode != WS_TEXT || core->message_filled)
    return STREAM_EV_NONE;
  core->eof_received = true;
  if (core->state != STREAM_OPEN)
    return STREAM_EV_NONE;
  if (core->eof_sent)
    begin_closing(core, WS_CLOSE_NORMAL, NULL, now_ms);
  return STREAM_EV_EOF;
}

static void finish_control(struct stream_core *core, uint8_t opcode,
                           uint64_t now_ms) {
  if (opcode == WS_CLOSE)
    peer_closed(core, now_ms);
  else if (opcode == WS_PONG)
    core->pong_seen |= core->pinged;
  else if (core->state == STREAM_OPEN)
    queue_pong(core, core->control, core->control_len);
  if (opcode == WS_PING) {
    core->ping_seen = true;
    core->shown_ms = now_ms;
  }
  stream_core_progress(core, now_ms);
}

static enum stream_event finish_frame(struct stream_core *core,
                                      uint64_t now_ms) {
  struct ws_header frame = core->parser.frame;
  uint8_t message = core->parser.message;
  ws_parser_end(&core->parser);
  if (ws_is_control(frame.opcode)) {
    finish_control(core, frame.opcode, now_ms);
    return STREAM_EV_NONE;
  }
  if (!frame.fin)
    return STREAM_EV_NONE;
  enum stream_event event = finish_message(core, message, now_ms);
  core->message_filled = false;
  return event;
}

static void begin_frame(struct stream_core *core, uint64_t now_ms) {
  core->control_len = 0;
  if (ws_is_control(core->parser.frame.opcode))
    return;
  if (core->eof_received && core->state == STREAM_OPEN)
    fail_frame(core, "data after the end of its direction", now_ms);
  if (core->parser.frame.length > 0)
    core->message_filled = true;
}

static size_t feed_control(struct stream_core *core, uint8_t *in, size_t len) {
  size_t n = ws_parser_payload(&core->parser, in, len);
  memcpy(core->control + core->control_len, in, n);
  core->control_len += (uint8_t)n;
  return n;
}

/* One step: a header, or what is there of a frame's payload.  *used 0 means
 * that no payload is wanted. */
static enum stream_event feed_frame(struct stream_core *core, uint8_t *in,
                                    size_t len, size_t max_data, size_t *used,
                                    struct stream_data *data, uint64_t now_ms) {
  struct ws_parser *parser = &core->parser;
  enum stream_event event = STREAM_EV_NONE;
  *used = 0;
  if (!parser->in_frame) {
    int rc = ws_parser_header(parser, in, len, used);
    if (rc == DSTREAM_EFRAME)
      fail_frame(core, parser->error, now_ms);
    if (rc != 0)
      return STREAM_EV_NONE;
    begin_frame(core, now_ms);
  } else if (ws_is_control(parser->frame.opcode)) {
    *used = feed_control(core, in, len);
  } else if (core->state == STREAM_CLOSING) {
    *used = ws_parser_skip(parser, len);
  } else if (max_data > 0) {
    *used = ws_parser_payload(parser, in, len < max_data ? len : max_data);
    *data = (struct stream_data){in, *used};
    event = STREAM_EV_DATA;
  }
  if (parser->left > 0 || core->broken)
    return event;
  enum stream_event end = finish_frame(core, now_ms);
  return event == STREAM_EV_NONE ? end : event;
}

static enum stream_event feed(struct stream_core *core, uint8_t *in, size_t len,
                              size_t max_data, size_t *used,
                              struct stream_data *data, uint64_t now_ms) {
  enum stream_event event = STREAM_EV_NONE;
  size_t at = 0;
  while (event == STREAM_EV_NONE && at < len && core->state != STREAM_CLOSED) {
    size_t n = len - at;
    if (core->broken) {
      /* where a frame begins is not known any more */
    } else if (core->state == STREAM_UPGRADING) {
      n = feed_response(core, in + at, len - at);
      if (core->state == STREAM_OPEN)
        event = STREAM_EV_OPEN;
    } else {
      event = feed_frame(core, in + at, len - at, max_data, &n, data, now_ms);
      if (n == 0)
        break;
    }
    at += n;
  }
  *used = at;
  return event;
}

enum stream_event stream_core_feed(struct stream_core *core, uint8_t *in,
                                   size_t len, size_t max_data, size_t *used,
                                   struct stream_data *data, uint64_t now_ms) {
  *data = (struct stream_data){in, 0};
  *used = len;
  if (core->state == STREAM_CLOSED)
    return STREAM_EV_NONE;
  enum stream_event event = feed(core, in, len, max_data, used, data, now_ms);
  if (*used > 0) {
    core->heard_ms = now_ms;
    core->ping_sent = false;
  }
  return tell(core, event);
}

/* ---- time ---- */

void stream_core_set_paused(struct stream_core *core, bool paused,
                            uint64_t now_ms) {
  if (core->paused && !paused) {
    core->heard_ms = now_ms;
    core->ping_sent = false;
  }
  core->paused = paused;
}

void stream_core_progress(struct stream_core *core, uint64_t now_ms) {
  if (core->state == STREAM_CLOSING)
    core->deadline_ms = later(now_ms, core->options.close_timeout_ms);
  if (core->state == STREAM_CLOSING && core->deadline_ms > core->drain_ms)
    core->deadline_ms = core->drain_ms;
}

void stream_core_unanswered(struct stream_core *core, uint64_t ms,
                            uint64_t now_ms) {
  core->unanswered = ms > 0;
  core->answered_ms = ms < now_ms ? now_ms - ms : 0;
}

/* The eof capability says that the peer is one that waits for signs of life,
 * also when this end takes a little now and then; one that just closes its
 * socket must not be written to without need, as its system would drop what is
 * under way. */
static uint64_t ping_due(const struct stream_core *core) {
  uint64_t ms = core->options.keepalive_ms;
  uint64_t due = later(core->ping_sent ? core->ping_ms : core->heard_ms, ms);
  if (!core->paused || !core->eof)
    return due;
  uint64_t show = later(
      core->shown_ms, ms < STREAM_PAUSED_PING_MS ? ms : STREAM_PAUSED_PING_MS);
  return show < due ? show : due;
}

/* When a peer is given up that says nothing. */
static uint64_t mute_due(const struct stream_core *core) {
  bool talks = core->pong_seen || (core->eof && core->ping_seen);
  if (!core->ping_sent || core->paused || !talks)
    return STREAM_NEVER;
  uint64_t due = later(core->asked_ms, core->options.keepalive_ms);
  uint64_t least = later(core->heard_ms, STREAM_SILENCE_MIN_MS);
  return core->eof && due < least ? least : due;
}

/* When one is given up whose system says nothing. */
static uint64_t lost_due(const struct stream_core *core) {
  uint64_t ms = core->options.keepalive_ms;
  return core->unanswered ? later(later(core->answered_ms, ms), ms)
                          : STREAM_NEVER;
}

uint64_t stream_core_deadline(const struct stream_core *core) {
  if (core->state == STREAM_CLOSED)
    return core->told_closed ? STREAM_NEVER : 0;
  if (core->state != STREAM_OPEN)
    return core->deadline_ms;
  if (core->options.keepalive_ms == 0)
    return STREAM_NEVER;
  uint64_t due = ping_due(core);
  uint64_t mute = mute_due(core);
  uint64_t lost = lost_due(core);
  due = mute < due ? mute : due;
  return lost < due ? lost : due;
}

static void give_up(struct stream_core *core, const char *reason) {
  core->end.ws_code = WS_CLOSE_ABNORMAL;
  queue_close(core, WS_CLOSE_INTERNAL, reason);
  if (core->state != STREAM_CLOSED) /* or there were no random numbers */
    set_state(core, STREAM_CLOSED);
}

static void tick_open(struct stream_core *core, uint64_t now_ms) {
  if (now_ms >= lost_due(core)) {
    end_set(&core->end, DSTREAM_EKEEPALIVE,
            "the peer's system acknowledged nothing for %llu ms, however often "
            "it was sent: it or the network is down",
            (unsigned long long)(now_ms - core->answered_ms));
    give_up(core, "nothing is acknowledged");
  } else if (now_ms >= mute_due(core)) {
    end_set(&core->end, DSTREAM_EKEEPALIVE,
            "the peer sent nothing for %llu ms and answered no ping: it or the "
            "network is down",
            (unsigned long long)(now_ms - core->heard_ms));
    give_up(core, "no answer to pings");
  } else {
    queue_ping(core);
    if (!core->ping_sent)
      core->asked_ms = now_ms;
    core->ping_sent = core->pinged = true;
    core->ping_ms = core->shown_ms = now_ms;
  }
}

static void tick_upgrading(struct stream_core *core) {
  end_set(&core->end, DSTREAM_ETIMEDOUT,
          "the streaming endpoint did not answer the upgrade within %llu ms",
          (unsigned long long)core->options.handshake_timeout_ms);
  free_head(core);
  set_state(core, STREAM_CLOSED);
}

static void tick_closing(struct stream_core *core) {
  if (!core->broken) {
    end_set(&core->end, DSTREAM_ETIMEDOUT,
            "the peer did not answer the close within %llu ms; what was sent "
            "last may be lost",
            (unsigned long long)core->options.close_timeout_ms);
    core->end.ws_code = WS_CLOSE_ABNORMAL;
  }
  set_state(core, STREAM_CLOSED);
}

enum stream_event stream_core_tick(struct stream_core *core, uint64_t now_ms) {
  if (now_ms < stream_core_deadline(core))
    return STREAM_EV_NONE;
  if (core->state == STREAM_OPEN)
    tick_open(core, now_ms);
  else if (core->state == STREAM_UPGRADING)
    tick_upgrading(core);
  else if (core->state == STREAM_CLOSING)
    tick_closing(core);
  return tell(core, STREAM_EV_NONE);
}
