// The headers and the linkage from C++.
#include <iostream>

#include <dstream/dstream.h>

int main() {
  dstream_loop *loop = nullptr;
  if (dstream_loop_new(&loop, nullptr) != DSTREAM_OK) {
    return 1;
  }
  dstream_loop_free(loop);
  dstream_device_free(nullptr);
  dstream_service_free(nullptr);
  std::cout << "libdstream " << dstream_version()
            << " from C++: " << dstream_status_name(DSTREAM_EAGAIN) << "\n";
  return 0;
}
