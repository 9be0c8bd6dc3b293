#!/bin/bash
# units.sh SOURCE_DIR BINARY_DIR - the systemd units of hub and agent are well
# formed, shut out what the programs have no use for, and start them with options
# that they have; the example configuration is one that the agent takes.
# That they run so is seen by packages.sh.
set -eu
source=$1
bin=$2/bin
units=$source/packaging/systemd
most=20 # tenths: systemd's "exposure level", from 0 to 100
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "units: $*" >&2
  exit 1
}

exec_start() { # UNIT : what it starts, with the program of this build
  local command
  command=$(sed -n 's/^ExecStart=//p' "$units/$1.service")
  [ "${command#/usr/bin/"$1" }" != "$command" ] ||
    fail "$1 does not start /usr/bin/$1"
  echo "$bin/${command#/usr/bin/}"
}

check_agent() {
  local command said example=$source/packaging/dstream-agent
  CREDENTIALS_DIRECTORY=$work
  printf '%s\n' "HostName=hub;DeviceId=d;SharedAccessKey=a2V5" \
    >"$work/connection-string"
  chmod 600 "$work/connection-string"
  command=$(exec_start dstream-agent)
  command=${command/\/etc\/dstream-agent/$example}
  command=${command/\$\{CREDENTIALS_DIRECTORY\}/$CREDENTIALS_DIRECTORY}
  # shellcheck disable=SC2086
  said=$($command --check) || fail "does not start: $command"
  [ "$said" = "ok: d, 1 targets, 0 patterns" ] || fail "the agent said \"$said\""
}

# A folder that is none: 2 would be wrong usage.
check_hub() {
  local command status=0
  command=$(exec_start dstream-hub)
  command=${command/\/var\/lib\/dstream-hub/$work/none}
  $command 2>"$work/said" || status=$?
  [ $status = 1 ] || fail "status $status of $command: $(cat "$work/said")"
}

# The program is not installed here; that is all that may be wrong.
rate() { # UNIT : prints the exposure level in tenths
  local level
  sed "s|^\\(Exec[A-Za-z]*=\\)/usr/bin/dstream|\\1$bin/dstream|" \
    "$units/$1.service" >"$work/$1.service"
  systemd-analyze verify --man=no "$work/$1.service" >"$work/said" 2>&1 ||
    fail "$(cat "$work/said")"
  ! grep -q "$1" "$work/said" || fail "$(cat "$work/said")"
  if ! systemd-analyze security --offline=true --threshold=$((most - 1)) \
    "$work/$1.service" >"$work/security" 2>&1; then
    if ! grep -qe --offline "$work/security"; then
      grep -E '^✗|level' "$work/security" >&2 || :
      fail "$1: the exposure level is not below $most tenths"
    fi
    echo "units: this systemd-analyze can't rate a file"
    exit 77
  fi
  level=$(sed -nE 's/.*exposure level for [^:]*: ([0-9]+)\.([0-9]).*/\1\2/p' \
    "$work/security")
  [ -n "$level" ] || fail "no exposure level: $(tail -1 "$work/security")"
  echo "units: $1: exposure level $((10#$level)) tenths"
}

check_agent
check_hub
if ! command -v systemd-analyze >/dev/null; then
  echo "units: systemd-analyze is missing, the units were not rated"
  exit 77
fi
rate dstream-agent
rate dstream-hub

# The hub's user and its folder, as root, who may make both.
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$work/root/etc"
  systemd-sysusers --root="$work/root" "$source/packaging/sysusers/dstream-hub.conf" \
    >/dev/null 2>&1 || fail "the user could not be made"
  grep -q '^dstream-hub:.*:/var/lib/dstream-hub:/usr/sbin/nologin$' \
    "$work/root/etc/passwd" || fail "no user: $(cat "$work/root/etc/passwd")"
  systemd-tmpfiles --root="$work/root" --create \
    "$source/packaging/tmpfiles/dstream-hub.conf" || fail "no folder was made"
  [ "$(stat -c %a "$work/root/var/lib/dstream-hub")" = 700 ] ||
    fail "the folder's mode is not 0700"
fi
