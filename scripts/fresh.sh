#!/bin/bash
# scripts/fresh.sh [--user] [--demo] [--once] - runs scripts/demo.sh and
# scripts/test.sh in a minimal Debian 12 that has nothing installed, twice.
#
#   --user   again in another one, as a user with sudo
#   --demo   only scripts/demo.sh
#   --once   once instead of twice
#
# Needs root, debootstrap, git and some 4 GB in TMPDIR.  What was committed is
# what is tried.  The Debian mirror, proxies and certificates are this machine's
# own.  What the runs print goes to build-fresh/*.log.  Mounts and processes
# live in namespaces of their own and end with them.
set -eu
cd "$(dirname "$0")/.."
tree=$PWD
logs=$tree/build-fresh

with_user=no
programs='demo test'
rounds='1 2'
for argument; do
  case $argument in
  --user) with_user=yes ;;
  --demo) programs='demo' ;;
  --once) rounds='1' ;;
  *)
    echo "usage: scripts/fresh.sh [--user] [--demo] [--once]" >&2
    exit 2
    ;;
  esac
done

fail() {
  echo "fresh: $*" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || fail "needs root"
for tool in debootstrap git unshare chroot; do
  command -v $tool >/dev/null || fail "needs $tool; apt-get install $tool"
done
[ -z "$(git status --porcelain)" ] ||
  echo "fresh: what is not committed is not tried"

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$logs"

mirror() { # the first Debian mirror of this machine's apt
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
    /etc/apt/sources.list.d/*.sources 2>/dev/null |
    sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p' |
    grep '/debian/*$' | head -1
}

# What this machine needs to reach its mirror and registries.
copy_settings() { # ROOT
  local file
  cp -L /etc/resolv.conf /etc/hosts "$1/etc/"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
    /etc/apt/sources.list.d/*.sources /etc/apt/trusted.gpg.d/* \
    /etc/apt/keyrings/* /usr/share/keyrings/* \
    /usr/local/share/ca-certificates/*.crt /etc/npmrc; do
    [ -f "$file" ] || continue
    mkdir -p "$1$(dirname "$file")"
    cp -L "$file" "$1$file"
  done
  [ -f /etc/apt/sources.list ] || : >"$1/etc/apt/sources.list"
  # Options only: hooks name programs that are not there.
  for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
    [ -f "$file" ] || continue
    grep -qE 'Invoke|Install-Pkgs' "$file" || cp -L "$file" "$1$file"
  done
  if [ -d /etc/ssl/certs ]; then
    mkdir -p "$1/etc/ssl"
    cp -rL /etc/ssl/certs "$1/etc/ssl/" 2>/dev/null || :
  fi
}

# Proxies and certificates, as NAME=VALUE
settings() {
  env | grep -iE '^(https?_proxy|no_proxy|ssl_cert_(file|dir)|node_extra_ca_certs)=' || :
}

inside() { # ROOT USER COMMAND : in namespaces of its own
  local home=/root environment
  [ "$2" = root ] || home=/home/$2
  mapfile -t environment < <(settings)
  # shellcheck disable=SC2016
  unshare --mount --pid --fork --kill-child --propagation private \
    bash -c '
      root=$1 user=$2 command=$3
      shift 3
      mount -t proc proc "$root/proc" &&
        mount --rbind /sys "$root/sys" &&
        mount --rbind /dev "$root/dev" || exit 1
      exec chroot --userspec="$user:$user" "$root" /usr/bin/env -i "$@" \
        /bin/bash -c "$command"
    ' inside "$1" "$2" "$3" "HOME=$home" "USER=$2" LANG=C.UTF-8 \
    "PATH=$([ "$2" != root ] || echo /usr/local/sbin:/usr/sbin:/sbin:)/usr/local/bin:/usr/bin:/bin" \
    "${environment[@]}"
}

prepare_user() { # ROOT USER
  inside "$1" root "apt-get -q update && DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y --no-install-recommends install sudo && useradd -m $2 &&
    echo '$2 ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/$2" \
    >"$logs/$2-sudo.log" 2>&1 || fail "sudo: see $logs/$2-sudo.log"
}

failed=0

trial() { # USER
  local user=$1 root=$work/$1 home=/root round program log begun verdict
  cp -a "$work/base" "$root"
  if [ "$user" != root ]; then
    prepare_user "$root" "$user"
    home=/home/$user
  fi
  git clone -q "$tree" "$root$home/dstream"
  chown -R --reference="$root$home" "$root$home/dstream"
  for round in $rounds; do
    for program in $programs; do
      log=$logs/$user-$program-$round.log
      begun=$SECONDS
      verdict=worked
      inside "$root" "$user" "cd ~/dstream && scripts/$program.sh" \
        >"$log" 2>&1 </dev/null || {
        verdict=FAILED
        failed=1
      }
      printf '%-5s scripts/%s.sh, run %s: %s in %s s; %s\n' "$user" \
        "$program" "$round" "$verdict" $((SECONDS - begun)) \
        "$(tail -1 "$log")"
    done
  done
  rm -rf --one-file-system "$root"
}

url=$(mirror)
[ -n "$url" ] || fail "no Debian mirror among this machine's apt sources"
echo "fresh: making a minimal Debian 12"
debootstrap --variant=minbase bookworm "$work/base" "$url" \
  >"$logs/debootstrap.log" 2>&1 || fail "debootstrap: see build-fresh/"
copy_settings "$work/base"
trial root
[ $with_user = no ] || trial tester
exit $failed
