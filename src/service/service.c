#include <dstream/service.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "core/caps.h"
#include "core/conn_string.h"
#include "core/crypto.h"
#include "core/end.h"
#include "core/percent.h"
#include "core/sas.h"
#include "core/stream_url.h"
#include "net/http_call.h"
#include "net/spare.h"
#include "net/stream.h"
#include "service/hub_reply.h"

#define DEFAULT_API_VERSION  "2020-09-30"
#define DEFAULT_SAS_LIFETIME 300
#define DEFAULT_MAX_STREAMS  1024
#define DEFAULT_RESPONSE_S   30
#define WAIT_MAX_S           60
/* Beyond the two waits, for the connection and the hub itself. */
#define CALL_EXTRA_MS 15000
#define REQUEST_MAX   8192
#define TOKEN_MAX     4096

/* One stream from the call to its end. */
struct opening {
  dstream_service *service;
  dstream_stream *stream;
  struct http_call *call;
  struct opening *next;
  struct opening **link;
};

struct dstream_service {
  dstream_loop *loop;
  struct conn_string hub;
  struct tls_config *tls;
  struct link_proxy proxy;
  struct http_pool pool; /* connections to the hub between two calls */
  struct spare spare;    /* one to the streaming endpoint */
  char *api_version;
  char *user_agent;
  int sas_lifetime_s;
  unsigned max_streams;
  unsigned streams;
  struct opening *openings;
  void (*on_step)(void *user, dstream_stream *stream,
                  enum dstream_open_step step);
  void *step_user;
};

/* ---- the request ---- */

static int make_authorization(const dstream_service *service, char *out,
                              size_t size) {
  uint64_t expiry = (uint64_t)time(NULL) + (uint64_t)service->sas_lifetime_s;
  return sas_make(out, size, service->hub.host, service->hub.key,
                  service->hub.key_len, expiry, service->hub.policy,
                  SAS_ENCODED_RESOURCE);
}

static int make_path(const char *device_id, const char *module_id,
                     const char *stream_name, char *out, size_t size) {
  char device[3 * 128 + 1];
  char module[3 * 128 + 1] = "";
  char name[3 * 256 + 1];
  if (percent_encode(slice_of(device_id), device, sizeof device) <= 0 ||
      percent_encode(slice_of(stream_name), name, sizeof name) <= 0)
    return DSTREAM_EINVAL;
  if (module_id != NULL &&
      percent_encode(slice_of(module_id), module, sizeof module) <= 0)
    return DSTREAM_EINVAL;
  int n = snprintf(out, size, "/twins/%s%s%s/streams/%s", device,
                   module_id != NULL ? "/modules/" : "", module, name);
  return n > 0 && (size_t)n < size ? DSTREAM_OK : DSTREAM_EINVAL;
}

static int make_request(const dstream_service *service, const char *path,
                        int connect_s, int response_s, char *out, size_t size) {
  char authorization[SAS_MAX];
  char port[8] = "";
  int status = make_authorization(service, authorization, sizeof authorization);
  if (status < 0)
    return status;
  if (service->hub.https_port != CONN_STRING_HTTPS_PORT)
    snprintf(port, sizeof port, ":%u", (unsigned)service->hub.https_port);
  int n = snprintf(out, size,
                   "POST %s?api-version=%s HTTP/1.1\r\n"
                   "Host: %s%s\r\n"
                   "Authorization: %s\r\n"
                   "User-Agent: %s\r\n"
                   "Accept: application/json\r\n"
                   "iothub-streaming-connect-timeout-in-seconds: %d\r\n"
                   "iothub-streaming-response-timeout-in-seconds: %d\r\n"
                   "dstream-capabilities: " CAPS_EOF "\r\n"
                   "Content-Length: 0\r\n\r\n",
                   path, service->api_version, service->hub.host, port,
                   authorization, service->user_agent, connect_s, response_s);
  crypto_wipe(authorization, sizeof authorization);
  return n > 0 && (size_t)n < size ? DSTREAM_OK : DSTREAM_ELIMIT;
}

/* ---- the answer ---- */

static void tell_step(struct opening *opening, enum dstream_open_step step) {
  dstream_service *service = opening->service;
  if (service->on_step != NULL)
    service->on_step(service->step_user, opening->stream, step);
}

static bool copy_header(const struct http_head *head, const char *name,
                        char *out, size_t size) {
  struct slice value = http_head_get(head, name);
  if (value.p == NULL || value.len == 0 || value.len >= size)
    return false;
  memcpy(out, value.p, value.len);
  out[value.len] = '\0';
  return true;
}

static void fail_rejected(struct opening *opening,
                          const struct http_head *head) {
  struct dstream_end end;
  struct slice reason = http_head_get(head, "dstream-reason");
  bool told = reason.p != NULL && reason.len > 0;
  end_set(&end, DSTREAM_EREJECTED, "the device rejected the stream%s%.*s",
          told ? ": " : "", told ? (int)reason.len : 0, told ? reason.p : "");
  for (char *p = end.text; *p != '\0'; p++)
    if ((unsigned char)*p < ' ' || *p == 127)
      *p = ' ';
  end.http_status = head->status;
  stream_fail(opening->stream, &end);
}

static void fail_malformed(struct opening *opening, const char *what) {
  struct dstream_end end;
  end_set(&end, DSTREAM_EHTTP,
          "the hub accepted the stream but sent no valid %s", what);
  stream_fail(opening->stream, &end);
}

static void dial(struct opening *opening, const struct http_head *head) {
  dstream_service *service = opening->service;
  char text[1400];
  char token[TOKEN_MAX + 1];
  struct stream_url url;
  if (!copy_header(head, "iothub-streaming-url", text, sizeof text) ||
      stream_url_parse(&url, text) != DSTREAM_OK) {
    fail_malformed(opening, "streaming URL");
    return;
  }
  if (!copy_header(head, "iothub-streaming-auth-token", token, sizeof token)) {
    fail_malformed(opening, "streaming token");
    return;
  }
  struct stream_target target = {
      .url = &url,
      .token = token,
      .tls = service->tls,
      .proxy = &service->proxy,
      .spare = &service->spare,
      .eof = caps_has(http_head_get(head, "dstream-capabilities"), CAPS_EOF),
  };
  tell_step(opening, DSTREAM_STEP_ACCEPTED);
  stream_dial(opening->stream, &target);
  crypto_wipe(token, sizeof token);
  tell_step(opening, DSTREAM_STEP_CONNECT);
}

static void on_reply(void *user, const struct http_head *head, const char *body,
                     size_t body_len, const struct dstream_end *error) {
  struct opening *opening = user;
  opening->call = NULL;
  struct dstream_end end;
  char accepted[8];
  if (error != NULL) {
    stream_fail(opening->stream, error);
  } else if (head->status != 200 && head->status != 202) {
    hub_reply_error(head, body, body_len, &end);
    stream_fail(opening->stream, &end);
  } else if (!copy_header(head, "iothub-streaming-is-accepted", accepted,
                          sizeof accepted)) {
    fail_malformed(opening, "answer (is this an IoT hub?)");
  } else if (strcasecmp(accepted, "true") == 0) {
    dial(opening, head);
  } else {
    fail_rejected(opening, head);
  }
}

/* ---- openings ---- */

static void opening_free(struct opening *opening) {
  *opening->link = opening->next;
  if (opening->next != NULL)
    opening->next->link = opening->link;
  opening->service->streams--;
  http_call_cancel(opening->call);
  free(opening);
}

static void on_gone(void *owner, dstream_stream *stream) {
  (void)stream;
  opening_free(owner);
}

static struct opening *opening_new(dstream_service *service) {
  struct opening *opening = calloc(1, sizeof *opening);
  if (opening == NULL)
    return NULL;
  opening->service = service;
  opening->next = service->openings;
  opening->link = &service->openings;
  if (opening->next != NULL)
    opening->next->link = &opening->next;
  service->openings = opening;
  service->streams++;
  return opening;
}

/* Asked twice after an idle connection broke, a device would see a second
 * request; the tokens of the first then expire unused.  So a pool does no harm.
 */
static int start_call(struct opening *opening, const char *path, int connect_s,
                      int response_s) {
  dstream_service *service = opening->service;
  char request[REQUEST_MAX];
  int status = make_request(service, path, connect_s, response_s, request,
                            sizeof request);
  if (status != DSTREAM_OK)
    return status;
  const struct http_call_options options = {
      .host = service->hub.gateway_host != NULL ? service->hub.gateway_host
                                                : service->hub.host,
      .port = service->hub.https_port,
      .tls = service->tls,
      .proxy = &service->proxy,
      .pool = &service->pool,
      .request = request,
      .timeout_ms = (uint64_t)(connect_s + response_s) * 1000 + CALL_EXTRA_MS,
  };
  status = http_call_start(&opening->call, service->loop, &options, on_reply,
                           opening);
  crypto_wipe(request, sizeof request);
  return status;
}

static int check_open(const dstream_service *service,
                      const struct dstream_open_options *options) {
  if (options->size != sizeof *options || options->connect_wait_s < 0 ||
      options->connect_wait_s > WAIT_MAX_S || options->response_wait_s < 0 ||
      options->response_wait_s > WAIT_MAX_S)
    return DSTREAM_EINVAL;
  return service->streams >= service->max_streams ? DSTREAM_ELIMIT : DSTREAM_OK;
}

int dstream_service_open_stream(
    dstream_service *service, const char *device_id, const char *stream_name,
    const struct dstream_open_options *options,
    const struct dstream_stream_callbacks *callbacks, void *user,
    dstream_stream **out) {
  static const struct dstream_open_options defaults = {.size = sizeof defaults};
  if (options == NULL)
    options = &defaults;
  char path[2048];
  int status = check_open(service, options);
  if (status == DSTREAM_OK)
    status = make_path(device_id, options->module_id, stream_name, path,
                       sizeof path);
  if (status != DSTREAM_OK)
    return status;
  struct opening *opening = opening_new(service);
  if (opening == NULL)
    return DSTREAM_ENOMEM;
  int response_s = options->response_wait_s == 0 ? DEFAULT_RESPONSE_S
                                                 : options->response_wait_s;
  struct dstream_stream_options stream_options = options->stream;
  stream_options.size = sizeof stream_options;
  status = stream_new(&opening->stream, service->loop, stream_name,
                      &stream_options, callbacks, user, on_gone, opening);
  if (status != DSTREAM_OK) {
    opening_free(opening);
    return status;
  }
  status = start_call(opening, path, options->connect_wait_s, response_s);
  if (out != NULL)
    *out = opening->stream;
  if (status != DSTREAM_OK) {
    struct dstream_end end;
    end_set(&end, status, "can't call the hub %s: %s", service->hub.host,
            dstream_status_text(status));
    stream_fail(opening->stream, &end);
  } else {
    tell_step(opening, DSTREAM_STEP_REQUEST);
  }
  return DSTREAM_OK;
}

/* ---- life ---- */

static char *copy_text(const char *text, const char *fallback) {
  return strdup(text != NULL ? text : fallback);
}

/* What goes into a header or a URL as it is. */
static bool plain_text(const char *text) {
  for (const char *p = text; *p != '\0'; p++)
    if ((unsigned char)*p < ' ' || (unsigned char)*p > 126)
      return false;
  return true;
}

static int service_init(dstream_service *service,
                        const struct dstream_service_options *options,
                        struct dstream_end *error) {
  int status = conn_string_parse(&service->hub, options->connection_string,
                                 CONN_STRING_SERVICE, error);
  if (status == DSTREAM_OK)
    status = link_proxy_parse(&service->proxy, options->http_proxy, error);
  if (status == DSTREAM_OK)
    status = tls_config_client(&service->tls, &options->tls, error);
  if (status != DSTREAM_OK)
    return status;
  service->loop = options->loop;
  service->api_version = copy_text(options->api_version, DEFAULT_API_VERSION);
  service->user_agent =
      copy_text(options->user_agent, "libdstream/" DSTREAM_VERSION);
  if (service->api_version == NULL || service->user_agent == NULL) {
    end_set(error, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  if (!plain_text(service->api_version) || !plain_text(service->user_agent) ||
      strpbrk(service->api_version, " &#") != NULL) {
    end_set(error, DSTREAM_EINVAL,
            "api_version or user_agent has characters that HTTP can't carry");
    return DSTREAM_EINVAL;
  }
  service->sas_lifetime_s = options->sas_lifetime_s == 0
                                ? DEFAULT_SAS_LIFETIME
                                : options->sas_lifetime_s;
  service->max_streams =
      options->max_streams == 0 ? DEFAULT_MAX_STREAMS : options->max_streams;
  return DSTREAM_OK;
}

int dstream_service_new(dstream_service **out,
                        const struct dstream_service_options *options,
                        struct dstream_end *error) {
  if (out == NULL || options == NULL || options->size != sizeof *options ||
      options->loop == NULL || options->connection_string == NULL ||
      options->sas_lifetime_s < 0) {
    end_set(error, DSTREAM_EINVAL,
            "a service needs options with size, loop and connection_string");
    return DSTREAM_EINVAL;
  }
  dstream_service *service = calloc(1, sizeof *service);
  if (service == NULL) {
    end_set(error, DSTREAM_ENOMEM, "out of memory");
    return DSTREAM_ENOMEM;
  }
  int status = service_init(service, options, error);
  if (status != DSTREAM_OK) {
    dstream_service_free(service);
    return status;
  }
  *out = service;
  return DSTREAM_OK;
}

void dstream_service_on_step(dstream_service *service,
                             void (*fn)(void *user, dstream_stream *stream,
                                        enum dstream_open_step step),
                             void *user) {
  service->on_step = fn;
  service->step_user = user;
}

void dstream_service_free(dstream_service *service) {
  if (service == NULL)
    return;
  while (service->openings != NULL)
    stream_destroy(service->openings->stream);
  http_pool_clear(&service->pool);
  spare_clear(&service->spare);
  conn_string_clear(&service->hub);
  crypto_wipe(&service->proxy, sizeof service->proxy);
  tls_config_free(service->tls);
  free(service->api_version);
  free(service->user_agent);
  free(service);
}
