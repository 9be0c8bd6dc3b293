#include "core/socks.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "core/end.h"
#include "core/slice.h"

/* RFC 1928 sections 3 to 6. */
enum {
  VERSION = 5,
  NO_AUTHENTICATION = 0,
  NO_METHOD = 0xff,
  COMMAND_CONNECT = 1,
  ATYP_IPV4 = 1,
  ATYP_NAME = 3,
  ATYP_IPV6 = 4,
  REQUEST_HEAD = 4, /* bytes before the address */
  PORT_SIZE = 2
};

static void put(struct socks *socks, const uint8_t *data, size_t len) {
  assert(len <= sizeof socks->out - socks->out_len);
  memcpy(socks->out + socks->out_len, data, len);
  socks->out_len += len;
}

/* Version, reply, reserved, and 0.0.0.0:0 as the address it is bound to: that
 * is at the other end of the stream, and no client uses it. */
static void put_reply(struct socks *socks, enum socks_reply reply) {
  const uint8_t message[] = {
      VERSION, (uint8_t)reply, 0, ATYP_IPV4, 0, 0, 0, 0, 0, 0};
  put(socks, message, sizeof message);
}

static void refuse(struct socks *socks, enum socks_reply reply,
                   const char *why) {
  end_set(&socks->error, DSTREAM_EFORMAT, "%s", why);
  put_reply(socks, reply);
  socks->state = SOCKS_FAILED;
}

/* Nothing is sent: who speaks another protocol would not understand it. */
static void check_version(struct socks *socks) {
  uint8_t version = socks->in[0];
  if (version == VERSION)
    return;
  socks->state = SOCKS_FAILED;
  if (version == 4)
    end_set(&socks->error, DSTREAM_EFORMAT,
            "the client speaks SOCKS 4: set it to SOCKS 5");
  else
    end_set(&socks->error, DSTREAM_EFORMAT,
            "the client does not speak SOCKS 5 (its first byte is 0x%02x)",
            (unsigned)version);
}

static void take_greeting(struct socks *socks) {
  uint8_t answer[] = {VERSION, NO_METHOD};
  size_t count = socks->in[1];
  if (count > 0 && memchr(socks->in + 2, NO_AUTHENTICATION, count) != NULL) {
    answer[1] = NO_AUTHENTICATION;
    socks->state = SOCKS_REQUEST;
  } else {
    socks->state = SOCKS_FAILED;
    end_set(&socks->error, DSTREAM_EFORMAT,
            "the SOCKS client insists on authentication, which is not done "
            "here: take the user name and password out of its settings");
  }
  put(socks, answer, sizeof answer);
}

static bool read_host(struct address *target, uint8_t atyp,
                      const uint8_t *data) {
  if (atyp == ATYP_NAME) {
    struct slice name = {(const char *)data + 1, data[0]};
    if (!address_host_valid(name))
      return false;
    memcpy(target->host, name.p, name.len);
    target->host[name.len] = '\0';
    return true;
  }
  return inet_ntop(atyp == ATYP_IPV4 ? AF_INET : AF_INET6, data, target->host,
                   sizeof target->host) != NULL;
}

static void take_request(struct socks *socks) {
  const uint8_t *in = socks->in;
  const uint8_t *port = in + socks->in_len - PORT_SIZE;
  struct address target = {.port = (uint16_t)(port[0] << 8 | port[1])};
  if (in[1] != COMMAND_CONNECT) {
    refuse(socks, SOCKS_COMMAND_UNSUPPORTED,
           "the SOCKS client asked for BIND or UDP: only CONNECT is done here");
    return;
  }
  if (!read_host(&target, in[3], in + REQUEST_HEAD)) {
    refuse(socks, SOCKS_FAILURE,
           "the SOCKS client asked for a host whose name is not made of "
           "letters, digits, '-', '.' and '_'");
    return;
  }
  if (target.port == 0) {
    refuse(socks, SOCKS_FAILURE, "the SOCKS client asked for port 0");
    return;
  }
  socks->target = target;
  socks->state = SOCKS_ASKED;
}

/* ---- how long a message is, as far as can be told from what is there ---- */

static size_t greeting_size(const struct socks *socks) {
  if (socks->in_len < 2)
    return socks->in_len + 1;
  return 2 + (size_t)socks->in[1];
}

/* 0: nobody knows how long. */
static size_t request_size(const struct socks *socks) {
  if (socks->in_len < REQUEST_HEAD)
    return socks->in_len == 0 ? 1 : REQUEST_HEAD;
  switch (socks->in[3]) {
  case ATYP_IPV4:
    return REQUEST_HEAD + 4 + PORT_SIZE;
  case ATYP_IPV6:
    return REQUEST_HEAD + 16 + PORT_SIZE;
  case ATYP_NAME:
    if (socks->in_len == REQUEST_HEAD)
      return REQUEST_HEAD + 1;
    return REQUEST_HEAD + 1 + (size_t)socks->in[4] + PORT_SIZE;
  default:
    return 0;
  }
}

/* After each part whose end is known. */
static void advance(struct socks *socks) {
  check_version(socks);
  if (socks->state == SOCKS_GREETING && socks->in_len == greeting_size(socks)) {
    take_greeting(socks);
    socks->in_len = 0;
  } else if (socks->state == SOCKS_REQUEST) {
    size_t size = request_size(socks);
    if (size == 0)
      refuse(socks, SOCKS_ADDRESS_UNSUPPORTED,
             "the SOCKS client asked for an address of an unknown type");
    else if (socks->in_len == size)
      take_request(socks);
  }
}

size_t socks_feed(struct socks *socks, const uint8_t *data, size_t len) {
  size_t used = 0;
  while (used < len &&
         (socks->state == SOCKS_GREETING || socks->state == SOCKS_REQUEST)) {
    size_t size = socks->state == SOCKS_GREETING ? greeting_size(socks)
                                                 : request_size(socks);
    assert(size > socks->in_len && size <= sizeof socks->in);
    size_t n = size - socks->in_len;
    if (n > len - used)
      n = len - used;
    memcpy(socks->in + socks->in_len, data + used, n);
    socks->in_len += n;
    used += n;
    if (socks->in_len == size)
      advance(socks);
  }
  return used;
}

void socks_answer(struct socks *socks, enum socks_reply reply) {
  assert(socks->state == SOCKS_ASKED);
  put_reply(socks, reply);
  if (reply == SOCKS_SUCCEEDED) {
    socks->state = SOCKS_DONE;
    return;
  }
  socks->state = SOCKS_FAILED;
  if (socks->error.status == DSTREAM_OK)
    end_set(&socks->error, DSTREAM_ECONNECT,
            "the SOCKS client was told that its connection could not be made "
            "(reply %d)",
            (int)reply);
}
