#!/bin/bash
# musl.sh SOURCE_DIR BINARY_DIR - library, agent and tool compile with the
# headers of musl, the C library of OpenWrt and Alpine.  It is not linked: the
# libraries here are glibc's.
set -eu
export LC_ALL=C
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! command -v musl-gcc >/dev/null; then
  echo "musl: musl-gcc is not installed"
  exit 77
fi
version=$(sed -nE 's/^project\(dstream VERSION ([0-9.]+).*/\1/p' \
  "$source/CMakeLists.txt")
# OpenSSL and the others, and the kernel's, behind musl's own.
flags=(-std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64
  "-DDSTREAM_VERSION=\"$version\"" "-I$source/include" "-I$source/src"
  -idirafter /usr/include
  -idirafter "/usr/include/$(gcc -print-multiarch)"
  -Wall -Wextra -Werror -fsyntax-only)

cd "$source"
find src/core src/net src/device src/service src/proxy src/tools -name '*.c' \
  ! -name dstream_hub.c >"$work/files"
[ "$(wc -l <"$work/files")" -ge 50 ] || exit 1
xargs -P "$(nproc)" -n 8 musl-gcc "${flags[@]}" <"$work/files" || {
  echo "musl: see above" >&2
  exit 1
}
# What the headers let through, but musl does not have.
if xargs grep -nE '\b(malloc_trim|mallinfo2?|backtrace|getaddrinfo_a)\(' \
  <"$work/files" >"$work/found"; then
  while IFS=: read -r file line _; do
    head -"$line" "$file" | tac | grep -m1 -E '^#(if|endif)' |
      grep -q '^#ifdef __GLIBC__' || {
      echo "$file:$line: only glibc has that; put it under __GLIBC__" >&2
      exit 1
    }
  done <"$work/found"
fi
echo "musl: $(wc -l <"$work/files") files"
