/* Percent-encoding: what decodes is encoded and decoded to itself. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include <dstream/status.h>

#include "core/percent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > 4096)
    return 0;
  struct slice in = {(const char *)data, size};
  size_t room = size * 3 + 1, len, again_len;
  char *encoded = malloc(room), *decoded = malloc(room), *again = malloc(room);
  assert(encoded != NULL && decoded != NULL && again != NULL);

  int n = percent_encode(in, encoded, room);
  assert(n >= (int)size);
  if (percent_decode((struct slice){encoded, (size_t)n}, decoded, room, &len) ==
      DSTREAM_OK)
    assert(len == size && memcmp(decoded, data, size) == 0);
  else
    assert(memchr(data, 0, size) != NULL);

  if (percent_decode(in, decoded, size + 1, &len) == DSTREAM_OK) {
    assert(len <= size && decoded[len] == '\0');
    n = percent_encode((struct slice){decoded, len}, encoded, room);
    assert(n >= 0);
    assert(percent_decode((struct slice){encoded, (size_t)n}, again, room,
                          &again_len) == DSTREAM_OK);
    assert(again_len == len && memcmp(again, decoded, len) == 0);
  }
  free(encoded);
  free(decoded);
  free(again);
  return 0;
}
