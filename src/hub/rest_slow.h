/* hub/rest_slow.h - refusals that take their time once there are many.
 *
 * Who sends wrong tokens without end gets one answer a second on each
 * connection then, so that what a guess, a look into the database and a record
 * cost is bounded.  Nobody else notices: right tokens are not counted and never
 * wait, wherever they come from.  Loop's thread.
 */
#ifndef HUB_REST_SLOW_H
#define HUB_REST_SLOW_H

#include "core/bucket.h"
#include "hub/hub_error.h"
#include "hub/http_server.h"
#include "net/loop.h"

/* Zero is the default of each member. */
struct rest_slow_options {
  uint32_t per_second; /* refusals at once, over a longer time; default 20 */
  uint32_t burst;      /* and in one go; default 100 */
  uint64_t delay_ms;   /* of the others; default 1000 */
};

struct rest_slow {
  dstream_loop *loop;
  struct bucket bucket;
  uint64_t delay_ms;
};

/* options NULL: the defaults.  Nothing is to be freed. */
void rest_slow_init(struct rest_slow *slow, dstream_loop *loop,
                    const struct rest_slow_options *options);

/* An error in a form of hub/rest_reply.h, now or later.  message and headers
 * are static texts. */
struct rest_refusal {
  bool registry; /* in the registry's form */
  enum hub_error_code code;
  const char *message;
  const char *headers;
  char tracking[HUB_ERROR_TRACKING_SIZE];
};
void rest_slow_refuse(struct rest_slow *slow, struct http_exchange *exchange,
                      const struct rest_refusal *refusal);

#endif
