# tests/programs/lib.sh - sourced by the tests of this folder: a hub, an agent
# and `dstream` as their users run them, in a temporary folder, on free ports.
# shellcheck shell=bash disable=SC2034
#
# Everything waits for a line or an event, with a deadline; nothing is left.
set -eu
export LC_ALL=C
unset http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY

source_dir=${DSTREAM_SOURCE_DIR:?}
bin=${DSTREAM_BINARY_DIR:?}/bin
sanitized=${DSTREAM_SANITIZE:-}
work=$(mktemp -d)
deadline=60 # seconds that one step may take
pids=()

note() {
  printf '%s: %s\n' "$(basename "$0")" "$*"
}

fail() {
  local log
  note "FAILED: $*"
  for log in "$work"/*.log; do
    [ -s "$log" ] || continue
    echo "--- $(basename "$log")"
    tail -25 "$log"
  done
  exit 1
}

skip() {
  note "skipped: $*"
  exit 77
}

need() { # COMMANDS...
  local command
  for command; do
    command -v "$command" >/dev/null || skip "$command is not installed"
  done
}

# Ends a process: asks, and after ten seconds insists, which is a failure.
end() { # PID [SIGNAL]
  local try
  kill "-${2:-TERM}" "$1" 2>/dev/null || :
  for ((try = 0; try < 200; try++)); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.05
  done
  if kill -9 "$1" 2>/dev/null; then
    note "process $1 did not end when it was asked to"
    return 1
  fi
  wait "$1" 2>/dev/null || return 0
}

clean_up() {
  local status=$? i
  trap '' INT TERM
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    end "${pids[i]}" || status=1
  done
  rm -rf "$work"
  exit $status
}
trap clean_up EXIT

# Runs a program in the background: its stdout is read line by line with `line`,
# its stderr is $work/NAME.log.  Sets `pid`.
declare -A out_of=()
launch() { # NAME COMMAND...
  local name=$1 fd
  shift
  rm -f "$work/$name.out"
  mkfifo "$work/$name.out"
  "$@" >"$work/$name.out" 2>>"$work/$name.log" </dev/null &
  pid=$!
  pids+=("$pid")
  exec {fd}<"$work/$name.out"
  out_of[$name]=$fd
}

# The next line that a launched program prints: in `line`.
next_line() { # NAME [SECONDS]
  read -r -t "${2:-$deadline}" -u "${out_of[$1]}" line ||
    fail "$1 ended, or said nothing within ${2:-$deadline} s"
}

# Waits until a command succeeds.
eventually() { # COMMAND...
  local end=$((SECONDS + deadline))
  until "$@"; do
    [ $SECONDS -lt $end ] || fail "not within $deadline s: $*"
    sleep 0.05
  done
}

listens() { # PORT
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A port that nobody listens on now.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    if ! listens $port; then
      echo $port
      return
    fi
  done
}

same() { # FILE FILE WHAT
  cmp -s "$1" "$2" || fail "$3: $1 ($(wc -c <"$1") bytes) and $2" \
    "($(wc -c <"$2") bytes) differ"
}

random_file() { # FILE MEGABYTES
  head -c "$2"M /dev/urandom >"$1"
}

# ---- hub, agent, forward ----

hub_dir=$work/hub
hub_pid=''

run_hub() {
  launch hub "$bin/dstream-hub" run "$hub_dir"
  hub_pid=$pid
  next_line hub
  case $line in
  ready*) ;;
  *) fail "the hub said \"$line\"" ;;
  esac
}

# Ports that stay the same when the hub is started again.
# shellcheck disable=SC2120
start_hub() { # [LIMIT VALUE]...
  "$bin/dstream-hub" init "$hub_dir" --host localhost \
    --https-port "$(free_port)" --mqtt-port "$(free_port)" >/dev/null
  while [ $# -ge 2 ]; do
    sed -i "s/\"$1\":[[:space:]]*[0-9]*/\"$1\": $2/" "$hub_dir/hub.json"
    shift 2
  done
  run_hub
  export DSTREAM_CA_FILE=$hub_dir/ca.pem
  DSTREAM_CONNECTION_STRING=$("$bin/dstream-hub" connection-string "$hub_dir")
  export DSTREAM_CONNECTION_STRING
}

agent_pid=''
run_agent() { # DEVICE ARGUMENTS...
  local device=$1
  shift
  launch "agent-$device" "$bin/dstream-agent" \
    --connection-string-file "$work/$device.string" "$@"
  agent_pid=$pid
  next_line "agent-$device"
  [ "$line" = "ready $device" ] || fail "the agent said \"$line\""
}

start_agent() { # DEVICE ARGUMENTS...
  "$bin/dstream-hub" device add "$hub_dir" "$1" >"$work/$1.string"
  run_agent "$@"
}

# Sets `ports`: what each forward listens on, in their order.
forward_pid=''
forward() { # COUNT ARGUMENTS...
  local count=$1 i
  shift
  launch forward "$bin/dstream" forward "$@"
  forward_pid=$pid
  ports=()
  for ((i = 0; i < count; i++)); do
    next_line forward
    case $line in
    "listening "*) ports+=("${line##*:}") ;;
    *) fail "dstream forward said \"$line\"" ;;
    esac
  done
}

# Private memory of a process in KB.
private_kb() { # PID
  awk '/^Private_/ { kb += $2 } END { print kb }' "/proc/$1/smaps_rollup"
}

peer=$bin/dstream_test_peer # TCP peers: see peer.c
