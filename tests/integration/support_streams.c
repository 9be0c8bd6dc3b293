#include "integration/support_streams.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <dstream/status.h>

#include "net/loop.h"

dstream_loop *test_loop;

/* ---- the loop ---- */

static void on_log(void *user, enum dstream_log_level level, const char *text) {
  (void)user;
  fprintf(stderr, "log %d: %s\n", (int)level, text);
}

void test_loop_start_on(const struct loop_backend *backend) {
  struct dstream_loop_options options = {.size = sizeof options};
  if (getenv("DSTREAM_TEST_LOG") != NULL) {
    options.log = on_log;
    options.log_level = DSTREAM_LOG_DEBUG;
  }
  assert_int_equal(loop_new(&test_loop, &options, backend), 0);
}

void test_loop_start(void) {
  test_loop_start_on(NULL);
}

void test_loop_end(void) {
  dstream_loop_free(test_loop);
  test_loop = NULL;
}

void test_choose(void) {
  if (getenv("DSTREAM_TEST") != NULL)
    cmocka_set_test_filter(getenv("DSTREAM_TEST"));
}

uint64_t test_now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void wait_still(const uint64_t *counter, unsigned quiet_ms) {
  uint64_t last = *counter;
  uint64_t begin = test_now_ms();
  uint64_t since = begin;
  while (test_now_ms() - since < quiet_ms) {
    assert_int_equal(dstream_loop_step(test_loop, 20), 0);
    if (*counter != last) {
      last = *counter;
      since = test_now_ms();
    }
    assert_true(since - begin < WAIT_DEFAULT_MS);
  }
}

/* ---- the pattern ---- */

static void fill(struct peer *peer) {
  for (size_t i = 0; i < PEER_WINDOW; i += sizeof peer->random) {
    peer->random ^= peer->random << 13; /* xorshift64 */
    peer->random ^= peer->random >> 7;
    peer->random ^= peer->random << 17;
    memcpy(peer->buffer + i, &peer->random, sizeof peer->random);
  }
  peer->buffer_at = 0;
  peer->buffer_len = PEER_WINDOW;
}

static EVP_MD_CTX *new_sum(void) {
  EVP_MD_CTX *sum = EVP_MD_CTX_new();
  assert_non_null(sum);
  assert_int_equal(EVP_DigestInit_ex(sum, EVP_sha256(), NULL), 1);
  return sum;
}

void peer_init(struct peer *peer, enum peer_kind kind, uint64_t to_send,
               uint64_t to_receive) {
  static uint32_t seeds;
  memset(peer, 0, sizeof *peer);
  peer->kind = kind;
  peer->seed = ++seeds;
  peer->random = 0x9e3779b97f4a7c15u ^ peer->seed;
  peer->to_send = to_send;
  peer->to_receive = to_receive;
  peer->sent_sum = new_sum();
  peer->received_sum = new_sum();
  peer->buffer = malloc(PEER_WINDOW);
  assert_non_null(peer->buffer);
}

void peer_clear(struct peer *peer) {
  EVP_MD_CTX_free(peer->sent_sum);
  EVP_MD_CTX_free(peer->received_sum);
  free(peer->buffer);
  peer->sent_sum = peer->received_sum = NULL;
  peer->buffer = NULL;
}

/* ---- sending ---- */

static void broken(struct peer *peer, const char *what) {
  if (peer->broken == NULL)
    peer->broken = what;
}

/* Writes from the buffer; how many bytes were taken. */
static size_t write_some(struct peer *peer, size_t len) {
  size_t most = peer->piece == 0 ? PEER_WINDOW : peer->piece;
  const uint8_t *from = peer->buffer + peer->buffer_at;
  if (len > most)
    len = most;
  long n = dstream_stream_write(peer->stream, from, len);
  if (n == DSTREAM_EAGAIN)
    return 0;
  if (n <= 0 || (size_t)n > len) {
    broken(peer, "write returned what it must not");
    return 0;
  }
  EVP_DigestUpdate(peer->sent_sum, from, (size_t)n);
  peer->sent += (uint64_t)n;
  peer->buffer_at += (size_t)n;
  peer->buffer_len -= (size_t)n;
  return (size_t)n;
}

bool peer_done(const struct peer *peer) {
  return peer->sent >= peer->to_send && peer->received >= peer->to_receive;
}

static void check_done(struct peer *peer) {
  if (peer->kind != PEER_SENDER || peer->stream == NULL || peer->opens == 0)
    return;
  if (peer->eof_when_sent && !peer->eof_done && peer->sent >= peer->to_send) {
    peer->eof_done = true;
    if (dstream_stream_shutdown_write(peer->stream) != DSTREAM_OK)
      broken(peer, "shutdown_write failed");
  }
  if (peer->close_when_done && peer_done(peer))
    dstream_stream_close(peer->stream);
}

static void send_pattern(struct peer *peer) {
  while (peer->sent < peer->to_send) {
    if (peer->buffer_len == 0)
      fill(peer);
    uint64_t left = peer->to_send - peer->sent;
    size_t want = left < peer->buffer_len ? (size_t)left : peer->buffer_len;
    if (peer->piece != 0 && want > peer->piece)
      want = peer->piece;
    size_t n = write_some(peer, want);
    if (n < want)
      break;
  }
}

static void echo_waiting(struct peer *peer) {
  while (peer->buffer_len > 0) {
    size_t n = write_some(peer, peer->buffer_len);
    if (n == 0)
      break;
    dstream_stream_consume(peer->stream, n);
  }
  if (peer->buffer_len == 0 && peer->eofs > 0 && peer->eof_back &&
      !peer->eof_done) {
    peer->eof_done = true;
    if (dstream_stream_shutdown_write(peer->stream) != DSTREAM_OK)
      broken(peer, "shutdown_write failed");
  }
}

static void go_on(struct peer *peer) {
  if (peer->stalled && peer->kind == PEER_ECHO)
    return;
  if (peer->kind == PEER_SENDER)
    send_pattern(peer);
  else
    echo_waiting(peer);
  check_done(peer);
}

void peer_send_more(struct peer *peer, uint64_t bytes) {
  peer->to_send += bytes;
  if (peer->stream != NULL && peer->opens > 0)
    go_on(peer);
}

void peer_unstall(struct peer *peer) {
  peer->stalled = false;
  size_t n = peer->unconsumed;
  peer->unconsumed = 0;
  if (peer->stream == NULL)
    return;
  if (n > 0)
    dstream_stream_consume(peer->stream, n);
  go_on(peer);
}

/* ---- callbacks ---- */

static void on_open(dstream_stream *stream, void *user) {
  struct peer *peer = user;
  if (peer->opens++ != 0 || peer->closes != 0)
    broken(peer, "on_open came late or twice");
  peer->stream = stream;
  peer->has_eof = dstream_stream_has_eof(stream);
  go_on(peer);
}

static void keep_for_echo(struct peer *peer, const void *data, size_t len) {
  if (peer->buffer_len + len > PEER_WINDOW) {
    broken(peer, "more bytes came than the window holds");
    return;
  }
  memmove(peer->buffer, peer->buffer + peer->buffer_at, peer->buffer_len);
  peer->buffer_at = 0;
  memcpy(peer->buffer + peer->buffer_len, data, len);
  peer->buffer_len += len;
}

static void on_data(dstream_stream *stream, void *user, const void *data,
                    size_t len) {
  struct peer *peer = user;
  if (peer->opens != 1 || peer->closes != 0 || peer->eofs != 0 || len == 0)
    broken(peer, "on_data came out of order or empty");
  EVP_DigestUpdate(peer->received_sum, data, len);
  peer->received += len;
  if (peer->kind == PEER_ECHO)
    keep_for_echo(peer, data, len);
  else if (peer->stalled)
    peer->unconsumed += len;
  else
    dstream_stream_consume(stream, len);
  if (peer->kind == PEER_ECHO)
    go_on(peer);
  else
    check_done(peer);
}

static void on_writable(dstream_stream *stream, void *user) {
  struct peer *peer = user;
  (void)stream;
  if (peer->opens != 1 || peer->closes != 0)
    broken(peer, "on_writable came out of order");
  go_on(peer);
}

static void on_eof(dstream_stream *stream, void *user) {
  struct peer *peer = user;
  (void)stream;
  if (peer->opens != 1 || peer->closes != 0 || peer->eofs++ != 0)
    broken(peer, "on_eof came out of order");
  go_on(peer);
}

static void on_close(dstream_stream *stream, void *user,
                     const struct dstream_end *end) {
  struct peer *peer = user;
  (void)stream;
  if (peer->closes++ != 0)
    broken(peer, "on_close came twice");
  peer->end = *end;
  peer->stream = NULL;
}

const struct dstream_stream_callbacks peer_callbacks = {
    .on_open = on_open,
    .on_data = on_data,
    .on_writable = on_writable,
    .on_eof = on_eof,
    .on_close = on_close,
};

/* ---- waiting ---- */

static void not_closed(const struct peer *peer, const char *what) {
  if (peer->closes != 0)
    fail_msg("closed instead of %s: %s, \"%s\"", what,
             dstream_status_name(peer->end.status), peer->end.text);
}

void wait_open(const struct peer *peer) {
  WAIT(peer->opens > 0 || peer->closes > 0);
  not_closed(peer, "open");
}

void wait_done(const struct peer *peer) {
  WAIT_MS(peer_done(peer) || peer->closes > 0, 60000);
  if (!peer_done(peer))
    not_closed(peer, "done");
}

/* ---- looking ---- */

void assert_peer_over(const struct peer *peer, bool opened) {
  if (peer->broken != NULL)
    fail_msg("%s", peer->broken);
  if (peer->opens != (opened ? 1u : 0u) || peer->closes != 1)
    fail_msg("on_open %u times, on_close %u times; the end: %d %s", peer->opens,
             peer->closes, peer->end.status, peer->end.text);
}

void assert_peer_ended(const struct peer *peer, bool opened, int status,
                       const char *text) {
  assert_peer_over(peer, opened);
  if (peer->end.status != status ||
      (text != NULL && strstr(peer->end.text, text) == NULL))
    fail_msg("ended with %s (hub %d, http %d, ws %d, mqtt %d), \"%s\"; "
             "expected %s, \"%s\"",
             dstream_status_name(peer->end.status), peer->end.hub_code,
             peer->end.http_status, peer->end.ws_code, peer->end.mqtt_code,
             peer->end.text, dstream_status_name(status),
             text == NULL ? "" : text);
}

static void final_sum(EVP_MD_CTX *sum, unsigned char *out) {
  EVP_MD_CTX *copy = EVP_MD_CTX_new();
  assert_non_null(copy);
  assert_int_equal(EVP_MD_CTX_copy_ex(copy, sum), 1);
  assert_int_equal(EVP_DigestFinal_ex(copy, out, NULL), 1);
  EVP_MD_CTX_free(copy);
}

void assert_same_bytes(const struct peer *sender, const struct peer *receiver) {
  unsigned char a[EVP_MAX_MD_SIZE];
  unsigned char b[EVP_MAX_MD_SIZE];
  if (sender->sent != receiver->received)
    fail_msg("%llu bytes were sent, %llu came",
             (unsigned long long)sender->sent,
             (unsigned long long)receiver->received);
  final_sum(sender->sent_sum, a);
  final_sum(receiver->received_sum, b);
  assert_memory_equal(a, b, 32);
}

int count_fds_of(int pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", pid);
  DIR *folder = opendir(path);
  if (folder == NULL)
    return -1;
  int count = -3; /* ".", ".." and the folder itself */
  if (pid != getpid())
    count = -2;
  while (readdir(folder) != NULL)
    count++;
  closedir(folder);
  return count;
}

int count_fds(void) {
  return count_fds_of(getpid());
}

uint64_t resident_bytes(int pid) {
  char path[64];
  char line[256];
  unsigned long long kb = 0;
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return 0;
  while (fgets(line, sizeof line, file) != NULL)
    if (strncmp(line, "VmRSS:", 6) == 0)
      kb = strtoull(line + 6, NULL, 10);
  fclose(file);
  return kb * 1024;
}
