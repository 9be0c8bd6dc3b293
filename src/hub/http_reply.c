#include "hub/http_reply.h"

#include <stdio.h>
#include <string.h>

#define LINGER_MS 2000

static const char *reason(int status) {
  switch (status) {
  case 400:
    return "Bad Request";
  case 401:
    return "Unauthorized";
  case 403:
    return "Forbidden";
  case 404:
    return "Not Found";
  case 405:
    return "Method Not Allowed";
  case 408:
    return "Request Timeout";
  case 426:
    return "Upgrade Required";
  case 431:
    return "Request Header Fields Too Large";
  case 503:
    return "Service Unavailable";
  default:
    return "Error";
  }
}

void http_reply(struct link *link, int status, const char *headers,
                const char *text) {
  char reply[1024];
  int n = snprintf(reply, sizeof reply,
                   "HTTP/1.1 %d %s\r\n"
                   "Content-Type: text/plain; charset=utf-8\r\n"
                   "Content-Length: %zu\r\n"
                   "%s"
                   "Connection: close\r\n\r\n%s\n",
                   status, reason(status), strlen(text) + 1,
                   headers == NULL ? "" : headers, text);
  if (n > 0 && (size_t)n < sizeof reply && link_has_control_space(link))
    link_write(link, reply, (size_t)n);
  link_close(link, LINGER_MS);
}
