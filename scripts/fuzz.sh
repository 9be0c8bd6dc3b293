#!/bin/bash
# scripts/fuzz.sh NAME MINUTES - runs tests/fuzz/fuzz_NAME.c with libFuzzer.
#
# Needs clang (scripts/setup.sh --tests).  New inputs are kept in
# build-fuzz/tests/corpus/NAME; an input that crashes is named at the end: copy
# it into tests/fuzz/corpus/NAME and write a unit test for it.
set -eu
cd "$(dirname "$0")/.."

name=${1:-}
minutes=${2:-}
case $minutes in
'' | 0 | *[!0-9]*)
  echo "usage: scripts/fuzz.sh NAME MINUTES, where NAME is one of" >&2
  find tests/fuzz -name 'fuzz_*.c' | sed -E 's|.*/fuzz_(.*)\.c|  \1|' |
    sort >&2
  exit 2
  ;;
esac
if [ ! -f "tests/fuzz/fuzz_$name.c" ]; then
  echo "fuzz: there is no tests/fuzz/fuzz_$name.c" >&2
  exit 2
fi

launcher=()
! command -v ccache >/dev/null ||
  launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
cmake -S . -B build-fuzz -G Ninja "${launcher[@]}" -DCMAKE_C_COMPILER=clang \
  -DDSTREAM_BUILD_TESTS=ON -DDSTREAM_BUILD_FUZZERS=ON \
  -DDSTREAM_SANITIZE=address,undefined >/dev/null
cmake --build build-fuzz --target "fuzz_$name" --parallel "$(nproc)"

found=build-fuzz/tests/corpus/$name
mkdir -p "$found"
exec "build-fuzz/bin/fuzz_$name" -max_total_time=$((minutes * 60)) \
  -timeout=10 -rss_limit_mb=1024 -artifact_prefix=build-fuzz/ \
  "$found" "tests/fuzz/corpus/$name"
