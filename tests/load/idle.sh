#!/bin/bash
# tests/load/idle.sh [SECONDS] - what an idle device costs: dstream-agent and
# samples/echo_device are connected to a hub, and nobody asks them for anything.
#
# Counted for SECONDS (default 60): how often each thread goes to sleep (once
# for each time that it was woken), the time it runs, and what its connection
# carries.  Paho's two threads are told from this project's own.  Prints one
# line, "idle: NAME=VALUE ...", per hour:
#
#   PROGRAM_own_wakeups          of this project's threads together
#   PROGRAM_paho_send_wakeups    of Paho's
#   PROGRAM_paho_receive_wakeups
#   PROGRAM_own_cpu_ms, PROGRAM_paho_cpu_ms
#   PROGRAM_threads
#   PROGRAM_bytes_out, PROGRAM_bytes_in, PROGRAM_packets_out,
#   PROGRAM_packets_in           TCP's payload and segments; add 40 bytes for
#                                each of these (IPv4) and what is below
#
# A ping of MQTT goes every 240 s: with fewer SECONDS none may be among the
# bytes, and with some more it counts for too much (1200 counts five).
. "$(dirname "$0")/../programs/lib.sh"
need ss

seconds=${1:-60}
programs=(agent echo_device)
declare -A pid_of first second

# Of one thread: how often it slept, and ns that it ran.
slept() { # TASK
  awk '/^voluntary_ctxt_switches/ { print $2 }' "$1/status"
}
ran() { # TASK
  cut -d' ' -f1 "$1/schedstat"
}

# NAME=VALUE lines of one program, as they are now.
look() { # PROGRAM
  local pid=${pid_of[$1]} task kind
  for task in "/proc/$pid/task"/*; do
    case $(cat "$task/comm") in
    MQTTAsync_send*) kind=paho_send ;;
    MQTTAsync_rcv*) kind=paho_receive ;;
    *) kind=own ;;
    esac
    echo "${kind}_wakeups $(slept "$task")"
    echo "${kind%_*}_cpu $(ran "$task")"
  done
  ss -Htinp | grep -A1 "pid=$pid," | grep -oE \
    '(bytes_sent|bytes_received|segs_out|segs_in):[0-9]+' | tr ':' ' '
}

sum() { # NAME : of what is read
  awk -v name="$1" '$1 == name { sum += $2 } END { printf "%.0f", sum }'
}

# Appends to `result`: what was counted between the two looks, per hour.
result="seconds=$seconds"
per_hour() { # PROGRAM NAME IN_LOOK DIVISOR
  local before after
  before=$(sum "$3" <<<"${first[$1]}")
  after=$(sum "$3" <<<"${second[$1]}")
  result="$result $1_$2=$(((after - before) * 3600 / seconds / $4))"
}

ready() { # PROGRAM : its connection is there, and nothing has moved for 2 s
  local last now
  last=$(look "$1" | grep -E '^(bytes|segs)')
  sleep 2
  now=$(look "$1" | grep -E '^(bytes|segs)')
  [ -n "$now" ] && [ "$now" = "$last" ]
}

start_hub
start_agent device-1 --target "none=127.0.0.1:9"
pid_of[agent]=$agent_pid
"$bin/dstream-hub" device add "$hub_dir" device-2 >"$work/device-2.string"
DSTREAM_CONNECTION_STRING=$(cat "$work/device-2.string") \
  launch echo_device "$bin/../samples/echo_device"
pid_of[echo_device]=$pid

for program in "${programs[@]}"; do
  eventually ready "$program"
done
for program in "${programs[@]}"; do
  first[$program]=$(look "$program")
done
sleep "$seconds"
for program in "${programs[@]}"; do
  second[$program]=$(look "$program")
done

for program in "${programs[@]}"; do
  threads=("/proc/${pid_of[$program]}/task"/*)
  result="$result ${program}_threads=${#threads[@]}"
  for kind in own paho_send paho_receive; do
    per_hour "$program" ${kind}_wakeups ${kind}_wakeups 1
  done
  per_hour "$program" own_cpu_ms own_cpu 1000000
  per_hour "$program" paho_cpu_ms paho_cpu 1000000
  per_hour "$program" bytes_out bytes_sent 1
  per_hour "$program" bytes_in bytes_received 1
  per_hour "$program" packets_out segs_out 1
  per_hour "$program" packets_in segs_in 1
done
echo "idle: $result"
