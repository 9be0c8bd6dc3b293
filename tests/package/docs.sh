#!/bin/bash
# docs.sh SOURCE_DIR BINARY_DIR - the code in docs/device.md and docs/proxy.md:
# every block of C compiles by itself; the first of device.md, with its block of
# CMake, becomes a program that is built against the installed library and
# answers a service through a hub.
set -eu
source=$1
build=$2
page=$source/docs/device.md
work=$(mktemp -d)
hub_pid=''
device_pid=''
end() { # PID
  [ -n "$1" ] || return 0
  kill "$1" 2>/dev/null || :
  wait "$1" 2>/dev/null || :
}
clean_up() {
  end "$device_pid"
  end "$hub_pid"
  rm -rf "$work"
}
trap clean_up EXIT

fail() {
  echo "docs: $*" >&2
  exit 1
}

# Blocks of one language: block-1, block-2, ...
blocks() { # PAGE LANGUAGE FOLDER
  mkdir "$3"
  awk -v begin="\`\`\`$2" -v folder="$3" '
    $0 == "```" { inside = 0 }
    inside { print > (folder "/block-" count "." extension) }
    $0 == begin { inside = 1; count++; extension = "c" }' "$1"
}
at_least() { # COUNT FOLDER PAGE
  count=$(find "$2" -type f | wc -l)
  [ "$count" -ge "$1" ] || fail "only $count blocks of C in $3"
}
blocks "$page" c "$work/c"
blocks "$page" cmake "$work/cmake"
blocks "$source/docs/proxy.md" c "$work/proxy"
at_least 5 "$work/proxy" docs/proxy.md
at_least 7 "$work/c" "$page"

cmake --install "$build" --prefix "$work/prefix" >/dev/null
for block in "$work"/c/* "$work"/proxy/*; do
  for compiler in gcc clang; do
    command -v $compiler >/dev/null || continue
    $compiler -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror \
      -I"$work/prefix/include" -c "$block" -o "$work/block.o" ||
      fail "$(basename "$block") does not compile with $compiler"
  done
done

mkdir "$work/firmware"
cp "$work/c/block-1.c" "$work/firmware/device.c"
cp "$work/cmake/block-1.c" "$work/firmware/CMakeLists.txt"
cmake -S "$work/firmware" -B "$work/firmware/build" \
  -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/firmware/build" >/dev/null

await() { # FILE TEXT
  for _ in $(seq 200); do
    ! grep -qs "^$2" "$1" || return 0
    sleep 0.1
  done
  fail "no \"$2\" within 20 s: $(cat "$1")"
}

# The hub as installed, with its plugin beside it.
hub=$work/prefix/bin/dstream-hub
"$hub" init "$work/hub" --host localhost --https-port 0 --mqtt-port 0 >/dev/null
"$hub" run "$work/hub" >"$work/hub.out" 2>"$work/hub.log" &
hub_pid=$!
await "$work/hub.out" ready
export DSTREAM_CA_FILE=$work/hub/ca.pem
DSTREAM_CONNECTION_STRING=$("$hub" device add "$work/hub" pump-7) \
  "$work/firmware/build/device" >"$work/device.out" 2>&1 &
device_pid=$!
await "$work/device.out" "ready pump-7"
DSTREAM_CONNECTION_STRING=$("$hub" connection-string "$work/hub")
export DSTREAM_CONNECTION_STRING
service=$build/samples/echo_service
"$service" pump-7 hello </dev/null >"$work/said" ||
  fail "the service failed: $(cat "$work/hub.log")"
[ "$(cat "$work/said")" = "hello from the device" ] ||
  fail "the device said \"$(cat "$work/said")\""
! "$service" pump-7 other </dev/null 2>"$work/refused" ||
  fail "a stream of another name was accepted"
grep -q 'only "hello" here' "$work/refused" ||
  fail "the service was told \"$(cat "$work/refused")\""
echo "docs: $count blocks compile, the device answers"
