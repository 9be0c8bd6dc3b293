/* hub/hub_error.h - REST errors in Azure's form, which its clients can read:
 *
 *   {"Message":"{\"errorCode\":404103,\"trackingId\":\"<hex>\",
 *     \"message\":\"Timed out waiting for device to connect.\",
 *     \"info\":{\"timeout\":\"00:00:15\"},
 *     \"timestampUtc\":\"2026-01-01T00:00:00.0000000Z\"}",
 *    "ExceptionMessage":""}
 *
 * Message is itself a JSON text.  The error's name is also in the header
 * iothub-errorcode.  Requests to the identity registry are answered in an older
 * form, the only one that its official clients take apart:
 *
 *   {"Message":"ErrorCode:DeviceNotFound;There is no device \"d\".",
 *    "ExceptionMessage":"Tracking ID:<hex>-TimeStamp:01/01/2026 00:00:00"}
 */
#ifndef HUB_HUB_ERROR_H
#define HUB_HUB_ERROR_H

#include <stddef.h>
#include <stdint.h>

/* Azure's codes: the HTTP status and three digits. */
#define HUB_ERROR_MAP(X)                                                       \
  X(BAD_REQUEST, 400000, "GenericBadRequest")                                  \
  X(ARGUMENT, 400004, "ArgumentInvalid")                                       \
  X(DUPLICATE, 400011, "DeviceDefinedMultipleTimes")                           \
  X(UNAUTHORIZED, 401002, "IotHubUnauthorizedAccess")                          \
  X(FORBIDDEN, 403000, "GenericForbidden")                                     \
  X(NOT_FOUND, 404000, "GenericNotFound")                                      \
  X(NO_DEVICE, 404001, "DeviceNotFound")                                       \
  X(NO_MODULE, 404010, "ModuleNotFound")                                       \
  X(OFFLINE, 404103, "DeviceNotOnline")                                        \
  X(METHOD, 405000, "GenericMethodNotAllowed")                                 \
  X(EXISTS, 409001, "DeviceAlreadyExists")                                     \
  X(PRECONDITION, 412001, "PreconditionFailed")                                \
  X(TOO_LARGE, 413000, "GenericRequestEntityTooLarge")                         \
  X(TOO_MANY, 413002, "TooManyDevices")                                        \
  X(THROTTLED, 429001, "ThrottlingException")                                  \
  X(INTERNAL, 500001, "ServerError")                                           \
  X(UNAVAILABLE, 503001, "ServiceUnavailable")                                 \
  X(NO_ANSWER, 504101, "GatewayTimeout")

enum hub_error_code {
  HUB_ERROR_NONE = 0,
#define X(name, code, text) HUB_ERROR_##name = (code),
  HUB_ERROR_MAP(X)
#undef X
};

/* "DeviceNotOnline" for 404103. */
const char *hub_error_name(enum hub_error_code code);

/* 404 for 404103. */
int hub_error_http_status(enum hub_error_code code);

/* Characters of a tracking id, the zero included. */
#define HUB_ERROR_TRACKING_SIZE 33
#define HUB_ERROR_BODY_SIZE     1024

/* Writes the body.  message: a sentence for a person, cut to fit; tracking: for
 * finding the request in the hub's log; timeout_s: what timed out, or -1;
 * now_s: Unix seconds.  Returns the length; out_size is HUB_ERROR_BODY_SIZE or
 * more (asserted). */
size_t hub_error_body(char *out, size_t out_size, enum hub_error_code code,
                      const char *message, const char *tracking, int timeout_s,
                      uint64_t now_s);

/* The same in the registry's form. */
size_t hub_error_registry_body(char *out, size_t out_size,
                               enum hub_error_code code, const char *message,
                               const char *tracking, uint64_t now_s);

#endif
