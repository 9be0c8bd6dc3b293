/* hub/config_option.h - the table of all options of hub.json.
 *
 * What reads hub.json, the environment's overrides, what is written by `init`,
 * the listing of `dstream-hub options` and the manuals' tables are all made
 * from it.
 */
#ifndef HUB_CONFIG_OPTION_H
#define HUB_CONFIG_OPTION_H

#include <stddef.h>

#include <cjson/cJSON.h>

#include "hub/config.h"

enum config_type {
  CONFIG_NUMBER,
  CONFIG_FLAG, /* true or false */
  CONFIG_TEXT,
  CONFIG_HOST,    /* a text that is a host name */
  CONFIG_HOSTS,   /* a list of them */
  CONFIG_ADDRESS, /* a text that is an IP address */
  CONFIG_LEVEL    /* log level, by its name */
};

/* The two levels of keys there are: at the top, and within a group. */
struct config_option {
  const char *group; /* such as "limits"; NULL: at the top */
  const char *key;
  enum config_type type;
  size_t offset;     /* in struct config */
  unsigned min, max; /* of a number; min of a text: 1 if it can't be empty */
  unsigned number;   /* default; of a flag, too */
  const char *text;  /* default; of names: with a space between; NULL: there is
                        none, it must be given */
  const char
      *meaning; /* for a person, in one line; of a limit: what it bounds */
};

/* The option of that index, from 0 on; NULL: there are no more. */
const struct config_option *config_option_at(size_t index);

/* group NULL: at the top.  NULL: there is none. */
const struct config_option *config_option_find(const char *group,
                                               const char *key);

/* The name as it stands in the table; NULL: there is no such group. */
const char *config_group_find(const char *name);

/* "limits.max_streams", and "DSTREAM_HUB_LIMITS_MAX_STREAMS". */
#define CONFIG_NAME_SIZE 80
void config_option_path(const struct config_option *option,
                        char out[CONFIG_NAME_SIZE]);
void config_option_variable(const struct config_option *option,
                            char out[CONFIG_NAME_SIZE]);

/* "a whole number from 0 to 65535": what is allowed, after "must be". */
void config_option_allowed(const struct config_option *option, char *out,
                           size_t size);

void config_option_default(const struct config_option *option,
                           struct config *config);

/* False: the item is not what is allowed. */
bool config_option_read(const struct config_option *option, const cJSON *item,
                        struct config *config);

/* NULL: out of memory. */
cJSON *config_option_write(const struct config_option *option,
                           const struct config *config);

/* What a text, from the environment, says: "443", "true", "a.example,b.example"
 * or a text itself; to be deleted by the caller.  NULL: it is no number, or
 * neither true nor false; or out of memory. */
cJSON *config_option_item(const struct config_option *option, const char *text);

#endif
