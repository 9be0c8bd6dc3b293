/* One line each: a host, a port, then patterns.  A host in other clothes is
 * judged the same; nobody is allowed by no pattern. */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/address.h"
#include "core/allow.h"

#define PATTERNS_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool judge_v6(const struct allow_list *list, const struct in6_addr *ip,
                     uint16_t port) {
  struct sockaddr_in6 address;
  memset(&address, 0, sizeof address);
  address.sin6_family = AF_INET6;
  address.sin6_addr = *ip;
  return allow_address(list, (const struct sockaddr *)&address, port);
}

static void check_v4(const struct allow_list *list, const struct in_addr *ip,
                     uint16_t port, bool allowed) {
  struct sockaddr_in address;
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr = *ip;
  assert(allow_address(list, (const struct sockaddr *)&address, port) ==
         allowed);
  struct in6_addr mapped = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
  memcpy(mapped.s6_addr + 12, ip, 4);
  assert(judge_v6(list, &mapped, port) == allowed);
  char text[INET6_ADDRSTRLEN];
  assert(inet_ntop(AF_INET6, &mapped, text, sizeof text) != NULL);
  assert((allow_host(list, text, port) == ALLOW_YES) == allowed);
}

static void check_name(const struct allow_list *list, const char *host,
                       uint16_t port, enum allow_verdict verdict) {
  char other[ADDRESS_HOST_SIZE + 1];
  size_t len = strlen(host);
  for (size_t i = 0; i <= len; i++) {
    char c = host[i];
    bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
    other[i] = (char)(upper || lower ? c ^ 0x20 : c);
  }
  assert(allow_host(list, other, port) == verdict);
  if (other[len - 1] == '.' || len >= 253)
    return;
  memcpy(other + len, ".", 2);
  assert(allow_host(list, other, port) == verdict);
}

static void check(const struct allow_list *list, const char *host,
                  uint16_t port) {
  static const struct allow_list nothing;
  assert(allow_host(&nothing, host, port) == ALLOW_NO);
  assert(allow_host(list, host, 0) == ALLOW_NO);
  enum allow_verdict verdict = allow_host(list, host, port);
  struct in_addr v4;
  struct in6_addr v6;
  if (!address_host_valid(slice_of(host))) {
    assert(verdict == ALLOW_NO);
  } else if (inet_pton(AF_INET, host, &v4) == 1) {
    assert(verdict != ALLOW_RESOLVE);
    check_v4(list, &v4, port, verdict == ALLOW_YES);
  } else if (inet_pton(AF_INET6, host, &v6) == 1) {
    assert(verdict != ALLOW_RESOLVE);
    assert(judge_v6(list, &v6, port) == (verdict == ALLOW_YES));
  } else {
    check_name(list, host, port, verdict);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *text = malloc(size + 1);
  assert(text != NULL);
  memcpy(text, data, size);
  text[size] = '\0';
  char *lines[2 + PATTERNS_MAX] = {NULL};
  size_t count = 0;
  for (char *rest = text; rest != NULL && count < 2 + PATTERNS_MAX;)
    lines[count++] = strsep(&rest, "\n");
  uint16_t port;
  struct allow_list list;
  struct dstream_end error;
  if (count > 2 && address_parse_port(slice_of(lines[1]), &port)) {
    if (allow_parse(&list, (const char *const *)lines + 2, count - 2, &error) ==
        DSTREAM_OK) {
      assert(list.count == count - 2);
      check(&list, lines[0], port);
      allow_clear(&list);
    } else {
      for (const char *p = error.text; *p != '\0'; p++)
        assert(*p >= ' ' && *p <= '~');
    }
  }
  free(text);
  return 0;
}
