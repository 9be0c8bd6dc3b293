#!/bin/bash
# scripts/coverage.sh [CTEST_OPTIONS...] - how much of src the tests run.
#
# Builds with gcc --coverage in build-coverage/, runs the unit and integration
# tests and the fuzzers' corpora there (all but those that compare times; or
# what CTEST_OPTIONS pick), and prints lines and branches run for each folder
# of src, for the files of src/core, and in all.  What was not run is listed in
# build-coverage/missed.txt, FILE:LINE: with the branches never taken.
#
# An assert's failing side is no branch: nothing reaches it.  What a process
# ran that was ended by SIGKILL is not counted.  The broker's plugin is: it
# writes what it ran when mosquitto ends.
#
# Exit status: 0 the goals hold and no test failed, 1 not, 2 can't build.
set -u
cd "$(dirname "$0")/.." || exit 2
export LC_ALL=C

core_lines=95
core_branches=90
all_lines=85
build=$PWD/build-coverage
jobs=$(nproc)

options=(-DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=Debug -DDSTREAM_BUILD_TESTS=ON
  "-DCMAKE_C_FLAGS=--coverage -fprofile-update=atomic -fprofile-abs-path -O1")
if [ ! -f "$build/CMakeCache.txt" ]; then
  ! command -v ninja >/dev/null || options+=(-G Ninja)
fi
mkdir -p "$build"
echo "coverage: building in build-coverage/"
if ! { cmake -S . -B "$build" "${options[@]}" &&
  cmake --build "$build" --parallel "$jobs"; } >"$build/coverage.log" 2>&1; then
  tail -40 "$build/coverage.log"
  echo "coverage: the build failed; see build-coverage/coverage.log" >&2
  exit 2
fi

find "$build" -name '*.gcda' -delete
[ $# != 0 ] || set -- -L 'unit|integration|fuzz' -E timing
tests=passed
ctest --test-dir "$build" -j "$jobs" --output-on-failure --no-tests=error \
  "$@" >"$build/tests.log" 2>&1 || tests=failed
sed -n '/tests passed/p;/The following tests FAILED/,$p' "$build/tests.log"

# A file is compiled more than once (into tools, plugin, hub): a line was run
# if one of the copies was.  Texts of gcov: COUNT:LINE:TEXT, and then one
# "branch N taken COUNT" or "branch N never executed" for each branch of it.
(cd "$build" && find . -name '*.gcno' -not -path './tests/*' -print0 |
  xargs -0 gcov -t -b -c 2>/dev/null) |
  awk -v root="$PWD/src/" -v missed="$build/missed.txt" \
    -v core_lines=$core_lines -v core_branches=$core_branches \
    -v all_lines=$all_lines '
  /^ *-: *0:Source:/ {
    file = $0
    sub(/^ *-: *0:Source:/, "", file)
    inside = index(file, root) == 1 && file ~ /\.c$/
    file = substr(file, length(root) + 1)
    next
  }
  !inside { next }
  /^ *[0-9#=*-]+:/ {
    split($0, part, ":")
    count = part[1]
    gsub(/[ *]/, "", count)
    line = part[2] + 0
    n = 0
    ignore = $0 ~ /[^a-z_](static_)?assert\(/
    if (line == 0 || count == "-")
      next
    place = file SUBSEP line
    if (!(place in lines)) {
      lines[place] = 0
      order[++places] = place
      text[place] = $0
      sub(/^[^:]*:[^:]*:/, "", text[place])
    }
    if (count !~ /^[#=]/ && count + 0 > 0)
      lines[place] = 1
    next
  }
  /^branch/ && !ignore {
    branch = place SUBSEP n++
    if (!(branch in branches))
      branches[branch] = 0
    if ($0 ~ /taken [1-9]/)
      branches[branch] = 1
    if (n > many[place])
      many[place] = n
  }
  function add(what, hit, taken, number) {
    all[what]++
    run[what] += hit
    sides[what] += number
    went[what] += taken
  }
  function percent(part, whole) {
    return whole == 0 ? 100 : 100 * part / whole
  }
  function row(what) {
    printf "%-32s %5d of %5d %6.1f %%   %5d of %5d %6.1f %%\n", what,
      run[what], all[what], percent(run[what], all[what]),
      went[what], sides[what], percent(went[what], sides[what]) | "sort"
  }
  function goal(what, have, want) {
    printf "%-36s %6.1f %%, goal %d %%: %s\n", what, have, want,
      (have >= want ? "holds" : "MISSED")
    if (have < want)
      bad = 1
  }
  END {
    for (i = 1; i <= places; i++) {
      place = order[i]
      split(place, part, SUBSEP)
      taken = 0
      for (n = 0; n < many[place]; n++)
        taken += branches[place, n]
      folder = part[1]
      sub(/\/[^\/]*$/, "", folder)
      add("src/" folder, lines[place], taken, many[place])
      add("all of src", lines[place], taken, many[place])
      if (folder == "core")
        add("src/" part[1], lines[place], taken, many[place])
      why = "not run"
      if (lines[place])
        why = (many[place] - taken) " of " many[place] " branches"
      if (!lines[place] || taken < many[place])
        printf "src/%s:%d: %s: %s\n", part[1], part[2], why,
          text[place] > missed
    }
    if (places == 0) {
      print "coverage: gcov said nothing"
      exit 1
    }
    printf "%-32s %25s   %25s\n", "", "lines", "branches"
    fflush()
    for (what in all)
      if (what != "all of src")
        row(what)
    close("sort")
    row("all of src")
    close("sort")
    goal("lines of src/core",
      percent(run["src/core"], all["src/core"]), core_lines)
    goal("branches of src/core",
      percent(went["src/core"], sides["src/core"]), core_branches)
    goal("lines of all of src",
      percent(run["all of src"], all["all of src"]), all_lines)
    exit bad
  }'
goals=$?
sort -t: -k1,1 -k2,2n -o "$build/missed.txt" "$build/missed.txt"
echo "coverage: tests $tests, $SECONDS s; what was not run is in" \
  "build-coverage/missed.txt"
[ $goals = 0 ] && [ $tests = passed ]
