#include "hub/table.h"

#include <assert.h>
#include <stdlib.h>

#define FIRST_BUCKETS 64

bool table_init(struct table *table) {
  table->buckets = calloc(FIRST_BUCKETS, sizeof *table->buckets);
  table->bucket_count = FIRST_BUCKETS;
  table->count = 0;
  return table->buckets != NULL;
}

void table_end(struct table *table) {
  free(table->buckets);
  table->buckets = NULL;
}

uint64_t table_hash(struct slice key) {
  uint64_t h = 14695981039346656037u;
  for (size_t i = 0; i < key.len; i++)
    h = (h ^ (unsigned char)key.p[i]) * 1099511628211u;
  return h ^ (h >> 32);
}

static struct table_node **bucket_of(const struct table *table, uint64_t hash) {
  return &table->buckets[hash & (table->bucket_count - 1)];
}

static struct table_node *with_hash(struct table_node *node, uint64_t hash) {
  while (node != NULL && node->hash != hash)
    node = node->next;
  return node;
}

struct table_node *table_first(const struct table *table, uint64_t hash) {
  return with_hash(*bucket_of(table, hash), hash);
}

struct table_node *table_next(const struct table_node *node) {
  return with_hash(node->next, node->hash);
}

static void insert(struct table *table, struct table_node *node) {
  struct table_node **bucket = bucket_of(table, node->hash);
  node->next = *bucket;
  *bucket = node;
}

static void grow(struct table *table) {
  struct table next = {.bucket_count = table->bucket_count * 2};
  next.buckets = calloc(next.bucket_count, sizeof *next.buckets);
  if (next.buckets == NULL)
    return;
  for (size_t i = 0; i < table->bucket_count; i++) {
    struct table_node *node = table->buckets[i];
    while (node != NULL) {
      struct table_node *after = node->next;
      insert(&next, node);
      node = after;
    }
  }
  free(table->buckets);
  table->buckets = next.buckets;
  table->bucket_count = next.bucket_count;
}

void table_add(struct table *table, struct table_node *node, uint64_t hash) {
  if (table->count >= table->bucket_count)
    grow(table);
  node->hash = hash;
  insert(table, node);
  table->count++;
}

void table_remove(struct table *table, struct table_node *node) {
  struct table_node **place = bucket_of(table, node->hash);
  while (*place != node) {
    assert(*place != NULL);
    place = &(*place)->next;
  }
  *place = node->next;
  table->count--;
}

struct table_node *table_walk(const struct table *table,
                              struct table_walk *walk) {
  struct table_node *node = walk->next;
  while (node == NULL && walk->bucket < table->bucket_count)
    node = table->buckets[walk->bucket++];
  walk->next = node != NULL ? node->next : NULL;
  return node;
}
