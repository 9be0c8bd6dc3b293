#!/bin/bash
# The status page: that it is off unless it is asked for, what the browser is
# told with it, and all that it does, in a headless Chromium: see page.js.
. "$(dirname "$0")/../programs/lib.sh"
here=$(dirname "$0")
browser=$(command -v chromium || command -v chromium-browser || :)
[ -n "$browser" ] || skip "chromium is not installed"
need node curl openssl

get() { # PATH OPTIONS...
  local path=$1
  shift
  timeout 60 curl -sS --cacert "$hub_dir/ca.pem" "$@" "$url$path"
}

code() { # PATH OPTIONS...
  get "$@" -o /dev/null -w '%{http_code}'
}

expect() { # WANTED GOT WHAT
  [ "$1" = "$2" ] || fail "$3: $2, not $1"
}

has_header() { # NAME VALUE : in $headers, which has both in lower case
  grep -qiF "$1: $2" <<<"$headers" || fail "no header $1: $2 in" "$headers"
}

check_files() {
  local path headers etag
  for path in / /page/page.css /page/page.js /page/icon.svg; do
    headers=$(get "$path" -I | tr -d '\r')
    has_header Content-Security-Policy "default-src 'none'; script-src 'self'"
    has_header X-Content-Type-Options nosniff
    has_header Referrer-Policy no-referrer
    has_header Cache-Control no-cache
    ! grep -qi '^set-cookie' <<<"$headers" || fail "a cookie"
    ! grep -qiE "^content-security-policy:.*unsafe" <<<"$headers" ||
      fail "an unsafe policy"
    etag=$(sed -n 's/^ETag: //p' <<<"$headers")
    expect 304 "$(code "$path" -H "If-None-Match: $etag")" "$path again"
    expect 200 "$(code "$path" -H 'If-None-Match: "other"')" "$path changed"
  done
  get /page/page.js | cmp -s - "$source_dir/src/hub/page/page.js" ||
    fail "the script is not the one in the sources"
  expect 405 "$(code / -X POST -d x)" "POST /"
  expect 404 "$(code /page/)" "/page/"
  expect 401 "$(code /hub)" "/hub without a token"
}

# Traffic for the plots until the stream ends.
traffic() {
  while printf '%065536d' 0; do
    sleep 0.05
  done 2>/dev/null | "$bin/dstream" connect gateway echo >/dev/null
}

start_hub
port=$(sed -n 's/.*"https_port":[[:space:]]*\([0-9]*\).*/\1/p' \
  "$hub_dir/hub.json")
url=https://localhost:$port
expect 404 "$(code /)" "a page that is off"
expect 404 "$(code /page/page.js)" "a script that is off"
end "$hub_pid"
DSTREAM_HUB_PAGE_ENABLED=true run_hub
check_files
note "files and headers"

launch peer "$peer" server --echo --quiet
next_line peer
echo=${line##* }
start_agent gateway --target "echo=127.0.0.1:$echo"
traffic 2>"$work/traffic.log" &
pids+=($!)
spki=$(openssl x509 -in "$hub_dir/server.pem" -pubkey -noout |
  openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64)
SERVICE_STRING=$DSTREAM_CONNECTION_STRING
OWNER_STRING=$("$bin/dstream-hub" connection-string "$hub_dir" \
  --policy iothubowner)
export SERVICE_STRING OWNER_STRING
HOME=$work launch browser node "$here/page.js" "$url/" "$browser" \
  "$work/profile" "$spki"
node_pid=$pid
while next_line browser; do
  case $line in
  "added "*)
    note "added a device"
    echo "${line#added }" >"$work/pump-7.string"
    run_agent pump-7 --target "echo=127.0.0.1:$echo"
    ;;
  *)
    note "$line"
    [ "$line" != safe ] || break
    ;;
  esac
done
wait "$node_pid" || fail "the page's test ended with $?"
