/* First byte: how the rest is cut, and what is answered.  What comes out does
 * not depend on the cuts. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/socks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t feed(struct socks *socks, const uint8_t *data, size_t size,
                   size_t step) {
  size_t used = 0;
  while (used < size) {
    size_t n = step < size - used ? step : size - used;
    uint8_t *copy = malloc(n);
    assert(copy != NULL);
    memcpy(copy, data + used, n);
    size_t taken = socks_feed(socks, copy, n);
    free(copy);
    assert(taken <= n);
    used += taken;
    if (taken < n)
      break;
  }
  return used;
}

static void check(const struct socks *socks) {
  assert(socks->out_len <= sizeof socks->out);
  assert((socks->state == SOCKS_FAILED) == (socks->error.text[0] != '\0'));
  if (socks->state != SOCKS_ASKED)
    return;
  char text[ADDRESS_TEXT_SIZE];
  struct address again;
  address_format(&socks->target, text);
  assert(address_parse(&again, text, NULL) == DSTREAM_OK);
  assert(strcmp(again.host, socks->target.host) == 0);
  assert(again.port == socks->target.port && !socks->target.is_unix);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  struct socks whole = {.state = SOCKS_GREETING};
  struct socks parts = {.state = SOCKS_GREETING};
  size_t used = feed(&whole, data + 1, size - 1, size);
  assert(feed(&parts, data + 1, size - 1, 1 + data[0] % 32) == used);
  assert(whole.state == parts.state && whole.out_len == parts.out_len);
  assert(memcmp(whole.out, parts.out, whole.out_len) == 0);
  assert(strcmp(whole.target.host, parts.target.host) == 0);
  assert(whole.target.port == parts.target.port);
  assert(strcmp(whole.error.text, parts.error.text) == 0);
  check(&whole);
  bool stopped = whole.state == SOCKS_ASKED || whole.state == SOCKS_FAILED;
  assert(stopped || used == size - 1);
  if (stopped)
    assert(socks_feed(&whole, data, size) == 0);
  if (whole.state == SOCKS_ASKED) {
    int reply = data[0] % 9;
    socks_answer(&whole, (enum socks_reply)reply);
    assert(whole.state == (reply == 0 ? SOCKS_DONE : SOCKS_FAILED));
    check(&whole);
  }
  return 0;
}
