#include "net/link_proxy.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/crypto.h"
#include "core/end.h"
#include "core/http_head.h"
#include "core/percent.h"

static int parse_port(const char *text, size_t len, uint16_t *port) {
  unsigned value = 0;
  if (len == 0 || len > 5)
    return DSTREAM_EINVAL;
  for (size_t i = 0; i < len; i++) {
    if (text[i] < '0' || text[i] > '9')
      return DSTREAM_EINVAL;
    value = value * 10 + (unsigned)(text[i] - '0');
  }
  if (value == 0 || value > 65535)
    return DSTREAM_EINVAL;
  *port = (uint16_t)value;
  return DSTREAM_OK;
}

/* The text is percent-encoded (RFC 3986 3.2.1). */
static int proxy_set_credentials(struct link_proxy *proxy, struct slice text) {
  char plain[sizeof proxy->authorization];
  size_t len = 0;
  if (percent_decode(text, plain, sizeof plain, &len) != DSTREAM_OK ||
      CRYPTO_BASE64_SIZE(len) + sizeof "Basic " > sizeof proxy->authorization)
    return DSTREAM_EINVAL;
  size_t n = (size_t)snprintf(proxy->authorization, sizeof proxy->authorization,
                              "Basic ");
  crypto_base64_encode(plain, len, proxy->authorization + n,
                       sizeof proxy->authorization - n);
  crypto_wipe(plain, sizeof plain);
  return DSTREAM_OK;
}

/* "host", "host:port", "[v6]" or "[v6]:port", all of text. */
static int parse_authority(struct link_proxy *proxy, struct slice text) {
  const char *end = text.p + text.len;
  const char *host = text.p;
  const char *host_end;
  if (text.len > 0 && *host == '[') {
    host_end = memchr(++host, ']', text.len - 1);
    if (host_end == NULL)
      return DSTREAM_EINVAL;
    text.p = host_end + 1;
  } else {
    host_end = memchr(host, ':', text.len);
    if (host_end == NULL)
      host_end = end;
    text.p = host_end;
  }
  size_t host_len = (size_t)(host_end - host);
  if (host_len == 0 || host_len >= sizeof proxy->host)
    return DSTREAM_EINVAL;
  for (size_t i = 0; i < host_len; i++)
    if ((unsigned char)host[i] <= ' ' || host[i] == 127)
      return DSTREAM_EINVAL;
  memcpy(proxy->host, host, host_len);
  proxy->port = 80;
  if (text.p == end)
    return DSTREAM_OK;
  return *text.p == ':'
             ? parse_port(text.p + 1, (size_t)(end - text.p - 1), &proxy->port)
             : DSTREAM_EINVAL;
}

static int parse_url(struct link_proxy *proxy, const char *url) {
  static const char scheme[] = "http://";
  if (strncmp(url, scheme, sizeof scheme - 1) != 0)
    return DSTREAM_EINVAL;
  struct slice text = {url + sizeof scheme - 1, 0};
  text.len = strcspn(text.p, "/");
  size_t at = text.len;
  while (at > 0 && text.p[at - 1] != '@')
    at--;
  if (at > 0) {
    struct slice credentials = {text.p, at - 1};
    if (proxy_set_credentials(proxy, credentials) != DSTREAM_OK)
      return DSTREAM_EINVAL;
    text.p += at;
    text.len -= at;
  }
  return parse_authority(proxy, text);
}

int link_proxy_parse(struct link_proxy *proxy, const char *url,
                     struct dstream_end *error) {
  memset(proxy, 0, sizeof *proxy);
  if (url == NULL || *url == '\0')
    return DSTREAM_OK;
  if (parse_url(proxy, url) == DSTREAM_OK)
    return DSTREAM_OK;
  crypto_wipe(proxy, sizeof *proxy);
  end_set(error, DSTREAM_EINVAL,
          "the proxy must look like http://[user:password@]host:port");
  return DSTREAM_EINVAL;
}

size_t link_proxy_request(const struct link_proxy *proxy, const char *host,
                          uint16_t port, char *out) {
  bool v6 = strchr(host, ':') != NULL;
  bool known = proxy->authorization[0] != '\0';
  char target[300];
  snprintf(target, sizeof target, "%s%s%s:%u", v6 ? "[" : "", host,
           v6 ? "]" : "", (unsigned)port);
  int n = snprintf(out, LINK_PROXY_REQUEST_SIZE,
                   "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n", target,
                   target, known ? "Proxy-Authorization: " : "",
                   proxy->authorization, known ? "\r\n" : "");
  assert(n > 0 && n < LINK_PROXY_REQUEST_SIZE);
  return (size_t)n;
}

static void proxy_refused(const struct link_proxy *proxy, int status,
                          const char *host, uint16_t port,
                          struct dstream_end *end) {
  const char *hint = "";
  /* 401 is tinyproxy's. */
  if (status == 407 || status == 401)
    hint = proxy->authorization[0] != '\0'
               ? ": it does not take this user name and password"
               : ": it wants a user name and a password, "
                 "http://user:password@host:port";
  end_set(end, DSTREAM_EPROXY, "the proxy %s:%u answered %d to CONNECT %s:%u%s",
          proxy->host, (unsigned)proxy->port, status, host, (unsigned)port,
          hint);
  end->http_status = status;
}

int link_proxy_check(const struct link_proxy *proxy, const char *answer,
                     size_t len, const char *host, uint16_t port,
                     struct dstream_end *end) {
  struct http_head head;
  int status = http_head_parse_response(&head, answer, len);
  if (status == DSTREAM_EAGAIN && len < LINK_PROXY_HEAD_MAX)
    return DSTREAM_EAGAIN;
  if (status == DSTREAM_OK && head.status / 100 == 2 && head.length == len)
    return DSTREAM_OK;
  if (status == DSTREAM_OK && head.status / 100 != 2)
    proxy_refused(proxy, head.status, host, port, end);
  else
    end_set(end, DSTREAM_EPROXY, "the proxy %s:%u does not speak HTTP",
            proxy->host, (unsigned)proxy->port);
  return DSTREAM_EPROXY;
}
