#!/bin/bash
# A device's web server through `dstream forward`: curl with keep-alive and in
# parallel, HTTP/1.0, SOCKS, and a browser that loads a page of many resources.
. "$(dirname "$0")/lib.sh"
need nginx curl
resources=120
parallel=100
[ -z "$sanitized" ] || parallel=40

start_nginx() {
  local i
  web_port=$(free_port)
  mkdir -p "$work/nginx/tmp" "$work/www"
  cat >"$work/nginx/conf" <<END
daemon off;
worker_processes 1;
pid $work/nginx/pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  types { text/html html; image/svg+xml svg; application/javascript js; }
  default_type application/octet-stream;
  access_log $work/access;
  client_body_temp_path $work/nginx/tmp/a;
  proxy_temp_path $work/nginx/tmp/b;
  fastcgi_temp_path $work/nginx/tmp/c;
  uwsgi_temp_path $work/nginx/tmp/d;
  scgi_temp_path $work/nginx/tmp/e;
  keepalive_requests 10000;
  server {
    listen 127.0.0.1:$web_port backlog=512;
    root $work/www;
    location /put/ { dav_methods PUT; client_max_body_size 200m; }
  }
}
END
  [ "$(id -u)" != 0 ] || sed -i '1iuser root;' "$work/nginx/conf"
  random_file "$work/www/large" 30
  for i in $(seq $parallel); do
    head -c $((i * 1000)) /dev/urandom >"$work/www/file$i"
  done
  {
    echo '<!DOCTYPE html><html><head><title>device</title></head><body>'
    for i in $(seq $resources); do
      echo "<svg xmlns='http://www.w3.org/2000/svg' width='$i' height='1'/>" \
        >"$work/www/i$i.svg"
      echo "window.got = (window.got || 0) + $i;" >"$work/www/s$i.js"
      echo "<img src='i$i.svg' alt=''><script src='s$i.js'></script>"
    done
    cat <<'END'
<p id="result"></p><script>
window.onload = function () {
  var images = [].filter.call(document.images, function (image) {
    return image.complete && image.naturalWidth > 0;
  }).length;
  document.getElementById('result').textContent =
      'images ' + images + ' scripts ' + window.got;
};
</script></body></html>
END
  } >"$work/www/index.html"
  launch nginx nginx -c "$work/nginx/conf" -p "$work/nginx" -e stderr
  eventually listens "$web_port"
}

get() { # OPTIONS...
  timeout 60 curl -sS --fail "$@"
}

start_nginx
start_hub
start_agent gateway --target "web=127.0.0.1:$web_port" \
  --allow "127.0.0.0/8:$web_port"
forward 2 gateway web 0 gateway --socks 127.0.0.1:0
web=http://127.0.0.1:${ports[0]}

get "$web/large" -o "$work/large" || fail "curl of a large file"
same "$work/www/large" "$work/large" "a large file"
get --http1.0 "$web/large" -o "$work/large" || fail "curl with HTTP/1.0"
same "$work/www/large" "$work/large" "HTTP/1.0"
note "30 MB, HTTP/1.1 and HTTP/1.0"

# keep-alive: many requests, one connection
urls=()
for i in $(seq 50); do
  urls+=("$web/file$((i % 30 + 1))" -o "$work/k$i")
done
connections=$(get -w '%{num_connects}\n' "${urls[@]}" |
  awk '{ n += $1 } END { print n }')
[ "$connections" = 1 ] || fail "50 requests took $connections connections"
for i in $(seq 50); do
  same "$work/www/file$((i % 30 + 1))" "$work/k$i" "keep-alive request $i"
done
note "50 requests on one connection"

urls=()
for i in $(seq $parallel); do
  urls+=("$web/file$i" -o "$work/p$i")
done
get --parallel --parallel-immediate --parallel-max $parallel "${urls[@]}" ||
  fail "$parallel requests at once"
for i in $(seq $parallel); do
  same "$work/www/file$i" "$work/p$i" "parallel request $i"
done
note "$parallel requests at once"

socks=127.0.0.1:${ports[1]}
get --socks5-hostname "$socks" "http://localhost:$web_port/file3" \
  -o "$work/socks" || fail "SOCKS with a host name"
same "$work/www/file3" "$work/socks" "SOCKS with a host name"
get --socks5 "$socks" "http://127.0.0.1:$web_port/file4" -o "$work/socks" ||
  fail "SOCKS with an address"
same "$work/www/file4" "$work/socks" "SOCKS with an address"
other=$(free_port)
status=0
get --socks5 "$socks" "http://127.0.0.1:$other/" 2>"$work/socks.err" || status=$?
[ $status = 97 ] || fail "SOCKS to what is not allowed: curl ended with $status:" \
  "$(cat "$work/socks.err")"
eventually grep -q "127.0.0.1:$other" "$work/forward.log"
note "SOCKS 5"

browser=$(command -v chromium || :)
if [ -n "$browser" ] && [ -z "$sanitized" ]; then
  HOME=$work timeout 100 "$browser" --headless=new --no-sandbox --disable-gpu \
    --disable-dev-shm-usage --no-first-run --disable-background-networking \
    --user-data-dir="$work/browser" --dump-dom "$web/index.html" \
    >"$work/page" 2>"$work/browser.log" || fail "the browser"
  wanted="images $resources scripts $((resources * (resources + 1) / 2))"
  grep -q "$wanted" "$work/page" ||
    fail "the page says $(grep -o 'images [0-9a-z ]*' "$work/page"), not $wanted"
  note "a page of $((2 * resources)) resources in Chromium"
elif [ -z "$sanitized" ]; then
  fail "chromium is not installed"
fi
