/* hub/registry_device.h: devices as JSON from anybody who may write them; what
 * is taken is printed as JSON again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "hub/registry_device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print(const struct identity_device *device) {
  struct registry_text text = {0};
  struct registry_place place;
  registry_device_print(&text, device, true, &place);
  assert(!text.failed && text.p != NULL && strlen(text.p) == text.len);
  cJSON *root = cJSON_Parse(text.p);
  assert(root != NULL);
  const cJSON *reason = cJSON_GetObjectItemCaseSensitive(root, "statusReason");
  assert(device->status_reason[0] == '\0'
             ? cJSON_IsNull(reason)
             : strcmp(reason->valuestring, device->status_reason) == 0);
  cJSON_Delete(root);
  registry_text_clear(&text);
}

static void apply(const struct registry_change *change, bool exists) {
  struct registry_problem problem = {HUB_ERROR_NONE, ""};
  struct identity_device device = {.enabled = true, .auth = IDENTITY_GROUP};
  if (!exists)
    memset(&device, 0, sizeof device);
  memcpy(device.id, "dev", 4);
  if (registry_change_apply(change, exists, 1700000000, &device, &problem)) {
    assert(problem.code == HUB_ERROR_NONE);
    assert(identity_reason_valid(device.status_reason));
    print(&device);
  } else {
    assert(problem.code != HUB_ERROR_NONE && problem.message[0] != '\0');
  }
  identity_device_wipe(&device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct registry_problem problem = {HUB_ERROR_NONE, ""};
  struct registry_change change;
  cJSON *root = cJSON_ParseWithLength((const char *)data, size);
  if (root == NULL)
    return 0;
  if (registry_change_read(&change, root, &problem)) {
    apply(&change, false);
    apply(&change, true);
  } else {
    assert(problem.code == HUB_ERROR_ARGUMENT && problem.message[0] != '\0');
  }
  registry_change_wipe(&change);
  cJSON_Delete(root);
  return 0;
}
