#!/bin/bash
# The hub's disk is full, where its database, its broker's files and its log are:
# it goes on relaying, what has to write fails in words, nothing is damaged, and
# all is well when there is room again.
if [ -z "${DSTREAM_TEST_MOUNTS:-}" ]; then
  export DSTREAM_TEST_MOUNTS=own
  for options in -m -Urm; do
    ! unshare $options mount -t tmpfs none /mnt 2>/dev/null ||
      exec unshare $options bash "$0"
  done
  echo "skipped: a file system of its own can't be mounted here"
  exit 77
fi
. "$(dirname "$0")/lib.sh"

disk=$work/disk
hub_dir=$disk/hub
mkdir "$disk"
mount -t tmpfs -o size=2m,mode=700 none "$disk"
finish() {
  local status=$?
  umount -l "$disk"
  (exit $status)
  clean_up
}
trap finish EXIT
# The hub is what shows its log when the test fails.
ln -s "$disk/hub.log" "$work/hub.log"

fill() {
  dd if=/dev/zero bs=64k >>"$disk/ballast" 2>/dev/null || :
  dd if=/dev/zero bs=1 count=65536 >>"$disk/ballast" 2>/dev/null || :
  ! echo more >"$disk/probe" 2>/dev/null || fail "the disk is not full"
}

launch echo "$peer" server --echo --quiet
next_line echo
echo_port=${line#listening }
head -c 100000 /dev/urandom >"$work/data"
sum=$(sha256sum <"$work/data" | cut -d' ' -f1)
start_hub
start_agent device-7 --target "echo=127.0.0.1:$echo_port"
forward 1 -q device-7 echo 0
echo=${ports[0]}

echo_works() {
  timeout 20 "$peer" client "$echo" --send "$work/data" | grep -q "$sum"
}

stays() {
  echo "$1" >&"$standing"
  read -r -t $deadline -u "$standing" line || fail "a running stream ended: $1"
  [ "$line" = "$1" ] || fail "a running stream said \"$line\""
}

refused() { # TEXT COMMAND... : fails with one line that says so
  local text=$1 status=0
  shift
  "$@" >"$work/said" 2>&1 || status=$?
  [ $status = 1 ] || fail "$* ended with $status: $(cat "$work/said")"
  [ "$(wc -l <"$work/said")" = 1 ] || fail "$*: $(cat "$work/said")"
  grep -q "$text" "$work/said" || fail "$*: no \"$text\": $(cat "$work/said")"
}

exec {standing}<>"/dev/tcp/127.0.0.1/$echo"
stays before

# ---- relaying, without a log

fill
for _ in 1 2 3 4 5; do
  echo_works || fail "no stream on a full disk"
done
stays "on a full disk"
note "a full disk: streams run, and new ones come"

# ---- the database

manage() { # VERB ID [WHICH]
  local verb=$1
  shift
  "$bin/dstream-hub" device "$verb" "$hub_dir" "$@"
}

for _ in 1 2; do
  refused "disk of the database is full" manage add device-8
done
refused "disk of the database is full" manage rotate-key device-7 primary
refused "disk of the database is full" manage disable device-7
refused "disk of the database is full" manage remove device-7
"$bin/dstream-hub" device list "$hub_dir" >"$work/list" ||
  fail "the devices can't be listed"
grep -q device-7 "$work/list" || fail "device-7 is not listed"
! grep -q device-8 "$work/list" || fail "device-8 is listed"
echo_works || fail "the device was touched"
note "a full disk: identities can't be changed, which is told: $(cat "$work/said")"

# ---- the broker is started again, the device comes back

children=$(cat "/proc/$hub_pid/task/$hub_pid/children")
kill -KILL "${children%% *}"
eventually grep -q "connected again" "$work/agent-device-7.log"
eventually echo_works
stays "with another broker"
note "a full disk: the broker is started again"

# ---- room again

rm "$disk/ballast"
echo_works || fail "no stream when there was room again"
eventually grep -q "lines were lost: No space left on device" "$disk/hub.log"
manage add device-8 >/dev/null || fail "device-8 can't be added"
"$bin/dstream-hub" device list "$hub_dir" >"$work/list"
grep -q device-8 "$work/list" || fail "device-8 is not listed"
manage rotate-key device-8 secondary >/dev/null || fail "no new key"
stays "with room"
note "room again: $(grep -o '[0-9]* lines were lost.*' "$disk/hub.log")"

# ---- a hub that starts on a full disk says so, and starts when there is room

end "$hub_pid"
fill
status=0
"$bin/dstream-hub" run "$hub_dir" >"$work/said" 2>"$work/why" </dev/null ||
  status=$?
[ $status = 1 ] || fail "a hub on a full disk ended with $status"
grep -qi "space\|full" "$work/why" ||
  fail "a hub on a full disk: $(cat "$work/why")"
note "a hub can't start on a full disk: $(tail -1 "$work/why")"
rm "$disk/ballast"
run_hub
eventually echo_works
"$bin/dstream-hub" device list "$hub_dir" | grep -q device-8 ||
  fail "device-8 is gone"
note "and starts when there is room"
