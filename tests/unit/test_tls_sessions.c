/* net/tls, net/tls_sessions: when a connection goes on with an earlier one's
 * session, and when it must not.  Client and server in memory. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/certificate.h"
#include "net/tls.h"
#include "net/tls_sessions.h"

#define ROOM 65536

static char dir[] = "/tmp/dstream-tls-XXXXXX";
static char other_dir[] = "/tmp/dstream-tls-XXXXXX";
static struct tls_config *client;
static struct tls_config *server;

static const char *file_in(const char *folder, const char *name) {
  static char path[4][64];
  static unsigned next;
  char *out = path[next++ % 4];
  snprintf(out, sizeof path[0], "%s/%s", folder, name);
  return out;
}

static struct tls_config *new_server(const char *folder) {
  struct tls_config *config = NULL;
  assert_int_equal(tls_config_server(&config, file_in(folder, "server.pem"),
                                     file_in(folder, "server-key.pem"), NULL),
                   0);
  return config;
}

static struct tls_config *new_client(void) {
  struct tls_config *config = NULL;
  const char *ca = file_in(dir, "ca.pem");
  struct dstream_tls_options options = {.size = sizeof options, .ca_file = ca};
  assert_int_equal(tls_config_client(&config, &options, NULL), 0);
  return config;
}

/* ---- the clock, also OpenSSL's ---- */

static time_t clock_ahead;

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  time_t seconds = now.tv_sec + clock_ahead;
  if (out != NULL)
    *out = seconds;
  return seconds;
}

/* ---- one connection ---- */

struct end {
  struct tls *tls;
  struct ring out;
  uint8_t memory[ROOM];
  uint8_t in[ROOM];
  bool done;
};

static struct pair {
  struct end client;
  struct end server;
  struct dstream_end error;
  bool resumed;
} pair;

static void end_new(struct end *end, const struct tls_config *config,
                    const char *host) {
  memset(end, 0, sizeof *end);
  end->out = (struct ring){.buffer = end->memory, .size = ROOM};
  assert_int_equal(tls_new(&end->tls, config, host, &end->out), 0);
}

/* What the other end has written; the handshake, or what follows it. */
static int end_take(struct end *end, struct end *from) {
  size_t len = 0;
  uint8_t scrap[64];
  ring_front(&from->out, &len);
  memcpy(end->in, from->memory + from->out.head, len);
  ring_drop(&from->out, len);
  tls_set_input(end->tls, end->in, len);
  int status = DSTREAM_EAGAIN;
  if (!end->done) {
    status = tls_handshake(end->tls, &pair.error);
    end->done = status == DSTREAM_OK;
  }
  if (end->done)
    status = (int)tls_read(end->tls, scrap, sizeof scrap, &pair.error);
  return status;
}

/* Shakes hands, ticket included; DSTREAM_OK or the client's failure. */
static int connect_to(const struct tls_config *from, const char *host,
                      uint16_t port, const struct tls_config *to) {
  end_new(&pair.client, from, host);
  end_new(&pair.server, to, NULL);
  tls_resume(pair.client.tls, port);
  tls_resume(pair.server.tls, port); /* nothing in this role */
  int status = DSTREAM_EAGAIN;
  for (int i = 0; i < 4 && status == DSTREAM_EAGAIN; i++) {
    status = end_take(&pair.client, &pair.server);
    if (status == DSTREAM_EAGAIN)
      end_take(&pair.server, &pair.client);
  }
  pair.resumed = pair.client.done && tls_resumed(pair.client.tls);
  if (status != DSTREAM_EAGAIN)
    return status;
  assert_true(pair.client.done && pair.server.done);
  assert_int_equal(tls_resumed(pair.server.tls), pair.resumed);
  return DSTREAM_OK;
}

/* Without a close_notify, as an aborted stream. */
static void hang_up(void) {
  tls_free(pair.client.tls);
  tls_free(pair.server.tls);
}

static bool resumes(const char *host, uint16_t port) {
  assert_int_equal(connect_to(client, host, port, server), 0);
  hang_up();
  return pair.resumed;
}

/* ---- tests ---- */

static void test_second_goes_on(void **state) {
  (void)state;
  assert_false(resumes("localhost", 1));
  for (int i = 0; i < 5; i++)
    assert_true(resumes("localhost", 1));
}

static void test_bytes_move(void **state) {
  (void)state;
  uint8_t text[8];
  resumes("localhost", 1);
  assert_int_equal(connect_to(client, "localhost", 1, server), 0);
  assert_true(pair.resumed);
  assert_int_equal(tls_write(pair.client.tls, "abc", 3), 0);
  size_t len = 0;
  const uint8_t *front = ring_front(&pair.client.out, &len);
  tls_set_input(pair.server.tls, front, len);
  assert_int_equal(tls_read(pair.server.tls, text, sizeof text, &pair.error),
                   3);
  assert_memory_equal(text, "abc", 3);
  hang_up();
}

/* Connections that begin before the first one has its ticket, and all the ones
 * that begin after it. */
static void test_at_the_same_time(void **state) {
  (void)state;
  static struct end early;
  end_new(&early, client, "localhost");
  tls_resume(early.tls, 1);
  assert_false(resumes("localhost", 1));
  assert_int_equal(tls_handshake(early.tls, &pair.error), DSTREAM_EAGAIN);
  assert_true(resumes("localhost", 1));
  tls_free(early.tls);
  assert_true(resumes("localhost", 1));
}

static void test_each_server_for_itself(void **state) {
  (void)state;
  assert_false(resumes("localhost", 1));
  assert_false(resumes("localhost", 2));
  assert_false(resumes("127.0.0.1", 1));
  assert_false(resumes("::1", 1));
  assert_true(resumes("::1", 1));
  assert_true(resumes("127.0.0.1", 1));
  assert_true(resumes("localhost", 2));
  assert_true(resumes("localhost", 1));
}

/* A session says nothing for another name, whatever answers there. */
static void test_wrong_name_is_refused(void **state) {
  (void)state;
  assert_false(resumes("localhost", 1));
  for (int i = 0; i < 2; i++) {
    assert_int_equal(connect_to(client, "elsewhere", 1, server),
                     DSTREAM_EVERIFY);
    hang_up();
    assert_int_equal(connect_to(client, "127.0.0.2", 1, server),
                     DSTREAM_EVERIFY);
    hang_up();
  }
  assert_true(resumes("localhost", 1));
}

/* Two configurations do not share what they trust. */
static void test_each_configuration_for_itself(void **state) {
  (void)state;
  struct tls_config *stranger = NULL;
  assert_false(resumes("localhost", 1));
  assert_int_equal(tls_config_client(&stranger, NULL, NULL), 0);
  assert_int_equal(connect_to(stranger, "localhost", 1, server),
                   DSTREAM_EVERIFY);
  hang_up();
  tls_config_free(stranger);
}

/* A restarted hub, or one that reread its certificate. */
static void test_server_that_lost_its_keys(void **state) {
  (void)state;
  assert_false(resumes("localhost", 1));
  tls_config_free(server);
  server = new_server(dir);
  assert_false(resumes("localhost", 1));
  assert_true(resumes("localhost", 1));
}

/* ... and has a certificate now that is not trusted. */
static void test_server_that_is_another(void **state) {
  (void)state;
  struct tls_config *other = new_server(other_dir);
  assert_false(resumes("localhost", 1));
  for (int i = 0; i < 2; i++) {
    assert_int_equal(connect_to(client, "localhost", 1, other),
                     DSTREAM_EVERIFY);
    hang_up();
  }
  tls_config_free(other);
}

static void test_configuration_goes_first(void **state) {
  (void)state;
  assert_int_equal(connect_to(client, "localhost", 1, server), 0);
  tls_config_free(client);
  client = NULL;
  hang_up();
}

static void test_count_is_bounded(void **state) {
  (void)state;
  for (uint16_t port = 1; port <= TLS_SESSIONS_MAX; port++)
    assert_false(resumes("localhost", port));
  assert_true(resumes("localhost", 1)); /* used again: not the oldest */
  assert_false(resumes("localhost", 1000));
  assert_true(resumes("localhost", 1));
  assert_true(resumes("localhost", 3));
  assert_false(resumes("localhost", 2)); /* the oldest went */
}

static SSL_SESSION *new_session(void) {
  SSL_SESSION *session = SSL_SESSION_new();
  assert_non_null(session);
  assert_int_equal(SSL_SESSION_set1_id(session, (const uint8_t *)"id", 2), 1);
  return session;
}

static void test_store(void **state) {
  (void)state;
  int64_t verified_s = 0;
  SSL_SESSION *session = new_session();
  struct tls_sessions *store = tls_sessions_new();
  assert_null(tls_sessions_get(store, "a", 1, 100, &verified_s));
  for (uint16_t i = 0; i < 3 * TLS_SESSIONS_MAX; i++)
    tls_sessions_put(store, "a", i, session, 100);
  assert_int_equal(tls_sessions_count(store), TLS_SESSIONS_MAX);
  for (int i = 0; i < 10; i++)
    tls_sessions_put(store, "b", 1, session, 200 + i); /* the newest counts */
  assert_int_equal(tls_sessions_count(store), TLS_SESSIONS_MAX);
  SSL_SESSION_free(tls_sessions_get(store, "b", 1, 210, &verified_s));
  assert_int_equal(verified_s, 209);
  tls_sessions_release(tls_sessions_share(store));
  assert_int_equal(tls_sessions_count(store), TLS_SESSIONS_MAX);
  tls_sessions_release(store);
  SSL_SESSION_free(session);
}

/* The certificate is looked at again after a while, also when the clock goes
 * backwards. */
static void test_trust_has_an_end(void **state) {
  (void)state;
  const int64_t then = 1000000;
  const int64_t times[] = {then + TLS_SESSION_TRUST_S, then - 1};
  int64_t verified_s = 0;
  SSL_SESSION *session = new_session();
  struct tls_sessions *store = tls_sessions_new();
  for (int i = 0; i < 2; i++) {
    tls_sessions_put(store, "a", 1, session, then);
    SSL_SESSION *got = tls_sessions_get(
        store, "a", 1, then + TLS_SESSION_TRUST_S - 1, &verified_s);
    assert_non_null(got);
    SSL_SESSION_free(got);
    assert_int_equal(verified_s, then);
    assert_null(tls_sessions_get(store, "a", 1, times[i], &verified_s));
    assert_int_equal(tls_sessions_count(store), 0);
  }
  tls_sessions_release(store);
  SSL_SESSION_free(session);
}

/* A renewed session is as old as its certificate's verification. */
static void test_renewal_is_no_verification(void **state) {
  (void)state;
  assert_false(resumes("localhost", 1));
  for (clock_ahead = 600; clock_ahead < TLS_SESSION_TRUST_S; clock_ahead += 600)
    assert_true(resumes("localhost", 1));
  clock_ahead = TLS_SESSION_TRUST_S;
  assert_false(resumes("localhost", 1));
  assert_true(resumes("localhost", 1));
}

/* ---- group ---- */

static int make_certificates(char *folder) {
  if (mkdtemp(folder) == NULL)
    return -1;
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int status = certificate_create(fd, "localhost", NULL);
  close(fd);
  return status;
}

static int group_setup(void **state) {
  (void)state;
  return make_certificates(dir) == 0 ? make_certificates(other_dir) : -1;
}

static int group_teardown(void **state) {
  (void)state;
  static const char *const names[] = {"ca.pem", "ca-key.pem", "server.pem",
                                      "server-key.pem"};
  for (int i = 0; i < 4; i++) {
    unlink(file_in(dir, names[i]));
    unlink(file_in(other_dir, names[i]));
  }
  return rmdir(dir) == 0 ? rmdir(other_dir) : -1;
}

static int setup(void **state) {
  (void)state;
  clock_ahead = 0;
  client = new_client();
  server = new_server(dir);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  tls_config_free(client);
  tls_config_free(server);
  return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_second_goes_on),
      TEST(test_bytes_move),
      TEST(test_at_the_same_time),
      TEST(test_each_server_for_itself),
      TEST(test_wrong_name_is_refused),
      TEST(test_each_configuration_for_itself),
      TEST(test_server_that_lost_its_keys),
      TEST(test_server_that_is_another),
      TEST(test_configuration_goes_first),
      TEST(test_count_is_bounded),
      TEST(test_store),
      TEST(test_trust_has_an_end),
      TEST(test_renewal_is_no_verification),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
