#include "hub/broker_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct text {
  char *p;
  size_t size;
  size_t len;
  bool full;
};

static void add(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text->p + text->len, text->size - text->len, format, args);
  va_end(args);
  if (n < 0 || (size_t)n >= text->size - text->len)
    text->full = true;
  else
    text->len += (size_t)n;
}

static void set_default(unsigned *option, unsigned value) {
  if (*option == 0)
    *option = value;
}

void broker_options_defaults(struct broker_options *options) {
  if (options->directory == NULL || options->directory[0] == '\0')
    options->directory = ".";
  if (options->identities == NULL)
    options->identities = "identities.db";
  set_default(&options->max_clients, 10000);
  set_default(&options->max_packet_bytes, 270336);
  /* A storm of devices must not cost the hub's client what it is told. */
  set_default(&options->max_queued,
              options->max_clients > 500 ? 4 * options->max_clients : 2000);
  set_default(&options->token_grace_s, 60);
  set_default(&options->takeover_limit, 5);
  set_default(&options->takeover_window_ms, 10000);
  set_default(&options->takeover_pause_ms, 10000);
}

/* A value ends at its line's end, and could bring further lines. */
static bool value_valid(const char *value) {
  for (const char *p = value; *p != '\0'; p++) {
    if ((unsigned char)*p < 0x20 || *p == 0x7f)
      return false;
  }
  return *value != '\0';
}

static bool options_valid(const struct broker_options *options) {
  if (!value_valid(options->plugin) || !value_valid(options->identities) ||
      options->names.count == 0 || options->names.count > IDENTITY_NAMES_MAX)
    return false;
  for (size_t i = 0; i < options->names.count; i++) {
    const char *name = options->names.name[i];
    if (!value_valid(name) || strpbrk(name, ", /") != NULL)
      return false;
  }
  return true;
}

static void add_global(struct text *text,
                       const struct broker_options *options) {
  add(text, "# Written by dstream-hub at each start; changes are lost.\n"
            "per_listener_settings true\n"
            "persistence false\n"
            "log_dest stderr\n"
            "log_timestamp false\n"
            "log_type error\n"
            "log_type warning\n"
            "log_type notice\n"
            "log_type information\n"
            "connection_messages true\n"
            "sys_interval 0\n"
            "queue_qos0_messages false\n"
            "max_inflight_messages 20\n"
            "persistent_client_expiration 1h\n");
  /* Otherwise mosquitto, started by root, becomes a user who may not read the
   * hub's folder. */
  if (geteuid() == 0)
    add(text, "user root\n");
  add(text, "max_packet_size %u\nmax_queued_messages %u\n",
      options->max_packet_bytes, options->max_queued);
}

static void add_listener(struct text *text,
                         const struct broker_options *options,
                         const char *secret, const char *socket_path,
                         const char *role, unsigned connections) {
  add(text,
      "\nlistener 0 %s\n"
      "allow_anonymous false\n"
      "allow_zero_length_clientid false\n"
      "max_connections %u\n"
      "max_qos 1\n"
      "plugin %s\n"
      "plugin_opt_role %s\n"
      "plugin_opt_secret %s\n"
      "plugin_opt_identities %s\n",
      socket_path, connections, options->plugin, role, secret,
      options->identities);
  add(text, "plugin_opt_names ");
  for (size_t i = 0; i < options->names.count; i++)
    add(text, "%s%s", i > 0 ? "," : "", options->names.name[i]);
  add(text,
      "\nplugin_opt_max_clients %u\n"
      "plugin_opt_token_grace_s %u\n"
      "plugin_opt_takeover_limit %u\n"
      "plugin_opt_takeover_window_ms %u\n"
      "plugin_opt_takeover_pause_ms %u\n",
      options->max_clients, options->token_grace_s, options->takeover_limit,
      options->takeover_window_ms, options->takeover_pause_ms);
}

int broker_config_text(const struct broker_options *options, const char *secret,
                       char *out, size_t size) {
  if (!options_valid(options))
    return DSTREAM_EINVAL;
  struct text text = {.p = out, .size = size};
  add_global(&text, options);
  add_listener(&text, options, secret, BROKER_DEVICE_SOCKET, "device",
               options->max_clients);
  /* The hub's client, its next connection, and the probes at the start. */
  add_listener(&text, options, secret, BROKER_HUB_SOCKET, "hub", 16);
  return text.full ? DSTREAM_ELIMIT : (int)text.len;
}

static bool write_all(int fd, const char *text, size_t len) {
  while (len > 0) {
    ssize_t n = write(fd, text, len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    text += n;
    len -= (size_t)n;
  }
  return true;
}

int broker_config_write(const char *path, const char *text, size_t len) {
  char next[1100];
  int n = snprintf(next, sizeof next, "%s.new", path);
  if (n < 0 || (size_t)n >= sizeof next) {
    errno = ENAMETOOLONG;
    return DSTREAM_ESYSTEM;
  }
  unlink(next);
  int fd = open(next, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0)
    return DSTREAM_ESYSTEM;
  bool written = write_all(fd, text, len);
  if (close(fd) == 0 && written && rename(next, path) == 0)
    return DSTREAM_OK;
  int error = errno;
  unlink(next);
  errno = error;
  return DSTREAM_ESYSTEM;
}
