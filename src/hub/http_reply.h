/* hub/http_reply.h - a short HTTP answer on a link, then its end. */
#ifndef HUB_HTTP_REPLY_H
#define HUB_HTTP_REPLY_H

#include "net/link.h"

/* Answers with status and one line of text, and closes the link.  headers: more
 * header lines, each with its CRLF, or NULL. */
void http_reply(struct link *link, int status, const char *headers,
                const char *text);

#endif
