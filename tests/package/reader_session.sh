#!/bin/bash
# reader_session.sh - run by reader.sh: an sshd, and then what a page says.
set -eu
place='nothing yet'
command=''
expected=''

at() { # PLACE
  place=$1
  echo "== $1"
}

complain() { # STATUS
  [ "$1" = 0 ] || echo "docs: $place: failed (status $1)"
}
trap 'complain $?' EXIT

# Without what differs from run to run: how long, how many, which version, and
# whether ssh was gone before the last bytes came; and without empty lines.
comparable() {
  sed -E 's/\r//; s/ *[0-9][0-9.,]* (ms|s|bytes)\>/ N \1/g
    s/(OpenSSH_).*/\1/; /^$/d; /: what read from stdout went away/d'
}

# Runs $command, whose output has to be $expected; one that runs on may take a
# while to say it.  Without expectations it has to succeed.
shows() {
  local said pattern try
  said=$(mktemp)
  if [ -z "$expected" ]; then
    eval "$command"
    return
  fi
  eval "$command" >"$said" 2>&1 || :
  pattern=$(comparable <<<"${expected%$'\n'}" |
    sed 's/[][\\*?]/\\&/g; s/\.\.\./*/g')
  for ((try = 0; try < 200; try++)); do
    # shellcheck disable=SC2053
    [[ $(comparable <"$said") != $pattern ]] || return 0
    [ $try = 0 ] || sleep 0.1
  done
  echo "docs: $place: $command prints"
  cat "$said"
  echo "docs: and not"
  echo "$expected"
  exit 1
}

await_hub() { # DIR
  local try
  for ((try = 0; try < 300; try++)); do
    ! dstream-hub check "$1" | grep -q 'https_port.*by this hub' || return 0
    sleep 0.1
  done
  echo "docs: $place: the hub in $1 is not there"
  exit 1
}

# Things that a page takes for granted.
given() { # WHAT
  case $1 in
  'a hub' | 'a hub and a device')
    DIR=/srv/hub
    dstream-hub init $DIR --host hub.example.com >/dev/null
    dstream-hub run $DIR 2>/srv/hub.log &
    await_hub $DIR
    ;;&
  'a hub and a device')
    (
      umask 077
      dstream-hub device add $DIR pump-7 >/srv/pump-7.txt
    )
    dstream-agent --connection-string-file /srv/pump-7.txt \
      --ca-file $DIR/ca.pem --target ssh=127.0.0.1:22 2>/srv/agent.log &
    ;;&
  'a service' | 'a hub and a device')
    DSTREAM_CONNECTION_STRING=$(dstream-hub connection-string $DIR)
    export DSTREAM_CONNECTION_STRING DSTREAM_CA_FILE=$DIR/ca.pem
    ;;&
  'a hub and a device')
    dstream connect --wait 60 pump-7 ssh </dev/null >/dev/null 2>&1 || :
    ;;
  'some files')
    head -c 100000 /dev/urandom >firmware.bin
    mkdir tree
    seq 1000 >tree/numbers
    git init -q -b main --bare /srv/config.git
    ;;
  esac
}

is_json() {
  node -e 'JSON.parse(require("fs").readFileSync(0, "utf8"))'
}

start_sshd() {
  mkdir -p /run/sshd /root/.ssh
  chmod 700 /root/.ssh
  ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
  cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
  [ -s /etc/ssh/ssh_host_ed25519_key ] ||
    ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
  printf '%s\n' 'HostKey /etc/ssh/ssh_host_ed25519_key' \
    'PermitRootLogin prohibit-password' 'Subsystem sftp internal-sftp' \
    >/etc/ssh/sshd_config
  # Nobody is there to say yes.
  printf '%s\n' 'Host *' 'StrictHostKeyChecking accept-new' 'LogLevel ERROR' \
    >/etc/ssh/ssh_config
  /usr/sbin/sshd
}

ldconfig
start_sshd
# The README is read in the clone.
cd /root/dstream
# shellcheck disable=SC1091
. /reader/session
place=end
