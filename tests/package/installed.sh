#!/bin/bash
# installed.sh - run by machine.sh, as root, in a system where systemd runs:
# installs the packages beside this file, and uses them as an operator would.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd "$(dirname "$0")"
folder=/var/lib/dstream-hub
hub=dstream-hub.service
agent=dstream-agent.service

fail() {
  echo "installed: $*" >&2
  journalctl --no-pager -n 60 -o cat >&2 || :
  systemctl --no-pager status $hub $agent >&2 || :
  exit 1
}

step() {
  echo "packages: $* ($SECONDS s)"
}

install_packages() {
  dpkg --force-unsafe-io -i ./*.deb </dev/null || fail "dpkg -i"
}

state() { # UNIT
  systemctl show -P ActiveState "$1"
}

await() { # WHAT COMMAND...
  local what=$1
  shift
  for _ in $(seq 300); do
    ! "$@" || return 0
    sleep 0.1
  done
  fail "$what did not happen within 30 s"
}

as_hub() {
  runuser -u dstream-hub -- dstream-hub "$@"
}

# ---- what dpkg does ----

check_fresh() {
  local unit
  for unit in $hub $agent; do
    [ "$(systemctl is-enabled $unit)" = enabled ] || fail "$unit is not enabled"
    [ "$(state $unit)" = inactive ] ||
      fail "$unit is $(state $unit) without a configuration"
    [ -n "$(systemctl show -P ConditionTimestamp $unit)" ] ||
      fail "$unit would not have been started with a configuration"
  done
  [ "$(stat -c '%U:%G %a' $folder)" = "dstream-hub:dstream-hub 700" ] ||
    fail "$folder: $(stat -c '%U:%G %a' $folder)"
  [ "$(getent passwd dstream-hub | cut -d: -f6-)" = \
    "$folder:/usr/sbin/nologin" ] || fail "$(getent passwd dstream-hub)"
}

# ---- the services ----

start_hub() {
  as_hub init $folder --host localhost >/dev/null || fail "init"
  systemctl start $hub || fail "the hub does not start"
  systemctl status -n 0 --no-pager $hub | grep -q 'https port 443, mqtt port 8883' ||
    fail "the hub does not say which ports it has"
}

# What the kernel was told of the hub, its broker and the agent.
check_confined() { # PID CAPABILITIES_IN_HEX
  local line
  for line in "CapEff:	$2" "CapBnd:	$2" 'NoNewPrivs:	1' 'Seccomp:	2'; do
    grep -qxF "$line" "/proc/$1/status" ||
      fail "process $1 ($(cat "/proc/$1/comm")): no \"$line\""
  done
  ! grep -qE '^Uid:.*\<0\>' "/proc/$1/status" || fail "$1 runs as root"
}

check_hub_confined() {
  local pid main count=0
  main=$(systemctl show -P MainPID $hub)
  while read -r pid; do
    count=$((count + 1))
    check_confined "$pid" 0000000000000400
  done <"/sys/fs/cgroup/system.slice/$hub/cgroup.procs"
  [ $count = 2 ] || fail "the hub has $count processes, not a broker"
  ! nsenter -t "$main" -m -- touch /etc/written 2>/dev/null ||
    fail "the hub could write to /etc"
}

start_agent() {
  # A server that echoes: systemd listens, cat answers.
  cat >/run/systemd/system/echo.socket <<'END'
[Socket]
ListenStream=127.0.0.1:7
Accept=yes
END
  cat >/run/systemd/system/echo@.service <<'END'
[Service]
ExecStart=/bin/cat
StandardInput=socket
END
  systemctl daemon-reload
  systemctl start echo.socket
  as_hub device add $folder pump-7 >/etc/dstream-agent/connection-string
  chmod 600 /etc/dstream-agent/connection-string
  install -m 0644 $folder/ca.pem /etc/dstream-agent/ca.pem
  # As it came it names nothing to be reached, and says so.
  ! systemctl start $agent || fail "the agent started with nothing to offer"
  [ "$(systemctl show -P ExecMainStatus $agent)" = 2 ] ||
    fail "the agent ended with $(systemctl show -P ExecMainStatus $agent)"
  cat >/etc/dstream-agent/agent.json <<'END'
{"caFile": "ca.pem", "targets": {"echo": "127.0.0.1:7"}}
END
  systemctl start $agent || fail "the agent does not start"
  check_confined "$(systemctl show -P MainPID $agent)" 0000000000000000
}

# ---- streams ----

# As somebody who has the service's connection string and no more.
prepare_operator() {
  install -m 0644 $folder/ca.pem /tmp/ca.pem
  as_hub connection-string $folder >/tmp/service
  chown nobody /tmp/service
  chmod 600 /tmp/service
  head -c 1048576 /dev/urandom >/tmp/sent
}

connect() {
  runuser -u nobody -- dstream connect --ca-file /tmp/ca.pem \
    --connection-string-file /tmp/service --wait 20 pump-7 echo
}

check_stream() {
  connect </tmp/sent >/tmp/received || fail "dstream connect: status $?"
  cmp /tmp/sent /tmp/received || fail "other bytes came back"
}

# The samples, built against the installed library.
check_samples() {
  local name line
  export DSTREAM_CA_FILE=/tmp/ca.pem
  for name in echo_device echo_service; do
    # shellcheck disable=SC2046
    gcc -o /tmp/$name /usr/share/doc/libdstream-dev/examples/$name.c \
      $(pkg-config --cflags --libs dstream) || fail "$name does not build"
    readelf -d /tmp/$name | grep -q 'NEEDED.*\[libdstream.so.1\]' ||
      fail "$name does not need libdstream.so.1"
  done
  mkfifo /tmp/ready
  DSTREAM_CONNECTION_STRING=$(as_hub device add $folder sample) \
    /tmp/echo_device >/tmp/ready &
  read -r -t 60 line </tmp/ready || fail "echo_device is not ready"
  [ "$line" = "ready sample" ] || fail "echo_device said \"$line\""
  echo hello | DSTREAM_CONNECTION_STRING=$(cat /tmp/service) \
    timeout 60 /tmp/echo_service sample echo >/tmp/received ||
    fail "echo_service: status $?"
  [ "$(cat /tmp/received)" = hello ] || fail "the sample echoes something else"
  kill $!
  wait $! || :
}

said() { # TEXT
  journalctl --no-pager -o cat | grep -qF -e "$1"
}

check_reload() {
  systemctl reload $hub || fail "the hub does not reload"
  await "\"certificate reread\"" said 'certificate reread'
  systemctl reload $agent || fail "the agent does not reload"
  await "\"agent.json reread\"" said 'agent.json reread: 1 targets'
  [ "$(state $hub) $(state $agent)" = "active active" ] || fail "gone by SIGHUP"
}

# No line of the activity log is lost, and the new file is the one written to.
check_rotation() {
  local log=$folder/activity.log main before
  command -v logrotate >/dev/null || return 0
  main=$(systemctl show -P MainPID $hub)
  before=$(grep -c . $log) || fail "nothing is in $log"
  logrotate -f -s /tmp/rotated /etc/logrotate.d/dstream-hub || fail "logrotate"
  [ "$(grep -c . $log.1)" -ge "$before" ] || fail "the log lost lines"
  [ "$(stat -c '%U %a' $log)" = "dstream-hub 600" ] || fail "$(ls -l $log)"
  [ "$(systemctl show -P MainPID $hub)" = "$main" ] ||
    fail "the hub did not outlive the rotation of its log"
  before=$(grep -c . $log.1)
  check_stream
  await "a line in the new log" test -s $log
  [ "$(grep -c . $log.1)" = "$before" ] || fail "the old log is written to"
}

# ---- what else is installed ----

check_shell() {
  local name
  for name in dstream dstream-agent dstream-hub; do
    man -w $name >/dev/null || fail "there is no man page of $name"
    $name --version | grep -q "^$name [0-9]" || fail "$name --version"
    [ -e /usr/share/bash-completion/bash_completion ] || continue
    # shellcheck disable=SC2016
    bash -c '. /usr/share/bash-completion/bash_completion
      _completion_loader "$1"; complete -p "$1"' - $name >/tmp/said 2>&1 || :
    grep -q -- '-F _dstream' /tmp/said || fail "$name is not completed"
  done
}

# Installing once more is an upgrade to dpkg: what was changed stays, what ran
# runs again.
check_upgrade() {
  local before
  before=$(systemctl show -P MainPID $hub)
  cp /etc/dstream-agent/agent.json /tmp/agent.json
  install_packages
  cmp /tmp/agent.json /etc/dstream-agent/agent.json || fail "agent.json was lost"
  [ "$(state $hub)" = active ] || fail "the hub does not run any more"
  [ "$(systemctl show -P MainPID $hub)" != "$before" ] ||
    fail "the hub was not started again"
}

check_stop() {
  local unit
  for unit in $agent $hub; do
    systemctl stop $unit
    [ "$(systemctl show -P Result $unit)" = success ] ||
      fail "$unit ended with $(systemctl show -P Result $unit)"
  done
}

check_purge() {
  dpkg --force-unsafe-io -P dstream-hub dstream-agent || fail "dpkg -P"
  [ ! -e /etc/dstream-agent/agent.json ] || fail "agent.json outlives purge"
  [ -e $folder/identities.db ] || fail "purge took the devices' keys"
  [ ! -e $folder/run ] || fail "purge left $folder/run"
}

# What docs/hub.md says for a hub that was built and not packaged.
check_built() {
  local unit
  [ -d built/usr/local ] || return 0
  rm -r $folder
  cp -a built/. /
  systemd-sysusers && systemd-tmpfiles --create || fail "no user"
  systemctl daemon-reload
  as_hub init $folder --host localhost >/dev/null || fail "init of the built hub"
  systemctl enable --now $hub || fail "the built hub does not start"
  unit=$(systemctl show -P ExecStart $hub)
  case $unit in
  *path=/usr/local/bin/dstream-hub*) ;;
  *) fail "the built hub is $unit" ;;
  esac
  check_hub_confined
  systemctl stop $hub
}

install_packages
step "installed by dpkg"
check_fresh
start_hub
check_hub_confined
step "the hub runs"
start_agent
step "the agent runs"
prepare_operator
check_stream
check_samples
step "streams"
check_reload
check_rotation
check_shell
check_upgrade
check_stream
step "reloaded, upgraded"
check_stop
check_purge
step "stopped and purged"
check_built
step "built and installed by cmake"
