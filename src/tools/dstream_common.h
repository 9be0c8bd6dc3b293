/* tools/dstream_common.h - what the commands of dstream have in common: their
 * options, what a device is written as, loop and service, how they end.
 */
#ifndef TOOLS_DSTREAM_COMMON_H
#define TOOLS_DSTREAM_COMMON_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dstream/loop.h>
#include <dstream/service.h>

#include "core/address.h"
#include "tools/cli.h"

/* ---- options ---- */

/* Zeroed at first.  They may stand before the command's name and behind it. */
struct common_options {
  struct cli_source source;
  char *connection_string; /* the argument, to hide */
  char *http_proxy;
  unsigned verbose; /* how often -v was said */
  bool quiet;
};

/* Prints it, and after it what every command's help ends with. */
void common_print_help(const char *help);

/* Behind the values of a command's own options. */
enum { COMMON_OPTION = 512, COMMON_WORD = 1 };

/* One of the command's own options, or COMMON_WORD: value is no option.  They
 * come in the order in which they were written.  CLI_DONE: go on. */
typedef int common_take_fn(void *user, int option, char *value);

/* The help was printed: the command is done. */
#define COMMON_HELPED (-1)

/* Reads argv[1] and on.  `stop`: up to the first word, whose index in argv is
 * *next.  own: the command's options, ended by a zeroed one; 16 at most.
 * CLI_DONE, COMMON_HELPED, or CLI_USAGE after a line on stderr. */
struct common_syntax {
  void (*print_help)(void);
  const struct option *own;
  common_take_fn *take;
  void *user;
  bool stop;
  const char *letters; /* the command's own options of one letter, as for
                          getopt; NULL: none */
};
int common_parse(struct common_options *common,
                 const struct common_syntax *syntax, int argc, char **argv,
                 int *next);

/* A decimal number within bounds; otherwise a line on stderr and CLI_USAGE. */
int common_number(const char *option, const char *text, unsigned least,
                  unsigned most, unsigned *out);

/* ---- what is asked for ---- */

#define COMMON_ID_SIZE 129

/* "DEVICE" or "DEVICE/MODULE" */
struct common_device {
  const char *text; /* as it was written */
  char id[COMMON_ID_SIZE];
  char module[COMMON_ID_SIZE]; /* "": none */
};
/* text is borrowed.  CLI_USAGE after a line on stderr. */
int common_device(struct common_device *out, const char *text);

/* Checks the name of a stream, or HOST:PORT, which it translates. */
int common_name(char out[ADDRESS_NAME_SIZE], const char *text);

/* ---- running ---- */

/* Zeroed at first. */
struct session {
  dstream_loop *loop;
  dstream_service *service;
  struct cli_signals *signals;
  void (*on_signal)(void *user, int signal);
  void *user;
  uint64_t start_ms;
  char hub[ADDRESS_TEXT_SIZE]; /* host and port, for messages */
};

/* Makes loop and service.  on_signal is told of SIGINT, SIGTERM and SIGHUP, of
 * the last only if the program was not started with it ignored (nohup).
 * CLI_DONE, or the exit status after a line on stderr. */
int session_open(struct session *session, struct common_options *common,
                 unsigned max_streams,
                 void (*on_signal)(void *user, int signal), void *user);

/* The same without a service; *text is the connection string, for cli_forget.
 */
int session_open_loop(struct session *session, struct common_options *common,
                      void (*on_signal)(void *user, int signal), void *user,
                      char **text);

/* Frees what is there.  Streams are aborted. */
void session_close(struct session *session);

/* Milliseconds since session_open. */
unsigned long long session_ms(const struct session *session);

/* Ends the process by the signal, so that a shell sees 128 + signal and a
 * parent how it was ended. */
void session_die(int signal);

/* Opens /dev/null where stdin, stdout or stderr is closed, lest a connection
 * get that number.  Returns whether stdout was open. */
bool common_sane_fds(void);

#endif
