/* hub/config.h: whatever is in hub.json, reading it ends well, and what was
 * taken is written and read back the same. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hub/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct config config;
  struct dstream_end end = {0};
  int status = config_parse(&config, (const char *)data, size, &end);
  if (status != DSTREAM_OK) {
    assert(status == DSTREAM_EFORMAT && end.text[0] != '\0');
    return 0;
  }
  assert(config_host_valid(config.host));
  assert(config.https_port <= 65535 && config.limits.max_streams >= 1);
  struct config again;
  char *text = config_format(&config);
  assert(text != NULL);
  assert(config_parse(&again, text, strlen(text), NULL) == DSTREAM_OK);
  assert(strcmp(config.host, again.host) == 0);
  assert(config.alias_count == again.alias_count);
  assert(memcmp(&config.limits, &again.limits, sizeof config.limits) == 0);
  free(text);
  return 0;
}
