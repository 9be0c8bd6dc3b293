/* service/hub_reply.h - what the hub answered to a stream request, understood.
 */
#ifndef SERVICE_HUB_REPLY_H
#define SERVICE_HUB_REPLY_H

#include <stddef.h>

#include <dstream/status.h>

#include "core/http_head.h"

/* Reads an error response: the nested JSON that the hub sends,
 *   {"Message":"{\"errorCode\":404103,\"message\":\"...\"}"}
 * its older form "ErrorCode:Name;text", or plain text.  Fills end with the
 * status a program can act on, http_status, hub_code and the hub's own words.
 */
void hub_reply_error(const struct http_head *head, const char *body,
                     size_t body_len, struct dstream_end *end);

#endif
