/* What the framing does to a megabyte, once in each function called measure_*:
 * run under callgrind, which counts the instructions of each of them (see
 * integration/test_cost_framing.sh).
 *
 * What differs from one machine to the next is replaced (the linker's --wrap):
 * copies are a loop of a word a step, so that one too many shows, and random
 * numbers cost nothing. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/crypto.h"
#include "core/stream_core.h"

#define MEGABYTE (1u << 20)
#define LARGE    16372 /* with its header one TLS record */
#define SMALL    64
#define WIRE     (MEGABYTE + MEGABYTE / SMALL * STREAM_FRAME_HEADER_MAX)
#define RECORD   16384

/* ---- instead of libc and OpenSSL ---- */

static void copy(void *to, const void *from, size_t len) {
  uint8_t *out = to;
  const uint8_t *in = from;
  size_t i = 0;
  for (; len - i >= 8; i += 8) {
    uint64_t word;
    __builtin_memcpy(&word, in + i, 8);
    __asm__ volatile("" : "+r"(word)); /* stays a loop */
    __builtin_memcpy(out + i, &word, 8);
  }
  for (; i < len; i++) {
    uint8_t byte = in[i];
    __asm__ volatile("" : "+r"(byte));
    out[i] = byte;
  }
}

void *__wrap_memcpy(void *to, const void *from, size_t len);
void *__wrap_memcpy(void *to, const void *from, size_t len) {
  copy(to, from, len);
  return to;
}

void *__wrap_memmove(void *to, const void *from, size_t len);
void *__wrap_memmove(void *to, const void *from, size_t len) {
  uint8_t *out = to;
  const uint8_t *in = from;
  if (out <= in || out >= in + len) {
    copy(to, from, len);
    return to;
  }
  while (len > 0) {
    len--;
    uint8_t byte = in[len];
    __asm__ volatile("" : "+r"(byte));
    out[len] = byte;
  }
  return to;
}

void *__wrap___memcpy_chk(void *to, const void *from, size_t len, size_t size);
void *__wrap___memcpy_chk(void *to, const void *from, size_t len, size_t size) {
  if (len > size)
    abort();
  return __wrap_memcpy(to, from, len);
}

void *__wrap___memmove_chk(void *to, const void *from, size_t len, size_t size);
void *__wrap___memmove_chk(void *to, const void *from, size_t len,
                           size_t size) {
  if (len > size)
    abort();
  return __wrap_memmove(to, from, len);
}

int __wrap_crypto_random(void *out, size_t len);
int __wrap_crypto_random(void *out, size_t len) {
  for (size_t i = 0; i < len; i++)
    ((uint8_t *)out)[i] = (uint8_t)(7 * i + 11);
  return 0;
}

/* ---- two ends ---- */

static struct stream_core client;
static struct stream_core server;
static uint8_t payload[MEGABYTE];
static uint8_t wire[WIRE];
static size_t wire_len;
static uint8_t key[4] = {1, 2, 3, 4};

static void need(bool ok, const char *what) {
  if (ok)
    return;
  fprintf(stderr, "framing: %s\n", what);
  exit(1);
}

/* One upgrade, so that both are open. */
static void open_both(void) {
  static uint8_t bytes[HTTP_HEAD_MAX];
  struct stream_core_options options = {.host = "hub", .path = "/x"};
  struct http_head request;
  struct stream_data data;
  size_t used = 0;
  int http_status = 0;
  need(stream_core_connect(&client, &options, 0) == 0, "no client");
  size_t len = stream_core_pull(&client, bytes, sizeof bytes);
  need(http_head_parse_request(&request, (const char *)bytes, len) == 0,
       "no request");
  need(stream_core_accept(&server, &options, &request, NULL, &http_status, 0) ==
           0,
       "no server");
  len = stream_core_pull(&server, bytes, sizeof bytes);
  need(stream_core_feed(&client, bytes, len, SIZE_MAX, &used, &data, 0) ==
           STREAM_EV_OPEN,
       "not open");
}

/* The whole payload in frames of that size. */
static inline void frame_all(struct stream_core *core, size_t size) {
  wire_len = 0;
  for (size_t at = 0; at < MEGABYTE;) {
    size_t n = MEGABYTE - at < size ? MEGABYTE - at : size;
    size_t taken = 0;
    wire_len += stream_core_frame(core, payload + at, n, wire + wire_len,
                                  WIRE - wire_len, &taken);
    at += taken;
  }
}

/* The wire, a record at a time. */
static inline void feed_all(struct stream_core *core) {
  size_t told = 0;
  for (size_t at = 0; at < wire_len;) {
    size_t end = wire_len - at < RECORD ? wire_len : at + RECORD;
    while (at < end) {
      struct stream_data data;
      size_t used = 0;
      if (stream_core_feed(core, wire + at, end - at, SIZE_MAX, &used, &data,
                           0) == STREAM_EV_DATA)
        told += data.len;
      at += used;
    }
  }
  need(told == MEGABYTE, "bytes are missing");
}

/* ---- what is measured ---- */

/* The first one takes what came before: the start of the program. */
#define CASES(X)                                                               \
  X(start, open_both())                                                        \
  X(mask, ws_mask(wire, MEGABYTE, key, 1))                                     \
  X(client_send_large, frame_all(&client, LARGE))                              \
  X(server_receive_large, feed_all(&server))                                   \
  X(server_send_large, frame_all(&server, LARGE))                              \
  X(client_receive_large, feed_all(&client))                                   \
  X(client_send_small, frame_all(&client, SMALL))                              \
  X(server_receive_small, feed_all(&server))                                   \
  X(server_send_small, frame_all(&server, SMALL))                              \
  X(client_receive_small, feed_all(&client))

#define MEASURE(name, what)                                                    \
  void measure_##name(void);                                                   \
  __attribute__((noinline)) void measure_##name(void) {                        \
    what;                                                                      \
  }
CASES(MEASURE)

int main(void) {
#ifdef __clang__
  printf("clang %d\n", __clang_major__);
#else
  printf("gcc %d\n", __GNUC__);
#endif
#define RUN(name, what) measure_##name();
  CASES(RUN)
  stream_core_clear(&client);
  stream_core_clear(&server);
  return 0;
}
