#include "net/settle.h"

#include <malloc.h>

#include "core/container.h"

/* Longer than a link that was closed waits for its peer. */
#define QUIET_MS 5500
/* Where it is never quiet: at least so often. */
#define WAITS_MAX 15
/* Fewer are not worth the walk through the heap. */
#define BURST 32

static void on_quiet(struct loop_timer *timer) {
  struct settle *settle = CONTAINER_OF(timer, struct settle, timer);
  if (settle->changes != settle->seen && settle->waits < WAITS_MAX) {
    settle->waits++;
    settle->seen = settle->changes;
    loop_timer_set(settle->loop, &settle->timer, QUIET_MS, on_quiet);
    return;
  }
#ifdef __GLIBC__ /* others return it by themselves, or have no call for it */
  if (settle->changes >= BURST)
    malloc_trim(0);
#endif
  settle->changes = settle->seen = settle->waits = 0;
}

void settle_begin(struct settle *settle, dstream_loop *loop) {
  settle->loop = loop;
}

void settle_note(struct settle *settle) {
  if (settle->changes++ > 0)
    return;
  settle->seen = settle->changes;
  loop_timer_set(settle->loop, &settle->timer, QUIET_MS, on_quiet);
}

void settle_end(struct settle *settle) {
  loop_timer_cancel(&settle->timer);
}
