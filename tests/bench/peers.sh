# tests/bench/peers.sh - sourced by scripts/bench.sh: the chains that are
# measured, each of them set up as people set it up, all on the loopback
# interface.
# shellcheck shell=bash disable=SC2034,SC2154
#
# start_PEER sets, for its name: port (where its chain begins), far (the same
# with 50 ms each way on the leg of the device), and the processes at the entry
# (beside the client), at the relay, and at the exit (beside the target).
#
# The same for all that speak TLS: TLS 1.3, TLS_AES_128_GCM_SHA256, the ECDSA
# P-256 certificate that `dstream-hub init` made, verified by name; one thread;
# TCP_NODELAY; no logging of connections.
yardstick='' # a port where TLS ends and nothing is behind
declare -A port=() far=() entry=() relay=() exit_=()
suite=TLS_AES_128_GCM_SHA256
delay_ms=50 # each way

free_ports() { # COUNT : in the array `free`
  mapfile -t free < <("$bench" ports "$1")
}

start_target() {
  launch target "$bench" target
  next_line target
  target_port=${line#listening }
  target_pid=$pid
}

# A relay that delays; sets `delayed`, its port.
start_delay() { # NAME [--to PORT]
  local name=$1
  shift
  launch "delay-$name" "$bench" relay --delay-ms $delay_ms "$@"
  next_line "delay-$name"
  delayed=${line#listening }
}

# ---- plain TCP ----

start_plain() {
  launch plain "$bench" relay --to "$target_port"
  next_line plain
  port[plain]=${line#listening }
  relay[plain]=$pid
  start_delay plain --to "$target_port"
  far[plain]=$delayed
}

# ---- haproxy: TCP in, TLS - TLS in, TLS - TLS in, TCP ----

haproxy_file() { # NAME : the parts that all have, then standard input
  cat >"$work/haproxy-$1.cfg" <<END
global
  nbthread 1
  maxconn 8000
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-bind-ciphersuites $suite
  ssl-default-server-options ssl-min-ver TLSv1.3
  ssl-default-server-ciphersuites $suite
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
END
  cat >>"$work/haproxy-$1.cfg"
}

haproxy_listen() { # NAME PORT TO_PORT tcp|tls tcp|tls
  local in='' out=''
  [ "$4" = tcp ] || in="ssl crt $work/both.pem"
  [ "$5" = tcp ] ||
    out="ssl verify required ca-file $hub_dir/ca.pem sni str(localhost) verifyhost localhost"
  printf 'listen %s\n  bind 127.0.0.1:%s %s\n  server next 127.0.0.1:%s %s\n' \
    "$1" "$2" "$in" "$3" "$out"
}

run_haproxy() { # NAME PORT
  launch "haproxy-$1" haproxy -db -f "$work/haproxy-$1.cfg"
  eventually listens "$2"
}

start_haproxy() {
  cat "$hub_dir/server.pem" "$hub_dir/server-key.pem" >"$work/both.pem"
  free_ports 6
  start_delay haproxy --to "${free[4]}"
  {
    haproxy_listen exit "${free[4]}" "$target_port" tls tcp
    # Where TLS ends and nothing is behind: for handshakes by themselves.
    printf "frontend yardstick\n  mode http\n  timeout http-request 10s\n"
    printf "  bind 127.0.0.1:%s ssl crt %s\n" "${free[5]}" "$work/both.pem"
    printf "  http-request return status 200\n"
  } | haproxy_file exit
  {
    haproxy_listen near "${free[2]}" "${free[4]}" tls tls
    haproxy_listen far "${free[3]}" "$delayed" tls tls
  } | haproxy_file relay
  {
    haproxy_listen near "${free[0]}" "${free[2]}" tcp tls
    haproxy_listen far "${free[1]}" "${free[3]}" tcp tls
  } | haproxy_file entry
  run_haproxy exit "${free[4]}"
  exit_[haproxy]=$pid
  run_haproxy relay "${free[2]}"
  relay[haproxy]=$pid
  haproxy_relay_port=${free[2]}
  yardstick=${free[5]}
  run_haproxy entry "${free[0]}"
  entry[haproxy]=$pid
  port[haproxy]=${free[0]}
  far[haproxy]=${free[1]}
}

# ---- nginx's stream module, the same three ----

run_nginx() { # NAME PORT TO_PORT tcp|tls tcp|tls
  local in='' out='' module
  for module in /usr/lib/nginx/modules /usr/lib64/nginx/modules; do
    [ ! -e "$module/ngx_stream_module.so" ] || break
  done
  [ "$4" = tcp ] || in="ssl_certificate $hub_dir/server.pem;
    ssl_certificate_key $hub_dir/server-key.pem;
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites $suite;"
  [ "$5" = tcp ] || out="proxy_ssl on;
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_conf_command Ciphersuites $suite;
    proxy_ssl_trusted_certificate $hub_dir/ca.pem;
    proxy_ssl_verify on;
    proxy_ssl_name localhost;
    proxy_ssl_server_name on;"
  cat >"$work/nginx-$1.conf" <<END
load_module $module/ngx_stream_module.so;
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid $work/nginx-$1.pid;
error_log stderr error;
events { worker_connections 8000; }
stream {
  server {
    listen 127.0.0.1:$2 backlog=4096$([ "$4" = tcp ] || echo ' ssl');
    proxy_pass 127.0.0.1:$3;
    proxy_timeout 1h;
    $in
    $out
  }
}
END
  launch "nginx-$1" nginx -p "$work" -e stderr -c "$work/nginx-$1.conf"
  eventually listens "$2"
}

start_nginx() {
  free_ports 3
  run_nginx exit "${free[2]}" "$target_port" tls tcp
  exit_[nginx]=$pid
  run_nginx relay "${free[1]}" "${free[2]}" tls tls
  relay[nginx]=$pid
  run_nginx entry "${free[0]}" "${free[1]}" tcp tls
  entry[nginx]=$pid
  port[nginx]=${free[0]}
}

# ---- stunnel: a service of it is TLS on one side only, so that its relay is
# two services of one process ----

stunnel_service() { # NAME server|client PORT TO_PORT
  printf '[%s]\naccept = 127.0.0.1:%s\nconnect = 127.0.0.1:%s\n' \
    "$1" "$3" "$4"
  printf 'sslVersion = TLSv1.3\nciphersuites = %s\n' $suite
  if [ "$2" = server ]; then
    printf 'cert = %s\nkey = %s\n' "$hub_dir/server.pem" \
      "$hub_dir/server-key.pem"
  else
    printf 'client = yes\nCAfile = %s\nverifyChain = yes\n' "$hub_dir/ca.pem"
    printf 'checkHost = localhost\nsni = localhost\n'
  fi
}

stunnel_file() { # NAME; the services on standard input
  {
    printf 'foreground = yes\npid =\ndebug = 3\nsyslog = no\n'
    printf 'socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n'
    cat
  } >"$work/stunnel-$1.conf"
}

run_stunnel() { # NAME PORT
  launch "stunnel-$1" stunnel "$work/stunnel-$1.conf"
  eventually listens "$2"
}

start_stunnel() {
  free_ports 4
  stunnel_service exit server "${free[3]}" "$target_port" | stunnel_file exit
  {
    stunnel_service in server "${free[1]}" "${free[2]}"
    stunnel_service out client "${free[2]}" "${free[3]}"
  } | stunnel_file relay
  stunnel_service entry client "${free[0]}" "${free[1]}" | stunnel_file entry
  run_stunnel exit "${free[3]}"
  exit_[stunnel]=$pid
  run_stunnel relay "${free[1]}"
  relay[stunnel]=$pid
  run_stunnel entry "${free[0]}"
  entry[stunnel]=$pid
  port[stunnel]=${free[0]}
}

# ---- OpenSSH: -R from the device to a server, -L from the service to it; and
# -L alone, to the server itself, which is one hop less ----

start_sshd() {
  [ -z "${sshd_port:-}" ] || return 0
  free_ports 1
  sshd_port=${free[0]}
  mkdir -p "$work/sshd"
  [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
  ssh-keygen -q -t ed25519 -N '' -f "$work/sshd/host"
  ssh-keygen -q -t ed25519 -N '' -f "$work/sshd/user"
  printf '[127.0.0.1]:* %s\n' "$(cut -d' ' -f1,2 "$work/sshd/host.pub")" \
    >"$work/sshd/known_hosts"
  cat >"$work/sshd/config" <<END
Port $sshd_port
ListenAddress 127.0.0.1
HostKey $work/sshd/host
AuthorizedKeysFile $work/sshd/user.pub
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
PasswordAuthentication no
AllowTcpForwarding yes
MaxStartups 100
LogLevel ERROR
END
  launch sshd "$(command -v sshd || echo /usr/sbin/sshd)" -D -e \
    -f "$work/sshd/config"
  sshd_pid=$pid
  eventually listens "$sshd_port"
}

# With a terminal: OpenSSH sets TCP_NODELAY for interactive sessions only.
run_ssh() { # NAME CIPHER SERVER_PORT -L|-R PORT:HOST:PORT WAIT_PORT
  local options=()
  [ "$2" = default ] || options=(-c "$2")
  launch "$1" ssh -F none -tt -p "$3" -i "$work/sshd/user" "${options[@]}" \
    -o IdentitiesOnly=yes -o BatchMode=yes -o ExitOnForwardFailure=yes -o LogLevel=ERROR \
    -o StrictHostKeyChecking=yes -o "UserKnownHostsFile=$work/sshd/known_hosts" \
    "$4" "127.0.0.1:$5" "$(id -un)@127.0.0.1" exec sleep 86400
  eventually listens "$6"
}

start_ssh_l() { # PEER CIPHER
  start_sshd
  free_ports 1
  run_ssh "$1" "$2" "$sshd_port" -L "${free[0]}:127.0.0.1:$target_port" \
    "${free[0]}"
  entry[$1]=$pid
  relay[$1]=$sshd_pid
  port[$1]=${free[0]}
}

start_ssh_rl() { # PEER CIPHER
  start_sshd
  free_ports 4
  start_delay "$1" --to "$sshd_port"
  run_ssh "$1-r" "$2" "$sshd_port" -R "${free[0]}:127.0.0.1:$target_port" \
    "${free[0]}"
  exit_[$1]=$pid
  run_ssh "$1-far" "$2" "$delayed" -R "${free[1]}:127.0.0.1:$target_port" \
    "${free[1]}"
  run_ssh "$1-l" "$2" "$sshd_port" -L "${free[2]}:127.0.0.1:${free[0]}" \
    "${free[2]}"
  entry[$1]=$pid
  relay[$1]=$sshd_pid
  port[$1]=${free[2]}
  run_ssh "$1-l-far" "$2" "$sshd_port" -L "${free[3]}:127.0.0.1:${free[1]}" \
    "${free[3]}"
  far[$1]=${free[3]}
}

# ---- ours ----

# The device's connection string is made when it comes for the first time.
agent() { # DEVICE ARGUMENTS...
  if [ -s "$work/$1.string" ]; then
    run_agent "$@"
  else
    (umask 077 && : >"$work/$1.string")
    start_agent "$@"
  fi
}

start_dstream() {
  local options=(--target "bench=127.0.0.1:$target_port" --max-streams 4000
    --rate 100000 --burst 100000 --quiet)
  agent near "${options[@]}"
  exit_[dstream]=$agent_pid
  start_delay dstream
  agent far "${options[@]}" --http-proxy "http://127.0.0.1:$delayed"
  [ -s "$work/frames.string" ] ||
    "$bin/dstream-hub" device add "$hub_dir" frames >"$work/frames.string"
  forward 2 -q --max-connections 4000 near bench 0 far bench 0
  entry[dstream]=$forward_pid
  relay[dstream]=$hub_pid
  port[dstream]=${ports[0]}
  far[dstream]=${ports[1]}
}

declare -A started=() # the processes of each
start_peer() { # PEER
  local before
  case $1 in
  ssh-*) start_sshd ;; # is there for all of them
  esac
  before=${#pids[@]}
  case $1 in
  plain | haproxy | nginx | stunnel | dstream) "start_$1" ;;
  ssh-l) start_ssh_l "$1" default ;;
  ssh-l-gcm) start_ssh_l "$1" aes128-gcm@openssh.com ;;
  ssh-rl) start_ssh_rl "$1" default ;;
  ssh-rl-gcm) start_ssh_rl "$1" aes128-gcm@openssh.com ;;
  *) fail "no peer $1" ;;
  esac
  started[$1]=${pids[*]:before}
}

end_now() { # PID...
  local ended kept
  for ended; do
    end "$ended"
    kept=()
    for pid in "${pids[@]}"; do
      [ "$pid" = "$ended" ] || kept+=("$pid")
    done
    pids=("${kept[@]}")
  done
}

# Processes without a past: what was freed in them would hide what is taken.
start_afresh() { # PEER
  # shellcheck disable=SC2086
  end_now ${started[$1]}
  if [ "$1" = dstream ]; then
    end_now "$hub_pid"
    run_hub
  fi
  start_peer "$1"
  warm "$1"
}

# What happens once is not to be measured.
warm() { # PEER
  "$bench" bulk --port "${port[$1]}" --up --down --ms $((bulk_ms / 4)) \
    >/dev/null || fail "$1 does not carry a byte"
}

# What a peer needs to be installed.
peer_command() { # PEER
  case $1 in
  haproxy | nginx | stunnel) echo "$1" ;;
  ssh-*) echo ssh ;;
  *) echo true ;;
  esac
}

peer_name() { # PEER : as people call it
  case $1 in
  plain) echo 'plain TCP relay, one hop' ;;
  haproxy) echo 'haproxy, two TLS hops' ;;
  nginx) echo 'nginx stream, two TLS hops' ;;
  stunnel) echo 'stunnel, two TLS hops' ;;
  ssh-l) echo 'ssh -L, one hop' ;;
  ssh-l-gcm) echo 'ssh -L aes128-gcm, one hop' ;;
  ssh-rl) echo 'ssh -R + -L' ;;
  ssh-rl-gcm) echo 'ssh -R + -L aes128-gcm' ;;
  dstream) echo 'dstream' ;;
  esac
}
