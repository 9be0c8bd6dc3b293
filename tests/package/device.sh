#!/bin/bash
# device.sh SOURCE_DIR BINARY_DIR - the library as firmware gets it: the device
# side only.  It builds without hub, tools and service, is small when stripped,
# needs OpenSSL, libwebsockets, Paho and libc only, and exports dstream_* only.
set -eu
source=$1
build=$2/device
most=200000

generator=()
! command -v ninja >/dev/null || generator=(-G Ninja)
launcher=()
! command -v ccache >/dev/null ||
  launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
cmake -S "$source" -B "$build" "${generator[@]}" "${launcher[@]}" \
  -DDSTREAM_BUILD_HUB=OFF -DDSTREAM_BUILD_TOOLS=OFF -DDSTREAM_WERROR=ON
cmake --build "$build"

status=0
complain() {
  echo "device: $*" >&2
  status=1
}

library=$build/lib/libdstream.so
strip -o "$build/stripped.so" "$library"
size=$(stat -c %s "$build/stripped.so")
echo "libdstream.so, device only, stripped: $size bytes"
[ "$size" -lt $most ] || complain "$size bytes, $most at most"

needed=$(readelf -d "$library" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p')
echo "needs:" $needed
for name in $needed; do
  case $name in
  libssl.so.* | libcrypto.so.* | libwebsockets.so.* | libpaho-mqtt3as.so.*) ;;
  libc.so.* | ld-linux*) ;;
  *) complain "needs $name" ;;
  esac
done

exported=$(nm -D --defined-only "$library" | awk '{ print $NF }')
for name in $exported; do
  case $name in
  dstream_service_*) complain "exports $name of the service side" ;;
  dstream_*) ;;
  *) complain "exports $name" ;;
  esac
done
case $exported in
*dstream_device_new*) ;;
*) complain "does not export dstream_device_new" ;;
esac
[ -x "$build/samples/echo_device" ] || complain "echo_device was not built"
exit $status
