/* hub/config.h: whatever is in hub.json or in a variable, reading it ends
 * well, and what was taken is written and read back the same. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hub/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The text as a variable: it is taken, or refused with a reason. */
static void override(const uint8_t *data, size_t size) {
  static const char prefix[] = CONFIG_ENVIRONMENT;
  struct config config;
  struct dstream_end end = {0};
  char variable[512];
  snprintf(variable, sizeof variable, "%s%.*s", prefix,
           (int)(size < 400 ? size : 400), (const char *)data);
  char *environment[] = {variable, NULL};
  config_defaults(&config);
  snprintf(config.host, sizeof config.host, "h");
  int status = config_override(&config, environment, &end);
  assert(status == DSTREAM_OK ? end.text[0] == '\0' : end.text[0] != '\0');
  if (status == DSTREAM_OK) {
    char *text = config_format(&config);
    assert(config_parse(&config, text, strlen(text), NULL) == DSTREAM_OK);
    free(text);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct config config;
  struct dstream_end end = {0};
  override(data, size);
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
