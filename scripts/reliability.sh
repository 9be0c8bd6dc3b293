#!/bin/bash
# scripts/reliability.sh [OPTIONS] - loads, breaks off, fuzzes and soaks what is
# built here, and writes docs/reliability.md: what was held, survived and tried.
#
#   --quick          everything small, minutes in all; to see that it works
#   --only SECTION   one of load, storm, sim, faults, conformance, fuzz, soak;
#                    may be repeated.  The page keeps the others' last results
#   --page           nothing is run; the page is written anew
#   --minutes N      of each fuzzer, default 10
#   --fuzz-logs DIR  takes libFuzzer's logs (NAME.log) instead of running it
#   --soak SECONDS   default 1800
#   --out FILE       instead of docs/reliability.md
#
# Builds a release in build-reliability/, results are kept in results/ there.
# Every figure of the page is read from what a run printed.  All of it takes
# about three hours, fuzzers most; less on more cores.
#
# Exit status: 0 nothing failed, 1 something did (the page says what), 2 usage.
set -u
cd "$(dirname "$0")/.." || exit 2
export LC_ALL=C

build=$PWD/build-reliability
results=$build/results
sections=(load storm sim faults conformance fuzz soak)
only=()
quick=no
page_only=no
minutes=10
fuzz_logs=''
soak_seconds=1800
out=docs/reliability.md

usage() {
  sed -n '2,/^set -u/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
  --quick)
    quick=yes
    soak_seconds=60
    ;;
  --page) page_only=yes ;;
  --only | --minutes | --fuzz-logs | --soak | --out)
    [ $# -ge 2 ] || usage
    case $1 in
    --only) only+=("$2") ;;
    --minutes) minutes=$2 ;;
    --fuzz-logs) fuzz_logs=$2 ;;
    --soak) soak_seconds=$2 ;;
    --out) out=$2 ;;
    esac
    shift
    ;;
  *) usage ;;
  esac
  shift
done
for name in "${only[@]}"; do
  [[ " ${sections[*]} " = *" $name "* ]] || usage
done
[ ${#only[@]} -gt 0 ] || only=("${sections[@]}")
mkdir -p "$results"

step() {
  printf 'reliability: %s (%s s)\n' "$*" "$SECONDS"
}

# ---- runs ----

build_all() {
  local options=(-G Ninja -DCMAKE_BUILD_TYPE=Release -DDSTREAM_BUILD_TESTS=ON)
  ! command -v ccache >/dev/null ||
    options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
  step "build"
  if ! { cmake -S . -B "$build" "${options[@]}" &&
    cmake --build "$build" --parallel "$(nproc)"; } >"$build/build.log" 2>&1; then
    tail -30 "$build/build.log"
    echo "reliability: the build failed" >&2
    exit 1
  fi
  export DSTREAM_SOURCE_DIR=$PWD DSTREAM_BINARY_DIR=$build
  export DSTREAM_HUB=$build/bin/dstream-hub
}

commit() {
  local id
  id=$(git rev-parse --short HEAD 2>/dev/null) || id=unknown
  git diff --quiet HEAD -- src include tests 2>/dev/null || id="$id, modified"
  echo "$id"
}

# Runs a command and keeps what it prints; and when, of what, and its status.
# run SECTION NAME COMMAND...
run() {
  local section=$1 name=$2 status=0 begin=$SECONDS
  shift 2
  "$@" >"$results/$name.txt.new" 2>&1 </dev/null || status=$?
  mv "$results/$name.txt.new" "$results/$name.txt"
  {
    echo "date=$(date -u +%Y-%m-%d)"
    echo "commit=$(commit)"
    echo "seconds=$((SECONDS - begin))"
    echo "status=$status"
    echo "busy=$(awk '{ print $1 }' /proc/loadavg)"
  } >"$results/$name.meta"
  [ $status = 0 ] || step "$section: $name ended with status $status"
}

run_load() {
  if [ $quick = yes ]; then
    run load load bash tests/load/streams.sh 300 2 500
  else
    run load load bash tests/load/streams.sh 5000 60 5000
  fi
}

run_storm() {
  if [ $quick = yes ]; then
    run storm storm bash tests/load/storm.sh 100 50 term kill
  else
    run storm storm bash tests/load/storm.sh 2000 50 term kill kill:10
  fi
}

run_sim() {
  local seeds=100000 memory=100
  [ $quick = no ] || seeds=2000 memory=2
  run sim sim "$build/bin/test_sim" --seeds $seeds
  run sim memory "$build/bin/test_sim" --memory $memory
}

fault_tests='^integration/test_(hostile|robust|vanish|errors|gateway|tls)$'
fault_tests+='|^integration/test_(security|life)|^programs/(test_faults|test_life|clock)'
fault_tests+='|^load/descriptors$'
run_faults() {
  run faults faults ctest --test-dir "$build" -V -R "$fault_tests"
}

run_conformance() {
  run conformance conformance "$build/bin/test_conformance"
}

run_fuzz() {
  local logs=$fuzz_logs
  if [ -z "$logs" ]; then
    [ $quick = no ] || minutes=1
    run fuzz fuzz scripts/fuzz.sh all "$minutes"
    logs='build-fuzz/logs'
  else
    run fuzz fuzz ls "$logs"
    echo "given=yes" >>"$results/fuzz.meta"
  fi
  rm -rf "$results/fuzz"
  mkdir -p "$results/fuzz"
  cp "$logs"/*.log "$results/fuzz/" || step "fuzz: no logs in $logs"
}

run_soak() {
  run soak soak bash tests/load/soak.sh "$soak_seconds"
}

# ---- the page ----

bad=0

# The value of NAME=VALUE in the one line that begins with a word; "?" and a
# failed page when it is not there.
field() { # FILE LINE NAME
  local value
  value=$(sed -nE "/^$2[: ]/s/.*[: ]$3=([^ ]*).*/\1/p" "$results/$1.txt" | tail -1)
  echo "${value:-?}"
}

meta() { # NAME KEY
  sed -n "s/^$2=//p" "$results/$1.meta"
}

# Under a heading: when, of which commit, how it ended.  False: it never ran.
ran() { # NAME WHAT
  if [ ! -f "$results/$1.meta" ]; then
    echo "Not run yet: \`$2\`."
    return 1
  fi
  printf '`%s`, %s, commit %s, %s s, load average at the end %s' "$2" \
    "$(meta "$1" date)" "$(meta "$1" commit)" "$(meta "$1" seconds)" \
    "$(meta "$1" busy)"
  if [ "$(meta "$1" status)" = 0 ]; then
    echo "; nothing failed."
  else
    echo "; **FAILED with status $(meta "$1" status)**."
    echo
    grep -E 'FAILED|ERROR' "$results/$1.txt" | head -5 | sed 's/^/    /'
  fi
}

us() { # MICROSECONDS
  awk -v us="$1" 'BEGIN { printf "%.2f ms", us / 1000 }'
}

page_machine() {
  cat <<END
# Reliability: load held, faults survived, bad inputs tried

Written by \`scripts/reliability.sh\`, which anyone can run: every figure is read
from what a run printed. What the tests do beyond these figures is in
[architecture.md](architecture.md); what is promised, and what not, in
[../SECURITY.md](../SECURITY.md).

| machine | |
|---|---|
| processor | $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1), $(nproc) cores |
| memory | $(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo) |
| system | $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release), Linux $(uname -r) |
| descriptors | $(ulimit -H -n) at most for a process |

Hub, broker, devices and services share that machine, and at times other work
too: the load average tells.

END
}

page_load() {
  echo "## Load held: idle streams on one hub"
  echo
  ran load "tests/load/streams.sh" || return
  cat <<END

Both ends of each stream are the library's, in one process beside the hub; TLS
everywhere, verified. The keepalive is the default one, 30 s.

| | |
|---|---|
| streams open at once | $(field load load streams) of $(field load load asked) asked for, $(field load load failed) failed |
| set up | $(field load load open_per_second) a second, in $(field load load open_seconds) s |
| the hub's memory (PSS) | $(field load load hub_pss_kb) KB, $(field load load hub_kb_per_stream) KB for each stream (two TLS connections) |
| the hub's CPU over $(field load load idle_seconds) s of idling | $(field load load idle_cpu_percent) % of a core |
| echo of 64 bytes beside 20 idle streams | p50 $(us "$(field load load alone_p50_us)"), p99 $(us "$(field load load alone_p99_us)") |
| echo of 64 bytes beside all of them | p50 $(us "$(field load load p50_us)"), p99 $(us "$(field load load p99_us)") |
| all closed at once | $(field load load close_seconds) s, each in the orderly way |
| the hub's descriptors before, with all, after | $(field load load fds_before), $(field load load fds_held), $(field load load fds_after) |
| the hub's memory before, with all, after | $(field load load pss_before_kb), $(field load load hub_pss_kb), $(field load load pss_after_kb) KB |
END
}

page_storm() {
  echo "## Load held: devices come back to a hub that was restarted"
  echo
  ran storm "tests/load/storm.sh" || return
  cat <<'END'

Devices of the library with Paho MQTT inside and the default backoff: a random
wait of up to a second before the first attempt, up to two before the second, and
so on. When they were ready again, counted from the hub's "ready". Paho connects
the clients of one process one after the other, and looks at them once a second:
the bars are that coarse.
END
  awk '/^storm.sh: .* devices in / {
      sub(/^storm.sh: /, "")
      printf "\n%s\n\n", $0
    }
    /^ *[0-9.]+ s +[0-9]+ / { print "    " $0 }
    /^storm: / {
      n = split($0, pairs, " ")
      for (i = 2; i <= n; i++) {
        split(pairs[i], pair, "=")
        v[pair[1]] = pair[2]
      }
      printf "\nAll %d of %d back after %.1f s, in %.1f attempts each; ",
        v["back"], v["devices"], v["last_ms"] / 1000, v["tries_per_device"]
      printf "at most %.0f %% within a quarter of a second, and at most ",
        100 * v["peak_250ms"] / v["devices"]
      printf "%.0f %% of the first attempts within a tenth. Hub",
        100 * v["first_tries_peak_100ms"] / v["devices"]
      printf " and broker used %.1f s of CPU.\n",
        v["hub_cpu_ms"] / 1000
    }' "$results/storm.txt" | sed 's/ *$//'
}

# "100 seeds from 1: 300 streams asked for, ..." as rows
rows() { # FILE PATTERN
  grep -E "$2" "$results/$1.txt" | tail -1 | tr ':,' '\n\n' |
    sed -E 's/^ *//; s/^(at most )?([0-9]+)( KB| s)? (.*)$/| \4 | \1\2\3 |/; /^\|/!d'
}

page_sim() {
  echo "## Faults survived: the simulator"
  echo
  ran sim "test_sim --seeds" || return
  cat <<'END'

Device, hub and service in one process, on a clock and a network of their own;
connections and messages are delayed, split, cut or refused as a seed says.
After each step: one last `on_close` for each stream, no byte lost before an
orderly end, none invented, nothing stuck past its deadline.

| | |
|---|---|
END
  rows sim 'seeds from'
  echo
  ran memory "test_sim --memory" || return
  cat <<'END'

The same with each allocation failing in turn, alone and with all that follow:
no crash, no leak.

| | |
|---|---|
END
  rows memory 'scenarios,'
}

page_faults() {
  echo "## Faults survived: real programs, sockets and processes"
  echo
  ran faults "ctest -R ..." || return
  cat <<'END'

Peers that stall, vanish, break off, lie or flood; hubs, brokers, agents and
devices that are killed; descriptors and disks that run out.

| test | cases | |
|---|---:|---|
END
  awk '/^ *[0-9]+: \[==========\] [0-9]+ test\(s\) run/ {
      split($1, id, ":")
      cases[id[1]] = $3
    }
    /^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / {
      sub(/^ *[0-9]+\/[0-9]+ Test +#/, "")
      split($1, id, ":")
      verdict = /Passed/ ? "passed" : /Skipped/ ? "skipped" : "**FAILED**"
      printf "| %s | %s | %s |\n", $2, (id[1] in cases) ? cases[id[1]] : "",
        verdict
    }' "$results/faults.txt" | sort
}

page_conformance() {
  echo "## Bad inputs tried: WebSocket conformance"
  echo
  ran conformance "test_conformance" || return
  cat <<'END'

The cases of the Autobahn suite over real TLS sockets, each in one piece, by
frames and byte by byte.

| role | cases |
|---|---:|
END
  awk '/^\[ +RUN/ { }
    / cases, each in/ { pending += $1 }
    /^\[ +OK \] (hub|client):/ {
      role = $4
      sub(/:/, "", role)
      count[role] += pending
      pending = 0
    }
    /^\[ +FAILED \]/ { pending = 0 }
    END { for (role in count) printf "| %s | %d |\n", role, count[role] }' \
    "$results/conformance.txt" | sort
}

page_fuzz() {
  echo "## Bad inputs tried: fuzzers"
  echo
  ran fuzz "scripts/fuzz.sh" || return
  cat <<'END'

libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer.
END
  [ "$(meta fuzz given)" != yes ] ||
    echo "These are the logs of runs that were made before, up to the commit."
  cat <<'END'

| reader | inputs | seconds | result |
|---|---:|---:|---|
END
  local log name
  for log in "$results"/fuzz/*.log; do
    [ -e "$log" ] || continue
    name=$(basename "$log" .log)
    awk -v name="$name" '
      /^Done [0-9]+ runs in/ { runs = $2; seconds = $5 }
      /^SUMMARY: |ERROR: / { broken = 1 }
      END {
        verdict = broken ? "**FOUND**" : runs == "" ? "not finished" : "nothing"
        printf "| %s | %s | %s | %s |\n", name, runs, seconds, verdict
      }' "$log"
  done | tee "$results/fuzz.rows"
  awk -F'|' '{ runs += $3; seconds += $4; n++ }
    END { printf "| **%d readers** | **%.0f** | **%d** | |\n", n, runs, seconds }' \
    "$results/fuzz.rows"
}

page_soak() {
  echo "## Life over time: a soak"
  echo
  ran soak "tests/load/soak.sh" || return
  cat <<'END'

Real programs in rounds: clients that talk, break off and stall, devices that are
cut off and killed, a twin, a killed broker, reloads; a few streams stay open
throughout.

| | |
|---|---:|
END
  grep '^soak: ' "$results/soak.txt" | tail -1 | tr ' ' '\n' |
    sed -nE 's/_/ /g; s/^([^=]+)=(.*)$/| \1 | \2 |/p'
}

write_page() {
  local name
  {
    page_machine
    for name in "${sections[@]}"; do
      "page_$name"
      echo
    done
  } | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' >"$out.new"
  mv "$out.new" "$out"
}

if [ $page_only = no ]; then
  build_all
  for name in "${only[@]}"; do
    step "$name"
    "run_$name"
  done
fi
write_page
grep -qE '\*\*(FAILED|FOUND)|\| \?' "$out" && bad=1
for name in "${only[@]}"; do
  [ $page_only = yes ] || [ "$(meta "$name" status)" = 0 ] || bad=1
done
step "$out is written"
exit $bad
