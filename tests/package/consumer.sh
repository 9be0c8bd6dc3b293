#!/bin/bash
# consumer.sh SOURCE_DIR BINARY_DIR - the installed library as another project
# uses it: find_package(dstream) from C and C++, shared and static, and
# pkg-config.
set -eu
source=$1
build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >/dev/null
for side in shared static; do
  cmake -S "$source/tests/package/consumer" -B "$work/$side" \
    -DCMAKE_PREFIX_PATH="$work/prefix" -DSIDE=$side
  cmake --build "$work/$side"
  "$work/$side/consumer_c"
  "$work/$side/consumer_cxx"
done

PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name dstream.pc)")
libdir=$(dirname "$PKG_CONFIG_PATH")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046
gcc -std=c11 "$source/tests/package/consumer/consumer.c" \
  -o "$work/consumer" $(pkg-config --cflags --libs dstream)
LD_LIBRARY_PATH=$libdir "$work/consumer"
