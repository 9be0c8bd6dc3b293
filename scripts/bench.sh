#!/bin/bash
# scripts/bench.sh [OPTION]... - device streams beside other ways to reach a
# device, in one run on the loopback interface of this machine.
#
#   --quick        one repetition, shorter, fewer peers: a minute or two
#   --smoke        next to nothing: whether it all works
#   --only CASES   of the cases below: names or patterns, with commas
#   --peers LIST   of the peers below, with commas
#   --repeat N     repetitions (3; quick: 1), of which medians are shown
#   --out DIR      where results go (build-bench/results)
#   --page         write docs/performance.md and its plot from this run; a
#                  whole run without --only and --peers does so by itself
#   --no-page      do not
#
# cases:  bulk-up bulk-down bulk-both streams-8 streams-64 streams-256 echo
#         echo-idle echo-bulk first first-alone opens idle stalled rtt frames
# peers:  plain haproxy nginx stunnel ssh-l ssh-l-gcm ssh-rl ssh-rl-gcm dstream
#
# In DIR: results.tsv (case, peer, repetition, metric, value), report.md,
# plot.png.  docs/performance.md says what is measured and how the peers are set
# up.  scripts/setup.sh --bench installs what it needs; DSTREAM_BENCH_BUILD
# names a build folder to use as it is, otherwise build-bench/ is built.
set -eu
cd "$(dirname "$0")/.."
root=$PWD

all_cases='bulk-up bulk-down bulk-both streams-8 streams-64 streams-256 echo
echo-idle echo-bulk first first-alone opens idle stalled rtt frames'
all_peers='plain haproxy nginx stunnel ssh-l ssh-l-gcm ssh-rl ssh-rl-gcm dstream'
mode=full
called="scripts/bench.sh${*:+ $*}"
called=$(sed "s/ --out [^ ]*//; s/ --\(no-\)\{0,1\}page//" <<<"$called")
only='*'
peers=''
repeat=''
out=''
page=''

usage() {
  sed -n '2,/^set -eu/p' "$root/scripts/bench.sh" | sed '$d;s/^# \{0,1\}//'
}

while [ $# -gt 0 ]; do
  case $1 in
  --quick | --smoke) mode=${1#--} ;;
  --only) only=$2 && shift ;;
  --peers) peers=${2//,/ } && shift ;;
  --repeat) repeat=$2 && shift ;;
  --out) out=$2 && shift ;;
  --page) page=yes ;;
  --no-page) page=no ;;
  --help | -h)
    usage
    exit 0
    ;;
  *)
    usage >&2
    exit 2
    ;;
  esac
  shift
done

# ---- sizes ----

default_peers=$all_peers
memory_peers='haproxy nginx stunnel ssh-rl-gcm dstream'
skip='' # cases that are left out
case $mode in
full)
  repeats=3 bulk_ms=3000 echo_ms=1000 idle=1000 idle_base=20 stalled=50
  ;;
quick)
  repeats=1 bulk_ms=1000 echo_ms=500 idle=300 idle_base=20 stalled=20
  default_peers='plain haproxy ssh-rl ssh-rl-gcm dstream'
  memory_peers='haproxy dstream'
  skip='streams-8 streams-256 first-alone'
  ;;
smoke)
  repeats=1 bulk_ms=100 echo_ms=50 idle=5 idle_base=2 stalled=2
  default_peers='haproxy ssh-rl-gcm dstream'
  memory_peers=dstream
  skip='bulk-up streams-64 streams-256 first-alone'
  ;;
esac
repeats=${repeat:-$repeats}
if [ -z "$page" ]; then
  page=no
  [ "$mode$only$peers" != 'full*' ] || page=yes
fi
peers=${peers:-$default_peers}

# ---- programs ----

build_all() {
  local options=(-DCMAKE_BUILD_TYPE=Release -DDSTREAM_BUILD_TESTS=ON)
  ! command -v ninja >/dev/null || options+=(-G Ninja)
  ! command -v ccache >/dev/null ||
    options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
  mkdir -p build-bench
  if ! {
    [ -f build-bench/CMakeCache.txt ] ||
      cmake -S . -B build-bench "${options[@]}"
    cmake --build build-bench --parallel "$(nproc)" --target dstream_bench \
      dstream-hub dstream-program dstream-agent-program
  } >build-bench/bench.log 2>&1; then
    tail -30 build-bench/bench.log >&2
    echo "bench: the build failed; scripts/setup.sh --bench installs what it needs" >&2
    exit 1
  fi
}

if [ -z "${DSTREAM_BENCH_BUILD:-}" ]; then
  build_all
  DSTREAM_BENCH_BUILD=$root/build-bench
fi
out=${out:-$root/build-bench/results}
mkdir -p "$out"
out=$(cd "$out" && pwd)
PATH=$PATH:/usr/sbin:/sbin
DSTREAM_SOURCE_DIR=$root
DSTREAM_BINARY_DIR=$DSTREAM_BENCH_BUILD
# shellcheck source=../tests/programs/lib.sh
. "$root/tests/programs/lib.sh"
bench=$bin/dstream_bench
# shellcheck source=../tests/bench/peers.sh
. "$root/tests/bench/peers.sh"

results=$out/results.tsv
: >"$results"
hard=$(ulimit -H -n)
ulimit -S -n "$([ "$hard" = unlimited ] && echo 16384 || echo "$hard")"

# ---- running one measurement ----

wanted() { # CASE
  local pattern patterns
  IFS=, read -ra patterns <<<"$only"
  for pattern in "${patterns[@]}"; do
    # shellcheck disable=SC2254
    case $1 in
    $pattern) return 0 ;;
    esac
  done
  return 1
}

processes=()
set_processes() { # PEER : what is measured of others
  processes=(--process "load=0,$target_pid")
  [ -z "${entry[$1]:-}" ] || processes+=(--process "entry=${entry[$1]}")
  [ -z "${relay[$1]:-}" ] || processes+=(--process "relay=${relay[$1]}")
  [ -z "${exit_[$1]:-}" ] || processes+=(--process "exit=${exit_[$1]}")
}

record() { # CASE PEER REPETITION [PREFIX]; METRIC VALUE on standard input
  awk -v OFS='\t' -v what="$1" -v peer="$2" -v turn="$3" -v prefix="${4:-}" \
    '$1 != "up" { print what, peer, turn, prefix $1, $2 }' >>"$results"
}

# One measuring command; a peer that fails at it is told of and goes on.
measure() { # CASE PEER REPETITION COMMAND [OPTION]...
  local what=$1 peer=$2 turn=$3
  shift 3
  if timeout 180 "$bench" "$@" >"$work/measured" 2>"$work/failure"; then
    record "$what" "$peer" "$turn" <"$work/measured"
  else
    note "$what: $peer failed: $(tail -1 "$work/failure")"
    printf '%s\t%s\t%s\tfailed\t1\n' "$what" "$peer" "$turn" >>"$results"
  fi
}

has() { # PEER : it was started
  [ -n "${port[$1]:-}" ]
}

# Of these peers, those that run.
those() { # PEER...
  local peer
  for peer; do
    ! has "$peer" || echo "$peer"
  done
}

# A program beside the measurement; false: it does not get to say "up".
beside() { # CASE PEER REPETITION COMMAND [OPTION]...
  local what=$1 peer=$2 turn=$3
  shift 3
  launch beside "$bench" "$@"
  beside_pid=$pid
  if ! read -r -t 120 -u "${out_of[beside]}" _; then
    note "$what: $peer failed: $1: $(tail -1 "$work/beside.log")"
    printf '%s\t%s\t%s\tfailed\t1\n' "$what" "$peer" "$turn" >>"$results"
    beside_over
    return 1
  fi
}

beside_over() { # [wait] : ends it, or waits for its end; its lines: beside.tsv
  local fd=${out_of[beside]}
  [ "${1:-}" = wait ] || kill "$beside_pid" 2>/dev/null || :
  cat <&"$fd" >"$work/beside.tsv"
  exec {fd}<&-
  wait "$beside_pid" 2>/dev/null || :
  unset 'pids[-1]'
}

# ---- the cases: one repetition of one peer ----

bulk_case() { # CASE PEER REPETITION OPTION...
  local what=$1 peer=$2 turn=$3
  shift 3
  set_processes "$peer"
  measure "$what" "$peer" "$turn" bulk --port "${port[$peer]}" \
    "${processes[@]}" --ms $bulk_ms "$@"
}

case_bulk_up() { bulk_case "$@" --up; }
case_bulk_down() { bulk_case "$@" --down; }
case_bulk_both() { bulk_case "$@" --up --down; }
case_streams_8() { bulk_case "$@" --down --streams 8; }
case_streams_64() { bulk_case "$@" --down --streams 64; }
case_streams_256() { bulk_case "$@" --down --streams 256; }

echo_case() { # CASE PEER REPETITION
  set_processes "$2"
  measure "$1" "$2" "$3" echo --port "${port[$2]}" --ms $echo_ms \
    "${processes[@]}"
}

case_echo() { echo_case "$@"; }

# Alone first, within the same moment: the ratio is what is asked for.
case_echo_idle() {
  if "$bench" echo --port "${port[$2]}" --ms $echo_ms >"$work/measured"; then
    record "$1" "$2" "$3" alone_ <"$work/measured"
  fi
  beside "$@" hold --port "${port[$2]}" --streams $idle || return 0
  echo_case "$@"
  beside_over
}

case_echo_bulk() {
  beside "$@" bulk --port "${port[$2]}" --down \
    --ms $((2 * echo_ms + 500)) || return 0
  set_processes "$2"
  measure "$1" "$2" "$3" echo --port "${port[$2]}" --ms $((2 * echo_ms)) \
    "${processes[@]}"
  beside_over wait
  record "$1" "$2" "$3" beside_ <"$work/beside.tsv"
}

first_case() { # CASE PEER REPETITION OPTION...
  measure "$1" "$2" "$3" first --port "${port[$2]}" \
    --to "${yardstick:-$hub_port}" --ca-file "$hub_dir/ca.pem" "${@:4}"
}

case_first() { first_case "$@" --ms $((4 * echo_ms)); }

# Our ends keep a connection for the next stream, for 5 s: here none is left.
case_first_alone() { first_case "$@" --delay-ms 5500 --ms 16000; }

case_opens() {
  set_processes "$2"
  measure "$1" "$2" "$3" opens --port "${port[$2]}" --ms $echo_ms \
    --streams $((idle / 5)) "${processes[@]}"
}

memory_case() { # COMMAND CASE PEER REPETITION OPTION...
  local command=$1 what=$2 peer=$3 turn=$4 settle=1000
  shift 4
  # Ours gives buffers back after seconds; others' memory stands at once.
  [ $mode != smoke ] || settle=100
  [ "$peer$command" != dstreamidle ] || [ $mode = smoke ] || settle=4500
  start_afresh "$peer"
  set_processes "$peer"
  measure "$what" "$peer" "$turn" "$command" --port "${port[$peer]}" \
    --settle-ms $settle --base $idle_base "${processes[@]}" "$@"
}

case_idle() { memory_case idle "$@" --streams $idle; }
case_stalled() { memory_case stalled "$@" --streams $stalled; }

case_rtt() {
  set_processes "$2"
  # Its processes at the exit are others; the throughput is what is asked for.
  measure "$1" "$2" "$3" bulk --port "${far[$2]}" --down --ms $bulk_ms
}

case_frames() {
  local relay_only=(--process "relay=${relay[$2]}")
  case $2 in
  dstream) measure "$1" "$2" "$3" frames --device frames \
    --device-file "$work/frames.string" --ca-file "$hub_dir/ca.pem" \
    --ms $echo_ms "${relay_only[@]}" ;;
  haproxy) measure "$1" "$2" "$3" records --port "$haproxy_relay_port" \
    --ca-file "$hub_dir/ca.pem" --ms $echo_ms "${relay_only[@]}" ;;
  esac
}

peers_of() { # CASE
  case $1 in
  streams-*) those plain haproxy nginx ssh-rl-gcm dstream ;;
  echo-*) those haproxy ssh-rl-gcm dstream ;;
  idle | stalled)
    # shellcheck disable=SC2086
    those $memory_peers
    ;;
  first-alone) those dstream ;;
  rtt) those plain haproxy ssh-rl ssh-rl-gcm dstream ;;
  frames) those haproxy dstream ;;
  *)
    # shellcheck disable=SC2086
    those $peers
    ;;
  esac
}

run_case() { # CASE : A B C, A B C, ...
  local turn peer begun=$SECONDS
  for ((turn = 1; turn <= repeats; turn++)); do
    for peer in $(peers_of "$1"); do
      "case_${1//-/_}" "$1" "$peer" "$turn"
    done
  done
  note "$1: $((SECONDS - begun)) s"
}

# ---- all of it ----

load_before=$(cut -d' ' -f1-3 /proc/loadavg)
start_target
start_hub max_streams_per_device 4000 requests_per_second 100000 \
  request_burst 100000 max_pending_per_device 4000 max_pending 4000
https_port=${line#*https=}
https_port=${https_port%% *}
hub_port=${https_port##*:}
for peer in $peers; do
  if ! command -v "$(peer_command "$peer")" >/dev/null; then
    note "$peer is left out: scripts/setup.sh --bench installs it"
    continue
  fi
  start_peer "$peer"
done
for peer in $(those $peers); do
  warm "$peer"
done
note "measuring $(those $peers | tr '\n' ' ')"
for what in $all_cases; do
  [[ " $skip " != *" $what "* ]] || continue
  ! wanted "$what" || run_case "$what"
done

# shellcheck source=../tests/bench/report.sh
. "$root/tests/bench/report.sh"
write_report
note "results are in $out"
[ $mode = smoke ] || cat "$out/goals.md"
if [ $mode = smoke ] && grep -q 'failed' "$results"; then
  fail "not every measurement worked"
fi
