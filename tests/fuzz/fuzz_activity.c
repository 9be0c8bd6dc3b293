/* What comes into the activity log and what asks for it: texts of peers in a
 * record, lines of a file, times, and queries. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hub/activity_line.h"
#include "hub/rest_query.h"
#include "hub/time_text.h"

static void check_time(const char *text) {
  int64_t ms = 0;
  int64_t again = 0;
  char made[TIME_TEXT_SIZE];
  if (!time_text_read(text, &ms) || ms < 0)
    return;
  time_text_make(ms, made);
  assert(made[0] == '\0' || strlen(made) > 24 ||
         (time_text_read(made, &again) && again == ms));
}

static void check_query(const char *text, size_t len) {
  char out[64];
  uint64_t n = 0;
  struct slice target = {text, len};
  if (rest_query_text(target, "device", out, sizeof out))
    assert(out[0] != '\0' && strlen(out) < sizeof out);
  if (rest_query_integer(target, "limit", 1, 500, 100, &n))
    assert(n >= 1 && n <= 500);
  assert(rest_query_path(target).len <= len);
}

/* A record of any texts is a line that can be read back. */
static void check_record(const char *text) {
  char line[ACTIVITY_LINE_SIZE];
  char client[ACTIVITY_CLIENT_SIZE];
  int64_t ms = 0;
  struct activity_record record = {.event = ACTIVITY_REJECTED,
                                   .client_id = text,
                                   .stream_name = text,
                                   .stream_id = text,
                                   .caller = text,
                                   .peer = text,
                                   .description = text};
  size_t len = activity_line_make(line, 1767225600123, text, &record);
  assert(len > 0 && len == strlen(line) && strchr(line, '\n') == NULL);
  assert(activity_line_read(line, &ms, client) == DSTREAM_OK);
  assert(ms == 1767225600123);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char client[ACTIVITY_CLIENT_SIZE];
  int64_t ms = 0;
  char *text = malloc(size + 1);
  if (text == NULL)
    return 0;
  memcpy(text, data, size);
  text[size] = '\0';
  check_query(text, size);
  check_time(text);
  check_record(text);
  (void)activity_line_read(text, &ms, client);
  free(text);
  return 0;
}
