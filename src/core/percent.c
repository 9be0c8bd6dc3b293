#include "core/percent.h"

#include <stdbool.h>
#include <stdint.h>

#include <dstream/status.h>

static bool unreserved(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
}

int percent_encode(struct slice in, char *out, size_t out_size) {
  static const char hex[] = "0123456789ABCDEF";
  size_t n = 0;
  for (size_t i = 0; i < in.len; i++) {
    size_t need = unreserved(in.p[i]) ? 1 : 3;
    if (out_size < need + 1 || n > out_size - need - 1) {
      if (out_size > 0)
        out[0] = '\0';
      return DSTREAM_ELIMIT;
    }
    if (need == 1) {
      out[n++] = in.p[i];
    } else {
      out[n++] = '%';
      out[n++] = hex[(unsigned char)in.p[i] >> 4];
      out[n++] = hex[(unsigned char)in.p[i] & 15];
    }
  }
  if (out_size == 0)
    return DSTREAM_ELIMIT;
  out[n] = '\0';
  return n <= INT32_MAX ? (int)n : DSTREAM_ELIMIT;
}

static int hex_value(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  return -1;
}

/* The character at *i, which moves past it; negative: a bad escape. */
static int next_char(struct slice in, size_t *i) {
  if (in.p[*i] != '%')
    return (unsigned char)in.p[(*i)++];
  if (in.len - *i < 3)
    return -1;
  int high = hex_value(in.p[*i + 1]);
  int low = hex_value(in.p[*i + 2]);
  *i += 3;
  return high < 0 || low < 0 ? -1 : high << 4 | low;
}

int percent_decode(struct slice in, char *out, size_t out_size,
                   size_t *out_len) {
  if (out_len != NULL)
    *out_len = 0;
  if (out_size == 0)
    return DSTREAM_ELIMIT;
  int status = DSTREAM_OK;
  size_t n = 0;
  for (size_t i = 0; i < in.len && status == DSTREAM_OK;) {
    int c = next_char(in, &i);
    if (c <= 0)
      status = DSTREAM_EFORMAT;
    else if (n + 1 >= out_size)
      status = DSTREAM_ELIMIT;
    else
      out[n++] = (char)c;
  }
  if (status != DSTREAM_OK)
    n = 0;
  out[n] = '\0';
  if (out_len != NULL)
    *out_len = n;
  return status;
}
