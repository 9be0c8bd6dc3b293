/* A client's first bytes; what is a CONNECT packet without a password still is
 * one with a password put in. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "hub/broker_connect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char password[] = "dstream-certificate fuzz";
  static uint8_t out[BROKER_CONNECT_MAX + sizeof password + 6];
  struct broker_connect before, after;
  if (broker_connect_parse(&before, data, size) != DSTREAM_OK)
    return 0;
  assert(before.length <= size);
  int len =
      broker_connect_with_password(&before, data, password, out, sizeof out);
  assert((len < 0) == before.has_password);
  if (len < 0)
    return 0;
  int status = broker_connect_parse(&after, out, (size_t)len);
  assert(status == (len > BROKER_CONNECT_MAX ? DSTREAM_ELIMIT : DSTREAM_OK));
  if (status != DSTREAM_OK)
    return 0;
  assert(after.length == (size_t)len && after.has_password);
  assert(after.has_user == before.has_user);
  assert(after.client_id.len == before.client_id.len);
  assert(memcmp(after.client_id.p, before.client_id.p, after.client_id.len) ==
         0);
  return 0;
}
