/* tools/agent_config.h - agent.json: what an agent serves, and how.
 *
 * One table in agent_config.c holds every option with its type, its bounds, its
 * default and one line of explanation; it drives reading the file, the command
 * line and the help text.  A key that is not in the table is an error, so that
 * a misspelt limit does not silently stay at its default.
 */
#ifndef TOOLS_AGENT_CONFIG_H
#define TOOLS_AGENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <dstream/proxy.h>
#include <dstream/status.h>

#define AGENT_CONFIG_FILE_MAX 1048576
#define AGENT_CONFIG_TEXT_MAX 4096
#define AGENT_ENTRIES_MAX     4096 /* targets, and patterns */

struct agent_target {
  char *name;
  char *address;
  unsigned max_streams; /* 0: what all of them may have together */
  unsigned idle_s;      /* 0: as for all */
  unsigned total_s;
};

/* Texts that were not set are NULL. */
struct agent_config {
  char *connection_string_file; /* as it is to be opened, as all files */
  char *ca_file;
  char *cert_file;
  char *key_file;
  char *http_proxy; /* may hold a password */
  bool mqtt_over_websocket;
  unsigned log_level; /* enum dstream_log_level */
  unsigned max_requests;

  struct agent_target *targets;
  size_t target_count;
  char **allow;
  size_t allow_count;
  unsigned max_streams;
  unsigned max_rate;
  unsigned burst;  /* 0: twice max_rate */
  unsigned idle_s; /* 0: never */
  unsigned total_s;
  unsigned connect_timeout_s;
};

/* Every option at its default; nothing is served. */
void agent_config_defaults(struct agent_config *config);

/* Frees what is inside; also of one that was half read. */
void agent_config_clear(struct agent_config *config);

/* Puts the text of an agent.json over what is there; files in it are relative
 * to folder.  0; DSTREAM_EFORMAT: error (may be NULL) names the key by its
 * path, such as "targets.ssh.maxStreams", and says what is allowed;
 * DSTREAM_ENOMEM. After a failure *config is good for agent_config_clear only.
 */
int agent_config_parse(struct agent_config *config, const char *text,
                       size_t len, const char *folder,
                       struct dstream_end *error);

/* Reads a file; the error begins with its path.  Besides the above
 * DSTREAM_ENOTFOUND, DSTREAM_ESYSTEM, DSTREAM_ELIMIT: it is larger than
 * AGENT_CONFIG_FILE_MAX. */
int agent_config_load(struct agent_config *config, const char *path,
                      struct dstream_end *error);

/* DSTREAM_EFORMAT: the name is there already, or name or address is none. */
int agent_config_add_target(struct agent_config *config, const char *name,
                            const char *address, struct dstream_end *error);
int agent_config_add_allow(struct agent_config *config, const char *pattern,
                           struct dstream_end *error);

/* What may be set by command line too: the i-th option's flag without "--", and
 * whether it takes a value.  NULL: there is none, or the command line has its
 * own way for it.  i counts from 0 to agent_config_count() - 1. */
size_t agent_config_count(void);
const char *agent_config_flag(size_t i, bool *takes_value);
/* Sets it; a flag that takes no value is set whatever the text. */
int agent_config_set(struct agent_config *config, size_t i, const char *text,
                     struct dstream_end *error);

/* The key of the i-th option if it differs between the two and only a restart
 * brings it into effect; otherwise NULL. */
const char *agent_config_needs_restart(size_t i, const struct agent_config *a,
                                       const struct agent_config *b);

/* For dstream_targets_new and _replace: pointers into *config and into *table,
 * an array to be freed by the caller.  DSTREAM_ENOMEM. */
int agent_config_targets(const struct agent_config *config,
                         struct dstream_targets_options *options,
                         struct dstream_target **table);

/* Two lines for each option: key, what is allowed, default; what it does. */
void agent_config_help(FILE *out);

#endif
