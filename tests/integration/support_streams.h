/* support_streams.h - the two ends of a stream, as tests play them: what they
 * send, what they saw.
 *
 * All of it runs on one loop, test_loop.  Nothing sleeps: WAIT steps the loop
 * until a condition holds, and fails the test when that takes too long.
 */
#ifndef SUPPORT_STREAMS_H
#define SUPPORT_STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

#include <dstream/loop.h>
#include <dstream/service.h>
#include <dstream/stream.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#ifndef TEST_SANITIZED
#define TEST_SANITIZED 0
#endif

/* "64 MB": less where every byte costs ten times as much. */
#define BIG_SIZE ((uint64_t)(TEST_SANITIZED ? 8 : 64) << 20)

#define WAIT_DEFAULT_MS 20000

/* The loop that WAIT steps. */
extern dstream_loop *test_loop;

/* Makes test_loop; what it logs is printed when DSTREAM_TEST_LOG is set. */
void test_loop_start(void);
/* The same with a choice of event library (net/loop.h). */
struct loop_backend;
void test_loop_start_on(const struct loop_backend *backend);
void test_loop_end(void);

uint64_t test_now_ms(void);

/* Called before cmocka_run_group_tests: only the tests whose names match the
 * pattern ("*stall*") in DSTREAM_TEST run. */
void test_choose(void);

/* Steps the loop until the condition holds. */
#define WAIT_MS(condition, ms)                                                 \
  do {                                                                         \
    uint64_t wait_until_ms = test_now_ms() + (ms);                             \
    while (!(condition)) {                                                     \
      if (test_now_ms() > wait_until_ms)                                       \
        fail_msg("waited %d ms in vain for %s", (int)(ms), #condition);        \
      assert_int_equal(dstream_loop_step(test_loop, 50), 0);                   \
    }                                                                          \
  } while (0)
#define WAIT(condition) WAIT_MS(condition, WAIT_DEFAULT_MS)

/* Steps the loop until *counter has stood still for quiet_ms: for what can only
 * be seen as nothing happening any more, such as a sender that is held. */
void wait_still(const uint64_t *counter, unsigned quiet_ms);

/* ---- one end ---- */

enum peer_kind {
  PEER_SENDER, /* sends a pattern, takes what comes */
  PEER_ECHO    /* sends back what comes, as fast as it is taken */
};

#define PEER_WINDOW 65536

/* Zeroed at first; peer_init; released with peer_clear. */
struct peer {
  enum peer_kind kind;
  uint32_t seed;       /* of the pattern */
  uint64_t to_send;    /* SENDER */
  uint64_t to_receive; /* SENDER: done when this has come, too */
  bool close_when_done;
  bool eof_when_sent; /* SENDER: ends its direction behind the pattern */
  bool eof_back;      /* ECHO: ends its direction behind the last echo */
  bool stalled;       /* takes no more than its window */
  size_t piece;       /* most bytes of one write; 0: 65536 */

  dstream_stream *stream; /* NULL after on_close */
  bool has_eof;           /* as the stream said in on_open */
  unsigned opens;
  unsigned eofs;
  unsigned closes;
  struct dstream_end end;
  uint64_t sent;
  uint64_t received;
  const char *broken; /* the first event that came out of order */

  /* private */
  bool eof_done;
  EVP_MD_CTX *sent_sum;
  EVP_MD_CTX *received_sum;
  uint64_t random;
  uint8_t *buffer; /* SENDER: of the pattern; ECHO: what waits */
  size_t buffer_len;
  size_t buffer_at;
  size_t unconsumed; /* while stalled */
};

void peer_init(struct peer *peer, enum peer_kind kind, uint64_t to_send,
               uint64_t to_receive);
void peer_clear(struct peer *peer);

/* For the functions that open or accept a stream; user: the peer. */
extern const struct dstream_stream_callbacks peer_callbacks;

/* Takes what it left since it was stalled, and goes on. */
void peer_unstall(struct peer *peer);

/* SENDER: sends more, `sent` so far stays. */
void peer_send_more(struct peer *peer, uint64_t bytes);

bool peer_done(const struct peer *peer); /* all sent and received */

/* Waits until an end is open, or has sent and received all; fails with the
 * cause when it is closed instead. */
void wait_open(const struct peer *peer);
void wait_done(const struct peer *peer);

/* ---- looking ---- */

/* Fails unless every event came in order, on_open once if `opened`, on_close
 * once. */
void assert_peer_over(const struct peer *peer, bool opened);
/* ... and with this status, and text in the sentence (NULL: any). */
void assert_peer_ended(const struct peer *peer, bool opened, int status,
                       const char *text);
/* What one sent is what the other received, to the last byte. */
void assert_same_bytes(const struct peer *sender, const struct peer *receiver);

/* Open descriptors of this process, or of another. */
int count_fds(void);
int count_fds_of(int pid);
/* Resident memory in bytes, of this process or of another. */
uint64_t resident_bytes(int pid);

#endif
