#include "net/loop_uv.h"

#include <stdlib.h>

#include <libwebsockets.h>
#include <uv.h>

struct uv_library {
  uv_loop_t loop; /* first: libwebsockets is given a pointer to it */
  uv_timer_t timer;
};

static int uv_create(void **library_loop) {
  struct uv_library *library = calloc(1, sizeof *library);
  if (library == NULL)
    return DSTREAM_ENOMEM;
  if (uv_loop_init(&library->loop) != 0) {
    free(library);
    return DSTREAM_ESYSTEM;
  }
  uv_timer_init(&library->loop, &library->timer);
  *library_loop = library;
  return DSTREAM_OK;
}

static void on_timer(uv_timer_t *timer) {
  (void)timer; /* ends the wait */
}

static void uv_run_once(void *library_loop, int timeout_ms) {
  struct uv_library *library = library_loop;
  if (timeout_ms > 0)
    uv_timer_start(&library->timer, on_timer, (uint64_t)timeout_ms, 0);
  uv_run(&library->loop, timeout_ms != 0 ? UV_RUN_ONCE : UV_RUN_NOWAIT);
  uv_timer_stop(&library->timer);
}

static void find_context(uv_handle_t *handle, void *arg) {
  struct lws_context **context = arg;
  if (handle->type == UV_POLL && *context == NULL)
    *context = lws_get_context(handle->data);
}

/* With a loop that is not its own, libwebsockets leaves lws_context_destroy
 * half-way: its descriptors close within the loop, and only a second call frees
 * the context. */
static void uv_destroy(void *library_loop) {
  struct uv_library *library = library_loop;
  struct lws_context *context = NULL;
  uv_close((uv_handle_t *)&library->timer, NULL);
  uv_walk(&library->loop, find_context, &context);
  uv_run(&library->loop, UV_RUN_DEFAULT);
  if (context != NULL)
    lws_context_destroy(context);
  uv_run(&library->loop, UV_RUN_DEFAULT);
  uv_loop_close(&library->loop);
  free(library);
}

static const struct loop_backend backend = {
    .lws_options = LWS_SERVER_OPTION_LIBUV,
    .create = uv_create,
    .run_once = uv_run_once,
    .destroy = uv_destroy,
};

const struct loop_backend *loop_uv_backend(void) {
  return &backend;
}
