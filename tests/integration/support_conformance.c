#include "integration/support_conformance.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/ssl.h>

/* ---- from text to frames ---- */

static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};

struct token {
  bool fails;
  bool wrong_mask;
  bool wait;
  bool announced;
  uint8_t first;
  int form; /* 0: the shortest */
  size_t fragment;
  uint64_t length;
  const char *payload; /* NULL: none */
  const char *end;     /* of the token */
};

static size_t put_header(const struct plan *plan, const struct token *token,
                         size_t len, uint8_t *out) {
  bool masked = plan->client != token->wrong_mask;
  uint64_t length = token->announced ? token->length : len;
  int form = token->form != 0 ? token->form
             : length < 126   ? 0
             : length < 65536 ? 2
                              : 8;
  size_t n = 0;
  out[n++] = token->first;
  out[n++] = (uint8_t)((masked ? 0x80 : 0) | (form == 0   ? (unsigned)length
                                              : form == 2 ? 126U
                                                          : 127U));
  for (int i = form - 1; i >= 0; i--)
    out[n++] = (uint8_t)(length >> (8 * i));
  if (masked)
    memcpy(out + n, mask, 4);
  return masked ? n + 4 : n;
}

/* What the endpoint makes of it. */
static void judge(struct plan *plan, const struct token *token,
                  const uint8_t *payload, size_t len) {
  uint8_t opcode = token->first & 15;
  if (plan->end != PLAN_OPEN)
    return;
  if (token->fails) {
    plan->end = PLAN_FAILED;
    plan->code = 1002;
  } else if (opcode == 8) {
    plan->end = PLAN_CLOSED;
    plan->code = len < 2 ? -1 : payload[0] << 8 | payload[1];
  } else if (opcode == 9) {
    plan->pings[plan->ping_count].len = (uint8_t)len;
    memcpy(plan->pings[plan->ping_count++].payload, payload, len);
  } else if (opcode < 3) {
    memcpy(plan->data + plan->data_len, payload, len);
    plan->data_len += len;
  }
}

static bool put_frame(struct plan *plan, const struct token *token,
                      const uint8_t *payload, size_t len) {
  bool control = (token->first & 8) != 0;
  if (plan->frame_count == PLAN_FRAMES_MAX ||
      plan->ping_count == PLAN_PINGS_MAX ||
      (control && len > 125 && !token->fails && plan->end == PLAN_OPEN) ||
      len + 14 > PLAN_BYTES_MAX - plan->wire_len)
    return false;
  uint8_t *out = plan->wire + plan->wire_len;
  size_t n = put_header(plan, token, len, out);
  bool masked = plan->client != token->wrong_mask;
  for (size_t i = 0; i < len; i++)
    out[n + i] = masked ? payload[i] ^ mask[i % 4] : payload[i];
  plan->wire_len += n + len;
  plan->in_frame = token->announced;
  judge(plan, token, payload, len);
  unsigned i = plan->frame_count++;
  plan->frames[i].wire_end = plan->wire_len;
  plan->frames[i].data_end = plan->data_len;
  plan->frames[i].pings = plan->ping_count;
  plan->frames[i].wait = token->wait && plan->end == PLAN_OPEN;
  return true;
}

static bool put_message(struct plan *plan, struct token token,
                        const uint8_t *payload, size_t len) {
  if (token.fragment == 0)
    return put_frame(plan, &token, payload, len);
  uint8_t opcode = token.first & 15;
  for (size_t at = 0; at < len; at += token.fragment) {
    size_t n = len - at < token.fragment ? len - at : token.fragment;
    token.first =
        (uint8_t)((at + n == len ? 0x80 : 0) | (at == 0 ? opcode : 0));
    if (!put_frame(plan, &token, payload + at, n))
      return false;
  }
  return true;
}

static void pattern(uint8_t *out, size_t len) {
  for (size_t i = 0; i < len; i++)
    out[i] = (uint8_t)(i * 131 + len);
}

static bool put_pattern(struct plan *plan, const struct token *token,
                        uint8_t *payload) {
  char *next = NULL;
  size_t from = strtoul(token->payload + 1, &next, 10);
  size_t to = from;
  if (strncmp(next, "..", 2) == 0)
    to = strtoul(next + 2, &next, 10);
  if (next != token->end || to > PLAN_BYTES_MAX)
    return false;
  for (size_t len = from; len <= to; len++) {
    pattern(payload, len);
    if (!put_message(plan, *token, payload, len))
      return false;
  }
  return true;
}

static bool put_close(struct plan *plan, const struct token *token,
                      uint8_t *payload) {
  char *next = NULL;
  unsigned long code = strtoul(token->payload + 1, &next, 10);
  payload[0] = (uint8_t)(code >> 8);
  payload[1] = (uint8_t)code;
  size_t len = (size_t)(token->end - next);
  if (*next == '*') {
    len = strtoul(next + 1, NULL, 10);
    memset(payload + 2, 'r', len);
  } else {
    memcpy(payload + 2, next, len);
  }
  return code < 65536 && put_frame(plan, token, payload, len + 2);
}

static bool put_hex(struct plan *plan, const struct token *token,
                    uint8_t *payload) {
  size_t len = 0;
  for (const char *p = token->payload + 1; p + 1 < token->end; p += 2) {
    char digits[3] = {p[0], p[1], '\0'};
    payload[len++] = (uint8_t)strtoul(digits, NULL, 16);
  }
  return put_message(plan, *token, payload, len);
}

static bool put_token(struct plan *plan, const struct token *token,
                      uint8_t *payload) {
  if (token->payload == NULL)
    return put_message(plan, *token, payload, 0);
  if (*token->payload == '*')
    return put_pattern(plan, token, payload);
  if (*token->payload == '=')
    return put_close(plan, token, payload);
  if (*token->payload == '%')
    return put_hex(plan, token, payload);
  size_t len = (size_t)(token->end - token->payload);
  memcpy(payload, token->payload, len);
  return put_message(plan, *token, payload, len);
}

/* The first byte of a frame of this kind; *next: behind it. */
static uint8_t first_byte(const char *kind, char **next) {
  static const char kinds[] = "ctb-----xpo";
  const char *found = NULL;
  if (*kind == '#')
    return (uint8_t)strtoul(kind + 1, next, 16);
  *next += 1;
  if (*kind >= 'A' && *kind <= 'Z')
    found = strchr(kinds, *kind + ('a' - 'A'));
  if (found != NULL)
    return (uint8_t)(0x80 | (found - kinds));
  found = strchr(kinds, *kind);
  return found != NULL ? (uint8_t)(found - kinds) : 0xff;
}

static bool parse(const char *text, struct token *token) {
  memset(token, 0, sizeof *token);
  token->end = text + strcspn(text, " ");
  char *p = NULL;
  token->fails = *text == '!';
  text += token->fails;
  token->wrong_mask = *text == '~';
  text += token->wrong_mask;
  union {
    const char *in;
    char *out;
  } start = {text};
  p = start.out;
  token->first = first_byte(text, &p);
  while (p < token->end && token->payload == NULL) {
    char option = *p++;
    if (option == '/') {
      token->form = (int)strtol(p, &p, 10);
    } else if (option == '+') {
      token->fragment = strtoul(p, &p, 10);
    } else if (option == '@') {
      token->announced = true;
      token->form = 8;
      token->length = strtoull(p, &p, 16);
    } else if (option == '?') {
      token->wait = true;
    } else if (option == ':') {
      token->payload = p;
    } else {
      return false;
    }
  }
  return token->first != 0xff;
}

bool plan_make(struct plan *plan, const char *line, bool client) {
  uint8_t *payload = malloc(PLAN_BYTES_MAX + 256);
  bool ok = payload != NULL;
  struct token token;
  plan->client = client;
  plan->end = PLAN_OPEN;
  plan->code = 1000;
  plan->in_frame = false;
  plan->wire_len = plan->data_len = 0;
  plan->frame_count = plan->ping_count = 0;
  for (const char *p = line; ok && *p != '\0'; p += strspn(p, " ")) {
    if (*p == '|') {
      plan->end = PLAN_CUT;
      p++;
      continue;
    }
    ok = parse(p, &token) && put_token(plan, &token, payload);
    p = token.end;
  }
  free(payload);
  return ok;
}

/* ---- playing ---- */

struct reading {
  const struct plan *plan;
  size_t echoed;
  unsigned pongs; /* of so many pings the last was answered */
  bool closed;
  int code;
  uint8_t payload[65536];
};

/* The header of a frame of the endpoint's: whole, in its shortest form, masked
 * as its role demands; the mask goes to key. */
static bool read_header(struct raw *raw, const struct reading *r,
                        uint8_t *first, size_t *len, uint8_t key[4]) {
  uint8_t head[10];
  NEED(raw, raw_read(raw, head, 2));
  NEED(raw, (head[0] & 0xf0) == 0x80);
  NEED(raw, (head[1] & 0x80) == (r->plan->client ? 0 : 0x80));
  *first = head[0];
  uint64_t length = head[1] & 0x7f;
  if (length >= 126) {
    int bytes = length == 126 ? 2 : 8;
    NEED(raw, raw_read(raw, head, (size_t)bytes));
    length = 0;
    for (int i = 0; i < bytes; i++)
      length = length << 8 | head[i];
    NEED(raw, length > (bytes == 2 ? 125 : 65535));
  }
  NEED(raw, length <= sizeof r->payload);
  *len = (size_t)length;
  memset(key, 0, 4);
  NEED(raw, r->plan->client || raw_read(raw, key, 4));
  return true;
}

static bool take_pong(struct raw *raw, struct reading *r, size_t len) {
  const struct plan *plan = r->plan;
  while (r->pongs < plan->ping_count &&
         (plan->pings[r->pongs].len != len ||
          memcmp(plan->pings[r->pongs].payload, r->payload, len) != 0))
    r->pongs++;
  NEED(raw, r->pongs < plan->ping_count); /* or a pong to no ping */
  r->pongs++;
  return true;
}

static bool read_one(struct raw *raw, struct reading *r) {
  uint8_t first = 0;
  uint8_t key[4];
  size_t len = 0;
  NEED(raw, !r->closed);
  if (!read_header(raw, r, &first, &len, key))
    return false;
  NEED(raw, raw_read(raw, r->payload, len));
  for (size_t i = 0; i < len; i++)
    r->payload[i] ^= key[i % 4];
  switch (first) {
  case 0x82:
    NEED(raw, len <= r->plan->data_len - r->echoed);
    NEED(raw, memcmp(r->plan->data + r->echoed, r->payload, len) == 0);
    r->echoed += len;
    return true;
  case 0x88:
    NEED(raw, len == 0 || (len >= 2 && len <= 125));
    r->code = len == 0 ? -1 : r->payload[0] << 8 | r->payload[1];
    r->closed = true;
    return true;
  case 0x89: /* it may ask us */
    NEED(raw, len <= 125);
    return true;
  case 0x8a:
    return take_pong(raw, r, len);
  }
  NEED(raw, !"a frame that an endpoint has no reason to send");
  return false;
}

static bool read_until(struct raw *raw, struct reading *r, size_t echoed,
                       unsigned pongs) {
  while (r->echoed < echoed || r->pongs < pongs) {
    if (!read_one(raw, r))
      return false;
  }
  return true;
}

static bool write_chopped(struct raw *raw, const uint8_t *bytes, size_t len,
                          size_t piece) {
  for (size_t at = 0; at < len; at += piece)
    NEED(raw, raw_send(raw, bytes + at, len - at < piece ? len - at : piece));
  return true;
}

static bool write_frames(struct raw *raw, struct reading *r,
                         enum plan_way way) {
  const struct plan *plan = r->plan;
  size_t at = 0;
  for (unsigned i = 0; i < plan->frame_count; i++) {
    size_t end = plan->frames[i].wire_end;
    bool last = i + 1 == plan->frame_count;
    if (way == PLAN_WHOLE && !plan->frames[i].wait && !last)
      continue;
    size_t piece = way != PLAN_BYTES        ? end - at
                   : plan->wire_len <= 2048 ? 1
                                            : 997;
    if (!write_chopped(raw, plan->wire + at, end - at, piece))
      return false;
    at = end;
    if (plan->frames[i].wait &&
        !read_until(raw, r, plan->frames[i].data_end, plan->frames[i].pings))
      return false;
  }
  return true;
}

/* Close 1000 of our own, as its role has it. */
static bool write_close(struct raw *raw, bool client) {
  struct plan *plan = calloc(1, sizeof *plan);
  NEED(raw, plan != NULL);
  bool ok = plan_make(plan, "X:=1000", client) &&
            raw_send(raw, plan->wire, plan->wire_len);
  free(plan);
  NEED(raw, ok);
  return true;
}

static bool finish(struct raw *raw, struct reading *r) {
  const struct plan *plan = r->plan;
  uint8_t byte;
  if (plan->end == PLAN_CUT) {
    raw_fin(raw);
    NEED(raw, raw_wait_end(raw));
    return true;
  }
  if (plan->end == PLAN_OPEN &&
      (!read_until(raw, r, plan->data_len, plan->ping_count) ||
       !write_close(raw, plan->client)))
    return false;
  while (!r->closed) {
    if (!read_one(raw, r))
      return false;
  }
  NEED(raw, r->code == plan->code);
  SSL_shutdown(raw->ssl);
  shutdown(raw->fd, SHUT_WR);
  NEED(raw, !raw_read(raw, &byte, 1)); /* nothing follows a Close */
  NEED(raw, raw->ended && !raw->reset);
  return true;
}

bool plan_play(struct raw *raw, const struct plan *plan, enum plan_way way) {
  struct reading *r = calloc(1, sizeof *r);
  NEED(raw, r != NULL);
  r->plan = plan;
  bool ok = write_frames(raw, r, way) && finish(raw, r);
  free(r);
  return ok;
}

/* ---- the application ---- */

static void echo(struct echo_sink *sink) {
  while (sink->echoed < sink->len) {
    long n = dstream_stream_write(sink->stream, sink->bytes + sink->echoed,
                                  sink->len - sink->echoed);
    if (n <= 0)
      return;
    sink->echoed += (size_t)n;
  }
}

static void on_open(dstream_stream *stream, void *user) {
  struct echo_sink *sink = user;
  sink->stream = stream;
  sink->opens++;
}

static void on_data(dstream_stream *stream, void *user, const void *data,
                    size_t len) {
  struct echo_sink *sink = user;
  size_t room = sizeof sink->bytes - sink->len;
  memcpy(sink->bytes + sink->len, data, len < room ? len : room);
  sink->len += len < room ? len : room;
  dstream_stream_consume(stream, len);
  echo(sink);
}

static void on_writable(dstream_stream *stream, void *user) {
  (void)stream;
  echo(user);
}

static void on_close(dstream_stream *stream, void *user,
                     const struct dstream_end *end) {
  struct echo_sink *sink = user;
  (void)stream;
  sink->stream = NULL;
  sink->closes++;
  sink->end = *end;
}

const struct dstream_stream_callbacks echo_sink_callbacks = {
    .on_open = on_open,
    .on_data = on_data,
    .on_writable = on_writable,
    .on_close = on_close};
