/* hub/rest_registry.h - the identity registry over REST, as Azure has it:
 *
 *   GET    /devices/{id}
 *   PUT    /devices/{id}       If-Match, or none: the device must be new
 *   DELETE /devices/{id}       If-Match
 *   GET    /devices?top=N      1 to 1000, default 1000, by id; where there are
 *                              more the header x-ms-continuation comes with it,
 *                              to be sent with the next request
 *   POST   /devices            up to 100 at once
 *   GET    /statistics/devices
 *
 * What the bodies are, and what happens, is in hub/registry.h.  A token of a
 * policy is needed (as in hub/rest.h) that has RegistryRead to read,
 * RegistryWrite for the rest.  Keys are shown to those who may write only:
 * whoever sees a device's key is that device.  Errors have the registry's form
 * (hub/hub_error.h).
 *
 * Nothing waits for the disk: a thread of its own does one request after the
 * other, on a store of its own, and is started by the first one.  64 may wait;
 * then it is 429001.
 */
#ifndef HUB_REST_REGISTRY_H
#define HUB_REST_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "hub/http_server.h"
#include "hub/identity.h"
#include "net/loop.h"

struct rest_registry;

/* Texts are borrowed; all of it lives longer than the registry. */
struct rest_registry_options {
  const char *database_file;
  struct identity_store *store; /* for tokens; the loop's thread's */
  const struct identity_names *names;
  /* True and *since_s (Unix seconds; 0: not known) when the device is connected
   * now.  NULL: none ever is. */
  bool (*connected)(void *user, const char *device, int64_t *since_s);
  void *user;
};

int rest_registry_new(struct rest_registry **out, dstream_loop *loop,
                      const struct rest_registry_options *options);

/* The parts of a rest_part (hub/rest.h); user is the registry. */
unsigned rest_registry_rights(const struct http_head *head);
bool rest_registry_keeps(const struct http_head *head);
void rest_registry_handle(void *user, struct http_exchange *exchange,
                          const struct http_head *head, const char *caller);

/* What was begun is done first.  After the HTTP server was freed, so that
 * nobody waits for an answer.  NULL is fine. */
void rest_registry_free(struct rest_registry *registry);

#endif
