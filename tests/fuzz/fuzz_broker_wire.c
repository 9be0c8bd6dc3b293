/* hub/broker_wire.h: payloads between the hub and its broker's plugin.  What
 * can be read can be written again, to the same bytes. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hub/broker_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct slice part, struct slice whole) {
  assert(part.p >= whole.p && part.len <= whole.len);
  assert(part.p + part.len <= whole.p + whole.len);
}

static void check_pair(struct slice payload) {
  struct slice id;
  struct slice topic;
  if (!broker_wire_split(payload, &id, &topic))
    return;
  inside(id, payload);
  inside(topic, payload);
  if (memchr(id.p, '\0', id.len) != NULL)
    return; /* the caller compares ids; this one is nobody's */
  char *name = strndup(id.p, id.len);
  char *again = malloc(payload.len);
  assert(name != NULL && again != NULL);
  assert(broker_wire_pair(name, topic, again, payload.len) == payload.len);
  assert(memcmp(again, payload.p, payload.len) == 0);
  assert(broker_wire_pair(name, topic, again, payload.len - 1) == 0);
  free(name);
  free(again);
  if (broker_topic_valid(topic, BROKER_ASK_MAX))
    assert(topic.len <= BROKER_ASK_MAX &&
           memchr(topic.p, '\0', topic.len) == NULL);
}

static void check_presence(struct slice payload) {
  static struct broker_presence_out out;
  uint64_t number;
  enum broker_presence_kind kind;
  enum broker_presence state;
  struct slice rest;
  struct slice id;
  if (!broker_presence_head(payload, &number, &kind, &rest))
    return;
  inside(rest, payload);
  uint64_t due_s = 0;
  uint64_t due_again = 0;
  if (broker_presence_due(rest, &due_s)) {
    broker_presence_still(&out, number, due_s);
    struct slice still = {out.text, out.len};
    uint64_t same;
    assert(broker_presence_head(still, &same, &(enum broker_presence_kind){0},
                                &still));
    assert(same == number && broker_presence_due(still, &due_again));
    assert(due_again == due_s);
  }
  broker_presence_begin(&out, number, kind);
  struct slice before = rest;
  while (broker_presence_next(&rest, &state, &id)) {
    inside(id, before);
    inside(rest, before);
    assert(id.len > 0 && rest.len < before.len);
    before = rest;
    char *name = strndup(id.p, id.len);
    assert(name != NULL);
    bool fits = broker_presence_add(&out, state, name);
    assert(fits || out.len + id.len + 2 > sizeof out.text);
    free(name);
  }
  uint64_t number_again;
  struct slice written = {out.text, out.len};
  assert(broker_presence_head(written, &number_again, &kind, &rest));
  assert(number_again == number);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  /* Of exactly this size, so that reading past its end is seen. */
  char *copy = malloc(size > 0 ? size : 1);
  assert(copy != NULL);
  if (size > 0)
    memcpy(copy, data, size);
  struct slice payload = {copy, size};
  check_pair(payload);
  check_presence(payload);
  free(copy);
  return 0;
}
