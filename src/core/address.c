#include "core/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/end.h"
#include "core/printable.h"

#define UNIX_PREFIX "unix:"
#define UNIX_MAX    107 /* sun_path without its zero, on Linux */
#define NAME_PREFIX "tcp~"
#define HOST_MAX    253 /* RFC 1035 2.3.4, as text without the final dot */

static bool is_name(struct slice host) {
  if (host.len == 0 || host.len > HOST_MAX || !slice_only(host, "-._"))
    return false;
  for (size_t i = 0; i < host.len; i++)
    if (host.p[i] == '.' && (i == 0 || host.p[i - 1] == '.'))
      return false; /* an empty label, but for the final dot's */
  return true;
}

static bool is_ipv6(struct slice host) {
  char text[INET6_ADDRSTRLEN];
  struct in6_addr address;
  if (host.len == 0 || host.len >= sizeof text || !slice_only(host, ":."))
    return false;
  memcpy(text, host.p, host.len);
  text[host.len] = '\0';
  return inet_pton(AF_INET6, text, &address) == 1;
}

bool address_host_valid(struct slice host) {
  return is_name(host) || is_ipv6(host);
}

bool address_parse_port(struct slice text, uint16_t *out) {
  unsigned port = 0;
  if (text.len == 0 || text.len > 5 || text.p[0] == '0')
    return false;
  for (size_t i = 0; i < text.len; i++) {
    if (text.p[i] < '0' || text.p[i] > '9')
      return false;
    port = port * 10 + (unsigned)(text.p[i] - '0');
  }
  if (port > UINT16_MAX)
    return false;
  *out = (uint16_t)port;
  return true;
}

/* *out is 0 before. */
static bool read_listen_port(struct slice text, uint16_t *out) {
  return slice_eq(text, "0") || address_parse_port(text, out);
}

static void set_host(struct address *out, struct slice host) {
  assert(host.len < sizeof out->host);
  memcpy(out->host, host.p, host.len);
  out->host[host.len] = '\0';
}

/* NULL, or what is wrong. */
static const char *parse_unix(struct address *out, struct slice path) {
  if (path.len == 0)
    return "a path must follow unix:";
  if (path.len > UNIX_MAX)
    return "the path of a unix socket is 107 bytes at most";
  for (size_t i = 0; i < path.len; i++)
    if ((unsigned char)path.p[i] < 0x20 || path.p[i] == 0x7f)
      return "the path holds a control character";
  out->is_unix = true;
  set_host(out, path);
  return NULL;
}

static const char *split_brackets(const char *text, struct slice *host,
                                  struct slice *port) {
  const char *end = strchr(text, ']');
  if (end == NULL)
    return "the closing ']' is missing";
  if (end[1] != ':')
    return "':' and a port must follow ']'";
  *host = (struct slice){text + 1, (size_t)(end - text - 1)};
  *port = slice_of(end + 2);
  return is_ipv6(*host) ? NULL
                        : "between '[' and ']' must be an IPv6 address, "
                          "without a zone";
}

static const char *split_plain(const char *text, struct slice *host,
                               struct slice *port) {
  const char *colon = strchr(text, ':');
  if (colon == NULL)
    return "it must be HOST:PORT, [IPv6]:PORT or unix:PATH";
  if (strchr(colon + 1, ':') != NULL)
    return "an IPv6 address needs brackets, as in [::1]:80";
  *host = (struct slice){text, (size_t)(colon - text)};
  *port = slice_of(colon + 1);
  return is_name(*host) ? NULL
                        : "a host is a name of letters, digits, '-', '.' and "
                          "'_', or an address";
}

static const char *parse(struct address *out, const char *text, bool listen) {
  memset(out, 0, sizeof *out);
  if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
    return parse_unix(out, slice_of(text + strlen(UNIX_PREFIX)));
  struct slice host, port;
  const char *wrong = text[0] == '[' ? split_brackets(text, &host, &port)
                                     : split_plain(text, &host, &port);
  if (wrong != NULL)
    return wrong;
  if (listen && !read_listen_port(port, &out->port))
    return "the port must be 0 to 65535, in decimal";
  if (!listen && !address_parse_port(port, &out->port))
    return "the port must be 1 to 65535, in decimal";
  set_host(out, host);
  return NULL;
}

static bool is_ipv4(const char *host) {
  struct in_addr address;
  return inet_pton(AF_INET, host, &address) == 1;
}

static const char *parse_listen(struct address *out, const char *text) {
  static const struct slice loopback = SLICE_LITERAL("127.0.0.1");
  memset(out, 0, sizeof *out);
  if (text[0] != '\0' && strspn(text, "0123456789") == strlen(text)) {
    set_host(out, loopback);
    return read_listen_port(slice_of(text), &out->port)
               ? NULL
               : "the port must be 0 to 65535, in decimal";
  }
  const char *wrong = parse(out, text, true);
  if (wrong != NULL || out->is_unix)
    return wrong;
  if (slice_eq_nocase(slice_of(out->host), "localhost"))
    set_host(out, loopback);
  if (!is_ipv4(out->host) && strchr(out->host, ':') == NULL)
    return "to listen it must be a numeric address or \"localhost\"";
  return NULL;
}

static int finish(struct address *out, const struct address *parsed,
                  const char *text, const char *wrong,
                  struct dstream_end *error) {
  if (wrong != NULL) {
    end_set(error, DSTREAM_EINVAL, "\"%s\" is no address: %s",
            printable(text).text, wrong);
    return DSTREAM_EINVAL;
  }
  *out = *parsed;
  return DSTREAM_OK;
}

int address_parse(struct address *out, const char *text,
                  struct dstream_end *error) {
  struct address parsed;
  const char *wrong = parse(&parsed, text, false);
  return finish(out, &parsed, text, wrong, error);
}

int address_parse_listen(struct address *out, const char *text,
                         struct dstream_end *error) {
  struct address parsed;
  const char *wrong = parse_listen(&parsed, text);
  return finish(out, &parsed, text, wrong, error);
}

size_t address_format(const struct address *address,
                      char out[ADDRESS_TEXT_SIZE]) {
  const char *host = address->host;
  int n;
  if (address->is_unix)
    n = snprintf(out, ADDRESS_TEXT_SIZE, UNIX_PREFIX "%s", host);
  else
    n = snprintf(out, ADDRESS_TEXT_SIZE,
                 strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host,
                 (unsigned)address->port);
  assert(n > 0 && n < ADDRESS_TEXT_SIZE);
  return (size_t)n;
}

bool address_is_local(const struct address *address) {
  struct in_addr v4;
  struct in6_addr v6;
  if (address->is_unix)
    return true;
  if (inet_pton(AF_INET, address->host, &v4) == 1)
    return ntohl(v4.s_addr) >> 24 == 127;
  if (inet_pton(AF_INET6, address->host, &v6) != 1)
    return false;
  return IN6_IS_ADDR_LOOPBACK(&v6) ||
         (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

static void replace(char *text, char from, char to) {
  for (char *p = strchr(text, from); p != NULL; p = strchr(p, from))
    *p = to;
}

int address_to_name(const struct address *address,
                    char out[ADDRESS_NAME_SIZE]) {
  char text[ADDRESS_NAME_SIZE];
  struct address back;
  if (address->is_unix)
    return DSTREAM_EINVAL;
  char host[ADDRESS_HOST_SIZE];
  memcpy(host, address->host, sizeof host);
  replace(host, ':', '_');
  int n = snprintf(text, sizeof text, NAME_PREFIX "%s~%u", host,
                   (unsigned)address->port);
  if (n < 0 || (size_t)n >= sizeof text)
    return DSTREAM_EINVAL;
  /* A host named "__1" would come back as the address ::1. */
  if (address_from_name(&back, text) != DSTREAM_OK ||
      strcmp(back.host, address->host) != 0)
    return DSTREAM_EINVAL;
  memcpy(out, text, (size_t)n + 1);
  return DSTREAM_OK;
}

int address_from_name(struct address *out, const char *name) {
  struct address parsed = {.is_unix = false};
  size_t prefix = strlen(NAME_PREFIX);
  if (strncmp(name, NAME_PREFIX, prefix) != 0 ||
      strlen(name) >= ADDRESS_NAME_SIZE)
    return DSTREAM_EINVAL;
  const char *host = name + prefix;
  const char *tilde = strchr(host, '~');
  if (tilde == NULL || !address_parse_port(slice_of(tilde + 1), &parsed.port))
    return DSTREAM_EINVAL;
  struct slice plain = {host, (size_t)(tilde - host)};
  if (!slice_only(plain, "-._"))
    return DSTREAM_EINVAL;
  set_host(&parsed, plain);
  replace(parsed.host, '_', ':');
  if (!is_ipv6(slice_of(parsed.host))) {
    if (!is_name(plain))
      return DSTREAM_EINVAL;
    set_host(&parsed, plain);
  }
  *out = parsed;
  return DSTREAM_OK;
}

bool address_target_name_valid(const char *name) {
  size_t len = strlen(name);
  return len > 0 && len < ADDRESS_NAME_SIZE &&
         slice_only(slice_of(name), "-._");
}
