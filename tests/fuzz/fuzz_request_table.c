/* core/request_table.h: topics as a device gets them, one after the other (here
 * each ends with a line feed), with the clock going on between them. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/request_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MOST 4

static uint64_t now_ms;

static void check_table(const struct request_table *table) {
  unsigned count = 0;
  unsigned waiting = 0;
  uint64_t before = 0;
  for (const struct request *r = table->first; r != NULL; r = r->next) {
    assert(r->message.name[0] != '\0' && r->message.token[0] != '\0');
    assert(r->message.rid[0] != '\0' && r->arrived_ms >= before);
    before = r->arrived_ms;
    count++;
    waiting += r->state == REQUEST_WAITING;
  }
  assert(count == table->count && count <= MOST);
  assert(waiting == table->waiting);
  assert((waiting == 0) == (request_table_deadline(table) == REQUEST_NEVER));
}

static unsigned occurrences(const char *text, size_t len, const char *what) {
  unsigned count = 0;
  size_t what_len = strlen(what);
  for (size_t i = 0; i + what_len <= len; i++)
    count += memcmp(text + i, what, what_len) == 0;
  return count;
}

/* What is logged is printable, and the token is not in it (unless the topic has
 * the same text elsewhere, or the mask's own words are the token). */
static void check_mask(const char *topic, size_t len, const char *token) {
  char line[400];
  request_topic_mask(topic, len, line, sizeof line);
  for (const char *p = line; *p != '\0'; p++)
    assert((unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f);
  char pair[8 + STREAM_TOKEN_SIZE];
  snprintf(pair, sizeof pair, "$auth=%s", token != NULL ? token : "");
  if (token != NULL && strlen(token) >= 8 && strpbrk(token, "%<>?") == NULL &&
      occurrences(topic, len, token) == 1 && occurrences(topic, len, pair) == 1)
    assert(strstr(line, token) == NULL);
}

static void take(struct request_table *table, const char *text, size_t len) {
  char *topic = malloc(len > 0 ? len : 1);
  assert(topic != NULL);
  memcpy(topic, text, len);
  struct request *request = NULL;
  struct request_refusal refusal;
  enum request_verdict verdict =
      request_table_take(table, topic, len, now_ms, &request, &refusal);
  if (verdict == REQUEST_NEW) {
    assert(request != NULL);
    assert(request_table_check(table, request, now_ms) == DSTREAM_OK);
    check_mask(topic, len, request->message.token);
  } else {
    assert(request == NULL && refusal.why.text[0] != '\0');
    assert(verdict != REQUEST_REFUSED || refusal.rid[0] != '\0');
    check_mask(topic, len, NULL);
  }
  free(topic);
  /* What was kept outlives the topic. */
  if (request != NULL && len % 3 == 0)
    request_table_remove(table, request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct request_table table;
  request_table_init(&table, MOST);
  now_ms = 1;
  while (size > 0) {
    const uint8_t *end = memchr(data, '\n', size);
    size_t len = end == NULL ? size : (size_t)(end - data);
    take(&table, (const char *)data, len);
    now_ms += len * 100;
    struct request *old = request_table_tick(&table, now_ms);
    if (old != NULL)
      request_table_remove(&table, old);
    else if (len % 16 == 15)
      request_table_orphan(&table);
    check_table(&table);
    size_t used = end == NULL ? len : len + 1;
    data += used;
    size -= used;
  }
  request_table_clear(&table);
  assert(table.count == 0 && table.waiting == 0);
  return 0;
}
