/* Capability lists: what is agreed on is clean, and known to both sides. */
#include <assert.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/caps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > 512)
    return 0;
  char out[CAPS_SIZE], again[CAPS_SIZE];
  struct slice list = {(const char *)data, size};
  struct slice ours = SLICE_LITERAL("eof,mux");
  int n = caps_intersect(list, ours, out, sizeof out);
  assert(n >= 0);
  assert(caps_has(list, "eof") == caps_has(slice_of(out), "eof"));
  n = caps_intersect(list, list, out, sizeof out);
  if (n < 0)
    return 0;
  assert(caps_intersect(slice_of(out), slice_of(out), again, sizeof again) ==
         n);
  assert(slice_eq(slice_of(again), out));
  for (const char *p = out; *p != '\0'; p++)
    assert(*p >= ',' && *p <= 'z');
  return 0;
}
