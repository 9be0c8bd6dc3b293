/* tools/agent_options.h - the command line of dstream-agent. */
#ifndef TOOLS_AGENT_OPTIONS_H
#define TOOLS_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include <dstream/status.h>

#include "tools/agent_config.h"
#include "tools/cli.h"

/* Pointers into argv, but for `given`. */
struct agent_options {
  struct cli_source source;
  char *secret; /* the argument to hide once it was used; NULL: none */
  const char *config_file;
  bool check;
  unsigned log_level; /* 0: not told */

  const char **targets; /* "NAME=ADDRESS" */
  size_t target_count;
  const char **allow;
  size_t allow_count;
  char **given; /* by agent_config_flag's number; NULL: not told */
};

/* CLI_DONE; CLI_USAGE after a line on stderr; -1: help was asked for and
 * printed, there is nothing to do.  Clear it in any case. */
int agent_options_parse(struct agent_options *options, int argc, char **argv);
void agent_options_clear(struct agent_options *options);

/* Defaults, the file's, the command line's, in this order.  *config is empty
 * after a failure; statuses as in agent_config_load. */
int agent_options_config(const struct agent_options *options,
                         struct agent_config *config,
                         struct dstream_end *error);

#endif
