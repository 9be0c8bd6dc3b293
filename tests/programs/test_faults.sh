#!/bin/bash
# Peers that stop reading, break off, come late or refuse, and a hub that is
# restarted under load: nothing lost, nothing invented, nobody else hurt.
. "$(dirname "$0")/lib.sh"
need nc

megabytes=48
[ -z "$sanitized" ] || megabytes=12
stall_ms=10000

random_file "$work/data" $megabytes
sum=$(sha256sum <"$work/data" | cut -d' ' -f1)
bytes=$(stat -c %s "$work/data")

serve() { # NAME OPTIONS... : sets `port`
  local name=$1
  shift
  launch "$name" "$peer" server "$@"
  next_line "$name"
  port=${line#listening }
}

field() { # JSON NAME
  sed -E 's/.*"'"$2"'":"?([^",}]*).*/\1/' <<<"$1"
}

expect() { # JSON NAME VALUE WHAT
  [ "$(field "$1" "$2")" = "$3" ] || fail "$4: $2 is not $3 in $1"
}

serve source --send "$work/data"
source_port=$port
serve sink --answer
sink_port=$port
serve lazy --answer --read-after $stall_ms
lazy_port=$port
serve breaker --send "$work/data" --reset-after 3000000
breaker_port=$port
serve echo --echo
echo_port=$port
late_port=$(free_port)

agent_options=(
  --target "source=127.0.0.1:$source_port"
  --target "sink=127.0.0.1:$sink_port"
  --target "lazy=127.0.0.1:$lazy_port"
  --target "breaker=127.0.0.1:$breaker_port"
  --target "echo=127.0.0.1:$echo_port"
  --target "late=127.0.0.1:$late_port"
)
start_hub
start_agent device-7 "${agent_options[@]}"
forward 6 device-7 source 0 device-7 sink 0 device-7 lazy 0 \
  device-7 breaker 0 device-7 echo 0 device-7 late 0
source=${ports[0]} sink=${ports[1]} lazy=${ports[2]}
breaker=${ports[3]} echo=${ports[4]} late=${ports[5]}

# ---- a peer that stops reading for 10 s, while the other ends its direction

"$peer" client "$source" --read-after $stall_ms >"$work/stalled.down" &
stalled_down=$!
"$peer" client "$lazy" --send "$work/data" --save "$work/stalled.answer" \
  >"$work/stalled.up" &
stalled_up=$!

# meanwhile: one that breaks off in the middle, the target's end
result=$(timeout 60 "$peer" client "$breaker" \
  --save "$work/part")
expect "$result" how reset "a target that resets"
part=$(field "$result" received)
[ "$part" = 3000000 ] || fail "$part bytes of 3000000 came before the reset"
cmp -n "$part" "$work/part" "$work/data" || fail "bytes were invented"
note "a target that resets after 3 MB: all of them came, then the reset"

# ... the client's end
"$peer" client "$sink" --send "$work/data" --reset-after 2000000 >/dev/null
next_line sink
expect "$line" how reset "a client that resets"
[ "$(field "$line" received)" -le 2000000 ] || fail "bytes were invented"
note "a client that resets after 2 MB: the target sees a reset"

# ---- half-close, as on plain TCP

answer=$( (cat "$work/data") | timeout 60 nc -N 127.0.0.1 "$sink") ||
  fail "nc -N"
[ "$answer" = "$bytes $sum" ] || fail "nc -N: $answer, not $bytes $sum"
answer=$(timeout 60 "$bin/dstream" connect device-7 sink <"$work/data") ||
  fail "dstream connect"
[ "$answer" = "$bytes $sum" ] || fail "dstream connect: $answer"
timeout 60 "$bin/dstream" connect device-7 source </dev/null >"$work/out" ||
  fail "dstream connect, download"
same "$work/data" "$work/out" "a download with stdin at its end"
for _ in 1 2; do
  next_line sink
done
note "half-close: nc -N, connect"

# ---- a target that refuses, and comes up late

status=0
timeout 60 "$bin/dstream" connect device-7 late </dev/null 2>"$work/refused" ||
  status=$?
if [ $status != 1 ] || [ "$(wc -l <"$work/refused")" != 1 ] ||
  ! grep -q "127.0.0.1:$late_port.*refused" "$work/refused"; then
  fail "a target that refuses: status $status, $(cat "$work/refused")"
fi
result=$("$peer" client "$late")
case $(field "$result" how) in
reset | ECONNRESET) ;;
*) fail "a target that refuses: $result" ;;
esac
serve late-one --port "$late_port" --send "$work/data"
result=$("$peer" client "$late")
expect "$result" sha256 "$sum" "a target that came up late"
expect "$result" how end "a target that came up late"
note "a target that refuses, then comes up"

# ---- the stalled ones, to the last byte

wait $stalled_down || fail "the stalled client"
expect "$(cat "$work/stalled.down")" sha256 "$sum" "read after 10 s"
expect "$(cat "$work/stalled.down")" how end "read after 10 s"
wait $stalled_up || fail "the client of a stalled target"
[ "$(cat "$work/stalled.answer")" = "$bytes $sum" ] ||
  fail "a target that read after 10 s: $(cat "$work/stalled.answer")"
note "peers that stopped reading for 10 s got every byte"

# ---- a hub, an agent, a forward that go under load: nobody takes what came
# for all there is, and all goes on when they are back

load_starts() {
  local i
  rm -f "$work"/load.*
  clients=()
  for i in 1 2 3 4; do
    "$peer" client "$echo" --endless --save "$work/load.$i" \
      >"$work/load.$i.json" &
    clients+=($!)
  done
  for i in 1 2 3 4; do
    eventually test -s "$work/load.$i"
  done
}

load_is_cut() { # WHAT
  local i
  for i in 1 2 3 4; do
    wait "${clients[i - 1]}" || fail "client $i"
    expect "$(cat "$work/load.$i.json")" how reset "$1"
  done
}

echo_works() {
  local result
  result=$(timeout 20 "$peer" client "$echo" \
    --send "$work/data") || return 1
  [ "$(field "$result" sha256)" = "$sum" ]
}

for signal in TERM KILL; do
  load_starts
  end "$hub_pid" $signal
  load_is_cut "the hub went ($signal)"
  run_hub
  eventually echo_works
  kill -0 "$agent_pid" || fail "the agent is gone"
  kill -0 "$forward_pid" || fail "the forward is gone"
  note "a hub restarted with $signal under load"
done

for signal in TERM KILL; do
  load_starts
  end "$agent_pid" $signal
  load_is_cut "the agent went ($signal)"
  run_agent device-7 "${agent_options[@]}"
  eventually echo_works
  note "an agent restarted with $signal under load"
done

load_starts
exec {echo_lines}<&"${out_of[echo]}"
while read -r -t 0.2 -u "$echo_lines" line; do :; done
end "$forward_pid" KILL
load_is_cut "the forward went"
for _ in 1 2 3 4; do
  read -r -t $deadline -u "$echo_lines" line || fail "a target was not told"
  expect "$line" how reset "the forward went"
done
note "a forward killed under load: its clients and targets see a reset"
