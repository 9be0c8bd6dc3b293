/* What SECURITY.md says of the network: what a listener on it sees, what
 * becomes of what it changes, and which TLS is spoken, by the hub and with it.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "integration/support_raw.h"
#include "integration/support_tool.h"
#include "integration/support_world.h"

static struct hub_fixture hub;
static struct hub_output output;
static char folder[HUB_FIXTURE_PATH + 16]; /* of certificates */

/* All for "localhost" and by the hub's CA but for what their names say; the hub
 * has "good", whose RSA key goes with the oldest suites too. */
static const char certificates[] =
    "set -e; mkdir %s; cd %s; hub=%s\n"
    "sign() { # NAME DAYS SAN USAGE\n"
    "  printf 'subjectAltName=%%s\\nextendedKeyUsage=%%s\\n' $3 $4 >$1.cnf\n"
    "  openssl req -new -key key.pem -subj /CN=$1 |\n"
    "    openssl x509 -req -CA $hub/ca.pem -CAkey $hub/ca-key.pem -days $2 \\\n"
    "      -CAcreateserial -extfile $1.cnf -out $1.pem\n"
    "}\n"
    "openssl genrsa -out key.pem 2048\n"
    "sign good 2 DNS:localhost serverAuth\n"
    "sign expired -1 DNS:localhost serverAuth\n"
    "sign renamed 2 DNS:elsewhere.example serverAuth\n"
    "sign misused 2 DNS:localhost clientAuth\n"
    "openssl req -x509 -key key.pem -subj /CN=localhost -days 2 \\\n"
    "  -addext subjectAltName=DNS:localhost -out self.pem\n"
    "cat good.pem >$hub/server.pem; cat key.pem >$hub/server-key.pem\n";

/* ---- a client of any age ---- */

struct offer {
  int version;
  const char *suites; /* of TLS 1.2 and before */
  bool good;
};

static const struct offer offers[] = {
    {TLS1_VERSION, "ALL:@SECLEVEL=0", false},
    {TLS1_1_VERSION, "ALL:@SECLEVEL=0", false},
    /* no forward secrecy, no authenticated encryption, no encryption, nobody
     * at the other end */
    {TLS1_2_VERSION, "AES128-GCM-SHA256:AES128-SHA:@SECLEVEL=0", false},
    {TLS1_2_VERSION, "ECDHE-RSA-AES128-SHA:@SECLEVEL=0", false},
    {TLS1_2_VERSION, "NULL-SHA256:@SECLEVEL=0", false},
    {TLS1_2_VERSION, "ADH-AES128-GCM-SHA256:@SECLEVEL=0", false},
    {TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", true},
    {TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305", true},
    {TLS1_3_VERSION, "", true},
};
#define OFFERS       (sizeof offers / sizeof *offers)
#define RENEGOTIATES 6 /* the first good one of TLS 1.2 */

struct age {
  const struct offer *offer;
  uint16_t port;
  int patience_ms; /* 0: no renegotiation is tried */
  bool shaken;
  bool compressed;
  bool renegotiated;
};

/* The context of raw stays raw_close's. */
static bool shake(struct raw *raw, const struct age *age) {
  raw->context = SSL_CTX_new(TLS_client_method());
  NEED(raw, raw->context != NULL);
  SSL_CTX_set_min_proto_version(raw->context, age->offer->version);
  SSL_CTX_set_max_proto_version(raw->context, age->offer->version);
  if (age->offer->suites[0] != '\0')
    NEED(raw, SSL_CTX_set_cipher_list(raw->context, age->offer->suites) == 1);
  SSL_CTX_clear_options(raw->context, SSL_OP_NO_COMPRESSION);
  raw->ssl = SSL_new(raw->context);
  NEED(raw, raw->ssl != NULL && SSL_set_fd(raw->ssl, raw->fd) == 1);
  return true;
}

static bool be_of_age(struct raw *raw, void *arg) {
  struct age *age = arg;
  NEED(raw, raw_connect_plain(raw, "localhost", age->port));
  if (!shake(raw, age))
    return false;
  age->shaken = SSL_connect(raw->ssl) == 1;
  if (age->shaken)
    age->compressed = SSL_get_current_compression(raw->ssl) != NULL;
  if (age->shaken && age->patience_ms > 0) {
    struct timeval timeout = {age->patience_ms / 1000,
                              age->patience_ms % 1000 * 1000};
    setsockopt(raw->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    age->renegotiated =
        SSL_renegotiate(raw->ssl) == 1 && SSL_do_handshake(raw->ssl) == 1;
  }
  ERR_clear_error();
  return true;
}

static bool be_of_all_ages(struct raw *raw, void *arg) {
  struct age *ages = arg;
  for (size_t i = 0; i < OFFERS; i++) {
    if (!be_of_age(raw, &ages[i]))
      return false;
  }
  return true;
}

/* patience_ms: with a renegotiation. */
static void try_offers(struct age *ages, uint16_t port, int patience_ms) {
  for (size_t i = 0; i < OFFERS; i++)
    ages[i] = (struct age){.offer = &offers[i],
                           .port = port,
                           .patience_ms = i == RENEGOTIATES ? patience_ms : 0};
  run_script(be_of_all_ages, ages);
}

/* ---- a server of any age, with any certificate ---- */

static const struct {
  const char *certificate;
  const char *options;
  int status;
  const char *why; /* NULL: the programs are not asked, they are the library */
} impostors[] = {
    {"self", "", DSTREAM_EVERIFY, "not trusted"},
    {"expired", "", DSTREAM_EVERIFY, NULL},
    {"renamed", "", DSTREAM_EVERIFY, "not trusted"},
    {"misused", "", DSTREAM_EVERIFY, NULL},
    {"good", "-tls1_1 -cipher ALL:@SECLEVEL=0", DSTREAM_ETLS, "TLS"},
    {"good", "-tls1_2 -cipher AES128-SHA:@SECLEVEL=0", DSTREAM_ETLS, NULL},
};
#define IMPOSTORS (sizeof impostors / sizeof *impostors)

static struct tool servers[IMPOSTORS];

static uint16_t impostor_start(size_t i, const char *certificate,
                               const char *options) {
  char line[1024];
  char said[256];
  const char *const arguments[] = {"bash", "-c", line, NULL};
  snprintf(line, sizeof line,
           "cd %s && exec openssl s_server -accept 0 -cert %s.pem "
           "-key key.pem %s",
           folder, certificate, options);
  tool_start(&servers[i], arguments);
  do
    tool_line(&servers[i], said, sizeof said);
  while (strncmp(said, "ACCEPT", 6) != 0);
  const char *colon = strrchr(said, ':');
  assert_non_null(colon);
  return (uint16_t)strtoul(colon + 1, NULL, 10);
}

static void impostor_end(size_t i) {
  tool_end(&servers[i], SIGKILL);
}

static void test_the_hub_speaks_no_old_tls(void **state) {
  (void)state;
  const uint16_t ports[] = {hub.https_port, hub.mqtt_port};
  struct age ages[OFFERS];
  for (size_t port = 0; port < 2; port++) {
    try_offers(ages, ports[port], 300);
    for (size_t i = 0; i < OFFERS; i++) {
      if (ages[i].shaken != offers[i].good)
        fail_msg("%zu on port %zu: %d", i, port, ages[i].shaken);
      assert_false(ages[i].compressed);
      assert_false(ages[i].renegotiated);
    }
  }
  /* the client could have done all of it */
  uint16_t any = impostor_start(
      0, "good",
      "-cipher ALL:COMPLEMENTOFALL:@SECLEVEL=0 -client_renegotiation");
  try_offers(ages, any, 15000);
  for (size_t i = 0; i < OFFERS; i++) {
    if (!ages[i].shaken)
      fail_msg("%zu", i);
    assert_int_equal(ages[i].renegotiated, i == RENEGOTIATES);
  }
  impostor_end(0);
}

/* ---- whom device, service and programs believe ---- */

static void device_string(char *out, uint16_t port) {
  snprintf(out, CONN_STRING_MAX,
           "HostName=localhost;DeviceId=dev1;SharedAccessKey=%s;HttpsPort=%u;"
           "MqttPort=%u",
           "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", port, port);
}

static void service_string(char *out, uint16_t port) {
  snprintf(out, CONN_STRING_MAX,
           "HostName=localhost;SharedAccessKeyName=service;SharedAccessKey=%s;"
           "HttpsPort=%u",
           "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", port);
}

static void device_start(struct world_device *device, uint16_t port,
                         bool websocket) {
  char text[CONN_STRING_MAX];
  memset(device, 0, sizeof *device);
  device_string(text, port);
  struct dstream_device_options options = {.connection_string = text,
                                           .tls.ca_file = hub.ca_file,
                                           .mqtt_over_websocket = websocket};
  world_device_start_with(device, &options);
}

static void device_refuses(struct world_device *device, int status) {
  WAIT(device->failures >= 1);
  if (device->cause.status != status)
    fail_msg("%s: %s", dstream_status_name(device->cause.status),
             device->cause.text);
  assert_int_equal(device->readies, 0);
}

static void service_refuses(uint16_t port, int status) {
  char text[CONN_STRING_MAX];
  struct call call = {.device = "dev1"};
  service_string(text, port);
  dstream_service *service = world_service(&hub, text);
  world_open_fails(service, &call, status, 0, NULL);
  dstream_service_free(service);
}

/* What the programs say of it, and no more than that. */
static void programs_refuse(uint16_t port, const char *why) {
  char text[CONN_STRING_MAX];
  struct tool tool;
  service_string(text, port);
  assert_int_equal(tool_shell(&output,
                              "DSTREAM_CONNECTION_STRING='%s' dstream connect "
                              "dev1 ssh </dev/null",
                              text),
                   1);
  if (strstr(output.err, why) == NULL)
    fail_msg("dstream: %s", output.err);
  device_string(text, port);
  const char *const agent[] = {
      "dstream-agent", "--connection-string", text, "--ca-file", hub.ca_file,
      "--target",      "ssh=127.0.0.1:22",    NULL};
  tool_start(&tool, agent);
  tool_wait_said(&tool, why);
  assert_int_equal(tool_end(&tool, SIGTERM), 0);
}

static void test_nobody_believes_an_impostor(void **state) {
  (void)state;
  static struct world_device devices[2 * IMPOSTORS];
  uint16_t ports[IMPOSTORS];
  for (size_t i = 0; i < IMPOSTORS; i++) {
    ports[i] =
        impostor_start(i, impostors[i].certificate, impostors[i].options);
  }
  for (size_t i = 0; i < IMPOSTORS; i++) {
    service_refuses(ports[i], impostors[i].status);
    if (impostors[i].why != NULL)
      programs_refuse(ports[i], impostors[i].why);
  }
  /* Later, as an impostor serves one after the other and Paho takes its time.
   */
  for (size_t i = 0; i < IMPOSTORS; i++) {
    device_start(&devices[2 * i], ports[i], false);
    device_start(&devices[2 * i + 1], ports[i], true);
  }
  for (size_t i = 0; i < 2 * IMPOSTORS; i++)
    device_refuses(&devices[i], impostors[i / 2].status);
  for (size_t i = 0; i < 2 * IMPOSTORS; i++)
    dstream_device_stop(devices[i].device);
  for (size_t i = 0; i < 2 * IMPOSTORS; i++)
    world_device_end(&devices[i]);
  for (size_t i = 0; i < IMPOSTORS; i++)
    impostor_end(i);
}

/* ---- new keys on a connection (TLS 1.3) ---- */

static bool change_keys(struct raw *raw, void *arg) {
  (void)arg;
  NEED(raw, raw_connect(raw, "localhost", hub.https_port, hub.ca_file));
  for (int i = 0; i < 3; i++) {
    NEED(raw, SSL_key_update(raw->ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
    NEED(raw, SSL_do_handshake(raw->ssl) == 1);
    NEED(raw, raw_text(raw, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"));
    NEED(raw, raw_answer(raw) == 200);
  }
  return true;
}

static void test_new_keys_on_a_connection(void **state) {
  (void)state;
  run_script(change_keys, NULL);
}

/* ---- a machine in the middle: an HTTP CONNECT proxy that looks ---- */

#define TUNNELS_MAX 16
#define SEEN_MAX    (4u << 20)

static struct tap {
  int listener;
  char url[64];
  pthread_t thread;
  atomic_bool over;
  atomic_int flip; /* 1: turn one bit of the next long piece; 2: done */
  int fds[TUNNELS_MAX][2];
  pthread_mutex_t lock; /* guards the rest */
  uint8_t *seen;        /* what passed through, up to SEEN_MAX */
  size_t seen_len;
} tap = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int local_socket(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int rc = port == 0 ? bind(fd, (struct sockaddr *)&address, sizeof address)
                     : connect(fd, (struct sockaddr *)&address, sizeof address);
  if (rc == 0)
    return fd;
  close(fd);
  return -1;
}

/* Reads "CONNECT localhost:PORT ...", and does it. */
static void tap_open(int fd, int out[2]) {
  char head[2048] = "";
  size_t len = 0;
  while (len + 1 < sizeof head && strstr(head, "\r\n\r\n") == NULL &&
         recv(fd, head + len, 1, 0) == 1)
    head[++len] = '\0';
  const char *colon = strchr(head, ':');
  int far =
      colon == NULL ? -1 : local_socket((uint16_t)strtoul(colon + 1, NULL, 10));
  static const char good[] = "HTTP/1.1 200 OK\r\n\r\n";
  if (far < 0 || send(fd, good, sizeof good - 1, MSG_NOSIGNAL) < 0) {
    close(fd);
    return;
  }
  out[0] = fd;
  out[1] = far;
}

/* What has come on one side, to the other when that has room: to wait in send
 * would hold up the other direction, for which the peer may be waiting. */
static void tap_pass(int pair[2], int from) {
  static uint8_t data[8192];
  struct pollfd to = {pair[1 - from], POLLOUT, 0};
  if (poll(&to, 1, 1) == 0)
    return;
  ssize_t n = recv(pair[from], data, sizeof data, 0);
  int one = 1;
  if (n >= 1000 && from == 1 &&
      atomic_compare_exchange_strong(&tap.flip, &one, 2))
    data[n / 2] ^= 1;
  pthread_mutex_lock(&tap.lock);
  if (n > 0 && tap.seen_len + (size_t)n <= SEEN_MAX) {
    memcpy(tap.seen + tap.seen_len, data, (size_t)n);
    tap.seen_len += (size_t)n;
  }
  pthread_mutex_unlock(&tap.lock);
  if (n > 0 && send(pair[1 - from], data, (size_t)n, MSG_NOSIGNAL) == n)
    return;
  close(pair[0]);
  close(pair[1]);
  pair[0] = pair[1] = -1;
}

static void tap_accept(void) {
  int fd = accept(tap.listener, NULL, NULL);
  size_t i = 0;
  while (i < TUNNELS_MAX && tap.fds[i][0] >= 0)
    i++;
  if (fd >= 0 && i < TUNNELS_MAX)
    tap_open(fd, tap.fds[i]);
  else if (fd >= 0)
    close(fd);
}

static void *tap_run(void *arg) {
  (void)arg;
  while (!atomic_load(&tap.over)) {
    struct pollfd ready[1 + 2 * TUNNELS_MAX] = {{tap.listener, POLLIN, 0}};
    for (size_t i = 0; i < 2 * (size_t)TUNNELS_MAX; i++)
      ready[1 + i] = (struct pollfd){tap.fds[i / 2][i % 2], POLLIN, 0};
    poll(ready, 1 + 2 * TUNNELS_MAX, 50);
    for (size_t i = 0; i < 2 * (size_t)TUNNELS_MAX; i++) {
      if (ready[1 + i].revents != 0 && tap.fds[i / 2][i % 2] == ready[1 + i].fd)
        tap_pass(tap.fds[i / 2], (int)(i % 2));
    }
    if (ready[0].revents != 0)
      tap_accept();
  }
  return NULL;
}

static void tap_start(void) {
  struct sockaddr_in address;
  socklen_t len = sizeof address;
  memset(tap.fds, -1, sizeof tap.fds);
  atomic_store(&tap.over, false);
  atomic_store(&tap.flip, 0);
  tap.seen = malloc(SEEN_MAX);
  tap.seen_len = 0;
  assert_non_null(tap.seen);
  tap.listener = local_socket(0);
  assert_int_equal(listen(tap.listener, 16), 0);
  getsockname(tap.listener, (struct sockaddr *)&address, &len);
  snprintf(tap.url, sizeof tap.url, "http://127.0.0.1:%u",
           (unsigned)ntohs(address.sin_port));
  assert_int_equal(pthread_create(&tap.thread, NULL, tap_run, NULL), 0);
}

static void tap_end(void) {
  atomic_store(&tap.over, true);
  pthread_join(tap.thread, NULL);
  close(tap.listener);
  for (size_t i = 0; i < 2 * (size_t)TUNNELS_MAX; i++) {
    if (tap.fds[i / 2][i % 2] >= 0)
      close(tap.fds[i / 2][i % 2]);
  }
  free(tap.seen);
  tap.seen = NULL;
}

static bool tap_saw(const char *text) {
  pthread_mutex_lock(&tap.lock);
  bool saw = memmem(tap.seen, tap.seen_len, text, strlen(text)) != NULL;
  pthread_mutex_unlock(&tap.lock);
  return saw;
}

static dstream_service *service_through_tap(void) {
  struct dstream_service_options options = {
      .size = sizeof options,
      .connection_string = hub.service_string,
      .loop = test_loop,
      .http_proxy = tap.url,
      .tls = {.size = sizeof options.tls, .ca_file = hub.ca_file}};
  dstream_service *service = NULL;
  assert_int_equal(dstream_service_new(&service, &options, NULL), 0);
  return service;
}

#define PAYLOAD "the words that pass through the stream"

static void part_of(char *out, size_t size, const char *text, const char *key) {
  const char *at = strstr(text, key);
  assert_non_null(at);
  at += strlen(key);
  size_t len = strcspn(at, ";=+/");
  /* A letter or two are in everything. */
  while (len < 8 && (at[len] == '+' || at[len] == '/')) {
    at += len + 1;
    len = strcspn(at, ";=+/");
  }
  snprintf(out, size, "%.*s", (int)len, at);
  assert_true(strlen(out) < 60);
}

static void test_a_listener_learns_nothing(void **state) {
  (void)state;
  char text[CONN_STRING_MAX];
  char key[64];
  struct world_device device;
  struct peer peer;
  struct call call = {.device = "unheard-of", .name = "unspoken-name"};
  memset(&device, 0, sizeof device);
  tap_start();
  assert_int_equal(hub_fixture_add_device(&hub, "unheard-of", text), 0);
  struct dstream_device_options options = {.connection_string = text,
                                           .tls.ca_file = hub.ca_file,
                                           .http_proxy = tap.url};
  device.kind = PEER_ECHO;
  world_device_start_with(&device, &options);
  world_device_wait_ready(&device);
  dstream_service *service = service_through_tap();
  peer_init(&peer, PEER_SENDER, 0, 0);
  world_open(service, &call, &peer);
  wait_open(&peer);
  assert_int_equal(dstream_stream_write(peer.stream, PAYLOAD, strlen(PAYLOAD)),
                   strlen(PAYLOAD));
  WAIT(peer.received == strlen(PAYLOAD));
  dstream_stream_close(peer.stream);
  WAIT(peer.closes == 1);
  assert_true(tap_saw("localhost")); /* the name of the hub (SNI) */
  part_of(key, sizeof key, text, "SharedAccessKey=");
  const char *const hidden[] = {key,         "unheard-of", "unspoken-name",
                                PAYLOAD,     "SharedAcc",  "eyJ0eX",
                                "$iothub",   "POST ",      "Bearer",
                                "/bridges/", "service"};
  for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
    if (tap_saw(hidden[i]))
      fail_msg("%s was in the clear", hidden[i]);
  }
  peer_clear(&peer);
  dstream_service_free(service);
  world_device_end(&device);
  tap_end();
}

/* ---- what the network changes ---- */

struct watched {
  dstream_stream *stream;
  uint64_t received;
  unsigned closes;
  int status;
  bool wrong; /* a byte came that was not sent */
};

static void send_more(dstream_stream *stream) {
  static uint8_t same[16384];
  memset(same, 0x55, sizeof same);
  while (dstream_stream_write(stream, same, sizeof same) == sizeof same)
    continue;
}

static void watched_open(dstream_stream *stream, void *user) {
  (void)user;
  send_more(stream);
}

static void watched_data(dstream_stream *stream, void *user, const void *data,
                         size_t len) {
  struct watched *watched = user;
  const uint8_t *bytes = data;
  for (size_t i = 0; i < len; i++)
    watched->wrong = watched->wrong || bytes[i] != 0x55;
  watched->received += len;
  dstream_stream_consume(stream, len);
}

static void watched_writable(dstream_stream *stream, void *user) {
  (void)user;
  send_more(stream);
}

static void watched_close(dstream_stream *stream, void *user,
                          const struct dstream_end *end) {
  struct watched *watched = user;
  (void)stream;
  watched->closes++;
  watched->status = end->status;
}

static void test_a_changed_bit_ends_the_stream(void **state) {
  (void)state;
  static const struct dstream_stream_callbacks callbacks = {
      .on_open = watched_open,
      .on_data = watched_data,
      .on_writable = watched_writable,
      .on_close = watched_close};
  struct world_device device;
  struct watched watched = {0};
  memset(&device, 0, sizeof device);
  tap_start();
  device.kind = PEER_ECHO;
  world_device_new(&device, &hub, "changed");
  dstream_service *service = service_through_tap();
  assert_int_equal(dstream_service_open_stream(service, "changed", "echo", NULL,
                                               &callbacks, &watched,
                                               &watched.stream),
                   0);
  WAIT(watched.received > (1 << 20) || watched.closes > 0);
  assert_int_equal(watched.closes, 0);
  atomic_store(&tap.flip, 1);
  WAIT(watched.closes == 1);
  assert_int_equal(atomic_load(&tap.flip), 2);
  assert_int_equal(watched.status, DSTREAM_ETLS);
  assert_false(watched.wrong);
  WAIT(device.peers[0]->closes == 1);
  dstream_service_free(service);
  world_device_end(&device);
  tap_end();
}

/* ---- group ---- */

static int group_setup(void **state) {
  (void)state;
  test_loop_start();
  if (hub_fixture_start(&hub, NULL) != 0)
    return -1;
  tool_environment(&hub);
  snprintf(folder, sizeof folder, "%s/certificates", hub.directory);
  if (tool_shell(&output, certificates, folder, folder, hub.hub_dir) != 0) {
    fprintf(stderr, "%s\n", output.err);
    return -1;
  }
  kill(hub.pid, SIGHUP);
  return hub_fixture_wait_log(&hub, "certificate reread", 5000);
}

static int group_teardown(void **state) {
  (void)state;
  test_loop_end();
  return hub_fixture_stop(&hub);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_hub_speaks_no_old_tls),
      cmocka_unit_test(test_nobody_believes_an_impostor),
      cmocka_unit_test(test_new_keys_on_a_connection),
      cmocka_unit_test(test_a_listener_learns_nothing),
      cmocka_unit_test(test_a_changed_bit_ends_the_stream),
  };
  test_choose();
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
