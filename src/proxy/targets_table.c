#include "proxy/targets_table.h"

#include <stdlib.h>
#include <string.h>

#include "core/address.h"
#include "core/end.h"
#include "core/printable.h"

#define ENTRIES_MAX         4096
#define DEFAULT_MAX_STREAMS 256
#define DEFAULT_RATE        50
#define DEFAULT_BURST       100
#define DEFAULT_CONNECT_MS  10000
#define MAX_CONNECT_MS      50000 /* requests expire after 60 s */

static int by_name(const void *a, const void *b) {
  const struct target_entry *first = a;
  const struct target_entry *second = b;
  return strcmp(first->name, second->name);
}

static int check_target(const struct dstream_target *target,
                        struct dstream_end *error) {
  struct address address;
  struct dstream_end why;
  if (target->name == NULL || !address_target_name_valid(target->name)) {
    end_set(error, DSTREAM_EINVAL,
            "target \"%s\": a name has 1 to 128 letters, digits, '-', '.' or "
            "'_'",
            printable(target->name).text);
    return DSTREAM_EINVAL;
  }
  if (target->address == NULL || target->idle_timeout_s < 0 ||
      target->total_timeout_s < 0) {
    end_set(error, DSTREAM_EINVAL, "target \"%s\": %s", target->name,
            target->address == NULL ? "it needs an address"
                                    : "a time limit is negative");
    return DSTREAM_EINVAL;
  }
  int status = address_parse(&address, target->address, &why);
  if (status != DSTREAM_OK)
    end_set(error, status, "target \"%s\": %s", target->name, why.text);
  return status;
}

static int copy_target(struct target_entry *out,
                       const struct dstream_target *target,
                       const struct targets_table *table) {
  *out = (struct target_entry){
      .name = strdup(target->name),
      .address = strdup(target->address),
      .max_streams = target->max_streams,
      .idle_timeout_s = target->idle_timeout_s != 0 ? target->idle_timeout_s
                                                    : table->idle_timeout_s,
      .total_timeout_s = target->total_timeout_s != 0 ? target->total_timeout_s
                                                      : table->total_timeout_s,
  };
  return out->name != NULL && out->address != NULL ? DSTREAM_OK
                                                   : DSTREAM_ENOMEM;
}

static int copy_entries(struct targets_table *table,
                        const struct dstream_targets_options *o,
                        struct dstream_end *error) {
  if (o->target_count > 0) {
    table->entries = calloc(o->target_count, sizeof *table->entries);
    if (table->entries == NULL)
      return DSTREAM_ENOMEM;
  }
  for (size_t i = 0; i < o->target_count; i++) {
    int status = check_target(&o->targets[i], error);
    if (status != DSTREAM_OK)
      return status;
    status =
        copy_target(&table->entries[table->count++], &o->targets[i], table);
    if (status != DSTREAM_OK)
      return status;
  }
  if (table->count < 2)
    return DSTREAM_OK;
  qsort(table->entries, table->count, sizeof *table->entries, by_name);
  for (size_t i = 1; i < table->count; i++) {
    if (by_name(&table->entries[i - 1], &table->entries[i]) == 0) {
      end_set(error, DSTREAM_EINVAL, "target \"%s\": the name is there twice",
              table->entries[i].name);
      return DSTREAM_EINVAL;
    }
  }
  return DSTREAM_OK;
}

static int check_options(const struct dstream_targets_options *o,
                         struct dstream_end *error) {
  const char *what = NULL;
  if (o == NULL || o->size != sizeof *o)
    what = "options with size are needed";
  else if (o->target_count > ENTRIES_MAX || o->allow_count > ENTRIES_MAX)
    what = "there are too many entries, 4096 is the most";
  else if ((o->target_count > 0 && o->targets == NULL) ||
           (o->allow_count > 0 && o->allow == NULL))
    what = "a list is missing";
  else if (o->idle_timeout_s < 0 || o->total_timeout_s < 0)
    what = "a time limit is negative";
  else if (o->connect_timeout_ms < 0 || o->connect_timeout_ms > MAX_CONNECT_MS)
    what = "connect_timeout_ms is 0 to 50000";
  if (what == NULL)
    return DSTREAM_OK;
  end_set(error, DSTREAM_EINVAL, "targets: %s", what);
  return DSTREAM_EINVAL;
}

static unsigned or_default(unsigned value, unsigned fallback) {
  return value != 0 ? value : fallback;
}

int targets_table_copy(struct targets_table *out,
                       const struct dstream_targets_options *o,
                       struct dstream_end *error) {
  int status = check_options(o, error);
  if (status != DSTREAM_OK)
    return status;
  struct targets_table table = {
      .max_streams = or_default(o->max_streams, DEFAULT_MAX_STREAMS),
      .max_rate = or_default(o->max_rate, DEFAULT_RATE),
      .burst = or_default(o->burst, DEFAULT_BURST),
      .idle_timeout_s = o->idle_timeout_s,
      .total_timeout_s = o->total_timeout_s,
      .connect_timeout_ms = o->connect_timeout_ms != 0 ? o->connect_timeout_ms
                                                       : DEFAULT_CONNECT_MS,
  };
  status = copy_entries(&table, o, error);
  if (status == DSTREAM_OK)
    status = allow_parse(&table.allow, o->allow, o->allow_count, error);
  if (status != DSTREAM_OK) {
    if (status == DSTREAM_ENOMEM)
      end_set(error, status, "out of memory");
    targets_table_clear(&table);
    return status;
  }
  *out = table;
  return DSTREAM_OK;
}

void targets_table_clear(struct targets_table *table) {
  for (size_t i = 0; i < table->count; i++) {
    free(table->entries[i].name);
    free(table->entries[i].address);
  }
  free(table->entries);
  allow_clear(&table->allow);
  *table = (struct targets_table){0};
}

const struct target_entry *targets_table_find(const struct targets_table *table,
                                              const char *name) {
  for (size_t low = 0, high = table->count; low < high;) {
    size_t middle = low + (high - low) / 2;
    int order = strcmp(name, table->entries[middle].name);
    if (order == 0)
      return &table->entries[middle];
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}
