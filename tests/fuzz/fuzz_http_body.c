/* core/http_body.h: a response, head and body, as a server sends it.  However
 * it is cut into pieces, the same body comes out, in place too. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <dstream/status.h>

#include "core/http_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
  long len; /* of the body, or the error */
  bool complete;
};

/* Feeds the body in pieces of 1 to `most` bytes, in place as http_call does. */
static struct outcome feed(const struct http_head *head, const char *in,
                           size_t len, size_t most, char *out) {
  struct http_body body;
  int status = http_body_init(&body, head);
  if (status != DSTREAM_OK) {
    assert(status == DSTREAM_EHTTP);
    return (struct outcome){status, false};
  }
  memcpy(out, in, len);
  size_t done = 0;
  size_t written = 0;
  for (size_t turn = 1; done < len && !body.done; turn++) {
    size_t piece = 1 + turn * 7 % most;
    if (piece > len - done)
      piece = len - done;
    size_t used = 0;
    assert(written <= done);
    long n = http_body_feed(&body, out + done, piece, &used, out + written);
    if (n < 0) {
      assert(n == DSTREAM_EHTTP);
      return (struct outcome){n, false};
    }
    assert((size_t)n <= used && used <= piece);
    assert(used == piece || body.done);
    written += (size_t)n;
    done += used;
  }
  return (struct outcome){(long)written, http_body_end(&body)};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1)
    return 0;
  size_t most = 1 + data[0] % 64;
  const char *text = (const char *)data + 1;
  struct http_head head;
  if (http_head_parse_response(&head, text, size - 1) != DSTREAM_OK)
    return 0;
  size_t len = size - 1 - head.length;
  char *whole = malloc(len + 1);
  char *cut = malloc(len + 1);
  assert(whole != NULL && cut != NULL);
  struct outcome a = feed(&head, text + head.length, len, len + 1, whole);
  struct outcome b = feed(&head, text + head.length, len, most, cut);
  assert(a.len == b.len && a.complete == b.complete);
  assert(a.len < 0 || memcmp(whole, cut, (size_t)a.len) == 0);
  free(whole);
  free(cut);
  return 0;
}
