#include "core/stream_url.h"

#include <stdio.h>
#include <string.h>

#include <dstream/status.h>

#include "core/slice.h"

static bool digit(char c) {
  return c >= '0' && c <= '9';
}

static bool host_char(char c, bool ipv6) {
  if (digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == '.')
    return true;
  if (ipv6)
    return c == ':';
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
         c == '_';
}

static int parse_host(struct stream_url *out, struct slice host, bool ipv6) {
  if (host.len == 0)
    return DSTREAM_EFORMAT;
  for (size_t i = 0; i < host.len; i++)
    if (!host_char(host.p[i], ipv6))
      return DSTREAM_EFORMAT;
  if (ipv6 && memchr(host.p, ':', host.len) == NULL)
    return DSTREAM_EFORMAT;
  if (host.len >= sizeof out->host)
    return DSTREAM_ELIMIT;
  memcpy(out->host, host.p, host.len);
  return DSTREAM_OK;
}

/* text: what follows the host, nothing or ":port".  A ':' alone is the default
 * port (RFC 3986 section 3.2.3). */
static int parse_port(struct stream_url *out, struct slice text) {
  out->port = STREAM_URL_PORT;
  if (text.len == 0)
    return DSTREAM_OK;
  if (text.p[0] != ':')
    return DSTREAM_EFORMAT;
  unsigned port = 0;
  for (size_t i = 1; i < text.len; i++) {
    if (!digit(text.p[i]))
      return DSTREAM_EFORMAT;
    port = port * 10 + (unsigned)(text.p[i] - '0');
    if (port > UINT16_MAX)
      return DSTREAM_EFORMAT;
  }
  if (text.len == 1)
    return DSTREAM_OK;
  if (port == 0)
    return DSTREAM_EFORMAT;
  out->port = (uint16_t)port;
  return DSTREAM_OK;
}

static int parse_authority(struct stream_url *out, struct slice text) {
  bool ipv6 = text.len > 0 && text.p[0] == '[';
  const char *end = memchr(text.p, ipv6 ? ']' : ':', text.len);
  if (ipv6 && end == NULL)
    return DSTREAM_EFORMAT;
  if (end == NULL)
    end = text.p + text.len;
  const char *begin = text.p + (ipv6 ? 1 : 0);
  int status =
      parse_host(out, (struct slice){begin, (size_t)(end - begin)}, ipv6);
  if (status != DSTREAM_OK)
    return status;
  const char *rest = end + (ipv6 ? 1 : 0);
  return parse_port(out,
                    (struct slice){rest, text.len - (size_t)(rest - text.p)});
}

static int parse_target(struct stream_url *out, const char *text) {
  for (const char *p = text; *p != '\0'; p++)
    if (*p <= ' ' || *p > '~' || *p == '#')
      return DSTREAM_EFORMAT;
  const char *slash = text[0] == '/' ? "" : "/";
  int n = snprintf(out->target, sizeof out->target, "%s%s", slash, text);
  return n < 0 || (size_t)n >= sizeof out->target ? DSTREAM_ELIMIT : DSTREAM_OK;
}

int stream_url_parse(struct stream_url *out, const char *text) {
  memset(out, 0, sizeof *out);
  if (strncasecmp(text, "wss://", 6) != 0)
    return DSTREAM_EFORMAT;
  text += 6;
  struct slice authority = {text, strcspn(text, "/?#")};
  int status = parse_authority(out, authority);
  if (status == DSTREAM_OK)
    status = parse_target(out, text + authority.len);
  if (status != DSTREAM_OK)
    memset(out, 0, sizeof *out);
  else
    out->tls = true;
  return status;
}

int stream_url_host_header(const struct stream_url *url, char *out,
                           size_t out_size) {
  bool ipv6 = strchr(url->host, ':') != NULL;
  char port[8] = "";
  if (url->port != STREAM_URL_PORT)
    snprintf(port, sizeof port, ":%u", (unsigned)url->port);
  int n = snprintf(out, out_size, "%s%s%s%s", ipv6 ? "[" : "", url->host,
                   ipv6 ? "]" : "", port);
  return n < 0 || (size_t)n >= out_size ? DSTREAM_ELIMIT : n;
}
