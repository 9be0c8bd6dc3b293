#!/bin/bash
# scripts/fuzz.sh NAME MINUTES - runs tests/fuzz/fuzz_NAME.c with libFuzzer.
# scripts/fuzz.sh all MINUTES - runs all of them, as many at once as there are
# processors; the logs are build-fuzz/logs/NAME.log.
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
  echo "usage: scripts/fuzz.sh NAME MINUTES, where NAME is all or one of" >&2
  find tests/fuzz -name 'fuzz_*.c' | sed -E 's|.*/fuzz_(.*)\.c|  \1|' |
    sort >&2
  exit 2
  ;;
esac
if [ "$name" != all ] && [ ! -f "tests/fuzz/fuzz_$name.c" ]; then
  echo "fuzz: there is no tests/fuzz/fuzz_$name.c" >&2
  exit 2
fi

launcher=()
! command -v ccache >/dev/null ||
  launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
cmake -S . -B build-fuzz -G Ninja "${launcher[@]}" -DCMAKE_C_COMPILER=clang \
  -DDSTREAM_BUILD_TESTS=ON -DDSTREAM_BUILD_FUZZERS=ON \
  -DDSTREAM_SANITIZE=address,undefined >/dev/null
target=fuzz_$name
[ "$name" != all ] || target=fuzzers
cmake --build build-fuzz --target "$target" --parallel "$(nproc)"

fuzz() { # NAME
  local found=build-fuzz/tests/corpus/$1
  mkdir -p "$found"
  "build-fuzz/bin/fuzz_$1" -max_total_time=$((minutes * 60)) \
    -timeout=10 -rss_limit_mb=1024 -artifact_prefix=build-fuzz/ \
    "$found" "tests/fuzz/corpus/$1"
}

if [ "$name" != all ]; then
  fuzz "$name"
  exit
fi
rm -rf build-fuzz/logs
mkdir -p build-fuzz/logs
export -f fuzz
export minutes
status=0
# shellcheck disable=SC2016
find tests/fuzz -name 'fuzz_*.c' | sed -E 's|.*/fuzz_(.*)\.c|\1|' | sort |
  xargs -P "$(nproc)" -I NAME bash -c \
    'fuzz NAME >build-fuzz/logs/NAME.log 2>&1' || status=1
grep -H '^Done [0-9]* runs\|^SUMMARY' build-fuzz/logs/*.log || :
exit $status
