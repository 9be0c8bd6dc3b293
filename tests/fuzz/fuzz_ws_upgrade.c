/* First byte: what the rest is - the texts of a client's request, separated by
 * zeros (host, path, token), a request that came, or a response that came. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/ws_upgrade.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/* Whatever the texts are: what is written is one request of these headers. */
static void check_written(const struct ws_upgrade_request *request,
                          const char *out, size_t len) {
  struct http_head head;
  struct slice key;
  int http_status;
  assert(http_head_parse_request(&head, out, len) == 0);
  assert(head.length == len && head.count == (request->token ? 6 : 5));
  assert(slice_eq(head.target, request->path));
  assert(slice_eq(http_head_get(&head, "Host"), request->host));
  assert(ws_upgrade_check_request(&head, &key, &http_status) == 0);
  assert(slice_eq(key, KEY));
  struct slice authorization = http_head_get(&head, "Authorization");
  if (request->token != NULL)
    assert(memcmp(authorization.p, "Bearer ", 7) == 0 &&
           authorization.len == 7 + strlen(request->token) &&
           memcmp(authorization.p + 7, request->token,
                  strlen(request->token)) == 0);
}

static void write_request(const uint8_t *data, size_t size) {
  static char out[HTTP_HEAD_MAX];
  char *texts = malloc(size + 1);
  assert(texts != NULL);
  memcpy(texts, data, size);
  texts[size] = '\0';
  const char *text[3] = {texts, NULL, NULL};
  for (int i = 1; i < 3 && text[i - 1] != NULL; i++) {
    const char *end = text[i - 1] + strlen(text[i - 1]);
    text[i] = end < texts + size ? end + 1 : NULL;
  }
  struct ws_upgrade_request request = {
      .host = text[0], .path = text[1], .token = text[2], .key = KEY};
  size_t len;
  if (ws_upgrade_request_write(&request, out, sizeof out, &len) == 0)
    check_written(&request, out, len);
  free(texts);
}

static void answer_request(const struct http_head *head) {
  struct slice key;
  int http_status = 0;
  if (ws_upgrade_check_request(head, &key, &http_status) != 0) {
    assert(http_status == 400 || http_status == 405 || http_status == 426);
    return;
  }
  static char out[HTTP_HEAD_MAX + 512];
  char accept[WS_ACCEPT_SIZE];
  size_t len;
  struct slice subprotocol = ws_upgrade_find_subprotocol(head, "mqtt");
  assert(ws_upgrade_accept_value(key, accept) == 0);
  assert(ws_upgrade_response_write(accept, subprotocol, out, sizeof out,
                                   &len) == 0);
  struct http_head response;
  struct dstream_end end;
  assert(http_head_parse_response(&response, out, len) == 0);
  assert(response.length == len);
  int rc = ws_upgrade_check_response(&response, accept, &end);
  assert(rc == (subprotocol.p == NULL ? 0 : DSTREAM_EUPGRADE));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  struct http_head head;
  struct dstream_end end;
  const char *text = (const char *)data + 1;
  switch (data[0] % 3) {
  case 0:
    write_request(data + 1, size - 1);
    break;
  case 1:
    if (http_head_parse_request(&head, text, size - 1) == 0)
      answer_request(&head);
    break;
  default:
    if (http_head_parse_response(&head, text, size - 1) == 0 &&
        ws_upgrade_check_response(&head, ACCEPT, &end) != 0)
      assert(end.status != 0 && end.http_status == head.status);
  }
  return 0;
}
