/* Request and response topics: what parses can be answered, and a request made
 * of it parses to the same. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "core/caps.h"
#include "core/stream_topic.h"
#include "core/stream_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char topic[STREAM_TOPIC_SIZE];

static void check_response(const char *rid, const char *reason) {
  struct stream_response response;
  int n = stream_topic_format_response(topic, sizeof topic, STREAM_TOPIC_REJECT,
                                       rid, NULL, reason);
  assert(n > 0);
  assert(stream_topic_parse_response(&response, topic, (size_t)n) ==
         DSTREAM_OK);
  assert(response.code == STREAM_TOPIC_REJECT);
  assert(strcmp(response.rid, rid) == 0);
  assert(strcmp(response.reason, reason) == 0);
}

static void check_request(const struct stream_request *request) {
  static struct stream_request again;
  struct stream_url url;
  assert(request->name[0] != '\0' && request->token[0] != '\0');
  assert(stream_url_parse(&url, request->url) == DSTREAM_OK);
  char caps[CAPS_SIZE];
  if (caps_intersect(request->caps, request->caps, caps, sizeof caps) < 0)
    caps[0] = '\0';
  int n = stream_topic_format_request(topic, sizeof topic, request->name,
                                      request->rid, request->url,
                                      request->token, caps);
  if (n < 0)
    return;
  assert(stream_topic_parse(&again, topic, (size_t)n, NULL) == DSTREAM_OK);
  assert(strcmp(again.name, request->name) == 0);
  assert(strcmp(again.rid, request->rid) == 0);
  assert(strcmp(again.url, request->url) == 0);
  assert(strcmp(again.token, request->token) == 0);
  assert(slice_eq(again.caps, caps));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct stream_request request;
  struct stream_response response;
  struct dstream_end error;
  if (stream_topic_parse(&request, (const char *)data, size, &error) ==
      DSTREAM_OK) {
    assert(request.rid[0] != '\0');
    check_request(&request);
  } else {
    assert(error.status == DSTREAM_ETOPIC && error.text[0] != '\0');
  }
  if (request.rid[0] != '\0')
    check_response(request.rid, "why");
  if (stream_topic_parse_response(&response, (const char *)data, size) ==
      DSTREAM_OK)
    check_response(response.rid, response.reason);
  return 0;
}
