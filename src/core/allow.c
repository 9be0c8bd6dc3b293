#include "core/allow.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "core/address.h"
#include "core/end.h"
#include "core/printable.h"
#include "core/slice.h"

#define RANGES_MAX 64

enum kind { KIND_ANY, KIND_ADDRESS, KIND_NAME, KIND_BELOW };

struct ip {
  unsigned bits; /* 32 or 128 */
  uint8_t bytes[16];
};

struct range {
  uint16_t first;
  uint16_t last;
};

struct allow_rule {
  enum kind kind;
  struct ip ip;       /* KIND_ADDRESS */
  unsigned mask_bits; /* the same */
  char *name; /* KIND_NAME: without final dot; KIND_BELOW: with its first dot */
  struct range *ranges;
  size_t range_count;
};

/* ---- addresses ---- */

static struct ip ip_from_v6(const uint8_t bytes[16]) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  struct ip ip = {.bits = 128};
  if (memcmp(bytes, mapped, sizeof mapped) == 0) {
    ip.bits = 32;
    memcpy(ip.bytes, bytes + sizeof mapped, 4);
  } else {
    memcpy(ip.bytes, bytes, 16);
  }
  return ip;
}

static bool read_ip(const char *text, struct ip *out) {
  struct in_addr v4;
  struct in6_addr v6;
  if (inet_pton(AF_INET, text, &v4) == 1) {
    *out = (struct ip){.bits = 32};
    memcpy(out->bytes, &v4, sizeof v4);
    return true;
  }
  if (inet_pton(AF_INET6, text, &v6) != 1)
    return false;
  *out = ip_from_v6(v6.s6_addr);
  return true;
}

static uint8_t mask_byte(unsigned mask_bits, size_t i) {
  if (mask_bits >= 8 * (i + 1))
    return 0xff;
  if (mask_bits <= 8 * i)
    return 0;
  return (uint8_t)(0xff << (8 - mask_bits % 8));
}

static bool covers(const struct allow_rule *rule, const struct ip *ip) {
  if (rule->ip.bits != ip->bits)
    return false;
  for (size_t i = 0; i < ip->bits / 8; i++)
    if (((rule->ip.bytes[i] ^ ip->bytes[i]) & mask_byte(rule->mask_bits, i)) !=
        0)
      return false;
  return true;
}

/* ---- reading patterns: these return NULL, or what is wrong ---- */

static bool copy(char *out, size_t size, struct slice text) {
  if (text.len >= size || memchr(text.p, '\0', text.len) != NULL)
    return false;
  memcpy(out, text.p, text.len);
  out[text.len] = '\0';
  return true;
}

static bool read_mask(struct slice text, unsigned *out) {
  unsigned bits = 0;
  if (text.len == 0 || text.len > 3 || (text.p[0] == '0' && text.len > 1))
    return false;
  for (size_t i = 0; i < text.len; i++) {
    if (text.p[i] < '0' || text.p[i] > '9')
      return false;
    bits = bits * 10 + (unsigned)(text.p[i] - '0');
  }
  *out = bits;
  return true;
}

static const char *set_mask(struct allow_rule *rule, unsigned written_bits,
                            unsigned mask_bits) {
  if (mask_bits > written_bits)
    return written_bits == 32 ? "the mask must be /0 to /32"
                              : "the mask must be /0 to /128";
  /* An IPv4 address in IPv6 clothes has 96 bits in front. */
  unsigned front = written_bits - rule->ip.bits;
  bool clean = mask_bits >= front;
  rule->mask_bits = clean ? mask_bits - front : 0;
  for (size_t i = 0; i < rule->ip.bits / 8; i++)
    if ((rule->ip.bytes[i] & ~mask_byte(rule->mask_bits, i)) != 0)
      clean = false;
  return clean ? NULL : "the address has bits set beyond its mask";
}

/* mask.p is NULL when there is none. */
static const char *set_address(struct allow_rule *rule, struct slice address,
                               struct slice mask, bool v6) {
  char text[INET6_ADDRSTRLEN];
  unsigned written_bits = v6 ? 128 : 32;
  unsigned mask_bits = written_bits;
  if (!copy(text, sizeof text, address) || !read_ip(text, &rule->ip) ||
      (strchr(text, ':') != NULL) != v6)
    return v6 ? "between '[' and ']' must be an IPv6 address, without a zone"
              : "before '/' must be an IPv4 address, with all its four numbers";
  if (mask.p != NULL && !read_mask(mask, &mask_bits))
    return "after '/' must be the number of bits";
  rule->kind = KIND_ADDRESS;
  return set_mask(rule, written_bits, mask_bits);
}

static struct slice after(struct slice text, const char *p) {
  return (struct slice){p, text.len - (size_t)(p - text.p)};
}

static struct slice split_mask(struct slice *text) {
  const char *slash = memchr(text->p, '/', text->len);
  if (slash == NULL)
    return (struct slice){NULL, 0};
  struct slice mask = after(*text, slash + 1);
  text->len = (size_t)(slash - text->p);
  return mask;
}

static const char *set_brackets(struct allow_rule *rule, struct slice host) {
  const char *end = memchr(host.p, ']', host.len);
  if (end == NULL)
    return "the closing ']' is missing";
  struct slice inside = {host.p + 1, (size_t)(end - host.p - 1)};
  struct slice behind = after(host, end + 1);
  struct slice mask = split_mask(&inside);
  if (behind.len > 0) {
    if (behind.p[0] != '/' || mask.p != NULL)
      return "':' or one mask must follow ']'";
    mask = after(behind, behind.p + 1);
  }
  return set_address(rule, inside, mask, true);
}

/* Resolvers take "10.1", "0x7f.1" and the like for addresses; no host name ends
 * like that. */
static bool ends_in_number(const char *name) {
  const char *dot = strrchr(name, '.');
  const char *label = dot == NULL ? name : dot + 1;
  if (strspn(label, "0123456789") == strlen(label))
    return true;
  return label[0] == '0' && (label[1] == 'x' || label[1] == 'X') &&
         label[2 + strspn(label + 2, "0123456789abcdefABCDEF")] == '\0';
}

static struct slice without_final_dot(struct slice name) {
  if (name.len > 1 && name.p[name.len - 1] == '.')
    name.len--;
  return name;
}

static const char *set_name(struct allow_rule *rule, struct slice host,
                            bool *no_memory) {
  bool below = host.len > 2 && host.p[0] == '*' && host.p[1] == '.';
  if (below)
    host = after(host, host.p + 2);
  if (!address_host_valid(host))
    return "a host is a name of letters, digits, '-', '.' and '_' after an "
           "optional \"*.\", or an address";
  host = without_final_dot(host);
  rule->name = malloc(host.len + 2);
  if (rule->name == NULL) {
    *no_memory = true;
    return "out of memory";
  }
  size_t dot = below ? 1 : 0;
  rule->name[0] = '.';
  memcpy(rule->name + dot, host.p, host.len);
  rule->name[dot + host.len] = '\0';
  rule->kind = below ? KIND_BELOW : KIND_NAME;
  return ends_in_number(rule->name)
             ? "it ends in a number, as addresses do, but is none"
             : NULL;
}

static const char *set_host(struct allow_rule *rule, struct slice host,
                            bool *no_memory) {
  char text[INET_ADDRSTRLEN];
  struct in_addr v4;
  if (slice_eq(host, "*")) {
    rule->kind = KIND_ANY;
    return NULL;
  }
  if (host.len > 0 && host.p[0] == '[')
    return set_brackets(rule, host);
  if (memchr(host.p, ':', host.len) != NULL)
    return "an IPv6 address needs brackets, as in [fd00::]/8:22";
  struct slice mask = split_mask(&host);
  if (mask.p != NULL ||
      (copy(text, sizeof text, host) && inet_pton(AF_INET, text, &v4) == 1))
    return set_address(rule, host, mask, false);
  return set_name(rule, host, no_memory);
}

static bool read_range(struct slice text, struct range *out) {
  const char *dash = text.len > 0 ? memchr(text.p, '-', text.len) : NULL;
  struct slice last = text;
  if (dash != NULL) {
    last = after(text, dash + 1);
    text.len = (size_t)(dash - text.p);
  }
  return address_parse_port(text, &out->first) &&
         address_parse_port(last, &out->last) && out->first <= out->last;
}

static const char *read_ranges(struct range *ranges, size_t *count,
                               struct slice text) {
  *count = 0;
  if (slice_eq(text, "*")) {
    ranges[(*count)++] = (struct range){1, UINT16_MAX};
    return NULL;
  }
  for (;;) {
    const char *comma = memchr(text.p, ',', text.len);
    struct slice item = text;
    if (comma != NULL)
      item.len = (size_t)(comma - text.p);
    if (*count == RANGES_MAX)
      return "more than 64 ports or ranges";
    if (!read_range(item, &ranges[(*count)++]))
      return "ports are \"*\" or a list of ports (1 to 65535) and ranges, as "
             "in 80,8000-8999";
    if (comma == NULL)
      return NULL;
    text = after(text, comma + 1);
  }
}

static const char *set_ports(struct allow_rule *rule, struct slice text,
                             bool *no_memory) {
  struct range ranges[RANGES_MAX];
  const char *wrong = read_ranges(ranges, &rule->range_count, text);
  if (wrong != NULL)
    return wrong;
  size_t size = rule->range_count * sizeof *ranges;
  rule->ranges = malloc(size);
  if (rule->ranges == NULL) {
    *no_memory = true;
    return "out of memory";
  }
  memcpy(rule->ranges, ranges, size);
  return NULL;
}

/* What it made stays in *rule, to be freed, even if it fails. */
static int parse_rule(struct allow_rule *rule, const char *pattern,
                      struct dstream_end *error) {
  const char *bracket = strchr(pattern, ']');
  const char *colon = strrchr(bracket != NULL ? bracket : pattern, ':');
  const char *wrong = "it must be HOST:PORTS or ADDRESS[/BITS]:PORTS";
  bool no_memory = false;
  if (colon != NULL && colon[1] != '\0') {
    struct slice host = {pattern, (size_t)(colon - pattern)};
    wrong = set_host(rule, host, &no_memory);
    if (wrong == NULL)
      wrong = set_ports(rule, slice_of(colon + 1), &no_memory);
  }
  if (wrong == NULL)
    return DSTREAM_OK;
  int status = no_memory ? DSTREAM_ENOMEM : DSTREAM_EINVAL;
  end_set(error, status, "\"%s\" is no pattern: %s", printable(pattern).text,
          wrong);
  return status;
}

int allow_parse(struct allow_list *out, const char *const *patterns,
                size_t count, struct dstream_end *error) {
  struct allow_list list = {NULL, 0};
  if (count > 0) {
    list.rules = calloc(count, sizeof *list.rules);
    if (list.rules == NULL) {
      end_set(error, DSTREAM_ENOMEM, "out of memory");
      return DSTREAM_ENOMEM;
    }
  }
  while (list.count < count) {
    size_t i = list.count++;
    int status = parse_rule(&list.rules[i], patterns[i], error);
    if (status != DSTREAM_OK) {
      allow_clear(&list);
      return status;
    }
  }
  *out = list;
  return DSTREAM_OK;
}

void allow_clear(struct allow_list *list) {
  if (list == NULL)
    return;
  for (size_t i = 0; i < list->count; i++) {
    free(list->rules[i].name);
    free(list->rules[i].ranges);
  }
  free(list->rules);
  *list = (struct allow_list){NULL, 0};
}

/* ---- judging ---- */

static bool has_port(const struct allow_rule *rule, uint16_t port) {
  for (size_t i = 0; i < rule->range_count; i++)
    if (port >= rule->ranges[i].first && port <= rule->ranges[i].last)
      return true;
  return false;
}

static bool allow_ip(const struct allow_list *list, const struct ip *ip,
                     uint16_t port) {
  for (size_t i = 0; i < list->count; i++) {
    const struct allow_rule *rule = &list->rules[i];
    if (rule->kind != KIND_ANY &&
        !(rule->kind == KIND_ADDRESS && covers(rule, ip)))
      continue;
    if (has_port(rule, port))
      return true;
  }
  return false;
}

static bool names(const struct allow_rule *rule, struct slice host) {
  if (rule->kind == KIND_ANY)
    return true;
  if (rule->kind == KIND_NAME)
    return slice_eq_nocase(host, rule->name);
  if (rule->kind != KIND_BELOW)
    return false;
  size_t len = strlen(rule->name);
  return host.len > len &&
         slice_eq_nocase((struct slice){host.p + host.len - len, len},
                         rule->name);
}

enum allow_verdict allow_host(const struct allow_list *list, const char *host,
                              uint16_t port) {
  struct ip ip;
  struct slice name = slice_of(host);
  if (!address_host_valid(name))
    return ALLOW_NO;
  if (read_ip(host, &ip))
    return allow_ip(list, &ip, port) ? ALLOW_YES : ALLOW_NO;
  name = without_final_dot(name);
  enum allow_verdict verdict = ALLOW_NO;
  for (size_t i = 0; i < list->count; i++) {
    const struct allow_rule *rule = &list->rules[i];
    if (!has_port(rule, port))
      continue;
    if (names(rule, name))
      return ALLOW_YES;
    if (rule->kind == KIND_ADDRESS)
      verdict = ALLOW_RESOLVE;
  }
  return verdict;
}

bool allow_address(const struct allow_list *list,
                   const struct sockaddr *address, uint16_t port) {
  struct ip ip;
  if (address->sa_family == AF_INET) {
    struct sockaddr_in v4;
    memcpy(&v4, address, sizeof v4);
    ip = (struct ip){.bits = 32};
    memcpy(ip.bytes, &v4.sin_addr, sizeof v4.sin_addr);
  } else if (address->sa_family == AF_INET6) {
    struct sockaddr_in6 v6;
    memcpy(&v6, address, sizeof v6);
    ip = ip_from_v6(v6.sin6_addr.s6_addr);
  } else {
    return false;
  }
  return allow_ip(list, &ip, port);
}
