/* net/loop.h - the inside of dstream_loop: descriptors, timers, deferred work.
 *
 * libwebsockets polls; a descriptor is adopted as a raw file and read and
 * written by its owner.  All functions run on the loop's thread unless they say
 * otherwise.  None of them calls back from inside itself.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/loop.h>

/* One read from a socket takes at most this much; also the size of pooled
 * buffers.  Many TLS records for one system call. */
#define LOOP_CHUNK 114688
/* One TLS record of plaintext (RFC 8446 5.1). */
#define LOOP_RECORD 16384

#define LOOP_READ  1u
#define LOOP_WRITE 2u
/* The loop is being freed; the descriptor is closed already. */
#define LOOP_GONE 4u

/* Another event library under libwebsockets; see net/loop_uv.h.  NULL: poll. */
struct loop_backend {
  unsigned long long lws_options;
  int (*create)(void **library_loop);
  /* Waits for events and handles them; timeout_ms: at most, -1 for ever. */
  void (*run_once)(void *library_loop, int timeout_ms);
  void (*destroy)(void *library_loop);
};

/* dstream_loop_new with a choice of event library. */
int loop_new(dstream_loop **out, const struct dstream_loop_options *options,
             const struct loop_backend *backend);

/* Monotonic milliseconds.  Any thread. */
uint64_t loop_now_ms(void);

/* Formats one log line for the loop's log function.  Never pass a secret. */
void loop_log(dstream_loop *loop, enum dstream_log_level level,
              const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Whether lines of this level are logged at all. */
bool loop_logs(const dstream_loop *loop, enum dstream_log_level level);

/* ---- posts that can't fail ---- */

/* Embedded in its owner. */
struct loop_post {
  struct loop_post *next;
  void (*fn)(void *arg);
  void *arg;
  bool from_heap; /* dstream_loop_post's */
};

/* As dstream_loop_post, in the same order, but in memory of the caller's own:
 * no limit and no failure, for teardown and for threads that can't wait.  Not
 * again before fn was called; fn may free it.  Any thread. */
void loop_post(dstream_loop *loop, struct loop_post *post,
               void (*fn)(void *arg), void *arg);

/* ---- timers ---- */

/* Embedded in its owner; zeroed at first. */
struct loop_timer {
  void (*fn)(struct loop_timer *timer);
  dstream_loop *loop;
  /* struct timer_node, kept opaque; the .c file asserts the size */
  uint64_t opaque[8];
};

/* Calls fn once, after delay_ms; replaces an earlier setting. */
void loop_timer_set(dstream_loop *loop, struct loop_timer *timer,
                    uint64_t delay_ms, void (*fn)(struct loop_timer *timer));
/* A timer that is not set: nothing. */
void loop_timer_cancel(struct loop_timer *timer);

/* ---- descriptors ---- */

/* Embedded in its owner; zeroed before loop_watch_start. */
struct loop_watch {
  dstream_loop *loop;
  void (*fn)(struct loop_watch *watch, unsigned events);
  void *wsi; /* struct lws *; NULL after the descriptor hung up */
  int fd;
  unsigned want;
  bool in_write; /* inside the LOOP_WRITE callback: a new wish for it is lost */
  bool hung_up;  /* the system polls it no more; read and write tell why */
  struct loop_timer again;
};

/* Has fn called when fd is ready for what is wanted (nothing at first).  fd
 * becomes non-blocking and the loop's: loop_watch_close closes it, and so does
 * a failure here.  DSTREAM_ELIMIT, DSTREAM_ENOMEM. */
int loop_watch_start(dstream_loop *loop, struct loop_watch *watch, int fd,
                     void (*fn)(struct loop_watch *watch, unsigned events));

/* Sets what to wait for: LOOP_READ, LOOP_WRITE, both or 0.  Level-triggered. */
void loop_watch_want(struct loop_watch *watch, unsigned events);

/* Forgets the watch, which may be freed at once, and closes fd soon.  A watch
 * that was not started or is closed: nothing. */
void loop_watch_close(struct loop_watch *watch);

/* ---- deferred work ---- */

/* Embedded in its owner; zeroed at first. */
struct loop_task {
  struct loop_task *next;
  struct loop_task *prev;
  void (*fn)(struct loop_task *task);
};

/* Has fn called once, when the callback now running has returned (or, outside
 * of any callback, soon).  Deferring it again before then does nothing. */
void loop_defer(dstream_loop *loop, struct loop_task *task,
                void (*fn)(struct loop_task *task));
void loop_task_cancel(struct loop_task *task);

/* ---- shared buffers: valid within one callback only ---- */

/* They are there while somebody holds them: each link does, so that a loop
 * without any takes no memory for them.  False: out of memory. */
bool loop_buffers_hold(dstream_loop *loop);
void loop_buffers_release(dstream_loop *loop);

/* LOOP_CHUNK bytes for what a socket read brings. */
uint8_t *loop_read_buffer(dstream_loop *loop);
/* LOOP_RECORD bytes for one decrypted record. */
uint8_t *loop_plain_buffer(dstream_loop *loop);
/* LOOP_RECORD bytes to build one outgoing record in. */
uint8_t *loop_frame_buffer(dstream_loop *loop);

/* Where one link at a time gathers small writes until they make a record; not
 * bound to a callback, so who takes it over has the owner empty it first. */
struct loop_gather {
  void *owner; /* NULL: nobody's */
  size_t len;
  uint8_t bytes[LOOP_RECORD];
};
struct loop_gather *loop_gather(dstream_loop *loop);

/* A buffer of LOOP_CHUNK bytes from the loop's pool, or NULL. */
uint8_t *loop_chunk_get(dstream_loop *loop);
void loop_chunk_put(dstream_loop *loop, uint8_t *chunk);

/* Where net/resolve.c keeps the loop's resolver. */
struct resolver;
struct resolver **loop_resolver(dstream_loop *loop);

#endif
