/* dstream_load MODE FIRST COUNT - see load.h.  `dstream_load now` prints the
 * monotonic clock. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/conn_string.h"
#include "core/crypto.h"
#include "load.h"
#include "net/loop_uv.h"

#define LINE_SIZE 256

static const struct load_mode *const modes[] = {&load_streams, &load_devices};

static struct {
  dstream_loop *loop;
  const struct load_mode *mode;
  struct loop_watch input;
  char line[LINE_SIZE];
  size_t len;
} load;

void load_fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "dstream_load: ");
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  exit(1);
}

const char *load_environment(const char *name) {
  const char *value = getenv(name);
  if (value == NULL)
    load_fail("%s is not set", name);
  return value;
}

void load_say(const char *format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line - 1, format, args);
  va_end(args);
  size_t len = n < 0 ? 0 : (size_t)n;
  if (len > sizeof line - 2)
    len = sizeof line - 2;
  line[len++] = '\n';
  if (write(STDOUT_FILENO, line, len) != (ssize_t)len)
    load_fail("can't write: %s", strerror(errno));
}

/* The connection string of one device of the group; wiped by the caller. */
static void device_string(unsigned number, char *out, size_t size) {
  uint8_t group[64];
  uint8_t key[CRYPTO_SHA256_LEN];
  char id[CONN_STRING_ID_MAX + 1];
  size_t group_len = 0;
  struct conn_string model;
  struct dstream_end end;
  const char *text = load_environment("DSTREAM_LOAD_KEY");
  if (crypto_base64_decode(text, strlen(text), group, sizeof group,
                           &group_len) != DSTREAM_OK)
    load_fail("DSTREAM_LOAD_KEY is no key");
  if (conn_string_parse(&model, load_environment("DSTREAM_LOAD_DEVICE"),
                        CONN_STRING_DEVICE, &end) != DSTREAM_OK)
    load_fail("DSTREAM_LOAD_DEVICE: %s", end.text);
  size_t prefix = strcspn(model.device_id, "-");
  snprintf(id, sizeof id, "%.*s-%u", (int)prefix, model.device_id, number);
  if (crypto_hmac_sha256(group, group_len, id, strlen(id), key) != DSTREAM_OK)
    load_fail("no key can be made");
  struct conn_string device = model;
  device.device_id = id;
  device.key = key;
  device.key_len = sizeof key;
  if (conn_string_format(&device, out, size) < 0)
    load_fail("the connection string is too long");
  conn_string_clear(&model);
  crypto_wipe(group, sizeof group);
  crypto_wipe(key, sizeof key);
}

dstream_device *load_device(const struct load_device_options *given,
                            unsigned number,
                            const struct dstream_device_callbacks *callbacks,
                            void *user) {
  char text[CONN_STRING_MAX];
  device_string(number, text, sizeof text);
  const struct dstream_device_options options = {
      .size = sizeof options,
      .connection_string = text,
      .loop = given->loop,
      .max_streams = given->max_streams,
      .max_requests = 512,
      .tls = {.size = sizeof options.tls,
              .ca_file = load_environment("DSTREAM_CA_FILE")},
  };
  dstream_device *device = NULL;
  struct dstream_end end;
  if (dstream_device_new(&device, &options, callbacks, user, &end) !=
      DSTREAM_OK)
    load_fail("%s", end.text);
  crypto_wipe(text, sizeof text);
  return device;
}

/* ---- commands ---- */

static void take_input(const char *data, size_t len) {
  for (size_t i = 0; i < len; i++) {
    if (data[i] != '\n') {
      if (load.len == sizeof load.line - 1)
        load_fail("a command is too long");
      load.line[load.len++] = data[i];
      continue;
    }
    load.line[load.len] = '\0';
    load.len = 0;
    if (load.mode->command == NULL)
      load_fail("there are no commands: %s", load.line);
    load.mode->command(load.line);
  }
}

/* The end of stdin is the end of the program: nothing is closed in an orderly
 * way, as when a machine is switched off. */
static void on_input(struct loop_watch *watch, unsigned events) {
  (void)events;
  char data[LINE_SIZE];
  ssize_t n = read(watch->fd, data, sizeof data);
  if (n > 0)
    take_input(data, (size_t)n);
  else if (n == 0 || (errno != EAGAIN && errno != EINTR))
    exit(0);
}

static void on_log(void *user, enum dstream_log_level level, const char *text) {
  (void)user;
  (void)level;
  fprintf(stderr, "%s\n", text);
}

static unsigned number_of(const char *text) {
  char *end = NULL;
  unsigned long value = strtoul(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value > 1000000)
    load_fail("%s is no number", text);
  return (unsigned)value;
}

static void run(unsigned first, unsigned count) {
  const struct dstream_loop_options options = {
      .size = sizeof options, .log = on_log, .log_level = DSTREAM_LOG_ERROR};
  int fd = dup(STDIN_FILENO);
  int status = loop_new(&load.loop, &options, loop_uv_backend());
  if (status == DSTREAM_OK)
    status = loop_watch_start(load.loop, &load.input, fd, on_input);
  if (status != DSTREAM_OK)
    load_fail("no loop: %s", dstream_status_text(status));
  loop_watch_want(&load.input, LOOP_READ);
  load.mode->start(load.loop, first, count);
  dstream_loop_run(load.loop);
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "now") == 0) {
    printf("%llu\n", (unsigned long long)loop_now_ms());
    return 0;
  }
  for (size_t i = 0; argc == 4 && i < sizeof modes / sizeof *modes; i++) {
    if (strcmp(argv[1], modes[i]->name) == 0)
      load.mode = modes[i];
  }
  if (load.mode == NULL) {
    fprintf(stderr, "usage: dstream_load streams|devices FIRST COUNT\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  run(number_of(argv[2]), number_of(argv[3]));
  return 0;
}
