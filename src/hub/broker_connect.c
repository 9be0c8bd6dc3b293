#include "hub/broker_connect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/conn_string.h"
#include "core/crypto.h"

#define FLAG_WILL     0x04
#define FLAG_PASSWORD 0x40
#define FLAG_USER     0x80
#define MAC_DIGITS    (2 * CRYPTO_SHA256_LEN)

/* ---- the packet ---- */

struct cursor {
  const uint8_t *p;
  size_t at;
  size_t end;
  bool failed;
};

static unsigned take_byte(struct cursor *cursor) {
  if (cursor->at == cursor->end) {
    cursor->failed = true;
    return 0;
  }
  return cursor->p[cursor->at++];
}

static unsigned take_u16(struct cursor *cursor) {
  unsigned high = take_byte(cursor);
  return high << 8 | take_byte(cursor);
}

/* Variable byte integer: 7 bits a byte, four bytes at most. */
static size_t take_varint(struct cursor *cursor) {
  size_t value = 0;
  for (unsigned i = 0; i < 4; i++) {
    unsigned byte = take_byte(cursor);
    value |= (size_t)(byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0)
      return value;
  }
  cursor->failed = true;
  return 0;
}

static struct slice take_bytes(struct cursor *cursor, size_t len) {
  struct slice bytes = {(const char *)cursor->p + cursor->at, len};
  if (len > cursor->end - cursor->at) {
    cursor->failed = true;
    bytes.len = 0;
  }
  cursor->at += bytes.len;
  return bytes;
}

static struct slice take_text(struct cursor *cursor) {
  return take_bytes(cursor, take_u16(cursor));
}

static void take_properties(struct cursor *cursor, unsigned level) {
  if (level == 5)
    take_bytes(cursor, take_varint(cursor));
}

/* Where the body begins and ends; EAGAIN while that is not known. */
static int parse_head(struct broker_connect *out, const uint8_t *data,
                      size_t len) {
  if (len > 0 && data[0] != 0x10)
    return DSTREAM_EFORMAT;
  struct cursor cursor = {data, 1, len, false};
  if (len < 2)
    return DSTREAM_EAGAIN;
  size_t remaining = take_varint(&cursor);
  if (cursor.failed)
    return len >= 5 ? DSTREAM_EFORMAT : DSTREAM_EAGAIN;
  out->body = cursor.at;
  out->length = cursor.at + remaining;
  if (out->length > BROKER_CONNECT_MAX)
    return DSTREAM_ELIMIT;
  return out->length <= len ? DSTREAM_OK : DSTREAM_EAGAIN;
}

int broker_connect_parse(struct broker_connect *out, const void *data,
                         size_t len) {
  memset(out, 0, sizeof *out);
  int status = parse_head(out, data, len);
  if (status != DSTREAM_OK)
    return status;
  struct cursor cursor = {data, out->body, out->length, false};
  struct slice protocol = take_text(&cursor);
  unsigned level = take_byte(&cursor);
  bool known = level == 3
                   ? slice_eq(protocol, "MQIsdp")
                   : (level == 4 || level == 5) && slice_eq(protocol, "MQTT");
  out->flags = cursor.at;
  unsigned flags = take_byte(&cursor);
  take_u16(&cursor); /* keep alive */
  take_properties(&cursor, level);
  out->client_id = take_text(&cursor);
  if (flags & FLAG_WILL) {
    take_properties(&cursor, level);
    take_text(&cursor);
    take_text(&cursor);
  }
  out->has_user = (flags & FLAG_USER) != 0;
  out->has_password = (flags & FLAG_PASSWORD) != 0;
  if (out->has_user)
    take_text(&cursor);
  if (out->has_password)
    take_text(&cursor);
  return known && !cursor.failed && cursor.at == cursor.end ? DSTREAM_OK
                                                            : DSTREAM_EFORMAT;
}

static size_t put_varint(uint8_t *out, size_t value) {
  size_t len = 0;
  do {
    out[len] = (uint8_t)(value & 0x7f);
    value >>= 7;
    if (value > 0)
      out[len] |= 0x80;
    len++;
  } while (value > 0);
  return len;
}

int broker_connect_with_password(const struct broker_connect *connect,
                                 const void *data, const char *password,
                                 uint8_t *out, size_t size) {
  const uint8_t *from = data;
  size_t password_len = strlen(password);
  size_t body_len = connect->length - connect->body;
  if (connect->has_password || password_len > UINT16_MAX ||
      size < connect->length + BROKER_CONNECT_MORE(password_len))
    return DSTREAM_ELIMIT;
  out[0] = from[0];
  size_t at = 1 + put_varint(out + 1, body_len + 2 + password_len);
  memcpy(out + at, from + connect->body, body_len);
  out[at + connect->flags - connect->body] |= FLAG_PASSWORD;
  at += body_len;
  out[at++] = (uint8_t)(password_len >> 8);
  out[at++] = (uint8_t)password_len;
  memcpy(out + at, password, password_len);
  return (int)(at + password_len);
}

/* ---- the voucher: PREFIX mac SP claims ---- */

static void put_hex(char *out, const uint8_t *bytes, size_t len) {
  for (size_t i = 0; i < len; i++)
    snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static bool get_hex(uint8_t *out, size_t len, const char *text) {
  for (size_t i = 0; i < len; i++) {
    unsigned byte = 0;
    if (sscanf(text + 2 * i, "%2x", &byte) != 1)
      return false;
    out[i] = (uint8_t)byte;
  }
  return true;
}

static int make_mac(char out[MAC_DIGITS + 1], const char *secret,
                    struct slice client_id, const char *claims) {
  char text[IDENTITY_CLIENT_MAX + 1 + BROKER_VOUCHER_SIZE];
  uint8_t mac[CRYPTO_SHA256_LEN];
  if (client_id.len > IDENTITY_CLIENT_MAX)
    return DSTREAM_EINTERNAL;
  int len = snprintf(text, sizeof text, "%.*s\n%s", (int)client_id.len,
                     client_id.p, claims);
  if (len <= 0 || (size_t)len >= sizeof text)
    return DSTREAM_EINTERNAL;
  int status =
      crypto_hmac_sha256(secret, strlen(secret), text, (size_t)len, mac);
  put_hex(out, mac, sizeof mac);
  return status;
}

int broker_voucher_make(char out[BROKER_VOUCHER_SIZE], const char *secret,
                        struct slice client_id, uint64_t now_ms,
                        const struct identity_certificate *certificate) {
  const struct identity_thumbprints *thumbprints = &certificate->thumbprints;
  char sha1[2 * IDENTITY_SHA1_LEN + 1];
  char sha256[2 * IDENTITY_SHA256_LEN + 1];
  char claims[BROKER_VOUCHER_SIZE];
  char mac[MAC_DIGITS + 1];
  put_hex(sha1, thumbprints->sha1, sizeof thumbprints->sha1);
  put_hex(sha256, thumbprints->sha256, sizeof thumbprints->sha256);
  /* A name that can be no id may as well be none. */
  bool named = conn_string_id_valid(slice_of(certificate->name));
  snprintf(
      claims, sizeof claims, "%" PRIu64 " %d %" PRId64 " %" PRId64 " %s %s %s",
      now_ms, certificate->trusted, certificate->not_before_s,
      certificate->not_after_s, sha1, sha256, named ? certificate->name : "");
  int status = make_mac(mac, secret, client_id, claims);
  int len = snprintf(out, BROKER_VOUCHER_SIZE, BROKER_VOUCHER_PREFIX "%s %s",
                     mac, claims);
  if (status == DSTREAM_OK && (len < 0 || len >= BROKER_VOUCHER_SIZE))
    status = DSTREAM_EINTERNAL;
  return status;
}

static bool read_claims(struct identity_certificate *out, const char *claims,
                        uint64_t *made_ms) {
  char sha1[2 * IDENTITY_SHA1_LEN + 1];
  char sha256[2 * IDENTITY_SHA256_LEN + 1];
  int trusted = 0;
  memset(out, 0, sizeof *out);
  _Static_assert(IDENTITY_ID_MAX == 128, "in the format");
  int fields = sscanf(claims,
                      "%" SCNu64 " %d %" SCNd64 " %" SCNd64
                      " %40[0-9a-f] %64[0-9a-f] %128s",
                      made_ms, &trusted, &out->not_before_s, &out->not_after_s,
                      sha1, sha256, out->name);
  out->trusted = trusted == 1;
  return fields >= 6 && strlen(sha1) == sizeof sha1 - 1 &&
         strlen(sha256) == sizeof sha256 - 1 &&
         get_hex(out->thumbprints.sha1, IDENTITY_SHA1_LEN, sha1) &&
         get_hex(out->thumbprints.sha256, IDENTITY_SHA256_LEN, sha256);
}

int broker_voucher_read(struct identity_certificate *out, const char *voucher,
                        const char *secret, struct slice client_id,
                        uint64_t now_ms) {
  static const char prefix[] = BROKER_VOUCHER_PREFIX;
  const char *text = voucher + sizeof prefix - 1;
  char mac[MAC_DIGITS + 1];
  uint64_t made_ms = 0;
  if (strncmp(voucher, prefix, sizeof prefix - 1) != 0 ||
      strlen(voucher) >= BROKER_VOUCHER_SIZE || strlen(text) <= MAC_DIGITS ||
      text[MAC_DIGITS] != ' ' ||
      make_mac(mac, secret, client_id, text + MAC_DIGITS + 1) != DSTREAM_OK ||
      !crypto_equal(text, MAC_DIGITS, mac, MAC_DIGITS) ||
      !read_claims(out, text + MAC_DIGITS + 1, &made_ms) || now_ms < made_ms ||
      now_ms - made_ms > BROKER_VOUCHER_MS)
    return DSTREAM_EUNAUTHORIZED;
  return DSTREAM_OK;
}
