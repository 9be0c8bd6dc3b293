#include "hub/rest_path.h"

#include <string.h>

#include "core/conn_string.h"
#include "core/pairs.h"
#include "core/percent.h"

#define SEGMENTS_MAX 7

/* The segments between the slashes of an absolute path; 0: too many, or it
 * does not begin with a slash. */
static size_t split(struct slice path, struct slice *segments) {
  if (path.len == 0 || path.p[0] != '/')
    return 0;
  size_t count = 0;
  const char *end = path.p + path.len;
  const char *from = path.p + 1;
  for (;;) {
    const char *slash = memchr(from, '/', (size_t)(end - from));
    const char *to = slash != NULL ? slash : end;
    if (count == SEGMENTS_MAX)
      return 0;
    segments[count++] = (struct slice){from, (size_t)(to - from)};
    if (slash == NULL)
      return count;
    from = slash + 1;
  }
}

static bool decode_id(struct slice segment, char *out, size_t size) {
  size_t len = 0;
  return percent_decode(segment, out, size, &len) == DSTREAM_OK &&
         conn_string_id_valid((struct slice){out, len});
}

static bool decode_name(struct slice segment, char *out, size_t size) {
  return percent_decode(segment, out, size, NULL) == DSTREAM_OK &&
         handshake_name_valid(out);
}

static struct slice without_query(struct slice target) {
  const char *mark = memchr(target.p, '?', target.len);
  if (mark != NULL)
    target.len = (size_t)(mark - target.p);
  return target;
}

/* The official clients list with an empty id: "/devices/". */
static void parse_registry(struct rest_path *out, const struct slice *s,
                           size_t count) {
  if (count >= 1 && slice_eq_nocase(s[0], "devices")) {
    if (count == 1 || s[1].len == 0)
      out->route = REST_DEVICES;
    else if (decode_id(s[1], out->device, sizeof out->device))
      out->route = REST_DEVICE;
    else
      out->route = REST_BAD_DEVICE;
  } else if (count == 2 && slice_eq_nocase(s[0], "statistics") &&
             slice_eq_nocase(s[1], "devices")) {
    out->route = REST_STATISTICS;
  }
}

void rest_path_parse(struct rest_path *out, struct slice target) {
  struct slice s[SEGMENTS_MAX];
  memset(out, 0, sizeof *out);
  struct slice path = without_query(target);
  size_t count = split(path, s);
  out->route = REST_UNKNOWN;
  if (count == 1 && slice_eq(s[0], "healthz"))
    out->route = REST_HEALTH;
  if (count <= 2)
    parse_registry(out, s, count);
  bool module = count == 6 && slice_eq_nocase(s[2], "modules");
  if (count != 4 && !module)
    return;
  if (!slice_eq_nocase(s[0], "twins") ||
      !slice_eq_nocase(s[count - 2], "streams"))
    return;
  bool ok = decode_id(s[1], out->device, sizeof out->device) &&
            decode_name(s[count - 1], out->name, sizeof out->name);
  if (ok && module)
    ok = decode_id(s[3], out->module, sizeof out->module);
  out->route = ok ? REST_STREAM : REST_BAD;
}

int rest_seconds(struct slice value) {
  int seconds = 0;
  bool fraction = false; /* more than nothing after the point */
  size_t i = 0;
  for (; i < value.len && value.p[i] >= '0' && value.p[i] <= '9'; i++) {
    seconds = seconds * 10 + (value.p[i] - '0');
    if (seconds > 86400)
      return -1;
  }
  if (i == 0)
    return -1;
  if (i < value.len && value.p[i] == '.') {
    size_t point = i++;
    for (; i < value.len && value.p[i] >= '0' && value.p[i] <= '9'; i++)
      fraction = fraction || value.p[i] != '0';
    if (i == point + 1)
      return -1;
  }
  return i == value.len ? seconds + fraction : -1;
}

static int number(struct slice value, int most) {
  int n = 0;
  for (size_t i = 0; i < value.len; i++) {
    if (value.p[i] < '0' || value.p[i] > '9')
      return -1;
    n = n * 10 + (value.p[i] - '0');
    if (n > most)
      return -1;
  }
  return n > 0 ? n : -1;
}

int rest_query_number(struct slice target, const char *name, int fallback,
                      int most) {
  const char *mark = memchr(target.p, '?', target.len);
  if (mark == NULL)
    return fallback;
  struct slice rest = {mark + 1, (size_t)(target.p + target.len - mark - 1)};
  struct pair pair;
  while (pairs_next(&rest, '&', &pair)) {
    if (slice_eq(pair.name, name))
      return number(pair.value, most);
  }
  return fallback;
}
