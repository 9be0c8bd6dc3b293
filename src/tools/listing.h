/* tools/listing.h - a table for people, which fits the width it is given.
 *
 * Columns are as wide as what is in them.  Where there is no room for all,
 * those that may be are cut, the least important first, and when that is not
 * enough the least important are left out.  A line is never longer than the
 * width.
 */
#ifndef TOOLS_LISTING_H
#define TOOLS_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <dstream/status.h>

#define LISTING_COLUMNS_MAX 12

struct listing_column {
  const char *title;
  unsigned rank; /* 0: the most important */
  size_t least;  /* it may be cut to so many characters; 0: it is not cut */
  bool right;    /* aligned, as numbers are */
  bool plain;    /* cut without a mark: the begin of an id is good for it */
};

struct listing;

/* columns: borrowed, LISTING_COLUMNS_MAX at most.  DSTREAM_ENOMEM. */
int listing_new(struct listing **out, const struct listing_column *columns,
                size_t count);
/* NULL is fine. */
void listing_free(struct listing *listing);

/* Adds a row: a text for each column, copied, made printable ASCII.  loud: it
 * is printed in red where there are colours.  DSTREAM_ENOMEM. */
int listing_add(struct listing *listing, const char *const *cells, bool loud);

size_t listing_count(const struct listing *listing);

/* Forgets the rows.  Columns do not become narrower again, so that what is
 * printed page by page stays in its columns. */
void listing_clear(struct listing *listing);

struct listing_style {
  size_t width;    /* 0: no bound */
  size_t rows_max; /* 0: all */
  bool titles;     /* begins with the columns' titles */
  bool colours;
};
void listing_print(const struct listing *listing, FILE *out,
                   const struct listing_style *style);

#endif
