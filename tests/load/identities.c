/* identities.c - what the identities cost, few or many.
 *
 *   dstream_identities [--check]
 *
 * Makes a database in TMPDIR and prints, at 100, 10,000 and 100,000 devices:
 * how many a second are added in one transaction, and one by one (each waits
 * for the disk); what it costs to look one up, to check its token, to read a
 * page of 1000 from the middle, and to answer that page as the registry does.
 * --check: fails when many cost much more than few, within this run. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/sas.h"
#include "hub/identity.h"
#include "hub/registry.h"

#define NOW     1700000000u
#define LOOKUPS 20000
#define SINGLES 100

static char folder[256];
static char path[300];
static struct identity_names names = {{"hub.example.net"}, 1};

struct cost {
  unsigned devices;
  double add_per_s;
  double single_per_s;
  double lookup_us;
  double token_us;
  double list_ms;
  double answer_ms;
};

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void need(bool ok, const char *what) {
  if (ok)
    return;
  fprintf(stderr, "identities: %s failed\n", what);
  exit(1);
}

/* Not in the order in which they are looked up. */
static void id_of(unsigned n, char *out, size_t size) {
  snprintf(out, size, "device-%08x", n * 2654435761u);
}

static void add_all(struct identity_store *store, unsigned from, unsigned to) {
  char id[32];
  need(identity_begin(store) == DSTREAM_OK, "begin");
  for (unsigned i = from; i < to; i++) {
    id_of(i, id, sizeof id);
    need(identity_add(store, id, NOW, NULL) == DSTREAM_OK, "add");
  }
  need(identity_commit(store) == DSTREAM_OK, "commit");
}

static double time_singles(struct identity_store *store) {
  double begin = now_s();
  for (unsigned i = 0; i < SINGLES; i++) {
    char id[32];
    snprintf(id, sizeof id, "single-%u", i);
    need(identity_add(store, id, NOW, NULL) == DSTREAM_OK, "add one");
  }
  double seconds = now_s() - begin;
  for (unsigned i = 0; i < SINGLES; i++) {
    char id[32];
    snprintf(id, sizeof id, "single-%u", i);
    need(identity_remove(store, id) == DSTREAM_OK, "remove one");
  }
  return SINGLES / seconds;
}

static double time_lookups(struct identity_store *store, unsigned devices) {
  double begin = now_s();
  for (unsigned i = 0; i < LOOKUPS; i++) {
    struct identity_device device;
    char id[32];
    id_of(i * 7919u % devices, id, sizeof id);
    need(identity_get(store, id, &device) == DSTREAM_OK, "get");
  }
  return (now_s() - begin) / LOOKUPS * 1e6;
}

static double time_tokens(struct identity_store *store) {
  struct identity_device device;
  struct identity_grant grant;
  char id[32], resource[96], token[SAS_MAX];
  id_of(1, id, sizeof id);
  need(identity_get(store, id, &device) == DSTREAM_OK, "get");
  snprintf(resource, sizeof resource, "hub.example.net/devices/%s", id);
  int len = sas_make(token, sizeof token, resource, device.primary.bytes,
                     device.primary.len, NOW + 60, NULL, SAS_RAW_RESOURCE);
  need(len > 0, "token");
  struct slice text = {token, (size_t)len};
  double begin = now_s();
  for (unsigned i = 0; i < LOOKUPS; i++)
    need(identity_check_device_sas(store, &names, id, text, NOW, &grant,
                                   NULL) == DSTREAM_OK,
         "check");
  identity_device_wipe(&device);
  return (now_s() - begin) / LOOKUPS * 1e6;
}

static bool count_one(void *user, const struct identity_device *device) {
  (void)device;
  ++*(unsigned *)user;
  return true;
}

static void time_pages(struct identity_store *store, struct cost *cost) {
  unsigned count = 0;
  const char *middle = cost->devices > 2000 ? "device-8" : "";
  unsigned expected = cost->devices < 1000 ? cost->devices : 1000;
  double begin = now_s();
  need(identity_list(store, middle, 1000, count_one, &count) == DSTREAM_OK &&
           count == expected,
       "list");
  cost->list_ms = (now_s() - begin) * 1e3;
  struct registry_request request = {
      .operation = REGISTRY_LIST, .limit = 1000, .show_keys = true};
  struct registry_answer answer;
  snprintf(request.after, sizeof request.after, "%s", middle);
  begin = now_s();
  registry_run(store, &request, NOW, &answer);
  need(answer.error == HUB_ERROR_NONE && answer.place_count == expected,
       "answer");
  cost->answer_ms = (now_s() - begin) * 1e3;
  registry_answer_clear(&answer);
}

static void measure(struct identity_store *writer, unsigned from,
                    struct cost *cost) {
  struct identity_store *reader = NULL;
  double begin = now_s();
  add_all(writer, from, cost->devices);
  cost->add_per_s = (cost->devices - from) / (now_s() - begin);
  cost->single_per_s = time_singles(writer);
  need(identity_open(&reader, path, true, NULL) == DSTREAM_OK, "open");
  cost->lookup_us = time_lookups(reader, cost->devices);
  cost->token_us = time_tokens(reader);
  time_pages(reader, cost);
  identity_close(reader);
  printf("%9u %12.0f %12.0f %11.1f %11.1f %11.2f %11.2f\n", cost->devices,
         cost->add_per_s, cost->single_per_s, cost->lookup_us, cost->token_us,
         cost->list_ms, cost->answer_ms);
  fflush(stdout);
}

static void clean_up(void) {
  static const char *const endings[] = {"", "-wal", "-shm"};
  char file[320];
  for (size_t i = 0; i < 3; i++) {
    snprintf(file, sizeof file, "%s%s", path, endings[i]);
    unlink(file);
  }
  rmdir(folder);
}

/* Generous: a lookup goes three levels of a tree down instead of one. */
static int check(const struct cost *few, const struct cost *many) {
  if (many->lookup_us <= 5 * few->lookup_us &&
      many->token_us <= 5 * few->token_us &&
      many->list_ms <= 5 * few->list_ms * 10 && /* ten times the devices */
      many->single_per_s * 20 >= few->single_per_s /* the disk varies */)
    return 0;
  fprintf(stderr, "identities: many cost more than they may\n");
  return 1;
}

int main(int argc, char **argv) {
  struct identity_store *store = NULL;
  const char *base = getenv("TMPDIR");
  struct cost costs[] = {
      {.devices = 100}, {.devices = 10000}, {.devices = 100000}};
  snprintf(folder, sizeof folder, "%.200s/dstream-identities-XXXXXX",
           base != NULL && base[0] != '\0' ? base : "/tmp");
  need(mkdtemp(folder) != NULL, "mkdtemp");
  snprintf(path, sizeof path, "%s/identities.db", folder);
  atexit(clean_up);
  need(identity_create(&store, path, NULL) == DSTREAM_OK, "create");
  printf("  devices  added/s bulk  one by one   lookup us    token us"
         "     page ms   answer ms\n");
  unsigned from = 0;
  for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
    measure(store, from, &costs[i]);
    from = costs[i].devices;
  }
  identity_close(store);
  return argc > 1 && strcmp(argv[1], "--check") == 0
             ? check(&costs[0], &costs[2])
             : 0;
}
