#include "hub/time_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECONDS_DIGITS 12

void time_text_make(int64_t ms, char out[TIME_TEXT_SIZE]) {
  time_t seconds = (time_t)(ms / 1000);
  struct tm utc;
  char date[24] = "";
  out[0] = '\0';
  if (ms >= 0 && gmtime_r(&seconds, &utc) != NULL &&
      strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc) > 0)
    snprintf(out, TIME_TEXT_SIZE, "%s.%03dZ", date, (int)(ms % 1000));
}

/* Exactly `count` digits; -1: they are not there. */
static int digits(const char **p, int count) {
  int number = 0;
  for (int i = 0; i < count; i++, (*p)++) {
    if (**p < '0' || **p > '9')
      return -1;
    number = number * 10 + (**p - '0');
  }
  return number;
}

static bool is(const char **p, const char *one_of) {
  if (**p == '\0' || strchr(one_of, **p) == NULL)
    return false;
  (*p)++;
  return true;
}

static bool read_seconds(const char *text, int64_t *ms) {
  size_t len = strspn(text, "0123456789");
  if (len == 0 || len > SECONDS_DIGITS || text[len] != '\0')
    return false;
  *ms = strtoll(text, NULL, 10) * 1000;
  return true;
}

/* ".123", at most its first three digits. */
static bool read_fraction(const char **p, int64_t *ms) {
  int64_t unit = 100;
  if (!is(p, "."))
    return true;
  size_t len = strspn(*p, "0123456789");
  for (size_t i = 0; i < len; i++, unit /= 10)
    *ms += ((*p)[i] - '0') * unit;
  *p += len;
  return len > 0;
}

static bool read_offset(const char **p, int64_t *ms) {
  if (is(p, "Zz"))
    return true;
  int sign = **p == '-' ? 1 : -1;
  if (!is(p, "+-"))
    return false;
  int hours = digits(p, 2);
  if (hours < 0 || !is(p, ":"))
    return false;
  int minutes = digits(p, 2);
  *ms += sign * (hours * 60 + minutes) * INT64_C(60000);
  return hours < 24 && minutes >= 0 && minutes < 60;
}

static bool read_date(const char **p, struct tm *utc) {
  memset(utc, 0, sizeof *utc);
  int year = digits(p, 4);
  if (year < 1970 || !is(p, "-"))
    return false;
  int month = digits(p, 2);
  if (month < 1 || month > 12 || !is(p, "-"))
    return false;
  int day = digits(p, 2);
  utc->tm_year = year - 1900;
  utc->tm_mon = month - 1;
  utc->tm_mday = day;
  return day >= 1 && day <= 31;
}

static bool read_clock(const char **p, struct tm *utc) {
  utc->tm_hour = digits(p, 2);
  if (!is(p, ":"))
    return false;
  utc->tm_min = digits(p, 2);
  if (!is(p, ":"))
    return false;
  utc->tm_sec = digits(p, 2);
  return utc->tm_hour >= 0 && utc->tm_hour < 24 && utc->tm_min >= 0 &&
         utc->tm_min < 60 && utc->tm_sec >= 0 && utc->tm_sec <= 60;
}

bool time_text_read(const char *text, int64_t *ms) {
  struct tm utc;
  const char *p = text;
  int64_t rest = 0;
  if (read_seconds(text, ms))
    return true;
  if (!read_date(&p, &utc) || !is(&p, "Tt ") || !read_clock(&p, &utc) ||
      !read_fraction(&p, &rest) || !read_offset(&p, &rest) || *p != '\0')
    return false;
  struct tm day = {.tm_year = utc.tm_year, .tm_mon = utc.tm_mon};
  day.tm_mday = utc.tm_mday;
  int month = utc.tm_mon;
  timegm(&day); /* makes 2 March of 30 February */
  *ms = (int64_t)timegm(&utc) * 1000 + rest;
  return day.tm_mon == month;
}

int64_t time_text_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
