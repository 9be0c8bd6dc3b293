/* hub/handshake.h: answers that a device, authenticated but hostile, sends. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/crypto.h"
#include "hub/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t now(void *user) {
  (void)user;
  return 1700000000;
}

static void wake_at(void *user, uint64_t at_ms) {
  (void)user;
  (void)at_ms;
}

static enum handshake_device find_device(void *user, const char *id) {
  (void)user;
  (void)id;
  return HANDSHAKE_DEVICE_OK;
}

static bool is_up(void *user) {
  (void)user;
  return true;
}

static bool is_ready(void *user, const char *client) {
  (void)user;
  (void)client;
  return true;
}

static int ask(void *user, const char *client, const char *topic) {
  (void)user;
  (void)client;
  (void)topic;
  return DSTREAM_OK;
}

static int expect(void *user, const struct gateway_stream *stream) {
  (void)user;
  (void)stream;
  return DSTREAM_OK;
}

static void set_eof(void *user, const char *stream_id) {
  (void)user;
  (void)stream_id;
}

static void forget(void *user, const char *stream_id, const char *reason) {
  (void)user;
  (void)stream_id;
  (void)reason;
}

static unsigned stream_count(void *user) {
  (void)user;
  return 0;
}

static unsigned device_stream_count(void *user, const char *client) {
  (void)user;
  (void)client;
  return 0;
}

static void log_line(void *user, enum dstream_log_level level,
                     const char *text) {
  (void)user;
  (void)level;
  for (; *text != '\0'; text++)
    assert((unsigned char)*text >= 0x20 && *text != 0x7f);
}

static void on_done(void *user, const struct handshake_result *result) {
  unsigned *told = user;
  (*told)++;
  if (result->reason != NULL)
    assert(strpbrk(result->reason, "\r\n") == NULL);
}

static const struct handshake_world world = {
    now,      now,    wake_at, find_device, is_up,        is_ready,
    ask,      expect, set_eof, forget,      stream_count, device_stream_count,
    log_line, NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t key[CRYPTO_SHA256_LEN];
  static const struct handshake_options options = {.host = "h",
                                                   .token_key = key,
                                                   .max_streams = 9,
                                                   .max_streams_per_device = 9,
                                                   .max_pending = 9,
                                                   .max_pending_per_device = 9,
                                                   .requests_per_second = 9,
                                                   .request_burst = 9,
                                                   .handshake_s = 60};
  static const struct handshake_request request = {
      .device_id = "d", .name = "n", .response_timeout_s = 30, .caps = "eof"};
  struct handshake *handshake = NULL;
  struct handshake_pending *pending = NULL;
  unsigned told = 0;
  assert(handshake_new(&handshake, &options, &world, NULL) == DSTREAM_OK);
  handshake_start(handshake, &request, on_done, &told, &pending);
  assert(told == 0 && pending != NULL);
  char *topic = malloc(size + 1);
  assert(topic != NULL);
  if (size > 0)
    memcpy(topic, data, size);
  topic[size] = '\0';
  handshake_on_answer(handshake, "d", topic);
  handshake_on_answer(handshake, "d", topic);
  free(topic);
  assert(told <= 1);
  handshake_stop(handshake);
  assert(told == 1);
  handshake_free(handshake);
  return 0;
}
