/* proxy/targets_table.h - what may be asked for, and the limits: a copy of
 * struct dstream_targets_options, checked. */
#ifndef PROXY_TARGETS_TABLE_H
#define PROXY_TARGETS_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include <dstream/proxy.h>

#include "core/allow.h"

struct target_entry {
  char *name;
  char *address;
  unsigned max_streams; /* 0: no limit of its own */
  int idle_timeout_s;   /* 0: never */
  int total_timeout_s;
};

struct targets_table {
  struct target_entry *entries; /* sorted by name */
  size_t count;
  struct allow_list allow;
  unsigned max_streams;
  unsigned max_rate;
  unsigned burst;
  int idle_timeout_s;
  int total_timeout_s;
  int connect_timeout_ms;
};

/* Statuses as dstream_targets_new.  *out is untouched on failure. */
int targets_table_copy(struct targets_table *out,
                       const struct dstream_targets_options *options,
                       struct dstream_end *error);
void targets_table_clear(struct targets_table *table);

/* NULL: there is none of this name. */
const struct target_entry *targets_table_find(const struct targets_table *table,
                                              const char *name);

#endif
