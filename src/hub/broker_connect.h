/* hub/broker_connect.h - a client's CONNECT packet, and the hub's word for its
 * certificate in it.
 *
 * Only the hub's TLS front sees a client's certificate; only the broker's
 * plugin sees the client id and the database.  So the front reads the CONNECT
 * packet of a client that has shown a certificate and has no password, and puts
 * in a password that says what the certificate is, for this client id, signed
 * with the secret that hub and plugin share, good for BROKER_VOUCHER_MS.  It
 * stays within the broker's unix socket.
 *
 * MQTT 3.1, 3.1.1 and 5 (section 3.1 of each).  Pure.
 */
#ifndef HUB_BROKER_CONNECT_H
#define HUB_BROKER_CONNECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/slice.h"
#include "hub/identity.h"

/* Longest packet that is looked at. */
#define BROKER_CONNECT_MAX 16384

struct broker_connect {
  size_t length; /* of the packet */
  size_t body;   /* where it begins, behind the remaining length */
  size_t flags;  /* where the connect flags are */
  struct slice client_id;
  bool has_user;
  bool has_password;
};

/* Parses what came first on a connection; *out points into data.
 * DSTREAM_EAGAIN: more is needed; DSTREAM_EFORMAT: this is no CONNECT packet;
 * DSTREAM_ELIMIT: it is longer than BROKER_CONNECT_MAX. */
int broker_connect_parse(struct broker_connect *out, const void *data,
                         size_t len);

/* Most bytes that a password adds. */
#define BROKER_CONNECT_MORE(password_len) ((password_len) + 6)

/* Writes the packet with a password, which it must not have had, to out.
 * Returns its length; DSTREAM_ELIMIT: out is too small. */
int broker_connect_with_password(const struct broker_connect *connect,
                                 const void *data, const char *password,
                                 uint8_t *out, size_t size);

#define BROKER_VOUCHER_SIZE 512
#define BROKER_VOUCHER_MS   60000

/* What begins a password that is one. */
#define BROKER_VOUCHER_PREFIX "dstream-certificate "

/* Writes the password; now_ms is CLOCK_MONOTONIC's, which both processes share.
 * DSTREAM_EINTERNAL. */
int broker_voucher_make(char out[BROKER_VOUCHER_SIZE], const char *secret,
                        struct slice client_id, uint64_t now_ms,
                        const struct identity_certificate *certificate);

/* Reads one.  DSTREAM_EUNAUTHORIZED: it is none, not for this client id, not
 * signed with the secret, or too old. */
int broker_voucher_read(struct identity_certificate *out, const char *voucher,
                        const char *secret, struct slice client_id,
                        uint64_t now_ms);

#endif
