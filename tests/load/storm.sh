#!/bin/bash
# tests/load/storm.sh [DEVICES [PER_PROCESS [HOW...]]] - devices that come back
# to a hub that was restarted.  HOW is one or more of
#   term      SIGTERM, and started again at once
#   kill      SIGKILL, likewise
#   kill:S    SIGKILL, and started again S seconds later
#
# The devices are the library's own (Paho MQTT inside, default backoff), many in
# a process.  Each must come back by itself, and the first attempts, which the
# backoff spreads over a second, must not fall together.  Prints, for each HOW, a
# histogram of when devices were ready again after the hub was, and
# "storm: NAME=VALUE ...".
. "$(dirname "$0")/../programs/lib.sh"
. "$(dirname "$0")/load.sh"

devices=${1:-100}
per_process=${2:-50}
shift $(($# > 2 ? 2 : $#))
[ $# -gt 0 ] || set -- kill
hard=$(ulimit -H -n)
ulimit -S -n "$hard"

start_hub_for_load max_connections $((devices + 1000))
# Of all processes, line by line: see load.h.
events=$work/events
: >"$events"
mkfifo "$work/never"
exec 8<>"$work/never"
processes=0
loads=()
for ((first = 0; first < devices; first += per_process)); do
  count=$((devices - first < per_process ? devices - first : per_process))
  "$bin/dstream_load" devices $first $count <&8 >>"$events" \
    2>>"$work/devices.log" 9>&- &
  pids+=($!)
  loads+=($!)
  processes=$((processes + 1))
done

now_ms() {
  "$bin/dstream_load" now
}

# Devices that were ready after a time.
ready_since() { # MS
  awk -v from="$1" '$1 == "ready" && $3 >= from && !seen[$2]++ { n++ }
    END { print n + 0 }' "$events"
}

wait_all() { # SINCE_MS SECONDS
  local end=$((SECONDS + $2)) count pid
  while count=$(ready_since "$1") && [ "$count" -lt "$devices" ]; do
    for pid in "${loads[@]}"; do
      kill -0 "$pid" 2>/dev/null || fail "dstream_load has ended"
    done
    [ $SECONDS -lt $end ] ||
      fail "only $count of $devices devices are back after $2 s"
    sleep 0.3
  done
}

broker_pid() {
  local children
  children=$(cat "/proc/$hub_pid/task/$hub_pid/children")
  echo "${children%% *}"
}

# Bars of how many devices were ready in each interval since the hub was back.
histogram() { # DOWN_MS UP_MS
  awk -v down="$1" -v up="$2" -v devices="$devices" '
    $3 < down { next }
    $1 == "try" && !tried[$2]++ {
      first[int(($3 - down) / 100)]++
      firsts++
    }
    $1 == "try" { tries++ }
    $1 == "ready" && !back[$2]++ {
      at[$2] = $3 > up ? $3 - up : 0
      if (at[$2] > last)
        last = at[$2]
      count++
    }
    END {
      width = last <= 5000 ? 250 : last <= 25000 ? 1000 : 5000
      for (id in at) {
        bin[int(at[id] / width)]++
        if (++quarter[int(at[id] / 250)] > together)
          together = quarter[int(at[id] / 250)]
      }
      for (i = 0; i <= int(last / width); i++)
        if (bin[i] > peak)
          peak = bin[i]
      for (i = 0; i <= int(last / width); i++) {
        bar = ""
        for (n = 0; n < bin[i] * 50 / peak; n++)
          bar = bar "#"
        printf "%6.2f s %5d %s\n", i * width / 1000, bin[i], bar
      }
      for (i in first)
        if (first[i] > most)
          most = first[i]
      printf "back=%d last_ms=%d peak_250ms=%d tries_per_device=%.2f ",
        count, last, together, tries / devices
      printf "first_tries=%d first_tries_peak_100ms=%d\n", firsts, most
    }' "$events"
}

field() { # NAME TEXT
  local words=" $2 "
  words=${words#*" $1="}
  echo "${words%% *}"
}

storm() { # HOW
  local how=$1 down up cpu result wait_seconds=0
  case $how in kill:*) wait_seconds=${how#kill:} ;; esac
  : >"$work/hub.log"
  down=$(now_ms)
  if [ "$how" = term ]; then
    end "$hub_pid" || fail "the hub did not end when it was asked to"
  else
    end "$hub_pid" KILL
  fi
  sleep "$wait_seconds"
  run_hub
  up=$(now_ms)
  # Ten times what it should take, and what the backoff allows after a while.
  wait_all "$down" $((120 + 4 * wait_seconds))
  cpu=$(($(cpu_ms "$hub_pid") + $(cpu_ms "$(broker_pid)")))
  result=$(histogram "$down" "$up")
  note "$how: $devices library devices in $processes processes;" \
    "the hub was away for $((up - down)) ms"
  printf '%s\n' "$result" | sed '$d'
  result=$(printf '%s\n' "$result" | tail -1)
  echo "storm: how=$how devices=$devices processes=$processes" \
    "client=paho away_ms=$((up - down)) $result hub_cpu_ms=$cpu" \
    "hub_warnings=$(grep -cE ' (warning|error) ' "$work/hub.log")"
  grep -E ' (warning|error) ' "$work/hub.log" | cut -c1-200 | sort -k4 |
    uniq -c -f 2 | sort -rn | head -5
  # The first attempts: a tenth of a second each has a tenth of them, about.
  [ "$(field first_tries_peak_100ms "$result")" -le $((devices * 4 / 10)) ] ||
    fail "the first attempts fall together"
  # Few processes look at their connections in step.
  [ $devices -lt 1000 ] ||
    [ "$(field peak_250ms "$result")" -le $((devices * 8 / 10)) ] ||
    fail "the devices come back together"
}

wait_all 0 300
note "$devices devices are connected"
for how; do
  storm "$how"
done
