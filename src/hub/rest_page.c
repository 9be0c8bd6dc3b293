#include "hub/rest_page.h"

#include <string.h>

void rest_page_offer(struct rest_page *page, const char *key) {
  size_t most = page->limit + 1;
  if (page->after[0] != '\0' && strcmp(key, page->after) <= 0)
    return;
  if (page->count == most && strcmp(key, page->keys[most - 1]) >= 0)
    return;
  if (page->count < most)
    page->count++;
  size_t i = page->count - 1;
  for (; i > 0 && strcmp(key, page->keys[i - 1]) < 0; i--)
    page->keys[i] = page->keys[i - 1];
  page->keys[i] = key;
}

static size_t item_count(const struct rest_page *page) {
  return page->count < page->limit ? page->count : page->limit;
}

cJSON **rest_page_place(struct rest_page *page, const char *key) {
  size_t low = 0;
  size_t high = item_count(page);
  while (low < high) {
    size_t middle = (low + high) / 2;
    int order = strcmp(key, page->keys[middle]);
    if (order == 0)
      return &page->items[middle];
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}

/* The list has all items, or they are freed. */
static bool move_items(struct rest_page *page, cJSON *list) {
  bool ok = list != NULL;
  for (size_t i = 0; i < item_count(page); i++) {
    cJSON *item = page->items[i];
    page->items[i] = NULL;
    ok = ok && item != NULL && cJSON_AddItemToArray(list, item);
    if (!ok)
      cJSON_Delete(item);
  }
  return ok;
}

char *rest_page_format(struct rest_page *page, const char *name) {
  cJSON *object = cJSON_CreateObject();
  cJSON *list = object == NULL ? NULL : cJSON_AddArrayToObject(object, name);
  char *text = NULL;
  bool ok = move_items(page, list);
  if (ok && page->count > page->limit)
    ok = cJSON_AddStringToObject(object, "cursor",
                                 page->keys[page->limit - 1]) != NULL;
  if (ok)
    text = cJSON_PrintUnformatted(object);
  cJSON_Delete(object);
  return text;
}
