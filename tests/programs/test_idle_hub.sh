#!/bin/bash
# tests/programs/test_idle_hub.sh [SECONDS]
# What a hub costs while nothing happens: how often it and its broker wake up.
# Some devices are connected, and nobody asks them for anything.
#
# The hub has nothing to do but a few looks a minute.  mosquitto's loop wakes
# ten times a second by itself, and that can't be configured: what is bounded is
# what comes on top.
. "$(dirname "$0")/lib.sh"

[ -z "$sanitized" ] || skip "sanitizers wake up no more often"

devices=3
seconds=${1:-5}

# Of all threads.
wakeups() { # PID
  awk '/^voluntary_ctxt_switches/ { n += $2 } END { print n }' \
    "/proc/$1/task"/*/status
}

start_hub
for ((i = 0; i < devices; i++)); do
  start_agent "device-$i" --target "none=127.0.0.1:9"
done
broker_pid=$(cut -d' ' -f1 "/proc/$hub_pid/task/$hub_pid/children")
[ "$(cat "/proc/$broker_pid/comm")" = mosquitto ] || fail "where is the broker?"

# Also after a change, and after what that brings with it has ended.
quiet() {
  local before=$hub
  sleep 2
  hub=$(wakeups "$hub_pid")
  [ "$hub" = "$before" ]
}
hub=0
"$bin/dstream-hub" device add "$hub_dir" another >/dev/null
eventually quiet

broker=$(wakeups "$broker_pid")
hub=$(wakeups "$hub_pid")
sleep $seconds
broker=$(($(wakeups "$broker_pid") - broker))
hub=$(($(wakeups "$hub_pid") - hub))
note "$devices idle devices, $seconds s: hub $hub wake-ups ($((hub * 3600 / \
  seconds)) an hour), broker $broker ($((broker * 3600 / seconds)) an hour)"
# A look at the identities, a tick, libwebsockets' own: each may fall in here.
[ $hub -le $((seconds / 10 + 4)) ] || fail "the hub is woken too often"
[ $broker -le $((seconds * 10 + 10)) ] || fail "the broker is woken too often"

# And it is awake when there is something to do.
"$bin/dstream-hub" device remove "$hub_dir" device-0
eventually grep -q "device-0 is dropped: it was removed" "$work/hub.log"
