#include "core/timers.h"

#include <stddef.h>

static bool before(const struct timer_node *a, const struct timer_node *b) {
  return a->due != b->due ? a->due < b->due : a->order < b->order;
}

/* Two heaps become one; neither has siblings. */
static struct timer_node *meld(struct timer_node *a, struct timer_node *b) {
  if (a == NULL || b == NULL)
    return a == NULL ? b : a;
  if (before(b, a)) {
    struct timer_node *swap = a;
    a = b;
    b = swap;
  }
  b->prev = a;
  b->next = a->child;
  if (b->next != NULL)
    b->next->prev = b;
  a->child = b;
  return a;
}

/* Takes the first of a list of siblings off it. */
static struct timer_node *take(struct timer_node **list) {
  struct timer_node *node = *list;
  if (node == NULL)
    return NULL;
  *list = node->next;
  node->next = NULL;
  node->prev = NULL;
  return node;
}

/* Melds siblings pair by pair, then the pairs, the last one first. */
static struct timer_node *meld_all(struct timer_node *list) {
  struct timer_node *pairs = NULL;
  while (list != NULL) {
    struct timer_node *one = take(&list);
    struct timer_node *pair = meld(one, take(&list));
    pair->next = pairs;
    pairs = pair;
  }
  struct timer_node *heap = NULL;
  while (pairs != NULL)
    heap = meld(heap, take(&pairs));
  return heap;
}

void timers_remove(struct timers *timers, struct timer_node *node) {
  if (!node->set)
    return;
  node->set = false;
  struct timer_node *children = meld_all(node->child);
  node->child = NULL;
  if (node->prev == NULL) {
    timers->first = children;
    return;
  }
  if (node->prev->child == node)
    node->prev->child = node->next;
  else
    node->prev->next = node->next;
  if (node->next != NULL)
    node->next->prev = node->prev;
  node->prev = NULL;
  node->next = NULL;
  timers->first = meld(timers->first, children);
}

void timers_add(struct timers *timers, struct timer_node *node, uint64_t due) {
  timers_remove(timers, node);
  node->due = due;
  node->order = timers->added++;
  node->set = true;
  timers->first = meld(timers->first, node);
}
