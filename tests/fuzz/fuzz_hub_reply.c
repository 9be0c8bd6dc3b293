/* service/hub_reply.h: whatever a hub, or somebody in between, answers, the
 * caller gets one printable sentence and a status. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "service/hub_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const int statuses[] = {400, 401, 403, 404, 429, 500, 503, 504};
  if (size < 1)
    return 0;
  struct http_head head;
  memset(&head, 0, sizeof head);
  head.status = statuses[data[0] % (sizeof statuses / sizeof statuses[0])];
  /* Of exactly this size, so that reading past its end is seen. */
  char *body = malloc(size - 1 > 0 ? size - 1 : 1);
  assert(body != NULL);
  memcpy(body, data + 1, size - 1);
  struct dstream_end end;
  hub_reply_error(&head, body, size - 1, &end);
  free(body);
  assert(end.status < 0 && end.http_status == head.status);
  assert(end.text[0] != '\0' && strlen(end.text) < sizeof end.text);
  for (const char *p = end.text; *p != '\0'; p++)
    assert((unsigned char)*p >= 0x20 && *p != 0x7f);
  return 0;
}
