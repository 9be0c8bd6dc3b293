#!/bin/bash
# shots.sh OUT [SECONDS] - pictures of the status page in all its states, on a
# desktop and a phone, light and dark: to look at after a change.  docs/page.png
# is one of them.  Needs DSTREAM_SOURCE_DIR and DSTREAM_BINARY_DIR.
out=${1:?the folder for the pictures}
seconds=${2:-100}
. "$(dirname "$0")/../programs/lib.sh"
here=$(dirname "$0")
browser=$(command -v chromium || command -v chromium-browser || :)
[ -n "$browser" ] || skip "chromium is not installed"
mkdir -p "$out"

# Traffic that comes and goes, as people make it.
traffic() { # DEVICE STREAM BYTES PERIOD
  local i=0 n
  while :; do
    n=$((i % $4 < $4 / 2 ? $3 : $3 / 8))
    printf "%0$((n + RANDOM * n / 65536))d" 0 || break
    i=$((i + 1))
    sleep 0.1
  done 2>/dev/null | "$bin/dstream" connect "$1" "$2" >/dev/null 2>&1
}

export DSTREAM_HUB_PAGE_ENABLED=true
start_hub
url=https://$(sed -n 's/.*"host":[[:space:]]*"\([^"]*\)".*/\1/p' \
  "$hub_dir/hub.json"):$(sed -n 's/.*"https_port":[[:space:]]*\([0-9]*\).*/\1/p' \
  "$hub_dir/hub.json")
launch echo "$peer" server --echo --quiet
next_line echo
echo=${line##* }
launch sink "$peer" server --quiet
next_line sink
sink=${line##* }
for device in gateway-oslo pump-7 pump-8 turbine-12-north; do
  start_agent $device --target "ssh=127.0.0.1:$echo" \
    --target "upload=127.0.0.1:$sink" --target "camera=127.0.0.1:$echo"
done
"$bin/dstream-hub" device add "$hub_dir" pump-4 >/dev/null
traffic gateway-oslo ssh 400 40 &
pids+=($!)
traffic pump-7 camera 90000 150 &
pids+=($!)
traffic turbine-12-north upload 60000 260 &
pids+=($!)
traffic turbine-12-north ssh 200 30 &
pids+=($!)
"$bin/dstream" connect pump-4 ssh </dev/null >/dev/null 2>&1 || :
"$bin/dstream" connect pump-8 web </dev/null >/dev/null 2>&1 || :
echo hello | "$bin/dstream" connect pump-8 ssh >/dev/null 2>&1 || :
spki=$(openssl x509 -in "$hub_dir/server.pem" -pubkey -noout |
  openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64)
OWNER_STRING=$("$bin/dstream-hub" connection-string "$hub_dir" \
  --policy iothubowner)
export OWNER_STRING
HOME=$work launch browser node "$here/shots.js" "$url/" "$browser" \
  "$work/profile" "$spki" "$out" "$seconds"
next_line browser $((seconds + 120))
note "$line"
