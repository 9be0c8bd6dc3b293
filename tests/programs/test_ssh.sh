#!/bin/bash
# ssh, scp, rsync and git to a device, over `dstream connect` as ProxyCommand
# and over `dstream forward`; Debian's own programs on both sides.
. "$(dirname "$0")/lib.sh"
need ssh ssh-keygen /usr/sbin/sshd rsync git

megabytes=100
sessions=20
if [ -n "$sanitized" ]; then
  megabytes=10
  sessions=5
fi

# A user's shell start files must not speak in between.
export HOME=$work/home
mkdir -p "$HOME/.ssh" "$work/sshd"
chmod 700 "$HOME/.ssh"
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd

start_sshd() {
  sshd_port=$(free_port)
  ssh-keygen -q -t ed25519 -N '' -f "$work/sshd/host"
  ssh-keygen -q -t ed25519 -N '' -f "$work/sshd/user"
  cat >"$work/sshd/config" <<END
Port $sshd_port
ListenAddress 127.0.0.1
HostKey $work/sshd/host
AuthorizedKeysFile $work/sshd/user.pub
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
PasswordAuthentication no
MaxStartups 100
Subsystem sftp internal-sftp
END
  launch sshd /usr/sbin/sshd -D -e -f "$work/sshd/config"
  eventually listens "$sshd_port"
}

write_ssh_config() {
  printf 'device-7.device %s\n' "$(cut -d' ' -f1,2 "$work/sshd/host.pub")" \
    >"$work/known_hosts"
  cat >"$work/ssh_config" <<END
Host *.device
  ProxyCommand $bin/dstream connect \$(basename %h .device) ssh
  HostKeyAlias device-7.device
  UserKnownHostsFile $work/known_hosts
  StrictHostKeyChecking yes
  IdentityFile $work/sshd/user
  IdentitiesOnly yes
  User $(id -un)
  BatchMode yes
END
}

at() { # SECONDS COMMAND...
  timeout "$@"
}

ssh_device() {
  at 60 ssh -F "$work/ssh_config" device-7.device "$@" </dev/null
}

start_sshd
start_hub
start_agent device-7 --target "ssh=127.0.0.1:$sshd_port"
write_ssh_config

[ "$(ssh_device 'echo hello | tr a-z A-Z')" = HELLO ] ||
  fail "ssh printed nothing"
status=0
ssh_device 'exit 7' || status=$?
[ $status = 7 ] || fail "the command's exit status 7 came as $status"
note "login and command"

# stdin is passed on to its end, and the answer after it
sum=$(head -c 1000000 /dev/zero | at 60 ssh -F "$work/ssh_config" \
  device-7.device sha256sum)
[ "${sum%% *}" = "$(head -c 1000000 /dev/zero | sha256sum | cut -d' ' -f1)" ] ||
  fail "a pipe into ssh: $sum"

# an interactive shell on a terminal
[ "$(at 60 ssh -F "$work/ssh_config" -tt device-7.device \
  <<<$'tty >/dev/null && echo is-a-$((40 + 2))-tty; exit' |
  grep -c 'is-a-42-tty')" != 0 ] || fail "no terminal"
note "a shell on a terminal"

random_file "$work/up" $megabytes
at 120 scp -q -F "$work/ssh_config" "$work/up" \
  "device-7.device:$work/far" || fail "scp up"
same "$work/up" "$work/far" "scp up"
at 120 scp -q -F "$work/ssh_config" "device-7.device:$work/far" \
  "$work/down" || fail "scp down"
same "$work/up" "$work/down" "scp down"
note "scp of $megabytes MB each way"

mkdir -p "$work/tree/a/b"
for i in $(seq 200); do
  head -c $((i * 97)) /dev/urandom >"$work/tree/a/$i"
done
cp "$work/up" "$work/tree/a/b/large"
at 120 rsync -a -e "ssh -F $work/ssh_config" "$work/tree/" \
  "device-7.device:$work/synced/" || fail "rsync"
diff -r "$work/tree" "$work/synced" || fail "rsync made another tree"
printf 'changed' >>"$work/tree/a/1"
rm "$work/tree/a/2"
at 120 rsync -a --delete -e "ssh -F $work/ssh_config" "$work/tree/" \
  "device-7.device:$work/synced/" || fail "rsync again"
diff -r "$work/tree" "$work/synced" || fail "rsync missed a change"
note "rsync"

git init -q --bare "$work/repository"
git init -q "$work/clone"
(
  cd "$work/clone"
  git config user.email test@localhost
  git config user.name test
  head -c 3M /dev/urandom >data
  git add data
  git commit -qm data
  export GIT_SSH_COMMAND="ssh -F $work/ssh_config"
  at 60 git push -q "device-7.device:$work/repository" HEAD:refs/heads/main
  at 60 git clone -q -b main "device-7.device:$work/repository" "$work/clone2"
) || fail "git"
same "$work/clone/data" "$work/clone2/data" git
note "git push and clone"

session_pids=()
for i in $(seq $sessions); do
  at 120 ssh -F "$work/ssh_config" device-7.device \
    "head -c 2000000 /dev/zero; echo $i" </dev/null >"$work/session.$i" \
    2>>"$work/sessions.log" &
  session_pids+=($!)
done
for i in $(seq $sessions); do
  wait "${session_pids[i - 1]}" || fail "session $i of $sessions"
  [ "$(tail -c +2000001 "$work/session.$i")" = "$i" ] ||
    fail "session $i: $(wc -c <"$work/session.$i") bytes"
done
note "$sessions sessions at once"

# -L inside, over `dstream forward`
forward 1 device-7 ssh 0
inner=$(free_port)
launch inner ssh -F "$work/ssh_config" -o ProxyCommand=none -o ExitOnForwardFailure=yes \
  -o "HostName=127.0.0.1" -p "${ports[0]}" -N \
  -L "127.0.0.1:$inner:127.0.0.1:$sshd_port" device-7.device
eventually listens "$inner"
[ "$(at 60 ssh -F "$work/ssh_config" -o ProxyCommand=none -o HostName=127.0.0.1 \
  -p "$inner" device-7.device 'echo through-both' </dev/null)" = through-both ] ||
  fail "ssh inside of -L inside of forward"
note "-N -L inside"

# what refuses, who, and the exit status
status=0
at 60 "$bin/dstream" connect device-7 telnet </dev/null >"$work/refused.out" \
  2>"$work/refused.err" || status=$?
[ $status = 1 ] || fail "a refused name: exit status $status"
if [ "$(wc -l <"$work/refused.err")" != 1 ] ||
  ! grep -q 'agent.*telnet' "$work/refused.err"; then
  fail "a refused name said: $(cat "$work/refused.err")"
fi
status=0
ssh_err=$(at 60 ssh -F "$work/ssh_config" device-8.device true 2>&1) || status=$?
[ $status = 255 ] || fail "ssh to an unknown device: exit status $status"
case $ssh_err in
*device-8*) ;;
*) fail "ssh to an unknown device said: $ssh_err" ;;
esac
note "refusals"
