#include <dstream/dstream.h>

const char *dstream_status_name(int status) {
  switch (status) {
#define X(name, value, text)                                                   \
  case value:                                                                  \
    return "DSTREAM_" #name;
    DSTREAM_STATUS_MAP(X)
#undef X
  }
  return "DSTREAM_E?";
}

const char *dstream_status_text(int status) {
  switch (status) {
#define X(name, value, text)                                                   \
  case value:                                                                  \
    return text;
    DSTREAM_STATUS_MAP(X)
#undef X
  }
  return "unknown status";
}

const char *dstream_version(void) {
  return DSTREAM_VERSION;
}
