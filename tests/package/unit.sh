#!/bin/bash
# unit.sh SOURCE_DIR BINARY_DIR - the agent's systemd unit is well formed, shuts
# out what an agent has no use for, and starts the agent with options that it
# has; the example configuration is one that it takes.
set -eu
source=$1
agent=$2/bin/dstream-agent
unit=$source/packaging/systemd/dstream-agent.service
most=20 # tenths: systemd's "exposure level", from 0 to 100
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "unit: $*" >&2
  exit 1
}

# What the unit starts, with the program of this build.
command=$(sed -n 's/^ExecStart=//p' "$unit")
printf '%s\n' "HostName=hub;DeviceId=d;SharedAccessKey=a2V5" \
  >"$work/connection-string"
chmod 600 "$work/connection-string"
command=${command/#\/usr\/bin\/dstream-agent/$agent}
command=${command/\/etc\/dstream-agent/$source/packaging/dstream-agent}
CREDENTIALS_DIRECTORY=$work
command=${command/\$\{CREDENTIALS_DIRECTORY\}/$CREDENTIALS_DIRECTORY}
# shellcheck disable=SC2086
said=$($command --check) || fail "does not start: $command"
[ "$said" = "ok: d, 1 targets, 0 patterns" ] || fail "the agent said \"$said\""

if ! command -v systemd-analyze >/dev/null; then
  echo "unit: systemd-analyze is missing, the unit itself was not checked"
  exit 77
fi
# The program is not installed here; that is all that may be wrong.
sed "s|^\\(Exec[A-Za-z]*=\\)/usr/bin/dstream-agent|\\1$agent|" "$unit" \
  >"$work/dstream-agent.service"
systemd-analyze verify --man=no "$work/dstream-agent.service" \
  >"$work/said" 2>&1 || fail "$(cat "$work/said")"
if grep -q 'dstream-agent' "$work/said"; then
  fail "$(cat "$work/said")"
fi
if ! systemd-analyze security --offline=true "$work/dstream-agent.service" \
  >"$work/security" 2>&1; then
  grep -q -- --offline "$work/security" || fail "$(tail -1 "$work/security")"
  echo "unit: this systemd-analyze can't rate a file"
  exit 77
fi
level=$(sed -nE 's/.*exposure level for [^:]*: ([0-9]+)\.([0-9]).*/\1\2/p' \
  "$work/security")
[ -n "$level" ] || fail "no exposure level: $(tail -1 "$work/security")"
[ "$((10#$level))" -lt $most ] ||
  fail "the exposure level is $level tenths, not under $most"
echo "unit: exposure level $((10#$level)) tenths"
