#include "tools/human.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define WEEK   (7 * DAY)
/* A longer span is a slip: a hundred years. */
#define SPAN_MAX (36525 * DAY)

void human_bytes(char out[HUMAN_SIZE], uint64_t bytes) {
  static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double value = (double)bytes / 1000;
  size_t unit = 0;
  if (bytes < 1000) {
    snprintf(out, HUMAN_SIZE, "%u B", (unsigned)bytes);
    return;
  }
  /* What would be rounded to "1000". */
  while (value >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
    value /= 1000;
    unit++;
  }
  snprintf(out, HUMAN_SIZE, value < 99.95 ? "%.1f %s" : "%.0f %s", value,
           units[unit]);
}

void human_duration(char out[HUMAN_SIZE], uint64_t ms) {
  uint64_t s = ms / 1000;
  if (ms < 1000)
    snprintf(out, HUMAN_SIZE, "%ums", (unsigned)ms);
  else if (s < 10)
    snprintf(out, HUMAN_SIZE, "%u.%us", (unsigned)s,
             (unsigned)(ms % 1000 / 100));
  else if (s < 60)
    snprintf(out, HUMAN_SIZE, "%us", (unsigned)s);
  else if (s < 3600)
    snprintf(out, HUMAN_SIZE, "%um%02us", (unsigned)(s / 60),
             (unsigned)(s % 60));
  else if (s < 86400)
    snprintf(out, HUMAN_SIZE, "%uh%02um", (unsigned)(s / 3600),
             (unsigned)(s / 60 % 60));
  else
    snprintf(out, HUMAN_SIZE, "%llud%02uh", (unsigned long long)(s / 86400),
             (unsigned)(s / 3600 % 24));
}

void human_time(char out[HUMAN_SIZE], int64_t ms) {
  time_t seconds = (time_t)(ms / 1000);
  struct tm local;
  if (ms <= 0 || localtime_r(&seconds, &local) == NULL ||
      strftime(out, HUMAN_SIZE, "%Y-%m-%d %H:%M:%S", &local) == 0)
    snprintf(out, HUMAN_SIZE, "-");
}

/* ---- reading ---- */

/* Exactly `count` digits, a number from least to most. */
static bool digits(const char **p, int count, int least, int most, int *out) {
  int number = 0;
  for (int i = 0; i < count; i++, (*p)++) {
    if (**p < '0' || **p > '9')
      return false;
    number = number * 10 + (**p - '0');
  }
  *out = number;
  return number >= least && number <= most;
}

static bool take(const char **p, const char *one_of) {
  if (**p == '\0' || strchr(one_of, **p) == NULL)
    return false;
  (*p)++;
  return true;
}

struct moment {
  struct tm tm; /* as it stands there */
  int64_t fraction_ms;
  int64_t offset_ms;
  bool has_zone;
};

static bool read_date(const char **p, struct moment *m) {
  int year = 0;
  int month = 0;
  if (!digits(p, 4, 1970, 9999, &year) || !take(p, "-") ||
      !digits(p, 2, 1, 12, &month) || !take(p, "-") ||
      !digits(p, 2, 1, 31, &m->tm.tm_mday))
    return false;
  m->tm.tm_year = year - 1900;
  m->tm.tm_mon = month - 1;
  return true;
}

static bool read_fraction(const char **p, struct moment *m) {
  int64_t unit = 100;
  if (!take(p, "."))
    return true;
  size_t len = strspn(*p, "0123456789");
  for (size_t i = 0; i < len; i++, unit /= 10)
    m->fraction_ms += ((*p)[i] - '0') * unit;
  *p += len;
  return len > 0;
}

static bool read_clock(const char **p, struct moment *m) {
  if (!digits(p, 2, 0, 23, &m->tm.tm_hour) || !take(p, ":") ||
      !digits(p, 2, 0, 59, &m->tm.tm_min))
    return false;
  if (!take(p, ":"))
    return true;
  return digits(p, 2, 0, 60, &m->tm.tm_sec) && read_fraction(p, m);
}

static bool read_zone(const char **p, struct moment *m) {
  int hours = 0;
  int minutes = 0;
  if (**p == '\0')
    return true;
  m->has_zone = true;
  if (take(p, "Zz"))
    return true;
  int sign = **p == '-' ? -1 : 1;
  if (!take(p, "+-") || !digits(p, 2, 0, 23, &hours) || !take(p, ":") ||
      !digits(p, 2, 0, 59, &minutes))
    return false;
  m->offset_ms = sign * (hours * HOUR + minutes * MINUTE);
  return true;
}

static bool read_moment(const char *text, struct moment *m, int64_t *ms) {
  const char *p = text;
  memset(m, 0, sizeof *m);
  if (!read_date(&p, m))
    return false;
  bool has_clock = take(&p, "Tt ");
  if (has_clock && (!read_clock(&p, m) || !read_zone(&p, m)))
    return false;
  if (*p != '\0')
    return false;
  struct tm tm = m->tm;
  int day = tm.tm_mday;
  int month = tm.tm_mon;
  struct tm date = {.tm_year = tm.tm_year, .tm_mon = month, .tm_mday = day};
  timegm(&date); /* makes 2 March of 30 February */
  tm.tm_isdst = -1;
  int64_t seconds = m->has_zone ? (int64_t)timegm(&tm) : (int64_t)mktime(&tm);
  *ms = seconds * SECOND + m->fraction_ms - m->offset_ms;
  return date.tm_mon == month && *ms >= 0;
}

bool human_read_time(const char *text, int64_t *ms) {
  struct moment m;
  return read_moment(text, &m, ms) && m.has_zone;
}

/* False: it is no span. */
static bool read_span(const char *text, int64_t *span_ms) {
  static const struct {
    const char *unit;
    int64_t ms;
  } units[] = {{"s", SECOND}, {"m", MINUTE}, {"min", MINUTE},
               {"h", HOUR},   {"d", DAY},    {"w", WEEK}};
  size_t len = strspn(text, "0123456789");
  if (len == 0 || len > 9)
    return false;
  int64_t count = strtoll(text, NULL, 10);
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
    if (strcmp(text + len, units[i].unit) == 0) {
      *span_ms = count * units[i].ms;
      return *span_ms <= SPAN_MAX;
    }
  }
  return false;
}

/* When a day began here, so many days ago. */
static int64_t midnight(int64_t now_ms, int days_ago) {
  time_t now = (time_t)(now_ms / 1000);
  struct tm local;
  if (localtime_r(&now, &local) == NULL)
    return 0;
  struct tm day = {.tm_year = local.tm_year,
                   .tm_mon = local.tm_mon,
                   .tm_mday = local.tm_mday - days_ago,
                   .tm_isdst = -1};
  return (int64_t)mktime(&day) * SECOND;
}

const char *human_read_since(const char *text, int64_t now_ms, int64_t *ms) {
  int64_t span_ms = 0;
  struct moment m;
  if (strcmp(text, "now") == 0) {
    *ms = now_ms;
  } else if (strcmp(text, "today") == 0) {
    *ms = midnight(now_ms, 0);
  } else if (strcmp(text, "yesterday") == 0) {
    *ms = midnight(now_ms, 1);
  } else if (read_span(text, &span_ms)) {
    *ms = now_ms > span_ms ? now_ms - span_ms : 0;
  } else if (!read_moment(text, &m, ms)) {
    return "is no time; 10m, 2h, 3d, today, yesterday and "
           "2026-01-01T00:00:00Z are";
  }
  return NULL;
}
