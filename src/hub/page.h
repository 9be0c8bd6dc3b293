/* hub/page.h - the status page, for operators with a browser:
 *
 *   GET /                 the page; its style, script and icon are below /page/
 *
 * The files (hub/page/) are part of the program, hold nothing about this hub,
 * and are given to anybody.  All that the page shows and does goes over the
 * REST that others use (hub/rest_admin.h, hub/rest_registry.h), which checks
 * every request and the rights of its policy.
 *
 * To sign in, a person gives the page a service's connection string.  Of it the
 * browser makes a key that no script can read again (WebCrypto, not
 * extractable), and signs with it tokens that are good for five minutes.  So
 *
 * The key never leaves the browser, and is not stored there: neither a log nor
 * a proxy, a disk or the next person at this computer can have it.  Whoever
 * loads the page again signs in again.
 *
 * There are no sessions here: nothing to keep, to steal, to bound or to share
 * between hubs.  A policy's new key ends them all.
 *
 * No other site can make the browser do something here (CSRF): there is no
 * cookie, and the header Authorization is sent by this page's script only.
 *
 * A form that gets a cookie would need all of this, and send the key.  Its one
 * advantage, a page that stays signed in when it is loaded again, a password
 * manager has too.
 *
 * Keys are 32 random bytes: there is nothing to be had by guessing.  Failures
 * are slowed down all the same (hub/rest_slow.h), and are in the activity log.
 *
 * What the browser is told (Content-Security-Policy and others, in page.c): no
 * script but the one file, nothing inline, nothing from elsewhere, in nobody's
 * frame; and to ask, each time, whether the files are still the same.
 */
#ifndef HUB_PAGE_H
#define HUB_PAGE_H

#include "core/http_head.h"
#include "hub/http_server.h"

/* The parts of a rest_part (hub/rest.h).  user is not used.  page_rights says
 * REST_ANYBODY of the page's own addresses. */
unsigned page_rights(const struct http_head *head);
void page_handle(void *user, struct http_exchange *exchange,
                 const struct http_head *head, const char *caller);

#endif
