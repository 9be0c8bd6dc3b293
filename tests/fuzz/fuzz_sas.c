/* Shared access signatures: what parses is checked, decoded, and signed anew.
 */
#include <assert.h>
#include <stdint.h>

#include <dstream/status.h>

#include "core/sas.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t key[32] = {1, 2, 3};
  struct sas sas;
  if (sas_parse(&sas, (const char *)data, size) != DSTREAM_OK)
    return 0;
  assert(sas.sr.len > 0 && sas.sig.len > 0);
  sas_check(&sas, key, sizeof key);
  sas_resource_is(&sas, "hub.example.net/devices/dev1");

  char resource[SAS_MAX], policy[SAS_MAX], token[SAS_MAX];
  int len = sas_resource(&sas, resource, sizeof resource);
  if (len <= 0 || sas_policy(&sas, policy, sizeof policy) < 0)
    return 0;
  assert(sas_resource_is(&sas, resource));
  int n = sas_make(token, sizeof token, resource, key, sizeof key, sas.expiry,
                   policy[0] == '\0' ? NULL : policy, SAS_ENCODED_RESOURCE);
  if (n < 0)
    return 0;
  struct sas made;
  assert(sas_parse(&made, token, (size_t)n) == DSTREAM_OK);
  assert(sas_check(&made, key, sizeof key) == DSTREAM_OK);
  assert(sas_resource_is(&made, resource) && made.expiry == sas.expiry);
  return 0;
}
