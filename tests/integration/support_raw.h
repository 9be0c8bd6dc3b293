/* support_raw.h - a client that speaks TLS and nothing else by itself: HTTP,
 * WebSocket frames and MQTT packets byte by byte, right or wrong, as a test
 * likes.  It blocks, so it runs on a thread of its own beside the loop:
 *
 *   static bool play(struct raw *raw, void *arg) {
 *     NEED(raw, raw_connect(raw, "localhost", port, ca_file));
 *     NEED(raw, raw_text(raw, "nonsense\r\n\r\n"));
 *     NEED(raw, raw_answer(raw) == 400);
 *     return true;
 *   }
 *   run_script(play, arg);
 */
#ifndef SUPPORT_RAW_H
#define SUPPORT_RAW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#define RAW_IN_MAX (1 << 17)

struct raw {
  SSL_CTX *context;
  SSL *ssl; /* NULL: plain */
  int fd;
  char error[512];        /* what failed first, and where */
  char head[16384];       /* of the last answer, with its body */
  uint8_t in[RAW_IN_MAX]; /* came and was not looked at */
  size_t in_len;
  unsigned records; /* of TLS that came, all encrypted ones */
  bool ended;       /* the peer's direction is over */
  bool reset;       /* ... by an error of the connection */
};

/* Notes the place and the errno; returns false. */
bool raw_failed(struct raw *raw, const char *file, int line, const char *what);
#define NEED(raw, condition)                                                   \
  do {                                                                         \
    if (!(condition))                                                          \
      return raw_failed(raw, __FILE__, __LINE__, #condition);                  \
  } while (0)

/* Connects and shakes hands, the server verified.  A raw that was connected
 * before is closed first. */
bool raw_connect(struct raw *raw, const char *host, uint16_t port,
                 const char *ca_file);
/* The same without TLS, whatever the port expects. */
bool raw_connect_plain(struct raw *raw, const char *host, uint16_t port);
/* The orderly end: close_notify and FIN, then the peer's end awaited. */
bool raw_finish(struct raw *raw);
/* FIN without close_notify; reading goes on. */
void raw_fin(struct raw *raw);
/* RST. */
void raw_reset(struct raw *raw);
void raw_close(struct raw *raw);

/* len bytes, in one TLS record when 16384 or fewer. */
bool raw_send(struct raw *raw, const void *data, size_t len);
bool raw_text(struct raw *raw, const char *text);

/* Exactly len bytes, within 15 s. */
bool raw_read(struct raw *raw, void *out, size_t len);
/* True when the peer ends (or breaks) the connection within 15 s; what still
 * comes is dropped. */
bool raw_wait_end(struct raw *raw);

/* Reads an HTTP answer with its body (Content-Length) to head; its status, or
 * 0. */
int raw_answer(struct raw *raw);

/* ---- WebSocket ---- */

/* Asks for the upgrade with a token (NULL: none); behind is sent in the same
 * record.  The answer's status. */
int raw_upgrade(struct raw *raw, const char *host, const char *path,
                const char *token, const void *behind, size_t behind_len);

/* Builds a masked frame; first: FIN, reserved bits and opcode (0x82: a whole
 * binary message).  Returns its length; out: len + 14 bytes. */
size_t raw_frame(uint8_t *out, uint8_t first, const void *payload, size_t len);
/* Sends one in one go. */
bool raw_send_frame(struct raw *raw, uint8_t first, const void *payload,
                    size_t len);

struct raw_frame {
  uint8_t first; /* as above */
  bool masked;
  uint64_t len;
  uint8_t payload[65536]; /* the beginning */
};
bool raw_read_frame(struct raw *raw, struct raw_frame *frame);
/* A Close frame of this code comes next (-1: without one), whose reason holds
 * text; pings before it are skipped. */
bool raw_expect_close(struct raw *raw, int code, const char *text);

/* ---- MQTT 3.1.1 ---- */

/* CONNECT, clean session; the CONNACK's code, or -1: it ended instead. */
int raw_mqtt_connect(struct raw *raw, const char *client_id, const char *user,
                     const char *password);
/* The SUBACK's code, or -1. */
int raw_mqtt_subscribe(struct raw *raw, const char *filter);
/* PUBLISH, QoS 0, without payload. */
bool raw_mqtt_publish(struct raw *raw, const char *topic);
/* The topic of the next PUBLISH that comes. */
bool raw_mqtt_message(struct raw *raw, char *topic, size_t size);

/* ---- scripts ---- */

typedef bool script_fn(struct raw *raw, void *arg);

struct script {
  script_fn *fn;
  void *arg;
  pthread_t thread;
  atomic_bool over;
  bool ok;
  struct raw raw;
};

/* Starts it on its thread. */
struct script *script_start(script_fn *fn, void *arg);
/* Steps test_loop until it is over; fails the test if it failed. */
void script_end(struct script *script);
/* Both. */
void run_script(script_fn *fn, void *arg);

/* A number that a script and its test share: the script waits (10 s at most)
 * until it is at least value. */
bool script_await(atomic_int *number, int value);

#endif
