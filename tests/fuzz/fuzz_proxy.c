/* net/link.h: a proxy's URL, from a setting or from the environment. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *url = malloc(size + 1);
  assert(url != NULL);
  if (size > 0)
    memcpy(url, data, size);
  url[size] = '\0';
  struct link_proxy proxy;
  struct dstream_end error = {0};
  int status = link_proxy_parse(&proxy, url, &error);
  assert(error.status == status);
  if (status != DSTREAM_OK) {
    assert(status == DSTREAM_EINVAL && error.text[0] != '\0');
  } else if (url[0] == '\0') {
    assert(proxy.host[0] == '\0');
  } else {
    assert(proxy.host[0] != '\0' && proxy.port != 0);
    /* It goes into a header as it is. */
    assert(strpbrk(proxy.authorization, "\r\n") == NULL);
  }
  assert(memchr(proxy.host, '\0', sizeof proxy.host) != NULL);
  free(url);
  return 0;
}
