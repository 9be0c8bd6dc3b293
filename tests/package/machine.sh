#!/bin/bash
# machine.sh FOLDER - runs FOLDER/installed.sh as a service of a systemd that has
# this system's files under it, as they are now; what it changes is in memory and
# gone at the end.  Processes, network (loopback only), mounts, names and groups
# are its own.  The script sees FOLDER as /shared; its output is in
# FOLDER/output and its exit status in FOLDER/status.
# As root.  Exit status 77: not possible here; the last line says why.
set -eu
most=300 # seconds

can_not() {
  echo "machine: $*"
  exit 77
}

[ "${2:-}" = inside ] || {
  for tool in /lib/systemd/systemd setpriv unshare ip runuser; do
    command -v $tool >/dev/null || can_not "$tool is missing"
  done
  # A group of its own, so that nothing is left in this one.
  groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  [ -n "$groups" ] || can_not "there are no control groups of version 2"
  group=$groups$(sed -n 's/^0:://p' /proc/self/cgroup)/dstream-test-$$
  mkdir "$group" 2>/dev/null || can_not "control groups can't be made"
  clean_up() {
    echo 1 2>/dev/null >"$group/cgroup.kill" || :
    for _ in $(seq 50); do
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || :
      [ -e "$group" ] || break
      sleep 0.1
    done
  }
  trap clean_up EXIT
  unshare --mount --pid --fork --net --uts --ipc --cgroup true 2>/dev/null ||
    can_not "no namespaces"
  status=0
  (
    echo 0 2>/dev/null >"$group/cgroup.procs" || can_not "control groups differ"
    # The clock, modules and raw devices are everybody's.
    exec timeout $most setpriv --bounding-set \
      -sys_module,-sys_time,-sys_boot,-sys_rawio,-syslog \
      unshare --mount --pid --fork --net --uts --ipc --cgroup --kill-child \
      bash "$0" "$1" inside
  ) || status=$?
  [ $status = 77 ] || [ -e "$1/output" ] || can_not "systemd did not come up"
  exit $status
}

# ---- process 1 of its own ----
mount --make-rprivate /
base=$1/machine
root=$base/root
mkdir -p "$base"
mount -t tmpfs none "$base" || can_not "no memory file system"
mkdir "$base/up" "$base/work" "$root"
mount -t overlay none "$root" \
  -o "lowerdir=/,upperdir=$base/up,workdir=$base/work" || can_not "no overlay"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys" || can_not "no sysfs"
mount -t tmpfs none "$root/sys/fs/cgroup" 2>/dev/null || :
mount -t cgroup2 none "$root/sys/fs/cgroup" || can_not "no control groups"
mount -t tmpfs -o mode=0755 none "$root/dev"
for name in null zero full random urandom tty; do
  : >"$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 none "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 none "$root/dev/shm"
mount -t tmpfs -o mode=0755 none "$root/run"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mkdir "$root/shared"
mount --bind "$1" "$root/shared"
ip link set lo up

# This system's own mounts, timers and daemons are none of this one's; nor is
# what it says about starting services, or the index of its manual.
: >"$root/etc/fstab"
rm -f "$root/usr/sbin/policy-rc.d" "$root/var/lib/man-db/auto-update"
units=$root/run/systemd/system
mkdir -p "$units"
for name in timers.target systemd-udevd.service systemd-networkd.service \
  mosquitto.service; do
  ln -s /dev/null "$units/$name"
done
cat >"$units/machine.target" <<'END'
[Unit]
DefaultDependencies=no
Wants=machine.service systemd-journald.service
END
cat >"$units/machine.service" <<'END'
[Unit]
DefaultDependencies=no
After=systemd-journald.service
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'bash /shared/installed.sh >/shared/output 2>&1; echo $? >/shared/status'
ExecStopPost=/bin/systemctl exit
END

mkdir "$root/outside"
cd "$root"
pivot_root . outside
umount -l /outside
# Credentials reach a service as a mount that another process makes.
mount --make-rshared /
exec env -i container=dstream-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=machine.target --log-target=journal \
  --show-status=0
