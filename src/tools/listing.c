#include "tools/listing.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define GAP        2
#define CELL_MAX   512
#define BOLD       "\033[1m"
#define RED        "\033[31m"
#define AS_IT_WAS  "\033[0m"
#define CUT_MARK   '~'
#define FIRST_ROWS 64

struct row {
  char *cells[LISTING_COLUMNS_MAX];
  bool loud;
};

struct listing {
  const struct listing_column *columns;
  size_t column_count;
  size_t natural[LISTING_COLUMNS_MAX]; /* the widest there was */
  struct row *rows;
  size_t count;
  size_t room;
};

int listing_new(struct listing **out, const struct listing_column *columns,
                size_t count) {
  assert(count > 0 && count <= LISTING_COLUMNS_MAX);
  struct listing *listing = calloc(1, sizeof *listing);
  if (listing == NULL)
    return DSTREAM_ENOMEM;
  listing->columns = columns;
  listing->column_count = count;
  for (size_t i = 0; i < count; i++)
    listing->natural[i] = strlen(columns[i].title);
  *out = listing;
  return DSTREAM_OK;
}

static void row_clear(struct row *row) {
  for (size_t i = 0; i < LISTING_COLUMNS_MAX; i++)
    free(row->cells[i]);
  memset(row, 0, sizeof *row);
}

void listing_clear(struct listing *listing) {
  for (size_t i = 0; i < listing->count; i++)
    row_clear(&listing->rows[i]);
  listing->count = 0;
}

void listing_free(struct listing *listing) {
  if (listing == NULL)
    return;
  listing_clear(listing);
  free(listing->rows);
  free(listing);
}

size_t listing_count(const struct listing *listing) {
  return listing->count;
}

/* ---- rows ---- */

/* One column a byte: what is no ASCII, such as UTF-8, can't be. */
static char *clean_copy(const char *text) {
  char *copy = strndup(text, CELL_MAX);
  for (char *p = copy; p != NULL && *p != '\0'; p++)
    if (*p < ' ' || *p > '~')
      *p = '?';
  return copy;
}

static bool make_room(struct listing *listing) {
  if (listing->count < listing->room)
    return true;
  size_t room = listing->room == 0 ? FIRST_ROWS : listing->room * 2;
  struct row *rows = realloc(listing->rows, room * sizeof *rows);
  if (rows == NULL)
    return false;
  listing->rows = rows;
  listing->room = room;
  return true;
}

int listing_add(struct listing *listing, const char *const *cells, bool loud) {
  if (!make_room(listing))
    return DSTREAM_ENOMEM;
  struct row *row = &listing->rows[listing->count];
  memset(row, 0, sizeof *row);
  row->loud = loud;
  for (size_t i = 0; i < listing->column_count; i++) {
    row->cells[i] = clean_copy(cells[i]);
    if (row->cells[i] == NULL) {
      row_clear(row);
      return DSTREAM_ENOMEM;
    }
    size_t len = strlen(row->cells[i]);
    if (len > listing->natural[i])
      listing->natural[i] = len;
  }
  listing->count++;
  return DSTREAM_OK;
}

/* ---- fitting ---- */

/* Of the columns whose `mark` is set, the one with the highest rank, or with
 * the lowest. */
static size_t find(const struct listing *listing, const bool *mark,
                   bool highest) {
  size_t found = listing->column_count;
  for (size_t i = 0; i < listing->column_count; i++) {
    if (!mark[i])
      continue;
    if (found == listing->column_count ||
        (highest ? listing->columns[i].rank >= listing->columns[found].rank
                 : listing->columns[i].rank < listing->columns[found].rank))
      found = i;
  }
  return found;
}

static size_t least(const struct listing *listing, size_t i) {
  size_t bound = listing->columns[i].least;
  size_t natural = listing->natural[i];
  return bound == 0 || bound > natural ? natural : bound;
}

/* What the columns shown take at least, gaps included. */
static size_t sum(const struct listing *listing, const bool *shown,
                  size_t *shown_count) {
  size_t all = 0;
  *shown_count = 0;
  for (size_t i = 0; i < listing->column_count; i++) {
    if (!shown[i])
      continue;
    all += least(listing, i) + (*shown_count > 0 ? GAP : 0);
    (*shown_count)++;
  }
  return all;
}

/* Widths of the columns; 0: left out. */
static void fit(const struct listing *listing, size_t width,
                size_t widths[LISTING_COLUMNS_MAX]) {
  bool shown[LISTING_COLUMNS_MAX];
  size_t count = 0;
  for (size_t i = 0; i < listing->column_count; i++) {
    shown[i] = true;
    widths[i] = width == 0 ? listing->natural[i] : 0;
  }
  if (width == 0)
    return;
  size_t taken = sum(listing, shown, &count);
  while (taken > width && count > 1) {
    shown[find(listing, shown, true)] = false;
    taken = sum(listing, shown, &count);
  }
  size_t left = taken < width ? width - taken : 0;
  for (; count > 0; count--) {
    size_t i = find(listing, shown, false);
    size_t more = listing->natural[i] - least(listing, i);
    if (more > left)
      more = left;
    widths[i] = least(listing, i) + more;
    if (widths[i] > width)
      widths[i] = width;
    left -= more;
    shown[i] = false;
  }
}

/* ---- printing ---- */

static void put_spaces(FILE *out, size_t count) {
  while (count-- > 0)
    fputc(' ', out);
}

static void put_cell(const struct listing_column *column, FILE *out,
                     const char *text, size_t width, bool last) {
  size_t len = strlen(text);
  if (len > width) {
    size_t whole = column->plain || width == 0 ? width : width - 1;
    fprintf(out, "%.*s", (int)whole, text);
    if (whole < width)
      fputc(CUT_MARK, out);
    return;
  }
  if (column->right)
    put_spaces(out, width - len);
  fputs(text, out);
  if (!column->right && !last)
    put_spaces(out, width - len);
}

/* cells NULL: the titles. */
static void put_row(const struct listing *listing, FILE *out,
                    const size_t *widths, char *const *cells,
                    const char *colour) {
  size_t last = 0;
  bool begun = false;
  for (size_t i = 0; i < listing->column_count; i++)
    if (widths[i] > 0 && (cells == NULL || cells[i][0] != '\0'))
      last = i; /* no blanks behind it */
  if (colour != NULL)
    fputs(colour, out);
  for (size_t i = 0; i <= last; i++) {
    if (widths[i] == 0)
      continue;
    if (begun)
      put_spaces(out, GAP);
    begun = true;
    put_cell(&listing->columns[i], out,
             cells == NULL ? listing->columns[i].title : cells[i], widths[i],
             i == last);
  }
  fputs(colour != NULL ? AS_IT_WAS "\n" : "\n", out);
}

void listing_print(const struct listing *listing, FILE *out,
                   const struct listing_style *style) {
  size_t widths[LISTING_COLUMNS_MAX] = {0};
  size_t count = listing->count;
  fit(listing, style->width, widths);
  if (style->titles)
    put_row(listing, out, widths, NULL, style->colours ? BOLD : NULL);
  if (style->rows_max > 0 && style->rows_max < count)
    count = style->rows_max;
  for (size_t i = 0; i < count; i++)
    put_row(listing, out, widths, listing->rows[i].cells,
            style->colours && listing->rows[i].loud ? RED : NULL);
}
