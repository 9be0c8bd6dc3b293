#!/bin/bash
# tests/load/descriptors.sh - more connections than the hub has descriptors: it
# neither ends nor spins, what is open goes on, and when they are gone all is as
# before.
. "$(dirname "$0")/../programs/lib.sh"
. "$(dirname "$0")/load.sh"

limit=160
ulimit -S -n 1024
# The hub and its broker: what they may have at most.
run_hub_limited() {
  # shellcheck disable=SC2016
  launch hub bash -c 'ulimit -n "$1"; shift; exec "$@"' bash $limit \
    "$bin/dstream-hub" run "$hub_dir"
  hub_pid=$pid
  next_line hub
}

start_hub_for_load head_seconds 60
end "$hub_pid"
run_hub_limited
start_streams 2
ask "open 4" opened
[ "$(value opened)" = 4 ] || fail "$line"

port=$(sed -nE 's/.*HttpsPort=([0-9]+).*/\1/p' <<<"$DSTREAM_CONNECTION_STRING")
many=()
for ((i = 0; i < 2 * limit; i++)); do
  exec {fd}<>"/dev/tcp/127.0.0.1/$port"
  many+=("$fd")
done
complained() {
  grep -qE "can't accept|refused a connection" "$work/hub.log"
}
eventually complained

# What is there goes on.
ask "echo 200" echoed
before=$(cpu_ms "$hub_pid")
sleep 2
busy=$(($(cpu_ms "$hub_pid") - before))
note "$(descriptors "$hub_pid") descriptors of $limit, $busy ms of CPU in 2 s"
[ $busy -le 400 ] || fail "the hub spins while it has no descriptors"
kill -0 "$hub_pid" || fail "the hub has ended"
note "$(grep -cE ' (warning|error) ' "$work/hub.log") lines in its log: $(
  grep -E ' (warning|error) ' "$work/hub.log" | head -1
)"

for fd in "${many[@]}"; do
  exec {fd}>&-
done
fewer() {
  [ "$(descriptors "$hub_pid")" -lt $((limit / 2)) ]
}
eventually fewer
ask "echo 10" echoed
ask "open 8" opened
[ "$(value opened)" = 8 ] || fail "afterwards: $line"
ask close closed
[ "$(value failed)" = 0 ] || fail "at the end: $line"
