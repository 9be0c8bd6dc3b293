/* hub/table.h - a hash table of nodes that live in their owners.
 *
 * The owner hashes the key and compares it: look through the nodes that have
 * its hash.
 *
 *   struct table_node *node = table_first(&table, hash);
 *   while (node != NULL && !has_key(node, key))
 *     node = table_next(node);
 *
 * It grows with the number of nodes, so that all but table_walk takes the same
 * time however many there are.
 */
#ifndef HUB_TABLE_H
#define HUB_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

/* Embedded in its owner. */
struct table_node {
  struct table_node *next; /* in its bucket */
  uint64_t hash;
};

struct table {
  struct table_node **buckets;
  size_t bucket_count; /* a power of two */
  size_t count;        /* of the nodes */
};

/* False: out of memory; table_end is fine then, too. */
bool table_init(struct table *table);

/* The nodes are their owners'.  A zeroed table is fine. */
void table_end(struct table *table);

/* FNV-1a: for keys that strangers can't choose. */
uint64_t table_hash(struct slice key);

/* The nodes with this hash, in no order; NULL: no more. */
struct table_node *table_first(const struct table *table, uint64_t hash);
struct table_node *table_next(const struct table_node *node);

/* Can't fail: without memory to grow, the table gets slower. */
void table_add(struct table *table, struct table_node *node, uint64_t hash);

/* The node must be in there. */
void table_remove(struct table *table, struct table_node *node);

/* All nodes, in no order: begin with a zeroed walk; NULL: no more.  The node it
 * gave last may be removed, and freed, before the next call, but no other.  One
 * that is added meanwhile may make it leave others out. */
struct table_walk {
  size_t bucket;
  struct table_node *next;
};
struct table_node *table_walk(const struct table *table,
                              struct table_walk *walk);

#endif
