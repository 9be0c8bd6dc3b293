#!/bin/bash
# scripts/footprint.sh [--setup] - what a device pays: measures size, memory,
# stacks and bytes on the wire, and writes the tables between the "footprint"
# comments of README.md and docs/footprint.md, which says how each is measured.
#
# Takes two minutes, on Debian 12 on x86-64.  Builds are kept in
# build-footprint/, with the libraries of the other architectures, which
# apt-get fetches there; nothing of them is installed.
#
#   --setup   installs the cross compilers and whatever else is missing, first
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C
. scripts/debian.sh
root=$PWD
base=$root/build-footprint
architectures='x86-64 armhf arm64'
keepalive_s=240    # the default of mqtt_keepalive_s
renewals_hour=1.25 # 3600 s of sas_lifetime_s, renewed at 80 %
idle_s=30
settle_s=3 # a link gives its buffers back after two seconds
work=''
hub_pid=''
device_pid=''
fast_pid=''
service_pids=()

say() {
  echo "footprint: $*" >&2
}

fail() {
  say "$*"
  [ ! -s "$work/log" ] || tail -20 "$work/log" >&2
  exit 1
}

# ---- what it takes ----

missing() {
  local command package
  while read -r command package; do
    command -v "$command" >/dev/null || printf '%s ' "$package"
  done <<'END'
gcc gcc
ninja ninja-build
cmake cmake
ss iproute2
arm-linux-gnueabihf-gcc gcc-arm-linux-gnueabihf
aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
END
}

check_machine() { # [--setup]
  local list
  [ "$(uname -m)" = x86_64 ] || fail "runs on x86-64 only"
  command -v apt-get >/dev/null || fail "needs Debian 12 or a relative"
  list=$(missing)
  if [ -n "$list" ] && [ "${1:-}" = --setup ]; then
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
      install $list >&2 || fail "run apt-get update, then this again, as root"
    list=$(missing)
  fi
  [ -z "$list" ] || fail "needs these packages: $list" \
    "(scripts/footprint.sh --setup installs them, as root)"
}

get_sysroot() { # ARCHITECTURE
  local folder=$base/sysroot-$1
  [ ! -d "$folder" ] || return 0
  say "fetching the libraries for $1"
  make_sysroot "$folder" "$1" libssl-dev libwebsockets-dev libpaho-mqtt-dev \
    2>>"$work/log" || fail "could not fetch the libraries for $1"
}

# ---- size ----

triplet() { # ARCHITECTURE
  case $1 in
  x86-64) echo x86_64-linux-gnu ;;
  armhf) echo arm-linux-gnueabihf ;;
  arm64) echo aarch64-linux-gnu ;;
  esac
}

build() { # FOLDER TARGETS CMAKE_OPTION...
  local folder=$base/$1 targets=$2 launcher=()
  shift 2
  ! command -v ccache >/dev/null ||
    launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
  # shellcheck disable=SC2086
  {
    cmake -S . -B "$folder" -G Ninja "${launcher[@]}" "$@" &&
      ninja -C "$folder" $targets
  } >>"$work/log" 2>&1 || fail "could not build $folder"
}

device_options() { # ARCHITECTURE
  echo -DCMAKE_BUILD_TYPE=MinSizeRel -DDSTREAM_BUILD_HUB=OFF \
    -DDSTREAM_BUILD_TOOLS=OFF -DDSTREAM_BUILD_SERVICE=OFF
  [ "$1" = x86-64 ] || echo "-DCMAKE_SYSROOT=$base/sysroot-$1" \
    "-DCMAKE_TOOLCHAIN_FILE=$root/cmake/toolchain-$1.cmake"
}

# The sample with the library linked in, OpenSSL and the others shared.
link_sample() { # ARCHITECTURE FOLDER
  local sysroot=()
  [ "$1" = x86-64 ] || sysroot=("--sysroot=$base/sysroot-$1")
  "$(triplet "$1")-gcc" "${sysroot[@]}" -Os -std=c11 -D_GNU_SOURCE \
    -ffunction-sections -fdata-sections -fPIE -pie -Iinclude \
    samples/echo_device.c "$2/lib/libdstream.a" -o "$2/echo_device" \
    -Wl,--gc-sections,--as-needed -lwebsockets -lpaho-mqtt3as -lssl -lcrypto \
    -lpthread >>"$work/log" 2>&1 || fail "could not link the sample for $1"
}

# An archive that was taken for a shared library would be counted as ours.
check_exports() { # ARCHITECTURE FILE
  ! "$(triplet "$1")-nm" -D --defined-only "$2" |
    grep -v ' dstream_' >>"$work/log" || fail "$2 has more than dstream in it"
}

stripped() { # ARCHITECTURE FILE : its size without symbols
  "$(triplet "$1")-strip" -o "$work/stripped" "$2"
  stat -c %s "$work/stripped"
}

sections() { # ARCHITECTURE FILE : text data bss
  "$(triplet "$1")-size" "$2" | awk 'NR == 2 { print $1, $2, $3 }'
}

with_commas() {
  sed -E ':a; s/([0-9]+)([0-9]{3})( |,|$)/\1,\2\3/; ta'
}

commas() { # NUMBER
  with_commas <<<"$1"
}

measure_sizes() { # writes $work/sizes: ARCHITECTURE PROXY TEXT DATA BSS FILE SAMPLE
  local arch proxy folder
  for arch in $architectures; do
    for proxy in ON OFF; do
      say "building for $arch, DSTREAM_BUILD_PROXY=$proxy"
      folder=$arch-proxy-$proxy
      # shellcheck disable=SC2046
      build "$folder" all $(device_options "$arch") \
        "-DDSTREAM_BUILD_PROXY=$proxy"
      folder=$base/$folder
      check_exports "$arch" "$folder/lib/libdstream.so"
      link_sample "$arch" "$folder"
      echo "$arch $proxy $(sections "$arch" "$folder/lib/libdstream.so")" \
        "$(stripped "$arch" "$folder/lib/libdstream.so")" \
        "$(stripped "$arch" "$folder/echo_device")" >>"$work/sizes"
    done
  done
}

size_of() { # ARCHITECTURE PROXY : the columns of $work/sizes
  awk -v arch="$1" -v proxy="$2" '$1 == arch && $2 == proxy {
    print $3, $4, $5, $6, $7 }' "$work/sizes"
}

# ---- hub, device, services ----

await() { # FILE PATTERN
  local try
  for ((try = 0; try < 300; try++)); do
    ! grep -qs "$2" "$1" || return 0
    sleep 0.1
  done
  fail "no \"$2\" within 30 s: $(cat "$1")"
}

end() { # PID
  [ -n "$1" ] || return 0
  kill "$1" 2>/dev/null || :
  wait "$1" 2>/dev/null || :
}

clean_up() {
  local status=$? pid
  for pid in "${service_pids[@]}" "$device_pid" "$fast_pid" "$hub_pid"; do
    end "$pid"
  done
  [ -z "$work" ] || rm -rf "$work"
  exit $status
}

start_hub() {
  local hub=$base/hub/bin/dstream-hub ports
  "$hub" init "$work/hub" --host localhost --https-port 0 --mqtt-port 0 \
    >>"$work/log" 2>&1 || fail "the hub's folder could not be made"
  "$hub" run "$work/hub" >"$work/hub.out" 2>>"$work/log" &
  hub_pid=$!
  await "$work/hub.out" ^ready
  ports=$(sed -E 's/.*https=.*:([0-9]+) mqtt=.*:([0-9]+).*/\1 \2/' \
    "$work/hub.out")
  https_port=${ports% *}
  mqtt_port=${ports#* }
  export DSTREAM_CA_FILE=$work/hub/ca.pem
}

# The usual limit: libwebsockets has a table of as many descriptors.
start_device() { # NAME PROGRAM [VARIABLE=VALUE...] ; its process: $pid
  local name=$1 program=$2 string
  shift 2
  string=$("$base/hub/bin/dstream-hub" device add "$work/hub" "$name")
  (
    ulimit -S -n 1024
    exec env "DSTREAM_CONNECTION_STRING=$string" "$@" "$program" \
      >"$work/$name.out" 2>>"$work/log"
  ) &
  pid=$!
  await "$work/$name.out" ^ready
}

# A stream to the device on which nothing moves until say_hello or its end;
# number N is held by the descriptor 10 + N.
open_stream() { # DEVICE N
  rm -f "$work/stdin.$2" "$work/stdout.$2"
  mkfifo "$work/stdin.$2"
  DSTREAM_CONNECTION_STRING=$service_string "$base/hub/samples/echo_service" \
    "$1" echo <"$work/stdin.$2" >"$work/stdout.$2" 2>>"$work/log" &
  service_pids+=($!)
  eval "exec $((10 + $2))>\"\$work/stdin.$2\""
}

say_hello() { # N
  eval "echo hello >&$((10 + $1))"
  await "$work/stdout.$1" hello
}

end_streams() { # FIRST LAST
  local n service
  for ((n = $1; n <= $2; n++)); do
    eval "exec $((10 + n))>&-"
  done
  for service in "${service_pids[@]}"; do
    wait "$service" || fail "a stream failed"
  done
  service_pids=()
}

# ---- heap and stacks ----

report() { # PID NAME : into $work/NAME
  sleep $settle_s
  kill -USR1 "$1"
  await "$work/report" ^end
  mv "$work/report" "$work/$2"
}

measure_memory() {
  say "counting allocations, painting stacks"
  gcc -std=c11 -D_GNU_SOURCE -O1 -fno-builtin -fPIC -shared \
    -o "$work/probe.so" tests/footprint/probe.c -ldl >>"$work/log" 2>&1 ||
    fail "could not build the probe"
  start_device probed "$device" "LD_PRELOAD=$work/probe.so" \
    "FOOTPRINT_REPORT=$work/report"
  device_pid=$pid
  report "$device_pid" connected
  open_stream probed 1
  say_hello 1
  report "$device_pid" one
  open_stream probed 2
  say_hello 2
  report "$device_pid" two
  end_streams 1 2
  end "$device_pid"
  device_pid=''
}

heap() { # REPORT OWNER COLUMN : 1 allocations, 2 live, 3 at the peak
  awk -v owner="$2" -v column="$3" \
    '$1 == "heap" && $2 == owner { print $(column + 2) }' "$work/$1"
}

# Whose thread it is, by the function that it begins with.
thread_name() { # MODULE OFFSET
  local function
  case $1 in
  main) echo "the program's own, while it makes the device" && return ;;
  libpaho*) echo "Paho" && return ;;
  esac
  function=$(nm "$library" | awk -v offset="$2" '
    BEGIN { while (length(offset) < 16) offset = "0" offset }
    $1 == offset && tolower($2) == "t" { print $3 }')
  case $function in
  resolver_main) echo "name resolution" ;;
  run_loop) echo "the device's loop" ;;
  run) echo "calls into Paho" ;;
  *) fail "thread $function is not known here" ;;
  esac
}

stack_rows() {
  local word module offset used _
  while read -r word module offset used _; do
    [ "$word" = stack ] || continue
    echo "| $(thread_name "$module" "$offset") | $(commas "$used") |"
  done <"$work/two"
}

deepest() {
  awk '$1 == "stack" && $2 != "main" && $4 > most { most = $4 }
    END { print most }' "$work/two"
}

# ---- wire, processor, resident memory ----

wire() { # PID PORT : bytes out, bytes in, segments out, segments in; summed
  ss -tinpHO state established "dport = :$2" | grep "pid=$1," |
    awk '{
      for (i = 1; i <= NF; i++) {
        split($i, pair, ":")
        value[pair[1]] += pair[2]
      }
    }
    END { print value["bytes_sent"] + 0, value["bytes_received"] + 0,
                value["segs_out"] + 0, value["segs_in"] + 0 }'
}

await_connection() { # PID PORT COUNT
  local try
  for ((try = 0; try < 300; try++)); do
    [ "$(ss -tnpHO state established "dport = :$2" | grep -c "pid=$1,")" != \
      "$3" ] || return 0
    sleep 0.1
  done
  fail "no connection to port $2 within 30 s"
}

resident() { # PID : resident and anonymous KB
  awk '/^Rss:/ { rss = $2 } /^Anonymous:/ { print rss, $2 }' \
    "/proc/$1/smaps_rollup"
}

# Wake-ups of Paho's threads, of all others, and microseconds on a processor.
busy() { # PID
  local task
  for task in "/proc/$1"/task/*; do
    echo "$(<"$task/comm") $(awk '/^voluntary_ctxt/ { print $2 }' \
      "$task/status") $(cut -d' ' -f1 "$task/schedstat")"
  done | awk '{ if ($1 ~ /^MQTTAsync/) paho += $2; else other += $2
                ns += $3 }
              END { print paho + 0, other + 0, ns / 1000 }'
}

minus() { # "A B C" "D E F" : column by column
  echo "$1 $2" | awk '{
    for (i = 1; i <= NF / 2; i++)
      printf("%s%d", (i > 1 ? " " : ""), $i - $(i + NF / 2))
    print "" }'
}

per_hour() { # COUNT : of what happened within idle_s
  echo $(($1 * 3600 / idle_s))
}

# The same device with a keepalive of 3 s.
start_fast_device() {
  sed 's/\.log = on_log/.log = on_log, .mqtt_keepalive_s = 3/' \
    samples/echo_device.c >"$work/fast.c"
  ! cmp -s samples/echo_device.c "$work/fast.c" ||
    fail "no place for mqtt_keepalive_s in samples/echo_device.c"
  gcc -D_GNU_SOURCE -Iinclude "$work/fast.c" -o "$work/fast" "$library" \
    "-Wl,-rpath,${library%/*}" || fail "could not build the fast device"
  start_device fast "$work/fast"
  fast_pid=$pid
}

# One exchange of keepalive, from what the fast one sent meanwhile.
exchange() { # BEFORE AFTER
  minus "$2" "$1" | awk '{
    n = int($1 / 24) # 2 bytes of MQTT in a record of TLS 1.3
    if (n < 3 || $1 != n * 24 || $2 != $1)
      exit 1
    printf("%d %d %d %.0f %.0f\n", n, $1 / n, $2 / n, $3 / n, $4 / n) }' ||
    fail "keepalive cost other bytes than expected: $(minus "$2" "$1")"
}

measure_idle() { # sets idle, ping
  local before after fast_before
  start_fast_device
  say "being idle for $idle_s s"
  sleep $settle_s
  fast_before=$(wire "$fast_pid" "$mqtt_port")
  before=$(busy "$device_pid")
  sleep $idle_s
  after=$(busy "$device_pid")
  ping=$(exchange "$fast_before" "$(wire "$fast_pid" "$mqtt_port")")
  idle=$(minus "$after" "$before")
  end "$fast_pid"
  fast_pid=''
}

measure_stream() { # N : prints control connection, then stream connection
  local control streams
  control=$(wire "$device_pid" "$mqtt_port")
  streams=$(wire "$device_pid" "$https_port")
  open_stream plain "$1"
  await_connection "$device_pid" "$https_port" "$1"
  sleep $settle_s
  minus "$(wire "$device_pid" "$mqtt_port")" "$control" >"$work/control.$1"
  minus "$(wire "$device_pid" "$https_port")" "$streams" >"$work/stream.$1"
  say_hello "$1"
}

measure_wire() {
  say "looking at connections"
  start_device plain "$device"
  device_pid=$pid
  sleep $settle_s
  connect=$(wire "$device_pid" "$mqtt_port")
  connect_us=$(busy "$device_pid" | cut -d' ' -f3)
  memory=$(resident "$device_pid")
  threads=$(find "/proc/$device_pid/task" -mindepth 1 -maxdepth 1 | wc -l)
  measure_idle
  measure_stream 1
  memory_one=$(resident "$device_pid")
  threads_one=$(find "/proc/$device_pid/task" -mindepth 1 -maxdepth 1 | wc -l)
  measure_stream 2
  end_streams 1 2
  end "$device_pid"
  device_pid=''
}

# ---- tables ----

size_rows() {
  local arch proxy note text data bss file sample
  for arch in $architectures; do
    for proxy in ON OFF; do
      read -r text data bss file sample \
        <<<"$(size_of "$arch" "$proxy" | with_commas)"
      note=''
      [ $proxy = ON ] || note=', without the proxy'
      echo "| $arch$note | $text | $data | $bss | $file | $sample |"
    done
  done
}

size_table() {
  echo "| bytes, gcc $(gcc -dumpversion), -Os | text | data | bss |" \
    "stripped file | sample that has it linked in |"
  echo "|---|--:|--:|--:|--:|--:|"
  size_rows
}

traffic() { # "OUT IN SEGMENTS_OUT SEGMENTS_IN..."
  local out in segments_out segments_in
  read -r out in segments_out segments_in <<<"$1"
  echo "$(commas "$out") sent, $(commas "$in") received" \
    "($segments_out and $segments_in segments)"
}

on_the_wire() { # TRAFFIC TIMES : with headers of IPv4 and TCP with timestamps
  awk -v times="$2" '{ printf "%d", ($1 + $2 + 52 * ($3 + $4)) * times }' \
    <<<"$1"
}

plus() { # FILE FILE : both added
  paste -d' ' "$1" "$2" | awk '{ print $1 + $5, $2 + $6, $3 + $7, $4 + $8 }'
}

run_table() { # the short one
  local exchange=${ping#* }
  echo "| a device on x86-64, in bytes | |"
  echo "|---|--:|"
  echo "| heap peak until connected |" \
    "$(commas "$(heap connected total 3)") |"
  echo "| heap peak until connected and with one stream |" \
    "$(commas "$(heap one total 3)") |"
  echo "| of it dstream / Paho / libwebsockets / OpenSSL |" \
    "$(commas "$(heap one dstream 3)") / $(commas "$(heap one paho 3)") /" \
    "$(commas "$(heap one lws 3)") / $(commas "$(heap one openssl 3)") |"
  echo "| allocations for both: dstream / Paho / libwebsockets / OpenSSL |" \
    "$(commas "$(heap one dstream 1)") / $(commas "$(heap one paho 1)") /" \
    "$(commas "$(heap one lws 1)") / $(commas "$(heap one openssl 1)") |"
  echo "| resident, connected: with shared libraries / its own memory |" \
    "$(mb "${memory% *}") MB / $(mb "${memory#* }") MB |"
  echo "| threads beside the program's: connected / with a stream |" \
    "$((threads - 1)) / $((threads_one - 1)) |"
  echo "| deepest stack of them | $(commas "$(deepest)") |"
  echo "| TLS bytes to connect | $(traffic "$connect") |"
  echo "| TLS bytes to set up the first stream |" \
    "$(traffic "$(plus "$work/control.1" "$work/stream.1")") |"
  echo "| ... and a further one |" \
    "$(traffic "$(plus "$work/control.2" "$work/stream.2")") |"
  echo "| on the wire in an idle hour, for keepalive |" \
    "$(commas "$(on_the_wire "$exchange" $((3600 / keepalive_s)))") |"
  echo "| ... and to renew its token |" \
    "$(commas "$(on_the_wire "$connect" $renewals_hour)") |"
}

readme() {
  local sample
  sample=$(size_of x86-64 ON | cut -d' ' -f5)
  size_table
  echo
  run_table
  echo
  cat <<END
Beside what is published of Microsoft's C SDK for devices, and what was measured
of its sample of streams. The two are not counted alike:
[docs/footprint.md](docs/footprint.md) says how, and where the memory goes.

| | dstream | C SDK |
|---|--:|--:|
| sample for telemetry over MQTT, stripped | - | 167,552 |
| sample of streams, stripped | $(commas "$sample") | 349 KB |
| heap peak until connected, without OpenSSL | \
$(commas "$(heap connected control 3)") | 15,058 |
| allocations until connected, without OpenSSL | \
$(commas "$(heap connected control 1)") | 172 |
| resident, idle | $(mb "${memory% *}") MB | 7.7 MB |
| of a core, idle | $(idle_percent) % | 3.5 % |
END
}

mb() { # KB
  awk -v kb="$1" 'BEGIN { printf "%.1f", kb / 1024 }'
}

idle_percent() {
  awk -v seconds=$idle_s '{ printf "%.2f", $3 / 1e6 / seconds * 100 }' \
    <<<"$idle"
}

heap_rows() {
  local owner name report
  while read -r owner name; do
    printf '| %s |' "$name"
    for report in connected one two; do
      printf ' %s | %s |' "$(commas "$(heap $report "$owner" 1)")" \
        "$(commas "$(heap $report "$owner" 2)")"
    done
    echo " $(commas "$(heap two "$owner" 3)") |"
  done <<'END'
dstream dstream
lws libwebsockets
paho Paho
openssl OpenSSL
libc the C library
program the sample
total all
control all but OpenSSL, C library and sample
END
}

system_libraries() {
  local name file
  for name in libwebsockets.so.17 libpaho-mqtt3as.so.1 libssl.so.3 \
    libcrypto.so.3; do
    file=$(ldd "$library" | awk -v name=$name '$1 == name { print $3 }')
    echo "| $name | $(sections x86-64 "$file" | with_commas | sed 's/ / | /g') |"
  done
}

wire_rows() {
  local n
  echo "| connect: TCP, TLS, MQTT, subscriptions | $(traffic "$connect") |" \
    "$(commas "$(on_the_wire "$connect" 1)") |"
  echo "| one exchange of keepalive | $(traffic "${ping#* }") |" \
    "$(commas "$(on_the_wire "${ping#* }" 1)") |"
  for n in 1 2; do
    echo "| stream $n: request and answer | $(traffic "$(<"$work/control.$n")") |" \
      "$(commas "$(on_the_wire "$(<"$work/control.$n")" 1)") |"
    echo "| stream $n: TCP, TLS, WebSocket |" \
      "$(traffic "$(<"$work/stream.$n")") |" \
      "$(commas "$(on_the_wire "$(<"$work/stream.$n")" 1)") |"
  done
}

page() {
  local paho other _
  read -r paho other _ <<<"$idle"
  echo "Measured with OpenSSL $(openssl version | cut -d' ' -f2), \
libwebsockets $(pkg-config --modversion libwebsockets | sed 's/-$//'), \
gcc $(gcc -dumpversion)."
  printf '\n## Size\n\n'
  size_table
  printf '\nThe libraries it stands on, as the system has them for x86-64:\n\n'
  printf '| | text | data | bss |\n|---|--:|--:|--:|\n'
  system_libraries
  printf '\n## Heap\n\n| | connected: allocations | live | one stream:'
  printf ' allocations | live | two: allocations | live | at the peak |\n'
  echo '|---|--:|--:|--:|--:|--:|--:|--:|'
  heap_rows
  printf '\n## Stacks and threads\n\n| thread | bytes |\n|---|--:|\n'
  stack_rows
  printf '\n## Resident memory\n\n| | all | its own |\n|---|--:|--:|\n'
  echo "| connected | ${memory% *} KB | ${memory#* } KB |"
  echo "| with one stream | ${memory_one% *} KB | ${memory_one#* } KB |"
  printf '\n## Processor\n\n| | |\n|---|--:|\n'
  echo "| from the start until connected | $((${connect_us%.*} / 1000)) ms |"
  echo "| idle, of a core | $(idle_percent) % |"
  echo "| wake-ups in an idle hour: Paho's threads |" \
    "$(commas "$(per_hour "$paho")") |"
  echo "| wake-ups in an idle hour: all other threads |" \
    "$(commas "$(per_hour "$other")") |"
  printf '\n## On the wire\n\n| | TLS bytes | with headers |\n|---|--:|--:|\n'
  wire_rows
  printf '| an idle hour: %d exchanges | | %s |\n' $((3600 / keepalive_s)) \
    "$(commas "$(on_the_wire "${ping#* }" $((3600 / keepalive_s)))")"
  printf '| an idle hour: %s renewals of the token | | %s |\n' \
    $renewals_hour "$(commas "$(on_the_wire "$connect" $renewals_hour)")"
}

check_comments() { # FILE
  grep -q '^<!-- footprint' "$1" && grep -q '^<!-- /footprint' "$1" ||
    fail "$1 has no footprint comments"
}

# Puts a text between the comments.
insert() { # FILE TEXT
  awk -v text="$2" '
    /^<!-- \/footprint/ { inside = 0 }
    !inside
    /^<!-- footprint/ {
      inside = 1
      print ""
      while ((getline line < text) > 0)
        print line
      print ""
    }' "$1" >"$work/new"
  cat "$work/new" >"$1"
}

case ${1:-} in
'' | --setup) ;;
*)
  echo "usage: scripts/footprint.sh [--setup]" >&2
  exit 2
  ;;
esac
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d)
check_machine "${1:-}"
check_comments README.md
check_comments docs/footprint.md
mkdir -p "$base"
get_sysroot armhf
get_sysroot arm64
measure_sizes
say "building a hub"
build hub all
library=$base/x86-64-proxy-ON/lib/libdstream.so
device=$base/x86-64-proxy-ON/samples/echo_device
start_hub
service_string=$("$base/hub/bin/dstream-hub" connection-string "$work/hub")
measure_memory
measure_wire
readme >"$work/readme"
page >"$work/page"
insert README.md "$work/readme"
insert docs/footprint.md "$work/page"
say "README.md and docs/footprint.md are up to date"
