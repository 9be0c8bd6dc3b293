#include "hub/presence.h"

#include <stdlib.h>
#include <string.h>

#include <dstream/status.h>

#include "core/container.h"
#include "hub/table.h"
#include "net/loop.h"

struct device {
  struct table_node node;
  bool ready;
  bool marked;
  uint64_t since_ms;
  char id[];
};

/* Every id in here has proved a key. */
struct presence {
  struct table devices;
  size_t max;
  presence_fn *changed;
  void *user;
};

static struct device *device_of(struct table_node *node) {
  return node == NULL ? NULL : CONTAINER_OF(node, struct device, node);
}

static struct device *next_device(const struct presence *presence,
                                  struct table_walk *walk) {
  return device_of(table_walk(&presence->devices, walk));
}

struct presence *presence_new(size_t max_devices, presence_fn *changed,
                              void *user) {
  struct presence *presence = calloc(1, sizeof *presence);
  if (presence == NULL)
    return NULL;
  presence->max = max_devices;
  presence->changed = changed;
  presence->user = user;
  if (!table_init(&presence->devices)) {
    free(presence);
    return NULL;
  }
  return presence;
}

void presence_free(struct presence *presence) {
  struct table_walk walk = {0};
  if (presence == NULL)
    return;
  struct device *device = next_device(presence, &walk);
  for (; device != NULL; device = next_device(presence, &walk))
    free(device);
  table_end(&presence->devices);
  free(presence);
}

static struct device *find(const struct presence *presence, struct slice id) {
  struct table_node *node = table_first(&presence->devices, table_hash(id));
  while (node != NULL && !slice_eq(id, device_of(node)->id))
    node = table_next(node);
  return device_of(node);
}

static int add(struct presence *presence, struct slice id,
               struct device **out) {
  if (presence->devices.count >= presence->max)
    return DSTREAM_ELIMIT;
  struct device *device = calloc(1, sizeof *device + id.len + 1);
  if (device == NULL)
    return DSTREAM_ENOMEM;
  memcpy(device->id, id.p, id.len);
  device->since_ms = loop_now_ms();
  table_add(&presence->devices, &device->node, table_hash(id));
  *out = device;
  return DSTREAM_OK;
}

int presence_set(struct presence *presence, struct slice id, bool ready) {
  struct device *device = find(presence, id);
  int status = DSTREAM_OK;
  if (device == NULL)
    status = add(presence, id, &device);
  if (status != DSTREAM_OK)
    return status;
  device->marked = false;
  if (device->ready == ready)
    return DSTREAM_OK;
  device->ready = ready;
  if (presence->changed != NULL)
    presence->changed(presence->user, device->id, ready);
  return DSTREAM_OK;
}

/* Tells after it is out of the table. */
static void take_out(struct presence *presence, struct device *device) {
  table_remove(&presence->devices, &device->node);
  if (device->ready && presence->changed != NULL)
    presence->changed(presence->user, device->id, false);
  free(device);
}

void presence_remove(struct presence *presence, struct slice id) {
  struct device *device = find(presence, id);
  if (device != NULL)
    take_out(presence, device);
}

void presence_mark_all(struct presence *presence) {
  struct table_walk walk = {0};
  struct device *device = next_device(presence, &walk);
  for (; device != NULL; device = next_device(presence, &walk))
    device->marked = true;
}

void presence_remove_marked(struct presence *presence) {
  struct table_walk walk = {0};
  struct device *device = next_device(presence, &walk);
  for (; device != NULL; device = next_device(presence, &walk)) {
    if (device->marked)
      take_out(presence, device);
  }
}

bool presence_ready(const struct presence *presence, const char *id) {
  const struct device *device = find(presence, slice_of(id));
  return device != NULL && device->ready;
}

bool presence_connected(const struct presence *presence, const char *id) {
  return find(presence, slice_of(id)) != NULL;
}

bool presence_since(const struct presence *presence, const char *id,
                    uint64_t *since_ms) {
  const struct device *device = find(presence, slice_of(id));
  if (device == NULL)
    return false;
  *since_ms = device->since_ms;
  return true;
}

size_t presence_count(const struct presence *presence) {
  return presence->devices.count;
}

void presence_each(const struct presence *presence,
                   bool (*fn)(void *user, const char *id, bool ready,
                              uint64_t since_ms),
                   void *user) {
  struct table_walk walk = {0};
  const struct device *device = next_device(presence, &walk);
  for (; device != NULL; device = next_device(presence, &walk)) {
    if (!fn(user, device->id, device->ready, device->since_ms))
      return;
  }
}
