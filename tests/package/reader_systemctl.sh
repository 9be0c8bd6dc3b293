#!/bin/bash
# reader_systemctl.sh - stands in for systemctl where no systemd runs: enable,
# start, restart, stop and reload of a unit of ours, which is started as its file
# says, as its user.  tests/package/machine.sh has a true systemd.
set -eu
verb=''
unit=''
for argument; do
  case $argument in
  --now) ;;
  -*) exit 0 ;;
  *) if [ -z "$verb" ]; then verb=$argument; else unit=${argument%.service}; fi ;;
  esac
done
pid=/run/$unit.pid

start() {
  local user file=/usr/local/lib/systemd/system/$unit.service
  [ -e "$file" ] || return 0
  [ ! -e "$pid" ] || return 0
  mkfifo "/run/$unit.ready"
  user=$(sed -n 's/^User=//p' "$file")
  # shellcheck disable=SC2046
  setpriv --reuid="$user" --regid="$user" --init-groups \
    $(sed -n "s|^ExecStart=||p" "$file") \
    >"/run/$unit.ready" 2>>"/run/$unit.log" &
  echo $! >"$pid"
  timeout 30 head -1 "/run/$unit.ready"
}

stop() {
  [ -e "$pid" ] || return 0
  kill "$(cat "$pid")"
  tail --pid="$(cat "$pid")" -f /dev/null
  rm -f "$pid" "/run/$unit.ready"
}

case $verb in
enable | start) start ;;
disable | stop) stop ;;
restart)
  stop
  start
  ;;
reload) kill -HUP "$(cat "$pid")" ;;
daemon-reload) ;;
*)
  echo "systemctl: $verb is not known here" >&2
  exit 1
  ;;
esac
