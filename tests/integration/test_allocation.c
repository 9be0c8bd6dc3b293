/* In steady state nothing is allocated for a message: device and service in
 * this process echo small messages and bulk through a real hub, and every call
 * to the allocator on their loop's thread is counted.
 *
 * OpenSSL's are counted apart: its 3.x takes and returns a few bytes of
 * bookkeeping for each record it writes or reads, whatever its caller does.  It
 * must not take anything of a record's size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include <dstream/dstream.h>

#include "integration/support_hub.h"
#include "integration/support_streams.h"

static unsigned long allocations;
static unsigned long openssl_allocations; /* those that could hold a record */
static bool counting;
static pthread_t counted_thread;

#if !TEST_SANITIZED
static bool counted(void) {
  return counting && pthread_equal(pthread_self(), counted_thread);
}

/* glibc's own names for what these replace. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *memory);

/* Seen by every library of the process. */
#define INSTEAD __attribute__((visibility("default")))

INSTEAD void *malloc(size_t size) {
  allocations += counted();
  return __libc_malloc(size);
}

INSTEAD void *calloc(size_t n, size_t size) {
  allocations += counted();
  return __libc_calloc(n, size);
}

INSTEAD void *realloc(void *old, size_t size) {
  allocations += counted();
  return __libc_realloc(old, size);
}

static void *openssl_malloc(size_t size, const char *file, int line) {
  (void)file;
  (void)line;
  openssl_allocations += counted() && size >= 256;
  return __libc_malloc(size);
}

static void *openssl_realloc(void *old, size_t size, const char *file,
                             int line) {
  (void)file;
  (void)line;
  openssl_allocations += counted() && size >= 256;
  return __libc_realloc(old, size);
}

static void openssl_free(void *memory, const char *file, int line) {
  (void)file;
  (void)line;
  __libc_free(memory);
}

static bool count_openssl(void) {
  return CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc,
                                  openssl_free) == 1;
}
#else
static bool count_openssl(void) {
  return true;
}
#endif

#define MESSAGE 64
#define WARM_UP 1000
#define ECHOES  5000
#define BULK    (32u << 20)

static struct hub_fixture hub;
static dstream_device *device;
static dstream_service *service;
static bool ready;
static bool stopped;

struct client {
  dstream_stream *stream;
  bool open;
  bool over;
  unsigned long echoes;
  size_t partial;
  uint64_t to_send; /* bulk */
  uint64_t received;
};

static char block[65536];

/* ---- the device echoes 64-byte messages and drops bulk ---- */

static void device_data(dstream_stream *stream, void *user, const void *data,
                        size_t len) {
  if (user == NULL) {
    assert_int_equal(dstream_stream_write(stream, data, len), len);
  } else {
    uint64_t *left = user;
    *left -= len;
    if (*left == 0)
      dstream_stream_write(stream, "", 1);
  }
  dstream_stream_consume(stream, len);
}

static void on_request(dstream_device *d, void *user,
                       dstream_request *request) {
  static const struct dstream_stream_callbacks callbacks = {.on_data =
                                                                device_data};
  static uint64_t left;
  (void)d;
  (void)user;
  bool bulk = strcmp(dstream_request_name(request), "bulk") == 0;
  left = BULK;
  dstream_request_accept(request, NULL, &callbacks, bulk ? &left : NULL, NULL);
}

static void on_state(dstream_device *d, void *user,
                     enum dstream_device_state state,
                     const struct dstream_end *cause) {
  (void)d;
  (void)user;
  (void)cause;
  ready = state == DSTREAM_DEVICE_READY;
}

static void on_stopped(dstream_device *d, void *user) {
  (void)d;
  (void)user;
  stopped = true;
}

/* ---- the service ---- */

static void on_open(dstream_stream *stream, void *user) {
  struct client *client = user;
  client->stream = stream;
  client->open = true;
}

static void on_data(dstream_stream *stream, void *user, const void *data,
                    size_t len) {
  struct client *client = user;
  (void)data;
  client->received += len;
  dstream_stream_consume(stream, len);
  if (client->received % MESSAGE != 0)
    return;
  client->echoes++;
  if (client->echoes == WARM_UP)
    counting = true;
  if (client->echoes == WARM_UP + ECHOES)
    counting = false;
  else
    assert_int_equal(dstream_stream_write(stream, block, MESSAGE), MESSAGE);
}

static void send_bulk(struct client *client) {
  while (client->to_send > 0) {
    size_t n = client->to_send < sizeof block ? client->to_send : sizeof block;
    long sent = dstream_stream_write(client->stream, block, n);
    if (sent <= 0)
      break;
    client->to_send -= (uint64_t)sent;
  }
  if (client->to_send < BULK - BULK / 4)
    counting = client->to_send > 0;
}

static void on_bulk_data(dstream_stream *stream, void *user, const void *data,
                         size_t len) {
  struct client *client = user;
  (void)data;
  client->received += len;
  dstream_stream_consume(stream, len);
}

static void on_writable(dstream_stream *stream, void *user) {
  (void)stream;
  send_bulk(user);
}

static void on_close(dstream_stream *stream, void *user,
                     const struct dstream_end *end) {
  struct client *client = user;
  (void)stream;
  (void)end;
  client->over = true;
}

/* ---- the tests ---- */

static void open_client(struct client *client, const char *name,
                        const struct dstream_stream_callbacks *callbacks) {
  memset(client, 0, sizeof *client);
  assert_int_equal(dstream_service_open_stream(service, "counted", name, NULL,
                                               callbacks, client, NULL),
                   0);
  WAIT(client->open);
  allocations = 0;
  openssl_allocations = 0;
}

static void close_client(struct client *client) {
  counting = false;
  dstream_stream_close(client->stream);
  WAIT(client->over);
}

static void test_messages(void **state) {
  static const struct dstream_stream_callbacks callbacks = {
      .on_open = on_open, .on_data = on_data, .on_close = on_close};
  struct client client;
  (void)state;
  open_client(&client, "echo", &callbacks);
  assert_int_equal(dstream_stream_write(client.stream, block, MESSAGE),
                   MESSAGE);
  WAIT(client.echoes == WARM_UP + ECHOES);
  assert_int_equal(allocations, 0);
  assert_int_equal(openssl_allocations, 0);
  close_client(&client);
}

static void test_bulk(void **state) {
  static const struct dstream_stream_callbacks callbacks = {
      .on_open = on_open,
      .on_data = on_bulk_data,
      .on_writable = on_writable,
      .on_close = on_close};
  struct client client;
  (void)state;
  open_client(&client, "bulk", &callbacks);
  client.to_send = BULK;
  send_bulk(&client);
  WAIT(client.received == 1);
  assert_int_equal(allocations, 0);
  assert_int_equal(openssl_allocations, 0);
  close_client(&client);
}

/* The counter itself. */
static void test_counter(void **state) {
  (void)state;
  if (TEST_SANITIZED)
    skip();
  allocations = 0;
  openssl_allocations = 0;
  counting = true;
  void *volatile memory = malloc(10);
  char *volatile library = strdup("by libc, not by this program");
  void *volatile record = OPENSSL_malloc(16384);
  counting = false;
  free(memory);
  free(library);
  OPENSSL_free(record);
  assert_int_equal(allocations, 2);
  assert_int_equal(openssl_allocations, 1);
}

static int group_setup(void **state) {
  static char connection[CONN_STRING_MAX];
  (void)state;
  counted_thread = pthread_self();
  if (hub_fixture_start(&hub, NULL) != 0 ||
      hub_fixture_add_device(&hub, "counted", connection) != 0)
    return -1;
  test_loop_start();
  static const struct dstream_device_callbacks callbacks = {
      .on_state = on_state, .on_request = on_request, .on_stopped = on_stopped};
  struct dstream_tls_options tls = {.size = sizeof tls, .ca_file = hub.ca_file};
  struct dstream_device_options options = {.size = sizeof options,
                                           .connection_string = connection,
                                           .loop = test_loop,
                                           .tls = tls};
  struct dstream_service_options service_options = {
      .size = sizeof service_options,
      .connection_string = hub.service_string,
      .loop = test_loop,
      .tls = tls};
  if (dstream_device_new(&device, &options, &callbacks, NULL, NULL) != 0 ||
      dstream_service_new(&service, &service_options, NULL) != 0)
    return -1;
  dstream_device_start(device);
  WAIT(ready);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  if (device != NULL) {
    dstream_device_stop(device);
    WAIT(stopped);
  }
  dstream_service_free(service);
  dstream_device_free(device);
  if (test_loop != NULL)
    test_loop_end();
  return hub_fixture_stop(&hub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_counter),
      cmocka_unit_test(test_messages),
      cmocka_unit_test(test_bulk),
  };
  if (!count_openssl()) {
    print_error("OpenSSL has allocated already\n");
    return 1;
  }
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
