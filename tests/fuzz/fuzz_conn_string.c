/* Connection strings: what parses is printed, and parses again to the same. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/conn_string.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const char *text, enum conn_string_kind kind) {
  struct conn_string cs, again;
  struct dstream_end error;
  char printed[CONN_STRING_MAX], twice[CONN_STRING_MAX];
  if (conn_string_parse(&cs, text, kind, &error) != DSTREAM_OK) {
    assert(error.status != DSTREAM_OK && error.text[0] != '\0');
    assert(cs.host == NULL && cs.key == NULL);
    return;
  }
  assert(cs.host != NULL && cs.https_port != 0 && cs.mqtt_port != 0);
  int n = conn_string_format(&cs, printed, sizeof printed);
  assert(n > 0);
  assert(conn_string_parse(&again, printed, kind, &error) == DSTREAM_OK);
  assert(conn_string_format(&again, twice, sizeof twice) == n);
  assert(strcmp(printed, twice) == 0);
  conn_string_clear(&cs);
  conn_string_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *text = malloc(size + 1);
  assert(text != NULL);
  memcpy(text, data, size);
  text[size] = '\0';
  run(text, CONN_STRING_DEVICE);
  run(text, CONN_STRING_DEVICE_NO_KEY);
  run(text, CONN_STRING_SERVICE);
  free(text);
  return 0;
}
