/* core/address.h - where to connect or listen, as people write it. */
#ifndef CORE_ADDRESS_H
#define CORE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/slice.h"

#define ADDRESS_HOST_SIZE 256
/* Of a text that address_format writes, the terminating zero included. */
#define ADDRESS_TEXT_SIZE 272
/* Stream names are no longer than this, the zero included. */
#define ADDRESS_NAME_SIZE 129

struct address {
  bool is_unix;
  uint16_t port;
  char host[ADDRESS_HOST_SIZE]; /* a name, an address without brackets, or the
                                   path of a unix socket */
};

/* "HOST:PORT", "[IPv6]:PORT" or "unix:PATH" (107 bytes of path at most, without
 * control characters).  HOST is an IPv4 address or a name as
 * address_host_valid has it; an IPv6 address needs its brackets and has no
 * zone.  PORT is 1 to 65535 in decimal, without zeros in front.
 * DSTREAM_EINVAL: *error (may be NULL) says what is wrong; *out is untouched.
 */
int address_parse(struct address *out, const char *text,
                  struct dstream_end *error);

/* Where to listen: the same, or "PORT" alone for 127.0.0.1, and port 0 for any
 * free one; the host must be a numeric address or "localhost" (127.0.0.1). */
int address_parse_listen(struct address *out, const char *text,
                         struct dstream_end *error);

/* Whether it may stand in `host` of one that is no unix socket: an IPv4 or
 * (without brackets and zone) IPv6 address, or a name: 253 letters, digits,
 * '-', '.', '_' at most, no empty label but one after a final dot.  What only
 * looks like an address, such as "10.1" or "010.0.0.1", is a name. */
bool address_host_valid(struct slice host);

/* 1 to 65535 in digits alone: no sign, no space, no zero in front.  *out is
 * untouched when it is none. */
bool address_parse_port(struct slice text, uint16_t *out);

/* Writes it as address_parse reads it; returns the length. */
size_t address_format(const struct address *address,
                      char out[ADDRESS_TEXT_SIZE]);

/* A loopback address or a unix socket: nobody outside reaches it.  A name is
 * not, whatever it may lead to. */
bool address_is_local(const struct address *address);

/* The name of a stream to HOST:PORT, as stream names hold neither ':' nor '[':
 * "tcp~HOST~PORT", with each ':' of an IPv6 address as '_'.  Names of targets
 * hold no '~', so the two can't be taken for each other.
 * DSTREAM_EINVAL: a unix socket, no port, a host name that would come back as
 * an IPv6 address ("__1"), or longer than a stream's name may be; *out is
 * untouched. */
int address_to_name(const struct address *address, char out[ADDRESS_NAME_SIZE]);

/* And back.  DSTREAM_EINVAL: it is none; *out is untouched. */
int address_from_name(struct address *out, const char *name);

/* What may be the name of a target: 1 to 128 letters, digits, '-', '.', '_'. */
bool address_target_name_valid(const char *name);

#endif
