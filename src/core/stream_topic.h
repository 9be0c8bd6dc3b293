/* core/stream_topic.h - the MQTT topics by which a hub asks a device for a
 * stream and by which the device answers:
 *
 *   $iothub/streams/POST/<name>/?$rid=<id>&$url=<wss URL, percent-encoded>
 *       &$auth=<token>[&$caps=<list>]                       (one topic)
 *   $iothub/streams/res/<200 or 400>/?$rid=<id>[&$caps=<list>]
 *       [&$reason=<percent-encoded>]
 *
 * $caps and $reason are this project's; the official clients and services
 * ignore properties that they don't know.
 */
#ifndef CORE_STREAM_TOPIC_H
#define CORE_STREAM_TOPIC_H

#include <stddef.h>

#include <dstream/status.h>

#include "core/slice.h"

/* Filters to subscribe to.  Nothing useful comes on the second one, but the
 * official clients subscribe to both. */
#define STREAM_TOPIC_POST_FILTER "$iothub/streams/POST/#"
#define STREAM_TOPIC_RES_FILTER  "$iothub/streams/res/#"

#define STREAM_TOPIC_ACCEPT 200
#define STREAM_TOPIC_REJECT 400

/* Sizes of texts, the terminating zero included. */
#define STREAM_NAME_SIZE   257
#define STREAM_RID_SIZE    129
#define STREAM_URL_SIZE    1536
#define STREAM_TOKEN_SIZE  4097
#define STREAM_REASON_SIZE 257
/* The longest topic that is made or taken, the zero included. */
#define STREAM_TOPIC_SIZE 12288

struct stream_request {
  struct slice name_raw;       /* part of the topic that was parsed */
  struct slice caps;           /* the same; len 0: not asked */
  char name[STREAM_NAME_SIZE]; /* decoded; as it stands in the topic if that is
                                  no encoding of printable text */
  char rid[STREAM_RID_SIZE];
  char url[STREAM_URL_SIZE];     /* decoded; stream_url_parse takes it */
  char token[STREAM_TOKEN_SIZE]; /* fit for an HTTP header; secret */
};

struct stream_response {
  int code; /* 100 to 999 */
  char rid[STREAM_RID_SIZE];
  struct slice caps; /* part of the topic that was parsed; len 0: none */
  char reason[STREAM_REASON_SIZE]; /* decoded; empty: none, or unreadable */
};

/* Device: takes a request apart.  Pairs may come in any order; empty and
 * unknown ones are ignored; values may hold '=' and '/'.
 * 0, or DSTREAM_ETOPIC: error (may be NULL) says why, without the token; then
 * out->rid, if not empty, can be answered with STREAM_TOPIC_REJECT. */
int stream_topic_parse(struct stream_request *out, const char *topic,
                       size_t len, struct dstream_end *error);

/* Hub: makes a request.  name and url are not encoded yet; caps may be NULL or
 * empty.  Returns the length; DSTREAM_ELIMIT: it does not fit into out_size or
 * into the sizes above; DSTREAM_EINVAL: name, rid, url or token is empty, rid,
 * token or caps has characters that can't be in a topic as they are. */
int stream_topic_format_request(char *out, size_t out_size, const char *name,
                                const char *rid, const char *url,
                                const char *token, const char *caps);

/* Device: makes an answer.  caps and reason may be NULL or empty; a long reason
 * is cut.  Returns the length, DSTREAM_ELIMIT or DSTREAM_EINVAL as above. */
int stream_topic_format_response(char *out, size_t out_size, int code,
                                 const char *rid, const char *caps,
                                 const char *reason);

/* Hub: takes an answer apart.  0, or DSTREAM_ETOPIC (*out is zeroed). */
int stream_topic_parse_response(struct stream_response *out, const char *topic,
                                size_t len);

#endif
