/* hub/page_files.h - the files of the status page, as cmake/page.cmake puts
 * them into the program. */
#ifndef HUB_PAGE_FILES_H
#define HUB_PAGE_FILES_H

#include <stddef.h>

struct page_file {
  const char *name; /* in hub/page/, such as "page.css" */
  const char *etag; /* quoted; of what is in it */
  const unsigned char *data;
  size_t len;
};

#define PAGE_FILES_COUNT 4
extern const struct page_file page_files[PAGE_FILES_COUNT];

#endif
