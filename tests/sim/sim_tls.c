/* net/tls.h without encryption: records of 16 bytes of header and the bytes.
 * Each has a number, so that one lost, repeated or moved is noticed, and the
 * handshake costs the same round trips. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/end.h"
#include "net/loop.h"
#include "net/tls.h"
#include "net/tls_sessions.h"
#include "sim.h"

#define HEADER      16
#define RECORD_MAX  (HEADER + LOOP_RECORD)
#define HELLO_BYTES 200

enum type { TYPE_HELLO = 1, TYPE_DATA = 2, TYPE_END = 3 };

struct tls_config {
  unsigned users;
  bool server;
};

struct tls {
  bool server;
  bool done;
  bool hello_sent, hello_seen;
  bool untrusted;
  bool ended, shut;
  struct ring *out;
  const uint8_t *input;
  size_t input_len;
  uint32_t sent, seen; /* records */
  uint8_t *part;       /* of a record that has not come in full */
  size_t part_len;
};

static int config_new(struct tls_config **out, bool server,
                      struct dstream_end *error) {
  struct tls_config *config = calloc(1, sizeof *config);
  if (config == NULL) {
    end_set(error, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  config->server = server;
  *out = config;
  return DSTREAM_OK;
}

int tls_config_client(struct tls_config **out,
                      const struct dstream_tls_options *options,
                      struct dstream_end *error) {
  (void)options;
  return config_new(out, false, error);
}

int tls_config_server(struct tls_config **out, const char *cert_file,
                      const char *key_file, struct dstream_end *error) {
  (void)cert_file;
  (void)key_file;
  return config_new(out, true, error);
}

void tls_config_free(struct tls_config *config) {
  free(config);
}

int tls_new(struct tls **out, const struct tls_config *config, const char *host,
            struct ring *ring) {
  struct tls *tls = calloc(1, sizeof *tls);
  if (tls == NULL)
    return DSTREAM_ENOMEM;
  assert(config->server == (host == NULL));
  tls->server = host == NULL;
  tls->out = ring;
  tls->untrusted = !tls->server && sim_chance(sim_tls_verify_permille());
  *out = tls;
  return DSTREAM_OK;
}

void tls_free(struct tls *tls) {
  if (tls == NULL)
    return;
  free(tls->part);
  free(tls);
}

void tls_resume(struct tls *tls, uint16_t port) {
  (void)tls;
  (void)port;
}

int tls_config_ask_clients(struct tls_config *config, const char *ca_file,
                           struct dstream_end *error) {
  (void)config;
  (void)ca_file;
  (void)error;
  return DSTREAM_OK;
}

/* No client has a certificate. */
bool tls_peer(const struct tls *tls, struct tls_peer *out) {
  (void)tls;
  (void)out;
  return false;
}

bool tls_resumed(const struct tls *tls) {
  (void)tls;
  return false;
}

void tls_set_input(struct tls *tls, const uint8_t *data, size_t len) {
  SIM_CHECK(tls->input_len == 0 || data == NULL || len == tls->input_len,
            "%zu bytes of ciphertext forgotten", tls->input_len);
  tls->input = data;
  tls->input_len = len;
}

const uint8_t *tls_input(const struct tls *tls, size_t *len) {
  *len = tls->input_len;
  return tls->input;
}

/* ---- records ---- */

static void put_record(struct tls *tls, enum type type, const void *data,
                       size_t len) {
  uint8_t header[HEADER] = {(uint8_t)type, (uint8_t)(len >> 8), (uint8_t)len};
  memcpy(header + 4, &tls->sent, sizeof tls->sent);
  tls->sent++;
  ring_put(tls->out, header, sizeof header);
  ring_put(tls->out, data, len);
}

/* Moves input into the part until that has len bytes. */
static bool fill(struct tls *tls, size_t len) {
  size_t need = len > tls->part_len ? len - tls->part_len : 0;
  size_t n = need < tls->input_len ? need : tls->input_len;
  if (n > 0)
    memcpy(tls->part + tls->part_len, tls->input, n);
  tls->part_len += n;
  tls->input += n;
  tls->input_len -= n;
  return n == need;
}

/* > 0: a type, its record is in the part; EAGAIN; ENOMEM. */
static int get_record(struct tls *tls, size_t *len) {
  if (tls->input_len == 0)
    return DSTREAM_EAGAIN;
  if (tls->part == NULL)
    tls->part = malloc(RECORD_MAX);
  if (tls->part == NULL)
    return DSTREAM_ENOMEM;
  if (!fill(tls, HEADER))
    return DSTREAM_EAGAIN;
  uint32_t number;
  memcpy(&number, tls->part + 4, sizeof number);
  *len = (size_t)tls->part[1] << 8 | tls->part[2];
  SIM_CHECK(number == tls->seen && *len <= LOOP_RECORD,
            "record %u came where %u was due", number, tls->seen);
  if (!fill(tls, HEADER + *len))
    return DSTREAM_EAGAIN;
  tls->seen++;
  tls->part_len = 0;
  return tls->part[0];
}

int tls_handshake(struct tls *tls, struct dstream_end *error) {
  uint8_t hello[HELLO_BYTES] = {0};
  size_t len = 0;
  if (!tls->server && !tls->hello_sent) {
    put_record(tls, TYPE_HELLO, hello, sizeof hello);
    tls->hello_sent = true;
  }
  if (tls->done)
    return DSTREAM_OK;
  int type = get_record(tls, &len);
  if (type == DSTREAM_EAGAIN)
    return type;
  if (type != TYPE_HELLO || tls->untrusted) {
    int status = tls->untrusted ? DSTREAM_EVERIFY : DSTREAM_ETLS;
    end_set(error, status, "%s", dstream_status_text(status));
    return status;
  }
  if (tls->server)
    put_record(tls, TYPE_HELLO, hello, sizeof hello);
  tls->done = true;
  return DSTREAM_OK;
}

long tls_read(struct tls *tls, uint8_t *data, size_t size,
              struct dstream_end *error) {
  size_t len = 0;
  SIM_CHECK(!tls->ended, "TLS is read after its end");
  int type = get_record(tls, &len);
  if (type == DSTREAM_EAGAIN)
    return type;
  if (type == TYPE_END) {
    tls->ended = true;
    return 0;
  }
  if (type != TYPE_DATA || len > size) {
    end_set(error, DSTREAM_ETLS, "TLS failed");
    return DSTREAM_ETLS;
  }
  memcpy(data, tls->part + HEADER, len);
  return (long)len;
}

bool tls_blocked(const struct tls *tls) {
  (void)tls;
  return false;
}

int tls_write(struct tls *tls, const void *data, size_t len) {
  SIM_CHECK(tls->done && !tls->shut, "TLS written when it can't be");
  SIM_CHECK(len > 0 && len <= LOOP_RECORD, "TLS record of %zu bytes", len);
  put_record(tls, TYPE_DATA, data, len);
  return DSTREAM_OK;
}

/* What OpenSSL does with its buffers. */
void tls_release_buffers(struct tls *tls) {
  if (tls == NULL || tls->part_len > 0)
    return;
  free(tls->part);
  tls->part = NULL;
}

void tls_shutdown(struct tls *tls) {
  if (!tls->done || tls->shut || ring_free(tls->out) < HEADER)
    return;
  tls->shut = true;
  put_record(tls, TYPE_END, "", 0);
}
