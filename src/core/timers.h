/* core/timers.h - what is due when: a pairing heap of nodes that live in their
 * owners.  Adding takes the same time however many there are, removing about
 * the logarithm of their number.  Nothing is allocated.  Times are any clock's.
 */
#ifndef CORE_TIMERS_H
#define CORE_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

/* Embedded in its owner; zeroed at first. */
struct timer_node {
  uint64_t due;
  uint64_t order; /* of those that are due together, the one added first */
  struct timer_node *child;
  struct timer_node *next; /* child of the same parent */
  struct timer_node *prev; /* likewise, or the parent; NULL: the first of all */
  bool set;
};

/* Zeroed at first. */
struct timers {
  struct timer_node *first; /* NULL: none */
  uint64_t added;
};

/* One that was added before is due at this time instead. */
void timers_add(struct timers *timers, struct timer_node *node, uint64_t due);

/* One that was not added: nothing. */
void timers_remove(struct timers *timers, struct timer_node *node);

#endif
