#!/bin/bash
# tests/load/streams.sh [STREAMS [IDLE_SECONDS [ECHOES]]] - idle streams on one
# hub: what it takes to set them up, what they cost the hub while nothing is
# sent, what a small echo takes beside them; then all are closed at once.
#
# Both ends of every stream are the library's, in one process, over TLS that is
# verified.  Nothing may fail, and the hub must come back to the memory and the
# descriptors it had.  Scaled down where the limit of descriptors is too low.
# Prints "load: NAME=VALUE ...".
. "$(dirname "$0")/../programs/lib.sh"
. "$(dirname "$0")/load.sh"

streams=${1:-300}
idle_seconds=${2:-1}
echoes=${3:-500}
devices=10
asked=$streams

# Two connections for each stream in the hub, as many ends in dstream_load.
hard=$(ulimit -H -n)
if [ "$hard" != unlimited ] && [ "$hard" -lt $((2 * streams + 2048)) ]; then
  streams=$(((hard - 2048) / 2))
  note "no more than $hard descriptors may be had here: $streams streams" \
    "instead of $asked"
  [ $streams -ge 50 ] || skip "that is too few"
fi
ulimit -S -n "$hard"

start_hub_for_load max_streams $((streams + 100)) \
  max_streams_per_device $((streams / devices + 100)) \
  max_connections $((2 * streams + 1000)) requests_per_second 100000 \
  request_burst 100000
start_streams $devices

# The first ones make what is there once: measure from 20 on.
ask "open 20" opened
ask "echo $echoes" echoed
alone_p50=$(value p50_us)
alone_p99=$(value p99_us)
pss_before=$(pss_kb "$hub_pid")
fds_before=$(descriptors "$hub_pid")

ask "open $((streams - 20))" opened
opened=$(value opened)
failed=$(value failed)
took=$(value seconds)
rate=$(awk -v n="$opened" -v s="$took" 'BEGIN { printf "%.0f", n / s }')
[ "$failed $opened" = "0 $((streams - 20))" ] ||
  fail "$failed of $streams streams failed"
fds_held=$(descriptors "$hub_pid")

# An idle stream's buffers go back after two seconds.
sleep 3
pss_held=$(pss_kb "$hub_pid")
each=$(awk -v kb=$((pss_held - pss_before)) -v n="$opened" \
  'BEGIN { printf "%.1f", kb / n }')
cpu=$(cpu_ms "$hub_pid")
sleep "$idle_seconds"
cpu=$(($(cpu_ms "$hub_pid") - cpu))
busy=$(awk -v ms="$cpu" -v s="$idle_seconds" \
  'BEGIN { printf "%.2f", ms / s / 10 }')

ask "echo $echoes" echoed
p50=$(value p50_us)
p99=$(value p99_us)
ask close closed
[ "$(value closed) $(value failed)" = "$streams 0" ] ||
  fail "closing all: $line"
close_seconds=$(value seconds)

# The hub gives memory back some seconds after; kept connections of REST go too.
came_back() {
  fds_after=$(descriptors "$hub_pid")
  pss_after=$(pss_kb "$hub_pid")
  [ "$fds_after" -le $((fds_before + 8)) ] &&
    [ "$pss_after" -le $((pss_before + 3072 + (pss_held - pss_before) / 20)) ]
}
end=$((SECONDS + 30))
until came_back || [ $SECONDS -ge $end ]; do
  sleep 0.2
done
echo "load: streams=$streams asked=$asked failed=0 open_seconds=$took" \
  "open_per_second=$rate hub_pss_kb=$pss_held hub_kb_per_stream=$each" \
  "idle_seconds=$idle_seconds idle_cpu_percent=$busy" \
  "alone_p50_us=$alone_p50 alone_p99_us=$alone_p99 p50_us=$p50 p99_us=$p99" \
  "close_seconds=$close_seconds fds_before=$fds_before fds_held=$fds_held" \
  "fds_after=$fds_after pss_before_kb=$pss_before pss_after_kb=$pss_after"
came_back || fail "the hub keeps descriptors or memory"
