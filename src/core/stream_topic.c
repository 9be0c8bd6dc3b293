#include "core/stream_topic.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/end.h"
#include "core/pairs.h"
#include "core/percent.h"
#include "core/stream_url.h"

#define POST_PREFIX "$iothub/streams/POST/"
#define RES_PREFIX  "$iothub/streams/res/"

static bool take_prefix(struct slice *text, const char *prefix) {
  size_t len = strlen(prefix);
  if (text->len < len || memcmp(text->p, prefix, len) != 0)
    return false;
  text->p += len;
  text->len -= len;
  return true;
}

static bool has_control(const char *text, size_t len) {
  for (size_t i = 0; i < len; i++)
    if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
      return true;
  return false;
}

/* Whether text can stand in a topic and in an HTTP header as it is. */
static bool plain(struct slice text, const char *forbidden) {
  for (size_t i = 0; i < text.len; i++)
    if (text.p[i] <= ' ' || text.p[i] > '~' ||
        strchr(forbidden, text.p[i]) != NULL)
      return false;
  return text.len > 0;
}

static bool copy(struct slice in, char *out, size_t out_size) {
  if (in.len >= out_size)
    return false;
  if (in.len > 0)
    memcpy(out, in.p, in.len);
  out[in.len] = '\0';
  return true;
}

/* An id goes back as it came, in a topic: no wildcards, no second pair. */
static bool copy_rid(struct slice in, char *out) {
  return plain(in, "+#&") && copy(in, out, STREAM_RID_SIZE);
}

/* ---- requests ---- */

/* value.p is NULL where a pair did not come. */
struct bag {
  struct slice rid;
  struct slice url;
  struct slice auth;
  struct slice caps;
  struct slice reason;
  const char *twice; /* the name of a pair that came twice */
};

static void collect(struct bag *bag, struct slice rest) {
  const struct {
    const char *name;
    struct slice *value;
  } members[] = {{"$rid", &bag->rid},
                 {"$url", &bag->url},
                 {"$auth", &bag->auth},
                 {"$caps", &bag->caps},
                 {"$reason", &bag->reason}};
  struct pair pair;
  while (pairs_next(&rest, '&', &pair)) {
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
      if (!slice_eq(pair.name, members[i].name))
        continue;
      if (members[i].value->p == NULL)
        *members[i].value = pair.value;
      else
        bag->twice = members[i].name;
    }
  }
}

static int fail(struct dstream_end *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int fail(struct dstream_end *error, const char *format, ...) {
  char why[96];
  va_list args;
  va_start(args, format);
  vsnprintf(why, sizeof why, format, args);
  va_end(args);
  end_set(error, DSTREAM_ETOPIC, "dropped a stream request from the hub: %s",
          why);
  return DSTREAM_ETOPIC;
}

static int read_name(struct stream_request *out, struct dstream_end *error) {
  struct slice raw = out->name_raw;
  if (raw.len == 0)
    return fail(error, "it has no stream name");
  if (has_control(raw.p, raw.len))
    return fail(error, "its stream name is not printable text");
  size_t len;
  int status = percent_decode(raw, out->name, sizeof out->name, &len);
  if (status == DSTREAM_OK && !has_control(out->name, len))
    return DSTREAM_OK;
  if (status != DSTREAM_ELIMIT && copy(raw, out->name, sizeof out->name))
    return DSTREAM_OK;
  return fail(error, "its stream name is longer than %d bytes",
              STREAM_NAME_SIZE - 1);
}

static int read_url(struct stream_request *out, struct slice value,
                    struct dstream_end *error) {
  if (value.len == 0)
    return fail(error, "it has no $url");
  struct stream_url url;
  int status = percent_decode(value, out->url, sizeof out->url, NULL);
  if (status == DSTREAM_OK)
    status = stream_url_parse(&url, out->url);
  if (status == DSTREAM_ELIMIT)
    return fail(error, "its $url is too long");
  if (status != DSTREAM_OK)
    return fail(error, "its $url is not a percent-encoded wss URL");
  return DSTREAM_OK;
}

static int read_token(struct stream_request *out, struct slice value,
                      struct dstream_end *error) {
  if (value.len == 0)
    return fail(error, "it has no $auth");
  int status = percent_decode(value, out->token, sizeof out->token, NULL);
  if (status == DSTREAM_ELIMIT)
    return fail(error, "its $auth is too long");
  if (status != DSTREAM_OK || !plain(slice_of(out->token), ""))
    return fail(error, "its $auth can't go into an HTTP header");
  return DSTREAM_OK;
}

/* Splits into name and bag.  A bag without a name is found too, so that its id
 * can be answered. */
static void split(struct stream_request *out, struct slice rest,
                  struct bag *bag) {
  const char *slash = rest.len == 0 ? NULL : memchr(rest.p, '/', rest.len);
  if (rest.len > 0 && rest.p[0] == '?')
    slash = rest.p - 1;
  if (slash == NULL) {
    out->name_raw = rest;
    return;
  }
  if (slash > rest.p)
    out->name_raw = (struct slice){rest.p, (size_t)(slash - rest.p)};
  struct slice pairs = {slash + 1, rest.len - (size_t)(slash + 1 - rest.p)};
  take_prefix(&pairs, "?");
  collect(bag, pairs);
}

static int read_request(struct stream_request *out, const struct bag *bag,
                        struct dstream_end *error) {
  bool rid = copy_rid(bag->rid, out->rid);
  int status = read_name(out, error);
  if (status == DSTREAM_OK)
    status = read_url(out, bag->url, error);
  if (status == DSTREAM_OK)
    status = read_token(out, bag->auth, error);
  if (status == DSTREAM_OK && bag->rid.len == 0)
    status = fail(error, "it has no $rid");
  if (status == DSTREAM_OK && !rid)
    status = fail(error, "its $rid can't be answered");
  if (status == DSTREAM_OK && bag->twice != NULL)
    status = fail(error, "it has %s twice", bag->twice);
  out->caps = bag->caps.p == NULL ? SLICE_LITERAL("") : bag->caps;
  return status;
}

int stream_topic_parse(struct stream_request *out, const char *topic,
                       size_t len, struct dstream_end *error) {
  memset(out, 0, sizeof *out);
  struct slice rest = {topic, len};
  if (!take_prefix(&rest, POST_PREFIX))
    return fail(error, "its topic does not begin with " POST_PREFIX);
  if (len >= STREAM_TOPIC_SIZE)
    return fail(error, "its topic is longer than %d bytes",
                STREAM_TOPIC_SIZE - 1);
  struct bag bag = {0};
  split(out, rest, &bag);
  return read_request(out, &bag, error);
}

/* Appends to a topic; a failure stays. */
struct text {
  char *p;
  size_t size;
  size_t len;
  int status;
};

static struct text text_start(char *out, size_t out_size) {
  struct text text = {.p = out, .size = out_size};
  if (out_size == 0)
    text.status = DSTREAM_ELIMIT;
  if (text.size > STREAM_TOPIC_SIZE)
    text.size = STREAM_TOPIC_SIZE;
  return text;
}

static void put(struct text *out, const char *name, const char *value) {
  if (out->status != DSTREAM_OK)
    return;
  size_t room = out->size - out->len;
  int n = snprintf(out->p + out->len, room, "%s%s", name, value);
  if (n < 0 || (size_t)n >= room)
    out->status = DSTREAM_ELIMIT;
  else
    out->len += (size_t)n;
}

static void put_encoded(struct text *out, const char *name,
                        struct slice value) {
  put(out, name, "");
  if (out->status != DSTREAM_OK)
    return;
  int n = percent_encode(value, out->p + out->len, out->size - out->len);
  if (n < 0)
    out->status = n;
  else
    out->len += (size_t)n;
}

static void put_caps(struct text *out, const char *caps) {
  if (caps == NULL || caps[0] == '\0')
    return;
  if (plain(slice_of(caps), "+#&/?%"))
    put(out, "&$caps=", caps);
  else if (out->status == DSTREAM_OK)
    out->status = DSTREAM_EINVAL;
}

static int finish(struct text *out) {
  if (out->status == DSTREAM_OK)
    return (int)out->len;
  if (out->size > 0)
    out->p[0] = '\0';
  return out->status;
}

static int check_request(const char *name, const char *rid, const char *url,
                         const char *token) {
  /* The official C client refuses a '/' and takes '&' for a new pair. */
  if (name[0] == '\0' || url[0] == '\0' || !plain(slice_of(rid), "+#&/%") ||
      !plain(slice_of(token), "+#&/%"))
    return DSTREAM_EINVAL;
  if (strlen(name) >= STREAM_NAME_SIZE || strlen(rid) >= STREAM_RID_SIZE ||
      strlen(url) >= STREAM_URL_SIZE || strlen(token) >= STREAM_TOKEN_SIZE)
    return DSTREAM_ELIMIT;
  return DSTREAM_OK;
}

int stream_topic_format_request(char *out, size_t out_size, const char *name,
                                const char *rid, const char *url,
                                const char *token, const char *caps) {
  struct text text = text_start(out, out_size);
  if (text.status == DSTREAM_OK)
    text.status = check_request(name, rid, url, token);
  put_encoded(&text, POST_PREFIX, slice_of(name));
  put(&text, "/?$rid=", rid);
  put_encoded(&text, "&$url=", slice_of(url));
  put(&text, "&$auth=", token);
  put_caps(&text, caps);
  return finish(&text);
}

/* ---- responses ---- */

/* As much of reason as fits, no UTF-8 character cut in two. */
static struct slice cut_reason(const char *reason) {
  size_t len = strlen(reason);
  if (len >= STREAM_REASON_SIZE) {
    len = STREAM_REASON_SIZE - 1;
    while (len > 0 && ((unsigned char)reason[len] & 0xc0) == 0x80)
      len--;
  }
  return (struct slice){reason, len};
}

int stream_topic_format_response(char *out, size_t out_size, int code,
                                 const char *rid, const char *caps,
                                 const char *reason) {
  struct text text = text_start(out, out_size);
  if (text.status == DSTREAM_OK &&
      (code < 100 || code > 999 || !plain(slice_of(rid), "+#&")))
    text.status = DSTREAM_EINVAL;
  if (text.status == DSTREAM_OK && strlen(rid) >= STREAM_RID_SIZE)
    text.status = DSTREAM_ELIMIT;
  char number[16];
  snprintf(number, sizeof number, "%d", code);
  put(&text, RES_PREFIX, number);
  put(&text, "/?$rid=", rid);
  put_caps(&text, caps);
  if (reason != NULL && reason[0] != '\0')
    put_encoded(&text, "&$reason=", cut_reason(reason));
  return finish(&text);
}

/* Three digits and '/'. */
static bool take_code(struct slice *text, int *code) {
  if (text->len < 4 || text->p[3] != '/' || text->p[0] == '0')
    return false;
  *code = 0;
  for (int i = 0; i < 3; i++) {
    if (text->p[i] < '0' || text->p[i] > '9')
      return false;
    *code = *code * 10 + (text->p[i] - '0');
  }
  text->p += 4;
  text->len -= 4;
  return true;
}

static bool read_response(struct stream_response *out, const struct bag *bag) {
  if (bag->twice != NULL || !copy_rid(bag->rid, out->rid))
    return false;
  out->caps = bag->caps.p == NULL ? SLICE_LITERAL("") : bag->caps;
  if (bag->reason.len == 0)
    return true;
  size_t len;
  /* A reason is for people: an unreadable one does not spoil the answer. */
  if (percent_decode(bag->reason, out->reason, sizeof out->reason, &len) != 0 ||
      has_control(out->reason, len))
    out->reason[0] = '\0';
  return true;
}

int stream_topic_parse_response(struct stream_response *out, const char *topic,
                                size_t len) {
  memset(out, 0, sizeof *out);
  struct slice rest = {topic, len};
  struct bag bag = {0};
  bool good = len < STREAM_TOPIC_SIZE && take_prefix(&rest, RES_PREFIX) &&
              take_code(&rest, &out->code);
  if (good) {
    take_prefix(&rest, "?");
    collect(&bag, rest);
    good = read_response(out, &bag);
  }
  if (good)
    return DSTREAM_OK;
  memset(out, 0, sizeof *out);
  return DSTREAM_ETOPIC;
}
