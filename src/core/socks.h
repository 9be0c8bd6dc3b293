/* core/socks.h - the server's end of a SOCKS 5 handshake (RFC 1928), no I/O.
 *
 * CONNECT only, without authentication: it is for loopback.  A client may send
 * everything at once, its request behind its greeting and data behind that.
 */
#ifndef CORE_SOCKS_H
#define CORE_SOCKS_H

#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/address.h"

/* RFC 1928 section 6. */
enum socks_reply {
  SOCKS_SUCCEEDED = 0,
  SOCKS_FAILURE = 1,
  SOCKS_NOT_ALLOWED = 2,
  SOCKS_NETWORK_UNREACHABLE = 3,
  SOCKS_HOST_UNREACHABLE = 4,
  SOCKS_REFUSED = 5,
  SOCKS_TTL_EXPIRED = 6,
  SOCKS_COMMAND_UNSUPPORTED = 7,
  SOCKS_ADDRESS_UNSUPPORTED = 8
};

/* The longest message of either side that this end reads or writes. */
#define SOCKS_MESSAGE_MAX 262

enum socks_state {
  SOCKS_GREETING, /* awaits the client's methods.  REQUEST, FAILED */
  SOCKS_REQUEST,  /* awaits what to connect to.  ASKED, FAILED */
  SOCKS_ASKED, /* `target` is set (host and port, never a unix socket): connect,
                  then socks_answer.  DONE, FAILED */
  SOCKS_DONE,  /* what follows is the stream's */
  SOCKS_FAILED /* send the output, if any, then close; `error` says why */
};

/* Zeroed at first. */
struct socks {
  enum socks_state state;
  struct address target;
  struct dstream_end error;
  uint8_t in[SOCKS_MESSAGE_MAX]; /* the message coming in */
  size_t in_len;
  uint8_t out[SOCKS_MESSAGE_MAX]; /* what to send now; the caller sets out_len
                                     to 0 when it has sent it */
  size_t out_len;
};

/* Takes bytes from the client; returns how many were used: none beyond the
 * request, those belong to the stream.  Stops at ASKED or FAILED.  What comes
 * out does not depend on how the bytes were cut, and the output need not have
 * been sent in between. */
size_t socks_feed(struct socks *socks, const uint8_t *data, size_t len);

/* ASKED: makes the reply, behind what is still to be sent.  SOCKS_SUCCEEDED
 * leads to DONE, others to FAILED; then `error` is set unless the caller did
 * so before. */
void socks_answer(struct socks *socks, enum socks_reply reply);

#endif
