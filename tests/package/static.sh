#!/bin/bash
# static.sh SOURCE_DIR BINARY_DIR - dstream-agent as scripts/static.sh builds it
# needs no shared library: its file names none, and it serves a stream from a
# root directory that has no other file of a program, with names looked up in
# that root's /etc/hosts.
DSTREAM_SOURCE_DIR=$1
DSTREAM_BINARY_DIR=$2
. "$(dirname "$0")/../programs/lib.sh"
need apt-get readelf

status=0
"$source_dir/scripts/static.sh" "$DSTREAM_BINARY_DIR/static" || status=$?
[ $status != 77 ] || skip "cJSON could not be fetched"
[ $status = 0 ] || fail "scripts/static.sh: status $status"
agent=$DSTREAM_BINARY_DIR/static/bin/dstream-agent

! readelf -dW "$agent" | grep NEEDED || fail "it needs shared libraries"
! readelf -lW "$agent" | grep INTERP || fail "it needs a dynamic linker"
readelf -hW "$agent" | grep -qE 'Type: +DYN' ||
  fail "it is bound to one address"
! LC_ALL=C ldd "$agent" 2>&1 | grep '=>' || fail "ldd names libraries"

# A root directory of its own: as root, or in a user namespace.  /dev/urandom is
# the one thing of the system that it has to have.
root=$work/root
mkdir -p "$root/etc" "$root/bin" "$root/dev"
: >"$work/tried"
if mknod -m 444 "$root/dev/urandom" c 1 9 2>>"$work/tried" &&
  head -c 1 "$root/dev/urandom" >>"$work/tried" 2>&1; then
  in_root=(chroot "$root")
else
  rm -f "$root/dev/urandom"
  : >"$root/dev/urandom"
  # shellcheck disable=SC2016
  in_root=(unshare -r -m sh -c 'mount --bind /dev/urandom "$0/dev/urandom" &&
    exec chroot "$0" "$@"' "$root")
  if ! unshare -r -m true 2>>"$work/tried"; then
    note "no root directory of its own: $(tr '\n' ' ' <"$work/tried")"
    exit 77
  fi
fi

start_hub
cp "$agent" "$root/bin/"
cp "$hub_dir/ca.pem" "$root/"
"$bin/dstream-hub" device add "$hub_dir" static-1 >"$root/string"
chmod 600 "$root/string"
echo "127.0.0.1 localhost served.test" >"$root/etc/hosts"
launch target "$peer" server --echo --quiet
next_line target
cat >"$root/agent.json" <<END
{"targets": {"echo": "served.test:${line##* }", "none": "no.such.test:1"}}
END
launch agent env -i "PATH=$PATH" "${in_root[@]}" /bin/dstream-agent \
  --ca-file /ca.pem --connection-string-file /string --config /agent.json
next_line agent
[ "$line" = "ready static-1" ] || fail "the agent said \"$line\""

random_file "$work/sent" 1
"$bin/dstream" connect static-1 echo <"$work/sent" >"$work/got" ||
  fail "the stream failed"
same "$work/sent" "$work/got" "through the static agent"
! "$bin/dstream" connect static-1 none </dev/null 2>"$work/refused" ||
  fail "a name that nobody knows was served"
grep -q 'no.such.test' "$work/refused" ||
  fail "a name that nobody knows: $(cat "$work/refused")"
note "a megabyte there and back, $(stat -c %s "$agent") bytes of program"
