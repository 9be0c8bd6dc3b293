#!/bin/bash
# How many descriptors the hub lets itself have: what its connections need,
# whatever it was started with; and all there may be for its broker.
set -eu
hub=${DSTREAM_HUB:?}
work=$(mktemp -d)
pid=''
clean_up() {
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || :
  [ -z "$pid" ] || wait "$pid" 2>/dev/null || :
  rm -rf "$work"
}
trap clean_up EXIT

fail() {
  echo "test_descriptors: $*" >&2
  exit 1
}

soft_limit() { # PID
  awk '/^Max open files/ { print $4 }' "/proc/$1/limits"
}

# 3 for each connection, 2 for each stream, and 1024 for all else
connections=16
streams=5
wanted=$((1024 + 3 * connections + 2 * streams))
hard=$(ulimit -H -n)
if [ "$hard" != unlimited ] && [ "$hard" -le $wanted ]; then
  echo "no more than $hard descriptors may be had here"
  exit 77
fi

"$hub" init "$work/hub" --host localhost --https-port 0 --mqtt-port 0 >/dev/null
set_limit() { # NAME VALUE
  sed -i "s/\"$1\":[[:space:]]*[0-9]*/\"$1\": $2/" "$work/hub/hub.json"
}
set_limit max_connections $connections
set_limit max_streams $streams
mkfifo "$work/out"

for before in 200 "$hard"; do
  (
    ulimit -S -n "$before"
    exec "$hub" run "$work/hub" 2>"$work/log"
  ) >"$work/out" &
  pid=$!
  exec 3<"$work/out"
  read -r -t 30 line <&3 || fail "the hub said nothing: $(cat "$work/log")"
  case $line in
  ready*) ;;
  *) fail "the hub said $line" ;;
  esac
  now=$(soft_limit $pid)
  [ "$now" = $wanted ] || fail "started with $before, it has $now, not $wanted"
  broker=$(cat /proc/$pid/task/$pid/children)
  [ "$(soft_limit "${broker%% *}")" = "$hard" ] ||
    fail "the broker has $(soft_limit "${broker%% *}"), not $hard"
  kill $pid
  wait $pid || fail "the hub ended with $?"
  pid=''
  exec 3<&-
done
