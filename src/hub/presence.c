#include "hub/presence.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <dstream/status.h>

#define FIRST_BUCKETS 64

struct device {
  struct device *next;
  bool ready;
  bool marked;
  char id[];
};

struct presence {
  struct device **buckets;
  size_t bucket_count; /* a power of two */
  size_t count;
  size_t max;
  presence_fn *changed;
  void *user;
};

/* FNV-1a; every id in here has proved a key. */
static size_t hash(struct slice id) {
  uint64_t h = 14695981039346656037u;
  for (size_t i = 0; i < id.len; i++)
    h = (h ^ (unsigned char)id.p[i]) * 1099511628211u;
  return (size_t)(h ^ (h >> 32));
}

struct presence *presence_new(size_t max_devices, presence_fn *changed,
                              void *user) {
  struct presence *presence = calloc(1, sizeof *presence);
  if (presence == NULL)
    return NULL;
  presence->max = max_devices;
  presence->changed = changed;
  presence->user = user;
  presence->bucket_count = FIRST_BUCKETS;
  presence->buckets = calloc(FIRST_BUCKETS, sizeof *presence->buckets);
  if (presence->buckets == NULL) {
    free(presence);
    return NULL;
  }
  return presence;
}

void presence_free(struct presence *presence) {
  if (presence == NULL)
    return;
  for (size_t i = 0; i < presence->bucket_count; i++) {
    struct device *device = presence->buckets[i];
    while (device != NULL) {
      struct device *next = device->next;
      free(device);
      device = next;
    }
  }
  free(presence->buckets);
  free(presence);
}

/* The link that points to the device, or to the end of its bucket. */
static struct device **find(const struct presence *presence, struct slice id) {
  struct device **link =
      &presence->buckets[hash(id) & (presence->bucket_count - 1)];
  while (*link != NULL && !slice_eq(id, (*link)->id))
    link = &(*link)->next;
  return link;
}

/* More buckets; staying with the old ones costs time only. */
static void grow(struct presence *presence) {
  size_t count = presence->bucket_count * 2;
  struct device **buckets = calloc(count, sizeof *buckets);
  if (buckets == NULL)
    return;
  for (size_t i = 0; i < presence->bucket_count; i++) {
    struct device *device = presence->buckets[i];
    while (device != NULL) {
      struct device *next = device->next;
      struct device **bucket =
          &buckets[hash(slice_of(device->id)) & (count - 1)];
      device->next = *bucket;
      *bucket = device;
      device = next;
    }
  }
  free(presence->buckets);
  presence->buckets = buckets;
  presence->bucket_count = count;
}

static int add(struct presence *presence, struct slice id,
               struct device **out) {
  if (presence->count >= presence->max)
    return DSTREAM_ELIMIT;
  if (presence->count >= presence->bucket_count)
    grow(presence);
  struct device *device = calloc(1, sizeof *device + id.len + 1);
  if (device == NULL)
    return DSTREAM_ENOMEM;
  memcpy(device->id, id.p, id.len);
  struct device **link = find(presence, id);
  *link = device;
  presence->count++;
  *out = device;
  return DSTREAM_OK;
}

int presence_set(struct presence *presence, struct slice id, bool ready) {
  struct device *device = *find(presence, id);
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
static void take_out(struct presence *presence, struct device **link) {
  struct device *device = *link;
  *link = device->next;
  presence->count--;
  if (device->ready && presence->changed != NULL)
    presence->changed(presence->user, device->id, false);
  free(device);
}

void presence_remove(struct presence *presence, struct slice id) {
  struct device **link = find(presence, id);
  if (*link != NULL)
    take_out(presence, link);
}

void presence_mark_all(struct presence *presence) {
  for (size_t i = 0; i < presence->bucket_count; i++) {
    struct device *device = presence->buckets[i];
    for (; device != NULL; device = device->next)
      device->marked = true;
  }
}

void presence_remove_marked(struct presence *presence) {
  for (size_t i = 0; i < presence->bucket_count; i++) {
    struct device **link = &presence->buckets[i];
    while (*link != NULL) {
      if ((*link)->marked)
        take_out(presence, link);
      else
        link = &(*link)->next;
    }
  }
}

bool presence_ready(const struct presence *presence, const char *id) {
  const struct device *device = *find(presence, slice_of(id));
  return device != NULL && device->ready;
}

bool presence_connected(const struct presence *presence, const char *id) {
  return *find(presence, slice_of(id)) != NULL;
}

size_t presence_count(const struct presence *presence) {
  return presence->count;
}

void presence_each(const struct presence *presence,
                   bool (*fn)(void *user, const char *id, bool ready),
                   void *user) {
  for (size_t i = 0; i < presence->bucket_count; i++) {
    const struct device *device = presence->buckets[i];
    for (; device != NULL; device = device->next) {
      if (!fn(user, device->id, device->ready))
        return;
    }
  }
}
