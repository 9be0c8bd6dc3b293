#!/bin/bash
# scripts/analyze.sh - what analysers find in src and samples: clang-tidy with
# the checks of .clang-tidy, cppcheck, and gcc -fanalyzer.
#
# Every finding is one line, FILE:LINE: what is wrong.  Where a tool is mistaken
# the place says so: NOLINT(CHECK) or cppcheck-suppress, and why.  Begins by
# seeing that each tool finds a mistake that is there.  JOBS (default: the
# number of processors) run at a time.  Exit status: 0 clean, 1 findings, 2 a
# tool is missing or does not work.
set -u
cd "$(dirname "$0")/.." || exit 2
export LC_ALL=C
root=$PWD
jobs=${JOBS:-$(nproc)}

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
findings=$work/findings
: >"$findings"

for tool in clang clang-tidy cppcheck gcc cmake; do
  if ! command -v $tool >/dev/null; then
    echo "analyze: $tool is missing; scripts/setup.sh --tests installs it" >&2
    exit 2
  fi
done

# gcc 12 takes what is stored through a pointer parameter for lost; the leak
# sanitizer watches for leaks in the tests.
gcc_flags='-O1 -fanalyzer -Wno-analyzer-malloc-leak'
# A third of what clang's analyser tries by default: a third of the time, the
# same findings here.
tidy_flags=--quiet
for flag in -Xclang -analyzer-config -Xclang max-nodes=75000; do
  tidy_flags="$tidy_flags --extra-arg=$flag"
done
export tidy_flags
cppcheck_flags=('--enable=warning,performance,portability' --std=c11 --quiet
  --inline-suppr --suppress=missingIncludeSystem --error-exitcode=1
  '--template={file}:{line}: {message} [{id}]')

configure() { # FOLDER COMPILER FLAGS
  local generator=()
  ! command -v ninja >/dev/null || generator=(-G Ninja)
  if ! cmake -S . -B "$1" "${generator[@]}" -DCMAKE_C_COMPILER="$2" \
    -DCMAKE_C_FLAGS="$3" -DCMAKE_BUILD_TYPE=None \
    -DCMAKE_EXPORT_COMPILE_COMMANDS=ON >"$work/configure.log" 2>&1; then
    tail -20 "$work/configure.log" >&2
    echo "analyze: can't configure with $2" >&2
    exit 2
  fi
}

# What compilers say, FILE:LINE:COLUMN: KIND: TEXT, without column and kind.
plain_lines() {
  sed -nE "s|^($root/)?(.*:[0-9]+):[0-9]+: (warning\|error\|fatal error): |\2: |p" |
    sed 's/,-warnings-as-errors\]$/]/'
}

run_tidy() { # FILE CLANG_TIDY_OPTIONS... ; a failure without a word is one too
  local file=$1 out=$work/tidy.$BASHPID
  shift
  # shellcheck disable=SC2086
  clang-tidy $tidy_flags "$@" "$file" >"$out" 2>"$out.errors" ||
    grep -q ' error: ' "$out" ||
    echo "$file:1:1: error: clang-tidy failed: $(tail -1 "$out.errors")" >>"$out"
  plain_lines <"$out"
}
export -f run_tidy plain_lines
export root work

expect() { # TOOL, and what it said of the faulty file on standard input
  if ! grep -q faulty; then
    echo "analyze: $1 does not find a mistake that is there" >&2
    return 1
  fi
}

prove_tools() {
  cat >"$work/faulty.c" <<'END'
#include <stdlib.h>
int main(void) {
  int four[4] = {0}, *p = malloc(sizeof *p);
  if (p == NULL)
    return four[4];
  free(p);
  return *p;
}
END
  run_tidy "$work/faulty.c" --config-file=.clang-tidy -- |
    expect clang-tidy || return
  cppcheck "${cppcheck_flags[@]}" "$work/faulty.c" 2>&1 |
    expect cppcheck || return
  # shellcheck disable=SC2086
  gcc $gcc_flags -c -o "$work/faulty.o" "$work/faulty.c" 2>&1 |
    grep analyzer | expect "gcc -fanalyzer"
}

check_tidy() {
  find src samples -name '*.c' | sort | xargs -P "$jobs" -I{} \
    bash -c 'run_tidy "$1" -p "$work/clang"' - {} >>"$findings"
}

check_cppcheck() {
  local status=0
  cppcheck "${cppcheck_flags[@]}" -j "$jobs" \
    --project="$work/clang/compile_commands.json" >"$work/cppcheck" 2>&1 ||
    status=$?
  if [ $status != 0 ] && ! grep -q . "$work/cppcheck"; then
    echo "scripts/analyze.sh:1: cppcheck failed" >"$work/cppcheck"
  fi
  sed "s|^$root/||" "$work/cppcheck" >>"$findings"
}

check_gcc() {
  cmake --build "$work/gcc" --parallel "$jobs" >"$work/gcc.log" 2>&1 ||
    echo "scripts/analyze.sh:1: does not build with -fanalyzer:" \
      "$(tail -1 "$work/gcc.log")" >>"$findings"
  plain_lines <"$work/gcc.log" >>"$findings"
}

prove_tools || exit 2
configure "$work/clang" clang ''
configure "$work/gcc" gcc "$gcc_flags"
check_tidy
check_cppcheck
check_gcc

if [ -s "$findings" ]; then
  sort -u -t: -k1,1 -k2,2n -k3 "$findings"
  echo "analyze: $(sort -u "$findings" | wc -l) findings, $SECONDS s"
  exit 1
fi
echo "analyze: clean, $SECONDS s"
