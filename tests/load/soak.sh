#!/bin/bash
# tests/load/soak.sh SECONDS - days of use in minutes, by real programs: a hub, a
# device that stays, one that comes and goes, a forward to both, and clients of
# every kind.  Between rounds of load all is idle, and then as it was: as many
# descriptors and threads in each process, and memory that does not grow.
#
# Every round: clients that talk, break off, stall, ask for what is not there; a
# device that is cut off, killed and started; SIGHUP for hub and agent; a twin
# that takes the staying device's connection.  The broker is killed once.  A few
# streams stay open throughout, and nothing of that may touch them.
#
# Closes with one line:
#   soak: seconds=N rounds=N streams=N bytes=N failures=N fd_growth=N
#   thread_growth=N hub_kb=N hub_growth_kb=N broker_kb=N ... forward_growth_kb=N
# fd_growth and thread_growth: the most of any process, from the end of the
# first third to the end.  *_kb: private, written memory at the end;
# *_growth_kb: the most of the last third above the most of the second.
case ${1:-} in
'' | *[!0-9]*)
  echo "usage: soak.sh SECONDS" >&2
  exit 2
  ;;
esac
seconds=$1
here=$(cd "$(dirname "$0")" && pwd)
DSTREAM_SOURCE_DIR=${DSTREAM_SOURCE_DIR:-$(cd "$here/../.." && pwd)}
DSTREAM_BINARY_DIR=${DSTREAM_BINARY_DIR:-$DSTREAM_SOURCE_DIR/build}
# shellcheck source=../programs/lib.sh
. "$here/../programs/lib.sh"
clients=$bin/dstream_test_soak
[ -x "$clients" ] || skip "$clients is not built (-DDSTREAM_BUILD_TESTS=ON)"

# Idle connections to the hub are kept for 20 s, so that a short run has some of
# them when it counts, and a long one waits until they are gone.
rounds=12
short=no
[ "$seconds" -ge 120 ] || short=yes
[ $short = no ] || rounds=3
load=$((seconds / rounds > 6 ? seconds / rounds - 3 : 3))
fd_slack=0
[ $short = no ] || fd_slack=8
standing=4

# ---- what runs

launch echo "$peer" server --echo --quiet
next_line echo
echo_port=${line#listening }
random_file "$work/data" 1
launch breaker "$peer" server --send "$work/data" --reset-after 200000 --quiet
next_line breaker
breaker_port=${line#listening }
refused_port=$(free_port)

start_hub max_streams_per_device 5000 requests_per_second 100000 \
  request_burst 100000 max_pending_per_device 5000 handshake_seconds 6
for device in steady shaky; do
  (umask 077 && "$bin/dstream-hub" device add "$hub_dir" $device \
    >"$work/$device.string")
done
cat >"$work/agent.json" <<END
{"connectionStringFile": "$work/steady.string", "ratePerSecond": 100000,
 "targets": {"echo": "127.0.0.1:$echo_port",
             "breaker": "127.0.0.1:$breaker_port",
             "refused": "127.0.0.1:$refused_port"}}
END
launch agent "$bin/dstream-agent" --config "$work/agent.json"
steady_pid=$pid
next_line agent
[ "$line" = "ready steady" ] || fail "the agent said \"$line\""

run_shaky() {
  run_agent shaky --quiet --rate 100000 --target "echo=127.0.0.1:$echo_port"
  shaky_pid=$agent_pid
}
run_shaky

forward 6 -q --timeout 6 steady echo 0 shaky echo 0 steady breaker 0 \
  steady refused 0 steady nobody 0 nowhere echo 0

# ---- streams that stay

stay=()
for ((i = 0; i < standing; i++)); do
  exec {fd}<>"/dev/tcp/127.0.0.1/${ports[0]}"
  stay+=("$fd")
done
check_standing() {
  local fd
  for fd in "${stay[@]}"; do
    echo "round $round" >&"$fd"
    read -r -t $deadline -u "$fd" line || fail "a stream that was to stay ended"
    [ "$line" = "round $round" ] || fail "a standing stream said \"$line\""
  done
}

# ---- looking

broker_of_hub() {
  local children
  children=$(cat "/proc/$hub_pid/task/$hub_pid/children")
  echo "${children%% *}"
}

pid_of() { # NAME
  case $1 in
  hub) echo "$hub_pid" ;;
  broker) broker_of_hub ;;
  agent) echo "$steady_pid" ;;
  forward) echo "$forward_pid" ;;
  esac
}

count_fds() { # PID
  find "/proc/$1/fd" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l
}

count_threads() { # PID
  awk '/^Threads:/ { print $2 }' "/proc/$1/status"
}

# Pages that only this process has, and has written to: others come and go with
# whoever else runs the same program.
written_kb() { # PID
  awk '/^Private_Dirty/ { kb += $2 } END { print kb }' "/proc/$1/smaps_rollup"
}

declare -A fds threads kb base_fds base_threads second_kb last_kb

look() {
  local name pid
  for name in hub broker agent forward; do
    pid=$(pid_of $name)
    fds[$name]=$(count_fds "$pid")
    threads[$name]=$(count_threads "$pid")
    kb[$name]=$(written_kb "$pid")
  done
}

# What every process has above what it had: fd_growth, thread_growth.
compare() {
  local name more
  look
  fd_growth=0
  thread_growth=0
  for name in hub broker agent forward; do
    more=$((fds[$name] - base_fds[$name]))
    [ $more -le $fd_growth ] || fd_growth=$more
    more=$((threads[$name] - base_threads[$name]))
    [ $more -le $thread_growth ] || thread_growth=$more
  done
  [ $fd_growth -le $fd_slack ] && [ $thread_growth -le 0 ]
}

# Idle: until the numbers stand still for a while, which is more than connections
# are kept.
settle() {
  local last='' quiet=0 now end=$((SECONDS + 60))
  while [ $quiet -lt "$1" ] && [ $SECONDS -lt $end ]; do
    look
    now="${fds[*]} ${threads[*]}"
    quiet=$((quiet + 1))
    [ "$now" = "$last" ] || quiet=0
    last=$now
    sleep 0.5
  done
}

note_kb() { # NAME OF ARRAY
  local -n most=$1
  local name
  for name in hub broker agent forward; do
    [ "${kb[$name]}" -le "${most[$name]:-0}" ] ||
      most["$name"]=${kb[$name]}
  done
}

# ---- disturbing

logged() { # NAME COUNT TEXT : the log has that many such lines
  [ "$(grep -c "$3" "$work/$1.log")" -ge "$2" ]
}

was_logged() { # NAME TEXT
  grep -c "$2" "$work/$1.log" || :
}

close_out() { # NAME : of a launched program
  local fd=${out_of[$1]}
  exec {fd}<&-
}

shaky_goes() {
  local signal=TERM
  sleep $((load / 3))
  kill -HUP "$hub_pid" "$steady_pid"
  "$bin/dstream-hub" device disable "$hub_dir" shaky
  [ $((round % 2)) = 0 ] || signal=KILL
  kill -$signal "$shaky_pid"
  "$bin/dstream-hub" device enable "$hub_dir" shaky
}

# Another process with the same identity: the agent loses its connection, and
# comes back.  Or the broker goes, which is the same for all.
take_over() {
  local before
  before=$(was_logged agent 'connected again as steady')
  if [ $round = 1 ]; then
    kill -KILL "$(broker_of_hub)"
  else
    launch twin "$bin/dstream-agent" --quiet --target "a=127.0.0.1:1" \
      --connection-string-file "$work/steady.string"
    next_line twin
    end "$pid"
    unset 'pids[-1]'
    close_out twin
  fi
  eventually logged agent $((before + 1)) 'connected again as steady'
}

streams=0
bytes=0
failures=0
field() { # NAME, of the clients' line
  sed -E "s/.*\b$1=([0-9]+).*/\1/" <<<"$result"
}

for ((round = 1; round <= rounds; round++)); do
  shaky_goes &
  disturber=$!
  result=$("$clients" $load 8 $round echo="${ports[0]}" shaky="${ports[1]}" \
    breaker="${ports[2]}" refused="${ports[3]}" nobody="${ports[4]}" \
    nowhere="${ports[5]}") || note "failures in round $round: $result"
  wait $disturber || fail "the disturber"
  streams=$((streams + $(field streams)))
  bytes=$((bytes + $(field bytes)))
  failures=$((failures + $(field failures)))
  take_over
  end "$shaky_pid"
  close_out agent-shaky
  run_shaky
  check_standing
  if [ $round = $((rounds / 3)) ]; then
    [ $short = yes ] || settle 45
    look
    for name in hub broker agent forward; do
      base_fds[$name]=${fds[$name]}
      base_threads[$name]=${threads[$name]}
    done
  elif [ $round -gt $((rounds / 3)) ]; then
    settle 2
    [ $round -gt $((rounds * 2 / 3)) ] || note_kb second_kb
    [ $round -le $((rounds * 2 / 3)) ] || note_kb last_kb
  fi
  settled_kb="hub ${kb[hub]:-} broker ${kb[broker]:-} agent ${kb[agent]:-}"
  note "round $round: $result; KB: $settled_kb forward ${kb[forward]:-}"
done

[ $short = yes ] || settle 45
end=$((SECONDS + 30))
until compare || [ $SECONDS -ge $end ]; do
  sleep 0.5
done
check_standing

# ---- what it came to

sums="soak: seconds=$seconds rounds=$rounds streams=$streams bytes=$bytes"
sums+=" failures=$failures fd_growth=$fd_growth thread_growth=$thread_growth"
bad=''
for name in hub broker agent forward; do
  growth=$((last_kb[$name] - second_kb[$name]))
  sums+=" ${name}_kb=${kb[$name]} ${name}_growth_kb=$growth"
  [ $growth -le $((second_kb[$name] / 20 + 512)) ] || bad+=" $name's memory"
done
echo "$sums"
[ $failures = 0 ] || fail "$failures failures"
[ $fd_growth -le $fd_slack ] ||
  fail "descriptors: ${fds[*]}, not ${base_fds[*]} (${!fds[*]})"
[ $thread_growth = 0 ] || fail "threads: ${threads[*]}, not ${base_threads[*]}"
[ -z "$bad" ] || [ -n "$sanitized" ] || fail "grows:$bad"
