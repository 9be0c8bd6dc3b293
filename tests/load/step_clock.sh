#!/bin/bash
# tests/load/step_clock.sh LIBRARY - clocks that are stepped by an hour, forward
# and back, for hub (with its broker), agent and forward, together and each
# alone: running streams and control connections stay, nothing hangs or spins,
# and tokens do as their lifetimes say.  LIBRARY is made of step_clock.c.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../programs/lib.sh
. "$here/../programs/lib.sh"
library=$1
[ -f "$library" ] || skip "$library is not built"

launch echo "$peer" server --echo --quiet
next_line echo
echo_port=${line#listening }
head -c 50000 /dev/urandom >"$work/data"
sum=$(sha256sum <"$work/data" | cut -d' ' -f1)

# Programs that are run from here on live by the clock of that name.
clock_of() { # NAME
  printf '%+08d' 0 >"$work/$1.clock"
  export DSTREAM_TEST_CLOCK=$work/$1.clock LD_PRELOAD=$library
}
declare -A now=([hub]=0 [agent]=0 [forward]=0)
step() { # SECONDS NAMES... : without the file ever being empty
  local by=$1 name
  shift
  for name; do
    now[$name]=$((now[$name] + by))
    printf '%+08d' "${now[$name]}" 1<>"$work/$name.clock"
  done
}

clock_of hub
start_hub requests_per_second 100000 request_burst 100000
clock_of agent
(umask 077 && "$bin/dstream-hub" device add "$hub_dir" device-7 \
  >"$work/device-7.string")
run_agent device-7 -v --rate 100000 --target "echo=127.0.0.1:$echo_port"
clock_of forward
forward 1 -q --timeout 10 device-7 echo 0
unset LD_PRELOAD DSTREAM_TEST_CLOCK
broker_pid=$(cut -d' ' -f1 "/proc/$hub_pid/task/$hub_pid/children")
everybody=(hub agent forward)
agent_log=$work/agent-device-7.log

exec {standing}<>"/dev/tcp/127.0.0.1/${ports[0]}"
stays() { # WHEN
  echo "$1" >&"$standing"
  read -r -t $deadline -u "$standing" line ||
    fail "$1: the running stream ended"
  [ "$line" = "$1" ] || fail "$1: the running stream said \"$line\""
}

echo_works() {
  timeout 30 "$peer" client "${ports[0]}" --send "$work/data" | grep -q "$sum"
}

works() { # WHEN
  echo_works || fail "$1: no new stream"
  stays "$1"
}

lines() { # TEXT FILE
  grep -c "$1" "$2" || :
}

ticks() { # PID
  awk '{ print $14 + $15 }' "/proc/$1/stat"
}

# Nobody is busy who has nothing to do; in a hundredth of a second.
does_not_spin() { # WHEN
  local pid before=()
  for pid in "$hub_pid" "$broker_pid" "$agent_pid" "$forward_pid"; do
    before+=("$(ticks "$pid")")
  done
  sleep 1
  for pid in "$hub_pid" "$broker_pid" "$agent_pid" "$forward_pid"; do
    [ $(($(ticks "$pid") - before[0])) -le 20 ] ||
      fail "$1: $(cat "/proc/$pid/comm") is busy with nothing"
    before=("${before[@]:1}")
  done
}

works "before"

# ---- all of them, as on one machine: forward, and back

connected='info presence: device device-7 can be reached'
for by in 3600 -3600 -3600 3600; do
  step $by "${everybody[@]}"
  works "all by $by"
done
does_not_spin "all"
[ "$(lines "$connected" "$work/hub.log")" = 1 ] ||
  fail "the device was disconnected by a step"
stamps=$(grep -o '^[^.]*' "$work/hub.log" | cut -dT -f2 | cut -d: -f1 | uniq |
  wc -l)
[ "$stamps" -ge 4 ] || fail "the hub's clock was not stepped"
note "all by an hour, forward and back: nothing was disconnected"

# ---- handshakes that are under way: a hub's tokens do not mind its clock

"$bin/dstream_test_soak" 3 4 1 echo="${ports[0]}" >"$work/storm" 2>&1 &
storm=$!
for _ in {1..10}; do
  step -3600 hub
  sleep 0.1
  step 3600 hub
  sleep 0.1
done
wait $storm || fail "handshakes while the hub's clock was stepped: $(cat "$work/storm")"
note "handshakes while the hub's clock was stepped: $(cat "$work/storm")"

# ---- past the end of the device's token: it is renewed, streams stay

step 3600 "${everybody[@]}"
works "all, once"
step 3600 "${everybody[@]}"
eventually grep -q "device device-7 is dropped: its token expired" "$work/hub.log"
eventually grep -q "connected again" "$agent_log"
works "all, beyond the token"
does_not_spin "all, beyond the token"
step -7200 "${everybody[@]}"
works "all, back at once"
[ "$(lines "$connected" "$work/hub.log")" = 2 ] ||
  fail "the device was disconnected by a step back"
note "beyond the token's end: a new one, the stream stays"

# ---- one clock that is wrong

step -3600 hub
works "the hub behind"
step 3600 hub
step -3600 agent
works "the agent behind"
step 7200 agent
works "the agent ahead"
step -3600 agent
step 3600 forward
works "the service ahead"
step -3600 forward
[ "$(lines "$connected" "$work/hub.log")" = 2 ] ||
  fail "the device was disconnected by one wrong clock"

# ---- so wrong that new tokens are not valid: said, and over when it is right

step -3600 forward
if echo_works; then
  fail "a token that expired an hour ago is taken"
fi
eventually grep -q "expired" "$work/forward.log"
grep -qi "clock" "$work/forward.log" ||
  fail "clocks are not mentioned: $(tail -1 "$work/forward.log")"
stays "the service behind"
step 3600 forward
works "the service right again"

step 14400 hub # the device's token was made two hours ahead
eventually grep -q "device device-7 is refused: .*expired" "$work/hub.log"
stays "the hub far ahead"
eventually grep -qi "clock" "$agent_log"
does_not_spin "the hub far ahead"
step 14400 agent forward
came_back() {
  [ "$(lines "$connected" "$work/hub.log")" = 3 ]
}
eventually came_back
works "all of them ahead"
note "a clock that is wrong: said, and over when it is right"
