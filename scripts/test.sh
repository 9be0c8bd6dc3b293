#!/bin/bash
# scripts/test.sh [--quick] - all that has to hold, from nothing.
#
#   --quick   for development: one build with gcc, lint and unit tests
#
# Builds in build-test/, one folder for each compiler and sanitizer.  Closes
# with "N passed, M failed": every test of every build, and every build that
# failed.  Exit status 0 when nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C

quick=no
case ${1:-} in
--quick) quick=yes ;;
'') ;;
*)
  echo "usage: scripts/test.sh [--quick]" >&2
  exit 2
  ;;
esac

jobs=$(nproc)
root=$PWD/build-test
# Every process that the tests start carries this in its environment, so that
# those left behind can be told from everybody else's.
export DSTREAM_TEST_RUN=$$-$RANDOM$RANDOM
TMPDIR=$(mktemp -d) || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

passed=0
failed=0
skipped=0
broken=''

step() {
  printf '\n== %s (%s s)\n' "$*" "$SECONDS"
}

break_off() { # WHAT: it failed outside ctest
  failed=$((failed + 1))
  broken="$broken
  $1"
}

# build NAME TARGETS... -- CMAKE_OPTIONS...
build() {
  local name=$1 targets=() log=$TMPDIR/build.log options=(-G Ninja)
  shift
  while [ "$1" != -- ]; do
    targets+=("$1")
    shift
  done
  shift
  ! command -v ccache >/dev/null ||
    options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
  step "build $name"
  if { cmake -S . -B "$root/$name" "${options[@]}" -DDSTREAM_WERROR=ON \
    -DDSTREAM_BUILD_TESTS=ON "$@" &&
    cmake --build "$root/$name" --parallel "$jobs" --target "${targets[@]}"; } \
    >"$log" 2>&1; then
    return 0
  fi
  tail -60 "$log"
  break_off "build $name"
  return 1
}

attribute() { # NAME FILE : a number of ctest's JUnit report
  sed -nE "s/.*[[:space:]]$1=\"([0-9]+)\".*/\1/p" "$2" 2>/dev/null | head -1
}

# check NAME CTEST_OPTIONS... : runs ctest and counts.  Tests wait more than they
# work: one more at a time than there are cores.
check() {
  local name=$1 report=$TMPDIR/report.xml total bad out status=0
  shift
  step "ctest $name"
  rm -f "$report" "$report.head"
  ctest --test-dir "$root/$name" --output-on-failure --no-tests=error \
    --output-junit "$report" -j $((jobs + 1)) "$@" || status=$?
  # The head of the report: <testsuite ... tests="5" failures="0" ...>
  [ ! -e "$report" ] ||
    sed -n '/<testsuite/,/>/p' "$report" | tr '\n' ' ' >"$report.head"
  total=$(attribute tests "$report.head")
  bad=$(attribute failures "$report.head")
  out=$(attribute skipped "$report.head")
  if [ -z "$total" ] || [ "$total" = 0 ]; then
    break_off "ctest $name: no test was run"
    return
  fi
  [ "$status" = 0 ] || [ "$bad" != 0 ] || break_off "ctest $name: status $status"
  passed=$((passed + total - bad - out))
  failed=$((failed + bad))
  skipped=$((skipped + out))
}

left_behind() { # pids of processes that carry our mark
  local environ pid
  for environ in /proc/[0-9]*/environ; do
    pid=${environ#/proc/}
    pid=${pid%/environ}
    [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] || continue
    if grep -qsa "DSTREAM_TEST_RUN=$DSTREAM_TEST_RUN" "$environ"; then
      echo "$pid"
    fi
  done
}

# A stopped test's children need a moment to be reaped.
check_left_behind() {
  local pids=''
  step "processes left behind"
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    pids=$(left_behind)
    [ -n "$pids" ] || break
    sleep 0.3
  done
  if [ -z "$pids" ]; then
    echo "none"
    return
  fi
  # shellcheck disable=SC2086
  ps -o pid,ppid,etime,args -p "$(echo $pids | tr ' ' ,)"
  # shellcheck disable=SC2086
  kill -9 $pids
  break_off "processes were left behind"
}

run_quick() {
  build gcc all -- -DCMAKE_C_COMPILER=gcc || return
  check gcc -L 'unit|lint'
}

run_all() {
  if build gcc all -- -DCMAKE_C_COMPILER=gcc; then
    check gcc
  fi
  if build clang all -- -DCMAKE_C_COMPILER=clang; then
    check clang -L 'unit|sim'
  fi
  if build asan all -- -DCMAKE_C_COMPILER=clang \
    -DDSTREAM_SANITIZE=address,undefined; then
    check asan -L 'unit|integration|programs|sim|fuzz'
  fi
  if build tsan all -- -DCMAKE_C_COMPILER=clang \
    -DDSTREAM_SANITIZE=thread; then
    check tsan -L 'unit|integration'
  fi
  if build fuzz fuzzers -- -DCMAKE_C_COMPILER=clang \
    -DDSTREAM_SANITIZE=address,undefined -DDSTREAM_BUILD_FUZZERS=ON \
    -DDSTREAM_FUZZ_SECONDS=3; then
    check fuzz -L fuzz
  fi
}

step "setup"
if ! scripts/setup.sh --tests --no-build; then
  echo "0 passed, 1 failed"
  exit 1
fi
if [ $quick = yes ]; then
  run_quick
else
  run_all
fi
check_left_behind

printf '\n'
[ -z "$broken" ] || echo "failed outside ctest:$broken"
echo "took $SECONDS s"
if [ $skipped = 0 ]; then
  echo "$passed passed, $failed failed"
else
  echo "$passed passed, $failed failed, $skipped skipped"
fi
[ $failed = 0 ] && [ $passed != 0 ]
