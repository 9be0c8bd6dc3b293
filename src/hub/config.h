/* hub/config.h - hub.json: what an operator can set.
 *
 * One table, hub/config_option.h, holds every option with its type, its bounds,
 * its default and one line of explanation; it drives reading, writing and the
 * listing.  A key that is not in the table is an error, so that a misspelt
 * limit does not silently stay at its default.
 *
 * In a container an option may be set by a variable in the environment, which
 * goes before hub.json: limits.max_streams by DSTREAM_HUB_LIMITS_MAX_STREAMS.
 * Numbers are digits, names have a comma or a space between.
 */
#ifndef HUB_CONFIG_H
#define HUB_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <dstream/status.h>

#include "hub/log.h"

#define CONFIG_FILE        "hub.json"
#define CONFIG_ENVIRONMENT "DSTREAM_HUB_"
#define CONFIG_FILE_MAX    65536
#define CONFIG_TEXT_SIZE   256
#define CONFIG_ALIAS_MAX   7

struct config_limits {
  unsigned max_streams;
  unsigned max_streams_per_device;
  unsigned max_pending;
  unsigned max_pending_per_device;
  unsigned max_connections;
  unsigned max_http_connections;
  unsigned requests_per_second;
  unsigned request_burst;
  unsigned max_body_bytes;
  unsigned head_seconds;
  unsigned handshake_seconds;
  unsigned keepalive_seconds;
  unsigned idle_seconds;
  unsigned lifetime_seconds;
  unsigned drain_seconds;
};

struct config {
  char host[CONFIG_TEXT_SIZE];
  char aliases[CONFIG_ALIAS_MAX][CONFIG_TEXT_SIZE];
  size_t alias_count;
  char bind_address[CONFIG_TEXT_SIZE]; /* empty: every address */
  unsigned https_port;
  unsigned mqtt_port;
  char certificate_file[CONFIG_TEXT_SIZE]; /* all files: relative to DIR */
  char key_file[CONFIG_TEXT_SIZE];
  char device_ca_file[CONFIG_TEXT_SIZE]; /* empty: none */
  char database_file[CONFIG_TEXT_SIZE];
  char broker_program[CONFIG_TEXT_SIZE];
  unsigned log_level;                  /* enum dstream_log_level */
  unsigned log_parts[LOG_PARTS];       /* 0: log_level; see config_log_level */
  char activity_log[CONFIG_TEXT_SIZE]; /* "-": stdout; empty: none */
  bool metrics_enabled;
  char metrics_bind[CONFIG_TEXT_SIZE];
  unsigned metrics_port; /* 0: any free port */
  bool page_enabled;
  struct config_limits limits;
};

/* Every option at its default; host is empty. */
void config_defaults(struct config *config);

/* Reads the text of a hub.json.  0; DSTREAM_EFORMAT: error (may be NULL) names
 * the key by its path, such as "limits.max_streams", and says what is allowed;
 * DSTREAM_ENOMEM.  *config is undefined after a failure. */
int config_parse(struct config *config, const char *text, size_t len,
                 struct dstream_end *error);

/* Applies the variables of an environment ("NAME=VALUE", NULL at the end; NULL:
 * none) that begin with "DSTREAM_HUB_".  DSTREAM_EFORMAT: error names the one
 * that is wrong or that no option has; but those that Kubernetes makes for a
 * service named "dstream-hub" are left alone. */
int config_override(struct config *config, char *const *environment,
                    struct dstream_end *error);

/* Reads a file, then the environment.  Besides the above DSTREAM_ENOTFOUND:
 * there is no file; DSTREAM_ESYSTEM; DSTREAM_ELIMIT: larger than
 * CONFIG_FILE_MAX. */
int config_load(struct config *config, const char *path,
                char *const *environment, struct dstream_end *error);

/* Writes every option as JSON that config_parse takes; to be freed by the
 * caller.  NULL: out of memory. */
char *config_format(const struct config *config);

/* The level that a part of the hub logs at. */
enum dstream_log_level config_log_level(const struct config *config,
                                        enum log_part part);

/* How many descriptors a hub with these limits may come to need. */
unsigned config_descriptors(const struct config *config);

/* Every option with what is allowed, its default, what it does and its
 * variable. */
enum config_list_form {
  CONFIG_LIST_TEXT,    /* three lines for each, two of them indented */
  CONFIG_LIST_JSON,    /* an array of objects */
  CONFIG_LIST_MARKDOWN /* a table */
};
/* DSTREAM_ENOMEM. */
int config_list(FILE *out, enum config_list_form form);

/* Whether a text can be a hub's host name: 1 to 253 letters, digits, "-", "."
 * and "_". */
int config_host_valid(const char *host);

#endif
