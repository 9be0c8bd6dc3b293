#include "tools/screen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "net/loop.h"
#include "tools/cli.h"

#define DEFAULT_WIDTH  80
#define DEFAULT_HEIGHT 24
#define SIZE_MAX_SANE  10000

/* ECMA-48, and xterm's: another screen, no cursor; and back. */
#define ENTER    "\033[?1049h\033[?25l"
#define LEAVE    "\033[?25h\033[?1049l"
#define HOME     "\033[H"
#define END_LINE "\033[K"
#define END_ALL  "\033[J"

bool screen_is_terminal(void) {
  return isatty(STDOUT_FILENO) == 1;
}

static bool ask(struct winsize *size) {
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, size) == 0;
}

static size_t from_environment(const char *name) {
  const char *text = getenv(name);
  unsigned value = 0;
  return text != NULL && cli_number(text, 1, SIZE_MAX_SANE, &value) ? value : 0;
}

size_t screen_width(void) {
  struct winsize size;
  size_t width = from_environment("COLUMNS");
  if (width > 0 || !screen_is_terminal())
    return width;
  return ask(&size) && size.ws_col > 0 ? size.ws_col : DEFAULT_WIDTH;
}

size_t screen_height(void) {
  struct winsize size;
  size_t height = from_environment("LINES");
  if (height > 0)
    return height;
  return ask(&size) && size.ws_row > 0 ? size.ws_row : DEFAULT_HEIGHT;
}

bool screen_has_colours(void) {
  const char *none = getenv("NO_COLOR");
  const char *terminal = getenv("TERM");
  return screen_is_terminal() && (none == NULL || none[0] == '\0') &&
         terminal != NULL && strcmp(terminal, "dumb") != 0;
}

/* ---- all of it ---- */

struct screen {
  struct loop_watch keys; /* first: on_keys */
  void (*on_key)(void *user, char key);
  void *user;
  bool has_old;
  struct termios old;
};

static bool put(const char *text, size_t len) {
  while (len > 0) {
    ssize_t n = write(STDOUT_FILENO, text, len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    text += n;
    len -= (size_t)n;
  }
  return true;
}

static void on_keys(struct loop_watch *watch, unsigned events) {
  struct screen *screen = (struct screen *)watch;
  char keys[64];
  if ((events & LOOP_READ) == 0)
    return;
  ssize_t n = read(watch->fd, keys, sizeof keys);
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
    loop_watch_want(watch, 0);
  for (ssize_t i = 0; i < n; i++)
    screen->on_key(screen->user, keys[i]);
}

/* An open file of its own: stdin's flags are shared with whoever gave it.
 * Without a terminal to read from there are no keys; ^C is a signal. */
static void watch_keys(struct screen *screen, dstream_loop *loop) {
  int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);
  if (fd >= 0 &&
      loop_watch_start(loop, &screen->keys, fd, on_keys) == DSTREAM_OK)
    loop_watch_want(&screen->keys, LOOP_READ);
}

/* ^Z would leave the terminal as it is here. */
static void set_terminal(struct screen *screen) {
  struct termios now;
  if (tcgetattr(STDOUT_FILENO, &screen->old) != 0)
    return;
  screen->has_old = true;
  now = screen->old;
  now.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
  now.c_cc[VMIN] = 1;
  now.c_cc[VTIME] = 0;
  now.c_cc[VSUSP] = _POSIX_VDISABLE;
  tcsetattr(STDOUT_FILENO, TCSADRAIN, &now);
}

int screen_open(struct screen **out, dstream_loop *loop,
                void (*on_key)(void *user, char key), void *user) {
  struct screen *screen = calloc(1, sizeof *screen);
  if (screen == NULL)
    return DSTREAM_ENOMEM;
  screen->on_key = on_key;
  screen->user = user;
  set_terminal(screen);
  watch_keys(screen, loop);
  put(ENTER, sizeof ENTER - 1);
  *out = screen;
  return DSTREAM_OK;
}

bool screen_show(struct screen *screen, const char *text) {
  char *all = NULL;
  size_t len = 0;
  (void)screen;
  FILE *out = open_memstream(&all, &len);
  if (out == NULL)
    return true; /* the next one may have memory */
  fputs(HOME, out);
  size_t rows = screen_height();
  for (size_t row = 0; row < rows && *text != '\0'; row++) {
    size_t line = strcspn(text, "\n");
    fprintf(out, "%s%.*s" END_LINE, row > 0 ? "\r\n" : "", (int)line, text);
    text += line + (text[line] == '\n');
  }
  fputs(END_ALL, out);
  bool ok = fclose(out) != 0 || put(all, len);
  free(all);
  return ok;
}

void screen_close(struct screen *screen) {
  if (screen == NULL)
    return;
  put(LEAVE, sizeof LEAVE - 1);
  if (screen->has_old)
    tcsetattr(STDOUT_FILENO, TCSADRAIN, &screen->old);
  loop_watch_close(&screen->keys);
  free(screen);
}
