/* tools/screen.h - the terminal that stdout is, or is not. */
#ifndef TOOLS_SCREEN_H
#define TOOLS_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

#include <dstream/loop.h>
#include <dstream/status.h>

bool screen_is_terminal(void);

/* Characters of a line: $COLUMNS, then what the terminal says, then 80.  0: it
 * is no terminal, and there is no bound. */
size_t screen_width(void);

/* Lines; 24 where that is not known. */
size_t screen_height(void);

/* A terminal that knows colours, and nobody who wants none ($NO_COLOR). */
bool screen_has_colours(void);

/* ---- all of it, as top does ---- */

struct screen;

/* Another screen, where keys come one by one and are not shown; on_key is told
 * of each, on the loop.  stdout is a terminal.  What the terminal was is
 * restored by screen_close.  DSTREAM_ENOMEM. */
int screen_open(struct screen **out, dstream_loop *loop,
                void (*on_key)(void *user, char key), void *user);
/* Shows a text in the place of the last one: lines that are no longer than
 * screen_width; those that do not fit the height are left out.  False: stdout
 * can't be written. */
bool screen_show(struct screen *screen, const char *text);
/* NULL is fine. */
void screen_close(struct screen *screen);

#endif
