#include <dstream/proxy.h>

#include "core/end.h"
#include "proxy/bridge.h"

int dstream_bridge_open(dstream_bridge *bridge, dstream_service *service,
                        const char *device_id, const char *stream_name,
                        const struct dstream_open_options *options) {
  struct dstream_open_options o = {.size = sizeof o};
  const struct dstream_stream_callbacks *callbacks = NULL;
  dstream_stream *stream = NULL;
  struct dstream_end end;
  if (options != NULL)
    o = *options;
  int status = bridge_stream_begin(bridge, &o.stream, &callbacks);
  if (status != DSTREAM_OK)
    return status;
  status = dstream_service_open_stream(service, device_id, stream_name, &o,
                                       callbacks, bridge, &stream);
  if (status == DSTREAM_ELIMIT)
    end_set(&end, status, "this program has as many streams as it may have");
  else
    end_set(&end, status, "can't ask for stream \"%.64s\" of device %.64s: %s",
            stream_name, device_id, dstream_status_text(status));
  bridge_stream_made(bridge, stream, &end);
  return status;
}
