#include "hub/broker_wire.h"

#include <stdio.h>
#include <string.h>

size_t broker_wire_pair(const char *id, struct slice topic, char *out,
                        size_t size) {
  size_t id_len = strlen(id);
  if (id_len >= size || topic.len >= size - id_len)
    return 0;
  memcpy(out, id, id_len);
  out[id_len] = '\n';
  memcpy(out + id_len + 1, topic.p, topic.len);
  return id_len + 1 + topic.len;
}

/* Cuts *rest at its first line feed. */
static bool take_line(struct slice *rest, struct slice *line) {
  const char *end = rest->len > 0 ? memchr(rest->p, '\n', rest->len) : NULL;
  if (end == NULL)
    return false;
  *line = (struct slice){rest->p, (size_t)(end - rest->p)};
  rest->len -= line->len + 1;
  rest->p = end + 1;
  return true;
}

bool broker_wire_split(struct slice payload, struct slice *id,
                       struct slice *topic) {
  *topic = payload;
  return take_line(topic, id) && id->len > 0 && topic->len > 0;
}

void broker_presence_begin(struct broker_presence_out *out, uint64_t number,
                           enum broker_presence_kind kind) {
  int len = snprintf(out->text, sizeof out->text, "%llu %c\n",
                     (unsigned long long)number, (char)kind);
  out->len = (size_t)len;
}

bool broker_presence_add(struct broker_presence_out *out,
                         enum broker_presence state, const char *id) {
  size_t id_len = strlen(id);
  if (id_len + 2 > sizeof out->text - out->len)
    return false;
  out->text[out->len] = (char)state;
  memcpy(out->text + out->len + 1, id, id_len);
  out->text[out->len + 1 + id_len] = '\n';
  out->len += id_len + 2;
  return true;
}

void broker_presence_still(struct broker_presence_out *out, uint64_t number,
                           uint64_t due_s) {
  int len = snprintf(out->text, sizeof out->text, "%llu %c\n%llu\n",
                     (unsigned long long)number, (char)BROKER_STILL,
                     (unsigned long long)due_s);
  out->len = (size_t)len;
}

/* 1 to 20 digits; one too large for the type becomes another. */
static bool read_number(struct slice digits, uint64_t *number) {
  *number = 0;
  for (size_t i = 0; i < digits.len; i++) {
    if (digits.p[i] < '0' || digits.p[i] > '9')
      return false;
    *number = *number * 10 + (uint64_t)(digits.p[i] - '0');
  }
  return digits.len > 0 && digits.len <= 20;
}

bool broker_presence_due(struct slice rest, uint64_t *due_s) {
  struct slice line;
  return take_line(&rest, &line) && rest.len == 0 && read_number(line, due_s);
}

bool broker_presence_head(struct slice payload, uint64_t *number,
                          enum broker_presence_kind *kind, struct slice *rest) {
  struct slice line;
  *rest = payload;
  if (!take_line(rest, &line) || line.len < 3 || line.len > 22)
    return false;
  size_t digits = line.len - 2;
  if (!read_number((struct slice){line.p, digits}, number))
    return false;
  char c = line.p[line.len - 1];
  *kind = (enum broker_presence_kind)c;
  return line.p[digits] == ' ' && (c == BROKER_CHANGE || c == BROKER_BEGIN ||
                                   c == BROKER_END || c == BROKER_STILL);
}

bool broker_presence_next(struct slice *rest, enum broker_presence *state,
                          struct slice *id) {
  struct slice line;
  if (!take_line(rest, &line) || line.len < 2)
    return false;
  *state = (enum broker_presence)line.p[0];
  *id = (struct slice){line.p + 1, line.len - 1};
  return *state == BROKER_GONE || *state == BROKER_CONNECTED ||
         *state == BROKER_READY;
}

bool broker_topic_valid(struct slice topic, size_t max) {
  if (topic.len == 0 || topic.len > max)
    return false;
  for (size_t i = 0; i < topic.len; i++) {
    unsigned char c = (unsigned char)topic.p[i];
    if (c < 0x20 || c == 0x7f || c == '+' || c == '#')
      return false;
  }
  return true;
}
