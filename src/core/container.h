/* core/container.h - from an embedded member back to what embeds it. */
#ifndef CORE_CONTAINER_H
#define CORE_CONTAINER_H

#include <stddef.h>

/* The struct of `type` whose `member` is at `pointer`. */
#define CONTAINER_OF(pointer, type, member)                                    \
  ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
