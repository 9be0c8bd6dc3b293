#!/bin/bash
# A thousand connections that are open and idle: what each costs the agent, and
# that none of them wakes it.
. "$(dirname "$0")/lib.sh"

count=1000
limit_kb=20
if [ -n "$sanitized" ]; then
  count=100
  limit_kb=1000 # the sanitizers' own
fi
hard=$(ulimit -H -n)
[ "$hard" = unlimited ] || [ "$hard" -ge $((20 * count)) ] ||
  skip "no more than $hard descriptors may be had here"
ulimit -S -n "$((3 * count + 200))"

launch echo "$peer" server --echo --quiet
next_line echo
echo_port=${line#listening }
start_hub max_streams_per_device 5000 requests_per_second 100000 \
  request_burst 100000 max_pending_per_device 5000
start_agent device-7 --target "echo=127.0.0.1:$echo_port" \
  --max-streams $((count + 10)) --rate 10000
forward 1 --max-connections $((count + 10)) device-7 echo 0

# The first connections cost what is there once: measure from 20 on.
launch first "$peer" many "${ports[0]}" 20 \
  --greet
next_line first
before=$(private_kb "$agent_pid")
launch rest "$peer" many "${ports[0]}" \
  $((count - 20)) --greet
next_line rest 120
[ "$line" = up ] || fail "$line"

# Its buffers go back once it has been idle for a moment.
each_kb=0
small() {
  after=$(private_kb "$agent_pid")
  each_kb=$(((after - before) / (count - 20)))
  [ $each_kb -lt $limit_kb ]
}
end=$((SECONDS + 15))
until small || [ $SECONDS -ge $end ]; do
  sleep 0.2
done
note "agent: $each_kb KB for each idle connection ($before to $after KB)"
[ $each_kb -lt $limit_kb ] || fail "less than $limit_kb KB was wanted"
note "forward: $(private_kb "$forward_pid") KB in all"

# Wake-ups of the thread that does the work, for 5 s.  The keepalive of a
# thousand streams is 33 pings and 33 pongs a second at most.
wakeups() {
  awk '/^voluntary_ctxt_switches/ { print $2 }' \
    "/proc/$agent_pid/task/$agent_pid/status"
}
start=$(wakeups)
sleep 5
woken=$(($(wakeups) - start))
note "agent: $woken wake-ups in 5 s with $count idle connections"
[ $woken -le $((count * 5 * 4 / 30 + 20)) ] || fail "it is woken too often"
