#!/bin/bash
# One bulk transfer beside 50 connections whose reader has stopped: how much
# memory each of those costs in each process, and what the bulk one loses.
. "$(dirname "$0")/lib.sh"
need nc

stalled=50
rounds=5
megabytes=200
limit_kb=256 # usually 230 in the hub, 160 at the ends
least=80 # percent

launch flood "$peer" server --endless --quiet
next_line flood
flood_port=${line#listening }
random_file "$work/data" $megabytes
launch source "$peer" server --quiet \
  --send "$work/data"
next_line source
source_port=${line#listening }

start_hub
start_agent device-7 --target "flood=127.0.0.1:$flood_port" \
  --target "source=127.0.0.1:$source_port"
forward 2 device-7 flood 0 device-7 source 0
flood=${ports[0]} source=${ports[1]}

bulk_ms() {
  local start=${EPOCHREALTIME/./} got
  got=$(timeout 60 nc -d 127.0.0.1 "$source" </dev/null | wc -c)
  [ "$got" = $((megabytes * 1048576)) ] || fail "the bulk transfer: $got bytes"
  echo $(((${EPOCHREALTIME/./} - start) / 1000))
}

memory() {
  echo "$(private_kb "$hub_pid") $(private_kb "$agent_pid")" \
    "$(private_kb "$forward_pid")"
}

# They have stalled when no process's memory changes any more.
settled() { # SECONDS
  local before after
  before=$(memory)
  sleep "$1"
  after=$(memory)
  [ "$before" = "$after" ]
}

bulk_ms >/dev/null # warm
before=$(memory)
alone=()
beside=()
for ((i = 0; i < rounds; i++)); do
  alone+=("$(bulk_ms)")
  launch "stalled$i" "$peer" many "$flood" \
    $stalled
  stalled_pid=$pid
  next_line "stalled$i"
  [ "$line" = up ] || fail "the stalled ones: $line"
  eventually settled 0.5
  # A connection gives its buffers for TLS back after two seconds.
  [ $i -lt $((rounds - 1)) ] || eventually settled 2.5
  after=$(memory)
  beside+=("$(bulk_ms)")
  end "$stalled_pid"
done

paste <(tr ' ' '\n' <<<"$before") <(tr ' ' '\n' <<<"$after") \
  <(printf '%s\n' hub agent forward) |
  while read -r a b who; do
    each=$(((b - a) / stalled))
    note "$who: $each KB for each stalled connection ($a to $b KB)"
    [ $each -le $limit_kb ] || fail "$who: more than $limit_kb KB"
  done

median() {
  printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"
}
a=$(median "${alone[@]}")
b=$(median "${beside[@]}")
note "bulk: ${alone[*]} ms alone, ${beside[*]} ms beside $stalled stalled ones"
[ $((a * 100 / b)) -ge $least ] ||
  fail "the bulk transfer kept $((a * 100 / b)) % of its speed"
note "the bulk transfer kept $((a * 100 / b)) % of its speed"
