/* core/allow.h - patterns of the HOST:PORT that streams may ask for. */
#ifndef CORE_ALLOW_H
#define CORE_ALLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <dstream/status.h>

struct allow_rule;

/* Zeroed memory is one that allows nothing. */
struct allow_list {
  struct allow_rule *rules;
  size_t count;
};

enum allow_verdict {
  ALLOW_NO,     /* no rule can match: refuse */
  ALLOW_YES,    /* allowed by its name, whatever addresses it has */
  ALLOW_RESOLVE /* a host name on a port that some address rule allows: look it
                   up, then ask allow_address of each address */
};

/* Reads patterns: "ADDRESS[/BITS]:PORTS" or "HOST:PORTS".  IPv6 in brackets,
 * "[fd00::]/8:22" or "[fd00::/8]:22"; bits beyond the mask must be zero.  HOST
 * is a name, compared without case and without a final dot; "*.NAME" is any
 * name below it, "*" any host at all.  A name whose last label is a number is
 * refused: it looks like an address ("10.1", "010.0.0.1") and resolvers take it
 * for one.  PORTS: "*" or a list "80,443,8000-8999" of 64 at most, without
 * spaces.
 *
 * IPv4 patterns allow no IPv6 address and the other way round, "[::]/0" too;
 * but an IPv4 address in IPv6 clothes (::ffff:a.b.c.d) is an IPv4 address
 * everywhere here, for that is what it reaches.
 *
 * DSTREAM_EINVAL: *error (may be NULL) names the pattern and says what is wrong
 * with it; DSTREAM_ENOMEM.  *out is untouched on failure. */
int allow_parse(struct allow_list *out, const char *const *patterns,
                size_t count, struct dstream_end *error);

/* Leaves one that allows nothing.  NULL is fine. */
void allow_clear(struct allow_list *list);

/* Judges a host as the stream's name has it: a name or a numeric address
 * (inet_pton's, without brackets).  What is neither is refused. */
enum allow_verdict allow_host(const struct allow_list *list, const char *host,
                              uint16_t port);

/* Judges one address (AF_INET or AF_INET6; its own port is not looked at) that
 * a host name was found to have. */
bool allow_address(const struct allow_list *list,
                   const struct sockaddr *address, uint16_t port);

#endif
