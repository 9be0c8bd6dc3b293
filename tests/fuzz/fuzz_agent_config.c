/* tools/agent_config.h: whatever is in agent.json, reading it ends well, and
 * what was taken is within its bounds. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/address.h"
#include "tools/agent_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct agent_config *config) {
  struct dstream_targets_options options;
  struct dstream_target *table = NULL;
  assert(agent_config_targets(config, &options, &table) == DSTREAM_OK);
  assert(options.max_streams >= 1 && options.max_streams <= 65536);
  assert(options.connect_timeout_ms >= 1000 &&
         options.connect_timeout_ms <= 50000);
  assert(options.idle_timeout_s >= 0 && options.total_timeout_s >= 0);
  assert(options.target_count <= AGENT_ENTRIES_MAX);
  assert(options.allow_count <= AGENT_ENTRIES_MAX);
  for (size_t i = 0; i < options.target_count; i++) {
    struct address address;
    assert(address_target_name_valid(options.targets[i].name));
    assert(address_parse(&address, options.targets[i].address, NULL) ==
           DSTREAM_OK);
    assert(options.targets[i].idle_timeout_s >= 0);
  }
  for (size_t i = 0; i < agent_config_count(); i++)
    assert(agent_config_needs_restart(i, config, config) == NULL);
  free(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct agent_config config;
  struct dstream_end end = {0};
  agent_config_defaults(&config);
  int status =
      agent_config_parse(&config, (const char *)data, size, "/etc", &end);
  if (status == DSTREAM_OK)
    check(&config);
  else
    assert(status == DSTREAM_EFORMAT && end.text[0] != '\0');
  agent_config_clear(&config);
  return 0;
}
