/* Addresses: what is read is written, and reads again to the same; so do the
 * names of streams. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const struct address *a, const struct address *b) {
  assert(a->is_unix == b->is_unix && a->port == b->port);
  assert(strcmp(a->host, b->host) == 0);
}

static void check_name(const struct address *address) {
  char name[ADDRESS_NAME_SIZE];
  struct address back;
  if (address_to_name(address, name) != DSTREAM_OK)
    return;
  assert(!address->is_unix && address->port != 0);
  assert(strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                      "0123456789-._~") == strlen(name));
  assert(!address_target_name_valid(name));
  assert(address_from_name(&back, name) == DSTREAM_OK);
  same(&back, address);
}

typedef int parse_fn(struct address *, const char *, struct dstream_end *);

static void check_text(const char *text, parse_fn *parse) {
  struct address address, again;
  struct dstream_end error;
  char written[ADDRESS_TEXT_SIZE];
  if (parse(&address, text, &error) != DSTREAM_OK) {
    assert(error.status == DSTREAM_EINVAL);
    for (const char *p = error.text; *p != '\0'; p++)
      assert(*p >= ' ' && *p <= '~');
    return;
  }
  assert(address.is_unix || address_host_valid(slice_of(address.host)));
  assert(address_format(&address, written) == strlen(written));
  assert(parse(&again, written, NULL) == DSTREAM_OK);
  same(&again, &address);
  check_name(&address);
}

static void check_from_name(const char *text) {
  struct address address;
  char name[ADDRESS_NAME_SIZE], written[ADDRESS_TEXT_SIZE];
  if (address_from_name(&address, text) != DSTREAM_OK)
    return;
  assert(!address_target_name_valid(text));
  assert(address_to_name(&address, name) == DSTREAM_OK);
  assert(strcmp(name, text) == 0);
  address_format(&address, written);
  check_text(written, address_parse);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *text = malloc(size + 1);
  assert(text != NULL);
  memcpy(text, data, size);
  text[size] = '\0';
  check_text(text, address_parse);
  check_text(text, address_parse_listen);
  check_from_name(text);
  address_host_valid((struct slice){text, size});
  free(text);
  return 0;
}
