/* tools/cli.h - what the programs have in common: where the connection string
 * comes from, how failures are told, signals, the log on stderr.
 *
 * Exit status of every program: 0 done, 1 failed, 2 wrong usage; one line on
 * stderr, "PROGRAM: what failed and what to do".
 */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include <dstream/loop.h>
#include <dstream/status.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* "dstream connect": what lines on stderr begin with. */
void cli_set_program(const char *program);

/* Prints "PROGRAM: text" on stderr, in one write. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints the line and what to do about it; returns CLI_USAGE. */
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints the end's text; returns CLI_FAILED. */
int cli_failed(const struct dstream_end *end);

/* Flushes stdout; CLI_FAILED, with a line on stderr, if what was printed could
 * not be written. */
int cli_printed(void);

/* Where it was told to look; NULL: not told. */
struct cli_source {
  const char *connection_string;      /* --connection-string */
  const char *connection_string_file; /* --connection-string-file; "-": stdin */
  const char *ca_file;                /* --ca-file */
};

/* The connection string: the one of the two options that is set (both are wrong
 * usage), then $DSTREAM_CONNECTION_STRING, which is overwritten and unset;
 * white space around it is cut off.  Of stdin one line is taken and no more is
 * read.  A file that everybody may read is warned of.  The caller frees it with
 * cli_forget.  NULL: none, or it can't be read; the line was printed,
 * *exit_status says CLI_USAGE or CLI_FAILED. */
char *cli_connection_string(const struct cli_source *source, int *exit_status);

/* Says so if everybody on this machine may read a file with a key in it. */
void cli_warn_readable(const char *path);

/* The CA file: the option, then $DSTREAM_CA_FILE, else NULL (system roots). */
const char *cli_ca_file(const struct cli_source *source);

/* Wipes and frees; NULL is fine. */
void cli_forget(char *secret);

/* Overwrites an argument in the process list, once it was copied; NULL is
 * fine. */
void cli_hide(char *argument);

/* A whole decimal number from min to max, nothing around it. */
bool cli_number(const char *text, unsigned min, unsigned max, unsigned *out);

/* Whether stderr is read by a service manager: $JOURNAL_STREAM says so. */
bool cli_to_journal(void);

/* A dstream_log_fn: "PROGRAM: text" on stderr; user is not used.  Under a
 * service manager that reads stderr ($JOURNAL_STREAM) a line begins with "<N>",
 * the level as sd-daemon(3) has it, instead of the program's name. */
void cli_log(void *user, enum dstream_log_level level, const char *text);

/* dstream_loop_new on libuv, on which an event costs the same however many idle
 * connections there are; on poll() where libwebsockets' plugin for it is not
 * installed. */
int cli_loop_new(dstream_loop **out,
                 const struct dstream_loop_options *options);

/* Has fn called on the loop's thread for each SIGINT, SIGTERM and SIGHUP that
 * comes (signalfd; the signals are blocked: call it before any thread is made).
 * SIGPIPE is ignored from now on.  DSTREAM_ESYSTEM, DSTREAM_ENOMEM. */
struct cli_signals;

/* Whether whoever started the program wants it to survive SIGHUP (nohup); fn is
 * called for it all the same. */
bool cli_hangup_ignored(const struct cli_signals *signals);

int cli_signals_new(struct cli_signals **out, dstream_loop *loop,
                    void (*fn)(void *user, int signal), void *user);
void cli_signals_free(struct cli_signals *signals);

#endif
