/* cost.h - what the counter (counter.c) counts of one process, in a file that
 * others map: they read it while the process runs, which costs it nothing.
 *
 *   LD_PRELOAD=libdstream_cost.so   in the environment of the process
 *   DSTREAM_COST_PROGRAM=NAME       of whom, as in argv[0]; others, such as its
 *                                   children, are not counted
 *   DSTREAM_COST_FILE=PATH          at least sizeof(struct cost_page), zeroed
 */
#ifndef COST_COST_H
#define COST_COST_H

#include <stdatomic.h>

/* System calls that move bytes or wait, TLS records, allocations and copies.
 * The latter two apart for OpenSSL's own and for everybody else's; a copy is a
 * call of memcpy or memmove that the compiler left one. */
#define COST_KINDS(X)                                                          \
  X(RECV, "recv")                                                              \
  X(SEND, "send")                                                              \
  X(WAIT, "wait")                                                              \
  X(CTL, "epoll_ctl")                                                          \
  X(READ, "read")                                                              \
  X(WRITE, "write")                                                            \
  X(OTHER, "other")                                                            \
  X(CLOCK, "clock")                                                            \
  X(RECORDS_IN, "records_in")                                                  \
  X(RECORDS_OUT, "records_out")                                                \
  X(ALLOCATIONS, "allocations")                                                \
  X(OPENSSL_ALLOCATIONS, "openssl_allocations")                                \
  X(COPIED, "copied")                                                          \
  X(OPENSSL_COPIED, "openssl_copied")

#define COST_KIND(name, text) COST_##name,
enum cost_kind { COST_KINDS(COST_KIND) COST_COUNT };
#undef COST_KIND

struct cost_page {
  atomic_ullong main[COST_COUNT];   /* of the thread that runs main() */
  atomic_ullong others[COST_COUNT]; /* of all others together */
};

#endif
