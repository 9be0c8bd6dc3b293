/* Addresses of streaming endpoints: nothing that parses can break a request
 * head. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <dstream/status.h>

#include "core/stream_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text) {
  assert(text[0] != '\0');
  for (; *text != '\0'; text++)
    assert(*text > ' ' && *text <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct stream_url url;
  char header[264];
  char *text = malloc(size + 1);
  assert(text != NULL);
  memcpy(text, data, size);
  text[size] = '\0';
  if (stream_url_parse(&url, text) == DSTREAM_OK) {
    assert(url.tls && url.port != 0 && url.target[0] == '/');
    assert(stream_url_host_header(&url, header, sizeof header) > 0);
    check_text(url.host);
    check_text(url.target);
    check_text(header);
  } else {
    assert(!url.tls && url.host[0] == '\0');
  }
  free(text);
  return 0;
}
