/* What a message of 64 bytes costs the hub when it comes as a WebSocket frame
 * and a TLS record of its own, as the official clients send it.  This library's
 * own streams gather small messages, so the sender is a WebSocket made by hand,
 * on the service's side; the device behind the hub is the library's. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <dstream/dstream.h>

#include "bench/bench.h"
#include "bench/tls.h"
#include "core/conn_string.h"
#include "core/sas.h"
#include "core/stream_url.h"

#define WAIT_MS 60000
#define HEAD    8192
#define FRAME   (2 + 4 + BENCH_MESSAGE)

static atomic_bool ready;
static _Atomic uint64_t received; /* bytes */

/* ---- the device, on its own thread ---- */

static void on_data(dstream_stream *stream, void *user, const void *data,
                    size_t len) {
  (void)user, (void)data;
  atomic_fetch_add(&received, len);
  dstream_stream_consume(stream, len);
}

static void on_request(dstream_device *device, void *user,
                       dstream_request *request) {
  static const struct dstream_stream_callbacks callbacks = {NULL, on_data, NULL,
                                                            NULL, NULL};
  (void)device, (void)user;
  dstream_request_accept(request, NULL, &callbacks, NULL, NULL);
}

static void on_state(dstream_device *device, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  (void)device, (void)user, (void)cause;
  atomic_store(&ready, state == DSTREAM_DEVICE_READY);
}

static void wait_ms(unsigned ms) {
  const struct timespec wait = {ms / 1000, (long)(ms % 1000) * 1000000};
  nanosleep(&wait, NULL);
}

static dstream_device *start_device(const struct bench_options *options) {
  const struct dstream_device_callbacks callbacks = {on_state, on_request,
                                                     NULL};
  char string[CONN_STRING_MAX];
  struct dstream_end error;
  dstream_device *device;
  FILE *file = fopen(options->device_file, "re");
  if (file == NULL || fgets(string, sizeof string, file) == NULL)
    die("can't read %s", options->device_file);
  fclose(file);
  string[strcspn(string, "\n")] = '\0';
  const struct dstream_device_options o = {
      .size = sizeof o,
      .connection_string = string,
      .tls = {sizeof o.tls, options->ca_file}};
  if (dstream_device_new(&device, &o, &callbacks, NULL, &error) != 0)
    die("%s", error.text);
  dstream_device_start(device);
  for (unsigned ms = 0; !atomic_load(&ready); ms++) {
    if (ms == WAIT_MS)
      die("the device does not get ready");
    wait_ms(1);
  }
  return device;
}

/* ---- the service, by hand ---- */

/* Sends a request and reads the answer's head, which must have that status. */
static void ask(SSL *ssl, const char *request, int status, char *head) {
  char begin[32];
  size_t len = 0;
  snprintf(begin, sizeof begin, "HTTP/1.1 %d ", status);
  if (SSL_write(ssl, request, (int)strlen(request)) <= 0)
    die("can't send to the hub");
  do {
    int n = SSL_read(ssl, head + len, 1);
    if (n != 1 || len + 2 > HEAD)
      die("the hub's answer ends early");
    head[++len] = '\0';
  } while (len < 4 || strcmp(head + len - 4, "\r\n\r\n") != 0);
  if (strncmp(head, begin, strlen(begin)) != 0)
    die("the hub answered %.60s", head);
}

static void header(const char *head, const char *name, char *out, size_t size) {
  const char *at = strcasestr(head, name);
  const char *end = at == NULL ? NULL : strstr(at, "\r\n");
  if (end == NULL || at[strlen(name)] != ':')
    die("the hub's answer has no %s", name);
  at += strlen(name) + 1;
  at += strspn(at, " ");
  snprintf(out, size, "%.*s", (int)(end - at), at);
}

/* Asks for a stream; what to dial, and the token for it. */
static void request_stream(SSL_CTX *context, const struct conn_string *hub,
                           const char *device, struct stream_url *url,
                           char *token) {
  char sas[SAS_MAX];
  char request[HEAD];
  char head[HEAD];
  char text[HEAD];
  SSL *ssl = tls_connect(context, hub->https_port);
  if (sas_make(sas, sizeof sas, hub->host, hub->key, hub->key_len,
               (uint64_t)time(NULL) + 300, hub->policy,
               SAS_ENCODED_RESOURCE) < 0)
    die("no token");
  snprintf(request, sizeof request,
           "POST /twins/%s/streams/frames?api-version=2020-09-30 HTTP/1.1\r\n"
           "Host: %s\r\nAuthorization: %s\r\nContent-Length: 0\r\n\r\n",
           device, hub->host, sas);
  ask(ssl, request, 200, head);
  header(head, "iothub-streaming-url", text, sizeof text);
  header(head, "iothub-streaming-auth-token", token, HEAD);
  if (stream_url_parse(url, text) != 0)
    die("not a stream's URL: %s", text);
  tls_end(ssl);
}

static SSL *dial(SSL_CTX *context, const struct stream_url *url,
                 const char *token) {
  char request[2 * HEAD];
  char head[HEAD];
  SSL *ssl = tls_connect(context, url->port);
  snprintf(request, sizeof request,
           "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\n"
           "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           "Authorization: Bearer %s\r\n\r\n",
           url->target, url->host, (unsigned)url->port, token);
  ask(ssl, request, 101, head);
  return ssl;
}

static void await(uint64_t bytes) {
  for (unsigned ms = 0; atomic_load(&received) < bytes; ms++) {
    if (ms == WAIT_MS)
      die("only %llu of %llu bytes came",
          (unsigned long long)atomic_load(&received),
          (unsigned long long)bytes);
    wait_ms(1);
  }
}

int bench_frames(const struct bench_options *options) {
  static uint8_t frame[FRAME] = {0x82, 0x80 | BENCH_MESSAGE, 1, 2, 3, 4};
  uint64_t count = (uint64_t)options->ms * BENCH_MESSAGES_MS;
  struct conn_string hub;
  struct dstream_end error;
  struct stream_url url;
  char token[HEAD];
  const char *string = getenv("DSTREAM_CONNECTION_STRING");
  if (options->device == NULL || options->device_file == NULL || string == NULL)
    die("frames needs --device, --device-file and a connection string");
  if (conn_string_parse(&hub, string, CONN_STRING_SERVICE, &error) != 0)
    die("%s", error.text);
  dstream_device *device = start_device(options);
  SSL_CTX *context = tls_context(options->ca_file);
  request_stream(context, &hub, options->device, &url, token);
  SSL *ssl = dial(context, &url, token);
  processes_mark();
  uint64_t start = now_ns();
  tls_send_records(ssl, frame, sizeof frame, count);
  await(count * BENCH_MESSAGE);
  print_metric("frames_s", (double)count * 1e9 / (double)(now_ns() - start));
  processes_print_cpu((double)count / 1e9); /* ns of one */
  tls_end(ssl);
  dstream_device_free(device);
  SSL_CTX_free(context);
  conn_string_clear(&hub);
  return 0;
}
