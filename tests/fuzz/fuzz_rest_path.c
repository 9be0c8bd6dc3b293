/* hub/rest_path.h: targets and timeouts from anybody. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/conn_string.h"
#include "hub/rest_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct slice target = {(const char *)data, size};
  struct rest_path path;
  rest_path_parse(&path, target);
  if (path.route == REST_STREAM) {
    assert(conn_string_id_valid(slice_of(path.device)));
    assert(handshake_name_valid(path.name));
    assert(strpbrk(path.device, "/\r\n") == NULL);
    assert(path.module[0] == '\0' ||
           conn_string_id_valid(slice_of(path.module)));
  }
  if (path.route == REST_DEVICE)
    assert(conn_string_id_valid(slice_of(path.device)));
  int top = rest_query_number(target, "top", 7, 1000);
  assert(top >= -1 && top <= 1000);
  int seconds = rest_seconds(target);
  assert(seconds >= -1 && seconds <= 86401);
  return 0;
}
