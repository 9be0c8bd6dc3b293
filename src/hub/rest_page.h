/* hub/rest_page.h - one page of a list that has no order: the first entries
 * behind a cursor, by their keys. */
#ifndef HUB_REST_PAGE_H
#define HUB_REST_PAGE_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#define REST_PAGE_MAX 100

struct rest_page {
  const char *after; /* the cursor; "": from the first */
  size_t limit;      /* 1 to REST_PAGE_MAX */
  size_t count;      /* one more than limit: there is a next page */
  const char *keys[REST_PAGE_MAX + 1];
  cJSON *items[REST_PAGE_MAX];
};

/* Takes up a key if it belongs here; it is borrowed until rest_page_format. */
void rest_page_offer(struct rest_page *page, const char *key);

/* The place of a key for its item, or NULL: it is on another page. */
cJSON **rest_page_place(struct rest_page *page, const char *key);

/* {"NAME":[items],"cursor":"..."}; takes the items.  To be freed with
 * cJSON_free; NULL: out of memory, or an item is missing. */
char *rest_page_format(struct rest_page *page, const char *name);

#endif
