#include "hub/page.h"

#include <stdio.h>
#include <string.h>

#include "hub/page_files.h"
#include "hub/rest.h"
#include "hub/rest_query.h"
#include "hub/rest_reply.h"

/* The page's forms are the script's: without it, the browser must not send a
 * key anywhere (form-action).  Trusted types: text never becomes markup. */
#define POLICY                                                                 \
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "  \
  "connect-src 'self'; base-uri 'none'; form-action 'none'; "                  \
  "frame-ancestors 'none'; require-trusted-types-for 'script'; "               \
  "trusted-types 'none'"

#define HEADERS                                                                \
  "Content-Security-Policy: " POLICY "\r\n"                                    \
  "X-Content-Type-Options: nosniff\r\n"                                        \
  "X-Frame-Options: DENY\r\n"                                                  \
  "Referrer-Policy: no-referrer\r\n"                                           \
  "Cross-Origin-Opener-Policy: same-origin\r\n"                                \
  "Cross-Origin-Resource-Policy: same-origin\r\n"                              \
  "Permissions-Policy: camera=(), geolocation=(), microphone=()\r\n"           \
  "Cache-Control: no-cache\r\n"

static const struct {
  const char *path;
  const char *name;
  const char *type;
} routes[] = {
    {"/", "index.html", "text/html; charset=utf-8"},
    {"/page/page.css", "page.css", "text/css; charset=utf-8"},
    {"/page/page.js", "page.js", "text/javascript; charset=utf-8"},
    {"/page/icon.svg", "icon.svg", "image/svg+xml"},
};
#define ROUTE_COUNT (sizeof routes / sizeof routes[0])

/* ROUTE_COUNT: none. */
static size_t route_of(struct slice target) {
  struct slice path = rest_query_path(target);
  size_t i = 0;
  while (i < ROUTE_COUNT && !slice_eq(path, routes[i].path))
    i++;
  return i;
}

static const struct page_file *file_of(const char *name) {
  const struct page_file *file = page_files;
  while (strcmp(file->name, name) != 0)
    file++;
  return file;
}

unsigned page_rights(const struct http_head *head) {
  return route_of(head->target) < ROUTE_COUNT ? REST_ANYBODY : 0;
}

static void refuse_method(struct http_exchange *exchange) {
  char id[HUB_ERROR_TRACKING_SIZE];
  rest_tracking_make(id);
  rest_reply_error(exchange, HUB_ERROR_METHOD, "Use GET here.", -1, id,
                   "Allow: GET, HEAD\r\n");
}

void page_handle(void *user, struct http_exchange *exchange,
                 const struct http_head *head, const char *caller) {
  char headers[sizeof HEADERS + 100];
  size_t route = route_of(head->target);
  const struct page_file *file = file_of(routes[route].name);
  (void)user;
  (void)caller;
  if (!slice_eq(head->method, "GET") && !slice_eq(head->method, "HEAD")) {
    refuse_method(exchange);
    return;
  }
  snprintf(headers, sizeof headers, "%sETag: %s\r\n", HEADERS, file->etag);
  struct http_answer answer = {.status = 200,
                               .headers = headers,
                               .type = routes[route].type,
                               .body = (const char *)file->data,
                               .body_len = file->len};
  if (slice_eq(http_head_get(head, "If-None-Match"), file->etag))
    answer = (struct http_answer){.status = 304, .headers = headers};
  http_exchange_reply(exchange, &answer);
}
