/* proxy/reason.h - how a device says why it did not serve a stream.
 *
 * The reason of a rejection, and of a Close 1011, begins with who it was that
 * said no; the SOCKS side makes its reply code of that.
 */
#ifndef PROXY_REASON_H
#define PROXY_REASON_H

#define REASON_AGENT     "agent: "
#define REASON_TARGET    "target "
#define REASON_TIMED_OUT ": timed out"
/* What the library's own device side says when it has too much to do. */
#define REASON_DEVICE "the device "

#endif
