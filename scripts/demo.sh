#!/bin/bash
# scripts/demo.sh - a first success, from nothing: builds everything, starts a
# hub, connects a device that only dials out, opens a stream to it by its id and
# has it echo a line and a megabyte.
#
# Everything runs on this machine, in a temporary folder, on free ports, and is
# gone at the end.  Exit status 0 when all of it worked.  With DSTREAM_DEMO_BUILD
# set, the programs of that build folder are used as they are.
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C

build=${DSTREAM_DEMO_BUILD:-build}
hub=$build/bin/dstream-hub
device=$build/samples/echo_device
service=$build/samples/echo_service
device_id=demo-device
work=''
hub_pid=''
device_pid=''

say() {
  printf '\n%s\n' "$*"
}

fail() {
  printf '\ndemo: %s\n' "$*" >&2
  if [ -s "$work/log" ]; then
    echo "demo: what hub, device and service said last:" >&2
    tail -30 "$work/log" | told >&2
  fi
  exit 1
}

# Ends a process: asks, and after five seconds insists.  The status is that of
# the process; 143 is one that does nothing special when asked to end.
end() { # PID
  local try
  [ -n "$1" ] || return 0
  kill "$1" 2>/dev/null || :
  for ((try = 0; try < 50; try++)); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.1
  done
  kill -9 "$1" 2>/dev/null || :
  wait "$1" 2>/dev/null
}

clean_up() {
  local status=$?
  trap '' INT TERM
  end "$device_pid" || :
  end "$hub_pid" || :
  [ -z "$work" ] || rm -rf "$work"
  exit $status
}

stamp() { # WHO : each line on stdin, with the time and who said it
  local line
  while IFS= read -r line; do
    printf '%s %s %s\n' "${EPOCHREALTIME/./}" "$1" "$line"
  done
}

start_us=0
end_us=0
mark=0

told() { # prints stamped lines with their time since start_us in ms
  sort -n -s -k1,1 | awk -v start="$start_us" '{
    who = $2
    ms = ($1 - start) / 1000
    sub(/^[0-9]+ [a-z]+ /, "")
    sub(/^[0-9][0-9T:.-]*Z? /, "") # its own clock: ours stands before it
    sub(/^[a-z]+ hub: /, "")
    printf "  %8.1f ms  %-8s %s\n", ms, who, $0
  }'
}

# Waits for one line on a pipe that begins with the given word.
await_line() { # PIPE WORD WHO
  local line='' fd
  exec {fd}<"$1"
  if ! read -r -t 20 -u "$fd" line; then
    fail "the $3 ended, or did not say \"$2\" within 20 s"
  fi
  case $line in
  "$2"*) ;;
  *) fail "the $3 said \"$line\" instead of \"$2\"" ;;
  esac
  printf '%s\n' "$line"
  # The pipe stays open for reading, so that the writer is never killed by it.
}

start_hub() {
  "$hub" init "$work/hub" --host localhost --https-port 0 --mqtt-port 0 \
    >"$work/init" 2>&1 || {
    cat "$work/init" >&2
    fail "the hub's folder could not be made"
  }
  mkfifo "$work/hub.out"
  "$hub" run "$work/hub" >"$work/hub.out" 2> >(stamp hub >>"$work/log") &
  hub_pid=$!
  await_line "$work/hub.out" ready hub
}

start_device() {
  local connection
  connection=$("$hub" device add "$work/hub" $device_id) ||
    fail "the device could not be added"
  mkfifo "$work/device.out"
  DSTREAM_CONNECTION_STRING=$connection DSTREAM_CA_FILE=$work/hub/ca.pem \
    "$device" >"$work/device.out" 2> >(stamp device >>"$work/log") &
  device_pid=$!
  await_line "$work/device.out" ready device
}

# Sends a file through a stream and keeps what comes back.
echo_file() { # SENT RECEIVED
  mark=$(wc -l <"$work/log")
  start_us=${EPOCHREALTIME/./}
  DSTREAM_CONNECTION_STRING=$service_string DSTREAM_CA_FILE=$work/hub/ca.pem \
    timeout 30 "$service" $device_id echo <"$1" >"$2" \
    2> >(stamp service >>"$work/log") ||
    fail "the service sample failed (exit status $?)"
  end_us=${EPOCHREALTIME/./}
}

# What everybody said since the last echo_file began.
steps() {
  sleep 0.2 # the other two may still be saying how it ended
  tail -n +$((mark + 1)) "$work/log" | told
}

sum() { # FILE
  sha256sum "$1" | cut -d' ' -f1
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d)
: >"$work/log"

say "1. Install what is missing, and build"
[ -n "${DSTREAM_DEMO_BUILD:-}" ] || scripts/setup.sh

say "2. Start a hub: a broker, a REST endpoint and a streaming endpoint"
start_hub

say "3. Connect a device; it opens no port, it only dials out"
start_device

say "4. Open a stream to the device by its id, and have it echo a line"
service_string=$("$hub" connection-string "$work/hub") ||
  fail "the hub gave no connection string for the service"
echo "Hello from behind the firewall." >"$work/line"
echo_file "$work/line" "$work/line.back"
steps
cmp -s "$work/line" "$work/line.back" ||
  fail "another line came back: $(head -c 200 "$work/line.back")"
echo "  came back: $(cat "$work/line.back")"

say "5. Echo a megabyte of random bytes through a second stream"
head -c 1048576 /dev/urandom >"$work/bytes"
echo_file "$work/bytes" "$work/bytes.back"
echo "  sent      sha256 $(sum "$work/bytes")"
echo "  came back sha256 $(sum "$work/bytes.back")"
[ "$(sum "$work/bytes")" = "$(sum "$work/bytes.back")" ] ||
  fail "other bytes came back than were sent"
echo "  there and back in $(((end_us - start_us) / 1000)) ms, handshake included"

say "6. End both sides"
end "$device_pid" || [ $? = 143 ] ||
  fail "the device did not end in an orderly way"
device_pid=''
end "$hub_pid" || fail "the hub ended with exit status $?"
hub_pid=''
if grep -qsaF "$work" /proc/[0-9]*/cmdline; then
  fail "a process was left behind"
fi
echo "  device and hub have ended, nothing is left behind"

say "It works.  The two programs are samples/echo_device.c and" \
  "samples/echo_service.c."
