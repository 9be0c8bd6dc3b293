#!/bin/bash
# reader.sh FOLDER SOURCE_DIR BINARY_DIR - somebody who does what FOLDER/session
# says, as root, on a machine of their own: this system's files as they are now,
# what is changed of them is in memory and gone at the end.  dstream is installed
# from FOLDER/../prefix; an sshd runs; hub.example.com is this machine; processes
# and network are its own.  Exit status 77: not possible here.
set -eu

can_not() {
  echo "reader: $*" >&2
  exit 77
}

if [ "${4:-}" = '' ]; then
  [ "$(id -u)" = 0 ] || can_not "needs root"
  unshare --mount --pid --fork --net --uts true 2>/dev/null ||
    can_not "no namespaces"
  exec unshare --mount --pid --fork --kill-child --net --uts \
    bash "$0" "$@" inside
fi

# Other folders than those of the root need a layer of their own.
layer() { # FROM TO
  layers=$((layers + 1))
  mkdir -p "$base/up-$layers" "$base/work-$layers" "$2"
  mount -t overlay none "$2" \
    -o "lowerdir=$1,upperdir=$base/up-$layers,workdir=$base/work-$layers" ||
    can_not "no overlay"
}

prepare() {
  mount --make-rprivate /
  mkdir "$base"
  mount -t tmpfs none "$base" || can_not "no memory file system"
  layer / "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o mode=0755 none "$root/run"
  mount -t tmpfs -o mode=1777 none "$root/tmp"
  mount -t tmpfs -o mode=0700 none "$root/root"
  mount -t tmpfs none "$root/srv"
  layer "$prefix" "$root/usr/local"
  layer "$source" "$root/root/dstream"
  layer "$build" "$root/root/dstream/build"
  # cmake knows both by their names.
  for folder in "$source" "$build"; do
    mkdir -p "$root$folder"
  done
  mount --bind "$root/root/dstream" "$root$source"
  mkdir -p "$root$build"
  mount --bind "$root/root/dstream/build" "$root$build"
  ip link set lo up
  echo 0 >"$root/proc/sys/net/ipv4/ip_unprivileged_port_start"
  hostname pump-7
  printf '%s\n' '127.0.0.1 localhost pump-7.local hub.example.com' \
    '::1 localhost' >"$root/etc/hosts"
  printf 'hosts: files\n' >>"$root/etc/nsswitch.conf"
  mkdir -p "$root/usr/local/sbin"
  install "$here/reader_systemctl.sh" "$root/usr/local/sbin/systemctl"
  mkdir "$root/reader"
  cp "$here/reader_session.sh" "$folder_of_page/session" "$root/reader/"
}

here=$(cd "$(dirname "$0")" && pwd)
folder_of_page=$1
source=$2
build=$3
prefix=$(dirname "$1")/prefix
base=$1/machine
root=$base/root
layers=0
prepare
exec chroot "$root" /usr/bin/env -i HOME=/root USER=root SHELL=/bin/bash \
  LANG=C.UTF-8 LC_ALL=C.UTF-8 TERM=dumb \
  ${NODE_PATH:+"NODE_PATH=$NODE_PATH"} \
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  bash /reader/reader_session.sh
