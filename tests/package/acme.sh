#!/bin/bash
# acme.sh SOURCE_DIR BINARY_DIR - packaging/acme/dstream-hub-certificate gives a
# hub that runs a certificate as certbot and as lego hand it over, and keeps one
# that can't be used away from it.
set -eu
hook=$1/packaging/acme/dstream-hub-certificate
PATH=$2/bin:$PATH
work=$(mktemp -d)
hub=$work/hub
pid=
clean_up() {
  if [ -n "$pid" ]; then
    kill "$pid" 2>/dev/null || :
    wait "$pid" 2>/dev/null || :
  fi
  rm -rf "$work"
}
trap clean_up EXIT
fail() {
  echo "acme: $*" >&2
  cat "$work/log" >&2 || :
  exit 1
}

dstream-hub init "$hub" --host hub.example.net --https-port 0 --mqtt-port 0 \
  >"$work/said"
mkfifo "$work/ready"
dstream-hub run "$hub" >"$work/ready" 2>"$work/log" &
pid=$!
exec 3<"$work/ready"
read -r -t 60 line <&3 || fail "the hub does not start"
port=${line#*https=*:}
port=${port%% *}

make() { # NAME SERIAL HOST : a certificate of the hub's own CA
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/$1.key"
  openssl req -new -key "$work/$1.key" -subj /CN=x 2>/dev/null |
    openssl x509 -req -CA "$hub/ca.pem" -CAkey "$hub/ca-key.pem" -days 60 \
      -set_serial "$2" -out "$work/$1.pem" 2>/dev/null \
      -extfile <(echo "subjectAltName=DNS:$3")
}
served() { # SERIAL : what a client is shown from the next connection on
  local serial
  for ((i = 0; i < 100; i++)); do
    serial=$(openssl s_client -connect "localhost:$port" </dev/null \
      2>/dev/null | openssl x509 -noout -serial)
    [ "$serial" != "serial=$1" ] || return 0
  done
  fail "the hub serves $serial, not $1"
}
call() { # VARIABLE... : the hook, called with them
  env HUB_FOLDER="$hub" HUB_RELOAD="kill -HUP $pid" "$@" "$hook" \
    2>"$work/said"
}

make one 1111 hub.example.net
mkdir "$work/live"
cp "$work/one.pem" "$work/live/fullchain.pem"
cp "$work/one.key" "$work/live/privkey.pem"
call RENEWED_LINEAGE="$work/live" || fail "certbot: $(cat "$work/said")"
served 0457
[ "$(stat -c %a "$hub/server-key.pem")" = 600 ] || fail "the key is open"

make two 2222 hub.example.net
call LEGO_CERT_PATH="$work/two.pem" LEGO_CERT_KEY_PATH="$work/two.key" ||
  fail "lego: $(cat "$work/said")"
served 08AE

# A key that does not belong to it; another name.
make other 3333 other.example.net
for pair in "one two can't use the key" "other other is not for hub.example"; do
  read -r certificate key reason <<<"$pair"
  ! call LEGO_CERT_PATH="$work/$certificate.pem" \
    LEGO_CERT_KEY_PATH="$work/$key.key" || fail "$pair: it was taken"
  grep -qF "$reason" "$work/said" || fail "$pair: $(cat "$work/said")"
  cmp -s "$work/two.pem" "$hub/server.pem" || fail "$pair: not taken back"
  cmp -s "$work/two.key" "$hub/server-key.pem" || fail "$pair: key"
done
# One that is not there: nothing is half done.
mkdir "$work/half"
cp "$work/one.pem" "$work/half/fullchain.pem"
! call RENEWED_LINEAGE="$work/half" || fail "no key: it was taken"
cmp -s "$work/two.pem" "$hub/server.pem" || fail "no key: half of it is there"
served 08AE

status=0
call NOTHING=1 || status=$?
[ $status = 2 ] || fail "without variables: $status"
left=$(find "$hub" -name 'server*.new' -o -name 'server*.old')
[ -z "$left" ] || fail "left behind: $left"
