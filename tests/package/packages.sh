#!/bin/bash
# packages.sh SOURCE_DIR BINARY_DIR - the Debian packages: scripts/package.sh
# builds them, lintian is content, and what is installed from them works.
#
# As root they are installed by dpkg into a copy of this system (an overlay in
# memory, with processes, network and systemd of its own; see machine.sh), where
# installed.sh uses them.  Elsewhere they are unpacked into a folder, and hub,
# agent and tool run from there.
set -eu
export LC_ALL=C
source=$1
build=$2
here=$source/tests/package
out=$build/packages
work=$(mktemp -d)
pids=()
clean_up() {
  local pid
  for pid in "${pids[@]}"; do
    kill "$pid" 2>/dev/null || continue
    wait "$pid" 2>/dev/null || :
  done
  rm -rf "$work"
}
trap clean_up EXIT

fail() {
  echo "packages: $*" >&2
  exit 1
}

for tool in dpkg-buildpackage dh lintian; do
  command -v $tool >/dev/null || {
    echo "packages: $tool is missing"
    exit 77
  }
done
DEB_BUILD_OPTIONS="nocheck noautodbgsym" nice bash \
  "$source/scripts/package.sh" "$out" >"$work/said" 2>&1 ||
  fail "$(cat "$work/said")"
version=$(dpkg-parsechangelog -l "$source/packaging/debian/changelog" -S Version)
names=(libdstream1 libdstream-dev dstream dstream-agent dstream-hub)
debs=()
for name in "${names[@]}"; do
  deb=$(find "$out" -name "${name}_${version}_*.deb")
  [ -n "$deb" ] || fail "there is no package $name of $version"
  debs+=("$deb")
done
[ "$(find "$out" -name '*.deb' | wc -l)" = ${#names[@]} ] ||
  fail "other packages than expected: $(ls "$out")"
echo "packages: built, lintian is content ($SECONDS s)"

# ---- unpacked ----

run_unpacked() {
  local root=$work/root deb line
  for deb in "${debs[@]}"; do
    dpkg-deb -x "$deb" "$root"
  done
  PATH=$root/usr/bin:$PATH
  DSTREAM_PLUGIN=$(find "$root/usr/lib" -name dstream_broker_plugin.so)
  DSTREAM_CA_FILE=$work/hub/ca.pem
  export DSTREAM_PLUGIN DSTREAM_CA_FILE
  dstream-hub init "$work/hub" --host localhost --https-port 0 --mqtt-port 0 \
    >/dev/null
  mkfifo "$work/hub.out" "$work/agent.out"
  dstream-hub run "$work/hub" >"$work/hub.out" 2>"$work/log" &
  pids+=($!)
  exec 3<"$work/hub.out"
  read -r -t 60 -u 3 line || fail "the hub is not ready: $(cat "$work/log")"
  dstream-hub device add "$work/hub" pump-7 >"$work/device"
  dstream-hub connection-string "$work/hub" >"$work/service"
  chmod 600 "$work/device" "$work/service"
  dstream-agent --connection-string-file "$work/device" \
    --target "hub=127.0.0.1:${line##*:}" >"$work/agent.out" 2>>"$work/log" &
  pids+=($!)
  exec 4<"$work/agent.out"
  read -r -t 60 -u 4 line || fail "the agent is not ready: $(cat "$work/log")"
  # The hub is what the agent leads to: it ends this at once, in order.
  dstream connect --connection-string-file "$work/service" pump-7 hub \
    </dev/null >/dev/null || fail "no stream: $(cat "$work/log")"
  kill "${pids[@]}"
  wait "${pids[@]}" || fail "hub or agent ended with an error"
  pids=()
  echo "packages: unpacked, and work ($SECONDS s)"
}

# ---- installed ----

# 77: this user or this system can't.
run_installed() {
  local status=0
  [ "$(id -u)" = 0 ] || return 77
  mkdir "$work/shared"
  cp "${debs[@]}" "$here/installed.sh" "$work/shared/"
  DESTDIR=$work/shared/built cmake --install "$build" >/dev/null
  bash "$here/machine.sh" "$work/shared" >"$work/said" 2>&1 || status=$?
  if [ $status = 77 ]; then
    tail -1 "$work/said"
    return 77
  fi
  if [ "$(cat "$work/shared/status" 2>/dev/null)" != 0 ]; then
    cat "$work/said" "$work/shared/output" >&2 || :
    fail "installed.sh failed, see above"
  fi
  grep '^packages:' "$work/shared/output"
  echo "packages: installed, and work ($SECONDS s)"
}

status=0
run_installed || status=$?
[ $status != 77 ] || run_unpacked
