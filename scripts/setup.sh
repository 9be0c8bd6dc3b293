#!/bin/bash
# scripts/setup.sh [--tests] [--bench] [--no-build] - installs what is missing and
# builds a release: programs in build/bin, samples in build/samples.
#
#   --tests      also installs what scripts/test.sh needs
#   --bench      also installs what scripts/bench.sh needs
#   --no-build   installs only
#
# Packages come from apt (Debian 12 and its relatives), as root or with sudo;
# elsewhere it says what to install.  What is there is left alone: a second run
# installs nothing.
set -eu
cd "$(dirname "$0")/.."

# package  how to see that it is there: a command, a pkg-config module, a header
#          or shared file, or "package" to ask dpkg
build_packages='
gcc                       command gcc          # the compiler
libc6-dev                 header stdlib.h      # and its headers
cmake                     command cmake        # the build
ninja-build               command ninja        # the build
make                      command make         # the default of cmake, for who builds by hand
pkg-config                command pkg-config   # finds the libraries
libssl-dev                module openssl       # TLS
libwebsockets-dev         module libwebsockets # the event loop
libwebsockets-evlib-uv    package              # the hub runs on libuv
libuv1-dev                module libuv         # the same
zlib1g-dev                module zlib          # libwebsockets asks for it
libcap-dev                module libcap        # the same
libpaho-mqtt-dev          header MQTTAsync.h   # the control connection
libcjson-dev              module libcjson      # REST
libsqlite3-dev            module sqlite3       # the identities
libmosquitto-dev          module libmosquitto  # the link to the broker
mosquitto-dev             header mosquitto_plugin.h # the plugin of the broker
mosquitto                 command mosquitto    # the broker
ca-certificates           package              # the roots a device trusts
'
test_packages='
libcmocka-dev             module cmocka        # unit tests
g++                       command g++          # headers as C++
clang                     command clang        # the second compiler
clang-format              command clang-format # lint
clang-tidy                command clang-tidy   # analysis
cppcheck                  command cppcheck     # the same
libclang-rt-14-dev        package              # sanitizers, libFuzzer
llvm                      command llvm-symbolizer # readable sanitizer reports
pmccabe                   command pmccabe      # lint
binutils                  command nm           # lint: exported symbols
groff-base                command groff        # the manual page
shellcheck                command shellcheck   # lint
git                       command git          # what belongs to the tree
openssl                   command openssl      # certificates of the tests
curl                      command curl         # REST as others call it
mosquitto-clients         command mosquitto_pub # MQTT as others speak it
openssh-client            command ssh          # a program over streams, a yardstick
openssh-server            command sshd         # the same
tinyproxy-bin             command tinyproxy    # the HTTP CONNECT proxy
rsync                     command rsync        # a program over streams
nginx-light               command nginx        # the same: a web server
iperf3                    command iperf3       # the same
chromium                  command chromium     # the same: a browser
netcat-openbsd            package              # the same: nc -N
systemd                   command systemd-analyze # what the units let through
build-essential           package              # Debian packages
debhelper                 command dh           # the same
lintian                   command lintian      # the same
bash-completion           package              # completion as it is installed
dpkg-dev                  command dpkg-source  # the source of cJSON
musl-tools                command musl-gcc     # headers of another C library
mandoc                    command mandoc       # lint of manual pages
gcc-arm-linux-gnueabihf   command arm-linux-gnueabihf-gcc # the toolchain files
gcc-aarch64-linux-gnu     command aarch64-linux-gnu-gcc # the same
libc6-dev-armhf-cross     package              # the same: C libraries
libc6-dev-arm64-cross     package              # the same
iproute2                  command ip           # addresses of the tests
procps                    command ps           # processes left behind
valgrind                  command valgrind     # instructions that are counted
jq                        command jq           # the activity log, as docs/monitoring.md reads it
nodejs                    command node         # the official device SDK
npm                       command npm          # the same
'
bench_packages='
libcmocka-dev             module cmocka        # the build of the tests
haproxy                   command haproxy      # what is measured beside ours
nginx-light               command nginx        # the same
libnginx-mod-stream       package              # the same
stunnel4                  command stunnel      # the same
openssh-client            command ssh          # the same
openssh-server            command sshd         # the same
gnuplot-nox               command gnuplot      # the plot
procps                    command ps           # processes left behind
valgrind                  command valgrind     # instructions that are counted
'

tests=no
bench=no
build=yes
for argument; do
  case $argument in
  --tests) tests=yes ;;
  --bench) bench=yes ;;
  --no-build) build=no ;;
  *)
    echo "usage: scripts/setup.sh [--tests] [--bench] [--no-build]" >&2
    exit 2
    ;;
  esac
done

say() {
  echo "setup: $*"
}

fail() {
  echo "setup: $*" >&2
  exit 1
}

# Daemons live in sbin, which is not in everybody's path.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

installed() { # PACKAGE KIND NAME
  case $2 in
  command) command -v "$3" >/dev/null ;;
  module) pkg-config --exists "$3" 2>/dev/null ;;
  header)
    printf '#include <%s>\n' "$3" | gcc -E -x c - >/dev/null 2>&1
    ;;
  package)
    ! command -v dpkg-query >/dev/null ||
      [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
    ;;
  esac
}

missing() { # reads the tables
  local package kind name
  while read -r package kind name; do
    [ -n "$package" ] || continue
    # shellcheck disable=SC2086
    installed "$package" $kind ${name%%#*} || printf '%s ' "$package"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env "$@"
  else
    sudo env "$@"
  fi
}

apt() {
  # RUNLEVEL=1 has invoke-rc.d start no daemon where there is no systemd.
  as_root DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}

new_services() { # PACKAGE... : the daemons that come with them
  local package
  for package; do
    case $package in
    mosquitto) echo mosquitto ;;
    openssh-server) echo ssh ;;
    nginx-light) echo nginx ;;
    haproxy) echo haproxy ;;
    stunnel4) echo stunnel4 ;;
    esac
  done
}

install_packages() { # PACKAGE...
  local log status=0 masked='' service
  log=$(mktemp)
  # Nobody asked for a broker or an SSH daemon of the machine's own: masked
  # while apt runs, they are not started.  One that was there is not touched.
  if [ -d /run/systemd/system ]; then
    masked=$(new_services "$@")
    for service in $masked; do
      as_root systemctl -q mask --runtime "$service.service"
    done
  fi
  {
    apt --no-install-recommends install "$@" ||
      { apt update && apt --no-install-recommends install "$@"; }
  } >"$log" 2>&1 || status=$?
  for service in $masked; do
    as_root systemctl -q unmask --runtime "$service.service"
    as_root systemctl -q disable "$service.service" || :
    say "the system service $service stays off;" \
      "systemctl enable --now $service turns it on"
  done
  [ $status = 0 ] || tail -20 "$log" >&2
  rm -f "$log"
  [ $status = 0 ] || fail "apt-get could not install: $*"
}

install_missing() {
  local wanted=$build_packages list
  [ $tests = no ] || wanted=$wanted$test_packages
  [ $bench = no ] || wanted=$wanted$bench_packages
  list=$(missing <<<"$wanted")
  [ -n "$list" ] || return 0
  command -v apt-get >/dev/null ||
    fail "this is no Debian; install what these packages hold: $list"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    fail "needs root or sudo to install: $list"
  fi
  say "installing $list"
  # shellcheck disable=SC2086
  install_packages $list
  list=$(missing <<<"$wanted")
  [ -z "$list" ] || fail "installed, but still not to be found: $list"
}

build_release() {
  local launcher=() generator=()
  if [ ! -f build/CMakeCache.txt ]; then
    ! command -v ninja >/dev/null || generator=(-G Ninja)
    ! command -v ccache >/dev/null ||
      launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
  fi
  say "building into build/"
  mkdir -p build
  if ! {
    cmake -S . -B build "${generator[@]}" "${launcher[@]}" &&
      cmake --build build --parallel "$(nproc)"
  } >build/setup.log 2>&1; then
    tail -40 build/setup.log >&2
    fail "the build failed; all it said is in build/setup.log"
  fi
}

install_missing
[ $build = no ] || build_release
say "done"
