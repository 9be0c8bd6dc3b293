#include "net/loop_uv.h"

#include <stdlib.h>

#include <libwebsockets.h>
#include <uv.h>

static int uv_create(void **library_loop) {
  uv_loop_t *loop = calloc(1, sizeof *loop);
  if (loop == NULL)
    return DSTREAM_ENOMEM;
  if (uv_loop_init(loop) != 0) {
    free(loop);
    return DSTREAM_ESYSTEM;
  }
  *library_loop = loop;
  return DSTREAM_OK;
}

static void uv_run_once(void *library_loop, bool wait) {
  uv_run(library_loop, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
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
  uv_loop_t *loop = library_loop;
  struct lws_context *context = NULL;
  uv_walk(loop, find_context, &context);
  uv_run(loop, UV_RUN_DEFAULT);
  if (context != NULL)
    lws_context_destroy(context);
  uv_run(loop, UV_RUN_DEFAULT);
  uv_loop_close(loop);
  free(loop);
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
